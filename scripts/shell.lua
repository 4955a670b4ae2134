--- An interactive session on a temporary machine with Mercurial's source.
local hg = require "hg"
local arg = hg.arg
local tasks = require "hg.tasks"
local winbuild = require "hg.winbuild"

-- A machine and how to talk to it.
local function linux(ctx, args)
  local volume = hg.facts.mkfs[args.filesystem] and hg.facts.test_volume or nil
  local m = ctx:step("machine", hg.machines.linux, {
    distro = args.distro, image = args.image, base_image = args.base_image,
    instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
    subnet = args.subnet, allow_owner = args.allow_owner, label = args.distro, volume = volume,
  })
  ctx:step("bootstrap", hg.linux.bootstrap, m,
    { packages = hg.facts.packages.build, optional = hg.facts.packages.test })
  ctx:step("fs", hg.linux.work_fs, m, args.filesystem)
  return m, function()
    return require("hg.cli.remote").interactive(m.ssh)
  end
end

local function windows(ctx, args, source)
  local m = winbuild.machine(ctx, {
    os = args.os, image = args.image, base_image_name = args.base_image,
    instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
    subnet = args.subnet, allow_owner = args.allow_owner,
  }, source)
  ctx:step("prepare", hg.windows.prepare, m)
  return m, function()
    return require("hg.cli.winremote").interactive(m)
  end
end

return hg.task {
  help = "Log in to a temporary machine with Mercurial's source on it.",
  description = "The machine ends with the session unless --keep is given.",
  args = tasks.join({
    arg.string { name = "distro", default = "debian13", help = "image of the machine" },
    arg.enum { name = "os", "2019", "2022", "2025",
      help = "a Windows machine of this release: lines of PowerShell" },
    arg.enum { name = "filesystem", default = "default", help = "what /hgwork is on",
      table.unpack(hg.facts.filesystems) },
    arg.flag { name = "sync", default = true, help = "send the source" },
    arg.flag { name = "keep", help = "leave the machine running until its max-age" },
  }, tasks.source_args(), tasks.machine_args()),
  needs = hg.policy.needs.linux,
  example = "hgauto run --local shell --source .",

  run = function(ctx, args)
    local term = require "hgauto.term"
    if not (term.isatty(0) and term.isatty(1)) then
      hg.fail { kind = "usage", message = "shell: needs a terminal",
        hint = "hgauto exec ID -- COMMAND" }
    end
    if not args.os then
      hg.images.check_linux { args.distro }
    elseif args.filesystem ~= "default" then
      hg.fail { kind = "usage", message = "--filesystem is for Linux machines" }
    end
    -- A prepared Windows is of a revision, too.
    local needed = args.sync or args.os and args.image ~= "base"
    local source = needed and ctx:step("source", hg.mercurial.resolve, {
      source = args.source, revision = args.revision, dirty = args.dirty, hg = args.hg,
      version_hint = args.version_hint,
    })
    local m <close>, talk = (args.os and windows or linux)(ctx, args, source)
    if args.sync then
      ctx:step("sync", hg.mercurial.sync, m, source)
    end
    if args.keep then
      m:keep()
    end
    ctx:log("%s is yours; %s", m.id, args.keep and "it stays" or "it ends with this session")
    if ctx.plan then
      hg.plan.stop "the session"
    end
    local code = talk()
    if not args.keep then
      ctx:step("terminate", m.close, m)
    end
    return { code = code }
  end,
}
