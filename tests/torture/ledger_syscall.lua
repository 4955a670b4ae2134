--- T=syscall: the disk fails, is full, or the process dies at a call on a file of
--- the state directory, in the middle of a task.
--
-- No creating request leaves without its record, nor any after the ledger failed;
-- the ledger opens again; who fails says which file; nothing is left in the end.
local fs = require "hgauto.fs"
local t = require "hg.tap"
local sweep = dofile "tests/lib/sweep.lua"

local TASK = "build-linux"
local CREATES = { RunInstances = true, CreateSecurityGroup = true, ImportKeyPair = true }

-- Every how-manieth call.
local STRIDES = { quick = 60, ci = 7, full = 1 }

local library = sweep.program:match("^(.*)/[^/]+$") .. "/servers/failio.so"

local function environment(state, n, how, more)
  local env = { LD_PRELOAD = library, HGAUTO_FAILIO = ("%s/:%d:%s"):format(state, n, how),
    -- AddressSanitizer wants to be the first library of all; here it is not.
    ASAN_OPTIONS = "verify_asan_link_order=0" }
  for k, v in pairs(more or {}) do
    env[k] = v
  end
  return env
end

-- How many calls a whole task makes; those of the process itself are the most.
local function calls(rig)
  local file, state = rig.dir .. "/count", rig:state()
  local r = rig:run(state, sweep.words(TASK),
    environment(state, 0, "eio", { HGAUTO_FAILIO_COUNT = file }))
  t.is(r.code, 0, "undisturbed")
  local most = 0
  for n in fs.read(file):gmatch "%d+" do
    most = math.max(most, tonumber(n))
  end
  return most, state
end

-- The ids of creations that left, as their tags or token say; whether one left
-- after the failure.
local function asked_for(rig)
  local ops, late = {}, nil
  for i = 1, rig.n do
    local entry = rig.journal[i]
    if CREATES[entry.action] then
      ops[#ops + 1] = entry.body:match("hgauto%%3Aop&[^&]*Value=(%x+)") or
        entry.body:match("Value=(" .. ("%x"):rep(32) .. ")")
      late = late or entry.after_failure and entry.action
    end
  end
  return ops, late
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

-- What a run did with a failure, or nil: it ends well and has done all, or with an
-- error that tells the file.  late: a creation left afterwards.
local function judge_end(rig, state, r, how, failed, late)
  -- Files are written beside their names.
  local base = failed and failed:match "[^/]*$":gsub("^%.(.*)%.%x+$", "%1")
  if r.hung then
    return "hangs: " .. r.text
  elseif how == "kill" then
    return r.signal ~= 9 and ("ends with %s instead of being killed"):format(
      tostring(r.signal or r.code)) or nil
  elseif not r.code then
    return "is killed: " .. tostring(r.signal)
  elseif r.code == 0 then
    rig:no_ephemerals()
    local have = sweep.text(rig:inventory())
    return have ~= "1 group, 1 key" and "success with " .. have or nil
  elseif failed and not r.text:find(base:match "^ledger%.db" or base, 1, true)
    -- A full disk stays so: another file may be the last that is told about.
    and not (how == "enospc" and r.text:find(state .. "/", 1, true)) then
    return ("exit %d does not name %s: %s"):format(r.code, failed, r.text)
  elseif late and failed:find("/ledger.db", 1, true) then
    return ("%s left after %s had failed"):format(late, failed)
  end
end

-- One point: what is wrong with it, or nil.
local function point(rig, n, how)
  local state = rig:state()
  local mark = state .. ".failed"
  rig.refuse = function(entry)
    entry.after_failure = fs.exists(mark)
  end
  local r = rig:run(state, sweep.words(TASK),
    environment(state, n, how, { HGAUTO_FAILIO_MARK = mark }))
  rig.refuse = nil
  local asked, late = asked_for(rig)
  local failed = fs.exists(mark) and fs.read(mark) or nil
  local wrong = judge_end(rig, state, r, how, failed, late)
  if wrong then
    return wrong
  end
  local ok, rows = pcall(recorded, state)
  if not ok and asked[1] then
    return "the ledger does not open: " .. tostring(rows)
  elseif ok and unrecorded(asked, rows) then
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
  rig:no_ephemerals()
  if g.code ~= 0 or sweep.text(rig:inventory()) ~= "nothing" then
    return ("after purge (%s) %s: %s"):format(tostring(g.code), sweep.text(rig:inventory()), g.text)
  end
end

--- @param o table level="quick"|"ci"|"full", seed=, dir=, how=
return function(o)
  if not fs.exists(library) then
    t.diag("SKIP: failio.so is not built (make tests-build)")
    return
  end
  local rig <close> = sweep.new(o.dir)
  local all, first = calls(rig)
  t.ok(all > 100, ("%d calls on files of the state directory"):format(all))
  local asked = asked_for(rig)
  t.is(#asked, 3, "the undisturbed task asks for three things")
  t.is(unrecorded(asked, recorded(first)), nil, "its ledger knows them")
  t.is(unrecorded(asked, {}), asked[1], "an empty one does not")
  rig:wipe()
  local stride = STRIDES[o.level]
  for i, how in ipairs { "kill", "eio", "enospc" } do
    local points, wrong = 0, 0
    for n = 1 + (o.seed * 7 + i * 3) % stride, all, stride do
      local what = point(rig, n, how)
      points = points + 1
      if what then
        wrong = wrong + 1
        t.diag("%s at call %d: %s", how, n, what)
        rig:wipe()
      end
    end
    t.is(wrong, 0, ("%s: points %d, wrong %d"):format(how, points, wrong))
  end
  rig:close()
end
