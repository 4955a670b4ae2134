-- Codecs of the JSON protocols of the local cloud against the embedded models.
local t = require "hg.tap"
local json = require "hgauto.json"
local model = require "hgauto.aws.model"
local wire = require "localcloud.wire_json"

local ssm, lambda = model.service "ssm", model.service "lambda"

local function decode(name, text)
  return wire.decode(ssm.op(name), text)
end

t.test("parameters are read by their shapes", function()
  t.is(decode("SendCommand", '{"InstanceIds":["i-1"],"DocumentName":"AWS-RunShellScript",'
    .. '"Parameters":{"commands":["a","b"]},"TimeoutSeconds":60}'),
    { InstanceIds = { "i-1" }, DocumentName = "AWS-RunShellScript", TimeoutSeconds = 60,
      Parameters = { commands = { "a", "b" } } }, "structure, list, map, number")
  t.is(decode("ListCommands", ""), {}, "an empty body is no parameter")
  t.is(decode("ListCommands", "{}"), {}, "so is an empty object")
end)

local function refused(name, text, code, match)
  t.raises(function()
    decode(name, text)
  end, { code = code, match = match }, text)
end

t.test("what does not fit is refused by name", function()
  refused("ListCommands", "{", "SerializationException", "not JSON")
  refused("ListCommands", "[1]", "SerializationException", "the request")
  refused("ListCommands", '"x"', "SerializationException", "the request")
  refused("ListCommands", '{"CommandId":7}', "SerializationException", "CommandId")
  refused("ListCommands", '{"MaxResults":1.5}', "SerializationException", "MaxResults")
  refused("ListCommands", '{"Colour":"red"}', "UnknownParameter", "Colour")
  refused("SendCommand", "{}", "ValidationException", "DocumentName")
  refused("SendCommand", '{"DocumentName":"x","InstanceIds":"i-1"}', "SerializationException",
    "InstanceIds")
  refused("SendCommand", '{"DocumentName":"x","Parameters":{"commands":"a"}}',
    "SerializationException", "Parameters%.commands")
  refused("ListCommands", '{"Filters":[{"key":"Nope","value":"x"}]}', "ValidationException",
    "enum value set")
end)

t.test("answers keep their types", function()
  local text = wire.encode(ssm.op "ListCommands", { Commands = { { CommandId = "c",
    RequestedDateTime = 1764456000.25, TargetCount = 1, InstanceIds = {}, Parameters = {} } } })
  t.like(text, '"RequestedDateTime":1764456000%.250[,}]', "times are numbers with milliseconds")
  t.like(text, '"InstanceIds":%[%]', "an empty list is a list")
  t.like(text, '"Parameters":{}', "an empty map is a map")
  t.is(json.decode(text).Commands[1].TargetCount, 1, "numbers are numbers")
  t.is(wire.encode(ssm.op "CancelCommand", {}), "{}", "nothing is an empty object")
  t.like(wire.encode(ssm.op "ListCommands", { Commands = { { Comment = 'a"\n\0ü' } } }),
    '"Comment":"a\\"\\n\\u0000ü"', "text is escaped")
end)

t.test("paths name operations and their values", function()
  local op = lambda.op "Invoke"
  t.is(wire.match_uri(op.uri, "/2015-03-31/functions/ci%2Dtry/invocations"),
    { FunctionName = "ci-try" }, "Invoke")
  t.is(wire.match_uri(op.uri, "/2015-03-31/functions/a/b/invocations"), nil, "another path")
  t.is(wire.match_uri("/a.b/{X}", "/axb/1"), nil, "a dot is a dot")
end)

t.test("headers, path and payload are one set of parameters", function()
  local op = lambda.op "Invoke"
  t.is(wire.decode_rest(op, { headers = { ["x-amz-invocation-type"] = "RequestResponse" },
    body = '{"a":1}' }, { FunctionName = "f" }, { Qualifier = "3" }),
    { FunctionName = "f", InvocationType = "RequestResponse", Qualifier = "3",
      Payload = '{"a":1}' }, "Invoke")
  t.raises(function()
    wire.decode_rest(op, { headers = {}, body = "" }, {}, {})
  end, { code = "ValidationException", match = "FunctionName" }, "what is required must be there")
  local body, headers, status = wire.encode_rest(op, { StatusCode = 200, Payload = "[]",
    FunctionError = "Unhandled" })
  t.is({ body, headers["x-amz-function-error"], status }, { "[]", "Unhandled", 200 }, "the answer")
end)

return t.done()
