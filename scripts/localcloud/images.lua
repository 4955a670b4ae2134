--- Root file systems of local instances: read-only layers below images/.
-- A base is built once by mmdebstrap from the archives that this machine's apt
-- uses, under a lock, in a temporary directory that is renamed when complete. A
-- changed recipe gives a new layer; instances keep the one they started from.

local crypto = require "hgauto.crypto"
local facts = require "hg.facts"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

local M = {}

-- Part of the fingerprint: raise it when preparation changes.
local RECIPE = 1

--- Free bytes a build needs.
M.space_needed = 2 << 30

local BUILD_SECONDS = 3600
local TELL_SECONDS = 5
local TAIL_LINES = 30

--- What every instance needs, beside the packages that a build needs.
M.packages = {
  base = { "openssh-server", "sudo", "ca-certificates", "curl", "rsync", "procps", "iproute2",
    "e2fsprogs", "xfsprogs", "btrfs-progs" },
  dev = { "build-essential", "zip", "unzip" },
}

-- No fsync per file; and not the files that no machine of ours reads, a fifth of
-- the size.
local DPKG = { "force-unsafe-io", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright" }

local function fail(e)
  error(host.error(e), 0)
end

-- ---- names and records ----

local function package_list()
  local seen, out = {}, {}
  for _, list in ipairs { M.packages.base, M.packages.dev, facts.packages.build } do
    for _, name in ipairs(list) do
      if not seen[name] then
        seen[name] = true
        out[#out + 1] = name
      end
    end
  end
  return out
end

local function debian_arch()
  return proc.run({ "dpkg", "--print-architecture" }).out:match("%S+")
end

-- What decides about the contents of a base, but for the archive's state.
local function recipe_of(name, prepare)
  local fact = facts.images[name]
  if not fact or not fact.suite then
    local names = {}
    for n, f in pairs(facts.images) do
      names[#names + 1] = f.suite and n or nil
    end
    table.sort(names)
    fail { kind = "usage", message = ("no base image %s; known: %s"):format(name,
      table.concat(names, ", ")) }
  end
  local r = { name = name, suite = fact.suite, user = fact.user, release = fact.release,
    packages = package_list(), arch = debian_arch() }
  r.fingerprint = crypto.sha256(table.concat({ RECIPE, r.suite, r.user, r.arch, prepare,
    table.concat(r.packages, " "), table.concat(DPKG, " ") }, "\n"))
  r.layer = ("%s-%s"):format(name, r.fingerprint:sub(1, 12))
  return r
end

local function prepare_text()
  return require("hgauto.embed").read("localcloud/prepare-image.sh")
end

local function record_path(dir, layer)
  return ("%s/%s.json"):format(dir, layer)
end

local function read_record(dir, layer)
  local path = record_path(dir, layer)
  if not fs.exists(path) or not fs.exists(dir .. "/" .. layer) then
    return nil
  end
  local ok, record = pcall(json.decode, fs.read(path))
  return ok and record or nil
end

--- The layers that are built.
-- @param path string the local cloud's directory
-- @return {layer, name, release, size, tier, fingerprint, created, seconds}[]
function M.list(path)
  local out, dir = {}, path .. "/images"
  if not fs.exists(dir) then
    return out
  end
  for _, file in ipairs(fs.list(dir)) do
    local layer = file:match("^([%w][%w.-]*)%.json$")
    out[#out + 1] = layer and read_record(dir, layer) or nil
  end
  return out
end

--- The current layer of a base image if it is built.
-- @param path string the local cloud's directory
-- @param name string "debian13", "debian12"
-- @return table|nil as in list
function M.have(path, name)
  local recipe = recipe_of(name, prepare_text())
  return read_record(path .. "/images", recipe.layer)
end

-- ---- archives ----

local FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(ORIGIN)|$(CODENAME)"

-- Enabled sources of the machine's apt, from one-line and deb822 files alike.
local function index_targets(option)
  return proc.run({ "apt-get", option, "indextargets", "--format", FORMAT,
    "Created-By: Packages" }, { env = { LC_ALL = "C" } }).out
end

local function apt_rows()
  -- Release files know origin and code name; without apt-get update there are none.
  local out = index_targets("--release-info")
  if not out:match("%S") then
    out = index_targets("--no-release-info")
  end
  local rows = {}
  for line in out:gmatch("[^\n]+") do
    local f = {}
    for field in (line .. "|"):gmatch("([^|]*)|") do
      -- apt leaves the name of a field that has no value
      f[#f + 1] = not field:match("^%$%(") and field or ""
    end
    if f[1] ~= "" and f[3] == "main" then
      local full = f[6] ~= "" and f[6] or f[2]
      local base, suffix = full:match("^(.-)(%-%a+)$")
      if suffix ~= "-updates" and suffix ~= "-security" then
        base, suffix = full, ""
      end
      rows[#rows + 1] = { uri = f[1], base = base, suffix = suffix, signed = f[4],
        origin = f[5] }
    end
  end
  return rows
end

local KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

local function line_of(row, suite, keyring)
  local options = keyring and (" [signed-by=%s]"):format(keyring) or ""
  return ("deb%s %s %s%s main"):format(options, row.uri, suite, row.suffix)
end

local function add_once(list, text)
  for _, have in ipairs(list) do
    if have == text then
      return
    end
  end
  list[#list + 1] = text
end

local function own_keyring(row)
  return row.signed:match("^/[^,%s]+$")
end

-- The machine's own lines of that suite, or none.
local function own_lines(rows, suite)
  local lines = {}
  for _, row in ipairs(rows) do
    if row.base == suite then
      add_once(lines, line_of(row, suite, own_keyring(row)))
    end
  end
  return lines
end

-- The archive of the machine's release, with the suite's name replaced.
local function other_lines(rows, suite)
  local release = fs.exists("/etc/os-release") and fs.read("/etc/os-release") or ""
  local debian = ("\n" .. release):match('\nID="?debian"?\n')
  local own = release:match('VERSION_CODENAME="?(%w+)')
  local lines = {}
  for _, row in ipairs(rows) do
    local from_debian = row.origin == "Debian" or (row.origin == "" and debian)
    if from_debian and (row.base == own or own == nil) then
      add_once(lines, line_of(row, suite, KEYRING))
    end
  end
  if lines[1] and not fs.exists(KEYRING) then
    fail { kind = "io", code = "NoKeyring", message = ("%s is missing, so packages of %s cannot be"
      .. " verified"):format(KEYRING, suite), hint = "apt install debian-archive-keyring" }
  end
  return lines
end

local function sources(suite)
  local rows = apt_rows()
  local lines = own_lines(rows, suite)
  if not lines[1] then
    lines = other_lines(rows, suite)
  end
  if not lines[1] then
    fail { kind = "io", code = "NoSources", message = "this machine's apt has no Debian archive"
      .. " to build a base image from", hint = "add one to /etc/apt/sources.list and run"
      .. " apt-get update" }
  end
  return lines
end

-- Proxy and validity settings of the machine's apt, as lines of apt.conf.
local function apt_settings()
  local out = proc.run({ "apt-config", "dump" }, { env = { LC_ALL = "C" } }).out
  local lines = { 'APT::Install-Recommends "false";' }
  for name, rest in out:gmatch("(Acquire::[%w:_.-]+)([^\n]*)") do
    if name:match("^Acquire::https?::") or name:match("^Acquire::Check%-")
      or name == "Acquire::Retries" or name == "Acquire::Max-FutureTime" then
      if rest:match('"[^"]') then
        lines[#lines + 1] = name .. rest
      end
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- ---- checks ----

local function check_tools()
  local id = fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+(%d+)")
  if id ~= "0" then
    fail { kind = "io", code = "Unsupported", message = "building a base image needs root" }
  end
  if not proc.which("mmdebstrap") then
    fail { kind = "notfound", code = "NoTool", message = "mmdebstrap is not installed",
      hint = "apt install mmdebstrap" }
  end
end

local function check_space(dir, name)
  local free = fs.space(dir)
  if free < M.space_needed then
    fail { kind = "io", code = "NoSpace", message = ("%s needs %.1f GiB in %s, where %.1f GiB are"
      .. " free"):format(name, M.space_needed / (1 << 30), dir, free / (1 << 30)),
      hint = "free some space, or set HGAUTO_STATE to a directory on another disk" }
  end
end

-- ---- build ----

local function command(recipe, work)
  local quote = require("hg").sh.quote
  local argv = { "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory",
    "--verbose", "--include=" .. table.concat(recipe.packages, ","),
    "--aptopt=" .. work .. "/apt.conf", "--architectures=" .. recipe.arch }
  for _, line in ipairs(DPKG) do
    argv[#argv + 1] = "--dpkgopt=" .. line
  end
  argv[#argv + 1] = ("--customize-hook=sh %s \"$1\" %s"):format(
    quote(work .. "/prepare-image.sh"), quote(recipe.user))
  argv[#argv + 1], argv[#argv + 2] = recipe.suite, work .. "/root"
  return table.move(sources(recipe.suite), 1, 16, #argv + 1, argv)
end

-- Follows the build's output: the last lines for an error, and what to tell.
local function follower(recipe, progress)
  local f = { tail = {}, unpacked = 0, ready = 0, told = time.mono(),
    phase = "downloading packages" }
  function f.line(_, text)
    f.tail[#f.tail + 1] = text
    if #f.tail > TAIL_LINES then
      table.remove(f.tail, 1)
    end
    if text:match("^Unpacking ") then
      f.unpacked = f.unpacked + 1
      f.phase = ("unpacking packages, %d so far"):format(f.unpacked)
    elseif text:match("^Setting up ") then
      f.ready = f.ready + 1
      f.phase = ("setting up packages, %d of %d"):format(f.ready, f.unpacked)
    end
    if time.mono() - f.told >= TELL_SECONDS then
      f.told = time.mono()
      progress(("base image %s: %s"):format(recipe.name, f.phase))
    end
  end
  return f
end

local UNREACHABLE = { "Could not resolve", "Could not connect", "Failed to fetch",
  "Unable to connect", "Temporary failure", "Connection refused", "Connection timed out",
  "Network is unreachable", "403 *Forbidden", "407 *Proxy" }

-- One sentence from the output of a failed build.
local function explain(recipe, tail, result)
  local text = table.concat(tail, "\n")
  local last = tail[#tail] or ("exit code %s"):format(tostring(result.code))
  for i = #tail, 1, -1 do
    if tail[i]:match("^E: ") then
      last = tail[i]
      break
    end
  end
  local e = { kind = "io", code = "Build", output = text,
    message = ("building base image %s failed: %s"):format(recipe.name, last) }
  for _, pattern in ipairs(UNREACHABLE) do
    local line = text:match("[^\n]*" .. pattern .. "[^\n]*")
    if line then
      e.kind, e.code = "net", "Archive"
      e.message = ("base image %s: apt cannot fetch from the archive: %s"):format(recipe.name, line)
      e.hint = "apt-get update must work on this machine; check the network and apt's proxy"
      return e
    end
  end
  if text:match("NO_PUBKEY") or text:match("not signed") then
    e.code, e.hint = "NoKeyring", "apt install debian-archive-keyring (an up-to-date one)"
  elseif text:match("No space left") then
    e.code, e.hint = "NoSpace", "free some space and run it again"
  end
  return e
end

local function run_build(recipe, work, progress)
  local follow = follower(recipe, progress)
  -- mmdebstrap mounts into its root: that must not outlive us
  local argv = require("hgauto.box").contained(command(recipe, work), work)
  local r = proc.run(argv, { check = false, timeout = BUILD_SECONDS,
    env = { LC_ALL = "C", DEBIAN_FRONTEND = "noninteractive" }, on_line = follow.line,
    max_output = 65536 })
  if not r.ok then
    fail(explain(recipe, follow.tail, r))
  end
  for _, program in ipairs { "usr/sbin/sshd", "usr/bin/sudo", "bin/sh" } do
    if not fs.exists(work .. "/root/" .. program) then
      fail { kind = "io", code = "Build",
        message = ("base image %s came out without /%s"):format(recipe.name, program) }
    end
  end
end

local function size_of(dir)
  return tonumber(proc.run({ "du", "-s", "-B1", dir }, { timeout = 600 }).out:match("^%d+"))
end

local function remove_leftovers(dir)
  for _, name in ipairs(fs.list(dir)) do
    if name:match("^%.build%-") then
      fs.remove(dir .. "/" .. name, { tree = true })
    end
  end
end

local function build(dir, recipe, prepare, progress)
  local began = time.mono()
  local work = fs.tmpdir(dir, ".build-")
  -- mmdebstrap drops rights for parts of its work
  fs.chmod(work, 493)
  fs.write(work .. "/prepare-image.sh", prepare)
  fs.write(work .. "/apt.conf", apt_settings())
  local ok, e = pcall(run_build, recipe, work, progress)
  if ok then
    local record = { layer = recipe.layer, name = recipe.name, release = recipe.release,
      fingerprint = recipe.fingerprint, tier = "full", size = size_of(work .. "/root"),
      created = time.iso(time.now()), seconds = math.floor(time.mono() - began + 0.5) }
    fs.write(record_path(dir, recipe.layer), json.encode(record, { indent = 2 }) .. "\n",
      { atomic = true })
    fs.rename(work .. "/root", dir .. "/" .. recipe.layer)
    fs.remove(work, { tree = true })
    progress(("base image %s: built in %d s, %d MiB"):format(recipe.name, record.seconds,
      record.size >> 20))
    return record
  end
  fs.remove(work, { tree = true })
  error(e, 0)
end

--- The layer of a base image, built at first use.
-- @param name string "debian13" or "debian12"
-- @param opts.path string the local cloud's directory
-- @param opts.progress function(text) told what happens, optional
-- @return {layer, name, release, tier, size, …}
-- @raise notfound NoTool, io NoSpace, NoSources, NoKeyring, Build, net Archive
-- @waits
function M.ensure(name, opts)
  if name == "host" then
    fail { kind = "io", code = "Unsupported",
      message = "the host's own system as an image is not supported yet",
      hint = "apt install mmdebstrap, then use debian13" }
  end
  local progress = opts.progress or function() end
  local dir, prepare = opts.path .. "/images", prepare_text()
  local recipe = recipe_of(name, prepare)
  local have = read_record(dir, recipe.layer)
  if have then
    return have
  end
  check_tools()
  fs.mkdir(dir, { parents = true, mode = 448 })
  check_space(dir, name)
  progress(("base image %s: preparing (about a minute with a near archive, once)"):format(name))
  local _lock <close> = fs.lock(dir .. "/.lock", { wait = BUILD_SECONDS })
  have = read_record(dir, recipe.layer)
  if have then
    return have
  end
  remove_leftovers(dir)
  return build(dir, recipe, prepare, progress)
end

return M
