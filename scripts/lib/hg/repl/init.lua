--- Interactive Lua: every chunk is a task, calls simply wait.
--
-- Prompt, several lines, history, completion, `_`, `_err`, Ctrl-C cancels the
-- running call, Ctrl-D leaves.  Input that is no terminal is read chunk by
-- chunk without a prompt.
local async = require "hgauto.async"
local env = require "hg.cli.env"
local exit = require "hg.cli.exit"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local out = require "hg.output"
local session = require "hg.session"
local term = require "hgauto.term"
local time = require "hgauto.time"

local M = {}

local MODULES = { "async", "json", "fs", "proc", "log", "crypto", "state", "http", "ssh", "box",
  "time", "aws" }

local is_module = {}
for _, name in ipairs(MODULES) do
  is_module[name] = true
end

local function module(name)
  local ok, mod = pcall(require, "hgauto." .. name)
  return ok and mod or nil
end

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function",
  "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until",
  "while" }

local CLIENT_METHODS = { "wait", "pages", "call", "dry_run", "presign", "on", "meta" }

local function is_service(name)
  for _, s in ipairs(require("hgauto.aws").services()) do
    if s == name then
      return true
    end
  end
  return false
end

--- The globals of chunks: modules and AWS clients appear when first named.
-- @return table
function M.environment()
  local lazy = setmetatable({}, {
    __members = MODULES,
    __index = function(t, name)
      local mod = is_module[name] and module(name) or nil
      rawset(t, name, mod)
      return mod
    end,
  })
  return setmetatable({ hg = require "hg", hgauto = lazy }, {
    __index = function(t, key)
      local g = _G[key]
      if g ~= nil or type(key) ~= "string" then
        return g
      end
      if is_module[key] then
        g = module(key)
      elseif is_service(key) then
        g = require("hgauto.aws").client(key)
      end
      rawset(t, key, g)
      return g
    end,
  })
end

local function names_of(e)
  local list = {}
  for _, pool in ipairs { e, _G } do
    for k in next, pool do
      list[#list + 1] = k
    end
  end
  for _, pool in ipairs { MODULES, require("hgauto.aws").services(), KEYWORDS } do
    table.move(pool, 1, #pool, #list + 1, list)
  end
  return list
end

-- Names that an object of ours declares to have without holding them yet.
local function declared(v)
  local mt = getmetatable(v)
  if type(mt) ~= "table" then
    return {}
  end
  local list = rawget(mt, "__members")
  if list then
    return list
  end
  list = {}
  if rawget(mt, "__name") == "hgauto.aws.client" then
    table.move(CLIENT_METHODS, 1, #CLIENT_METHODS, 1, list)
    local ops = require("hgauto.aws").operations(v.meta.service)
    table.move(ops, 1, #ops, #list + 1, list)
  end
  local index = rawget(mt, "__index")
  if type(index) == "table" then
    for k in next, index do
      list[#list + 1] = k
    end
  end
  return list
end

local function is_declared(v, name)
  local mt = getmetatable(v)
  for _, n in ipairs(type(mt) == "table" and rawget(mt, "__members") or {}) do
    if n == name then
      return true
    end
  end
  return false
end

-- Value of a dotted path by raw access and declared members: completion
-- never runs code of the user's.
local function raw_path(e, path)
  local first = path:match("^[%a_][%w_]*")
  local v = e[first]
  for name in path:sub(#first + 1):gmatch("[%a_][%w_]*") do
    if type(v) ~= "table" then
      return nil
    end
    v = rawget(v, name) or is_declared(v, name) and v[name] or nil
  end
  return v
end

local function members(v)
  local list = declared(v)
  if type(v) ~= "table" then
    return list
  end
  list = table.move(list, 1, #list, 1, {})
  for k in next, v do
    list[#list + 1] = k
  end
  return list
end

--- Completion of the word before the cursor; calls nothing of the user's.
-- @param e table chunk environment
-- @param text string
-- @param cursor integer bytes before the cursor
-- @return integer first byte (0-based) that the candidates replace
-- @return string[] candidates
function M.complete(e, text, cursor)
  local head = text:sub(1, cursor)
  local path, word = head:match("([%a_][%w_%.]*)[%.:]([%w_]*)$")
  local pool
  if path and not path:find("%.%.") then
    pool = members(raw_path(e, path))
  else
    word = head:match("[%a_][%w_]*$") or ""
    if head:match("^%.[%w]*$") then
      word = head
      pool = { ".help", ".quit" }
    else
      pool = names_of(e)
    end
  end
  local list, seen = {}, {}
  local function take(test)
    for _, name in ipairs(pool) do
      if type(name) == "string" and name:find("^[.%a_][%w_]*$") and not seen[name]
        and test(name) then
        seen[name] = true
        list[#list + 1] = name
      end
    end
  end
  take(function(name)
    return name:sub(1, #word) == word
  end)
  if #list == 0 then
    take(function(name)
      return name:lower():sub(1, #word) == word:lower()
    end)
  end
  table.sort(list)
  return cursor - #word, list
end

--- Whether a chunk wants more lines.
-- @param text string
-- @return boolean
function M.incomplete(text)
  local more = false
  for _, form in ipairs { "return " .. text, text } do
    local chunk, err = load(form, "=repl", "t")
    if chunk then
      return false
    end
    more = more or err:find("<eof>['\"]?$") ~= nil and not err:find("unfinished string", 1, true)
  end
  return more
end

local function compile(text, e)
  local chunk = load("return " .. text, "=repl", "t", e)
  if chunk then
    return chunk
  end
  local good, err = load(text, "=repl", "t", e)
  if not good then
    require("hg").fail { kind = "usage", message = err }
  end
  return good
end

local function run_chunk(text, e)
  local values = table.pack(compile(text, e)())
  if values.n > 0 then
    e._ = values[1]
  end
  local pp, lines = require "hg.pp", {}
  for i = 1, values.n do
    lines[i] = pp.text(values[i]) .. "\n"
  end
  return table.concat(lines)
end

local function show_error(err)
  if type(err) == "table" and err.kind == "cancelled" then
    term.err(term.isatty(0) and "\ncancelled\n" or "cancelled\n")
    return
  end
  exit.report(err, { verbose = out.verbose })
end

-- One chunk in a scope that Ctrl-C ends with its children.  What it opened
-- stays open until the session ends.
local function evaluate(text, e)
  local started = time.mono()
  local ok, result = async.interruptible(run_chunk, text, e)
  if not ok then
    e._err = result
    show_error(result)
    return false, result
  end
  term.out(result)
  local took = time.mono() - started
  if took > 0.1 and term.isatty(0) and term.isatty(2) then
    term.err(("(%s)\n"):format(require("hg").format.duration(took)))
  end
  return true
end

local HELP = [[
Lua 5.4; each input is a task, so calls simply wait.  Enter on an unfinished
chunk gives the next line.  _ is the last value, _err the last error.
ec2, iam, ssm, sts, ... are clients; ec2:describe_instances{}
Ctrl-C cancels the running call, Ctrl-D leaves.
.help  this text
.quit  leave
]]

local HISTORY = 10000

local function history_file()
  return session.state.path .. "/repl_history.jsonl"
end

local function history_lines(path)
  local lines = {}
  for line in fs.read(path, { max = 64 * 1024 * 1024 }):gmatch("[^\n]+") do
    lines[#lines + 1] = line
  end
  local extra = #lines - HISTORY
  if extra > 0 then
    lines = table.move(lines, extra + 1, #lines, 1, {})
    fs.write(path, table.concat(lines, "\n") .. "\n")
  end
  return lines
end

local last_entry

local function load_history(rl)
  local path = history_file()
  if not fs.exists(path) then
    return
  end
  local read, lines = pcall(history_lines, path)
  if not read then
    out.warn("no history: " .. tostring(lines))
    return
  end
  for _, line in ipairs(lines) do
    local ok, item = pcall(json.decode, line)
    if ok and type(item) == "table" and type(item.l) == "string" then
      rl:add_history(item.l)
      last_entry = item.l
    end
  end
end

local function remember(rl, text)
  if text == last_entry or text:sub(1, 1) == " " then
    return
  end
  last_entry = text
  rl:add_history(text)
  local line = require("hgauto.log").redact(text)
  if line == text and utf8.len(text) then
    fs.append(history_file(),
      json.encode { t = math.floor(time.now()), p = session.profile, l = text } .. "\n")
  end
end

-- The interactive loop; a press of Ctrl-C ends the chunk, never the REPL.
local function interactive(e)
  local rl <close> = require("hgauto.readline").open {
    prompt = "> ", continuation = M.incomplete,
    complete = function(text, cursor)
      return M.complete(e, text, cursor)
    end,
  }
  load_history(rl)
  term.err("hgauto " .. host.version.hgauto .. "; .help for help, Ctrl-D to leave\n")
  while true do
    local text = rl:read()
    if text == nil or text:match("^%s*%.quit%s*$") then
      return
    end
    if text:match("^%s*%.help%s*$") then
      term.out(HELP)
    elseif text:match("%S") then
      remember(rl, text)
      evaluate(text, e)
    end
  end
end

-- Standard input that is no terminal: chunks as they become complete.
local function batch(e)
  local rl <close> = require("hgauto.readline").open { continuation = M.incomplete }
  local good = true
  while true do
    local text = rl:read()
    if text == nil or text:match("^%s*%.quit%s*$") then
      return good
    end
    if text:match("%S") then
      local ok, err = evaluate(text, e)
      if not ok and type(err) == "table" and err.kind == "cancelled" then
        error(err, 0)
      end
      good = ok and good
    end
  end
end

local function session_body(e, args)
  if args.file then
    host.load_file(args.file, e)()
  end
  if term.isatty(0) then
    interactive(e)
    return 0
  end
  return batch(e) and 0 or 1
end

local function tell_open(rows, run)
  term.err(("hgauto: %d thing%s of this session may still cost money\nhint: hgauto gc %s%s\n")
    :format(#rows, #rows == 1 and "" or "s", run.id, session.local_cloud and " --local" or ""))
end

--- `hgauto repl [FILE]`.
-- @param args table file
-- @param opts table global and run options
-- @return integer exit code
-- @waits
function M.main(args, opts)
  env.use_cloud(opts)
  local run = env.begin_run("repl")
  env.tell_dead_runs()
  local ok, code = pcall(async.scope, function(s)
    local tidy = s:spawn(require("hg.gc").at_start)
    local code = session_body(M.environment(), args)
    tidy:cancel("done")
    return code
  end)
  local rows = require("hg.ledger").open_rows(session, run.id)
  session.ledger:end_run(run.id)
  require("hg.guard").done()
  run:finish()
  if #rows == 0 and not ok then
    error(code, 0)
  elseif #rows == 0 then
    return code
  end
  if not ok and not (type(code) == "table" and code.kind == "cancelled") then
    exit.report(code, opts)
  end
  tell_open(rows, run)
  return 6
end

return M
