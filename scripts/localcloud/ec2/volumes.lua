-- Volumes as records: the root volumes of instances and what they leave behind.
-- Snapshots are those of catalogue images only, and none of them is ours.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

local function attachment(get)
  return function(v)
    return v.instance and get(v)
  end
end

local FIELDS = { ["volume-id"] = "id", status = "state", size = "size", ["volume-type"] = "type",
  encrypted = "encrypted", ["snapshot-id"] = "snapshot", ["availability-zone"] = "az",
  ["create-time"] = function(v)
    return require("hgauto.time").iso(v.created / 1000, { ms = true })
  end,
  ["attachment.instance-id"] = "instance",
  ["attachment.device"] = attachment(function(v)
    return v.device
  end),
  ["attachment.status"] = attachment(function()
    return "attached"
  end),
  ["attachment.delete-on-termination"] = attachment(function(v)
    return v.delete
  end),
}

local function view(v)
  local attached = v.instance and { { InstanceId = v.instance, VolumeId = v.id,
    Device = v.device, State = "attached", AttachTime = v.created / 1000,
    DeleteOnTermination = v.delete } } or {}
  return { VolumeId = v.id, Size = v.size, SnapshotId = v.snapshot or "", AvailabilityZone = v.az,
    State = v.state, CreateTime = v.created / 1000, VolumeType = v.type, Iops = v.iops,
    Throughput = v.throughput, Encrypted = v.encrypted, MultiAttachEnabled = false,
    Attachments = attached, Tags = tags.view(v.tags) }
end

ops.DescribeVolumes = {
  accept = { VolumeIds = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list = c.S:list("volume", c.region)
    if p.VolumeIds and p.VolumeIds[1] then
      list = describe.by_ids("vol", p.VolumeIds, function(id)
        return c.S:get("volume", c.region, id)
      end)
    end
    list = describe.sort(describe.filter(list, p.Filters, FIELDS))
    local token
    list, token = describe.page(list, c:paging(p, "VolumeIds"))
    c:checked()
    local out = {}
    for i, v in ipairs(list) do
      out[i] = view(v)
    end
    return { Volumes = out, NextToken = token }
  end,
}

ops.DeleteVolume = {
  accept = { VolumeId = true },
  run = function(c, p)
    local v = describe.by_ids("vol", { p.VolumeId }, function(id)
      return c.S:get("volume", c.region, id)
    end)[1]
    if v.instance then
      errors.raise("VolumeInUse", "Volume %s is currently attached to %s", v.id, v.instance)
    end
    c:checked()
    c.S:drop(v)
    return {}
  end,
}

local SNAPSHOT_FIELDS = { ["snapshot-id"] = "id", ["volume-id"] = "id", status = "id",
  ["owner-id"] = "id", ["owner-alias"] = "id", description = "id", ["volume-size"] = "id",
  ["start-time"] = "id", encrypted = "id", progress = "id", ["storage-tier"] = "id" }

ops.DescribeSnapshots = {
  accept = { SnapshotIds = true, OwnerIds = true, RestorableByUserIds = true, Filters = true,
    MaxResults = true, NextToken = true },
  run = function(c, p)
    describe.by_ids("snap", p.SnapshotIds or {}, function() end)
    describe.filter({}, p.Filters, SNAPSHOT_FIELDS)
    describe.page({}, c:paging(p, "SnapshotIds"))
    c:checked()
    return { Snapshots = {} }
  end,
}

return M
