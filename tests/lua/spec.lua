-- Declarations of arguments: values of each type, forms of options, help.
local t = require "hg.tap"
local spec = require "hg.spec"
local suggest = require "hg.suggest"
local arg = spec.arg

local function parse(list, ...)
  return spec.parse("cmd", spec.check(list, "test:1"), { ... })
end

local function fails(list, words, text, name)
  t.raises(function()
    parse(list, table.unpack(words))
  end, { kind = "usage", match = text }, name)
end

t.test("every type converts good values", function()
  local list = {
    arg.string { name = "s" }, arg.integer { name = "i" }, arg.number { name = "n" },
    arg.flag { name = "f" }, arg.enum { name = "e", "x86", "x64" }, arg.duration { name = "d" },
    arg.size { name = "z" }, arg.revision { name = "r" }, arg.region { name = "g" },
    arg.instance_type { name = "t" }, arg.instance { name = "m" },
  }
  local a = parse(list, "--s=x y", "--i", "-5", "--n", "1.5", "--f", "--e", "x64", "--d", "1h30m",
    "--z", "10M", "--r", "a::b", "--g", "eu-west-1", "--t", "t3.large", "--m", "i-0a1b")
  t.is(a.s, "x y", "string with a blank")
  t.is(a.i, -5, "negative integer as a value")
  t.is(a.n, 1.5, "number")
  t.is(a.f, true, "flag")
  t.is(a.e, "x64", "enum")
  t.is(a.d, 5400, "duration in seconds")
  t.is(a.z, 10 * 1024 * 1024, "size in bytes")
  t.is(a.r, "a::b", "revision")
  t.is(a.g, "eu-west-1", "region")
  t.is(a.t, "t3.large", "instance type")
  t.is(a.m, "i-0a1b", "instance")
end)

t.test("durations and sizes", function()
  for text, want in pairs { ["90"] = 90, ["90s"] = 90, ["20m"] = 1200, ["2d"] = 172800,
    ["0"] = 0 } do
    t.is(spec.duration(text), want, text)
  end
  for _, text in ipairs { "2w", "", "h", "1h1h", "-5", "31d", "1.5h" } do
    t.is(spec.duration(text), nil, "no duration: " .. text)
  end
  for text, want in pairs { ["10MB"] = 10000000, ["10MiB"] = 10485760, ["1K"] = 1024, ["7"] = 7,
    ["2G"] = 2147483648, ["3kB"] = 3000 } do
    t.is(spec.size(text), want, text)
  end
  for _, text in ipairs { "10MX", "M", "", "1.5G" } do
    t.is(spec.size(text), nil, "no size: " .. text)
  end
end)

t.test("bad values say what was expected", function()
  fails({ arg.duration { name = "max-age" } }, { "--max-age", "2w" },
    '^%-%-max%-age: "2w": expected a duration such as 90s, 20m or 2h$', "duration")
  fails({ arg.enum { name = "arch", "x86", "x64" } }, { "--arch", "x46" },
    '^%-%-arch: "x46": expected one of x86, x64; did you mean x', "enum with a suggestion")
  fails({ arg.integer { name = "n", min = 1, max = 32 } }, { "--n", "33" }, "at most 32", "range")
  fails({ arg.string { name = "s" } }, { "--s" }, "needs a value", "value missing")
  fails({ arg.flag { name = "f" } }, { "--f=1" }, "takes no value", "flag with a value")
end)

t.test("options: prefix, no-, short forms, last one wins, --", function()
  local list = { arg.string { name = "revision", short = "r" }, arg.flag { name = "keep" },
    arg.string { name = "resume" }, arg.flag { name = "quick", short = "x" } }
  local a = parse(list, "--rev", "a", "--no-keep", "-x")
  t.is(a.revision, "a", "unique prefix")
  t.is(a.keep, false, "--no-keep")
  t.is(a.quick, true, "short flag")
  t.is(parse(list, "-rb").revision, "b", "-rVALUE")
  t.is(parse(list, "-xr", "c").revision, "c", "bundled short options")
  t.is(parse(list, "--revision", "a", "--revision=b").revision, "b", "the last one wins")
  t.is(parse(list, "--", "--keep", "x").rest, { "--keep", "x" }, "words after --")
  fails(list, { "--re" }, "^%-%-re is ambiguous: %-%-resume, %-%-revision$", "ambiguous prefix")
  fails(list, { "--revison", "x" }, "unknown option %-%-revison; did you mean %-%-revision", "typo")
end)

t.test("underscores equal dashes", function()
  local list = { arg.string { name = "max_age" } }
  t.is(parse(list, "--max-age", "1").max_age, "1", "declared with _")
  t.is(parse({ arg.string { name = "max-age" } }, "--max_age", "1").max_age, "1", "given with _")
end)

t.test("multiple, greedy and positional arguments", function()
  local list = { arg.enum { name = "arch", "x86", "x64", multiple = true, greedy = true,
    default = { "x64" } }, arg.string { name = "what", positional = true, required = true } }
  t.is(parse(list, "w").arch, { "x64" }, "default of a list")
  local a = parse(list, "w", "--arch", "x86", "x64")
  t.is(a.arch, { "x86", "x64" }, "the predecessor's greedy list")
  t.is(parse(list, "w", "--arch=x86,x64").arch, { "x86", "x64" }, "commas")
  fails(list, {}, "^cmd: missing <what>$", "missing positional")
  fails(list, { "a", "b" }, 'unexpected argument "b"', "one too many")
end)

t.test("declarations are checked", function()
  local function bad(decl, text, name)
    t.raises(function()
      spec.check({ decl }, "my.lua:7", { plan = true })
    end, { kind = "usage", match = text }, name)
  end
  bad(arg.flag { name = "plan" }, 'spec%.lua:%d+: option "plan" is reserved for hgauto$',
    "reserved, with the line of the declaration")
  bad(arg.string { name = "a", defualt = 1 }, 'no field "defualt"; did you mean default', "field")
  bad(arg.enum { name = "a" }, "lists no values", "enum without values")
  bad(arg.string { name = "9x" }, "needs a name", "bad name")
  t.raises(function()
    return arg.sting {}
  end, { kind = "usage", match = "did you mean string" }, "unknown type")
end)

t.test("help fits the form", function()
  local text = spec.help("build-windows", {
    help = "Build the Windows packages.", example = "hgauto build-windows --arch x86",
    needs = { "ec2:RunInstances" },
    args = { arg.enum { name = "arch", "x86", "x64", multiple = true, default = { "x64" },
      help = "architecture" },
    arg.revision { name = "revision", short = "r", default = ".", help = "revision to build" } },
  })
  t.is(text, [[
usage: hgauto build-windows [options]
Build the Windows packages.
      --arch x86|x64 ...   architecture [default: x64]
  -r, --revision REVISION  revision to build [default: .]
example: hgauto build-windows --arch x86
needs:   ec2:RunInstances
]], "whole text")
end)

t.test("suggestions are ordered by distance, common prefix, name", function()
  t.is(suggest.near("buld-inno", { "build-inno", "build-wix", "list" }), { "build-inno" },
    "one edit")
  t.is(suggest.distance("ab", "ba"), 1, "a swap is one edit")
  t.is(suggest.near("zzzz", { "build" }), {}, "nothing near")
  t.is(#suggest.near("aaa", { "aab", "aac", "aad", "aae" }), 3, "at most three")
end)

return t.done()
