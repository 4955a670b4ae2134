--- Finds and loads tasks: files by path, built-in ones by name.
local embed = require "hgauto.embed"
local host = require "hgauto.host"
local suggest = require "hg.suggest"

local M = {}

local function hg()
  return require "hg"
end

--- Names of the built-in tasks, with dashes, sorted.
-- @return string[]
function M.builtin()
  local names = {}
  for _, name in ipairs(embed.list("")) do
    local base = name:match("^([%w_]+)%.lua$")
    if base then
      names[#names + 1] = (base:gsub("_", "-"))
    end
  end
  table.sort(names)
  return names
end

local function adopt(value, name, shown)
  local lib = hg()
  if type(value) == "function" then
    value = lib.task { run = value }
  end
  if type(value) == "table" and not lib.is_task(value) and #value > 0 then
    local names = {}
    for i, t in ipairs(value) do
      if not lib.is_task(t) or not t.name then
        lib.fail { kind = "usage",
          message = ("%s: entry %d is no task with a name"):format(shown, i) }
      end
      names[#names + 1] = t.name
      if t.name == name then
        return t
      end
    end
    if #value == 1 then
      return value[1]
    end
    lib.fail { kind = "usage", message = ("%s holds several tasks: %s"):format(shown,
      table.concat(names, ", ")), hint = ("hgauto run %s:NAME"):format(shown) }
  end
  if not lib.is_task(value) then
    lib.fail {
      kind = "load", message = shown .. " returned no task",
      hint = "end it with: return hg.task{ run = function(ctx, args) … end }",
    }
  end
  return value
end

-- Line of the file that was being run when an error arose, "FILE:LINE".
local function place(file)
  local level, info = 2
  repeat
    level = level + 1
    info = debug.getinfo(level, "Sl")
  until not info or (info.short_src == file and info.currentline > 0)
  return info and ("%s:%d"):format(file, info.currentline)
end

-- Runs the chunk of a file: effects are forbidden.
local function run_chunk(chunk, shown)
  local file = debug.getinfo(chunk, "S").short_src
  local at
  hg().loading = file
  local ok, value = pcall(host.sandbox, function()
    local good, v = xpcall(chunk, function(e)
      at = place(file)
      return e
    end)
    if not good then
      error(v, 0)
    end
    return v
  end)
  hg().loading = nil
  if ok then
    return value
  end
  if at and type(value) == "table" and value.kind == "load" then
    -- Raised inside a library: the place in the file is of more use.
    local what = value.message:match("(%S+ called while the file is loaded.*)$")
    value.message = what and (at .. ": " .. what) or value.message
  end
  if type(value) == "table" and value.kind == "runtime" then
    hg().fail { kind = "load", message = tostring(value), traceback = value.traceback }
  elseif type(value) ~= "table" then
    hg().fail { kind = "load", message = shown .. ": " .. tostring(value) }
  end
  error(value, 0)
end

--- Loads a built-in task.
-- @param name string with dashes or underscores, or an alias
-- @param[opt] env table its globals
-- @return table|nil the task, nil when there is none of that name
-- @return string shown name
function M.load_builtin(name, env)
  local base = name:gsub("-", "_")
  local text = embed.read(base .. ".lua")
  local shown = base:gsub("_", "-")
  if text and base:match("^[%w_]+$") then
    return adopt(run_chunk(host.load_text(text, "@scripts/" .. base .. ".lua", env), shown),
      nil, shown), shown
  end
  local dashed = name:gsub("_", "-")
  for _, other in ipairs(M.builtin()) do
    local t = M.load_builtin(other)
    for _, alias in ipairs(t.aliases or {}) do
      if alias:gsub("_", "-") == dashed then
        return env and M.load_builtin(other, env) or t, other
      end
    end
  end
  return nil
end

--- Loads a task file.
-- @param path string
-- @param[opt] env table its globals
-- @return table task
-- @return string shown name
function M.load_file(path, env)
  local fs = require "hgauto.fs"
  local file, name = path, nil
  if not fs.exists(file) and path:find(":[%w_-]+$") then
    file, name = path:match("^(.*):([%w_-]+)$")
  end
  if not fs.exists(file) then
    hg().fail { kind = "usage", message = ("no such task file: %s"):format(file) }
  end
  local chunk = host.load_file(file, env)
  local shown = (name or file:match("([^/]+)$"):gsub("%.lua$", "")):gsub("_", "-")
  local task = adopt(run_chunk(chunk, file), name, file)
  task.file = fs.realpath(file)
  return task, shown
end

--- A task by name or path; raises usage with suggestions.
-- @param word string
-- @param[opt] others string[] other names for "did you mean"
-- @param[opt] env table globals of its file
-- @return table task
-- @return string shown name
function M.find(word, others, env)
  if word:find("/", 1, true) or word:find("%.lua$") or word:find("%.lua:[%w_-]+$") then
    return M.load_file(word, env)
  end
  local t, shown = M.load_builtin(word, env)
  if t then
    return t, shown
  end
  local names = M.builtin()
  table.move(others or {}, 1, #(others or {}), #names + 1, names)
  hg().fail { kind = "usage", hint = "hgauto list",
    message = ('unknown %s "%s"%s'):format(others and "command or task" or "task", word,
      suggest.text(word, names)) }
end

return M
