--- Brings files home and keeps dist/manifest.json.
local hg = require "hg"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local time = require "hgauto.time"

local M = {}

local function read_manifest(path)
  if not fs.exists(path) then
    return {}
  end
  local ok, doc = pcall(json.decode, fs.read(path))
  if not ok or type(doc) ~= "table" or type(doc.files) ~= "table" then
    hg.output.warn(path .. " is unreadable; a new one is written")
    return {}
  end
  return doc.files
end

-- Entries whose file is gone or altered are dropped.
local function still_true(dir, entry)
  local name = type(entry) == "table" and entry.name
  if type(name) ~= "string" or name:find("/", 1, true) then
    return false
  end
  local ok, st = pcall(fs.stat, dir .. "/" .. name)
  return ok and st.type == "file" and st.size == entry.size
    and fs.sha256(dir .. "/" .. name) == entry.sha256
end

--- Makes the directory for artifacts and checks that files can be put there.
-- @param dir string
-- @raise io
function M.prepare(dir)
  if hg.plan.on() then
    return
  end
  fs.mkdir(dir, { parents = true, mode = 493 })
  fs.remove(fs.tmpdir(dir, ".hgauto-"))
end

--- Adds entries to DIR/manifest.json, one per name, atomically.
-- @param dir string
-- @param entries table[] with name size sha256 kind …
function M.record(dir, entries)
  local path = dir .. "/manifest.json"
  local _lock <close> = hg.ledger.lock("manifest " .. fs.realpath(dir), 30)
  local fresh = {}
  for _, e in ipairs(entries) do
    fresh[e.name] = true
  end
  local files = {}
  for _, e in ipairs(read_manifest(path)) do
    if still_true(dir, e) and not fresh[e.name] then
      files[#files + 1] = e
    end
  end
  table.move(entries, 1, #entries, #files + 1, files)
  table.sort(files, function(a, b)
    return a.name < b.name
  end)
  fs.write(path, json.encode({ v = 1, files = json.list(files) }, { indent = 2 }) .. "\n",
    { mode = 420 & ~fs.umask() })
end

--- Downloads an artifact: hash there, download, hash here, rename into dir.
-- @param m table machine
-- @param remote string path on the machine
-- @param dir string local directory, made if absent
-- @return table {name, path, size, sha256}
-- @raise protocol the bytes differ
-- @waits
function M.fetch(m, remote, dir)
  local name = remote:match("[^/\\]+$")
  local there = m:sha256(remote)
  fs.mkdir(dir, { parents = true, mode = 493 })
  local path = dir .. "/" .. name
  local r = m:get(remote, path, { sha256 = there, mode = 420 & ~fs.umask() })
  local here = fs.sha256(path)
  if here ~= there then
    fs.remove(path)
    hg.fail { kind = "protocol", message = ("%s: SHA-256 differs after the download"):format(name) }
  end
  return { name = name, path = path, size = r and r.bytes or fs.stat(path).size, sha256 = here }
end

--- A manifest entry.
-- @param file table from fetch
-- @param o table further members (kind, version, node, …)
-- @return table
function M.entry(file, o)
  local e = { name = file.name, size = file.size, sha256 = file.sha256,
    built = time.iso(time.now()) }
  for k, v in pairs(o) do
    e[k] = v
  end
  return e
end

return M
