--- The flow of run-tests-linux: one lane per shard, one wheel for all of them,
--- results that are brought home whatever the tests say.
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

-- ---- one lane ------------------------------------------------------------------------

local function machine(ctx, args, label)
  local volume = not (args.filesystem == "default" or args.filesystem == "tmpfs")
    and hg.facts.test_volume or nil
  return ctx:step("machine", hg.machines.linux, {
    distro = args.distro, base_image = args.base_image, image = args.image,
    instance_type = args.instance_type, max_age = args.max_age, allow_cidr = args.allow_cidr,
    subnet = args.subnet, label = label, volume = volume,
  })
end

-- The wheel under test: given, or built on the first lane's machine; the others
-- wait for it.
local function wheel_for(ctx, run, m, index)
  if not run.wheel and index == 1 then
    local artifact = ctx:step("wheel", hg.linux.build, m, "wheel", { node = run.source.node })
    run.wheel = hg.artifacts.fetch(m, artifact.path, ctx.dir).path
    run.wheel_ready:set(true)
  elseif not run.wheel then
    ctx:step("wait for the wheel", run.wheel_ready.wait, run.wheel_ready, 7200)
  end
  local there = m.work .. "/wheel/" .. run.wheel:match("[^/]+$")
  m:put(run.wheel, there)
  return there
end

local function exists(m, path)
  local r = m:exec({ "test", "-e", path }, { check = false, quiet = true, timeout = 60 })
  return r.code == 0
end

-- Reports and .err files of a run into a local directory.
local function fetch(m, remote, dir)
  fs.mkdir(dir, { parents = true, mode = 493 })
  local files, bytes = 0, 0
  for _, e in ipairs(m:list(remote)) do
    local wanted = e.name == "report.json" or e.name == "xunit.xml" or e.name:find("%.err$")
    if wanted and e.type == "file" and not e.name:find("/", 1, true) then
      files, bytes = files + 1, bytes + e.size
      if files > MAX_FILES or bytes > MAX_BYTES then
        out.warn("there are more .err files than are brought home")
        break
      end
      m:get(remote .. "/" .. e.name, dir .. "/" .. e.name, { mode = 420 })
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
  local words = { run.python, wheel, m.work .. "/out" }
  words[#words + 1] = run.jobs and ("-j" .. run.jobs) or ("-j" .. m:cpus())
  if run.shards > 1 then
    table.move({ "--shard-total", tostring(run.shards), "--shard-index", tostring(index) }, 1, 4,
      #words + 1, words)
  end
  table.move(extra, 1, #extra, #words + 1, words)
  table.move(run.flags, 1, #run.flags, #words + 1, words)
  return ctx:step(extra[1] == "--retest" and "retest" or "tests", m.script, m, "run-tests", words,
    { check = false, timeout = 86400 })
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
  fetch(m, m.work .. "/out", dir .. "/first")
  local r = run_suite(ctx, run, m, index, wheel, { "--retest" })
  fetch(m, m.work .. "/out", dir)
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
  local label = run.shards > 1 and ("%d/%d"):format(index, run.shards) or args.distro
  local m <close> = machine(ctx, args, label)
  ctx:step("bootstrap", hg.linux.bootstrap, m,
    { packages = run.packages, optional = hg.facts.packages.test })
  ctx:step("fs", hg.linux.work_fs, m, args.filesystem)
  ctx:step("sync", hg.mercurial.sync, m, run.source)
  m:script("work-tree", {}, { quiet = true, timeout = 900 })
  local wheel = wheel_for(ctx, run, m, index)
  if not exists(m, m.work .. "/src/tests/run-tests.py") then
    hg.fail { kind = "task", message = "this revision has no tests/run-tests.py" }
  end
  local dir = ("%s/shard-%d"):format(run.dir, index)
  local setup = time.mono() - began
  -- Whatever ends the tests, a deadline too: what they left comes home.
  local ok, r = pcall(run_suite, ctx, run, m, index, wheel, {})
  async.shield(120, function()
    ctx:step("fetch", fetch, m, m.work .. "/out", dir)
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
    version = run.wheel:match("mercurial%-([^-]+)%-"), distro = args.distro,
    python = args.python_version, filesystem = args.filesystem, shards = run.shards,
    totals = joined.totals, seconds = { total = total, setup = setup, tests = tests },
    tests = json.list(joined.tests),
  }
  fs.write(run.dir .. "/xunit.xml", testreport.xunit(joined), { mode = 420 })
  fs.write(run.dir .. "/report.json", json.encode(report, { indent = 2 }) .. "\n", { mode = 420 })
  ctx:artifact(run.dir .. "/report.json")
  local n = joined.totals
  ctx:log("Ran %d tests, %d skipped, %d failed.", n.ran, n.skipped, n.failed)
  if n.flaky > 0 then
    ctx:log("%d of them passed only when run again.", n.flaky)
  end
  ctx:log("total time: %.1fs; setup: %.1fs; tests: %.1fs; setup overhead: %.1f%%", total, setup,
    tests, total > 0 and setup / total * 100 or 0)
  return report
end

--- Body of the task run-tests-linux.
-- @param ctx table
-- @param args table
-- @return table {totals}
-- @raise task a test failed, none ran, run-tests.py itself failed
-- @waits
function M.run(ctx, args)
  local began = time.mono()
  local run = {
    shards = args.shards, flags = flags_of(args), python = python_of(args.python_version),
    jobs = args.jobs, wheel = args.wheel, wheel_ready = async.event(),
    dir = ("%s/%s"):format(args.results_path, ctx.run), packages = packages_for(args.filesystem),
  }
  run.source = ctx:step("source", hg.mercurial.resolve, {
    source = args.source, revision = args.revision, dirty = args.dirty, hg = args.hg,
    version_hint = args.version_hint,
  })
  fs.mkdir(run.dir, { parents = true, mode = 493 })
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
