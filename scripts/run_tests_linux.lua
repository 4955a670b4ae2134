--- Runs Mercurial's test suite on temporary Linux machines.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"

return hg.task {
  help = "Run Mercurial's test suite on temporary Linux machines.",
  description = "Words after -- and test flags go to run-tests.py. Results land below"
    .. " --results-path.",
  aliases = { "test-linux" },
  args = tasks.join({
    arg.string { name = "test_flags", positional = true, multiple = true, metavar = "test-flags",
      help = "tests and flags for run-tests.py" },
    arg.string { name = "distro", default = "debian13", help = "image of the machines" },
    arg.enum { name = "filesystem", default = "default", help = "where tests run",
      table.unpack(hg.facts.filesystems) },
    arg.string { name = "python-version", default = "system3",
      help = "system3, or X.Y for pythonX.Y of the image" },
  }, tasks.test_args(), tasks.source_args(), tasks.machine_args {
    instance_type = "c5.9xlarge", max_age = "4h", image = "dev",
  }),
  needs = hg.policy.needs.linux,
  example = "hgauto run-tests-linux --filesystem ext4 --shards 4 -- --slow",
  run = function(ctx, args)
    return require("hg.testrun").run(ctx, args)
  end,
}
