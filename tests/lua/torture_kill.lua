-- A few points of the sweeps of tests/torture/kill.lua: a killed, interrupted
-- or forgotten run leaves nothing behind.
local t = require "hg.tap"
local kinds = dofile "tests/lib/sweep_kinds.lua"
local sweep = kinds.sweep

local TASK = "build-linux"
local rig <close> = sweep.new(t.tmpdir())
local plain = kinds.undisturbed(rig, TASK)

local function number_of(action)
  for n, a in ipairs(plain.actions) do
    if a == action then
      return n
    end
  end
end

local function points(kind, list)
  for i, at in ipairs(list) do
    list[i] = { math.type(at[1]) and at[1] or number_of(at[1]), at[2] }
  end
  local s = kinds.run({ rig }, kind, TASK, list, plain, t.diag)
  t.is({ s.points, s.leaked, s.wrong, s.hung, s.missed }, { #list, 0, 0, 0, 0 },
    ("%d points, each reached: nothing leaked, wrong, hung"):format(s.points))
end

t.test("the cloud's database is looked at, not our client's word", function()
  local state = rig:state()
  rig:run_cut(state, sweep.words(TASK), { action = "RunInstances", when = "sent",
    signal = "KILL" })
  t.is(rig:inventory().instance, 1, "a killed run leaves its machine")
  t.is(rig:run(state, { "gc" }).code, 0, "gc")
  t.ok(rig:no_ephemerals(), "ends it")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
end)

t.test("kill -9, then gc, the task again, purge", function()
  points("kill", { { "ImportKeyPair", "after" }, { "CreateSecurityGroup", "sent" },
    { "RunInstances", "before" }, { "RunInstances", "after" }, { "RunInstances", "sent" },
    { "TerminateInstances", "after" }, { #plain.remote, "remote" } })
end)

t.test("kill -9 and the state directory is lost", function()
  points("lost", { { "RunInstances", "after" }, { "CreateSecurityGroup", "after" } })
end)

t.test("Ctrl-C at a request: nothing is left without gc", function()
  points("signal", { { "RunInstances", "after" }, { "CreateSecurityGroup", "before" } })
end)

t.test("SIGTERM at a request", function()
  points("term", { { "RunInstances", "sent" } })
end)

t.test("Ctrl-C again while the service is silent: exit 6 when something may be left", function()
  points("press2", { { "RunInstances", "sent" } })
  points("press3", { { "RunInstances", "before" }, { "RunInstances", "sent" } })
end)

t.test("what may happen to a request: got over, or a clear error", function()
  points("fault", { { "RunInstances", "drop-after" }, { "RunInstances", "portal-after" },
    { "RunInstances", "cut" }, { "RunInstances", "redirect" }, { "ImportKeyPair", "500-after" },
    { "CreateSecurityGroup", "duplicate" }, { "AuthorizeSecurityGroupIngress", "denied" },
    { "DescribeInstances", "429" }, { "TerminateInstances", "entities" } })
end)

t.test("an answer is lost, the repeats are refused", function()
  points("pair", { { "ImportKeyPair", "denied" }, { "CreateSecurityGroup", "expired" },
    { "RunInstances", "auth" } })
end)

-- Runs fn while what that action makes is seen late.
local function seen_late(action, how, fn)
  local client = require "localcloud.client"
  client.add_faults { state = rig.cloud_state, rules = { match = { action = action },
    effect = { eventual = how } } }
  local ok, err = pcall(fn, rig:state())
  client.clear_faults { state = rig.cloud_state }
  if not ok then
    error(err, 0)
  end
end

t.test("gc waits for a machine that is known and not visible yet", function()
  seen_late("RunInstances", { seconds = 1.5 }, function(state)
    rig:run_cut(state, sweep.words(TASK), { action = "DescribeInstances", when = "before",
      signal = "KILL" })
    local r = rig:run(state, { "gc" }, { HGAUTO_GC_GRACE = "3" })
    t.is(r.code, 0, "exit 0")
    t.ok(rig:no_ephemerals(), "it is ended")
    rig:run(state, { "purge", "--yes" })
  end)
end)

t.test("purge waits for a group that is known and not visible yet", function()
  seen_late("CreateSecurityGroup", { seconds = 1.5 }, function(state)
    rig:run_cut(state, sweep.words(TASK), { action = "CreateSecurityGroup", when = "sent",
      signal = "KILL" })
    t.is(rig:run(state, { "purge", "--yes" }).code, 0, "exit 0")
    t.is(sweep.text(rig:inventory()), "nothing", "it is gone")
  end)
end)

t.test("a group whose tags are seen late is ours", function()
  seen_late("CreateSecurityGroup", { seconds = 1.5, what = "tags" }, function(state)
    t.is(rig:run(state, sweep.words(TASK)).code, 0, "in the run that makes it")
  end)
  seen_late("CreateSecurityGroup", { seconds = 1.5, what = "tags" }, function(state)
    rig:run_cut(state, sweep.words(TASK), { action = "CreateSecurityGroup", when = "after",
      signal = "KILL" })
    t.is(rig:run(state, sweep.words(TASK)).code, 0, "in the next one, if nobody knows its id")
    rig:run(state, { "purge", "--yes" })
  end)
end)

rig:close()
return t.done()
