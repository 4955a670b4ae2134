-- Results of run-tests.py: reading, joining, judging, writing.
local t = require "hg.tap"
local hg = require "hg"
local proc = require "hgauto.proc"
local testreport = require "hg.testreport"

local function report(entries)
  local json = require "hgauto.json"
  return testreport.parse("testreport =" .. json.encode(entries))
end

t.test("report.json is read", function()
  local r = report {
    ["test-a.t"] = { result = "success", time = "1.25" }, ["test-b.t"] = { result = "skip" },
  }
  t.is(r["test-a.t"].time, "1.25", "numbers stay as they were written")
  t.is(r["test-b.t"], { result = "skip" }, "a skip may have a result only")
  for _, bad in ipairs { "", "{}", "testreport =", "testreport ={", "testreport =[1]",
    'testreport ={"a": {}}', 'testreport ={"a": {"result": "fine"}}' } do
    t.raises(function()
      testreport.parse(bad)
    end, { kind = "protocol" }, ("%q is refused"):format(bad))
  end
end)

t.test("reasons of skips", function()
  local reasons = testreport.skip_reasons([==[<?xml version="1.0"?><testsuite>
    <testcase name="test-a.t" time="1"/>
    <testcase name="test-&lt;b&gt;.t"><skipped><![CDATA[no a <b> & c]]></skipped></testcase>
    <testcase name="test-c.t"><skipped message="no &quot;x&quot;"/></testcase></testsuite>]==])
  t.is(reasons, { ["test-<b>.t"] = "no a <b> & c", ["test-c.t"] = 'no "x"' },
    "CDATA and attribute")
  t.is(testreport.skip_reasons("<testcase <<<"), {}, "garbage costs the reasons only")
end)

local function joined()
  return testreport.join {
    { index = 1, report = report {
      ["test-a.t"] = { result = "success", time = "1" },
      ["test-b.t"] = { result = "failure", time = "2", diff = "a <b> \27 \255" } } },
    { index = 2, reasons = { ["test-c.t"] = "no c" }, flaky = { ["test-d.t"] = true },
      report = report { ["test-c.t"] = { result = "skip" },
        ["test-d.t"] = { result = "success", time = "0.5" } } },
  }
end

t.test("shards are joined", function()
  local j = joined()
  t.is(j.totals, { tests = 4, ran = 3, passed = 2, failed = 1, skipped = 1, flaky = 1 }, "totals")
  t.is(j.tests[3].reason, "no c", "the reason of a skip")
  t.is({ j.tests[4].name, j.tests[4].shard, j.tests[4].flaky }, { "test-d.t", 2, true }, "flaky")
  local one = { index = 1, report = report { ["test-a.t"] = { result = "skip" } } }
  t.raises(function()
    testreport.join { one, { index = 2, report = one.report } }
  end, { kind = "task", match = "test%-a%.t ran in shard 1 and 2" }, "a test in two shards")
end)

t.test("verdicts", function()
  t.is(testreport.verdict(joined()), "1 of 3 tests failed: test-b.t", "a failure")
  local function of(entries)
    return testreport.verdict(testreport.join { { index = 1, report = report(entries) } })
  end
  t.is(of { a = { result = "success" }, b = { result = "skip" } }, nil, "all well")
  t.is(of { b = { result = "skip" } }, "no tests ran", "only skips are no success")
  local ok, bad = { a = { result = "success" } }, { a = { result = "failure" } }
  for _, case in ipairs {
    { 0, nil, ok, nil }, { 1, nil, bad, nil }, { 0, nil, {}, nil },
    { 1, nil, ok, "exit 1 without a failed test" }, { 0, nil, bad, "exit 0 with a failed test" },
    { 3, nil, ok, "exit 3" }, { 255, nil, nil, "exit 255" }, { 0, nil, nil, "no report" },
    { nil, "KILL", ok, "killed by signal KILL" },
  } do
    local code, signal, entries, want = case[1], case[2], case[3], case[4]
    t.is(testreport.broken(code, signal, entries),
      want and ("run-tests.py itself failed (%s)"):format(want),
      ("status %s: %s"):format(code or signal, want or "usable"))
  end
end)

t.test("xunit.xml is well-formed and counts right", function()
  local text = testreport.xunit(joined())
  local r = proc.run({ "python3", "-c", [[
import sys, xml.etree.ElementTree as e
for s in e.fromstring(sys.stdin.buffer.read()):
    print(s.get('name'), s.get('tests'), s.get('failures'), s.get('skipped'),
          [(c.get('name'), [x.tag for x in c]) for c in s])
]] }, { stdin = text })
  t.is(r.out, "shard-1 2 1 0 [('test-a.t', []), ('test-b.t', ['failure'])]\n"
    .. "shard-2 2 0 1 [('test-c.t', ['skipped']), ('test-d.t', [])]\n",
    "as another parser reads it")
end)

-- ---- versions of Debian packages ----

t.test("versions of packages", function()
  local dv = hg.linux.debian_version
  for from, to in pairs {
    ["7.0.1"] = "7.0.1~trixie1", ["7.1rc0"] = "7.1~rc0~trixie1",
    ["7.0.1.post1.dev3+hb9670a9"] = "7.0.1+post1.dev3.hb9670a9~trixie1",
    ["7.1b2"] = "7.1~b2~trixie1",
  } do
    t.is(dv(from, "trixie"), to, from)
  end
  if not proc.which "dpkg" then
    return
  end
  local order = { "7.0", "7.0.1", "7.0.1.post1.dev3+hb9670a9", "7.1b2", "7.1rc0",
    "7.1rc0.post1.dev2+habc", "7.1" }
  for i = 2, #order do
    local r = proc.run({ "dpkg", "--compare-versions", dv(order[i - 1], "trixie"), "lt",
      dv(order[i], "trixie") }, { check = false })
    t.is(r.code, 0, ("%s is before %s"):format(order[i - 1], order[i]))
  end
end)

return t.done()
