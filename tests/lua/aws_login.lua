-- Credentials that people log in for, and those of former times: single
-- sign-on, `aws login`, web identities, MFA codes without a terminal, old key
-- files; and what happens when they are to be renewed.
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local httpd = require "hgauto.httpd"
local json = require "hgauto.json"
local log = require "hgauto.log"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local time = require "hgauto.time"

local HOME = t.tmpdir()
local PRIVATE = { mode = tonumber("600", 8) }
for _, name in ipairs { "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_CREDENTIAL_FILE",
  "BOTO_CONFIG" } do
  host.setenv(name, nil)
end
host.setenv("HOME", HOME)
host.setenv("AWS_REGION", "us-west-2")
host.setenv("AWS_EC2_METADATA_DISABLED", "true")
host.setenv("AWS_MAX_ATTEMPTS", "1")
for _, dir in ipairs { "", "/sso", "/sso/cache", "/login", "/login/cache" } do
  fs.mkdir(HOME .. "/.aws" .. dir, { mode = tonumber("700", 8) })
end
local LOG = HOME .. "/log"
local sink = log.file(LOG, { level = "debug" })

local servers = {}

-- A peer; handler(req, n) gives body and status of the n-th answer.
local function serve(handler)
  local seen = {}
  local s = httpd.new { on_request = function(req)
    seen[#seen + 1] = req
    local body, status = handler(req, #seen)
    if type(body) == "table" then
      body = json.encode(body)
    end
    req:respond { status = status or 200, body = body or "" }
  end }
  servers[#servers + 1] = s
  return "http://127.0.0.1:" .. s:listen { host = "127.0.0.1" }, seen
end

local function config(text)
  fs.write(HOME .. "/.aws/config", text)
end

-- Text of a time that many seconds from now.
local function at(seconds)
  return aws.time(math.floor(time.now()) + seconds)
end

-- ---- single sign-on --------------------------------------------------------

local function token_path(name)
  return HOME .. "/.aws/sso/cache/" .. crypto.sha1(name) .. ".json"
end

-- What the CLI leaves after a login; left: seconds the token lasts.
local function logged_in(name, left, more)
  local doc = { accessToken = "canary-token-" .. name, expiresAt = at(left),
    startUrl = "https://x.awsapps.com/start", region = "eu-west-1", own = { 1, "kept" } }
  for key, value in pairs(more or {}) do
    doc[key] = value
  end
  fs.write(token_path(name), json.encode(doc), PRIVATE)
end

local REGISTERED = { clientId = "client", clientSecret = "canary-client",
  refreshToken = "canary-refresh" }

local function sso_config(session)
  config(([[
[profile p]
sso_session = %s
sso_account_id = 012345678901
sso_role_name = SampleRole
[profile token]
sso_session = %s
[profile old]
sso_start_url = https://old.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 012345678901
sso_role_name = SampleRole
[sso-session %s]
sso_region = eu-west-1
sso_start_url = https://x.awsapps.com/start
]]):format(session, session, session))
end

local granted = 0
local refuse -- status and body of GetRoleCredentials, if not what it gives
local sso_url, sso_seen = serve(function()
  if refuse then
    return refuse.body, refuse.status
  end
  granted = granted + 1
  return { roleCredentials = { accessKeyId = "ASIASSO" .. granted, sessionToken = "tok",
    secretAccessKey = "canary-sso", expiration = (math.floor(time.now()) + 60) * 1000 } }
end)
local renew_answer
local oidc_url, oidc_seen = serve(function()
  return renew_answer.body, renew_answer.status
end)
host.setenv("AWS_ENDPOINT_URL_SSO", sso_url)
host.setenv("AWS_ENDPOINT_URL_SSO_OIDC", oidc_url)

t.test("single sign-on with a session", function()
  sso_config "dev"
  logged_in("dev", 3600)
  local c = aws.credentials { profile = "p" }
  t.is({ c.provider, c.access_key_id, c.account_id }, { "sso", "ASIASSO1", "012345678901" },
    "credentials of the role")
  t.is(sso_seen[1].path, "/federation/credentials", "asked for at the portal")
  t.like(sso_seen[1].query, "role_name=SampleRole", "by role")
  t.like(sso_seen[1].query, "account_id=012345678901", "and account")
  t.is(sso_seen[1].headers["x-amz-sso_bearer_token"], "canary-token-dev", "with the token")
  t.is(sso_seen[1].headers.authorization, nil, "and no signature")
  t.is(#oidc_seen, 0, "a token that lasts is not renewed")
  local kept = HOME .. "/.aws/cli/cache/4f0072b03f86a95e613340c2868ab49e9cc60d6e.json"
  local doc = json.decode(fs.read(kept))
  t.is({ doc.ProviderType, doc.Credentials.AccessKeyId, fs.stat(kept).mode & 511 },
    { "sso", "ASIASSO1", 384 }, "kept where the CLI keeps them")
end)

t.test("a token near its end is renewed and written back", function()
  sso_config "renew"
  logged_in("renew", 600, REGISTERED)
  renew_answer = { body = { accessToken = "canary-token-2", expiresIn = 28800,
    tokenType = "Bearer", refreshToken = "canary-refresh-2" } }
  aws.credentials { profile = "p" }
  local req = oidc_seen[#oidc_seen]
  t.is({ req.method, req.path }, { "POST", "/token" }, "CreateToken")
  t.is(json.decode(req.body), { clientId = "client", clientSecret = "canary-client",
    refreshToken = "canary-refresh", grantType = "refresh_token" }, "by the refresh token")
  t.is(req.headers.authorization, nil, "unsigned")
  t.is(sso_seen[#sso_seen].headers["x-amz-sso_bearer_token"], "canary-token-2",
    "the new one serves")
  local doc = json.decode(fs.read(token_path "renew"))
  t.is({ doc.accessToken, doc.refreshToken, doc.clientId, doc.own[2] },
    { "canary-token-2", "canary-refresh-2", "client", "kept" }, "new values, old members")
  local left = time.parse(doc.expiresAt) - time.now()
  t.ok(left > 28700 and left < 28900, "and how long it lasts")
  t.is(fs.stat(token_path "renew").mode & 511, 384, "for us alone")

  sso_config "second"
  logged_in("second", 600, REGISTERED)
  local n = #oidc_seen
  aws.credentials { profile = "p" }
  t.is(#oidc_seen, n + 1, "another session does not wait for the first one's minute")
  sso_config "third"
  logged_in("third", 600, REGISTERED)
  renew_answer = { status = 400, body = { error = "invalid_grant" } }
  aws.credentials({ profile = "p", credential_cache = "off" })
  t.is(sso_seen[#sso_seen].headers["x-amz-sso_bearer_token"], "canary-token-third",
    "refused: the old one serves while it lasts")
  n = #oidc_seen
  aws.credentials({ profile = "p", credential_cache = "off", region = "eu-west-1" })
  t.is(#oidc_seen, n, "and the service is left alone for a minute")
end)

t.test("who must log in again is told how", function()
  sso_config "gone"
  t.raises(function() aws.credentials { profile = "p" } end, { kind = "auth",
    match = "there is no single sign%-on session; run: aws sso login" }, "never logged in")
  logged_in("gone", -5)
  t.raises(function() aws.credentials { profile = "p" } end, { kind = "auth",
    match = "has expired; run: aws sso login %-%-sso%-session gone" }, "expired")
  logged_in("gone", -5, REGISTERED)
  t.raises(function() aws.credentials { profile = "p" } end, { kind = "auth",
    match = "has expired; run: aws sso login" }, "expired and not renewed")
  logged_in("gone", 3600)
  refuse = { status = 401, body = { __type = "UnauthorizedException", message = "no" } }
  t.raises(function() aws.credentials { profile = "p" } end, { kind = "auth",
    match = "not valid any more; run: aws sso login" }, "ended elsewhere")
  refuse = { status = 403, body = { __type = "ForbiddenException", message = "No access" } }
  t.raises(function() aws.credentials { profile = "p" } end, { match = "No access" },
    "a role that is not ours is another matter")
  refuse = nil
  t.raises(function() aws.credentials { profile = "token" } end, { kind = "auth",
    code = "NoCredentials" }, "a session alone gives no credentials")
end)

t.test("single sign-on as of old", function()
  local url = "https://old.awsapps.com/start"
  sso_config "dev"
  local n = #oidc_seen
  logged_in(url, 600, REGISTERED)
  t.is(aws.credentials({ profile = "old" }).provider, "sso", "named by the start URL")
  t.is(sso_seen[#sso_seen].headers["x-amz-sso_bearer_token"], "canary-token-" .. url,
    "its token")
  logged_in(url, -5, REGISTERED)
  t.raises(function() aws.credentials { profile = "old" } end, { kind = "auth",
    match = "has expired; run: aws sso login %-%-profile old" }, "expired")
  t.is(#oidc_seen, n, "such a token is never renewed")
end)

-- ---- aws login ---------------------------------------------------------------

local function unbase64url(text)
  return crypto.unbase64((text:gsub("-", "+"):gsub("_", "/")) .. ("="):rep(-#text % 4))
end

-- One DER element.
local function der(tag, body)
  assert(#body < 128)
  return string.char(tag, #body) .. body
end

local function der_int(bytes)
  bytes = bytes:gsub("^\0+", "")
  return der(2, bytes:byte() >= 128 and "\0" .. bytes or bytes)
end

-- Whether another program finds the ES256 signature of the proof right.
local function openssl_agrees(proof)
  local signed, sig = proof:match "^(.+)%.([^.]+)$"
  local head = json.decode(unbase64url(signed:match "^[^.]+"))
  local raw = unbase64url(sig)
  local point = "\0\4" .. unbase64url(head.jwk.x) .. unbase64url(head.jwk.y)
  -- id-ecPublicKey, prime256v1
  local alg = der(48, crypto.unhex "06072a8648ce3d020106082a8648ce3d030107")
  fs.write(HOME .. "/pub.der", der(48, alg .. der(3, point)))
  fs.write(HOME .. "/sig.der", der(48, der_int(raw:sub(1, 32)) .. der_int(raw:sub(33))))
  fs.write(HOME .. "/signed", signed)
  local r = proc.run({ "openssl", "dgst", "-sha256", "-keyform", "DER", "-verify",
    HOME .. "/pub.der", "-signature", HOME .. "/sig.der", HOME .. "/signed" }, { check = false })
  return #raw == 64 and r.code == 0, r.out .. r.err
end

local ARN = "arn:aws:iam::123456789012:user/me"

local function login_path(dir)
  return (dir or HOME .. "/.aws/login/cache") .. "/" .. crypto.sha256(ARN) .. ".json"
end

local function login(left, pem, dir)
  fs.write(login_path(dir), json.encode { clientId = "cli", refreshToken = "canary-refresh",
    dpopKey = pem, own = "kept", accessToken = { accessKeyId = "ASIALOGIN0",
      secretAccessKey = "canary-login", sessionToken = "tok", accountId = "123456789012",
      expiresAt = at(left) } }, PRIVATE)
end

local signin_answer
local signin_url, signin_seen = serve(function()
  return signin_answer.body, signin_answer.status
end)
host.setenv("AWS_ENDPOINT_URL_SIGNIN", signin_url)

local PEMS = {
  { "PKCS#8", { "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256" } },
  { "SEC 1", { "ecparam", "-name", "prime256v1", "-genkey", "-noout" } },
}

local function make_key(argv)
  return proc.run({ "openssl", table.unpack(argv) }).out
end

t.test("a login session", function()
  config("[profile l]\nlogin_session = " .. ARN .. "\n")
  t.raises(function() aws.credentials { profile = "l" } end, { kind = "auth",
    match = "there is no login session; run: aws login %-%-profile l" }, "never logged in")
  for _, key in ipairs(PEMS) do
    local pem = make_key(key[2])
    login(3600, pem)
    local n = #signin_seen
    local c = aws.credentials { profile = "l", credential_cache = "off" }
    t.is({ c.provider, c.access_key_id, c.account_id }, { "login", "ASIALOGIN0", "123456789012" },
      key[1] .. ": the credentials in the file")
    t.is(#signin_seen, n, "nobody is asked")
    -- The credentials in memory are the same; a session of its own asks anew.
    collectgarbage()
    collectgarbage()

    login(200, pem)
    signin_answer = { body = { accessToken = { accessKeyId = "ASIALOGIN1", sessionToken = "tok1",
      secretAccessKey = "canary-login-1" }, expiresIn = 900, tokenType = "urn:aws:params",
      refreshToken = "canary-refresh-1" } }
    c = aws.credentials { profile = "l", region = "eu-west-1" }
    t.is({ c.access_key_id, c.account_id }, { "ASIALOGIN1", "123456789012" }, "renewed in time")
    local req = signin_seen[#signin_seen]
    t.is({ req.method, req.path, req.headers["content-type"] },
      { "POST", "/v1/token", "application/json" }, "at the sign-in service")
    t.is(json.decode(req.body), { clientId = "cli", grantType = "refresh_token",
      refreshToken = "canary-refresh" }, "by the refresh token")
    local proof = req.headers.dpop
    local head = json.decode(unbase64url(proof:match "^[^.]+"))
    local claims = json.decode(unbase64url(proof:match "%.([^.]+)%."))
    t.is({ head.typ, head.alg, head.jwk.kty, head.jwk.crv },
      { "dpop+jwt", "ES256", "EC", "P-256" }, "with a proof of possession")
    t.is({ claims.htm, claims.htu, #claims.jti }, { "POST", signin_url .. "/v1/token", 36 },
      "for this request")
    t.ok(math.abs(claims.iat - time.now()) < 60, "made now")
    local right, said = openssl_agrees(proof)
    t.ok(right, "and a signature that another program finds right " .. said:gsub("%s+$", ""))
    t.ok(not openssl_agrees((proof:gsub("%.", ".AAAA", 1))), "which it tells from a wrong one")
    local doc = json.decode(fs.read(login_path()))
    t.is({ doc.accessToken.accessKeyId, doc.accessToken.accountId, doc.refreshToken, doc.own,
      doc.dpopKey }, { "ASIALOGIN1", "123456789012", "canary-refresh-1", "kept", pem },
      "written back among what was there")
    t.is(fs.stat(login_path()).mode & 511, 384, "for us alone")
    collectgarbage()
    collectgarbage()
  end
end)

t.test("a login session that has ended", function()
  local pem = make_key(PEMS[1][2])
  local dir = HOME .. "/elsewhere"
  fs.mkdir(dir, { mode = tonumber("700", 8) })
  host.setenv("AWS_LOGIN_CACHE_DIRECTORY", dir)
  for code, text in pairs {
    TOKEN_EXPIRED = "has expired", USER_CREDENTIALS_CHANGED = "password",
  } do
    login(-5, pem, dir)
    signin_answer = { status = 400, body = { error = code, error_description = "x" } }
    t.raises(function() aws.credentials { profile = "l" } end, { kind = "auth",
      match = text .. ".*; run: aws login %-%-profile l" }, code)
  end
  signin_answer = { status = 500, body = "<html>" }
  t.raises(function() aws.credentials { profile = "l" } end, { kind = "auth",
    match = "sign%-in service answered with status 500" }, "a service in trouble")
  login(-5, "no key", dir)
  local n = #signin_seen
  t.raises(function() aws.credentials { profile = "l" } end, { match = "dpopKey" }, "a broken key")
  t.is(#signin_seen, n, "is not worth a request")
  host.setenv("AWS_LOGIN_CACHE_DIRECTORY", nil)
end)

-- ---- web identity ------------------------------------------------------------

local function role(action, n, expires)
  return ("<%sResponse><%sResult><AssumedRoleUser><AssumedRoleId>x</AssumedRoleId>"
    .. "<Arn>arn:aws:sts::123456789012:assumed-role/RoleA/x</Arn></AssumedRoleUser><Credentials>"
    .. "<AccessKeyId>ASIAWEB%d</AccessKeyId><SecretAccessKey>canary-web</SecretAccessKey>"
    .. "<SessionToken>tok</SessionToken><Expiration>%s</Expiration></Credentials>"
    .. "</%sResult></%sResponse>"):format(action, action, n, expires, action, action)
end

t.test("a web identity", function()
  local url, seen = serve(function(_, n)
    -- So short that every call renews it.
    return role("AssumeRoleWithWebIdentity", n, at(120))
  end)
  local file = HOME .. "/web-token"
  host.setenv("AWS_ENDPOINT_URL_STS", url)
  config("[profile w]\nrole_arn = arn:aws:iam::123456789012:role/RoleA\n"
    .. "role_session_name = me\nweb_identity_token_file = " .. file .. "\n")
  t.raises(function() aws.credentials { profile = "w" } end, { match = "web%-token" }, "no file")
  fs.write(file, " \n")
  t.raises(function() aws.credentials { profile = "w" } end, { match = "is empty" }, "an empty one")
  fs.write(file, "canary-jwt-1\n")
  local sts = aws.client("sts", { profile = "w" })
  t.is(aws.credentials({ profile = "w" }).provider, "web identity", "has credentials")
  t.like(seen[1].body, "WebIdentityToken=canary%-jwt%-1$", "for the token, without line end")
  t.like(seen[1].body, "RoleSessionName=me", "the configured name")
  t.is(seen[1].headers.authorization, nil, "unsigned")
  fs.write(file, "canary-jwt-2\n")
  pcall(sts.get_caller_identity, sts, {})
  t.like(seen[2].body, "WebIdentityToken=canary%-jwt%-2", "the file is read again at each renewal")
  config ""
  host.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
  host.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/RoleB")
  host.setenv("AWS_ROLE_SESSION_NAME", "pod")
  t.is(aws.credentials().provider, "web identity", "from the environment")
  t.like(seen[#seen].body, "RoleB&RoleSessionName=pod", "with its names")
  host.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", nil)
  host.setenv("AWS_ROLE_ARN", nil)
  host.setenv("AWS_ROLE_SESSION_NAME", nil)
end)

-- ---- MFA ---------------------------------------------------------------------

t.test("a code is asked for on a terminal only", function()
  local url, seen = serve(function(_, n)
    return role("AssumeRole", n, at(3600))
  end)
  config("[profile m]\nrole_arn = arn:aws:iam::123456789012:role/Mfa\nsource_profile = b\n"
    .. "mfa_serial = arn:aws:iam::1:mfa/me\n"
    .. "[profile b]\naws_access_key_id = AKIABASE\naws_secret_access_key = canary-base\n")
  local task = HOME .. "/mfa.lua"
  fs.write(task, 'return function() require("hgauto.aws").credentials { profile = "m" } end\n')
  local r = proc.run({ "setsid", "-w", host.getenv "HGAUTO" or fs.readlink "/proc/self/exe", "run",
    "--local", "--state-path", HOME .. "/state", task },
    { check = false, stdin = "", timeout = 60, env = { AWS_ENDPOINT_URL_STS = url } })
  require("localcloud.client").stop { state = HOME .. "/state" }
  t.is(r.code, 3, "without one the run ends with 3")
  t.like(r.err, "mfa_serial wants a code for arn:aws:iam::1:mfa/me: there is no terminal to ask on",
    "and says why")
  t.is(#seen, 0, "nothing was sent")
end)

-- ---- files of former times ---------------------------------------------------

t.test("old key files", function()
  config ""
  local path = HOME .. "/keys"
  host.setenv("AWS_CREDENTIAL_FILE", path)
  t.raises(aws.credentials, { match = "AWS_CREDENTIAL_FILE.*keys" }, "a missing one is named")
  fs.write(path, "AWSAccessKeyId=AKIAOLD\n")
  t.raises(aws.credentials, { kind = "auth", code = "PartialCredentials" }, "half of one")
  fs.write(path, "# mine\r\nAWSAccessKeyId=AKIAOLD\r\nAWSSecretKey=canary-old=x\r\n")
  local c = aws.credentials()
  t.is({ c.provider, c.access_key_id, c.where }, { "ec2 file", "AKIAOLD", path },
    "AWS_CREDENTIAL_FILE")
  host.setenv("AWS_CREDENTIAL_FILE", nil)
  fs.write(path, "[Boto]\naws_access_key_id = WRONG\n[Credentials]\naws_access_key_id = AKIABOTO\n"
    .. "aws_secret_access_key = canary-boto\n")
  host.setenv("BOTO_CONFIG", path)
  c = aws.credentials()
  t.is({ c.provider, c.access_key_id }, { "boto", "AKIABOTO" }, "BOTO_CONFIG")
  host.setenv("BOTO_CONFIG", nil)
  fs.write(HOME .. "/.boto", fs.read(path))
  t.is(aws.credentials().provider, "boto", "~/.boto")
  fs.remove(HOME .. "/.boto")
end)

-- ---- renewal -----------------------------------------------------------------

t.test("a renewal before its time may fail", function()
  local left, broken = 12 * 60, false
  local url, seen = serve(function(req, n)
    if req.path ~= "/c" then
      return "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1</Account>"
        .. "</GetCallerIdentityResult></GetCallerIdentityResponse>"
    elseif broken then
      return { code = "no" }, 400
    end
    return { AccessKeyId = "ASIAC" .. n, SecretAccessKey = "canary-container", Token = "tok",
      Expiration = at(left) }
  end)
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url .. "/c")
  host.setenv("AWS_ENDPOINT_URL_STS", url)
  local sts = aws.client "sts"
  local function key()
    sts:get_caller_identity {}
    return seen[#seen].headers.authorization:match "Credential=(%w+)"
  end
  local first = key()
  broken = true
  t.is(key(), first, "with 12 minutes left a failure does no harm")
  t.like(fs.read(LOG), "could not be got anew: [^\n]*status 400", "it is logged")
  local n = #seen
  t.is(key(), first, "nor is it tried")
  t.is(#seen, n + 1, "again at once")
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url .. "/c?2")
  broken, left = false, 9 * 60
  sts = aws.client "sts"
  key()
  broken = true
  t.raises(key, { kind = "auth", match = "status 400" }, "with 9 minutes left it is an error")
  host.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", nil)
end)

t.test("no secret was logged", function()
  t.ok(not fs.read(LOG):find "canary", "in all of this")
end)

sink:close()
for _, s in ipairs(servers) do
  s:close()
end

return t.done()
