-- build-windows interrupted in each of its phases, those of its image too: Ctrl-C
-- cleans up by itself, after kill -9 one `hgauto gc` does.
local t = require "hg.tap"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local env = dofile "tests/lib/local_env.lua"

-- The guard would do what gc is to show.
require("hgauto.host").setenv("HGAUTO_GUARD", "0")
local state, _d <close> = env.windows()
local dist, work = t.tmpdir(), t.tmpdir()
local SCRIPT = "/contrib/install-windows-dependencies.ps1"
local repo = env.standin()
local slow = env.standin(function(dir)
  fs.write(dir .. "/simulate-slow", "")
end)
local slow_image = env.standin(function(dir)
  fs.write(dir .. SCRIPT, fs.read(dir .. SCRIPT) .. "# simulate-slow\n")
end)
-- An hg that stays in its first call, until its caller is gone.
fs.write(work .. "/hg", ('#!/bin/sh\necho $$ > %s/reached\nwhile kill -0 "$PPID" 2>/dev/null; do\n'
  .. "sleep 0.05\ndone\n"):format(work))
fs.chmod(work .. "/hg", 448)

local function words(o)
  return { "run", "--local", "build-windows", "wheel", "--dist-path", dist, "--source",
    o.source or repo, "--hg", o.hg or "hg", table.unpack(o) }
end

t.test("the image that the rest uses", function()
  local r = env.run(state, words {})
  if not t.is(r.code, 0, "undisturbed: exit 0") then
    t.diag(r.err)
  end
end)

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
  { "launching the machine of the image", source = slow_image, reach = function()
    return t.eventually(function()
      return #env.running(state) > 0
    end, 60)
  end },
  { "preparing the image", source = slow_image, reach = line "│ %(simulated%) installing" },
  { "logged in", source = slow, reach = line "logged in as Administrator" },
  { "syncing", source = slow, reach = line "✓ prepare" },
  { "building", source = slow, reach = line "│ %(simulated%) building" },
  { "fetching", source = repo, reach = line "✓ wheel", may_end = true },
}

local function start(phase)
  fs.remove(work .. "/reached", { tree = true })
  local p = env.start(state, words { source = phase.source, hg = phase.hg })
  t.ok(phase.reach(p), "the phase is reached")
  return p
end

-- What is in dist is whole and known.
local function whole(what)
  local ok = true
  for _, name in ipairs(fs.list(dist)) do
    ok = ok and (name == "manifest.json" or name:find "%.whl$" ~= nil
      and fs.read(dist .. "/" .. name):find "^HGAUTO SIMULATED ARTIFACT\n{.*}$" ~= nil
      or name:find "^%." ~= nil)
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
    whole("no half file in dist")
  end)
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
    whole("no half file in dist")
  end)
end

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
