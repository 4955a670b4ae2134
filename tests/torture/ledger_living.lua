--- T=living: collections while a run lives: from its state directory, by tag from
--- another one, with the credentials of another account.
local fs = require "hgauto.fs"
local t = require "hg.tap"
local sweep = dofile "tests/lib/sweep.lua"

-- Collections of each sort.
local ROUNDS = { quick = 1, ci = 10, full = 100 }

-- What a collection may ask for when there is nothing to collect.
local ASKS = { GetCallerIdentity = true }

local function only_asked(rig)
  for i = 1, rig.n do
    local action = rig.journal[i].action
    if not ASKS[action] and not action:find "^Describe" and not action:find "^List"
      and not action:find "^Get" then
      return action
    end
  end
end

local function rows(rig, state)
  return rig:run(state, { "state", "ledger", "dump", "-o", "json" }).text
end

local function collect(rig, state, words, what)
  local before = sweep.text(rig:inventory())
  local r = rig:run(state, words)
  local did = only_asked(rig)
  if did or r.code ~= 0 or sweep.text(rig:inventory()) ~= before then
    t.diag("%s: exit %s, %s, %s: %s", what, tostring(r.code or r.signal), did or "only asked",
      sweep.text(rig:inventory()), r.text)
    return 1
  end
  return 0
end

-- With the credentials of another account nothing is decided, of the living and
-- of a dead run; what is wrong, or nil.
local function wrong_account(rig, state, before)
  rig.edit = function(body)
    return (body:gsub("<Account>%d+</Account>", "<Account>999999999999</Account>"))
  end
  local r = rig:run(state, { "gc" })
  rig.edit = nil
  if r.code ~= 3 or not r.text:find("credentials are for 999999999999", 1, true) then
    return ("exit %s: %s"):format(tostring(r.code or r.signal), r.text)
  elseif only_asked(rig) then
    return only_asked(rig)
  end
  local after = rows(rig, state)
  return after ~= before and after or nil
end

local function die_with_machine(rig, state)
  rig:run_cut(state, { "run", fs.realpath "tests/data/hold_machine.lua", "--file",
    rig.dir .. "/never" }, { action = "RunInstances", when = "sent", signal = "KILL" })
end

--- @param o table level="quick"|"ci"|"full", seed=, dir=
return function(o)
  local rounds = ROUNDS[o.level]
  local rig <close> = sweep.new(o.dir)
  local state, other = rig:state(), rig:state()
  local file = rig.dir .. "/go"
  local p <close> = rig:start(state, { "run", fs.realpath "tests/data/hold_machine.lua", "--file",
    file })
  t.ok(t.eventually(function() return fs.exists(file .. ".machine") end, 30), "a run lives")
  local before, touched = rows(rig, state), 0
  for _ = 1, rounds do
    touched = touched + collect(rig, state, { "gc" }, "gc")
    touched = touched + collect(rig, other, { "gc", "--by-tag" }, "gc --by-tag of another")
  end
  t.is(touched, 0, ("%d collections beside it and by tag: nothing of it is touched"):format(
    2 * rounds))
  t.is(rows(rig, state), before, "its rows are as before")
  die_with_machine(rig, state)
  before = rows(rig, state)
  local wrong
  for _ = 1, rounds do
    wrong = wrong or wrong_account(rig, state, before)
  end
  t.is(wrong, nil, ("%d with another account's credentials: no row is changed"):format(rounds))
  t.is(rig:inventory().instance, 2, "both machines are there")
  t.is(rig:run(state, { "gc" }).code, 0, "with the right ones")
  t.ok(t.eventually(function() return rig:inventory().instance == 1 end, 10),
    "that of the dead run goes")
  fs.write(file, "")
  local text = {}
  for bytes in function() return (p:read()) end do
    text[#text + 1] = bytes
  end
  t.is(p:wait().code, 0, "it ends well")
  t.like(table.concat(text), "still there", "on its machine")
  t.ok(rig:no_ephemerals(), "which then is gone")
  rig:close()
end
