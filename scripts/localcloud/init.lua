-- The local cloud's daemon: an AWS-compatible API on loopback, a control socket,
-- and the tasks of its instances.  One per state directory.

local async = require "hgauto.async"
local auth = require "localcloud.auth"
local commands = require "localcloud.ssm.commands"
local control = require "localcloud.control"
local faults = require "localcloud.faults"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local log = require "hgauto.log"
local machines = require "localcloud.machines"
local network = require "localcloud.ec2.network"
local reaper = require "localcloud.reaper"
local requests = require "localcloud.requests"
local state = require "localcloud.state"
local time = require "hgauto.time"

local M = {}

--- Where the API listens unless told otherwise.
M.address, M.port = "127.0.0.1", 4566

local PORT_TRIES = 100
local SWEEP_SECONDS = 60
local PROGRESS_LINES = 50

local Daemon = {}
Daemon.__index = Daemon

-- ---- life ----

--- Notes a line about slow work; shown by clients that wait.
function Daemon:progress(text)
  self.progress_text = text
  self.progress_seq = self.progress_seq + 1
  local lines = self.progress_lines
  lines[#lines + 1] = { self.progress_seq, text }
  if #lines > PROGRESS_LINES then
    table.remove(lines, 1)
  end
  local old = self.progress_event
  self.progress_event = async.event()
  old:set(true)
  log.info("%s", text)
end

--- Seconds since the last request or the last live instance.
function Daemon:idle_for()
  if self.machines:live_count() > 0 then
    self.last_use = time.mono()
  end
  return time.mono() - self.last_use
end

--- Finds out, once, which tier instances can run in: self.tier is its name or
-- false.  Who asks while that goes on waits for it.
-- @waits
function Daemon:find_tier()
  if self.tier == nil then
    self.tier_known:wait()
  end
end

local function probe(d)
  local ok, found = pcall(require("hgauto.box").probe, d.dir)
  if not ok then
    log.warn("probing this host: %s", tostring(found))
  end
  d.tier = ok and found.tier ~= "none" and found.tier
  for _, line in ipairs(ok and found.lines or {}) do
    if not line.ok and not d.tier_reason then
      d.tier_reason = ("%s: %s"):format(line.name, line.text or "failed")
    end
  end
  d.tier_known:set(true)
end

local function janitor(d)
  while true do
    async.sleep(math.min(SWEEP_SECONDS, math.max(d.idle / 4, 0.05)))
    reaper.sweep(d.S)
    if d:idle_for() > d.idle then
      log.info("nothing to do for %d seconds, leaving", d.idle)
      d.stop_wanted:set(true)
      return
    end
  end
end

-- Every task of the daemon: its failure is logged and stays its own.
local function guarded(fn)
  return function()
    local ok, e = pcall(fn)
    if not ok and not (type(e) == "table" and e.kind == "cancelled") then
      log.error("%s%s", tostring(e), type(e) == "table" and e.traceback and "\n" .. e.traceback
        or "")
    end
  end
end

local function loopback(host)
  return host == "localhost" or host:match("^127%.%d+%.%d+%.%d+$") ~= nil
end

--- Reads HOST:PORT, HOST or :PORT.
-- @param text string|nil
-- @return string host, integer|nil port, boolean whether a port was named
function M.parse_listen(text)
  local host, port = (text or ""):match("^([^:]*):?(%d*)$")
  host = host ~= "" and host or M.address
  if not host or not loopback(host) then
    require("hg").fail { kind = "usage",
      message = ("--listen %s: the local cloud listens on loopback only"):format(tostring(text)) }
  end
  return host, math.tointeger(tonumber(port)) or M.port, port ~= ""
end

-- The wanted port, or when none was named the next free one.
local function listen(server, opts)
  local host, port, named = M.parse_listen(opts.listen)
  for try = 0, named and 0 or PORT_TRIES - 1 do
    local ok, got = pcall(server.listen, server, { host = host, port = port + try, tag = "api" })
    if ok then
      return host, got
    elseif got.kind == "cancelled" or try == PORT_TRIES - 1 or named then
      error(got, 0)
    end
  end
end

local function ensure_dirs(dir)
  for _, name in ipairs { "", "/images", "/instances", "/volumes" } do
    fs.mkdir(dir .. name, { parents = true, mode = 448 })
  end
end

local function open_store(opts)
  local st = require("hgauto.state").open(opts.state, { create = true })
  local dir = st.path .. "/local"
  ensure_dirs(dir)
  return st, dir
end

-- Waits a little: an earlier daemon may be about to end.
local function lock(dir)
  local ok, held = pcall(fs.lock, dir .. "/daemon.lock", { wait = 3 })
  if ok then
    return held
  elseif held.code ~= "Locked" then
    error(held, 0)
  end
  require("hg").fail { kind = "exists", code = "Running",
    message = "another local cloud runs on " .. dir }
end

local function new_daemon(opts, st, dir)
  local rules = faults.new()
  local d = setmetatable({ dir = dir, api_only = opts.api_only or false, faults = rules,
    policy = opts.policy,
    now = function()
      return time.now() + rules.clock
    end,
    hold = opts.hold or 2, page_size = opts.page_size or 1000, idle = opts.idle or 900,
    started = time.iso(time.now()), last_use = time.mono(), progress_seq = 0,
    progress_lines = {}, commands = {}, progress_event = async.event(), stop_wanted = async.event(),
    tier_known = async.event() }, Daemon)
  d.S = state.open(st:db("local/cloud"))
  d.id = d.S.cloud_id
  local keys = auth.ensure_keys(dir .. "/credentials")
  d.keys = { [keys.access_key_id] = { secret = keys.secret_access_key } }
  log.secret(keys.secret_access_key)
  return d
end

local DELAYS = { pending = 0.05, stopping = 0.05, ["shutting-down"] = 0.05, windows = 1 }

local function add_machines(d, opts, s)
  local delays = {}
  for name, seconds in pairs(DELAYS) do
    delays[name] = opts.delays and opts.delays[name] or seconds
  end
  local pool = network.pool(time.mono)
  require("localcloud.ec2.addresses").claim(d.S, pool)
  d.machines = machines.new { S = d.S, dir = d.dir, pool = pool,
    api_only = d.api_only, delays = delays, faults = d.faults, host_ports = opts.host_ports,
    net = opts.net or #(opts.host_ports or {}) > 0,
    spawn = function(fn)
      return s:spawn(guarded(fn))
    end,
    progress = function(text)
      d:progress(text)
    end }
end

local function serve(d, opts, s, ready)
  add_machines(d, opts, s)
  local found = reaper.run(d.machines)
  commands.bury(d.S)
  if found.instances > 0 then
    log.warn("reaper: %d instances of an earlier daemon ended with it", found.instances)
  end
  local server <close> = require("hgauto.httpd").new {
    on_request = function(req)
      if req.tag == "ctl" then
        req:respond(control.answer(d, req))
        return
      end
      d.last_use = time.mono()
      faults.send(req, requests.answer(d, req))
    end,
  }
  pcall(fs.remove, d.dir .. "/ctl.sock")
  d.host, d.listening = listen(server, opts)
  d.endpoint = ("http://%s:%d"):format(d.host, d.listening)
  fs.write(d.dir .. "/daemon.json", json.encode { pid = require("hgauto.host").pid(),
    endpoint = d.endpoint, started = d.started, id = d.id } .. "\n", { atomic = true })
  server:listen { unix = d.dir .. "/ctl.sock", mode = 384, tag = "ctl" }
  s:spawn(guarded(function()
    janitor(d)
  end))
  if not d.api_only then
    s:spawn(guarded(function()
      probe(d)
    end))
  end
  if ready then
    ready(d)
  end
  d.stop_wanted:wait()
end

local STOP = setmetatable({}, { __tostring = function()
  return "the local cloud stops"
end })

--- Does what a daemon does before it listens, without one.
-- @param opts.state string state directory
-- @return {instances=number, dirs=number}
function M.reap(opts)
  local st, dir = open_store(opts)
  local _held <close> = lock(dir)
  local d = new_daemon(opts, st, dir)
  add_machines(d, opts, nil)
  local result = reaper.run(d.machines)
  d.S:close()
  return result
end

--- Runs the daemon until it is stopped, idle for long enough or cancelled.
-- @param opts.state string state directory
-- @param opts.listen string|nil HOST:PORT
-- @param opts.api_only boolean instances are state machines without a box
-- @param opts.hold number|nil seconds a Describe waits for a change, default 2
-- @param opts.page_size integer|nil default page size
-- @param opts.idle number|nil seconds after which an unused daemon leaves
-- @param opts.delays table|nil seconds per state in api-only mode, and "windows": seconds from
--   running to ready of a simulated Windows, default 1
-- @param opts.net boolean|nil instances reach the network through this host
-- @param opts.host_ports integer[]|nil ports of the host's loopback that instances
--   reach at 172.31.0.1
-- @param opts.policy table|nil of localcloud.policy: what callers may do, else everything
-- @param opts.on_ready function(d)|nil called once everything listens
-- @raise exists (Running) when another daemon has the directory
-- @waits
function M.run(opts)
  local st, dir = open_store(opts)
  local _held <close> = lock(dir)
  local d = new_daemon(opts, st, dir)
  local _d <close> = async.defer(function()
    if d.machines then
      d.machines:bury(machines.reasons.supervisor)
    end
    for _, name in ipairs { "daemon.json", "ctl.sock" } do
      if fs.exists(dir .. "/" .. name) then
        fs.remove(dir .. "/" .. name)
      end
    end
    d.S:close()
  end)
  local ok, e = pcall(async.scope, function(s)
    serve(d, opts, s, opts.on_ready)
    error(STOP, 0)
  end)
  if not ok and e ~= STOP then
    error(e, 0)
  end
end

return M
