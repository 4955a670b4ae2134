-- Snapshots: of volumes as copies of their files, of root volumes as layers.

local capture = require "localcloud.capture"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local layers = require "localcloud.layers"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"
local time = require "hgauto.time"

local M = {}
local ops = {}
M.ops = ops

local function get(c)
  return function(id)
    return c.S:get("snapshot", c.region, id)
  end
end

--- The snapshot of that id.
-- @raise InvalidSnapshot.NotFound, InvalidSnapshotID.Malformed
function M.need(c, id)
  return describe.by_ids("snap", { id }, get(c))[1]
end

--- Makes a pending snapshot object; the caller commits.
-- @param c table request context
-- @param o {volume, size, description, tags, root, encrypted}
-- @return table
function M.make(c, o)
  return c.S:put { kind = "snapshot", region = c.region, id = state.new_id("snap"),
    created = state.now_ms(), volume = o.volume or "vol-ffffffff", size = o.size,
    description = o.description or "", state = "pending", progress = "0%", tags = o.tags or {},
    root = o.root or false, encrypted = o.encrypted or false, facts = o.facts,
    layers = {} }
end

--- The image that needs a snapshot, or nil.
function M.image_of(c, id)
  for _, image in ipairs(c.S:list("image", c.region)) do
    for _, m in ipairs(image.state ~= "deregistered" and image.mappings or {}) do
      if m.snapshot == id then
        return image
      end
    end
  end
end

local function account(c)
  return function()
    return c.account
  end
end

local function fields(c)
  return { ["snapshot-id"] = "id", ["volume-id"] = "volume", status = "state",
    ["owner-id"] = account(c), ["owner-alias"] = function() end, description = "description",
    ["volume-size"] = "size", ["start-time"] = function(s)
      return time.iso(s.created / 1000, { ms = true })
    end, encrypted = "encrypted", progress = "progress", ["storage-tier"] = function()
      return "standard"
    end }
end

local function view(c, s)
  return { SnapshotId = s.id, VolumeId = s.volume, VolumeSize = s.size, State = s.state,
    StateMessage = s.reason, Progress = s.progress, StartTime = s.created / 1000,
    OwnerId = c.account, Description = s.description, Encrypted = s.encrypted,
    StorageTier = "standard", Tags = tags.view(s.tags) }
end

local function ours(c, p)
  for _, owner in ipairs(p.OwnerIds or {}) do
    if owner == "self" or owner == c.account then
      return true
    end
  end
  return not p.OwnerIds or not p.OwnerIds[1]
end

ops.DescribeSnapshots = {
  accept = { SnapshotIds = true, OwnerIds = true, RestorableByUserIds = true, Filters = true,
    MaxResults = true, NextToken = true },
  before = function(c, p)
    c:hold(function()
      for _, id in ipairs(p.SnapshotIds or {}) do
        local s = get(c)(id)
        if s and s.state == "pending" then
          return true
        end
      end
      return false
    end)
  end,
  run = function(c, p)
    local list = p.SnapshotIds and p.SnapshotIds[1]
      and describe.by_ids("snap", p.SnapshotIds, get(c)) or c.S:list("snapshot", c.region)
    list = describe.sort(describe.filter(ours(c, p) and list or {}, p.Filters, fields(c)))
    local token
    list, token = describe.page(list, c:paging(p, "SnapshotIds"))
    c:checked()
    local out = {}
    for i, s in ipairs(list) do
      out[i] = view(c, s)
    end
    return { Snapshots = out, NextToken = token }
  end,
}

-- The instance whose root volume this is, or nil.
local function rooted(c, volume)
  local instance = volume.instance and c.S:get("instance", c.region, volume.instance)
  return instance and instance.volumes[1].id == volume.id and instance or nil
end

ops.CreateSnapshot = {
  accept = { VolumeId = true, Description = true, TagSpecifications = true },
  run = function(c, p)
    local volume = describe.by_ids("vol", { p.VolumeId }, function(id)
      return c.S:get("volume", c.region, id)
    end)[1]
    local own = tags.from_specs(p.TagSpecifications, { "snapshot" }).snapshot
    local instance = rooted(c, volume)
    if instance and (instance.imaging or not instance.configured) then
      errors.raise("IncorrectState", "The volume '%s' is being made or copied.", volume.id)
    end
    c:checked()
    local s = M.make(c, { volume = volume.id, size = volume.size, description = p.Description,
      tags = own, root = instance ~= nil, encrypted = volume.encrypted,
      facts = instance and instance.facts })
    local job = { snapshots = { s }, volumes = {} }
    if instance then
      job.instance, job.layer = instance, layers.new_name()
      instance.imaging = s.id
      s.plan = { layer = job.layer, instance = instance.id }
      c.S:put(instance)
    elseif volume.real then
      job.volumes[1] = { volume = volume.id, snapshot = s }
    end
    c:after_commit(function()
      capture.start(c.d.machines, job)
    end)
    return view(c, s)
  end,
}

ops.DeleteSnapshot = {
  accept = { SnapshotId = true },
  run = function(c, p)
    local s = M.need(c, p.SnapshotId)
    local image = M.image_of(c, s.id)
    if image then
      errors.raise("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", s.id,
        image.id)
    end
    c:checked()
    c.S:drop(s)
    c:after_commit(function()
      c.d.machines:collect()
    end)
    return {}
  end,
}

return M
