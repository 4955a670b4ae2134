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
