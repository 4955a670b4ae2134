-- hgauto.ssh: a server that wants new keys all the time, under load in both directions: nothing
-- stalls, no byte is wrong, the process does not grow.  HGAUTO_REKEYS: how often (100).
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")
local want = math.tointeger(tonumber(host.getenv("HGAUTO_REKEYS") or 100))
local CIPHERS = { "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr" }

local slack = t.sanitized() and 1 << 20 or 0

local function memory()
  collectgarbage()
  collectgarbage()
  return tonumber(fs.read("/proc/self/status"):match("RssAnon:%s+(%d+)"))
end

--- Key exchanges of that server so far, the first of each connection too.
local function exchanges(d)
  local _, n = d:log():gsub("SSH2_MSG_NEWKEYS received", "")
  return n
end

local data = crypto.random(1 << 20):rep(2)
fs.write(dir .. "/data", data)

--- Commands and transfers at once over one session; seconds of the slowest.
local function load(s)
  local slowest = 0
  local jobs = {
    function(x)
      if x:exec("cat", { stdin = data, max_output = 4 << 20, timeout = 60 }).out ~= data then
        t.ok(false, "the command's data")
      end
    end,
    function(x)
      x:put(dir .. "/data", dir .. "/sent", { verify = "sha256", timeout = 60 })
    end,
    function(x)
      x:get(dir .. "/data", dir .. "/got", { verify = "sha256", timeout = 60 })
    end,
    function(x)
      for _ = 1, 10 do
        x:exec({ "true" }, { timeout = 60 })
      end
    end,
  }
  async.map(jobs, function(job)
    local x <close> = s:share()
    local t0 = time.mono()
    job(x)
    slowest = math.max(slowest, time.mono() - t0)
  end, { limit = #jobs })
  return slowest
end

t.test("the window while new keys are exchanged", function()
  local d = sshd.start(dir, { "RekeyLimit 48K", "LogLevel DEBUG2" })
  for round = 1, 4 do
    fs.write(dir .. "/sshd.log", "")
    local s <close> = ssh.connect("127.0.0.1", d:args())
    local r = s:exec("head -c 3000000 /dev/zero; head -c 1500000 /dev/zero >&2; sleep 0.2",
      { max_output = 16 << 20, timeout = 60 })
    t.is({ #r.out, #r.err }, { 3000000, 1500000 }, "all of both streams")
    local log, given = d:log(), 0
    for n in log:gmatch("rcvd adjust (%d+)") do
      given = given + tonumber(n)
    end
    -- The server may send what we have read, the first 2 MiB and a buffer more.
    t.ok(given > 2000000 and given <= 4500000 + 66000,
      ("round %d: the window was moved by %d bytes"):format(round, given))
    t.ok(not log:find("overflows"), "and never overflows")
  end
  d:stop()
end)

for _, cipher in ipairs(CIPHERS) do
  t.test(cipher, function()
    local d = sshd.start(dir, { "RekeyLimit 48K" })
    fs.write(dir .. "/sshd.log", "")
    local s <close> = ssh.connect("127.0.0.1", d:args { ciphers = { cipher } })
    local share = want // #CIPHERS + 1
    local n, early, slowest = 0, nil, 0
    local limit = time.mono() + 20 + share
    while n < share and time.mono() < limit do
      slowest = math.max(slowest, load(s))
      n = exchanges(d) - 1
      if not early and n >= share // 4 then
        early = memory()
      end
    end
    t.ok(n >= share, ("%d exchanges of %d"):format(n, share))
    t.ok(slowest < 30, ("nothing stalls (%.1f s at most)"):format(slowest))
    local more = memory() - early
    t.ok(more < 1024 + slack, ("%d KiB more after the last three quarters"):format(more))
    t.is(s:exec("echo on").out, "on\n", "the session is as good as before")
    d:stop()
  end)
end

return t.done()
