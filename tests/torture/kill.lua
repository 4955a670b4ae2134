-- Sweeps over all requests of the tasks; `make torture-tasks` runs them, and
-- `make torture-ci` (CI=1) the selection below.
--
-- Environment: T=kill,lost,pair,signal,term,press2,press3,guard,late,storm,fault (default all),
-- TASKS=a,b (default all), FAULTS=kind,… (of T=fault, default all), MOMENTS=before,after,sent,
-- remote (of those that end the process, default all), POINTS=FROM-TO of each sweep, STRIDE=n
-- (each n-th point), SEED=n (default 1), JOBS=n points at once (default 1), OUT=DIR for
-- report.json.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local t = require "hg.tap"
local time = require "hgauto.time"
local kinds = dofile "tests/lib/sweep_kinds.lua"
local sweep = kinds.sweep

local ALL_KINDS = "kill,lost,pair,signal,term,press2,press3,guard,late,storm,fault"
-- All that send requests to AWS.
local ALL_TASKS = "build-linux,run-tests-linux,bootstrap-linux-dev,shell,try,"
  .. "bootstrap-windows-dev,build-windows-wheel,build-inno,build-wix,build-all-windows-packages,"
  .. "run-tests-windows,terminate-ec2-instances,purge-ec2-resources,status"

-- A variable of the environment; empty is as good as none.
local function setting(name, default)
  local v = host.getenv(name)
  return v and v ~= "" and v or default
end

-- A variable that is a whole number from 1 on.
local function number(name)
  local n = math.tointeger(tonumber(setting(name, "1")))
  if not n or n < 1 then
    error(("%s=%s: a whole number from 1 on"):format(name, host.getenv(name)), 0)
  end
  return n
end

local function words(text)
  local list = {}
  for word in text:gmatch("[^,]+") do
    list[#list + 1] = word
  end
  return list
end

local function is_in(list, word)
  for _, v in ipairs(list) do
    if v == word then
      return true
    end
  end
  return false
end

local seed, jobs, out = number "SEED", number "JOBS", setting "OUT"
sweep.seed = seed

-- ---- which points ----

-- {task, kind, which}: which = {moments= or faults=, from=, to=, stride=}.  Strides are
-- prime: no moment and no kind of fault is left out in all requests.
local function asked()
  local from, to = setting("POINTS", ""):match("^(%d+)%-(%d+)$")
  if not from and setting "POINTS" then
    error(("POINTS=%s: FROM-TO"):format(setting "POINTS"), 0)
  end
  local list, which = {}, { from = tonumber(from), to = tonumber(to), stride = number "STRIDE",
    faults = setting "FAULTS" and words(setting "FAULTS"),
    moments = setting "MOMENTS" and words(setting "MOMENTS") }
  for _, task in ipairs(words(setting("TASKS", ALL_TASKS))) do
    for _, kind in ipairs(words(setting("T", ALL_KINDS))) do
      if not is_in(words(ALL_KINDS), kind) then
        error(("T=%s: of %s"):format(kind, ALL_KINDS), 0)
      end
      list[#list + 1] = { task, kind, which }
    end
  end
  return list
end

-- What fits between two changes: each kind, on few tasks or few points.
local AFTER = { moments = { "after", "remote" } }
local CI = {
  { "build-linux", "kill", AFTER }, { "build-linux", "lost", AFTER }, { "build-linux", "pair", {} },
  { "build-linux", "signal", {} }, { "build-linux", "term", { stride = 5 } },
  { "build-linux", "press2", { stride = 7 } }, { "build-linux", "press3", { stride = 7 } },
  { "build-linux", "guard", { stride = 7 } }, { "build-linux", "storm", { to = 2 } },
  { "build-linux", "fault", { stride = 19 } },
  { "run-tests-linux", "kill", AFTER },
  { "bootstrap-linux-dev", "pair", {} },
  { "bootstrap-linux-dev", "late", { moments = { "after" } } },
  { "bootstrap-linux-dev", "fault", { stride = 37 } },
  { "bootstrap-windows-dev", "kill", AFTER }, { "bootstrap-windows-dev", "pair", {} },
  { "build-windows-wheel", "signal", { stride = 7 } },
  { "build-windows-wheel", "fault", { stride = 37 } },
  { "run-tests-windows", "kill", { stride = 7 } },
  { "try", "kill", {} }, { "shell", "kill", AFTER },
  { "terminate-ec2-instances", "kill", AFTER }, { "purge-ec2-resources", "kill", AFTER },
}

local function chosen(points, which)
  local stride, list = which.stride or 1, {}
  for _, at in ipairs(points) do
    if not which.moments or is_in(which.moments, at[2]) then
      list[#list + 1] = at
    end
  end
  points, list = list, {}
  local from = which.from or 1
  for i = from, math.min(which.to or #points, #points) do
    if (i - from) % stride == (seed - 1) % stride then
      list[#list + 1] = points[i]
    end
  end
  return list
end

-- Points of the fault kinds that are asked for.
local function of_faults(points, faults)
  if not faults then
    return points
  end
  local list = {}
  for _, at in ipairs(points) do
    if is_in(faults, at[2]) then
      list[#list + 1] = at
    end
  end
  return list
end

-- ---- running them ----

local rigs, dir = {}, t.tmpdir()

local function close_rigs()
  for _, rig in ipairs(rigs) do
    rig:close()
  end
end

local _rigs <close> = setmetatable({}, { __close = close_rigs })
for i = 1, jobs do
  fs.mkdir(("%s/%d"):format(dir, i))
  rigs[i] = sweep.new(("%s/%d"):format(dir, i))
end

local total = { points = 0, leaked = 0, wrong = 0, hung = 0, missed = 0 }
local report = { seed = seed, jobs = jobs, sweeps = json.list {}, total = total }

local function sum_text(s)
  return ("points %d, leaked %d, wrong %d, hung %d"):format(s.points, s.leaked, s.wrong, s.hung)
end

-- Written anew after each sweep: what is there when somebody loses patience is right.
local function write_report()
  if out then
    fs.mkdir(out, { parents = true })
    fs.write(out .. "/report.json", json.encode(report, { indent = 2 }) .. "\n")
  end
end

local undisturbed = {}

local function plain_of(task)
  if not undisturbed[task] then
    t.test(task .. " undisturbed", function()
      local plain = kinds.undisturbed(rigs[1], task)
      undisturbed[task] = plain
      t.ok(plain.requests > 0, ("%d requests, %d pieces of remote work, then %s"):format(
        plain.requests, #plain.remote, sweep.text(plain.inventory)))
    end)
  end
  return undisturbed[task]
end

local function run(task, kind, which)
  local plain = plain_of(task)
  if not plain then
    return -- told already
  end
  t.test(("%s of %s"):format(kind, task), function()
    local began, failures = time.mono(), json.list {}
    local points = chosen(of_faults(kinds.points(kind, plain), kind == "fault" and which.faults),
      which)
    local s, times = kinds.run(rigs, kind, task, points, plain, function(text)
      failures[#failures + 1] = text
      t.diag("%s", text)
    end)
    for class, n in pairs(s) do
      total[class] = total[class] + n
    end
    local seconds = time.mono() - began
    s.task, s.kind, s.seconds, s.failures, s.times = task, kind, seconds, failures, times
    report.sweeps[#report.sweeps + 1] = s
    write_report()
    t.is({ s.leaked, s.wrong, s.hung }, { 0, 0, 0 }, ("%s; %d not reached; %.1f s"):format(
      sum_text(s), s.missed, seconds))
  end)
end

for _, one in ipairs(setting "CI" and CI or asked()) do
  run(table.unpack(one))
end

t.diag("seed %d", seed)
t.diag("%s", sum_text(total))
close_rigs()
return t.done()
