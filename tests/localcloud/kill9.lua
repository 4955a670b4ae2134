-- kill -9 of keeper, pid 1 and daemon, ten rounds: no process, no namespace and
-- no mount of an instance is left after a second.  Needs root.
local box = require "hgauto.box"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local ROUNDS, BOXES = tonumber(os.getenv("HGAUTO_TEST_ROUNDS") or "10"), 3
local top = os.getenv("KILL9_TOP")

-- ---- the victim: this file again, as a daemon with instances ----

local function start_box(i)
  local dir = ("%s/instances/i-%d"):format(top, i)
  fs.mkdir(dir, { parents = true })
  local b = box.start { name = "i-" .. i, dir = dir, layers = { "tiny" },
    address = "127.77.251." .. i, ports = { { from = 22, cidr = "127.0.0.0/8" } } }
  b:exec { shell = "busybox setsid sleep 1000 >/dev/null 2>&1 & (trap '' TERM HUP; sleep 1001 &)"
    .. " >/dev/null 2>&1" }
  return b
end

local function victim()
  local async = require "hgauto.async"
  local boxes, pids = {}, {}
  for i = 1, BOXES do
    boxes[i] = start_box(i)
    pids[i] = boxes[i]:info().pid
  end
  fs.write(top .. "/ready", json.encode(pids), { atomic = true })
  local reasons = {}
  for i = 1, 2 do
    reasons[i] = boxes[i]:wait({ timeout = 20 }).reason
  end
  fs.write(top .. "/reasons", json.encode(reasons), { atomic = true })
  async.sleep(60)
end

if top then
  victim()
  return t.done()
end

-- ---- the test ----

local probe = box.probe()
if probe.tier ~= "full" then
  t.skip("no tier for local instances (root is needed)")
end
if not fs.exists("/bin/busybox") then
  t.skip("no /bin/busybox (apt install busybox-static)")
end

local function make_layer(dir)
  local root = dir .. "/images/tiny"
  for _, d in ipairs { "", "/bin", "/usr", "/usr/sbin" } do
    fs.mkdir(root .. d, { parents = true })
    fs.chmod(root .. d, 493)
  end
  fs.copy("/bin/busybox", root .. "/bin/busybox")
  fs.chmod(root .. "/bin/busybox", 493)
  fs.symlink("busybox", root .. "/bin/sh")
  fs.symlink("busybox", root .. "/bin/sleep")
end

local function processes()
  local out = {}
  for _, name in ipairs(fs.list("/proc")) do
    out[#out + 1] = math.tointeger(tonumber(name))
  end
  return out
end

-- Processes come and go while we look: what cannot be read is not there.
local function link_of(pid, name)
  local ok, text = pcall(fs.readlink, ("/proc/%d/%s"):format(pid, name))
  return ok and text or nil
end

local function parent_of(pid)
  local ok, text = pcall(fs.read, ("/proc/%d/stat"):format(pid))
  return ok and tonumber(text:match("^%d+ %(.*%) %a (%d+)")) or nil
end

local function child_of(pid)
  for _, p in ipairs(processes()) do
    if parent_of(p) == pid then
      return p
    end
  end
end

-- Processes in one of these mount namespaces.
local function members(namespaces)
  local n = 0
  for _, pid in ipairs(processes()) do
    local ns = link_of(pid, "ns/mnt")
    n = n + (ns and namespaces[ns] and 1 or 0)
  end
  return n
end

-- A zombie that its new parent has not collected yet holds nothing.
local function any_alive(pids)
  for _, pid in ipairs(pids) do
    if link_of(pid, "ns/mnt") then
      return true
    end
  end
  return false
end

local function mounts()
  return fs.read("/proc/self/mountinfo")
end

local function round(i)
  local dir = t.tmpdir()
  make_layer(dir)
  local p = proc.spawn({ fs.readlink("/proc/self/exe"), "test", "tests/localcloud/kill9.lua" },
    { env = { KILL9_TOP = dir } })
  t.ok(t.eventually(function()
    return fs.exists(dir .. "/ready")
  end, 20), ("round %d: %d instances are up"):format(i, BOXES))
  local keepers = json.decode(fs.read(dir .. "/ready"))
  local inits, namespaces = {}, {}
  for k, keeper in ipairs(keepers) do
    inits[k] = child_of(keeper)
    namespaces[link_of(inits[k], "ns/mnt")] = true
  end
  t.ok(members(namespaces) >= 3 * BOXES, "with commands inside")
  proc.run { "busybox", "kill", "-9", tostring(keepers[1]) }
  proc.run { "busybox", "kill", "-9", tostring(inits[2]) }
  t.ok(t.eventually(function()
    return fs.exists(dir .. "/reasons")
  end, 10), "the daemon sees both ends")
  t.is(json.decode(fs.read(dir .. "/reasons")), { "crash", "crash" }, "as crashes")
  proc.run { "busybox", "kill", "-9", tostring(p:pid()) }
  t.ok(t.eventually(function()
    return members(namespaces) == 0 and not any_alive(keepers)
  end, 1), "no process and no namespace is left after a second")
  p:close()
end

local before = mounts()
for i = 1, ROUNDS do
  t.test("round " .. i, function()
    round(i)
  end)
end
t.is(mounts(), before, "the mounts of the machine are as before")
return t.done()
