-- build-linux disturbed in each of its phases: Ctrl-C cleans up by itself,
-- after kill -9 one `hgauto gc` does.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local env = dofile "tests/lib/local_env.lua"

env.need()
local state = env.state()
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)
local dist = t.tmpdir()
-- Long enough in every phase to be met there.
local repo = env.standin(function(dir)
  fs.write(dir .. "/setup.py", "import time\ntime.sleep(3)\n" .. fs.read(dir .. "/setup.py"))
  fs.write(dir .. "/big.bin", ("0123456789abcdef"):rep(1 << 17))
end)
-- The daemon is there before, so that phases have the same length in each run.
client.ensure { state = state }

-- When a phase is reached: the words on stderr, and a delay within it.
local PHASES = {
  { "before launch", "stand%-in", 0 },
  { "launching", "stand%-in", 0.25 },
  { "connecting", "stand%-in", 0.7 },
  { "bootstrap", "logged in as admin", 0.1 },
  { "uploading", "bootstrap  ", 0.1 },
  { "building", "sent ", 1.5 },
  { "fetching", "sdist  ", 0.1 },
}

local function start(phase)
  local p = proc.spawn({ env.program, "--state-path", state, "run", "--local", "build-linux",
    "--dist-path", dist, "--source", repo }, { stderr = "pipe", timeout = 180 })
  local text = ""
  while not text:find(phase[2]) do
    local _, bytes = p:read()
    if not bytes then
      break
    end
    text = text .. bytes
  end
  async.sleep(phase[3])
  return p, text
end

local function leftovers()
  return env.running(state)
end

for _, phase in ipairs(PHASES) do
  t.test("Ctrl-C while " .. phase[1], function()
    local p <close> = start(phase)
    p:kill("INT")
    local r = p:wait()
    t.ok(r.code == 130, "exit 130 (" .. tostring(r.code or r.signal) .. ")")
    if r.code ~= 130 then
      t.diag(r.err)
    end
    t.is(leftovers(), {}, "no instance left")
    t.like(r.err, "cancelling", "says so")
  end)
end

for _, phase in ipairs(PHASES) do
  t.test("kill -9 while " .. phase[1] .. ", then gc", function()
    local p <close> = start(phase)
    p:kill("KILL")
    p:wait()
    async.sleep(0.3)
    local r = env.run(state, { "gc", "--local" })
    t.is(r.code, 0, "gc: exit 0")
    if r.code ~= 0 then
      t.diag(r.err)
    end
    t.is(leftovers(), {}, "no instance left")
    local again = env.run(state, { "gc", "--local" })
    t.like(again.err, "nothing to remove", "a second gc finds nothing")
  end)
end

t.test("a re-run succeeds and makes nothing twice", function()
  local r = env.run(state, { "run", "--local", "build-linux", "--dist-path", dist, "--source", repo,
    "sdist" })
  t.is(r.code, 0, "exit 0")
  if r.code ~= 0 then
    t.diag(r.err)
  end
  local p = env.run(state, { "run", "--local", "purge-ec2-resources" })
  local _, keys = p.out:gsub("keypair", "")
  local _, groups = p.out:gsub("group ", "")
  t.is({ keys, groups }, { 1, 1 }, "one key pair, one group")
  t.ok(not p.out:find("instance"), "no instance")
end)

return t.done()
