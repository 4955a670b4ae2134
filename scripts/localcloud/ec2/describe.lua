-- What all Describe operations share: id checks, filters, paging.  Pure: takes
-- plain tables, knows neither HTTP nor the store.

local errors = require "localcloud.errors"
local crypto = require "hgauto.crypto"
local json = require "hgauto.json"

local M = {}

-- Kinds of resources by id prefix: error codes and texts as AWS words them.
local KINDS = {
  i = { "InvalidInstanceID", "The instance ID '%s' does not exist",
    "The instance IDs '%s' do not exist" },
  ami = { "InvalidAMIID", "The image id '[%s]' does not exist",
    "The image ids '[%s]' do not exist" },
  sg = { "InvalidGroup", "The security group '%s' does not exist", nil,
    "InvalidGroupId.Malformed" },
  sgr = { "InvalidSecurityGroupRuleId", "The security group rule ID '%s' does not exist" },
  vol = { "InvalidVolume", "The volume '%s' does not exist.", nil, "InvalidVolumeID.Malformed" },
  snap = { "InvalidSnapshot", "The snapshot '%s' does not exist.", nil,
    "InvalidSnapshotID.Malformed" },
  key = { "InvalidKeyPair", "The key pair '%s' does not exist", nil, "InvalidParameterValue" },
  eni = { "InvalidNetworkInterfaceID", "The networkInterface ID '%s' does not exist" },
  vpc = { "InvalidVpcID", "The vpc ID '%s' does not exist" },
  subnet = { "InvalidSubnetID", "The subnet ID '%s' does not exist" },
  sir = { "InvalidSpotInstanceRequestID", "The spot instance request ID '%s' does not exist" },
  eipalloc = { "InvalidAllocationID", "The allocation ID '%s' does not exist" },
}
M.kinds = KINDS

--- Refuses an id that cannot be one of that kind.
-- @param prefix string "i", "ami", "sg" …
-- @param id string
function M.check_form(prefix, id)
  local hex = id:match("^" .. prefix .. "%-(%x+)$")
  if hex and (#hex == 8 or #hex == 17) and hex == hex:lower() then
    return
  end
  local kind = KINDS[prefix]
  errors.raise(kind[4] or kind[1] .. ".Malformed", "Invalid id: \"%s\"", id)
end

--- Refuses the call because these ids do not exist.
-- @param prefix string
-- @param missing string[]
function M.not_found(prefix, missing)
  local kind = KINDS[prefix]
  local text = #missing > 1 and kind[3] or kind[2]
  local list = #missing > 1 and kind[3] and table.concat(missing, ", ") or missing[1]
  errors.raise(kind[1] .. ".NotFound", text, list)
end

--- Picks objects by id, in the order asked for, each once.
-- @param prefix string
-- @param ids string[]
-- @param get function(id) -> object or nil
-- @return object[]
function M.by_ids(prefix, ids, get)
  for _, id in ipairs(ids) do
    M.check_form(prefix, id)
  end
  local out, missing, seen = {}, {}, {}
  for _, id in ipairs(ids) do
    if not seen[id] then
      seen[id] = true
      local obj = get(id)
      if obj then
        out[#out + 1] = obj
      else
        missing[#missing + 1] = id
      end
    end
  end
  if #missing > 0 then
    M.not_found(prefix, missing)
  end
  return out
end

-- ---- filters ----

-- One step of the glob: literal byte, "any" (?) or "many" (*).
local function compile(glob)
  local steps, i = {}, 1
  while i <= #glob do
    local c = glob:sub(i, i)
    if c == "\\" and i < #glob then
      i = i + 1
      steps[#steps + 1] = glob:sub(i, i)
    elseif c == "*" then
      if steps[#steps] ~= "many" then
        steps[#steps + 1] = "many"
      end
    elseif c == "?" then
      steps[#steps + 1] = "any"
    else
      steps[#steps + 1] = c
    end
    i = i + 1
  end
  return steps
end

--- Matches text against an EC2 filter value (* ? and \ escape), case-sensitive.
-- Linear in practice: only the last star is ever retried.
-- @param glob string
-- @param text string
-- @return boolean
function M.glob(glob, text)
  local steps = compile(glob)
  local s, t, star, mark = 1, 1, nil, nil
  while t <= #text do
    local step = steps[s]
    if step == "many" then
      star, mark = s, t
      s = s + 1
    elseif step == "any" or step == text:sub(t, t) then
      s, t = s + 1, t + 1
    elseif star then
      mark = mark + 1
      s, t = star + 1, mark
    else
      return false
    end
  end
  if steps[s] == "many" then
    s = s + 1
  end
  return s > #steps
end

local function any_match(patterns, got)
  if got == nil then
    return false
  end
  if type(got) ~= "table" then
    got = { got }
  end
  for _, value in ipairs(got) do
    local text = tostring(value)
    for _, pattern in ipairs(patterns) do
      if M.glob(pattern, text) then
        return true
      end
    end
  end
  return false
end

local function tag_keys(obj)
  local keys = {}
  for key in pairs(obj.tags or {}) do
    keys[#keys + 1] = key
  end
  return keys
end

-- The getter of one filter name: a string is a field, a function computes.
local function getter(name, fields)
  local key = name:match("^tag:(.+)$")
  if key then
    return function(obj)
      return obj.tags and obj.tags[key]
    end
  end
  if name == "tag-key" then
    return tag_keys
  end
  local field = fields[name]
  if type(field) == "string" then
    return function(obj)
      return obj[field]
    end
  end
  return field or errors.raise("InvalidParameterValue", "The filter '%s' is invalid", name)
end

--- Keeps the objects that satisfy all filters (OR within one filter's values).
-- @param list object[]
-- @param filters table|nil {{Name=, Values={…}}, …}
-- @param fields table filter name -> field name or function(obj) -> value(s)
-- @return object[]
function M.filter(list, filters, fields)
  local tests = {}
  for _, f in ipairs(filters or {}) do
    if not f.Name or f.Name == "" then
      errors.raise("InvalidParameterValue", "The filter 'null' is invalid")
    end
    tests[#tests + 1] = { getter(f.Name, fields), f.Values or {} }
  end
  local out = {}
  for _, obj in ipairs(list) do
    local keep = true
    for _, t in ipairs(tests) do
      if not any_match(t[2], t[1](obj)) then
        keep = false
        break
      end
    end
    if keep then
      out[#out + 1] = obj
    end
  end
  return out
end

-- ---- paging ----

-- Sort key of an object: creation time in ms, then id.
local function order_key(obj)
  return ("%015d|%s"):format(obj.created or 0, obj.id)
end
M.order_key = order_key

--- Sorts in place by creation time, then id.
-- @param list object[]
-- @return the same list
function M.sort(list)
  local keys = {}
  for _, obj in ipairs(list) do
    keys[obj] = order_key(obj)
  end
  table.sort(list, function(a, b)
    return keys[a] < keys[b]
  end)
  return list
end

-- Hash of everything that must stay equal from page to page.
local function params_hash(op, params)
  local rest = {}
  for k, v in pairs(params) do
    if k ~= "MaxResults" and k ~= "NextToken" and k ~= "DryRun" then
      rest[k] = v
    end
  end
  return crypto.sha256(op .. "\n" .. json.encode(rest))
end

local function sign(secret, text)
  return crypto.hmac_sha256(secret, text)
end

--- Makes a page token; opaque to clients, valid for the same query only.
-- @param secret string key of this state directory
-- @param op string operation
-- @param params table the call's parameters
-- @param last string order key of the last item shown
-- @return string
function M.token(secret, op, params, last)
  local text = params_hash(op, params) .. last
  return crypto.base64(sign(secret, text) .. text)
end

--- Reads a page token back.
-- @return string order key after which the next page starts
-- @raise InvalidNextToken when altered or of another query
function M.untoken(secret, op, params, token)
  local ok, raw = pcall(crypto.unbase64, token)
  if ok and raw and #raw > 96 then
    local mac, text = raw:sub(1, 32), raw:sub(33)
    if crypto.equal(mac, sign(secret, text)) and text:sub(1, 64) == params_hash(op, params) then
      return text:sub(65)
    end
  end
  errors.raise("InvalidNextToken", "The token '%s' is invalid", token:sub(1, 200))
end

local function check_max(max, least)
  if max and (max < least or max > 1000) then
    local bound = max < least and "greater than " .. least or "less than 1000"
    errors.raise("InvalidParameterValue",
      "Value ( %d ) for parameter maxResults is invalid. Expecting a value %s.", max, bound)
  end
end

--- Cuts one page out of a sorted list.
-- @param list object[] sorted by M.sort
-- @param opts.op string operation
-- @param opts.params table decoded parameters
-- @param opts.secret string
-- @param opts.size integer default page size
-- @param opts.ids string|nil name of the ids parameter (excludes MaxResults)
-- @param opts.least integer|nil smallest MaxResults, default 5
-- @param opts.weight function|nil items that one object counts for
-- @return object[], string|nil next token
function M.page(list, opts)
  local p = opts.params
  check_max(p.MaxResults, opts.least or 5)
  if opts.ids and p[opts.ids] and #p[opts.ids] > 0 and p.MaxResults then
    errors.raise("InvalidParameterCombination",
      "The parameter %s cannot be used with the parameter maxResults", opts.ids)
  end
  local after = p.NextToken and M.untoken(opts.secret, opts.op, p, p.NextToken) or ""
  local size = p.MaxResults or opts.size
  local out, count = {}, 0
  for _, obj in ipairs(list) do
    local key = order_key(obj)
    if key > after then
      if count >= size then
        return out, M.token(opts.secret, opts.op, p, order_key(out[#out]))
      end
      out[#out + 1] = obj
      count = count + (opts.weight and opts.weight(obj) or 1)
    end
  end
  return out, nil
end

return M
