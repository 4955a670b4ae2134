-- hgauto.state: state directory, runs, ledger, vault, SQLite files.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local state = require "hgauto.state"
local t = require "hg.tap"

local dir = t.tmpdir()

local function fresh(name)
  return state.open(dir .. "/" .. name, { create = true })
end

local function place(led)
  return led:place { partition = "aws", account = "123456789012", region = "us-west-2",
    endpoint = "local:x" }
end

t.test("a state directory has path, identity and private modes", function()
  t.raises(function() state.open(dir .. "/none") end,
    { kind = "notfound" }, "a missing directory is not made")
  local st = fresh("a")
  t.is(st.path, fs.realpath(dir .. "/a"), "path")
  t.like(st.sid, "^%x%x%x%x%x%x%x%x%x%x%x%x$", "identity")
  t.is(st.sid, fresh("a").sid, "identity stays")
  t.is(st.tightened, false, "nothing to tighten")
  fs.chmod(st.path, tonumber("755", 8))
  t.is(fresh("a").tightened, true, "an open mode is tightened")
  t.raises(function() state.open(dir, { creat = true }) end,
    { kind = "usage", match = "create" }, "an option with a typo")
  st:close()
  st:close()
  t.raises(function() st:run_alive("20260101-0000-abcd") end, { kind = "usage" }, "a closed state")
end)

t.test("a run lives as long as its lock is held", function()
  local st = fresh("runs")
  local run = st:run("build")
  t.like(run.id, "^%d%d%d%d%d%d%d%d%-%d%d%d%d%-%w%w%w%w$", "id")
  t.is(run.dir, st.path .. "/runs/" .. run.id, "directory")
  t.is(run.task, "build", "task")
  t.ok(st:run_alive(run.id), "alive")
  t.is(st:lock_run(run.id), nil, "its lock cannot be taken")
  t.is(table.concat(st:runs(), ","), run.id, "listed")
  t.ok(not run:lock_lost(), "lock is there")
  local id = run.id
  run:finish()
  t.ok(not st:run_alive(id), "ended")
  do
    local lock <close> = st:lock_run(id)
    t.ok(lock ~= nil, "a dead run's lock can be taken")
    t.is(st:lock_run(id), nil, "once")
  end
  t.ok(st:lock_run(id) ~= nil, "and is given back")
  t.raises(function() st:run_alive("../x") end, { kind = "usage" }, "no ID of a run")
end)

t.test("entries go from intent to gone", function()
  local st = fresh("ledger")
  local run <close> = st:run("build")
  local led = st:ledger()
  t.is(st:ledger(), led, "the ledger is opened once")
  t.is(led.sid, st.sid, "identity")
  led:begin_run(run.id, "build")
  local p = place(led)
  t.is(place(led), p, "a place is recorded once")
  local op = crypto.token()
  t.is(led:intent { op = op, run = run.id, kind = "instance", cls = "ephemeral", place = p,
    name = "hg-x", token = op, expires = 1795356210.5, detail = { type = "t3" } }, op, "intent")
  t.is(led:open_count(run.id), 1, "one open")
  local row = led:get(op)
  t.is(row.state, "intent", "state")
  t.is(row.region, "us-west-2", "place")
  t.is(row.endpoint, "local:x", "endpoint")
  t.is(row.expires, 1795356210.5, "expires")
  t.is(row.id, nil, "no id yet")
  t.is(json.decode(row.detail).type, "t3", "detail")
  t.is(led:set(op, "live", { id = "i-1", children = {
    { kind = "volume", id = "vol-1", detail = '{"gib":8}' } } }), true, "live")
  t.is(led:get(op).id, "i-1", "id")
  t.raises(function() led:set(op, "absent") end,
    { kind = "bug", code = "LedgerState" }, "a live entry cannot become absent")
  local kids = led:list { parent = op }
  t.is(#kids, 1, "child")
  t.is(kids[1].id, "vol-1", "child's id")
  t.is(led:child { parent = op, kind = "volume", id = "vol-1" }, kids[1].op, "recorded once")
  t.is(led:open_count(), 2, "two open")
  led:set(op, "deleting")
  led:set(op, "gone", { recheck = 1.5 })
  t.is(led:get(op).recheck, 1.5, "recheck")
  t.is(#led:list { recheck_due = true }, 1, "due")
  led:set(op, "gone", { recheck = 0 })
  t.is(led:get(op).recheck, nil, "recheck removed")
  t.is(#led:list { run = run.id, states = { "live", "gone" } }, 2, "by states")
  t.is(#led:list { kinds = { "image", "volume" } }, 1, "by kinds")
  t.is(#led:list { kinds = { "image" } }, 0, "by another kind")
  t.is(#led:list { kind = "instance", place = p }, 1, "by kind and place")
  t.raises(function() led:list { states = { "dead" } } end,
    { kind = "usage" }, "an unknown state in a filter")
  t.raises(function() led:list { stats = {} } end, { kind = "usage" }, "an unknown filter")
  t.raises(function() led:set(crypto.token(), "live") end,
    { kind = "notfound" }, "an unknown op is told")
  t.raises(function() led:set(op, "lively") end, { kind = "usage" }, "an unknown state")
  t.is(led:get(crypto.token()), nil, "unknown op")
  led:event(nil, "ec2 CreateVpc is not tracked")
  t.is(led:end_run(run.id), true, "end")
  t.is(led:poisoned(), false, "in order")
  led:close()
  t.raises(function() led:list() end, { kind = "usage" }, "a closed ledger")
  t.is(#st:ledger():list(), 2, "opened again")
end)

t.test("what is found by tags becomes an entry", function()
  local st = fresh("adopt")
  local led = st:ledger()
  local op = crypto.token()
  t.is(led:adopt { op = op, run = "r", kind = "instance", place = place(led), id = "i-9" }, op,
    "adopted")
  t.is(led:get(op).adopted, true, "marked")
  t.raises(function() led:adopt { op = op, run = "r", kind = "instance", place = 1 } end,
    { kind = "usage" }, "adoption needs an id")
  t.is(led:forget("local:x"), 1, "endpoint forgotten")
  t.is(led:get(op).state, "gone", "gone")
end)

t.test("a removed lock file stops creation", function()
  local st = fresh("lost")
  local run <close> = st:run("x")
  local led = st:ledger()
  led:begin_run(run, "x")
  fs.remove(run.dir .. "/lock")
  t.ok(run:lock_lost(), "noticed")
  t.raises(function()
    led:intent { op = crypto.token(), run = run.id, kind = "instance", place = place(led) }
  end, { kind = "io", code = "RunLost" }, "nothing is created")
end)

t.test("an intent needs its fields", function()
  local led = fresh("fields"):ledger()
  local p = place(led)
  local op = led:intent { run = "r", kind = "group", place = p }
  t.like(op, "^" .. ("%x"):rep(32) .. "$", "op is made when absent")
  t.raises(function() led:intent { run = "r", kind = "group" } end,
    { kind = "usage" }, "place is missing")
  t.raises(function() led:intent { run = "r", kind = "group", place = p, op = op } end,
    { kind = "exists" }, "an op is used once")
  t.raises(function() led:intent { run = "r", kind = "x", place = p, colour = "red" } end,
    { kind = "usage" }, "an unknown field")
  t.raises(function()
    led:intent { run = "r", kind = "x", place = p, detail = { print } }
  end, { kind = "usage" }, "detail without JSON form")
end)

t.test("keys are kept", function()
  local v = fresh("vault"):vault()
  local key, made = v:key("hg-automation", "me")
  t.is(made, true, "made")
  t.like(key:public(), "^ssh%-ed25519 %S+ me$", "public line")
  local again, made2 = v:key("hg-automation")
  t.is(made2, false, "read")
  t.is(again:blob(), key:blob(), "the same")
  t.is(fs.stat(v:path("hg-automation")).mode & tonumber("777", 8), tonumber("600", 8), "private")
  t.is(v:find("other"), nil, "absent")
  v:put("copy", crypto.keypair("ed25519", "x"))
  t.ok(v:find("copy") ~= nil, "put")
  t.raises(function() v:put("copy", key) end, { kind = "exists" }, "a name is taken once")
  v:remove("copy")
  t.is(v:find("copy"), nil, "removed")
  t.raises(function() v:key("a/b") end, { kind = "usage" }, "a path is no name")
end)

t.test("plain SQLite files", function()
  local st = fresh("db")
  local db <close> = st:db("local/cloud")
  t.ok(fs.exists(st.path .. "/local/cloud.db"), "file")
  t.is(#db:exec("CREATE TABLE x(a, b)"), 0, "no rows")
  db:begin()
  for i = 1, 3 do
    db:exec("INSERT INTO x VALUES(?, ?)", i, i == 2 and "t\0wo" or nil)
  end
  db:commit()
  local rows = db:exec("SELECT * FROM x ORDER BY a")
  t.is(#rows, 3, "three")
  t.is(rows[2].b, "t\0wo", "text")
  t.is(rows[1].b, nil, "NULL")
  t.is(math.type(rows[3].a), "integer", "integer")
  db:begin()
  db:exec("DELETE FROM x")
  db:rollback()
  t.is(db:exec("SELECT count(*) AS n FROM x")[1].n, 3, "rolled back")
  t.is(db:exec("SELECT ? AS v", 0.5)[1].v, 0.5, "number")
  t.is(db:exec("SELECT ? AS v", true)[1].v, 1, "boolean")
  t.raises(function() db:exec("SELEKT") end, { kind = "usage", code = "Sql" }, "wrong SQL")
  t.raises(function() db:exec("SELECT ?") end,
    { kind = "usage", match = "parameters" }, "a value is missing")
  t.raises(function() db:exec("SELECT ?", {}) end, { kind = "usage" }, "a table is no value")
  t.raises(function() st:db("../x") end, { kind = "usage" }, "outside the state directory")
  db:close()
  t.raises(function() db:exec("SELECT 1") end, { kind = "usage" }, "a closed database")
end)

return t.done()
