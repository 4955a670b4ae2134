-- One API request from its bytes to its answer: who asks, what for, the checks,
-- the change in one transaction, faults on the way, the line in the journal.
-- Local cloud specification, section 4.1.

local async = require "hgauto.async"
local auth = require "localcloud.auth"
local authorize = require "localcloud.authorize"
local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local log = require "hgauto.log"
local network = require "localcloud.ec2.network"
local services = require "localcloud.services"
local time = require "hgauto.time"
local wire = require "localcloud.wire"

local M = {}

local JOURNAL_MAX = 16 << 20

--- Waits for an event; false when it did not come within the seconds.
-- @waits
function M.wait_at_most(event, seconds)
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
    M.wait_at_most(self.d.machines.changed, left)
  end
end

--- Applies a group's new rules to running machines once they are stored.
function Context:groups_changed(group_id)
  self:after_commit(function()
    self.d.machines:apply_rules(self.region, group_id)
  end)
end

-- ---- the pipeline ----

-- Loopback peers that name us: no page of a browser gets through by DNS tricks.
local function from_here(d, req)
  if not (req.peer or ""):match("^127%.") then
    return false
  end
  local host = (req.headers.host or ""):gsub(":%d+$", ""):lower()
  return host == "127.0.0.1" or host == "localhost" or host:match("%.localhost$")
    or host == d.host
end

-- The key that a request names: the lasting one or a temporary one.
local function keys_of(d)
  return setmetatable({}, { __index = function(_, id)
    return d.keys[id] or d.S:get("session", "global", id)
  end })
end

local function verify(ctx, req)
  local claim = auth.verify(req, { keys = keys_of(ctx.d), now = ctx.d.now(), family = ctx.family,
    service = ctx.service })
  ctx.region, ctx.access_key = claim.region, claim.access_key
  ctx.session = ctx.S:get("session", "global", claim.access_key)
  if not network.region_known(ctx.region) then
    errors.raise("UnsupportedOperation", "hgauto local cloud: the region %s is not emulated",
      ctx.region)
  end
end

local function execute(ctx, list)
  local svc, op, def = services.decode(ctx, list)
  local faults = ctx.d.faults
  faults:before(ctx)
  if ctx.effect then
    return ""
  end
  if ctx.d.policy then
    authorize.check(ctx)
  end
  if def.before then
    -- The only place where a request may wait.
    def.before(ctx, ctx.params)
  end
  ctx.S:begin()
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
  faults:after(ctx, result)
  return services.encode(svc, op, result, ctx.request_id)
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
  local service = services.claimed(req, list)
  local ctx = setmetatable({ d = d, S = d.S, account = auth.account, later = {}, params = {},
    request_id = crypto.uuid(), started = time.mono(), req = req, service = service,
    family = services.family(service),
    endpoint_host = ("%s:%d"):format(d.host, d.listening or 0) }, Context)
  ctx.op_name, ctx.uri = services.operation(service, req, list)
  return ctx
end

local function refusal(ctx, e)
  ctx.S:rollback()
  if type(e) == "table" and e.kind == "cancelled" then
    error(e, 0)
  end
  e = as_refusal(ctx, e)
  ctx.code = e.code
  local body, content_type, headers = wire.encode_error(ctx.family, e, ctx.request_id)
  if e.body then
    -- A fault that answers with something else than the service's form.
    body, content_type = e.body, e.content_type
  end
  return e.status, headers, body, content_type
end

--- Answers one API request; waits only where a Describe is held or a fault
-- delays.
-- @param d Daemon
-- @param req table method, path, query, headers, raw_headers, body
-- @return {status, headers, body, effect} effect: a fault of the transport
function M.answer(d, req)
  local ok, list = pcall(services.pairs_of, req)
  local ctx = new_context(d, req, ok and list or {})
  local good, body, content_type, headers, status
  if not ok then
    good, body = false, list
  elseif not from_here(d, req) then
    good, body = false, errors.new("InvalidRequest",
      "The local cloud answers requests of this machine, addressed to it, only")
  else
    good, body, content_type, headers, status = pcall(function()
      verify(ctx, req)
      return execute(ctx, list)
    end)
  end
  if not good then
    status, headers, body, content_type = refusal(ctx, body)
  end
  status, headers = status or 200, headers or {}
  headers["content-type"], headers["x-amzn-requestid"] = content_type, ctx.request_id
  M.journal(ctx, status)
  return { status = status, headers = headers, body = body, effect = ctx.effect }
end

-- ---- journal ----

local function redacted(ctx)
  local out = {}
  for k, v in pairs(ctx.params) do
    out[k] = ctx.secret_params and ctx.secret_params[k] and "***" or v
  end
  return out
end

local function append(d, line)
  local path = d.dir .. "/requests.jsonl"
  if not d.journal_size then
    d.journal_size = fs.exists(path) and fs.stat(path).size or 0
  end
  if d.journal_size > JOURNAL_MAX then
    fs.rename(path, path .. ".1")
    d.journal_size = 0
  end
  fs.append(path, log.redact(line) .. "\n")
  d.journal_size = d.journal_size + #line + 1
end

--- Appends one line about a request to requests.jsonl.
function M.journal(ctx, status)
  local ok, e = pcall(function()
    append(ctx.d, json.encode { time = time.iso(time.now(), { ms = true }), id = ctx.request_id,
      service = ctx.service, region = ctx.region, action = ctx.op_name, params = redacted(ctx),
      attempt = ctx.req.headers["amz-sdk-request"], allowed = ctx.allowed, status = status,
      code = ctx.code, fault = ctx.fault,
      ms = math.floor((time.mono() - ctx.started) * 1000 + 0.5) })
  end)
  if not ok then
    log.warn("journal: %s", tostring(e))
  end
end

return M
