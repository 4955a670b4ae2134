-- hgauto.ssh: the same on many hosts: order, retries of what a full server dropped, nothing else
-- repeated, lines by host, an end that leaves no process.  SLOW=1: 500 hosts, too.
local async = require "hgauto.async"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")

local function args(d)
  local a = d:args()
  a.label = nil
  return a
end

local function same(n)
  local list = {}
  for i = 1, n do
    list[i] = { host = "127.0.0.1", label = "h" .. i }
  end
  return list
end

t.test("results", function()
  local d = sshd.start(dir)
  local heard, told = {}, {}
  local hosts = same(5)
  hosts[4] = { host = "127.0.0.1", port = 1, label = "none" }
  hosts[5] = { host = "127.0.0.1", label = "key" }
  hosts[5].host_key = proc.run({ "cat", dir .. "/other.pub" }).out
  local list = ssh.map(hosts, "echo out; echo err >&2", {
    connect = args(d), limit = 2,
    on_line = function(host, stream, line) heard[#heard + 1] = host .. stream .. line end,
    on_result = function(_, r, e) told[#told + 1] = r and r.code or e.kind end,
  })
  t.is({ #list, list.failed, list[1].ok, list[3].result.out, list[4].ok, list[5].ok },
    { 5, 2, true, "out\n", false, false }, "in the order of the hosts")
  t.is({ list[4].error.kind, list[4].attempts, list[5].error.code, list[5].attempts },
    { "net", 1, "HostKeyChanged", 1 }, "nobody listens, another key: not tried again")
  table.sort(heard)
  t.is(heard, { "h1errerr", "h1outout", "h2errerr", "h2outout", "h3errerr", "h3outout" }, "lines")
  table.sort(told, function(a, b) return tostring(a) < tostring(b) end)
  t.is(told, { 0, 0, 0, "auth", "net" }, "each result is told")
  list = ssh.map(same(3), function(s) return s:info().name end, { connect = args(d) })
  t.is({ list[1].result, list[3].result }, { "h1", "h3" }, "a function")
  list = ssh.map(same(2), "exit 3", { connect = args(d) })
  t.is({ list.failed, list[1].error.code, list[1].attempts }, { 2, "ExitCode", 1 },
    "a command is never repeated")
  t.raises(function()
    ssh.map(same(3), "exit 3", { connect = args(d), keep_going = false })
  end, { code = "ExitCode" }, "keep_going=false")
  t.is(#ssh.map({}, "true"), 0, "no hosts")
  t.raises(function() ssh.map({ 7 }, "true") end, { kind = "usage", match = "host 1" }, "a number")
  t.raises(function() ssh.map({ "a" }, "true", { limit = 0 }) end, { kind = "usage" }, "limit 0")
  d:stop()
end)

t.test("a full server", function()
  local d = sshd.start(dir, { "MaxStartups 3:100:3" })
  local list = ssh.map(same(40), "echo in", { connect = args(d), limit = 40,
    retry = 20 })
  local attempts = 0
  for _, r in ipairs(list) do
    attempts = attempts + r.attempts
    if not r.ok then
      t.ok(false, tostring(r.error))
    end
  end
  t.is(list.failed, 0, "all get in")
  t.ok(attempts > 40, ("some were refused first (%d attempts)"):format(attempts))
  d:stop()
end)

t.test("500 of 500 hosts", function()
  if not host.getenv("SLOW") then
    t.skip("SLOW=1: takes a minute")
  end
  -- What servers come with; all start at once.
  local d = sshd.start(dir, { "MaxStartups 10:30:100", "LogLevel INFO" })
  local list = ssh.map(same(500), "echo in", { connect = args(d), limit = 500, retry = 20 })
  local attempts, ins = 0, 0
  for _, r in ipairs(list) do
    attempts = attempts + r.attempts
    ins = ins + (r.ok and r.result.out == "in\n" and 1 or 0)
  end
  t.is({ ins, list.failed }, { 500, 0 }, "all get in")
  print(("# %d connections"):format(attempts))
  d:stop()
end)

t.test("an end in the middle", function()
  local d = sshd.start(dir)
  local t0
  local _, e = pcall(async.timeout, 4, function()
    ssh.map(same(6), "sleep 54321 & sleep 54321", { connect = args(d),
      on_result = function() end })
  end)
  t0 = time.mono()
  t.is(e.kind, "timeout", "cancelled")
  local left
  repeat
    left = proc.run({ "pgrep", "-f", "-x", "sleep 54321" }, { check = false }).out
    if left ~= "" then
      async.sleep(0.2)
    end
  until left == "" or time.mono() - t0 > 5
  t.is(left, "", "no process is left on any host")
  d:stop()
end)

return t.done()
