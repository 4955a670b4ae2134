-- build-linux end to end on real instances, with a small stand-in source.

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
local dist = t.tmpdir()

local function build(words, opts)
  return env.run(state, { "run", "--local", "build-linux", "--dist-path", dist, "--source", repo,
    table.unpack(words or {}) }, opts)
end

t.test("builds wheel and sdist, brings them home, ends the machine", function()
  local before = proc.run({ "find", repo, "-newermt", "@" .. os.time() }, {}).out
  local r = build()
  t.is(r.code, 0, "exit 0")
  if r.code ~= 0 then
    t.diag(r.err)
    return
  end
  local paths = {}
  for line in r.out:gmatch("[^\n]+") do
    paths[#paths + 1] = line:match("[^/]+$")
  end
  t.is(paths, { "mercurial-7.9-cp313-cp313-linux_x86_64.whl", "mercurial-7.9.tar.gz" },
    "stdout is the paths of the artifacts")
  local manifest = json.decode(fs.read(dist .. "/manifest.json"))
  t.is(#manifest.files, 2, "two manifest entries")
  for _, e in ipairs(manifest.files) do
    t.is(fs.sha256(dist .. "/" .. e.name), e.sha256, "SHA-256 of " .. e.name)
    t.is(e.version, "7.9", "version of " .. e.name)
  end
  t.like(r.err, "nothing left running", "says that nothing is left")
  t.is(env.running(state), {}, "no instance runs")
  t.is(env.hg(repo, "status"), "", "the checkout is as it was")
  t.is(before, proc.run({ "find", repo, "-newermt", "@" .. os.time() }, {}).out, "no file touched")
  t.ok(not (r.out .. r.err):find("[\27\r]"), "no escape sequence in a pipe")
end)

t.test("run.json and log.txt tell what happened", function()
  local runs = fs.list(state .. "/runs")
  local dir = state .. "/runs/" .. runs[#runs]
  local record = json.decode(fs.read(dir .. "/run.json"))
  t.is(record.status, "ok", "status")
  t.is(record.exit, 0, "exit")
  t.is(#record.artifacts, 2, "artifacts")
  t.is(fs.stat(dir .. "/run.json").mode & 63, 0, "private")
  t.like(fs.read(dir .. "/log.txt"), "wheel", "the log has the steps")
  t.ok(not fs.read(dir .. "/log.txt"):find("PRIVATE KEY", 1, true), "and no key")
end)

t.test("a build that fails on the machine: exit 1, its lines, no machine left", function()
  local bad = env.standin(function(dir)
    fs.write(dir .. "/mercurial/standin.c", "#error this cannot be compiled\n")
  end)
  local r = env.run(state, { "run", "--local", "build-linux", "--dist-path", dist, "--source", bad,
    "wheel" })
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "this cannot be compiled", "the compiler's words are shown")
  t.like(r.err, "FAILED wheel", "the step is named")
  t.is(env.running(state), {}, "no instance runs")
end)

t.test("an artifact that was fetched stays when a later one fails", function()
  local bad = env.standin(function(dir)
    fs.write(dir .. "/Makefile", "doc:\n\tfalse\n")
  end)
  local d = t.tmpdir()
  local r = env.run(state, { "run", "--local", "build-linux", "--dist-path", d, "--source", bad })
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "FAILED sdist", "the step is named")
  t.is(env.running(state), {}, "no instance runs")
end)

t.test("an instance killed in mid-build: exit 4, said, nothing left", function()
  local slow = env.standin(function(dir)
    fs.write(dir .. "/setup.py", "import time\nprint('sleeping', flush=True)\ntime.sleep(600)\n")
  end)
  local p <close> = proc.spawn({ env.program, "--state-path", state, "run", "--local",
    "build-linux", "--dist-path", dist, "--source", slow, "wheel" },
    { stderr = "pipe", timeout = 120 })
  local id = t.eventually(function()
    return env.running(state)[1]
  end, 30)
  t.ok(id, "an instance runs")
  local found = t.eventually(function()
    local r = proc.run({ "pgrep", "-f", "time.sleep|setup.py|build --wheel" }, { check = false })
    return r.ok
  end, 30)
  t.ok(found, "the build is under way")
  async.sleep(0.5)
  local daemon = client.status { state = state }.pid
  proc.run { "pkill", "-9", "-P", tostring(daemon) }
  local r = p:wait()
  t.is(r.code, 4, "exit 4")
  t.like(r.err, "connection lost", "says that the connection was lost")
  t.is(env.running(state), {}, "no instance runs")
end)

t.test("purge leaves an empty account", function()
  local r = env.run(state, { "run", "--local", "purge-ec2-resources" })
  t.is(r.code, 0, "exit 0")
  t.like(r.out, "keypair", "the key pair went")
  t.like(r.out, "group", "the group went")
  local again = env.run(state, { "run", "--local", "purge-ec2-resources" })
  t.is(again.code, 0, "a repeat is exit 0")
  t.like(again.err, "nothing to purge", "and finds nothing")
  local term = env.run(state, { "run", "--local", "terminate-ec2-instances" })
  t.like(term.err, "nothing to terminate", "terminate finds nothing")
end)

return t.done()
