-- Signature version 4 on the server's side, header and presigned form, and the
-- key pair of a state directory.  The canonical request is rebuilt from the
-- bytes received.  Document: the SigV4 description of the AWS API reference.

local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"

local M = {}

--- The account that all resources belong to.
M.account = "123456789012"
--- Seconds that a request's date may differ from our clock.
M.window = 300

local ALGORITHM = "AWS4-HMAC-SHA256"
local MAX_EXPIRES = 604800

-- ---- failures by protocol family ----

local FAILURES = {
  ec2 = {
    unsigned = { "MissingParameter", "The request must contain either a valid (registered) AWS "
      .. "access key ID or X.509 certificate", 400 },
    key = { "AuthFailure", "AWS was not able to validate the provided access credentials", 401 },
    signature = { "AuthFailure",
      "AWS was not able to validate the provided access credentials", 401 },
    token = { "RequestExpired", "Request has expired.", 400 },
  },
  query = {
    unsigned = { "MissingAuthenticationToken", "Request is missing Authentication Token", 403 },
    key = { "InvalidClientTokenId",
      "The security token included in the request is invalid.", 403 },
    signature = { "SignatureDoesNotMatch", "The request signature we calculated does not match "
      .. "the signature you provided. Check your AWS Secret Access Key and signing method.", 403 },
    token = { "ExpiredToken", "The security token included in the request is expired", 403 },
  },
  json = {
    unsigned = { "MissingAuthenticationTokenException", "Missing Authentication Token", 400 },
    key = { "UnrecognizedClientException",
      "The security token included in the request is invalid.", 400 },
    signature = { "InvalidSignatureException", "The request signature we calculated does not "
      .. "match the signature you provided.", 400 },
    token = { "ExpiredTokenException",
      "The security token included in the request is expired", 400 },
  },
}

--- A refusal of the table above.
-- @param family "ec2"|"query"|"json"
-- @param what "unsigned"|"key"|"signature"|"token"
-- @return table
function M.refusal(family, what)
  local f = FAILURES[family][what]
  return errors.new(f[1], f[2], f[3])
end

local function fail(family, what)
  error(M.refusal(family, what), 0)
end

-- ---- pieces of the canonical request ----

local function encode(text, keep)
  return (text:gsub("[^" .. keep .. "%w%-._~]", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

local function decode(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- Removes dot segments and empty segments of a raw path.
-- @param path string
-- @return string
function M.normal_path(path)
  local out = {}
  for segment in path:gmatch("[^/]+") do
    if segment == ".." then
      out[#out] = nil
    elseif segment ~= "." then
      out[#out + 1] = segment
    end
  end
  local last = path:match("([^/]*)$")
  local slash = #out > 0 and (last == "" or last == "." or last == "..")
  return "/" .. table.concat(out, "/") .. (slash and "/" or "")
end

local function query_pairs(query)
  local out = {}
  for part in (query or ""):gmatch("[^&]+") do
    local key, value = part:match("^([^=]*)=?(.*)$")
    out[#out + 1] = { decode(key), decode(value) }
  end
  return out
end
M.query_pairs = query_pairs

local function canonical_query(query)
  local list = {}
  for _, kv in ipairs(query_pairs(query)) do
    if kv[1] ~= "X-Amz-Signature" then
      list[#list + 1] = { encode(kv[1], ""), encode(kv[2], "") }
    end
  end
  table.sort(list, function(a, b)
    if a[1] ~= b[1] then
      return a[1] < b[1]
    end
    return a[2] < b[2]
  end)
  for i, kv in ipairs(list) do
    list[i] = kv[1] .. "=" .. kv[2]
  end
  return table.concat(list, "&")
end

local function trim(text)
  return (text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

-- The values of one header, repeats joined; nil when it was not sent.
local function header(req, name)
  local values
  for _, h in ipairs(req.raw_headers) do
    if h[1]:lower() == name then
      values = values or {}
      values[#values + 1] = trim(h[2])
    end
  end
  return values and table.concat(values, ",")
end

local function canonical_headers(req, signed)
  local lines = {}
  for _, name in ipairs(signed) do
    local value = header(req, name)
    if not value then
      return nil
    end
    lines[#lines + 1] = name .. ":" .. value .. "\n"
  end
  return table.concat(lines)
end

--- Rebuilds the canonical request.
-- @param req table method, path (raw), query (raw), raw_headers {{name, value}}, body
-- @param auth table result of M.parse
-- @param opts.normalize boolean default true
-- @return string|nil nil when a signed header is missing
function M.canonical_request(req, auth, opts)
  local headers = canonical_headers(req, auth.signed)
  if not headers then
    return nil
  end
  local path = req.path
  if not (opts and opts.normalize == false) then
    path = M.normal_path(path)
  end
  return table.concat({ req.method, encode(path, "/"), canonical_query(req.query), headers,
    auth.signed_text, crypto.sha256(req.body or "") }, "\n")
end

-- ---- reading the request's claim ----

local function scope_of(credential)
  local key, date, region, service = credential:match(
    "^([^/]+)/(%d%d%d%d%d%d%d%d)/([^/]+)/([^/]+)/aws4_request$")
  if key then
    return { access_key = key, date = date, region = region, service = service }
  end
end

local function split_signed(auth, text)
  auth.signed_text, auth.signed = text, {}
  for name in text:gmatch("[^;]+") do
    auth.signed[#auth.signed + 1] = name
    auth.signed[name] = true
  end
end

local function parse_header(req, text)
  local algorithm, rest = text:match("^(%S+)%s+(.*)$")
  if algorithm ~= ALGORITHM then
    return nil
  end
  local fields = {}
  for key, value in rest:gmatch("([%w]+)=([^,%s]+)") do
    fields[key] = value
  end
  local auth = scope_of(fields.Credential or "")
  if not (auth and fields.SignedHeaders and fields.Signature) then
    return nil
  end
  auth.form, auth.signature = "header", fields.Signature
  auth.amz_date = header(req, "x-amz-date") or header(req, "date")
  auth.date_header = header(req, "x-amz-date") and "x-amz-date" or "date"
  auth.token = header(req, "x-amz-security-token")
  split_signed(auth, fields.SignedHeaders)
  return auth
end

local function parse_query(req)
  local q = {}
  for _, kv in ipairs(query_pairs(req.query)) do
    q[kv[1]] = q[kv[1]] or kv[2]
  end
  if q["X-Amz-Algorithm"] ~= ALGORITHM then
    return nil
  end
  local auth = scope_of(q["X-Amz-Credential"] or "")
  if not (auth and q["X-Amz-SignedHeaders"] and q["X-Amz-Signature"]) then
    return nil
  end
  auth.form, auth.signature = "query", q["X-Amz-Signature"]
  auth.amz_date, auth.expires = q["X-Amz-Date"], tonumber(q["X-Amz-Expires"] or "900")
  auth.token = q["X-Amz-Security-Token"]
  split_signed(auth, q["X-Amz-SignedHeaders"])
  return auth
end

--- Reads who claims to have signed a request; nothing is verified yet.
-- @param req table see canonical_request
-- @return table|nil {form, access_key, date, region, service, signed, signature, amz_date, …}
function M.parse(req)
  local text = header(req, "authorization")
  if text then
    return parse_header(req, text)
  end
  return parse_query(req)
end

-- ---- verification ----

--- Days since 1970 of a date of the Gregorian calendar.
local function days(y, m, d)
  y = m <= 2 and y - 1 or y
  local era = y // 400
  local yoe = y - era * 400
  local doy = (153 * (m + (m > 2 and -3 or 9)) + 2) // 5 + d - 1
  return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468
end

--- Reads 20260102T030405Z.
-- @return integer|nil seconds since 1970
function M.parse_date(text)
  local y, mo, d, h, mi, s = (text or ""):match(
    "^(%d%d%d%d)(%d%d)(%d%d)T(%d%d)(%d%d)(%d%d)Z$")
  if not y then
    return nil
  end
  return days(tonumber(y), tonumber(mo), tonumber(d)) * 86400
    + tonumber(h) * 3600 + tonumber(mi) * 60 + tonumber(s)
end

local function signing_key(secret, auth)
  local key = "AWS4" .. secret
  for _, part in ipairs { auth.date, auth.region, auth.service, "aws4_request" } do
    key = crypto.hmac_sha256(key, part)
  end
  return key
end

--- The signature that a request should have.
-- @return string|nil hex; nil when a signed header is missing
function M.signature(req, auth, secret, opts)
  local canonical = M.canonical_request(req, auth, opts)
  if not canonical then
    return nil
  end
  local scope = table.concat({ auth.date, auth.region, auth.service, "aws4_request" }, "/")
  local text = table.concat({ ALGORITHM, auth.amz_date, scope, crypto.sha256(canonical) }, "\n")
  return crypto.hex(crypto.hmac_sha256(signing_key(secret, auth), text))
end

local function date_ok(auth, now)
  local at = M.parse_date(auth.amz_date)
  if not at or auth.amz_date:sub(1, 8) ~= auth.date then
    return false
  end
  if auth.form == "header" then
    return math.abs(now - at) <= M.window
  end
  local expires = auth.expires
  return expires and expires >= 1 and expires <= MAX_EXPIRES
    and now >= at - M.window and now <= at + expires
end

local function coverage_ok(req, auth)
  if not auth.signed.host or (auth.form == "header" and not auth.signed[auth.date_header]) then
    return false
  end
  local declared = header(req, "x-amz-content-sha256")
  return not declared or declared == crypto.sha256(req.body or "")
end

--- Verifies a request's signature.
-- @param req table see canonical_request
-- @param opts.keys table access key -> {secret=, token=, expires=}
-- @param opts.now number our clock
-- @param opts.family "ec2"|"query"|"json" form of the refusals
-- @param opts.service string service that must be in the scope
-- @param opts.normalize boolean default true
-- @return table what M.parse read
-- @raise refusals of the specification's table
function M.verify(req, opts)
  local auth = M.parse(req)
  if not auth then
    fail(opts.family, "unsigned")
  end
  local key = opts.keys[auth.access_key]
  if not key or (auth.token or key.token) and auth.token ~= key.token then
    fail(opts.family, "key")
  end
  local good = auth.service == opts.service and date_ok(auth, opts.now)
    and coverage_ok(req, auth)
  local wanted = good and M.signature(req, auth, key.secret, opts)
  if not (wanted and crypto.equal(wanted, auth.signature)) then
    fail(opts.family, "signature")
  end
  if key.expires and opts.now > key.expires then
    fail(opts.family, "token")
  end
  return auth
end

-- ---- keys of a state directory ----

local BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

--- A random name such as AKIA… or AROA….
-- @param prefix string
-- @param n integer letters and digits that follow
-- @return string
function M.random_name(prefix, n)
  local out = {}
  for i = 1, n do
    local at = crypto.random(1):byte() % 32 + 1
    out[i] = BASE32:sub(at, at)
  end
  return prefix .. table.concat(out)
end

--- Name of the profile in the credentials file.
M.profile = "hgauto-local"

--- Reads a credentials file that M.ensure_keys wrote.
-- @param path string
-- @return {access_key_id=, secret_access_key=}|nil
function M.read_keys(path)
  local fs = require "hgauto.fs"
  if not fs.exists(path) then
    return nil
  end
  local text = fs.read(path, { max = 65536 })
  local id = text:match("aws_access_key_id%s*=%s*(%S+)")
  local secret = text:match("aws_secret_access_key%s*=%s*(%S+)")
  return id and secret and { access_key_id = id, secret_access_key = secret } or nil
end

--- The key pair of a state directory, made at first use.
-- @param path string credentials file
-- @return {access_key_id=, secret_access_key=}
function M.ensure_keys(path)
  local keys = M.read_keys(path)
  if keys then
    return keys
  end
  local fs = require "hgauto.fs"
  keys = {
    access_key_id = M.random_name("AKIA", 16),
    secret_access_key = crypto.base64(crypto.random(30)),
  }
  fs.write(path, ("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n"):format(
    M.profile, keys.access_key_id, keys.secret_access_key), { mode = tonumber("600", 8),
    atomic = true })
  return keys
end

return M
