-- Instances: launching, describing, starting, stopping, terminating.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local disks = require "localcloud.disks"
local errors = require "localcloud.errors"
local fs = require "hgauto.fs"
local groups = require "localcloud.ec2.groups"
local images = require "localcloud.ec2.images"
local json = require "hgauto.json"
local keys = require "localcloud.ec2.keys"
local machines = require "localcloud.machines"
local network = require "localcloud.ec2.network"
local profiles = require "localcloud.iam.profiles"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"
local time = require "hgauto.time"
local types = require "localcloud.ec2.types"
local userdata = require "localcloud.userdata"
local volumes = require "localcloud.ec2.volumes"

local M = {}
local ops = {}
M.ops = ops

-- Real ones; without machines behind them there may be more.
local MAX_INSTANCES, MAX_API_ONLY = 64, 256
local MAX_PER_CALL = 20
local MIN_FREE_BYTES = 1 << 30

-- ---- finding ----

--- Finds an instance that is shown, for describe.by_ids.
local function get(c)
  return function(id)
    local instance = c.S:get("instance", c.region, id)
    return instance and not instance.hidden and instance or nil
  end
end

local function visible(c)
  local out = {}
  for _, instance in ipairs(c.S:list("instance", c.region)) do
    out[#out + 1] = not instance.hidden and instance or nil
  end
  return out
end

-- Waits for what moves by itself, so that a waiter's first question suffices.
local function hold(c, p)
  if not p.InstanceIds or not p.InstanceIds[1] then
    return
  end
  c:hold(function()
    for _, id in ipairs(p.InstanceIds) do
      local instance = c.S:get("instance", c.region, id)
      if instance and machines.is_moving(instance) then
        return true
      end
    end
    return false
  end)
end

M.get = get

-- ---- views ----

local function state_view(name)
  return { Code = machines.codes[name], Name = name }
end
M.state_view = state_view

local function group_views(c, instance)
  local out = {}
  for _, id in ipairs(instance.groups) do
    local group = c.S:get("group", c.region, id)
    out[#out + 1] = { GroupId = id, GroupName = group and group.name or id }
  end
  return out
end

local function private_name(c, instance)
  return ("%s.%s.compute.internal"):format(userdata.hostname(instance.private_ip), c.region)
end

local function association(c, instance)
  return instance.public_ip and { PublicIp = instance.public_ip, PublicDnsName = "",
    IpOwnerId = c.account } or nil
end

local function interface_view(c, instance)
  local name = private_name(c, instance)
  return { NetworkInterfaceId = instance.eni, MacAddress = instance.mac, OwnerId = c.account,
    Description = "", Status = "in-use", InterfaceType = "interface", SourceDestCheck = true,
    SubnetId = instance.subnet, VpcId = instance.vpc, Groups = group_views(c, instance),
    PrivateIpAddress = instance.private_ip, PrivateDnsName = name, Ipv6Addresses = {},
    Association = association(c, instance),
    Attachment = { AttachmentId = instance.attachment, AttachTime = instance.launched / 1000,
      DeleteOnTermination = true, DeviceIndex = 0, NetworkCardIndex = 0, Status = "attached" },
    PrivateIpAddresses = { { Primary = true, PrivateIpAddress = instance.private_ip,
      PrivateDnsName = name, Association = association(c, instance) } } }
end

M.interface_view = interface_view

local function mapping_views(instance)
  local out = {}
  for _, m in ipairs(instance.state ~= "terminated" and instance.volumes or {}) do
    out[#out + 1] = { DeviceName = m.device, Ebs = { VolumeId = m.id, Status = "attached",
      AttachTime = instance.created / 1000, DeleteOnTermination = m.delete } }
  end
  return out
end

-- What a machine has while it exists; terminated ones are without it.
local function add_network(c, instance, v)
  v.PrivateDnsName, v.PublicDnsName = "", ""
  v.NetworkInterfaces, v.SecurityGroups = {}, {}
  if instance.state == "terminated" then
    return
  end
  v.PrivateIpAddress, v.PrivateDnsName = instance.private_ip, private_name(c, instance)
  v.PublicIpAddress = instance.public_ip
  v.SubnetId, v.VpcId, v.SourceDestCheck = instance.subnet, instance.vpc, true
  v.SecurityGroups = group_views(c, instance)
  v.NetworkInterfaces = { interface_view(c, instance) }
end

local function view(c, instance)
  local image, kind, o = images.of_instance(c.S, instance), types.get(instance.type),
    instance.options
  local windows = image.platform == "windows"
  local v = { InstanceId = instance.id, ImageId = instance.image, InstanceType = instance.type,
    AmiLaunchIndex = instance.index, KeyName = instance.key, LaunchTime = instance.launched / 1000,
    State = state_view(instance.state), StateTransitionReason = instance.transition,
    StateReason = instance.reason and { Code = instance.reason.code,
      Message = instance.reason.message },
    Monitoring = { State = o.monitoring and "enabled" or "disabled" },
    Placement = { AvailabilityZone = instance.az, GroupName = "", Tenancy = "default" },
    Platform = windows and "windows" or nil,
    PlatformDetails = windows and "Windows" or "Linux/UNIX",
    UsageOperation = windows and "RunInstances:0002" or "RunInstances",
    UsageOperationUpdateTime = instance.created / 1000, ProductCodes = {},
    Architecture = "x86_64", Hypervisor = "xen", VirtualizationType = "hvm", EnaSupport = true,
    RootDeviceType = "ebs", RootDeviceName = image.root, EbsOptimized = o.ebs_optimized,
    BlockDeviceMappings = mapping_views(instance), ClientToken = instance.token or "",
    CpuOptions = o.cpu or { CoreCount = math.max(kind.vcpus // 2, 1),
      ThreadsPerCore = math.min(kind.vcpus, 2) },
    HibernationOptions = { Configured = false }, EnclaveOptions = { Enabled = false },
    MetadataOptions = o.metadata, MaintenanceOptions = o.maintenance,
    PrivateDnsNameOptions = o.dns_names, CurrentInstanceBootMode = "legacy-bios",
    IamInstanceProfile = instance.profile and { Arn = instance.profile.arn,
      Id = instance.profile.id },
    CapacityReservationSpecification = { CapacityReservationPreference = "open" },
    InstanceLifecycle = instance.spot and "spot" or nil, SpotInstanceRequestId = instance.spot,
    Tags = tags.view(instance.tags) }
  add_network(c, instance, v)
  return v
end

local function reservation_view(c, id, list)
  table.sort(list, function(a, b)
    return a.index < b.index
  end)
  local out = {}
  for i, instance in ipairs(list) do
    out[i] = view(c, instance)
  end
  return { ReservationId = id, OwnerId = c.account, Groups = {}, Instances = out }
end

-- ---- RunInstances: checks ----

local METADATA = { HttpTokens = "optional", HttpPutResponseHopLimit = 1, HttpEndpoint = "enabled",
  HttpProtocolIpv6 = "disabled", InstanceMetadataTags = "disabled" }

local function metadata_options(given)
  local out = { State = "applied" }
  for name, default in pairs(METADATA) do
    out[name] = given and given[name] or default
  end
  if out.HttpPutResponseHopLimit < 1 or out.HttpPutResponseHopLimit > 64 then
    errors.raise("InvalidParameterValue", "Value (%d) for parameter HttpPutResponseHopLimit is"
      .. " invalid. It must be between 1 and 64.", out.HttpPutResponseHopLimit)
  end
  return out
end

M.metadata_options = metadata_options

local function check_counts(p)
  if p.MinCount < 1 or p.MaxCount < p.MinCount then
    errors.raise("InvalidParameterValue", "Value (%d) for parameter minCount is invalid."
      .. " 1 <= minCount <= maxCount is expected.", p.MinCount)
  end
  if p.MaxCount > MAX_PER_CALL then
    errors.raise("InstanceLimitExceeded", "At most %d instances can be launched at once.",
      MAX_PER_CALL)
  end
end

-- Groups, subnet and zone, from the call or from its first interface.
local function placement(c, p)
  local nic = p.NetworkInterfaces and p.NetworkInterfaces[1]
  if nic then
    if p.NetworkInterfaces[2] or (nic.DeviceIndex or 0) ~= 0 then
      errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:RunInstances parameter"
        .. " NetworkInterfaces beyond the first is not emulated")
    elseif nic.AssociatePublicIpAddress == false then
      errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:RunInstances parameter"
        .. " NetworkInterfaces.AssociatePublicIpAddress=false is not emulated")
    elseif p.SecurityGroupIds or p.SecurityGroups then
      errors.raise("InvalidParameterCombination", "Network interfaces and an instance-level"
        .. " security groups may not be specified on the same request")
    elseif p.SubnetId then
      errors.raise("InvalidParameterCombination", "Network interfaces and an instance-level"
        .. " subnet ID may not be specified on the same request")
    end
  end
  local ids = nic and nic.Groups or p.SecurityGroupIds
  local az = p.Placement and p.Placement.AvailabilityZone
  return groups.resolve(c, ids, p.SecurityGroups),
    network.subnet(c.region, nic and nic.SubnetId or p.SubnetId, az)
end

-- Mapping of the image as wishes of a launch.
local function inherited(m)
  return { VolumeSize = m.size, VolumeType = m.type, Iops = m.iops, Throughput = m.throughput,
    DeleteOnTermination = m.delete, Encrypted = m.encrypted }
end

-- Wishes of the call over those of the image.
local function merged(m, ebs)
  local out = inherited(m)
  if ebs.VolumeType and ebs.VolumeType ~= m.type then
    out.Iops, out.Throughput = nil, nil
  end
  for k, v in pairs(ebs) do
    out[k] = v
  end
  return out
end

local function snapshot_of(c, ebs)
  if not ebs.SnapshotId then
    return nil
  end
  local s = describe.by_ids("snap", { ebs.SnapshotId }, function(id)
    return c.S:get("snapshot", c.region, id)
  end)[1]
  if s.root then
    errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:RunInstances parameter"
      .. " BlockDeviceMappings.Ebs.SnapshotId of a root volume is not emulated")
  end
  return s
end

local function block_devices(c, p, image)
  local wishes, out = {}, {}
  for _, m in ipairs(p.BlockDeviceMappings or {}) do
    if not m.DeviceName then
      errors.raise("MissingParameter", "The request must contain the parameter DeviceName")
    end
    disks.names(m.DeviceName, 1)
    wishes[m.DeviceName] = m
  end
  for i, m in ipairs(images.mappings(image)) do
    local wish = wishes[m.device] or {}
    if i == 1 or not wish.NoDevice then
      out[#out + 1] = volumes.spec(m.device, merged(m, wish.Ebs or {}), m.size, m.snapshot)
    end
    wishes[m.device] = nil
  end
  for _, m in ipairs(p.BlockDeviceMappings or {}) do
    if wishes[m.DeviceName] and not m.NoDevice then
      local ebs = m.Ebs or {}
      local s = snapshot_of(c, ebs)
      out[#out + 1] = volumes.spec(m.DeviceName, ebs, s and s.size, s and s.id)
    end
  end
  if #out > 16 then
    errors.raise("AttachmentLimitExceeded", "An instance has at most 16 volumes.")
  end
  return out
end

local function check_image(c, image)
  if image.state ~= "available" then
    errors.raise("InvalidAMIID.Unavailable", "The AMI '%s' is %s", image.id, image.state)
  elseif image.unreal and not c.d.api_only then
    errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:RunInstances parameter ImageId"
      .. " of %s is not emulated: it was made with --api-only and has no data", image.id)
  end
end

local NO_TIER = "This host cannot start local instances (%s). Here only the API can be emulated"
  .. " (--api-only); hgauto local doctor says what to do."

local function check_host(c)
  if c.d.api_only then
    return
  end
  if not c.d.tier then
    errors.raise("Unsupported", NO_TIER, c.d.tier_reason or "no tier")
  end
  if fs.space(c.d.dir) < MIN_FREE_BYTES then
    errors.raise("InsufficientInstanceCapacity", "There is not enough free disk space in %s to"
      .. " start an instance (1 GiB is needed).", c.d.dir)
  end
end

M.check_host = check_host

-- Waits for the host's probe, before any check.
local function probe(c)
  if not c.d.api_only then
    c.d:find_tier()
  end
end
M.probe = probe

local function check_limit(c, p)
  local n, most = 0, c.d.api_only and MAX_API_ONLY or MAX_INSTANCES
  for _, instance in ipairs(c.S:list("instance")) do
    n = n + (instance.state ~= "terminated" and 1 or 0)
  end
  if n + p.MinCount > most then
    errors.raise("InstanceLimitExceeded", "You have requested more instances (%d) than your"
      .. " current instance limit of %d allows for the specified instance type.",
      n + p.MinCount, most)
  end
  return math.min(p.MaxCount, most - n)
end

local function params_hash(p)
  local rest = {}
  for k, v in pairs(p) do
    if k ~= "ClientToken" and k ~= "DryRun" then
      rest[k] = v
    end
  end
  return crypto.sha256(json.encode(rest))
end

local function check_token(token)
  if token and (#token > 64 or token:find("[^\32-\126]")) then
    errors.raise("InvalidParameterValue", "Value (%s) for parameter clientToken is invalid."
      .. " Up to 64 ASCII characters.", token:sub(1, 80))
  end
end

--- The answer to a repeated client token.
-- @param c table request context
-- @param p table parameters
-- @param op string operation
-- @param show function(ids) -> answer
-- @return string hash of the parameters, for note_token
-- @return table|nil answer, nil when the token is new
-- @raise IdempotentParameterMismatch
function M.repeated(c, p, op, show)
  check_token(p.ClientToken)
  local hash = params_hash(p)
  local known = p.ClientToken and c.S:token(op, c.region, p.ClientToken)
  if not known then
    return hash
  end
  if known.hash ~= hash then
    errors.raise("IdempotentParameterMismatch", "Arguments on this idempotent request are"
      .. " inconsistent with arguments used in previous request(s).")
  end
  return hash, show(known.ids)
end

--- Remembers what a client token made.
-- @param c table request context
-- @param p table parameters
-- @param op string operation
-- @param hash string
-- @param ids string[]
function M.note_token(c, p, op, hash, ids)
  if p.ClientToken then
    c.S:put_token(op, c.region, p.ClientToken, hash, ids)
  end
end

-- ---- RunInstances: making ----

local function taken_private(S)
  local taken = {}
  for _, instance in ipairs(S:list("instance")) do
    if instance.private_ip then
      taken[instance.private_ip] = true
    end
  end
  return taken
end

local function make_volumes(c, instance, specs, own_tags)
  instance.volumes = {}
  for i, spec in ipairs(specs) do
    local volume = { kind = "volume", region = c.region, id = state.new_id("vol"),
      created = instance.created, az = instance.az, state = "in-use", instance = instance.id,
      tags = tags.copy(own_tags) }
    for k, v in pairs(spec) do
      volume[k] = v
    end
    c.S:put(volume)
    instance.volumes[i] = { id = volume.id, device = spec.device, delete = spec.delete,
      k = i - 1 }
  end
end

local function mac_address()
  local b = crypto.random(5)
  return ("02:%02x:%02x:%02x:%02x:%02x"):format(b:byte(1, 5))
end

-- l: what the checks found (image, groups, subnet, volumes, tags, key, options).
local function make(c, p, l, index, reservation, taken)
  local now = state.now_ms()
  local private = network.private_ip(l.subnet, taken)
    or errors.raise("InsufficientFreeAddressesInSubnet", "The subnet has no free addresses.")
  taken[private] = true
  local instance = { kind = "instance", region = c.region, id = state.new_id("i"), created = now,
    launched = now, index = index, reservation = reservation, image = l.image.id, type = l.type,
    key = p.KeyName, public_key = l.key and l.key.public, groups = l.groups, subnet = l.subnet.id,
    vpc = l.subnet.vpc, az = l.subnet.az, private_ip = private, eni = state.new_id("eni"),
    attachment = state.new_id("eni-attach"), mac = mac_address(), token = p.ClientToken,
    profile = l.profile, facts = images.facts(l.image),
    layers = table.move(l.image.layers or {}, 1, #(l.image.layers or {}), 1, {}),
    base_layer = l.image.base_layer,
    user_data = p.UserData, protect = p.DisableApiTermination == true, options = l.options,
    behavior = p.InstanceInitiatedShutdownBehavior or "stop", state = "pending", transition = "",
    tags = tags.copy(l.tags.instance) }
  make_volumes(c, instance, l.volumes, l.tags.volume)
  c.S:put { kind = "eni", region = c.region, id = instance.eni, created = now,
    instance = instance.id, tags = tags.copy(l.tags["network-interface"]) }
  return c.S:put(instance)
end

local function options(p)
  return { metadata = metadata_options(p.MetadataOptions), cpu = p.CpuOptions,
    monitoring = p.Monitoring and p.Monitoring.Enabled or false,
    ebs_optimized = p.EbsOptimized or false,
    maintenance = { AutoRecovery = p.MaintenanceOptions and p.MaintenanceOptions.AutoRecovery
      or "default" },
    dns_names = p.PrivateDnsNameOptions or { HostnameType = "ip-name",
      EnableResourceNameDnsARecord = false, EnableResourceNameDnsAAAARecord = false } }
end

local function check_launch(c, p)
  if not p.ImageId then
    errors.raise("MissingParameter", "The request must contain the parameter ImageId")
  end
  check_counts(p)
  local l = { image = images.need(c, p.ImageId), type = p.InstanceType or "t3.micro" }
  check_image(c, l.image)
  if not types.get(l.type) then
    errors.raise("InvalidParameterValue", "Invalid value '%s' for InstanceType.", l.type)
  end
  l.key = p.KeyName and keys.need(c.S, c.region, p.KeyName)
  l.groups, l.subnet = placement(c, p)
  l.volumes = block_devices(c, p, l.image)
  l.tags = tags.from_specs(p.TagSpecifications, { "instance", "volume", "network-interface" })
  l.options = options(p)
  l.profile = profiles.of_launch(c.S, p.IamInstanceProfile)
  userdata.check(p.UserData)
  l.count = check_limit(c, p)
  l.market = require("localcloud.ec2.spot").of_launch(p.InstanceMarketOptions, l.type)
  if l.image.platform ~= "windows" then -- an endpoint stands for those, no box
    check_host(c)
  end
  return l
end

M.check_launch = check_launch

--- Makes one machine, in a reservation of its own.
-- @param c table request context
-- @param p table RunInstances parameters
-- @param l table of check_launch
-- @return table instance
function M.make_one(c, p, l)
  return make(c, p, l, 0, state.new_id("r"), taken_private(c.S))
end

ops.RunInstances = {
  accept = { ImageId = true, MinCount = true, MaxCount = true, InstanceType = true,
    KeyName = true, SecurityGroupIds = true, SecurityGroups = true, UserData = true,
    ClientToken = true, TagSpecifications = true, InstanceInitiatedShutdownBehavior = true,
    BlockDeviceMappings = { DeviceName = true, NoDevice = true, Ebs = { SnapshotId = true,
      VolumeSize = true, VolumeType = true,
      DeleteOnTermination = true, Encrypted = true, Iops = true, Throughput = true } },
    IamInstanceProfile = true,
    MetadataOptions = true, SubnetId = true, Placement = { AvailabilityZone = true },
    NetworkInterfaces = { DeviceIndex = true, SubnetId = true, Groups = true,
      AssociatePublicIpAddress = true, DeleteOnTermination = true, Description = true },
    DisableApiTermination = true, EbsOptimized = true, Monitoring = true,
    CreditSpecification = true, CpuOptions = true, DisableApiStop = true,
    MaintenanceOptions = true, PrivateDnsNameOptions = true,
    InstanceMarketOptions = { MarketType = true, SpotOptions = { MaxPrice = true,
      SpotInstanceType = true, InstanceInterruptionBehavior = true } } },
  secret = { UserData = true },
  before = probe,
  run = function(c, p)
    local hash, answer = M.repeated(c, p, "RunInstances", function(ids)
      local list = {}
      for _, id in ipairs(ids) do
        list[#list + 1] = c.S:get("instance", c.region, id)
      end
      return reservation_view(c, list[1].reservation, list)
    end)
    if answer then
      c:checked()
      return answer
    end
    local l = check_launch(c, p)
    c:checked()
    local reservation, taken, list, ids = state.new_id("r"), taken_private(c.S), {}, {}
    for i = 1, l.count do
      list[i] = make(c, p, l, i - 1, reservation, taken)
      if l.market then
        require("localcloud.ec2.spot").launched(c, p, l.market, list[i])
      end
      ids[i] = list[i].id
    end
    M.note_token(c, p, "RunInstances", hash, ids)
    c:after_commit(function()
      for _, instance in ipairs(list) do
        c.d.machines:launch(instance)
      end
    end)
    return reservation_view(c, reservation, list)
  end,
}

-- ---- describing ----

local function listed(instance, key)
  local out = {}
  for i, m in ipairs(instance.volumes) do
    out[i] = m[key]
  end
  return out
end

local function option(group, key)
  return function(instance)
    return instance.options[group] and instance.options[group][key]
  end
end

local function constant(value)
  return function()
    return value
  end
end

local function fields(c)
  local function group_names(instance)
    local out = {}
    for _, g in ipairs(group_views(c, instance)) do
      out[#out + 1] = g.GroupName
    end
    return out
  end
  local function image_field(name)
    return function(instance)
      return images.of_instance(c.S, instance)[name]
    end
  end
  return { ["instance-id"] = "id", ["reservation-id"] = "reservation", ["image-id"] = "image",
    ["instance-type"] = "type", ["instance-state-name"] = "state",
    ["instance-state-code"] = function(i)
      return machines.codes[i.state]
    end,
    ["key-name"] = "key", ["client-token"] = "token", ["ip-address"] = "public_ip",
    ["private-ip-address"] = "private_ip", ["vpc-id"] = "vpc", ["subnet-id"] = "subnet",
    ["availability-zone"] = "az", architecture = constant("x86_64"),
    platform = image_field("platform"), ["root-device-name"] = image_field("root"),
    ["root-device-type"] = constant("ebs"), ["virtualization-type"] = constant("hvm"),
    ["launch-time"] = function(i)
      return time.iso(i.launched / 1000, { ms = true })
    end,
    ["instance-lifecycle"] = function(i)
      return i.spot and "spot" or nil
    end,
    ["spot-instance-request-id"] = "spot", ["iam-instance-profile.arn"] = function(i)
      return i.profile and i.profile.arn
    end,
    ["group-id"] = "groups", ["instance.group-id"] = "groups",
    ["group-name"] = group_names, ["instance.group-name"] = group_names,
    ["block-device-mapping.volume-id"] = function(i)
      return listed(i, "id")
    end,
    ["block-device-mapping.device-name"] = function(i)
      return listed(i, "device")
    end,
    ["metadata-options.http-tokens"] = option("metadata", "HttpTokens"),
    ["network-interface.network-interface-id"] = "eni",
    ["state-reason-code"] = function(i)
      return i.reason and i.reason.code
    end,
    ["owner-id"] = constant(c.account) }
end

-- Instances by reservation; a reservation is as old as its first instance.
local function by_reservation(list)
  local out, found = {}, {}
  for _, instance in ipairs(list) do
    local r = found[instance.reservation]
    if not r then
      r = { id = instance.reservation, created = instance.created, instances = {} }
      found[r.id], out[#out + 1] = r, r
    end
    r.created = math.min(r.created, instance.created)
    r.instances[#r.instances + 1] = instance
  end
  return describe.sort(out)
end

ops.DescribeInstances = {
  accept = { InstanceIds = true, Filters = true, MaxResults = true, NextToken = true },
  before = hold,
  run = function(c, p)
    local list = p.InstanceIds and p.InstanceIds[1]
      and describe.by_ids("i", p.InstanceIds, get(c)) or visible(c)
    list = describe.filter(list, p.Filters, fields(c))
    local paging = c:paging(p, "InstanceIds")
    paging.weight = function(r)
      return #r.instances
    end
    local token
    list, token = describe.page(by_reservation(list), paging)
    c:checked()
    local out = {}
    for i, r in ipairs(list) do
      out[i] = reservation_view(c, r.id, r.instances)
    end
    return { Reservations = out, NextToken = token }
  end,
}

local function status_of(instance)
  if instance.state ~= "running" then
    return "not-applicable"
  end
  return instance.impaired and "impaired" or "ok"
end

local REACHABLE = { ok = "passed", impaired = "failed" }

local function status_view(instance)
  local status = status_of(instance)
  local summary = { Status = status, Details = REACHABLE[status] and { {
    Name = "reachability", Status = REACHABLE[status] } } or nil }
  return { InstanceId = instance.id, AvailabilityZone = instance.az,
    InstanceState = state_view(instance.state), InstanceStatus = summary, SystemStatus = summary }
end

ops.DescribeInstanceStatus = {
  accept = { InstanceIds = true, Filters = true, IncludeAllInstances = true, MaxResults = true,
    NextToken = true },
  before = hold,
  run = function(c, p)
    local list = p.InstanceIds and p.InstanceIds[1]
      and describe.by_ids("i", p.InstanceIds, get(c)) or visible(c)
    local kept = {}
    for _, instance in ipairs(list) do
      if p.IncludeAllInstances or instance.state == "running" then
        kept[#kept + 1] = instance
      end
    end
    local all = fields(c)
    list = describe.filter(kept, p.Filters, { ["availability-zone"] = "az",
      ["instance-state-code"] = all["instance-state-code"], ["instance-state-name"] = "state",
      ["instance-status.status"] = status_of, ["system-status.status"] = status_of })
    local token
    list, token = describe.page(describe.sort(list), c:paging(p, "InstanceIds"))
    c:checked()
    local out = {}
    for i, instance in ipairs(list) do
      out[i] = status_view(instance)
    end
    return { InstanceStatuses = out, NextToken = token }
  end,
}

ops.GetConsoleOutput = {
  accept = { InstanceId = true, Latest = true },
  run = function(c, p)
    local instance = describe.by_ids("i", { p.InstanceId }, get(c))[1]
    c:checked()
    local path = c.d.machines:console_path(instance)
    local text = fs.exists(path) and fs.read(path) or ""
    return { InstanceId = instance.id, Timestamp = time.now(),
      Output = crypto.base64(text:sub(-65536)) }
  end,
}

return M
