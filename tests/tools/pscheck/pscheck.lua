-- pscheck.lua [--style] FILE...: brackets and quotes of PowerShell, exactly.
--
-- Walks strings, here-strings, comments, escapes and $( ) in strings as
-- PowerShell's tokenizer does and says which bracket or quote is not closed or
-- closes nothing; a grammar with error recovery passes over some of these.
-- With --style also the rules that our own sources keep.  Prints
-- FILE:LINE:COL: message; exit 0 clean, 1 errors, 2 a file cannot be read.
-- As a module: dofile() gives {check = function(text, style) -> errors, delimiters}.

local M = {}

local CLOSES = { ["("] = ")", ["["] = "]", ["{"] = "}" }
-- What a word can end at: there "#" begins a comment.
local BREAKS = "[%s(){}%[%];,|&=+!\"']"

local Walk = {}
Walk.__index = Walk

function Walk:place(at)
  local line, start = 1, 1
  for nl in self.text:gmatch("()\n") do
    if nl >= at then
      break
    end
    line, start = line + 1, nl + 1
  end
  return line, at - start + 1
end

function Walk:error(at, fmt, ...)
  local line, col = self:place(at)
  self.errors[#self.errors + 1] = { line = line, col = col, message = fmt:format(...) }
end

-- A character that is syntax, for whoever wants to break the file.
function Walk:delimiter(at, n)
  for i = at, at + (n or 1) - 1 do
    self.delimiters[#self.delimiters + 1] = i
  end
end

function Walk:push(kind, at, closer)
  self.stack[#self.stack + 1] = { kind = kind, at = at, closer = closer }
end

function Walk:top()
  return self.stack[#self.stack]
end

local function line_of(self, at)
  return (self:place(at))
end

-- ---- code ------------------------------------------------------------------------------

function Walk:close(at, c)
  local top = self:top()
  if not top then
    self:error(at, "%s closes nothing", c)
  elseif top.closer ~= c then
    self:error(at, "%s where %s is to close %s of line %d", c, top.closer, top.what or
      self.text:sub(top.at, top.at), line_of(self, top.at))
    self.lost = true
  else
    self:delimiter(at)
    table.remove(self.stack)
  end
end

-- A string, literal or expandable, begins at i; q is its quote.
function Walk:string(i, q)
  if self.style and not self.text:sub(i - 1, i - 1):find("^[%s(%[{%],=+!;|&:]?$") then
    self:error(i, "a string begins in the middle of a word")
  end
  self:delimiter(i)
  self:push(q, i)
  return i + 1
end

-- @" or @' at i: a here-string only when nothing else follows on the line.
function Walk:here(i)
  local q = self.text:sub(i + 1, i + 1)
  local stop = self.text:match("^[ \t\r]*\n()", i + 2)
  if not stop then
    self:error(i, "text follows the head of a here-string")
    return i + 2
  end
  self:delimiter(i, 2)
  self:push("@" .. q, i)
  return stop
end

function Walk:comment(i)
  if self.text:sub(i, i) == "#" then
    return self.text:find("\n", i, true) or #self.text + 1
  end
  local _, stop = self.text:find("#>", i + 2, true)
  if not stop then
    self:error(i, "the comment <# is not closed")
    self.lost = true
    return #self.text + 1
  end
  return stop + 1
end

-- $ at i, in code or in an expandable string.
function Walk:dollar(i)
  local next_char = self.text:sub(i + 1, i + 1)
  if next_char == "(" then
    self:delimiter(i + 1)
    self:push("code", i + 1, ")")
    self:top().what = "$("
    return i + 2
  elseif next_char == "{" then
    local stop = i + 2
    while stop <= #self.text and self.text:sub(stop, stop) ~= "}" do
      stop = stop + (self.text:sub(stop, stop) == "`" and 2 or 1)
    end
    local name = self.text:sub(i + 2, stop - 1)
    if stop > #self.text or name:find("\n", 1, true) then
      self:error(i, "the name ${ is not closed")
      self.lost = true
    end
    self:delimiter(i + 1)
    self:delimiter(stop)
    return stop + 1
  elseif next_char:find("^[$?^]") then
    return i + 2
  end
  return i + 1
end

function Walk:escape(i)
  local blanks = self.text:match("^[ \t]+\r?\n()", i + 1)
  if blanks then
    self:error(i, "blanks follow the ` that continues a line")
  elseif i == #self.text then
    self:error(i, "` at the end escapes nothing")
  end
  return i + 2
end

function Walk:code(i)
  local c, two = self.text:sub(i, i), self.text:sub(i, i + 1)
  if c == "`" then
    return self:escape(i)
  elseif two == '@"' or two == "@'" then
    return self:here(i)
  elseif c == '"' or c == "'" then
    return self:string(i, c)
  elseif two == "<#" or (c == "#" and (i == 1 or self.text:find("^" .. BREAKS, i - 1))) then
    return self:comment(i)
  elseif c == "$" then
    return self:dollar(i)
  elseif CLOSES[c] then
    self:delimiter(i)
    self:push("code", i, CLOSES[c])
  elseif c == ")" or c == "]" or c == "}" then
    self:close(i, c)
  end
  return i + 1
end

-- ---- strings ---------------------------------------------------------------------------

function Walk:end_string(i, q)
  local top = table.remove(self.stack)
  self:delimiter(i)
  if self.style and line_of(self, top.at) ~= line_of(self, i) then
    self:error(top.at, "a string over several lines; a here-string shows where it ends")
  end
  if self.style and not self.text:sub(i + 1, i + 1):find("^[%s)%]},;.+:|&]?$") then
    self:error(i, "text follows the closing %s", q)
  end
  return i + 1
end

function Walk:in_string(i, q)
  local c = self.text:sub(i, i)
  if c == q and self.text:sub(i + 1, i + 1) == q then
    return i + 2
  elseif c == q then
    return self:end_string(i, q)
  elseif q == '"' and c == "`" then
    return i + 2
  elseif q == '"' and c == "$" then
    return self:dollar(i)
  end
  return i + 1
end

function Walk:in_here(i, q)
  local c = self.text:sub(i, i)
  local first = i == 1 or self.text:sub(i - 1, i - 1) == "\n"
  if first and self.text:sub(i, i + 1) == q .. "@" then
    self:delimiter(i, 2)
    table.remove(self.stack)
    return i + 2
  elseif q == '"' and c == "`" then
    return i + 2
  elseif q == '"' and c == "$" then
    return self:dollar(i)
  end
  return i + 1
end

-- ---- all of it -------------------------------------------------------------------------

function Walk:run()
  local i = 1
  while i <= #self.text and not self.lost do
    local kind = self:top() and self:top().kind or "code"
    if kind == "code" then
      i = self:code(i)
    elseif kind:sub(1, 1) == "@" then
      i = self:in_here(i, kind:sub(2))
    else
      i = self:in_string(i, kind)
    end
  end
  if not self.lost then
    for _, open in ipairs(self.stack) do
      self:error(open.at, "%s is not closed", open.what or (open.kind == "code"
        and self.text:sub(open.at, open.at) or open.kind))
    end
  end
end

-- What our own sources keep besides.
function Walk:rules()
  local at = self.text:find("[^\t\n -~]")
  if at then
    self:error(at, "a byte that is no ASCII, or a carriage return")
  end
  if self.text:sub(-1) ~= "\n" then
    self:error(#self.text, "no line end at the end")
  end
  at = self.text:find("[ \t]\n")
  if at then
    self:error(at, "blanks at the end of a line")
  end
  at = self.text:find("--%", 1, true)
  if at then
    self:error(at, "--%% stops parsing: what follows cannot be checked")
  end
end

--- Checks a text.
-- @param text string
-- @param[opt] style boolean our own sources' rules, too
-- @return table[] {line, col, message}
-- @return integer[] offsets of the characters that are brackets and quotes of the syntax
function M.check(text, style)
  local w = setmetatable({ text = text:gsub("^\239\187\191", ""), style = style, stack = {},
    errors = {}, delimiters = {} }, Walk)
  w:run()
  if style then
    w:rules()
  end
  return w.errors, w.delimiters
end

local function main(words)
  local style, bad = words[1] == "--style", 0
  for i = style and 2 or 1, #words do
    local file, why = io.open(words[i], "rb")
    local text = file and file:read("a")
    if not text then
      io.stderr:write(("pscheck: %s\n"):format(why or words[i] .. ": cannot be read"))
      os.exit(2)
    end
    file:close()
    for _, e in ipairs((M.check(text, style))) do
      io.write(("%s:%d:%d: %s\n"):format(words[i], e.line, e.col, e.message))
      bad = bad + 1
    end
  end
  os.exit(bad == 0 and 0 or 1)
end

if arg and arg[0] and arg[0]:find("pscheck%.lua$") then
  main(arg)
end
return M
