-- Security Token Service: who am I, and temporary keys.

local auth = require "localcloud.auth"
local common = require "localcloud.iam.common"
local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local json = require "hgauto.json"
local state = require "localcloud.state"

local M = {}
local ops = {}
M.ops = ops

local USER_ID = "AIDAHGAUTOLOCALUSER01"
local NAME = "^[%w+=,.@_-]+$"

local function user_arn(account)
  return ("arn:aws:iam::%s:user/hgauto-local"):format(account)
end

--- Who has signed a request.
-- @param c table request context
-- @return {arn, id}
function M.principal(c)
  return c.session and c.session.principal or { arn = user_arn(c.account), id = USER_ID }
end

ops.GetCallerIdentity = {
  accept = {},
  run = function(c)
    local who = M.principal(c)
    return { Account = c.account, UserId = who.id, Arn = who.arn }
  end,
}

-- ---- temporary keys ----

local function duration(value, default, least, most)
  local n = value or default
  if n < least or n > most then
    errors.raise("ValidationError", "1 validation error detected: Value '%d' at 'durationSeconds'"
      .. " failed to satisfy constraint: Member must have value between %d and %d", n, least, most)
  end
  return n
end

--- Makes temporary keys; the caller commits.
-- @param S State
-- @param now number
-- @param seconds integer
-- @param principal {arn, id}
-- @return table {AccessKeyId, SecretAccessKey, SessionToken, Expiration}
function M.issue(S, now, seconds, principal)
  local s = S:put { kind = "session", region = "global", id = auth.random_name("ASIA", 16),
    created = state.now_ms(), secret = crypto.base64(crypto.random(30)),
    token = crypto.base64(crypto.random(96)), expires = math.floor(now + seconds),
    principal = principal }
  require("hgauto.log").secret(s.secret)
  require("hgauto.log").secret(s.token)
  return { AccessKeyId = s.id, SecretAccessKey = s.secret, SessionToken = s.token,
    Expiration = s.expires }
end

-- Whether the trust policy of a role lets this account's principals in.
local function trusts(role, arn, account)
  local allowed = { ["*"] = true, [account] = true, [arn] = true,
    [("arn:aws:iam::%s:root"):format(account)] = true }
  for _, s in ipairs(common.statements(role.trust)) do
    local p = type(s.Principal) == "table" and s.Principal.AWS or s.Principal
    for _, one in ipairs(type(p) == "table" and p or { p }) do
      if s.Effect == "Allow" and allowed[one] then
        return true
      end
    end
  end
  return false
end

ops.AssumeRole = {
  accept = { RoleArn = true, RoleSessionName = true, DurationSeconds = true },
  run = function(c, p)
    local arn = M.principal(c).arn
    local role
    for _, r in ipairs(c.S:list("role", "global")) do
      role = r.arn == p.RoleArn and r or role
    end
    if #p.RoleSessionName < 2 or #p.RoleSessionName > 64 or not p.RoleSessionName:match(NAME) then
      errors.raise("ValidationError", "1 validation error detected: Value '%s' at"
        .. " 'roleSessionName' failed to satisfy constraint", p.RoleSessionName:sub(1, 80))
    end
    local seconds = duration(p.DurationSeconds, 3600, 900, role and role.max_session or 43200)
    if not role or not trusts(role, arn, c.account) then
      errors.raise("AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on"
        .. " resource: %s", arn, p.RoleArn)
    end
    local who = { id = role.id .. ":" .. p.RoleSessionName,
      arn = ("arn:aws:sts::%s:assumed-role/%s/%s"):format(c.account, role.name,
        p.RoleSessionName) }
    return { Credentials = M.issue(c.S, c.d.now(), seconds, who), PackedPolicySize = 0,
      AssumedRoleUser = { AssumedRoleId = who.id, Arn = who.arn } }
  end,
}

ops.GetSessionToken = {
  accept = { DurationSeconds = true },
  run = function(c, p)
    if c.session then
      errors.raise("AccessDenied", "Cannot call GetSessionToken with session credentials")
    end
    local seconds = duration(p.DurationSeconds, 43200, 900, 129600)
    return { Credentials = M.issue(c.S, c.d.now(), seconds, M.principal(c)) }
  end,
}

-- ---- encoded messages ----

--- Text of an authorization failure as only this cloud can read it back.
-- @param secret string key of this state directory
-- @param value table
-- @return string
function M.encode_message(secret, value)
  local text = json.encode(value)
  return crypto.base64(crypto.hmac_sha256(secret, "authz" .. text) .. text)
end

ops.DecodeAuthorizationMessage = {
  accept = { EncodedMessage = true },
  run = function(c, p)
    local ok, raw = pcall(crypto.unbase64, p.EncodedMessage)
    local text = ok and raw and raw:sub(33) or ""
    if text == "" or not crypto.equal(raw:sub(1, 32),
      crypto.hmac_sha256(c.S.secret, "authz" .. text)) then
      errors.raise("InvalidAuthorizationMessageException", "Message is not valid")
    end
    return { DecodedMessage = text }
  end,
}

return M
