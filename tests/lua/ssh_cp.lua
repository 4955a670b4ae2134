-- hgauto cp: files and directories to and from a host of an OpenSSH configuration.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local program = host.getenv("HGAUTO") or fs.readlink("/proc/self/exe")
fs.write(dir .. "/known", ("[127.0.0.1]:%d %s\n"):format(d.port, d:args().host_key))
fs.write(dir .. "/config", ([[Host box 127.0.0.1 ::1
 HostName 127.0.0.1
 Port %d
 User root
 IdentityFile %s/id_ed25519
 UserKnownHostsFile %s/known
]]):format(d.port, dir, dir), { mode = 384 })

local function cp(...)
  return proc.run({ "sh", "-c", 'umask 027; exec "$@"', "sh", program, "cp",
    "--ssh-config", dir .. "/config", ... },
    { check = false, env = { HGAUTO_STATE = dir .. "/state" } })
end

fs.mkdir(dir .. "/from/a", { parents = true })
fs.write(dir .. "/from/a/f", "text")
t.is(cp(dir .. "/from", "box:" .. dir .. "/there").code, 0, "a directory there")
t.is(fs.read(dir .. "/there/a/f"), "text", "content")
t.is(cp("box:" .. dir .. "/there/a/f", dir .. "/back", "--verify").code, 0, "a file back")
t.is(fs.read(dir .. "/back"), "text", "content")
proc.run({ "chmod", "-R", "0755", dir .. "/there" })
t.is(cp("box:" .. dir .. "/there/a/f", dir .. "/mode").code
  + cp("box:" .. dir .. "/there", dir .. "/modes").code, 0, "with a umask")
for _, name in ipairs { "/mode", "/modes", "/modes/a", "/modes/a/f" } do
  t.is(fs.stat(dir .. name).mode, 488, name .. " has what the umask leaves")
end
for _, name in ipairs { "root@[127.0.0.1]:%d", "[127.0.0.1]:%d", "root@[127.0.0.1]", "[::1]",
  "root@[::1]:%d", "root@127.0.0.1" } do
  name = name:format(d.port)
  t.is(cp(name .. ":" .. dir .. "/there/a/f", dir .. "/back").err:match("1 file"), "1 file", name)
end
t.is(cp("box:/no/such", dir .. "/x").code, 1, "a missing file")
local r = cp(dir .. "/from", dir .. "/x")
t.is(r.code, 2, "no host")
t.like(r.err, "must be HOST:PATH", "is told")
d:stop()
return t.done()
