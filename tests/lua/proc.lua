-- hgauto.proc: run, spawn, streams, environment, deadlines, scopes, errors.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local time = require "hgauto.time"

local function sh(text, opts)
  return proc.run({ "sh", "-c", text }, opts)
end

--- Runs `hgauto`-independent check that a process is gone.
local function gone(pid)
  local limit = time.mono() + 5
  while time.mono() < limit do
    if not fs.exists("/proc/" .. pid) then
      return true
    end
    async.sleep(0.02)
  end
  return false
end

t.test("run returns output, code and time", function()
  local r = sh("echo out; echo err >&2")
  t.is({ r.ok, r.code, r.signal, r.out, r.err, r.truncated },
    { true, 0, nil, "out\n", "err\n", false }, "all fields")
  t.ok(r.seconds >= 0 and r.seconds < 5, "seconds")
  local s = sh("exit 3", { check = false })
  t.is({ s.ok, s.code }, { false, 3 }, "an exit code without check")
  s = sh("kill -9 $$", { check = false })
  t.is({ s.ok, s.code, s.signal }, { false, nil, 9 }, "a signal")
end)

t.test("a failing command is raised", function()
  local e = t.raises(function()
    sh("echo one; echo 'no such file' >&2; exit 7")
  end, { kind = "io", code = "ExitCode", match = "^sh exited with code 7: no such file$" }, "io")
  t.is({ e.result.code, e.result.out }, { 7, "one\n" }, "with its result")
  t.raises(function() sh("kill -15 $$") end, { match = "ended by signal 15" }, "signal")
  t.raises(function() proc.run { "hgauto-no-such-program" } end,
    { kind = "notfound", code = "Spawn", match = "hgauto%-no%-such%-program" }, "missing program")
  t.raises(function() proc.run({ "true" }, { cwd = "/no/such/dir" }) end,
    { kind = "notfound", match = "/no/such/dir" }, "missing directory")
end)

t.test("arguments are checked", function()
  t.raises(function() proc.run("ls -l") end, { kind = "usage", match = "list of program" }, "text")
  t.raises(function() proc.run {} end, { kind = "usage" }, "empty list")
  t.raises(function() proc.run({ "true" }, { tiemout = 1 }) end,
    { kind = "usage", match = "did you mean timeout" }, "unknown option")
  t.raises(function() proc.run({ "true" }, { check = 1 }) end, { kind = "usage" }, "wrong type")
  t.raises(function() proc.run({ "a\0b" }) end, { kind = "usage", match = "zero byte" }, "NUL")
  t.raises(function() proc.run({ "true" }, { env = { ["A=B"] = "1" } }) end,
    { kind = "usage", match = "name" }, "bad variable")
end)

t.test("standard input, environment, directory", function()
  t.is(proc.run({ "cat" }, { stdin = "text" }).out, "text", "input")
  t.is(proc.run({ "wc", "-c" }, { stdin = ("x"):rep(3000000) }).out, "3000000\n", "large input")
  t.is(proc.run({ "true" }, { stdin = ("x"):rep(300000) }).ok, true, "input nobody reads")
  t.is(proc.run { "cat" }.out, "", "no input by default")
  local e = { A = "1", HOME = false, N = 7 }
  t.is(sh("echo $A-$HOME-$N-${PATH:+p}", { env = e }).out, "1--7-p\n", "env adds and removes")
  t.is(e, { A = "1", HOME = false, N = 7 }, "the table stays as it was")
  t.is(proc.run({ "/usr/bin/env" }, { env = { X = "y" }, clean_env = true }).out, "X=y\n",
    "clean_env")
  t.is(sh("pwd", { cwd = "/" }).out, "/\n", "cwd")
end)

t.test("lines as they come", function()
  local seen = {}
  sh("echo a; echo b; printf c", { on_line = function(stream, line)
    seen[#seen + 1] = stream .. ":" .. line
  end })
  t.is(seen, { "out:a", "out:b", "out:c" }, "on_line gets each line")
  local times = {}
  sh("echo 1; sleep 0.3; echo 2", { on_line = function()
    times[#times + 1] = time.mono()
  end })
  t.ok(times[2] - times[1] > 0.15, "at the time of its writing")
  local n = 0
  sh("seq 1 50000", { on_line = function() n = n + 1 end, max_output = 10 })
  t.is(n, 50000, "many")
  local waited = 0
  sh("seq 1 5", { on_line = function() async.sleep(0.01) waited = waited + 1 end })
  t.is(waited, 5, "on_line may wait")
  local e = t.raises(function()
    sh("echo x; sleep 30", { on_line = function() error("stop it", 0) end })
  end, { match = "stop it" }, "its error ends the command")
  t.ok(e, "and is passed on")
end)

t.test("output is bounded", function()
  local r = sh("head -c 3000000 /dev/zero; echo e >&2")
  t.is({ #r.out, r.err, r.truncated }, { 1024 * 1024, "e\n", true }, "1 MiB by default")
  r = sh("echo 12345", { max_output = 3 })
  t.is({ r.out, r.truncated }, { "123", true }, "max_output")
  local total = 0
  r = sh("head -c 3000000 /dev/zero", { sink = function(stream, block)
    total = total + (stream == "out" and #block or 0)
  end })
  t.is({ total, r.out, r.truncated }, { 3000000, "", false }, "a sink gets all")
end)

t.test("deadlines and cancelling end the command", function()
  local start = time.mono()
  local e = t.raises(function() sh("echo begun; exec sleep 30", { timeout = 0.3 }) end,
    { kind = "timeout", code = "Total", match = "^sh: " }, "timeout")
  t.is(e.result.out, "begun\n", "the output so far is in the error")
  t.ok(time.mono() - start < 3, "in time")
  local pid
  t.raises(function()
    async.timeout(0.3, function()
      sh("echo $$; exec sleep 30", { on_line = function(_, line) pid = line end })
    end)
  end, { kind = "timeout" }, "async.timeout")
  t.ok(pid and gone(pid), "the process is gone")
end)

t.test("spawn: reading and writing", function()
  local p <close> = proc.spawn({ "cat" }, { stdin = true })
  t.ok(p:pid() > 1 and p:running(), "it runs")
  p:write("one\ntw")
  t.is({ p:read() }, { "one\ntw", "out" }, "what was written comes back")
  p:write("o\n")
  t.is(p:read("out"), "o\n", "again")
  p:close_stdin()
  t.is(p:read(), nil, "nil at the end")
  t.is(p:wait(), { ok = true, code = 0 }, "wait")
  t.is(p:wait(), { ok = true, code = 0 }, "wait twice")
  t.raises(function() p:write("x") end, { kind = "io", code = "Closed" }, "writing after the end")
  p:kill()
  p:close()
  p:close()
  t.raises(function() p:read() end, { kind = "io", code = "Closed" }, "reading after close")
end)

t.test("spawn: lines, streams, large writes", function()
  local p <close> = proc.spawn { "sh", "-c", "echo a; sleep 0.1; echo b >&2; sleep 0.1; printf c" }
  local seen = {}
  for line, stream in p:lines() do
    seen[#seen + 1] = line .. stream
  end
  t.is(seen, { "aout", "berr", "cout" }, "lines of both streams")
  local q <close> = proc.spawn({ "sh", "-c", "echo a; echo b >&2" }, { stderr = "merge" })
  seen = {}
  for line in q:lines("out") do
    seen[#seen + 1] = line
  end
  t.is(seen, { "a", "b" }, "merge")
  local w <close> = proc.spawn({ "wc", "-c" }, { stdin = true })
  w:write(("x"):rep(9 * 1024 * 1024))
  w:close_stdin()
  t.is(w:read(), "9437184\n", "9 MiB")
  local d <close> = proc.spawn { "sh", "-c", "head -c 1000000 /dev/zero; exit 4" }
  t.is(d:wait(), { ok = false, code = 4 }, "wait does not hang on unread output")
end)

t.test("one task at a time", function()
  local p <close> = proc.spawn { "sleep", "30" }
  async.scope(function(s)
    local h = s:spawn(function() p:read() end)
    async.sleep(0.05)
    t.raises(function() p:read() end, { kind = "usage", code = "Busy" }, "a second reader")
    h:cancel("enough")
  end)
  async.scope(function(s)
    local h = s:spawn(function()
      t.raises(function() p:wait() end, { kind = "io", code = "Closed" },
        "closing wakes who waits")
    end)
    async.sleep(0.05)
    p:close()
    h:join()
  end)
end)

t.test("a process ends with its scope", function()
  local pid
  async.scope(function()
    pid = proc.spawn({ "sleep", "30" }):pid()
  end)
  t.ok(gone(pid), "left open")
  pcall(async.scope, function()
    pid = proc.spawn({ "sleep", "30" }):pid()
    error("broken")
  end)
  t.ok(gone(pid), "after an error")
  local p
  async.scope(function()
    p = proc.spawn({ "sleep", "30" }):keep()
  end)
  t.ok(p:running(), "not when it is kept")
  p:kill("KILL")
  t.is(p:wait().signal, 9, "kill by name")
  p:close()
end)

t.test("many at once", function()
  local list = {}
  for i = 1, 20 do
    list[i] = i
  end
  local r = async.map(list, function(i)
    return sh(("sleep 0.05; echo %d"):format(i)).out
  end, { limit = 20 })
  t.is(r[20], "20\n", "each gets its own output")
end)

t.test("which", function()
  t.like(proc.which("sh"), "^/.*/sh$", "in PATH")
  t.is(proc.which("hgauto-no-such-program"), nil, "absent")
  t.is(proc.which("/bin/sh"), "/bin/sh", "a path")
  t.is(proc.which("/etc/passwd"), nil, "no program")
end)

return t.done()
