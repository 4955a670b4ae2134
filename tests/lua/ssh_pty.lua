-- hgauto.ssh: terminals, shells, raw commands, endings.
local async = require "hgauto.async"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local s = ssh.connect("127.0.0.1", d:args())

t.test("terminals", function()
  local r = s:exec("tty; stty size; echo $TERM; echo e >&2", {
    pty = { term = "vt100", cols = 101, rows = 37 } })
  t.like(r.out, "^/dev/pts/%d+\r\n37 101\r\nvt100\r\ne\r\n$", "its kind and size, one stream")
  t.is(r.err, "", "stderr comes with it")
  t.raises(function() s:exec("exit 3", { pty = true }) end, { code = "ExitCode" }, "codes as ever")
  t.raises(function() s:exec("true", { pty = { colums = 3 } }) end, { kind = "usage" }, "options")
  local p = s:spawn("trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done",
    { pty = { cols = 80, rows = 24 } })
  local text = ""
  for line in p:lines() do
    text = text .. line
    if line:find("ready") then
      p:resize(132, 50)
    elseif line:find("50 132") then
      break
    end
  end
  t.like(text, "50 132", "resize")
  p:close()
  -- Without exec the signal could come while dash starts the program, which loses it.
  p = s:spawn("echo go; exec cat", { pty = true, stdin = true })
  t.is({ p:read() }, { "out", "go\r\n" }, "it has begun")
  p:write("\3")
  t.raises(function() p:wait(10) end, { code = "Signal", match = "INT" }, "Ctrl-C goes there")
  p:close()
end)

t.test("shells", function()
  local p = s:shell { pty = false }
  p:write("echo $((40 + 2))\nexit 5\n")
  p:close_stdin()
  local text = {}
  for line in p:lines() do
    text[#text + 1] = line
  end
  t.is(text, { "42" }, "without a terminal")
  t.is(p:wait(10).code, 5, "its code")
  p:close()
  p = s:shell { pty = { cols = 90, rows = 30 } }
  p:write("stty size\nexit\n")
  local all = ""
  for line in p:lines() do
    all = all .. line
  end
  t.like(all, "30 90", "with one")
  p:close()
end)

t.test("raw and merged", function()
  t.is(s:exec("echo $0; echo 'a  b'", { raw = true }).out:gsub("^%S+", "X"), "X\na  b\n", "raw")
  local r = s:exec("for i in 1 2 3; do echo o$i; echo e$i >&2; done", { merge = true })
  t.is({ r.out, r.err }, { "o1\ne1\no2\ne2\no3\ne3\n", "" }, "merge keeps the order")
  r = s:exec({ "sh", "-c", "echo x; echo y >&2" }, { merge = true, env = { A = "1" } })
  t.is(r.out, "x\ny\n", "of a list, too")
  local out, err = {}, {}
  s:exec("echo x; echo y >&2", { sink = { out = function(b) out[#out + 1] = b end,
    err = function(b) err[#err + 1] = b end }, max_output = 0 })
  t.is({ table.concat(out), table.concat(err) }, { "x\n", "y\n" }, "both sinks")
end)

t.test("the end of a command whose child lives on", function()
  local t0 = time.mono()
  local r = s:exec("sleep 20 & echo started", { wait = "exit" })
  t.is({ r.ok, r.out }, { true, "started\n" }, "wait=exit")
  t.ok(time.mono() - t0 < 10, "does not wait for it")
  t.raises(function() s:exec("sleep 20 & echo started", { timeout = 1 }) end,
    { kind = "timeout", code = "Command" }, "wait=eof does")
end)

t.test("shared handles", function()
  local other = s:share()
  s:close()
  t.is(other:exec("echo on").out, "on\n", "the connection ends with the last one")
  async.scope(function()
    other:keep()
  end)
  t.is(other:exec("echo on").out, "on\n", "keep")
  other:close()
end)

-- The answer to one command's request may come while another one waits for its own.
t.test("commands with and without a terminal at once", function()
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local list = {}
  for i = 1, 40 do
    list[i] = i
  end
  local out = async.map(list, function(i)
    local x <close> = s:share()
    return x:exec({ "echo", tostring(i) }, { pty = i % 2 == 0, timeout = 60 }).out
  end, { limit = 8 })
  for i, text in ipairs(out) do
    if text:gsub("\r", "") ~= i .. "\n" then
      t.ok(false, "command " .. i .. ": " .. text)
    end
  end
  t.is(#out, 40, "all of them")
end)

d:stop()
return t.done()
