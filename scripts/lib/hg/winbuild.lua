--- The flow of all tasks that build on Windows: one machine, a list of artifacts.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"
local winimage = require "hg.winimage"

local M = {}

--- Arguments of all tasks that launch Windows machines.
-- @param[opt] o table max_age= default, image=false for a task that makes images
-- @return table[]
function M.machine_args(o)
  o = o or {}
  local image = o.image ~= false and { arg.string { name = "image", default = "auto",
    metavar = "auto|dev|base|AMI",
    help = "prepared image (made if there is none), the bare one, or an image of yours" } } or {}
  return tasks.join(image, {
    arg.enum { name = "os", "2019", "2022", "2025", default = "2022",
      help = "release of Windows Server" },
  }, tasks.base_args "base-image-name", tasks.launch_args { instance_type = "m6i.large",
    max_age = o.max_age or "4h" })
end

--- Arguments of the tasks that build, besides which artifacts they make.
-- @return table[]
function M.args()
  return tasks.join({
    arg.path { name = "dist-path", default = "dist", metavar = "DIR", help = "where artifacts go" },
  }, M.machine_args())
end

--- A machine for a task, of the image that its arguments ask for.
-- @param ctx table
-- @param args table with those of machine_args
-- @param source table from hg.mercurial.resolve
-- @param[opt] label string
-- @return table machine
-- @waits
function M.machine(ctx, args, source, label)
  local image = ctx:step("image", { resume = false }, winimage.choose,
    require("hgauto.aws").client "ec2", args.os, source, {
      image = args.image, base_image = args.base_image_name, owners = args.allow_owner,
      allow_cidr = args.allow_cidr, subnet = args.subnet,
    })
  return ctx:step("machine", hg.machines.windows, {
    os = "windows" .. args.os, image = image, label = label or "windows" .. args.os,
    instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
    subnet = args.subnet,
  })
end

--- Which CPU architectures.
-- @param default string[]
-- @param[opt] greedy boolean also takes the words that follow: for tasks without
--   positional words
-- @return table argument
function M.arch_arg(default, greedy)
  return arg.enum { name = "arch", "x86", "x64", multiple = true, greedy = greedy,
    default = default, help = "CPU architecture" }
end

--- The installers' version.
function M.version_arg()
  return arg.string { name = "version", metavar = "VERSION",
    help = "version of installers [default: the revision's tag, or made of the last one]" }
end

--- What the tasks ask of AWS.
M.needs = hg.policy.needs.windows

--- The list of artifacts of kinds, Pythons and architectures.
-- @param kinds string[] "wheel", "inno", "wix"
-- @param pythons string[]
-- @param archs string[]
-- @return table[] {kind, arch, python}
-- @raise usage a Python version that is none
function M.plan(kinds, pythons, archs)
  local list = {}
  for _, kind in ipairs(kinds) do
    for _, python in ipairs(kind == "wheel" and pythons or { false }) do
      if python and not python:match("^3%.%d+$") then
        hg.fail { kind = "usage", message = ("Python %s: a version like 3.13"):format(python) }
      end
      for _, arch in ipairs(archs) do
        list[#list + 1] = { kind = kind, arch = arch, python = python or nil }
      end
    end
  end
  return list
end

-- MSI knows numbers only: A.B.C and the distance.
local function numbers(tag, distance)
  local list = {}
  for n in (tag:match "^[%d.]+"):gmatch "%d+" do
    list[#list + 1] = n
  end
  return table.concat({ list[1], list[2] or "0", list[3] or "0", tostring(distance) }, ".")
end

--- The version of an installer: the revision's tag, or one made of the last tag and
--- the distance to it.
-- @param kind string "inno" or "wix"
-- @param source table from hg.mercurial.resolve
-- @return string|nil nil: no release tag is near
function M.installer_version(kind, source)
  if source.tag or not source.latest_tag then
    return source.tag
  elseif kind == "wix" then
    return numbers(source.latest_tag, source.distance)
  end
  return ("%s+hg%d.%s"):format(source.latest_tag, source.distance, source.node:sub(1, 12))
end

-- A task that builds wheels only takes no version.
local function prepare_version(list, source, args)
  for _, o in ipairs(list) do
    if o.kind ~= "wheel" then
      o.version = args.version or M.installer_version(o.kind, source)
      if not o.version then
        hg.fail { kind = "usage", message = "--version is needed: neither the revision nor one"
          .. " before it has a release tag" }
      elseif not o.version:match("^%d[%w.+]*$") then
        hg.fail { kind = "usage", message = ("--version %s: not a version"):format(o.version) }
      end
    end
    o.epoch = source.date:match("^%d+")
  end
end

local function fetch(ctx, args, m, source, built)
  for _, a in ipairs(built) do
    local file = hg.artifacts.fetch(m, a.path, args.dist_path)
    ctx:artifact(file.path, { sha256 = file.sha256 })
    ctx:log("%s  %s%s", file.sha256, file.name, m.simulated and "  (simulated)" or "")
    hg.artifacts.record(args.dist_path, { hg.artifacts.entry(file, {
      kind = a.kind, version = a.version, node = source.node, branch = source.branch,
      revision = args.revision, os = "windows", distro = m.distro, arch = a.arch,
      python = a.python, image = m.image, base_image = m.base_image, run = ctx.run,
      simulated = m.simulated,
    }) })
  end
end

--- Builds the list on one temporary machine and brings it home.
-- @param ctx table
-- @param args table parsed arguments
-- @param list table[] from plan
-- @return table {node, version, artifacts, simulated}
-- @waits
function M.run(ctx, args, list)
  hg.artifacts.prepare(args.dist_path)
  local source = ctx:step("source", hg.mercurial.resolve, {
    source = args.source, revision = args.revision, dirty = args.dirty, hg = args.hg,
    version_hint = args.version_hint,
  })
  prepare_version(list, source, args)
  local m <close> = M.machine(ctx, args, source)
  ctx:step("prepare", hg.windows.prepare, m)
  ctx:step("sync", hg.mercurial.sync, m, source)
  local built = {}
  for _, o in ipairs(list) do
    local name = o.python and ("%s-%s-%s"):format(o.kind, o.python, o.arch)
      or ("%s-%s"):format(o.kind, o.arch)
    built[#built + 1] = ctx:step(name, hg.windows.build, m, o)
  end
  ctx:step("fetch", { resume = false }, fetch, ctx, args, m, source, built)
  ctx:step("terminate", m.close, m)
  if m.simulated then
    hg.output.warn("the machine was simulated: these artifacts are no builds of Mercurial")
  end
  return { node = source.node, version = built[1] and built[1].version, artifacts = ctx.artifacts,
    simulated = m.simulated }
end

--- A task of one kind of installer, as the predecessor had them.
-- @param kind string "inno" or "wix"
-- @param name string what users call it
-- @param command string the task's name
-- @return table task
function M.installer_task(kind, name, command)
  return M.task {
    help = ("Build Mercurial's %s on a Windows machine."):format(name),
    args = {
      M.arch_arg({ "x64" }, true), M.version_arg(),
      arg.enum { name = "python-version", "3", hidden = true, help = "accepted, without meaning" },
    },
    example = ("hgauto %s --arch x86 x64 --version 7.0.1"):format(command),
    plan = function(args)
      return M.plan({ kind }, {}, args.arch)
    end,
  }
end

--- A task of that flow.
-- @param o table help= args= plan=function(args) -> list
-- @return table task
function M.task(o)
  return hg.task {
    help = o.help, args = tasks.join(o.args, M.args(), tasks.source_args()), needs = M.needs,
    example = o.example,
    run = function(ctx, args)
      return M.run(ctx, args, o.plan(args))
    end,
  }
end

return M
