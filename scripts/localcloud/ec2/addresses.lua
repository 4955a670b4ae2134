-- Elastic addresses: allocated, described and released.  They are taken from the
-- same pool as those of instances; giving one to an instance is not emulated.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

-- What an account may have in a region without asking for more.
local MOST = 5

local function get(c)
  return function(id)
    return c.S:get("address", c.region, id)
  end
end

--- Marks the addresses that are allocated as used, before instances get theirs.
-- @param S State
-- @param pool Pool of localcloud.ec2.network
function M.claim(S, pool)
  for _, a in ipairs(S:list "address") do
    pool:claim(a.ip)
  end
end

local function vpc()
  return "vpc"
end

-- Of one that no instance has, the others are not set.
local function none() end

local FIELDS = { ["allocation-id"] = "id", ["public-ip"] = "ip",
  ["network-border-group"] = "region", domain = vpc, ["association-id"] = none,
  ["instance-id"] = none,
  ["network-interface-id"] = none, ["network-interface-owner-id"] = none,
  ["private-ip-address"] = none }

local function view(a)
  return { AllocationId = a.id, PublicIp = a.ip, Domain = "vpc", PublicIpv4Pool = "amazon",
    NetworkBorderGroup = a.region, Tags = tags.view(a.tags) }
end

local function by_ip(c, ips)
  local out = {}
  for _, ip in ipairs(ips) do
    local found
    for _, a in ipairs(c.S:list("address", c.region)) do
      found = a.ip == ip and a or found
    end
    out[#out + 1] = found or errors.raise("InvalidAddress.NotFound", "Address '%s' not found.", ip)
  end
  return out
end

ops.DescribeAddresses = {
  accept = { AllocationIds = true, PublicIps = true, Filters = true },
  run = function(c, p)
    local list = c.S:list("address", c.region)
    if p.AllocationIds and p.AllocationIds[1] then
      list = describe.by_ids("eipalloc", p.AllocationIds, get(c))
    elseif p.PublicIps and p.PublicIps[1] then
      list = by_ip(c, p.PublicIps)
    end
    list = describe.sort(describe.filter(list, p.Filters, FIELDS))
    c:checked()
    local out = {}
    for i, a in ipairs(list) do
      out[i] = view(a)
    end
    return { Addresses = out }
  end,
}

ops.AllocateAddress = {
  accept = { Domain = true, NetworkBorderGroup = true, TagSpecifications = true },
  run = function(c, p)
    if p.Domain and p.Domain ~= "vpc" then
      errors.raise("InvalidParameterValue", "Invalid value '%s' for domain.", p.Domain)
    elseif p.NetworkBorderGroup and p.NetworkBorderGroup ~= c.region then
      errors.raise("InvalidParameterValue", "Invalid value '%s' for networkBorderGroup.",
        p.NetworkBorderGroup)
    end
    local own = tags.from_specs(p.TagSpecifications, { "elastic-ip" })["elastic-ip"]
    if #c.S:list("address", c.region) >= MOST then
      errors.raise("AddressLimitExceeded", "The maximum number of addresses has been reached.")
    end
    c:checked()
    local ip = c.d.machines.pool:take()
    if not ip then
      errors.raise("InsufficientAddressCapacity",
        "There are not enough free addresses to satisfy your request.")
    end
    local a = c.S:put { kind = "address", region = c.region, id = state.new_id "eipalloc",
      created = state.now_ms(), ip = ip, tags = own }
    local out = view(a)
    out.Tags = nil
    return out
  end,
}

ops.ReleaseAddress = {
  accept = { AllocationId = true, PublicIp = true, NetworkBorderGroup = true },
  run = function(c, p)
    if p.AllocationId and p.PublicIp then
      errors.raise("InvalidParameterCombination",
        "You may specify public IP or allocation id, but not both in the same call")
    elseif p.PublicIp then
      errors.raise("InvalidParameterValue",
        "You must specify an allocation id when releasing a VPC elastic IP address")
    elseif not p.AllocationId then
      errors.raise("MissingParameter", "Either public IP or allocation id must be specified")
    end
    local a = describe.by_ids("eipalloc", { p.AllocationId }, get(c))[1]
    c:checked()
    c.S:drop(a)
    c:after_commit(function()
      c.d.machines.pool:give(a.ip)
    end)
    return {}
  end,
}

return M
