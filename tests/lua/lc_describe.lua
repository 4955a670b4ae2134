-- Filters, id checks and page tokens of the local cloud.
local t = require "hg.tap"
local describe = require "localcloud.ec2.describe"

local function names(list)
  local out = {}
  for i, obj in ipairs(list) do
    out[i] = obj.id
  end
  return table.concat(out, " ")
end

t.test("filter values are globs with an escape", function()
  for _, case in ipairs {
    { "abc", "abc", true }, { "abc", "abd", false }, { "abc", "abcd", false },
    { "a*", "a", true }, { "a*", "abc", true }, { "*c", "abc", true }, { "*c", "abcd", false },
    { "a?c", "abc", true }, { "a?c", "ac", false }, { "?", "", false }, { "*", "", true },
    { "", "", true }, { "", "x", false }, { "*a*b*", "xxaxxbxx", true }, { "*a*b*", "ba", false },
    { "a\\*", "a*", true }, { "a\\*", "abc", false }, { "a\\?b", "a?b", true },
    { "a\\\\b", "a\\b", true }, { "a\\", "a\\", true }, { "A*", "abc", false },
    { "**a", "ba", true }, { "*aab", "aaaab", true }, { "a.c", "abc", false }, { "%a", "%a", true },
    { "many", "many", true }, { "any", "x", false },
  } do
    t.is(describe.glob(case[1], case[2]), case[3], ("%q on %q"):format(case[1], case[2]))
  end
end)

t.test("a hostile glob costs no exponential time", function()
  local clock = os.clock()
  t.is(describe.glob(("*a"):rep(40) .. "b", ("a"):rep(4000)), false, "it does not match")
  t.ok(os.clock() - clock < 2, "and says so soon")
end)

local LIST = {
  { id = "i-1", state = "running", groups = { "sg-1", "sg-2" }, n = 5, tags = { Name = "one" } },
  { id = "i-2", state = "stopped", groups = {}, tags = { Name = "two", x = "" } },
  { id = "i-3", state = "running", groups = { "sg-2" }, on = false, tags = {} },
}
local FIELDS = { ["instance-id"] = "id", state = "state", group = "groups", on = "on",
  n = function(obj)
    return obj.n
  end }

local function found(...)
  return names(describe.filter(LIST, { ... }, FIELDS))
end

t.test("filters are a conjunction of disjunctions", function()
  t.is(found(), "i-1 i-2 i-3", "no filter keeps all")
  t.is(found { Name = "state", Values = { "running" } }, "i-1 i-3", "one value")
  t.is(found { Name = "state", Values = { "stopped", "runn*" } }, "i-1 i-2 i-3", "values are ORed")
  t.is(found({ Name = "state", Values = { "running" } }, { Name = "group", Values = { "sg-1" } }),
    "i-1", "names are ANDed; lists match by any element")
  t.is(found { Name = "n", Values = { "5" } }, "i-1", "numbers compare as text")
  t.is(found { Name = "on", Values = { "false" } }, "i-3", "so do booleans")
  t.is(found { Name = "state", Values = {} }, "", "no value matches nothing")
end)

t.test("tags can be filtered everywhere", function()
  t.is(found { Name = "tag:Name", Values = { "t*" } }, "i-2", "tag:KEY")
  t.is(found { Name = "tag:x", Values = { "" } }, "i-2", "an empty value is a value")
  t.is(found { Name = "tag-key", Values = { "Name" } }, "i-1 i-2", "tag-key")
end)

t.test("unknown filters are refused", function()
  t.raises(function()
    found { Name = "colour", Values = { "red" } }
  end, { code = "InvalidParameterValue", match = "The filter 'colour' is invalid" }, "by name")
  t.raises(function()
    found { Values = { "red" } }
  end, { code = "InvalidParameterValue" }, "also without one")
end)

t.test("ids are checked for form, then for existence", function()
  local have = { ["i-0123456789abcdef0"] = { id = "i-0123456789abcdef0" } }
  local function get(id)
    return have[id]
  end
  t.is(#describe.by_ids("i", { "i-0123456789abcdef0", "i-0123456789abcdef0" }, get), 1,
    "each is found once")
  for _, id in ipairs { "i-", "i-1", "i-0123456789ABCDEF0", "ami-0123456789abcdef0", "",
    "i-0123456789abcdef01" } do
    t.raises(function()
      describe.by_ids("i", { id }, get)
    end, { code = "InvalidInstanceID.Malformed" }, ("%q is malformed"):format(id))
  end
  t.raises(function()
    describe.by_ids("i", { "i-01234567" }, get)
  end, { code = "InvalidInstanceID.NotFound", match = "The instance ID 'i%-01234567' does not" },
    "short ids are ids")
  t.raises(function()
    describe.by_ids("sg", { "sg-x" }, get)
  end, { code = "InvalidGroupId.Malformed" }, "groups have a code of their own")
end)

local SECRET = ("s"):rep(32)

local function page(params, size, weight)
  local list = {}
  for i = 1, 12 do
    list[i] = { id = ("i-%02d"):format(13 - i), created = i // 2, tags = {}, w = weight and i }
  end
  return describe.page(describe.sort(list), { op = "DescribeInstances", params = params,
    secret = SECRET, size = size, ids = "InstanceIds", weight = weight })
end

t.test("pages follow each other without loss", function()
  local seen, token, pages = {}, nil, 0
  repeat
    local list
    list, token = page({ MaxResults = 5, NextToken = token }, 1000)
    pages = pages + 1
    for _, obj in ipairs(list) do
      seen[#seen + 1] = obj.id
    end
  until not token
  t.is(pages, 3, "12 items are three pages of five")
  t.is(#seen, 12, "all items come")
  t.is(seen[1] .. " " .. seen[2] .. " " .. seen[3], "i-12 i-10 i-11",
    "by creation time, then by id")
  t.is(select(2, page({}, 12)), nil, "a full last page has no token")
end)

t.test("heavy items end a page early, one always fits", function()
  local function weight()
    return 7
  end
  t.is(#page({ MaxResults = 5 }, 1000, weight), 1, "one item heavier than the page")
  t.is(#page({}, 8, weight), 2, "the item that passes the limit is still shown")
end)

t.test("page tokens are bound to the question", function()
  local _, token = page({ MaxResults = 5 }, 1000)
  local function ask(params)
    return function()
      page(params, 1000)
    end
  end
  t.is(#page({ MaxResults = 6, NextToken = token }, 1000), 6, "another page size is fine")
  local refused = { code = "InvalidNextToken" }
  t.raises(ask { NextToken = token, Filters = { { Name = "x" } } }, refused, "other filters")
  t.raises(ask { NextToken = "" }, refused, "empty")
  t.raises(ask { NextToken = "!!" }, refused, "no base64")
  for _, at in ipairs { 1, 50, #token - 4 } do
    local c = token:sub(at, at) == "A" and "B" or "A"
    t.raises(ask { NextToken = token:sub(1, at - 1) .. c .. token:sub(at + 1) }, refused,
      ("altered at %d"):format(at))
  end
  t.raises(function()
    describe.untoken(("x"):rep(32), "DescribeInstances", {}, token)
  end, refused, "of another state directory")
end)

t.test("MaxResults has limits", function()
  for _, n in ipairs { -1, 0, 4, 1001 } do
    t.raises(function()
      page({ MaxResults = n }, 1000)
    end, { code = "InvalidParameterValue" }, tostring(n))
  end
  t.raises(function()
    page({ MaxResults = 5, InstanceIds = { "i-1" } }, 1000)
  end, { code = "InvalidParameterCombination" }, "not together with ids")
end)

return t.done()
