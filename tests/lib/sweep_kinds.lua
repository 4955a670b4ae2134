--- The sweeps: what is done at one request of a task, and how it must end.
local async = require "hgauto.async"
local time = require "hgauto.time"
local sweep = dofile "tests/lib/sweep.lua"

local M = { sweep = sweep }

-- What one point found: text of the first thing that is wrong, by class; missed: the
-- process ended before it came there (how often it polls varies).
local function new_point()
  local p = { leaked = nil, wrong = nil, hung = nil, missed = nil }
  function p.fail(class, ...)
    p[class] = p[class] or (...):format(select(2, ...))
  end
  return p
end

local function check_run(p, r, what, want)
  if r.hung then
    p.fail("hung", "%s hangs:\n%s", what, r.text)
  elseif r.code ~= want then
    p.fail("wrong", "%s ends with %s instead of %s:\n%s", what, tostring(r.code or r.signal),
      tostring(want), r.text)
  end
end

local function same(a, b)
  return sweep.text(a) == sweep.text(b)
end

-- Where a process is ended: at a request, or at a piece of remote work.
local function cut_at(n, when, signal, presses)
  local is_remote = when == "remote"
  return { n = not is_remote and n or nil, when = not is_remote and when or nil,
    remote = is_remote and n or nil, signal = signal, presses = presses }
end

-- Runs the task until it is ended there.
local function run_cut(rig, p, state, task, cut, env)
  local r = rig:run_cut(state, sweep.words(task), cut, env)
  p.missed = not cut.done
  return r
end

local function begin(rig, task)
  local state = rig:state()
  if sweep.needs_objects(task) then
    rig:prepare(state, task)
  end
  return state
end

--- Runs a task undisturbed, twice, and purges.
-- @param rig table
-- @param task string
-- @return table {requests=, actions=, remote=names of its pieces of remote work, inventory=,
--   makes=whether it launches machines}
-- @waits
function M.undisturbed(rig, task)
  local state = begin(rig, task)
  local r = rig:run(state, sweep.words(task))
  if r.code ~= 0 then
    error(("%s fails undisturbed (%s):\n%s"):format(task, tostring(r.code or r.signal), r.text), 0)
  end
  local result = { requests = r.requests, actions = {}, remote = rig.remote }
  for i = 1, r.requests do
    result.actions[i] = rig.journal[i].action
    result.makes = result.makes or result.actions[i] == "RunInstances"
  end
  rig:no_ephemerals()
  result.inventory = rig:inventory()
  rig:run(state, { "purge", "--yes" })
  if sweep.text(rig:inventory()) ~= "nothing" then
    error(task .. ": purge leaves " .. sweep.text(rig:inventory()), 0)
  end
  return result
end

-- The task to its end: as if nothing had been.  what: "the task", "the task again".
local function ends_plainly(rig, p, state, task, plain, what)
  check_run(p, rig:run(state, sweep.words(task)), what, 0)
  local calm, left = rig:no_ephemerals()
  if not calm then
    p.fail("leaked", "after %s: %s", what, left)
  elseif not same(rig:inventory(), plain.inventory) then
    p.fail("wrong", "after %s %s instead of %s", what, sweep.text(rig:inventory()),
      sweep.text(plain.inventory))
  end
end

local function again(rig, p, state, task, plain)
  ends_plainly(rig, p, state, task, plain, "the task again")
end

local function purge(rig, p, state, words)
  check_run(p, rig:run(state, words or { "purge", "--yes" }), "purge", 0)
  rig:no_ephemerals()
  local left = sweep.text(rig:inventory())
  if left ~= "nothing" then
    p.fail("leaked", "after purge: %s", left)
    rig:wipe()
  end
end

--- kill -9 at a request; then gc, the task again, purge.
function M.kill(rig, task, plain, n, when)
  local p, state = new_point(), begin(rig, task)
  local r = run_cut(rig, p, state, task, cut_at(n, when, "KILL"))
  if r.hung then
    p.fail("hung", "not even killed")
  end
  check_run(p, rig:run(state, { "gc" }), "gc", 0)
  local calm, left = rig:no_ephemerals()
  if not calm then
    p.fail("leaked", "after gc: %s", left)
  end
  again(rig, p, state, task, plain)
  purge(rig, p, state)
  return p
end

--- kill -9 at a request and the loss of the state directory; then purge by tag.
function M.lost(rig, task, _, n, when)
  local p, state = new_point(), begin(rig, task)
  run_cut(rig, p, state, task, cut_at(n, when, "KILL"))
  require("hgauto.fs").remove(state, { tree = true })
  purge(rig, p, rig:state(), { "purge", "--by-tag", "--all-states", "--yes" })
  return p
end

-- The task had ended well before the signal: it made no difference, or met a process
-- that had nothing left to do but to exit.
local function over(r, task)
  return (r.code == 0 or r.signal == 2 or r.signal == 15)
    and r.text:find(("ok    %s in "):format(task), 1, true) ~= nil
end

-- A signal at a request: everything ephemeral goes without gc; then again, purge.
local function interrupted(rig, task, plain, n, when, signal, code)
  local p, state = new_point(), begin(rig, task)
  local r = run_cut(rig, p, state, task, cut_at(n, when, signal))
  if not over(r, task) then
    check_run(p, r, "the interrupted task", code)
  end
  if r.seconds > 35 then
    p.fail("hung", "it took %d s to end", r.seconds // 1)
  end
  local calm, left = rig:no_ephemerals()
  if not calm and not sweep.needs_objects(task) then
    p.fail("leaked", "after the signal: %s", left)
  end
  again(rig, p, state, task, plain)
  purge(rig, p, state)
  return p
end

--- SIGINT at a request.
function M.signal(rig, task, plain, n, when)
  return interrupted(rig, task, plain, n, when, "INT", 130)
end

--- SIGTERM at a request.
function M.term(rig, task, plain, n, when)
  return interrupted(rig, task, plain, n, when, "TERM", 143)
end

-- Ctrl-C again, since the service does not answer any more: it ends soon, says
-- whether something may be left, and gc finds that.
local function impatient(rig, task, plain, n, when, presses, limit)
  local p, state = new_point(), begin(rig, task)
  local r = run_cut(rig, p, state, task, cut_at(n, when, "INT", presses))
  -- What it has ended may still be shutting down.
  local calm, left = rig:no_ephemerals(1)
  if r.hung or r.since and r.since > limit then
    p.fail("hung", "it took %.1f s after the last press:\n%s", r.since or 0, r.text)
  elseif r.code == 130 and not calm and not sweep.needs_objects(task) then
    p.fail("wrong", "exit 130 with %s:\n%s", left, r.text)
  elseif r.code ~= 130 and r.code ~= 6 and not over(r, task) then
    check_run(p, r, "the interrupted task", 130)
  end
  check_run(p, rig:run(state, { "gc" }), "gc", 0)
  calm, left = rig:no_ephemerals()
  if not calm and not sweep.needs_objects(task) then
    p.fail("leaked", "after gc: %s", left)
  end
  again(rig, p, state, task, plain)
  purge(rig, p, state)
  return p
end

-- Seconds within which it ends; on a busy machine starting a process takes long.
local SECOND, THIRD = 6 + 4, 0.2 + 2

--- Two presses.
function M.press2(rig, task, plain, n, when)
  return impatient(rig, task, plain, n, when, 2, SECOND)
end

--- Three presses.
function M.press3(rig, task, plain, n, when)
  return impatient(rig, task, plain, n, when, 3, THIRD)
end

--- Nothing but kill -9: the guard ends what is left within ten seconds.
function M.guard(rig, task, _, n, when)
  local p, state = new_point(), begin(rig, task)
  run_cut(rig, p, state, task, cut_at(n, when, "KILL"), { HGAUTO_GUARD = "1" })
  local calm, left = rig:no_ephemerals(10)
  if not calm then
    p.fail("leaked", "10 s later: %s", left)
  end
  purge(rig, p, state)
  return p
end

--- The answer of a creation is lost, each repeat is refused; then gc, the task again, purge.
function M.pair(rig, task, plain, n, refusal)
  local p, state = new_point(), begin(rig, task)
  local action, first = plain.actions[n], true
  rig.refuse = function(entry)
    if entry.action ~= action then
      return nil
    elseif first then
      first = false
      return "lose"
    end
    return refusal
  end
  rig:run(state, sweep.words(task))
  rig.refuse = nil
  check_run(p, rig:run(state, { "gc" }), "gc", 0)
  local calm, left = rig:no_ephemerals()
  if not calm then
    p.fail("leaked", "after gc: %s", left)
  end
  again(rig, p, state, task, plain)
  purge(rig, p, state)
  return p
end

-- Tasks that send their request once: a second one could start the same work again.
local ONCE = { try = true }

local function clear_error(r)
  return r.code and r.code >= 1 and r.code <= 6 and r.text:find("hgauto: %S") ~= nil
    and not r.text:find("traceback", 1, true)
end

--- Something happens to one request, once: the run gets over it, or ends with a
--- clear error after which gc and the task again end as an undisturbed run.
function M.fault(rig, task, plain, n, kind)
  local p, state = new_point(), begin(rig, task)
  rig.fault = { n = n, kind = kind }
  -- What is only answered by silence need not last as long as on a busy machine.
  local r = rig:run(state, sweep.words(task), kind:find "^hang" and { HGAUTO_READ_TIMEOUT = "2" })
  rig.fault = nil
  local calm = rig:no_ephemerals()
  if r.code == 0 and not (calm and same(rig:inventory(), plain.inventory)) then
    p.fail("wrong", "success with %s instead of %s:\n%s", sweep.text(rig:inventory()),
      sweep.text(plain.inventory), r.text)
  elseif r.hung then
    p.fail("hung", "%s", r.text)
  elseif r.code ~= 0 and not clear_error(r) then
    p.fail("wrong", "no clear error (%s):\n%s", tostring(r.code or r.signal), r.text)
  elseif r.code ~= 0 then
    p.ended = ("%d: %s"):format(r.code, r.text:match("hgauto: ([^\n]*)"))
    if sweep.faults.kind(kind).same and not ONCE[task] then
      p.fail("wrong", "not got over (%s):\n%s", p.ended, r.text)
    end
  end
  if r.code ~= 0 then
    check_run(p, rig:run(state, { "gc" }), "gc", 0)
    local clean, left = rig:no_ephemerals()
    if not clean then
      p.fail("leaked", "after gc: %s", left)
    end
    again(rig, p, state, task, plain)
  end
  purge(rig, p, state)
  return p
end

-- Runs fn while the cloud itself has faults.
local function with_faults(rig, rules, fn)
  local client = require "localcloud.client"
  client.add_faults { state = rig.cloud_state, rules = rules }
  local ok, p = pcall(fn)
  client.clear_faults { state = rig.cloud_state }
  if not ok then
    error(p, 0)
  end
  return p
end

-- For how long what was made is not seen, by id and in lists; or only its tags are not.
-- Less than what a collection waits before it takes nothing for an answer.
local LATE = { { seconds = 0.2 }, { seconds = 0.2, describes = 3 },
  { seconds = 0.2, what = "tags" } }

--- As kill, where what was made is not seen for a while; how not, takes turns.
function M.late(rig, task, plain, n, when)
  local rules, how = {}, LATE[(n + sweep.seed) % #LATE + 1]
  for i, action in ipairs { "RunInstances", "CreateImage", "CreateSecurityGroup",
    "ImportKeyPair" } do
    rules[i] = { match = { action = action }, effect = { eventual = how } }
  end
  return with_faults(rig, rules, function()
    return M.kill(rig, task, plain, n, when)
  end)
end

--- Every other request is throttled: the task ends as if nothing had been.
function M.storm(rig, task, plain, seed)
  local p, state = new_point(), begin(rig, task)
  return with_faults(rig, { { prob = 0.5, seed = seed, effect = { throttle = true } } }, function()
    ends_plainly(rig, p, state, task, plain, "the task")
    purge(rig, p, state)
    return p
  end)
end

local STORMS = 20

local CREATES = { RunInstances = true, CreateImage = true, CreateSecurityGroup = true,
  ImportKeyPair = true, CreateVolume = true, CreateRole = true, CreateInstanceProfile = true }

--- The points of a sweep: {{n, when}, …}.
-- @param kind string name of a function here
-- @param plain table from undisturbed
-- @return table[]
function M.points(kind, plain)
  local list = {}
  -- A guard looks after what its own run has made.
  if kind == "guard" and not plain.makes then
    return list
  end
  for i = 1, kind == "storm" and STORMS or 0 do
    list[i] = { sweep.seed + i - 1, "storm" }
  end
  for n = 1, kind == "storm" and 0 or plain.requests do
    if kind == "fault" then
      for _, k in ipairs(sweep.faults.KINDS) do
        list[#list + 1] = { n, k[1] }
      end
    elseif kind ~= "pair" then
      for _, when in ipairs(sweep.MOMENTS) do
        list[#list + 1] = { n, when }
      end
    elseif CREATES[plain.actions[n]] then
      for _, refusal in ipairs(sweep.REFUSALS) do
        list[#list + 1] = { n, refusal }
      end
    end
  end
  if kind ~= "storm" and kind ~= "fault" and kind ~= "pair" then
    for n = 1, #plain.remote do
      list[#list + 1] = { n, "remote" }
    end
  end
  return list
end

-- One point of a sweep: its texts of what is wrong, and whether it was missed.
local function at_point(rig, kind, task, at, plain)
  local p = M[kind](rig, task, plain, at[1], at[2])
  local list = {}
  for _, class in ipairs { "leaked", "wrong", "hung" } do
    if p[class] then
      list[#list + 1] = { class = class, text = ("%s %s, request %d (%s) %s: %s: %s"):format(kind,
        task, at[1], (at[2] == "remote" and plain.remote or plain.actions)[at[1]] or "?", at[2],
        class, p[class]) }
    end
  end
  return list, p.missed
end

--- Runs points of a sweep, on each rig one at a time.
-- @param rigs table[] from sweep.new
-- @param kind string
-- @param task string
-- @param points table[] from points
-- @param plain table
-- @param tell function(text) about each failure
-- @return table {points=, leaked=, wrong=, hung=, missed=}
-- @return table[] {point=, seconds=} of each, slowest first
-- @waits
function M.run(rigs, kind, task, points, plain, tell)
  local sum, times = { points = 0, leaked = 0, wrong = 0, hung = 0, missed = 0 }, {}
  local next_point = 1
  async.map(rigs, function(rig)
    while points[next_point] do
      local at, began = points[next_point], time.mono()
      next_point = next_point + 1
      local failures, missed = at_point(rig, kind, task, at, plain)
      sum.points = sum.points + 1
      sum.missed = sum.missed + (missed and 1 or 0)
      times[sum.points] = { point = ("%d %s"):format(at[1], at[2]), seconds = time.mono() - began }
      for _, f in ipairs(failures) do
        sum[f.class] = sum[f.class] + 1
        tell(f.text)
      end
    end
  end, { limit = #rigs })
  table.sort(times, function(a, b)
    return a.seconds > b.seconds
  end)
  return sum, times
end

return M
