-- `hgauto report`: well-formed whatever is in it, nothing from elsewhere, fast.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"

if not proc.which "python3" then
  t.skip("python3 is missing (apt install python3)")
end

local dir = t.tmpdir()
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
fs.mkdir(dir .. "/state", { mode = 448 })

local function hgauto(...)
  return proc.run({ program, "--state-path", dir .. "/state", ... }, { check = false,
    timeout = 60, stdin = "", cwd = dir })
end

-- What another reader of XML finds: elements, attributes, text.
local READER = [[
import sys, xml.etree.ElementTree as E
root = E.parse(sys.argv[1]).getroot()
for e in root.iter():
    print(e.tag, sorted(e.attrib.items()), repr((e.text or "")))
]]

local function parsed(path)
  local r = proc.run({ "python3", "-c", READER, path }, { check = false, timeout = 60 })
  return r.code == 0 and r.out or nil, r.err
end

local HOSTILE = [==[
return function(ctx)
  ctx:step("<script>alert(1)</script>", function()
    ctx:log("%s", "</pre><b>\27[31mred\27[0m & \xff\xfe \0 \u{FFFF} ]]>")
  end)
  ctx:parallel({ '"><img src=x>', "long lane " .. ("x"):rep(200) }, function()
    ctx:step("wait", { kind = "wait" }, function() require("hgauto.async").sleep(0.05) end)
  end)
  require("hgauto.fs").write(ctx.dir .. "/<b>&", "x")
  ctx:artifact(ctx.dir .. "/<b>&")
  ctx:step("bad", function() error("it <failed> & \"fell\"") end)
end
]==]

t.test("hostile names and bytes stay text", function()
  fs.write(dir .. "/hostile.lua", HOSTILE)
  t.is(hgauto("run", "./hostile.lua").code, 1, "the run fails")
  local r = hgauto("report", "last", "--html", "page.html")
  t.is({ r.code, r.out }, { 0, dir .. "/page.html\n" }, "the page is written: " .. r.err)
  local text, err = parsed(dir .. "/page.html")
  t.ok(text, "it is XML; " .. err)
  for _, tag in ipairs { "script", "img", "b", "a", "link", "iframe", "object" } do
    t.ok(not ("\n" .. text):find("\n" .. tag .. " ", 1, true), "no element " .. tag)
  end
  t.ok(not text:find "%('on%l+'" and not text:find "%('src'" and not text:find "%('href'",
    "no attribute that runs or loads something")
  t.ok(not fs.read(dir .. "/page.html"):find "url%(", "no style that does")
  t.ok(fs.read(dir .. "/page.html"):find("default-src 'none'; style-src 'unsafe-inline'", 1, true),
    "and a policy against it")
  t.ok(text:find("it <failed> & \"fell\"", 1, true), "the failure is told")
  t.ok(text:find("✗ bad", 1, true), "and marked, not by colour alone")
  t.is(fs.stat(dir .. "/page.html").mode & 511, 384, "for the user alone")
end)

t.test("the summary is text, with the lines of what failed", function()
  local r = hgauto("report", "last")
  t.is(r.code, 0, "it ends well")
  t.like(r.out, "status    failed, exit 1", "status")
  t.like(r.out, "\nstep      bad failed", "steps")
  t.ok(not r.out:find "\27", "no escape")
end)

-- A record of so many steps, as a run would have written it.
local function long_record(n)
  local id = "20260101-0000-aaaa"
  local at = dir .. "/state/runs/" .. id
  fs.mkdir(at)
  fs.write(at .. "/lock", "")
  local lines, log = {}, {}
  for i = 1, n do
    local lane, step = "lane" .. i % 8, "step " .. i
    lines[#lines + 1] = json.encode { v = 1, seq = 2 * i, t = "2026-01-01T00:00:00.000Z",
      m = i * 100, ev = "step.start", lane = lane, step = step, kind = "run" }
    lines[#lines + 1] = json.encode { v = 1, seq = 2 * i + 1, t = "2026-01-01T00:00:00.000Z",
      m = i * 100 + 90, ms = 90, ev = "step.end", lane = lane, step = step, kind = "run",
      status = "ok", log = { (i - 1) * 20, 20 } }
    log[i] = ("%-19s\n"):format("line of " .. i)
  end
  lines[#lines + 1] = '{"v":1,"seq":99,"ev":"step.st' -- torn
  fs.write(at .. "/events.jsonl", table.concat(lines, "\n"))
  fs.write(at .. "/log.txt", table.concat(log))
  fs.write(at .. "/run.json", json.encode { v = 1, run = id, task = "long", status = "ok",
    exit = 0, started = "2026-01-01T00:00:00.000Z", ended = "2026-01-01T00:10:00.000Z",
    usd = 0.5, machines = { { id = "i-1", type = "t3.large", started = "2026-01-01T00:00:01.000Z",
      ended = "2026-01-01T00:09:00.000Z", usd_per_hour = 0.08, state = "terminated" } } })
  return id
end

t.test("10,000 events: a second of processor time, 2 MiB", function()
  local id = long_record(5000)
  local r = proc.run({ "sh", "-c", 'ulimit -t 2; "$@"', "sh", program, "--state-path",
    dir .. "/state", "report", id, "--html", dir .. "/long.html" }, { check = false, timeout = 60 })
  t.is(r.code, 0, "done within the limit of processor time; " .. r.err)
  local size = fs.stat(dir .. "/long.html").size
  t.ok(size < 3 << 20, ("%.1f MiB"):format(size / (1 << 20)))
  local text = parsed(dir .. "/long.html")
  t.ok(text, "it is XML")
  t.ok(text:find("step 4999", 1, true) and text:find("USD 0.0", 1, true), "all of it is there")
end)

t.test("no such run", function()
  t.is(hgauto("report", "20010101").code, 2, "refused")
  t.is(hgauto("report").code, 2, "which run?")
end)

return t.done()
