-- The disk fails, is full, or the process dies at a write of the ledger, in the
-- middle of a task: no creating request leaves without its record, the ledger
-- opens again, nothing is left in the end.
--
-- FAULTS=all tries every write instead of a few.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local kinds = dofile "tests/lib/sweep_kinds.lua"
local sweep = kinds.sweep

local TASK = "build-linux"
local library = sweep.program:match("^(.*)/[^/]+$") .. "/servers/failio.so"
if not fs.exists(library) then
  t.skip("failio.so is not built (make tests-build)")
end

local CREATES = { RunInstances = true, CreateSecurityGroup = true, ImportKeyPair = true }
local rig <close> = sweep.new(t.tmpdir())

local function environment(n, how, count)
  return { LD_PRELOAD = library, HGAUTO_FAILIO = ("/ledger.:%d:%s"):format(n, how),
    HGAUTO_FAILIO_COUNT = count,
    -- AddressSanitizer wants to be the first library of all; here it is not.
    ASAN_OPTIONS = "verify_asan_link_order=0" }
end

-- How many calls a whole task makes; those of the process itself come last.
local function calls()
  local file, state = rig.dir .. "/count", rig:state()
  local r = rig:run(state, sweep.words(TASK), environment(0, "eio", file))
  t.is(r.code, 0, "undisturbed")
  local most = 0
  for n in fs.read(file):gmatch "%d+" do
    most = math.max(most, tonumber(n))
  end
  return most, state
end

-- The ids of creations that left, as their tags or token say.
local function asked_for()
  local ops = {}
  for i = 1, rig.n do
    local entry = rig.journal[i]
    if CREATES[entry.action] then
      ops[#ops + 1] = entry.body:match("hgauto%%3Aop&[^&]*Value=(%x+)") or
        entry.body:match("Value=(" .. ("%x"):rep(32) .. ")")
    end
  end
  return ops
end

local function recorded(state)
  local st = require("hgauto.state").open(state, {})
  local led = st:ledger()
  local seen = {}
  for _, row in ipairs(led:list {}) do
    seen[row.op] = true
  end
  led:close()
  st:close()
  return seen
end

-- A creation that the ledger does not know, or nil.
local function unrecorded(asked, rows)
  for _, op in ipairs(asked) do
    if not rows[op] then
      return op
    end
  end
end

-- One point: what is wrong with it, or nil.
local function point(n, how)
  local state = rig:state()
  local r = rig:run(state, sweep.words(TASK), environment(n, how))
  local asked = asked_for()
  if r.hung then
    return "hangs: " .. r.text
  elseif how == "kill" and r.signal ~= 9 then
    return ("ends with %s instead of being killed"):format(tostring(r.signal or r.code))
  end
  local ok, rows = pcall(recorded, state)
  if not ok then
    return "the ledger does not open: " .. tostring(rows)
  end
  if unrecorded(asked, rows) then
    return "a request left without its record: " .. unrecorded(asked, rows)
  end
  local g = rig:run(state, { "gc" })
  if g.code ~= 0 then
    return "gc: " .. g.text
  end
  local calm, left = rig:no_ephemerals()
  if not calm then
    return "after gc " .. left
  end
  g = rig:run(state, { "purge", "--yes" })
  if g.code ~= 0 or sweep.text(rig:inventory()) ~= "nothing" then
    local text = sweep.text(rig:inventory())
    rig:wipe()
    return ("after purge (%s) %s: %s"):format(tostring(g.code), text, g.text)
  end
end

local all, first = calls()
t.ok(all > 20, ("%d writes, syncs and the like"):format(all))
t.is(#asked_for(), 3, "the undisturbed task asks for three things")
t.is(unrecorded(asked_for(), recorded(first)), nil, "its ledger knows them")
t.is(unrecorded(asked_for(), recorded(rig:state())), asked_for()[1], "another does not")
rig:wipe()

for _, how in ipairs { "kill", "eio", "enospc" } do
  t.test(how, function()
    local step = host.getenv "FAULTS" == "all" and 1 or all // 2
    local points, wrong = 0, 0
    for n = step == 1 and 1 or 3 + #how, all, step do
      local what = point(n, how)
      points = points + 1
      if what then
        wrong = wrong + 1
        t.diag("%s at call %d: %s", how, n, what)
      end
    end
    t.is(wrong, 0, ("points %d, wrong %d"):format(points, wrong))
  end)
end

rig:close()
return t.done()
