-- Run by tests/peers/ssh_halfopen.t behind tests/servers/delay: whose line is stopped, so that no
-- packet, acknowledgement or end of connection comes any more.  Every operation notices within
-- the keepalive's time, and leaves no wrong file.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local SERVER = "10.99.79.1"
local ALIVE = { interval = 1, count = 2 }
local NOTICED = 1 * (2 + 1) + 1 -- interval * (count + 1) + 1
local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir, nil, nil,
  { LISTEN = SERVER, NETNS = host.getenv("HGAUTO_NS1") })

local line -- the process that carries the packets: the other child of our parent
do
  local parent = fs.read("/proc/self/stat"):match("^%d+ %b() %a (%d+)")
  for pid in proc.run({ "pgrep", "-P", parent, "-x", "delay" }).out:gmatch("%d+") do
    line = pid
  end
end

local stopped
local function cut()
  if not stopped then
    stopped = time.mono()
    proc.run { "kill", "-STOP", line }
  end
end

local function mend()
  proc.run { "kill", "-CONT", line }
  stopped = nil
end

local function connect(o)
  o = o or {}
  o.keepalive = ALIVE
  return ssh.connect(SERVER, d:args(o))
end

--- fn(session, later) where later(sec) cuts the line after a while; fn must fail in time.
local function half_open(name, fn)
  local s = connect()
  local e
  async.scope(function(sc)
    e = t.raises(function()
      fn(s, function(sec)
        sc:spawn(function()
          async.sleep(sec)
          cut()
        end)
      end)
    end, { kind = "net" }, name)
  end)
  local took = time.mono() - (stopped or 0)
  t.ok(took <= NOTICED + 0.5, ("%s: noticed after %.1f s"):format(name, took))
  t.ok(e.code == "KeepaliveTimeout" or e.code == "ConnectionLost", name .. ": " .. tostring(e))
  local t0 = time.mono()
  s:close()
  t.ok(time.mono() - t0 < 1.5, name .. ": the end does not wait for the peer")
  mend()
end

local function parts()
  local n = 0
  for _, name in ipairs(fs.list(dir .. "/in")) do
    n = n + (name:find("%.part$") and 1 or 0)
  end
  return n
end

fs.mkdir(dir .. "/in")
proc.run { "sh", "-c", "head -c 300000000 /dev/zero | tr '\\0' x > " .. dir .. "/big" }

t.test("commands", function()
  half_open("a command that waits", function(s, later)
    later(0.3)
    s:exec("sleep 60", { kill = "none" })
  end)
  half_open("a command that talks", function(s, later)
    later(0.3)
    s:exec("while :; do echo 0123456789; sleep 0.01; done", { kill = "none" })
  end)
  half_open("a command that listens", function(s, later)
    later(0.3)
    s:exec("cat >/dev/null", { kill = "none",
      stdin = function() return ("y"):rep(65536) end })
  end)
  half_open("with the kill ladder", function(s)
    cut()
    s:exec("sleep 60", { kill = "channel" })
  end)
end)

t.test("transfers", function()
  local function get(parallel)
    return function(s)
      s:get(dir .. "/big", dir .. "/in/got", { parallel = parallel, progress = cut })
    end
  end
  local function put(parallel)
    return function(s)
      s:put(dir .. "/big", dir .. "/in/sent", { parallel = parallel, progress = cut })
    end
  end
  fs.write(dir .. "/in/got", "old")
  fs.write(dir .. "/in/sent", "old")
  half_open("get", get(1))
  half_open("striped get", get(2))
  t.is({ fs.read(dir .. "/in/got"), parts() }, { "old", 0 }, "the old file, no part of another")
  half_open("put", put(1))
  half_open("striped put", put(4))
  t.is(fs.read(dir .. "/in/sent"), "old", "the old file there")
  fs.mkdir(dir .. "/tree")
  for i = 1, 300 do
    fs.write(("%s/tree/%d"):format(dir, i), ("z"):rep(20000))
  end
  half_open("a tree", function(s)
    s:put(dir .. "/tree", dir .. "/in/tree", { progress = cut })
  end)
end)

t.test("between operations", function()
  half_open("an idle session", function(s)
    cut()
    async.sleep(NOTICED)
    s:exec("true")
  end)
  cut()
  local t0 = time.mono()
  t.raises(function() connect { timeout = { connect = 2, total = 3 } } end, { kind = "timeout" },
    "no connection")
  t.ok(time.mono() - t0 < 3.5, "by its deadline")
  mend()
  local s <close> = connect()
  t.is(s:exec("echo again").out, "again\n", "the line works again")
end)

d:stop()
return t.done()
