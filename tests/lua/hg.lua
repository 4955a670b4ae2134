-- The task library's small parts: options, quoting, waits, formats, printing.
local t = require "hg.tap"
local hg = require "hg"
local pp = require "hg.pp"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

t.test("hg.opts fills defaults and refuses unknown keys", function()
  local o = hg.opts({ a = 2 }, { a = 1, b = 3, c = hg.none }, "f")
  t.is(o, { a = 2, b = 3 }, "defaults")
  t.raises(function()
    hg.opts({ timeot = 1 }, { timeout = 1 }, "f")
  end, { kind = "usage", match = "f: unknown option timeot; did you mean timeout" }, "typo")
  t.raises(function()
    hg.opts({ timeout = "2m" }, { timeout = 1 }, "f")
  end, { kind = "usage", match = "^f: timeout is a number, not a string" }, "another type")
end)

t.test("hg.sh.quote survives a shell", function()
  math.randomseed(42)
  for _ = 1, 50 do
    local bytes = {}
    for i = 1, math.random(1, 20) do
      bytes[i] = string.char(math.random(1, 255))
    end
    local text = table.concat(bytes)
    local r = proc.run { "/bin/sh", "-c", "printf %s " .. hg.sh.quote(text) }
    if r.out ~= text then
      t.is(r.out, text, "round trip")
      return
    end
  end
  t.ok(true, "50 random strings round trip")
  t.is(hg.sh.quote { "a b", "", "c" }, "'a b' '' c", "words")
end)

t.test("hg.wait returns what poll returns, or says what it waited for", function()
  local n = 0
  local v = hg.wait { what = "it", timeout = 5, every = 0.01, poll = function()
    n = n + 1
    return n == 3 and "done", "try " .. n
  end }
  t.is(v, "done", "value of poll")
  t.raises(function()
    hg.wait { what = "godot", timeout = 0.05, every = 0.01, poll = function()
      return nil, "not here"
    end }
  end, { kind = "timeout", match = "^waiting for godot: not within .* %(last: not here%)" },
    "timeout")
end)

t.test("formats", function()
  t.is(hg.format.duration(550), "9m10s", "minutes")
  t.is(hg.format.duration(45.2), "45s", "seconds")
  t.is(hg.format.duration(3720), "1h02m", "hours")
  t.is(hg.format.bytes(1468006), "1.4 MiB", "MiB")
  t.is(hg.format.bytes(5), "5 B", "bytes")
  t.is(hg.duration "1h", 3600, "duration")
end)

t.test("hg.task checks its fields", function()
  t.raises(function()
    hg.task { runn = print }
  end, { kind = "usage", match = 'no field "runn"; did you mean run' }, "typo")
  t.raises(function()
    hg.task { help = "x" }
  end, { kind = "usage", match = "has no function run" }, "no run")
  t.ok(hg.is_task(hg.task { run = print }), "a task is one")
end)

t.test("the printer cuts what is long and never loops", function()
  local loop = {}
  loop.me = loop
  t.like(pp.text(loop), "cycle", "cycle")
  local list = {}
  for i = 1, 30 do
    list[i] = i
  end
  t.like(pp.text(list), "… %+20", "long list")
  t.like(pp.text("a\27[31mb"), "\\x1b", "escape sequences are shown, not sent")
  t.is(pp.text("x"), '"x"', "string")
end)

t.test("hg.fail raises the common error", function()
  local e = t.raises(function()
    hg.fail { kind = "task", message = "no", hint = "try" }
  end, { kind = "task", match = "^no$" }, "fields")
  t.is(e.hint, "try", "hint")
  t.ok(time.mono() > 0, "clock")
end)

return t.done()
