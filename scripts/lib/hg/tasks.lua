--- Argument lists that several tasks share.
local hg = require "hg"
local arg = hg.arg

local M = {}

--- Arguments of tasks that need Mercurial's source.
-- @return table[]
function M.source_args()
  return {
    arg.string { name = "source", metavar = "SOURCE", env = "HGAUTO_SOURCE",
      help = "checkout, directory, tarball or apt[:SUITE]" },
    arg.revision { name = "revision", short = "r", default = ".", help = "revision to build" },
    arg.flag { name = "dirty", help = "carry uncommitted changes along" },
    arg.string { name = "hg", metavar = "PATH", env = "HGAUTO_HG", default = "hg",
      help = "local Mercurial" },
    arg.string { name = "version-hint", metavar = "VERSION",
      help = "version of a source that does not tell its own" },
  }
end

--- Arguments of every task that starts machines: their size, age and place.
-- @param o table instance_type= max_age= defaults
-- @return table[]
function M.launch_args(o)
  return {
    arg.instance_type { name = "instance-type", default = o.instance_type,
      help = "EC2 instance type" },
    arg.duration { name = "max-age", default = o.max_age,
      help = "the machine ends itself after this" },
    arg.string { name = "allow-cidr", metavar = "CIDR", multiple = true,
      help = "who may log in [default: this machine's address]" },
    arg.string { name = "subnet", metavar = "ID", help = "subnet [default: the default VPC's]" },
  }
end

--- Arguments that choose another base image.
-- @param name string of the option
-- @return table[]
function M.base_args(name)
  return {
    arg.string { name = name, metavar = "PATTERN|AMI|ssm:PATH",
      help = "another base image, by name, id or public parameter (ssm: the publisher's)" },
    arg.string { name = "allow-owner", metavar = "ID", multiple = true,
      help = "account whose images are taken, besides the publisher's" },
  }
end

--- Arguments of tasks that launch machines.
-- @param[opt] o table instance_type= max_age= image= defaults
-- @return table[]
function M.machine_args(o)
  o = o or {}
  return M.join({
    arg.string { name = "image", default = o.image or "auto", metavar = "auto|dev|base|AMI",
      help = "prepared image if there is one, always, never, or an image of yours" },
  }, M.base_args "base-image", M.launch_args {
    instance_type = o.instance_type or "t3.large", max_age = o.max_age or "2h",
  })
end

--- Arguments of the tasks that run Mercurial's test suite; see hg.testrun.
-- @return table[]
function M.test_args()
  return {
    arg.integer { name = "shards", default = 1, min = 1, max = 32,
      help = "machines to share the tests" },
    arg.integer { name = "jobs", min = 1, max = 512, help = "parallel tests [default: all CPUs]" },
    arg.path { name = "wheel", must = "file", metavar = "FILE",
      help = "test this wheel, build none" },
    arg.flag { name = "retest", help = "run failed tests a second time; passing then is flaky" },
    arg.path { name = "results-path", default = "results", metavar = "DIR",
      help = "where results go" },
  }
end

--- Lists joined into one.
-- @param ... table[]
-- @return table[]
function M.join(...)
  return require("hg.cli.options").join(...)
end

return M
