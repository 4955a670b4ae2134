--- What a task would do: `--plan` runs it and sends none of its writes.
--
-- Reading calls go out.  A writing one is recorded and answered from the shape
-- of its output: with what the request says, lists of one, and unknown values.
-- Where the task needs such a value to go on, the plan of its lane ends.
-- Remote commands and transfers are recorded; waits are over at once (command
-- line specification, 5.6).
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local hg = require "hg"
local out = require "hg.output"
local session = require "hg.session"

local M = {}

local READING = { "Describe", "Get", "List", "Search", "Lookup", "BatchGet", "Head", "Check",
  "Validate", "Preview", "Simulate", "Decode", "Estimate" }
local REMOVING = { "Delete", "Terminate", "Deregister", "Release", "Revoke", "Cancel" }
local MAKING = { "Create", "Run", "Import", "Allocate", "Request", "Register", "Copy" }

-- ---- values that nobody knows yet ---------------------------------------------------

local texts = setmetatable({}, { __mode = "k" })
local Unknown = { __name = "unknown value" }

local function unknown(text)
  local u = setmetatable({}, Unknown)
  texts[u] = text
  return u
end

local function plan_ends(u)
  hg.fail { kind = "task", code = "PlanEnd", message = "the next step depends on " .. tostring(u) }
end

function Unknown.__tostring(u)
  return "‹" .. texts[u] .. "›"
end

function Unknown.__index(u, key)
  if math.type(key) then
    plan_ends(u) -- a loop over it would have no end
  end
  return unknown(("%s.%s"):format(texts[u], tostring(key)))
end

function Unknown.__concat(a, b)
  return unknown((tostring(a) .. tostring(b)):gsub("[‹›]", ""))
end

for _, event in ipairs { "add", "sub", "mul", "div", "mod", "pow", "idiv", "unm", "band", "bor",
  "bxor", "shl", "shr", "bnot", "lt", "le", "len", "call", "pairs" } do
  Unknown["__" .. event] = function(a, b)
    plan_ends(texts[a] and a or b)
  end
end

--- Whether a value is known; in a plan some are not.
-- @param v any
-- @return boolean
function M.known(v)
  return type(v) ~= "table" or texts[v] == nil
end

--- A value that the plan does not know.
-- @param text string what it is, for messages
-- @return table
function M.unknown(text)
  return unknown(text)
end

--- Ends the plan of the current lane.
-- @param text string what it would have to know
-- @raise always
function M.stop(text)
  plan_ends(unknown(text))
end

--- What fn returns; in a plan the first result for that name each time, since
--- nothing that a plan makes is found later.
-- @param name string
-- @param fn function
-- @return any one result
-- @waits
function M.once(name, fn)
  local made = session.plan and session.plan.made
  if not made then
    return fn()
  elseif made[name] == nil then
    made[name] = fn()
  end
  return made[name]
end

--- Whether this process only plans.
-- @return boolean
function M.on()
  return session.plan ~= nil
end

-- Whether some value in plain data is unknown.
local function has_unknown(v)
  if type(v) ~= "table" then
    return false
  elseif texts[v] then
    return true
  end
  for _, x in next, v do
    if has_unknown(x) then
      return true
    end
  end
  return false
end

-- ---- recording -----------------------------------------------------------------------

local function record(r)
  local list = session.plan.records
  r.n, r.lane, r.step = #list + 1, async.local_get "lane" or "", async.local_get "step"
  list[r.n] = r
  return r
end

--- Records something that happens on this machine or a remote one.
-- @param sign string ">" remote, "~" a change here
-- @param text string
-- @param[opt] machine string its label: what is done there is counted, and listed with -v
-- @return table an unknown value
function M.note(sign, text, machine)
  record { sign = sign, text = text, machine = machine }
  return unknown("result of " .. text)
end

-- ---- AWS calls ------------------------------------------------------------------------

local function begins(name, list)
  for _, prefix in ipairs(list) do
    if name:sub(1, #prefix) == prefix then
      return true
    end
  end
  return false
end

local answer

-- A structure whose members come into being when they are looked at.
local function structure(shape, request, n)
  return setmetatable({}, { __index = function(t, key)
    for _, member in ipairs(shape.members) do
      if member.name == key then
        local v = answer(member.shape, key, request, n)
        rawset(t, key, v)
        return v
      end
    end
    return nil
  end })
end

answer = function(shape, name, request, n)
  if shape.type == "structure" then
    return structure(shape, request, n)
  elseif shape.type == "list" then
    local list = {}
    for i = 1, math.tointeger(request.MaxCount) or 1 do
      list[i] = answer(shape.member.shape, name, request, n)
    end
    return list
  elseif shape.type == "map" then
    return {}
  elseif request[name] ~= nil and type(request[name]) ~= "table" or texts[request[name]] then
    return request[name]
  end
  return unknown(("%s from #%d"):format(name, n))
end

-- Told about each call of the process: what it returns is not sent.
local function on_call(call)
  local params = call.params or {}
  local shape = call.output or { type = "structure", members = {} }
  if call.service == "sts" or begins(call.op, READING) then
    if has_unknown(params) then
      return answer(shape, call.op, params, #session.plan.records)
    end
    return nil
  end
  if not has_unknown(params) then
    call.validate()
  end
  local r = record { sign = begins(call.op, REMOVING) and "-" or begins(call.op, MAKING) and "+"
    or "~", service = call.service, op = call.op, region = call.region, params = params }
  return answer(shape, call.op, params, r.n)
end

-- ---- machines ---------------------------------------------------------------------------

--- A machine that would have been made: what is done on it is recorded.
-- @param m table fields id, ec2, label, os, …
-- @param class table methods of such machines
-- @return table
function M.machine(m, class)
  local function close(self)
    if not self.closed then
      self.closed = true
      require("hg.machines.ec2").terminate(m.ec2, m.id)
    end
  end
  m.record = {}
  return setmetatable(m, { __close = close, __name = "hg.machine", __index = function(_, key)
    if key == "close" then
      return close
    elseif key == "keep" then
      return function(self)
        self.closed = true
      end
    elseif type(class[key]) ~= "function" then
      return class[key]
    end
    return function(_, what)
      local text = type(what) == "table" and not texts[what] and table.concat(what, " ")
        or type(what) == "string" and what or ""
      return M.note(">", ("%s: %s %s"):format(m.label, key, text), m.label)
    end
  end })
end

-- ---- what a task's own file may do ------------------------------------------------------

local WRITERS = { "write", "append", "copy", "mkdir", "remove", "rename", "symlink", "link",
  "chmod" }

local function planned_fs()
  local t = {}
  for _, name in ipairs(WRITERS) do
    t[name] = function(path, ...)
      local dir = session.plan.dir
      if type(path) == "string" and path:sub(1, #dir + 1) == dir .. "/" then
        return fs[name](path, ...)
      end
      M.note("~", ("fs.%s %s"):format(name, tostring(path)))
    end
  end
  return setmetatable(t, { __index = fs })
end

local function recorded(name, allowed)
  local real = require("hgauto." .. name)
  return setmetatable({}, { __index = function(_, key)
    local fn = real[key]
    if type(fn) ~= "function" then
      return fn
    end
    return function(...)
      if allowed(key, ...) then
        return fn(...)
      end
      local what = ...
      what = type(what) == "table" and M.known(what) and (what.url or table.concat(what, " "))
        or tostring(what)
      return M.note(name == "proc" and "~" or ">", ("%s.%s %s"):format(name, key, what))
    end
  end })
end

local ALLOWED = {
  proc = function(key, _, opts)
    return key == "which" or type(opts) == "table" and opts.readonly == true
  end,
  http = function(key, o)
    local method = type(o) == "table" and o.method or "GET"
    return key == "request" and (method == "GET" or method == "HEAD")
  end,
  ssh = function()
    return false
  end,
  winrm = function()
    return false
  end,
  box = function()
    return false
  end,
}

local function refuse(what)
  return function()
    plan_ends(unknown(what))
  end
end

--- Globals of a task's file that is planned: modules with effects only record.
-- @return table
function M.env()
  local env = { os = setmetatable({ execute = refuse "os.execute", remove = refuse "os.remove",
    rename = refuse "os.rename" }, { __index = os }) }
  env.io = setmetatable({ popen = refuse "io.popen", open = function(path, mode)
    if mode and mode:find "[wa+]" then
      plan_ends(unknown("writing " .. tostring(path)))
    end
    return io.open(path, mode)
  end }, { __index = io })
  function env.require(name)
    local short = type(name) == "string" and name:match "^hgauto%.(%a+)$"
    if short == "fs" then
      return planned_fs()
    elseif ALLOWED[short] then
      return recorded(short, function(key, ...)
        return ALLOWED[short](key, ...)
      end)
    end
    return require(name)
  end
  return setmetatable(env, { __index = _G })
end

-- ---- the ledger, looked at only --------------------------------------------------------------

local LOOKING = { list = true, get = true, open_count = true, check = true, poisoned = true }

local function reader(ledger)
  return setmetatable({}, { __index = function(_, key)
    if LOOKING[key] then
      return function(_, ...)
        return ledger[key](ledger, ...)
      end
    end
    return function() end
  end })
end

-- ---- ends -----------------------------------------------------------------------------------

--- Whether an error says that the plan cannot know more.
-- @param err any
-- @return boolean
function M.is_end(err)
  if not M.on() or type(err) ~= "table" then
    return false
  end
  return err.code == "PlanEnd" or tostring(err.message):find("got unknown value", 1, true) ~= nil
    or err.cause ~= nil and M.is_end(err.cause)
end

--- Notes that the plan of the current lane ends.
-- @param err table
function M.ended(err)
  local lane = async.local_get "lane" or ""
  table.insert(session.plan.ends, ("plan ends here%s: %s"):format(
    lane ~= "" and " (" .. lane .. ")" or "", err.message))
end

-- ---- showing ------------------------------------------------------------------------------------

local function say_value(v)
  if type(v) == "table" and M.known(v) then
    local parts = {}
    if #v > 0 then
      for i, x in ipairs(v) do
        parts[i] = say_value(x)
      end
      return table.concat(parts, ",")
    end
    local keys = {}
    for k in next, v do
      keys[#keys + 1] = k
    end
    table.sort(keys)
    for i, k in ipairs(keys) do
      parts[i] = ("%s=%s"):format(k, k == "UserData" and "***" or say_value(v[k]))
    end
    return "{" .. table.concat(parts, " ") .. "}"
  end
  return tostring(v)
end

-- What tells one call from another of its kind.
local function line_of(r)
  if r.text then
    return ("%s %s"):format(r.sign, r.text)
  end
  local parts, keys = {}, {}
  for k in pairs(r.params) do
    if k ~= "UserData" and k ~= "TagSpecifications" and k ~= "ClientToken" and k ~= "DryRun"
      and k ~= "PublicKeyMaterial" then
      keys[#keys + 1] = k
    end
  end
  table.sort(keys)
  for i, k in ipairs(keys) do
    local text = say_value(r.params[k])
    parts[i] = ("%s=%s"):format(k, #text > 70 and text:sub(1, utf8.offset(text, -1,
      70)) .. "…" or text)
  end
  return ("%s #%d %s %s  %s"):format(r.sign, r.n, r.service, r.op, table.concat(parts, " "))
end

local function earlier(task)
  local seconds = {}
  local time = require "hgauto.time"
  for _, id in ipairs(hg.runs.all()) do
    local r = hg.runs.read(id)
    if r.task == task and r.status == "ok" and r.started and r.ended then
      seconds[#seconds + 1] = time.parse(r.ended) - time.parse(r.started)
    end
  end
  table.sort(seconds)
  return seconds
end

local function cost_lines(task, max_age)
  local rate, n = 0, 0
  for _, r in ipairs(session.plan.records) do
    if r.op == "RunInstances" then
      n = n + (math.tointeger(r.params.MaxCount) or 1)
      rate = rate + (math.tointeger(r.params.MaxCount) or 1)
        * (hg.prices.hourly(tostring(r.params.InstanceType)) or 0)
    end
  end
  if n == 0 then
    return {}
  end
  local lines = { ("%d machine%s, USD %.4f/h"):format(n, n == 1 and "" or "s", rate) }
  if max_age then
    lines[1] = lines[1] .. (", at most USD %.3f until max-age"):format(rate * max_age / 3600)
  end
  local seconds = earlier(task)
  if #seconds >= 3 then
    lines[2] = ("earlier runs took %s to %s"):format(
      hg.format.duration(seconds[math.max(1, math.ceil(#seconds * 0.1))]),
      hg.format.duration(seconds[math.max(1, math.ceil(#seconds * 0.9))]))
  end
  return lines
end

local function print_plan(task, max_age, verbose)
  local remote, lane = {}, nil
  for _, r in ipairs(session.plan.records) do
    if r.machine and not verbose then
      local name = r.machine
      remote[#remote + 1] = not remote[name] and name or nil
      remote[name] = (remote[name] or 0) + 1
    else
      if r.lane ~= lane and (r.lane ~= "" or lane) then
        out.result((r.lane ~= "" and r.lane or "(after the lanes)") .. ":")
      end
      lane = r.lane
      out.result(require("hgauto.term").filter(require("hgauto.log").redact(line_of(r))))
    end
  end
  for _, name in ipairs(remote) do
    out.result(("> %s: %d remote commands and transfers (-v lists them)"):format(name,
      remote[name]))
  end
  for _, text in ipairs(session.plan.ends) do
    out.result(text)
  end
  for _, text in ipairs(cost_lines(task, max_age)) do
    out.result(text)
  end
end

--- Runs a loaded task without its effects and prints what they would be.
-- @param task table
-- @param name string
-- @param args table
-- @param opts table global and run options
-- @return integer exit code: 0, or with --detailed-exitcode 7 when something would change
-- @waits
function M.execute(task, name, args, opts)
  local env = require "hg.cli.env"
  session.task, out.quiet, out.verbose = name, true, opts.verbose
  env.use_cloud(opts)
  local dir = fs.tmpdir(session.state.path, "plan-")
  local _d <close> = async.defer(function()
    fs.remove(dir, { tree = true })
  end)
  session.plan = { records = {}, ends = {}, made = {}, dir = dir }
  session.ledger = reader(session.state:ledger())
  require("hgauto.aws").planner(on_call)
  local ctx = require("hg.ctx").new { run = { id = "plan", dir = dir }, task = name, args = args,
    save = function() end, yes = true, plan = true }
  session.ctx = ctx
  local said = out.result
  out.result = function() end
  local ok, err = pcall(async.scope, function()
    return task.run(ctx, args)
  end)
  out.result = said
  require("hgauto.aws").planner(nil)
  if not ok and not M.is_end(err) then
    error(err, 0)
  elseif not ok then
    M.ended(err.code == "PlanEnd" and err or err.cause or err)
  end
  print_plan(name, math.tointeger(args.max_age), opts.verbose)
  out.result(#session.plan.records == 0 and "nothing would change" or "nothing was changed")
  return opts.detailed_exitcode and #session.plan.records > 0 and 7 or 0
end

return M
