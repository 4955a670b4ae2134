-- Times of the local cloud with real instances: the call, the machine running,
-- the login by our own client, the termination.  Medians of HGAUTO_ROUNDS (30).
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local client = require "localcloud.client"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

local images = host.getenv "HGAUTO_TEST_IMAGES"
if fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+(%d+)") ~= "0" or not images then
  t.skip("needs root and HGAUTO_TEST_IMAGES=STATE/local/images with a built debian13")
end
local ssh = require "hgauto.ssh"
local rounds = tonumber(host.getenv "HGAUTO_ROUNDS") or 30

local state = t.tmpdir() .. "/state"
fs.mkdir(state .. "/local", { parents = true, mode = 448 })
if not proc.run({ "cp", "-al", images, state .. "/local/images" }, { check = false }).ok then
  fs.remove(state .. "/local/images", { tree = true })
  proc.run { "cp", "-a", images, state .. "/local/images" }
end
if not require("localcloud.images").have(state .. "/local", "debian13") then
  t.skip("HGAUTO_TEST_IMAGES holds no current debian13 (hgauto local image build debian13)")
end
local cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
local _d <close> = async.defer(function()
  client.stop { state = state }
end)
local ec2 = aws.client("ec2", { region = cloud.region, endpoint_url = cloud.endpoint_url,
  credentials = { access_key_id = cloud.access_key_id,
    secret_access_key = cloud.secret_access_key } })
local login = crypto.keypair("ed25519", "bench")
ec2:import_key_pair { KeyName = "bench", PublicKeyMaterial = login:public() }
local group = ec2:create_security_group { GroupName = "bench", Description = "x" }.GroupId
ec2:authorize_security_group_ingress { GroupId = group, IpPermissions = { { IpProtocol = "tcp",
  FromPort = 22, ToPort = 22, IpRanges = { { CidrIp = "127.0.0.1/32" } } } } }
local ami = ec2:describe_images({ Filters = { { Name = "name",
  Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId

local seconds = { call = {}, running = {}, login = {}, ended = {} }

local function round()
  local key = crypto.keypair("ed25519", "host")
  local data = "#cloud-config\n" .. json.encode { ssh_keys = { ed25519_public = key:public(),
    ed25519_private = key:private():reveal() } }
  local began = time.mono()
  local function note(name)
    local list = seconds[name]
    list[#list + 1] = time.mono() - began
  end
  local id = ec2:run_instances({ ImageId = ami, MinCount = 1, MaxCount = 1, KeyName = "bench",
    SecurityGroupIds = { group }, UserData = data }).Instances[1].InstanceId
  note "call"
  local i = ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1]
  note "running"
  local s = ssh.wait_ready(i.PublicIpAddress, { user = "admin", keys = { login }, agent = false,
    host_key = { key:public() }, delay = 0.02, for_seconds = 20 })
  s:exec "true"
  note "login"
  s:close()
  began = time.mono()
  ec2:terminate_instances { InstanceIds = { id } }
  ec2:wait("instance_terminated", { InstanceIds = { id } }, { delay = 1 })
  note "ended"
end

for _ = 1, rounds do
  round()
end
local function at(list, q)
  table.sort(list)
  return list[math.max(1, math.ceil(#list * q))] * 1000
end
local function show(name, text)
  t.diag("%-34s p50 %6.0f ms   p95 %6.0f ms", text, at(seconds[name], 0.5), at(seconds[name], 0.95))
end
t.diag("%d rounds", rounds)
show("call", "RunInstances answered")
show("running", "instance running")
show("login", "first command ended (bar 800, 2000)")
show("ended", "terminated (bar 300)")
t.ok(at(seconds.login, 0.5) <= 800, "RunInstances to login within 0.8 s (median)")
client.stop { state = state }
return t.done()
