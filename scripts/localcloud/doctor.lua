--- What local instances need from this machine: one line per check, one next step.

local fs = require "hgauto.fs"
local proc = require "hgauto.proc"

local M = {}

local SPACE = 5 << 30

-- A check returns true and a remark, or false, what is wrong and the next step.
local checks = {}

local function check(name, fn)
  checks[#checks + 1] = { name = name, fn = fn }
end

check("proc", function()
  if fs.exists("/proc/self/status") then
    return true
  end
  return false, "/proc is not mounted", "mount -t proc proc /proc"
end)

check("kernel", function()
  if not fs.exists("/proc/sys/kernel/osrelease") then
    return true, "unknown"
  end
  local text = fs.read("/proc/sys/kernel/osrelease"):match("%S+")
  local major, minor = text:match("^(%d+)%.(%d+)")
  major, minor = tonumber(major), tonumber(minor)
  if major > 5 or (major == 5 and minor >= 11) then
    return true, "Linux " .. text
  end
  return false, ("Linux %s is older than 5.11"):format(text),
    "use a newer kernel, a Linux VM, WSL2, or AWS itself"
end)

check("root", function()
  if not fs.exists("/proc/self/status") then
    return true, "unknown"
  end
  local id = fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+(%d+)")
  if id == "0" then
    return true
  end
  return false, "instances of tier full need root, rootless ones are not supported yet",
    "run it as root: sudo hgauto …"
end)

local NEXT = {
  bind = "stop the program that holds ports 22 and 2222 on all addresses",
  namespaces = "allow namespaces: outside a container, or in a privileged one",
  overlay = "use a directory on a local disk for the state (HGAUTO_STATE), not overlayfs, NFS"
    .. " or eCryptfs",
  mounts = "allow mounts: outside a container, or in a privileged one",
  net = "allow network namespaces: outside a container, or in a privileged one",
  directory = "make the state directory writable",
}

local NAMES = { bind = "SSH address", namespaces = "namespaces", overlay = "overlay",
  mounts = "mounts", net = "network namespace", directory = "state directory" }

-- The checks of the box program itself become lines of their own.
local function probe(ctx, add)
  local r = require("hgauto.box").probe(ctx.place)
  for _, line in ipairs(r.lines) do
    if line.name ~= "root" then
      add(NAMES[line.name] or line.name, line.ok, line.text, NEXT[line.name])
    end
  end
  if r.tier ~= "full" and #r.lines < 2 then
    add("box program", false, "it does not run", "build hgauto again")
  end
  ctx.tier = r.tier
end

local function built(path)
  local images = require "localcloud.images"
  for _, name in ipairs { "debian13", "debian12" } do
    local ok, have = pcall(images.have, path, name)
    if ok and have then
      return name
    end
  end
end

check("base image", function(ctx)
  ctx.built = built(ctx.path)
  return true, ctx.built and ctx.built .. " is built"
    or "none is built yet: done at first use"
end)

check("mmdebstrap", function(ctx)
  if proc.which("mmdebstrap") then
    return true
  elseif ctx.built then
    return true, "not installed, not needed now"
  end
  return false, "mmdebstrap is not installed", "apt install mmdebstrap"
end)

check("apt", function(ctx)
  if ctx.built then
    return true, "not needed now"
  elseif not proc.which("apt-get") then
    return false, "no apt on this machine", "use a Debian machine"
  end
  local r = proc.run({ "apt-get", "--no-release-info", "indextargets", "--format",
    "$(REPO_URI)", "Created-By: Packages" }, { check = false, timeout = 30 })
  if r.ok and r.out:match("%S") then
    return true
  end
  return false, "apt has no package archive",
    "add a Debian archive to /etc/apt/sources.list and run apt-get update"
end)

check("disk", function(ctx)
  local free = fs.space(ctx.place)
  local text = ("%.1f GiB free in %s"):format(free / (1 << 30), ctx.place)
  if free >= SPACE then
    return true, text
  end
  return false, text .. ", 5 are needed",
    "free some space, or set HGAUTO_STATE to a directory on another disk"
end)

-- The nearest directory that exists: the state need not be there yet.
local function existing(path)
  while not fs.exists(path) do
    path = path:match("^(.*)/[^/]+/*$") or "/"
    if path == "" then
      path = "/"
    end
  end
  return path
end

local function text_of(name, ok, remark)
  return ("%s: %s%s"):format(name, ok and "ok" or "failed",
    remark and (ok and " (%s)" or " - %s"):format(remark) or "")
end

--- Runs all checks.
-- @param opts.path string the local cloud's directory, which need not exist
-- @return {ok=boolean, tier="full"|"none", lines=string[], next=string|nil}
-- @waits
function M.run(opts)
  local r = { ok = true, tier = "none", lines = {} }
  local ctx = { path = opts.path, place = existing(opts.path), tier = "none" }
  local function add(name, ok, remark, next_step)
    r.lines[#r.lines + 1] = text_of(name, ok, remark)
    if not ok then
      r.ok = false
      r.next = r.next or next_step
    end
  end
  for _, c in ipairs(checks) do
    local ok, remark, next_step = c.fn(ctx)
    add(c.name, ok, remark, next_step)
    if c.name == "root" and r.ok then
      probe(ctx, add)
    end
  end
  r.tier = r.ok and ctx.tier or "none"
  if r.ok then
    r.lines[#r.lines + 1] = "tier: " .. r.tier
  end
  return r
end

return M
