-- tests/tools/pscheck against texts whose state is known, and against broken
-- copies of every source of ours.
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local pscheck = dofile "tests/tools/pscheck/pscheck.lua"

local function one_line(text)
  return (text:gsub("\n", "\\n"))
end

t.test("valid code", function()
  for _, text in ipairs {
    "", "$a = 'it''s'\n", "$a = \"say \"\"hi\"\" `\" done\"\n", "'a # no comment'\n",
    "a # a comment with ' and \" and (\n", "a#b (1)\n", "<# any ' \" ( { #> f\n",
    "\"x $(f 'a' (\"in $(g)\")) y\"\n", "\"${a b}(\"\n", "${x)y} + 1\n",
    "$( @( @{ a = 1 } ) )[0]\n",
    "@'\n' \" ( $(\n'@\n", "@\"\n\" ' ( `$( $(f @'\n(\n'@\n)\n\"@\n", "$a = 'x' `\n  + 'y'\n",
    "`\" `' `(\n", "\"$$ $? $^ $a\"\n", "[int[]]$a\n", "\"a\nb\"\n", "'\n'\n", "\"`$(\"\n",
    "@'  \n(\n'@ + 'b'\n", "\"a`\nb\"\n", "1..3 | % { $_ }\n", "'@'\n", "\"'@\"\n",
    "@\"\nx \"@ y\n\"@\n", "\239\187\191f\n",
  } do
    local e = pscheck.check(text)[1]
    t.ok(not e, ("clean: %s %s"):format(one_line(text), e and e.message or ""))
  end
end)

t.test("broken code, with the place of what opened it", function()
  for _, c in ipairs {
    { "f {\n  g (\n}\n", 3, 1, "} where %) is to close %( of line 2" },
    { "f {\n", 1, 3, "{ is not closed" }, { ")\n", 1, 1, "%) closes nothing" },
    { "a\n  'b\n", 2, 3, "' is not closed" }, { "\"a`\"\n", 1, 1, "\" is not closed" },
    { "\"$(f\"\n", 1, 1, "is not closed" }, { "@'\nx\n '@\n", 1, 1, "@' is not closed" },
    { "@\"x\n\"@\n", 1, 1, "follows the head" }, { "<# a\n", 1, 1, "<# is not closed" },
    { "a `  \nb\n", 1, 3, "blanks follow the `" }, { "${a\n}\n", 1, 1, "name %${ is not closed" },
    { "\"x $(a ]\"\n", 1, 8, "%] where %) is to close %$%(" },
  } do
    local e = pscheck.check(c[1])[1] or {}
    t.is({ e.line, e.col }, { c[2], c[3] }, "place in " .. one_line(c[1]))
    t.like(e.message or "nothing", c[4], "what is wrong")
  end
end)

t.test("rules of our own sources", function()
  for text, what in pairs { ["'a\nb'\n"] = "over several lines", ["'a'b\n"] = "text follows",
    ["x'a'\n"] = "middle of a word", ["\228\n"] = "no ASCII", ["a\r\n"] = "no ASCII",
    ["a"] = "no line end", ["a \nb\n"] = "blanks at the end", ["a --% b\n"] = "stops parsing" } do
    t.is(#(pscheck.check(text)), 0, one_line(text) .. " is PowerShell")
    t.like((pscheck.check(text, true)[1] or {}).message or "nothing", what, "but refused")
  end
end)

local broken, dir = {}, t.tmpdir()
for _, name in ipairs(fs.list "scripts/windows") do
  local text = fs.read("scripts/windows/" .. name)
  local errors, at = pscheck.check(text, true)
  local missed = 0
  for _, i in ipairs(at) do
    local without = text:sub(1, i - 1) .. text:sub(i + 1)
    missed = missed + (#(pscheck.check(without, true)) == 0 and 1 or 0)
  end
  t.ok(#errors == 0 and missed == 0, ("%s: clean; each of its %d brackets and quotes is missed")
    :format(name, #at))
  -- One file of each for the program itself and for the grammar.
  if #at > 0 then
    local i = at[#at // 2 + 1]
    broken[#broken + 1] = dir .. "/" .. name
    fs.write(dir .. "/" .. name, text:sub(1, i - 1) .. text:sub(i + 1))
  end
end

t.test("the program", function()
  if not proc.which "lua5.4" then
    t.skip "no lua5.4"
  end
  local function run(...)
    return proc.run({ "lua5.4", "tests/tools/pscheck/pscheck.lua", ... }, { check = false })
  end
  for _, path in ipairs(broken) do
    local r = run("--style", path)
    t.is(r.code, 1, path:match "[^/]+$" .. ", broken: exit 1")
    t.is(r.out:sub(1, #path + 1), path .. ":", "the message begins with the file")
  end
  t.is(run("scripts/windows/lib.ps1").code, 0, "a clean one: exit 0")
  t.is(run(dir .. "/none").code, 2, "no file: exit 2")
end)

return t.done()
