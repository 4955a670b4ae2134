-- One case of tests/bench/ssh.sh and ssh/*.sh: BENCH=case; HOST, PORT, DIR, PARALLEL, N and
-- LIMIT come from there.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir, case = host.getenv("DIR"), host.getenv("BENCH")
local parallel = math.tointeger(tonumber(host.getenv("PARALLEL") or nil))
local target = {
  user = "root", port = math.tointeger(host.getenv("PORT")), keys = { dir .. "/id_ed25519" },
  host_key = fs.read(dir .. "/host_ed25519.pub"), ciphers = { "aes128-gcm@openssh.com" },
}

local function session()
  return ssh.connect(host.getenv("HOST") or "127.0.0.1", target)
end

--- Seconds of the operation alone, on stderr: login and start are measured on their own.
local function timed(fn)
  local s <close> = session()
  local t0 = time.mono()
  fn(s)
  io.stderr:write(("%.4f\n"):format(time.mono() - t0))
end

local function anonymous()
  return tonumber(fs.read("/proc/self/status"):match("RssAnon:%s+(%d+)"))
end

--- Many hosts: addresses of 127.78.0.0/16, all the same server.
local function fan()
  local hosts, n = {}, math.tointeger(host.getenv("N"))
  for i = 1, n do
    hosts[i] = ("127.78.%d.%d"):format(i // 250, i % 250 + 1)
  end
  local idle, most, attempts = anonymous(), 0, 0
  local limit = math.tointeger(host.getenv("LIMIT"))
  local list = ssh.map(hosts, { "true" }, { connect = target, limit = limit, retry = 4,
    on_result = function() most = math.max(most, anonymous()) end })
  for _, r in ipairs(list) do
    attempts = attempts + r.attempts
    if not r.ok then
      print("# " .. tostring(r.error))
    end
  end
  io.stderr:write(("%d %d %d\n"):format(#list - list.failed, attempts, most - idle))
  t.is(list.failed, 0, "all hosts")
end

local cases = {
  get = function()
    timed(function(s) s:get(dir .. "/big", dir .. "/out1", { parallel = parallel }) end)
  end,
  put = function()
    timed(function(s) s:put(dir .. "/big", dir .. "/out2", { parallel = parallel }) end)
  end,
  out = function()
    timed(function(s) s:exec({ "cat", dir .. "/big" }, { max_output = 1000 }) end)
  end,
  ["in"] = function()
    timed(function(s) s:exec("cat >/dev/null", { stdin = { file = dir .. "/big" } }) end)
  end,
  small = function()
    timed(function(s) s:put(dir .. "/small", dir .. "/small2") end)
  end,
  none = function()
    timed(function(s) s:exec({ "true" }, { kill = "none" }) end)
  end,
  login = function()
    timed(function() end)
  end,
  idle = function() end,
  execs = function()
    timed(function(s)
      for _ = 1, 1000 do
        s:exec({ "true" }, { kill = "none" })
      end
    end)
  end,
  fan = fan,
}
cases[case]()
t.ok(true, case)
return t.done()
