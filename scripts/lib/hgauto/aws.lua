--- AWS clients: every operation of a service as a method that waits.
--
-- C half: hgauto.aws.core (requests, retries, answers).  Here: the client
-- object, automatic paging, waiters, hooks, and what creating calls need for
-- the ledger (aws/gate.lua).  Names and parameters are AWS's own.
local async = require "hgauto.async"
local core = require "hgauto.aws.core"
local crypto = require "hgauto.crypto"
local host = require "hgauto.host"
local json = require "hgauto.json"
local time = require "hgauto.time"
local gate = require "hgauto.aws.gate"
local paging = require "hgauto.aws.paging"

local M = {}

local function fail(kind, code, fmt, ...)
  error(host.error { kind = kind, code = code, message = fmt:format(...) }, 0)
end

-- Private parts of clients: { core, opts, service, ops, hooks, meta }.
local priv = setmetatable({}, { __mode = "k" })
local defaults = {}
local metas = core.metas()
-- Private parts by their core client, which is what metas has for an error.
local owners = setmetatable({}, { __mode = "kv" })

local DEFAULTS = {
  endpoint_url = true, region = true, profile = true, credentials = true, only_endpoint = true,
  patient = true,
}

-- Credentials leave Lua at once.
local function take_credentials(opts)
  if type(opts.credentials) == "table" then
    opts.credentials = core.credentials(opts.credentials)
  end
end

local function take_cache(opts)
  local cache = opts.credential_cache
  if cache ~= nil and cache ~= "on" and cache ~= "off" then
    fail("usage", nil, "aws.client: credential_cache must be \"on\" or \"off\"")
  end
  opts.credential_cache = nil
  opts.no_credential_cache = cache == "off" or opts.no_credential_cache or nil
end

--- Sets options that all clients made afterwards have unless they give their own.
-- @param opts.region string
-- @param opts.profile string
-- @param opts.endpoint_url string
-- @param opts.credentials table access_key_id, secret_access_key, session_token
-- @param opts.patient boolean throttled requests are repeated until the call's time is over
-- @param opts.only_endpoint boolean nothing but endpoint_url may be talked to from now on
-- @raise usage unknown key
function M.defaults(opts)
  for key, value in pairs(opts) do
    if not DEFAULTS[key] then
      fail("usage", nil, "aws.defaults: unknown option %s", tostring(key))
    end
    defaults[key] = value
  end
  take_credentials(defaults)
  if opts.only_endpoint ~= nil then
    core.only(opts.only_endpoint and defaults.endpoint_url or nil)
  end
end

-- ---- hooks ---------------------------------------------------------------

local function run_hooks(p, event, ctx)
  for _, fn in ipairs(p.hooks[event]) do
    local stub = fn(ctx)
    if stub ~= nil and event == "before_call" then
      return stub
    end
  end
  return nil
end

-- ---- customisations of single operations --------------------------------

local CUSTOM = {
  ["ec2:GetConsoleOutput"] = function(r)
    if r.Output then
      r.Output = crypto.unbase64(r.Output)
    end
  end,
}

-- ---- one request -----------------------------------------------------------

local CALL_OPTS = {
  timeout = "core", read_timeout = "core", max_attempts = "core", validate = "core",
  eventual = "core", extra = "core", to = "core",
  keep = "gate", expires = "gate", op = "gate", detail = "gate",
}

local function core_opts(p, opts)
  local out = {}
  if p.opts.validate == false then
    out.validate = false
  end
  for key, value in pairs(opts or {}) do
    local whose = CALL_OPTS[key]
    if not whose then
      fail("usage", nil, "%s: unknown call option %s", p.service, tostring(key))
    elseif whose == "core" then
      out[key] = value
    end
  end
  return out
end

-- Sends one request (or asks the hooks); result, next tokens, more.
local function send(p, op, params, opts, pager)
  local out = core_opts(p, opts)
  out.pager = pager
  params, out.gate = gate.prepare(M, p, op, params, opts)
  local result, _, tokens, more = core.call(p.core, op.name, params, out)
  local custom = CUSTOM[p.service .. ":" .. op.name]
  if custom then
    custom(result)
  end
  return result, tokens, more
end

-- Told about every request of the process, or nil.
local observer

local function observed(p, op, params, opts, pager)
  local start = time.mono()
  local ok, result, tokens, more = pcall(send, p, op, params, opts, pager)
  local about = ok and metas[result] or {}
  local err = not ok and type(result) == "table" and result or {}
  p.region = p.region or core.info(p.core).region
  observer {
    service = p.service, op = op.name, region = p.region,
    ms = math.floor((time.mono() - start) * 1000),
    attempts = ok and (about.RetryAttempts or 0) + 1 or err.attempts,
    status = about.HTTPStatusCode or err.status, request_id = about.RequestId or err.request_id,
    code = err.code,
  }
  if not ok then
    error(result, 0)
  end
  return result, tokens, more
end

-- Asked before each request: what it returns is the answer, and nothing is sent.
local planner

local function planned(p, op, params, opts)
  p.region = p.region or core.info(p.core).region
  return planner { service = p.service, op = op.name, params = params, region = p.region,
    output = M.describe(p.service, op.name).output, validate = function()
      core_opts(p, opts)
      core.presign(p.core, op.name, params, 60) -- has to be a request
    end }
end

local function request(p, op, params, opts, pager)
  if planner then
    local stub = planned(p, op, params, opts)
    if stub ~= nil then
      return stub, nil, false
    end
  end
  if observer and #p.hooks.before_call == 0 and #p.hooks.after_call == 0 then
    return observed(p, op, params, opts, pager)
  end
  if #p.hooks.before_call == 0 and #p.hooks.after_call == 0 then
    return send(p, op, params, opts, pager)
  end
  local ctx = {
    service = p.service, operation = op.name, params = params or {}, opts = opts,
  }
  local stub = run_hooks(p, "before_call", ctx)
  local ok, result, tokens, more
  if stub ~= nil then
    ok, result = true, stub
    if pager then
      tokens, more = core.pager_next(pager, stub)
    end
  else
    ok, result, tokens, more = pcall(observer and observed or send, p, op, ctx.params, opts,
      pager)
  end
  ctx[ok and "result" or "error"] = result
  run_hooks(p, "after_call", ctx)
  if not ok then
    error(result, 0)
  end
  return result, tokens, more
end

-- ---- operations --------------------------------------------------------------

local function operation(p, name)
  local op = p.ops[name]
  if not op then
    op = core.operation(p.core, name)
    p.ops[name] = op
  end
  return op
end

local function self_of(c, name)
  local p = priv[c]
  if not p then
    fail("usage", nil, "call it with a colon: c:%s{…}", name)
  end
  return p
end

local function invoke(p, op, params, opts)
  if op.paging and paging.is_automatic(op.paging, params) then
    return paging.collect(paging.start(p, op, params, opts, request))
  end
  return (request(p, op, params, opts))
end

local Client = {}

--- Calls an operation by name, in any spelling.
-- An operation with pages is called until the last one, unless params hold a
-- token or the limit of a page.
-- @param name string DescribeInstances, describe_instances or describe-instances
-- @param[opt] params table AWS's parameters
-- @param[opt] opts table timeout read_timeout max_attempts validate eventual extra to keep expires;
--   to: where the body of a streaming answer goes, a path (the member is then {path, size}) or a
--   function that is called with each chunk and may wait
-- @return table the answer
-- @raise aws, usage, auth, net, timeout, protocol, cancelled
-- @waits
function Client:call(name, params, opts)
  local p = self_of(self, "call")
  return invoke(p, operation(p, name), params, opts)
end

--- Iterates over the pages of an operation, one request per step.
-- @param name string
-- @param[opt] params table may hold PaginationConfig{MaxItems, PageSize, StartingToken}
-- @param[opt] opts table as for call
-- @return table iterator; its collect() merges the remaining pages
-- @raise usage the operation has no pages
-- @example for page in ec2:pages("describe_images") do print(#page.Images) end
function Client:pages(name, params, opts)
  local p = self_of(self, "pages")
  local op = operation(p, name)
  if not op.paging then
    fail("usage", nil, "%s: %s has no pages", p.service, op.snake)
  end
  return paging.iterator(paging.start(p, op, params, opts, request))
end

--- Asks whether a call would be allowed, without making it.
-- @param name string
-- @param[opt] params table
-- @return boolean true: it would have succeeded
-- @raise aws UnauthorizedOperation and other refusals; usage the operation has no DryRun
-- @waits
function Client:dry_run(name, params)
  local p = self_of(self, "dry_run")
  local op = operation(p, name)
  if not op.can_dry_run then
    fail("usage", nil, "%s: %s has no DryRun", p.service, op.snake)
  end
  local with = {}
  for k, v in pairs(params or {}) do
    with[k] = v
  end
  with.DryRun = true
  local ok, err = pcall(request, p, op, with)
  if ok or (type(err) == "table" and err.code == "DryRunOperation") then
    return true
  end
  error(err, 0)
end

--- A URL that carries the signed call; nothing is sent.
-- Of services with form parameters (ec2, iam, sts) the URL is all, with GET.
-- Of others the method, headers and body of the second result go with it (s3
-- takes any body).  A URL of temporary credentials holds their token, which the
-- screen and the log do not show: pass it on or write it to a file.
-- @param name string
-- @param[opt] params table
-- @param opts.expires integer seconds, default 3600, at most 604800
-- @return string
-- @return {method=string, headers=table, body=string|nil}
-- @raise usage, auth
function Client:presign(name, params, opts)
  local p = self_of(self, "presign")
  for key in pairs(opts or {}) do
    if key ~= "expires" then
      fail("usage", nil, "presign: unknown option %s; known: expires", tostring(key))
    end
  end
  return core.presign(p.core, operation(p, name).name, params, opts and opts.expires)
end

--- Calls fn before or after each request, in the calling task.
-- before_call(ctx) may change ctx.params or return a result instead of the
-- request; after_call(ctx) sees ctx.result or ctx.error.
-- @param event string "before_call" or "after_call"
-- @param fn function
-- @return function ends it
function Client:on(event, fn)
  local list = self_of(self, "on").hooks[event]
  if not list then
    fail("usage", nil, "on: event must be before_call or after_call")
  end
  list[#list + 1] = fn
  return function()
    for i, f in ipairs(list) do
      if f == fn then
        table.remove(list, i)
        return
      end
    end
  end
end

-- ---- waiters ---------------------------------------------------------------

local WAIT_OPTS = { delay = true, max_attempts = true, timeout = true, on_poll = true }

local function wait_opts(opts, info)
  for key in pairs(opts) do
    if not WAIT_OPTS[key] then
      fail("usage", nil, "wait: unknown option %s; known: delay, max_attempts, timeout, on_poll",
        tostring(key))
    end
  end
  local delay, attempts = opts.delay or info.delay, opts.max_attempts or info.max_attempts
  local timeout = opts.timeout and core.seconds(opts.timeout)
  if timeout and not opts.max_attempts then
    attempts = math.huge
  end
  return core.seconds(delay), attempts, timeout
end

-- Errors that say nothing about what is waited for.
local function is_noise(err)
  return err.retryable or err.throttling or err.kind == "net" or err.kind == "timeout"
    or err.kind == "protocol"
end

-- left: seconds until the whole wait is over, nil: as long as a call may take.
local function poll(p, w, info, params, left)
  local ok, result = pcall(request, p, info.op, params, left and { timeout = math.max(1, left) })
  if ok then
    local meta = metas[result] or rawget(result, "ResponseMetadata") or {}
    return result, nil, core.waiter_step(w, result, meta.HTTPStatusCode or 200)
  end
  if type(result) ~= "table" or not (result.kind == "aws" or is_noise(result)) then
    error(result, 0)
  end
  local code = result.kind == "aws" and result.code or result.kind
  local text = result.response and result.response.Error and result.response.Error.Message
    or result.message
  local verdict, why = core.waiter_step(w, nil, result.status, code, text)
  if verdict == "error" and is_noise(result) then
    verdict = "noise"
  end
  return nil, result, verdict, why
end

-- Polls that said nothing do not count: they end with the time, not before.
local function is_over(state, elapsed, delay, attempts, timeout)
  if timeout then
    return state.told >= attempts or elapsed + delay > timeout
  end
  return state.told >= attempts or (state.n >= attempts and elapsed + delay > attempts * delay)
end

local function wait_failed(info, state, kind, code, text)
  local err = host.error {
    kind = kind, code = code,
    message = ("Waiter %s failed: %s"):format(info.name, text),
  }
  err.last, err.cause, err.attempts = state.last, state.err, state.n
  err.operation = info.operation
  error(err, 0)
end

local function wait_over(info, state)
  local text = "Max attempts exceeded"
  if state.matched then
    text = text .. ". Previously accepted state: " .. state.matched
  end
  wait_failed(info, state, "timeout", "WaiterTimeout", text)
end

--- Polls until a condition holds.
-- @param what string|table name of a waiter ("instance_stopped"), or
--   {operation, delay, max_attempts, acceptors}
-- @param[opt] params table parameters of the polled operation
-- @param opts.delay number seconds between polls
-- @param opts.max_attempts integer
-- @param opts.timeout number seconds in all
-- @param opts.on_poll function called with response, error, number, seconds after each poll
-- @return table|nil the last answer; nil when an error was the success
-- @return table {attempts, elapsed, error}
-- @raise aws WaiterFailed, timeout WaiterTimeout, and what the operation raises
-- @waits
function Client:wait(what, params, opts)
  local p = self_of(self, "wait")
  opts = opts or {}
  local w, info = core.waiter(p.core, what)
  info.op = operation(p, info.operation)
  local delay, attempts, timeout = wait_opts(opts, info)
  local started, state = time.mono(), { n = 0, told = 0 }
  while true do
    local result, err, verdict, why = poll(p, w, info, params,
      timeout and timeout - (time.mono() - started))
    local elapsed = time.mono() - started
    state.n, state.last, state.err = state.n + 1, result, err
    if verdict ~= "noise" then
      state.told = state.told + 1
    end
    state.matched = why ~= "" and why or state.matched
    if opts.on_poll then
      opts.on_poll(result, err, state.n, elapsed)
    end
    if verdict == "success" then
      return result, { attempts = state.n, elapsed = elapsed, error = err }
    elseif verdict == "failure" then
      wait_failed(info, state, "aws", "WaiterFailed",
        "Waiter encountered a terminal failure state: " .. why)
    elseif verdict == "error" then
      wait_failed(info, state, "aws", "WaiterFailed", why)
    end
    if is_over(state, elapsed, delay, attempts, timeout) then
      wait_over(info, state)
    end
    async.sleep(delay)
  end
end

-- ---- clients -----------------------------------------------------------------

local function operation_method(p, name)
  local op = operation(p, name)
  local snake = op.snake
  return function(self, params, opts)
    local mine = priv[self]
    if not mine then
      fail("usage", nil, "call it with a colon: %s:%s{…}", p.service, snake)
    end
    return invoke(mine, op, params, opts)
  end
end

local client_meta = {
  __name = "hgauto.aws.client",
  __index = function(self, key)
    local p = priv[self]
    if Client[key] then
      return Client[key]
    elseif key == "meta" then
      p.meta = p.meta or core.info(p.core)
      return p.meta
    elseif type(key) ~= "string" or key:sub(1, 2) == "__" then
      return nil
    end
    local fn = p.methods[key]
    if not fn then
      fn = operation_method(p, key)
      p.methods[key] = fn
    end
    return fn
  end,
  __tostring = function(self)
    return "aws client " .. priv[self].service
  end,
}

--- Makes a client of a service; reads and sends nothing yet.
-- @param service string "ec2", see aws.services()
-- @param[opt] opts table region profile endpoint_url credentials retry_mode max_attempts timeout
--   read_timeout connect_timeout max_response max_concurrency ca_bundle use_fips use_dualstack
--   validate strict eventual user_agent_extra credential_cache ("off": leave the AWS CLI's cache of
--   role credentials alone) patient (as in defaults)
-- @return table client with a method for each operation
-- @raise usage unknown service or option
-- @example local ec2 = aws.client("ec2", { region = "us-west-2" })
function M.client(service, opts)
  local function make(p)
    local all = {}
    for key, value in pairs(defaults) do
      if key ~= "only_endpoint" then
        all[key] = value
      end
    end
    for key, value in pairs(opts or {}) do
      all[key] = value
    end
    -- A profile of the caller's own is not overruled by general credentials.
    if opts and opts.profile and not opts.credentials then
      all.credentials = nil
    end
    take_credentials(all)
    take_cache(all)
    if all.region == "imds" then
      all.region = require("hgauto.aws.imds").region(all)
    end
    -- Tests with a peer that hangs do not wait for a minute.
    all.read_timeout = all.read_timeout or tonumber(host.getenv "HGAUTO_READ_TIMEOUT" or "")
    all.service = service
    p.opts, p.core = all, core.client(all)
    owners[p.core] = p
  end
  local p = { service = service, ops = {}, methods = {},
    hooks = { before_call = {}, after_call = {} } }
  local c = setmetatable({}, client_meta)
  priv[c] = p
  local region = opts and opts.region or defaults.region
  if host.loading() or region == "imds" then
    -- At the top of a task file nothing is looked up, and the options that the
    -- command line sets later count; the metadata service is asked at first use.
    setmetatable(p, { __index = function(_, key)
      if key == "core" or key == "opts" then
        make(p)
        setmetatable(p, nil)
        return p[key]
      end
    end })
  else
    make(p)
  end
  return c
end

-- ---- methods of lists in answers ------------------------------------------

local List = {}

-- The function, or the look-up of a field by its name.
local function getter(f)
  if type(f) == "function" then
    return f
  end
  return function(item)
    return item[f]
  end
end

--- The results of fn for each item.
-- @param fn function|string a string means the field of that name
-- @return table list
function List:map(fn)
  local out, get = json.list {}, getter(fn)
  for i = 1, #self do
    out[#out + 1] = get(self[i])
  end
  return out
end

--- The items for which fn is true.
-- @param fn function|string
-- @return table list
function List:filter(fn)
  local out, get = json.list {}, getter(fn)
  for i = 1, #self do
    if get(self[i]) then
      out[#out + 1] = self[i]
    end
  end
  return out
end

--- One field of each item.
-- @param name string
-- @return table list
function List:pluck(name)
  return List.map(self, name)
end

--- The first item, or the first for which fn is true.
-- @param[opt] fn function|string
-- @return any nil when there is none
function List:first(fn)
  if fn == nil then
    return self[1]
  end
  return List.filter(self, fn)[1]
end

--- The number of items, or of those for which fn is true.
-- @param[opt] fn function|string
-- @return integer
function List:count(fn)
  return fn == nil and #self or #List.filter(self, fn)
end

core.list_methods(List)

-- ---- about credentials and settings -----------------------------------------

local PLACE = { "region", "profile", "endpoint_url", "credentials", "ca_bundle", "use_fips",
  "use_dualstack", "no_credential_cache" }

-- Client of another service with the same identity and place.
function M.sibling(p, service)
  local opts = {}
  for _, key in ipairs(PLACE) do
    opts[key] = p.opts[key]
  end
  return M.client(service, opts)
end

--- Which credentials are in use; never the secret.
-- @param[opt] opts table as for aws.client
-- @return {provider=string, where=string, access_key_id=string, account_id=string|nil,
--   expires=integer|nil}
-- @raise auth NoCredentials and others
-- @waits
function M.credentials(opts)
  return core.creds(priv[M.client("sts", opts)].core)
end

--- The credentials in use, secret and all, for a process of ours.
-- Only to be written to a pipe that process reads.
-- @param[opt] opts table as for aws.client
-- @return secret text of a JSON object: access_key_id, secret_access_key, session_token
-- @raise auth NoCredentials and others
-- @waits
function M.hand_over(opts)
  return core.hand_over(priv[M.client("sts", opts)].core)
end

local accounts = {}

--- The account behind the credentials; asked once per credentials.
-- @param[opt] opts table as for aws.client
-- @return {Account=string, Arn=string, UserId=string}
-- @raise auth, aws
-- @waits
function M.account(opts)
  local c = M.client("sts", opts)
  local who = core.creds(priv[c].core)
  local key = who.access_key_id .. " " .. c.meta.endpoint
  if not accounts[key] then
    local r = c:get_caller_identity {}
    accounts[key] = { Account = r.Account, Arn = r.Arn, UserId = r.UserId }
  end
  return accounts[key]
end

--- Every setting with its value and where it comes from; no passwords of URLs.
-- @param[opt] opts table as for aws.client
-- @return table name -> {value, origin}
function M.config(opts)
  local all = core.config(priv[M.client("sts", opts)].core)
  for _, setting in pairs(all) do
    if type(setting.value) == "string" then -- a proxy's password
      setting.value = setting.value:gsub("^(%a[%w+.-]*://)[^/]*@", "%1***@")
    end
  end
  return all
end

-- Error:decode(): what an UnauthorizedOperation says in its encoded part.
local ENCODED = "[Ee]ncoded authorization failure message:%s*([%w%-_+/=]+)"

--- Decodes the reason that EC2 puts into UnauthorizedOperation.
-- Errors of calls have it as a method: err:decode().  The caller needs the
-- permission sts:DecodeAuthorizationMessage.
-- @param err table an error of a call
-- @param[opt] opts table as for aws.client; default: the place of the failed call
-- @return table the decoded message
-- @raise usage the error has no encoded part; aws, auth
-- @waits
function M.decode(err, opts)
  local text = type(err) == "table" and tostring(rawget(err, "message") or ""):match(ENCODED)
  if not text then
    fail("usage", nil, "decode: the error has no encoded authorization message")
  end
  local p = metas[err] and owners[metas[err]]
  local sts = p and not opts and M.sibling(p, "sts") or M.client("sts", opts)
  local r = sts:decode_authorization_message { EncodedMessage = text }
  return json.decode(r.DecodedMessage)
end

core.error_method("decode", M.decode)

-- ---- about models --------------------------------------------------------------

--- Names of the services: built in, and in the model directories
--- (AWS_DATA_PATH, ~/.aws/models).
-- @return string[]
function M.services()
  return core.services()
end

--- Keeps compiled models of users in a directory (made at need).
-- Without it they are compiled at each start.
-- @param[opt] dir string absolute path; nil ends it
function M.model_cache(dir)
  core.model_cache(dir)
end

--- Names of a service's operations.
-- @param service string
-- @return string[] in snake_case
function M.operations(service)
  return core.operations(service)
end

--- Names of a service's waiters.
-- @param service string
-- @return string[] in snake_case
function M.waiters(service)
  return core.waiters(service)
end

--- The model of one operation.
-- @param service string
-- @param op string any spelling
-- @return table see hgauto.aws.model
function M.describe(service, op)
  return require("hgauto.aws.model").service(service).op(op)
end

-- ---- small things --------------------------------------------------------------

--- What belongs to an answer but is not in it.
-- @param result table an answer
-- @return table|nil RequestId HTTPStatusCode HTTPHeaders RetryAttempts tokens timing
function M.meta(result)
  local meta = metas[result]
  return type(meta) == "table" and meta or nil
end

--- Evaluates a JMESPath expression.
-- @param expr string
-- @param value any
-- @return any
-- @raise usage Syntax, InvalidType, InvalidArity, InvalidValue, UnknownFunction
-- @example local ids = aws.query("Reservations[].Instances[].InstanceId", r)
function M.query(expr, value)
  return core.query(expr, value)
end

--- A random token for ClientToken parameters (UUID version 4).
-- @return string
function M.token()
  return crypto.uuid()
end

--- A file in place of a streaming parameter (s3 Body); read again for every attempt.
-- @param path string a regular file, which must not change until the call is over
-- @return table
-- @raise usage not a string
-- @example s3:put_object { Bucket = "b", Key = "k", Body = aws.file("/tmp/big.tar") }
function M.file(path)
  if type(path) ~= "string" or path:find("\0", 1, true) then
    fail("usage", nil, "aws.file: path must be a string")
  end
  return { ["$file"] = path }
end

--- A time as AWS writes it (ISO 8601, UTC).
-- @param t number epoch seconds
-- @return string
function M.time(t)
  return core.iso(t)
end

--- Marks a table as a list, also when it is empty.
-- @param t table
-- @return table the same
function M.list(t)
  return json.list(t)
end

--- Tells fn about every request of this process from now on (nil: nobody).
-- @param fn function({service, op, region, ms, attempts, status, request_id, code})|nil
function M.observe(fn)
  observer = fn
end

--- Asks fn before each request of this process; what it returns is the answer then.
-- @param fn function|nil called with {service, op, region, params, output=shape,
--   validate=function() raises unless the parameters make a request}
function M.planner(fn)
  planner = fn
end

--- From now on creating calls are written down before they are sent.
-- @param led userdata ledger of hgauto.state, or nil to end it
-- @param run string id of the run
-- @param place_fn function returns the number of the ledger's place for the current identity
-- @param opts.sid string id of the state directory, default the ledger's
function M.ledger(led, run, place_fn, opts)
  gate.set(led, run, place_fn, opts)
end

return M
