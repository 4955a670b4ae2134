-- Identity policies: reading a document and deciding about one action on one
-- resource, as IAM does it.  What is not understood is an error when the
-- document is read, so nothing in it is ever passed over.
-- Document: IAM user guide, grammar of JSON policies and evaluation logic.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local json = require "hgauto.json"

local M = {}

--- Most characters, white space not counted, that IAM takes: an inline policy of a role.
M.max_size = 10240
--- Most bytes of a file with one, white space and all.
M.max_file = 1 << 18

local function fail(fmt, ...)
  require("hg").fail { kind = "usage", code = "Policy", message = fmt:format(...) }
end

-- ---- matching ----

-- In policies a backslash is a character like any other.
local function glob(pattern, text)
  return describe.glob((pattern:gsub("\\", "\\\\")), text)
end

-- The six parts of an ARN; nil when it is none.
local function parts(arn)
  local list = { arn:match("^(arn):([^:]*):([^:]*):([^:]*):([^:]*):(.+)$") }
  return list[1] and list or nil
end

-- Wildcards stay within the parts of an ARN; the last one may hold colons.
local function arn_matches(pattern, arn)
  if pattern == "*" then
    return true
  end
  local want, have = parts(pattern), parts(arn)
  if not want or not have then
    return false
  end
  for i = 1, 6 do
    if not glob(want[i], have[i]) then
      return false
    end
  end
  return true
end

-- Of each operator: how a value of the policy is compared with one of the request.
local COMPARE = {
  StringEquals = function(want, have)
    return want == have
  end,
  StringEqualsIgnoreCase = function(want, have)
    return want:lower() == have:lower()
  end,
  StringLike = glob,
  ArnLike = arn_matches,
}
-- ArnEquals takes wildcards, too.
COMPARE.ArnEquals = COMPARE.ArnLike

local NEGATED = { StringNotEquals = "StringEquals", StringNotLike = "StringLike",
  StringNotEqualsIgnoreCase = "StringEqualsIgnoreCase", ArnNotEquals = "ArnEquals",
  ArnNotLike = "ArnLike" }

-- Keys that requests have (localcloud.authorize supplies them), in lower case.
local KEYS = { ["ec2:createaction"] = true, ["ec2:metadatahttptokens"] = true,
  ["ec2:region"] = true, ["iam:policyarn"] = true, ["iam:passedtoservice"] = true,
  ["aws:requestedregion"] = true, ["aws:principalarn"] = true }
local TAG_KEYS = { ["aws:resourcetag"] = true, ["aws:requesttag"] = true,
  ["ec2:resourcetag"] = true, ["ssm:resourcetag"] = true, ["iam:resourcetag"] = true }

-- ---- reading ----

-- The text of the string that begins at a quotation mark, and where it ends.
local function string_at(text, from)
  local at = from + 1
  while true do
    local stop = text:find('["\\]', at)
    if text:sub(stop, stop) == '"' then
      return text:sub(from + 1, stop - 1), stop + 1
    end
    at = stop + 2
  end
end

-- A name that an object of valid JSON holds twice: a decoder keeps one of them,
-- IAM refuses the document.
local function twice(text)
  local stack, at = {}, 1
  while true do
    at = text:find('[{}%[%]"]', at)
    if not at then
      return nil
    end
    local c = text:sub(at, at)
    if c == '"' then
      local name, after = string_at(text, at)
      local object = stack[#stack]
      if object and text:match("^%s*:", after) then
        if object[name] then
          return name
        end
        object[name] = true
      end
      at = after
    else
      if c == "{" or c == "[" then
        stack[#stack + 1] = {}
      else
        stack[#stack] = nil
      end
      at = at + 1
    end
  end
end

-- One text or a list of them.
local function texts(where, name, value)
  local list = type(value) == "table" and value or { value }
  if #list == 0 or type(value) == "table" and next(value, #value) ~= nil then
    fail("%s: %s must be a text or a list of texts", where, name)
  end
  for _, v in ipairs(list) do
    if type(v) ~= "string" or v == "" then
      fail("%s: %s must be a text or a list of texts", where, name)
    elseif v:find("${", 1, true) then
      fail('%s: %s "%s": the local cloud does not evaluate policy variables', where, name, v)
    end
  end
  return list
end

-- Exactly one of two elements that exclude each other; list, whether it is the Not form.
local function one_of(where, s, name, negated)
  if (s[name] ~= nil) == (s[negated] ~= nil) then
    fail("%s: exactly one of %s and %s is needed", where, name, negated)
  end
  local chosen = s[name] ~= nil and name or negated
  return texts(where, chosen, s[chosen]), chosen == negated
end

local function check_actions(where, list)
  for _, action in ipairs(list) do
    if action ~= "*" and not action:match("^[%w-]+:[%w*?]+$") then
      fail('%s: "%s" is no action: expected SERVICE:NAME, or *', where, action)
    end
  end
end

local function check_resources(where, list)
  for _, resource in ipairs(list) do
    if resource ~= "*" and not parts(resource) then
      fail('%s: "%s" is no resource: expected an ARN of six parts, or *', where, resource)
    end
  end
end

local function operator(where, name)
  local base, if_exists = name:match("^(.-)IfExists$"), true
  if not base then
    base, if_exists = name, false
  end
  local positive = NEGATED[base] or base
  if positive ~= "Null" and not COMPARE[positive] or positive == "Null" and if_exists then
    fail("%s: the local cloud does not evaluate the condition operator %s", where, name)
  end
  return { name = name, compare = COMPARE[positive], negated = NEGATED[base] ~= nil,
    if_exists = if_exists, null = positive == "Null" }
end

local function check_key(where, key)
  local prefix, tag = key:match("^([^/]*)/(.+)$")
  if not KEYS[key:lower()] and not (prefix and TAG_KEYS[prefix:lower()] and tag) then
    fail("%s: the local cloud does not evaluate the condition key %s", where, key)
  end
end

local function condition_values(where, op, key, value)
  if type(value) == "boolean" or type(value) == "number" then
    value = tostring(value)
  end
  local list = texts(where, "the condition on " .. key, value)
  for _, v in ipairs(list) do
    if op.null and v ~= "true" and v ~= "false" then
      fail("%s: Null takes true or false", where)
    end
  end
  return list
end

-- All of them must hold; in the order of their names, so that decisions repeat.
local function conditions(where, block)
  if block == nil then
    return {}
  elseif type(block) ~= "table" or block[1] ~= nil then
    fail("%s: Condition must be an object", where)
  end
  local list = {}
  for name, keys in pairs(block) do
    local op = operator(where, name)
    if type(keys) ~= "table" or next(keys) == nil or keys[1] ~= nil then
      fail("%s: %s must be an object of keys and values", where, name)
    end
    for key, value in pairs(keys) do
      check_key(where, key)
      list[#list + 1] = { op = op, key = key, id = name .. " " .. key,
        values = condition_values(where, op, key, value) }
    end
  end
  table.sort(list, function(a, b)
    return a.id < b.id
  end)
  return list
end

local ELEMENTS = { Sid = true, Effect = true, Action = true, NotAction = true, Resource = true,
  NotResource = true, Condition = true }

local function statement(where, s)
  if type(s) ~= "table" then
    fail("%s must be an object", where)
  end
  for name in pairs(s) do
    if name == "Principal" or name == "NotPrincipal" then
      fail("%s: the policy of an identity has no %s", where, name)
    elseif not ELEMENTS[name] then
      fail("%s: unknown element %s", where, tostring(name))
    end
  end
  if s.Effect ~= "Allow" and s.Effect ~= "Deny" then
    fail("%s: Effect must be Allow or Deny", where)
  elseif s.Sid ~= nil and (type(s.Sid) ~= "string" or not s.Sid:match("^%w*$")) then
    fail("%s: Sid must be letters and digits", where)
  end
  local out = { sid = s.Sid, allow = s.Effect == "Allow", conditions = conditions(where,
    s.Condition) }
  out.actions, out.not_action = one_of(where, s, "Action", "NotAction")
  out.resources, out.not_resource = one_of(where, s, "Resource", "NotResource")
  check_actions(where, out.actions)
  check_resources(where, out.resources)
  return out
end

local VERSIONS = { ["2012-10-17"] = true, ["2008-10-17"] = true }

local function decode(text, name)
  if text:match("^%s*$") then
    fail("%s: it is empty, no policy", name)
  end
  local ok, doc = pcall(json.decode, text)
  if not ok or type(doc) ~= "table" then
    fail("%s: it is not JSON%s", name, ok and "" or ": " .. tostring(doc):gsub("JSON: ", ""))
  end
  local again = twice(text)
  if again then
    fail('%s: "%s" stands twice in one object', name, again)
  elseif #text:gsub("%s", "") > M.max_size then
    fail("%s: a policy has at most %d characters, without white space", name, M.max_size)
  end
  for key in pairs(doc) do
    if key ~= "Version" and key ~= "Id" and key ~= "Statement" then
      fail("%s: unknown element %s", name, tostring(key))
    end
  end
  if doc.Version ~= nil and not VERSIONS[doc.Version] then
    fail("%s: Version must be 2012-10-17", name)
  elseif type(doc.Statement) ~= "table" or next(doc.Statement) == nil then
    fail("%s: it has no Statement", name)
  end
  return doc
end

--- Reads a policy of an identity.
-- @param text string JSON
-- @param name string what it is called in messages
-- @return table policy, for evaluate; hash identifies the text
-- @raise usage it is none, or holds what is not evaluated here
function M.read(text, name)
  local doc = decode(text, name)
  local list = doc.Statement[1] ~= nil and doc.Statement or { doc.Statement }
  local policy, sids = { hash = crypto.sha256(text), statements = {} }, {}
  for i, s in ipairs(list) do
    local sid = type(s) == "table" and type(s.Sid) == "string" and s.Sid ~= "" and s.Sid
    local st = statement(("%s: statement %d%s"):format(name, i, sid and " (" .. sid .. ")" or ""),
      s)
    if sid and sids[sid] then
      fail("%s: two statements have the Sid %s", name, sid)
    end
    sids[sid or ""] = sid and true
    st.sid = sid or tostring(i)
    policy.statements[i] = st
  end
  return policy
end

-- ---- deciding ----

-- The pattern of a list that fits, or nil.
local function first(list, matches, value)
  for _, pattern in ipairs(list) do
    if matches(pattern, value) then
      return pattern
    end
  end
end

-- Whether a list (or its negation) covers a value; the pattern that does.
local function covers(list, negated, matches, value)
  local hit = first(list, matches, value)
  if negated then
    return hit == nil, "other than " .. table.concat(list, ", ")
  end
  return hit ~= nil, hit
end

-- Whether a condition holds; the value of the policy that decided.
local function holds(c, keys)
  local have = keys[c.key:lower()]
  if c.op.null then
    local hit = first(c.values, function(v, absent)
      return v == absent
    end, tostring(have == nil))
    return hit ~= nil, hit
  elseif have == nil then
    return c.op.if_exists or c.op.negated, "(no such key)"
  end
  local hit = first(c.values, c.op.compare, have)
  if c.op.negated then
    return hit == nil, "other"
  end
  return hit ~= nil, hit
end

-- Whether a statement is about this; what of it was needed, as texts.
local function applies(s, ask)
  local ok, action = covers(s.actions, s.not_action, function(pattern, name)
    return glob(pattern:lower(), name)
  end, ask.action:lower())
  if not ok then
    return false
  end
  local fits, resource = covers(s.resources, s.not_resource, arn_matches, ask.resource)
  if not fits then
    return false
  end
  local used = { "action " .. action, "resource " .. resource }
  for _, c in ipairs(s.conditions) do
    local good, value = holds(c, ask.keys)
    if not good then
      return false
    end
    used[#used + 1] = c.id .. " " .. value
  end
  return true, used
end

--- Decides about one action on one resource.
-- @param policy table from read
-- @param ask table action="ec2:RunInstances", resource=ARN or "*", keys=condition keys in
--   lower case -> text
-- @return string "allow", "deny" (a statement says so) or "none" (no statement allows it)
-- @return string|nil Sid, or the number, of the statement
-- @return string[]|nil what of that statement was needed
function M.evaluate(policy, ask)
  local sid, what
  for _, s in ipairs(policy.statements) do
    if not (s.allow and sid) then
      local ok, used = applies(s, ask)
      if ok and not s.allow then
        return "deny", s.sid, used
      elseif ok then
        sid, what = s.sid, used
      end
    end
  end
  return sid and "allow" or "none", sid, what
end

return M
