-- Sweeps over all requests of the Linux tasks; `make torture` runs them.
--
-- Environment: T=kill,lost,pair,signal,term,press2,press3,guard,late,storm,fault (default all),
-- TASKS=a,b (default all), FAULTS=kind,… (of T=fault, default all), POINTS=FROM-TO of each
-- sweep, STRIDE=n (each n-th point).
local host = require "hgauto.host"
local t = require "hg.tap"
local kinds = dofile "tests/lib/sweep_kinds.lua"
local sweep = kinds.sweep

local ALL_KINDS = "kill,lost,pair,signal,term,press2,press3,guard,late,storm,fault"
local ALL_TASKS = "build-linux,run-tests-linux,bootstrap-linux-dev,terminate-ec2-instances,"
  .. "purge-ec2-resources,status"

-- A variable of the environment; empty is as good as none.
local function setting(name, default)
  local v = host.getenv(name)
  return v and v ~= "" and v or default
end

local from, to = (setting("POINTS", "")):match("^(%d+)%-(%d+)$")
from, to = tonumber(from) or 1, tonumber(to) or math.huge
local stride = tonumber(setting("STRIDE", "1"))

local function chosen(points)
  local list = {}
  for i, at in ipairs(points) do
    if i >= from and i <= to and (i - from) % stride == 0 then
      list[#list + 1] = at
    end
  end
  return list
end

-- Points of the fault kinds that are asked for.
local function wanted(points)
  local only = setting("FAULTS", "")
  if only == "" then
    return points
  end
  local list = {}
  for _, at in ipairs(points) do
    if ("," .. only .. ","):find("," .. at[2] .. ",", 1, true) then
      list[#list + 1] = at
    end
  end
  return list
end

local rig <close> = sweep.new(t.tmpdir())
local total = { points = 0, leaked = 0, wrong = 0, hung = 0 }

local function sum_text(s)
  return ("points %d, leaked %d, wrong %d, hung %d"):format(s.points, s.leaked, s.wrong, s.hung)
end

for task in (setting("TASKS", ALL_TASKS)):gmatch("[^,]+") do
  local plain
  t.test(task .. " undisturbed", function()
    plain = kinds.undisturbed(rig, task)
    t.ok(plain.requests > 0, ("%d requests, then %s"):format(plain.requests,
      sweep.text(plain.inventory)))
  end)
  for kind in (setting("T", ALL_KINDS)):gmatch("[^,]+") do
    t.test(("%s of %s"):format(kind, task), function()
      local s = kinds.run(rig, kind, task, chosen(wanted(kinds.points(kind, plain))), plain, t.diag)
      for class, n in pairs(s) do
        total[class] = total[class] + n
      end
      t.is({ s.leaked, s.wrong, s.hung }, { 0, 0, 0 }, sum_text(s))
    end)
  end
end

t.diag("%s", sum_text(total))
rig:close()
return t.done()
