-- Files of images, instances and volumes.  A layer is a read-only directory
-- below images/; an image is made by renaming an instance's upper directory
-- into one.  What no object names is garbage.

local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local log = require "hgauto.log"
local proc = require "hgauto.proc"

local M = {}

--- Layers of an instance at most, base included; the kernel's limit is higher,
-- each costs time per lookup.
M.max = 16

local COPY_SECONDS = 1800

--- A name for a new layer.
-- @return string
function M.new_name()
  return "layer-" .. crypto.hex(crypto.random(8))
end

local function image_path(dir, layer)
  return ("%s/images/%s"):format(dir, layer)
end

--- Path of a volume's or snapshot's file.
-- @param dir string the local cloud's directory
-- @param id string
-- @return string
function M.volume_path(dir, id)
  return ("%s/volumes/%s.img"):format(dir, id)
end

local function copy(from, to)
  proc.run({ "cp", "-a", "--sparse=always", "--reflink=auto", "--", from, to },
    { timeout = COPY_SECONDS })
end

-- ---- layers ----

--- Makes a layer of the upper directory of an instance that does not run: one
-- rename, no byte is copied.
-- @param dir string the local cloud's directory
-- @param id string instance
-- @param layer string
function M.take_upper(dir, id, layer)
  local upper = ("%s/instances/%s/u"):format(dir, id)
  if not fs.exists(upper) then
    -- Never booted: what it has is what its image has.
    fs.mkdir(image_path(dir, layer), { parents = true })
    fs.chmod(image_path(dir, layer), tonumber("755", 8))
    return
  end
  fs.rename(upper, image_path(dir, layer))
end

--- The same of one that runs, by copying.
-- @waits
function M.copy_upper(dir, id, layer)
  local target = image_path(dir, layer)
  copy(("%s/instances/%s/u"):format(dir, id), target .. ".part")
  fs.rename(target .. ".part", target)
end

--- Copies a layer to where no overlay can be: the disk of a simulated machine.
-- @param dir string the local cloud's directory
-- @param layer string
-- @param target string new directory
-- @waits
function M.copy_layer(dir, layer, target)
  copy(image_path(dir, layer), target .. ".part")
  fs.rename(target .. ".part", target)
end

local MERGE = [[cd "$1" && mkdir "$3" "$4" && chmod 755 "$4" &&
mount -t overlay overlay -o "ro,lowerdir=$2" "$3" && cp -a --reflink=auto "$3/." "$4"]]

--- Copies a stack of layers into one.
-- @param dir string the local cloud's directory
-- @param list string[] top first, base last
-- @param layer string name of the result
-- @waits
function M.merge(dir, list, layer)
  local images = dir .. "/images"
  local work = fs.tmpdir(images, ".merge-")
  local _work <close> = require("hgauto.async").defer(function()
    fs.remove(work, { tree = true })
  end)
  -- The mount ends with its namespace, whatever happens to us.
  proc.run(require("hgauto.box").contained({ "sh", "-c", MERGE, "sh", images,
    table.concat(list, ":"), work .. "/m", work .. "/all" }, work), { timeout = COPY_SECONDS })
  fs.rename(work .. "/all", image_path(dir, layer))
end

-- ---- volumes ----

--- Makes the file of a volume: empty, or the copy of a snapshot's.
-- @param dir string the local cloud's directory
-- @param volume {id, size, snapshot}
-- @waits
function M.make_volume(dir, volume)
  local path = M.volume_path(dir, volume.id)
  if fs.exists(path) then
    return
  end
  local from = volume.snapshot and M.volume_path(dir, volume.snapshot)
  if from and fs.exists(from) then
    copy(from, path .. ".part")
  else
    fs.write(path .. ".part", "", { atomic = false })
  end
  proc.run { "truncate", "-s", volume.size .. "G", "--", path .. ".part" }
  fs.rename(path .. ".part", path)
end

--- Copies a volume's file for a snapshot.
-- @waits
function M.copy_volume(dir, from, to)
  local source, target = M.volume_path(dir, from), M.volume_path(dir, to)
  if fs.exists(source) then
    copy(source, target .. ".part")
    fs.rename(target .. ".part", target)
  end
end

--- A second name for the file of a snapshot, which never changes.
function M.link_volume(dir, from, to)
  if fs.exists(M.volume_path(dir, from)) then
    fs.link(M.volume_path(dir, from), M.volume_path(dir, to))
  end
end

-- ---- garbage ----

local function count(refs, obj)
  for _, layer in ipairs(obj.layers or {}) do
    refs[layer] = (refs[layer] or 0) + 1
  end
  for _, layer in ipairs { obj.base_layer, obj.plan and obj.plan.layer } do
    refs[layer] = (refs[layer] or 0) + 1
  end
end

--- How often each layer is named by images, instances and snapshots.
-- @param S State
-- @return table layer -> count
function M.references(S)
  local refs = {}
  for _, kind in ipairs { "image", "instance", "snapshot" } do
    for _, obj in ipairs(S:list(kind)) do
      if obj.state ~= "terminated" and obj.state ~= "deregistered" then
        count(refs, obj)
      end
    end
  end
  return refs
end

local function dead_layers(S, dir)
  local refs, out = M.references(S), {}
  for _, name in ipairs(fs.list(dir .. "/images")) do
    if name:match("^%.dead%-") or name:match("^layer%-%x+%.part$")
      or (name:match("^layer%-%x+$") and not refs[name]) then
      out[#out + 1] = dir .. "/images/" .. name
    end
  end
  return out
end

local function dead_volumes(S, dir)
  local known, out = {}, {}
  for _, kind in ipairs { "volume", "snapshot" } do
    for _, obj in ipairs(S:list(kind)) do
      known[obj.id] = true
    end
  end
  local path = dir .. "/volumes"
  for _, name in ipairs(fs.exists(path) and fs.list(path) or {}) do
    local id = name:match("^(%a+%-%x+)%.img")
    if id and not known[id] then
      out[#out + 1] = path .. "/" .. name
    end
  end
  return out
end

--- Moves what no object names out of the way, so that it can be deleted at
-- leisure: nothing waits in here.
-- @param S State
-- @param dir string the local cloud's directory
-- @return string[] paths to delete with all below
function M.unlink_dead(S, dir)
  local out = dead_volumes(S, dir)
  for _, path in ipairs(dead_layers(S, dir)) do
    local name = path:match("[^/]+$")
    local dead = name:match("^%.dead%-") and path or ("%s/images/.dead-%s"):format(dir, name)
    if dead ~= path then
      fs.rename(path, dead)
    end
    out[#out + 1] = dead
  end
  return out
end

--- Deletes trees, such as unlink_dead finds.
-- @param paths string[]
-- @return integer how many are gone
-- @waits
function M.delete(paths)
  local n = 0
  for _, path in ipairs(paths) do
    -- A process of its own: a tree of 50,000 files must not hold up the API.
    local ok, e = pcall(proc.run, { "rm", "-rf", "--", path }, { timeout = COPY_SECONDS })
    if not ok and e.kind == "cancelled" then
      error(e, 0)
    elseif not ok then
      log.warn("removing %s: %s", path, tostring(e))
    end
    n = n + (ok and 1 or 0)
  end
  return n
end

return M
