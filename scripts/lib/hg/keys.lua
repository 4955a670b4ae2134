--- The key pair of this state directory: made here, imported, never created remotely.
local hg = require "hg"
local session = require "hg.session"

local M = {}

local function find(ec2, name)
  local r = ec2:describe_key_pairs({
    Filters = { { Name = "key-name", Values = { name } } }, IncludePublicKey = true,
  })
  return r.KeyPairs[1]
end

local function same_key(remote, key)
  local words = key:public():match("^(%S+ %S+)")
  local theirs = (remote.PublicKey or ""):match("^(%S+ %S+)")
  return theirs == words
end

local function ensure(ec2)
  local sid = session.state.sid
  local _lock <close> = hg.ledger.lock("keypair automation", 60)
  local vault = session.state:vault()
  -- A plan makes none that stays.
  local key = hg.plan.on() and not vault:find "automation"
    and require("hgauto.crypto").keypair("ed25519", "hgauto") or vault:key "automation"
  local digest = require("hgauto.crypto").sha256(key:public():match("^%S+ (%S+)"))
  local name = ("hg-automation-%s-%s"):format(sid, digest:sub(1, 8))
  local remote = find(ec2, name)
  if not remote then
    hg.ledger.create {
      kind = "keypair", name = name,
      call = function()
        return ec2:import_key_pair({
          KeyName = name, PublicKeyMaterial = key:public():match("^(%S+ %S+)") .. " " .. name,
        }, { keep = true })
      end,
      find = function()
        return find(ec2, name)
      end,
    }
    remote = find(ec2, name)
  end
  if remote and not same_key(remote, key) then
    hg.fail { kind = "exists", message = ("key pair %s exists with another key"):format(name),
      hint = "hgauto purge-ec2-resources removes it" }
  end
  return { name = name, key = key }
end

--- The key pair for logging in to machines.
-- The private file is on disk before EC2 hears of it.
-- @param ec2 table client
-- @return table {name=, key=handle}
-- @raise exists a key pair of that name has another key
-- @waits
function M.ensure(ec2)
  return hg.plan.once("key pair", function()
    return ensure(ec2)
  end)
end

return M
