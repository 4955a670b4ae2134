-- The metadata service, asked from inside a real instance: tokens, what it tells,
-- the keys of a role, what it refuses.  Needs root and the base image.
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local t = require "hg.tap"

local env = dofile "tests/lib/local_env.lua"
env.need()
local aws = require "hgauto.aws"
local client = require "localcloud.client"

local state = env.state()
local cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
local options = { region = cloud.region, endpoint_url = cloud.endpoint_url, credentials = {
  access_key_id = cloud.access_key_id, secret_access_key = cloud.secret_access_key } }
local ec2, iam = aws.client("ec2", options), aws.client("iam", options)
local ami = ec2:describe_images({ Owners = { "136693071363" }, Filters = { { Name = "name",
  Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId

local USER_DATA = "#cloud-config\n{}\n"

local function launch(more)
  local p = { ImageId = ami, MinCount = 1, MaxCount = 1, InstanceType = "t3.small" }
  for k, v in pairs(more or {}) do
    p[k] = v
  end
  local id = ec2:run_instances(p).Instances[1].InstanceId
  ec2:wait("instance_running", { InstanceIds = { id } })
  return id, ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1]
end

-- Commands go through the agent, without SSH.
local function inside(id, command)
  return client.exec { state = state, id = id, argv = { "sh", "-c", command }, timeout = 60 }
end

local BASE = "http://169.254.169.254/latest/"

-- What the service says: status and body.
local function ask(id, path, ...)
  local words = { "curl", "-s", "-m", "10", "-w", "\n%{http_code}" }
  for _, w in ipairs { ... } do
    words[#words + 1] = w
  end
  words[#words + 1] = path:find "^http" and path or BASE .. path
  local hg = require "hg"
  local r = inside(id, hg.sh.quote(words))
  local body, status = r.out:match "^(.*)\n(%d+)\n?$"
  return tonumber(status), body
end

local function token(id, seconds)
  local status, body = ask(id, "api/token", "-X", "PUT", "-H",
    "X-aws-ec2-metadata-token-ttl-seconds: " .. (seconds or 60))
  return status == 200 and body or nil, status
end

local function with(tok)
  return "-H", "X-aws-ec2-metadata-token: " .. tok
end

ec2:create_key_pair { KeyName = "k", KeyType = "ed25519" }
iam:create_role { RoleName = "machine", AssumeRolePolicyDocument = json.encode { Statement = {
  { Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" },
    Action = "sts:AssumeRole" } } } }
iam:create_instance_profile { InstanceProfileName = "machine" }
iam:add_role_to_instance_profile { InstanceProfileName = "machine", RoleName = "machine" }

local id, i = launch { KeyName = "k", UserData = USER_DATA,
  IamInstanceProfile = { Name = "machine" }, MetadataOptions = { HttpTokens = "required",
    HttpPutResponseHopLimit = 1 }, TagSpecifications = { { ResourceType = "instance",
    Tags = { { Key = "Name", Value = "m one" } } } } }

if fs.read(("%s/local/instances/%s/console.log"):format(state, id)):find "no metadata service" then
  t.skip "this kernel has no nf_tables"
end

t.test("version 1 is refused where tokens are required", function()
  t.is(ask(id, "meta-data/instance-id"), 401, "without a token")
  t.is(ask(id, "meta-data/instance-id", with "nonsense"), 401, "with a token that is none")
  t.is(ask(id, "user-data"), 401, "user data, too")
end)

t.test("tokens", function()
  local tok = token(id)
  t.ok(tok and #tok >= 40, "PUT gives one")
  for _, bad in ipairs { "0", "21601", "-1", "x", "" } do
    t.is({ token(id, bad) }, { nil, 400 }, ("not for %q seconds"):format(bad))
  end
  t.is(ask(id, "api/token", "-X", "PUT"), 400, "nor without a time")
  t.is(ask(id, "api/token"), 405, "GET gives none")
  t.is(ask(id, "api/token", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", "-H",
    "X-Forwarded-For: 10.0.0.1"), 403, "what a proxy passes on gets none")
  tok = token(id, 1)
  t.ok(t.eventually(function()
    return ask(id, "meta-data/instance-id", with(tok)) == 401
  end, 10), "one of a second expires")
  tok = token(id)
  t.is(ask(id, "meta-data/instance-id", with(tok)), 200, "one of a minute holds")
  local other = launch {}
  t.is(ask(other, "meta-data/instance-id", with(tok)), 401, "another machine does not take it")
  t.is(ask(other, "meta-data/instance-id"), 200, "(which needs none itself)")
  ec2:terminate_instances { InstanceIds = { other } }
end)

t.test("what it tells", function()
  local tok = token(id)
  local function get(path)
    local status, body = ask(id, path, with(tok))
    return status == 200 and body or status
  end
  local meta = get "meta-data/"
  for _, name in ipairs { "ami-id", "ami-launch-index", "block-device-mapping/", "hostname", "iam/",
    "instance-action", "instance-id", "instance-life-cycle", "instance-type", "local-hostname",
    "local-ipv4", "mac", "network/", "placement/", "public-ipv4", "public-keys/",
    "reservation-id", "security-groups", "services/" } do
    t.ok(("\n" .. meta .. "\n"):find("\n" .. name .. "\n", 1, true), "lists " .. name)
  end
  t.ok(not meta:find "spot" and not meta:find "tags", "neither spot nor tags")
  local mac = i.NetworkInterfaces[1].MacAddress
  for path, want in pairs { ["instance-id"] = id, ["ami-id"] = ami, ["local-ipv4"] =
    i.PrivateIpAddress, ["public-ipv4"] = i.PublicIpAddress, ["instance-type"] = "t3.small",
    ["placement/availability-zone"] = i.Placement.AvailabilityZone,
    ["placement/region"] = cloud.region, ["security-groups"] = "default",
    ["block-device-mapping/"] = "ami\nroot", ["block-device-mapping/root"] = "/dev/xvda",
    ["public-keys/"] = "0=k", ["instance-life-cycle"] = "on-demand", mac = mac,
    ["network/interfaces/macs/"] = mac .. "/",
    ["network/interfaces/macs/" .. mac .. "/subnet-id"] = i.SubnetId,
    ["services/domain"] = "amazonaws.com" } do
    t.is(get("meta-data/" .. path), want, path)
  end
  t.is(get("meta-data/public-keys/0/openssh-key"):match "^%S+ (%S+)",
    ec2:describe_key_pairs({ KeyNames = { "k" }, IncludePublicKey = true }).KeyPairs[1]
      .PublicKey:match "^%S+ (%S+)", "the public key")
  t.is(get "user-data", USER_DATA, "user data")
  local doc = json.decode(get "dynamic/instance-identity/document")
  t.is({ doc.instanceId, doc.accountId, doc.privateIp, doc.region }, { id, "123456789012",
    i.PrivateIpAddress, cloud.region }, "the identity document")
  for _, path in ipairs { "meta-data/nothing", "meta-data/instance-id/x", "x", "meta-data/spot/",
    "meta-data/tags/instance/Name" } do
    t.is(get(path), 404, path .. " does not exist")
  end
  local _, root = ask(id, "http://169.254.169.254/", with(tok))
  t.is(root, "1.0\nlatest", "versions")
  t.is(ask(id, "meta-data/instance-id", "-X", "POST", with(tok)), 405, "POST is refused")
end)

t.test("the keys of its role work", function()
  local tok = token(id)
  local _, name = ask(id, "meta-data/iam/security-credentials/", with(tok))
  t.is(name, "machine", "the role")
  local _, text = ask(id, "meta-data/iam/security-credentials/machine", with(tok))
  local keys = json.decode(text)
  t.is({ keys.Code, keys.Type }, { "Success", "AWS-HMAC" }, "keys")
  t.like(keys.AccessKeyId, "^ASIA", "temporary ones")
  local who = aws.client("sts", { region = cloud.region, endpoint_url = cloud.endpoint_url,
    credentials = { access_key_id = keys.AccessKeyId, secret_access_key = keys.SecretAccessKey,
      session_token = keys.Token } }):get_caller_identity {}
  t.is(who.Arn, "arn:aws:sts::123456789012:assumed-role/machine/" .. id, "of this machine")
  local _, again = ask(id, "meta-data/iam/security-credentials/machine", with(tok))
  t.is(json.decode(again).AccessKeyId, keys.AccessKeyId, "the same until they are about to end")
  local _, info = ask(id, "meta-data/iam/info", with(tok))
  t.like(json.decode(info).InstanceProfileArn, ":instance%-profile/machine$", "its profile")
end)

t.test("commands without SSH", function()
  local r = proc.run({ env.program, "--state-path", state, "local", "exec", id:sub(1, 8), "-l",
    "admin", "--", "sh", "-c", "id -un; echo no >&2; exit 7" }, { check = false })
  t.is({ r.code, r.out, r.err }, { 7, "admin\n", "no\n" }, "output and exit code")
  r = proc.run({ env.program, "--state-path", state, "local", "exec", id }, { check = false })
  t.is(r.code, 2, "no command")
end)

t.test("tags are told when that was asked for, options change while it runs", function()
  ec2:modify_instance_metadata_options { InstanceId = id, InstanceMetadataTags = "enabled",
    HttpTokens = "optional" }
  t.is(select(2, ask(id, "meta-data/tags/instance/Name")), "m one", "a tag, without a token")
  t.raises(function()
    ec2:modify_instance_metadata_options { InstanceId = id, HttpPutResponseHopLimit = 65 }
  end, { kind = "aws", code = "InvalidParameterValue" }, "65 hops are too many")
  t.is(ask(id, "meta-data/instance-id", with "nonsense"), 401, "a wrong token is always refused")
  ec2:modify_instance_metadata_options { InstanceId = id, HttpEndpoint = "disabled" }
  t.is(ask(id, "meta-data/instance-id"), 403, "switched off")
  t.is(select(2, token(id)), 403, "tokens, too")
  ec2:modify_instance_metadata_options { InstanceId = id, HttpEndpoint = "enabled",
    HttpTokens = "required" }
  t.is(ask(id, "meta-data/instance-id"), 401, "and on")
end)

-- TTLs of the packets with data that the service sends.
local SNIFF = [[
import socket, sys, threading, time, urllib.request
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
s.bind(("lo", 0)); s.settimeout(0.3)
req = urllib.request.Request("http://169.254.169.254/latest/" + sys.argv[1],
    method=sys.argv[2], headers=dict([sys.argv[3].split(": ")]))
urllib.request.urlopen(req, timeout=10).read()
ttls = set()
try:
    while True:
        p = s.recv(65535); h = (p[0] & 15) * 4
        if p[9] == 6 and int.from_bytes(p[h:h+2], "big") == 80 and len(p) > h + 60:
            ttls.add(p[8])
except socket.timeout:
    pass
print(sorted(ttls))
]]

t.test("the hop limit is that of the answer with the token", function()
  local function hops(path, method, header)
    local hg = require "hg"
    return inside(id, hg.sh.quote { "python3", "-c", SNIFF, path, method, header })
  end
  local header = "X-aws-ec2-metadata-token-ttl-seconds: 60"
  t.is(hops("api/token", "PUT", header).out, "[1]\n", "1 as launched")
  ec2:modify_instance_metadata_options { InstanceId = id, HttpPutResponseHopLimit = 3 }
  t.is(hops("api/token", "PUT", header).out, "[3]\n", "3 as changed")
  t.is(hops("meta-data/instance-id", "GET", "X-aws-ec2-metadata-token: " .. token(id)).out,
    "[64]\n", "other answers go as far as any")
end)

t.test("nobody else reaches it", function()
  local r = inside(id, "curl -s -m 5 http://127.0.0.1:2/latest/meta-data/; echo $?")
  t.like(r.out, "^[^0]%d*\n$", "not by the port it really has")
  local text = fs.read "/proc/net/tcp"
  t.ok(not text:find(":0002 00000000:0000 0A", 1, true), "nothing listens outside")
  local addresses = fs.read "/proc/net/fib_trie"
  t.ok(not addresses:find("169.254.169.254", 1, true), "the address is not the host's")
end)

t.test("a spot machine is told of its end", function()
  client.add_faults { state = state, rules = { match = { action = "run" }, max = 1,
    effect = { spot = 15 } } }
  local spot_id = launch { InstanceMarketOptions = { MarketType = "spot" } }
  local status, text = ask(spot_id, "meta-data/spot/instance-action")
  t.is(status, 200, "there is a notice")
  t.is(json.decode(text).action, "terminate", "what will happen")
  local _, at = ask(spot_id, "meta-data/spot/termination-time")
  t.is(at, json.decode(text).time, "and when")
  t.is(select(2, ask(spot_id, "meta-data/instance-life-cycle")), "spot", "it is a spot machine")
  t.is(ask(id, "meta-data/spot/instance-action", with(token(id))), 404, "no other machine is")
  local s = ec2:describe_spot_instance_requests({}).SpotInstanceRequests[1]
  t.is({ s.State, s.Status.Code }, { "active", "marked-for-termination" }, "the request says so")
  ec2:wait("instance_terminated", { InstanceIds = { spot_id } })
  local reason = ec2:describe_instances({ InstanceIds = { spot_id } }).Reservations[1].Instances[1]
    .StateReason
  t.is(reason.Code, "Server.SpotInstanceTermination", "it ends by the market's wish")
  s = ec2:describe_spot_instance_requests({}).SpotInstanceRequests[1]
  t.is({ s.State, s.Status.Code }, { "closed", "instance-terminated-by-price" }, "as its request")
end)

t.test("it goes with the machine, and comes back with it", function()
  ec2:stop_instances { InstanceIds = { id } }
  ec2:wait("instance_stopped", { InstanceIds = { id } })
  ec2:start_instances { InstanceIds = { id } }
  ec2:wait("instance_running", { InstanceIds = { id } })
  t.is(select(2, ask(id, "meta-data/instance-id", with(token(id)))), id, "after stop and start")
  ec2:terminate_instances { InstanceIds = { id } }
  ec2:wait("instance_terminated", { InstanceIds = { id } })
  t.ok(env.all_end(state), "and ends")
end)

client.stop { state = state }
return t.done()
