--- Declarations of arguments: types, parser and help from one table.
--
-- Tasks and hgauto's own commands use the same declarations (command line
-- specification, section 5.2).  Nothing here waits or touches the network.
local suggest = require "hg.suggest"

local M = {}

local function usage(fmt, ...)
  local hg = require "hg"
  return hg.fail { kind = "usage", message = fmt:format(...) }
end

-- ---- values -----------------------------------------------------------------

local DURATION = { s = 1, m = 60, h = 3600, d = 86400 }

--- Seconds of a duration text ("90", "90s", "20m", "1h30m", "2d"); at most 30 days.
-- @param text string|number
-- @return number|nil nil when it is none
function M.duration(text)
  if type(text) == "number" then
    return text >= 0 and text or nil
  end
  if text:match("^%d+$") then
    return math.tointeger(text)
  end
  local total, rest = 0, text
  local seen = {}
  while rest ~= "" do
    local n, unit, tail = rest:match("^(%d+)([smhd])(.*)$")
    if not n or seen[unit] then
      return nil
    end
    seen[unit] = true
    total = total + math.tointeger(n) * DURATION[unit]
    rest = tail
  end
  if text == "" or total > 30 * 86400 then
    return nil
  end
  return total
end

local SIZE = { K = 1, M = 2, G = 3, T = 4 }

--- Bytes of a size text: "10M" = "10MiB" = 10 * 2^20, "10MB" = 10^7.
-- @param text string
-- @return integer|nil
function M.size(text)
  local n, unit, tail = text:match("^(%d+)([KMGTkmgt]?)(i?[Bb]?)$")
  if not n then
    return nil
  end
  if unit == "" then
    return (tail == "" or tail == "B") and math.tointeger(n) or nil
  end
  local power = SIZE[unit:upper()]
  if tail == "" or tail == "iB" then
    return math.tointeger(n) * 1024 ^ power // 1 | 0
  elseif tail == "B" then
    return math.tointeger(n) * 1000 ^ power // 1 | 0
  end
  return nil
end

-- A type: what it expects (for messages), metavar, conversion to the Lua value
-- (nil = refused, with an optional reason).
local TYPES = {}

local function define(name, metavar, expects, convert)
  TYPES[name] = { metavar = metavar, expects = expects, convert = convert }
end

define("string", "TEXT", "a text", function(a, s)
  if a.max and #s > a.max then
    return nil, ("at most %d bytes"):format(a.max)
  end
  if a.pattern and not s:find(a.pattern) then
    return nil, a.expects or ("a text like " .. a.pattern)
  end
  return s
end)

local function in_range(a, n)
  if n and a.min and n < a.min then
    return nil, ("at least %s"):format(a.min)
  end
  if n and a.max and n > a.max then
    return nil, ("at most %s"):format(a.max)
  end
  return n
end

define("integer", "N", "a whole number", function(a, s)
  return in_range(a, s:match("^[-+]?%d+$") and math.tointeger(tonumber(s)) or nil)
end)
define("number", "N", "a number", function(a, s)
  return in_range(a, tonumber(s))
end)
define("flag", nil, "no value", function(_, s)
  return s
end)
define("enum", nil, nil, function(a, s)
  for _, choice in ipairs(a) do
    if choice == s then
      return choice
    end
  end
  return nil, "one of " .. table.concat(a, ", "), suggest.text(s, a)
end)
define("duration", "DURATION", "a duration such as 90s, 20m or 2h", function(a, s)
  return in_range(a, M.duration(s))
end)
define("size", "SIZE", "a size such as 512K, 10M or 2GB", function(a, s)
  return in_range(a, M.size(s))
end)
define("path", "PATH", "a path", function(a, s)
  local fs = require "hgauto.fs"
  local path = s
  if path == "" then
    return nil
  end
  if path == "~" or path:sub(1, 2) == "~/" then
    path = fs.home() .. path:sub(2)
  elseif path:sub(1, 1) ~= "/" then
    path = fs.cwd() .. "/" .. path
  end
  if a.must then
    local st = fs.exists(path) and fs.stat(path) or nil
    if a.must == "new" and st then
      return nil, "a path that does not exist yet"
    elseif a.must == "file" and not (st and st.type == "file") then
      return nil, "an existing file"
    elseif a.must == "dir" and not (st and st.type == "dir") then
      return nil, "an existing directory"
    end
  end
  return path
end)
define("revision", "REVISION", "a revision", function(_, s)
  return s ~= "" and not s:find("%z") and s or nil
end)
define("region", "REGION", "a region such as us-west-2", function(_, s)
  return s:match("^[a-z0-9-]+$")
end)
define("profile", "PROFILE", "the name of a profile", function(_, s)
  return s:match("^[%w_./%%@:+-]+$")
end)
define("instance_type", "TYPE", "an instance type such as t3.large", function(_, s)
  return s:match("^[a-z0-9-]+%.[a-z0-9-]+$")
end)
define("instance", "INSTANCE", "an instance id such as i-0123456789abcdef0", function(_, s)
  return s:match("^i%-%x+$") or s:match("^[%w-]+/[%w._-]+$")
end)
define("secret", "SOURCE", "env:NAME, file:PATH or -", function(_, s)
  local host, crypto = require "hgauto.host", require "hgauto.crypto"
  local name = s:match("^env:([%w_]+)$")
  if name then
    local v = host.getenv(name)
    if not v or v == "" then
      return nil, "a variable that is set (" .. name .. " is not)"
    end
    return crypto.secret(v)
  end
  local path = s:match("^file:(.+)$")
  if path then
    local fs = require "hgauto.fs"
    return crypto.secret((fs.read(path, { max = 65536 }):gsub("\r?\n$", "")))
  end
  return nil
end)

-- ---- declarations -----------------------------------------------------------

local FIELDS = {
  name = true, help = true, default = true, required = true, multiple = true, greedy = true,
  positional = true, short = true, metavar = true, env = true, hidden = true, aliases = true,
  complete = true, pattern = true, max = true, min = true, must = true, expects = true,
  type = true, note = true, command = true,
}

-- Where arguments were declared, for messages.
local places = setmetatable({}, { __mode = "k" })

--- Constructors: arg.enum{name=…, "a", "b"} and so on, one per type.
M.arg = setmetatable({}, {
  __index = function(_, kind)
    if not TYPES[kind] then
      local names = {}
      for name in pairs(TYPES) do
        names[#names + 1] = name
      end
      table.sort(names)
      usage('hg.arg has no type "%s"%s', tostring(kind), suggest.text(tostring(kind), names))
    end
    return function(decl)
      if type(decl) ~= "table" then
        usage("hg.arg.%s needs a table", kind)
      end
      decl.type = kind
      local info = debug.getinfo(2, "Sl")
      if info and info.currentline > 0 then
        places[decl] = ("%s:%d"):format(info.short_src, info.currentline)
      end
      return decl
    end
  end,
})

--- `-` and `_` are one: the shown form has dashes.
-- @param name string
-- @return string
function M.dashed(name)
  return (name:gsub("_", "-"))
end

local function shown(a)
  if a.positional then
    return "<" .. M.dashed(a.metavar or a.name) .. ">"
  end
  return "--" .. M.dashed(a.name)
end

--- Checks a list of declarations; raises usage with `where` before the text.
-- @param list table[]
-- @param where string such as "my.lua:7"
-- @param[opt] reserved table set of dashed names that are hgauto's
-- @return table[] the list
function M.check(list, where, reserved)
  local seen = {}
  local at = where
  local function bad(fmt, ...)
    usage("%s: %s", at, fmt:format(...))
  end
  for i, a in ipairs(list) do
    at = places[a] or where
    if type(a) ~= "table" or not TYPES[a.type] then
      bad("args[%d] is no argument; use hg.arg.string{…} and the like", i)
    end
    if type(a.name) ~= "string" or not a.name:match("^%a[%w_-]*$") then
      bad("args[%d] needs a name of letters, digits, - and _", i)
    end
    for key in pairs(a) do
      if type(key) == "string" and not FIELDS[key] then
        local names = {}
        for f in pairs(FIELDS) do
          names[#names + 1] = f
        end
        bad('argument "%s" has no field "%s"%s', a.name, key, suggest.text(key, names))
      end
    end
    if a.type == "enum" and #a == 0 then
      bad('argument "%s" lists no values', a.name)
    end
    for _, name in ipairs { a.name, table.unpack(a.aliases or {}) } do
      local d = M.dashed(name)
      if seen[d] then
        bad('option "%s" is declared twice', d)
      end
      if reserved and reserved[d] and not a.positional then
        bad('option "%s" is reserved for hgauto', d)
      end
      seen[d] = true
    end
  end
  return list
end

-- ---- parsing ----------------------------------------------------------------

local function convert(a, text, label)
  local t = TYPES[a.type]
  local v, expects, extra = t.convert(a, text)
  if v == nil then
    usage('%s: "%s": expected %s%s', label, text, expects or a.expects or t.expects, extra or "")
  end
  return v
end

local function option_index(list)
  local index, names = {}, {}
  for _, a in ipairs(list) do
    if not a.positional then
      index["--" .. M.dashed(a.name)] = a
      if not a.hidden then
        names[#names + 1] = M.dashed(a.name)
      end
      for _, alias in ipairs(a.aliases or {}) do
        index["--" .. M.dashed(alias)] = a
      end
      if a.short then
        index["-" .. a.short] = a
      end
    end
  end
  table.sort(names)
  return index, names
end

-- The option a long name means: exact, --no-x of a flag, or a unique prefix.
local function find_long(cmd, index, names, word)
  local name = "--" .. M.dashed(word:sub(3))
  if index[name] then
    return index[name], false
  end
  local positive = name:match("^%-%-no%-(.+)$")
  if positive and index["--" .. positive] and index["--" .. positive].type == "flag" then
    return index["--" .. positive], true
  end
  local hits, last = {}, nil
  for key, a in pairs(index) do
    if key:sub(1, 2) == "--" and key:sub(1, #name) == name and not a.hidden then
      if a ~= last then
        hits[#hits + 1] = key
      end
      last = a
    end
  end
  if #hits == 1 then
    return index[hits[1]], false
  elseif #hits > 1 then
    table.sort(hits)
    usage("%s is ambiguous: %s", word, table.concat(hits, ", "))
  end
  usage("%s: unknown option %s%s", cmd, word, suggest.text(name:sub(3), names, "--"))
end

local function is_option(word)
  return #word > 1 and word:sub(1, 1) == "-" and not word:match("^%-%d")
end

local Parser = {}
Parser.__index = Parser

function Parser:set(a, label, text)
  if a.type == "flag" then
    self.values[a] = text
    return
  end
  if not a.multiple then
    self.values[a] = convert(a, text, label)
    return
  end
  -- The first use on the command line replaces the default.
  local list = self.values[a] or {}
  self.values[a] = list
  for part in (text .. ","):gmatch("([^,]*),") do
    if part ~= "" then
      list[#list + 1] = convert(a, part, label)
    end
  end
end

function Parser:greedy(a, label)
  while self.at <= #self.argv and not is_option(self.argv[self.at]) do
    self:set(a, label, self.argv[self.at])
    self.at = self.at + 1
  end
end

-- A word with a blank before any "=" is no option: the predecessor's parser took
-- `--test-flags '-j 4'` for what it is.
local function is_value(word)
  return word == "-" or not is_option(word) or word:match "^[^=%s]*%s" ~= nil
end

function Parser:value(a, label, attached)
  if attached then
    return attached
  end
  local word = self.argv[self.at]
  if word == nil or not is_value(word) then
    usage("%s: %s needs a value (%s)", self.cmd, label, M.metavar(a))
  end
  self.at = self.at + 1
  return word
end

function Parser:long(word)
  local head, attached = word:match("^(%-%-[^=]+)=(.*)$")
  local a, negated = find_long(self.cmd, self.index, self.names, head or word)
  local label = "--" .. M.dashed(a.name)
  if a.type == "flag" then
    if attached then
      usage("%s: %s takes no value", self.cmd, label)
    end
    self.values[a] = not negated
    return
  end
  self:set(a, label, self:value(a, label, attached))
  if a.greedy then
    self:greedy(a, label)
  end
end

function Parser:short(word)
  local at = 2
  while at <= #word do
    local a = self.index["-" .. word:sub(at, at)]
    if not a then
      usage("%s: unknown option -%s", self.cmd, word:sub(at, at))
    end
    if a.type == "flag" then
      self.values[a] = true
      at = at + 1
    else
      local rest = word:sub(at + 1):gsub("^=", "")
      local label = "-" .. a.short
      self:set(a, label, self:value(a, label, rest ~= "" and rest or nil))
      if a.greedy then
        self:greedy(a, label)
      end
      return
    end
  end
end

function Parser:positional(word)
  local a = self.positionals[1]
  if not a then
    usage('%s: unexpected argument "%s"', self.cmd, word)
  end
  self:set(a, shown(a), word)
  if not (a.multiple or a.greedy) then
    table.remove(self.positionals, 1)
  end
  self.before_command = a.command
end

-- Fills defaults, environment and checks what is required.
function Parser:finish(list)
  local host = require "hgauto.host"
  local out, given = {}, {}
  -- Who asks for help need not give the rest.
  local wants_help = false
  for _, a in ipairs(list) do
    wants_help = wants_help or (a.name == "help" and self.values[a] == true)
  end
  for _, a in ipairs(list) do
    local v = self.values[a]
    given[a.name] = v ~= nil
    if v == nil and a.env then
      local text = host.getenv(a.env)
      if text and text ~= "" then
        if a.type == "flag" then
          v = text ~= "0"
        else
          self:set(a, a.env, text)
          v = self.values[a]
        end
      end
    end
    if v == nil then
      v = a.default
      if v == nil and a.type == "flag" then
        v = false
      elseif v == nil and a.multiple then
        v = {}
      elseif type(v) == "string" and a.type ~= "string" and a.type ~= "enum" then
        v = convert(a, v, shown(a))
      end
    end
    if a.required and v == nil and not wants_help then
      usage("%s: missing %s", self.cmd, shown(a))
    end
    out[a.name:gsub("-", "_")] = v
  end
  return out, given
end

--- Parses the words of a command.
-- @param cmd string name for messages
-- @param list table[] declarations
-- @param argv string[]
-- @param[opt] opts table stop_at_word=true: end at the first plain word and return it
-- @return table values by name (with `rest`: the words after `--`, or from the first plain word
--   after a positional with command=true, as they are)
-- @return integer index of the first word not read
-- @return table set of names given on the command line
function M.parse(cmd, list, argv, opts)
  opts = opts or {}
  local index, names = option_index(list)
  local p = setmetatable({
    cmd = cmd, argv = argv, at = opts.from or 1, index = index, names = names, values = {},
    positionals = {},
  }, Parser)
  for _, a in ipairs(list) do
    if a.positional then
      p.positionals[#p.positionals + 1] = a
    end
  end
  local rest = {}
  while p.at <= #argv do
    local word = argv[p.at]
    local begins = p.before_command and not is_option(word)
    if word == "--" or begins then
      table.move(argv, begins and p.at or p.at + 1, #argv, 1, rest)
      p.at = #argv + 1
    elseif is_option(word) then
      p.at = p.at + 1
      if word:sub(1, 2) == "--" then
        p:long(word)
      else
        p:short(word)
      end
    elseif opts.stop_at_word then
      break
    else
      p.at = p.at + 1
      p:positional(word)
    end
  end
  local out, given = p:finish(list)
  out.rest = rest
  return out, p.at, given
end

-- Options that a later pass of the same line already gave win over defaults.
--- Values of `later` that were given, over `earlier`.
-- @param earlier table
-- @param later table
-- @param given table set of names given in `later`
-- @return table
function M.merge(earlier, later, given)
  for name, v in pairs(later) do
    if given[name] or earlier[name] == nil then
      earlier[name] = v
    end
  end
  return earlier
end

-- ---- help -------------------------------------------------------------------

--- What stands for the value in help texts.
-- @param a table declaration
-- @return string
function M.metavar(a)
  if a.metavar then
    return a.metavar
  end
  if a.type == "enum" then
    return table.concat(a, "|")
  end
  return TYPES[a.type].metavar or ""
end

local function default_text(a)
  local d = a.default
  if d == nil or d == false or (type(d) == "table" and #d == 0) then
    return ""
  end
  if type(d) == "table" then
    d = table.concat(d, ",")
  end
  return (" [default: %s]"):format(tostring(d))
end

local function left_column(a)
  if a.positional then
    local choices = a.type == "enum" and (" " .. M.metavar(a)) or ""
    return "      " .. shown(a) .. choices .. (a.multiple and " ..." or "")
  end
  local head = a.short and ("  -" .. a.short .. ", ") or "      "
  local meta = M.metavar(a)
  head = head .. "--" .. M.dashed(a.name)
  if a.type ~= "flag" then
    head = head .. " " .. meta .. (a.multiple and " ..." or "")
  end
  return head
end

--- Lines that describe the arguments, two columns.
-- @param list table[] declarations
-- @return string
function M.describe(list)
  local rows, width = {}, 0
  for _, a in ipairs(list) do
    if not a.hidden then
      local left = left_column(a)
      rows[#rows + 1] = { left, (a.help or "") .. default_text(a) }
      if #left <= 30 then
        width = math.max(width, #left)
      end
    end
  end
  local out = {}
  for _, row in ipairs(rows) do
    if #row[1] > width then
      out[#out + 1] = row[1]
      out[#out + 1] = (" "):rep(width + 2) .. row[2]
    else
      out[#out + 1] = row[1] .. (" "):rep(width + 2 - #row[1]) .. row[2]
    end
  end
  return table.concat(out, "\n")
end

-- Actions that a task needs, those that only look as one word, in lines.
local function needs_text(needs)
  local count, words, lines = {}, {}, { "needs:  " }
  for _, action in ipairs(needs) do
    local family = action:match "^%w+:Describe" or action:match "^%w+:Get"
      or action:match "^%w+:List" or action
    count[family] = (count[family] or 0) + 1
    words[#words + 1] = { family, action }
  end
  for _, s in ipairs(words) do
    local word = count[s[1]] > 1 and s[1] ~= s[2] and s[1] .. "*" or s[2]
    if count[s[1]] > 0 then
      if #lines[#lines] + #word > 78 then
        lines[#lines + 1] = (" "):rep(8)
      end
      lines[#lines] = lines[#lines] .. " " .. word
      count[s[1]] = word == s[2] and count[s[1]] or 0
    end
  end
  return table.concat(lines, "\n")
end

--- The help page of one command or task.
-- @param cmd string
-- @param decl table {help, description, args, example, needs}
-- @return string
function M.help(cmd, decl)
  local words = { "usage: hgauto " .. cmd }
  local options = false
  for _, a in ipairs(decl.args or {}) do
    if not a.positional and not a.hidden then
      options = true
    end
  end
  if options then
    words[#words + 1] = "[options]"
  end
  for _, a in ipairs(decl.args or {}) do
    if a.positional and not a.hidden then
      local w = shown(a) .. (a.multiple and "..." or "")
      words[#words + 1] = a.required and w or ("[" .. w .. "]")
      if a.command then
        words[#words + 1] = "[command...]"
      end
    end
  end
  local out = { table.concat(words, " ") }
  if decl.help then
    out[#out + 1] = decl.help
  end
  if decl.description then
    out[#out + 1] = ""
    out[#out + 1] = decl.description
  end
  if decl.args and #decl.args > 0 then
    out[#out + 1] = M.describe(decl.args)
  end
  if decl.example then
    out[#out + 1] = "example: " .. decl.example
  end
  if decl.needs and #decl.needs > 0 then
    out[#out + 1] = needs_text(decl.needs)
  end
  return table.concat(out, "\n") .. "\n"
end

return M
