--- Runs one task: record, log, scope, interrupts, exit code.
local async = require "hgauto.async"
local env = require "hg.cli.env"
local cost = require "hg.cost"
local events = require "hg.events"
local exit = require "hg.cli.exit"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- log.txt: `TIME LEVEL lane step | text`, one line per call, redacted.
local function open_log(run)
  local file = run.dir .. "/log.txt"
  fs.write(file, "", { mode = 384, atomic = false })
  local log = require "hgauto.log"
  return function(level, lane, step, text)
    local line = ("%s %s %s %s │ %s\n"):format(time.iso(time.now(), { ms = true }), level,
      lane ~= "" and lane or "-", step ~= "" and step or "-", text)
    local hidden = log.redact(line)
    fs.append(file, hidden)
    out.log_bytes = out.log_bytes + #hidden
  end
end

-- The task's result as the record can hold it: JSON knows no NaN and no
-- table that is list and map at once.
local function recordable(v)
  if v == nil or not require("hg.resume").plain(v) then
    return nil
  end
  if not pcall(require("hgauto.json").encode, v) then
    out.debug("the result cannot be written as JSON: left out")
    return nil
  end
  return v
end

-- Where in the task's own file a mistake in calling the library was made.
local function add_place(err, task)
  if type(err) ~= "table" or err.kind ~= "usage" or err.exit or not err.traceback then
    return
  end
  local file = debug.getinfo(task.run, "S").short_src
  local line = err.traceback:match("%f[^%s]" .. file:gsub("%p", "%%%0") .. ":(%d+):")
  if line and not tostring(err):find(file .. ":", 1, true) then
    err.message = ("%s (%s:%s)"):format(err.message, file, line)
  end
end

local function printable_args(args)
  local copy = {}
  for k, v in pairs(args) do
    if recordable(v) ~= nil then
      copy[k] = v
    else
      copy[k] = tostring(v)
    end
  end
  return copy
end

local function error_record(err)
  if type(err) ~= "table" then
    return { kind = "runtime", message = tostring(err) }
  end
  return { kind = err.kind, code = err.code, message = tostring(err), step = err.step,
    lane = err.lane, hint = exit.hint(err) }
end

-- Reading an argument that was never declared is a mistake worth a name.
local function guard_args(args, decl)
  local names = { "rest" }
  for _, a in ipairs(decl.args or {}) do
    names[#names + 1] = (a.name:gsub("-", "_"))
  end
  local known = {}
  for _, n in ipairs(names) do
    known[n] = true
  end
  return setmetatable(args, {
    __index = function(_, key)
      if known[key] then
        return nil
      end
      require("hg").fail {
        kind = "task", message = ("args.%s is not declared%s"):format(tostring(key),
          require("hg.suggest").text(tostring(key), names)),
      }
    end,
  })
end

local function summary(err, code, started, open, kept, usd, launched)
  local format = require("hg").format
  local took = format.duration(time.mono() - started)
  local left = (open > 0 or #kept > 0) and "" or ", nothing left running"
  local money = usd > 0 and (", " .. require("hg").prices.text(usd)) or ""
  if not err then
    out.note(("ok    %s in %s%s%s"):format(session.task, took, money, left))
  elseif code == 130 or code == 143 then
    out.note(("interrupted after %s%s%s"):format(took, money, left))
  elseif launched > 0 then
    out.note(("failed after %s%s%s"):format(took, money, left))
  end
end

-- Machines that outlive the run on request: how to reach and to end them.
local function tell_kept(kept, run)
  local hg, where = require "hg", session.local_cloud and " --local" or ""
  for _, m in ipairs(kept) do
    local ends = m.expires and m.expires - time.now()
    out.note(("kept %s at %s%s%s; hgauto ssh%s %s"):format(m.id, m.address or "?",
      m.usd_per_hour and (", USD %.4f/h"):format(m.usd_per_hour) or "",
      ends and (", ends itself in " .. hg.format.duration(math.max(0, ends))) or "", where,
      m.id))
  end
  if #kept > 0 then
    out.note(("hgauto run --resume %s goes on with %s, hgauto gc %s%s ends %s"):format(run.id,
      #kept == 1 and "it" or "them", run.id, where, #kept == 1 and "it" or "them"))
  end
end

local function kept_machines(ctx)
  local kept = {}
  for _, m in ipairs(ctx.machines) do
    kept[#kept + 1] = m.state == "kept" and m or nil
  end
  return kept
end

local function print_failure(err, opts)
  local term = require "hgauto.term"
  if type(err) == "table" and err.quiet then
    return
  end
  if type(err) == "table" and err.step and not out.quiet and err.kind ~= "usage" then
    local text = ("FAILED %s%s%s"):format(err.step, err.lane and (" (" .. err.lane .. ")") or "",
      err.where and (" at " .. err.where) or "")
    term.err(term.filter(text) .. "\n")
    local tail = type(err.result) == "table" and (err.result.err ~= "" and err.result.err
      or err.result.out)
    if tail and tail ~= "" then
      local lines = {}
      for line in tail:gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      for i = math.max(1, #lines - 14), #lines do
        term.err("    | " .. term.filter(lines[i]) .. "\n")
      end
    end
  end
  exit.report(err, opts)
  if session.run then
    term.err(("log   %s/log.txt\n"):format(session.run.dir))
  end
end

-- What of this run may still cost money, as the ledger knows it.
local function open_things(run)
  local ok, rows = pcall(require("hg.ledger").open_rows, session, run.id)
  return ok and rows or {}
end

local function tell_open(rows, run)
  local term = require "hgauto.term"
  local kinds, ids = {}, {}
  for _, row in ipairs(rows) do
    if not ids[row.kind] then
      kinds[#kinds + 1], ids[row.kind] = row.kind, {}
    end
    table.insert(ids[row.kind], row.id or row.name or row.op:sub(1, 8))
  end
  local names = {}
  for i, kind in ipairs(kinds) do
    local list = ids[kind]
    names[i] = ("%d %s%s (%s, %s)"):format(#list, kind, #list == 1 and "" or "s",
      table.concat(list, ", "), session.region)
  end
  term.err(("hgauto: may still cost money: %s\nhint: hgauto gc %s%s\n"):format(
    table.concat(names, ", "), run.id, session.local_cloud and " --local" or ""))
end

--- Runs a loaded task.
-- @param task table declared by hg.task
-- @param name string shown name
-- @param args table parsed arguments
-- @param opts table global and run options
-- @param how table argv= the command line, cwd= where it was given, file= of the task unless it
--   is built in, resume= record of the run to go on with
-- @return integer exit code
-- @waits
function M.execute(task, name, args, opts, how)
  local started = time.mono()
  session.task, session.task_file = name, how.file
  out.quiet, out.verbose = opts.quiet, opts.verbose
  session.on_error, session.max_cost = opts.on_error or "cleanup", opts.max_cost
  if opts["local"] then
    -- Downloading and building a base image can be interrupted like any step.
    out.debug("using the local cloud")
  end
  env.use_cloud(opts)
  local resume = require "hg.resume"
  local hash = resume.file_hash(how.file, name)
  if how.resume then
    resume.begin(how.resume, opts.from)
    resume.check_file(how.resume, hash)
  end
  local run = env.begin_run(name)
  out.log, out.log_bytes = open_log(run), 0
  events.open(run.dir, opts.events)
  require("hgauto.aws").observe(function(call)
    events.emit("api", call)
  end)
  env.tell_dead_runs()

  local json = require "hgauto.json"
  local record = {
    v = 1, run = run.id, task = name, args = printable_args(args), region = session.region,
    profile = session.profile, endpoint = session.local_cloud and "local" or session.endpoint_url,
    file = how.file, sha256 = hash, argv = json.list(how.argv), cwd = how.cwd,
    resumed_from = how.resume and how.resume.run,
    version = host.version.hgauto, pid = host.pid(), started = time.iso(time.now(), { ms = true }),
    status = "running", artifacts = json.list {}, machines = json.list {},
  }
  local ctx
  local function save()
    if ctx then
      record.steps = ctx.steps
      record.artifacts = json.list(ctx.artifacts)
      record.machines = json.list(ctx.machines)
    end
    local text = json.encode(record, { indent = 2 }) .. "\n"
    fs.write(run.dir .. "/run.json", require("hgauto.log").redact(text))
  end
  ctx = require("hg.ctx").new { run = run, task = name, args = args, save = save, yes = opts.yes }
  session.ctx = ctx
  save()
  events.emit("run.start", { task = name, args = record.args, version = record.version,
    run = run.id })
  guard_args(args, task)

  local function body()
    if opts.timeout or task.timeout then
      local limit = opts.timeout or require("hg").duration(task.timeout)
      return async.timeout(limit, task.run, ctx, args)
    end
    return task.run(ctx, args)
  end
  local ok, result = pcall(async.scope, function(s)
    local beat = s:spawn(out.heartbeat)
    local meter = opts.max_cost and s:spawn(cost.watch, ctx, opts.max_cost)
    local tidy = task.gc ~= false and s:spawn(require("hg.gc").at_start)
    local good, value = pcall(async.scope, body)
    beat:cancel("done")
    if meter then
      meter:cancel("done")
    end
    if tidy then
      tidy:cancel("done")
    end
    if not good then
      error(value, 0)
    end
    return value
  end)
  local err = nil
  if not ok then
    err = result == nil and "error object is a nil value" or result
    add_place(err, task)
  end
  if err and type(err) == "table" and err.code == "Exit" and err.exit == 0 then
    err = nil
  end

  local rows = open_things(run)
  local code = err and exit.code(err, true) or 0
  local cause = code
  if #rows > 0 then
    code = 6
  end
  record.ended = time.iso(time.now(), { ms = true })
  record.exit, record.cause_exit = code, cause
  record.status = not err and "ok" or (cause == 130 or cause == 143) and "cancelled"
    or type(err) == "table" and err.kind == "cost" and "cost" or cause == 5 and "timeout"
    or "failed"
  record.error = err and error_record(err) or nil
  record.open = json.list {}
  for i, row in ipairs(rows) do
    record.open[i] = { kind = row.kind, id = row.id, region = session.region }
  end
  if not err then
    record.result = recordable(result)
  end
  local kept, usd = kept_machines(ctx), cost.spent(ctx)
  record.kept, record.usd = json.list {}, usd
  for i, m in ipairs(kept) do
    record.kept[i] = { kind = m.kind, id = m.id, region = session.region }
  end
  save()
  events.emit("run.end", { status = record.status, exit = code, usd = usd, open = record.open,
    ms = math.floor((time.mono() - started) * 1000), error = record.error })
  if err and cause ~= 130 and cause ~= 143 then
    print_failure(err, opts)
  elseif err and type(err) == "table" and err.suppressed then
    exit.report(err, opts)
  end
  if #rows > 0 then
    tell_open(rows, run)
  end
  tell_kept(kept, run)
  summary(err, cause, started, #rows, kept, usd, #ctx.machines)
  session.ledger:end_run(run.id)
  require("hg.guard").done()
  resume.finish()
  run:finish()
  require("hg.runs").prune()
  events.close()
  require("hgauto.aws").observe(nil)
  out.log = nil
  return code
end

return M
