-- What roles and instance profiles share: names, paths, policy documents, pages.

local auth = require "localcloud.auth"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local json = require "hgauto.json"

local M = {}

local NAME = "^[%w+=,.@_-]+$"

local function invalid(what, value)
  errors.raise("ValidationError", "1 validation error detected: Value '%s' at '%s' failed to"
    .. " satisfy constraint", value:sub(1, 140), what)
end

--- Refuses a name that IAM would refuse.
-- @param what string parameter, for the message
-- @param name string
-- @param max integer|nil default 64
function M.check_name(what, name, max)
  if #name < 1 or #name > (max or 64) or not name:match(NAME) then
    invalid(what, name)
  end
end

--- Path of a role or profile: / or /…/.
-- @param path string|nil
-- @return string
function M.path(path)
  path = path or "/"
  if #path > 512 or not (path == "/" or path:match("^/[\33-\126]*/$")) then
    invalid("path", path)
  end
  return path
end

--- The object of that name, whatever its case.
-- @return table|nil
function M.find(S, kind, name)
  for _, obj in ipairs(S:list(kind, "global")) do
    if obj.name:lower() == name:lower() then
      return obj
    end
  end
end

--- The object of that exact name.
-- @raise NoSuchEntity
function M.need(S, kind, name, title)
  local obj = M.find(S, kind, name)
  if not obj or obj.name ~= name then
    errors.raise("NoSuchEntity", "%s %s cannot be found.", title, name)
  end
  return obj
end

--- Refuses a name that is taken.
-- @raise EntityAlreadyExists
function M.unused(S, kind, name, title)
  if M.find(S, kind, name) then
    errors.raise("EntityAlreadyExists", "%s with name %s already exists.", title, name)
  end
end

--- An id such as AROA….
function M.new_id(prefix)
  return auth.random_name(prefix, 17)
end

--- arn:aws:iam::ACCOUNT:role/path/name
function M.arn(account, kind, path, name)
  return ("arn:aws:iam::%s:%s%s%s"):format(account, kind, path, name)
end

-- ---- policy documents ----

local function malformed(why)
  errors.raise("MalformedPolicyDocument", "%s", why)
end

--- Statements of a policy document that was checked.
-- @param text string
-- @return table[]
function M.statements(text)
  local doc = json.decode(text)
  return doc.Statement[1] and doc.Statement or { doc.Statement }
end

local function check_statement(s, trust)
  if type(s) ~= "table" then
    malformed("Syntax errors in policy.")
  elseif s.Effect ~= "Allow" and s.Effect ~= "Deny" then
    malformed("Statement must contain an Effect of Allow or Deny.")
  elseif not s.Action and not s.NotAction then
    malformed("Policy statement must contain actions.")
  elseif trust and not s.Principal and not s.NotPrincipal then
    malformed("A trust policy's statement must name a principal.")
  elseif trust and (s.Resource or s.NotResource) then
    malformed("Has prohibited field Resource")
  elseif not trust and s.Principal then
    malformed("Policy document should not specify a principal.")
  elseif not trust and not s.Resource and not s.NotResource then
    malformed("Policy statement must contain resources.")
  end
end

--- Refuses what is no policy document.
-- @param text string
-- @param trust boolean of the trust policy of a role
-- @raise MalformedPolicyDocument, LimitExceeded
function M.check_policy(text, trust)
  if #text > 10240 then
    errors.raise("LimitExceeded", "Cannot exceed quota for PolicySize: 10240")
  end
  local ok, doc = pcall(json.decode, text)
  if not ok or type(doc) ~= "table" or type(doc.Statement) ~= "table"
    or next(doc.Statement) == nil then
    malformed("Syntax errors in policy.")
  end
  if doc.Version and doc.Version ~= "2012-10-17" and doc.Version ~= "2008-10-17" then
    malformed("Policy document must be version 2012-10-17 or greater.")
  end
  for _, s in ipairs(doc.Statement[1] and doc.Statement or { doc.Statement }) do
    check_statement(s, trust)
  end
end

--- A document as answers carry it.
-- @param text string
-- @return string percent-encoded
function M.encoded(text)
  return (text:gsub("[^%w%-._~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

-- ---- lists ----

--- One page of a list sorted by its names.
-- @param c table request context
-- @param p table parameters
-- @param list table[] with .name
-- @return table[], boolean|nil truncated, string|nil marker
function M.page(c, p, list)
  local max = p.MaxItems or 100
  if max < 1 or max > 1000 then
    invalid("maxItems", tostring(max))
  end
  local rest = {}
  for k, v in pairs(p) do
    rest[k] = k ~= "MaxItems" and k ~= "Marker" and v or nil
  end
  local after = ""
  if p.Marker then
    local ok, key = pcall(describe.untoken, c.S.secret, c.op_name, rest, p.Marker)
    if not ok then
      invalid("marker", p.Marker)
    end
    after = key
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  local out = {}
  for _, obj in ipairs(list) do
    if obj.name > after then
      if #out == max then
        return out, true, describe.token(c.S.secret, c.op_name, rest, out[#out].name)
      end
      out[#out + 1] = obj
    end
  end
  return out, false, nil
end

--- Those objects of a list whose path begins so.
function M.below(list, prefix)
  local out = {}
  for _, obj in ipairs(list) do
    if not prefix or obj.path:sub(1, #prefix) == prefix then
      out[#out + 1] = obj
    end
  end
  return out
end

--- Adds tags to an object.
-- @raise InvalidInput, LimitExceeded
function M.add_tags(obj, list)
  local n = 0
  for _, tag in ipairs(list or {}) do
    if #tag.Key > 128 or #tag.Value > 256 or tag.Key:lower():match("^aws:") then
      errors.raise("InvalidInput", "The tag %s is not valid", tag.Key:sub(1, 140))
    end
    obj.tags[tag.Key] = tag.Value
  end
  for _ in pairs(obj.tags) do
    n = n + 1
  end
  if n > 50 then
    errors.raise("LimitExceeded", "Cannot exceed quota for TagsPer%s: 50", obj.kind)
  end
end

return M
