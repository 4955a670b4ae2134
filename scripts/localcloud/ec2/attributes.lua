-- Attributes of instances: what can be asked for and changed one by one.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local groups = require "localcloud.ec2.groups"
local images = require "localcloud.ec2.images"
local instances = require "localcloud.ec2.instances"
local time = require "hgauto.time"
local types = require "localcloud.ec2.types"
local userdata = require "localcloud.userdata"

local M = {}
local ops = {}
M.ops = ops

local function need(c, id)
  return describe.by_ids("i", { id }, instances.get(c))[1]
end

-- ---- asking ----

local function mappings(instance)
  local out = {}
  for i, m in ipairs(instance.volumes) do
    out[i] = { DeviceName = m.device, Ebs = { VolumeId = m.id, Status = "attached",
      AttachTime = instance.created / 1000, DeleteOnTermination = m.delete } }
  end
  return out
end

local function group_list(c, instance)
  local out = {}
  for i, id in ipairs(instance.groups) do
    local group = c.S:get("group", c.region, id)
    out[i] = { GroupId = id, GroupName = group and group.name or id }
  end
  return out
end

-- By name of the attribute: member of the answer and its value.
local ATTRIBUTES = {
  userData = function(_, i)
    return "UserData", { Value = i.user_data }
  end,
  instanceType = function(_, i)
    return "InstanceType", { Value = i.type }
  end,
  disableApiTermination = function(_, i)
    return "DisableApiTermination", { Value = i.protect }
  end,
  instanceInitiatedShutdownBehavior = function(_, i)
    return "InstanceInitiatedShutdownBehavior", { Value = i.behavior }
  end,
  groupSet = function(c, i)
    return "Groups", group_list(c, i)
  end,
  blockDeviceMapping = function(_, i)
    return "BlockDeviceMappings", mappings(i)
  end,
  rootDeviceName = function(c, i)
    return "RootDeviceName", { Value = images.of_instance(c.S, i).root }
  end,
  ebsOptimized = function(_, i)
    return "EbsOptimized", { Value = i.options.ebs_optimized }
  end,
  sourceDestCheck = function(_, i)
    return "SourceDestCheck", { Value = i.no_check ~= true }
  end,
}

ops.DescribeInstanceAttribute = {
  accept = { InstanceId = true, Attribute = true },
  run = function(c, p)
    local instance = need(c, p.InstanceId)
    local fn = ATTRIBUTES[p.Attribute] or errors.raise("UnsupportedOperation",
      "hgauto local cloud: ec2:DescribeInstanceAttribute parameter Attribute=%s is not emulated",
      p.Attribute)
    c:checked()
    local name, value = fn(c, instance)
    return { InstanceId = instance.id, [name] = value }
  end,
}

-- ---- changing ----

local function only_stopped(instance, what)
  if instance.state ~= "stopped" then
    errors.raise("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state: its %s"
      .. " cannot be changed.", instance.id, what)
  end
end

local BEHAVIORS = { stop = true, terminate = true }

local function change_mappings(c, instance, list)
  for _, m in ipairs(list) do
    local found
    for _, have in ipairs(instance.volumes) do
      if have.device == m.DeviceName and m.Ebs and m.Ebs.DeleteOnTermination ~= nil then
        local volume = c.S:get("volume", c.region, have.id)
        have.delete, volume.delete = m.Ebs.DeleteOnTermination, m.Ebs.DeleteOnTermination
        c.S:put(volume)
        found = true
      end
    end
    if not found then
      errors.raise("InvalidInstanceAttributeValue", "No device is currently mapped at %s",
        m.DeviceName or "null")
    end
  end
end

-- By member of the call; each checks, then changes.
local CHANGES = {
  UserData = function(_, i, v)
    only_stopped(i, "user data")
    local text = v.Value and crypto.base64(v.Value)
    userdata.check(text)
    i.user_data = text
  end,
  InstanceType = function(_, i, v)
    only_stopped(i, "instance type")
    if not types.get(v.Value or "") then
      errors.raise("InvalidParameterValue", "Invalid value '%s' for InstanceType.", v.Value or "")
    end
    i.type = v.Value
  end,
  DisableApiTermination = function(_, i, v)
    i.protect = v.Value == true
  end,
  InstanceInitiatedShutdownBehavior = function(_, i, v)
    if not BEHAVIORS[v.Value or ""] then
      errors.raise("InvalidParameterValue",
        "Invalid value '%s' for InstanceInitiatedShutdownBehavior.", v.Value or "")
    end
    i.behavior = v.Value
  end,
  Groups = function(c, i, v)
    local ids = groups.resolve(c, v)
    i.groups = ids
    c:after_commit(function()
      c.d.machines:apply_rules(c.region, ids[1])
    end)
  end,
  BlockDeviceMappings = change_mappings,
  EbsOptimized = function(_, i, v)
    only_stopped(i, "EBS optimisation")
    i.options.ebs_optimized = v.Value == true
  end,
  SourceDestCheck = function(_, i, v)
    i.no_check = v.Value == false or nil
  end,
}

-- The old form: one attribute by name, its value as text.
local OLD = { userData = "UserData", instanceType = "InstanceType",
  disableApiTermination = "DisableApiTermination", ebsOptimized = "EbsOptimized",
  instanceInitiatedShutdownBehavior = "InstanceInitiatedShutdownBehavior",
  sourceDestCheck = "SourceDestCheck" }

local function value_of(name, text)
  if name == "userData" then
    local ok, bytes = pcall(crypto.unbase64, text)
    return ok and bytes or errors.raise("InvalidParameterValue",
      "Invalid BASE64 encoding of user data.")
  elseif text == "true" or text == "false" then
    return text == "true"
  end
  return text
end

local accept = { InstanceId = true, Attribute = true, Value = true }
for name in pairs(CHANGES) do
  accept[name] = true
end

ops.ModifyInstanceAttribute = {
  accept = accept,
  secret = { UserData = true, Value = true },
  run = function(c, p)
    local instance = need(c, p.InstanceId)
    if instance.state == "terminated" or instance.state == "shutting-down" then
      errors.raise("IncorrectInstanceState", "The instance '%s' is terminated.", instance.id)
    end
    c.S:put(instance)
    local any = false
    for name, change in pairs(CHANGES) do
      if p[name] ~= nil then
        change(c, instance, p[name])
        any = true
      end
    end
    if p.Attribute and p.Value then
      local name = OLD[p.Attribute] or errors.raise("UnsupportedOperation", "hgauto local cloud:"
        .. " ec2:ModifyInstanceAttribute parameter Attribute=%s is not emulated", p.Attribute)
      CHANGES[name](c, instance, { Value = value_of(p.Attribute, p.Value) })
      any = true
    end
    if not any then
      errors.raise("InvalidParameterCombination", "No attributes specified.")
    end
    c:checked()
    return {}
  end,
}

ops.ModifyInstanceMetadataOptions = {
  accept = { InstanceId = true, HttpTokens = true, HttpPutResponseHopLimit = true,
    HttpEndpoint = true, HttpProtocolIpv6 = true, InstanceMetadataTags = true },
  run = function(c, p)
    local instance, wanted = need(c, p.InstanceId), {}
    for name, v in pairs(instance.options.metadata) do
      wanted[name] = p[name] == nil and v or p[name]
    end
    wanted = instances.metadata_options(wanted)
    c:checked()
    instance.options.metadata = wanted
    c.S:put(instance)
    return { InstanceId = instance.id, InstanceMetadataOptions = instance.options.metadata }
  end,
}

ops.GetPasswordData = {
  accept = { InstanceId = true },
  run = function(c, p)
    local instance = need(c, p.InstanceId)
    c:checked()
    -- Only Windows has one.
    return { InstanceId = instance.id, PasswordData = "", Timestamp = time.now() }
  end,
}

return M
