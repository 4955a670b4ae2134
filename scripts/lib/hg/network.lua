--- The security group of our machines: found or made, its rules asserted.
local hg = require "hg"
local session = require "hg.session"

local M = {}

local function caller_cidr(allow)
  if allow and #allow > 0 then
    return allow
  end
  if session.local_cloud then
    return { "127.0.0.1/32" }
  end
  -- One address of ours as AWS sees it; a proxy page must not open a group.
  local r = require("hgauto.http").request {
    url = hg.facts.address_service, timeout = 15, max_body = 256,
  }
  local a = r.status == 200 and r.body:match("^%s*(%d+%.%d+%.%d+%.%d+)%s*$")
  if not a then
    hg.fail {
      kind = "net", message = "cannot find out this machine's public address",
      hint = "give it with --allow-cidr ADDRESS/32",
    }
  end
  return { a .. "/32" }
end

local function check_world(cidrs)
  for _, c in ipairs(cidrs) do
    if c == "0.0.0.0/0" or c == "::/0" then
      hg.fail {
        kind = "usage", message = ("--allow-cidr %s would open the machines to everybody"):format(c),
        hint = "name your own address or network",
      }
    end
  end
end

--- The VPC for machines: the subnet's, or the default one.
-- @param ec2 table client
-- @param subnet string|nil
-- @return string VPC id
-- @waits
function M.vpc(ec2, subnet)
  if subnet then
    return ec2:describe_subnets({ SubnetIds = { subnet } }).Subnets[1].VpcId
  end
  local vpcs = ec2:describe_vpcs({ Filters = { { Name = "is-default", Values = { "true" } } } }).Vpcs
  if not vpcs or #vpcs == 0 then
    hg.fail {
      kind = "task", message = "no default VPC in " .. (session.region or "this region"),
      hint = "name a subnet with --subnet ID, or: aws ec2 create-default-vpc",
    }
  end
  return vpcs[1].VpcId
end

local function find(ec2, name, vpc)
  local r = ec2:describe_security_groups({
    Filters = { { Name = "group-name", Values = { name } }, { Name = "vpc-id", Values = { vpc } } },
  })
  return r.SecurityGroups[1]
end

local function rule_key(port, cidr)
  return port .. " " .. cidr
end

-- Ingress becomes exactly the wanted set: missing rules first, then the rest goes.
local function assert_rules(ec2, group, ports, cidrs)
  local want, have = {}, {}
  for _, port in ipairs(ports) do
    for _, cidr in ipairs(cidrs) do
      want[rule_key(port, cidr)] = { port, cidr }
    end
  end
  local revoke = {}
  for _, p in ipairs(group.IpPermissions or {}) do
    for _, range in ipairs(p.IpRanges or {}) do
      local key = p.FromPort == p.ToPort and p.IpProtocol == "tcp"
        and rule_key(p.FromPort, range.CidrIp) or nil
      if key and want[key] then
        have[key] = true
      else
        revoke[#revoke + 1] = { IpProtocol = p.IpProtocol, FromPort = p.FromPort,
          ToPort = p.ToPort, IpRanges = { { CidrIp = range.CidrIp } } }
      end
    end
  end
  local add = {}
  for key, rule in pairs(want) do
    if not have[key] then
      add[#add + 1] = { IpProtocol = "tcp", FromPort = rule[1], ToPort = rule[1],
        IpRanges = { { CidrIp = rule[2] } } }
    end
  end
  if #add > 0 then
    local ok, err = pcall(ec2.authorize_security_group_ingress, ec2,
      { GroupId = group.GroupId, IpPermissions = add })
    -- Another run of this directory may have added the same rule meanwhile.
    if not ok and not (type(err) == "table" and err.code == "InvalidPermission.Duplicate") then
      error(err, 0)
    end
  end
  if #revoke > 0 then
    ec2:revoke_security_group_ingress { GroupId = group.GroupId, IpPermissions = revoke }
  end
end

--- Finds or makes the security group of this state directory and asserts its rules.
-- @param ec2 table client
-- @param o table ports=integer[], allow=cidr[]|nil, subnet=string|nil, os="linux"
-- @return string group id
-- @raise exists a group of that name is not ours
-- @waits
function M.ensure(ec2, o)
  local sid = session.state.sid
  local name = ("hg-%s-dev-%s"):format(o.os or "linux", sid)
  local vpc = M.vpc(ec2, o.subnet)
  local cidrs = caller_cidr(o.allow)
  check_world(cidrs)
  local lock <close> = hg.ledger.lock(("group %s %s"):format(vpc, name), 60) -- luacheck: ignore
  local group = find(ec2, name, vpc)
  if not group then
    hg.ledger.create {
      kind = "group", name = name,
      call = function()
        return ec2:create_security_group({
          GroupName = name, VpcId = vpc, Description = "machines of hgauto",
        }, { keep = true })
      end,
      find = function()
        return find(ec2, name, vpc)
      end,
    }
    group = find(ec2, name, vpc)
  end
  if not hg.ledger.is_ours(group.Tags) then
    hg.fail { kind = "exists", message = ("security group %s exists but is not ours"):format(name),
      hint = "delete or rename it" }
  end
  assert_rules(ec2, group, o.ports, cidrs)
  return group.GroupId
end

return M
