-- Several at once: tasks in one state directory, hosts with their own in one
-- account.  Nobody touches what another's live run uses.
local t = require "hg.tap"
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local sweep = dofile "tests/lib/sweep.lua"

local rig <close> = sweep.new(t.tmpdir())
local files = t.tmpdir()
local hold = fs.realpath "tests/data/hold_machine.lua"
local holds = 0

local function text_of(p)
  local parts = {}
  for bytes in function() return (p:read()) end do
    parts[#parts + 1] = bytes
  end
  return p:wait().code, table.concat(parts)
end

-- Runs tasks at once; their exit codes and words, each in a state directory.
local function together(list)
  return async.map(list, function(job)
    local p <close> = rig:start(job[1], job[2])
    local code, text = text_of(p)
    return { code = code, text = text }
  end)
end

local function all_end_well(results)
  for i, r in ipairs(results) do
    if not t.is(r.code, 0, ("task %d: exit 0"):format(i)) then
      t.diag("%s", r.text)
    end
  end
end

local function after(what, want)
  t.ok(rig:no_ephemerals(), "no machine is left")
  t.is(sweep.text(rig:inventory()), want, what)
end

t.test("two tasks in one state directory, gc in a loop beside them", function()
  local state, stop = rig:state(), false
  local collected = 0
  local beside = async.spawn(function()
    while not stop do
      local p <close> = rig:start(state, { "gc" })
      local code, text = text_of(p)
      collected = collected + 1
      if code ~= 0 or not text:find("nothing to remove", 1, true) then
        return ("gc ends with %s: %s"):format(code, text)
      end
    end
  end)
  local results = together { { state, sweep.words "build-linux" },
    { state, sweep.words "run-tests-linux" }, { state, sweep.words "build-linux" } }
  stop = true
  t.is(beside:join(), nil, ("gc finds nothing to do, %d times"):format(collected))
  all_end_well(results)
  after("one key pair, one group", "1 group, 1 key")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
end)

t.test("the same image twice at once", function()
  local state = rig:state()
  local words = sweep.words "bootstrap-linux-dev"
  local results = together { { state, words }, { state, words } }
  all_end_well(results)
  local said = results[1].text .. results[2].text
  t.ok(said:find("ami%-%x+ built ") and said:find("ami%-%x+ reused"),
    "one builds, the other waits for it")
  after("one image", "1 image, 1 snapshot, 1 group, 1 key")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
end)

-- How often something was asked for since the last start.
local function asked(action)
  local n = 0
  for i = 1, rig.n do
    n = n + (rig.journal[i].action == action and 1 or 0)
  end
  return n
end

t.test("the same image from two hosts at once", function()
  local a, b = rig:state(), rig:state()
  local words = sweep.words "bootstrap-linux-dev"
  -- On a busy machine one would be done before the other begins, and nothing tested.
  rig.refuse = function(entry)
    if entry.action == "CreateImage" then
      t.eventually(function() return asked "ImportKeyPair" == 2 end, 60)
    end
  end
  local results = together { { a, words }, { b, words } }
  rig.refuse = nil
  all_end_well(results)
  local ids = {}
  for _, r in ipairs(results) do
    ids[#ids + 1] = r.text:match("debian13 (ami%-%x+)")
  end
  t.is(ids[1], ids[2], "both have the same")
  after("one image, a key pair and a group each", "1 image, 1 snapshot, 2 group, 2 key")
  for _, state in ipairs { a, b } do
    t.is(rig:run(state, { "purge", "--yes" }).code, 0, "purge")
  end
  t.is(sweep.text(rig:inventory()), "nothing", "nothing is left of both")
end)

-- A live run of a state directory that holds a machine; go() lets it end.
local function holder(state)
  holds = holds + 1
  local file = ("%s/go%d"):format(files, holds)
  local p = rig:start(state, { "run", hold, "--file", file })
  t.ok(t.eventually(function()
    return fs.exists(file .. ".machine")
  end, 30), "a run holds a machine")
  return p, function()
    fs.write(file, "")
    return text_of(p)
  end
end

t.test("what another host does leaves a live run's machine alone", function()
  local a, b = rig:state(), rig:state()
  local p <close>, go = holder(a)
  for _, words in ipairs { { "gc" }, { "gc", "--by-tag" }, { "terminate-ec2-instances" },
    sweep.words "build-linux", { "purge-ec2-resources" }, { "purge", "--yes" },
    { "purge", "--by-tag", "--yes" } } do
    t.is(rig:run(b, words).code, 0, table.concat(words, " ") .. " of the other")
    local n = rig:inventory()
    t.is({ n.key >= 1, n.group >= 1 }, { true, true }, "key pair and group are there")
    t.is(n.instance >= 1, true, "and the machine")
  end
  local code, text = go()
  t.is(code, 0, "the run goes on and ends well")
  t.like(text, "still there", "on its machine")
  t.is(rig:run(a, { "purge", "--yes" }).code, 0, "purge of its own")
  t.is(sweep.text(rig:inventory()), "nothing", "nothing is left")
  local _ = p
end)

t.test("the same from the same state directory", function()
  local state = rig:state()
  local p <close>, go = holder(state)
  for _, words in ipairs { { "gc" }, { "gc", "--by-tag" }, { "terminate-ec2-instances" } } do
    t.is(rig:run(state, words).code, 0, table.concat(words, " ") .. ": exit 0")
    t.is(rig:inventory().instance, 1, "the machine stays")
  end
  for _, words in ipairs { { "purge-ec2-resources" }, { "purge", "--yes" } } do
    local r = rig:run(state, words)
    t.is(r.code, 1, table.concat(words, " ") .. " is refused")
    t.like(r.text, "run %d+%-%d+%-%w+ is alive; nothing is purged", "and says why")
  end
  t.is(sweep.text(rig:inventory()), "1 instance, 1 volume, 1 group, 1 key", "all is there")
  t.is((go()), 0, "the run ends well")
  t.is(rig:run(state, { "purge", "--yes" }).code, 0, "then purge works")
  local _ = p
end)

t.test("a dead run of another host is that host's", function()
  local a, b = rig:state(), rig:state()
  rig:run_cut(a, { "run", hold, "--file", files .. "/never" }, { action = "RunInstances",
    when = "sent", signal = "KILL" })
  for _, words in ipairs { { "gc" }, { "gc", "--by-tag" }, { "terminate-ec2-instances" },
    { "purge", "--yes" } } do
    t.is(rig:run(b, words).code, 0, table.concat(words, " ") .. " of the other")
    t.is(rig:inventory().instance, 1, "its machine has not reached its end and stays")
  end
  local all = rig:run(b, { "purge", "--by-tag", "--all-states", "--yes" })
  t.is(all.code, 0, "but with --all-states")
  after("everybody's goes", "nothing")
  t.is(rig:run(a, { "gc" }).code, 0, "and the first host's gc finds that")
end)

rig:close()
return t.done()
