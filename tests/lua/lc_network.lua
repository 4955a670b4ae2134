-- Addresses, subnets and CIDR blocks of the local cloud.
local t = require "hg.tap"
local groups = require "localcloud.ec2.groups"
local network = require "localcloud.ec2.network"

t.test("CIDR blocks are masked", function()
  for text, want in pairs { ["10.1.2.3/8"] = "10.0.0.0/8", ["127.0.0.1/32"] = "127.0.0.1/32",
    ["1.2.3.4/0"] = "0.0.0.0/0", ["255.255.255.255/31"] = "255.255.255.254/31" } do
    t.is(groups.mask_cidr(text), want, text)
  end
  for _, text in ipairs { "10.0.0.0", "10.0.0/8", "10.0.0.256/8", "10.0.0.0/33", "x/8", "",
    "10.0.0.0/8 ", "1.2.3.4.5/8" } do
    t.raises(function()
      groups.mask_cidr(text)
    end, { code = "InvalidParameterValue", match = "is malformed" }, ("%q"):format(text))
  end
end)

t.test("public addresses rest before they are used again", function()
  local now = 0
  local pool = network.pool(function()
    return now
  end)
  local first, seen = pool:take(), {}
  t.like(first, "^127%.77%.%d+%.%d+$", "they lie in 127.77")
  pool:give(first)
  for _ = 1, 254 * 254 - 1 do
    local ip = pool:take()
    local h, l = ip:match("^127%.77%.(%d+)%.(%d+)$")
    h, l = tonumber(h), tonumber(l)
    if seen[ip] or h < 1 or h > 254 or l < 1 or l > 254 or ip == first then
      t.ok(false, "bad address " .. ip)
    end
    seen[ip] = true
  end
  t.is(pool:take(), nil, "all others are given once, the resting one is not")
  now = 600
  t.is(pool:take(), first, "ten minutes later it is")
end)

t.test("private addresses lie in their subnet and differ", function()
  for i, subnet in ipairs(network.subnets("us-west-2")) do
    local taken = {}
    for _ = 1, 500 do
      local ip = network.private_ip(subnet, taken)
      local third, fourth = ip:match("^172%.31%.(%d+)%.(%d+)$")
      third, fourth = tonumber(third), tonumber(fourth)
      local n = (third - (i - 1) * 16) * 256 + fourth
      if taken[ip] or n < 4 or n > 4094 then
        t.ok(false, "bad address " .. ip)
      end
      taken[ip] = true
    end
    t.ok(true, subnet.cidr)
  end
end)

t.test("subnets are found by id and zone", function()
  local list = network.subnets("us-west-2")
  t.is(network.subnet("us-west-2").az, "us-west-2a", "the first by default")
  t.is(network.subnet("us-west-2", list[2].id).az, "us-west-2b", "by id")
  t.is(network.subnet("us-west-2", nil, "us-west-2c").id, list[3].id, "by zone")
  t.raises(function()
    network.subnet("us-west-2", list[1].id, "us-west-2b")
  end, { code = "InvalidParameterCombination" }, "both must agree")
  t.raises(function()
    network.subnet("us-west-2", "subnet-00000000000000000")
  end, { code = "InvalidSubnetID.NotFound" }, "unknown id")
  t.raises(function()
    network.subnet("us-west-2", nil, "eu-west-1a")
  end, { code = "InvalidParameterValue" }, "zone of another region")
end)

return t.done()
