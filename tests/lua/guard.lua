-- The guard ends what a killed host leaves, with nothing else being run; its
-- secrets come over the pipe alone.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local kinds = dofile "tests/lib/sweep_kinds.lua"
local sweep = kinds.sweep

local TASK = "build-linux"
local GUARDED = { HGAUTO_GUARD = "1" }
local rig <close> = sweep.new(t.tmpdir())

-- Guards of a state directory: {pid, environment, command line}.
local function guards(state)
  local list = {}
  for _, pid in ipairs(fs.list "/proc") do
    if pid:match "^%d+$" then
      local ok, words = pcall(fs.read, "/proc/" .. pid .. "/cmdline")
      if ok and words:find("__guard", 1, true) and words:find(state .. "\0", 1, true) then
        local seen, env = pcall(fs.read, "/proc/" .. pid .. "/environ")
        list[#list + 1] = { pid = pid, words = words, env = seen and env or "" }
      end
    end
  end
  return list
end

local function killed(action, when)
  local state, seen = rig:state(), nil
  rig.refuse = function(entry)
    if entry.action == action then
      -- Its command line is empty for a moment, while its program is loaded.
      t.eventually(function()
        seen = guards(state)
        return #seen > 0
      end, 5)
    end
  end
  rig:run_cut(state, sweep.words(TASK), { action = action, when = when, signal = "KILL" },
    GUARDED)
  rig.refuse = nil
  return state, seen or {}
end

local function left_by(state)
  return require("hgauto.proc").run({ sweep.program, "--state-path", state, "state", "ledger",
    "dump" }, { env = { HGAUTO_SCRIPTS = false } }).out
end

t.test("kill -9: the machine is gone within ten seconds", function()
  for _, at in ipairs { { "RunInstances", "sent" }, { "RunInstances", "after" },
    { "DescribeInstances", "before" } } do
    local state, seen = killed(table.unpack(at))
    t.is(#seen, 1, "one guard watched")
    local secret = rig.cloud.secret_access_key
    t.ok(not seen[1].env:find(secret, 1, true) and seen[1].env:find("HOME=", 1, true),
      "no secret in its environment")
    t.ok(not seen[1].words:find(secret, 1, true), "nor in its command line")
    local calm, left = rig:no_ephemerals(10)
    t.ok(calm, ("%s %s: %s"):format(at[1], at[2], left))
    t.ok(t.eventually(function()
      return left_by(state):find("instance +ephemeral +gone") ~= nil
    end, 10), "the ledger knows")
  end
end)

t.test("a run that ends by itself takes its guard along", function()
  local state = rig:state()
  t.is(rig:run(state, sweep.words(TASK), GUARDED).code, 0, "the task works")
  t.is(#guards(state), 0, "no guard is left")
end)

t.test("a kept machine stays", function()
  local state = rig:state()
  local r = rig:run(state, { fs.realpath "tests/data/keep_machine.lua" }, GUARDED)
  t.is(r.signal, 9, "the host killed itself: " .. r.text)
  require("hgauto.async").sleep(2)
  t.is(rig:inventory().instance, 1, "its kept machine is there")
  rig:run(state, { "purge", "--yes" })
end)

for _, state in ipairs(fs.list(rig.dir)) do
  -- They would look once more; the test is over.
  for _, g in ipairs(guards(rig.dir .. "/" .. state)) do
    require("hgauto.proc").run({ "kill", g.pid }, { check = false })
  end
end
rig:close()
return t.done()
