-- Our client against moto: the operations that the task scripts need, five
-- waiters, signatures.  What moto does differently from AWS is in the AWS
-- client specification, section 17.
local aws = require "hgauto.aws"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local http = require "hgauto.http"
local proc = require "hgauto.proc"
local t = require "hg.tap"

host.setenv("HOME", t.tmpdir())
host.setenv("HGAUTO_RETRY_SEED", "1")
local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "wJalr-canary-secret" }

local function start(env)
  local p = proc.spawn({ "sh", "tests/servers/moto.sh" }, { stdin = true, env = env })
  local line = p:lines("out")() or "the server ended"
  local port = line:match("^port (%d+)$")
  if not port then
    p:close()
    return nil, line
  end
  return p, "http://127.0.0.1:" .. port
end

local server, url = start {}
if not server then
  t.skip("python3-moto >= 5.1 (HGAUTO_MOTO=dist-packages): " .. url)
  return t.done()
end

local function client(service, more)
  local opts = { region = "us-west-2", endpoint_url = url, credentials = CREDS }
  for k, v in pairs(more or {}) do
    opts[k] = v
  end
  return aws.client(service, opts)
end

local ec2, iam, ssm = client("ec2"), client("iam"), client("ssm")
local image, group, id

t.test("images, keys, groups", function()
  local images = ec2:describe_images {
    Owners = { "self", "amazon", "801119661308", "136693071363" },
  }
  t.ok(#images.Images > 0, "DescribeImages")
  image = images.Images[1].ImageId
  local key = ec2:create_key_pair { KeyName = "hg-k" }
  t.like(key.KeyMaterial, "PRIVATE KEY", "CreateKeyPair")
  t.is(ec2:describe_key_pairs { KeyNames = { "hg-k" } }.KeyPairs[1].KeyName, "hg-k",
    "DescribeKeyPairs")
  ec2:delete_key_pair { KeyName = "hg-k" }
  t.raises(function()
    ec2:describe_key_pairs({ KeyNames = { "hg-k" } }, { eventual = false })
  end, { kind = "aws", code = "InvalidKeyPair.NotFound" }, "DeleteKeyPair")
  group = ec2:create_security_group { GroupName = "hg-g", Description = "test" }.GroupId
  t.like(group, "^sg%-", "CreateSecurityGroup")
  ec2:authorize_security_group_ingress { GroupId = group, IpPermissions = {
    { IpProtocol = "tcp", FromPort = 22, ToPort = 22, IpRanges = { { CidrIp = "192.0.2.1/32" } } },
  } }
  local g = ec2:describe_security_groups { GroupIds = { group } }.SecurityGroups[1]
  t.is(g.IpPermissions[1].IpRanges[1].CidrIp, "192.0.2.1/32",
    "AuthorizeSecurityGroupIngress, DescribeSecurityGroups")
  local e = t.raises(function()
    ec2:create_security_group { GroupName = "hg-g", Description = "test" }
  end, { kind = "aws", code = "InvalidGroup.Duplicate" }, "a duplicate")
  t.is(e.ambiguous, false, "not ambiguous")
end)

t.test("an instance's life", function()
  local r = ec2:run_instances {
    ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.medium",
    SecurityGroupIds = { group }, UserData = "#!/bin/sh\n",
    TagSpecifications = {
      { ResourceType = "instance", Tags = { { Key = "Name", Value = "hg-x" } } },
    },
  }
  id = r.Instances[1].InstanceId
  t.like(id, "^i%-%x+$", "RunInstances")
  ec2:create_tags { Resources = { id }, Tags = { { Key = "a", Value = "b & <c>" } } }
  local d = ec2:describe_instances { InstanceIds = { id } }.Reservations[1].Instances[1]
  local tags = {}
  for _, tag in ipairs(d.Tags) do
    tags[tag.Key] = tag.Value
  end
  t.is(tags, { Name = "hg-x", a = "b & <c>" }, "CreateTags, DescribeInstances")
  t.is(math.type(d.LaunchTime), "integer", "times are numbers")
  ec2:stop_instances { InstanceIds = { id } }
  local last = ec2:wait("instance_stopped", { InstanceIds = { id } }, { delay = 0.05 })
  t.is(last.Reservations[1].Instances[1].State.Name, "stopped", "StopInstances, instance_stopped")
  ec2:start_instances { InstanceIds = { id } }
  local new = ec2:create_image { InstanceId = id, Name = "hg-image" }.ImageId
  t.like(new, "^ami%-", "StartInstances, CreateImage")
  local shown = ec2:wait("image_available", { ImageIds = { new } }, { delay = 0.05 })
  t.is(shown.Images[1].State, "available", "image_available")
  local snap = shown.Images[1].BlockDeviceMappings[1].Ebs.SnapshotId
  ec2:deregister_image { ImageId = new }
  ec2:delete_snapshot { SnapshotId = snap }
  t.ok(true, "DeregisterImage, DeleteSnapshot")
  ec2:terminate_instances { InstanceIds = { id } }
  ec2:wait("instance_terminated", { InstanceIds = { id } }, { delay = 0.05 })
  t.ok(true, "TerminateInstances, instance_terminated")
  ec2:delete_security_group { GroupId = group }
  t.ok(true, "DeleteSecurityGroup")
  local e = t.raises(function()
    ec2:describe_instances({ InstanceIds = { "i-0123456789abcdef0" } })
  end, { kind = "aws", code = "InvalidInstanceID.NotFound" }, "an unknown instance")
  t.ok(e.request_id, "has a request id")
end)

t.test("iam", function()
  local POLICY = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
  local TRUST = [[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":]]
    .. [[{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}]]
  local role = iam:create_role { RoleName = "hg-r", AssumeRolePolicyDocument = TRUST }.Role
  t.is(role.RoleName, "hg-r", "CreateRole")
  t.is(role.AssumeRolePolicyDocument.Version, "2012-10-17", "its policy is a table")
  iam:wait("role_exists", { RoleName = "hg-r" }, { delay = 0.05 })
  t.is(iam:get_role { RoleName = "hg-r" }.Role.Arn, role.Arn, "GetRole, role_exists")
  t.is(#iam:list_roles().Roles, 1, "ListRoles")
  iam:attach_role_policy { RoleName = "hg-r", PolicyArn = POLICY }
  t.is(iam:list_attached_role_policies { RoleName = "hg-r" }.AttachedPolicies[1].PolicyArn, POLICY,
    "AttachRolePolicy, ListAttachedRolePolicies")
  iam:create_instance_profile { InstanceProfileName = "hg-p" }
  iam:wait("instance_profile_exists", { InstanceProfileName = "hg-p" }, { delay = 0.05 })
  iam:add_role_to_instance_profile { InstanceProfileName = "hg-p", RoleName = "hg-r" }
  local p = iam:get_instance_profile { InstanceProfileName = "hg-p" }.InstanceProfile
  t.is(p.Roles[1].RoleName, "hg-r",
    "CreateInstanceProfile, AddRoleToInstanceProfile, GetInstanceProfile, instance_profile_exists")
  t.is(#iam:list_instance_profiles().InstanceProfiles, 1, "ListInstanceProfiles")
  iam:remove_role_from_instance_profile { InstanceProfileName = "hg-p", RoleName = "hg-r" }
  iam:delete_instance_profile { InstanceProfileName = "hg-p" }
  iam:detach_role_policy { RoleName = "hg-r", PolicyArn = POLICY }
  iam:delete_role { RoleName = "hg-r" }
  t.raises(function()
    iam:get_role({ RoleName = "hg-r" }, { eventual = false })
  end, { kind = "aws", code = "NoSuchEntity" },
    "RemoveRoleFromInstanceProfile, DeleteInstanceProfile, DetachRolePolicy, DeleteRole")
end)

t.test("ssm", function()
  local e = t.raises(function()
    ssm:describe_instance_information({}, { max_attempts = 1 })
  end, { kind = "aws" }, "DescribeInstanceInformation: moto's HTML error")
  t.is(e.status, 500, "status 500")
  local c = ssm:send_command {
    DocumentName = "AWS-RunShellScript", InstanceIds = { id },
    Parameters = { commands = { "true" } },
  }.Command
  t.ok(c.CommandId, "SendCommand")
  local got = ssm:get_command_invocation { CommandId = c.CommandId, InstanceId = id }
  t.is(got.CommandId, c.CommandId, "GetCommandInvocation")
  t.raises(function()
    ssm:get_command_invocation { CommandId = "12345678-1234-1234-1234-123456789012",
      InstanceId = id }
  end, { kind = "aws", code = "InvalidCommandId" }, "XML error of a json service")
end)

t.test("lambda", function()
  local lambda = client("lambda")
  local function invoke()
    return lambda:invoke { FunctionName = "nobody", Payload = '{"a":1}' }
  end
  t.raises(invoke, { kind = "aws", status = 404 }, "Invoke of an unknown function")
  http.request { method = "POST", url = url .. "/moto-api/config",
    body = '{"lambda":{"use_docker":false}}' }
  local r = invoke()
  t.is(r.StatusCode, 200, "Invoke: the status")
  t.ok(type(r.Payload) == "string" and #r.Payload > 0, "and a payload")
end)

t.test("s3", function()
  local s3, dir = client("s3"), t.tmpdir()
  s3:create_bucket { Bucket = "hg-moto",
    CreateBucketConfiguration = { LocationConstraint = "us-west-2" } }
  t.is(s3:get_bucket_location({ Bucket = "hg-moto" }).LocationConstraint, "us-west-2",
    "GetBucketLocation")
  local data = ("hg moto\n"):rep(100000)
  fs.write(dir .. "/data", data)
  s3:put_object { Bucket = "hg-moto", Key = "dir/a b&c", Body = aws.file(dir .. "/data"),
    Metadata = { who = "me" }, ChecksumAlgorithm = "SHA256" }
  local r = s3:get_object({ Bucket = "hg-moto", Key = "dir/a b&c" }, { to = dir .. "/got" })
  t.ok(fs.read(dir .. "/got") == data and r.Body.size == #data, "GetObject into a file")
  t.is(r.Metadata.who, "me", "metadata")
  t.is(s3:head_object({ Bucket = "hg-moto", Key = "dir/a b&c" }).ContentLength, #data,
    "HeadObject")
  t.is(s3:list_objects_v2({ Bucket = "hg-moto" }).Contents[1].Key, "dir/a b&c",
    "ListObjectsV2")
  t.raises(function()
    s3:get_object { Bucket = "hg-moto", Key = "none" }
  end, { kind = "aws", code = "NoSuchKey", status = 404 }, "a missing key")
  t.raises(function()
    s3:head_object { Bucket = "hg-moto", Key = "none" }
  end, { kind = "aws", code = "404" }, "and without a body")
  s3:put_bucket_tagging { Bucket = "hg-moto",
    Tagging = { TagSet = { { Key = "a", Value = "<1>" }, { Key = "b", Value = "2" } } } }
  t.is(s3:get_bucket_tagging({ Bucket = "hg-moto" }).TagSet:pluck("Value"), { "<1>", "2" },
    "tags, with the checksum they need")
  local d = s3:delete_objects { Bucket = "hg-moto",
    Delete = { Objects = { { Key = "dir/a b&c" } } } }
  t.is(d.Deleted[1].Key, "dir/a b&c", "DeleteObjects")
  s3:delete_bucket { Bucket = "hg-moto" }
end)

t.test("the account", function()
  t.is(aws.account { region = "us-west-2", endpoint_url = url, credentials = CREDS }.Account,
    "123456789012", "GetCallerIdentity")
end)

server:close_stdin()
server:wait()

-- From the ninth call on moto checks signature and policies.
local auth_server, auth_url = start { INITIAL_NO_AUTH_ACTION_COUNT = "8" }
local PROGRAM = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
t.test("signatures", function()
  t.ok(auth_server, "a second server")
  url = auth_url
  local admin = client("iam")
  admin:create_user { UserName = "hg" }
  admin:put_user_policy { UserName = "hg", PolicyName = "p", PolicyDocument =
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ec2:Describe*",'
    .. '"Resource":"*"}]}' }
  local k = admin:create_access_key { UserName = "hg" }.AccessKey
  -- moto checks the form; conditions it does not evaluate.
  local printed = proc.run({ PROGRAM, "iam-policy" }).out
  admin:create_user { UserName = "all" }
  t.raises(function()
    admin:put_user_policy { UserName = "all", PolicyName = "p",
      PolicyDocument = printed:gsub('"ec2:DescribeImages"', '"DescribeImages"') }
  end, { code = "MalformedPolicyDocument" }, "a policy of another form is refused")
  admin:put_user_policy { UserName = "all", PolicyName = "p", PolicyDocument = printed }
  local ours = admin:create_access_key { UserName = "all" }.AccessKey
  admin:list_users()
  local right = { access_key_id = k.AccessKeyId, secret_access_key = k.SecretAccessKey }
  local wrong = { access_key_id = k.AccessKeyId, secret_access_key = "wrong-canary-secret" }
  t.ok(client("ec2", { credentials = right }):describe_instances(), "the right key passes")
  t.raises(function()
    client("ec2", { credentials = wrong }):describe_instances()
  end, { kind = "aws", code = "AuthFailure" }, "a wrong secret is refused")
  t.raises(function()
    client("ec2", { credentials = right }):run_instances {
      ImageId = "ami-12345678", MinCount = 1, MaxCount = 1,
    }
  end, { kind = "aws", code = "AccessDenied" }, "another action is denied")
  local policy = require "localcloud.policy"
  local read = policy.read(printed, "it")
  local opts = { credentials = { access_key_id = ours.AccessKeyId,
    secret_access_key = ours.SecretAccessKey } }
  for _, c in ipairs { { "ec2", "describe_vpcs", "DescribeVpcs" }, { "ec2", "describe_key_pairs",
    "DescribeKeyPairs" }, { "iam", "list_roles", "ListRoles" },
    { "iam", "list_users", "ListUsers" }, { "ec2", "describe_regions", "DescribeRegions" },
    { "iam", "list_policies", "ListPolicies" } } do
    local service = client(c[1], opts)
    local ok, e = pcall(service[c[2]], service, {})
    local here = policy.evaluate(read, { action = c[1] .. ":" .. c[3], resource = "*",
      keys = {} })
    t.is(ok and "allow" or e.code, here == "allow" and "allow" or "AccessDenied",
      c[3] .. " under the printed policy: as in the local cloud")
  end
  auth_server:close_stdin()
  auth_server:wait()
end)

return t.done()
