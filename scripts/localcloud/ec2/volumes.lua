-- Volumes: the root volumes of instances, whose data are layers, and others,
-- which are sparse files that instances see as block devices.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local disks = require "localcloud.disks"
local errors = require "localcloud.errors"
local json = require "hgauto.json"
local layers = require "localcloud.layers"
local log = require "hgauto.log"
local network = require "localcloud.ec2.network"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"
local time = require "hgauto.time"

local M = {}
local ops = {}
M.ops = ops

-- ---- what launches and CreateVolume ask for ----

--- Checks the wishes for a volume.
-- @param device string|nil
-- @param ebs table members of EbsBlockDevice
-- @param size integer|nil of the snapshot, in GiB
-- @param snapshot string|nil id
-- @return table fields of a volume object
-- @raise MissingParameter, InvalidBlockDeviceMapping, InvalidParameterValue
function M.spec(device, ebs, size, snapshot)
  local kind = ebs.VolumeType or "gp3"
  local wanted = ebs.VolumeSize or size
  if not wanted then
    errors.raise("MissingParameter",
      "The request must contain the parameter size or snapshotId")
  elseif snapshot and size and wanted < size then
    errors.raise("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s',"
      .. " expect size >= %dGB", wanted, snapshot, size)
  elseif wanted < 1 or wanted > 16384 then
    errors.raise("InvalidParameterValue", "Volume size of %d GB is invalid", wanted)
  end
  local gp3 = kind == "gp3"
  return { device = device, size = wanted, type = kind, snapshot = snapshot,
    delete = ebs.DeleteOnTermination ~= false, encrypted = ebs.Encrypted == true,
    iops = ebs.Iops or (gp3 and 3000) or (kind == "gp2" and math.max(100, 3 * wanted)) or nil,
    throughput = ebs.Throughput or (gp3 and 125) or nil }
end

-- ---- describing ----

local function attachment(get)
  return function(v)
    return v.instance and get(v)
  end
end

local FIELDS = { ["volume-id"] = "id", status = "state", size = "size", ["volume-type"] = "type",
  encrypted = "encrypted", ["snapshot-id"] = "snapshot", ["availability-zone"] = "az",
  ["create-time"] = function(v)
    return time.iso(v.created / 1000, { ms = true })
  end,
  ["attachment.instance-id"] = "instance",
  ["attachment.device"] = attachment(function(v)
    return v.device
  end),
  ["attachment.status"] = attachment(function(v)
    return v.attach or "attached"
  end),
  ["attachment.delete-on-termination"] = attachment(function(v)
    return v.delete
  end),
}

local function attachment_view(v)
  return { InstanceId = v.instance, VolumeId = v.id, Device = v.device,
    State = v.attach or "attached", AttachTime = (v.attached or v.created) / 1000,
    DeleteOnTermination = v.delete }
end

local function view(v)
  return { VolumeId = v.id, Size = v.size, SnapshotId = v.snapshot or "", AvailabilityZone = v.az,
    State = v.state, CreateTime = v.created / 1000, VolumeType = v.type, Iops = v.iops,
    Throughput = v.throughput, Encrypted = v.encrypted, MultiAttachEnabled = false,
    Attachments = { v.instance and attachment_view(v) or nil }, Tags = tags.view(v.tags) }
end

local function get(c)
  return function(id)
    return c.S:get("volume", c.region, id)
  end
end

local function need(c, id)
  return describe.by_ids("vol", { id }, get(c))[1]
end

local MOVING = { creating = true, deleting = true }

ops.DescribeVolumes = {
  accept = { VolumeIds = true, Filters = true, MaxResults = true, NextToken = true },
  before = function(c, p)
    c:hold(function()
      for _, id in ipairs(p.VolumeIds or {}) do
        local v = get(c)(id)
        if v and (MOVING[v.state] or v.attach) then
          return true
        end
      end
      return false
    end)
  end,
  run = function(c, p)
    local list = c.S:list("volume", c.region)
    if p.VolumeIds and p.VolumeIds[1] then
      list = describe.by_ids("vol", p.VolumeIds, get(c))
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

-- ---- making and deleting ----

local function check_zone(c, az)
  if not az then
    errors.raise("MissingParameter", "The request must contain the parameter zone")
  end
  network.subnet(c.region, nil, az)
end

local function params_hash(p)
  local rest = {}
  for k, v in pairs(p) do
    rest[k] = k ~= "ClientToken" and k ~= "DryRun" and v or nil
  end
  return crypto.sha256(json.encode(rest))
end

-- The volume that a client token stands for, or nil.
local function repeated(c, p, hash)
  local known = p.ClientToken and c.S:token("CreateVolume", c.region, p.ClientToken)
  if known and known.hash ~= hash then
    errors.raise("IdempotentParameterMismatch", "Arguments on this idempotent request are"
      .. " inconsistent with arguments used in previous request(s).")
  end
  return known and c.S:get("volume", c.region, known.ids[1])
end

-- Makes the file, then says that the volume is there.
local function bring_up(c, volume)
  local m = c.d.machines
  m.spawn(function()
    local ok = true
    if m.api_only then
      require("hgauto.async").sleep(m.delays.pending)
    else
      local e
      ok, e = pcall(layers.make_volume, m.dir, volume)
      if not ok and e.kind == "cancelled" then
        error(e, 0)
      elseif not ok then
        log.error("volume %s: %s", volume.id, tostring(e))
      end
      volume.real = ok or nil
    end
    if m.S:get("volume", volume.region, volume.id) then
      volume.state = ok and "available" or "error"
      m.S:put(volume)
      m.S:commit()
    end
    m:notify()
  end)
end

ops.CreateVolume = {
  accept = { AvailabilityZone = true, Size = true, SnapshotId = true, VolumeType = true,
    Encrypted = true, Iops = true, Throughput = true, TagSpecifications = true,
    ClientToken = true },
  run = function(c, p)
    local hash = params_hash(p)
    local known = repeated(c, p, hash)
    if known then
      return view(known)
    end
    check_zone(c, p.AvailabilityZone)
    local snapshot = p.SnapshotId and describe.by_ids("snap", { p.SnapshotId }, function(id)
      return c.S:get("snapshot", c.region, id)
    end)[1]
    if snapshot and snapshot.state ~= "completed" then
      errors.raise("IncorrectState", "Snapshot '%s' is not in the state completed", snapshot.id)
    elseif snapshot and snapshot.root and not c.d.api_only then
      errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:CreateVolume parameter"
        .. " SnapshotId of a root volume is not emulated")
    end
    local spec = M.spec(nil, { VolumeSize = p.Size, VolumeType = p.VolumeType, Iops = p.Iops,
      Throughput = p.Throughput, Encrypted = p.Encrypted or snapshot and snapshot.encrypted },
      snapshot and snapshot.size, snapshot and snapshot.id)
    local own = tags.from_specs(p.TagSpecifications, { "volume" }).volume
    c:checked()
    spec.kind, spec.region, spec.id = "volume", c.region, state.new_id("vol")
    spec.created, spec.az, spec.state, spec.tags = state.now_ms(), p.AvailabilityZone, "creating",
      own
    c.S:put(spec)
    if p.ClientToken then
      c.S:put_token("CreateVolume", c.region, p.ClientToken, hash, { spec.id })
    end
    c:after_commit(function()
      bring_up(c, spec)
    end)
    return view(spec)
  end,
}

ops.DeleteVolume = {
  accept = { VolumeId = true },
  run = function(c, p)
    local v = need(c, p.VolumeId)
    if v.instance then
      errors.raise("VolumeInUse", "Volume %s is currently attached to %s", v.id, v.instance)
    elseif v.state == "creating" then
      errors.raise("IncorrectState", "The volume '%s' is 'creating'", v.id)
    end
    c:checked()
    c.S:drop(v)
    c:after_commit(function()
      c.d.machines:notify()
      c.d.machines:collect()
    end)
    return {}
  end,
}

-- ---- attaching ----

local function need_instance(c, id)
  return describe.by_ids("i", { id }, function(x)
    local i = c.S:get("instance", c.region, x)
    return i and not i.hidden and i or nil
  end)[1]
end

-- Lowest number that no volume of the instance has.
local function free_number(instance)
  local used = {}
  for i, m in ipairs(instance.volumes) do
    used[m.k or i - 1] = true
  end
  local k = 0
  while used[k] do
    k = k + 1
  end
  return k
end

local function check_attach(v, instance, device)
  if v.state ~= "available" then
    errors.raise(v.instance and "VolumeInUse" or "IncorrectState",
      v.instance and "%s is already attached to an instance" or "The volume '%s' is not available",
      v.id)
  elseif instance.state ~= "running" and instance.state ~= "stopped" then
    errors.raise("IncorrectState", "Instance '%s' is not 'running' or 'stopped'.", instance.id)
  elseif v.az ~= instance.az then
    errors.raise("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability"
      .. " zone as instance '%s'", v.id, instance.id)
  elseif #instance.volumes >= 16 then
    errors.raise("AttachmentLimitExceeded", "The instance has 16 volumes already.")
  end
  for _, m in ipairs(instance.volumes) do
    if m.device == device then
      errors.raise("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s"
        .. " is already in use", device, device)
    end
  end
end

ops.AttachVolume = {
  accept = { VolumeId = true, InstanceId = true, Device = true },
  run = function(c, p)
    local v, instance = need(c, p.VolumeId), need_instance(c, p.InstanceId)
    check_attach(v, instance, p.Device)
    local k = free_number(instance)
    local names = disks.names(p.Device, k)
    c:checked()
    v.instance, v.device, v.state, v.delete = instance.id, p.Device, "in-use", false
    v.attached, v.attach = state.now_ms(), instance.state == "running" and "attaching" or nil
    instance.volumes[#instance.volumes + 1] = { id = v.id, device = p.Device, delete = false,
      k = k }
    c.S:put(v)
    c.S:put(instance)
    c:after_commit(function()
      disks.attach(c.d.machines, instance, v, names)
    end)
    local out = attachment_view(v)
    out.State = "attaching"
    return out
  end,
}

ops.DetachVolume = {
  accept = { VolumeId = true, InstanceId = true, Device = true, Force = true },
  run = function(c, p)
    local v = need(c, p.VolumeId)
    if not v.instance or v.attach then
      errors.raise("IncorrectState", "Volume '%s' is in the 'available' state.", v.id)
    elseif p.InstanceId and p.InstanceId ~= v.instance
      or p.Device and p.Device ~= v.device then
      errors.raise("InvalidAttachment.NotFound", "Volume '%s' is not attached to instance '%s' as"
        .. " device '%s'", v.id, p.InstanceId or v.instance, p.Device or v.device)
    end
    local instance = need_instance(c, v.instance)
    if instance.volumes[1].id == v.id then
      errors.raise("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'",
        v.id, instance.id)
    end
    c:checked()
    v.attach = "detaching"
    c.S:put(v)
    local out = attachment_view(v)
    c:after_commit(function()
      disks.detach(c.d.machines, instance, v)
    end)
    return out
  end,
}

return M
