-- hgauto.ssh: full disks and files that may not grow, on each side: a clear error, no truncated
-- file under its final name, no part left, what was there before is intact.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")
local small = dir .. "/small"
local LOCAL = { kind = "io", code = "NoSpace" }
local REMOTE = { kind = "remote", code = "NoSpace" }

if not proc.run({ "unshare", "-m", "true" }, { check = false }).ok then
  t.skip("needs unshare")
end
fs.mkdir(small)
local mount = { "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small }
if not proc.run(mount, { check = false }).ok then
  t.skip("cannot mount a tmpfs")
end
local function unmount()
  proc.run({ "umount", "-l", small }, { check = false })
end
local _u <close> = async.defer(unmount)

fs.write(dir .. "/large", ("x"):rep(20000000))
fs.mkdir(dir .. "/tree/sub", { parents = true })
for i = 1, 200 do
  fs.write(("%s/tree/sub/%03d"):format(dir, i), ("y"):rep(100000))
end
-- Started now, it sees the small disk, too.
local d = sshd.start(dir)
local s <close> = ssh.connect("127.0.0.1", d:args())

--- fn fails like want; then there is the old target and no part of another.
local function full(name, want, fn)
  fs.write(small .. "/target", "old")
  fs.write(small .. "/other", "other")
  local e = t.raises(fn, want, name)
  t.is({ fs.list(small), fs.read(small .. "/target"), fs.read(small .. "/other") },
    { { "other", "target" }, "old", "other" }, name .. ": no part, the old file is intact")
  t.like(tostring(e), "target", name .. ": names the file: " .. tostring(e))
  t.is(s:exec("echo on").out, "on\n", name .. ": the session goes on")
end

--- A tree: what is there under its name is whole.
local function whole(name, n)
  local files = 0
  proc.run({ "find", small, "-name", "*.part" }).out:gsub("[^\n]+", function(part)
    t.ok(false, name .. ": a part is left: " .. part)
  end)
  for _, file in ipairs(fs.list(small .. "/t/sub")) do
    files = files + 1
    local size = fs.stat(small .. "/t/sub/" .. file).size
    if size ~= 100000 then
      t.ok(false, ("%s: %s has %d bytes"):format(name, file, size))
    end
  end
  t.ok(files > 10 and files < n, ("%s: %d whole files"):format(name, files))
  fs.remove(small .. "/t", { tree = true })
end

t.test("the local disk", function()
  for _, n in ipairs { 1, 2, 4 } do
    full(("get, %d at once"):format(n), LOCAL, function()
      s:get(dir .. "/large", small .. "/target", { parallel = n })
    end)
  end
  full("get with its sum", LOCAL, function()
    s:get(dir .. "/large", small .. "/target", { verify = "sha256" })
  end)
  t.raises(function() s:get(dir .. "/tree", small .. "/t") end, LOCAL, "get of a tree")
  whole("get of a tree", 200)
  local e = t.raises(function()
    s:exec({ "cat", dir .. "/large" }, { sink = { out = small .. "/out" }, timeout = 30 })
  end, { kind = "io" }, "the output of a command")
  t.like(tostring(e), "small/out", "names the file: " .. tostring(e))
  fs.remove(small .. "/out")
end)

t.test("the remote disk", function()
  for _, n in ipairs { 1, 4 } do
    full(("put, %d at once"):format(n), REMOTE, function()
      s:put(dir .. "/large", small .. "/target", { parallel = n })
    end)
  end
  full("write", REMOTE, function() s:write(small .. "/target", ("z"):rep(20000000)) end)
  t.raises(function() s:put(dir .. "/tree", small .. "/t") end, REMOTE, "put of a tree")
  whole("put of a tree", 200)
end)

t.test("files that may not grow", function()
  if not proc.which("prlimit") then
    t.skip("needs prlimit (util-linux)")
  end
  fs.write(dir .. "/config", ([[Host box
 HostName 127.0.0.1
 Port %d
 User root
 IdentityFile %s/id_ed25519
 UserKnownHostsFile %s/known
]]):format(d.port, dir, dir), { mode = 384 })
  fs.write(dir .. "/known", ("[127.0.0.1]:%d %s\n"):format(d.port, d:args().host_key))
  fs.write(dir .. "/limited", "old")
  local r = proc.run({ "prlimit", "--fsize=3000000",
    host.getenv("HGAUTO") or fs.readlink("/proc/self/exe"), "cp", "--ssh-config", dir .. "/config",
    "box:" .. dir .. "/large", dir .. "/limited" },
    { check = false, env = { HGAUTO_STATE = dir .. "/state" } })
  t.is(r.signal, nil, "no end by a signal")
  t.is(r.code, 1, "an error: " .. r.err)
  t.like(r.err, "limited", "names the file")
  t.is(fs.read(dir .. "/limited"), "old", "the old file is intact")
  for _, name in ipairs(fs.list(dir)) do
    t.ok(not name:find("%.part$"), name .. " is no part")
  end
end)

s:close()
d:stop()
unmount()
return t.done()
