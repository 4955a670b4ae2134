-- The host: loading, sandbox, require, what the standard library lost.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local t = require "hg.tap"
local dir = t.tmpdir()

local function file(name, text)
  fs.write(dir .. "/" .. name, text, { mode = 384 })
  return dir .. "/" .. name
end

t.test("load_file gives a chunk", function()
  t.is(host.load_file(file("a.lua", "return ...")) (5), 5, "which runs")
  t.is(host.load_file(file("b.lua", "#!/usr/bin/env hgauto\nreturn 6"))(), 6, "first line #!")
  t.is(host.load_file(file("c.lua", "return x"), { x = 7 })(), 7, "with an environment")
end)

t.test("load_file refuses what others could have written", function()
  local f = file("w.lua", "return 1")
  fs.chmod(f, 438)
  t.raises(function() host.load_file(f) end, { kind = "load" }, "writable by others")
  t.raises(function() host.load_file(dir) end, { kind = "load" }, "a directory")
  t.raises(function() host.load_file(dir .. "/none.lua") end, { kind = "notfound" }, "missing")
  t.raises(function() host.load_file(file("s.lua", "x =")) end,
    { kind = "load", code = "Syntax", match = "s%.lua:1:" }, "syntax error with place")
end)

t.test("bytecode is never loaded", function()
  local code = string.dump(function() return 1 end)
  t.raises(function() host.load_file(file("x.lua", code)) end, { kind = "load", match = "binary" },
    "load_file")
  t.raises(function() host.load_text(code, "x") end, { kind = "load" }, "load_text")
  t.is(load(code), nil, "load")
  t.is(load(code, "x", "b"), nil, "load with mode b")
  t.is(load("return 5", "x", "bt")(), 5, "text goes")
  t.is(load("return y", "x", "t", { y = 6 })(), 6, "with an environment")
  local parts = { "return ", "7" }
  t.is(load(function() return table.remove(parts, 1) end)(), 7, "from a function")
  t.raises(function() loadfile(dir .. "/x.lua") end, { kind = "load" }, "loadfile")
  t.raises(function() dofile(dir .. "/x.lua") end, { kind = "load" }, "dofile")
end)

t.test("while a file is loaded effects raise load", function()
  local p = { "print", "io.write", "os.exit", "os.execute", "io.popen", "os.remove", "os.rename",
    "os.tmpname", "io.tmpfile" }
  for _, name in ipairs(p) do
    local lib, fn = name:match("^(%w+)%.(%w+)$")
    local f = lib and _G[lib][fn] or _G[name]
    local err = t.raises(function() host.sandbox(f, "x", "y") end, { kind = "load" }, name)
    t.like(tostring(err), ": " .. name:gsub("%.", "%%.") ..
      " called while the file is loaded; move it into run$", name .. ": text")
  end
  for _, mode in ipairs { "w", "a", "r+" } do
    t.raises(function() host.sandbox(io.open, dir .. "/new", mode) end, { kind = "load" },
      "io.open " .. mode)
  end
  t.raises(function() host.sandbox(function() io.stdout:write("x") end) end, { kind = "load" },
    "file:write")
  t.raises(function() host.sandbox(async.sleep, 0) end, { kind = "load" }, "a wait")
  t.raises(function() host.sandbox(async.spawn, print) end, { kind = "load" }, "spawn")
  t.is(host.sandbox(function(a) return a + 1, io.open("/dev/null") ~= nil end, 1), 2, "reading")
  t.ok(not fs.exists(dir .. "/new"), "nothing was made")
end)

t.test("loading is limited in steps and memory", function()
  t.raises(function() host.sandbox(function() while true do end end) end,
    { kind = "load", code = "TooLong" }, "steps")
  t.raises(function()
    host.sandbox(function()
      while true do
        pcall(function() while true do end end)
      end
    end)
  end, { kind = "load", code = "TooLong" }, "steps, with pcall")
  t.raises(function() host.sandbox(coroutine.wrap(function() while true do end end)) end,
    { kind = "load" }, "steps, in a coroutine")
  t.raises(function()
    host.sandbox(function()
      local l = {}
      while true do l[#l + 1] = ("x"):rep(1e6) .. #l end
    end)
  end, { kind = "load", code = "TooMuchMemory" }, "memory")
  t.ok(pcall(host.sandbox, function() end), "usable afterwards")
  async.sleep(0)
end)

t.test("the standard library is cut to size", function()
  t.raises(function() os.exit(1) end, { kind = "usage", match = "use ctx:exit" }, "os.exit")
  t.raises(function() os.execute("true") end, { kind = "usage" }, "os.execute")
  t.raises(function() io.popen("true") end, { kind = "usage" }, "io.popen")
  t.raises(function() os.setlocale("C") end, { kind = "usage" }, "os.setlocale")
  t.is({ package.path, package.cpath, package.loadlib }, { "", "", nil }, "package")
  t.is({ debug.sethook, debug.getregistry, debug.setmetatable, debug.getmetatable }, {}, "debug")
  t.like(debug.traceback("x"), "^x\nstack traceback", "debug.traceback stays")
  t.is(require "debug", debug, "require gives the same debug")
end)

t.test("require finds modules beside the script, built-in ones first", function()
  file("mine.lua", "return { n = 5 }")
  fs.mkdir(dir .. "/hgauto")
  file("hgauto/json.lua", "return 'shadow'")
  file("main.lua", "return require('mine').n, require('hgauto.json')")
  local n, json = host.load_file(dir .. "/main.lua")()
  t.is(n, 5, "the script's directory")
  t.is(json, require "hgauto.json", "cannot be shadowed")
  t.raises(function() require "no.such" end, { match = "no built%-in module" }, "missing")
  t.is(pcall(require, "../x"), false, "no way out of the directory")
end)

t.test("embedded files", function()
  local embed = require "hgauto.embed"
  t.like(embed.read("lib/hg/tap.lua"), "^%-%-%- Test library", "read")
  t.is(embed.read("no/such"), nil, "absent")
  local found = {}
  for _, name in ipairs(embed.list("lib/hgauto/")) do found[name] = true end
  t.ok(found["lib/hgauto/async.lua"], "list")
end)

t.test("versions, environment, process", function()
  t.like(host.version.lua, "^5%.4%.", "Lua")
  t.like(host.version().openssl, "^3%.", "OpenSSL, called")
  host.setenv("HGAUTO_TEST_X", "1")
  t.is(host.getenv("HGAUTO_TEST_X"), "1", "setenv")
  host.setenv("HGAUTO_TEST_X", nil)
  t.is(host.getenv("HGAUTO_TEST_X"), nil, "removed")
  t.ok(host.pid() > 1, "pid")
  t.is(host.press(), 0, "no press")
  t.is(host.cancel_reason(), nil, "not interrupted")
end)

t.test("classes: colon, type, closed metatables", function()
  local ev = async.event()
  t.raises(function() ev.set() end, { kind = "usage", match = "call it with a colon" }, "dot call")
  t.raises(function() ev.set({}) end, { kind = "usage" }, "wrong object")
  t.is(getmetatable(ev), false, "the metatable is hidden")
  t.raises(function() async.sleep("abc") end, { kind = "usage", match = "duration" }, "duration")
  async.sleep("0s")
end)

t.test("a memory error is an error of kind memory, and the program goes on", function()
  local err = select(2, pcall(async.scope, function() return ("x"):rep(1 << 40) end))
  t.ok(err.kind == "memory" or err.kind == "runtime", "kind " .. tostring(err.kind))
  t.is(async.timeout(1, function() return 5 end), 5, "works afterwards")
end)

t.test("time", function()
  local time = require "hgauto.time"
  t.is(time.iso(1700000000), "2023-11-14T22:13:20Z", "iso")
  t.is(time.iso(1700000000.25, { ms = true }), "2023-11-14T22:13:20.250Z", "with ms")
  t.is(time.parse("2023-11-14T22:13:20Z"), 1700000000, "parse")
  t.is(time.parse("Tue, 14 Nov 2023 22:13:20 GMT"), 1700000000, "parse RFC 1123")
  t.raises(function() time.parse("soon") end, { kind = "usage" }, "no time")
  t.is(time.local_text(0, "%Y"):match("^19[67]%d$") ~= nil, true, "local text")
  t.ok(time.now() > 1.7e9 and time.mono() > 0, "clocks")
end)

t.test("term", function()
  local term = require "hgauto.term"
  t.is(term.filter("a\27[31mb\27]0;x\7c\rd\n"), "d\n", "the last segment of a line stays")
  t.is(term.filter("\27[1mx\27[0m\7"), "x\\x07", "SGR dropped, controls shown")
  t.is({ term.columns("aä漢"), term.cut("aä漢x", 4) }, { 4, "aä漢" }, "width")
  t.ok(term.width(1) > 0, "width of a terminal")
  t.is(term.color("never"), false, "color never")
  t.is(term.color("always"), true, "color always")
  term.color("auto")
end)

return t.done()
