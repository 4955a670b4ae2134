-- hgauto.ssh: what can go wrong, and the error it must be; never a hang, never a false success.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")
local d = sshd.start(dir)
local ALIVE = { interval = 1, count = 2 }
local program = (host.getenv("HGAUTO") or fs.readlink("/proc/self/exe")):gsub("[^/]+$", "")
  .. "servers/evil_sshd"

local function within(sec, fn, want, name)
  local t0 = time.mono()
  local e = t.raises(fn, want, name)
  local took = time.mono() - t0
  t.ok(took <= sec, ("%s: after %.1f s of at most %g"):format(name, took, sec))
  return e
end

local function connect(o, where)
  return ssh.connect(where or "127.0.0.1", d:args(o))
end

t.test("before the login", function()
  local rows = {
    { { user = "nobody-here" }, { kind = "auth", code = "AuthRejected" }, "a wrong user" },
    { { keys = { dir .. "/other" } }, { kind = "auth", code = "AuthRejected" }, "a wrong key" },
    { { host_key = fs.read(dir .. "/other.pub") }, { kind = "auth", code = "HostKeyChanged" },
      "a changed host key" },
    { { port = 1 }, { kind = "net", code = "Refused" }, "nobody listens" },
    { { ciphers = { "aes128-cbc" } }, { code = "KexNoMatch" }, "no common cipher" },
  }
  for _, r in ipairs(rows) do
    within(15, function() connect(r[1]) end, r[2], r[3])
  end
  within(15, function() connect({}, "no-such-host.invalid") end, { kind = "net", code = "Resolve" },
    "an unknown name")
end)

t.test("MaxSessions", function()
  local s2 = sshd.start(dir, { "MaxSessions 2" })
  local c <close> = ssh.connect("127.0.0.1", s2:args())
  local list = async.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function(i)
    local x <close> = c:share()
    return x:exec("sleep 0.2; echo " .. i).out
  end, { limit = 8 })
  t.is(list, { "1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n", "8\n" }, "commands queue")
  s2:stop()
end)

t.test("MaxStartups", function()
  local s3 = sshd.start(dir, { "MaxStartups 3:100:3" })
  local results = async.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, function()
    local c <close> = ssh.wait_ready("127.0.0.1", s3:args { delay = 0.2, for_seconds = 60 })
    return c:exec("echo in").out
  end, { limit = 12 })
  local n = 0
  for _, r in ipairs(results) do
    n = n + (r == "in\n" and 1 or 0)
  end
  t.is(n, 12, "dropped connections are tried again")
  s3:stop()
end)

t.test("a login banner", function()
  fs.write(dir .. "/banner", "Authorized use only\n")
  local b = sshd.start(dir, { "Banner " .. dir .. "/banner" })
  local c <close> = ssh.connect("127.0.0.1", b:args())
  t.like(c:info().banner, "Authorized use only", "is kept")
  b:stop()
end)

t.test("the server dies", function()
  local c = connect { keepalive = ALIVE }
  local pid = c:exec("echo $PPID").out:match("%d+")
  async.scope(function(sc)
    sc:spawn(function()
      async.sleep(0.5)
      proc.run { "kill", "-KILL", pid }
    end)
    local cmd = "echo $$ > " .. dir .. "/left; echo some; exec sleep 600"
    local e = within(10, function() c:exec(cmd, { kill = "none" }) end,
      { kind = "net", code = "ConnectionLost", match = "exit status unknown" }, "kill -9")
    t.is({ e.result.ok, e.result.out }, { false, "some\n" }, "what came before")
    proc.run { "kill", fs.read(dir .. "/left"):match("%d+") }
  end)
  c:wait_ready { for_seconds = 10 }
  t.is(c:exec("echo again").out, "again\n", "wait_ready makes it usable again")
  t.raises(function() c:exec("kill -9 $PPID; echo x", { kill = "none" }) end,
    { kind = "net", code = "ConnectionLost" }, "killed from inside")
  c:close()
end)

t.test("the server stops", function()
  local c = connect { keepalive = ALIVE }
  local pid = c:exec("echo $PPID").out:match("%d+")
  proc.run { "kill", "-STOP", pid }
  within(5, function() c:exec("true", { kill = "none" }) end,
    { kind = "net", code = "KeepaliveTimeout" }, "SIGSTOP")
  proc.run { "kill", "-KILL", pid }
  c:close()
end)

t.test("a reboot", function()
  -- The boot id of a server of our own is a file that its namespace shows.
  fs.write(dir .. "/boot_id", "11111111-1111-1111-1111-111111111111\n")
  local env = { HGA_TEST_BOOT = dir .. "/boot_id" }
  local r = sshd.start(dir, {}, nil, env)
  local c = ssh.connect("127.0.0.1", r:args { keepalive = ALIVE })
  t.like(c:exec("cat /proc/sys/kernel/random/boot_id").out, "^11111111", "boot id")
  local again
  async.scope(function(sc)
    sc:spawn(function()
      t.eventually(function() return fs.exists(dir .. "/asked") end)
      async.sleep(0.5)
      r:stop()
      async.sleep(2)
      fs.write(dir .. "/boot_id", "22222222-2222-2222-2222-222222222222\n")
      again = sshd.start(dir, {}, r.port, env)
      again.p:keep() -- beyond this task
    end)
    local id = c:reboot { command = "touch " .. dir .. "/asked; sleep 30", for_seconds = 60,
      delay = 0.3 }
    t.like(id, "^22222222", "another boot")
  end)
  t.is(c:exec("echo up").out, "up\n", "the session works again")
  t.raises(function() c:reboot { command = "true", for_seconds = 4, delay = 0.3 } end,
    { kind = "timeout", code = "Connect" }, "a machine that does not reboot")
  c:close()
  again:stop()
end)

t.test("a host key that changes", function()
  fs.copy(dir .. "/host_ed25519", dir .. "/rotated")
  fs.chmod(dir .. "/rotated", 384)
  local k = sshd.start(dir, { "HostKey " .. dir .. "/rotated" })
  local c = ssh.connect("127.0.0.1", k:args())
  local after
  local key = c:rotate_host_key(function(s, new)
    new:save(dir .. "/rotated.new")
    s:exec({ "mv", dir .. "/rotated.new", dir .. "/rotated" })
    k:stop()
    after = sshd.start(dir, { "HostKey " .. dir .. "/rotated" }, k.port)
  end)
  t.is(c:info().fingerprint, (ssh.fingerprint(key)), "the new key is the pin now")
  t.is(c:exec("echo on").out, "on\n", "the session goes on")
  t.raises(function() ssh.connect("127.0.0.1", after:args()) end, { code = "HostKeyChanged" },
    "the old one is not")
  c:close()
  after:stop()
end)

t.test("rekeying all the time", function()
  local r = sshd.start(dir, { "RekeyLimit 1M" })
  local data = crypto.random(1 << 20):rep(24)
  for _, cipher in ipairs { "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com",
    "aes256-ctr" } do
    local c <close> = ssh.connect("127.0.0.1", r:args { ciphers = { cipher } })
    local out = c:exec("cat", { stdin = data, max_output = 32 << 20, timeout = 120 }).out
    t.ok(out == data, cipher .. ": 24 MiB both ways")
    local _, n = r:log():gsub("rekey", "")
    t.ok(n > 10, n .. " times")
  end
  r:stop()
end)

t.test("servers that lie", function()
  if not fs.exists(program) then
    t.skip("needs servers/evil_sshd (make tests-build)")
  end
  local rows = {
    { "close", { kind = "net", code = "BannerClosed" } },
    { "silent", { kind = "timeout", code = "Connect" } },
    { "http", { kind = "protocol", code = "Banner" } },
    { "ssh1", { kind = "protocol", code = "Banner" } },
    { "lines", { kind = "protocol", code = "Banner" } },
    { "longline", { kind = "protocol", code = "Banner" } },
    { "banner-only", { kind = "timeout", code = "Connect" } },
    { "slow", { kind = "timeout", code = "Connect" } },
    { "zero", { kind = "protocol" } },
    { "huge", { kind = "protocol" } },
    { "garbage", { kind = "protocol" } },
    { "disconnect", { kind = "net", code = "ConnectionLost", match = "go away" } },
    { "ignore-flood", { kind = "timeout" } },
    { "late", { kind = "net" } },
  }
  for _, r in ipairs(rows) do
    local p <close> = proc.spawn { program, r[1] }
    local port = math.tointeger(tonumber((p:lines("out")())))
    local e = within(6, function()
      connect { port = port, timeout = { banner = 2, kex = 2, total = 4 } }
    end, r[2], r[1])
    t.ok(not tostring(e):find("[\1-\31\127]"), r[1] .. ": a clean message: " .. tostring(e))
  end
end)

d:stop()
return t.done()
