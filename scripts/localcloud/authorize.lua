-- What a request needs to be allowed: actions on resources with condition keys,
-- as the service authorization reference lists them, and how a refusal reads.
-- Used with `local up --policy`; localcloud.policy decides.

local common = require "localcloud.iam.common"
local errors = require "localcloud.errors"
local policy = require "localcloud.policy"
local sts = require "localcloud.sts"

local M = {}

-- ---- resources ----

-- Resource types of EC2 and the kinds of their objects.
local KINDS = { instance = "instance", volume = "volume", image = "image",
  snapshot = "snapshot", ["security-group"] = "group", ["key-pair"] = "key",
  ["network-interface"] = "eni", ["spot-instances-request"] = "spot",
  ["elastic-ip"] = "address" }

-- Their ARNs name no account.
local PUBLIC = { image = true, snapshot = true }

local function ec2_arn(c, kind, id)
  return ("arn:aws:ec2:%s:%s:%s/%s"):format(c.region, PUBLIC[kind] and "" or c.account, kind, id)
end

local function add_tags(keys, prefixes, tags)
  for key, value in pairs(tags or {}) do
    for _, prefix in ipairs(prefixes) do
      keys[(prefix .. "/" .. key):lower()] = value
    end
  end
  return keys
end

local function as_table(list)
  local out = {}
  for _, tag in ipairs(list or {}) do
    out[tag.Key or ""] = tag.Value or ""
  end
  return out
end

-- The object that an id or a name stands for; what does not exist has no tags.
local function find(c, kind, ref)
  local of_kind = KINDS[kind]
  local obj = of_kind and c.S:get(of_kind, c.region, ref)
  for _, other in ipairs(not obj and (of_kind == "key" or of_kind == "group")
    and c.S:list(of_kind, c.region) or {}) do
    obj = other.name == ref and other or obj
  end
  return obj and not obj.hidden and obj.state ~= "deregistered" and obj or nil
end

local function existing(c, kind, ref)
  local obj = find(c, kind, ref)
  local id = obj and kind == "key-pair" and obj.name or obj and obj.id or ref
  local keys = add_tags({}, { "aws:resourcetag", "ec2:resourcetag" }, obj and obj.tags)
  if kind == "instance" and obj and obj.options then
    keys["ec2:metadatahttptokens"] = obj.options.metadata and obj.options.metadata.HttpTokens
  end
  return { resource = ec2_arn(c, kind, id), keys = keys }
end

-- Tags that a creating call gives to things of a type.
local function tags_for(p, kind)
  for _, spec in ipairs(p.TagSpecifications or {}) do
    if spec.ResourceType == kind and spec.Tags and spec.Tags[1] then
      return as_table(spec.Tags)
    end
  end
end

local function to_come(c, p, kind)
  return { resource = ec2_arn(c, kind, "*"), keys = add_tags({}, { "aws:requesttag" },
    tags_for(p, kind)) }
end

-- ---- EC2 ----

-- By operation: resources that parameters name ({type, parameter, …}, the first
-- parameter that is given counts) and types of what comes into being (new=).
-- What is missing here has no resource types.
local INSTANCE, INSTANCES = { "instance", "InstanceId" }, { "instance", "InstanceIds" }
local GROUP = { "security-group", "GroupId", "GroupName" }
-- Rules count as resources where they get tags.
local RULES = { GROUP, tagged = "security-group-rule" }
local EC2 = {
  RebootInstances = { INSTANCES }, StartInstances = { INSTANCES }, StopInstances = { INSTANCES },
  TerminateInstances = { INSTANCES },
  DescribeInstanceAttribute = { INSTANCE }, GetConsoleOutput = { INSTANCE },
  GetPasswordData = { INSTANCE }, ModifyInstanceMetadataOptions = { INSTANCE },
  ModifyInstanceAttribute = { INSTANCE, { "security-group", "Groups" } },
  AttachVolume = { INSTANCE, { "volume", "VolumeId" } },
  DetachVolume = { INSTANCE, { "volume", "VolumeId" } },
  CreateVolume = { { "snapshot", "SnapshotId" }, new = { "volume" } },
  DeleteVolume = { { "volume", "VolumeId" } },
  AllocateAddress = { new = { "elastic-ip" } },
  ReleaseAddress = { { "elastic-ip", "AllocationId" } },
  CreateSnapshot = { { "volume", "VolumeId" }, new = { "snapshot" } },
  DeleteSnapshot = { { "snapshot", "SnapshotId" } },
  CreateImage = { INSTANCE, new = { "image", "snapshot" } },
  CopyImage = { { "image", "SourceImageId" }, new = { "image", "snapshot" } },
  RegisterImage = { new = { "image" } },
  DeregisterImage = { { "image", "ImageId" } },
  DescribeImageAttribute = { { "image", "ImageId" } },
  ModifyImageAttribute = { { "image", "ImageId" } },
  CreateKeyPair = { new = { "key-pair" } }, ImportKeyPair = { new = { "key-pair" } },
  DeleteKeyPair = { { "key-pair", "KeyPairId", "KeyName" } },
  CreateSecurityGroup = { { "vpc", "VpcId" }, new = { "security-group" } },
  DeleteSecurityGroup = { GROUP },
  AuthorizeSecurityGroupIngress = RULES, AuthorizeSecurityGroupEgress = RULES,
  RevokeSecurityGroupIngress = RULES, RevokeSecurityGroupEgress = RULES,
  CancelSpotInstanceRequests = { { "spot-instances-request", "SpotInstanceRequestIds" } },
}

local function named(c, p, row, add)
  for i = 2, #row do
    local value = p[row[i]]
    if value ~= nil then
      for _, ref in ipairs(type(value) == "table" and value or { value }) do
        add(existing(c, row[1], ref))
      end
      return
    end
  end
end

-- The role that an instance profile brings into a machine must be passed.
local function pass_role(c, spec, add)
  for _, profile in ipairs(spec and c.S:list("profile", "global") or {}) do
    local role = profile.role and c.S:get("role", "global", profile.role)
    if role and (profile.name == spec.Name or profile.arn == spec.Arn) then
      add { action = "iam:PassRole", resource = role.arn,
        keys = { ["iam:passedtoservice"] = "ec2.amazonaws.com" } }
    end
  end
end

-- What a machine is launched from and into.
local function launch(c, p, spec, add)
  add(existing(c, "image", spec.ImageId or "*"))
  add(existing(c, "subnet", spec.SubnetId or "*"))
  local groups = spec.SecurityGroupIds or {}
  for _, ref in ipairs(groups[1] and groups or spec.SecurityGroups or {}) do
    add(existing(c, "security-group", ref))
  end
  if spec.KeyName then
    add(existing(c, "key-pair", spec.KeyName))
  end
  for _, mapping in ipairs(spec.BlockDeviceMappings or {}) do
    if mapping.Ebs and mapping.Ebs.SnapshotId then
      add(existing(c, "snapshot", mapping.Ebs.SnapshotId))
    end
  end
  for _, kind in ipairs { "instance", "network-interface", "volume" } do
    local ask = to_come(c, p, kind)
    if kind == "instance" then
      -- What the request leaves out has its default.
      ask.keys["ec2:metadatahttptokens"] = (spec.MetadataOptions or {}).HttpTokens or "optional"
    end
    add(ask)
  end
end

function EC2.RunInstances(c, p, add)
  launch(c, p, p, add)
  pass_role(c, p.IamInstanceProfile, add)
end

function EC2.RequestSpotInstances(c, p, add)
  local spec = p.LaunchSpecification or {}
  add(to_come(c, p, "spot-instances-request"))
  launch(c, {}, spec, add)
  pass_role(c, spec.IamInstanceProfile, add)
end

local PREFIXES = { i = "instance", vol = "volume", sg = "security-group", key = "key-pair",
  eni = "network-interface", ami = "image", snap = "snapshot", sgr = "security-group-rule",
  sir = "spot-instances-request", eipalloc = "elastic-ip" }

-- CreateTags and DeleteTags name things of any type.
local function tagging(c, p, add)
  for _, id in ipairs(p.Resources or {}) do
    local ask = existing(c, PREFIXES[id:match("^(%a+)%-") or ""] or "*", id)
    add_tags(ask.keys, { "aws:requesttag" }, as_table(p.Tags))
    add(ask)
  end
end
EC2.CreateTags, EC2.DeleteTags = tagging, tagging

local function ec2_asks(c, p, op, add)
  local row = EC2[op]
  if type(row) == "function" then
    row(c, p, add)
  elseif row then
    for _, r in ipairs(row) do
      named(c, p, r, add)
    end
    for _, kind in ipairs(row.new or {}) do
      add(to_come(c, p, kind))
    end
    if row.tagged and tags_for(p, row.tagged) then
      add(to_come(c, p, row.tagged))
    end
  else
    add { resource = "*" }
  end
  for _, spec in ipairs(p.TagSpecifications or {}) do
    if spec.Tags and spec.Tags[1] and spec.ResourceType then
      local ask = to_come(c, p, spec.ResourceType)
      ask.action, ask.keys["ec2:createaction"] = "ec2:CreateTags", op
      add(ask)
    end
  end
end

-- ---- IAM, STS, SSM, Lambda ----

-- What the name of a role or profile stands for; one that does not exist is
-- asked for without a path.
local function iam_ask(c, kind, name, path)
  local shown = kind == "role" and "role" or "instance-profile"
  local obj = not path and common.find(c.S, kind, name)
  local arn = obj and obj.arn or common.arn(c.account, shown, path or "/", name)
  return { resource = arn, keys = add_tags({}, { "aws:resourcetag", "iam:resourcetag" },
    obj and obj.tags) }
end

-- Operations on one of them, by the kind whose name they have.
local IAM = { CreateRole = "role", GetRole = "role", DeleteRole = "role",
  UpdateAssumeRolePolicy = "role", TagRole = "role", UntagRole = "role", ListRoleTags = "role",
  AttachRolePolicy = "role", DetachRolePolicy = "role", ListAttachedRolePolicies = "role",
  PutRolePolicy = "role", GetRolePolicy = "role", DeleteRolePolicy = "role",
  ListRolePolicies = "role", ListInstanceProfilesForRole = "role",
  CreateInstanceProfile = "profile", GetInstanceProfile = "profile",
  DeleteInstanceProfile = "profile", TagInstanceProfile = "profile",
  AddRoleToInstanceProfile = "profile", RemoveRoleFromInstanceProfile = "profile" }

local TAG_ACTION = { CreateRole = "iam:TagRole", CreateInstanceProfile = "iam:TagInstanceProfile" }

local function iam_asks(c, p, op, add)
  local kind = IAM[op]
  if not kind then
    add { resource = "*" }
    return
  end
  local name = (kind == "role" and p.RoleName or p.InstanceProfileName) or "*"
  local ask = iam_ask(c, kind, name, TAG_ACTION[op] and (p.Path or "/"))
  add_tags(ask.keys, { "aws:requesttag" }, as_table(p.Tags))
  ask.keys["iam:policyarn"] = p.PolicyArn
  add(ask)
  if TAG_ACTION[op] and p.Tags and p.Tags[1] then
    add { action = TAG_ACTION[op], resource = ask.resource, keys = ask.keys }
  elseif op == "AddRoleToInstanceProfile" and p.RoleName then
    add { action = "iam:PassRole", resource = iam_ask(c, "role", p.RoleName).resource,
      keys = { ["iam:passedtoservice"] = "ec2.amazonaws.com" } }
  end
end

local SERVICES = { ec2 = ec2_asks, iam = iam_asks }

-- Everybody may ask who he is, and for a session of his own.
local FREE = { GetCallerIdentity = true, GetSessionToken = true }

function SERVICES.sts(_, p, op, add)
  if not FREE[op] then
    add { resource = op == "AssumeRole" and p.RoleArn or "*" }
  end
end

local function parameter_arn(c, name)
  local public = name:sub(1, 5) == "/aws/"
  return ("arn:aws:ssm:%s:%s:parameter/%s"):format(c.region, public and "" or c.account,
    (name:gsub("^/", "")))
end

function SERVICES.ssm(c, p, op, add)
  if op == "GetParameter" or op == "GetParameters" then
    for _, name in ipairs(op == "GetParameter" and { p.Name } or p.Names or {}) do
      add { resource = parameter_arn(c, name) }
    end
  elseif op == "SendCommand" then
    local name = (p.DocumentName or ""):match("document/(.+)$") or p.DocumentName or "*"
    add { resource = ("arn:aws:ssm:%s:%s:document/%s"):format(c.region,
      name:sub(1, 4) == "AWS-" and "" or c.account, name) }
    local ids = p.InstanceIds or {}
    for _, id in ipairs(ids[1] and ids or { "*" }) do
      local ask = existing(c, "instance", id)
      local obj = find(c, "instance", id)
      add_tags(ask.keys, { "ssm:resourcetag" }, obj and obj.tags)
      add(ask)
    end
  else
    add { resource = "*" }
  end
end

function SERVICES.lambda(c, p, op, add)
  local name = p.FunctionName or "*"
  add { action = op == "Invoke" and "lambda:InvokeFunction" or nil,
    resource = ("arn:aws:lambda:%s:%s:function:%s"):format(c.region, c.account,
      name:match("function:([^:]+)") or name) }
end

-- ---- the decision ----

--- What must be allowed for a request, in the order in which it is asked.
-- @param c table request context with region, params, op_name
-- @return table[] {action, resource, keys}
function M.asks(c)
  local list, own = {}, ("%s:%s"):format(c.service, c.op_name)
  local function add(ask)
    ask.action, ask.keys = ask.action or own, ask.keys or {}
    ask.keys["aws:requestedregion"] = c.region
    ask.keys["ec2:region"] = c.service == "ec2" and c.region or nil
    ask.keys["aws:principalarn"] = sts.principal(c).arn
    list[#list + 1] = ask
  end
  local asks = SERVICES[c.service]
  if asks then
    asks(c, c.params, c.op_name, add)
  else
    add { resource = "*" }
  end
  return list
end

--- Refuses a request as its service does.
-- @param c table request context
-- @param action string such as "ec2:RunInstances"
-- @param resource string|nil
-- @param explicit boolean|nil a statement denies it
-- @raise UnauthorizedOperation, AccessDenied, AccessDeniedException
function M.refuse(c, action, resource, explicit)
  local who = sts.principal(c)
  local text = ("User: %s is not authorized to perform: %s%s%s"):format(who.arn, action,
    resource and resource ~= "*" and " on resource: " .. resource or "", explicit
    and " with an explicit deny in an identity-based policy"
    or (" because no identity-based policy allows the %s action"):format(action))
  if c.family == "ec2" then
    errors.raise("UnauthorizedOperation", "%s", ("You are not authorized to perform this"
      .. " operation. %s. Encoded authorization failure message: %s"):format(text,
      sts.encode_message(c.S.secret, { allowed = false, explicitDeny = explicit or false,
        context = { principal = who, action = action, resource = resource } })))
  end
  local json = c.family == "json"
  error(errors.new(json and "AccessDeniedException" or "AccessDenied", text,
    c.service == "lambda" and 403 or nil), 0)
end

--- Lets a request through, or refuses it; what decided is left in c.allowed.
-- @param c table request context; c.d.policy is the policy
-- @raise as refuse
function M.check(c)
  c.allowed = {}
  for i, ask in ipairs(M.asks(c)) do
    local decision, sid, used = policy.evaluate(c.d.policy, ask)
    c.allowed[i] = { action = ask.action, resource = ask.resource, sid = sid, used = used,
      decision = decision }
    if decision ~= "allow" then
      M.refuse(c, ask.action, ask.resource, decision == "deny")
    end
  end
end

return M
