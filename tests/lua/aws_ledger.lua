-- Creating calls and the ledger: intent before the request, what comes after,
-- tags and tokens, refusals (reliability specification, sections 2.4 to 2.9).
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local state = require "hgauto.state"
local t = require "hg.tap"

local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "wJalr-canary-secret" }
host.setenv("HOME", t.tmpdir())
host.setenv("HGAUTO_RETRY_SEED", "1")

local dir = t.tmpdir()
local st = state.open(dir .. "/state", { create = true })
local run = st:run("test")
local led = st:ledger()
led:begin_run(run.id, "test")

local handler, seen, rows_at_request
local server = httpd.new {
  on_request = function(req)
    local f = {}
    for k, v in req.body:gmatch("([^&=]+)=([^&]*)") do
      f[k] = v:gsub("%%(%x%x)", function(h)
        return string.char(tonumber(h, 16))
      end)
    end
    if f.Action == "GetCallerIdentity" then
      req:respond { body = "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>"
        .. "123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>" }
      return
    end
    seen[#seen + 1] = f
    rows_at_request[#rows_at_request + 1] = led:list { run = run.id }
    handler(req, f, #seen)
  end,
}
local url = "http://127.0.0.1:" .. server:listen { host = "127.0.0.1" }
local ec2 = aws.client("ec2", { region = "us-west-2", endpoint_url = url, credentials = CREDS })
local iam = aws.client("iam", { region = "us-west-2", endpoint_url = url, credentials = CREDS })

local function attach()
  aws.ledger(led, run.id, function(identity)
    return led:place {
      partition = "aws", account = identity().Account, region = "us-west-2", endpoint = url,
    }
  end)
end

local function with(fn, body)
  handler, seen, rows_at_request = fn, {}, {}
  return body()
end

local function launched(ids)
  return function(req, f)
    local items = ""
    for _, id in ipairs(ids) do
      items = items .. "<item><instanceId>" .. id .. "</instanceId><clientToken>" .. f.ClientToken
        .. "</clientToken></item>"
    end
    req:respond { body = "<RunInstancesResponse><instancesSet>" .. items
      .. "</instancesSet></RunInstancesResponse>" }
  end
end

local LAUNCH = { ImageId = "ami-1", MinCount = 1, MaxCount = 1 }

local function tags_of(f, n)
  local out = {}
  for i = 1, 20 do
    local key = f[("TagSpecification.%d.Tag.%d.Key"):format(n, i)]
    if key then
      out[key] = f[("TagSpecification.%d.Tag.%d.Value"):format(n, i)]
    end
  end
  return out
end

t.test("without a ledger nothing is added", function()
  with(launched { "i-0123456789abcdef0" }, function()
    ec2:run_instances(LAUNCH)
    t.is(seen[1]["TagSpecification.1.ResourceType"], nil, "no tags")
  end)
end)

attach()

t.test("a launch", function()
  with(launched { "i-0123456789abcdef0" }, function()
    local r = ec2:run_instances({
      ImageId = "ami-1", MinCount = 1, MaxCount = 1,
      TagSpecifications = {
        { ResourceType = "instance", Tags = { { Key = "Name", Value = "hg-x" } } },
      },
    }, { expires = 1767225600 })
    local op = aws.meta(r).op
    t.like(op, "^%x+$", "has an op id")
    t.is(#op, 32, "of 32 digits")
    local before = rows_at_request[1][1]
    t.is(before.op, op, "was in the ledger when the request arrived")
    t.is(before.state, "intent", "as intent")
    t.is(before.kind, "instance", "its kind")
    t.is(before.cls, "ephemeral", "its class")
    t.is(before.name, "hg-x", "its name")
    t.is(before.token, op, "its token")
    t.is(before.account, "123456789012", "its account")
    t.is(before.endpoint, url, "its endpoint")
    t.is(#before.req, 64, "a hash of the request")
    t.is(before.expires, 1767225600, "when it expires")
    t.is(seen[1].ClientToken, op, "the request carries the token")
    local tags = tags_of(seen[1], 1)
    t.is(seen[1]["TagSpecification.1.ResourceType"], "instance", "the caller's tags stay")
    t.is(tags, {
      Name = "hg-x", ["hgauto:v"] = "1", ["hgauto:state"] = st.sid, ["hgauto:run"] = run.id,
      ["hgauto:op"] = op, ["hgauto:class"] = "ephemeral",
      ["hgauto:expires"] = "2026-01-01T00:00:00Z",
    }, "with ours")
    t.is(seen[1]["TagSpecification.2.ResourceType"], "volume", "volumes are tagged")
    t.is(seen[1]["TagSpecification.3.ResourceType"], "network-interface", "interfaces, too")
    t.is(tags_of(seen[1], 3)["hgauto:op"], op, "with the same op")
    local row = led:get(op)
    t.is(row.state, "live", "afterwards it is live")
    t.is(row.id, "i-0123456789abcdef0", "with its id")
  end)
end)

t.test("several instances", function()
  with(launched { "i-0000000000000000a", "i-0000000000000000b" }, function()
    local op = aws.meta(ec2:run_instances { ImageId = "ami-1", MinCount = 2, MaxCount = 2 }).op
    t.is(led:get(op).id, "i-0000000000000000a", "the first is the op's")
    local kids = led:list { parent = op }
    t.is(#kids, 1, "the others are its children")
    t.is(kids[1].id, "i-0000000000000000b", "each with its id")
  end)
end)

t.test("keep and a token of the caller's", function()
  with(launched { "i-0123456789abcdef1" }, function()
    local op = aws.meta(ec2:run_instances({
      ImageId = "ami-1", MinCount = 1, MaxCount = 1, ClientToken = "mine",
    }, { keep = true })).op
    t.is(led:get(op).cls, "durable", "keep makes it durable")
    t.is(led:get(op).expires, nil, "without an end")
    t.is(led:get(op).token, "mine", "the caller's token is kept")
    t.is(seen[1].ClientToken, "mine", "and sent")
    t.is(tags_of(seen[1], 1)["hgauto:expires"], nil, "no tag of an end")
  end)
end)

t.test("a refusal", function()
  with(function(req)
    req:respond { status = 400, body = "<Response><Errors><Error><Code>InvalidAMIID.Malformed"
      .. "</Code><Message>no</Message></Error></Errors></Response>" }
  end, function()
    local e = t.raises(function()
      ec2:run_instances(LAUNCH)
    end, { kind = "aws", code = "InvalidAMIID.Malformed" }, "is raised")
    t.is(led:get(e.op).state, "absent", "nothing came of it")
    t.like(led:get(e.op).error, "InvalidAMIID.Malformed", "the reason is kept")
  end)
end)

t.test("an answer that never comes", function()
  with(function(req)
    req:abort("rst")
  end, function()
    local e = t.raises(function()
      ec2:run_instances(LAUNCH)
    end, { kind = "net" }, "is raised")
    t.is(e.ambiguous, true, "as ambiguous")
    -- One more when a kept connection died under the first.
    t.ok(#seen == 3 or #seen == 4, "after three attempts")
    t.is(seen[1].ClientToken, seen[#seen].ClientToken, "with one token")
    t.is(led:get(e.op).state, "unknown", "it may exist")
  end)
end)

t.test("nobody listens", function()
  local nobody = aws.client("ec2", {
    region = "us-west-2", endpoint_url = "http://127.0.0.1:1", credentials = CREDS,
  })
  aws.ledger(led, run.id, function()
    return led:place { partition = "aws", account = "1", region = "us-west-2", endpoint = "x" }
  end)
  local e = t.raises(function()
    nobody:run_instances(LAUNCH)
  end, { kind = "net" }, "is raised")
  t.is(led:get(e.op).state, "absent", "nothing was sent")
  attach()
end)

t.test("a success that cannot be believed", function()
  with(launched { "not-an-id" }, function()
    local e = t.raises(function()
      ec2:run_instances(LAUNCH)
    end, { kind = "protocol" }, "a malformed id")
    t.is(e.ambiguous, true, "may have worked")
    t.is(led:get(e.op).state, "unknown", "so it may exist")
  end)
  with(function(req)
    req:respond { body = "<RunInstancesResponse><instancesSet><item><instanceId>"
      .. "i-0123456789abcdef0</instanceId><clientToken>other</clientToken></item></instancesSet>"
      .. "</RunInstancesResponse>" }
  end, function()
    t.raises(function()
      ec2:run_instances(LAUNCH)
    end, { kind = "protocol", match = "ClientToken" }, "somebody else's token")
  end)
end)

t.test("cancelled in flight", function()
  with(function(req)
    while not req:gone() do
      async.sleep(0.01)
    end
  end, function()
    t.raises(function()
      async.timeout(0.3, function()
        ec2:run_instances(LAUNCH)
      end)
    end, { kind = "timeout" }, "a timeout around the call")
    t.is(led:get(rows_at_request[1][#rows_at_request[1]].op).state, "unknown", "it may exist")
  end)
end)

t.test("named things", function()
  with(function(req)
    req:respond { body = "<ImportKeyPairResponse><keyName>hg-k</keyName>"
      .. "<keyPairId>key-0123456789abcdef0</keyPairId></ImportKeyPairResponse>" }
  end, function()
    local op = aws.meta(ec2:import_key_pair {
      KeyName = "hg-k", PublicKeyMaterial = "ssh-ed25519 A",
    }).op
    t.is(led:get(op).name, "hg-k", "have their name in the ledger")
    t.is(led:get(op).cls, "durable", "and last")
    t.is(seen[1]["TagSpecification.1.ResourceType"], "key-pair", "and tags")
    t.is(seen[1].ClientToken, nil, "but no token")
  end)
  with(function(req)
    req:respond { body = "<CreateRoleResponse><CreateRoleResult><Role><Path>/hgauto/</Path>"
      .. "<RoleName>hg-r</RoleName><RoleId>R</RoleId><Arn>a</Arn><CreateDate>2026-01-01T00:00:00Z"
      .. "</CreateDate></Role></CreateRoleResult></CreateRoleResponse>" }
  end, function()
    local op = aws.meta(iam:create_role { RoleName = "hg-r", AssumeRolePolicyDocument = "{}" }).op
    t.is(led:get(op).id, "hg-r", "a role's id is its name")
    t.is(seen[1].Path, "/hgauto/", "roles have our path")
    t.is(seen[1]["Tags.member.1.Key"], "hgauto:v", "and our tags")
  end)
end)

t.test("tags of ours are refused", function()
  with(launched { "i-0123456789abcdef0" }, function()
    t.raises(function()
      ec2:run_instances { ImageId = "ami-1", MinCount = 1, MaxCount = 1, TagSpecifications = {
        { ResourceType = "instance", Tags = { { Key = "hgauto:run", Value = "x" } } } } }
    end, { kind = "usage", match = "hgauto:run" }, "from callers")
    t.is(#seen, 0, "nothing was sent")
  end)
end)

t.test("a dry run and a read are not recorded", function()
  local n = #led:list { run = run.id }
  with(function(req, f)
    if f.DryRun then
      req:respond { status = 412, body = "<Response><Errors><Error><Code>DryRunOperation</Code>"
        .. "<Message>fine</Message></Error></Errors></Response>" }
    else
      req:respond { body = "<DescribeInstancesResponse></DescribeInstancesResponse>" }
    end
  end, function()
    t.ok(ec2:dry_run("run_instances", LAUNCH), "dry run")
    ec2:describe_instances()
  end)
  t.is(#led:list { run = run.id }, n, "no new rows")
end)

t.test("a ledger that cannot write", function()
  with(launched { "i-0123456789abcdef0" }, function()
    aws.ledger(led, "no-such-place", function()
      return 999999
    end)
    t.raises(function()
      ec2:run_instances(LAUNCH)
    end, {}, "stops the call")
    t.is(#seen, 0, "before anything is sent")
  end)
end)

aws.ledger(nil)
server:close()
run:finish()
return t.done()
