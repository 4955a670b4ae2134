-- `--plan`: what it lists is what the next run writes; nothing is written, here or there.
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local sweep = dofile "tests/lib/sweep.lua"
local rig <close> = sweep.new(t.tmpdir())

local function is_write(action)
  return not action:find "^Describe" and not action:find "^Get" and not action:find "^List"
end

-- Actions that change something, as they arrived.
local function writes()
  local list = {}
  for n = 1, rig.n do
    if is_write(rig.journal[n].action) then
      list[#list + 1] = rig.journal[n].action
    end
  end
  return list
end

local function planned(text)
  local list = {}
  for action in text:gmatch "\n?[-+~] #%d+ %w+ (%w+)" do
    list[#list + 1] = action
  end
  return list
end

-- Files of a state directory with their contents, but those of the local cloud.
local function contents(state)
  local r = proc.run({ "sh", "-c", 'cd "$1" && find . -type f ! -name "*.lock" ! -name "ledger*"'
    .. ' -exec sha256sum {} + | sort', "sh", state }, {})
  return r.out
end

local function with(words, ...)
  local list = table.move(words, 1, #words, 1, {})
  for _, w in ipairs { ... } do
    list[#list + 1] = w
  end
  return list
end

local function compare(task, state, count)
  local words = sweep.words(task)
  local before = contents(state)
  local r = rig:run(state, with(words, "--plan"))
  t.is(r.code, 0, ("%s is planned: %s"):format(task, r.code == 0 and "" or r.text))
  t.is(writes(), {}, "no write arrives")
  t.is(contents(state), before, "nothing changes in the state directory")
  t.is(rig:run(state, { "state", "ledger", "dump", "-o", "json" }).text:match "intent", nil,
    "nor in the ledger")
  local plan = planned(r.text)
  t.is(rig:run(state, with(words, "--plan", "--detailed-exitcode")).code, count > 0 and 7 or 0,
    "--detailed-exitcode says whether something would change")
  t.is(rig:run(state, words).code, 0, "the next run")
  t.is(writes(), plan, ("writes the same: %s"):format(table.concat(plan, " ")))
  t.is(#plan, count, "that is what was expected")
end

local state = rig:state()
rig:run(state, { "state", "ledger", "check" }) -- makes the directory's identity

for _, case in ipairs { { "bootstrap-linux-dev", 7 }, { "build-linux", 2 }, { "status", 0 },
  { "terminate-ec2-instances", 0 }, { "purge-ec2-resources", 4 } } do
  t.test(case[1], function()
    compare(case[1], state, case[2])
  end)
end

t.test("a machine that a dead run left", function()
  rig:run_cut(state, sweep.words "build-linux", { action = "RunInstances", when = "sent",
    signal = "KILL" })
  local r = rig:run(state, { "terminate-ec2-instances", "--plan" })
  t.like(r.text, "%- #1 ec2 TerminateInstances  InstanceIds=i%-", "would be terminated")
  t.ok(not r.text:find "removed", "and is not said to be")
  t.is(rig:inventory().instance, 1, "it is still there")
  t.is(json.decode(rig:run(state, { "resources", "ls", "-o", "json" }).text)[1] ~= nil, true,
    "and known")
end)

t.test("lanes end where they must, each for itself", function()
  local r = rig:run(state, { "run-tests-linux", "--plan", "--allow-cidr", "127.0.0.1/32",
    "--shards", "2", "--image", "base" })
  t.is(r.code, 0, "planned: " .. (r.code == 0 and "" or r.text))
  t.like(r.text, "\nplan ends here %(1/2%): the next step depends on ‹", "the first")
  t.like(r.text, "\nplan ends here %(2/2%): the next step depends on ‹the wheel", "the second")
  t.is(select(2, r.text:gsub("TerminateInstances", "")), 2, "both end their machines")
  t.like(r.text, "\n2 machines, USD 3.0600/h", "what it costs")
  t.like(r.text, "\nnothing was changed\n", "nothing was changed")
end)

-- ---- tasks of others ----------------------------------------------------------------

local dir = t.tmpdir()

local function task(body)
  fs.write(dir .. "/own.lua", [[
local hg, fs, proc, http = require "hg", require "hgauto.fs", require "hgauto.proc",
  require "hgauto.http"
return function(ctx)
]] .. body .. "\nend\n")
  return rig:run(state, { "run", dir .. "/own.lua", "--plan" }).text
end

t.test("effects of a task's own file are recorded", function()
  local target = dir .. "/made"
  local text = task(([[
    fs.write("%s", "x")
    fs.write(ctx.dir .. "/own", "x")
    assert(fs.read(ctx.dir .. "/own") == "x")
    local r = proc.run { "touch", "%s" }
    assert(not hg.known(r) and not hg.known(r.out .. "x") and hg.known(1))
    assert(proc.run({ "echo", "hi" }, { readonly = true }).out == "hi\n")
    http.request { method = "POST", url = "http://127.0.0.1:1/" }
  ]]):format(target, target))
  t.ok(not fs.exists(target), "no file is made")
  t.like(text, "~ fs.write " .. target:gsub("%p", "%%%0"), "the write is listed")
  t.like(text, "~ proc.run touch ", "the command too")
  t.like(text, "> http.request http://127.0.0.1:1/", "and the request: " .. text)
end)

t.test("an unknown value ends the plan where it is needed", function()
  for what, use in pairs { arithmetic = "n + 1", order = "n < 1", length = "#n", call = "n()",
    loop = "ipairs(n)()", argument = '("x"):rep(n)' } do
    local text = task(([[ local n = proc.run({ "true" }).n
      ctx:step("use", function() local list = {} for _, v in pairs { 1 } do list[v] = %s end
        if "%s" == "loop" then for _ in ipairs(n) do end end end) ]]):format(
      what == "loop" and "1" or use, what))
    t.like(text, what == "argument" and "plan ends here: .*got unknown value"
      or "plan ends here: the next step depends on ‹result of proc.run true.n›", what)
  end
end)

t.test("what is wrong with a request is told", function()
  local text = task [[ require("hgauto.aws").client("ec2"):create_volume { Sise = 1 } ]]
  t.like(text, 'Unknown parameter in input: "Sise"', "an unknown parameter")
end)

rig:close()
return t.done()
