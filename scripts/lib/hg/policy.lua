--- The least that IAM must allow for tasks: one table, and `hgauto iam-policy`.
--
-- Tasks declare the actions they need (`needs`, built-in ones with the sets
-- below); the statements say under which conditions each is granted.  What the
-- ledger asks for because of a creation comes along by itself.
local json = require "hgauto.json"

local M = {}

--- Characters of a managed policy that IAM takes, white space not counted.
M.max_size = 6144

-- ---- what is granted, and how ----------------------------------------------------------

-- Things of ours carry this tag from the moment they exist.
local OURS = { StringLike = { ["aws:ResourceTag/hgauto:state"] = "*" } }

-- "arn:aws:" becomes that of the partition.  Looking has no resources in EC2, and
-- what is asked for by a name that may not exist is asked for without its path.
local STATEMENTS = {
  { sid = "Read", actions = {
    "ec2:DescribeAddresses", "ec2:DescribeImages", "ec2:DescribeInstanceAttribute",
    "ec2:DescribeInstances", "ec2:DescribeKeyPairs", "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots", "ec2:DescribeSubnets", "ec2:DescribeVolumes", "ec2:DescribeVpcs",
    "iam:GetInstanceProfile", "iam:GetRole", "iam:ListInstanceProfiles", "iam:ListRoles",
    "ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommands",
    "sts:DecodeAuthorizationMessage", "sts:GetCallerIdentity" } },
  { sid = "Parameters", actions = { "ssm:GetParameter", "ssm:GetParameters" },
    resource = { "arn:aws:ssm:*::parameter/aws/*" } },
  { sid = "Launch", actions = {
    "ec2:AllocateAddress", "ec2:CopyImage", "ec2:CreateImage", "ec2:CreateSecurityGroup",
    "ec2:CreateSnapshot", "ec2:CreateVolume", "ec2:ImportKeyPair", "ec2:RegisterImage",
    "ec2:RunInstances" },
    condition = { StringEqualsIfExists = { ["ec2:MetadataHttpTokens"] = "required" } } },
  -- The condition lists the creating actions of the policy.
  { sid = "TagAtBirth", actions = { "ec2:CreateTags" }, at_birth = true },
  { sid = "OnlyOurs", actions = {
    "ec2:AttachVolume", "ec2:AuthorizeSecurityGroupIngress", "ec2:DeleteKeyPair",
    "ec2:DeleteSecurityGroup", "ec2:DeleteSnapshot", "ec2:DeleteVolume", "ec2:DeregisterImage",
    "ec2:DetachVolume", "ec2:GetConsoleOutput", "ec2:ModifyInstanceAttribute",
    "ec2:RebootInstances", "ec2:ReleaseAddress", "ec2:RevokeSecurityGroupIngress",
    "ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances", "ssm:SendCommand" },
    condition = OURS },
  { sid = "Documents", actions = { "ssm:SendCommand" }, resource = {
    "arn:aws:ssm:*::document/AWS-RunPowerShellScript",
    "arn:aws:ssm:*::document/AWS-RunShellScript" } },
  -- It has no resources, so no condition on a tag can ever hold.
  { sid = "Commands", actions = { "ssm:CancelCommand" } },
  { sid = "Roles", actions = {
    "iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:CreateRole",
    "iam:DeleteInstanceProfile", "iam:DeleteRole", "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies",
    "iam:ListRoleTags", "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile",
    "iam:TagRole" },
    resource = { "arn:aws:iam::*:role/hgauto/*", "arn:aws:iam::*:instance-profile/hgauto/*" } },
  { sid = "Attach", actions = { "iam:AttachRolePolicy" },
    resource = { "arn:aws:iam::*:role/hgauto/*" }, condition = { ArnEquals = {
      ["iam:PolicyARN"] = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" } } },
  { sid = "Pass", actions = { "iam:PassRole" }, resource = { "arn:aws:iam::*:role/hgauto/*" },
    condition = { StringEquals = { ["iam:PassedToService"] = "ec2.amazonaws.com" } } },
  { sid = "Try", actions = { "lambda:InvokeFunction" },
    resource = { "arn:aws:lambda:*:*:function:ci-try-server-upload" } },
}

-- Creating something that the ledger follows: what its tags, a look-up after a lost
-- answer and, for what a run leaves nothing of, the removal need.  What is to stay
-- is removed by purge-ec2-resources.  Things of EC2 are tagged by CreateTags.
local COMES_WITH = {
  ["ec2:AllocateAddress"] = { "ec2:CreateTags", "ec2:DescribeAddresses", "ec2:ReleaseAddress" },
  ["ec2:CopyImage"] = { "ec2:CreateTags", "ec2:DescribeImages" },
  ["ec2:CreateImage"] = { "ec2:CreateTags", "ec2:DescribeImages" },
  ["ec2:CreateSecurityGroup"] = { "ec2:CreateTags", "ec2:DescribeSecurityGroups" },
  ["ec2:CreateSnapshot"] = { "ec2:CreateTags", "ec2:DescribeSnapshots" },
  ["ec2:CreateVolume"] = { "ec2:CreateTags", "ec2:DeleteVolume", "ec2:DescribeVolumes" },
  ["ec2:ImportKeyPair"] = { "ec2:CreateTags", "ec2:DescribeKeyPairs" },
  ["ec2:RegisterImage"] = { "ec2:CreateTags", "ec2:DescribeImages" },
  ["ec2:RunInstances"] = { "ec2:CreateTags", "ec2:DeleteVolume", "ec2:DescribeInstances",
    "ec2:DescribeVolumes", "ec2:TerminateInstances" },
  ["iam:AddRoleToInstanceProfile"] = { "iam:PassRole" },
  ["iam:CreateInstanceProfile"] = { "iam:GetInstanceProfile", "iam:TagInstanceProfile" },
  ["iam:CreateRole"] = { "iam:GetRole", "iam:TagRole" },
  ["ssm:SendCommand"] = { "ssm:CancelCommand", "ssm:ListCommands" },
}

-- ---- what tasks need -------------------------------------------------------------------

local function join(...)
  local out, seen = {}, {}
  for _, list in ipairs { ... } do
    for _, name in ipairs(list) do
      if not seen[name] then
        seen[name], out[#out + 1] = true, name
      end
    end
  end
  return out
end

-- Everything that carries our tag.
local SCAN = { "ec2:DescribeAddresses", "ec2:DescribeImages", "ec2:DescribeInstances",
  "ec2:DescribeKeyPairs", "ec2:DescribeSecurityGroups", "ec2:DescribeSnapshots",
  "ec2:DescribeVolumes" }

-- Machines of the kind hg.machines.linux, with the images they are made from and
-- the end of what dead runs left.
local LINUX = { "ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags",
  "ec2:ImportKeyPair", "ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress",
  "ec2:RevokeSecurityGroupIngress", "ec2:StopInstances", "ec2:CreateImage",
  "ec2:DeregisterImage", "ec2:DeleteSnapshot", "ec2:DeleteVolume", "ec2:DescribeImages",
  "ec2:DescribeInstances", "ec2:DescribeKeyPairs", "ec2:DescribeSecurityGroups",
  "ec2:DescribeSubnets", "ec2:DescribeVolumes", "ec2:DescribeVpcs", "ssm:GetParameter" }

--- Sets for `needs` of tasks: linux and windows (machines and their images), look,
--- terminate, purge (all that is ours), try (the try server's function).
M.needs = {
  linux = LINUX,
  windows = join(LINUX, { "ec2:ModifyInstanceAttribute", "ec2:GetConsoleOutput" }),
  look = SCAN,
  terminate = join(SCAN, { "ec2:TerminateInstances" }),
  purge = join(SCAN, { "ec2:TerminateInstances", "ec2:DeregisterImage", "ec2:DeleteKeyPair",
    "ec2:DeleteSecurityGroup", "ec2:DeleteSnapshot", "ec2:DeleteVolume", "ec2:ReleaseAddress",
    "iam:ListRoles", "iam:GetRole", "iam:ListRoleTags", "iam:ListAttachedRolePolicies",
    "iam:DetachRolePolicy", "iam:ListRolePolicies", "iam:DeleteRolePolicy", "iam:DeleteRole",
    "iam:ListInstanceProfiles", "iam:GetInstanceProfile",
    "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile" }),
  try = { "lambda:InvokeFunction" },
}

--- Actions of the sets that no test sees at work, and why they are granted.
M.untested = {
  ["ec2:ReleaseAddress"] = "no built-in task allocates an address; tasks of users may",
}

-- ---- documents -------------------------------------------------------------------------

local function by_action()
  local known = {}
  for _, s in ipairs(STATEMENTS) do
    for _, action in ipairs(s.actions) do
      known[action] = true
    end
  end
  return known
end

-- Lua pattern of an action with wildcards.
local function pattern(action)
  return "^" .. action:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".")
    .. "$"
end

-- Actions that are meant, with all that comes along; those of no statement apart.
local function expand(needs)
  local known, wanted, others = by_action(), {}, {}
  local function want(action)
    if not wanted[action] then
      wanted[action] = true
      for _, more in ipairs(COMES_WITH[action] or {}) do
        want(more)
      end
    end
  end
  for _, action in ipairs(needs) do
    local found = false
    for name in pairs(known) do
      if name == action or action:find("[*?]") and name:find(pattern(action)) then
        want(name)
        found = true
      end
    end
    if not found then
      others[action] = true
    end
  end
  return wanted, others
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

-- ARNs of another partition.
local function placed(value, partition)
  if type(value) == "table" then
    local out = {}
    for k, v in pairs(value) do
      out[k] = placed(v, partition)
    end
    return out
  end
  return (value:gsub("^arn:aws:", "arn:" .. partition .. ":"))
end

-- Creating calls whose things get tags of ours.
local function births(wanted)
  local list = {}
  for action in pairs(COMES_WITH) do
    local name = action:match("^ec2:(.+)$")
    if name and wanted[action] then
      list[#list + 1] = name
    end
  end
  table.sort(list)
  return list
end

local function statement(s, wanted, partition)
  local actions = {}
  for _, action in ipairs(s.actions) do
    actions[#actions + 1] = wanted[action] and action or nil
  end
  local condition = s.condition
  if s.at_birth then
    local list = births(wanted)
    condition = list[1] and { StringEquals = { ["ec2:CreateAction"] = list } } or nil
  end
  return actions[1] and { Sid = s.sid, Effect = "Allow", Action = json.list(actions),
    Resource = s.resource and placed(s.resource, partition) or "*",
    Condition = condition and placed(condition, partition) or nil }
end

--- The least policy for actions.
-- @param needs string[] actions, with wildcards too; nothing is a policy that grants nothing
-- @param[opt] partition string default "aws"
-- @return table document {Version, Statement}
-- @return string[] actions of which nothing is known: granted without any condition
function M.document(needs, partition)
  local wanted, others = expand(needs)
  local list = json.list {}
  for _, s in ipairs(STATEMENTS) do
    list[#list + 1] = statement(s, wanted, partition or "aws")
  end
  local unknown = sorted(others)
  if unknown[1] then
    list[#list + 1] = { Sid = "Others", Effect = "Allow", Action = json.list(sorted(others)),
      Resource = "*" }
  elseif not list[1] then
    -- A policy has a statement at least; this is allowed to everybody anyway.
    list[1] = { Sid = "Read", Effect = "Allow", Action = json.list { "sts:GetCallerIdentity" },
      Resource = "*" }
  end
  return { Version = "2012-10-17", Statement = list }, unknown
end

-- ---- hgauto iam-policy -----------------------------------------------------------------

local function needs_of(names)
  local tasks, lists, silent = require "hg.cli.tasks", {}, {}
  for i, name in ipairs(names) do
    local task, shown = tasks.find(name)
    if not task.needs then
      require("hg").fail { kind = "usage", message = ("%s: the task does not say what it needs")
        :format(shown), hint = 'declare needs = { "ec2:RunInstances", … } in hg.task' }
    end
    lists[i] = task.needs
    silent[#silent + 1] = not task.needs[1] and shown or nil
  end
  return join(table.unpack(lists)), silent
end

-- Of the region in use; nothing is asked.
local function partition_of(opts)
  local aws = require "hgauto.aws"
  local setting = not opts.region and aws.config({ profile = opts.profile }).region
  local region = opts.region or setting and setting.value or "us-west-2"
  return aws.client("ec2", { region = region }).meta.partition
end

--- `hgauto iam-policy [TASK…]`: prints the policy; none named: for all built-in tasks.
-- @param args table task
-- @param opts table global options
-- @return integer exit code
function M.main(args, opts)
  local names = args.task
  if not names or not names[1] then
    names = require("hg.cli.tasks").builtin()
  end
  local needs, silent = needs_of(names)
  local doc, unknown = M.document(needs, partition_of(opts))
  local out = require "hg.output"
  if args.task and args.task[1] then
    for _, name in ipairs(silent) do
      out.note(name .. " asks nothing of AWS that has to be allowed")
    end
  end
  for _, action in ipairs(unknown) do
    out.warn(action .. " is granted on everything: hgauto knows no condition for it")
  end
  local text = json.encode(doc, { indent = 2 })
  if #text:gsub("%s", "") > M.max_size then
    out.warn(("IAM takes policies of at most %d characters; attach it in parts"):format(M.max_size))
  end
  require("hgauto.term").out(text .. "\n")
  return 0
end

return M
