-- `run --resume`: which steps are left out, which run again, what is refused.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local dir = t.tmpdir()
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
fs.mkdir(dir .. "/state", { mode = 448 })
fs.mkdir(dir .. "/elsewhere")

local function hgauto(...)
  return proc.run({ program, "--state-path", dir .. "/state", ... }, { check = false,
    timeout = 60, stdin = "", cwd = dir, env = { TEST_DIR = dir } })
end

local function last()
  local r = hgauto("runs", "ls")
  local id = r.out:match("(%d+%-%d+%-%w+)[^\n]*\n*$")
  return json.decode(fs.read(("%s/state/runs/%s/run.json"):format(dir, id)))
end

local n = 0
local function task(body)
  n = n + 1
  local name = ("task%d.lua"):format(n)
  fs.write(dir .. "/" .. name, 'local hg, host = require "hg", require "hgauto.host"\n'
    .. 'local broken = not require("hgauto.fs").exists(host.getenv "TEST_DIR" .. "/mended")\n'
    .. "return hg.task { args = { hg.arg.string { name = 'word', positional = true } },\n"
    .. "run = function(ctx, args)\n" .. body .. "\nend }\n")
  if fs.exists(dir .. "/mended") then
    fs.remove(dir .. "/mended")
  end
  return name
end

local function mend()
  fs.write(dir .. "/mended", "")
end

t.test("what was done is left out, with its results; the rest runs", function()
  local file = task [[
    local v, w = ctx:step("first", function()
      print("first runs")
      return { list = { 1, 2.5 } }, "w"
    end)
    ctx:step("second", function()
      print("second runs", v.list[2], w, args.word)
      assert(not broken)
    end)
    ctx:step("third", function() print "third runs" end)
  ]]
  t.is(hgauto("run", "./" .. file, "a word").code, 1, "it fails in the second step")
  local failed = last()
  mend()
  local r = hgauto("run", "--resume", "last")
  t.is(r.code, 0, "resumed: " .. r.err)
  t.is(r.out, "second runs\t2.5\tw\ta word\nthird runs\n", "the first step did not run again")
  local record = last()
  t.is({ record.resumed_from, record.task, record.status }, { failed.run, "task1", "ok" },
    "the record tells what it resumed")
  r = hgauto("run", "--resume", record.run, "--from", "second")
  t.is(r.out, "second runs\t2.5\tw\ta word\nthird runs\n", "that one can be resumed, from a step")
  r = hgauto("run", "--resume", record.run)
  t.is({ r.code, r.out }, { 0, "" }, "and all of it is done")
end)

t.test("results that cannot be kept, and steps that say so, run again", function()
  local file = task [[
    ctx:secret "sesame-open"
    ctx:step("type", function() print "type" return print end)
    ctx:step("hole", function() print "hole" return 1, nil, 2 end)
    ctx:step("size", function() print "size" return ("x"):rep(70000) end)
    ctx:step("secret", function() print "secret" return "the sesame-open" end)
    ctx:step("asked", { resume = false }, function() print "asked" end)
    ctx:step("kept", function() print "kept" return nil end)
    ctx:step("bad", function() assert(not broken) end)
  ]]
  hgauto("run", "./" .. file)
  mend()
  local r = hgauto("run", "--resume", "last")
  t.is(r.out, "type\nhole\nsize\nsecret\nasked\n", "all but the one without results")
  local omitted = {}
  for line in fs.read(("%s/state/runs/%s/events.jsonl"):format(dir, last().run)):gmatch "[^\n]+" do
    local e = json.decode(line)
    if e.ev == "step.end" then
      omitted[e.step] = e.values_omitted or e.status
    end
  end
  t.is(omitted, { type = "type", hole = "type", size = "size", secret = "secret", asked = "ok",
    kept = "skipped", bad = "ok" }, "the journal tells why")
end)

t.test("steps are told apart by lane, surrounding step and number", function()
  local file = task [[
    for i = 1, 2 do
      ctx:step("outer", function()
        ctx:step("inner", function() print("inner", i) return i end)
        if i == 2 then assert(not broken) end
      end)
    end
    ctx:parallel({ "a", "b" }, { limit = 1 }, function(lane)
      ctx:step("inner", function() print("inner", lane) end)
    end)
  ]]
  hgauto("run", "./" .. file)
  mend()
  local r = hgauto("run", "--resume", "last")
  -- The second outer step failed, so it and what comes later runs again.
  t.is(r.out, "inner\t2\na │ inner\ta\nb │ inner\tb\n", "the right ones run")
end)

t.test("the command line is that of the run, where it was given", function()
  local file = task [[ ctx:step("s", function() print(require("hgauto.fs").cwd(), args.word) end)
    assert(not broken) ]]
  t.is(hgauto("-C", dir .. "/elsewhere", "run", "../" .. file, "--word-is-next=1").code, 2,
    "(a wrong option)")
  hgauto("-C", "elsewhere", "run", "../" .. file, "w")
  mend()
  local r = hgauto("run", "--resume", "last", "--from", "s")
  t.is(r.out, dir .. "/elsewhere\tw\n", "directory and arguments are the same")
end)

t.test("a changed task is told", function()
  local file = task [[ ctx:step("s", function() end) assert(not broken) ]]
  hgauto("run", "./" .. file)
  mend()
  fs.append(dir .. "/" .. file, "-- changed\n")
  local r = hgauto("run", "--resume", "last")
  t.is(r.code, 0, "it runs")
  t.like(r.err, "warning: the task has changed since run", "with a warning")
end)

t.test("what cannot be resumed is refused", function()
  t.is(hgauto("run", "--resume", "19990101").code, 2, "no such run")
  local file = task [[ ctx:step("s", function() end) ]]
  hgauto("run", "./" .. file)
  local r = hgauto("run", "--resume", "last", "--from", "t")
  t.is({ r.code, r.err:match "[^\n]*" }, { 2,
    ("hgauto: --from: run %s has no step t; did you mean s?"):format(last().run) }, "no such step")
  r = hgauto("run", "./" .. file, "--resume", "last")
  t.is(r.code, 2, "a task beside --resume")
  local id = last().run
  local lock = require("hgauto.state").open(dir .. "/state", {}):lock_run(id)
  r = hgauto("run", "--resume", id)
  lock:close()
  t.is({ r.code, r.err:match "[^\n]*" }, { 2, ("hgauto: --resume: run %s is alive"):format(id) },
    "a live run")
  local path = ("%s/state/runs/%s/run.json"):format(dir, id)
  fs.write(path, (fs.read(path):gsub('"argv"', '"was"')))
  r = hgauto("run", "--resume", id)
  t.like(r.err, "does not tell its command line", "a record of an older version")
end)

return t.done()
