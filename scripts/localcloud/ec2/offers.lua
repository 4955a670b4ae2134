-- What the account may use and what it costs: attributes, offered types, spot
-- prices.  And rules and interfaces as lists of their own.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local groups = require "localcloud.ec2.groups"
local instances = require "localcloud.ec2.instances"
local network = require "localcloud.ec2.network"
local time = require "hgauto.time"
local types = require "localcloud.ec2.types"

local M = {}
local ops = {}
M.ops = ops

local PRICES = require "localcloud.seed.prices"

-- Part of the on-demand price that spot instances cost here.
local SPOT = 0.4

-- ---- account ----

local ATTRIBUTES = { ["default-vpc"] = function(c)
  return network.vpc_id(c.region)
end, ["supported-platforms"] = function()
  return "VPC"
end, ["max-instances"] = function()
  return "64"
end, ["vpc-max-security-groups-per-interface"] = function()
  return "5"
end, ["max-elastic-ips"] = function()
  return "0"
end, ["vpc-max-elastic-ips"] = function()
  return "0"
end }

ops.DescribeAccountAttributes = {
  accept = { AttributeNames = true },
  run = function(c, p)
    local names = p.AttributeNames
    if not names or not names[1] then
      names = {}
      for name in pairs(ATTRIBUTES) do
        names[#names + 1] = name
      end
      table.sort(names)
    end
    c:checked()
    local out = {}
    for i, name in ipairs(names) do
      out[i] = { AttributeName = name, AttributeValues = { {
        AttributeValue = ATTRIBUTES[name](c) } } }
    end
    return { AccountAttributes = out }
  end,
}

-- ---- types and prices ----

local function places(c, kind)
  if kind == nil or kind == "region" then
    return { c.region }
  end
  local out = {}
  for i, s in ipairs(network.subnets(c.region)) do
    out[i] = kind == "availability-zone" and s.az or s.az_id
  end
  return out
end

ops.DescribeInstanceTypeOfferings = {
  accept = { LocationType = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list = {}
    for i, name in ipairs(types.names()) do
      for _, place in ipairs(places(c, p.LocationType)) do
        list[#list + 1] = { id = name .. "/" .. place, created = i, type = name, place = place }
      end
    end
    list = describe.filter(list, p.Filters, { ["instance-type"] = "type", location = "place" })
    local token
    list, token = describe.page(describe.sort(list), c:paging(p))
    c:checked()
    local out = {}
    for i, o in ipairs(list) do
      out[i] = { InstanceType = o.type, Location = o.place,
        LocationType = p.LocationType or "region" }
    end
    return { InstanceTypeOfferings = out, NextToken = token }
  end,
}

--- What a machine of that type costs an hour, on demand.
-- @param name string
-- @return number USD
function M.full_price(name)
  return PRICES[name]
end

--- The same on the spot market.
-- @param name string
-- @return number USD
function M.spot_price(name)
  return PRICES[name] * SPOT
end

ops.DescribeSpotPriceHistory = {
  accept = { InstanceTypes = true, ProductDescriptions = true, AvailabilityZone = true,
    StartTime = true, EndTime = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list = {}
    for i, name in ipairs(p.InstanceTypes and p.InstanceTypes[1] and p.InstanceTypes
      or types.names()) do
      if not types.get(name) then
        errors.raise("InvalidParameterValue", "Invalid instance type: %s", name)
      end
      for _, s in ipairs(network.subnets(c.region)) do
        list[#list + 1] = { id = name .. "/" .. s.az, created = i, type = name, az = s.az,
          product = "Linux/UNIX", price = ("%.6f"):format(PRICES[name] * SPOT) }
      end
    end
    list = describe.filter(list, p.Filters, { ["instance-type"] = "type",
      ["availability-zone"] = "az", ["product-description"] = "product",
      ["spot-price"] = "price" })
    list = describe.filter(list, p.AvailabilityZone and { { Name = "az",
      Values = { p.AvailabilityZone } } } or nil, { az = "az" })
    list = describe.filter(list, p.ProductDescriptions and { { Name = "product",
      Values = p.ProductDescriptions } } or nil, { product = "product" })
    local paging = c:paging(p)
    paging.least = 1
    local token
    list, token = describe.page(describe.sort(list), paging)
    c:checked()
    local out = {}
    for i, o in ipairs(list) do
      out[i] = { AvailabilityZone = o.az, InstanceType = o.type, ProductDescription = o.product,
        SpotPrice = o.price, Timestamp = math.floor(time.now()) - 3600 }
    end
    return { SpotPriceHistory = out, NextToken = token }
  end,
}

-- ---- rules, interfaces ----

ops.DescribeSecurityGroupRules = {
  accept = { SecurityGroupRuleIds = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    groups.default(c.S, c.region)
    local by_id, list = {}, {}
    for _, group in ipairs(describe.sort(c.S:list("group", c.region))) do
      for _, rule in ipairs(group.rules) do
        local row = { id = rule.id, created = group.created, group = group.id, tags = rule.tags,
          view = groups.rule_view(c, group, rule) }
        by_id[rule.id], list[#list + 1] = row, row
      end
    end
    if p.SecurityGroupRuleIds and p.SecurityGroupRuleIds[1] then
      list = describe.by_ids("sgr", p.SecurityGroupRuleIds, function(id)
        return by_id[id]
      end)
    end
    list = describe.sort(describe.filter(list, p.Filters, { ["group-id"] = "group",
      ["security-group-rule-id"] = "id" }))
    local token
    list, token = describe.page(list, c:paging(p, "SecurityGroupRuleIds"))
    c:checked()
    local out = {}
    for i, row in ipairs(list) do
      out[i] = row.view
    end
    return { SecurityGroupRules = out, NextToken = token }
  end,
}

local INTERFACE_FIELDS = { ["network-interface-id"] = "id", ["attachment.instance-id"] = "instance",
  ["subnet-id"] = "subnet", ["vpc-id"] = "vpc", ["private-ip-address"] = "private_ip",
  ["group-id"] = "groups", status = function()
    return "in-use"
  end }

ops.DescribeNetworkInterfaces = {
  accept = { NetworkInterfaceIds = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local by_id, list = {}, {}
    for _, instance in ipairs(c.S:list("instance", c.region)) do
      local eni = instance.state ~= "terminated" and c.S:get("eni", c.region, instance.eni)
      if eni then
        local row = { id = eni.id, created = eni.created, tags = eni.tags,
          instance = instance.id, subnet = instance.subnet, vpc = instance.vpc,
          private_ip = instance.private_ip, groups = instance.groups, of = instance }
        by_id[eni.id], list[#list + 1] = row, row
      end
    end
    if p.NetworkInterfaceIds and p.NetworkInterfaceIds[1] then
      list = describe.by_ids("eni", p.NetworkInterfaceIds, function(id)
        return by_id[id]
      end)
    end
    list = describe.sort(describe.filter(list, p.Filters, INTERFACE_FIELDS))
    local token
    list, token = describe.page(list, c:paging(p, "NetworkInterfaceIds"))
    c:checked()
    local out = {}
    for i, row in ipairs(list) do
      out[i] = instances.interface_view(c, row.of)
      out[i].AvailabilityZone = row.of.az
      out[i].Attachment.InstanceId = row.instance
      out[i].TagSet = require("localcloud.ec2.tags").view(row.tags)
    end
    return { NetworkInterfaces = out, NextToken = token }
  end,
}

return M
