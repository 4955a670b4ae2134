-- An abandoned machine ends itself at its deadline: no host, no guard, no gc.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local t = require "hg.tap"
local time = require "hgauto.time"
local client = require "localcloud.client"
local env = dofile "tests/lib/local_env.lua"

env.need()
local state = env.state()

local function state_of()
  local i = client.instances({ state = state })[1]
  return i and i.state or "none"
end

host.setenv("HGAUTO_GUARD", "0")
local r = env.run(state, { "run", "--local", fs.realpath "tests/data/short_machine.lua" })
host.setenv("HGAUTO_GUARD", "1")
local expires = tonumber((r.err .. r.out):match "expires (%d+)")
t.ok(r.signal == 9 and expires, "the host is killed: " .. r.err)
t.is(state_of(), "running", "its machine runs on")
local ended
t.eventually(function()
  local s = state_of()
  ended = (s == "terminated" or s == "shutting-down") and time.now() or nil
  return ended ~= nil
end, 120)
t.ok(ended, "it ends by itself")
t.diag("%.1f s after its deadline", (ended or 0) - (expires or 0))
t.ok(ended and math.abs(ended - expires) <= 5, "at its deadline, 5 s up or down")
t.ok(env.all_end(state), "terminated: nothing is left stopped")
t.is(env.run(state, { "gc", "--local" }).code, 0, "gc finds it gone")
client.stop { state = state }
return t.done()
