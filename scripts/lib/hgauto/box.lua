--- Local instances: real Linux machines made of namespaces and an overlay.
-- Tier full (root) only; waits obey hgauto.async; the end of the scope that
-- started an instance kills it.

local core = require "hgauto.box.core"
local fs = require "hgauto.fs"
local host = require "hgauto.host"

local M = {}

local LOG_TAIL = 4096

local function fail(e)
  error(host.error(e), 0)
end

local function basename(path)
  return path:match("([^/]+)/*$")
end

local function dirname(path)
  return path:match("^(.*[^/])/+[^/]+/*$") or "/"
end

-- Name of the instance's directory as seen from the images directory: both
-- lie below one directory, and the mount options take relative names only.
local function relative(dir, images)
  local root = dirname(images)
  if dirname(dirname(dir)) ~= root then
    fail { kind = "usage", message = ("box.start: %s is not two levels below %s"):format(dir,
      root) }
  end
  return ("../%s/%s"):format(basename(dirname(dir)), basename(dir))
end

local NETS = { none = true, redirect = true }

local function check_supported(opts)
  if opts.net ~= nil and not NETS[opts.net] then
    fail { kind = "usage",
      message = ("box.start: network %s is neither none nor redirect"):format(
        tostring(opts.net)) }
  elseif opts.net == "redirect" and not opts.private_ip then
    fail { kind = "usage", message = "box.start: the network redirect needs a private_ip" }
  elseif opts.limits ~= nil and next(opts.limits) ~= nil then
    fail { kind = "io", code = "Unsupported",
      message = "box.start: limits are not supported yet" }
  end
end

-- The host's first IPv4 resolver.
local function resolver()
  local ok, text = pcall(fs.read, "/etc/resolv.conf")
  for line in (ok and text or ""):gmatch("[^\n]+") do
    local ip = line:match("^%s*nameserver%s+(%d+%.%d+%.%d+%.%d+)%s*$")
    if ip then
      return ip
    end
  end
end

local function users_of(list)
  local out = {}
  for i, user in ipairs(list or {}) do
    out[i] = {}
    for k, v in pairs(user) do
      out[i][k] = k == "groups" and type(v) == "table" and table.concat(v, ",") or v
    end
  end
  return out
end

local OURS = { name = true, dir = true, net = true, limits = true, users = true,
  images_dir = true }

-- Options of the core: what it knows passes through, so that it can name a
-- misspelt one.
local function core_options(opts)
  local images = fs.realpath(opts.images_dir or dirname(dirname(opts.dir)) .. "/images")
  local dir = fs.realpath(opts.dir)
  local place = relative(dir, images)
  local o = { images_dir = images, upper = place .. "/u", work = place .. "/w",
    log = dir .. "/box.log", hostname = opts.name, users = users_of(opts.users),
    program = core.program(dirname(images)) }
  if opts.net == "redirect" then
    o.redirect, o.dns = true, resolver()
  end
  for k, v in pairs(opts) do
    if not OURS[k] then
      o[k] = v
    end
  end
  return o, dir
end

-- The upper directory's mode is the mode of / inside.
local function make_dirs(dir)
  for _, d in ipairs { { "/u", 493 }, { "/w", 448 } } do
    fs.mkdir(dir .. d[1], { parents = true })
    fs.chmod(dir .. d[1], d[2])
  end
end

local function tail(path)
  local ok, text = pcall(fs.read, path)
  return ok and text:sub(-LOG_TAIL) or nil
end

--- Starts an instance and returns when its pid 1 is ready.
-- Its directory gets u (the upper layer, kept over starts), w and box.log. The
-- instance listens for SSH on port 22 of its address (2222 where that port is
-- refused: see info) as far as the rules admit somebody.
-- @param opts.name string for messages; also the host name by default
-- @param opts.hostname string
-- @param opts.dir string directory of the instance, two levels below the
--   parent of the images directory, e.g. STATE/local/instances/i-1
-- @param opts.images_dir string default: images beside the parent of dir
-- @param opts.layers string[] layer names, top first
-- @param opts.address string 127.x.y.z, optional
-- @param opts.private_ip string address on lo inside, optional
-- @param opts.net string "none" (default) or "redirect": TCP over IPv4 and names
--   reach what the host reaches, without the host itself; needs a private_ip.
--   A kernel without nf_tables gives "none": see info().net
-- @param opts.dns string resolver ADDRESS[:PORT], default the host's first one
-- @param opts.host_ports integer[] ports of the host's loopback that the instance
--   reaches at 172.31.0.1
-- @param opts.files table[] {path=, mode=420, owner="root", data=}; a path
--   that ends in / makes a directory
-- @param opts.users table[] {name=, shell=, groups=}: added if missing
-- @param opts.ports table[] inbound rules, see ports
-- @param opts.disks table[] {path=, names=}: files that become block devices;
--   names is a comma list of names below /dev; no path: names of a device that
--   cannot be opened
-- @param opts.timeout number seconds to boot, default 30
-- @return hgauto.box
-- @raise io (code = failed step; log = end of box.log), timeout, usage
-- @waits
function M.start(opts)
  check_supported(opts)
  if type(opts.dir) ~= "string" then
    fail { kind = "usage", message = "box.start: dir is required" }
  end
  make_dirs(opts.dir)
  local o, dir = core_options(opts)
  local r = table.pack(pcall(core.start, o))
  if r[1] then
    return r[2]
  end
  local e = r[2]
  if type(e) == "table" and e.kind ~= "cancelled" and e.kind ~= "usage" then
    e.message = ("cannot start %s: %s"):format(tostring(opts.name or dir), e.message)
    e.log = tail(o.log)
  end
  error(e, 0)
end

--- Command line that runs a program in process and mount namespaces of its own.
-- It ends with whoever runs it, even by kill -9, and all its children and mounts
-- with it.  Needs root.
-- @param argv string[] program and arguments
-- @param dir string where a copy of the box program may go
-- @return string[]
function M.contained(argv, dir)
  return table.move(argv, 1, #argv, 3, { core.program(dir), "contain" })
end

local function probe_lines(text)
  local lines, good = {}, true
  for name, verdict, why in text:gmatch("(%w+) (%w+) ?([^\n]*)\n") do
    lines[#lines + 1] = { name = name, ok = verdict == "ok", text = why ~= "" and why or nil }
    good = good and verdict == "ok"
  end
  return lines, good and #lines > 0
end

--- Tries out what instances need on this machine.
-- @param dir string directory on the file system that will hold instances,
--   default the temporary directory
-- @return {tier="full"|"none", lines={{name=, ok=, text=}}}
-- @waits
function M.probe(dir)
  local id = fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+(%d+)")
  if id ~= "0" then
    return { tier = "none", lines = { { name = "root", ok = false,
      text = "local instances need root; rootless ones are not supported yet" } } }
  end
  local temp = fs.tmpdir(dir or os.getenv("TMPDIR") or "/tmp", "hgauto-probe")
  local ok, r = pcall(function()
    return require("hgauto.proc").run({ core.program(temp), "probe", temp },
      { check = false, timeout = 30 })
  end)
  fs.remove(temp, { tree = true })
  if not ok then
    error(r, 0)
  end
  local lines, good = probe_lines(r.out)
  table.insert(lines, 1, { name = "root", ok = true })
  return { tier = good and r.ok and "full" or "none", lines = lines }
end

return M
