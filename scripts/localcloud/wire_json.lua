-- Codecs of the protocols "json" (1.1) and "rest-json" on the server's side,
-- driven by the shapes of hgauto.aws.model as wire.lua is for query and ec2.

local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local json = require "hgauto.json"
local time = require "hgauto.time"

local M = {}

-- ---- decoding ----

local decode_value

local function join(path, name)
  return path == "" and name or path .. "." .. name
end

local function wrong_type(path, wanted)
  errors.raise("SerializationException", "The value of %s is not a %s", path, wanted)
end

local function invalid(path, why)
  errors.raise("ValidationException",
    "1 validation error detected: Value at '%s' failed to satisfy constraint: %s", path, why)
end

local function check_required(shape, value, path)
  for _, member in ipairs(shape.members) do
    if member.required and value[member.name] == nil then
      invalid(join(path, member.name), "Member must not be null")
    end
  end
end

local function members_by_name(shape)
  local map = {}
  for _, member in ipairs(shape.members) do
    map[member.wire or member.name] = member
  end
  return map
end

local function decode_members(shape, value, path)
  if type(value) ~= "table" or value[1] ~= nil then
    wrong_type(path == "" and "the request" or path, "structure")
  end
  local by_name, out = members_by_name(shape), {}
  for name, v in pairs(value) do
    local member = by_name[name] or errors.raise("UnknownParameter",
      "The parameter %s is not recognized", join(path, tostring(name)))
    out[member.name] = decode_value(member.shape, v, join(path, name))
  end
  return out
end

local function decode_structure(shape, value, path)
  local out = decode_members(shape, value, path)
  check_required(shape, out, path)
  return out
end

local function decode_list(shape, value, path)
  if type(value) ~= "table" or (next(value) ~= nil and value[1] == nil) then
    wrong_type(path, "list")
  end
  local out = {}
  for i, v in ipairs(value) do
    out[i] = decode_value(shape.member.shape, v, ("%s.%d"):format(path, i))
  end
  return out
end

local function decode_map(shape, value, path)
  if type(value) ~= "table" or value[1] ~= nil then
    wrong_type(path, "map")
  end
  local out = {}
  for k, v in pairs(value) do
    out[k] = decode_value(shape.value.shape, v, join(path, tostring(k)))
  end
  return out
end

local function decode_string(shape, value, path)
  if type(value) ~= "string" then
    wrong_type(path, "string")
  end
  for _, allowed in ipairs(shape.enum or {}) do
    if allowed == value then
      return value
    end
  end
  if shape.enum then
    invalid(path, "Member must satisfy enum value set: [" .. table.concat(shape.enum, ", ") .. "]")
  end
  return value
end

local function decode_integer(_, value, path)
  return math.tointeger(value) or wrong_type(path, "whole number")
end

local function decode_number(_, value, path)
  return type(value) == "number" and value or wrong_type(path, "number")
end

local function decode_boolean(_, value, path)
  if type(value) ~= "boolean" then
    wrong_type(path, "boolean")
  end
  return value
end

local function decode_timestamp(_, value, path)
  if type(value) == "number" then
    return value
  end
  local ok, at = pcall(time.parse, value)
  return ok and at or wrong_type(path, "timestamp")
end

local function decode_blob(_, value, path)
  local ok, bytes = pcall(crypto.unbase64, value)
  return ok and bytes or wrong_type(path, "base64 text")
end

local DECODERS = { structure = decode_structure, list = decode_list, map = decode_map,
  string = decode_string, character = decode_string, integer = decode_integer,
  long = decode_integer, float = decode_number, double = decode_number,
  boolean = decode_boolean, timestamp = decode_timestamp, blob = decode_blob }

function decode_value(shape, value, path)
  return DECODERS[shape.type](shape, value, path)
end

local function parse(text)
  if text == "" then
    return {}
  end
  local ok, value = pcall(json.decode, text)
  return ok and value
    or errors.raise("SerializationException", "The request's body is not JSON")
end

--- Decodes the body of a json 1.1 request.
-- @param op table operation of hgauto.aws.model
-- @param text string body; empty stands for no parameters
-- @return table parameters with API names
-- @raise SerializationException, ValidationException, UnknownParameter
function M.decode(op, text)
  local value = parse(text)
  return op.input and decode_structure(op.input, value, "") or {}
end

-- ---- encoding ----

local encode_value

local function encode_structure(shape, value)
  local parts = {}
  for _, member in ipairs(shape.members) do
    local v = value[member.name]
    if v ~= nil and not member.location and member.name ~= shape.payload then
      parts[#parts + 1] = json.encode(member.wire or member.name) .. ":"
        .. encode_value(member.shape, v)
    end
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function encode_list(shape, value)
  local parts = {}
  for i, v in ipairs(value) do
    parts[i] = encode_value(shape.member.shape, v)
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function encode_map(shape, value)
  local keys, parts = {}, {}
  for k in pairs(value) do
    keys[#keys + 1] = k
  end
  table.sort(keys)
  for i, k in ipairs(keys) do
    parts[i] = json.encode(k) .. ":" .. encode_value(shape.value.shape, value[k])
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode_value(shape, value)
  local kind = shape.type
  if kind == "structure" then
    return encode_structure(shape, value)
  elseif kind == "list" then
    return encode_list(shape, value)
  elseif kind == "map" then
    return encode_map(shape, value)
  elseif kind == "timestamp" then
    -- Seconds with milliseconds, never in the form 1e9.
    return ("%.3f"):format(value)
  elseif kind == "blob" then
    return json.encode(crypto.base64(value))
  elseif kind == "integer" or kind == "long" then
    return ("%d"):format(value)
  end
  return json.encode(value)
end

--- Encodes an answer of the protocol json.
-- @param op table operation
-- @param result table API names
-- @return string
function M.encode(op, result)
  return op.output and encode_structure(op.output, result) or "{}"
end

-- ---- rest-json ----

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- Whether a path is that of an operation.
-- @param uri string template such as "/functions/{Name}/invocations"
-- @param path string raw path of a request
-- @return table|nil values by the names in the template
function M.match_uri(uri, path)
  local names, out = {}, {}
  local pattern = uri:gsub("%?.*$", ""):gsub("[%-.+*^$%%()]", "%%%0")
  pattern = pattern:gsub("{(%w+)%+?}", function(name)
    names[#names + 1] = name
    return "([^/]+)"
  end)
  local found = { path:match("^" .. pattern .. "$") }
  if not found[1] then
    return nil
  end
  for i, name in ipairs(names) do
    out[name] = unescape(found[i])
  end
  return out
end

local function located(member, req, uri, query)
  local name = member.wire or member.name
  if member.location == "uri" then
    return uri[name]
  elseif member.location == "header" then
    return req.headers[name:lower()]
  elseif member.location == "querystring" then
    return query[name]
  end
end

--- Decodes a rest-json request: path, headers, query and body.
-- @param op table operation
-- @param req table headers, body
-- @param uri table what match_uri found
-- @param query table name -> value
-- @return table parameters with API names
function M.decode_rest(op, req, uri, query)
  local payload = op.input.payload
  local out = payload and {} or decode_members(op.input, parse(req.body or ""), "")
  for _, member in ipairs(op.input.members) do
    if member.location then
      local text = located(member, req, uri, query)
      out[member.name] = text and decode_value(member.shape, text, member.name)
    elseif member.name == payload and req.body ~= "" then
      out[member.name] = req.body
    end
  end
  check_required(op.input, out, "")
  return out
end

--- Encodes an answer of the protocol rest-json.
-- @param op table operation
-- @param result table API names
-- @return string body, table headers, integer|nil status
function M.encode_rest(op, result)
  local headers, status = {}, nil
  for _, member in ipairs(op.output and op.output.members or {}) do
    local v = result[member.name]
    if member.location == "header" and v ~= nil then
      headers[(member.wire or member.name):lower()] = tostring(v)
    elseif member.location == "statusCode" then
      status = v
    end
  end
  local payload = op.output and op.output.payload
  if payload then
    return result[payload] or "", headers, status
  end
  return M.encode(op, result), headers, status
end

return M
