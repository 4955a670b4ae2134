-- hgauto.json: both directions, limits, lists.
local json = require "hgauto.json"
local t = require "hg.tap"

t.test("scalars", function()
  t.is(json.encode("a\"\\\n\0é"), '"a\\"\\\\\\n\\u0000é"', "string")
  t.is(json.encode(42), "42", "integer")
  t.is(json.encode(math.mininteger), "-9223372036854775808", "smallest integer")
  t.is(json.encode(true), "true", "boolean")
  t.is(json.encode(json.null), "null", "null")
  t.is(json.decode("9007199254740993"), 9007199254740993, "integers are exact")
  t.is(math.type(json.decode("1.0")), "float", "a float stays one")
  t.is(json.decode(json.encode(0.1)), 0.1, "floats read back the same")
  t.is(json.decode('"\\u00e4\\ud83d\\ude00"'), "ä😀", "escapes")
end)

t.test("lists and maps", function()
  t.is(json.encode { b = 1, a = { 1, 2 } }, '{"a":[1,2],"b":1}', "keys are sorted")
  t.is(json.encode {}, "{}", "an empty table is a map")
  t.is(json.encode(json.list {}), "[]", "unless it is a list")
  t.is(json.encode(json.list()), "[]", "made by list()")
  t.is(json.encode(json.decode "[[],{}]"), "[[],{}]", "decoded lists stay lists")
  t.is(json.encode({ a = { 1 } }, { indent = 2 }), '{\n  "a": [\n    1\n  ]\n}', "indented")
end)

t.test("null is a value in lists and absent in maps", function()
  local v = json.decode '{"a":null,"l":[null,1]}'
  t.is(v.a, nil, "absent")
  t.ok(v.l[1] == json.null and v.l[2] == 1, "a value")
  t.is(json.encode { a = json.null }, '{"a":null}', "written")
end)

t.test("what is no data is refused with its path", function()
  local function refused(v, pattern, name)
    t.raises(function() json.encode(v) end, { kind = "usage", match = pattern }, name)
  end
  refused({ a = { b = { 1, print } } }, "a%.b%[2%]: a function", "function")
  refused({ 1, nil, 3 }, "a list with holes", "hole")
  refused({ 1, x = 2 }, "list with string keys", "mixed keys")
  refused({ [1.5] = 2 }, "keys must be strings", "float key")
  refused({ [true] = 2 }, "keys must be strings", "boolean key")
  refused(0 / 0, "", "nan")
  refused(1 / 0, "", "inf")
  refused(coroutine.create(print), "thread", "thread")
  local loop = {}
  loop.x = { loop }
  refused(loop, "x%[1%]: the table contains itself", "cycle")
  local deep = {}
  for _ = 1, 200 do deep = { deep } end
  refused(deep, "deep", "depth")
  local same = {}
  t.is(json.encode { same, same }, "[{},{}]", "the same table twice is no cycle")
end)

t.test("bad texts", function()
  local bad = { "", "{", "[1,]", "{'a':1}", "01", "1 2", '"\1"', "nul", "\xff", '"\xff"' }
  for _, text in ipairs(bad) do
    t.raises(function() json.decode(text) end, { kind = "protocol" }, ("%q"):format(text))
  end
  t.raises(function() json.decode(("["):rep(200)) end, { kind = "protocol", code = "TooDeep" },
    "too deep")
  t.raises(function() json.decode {} end, {}, "no text")
end)

t.test("options are checked", function()
  t.raises(function() json.encode({}, { ident = 1 }) end, { kind = "usage", match = "indent" },
    "unknown")
  t.raises(function() json.encode({}, { indent = 99 }) end, { kind = "usage" }, "range")
end)

t.test("a large value goes through", function()
  local v = {}
  for i = 1, 20000 do v[i] = { id = i, name = "n" .. i, tags = { "a", "b" } } end
  local back = json.decode(json.encode(v))
  t.ok(#back == 20000 and back[20000].name == "n20000" and back[7].tags[2] == "b", "it does")
end)

return t.done()
