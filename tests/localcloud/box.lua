-- Local instances through hgauto.box: start, commands, rules, ends, errors; and
-- a login by OpenSSH's client where a base image is built.  Needs root.
local async = require "hgauto.async"
local box = require "hgauto.box"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local probe = box.probe()
if probe.tier ~= "full" then
  local why = "no tier for local instances"
  for _, line in ipairs(probe.lines) do
    if not line.ok then
      why = line.name .. ": " .. (line.text or "failed")
    end
  end
  t.skip(why)
end
if not fs.exists("/bin/busybox") then
  t.skip("no /bin/busybox (apt install busybox-static)")
end

local top = t.tmpdir()
local images = top .. "/images"
local count = 0

local TOOLS = { "sh", "cat", "id", "sleep", "hostname", "env", "touch", "ls", "kill", "grep" }

local function make_layer()
  local root = images .. "/tiny"
  for _, d in ipairs { "", "/bin", "/etc", "/usr", "/usr/sbin" } do
    fs.mkdir(root .. d, { parents = true })
    fs.chmod(root .. d, 493)
  end
  fs.copy("/bin/busybox", root .. "/bin/busybox")
  fs.chmod(root .. "/bin/busybox", 493)
  for _, name in ipairs(TOOLS) do
    fs.symlink("busybox", root .. "/bin/" .. name)
  end
  fs.write(root .. "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", { mode = 420 })
  fs.write(root .. "/etc/group", "root:x:0:\n", { mode = 420 })
end

local function options(more)
  count = count + 1
  local o = { name = "i-" .. count, dir = top .. "/instances/i-" .. count, layers = { "tiny" },
    net = "none", private_ip = "172.31.0.9" }
  for k, v in pairs(more or {}) do
    o[k] = v
  end
  fs.mkdir(o.dir, { parents = true })
  return o
end

make_layer()

t.test("an instance runs commands", function()
  local b <close> = box.start(options { hostname = "ip-172-31-0-9" })
  local r = b:exec { shell = "hostname; id -u; echo oops >&2; exit 3" }
  t.is(r.out, "ip-172-31-0-9\n0\n", "output")
  t.is(r.err, "oops\n", "error output")
  t.is(r.code, 3, "exit code")
  t.is(b:exec({ argv = { "cat" }, stdin = "in" }).out, "in", "standard input")
  t.is(b:exec({ argv = { "env" }, env = { A = "1", B = 2 } }).out:match("A=1\n"), "A=1\n", "env")
  t.is(b:exec({ shell = "pwd", cwd = "/etc" }).out, "/etc\n", "working directory")
  t.is(b:exec({ shell = "kill -15 $$" }).signal, 15, "signal")
  t.is(b:exec({ argv = { "/no/such" } }).code, 127, "a missing program")
  local seen = {}
  b:exec { shell = "echo a; echo b >&2", on_output = function(stream, text)
    async.sleep(0)
    seen[stream] = (seen[stream] or "") .. text
  end }
  t.is(seen, { out = "a\n", err = "b\n" }, "output as it comes, to a function that waits")
  local cut = b:exec { shell = "i=0; while [ $i -lt 2000 ]; do echo 0123456789; i=$((i+1)); done",
    max_output = 1000 }
  t.is(#cut.out, 1000, "bounded output")
  t.is(cut.truncated, true, "says that it is cut")
  local e = t.raises(function()
    b:exec { shell = "echo before; sleep 100", timeout = 0.5 }
  end, { kind = "timeout" }, "a command that takes too long")
  t.is(e.result.out, "before\n", "its output so far")
  t.raises(function()
    b:exec { shell = "id", user = "nobody" }
  end, { kind = "notfound" }, "an unknown user")
  t.raises(function()
    b:exec { shell = "id", tiemout = 3 }
  end, { kind = "usage", match = "timeout" }, "a misspelt option")
  t.is(b:info().state, "up", "state")
end)

t.test("files, users and state survive a restart on the same directory", function()
  local o = options { users = { { name = "admin", shell = "/bin/sh", groups = { "root" } } },
    files = { { path = "/home/admin/x", owner = "admin", mode = 384, data = "secret" } } }
  do
    local b <close> = box.start(o)
    t.is(b:exec({ shell = "id -un; cat ~/x; touch ~/made", user = "admin" }).out,
      "admin\nsecret", "file and user")
    t.is(b:poweroff().reason, "off", "power off")
    t.raises(function()
      b:exec { shell = "id" }
    end, { kind = "io", code = "Gone" }, "no command after the end")
  end
  local b <close> = box.start(o)
  t.is(b:exec({ shell = "ls ~admin" }).out, "made\nx\n", "what was written is there")
end)

t.test("all ways to end are told apart", function()
  for _, way in ipairs { { "/usr/sbin/poweroff", "off" },
    { "/usr/sbin/reboot", "reboot" },
    { "shutdown -P now", "off" }, { "shutdown -r now", "reboot" },
    { "busybox poweroff -f", "off" } } do
    local b <close> = box.start(options())
    pcall(b.exec, b, { shell = way[1] })
    t.is(b:wait({ timeout = 10 }).reason, way[2], way[1])
  end
  local b <close> = box.start(options())
  t.is(b:reboot().reason, "reboot", "reboot from outside")
  local c <close> = box.start(options())
  t.is(c:kill().reason, "killed", "kill")
  t.is(c:info().reason, "killed", "info says so")
  local d <close> = box.start(options())
  t.raises(function()
    d:wait { timeout = 0.2 }
  end, { kind = "timeout" }, "waiting with a limit")
end)

t.test("a planned shutdown can be cancelled and comes in time", function()
  local b <close> = box.start(options())
  b:exec { shell = "echo 'P 1' >/run/hgauto/initctl; shutdown -c" }
  async.sleep(1.3)
  t.is(b:info().state, "up", "cancelled")
  b:exec { shell = "echo 'P 1' >/run/hgauto/initctl" }
  t.is(b:wait({ timeout = 10 }).reason, "off", "after a second")
end)

t.test("the end of a scope ends its instances", function()
  local kept
  async.scope(function()
    kept = box.start(options())
  end)
  t.raises(function()
    kept:info()
  end, { code = "Gone" }, "closed")
  local ok = pcall(async.timeout, 0.3, function()
    local b <close> = box.start(options())
    b:exec { shell = "sleep 100" }
  end)
  t.ok(not ok, "a deadline ends a command")
end)

-- Files behind the host's loop devices.
local function loops()
  local out = {}
  for _, name in ipairs(fs.list "/sys/block") do
    local path = ("/sys/block/%s/loop/backing_file"):format(name)
    local ok, text = pcall(fs.read, path)
    if ok and text:find(top, 1, true) then
      out[#out + 1] = text:match("[^/\n]+\n$")
    end
  end
  return table.concat(out)
end

local function volume(name)
  local path = top .. "/" .. name
  proc.run { "truncate", "-s", "8M", path }
  return path
end

t.test("files are block devices inside, from the start and later", function()
  local first, second = volume "first.img", volume "second.img"
  local b <close> = box.start(options { disks = { { path = first, names = "sdf,xvdf" },
    { names = "nvme0n1" } } })
  t.is(b:exec({ shell = "echo one >/dev/sdf && busybox sync && grep one /dev/xvdf;"
    .. " ls /dev/nvme0n1" }).out, "one\n/dev/nvme0n1\n", "a volume of the start has all its names")
  t.is(fs.read(first):sub(1, 4), "one\n", "what is written there is in the file")
  t.is(b:exec({ shell = "cat /dev/nvme0n1" }).code, 1, "names without a file cannot be opened")
  t.raises(function()
    b:attach { path = first, names = "sdg" }
  end, { kind = "io", code = "loop", match = "attached" }, "once only")
  t.raises(function()
    b:attach { path = top .. "/none", names = "sdg" }
  end, { kind = "io", code = "loop" }, "a missing file is refused")
  b:attach { path = second, names = "sdg" }
  t.is(b:exec({ shell = "echo two >/dev/sdg; ls /dev/sdg" }).out, "/dev/sdg\n", "attached later")
  t.is(loops(), "first.img\nsecond.img\n", "both have loop devices")
  b:detach(second)
  t.is(b:exec({ shell = "ls /dev/sdg" }).code, 1, "detached, it has no name")
  t.ok(t.eventually(function()
    return loops() == "first.img\n"
  end), "and no device")
  t.raises(function()
    b:detach(second)
  end, { kind = "io", code = "loop" }, "twice is refused")
  b:kill()
  t.ok(t.eventually(function()
    return loops() == ""
  end), "the end of the instance frees all devices")
end)

t.test("a volume that is mounted stays", function()
  if not proc.which "mkfs.ext2" then
    t.skip "no mkfs.ext2 (apt install e2fsprogs)"
  end
  local path = volume "mounted.img"
  proc.run { "mkfs.ext2", "-q", path }
  local b <close> = box.start(options { disks = { { path = path, names = "sdf" } } })
  local r = b:exec { shell = "busybox mkdir /m && busybox mount -t ext2 /dev/sdf /m"
    .. " && echo x >/m/file && ls /m" }
  t.like(r.out, "file", "it can be mounted: " .. r.err)
  t.raises(function()
    b:detach(path)
  end, { kind = "io", code = "busy" }, "then it is not taken away")
  b:exec { shell = "busybox umount /m" }
  b:detach(path)
  t.is(b:exec({ shell = "ls /dev/sdf" }).code, 1, "unmounted, it is")
end)

t.test("a failed start names the step", function()
  local e = t.raises(function()
    box.start(options { layers = { "missing" } })
  end, { kind = "io", code = "overlay", match = "i%-%d+" }, "missing layer")
  t.is(type(e.log), "string", "with the end of the log")
  t.raises(function()
    box.start(options { net = "bridge" })
  end, { kind = "usage", match = "bridge" }, "another network")
  t.raises(function()
    box.start(options { disks = { {} } })
  end, { kind = "usage", match = "names" }, "a volume without names")
  t.raises(function()
    box.start(options { disks = { { path = top .. "/no-file", names = "sdf" } } })
  end, { kind = "io", code = "loop", match = "no%-file" }, "a volume that is not there")
  t.raises(function()
    box.start(options { layer = { "tiny" } })
  end, { kind = "usage", match = "layers" }, "a misspelt option")
  t.raises(function()
    box.start(options { ports = { { from = 22, cidr = "x" } } })
  end, { kind = "usage" }, "a bad rule")
end)

-- ---- login ----

local function base_image()
  for _, dir in ipairs { os.getenv("HGAUTO_TEST_IMAGES") or "/nonexistent",
    (os.getenv("HGAUTO_STATE") or (os.getenv("HOME") or "/root") .. "/.hgautomation")
      .. "/local/images" } do
    for _, name in ipairs(fs.exists(dir) and fs.list(dir) or {}) do
      if name:match("^debian1%d%-%x+$") then
        return dir, name
      end
    end
  end
end

local function ssh(key, known, port, user, command)
  return proc.run({ "ssh", "-F", "none", "-i", key, "-p", tostring(port), "-o", "BatchMode=yes",
    "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" .. known, "-o",
    "IdentitiesOnly=yes", "-o", "GlobalKnownHostsFile=none", user .. "@127.77.250.10", command },
    { check = false, timeout = 30 })
end

t.test("OpenSSH logs in with the pinned host key", function()
  local dir, layer = base_image()
  if not layer then
    t.skip("no base image is built: hgauto local image build debian13")
  end
  if not proc.which("ssh") then
    t.skip("no ssh (apt install openssh-client)")
  end
  local place = dir:match("^(.*)/[^/]+$") .. "/instances/test-" .. host.pid()
  local key, host_key = crypto.keypair("ed25519", "test"), crypto.keypair("ed25519", "host")
  local key_file, known = top .. "/key", top .. "/known"
  key:save(key_file)
  local secret = host_key:private()
  fs.mkdir(place, { parents = true })
  local b <close> = box.start { name = "ssh", dir = place, images_dir = dir, layers = { layer },
    address = "127.77.250.10", private_ip = "172.31.0.10", hostname = "ip-172-31-0-10",
    ports = { { protocol = "tcp", from = 22, to = 22, cidr = "127.0.0.0/8" } },
    files = { { path = "/home/admin/.ssh/authorized_keys", owner = "admin", mode = 384,
      data = key:public() .. "\n" },
      { path = "/etc/ssh/ssh_host_ed25519_key", mode = 384, data = secret } } }
  local port = b:info().ssh_port
  fs.write(known, ("[127.77.250.10]:%d %s\n127.77.250.10 %s\n"):format(port, host_key:public(),
    host_key:public()))
  local r = ssh(key_file, known, port, "admin", "id -un; sudo -n id -un; exit 5")
  t.is(r.out, "admin\nroot\n", "login and sudo; " .. r.err)
  t.is(r.code, 5, "exit code")
  b:ports { { from = 22, cidr = "10.0.0.0/8" } }
  t.is(ssh(key_file, known, port, "admin", "true").code, 255, "refused by the rules")
  b:ports { { from = 22, cidr = "127.0.0.1/32" } }
  fs.write(known, "127.77.250.10 " .. key:public() .. "\n")
  t.like(ssh(key_file, known, 22, "admin", "true").err, "[Hh]ost key", "a wrong host key")
  b:kill()
  fs.remove(place, { tree = true })
end)

return t.done()
