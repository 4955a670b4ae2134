-- Faults of the local cloud as our own client meets them (api-only).
local t = require "hg.tap"
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local client = require "localcloud.client"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local http = require "hgauto.http"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

local state = t.tmpdir() .. "/state"
local cloud = client.ensure { state = state, api_only = true, listen = "127.0.0.1:0" }
local _d <close> = async.defer(function()
  client.stop { state = state }
end)

local function connect(service, attempts)
  return aws.client(service, { region = cloud.region, endpoint_url = cloud.endpoint_url,
    max_attempts = attempts, credentials = { access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key } })
end

local ec2, once = connect("ec2", 4), connect("ec2", 1)
local ami = ec2:describe_images({ Owners = { "136693071363" }, Filters = { { Name = "name",
  Values = { "debian-13-amd64-*" } } } }).Images[1].ImageId

local function fault(rule)
  client.clear_faults { state = state }
  return client.add_faults { state = state, rules = rule }[1]
end

local function hits()
  return client.faults({ state = state })[1].hits
end

local function launch(c)
  return (c or ec2):run_instances({ ImageId = ami, MinCount = 1, MaxCount = 1 }).Instances[1]
    .InstanceId
end

local function instances()
  local n = 0
  for _, r in ipairs(ec2:describe_instances({}).Reservations) do
    n = n + #r.Instances
  end
  return n
end

t.test("a reset after the effect makes one instance, at the second attempt", function()
  local before = instances()
  fault { match = { action = "RunInstances" }, when = "after", first = 1, effect = { rst = true } }
  launch()
  t.is(instances(), before + 1, "one instance")
  t.is(hits(), 1, "the rule acted")
  t.is(client.faults({ state = state })[1].seen, 2, "two attempts were made")
end)

t.test("requests that die before their effect have none", function()
  for _, effect in ipairs { "fin", "rst" } do
    local before = instances()
    fault { match = { action = "RunInstances" }, when = "before",
      effect = { [effect] = true } }
    t.raises(function()
      launch(once)
    end, { kind = "net" }, effect .. " is an error of the network")
    client.clear_faults { state = state }
    t.is(instances(), before, "nothing was started")
  end
end)

t.test("throttling is waited out, in each protocol's words", function()
  fault { first = 2, effect = { throttle = true } }
  t.ok(ec2:describe_regions({}).Regions, "by retries")
  for service, code in pairs { ec2 = "RequestLimitExceeded", iam = "Throttling",
    ssm = "ThrottlingException" } do
    fault { effect = { throttle = true } }
    local op = { ec2 = "describe_regions", iam = "list_roles", ssm = "list_commands" }
    local c = connect(service, 1)
    t.raises(function()
      c[op[service]](c, {})
    end, { kind = "aws", code = code }, service)
  end
  fault { effect = { throttle = { rate = 0.001, burst = 2 } } }
  once:describe_regions {}
  once:describe_regions {}
  t.raises(function()
    once:describe_regions {}
  end, { code = "RequestLimitExceeded" }, "a bucket of two is empty at the third")
end)

t.test("errors of any kind", function()
  fault { match = { action = "DescribeVpcs" }, effect = { error = { code = "Teapot",
    message = "short and stout", status = 418 } } }
  t.raises(function()
    once:describe_vpcs {}
  end, { kind = "aws", code = "Teapot", match = "short and stout" }, "code and text")
  t.ok(once:describe_regions {}, "of that operation only")
  fault { first = 1, effect = { error = { code = "X", status = 503, body = "html" } } }
  t.ok(ec2:describe_regions({}).Regions, "HTML with 503 is tried again")
  fault { effect = { capacity = true } }
  t.raises(function()
    launch(once)
  end, { code = "InsufficientInstanceCapacity" }, "no capacity")
  fault { effect = { expire = true } }
  t.raises(function()
    once:describe_regions {}
  end, { code = "RequestExpired" }, "an expired token")
  fault { effect = { deny = true } }
  local e = t.raises(function()
    launch(once)
  end, { code = "UnauthorizedOperation" }, "not allowed")
  client.clear_faults { state = state }
  local text = e.message:match("message: (%S+)")
  t.is(json.decode(connect("sts"):decode_authorization_message({ EncodedMessage = text })
    .DecodedMessage).context.action, "ec2:RunInstances", "and its message can be decoded")
end)

t.test("a patient client waits as long as its call may take", function()
  local function client_of(timeout)
    return aws.client("ec2", { region = cloud.region, endpoint_url = cloud.endpoint_url,
      max_attempts = 2, patient = true, timeout = timeout, credentials = {
        access_key_id = cloud.access_key_id, secret_access_key = cloud.secret_access_key } })
  end
  local before = instances()
  fault { match = { action = "RunInstances" }, first = 4, effect = { throttle = true } }
  launch(client_of(120))
  t.is(client.faults({ state = state })[1].seen, 5, "four refusals are no attempts")
  t.is(instances(), before + 1, "one instance")
  fault { effect = { throttle = true } }
  local c = client_of(2)
  local e = t.raises(function()
    c:describe_regions {}
  end, { kind = "aws", code = "RequestLimitExceeded" }, "then it gives up")
  t.is(e and e.throttling, true, "and says why")
  fault { effect = { error = { code = "InternalError", status = 500 } } }
  t.raises(function()
    c:describe_regions {}
  end, { kind = "aws", code = "InternalError" }, "other failures count")
  t.is(client.faults({ state = state })[1].seen, 2, "as attempts")
end)

t.test("answers that arrive damaged are not taken for good", function()
  for _, effect in ipairs { { truncate = 100 }, { garble = "html" }, { garble = "root" },
    { garble = "empty" }, { garble = "nul" }, { garble = "status" }, { garble = "chunk" },
    { garble = "length" }, { garble = "headers" } } do
    fault { effect = effect }
    local ok, e = pcall(once.describe_regions, once, {})
    t.ok(not ok and (e.kind == "net" or e.kind == "protocol" or e.kind == "aws"),
      json.encode(effect) .. ": " .. (ok and "taken" or e.kind))
  end
end)

t.test("slow and stalled answers", function()
  fault { effect = { latency = 0.3 } }
  local began = time.mono()
  once:describe_regions {}
  t.ok(time.mono() - began >= 0.3, "latency")
  fault { match = { action = "DescribeVpcs" }, effect = { slow = 4000 } }
  began = time.mono()
  t.is(#once:describe_vpcs({}).Vpcs, 1, "a slow answer arrives whole")
  t.ok(time.mono() - began > 0.1, "slowly")
  fault { effect = { stall = true } }
  t.raises(function()
    async.timeout(0.5, function()
      once:describe_regions {}
    end)
  end, { kind = "timeout" }, "a stalled one not at all")
end)

t.test("what was made is seen late", function()
  fault { match = { action = "CreateSecurityGroup" }, effect = { eventual = { describes = 2 } } }
  local id = ec2:create_security_group({ GroupName = "late", Description = "x" }).GroupId
  -- Our client asks again for what it has just made.
  t.is(ec2:describe_security_groups({ GroupIds = { id } }).SecurityGroups[1].GroupName, "late",
    "it is found in the end")
  local _, refused = fs.read(state .. "/local/requests.jsonl"):gsub('"fault":"eventual"', "")
  t.is(refused, 2, "after two refusals")
  fault { match = { action = "RunInstances" }, effect = { eventual = { seconds = 0.5 } } }
  local before = instances()
  launch()
  t.is(instances(), before, "a new instance is not listed")
  t.ok(t.eventually(function()
    return instances() == before + 1
  end), "until its time has come")
end)

t.test("machines die", function()
  fault { first = 1, effect = { terminate = true } }
  local id = launch()
  local i = ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1]
  t.is({ i.State.Name, i.StateReason.Code }, { "terminated", "Server.InternalError" },
    "while they start")
  fault { first = 1, effect = { kill = 0.1 } }
  id = launch()
  t.ok(t.eventually(function()
    return ec2:describe_instances({ InstanceIds = { id } }).Reservations[1].Instances[1].State
      .Name == "stopped"
  end), "while they run")
  fault { first = 1, effect = { impaired = true } }
  id = launch()
  ec2:wait("instance_running", { InstanceIds = { id } }, { timeout = 10 })
  t.is(ec2:describe_instance_status({ InstanceIds = { id } }).InstanceStatuses[1].InstanceStatus
    .Status, "impaired", "or are not well")
end)

t.test("the clock of the service can be wrong", function()
  fault { effect = { clock = 3600 } }
  t.raises(function()
    once:describe_regions {}
  end, { code = "AuthFailure" }, "signatures are too old then")
  client.clear_faults { state = state }
  t.ok(once:describe_regions {}, "until the rule is gone")
end)

t.test("the commands add, show and remove rules, and show requests", function()
  local function run(...)
    return proc.run({ host.getenv "HGAUTO" or "hgauto", "--state-path", state, "local", ... },
      { check = false, timeout = 30 })
  end
  client.clear_faults { state = state }
  local rule = '{"id":"r","match":{"action":"DescribeVpcs"},"first":1,"effect":{"throttle":true}}'
  t.is(run("fault", "add", rule).out, "r\n", "fault add tells the id")
  t.is(run("fault", "add", rule).code, 2, "which is there once")
  t.is(run("fault", "add", "{").code, 2, "no JSON is an error of use")
  t.like(run("fault", "add", '{"effect":{"nope":1}}').err, "unknown effect", "with a sentence")
  pcall(once.describe_vpcs, once, {})
  t.like(run("fault", "ls").out, "r +before +1 of +1", "fault ls")
  t.like(run("requests").out, "DescribeVpcs +503 +%d+ ms  RequestLimitExceeded  fault r",
    "requests names the rule")
  fs.write(state .. "/rules", "[" .. rule:gsub('"r"', '"s"') .. "]")
  t.is(run("fault", "load", state .. "/rules").out, "s\n", "fault load")
  t.is(run("fault", "clear", "s").code, 0, "fault clear one")
  t.is(run("fault", "clear", "s").code, 1, "which is gone then")
  t.is(run("fault", "clear").code, 0, "fault clear")
  t.is(#client.faults { state = state }, 0, "all are gone")
  local r = http.request { method = "POST", url = "http://localhost/_hgauto/faults",
    unix = state .. "/local/ctl.sock", body = "[" }
  t.is(r.status, 400, "the control socket refuses nonsense")
end)

client.stop { state = state }
return t.done()
