--- What run-tests.ps1 does on a simulated Windows: no test runs, their names decide.
--
-- "fail" in a name fails, "skip" skips, "flaky" passes when run again, "hang"
-- hangs; all others pass.  A test whose second line says "only when named" is
-- left out unless it is named.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local path_of = require("localcloud.winfiles").path

local M = {}

local MARK = "HGAUTO SIMULATED ARTIFACT\n"

local function second_line(text)
  return text:match("^[^\n]*\n([^\n]*)") or ""
end

local function all_tests(dir)
  local names = {}
  for _, name in ipairs(fs.list(dir)) do
    if (name:find "^test%-.*%.t$" or name:find "^test%-.*%.py$")
      and not second_line(fs.read(dir .. "/" .. name)):find("only when named", 1, true) then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

-- Flags that this stand-in knows; nil and the flag that it does not.
local function read_flags(flags)
  local o, i = { names = {}, blacklist = {} }, 1
  while flags[i] do
    local flag = flags[i]
    if flag == "--shard-total" or flag == "--shard-index" or flag == "--blacklist" then
      o[flag] = flags[i + 1]
      i = i + 1
    elseif flag == "--retest" then
      o.retest = true
    elseif flag:sub(1, 1) ~= "-" then
      o.names[#o.names + 1] = flag
    elseif not flag:find "^%-j%d+$" and flag ~= "--verbose" then
      return nil, flag
    end
    i = i + 1
  end
  return o
end

local function wanted(o, dir, out)
  local names = {}
  if o.retest then
    for _, name in ipairs(fs.list(out)) do
      names[#names + 1] = name:match "^(.*)%.err$"
    end
  elseif #o.names > 0 then
    for _, name in ipairs(o.names) do
      names[#names + 1] = fs.exists(dir .. "/" .. name) and name or nil
    end
  else
    names = all_tests(dir)
  end
  local total, index = tonumber(o["--shard-total"]), tonumber(o["--shard-index"])
  local mine = {}
  for i, name in ipairs(names) do
    if not total or (i - 1) % total == index - 1 then
      mine[#mine + 1] = name
    end
  end
  return mine
end

local function result_of(name, o)
  if name:find("hang", 1, true) then
    async.sleep(600)
  elseif name:find("skip", 1, true) then
    return "skip"
  elseif name:find("fail", 1, true) or (name:find("flaky", 1, true) and not o.retest) then
    return "failure"
  end
  return "success"
end

-- Names that --blacklist's file leaves out.
local function without(names, file)
  local out, list = {}, file and fs.read(file) or ""
  for _, name in ipairs(names) do
    if not ("\n" .. list):find("\n" .. name .. "\n", 1, true) then
      out[#out + 1] = name
    end
  end
  return out
end

local function run_all(pipe, o, dir, out)
  local report, failed, cases = {}, false, {}
  local list = o["--blacklist"] and path_of(pipe.root, o["--blacklist"])
  for _, name in ipairs(without(wanted(o, dir, out), list)) do
    pipe:output("(simulated) " .. name)
    local result = result_of(name, o)
    local err = out .. "/" .. name .. ".err"
    if fs.exists(err) then
      fs.remove(err)
    end
    report[name] = { result = result, time = "0.01" }
    if result == "failure" then
      failed = true
      fs.write(err, MARK .. "simulated failure\n")
      report[name].diff = "simulated failure\n"
    elseif result == "skip" then
      cases[#cases + 1] = ('<testcase name="%s"><skipped><![CDATA[simulated]]></skipped>'
        .. "</testcase>"):format(name)
    end
  end
  fs.write(out .. "/report.json", "testreport =" .. json.encode(report))
  fs.write(out .. "/xunit.xml", '<testsuite name="run-tests">' .. table.concat(cases)
    .. "</testsuite>")
  return failed and 1 or 0
end

--- run-tests.ps1
function M.run(pipe)
  local p = pipe.params
  local dir = path_of(pipe.root, "C:/hgdev/src/tests/x"):match "^(.*)/"
  local out = path_of(pipe.root, p.Out)
  fs.mkdir(out, { parents = true })
  if not fs.exists(path_of(pipe.root, p.Wheel)) then
    return nil, "no wheel " .. p.Wheel
  end
  local o, unknown = read_flags(type(p.Flags) == "table" and p.Flags or {})
  if not o then
    pipe:output("run-tests.py: error: unrecognized arguments: " .. unknown)
    pipe:output { Code = 2 }
    return 0
  end
  pipe:output { Code = run_all(pipe, o, dir, out) }
  return 0
end

return M
