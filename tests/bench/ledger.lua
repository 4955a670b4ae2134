-- API calls of a collection: 100 machines of a dead run, known and, after the
-- ledger was made anew, undecided.  The bar is for all calls: nothing is waited
-- for between them.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local sweep = dofile "tests/lib/sweep.lua"

local MACHINES, BAR = 100, 12
local rig <close> = sweep.new(t.tmpdir())
local task = fs.realpath "tests/data/many_machines.lua"

-- A state directory whose dead run left them.
local function left_behind()
  local state = rig:state()
  local file = state .. ".go"
  local p <close> = rig:start(state, { "run", task, "--file", file, "--count",
    tostring(MACHINES) })
  if not t.eventually(function() return fs.exists(file .. ".machines") end, 60) then
    p:kill "KILL"
    error("the machines do not come: " .. tostring(p:read()), 0)
  end
  p:kill "KILL"
  p:wait()
  return state
end

local function collect(state, what)
  t.is(rig:inventory().instance, MACHINES, what)
  local r = rig:run(state, { "gc" })
  t.is(r.code, 0, "gc")
  t.ok(rig:no_ephemerals(), "nothing is left")
  local n = {}
  for i = 1, r.requests do
    local action = rig.journal[i].action
    n[action] = (n[action] or 0) + 1
  end
  local parts = {}
  for action, count in pairs(n) do
    parts[#parts + 1] = ("%d %s"):format(count, action)
  end
  table.sort(parts)
  t.ok(r.requests <= BAR, ("gc of %s: %d API calls (bar %d): %s"):format(what, r.requests, BAR,
    table.concat(parts, ", ")))
end

collect(left_behind(), MACHINES .. " dead machines")
local state = left_behind()
t.is(rig:run(state, { "state", "ledger", "rebuild" }).code, 0, "the ledger is made anew")
collect(state, MACHINES .. " undecided ones")
rig:close()
return t.done()
