--- What a task's `run(ctx, args)` gets: steps, lanes, artifacts, log.
local async = require "hgauto.async"
local events = require "hg.events"
local fs = require "hgauto.fs"
local out = require "hg.output"
local resume = require "hg.resume"
local session = require "hg.session"
local time = require "hgauto.time"

local Ctx = {}
Ctx.__index = Ctx

local function unpack_from(t, i)
  return table.unpack(t, i, t.n)
end

-- The same step has the same key in every run: its lane, the step around it, its
-- name, and which one of that name it is.
local function next_key(self, lane, outer, name)
  local key = ("%s|%s/%s"):format(lane, outer and outer.key or "", name)
  local n = (self.uses[key] or 0) + 1
  self.uses[key] = n
  return key .. "#" .. n
end

-- ---- machines that steps use ----

--- Notes that the steps around the caller use a machine.
-- @param id string
function Ctx:used(id) -- luacheck: no self
  local frame = async.local_get("frame")
  while frame do
    frame.machines[id] = true
    frame = frame.outer
  end
end

local function used_by(frame, args)
  for i = 1, args.n do
    local m = args[i]
    if type(m) == "table" and type(rawget(m, "id")) == "string" and rawget(m, "record") then
      frame.machines[m.id] = true
    end
  end
  local ids = {}
  for id in pairs(frame.machines) do
    ids[#ids + 1] = id
  end
  table.sort(ids)
  return require("hgauto.json").list(ids)
end

local STEP_OPTS = { timeout = true, retry = true, retry_delay = true, retry_if = true,
  resume = true, kind = true, detail = true }

local PARALLEL_OPTS = { label = true, limit = true, keep_going = true }

local function check_options(what, opts, known)
  for key in pairs(opts) do
    if not known[key] then
      local names = {}
      for name in pairs(known) do
        names[#names + 1] = name
      end
      require("hg").fail { kind = "usage", exit = 1,
        message = ("%s: unknown option %s%s"):format(what, tostring(key),
          require("hg.suggest").text(tostring(key), names)) }
    end
  end
end

local function retryable(opts, err)
  if type(err) ~= "table" or err.kind == "cancelled" then
    return false
  end
  if opts.retry_if then
    return opts.retry_if(err)
  end
  return err.retryable == true
end

-- Errors of any type become tables, with the traceback of where they arose:
-- later only the place of the re-raise would be known.
local function to_error(e)
  if type(e) ~= "table" then
    local text = type(e) == "string" and e or ("error object is a %s value"):format(type(e))
    e = require("hgauto.host").error {
      kind = text == "not enough memory" and "memory" or "runtime", message = text,
    }
  end
  if e.kind and e.kind ~= "cancelled" and not e.traceback then
    e.traceback = debug.traceback("stack traceback:", 2):gsub("^stack traceback:\n", "", 1)
  end
  return e
end

-- File and line of the innermost Lua function above `level`.
local function caller(level)
  local info
  repeat
    level = level + 1
    info = debug.getinfo(level, "Sl")
  until not info or info.currentline > 0
  return info and ("%s:%d"):format(info.short_src, info.currentline)
end

local function attempt(self, opts, fn, args)
  local left, delay = opts.retry or 0, opts.retry_delay or 5
  while true do
    local results
    if opts.timeout then
      results = table.pack(xpcall(async.timeout, to_error, opts.timeout, fn, unpack_from(args, 1)))
    else
      results = table.pack(xpcall(fn, to_error, unpack_from(args, 1)))
    end
    if results[1] then
      return results
    end
    local err = results[2]
    if left <= 0 or not retryable(opts, err) then
      error(err, 0)
    end
    left = left - 1
    self:warn("%s; again in %s", tostring(err), require("hg").format.duration(delay))
    async.sleep(delay)
    delay = math.min(delay * 2, 60)
  end
end

-- Emits step.end; results are those of a good end.
local function tell_end(frame, opts, args, status, more)
  local e = { kind = opts.kind or "run", status = status, key = frame.key,
    machines = used_by(frame, args), ms = math.floor((time.mono() - frame.start) * 1000),
    log = { frame.log_from, out.log_bytes - frame.log_from } }
  for k, v in pairs(more) do
    e[k] = v
  end
  events.emit("step.end", e)
end

-- A step that the resumed run has done.
local function skipped(self, frame, opts, path, old)
  self.steps.ok = self.steps.ok + 1
  out.note(("%s: done by run %s"):format(path, session.resume.run))
  for _, id in ipairs(old.machines or {}) do
    frame.machines[id] = true
  end
  tell_end(frame, opts, { n = 0 }, "skipped", { n = old.n, values = old.values })
  return table.unpack(old.values, 1, old.n)
end

local function failed(self, frame, opts, args, err)
  self.steps.failed = self.steps.failed + 1
  if type(err) == "table" and not err.step then
    err.step, err.lane = frame.path, err.lane or (frame.lane ~= "" and frame.lane or nil)
    err.where = frame.where or err.where
  end
  local cancelled = type(err) == "table" and err.kind == "cancelled"
  out.end_step(frame.key, false, cancelled and "cancelled" or nil)
  local told = not cancelled and type(err) == "table" and err or nil
  tell_end(frame, opts, args, cancelled and "cancelled" or "failed", { error = told and {
    kind = told.kind, code = told.code, message = tostring(told) } or nil })
end

-- Runs a step whose frame is the current one.
local function run_step(self, frame, opts, fn, args)
  local old = resume.done(frame.key, frame.lane, frame.path, opts.resume ~= false)
  if old then
    return skipped(self, frame, opts, frame.path, old)
  end
  out.begin_step(frame.key, { lane = frame.lane, name = frame.path, start = frame.start })
  events.emit("step.start", { kind = opts.kind or "run" })
  local ok, results = pcall(attempt, self, opts, fn, args)
  if not ok then
    failed(self, frame, opts, args, results)
    error(results, 0)
  end
  self.steps.ok = self.steps.ok + 1
  self.timings[#self.timings + 1] = { lane = frame.lane, name = frame.path,
    seconds = time.mono() - frame.start }
  out.end_step(frame.key, true, opts.detail and opts.detail(unpack_from(results, 2)))
  tell_end(frame, opts, args, "ok", opts.resume == false and {}
    or resume.values(table.pack(unpack_from(results, 2))))
  return unpack_from(results, 2)
end

--- Runs fn as a named unit of progress, log and resume; steps nest.
-- @param name string
-- @param[opt] opts table timeout retry retry_delay retry_if kind; resume=false: runs again
--   when the run is resumed, for what it does on this side
-- @param fn function called with the remaining arguments
-- @return any results of fn
-- @raise what fn raises
-- @waits
function Ctx:step(name, opts, fn, ...)
  local args
  if type(opts) == "function" or (getmetatable(opts) or {}).__call then
    args = table.pack(fn, ...)
    if fn == nil and select("#", ...) == 0 then
      args = table.pack()
    end
    opts, fn = {}, opts
  else
    args = table.pack(...)
  end
  check_options("ctx:step", opts, STEP_OPTS)
  local lane, outer = async.local_get("lane") or "", async.local_get("frame")
  local path = outer and (outer.path .. "/" .. name) or name
  local frame = { outer = outer, path = path, lane = lane, where = caller(2),
    key = next_key(self, lane, outer, name), machines = {}, start = time.mono(),
    log_from = out.log_bytes }
  self.steps.total = self.steps.total + 1
  async.local_set("frame", frame)
  async.local_set("step", path)
  local results = table.pack(pcall(run_step, self, frame, opts, fn, args))
  async.local_set("frame", outer)
  async.local_set("step", outer and outer.path)
  if not results[1] then
    error(results[2], 0)
  end
  return unpack_from(results, 2)
end

--- Runs fn(item) for each item at once, each in a lane of its own.
-- @param list table
-- @param[opt] opts table label(item), limit=8, keep_going=false
-- @param fn function
-- @return table results in order
-- @waits
function Ctx:parallel(list, opts, fn)
  if type(opts) == "function" then
    opts, fn = {}, opts
  end
  check_options("ctx:parallel", opts, PARALLEL_OPTS)
  local label = opts.label or tostring
  local parent = async.local_get("lane")
  local function lane(item)
    local name = tostring(label(item))
    local full = parent and parent ~= "" and (parent .. "/" .. name) or name
    async.local_set("lane", full)
    async.label(full)
    local start = time.mono()
    events.emit("lane.start", { label = name })
    local ok, v = xpcall(fn, to_error, item)
    local cancelled = not ok and type(v) == "table" and v.kind == "cancelled"
    events.emit("lane.end", { label = name, ms = math.floor((time.mono() - start) * 1000),
      status = ok and "ok" or cancelled and "cancelled" or "failed" })
    if not ok and self.plan and require("hg.plan").is_end(v) then
      -- The other lanes' plans go on.
      require("hg.plan").ended(v)
      return require("hg.plan").unknown("result of " .. name)
    elseif not ok then
      if type(v) == "table" then
        v.lane = v.lane or full
      end
      error(v, 0)
    end
    return v
  end
  local results, errors = async.map(list, lane,
    { limit = opts.limit or 8, keep_going = opts.keep_going or false })
  if errors and next(errors) then
    local first, n = nil, 0
    for i = 1, #list do
      if errors[i] then
        n = n + 1
        first = first or errors[i]
      end
    end
    require("hg").fail {
      kind = first.kind and first.kind ~= "usage" and first.kind or "task", cause = first,
      lane = first.lane, step = first.step, where = first.where, traceback = first.traceback,
      message = ("%d of %d failed: %s: %s"):format(n, #list,
        first.lane or "?", tostring(first)),
    }
  end
  return results
end

--- Records a finished file: size and SHA-256 go into the record, the path to stdout.
-- @param path string regular file
-- @param[opt] opts table name=
-- @return table {name, path, size, sha256}
function Ctx:artifact(path, opts)
  local st = fs.stat(path)
  if st.type ~= "file" then
    require("hg").fail { kind = "io", message = ("artifact %s is no regular file"):format(path) }
  end
  local a = {
    name = opts and opts.name or path:match("[^/]+$"), path = path, size = st.size,
    sha256 = opts and opts.sha256 or fs.sha256(path),
  }
  self.artifacts[#self.artifacts + 1] = a
  self.save()
  events.emit("artifact", a)
  out.result(path)
  return a
end

--- Records a machine of this run; its fields may be changed later.
-- @param t table lane kind id type address started state
-- @return table t
function Ctx:machine(t)
  self.machines[#self.machines + 1] = t
  self.save()
  return t
end

--- Registers a secret: it is replaced by *** in every output from now on.
-- @param text string at least 6 bytes
-- @return string the text
function Ctx:secret(text) -- luacheck: no self
  if #text < 6 then
    require("hg").fail { kind = "usage", exit = 1,
      message = "ctx:secret: less than 6 bytes cannot be hidden" }
  end
  require("hgauto.log").secret(text)
  return text
end

--- Asks the user; with -y the answer is yes.
-- @param question string
-- @return boolean
-- @raise usage nobody can be asked
-- @waits
function Ctx:confirm(question)
  if self.yes then
    return true
  elseif not self.interactive then
    require("hg").fail { kind = "usage", message = question .. " nobody can be asked",
      hint = "-y answers yes" }
  end
  local reader <close> = require("hgauto.readline").open { prompt = question .. " [yes/no] ",
    edit = false }
  return (reader:read() or ""):match "^%s*yes%s*$" ~= nil
end

--- A line on screen and in the log.
-- @param fmt string
function Ctx:log(fmt, ...) -- luacheck: no self
  out.note(select("#", ...) > 0 and fmt:format(...) or fmt)
end

--- A warning on screen and in the log.
-- @param fmt string
function Ctx:warn(fmt, ...) -- luacheck: no self
  out.warn(select("#", ...) > 0 and fmt:format(...) or fmt)
end

--- Ends the task through normal unwinding.
-- @param code integer 0, 1 or 10 to 63
-- @param[opt] text string
function Ctx:exit(code, text) -- luacheck: no self
  if math.type(code) ~= "integer" or code < 0 or code > 63 or (code > 1 and code < 10) then
    require("hg").fail { kind = "usage", exit = 1, message = "ctx:exit takes 0, 1 or 10 to 63" }
  end
  error(require("hgauto.host").error {
    kind = "task", code = "Exit", message = text or ("ended with " .. code), exit = code,
    quiet = text == nil,
  }, 0)
end

local M = {}

--- A context for one run.
-- @param o table run (id, dir), task, args, save=function
-- @return table
function M.new(o)
  return setmetatable({
    run = o.run.id, dir = o.run.dir, task = o.task, args = o.args, save = o.save,
    plan = o.plan or false, yes = o.yes or false, interactive = require("hgauto.term").isatty(0)
      and require("hgauto.term").isatty(2),
    steps = { total = 0, ok = 0, failed = 0 }, timings = {}, artifacts = {}, machines = {},
    uses = {},
  }, Ctx)
end

return M
