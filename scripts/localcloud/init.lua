-- The local cloud's daemon: an AWS-compatible API on loopback, a control socket,
-- and the tasks of its instances.  One per state directory.

local async = require "hgauto.async"
local auth = require "localcloud.auth"
local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local log = require "hgauto.log"
local machines = require "localcloud.machines"
local network = require "localcloud.ec2.network"
local reaper = require "localcloud.reaper"
local state = require "localcloud.state"
local time = require "hgauto.time"
local wire = require "localcloud.wire"

local M = {}

--- Where the API listens unless told otherwise.
M.address, M.port = "127.0.0.1", 4566

local PORT_TRIES = 100
local JOURNAL_MAX = 16 << 20
local SWEEP_SECONDS = 60
local PROGRESS_LINES = 50

local Daemon = {}
Daemon.__index = Daemon

-- ---- services ----

local function merge_ops(...)
  local out = {}
  for _, name in ipairs { ... } do
    for op, def in pairs(require(name).ops) do
      out[op] = def
    end
  end
  return out
end

-- Emulated services by signing name; protocols decide the form of answers.
local SERVICES = {
  ec2 = { protocol = "ec2", ops = merge_ops("localcloud.ec2.instances", "localcloud.ec2.images",
    "localcloud.ec2.keys", "localcloud.ec2.groups", "localcloud.ec2.tags",
    "localcloud.ec2.volumes", "localcloud.ec2.network", "localcloud.ec2.types") },
  sts = { protocol = "query", ops = merge_ops("localcloud.sts") },
}

local FAMILIES = { ec2 = "ec2", query = "query", json = "json" }
local VERSIONS = { ["2016-11-15"] = "ec2", ["2011-06-15"] = "sts", ["2010-05-08"] = "iam" }

-- Form of the errors of services that are not emulated.
local OTHERS = { iam = "query", ssm = "json", pricing = "json", logs = "json", lambda = "json" }

local function family_of(service)
  local known = SERVICES[service]
  return known and FAMILIES[known.protocol] or OTHERS[service] or "ec2"
end

-- Waits for an event; false when it did not come within the seconds.
local function wait_at_most(event, seconds)
  local ok, e = pcall(event.wait, event, seconds)
  if not ok and e.kind ~= "timeout" then
    error(e, 0)
  end
  return ok
end

-- ---- request context ----

local Context = {}
Context.__index = Context

--- The end of a handler's checks: a dry run stops here.
function Context:checked()
  if self.params.DryRun then
    errors.raise("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
  end
end

--- Runs after the handler's changes are stored.
function Context:after_commit(fn)
  self.later[#self.later + 1] = fn
end

--- Options for describe.page.
function Context:paging(params, ids)
  return { op = self.op_name, params = params, ids = ids, secret = self.S.secret,
    size = self.d.page_size }
end

--- Waits until `moving` says no, at most the hold time.
function Context:hold(moving)
  local ends = time.mono() + self.d.hold
  while moving() do
    local left = ends - time.mono()
    if left <= 0 then
      return
    end
    wait_at_most(self.d.machines.changed, left)
  end
end

--- Applies a group's new rules to running machines once they are stored.
function Context:groups_changed(group_id)
  self:after_commit(function()
    self.d.machines:apply_rules(self.region, group_id)
  end)
end

-- ---- the request pipeline ----

-- Loopback peers that name us: no page of a browser gets through by DNS tricks.
local function from_here(d, req)
  if not (req.peer or ""):match("^127%.") then
    return false
  end
  local host = (req.headers.host or ""):gsub(":%d+$", ""):lower()
  return host == "127.0.0.1" or host == "localhost" or host:match("%.localhost$")
    or host == d.host
end

-- Parameters of body and query, without those of a presigned URL.
local function parameters(req)
  local list = {}
  for _, kv in ipairs(wire.parse_form(req.query or "")) do
    if not kv[1]:match("^X%-Amz%-") then
      list[#list + 1] = kv
    end
  end
  if req.method == "POST" then
    for _, kv in ipairs(wire.parse_form(req.body or "")) do
      list[#list + 1] = kv
    end
  end
  return list
end

local function find(list, name)
  for _, kv in ipairs(list) do
    if kv[1] == name then
      return kv[2]
    end
  end
end

-- The service a request is for, before anything is verified.
local function claimed_service(req, list)
  local claim = auth.parse(req)
  if claim then
    return claim.service
  end
  local target = req.headers["x-amz-target"]
  if target then
    return target:match("^AmazonSSM%.") and "ssm" or target:match("^AWSPriceList") and "pricing"
      or "logs"
  end
  return VERSIONS[find(list, "Version") or ""] or "ec2"
end

local function model_op(svc, name, service)
  local ok, op = pcall(svc.op, name)
  if not ok or not op then
    errors.raise("InvalidAction", "The action %s is not valid for this web service.", name)
  end
  if not SERVICES[service].ops[name] then
    errors.raise("UnsupportedOperation", "hgauto local cloud: %s:%s is not emulated", service,
      name)
  end
  return op, SERVICES[service].ops[name]
end

local function decode(ctx, list)
  local service = ctx.service
  if not SERVICES[service] then
    errors.raise("UnsupportedOperation", "hgauto local cloud: the service %s is not emulated",
      service)
  elseif not network.region_known(ctx.region) then
    errors.raise("UnsupportedOperation", "hgauto local cloud: the region %s is not emulated",
      ctx.region)
  end
  local name = ctx.op_name
  if not name or name == "" then
    errors.raise("MissingAction", "The request must contain the parameter Action")
  end
  local svc = require("hgauto.aws.model").service(service)
  local version = find(list, "Version")
  if version and version ~= svc.api_version then
    errors.raise("NoSuchVersion", "The requested version (%s) of service %s does not exist",
      version, service)
  end
  local op, def = model_op(svc, name, service)
  ctx.params = wire.decode(op, list, svc.protocol)
  local refused = wire.not_accepted(setmetatable({ DryRun = true }, { __index = def.accept }),
    ctx.params)
  if refused then
    errors.raise("UnsupportedOperation", "hgauto local cloud: %s:%s parameter %s is not emulated",
      service, name, refused)
  end
  ctx.secret_params = def.secret
  return svc, op, def
end

local function execute(ctx, list)
  local svc, op, def = decode(ctx, list)
  if def.before then
    -- The only place where a request may wait.
    def.before(ctx, ctx.params)
  end
  local result = def.run(ctx, ctx.params)
  ctx.S:commit()
  if ctx.later[1] then
    -- What follows a stored change must not stop because the client leaves.
    async.shield(30, function()
      for _, fn in ipairs(ctx.later) do
        fn()
      end
    end)
  end
  return wire.encode(svc, op, result, ctx.request_id)
end

-- What the caller is told of an error that is not a refusal.
local function as_refusal(ctx, e)
  if errors.is(e) then
    return e
  end
  log.error("%s:%s: %s%s", ctx.service, ctx.op_name or "?", tostring(e),
    type(e) == "table" and e.traceback and "\n" .. e.traceback or "")
  return errors.new("InternalError", "An internal error has occurred: " .. tostring(e), 500)
end

local function new_context(d, req, list)
  return setmetatable({ d = d, S = d.S, account = auth.account, later = {}, params = {},
    request_id = crypto.uuid(), started = time.mono(), req = req,
    endpoint_host = ("%s:%d"):format(d.host, d.listening or 0), op_name = find(list, "Action"),
    service = claimed_service(req, list) }, Context)
end

local function verify(ctx, req, family)
  local claim = auth.verify(req, { keys = ctx.d.keys, now = ctx.d.now(), family = family,
    service = ctx.service })
  ctx.region, ctx.access_key = claim.region, claim.access_key
end

--- Answers one API request; waits only where a Describe is held.
-- @param req table method, path, query, headers, raw_headers, body
-- @return integer status, table headers, string body
function Daemon:api(req)
  local ok, list = pcall(parameters, req)
  local ctx = new_context(self, req, ok and list or {})
  local family = family_of(ctx.service)
  local good, body, content_type
  if not ok then
    good, body = false, list
  elseif not from_here(self, req) then
    good, body = false, errors.new("InvalidRequest",
      "The local cloud answers requests of this machine, addressed to it, only")
  else
    good, body, content_type = pcall(function()
      verify(ctx, req, family)
      return execute(ctx, list)
    end)
  end
  local status, headers = 200, {}
  if not good then
    local e = body
    self.S:rollback()
    if type(e) == "table" and e.kind == "cancelled" then
      error(e, 0)
    end
    e = as_refusal(ctx, e)
    body, content_type, headers = wire.encode_error(family, e, ctx.request_id)
    status, ctx.code = e.status, e.code
  end
  headers["content-type"], headers["x-amzn-requestid"] = content_type, ctx.request_id
  self:journal(ctx, status)
  return status, headers, body
end

-- ---- journal ----

local function redacted(ctx)
  local out = {}
  for k, v in pairs(ctx.params) do
    out[k] = ctx.secret_params and ctx.secret_params[k] and "***" or v
  end
  return out
end

--- Appends one line about a request to requests.jsonl.
function Daemon:journal(ctx, status)
  local path = self.dir .. "/requests.jsonl"
  local line = json.encode { time = time.iso(time.now(), { ms = true }), id = ctx.request_id,
    service = ctx.service, region = ctx.region, action = ctx.op_name, params = redacted(ctx),
    attempt = ctx.req.headers["amz-sdk-request"], status = status, code = ctx.code,
    ms = math.floor((time.mono() - ctx.started) * 1000 + 0.5) }
  local ok, e = pcall(function()
    if not self.journal_size then
      self.journal_size = fs.exists(path) and fs.stat(path).size or 0
    end
    if self.journal_size > JOURNAL_MAX then
      fs.rename(path, path .. ".1")
      self.journal_size = 0
    end
    fs.append(path, log.redact(line) .. "\n")
    self.journal_size = self.journal_size + #line + 1
  end)
  if not ok then
    log.warn("journal: %s", tostring(e))
  end
end

-- ---- control ----

--- What `hgauto local status` shows.
function Daemon:status()
  local counts = {}
  for _, instance in ipairs(self.S:list("instance")) do
    if not instance.hidden then
      counts[instance.state] = (counts[instance.state] or 0) + 1
    end
  end
  return { pid = require("hgauto.host").pid(), endpoint = self.endpoint, id = self.id,
    started = self.started, api_only = self.api_only, tier = self.tier or nil, counts = counts,
    live = self.machines:live_count(), idle_seconds = math.floor(self:idle_for()),
    leaves_after = self.idle, busy_with = self.progress_text }
end

local function instance_row(instance)
  return { id = instance.id, state = instance.state, region = instance.region,
    type = instance.type, image = instance.image, user =
      require("localcloud.ec2.images").get(instance.image).user,
    address = instance.public_ip, private_ip = instance.private_ip, key = instance.key,
    public_key = instance.public_key, host_key = instance.host_public,
    ssh_port = tonumber(instance.tags["hgauto:ssh-port"]), name = instance.tags.Name,
    launched = instance.launched / 1000, reason = instance.reason and instance.reason.message }
end

local control = {}

control["GET /_hgauto/status"] = function(d)
  return d:status()
end

control["GET /_hgauto/instances"] = function(d)
  local out = {}
  for _, instance in ipairs(require("localcloud.ec2.describe").sort(d.S:list("instance"))) do
    if not instance.hidden then
      out[#out + 1] = instance_row(instance)
    end
  end
  return { instances = json.list(out) }
end

-- Long poll for lines about slow work: ?after=N, answers at once when there are.
control["GET /_hgauto/progress"] = function(d, req)
  local after = math.tointeger(tonumber((req.query or ""):match("after=(%d+)"))) or 0
  if d.progress_seq <= after then
    wait_at_most(d.progress_event, 20)
  end
  local lines = {}
  for _, line in ipairs(d.progress_lines) do
    if line[1] > after then
      lines[#lines + 1] = line[2]
    end
  end
  return { last = d.progress_seq, lines = json.list(lines) }
end

control["POST /_hgauto/stop"] = function(d)
  d.stop_wanted:set(true)
  return { stopping = true, pid = require("hgauto.host").pid() }
end

--- Answers one request on the control socket.
function Daemon:control(req)
  local fn = control[req.method .. " " .. req.path]
  if not fn then
    return 404, { ["content-type"] = "application/json" },
      json.encode { error = "no such control function" }
  end
  return 200, { ["content-type"] = "application/json" }, json.encode(fn(self, req))
end

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
  local d = setmetatable({ dir = dir, api_only = opts.api_only or false, now = time.now,
    hold = opts.hold or 2, page_size = opts.page_size or 1000, idle = opts.idle or 900,
    started = time.iso(time.now()), last_use = time.mono(), progress_seq = 0,
    progress_lines = {}, progress_event = async.event(), stop_wanted = async.event(),
    tier_known = async.event() }, Daemon)
  d.S = state.open(st:db("local/cloud"))
  d.id = d.S.cloud_id
  local keys = auth.ensure_keys(dir .. "/credentials")
  d.keys = { [keys.access_key_id] = { secret = keys.secret_access_key } }
  log.secret(keys.secret_access_key)
  return d
end

local DELAYS = { pending = 0.05, stopping = 0.05, ["shutting-down"] = 0.05 }

local function add_machines(d, opts, s)
  local delays = {}
  for name, seconds in pairs(DELAYS) do
    delays[name] = opts.delays and opts.delays[name] or seconds
  end
  d.machines = machines.new { S = d.S, dir = d.dir, pool = network.pool(time.mono),
    api_only = d.api_only, delays = delays,
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
  if found.instances > 0 then
    log.warn("reaper: %d instances of an earlier daemon ended with it", found.instances)
  end
  local server <close> = require("hgauto.httpd").new {
    on_request = function(req)
      if req.tag == "ctl" then
        local status, headers, body = d:control(req)
        req:respond { status = status, headers = headers, body = body }
        return
      end
      d.last_use = time.mono()
      local status, headers, body = d:api(req)
      req:respond { status = status, headers = headers, body = body }
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
-- @param opts.delays table|nil seconds per state in api-only mode
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
