-- Fault injection: ordered rules, the first that matches and is due acts.  Off
-- unless set, gone with the daemon, deterministic: counters, or a generator of
-- each rule's own with a seed.  Local cloud specification, section 9.

local async = require "hgauto.async"
local auth = require "localcloud.auth"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local json = require "hgauto.json"
local time = require "hgauto.time"

local M = {}

local Faults = {}
Faults.__index = Faults

local STALL_SECONDS = 3600

-- ---- rules ----

-- Effects by name: when they act unless the rule says otherwise.
local EFFECTS = {
  throttle = "before", error = "before", deny = "before", expire = "before",
  capacity = "before", latency = "before", clock = "always",
  fin = "after", rst = "after", truncate = "after", garble = "after", slow = "after",
  stall = "after", eventual = "after",
  terminate = "guest", kill = "guest", impaired = "guest", slow_stop = "guest", spot = "guest",
  fail_image = "guest", ssm = "guest", winrm = "guest",
}

local KEYS = { id = "string", match = "table", when = "string", nth = "number", every = "number",
  first = "number", prob = "number", seed = "number", max = "number", effect = "table" }
local MATCH = { service = "string", action = "string", resource = "string", instance = "string",
  param = "table" }
local WHEN = { before = true, after = true, wire = true, guest = true }

local function fail(...)
  require("hg").fail { kind = "usage", code = "Fault", message = (...):format(select(2, ...)) }
end

local function names_of(map)
  local out = {}
  for name in pairs(map) do
    out[#out + 1] = name
  end
  table.sort(out)
  return table.concat(out, ", ")
end

local function check_keys(t, known, what)
  for key, v in pairs(t) do
    if not known[key] then
      fail("fault rule: unknown %s %q; known: %s", what, tostring(key), names_of(known))
    elseif type(v) ~= known[key] then
      fail("fault rule: %s %s must be a %s", what, key, known[key])
    end
  end
end

local function check_counts(rule)
  for _, name in ipairs { "nth", "every", "first", "max", "seed" } do
    local n = rule[name]
    if n and (math.tointeger(n) == nil or n < (name == "seed" and 0 or 1)) then
      fail("fault rule: %s must be a whole number from 1 on", name)
    end
  end
  if rule.prob and (rule.prob < 0 or rule.prob > 1) then
    fail("fault rule: prob must be between 0 and 1")
  end
end

-- Of a simulated Windows: its request dies, waits, or is answered with a fault.
local WINRM = { rst = true, fin = true, hang = true, reboot = true, unavailable = true,
  timed_out = true, selectors = true, encoding = true, quota = true, shells = true, denied = true,
  invalid = true }
-- Effects whose value is a number.
local NUMBERS = { latency = true, clock = true, kill = true, slow_stop = true, spot = true,
  truncate = true }
local GARBLE = { html = true, root = true, nul = true, empty = true, status = true, chunk = true,
  length = true, headers = true }

local function check_effect(effect)
  local name = next(effect)
  if not name or next(effect, name) then
    fail("fault rule: effect takes exactly one of %s", names_of(EFFECTS))
  elseif not EFFECTS[name] then
    fail("fault rule: unknown effect %q; known: %s", tostring(name), names_of(EFFECTS))
  end
  local v = effect[name]
  if NUMBERS[name] and type(v) ~= "number" then
    fail("fault rule: effect %s must be a number", name)
  elseif name == "error" and (type(v) ~= "table" or type(v.code) ~= "string") then
    fail("fault rule: effect error needs at least {\"code\": …}")
  elseif name == "garble" and not GARBLE[v] then
    fail("fault rule: effect garble is one of %s", names_of(GARBLE))
  elseif name == "winrm" and not WINRM[v] then
    fail("fault rule: effect winrm is one of %s", names_of(WINRM))
  elseif name == "slow" and (type(v) ~= "number" or v <= 0) then
    fail("fault rule: effect slow is a number of bytes per second")
  end
  return name
end

local function check(rule)
  if type(rule) ~= "table" then
    fail("fault rule: it must be an object")
  end
  check_keys(rule, KEYS, "field")
  check_keys(rule.match or {}, MATCH, "match")
  check_counts(rule)
  if rule.when and not WHEN[rule.when] then
    fail("fault rule: when is one of %s", names_of(WHEN))
  end
  return check_effect(rule.effect or {})
end

--- No rules.
-- @return Faults
function M.new()
  return setmetatable({ rules = {}, next_id = 1, clock = 0, hidden = {} }, Faults)
end

local function copy(rule)
  local out = {}
  for k, v in pairs(rule) do
    out[k] = v
  end
  return out
end

-- "wire" is another name of "after", for what only the transport does.
local function moment(rule, name)
  local when = rule.when == "wire" and "after" or rule.when
  return when or EFFECTS[name]
end

function Faults:recount_clock()
  self.clock = 0
  for _, rule in ipairs(self.rules) do
    self.clock = self.clock + (rule.given.effect.clock or 0)
  end
end

--- Adds rules behind the present ones; all or none.
-- @param list table[] rules of the specification
-- @return string[] ids
-- @raise usage what is wrong with which rule
function Faults:add(list)
  local fresh, seen = {}, {}
  for _, rule in ipairs(self.rules) do
    seen[rule.id] = true
  end
  for i, given in ipairs(list) do
    local name = check(given)
    local id = given.id or ("f%d"):format(self.next_id + i - 1)
    if seen[id] then
      fail("fault rule: there is a rule %s already", id)
    end
    seen[id] = true
    fresh[i] = { id = id, given = copy(given), name = name, when = moment(given, name),
      seen = 0, hits = 0, random = math.tointeger(given.seed or 1), tokens = {} }
  end
  self.next_id = self.next_id + #fresh
  local ids = {}
  for i, rule in ipairs(fresh) do
    self.rules[#self.rules + 1], ids[i] = rule, rule.id
  end
  self:recount_clock()
  return ids
end

--- Removes one rule, or all.
-- @param id string|nil
-- @return integer how many were removed
function Faults:clear(id)
  local kept, n = {}, #self.rules
  for _, rule in ipairs(self.rules) do
    kept[#kept + 1] = id and rule.id ~= id and rule or nil
  end
  self.rules = kept
  if not id then
    self.hidden = {}
  end
  self:recount_clock()
  return n - #kept
end

--- The rules as given, with what they have seen and done.
-- @return table[]
function Faults:rows()
  local out = {}
  for i, rule in ipairs(self.rules) do
    out[i] = copy(rule.given)
    out[i].id, out[i].when, out[i].seen, out[i].hits = rule.id, rule.when, rule.seen, rule.hits
  end
  return out
end

function Faults:count()
  return #self.rules
end

-- ---- matching ----

-- Whether any text inside a value matches.
local function anywhere(value, glob)
  if type(value) == "table" then
    for _, v in pairs(value) do
      if anywhere(v, glob) then
        return true
      end
    end
    return false
  end
  return describe.glob(glob, tostring(value))
end

local function fits(rule, event)
  local m = rule.given.match or {}
  if (m.service and not describe.glob(m.service, event.service or ""))
    or (m.action and not describe.glob(m.action, event.action or ""))
    or (m.resource and not anywhere(event.params, m.resource))
    or (m.instance and not anywhere(event.instance or event.params, m.instance)) then
    return false
  end
  for name, glob in pairs(m.param or {}) do
    local value = event.params[name]
    if value == nil or not anywhere(value, tostring(glob)) then
      return false
    end
  end
  return true
end

-- Next number in [0, 1) of a rule's own generator (splitmix64).
local function random(rule)
  rule.random = rule.random + 0x9E3779B97F4A7C15
  local z = rule.random
  z = (z ~ z >> 30) * 0xBF58476D1CE4E5B9
  z = (z ~ z >> 27) * 0x94D049BB133111EB
  z = z ~ z >> 31
  return (z >> 11) / (1 << 53)
end

local function due(rule)
  local g = rule.given
  rule.seen = rule.seen + 1
  local now = (not g.nth or rule.seen == g.nth) and (not g.every or rule.seen % g.every == 0)
    and (not g.first or rule.seen <= g.first)
  if g.prob then
    -- Drawn for each event, so that counters do not shift the sequence.
    now = random(rule) < g.prob and now
  end
  return now and not (g.max and rule.hits >= g.max)
end

--- The first rule that matches an event and is due.
-- @param when string "before", "after", "guest"
-- @param event {service, action, params, instance}
-- @return table|nil rule {id, name, given}
function Faults:pick(when, event)
  for _, rule in ipairs(self.rules) do
    if rule.when == when and fits(rule, event) and due(rule) then
      rule.hits = rule.hits + 1
      return rule
    end
  end
end

-- ---- effects on requests ----

local THROTTLED = {
  ec2 = { "RequestLimitExceeded", "Request limit exceeded.", 503 },
  query = { "Throttling", "Rate exceeded", 400 },
  json = { "ThrottlingException", "Rate exceeded", 400 },
}

-- A token bucket {rate, burst}: true when this request finds it empty.
local function bucket_empty(rule, limits)
  local now = time.mono()
  local b = rule.bucket or { left = limits.burst or 1, at = now }
  rule.bucket = b
  b.left = math.min(limits.burst or 1, b.left + (now - b.at) * (limits.rate or 1))
  b.at = now
  if b.left < 1 then
    return true
  end
  b.left = b.left - 1
  return false
end

local BODIES = {
  html = { "<html><body><h1>503 Service Unavailable</h1></body></html>\n", "text/html" },
  empty = { "", "text/plain" },
  xml = { "<?xml version=\"1.0\"?><Oops/>", "text/xml" },
}

local function raise(code, message, status, body)
  local e = errors.new(code, message, status)
  if body then
    e.body, e.content_type = body[1], body[2]
  end
  error(e, 0)
end

local CAPACITY = "We currently do not have sufficient %s capacity in the Availability Zone you"
  .. " requested. Our system will be working on provisioning additional capacity."

local act = {}

function act.throttle(ctx, v, rule)
  if type(v) ~= "table" or bucket_empty(rule, v) then
    raise(table.unpack(THROTTLED[ctx.family]))
  end
  rule.hits = rule.hits - 1
  ctx.fault = nil
end

function act.error(_, v)
  raise(v.code, v.message or v.code, v.status, BODIES[v.body])
end

function act.deny(ctx)
  require("localcloud.authorize").refuse(ctx, ("%s:%s"):format(ctx.service, ctx.op_name))
end

function act.expire(ctx)
  error(auth.refusal(ctx.family, "token"), 0)
end

-- "limit" instead of true: the account's limit; {partial = n}: only n of MaxCount.
function act.capacity(ctx, v)
  local p = ctx.params
  if type(v) == "table" and v.partial and (p.MinCount or 1) <= v.partial then
    p.MaxCount = math.min(p.MaxCount or 1, v.partial)
    return
  elseif v == "limit" then
    raise("InstanceLimitExceeded", "You have requested more instances than your current instance"
      .. " limit allows for the specified instance type.")
  end
  raise("InsufficientInstanceCapacity", CAPACITY:format(p.InstanceType or "t3.micro"), 500)
end

function act.latency(_, v)
  async.sleep(v)
end

-- The transport's share is left to send.
local TRANSPORT = { fin = true, rst = true, truncate = true, garble = true, slow = true,
  stall = true }

local function apply(ctx, rule, result)
  ctx.fault = rule.id
  local v = rule.given.effect[rule.name]
  if TRANSPORT[rule.name] then
    ctx.effect = { name = rule.name, value = v }
  elseif rule.name == "eventual" then
    ctx.d.faults:hide(ctx, v, result)
  elseif act[rule.name] then
    act[rule.name](ctx, v, rule)
  end
end

local function event_of(ctx)
  return { service = ctx.service, action = ctx.op_name, params = ctx.params }
end

--- After decoding, before anything is looked at; may raise a refusal or set
-- ctx.effect, which ends the request without effect.
-- @waits
function Faults:before(ctx)
  if next(self.hidden) then
    self:refuse_hidden(ctx)
  end
  local rule = self.rules[1] and self:pick("before", event_of(ctx))
  if rule then
    apply(ctx, rule)
  end
end

--- After the change is stored.
-- @param ctx table
-- @param result table answer, may be changed
-- @waits
function Faults:after(ctx, result)
  if next(self.hidden) then
    self:omit_hidden(ctx, result)
  end
  local rule = self.rules[1] and self:pick("after", event_of(ctx))
  if rule then
    apply(ctx, rule, result)
  end
end

--- A fault in a machine's life.
-- @param event {action="launch"|"stop"|"image"|"command"|"status", instance=id, params=}
-- @param name string effect wanted
-- @return any|nil its value
function Faults:guest(event, name)
  event.service, event.params = "guest", event.params or { event.instance }
  for _, rule in ipairs(self.rules) do
    if rule.when == "guest" and rule.name == name and fits(rule, event) and due(rule) then
      rule.hits = rule.hits + 1
      return rule.given.effect[name]
    end
  end
end

-- ---- eventual consistency ----

local ID = "^(%a+)%-%x+$"

local function collect_ids(value, into)
  if type(value) == "table" then
    for _, v in pairs(value) do
      collect_ids(v, into)
    end
  elseif type(value) == "string" and value:match(ID) and describe.kinds[value:match(ID)] then
    into[value] = true
  end
end

--- Hides what an answer names and its request did not: new ids.
function Faults:hide(ctx, v, result)
  local new, known = {}, {}
  collect_ids(result, new)
  collect_ids(ctx.params, known)
  v = type(v) == "table" and v or { describes = 1 }
  for id in pairs(new) do
    if not known[id] and ctx.S:is_new(id) then
      self.hidden[id] = { left = v.describes, ends = v.seconds and time.mono() + v.seconds,
        what = v.what or "all" }
    end
  end
end

-- Whether an id is still hidden; a look by id counts down.
local function still(self, id, counts)
  local h = self.hidden[id]
  if not h then
    return nil
  elseif (h.ends and time.mono() >= h.ends) or (h.left and h.left <= 0) then
    self.hidden[id] = nil
    return nil
  end
  if counts and h.left then
    h.left = h.left - 1
  end
  return h
end

function Faults:refuse_hidden(ctx)
  local ids = {}
  collect_ids(ctx.params, ids)
  local missing = {}
  for id in pairs(ids) do
    local h = still(self, id, true)
    if h and h.what == "all" then
      missing[#missing + 1] = id
    end
  end
  if missing[1] then
    table.sort(missing)
    ctx.fault = "eventual"
    describe.not_found(missing[1]:match(ID), missing)
  end
end

-- The id of a list's item: the first member that names a hidden one.
local function hidden_item(self, item)
  for key, v in pairs(item) do
    if type(v) == "string" and type(key) == "string" and key:match("Id$") and self.hidden[v] then
      return still(self, v)
    end
  end
end

-- Lists omit what is hidden; what = "tags" leaves out the tags only.
function Faults:omit_hidden(ctx, value)
  if type(value) ~= "table" or not (ctx.op_name or ""):match("^Describe") then
    return
  end
  for i = #value, 1, -1 do
    local h = type(value[i]) == "table" and hidden_item(self, value[i])
    if h and h.what == "tags" then
      value[i].Tags = nil
    elseif h then
      table.remove(value, i)
    end
  end
  for key, v in pairs(value) do
    self:omit_hidden(ctx, v)
    if key == "Reservations" then
      for i = #v, 1, -1 do
        if not v[i].Instances[1] then
          table.remove(v, i)
        end
      end
    end
  end
end

-- ---- the transport ----

local sent = {}

function sent.fin(req)
  req:abort "fin"
end

function sent.rst(req)
  req:abort "rst"
end

-- The announced length is right; the bytes end before.
function sent.truncate(req, answer, n)
  local parts = { answer.body:sub(1, math.min(math.max(0, math.floor(n)), #answer.body - 1)) }
  req:respond { status = answer.status, headers = answer.headers, length = #answer.body,
    cut = true, body = function()
      return table.remove(parts, 1)
    end }
end

-- What no HTTP server says: a status line or a chunk that is none, a length that
-- is too small, headers without end.
local RAW = {
  status = function(body)
    return ("HTTP/1.1 2oo OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body, body)
  end,
  chunk = function(body)
    return ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n%s\r\n0\r\n\r\n"):format(
      body)
  end,
  length = function(body)
    return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#body // 2, body)
  end,
  headers = function()
    return "HTTP/1.1 200 OK\r\n" .. ("X-More: and more\r\n"):rep(5000)
  end,
}

function sent.garble(req, answer, how)
  local body, headers = answer.body, answer.headers
  if RAW[how] then
    req:raw(RAW[how](body))
    return
  elseif how == "html" then
    body, headers["content-type"] = "<html><body>Welcome to the hotel's network</body></html>",
      "text/html"
  elseif how == "root" then
    body = body:sub(1, 1) == "{" and "[" .. json.encode(body) .. "]"
      or (body:gsub("<(/?)%w+Response", "<%1Surprise"))
  elseif how == "nul" then
    local half = #body // 2
    body = body:sub(1, half) .. "\0\0\0" .. body:sub(half + 4)
  else
    body = ""
  end
  req:respond { status = answer.status, headers = headers, body = body }
end

function sent.slow(req, answer, rate)
  local at, step = 1, math.max(1, math.floor(rate / 10))
  req:respond { status = answer.status, headers = answer.headers, length = #answer.body,
    body = function()
      if at > #answer.body then
        return nil
      end
      if at > 1 then
        async.sleep(step / rate)
      end
      at = at + step
      return answer.body:sub(at - step, at - 1)
    end }
end

function sent.stall(req, _, seconds)
  async.sleep(type(seconds) == "number" and seconds or STALL_SECONDS)
  req:abort "fin"
end

--- Sends an answer, or what a fault makes of it.
-- @param req table of hgauto.httpd
-- @param answer {status, headers, body, effect}
-- @waits
function M.send(req, answer)
  local effect = answer.effect
  if effect then
    sent[effect.name](req, answer, effect.value)
    return
  end
  req:respond { status = answer.status, headers = answer.headers, body = answer.body }
end

return M
