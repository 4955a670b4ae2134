-- hgauto ssh, exec and cp on a real instance, as from a shell: codes, streams, Ctrl-C, deadlines.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local time = require "hgauto.time"
local env = dofile "tests/lib/local_env.lua"

env.need()
local state = env.state()
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)
local dir = t.tmpdir()

fs.write(dir .. "/keep.lua", [[
local hg = require "hg"
return hg.task { help = "A machine that stays.", run = function()
  local m <close> = hg.machines.linux { distro = "debian13", image = "base" }
  m:keep()
end }
]])
if not t.is(env.run(state, { "run", "--local", dir .. "/keep.lua" }).code, 0, "a machine") then
  return t.done()
end
local id = env.running(state)[1]

local function hgauto(words, opts)
  table.insert(words, 2, "--local")
  return env.run(state, words, opts)
end

local function exec(...)
  return hgauto { "exec", id, "--", ... }
end

t.test("exec", function()
  local r = exec("echo", "a  b", "$HOME", "it's")
  t.is({ r.code, r.out }, { 0, "a  b $HOME it's\n" }, "words stay as they are")
  r = exec("sh", "-c", "echo out; echo err >&2; exit 7")
  t.is({ r.code, r.out }, { 1, "out\n" }, "a command that fails: 1")
  t.like(r.err, "^err\n.*exited with code 7", "its errors and its code")
  t.is(hgauto({ "exec", "--remote-exit", id, "--", "sh", "-c", "exit 7" }).code, 7, "--remote-exit")
  t.is(hgauto({ "exec", id, "--", "cat" }, { stdin = "input" }).out, "input", "standard input")
  r = hgauto { "exec", "--remote-exit", id, "--", "sh", "-c", "kill -9 $$" }
  t.is(r.code, 255, "a signal")
  r = hgauto { "exec", id }
  t.is(r.code, 2, "no command")
  t.like(r.err, "missing <command>", "is told")
end)

t.test("ssh", function()
  local r = hgauto { "ssh", id:sub(1, 12), "--", "echo $HOME; exit 9" }
  t.is({ r.code, r.out }, { 9, "/home/admin\n" }, "the beginning of an id; a shell reads the words")
  r = hgauto({ "ssh", id }, { stdin = "echo shell\nexit 4\n" })
  t.is({ r.code, r.out }, { 4, "shell\n" }, "a shell that reads a script")
  r = hgauto { "ssh", "-l", "nobody", id, "--", "true" }
  t.is(r.code, 255, "a login that is refused")
  t.like(r.err, "login as nobody refused", "is told")
end)

t.test("wrong ids", function()
  for _, wrong in ipairs { "i-0123", "i-0000000000000000a" } do
    local r = hgauto { "exec", wrong, "--", "true" }
    t.is(r.code, 1, wrong)
    t.like(r.err, wrong, "is named")
    t.is(hgauto({ "ssh", wrong, "--", "true" }).code, 255, "and 255 with ssh")
  end
end)

t.test("cp", function()
  fs.mkdir(dir .. "/from/a", { parents = true })
  fs.write(dir .. "/from/a/f", "text")
  t.is(hgauto({ "cp", dir .. "/from", id .. ":" }).code, 0, "a directory into the home directory")
  t.is(exec("cat", "from/a/f").out, "text", "it is there by its name")
  fs.mkdir(dir .. "/here")
  local r = env.run(state, { "cp", "--local", id .. ":from/a/f", "." }, { cwd = dir .. "/here" })
  t.is({ r.code, fs.read(dir .. "/here/f") }, { 0, "text" }, "a file to here")
  t.is(hgauto({ "cp", id .. ":from", dir .. "/back" }).code, 0, "a directory back")
  t.is(fs.read(dir .. "/back/a/f"), "text", "under another name")
  r = hgauto { "cp", dir .. "/from/a/f", id .. ":/root/f" }
  t.is(r.code, 1, "not allowed")
  t.like(r.err, "/root/f: permission denied", "is told")
end)

-- How many processes of that command line the machine has.
local function there(words)
  return tonumber(exec("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"
    .. " | grep -ao 'sleep " .. words .. "' | wc -l").out) or -1
end

t.test("Ctrl-C and deadlines end the command there", function()
  local p <close> = proc.spawn({ env.program, "--state-path", state, "exec", "--local", id, "--",
    "sh", "-c", "echo up; exec sleep 9876" .. "1" }, { timeout = 120 })
  t.is(p:lines("out")(), "up", "it runs")
  local t0 = time.mono()
  p:kill("INT")
  local r = p:wait()
  t.is(r.code or r.signal, 130, "Ctrl-C: 130")
  t.ok(time.mono() - t0 < 20, "soon")
  t.ok(t.eventually(function() return there("9876[1]") == 0 end, 20), "and nothing is left there")
  r = hgauto { "exec", "--timeout", "2s", id, "--", "sleep", "98762" }
  t.is(r.code, 5, "a deadline: 5")
  t.ok(t.eventually(function() return there("9876[2]") == 0 end, 20), "and nothing is left there")
end)

client.stop { state = state }
return t.done()
