-- build-windows disturbed: lost connections, fault answers, quotas, a reboot in the
-- middle.  Each time nothing is left, the exit code is right and the message says
-- what happened.
local t = require "hg.tap"
local client = require "localcloud.client"
local env = dofile "tests/lib/local_env.lua"

local state, _d <close> = env.windows()
local dist = t.tmpdir()
local repo = env.standin()

local function words(o)
  return { "run", "--local", "build-windows", "wheel", "--dist-path", dist, "--source",
    repo, table.unpack(o) }
end

t.test("the image that the rest uses", function()
  local r = env.run(state, words {})
  if not t.is(r.code, 0, "undisturbed: exit 0") then
    t.diag(r.err)
  end
end)

-- ---- faults of the endpoint ----

local function disturbed(what, rules, code, message)
  t.test(what, function()
    client.clear_faults { state = state }
    for _, rule in ipairs(rules) do
      client.add_faults { state = state, rules = rule }
    end
    local r = env.run(state, words { "--image", "base" })
    local hits = 0
    for _, rule in ipairs(client.faults { state = state }) do
      hits = hits + rule.hits
    end
    client.clear_faults { state = state }
    t.ok(hits > 0, "the fault acted")
    if not t.is(r.code, code, ("exit %d"):format(code)) or (message
      and not t.like(r.err, message, "says what happened")) then
      t.diag(r.err)
    end
    t.is(env.running(state), {}, "no instance is left")
    t.ok(not r.err:find("still", 1, true), "and none is said to be")
    t.like(r.err, "nothing left running", "but that nothing is")
  end)
end

local function rule(action, nth, what)
  return { match = { service = "guest", action = action }, nth = nth, effect = { winrm = what } }
end

-- The first commands belong to arming; by the twelfth the machine is in use.
disturbed("a Command whose connection dies is not sent again", { rule("Command", 12, "rst") }, 4,
  "may have run")
disturbed("a Receive whose connection dies is", { rule("Receive", 12, "fin"),
  rule("Receive", 16, "unavailable") }, 0)
disturbed("lost while input is sent", { rule("Send", 1, "rst") }, 4, "may have run")
disturbed("an answer that nothing came in time is followed by another Receive",
  { rule("Receive", 10, "timed_out") }, 0)
disturbed("access denied", { rule("Command", 12, "denied") }, 3, "Access is denied")
disturbed("a request that is not understood", { rule("Command", 12, "invalid") }, 4,
  "fault 87")
disturbed("the quota of operations: another pool", { rule("Command", 12, "quota") }, 0)
disturbed("a shell that is gone: another pool", { rule("Command", 12, "selectors") }, 0)
disturbed("too many shells at first", { rule("Create", 3, "shells") }, 0)
disturbed("a reboot in the middle", { rule("Command", 12, "reboot") }, 4,
  "may have run")

t.ok(env.all_end(state), "every instance has ended")
client.stop { state = state }
return t.done()
