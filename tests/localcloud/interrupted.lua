-- build-linux disturbed in each of its phases: Ctrl-C cleans up by itself,
-- after kill -9 one `hgauto gc` does.
--
-- A phase is met by what the program prints, the first two by a local hg that
-- blocks and by what the daemon says.  Only `fetch` can be over when the signal
-- arrives: then success is right, too.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local env = dofile "tests/lib/local_env.lua"

env.need()
-- The guard would do what gc is to show; tests/lua/guard.lua is about that.
require("hgauto.host").setenv("HGAUTO_GUARD", "0")
local state = env.state()
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)
local dist, work = t.tmpdir(), t.tmpdir()
local repo = env.standin(function(dir)
  fs.write(dir .. "/Makefile", "doc:\n\techo here is make\n\tsleep 2\n\tmkdir -p doc\n"
    .. "\techo '.TH HG 1' > doc/hg.1\n")
end)
local plain = env.standin()
-- An hg that stays in its first call, until its caller is gone.
fs.write(work .. "/hg", ('#!/bin/sh\necho $$ > %s/reached\nwhile kill -0 "$PPID" 2>/dev/null; do\n'
  .. "sleep 0.05\ndone\n"):format(work))
fs.chmod(work .. "/hg", 448)
client.ensure { state = state }

local function line(pattern)
  return function(p)
    return p:reaches(pattern)
  end
end

local PHASES = {
  { "reading the source", hg = work .. "/hg", reach = function()
    return t.eventually(function()
      return fs.exists(work .. "/reached")
    end, 60)
  end },
  { "launching", reach = function()
    return t.eventually(function()
      return #env.running(state) > 0
    end, 60)
  end },
  { "logged in", reach = line "logged in as admin" },
  { "bootstrapping", reach = line "│ bootstrap: " },
  { "syncing", reach = line "✓ bootstrap" },
  { "building", reach = line "│ here is make" },
  { "verifying", reach = line "✓ sdist" },
  { "fetching", reach = line "✓ verify", may_end = true },
}

local function start(phase)
  fs.remove(work .. "/reached", { tree = true })
  local p = env.start(state, { "run", "--local", "build-linux", "--dist-path", dist, "--source",
    repo, "--hg", phase.hg or "hg", "sdist" })
  t.ok(phase.reach(p), "the phase is reached")
  return p
end

-- What is in dist is whole and known.
local function whole(what)
  local ok = true
  for _, name in ipairs(fs.list(dist)) do
    local path = dist .. "/" .. name
    if name:find("%.tar%.gz$") then
      ok = ok and proc.run({ "gzip", "-t", path }, { check = false }).ok
    elseif name == "manifest.json" then
      ok = ok and #json.decode(fs.read(path)).files == 1
    elseif not name:find("^%.") then
      ok = false
    end
  end
  t.ok(ok, what)
end

for _, phase in ipairs(PHASES) do
  t.test("Ctrl-C while " .. phase[1], function()
    local p <close> = start(phase)
    p.p:kill("INT")
    local code = p:ends()
    if not t.ok(code == 130 or (phase.may_end and code == 0), "exit 130") then
      t.diag(code .. "\n" .. p.text)
    end
    t.is(env.running(state), {}, "no instance left")
    t.like(p.text, "nothing left running", "and that is said")
    t.ok(code == 0 or p.text:find("cancelling", 1, true), "the press is answered")
    whole("no half file in dist")
  end)
end

for _, phase in ipairs(PHASES) do
  t.test("kill -9 while " .. phase[1] .. ", then gc", function()
    local p <close> = start(phase)
    p.p:kill("KILL")
    local code = p:ends()
    t.ok(code == "signal 9" or (phase.may_end and code == 0), "it is dead")
    local launched = #env.running(state)
    local r = env.run(state, { "gc" })
    if not t.is(r.code, 0, "gc: exit 0") then
      t.diag(r.err)
    end
    t.is(env.running(state), {}, "no instance left")
    t.is(select(2, r.out:gsub("instance ", "")), launched, "gc names what it removed")
    t.like(env.run(state, { "gc", "--local" }).err, "nothing to remove", "a second finds nothing")
    whole("no half file in dist")
  end)
end

t.test("a re-run succeeds and nothing was made twice", function()
  local r = env.run(state, { "run", "--local", "build-linux", "--dist-path", dist, "--source",
    plain, "sdist" })
  if not t.is(r.code, 0, "exit 0") then
    t.diag(r.err)
  end
  t.is(fs.list(dist), { "manifest.json", "mercurial-7.9.tar.gz" }, "dist holds the artifact")
  local p = env.run(state, { "run", "--local", "purge-ec2-resources" })
  local lines = {}
  for kind in p.out:gmatch("([^\n ]+) [^\n]*\n") do
    lines[#lines + 1] = kind
  end
  table.sort(lines)
  t.is(lines, { "group", "keypair" }, "purge removes one group and one key pair")
  t.like(env.run(state, { "run", "--local", "purge-ec2-resources" }).err, "nothing to purge",
    "which leaves the account empty")
end)

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
