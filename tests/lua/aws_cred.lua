-- Credentials against real peers on loopback: metadata service, container,
-- STS, child processes with hostile command lines; the cache of the AWS CLI.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local t = require "hg.tap"

local HOME = t.tmpdir()
for _, name in ipairs { "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL" } do
  host.setenv(name, nil)
end
host.setenv("HOME", HOME)
host.setenv("AWS_REGION", "us-west-2")
host.setenv("AWS_EC2_METADATA_DISABLED", "true")
fs.mkdir(HOME .. "/.aws", { mode = 448 })

local servers = {}

local function serve(handler)
  local seen = {}
  local s = httpd.new { on_request = function(req)
    seen[#seen + 1] = req
    local body, status = handler(req, #seen)
    req:respond { status = status or 200, body = body or "" }
  end }
  servers[#servers + 1] = s
  return "http://127.0.0.1:" .. s:listen { host = "127.0.0.1" }, seen
end

local function config(text)
  fs.write(HOME .. "/.aws/config", text)
end

local KEYS = '{"Code":"Success","AccessKeyId":"ASIAIMDS","SecretAccessKey":"canary-imds",'
  .. '"Token":"token-imds","Expiration":"2099-01-01T00:00:00Z"}'

t.test("metadata service", function()
  local url, seen = serve(function(req)
    if req.path == "/latest/api/token" then
      return "tok-1"
    elseif req.path:find("/security%-credentials/$") then
      return "my-role"
    end
    return KEYS
  end)
  host.setenv("AWS_EC2_METADATA_DISABLED", nil)
  host.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
  local c = aws.credentials()
  t.is({ c.provider, c.access_key_id, c.where }, { "instance metadata", "ASIAIMDS",
    "role my-role" }, "token, role, keys")
  t.is(seen[1].method, "PUT", "the token is asked for first")
  t.is(seen[3].headers["x-aws-ec2-metadata-token"], "tok-1", "and used")
  local old, asked = serve(function(req)
    if req.method == "PUT" then
      return "", 404
    end
    return req.path:find("/$") and "old-role" or KEYS
  end)
  host.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", old)
  t.is(aws.credentials().where, "role old-role", "version 1 where 2 is not known")
  t.is(asked[2].headers["x-aws-ec2-metadata-token"], nil, "without a token")
  host.setenv("AWS_EC2_METADATA_V1_DISABLED", "true")
  local e = t.raises(aws.credentials, { kind = "auth", code = "NoCredentials" }, "unless disabled")
  t.like(e.tried, "version 1 is disabled", "and says so")
  host.setenv("AWS_EC2_METADATA_V1_DISABLED", nil)
  host.setenv("AWS_EC2_METADATA_DISABLED", "true")
end)

t.test("container", function()
  local url, seen = serve(function(_, n)
    if n == 1 then
      return "", 500
    end
    return KEYS
  end)
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url .. "/c")
  fs.write(HOME .. "/auth", "Bearer canary\n")
  host.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", HOME .. "/auth")
  t.is(aws.credentials().provider, "container", "found at the second try")
  t.is(seen[2].headers.authorization, "Bearer canary", "with what the file says")
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/c")
  t.raises(aws.credentials, { kind = "auth", match = "loopback" }, "only local addresses")
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", nil)
end)

local function process(line)
  config("[profile p]\ncredential_process = " .. line .. "\n")
  return aws.credentials { profile = "p" }
end

t.test("processes", function()
  local mark = HOME .. "/mark"
  fs.write(HOME .. "/doc", '{"Version":1,"AccessKeyId":"AKIAPROC","SecretAccessKey":"canary"}')
  t.is(process("cat '" .. HOME .. "/doc'").access_key_id, "AKIAPROC", "a program's answer")
  for _, line in ipairs { "cat " .. HOME .. "/doc; touch " .. mark,
    "echo $(touch " .. mark .. ")", "echo `touch " .. mark .. "`", "echo x | touch " .. mark,
    "echo > " .. mark } do
    t.raises(function() process(line) end, { kind = "auth" }, line:gsub(HOME, "~"))
    t.ok(not fs.exists(mark), "no shell has seen it")
  end
  local e = t.raises(function() process "yes" end, { kind = "auth" }, "endless output")
  t.like(e.message, "more than 65536 bytes", "is cut off")
  t.raises(function()
    async.timeout(0.5, process, "sleep 30")
  end, { kind = "timeout" }, "a program that hangs can be left")
end)

local function role(n, expires)
  return ("<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>x</AssumedRoleId>"
    .. "<Arn>arn:aws:sts::123456789012:assumed-role/RoleA/x</Arn></AssumedRoleUser><Credentials>"
    .. "<AccessKeyId>ASIAROLE%d</AccessKeyId><SecretAccessKey>canary-role</SecretAccessKey>"
    .. "<SessionToken>tok%d</SessionToken><Expiration>%s</Expiration></Credentials>"
    .. "</AssumeRoleResult></AssumeRoleResponse>"):format(n, n, expires)
end

t.test("roles", function()
  local url, seen = serve(function(req, n)
    if req.body:find("Action=AssumeRole", 1, true) then
      return role(n, "2099-01-01T00:00:00Z")
    end
    if req.headers.authorization:find("ASIAROLE1/", 1, true) then
      return "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>over</Message></Error>"
        .. "</ErrorResponse>", 400
    end
    return "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1</Account>"
      .. "</GetCallerIdentityResult></GetCallerIdentityResponse>"
  end)
  host.setenv("AWS_ENDPOINT_URL_STS", url)
  config("[profile r]\nrole_arn = arn:aws:iam::123456789012:role/RoleA\nsource_profile = b\n"
    .. "[profile b]\naws_access_key_id = AKIABASE\naws_secret_access_key = canary-base\n")
  local got = async.map({ 1, 2, 3, 4 }, function()
    return aws.credentials { profile = "r" }
  end)
  t.is({ #seen, got[4].access_key_id }, { 1, "ASIAROLE1" }, "four ask, one request is sent")
  t.is(got[1].account_id, "123456789012", "the account is that of the role")
  local file = HOME .. "/.aws/cli/cache/330942beff5b0648244cebd8031e0bfca87ac4a0.json"
  t.is(fs.stat(file).mode & 511, 384, "kept where the CLI keeps it, for us alone")
  local sts = aws.client("sts", { profile = "r" })
  local r = sts:get_caller_identity {}
  t.is(r.Account, "1", "expired ones are got anew")
  t.is(aws.meta(r).RetryAttempts, 0, "which is no attempt")
  collectgarbage()
  local n = #seen
  t.is(aws.credentials({ profile = "r" }).access_key_id:sub(1, 8), "ASIAROLE", "from the cache")
  t.is(#seen, n, "nothing was sent")
end)

for _, s in ipairs(servers) do
  s:close()
end

return t.done()
