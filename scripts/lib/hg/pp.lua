--- Prints values for people: REPL results and `-o human`.
--
-- Lists of alike records become tables, others trees; deep or long values are
-- cut and say so.
local M = {}

local DEPTH, ITEMS, CHARS = 3, 10, 200

local ESCAPES = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"',
  ["\\"] = "\\\\" }

local function scalar(v)
  local t = type(v)
  if t == "string" then
    if not utf8.len(v) then
      local hex = v:sub(1, 16):gsub(".", function(c)
        return ("\\x%02x"):format(c:byte())
      end)
      return ('"%s…" (%d bytes)'):format(hex, #v)
    end
    local text = v:gsub("[%c\"\\]", function(c)
      return ESCAPES[c] or ("\\x%02x"):format(c:byte())
    end)
    if #text > CHARS then
      local cut = utf8.offset(text, 0, CHARS) or CHARS
      return ('"%s…" (%d bytes)'):format(text:sub(1, cut - 1), #v)
    end
    return '"' .. text .. '"'
  elseif t == "number" then
    if math.type(v) == "integer" then
      return tostring(v)
    end
    return ("%.17g"):format(v) == ("%.15g"):format(v) and ("%.15g"):format(v) or ("%.17g"):format(v)
  elseif t == "function" then
    local info = debug.getinfo(v, "S")
    return ("function (%s:%d)"):format(info.short_src, info.linedefined)
  end
  return tostring(v)
end

local function sorted_keys(t)
  local keys = {}
  for k in next, t do
    keys[#keys + 1] = k
  end
  table.sort(keys, function(a, b)
    local ta, tb = type(a), type(b)
    if ta ~= tb then
      return ta < tb
    end
    if ta == "number" or ta == "string" then
      return a < b
    end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local tree

local function is_list(t)
  local n = rawlen(t)
  local count = 0
  for _ in next, t do
    count = count + 1
    if count > n then
      return false
    end
  end
  return n > 0 and count == n
end

local function list_lines(t, indent, depth, seen)
  local out = {}
  for i = 1, math.min(#t, ITEMS) do
    out[#out + 1] = indent .. "- " .. tree(t[i], indent .. "  ", depth + 1, seen)
  end
  if #t > ITEMS then
    out[#out + 1] = ("%s… +%d"):format(indent, #t - ITEMS)
  end
  return out
end

local function record_lines(t, indent, depth, seen)
  local out = {}
  local keys = sorted_keys(t)
  for i, k in ipairs(keys) do
    if i > ITEMS * 4 then
      out[#out + 1] = ("%s… +%d"):format(indent, #keys - i + 1)
      break
    end
    local name = type(k) == "string" and k or ("[" .. scalar(k) .. "]")
    out[#out + 1] = ("%s%s = %s"):format(indent, name,
      tree(rawget(t, k), indent .. "  ", depth + 1, seen))
  end
  return out
end

tree = function(v, indent, depth, seen)
  if type(v) ~= "table" then
    return scalar(v)
  end
  local mt = getmetatable(v)
  if type(mt) == "table" and mt.__tostring then
    return tostring(v)
  end
  if next(v) == nil then
    return "{}"
  end
  if seen[v] then
    return "‹cycle›"
  end
  if depth >= DEPTH then
    return is_list(v) and ("{… %d items}"):format(#v) or "{…}"
  end
  seen[v] = true
  local lines = is_list(v) and list_lines(v, indent, depth, seen)
    or record_lines(v, indent, depth, seen)
  seen[v] = nil
  return "\n" .. table.concat(lines, "\n")
end

--- Text of any value.
-- @param v any
-- @return string
function M.text(v)
  local text = tree(v, "", 0, {})
  return (text:gsub("^\n", ""))
end

return M
