-- Regions, zones, the default VPC with its three subnets, and addresses.
-- Ids of what every account has are computed, so they need no storage.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"

local M = {}

local REST_SECONDS = 600
local LETTERS = { "a", "b", "c" }

local regions = {}
for _, r in ipairs(require "localcloud.seed.regions") do
  regions[r[1]] = r
end

local function fixed_id(prefix, text)
  return prefix .. "-" .. crypto.sha1(text):sub(1, 17)
end
M.fixed_id = fixed_id

--- Whether a region exists.
-- @param name string
-- @return boolean
function M.region_known(name)
  return regions[name] ~= nil
end

--- Id of the region's default VPC.
function M.vpc_id(region)
  return fixed_id("vpc", "vpc/" .. region)
end

--- The three default subnets of a region: {id, region, az, az_id, cidr, third}.
-- @return table[]
function M.subnets(region)
  local out = {}
  for i, letter in ipairs(LETTERS) do
    local az = region .. letter
    out[i] = {
      id = fixed_id("subnet", "subnet/" .. az), region = region, az = az,
      az_id = regions[region][2] .. "-az" .. i, third = (i - 1) * 16,
      cidr = ("172.31.%d.0/20"):format((i - 1) * 16), vpc = M.vpc_id(region), tags = {},
    }
  end
  return out
end

--- The subnet for a launch.
-- @param region string
-- @param id string|nil wanted subnet
-- @param az string|nil wanted zone
-- @return table
function M.subnet(region, id, az)
  local list = M.subnets(region)
  if id then
    describe.check_form("subnet", id)
  end
  for _, s in ipairs(list) do
    if (not id or s.id == id) and (not az or s.az == az) then
      return s
    end
  end
  if id then
    for _, s in ipairs(list) do
      if s.id == id then
        errors.raise("InvalidParameterCombination", "The availability zone '%s' is not that of the"
          .. " subnet '%s'", az, id)
      end
    end
    describe.not_found("subnet", { id })
  end
  errors.raise("InvalidParameterValue", "Invalid availability zone: [%s]", az)
end

-- ---- addresses ----

local Pool = {}
Pool.__index = Pool

--- Hands out public (loopback) and private addresses of running instances.
-- @param now function() -> seconds
-- @return Pool
function M.pool(now)
  local start = crypto.random(2)
  return setmetatable({ now = now, used = {}, rest = {},
    at = start:byte(1) * 256 + start:byte(2) }, Pool)
end

local PUBLIC = 254 * 254

--- A public address 127.77.1.1 … 127.77.254.254 that rested long enough.
-- @return string|nil nil when all are taken
function Pool:take()
  for _ = 1, PUBLIC do
    self.at = (self.at + 1) % PUBLIC
    local ip = ("127.77.%d.%d"):format(self.at // 254 + 1, self.at % 254 + 1)
    if not self.used[ip] and (self.rest[ip] or 0) <= self.now() then
      self.used[ip], self.rest[ip] = true, nil
      return ip
    end
  end
end

--- Marks an address as used (at start, from the stored objects).
function Pool:claim(ip)
  self.used[ip] = true
end

--- Gives an address back; it rests before it is used again.
function Pool:give(ip)
  if ip then
    self.used[ip], self.rest[ip] = nil, self.now() + REST_SECONDS
  end
end

--- A private address of the subnet that no other instance has.
-- @param subnet table
-- @param taken table address -> true
-- @return string|nil
function M.private_ip(subnet, taken)
  local start = crypto.random(2)
  local offset = start:byte(1) * 256 + start:byte(2)
  for i = 0, 4095 do
    local n = (offset + i) % 4096
    local ip = ("172.31.%d.%d"):format(subnet.third + n // 256, n % 256)
    -- The first four and the last address of a subnet belong to AWS.
    if n >= 4 and n < 4095 and not taken[ip] then
      return ip
    end
  end
end

-- ---- operations ----

local ops = {}
M.ops = ops

local REGION_FIELDS = { ["region-name"] = "id", endpoint = "endpoint",
  ["opt-in-status"] = function()
    return "opt-in-not-required"
  end }

ops.DescribeRegions = {
  accept = { RegionNames = true, Filters = true, AllRegions = true },
  run = function(c, p)
    local list = {}
    for name in pairs(regions) do
      list[#list + 1] = { id = name, endpoint = c.endpoint_host }
    end
    table.sort(list, function(a, b)
      return a.id < b.id
    end)
    if p.RegionNames then
      local wanted = {}
      for _, name in ipairs(p.RegionNames) do
        if not regions[name] then
          errors.raise("InvalidParameterValue", "Invalid region provided: [%s]", name)
        end
        wanted[#wanted + 1] = { id = name, endpoint = c.endpoint_host }
      end
      list = wanted
    end
    c:checked()
    local out = {}
    for _, r in ipairs(describe.filter(list, p.Filters, REGION_FIELDS)) do
      out[#out + 1] = { RegionName = r.id, Endpoint = r.endpoint,
        OptInStatus = "opt-in-not-required" }
    end
    return { Regions = out }
  end,
}

local ZONE_FIELDS = { ["zone-name"] = "az", ["zone-id"] = "az_id", ["region-name"] = "region",
  ["group-name"] = "region",
  state = function()
    return "available"
  end,
  ["zone-type"] = function()
    return "availability-zone"
  end,
  ["opt-in-status"] = function()
    return "opt-in-not-required"
  end }

local function pick(list, field, wanted, refuse)
  if not wanted then
    return list
  end
  local out = {}
  for _, name in ipairs(wanted) do
    local found
    for _, item in ipairs(list) do
      found = found or (item[field] == name and item)
    end
    out[#out + 1] = found or refuse(name)
  end
  return out
end

local function bad_zone(name)
  errors.raise("InvalidParameterValue", "Invalid availability zone: [%s]", name)
end

ops.DescribeAvailabilityZones = {
  accept = { ZoneNames = true, ZoneIds = true, Filters = true, AllAvailabilityZones = true },
  run = function(c, p)
    local list = pick(M.subnets(c.region), "az", p.ZoneNames, bad_zone)
    list = pick(list, "az_id", p.ZoneIds, bad_zone)
    c:checked()
    local out = {}
    for _, z in ipairs(describe.filter(list, p.Filters, ZONE_FIELDS)) do
      out[#out + 1] = { ZoneName = z.az, ZoneId = z.az_id, RegionName = z.region,
        State = "available", OptInStatus = "opt-in-not-required", GroupName = z.region,
        NetworkBorderGroup = z.region, ZoneType = "availability-zone", Messages = {} }
    end
    return { AvailabilityZones = out }
  end,
}

local function yes()
  return "true"
end

local function available()
  return "available"
end

local function account(c)
  return function()
    return c.account
  end
end

ops.DescribeVpcs = {
  accept = { VpcIds = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local vpc = { id = M.vpc_id(c.region), cidr = "172.31.0.0/16", tags = {} }
    local list = p.VpcIds and describe.by_ids("vpc", p.VpcIds, function(id)
      return id == vpc.id and vpc or nil
    end) or { vpc }
    list = describe.filter(list, p.Filters, { ["vpc-id"] = "id", cidr = "cidr",
      ["cidr-block-association.cidr-block"] = "cidr", ["owner-id"] = account(c),
      isDefault = yes, ["is-default"] = yes, state = available })
    local token
    list, token = describe.page(list, c:paging(p, "VpcIds"))
    c:checked()
    local out = {}
    for _, v in ipairs(list) do
      out[#out + 1] = { VpcId = v.id, CidrBlock = v.cidr, State = "available", IsDefault = true,
        OwnerId = c.account, InstanceTenancy = "default",
        DhcpOptionsId = fixed_id("dopt", "dopt/" .. c.region),
        CidrBlockAssociationSet = { {
          AssociationId = fixed_id("vpc-cidr-assoc", "assoc/" .. c.region), CidrBlock = v.cidr,
          CidrBlockState = { State = "associated" } } } }
    end
    return { Vpcs = out, NextToken = token }
  end,
}

local SUBNET_FIELDS = { ["subnet-id"] = "id", ["vpc-id"] = "vpc", ["availability-zone"] = "az",
  availabilityZone = "az", ["availability-zone-id"] = "az_id", cidr = "cidr", cidrBlock = "cidr",
  ["cidr-block"] = "cidr", state = available, ["default-for-az"] = yes, defaultForAz = yes,
  ["map-public-ip-on-launch"] = yes }

ops.DescribeSubnets = {
  accept = { SubnetIds = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list, by_id = M.subnets(c.region), {}
    for _, s in ipairs(list) do
      by_id[s.id] = s
    end
    if p.SubnetIds then
      list = describe.by_ids("subnet", p.SubnetIds, function(id)
        return by_id[id]
      end)
    end
    list = describe.sort(describe.filter(list, p.Filters, SUBNET_FIELDS))
    local token
    list, token = describe.page(list, c:paging(p, "SubnetIds"))
    c:checked()
    local out = {}
    for _, s in ipairs(list) do
      out[#out + 1] = { SubnetId = s.id, VpcId = s.vpc, AvailabilityZone = s.az,
        AvailabilityZoneId = s.az_id, CidrBlock = s.cidr, State = "available",
        AvailableIpAddressCount = 4091, DefaultForAz = true, MapPublicIpOnLaunch = true,
        AssignIpv6AddressOnCreation = false, OwnerId = c.account,
        SubnetArn = ("arn:aws:ec2:%s:%s:subnet/%s"):format(c.region, c.account, s.id) }
    end
    return { Subnets = out, NextToken = token }
  end,
}

return M
