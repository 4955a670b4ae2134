-- Volumes of instances as block devices: their names inside, their files, and
-- attaching and detaching while the instance runs.

local errors = require "localcloud.errors"
local fs = require "hgauto.fs"
local layers = require "localcloud.layers"
local log = require "hgauto.log"

local M = {}

--- Names that a device has inside: sdf is xvdf too.
-- @param device string as in the API, /dev/sdf
-- @param k integer number of the volume at its instance
-- @return string comma list
function M.names(device, k)
  local base = device:match("^/dev/(%l[%l%d]*)$") or device:match("^(%l[%l%d]*)$")
  if not base or #base > 32 then
    errors.raise("InvalidParameterValue", "Value (%s) for parameter device is invalid. %s is not a"
      .. " valid EBS device name.", device:sub(1, 80), device:sub(1, 80))
  end
  local other = base:gsub("^sd", "xvd")
  if other == base then
    other = base:gsub("^xvd", "sd")
  end
  local names = ("nvme%dn1,%s"):format(k, base)
  return k == 0 and "nvme0n1p1," .. names or other ~= base and names .. "," .. other or names
end

--- Files and names of an instance's volumes; missing files are made.
-- @param m Machines
-- @waits
function M.of_launch(m, instance)
  local out = {}
  for i, a in ipairs(instance.volumes) do
    local volume = m.S:get("volume", instance.region, a.id)
    local ok, names = pcall(M.names, a.device, a.k or i - 1)
    if i == 1 then
      out[i] = { names = ok and names or "nvme0n1,nvme0n1p1" }
    elseif volume then
      layers.make_volume(m.dir, volume)
      volume.real = true
      m.S:put(volume)
      m.S:commit()
      out[#out + 1] = { path = fs.realpath(layers.volume_path(m.dir, a.id)), names = names }
    end
  end
  return out
end

-- Where the volume stands after an attempt to change that.
local function settle(m, instance, volume, attached)
  volume.attach = nil
  if not attached then
    for i, a in ipairs(instance.volumes) do
      if a.id == volume.id then
        table.remove(instance.volumes, i)
        break
      end
    end
    volume.instance, volume.device, volume.state, volume.attached = nil, nil, "available", nil
  end
  m.S:put(volume)
  m.S:put(instance)
  m.S:commit()
  m:notify()
end

-- Runs a change of a running box in the background; fn says whether the volume
-- is attached afterwards.
local function change(m, instance, volume, fn)
  m.spawn(function()
    local ok, attached = pcall(fn)
    if not ok and attached.kind == "cancelled" then
      error(attached, 0)
    elseif not ok then
      m:say(instance, ("hgauto: volume %s: %s"):format(volume.id, tostring(attached)))
      log.warn("volume %s of %s: %s", volume.id, instance.id, tostring(attached))
      -- What could not be attached is not; what could not be detached (it is
      -- mounted) stays.
      attached = volume.attach ~= "attaching"
    end
    settle(m, instance, volume, attached)
  end)
end

--- Gives a volume to an instance, after the commit.
-- @param m Machines
-- @param names string comma list
function M.attach(m, instance, volume, names)
  local box = m:box_of(instance.id)
  if not box then
    settle(m, instance, volume, true)
    return
  end
  change(m, instance, volume, function()
    layers.make_volume(m.dir, volume)
    volume.real = true
    box:attach { path = fs.realpath(layers.volume_path(m.dir, volume.id)), names = names }
    return true
  end)
end

--- Takes a volume from an instance, after the commit.
-- @param m Machines
function M.detach(m, instance, volume)
  local box = m:box_of(instance.id)
  if not box then
    settle(m, instance, volume, false)
    return
  end
  change(m, instance, volume, function()
    box:detach(fs.realpath(layers.volume_path(m.dir, volume.id)))
    return false
  end)
end

return M
