-- events.jsonl, the commands on records, --on-error keep, --max-cost.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local hg = require "hg"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"

local dir = t.tmpdir()
local state = dir .. "/state"
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
fs.mkdir(state, { mode = 448 })
proc.run { program, "local", "up", "--api-only", "--state-path", state }
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)

local function hgauto(...)
  return proc.run({ program, "--state-path", state, ... }, { check = false, timeout = 60,
    stdin = "" })
end

local n = 0
local function task(body)
  n = n + 1
  local file = ("%s/task%d.lua"):format(dir, n)
  fs.write(file, 'local hg, async = require "hg", require "hgauto.async"\n'
    .. "return function(ctx, args)\n" .. body .. "\nend\n")
  return file
end

local function newest()
  local list = fs.list(state .. "/runs")
  local best
  for _, id in ipairs(list) do
    local record = json.decode(fs.read(state .. "/runs/" .. id .. "/run.json"))
    if record.task == "task" .. n then
      best = record
    end
  end
  return best, best and state .. "/runs/" .. best.run
end

local function names(events)
  local out = {}
  for i, e in ipairs(events) do
    out[i] = e.ev
  end
  return table.concat(out, " ")
end

t.test("events tell lanes, steps, calls, artifacts and the end", function()
  local r = hgauto("run", "--local", task [[
    ctx:secret("sesame-open")
    ctx:parallel({ "a" }, function()
      ctx:step("look", function()
        require("hgauto.aws").client("sts"):get_caller_identity {}
      end)
    end)
    ctx:warn("the word is sesame-open")
    require("hgauto.fs").write(ctx.dir .. "/x", "x")
    ctx:artifact(ctx.dir .. "/x")
    pcall(ctx.step, ctx, "bad", function() error "no" end)
  ]])
  t.is(r.code, 0, "exit 0")
  local _, path = newest()
  local events = hg.events.read(path)
  t.is(names(events), "run.start lane.start step.start api step.end lane.end message artifact "
    .. "step.start step.end run.end", "in order")
  local ok = true
  for i, e in ipairs(events) do
    ok = ok and e.seq == i - 1 and e.v == 1 and e.t:match("^%d+%-%d%d%-%d%dT.*Z$") and e.m >= 0
  end
  t.ok(ok, "numbered, dated")
  local api = events[4]
  t.is({ api.service, api.op, api.status, api.attempts, api.lane, api.step },
    { "sts", "GetCallerIdentity", 200, 1, "a", "look" }, "the call, in its lane and step")
  t.is({ events[10].status, events[10].error.kind }, { "failed", "runtime" }, "a failed step")
  t.ok(not fs.read(path .. "/events.jsonl"):find("sesame", 1, true), "secrets are hidden")
  t.is(fs.stat(path .. "/events.jsonl").mode & 63, 0, "private")
  fs.append(path .. "/events.jsonl", '{"v":1,"ev":"to')
  t.is(#hg.events.read(path), #events, "a torn last line is left out")
end)

t.test("a client made at the top of a file goes where the command line says", function()
  n = n + 1
  local file = ("%s/task%d.lua"):format(dir, n)
  fs.write(file, 'local sts = require("hgauto.aws").client "sts"\n'
    .. "return function(ctx) ctx:log(sts:get_caller_identity({}).Account) end\n")
  local r = hgauto("run", "--local", file)
  t.is(r.code, 0, "exit 0")
  t.like(r.err, "123456789012", "the local cloud answered")
end)

t.test("--events - has stdout for itself", function()
  local r = hgauto("run", "--local", "--events", "-", task [[
    require("hgauto.fs").write(ctx.dir .. "/x", "x")
    ctx:artifact(ctx.dir .. "/x")
  ]])
  local all = true
  for line in r.out:gmatch("[^\n]+") do
    all = all and pcall(json.decode, line)
  end
  t.ok(all and r.out:find('"ev":"artifact"', 1, true), "every line is an event")
  t.like(r.err, "/x\n", "results go to stderr")
end)

t.test("runs ls, show, log, rm", function()
  local first = task [[ ctx:step("one", function() ctx:log("first words") end)
    ctx:step("two", function() ctx:log("second words") end) error "and then it failed" ]]
  t.is(hgauto("run", "--local", first).code, 1, "a run that fails")
  local record = newest()
  local ls = hgauto("runs", "ls")
  t.like(ls.out, record.run:gsub("%p", "%%%0") .. "  task%d+ +failed", "it is listed")
  local show = hgauto("runs", "show", "last")
  t.like(show.out, "error +[^\n]*and then it failed", "with its error")
  t.like(show.out, "step +one ok", "and steps")
  local log = hgauto("runs", "log", record.run:sub(1, -1), "two")
  t.like(log.out, "second words", "the log of a step")
  t.ok(not log.out:find("first words", 1, true), "of that step alone")
  t.is(hgauto("runs", "log", "last", "three").code, 2, "an unknown step: exit 2")
  t.is(hgauto("runs", "show", "1999").code, 2, "an unknown run: exit 2")
  t.is(hgauto("runs", "cancel", "last").code, 2, "nothing to cancel: exit 2")
  t.is(hgauto("runs", "rm", record.run).code, 0, "rm")
  t.ok(not fs.exists(state .. "/runs/" .. record.run), "forgets it")
end)

t.test("runs cancel ends a live run, which cleans up", function()
  local p <close> = proc.spawn({ program, "--state-path", state, "run", "--local", task [[
    local _d <close> = async.defer(function() ctx:log("cleaned") end)
    ctx:log("alive") async.sleep(60)
  ]] }, { stderr = "merge" })
  local text = ""
  while not text:find("alive", 1, true) do
    text = text .. assert(p:read())
  end
  t.is(hgauto("runs", "rm", "last").code, 1, "a live one is not removed")
  t.is(hgauto("runs", "cancel", "last").code, 0, "cancelled")
  for more in function() return (p:read()) end do
    text = text .. more
  end
  t.is(p:wait().code, 143, "exit 143")
  t.like(text, "cleaned", "after its clean-up")
end)

-- A machine that is an instance only: no SSH in an api-only cloud.
local MACHINE = [[
  local ec2m, ec2 = require "hg.machines.ec2", require("hgauto.aws").client("ec2")
  local key = hg.keys.ensure(ec2)
  local i, expires = ec2m.launch(ec2, { image = hg.images.base(ec2, "debian13"),
    group = hg.network.ensure(ec2, { ports = { 22 } }), key_name = key.name,
    host_key = require("hgauto.crypto").keypair("ed25519", "x"), instance_type = "t3.large",
    max_age = 3600, root_gb = 16, name = "hg-x" })
]]

t.test("--max-cost ends a run before it costs more", function()
  local r = hgauto("run", "--local", "--max-cost", "0.01", task(MACHINE .. [[
    ctx:machine { kind = "instance", id = i.InstanceId, usd_per_hour = 100, state = "running",
      started = require("hgauto.time").iso(require("hgauto.time").now()) }
    local _d <close> = async.defer(function() ec2m.terminate(ec2, i.InstanceId) end)
    async.sleep(60)
  ]]))
  t.is(r.code, 5, "exit 5")
  t.like(r.err, "stopped: USD 0%.0%d would pass %-%-max%-cost 0%.01", "says so")
  local record = newest()
  t.is(record.status, "cost", "status")
  t.ok(record.usd >= 0.01 and record.usd < 0.1, "what it cost: " .. record.usd)
end)

t.test("a machine whose run is interrupted while it is entered in the record ends", function()
  for _, call in ipairs { 'linux { distro = "debian13",', 'windows { os = "windows2022",' } do
    local r = hgauto("run", "--local", task([[
      local enter = ctx.machine
      ctx.machine = function(...)
        enter(...)
        hg.fail { kind = "task", message = "interrupted here" }
      end
      hg.machines.]] .. call .. [[ allow_cidr = { "127.0.0.1/32" } }
    ]]))
    t.is(r.code, 1, call:match "%w+" .. ": exit 1")
    t.like(r.err, "hgauto: interrupted here\n", "only that is told")
    t.is(newest().machines[1].state, "terminated", "the record knows its end")
  end
end)

t.test("prices", function()
  t.is(hg.prices.hourly("t3.large"), 0.0832, "Linux")
  t.ok(hg.prices.hourly("t3.large", "windows") > 0.0832, "Windows costs more")
  t.is(hg.prices.hourly("c9x.large"), nil, "unknown")
  t.is(hg.prices.hourly("c9x.large", "linux", { ["c9x.large/linux/us-west-2"] = 0.5 }), 0.5,
    "the user's own")
end)

client.stop { state = state }
return t.done()
