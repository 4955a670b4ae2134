-- build-windows end to end on the simulated Windows: no root, no base image.
local t = require "hg.tap"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local env = dofile "tests/lib/local_env.lua"

local state, _d <close> = env.windows()
local repo = env.standin()
local dist = t.tmpdir() .. "/dist"

local function words(source, ...)
  return { "run", "--local", "build-windows", "--dist-path", dist, "--source", source, ... }
end

t.test("wheels and installers come home, marked as simulated", function()
  local r = env.run(state, words(repo, "--arch", "x86", "--arch", "x64"))
  if not t.is(r.code, 0, "exit 0") then
    t.diag(r.err)
    return
  end
  local names = {}
  for line in r.out:gmatch("[^\n]+") do
    names[#names + 1] = line:match("[^/]+$")
  end
  t.is(names, { "mercurial-7.9-cp313-cp313-win32.whl", "mercurial-7.9-cp313-cp313-win_amd64.whl",
    "Mercurial-7.9-x86.exe", "Mercurial-7.9-x64.exe", "mercurial-7.9-x86.msi",
    "mercurial-7.9-x64.msi" }, "stdout is the paths of the artifacts")
  local manifest = json.decode(fs.read(dist .. "/manifest.json"))
  t.is(#manifest.files, 6, "six manifest entries")
  for _, e in ipairs(manifest.files) do
    t.ok(e.simulated == true, e.name .. " is marked in the manifest")
    t.is(fs.sha256(dist .. "/" .. e.name), e.sha256, "its SHA-256")
    t.like(fs.read(dist .. "/" .. e.name), "^HGAUTO SIMULATED ARTIFACT\n", "and in its content")
  end
  t.like(r.err, "the machine was simulated", "and in the summary")
  t.like(r.err, "nothing left running", "says that nothing is left")
  t.is(env.running(state), {}, "no instance runs")
end)

t.test("the tasks of one kind, too", function()
  for task, name in pairs { ["build-windows-wheel"] = "mercurial-7.9-cp313-cp313-win_amd64.whl",
    ["build-inno"] = "Mercurial-7.9-x64.exe", ["build-wix"] = "mercurial-7.9-x64.msi" } do
    local r = env.run(state, { "run", "--local", task, "--dist-path", dist, "--source", repo,
      "--image", "base" })
    local got = { r.code, r.out:match("[^/\n]+\n$") }
    if not t.is(got, { 0, name .. "\n" }, task .. ": its file") then
      t.diag(r.err)
    end
  end
end)

t.test("installers of a later revision are named by the distance to the tag", function()
  local later = env.standin()
  env.hg(later, "update", "-q", "default")
  fs.write(later .. "/more", "x")
  env.hg(later, "commit", "-q", "-A", "-m", "more", "-d", "1700000001 0")
  local node = env.hg(later, "log", "-r", ".", "-T", "{node|short}")
  local r = env.run(state, words(later, "inno", "wix", "--image", "base"))
  t.is(r.code, 0, "exit 0")
  -- the changeset of the tag is one away, this one two
  t.is(r.out:gsub("[^\n]*/", ""), ("Mercurial-7.9+hg2.%s-x64.exe\nmercurial-7.9.0.2-x64.msi\n")
    :format(node), "their names")
end)

t.test("without any release tag installers need --version; nothing is launched", function()
  local plain = env.standin()
  env.hg(plain, "update", "-q", "null")
  env.hg(plain, "revert", "-q", "--all", "-r", "0")
  env.hg(plain, "commit", "-q", "-m", "no tag before it", "-d", "1700000001 0")
  local r = env.run(state, words(plain, "wix"))
  t.is(r.code, 2, "exit 2")
  t.like(r.err, "%-%-version is needed", "says so")
  r = env.run(state, words(plain, "wheel", "--python", "2.7"))
  t.is(r.code, 2, "Python 2.7 is refused")
end)

t.test("Ctrl-C and kill -9 in mid-build leave nothing", function()
  local slow = env.standin(function(dir)
    fs.write(dir .. "/simulate-slow", "")
  end)
  local p <close> = env.start(state, words(slow, "wheel"))
  t.ok(p:reaches("%(simulated%) building"), "the build is under way")
  p.p:kill("INT")
  t.is(p:ends(), 130, "Ctrl-C: exit 130")
  t.is(env.running(state), {}, "and no instance")
  local q <close> = env.start(state, words(slow, "wheel"))
  t.ok(q:reaches("%(simulated%) building"), "once more under way")
  q.p:kill("KILL")
  q:ends()
  t.is(#env.running(state), 1, "killed: its instance runs on")
  t.is(env.run(state, { "--local", "gc" }).code, 0, "gc")
  t.is(env.running(state), {}, "gc ended it")
end)

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
