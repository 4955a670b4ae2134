-- The Lua API of AWS clients against a server in this process: names, answers,
-- errors, paging, waiters, hooks, settings.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local json = require "hgauto.json"
local log = require "hgauto.log"
local t = require "hg.tap"

local CREDS = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = "wJalr-canary-secret" }

for _, name in ipairs { "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL" } do
  host.setenv(name, nil)
end
host.setenv("HOME", t.tmpdir())
host.setenv("AWS_EC2_METADATA_DISABLED", "true")

local function form(body)
  local out = {}
  for k, v in body:gmatch("([^&=]+)=([^&]*)") do
    out[k] = v:gsub("+", " "):gsub("%%(%x%x)", function(h)
      return string.char(tonumber(h, 16))
    end)
  end
  return out
end

local servers = {}

-- A server whose handler gets the form and returns body, status; or nothing.
local function serve(handler)
  local seen = {}
  local s = httpd.new {
    on_request = function(req)
      local f = form(req.body)
      seen[#seen + 1] = { form = f, req = req }
      local body, status = handler(f, #seen, req)
      if body then
        req:respond { status = status or 200, body = body,
          headers = { ["Content-Type"] = "text/xml" } }
      end
    end,
  }
  servers[#servers + 1] = s
  return "http://127.0.0.1:" .. s:listen { host = "127.0.0.1" }, seen
end

local function client(service, url, more)
  local opts = { region = "us-west-2", endpoint_url = url, credentials = CREDS }
  for k, v in pairs(more or {}) do
    opts[k] = v
  end
  return aws.client(service, opts)
end

local function answer(op, inner)
  return ("<%sResponse><requestId>req-1</requestId>%s</%sResponse>"):format(op, inner, op)
end

local function error_body(code, message)
  return ("<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors>"
    .. "<RequestID>req-9</RequestID></Response>"):format(code, message)
end

local function instances(...)
  local out = {}
  for _, id in ipairs { ... } do
    out[#out + 1] = "<item><instancesSet><item><instanceId>" .. id
      .. "</instanceId><instanceState><code>16</code><name>running</name></instanceState>"
      .. "</item></instancesSet></item>"
  end
  return "<reservationSet>" .. table.concat(out) .. "</reservationSet>"
end

t.test("names", function()
  t.raises(function()
    aws.client("ec3")
  end, { kind = "usage", match = "did you mean ec2" }, "an unknown service gets a suggestion")
  t.raises(function()
    aws.client("ec2", { regoin = "x" })
  end, { kind = "usage", match = "region" }, "an unknown option, too")
  local ec2 = client("ec2", "http://127.0.0.1:1")
  t.raises(function()
    return ec2.describe_instancez
  end, { kind = "usage", match = "did you mean describe_instances" }, "an unknown operation, too")
  local e = t.raises(function()
    ec2.describe_instances {}
  end, { kind = "usage" }, "a dot instead of a colon is noticed")
  t.is(e.message, "call it with a colon: ec2:describe_instances{…}", "and explained")
  t.raises(function()
    ec2:describe_instances({}, { timout = 1 })
  end, { kind = "usage", match = "timout" }, "an unknown call option is refused")
  t.raises(function()
    ec2:run_instances { ImageID = "x", MinCount = 1, MaxCount = 1 }
  end, { kind = "usage", code = "ParamValidation", match = 'did you mean "ImageId"' },
    "an unknown parameter gets a suggestion")
  t.ok(#aws.operations("ec2") > 500, "operations are listed")
  t.ok(table.concat(aws.waiters("ec2"), " "):find("instance_stopped"), "waiters, too")
  t.is(ec2.meta.region, "us-west-2", "region of a client")
  t.is(ec2.meta.endpoint, "http://127.0.0.1:1", "its endpoint")
  t.is(ec2.meta.partition, "aws", "its partition")
end)

t.test("an answer", function()
  local url, seen = serve(function(f)
    return answer(f.Action, instances("i-1", "i-2"))
  end)
  local ec2 = client("ec2", url)
  local r = ec2:describe_instances { Filters = { { Name = "tag:Name", Values = { "hg-*" } } } }
  t.is(r.Reservations[2].Instances[1].InstanceId, "i-2", "is a table")
  t.is(seen[1].form["Filter.1.Value.1"], "hg-*", "of what was asked")
  t.is(math.type(r.Reservations[1].Instances[1].State.Code), "integer", "integers are integers")
  local e = t.raises(function()
    return r.Reservations[1].Instances[1].InstanceID
  end, { kind = "usage" }, "an unknown field raises")
  t.is(e.message, "Instance has no field InstanceID; did you mean InstanceId?", "with a suggestion")
  t.is(r.Reservations[1].Instances[1].KeyName, nil, "an absent one is nil")
  t.is(r.ResponseMetadata.RequestId, "req-1", "metadata is there")
  t.is(aws.meta(r).HTTPStatusCode, 200, "aws.meta has it, too")
  t.is(aws.meta(r).HTTPHeaders["content-type"], "text/xml", "headers in lower case")
  t.is(aws.meta(r).RetryAttempts, 0, "no retries")
  local keys = {}
  for k in pairs(r) do
    keys[#keys + 1] = k
  end
  t.is(keys, { "Reservations" }, "pairs sees data only")
  local ids = r.Reservations:map(function(x)
    return x.Instances[1].InstanceId
  end)
  t.is(table.concat(ids, " "), "i-1 i-2", "lists have map")
  t.is(r.Reservations:first().Instances:pluck("InstanceId")[1], "i-1", "first and pluck")
  t.is(r.Reservations:count(function(x)
    return x.Instances[1].InstanceId == "i-2"
  end), 1, "count")
  t.is(json.encode(r.Reservations:filter(function()
    return false
  end)), "[]", "an empty list stays one in JSON")
  t.is(aws.query("Reservations[].Instances[].InstanceId | [1]", r), "i-2", "JMESPath works on it")
  t.is(#ec2:call("DescribeInstances").Reservations, 2, "CamelCase name")
  t.is(#ec2:call("describe-instances").Reservations, 2, "name with dashes")
  local loose = client("ec2", url, { strict = false })
  t.is(loose:describe_instances().nonsense, nil, "strict=false: unknown fields are nil")
end)

t.test("an error", function()
  local url = serve(function()
    return error_body("InvalidInstanceID.NotFound", "The instance ID 'i-0' does not exist"), 400
  end)
  local ec2 = client("ec2", url)
  local e = t.raises(function()
    ec2:describe_instances { InstanceIds = { "i-0" } }
  end, { kind = "aws", code = "InvalidInstanceID.NotFound" }, "is raised")
  t.is(tostring(e), "An error occurred (InvalidInstanceID.NotFound) when calling the "
    .. "DescribeInstances operation: The instance ID 'i-0' does not exist", "in boto3's words")
  t.ok(e:is("InvalidInstanceID.*"), "its code can be globbed")
  t.is(e.status, 400, "status")
  t.is(e.request_id, "req-9", "request id")
  t.is(e.operation, "DescribeInstances", "operation")
  t.is(e.service, "ec2", "service")
  t.is(e.region, "us-west-2", "region")
  t.is(e.attempts, 1, "attempts")
  t.is(e.retryable, false, "not retryable")
  t.is(e.ambiguous, false, "not ambiguous")
  t.is(e.response.Error.Message, "The instance ID 'i-0' does not exist", "the service's own words")
end)

t.test("a missing server", function()
  local e = t.raises(function()
    client("ec2", "http://127.0.0.1:1"):describe_instances()
  end, { kind = "net", code = "Refused" }, "is a net error")
  t.like(tostring(e), "^ec2 DescribeInstances: cannot connect to 127%.0%.0%.1 port 1: "
    .. "connection refused %(3 attempts, %d+%.%d s%)$", "that says what and how often")
  t.is(e.sent, false, "nothing was sent")
end)

t.test("retries", function()
  local url, seen = serve(function(f, n)
    if n < 3 then
      return error_body("RequestLimitExceeded", "slow"), 503
    end
    return answer(f.Action, "<instancesSet><item><instanceId>i-7</instanceId></item>"
      .. "</instancesSet>")
  end)
  host.setenv("HGAUTO_RETRY_SEED", "1")
  local r = client("ec2", url):run_instances {
    ImageId = "ami-1", MinCount = 1, MaxCount = 1, UserData = "#!/bin/sh\n",
  }
  host.setenv("HGAUTO_RETRY_SEED", nil)
  t.is(r.Instances[1].InstanceId, "i-7", "throttling is repeated")
  t.is(#seen, 3, "three requests")
  t.is(seen[1].form.ClientToken, seen[3].form.ClientToken, "with one token")
  local _, token = next(aws.meta(r).tokens)
  t.is(token, seen[1].form.ClientToken, "which the metadata tell")
  t.is(seen[1].form.UserData, "IyEvYmluL3NoCg==", "user data goes out in base64")
  t.is(aws.meta(r).RetryAttempts, 2, "retries are counted")
end)

t.test("a call can be cancelled", function()
  local url, seen = serve(function(_, _, req)
    while not req:gone() do
      async.sleep(0.01)
    end
  end)
  local ec2 = client("ec2", url)
  t.raises(function()
    async.timeout(0.2, function()
      ec2:describe_instances()
    end)
  end, { kind = "timeout" }, "by a timeout around it")
  t.is(#seen, 1, "it had been sent")
  local e = t.raises(function()
    ec2:describe_instances({}, { timeout = 0.2 })
  end, { kind = "timeout", code = "CallTimeout" }, "by its own")
  t.is(e.sent, true, "sent")
end)

-- ---- paging -------------------------------------------------------------------

local function pages_server(repeat_token)
  return serve(function(f)
    local n = tonumber(f.NextToken and f.NextToken:match("%d") or 1)
    local body = instances("i-" .. n .. "a", "i-" .. n .. "b")
    if n < 3 then
      body = body .. "<nextToken>tok" .. (repeat_token and 2 or n + 1) .. "</nextToken>"
    end
    return answer(f.Action, body)
  end)
end

local function ids(r)
  return table.concat(r.Reservations:map(function(x)
    return x.Instances[1].InstanceId
  end), " ")
end

t.test("paging", function()
  local url, seen = pages_server()
  local ec2 = client("ec2", url)
  local r = ec2:describe_instances {}
  t.is(ids(r), "i-1a i-1b i-2a i-2b i-3a i-3b", "fetches all pages")
  t.is(#seen, 3, "in three requests")
  t.is(seen[1].form.MaxResults, nil, "without a limit")
  t.is(rawget(r, "NextToken"), nil, "no token is left")
  r = ec2:describe_instances { MaxResults = 5 }
  t.is(#seen, 4, "a limit of the caller: one request")
  t.is(r.NextToken, "tok2", "and the raw answer")
  r = ec2:describe_instances { NextToken = "tok3" }
  t.is(ids(r), "i-3a i-3b", "a token of the caller likewise")
  local first = ec2:describe_instances { PaginationConfig = { MaxItems = 3 } }
  t.is(ids(first), "i-1a i-1b i-2a", "MaxItems cuts inside a page")
  local rest = ec2:describe_instances { PaginationConfig = { StartingToken = first.NextToken } }
  t.is(ids(rest), "i-2b i-3a i-3b", "and its token goes on there")
  local n = #seen
  ec2:describe_instances { PaginationConfig = { PageSize = 7, MaxItems = 1 } }
  t.is(seen[n + 1].form.MaxResults, "7", "PageSize is the limit")
  local count = 0
  for page in ec2:pages("describe_instances") do
    count = count + 1
    t.is(#page.Reservations, 2, "a page")
    if count == 2 then
      break
    end
  end
  t.is(count, 2, "an iteration can be left")
  t.is(ids(ec2:pages("describe_instances"):collect()), "i-1a i-1b i-2a i-2b i-3a i-3b", "collect")
  t.raises(function()
    ec2:pages("run_instances")
  end, { kind = "usage", match = "no pages" }, "an operation without pages")
  url = pages_server(true)
  t.raises(function()
    client("ec2", url):describe_instances {}
  end, { match = "The same next token was received twice" }, "a repeated token is an error")
end)

-- ---- waiters ------------------------------------------------------------------

local function state_server(states)
  return serve(function(f, n)
    local s = states[n] or states[#states]
    if s:find("^!") then
      return error_body(s:sub(2), "no"), 400
    end
    return answer(f.Action, "<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>"
      .. "<instanceState><name>" .. s .. "</name></instanceState></item></instancesSet></item>"
      .. "</reservationSet>")
  end)
end

t.test("waiters", function()
  local ec2 = client("ec2", state_server { "running", "stopping", "stopped" })
  local polls = {}
  local r, info = ec2:wait("instance_stopped", { InstanceIds = { "i-1" } }, {
    delay = 0.01,
    on_poll = function(resp, err, n)
      polls[#polls + 1] = (err or resp.Reservations[1].Instances[1].State.Name) .. n
    end,
  })
  t.is(r.Reservations[1].Instances[1].State.Name, "stopped", "wait returns the last answer")
  t.is(info.attempts, 3, "after three polls")
  t.is(polls, { "running1", "stopping2", "stopped3" }, "each was shown")
  ec2 = client("ec2", state_server { "terminated" })
  local e = t.raises(function()
    ec2:wait("instance_stopped", { InstanceIds = { "i-1" } }, { delay = 0.01 })
  end, { kind = "aws", code = "WaiterFailed" }, "a terminal state fails")
  t.is(e.message, 'Waiter InstanceStopped failed: Waiter encountered a terminal failure state: '
    .. 'For expression "Reservations[].Instances[].State.Name" we matched expected path: '
    .. '"terminated" at least once', "with the SDKs' words")
  t.is(e.last.Reservations[1].Instances[1].State.Name, "terminated", "and the last answer")
  ec2 = client("ec2", state_server { "running" })
  e = t.raises(function()
    ec2:wait("instance_stopped", {}, { delay = 0.01, max_attempts = 2 })
  end, { kind = "timeout", code = "WaiterTimeout" }, "attempts run out")
  t.is(e.message, "Waiter InstanceStopped failed: Max attempts exceeded", "said so")
  t.raises(function()
    ec2:wait("instance_stopped", {}, { delay = 0.05, timeout = 0.1 })
  end, { kind = "timeout" }, "so does the time")
  ec2 = client("ec2", state_server { "!InvalidInstanceID.NotFound" })
  t.raises(function()
    ec2:wait("instance_stopped", {}, { delay = 0.01 })
  end, { kind = "aws", match = "An error occurred %(InvalidInstanceID.NotFound%)" },
    "an unexpected error")
  ec2 = client("ec2", state_server { "!RequestLimitExceeded", "!RequestLimitExceeded",
    "!RequestLimitExceeded", "stopped" })
  host.setenv("HGAUTO_RETRY_SEED", "1")
  r = ec2:wait("instance_stopped", {}, { delay = 0.01 })
  t.ok(r, "throttling never fails a waiter")
  local none
  none, info = client("ec2", state_server { "!InvalidInstanceID.NotFound" }):wait({
    operation = "describe_instances", delay = 0.01, max_attempts = 2,
    acceptors = {
      { state = "success", matcher = "error", expected = "InvalidInstanceID.NotFound" },
    },
  }, {})
  t.is(none, nil, "a waiter of one's own: success by error has no answer")
  t.is(info.error.code, "InvalidInstanceID.NotFound", "but the error")
  t.raises(function()
    ec2:wait("instance_stoped", {})
  end, { kind = "usage", match = "did you mean instance_stopped" }, "an unknown waiter")
  t.raises(function()
    ec2:wait("instance_stopped", {}, { intervall = 1 })
  end, { kind = "usage" }, "an unknown option")
end)

-- ---- the rest --------------------------------------------------------------------

t.test("dry_run", function()
  local ec2 = client("ec2", (serve(function(f)
    if f.DryRun == "true" and f.ImageId == "ami-1" then
      return error_body("DryRunOperation", "Request would have succeeded"), 412
    end
    return error_body("UnauthorizedOperation", "no"), 403
  end)))
  t.is(ec2:dry_run("run_instances", { ImageId = "ami-1", MinCount = 1, MaxCount = 1 }), true,
    "allowed")
  t.raises(function()
    ec2:dry_run("run_instances", { ImageId = "ami-2", MinCount = 1, MaxCount = 1 })
  end, { kind = "aws", code = "UnauthorizedOperation" }, "not allowed")
end)

t.test("hooks", function()
  local url, seen = serve(function(f)
    return answer(f.Action, instances("i-1"))
  end)
  local ec2 = client("ec2", url)
  local log = {}
  local off = ec2:on("before_call", function(ctx)
    log[#log + 1] = "before " .. ctx.operation
    ctx.params = { InstanceIds = { "i-9" } }
  end)
  ec2:on("after_call", function(ctx)
    log[#log + 1] = "after " .. #ctx.result.Reservations
  end)
  ec2:describe_instances()
  t.is(log, { "before DescribeInstances", "after 1" }, "see calls")
  t.is(seen[1].form["InstanceId.1"], "i-9", "may change parameters")
  off()
  ec2:describe_instances()
  t.is(log[3], "after 1", "and can be removed")
  ec2:on("before_call", function()
    return { Reservations = json.list {} }
  end)
  t.is(#ec2:describe_instances().Reservations, 0, "may answer instead")
  t.is(#seen, 2, "nothing is sent then")
end)

t.test("a json service", function()
  local url, seen = serve(function(_, _, req)
    req:respond { status = 400, body = '{"__type":"InvalidInstanceId","message":"no such"}',
      headers = { ["x-amzn-requestid"] = "req-j" } }
  end)
  local e = t.raises(function()
    client("ssm", url):send_command { DocumentName = "AWS-RunShellScript", InstanceIds = { "i-1" } }
  end, { kind = "aws", code = "InvalidInstanceId" }, "errors of json services")
  t.is(e.request_id, "req-j", "their request id")
  t.is(seen[1].req.headers["x-amz-target"], "AmazonSSM.SendCommand", "the target header")
  t.is(json.decode(seen[1].req.body),
    { DocumentName = "AWS-RunShellScript", InstanceIds = { "i-1" } }, "the body")
end)

t.test("policies of iam become tables", function()
  local url = serve(function()
    return "<GetRoleResponse><GetRoleResult><Role><Path>/</Path><RoleName>r</RoleName>"
      .. "<RoleId>R</RoleId><Arn>a</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>"
      .. "<AssumeRolePolicyDocument>"
      .. "%7B%22Version%22%3A%222012-10-17%22%7D</AssumeRolePolicyDocument></Role></GetRoleResult>"
      .. "<ResponseMetadata><RequestId>q</RequestId></ResponseMetadata></GetRoleResponse>"
  end)
  local role = client("iam", url):get_role { RoleName = "r" }.Role
  t.is(role.AssumeRolePolicyDocument.Version, "2012-10-17", "decoded")
  t.is(role.CreateDate, 1767225600, "times are epoch seconds")
end)

t.test("presign", function()
  local ec2 = aws.client("ec2", { region = "eu-west-1", credentials = CREDS })
  local url = ec2:presign("describe_instances", { InstanceIds = { "i-1" } }, { expires = 60 })
  t.like(url, "^https://ec2%.eu%-west%-1%.amazonaws%.com/%?Action=DescribeInstances", "an AWS URL")
  t.like(url, "X%-Amz%-Expires=60", "with the time")
  t.raises(function()
    ec2:presign("describe_instances", {}, { expires = 700000 })
  end, { kind = "usage" }, "at most a week")
  t.raises(function()
    ec2:presign("describe_instances", {}, { expire = 60 })
  end, { kind = "usage", match = "expires" }, "an unknown option is refused")
  local _, form = ec2:presign("describe_instances")
  t.is(form, { method = "GET", headers = {} }, "nothing but the URL is needed")
  local ssm = aws.client("ssm", { region = "eu-west-1", credentials = CREDS })
  local link, with = ssm:presign("get_parameter", { Name = "x" })
  t.like(link, "^https://ssm%.eu%-west%-1%.amazonaws%.com/%?X%-Amz%-Algorithm", "any protocol")
  t.is(with.method, "POST", "with its method")
  t.is(with.headers["X-Amz-Target"], "AmazonSSM.GetParameter", "the headers that are signed")
  t.is(with.body, '{"Name":"x"}', "and the body")
end)

t.test("the reason of UnauthorizedOperation is decoded", function()
  local url, seen = serve(function(f)
    if f.Action == "DecodeAuthorizationMessage" then
      return answer("DecodeAuthorizationMessage", "<DecodeAuthorizationMessageResult>"
        .. '<DecodedMessage>{"allowed":false}</DecodedMessage></DecodeAuthorizationMessageResult>')
    end
    return error_body("UnauthorizedOperation", "You are not authorized to perform this operation. "
      .. "Encoded authorization failure message: aB3_-x9"), 403
  end)
  local e = t.raises(function()
    client("ec2", url):describe_instances()
  end, { code = "UnauthorizedOperation" }, "a refusal")
  t.is(e:decode(), { allowed = false }, "says why")
  t.is(seen[2].form.EncodedMessage, "aB3_-x9", "by sts, at the same place")
  t.is(aws.meta(e), nil, "an error has no metadata")
  t.raises(function()
    host.error({ kind = "aws", message = "no" }):decode()
  end, { kind = "usage" }, "there must be something to decode")
end)

t.test("endpoints of AWS", function()
  local function endpoint(service, region)
    return aws.client(service, { region = region, credentials = CREDS }).meta.endpoint
  end
  t.is(endpoint("ec2", "us-west-2"), "https://ec2.us-west-2.amazonaws.com", "ec2")
  t.is(endpoint("iam", "us-west-2"), "https://iam.amazonaws.com", "iam is global")
  t.is(endpoint("sts", "eu-west-1"), "https://sts.eu-west-1.amazonaws.com", "sts is regional")
  t.is(endpoint("ec2", "cn-north-1"), "https://ec2.cn-north-1.amazonaws.com.cn", "China")
  t.is(endpoint("iam", "us-gov-west-1"), "https://iam.us-gov.amazonaws.com", "government")
  t.raises(function()
    return aws.client("ec2", { credentials = CREDS }).meta.endpoint
  end, { kind = "usage", match = "You must specify a region" }, "no region")
end)

t.test("credentials", function()
  local c = aws.credentials { region = "us-west-2", credentials = CREDS }
  t.is(c.access_key_id, CREDS.access_key_id, "the id is told")
  t.is(c.provider, "argument", "and who gave it")
  for _, v in pairs(c) do
    t.ok(v ~= CREDS.secret_access_key, "never the secret")
  end
  local e = t.raises(function()
    aws.client("ec2", { region = "us-west-2" }):describe_instances()
  end, { kind = "auth", code = "NoCredentials" }, "none")
  t.is(e.message, "Unable to locate credentials", "said so")
  t.like(e.tried, "environment: AWS_ACCESS_KEY_ID is not set", "with reasons")
  t.raises(function()
    aws.client("ec2", { region = "x", credentials = { access_key = "a" } })
  end, { kind = "usage", match = "access_key" }, "a wrong key")
  host.setenv("AWS_ACCESS_KEY_ID", "AKIDFROMENV00001")
  host.setenv("AWS_SECRET_ACCESS_KEY", "another-canary")
  host.setenv("AWS_REGION", "eu-west-1")
  t.is(aws.credentials().provider, "environment", "from the environment")
  local config = aws.config()
  t.is(config.region.value, "eu-west-1", "a setting's value")
  t.is(config.region.origin, "AWS_REGION", "and origin")
  host.setenv("AWS_ACCESS_KEY_ID", nil)
  host.setenv("AWS_SECRET_ACCESS_KEY", nil)
  host.setenv("AWS_REGION", nil)
end)

t.test("the account is asked once", function()
  local url, seen = serve(function(f)
    return answer(f.Action, "<" .. f.Action .. "Result><Arn>arn:aws:iam::123456789012:user/x"
      .. "</Arn><UserId>U</UserId><Account>123456789012</Account></" .. f.Action .. "Result>")
  end)
  local opts = { region = "us-west-2", endpoint_url = url, credentials = CREDS }
  t.is(aws.account(opts).Account, "123456789012", "account")
  t.is(aws.account(opts).Account, "123456789012", "again")
  t.is(#seen, 1, "one request")
end)

t.test("secrets stay out of the log and of errors", function()
  local SECRET, TOKEN = "wJalrXUtnFEMI/canary+secret", "FwoGZXIvYXdz-canary-token"
  local DATA = "#!/bin/sh\necho user-data-canary\n"
  local path = t.tmpdir() .. "/log"
  local sink = log.file(path)
  local url = serve(function(_, n)
    if n == 1 then
      return "<RunInstancesResponse/>"
    elseif n == 2 then
      return error_body("UnauthorizedOperation", "not with " .. SECRET), 403
    end
    return "<html>" .. TOKEN
  end)
  local ec2 = aws.client("ec2", {
    region = "us-west-2", endpoint_url = url, max_attempts = 1,
    credentials = { access_key_id = "AKIDEXAMPLE00001", secret_access_key = SECRET,
      session_token = TOKEN },
  })
  local said = {}
  for _ = 1, 3 do
    local ok, e = pcall(ec2.run_instances, ec2, {
      ImageId = "ami-1", MinCount = 1, MaxCount = 1, UserData = DATA,
    })
    if not ok then
      said[#said + 1] = tostring(e) .. json.encode(e.response or {})
    end
  end
  log.debug("%s %s", SECRET, TOKEN)
  sink:close()
  local text = fs.read(path) .. table.concat(said, "\n")
  t.like(text, "UnauthorizedOperation", "the log has the calls")
  for what, canary in pairs { secret = SECRET, token = TOKEN, data = DATA } do
    t.ok(not text:find(canary, 1, true), what .. ": not as it is")
    t.ok(not text:find(crypto.base64(canary), 1, true), what .. ": not in base64")
    local encoded = canary:gsub("/", "%%2F"):gsub("%+", "%%2B")
    t.ok(not text:find(encoded, 1, true), what .. ": not in URLs")
  end
end)

t.test("describe", function()
  t.is(aws.describe("ec2", "run_instances").name, "RunInstances", "an operation's model")
end)

t.test("defaults", function()
  local url, seen = serve(function(f)
    return answer(f.Action, instances("i-1"))
  end)
  aws.defaults {
    region = "us-west-2", endpoint_url = url, credentials = CREDS, only_endpoint = true,
  }
  aws.client("ec2"):describe_instances()
  t.is(#seen, 1, "are used by clients without options")
  t.raises(function()
    aws.client("ec2", { endpoint_url = "http://127.0.0.1:1" }):describe_instances()
  end, { kind = "usage", code = "Endpoint" }, "only_endpoint: nothing else is talked to")
  t.raises(function()
    aws.defaults { regoin = "x" }
  end, { kind = "usage" }, "an unknown one is refused")
  aws.defaults { only_endpoint = false }
end)

t.test("small things", function()
  t.like(aws.token(), "^%x+%-%x+%-4%x+%-%x+%-%x+$", "token")
  t.is(aws.time(1767225600), "2026-01-01T00:00:00Z", "time")
  t.is(json.encode(aws.list {}), "[]", "list")
  t.raises(function()
    aws.query("foo[", {})
  end, { kind = "usage", code = "Syntax" }, "a bad expression")
end)

for _, s in ipairs(servers) do
  s:close()
end
return t.done()
