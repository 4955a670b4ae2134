--- The library of task scripts: `local hg = require "hg"`.
--
-- Declares tasks and arguments, raises errors, waits with a deadline; larger
-- parts (hg.machines, hg.mercurial, ...) load when first used, so that a file
-- which only declares a task stays cheap to load.
local M = {}

local LAZY = {
  arg = true, machines = true, facts = true, mercurial = true, artifacts = true, linux = true,
  windows = true,
  network = true, keys = true, images = true, ledger = true, gc = true, tasks = true, pp = true,
  session = true, output = true, prices = true, resources = true,
  cost = true, events = true, runs = true, testrun = true, winimage = true,
  resume = true, plan = true, policy = true,
}

local members = {}
for name in pairs(LAZY) do
  members[#members + 1] = name
end

setmetatable(M, {
  __members = members, -- for completion
  __index = function(t, key)
    if key == "arg" then
      t.arg = require("hg.spec").arg
      return t.arg
    end
    if LAZY[key] then
      local mod = require("hg." .. key)
      rawset(t, key, mod)
      return mod
    end
    return nil
  end,
})

local TASK_FIELDS = {
  help = true, description = true, args = true, needs = true, example = true, timeout = true,
  hidden = true, aliases = true, run = true, name = true, gc = true,
}

--- What marks a declared task; `hg.is_task` tests for it.
local Task = { __name = "hg.task" }

--- Declares an automation task.
-- @param decl table help description args needs example timeout hidden aliases run [name];
--   gc=false: its start does not remove what dead runs left
-- @return table the task, to be returned by the file
-- @raise usage a field is unknown or wrong
-- @see command line specification, section 5.1
function M.task(decl)
  -- `return hg.task{…}` is a tail call: then only the file is known.
  local info = debug.getinfo(2, "Sl")
  local where = info and info.currentline > 0 and ("%s:%d"):format(info.short_src, info.currentline)
    or M.loading or "hg.task"
  if type(decl) ~= "table" then
    M.fail { kind = "usage", message = where .. ": hg.task needs a table" }
  end
  for key in pairs(decl) do
    if not TASK_FIELDS[key] then
      local names = {}
      for name in pairs(TASK_FIELDS) do
        names[#names + 1] = name
      end
      M.fail {
        kind = "usage",
        message = ('%s: a task has no field "%s"%s'):format(where, tostring(key),
          require("hg.suggest").text(tostring(key), names)),
      }
    end
  end
  if type(decl.run) ~= "function" then
    M.fail {
      kind = "usage", message = where .. ": the task has no function run",
      hint = "run = function(ctx, args) … end",
    }
  end
  decl.where = where
  require("hg.spec").check(decl.args or {}, where, require("hg.cli.options").reserved)
  return setmetatable(decl, Task)
end

--- Whether a value was made by hg.task.
-- @param v any
-- @return boolean
function M.is_task(v)
  return getmetatable(v) == Task
end

--- Raises an error of the common form.
-- Kind usage means that the user's input was wrong: exit code 2.
-- @param e table kind message [code hint cause exit …]
-- @raise always
function M.fail(e)
  if e.kind == "usage" and not e.exit then
    e.exit = 2
  end
  error(require("hgauto.host").error(e), 0)
end

--- Checks an options table: fills defaults, refuses unknown keys.
-- @param given table|nil what the caller passed
-- @param known table name -> default (`hg.none` for no default)
-- @param what string function name for the message
-- @return table a new table
-- @raise usage unknown key, with the nearest name
function M.opts(given, known, what)
  local out = {}
  for name, default in pairs(known) do
    if default ~= M.none then
      out[name] = default
    end
  end
  for name, v in pairs(given or {}) do
    if known[name] == nil then
      local names = {}
      for n in pairs(known) do
        names[#names + 1] = n
      end
      M.fail {
        kind = "usage", exit = 1, -- the script's mistake, not its user's
        message = ("%s: unknown option %s%s"):format(what, tostring(name),
          require("hg.suggest").text(tostring(name), names)),
      }
    end
    local default = known[name]
    if default ~= M.none and type(v) ~= type(default) then
      M.fail { kind = "usage", exit = 1,
        message = ("%s: %s is a %s, not a %s"):format(what, name, type(default), type(v)) }
    end
    out[name] = v
  end
  return out
end

--- Marks an option without default in `hg.opts`.
M.none = setmetatable({}, { __name = "hg.none" })

--- Polls until `poll` returns something true; the reason of the last "not yet" is told.
-- @param o table what=text, timeout=seconds, poll=function() -> value or nil/false, reason;
--   every=seconds (1), max_every=seconds (every); planned=any what it would return when the task
--   is only planned
-- @return any what poll returned
-- @raise timeout `waiting for WHAT: no answer within T (last: REASON)`
-- @waits
function M.wait(o)
  local async, time = require "hgauto.async", require "hgauto.time"
  local opts = M.opts(o, {
    what = M.none, timeout = M.none, poll = M.none, every = 1, max_every = M.none,
    planned = M.none,
  }, "hg.wait")
  if M.plan.on() then
    return opts.planned ~= nil and opts.planned or M.plan.unknown(opts.what)
  end
  -- Tests over many waits look more often.
  local most = tonumber(require("hgauto.host").getenv("HGAUTO_POLL_MIN") or "") or math.huge
  local start, delay = time.mono(), math.min(opts.every, most)
  local reason
  while true do
    local v, why = opts.poll()
    if v then
      return v
    end
    reason = why or reason
    local left = opts.timeout - (time.mono() - start)
    if left <= 0 then
      M.fail {
        kind = "timeout",
        message = ("waiting for %s: not within %s%s"):format(opts.what,
          M.format.duration(opts.timeout), reason and (" (last: " .. reason .. ")") or ""),
      }
    end
    async.sleep(math.min(delay, left))
    delay = math.min(delay * 1.5, opts.max_every or opts.every, most)
  end
end

--- Whether a value is known: when a task is only planned, some are not.
-- @param v any
-- @return boolean
function M.known(v)
  return M.plan.known(v)
end

M.sh = {}

--- Splits a text into words as a POSIX shell does, without expanding anything.
-- @param text string
-- @return string[]
-- @raise usage a quote is not closed
function M.sh.words(text)
  local list, word, quote, i = {}, nil, nil, 1
  while i <= #text do
    local c, following = text:sub(i, i), text:sub(i + 1, i + 1)
    local escapes = c == "\\" and quote ~= "'" and following ~= ""
      and (not quote or following:find '[\\"$`]')
    if escapes then
      word, i = (word or "") .. following, i + 1
    elseif c == quote then
      quote = nil
    elseif not quote and (c == "'" or c == '"') then
      quote, word = c, word or ""
    elseif not quote and c:find "%s" then
      list[#list + 1], word = word, nil
    else
      word = (word or "") .. c
    end
    i = i + 1
  end
  if quote then
    M.fail { kind = "usage", message = ("%s: the quote %s is not closed"):format(text, quote) }
  end
  list[#list + 1] = word
  return list
end

--- Quotes words for a POSIX shell.
-- @param words string|string[]
-- @return string
function M.sh.quote(words)
  if type(words) ~= "table" then
    words = { words }
  end
  local out = {}
  for i, w in ipairs(words) do
    w = tostring(w)
    if w:find("^[%w_@%%+=:,./-]+$") then
      out[i] = w
    else
      out[i] = "'" .. w:gsub("'", "'\\''") .. "'"
    end
  end
  return table.concat(out, " ")
end

--- Seconds of a duration ("20m", 90).
-- @param d string|number
-- @return number
-- @raise usage when it is none
function M.duration(d)
  local v = require("hg.spec").duration(d)
  if not v then
    M.fail {
      kind = "usage",
      message = ('"%s": expected a duration such as 90s, 20m or 2h'):format(tostring(d)),
    }
  end
  return v
end

M.format = {}

--- "9m10s", "45s", "1h02m", "0.4s".
-- @param seconds number
-- @return string
function M.format.duration(seconds)
  if seconds < 10 then
    return (("%.1fs"):format(seconds):gsub("%.0s$", "s"))
  end
  local s = math.floor(seconds + 0.5)
  if s < 60 then
    return s .. "s"
  elseif s < 3600 then
    return s % 60 == 0 and ("%dm"):format(s // 60) or ("%dm%02ds"):format(s // 60, s % 60)
  elseif s < 86400 then
    return ("%dh%02dm"):format(s // 3600, s % 3600 // 60)
  end
  return ("%dd%02dh"):format(s // 86400, s % 86400 // 3600)
end

local UNITS = { "KiB", "MiB", "GiB", "TiB" }

--- "812 B", "1.4 MiB".
-- @param n integer
-- @return string
function M.format.bytes(n)
  if n < 1024 then
    return ("%d B"):format(n)
  end
  local unit
  local v = n + 0.0
  for _, u in ipairs(UNITS) do
    if v < 1024 then
      break
    end
    v, unit = v / 1024, u
  end
  return ("%.1f %s"):format(v, unit)
end

return M
