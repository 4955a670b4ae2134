--- T=deadline: peers that accept and never answer, stop in the middle, send a byte
--- at a time, or are never reached.  Whatever waits for them has a total deadline and
--- ends at most two seconds after it, with host, phase and time in its words.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local host = require "hgauto.host"
local http = require "hgauto.http"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"
local winrm = require "hgauto.winrm"
local sweep = dofile "tests/lib/sweep.lua"

local LATE = 2

local tool = sweep.program:match("^(.*)/[^/]+$") .. "/servers/stall"

local XML = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: 100000\r\n\r\n<a>"
local KEY = require("hgauto.crypto").keypair("ed25519", "x"):public()
local BANNER = "SSH-2.0-OpenSSH_9.2\r\n"
local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "wJalr-example" }

-- What an error must say: one of the words for where it was, and how long.
local PHASES = { "resolve", "connect", "tls", "send", "wait", "receive", "parse", "banner",
  "keyexchange", "key exchange", "hostkey", "login", "exec", "sftp", "metadata", "WinRM" }

local function names_phase(text)
  for _, word in ipairs(PHASES) do
    if text:find(word, 1, true) then
      return true
    end
  end
  return false
end

local function client(port)
  return aws.client("ec2", { region = "us-west-2", credentials = CREDS,
    endpoint_url = "http://127.0.0.1:" .. port })
end

local function machine(port)
  return winrm.connect { host = "127.0.0.1", port = port, user = "u", password = "p",
    plaintext = true, allow_plaintext = true, connect_timeout = 1, operation_timeout = 1 }
end

-- Name, seconds in all, what waits, what a peer says before it stops.
local PRIMITIVES = {
  { "an HTTP request", 1, function(port)
    http.request { url = "http://127.0.0.1:" .. port, timeout = 1 }
  end, XML },
  { "an AWS call, one attempt", 1, function(port)
    client(port):describe_instances({}, { timeout = 1, max_attempts = 1 })
  end, XML },
  { "an AWS call with repeats", 2, function(port)
    client(port):describe_instances({}, { timeout = 2, read_timeout = 0.5 })
  end, XML },
  { "a waiter", 2, function(port)
    client(port):wait("instance_running", { InstanceIds = { "i-0123456789abcdef0" } },
      { timeout = 2 })
  end, XML },
  { "SSH: connect, banner, key exchange", 2, function(port)
    ssh.connect("127.0.0.1", { port = port, user = "u", keys = {}, agent = false,
      host_key = KEY, timeout = { connect = 1, banner = 1, kex = 1, total = 2 } })
  end, BANNER },
  { "waiting for SSH", 2, function(port)
    ssh.wait_ready("127.0.0.1", { port = port, user = "u", keys = {}, agent = false,
      host_key = KEY, for_seconds = 2 })
  end, BANNER },
  { "a WinRM request", 2, function(port)
    machine(port):cmd("ver", { timeout = 2 })
  end, XML },
  { "waiting for WinRM", 2, function(port)
    machine(port):wait { timeout = 2, interval = 0.2 }
  end, XML },
}

-- One primitive against one peer; what is wrong, or nil.
local function try(p, mode)
  local peer <close> = proc.spawn({ tool, mode, p[4] })
  local port = tonumber((peer:lines("out")()):match "%d+")
  local began = time.mono()
  -- What does not end is to fail here, not the whole file.
  local ok, e = pcall(async.timeout, p[2] + 3 * LATE, p[3], port)
  local took = time.mono() - began
  peer:kill "KILL"
  local text = tostring(e)
  if host.getenv "VERBOSE" then
    t.diag("%s, %s: %.1f s: %s", p[1], mode, took, text)
  end
  if ok then
    return "no error"
  elseif took > p[2] + LATE then
    return ("ends after %.1f s: %s"):format(took, text)
  elseif not text:find("127.0.0.1", 1, true) then
    return "does not name the host: " .. text
  elseif not names_phase(text) then
    return "does not name the phase: " .. text
  elseif not text:find "%d+%.?%d* ?m?s%f[%W]" then
    return "does not tell the time: " .. text
  end
end

-- What waits for no peer of the network: a child that ignores TERM, the ledger's lock.
local function others(o)
  local began = time.mono()
  local ok, e = pcall(proc.run, { "sh", "-c", "trap '' TERM; sleep 20 & wait; sleep 20" },
    { timeout = 1 })
  t.ok(not ok and time.mono() - began <= 1 + LATE + 0.5, ("a child: %.1f s: %s"):format(
    time.mono() - began, tostring(e)))
  if o.level ~= "full" then
    return
  end
  local state = require("hgauto.state").open(o.dir .. "/locked", { create = true })
  local led = state:ledger()
  local holder <close> = proc.spawn { "flock", state.path .. "/ledger.lock", "sleep", "30" }
  async.sleep(0.5)
  began = time.mono()
  ok, e = pcall(led.place, led, { partition = "aws", account = "1", region = "r", endpoint = "" })
  t.ok(not ok and time.mono() - began <= 10 + LATE, ("the ledger's lock: %.1f s: %s"):format(
    time.mono() - began, tostring(e)))
  t.like(tostring(e), "ledger%.lock is held by another hgauto", "which says so")
  holder:kill "KILL"
  led:close()
  state:close()
end

local function all_primitives(o)
  local list = {}
  for i, p in ipairs(PRIMITIVES) do
    for j, mode in ipairs { "hang", "freeze", "slow", "blackhole" } do
      if o.level ~= "quick" or i + j == 5 then
        list[#list + 1] = { p, mode }
      end
    end
  end
  local wrong = 0
  async.map(list, function(point)
    local what = try(point[1], point[2])
    if what then
      wrong = wrong + 1
      t.diag("%s, %s: %s", point[1][1], point[2], what)
    end
  end, { limit = 8 })
  t.is(wrong, 0, ("%d waits, wrong %d"):format(#list, wrong))
end

--- @param o table level="quick"|"ci"|"full", dir=
return function(o)
  all_primitives(o)
  if o.level ~= "quick" then
    others(o)
  end
end
