-- Identity policies in the local cloud: what a document may say, how it decides,
-- what requests ask for.  Expected decisions: IAM user guide, evaluation logic
-- and condition operators.
local t = require "hg.tap"
local authorize = require "localcloud.authorize"
local json = require "hgauto.json"
local policy = require "localcloud.policy"
local services = require "localcloud.services"

local INSTANCE = "arn:aws:ec2:us-west-2:123456789012:instance/i-1"

-- Decision about one action; statements are given as Lua tables.
local function decide(statements, action, resource, keys)
  local p = policy.read(json.encode { Version = "2012-10-17", Statement = json.list(statements) },
    "p")
  return (policy.evaluate(p, { action = action, resource = resource or "*", keys = keys or {} }))
end

local function allow(more)
  local s = { Effect = "Allow", Action = "*", Resource = "*" }
  for k, v in pairs(more) do
    s[k] = v
  end
  return s
end

local function deny(more)
  local s = allow(more)
  s.Effect = "Deny"
  return s
end

t.test("actions: names, wildcards, case, NotAction", function()
  for _, c in ipairs {
    { { Action = "ec2:RunInstances" }, "ec2:RunInstances", "allow" },
    { { Action = "ec2:RunInstances" }, "ec2:StopInstances", "none" },
    { { Action = "EC2:runinstances" }, "ec2:RunInstances", "allow" },
    { { Action = "ec2:Describe*" }, "ec2:DescribeImages", "allow" },
    { { Action = "ec2:*Instances" }, "ec2:StopInstances", "allow" },
    { { Action = "ec2:*Instances" }, "ec2:DescribeInstancesX", "none" },
    { { Action = "ec2:Run?nstances" }, "ec2:RunInstances", "allow" },
    { { Action = "ec2:*" }, "iam:ListRoles", "none" },
    { { Action = { "iam:Get*", "ec2:Stop*" } }, "ec2:StopInstances", "allow" },
    { { Action = json.null, NotAction = "ec2:*" }, "iam:ListRoles", "allow" },
    { { Action = json.null, NotAction = "ec2:*" }, "ec2:StopInstances", "none" },
  } do
    local s = allow(c[1])
    s.Action = s.Action ~= json.null and s.Action or nil
    t.is(decide({ s }, c[2]), c[3], json.encode(c[1]) .. " on " .. c[2])
  end
end)

t.test("resources: part by part, NotResource", function()
  for _, c in ipairs {
    { { Resource = INSTANCE }, "allow" },
    { { Resource = "arn:aws:ec2:*:*:instance/*" }, "allow" },
    { { Resource = "arn:aws:ec2:*:instance/*" }, nil },
    { { Resource = "arn:aws:ec2:*:*:volume/*" }, "none" },
    { { Resource = "arn:aws:ec2:us-east-?:*:instance/*" }, "none" },
    { { Resource = { "arn:aws:ec2:*:*:volume/*", "arn:*:ec2:us-west-2:*:instance/i-?" } },
      "allow" },
    { { NotResource = "arn:aws:ec2:*:*:volume/*" }, "allow" },
    { { NotResource = "arn:aws:ec2:*:*:instance/*" }, "none" },
  } do
    local s = allow(c[1])
    s.Resource = c[1].Resource
    local ok, r = pcall(decide, { s }, "ec2:StopInstances", INSTANCE)
    if c[2] then
      t.is(r, c[2], json.encode(c[1]))
    else
      t.ok(not ok and r.kind == "usage", "no ARN: refused when read")
    end
  end
  t.is(decide({ allow { Resource = "arn:aws:ec2:*:*:instance/*" } }, "ec2:DescribeInstances"),
    "none", "an action without resources needs *")
end)

t.test("a denial wins wherever it stands; without a word nothing is allowed", function()
  t.is(decide({ allow {}, deny { Action = "ec2:Stop*" } }, "ec2:StopInstances"), "deny",
    "after the permission")
  t.is(decide({ deny { Action = "ec2:Stop*" }, allow {} }, "ec2:StopInstances"), "deny",
    "before it")
  t.is(decide({ allow {}, deny { Action = "ec2:Stop*" } }, "ec2:StartInstances"), "allow",
    "another action")
  t.is(decide({ deny { Action = "ec2:Stop*" } }, "ec2:StartInstances"), "none", "no permission")
  t.is(decide({ allow {}, deny { Condition = { StringEquals = { ["ec2:Region"] = "x" } } } },
    "ec2:StopInstances"), "allow", "a denial whose condition does not hold")
end)

t.test("conditions: operators with the key and without it", function()
  local TAG = "aws:ResourceTag/Stage"
  for _, c in ipairs {
    -- operator, value of the policy, decision for "prod", for "PROD", without the key
    { "StringEquals", "prod", "allow", "none", "none" },
    { "StringEquals", { "test", "prod" }, "allow", "none", "none" },
    { "StringEquals", "p*", "none", "none", "none" },
    { "StringNotEquals", "prod", "none", "allow", "allow" },
    { "StringNotEquals", { "prod", "PROD" }, "none", "none", "allow" },
    { "StringEqualsIgnoreCase", "Prod", "allow", "allow", "none" },
    { "StringNotEqualsIgnoreCase", "Prod", "none", "none", "allow" },
    { "StringLike", "pr*", "allow", "none", "none" },
    { "StringLike", "*", "allow", "allow", "none" },
    { "StringLike", "p\\*", "none", "none", "none" },
    { "StringNotLike", "pr?d", "none", "allow", "allow" },
    { "StringEqualsIfExists", "prod", "allow", "none", "allow" },
    { "StringLikeIfExists", "x*", "none", "none", "allow" },
    { "StringNotEqualsIfExists", "prod", "none", "allow", "allow" },
    { "Null", "true", "none", "none", "allow" },
    { "Null", false, "allow", "allow", "none" },
    { "Null", "false", "allow", "allow", "none" },
  } do
    local s = allow { Condition = { [c[1]] = { [TAG] = c[2] } } }
    local what = c[1] .. " " .. json.encode(c[2])
    for i, value in ipairs { "prod", "PROD", false } do
      local keys = value and { ["aws:resourcetag/stage"] = value } or {}
      t.is(decide({ s }, "ec2:StopInstances", INSTANCE, keys), c[i + 2],
        ("%s for %s"):format(what, value or "no such tag"))
    end
  end
end)

t.test("a backslash is a character like any other", function()
  local s = { allow { Condition = { StringLike = { ["aws:ResourceTag/a"] = "x\\*z" } } } }
  for value, want in pairs { ["x\\yz"] = "allow", ["x*z"] = "none", ["xyz"] = "none" } do
    t.is(decide(s, "ec2:StopInstances", INSTANCE, { ["aws:resourcetag/a"] = value }), want, value)
  end
end)

t.test("conditions: ARNs, several keys, several operators", function()
  local KEY = "iam:PolicyARN"
  local core = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
  for _, c in ipairs {
    { "ArnEquals", core, "allow" }, { "ArnLike", "arn:aws:iam::aws:policy/*", "allow" },
    { "ArnEquals", "arn:aws:iam::*:policy/AmazonSSM*", "allow" },
    { "ArnLike", "arn:aws:iam::aws:policy/Admin*", "none" }, { "ArnNotEquals", core, "none" },
    { "ArnNotLike", "arn:aws:iam::aws:policy/Admin*", "allow" },
  } do
    t.is(decide({ allow { Condition = { [c[1]] = { [KEY] = c[2] } } } }, "iam:AttachRolePolicy",
      INSTANCE, { ["iam:policyarn"] = core }), c[3], c[1] .. " " .. c[2])
  end
  local both = { allow { Condition = { StringEquals = { ["ec2:Region"] = "r", ["ec2:CreateAction"] =
    "RunInstances" }, StringLike = { ["aws:RequestTag/a"] = "*" } } } }
  local keys = { ["ec2:region"] = "r", ["ec2:createaction"] = "RunInstances",
    ["aws:requesttag/a"] = "" }
  t.is(decide(both, "ec2:CreateTags", "*", keys), "allow", "all of them hold")
  for _, name in ipairs { "ec2:region", "ec2:createaction", "aws:requesttag/a" } do
    local less = {}
    for k, v in pairs(keys) do
      less[k] = k ~= name and v or nil
    end
    t.is(decide(both, "ec2:CreateTags", "*", less), "none", "one does not: " .. name)
  end
end)

t.test("what decided is told", function()
  local p = policy.read(json.encode { Statement = { Sid = "One", Effect = "Allow",
    Action = { "ec2:Stop*", "ec2:StopInstances" }, Resource = "*", Condition = {
      StringLike = { ["aws:ResourceTag/a"] = { "x", "*" } } } } }, "p")
  local decision, sid, used = policy.evaluate(p, { action = "ec2:StopInstances",
    resource = INSTANCE, keys = { ["aws:resourcetag/a"] = "y" } })
  t.is({ decision, sid, used }, { "allow", "One", { "action ec2:Stop*", "resource *",
    "StringLike aws:ResourceTag/a *" } }, "Sid, patterns, values")
end)

t.test("what is not evaluated is refused when it is read, in a sentence", function()
  local function whole(s)
    return '{"Version":"2012-10-17","Statement":[' .. s .. "]}"
  end
  local function with(more)
    return whole('{"Effect":"Allow","Action":"ec2:*","Resource":"*"' .. more .. "}")
  end
  for _, c in ipairs {
    { "", "it is empty, no policy" }, { "{", "it is not JSON: " }, { "[]", "it has no Statement" },
    { '"x"', "it is not JSON" }, { '{"Statement":[]}', "it has no Statement" },
    { '{"Version":"2030-01-01","Statement":[{}]}', "Version must be 2012%-10%-17" },
    { '{"Statment":[]}', "unknown element Statment" },
    { whole "1", "statement 1 must be an object" },
    { whole '{"Effect":"allow","Action":"*","Resource":"*"}', "Effect must be Allow or Deny" },
    { whole '{"Effect":"Allow","Resource":"*"}', "exactly one of Action and NotAction" },
    { with ',"NotAction":"*"', "exactly one of Action and NotAction" },
    { whole '{"Effect":"Allow","Action":"*"}', "exactly one of Resource and NotResource" },
    { whole '{"Effect":"Allow","Action":[],"Resource":"*"}', "Action must be a text or a list" },
    { whole '{"Effect":"Allow","Action":["a:b",7],"Resource":"*"}', "must be a text or a list" },
    { whole '{"Effect":"Allow","Action":"RunInstances","Resource":"*"}', "is no action" },
    { whole '{"Effect":"Allow","Action":"e*:Run","Resource":"*"}', '"e%*:Run" is no action' },
    { whole '{"Effect":"Allow","Action":"*","Resource":"i-1"}', '"i%-1" is no resource' },
    { with ',"Principal":"*"', "the policy of an identity has no Principal" },
    { with ',"Conditions":{}', "unknown element Conditions" },
    { with ',"Sid":"a b"', "Sid must be letters and digits" },
    { with ',"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}',
      "does not evaluate the condition operator IpAddress" },
    { with ',"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"a"}}',
      "operator ForAllValues:StringEquals" },
    { with ',"Condition":{"NullIfExists":{"ec2:Region":"true"}}', "operator NullIfExists" },
    { with ',"Condition":{"StringEquals":{"aws:MultiFactorAuthPresent":"true"}}',
      "does not evaluate the condition key aws:MultiFactorAuthPresent" },
    { with ',"Condition":{"StringEquals":{"aws:ResourceTag/":"x"}}', "key aws:ResourceTag/" },
    { with ',"Condition":{"Null":{"ec2:Region":"yes"}}', "Null takes true or false" },
    { with ',"Condition":{"StringEquals":{}}', "must be an object of keys and values" },
    { with ',"Condition":{"StringEquals":{"ec2:Region":"${aws:username}"}}', "policy variables" },
    { with ',"Effect":"Deny"', '"Effect" stands twice in one object' },
    { with ',"Sid":"A\\"{"' , "Sid must be" },
    { '{"Statement":[' .. ('{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"},'):rep(2)
      :sub(1, -2) .. "]}", "two statements have the Sid A" },
    { with(',"Sid":"' .. ("x"):rep(policy.max_size) .. '"'), "at most 10240 characters" },
  } do
    local ok, e = pcall(policy.read, c[1], "FILE")
    t.ok(not ok and e.kind == "usage", "refused: " .. c[1]:sub(1, 100))
    t.like(not ok and e.message or "", "^FILE: .*" .. c[2], c[2])
  end
  t.ok(policy.read('{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}', "p"),
    "one statement needs no list")
  t.ok(policy.read(with(',"Sid":"a","Condition":{"StringLike":{"aws:RequestTag/x":'
    .. '"\\"Effect\\":"}}'), "p"), "a text that looks like a name")
end)

-- ---- what requests ask for ----

local OBJECTS = {
  instance = { ["i-1"] = { id = "i-1", tags = { Stage = "prod" },
    options = { metadata = { HttpTokens = "required" } } } },
  group = { ["sg-1"] = { id = "sg-1", name = "g", tags = { a = "b" } } },
  role = { r = { id = "r", name = "r", arn = "arn:aws:iam::123456789012:role/hgauto/r",
    tags = {} } },
  profile = { p = { name = "p", role = "r", tags = {},
    arn = "arn:aws:iam::123456789012:instance-profile/hgauto/p" } },
}

local S = {}

function S:get(kind, _, id) -- luacheck: ignore 212
  return (OBJECTS[kind] or {})[id]
end

function S:list(kind) -- luacheck: ignore 212
  local list = {}
  for _, obj in pairs(OBJECTS[kind] or {}) do
    list[#list + 1] = obj
  end
  return list
end

local function asks(service, op, params)
  local list = {}
  for i, a in ipairs(authorize.asks { service = service, op_name = op, params = params, S = S,
    region = "us-west-2", account = "123456789012" }) do
    list[i] = a.action .. " " .. a.resource:gsub("^arn:aws:", "")
  end
  return list, authorize.asks { service = service, op_name = op, params = params, S = S,
    region = "us-west-2", account = "123456789012" }
end

t.test("requests name their resources", function()
  local EC2 = "ec2:us-west-2:123456789012:"
  for _, c in ipairs {
    { "ec2", "DescribeInstances", { InstanceIds = { "i-1" } }, { "ec2:DescribeInstances *" } },
    { "ec2", "StopInstances", { InstanceIds = { "i-1", "i-2" } },
      { "ec2:StopInstances " .. EC2 .. "instance/i-1", "ec2:StopInstances " .. EC2
        .. "instance/i-2" } },
    { "ec2", "DeleteSecurityGroup", { GroupName = "g" },
      { "ec2:DeleteSecurityGroup " .. EC2 .. "security-group/sg-1" } },
    { "ec2", "AuthorizeSecurityGroupIngress", { GroupId = "sg-1", IpPermissions = {} },
      { "ec2:AuthorizeSecurityGroupIngress " .. EC2 .. "security-group/sg-1" } },
    { "ec2", "AuthorizeSecurityGroupIngress", { GroupId = "sg-1", TagSpecifications = {
      { ResourceType = "security-group-rule", Tags = { { Key = "a", Value = "b" } } } } },
      { "ec2:AuthorizeSecurityGroupIngress " .. EC2 .. "security-group/sg-1",
        "ec2:AuthorizeSecurityGroupIngress " .. EC2 .. "security-group-rule/*",
        "ec2:CreateTags " .. EC2 .. "security-group-rule/*" } },
    { "ec2", "DeregisterImage", { ImageId = "ami-1" },
      { "ec2:DeregisterImage ec2:us-west-2::image/ami-1" } },
    { "ec2", "CreateImage", { InstanceId = "i-1", TagSpecifications = { { ResourceType = "image",
      Tags = { { Key = "a", Value = "b" } } } } },
      { "ec2:CreateImage " .. EC2 .. "instance/i-1", "ec2:CreateImage ec2:us-west-2::image/*",
        "ec2:CreateImage ec2:us-west-2::snapshot/*", "ec2:CreateTags ec2:us-west-2::image/*" } },
    { "ec2", "CreateTags", { Resources = { "i-1", "snap-1" }, Tags = {} },
      { "ec2:CreateTags " .. EC2 .. "instance/i-1", "ec2:CreateTags ec2:us-west-2::snapshot/snap-1"
      } },
    { "iam", "ListRoles", {}, { "iam:ListRoles *" } },
    { "iam", "GetRole", { RoleName = "r" },
      { "iam:GetRole iam::123456789012:role/hgauto/r" } },
    { "iam", "GetRole", { RoleName = "none" }, { "iam:GetRole iam::123456789012:role/none" } },
    { "iam", "CreateRole", { RoleName = "n", Path = "/x/", Tags = { { Key = "a", Value = "b" } } },
      { "iam:CreateRole iam::123456789012:role/x/n", "iam:TagRole iam::123456789012:role/x/n" } },
    { "iam", "CreateRole", { RoleName = "r", Path = "/x/" },
      { "iam:CreateRole iam::123456789012:role/x/r" } },
    { "iam", "AddRoleToInstanceProfile", { InstanceProfileName = "p", RoleName = "r" },
      { "iam:AddRoleToInstanceProfile iam::123456789012:instance-profile/hgauto/p",
        "iam:PassRole iam::123456789012:role/hgauto/r" } },
    { "sts", "GetCallerIdentity", {}, {} }, { "sts", "GetSessionToken", {}, {} },
    { "sts", "AssumeRole", { RoleArn = "arn:aws:iam::1:role/x" }, { "sts:AssumeRole iam::1:role/x" }
    },
    { "ssm", "GetParameter", { Name = "/aws/service/x" },
      { "ssm:GetParameter ssm:us-west-2::parameter/aws/service/x" } },
    { "ssm", "SendCommand", { DocumentName = "AWS-RunShellScript", InstanceIds = { "i-1" } },
      { "ssm:SendCommand ssm:us-west-2::document/AWS-RunShellScript",
        "ssm:SendCommand " .. EC2 .. "instance/i-1" } },
    { "ssm", "CancelCommand", { CommandId = "c" }, { "ssm:CancelCommand *" } },
    { "lambda", "Invoke", { FunctionName = "f" },
      { "lambda:InvokeFunction lambda:us-west-2:123456789012:function:f" } },
    { "pricing", "GetProducts", {}, { "pricing:GetProducts *" } },
  } do
    t.is((asks(c[1], c[2], c[3])), c[4], c[1] .. ":" .. c[2])
  end
end)

t.test("a launch asks for all that it uses and makes", function()
  local names, list = asks("ec2", "RunInstances", { ImageId = "ami-1", SubnetId = "subnet-1",
    SecurityGroupIds = { "sg-1" }, KeyName = "k", MetadataOptions = { HttpTokens = "required" },
    IamInstanceProfile = { Name = "p" }, TagSpecifications = { { ResourceType = "instance",
      Tags = { { Key = "Stage", Value = "prod" } } } } })
  local EC2 = "ec2:us-west-2:123456789012:"
  t.is(names, { "ec2:RunInstances ec2:us-west-2::image/ami-1",
    "ec2:RunInstances " .. EC2 .. "subnet/subnet-1",
    "ec2:RunInstances " .. EC2 .. "security-group/sg-1",
    "ec2:RunInstances " .. EC2 .. "key-pair/k", "ec2:RunInstances " .. EC2 .. "instance/*",
    "ec2:RunInstances " .. EC2 .. "network-interface/*", "ec2:RunInstances " .. EC2 .. "volume/*",
    "iam:PassRole iam::123456789012:role/hgauto/r", "ec2:CreateTags " .. EC2 .. "instance/*" },
    "resources")
  t.is({ list[3].keys["aws:resourcetag/a"], list[5].keys["ec2:metadatahttptokens"],
    list[5].keys["aws:requesttag/stage"], list[6].keys["ec2:metadatahttptokens"],
    list[8].keys["iam:passedtoservice"], list[9].keys["ec2:createaction"],
    list[9].keys["aws:requesttag/stage"], list[9].keys["aws:requestedregion"] },
    { "b", "required", "prod", nil, "ec2.amazonaws.com", "RunInstances", "prod", "us-west-2" },
    "condition keys")
  list = select(2, asks("ec2", "RunInstances", { ImageId = "ami-1" }))
  t.is(list[3].keys["ec2:metadatahttptokens"], "optional", "what is left out has its default")
  list = select(2, asks("ec2", "StopInstances", { InstanceIds = { "i-1", "i-2" } }))
  t.is({ list[1].keys["aws:resourcetag/stage"], list[1].keys["ec2:resourcetag/stage"],
    list[1].keys["ec2:metadatahttptokens"], list[2].keys["aws:resourcetag/stage"] },
    { "prod", "prod", "required", nil }, "what exists has its tags, nothing else has")
end)

t.test("every operation that is emulated asks for something", function()
  for _, name in ipairs(services.emulated()) do
    local service, op = name:match "^(%l+):(%w+)$"
    local free = name == "sts:GetCallerIdentity" or name == "sts:GetSessionToken"
    local ok, list = pcall(asks, service, op, { InstanceIds = { "i-1" }, InstanceId = "i-1",
      VolumeId = "vol-1", GroupId = "sg-1", KeyName = "k", ImageId = "ami-1", SnapshotId = "snap-1",
      Resources = { "i-1" }, SourceImageId = "ami-1", Name = "/n", Names = { "/n" },
      SpotInstanceRequestIds = { "sir-1" } })
    t.ok(ok and (free or #list > 0), name)
  end
end)

return t.done()
