-- `run --resume` with real instances: a machine that was kept, or left by kill -9,
-- goes on where it was; one that is lost is replaced and its steps run again.
-- Needs root and the base image.
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local t = require "hg.tap"

local env = dofile "tests/lib/local_env.lua"
env.need()
local state = env.state()
local dir = t.tmpdir()
local client = require "localcloud.client"

-- Two steps on a machine that can be told apart afterwards, and one that fails or
-- waits until a file is there.
local file = dir .. "/staged.lua"
fs.write(file, ([[
local hg, fs = require "hg", require "hgauto.fs"
return hg.task { args = { hg.arg.flag { name = "hang" } }, run = function(ctx, args)
  local m <close> = ctx:step("machine", hg.machines.linux, { allow_cidr = { "127.0.0.1/32" },
    max_age = 600 })
  ctx:step("bootstrap", hg.linux.bootstrap, m, { packages = {} })
  ctx:step("one", m.exec, m, "echo one >> steps; id -un >> steps")
  ctx:step("two", function()
    if args.hang and not fs.exists "%s/go" then
      print "hanging"
      m:exec "sleep 60"
    end
    m:exec "echo two >> steps"
    assert(fs.exists "%s/go", "not yet")
  end)
  local text = ctx:step("three", m.exec, m, "cat steps").out
  fs.write("%s/result", text)
  ctx:step("terminate", m.close, m)
end }
]]):format(dir, dir, dir))

local function record(id)
  return json.decode(fs.read(("%s/runs/%s/run.json"):format(state, id)))
end

local function newest()
  local best
  for _, id in ipairs(fs.list(state .. "/runs")) do
    local r = record(id)
    best = (not best or r.started > best.started) and r or best
  end
  return best
end

local function forget(name)
  if fs.exists(dir .. "/" .. name) then
    fs.remove(dir .. "/" .. name)
  end
end

local function requests(from)
  local list, n = {}, 0
  for line in fs.read(state .. "/local/requests.jsonl"):gmatch "[^\n]+" do
    n = n + 1
    if n > from then
      list[#list + 1] = json.decode(line).action
    end
  end
  return list, n
end

t.test("a kept machine goes on; what was done is not done again", function()
  t.is(env.run(state, { "run", "--local", "--on-error", "keep", file }).code, 1, "it fails in two")
  local old = newest()
  t.is(#env.running(state), 1, "its machine is kept")
  local _, sent = requests(0)
  fs.write(dir .. "/go", "")
  local r = env.run(state, { "run", "--resume", "last" })
  t.is(r.code, 0, "resumed: " .. r.err)
  t.is(fs.read(dir .. "/result"), "one\nhg\ntwo\ntwo\n",
    "step one ran once, as user hg; two ran again")
  t.is(newest().machines[1].id, old.machines[1].id, "on the same machine")
  t.is(newest().steps, { total = 6, ok = 6, failed = 0 }, "all steps count")
  for _, action in ipairs((requests(sent))) do
    t.ok(action == "TerminateInstances" or action:find "^Describe" or action:find "^GetCaller",
      action .. " was sent")
  end
  t.ok(env.all_end(state), "nothing is left")
  t.is(env.run(state, { "state", "ledger", "check" }).out:match "(%d+) open", "2",
    "but the key pair and the group")
end)

t.test("after kill -9 the machine goes on, too", function()
  forget "go"
  local p <close> = env.start(state, { "run", "--local", file, "--hang" }, { HGAUTO_GUARD = "0" })
  t.ok(p:reaches "hanging", "it hangs in two")
  p.p:kill "KILL"
  p:ends()
  local old = newest()
  fs.write(dir .. "/go", "")
  local r = env.run(state, { "run", "--resume", old.run })
  t.is(r.code, 0, "resumed: " .. r.err)
  t.is(fs.read(dir .. "/result"), "one\nhg\ntwo\n", "step one ran once")
  t.is(newest().machines[1].id, old.machines[1].id, "on the same machine")
  t.ok(env.all_end(state), "nothing is left")
end)

t.test("a lost machine is replaced, its steps run again", function()
  forget "go"
  env.run(state, { "run", "--local", "--on-error", "keep", file })
  local old = newest()
  t.is(env.run(state, { "gc", "--local", old.run }).code, 0, "its machine is removed")
  fs.write(dir .. "/go", "")
  local r = env.run(state, { "run", "--resume", old.run })
  t.is(r.code, 0, "resumed: " .. r.err)
  t.is(fs.read(dir .. "/result"), "one\nhg\ntwo\n", "all of it ran on the new one")
  t.ok(newest().machines[1].id ~= old.machines[1].id, "another machine")
  t.ok(env.all_end(state), "nothing is left")
end)

t.test("two who resume the same run: one does", function()
  forget "go"
  env.run(state, { "run", "--local", "--on-error", "keep", file })
  local old = newest()
  fs.write(dir .. "/go", "")
  local lock = require("hgauto.state").open(state, {}):lock_run(old.run)
  local r = env.run(state, { "run", "--resume", old.run })
  t.is(r.code, 2, "refused while somebody else has it")
  lock:close()
  t.is(env.run(state, { "run", "--resume", old.run }).code, 0, "then it goes")
  t.ok(env.all_end(state), "nothing is left")
end)

client.stop { state = state }
return t.done()
