-- hgauto.httpd with hgauto.http as client: requests, answers, handlers as tasks.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local http = require "hgauto.http"
local httpd = require "hgauto.httpd"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local time = require "hgauto.time"

--- Runs fn(url, server, port) with a server around it.
local function with(on_request, fn, opts)
  opts = opts or {}
  opts.on_request = on_request
  local s <close> = httpd.new(opts)
  local port = s:listen { tag = "main" }
  return fn(("http://127.0.0.1:%d"):format(port), s, port)
end

local function wait_until(cond)
  local limit = time.mono() + 5
  while not cond() and time.mono() < limit do
    async.sleep(0.01)
  end
  return cond()
end

t.test("a request has all that was sent", function()
  local req
  with(function(r)
    req = r
    r:respond { body = "fine" }
  end, function(url)
    local r = http.request { method = "PUT", url = url .. "/a%20b/../c?x=%2F&y", body = "data",
      headers = { { "X-B", "1" }, { "X-A", "2" }, { "x-b", "3" } } }
    t.is({ r.status, r.body }, { 200, "fine" }, "the answer")
    t.is(req.method, "PUT", "method")
    t.is({ req.path, req.query, req.target }, { "/a%20b/../c", "x=%2F&y", "/a%20b/../c?x=%2F&y" },
      "path and query as sent")
    t.is(req.body, "data", "body")
    t.is({ req.headers["x-b"], req.headers["x-a"] }, { "1, 3", "2" }, "headers by name")
    local raw = {}
    for _, h in ipairs(req.raw_headers) do
      if h[1]:lower():find("^x%-") then
        raw[#raw + 1] = h[1] .. "=" .. h[2]
      end
    end
    t.is(raw, { "X-B=1", "X-A=2", "x-b=3" }, "headers in their order and case")
    t.like(req.peer, "^127%.0%.0%.1:%d+$", "peer")
    t.is(req.tag, "main", "tag")
    t.ok(math.abs(req.time - time.now()) < 60 and req.id == 1, "time and id")
    http.request { url = url .. "/" }
    t.is({ req.query, req.body, req.id }, { "", "", 2 }, "absent query and body are empty")
  end)
end)

t.test("answers", function()
  local answer
  with(function(r)
    r:respond(answer)
  end, function(url)
    answer = { status = 404, headers = { ["X-One"] = "1", ["X-List"] = { "a", "b" },
      ["X-Number"] = 5 }, body = "gone" }
    local r = http.request { url = url }
    t.is({ r.status, r.body, r.headers["x-one"], r.headers["x-list"], r.headers["x-number"] },
      { 404, "gone", "1", "a, b", "5" }, "status, headers, body")
    t.like(r.headers.date, "^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", "date")
    t.is(r.headers["content-length"], "4", "length")
    answer = { headers = { { "Date", "Sun, 22 Nov 2026 14:03:30 GMT" } } }
    r = http.request { url = url }
    t.is({ r.status, r.body, r.headers.date }, { 200, "", "Sun, 22 Nov 2026 14:03:30 GMT" },
      "defaults; an own date")
    local parts = { "one", "two", ("x"):rep(2000000), "end" }
    local i = 0
    answer = { body = function()
      i = i + 1
      async.sleep(0.005)
      return parts[i]
    end }
    r = http.request { url = url }
    t.is(r.body, table.concat(parts), "a function gives the parts")
    t.is(r.headers["transfer-encoding"], "chunked", "chunked")
    i = 0
    answer.length = #table.concat(parts)
    r = http.request { url = url }
    t.is({ #r.body, r.headers["content-length"] }, { answer.length, tostring(answer.length) },
      "with a length")
    answer = { body = function() error("no more") end }
    t.raises(function() http.request { url = url } end, { kind = "protocol", code = "ShortBody" },
      "an error in it cuts the answer")
  end)
end)

t.test("handlers that fail", function()
  local what, req
  with(function(r)
    req = r
    if what == "error" then
      error("broken handler")
    elseif what == "table" then
      require("hg").fail { kind = "notfound", message = "x" }
    elseif what == "twice" then
      r:respond { body = "once" }
      r:respond { body = "twice" }
    elseif what == "bad" then
      r:respond { headers = { ["X"] = "a\nb" } }
    elseif what == "unknown" then
      r:respond { stauts = 200 }
    end
  end, function(url)
    for _, name in ipairs { "error", "table", "nothing", "bad", "unknown" } do
      what = name
      local r = http.request { url = url }
      t.is({ r.status, r.body }, { 500, "internal error\n" }, name .. ": 500")
    end
    what = "twice"
    t.is(http.request({ url = url }).body, "once", "the first answer counts")
    t.ok(req:gone(), "an answered request is gone")
    t.raises(function() req:abort() end, { kind = "usage", code = "Answered" },
      "nothing can be done with it")
  end)
end)

t.test("aborts", function()
  with(function(r)
    r:abort(r.path:sub(2))
  end, function(url)
    for _, how in ipairs { "fin", "rst" } do
      local e = t.raises(function() http.request { url = url .. "/" .. how } end,
        { kind = "net", code = "Reset" }, how)
      t.is(e and e.sent, true, "the request counts as sent")
    end
    local r = http.request { url = url .. "/wrong" }
    t.is(r.status, 500, "another word is an error")
  end)
end)

t.test("requests run side by side; a client that leaves cancels its handler", function()
  local running, peak, why, finished = 0, 0, nil, false
  with(function(r)
    running = running + 1
    peak = math.max(peak, running)
    local good, err = pcall(async.sleep, r.path == "/slow" and 30 or 0.2)
    running = running - 1
    if not good then
      why = err
      local _d <close> = async.defer(function()
        async.sleep(0.01)
        finished = true
      end)
      error(err, 0)
    end
    r:respond { body = r.path }
  end, function(url, s)
    local start = time.mono()
    async.map({ 1, 2, 3, 4, 5 }, function(i)
      return http.request({ url = url .. "/" .. i }).body
    end)
    t.ok(peak == 5 and time.mono() - start < 0.9, "five at once")
    t.raises(function() http.request { url = url .. "/slow", timeout = 0.3 } end,
      { kind = "timeout", code = "Total" }, "the client gives up")
    t.ok(wait_until(function() return why end), "the handler is told")
    t.is(why and why.kind, "cancelled", "by cancelling")
    t.ok(wait_until(function() return finished end), "its cleanup may wait")
    t.ok(wait_until(function() return s:connections() == 0 or s:connections() <= 5 end),
      "connections are closed")
    t.is(http.request({ url = url .. "/x" }).body, "/x", "the server goes on")
  end)
end)

t.test("closing", function()
  local cancelled, kept = false, nil
  async.scope(function(scope)
    local s <close> = httpd.new { on_request = function(r)
      kept = r
      local good = pcall(async.sleep, 30)
      cancelled = not good
    end }
    local port = s:listen { port = 0 }
    local h = scope:spawn(function()
      t.raises(function() http.request { url = ("http://127.0.0.1:%d/"):format(port) } end,
        { kind = "net" }, "the client is cut off")
    end)
    t.ok(wait_until(function() return kept end), "a request runs")
    s:close()
    s:close()
    h:join()
    t.raises(function() s:listen {} end, { kind = "io", code = "Closed" }, "listen after close")
  end)
  t.ok(cancelled, "its handler is cancelled and the scope ends")
  t.ok(kept:gone(), "the request is gone")
  local e = t.raises(function()
    async.scope(function()
      httpd.new { on_request = print }:listen {}
      error("broken", 0)
    end)
  end, { match = "broken" }, "a server left open does not hold a failing scope")
  t.ok(e, "which raises its own error")
end)

t.test("an answer given just before the close arrives", function()
  async.scope(function(scope)
    local stop = async.event()
    local s <close> = httpd.new { on_request = function(r)
      r:respond { body = "stopping" }
      stop:set(true)
    end }
    local url = ("http://127.0.0.1:%d/"):format(s:listen {})
    local h = scope:spawn(function() return http.request({ url = url }).body end)
    stop:wait(5)
    s:close()
    t.is(h:join(), "stopping", "the answer")
  end)
end)

t.test("limits", function()
  with(function(r)
    r:respond { body = tostring(#r.body) }
  end, function(url)
    t.is(http.request({ method = "POST", url = url, body = ("x"):rep(1000) }).body, "1000",
      "a body of just the limit")
    local r = http.request { method = "POST", url = url, body = ("x"):rep(1001) }
    t.is(r.status, 413, "one byte more")
  end, { max_body = 1000 })
  t.raises(function() httpd.new {} end, { kind = "usage", match = "on_request" }, "no handler")
  t.raises(function() httpd.new { on_request = print, max_bdoy = 1 } end,
    { kind = "usage", match = "max_body" }, "unknown option")
end)

t.test("listeners", function()
  local dir = t.tmpdir()
  with(function(r)
    r:respond { body = r.tag .. " " .. r.peer }
  end, function(url, s, port)
    t.is(s:listen { unix = dir .. "/s", tag = "ctl" }, nil, "a unix socket")
    t.is(fs.stat(dir .. "/s").mode & 511, 384, "mode 0600")
    t.is(http.request({ url = "http://x/", unix = dir .. "/s" }).body, "ctl unix", "reached")
    t.like(http.request({ url = url }).body, "^main 127", "beside the TCP one")
    local other = s:listen { host = "127.0.0.2", tag = "two" }
    t.like(http.request({ url = ("http://127.0.0.2:%d/"):format(other) }).body, "^two ",
      "and a second one")
    t.raises(function() s:listen { port = port } end, { kind = "exists", code = "InUse" }, "taken")
    t.raises(function() s:listen { host = "example.org" } end, { kind = "usage" }, "a name")
  end)
  t.ok(not fs.exists(dir .. "/s"), "the socket file goes with the server")
end)

t.test("a client nobody here wrote", function()
  if not proc.which("curl") then
    t.skip("needs curl: apt install curl")
  end
  with(function(r)
    r:respond { body = ("%s %s %s"):format(r.method, r.target, r.body) }
  end, function(url)
    local r = proc.run { "curl", "-sS", "--noproxy", "*", "-d", "a=1", url .. "/p?q" }
    t.is(r.out, "POST /p?q a=1", "curl")
    r = proc.run { "curl", "-sS", "--noproxy", "*", "-H", "Expect: 100-continue",
      "-T", "/etc/passwd", url .. "/up" }
    t.is(r.out, "PUT /up " .. fs.read("/etc/passwd"), "an upload with Expect")
  end)
end)

return t.done()
