-- Key pairs: public keys under a name.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local state = require "localcloud.state"
local tags = require "localcloud.ec2.tags"

local M = {}
local ops = {}
M.ops = ops

--- The key pair of that name, or nil.
-- @param S State
-- @param region string
-- @param name string
-- @return table|nil
function M.by_name(S, region, name)
  for _, key in ipairs(S:list("key", region)) do
    if key.name == name then
      return key
    end
  end
end

--- The key pair of that name.
-- @raise InvalidKeyPair.NotFound
function M.need(S, region, name)
  return M.by_name(S, region, name)
    or errors.raise("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
end

-- Fingerprint as EC2 shows it, by key type.
local function read_public(text)
  local line = text:gsub("[\r\n]+$", "")
  local ok, info = pcall(crypto.public_info, line)
  if not ok or not info or line:find("\n", 1, true) then
    errors.raise("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
  end
  if info.type == "ssh-ed25519" then
    return line, "ed25519", info.sha256_b64
  elseif info.type == "ssh-rsa" then
    return line, "rsa", info.md5_der
  end
  errors.raise("InvalidKey.Format", "Key type %s is not supported", info.type)
end

ops.ImportKeyPair = {
  accept = { KeyName = true, PublicKeyMaterial = true, TagSpecifications = true },
  secret = { PublicKeyMaterial = true },
  run = function(c, p)
    local name = p.KeyName
    if #name == 0 or #name > 255 or name:find("[^\32-\126]") then
      errors.raise("InvalidParameterValue",
        "Value (%s) for parameter KeyName is invalid. Up to 255 ASCII characters.", name:sub(1, 80))
    end
    local line, kind, fingerprint = read_public(p.PublicKeyMaterial)
    local own = tags.from_specs(p.TagSpecifications, { "key-pair" })["key-pair"]
    if M.by_name(c.S, c.region, name) then
      errors.raise("InvalidKeyPair.Duplicate", "The keypair already exists")
    end
    c:checked()
    local key = c.S:put { kind = "key", region = c.region, id = state.new_id("key"),
      created = state.now_ms(), name = name, type = kind, fingerprint = fingerprint,
      public = line, tags = own }
    return { KeyName = name, KeyPairId = key.id, KeyFingerprint = fingerprint,
      Tags = tags.view(own) }
  end,
}

local FIELDS = { ["key-name"] = "name", ["key-pair-id"] = "id", fingerprint = "fingerprint" }

local function wanted(c, p)
  if not p.KeyNames and not p.KeyPairIds then
    return c.S:list("key", c.region)
  end
  local out = describe.by_ids("key", p.KeyPairIds or {}, function(id)
    return c.S:get("key", c.region, id)
  end)
  for _, name in ipairs(p.KeyNames or {}) do
    out[#out + 1] = M.need(c.S, c.region, name)
  end
  return out
end

ops.DescribeKeyPairs = {
  accept = { KeyNames = true, KeyPairIds = true, Filters = true, IncludePublicKey = true },
  run = function(c, p)
    local list = describe.sort(describe.filter(wanted(c, p), p.Filters, FIELDS))
    c:checked()
    local out = {}
    for i, key in ipairs(list) do
      out[i] = { KeyPairId = key.id, KeyName = key.name, KeyFingerprint = key.fingerprint,
        KeyType = key.type, CreateTime = key.created / 1000, Tags = tags.view(key.tags),
        PublicKey = p.IncludePublicKey and key.public or nil }
    end
    return { KeyPairs = out }
  end,
}

ops.DeleteKeyPair = {
  accept = { KeyName = true, KeyPairId = true },
  run = function(c, p)
    if not p.KeyName and not p.KeyPairId then
      errors.raise("MissingParameter",
        "The request must contain the parameter KeyName or KeyPairId")
    end
    local key
    if p.KeyPairId then
      describe.check_form("key", p.KeyPairId)
      key = c.S:get("key", c.region, p.KeyPairId)
    else
      key = M.by_name(c.S, c.region, p.KeyName)
    end
    c:checked()
    if key then
      c.S:drop(key)
    end
    return { Return = true, KeyPairId = key and key.id }
  end,
}

return M
