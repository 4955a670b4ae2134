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

local function build(source, ...)
  return env.run(state, { "run", "--local", "build-linux", "--dist-path", dist, "--source", source,
    ... })
end

-- Names, times and sizes; Mercurial's own caches may be renewed by reading.
local function snapshot(dir)
  local lines = {}
  local text = proc.run({ "find", dir, "-type", "f", "-printf", "%P %T@ %s\n" }).out
  for line in text:gmatch("[^\n]+") do
    if not line:find("^%.hg/w?cache/") then
      lines[#lines + 1] = line
    end
  end
  table.sort(lines)
  return lines
end

-- The names of runs tell the minute only.
local function last_run()
  local best, newest = nil, ""
  for _, id in ipairs(fs.list(state .. "/runs")) do
    local dir = state .. "/runs/" .. id
    local started = json.decode(fs.read(dir .. "/run.json")).started
    if started > newest then
      best, newest = dir, started
    end
  end
  return best
end

local function bytes_sent(r)
  return r.err:match("sent ([^\n]+)")
end

t.test("builds wheel and sdist, brings them home, ends the machine", function()
  local before = snapshot(repo)
  local r = build(repo)
  if not t.is(r.code, 0, "exit 0") then
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
  t.is(#fs.list(dist), 3, "and nothing else is in dist")
  t.like(r.err, "nothing left running", "says that nothing is left")
  t.is(env.running(state), {}, "no instance runs")
  t.is(snapshot(repo), before, "the checkout is as it was")
  t.ok(not (r.out .. r.err):find("[\27\r]"), "no escape sequence in a pipe")
  t.diag(("sent %s in %s"):format(bytes_sent(r), r.err:match("✓ sync  (%S+)")))
end)

t.test("run.json and log.txt tell what happened", function()
  local dir = last_run()
  local record = json.decode(fs.read(dir .. "/run.json"))
  t.is(record.status, "ok", "status")
  t.is(record.exit, 0, "exit")
  t.is(#record.artifacts, 2, "artifacts")
  t.is(fs.stat(dir .. "/run.json").mode & 63, 0, "private")
  t.like(fs.read(dir .. "/log.txt"), "wheel", "the log has the steps")
  t.ok(not fs.read(dir .. "/log.txt"):find("PRIVATE KEY", 1, true), "and no key")
  t.ok(not fs.exists(dir .. "/sync-"), "no bundle stays")
end)

t.test("a build that fails on the machine: exit 1, its lines, no machine left", function()
  local bad = env.standin(function(dir)
    fs.write(dir .. "/Makefile", "doc:\n\techo 'no documentation today' >&2; exit 3\n")
  end)
  local r = build(bad, "sdist")
  t.is(r.code, 1, "exit 1")
  t.like(r.err, "no documentation today", "the words of the build are shown")
  t.like(r.err, "FAILED sdist", "the step is named")
  t.is(env.running(state), {}, "no instance runs")
  t.is(json.decode(fs.read(last_run() .. "/run.json")).error.step, "sdist", "in the record, too")
end)

t.test("an instance killed in mid-build: exit 4, said, nothing left", function()
  local slow = env.standin(function(dir)
    fs.write(dir .. "/Makefile", "doc:\n\techo now it sleeps\n\tsleep 600\n")
  end)
  local p <close> = env.start(state, { "run", "--local", "build-linux", "--dist-path", dist,
    "--source", slow, "sdist" })
  t.ok(p:reaches("│ now it sleeps"), "the build is under way")
  proc.run { "pkill", "-9", "-P", tostring(client.status({ state = state }).pid) }
  t.is(p:ends(), 4, "exit 4")
  t.like(p.text, "connection lost", "says that the connection was lost")
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

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
