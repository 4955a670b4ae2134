-- The real thing: Mercurial 7.0.1 from apt's source package is built, installed
-- and tested on real local instances, whose network goes through this host to
-- the archive that its apt uses.  About ten minutes and 3 GB of disk.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"
local env = dofile "tests/lib/local_env.lua"
local sweep = dofile "tests/lib/sweep.lua"

env.need()
if not proc.which "apt-get" then
  t.skip("apt-get is missing: it fetches the source and the packages")
end
local state = env.state()
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)
local dist, results = t.tmpdir(), t.tmpdir()

-- What the import of the source package gives; nodes depend on its contents only.
local NODE = "282948419df870f4a1c6c0fb21d0aeaa41568791"
local VERSION = "7.0.1"
local BROKEN = "test-hgauto-broken.t"
local TESTS = { "test-xdg.t", "test-issue1089.t", "test-revert-unknown.t", "test-issue1438.t",
  "test-debugrename.t", "test-empty-dir.t", "test-diff-newlines.t", "test-strict.t",
  "test-username-newline.t", "test-execute-bit.t", "test-nested-repo.t", "test-issue612.t",
  "test-empty.t", "test-merge8.t", "test-diff-subdir.t", "test-mactext.t", "test-empty-file.t",
  "test-linelog.py", "test-ancestor.py", "test-atomictempfile.py", "test-bdiff.py",
  "test-cbor.py", "test-dirs.py", "test-encoding-func.py", "test-lrucachedict.py",
  "test-mdiff.py", "test-minifileset.py", "test-propertycache.py", "test-url.py", BROKEN }

local began = time.mono()

-- Runs a task and says how long it took; its words when it ends otherwise.
local function run(what, code, words)
  local from = time.mono()
  local r = env.run(state, { "run", "--local", table.unpack(words) }, { timeout = 3600 })
  t.diag("slow %s: %d s", what, math.floor(time.mono() - from + 0.5))
  for step, took in r.err:gmatch("✓ ([^\n]-)  (%w[^\n]*)") do
    t.diag("slow   %s %s", step, took)
  end
  if not t.is(r.code, code, ("%s: exit %d"):format(what, code)) then
    t.diag(r.err)
  end
  return r
end

t.test("an image with everything, made on a machine with a network", function()
  client.ensure { state = state, net = true, idle = "1h" }
  local r = run("bootstrap-linux-dev", 0, { "bootstrap-linux-dev", "--distros", "debian13" })
  t.like(r.out, "^debian13 ami%-%x+ built ", "it was built")
  r = run("the same again", 0, { "bootstrap-linux-dev", "--distros", "debian13" })
  t.like(r.out, "^debian13 ami%-%x+ reused", "and is reused")
end)

local function manifest()
  local by_kind = {}
  for _, e in ipairs(json.decode(fs.read(dist .. "/manifest.json")).files) do
    by_kind[e.kind] = e
  end
  return by_kind
end

local deb, wheel

t.test("wheel, source archive and Debian package", function()
  local r = run("build-linux all", 0, { "build-linux", "all", "--source", "apt", "--dist-path",
    dist })
  t.like(r.err, "bootstrap: ready", "the machine has what is needed")
  t.ok(not r.err:find("bootstrap: installing", 1, true), "because of its image")
  local files = manifest()
  local names = {}
  for _, kind in ipairs { "wheel", "sdist", "deb" } do
    local e = files[kind] or {}
    names[#names + 1] = e.name
    t.is({ e.version, e.node }, { VERSION, NODE }, kind .. ": version and changeset")
    t.is(e.name and fs.sha256(dist .. "/" .. e.name), e.sha256, kind .. ": SHA-256")
  end
  t.is(names, { "mercurial-7.0.1-cp313-cp313-linux_x86_64.whl", "mercurial-7.0.1.tar.gz",
    "mercurial_7.0.1~trixie1_amd64.deb" }, "their names")
  wheel, deb = dist .. "/" .. names[1], dist .. "/" .. names[3]
end)

t.test("the Debian package on a second machine", function()
  local r = run("install the deb", 0, { "tests/data/install_deb.lua", deb })
  t.like(r.out, "Mercurial Distributed SCM %(version 7%.0%.1%); of mercurial; first file",
    "installed, and hg works")
end)

-- Apt's source with one test more, which fails.
local function broken_source()
  local import = proc.run({ "sh", "-c", "ls -d " .. state .. "/cache/source/*/repo" }).out
  local repo = t.tmpdir() .. "/repo"
  env.hg(".", "clone", "-q", import:match("[^\n]+"), repo)
  fs.write(repo .. "/tests/" .. BROKEN, "  $ echo what is\n  what is & what <should> be\n")
  env.hg(repo, "commit", "-q", "-A", "-m", "a test that fails", "-d", "1700000000 0")
  return repo
end

-- What xunit.xml counts: cases, failures, skips.
local function counts(xml)
  local n = { 0, 0, 0 }
  for _ in xml:gmatch("<testcase ") do
    n[1] = n[1] + 1
  end
  for failures, skipped in xml:gmatch('<testsuite [^>]-failures="(%d+)"[^>]-skipped="(%d+)"') do
    n[2], n[3] = n[2] + tonumber(failures), n[3] + tonumber(skipped)
  end
  return n
end

local function check_tests(filesystem, repo)
  local r = run(("30 tests on %s, 2 shards"):format(filesystem), 1, { "run-tests-linux", "--source",
    repo, "--results-path", results, "--filesystem", filesystem, "--shards", "2", "--wheel", wheel,
    table.unpack(TESTS) })
  t.like(r.err, "1 of %d+ tests failed: test%-hgauto%-broken%.t", "the verdict names it")
  local path = r.out:match("(/[^\n]+/report%.json)\n")
  if not t.ok(path, "a report") then
    return
  end
  local report = json.decode(fs.read(path))
  local n = report.totals
  t.is({ n.tests, n.failed, n.passed + n.failed, n.ran + n.skipped }, { 30, 1, n.ran, 30 },
    "counts of report.json")
  t.ok(n.passed >= 27, ("%d pass"):format(n.passed))
  local dir = path:match("^(.*)/")
  t.is(counts(fs.read(dir .. "/xunit.xml")), { 30, 1, n.skipped }, "counts of xunit.xml")
  local shards = { 0, 0 }
  for _, e in ipairs(report.tests) do
    shards[e.shard] = shards[e.shard] + 1
  end
  t.is(shards, { 15, 15 }, "half of them in each shard")
  t.is(report.filesystem, filesystem, "the file system")
  local err = proc.run({ "sh", "-c", 'cat "$0"/shard-?/*.err', dir }).out
  t.like(err, "what is\n", "the failing test's output is at home")
end

t.test("30 tests of Mercurial's on ext4 and tmpfs, one fails", function()
  local repo = broken_source()
  for _, filesystem in ipairs { "ext4", "tmpfs" } do
    check_tests(filesystem, repo)
  end
end)

t.test("purge leaves nothing", function()
  t.ok(env.all_end(state), "every instance has ended")
  run("purge-ec2-resources", 0, { "purge-ec2-resources" })
  t.is(sweep.text(sweep.inventory_of(state)), "nothing", "the account is empty")
  -- Of many files, in the background.
  t.ok(t.eventually(function()
    return #fs.list(state .. "/local/instances") == 0
  end, 300), "no instance's files")
  t.is(#fs.list(state .. "/local/volumes"), 0, "no volume's file")
  client.stop { state = state }
end)

t.diag("slow all: %d s", math.floor(time.mono() - began + 0.5))
return t.done()
