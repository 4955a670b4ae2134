--- The records of runs: finding, listing, showing, pruning them.
local fs = require "hgauto.fs"
local hg = require "hg"
local json = require "hgauto.json"
local out = require "hg.output"
local session = require "hg.session"
local term = require "hgauto.term"
local time = require "hgauto.time"

local M = {}

-- Ended runs with nothing open stay at least this many and this long.
local KEEP, KEEP_SECONDS = 200, 180 * 86400

--- The directory of a run's record.
-- @param id string
-- @return string
function M.dir(id)
  return session.state.path .. "/runs/" .. id
end

--- The record of a run; one that never ended and is not alive is "dead".
-- @param id string
-- @return table
function M.read(id)
  local path = M.dir(id) .. "/run.json"
  local ok, r = pcall(function()
    return json.decode(fs.read(path))
  end)
  if not ok or type(r) ~= "table" then
    r = { run = id, task = "?", status = "unreadable" }
  end
  r.alive = session.state:run_alive(id)
  if not r.ended and r.status == "running" and not r.alive then
    r.status = "dead"
  end
  return r
end

--- All runs, the newest last.
-- @return string[]
function M.all()
  local runs, started = session.state:runs(), {}
  for _, id in ipairs(runs) do
    -- The id has the minute; within it the record knows.
    started[id] = M.read(id).started or ""
  end
  table.sort(runs, function(a, b)
    local x, y = a:sub(1, 13), b:sub(1, 13)
    if x ~= y then
      return x < y
    elseif started[a] ~= started[b] then
      return started[a] < started[b]
    end
    return a < b
  end)
  return runs
end

--- The id that a word stands for: a unique beginning, or "last".
-- @param word string
-- @param what string command for the message
-- @return string
-- @raise usage none, or several
function M.find(word, what)
  local runs, hits = M.all(), {}
  if word == "last" and #runs > 0 then
    return runs[#runs]
  end
  for _, id in ipairs(runs) do
    if id == word then
      return id
    elseif id:sub(1, #word) == word then
      hits[#hits + 1] = id
    end
  end
  if #hits == 1 then
    return hits[1]
  elseif #hits == 0 then
    hg.fail { kind = "usage", message = ("%s: no run %s%s"):format(what, word,
      require("hg.suggest").text(word, runs)), hint = "hgauto runs ls" }
  end
  hg.fail { kind = "usage", message = ("%s: %s is ambiguous: %s"):format(what, word,
    table.concat(hits, ", ", 1, math.min(#hits, 5))) }
end

--- How long a run took, as text; "-" when nobody knows.
-- @param r table its record
-- @return string
function M.took(r)
  local from, to = r.started and time.parse(r.started), r.ended and time.parse(r.ended)
  if not from then
    return "-"
  elseif not to and not r.alive then
    return "-"
  end
  return hg.format.duration(math.max(0, (to or time.now()) - from))
end

-- Columns as wide as their widest cell; the last one is free.
local function print_table(rows)
  local width = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      width[i] = math.max(width[i] or 0, #cell)
    end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i < #row and cell .. (" "):rep(width[i] - #cell) or cell
    end
    out.result(term.filter((table.concat(cells, "  "):gsub("%s+$", ""))))
  end
end

M.print_table = print_table

--- `hgauto runs ls`.
function M.ls()
  local rows = { { "RUN", "TASK", "STATUS", "STARTED", "TOOK", "USD", "OPEN" } }
  for _, id in ipairs(M.all()) do
    local r = M.read(id)
    local open = session.ledger:open_count(id)
    rows[#rows + 1] = { id, r.task or "?", r.status or "?",
      r.started and time.local_text(time.parse(r.started), "%Y-%m-%d %H:%M") or "-", M.took(r),
      r.usd and r.usd > 0 and ("%.3f"):format(r.usd) or "-",
      open > 0 and ("%d, hgauto gc %s"):format(open, id) or "-" }
  end
  if #rows == 1 then
    out.note("no runs")
    return
  end
  print_table(rows)
end

--- `hgauto runs show RUN`: the record as text.
-- @param id string
function M.show(id)
  local r = M.read(id)
  local function say(name, value)
    if value ~= nil and value ~= "" then
      out.result(term.filter(("%-9s %s"):format(name, tostring(value))))
    end
  end
  say("run", id)
  say("task", r.task)
  say("status", r.status .. (r.exit and (", exit %d"):format(r.exit) or ""))
  say("started", r.started and time.local_text(time.parse(r.started), "%Y-%m-%d %H:%M:%S"))
  say("took", M.took(r))
  say("region", r.region)
  say("cost", r.usd and r.usd > 0 and hg.prices.text(r.usd) or nil)
  for _, m in ipairs(r.machines or {}) do
    say("machine", ("%s %s %s %s"):format(m.id, m.type or "", m.address or "", m.state or ""))
  end
  for _, a in ipairs(r.artifacts or {}) do
    say("artifact", ("%s  %s"):format(a.path, a.sha256))
  end
  for _, o in ipairs(r.open or {}) do
    say("open", ("%s %s"):format(o.kind, o.id or "?"))
  end
  if r.error then
    say("error", ("%s%s"):format(r.error.step and r.error.step .. ": " or "", r.error.message))
    say("hint", r.error.hint)
  end
  for _, e in ipairs(hg.events.read(M.dir(id))) do
    if e.ev == "step.end" then
      say("step", ("%s%s %s  %s"):format(e.lane and e.lane .. " " or "", e.step or "?", e.status,
        hg.format.duration((e.ms or 0) / 1000)))
    end
  end
  say("log", M.dir(id) .. "/log.txt")
end

-- Offsets of the log that belong to a step.
local function step_ranges(id, step)
  local ranges = {}
  for _, e in ipairs(hg.events.read(M.dir(id))) do
    if e.ev == "step.end" and e.step == step and e.log then
      ranges[#ranges + 1] = e.log
    end
  end
  if #ranges == 0 then
    hg.fail { kind = "usage", message = ("runs log: run %s has no step %s"):format(id, step) }
  end
  return ranges
end

local function print_log(text, raw)
  term.out(raw and text or term.filter(text))
end

--- `hgauto runs log RUN [STEP]`.
-- @param id string
-- @param o table step= follow= raw=
-- @waits
function M.log(id, o)
  local path = M.dir(id) .. "/log.txt"
  local text = fs.exists(path) and fs.read(path) or ""
  if o.step then
    for _, range in ipairs(step_ranges(id, o.step)) do
      print_log(text:sub(range[1] + 1, range[1] + range[2]), o.raw)
    end
    return
  end
  print_log(text, o.raw)
  while o.follow and session.state:run_alive(id) do
    require("hgauto.async").sleep(0.3)
    local more = fs.read(path):sub(#text + 1)
    text = text .. more
    print_log(more, o.raw)
  end
end

--- `hgauto runs cancel RUN`: the run ends and cleans up, as after Ctrl-C.
-- @param id string
-- @raise usage it is not alive
-- @waits
function M.cancel(id)
  local r = M.read(id)
  if not r.alive then
    hg.fail { kind = "usage", message = ("runs cancel: run %s is not alive (%s)"):format(id,
      r.status), hint = session.ledger:open_count(id) > 0 and "hgauto gc " .. id or nil }
  end
  -- The lock is held, so the process of that number is still the run's.
  require("hgauto.proc").run({ "kill", "-TERM", tostring(r.pid) }, { timeout = 10 })
  out.note(("run %s is ending"):format(id))
end

--- `hgauto runs rm RUN`: forgets the record of a run that left nothing.
-- @param id string
-- @raise exists it is alive or has something open
function M.rm(id)
  if session.state:run_alive(id) then
    hg.fail { kind = "exists", message = ("run %s is alive"):format(id) }
  elseif session.ledger:open_count(id) > 0 then
    hg.fail { kind = "exists", message = ("run %s has something open"):format(id),
      hint = "hgauto gc " .. id }
  end
  fs.remove(M.dir(id), { tree = true })
end

--- Removes old records of runs that ended and left nothing.
function M.prune()
  local runs = session.state:runs()
  for i = 1, #runs - KEEP do
    local r = M.read(runs[i])
    local started = r.started and time.parse(r.started)
    if started and time.now() - started > KEEP_SECONDS and not r.alive
      and session.ledger:open_count(runs[i]) == 0 then
      fs.remove(M.dir(runs[i]), { tree = true })
    end
  end
end

local arg = hg.arg
local RUN = arg.string { name = "run", positional = true, required = true,
  help = "its id, a unique beginning of it, or last" }

local function open(opts)
  require("hg.cli.env").open_state(opts)
  session.ledger = session.state:ledger()
end

local function on_run(name, fn)
  return function(args, opts)
    open(opts)
    return fn(M.find(args.run, "runs " .. name), args)
  end
end

M.help = "The records of runs: list, show, follow, cancel, remove."

--- The commands of `hgauto runs`.
M.commands = {
  { name = "ls", help = "list the runs: task, state, time, cost, what is open", args = {},
    run = function(_, opts)
      open(opts)
      M.ls()
    end },
  { name = "show", help = "what a run did and left", args = { RUN },
    example = "hgauto runs show last",
    run = on_run("show", M.show) },
  { name = "log", help = "the log of a run, or of one of its steps", args = { RUN,
    arg.string { name = "step", positional = true, help = "only this step" },
    arg.flag { name = "follow", help = "go on while the run lives" },
    arg.flag { name = "raw", help = "bytes as they came" } },
    example = "hgauto runs log last wheel",
    run = on_run("log", M.log) },
  { name = "cancel", help = "end a run; it cleans up", args = { RUN },
    run = on_run("cancel", M.cancel) },
  { name = "rm", help = "forget the record of a run that left nothing", args = { RUN },
    run = on_run("rm", M.rm) },
}

return M
