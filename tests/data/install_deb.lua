-- A task: installs a Debian package of Mercurial on a fresh machine and uses it.
local hg = require "hg"
local arg = hg.arg

local function apt(m, ...)
  return m:exec({ "apt-get", "-q", "-y", ... }, { sudo = true, timeout = 600,
    env = { DEBIAN_FRONTEND = "noninteractive" } })
end

return hg.task {
  help = "Install a Debian package of Mercurial on a machine and use it.",
  args = { arg.path { name = "deb", positional = true, required = true, must = "file",
    help = "the package" } },
  run = function(ctx, args)
    local m <close> = ctx:step("machine", hg.machines.linux, { image = "base",
      allow_cidr = { "127.0.0.1/32" }, label = "second" })
    local there = "/tmp/" .. args.deb:match("[^/]+$")
    m:put(args.deb, there)
    -- The image has Debian's own Mercurial, which is what machines build with.
    apt(m, "remove", "mercurial", "mercurial-common")
    if m:exec({ "which", "hg" }, { check = false }).ok then
      hg.fail { kind = "task", message = "there is still an hg" }
    end
    ctx:step("install", apt, m, "install", "--no-install-recommends", there)
    local owner = m:exec({ "dpkg", "-S", "/usr/bin/hg" }).out:match("^[^:]+")
    m:exec { "hg", "init", "/tmp/r" }
    m:write("/tmp/r/file", "text\n")
    m:exec({ "hg", "commit", "-q", "-A", "-m", "first", "-u", "test" }, { cwd = "/tmp/r" })
    local log = m:exec({ "hg", "log", "-T", "{desc} {files}" }, { cwd = "/tmp/r" }).out
    local version = m:exec({ "hg", "version", "-q" }).out:match("[^\n]+")
    hg.output.result(("%s; of %s; %s"):format(version, owner, log))
    ctx:step("terminate", m.close, m)
  end,
}
