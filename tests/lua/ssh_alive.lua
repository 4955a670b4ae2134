-- hgauto.ssh: a peer that stops answering is noticed, in every phase.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")
local d = sshd.start(dir)
local ALIVE = { interval = 1, count = 2 }

local function within(sec, fn, want, name)
  local t0 = time.mono()
  local e = t.raises(fn, want, name)
  local took = time.mono() - t0
  t.ok(took <= sec, ("%s: after %.1f s of at most %g"):format(name, took, sec))
  return e, took
end

--- Runs fn(session, pid of its server process) with that process stopped.
local function frozen(fn)
  local s <close> = ssh.connect("127.0.0.1", d:args { keepalive = ALIVE })
  local pid = s:exec("echo $PPID").out:match("%d+")
  s:write(dir .. "/data", ("x"):rep(100000))
  async.timeout(30, function()
    proc.run { "kill", "-STOP", pid }
    local ok, e = pcall(fn, s)
    proc.run { "kill", "-KILL", pid }
    if not ok then error(e, 0) end
  end)
end

t.test("a stopped server during a command", function()
  frozen(function(s)
    within(5, function() s:exec("sleep 60", { kill = "none" }) end,
      { kind = "net", code = "KeepaliveTimeout", match = "no answer from the server for %d s" },
      "exec")
  end)
end)

t.test("a stopped server during transfers", function()
  frozen(function(s)
    within(5, function() s:read(dir .. "/data") end, { kind = "net", code = "KeepaliveTimeout" },
      "get")
  end)
  frozen(function(s)
    within(5, function() s:write(dir .. "/data2", ("y"):rep(5000000)) end,
      { kind = "net", code = "KeepaliveTimeout" }, "put")
  end)
end)

t.test("a stopped server of an idle session", function()
  frozen(function(s)
    async.sleep(4.5)
    within(1, function() s:exec("true") end, { kind = "net", code = "KeepaliveTimeout" }, "idle")
  end)
end)

t.test("an idle session lives on", function()
  local s <close> = ssh.connect("127.0.0.1", d:args { keepalive = ALIVE })
  async.sleep(3.5)
  t.is(s:exec("echo on").out, "on\n", "probes are answered")
end)

t.test("a server's own probes and rekeying are answered while idle", function()
  local d2 = sshd.start(dir, { "ClientAliveInterval 1", "ClientAliveCountMax 2",
    "RekeyLimit 1M 2s" })
  local s <close> = ssh.connect("127.0.0.1", d2:args())
  async.sleep(6)
  t.is(s:exec("echo on").out, "on\n", "still there")
  fs.write(dir .. "/big", ("0123456789abcdef"):rep(400000))
  t.is(s:put(dir .. "/big", dir .. "/big2").bytes, 6400000, "put over several key exchanges")
  t.is(s:get(dir .. "/big2", dir .. "/big3").bytes, 6400000, "get")
  t.is(fs.sha256(dir .. "/big"), fs.sha256(dir .. "/big3"), "same data")
  t.is(s:exec("cat", { stdin = { file = dir .. "/big" }, max_output = 1 << 24 }).out,
    fs.read(dir .. "/big"), "a command over several key exchanges")
  d2:stop()
end)

t.test("a listener that is stopped or silent", function()
  local limits = { connect = 1, banner = 1, kex = 1, login = 1 }
  local pid = d.p:pid()
  -- sshd.sh has become sshd by exec
  proc.run { "kill", "-STOP", tostring(pid) }
  local e = within(4, function()
    ssh.connect("127.0.0.1", d:args { timeout = limits })
  end, { kind = "timeout", code = "Connect" }, "stopped listener")
  t.is(e.phase, "banner", "phase")
  within(2.5, function() ssh.connect("127.0.0.1", d:args { timeout = 1 }) end,
    { kind = "timeout" }, "total")
  proc.run { "kill", "-CONT", tostring(pid) }
end)

t.test("what is no SSH server", function()
  local httpd = require "hgauto.httpd"
  local srv = httpd.new { on_request = function() end }
  local port = srv:listen { host = "127.0.0.1", port = 0 }
  within(5, function()
    ssh.connect("127.0.0.1", d:args { port = port, timeout = 3 })
  end, { match = "banner" }, "an HTTP server")
  srv:close()
  within(3, function() ssh.connect("127.0.0.1", d:args { port = 1 }) end,
    { kind = "net", code = "Refused" }, "nobody")
end)

t.test("limits of the server", function()
  local d3 = sshd.start(dir, { "MaxSessions 2" })
  local s <close> = ssh.connect("127.0.0.1", d3:args())
  local out = async.map({ 1, 2, 3, 4, 5, 6 }, function(i)
    local c <close> = s:share()
    return c:exec("sleep 0.1; echo " .. i).out
  end, { limit = 6 })
  t.is(table.concat(out), "1\n2\n3\n4\n5\n6\n", "MaxSessions 2: commands queue")
  d3:stop()
  d3 = sshd.start(dir, { "MaxSessions 0" })
  local z <close> = ssh.connect("127.0.0.1", d3:args())
  t.raises(function() z:exec("true") end, { kind = "remote", code = "ChannelRefused" }, "none")
  d3:stop()
  d3 = sshd.start(dir, { "Subsystem sftp /bin/false" })
  local y <close> = ssh.connect("127.0.0.1", d3:args())
  t.raises(function() y:stat("/") end, { kind = "remote", match = "sftp" }, "sftp that ends")
  d3:stop()
  d3 = sshd.start(dir, { "MaxAuthTries 1" })
  t.raises(function()
    ssh.connect("127.0.0.1", d3:args { keys = { dir .. "/other", dir .. "/id_rsa" } })
  end, { kind = "auth", code = "AuthTooMany" }, "MaxAuthTries 1")
  d3:stop()
end)

d:stop()
return t.done()
