-- Security groups of the default VPC and their rules.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local network = require "localcloud.ec2.network"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

local MAX_RULES = 60
local MAX_GROUPS = 2500

-- ---- finding ----

--- The region's default group, made at first use.
-- @param S State
-- @param region string
-- @return table group
function M.default(S, region)
  local id = network.fixed_id("sg", "default/" .. region)
  local group = S:get("group", region, id)
  if group then
    return group
  end
  return S:put { kind = "group", region = region, id = id, created = 0, name = "default",
    description = "default VPC security group", vpc = network.vpc_id(region), tags = {},
    rules = {
      { id = network.fixed_id("sgr", "default/in/" .. region), egress = false, proto = "-1",
        from = -1, to = -1, group = id, tags = {} },
      { id = network.fixed_id("sgr", "default/out/" .. region), egress = true, proto = "-1",
        from = -1, to = -1, cidr = "0.0.0.0/0", tags = {} },
    } }
end

local function by_name(S, region, name)
  for _, group in ipairs(S:list("group", region)) do
    if group.name == name then
      return group
    end
  end
end

local function need_name(S, region, name)
  return by_name(S, region, name) or errors.raise("InvalidGroup.NotFound",
    "The security group '%s' does not exist in default VPC '%s'", name, network.vpc_id(region))
end

local function need(c, id, name)
  M.default(c.S, c.region)
  if id then
    return describe.by_ids("sg", { id }, function(x)
      return c.S:get("group", c.region, x)
    end)[1]
  elseif name then
    return need_name(c.S, c.region, name)
  end
  errors.raise("MissingParameter", "The request must contain the parameter GroupName or GroupId")
end

--- The groups of a launch: given ids and names, else the default group.
-- @param c table request context
-- @param ids string[]|nil
-- @param names string[]|nil
-- @return string[] ids, each once
function M.resolve(c, ids, names)
  local default = M.default(c.S, c.region)
  local found = describe.by_ids("sg", ids or {}, function(id)
    return c.S:get("group", c.region, id)
  end)
  for _, name in ipairs(names or {}) do
    found[#found + 1] = need_name(c.S, c.region, name)
  end
  local out, seen = {}, {}
  for _, group in ipairs(found) do
    if not seen[group.id] then
      seen[group.id] = true
      out[#out + 1] = group.id
    end
  end
  return out[1] and out or { default.id }
end

-- ---- rules ----

local PROTOCOLS = { ["6"] = "tcp", ["17"] = "udp", ["1"] = "icmp", ["58"] = "icmpv6",
  tcp = "tcp", udp = "udp", icmp = "icmp", icmpv6 = "icmpv6", ["-1"] = "-1", all = "-1" }

local function bad_cidr(text)
  errors.raise("InvalidParameterValue", "CIDR block %s is malformed", text)
end

--- Masks an IPv4 CIDR block: 10.1.2.3/8 is 10.0.0.0/8.
-- @param text string
-- @return string
function M.mask_cidr(text)
  local a, b, c, d, bits = text:match("^(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)%.(%d%d?%d?)/(%d%d?)$")
  if not a then
    bad_cidr(text)
  end
  local n = 0
  for _, part in ipairs { a, b, c, d } do
    local value = math.tointeger(tonumber(part))
    if value > 255 then
      bad_cidr(text)
    end
    n = n << 8 | value
  end
  bits = math.tointeger(tonumber(bits))
  if bits > 32 then
    bad_cidr(text)
  end
  n = bits == 0 and 0 or n & (0xffffffff << (32 - bits) & 0xffffffff)
  return ("%d.%d.%d.%d/%d"):format(n >> 24, n >> 16 & 255, n >> 8 & 255, n & 255, bits)
end

local function check_cidr6(text)
  local address, bits = text:match("^([%x:.]+)/(%d%d?%d?)$")
  if not address or not address:find(":", 1, true) or tonumber(bits) > 128 then
    bad_cidr(text)
  end
  return text:lower()
end

local function ports(proto, from, to)
  if proto == "-1" then
    return -1, -1
  end
  if proto == "tcp" or proto == "udp" then
    if not from or not to then
      errors.raise("MissingParameter", "The request must contain the parameter FromPort and ToPort")
    end
    if from < 0 or to > 65535 or from > to then
      errors.raise("InvalidParameterValue",
        "Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
    end
  end
  return from or -1, to or -1
end

local function pair_group(c, pair, own)
  if pair.UserId and pair.UserId ~= c.account then
    errors.raise("InvalidGroup.NotFound", "You have specified a security group of another account")
  end
  if pair.GroupId == own.id then
    return own.id
  end
  return need(c, pair.GroupId, pair.GroupName).id
end

-- The rules that one IpPermission stands for.
local function expand(c, perm, own, out, egress)
  local proto = PROTOCOLS[(perm.IpProtocol or ""):lower()]
  if not perm.IpProtocol then
    errors.raise("MissingParameter", "The request must contain the parameter IpProtocol")
  elseif not proto then
    errors.raise("InvalidPermission.Malformed", "Unsupported IP protocol \"%s\"", perm.IpProtocol)
  end
  local from, to = ports(proto, perm.FromPort, perm.ToPort)
  local before = #out
  local function add(fields, description)
    fields.egress, fields.proto, fields.from, fields.to = egress, proto, from, to
    fields.description, fields.tags = description, {}
    out[#out + 1] = fields
  end
  for _, r in ipairs(perm.IpRanges or {}) do
    add({ cidr = M.mask_cidr(r.CidrIp or "") }, r.Description)
  end
  for _, r in ipairs(perm.Ipv6Ranges or {}) do
    add({ cidr6 = check_cidr6(r.CidrIpv6 or "") }, r.Description)
  end
  for _, pair in ipairs(perm.UserIdGroupPairs or {}) do
    add({ group = pair_group(c, pair, own) }, pair.Description)
  end
  if #out == before then
    errors.raise("MissingParameter",
      "The request must contain the parameter CidrIp or another source")
  end
end

-- IpPermissions of the request, the flat form included.
local function permissions(p)
  local list = {}
  for _, perm in ipairs(p.IpPermissions or {}) do
    list[#list + 1] = perm
  end
  if p.IpProtocol or p.CidrIp or p.SourceSecurityGroupName then
    if #list > 0 then
      errors.raise("InvalidParameterCombination",
        "The parameter ipPermissions cannot be used with the flat form")
    end
    list[1] = { IpProtocol = p.IpProtocol or (p.SourceSecurityGroupName and "-1"),
      FromPort = p.FromPort, ToPort = p.ToPort, IpRanges = p.CidrIp and { { CidrIp = p.CidrIp } },
      UserIdGroupPairs = p.SourceSecurityGroupName and { {
        GroupName = p.SourceSecurityGroupName, UserId = p.SourceSecurityGroupOwnerId } } }
  end
  return list
end

local function source(rule)
  return rule.cidr or rule.cidr6 or rule.group
end

local function same(a, b)
  return a.egress == b.egress and a.proto == b.proto and a.from == b.from and a.to == b.to
    and source(a) == source(b)
end

local function find_same(rules, rule)
  for i, other in ipairs(rules) do
    if same(other, rule) then
      return i
    end
  end
end

local function wanted_rules(c, p, group, egress)
  local out = {}
  for _, perm in ipairs(permissions(p)) do
    expand(c, perm, group, out, egress)
  end
  return out
end

local function peer(rule)
  local port = rule.proto == "-1" and "ALL"
    or ("%s, from port: %d, to port: %d"):format(rule.proto:upper(), rule.from, rule.to)
  return ("peer: %s, %s, ALLOW"):format(source(rule), port)
end

-- ---- views ----

local function rule_view(c, group, rule)
  return { SecurityGroupRuleId = rule.id, GroupId = group.id, GroupOwnerId = c.account,
    IsEgress = rule.egress, IpProtocol = rule.proto, FromPort = rule.from, ToPort = rule.to,
    CidrIpv4 = rule.cidr, CidrIpv6 = rule.cidr6, Description = rule.description,
    ReferencedGroupInfo = rule.group and { GroupId = rule.group, UserId = c.account,
      VpcId = group.vpc } or nil,
    Tags = tags.view(rule.tags) }
end

M.rule_view = rule_view

-- Rules with equal protocol and ports are one IpPermission.
local function permission_views(c, group, egress)
  local out, by_key = {}, {}
  for _, rule in ipairs(group.rules) do
    if rule.egress == egress then
      local key = table.concat({ rule.proto, rule.from, rule.to }, "/")
      local perm = by_key[key]
      if not perm then
        perm = { IpProtocol = rule.proto, IpRanges = {}, Ipv6Ranges = {}, PrefixListIds = {},
          UserIdGroupPairs = {} }
        if rule.proto ~= "-1" then
          perm.FromPort, perm.ToPort = rule.from, rule.to
        end
        by_key[key], out[#out + 1] = perm, perm
      end
      local list, item = perm.IpRanges, { CidrIp = rule.cidr }
      if rule.cidr6 then
        list, item = perm.Ipv6Ranges, { CidrIpv6 = rule.cidr6 }
      elseif rule.group then
        list, item = perm.UserIdGroupPairs, { GroupId = rule.group, UserId = c.account }
      end
      item.Description = rule.description
      list[#list + 1] = item
    end
  end
  return out
end

local function view(c, group)
  return { GroupId = group.id, GroupName = group.name, Description = group.description,
    OwnerId = c.account, VpcId = group.vpc, Tags = tags.view(group.tags),
    SecurityGroupArn = ("arn:aws:ec2:%s:%s:security-group/%s"):format(c.region, c.account,
      group.id),
    IpPermissions = permission_views(c, group, false),
    IpPermissionsEgress = permission_views(c, group, true) }
end

-- ---- operations on groups ----

local function check_name(text, what)
  if #text == 0 or #text > 255 or text:find("[^%w%s._%-:/()#,@%[%]+=&;{}!$*]") then
    errors.raise("InvalidParameterValue",
      "Value (%s) for parameter %s is invalid. Character sets beyond ASCII are not supported.",
      text:sub(1, 80), what)
  end
end

ops.CreateSecurityGroup = {
  accept = { GroupName = true, Description = true, VpcId = true, TagSpecifications = true },
  run = function(c, p)
    if not p.GroupName then
      errors.raise("MissingParameter", "The request must contain the parameter GroupName")
    end
    check_name(p.GroupName, "GroupName")
    check_name(p.Description, "GroupDescription")
    if p.GroupName:lower() == "default" or p.GroupName:sub(1, 3) == "sg-" then
      errors.raise("InvalidParameterValue", "Cannot use reserved security group name: %s",
        p.GroupName)
    end
    local vpc = network.vpc_id(c.region)
    if p.VpcId and p.VpcId ~= vpc then
      describe.check_form("vpc", p.VpcId)
      describe.not_found("vpc", { p.VpcId })
    end
    local own = tags.from_specs(p.TagSpecifications, { "security-group" })["security-group"]
    M.default(c.S, c.region)
    if by_name(c.S, c.region, p.GroupName) then
      errors.raise("InvalidGroup.Duplicate",
        "The security group '%s' already exists for VPC '%s'", p.GroupName, vpc)
    end
    if #c.S:list("group", c.region) >= MAX_GROUPS then
      errors.raise("SecurityGroupLimitExceeded", "The maximum number of groups has been reached.")
    end
    c:checked()
    local group = c.S:put { kind = "group", region = c.region, id = state.new_id("sg"),
      created = state.now_ms(), name = p.GroupName, description = p.Description, vpc = vpc,
      tags = own, rules = { { id = state.new_id("sgr"), egress = true, proto = "-1", from = -1,
        to = -1, cidr = "0.0.0.0/0", tags = {} } } }
    return { GroupId = group.id, Tags = tags.view(own) }
  end,
}

-- Filter values of the rules of one direction.
local function of_rules(egress, get)
  return function(group)
    local out = {}
    for _, rule in ipairs(group.rules) do
      if rule.egress == egress then
        out[#out + 1] = get(rule)
      end
    end
    return out
  end
end

local function fields(c)
  local out = { ["group-id"] = "id", ["group-name"] = "name", description = "description",
    ["vpc-id"] = "vpc", ["owner-id"] = function()
      return c.account
    end }
  local getters = {
    cidr = function(r)
      return r.cidr
    end,
    ["ipv6-cidr"] = function(r)
      return r.cidr6
    end,
    ["from-port"] = function(r)
      return r.from
    end,
    ["to-port"] = function(r)
      return r.to
    end,
    protocol = function(r)
      return r.proto
    end,
    ["group-id"] = function(r)
      return r.group
    end,
    ["group-name"] = function(r)
      local group = r.group and c.S:get("group", c.region, r.group)
      return group and group.name
    end,
    ["user-id"] = function(r)
      return r.group and c.account
    end,
  }
  for name, get in pairs(getters) do
    out["ip-permission." .. name] = of_rules(false, get)
    out["egress.ip-permission." .. name] = of_rules(true, get)
  end
  return out
end

ops.DescribeSecurityGroups = {
  accept = { GroupIds = true, GroupNames = true, Filters = true, MaxResults = true,
    NextToken = true },
  run = function(c, p)
    M.default(c.S, c.region)
    local list
    if p.GroupIds or p.GroupNames then
      list = describe.by_ids("sg", p.GroupIds or {}, function(id)
        return c.S:get("group", c.region, id)
      end)
      for _, name in ipairs(p.GroupNames or {}) do
        list[#list + 1] = need_name(c.S, c.region, name)
      end
    else
      list = c.S:list("group", c.region)
    end
    list = describe.sort(describe.filter(list, p.Filters, fields(c)))
    local token
    list, token = describe.page(list, c:paging(p, "GroupIds"))
    c:checked()
    local out = {}
    for i, group in ipairs(list) do
      out[i] = view(c, group)
    end
    return { SecurityGroups = out, NextToken = token }
  end,
}

local function in_use(c, group)
  for _, instance in ipairs(c.S:list("instance", c.region)) do
    for _, id in ipairs(instance.state ~= "terminated" and instance.groups or {}) do
      if id == group.id then
        return true
      end
    end
  end
  for _, other in ipairs(c.S:list("group", c.region)) do
    for _, rule in ipairs(other.id ~= group.id and other.rules or {}) do
      if rule.group == group.id then
        return true
      end
    end
  end
  return false
end

ops.DeleteSecurityGroup = {
  accept = { GroupId = true, GroupName = true },
  run = function(c, p)
    local group = need(c, p.GroupId, p.GroupName)
    if group.name == "default" then
      errors.raise("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted"
        .. " by a user", group.id)
    end
    if in_use(c, group) then
      errors.raise("DependencyViolation", "resource %s has a dependent object", group.id)
    end
    c:checked()
    c.S:drop(group)
    return { Return = true, GroupId = group.id }
  end,
}

-- ---- operations on rules ----

local RULE_PARAMS = { GroupId = true, GroupName = true, IpPermissions = {
    IpProtocol = true, FromPort = true, ToPort = true, IpRanges = true, Ipv6Ranges = true,
    UserIdGroupPairs = { GroupId = true, GroupName = true, UserId = true, Description = true,
      VpcId = true } },
  IpProtocol = true, FromPort = true, ToPort = true, CidrIp = true,
  SourceSecurityGroupName = true, SourceSecurityGroupOwnerId = true }

local function with(name)
  local out = { [name] = true }
  for k, v in pairs(RULE_PARAMS) do
    out[k] = v
  end
  return out
end

local function authorize(c, p, egress)
  local group = need(c, p.GroupId, p.GroupName)
  local own = tags.from_specs(p.TagSpecifications,
    { "security-group-rule" })["security-group-rule"]
  local new, seen = wanted_rules(c, p, group, egress), {}
  if #new == 0 then
    errors.raise("MissingParameter", "The request must contain the parameter IpPermissions")
  end
  for _, rule in ipairs(new) do
    if find_same(group.rules, rule) or find_same(seen, rule) then
      errors.raise("InvalidPermission.Duplicate",
        "the specified rule \"%s\" already exists", peer(rule))
    end
    seen[#seen + 1] = rule
  end
  local count = 0
  for _, rule in ipairs(group.rules) do
    count = count + (rule.egress == egress and 1 or 0)
  end
  if count + #new > MAX_RULES then
    errors.raise("RulesPerSecurityGroupLimitExceeded",
      "The maximum number of rules per security group has been reached.")
  end
  c:checked()
  local views = {}
  for i, rule in ipairs(new) do
    rule.id = state.new_id("sgr")
    for k, v in pairs(own) do
      rule.tags[k] = v
    end
    group.rules[#group.rules + 1] = rule
    views[i] = rule_view(c, group, rule)
  end
  c.S:put(group)
  c:groups_changed(group.id)
  return { Return = true, SecurityGroupRules = views }
end

-- Positions of the rules to take away, by id or by content.
local function doomed(c, p, group, egress)
  local out = {}
  for _, id in ipairs(p.SecurityGroupRuleIds or {}) do
    describe.check_form("sgr", id)
    local at
    for i, rule in ipairs(group.rules) do
      at = at or (rule.id == id and rule.egress == egress and i)
    end
    if not at then
      describe.not_found("sgr", { id })
    end
    out[at] = true
  end
  for _, rule in ipairs(wanted_rules(c, p, group, egress)) do
    local at = find_same(group.rules, rule)
    if not at then
      errors.raise("InvalidPermission.NotFound",
        "The specified rule does not exist in this security group.")
    end
    out[at] = true
  end
  if not next(out) then
    errors.raise("MissingParameter", "The request must contain the parameter IpPermissions")
  end
  return out
end

local function revoke(c, p, egress)
  local group = need(c, p.GroupId, p.GroupName)
  local gone = doomed(c, p, group, egress)
  c:checked()
  local kept = {}
  for i, rule in ipairs(group.rules) do
    if not gone[i] then
      kept[#kept + 1] = rule
    end
  end
  group.rules = kept
  c.S:put(group)
  c:groups_changed(group.id)
  return { Return = true }
end

ops.AuthorizeSecurityGroupIngress = {
  accept = with("TagSpecifications"),
  run = function(c, p)
    return authorize(c, p, false)
  end,
}

ops.RevokeSecurityGroupIngress = {
  accept = with("SecurityGroupRuleIds"),
  run = function(c, p)
    return revoke(c, p, false)
  end,
}

ops.RevokeSecurityGroupEgress = {
  accept = { GroupId = true, IpPermissions = RULE_PARAMS.IpPermissions,
    SecurityGroupRuleIds = true },
  run = function(c, p)
    return revoke(c, p, true)
  end,
}

ops.AuthorizeSecurityGroupEgress = {
  accept = { GroupId = true, IpPermissions = RULE_PARAMS.IpPermissions, TagSpecifications = true },
  run = function(c, p)
    return authorize(c, p, true)
  end,
}

-- ---- for the machines ----

local function covers_member(S, region, group_id)
  local out = {}
  for _, instance in ipairs(S:list("instance", region)) do
    for _, id in ipairs(instance.groups or {}) do
      if id == group_id and instance.private_ip then
        out[#out + 1] = instance.private_ip .. "/32"
      end
    end
  end
  return out
end

--- Inbound TCP rules of an instance: {from, to, cidr}, of all its groups.
-- @param S State
-- @param instance table
-- @return table[]
function M.inbound(S, instance)
  local out = {}
  for _, id in ipairs(instance.groups) do
    local group = S:get("group", instance.region, id)
    for _, rule in ipairs(group and group.rules or {}) do
      if not rule.egress and (rule.proto == "tcp" or rule.proto == "-1") then
        local from, to = rule.from, rule.to
        if rule.proto == "-1" then
          from, to = 0, 65535
        end
        local sources = rule.cidr and { rule.cidr }
          or rule.group and covers_member(S, instance.region, rule.group) or {}
        for _, cidr in ipairs(sources) do
          out[#out + 1] = { from = from, to = to, cidr = cidr }
        end
      end
    end
  end
  return out
end

return M
