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
  "time", "aws", "winrm" }

-- The chunk's globals: modules and clients appear when first named.
local function environment()
  local services
  local e = { hg = require "hg" }
  e._ENV = nil
  return setmetatable(e, {
    __index = function(t, key)
      local g = _G[key]
      if g ~= nil then
        return g
      end
      for _, name in ipairs(MODULES) do
        if key == name then
          local ok, mod = pcall(require, "hgauto." .. name)
          if ok then
            rawset(t, key, mod)
            return mod
          end
        end
      end
      if type(key) == "string" and not services then
        services = {}
        for _, s in ipairs(require("hgauto.aws").services()) do
          services[s] = true
        end
      end
      if services and services[key] then
        local client = require("hgauto.aws").client(key)
        rawset(t, key, client)
        return client
      end
      return nil
    end,
  })
end

local function names_of(e)
  local list, seen = {}, {}
  local function add(name)
    if type(name) == "string" and not seen[name] then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  for k in pairs(e) do
    add(k)
  end
  for k in pairs(_G) do
    add(k)
  end
  for _, m in ipairs(MODULES) do
    add(m)
  end
  for _, s in ipairs(require("hgauto.aws").services()) do
    add(s)
  end
  for _, w in ipairs { "and", "break", "do", "else", "elseif", "end", "false", "for", "function",
    "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until",
    "while" } do
    add(w)
  end
  return list
end

-- Value of a dotted path by raw access only: completion never runs code.
local function raw_path(e, path)
  local v = e
  for name in path:gmatch("[%a_][%w_]*") do
    if type(v) ~= "table" then
      return nil
    end
    local x = rawget(v, name)
    if x == nil and v == e then
      x = rawget(_G, name)
      if x == nil then
        local ok, loaded = pcall(function()
          return e[name]
        end)
        x = ok and loaded or nil
      end
    end
    v = x
  end
  return v
end

local function members(v)
  local list = {}
  if type(v) == "table" then
    for k in pairs(v) do
      if type(k) == "string" then
        list[#list + 1] = k
      end
    end
    local aws = require "hgauto.aws"
    local meta = rawget(v, "meta")
    if type(meta) == "table" and rawget(meta, "service") then
      for _, op in ipairs(aws.operations(meta.service)) do
        list[#list + 1] = op
      end
      list[#list + 1] = "wait"
      list[#list + 1] = "pages"
    end
  end
  local mt = debug.getmetatable(v)
  local index = mt and rawget(mt, "__index")
  if type(index) == "table" then
    for k in pairs(index) do
      if type(k) == "string" then
        list[#list + 1] = k
      end
    end
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
  local path, sep, word = head:match("([%a_][%w_%.]*)([%.:])([%w_]*)$")
  local pool
  if path and not path:find("%.%.") then
    pool = members(raw_path(e, path))
  else
    word = head:match("[%a_][%w_]*$") or ""
    sep = nil
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
      if not seen[name] and test(name) and (sep ~= "." or name ~= "") then
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
  if load("return " .. text, "=repl", "t") then
    return false
  end
  local _, err = load(text, "=repl", "t")
  return err ~= nil and err:find("<eof>['\"]?$") ~= nil and not err:find("unfinished string", 1, true)
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

local function print_values(values, e, write)
  if values.n == 0 then
    return
  end
  e._ = values[1]
  local pp = require "hg.pp"
  for i = 1, values.n do
    write(pp.text(values[i]))
  end
end

-- One chunk in a scope of its own, so that Ctrl-C ends it and its children.
local function evaluate(text, e, write)
  local started = time.mono()
  local ok, values = pcall(async.scope, function()
    return table.pack(compile(text, e)())
  end)
  if ok then
    print_values(values, e, write)
    local took = time.mono() - started
    if took > 0.1 and term.isatty(2) then
      term.err(("(%s)\n"):format(require("hg").format.duration(took)))
    end
    return true
  end
  e._err = values
  return false, values
end

local function show_error(err)
  if type(err) == "table" and err.kind == "cancelled" then
    term.err("cancelled\n")
    return
  end
  exit.report(err, { verbose = out.verbose })
end

local HELP = [[
Lua 5.4; each input is a task, so calls simply wait.  Enter on an unfinished
chunk gives the next line.  _ is the last value, _err the last error.
ec2, iam, ssm, sts, ... are clients; ec2:describe_instances{}
Ctrl-C cancels the running call, Ctrl-D leaves.
.help  this text
.quit  leave
]]

local function history_file()
  return session.state.path .. "/repl_history.jsonl"
end

local function load_history(rl)
  local path = history_file()
  if not fs.exists(path) then
    return
  end
  local entries = {}
  for line in fs.read(path, { max = 16 * 1024 * 1024 }):gmatch("[^\n]+") do
    local ok, item = pcall(json.decode, line)
    if ok and type(item) == "table" and type(item.l) == "string" then
      entries[#entries + 1] = item.l
    end
  end
  for i = math.max(1, #entries - 9999), #entries do
    rl:add_history(entries[i])
  end
end

local last_entry
local function remember(rl, text)
  if text == last_entry or text:sub(1, 1) == " " then
    return
  end
  last_entry = text
  rl:add_history(text)
  local line = require("hgauto.log").redact(text)
  if line == text then
    fs.append(history_file(),
      json.encode { t = math.floor(time.now()), p = session.profile, l = text } .. "\n")
  end
end

local function write_out(text)
  term.out(text .. "\n")
end

-- The interactive loop; a press of Ctrl-C ends the chunk, never the REPL.
local function interactive(e)
  local rl <close> = require("hgauto.readline").open {
    prompt = "> ",
    continuation = M.incomplete,
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
      local ok, err = async.interruptible(evaluate, text, e, write_out)
      if not ok then
        show_error(err)
      end
    end
  end
end

-- Standard input that is no terminal: chunks as they become complete.
local function batch(e)
  local good, pending = true, ""
  for line in io.lines() do
    pending = pending == "" and line or (pending .. "\n" .. line)
    if pending:match("^%s*%.quit%s*$") then
      return good
    end
    if not M.incomplete(pending) then
      local text = pending
      pending = ""
      if text:match("%S") then
        local ok, err = evaluate(text, e, write_out)
        if not ok then
          good = false
          show_error(err)
        end
      end
    end
  end
  if pending:match("%S") then
    local ok, err = evaluate(pending, e, write_out)
    if not ok then
      good = false
      show_error(err)
    end
  end
  return good
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
  local e = environment()
  local code = 0
  local ok, err = pcall(async.scope, function()
    if args.file then
      host.load_file(args.file, e)()
    end
    if term.isatty(0) then
      interactive(e)
    elseif not batch(e) then
      code = 1
    end
  end)
  local rows = require("hg.ledger").open_rows(session, run.id)
  if #rows > 0 then
    term.err(("hgauto: %d thing%s of this session may still cost money\nhint: hgauto gc %s%s\n")
      :format(#rows, #rows == 1 and "" or "s", run.id, opts["local"] and " --local" or ""))
    code = 6
  end
  session.ledger:end_run(run.id)
  run:finish()
  if not ok then
    error(err, 0)
  end
  return code
end

return M
