-- hgauto.aws.model: shapes as tables, signatures from the server's side.
local t = require "hg.tap"
local model = require "hgauto.aws.model"

t.test("services and their operations", function()
  local ec2 = model.service("ec2")
  t.is(ec2.protocol, "ec2", "protocol")
  t.is(ec2.api_version, "2016-11-15", "API version")
  t.is(ec2.signing_name, "ec2", "signing name")
  t.ok(rawequal(ec2, model.service("ec2")), "one table per service")
  local names = ec2.operations()
  t.ok(#names > 500, "hundreds of operations")
  t.ok(names[1] < names[2], "sorted")
  t.is(ec2.op("run_instances").name, "RunInstances", "found by its snake_case name")
  t.is(ec2.op("RunInstances").repeat_class, "idempotent", "a token makes it repeatable")
  local found = {}
  for _, name in ipairs(model.services()) do
    found[name] = true
  end
  t.ok(found.ec2 and found.iam and found.sts and found.ssm, "services are listed")
  t.raises(function() model.service("ec3") end, { kind = "usage", match = "did you mean ec2" },
    "unknown service")
  t.raises(function() ec2.op("RunInstance") end, { kind = "usage", match = "RunInstances" },
    "unknown operation")
end)

local function member(shape, name)
  for _, m in ipairs(shape.members) do
    if m.name == name then
      return m
    end
  end
end

t.test("shapes", function()
  local ec2 = model.service("ec2")
  local op = ec2.op("RunInstances")
  t.is(op.input.type, "structure", "the input is a structure")
  local m = member(op.input, "MinCount")
  t.ok(m.required, "required members are marked")
  t.is(m.shape.type, "integer", "a member's shape is looked up when read")
  t.is(m.nothing, nil, "other keys are nil")
  local tags = member(op.input, "TagSpecifications")
  t.is(tags.query, "TagSpecification", "name in requests")
  t.is(tags.shape.type, "list", "a list")
  t.is(tags.shape.member.shape.type, "structure", "of structures")
  t.ok(rawequal(tags.shape, ec2.shape(tags.shape.name)), "one table per shape")
  local out = member(op.output, "Instances")
  t.is(out.wire, "instancesSet", "name in results")
  t.is(out.shape.member.wire, "item", "name of an element")
  local kind = member(op.input, "InstanceType").shape
  t.ok(#kind.enum > 100, "enum values")
  t.is(ec2.shape("Nope"), nil, "no such shape")
  local iam = model.service("iam")
  t.is(iam.op("CreateRole").output.result_wrapper, "CreateRoleResult", "result wrapper")
  local codes = {}
  for _, e in ipairs(iam.op("CreateRole").errors) do
    codes[e.code] = e.status
  end
  t.is(codes.EntityAlreadyExists, 409, "errors with code and status")
end)

t.test("what else an operation is", function()
  local aws = require "hgauto.aws"
  local op = aws.describe("ec2", "describe-instances")
  t.is(op.snake, "describe_instances", "its method")
  t.is(op.paginator.input_token[1], "NextToken", "where the token goes")
  t.is(op.paginator.result_key[1], "Reservations", "what pages hold")
  t.is(op.paginator.limit_key, "MaxResults", "what limits a page")
  t.is(aws.describe("ec2", "RunInstances").paginator, nil, "no pages")
  local get = aws.describe("s3", "GetObject")
  t.is(member(get.input, "Bucket").location, "uri", "place of a member in the request")
  t.is(member(get.input, "Range").location, "header", "a header")
  t.is(member(get.output, "Body").location, nil, "the body")
  t.ok(aws.describe("sts", "AssumeRoleWithWebIdentity").unsigned, "not signed")
  t.ok(#aws.operations("iam") > 150, "names of operations")
  t.is(aws.operations("sts")[1], "assume_role", "in snake_case, sorted")
  t.raises(function() aws.describe("ec2", "DescribeInstance") end,
    { kind = "usage", match = "DescribeInstances" }, "a misspelt operation")
end)

t.test("models of users", function()
  local aws = require "hgauto.aws"
  local fs = require "hgauto.fs"
  local host = require "hgauto.host"
  local json = require "hgauto.json"
  local dir = t.tmpdir()
  fs.mkdir(dir .. "/mine/2020-01-01", { parents = true })
  fs.write(dir .. "/mine/2020-01-01/service-2.json", json.encode {
    metadata = {
      apiVersion = "2020-01-01", protocol = "json", jsonVersion = "1.1", endpointPrefix = "mine",
      serviceId = "Mine", targetPrefix = "Mine",
    },
    operations = {
      GetThing = {
        name = "GetThing", http = { method = "POST", requestUri = "/" }, input = { shape = "In" },
      },
    },
    shapes = {
      In = { type = "structure", required = { "Name" }, members = { Name = { shape = "S" } } },
      S = { type = "string" },
    },
  })
  host.setenv("AWS_DATA_PATH", dir)
  aws.model_cache(dir .. "/cache/models")
  local found = false
  for _, name in ipairs(aws.services()) do
    found = found or name == "mine"
  end
  t.ok(found, "a service of a model directory is listed")
  t.is(aws.operations("mine")[1], "get_thing", "it has its operations")
  t.is(#fs.list(dir .. "/cache/models"), 1, "the compiled model is kept")
  local c = aws.client("mine", {
    region = "us-west-2",
    credentials = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "x" },
  })
  t.is(c.meta.endpoint, "https://mine.us-west-2.amazonaws.com", "where it would be")
  t.raises(function() c:get_thing {} end, { kind = "usage", code = "ParamValidation" },
    "its parameters are checked")
  t.raises(function() aws.client "mien" end, { kind = "usage", match = "did you mean mine" },
    "its name is suggested")
  host.setenv("AWS_DATA_PATH", nil)
end)

t.test("waiters", function()
  local aws = require "hgauto.aws"
  local w = model.service("ec2").waiter("instance_stopped")
  t.is(w.name, "InstanceStopped", "found by its snake_case name")
  t.is(w.operation, "DescribeInstances", "what it polls")
  t.is(w.delay, 15, "how often")
  t.is(w.max_attempts, 40, "how many times")
  t.is(w.acceptors[1].matcher, "pathAll", "a condition")
  t.is(w.acceptors[1].expected, "stopped", "its value")
  t.is(w.acceptors[1].state, "success", "what it means")
  t.is(model.service("iam").waiters()[1], "InstanceProfileExists", "their names")
  t.is(aws.waiters("iam")[1], "instance_profile_exists", "in snake_case")
  t.raises(function() model.service("ec2").waiter("instance_stoped") end,
    { kind = "usage", match = "did you mean instance_stopped" }, "a misspelt waiter")
end)

t.test("signatures", function()
  -- The example of the service's documentation ("GET ListUsers").
  local req = {
    method = "GET", path = "/", query = "Action=ListUsers&Version=2010-05-08",
    headers = { { "Host", "iam.amazonaws.com" },
      { "Content-Type", "application/x-www-form-urlencoded; charset=utf-8" },
      { "X-Amz-Date", "20150830T123600Z" }, { "User-Agent", "x" } },
    signed_headers = "content-type;host;x-amz-date",
    payload_hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    date = "20150830T123600Z", region = "us-east-1", service = "iam",
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
  }
  local r = model.sigv4(req)
  t.is(r.signature, "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    "the documented signature")
  t.like(r.canonical, "^GET\n/\nAction=ListUsers&Version=2010%-05%-08\ncontent%-type:",
    "the canonical request")
  req.secret = nil
  t.is(model.sigv4(req).signature, nil, "no secret, no signature")
  req.headers = { "x" }
  t.raises(function() model.sigv4(req) end, { kind = "usage", match = "name, value" },
    "headers of another form")
  t.raises(function() model.sigv4 { methd = "GET" } end, { kind = "usage", match = "method" },
    "unknown option")
  local claim = model.sigv4_parse("AWS4-HMAC-SHA256 Credential=AK/20150830/r/s/aws4_request, "
    .. "SignedHeaders=host, Signature=" .. ("0"):rep(64))
  t.is(claim.access_key, "AK", "who claims to have signed")
  t.is(claim.signed_headers, "host", "and what")
  t.is(model.sigv4_parse(nil, "Action=X"), nil, "nothing is signed")
  t.raises(function() model.sigv4_parse("AWS4-HMAC-SHA256 x") end,
    { kind = "auth", code = "IncompleteSignature" }, "a claim that is not whole")
end)

return t.done()
