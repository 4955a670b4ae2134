--- The security group of our machines: found or made, its rules asserted.
local hg = require "hg"
local session = require "hg.session"

local M = {}

-- The widest network that may be let in.
local WIDEST = 8

--- Checks and completes an IPv4 network; host bits are cleared as EC2 does it.
-- @param text string ADDRESS or ADDRESS/BITS
-- @return string ADDRESS/BITS
-- @raise usage it is none, or nearly everybody
function M.cidr(text)
  local a, b, c, d, bits = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)/?(%d*)$")
  local n = bits == "" and not text:find("/", 1, true) and 32 or tonumber(bits)
  local parts = { tonumber(a), tonumber(b), tonumber(c), tonumber(d) }
  if #parts ~= 4 or math.max(table.unpack(parts)) > 255 or not n or n > 32 then
    hg.fail { kind = "usage", message = ("--allow-cidr %s: expected an IPv4 network such as"
      .. " 203.0.113.9/32"):format(text) }
  end
  if n < WIDEST then
    hg.fail {
      kind = "usage",
      message = ("--allow-cidr %s would open the machines to everybody"):format(text),
      hint = "name your own address or network",
    }
  end
  local v = parts[1] << 24 | parts[2] << 16 | parts[3] << 8 | parts[4]
  v = v & ~((1 << (32 - n)) - 1)
  return ("%d.%d.%d.%d/%d"):format(v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255, n)
end

local function caller_cidrs(allow)
  if allow and #allow > 0 then
    local list = {}
    for i, text in ipairs(allow) do
      list[i] = M.cidr(text)
    end
    return list
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
  return { M.cidr(a .. "/32") }
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
  local vpcs = ec2:describe_vpcs({
    Filters = { { Name = "is-default", Values = { "true" } } },
  }).Vpcs
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

-- The four kinds of source that a permission can list, and what names one.
local SOURCES = {
  { "IpRanges", "CidrIp" }, { "Ipv6Ranges", "CidrIpv6" }, { "PrefixListIds", "PrefixListId" },
  { "UserIdGroupPairs", "GroupId", "UserId" },
}

-- A group's permissions, one table per single rule: { params=, key= }; key only
-- for what we could have asked for ourselves.
local function single_rules(permissions)
  local list = {}
  for _, p in ipairs(permissions or {}) do
    for _, kind in ipairs(SOURCES) do
      for _, source in ipairs(p[kind[1]] or {}) do
        local named = { [kind[2]] = source[kind[2]] }
        if kind[3] then
          named[kind[3]] = source[kind[3]]
        end
        list[#list + 1] = {
          params = { IpProtocol = p.IpProtocol, FromPort = p.FromPort, ToPort = p.ToPort,
            [kind[1]] = { named } },
          key = kind[1] == "IpRanges" and p.IpProtocol == "tcp" and p.FromPort == p.ToPort
            and p.FromPort .. " " .. source.CidrIp or nil,
        }
      end
    end
  end
  return list
end

-- Another run may have made the same change meanwhile; one rule per call, since
-- one that is there already fails a whole list.
local function change(ec2, method, group, params, harmless)
  local ok, err = pcall(ec2[method], ec2, { GroupId = group.GroupId, IpPermissions = { params } })
  if not ok and not (type(err) == "table" and err.code == harmless) then
    error(err, 0)
  end
end

-- Whether another run of this directory lives, whose machines use the group.
local function others_live()
  for _, id in ipairs(session.state:runs()) do
    if not (session.run and id == session.run.id) and session.state:run_alive(id) then
      return true
    end
  end
  return false
end

-- Ingress becomes exactly the wanted set: missing rules first, then the rest
-- goes, unless another run may need it.
local function assert_rules(ec2, group, ports, cidrs)
  local have, want = {}, {}
  local rules = single_rules(group.IpPermissions)
  for _, rule in ipairs(rules) do
    have[rule.key or ""] = true
  end
  for _, port in ipairs(ports) do
    for _, cidr in ipairs(cidrs) do
      local key = port .. " " .. cidr
      if not have[key] and not want[key] then
        change(ec2, "authorize_security_group_ingress", group, { IpProtocol = "tcp",
          FromPort = port, ToPort = port, IpRanges = { { CidrIp = cidr } } },
          "InvalidPermission.Duplicate")
      end
      want[key] = true
    end
  end
  local shared
  for _, rule in ipairs(rules) do
    if not want[rule.key or ""] then
      if shared == nil then
        shared = others_live()
      end
      if not shared then
        change(ec2, "revoke_security_group_ingress", group, rule.params,
          "InvalidPermission.NotFound")
      end
    end
  end
end

-- Whether a group of our name is ours.  Its tags may come into sight after it: then
-- the ledger knows, or it is waited for them where it has such a group underway.
local function is_ours(group, name, search)
  if hg.ledger.is_ours(group.Tags) then
    return true
  elseif hg.ledger.tag(group.Tags, "hgauto:state") then
    return false
  end
  local known = hg.ledger.knows("group", group.GroupId, name)
  if known ~= "undecided" then
    return known ~= nil
  end
  local ok, r = pcall(hg.wait, { what = "the tags of " .. name, timeout = 30, every = 0.5,
    poll = function()
      local again = search()
      return again and hg.ledger.is_ours(again.Tags)
    end })
  if not ok and not (type(r) == "table" and r.kind == "timeout") then
    error(r, 0)
  end
  return ok
end

local function ensure(ec2, o, name)
  local cidrs = caller_cidrs(o.allow)
  local vpc = M.vpc(ec2, o.subnet)
  local _lock <close> = hg.ledger.lock(("group %s %s"):format(vpc, name), 60)
  local function search()
    return find(ec2, name, vpc)
  end
  local group = search()
  if not group then
    local made = hg.ledger.create {
      kind = "group", name = name, find = search,
      call = function()
        return ec2:create_security_group({
          GroupName = name, VpcId = vpc, Description = "machines of hgauto",
        }, { keep = true })
      end,
    }
    group = hg.wait { what = "security group " .. name, timeout = 60, poll = search, every = 0.5,
      planned = { GroupId = made.GroupId, IpPermissions = {}, Tags = { { Key = "hgauto:state",
        Value = session.state.sid } } } }
  end
  if not is_ours(group, name, search) then
    hg.fail { kind = "exists", message = ("security group %s exists but is not ours"):format(name),
      hint = "delete or rename it" }
  end
  assert_rules(ec2, group, o.ports, cidrs)
  return group.GroupId
end

--- Finds or makes the security group of this state directory and asserts its rules.
-- @param ec2 table client
-- @param o table ports=integer[], allow=cidr[]|nil, subnet=string|nil, os="linux"
-- @return string group id
-- @raise exists a group of that name is not ours; usage --allow-cidr
-- @waits
function M.ensure(ec2, o)
  local name = ("hg-%s-dev-%s"):format(o.os or "linux", session.state.sid)
  return hg.plan.once("group " .. name, function()
    return ensure(ec2, o, name)
  end)
end

return M
