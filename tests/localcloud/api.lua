-- The local cloud and our own AWS client: a daemon of its own (api-only), its
-- life from `ensure` to `stop`, recovery after kill -9, and the operations that
-- tasks, gc and purge use.
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

local state = t.tmpdir() .. "/state"
local cloud = client.ensure { state = state, api_only = true, listen = "127.0.0.1:0" }

-- Also when this file breaks off; at its end the daemon has stopped already.
local _d <close> = async.defer(function()
  client.stop { state = state }
end)

local function connect()
  return aws.client("ec2", { region = cloud.region, endpoint_url = cloud.endpoint_url,
    credentials = { access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key } })
end

local ec2 = connect()

local function image()
  return ec2:describe_images({ Owners = { "136693071363" }, Filters = { { Name = "name",
    Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId
end

local ami = image()

local function launch(more)
  local params = { ImageId = ami, MinCount = 1, MaxCount = 1 }
  for k, v in pairs(more or {}) do
    params[k] = v
  end
  return ec2:run_instances(params).Instances[1].InstanceId
end

local function state_of(id)
  return ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1].State.Name
end

t.test("a second ensure finds the same daemon", function()
  local again = client.ensure { state = state }
  t.is({ again.pid, again.endpoint_url, again.id }, { cloud.pid, cloud.endpoint_url, cloud.id },
    "same process, endpoint, identity")
  t.like(cloud.endpoint_url, "^http://127%.0%.0%.1:%d+$", "on loopback")
end)

t.test("its files are private", function()
  for name, mode in pairs { [""] = 448, ["/credentials"] = 384, ["/cloud.db"] = 384,
    ["/ctl.sock"] = 384, ["/requests.jsonl"] = 384, ["/daemon.json"] = 384 } do
    t.is(fs.stat(state .. "/local" .. name).mode & 511, mode, "local" .. name)
  end
end)

t.test("five clients that start one at once get one daemon", function()
  local other = t.tmpdir() .. "/state"
  local found = async.map({ 1, 2, 3, 4, 5 }, function()
    return client.ensure { state = other, api_only = true, listen = "127.0.0.1:0" }.pid
  end)
  client.stop { state = other }
  for i = 2, 5 do
    t.is(found[i], found[1], "client " .. i)
  end
  t.is(client.status { state = other }, nil, "afterwards none runs")
end)

t.test("an instance lives through its states", function()
  local id = launch { ClientToken = "tok-1" }
  ec2:wait("instance_running", { InstanceIds = { id } }, { timeout = 10 })
  t.is(launch { ClientToken = "tok-1" }, id, "its token finds it")
  local found = ec2:describe_instances { Filters = { { Name = "client-token",
    Values = { "tok-1" } } } }
  t.is(found.Reservations[1].Instances[1].InstanceId, id, "so does a filter")
  t.raises(function()
    launch { ClientToken = "tok-1", InstanceType = "t3.nano" }
  end, { kind = "aws", code = "IdempotentParameterMismatch" }, "with equal parameters only")
  local r = ec2:terminate_instances { InstanceIds = { id } }
  t.is(r.TerminatingInstances[1].CurrentState.Name, "shutting-down", "it is terminated")
  ec2:wait("instance_terminated", { InstanceIds = { id } }, { timeout = 10 })
end)

t.test("errors arrive with their codes", function()
  t.raises(function()
    state_of "i-00000000000000000"
  end, { kind = "aws", code = "InvalidInstanceID.NotFound",
    match = "The instance ID 'i%-00000000000000000' does not exist" }, "NotFound")
  t.raises(function()
    ec2:create_vpc { CidrBlock = "10.0.0.0/16" }
  end, { kind = "aws", code = "UnsupportedOperation" }, "not emulated")
  t.ok(ec2:dry_run("run_instances", { ImageId = ami, MinCount = 1, MaxCount = 1 }), "dry run")
end)

t.test("what gc and purge look for can be asked", function()
  t.is(#ec2:describe_snapshots({ OwnerIds = { "self" } }).Snapshots, 0, "snapshots")
  t.is(#ec2:describe_addresses({}).Addresses, 0, "addresses")
  t.is(#ec2:describe_images({ Owners = { "self" } }).Images, 0, "images")
  t.is(#ec2:describe_volumes({ Filters = { { Name = "tag:hgauto:run", Values = { "x" } } } })
    .Volumes, 0, "volumes by tag")
  t.is(ec2:describe_vpcs({ Filters = { { Name = "is-default", Values = { "true" } } } })
    .Vpcs[1].CidrBlock, "172.31.0.0/16", "the default VPC")
end)

t.test("addresses are allocated, found and released", function()
  local function tagged(value)
    return { { ResourceType = "elastic-ip", Tags = { { Key = "k", Value = value } } } }
  end
  local a = ec2:allocate_address { Domain = "vpc", TagSpecifications = tagged "v" }
  t.like(a.AllocationId, "^eipalloc%-%x+$", "an id")
  t.like(a.PublicIp, "^127%.77%.%d+%.%d+$", "an address of the loopback")
  local b = ec2:allocate_address {}
  local found = ec2:describe_addresses({ Filters = { { Name = "tag:k", Values = { "v" } } } })
    .Addresses
  t.is({ #found, found[1].AllocationId, found[1].PublicIp, found[1].Domain,
    found[1].InstanceId }, { 1, a.AllocationId, a.PublicIp, "vpc", nil }, "by its tag")
  t.is(ec2:describe_addresses({ PublicIps = { b.PublicIp } }).Addresses[1].AllocationId,
    b.AllocationId, "by address")
  ec2:create_tags { Resources = { b.AllocationId }, Tags = { { Key = "k", Value = "w" } } }
  t.is(ec2:describe_addresses({ AllocationIds = { b.AllocationId } }).Addresses[1].Tags,
    { { Key = "k", Value = "w" } }, "tagged later")
  for _ = 3, 5 do
    ec2:allocate_address {}
  end
  local function refused(params, code, what)
    t.raises(function()
      ec2:release_address(params)
    end, { code = code }, what)
  end
  t.raises(function()
    ec2:allocate_address {}
  end, { code = "AddressLimitExceeded" }, "a sixth is too many")
  refused({ PublicIp = a.PublicIp }, "InvalidParameterValue", "released by id only")
  refused({ PublicIp = a.PublicIp, AllocationId = a.AllocationId },
    "InvalidParameterCombination", "not by both")
  refused({}, "MissingParameter", "nor by nothing")
  refused({ AllocationId = "eipalloc-00000000000000000" }, "InvalidAllocationID.NotFound",
    "one that is not there")
  for _, x in ipairs(ec2:describe_addresses({}).Addresses) do
    ec2:release_address { AllocationId = x.AllocationId }
  end
  refused({ AllocationId = a.AllocationId }, "InvalidAllocationID.NotFound", "once")
  t.is(#ec2:describe_addresses({}).Addresses, 0, "none is left")
end)

t.test("a Describe by id waits for the change", function()
  local id = launch()
  local began = time.mono()
  local i = ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1]
  t.is(i.State.Name, "running", "so the first question sees it running")
  t.ok(time.mono() - began < 1.5, "as soon as it is, not after the longest wait")
  t.like(i.PublicIpAddress, "^127%.77%.", "with its address")
  ec2:terminate_instances { InstanceIds = { id } }
  t.is(state_of(id), "terminated", "and terminated")
end)

t.test("a lost answer makes no second instance", function()
  local before = #ec2:describe_instances({}).Reservations
  local ids = async.map({ 1, 2, 3, 4 }, function()
    return launch { ClientToken = "storm" }
  end)
  for i = 2, 4 do
    t.is(ids[i], ids[1], "repeat " .. i)
  end
  t.is(#ec2:describe_instances({}).Reservations, before + 1, "one more in all")
  ec2:terminate_instances { InstanceIds = { ids[1] } }
end)

t.test("the journal names each request and no secret", function()
  local key = "top secret user data"
  launch { UserData = "#!/bin/sh\n# " .. key .. "\n", ClientToken = "journal" }
  local text = fs.read(state .. "/local/requests.jsonl")
  local last
  for line in text:gmatch("[^\n]+") do
    local row = json.decode(line)
    last = row.action == "RunInstances" and row or last
  end
  t.is({ last.service, last.status, last.params.ClientToken, last.params.UserData },
    { "ec2", 200, "journal", "***" }, "the last launch")
  t.ok(not text:find(key, 1, true) and not text:find(cloud.secret_access_key, 1, true),
    "neither user data nor keys")
end)

t.test("after kill -9 the next daemon knows everything", function()
  local stays = launch { ClientToken = "stays" }
  local goes = launch { ClientToken = "goes", InstanceInitiatedShutdownBehavior = "terminate" }
  ec2:wait("instance_running", { InstanceIds = { stays, goes } }, { timeout = 10 })
  local group = ec2:create_security_group { GroupName = "kept", Description = "x" }.GroupId
  proc.run { "kill", "-9", tostring(cloud.pid) }
  t.ok(t.eventually(function()
    return not fs.exists("/proc/" .. cloud.pid) or fs.read("/proc/" .. cloud.pid .. "/stat")
      :match("%) Z ")
  end), "it is dead")
  t.is(client.status { state = state }, nil, "and not taken for alive")
  local again = client.ensure { state = state, api_only = true, listen = "127.0.0.1:0" }
  t.ok(again.pid ~= cloud.pid, "a new one starts")
  t.is({ again.access_key_id, again.id }, { cloud.access_key_id, cloud.id }, "as the same cloud")
  cloud = again
  ec2 = connect()
  t.is({ state_of(stays), state_of(goes) }, { "stopped", "terminated" },
    "instances that were alive are not")
  t.is(ec2:describe_instances({ InstanceIds = { stays } }).Reservations[1].Instances[1]
    .StateReason.Code, "Server.InternalError", "for a reason")
  t.is(launch { ClientToken = "stays" }, stays, "client tokens are remembered")
  t.is(ec2:describe_security_groups({ GroupIds = { group } }).SecurityGroups[1].GroupName, "kept",
    "groups too")
  ec2:start_instances { InstanceIds = { stays } }
  ec2:wait("instance_running", { InstanceIds = { stays } }, { timeout = 10 })
  ec2:terminate_instances { InstanceIds = { stays } }
end)

t.test("SIGTERM ends the daemon in order", function()
  local other = t.tmpdir() .. "/state"
  local c = client.ensure { state = other, api_only = true, listen = "127.0.0.1:0" }
  proc.run { "kill", "-TERM", tostring(c.pid) }
  t.ok(t.eventually(function()
    return not fs.exists(other .. "/local/daemon.json")
  end), "its file about itself is removed")
  t.is(client.status { state = other }, nil, "none runs")
  t.is(client.stop { state = other }, false, "stopping what does not run is harmless")
end)

t.test("an unused daemon leaves by itself", function()
  local other = t.tmpdir() .. "/state"
  local c = client.ensure { state = other, api_only = true, listen = "127.0.0.1:0", idle = 1 }
  t.ok(t.eventually(function()
    return not client.status { state = other }
  end), "within its time")
  t.ok(not fs.exists(other .. "/local/ctl.sock"), "without a socket left")
  t.ok(c.pid ~= cloud.pid, "it was another one")
end)

t.test("a daemon that cannot listen says why", function()
  local other = t.tmpdir() .. "/state"
  local port = cloud.endpoint_url:match(":(%d+)$")
  t.raises(function()
    client.ensure { state = other, api_only = true, listen = "127.0.0.1:" .. port }
  end, { kind = "io", match = "did not start: .*" .. port }, "with the address")
  t.raises(function()
    client.ensure { state = other, api_only = true, listen = "0.0.0.0:0" }
  end, { kind = "io", match = "loopback" }, "never beyond loopback")
end)

client.stop { state = state }
return t.done()
