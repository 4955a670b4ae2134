-- Fault rules of the local cloud: matching, counting, what is refused.
local t = require "hg.tap"
local faults = require "localcloud.faults"

local function event(action, params)
  return { service = "ec2", action = action, params = params or {} }
end

-- Which of n events a rule acts on, as text of digits.
local function hits(rule, n)
  local f = faults.new()
  f:add { rule }
  local out = {}
  for i = 1, n do
    out[i] = f:pick("before", event "RunInstances") and "x" or "."
  end
  return table.concat(out)
end

t.test("counters decide when a rule acts", function()
  local effect = { throttle = true }
  t.is(hits({ effect = effect }, 4), "xxxx", "always")
  t.is(hits({ effect = effect, first = 2 }, 4), "xx..", "the first two")
  t.is(hits({ effect = effect, nth = 3 }, 4), "..x.", "the third")
  t.is(hits({ effect = effect, every = 2 }, 5), ".x.x.", "every second")
  t.is(hits({ effect = effect, max = 1, every = 2 }, 6), ".x....", "at most once")
end)

t.test("chance is the same for the same seed", function()
  local rule = { effect = { throttle = true }, prob = 0.5, seed = 7 }
  local first = hits(rule, 200)
  t.is(hits(rule, 200), first, "twice the same")
  local _, n = first:gsub("x", "")
  t.ok(n > 70 and n < 130, "about half of them: " .. n)
  t.ok(hits({ effect = { throttle = true }, prob = 0.5, seed = 8 }, 200) ~= first,
    "another seed, another sequence")
end)

t.test("rules match service, action, resource and parameters", function()
  local function fits(match, e)
    local f = faults.new()
    f:add { { match = match, effect = { throttle = true } } }
    return f:pick("before", e) ~= nil
  end
  local run = event("RunInstances", { ImageId = "ami-1", Tags = { { Key = "a", Value = "b" } } })
  t.ok(fits({ service = "ec2", action = "Run*" }, run), "globs")
  t.ok(not fits({ service = "iam" }, run), "another service")
  t.ok(fits({ param = { ImageId = "ami-*" } }, run), "a parameter")
  t.ok(not fits({ param = { KeyName = "*" } }, run), "a parameter that is not there")
  t.ok(fits({ resource = "ami-1" }, run), "anything named in the request")
  t.ok(not fits({ instance = "i-1" }, run), "an instance that is not")
end)

t.test("the first rule that is due acts, and says so", function()
  local f = faults.new()
  local ids = f:add { { id = "one", first = 1, effect = { throttle = true } },
    { effect = { deny = true } } }
  t.is(ids, { "one", "f2" }, "ids are given or made")
  t.is(f:pick("before", event "X").id, "one", "first the first")
  t.is(f:pick("before", event "X").id, "f2", "then the second")
  t.is(f:pick("after", event "X"), nil, "each at its moment")
  t.is({ f:rows()[1].seen, f:rows()[1].hits }, { 2, 1 }, "what was seen and done is counted")
  t.is(f:clear "one", 1, "one can be removed")
  t.is(f:clear(), 1, "and all")
end)

local function refused(rule, match)
  t.raises(function()
    faults.new():add { rule }
  end, { kind = "usage", match = match }, match)
end

t.test("a bad rule is refused with one sentence", function()
  refused({ effect = {} }, "exactly one of")
  refused({ effect = { throttle = true, deny = true } }, "exactly one of")
  refused({ effect = { thorttle = true } }, 'unknown effect "thorttle"; known: .*throttle')
  refused({ efect = {} }, 'unknown field "efect"')
  refused({ effect = { rst = true }, match = { acton = "x" } }, 'unknown match "acton"')
  refused({ effect = { rst = true }, nth = 0 }, "nth must be")
  refused({ effect = { rst = true }, prob = 2 }, "prob must be")
  refused({ effect = { rst = true }, when = "never" }, "when is one of")
  refused({ effect = { garble = "x" } }, "garble is one of")
  refused({ effect = { error = {} } }, "error needs")
  local f = faults.new()
  pcall(f.add, f, { { effect = { rst = true } }, { effect = {} } })
  t.is(f:count(), 0, "a bad one among good ones adds none")
end)

t.test("faults of machines have their own moment", function()
  local f = faults.new()
  f:add { { match = { instance = "i-1" }, first = 1, effect = { kill = 3 } } }
  t.is(f:guest({ action = "run", instance = "i-2" }, "kill"), nil, "another machine")
  t.is(f:guest({ action = "run", instance = "i-1" }, "kill"), 3, "the one named")
  t.is(f:guest({ action = "run", instance = "i-1" }, "kill"), nil, "once")
  t.is(f:guest({ action = "run", instance = "i-1" }, "terminate"), nil, "another effect")
end)

return t.done()
