-- bootstrap-windows-dev and run-tests-windows end to end on the simulated Windows:
-- no root, no base image.
local t = require "hg.tap"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local env = dofile "tests/lib/local_env.lua"

local state, _d <close> = env.windows()
local repo, results = env.standin(), t.tmpdir()
local SCRIPT = "/contrib/install-windows-dependencies.ps1"

local function run(task, words, source)
  return env.run(state, { "run", "--local", task, "--source", source or repo,
    table.unpack(words or {}) })
end

local function changed(edit)
  return env.standin(function(dir)
    fs.write(dir .. SCRIPT, (edit(fs.read(dir .. SCRIPT))))
  end)
end

t.test("an image is prepared, and reused by whoever wants the same", function()
  local r = run("bootstrap-windows-dev", { "--no-seed" })
  if not t.is(r.code, 0, "exit 0") then
    t.diag(r.err)
    return
  end
  local image = r.out:match "^windows2022 (ami%-%x+) built [%w. ]+\n$"
  t.ok(image, "stdout tells the image: " .. r.out)
  for _, line in ipairs { "%(simulated%) Net%-Framework%-Core is there", "installing what C:" } do
    t.like(r.err, line, "its steps are seen: " .. line)
  end
  t.is(env.running(state), {}, "no instance runs")
  r = run("bootstrap-windows-dev", { "--no-seed" })
  t.is(r.out, ("windows2022 %s reused\n"):format(image or "?"), "the second run reuses it")
  r = run("bootstrap-windows-dev", { "--no-seed", "--force" })
  if not t.like(r.out, "^windows2022 ami%-%x+ built ", "--force makes another") then
    t.diag(r.err)
  end
  t.ok(r.code == 0 and not r.out:find(image or "?", 1, true), "with an id of its own")
  t.like(r.err, "removing the older image", "and the older one goes")
end)

t.test("a revision that cannot prepare a machine is refused before anything starts", function()
  local r = run("bootstrap-windows-dev", {}, env.standin(function(dir)
    fs.remove(dir .. SCRIPT)
  end))
  t.is(r.code, 2, "no script: exit 2")
  t.like(r.err, "has no contrib/install%-windows%-dependencies%.ps1", "says so")
  r = run("bootstrap-windows-dev", {}, changed(function(text)
    return text .. "Clone-Mercurial-Repo http://elsewhere x\n"
  end))
  t.is(r.code, 1, "two lines that clone: exit 1")
  t.like(r.err, "expected one line that calls Clone%-Mercurial%-Repo, found 2", "says so")
end)

t.test("what the script leaves out is named, and no image is made of it", function()
  local r = run("bootstrap-windows-dev", {}, changed(function(text)
    return text .. "# simulate-incomplete\n"
  end))
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "left out: hg%.exe, pyoxidizer%.exe on PATH", "says what")
  t.is(env.running(state), {}, "its machine is gone")
end)

local function report_of(r)
  local path = r.out:match "(/[^\n]+/report%.json)\n"
  return path and json.decode(fs.read(path)), path and path:match "^(.*)/"
end

t.test("the test suite on two machines of the prepared image", function()
  local r = run("run-tests-windows", { "--shards", "2", "--results-path", results })
  if not t.is(r.code, 0, "exit 0") then
    t.diag(r.err)
    return
  end
  local report, dir = report_of(r)
  t.is(report.totals, { tests = 4, ran = 3, passed = 3, failed = 0, skipped = 1, flaky = 0 },
    "counts over both shards")
  t.is({ report.simulated, report.arch, report.python, report.distro, report.version },
    { true, "x64", "3.13", "windows2022", "7.9" }, "the report says what it is")
  t.like(r.err, "these are no results of Mercurial's tests", "so does the summary")
  t.ok(fs.exists(dir .. "/shard-2/report.json"), "raw files of each shard")
  t.is(env.running(state), {}, "no instance runs")
end)

t.test("a failing test, a flaky one, a misspelt one", function()
  local r = run("run-tests-windows", { "--results-path", results, "--retest", "--test-flags",
    "test-one.t 'test-fail.t' test-flaky.t" })
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "1 of 3 tests failed: test%-fail%.t", "named")
  local report, dir = report_of(r)
  t.is(report.totals.flaky, 1, "flaky")
  t.like(fs.read(dir .. "/shard-1/test-fail.t.err"), "^HGAUTO SIMULATED", "its output is home")
  r = run("run-tests-windows", { "--results-path", results, "--", "test-oen.t" })
  t.is(r.code, 1, "misspelt: exit 1")
  t.like(r.err, "no tests ran", "says so")
  r = run("run-tests-windows", { "--results-path", results, "--", "--no-such-flag" })
  t.is(r.code, 1, "unknown flag: exit 1")
  t.like(r.err, "run%-tests%.py itself failed %(exit 2%)", "says so")
end)

t.test("what cannot work is refused before anything starts", function()
  for _, case in ipairs {
    { { "--python-version", "2.7" }, "use 3%.Y" },
    { { "--test-flags", "test-'one.t" }, "quote ' is not closed" },
    { { "--", '--opt="x"' }, "quotation mark" },
    { { "--", "--json" }, "set by this task itself" },
    { { "--image", "nonsense" }, "dev, auto, base or ami" },
  } do
    local r = run("run-tests-windows", case[1])
    t.is(r.code, 2, table.concat(case[1], " ") .. ": exit 2")
    t.like(r.err, case[2], "says why")
  end
end)

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
