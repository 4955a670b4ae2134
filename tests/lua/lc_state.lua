-- The store of the local cloud: objects survive, failed changes do not, client
-- tokens and page secrets stay; the reaper forgets in time.
local t = require "hg.tap"
local state = require "localcloud.state"
local reaper = require "localcloud.reaper"

local path = t.tmpdir() .. "/state"
local st = require("hgauto.state").open(path, { create = true })
require("hgauto.fs").mkdir(st.path .. "/local", { parents = true })

local function open()
  return state.open(st:db "local/cloud")
end

local function group(id, name)
  return { kind = "group", region = "us-west-2", id = id, created = state.now_ms(), name = name,
    rules = { { id = "sgr-1", from = 22, cidr = "127.0.0.1/32", tags = {} } }, tags = { a = "b" } }
end

t.test("committed objects are there after a restart", function()
  local S = open()
  local secret, cloud = S.secret, S.cloud_id
  S:put(group("sg-1", "one"))
  S:put(group("sg-2", "two"))
  S:put_token("RunInstances", "us-west-2", "tok", "hash", { "i-1", "i-2" })
  S:commit()
  S:put(group("sg-3", "lost"))
  S:close()
  S = open()
  t.is(S:get("group", "us-west-2", "sg-1").rules[1].from, 22, "with all they hold")
  t.is(S:get("group", "us-west-2", "sg-3"), nil, "what was not committed is not")
  t.is(#S:list "group", 2, "both are listed")
  t.is(#S:list("group", "eu-west-1"), 0, "in their region")
  t.is(S:token("RunInstances", "us-west-2", "tok"), { hash = "hash", ids = { "i-1", "i-2" } },
    "the client token is known")
  t.is(S:token("RunInstances", "eu-west-1", "tok"), nil, "in its region only")
  t.is({ S.secret, S.cloud_id }, { secret, cloud }, "so are page secret and identity")
  S:close()
end)

t.test("a rolled back change has not happened", function()
  local S = open()
  local g = S:get("group", "us-west-2", "sg-1")
  g.name = "changed"
  S:put(g)
  S:begin()
  S:put(group("sg-4", "new"))
  t.is({ S:is_new "sg-4", S:is_new "sg-1" }, { true, false }, "what is new is known")
  S:drop(S:get("group", "us-west-2", "sg-2"))
  S:put_token("RunInstances", "us-west-2", "tok2", "h", {})
  S:rollback()
  t.is(S:get("group", "us-west-2", "sg-1").name, "one", "a change is undone")
  t.ok(S:get("group", "us-west-2", "sg-1") == g, "in the table that others hold")
  t.is(S:get("group", "us-west-2", "sg-4"), nil, "an addition")
  t.is(S:get("group", "us-west-2", "sg-2").name, "two", "a removal")
  t.is(S:token("RunInstances", "us-west-2", "tok2"), nil, "a token")
  S:drop(S:get("group", "us-west-2", "sg-2"))
  S:commit()
  S:close()
  S = open()
  t.is(S:get("group", "us-west-2", "sg-2"), nil, "a committed removal stays")
  S:close()
end)

t.test("creation times order objects", function()
  local last = 0
  for _ = 1, 1000 do
    local now = state.now_ms()
    if now <= last then
      t.ok(false, "not after the one before")
    end
    last = now
  end
  t.ok(true, "each is later than the one before")
end)

t.test("ids have AWS's form", function()
  local id = state.new_id "i"
  t.like(id, "^i%-0%x+$", "prefix and hex")
  t.is(#id, 19, "17 digits")
  t.ok(id ~= state.new_id "i", "never the same")
end)

t.test("terminated instances are hidden after an hour, forgotten a day later", function()
  local S = open()
  local function instance(id, ago)
    return S:put { kind = "instance", region = "us-west-2", id = id, created = 1, tags = {},
      state = "terminated", ended = state.now_ms() - ago * 3600000, token = id }
  end
  instance("i-new", 0.9)
  instance("i-old", 1.1)
  instance("i-older", 25.1)
  S:put_token("RunInstances", "us-west-2", "i-older", "h", { "i-older" })
  S:put { kind = "instance", region = "us-west-2", id = "i-run", created = 1, state = "running",
    tags = {} }
  S:commit()
  for _ = 1, 2 do
    reaper.sweep(S)
    t.is(S:get("instance", "us-west-2", "i-new").hidden, nil, "a fresh one is shown")
    t.is(S:get("instance", "us-west-2", "i-old").hidden, true, "an older one is hidden")
    t.is(S:get("instance", "us-west-2", "i-older"), nil, "the oldest is gone")
    t.is(S:get("instance", "us-west-2", "i-run").hidden, nil, "a running one stays")
  end
  t.is(S:token("RunInstances", "us-west-2", "i-older"), nil, "with its client token")
  S:close()
end)

t.test("a state of a newer hgauto is refused", function()
  local db = st:db "local/cloud"
  db:exec("UPDATE meta SET value='999' WHERE key='schema'")
  db:close()
  t.raises(open, { kind = "usage", match = "format 999" }, "with both versions named")
end)

return t.done()
