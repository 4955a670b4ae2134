-- hgauto.ssh: commands in a row, whose channels open ahead; logins with as few requests as can be;
-- a fast get that ends other than expected.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile "tests/servers/sshd.lua"

local function server(lines)
  table.insert(lines, 1, "LogLevel DEBUG2")
  return sshd.start(dir, lines)
end

local function count(text, what)
  local _, n = text:gsub(what, "")
  return n
end

--- How often a line came since from.
local function logged(d, from, what)
  return count(d:log():sub(from), what)
end

t.test("the next one's channel", function()
  local d = server {}
  local from = #d:log() + 1
  local s <close> = ssh.connect("127.0.0.1", d:args())
  for i = 1, 5 do
    t.is(s:exec("echo " .. i).out, i .. "\n", "command " .. i)
    t.is(s:info().channels <= 1, true, "an unused channel is not counted")
  end
  local opened = logged(d, from, "server_input_channel_open: ctype session")
  t.is(opened, 6, "the first two open their own, then each its successor's")
  local out = async.map({ 1, 2, 3, 4 }, function(i)
    local x <close> = s:share()
    return x:exec("echo " .. i).out
  end, { limit = 4 })
  t.is(out, { "1\n", "2\n", "3\n", "4\n" }, "several at once share one spare channel")
  t.is(s:exec("cat", { stdin = "in" }).out, "in", "with input")
  t.is(s:exec("exit 7", { check = false }).code, 7, "an exit code")
  t.is(s:exec("test -t 0 && echo tty", { pty = true }).out, "tty\r\n", "a terminal")
  s:put(dir .. "/id_ed25519.pub", dir .. "/copied")
  t.is(fs.read(dir .. "/copied"), fs.read(dir .. "/id_ed25519.pub"), "files beside it")
  d:stop()
end)

t.test("a server that closes unused channels", function()
  if proc.run({ "/usr/bin/python3", "-c", "import asyncssh" }, { check = false }).code ~= 0 then
    t.skip("needs python3-asyncssh")
    return
  end
  fs.write(dir .. "/key", fs.read(dir .. "/host_ed25519"), { mode = 384 })
  local p <close> = proc.spawn({ "/usr/bin/python3", "tests/servers/idle_close.py", dir .. "/key",
    dir .. "/port" }, { stdin = true })
  local until_ = time.mono() + 20
  while not fs.exists(dir .. "/port") and time.mono() < until_ do
    async.sleep(0.05)
  end
  local s <close> = ssh.connect("127.0.0.1", { user = "root", keys = { dir .. "/id_ed25519" },
    port = math.tointeger(tonumber(fs.read(dir .. "/port"))), known_hosts = false,
    host_key = fs.read(dir .. "/host_ed25519.pub") })
  for i = 1, 4 do
    t.is(s:exec("c" .. i, { raw = true }).out, "c" .. i, "command " .. i)
  end
  -- What a server says in few bytes: as little as need not wake us after brief commands.
  local t0, first = time.mono(), nil
  local r = s:exec("slow x\ny\n", { raw = true, timeout = 20, on_line = function()
    first = first or time.mono() - t0
  end })
  t.is(r.out, "x\ny\n", "a slow one after brief ones")
  t.is(first and first < 0.8, true, "its first line comes when it is there")
  for _ = 1, 2 do
    t.is(s:exec("c", { raw = true }).out, "c", "a brief one")
  end
  t.raises(function() s:exec("no", { raw = true, timeout = 5 }) end, { code = "RequestDenied" },
    "a refused one after brief ones")
  async.sleep(1)
  for i = 5, 7 do
    t.is(s:exec("c" .. i, { raw = true, timeout = 5 }).out, "c" .. i, "command " .. i)
  end
  p:kill()
end)

t.test("a server with few channels", function()
  for _, most in ipairs { 1, 2, 3 } do
    local d = server { "MaxSessions " .. most }
    local s <close> = ssh.connect("127.0.0.1", d:args())
    local out = {}
    for i = 1, 5 do
      out[i] = s:exec("echo " .. i).out
    end
    t.is(table.concat(out), "1\n2\n3\n4\n5\n", most .. " at a time")
    s:put(dir .. "/id_ed25519.pub", dir .. "/copied" .. most)
    t.is(fs.exists(dir .. "/copied" .. most), true, "a file after them")
    d:stop()
  end
end)

t.test("an idle SFTP channel gives way", function()
  local d = server { "MaxSessions 1" }
  local s <close> = ssh.connect("127.0.0.1", d:args())
  s:stat(dir)
  t.is(s:exec("echo on", { timeout = 10, kill = "none" }).out, "on\n", "to a command")
  local r = s:put(dir .. "/id_ed25519.pub", dir .. "/verified", { verify = "sha256" })
  t.is(#r.sha256, 64, "to the hash of what was sent")
  t.is(s:stat(dir .. "/verified").size > 0, true, "and comes back")
  d:stop()
end)

t.test("commands that go on after their channel was closed", function()
  local d = server {}
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local seconds = "317." .. host.pid()
  for _ = 1, 10 do
    t.raises(function() s:exec({ "sleep", seconds }, { timeout = 0.1, kill = "none" }) end,
      { kind = "timeout" })
  end
  t.raises(function() s:exec("echo no", { timeout = 13, kill = "none" }) end,
    { code = "ChannelRefused" }, "the server has no more channels, which is told")
  t.is(s:info().channels, 0, "after a while closed ones do not count")
  proc.run { "pkill", "-f", "sleep " .. seconds }
  async.sleep(1)
  local out = async.map({ 1, 2, 3, 4 }, function()
    local x <close> = s:share()
    return x:exec("sleep 0.1; echo on", { timeout = 10 }).out
  end, { limit = 4 })
  t.is(table.concat(out), ("on\n"):rep(4), "when the commands have ended all is as before")
  d:stop()
end)

t.test("the requests of a login", function()
  local d = server {}
  local from = #d:log() + 1
  ssh.connect("127.0.0.1", d:args()):close()
  t.is(logged(d, from, "userauth%-request for user"), 1, "a key at hand: one")
  from = #d:log() + 1
  t.raises(function() ssh.connect("127.0.0.1", d:args { keys = { dir .. "/other" } }) end,
    { code = "AuthRejected", match = "server allows publickey" }, "refused, with the methods")
  t.is(logged(d, from, "userauth%-request for user"), 1, "a refused one: one, too")
  from = #d:log() + 1
  ssh.connect("127.0.0.1", d:args { keys = { dir .. "/other", dir .. "/id_ed25519" } }):close()
  t.is(logged(d, from, "userauth%-request for user"), 2, "the second key: two")
  d:stop()
  d = server { "MaxAuthTries 1", "Banner " .. dir .. "/banner" }
  fs.write(dir .. "/banner", "For those who may\n")
  local s <close> = ssh.connect("127.0.0.1", d:args())
  t.like(s:info().banner, "For those who may", "the banner comes with the first answer")
  d:stop()
end)

t.test("a file that shrinks while it is fetched fast", function()
  local d = server {}
  local big = dir .. "/big"
  proc.run { "truncate", "-s", "2G", big }
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local cut
  local e = t.raises(function()
    s:get(big, dir .. "/fetched", { progress = function(done)
      if not cut and done >= 512 << 20 then
        cut = time.mono()
        proc.run { "truncate", "-s", tostring(done + (4 << 20)), big }
      end
    end })
  end, { code = "ShortTransfer" }, "is no file")
  local took = time.mono() - (cut or 0)
  t.ok(took < 10, ("told %.1f s later, no keepalive had to come"):format(took), e and tostring(e))
  t.is(fs.exists(dir .. "/fetched"), false, "nothing under its name")
  d:stop()
end)

return t.done()
