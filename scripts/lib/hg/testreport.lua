--- Results of Mercurial's test suite: reading what run-tests.py leaves, joining
--- shards, judging, writing report.json and xunit.xml.
local hg = require "hg"
local json = require "hgauto.json"

local M = {}

local RESULTS = { success = true, failure = true, skip = true }

--- Reads report.json of run-tests.py.
-- @param text string `testreport =` and a JSON object
-- @return table name -> {result=, time=, …}
-- @raise protocol it is none
function M.parse(text)
  local body = text:match("^%s*testreport%s*=%s*(.*)$")
  local ok, doc = pcall(json.decode, body or "")
  if not ok or type(doc) ~= "table" then
    hg.fail { kind = "protocol", message = "report.json of run-tests.py is unreadable" }
  end
  for name, entry in pairs(doc) do
    if type(name) ~= "string" or type(entry) ~= "table" or not RESULTS[entry.result] then
      hg.fail { kind = "protocol",
        message = ("report.json of run-tests.py: no result for %s"):format(tostring(name)) }
    end
  end
  return doc
end

local ENTITIES = { lt = "<", gt = ">", quot = '"', apos = "'", amp = "&" }

local function unescape(text)
  return (text:gsub("&(%a+);", ENTITIES))
end

--- Why tests were skipped, as xunit.xml of run-tests.py says.
-- Only skips of the report are looked up, so a strange file costs reasons only.
-- @param text string
-- @return table name -> reason
function M.skip_reasons(text)
  local reasons = {}
  text = text:gsub("<testcase[^<>]-/>", "")
  for attributes, body in text:gmatch("<testcase%s([^<>]-)>(.-)</testcase>") do
    local name = attributes:match('name="([^"]*)"')
    local why = body:match("<skipped[^>]*>(.-)</skipped>")
      or body:match('<skipped message="([^"]*)"')
    if name and why then
      why = why:match("^%s*<!%[CDATA%[(.-)%]%]>%s*$") or unescape(why)
      reasons[unescape(name)] = why:match("^%s*(.-)%s*$")
    end
  end
  return reasons
end

local function number(v)
  return tonumber(v) or 0
end

local function entry_of(name, e, shard)
  return {
    name = name, result = e.result, seconds = number(e.time), shard = shard.index,
    reason = e.result == "skip" and (shard.reasons or {})[name] or nil,
    diff = e.result == "failure" and type(e.diff) == "string" and e.diff ~= "" and e.diff or nil,
    flaky = (shard.flaky or {})[name] and e.result == "success" and true or nil,
  }
end

--- Joins the results of shards.
-- @param shards table[] {index=, report=from parse, reasons=, flaky=set of names}
-- @return table {tests=list sorted by name, totals={tests, ran, passed, failed, skipped, flaky}}
-- @raise task a test is in two shards
function M.join(shards)
  local tests, seen = {}, {}
  for _, shard in ipairs(shards) do
    for name, e in pairs(shard.report) do
      if seen[name] then
        hg.fail { kind = "task", message = ("run-tests.py itself failed: %s ran in shard %d and %d")
          :format(name, math.min(seen[name], shard.index), math.max(seen[name], shard.index)) }
      end
      seen[name] = shard.index
      tests[#tests + 1] = entry_of(name, e, shard)
    end
  end
  table.sort(tests, function(a, b)
    return a.name < b.name
  end)
  local n = { tests = #tests, ran = 0, passed = 0, failed = 0, skipped = 0, flaky = 0 }
  local count = { success = "passed", failure = "failed", skip = "skipped" }
  for _, e in ipairs(tests) do
    n[count[e.result]] = n[count[e.result]] + 1
    n.flaky = n.flaky + (e.flaky and 1 or 0)
  end
  n.ran = n.passed + n.failed
  return { tests = tests, totals = n }
end

--- What is wrong with one shard's run, or nil: judged by exit status and report.
-- @param code integer|nil exit status, nil after a signal
-- @param signal string|nil
-- @param report table|nil from parse
-- @return string|nil
function M.broken(code, signal, report)
  local why
  if signal then
    why = "killed by signal " .. signal
  elseif code ~= 0 and code ~= 1 then
    why = "exit " .. tostring(code)
  elseif not report then
    why = "no report"
  else
    local failed = false
    for _, e in pairs(report) do
      failed = failed or e.result == "failure"
    end
    if code == 1 and not failed then
      why = "exit 1 without a failed test"
    elseif code == 0 and failed then
      why = "exit 0 with a failed test"
    end
  end
  return why and ("run-tests.py itself failed (%s)"):format(why)
end

--- The verdict over all shards: nil when all is well.
-- @param joined table from join
-- @return string|nil "no tests ran" or "3 of 1076 tests failed: test-a.t, …"
function M.verdict(joined)
  local n = joined.totals
  if n.ran == 0 then
    return "no tests ran"
  elseif n.failed == 0 then
    return nil
  end
  local names = {}
  for _, e in ipairs(joined.tests) do
    if e.result == "failure" and #names < 10 then
      names[#names + 1] = e.name
    end
  end
  local more = n.failed > #names and (" and %d more"):format(n.failed - #names) or ""
  return ("%d of %d tests failed: %s%s"):format(n.failed, n.ran, table.concat(names, ", "), more)
end

-- XML 1.0 knows no control characters but tab and line ends, and no half UTF-8.
local function xml(text)
  if not utf8.len(text) then
    text = text:gsub("[\128-\255]", "?")
  end
  text = text:gsub("[%z\1-\8\11\12\14-\31\127]", "?"):gsub("\239\191[\190\191]", "?")
  return (text:gsub('[<>&"]', { ["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;",
    ['"'] = "&quot;" }))
end

local function testcase(e)
  local head = ('    <testcase classname="%s" name="%s" time="%.3f"'):format(
    xml(e.name:match("^(.-)%.[^.]*$") or e.name), xml(e.name), e.seconds)
  if e.result == "skip" then
    return ('%s>\n      <skipped message="%s"/>\n    </testcase>\n'):format(head,
      xml(e.reason or ""))
  elseif e.result == "failure" then
    return ('%s>\n      <failure message="failed">%s</failure>\n    </testcase>\n'):format(head,
      xml(e.diff or ""))
  end
  return head .. "/>\n"
end

--- The results as an xunit document, one testsuite per shard.
-- @param joined table from join
-- @return string
function M.xunit(joined)
  local suites, order = {}, {}
  for _, e in ipairs(joined.tests) do
    local s = suites[e.shard]
    if not s then
      s = { tests = 0, failures = 0, skipped = 0, seconds = 0 }
      suites[e.shard], order[#order + 1] = s, e.shard
    end
    s.tests, s.seconds = s.tests + 1, s.seconds + e.seconds
    s.failures = s.failures + (e.result == "failure" and 1 or 0)
    s.skipped = s.skipped + (e.result == "skip" and 1 or 0)
    s[#s + 1] = testcase(e)
  end
  table.sort(order)
  local out = { '<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n' }
  for _, index in ipairs(order) do
    local s = suites[index]
    out[#out + 1] = ('  <testsuite name="shard-%d" tests="%d" failures="%d" errors="0" '
      .. 'skipped="%d" time="%.3f">\n'):format(index, s.tests, s.failures, s.skipped, s.seconds)
    table.move(s, 1, #s, #out + 1, out)
    out[#out + 1] = "  </testsuite>\n"
  end
  out[#out + 1] = "</testsuites>\n"
  return table.concat(out)
end

return M
