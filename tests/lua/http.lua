-- hgauto.http: arguments, errors, body targets. Answers come from hgauto.httpd.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local http = require "hgauto.http"
local httpd = require "hgauto.httpd"
local t = require "hg.tap"

local last
local server <close> = httpd.new { on_request = function(r)
  last = r
  if r.path == "/big" then
    r:respond { body = ("0123456789abcdef"):rep(65536) }
  elseif r.path == "/slow" then
    async.sleep(20)
  elseif r.path == "/missing" then
    r:respond { status = 404, body = "no such thing" }
  elseif r.path == "/redirect" then
    r:respond { status = 302, headers = { Location = "/big" } }
  elseif r.path == "/cut" then
    local n = 0
    r:respond { length = 100000, body = function()
      n = n + 1
      return n < 3 and ("x"):rep(1000) or nil
    end }
  else
    r:respond { body = r.method .. " " .. r.body }
  end
end }
local base = ("http://127.0.0.1:%d"):format(server:listen {})

t.test("requests", function()
  local r = http.request { url = base .. "/" }
  t.is({ r.status, r.body, r.reused }, { 200, "GET ", false }, "GET")
  t.like(last.headers["user-agent"], "^hgauto/", "says who it is")
  t.is(last.headers.expect, nil, "no Expect")
  r = http.request { method = "POST", url = base .. "/", body = "x=1",
    headers = { ["User-Agent"] = "me", ["Content-Type"] = "a/b", ["X-Empty"] = "" } }
  t.is(r.body, "POST x=1", "POST")
  t.ok(r.reused, "on the kept connection")
  t.is({ last.headers["user-agent"], last.headers["content-type"], last.headers["x-empty"],
    last.headers["content-length"] }, { "me", "a/b", "", "3" }, "headers")
  t.is(http.request({ method = "HEAD", url = base .. "/big" }).body, "", "HEAD")
  r = http.request { url = base .. "/redirect" }
  t.is({ r.status, r.headers.location }, { 302, "/big" }, "redirects are not followed")
  t.ok(r.seconds >= 0 and r.received == 0, "seconds, received")
  t.ok(not http.request({ url = base, fresh = true }).reused, "fresh")
end)

t.test("arguments", function()
  t.raises(function() http.request {} end, { kind = "usage", match = "url" }, "no url")
  t.raises(function() http.request { url = base, tiemout = 1 } end,
    { kind = "usage", match = "timeout" }, "unknown option")
  t.raises(function() http.request { url = "ftp://x/" } end,
    { kind = "usage", code = "Url" }, "ftp")
  t.raises(function() http.request { url = base .. "/a b" } end, { kind = "usage" }, "a blank")
  t.raises(function() http.request { url = base, headers = { ["X"] = "a\r\nY: b" } } end,
    { kind = "usage", code = "Header" }, "line break in a header")
  t.raises(function() http.request { url = base, headers = { X = {} , "y" } } end,
    { kind = "usage", code = "Header" }, "list and names mixed")
  t.raises(function() http.request { url = base, body = {} } end, { kind = "usage" }, "body")
end)

t.test("errors", function()
  local e = t.raises(function() http.request { url = base .. "/slow", timeout = 0.2 } end,
    { kind = "timeout", code = "Total" }, "deadline")
  t.is(e and e.sent, true, "sent")
  t.raises(function() http.request { url = base .. "/slow", idle_timeout = 0.2 } end,
    { kind = "timeout", code = "Idle" }, "silence")
  t.raises(function()
    async.timeout(0.2, function() http.request { url = base .. "/slow" } end)
  end, { kind = "timeout" }, "async.timeout")
  e = t.raises(function() http.request { url = "http://127.0.0.1:1/" } end,
    { kind = "net", code = "Refused" }, "refused")
  t.is(e and e.sent, false, "not sent")
  e = t.raises(function() http.request { url = base .. "/big", max_body = 1000 } end,
    { kind = "protocol", code = "TooLarge" }, "too large")
  t.is(e and e.status, 200, "its status")
end)

t.test("body into a function", function()
  local n, parts = 0, 0
  local r = http.request { url = base .. "/big", max_body = 10, to = function(part)
    async.sleep(0.002)
    n, parts = n + #part, parts + 1
  end }
  t.is({ n, r.received, r.body }, { 1048576, 1048576, nil }, "all parts, no body")
  t.ok(parts > 1, "more than one part")
  r = http.request { url = base .. "/missing", to = function() error("called") end }
  t.is({ r.status, r.body }, { 404, "no such thing" }, "an error's body is returned instead")
  t.raises(function()
    http.request { url = base .. "/big", to = function() error("disk full", 0) end }
  end, { match = "disk full" }, "its error ends the request")
  t.raises(function() http.request { url = base .. "/cut", to = function() end } end,
    { kind = "protocol", code = "ShortBody" }, "a cut body is an error")
end)

t.test("body into a file", function()
  local dir = t.tmpdir()
  local path = dir .. "/file"
  local r = http.request { url = base .. "/big", to = path }
  t.is({ #fs.read(path), r.body, r.received }, { 1048576, nil, 1048576 }, "written")
  fs.write(path, "old")
  r = http.request { url = base .. "/missing", to = path }
  t.is({ r.status, r.body, fs.read(path) }, { 404, "no such thing", "old" },
    "an error answer leaves the file as it was")
  t.raises(function() http.request { url = base .. "/cut", to = path } end,
    { code = "ShortBody" }, "a cut body")
  t.is(fs.read(path), "old", "too")
  t.is(fs.list(dir), { "file" }, "no temporary file is left")
  t.raises(function() http.request { url = base .. "/big", to = "/no/such/dir/file" } end,
    { match = "/no/such/dir" }, "a missing directory")
end)

t.test("local only", function()
  http.local_only(true)
  t.raises(function() http.request { url = "http://203.0.113.9/" } end,
    { kind = "net", code = "LocalOnly",
      match = "refusing to connect to 203%.0%.113%.9:80: not a local cloud address" }, "an address")
  t.raises(function() http.request { url = "https://example.org/" } end,
    { kind = "net", code = "LocalOnly" }, "a name")
  t.is(http.request({ url = base .. "/" }).status, 200, "loopback is reached")
  http.local_only(false)
end)

t.test("many at once", function()
  local list = {}
  for i = 1, 100 do
    list[i] = i
  end
  local r = async.map(list, function(i)
    return http.request({ method = "POST", url = base, body = tostring(i) }).body
  end, { limit = 30 })
  local good = true
  for i = 1, 100 do
    good = good and r[i] == "POST " .. i
  end
  t.ok(good, "100 requests get their own answers")
end)

server:close()
return t.done()
