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
  local path = dir .. "/" .. tostring(entry.name)
  if not fs.exists(path) then
    return false
  end
  return fs.stat(path).size == entry.size and fs.sha256(path) == entry.sha256
end

--- Adds entries to DIR/manifest.json, one per name, atomically.
-- @param dir string
-- @param entries table[] with name size sha256 kind …
function M.record(dir, entries)
  local path = dir .. "/manifest.json"
  local lock <close> = fs.lock(dir .. "/.manifest.lock", { wait = 30 }) -- luacheck: ignore
  local fresh = {}
  for _, e in ipairs(entries) do
    fresh[e.name] = true
  end
  local files = {}
  for _, e in ipairs(read_manifest(path)) do
    if not fresh[e.name] and still_true(dir, e) then
      files[#files + 1] = e
    end
  end
  table.move(entries, 1, #entries, #files + 1, files)
  table.sort(files, function(a, b)
    return a.name < b.name
  end)
  fs.write(path, json.encode({ v = 1, files = json.list(files) }, { indent = 2 }) .. "\n",
    { mode = 420 })
  fs.remove(dir .. "/.manifest.lock")
end

--- Downloads an artifact: hash there, download, hash here, rename into dir.
-- @param m table machine
-- @param remote string path on the machine
-- @param dir string local directory, made if absent
-- @return table {name, path, size, sha256}
-- @raise protocol the bytes differ
-- @waits
function M.fetch(m, remote, dir)
  local name = remote:match("[^/]+$")
  local there = m:sha256(remote)
  fs.mkdir(dir, { parents = true, mode = 493 })
  local path = dir .. "/" .. name
  local r = m:get(remote, path, { sha256 = there, mode = 420 })
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
