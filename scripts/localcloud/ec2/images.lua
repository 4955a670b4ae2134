-- Images: the public ones of the catalogue and those made here.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local network = require "localcloud.ec2.network"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

-- What a stand-in is made of, for descriptions.
local BASE_NAMES = { debian12 = "Debian 12", debian13 = "Debian 13" }

local function make(seed)
  local stand_in = seed.base and seed.base ~= seed.release
  return { id = network.fixed_id("ami", seed.name), kind = "image", name = seed.name,
    owner = seed.owner, alias = seed.alias, user = seed.user, base = seed.base,
    root = seed.root, platform = seed.platform, size = seed.size or 8, made = seed.made,
    snapshot = network.fixed_id("snap", seed.name), public = true, state = "available",
    created = tonumber((seed.made:gsub("%D", ""))), tags = {},
    description = stand_in
      and ("local stand-in (%s): %s"):format(BASE_NAMES[seed.base], seed.description)
      or seed.description }
end

local catalogue = {}
for _, seed in ipairs(require "localcloud.seed.images") do
  local image = make(seed)
  catalogue[image.id] = image
end

--- The image of that id, of the catalogue or made here, or nil.
-- @param S State
-- @param region string
-- @param id string
-- @return table|nil
function M.get(S, region, id)
  local own = not catalogue[id] and S:get("image", region, id)
  return catalogue[id] or own and own.state ~= "deregistered" and own or nil
end

--- Block device mappings of an image.
-- @param image table
-- @return {device, size, type, snapshot, delete, encrypted, iops, throughput}[] the root first
function M.mappings(image)
  return image.mappings or { { device = image.root, size = image.size, type = "gp3", iops = 3000,
    throughput = 125, snapshot = image.snapshot, delete = true, encrypted = false } }
end

--- The newest public image whose name begins so, or nil.
-- @param prefix string
-- @return table|nil
function M.newest(prefix)
  local best
  for _, image in pairs(catalogue) do
    if image.name:sub(1, #prefix) == prefix and (not best or image.made > best.made) then
      best = image
    end
  end
  return best
end

--- What an instance keeps of its image, which may be gone before it is.
-- @param image table
-- @return {name, root, platform, user, base}
function M.facts(image)
  return { name = image.name, root = image.root, platform = image.platform, user = image.user,
    base = image.base }
end

--- The facts about an instance's image.
-- @param S State
-- @param instance table
-- @return {name, root, platform, user, base}
function M.of_instance(S, instance)
  return instance.facts or M.get(S, instance.region, instance.image)
end

local function getter(c)
  return function(id)
    return M.get(c.S, c.region, id)
  end
end

--- The image of that id.
-- @param c table request context
-- @raise InvalidAMIID.Malformed, InvalidAMIID.NotFound
function M.need(c, id)
  return describe.by_ids("ami", { id }, getter(c))[1]
end

local function value(text)
  return function()
    return text
  end
end

local function mapped(key)
  return function(image)
    local out = {}
    for i, m in ipairs(M.mappings(image)) do
      out[i] = tostring(m[key])
    end
    return out
  end
end

local FIELDS = { name = "name", description = "description", ["owner-id"] = "owner",
  ["owner-alias"] = "alias", state = "state", ["image-id"] = "id",
  ["image-type"] = value("machine"), architecture = value("x86_64"), platform = "platform",
  ["root-device-name"] = "root", ["root-device-type"] = value("ebs"),
  ["virtualization-type"] = value("hvm"), hypervisor = value("xen"), ["is-public"] = "public",
  ["ena-support"] = value("true"),
  ["creation-date"] = function(image)
    return (image.made:gsub("Z$", ".000Z"))
  end,
  ["block-device-mapping.device-name"] = mapped("device"),
  ["block-device-mapping.snapshot-id"] = mapped("snapshot"),
  ["block-device-mapping.volume-size"] = mapped("size"),
  ["block-device-mapping.volume-type"] = mapped("type"),
  ["block-device-mapping.delete-on-termination"] = mapped("delete"),
  ["block-device-mapping.encrypted"] = mapped("encrypted"),
}

local function mapping_views(image)
  local out = {}
  for i, m in ipairs(M.mappings(image)) do
    out[i] = { DeviceName = m.device, Ebs = { SnapshotId = m.snapshot, VolumeSize = m.size,
      VolumeType = m.type, Iops = m.iops, Throughput = m.throughput,
      DeleteOnTermination = m.delete, Encrypted = m.encrypted } }
  end
  return out
end

local function view(image)
  local windows = image.platform == "windows"
  local place = image.public and "amazon/" or image.owner .. "/"
  return { ImageId = image.id, Name = image.name, ImageLocation = place .. image.name,
    OwnerId = image.owner, ImageOwnerAlias = image.alias, Description = image.description,
    CreationDate = image.made:gsub("Z$", ".000Z"), Public = image.public, State = image.state,
    ImageType = "machine", Architecture = "x86_64", Platform = windows and "windows" or nil,
    PlatformDetails = windows and "Windows" or "Linux/UNIX",
    UsageOperation = windows and "RunInstances:0002" or "RunInstances",
    Hypervisor = "xen", VirtualizationType = "hvm", EnaSupport = true, SriovNetSupport = "simple",
    RootDeviceType = "ebs", RootDeviceName = image.root, Tags = tags.view(image.tags),
    StateReason = image.reason and { Code = "Server.InternalError", Message = image.reason },
    SourceInstanceId = image.source, BlockDeviceMappings = mapping_views(image) }
end

local function owned(image, owners, account)
  for _, owner in ipairs(owners) do
    if owner == image.owner or owner == image.alias
      or (owner == "self" and image.owner == account) then
      return true
    end
  end
  return false
end

-- Catalogue images are public: everybody may execute them, nobody by name.
local function executable(image, users)
  for _, user in ipairs(users) do
    if user == "all" and image.public then
      return true
    end
  end
  return false
end

local function check_owners(owners)
  for _, owner in ipairs(owners or {}) do
    if not (owner:match("^%d%d%d%d%d%d%d%d%d%d%d%d$") or owner == "self" or owner == "amazon"
      or owner == "aws-marketplace" or owner == "microsoft") then
      errors.raise("InvalidUserID.Malformed", "Invalid user id: \"%s\"", owner)
    end
  end
end

ops.DescribeImages = {
  accept = { ImageIds = true, Owners = true, ExecutableUsers = true, Filters = true,
    IncludeDeprecated = true, IncludeDisabled = true, MaxResults = true, NextToken = true },
  before = function(c, p)
    c:hold(function()
      for _, id in ipairs(p.ImageIds or {}) do
        local image = M.get(c.S, c.region, id)
        if image and image.state == "pending" then
          return true
        end
      end
      return false
    end)
  end,
  run = function(c, p)
    check_owners(p.Owners)
    local list = {}
    if p.ImageIds and p.ImageIds[1] then
      list = describe.by_ids("ami", p.ImageIds, getter(c))
    else
      for _, image in pairs(catalogue) do
        list[#list + 1] = image
      end
      for _, image in ipairs(c.S:list("image", c.region)) do
        list[#list + 1] = image.state ~= "deregistered" and image or nil
      end
    end
    local kept = {}
    for _, image in ipairs(list) do
      if (not p.Owners or not p.Owners[1] or owned(image, p.Owners, c.account))
        and (not p.ExecutableUsers or executable(image, p.ExecutableUsers)) then
        kept[#kept + 1] = image
      end
    end
    list = describe.sort(describe.filter(kept, p.Filters, FIELDS))
    local token
    list, token = describe.page(list, c:paging(p, "ImageIds"))
    c:checked()
    local out = {}
    for i, image in ipairs(list) do
      out[i] = view(image)
    end
    return { Images = out, NextToken = token }
  end,
}

return M
