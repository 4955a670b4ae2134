-- What a run does at its start about runs that died: it ends what they left,
-- unless somebody else does or the task is about that itself.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local sweep = dofile "tests/lib/sweep.lua"

local rig <close> = sweep.new(t.tmpdir())
local here = fs.realpath "tests/data"
local files = t.tmpdir()

fs.write(files .. "/calm.lua", 'return function() require("hgauto.async").sleep(3) end\n')
fs.write(files .. "/quick.lua", "return function() end\n")

-- A state directory with a machine whose run was killed.
local function abandoned()
  local state = rig:state()
  rig:run_cut(state, { "run", here .. "/hold_machine.lua", "--file", files .. "/never" },
    { action = "RunInstances", when = "sent", signal = "KILL" })
  t.is(rig:inventory().instance, 1, "a killed run leaves its machine")
  return state
end

local function machines()
  local calm = rig:no_ephemerals(0)
  return calm and 0 or rig:inventory().instance
end

t.test("the next run ends what a dead one left, beside its own work", function()
  local r = rig:run(abandoned(), { "run", files .. "/calm.lua" })
  t.is(r.code, 0, "exit 0")
  t.like(r.text, "left something behind: hgauto gc %d+%-", "the dead run is named")
  t.like(r.text, "removed 1 instance that dead runs left", "and what was removed")
  t.ok(rig:no_ephemerals(), "it is gone")
end)

t.test("a run that is over first is not held up", function()
  local state = abandoned()
  local r = rig:run(state, { "run", files .. "/quick.lua" })
  t.is(r.code, 0, "exit 0")
  rig:run(state, { "gc" })
  t.ok(rig:no_ephemerals(), "gc does the rest")
end)

t.test("while somebody else collects, nothing is done", function()
  local state = abandoned()
  do
    local _lock <close> = fs.lock(state .. "/gc.lock", { wait = 0 })
    local r = rig:run(state, { "run", files .. "/calm.lua" })
    t.is(r.code, 0, "exit 0")
    t.is(machines(), 1, "the machine is still there")
  end
  rig:run(state, { "gc" })
end)

t.test("status changes nothing", function()
  local state = abandoned()
  local r = rig:run(state, { "status" })
  t.is({ r.code, machines() }, { 0, 1 }, "the machine is listed and stays")
  t.like(r.text, "instance +i%-%x+", "listed")
  t.is(rig:run(state, { "gc" }).code, 0, "gc")
end)

t.test("a collection that fails is none of the run's business", function()
  local state = abandoned()
  rig.refuse = function(entry)
    return entry.action == "TerminateInstances" and "denied" or nil
  end
  local r = rig:run(state, { "run", files .. "/calm.lua" })
  rig.refuse = nil
  t.is(r.code, 0, "exit 0")
  t.ok(not r.text:find("hgauto: ", 1, true), "no error is shown")
  t.is(rig:run(state, { "gc" }).code, 0, "gc later")
  t.ok(rig:no_ephemerals(), "ends it")
end)

t.test("machines of live runs are left alone", function()
  local state = rig:state()
  local file = files .. "/go"
  local p <close> = rig:start(state, { "run", here .. "/hold_machine.lua", "--file", file })
  t.ok(t.eventually(function()
    return fs.exists(file .. ".machine")
  end, 30), "one holds a machine")
  t.is(rig:run(state, { "run", files .. "/calm.lua" }).code, 0, "another run beside it")
  t.is(machines(), 1, "the machine is still there")
  fs.write(file, "")
  t.is(p:wait().code, 0, "the first run ends well")
end)

t.test("a local cloud that does not run is not started for it", function()
  local client = require "localcloud.client"
  local host, proc = require "hgauto.host", require "hgauto.proc"
  local state = rig:state()
  local env = { HGAUTO_GUARD = "0", HGAUTO_SCRIPTS = host.getenv "HGAUTO_TEST_SOURCE"
    or fs.realpath "tests/torture/stubs" }
  local function run(...)
    return proc.run({ sweep.program, "--state-path", state, ... }, { env = env, check = false,
      stderr = "merge", timeout = 60 })
  end
  run("local", "up", "--api-only", "--listen", "127.0.0.1:0")
  fs.write(files .. "/die.lua", [[return function()
  require("hg").machines.linux { allow_cidr = { "127.0.0.1/32" } }
  require("hgauto.proc").run { "kill", "-9", tostring(require("hgauto.host").pid()) }
end
]])
  run("run", "--local", files .. "/die.lua")
  client.stop { state = state }
  local r = run("run", files .. "/calm.lua")
  t.is(r.code, 0, "a run without --local")
  t.like(r.out, "left something behind", "knows of it")
  t.ok(not client.status { state = state }, "the local cloud stays down")
  -- Its machines ended with it: there is nothing that gc must do.
  t.is(run("gc", "--local").code, 0, "gc starts it and finds them ended")
  client.stop { state = state }
end)

rig:close()
return t.done()
