-- Spot requests and what becomes of their machines.  One-time ones: a machine
-- comes at once if the price allows, and ends when its owner or a fault wants it.
--
-- Prices do not move: a bid below the price waits, as "open", until it is cancelled.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local instances = require "localcloud.ec2.instances"
local offers = require "localcloud.ec2.offers"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"
local time = require "hgauto.time"

local M = {}
local ops = {}
M.ops = ops

local STATUS = {
  ["pending-fulfillment"] = "Your Spot request is pending fulfillment.",
  fulfilled = "Your Spot request is fulfilled.",
  ["price-too-low"] = "Your Spot request price of %s is lower than the minimum required Spot"
    .. " request fulfillment price of %s.",
  ["canceled-before-fulfillment"] = "Your Spot request is canceled before it was fulfilled.",
  ["request-canceled-and-instance-running"] = "You canceled your Spot request, but your instance"
    .. " is still running.",
  ["marked-for-termination"] = "Your Spot instance is marked for termination.",
  ["instance-terminated-by-price"] = "Your Spot instance was terminated because your Spot request"
    .. " price was lower than required Spot price.",
  ["instance-terminated-by-user"] = "Spot Instance terminated due to user-initiated termination.",
}

local function status(request, code, ...)
  request.code, request.message = code, STATUS[code]:format(...)
  request.updated = state.now_ms()
end

-- The state of a request, which its machine's end changes.
local function current(c, r)
  local instance = r.instance and c.S:get("instance", r.region, r.instance)
  if r.state == "active" and (not instance or instance.state == "terminated"
    or instance.state == "shutting-down") then
    r.state = "closed"
    status(r, instance and instance.spot_notice and "instance-terminated-by-price"
      or "instance-terminated-by-user")
    c.S:put(r)
  elseif r.state == "active" and instance.spot_notice and r.code == "fulfilled" then
    status(r, "marked-for-termination")
    c.S:put(r)
  end
  return r
end

local function view(r)
  local s = r.spec
  return { SpotInstanceRequestId = r.id, State = r.state, Type = "one-time",
    Status = { Code = r.code, Message = r.message, UpdateTime = r.updated / 1000 },
    SpotPrice = r.price, CreateTime = r.created / 1000, InstanceId = r.instance,
    ProductDescription = "Linux/UNIX", LaunchedAvailabilityZone = r.az,
    InstanceInterruptionBehavior = "terminate", ValidUntil = r.valid_until,
    LaunchSpecification = { ImageId = s.ImageId, InstanceType = s.InstanceType or "t3.micro",
      KeyName = s.KeyName, SubnetId = s.SubnetId, Placement = s.Placement and {
        AvailabilityZone = s.Placement.AvailabilityZone } or nil,
      EbsOptimized = s.EbsOptimized or false, Monitoring = { Enabled = s.Monitoring ~= nil
        and s.Monitoring.Enabled or false } }, Tags = tags.view(r.tags) }
end

-- ---- what a request may ask for ----

local function check_behaviour(behaviour, kind)
  if kind and kind ~= "one-time" then
    errors.raise("UnsupportedOperation", "hgauto local cloud: ec2 spot requests of type %s are"
      .. " not emulated", kind)
  elseif behaviour and behaviour ~= "terminate" then
    errors.raise("InvalidParameterCombination", "The interruption behavior '%s' is only supported"
      .. " for persistent Spot Instance requests.", behaviour)
  end
end

local function price_of(text)
  if text == nil then
    return nil
  end
  local price = tonumber(text)
  if not price or price <= 0 then
    errors.raise("InvalidParameterValue", "Invalid value '%s' for Spot price.", text)
  end
  return price
end

local function new_request(c, region, spec, price, more)
  local r = { kind = "spot", region = region, id = state.new_id "sir", created = state.now_ms(),
    state = "open", spec = { ImageId = spec.ImageId, InstanceType = spec.InstanceType,
      KeyName = spec.KeyName, SubnetId = spec.SubnetId, Placement = spec.Placement,
      EbsOptimized = spec.EbsOptimized, Monitoring = spec.Monitoring }, price = price, tags = {} }
  status(r, "pending-fulfillment")
  for k, v in pairs(more or {}) do
    r[k] = v
  end
  return c.S:put(r)
end

local function fulfil(c, r, instance)
  r.state, r.instance, r.az = "active", instance.id, instance.az
  status(r, "fulfilled")
  instance.spot = r.id
  c.S:put(r)
  c.S:put(instance)
end

--- Checks what a launch says of the spot market.
-- @param options table|nil InstanceMarketOptions
-- @param kind string instance type
-- @return table|nil {price=text} when it is to be a spot machine
-- @raise SpotMaxPriceTooLow and what such options cannot be
function M.of_launch(options, kind)
  if not options or options.MarketType ~= "spot" then
    if options and options.MarketType then
      errors.raise("UnsupportedOperation", "hgauto local cloud: ec2:RunInstances parameter"
        .. " InstanceMarketOptions.MarketType=%s is not emulated", options.MarketType)
    end
    return nil
  end
  local o = options.SpotOptions or {}
  check_behaviour(o.InstanceInterruptionBehavior, o.SpotInstanceType)
  local bid, price = price_of(o.MaxPrice), offers.spot_price(kind)
  if bid and bid < price then
    errors.raise("SpotMaxPriceTooLow", STATUS["price-too-low"]:format(o.MaxPrice,
      ("%.6f"):format(price)))
  end
  return { price = o.MaxPrice or ("%.6f"):format(offers.full_price(kind)) }
end

--- Gives a machine that was launched on the spot market its request.
-- @param c table request context
-- @param p table RunInstances parameters
-- @param market table of of_launch
-- @param instance table
function M.launched(c, p, market, instance)
  fulfil(c, new_request(c, c.region, p, market.price), instance)
end

-- ---- operations ----

-- Parameters of a launch for what a specification says.
local function as_launch(spec)
  local p = { MinCount = 1, MaxCount = 1 }
  for k, v in pairs(spec) do
    p[k] = v
  end
  return p
end

local SPEC = { ImageId = true, InstanceType = true, KeyName = true, SecurityGroupIds = true,
  SecurityGroups = true, UserData = true, SubnetId = true, Placement = { AvailabilityZone = true },
  BlockDeviceMappings = true, IamInstanceProfile = true, EbsOptimized = true, Monitoring = true,
  NetworkInterfaces = true }

ops.RequestSpotInstances = {
  accept = { InstanceCount = true, LaunchSpecification = SPEC, SpotPrice = true, Type = true,
    ValidUntil = true, InstanceInterruptionBehavior = true, TagSpecifications = true,
    ClientToken = true },
  before = instances.probe,
  run = function(c, p)
    local hash, answer = instances.repeated(c, p, "RequestSpotInstances", function(ids)
      local out = {}
      for i, id in ipairs(ids) do
        out[i] = view(current(c, c.S:get("spot", c.region, id)))
      end
      return { SpotInstanceRequests = out }
    end)
    if answer then
      c:checked()
      return answer
    end
    if not p.LaunchSpecification then
      errors.raise("MissingParameter",
        "The request must contain the parameter LaunchSpecification")
    end
    check_behaviour(p.InstanceInterruptionBehavior, p.Type)
    local n = p.InstanceCount or 1
    if n < 1 or n > 20 then
      errors.raise("InvalidParameterValue", "Value (%d) for parameter instanceCount is invalid.", n)
    end
    local launch = as_launch(p.LaunchSpecification)
    launch.MinCount, launch.MaxCount = n, n
    local l = instances.check_launch(c, launch)
    local bid, price = price_of(p.SpotPrice), offers.spot_price(l.type)
    local own = tags.from_specs(p.TagSpecifications, { "spot-instances-request" })
    c:checked()
    local out, ids, made = {}, {}, {}
    for i = 1, n do
      local r = new_request(c, c.region, launch, p.SpotPrice
        or ("%.6f"):format(offers.full_price(l.type)), {
        tags = tags.copy(own["spot-instances-request"]),
        valid_until = p.ValidUntil })
      out[i], ids[i] = view(r), r.id
      if bid and bid < price then
        status(r, "price-too-low", p.SpotPrice, ("%.6f"):format(price))
      else
        -- The answer says "open"; the machine comes with it.
        made[#made + 1] = instances.make_one(c, launch, l)
        fulfil(c, r, made[#made])
      end
    end
    instances.note_token(c, p, "RequestSpotInstances", hash, ids)
    c:after_commit(function()
      for _, instance in ipairs(made) do
        c.d.machines:launch(instance)
      end
    end)
    return { SpotInstanceRequests = out }
  end,
}

local FIELDS = { ["spot-instance-request-id"] = "id", state = "state", ["status-code"] = "code",
  ["instance-id"] = "instance", ["spot-price"] = "price", ["launched-availability-zone"] = "az",
  type = function()
    return "one-time"
  end,
  ["create-time"] = function(r)
    return time.iso(r.created / 1000, { ms = true })
  end,
  ["launch.image-id"] = function(r)
    return r.spec.ImageId
  end,
  ["launch.instance-type"] = function(r)
    return r.spec.InstanceType or "t3.micro"
  end,
  ["launch.key-name"] = function(r)
    return r.spec.KeyName
  end }

local function by_ids(c, ids)
  return describe.by_ids("sir", ids, function(id)
    return c.S:get("spot", c.region, id)
  end)
end

ops.DescribeSpotInstanceRequests = {
  accept = { SpotInstanceRequestIds = true, Filters = true, MaxResults = true, NextToken = true },
  run = function(c, p)
    local list = p.SpotInstanceRequestIds and p.SpotInstanceRequestIds[1]
      and by_ids(c, p.SpotInstanceRequestIds) or c.S:list("spot", c.region)
    for _, r in ipairs(list) do
      current(c, r)
    end
    list = describe.filter(list, p.Filters, FIELDS)
    local token
    list, token = describe.page(describe.sort(list), c:paging(p, "SpotInstanceRequestIds"))
    c:checked()
    local out = {}
    for i, r in ipairs(list) do
      out[i] = view(r)
    end
    return { SpotInstanceRequests = out, NextToken = token }
  end,
}

ops.CancelSpotInstanceRequests = {
  accept = { SpotInstanceRequestIds = true },
  run = function(c, p)
    local list = by_ids(c, p.SpotInstanceRequestIds)
    c:checked()
    local out = {}
    for i, r in ipairs(list) do
      current(c, r)
      if r.state == "open" or r.state == "active" then
        status(r, r.state == "open" and "canceled-before-fulfillment"
          or "request-canceled-and-instance-running")
        r.state = "cancelled"
        c.S:put(r)
      end
      out[i] = { SpotInstanceRequestId = r.id, State = r.state == "closed" and "closed"
        or "cancelled" }
    end
    return { CancelledSpotInstanceRequests = out }
  end,
}

return M
