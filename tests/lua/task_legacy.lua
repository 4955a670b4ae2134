-- What the automation before this one left in an account: found by its names and its
-- key pair, listed, removed on request only.
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local session = require "hg.session"
local env = dofile "tests/lib/task_env.lua"

env.state()
local ec2, cloud = env.cloud()
local _d <close> = async.defer(env.stop)
local program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"
local ami = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId

local function group(name)
  return ec2:create_security_group({ GroupName = name, Description = "x" }).GroupId
end

local function cli(words)
  return proc.run({ program, "--state-path", session.state.path, "--region", "us-west-2",
    "--endpoint-url", cloud.endpoint_url, table.unpack(words) }, { check = false, timeout = 60,
    stdin = "", env = { AWS_ACCESS_KEY_ID = cloud.access_key_id,
      AWS_SECRET_ACCESS_KEY = cloud.secret_access_key } })
end

t.test("what the predecessor left is listed, and goes with --legacy only", function()
  local iam = aws.client "iam"
  local policy = json.encode { Statement = { { Effect = "Allow", Action = "sts:AssumeRole",
    Principal = { Service = "ec2.amazonaws.com" } } } }
  ec2:create_key_pair { KeyName = "hg-automation" }
  ec2:create_key_pair { KeyName = "mine" }
  group "hg-linux-dev-1"
  group "mine"
  for _, name in ipairs { "hg-ephemeral-ec2-role-1", "mine" } do
    iam:create_role { RoleName = name, AssumeRolePolicyDocument = policy }
    iam:create_instance_profile { InstanceProfileName = name }
    iam:add_role_to_instance_profile { InstanceProfileName = name, RoleName = name }
  end
  local function start(name, key)
    return ec2:run_instances({ ImageId = ami, MinCount = 1, MaxCount = 1, KeyName = key,
      TagSpecifications = name and { { ResourceType = "instance",
        Tags = { { Key = "Name", Value = name } } } } }).Instances[1].InstanceId
  end
  -- Its Linux machines carry nothing but its key.
  local linux, windows = start(nil, "hg-automation"), start "hg-windows-dev"
  local mine = start("x", "mine")
  ec2:wait("instance_running", { InstanceIds = { linux, windows, mine } })
  local image = ec2:create_image({ InstanceId = windows, Name = "hg-windows-dev-2019" }).ImageId
  local my_image = ec2:create_image({ InstanceId = mine, Name = "mine" }).ImageId
  ec2:wait("image_available", { ImageIds = { image, my_image } })
  local function left()
    local list = {}
    local clients = { ec2 = ec2, iam = iam }
    for _, r in ipairs(require("hg.remove.find").legacy(clients, { iam = true })) do
      list[#list + 1] = r.kind
    end
    table.sort(list)
    return list
  end
  local all = { "group", "image", "instance", "instance", "keypair", "profile", "role" }
  t.is(left(), all, "all of it is found")
  local r = cli { "purge-ec2-resources" }
  t.is(r.code, 0, "purge ends well: " .. r.err)
  t.is(left(), all, "and leaves it")
  t.like(r.err, "not ours by tag, left alone %(%-%-legacy%): group +sg%-%x+ hg%-linux%-dev%-1",
    "but names it")
  r = cli { "terminate-ec2-instances", "--legacy" }
  t.is(r.code, 0, "terminate --legacy: " .. r.err)
  t.is(left(), { "group", "image", "keypair", "profile", "role" }, "ends its machines only")
  r = cli { "purge-ec2-resources", "--legacy" }
  t.is(r.code, 0, "purge --legacy: " .. r.err)
  t.is(left(), {}, "removes the rest")
  t.is(ec2:describe_instances({ InstanceIds = { mine } }).Reservations[1].Instances[1].State.Name,
    "running", "another's machine runs")
  t.is(#ec2:describe_images({ Owners = { "self" } }).Images, 1, "another's image is there")
  t.is({ iam:get_role({ RoleName = "mine" }).Role.RoleName,
    ec2:describe_key_pairs({ KeyNames = { "mine" } }).KeyPairs[1].KeyName }, { "mine", "mine" },
    "role and key pair, too")
end)

env.stop() -- before its files go
return t.done()
