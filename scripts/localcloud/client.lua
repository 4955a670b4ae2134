-- The side of the local cloud that other processes use: is a daemon there, start
-- one, ask it, stop it.  Speaks to its control socket only.

local async = require "hgauto.async"
local auth = require "localcloud.auth"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local time = require "hgauto.time"

local M = {}

--- Region of local runs unless another is asked for.
M.region = "us-west-2"

local START_SECONDS = 20
local STOP_SECONDS = 30

local function fail(e)
  return require("hg").fail(e)
end

--- Directory of the local cloud below a state directory.
-- @param state string
-- @return string
function M.dir(state)
  return state .. "/local"
end

--- Asks the daemon.
-- @param state string state directory
-- @param method string
-- @param path string below /_hgauto/
-- @param timeout number|nil seconds, default 60: a busy disk holds the daemon up
-- @param value any|nil sent as JSON with POST
-- @return table decoded answer
-- @raise net when it does not answer, usage when it refuses what it was sent
-- @waits
function M.ask(state, method, path, timeout, value)
  local r = require("hgauto.http").request { method = method, timeout = timeout or 60,
    url = "http://localhost/_hgauto/" .. path, unix = M.dir(state) .. "/ctl.sock",
    body = method == "POST" and (value ~= nil and json.encode(value) or "") or nil }
  if r.status == 400 then
    fail { kind = "usage", message = json.decode(r.body).error }
  elseif r.status ~= 200 then
    fail { kind = "protocol", code = "Control",
      message = ("the local cloud answered %d to %s"):format(r.status, path) }
  end
  return json.decode(r.body)
end

--- What the daemon says about itself; nil when none runs.
-- @param opts.state string state directory
-- @return table|nil
-- @raise net when a daemon is there and does not answer
-- @waits
function M.status(opts)
  local dir = M.dir(opts.state)
  if not fs.exists(dir .. "/ctl.sock") then
    return nil
  end
  local ok, s = pcall(M.ask, opts.state, "GET", "status", opts.timeout)
  if ok then
    return s
  elseif s.kind == "net" then
    -- Nobody listens: the socket of a daemon that died, or leaves just now.
    return nil
  elseif s.kind == "timeout" then
    fail { kind = "net", code = "LocalCloud", cause = s,
      message = "the local cloud does not answer: " .. tostring(s),
      hint = "see " .. dir .. "/daemon.log" }
  end
  error(s, 0)
end

local function connection(state, s)
  local dir = M.dir(state)
  local keys = auth.read_keys(dir .. "/credentials")
    or fail { kind = "auth", code = "LocalCloud",
      message = dir .. "/credentials is missing or damaged",
      hint = "hgauto local down --wipe" }
  return { endpoint_url = s.endpoint, access_key_id = keys.access_key_id,
    secret_access_key = keys.secret_access_key, region = M.region, pid = s.pid,
    ctl = dir .. "/ctl.sock", id = s.id, api_only = s.api_only, net = s.net, state = state }
end

-- ---- starting ----

local function executable()
  local path = fs.readlink("/proc/self/exe")
  if path:match(" %(deleted%)$") then
    return ("/proc/%d/exe"):format(host.pid())
  end
  return path
end

-- Where the policy of the daemon that is being started lies.
local function policy_path(state)
  return M.dir(state) .. "/policy.json"
end

local PASSED = { "listen", "hold", "page_size", "idle", "delays" }

local function arguments(opts)
  local out = { executable() }
  for _, word in ipairs { "--state-path", opts.state, "local", "up", "--foreground" } do
    out[#out + 1] = word
  end
  for _, name in ipairs(PASSED) do
    if opts[name] ~= nil then
      out[#out + 1] = "--" .. name:gsub("_", "-")
      out[#out + 1] = tostring(opts[name])
    end
  end
  if opts.net then
    out[#out + 1] = "--net"
  end
  for _, port in ipairs(opts.host_port or {}) do
    out[#out + 1] = "--host-port=" .. port
  end
  if opts.api_only then
    out[#out + 1] = "--api-only"
  end
  if opts.policy then
    out[#out + 1] = "--policy"
    out[#out + 1] = policy_path(opts.state)
  end
  return out
end

-- The daemon needs nobody's cloud credentials.
local ENV = { AWS_ACCESS_KEY_ID = false, AWS_SECRET_ACCESS_KEY = false, AWS_SESSION_TOKEN = false }

-- Own session and log file, so that the daemon outlives this process and its
-- terminal.  What we hold is setsid, which waits for it and tells its exit.
local function spawn(opts, log_path)
  local argv = { "sh", "-c", 'exec >>"$0" 2>&1 </dev/null; exec setsid --fork --wait "$@"',
    log_path }
  for _, word in ipairs(arguments(opts)) do
    argv[#argv + 1] = word
  end
  return require("hgauto.proc").spawn(argv, { cwd = "/", env = ENV, stdout = "null",
    stderr = "null", timeout = 0 })
end

local function tail(path, from)
  if not fs.exists(path) then
    return ""
  end
  local text = fs.read(path):sub(from + 1)
  local last = ""
  for line in text:gmatch("[^\n]+") do
    last = line:match("^hgauto: (.*)") or last
  end
  return last ~= "" and last or text:match("([^\n]+)\n*$") or ""
end

-- Starts one while this process holds the right to; others wait and then find it.
local function start(opts)
  local dir = M.dir(opts.state)
  fs.mkdir(dir, { parents = true, mode = 448 })
  local _right <close> = fs.lock(dir .. "/start.lock", { wait = START_SECONDS })
  local s = M.status { state = opts.state }
  if s then
    return s
  end
  if opts.policy then
    fs.write(policy_path(opts.state), opts.policy, { atomic = true, mode = 384 })
  end
  local log_path = dir .. "/daemon.log"
  local from = fs.exists(log_path) and fs.stat(log_path).size or 0
  local p <close> = spawn(opts, log_path)
  local limit = time.mono() + START_SECONDS
  repeat
    local ended = not p:running()
    s = M.status { state = opts.state, timeout = 2 }
    if s then
      return s
    end
    async.sleep(0.02)
  until ended or time.mono() > limit
  fail { kind = "io", code = "LocalCloud",
    message = "the local cloud did not start: " .. tail(log_path, from),
    hint = "see " .. log_path .. ", or try: hgauto local doctor" }
end

--- The local cloud of a state directory, started when absent.
-- @param opts.state string state directory
-- @param opts.progress function(text)|nil told when a daemon is started
-- @param opts.policy string|nil JSON that was checked: what callers may do
-- @param opts.api_only boolean|nil further options as of `local up`
-- @return {endpoint_url, access_key_id, secret_access_key, region, pid, ctl, id, api_only, net}
-- @waits
function M.ensure(opts)
  local s = M.status { state = opts.state }
  if not s then
    s = start(opts)
    if opts.progress then
      opts.progress(("local cloud started: %s"):format(s.endpoint))
    end
  end
  return connection(opts.state, s)
end

--- Tells lines about slow work of the daemon (base images) until cancelled.
-- Meant to be spawned beside whatever waits for an instance.
-- @param opts.state string
-- @param opts.progress function(text)
-- @waits
function M.watch(opts)
  local last = M.ask(opts.state, "GET", "progress?after=0", 30).last
  while true do
    local r = M.ask(opts.state, "GET", "progress?after=" .. last, 30)
    for _, line in ipairs(r.lines) do
      opts.progress(line)
    end
    last = r.last
  end
end

--- Instances as the daemon sees them; empty when none runs.
-- @param opts.state string
-- @return table[]
-- @waits
function M.instances(opts)
  if not M.status(opts) then
    return {}
  end
  return M.ask(opts.state, "GET", "instances").instances
end

--- Runs a command in an instance through its agent, without SSH.
-- @param opts.state string
-- @param opts.id string instance
-- @param opts.argv string[]
-- @param opts.user string|nil default root
-- @param opts.stdin string|nil
-- @param opts.timeout number|nil seconds, default 3600
-- @return {code=integer, signal=integer, out=string, err=string, truncated=boolean}
-- @waits
function M.exec(opts)
  local crypto = require "hgauto.crypto"
  local seconds = opts.timeout or 3600
  local r = M.ask(opts.state, "POST", "exec", seconds + 10, { id = opts.id, argv = opts.argv,
    user = opts.user or "root", timeout = seconds,
    stdin = opts.stdin and crypto.base64(opts.stdin) })
  r.out, r.err = crypto.unbase64(r.out), crypto.unbase64(r.err)
  return r
end

local function need_daemon(state)
  if not M.status { state = state } then
    fail { kind = "net", code = "LocalCloud", message = "the local cloud is not running",
      hint = "hgauto local up" }
  end
end

--- Fault rules of the running daemon.
-- @param opts.state string
-- @return table[] rules with what they have seen and done
-- @raise net when none runs
-- @waits
function M.faults(opts)
  need_daemon(opts.state)
  return M.ask(opts.state, "GET", "faults").rules
end

--- Adds fault rules to the running daemon: one or a list, all or none.
-- @param opts.state string
-- @param opts.rules table
-- @return string[] ids
-- @raise usage what is wrong with a rule
-- @waits
function M.add_faults(opts)
  need_daemon(opts.state)
  return M.ask(opts.state, "POST", "faults", nil, opts.rules).ids
end

--- Removes one fault rule, or all.
-- @param opts.state string
-- @param opts.id string|nil
-- @return integer how many were removed
-- @waits
function M.clear_faults(opts)
  need_daemon(opts.state)
  return M.ask(opts.state, "DELETE", "faults" .. (opts.id and "?id=" .. opts.id or "")).removed
end

--- Stops the daemon and with it all instances.
-- @param opts.state string
-- @return boolean false when none ran
-- @waits
function M.stop(opts)
  -- A daemon on a busy machine gets as long to answer as it gets to stop.
  if not M.status { state = opts.state, timeout = STOP_SECONDS } then
    return false
  end
  M.ask(opts.state, "POST", "stop", STOP_SECONDS)
  local ok, held = pcall(fs.lock, M.dir(opts.state) .. "/daemon.lock", { wait = STOP_SECONDS })
  if not ok and held.code == "Locked" then
    fail { kind = "timeout", code = "LocalCloud", cause = held,
      message = ("the local cloud did not stop within %d s"):format(STOP_SECONDS) }
  elseif not ok then
    error(held, 0)
  end
  held:close()
  return true
end

return M
