-- Commands and images of a real local instance as awscli sees them: its waiters
-- for a command, an image and a snapshot end when they should.
local t = require "hg.tap"
local async = require "hgauto.async"
local client = require "localcloud.client"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"

local env = dofile "tests/lib/local_env.lua"
env.need()
local AWS = host.getenv "AWSCLI" or proc.which "aws"
if not AWS then
  t.skip("awscli is missing (apt install awscli)")
end
local state = env.state()
local cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
local _d <close> = async.defer(function()
  client.stop { state = state }
end, 60)

local ENV = { AWS_ACCESS_KEY_ID = cloud.access_key_id, AWS_PAGER = "",
  AWS_SECRET_ACCESS_KEY = cloud.secret_access_key, AWS_REGION = cloud.region,
  AWS_DEFAULT_REGION = cloud.region, AWS_EC2_METADATA_DISABLED = "true", HOME = t.tmpdir() }

local function aws(...)
  return proc.run({ AWS, "--endpoint-url", cloud.endpoint_url, "--output", "json", ... },
    { env = ENV, check = false, timeout = 120 })
end

-- The decoded answer of a command that has to succeed; {} of one that says nothing.
local function good(what, ...)
  local r = aws(...)
  if not t.is(r.code, 0, what) then
    t.diag("%s", r.err)
  end
  local ok, value = pcall(json.decode, r.out)
  return ok and value or {}
end

-- What awscli's other tests cover is asked for by our own client.
local aws_lib = require "hgauto.aws"
local OWN = { region = cloud.region, endpoint_url = cloud.endpoint_url, credentials = {
  access_key_id = cloud.access_key_id, secret_access_key = cloud.secret_access_key } }
local ec2, iam = aws_lib.client("ec2", OWN), aws_lib.client("iam", OWN)

local TRUST = json.encode { Version = "2012-10-17", Statement = json.list { {
  Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } } } }

local function launch(image)
  local id = ec2:run_instances({ ImageId = image, MinCount = 1, MaxCount = 1,
    InstanceType = "t3.micro", IamInstanceProfile = { Name = "p" } }).Instances[1].InstanceId
  ec2:wait("instance_running", { InstanceIds = { id } }, { delay = 0.1, timeout = 120 })
  return id
end

iam:create_role { RoleName = "r", AssumeRolePolicyDocument = TRUST }
iam:attach_role_policy { RoleName = "r",
  PolicyArn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }
iam:create_instance_profile { InstanceProfileName = "p" }
iam:add_role_to_instance_profile { InstanceProfileName = "p", RoleName = "r" }
local id = launch(ec2:describe_images({ Owners = { "136693071363" },
  Filters = { { Name = "name", Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId)

local function send(command)
  return good("a command", "ssm", "send-command", "--document-name", "AWS-RunShellScript",
    "--instance-ids", id, "--parameters", json.encode { commands = json.list { command } })
    .Command.CommandId
end

local function wait(command)
  return aws("ssm", "wait", "command-executed", "--command-id", command, "--instance-id", id)
end

local function invocation(command)
  return good("its invocation", "ssm", "get-command-invocation", "--command-id", command,
    "--instance-id", id)
end

t.test("the waiter for a command", function()
  local command = send "sleep 1; id -un; hostname >&2"
  t.is(wait(command).code, 0, "ends when it has succeeded")
  local r = invocation(command)
  t.is({ r.Status, r.ResponseCode, r.StandardOutputContent }, { "Success", 0, "root\n" },
    "it ran as root")
  t.like(r.StandardErrorContent, "^ip%-172%-31%-", "on the instance")
  command = send "echo so; exit 3"
  r = wait(command)
  t.ok(r.code ~= 0, "fails when it has failed")
  t.like(r.err, "Waiter CommandExecuted failed", "and says so")
  t.is(invocation(command).ResponseCode, 3, "with its exit code")
end)

t.test("an image of it, and its waiters", function()
  t.is(wait(send "echo kept > /srv/file").code, 0, "which has something new")
  local image = good("is asked for", "ec2", "create-image", "--instance-id", id, "--name",
    "with-file").ImageId
  good("the waiter for it", "ec2", "wait", "image-available", "--image-ids", image)
  local seen = good("it is ours", "ec2", "describe-images", "--owners", "self").Images
  t.is({ #seen, seen[1] and seen[1].Name }, { 1, "with-file" }, "by name")
  local snapshot = seen[1].BlockDeviceMappings[1].Ebs.SnapshotId
  good("the waiter for its snapshot", "ec2", "wait", "snapshot-completed", "--snapshot-ids",
    snapshot)
  id = launch(image)
  local command = send "cat /srv/file"
  t.is(wait(command).code, 0, "the waiter for a command on a machine of it")
  t.is(invocation(command).StandardOutputContent, "kept\n", "the file is there")
  good("the image goes", "ec2", "deregister-image", "--image-id", image)
  good("and its snapshot", "ec2", "delete-snapshot", "--snapshot-id", snapshot)
end)

client.stop { state = state }
return t.done()
