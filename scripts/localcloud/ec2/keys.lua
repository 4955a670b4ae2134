-- Key pairs: public keys under a name.

local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
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

local function check_name(name)
  if #name == 0 or #name > 255 or name:find("[^\32-\126]") then
    errors.raise("InvalidParameterValue",
      "Value (%s) for parameter KeyName is invalid. Up to 255 ASCII characters.", name:sub(1, 80))
  end
end

local function check_free(c, name)
  if M.by_name(c.S, c.region, name) then
    errors.raise("InvalidKeyPair.Duplicate", "The keypair already exists")
  end
end

-- Keeps the public half; the answer that both ways of making a key pair have.
local function add(c, p, line, kind, fingerprint, own)
  local key = c.S:put { kind = "key", region = c.region, id = state.new_id("key"),
    created = state.now_ms(), name = p.KeyName, type = kind, fingerprint = fingerprint,
    public = line, tags = own }
  return { KeyName = key.name, KeyPairId = key.id, KeyFingerprint = fingerprint,
    Tags = tags.view(own) }
end

ops.ImportKeyPair = {
  accept = { KeyName = true, PublicKeyMaterial = true, TagSpecifications = true },
  secret = { PublicKeyMaterial = true },
  run = function(c, p)
    check_name(p.KeyName)
    local line, kind, fingerprint = read_public(p.PublicKeyMaterial)
    local own = tags.from_specs(p.TagSpecifications, { "key-pair" })["key-pair"]
    check_free(c, p.KeyName)
    c:checked()
    return add(c, p, line, kind, fingerprint, own)
  end,
}

-- The DER of an RSA private key (PKCS#1) in its PKCS#8 envelope.
local function pkcs8(der)
  local function field(tag, content)
    local n = #content
    local length = n < 128 and string.char(n) or n < 256 and string.pack(">BB", 0x81, n)
      or string.pack(">BI2", 0x82, n)
    return tag .. length .. content
  end
  local rsa = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
  return field("\x30", "\x02\x01\x00" .. rsa .. field("\x04", der))
end

-- A key of 2048 bits takes a while: a child looks for it.
local function make_rsa(parent)
  local dir = fs.tmpdir(parent, ".key-")
  local _ <close> = setmetatable({}, { __close = function()
    fs.remove(dir, { tree = true })
  end })
  local path = dir .. "/key"
  proc.run({ "ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", "",
    "-f", path }, { timeout = 60 })
  local pem = fs.read(path)
  local der = crypto.unbase64((pem:gsub("%-%-%-%-%-[^\n]*\n?", ""):gsub("%s+", "")))
  local digest = crypto.sha1(pkcs8(der))
  return pem, fs.read(path .. ".pub"), (digest:gsub("..", "%0:"):sub(1, -2))
end

ops.CreateKeyPair = {
  accept = { KeyName = true, KeyType = true, KeyFormat = true, TagSpecifications = true },
  run = function(c, p)
    local kind = p.KeyType or "rsa"
    check_name(p.KeyName)
    if kind ~= "rsa" and kind ~= "ed25519" then
      errors.raise("InvalidParameterValue", "Invalid value '%s' for keyType", kind)
    elseif (p.KeyFormat or "pem") ~= "pem" then
      errors.raise("UnsupportedOperation", "KeyFormat %s is not supported here", p.KeyFormat)
    end
    local own = tags.from_specs(p.TagSpecifications, { "key-pair" })["key-pair"]
    check_free(c, p.KeyName)
    c:checked()
    local private, public, fingerprint
    if kind == "rsa" then
      private, public, fingerprint = make_rsa(c.d.dir)
      check_free(c, p.KeyName) -- others were served meanwhile
    else
      local key <close> = crypto.keypair("ed25519")
      private, public = key:private():reveal(), key:public()
    end
    local line, _, imported = read_public(public)
    local out = add(c, p, line, kind, fingerprint or imported, own)
    out.KeyMaterial = private
    return out
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
