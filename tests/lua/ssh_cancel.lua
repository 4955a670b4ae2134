-- hgauto.ssh: a cancelled or timed-out command leaves no process behind.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)

--- Processes whose environment holds the mark (any id) and this tag.
local function marked(tag)
  local list = {}
  for _, pid in ipairs(fs.list("/proc")) do
    if pid:find("^%d+$") then
      local ok, env = pcall(fs.read, "/proc/" .. pid .. "/environ")
      if ok and env:find("_HGAUTO_EXEC=", 1, true) and env:find("TAG=" .. tag .. "\0", 1, true) then
        list[#list + 1] = pid
      end
    end
  end
  return list
end

local function starts(tag, n)
  local limit = time.mono() + 30
  while #marked(tag) < n and time.mono() < limit do
    async.sleep(0.05)
  end
  return #marked(tag) >= n
end

local function gone(tag)
  local limit = time.mono() + 10
  while #marked(tag) > 0 and time.mono() < limit do
    async.sleep(0.05)
  end
  return #marked(tag)
end

local KINDS = {
  { "sleep", "exec sleep 300", 1 },
  { "children", "sleep 301 & sleep 302 & wait", 3 },
  { "setsid", "setsid sleep 303 & sleep 304", 3 },
  { "deaf", "trap '' TERM HUP; while :; do sleep 1; done", 2 },
  { "daemon", "(setsid sh -c 'sleep 305' >/dev/null 2>&1 </dev/null &); sleep 306", 3 },
}

local n = 0
local function tag_of()
  n = n + 1
  return "t" .. host.pid() .. "x" .. n
end

local function cancel_case(s, name, cmd, least, opts)
  local tag = tag_of()
  local all = { env = { TAG = tag } }
  for k, v in pairs(opts or {}) do all[k] = v end
  async.scope(function(sc)
    local h = sc:spawn(function() s:exec(cmd, all) end)
    t.ok(starts(tag, least), name .. ": it runs")
    local t0 = time.mono()
    h:cancel()
    pcall(h.join, h)
    t.ok(time.mono() - t0 < 11, name .. ": the ladder ends in time")
  end)
  t.is(gone(tag), 0, name .. ": nothing with the mark remains")
end

for _, user in ipairs { "root", "hgtest" } do
  t.test("cancelled as " .. user, function()
    local s <close> = ssh.connect("127.0.0.1", d:args { user = user })
    for _, k in ipairs(KINDS) do
      cancel_case(s, user .. " " .. k[1], k[2], k[3])
    end
    cancel_case(s, user .. " sudo", "sleep 307", 1, { sudo = true })
    t.is(s:exec("echo on").out, "on\n", "the session goes on")
  end)
end

t.test("a sudo inside, as a user", function()
  local s <close> = ssh.connect("127.0.0.1", d:args { user = "hgtest" })
  cancel_case(s, "inner sudo", "sudo -n env TAG=$TAG _HGAUTO_EXEC=$_HGAUTO_EXEC sleep 308", 2)
end)

t.test("timeouts", function()
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local tag = tag_of()
  local e = t.raises(function()
    s:exec("echo begun; setsid sleep 309", { env = { TAG = tag }, timeout = 1 })
  end, { kind = "timeout", code = "Command" }, "timeout")
  t.is({ e.result.out, e.remote_left }, { "begun\n", nil }, "output so far; nothing is left")
  t.is(gone(tag), 0, "nothing remains")
  t.raises(function()
    s:exec("sleep 310", { env = { TAG = tag }, idle_timeout = 0.5 })
  end, { kind = "timeout", code = "Idle" }, "idle")
  t.is(gone(tag), 0, "nothing remains")
  t.raises(function()
    async.timeout(0.5, function() s:exec("sleep 311", { env = { TAG = tag } }) end)
  end, { kind = "timeout" }, "the scope's deadline")
  t.is(gone(tag), 0, "nothing remains")
  tag = tag_of()
  t.raises(function()
    s:exec("exec sleep 3", { env = { TAG = tag }, timeout = 0.5, kill = "none" })
  end, { kind = "timeout" }, "kill=none")
  t.ok(#marked(tag) == 1, "leaves it alone")
  gone(tag)
end)

t.test("with all channels in use", function()
  for _, case in ipairs { { nil, 12 }, { "MaxSessions 1", 1 }, { "MaxSessions 2", 1, true } } do
    local few = case[1] and dofile("tests/servers/sshd.lua").start(t.tmpdir(), { case[1] })
    local s <close> = ssh.connect("127.0.0.1", (few or d):args())
    local tag, left, list = tag_of(), {}, {}
    for i = 1, case[2] do
      list[i] = i
    end
    if case[3] then
      s:stat("/tmp")
    end
    async.map(list, function()
      local x <close> = s:share()
      local e = t.raises(function()
        x:exec("sleep 316", { env = { TAG = tag }, timeout = 2 })
      end, { kind = "timeout" })
      left[#left + 1] = e.remote_left
    end, { limit = case[2] })
    t.is({ gone(tag), #left }, { 0, 0 }, (case[1] or "MaxSessions 10") .. ": nothing remains")
    t.is(s:exec("echo on").out, "on\n", "and the session goes on")
    if few then
      few:stop()
    end
  end
end)

t.test("a grace that was refused", function()
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local tag = tag_of()
  local p <close> = s:spawn("trap '' TERM; while :; do sleep 0.2; done", { env = { TAG = tag } })
  t.ok(starts(tag, 1), "runs")
  t.raises(function() p:kill(99999) end, { kind = "usage" }, "more than an hour")
  async.timeout(60, p.close, p)
  t.is(gone(tag), 0, "is not what the end waits for")
end)

t.test("the end of a scope ends its processes", function()
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local tag = tag_of()
  async.scope(function()
    s:spawn("setsid sleep 312 & sleep 313", { env = { TAG = tag } })
    t.ok(starts(tag, 3), "runs")
  end)
  t.is(gone(tag), 0, "nothing remains")
end)

t.test("after the connection was cut", function()
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local tag = tag_of()
  local cut
  local e = t.raises(function()
    s:exec("echo $PPID; setsid sleep 314", { env = { TAG = tag }, on_line = function(_, line)
      cut = cut or proc.run { "kill", "-9", line }
    end })
  end, { kind = "net", code = "ConnectionLost", match = "exit status unknown" }, "lost")
  t.ok(e.result.out:find("^%d+\n"), "output so far")
  t.is(gone(tag), 0, "a new connection ended it")
  t.raises(function() s:exec("true") end, { kind = "net" }, "the session stays dead")
  s:wait_ready { for_seconds = 10 }
  t.is(s:exec("echo again").out, "again\n", "until wait_ready")
end)

t.test("a server that does not answer", function()
  local s <close> = ssh.connect("127.0.0.1", d:args())
  local tag = tag_of()
  async.scope(function(sc)
    local pid
    local h = sc:spawn(function()
      s:exec("echo $PPID; sleep 315", { env = { TAG = tag }, on_line = function(_, line)
        pid = line
      end })
    end)
    t.ok(starts(tag, 1), "runs")
    while not pid do async.sleep(0.02) end
    proc.run { "kill", "-STOP", pid }
    h:cancel()
    pcall(h.join, h)
    proc.run { "kill", "-KILL", pid }
  end)
  t.is(gone(tag), 0, "a new connection ended it")
end)

t.test("Ctrl-C in a program of its own", function()
  local tag = tag_of()
  local a = d:args()
  fs.write(dir .. "/job.lua", ([[
    local ssh = require "hgauto.ssh"
    local s = ssh.connect("127.0.0.1", { user = "root", port = %d, keys = { %q }, host_key = %q })
    s:exec("setsid sleep 316 & sleep 317", { env = { TAG = %q } })
  ]]):format(a.port, a.keys[1], a.host_key, tag))
  local p = proc.spawn { host.getenv("HGAUTO") or fs.readlink("/proc/self/exe"), "test",
    dir .. "/job.lua" }
  t.ok(starts(tag, 3), "runs")
  p:kill("INT")
  p:wait()
  t.is(gone(tag), 0, "nothing remains")
end)

d:stop()
return t.done()
