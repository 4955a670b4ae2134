-- Real instances through the API, reached with OpenSSH: injected and made host
-- keys, user data, security groups, reboot, power off, stop and start, and
-- nothing left after kill -9 of the daemon.
-- HGAUTO_TEST_IMAGES: directory of built base images (STATE/local/images).
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
if fs.read("/proc/self/status"):match("\nUid:%s+%d+%s+(%d+)") ~= "0" then
  t.skip("instances need root")
elseif not images or not fs.exists(images) then
  t.skip("no base image (hgauto local image build debian13; HGAUTO_TEST_IMAGES=STATE/local/images)")
elseif not proc.which "ssh" then
  t.skip("ssh is missing (apt install openssh-client)")
end

-- The images are linked, not copied, into a state directory of this test.
local state = t.tmpdir() .. "/state"
fs.mkdir(state .. "/local", { parents = true, mode = 448 })
fs.chmod(state, 448)
if not proc.run({ "cp", "-al", images, state .. "/local/images" }, { check = false }).ok then
  fs.remove(state .. "/local/images", { tree = true })
  proc.run { "cp", "-a", images, state .. "/local/images" }
end
if not require("localcloud.images").have(state .. "/local", "debian13") then
  t.skip("HGAUTO_TEST_IMAGES holds no current debian13 (hgauto local image build debian13)")
end

local cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
-- Also when this file breaks off; at its end the daemon has stopped already.
local _d <close> = async.defer(function()
  client.stop { state = state }
end)
local ec2 = aws.client("ec2", { region = cloud.region, endpoint_url = cloud.endpoint_url,
  credentials = { access_key_id = cloud.access_key_id,
    secret_access_key = cloud.secret_access_key } })

local dir = t.tmpdir()
local login = crypto.keypair("ed25519", "test")
login:save(dir .. "/login")
ec2:import_key_pair { KeyName = "test", PublicKeyMaterial = login:public() }
local group = ec2:create_security_group { GroupName = "test", Description = "x" }.GroupId
local SSH_RULE = { { IpProtocol = "tcp", FromPort = 22, ToPort = 22,
  IpRanges = { { CidrIp = "127.0.0.1/32" } } } }
ec2:authorize_security_group_ingress { GroupId = group, IpPermissions = SSH_RULE }
local ami = ec2:describe_images({ Owners = { "136693071363" }, Filters = { { Name = "name",
  Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId

local function launch(user_data, more)
  local params = { ImageId = ami, MinCount = 1, MaxCount = 1, KeyName = "test",
    SecurityGroupIds = { group }, UserData = user_data,
    InstanceInitiatedShutdownBehavior = "terminate" }
  for k, v in pairs(more or {}) do
    params[k] = v
  end
  return ec2:run_instances(params).Instances[1].InstanceId
end

local function describe(id)
  return ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1]
end

local function await(id, name)
  return t.eventually(function()
    local i = describe(id)
    return i.State.Name == name and i
  end, 60)
end

local function console(id)
  return ec2:get_console_output({ InstanceId = id }).Output or ""
end

local function ssh(i, host_key, ...)
  local known = ("%s/known-%s"):format(dir, i.InstanceId)
  local port = "22"
  for _, tag in ipairs(i.Tags or {}) do
    port = tag.Key == "hgauto:ssh-port" and tag.Value or port
  end
  fs.write(known, ("[%s]:%s %s\n%s %s\n"):format(i.PublicIpAddress, port, host_key,
    i.PublicIpAddress, host_key))
  return proc.run({ "ssh", "-F", "none", "-i", dir .. "/login", "-p", port, "-o",
    "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=" .. known, "-o",
    "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o",
    "ConnectTimeout=10", "admin@" .. i.PublicIpAddress, ... }, { check = false, timeout = 60 })
end

local function made_key(id)
  return t.eventually(function()
    return console(id):match("%-%-%-BEGIN SSH HOST KEY KEYS%-%-%-%-%-\n(ssh%-ed25519 %S+)")
  end, 10)
end

t.test("an instance shows the injected host key and its boot commands ran", function()
  local key = crypto.keypair("ed25519", "host")
  local began = time.mono()
  local id = launch("#cloud-config\n" .. json.encode { ssh_deletekeys = true,
    ssh_keys = { ed25519_private = key:private():reveal(), ed25519_public = key:public() },
    bootcmd = json.list { json.list { "sh", "-c", "echo $INSTANCE_ID >/var/tmp/boot" },
      "(setsid sleep 1000 </dev/null >/dev/null 2>&1 &)", "echo from bootcmd" } })
  local i = await(id, "running")
  t.ok(i, "it runs")
  local r = ssh(i, key:public(), "hostname; cat /var/tmp/boot; sudo id -u; pgrep -c sleep")
  t.diag("launch to end of the first command: %.2f s", time.mono() - began)
  t.is(r.out, ("ip-%s\n%s\n0\n1\n"):format(i.PrivateIpAddress:gsub("%.", "-"), id),
    "ssh logs in, sudo works, what bootcmd started lives: " .. r.err)
  t.like(console(id), "from bootcmd", "its output is on the console")
  local wrong = crypto.keypair("ed25519", "other")
  t.is(ssh(i, wrong:public(), "true").code, 255, "another host key is not its")
  local batch = dir .. "/batch"
  fs.write(dir .. "/up", ("x"):rep(100000))
  fs.write(batch, ("put %s/up up\nget up %s/down\n"):format(dir, dir))
  proc.run { "sftp", "-F", "none", "-b", batch, "-i", dir .. "/login", "-o",
    "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" .. dir .. "/known-" .. id,
    "-o", "StrictHostKeyChecking=no", "admin@" .. i.PublicIpAddress }
  t.is(fs.sha256(dir .. "/down"), fs.sha256(dir .. "/up"), "sftp carries a file both ways")
  ec2:revoke_security_group_ingress { GroupId = group, IpPermissions = SSH_RULE }
  t.is(ssh(i, key:public(), "true").code, 255, "without the rule nobody gets in")
  ec2:authorize_security_group_ingress { GroupId = group, IpPermissions = SSH_RULE }
  t.is(ssh(i, key:public(), "true").code, 0, "with it again")
  ssh(i, key:public(), "sudo shutdown -P now")
  i = await(id, "terminated")
  t.ok(i, "power off from inside terminates it")
  t.is(i.StateReason.Code, "Client.InstanceInitiatedShutdown", "and the reason says so")
  t.ok(t.eventually(function()
    return not fs.exists(state .. "/local/instances/" .. id)
  end), "its files are removed")
end)

t.test("without injected keys one is made and printed; scripts run as root", function()
  local id = launch("#!/bin/sh\necho script by $(id -un)\ntouch /var/tmp/script\n",
    { InstanceInitiatedShutdownBehavior = "stop" })
  local i = await(id, "running")
  local key = made_key(id)
  t.ok(key, "the console shows the host key")
  t.ok(t.eventually(function()
    return console(id):find("script by root", 1, true)
  end), "and the script's output")
  t.is(ssh(i, key, "ls /var/tmp/script").code, 0, "the script has run")
  ssh(i, key, "sudo rm /var/tmp/script; sudo reboot")
  t.ok(t.eventually(function()
    local r = ssh(i, key, "true")
    return r.code == 0
  end, 30), "after a reboot it answers again, with the same key and address")
  t.is(ssh(i, key, "ls /var/tmp/script").code, 2, "its disk is the same, the script ran once")
  ec2:stop_instances { InstanceIds = { id } }
  t.ok(await(id, "stopped"), "it is stopped")
  ec2:start_instances { InstanceIds = { id } }
  local again = await(id, "running")
  t.ok(again.PublicIpAddress ~= i.PublicIpAddress, "started, it has another address")
  t.is(again.PrivateIpAddress, i.PrivateIpAddress, "but the same private one")
  t.is(ssh(again, key, "true").code, 0, "and the same key")
  ssh(again, key, "sudo shutdown -P now")
  t.ok(await(id, "stopped"), "power off from inside stops it, as asked")
  ec2:terminate_instances { InstanceIds = { id } }
  t.is(describe(id).State.Name, "terminated", "a stopped one is terminated at once")
end)

t.test("a cloud-config makes users, files and runs commands", function()
  local key = crypto.keypair("ed25519", "host")
  local id = launch("#cloud-config\n" .. json.encode { hostname = "builder",
    ssh_keys = { ed25519_private = key:private():reveal(), ed25519_public = key:public() },
    users = json.list { "default", { name = "ci", groups = "sudo" } },
    write_files = json.list { { path = "/srv/deep/file", content = "text\n", owner = "ci",
      permissions = "0600" } },
    runcmd = json.list { json.list { "sh", "-c", "id -un >/var/tmp/ran" }, "false",
      "echo done by runcmd" }, timezone = "Europe/Berlin", nonsense = 1 })
  local i = await(id, "running")
  t.is(ssh(i, key:public(), "hostname; sudo stat -c '%U %a' /srv/deep/file; id -nG ci").out,
    "builder\nci 600\nci sudo\n", "host name, file and user are there at once")
  t.ok(t.eventually(function()
    return console(id):find("done by runcmd", 1, true)
  end), "its commands ran")
  t.is(ssh(i, key:public(), "cat /var/tmp/ran; readlink /etc/localtime").out,
    "root\n/usr/share/zoneinfo/Europe/Berlin\n", "as root; the zone is set")
  t.like(console(id), "key 'nonsense' is not supported", "what is not known is named")
  ec2:terminate_instances { InstanceIds = { id } }
end)

t.test("an instance can be terminated while it starts", function()
  local id = launch("")
  ec2:terminate_instances { InstanceIds = { id } }
  t.ok(await(id, "terminated"), "it is")
end)

-- Processes below pid, by the parents that /proc names.
local function descendants(pid)
  local parent = {}
  for _, name in ipairs(fs.list "/proc") do
    local ok, text = pcall(fs.read, "/proc/" .. name .. "/stat")
    if ok and name:match("^%d+$") then
      parent[tonumber(name)] = tonumber(text:match("^.*%) %S (%d+)"))
    end
  end
  local out = {}
  for child in pairs(parent) do
    local p = parent[child]
    while p and p > 1 and p ~= pid do
      p = parent[p]
    end
    out[#out + 1] = p == pid and child or nil
  end
  return out
end

-- By name, for the daemon has other children now and then.
local function child_of(pid, name)
  return proc.run({ "pgrep", "-x", "-P", tostring(pid), name }).out:match("%d+")
end

t.test("an instance whose processes are killed is stopped", function()
  local function nothing_below()
    return #descendants(cloud.pid) == 0
  end
  for _, name in ipairs { "keeper", "init" } do
    -- Files of an ended instance are removed by a child, too.
    t.eventually(nothing_below, 30)
    local id = launch("")
    await(id, "running")
    -- The keeper is the daemon's child, the instance's init is the keeper's.
    local keeper = child_of(cloud.pid, "hgauto-keeper")
    proc.run { "kill", "-9", name == "keeper" and keeper or child_of(keeper, "hgauto-init") }
    local i = await(id, "stopped")
    t.ok(i, "after kill -9 of its " .. name)
    t.is(i and i.StateReason.Code, "Server.InternalError", "with a reason")
    t.ok(t.eventually(nothing_below, 10), "and nothing of it lives")
    ec2:terminate_instances { InstanceIds = { id } }
  end
end)

t.test("the commands show and reach an instance", function()
  local function run(...)
    return proc.run({ host.getenv "HGAUTO" or "hgauto", "--state-path", state, "local", ... },
      { check = false, timeout = 60 })
  end
  fs.mkdir(state .. "/keys", { parents = true })
  proc.run { "cp", "-p", dir .. "/login", state .. "/keys/login" }
  local id = launch("")
  local i = await(id, "running")
  t.like(run("ls").out, id .. "  running       " .. i.PublicIpAddress:gsub("%.", "%%."), "ls")
  t.like(run("status").out, "instances  1 running", "status")
  t.is(run("ssh", id:sub(1, 8), "--", "id -un").out, "admin\n", "ssh with the key of our own")
  t.is(run("ssh", id, "--", "exit 7").code, 7, "which passes the exit code on")
  t.like(run("logs", id).out, "BEGIN SSH HOST KEY KEYS", "logs")
  t.is(run("ssh", "i-nope").code, 1, "an unknown instance is an error")
  local all = descendants(cloud.pid)
  t.is(run("down").code, 0, "down")
  t.ok(#all > 0 and #descendants(cloud.pid) == 0 and not fs.exists("/proc/" .. all[1]),
    "ends the instance")
  t.like(run("status").out, "not running", "status says so")
  t.is(run("reap").code, 0, "reap finds nothing to do")
  cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
  ec2 = aws.client("ec2", { region = cloud.region, endpoint_url = cloud.endpoint_url,
    credentials = { access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key } })
  t.is(describe(id).State.Name, "terminated", "the next daemon knows it")
end)

t.test("kill -9 of the daemon leaves nothing", function()
  local rounds = tonumber(host.getenv "HGAUTO_KILL9_ROUNDS") or 10
  local mounts = fs.read "/proc/self/mounts"
  for round = 1, rounds do
    local ids = { launch(""), launch("#!/bin/sh\nsetsid sleep 1000 &\nsleep 1000\n") }
    if round % 2 == 0 then
      for _, id in ipairs(ids) do
        await(id, "running")
      end
    end
    local all = descendants(cloud.pid)
    proc.run { "kill", "-9", tostring(cloud.pid) }
    local left = {}
    t.eventually(function()
      left = {}
      for _, pid in ipairs(all) do
        local ok, text = pcall(fs.read, ("/proc/%d/stat"):format(pid))
        left[#left + 1] = ok and not text:match("%) Z ") and pid or nil
      end
      return #left == 0
    end, 2)
    t.is(left, {}, ("round %d: none of %d processes is left"):format(round, #all))
    cloud = client.ensure { state = state, listen = "127.0.0.1:0" }
    ec2 = aws.client("ec2", { region = cloud.region, endpoint_url = cloud.endpoint_url,
      credentials = { access_key_id = cloud.access_key_id,
        secret_access_key = cloud.secret_access_key } })
    for _, id in ipairs(ids) do
      t.is(describe(id).State.Name, "terminated", "the next daemon knows that it ended")
    end
  end
  t.is(fs.read "/proc/self/mounts", mounts, "no mount is left")
  t.is(fs.list(state .. "/local/instances"), {}, "no files either")
end)

client.stop { state = state }
return t.done()
