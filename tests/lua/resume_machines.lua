-- `run --resume` and the machines that steps have used: a step is left out only
-- while each of them is there and used again.
local t = require "hg.tap"
local fs = require "hgauto.fs"
local resume = require "hg.resume"
local session = require "hg.session"
local sweep = dofile "tests/lib/sweep.lua"

t.test("a step is done while all machines that it used are adopted", function()
  local function old(machines, adopted)
    local set = {}
    for _, id in ipairs(adopted) do
      set[id] = true
    end
    session.resume = { run = "r", adopted = set, dirty = {}, steps = {
      used = { status = "ok", values = {}, n = 0, machines = machines },
      later = { status = "ok", values = {}, n = 0 } } }
    local used = resume.done("used", "lane", "used", true) ~= nil
    local later = resume.done("later", "lane", "later", true) ~= nil
    local elsewhere = resume.done("later", "other", "later", true) ~= nil
    session.resume = nil
    return { used, later, elsewhere }
  end
  t.is(old(nil, {}), { true, true, true }, "none was used")
  t.is(old({ "i-1", "i-2" }, { "i-1", "i-2", "i-3" }), { true, true, true }, "all are there")
  t.is(old({ "i-1", "i-2" }, { "i-1" }), { false, false, true },
    "one is not: it runs again, and what follows in its lane")
  t.is(old({ "i-1" }, {}), { false, false, true }, "none is")
end)

local rig <close> = sweep.new(t.tmpdir())
local dir = t.tmpdir()
local file = dir .. "/outer.lua"

-- A machine that a step has made itself.
fs.write(file, ([[
local hg, fs = require "hg", require "hgauto.fs"
local function note(text)
  fs.append("%s/log", text .. " ")
end
return hg.task { run = function(ctx)
  ctx:step("first", function() note "first" end)
  ctx:step("outer", function()
    local m = hg.machines.linux { allow_cidr = { "127.0.0.1/32" } }
    ctx:step("inner", m.exec, m, "true")
    note "outer"
  end)
  ctx:step("mended", function() assert(fs.exists "%s/mended") end)
  note "done"
end }
]]):format(dir, dir))

local function log()
  local text = fs.exists(dir .. "/log") and fs.read(dir .. "/log") or ""
  fs.write(dir .. "/log", "")
  return text
end

t.test("one that made its machine runs again and goes on with it", function()
  local state = rig:state()
  local r = rig:run(state, { "run", "--on-error", "keep", file })
  t.is({ r.code, log() }, { 1, "first outer " }, "it fails after the step")
  t.is(rig:inventory().instance, 1, "its machine is kept")
  fs.write(dir .. "/mended", "")
  r = rig:run(state, { "run", "--resume", "last" })
  t.is({ r.code, log() }, { 0, "outer done " }, "resumed: not the one before it")
  t.like(r.text, "i%-%x+ of run %S+ goes on", "on the same machine")
  local launched = 0
  for i = 1, rig.n do
    launched = launched + (rig.journal[i].action == "RunInstances" and 1 or 0)
  end
  t.is(launched, 0, "none was launched")
  t.ok(rig:no_ephemerals(), "which ends with that run")
end)

rig:close()
return t.done()
