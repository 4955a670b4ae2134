--- The flow of the tasks that run Mercurial's test suite: one lane per shard, one
--- wheel for all of them, results that are brought home whatever the tests say.
--
-- What differs between systems is a kit: run-tests-linux's stands below,
-- run-tests-windows's in hg.wintestrun.
--   prepare(ctx, args, run) checks arguments and fills run: distro, what else it needs
--   open(ctx, args, run, label) a machine
--   setup(ctx, args, run, m) the source and an empty directory for results on it
--   build(ctx, run, m) the wheel's path there
--   wheel_path(m, name), out(m) where wheel and results are there
--   has_runner(m) whether the revision has tests/run-tests.py
--   suite(m, run, wheel, words) runs it: {code=, signal=, out=, err=}
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local hg = require "hg"
local json = require "hgauto.json"
local out = require "hg.output"
local testreport = require "hg.testreport"
local time = require "hgauto.time"

local M = {}

-- Flags of run-tests.py that this task sets itself.
local OURS = { "--json", "--xunit", "--outputdir", "--tmpdir", "--hg-wheel", "--with-hg", "--local",
  "--shard-total", "--shard-index" }
-- With these every shard would choose its tests from another order.
local UNSHARDED = { "--random", "--order-by-runtime" }

-- Of the .err files at most so many and so much come home.
local MAX_FILES, MAX_BYTES = 2000, 64 << 20

local function refuse_flags(flags, shards)
  local function among(word, list)
    local name = word:match("^(%-%-[%w-]+)")
    for _, f in ipairs(list) do
      if name == f then
        return true
      end
    end
    return false
  end
  for _, word in ipairs(flags) do
    if among(word, OURS) then
      hg.fail { kind = "usage", message = ("%s is set by this task itself"):format(word) }
    elseif shards > 1 and among(word, UNSHARDED) then
      hg.fail { kind = "usage", message = ("%s cannot be used with --shards"):format(word) }
    end
  end
end

local function python_of(version)
  if version == "system3" then
    return "python3"
  elseif version:match("^3%.%d+$") then
    return "python" .. version
  end
  hg.fail { kind = "usage", message = ('--python-version: "%s" is not supported; use system3 or'
    .. " 3.Y"):format(version) }
end

-- All words for run-tests.py.
local function flags_of(args)
  local flags = {}
  for _, list in ipairs { args.test_flags or {}, args.rest or {} } do
    table.move(list, 1, #list, #flags + 1, flags)
  end
  refuse_flags(flags, args.shards)
  return flags
end

-- What the machine must have; the rest of the tests' packages only makes fewer
-- tests skip.
local function packages_for(filesystem)
  local list = { table.unpack(hg.facts.packages.build) }
  list[#list + 1] = hg.facts.mkfs[filesystem]
  return list
end

-- ---- Linux -----------------------------------------------------------------------------

local linux = {}

function linux.prepare(_, args, run)
  hg.images.check_linux { args.distro }
  run.python, run.packages = python_of(args.python_version), packages_for(args.filesystem)
  run.distro, run.filesystem = args.distro, args.filesystem
end

function linux.open(ctx, args, _, label)
  local volume = not (args.filesystem == "default" or args.filesystem == "tmpfs")
    and hg.facts.test_volume or nil
  return ctx:step("machine", hg.machines.linux, {
    distro = args.distro, base_image = args.base_image, image = args.image,
    instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
    subnet = args.subnet, allow_owner = args.allow_owner, label = label, volume = volume,
  })
end

function linux.setup(ctx, args, run, m)
  ctx:step("bootstrap", hg.linux.bootstrap, m,
    { packages = run.packages, optional = hg.facts.packages.test })
  ctx:step("fs", hg.linux.work_fs, m, args.filesystem)
  ctx:step("sync", hg.mercurial.sync, m, run.source)
  m:script("work-tree", {}, { quiet = true, timeout = 900 })
end

function linux.build(ctx, run, m)
  return ctx:step("wheel", hg.linux.build, m, "wheel", { node = run.source.node }).path
end

function linux.wheel_path(m, name)
  return m.work .. "/wheel/" .. name
end

function linux.out(m)
  return m.work .. "/out"
end

function linux.has_runner(m)
  return m:exec({ "test", "-e", m.work .. "/src/tests/run-tests.py" },
    { check = false, quiet = true, timeout = 60 }).code == 0
end

function linux.suite(m, run, wheel, words)
  return m:script("run-tests", { run.python, wheel, linux.out(m), table.unpack(words) },
    { check = false, timeout = 86400 })
end

-- ---- one lane ------------------------------------------------------------------------

-- The wheel under test: given, or built on the first lane's machine; the others
-- wait for it.
local function wheel_for(ctx, run, m, index)
  if not run.wheel and index == 1 then
    run.wheel = hg.artifacts.fetch(m, run.kit.build(ctx, run, m), ctx.dir).path
    run.wheel_ready:set(true)
  elseif not run.wheel then
    if ctx.plan then
      hg.plan.stop "the wheel that the first lane builds"
    end
    ctx:step("wait for the wheel", { resume = false }, run.wheel_ready.wait, run.wheel_ready, 7200)
  end
  local there = run.kit.wheel_path(m, run.wheel:match("[^/]+$"))
  m:put(run.wheel, there)
  return there
end

-- Reports and .err files of a run into a local directory.
local function fetch(m, remote, dir)
  fs.mkdir(dir, { parents = true, mode = 493 })
  local files, bytes, separator = 0, 0, m.os == "windows" and "\\" or "/"
  for _, e in ipairs(m:list(remote)) do
    local wanted = e.name == "report.json" or e.name == "xunit.xml" or e.name:find("%.err$")
    if wanted and e.type == "file" and not e.name:find("/", 1, true) then
      files, bytes = files + 1, bytes + e.size
      if files > MAX_FILES or bytes > MAX_BYTES then
        out.warn("there are more .err files than are brought home")
        break
      end
      m:get(remote .. separator .. e.name, dir .. "/" .. e.name, { mode = 420 & ~fs.umask() })
    end
  end
end

local function read_report(dir)
  local path = dir .. "/report.json"
  if not fs.exists(path) then
    return nil
  end
  local ok, report = pcall(testreport.parse, fs.read(path))
  return ok and report or nil
end

local function read_reasons(dir)
  local path = dir .. "/xunit.xml"
  return fs.exists(path) and testreport.skip_reasons(fs.read(path)) or {}
end

local function run_suite(ctx, run, m, index, wheel, extra)
  local words = { run.jobs and ("-j" .. run.jobs) or ("-j" .. m:cpus()) }
  if run.shards > 1 then
    table.move({ "--shard-total", tostring(run.shards), "--shard-index", tostring(index) }, 1, 4,
      #words + 1, words)
  end
  table.move(extra, 1, #extra, #words + 1, words)
  table.move(run.flags, 1, #run.flags, #words + 1, words)
  return ctx:step(extra[1] == "--retest" and "retest" or "tests", run.kit.suite, m, run, wheel,
    words)
end

-- The second run overwrites the report and removes the .err files of what
-- passes now, so those of the first come home before it.
local function retest(ctx, run, m, index, wheel, dir, first)
  local failed, flaky = {}, {}
  for name, e in pairs(first) do
    failed[name] = e.result == "failure" or nil
  end
  if not next(failed) then
    return nil
  end
  fetch(m, run.kit.out(m), dir .. "/first")
  local r = run_suite(ctx, run, m, index, wheel, { "--retest" })
  fetch(m, run.kit.out(m), dir)
  local second = read_report(dir)
  local broken = testreport.broken(r.code, r.signal, second)
  if broken then
    return { broken = broken, tail = r }
  end
  local merged = {}
  for name, e in pairs(first) do
    merged[name] = e
  end
  for name, e in pairs(second) do
    merged[name] = e
    flaky[name] = failed[name] and e.result == "success" or nil
  end
  return { report = merged, flaky = flaky }
end

local function broken_run(text, r, index, shards)
  local lines = {}
  for line in ((r.out or "") .. (r.err or "")):gmatch("[^\n]+") do
    lines[#lines + 1] = line
  end
  local tail = table.concat(lines, "\n", math.max(1, #lines - 14), #lines)
  hg.fail { kind = "task", result = { out = tail, err = "" },
    message = (shards > 1 and ("shard %d: "):format(index) or "") .. text }
end

local function lane(ctx, args, run, index)
  local began = time.mono()
  local label = run.shards > 1 and ("%d/%d"):format(index, run.shards) or run.distro
  local m <close> = run.kit.open(ctx, args, run, label)
  run.simulated = run.simulated or m.simulated
  run.kit.setup(ctx, args, run, m)
  local wheel = wheel_for(ctx, run, m, index)
  if not run.kit.has_runner(m) then
    hg.fail { kind = "task", message = "this revision has no tests/run-tests.py" }
  end
  local dir = ("%s/shard-%d"):format(run.dir, index)
  local setup = time.mono() - began
  -- Whatever ends the tests, a deadline too: what they left comes home.
  local ok, r = pcall(run_suite, ctx, run, m, index, wheel, {})
  async.shield(120, function()
    ctx:step("fetch", { resume = false }, fetch, m, run.kit.out(m), dir)
  end)
  if not ok then
    error(r, 0)
  end
  local report = read_report(dir)
  local broken = testreport.broken(r.code, r.signal, report)
  if broken then
    broken_run(broken, r, index, run.shards)
  end
  local shard = { index = index, report = report, reasons = read_reasons(dir), setup = setup,
    seconds = time.mono() - began - setup }
  local second = args.retest and retest(ctx, run, m, index, wheel, dir, report)
  if second and second.broken then
    broken_run(second.broken, second.tail, index, run.shards)
  elseif second then
    shard.report, shard.flaky = second.report, second.flaky
  end
  ctx:step("terminate", m.close, m)
  return shard
end

-- ---- all of them -----------------------------------------------------------------------

local function write_results(ctx, args, run, joined, shards, total)
  local tests, setup = 0, 0
  for _, shard in ipairs(shards) do
    tests, setup = math.max(tests, shard.seconds), math.max(setup, shard.setup)
  end
  local report = {
    v = 1, run = ctx.run, node = run.source.node,
    version = run.wheel:match("mercurial%-([^-]+)%-"),
    distro = run.distro,
    python = args.python_version, filesystem = run.filesystem, arch = run.arch,
    simulated = run.simulated or nil, shards = run.shards,
    totals = joined.totals, seconds = { total = total, setup = setup, tests = tests },
    tests = json.list(joined.tests),
  }
  fs.write(run.dir .. "/xunit.xml", testreport.xunit(joined), { mode = 420 & ~fs.umask() })
  fs.write(run.dir .. "/report.json", json.encode(report, { indent = 2 }) .. "\n",
    { mode = 420 & ~fs.umask() })
  ctx:artifact(run.dir .. "/report.json")
  local n = joined.totals
  ctx:log("Ran %d tests, %d skipped, %d failed.", n.ran, n.skipped, n.failed)
  if n.flaky > 0 then
    ctx:log("%d of them passed only when run again.", n.flaky)
  end
  ctx:log("total time: %.1fs; setup: %.1fs; tests: %.1fs; setup overhead: %.1f%%", total, setup,
    tests, total > 0 and setup / total * 100 or 0)
  if run.simulated then
    out.warn("the machine was simulated: these are no results of Mercurial's tests")
  end
  return report
end

--- Body of the tasks run-tests-linux and run-tests-windows.
-- @param ctx table
-- @param args table
-- @param[opt] kit table what differs between systems, default Linux
-- @return table {totals}
-- @raise task a test failed, none ran, run-tests.py itself failed
-- @waits
function M.run(ctx, args, kit)
  local began = time.mono()
  local run = {
    shards = args.shards, flags = flags_of(args), kit = kit or linux,
    jobs = args.jobs, wheel = args.wheel, wheel_ready = async.event(),
    dir = ("%s/%s"):format(args.results_path, ctx.run),
  }
  run.kit.prepare(ctx, args, run)
  run.source = ctx:step("source", hg.mercurial.resolve, {
    source = args.source, revision = args.revision, dirty = args.dirty, hg = args.hg,
    version_hint = args.version_hint,
  })
  if not ctx.plan then
    fs.mkdir(run.dir, { parents = true, mode = 493 })
  end
  local indices = {}
  for i = 1, args.shards do
    indices[i] = i
  end
  local shards
  if args.shards == 1 then
    shards = { lane(ctx, args, run, 1) }
  else
    shards = ctx:parallel(indices, { limit = 32, label = function(i)
      return ("%d/%d"):format(i, args.shards)
    end }, function(i)
      return lane(ctx, args, run, i)
    end)
  end
  local joined = testreport.join(shards)
  write_results(ctx, args, run, joined, shards, time.mono() - began)
  local verdict = testreport.verdict(joined)
  if verdict then
    hg.fail { kind = "task", message = verdict }
  end
  return { totals = joined.totals }
end

return M
