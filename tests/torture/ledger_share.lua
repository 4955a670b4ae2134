--- T=share: many processes in one state directory at once.
--
-- Runs that each make and end a machine, with a checkpoint after each commit; the
-- same image twice; a dead run resumed twice.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local t = require "hg.tap"
local sweep = dofile "tests/lib/sweep.lua"

-- Processes at once, runs of each; images that two make; runs that two resume.
local SIZES = { quick = { 3, 2, 0, 1 }, ci = { 4, 20, 1, 2 }, full = { 4, 50, 5, 10 } }

local function ends(p)
  local parts = {}
  for bytes in function() return (p:read()) end do
    parts[#parts + 1] = bytes
  end
  return p:wait().code, table.concat(parts)
end

local function run(rig, state, words, env)
  local p <close> = rig:start(state, words, env)
  return ends(p)
end

local function two(rig, state, words)
  return table.unpack(async.map({ 1, 2 }, function()
    local code, text = run(rig, state, words)
    return { code = code, text = text }
  end))
end

local function many_runs(rig, lanes, each)
  local state, go = rig:state(), rig.dir .. "/go"
  fs.write(go, "")
  local words = { "run", fs.realpath "tests/data/hold_machine.lua", "--file", go }
  local list = {}
  for i = 1, lanes do
    list[i] = i
  end
  local failed = 0
  async.map(list, function()
    for _ = 1, each do
      local code, text = run(rig, state, words, { HGAUTO_LEDGER_WAL = "1" })
      if code ~= 0 then
        failed = failed + 1
        t.diag("exit %s: %s", tostring(code), text)
      end
    end
  end)
  t.is(failed, 0, ("%d processes at once, %d runs each: all end well"):format(lanes, each))
  local machines, open = 0, 0
  local r = rig:run(state, { "state", "ledger", "dump", "-o", "json" })
  for _, row in pairs(json.decode(r.text)) do
    if row.kind == "instance" then
      machines = machines + 1
      open = open + (row.state == "gone" and 0 or 1)
    end
  end
  t.is({ machines, open }, { lanes * each, 0 }, "each machine has its row and is gone")
  local check = rig:run(state, { "state", "ledger", "check" })
  t.is(check.code, 0, "the ledger is sound: " .. check.text:gsub("\n.*", ""))
  t.is(table.concat(fs.list(state), " "):match "ledger%.bad%S*", nil, "nothing was set aside")
  t.is((select(2, rig:no_ephemerals())), "1 group, 1 key", "one key pair and group for all")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
end

local function same_image(rig)
  local state = rig:state()
  local a, b = two(rig, state, sweep.words "bootstrap-linux-dev")
  t.is({ a.code, b.code }, { 0, 0 }, "the same image twice at once")
  rig:no_ephemerals()
  t.is(rig:inventory().image, 1, "is made once")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
end

-- A machine, a step that waits for a file, one that takes a while.
local TASK = [[
local hg, fs = require "hg", require "hgauto.fs"
return hg.task { args = { hg.arg.string { name = "go" } }, run = function(ctx, args)
  local m <close> = ctx:step("machine", hg.machines.linux, { allow_cidr = { "127.0.0.1/32" } })
  ctx:step("hang", function()
    fs.write(args.go .. ".there", "")
    hg.wait { what = "go", every = 0.05, timeout = 60, poll = function()
      return fs.exists(args.go)
    end }
  end)
  ctx:step("while", require("hgauto.async").sleep, 2)
  ctx:step("terminate", m.close, m)
end }
]]

local function resumed_twice(rig)
  local state, file = rig:state(), rig.dir .. "/resumed.lua"
  local go = state .. ".go"
  fs.write(file, TASK)
  local p <close> = rig:start(state, { "run", file, "--go", go })
  t.ok(t.eventually(function() return fs.exists(go .. ".there") end, 30), "a run has a machine")
  p:kill "KILL"
  p:wait()
  fs.write(go, "")
  local id = fs.list(state .. "/runs")[1]
  local a, b = two(rig, state, { "run", "--resume", id })
  local good, other = a.code == 0 and a or b, a.code == 0 and b or a
  if not t.is({ good.code, other.code }, { 0, 2 }, "resumed twice at once: one goes on") then
    t.diag("%s\n%s", a.text, b.text)
  end
  t.like(good.text, "i%-%x+ of run " .. id:gsub("%-", "%%-") .. " goes on", "with its machine")
  t.like(other.text, "%-%-resume: run %S+ is alive", "the other says why not")
  local launched = 0
  for i = 1, rig.n do
    launched = launched + (rig.journal[i].action == "RunInstances" and 1 or 0)
  end
  t.is(launched, 0, "no other machine was made")
  t.ok(rig:no_ephemerals(), "and it is gone")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
end

--- @param o table level="quick"|"ci"|"full", seed=, dir=
return function(o)
  local lanes, each, images, resumes = table.unpack(SIZES[o.level])
  local rig <close> = sweep.new(o.dir)
  many_runs(rig, lanes, each)
  for _ = 1, images do
    same_image(rig)
  end
  for _ = 1, resumes do
    resumed_twice(rig)
  end
  rig:close()
end
