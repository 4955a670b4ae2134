-- What a task's ctx does: steps, retries, lanes, artifacts, the record and the
-- log.  Each task is a file that `hgauto run` runs against an api-only cloud.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
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

local runs = 0

-- Runs a task of this body (its arguments: ctx, args, async, hg).
local function run(body, ...)
  runs = runs + 1
  local file = ("%s/task%d.lua"):format(dir, runs)
  fs.write(file, 'local hg, async = require "hg", require "hgauto.async"\n'
    .. "return function(ctx, args)\n" .. body .. "\nend\n")
  local argv = { program, "run", "--local", "--state-path", state, ... }
  argv[#argv + 1] = file
  local r = proc.run(argv, { check = false, timeout = 60, stdin = "" })
  local list, newest = fs.list(state .. "/runs"), nil
  for _, id in ipairs(list) do
    local path = state .. "/runs/" .. id
    local record = json.decode(fs.read(path .. "/run.json"))
    if record.task == "task" .. runs then
      newest, r.path = record, path
    end
  end
  r.record = newest
  r.log = fs.read(r.path .. "/log.txt")
  return r
end

t.test("steps nest, give back results and are counted", function()
  local r = run [[
    local a, b, c = ctx:step("outer", function(x)
      return ctx:step("inner", { kind = "run" }, function(y) return y, nil, 3 end, x + 1)
    end, 1)
    ctx:log("got %d %s %d", a, tostring(b), c)
  ]]
  t.is(r.code, 0, "exit 0")
  t.like(r.err, "got 2 nil 3", "arguments go in, all results come out")
  t.like(r.err, "outer/inner  ", "the path of a nested step")
  t.is(r.record.steps, { total = 2, ok = 2, failed = 0 }, "counted")
  t.like(r.log, "I %- outer/inner │ ok", "log.txt: lane, path, text")
end)

t.test("a failing step names itself, the place and no traceback", function()
  local r = run [[
    ctx:step("outer", function()
      ctx:step("inner", function()
        local none
        return none.field
      end)
    end)
  ]]
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "FAILED outer/inner at [^\n]*task%d+%.lua:4\n", "the step and who called it")
  t.like(r.err, "hgauto: [^\n]*task%d+%.lua:6: attempt to index a nil value", "file and line")
  t.ok(not r.err:find("traceback", 1, true), "no traceback")
  t.is(r.record.steps, { total = 2, ok = 0, failed = 2 }, "both failed")
  t.is(r.record.status, "failed", "status")
  t.is(r.record.error.step, "outer/inner", "the record has the step")
end)

t.test("-v adds the traceback of the place that failed", function()
  local r = run([[
    ctx:step("one", function()
      local none
      return none.field
    end)
  ]], "-v")
  t.like(r.err, "stack traceback:\n%s[^\n]*task%d+%.lua:5", "its first line is the fault's")
end)

t.test("retry repeats what is retryable, with growing delays", function()
  local r = run [[
    local n = 0
    local function flaky()
      n = n + 1
      if n < 3 then
        error(require("hgauto.host").error { kind = "net", message = "try " .. n,
          retryable = true }, 0)
      end
      return n
    end
    return ctx:step("flaky", { retry = 3, retry_delay = 0.05 }, flaky)
  ]]
  t.is(r.code, 0, "it succeeds")
  t.is(r.record.result, 3, "at the third attempt")
  t.like(r.err, "try 1; again in 0.1s.*try 2; again in 0.1s", "and says so")
  r = run [[
    local n = 0
    local ok = pcall(ctx.step, ctx, "one", { retry = 3, retry_delay = 0.01 }, function()
      n = n + 1
      error "final"
    end)
    local m = 0
    pcall(ctx.step, ctx, "two", { retry = 2, retry_delay = 0.01,
      retry_if = function(err) return err.kind == "runtime" end }, function()
      m = m + 1
      error "again"
    end)
    return { ok, n, m }
  ]]
  t.is(r.record.result, { false, 1, 3 }, "other errors are final; retry_if decides")
end)

t.test("a step's timeout cancels it: exit 5", function()
  local r = run [[ ctx:step("slow", { timeout = 0.2 }, async.sleep, 30) ]]
  t.is(r.code, 5, "exit 5")
  t.is(r.record.status, "timeout", "status")
  t.ok(r.seconds < 10, "at once")
end)

t.test("unknown step options are mistakes of the script", function()
  local r = run [[ ctx:step("x", { retrry = 3 }, print) ]]
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "ctx:step: unknown option retrry; did you mean retry", "with the right name")
  r = run [[ ctx:parallel({ 1 }, { limits = 3 }, print) ]]
  t.like(r.err, "ctx:parallel: unknown option limits; did you mean limit", "parallel, too")
end)

t.test("lanes run at once, are labelled, and give results in order", function()
  local r = run [[
    return ctx:parallel({ 3, 1, 2 }, { label = function(n) return "lane" .. n end }, function(n)
      ctx:step("wait", function()
        async.sleep(n / 20)
        async.scope(function(s)
          s:spawn(function() ctx:log("from a child") end)
        end)
      end)
      return n * 10
    end)
  ]]
  t.is(r.record.result, { 30, 10, 20 }, "in the order of the list")
  for n = 1, 3 do
    t.like(r.err, ("lane%d wait: from a child"):format(n),
      "children inherit lane and step: lane" .. n)
    t.like(r.log, ("I lane%d wait │ from a child"):format(n), "and in the log: lane" .. n)
  end
  local one, three = r.err:find("lane1 wait  ", 1, true), r.err:find("lane3 wait  ", 1, true)
  t.ok(one and three and one < three, "they ran at the same time")
end)

t.test("parallel: the first failure cancels the others", function()
  local r = run [[
    ctx:parallel({ "a", "b", "c" }, function(name)
      local _d <close> = async.defer(function() ctx:log("cleaned " .. name) end)
      if name == "b" then
        async.sleep(0.1)
        ctx:step("break", error, "no luck")
      end
      async.sleep(60)
    end)
  ]]
  t.is(r.code, 1, "exit 1")
  t.ok(r.seconds < 20, "without waiting for them")
  for _, name in ipairs { "a", "b", "c" } do
    t.like(r.err, "cleaned " .. name, "cleanup ran: " .. name)
  end
  t.like(r.err, "FAILED break %(b%)", "the failure names its lane")
  t.is(r.record.error.lane, "b", "in the record, too")
end)

t.test("parallel with keep_going runs all", function()
  local r = run [[
    ctx:parallel({ "a", "b", "c" }, { keep_going = true, limit = 1 }, function(name)
      if name ~= "b" then
        error("no " .. name, 0)
      end
      ctx:log("b was here")
    end)
  ]]
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "b was here", "the good one ran")
  t.like(r.err, "hgauto: 2 of 3 failed: a: no a", "counted, the first one named")
end)

t.test("artifacts: path on stdout, size and hash in the record", function()
  local file = dir .. "/made.txt"
  local r = run(([[
    require("hgauto.fs").write(%q, "abc")
    ctx:artifact(%q)
    ctx:artifact(%q, { name = "other" })
  ]]):format(file, file, file))
  t.is(r.out, file .. "\n" .. file .. "\n", "stdout is the answer")
  t.is(r.record.artifacts[1], { name = "made.txt", path = file, size = 3,
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }, "recorded")
  t.is(r.record.artifacts[2].name, "other", "under another name")
  r = run(([[ ctx:artifact(%q) ]]):format(dir))
  t.is(r.code, 1, "a directory is none")
  t.like(r.err, "no regular file", "and told so")
end)

t.test("run.json is complete and private", function()
  local r = run([[ return { answer = 42, list = { 1, 2 } } ]], "--region", "us-east-1")
  local rec = r.record
  t.is(rec.v, 1, "v")
  t.is(rec.result, { answer = 42, list = { 1, 2 } }, "the result")
  t.is({ rec.status, rec.exit, rec.cause_exit }, { "ok", 0, 0 }, "status and exit")
  t.is(rec.region, "us-east-1", "region")
  t.is(rec.endpoint, "local", "endpoint")
  t.like(rec.run, "^%d%d%d%d%d%d%d%d%-%d%d%d%d%-%w%w%w%w$", "id")
  t.like(rec.started, "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", "started")
  t.ok(rec.ended >= rec.started, "ended")
  t.is({ #rec.open, #rec.artifacts }, { 0, 0 }, "nothing open, no artifacts")
  t.is(fs.stat(r.path .. "/run.json").mode & 511, 384, "run.json is 0600")
  t.is(fs.stat(r.path .. "/log.txt").mode & 511, 384, "log.txt is 0600")
end)

t.test("a result that JSON cannot hold does not fail the run", function()
  for _, value in ipairs { "0 / 0", "{ 1, a = 2 }", "print",
    "setmetatable({}, {__index = error})" } do
    local r = run("return " .. value)
    t.is(r.code, 0, "exit 0: " .. value)
    t.is(r.record.status, "ok", "the record is finished: " .. value)
  end
end)

t.test("errors of any type end in 1, never in 0", function()
  for _, value in ipairs { "nil", "false", "{ exit = 0 }", "{ exit = 'x' }", "{ kind = 'task' }",
    "setmetatable({}, { __tostring = function() return 'mine' end })" } do
    local r = run("error(" .. value .. ")")
    t.is(r.code, 1, "exit 1: error(" .. value .. ")")
    t.is(r.record.status, "failed", "status")
  end
end)

t.test("secrets do not appear", function()
  local r = run [[
    ctx:secret("hunter2hunter2")
    ctx:log("it is hunter2hunter2")
    print("hunter2hunter2")
    error("hunter2hunter2")
  ]]
  t.ok(not (r.out .. r.err .. r.log .. json.encode(r.record)):find("hunter2", 1, true),
    "not on screen, not in the log, not in the record")
  t.like(r.err, "it is %*%*%*", "stars instead")
  r = run [[ ctx:secret("short") ]]
  t.is(r.code, 1, "less than 6 bytes is refused")
end)

t.test("a silent lane tells why; the innermost step, per lane", function()
  local r = run [[
    hg.output.silence = 0.4
    ctx:parallel({ "loud", "mute" }, function(name)
      ctx:step("work", function()
        ctx:step("part", function()
          for _ = 1, 10 do
            async.sleep(0.12)
            if name == "loud" then
              ctx:log("tick")
            end
          end
        end)
      end)
    end)
  ]]
  local beats = select(2, r.err:gsub("%d%d:%d%d:%d%d mute work/part: %d%.?%d?s, last output ", ""))
  t.ok(beats >= 2 and beats <= 3, "a heartbeat per interval (" .. beats .. ")")
  t.ok(not r.err:find("mute work: ", 1, true), "not of the step around it")
  t.ok(not r.err:find("loud work/part: %d%.?%d?s, last"), "not of a lane that speaks")
end)

t.test("what is left over: exit 6, and how to remove it", function()
  local body = [[
    local ec2 = require("hgauto.aws").client("ec2")
    local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
    ec2:run_instances { ImageId = image, MinCount = 1, MaxCount = 1,
      InstanceType = "t3.micro" }
    %s
  ]]
  local r = run(body:format "")
  t.is(r.code, 6, "exit 6")
  t.is({ r.record.exit, r.record.cause_exit }, { 6, 0 }, "with its cause")
  t.is(r.record.open[1] and r.record.open[1].kind, "instance", "the record lists it")
  t.like(r.err, "may still cost money: 1 instance %(i%-%x+, us%-west%-2%)", "it is named")
  t.like(r.err, "hint: hgauto gc " .. r.record.run:gsub("%p", "%%%0"), "with the command")
  local gc = proc.run { program, "gc", "--local", "--state-path", state, r.record.run }
  t.is(gc.code, 0, "which works")
  r = run(body:format "error 'x'")
  t.is({ r.record.exit, r.record.cause_exit }, { 6, 1 }, "6 wins over 1")
  proc.run { program, "gc", "--local", "--state-path", state, r.record.run }
end)

-- Before done() removes its state directory.
client.stop { state = state }
return t.done()
