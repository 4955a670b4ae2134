--- Nearest names for "did you mean".
--
-- Damerau-Levenshtein in its optimal-string-alignment form, ASCII case
-- ignored, `-` and `_` equal.  Pure Lua: nothing is loaded.
local M = {}

local function fold(s)
  return (s:lower():gsub("_", "-"))
end

--- Edit distance of two short texts (insert, delete, replace, swap).
-- @param a string
-- @param b string
-- @return integer
function M.distance(a, b)
  a, b = fold(a), fold(b)
  local before, prev = nil, {}
  for j = 0, #b do
    prev[j] = j
  end
  for i = 1, #a do
    local cur = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local d = math.min(prev[j] + 1, cur[j - 1] + 1, prev[j - 1] + (same and 0 or 1))
      if before and i > 1 and j > 1 and a:byte(i) == b:byte(j - 1)
        and a:byte(i - 1) == b:byte(j) then
        d = math.min(d, before[j - 2] + 1)
      end
      cur[j] = d
    end
    before, prev = prev, cur
  end
  return prev[#b]
end

local function common_prefix(a, b)
  a, b = fold(a), fold(b)
  local n = 0
  while n < #a and n < #b and a:byte(n + 1) == b:byte(n + 1) do
    n = n + 1
  end
  return n
end

--- At most three of `names` near enough to `word`, best first.
-- Near enough: at most max(1, floor(#word / 3)) edits.
-- @param word string
-- @param names string[]
-- @return string[]
function M.near(word, names)
  local limit = math.max(1, #word // 3)
  local found = {}
  for _, name in ipairs(names) do
    if math.abs(#name - #word) <= limit and #name <= 64 then
      local d = M.distance(word, name)
      if d <= limit then
        found[#found + 1] = { d = d, p = common_prefix(word, name), name = name }
      end
    end
  end
  table.sort(found, function(x, y)
    if x.d ~= y.d then
      return x.d < y.d
    end
    if x.p ~= y.p then
      return x.p > y.p
    end
    return x.name < y.name
  end)
  local out = {}
  for i = 1, math.min(3, #found) do
    out[i] = found[i].name
  end
  return out
end

--- "; did you mean A or B?" or "".
-- @param word string
-- @param names string[]
-- @param[opt] prefix string put before each name, such as "--"
-- @return string
function M.text(word, names, prefix)
  local near = M.near(word, names)
  if #near == 0 then
    return ""
  end
  for i, name in ipairs(near) do
    near[i] = (prefix or "") .. name
  end
  return "; did you mean " .. table.concat(near, " or ") .. "?"
end

return M
