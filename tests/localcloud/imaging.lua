-- Real images, volumes and commands: what one instance writes another one made
-- of its image finds; commands run through SSM without a login; nothing that no
-- object names stays on the disk.
local t = require "hg.tap"
local env = dofile "tests/lib/local_env.lua"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

env.need()
local state = env.state()
local cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
local _d <close> = async.defer(function()
  client.stop { state = state }
end)

local function connect(service)
  return aws.client(service, { region = cloud.region, endpoint_url = cloud.endpoint_url,
    credentials = { access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key } })
end

local ec2, iam, ssm = connect "ec2", connect "iam", connect "ssm"
local SOON = { timeout = 60 }

iam:create_role { RoleName = "ssm", AssumeRolePolicyDocument = json.encode {
  Version = "2012-10-17", Statement = json.list { { Effect = "Allow", Action = "sts:AssumeRole",
    Principal = { Service = "ec2.amazonaws.com" } } } } }
iam:attach_role_policy { RoleName = "ssm",
  PolicyArn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore" }
iam:create_instance_profile { InstanceProfileName = "ssm" }
iam:add_role_to_instance_profile { InstanceProfileName = "ssm", RoleName = "ssm" }

local base = ec2:describe_images({ Owners = { "136693071363" }, Filters = { { Name = "name",
  Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId

local function launch(ami, more)
  local params = { ImageId = ami, MinCount = 1, MaxCount = 1,
    IamInstanceProfile = { Name = "ssm" } }
  for k, v in pairs(more or {}) do
    params[k] = v
  end
  local id = ec2:run_instances(params).Instances[1].InstanceId
  ec2:wait("instance_running", { InstanceIds = { id } }, SOON)
  return id
end

local function invocation(command, id)
  local ok, r = pcall(ssm.get_command_invocation, ssm, { CommandId = command, InstanceId = id })
  if not ok and r.code ~= "InvocationDoesNotExist" then
    error(r, 0)
  end
  return ok and r or {}
end

local OVER = { Success = true, Failed = true, Cancelled = true, TimedOut = true }

-- Runs a script as SSM does and waits for its end.
local function command(id, script, more)
  local parameters = { commands = { script } }
  for k, v in pairs(more or {}) do
    parameters[k] = { v }
  end
  local c = ssm:send_command { InstanceIds = { id }, DocumentName = "AWS-RunShellScript",
    Parameters = parameters, Comment = "test" }.Command.CommandId
  local r
  t.eventually(function()
    r = invocation(c, id)
    return OVER[r.Status]
  end, 60)
  return r
end

local function run(id, script)
  local r = command(id, script)
  if r.Status ~= "Success" then
    t.diag("%s: %s", tostring(r.Status), tostring(r.StandardErrorContent))
  end
  return r.StandardOutputContent
end

local first = launch(base, { BlockDeviceMappings = { { DeviceName = "/dev/sdf",
  Ebs = { VolumeSize = 1 } } } })

t.test("commands run in the instance", function()
  local r = command(first, "id -un; pwd; echo oops >&2; exit 3", { workingDirectory = "/tmp" })
  t.is({ r.Status, r.ResponseCode, r.StandardOutputContent, r.StandardErrorContent },
    { "Failed", 3, "root\n/tmp\n", "oops\n" }, "as root, with output, errors and exit code")
  t.like(r.ExecutionEndDateTime, "^%d%d%d%d%-%d%d%-%d%dT", "its end is a date")
  t.is(run(first, "seq 1 10000 | tail -n 1"), "10000\n", "longer output")
  r = command(first, "yes 0123456789 | head -c 100000")
  t.is(#r.StandardOutputContent, 24000, "output is cut at 24000 characters")
  r = command(first, "sleep 100", { executionTimeout = "1" })
  t.is({ r.Status, r.StatusDetails }, { "TimedOut", "ExecutionTimedOut" }, "a slow one is ended")
  local c = ssm:send_command { InstanceIds = { first }, DocumentName = "AWS-RunShellScript",
    Parameters = { commands = { "sleep 100" } } }.Command.CommandId
  t.ok(t.eventually(function()
    return invocation(c, first).Status == "InProgress"
  end), "another one is at work")
  ssm:cancel_command { CommandId = c }
  t.ok(t.eventually(function()
    return invocation(c, first).Status == "Cancelled"
  end), "and can be cancelled")
  t.is(ssm:list_commands({ CommandId = c }).Commands[1].Status, "Cancelled", "ListCommands agrees")
  t.is(run(first, "pgrep -c sleep || true"), "0\n", "nothing of it runs on")
end)

local image, ended

t.test("an image holds what its instance wrote, on all volumes", function()
  t.is(run(first, "set -e; mkfs.ext4 -q /dev/sdf; mkdir /data; mount /dev/xvdf /data\n"
    .. "echo volume >/data/file; sync; umount /data; echo root >/root/file; rm /usr/bin/unzip\n"
    .. "ls /dev/nvme1n1"), "/dev/nvme1n1\n", "a volume can be used")
  local began = time.mono()
  image = ec2:create_image { InstanceId = first, Name = "made", TagSpecifications = {
    { ResourceType = "image", Tags = { { Key = "k", Value = "v" } } } } }.ImageId
  ec2:wait("image_available", { ImageIds = { image } }, SOON)
  t.diag("image of a running instance: %.2f s", time.mono() - began)
  t.ok(t.eventually(function()
    return run(first, "cat /root/file") == "root\n"
  end, 30), "the instance runs again, with its files")
  local second = launch(image)
  t.is(run(second, "cat /root/file; ls /usr/bin/unzip 2>&1 | grep -c 'No such'\n"
    .. "mkdir -p /data; mount /dev/sdf /data; cat /data/file"), "root\n1\nvolume\n",
    "an instance of it finds them, and does not find what was removed")
  t.is(run(second, "hostname"), "ip-" .. ec2:describe_instances({ InstanceIds = { second } })
    .Reservations[1].Instances[1].PrivateIpAddress:gsub("%.", "-") .. "\n", "under its own name")
  run(second, "echo changed >/root/file")
  t.is(run(first, "cat /root/file"), "root\n", "what it changes is its own")
  ended = second
end)

t.test("volumes come and go while an instance runs", function()
  local az = ec2:describe_instances({ InstanceIds = { first } }).Reservations[1].Instances[1]
    .Placement.AvailabilityZone
  local v = ec2:create_volume { AvailabilityZone = az, Size = 1 }.VolumeId
  ec2:wait("volume_available", { VolumeIds = { v } }, SOON)
  ec2:attach_volume { VolumeId = v, InstanceId = first, Device = "/dev/sdg" }
  ec2:wait("volume_in_use", { VolumeIds = { v } }, SOON)
  t.ok(t.eventually(function()
    return ec2:describe_volumes({ VolumeIds = { v } }).Volumes[1].Attachments[1].State == "attached"
  end), "it is attached")
  t.is(run(first, "echo text >/dev/sdg; sync; blockdev --getsize64 /dev/xvdg"), "1073741824\n",
    "with its size")
  local s = ec2:create_snapshot { VolumeId = v }.SnapshotId
  ec2:wait("snapshot_completed", { SnapshotIds = { s } }, SOON)
  ec2:detach_volume { VolumeId = v }
  ec2:wait("volume_available", { VolumeIds = { v } }, SOON)
  t.is(run(first, "ls /dev/sdg 2>&1 | grep -c 'No such'"), "1\n", "detached, it is not there")
  local copy = ec2:create_volume { AvailabilityZone = az, SnapshotId = s }.VolumeId
  ec2:wait("volume_available", { VolumeIds = { copy } }, SOON)
  ec2:attach_volume { VolumeId = copy, InstanceId = first, Device = "/dev/sdh" }
  ec2:wait("volume_in_use", { VolumeIds = { copy } }, SOON)
  t.ok(t.eventually(function()
    return run(first, "head -c 4 /dev/sdh") == "text"
  end), "a volume of a snapshot has its data")
  ec2:detach_volume { VolumeId = copy }
  ec2:wait("volume_available", { VolumeIds = { copy } }, SOON)
  for _, id in ipairs { v, copy } do
    ec2:delete_volume { VolumeId = id }
  end
  ec2:delete_snapshot { SnapshotId = s }
end)

-- Names of layers and volume files that are on the disk.
local function on_disk()
  local out = {}
  for _, name in ipairs(fs.list(state .. "/local/images")) do
    out[#out + 1] = not name:match("^debian") and name ~= ".lock" and name or nil
  end
  for _, name in ipairs(fs.list(state .. "/local/volumes")) do
    out[#out + 1] = name
  end
  return out
end

t.test("stopped instances give images at once, and long chains are cut", function()
  ec2:stop_instances { InstanceIds = { first } }
  ec2:wait("instance_stopped", { InstanceIds = { first } }, SOON)
  local began = time.mono()
  local made = { ec2:create_image { InstanceId = first, Name = "stopped" }.ImageId }
  ec2:wait("image_available", { ImageIds = { made[1] } }, SOON)
  t.diag("image of a stopped instance: %.3f s", time.mono() - began)
  for i = 2, 15 do
    made[i] = ec2:create_image { InstanceId = first, Name = "chain " .. i }.ImageId
    ec2:wait("image_available", { ImageIds = { made[i] } }, { timeout = 120 })
  end
  local id = launch(made[15])
  t.is(run(id, "cat /root/file; ls /usr/bin/unzip 2>&1 | grep -c 'No such'"), "root\n1\n",
    "the last of 16 has all of it")
  ec2:terminate_instances { InstanceIds = { id } }
  ec2:start_instances { InstanceIds = { first } }
  ec2:wait("instance_running", { InstanceIds = { first } }, SOON)
  t.is(run(first, "cat /root/file"), "root\n", "and the instance itself starts")
  for _, ami in ipairs(made) do
    ec2:deregister_image { ImageId = ami }
  end
end)

t.test("NoReboot leaves the instance alone", function()
  local boot = run(first, "cat /proc/1/stat | cut -d' ' -f22")
  local ami = ec2:create_image { InstanceId = first, Name = "live", NoReboot = true }.ImageId
  ec2:wait("image_available", { ImageIds = { ami } }, SOON)
  t.is(run(first, "cat /proc/1/stat | cut -d' ' -f22"), boot, "its init is the same")
  local id = launch(ami)
  t.is(run(id, "cat /root/file"), "root\n", "the image has its files")
  ec2:terminate_instances { InstanceIds = { id } }
  ec2:wait("instance_terminated", { InstanceIds = { id } }, SOON)
  ec2:deregister_image { ImageId = ami }
end)

t.test("kill -9 of the daemon in the middle of an image loses nothing", function()
  ec2:create_image { InstanceId = first, Name = "lost" }
  proc.run { "kill", "-9", tostring(cloud.pid) }
  t.ok(t.eventually(function()
    return not client.status { state = state }
  end), "it is dead")
  cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
  ec2, ssm = connect "ec2", connect "ssm"
  t.is(#ec2:describe_images({ Owners = { "self" }, Filters = { { Name = "state",
    Values = { "pending" } } } }).Images, 0, "no image is pending for ever")
  ec2:start_instances { InstanceIds = { first } }
  ec2:wait("instance_running", { InstanceIds = { first } }, SOON)
  t.is(run(first, "cat /root/file"), "root\n", "the instance has its files")
end)

t.test("nothing stays that no object names", function()
  ec2:terminate_instances { InstanceIds = { first, ended } }
  ec2:wait("instance_terminated", { InstanceIds = { first, ended } }, SOON)
  for _, i in ipairs(ec2:describe_images({ Owners = { "self" } }).Images) do
    ec2:deregister_image { ImageId = i.ImageId }
  end
  t.ok(#on_disk() > 0, "snapshots hold on to their layers")
  for _, s in ipairs(ec2:describe_snapshots({ OwnerIds = { "self" } }).Snapshots) do
    ec2:delete_snapshot { SnapshotId = s.SnapshotId }
  end
  t.is(#ec2:describe_volumes({}).Volumes, 0, "no volume is left")
  t.ok(t.eventually(function()
    return #on_disk() == 0
  end, 20), "nor a file: " .. table.concat(on_disk(), " "))
end)

client.stop { state = state }
return t.done()
