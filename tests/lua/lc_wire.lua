-- Codecs of the local cloud against the embedded API models: requests in the
-- forms that clients send, answers as EC2 and STS write them.
local t = require "hg.tap"
local errors = require "localcloud.errors"
local model = require "hgauto.aws.model"
local wire = require "localcloud.wire"

local ec2, sts = model.service "ec2", model.service "sts"

local function decode(name, form)
  return wire.decode(ec2.op(name), wire.parse_form(form), "ec2")
end

t.test("forms are split and unescaped", function()
  t.is(wire.parse_form "a=1&b=x%20y+z&c=&d", { { "a", "1" }, { "b", "x y z" }, { "c", "" },
    { "d", "" } }, "pairs in order")
  t.is(wire.parse_form "%41%3d=%26=", { { "A=", "&=" } }, "names too; the first = splits")
  t.is(wire.parse_form "", {}, "nothing is no pair")
end)

t.test("nested structures and lists are read", function()
  t.is(decode("DescribeInstances", "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1"
    .. "&InstanceId.2=i-2&Filter.1.Name=a&Filter.1.Value.1=x&Filter.1.Value.2=y&MaxResults=7"
    .. "&DryRun=true"), { InstanceIds = { "i-1", "i-2" }, MaxResults = 7, DryRun = true,
    Filters = { { Name = "a", Values = { "x", "y" } } } }, "DescribeInstances")
  t.is(decode("RunInstances", "ImageId=ami-1&MinCount=1&MaxCount=2&SecurityGroupId.1=sg-1"
    .. "&BlockDeviceMapping.1.DeviceName=%2Fdev%2Fxvda&BlockDeviceMapping.1.Ebs.VolumeSize=16"
    .. "&BlockDeviceMapping.1.Ebs.Encrypted=false&TagSpecification.1.ResourceType=instance"
    .. "&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=&ClientToken=t"
    .. "&MetadataOptions.HttpTokens=required"),
    { ImageId = "ami-1", MinCount = 1, MaxCount = 2, SecurityGroupIds = { "sg-1" },
      ClientToken = "t", MetadataOptions = { HttpTokens = "required" },
      BlockDeviceMappings = { { DeviceName = "/dev/xvda", Ebs = { VolumeSize = 16,
        Encrypted = false } } },
      TagSpecifications = { { ResourceType = "instance", Tags = { { Key = "k", Value = "" } } } } },
    "RunInstances")
  t.is(decode("ImportKeyPair", "KeyName=k&PublicKeyMaterial=c3NoLXJzYQ%3D%3D"),
    { KeyName = "k", PublicKeyMaterial = "ssh-rsa" }, "blobs are base64")
  t.is(decode("AuthorizeSecurityGroupIngress", "GroupId=sg-1&IpPermissions.1.IpProtocol=tcp"
    .. "&IpPermissions.1.FromPort=22&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0%2F8"
    .. "&IpPermissions.1.Groups.1.GroupId=sg-2"),
    { GroupId = "sg-1", IpPermissions = { { IpProtocol = "tcp", FromPort = 22,
      IpRanges = { { CidrIp = "10.0.0.0/8" } }, UserIdGroupPairs = { { GroupId = "sg-2" } } } } },
    "names that differ from the API's")
  t.is(decode("DescribeInstances", "InstanceId.3=c&InstanceId.1=a&InstanceId.10=j").InstanceIds,
    { "a", "c", "j" }, "list items by number, gaps closed")
end)

local function refused(name, form, code, match, what)
  t.raises(function()
    decode(name, form)
  end, { code = code, match = match }, what or form)
end

t.test("what the model does not know is refused by name", function()
  refused("DescribeInstances", "Colour=red", "UnknownParameter",
    "The parameter Colour is not recognized")
  refused("DescribeInstances", "Filter.1.Nam=x", "UnknownParameter", "Filter%.1%.Nam ")
  refused("DescribeInstances", "InstanceId=i-1", "UnknownParameter", "InstanceId ")
  refused("DescribeInstances", "InstanceId.x=i-1", "UnknownParameter", "InstanceId%.x ")
  refused("DescribeInstances", "MaxResults.1=5", "UnknownParameter", "MaxResults%.1 ")
  refused("DescribeInstances", "instanceId.1=i-1", "UnknownParameter", "instanceId ")
end)

t.test("values are checked", function()
  refused("RunInstances", "MinCount=1", "MissingParameter", "MaxCount")
  refused("DescribeInstances", "MaxResults=five", "InvalidParameterValue", "MaxResults")
  refused("DescribeInstances", "MaxResults=5.0", "InvalidParameterValue")
  refused("DescribeInstances", "MaxResults=", "InvalidParameterValue")
  refused("DescribeInstances", "MaxResults=99999999999999999999", "InvalidParameterValue")
  refused("DescribeInstances", "DryRun=maybe", "InvalidParameterValue", "DryRun")
  refused("RunInstances", "MinCount=1&MaxCount=1&InstanceType=z1.big", "InvalidParameterValue",
    "InstanceType")
  refused("ImportKeyPair", "KeyName=k&PublicKeyMaterial=%21", "InvalidParameterValue")
  refused("DescribeInstances", "NextToken=%00", "InvalidParameterValue", "NextToken", "NUL")
  refused("DescribeInstances", "NextToken=%ff", "InvalidParameterValue", "NextToken", "no UTF-8")
end)

t.test("hostile forms end in a refusal", function()
  refused("DescribeInstances", "MaxResults=5&MaxResults=6", "MalformedQueryString", "twice")
  refused("DescribeInstances", "A" .. (".a"):rep(40) .. "=1", "MalformedQueryString", "deep",
    "deep")
  t.raises(function()
    wire.parse_form(("a=1&"):rep(10001))
  end, { code = "MalformedQueryString" }, "many")
  refused("DescribeInstances", ("."):rep(100) .. "=1", "UnknownParameter", nil, "only dots")
end)

t.test("random forms end in a refusal or a value", function()
  local seed = math.random(1 << 30)
  math.randomseed(seed)
  local words = { "Filter", "InstanceId", "MaxResults", "NextToken", "DryRun", "1", "2", "Name",
    "Value", "99999999999999999999", "-1", "", "x", "%00", "%", "=", "&", ".", "..", "+", "true",
    "BlockDeviceMapping", "Ebs", "VolumeSize", "TagSpecification", "Tag", "Key" }
  local names = { "DescribeInstances", "RunInstances", "CreateTags" }
  local bad
  for _ = 1, 3000 do
    local parts = {}
    for i = 1, math.random(12) do
      local sep = ({ ".", ".", "=", "&", "" })[math.random(5)]
      parts[i] = words[math.random(#words)] .. sep
    end
    local form = table.concat(parts)
    local ok, e = pcall(decode, names[math.random(#names)], form)
    if not ok and not errors.is(e) then
      bad = bad or ("%q: %s"):format(form, tostring(e))
    end
  end
  t.is(bad, nil, "with seed " .. seed)
end)

t.test("parameters that are not emulated are found", function()
  local accept = { A = true, B = { C = true }, L = { X = true } }
  t.is(wire.not_accepted(accept, { A = { Z = 1 }, B = { C = 1 }, L = { { X = 1 }, { X = 2 } } }),
    nil, "all are accepted")
  t.is(wire.not_accepted(accept, { D = 1 }), "D", "a top one")
  t.is(wire.not_accepted(accept, { B = { E = 1 } }), "B.E", "one inside")
  t.is(wire.not_accepted(accept, { L = { { X = 1 }, { Y = 1 } } }), "L.Y", "one in a list")
end)

t.test("EC2 answers have EC2's form", function()
  local body, kind = wire.encode(ec2, ec2.op "DescribeInstances", { Reservations = { {
    ReservationId = "r-1", Instances = { { InstanceId = "i-1", AmiLaunchIndex = 0,
      LaunchTime = 1767323045.25, State = { Code = 16, Name = "running" }, EbsOptimized = false,
      PublicDnsName = "", Tags = { { Key = "<&>\"", Value = "ü" } }, ProductCodes = {} } } } } },
    "RID")
  t.is(kind, "text/xml;charset=UTF-8", "content type")
  t.like(body, '<DescribeInstancesResponse xmlns="http://ec2%.amazonaws%.com/doc/2016%-11%-15/">'
    .. "<requestId>RID</requestId>", "root element and request id")
  for _, part in ipairs { "<reservationSet><item>", "<instancesSet><item>",
    "<launchTime>2026-01-02T03:04:05.250Z</launchTime>",
    "<instanceState><code>16</code><name>running</name></instanceState>",
    "<ebsOptimized>false</ebsOptimized>", "<dnsName></dnsName>", "<productCodes></productCodes>",
    "<tagSet><item><key>&lt;&amp;&gt;&quot;</key><value>ü</value></item></tagSet>",
    "<amiLaunchIndex>0</amiLaunchIndex>" } do
    t.ok(body:find(part, 1, true), part)
  end
  t.ok(not body:find("nextToken", 1, true), "absent members have no element")
  body = wire.encode(ec2, ec2.op "DescribeInstances", {}, "RID")
  t.ok(body:find("<reservationSet></reservationSet>", 1, true), "top-level lists are always there")
  body = wire.encode(ec2, ec2.op "CreateTags", {}, "RID")
  t.ok(body:find("<return>true</return>", 1, true), "operations without output return true")
end)

t.test("STS answers have the query protocol's form", function()
  local body, kind = wire.encode(sts, sts.op "GetCallerIdentity", { Account = "1", UserId = "u",
    Arn = "a" }, "RID")
  t.is(kind, "text/xml", "content type")
  t.like(body, "<GetCallerIdentityResponse xmlns=\"https://sts%.amazonaws%.com/doc/2011%-06%-15/\">"
    .. "<GetCallerIdentityResult>.*<Account>1</Account>.*</GetCallerIdentityResult>"
    .. "<ResponseMetadata><RequestId>RID</RequestId></ResponseMetadata>"
    .. "</GetCallerIdentityResponse>$", "wrapped twice")
end)

t.test("members that the model lacks are told", function()
  local told = {}
  wire.encode(ec2, ec2.op "DescribeInstances", { Reservations = { { Colour = 1 } } }, "RID",
    function(shape, key)
      told[#told + 1] = shape .. "." .. key
    end)
  t.is(told, { "Reservation.Colour" }, "by shape and name")
end)

t.test("refusals have the form of their protocol", function()
  local e = errors.new("Bad.Thing", "a < b")
  local body = wire.encode_error("ec2", e, "RID")
  t.like(body, "<Response><Errors><Error><Code>Bad%.Thing</Code><Message>a &lt; b</Message></Error>"
    .. "</Errors><RequestID>RID</RequestID></Response>$", "ec2")
  t.like(wire.encode_error("query", e, "RID"), "<ErrorResponse><Error><Type>Sender</Type>"
    .. "<Code>Bad%.Thing</Code><Message>a &lt; b</Message></Error><RequestId>RID</RequestId>",
    "query")
  local text, _, headers = wire.encode_error("json", e, "RID")
  t.like(text, '"__type":"Bad%.Thing"', "json")
  t.is(headers["x-amzn-ErrorType"], "Bad.Thing", "json names it in a header")
  t.is(e.status, 400, "400 is the usual status")
  t.is(errors.new("DryRunOperation", "").status, 412, "dry runs have their own")
end)

return t.done()
