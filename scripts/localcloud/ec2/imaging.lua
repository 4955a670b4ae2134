-- Images made here: of instances, of snapshots, of other images; and their end.

local capture = require "localcloud.capture"
local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local images = require "localcloud.ec2.images"
local json = require "hgauto.json"
local layers = require "localcloud.layers"
local snapshots = require "localcloud.ec2.snapshots"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"
local time = require "hgauto.time"
local volumes = require "localcloud.ec2.volumes"

local M = {}
local ops = {}
M.ops = ops

-- ---- names ----

local function check_name(c, name)
  if #name < 3 or #name > 128 or name:find("[^%w()%[%] ./'@_%-]") then
    errors.raise("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long,"
      .. " and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")
  end
  for _, image in ipairs(c.S:list("image", c.region)) do
    if image.name == name and image.state ~= "deregistered" and image.state ~= "failed" then
      errors.raise("InvalidAMIName.Duplicate",
        "AMI name %s is already in use by AMI %s", name, image.id)
    end
  end
end

local function new_image(c, o)
  local image = { kind = "image", region = c.region, id = state.new_id("ami"),
    created = state.now_ms(), made = time.iso(math.floor(time.now())), owner = c.account,
    public = false, state = "pending", layers = {}, tags = {} }
  for k, v in pairs(o) do
    image[k] = v
  end
  return image
end

local function from_facts(facts)
  return { root = facts.root, platform = facts.platform, user = facts.user, base = facts.base }
end

-- ---- CreateImage ----

-- Mapping of an image for a volume of the instance.
local function mapping_of(volume, device, snapshot)
  return { device = device, size = volume.size, type = volume.type, iops = volume.iops,
    throughput = volume.throughput, encrypted = volume.encrypted, delete = volume.delete,
    snapshot = snapshot.id }
end

local MAPPING = { DeviceName = true, NoDevice = true, Ebs = { VolumeSize = true,
  VolumeType = true, DeleteOnTermination = true, Iops = true, Throughput = true,
  Encrypted = true, SnapshotId = true } }

-- What the call says about devices: left out, or larger.
local function overrides(p)
  local out = {}
  for _, m in ipairs(p.BlockDeviceMappings or {}) do
    if not m.DeviceName then
      errors.raise("MissingParameter", "The request must contain the parameter DeviceName")
    end
    out[m.DeviceName] = m
  end
  return out
end

local function check_instance(c, p)
  local instance = describe.by_ids("i", { p.InstanceId }, function(id)
    local i = c.S:get("instance", c.region, id)
    return i and not i.hidden and i or nil
  end)[1]
  if instance.state ~= "running" and instance.state ~= "stopped" then
    errors.raise("IncorrectInstanceState",
      "The instance '%s' is not in a state from which it can be imaged.", instance.id)
  elseif instance.imaging or (not instance.configured and not c.d.api_only) then
    errors.raise("IncorrectInstanceState",
      "The instance '%s' is being started or imaged.", instance.id)
  end
  return instance
end

-- Snapshots and mappings of all volumes of an instance that are kept.
local function capture_volumes(c, instance, image, p, own)
  local job = { instance = instance, image = image, snapshots = {}, volumes = {},
    reboot = not p.NoReboot }
  local changed = overrides(p)
  for i, m in ipairs(instance.volumes) do
    local volume, wish = c.S:get("volume", c.region, m.id), changed[m.device] or {}
    local ebs = wish.Ebs or {}
    if not wish.NoDevice or i == 1 then
      local s = snapshots.make(c, { volume = volume.id, size = volume.size, root = i == 1,
        encrypted = volume.encrypted, tags = tags.copy(own), facts = i == 1 and instance.facts,
        description = ("Created by CreateImage(%s) for %s"):format(instance.id, image.id) })
      local mapping = mapping_of(volume, m.device, s)
      mapping.size = math.max(ebs.VolumeSize or 0, volume.size)
      mapping.type = ebs.VolumeType or mapping.type
      if ebs.DeleteOnTermination ~= nil then
        mapping.delete = ebs.DeleteOnTermination
      end
      job.snapshots[#job.snapshots + 1] = s
      image.mappings[#image.mappings + 1] = mapping
      if i > 1 and volume.real then
        job.volumes[#job.volumes + 1] = { volume = volume.id, snapshot = s }
      end
    end
  end
  return job
end

ops.CreateImage = {
  accept = { InstanceId = true, Name = true, Description = true, NoReboot = true,
    BlockDeviceMappings = MAPPING, TagSpecifications = true },
  run = function(c, p)
    local instance = check_instance(c, p)
    check_name(c, p.Name)
    local own = tags.from_specs(p.TagSpecifications, { "image", "snapshot" })
    c:checked()
    local image = new_image(c, from_facts(images.of_instance(c.S, instance)))
    image.name, image.description, image.tags = p.Name, p.Description, own.image
    image.source, image.unreal, image.mappings = instance.id, c.d.api_only or nil, {}
    local job = capture_volumes(c, instance, image, p, own.snapshot)
    image.size, image.snapshot = image.mappings[1].size, image.mappings[1].snapshot
    if not c.d.api_only then
      job.layer = layers.new_name()
      image.plan = { layer = job.layer, instance = instance.id }
    end
    instance.imaging = image.id
    c.S:put(instance)
    c.S:put(image)
    c:after_commit(function()
      capture.start(c.d.machines, job)
    end)
    return { ImageId = image.id }
  end,
}

-- ---- RegisterImage, CopyImage ----

local function registered_mapping(c, m)
  local ebs = m.Ebs or {}
  local snapshot = ebs.SnapshotId and snapshots.need(c, ebs.SnapshotId)
  if snapshot and snapshot.state ~= "completed" then
    errors.raise("IncorrectState", "The snapshot %s is not completed.", snapshot.id)
  end
  local spec = volumes.spec(m.DeviceName, ebs, snapshot and snapshot.size, snapshot
    and snapshot.id)
  return spec, snapshot
end

ops.RegisterImage = {
  accept = { Name = true, Description = true, RootDeviceName = true, Architecture = true,
    VirtualizationType = true, EnaSupport = true, SriovNetSupport = true,
    BlockDeviceMappings = MAPPING, TagSpecifications = true, BootMode = true },
  run = function(c, p)
    if not p.Name or not p.RootDeviceName then
      errors.raise("MissingParameter", "The request must contain the parameter %s",
        p.Name and "RootDeviceName" or "Name")
    elseif p.Architecture and p.Architecture ~= "x86_64" then
      errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:RegisterImage parameter"
        .. " Architecture=%s is not emulated", p.Architecture)
    end
    check_name(c, p.Name)
    local mappings, root = {}, nil
    for _, m in ipairs(p.BlockDeviceMappings or {}) do
      local spec, snapshot = registered_mapping(c, m)
      if m.DeviceName == p.RootDeviceName then
        root = snapshot
        table.insert(mappings, 1, spec)
      else
        mappings[#mappings + 1] = spec
      end
    end
    if not root or not root.root then
      errors.raise("InvalidBlockDeviceMapping", "The root device %s must be a snapshot of an"
        .. " instance's root volume", p.RootDeviceName)
    end
    local own = tags.from_specs(p.TagSpecifications, { "image" }).image
    c:checked()
    local image = new_image(c, from_facts(root.facts))
    image.name, image.description, image.tags = p.Name, p.Description, own
    image.root, image.mappings, image.state = p.RootDeviceName, mappings, "available"
    image.size, image.snapshot = mappings[1].size, root.id
    image.layers, image.base_layer = table.move(root.layers, 1, #root.layers, 1, {}),
      root.base_layer
    image.unreal = c.d.api_only or nil
    return { ImageId = c.S:put(image).id }
  end,
}

-- Snapshots of a copy: own ids, the same data.
local function copy_mappings(c, source)
  local out = {}
  for i, m in ipairs(images.mappings(source)) do
    local copy = table.move({}, 1, 0, 1, {})
    for k, v in pairs(m) do
      copy[k] = v
    end
    if m.snapshot then
      local s = snapshots.make(c, { size = m.size, root = i == 1, encrypted = m.encrypted,
        facts = i == 1 and images.facts(source),
        description = ("Copied for DestinationAmi from SourceAmi %s"):format(source.id) })
      s.state, s.progress = "completed", "100%"
      if i == 1 then
        s.layers = table.move(source.layers or {}, 1, #(source.layers or {}), 1, {})
        s.base_layer = source.base_layer
      end
      copy.snapshot = s.id
    end
    out[i] = copy
  end
  return out
end

local function token_hash(p)
  local rest = {}
  for k, v in pairs(p) do
    rest[k] = k ~= "ClientToken" and k ~= "DryRun" and v or nil
  end
  return crypto.sha256(json.encode(rest))
end

ops.CopyImage = {
  accept = { Name = true, SourceImageId = true, SourceRegion = true, Description = true,
    ClientToken = true, CopyImageTags = true, TagSpecifications = true },
  run = function(c, p)
    local hash = token_hash(p)
    local known = p.ClientToken and c.S:token("CopyImage", c.region, p.ClientToken)
    if known and known.hash ~= hash then
      errors.raise("IdempotentParameterMismatch", "Arguments on this idempotent request are"
        .. " inconsistent with arguments used in previous request(s).")
    elseif known then
      return { ImageId = known.ids[1] }
    end
    local source = describe.by_ids("ami", { p.SourceImageId }, function(id)
      return images.get(c.S, p.SourceRegion, id)
    end)[1]
    if source.state ~= "available" then
      errors.raise("InvalidRequest", "The image %s is not available", source.id)
    end
    check_name(c, p.Name)
    local own = tags.from_specs(p.TagSpecifications, { "image", "snapshot" })
    c:checked()
    local image = new_image(c, from_facts(source))
    image.name, image.description = p.Name, p.Description or source.description
    image.tags = p.CopyImageTags and tags.copy(source.tags) or {}
    for k, v in pairs(own.image) do
      image.tags[k] = v
    end
    image.mappings, image.state, image.unreal = copy_mappings(c, source), "available",
      source.unreal
    image.size, image.snapshot = image.mappings[1].size, image.mappings[1].snapshot
    image.layers = table.move(source.layers or {}, 1, #(source.layers or {}), 1, {})
    image.base_layer = source.base_layer
    c.S:put(image)
    if p.ClientToken then
      c.S:put_token("CopyImage", c.region, p.ClientToken, hash, { image.id })
    end
    c:after_commit(function()
      for i, m in ipairs(images.mappings(source)) do
        if m.snapshot and i > 1 then
          layers.link_volume(c.d.dir, m.snapshot, image.mappings[i].snapshot)
        end
      end
    end)
    return { ImageId = image.id }
  end,
}

-- ---- the end, attributes ----

-- An image of ours; public ones cannot be changed.
local function need_own(c, id)
  describe.check_form("ami", id)
  local image = c.S:get("image", c.region, id)
  if not image and images.get(c.S, c.region, id) then
    errors.raise("AuthFailure", "Not authorized for image:%s", id)
  elseif image and image.state == "deregistered" then
    errors.raise("InvalidAMIID.Unavailable", "The AMI ID '%s' is no longer available", id)
  end
  return image or describe.not_found("ami", { id })
end

ops.DeregisterImage = {
  accept = { ImageId = true, DeleteAssociatedSnapshots = true },
  run = function(c, p)
    local image = need_own(c, p.ImageId)
    c:checked()
    image.state, image.ended = "deregistered", state.now_ms()
    c.S:put(image)
    local deleted = {}
    for _, m in ipairs(p.DeleteAssociatedSnapshots and image.mappings or {}) do
      local s = m.snapshot and c.S:get("snapshot", c.region, m.snapshot)
      if s and not snapshots.image_of(c, s.id) then
        c.S:drop(s)
        deleted[#deleted + 1] = { SnapshotId = s.id, ReturnCode = "success" }
      end
    end
    c:after_commit(function()
      c.d.machines:collect()
    end)
    return { Return = true, DeleteSnapshotResults = deleted[1] and deleted or nil }
  end,
}

ops.DescribeImageAttribute = {
  accept = { ImageId = true, Attribute = true },
  run = function(c, p)
    local image = need_own(c, p.ImageId)
    c:checked()
    local out = { ImageId = image.id }
    if p.Attribute == "description" then
      out.Description = { Value = image.description }
    elseif p.Attribute == "launchPermission" then
      out.LaunchPermissions = image.public and { { Group = "all" } } or {}
    elseif p.Attribute == "blockDeviceMapping" then
      out.BlockDeviceMappings = {}
      for i, m in ipairs(images.mappings(image)) do
        out.BlockDeviceMappings[i] = { DeviceName = m.device, Ebs = { SnapshotId = m.snapshot,
          VolumeSize = m.size, VolumeType = m.type, DeleteOnTermination = m.delete,
          Encrypted = m.encrypted } }
      end
    else
      errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:DescribeImageAttribute"
        .. " parameter Attribute=%s is not emulated", p.Attribute)
    end
    return out
  end,
}

ops.ModifyImageAttribute = {
  accept = { ImageId = true, Attribute = true, Description = { Value = true }, Value = true },
  run = function(c, p)
    local image = need_own(c, p.ImageId)
    local text = p.Description and p.Description.Value
      or p.Attribute == "description" and p.Value
    if not text then
      errors.raise("InvalidParameterCombination", "No attributes specified.")
    end
    c:checked()
    image.description = text
    c.S:put(image)
    return {}
  end,
}

return M
