--- Publishing what Windows machines have built: what belongs to a release, whether
--- it may go out, and bringing it to the web server.
local fs = require "hgauto.fs"
local hg = require "hg"
local json = require "hgauto.json"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- First bytes of what a simulated machine makes, and of the real things.
local SIMULATED = "HGAUTO SIMULATED"
local MAGIC = { wheel = "PK\3\4", inno = "MZ", wix = "\208\207\17\224" }
local NAMES = { wheel = "a wheel", inno = "a Windows program", wix = "an MSI package" }

local function read_manifest(dir)
  local path = dir .. "/manifest.json"
  local ok, doc = pcall(function()
    return json.decode(fs.read(path))
  end)
  if not ok or type(doc) ~= "table" or type(doc.files) ~= "table" then
    hg.fail { kind = "task", message = ("%s: no readable manifest of artifacts"):format(path),
      hint = "hgauto build-all-windows-packages makes them; --dist-path DIR" }
  end
  return doc.files
end

--- What a release consists of.
-- @return table[] {kind, arch, python} in the order in which it is published
function M.wanted()
  local list = {}
  for _, python in ipairs(hg.facts.windows_pythons) do
    for _, arch in ipairs { "x86", "x64" } do
      list[#list + 1] = { kind = "wheel", python = python, arch = arch }
    end
  end
  for _, kind in ipairs { "inno", "wix" } do
    for _, arch in ipairs { "x86", "x64" } do
      list[#list + 1] = { kind = kind, arch = arch }
    end
  end
  return list
end

local function described(w)
  return w.python and ("wheel for Python %s %s"):format(w.python, w.arch)
    or ("%s %s"):format(w.kind == "inno" and "Inno Setup installer" or "MSI installer", w.arch)
end

local function find(entries, w, version)
  for _, e in ipairs(entries) do
    if type(e) == "table" and e.kind == w.kind and e.arch == w.arch and e.version == version
      and e.os == "windows" and (not w.python or e.python == w.python) then
      return e
    end
  end
  return nil
end

-- A run of a simulated machine makes nothing that may go out, whatever its files say.
local function run_was_simulated(id)
  if type(id) ~= "string" or not id:find "^%d+%-%d+%-%x+$" then
    return false
  end
  for _, m in ipairs(hg.runs.read(id).machines or {}) do
    if m.simulated then
      return true
    end
  end
  return false
end

local function check_file(dir, e)
  if type(e.name) ~= "string" or e.name:find "[/%c]" or type(e.sha256) ~= "string" then
    hg.fail { kind = "task", message = dir .. "/manifest.json: an entry without a proper name" }
  end
  local path = dir .. "/" .. e.name
  if not fs.exists(path) then
    hg.fail { kind = "task", message = path .. " is gone" }
  end
  local head = fs.read(path, { max = 1 << 30 }):sub(1, #SIMULATED)
  if e.simulated or head == SIMULATED or run_was_simulated(e.run) then
    hg.fail { kind = "task", code = "Simulated",
      message = ("%s was made by a simulated machine and is never published"):format(e.name) }
  elseif head:sub(1, #MAGIC[e.kind]) ~= MAGIC[e.kind] then
    hg.fail { kind = "task", message = ("%s is not %s"):format(e.name, NAMES[e.kind]) }
  end
  local sum = fs.sha256(path)
  if sum ~= e.sha256 then
    hg.fail { kind = "task", message = ("%s is not the file that was built: its SHA-256 differs"
      .. " from the manifest"):format(e.name) }
  end
  return { name = e.name, path = path, kind = e.kind, arch = e.arch, python = e.python,
    sha256 = sum, size = fs.stat(path).size }
end

--- The files of a release, each checked; nothing is sent.
-- @param dir string with manifest.json
-- @param version string
-- @param[opt] allow_missing boolean
-- @return table[] {name, path, kind, arch, python, sha256, size}
-- @raise task something is missing, altered, or of a simulated machine
function M.plan(dir, version, allow_missing)
  local entries, files, missing = read_manifest(dir), {}, {}
  for _, w in ipairs(M.wanted()) do
    local e = find(entries, w, version)
    if e then
      files[#files + 1] = check_file(dir, e)
    else
      missing[#missing + 1] = described(w)
    end
  end
  if #files == 0 or (#missing > 0 and not allow_missing) then
    hg.fail { kind = "task", message = ("release %s: %s lacks %s"):format(version, dir,
      table.concat(missing, ", ")), hint = #files > 0 and "--allow-missing publishes the rest"
      or nil }
  end
  return files
end

-- ---- the web server ------------------------------------------------------------------------

local ROWS = {
  { kind = "inno", arch = "x86", pattern = ".*Windows.*",
    text = "Inno Setup installer - x86 Windows (Python 3) - does not require admin rights" },
  { kind = "inno", arch = "x64", pattern = ".*Windows.*(WOW|x)64.*",
    text = "Inno Setup installer - x64 Windows (Python 3) - does not require admin rights" },
  { kind = "wix", arch = "x86", pattern = ".*Windows.*",
    text = "MSI installer - x86 Windows (Python 3) - requires admin rights" },
  { kind = "wix", arch = "x64", pattern = ".*Windows.*(WOW|x)64.*",
    text = "MSI installer - x64 Windows (Python 3) - requires admin rights" },
}

--- The address under which a file of a release can be fetched.
-- @param name string
-- @return string
function M.address(name)
  return hg.facts.release.address .. name
end

--- latest.dat: what the download page offers.
-- @param version string
-- @param files table[] from plan
-- @return string
function M.latest(version, files)
  local lines = {}
  for _, row in ipairs(ROWS) do
    for _, f in ipairs(files) do
      if f.kind == row.kind and f.arch == row.arch then
        lines[#lines + 1] = ("10\t%s\t%s\t%s\tMercurial %s %s\n"):format(version, row.pattern,
          M.address(f.name), version, row.text)
      end
    end
  end
  return table.concat(lines)
end

--- Connects to the web server: the user's own keys, its host key strictly from
--- his known_hosts.
-- @param host string name or name:port
-- @param[opt] user string
-- @return table SSH session
-- @waits
function M.connect(host, user)
  local name, port = host:match "^(.-):(%d+)$"
  return require("hgauto.ssh").connect(name or host, { user = user,
    port = math.tointeger(tonumber(port)), config = true, timeout = 60 })
end

local function remote_hash(s, path)
  local dir = fs.tmpdir(session.run and session.run.dir or nil, "publish-")
  local _d <close> = require("hgauto.async").defer(function()
    fs.remove(dir, { tree = true })
  end)
  s:get(path, dir .. "/f")
  return fs.sha256(dir .. "/f")
end

-- Appears whole, after what arrived was read back.
local function put(s, from, to, sum)
  local part = to:gsub("[^/]*$", ".%0.part-" .. require("hgauto.crypto").token():sub(1, 8))
  s:put(from, part, { atomic = false })
  local ok, theirs = pcall(remote_hash, s, part)
  if not ok or theirs ~= sum then
    pcall(s.remove, s, part)
    if not ok then
      error(theirs, 0)
    end
    hg.fail { kind = "protocol", message = ("%s arrived with other content"):format(to) }
  end
  s:chmod(part, 436) -- 0664
  s:rename(part, to)
end

local function exists(s, path)
  local ok, e = pcall(s.stat, s, path)
  if not ok and (type(e) ~= "table" or e.kind ~= "notfound") then
    error(e, 0)
  end
  return ok
end

--- Which installers the server has not got yet.
-- @param s table SSH session
-- @param directory string there
-- @param files table[]
-- @return table[]
-- @raise task it has another file of that name
-- @waits
function M.absent(s, directory, files)
  local list = {}
  for _, f in ipairs(files) do
    local path = directory .. "/" .. f.name
    if not exists(s, path) then
      list[#list + 1] = f
    elseif remote_hash(s, path) ~= f.sha256 then
      hg.fail { kind = "task", message = ("%s is published already, with other content")
        :format(f.name) }
    end
  end
  return list
end

--- Puts one file onto the server.
-- @waits
function M.send(s, directory, file)
  put(s, file.path, directory .. "/" .. file.name, file.sha256)
end

--- Replaces latest.dat, after all it names is there; the old one is kept here.
-- @param s table SSH session
-- @param directory string there
-- @param text string
-- @param dir string where the old one goes
-- @return string|nil path of the old one
-- @waits
function M.send_latest(s, directory, text, dir)
  local path, old = directory .. "/latest.dat", nil
  if exists(s, path) then
    local before = s:read(path)
    if before == text then
      return nil
    end
    old = ("%s/latest-windows-%s.dat"):format(dir,
      time.iso(math.floor(time.now())):gsub("%.%d+", ""):gsub("[-:Z]", ""))
    fs.write(old, before, { mode = 420 & ~fs.umask() })
  end
  local temp = fs.tmpdir(session.run and session.run.dir or nil, "publish-")
  local _d <close> = require("hgauto.async").defer(function()
    fs.remove(temp, { tree = true })
  end)
  fs.write(temp .. "/latest.dat", text)
  put(s, temp .. "/latest.dat", path, fs.sha256(temp .. "/latest.dat"))
  return old
end

return M
