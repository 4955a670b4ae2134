-- Tasks and scopes: one test per rule of the architecture, section 4.
local async = require "hgauto.async"
local t = require "hg.tap"
local time = require "hgauto.time"

local function fail(kind, code)
  local host = require "hgauto.host"
  error(host.error { kind = kind or "task", code = code, message = code or kind }, 0)
end

-- Runs fn and returns the error it raises.
local function caught(fn, ...)
  local good, err = pcall(fn, ...)
  assert(not good, "nothing was raised")
  return err
end

t.test("a scope returns the results of its body", function()
  t.is({ async.scope(function() return 1, nil, 3 end) }, { 1, nil, 3 }, "three results")
  t.is(select("#", async.scope(function() end)), 0, "no result")
end)

t.test("a scope ends after its tasks", function()
  local done = 0
  async.scope(function(s)
    for i = 1, 5 do
      s:spawn(function() async.sleep(0.005 * i) done = done + 1 end)
    end
  end)
  t.is(done, 5, "all five have ended")
end)

t.test("spawn only appends; tasks run in order", function()
  local order = {}
  async.scope(function(s)
    for i = 1, 3 do
      s:spawn(function()
        order[#order + 1] = i
        async.sleep(0)
        order[#order + 1] = i + 10
      end)
    end
    order[#order + 1] = 0
  end)
  t.is(order, { 0, 1, 2, 3, 11, 12, 13 }, "the body goes on, then each once, in order")
end)

t.test("spawn gives arguments, join results", function()
  async.scope(function(s)
    local h = s:spawn(function(...) async.sleep(0) return select("#", ...), ... end, 1, nil, 3)
    t.is({ h:join() }, { 3, 1, nil, 3 }, "arguments and results with nil")
    t.is({ h:join() }, { 3, 1, nil, 3 }, "a second join gives the same")
    t.is(h:status(), "done", "status of an ended task")
  end)
end)

t.test("status names what a task waits for", function()
  async.scope(function(s)
    local h = s:spawn(async.sleep, 0.01)
    async.sleep(0)
    t.is({ h:status() }, { "running", "sleep" }, "running, sleep")
  end)
end)

t.test("async.spawn makes a child of the innermost scope", function()
  local outer, inner = false, false
  async.scope(function()
    async.spawn(function() async.sleep(0.02) outer = true end)
    async.scope(function()
      async.spawn(function() async.sleep(0.005) inner = true end)
    end)
    t.ok(inner and not outer, "the inner scope waited for its own task only")
  end)
  t.ok(outer, "the outer one for the other")
end)

t.test("every task has a root scope: it ends after its children", function()
  local child = false
  async.scope(function(s)
    s:spawn(function()
      async.spawn(function() async.sleep(0.01) child = true end)
    end):join()
    t.ok(child, "join came after the grandchild")
  end)
end)

t.test("the first failure cancels the rest and is raised", function()
  local reached, cancelled = false, nil
  local err = caught(async.scope, function(s)
    s:spawn(function()
      local good, e = pcall(async.sleep, 10)
      cancelled = not good and e.kind
      error(e, 0)
    end)
    s:spawn(function() async.sleep(0.005) fail("task", "First") end)
    async.sleep(10)
    reached = true
  end)
  t.is(err.code, "First", "the failure comes out")
  t.is(cancelled, "cancelled", "a sibling was cancelled")
  t.ok(not reached, "the body, too")
  t.is(err.suppressed, nil, "cancelled siblings are dropped")
end)

t.test("a failing body cancels the tasks", function()
  local seen
  local err = caught(async.scope, function(s)
    s:spawn(function() local _, e = pcall(async.sleep, 10) seen = e.kind end)
    async.sleep(0)
    fail("io", "Body")
  end)
  t.is({ err.code, seen }, { "Body", "cancelled" }, "error of the body, task cancelled")
end)

t.test("isolate keeps failures in the handles", function()
  local h
  local v = async.scope(function(s)
    h = s:spawn(function() fail("io", "Mine") end)
    s:spawn(function() async.sleep(0.005) end)
    async.sleep(0.01)
    return "fine"
  end, { isolate = true })
  t.is(v, "fine", "the scope goes on")
  t.is(h:status(), "failed", "status failed")
  t.raises(function() h:join() end, { kind = "io", code = "Mine" }, "join raises it")
end)

t.test("unknown options are usage errors", function()
  t.raises(function() async.scope(function() end, { isolat = true }) end,
    { kind = "usage", match = "did you mean isolate" }, "with a suggestion")
  t.raises(function() async.map({}, print, { limt = 1 }) end, { kind = "usage" }, "map")
end)

t.test("a scope that has ended refuses tasks", function()
  local kept
  async.scope(function(s) kept = s end)
  t.raises(function() kept:spawn(print) end, { kind = "usage", match = "scope has ended" }, "usage")
end)

t.test("cancel reaches the task at its wait", function()
  async.scope(function(s)
    local h = s:spawn(function() async.sleep(10) end)
    async.sleep(0)
    h:cancel("not needed")
    local err = caught(h.join, h)
    t.is({ err.kind, err.message }, { "cancelled", "not needed" }, "kind and words")
    t.is(h:status(), "cancelled", "status")
  end)
end)

t.test("a task cancelled before it starts never runs", function()
  local ran = false
  async.scope(function(s)
    s:spawn(function() ran = true end):cancel()
  end)
  t.ok(not ran, "it did not")
end)

t.test("cancellation is level triggered: a pcall loop cannot swallow it", function()
  local times = 0
  async.scope(function(s)
    local h = s:spawn(function()
      for _ = 1, 5 do
        local good, e = pcall(async.sleep, 10)
        if not good and e.kind == "cancelled" then times = times + 1 end
      end
      return "swallowed"
    end)
    async.sleep(0)
    h:cancel()
    t.raises(function() h:join() end, { kind = "cancelled" }, "the end of the task is a wait, too")
  end)
  t.is(times, 5, "each wait raised again")
end)

t.test("the end of a nested scope is a wait, too", function()
  async.scope(function(s)
    local after = false
    local h = s:spawn(function()
      async.scope(function() pcall(async.sleep, 10) end)
      after = true
    end)
    async.sleep(0)
    h:cancel()
    pcall(h.join, h)
    t.ok(not after, "cancelled was raised by the scope")
  end)
end)

t.test("cancellation reaches nested scopes and their tasks at once", function()
  local seen = {}
  local start = time.mono()
  async.scope(function(s)
    local h = s:spawn(function()
      async.scope(function(s2)
        for i = 1, 3 do
          s2:spawn(function()
            local _d <close> = async.defer(function() async.sleep(0.03) seen[i] = true end)
            async.sleep(10)
          end)
        end
        async.sleep(10)
      end)
    end)
    async.sleep(0.005)
    h:cancel()
  end)
  t.is(seen, { true, true, true }, "all cleaned up")
  t.ok(time.mono() - start < 0.09 + 1, "not one after the other")
end)

t.test("children clean up in parallel", function()
  local start = time.mono()
  pcall(async.scope, function(s)
    for _ = 1, 20 do
      s:spawn(function()
        local _d <close> = async.defer(function() async.sleep(0.05) end)
        async.sleep(10)
      end)
    end
    async.sleep(0)
    fail()
  end)
  t.ok(time.mono() - start < 0.6, "20 cleanups of 0.05 s took less than 0.6 s")
end)

t.test("a spawn in a cancelled scope raises cancelled", function()
  local kind
  pcall(async.scope, function(s)
    s:spawn(function()
      pcall(async.sleep, 10)
      kind = caught(s.spawn, s, print).kind
    end)
    async.sleep(0)
    fail()
  end)
  t.is(kind, "cancelled", "kind")
end)

t.test("timeout: results before the deadline, kind timeout after", function()
  t.is({ async.timeout(10, function(a) async.sleep(0) return a, 2 end, 1) }, { 1, 2 }, "results")
  local err = t.raises(function() async.timeout(0.01, async.sleep, 10) end, { kind = "timeout" },
    "its deadline")
  t.is(tostring(err), "not done within 0.01s", "the text")
  t.raises(function() async.timeout("x", print) end, { kind = "usage" }, "a bad time")
end)

t.test("timeout: only its own deadline becomes timeout", function()
  local inner
  t.raises(function()
    async.timeout(0.01, function()
      inner = caught(async.timeout, 10, async.sleep, 10)
      error(inner, 0)
    end)
  end, { kind = "timeout" }, "outside")
  t.is(inner.kind, "cancelled", "the inner one saw cancelled")
end)

t.test("timeout: an error of the body is not changed", function()
  t.raises(function() async.timeout(1, fail, "io", "Other") end, { kind = "io", code = "Other" },
    "kind io")
end)

t.test("timeout: a pcall loop inside ends", function()
  local n = 0
  t.raises(function()
    async.timeout(0.01, function()
      while true do
        n = n + 1
        pcall(async.sleep, 0.02)
      end
    end)
  end, { kind = "timeout" }, "timeout")
  t.raises(function()
    async.timeout(0.01, function()
      while true do
        pcall(function() while true do pcall(async.sleep, 0.02) end end)
      end
    end)
  end, { kind = "timeout" }, "two of them")
end)

t.test("timeout cancels the tasks started in it", function()
  local seen
  t.raises(function()
    async.timeout(0.01, function()
      async.spawn(function() local _, e = pcall(async.sleep, 10) seen = e.kind end)
    end)
  end, { kind = "timeout" }, "the timeout waits for them")
  t.is(seen, "cancelled", "and cancels them")
end)

t.test("a cancelled task does not become a timeout", function()
  async.scope(function(s)
    local h = s:spawn(function() async.timeout(10, async.sleep, 10) end)
    async.sleep(0)
    h:cancel()
    t.raises(function() h:join() end, { kind = "cancelled" }, "cancelled")
  end)
end)

t.test("sleep(0) lets others run", function()
  local n = 0
  async.scope(function(s)
    s:spawn(function() n = n + 1 end)
    async.sleep(0)
    t.is(n, 1, "the other task ran")
  end)
end)

t.test("sleep waits about that long", function()
  local start = time.mono()
  async.sleep(0.03)
  t.ok(time.mono() - start >= 0.029, "at least")
  async.sleep("10ms")
  t.raises(function() async.sleep(-1) end, { kind = "usage" }, "negative")
  t.raises(function() async.sleep() end, { kind = "usage" }, "no argument")
end)

-- ---- __close that waits ----

local function closer(log, name, err)
  return setmetatable({}, {
    __close = function(_, e)
      async.sleep(0.002)
      log[#log + 1] = name .. ":" .. tostring(e and (e.code or e.kind))
      if err then
        fail("io", err)
      end
    end,
  })
end

t.test("__close waits at a normal end", function()
  local log = {}
  do
    local _a <close> = closer(log, "a")
    local _b <close> = closer(log, "b")
  end
  t.is(log, { "b:nil", "a:nil" }, "last in, first out")
end)

t.test("__close waits while an error unwinds", function()
  local log = {}
  t.raises(function()
    async.scope(function()
      local _a <close> = closer(log, "a")
      local _b <close> = closer(log, "b")
      fail("task", "E")
    end)
  end, { code = "E" }, "the error goes on")
  t.is(log, { "b:E", "a:E" }, "both waited and saw the error")
end)

t.test("__close waits while an error unwinds through a plain pcall", function()
  local log = {}
  local err = caught(function()
    local _a <close> = closer(log, "a")
    fail("task", "E")
  end)
  t.is({ err.code, log[1] }, { "E", "a:E" }, "it did")
end)

t.test("__close waits in a task that fails", function()
  local log = {}
  pcall(async.scope, function(s)
    s:spawn(function()
      local _a <close> = closer(log, "a")
      fail("task", "E")
    end)
  end)
  t.is(log, { "a:E" }, "it did")
end)

t.test("__close after cancel: a wait raises, a deferred function waits", function()
  local log = {}
  async.scope(function(s)
    local h = s:spawn(function()
      local _d <close> = async.defer(function() async.sleep(0.005) log[#log + 1] = "deferred" end)
      local _c <close> = setmetatable({}, { __close = function()
        log[#log + 1] = caught(async.sleep, 0).kind
      end })
      async.sleep(10)
    end)
    async.sleep(0)
    h:cancel()
  end)
  t.is(log, { "cancelled", "deferred" }, "both")
end)

t.test("__close after a timeout: the deferred function waits", function()
  local cleaned = false
  t.raises(function()
    async.timeout(0.005, function()
      local _d <close> = async.defer(function() async.sleep(0.02) cleaned = true end)
      async.sleep(10)
    end)
  end, { kind = "timeout" }, "timeout")
  t.ok(cleaned, "cleaned up")
end)

t.test("defer runs at the end of the block, once", function()
  local n = 0
  do
    local _d <close> = async.defer(function() n = n + 1 end)
    t.is(n, 0, "not before")
  end
  t.is(n, 1, "once")
  do
    local d <close> = async.defer(function() n = n + 1 end)
    d:keep()
  end
  t.is(n, 1, "not after keep()")
end)

t.test("defer has its own deadline", function()
  local err = caught(function()
    local _d <close> = async.defer(function() async.sleep(10) end, 0.01)
  end)
  t.is(err.kind, "timeout", "timeout")
end)

t.test("an error of a cleanup joins the first error", function()
  local err = caught(async.scope, function()
    local _b <close> = async.defer(function() fail("io", "Cleanup2") end)
    local _a <close> = async.defer(function() async.sleep(0) fail("io", "Cleanup1") end)
    fail("task", "First")
  end)
  t.is(err.code, "First", "the first is raised")
  t.is({ err.suppressed[1].code, err.suppressed[2].code }, { "Cleanup1", "Cleanup2" },
    "the others are in suppressed")
end)

t.test("an error of a script's own __close joins the first error", function()
  local log = {}
  local err = caught(async.scope, function()
    local _b <close> = closer(log, "b", "CloseB")
    local _a <close> = closer(log, "a", "CloseA")
    fail("task", "First")
  end)
  t.is(err.code, "First", "the first is raised")
  t.is({ err.suppressed[1].code, err.suppressed[2].code }, { "CloseA", "CloseB" }, "suppressed")
  t.is(log, { "a:First", "b:First" }, "each saw the first error")
end)

t.test("an error of a cleanup alone is raised", function()
  local err = caught(async.scope, function()
    local _a <close> = async.defer(function() fail("io", "Cleanup") end)
  end)
  t.is(err.code, "Cleanup", "it is")
end)

t.test("errors of siblings after the first join it", function()
  local err = caught(async.scope, function(s)
    for i = 1, 2 do
      s:spawn(function()
        local _d <close> = async.defer(function() fail("io", "C" .. i) end)
        async.sleep(10)
      end)
    end
    async.sleep(0)
    fail("task", "First")
  end)
  local codes = {}
  for _, e in ipairs(err.suppressed or {}) do
    codes[#codes + 1] = e.code
  end
  table.sort(codes)
  t.is({ err.code, codes }, { "First", { "C1", "C2" } }, "cleanup errors of cancelled siblings")
end)

t.test("a cleanup error survives a cancellation from outside", function()
  local err = caught(async.scope, function(s)
    local h = s:spawn(function()
      local _d <close> = async.defer(function() fail("io", "Late") end)
      async.sleep(10)
    end)
    async.sleep(0)
    h:cancel()
  end)
  t.is({ err.kind, err.code }, { "io", "Late" }, "cancelled is dropped, the cleanup's error is not")
end)

t.test("cancellation while cleaning up stops at the shield", function()
  local cleaned, nested = false, false
  async.scope(function(s)
    local h = s:spawn(function()
      local _d <close> = async.defer(function()
        async.scope(function(s2)
          s2:spawn(function() async.sleep(0.01) nested = true end)
          async.sleep(0.02)
        end)
        cleaned = true
      end)
      async.sleep(10)
    end)
    async.sleep(0)
    h:cancel()
    async.sleep(0.005)
    h:cancel("again")
  end)
  t.ok(cleaned and nested, "the cleanup with its own tasks ended")
end)

t.test("shield keeps cancellation out, then it is raised", function()
  local inside, after = false, false
  async.scope(function(s)
    local h = s:spawn(function()
      async.shield(10, function() async.sleep(0.01) inside = true end)
      after = true
      async.sleep(0)
      after = "waited"
    end)
    async.sleep(0)
    h:cancel()
  end)
  t.ok(inside, "the body ended")
  t.is(after, true, "the next wait raised")
end)

t.test("shield has its own deadline", function()
  t.raises(function() async.shield(0.01, async.sleep, 10) end, { kind = "timeout" }, "timeout")
end)

-- ---- resources ----

local function resource(log, name, err)
  local r = setmetatable({ name = name }, {
    __close = function(self)
      async.release(self)
      async.sleep(0.001)
      log[#log + 1] = name
      if err then
        fail("io", err)
      end
    end,
  })
  return async.register(r)
end

t.test("a scope closes what is registered, last in first out", function()
  local log = {}
  async.scope(function()
    resource(log, "a")
    resource(log, "b")
    async.release(resource(log, "c"))
    resource(log, "d")
  end)
  t.is(log, { "d", "b", "a" }, "without the released one")
end)

t.test("resources close after the scope's tasks", function()
  local log = {}
  async.scope(function(s)
    resource(log, "r")
    s:spawn(function() async.sleep(0.005) log[#log + 1] = "task" end)
  end)
  t.is(log, { "task", "r" }, "order")
end)

t.test("resources close, shielded, also after failure and cancel", function()
  local log = {}
  local err = caught(async.scope, function()
    resource(log, "a", "CloseA")
    resource(log, "b")
    fail("task", "First")
  end)
  t.is({ err.code, err.suppressed[1].code }, { "First", "CloseA" }, "errors join")
  async.scope(function(s)
    local h = s:spawn(function()
      resource(log, "c")
      async.sleep(10)
    end)
    async.sleep(0)
    h:cancel()
  end)
  t.is(log, { "b", "a", "c" }, "all closed")
end)

t.test("a resource made under a timeout belongs to the scope around it", function()
  local log = {}
  async.scope(function()
    async.timeout(10, function() resource(log, "a") end)
    t.is(log, {}, "the timeout leaves it open")
  end)
  t.is(log, { "a" }, "the scope closes it")
end)

-- ---- places where waiting is impossible ----

t.test("plain coroutines cannot wait", function()
  local _, err = coroutine.resume(coroutine.create(function() async.sleep(0) end))
  t.is(err.kind, "usage", "kind")
  t.like(tostring(err),
    "async%.lua:%d+: cannot wait inside a plain coroutine; use async%.spawn", "text")
  t.raises(function() coroutine.wrap(function() async.scope(print) end)() end,
    { match = "plain coroutine" }, "a scope neither")
end)

t.test("comparators, callbacks, finalizers cannot wait", function()
  local function place(fn, pattern, name)
    t.raises(fn, { kind = "usage", match = pattern }, name)
  end
  place(function() table.sort({ 3, 1, 2 }, function() async.sleep(0) end) end,
    "cannot wait inside a table.sort comparator", "table.sort")
  local sort = table.sort
  place(function() sort({ 3, 1, 2 }, function() async.sleep(0) end) end, "table.sort comparator",
    "under another name")
  place(function() string.gsub("abc", ".", function() async.sleep(0) end) end,
    "cannot wait inside a string.gsub callback", "string.gsub")
  place(function() tostring(setmetatable({}, { __tostring = function() async.sleep(0) end })) end,
    "cannot wait inside a __tostring metamethod", "__tostring")
  local message
  xpcall(error, function() message = select(2, pcall(async.sleep, 0)) end, "x")
  t.like(tostring(message), "cannot wait inside a message handler", "message handler")
  local seen
  setmetatable({}, { __gc = function() seen = select(2, pcall(async.sleep, 0)) end })
  collectgarbage()
  collectgarbage()
  t.like(tostring(seen), "cannot wait inside a __gc metamethod", "__gc")
end)

t.test("a module cannot wait while it is required", function()
  package.preload["test.waits"] = function() async.sleep(0) end
  t.raises(function() require "test.waits" end, { match = "cannot wait inside require" }, "text")
end)

t.test("waits work in functions, pcall, iterators, metamethods, dofile", function()
  t.ok(pcall(async.sleep, 0), "pcall")
  t.ok(xpcall(async.sleep, print, 0), "xpcall")
  local n = 0
  for i in function(_, v) async.sleep(0) return v < 3 and v + 1 or nil end, nil, 0 do n = n + i end
  t.is(n, 6, "an iterator")
  local mt = setmetatable({}, {
    __index = function(_, k) async.sleep(0) return k end,
    __add = function() async.sleep(0) return 5 end,
    __eq = function() async.sleep(0) return true end,
    __lt = function() async.sleep(0) return true end,
    __concat = function() async.sleep(0) return "c" end,
    __call = function(_, v) async.sleep(0) return v end,
    __len = function() async.sleep(0) return 7 end,
    __newindex = function(s, k, v) async.sleep(0) rawset(s, k, v) end,
  })
  mt.x = 1
  t.is({ mt.y, mt + 1, mt < 1, mt .. "", mt(4), #mt, rawget(mt, "x") },
    { "y", 5, true, "c", 4, 7, 1 }, "metamethods")
  local fs = require "hgauto.fs"
  local dir = t.tmpdir()
  fs.write(dir .. "/f.lua", "require'hgauto.async'.sleep(0) return 9")
  t.is(dofile(dir .. "/f.lua"), 9, "dofile")
end)

t.test("a plain coroutine works as iterator inside a task", function()
  local sum = 0
  for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do
    async.sleep(0)
    sum = sum + v
  end
  t.is(sum, 6, "values")
  local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
  t.is({ coroutine.resume(co, 1) }, { true, 2 }, "resume gives what is yielded")
  t.is({ coroutine.resume(co, 4) }, { true, 8 }, "and what is returned")
  t.is(coroutine.resume(co), false, "a dead one")
  local good, err = pcall(coroutine.wrap(function() error("in it") end))
  t.ok(not good and tostring(err):find("in it"), "wrap passes errors on")
end)

t.test("tasks are no coroutines for scripts", function()
  async.scope(function(s)
    local co
    local h = s:spawn(function() co = coroutine.running() async.sleep(0.01) end)
    async.sleep(0)
    t.raises(function() coroutine.resume(co) end, { kind = "usage", match = "task" }, "resume")
    t.raises(function() coroutine.close(co) end, { kind = "usage", match = "task" }, "close")
    h:join()
  end)
  t.raises(function() coroutine.yield() end, { kind = "usage", match = "async.sleep" }, "yield")
end)

-- ---- limits ----

t.test("too many nested levels are a catchable error", function()
  local depth = 0
  local function deeper()
    depth = depth + 1
    return (async.timeout(10, function() return deeper() end))
  end
  local err = caught(deeper)
  t.ok(depth > 20, "more than 20 levels")
  t.like(tostring(err), "overflow", "text")
  t.is(async.timeout(1, function() async.sleep(0) return 5 end), 5, "everything works afterwards")
  local function pcalls(n) return select(2, pcall(function() return pcalls(n + 1) end)) end
  t.like(tostring(pcalls(1)), "overflow", "pcall, too")
end)

t.test("a stack overflow in a task is an error of it", function()
  local err = caught(async.scope, function(s)
    s:spawn(function() local function f() return 1 + f() end return f() end)
  end)
  t.is(err.kind, "runtime", "kind")
  t.like(tostring(err), "stack overflow", "text")
end)

-- ---- join, deadlock ----

t.test("a task cannot join itself", function()
  t.raises(function() async.current():join() end, { kind = "usage" }, "usage")
end)

t.test("join inside a cancelled scope raises cancelled", function()
  async.scope(function(s)
    local h = s:spawn(async.sleep, 0.02)
    local w = s:spawn(function() h:join() end)
    async.sleep(0)
    w:cancel()
    t.raises(function() w:join() end, { kind = "cancelled" }, "cancelled")
    t.is(h:status(), "running", "the other one goes on")
  end)
end)

-- ---- map ----

t.test("map keeps the order of the list and its limit", function()
  local now, most = 0, 0
  local r = async.map({ 5, 4, 3, 2, 1 }, function(v, i)
    now = now + 1
    most = math.max(most, now)
    async.sleep(v * 0.002)
    now = now - 1
    return v * 10 + i
  end, { limit = 2 })
  t.is(r, { 51, 42, 33, 24, 15 }, "results")
  t.is(most, 2, "two at a time")
  t.is(async.map({}, print), {}, "an empty list")
end)

t.test("map stops at the first failure", function()
  local started = 0
  t.raises(function()
    async.map({ 1, 2, 3, 4 }, function(v)
      started = started + 1
      if v == 2 then fail("io", "Two") end
      async.sleep(10)
    end, { limit = 2 })
  end, { code = "Two" }, "raises it")
  t.is(started, 2, "no further item")
end)

t.test("map with keep_going gives results and errors", function()
  local r, e = async.map({ 1, 2, 3 }, function(v)
    async.sleep(0)
    if v == 2 then fail("io", "Two") end
    return v
  end, { keep_going = true })
  t.is({ r[1], r[2], r[3] }, { 1, nil, 3 }, "results")
  t.is(e[2].code, "Two", "errors by index")
end)

t.test("map with keep_going still ends when cancelled", function()
  local n = 0
  t.raises(function()
    async.timeout(0.01, async.map, { 1, 2, 3, 4, 5, 6 }, function() n = n + 1 async.sleep(10) end,
      { keep_going = true, limit = 2 })
  end, { kind = "timeout" }, "timeout")
  t.is(n, 2, "no further item")
end)

-- ---- labels, values ----

t.test("labels nest and are inherited", function()
  async.scope(function(s)
    s:spawn(function()
      async.label("x64")
      s:spawn(function()
        t.is(async.label(), "x64", "inherited")
        t.is(async.label("build"), "x64/build", "nested")
        t.is(async.label("test"), "x64/test", "replaced, not nested again")
        t.is(tostring(async.current()):match("x64/test"), "x64/test", "in the handle's text")
      end)
    end)
  end)
  t.is(async.label(), "", "not outside")
end)

t.test("task-local values are inherited at spawn", function()
  async.local_set("lane", "a")
  async.scope(function(s)
    local h = s:spawn(function()
      t.is(async.local_get("lane"), "a", "inherited")
      async.local_set("lane", "b")
      async.sleep(0.005)
      t.is(async.local_get("lane"), "b", "own")
    end)
    async.sleep(0)
    async.local_set("lane", "c")
    h:join()
    t.is(async.local_get("lane"), "c", "not changed by the child")
  end)
  async.local_set("lane", nil)
  t.is(async.local_get("lane"), nil, "removed")
end)

-- ---- events, channels ----

t.test("an event wakes all who wait, once", function()
  local ev, got = async.event(), {}
  async.scope(function(s)
    for i = 1, 3 do
      s:spawn(function() got[i] = ev:wait() end)
    end
    async.sleep(0)
    t.ok(not ev:is_set(), "not set")
    t.is(ev:set("v"), true, "first")
    t.is(ev:set("w"), false, "later ones change nothing")
  end)
  t.is(got, { "v", "v", "v" }, "values")
  t.is(ev:wait(), "v", "a late one does not wait")
  t.raises(function() async.event():wait(0.01) end, { kind = "timeout" }, "with a limit")
end)

t.test("a cancelled waiter leaves the event", function()
  local ev = async.event()
  async.scope(function(s)
    local h = s:spawn(function() ev:wait() end)
    async.sleep(0)
    h:cancel()
    async.sleep(0)
    ev:set()
    t.is(h:status(), "cancelled", "status")
  end)
end)

t.test("a channel hands values over in order and holds no more than its size", function()
  local ch, got, sent = async.channel(2), {}, 0
  async.scope(function(s)
    s:spawn(function()
      for i = 1, 6 do ch:send(i) sent = i end
      ch:close()
    end)
    async.sleep(0)
    t.is(sent, 2, "the sender waits")
    for v in function() return ch:recv() end do got[#got + 1] = v end
  end)
  t.is(got, { 1, 2, 3, 4, 5, 6 }, "values")
  t.is(ch:recv(), nil, "closed and empty")
  t.raises(function() ch:send(1) end, { kind = "usage", code = "Closed" }, "send after close")
  t.raises(function() async.channel():send(nil) end, { kind = "usage" }, "nil")
end)

t.test("a cancelled receiver does not swallow a wake-up", function()
  local ch, got = async.channel(1), nil
  async.scope(function(s)
    local a = s:spawn(function() ch:recv() end)
    s:spawn(function() got = ch:recv() end)
    async.sleep(0)
    ch:send("v")
    a:cancel()
  end)
  t.is(got, "v", "the other one got it")
end)

-- ---- errors ----

t.test("strings become errors of kind runtime with a traceback", function()
  local err = caught(async.scope, function(s)
    s:spawn(function() error("boom") end)
  end)
  t.is(err.kind, "runtime", "kind")
  t.like(tostring(err), "async.lua:%d+: boom$", "text")
  t.like(err.traceback, "stack traceback", "traceback")
  t.like(err.where, "async.lua:%d+$", "where")
end)

t.test("errors are one line, know their code and join with ..", function()
  local err = require("hgauto.host").error { kind = "aws", code = "InvalidInstanceID.NotFound",
    message = "a\n   b" }
  t.is(tostring(err), "a b", "one line")
  t.is("x: " .. err, "x: a b", "concatenation")
  t.ok(err:is("Invalid*.NotFound") and not err:is("*.Duplicate") and err:is("aws"), "is")
  t.raises(function() require("hgauto.host").error { kind = "nope" } end, { kind = "bug" },
    "an unknown kind")
end)

t.test("foreign error objects keep their identity", function()
  local mine = setmetatable({}, { __name = "mine" })
  local err = caught(async.scope, function(s) s:spawn(function() error(mine, 0) end) end)
  t.ok(rawequal(err, mine), "the same object")
end)

t.test("an error keeps its first traceback", function()
  local err = caught(async.scope, function(s) s:spawn(function() error("x") end) end)
  local trace = err.traceback
  local again = caught(async.scope, function() error(err, 0) end)
  t.ok(rawequal(err, again) and again.traceback == trace, "it does")
end)

t.test("many tasks end, none is left", function()
  local n = 0
  async.scope(function(s)
    for i = 1, 3000 do
      s:spawn(function() async.sleep(i % 7 / 1000) n = n + 1 end)
    end
  end)
  t.is(n, 3000, "all ended")
end)

return t.done()
