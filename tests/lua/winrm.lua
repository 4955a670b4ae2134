-- hgauto.winrm against the simulated endpoint: commands, scripts, files, identity, faults.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local t = require "hg.tap"
local time = require "hgauto.time"
local winrm = require "hgauto.winrm"
local winsim = require "localcloud.winsim"

local PASSWORD = "Sekrit-Pass.word1"
local dir = t.tmpdir()
local fault
local rules = dofile("tests/lib/winrm_sh.lua")
local scripts = {
  { match = { script_pattern = "^all streams$" }, reply = {
    { output = "text" }, { output = { a = 1, b = { 1, 2, 3 } } }, { warning = "careful" },
    { verbose = "talk" }, { debug = "why" }, { error = "bad thing", id = "Some.Id" },
    { error = "native line", id = "NativeCommandError" }, { output = 5 },
  } },
  { match = { script_pattern = "^exit 3$" }, reply = { { output = "x" }, { exit = 3 } } },
  { match = { script_pattern = "^throw$" }, reply = {
    { output = "before" }, { state = "failed", error = "thrown" },
  } },
  { match = { script_pattern = "^params$" }, run = function(pipe)
    pipe:output(pipe.params)
    return 0
  end },
  { match = { script_pattern = "^input$" }, run = function(pipe)
    for _, v in ipairs(pipe.input) do
      pipe:output(v)
    end
    return 0
  end },
  { match = { script_pattern = "^slow$" }, reply = { { output = 1 }, { delay = 60 } } },
  { match = { script_pattern = "^native$" }, reply = {
    { error = "line on stderr", id = "NativeCommandError" }, { output = "done" },
  } },
}
table.move(scripts, 1, #scripts, #rules + 1, rules)

local ep = winsim.open {
  password = PASSWORD, rules = rules, root = dir,
  fault = function(action, req)
    return fault and fault(action, req)
  end,
}

local function connect(more)
  local o = {
    host = "127.0.0.1", port = ep.port, password = PASSWORD, plaintext = true,
    allow_plaintext = true, operation_timeout = 5,
  }
  for key, v in pairs(more or {}) do
    o[key] = v
  end
  return winrm.connect(o)
end

local function open_shells()
  local n = 0
  for _ in pairs(ep.shells) do
    n = n + 1
  end
  return n
end

local s = connect()

t.test("input that ends with an error leaves nothing to the next script", function()
  local c <close> = connect()
  local n = 0
  t.raises(function()
    c:ps("native", { input = function()
      n = n + 1
      return n < 5 and ("x"):rep(100000) or error("no more")
    end })
  end, { match = "no more" }, "an error in the middle of the input")
  t.is(c:ps("native").output[1], "done", "the next script")
end)

t.test("commands", function()
  local r = s:cmd("printf hi; printf no >&2")
  t.is({ r.ok, r.code, r.stdout, r.stderr }, { true, 0, "hi", "no" }, "output and exit code")
  t.ok(r.simulated and s.simulated, "marked as simulated")
  local e = t.raises(function() s:cmd("echo why >&2; exit 3") end,
    { kind = "remote", code = "ExitCode", match = "exited with code 3: why" }, "exit 3")
  t.is(e.result.code, 3, "its result")
  t.is(s:cmd("exit 7", { check = false }).code, 7, "check=false")
  r = s:cmd("echo $A; pwd", { env = { A = "1 2" }, cwd = "/" })
  t.is(r.stdout, "1 2\n/\n", "environment and directory")
  t.is(s:cmd("cat", { stdin = ("x"):rep(300000) }).stdout, ("x"):rep(300000), "long input")
  r = s:cmd("head -c 5000000 /dev/zero | tr '\\0' y")
  t.ok(#r.stdout == 5000000 and not r.stdout:find("[^y]"), "5 MB of output")
  t.raises(function() s:cmd("head -c 5000 /dev/zero", { max_collect = 4000 }) end,
    { kind = "remote", code = "OutputTooLarge" }, "more output than wanted")
  r = s:cmd("NOTHING", { check = false })
  t.is({ r.code, r.stderr:match("^not simulated: NOTHING") }, { 9009, "not simulated: NOTHING" },
    "what no rule knows fails")
  t.is(open_shells(), 0, "no shell is left")
  t.raises(function() s:cmd(("x"):rep(8001)) end, { kind = "usage" }, "too long a line")
  t.raises(function() s:cmd("true", { timeoutt = 1 }) end,
    { kind = "usage", match = "timeout" }, "unknown option")
end)

t.test("output arrives while the command runs, in whole characters", function()
  local first, parts = nil, {}
  local start = time.mono()
  s:cmd("printf 'gr\\303'; sleep 0.4; printf '\\274n'; sleep 1.5", { on_stdout = function(p)
    first = first or time.mono() - start
    parts[#parts + 1] = p
  end })
  t.ok(first and first < 1.4, "early")
  t.is(table.concat(parts), "grün", "complete")
  for _, p in ipairs(parts) do
    t.ok(utf8.len(p), "whole characters")
  end
end)

t.test("a command outlives the operation timeout", function()
  local short = connect { operation_timeout = 1 }
  local before = short:stats().requests
  local r = short:cmd("echo a; sleep 2.5; echo b")
  t.is(r.stdout, "a\nb\n", "nothing is lost")
  t.ok(short:stats().requests - before >= 7, "it was asked again")
  short:close()
end)

t.test("deadlines and cancelling", function()
  local start = time.mono()
  local e = t.raises(function() s:cmd("echo part; sleep 60", { timeout = 1 }) end,
    { kind = "timeout" }, "deadline")
  t.ok(time.mono() - start < 8, "in time")
  t.is(e.result.stdout, "part\n", "what came is in the error")
  t.is(open_shells(), 0, "no shell is left")
  local job = async.spawn(function() s:cmd("sleep 60") end)
  t.eventually(function() return open_shells() == 1 end)
  job:cancel("enough")
  pcall(job.join, job)
  t.is(open_shells(), 0, "nor after cancelling")
  t.raises(function() s:ps("slow", { timeout = 1 }) end, { kind = "timeout" }, "of a script")
end)

t.test("scripts", function()
  local r = s:ps("all streams", { errors = "report" })
  t.is({ r.ok, r.state, r.output[1], r.output[2].a, r.output[2].b[3], r.output[3] },
    { true, "Completed", "text", 1, 3, 5 }, "values")
  t.is({ r.warnings[1].message, r.verbose[1].message, r.debug[1].message }, { "careful", "talk",
    "why" }, "records")
  t.is({ #r.errors, r.errors[1].message, r.errors[1].id }, { 1, "bad thing", "Some.Id" }, "errors")
  t.is(r.stderr, { "native line" }, "stderr of programs")
  t.ok(r.simulated, "marked as simulated")
  t.raises(function() s:ps("all streams") end,
    { kind = "remote", code = "ScriptFailed", match = "bad thing" }, "an error record fails")
  t.ok(s:ps("native").ok, "a line on stderr does not")
  local e = t.raises(function() s:ps("exit 3") end, { code = "ExitCode" }, "exit code")
  t.is({ e.result.exit_code, e.result.output[1] }, { 3, "x" }, "its result")
  e = t.raises(function() s:ps("throw") end, { code = "ScriptFailed", match = "thrown" }, "throw")
  t.is({ e.result.state, e.result.output[1], e.result.errors[1].terminating },
    { "Failed", "before", true }, "its result")
  t.raises(function() s:ps("what is this\nmore") end,
    { code = "ScriptFailed", match = "not simulated: what is this %(sha256" }, "no rule")
end)

t.test("values travel", function()
  local v = { s = "a_x0041_'\"$`\n", n = 2 ^ 40 // 1 | 0, f = 1.5, b = false, l = { 1, "two" },
    e = winrm.list {}, u = "grün \u{1d11e}", t = { x = { y = 1 } },
    ver = winrm.typed("Version", "1.2") }
  local r = s:ps("params", { params = v }).output[1]
  t.is({ r.s, r.n, r.f, r.b, r.l[2], #r.e, r.u, r.t.x.y, r.ver },
    { v.s, v.n, 1.5, false, "two", 0, v.u, 1, "1.2" }, "both ways")
  t.is(core.decode(core.encode(winrm.bytes("\0\xff"))), "\0\xff", "bytes")
  t.is(s:ps("params", { params = { p = crypto.secret("hidden-value") } }).output[1].p,
    "hidden-value", "secrets may be parameters")
  t.is(s:ps("input", { input = { 1, "b", { c = 2 } } }).output[3].c, 2, "input")
  local big = ("z"):rep(1000000)
  t.ok(s:ps("input", { input = { big } }).output[1] == big, "a megabyte in many fragments")
  t.is(s:ps_value("exit 3", { native = "report" }), "x", "one value")
  t.raises(function() s:ps("input", { input = { "\xff" } }) end,
    { kind = "usage", match = "UTF%-8" }, "not UTF-8")
  t.raises(function() s:ps("params", { params = { f = print } }) end,
    { kind = "usage" }, "functions")
end)

t.test("files", function()
  for _, n in ipairs { 0, 1, 98202, 98203, 3000000 } do
    local text = ("0123456789abcdef"):rep(n // 16 + 1):sub(1, n)
    fs.write(dir .. "/local", text)
    local up = s:upload(dir .. "/local", [[C:\tmp\File.bin]])
    local down = s:download([[c:\TMP\file.bin]], dir .. "/back")
    t.ok(fs.read(dir .. "/back") == text and up.sha256 == down.sha256, n .. " bytes")
  end
  t.raises(function() s:download([[C:\none]], dir .. "/none") end,
    { code = "ScriptFailed" }, "none")
  t.ok(not fs.exists(dir .. "/none"), "no target of a failed download")
  t.raises(function() s:upload(dir .. "/local", [[C:\tmp\file.bin]], { overwrite = false }) end,
    { match = "exists" }, "overwrite=false")
end)

t.test("refused", function()
  local bad = connect { password = "wrong-password-x" }
  local e = t.raises(function() bad:cmd("true") end, { kind = "auth", code = "Unauthorized" },
    "wrong password")
  t.ok(not tostring(e):find("wrong-password-x", 1, true), "it is not in the error")
  bad:close()
  local none = connect { port = 9 }
  t.raises(function() none:cmd("true") end, { kind = "net", code = "Connect" }, "nobody there")
  t.raises(function() winrm.connect { host = "127.0.0.1", password = "x", plaintext = true } end,
    { kind = "usage", match = "allow_plaintext" }, "plain HTTP has to be allowed")
  t.raises(function() winrm.connect { host = "h", password = "x", auth = "ntlm" } end,
    { kind = "usage", match = "only Basic" }, "other kinds of login")
end)

t.test("what went out once is not sent again", function()
  local n = ep.counts.commands
  fault = function(action, req)
    if action == "Command" then
      ep.counts.commands = ep.counts.commands + 1
      req:abort("rst")
      return "handled"
    end
    return nil
  end
  t.raises(function() s:cmd("true") end, { kind = "net", code = "ConnectionLost",
    match = "may have run" }, "the connection died")
  t.is(ep.counts.commands, n + 1, "one Command")
  local receives, body = 0, {}
  fault = function(action, req)
    if action == "Receive" then
      receives = receives + 1
      body[receives] = req.body
      if receives <= 2 then
        if receives == 1 then
          req:abort("fin")
        else
          req:respond { status = 503, body = "" }
        end
        return "handled"
      end
    end
    return nil
  end
  t.is(s:cmd("echo still").stdout, "still\n", "a Receive is")
  t.ok(receives >= 3 and body[1] == body[2] and body[2] == body[3], "with the same bytes")
  local refused = 0
  fault = function(action)
    if action == "Command" and refused == 0 then
      refused = 1
      return "quota"
    end
    return nil
  end
  local shells = ep.counts.shells
  t.is(s:cmd("echo again").stdout, "again\n", "a refused Command in a new shell")
  t.is({ ep.counts.shells - shells, open_shells() - (s.implicit and 1 or 0) }, { 2, 0 }, "one more")
  local first = true
  fault = function(action)
    if action == "Command" and first then
      first = false
      return "quota"
    end
    return nil
  end
  local before = ep.counts.shells
  t.is(s:ps("exit 3", { check = false }).output[1], "x", "a refused script in a new pool")
  t.ok(ep.counts.shells > before and not first, "which was opened for it")
  fault = function(action) return action == "Command" and "denied" or nil end
  t.raises(function() s:cmd("true") end, { kind = "auth", code = "AccessDenied" }, "denied")
  fault = function(_, req)
    req:respond { status = 200, body = "<html>" }
    return "handled"
  end
  t.raises(function() s:cmd("true") end, { kind = "protocol", code = "Malformed" }, "no XML")
  fault = function(action, req)
    if action ~= "Receive" then
      return nil
    end
    req:respond { status = 200, body = "<Envelope><Body><ReceiveResponse><Stream Name='stdout'>"
      .. crypto.base64("half ") .. "</Stream><Stream Name='stdout'>" }
    return "handled"
  end
  local e = t.raises(function() s:cmd("true") end, { kind = "protocol", code = "Malformed" },
    "half an answer")
  t.is(e.result.stdout, "", "nothing of it counts")
  fault = nil
end)

t.test("identity comes before credentials", function()
  local id = crypto.certificate { name = "hgauto", ip = "127.0.0.1" }
  local tls = winsim.open { password = PASSWORD, rules = rules,
    tls = { cert = id.cert, key = id.key } }
  local function over(identity)
    return winrm.connect { host = "127.0.0.1", port = tls.port, password = PASSWORD,
      tls = identity }
  end
  for what, identity in pairs {
    ["certificate"] = { ca = id.cert }, ["pin"] = { pin = id.pin },
    ["both"] = { ca = id.cert, pin = id.pin },
  } do
    local c <close> = over(identity)
    t.is(c:cmd("echo tls").stdout, "tls\n", "right " .. what)
  end
  t.is(crypto.certificate_pin(id.cert), id.pin, "the pin of a certificate")
  local other, sent = crypto.certificate { name = "hgauto" }, tls.counts.credentials
  for what, identity in pairs {
    ["other certificate"] = { ca = other.cert }, ["wrong pin"] = { pin = other.pin },
    ["right certificate, wrong pin"] = { ca = id.cert, pin = other.pin },
    ["wrong name"] = { ca = id.cert, name = "elsewhere" },
  } do
    local c <close> = over(identity)
    t.raises(function() c:cmd("true") end, { kind = "auth", code = "TlsIdentity" }, what)
  end
  t.is(tls.counts.credentials, sent, "no credentials were sent")
  tls.close()
  local old = crypto.certificate { name = "hgauto", valid_from = -7200, valid_to = -3600 }
  tls = winsim.open { password = PASSWORD, tls = { cert = old.cert, key = old.key } }
  local c <close> = over { ca = old.cert }
  t.raises(function() c:cmd("true") end, { kind = "auth", code = "TlsIdentity", match = "expired" },
    "expired")
  t.is(tls.counts.requests, 0, "nothing was sent")
  tls.close()
end)

t.test("pools and parallel sessions", function()
  local p <close> = s:pool()
  t.ok(p:alive(), "alive")
  t.is(p.version, "2.3", "version")
  t.is(p:ps("native").output[1], "done", "a script")
  p:close()
  t.ok(not p:alive(), "closed")
  local out = async.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function(i)
    local c <close> = connect()
    return c:cmd("echo " .. i).stdout
  end)
  t.is(table.concat(out), "1\n2\n3\n4\n5\n6\n7\n8\n", "8 at a time")
end)

t.test("traces and errors hold no contents", function()
  local seen = {}
  local c = connect { trace = function(event, d)
    for _, v in pairs(d) do
      event = event .. " " .. tostring(v)
    end
    seen[#seen + 1] = event
  end }
  c:cmd("echo hidden-content", { env = { V = "hidden-value" } })
  c:close()
  local all = table.concat(seen, "\n")
  t.ok(#seen > 4 and not all:find("hidden", 1, true) and not all:find(PASSWORD, 1, true), "clean")
  t.ok(not tostring(c.password):find(PASSWORD, 1, true), "nor does the password show itself")
  t.is(core.stderr("#< CLIXML\r\n<Objs><S S=\"Error\">no_x000D__x000A_</S></Objs>"), "no\r\n",
    "stderr of powershell.exe")
end)

s:close()
t.is(open_shells(), 0, "everything was deleted")
ep.close()
return t.done()
