-- Codecs of the protocols "ec2" and "query" on the server's side, driven by the
-- shapes of hgauto.aws.model; shares no code with the client's serialisers.
-- Decoding validates: what the model does not know is refused by name.

local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local time = require "hgauto.time"

local M = {}

local MAX_PARAMS = 10000
local MAX_DEPTH = 16

-- ---- forms ----

local function unescape(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- Splits a form body or query string into ordered pairs.
-- @param text string
-- @return {{key, value}, …}
function M.parse_form(text)
  local out = {}
  for part in text:gmatch("[^&]+") do
    if #out >= MAX_PARAMS then
      errors.raise("MalformedQueryString", "The request holds more than %d parameters", MAX_PARAMS)
    end
    local key, value = part:match("^([^=]*)=?(.*)$")
    out[#out + 1] = { unescape(key), unescape(value) }
  end
  return out
end

local function new_node()
  return { kids = {}, names = {} }
end

local function child(node, name)
  local kid = node.kids[name]
  if not kid then
    kid = new_node()
    node.kids[name] = kid
    node.names[#node.names + 1] = name
  end
  return kid
end

--- Turns pairs with dotted names into a tree of nodes {value, kids, names}.
-- @param pairs_list {{key, value}, …}
-- @return table root node
function M.tree(pairs_list)
  local root = new_node()
  for _, kv in ipairs(pairs_list) do
    local node, depth = root, 0
    for name in kv[1]:gmatch("[^.]+") do
      depth = depth + 1
      if depth > MAX_DEPTH then
        errors.raise("MalformedQueryString", "The parameter %s is nested too deeply", kv[1])
      end
      node = child(node, name)
    end
    if node.value then
      errors.raise("MalformedQueryString", "The parameter %s occurs twice", kv[1])
    end
    node.value = kv[2]
  end
  return root
end

-- ---- decoding ----

local decode_value

local function join(path, name)
  return path == "" and name or path .. "." .. name
end

-- Name of a member in requests of the protocol.
local function request_name(member, protocol)
  if protocol == "ec2" then
    local name = member.query or member.wire or member.name
    return name:sub(1, 1):upper() .. name:sub(2)
  end
  local list = member.shape
  if list.type == "list" and (list.flattened or member.flattened) and list.member.wire then
    return list.member.wire
  end
  return member.wire or member.name
end

local index = setmetatable({}, { __mode = "k" })

-- Members of a structure by their request name, remembered per shape.
local function members_by_name(shape, protocol)
  local of_shape = index[shape]
  if not of_shape then
    of_shape = {}
    index[shape] = of_shape
  end
  if not of_shape[protocol] then
    local map = {}
    for _, member in ipairs(shape.members) do
      map[request_name(member, protocol)] = member
    end
    of_shape[protocol] = map
  end
  return of_shape[protocol]
end

local function unknown(path)
  errors.raise("UnknownParameter", "The parameter %s is not recognized", path)
end

local function check_required(shape, value, path, protocol)
  for _, member in ipairs(shape.members) do
    if member.required and value[member.name] == nil then
      errors.raise("MissingParameter", "The request must contain the parameter %s",
        join(path, request_name(member, protocol)))
    end
  end
end

local function decode_structure(shape, node, path, protocol)
  if node.value and node.value ~= "" then
    unknown(path)
  end
  local by_name, out = members_by_name(shape, protocol), {}
  for _, name in ipairs(node.names) do
    local member = by_name[name] or unknown(join(path, name))
    out[member.name] = decode_value(member.shape, node.kids[name], join(path, name), protocol,
      member)
  end
  check_required(shape, out, path, protocol)
  return out
end

-- Children 1, 2, 3 … in order of their numbers; gaps are closed as EC2 does.
local function numbered(node, path)
  local keys = {}
  for _, name in ipairs(node.names) do
    local n = name:match("^%d+$") and #name < 10 and math.tointeger(tonumber(name))
    if not n then
      unknown(join(path, name))
    end
    keys[#keys + 1] = { n, name }
  end
  table.sort(keys, function(a, b)
    return a[1] < b[1]
  end)
  return keys
end

local function decode_list(shape, node, path, protocol, member)
  local flattened = protocol == "ec2" or shape.flattened or (member and member.flattened)
  if node.value and node.value ~= "" then
    unknown(path)
  end
  if not flattened then
    local wrapper = shape.member.wire or "member"
    for _, name in ipairs(node.names) do
      if name ~= wrapper then
        unknown(join(path, name))
      end
    end
    node, path = node.kids[wrapper] or new_node(), join(path, wrapper)
  end
  local out = {}
  for _, key in ipairs(numbered(node, path)) do
    local item_path = join(path, key[2])
    out[#out + 1] = decode_value(shape.member.shape, node.kids[key[2]], item_path, protocol)
  end
  return out
end

local function decode_map(shape, node, path, protocol, member)
  if not (shape.flattened or (member and member.flattened)) then
    node, path = node.kids.entry or new_node(), join(path, "entry")
  end
  local out = {}
  for _, key in ipairs(numbered(node, path)) do
    local entry, entry_path = node.kids[key[2]], join(path, key[2])
    local k = entry.kids[shape.key.wire or "key"]
    local v = entry.kids[shape.value.wire or "value"]
    if not (k and k.value and v) then
      unknown(entry_path)
    end
    out[k.value] = decode_value(shape.value.shape, v, entry_path, protocol)
  end
  return out
end

local function invalid(path, text, why)
  errors.raise("InvalidParameterValue", "Value (%s) for parameter %s is invalid. %s",
    text:sub(1, 200), path, why)
end

-- Text that XML 1.0 can carry back to the client.
local function check_text(text, path)
  if not utf8.len(text) or text:find("[\0-\8\11\12\14-\31]")
    or text:find("\xEF\xBF[\xBE\xBF]") then
    errors.raise("InvalidParameterValue", "Value for parameter %s holds invalid characters", path)
  end
end

local function decode_string(shape, text, path)
  check_text(text, path)
  if shape.enum then
    for _, allowed in ipairs(shape.enum) do
      if allowed == text then
        return text
      end
    end
    invalid(path, text, "It is not one of the allowed values.")
  end
  return text
end

local function decode_integer(_, text, path)
  local n = text:match("^[-+]?%d+$") and math.tointeger(tonumber(text))
  return n or invalid(path, text, "Expected an integer.")
end

local function decode_float(_, text, path)
  local n = text:match("^[-+%d.eE]+$") and tonumber(text)
  return n or invalid(path, text, "Expected a number.")
end

local BOOLEAN = { ["true"] = true, ["false"] = false, ["1"] = true, ["0"] = false }

local function decode_boolean(_, text, path)
  local value = BOOLEAN[text:lower()]
  if value == nil then
    invalid(path, text, "Expected true or false.")
  end
  return value
end

local function decode_timestamp(_, text, path)
  local ok, value = pcall(time.parse, text)
  return ok and value or invalid(path, text, "Expected a date such as 2026-01-02T03:04:05Z.")
end

local function decode_blob(_, text, path)
  local ok, value = pcall(crypto.unbase64, text)
  return ok and value or invalid(path, "…", "Expected base64.")
end

local SCALARS = {
  string = decode_string, character = decode_string,
  integer = decode_integer, long = decode_integer,
  float = decode_float, double = decode_float,
  boolean = decode_boolean, timestamp = decode_timestamp, blob = decode_blob,
}

function decode_value(shape, node, path, protocol, member)
  if shape.type == "structure" then
    return decode_structure(shape, node, path, protocol)
  elseif shape.type == "list" then
    return decode_list(shape, node, path, protocol, member)
  elseif shape.type == "map" then
    return decode_map(shape, node, path, protocol, member)
  end
  if #node.names > 0 then
    unknown(join(path, node.names[1]))
  end
  return SCALARS[shape.type](shape, node.value or "", path)
end

local COMMON = { Action = true, Version = true }

--- Decodes the parameters of an operation.
-- @param op table operation of hgauto.aws.model
-- @param pairs_list {{key, value}, …} without signature parameters
-- @param protocol "ec2"|"query"
-- @return table parameters with API names
-- @raise UnknownParameter, MissingParameter, InvalidParameterValue
function M.decode(op, pairs_list, protocol)
  local rest = {}
  for _, kv in ipairs(pairs_list) do
    if not COMMON[kv[1]] then
      rest[#rest + 1] = kv
    end
  end
  local root = M.tree(rest)
  if not op.input then
    return root.names[1] and unknown(root.names[1]) or {}
  end
  return decode_structure(op.input, root, "", protocol)
end

--- Finds the first parameter that an operation does not emulate.
-- @param accept table member name -> true, or a table for its members
-- @param value table decoded parameters
-- @return string|nil path of the parameter
function M.not_accepted(accept, value, path)
  for key, v in pairs(value) do
    if type(key) == "number" then
      local found = type(v) == "table" and M.not_accepted(accept, v, path)
      if found then
        return found
      end
    else
      local here = path and path .. "." .. key or key
      local rule = accept[key]
      if not rule then
        return here
      end
      local found = type(rule) == "table" and type(v) == "table" and M.not_accepted(rule, v, here)
      if found then
        return found
      end
    end
  end
  return nil
end

-- ---- encoding ----

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
  ["\r"] = "&#xD;" }

--- Escapes text for element content.
-- @param text string
-- @return string
function M.escape(text)
  return (text:gsub('[&<>"\r]', ENTITIES))
end

local encode_value

local function add(out, ...)
  for i = 1, select("#", ...) do
    out[#out + 1] = (select(i, ...))
  end
end

local function encode_members(out, shape, value, style)
  for _, member in ipairs(shape.members) do
    local v = value[member.name]
    if v ~= nil then
      encode_value(out, member.shape, v, member.wire or member.name, style, member)
    end
  end
  if style.unknown then
    for key in pairs(value) do
      style.unknown(shape, key)
    end
  end
end

local function encode_list(out, shape, value, name, style, member)
  local ref = shape.member
  if shape.flattened or (member and member.flattened) then
    for _, item in ipairs(value) do
      encode_value(out, ref.shape, item, ref.wire or name, style)
    end
    return
  end
  local item_name = style.protocol == "ec2" and "item" or ref.wire or "member"
  add(out, "<", name, ">")
  for _, item in ipairs(value) do
    encode_value(out, ref.shape, item, item_name, style)
  end
  add(out, "</", name, ">")
end

local function encode_map(out, shape, value, name, style)
  local keys = {}
  for key in pairs(value) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  add(out, "<", name, ">")
  for _, key in ipairs(keys) do
    out[#out + 1] = "<entry>"
    encode_value(out, shape.key.shape, key, shape.key.wire or "key", style)
    encode_value(out, shape.value.shape, value[key], shape.value.wire or "value", style)
    out[#out + 1] = "</entry>"
  end
  add(out, "</", name, ">")
end

local function scalar_text(shape, value, style)
  local kind = shape.type
  if kind == "timestamp" then
    return time.iso(value, { ms = style.protocol == "ec2" })
  elseif kind == "blob" then
    return crypto.base64(value)
  elseif kind == "integer" or kind == "long" then
    return ("%d"):format(value)
  end
  return M.escape(tostring(value))
end

function encode_value(out, shape, value, name, style, member)
  if shape.type == "structure" then
    add(out, "<", name, ">")
    encode_members(out, shape, value, style)
    add(out, "</", name, ">")
  elseif shape.type == "list" then
    encode_list(out, shape, value, name, style, member)
  elseif shape.type == "map" then
    encode_map(out, shape, value, name, style)
  else
    add(out, "<", name, ">", scalar_text(shape, value, style), "</", name, ">")
  end
end

-- Lists directly in the answer are there even when empty.
local function with_empty_lists(shape, value)
  local out = {}
  for k, v in pairs(value) do
    out[k] = v
  end
  for _, member in ipairs(shape.members) do
    if member.shape.type == "list" and out[member.name] == nil then
      out[member.name] = {}
    end
  end
  return out
end

local function strict_unknown(unknown_member)
  return unknown_member and function(shape, key)
    for _, member in ipairs(shape.members) do
      if member.name == key then
        return
      end
    end
    unknown_member(shape.name, key)
  end or nil
end

--- Encodes an answer.
-- @param svc table service of hgauto.aws.model
-- @param op table operation
-- @param result table API names
-- @param request_id string
-- @param unknown_member function(shape, key)|nil told of members the model lacks (older models
--   lack some; they are left out)
-- @return string body, string content type
function M.encode(svc, op, result, request_id, unknown_member)
  local protocol = svc.protocol
  local style = { protocol = protocol, unknown = strict_unknown(unknown_member) }
  local name = op.name .. "Response"
  local out = { '<?xml version="1.0" encoding="UTF-8"?>\n' }
  if protocol == "ec2" then
    add(out, "<", name, ' xmlns="http://ec2.amazonaws.com/doc/', svc.api_version, '/">',
      "<requestId>", request_id, "</requestId>")
    if op.output then
      encode_members(out, op.output, with_empty_lists(op.output, result), style)
    else
      -- Such operations answer <return>true</return>.
      out[#out + 1] = "<return>true</return>"
    end
    add(out, "</", name, ">")
    return table.concat(out), "text/xml;charset=UTF-8"
  end
  local wrapper = op.output and op.output.result_wrapper or op.name .. "Result"
  add(out, "<", name, ' xmlns="', svc.xml_namespace, '">')
  if op.output then
    add(out, "<", wrapper, ">")
    encode_members(out, op.output, result, style)
    add(out, "</", wrapper, ">")
  end
  add(out, "<ResponseMetadata><RequestId>", request_id, "</RequestId></ResponseMetadata></", name,
    ">")
  return table.concat(out), "text/xml"
end

--- Encodes a refusal in the protocol of the asking service.
-- @param protocol "ec2"|"query"|"json"
-- @param e table refusal
-- @param request_id string
-- @return string body, string content type, table more headers
function M.encode_error(protocol, e, request_id)
  local code, message = M.escape(e.code), M.escape(e.message)
  if protocol == "json" then
    local json = require "hgauto.json"
    return json.encode { __type = e.code, message = e.message }, "application/x-amz-json-1.1",
      { ["x-amzn-ErrorType"] = e.code }
  end
  if protocol == "ec2" then
    return table.concat {
      '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>', code,
      "</Code><Message>", message, "</Message></Error></Errors><RequestID>", request_id,
      "</RequestID></Response>" }, "text/xml;charset=UTF-8", {}
  end
  local side = e.status >= 500 and "Receiver" or "Sender"
  return table.concat {
    "<ErrorResponse><Error><Type>", side, "</Type><Code>", code, "</Code><Message>", message,
    "</Message></Error><RequestId>", request_id, "</RequestId></ErrorResponse>" }, "text/xml", {}
end

return M
