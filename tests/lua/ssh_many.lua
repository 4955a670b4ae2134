-- hgauto.ssh: many sessions in one process give everything back: descriptors, memory, server
-- processes.  SLOW=1: 500 sessions at once, else 60.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir, { "MaxStartups 10000" })
local n = host.getenv("SLOW") and 500 or 60

local function descriptors()
  return #fs.list("/proc/self/fd")
end

local function memory()
  collectgarbage()
  collectgarbage()
  return tonumber(fs.read("/proc/self/status"):match("RssAnon:%s+(%d+)"))
end

local function round(count)
  local list, numbers = {}, {}
  for i = 1, count do
    numbers[i] = i
  end
  async.map(numbers, function(i)
    list[i] = ssh.connect("127.0.0.1", d:args { timeout = 300 }):keep()
    list[i]:write(("%s/f%d"):format(dir, i), ("text %d"):format(i))
    if list[i]:exec({ "echo", tostring(i) }).out ~= i .. "\n" then
      t.ok(false, "a command on session " .. i)
    end
  end, { limit = 40 })
  local most = memory()
  for i, s in ipairs(list) do
    if s:read(("%s/f%d"):format(dir, i)) ~= "text " .. i then
      t.ok(false, "a file of session " .. i)
    end
    s:close()
  end
  return most
end

t.test("sessions", function()
  round(3) -- what is made once: pools, tables, libraries
  async.sleep(0.2)
  local fds, before = descriptors(), memory()
  local most = round(n)
  local limit = time.mono() + 10
  while descriptors() > fds and time.mono() < limit do
    async.sleep(0.05)
  end
  t.is(descriptors(), fds, "no descriptor is left")
  local each = (most - before) / n
  print(("# %d sessions: %d KiB, %.0f KiB each"):format(n, most - before, each))
  if t.sanitized() then
    t.skip "AddressSanitizer is in this program: its memory is not ours"
  end
  t.ok(most - before <= 6144 + 90 * n, ("%.0f KiB a live session"):format(each))
  memory()
  async.sleep(0.1) -- the heap is given back when there is nothing to do
  local left = memory() - before
  t.ok(left < 2048, ("%d KiB are left"):format(left))
end)

d:stop()
return t.done()
