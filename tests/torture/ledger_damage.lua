--- T=damage: files of the ledger changed at random; see servers/ledger_damage.
--
-- Many of them opened (LEDGER_DAMAGE=path of the program: with AddressSanitizer),
-- some collected: what a live run uses stays, what a dead one left goes.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local sweep = dofile "tests/lib/sweep.lua"

-- Mutations; collections.
local SIZES = { quick = { 200, 2 }, ci = { 2000, 10 }, full = { 10000, 60 } }

local beside = sweep.program:match("^(.*)/[^/]+$") .. "/servers/ledger_damage"

local function many(tool, o, count)
  local shm = "/dev/shm"
  local work = fs.exists(shm) and fs.tmpdir(shm, "hgauto-damage-") or o.dir .. "/damage"
  local _d <close> = require("hgauto.async").defer(function()
    if fs.exists(work) then
      fs.remove(work, { tree = true })
    end
  end)
  local r = proc.run({ tool, "many", work, tostring(count), tostring(o.seed) },
    { timeout = 1800, check = false })
  local line = r.out:match "(mutations %d+[^\n]*)"
  if not t.is({ r.code, line and line:match "failures (%d+)" }, { 0, "0" },
    ("%s%s"):format(line or "no result", tool:find "asan" and ", AddressSanitizer" or "")) then
    t.diag("%s%s", r.out, r.err)
  end
end

-- A live run's machine and a dead one's, then damage, then gc.  What is wrong, or nil.
local function collected(rig, state, seed)
  local hold, go = fs.realpath "tests/data/hold_machine.lua", state .. ".go"
  local p <close> = rig:start(state, { "run", hold, "--file", go })
  if not t.eventually(function() return fs.exists(go .. ".machine") end, 30) then
    return "no run lives"
  end
  local id = fs.read(go .. ".machine")
  rig:run_cut(state, { "run", hold, "--file", rig.dir .. "/never" },
    { action = "RunInstances", when = "sent", signal = "KILL" })
  local what = proc.run({ beside, "one", state, tostring(seed) }, { timeout = 20 }).out
  local g = rig:run(state, { "gc" })
  if g.code ~= 0 and g.code ~= 1 and g.code ~= 6 then
    return ("%s: gc ends with %s: %s"):format(what, tostring(g.code or g.signal), g.text)
  end
  local there = rig:run(state, { "state", "ledger", "dump", "-o", "json" })
  if there.code ~= 0 then
    return ("%s: dump: %s"):format(what, there.text)
  elseif rig:inventory().instance < 1 then
    return what .. ": the machine of the live run is gone: " .. id
  end
  fs.write(go, "")
  local text = {}
  for bytes in function() return (p:read()) end do
    text[#text + 1] = bytes
  end
  -- It may have to stop, but ends what it has made.
  local code = p:wait().code
  if not code or code > 6 then
    return ("%s: the live run ends with %s: %s"):format(what, tostring(code), table.concat(text))
  end
  -- A row that was lost is found by its tag.
  g = rig:run(state, { "purge", "--by-tag", "--yes" })
  rig:no_ephemerals()
  local left = sweep.text(rig:inventory())
  if left ~= "nothing" then
    return ("%s: after purge --by-tag %s: %s"):format(what, left, g.text)
  end
  return nil, code == 0
end

--- @param o table level="quick"|"ci"|"full", seed=, dir=
return function(o)
  local size = SIZES[o.level]
  local given = host.getenv "LEDGER_DAMAGE"
  many(given and given ~= "" and given or beside, o, size[1])
  local rig <close> = sweep.new(o.dir)
  local wrong, went_on = 0, 0
  for i = 1, size[2] do
    local text, well = collected(rig, rig:state(), o.seed * 1000 + i)
    wrong, went_on = wrong + (text and 1 or 0), went_on + (well and 1 or 0)
    if text then
      t.diag("%s", text)
      rig:wipe()
    end
  end
  t.is(wrong, 0, ("%d collections with a damaged ledger beside a live run; %d went on"):format(
    size[2], went_on))
  rig:close()
end
