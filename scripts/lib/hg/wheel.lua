--- Reading a wheel: its METADATA, and as the fields that package indexes want.
local crypto = require "hgauto.crypto"
local hg = require "hg"

local M = {}

-- The end of an archive is found in its last bytes; more than this is no wheel.
local TAIL, DIRECTORY, METADATA = 65557, 16 << 20, 1 << 20

local function broken(path, why)
  hg.fail { kind = "task", message = ("%s is no wheel: %s"):format(path, why) }
end

-- The central directory as bytes.
local function directory(file, path)
  local size = file:seek "end"
  file:seek("set", math.max(0, size - TAIL))
  local tail = file:read "a"
  local at
  for i = #tail - 21, 1, -1 do
    if tail:sub(i, i + 3) == "PK\5\6" then
      at = i
      break
    end
  end
  if not at then
    broken(path, "no end of an archive in it")
  end
  local length, start = ("<I4I4"):unpack(tail, at + 12)
  if length > DIRECTORY or start + length > size then
    broken(path, "its directory is not inside it")
  end
  file:seek("set", start)
  return file:read(length) or ""
end

local HEADER = "<I4I2I2I2I2I2I2I4I4I4I2I2I2I2I2I4I4"
local HEADER_SIZE = HEADER:packsize()

-- The one METADATA in the directory: {method, crc, packed, size, at}.
local function find_metadata(bytes, path)
  local at, found = 1, nil
  while at + HEADER_SIZE - 1 <= #bytes do
    local f = { HEADER:unpack(bytes, at) }
    if f[1] ~= 0x02014b50 then
      break
    end
    local name = bytes:sub(at + HEADER_SIZE, at + HEADER_SIZE + f[11] - 1)
    if name:find "^[^/]+%.dist%-info/METADATA$" then
      if found then
        broken(path, "two METADATA in it")
      end
      found = { method = f[5], crc = f[8], packed = f[9], size = f[10], at = f[17] }
    end
    at = at + HEADER_SIZE + f[11] + f[12] + f[13]
  end
  return found or broken(path, "no METADATA in it")
end

-- An archive holds bare deflate data; with the head and tail of gzip it is a member of that.
local function inflate(data, entry)
  return crypto.gunzip("\31\139\8\0\0\0\0\0\0\255" .. data
    .. ("<I4I4"):pack(entry.crc, entry.size), METADATA)
end

local function contents(file, entry, path)
  if entry.size > METADATA or entry.packed > METADATA then
    broken(path, "its METADATA is too large")
  end
  file:seek("set", entry.at)
  local head = file:read(30) or ""
  if #head < 30 or head:sub(1, 4) ~= "PK\3\4" then
    broken(path, "its directory points at nothing")
  end
  local name, extra = ("<I2I2"):unpack(head, 27)
  file:seek("cur", name + extra)
  local data = file:read(entry.packed) or ""
  if entry.method == 0 and #data == entry.size then
    return data
  end
  local ok, text = pcall(inflate, data, entry)
  if entry.method ~= 8 or not ok then
    broken(path, "its METADATA cannot be unpacked")
  end
  return text
end

--- METADATA of a wheel as it stands in the archive.
-- @param path string
-- @return string
-- @raise task it is no wheel; io
function M.metadata(path)
  local file <close> = assert(io.open(path, "rb"))
  return contents(file, find_metadata(directory(file, path), path), path)
end

-- Headers of which there may be several, by the name of their field.
local LISTS = { platform = "platform", classifier = "classifiers",
  supported_platform = "supported_platform", requires_dist = "requires_dist",
  provides_dist = "provides_dist", obsoletes_dist = "obsoletes_dist", provides = "provides",
  requires = "requires", obsoletes = "obsoletes", requires_external = "requires_external",
  project_url = "project_urls", provides_extra = "provides_extra", dynamic = "dynamic",
  license_file = "license_file" }

--- The fields of a form that METADATA stands for.
-- @param text string
-- @return table[] {name, value} in the order of the text
function M.fields(text)
  text = text:gsub("\r\n", "\n")
  local head, body = text:match "^(.-)\n\n(.*)$"
  local fields, last = {}, nil
  for line in ((head or text) .. "\n"):gmatch "([^\n]*)\n" do
    local name, value = line:match "^([%w-]+):%s*(.*)$"
    if line:find "^[ \t]" and last then
      last[2] = last[2] .. "\n" .. line:gsub("^[ \t]*|?", "")
    elseif name then
      name = name:lower():gsub("-", "_")
      last = { LISTS[name] or name, value }
      fields[#fields + 1] = last
    end
  end
  if body and body:find "%S" then
    fields[#fields + 1] = { "description", body }
  end
  return fields
end

return M
