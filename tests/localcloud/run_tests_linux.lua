-- run-tests-linux on real instances, with the stand-in's test runner: verdicts,
-- shards, reports, and what a hanging test leaves behind.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local env = dofile "tests/lib/local_env.lua"

env.need()
local state = env.state()
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)
local repo = env.standin()
local results = t.tmpdir()

local function run(words, global)
  local all = { "run", "--local", table.unpack(global or {}) }
  for _, w in ipairs { "run-tests-linux", "--image", "base", "--source", repo,
    "--results-path", results, table.unpack(words) } do
    all[#all + 1] = w
  end
  return env.run(state, all)
end

local function report_of(r)
  local path = r.out:match("(/[^\n]+/report%.json)\n")
  return path and json.decode(fs.read(path)), path and path:match("^(.*)/")
end

local wheel

t.test("all tests, two shards", function()
  local r = run { "--shards", "2" }
  if not t.is(r.code, 0, "exit 0") then
    t.diag(r.err)
    return
  end
  local report, dir = report_of(r)
  t.is(report.totals, { tests = 4, ran = 3, passed = 3, failed = 0, skipped = 1, flaky = 0 },
    "counts over both shards")
  local names = {}
  for _, e in ipairs(report.tests) do
    names[#names + 1] = e.name .. " " .. e.shard
  end
  t.is(names, { "test-one.t 1", "test-skip.t 2", "test-three.t 1", "test-two.t 2" },
    "each test in one shard")
  t.is(report.tests[2].reason, "missing feature: a <second> moon", "the reason of the skip")
  t.is(report.version, "7.9", "version")
  t.like(r.err, "Ran 3 tests, 1 skipped, 0 failed%.", "the summary")
  t.like(r.err, "total time: [%d.]+s; setup: [%d.]+s; tests: [%d.]+s; setup overhead: [%d.]+%%",
    "the times")
  t.ok(fs.exists(dir .. "/shard-2/report.json"), "raw files of each shard")
  for _, name in ipairs(fs.list(state .. "/runs")) do
    for _, file in ipairs(fs.list(state .. "/runs/" .. name)) do
      wheel = file:find("%.whl$") and ("%s/runs/%s/%s"):format(state, name, file) or wheel
    end
  end
  t.ok(wheel, "one wheel was built and is in the run's record")
end)

t.test("a failing test: exit 1, named, its output at home", function()
  local r = run { "--wheel", wheel, "--filesystem", "tmpfs", "test-one.t", "test-fail.t" }
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "1 of 2 tests failed: test%-fail%.t", "says which")
  local report, dir = report_of(r)
  t.is({ report.filesystem, report.totals.failed }, { "tmpfs", 1 }, "in the report")
  t.is(fs.read(dir .. "/shard-1/test-fail.t.err"), "expected & got <this>\n", "the .err file")
  t.like(fs.read(dir .. "/xunit.xml"), "expected &amp; got &lt;this&gt;", "and in xunit.xml")
end)

t.test("a misspelt test is no success", function()
  local r = run { "--wheel", wheel, "test-oen.t" }
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "no tests ran", "says so")
end)

t.test("a flaky test passes when run again", function()
  local r = run { "--wheel", wheel, "--retest", "test-flaky.t", "test-one.t" }
  t.is(r.code, 0, "exit 0")
  local report, dir = report_of(r)
  t.is(report.totals.flaky, 1, "counted")
  t.ok(fs.exists(dir .. "/shard-1/first/test-flaky.t.err"), "the first failure came home, too")
end)

t.test("a runner that breaks is no test failure", function()
  local r = run { "--wheel", wheel, "--", "--no-such-flag" }
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "run%-tests%.py itself failed %(exit 2%)", "says so")
end)

t.test("a hanging test: the deadline ends it and its daemon", function()
  local r = run({ "--wheel", wheel, "test-hang.t" }, { "--timeout", "25s" })
  t.is(r.code, 5, "exit 5")
  t.is(env.running(state), {}, "no instance runs")
  t.is(proc.run({ "pgrep", "-f", "sleep 987654" }, { check = false }).code, 1, "no daemon is left")
end)

t.test("flags that cannot work are refused before anything starts", function()
  for flag, why in pairs { ["--json"] = "set by this task itself",
    ["--shard-total=2"] = "set by this task itself" } do
    local r = run { "--", flag }
    t.is(r.code, 2, flag .. ": exit 2")
    t.like(r.err, why, "says why")
  end
  t.like(run({ "--shards", "2", "--", "--random" }).err, "cannot be used with %-%-shards",
    "--random")
  t.like(run({ "--python-version", "2.7" }).err, "use system3 or 3%.Y", "Python 2")
end)

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
