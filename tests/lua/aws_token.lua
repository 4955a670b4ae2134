-- Ways around a signature: bearer tokens, calls that nobody signs; the region
-- from the metadata service; requests that need credentials which must be
-- waited for.
local async = require "hgauto.async"
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local json = require "hgauto.json"
local log = require "hgauto.log"
local t = require "hg.tap"

local HOME = t.tmpdir()
for _, name in ipairs { "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION",
  "AWS_DEFAULT_REGION" } do
  host.setenv(name, nil)
end
host.setenv("HOME", HOME)
host.setenv("AWS_EC2_METADATA_DISABLED", "true")
host.setenv("AWS_MAX_ATTEMPTS", "1")
fs.mkdir(HOME .. "/.aws/sso/cache", { mode = tonumber("700", 8), parents = true })
fs.chmod(HOME .. "/.aws", tonumber("700", 8))
local TRACE = HOME .. "/trace"
local trace = log.file(TRACE, { level = "trace" })

local servers = {}

local function serve(handler)
  local seen = {}
  local s = httpd.new { on_request = function(req)
    seen[#seen + 1] = req
    local body, status = handler(req, #seen)
    req:respond { status = status or 200, body = body or "{}" }
  end }
  servers[#servers + 1] = s
  return "http://127.0.0.1:" .. s:listen { host = "127.0.0.1" }, seen
end

-- A service of a user's own with these kinds of proof.
local function model(name, auth, op_auth)
  local dir = ("%s/models/%s/2020-01-01"):format(HOME, name)
  fs.mkdir(dir, { parents = true })
  fs.write(dir .. "/service-2.json", json.encode {
    metadata = { apiVersion = "2020-01-01", protocol = "json", jsonVersion = "1.1",
      endpointPrefix = name, signingName = name, serviceId = name, targetPrefix = "T",
      auth = auth },
    operations = { GetThing = { name = "GetThing", auth = op_auth,
      http = { method = "POST", requestUri = "/" }, input = { shape = "In" } } },
    shapes = { In = { type = "structure", members = {} } },
  })
end

local BEARER, SIGV4 = "smithy.api#httpBearerAuth", "aws.auth#sigv4"
model("my-tokens", { BEARER })
model("both", { SIGV4, BEARER })
model("single", { SIGV4 }, { BEARER })
host.setenv("AWS_DATA_PATH", HOME .. "/models")

t.test("bearer tokens", function()
  local url, seen = serve(function() return "{}" end)
  local function call(service, more)
    local opts = { region = "us-west-2", endpoint_url = url, profile = more }
    aws.client(service, opts):get_thing {}
    return seen[#seen].headers.authorization
  end
  fs.write(HOME .. "/.aws/config", "[profile s]\nsso_session = dev\n[sso-session dev]\n"
    .. "sso_region = eu-west-1\nsso_start_url = https://x.awsapps.com/start\n"
    .. "[default]\naws_access_key_id = AKIABASE\naws_secret_access_key = canary-base\n")
  t.raises(function() call "my-tokens" end, { kind = "auth", code = "NoToken",
    match = 'profile "default" has no sso_session' }, "keys are no token")
  t.is(#seen, 0, "and nothing is sent without one")
  host.setenv("AWS_BEARER_TOKEN_MY_TOKENS", " canary-env-token\n")
  t.is(call "my-tokens", "Bearer canary-env-token", "from the variable of the service")
  host.setenv("AWS_BEARER_TOKEN_MY_TOKENS", nil)
  fs.write(HOME .. "/.aws/sso/cache/" .. crypto.sha1 "dev" .. ".json", json.encode {
    accessToken = "canary-sso-token", expiresAt = "2099-01-01T00:00:00Z" },
    { mode = tonumber("600", 8) })
  t.is(call("my-tokens", "s"), "Bearer canary-sso-token", "from the session of a profile")
  t.like(call "both", "^AWS4%-HMAC", "a service that takes both gets a signature")
  host.setenv("AWS_BEARER_TOKEN_BOTH", "canary-both-token")
  t.is(call "both", "Bearer canary-both-token", "unless its variable is set")
  host.setenv("AWS_BEARER_TOKEN_SINGLE", "canary-single-token")
  t.is(call "single", "Bearer canary-single-token", "an operation of another kind")
  host.setenv("AWS_BEARER_TOKEN_EC2", "canary-ec2-token")
  local ec2, got = serve(function()
    return "<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>"
  end)
  aws.client("ec2", { region = "us-west-2", endpoint_url = ec2 }):describe_regions {}
  t.like(got[1].headers.authorization, "^AWS4%-HMAC", "no token where the model lists none")
  host.setenv("AWS_BEARER_TOKEN_SINGLE", "canary-a\nX-Evil: 1")
  t.raises(function() call "single" end, { kind = "usage", match = "header Authorization" },
    "no header is smuggled")
end)

t.test("a web identity is its own proof", function()
  fs.write(HOME .. "/.aws/config", "")
  local url, seen = serve(function()
    return "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
      .. "<AccessKeyId>ASIAWEB</AccessKeyId><SecretAccessKey>canary-web</SecretAccessKey>"
      .. "<SessionToken>tok</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
      .. "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
  end)
  local sts = aws.client("sts", { region = "us-west-2", endpoint_url = url })
  local r = sts:assume_role_with_web_identity { RoleArn = "arn:aws:iam::123456789012:role/A",
    RoleSessionName = "me", WebIdentityToken = "canary-jwt" }
  t.is(r.Credentials.AccessKeyId, "ASIAWEB", "needs no credentials")
  t.is(seen[1].headers.authorization, nil, "and is not signed")
end)

t.test('region = "imds"', function()
  local answer, version = "eu-north-1\n", 2
  local url, seen = serve(function(req)
    if req.method == "PUT" then
      return version == 2 and "canary-imds-token" or "", version == 2 and 200 or 404
    end
    return answer, answer and 200 or 404
  end)
  local ec2 = aws.client("ec2", { region = "imds" })
  t.raises(function() return ec2.meta end, { kind = "usage", code = "NoRegion",
    match = "switched off %(AWS_EC2_METADATA_DISABLED%)" }, "not when switched off")
  host.setenv("AWS_EC2_METADATA_DISABLED", nil)
  host.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url .. "/")
  t.is(#seen, 0, "making a client asks nobody")
  t.is(ec2.meta.region, "eu-north-1", "the region of the instance, at first use")
  t.is({ seen[1].method, seen[2].path, seen[2].headers["x-aws-ec2-metadata-token"] },
    { "PUT", "/latest/meta-data/placement/region", "canary-imds-token" }, "token first")
  async.map({ 1, 2 }, function()
    t.is(aws.client("ec2", { region = "imds" }).meta.endpoint,
      "https://ec2.eu-north-1.amazonaws.com", "the next clients")
  end)
  t.is(#seen, 2, "ask no more")
  answer, version = nil, 1
  host.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url .. "/b")
  ec2 = aws.client("ec2", { region = "imds" })
  t.raises(function() return ec2.meta end, { kind = "net", match = "status 404" },
    "a service that does not know")
  answer = "us-east-2"
  t.is(ec2.meta.region, "us-east-2", "is asked again; version 1 will do")
  host.setenv("AWS_EC2_METADATA_V1_DISABLED", "true")
  host.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url .. "/c")
  t.raises(function() return aws.client("ec2", { region = "imds" }).meta end,
    { match = "version 1 is disabled" }, "unless it is disabled")
  host.setenv("AWS_EC2_METADATA_V1_DISABLED", nil)
  host.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", nil)
  host.setenv("AWS_EC2_METADATA_DISABLED", "true")
end)

-- DynamoDB's way: the account is a part of the host, or of the path here.
t.test("endpoints of an account", function()
  local url, seen = serve(function() return "{}" end)
  local function rule(conditions, more)
    more.conditions = conditions
    return more
  end
  local function is_set(name) return { fn = "isSet", argv = { { ref = name } } } end
  local function mode(text)
    return { is_set "Mode",
      { fn = "stringEquals", argv = { { ref = "Mode" }, text } } }
  end
  model("accounts", { SIGV4 })
  fs.write(HOME .. "/models/accounts/2020-01-01/endpoint-rule-set-1.json", json.encode {
    version = "1.0",
    parameters = {
      Account = { builtIn = "AWS::Auth::AccountId", type = "String" },
      Mode = { builtIn = "AWS::Auth::AccountIdEndpointMode", type = "String" },
    },
    rules = {
      rule({ is_set "Account" },
        { type = "endpoint", endpoint = { url = url .. "/of/{Account}" } }),
      rule(mode "required", { type = "error", error = "no account id is known" }),
      rule({ { fn = "not", argv = { is_set "Account" } } },
        { type = "endpoint", endpoint = { url = url .. "/any" } }),
    },
  })
  local function config(line)
    fs.write(HOME .. "/.aws/config", "[default]\naws_access_key_id = AKIABASE\n"
      .. "aws_secret_access_key = canary-base\n" .. line)
  end
  local function path()
    aws.client("accounts", { region = "us-west-2" }):get_thing {}
    return seen[#seen].path
  end
  config ""
  t.is(path(), "/any/", "without one")
  config "aws_account_id = 123456789012\n"
  t.is(path(), "/of/123456789012/", "the one of the credentials")
  host.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "disabled")
  t.is(path(), "/any/", "unless that is disabled")
  host.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required")
  t.is(path(), "/of/123456789012/", "required and there")
  config ""
  local n = #seen
  t.raises(path, { kind = "usage", match = "no account id is known" }, "required and not there")
  t.is(#seen, n, "nothing is sent then")
  host.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", nil)
end)

t.test("what is made with credentials waits for them", function()
  fs.write(HOME .. "/doc", json.encode { Version = 1, AccessKeyId = "AKIAPROC",
    SecretAccessKey = "canary-proc" })
  fs.write(HOME .. "/.aws/config", "[default]\nregion = us-west-2\n"
    .. "credential_process = cat " .. HOME .. "/doc\n")
  local url, seen = serve(function()
    return "<CopySnapshotResponse><snapshotId>snap-1</snapshotId></CopySnapshotResponse>"
  end)
  local ec2 = aws.client("ec2", { endpoint_url = url })
  t.raises(function() ec2:copy_snapshot { SourceRegion = "us-east-1" } end,
    { kind = "usage", match = "SourceSnapshotId" }, "mistakes are told before that")
  local r = ec2:copy_snapshot { SourceRegion = "us-east-1", SourceSnapshotId = "snap-0" }
  t.is(r.SnapshotId, "snap-1", "a copy whose URL is signed")
  local body = seen[1].body
  t.like(body, "DestinationRegion=us%-west%-2", "its destination")
  t.like(body, "PresignedUrl=[^&]*X%-Amz%-Signature", "its URL")
  t.like(body, "SourceSnapshotId=snap%-0", "what the caller gave")
  local s3, got = serve(function() return "" end)
  -- The endpoints of s3 depend on each call.
  aws.client("s3", { endpoint_url = s3, region = "us-west-2" }):put_object {
    Bucket = "my-bucket", Key = "k", Body = "content" }
  t.is(got[1].body, "content", "parameters outlive the waiting")
  fs.write(HOME .. "/up", "from a file")
  aws.client("s3", { endpoint_url = s3, region = "us-east-1" }):put_object {
    Bucket = "my-bucket", Key = "k", Body = aws.file(HOME .. "/up") }
  t.is(got[2].body, "from a file", "files as well")
  local o = aws.client("s3", { endpoint_url = s3, region = "us-east-2" }):get_object(
    { Bucket = "my-bucket", Key = "k" }, { to = HOME .. "/down" })
  t.is(o.Body.path, HOME .. "/down", "and where an answer goes")
end)

t.test("settings show no password", function()
  host.setenv("HTTPS_PROXY", "http://user:canary-p@w@127.0.0.1:1/")
  t.is(aws.config({}).https_proxy.value, "http://***@127.0.0.1:1/", "of a proxy")
  host.setenv("HTTPS_PROXY", nil)
end)

t.test("no secret is in the trace", function()
  local text = fs.read(TRACE)
  t.like(text, "DescribeRegions", "there is one")
  t.ok(not text:find "canary", "without them")
end)

trace:close()
for _, s in ipairs(servers) do
  s:close()
end

return t.done()
