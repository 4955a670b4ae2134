--- Clients for the places of ledger rows: account, region, endpoint.
local hg = require "hg"
local session = require "hg.session"

local M = {}

-- Clients are made when first used: most work needs ec2 alone.
local function lazy(opts)
  return setmetatable({}, { __index = function(t, service)
    local client = require("hgauto.aws").client(service, opts)
    rawset(t, service, client)
    return client
  end })
end

--- Clients by service name with the settings of this process.
-- @param[opt] ec2 table a client that is there already
-- @param[opt] opts table as aws.client
-- @return table clients.ec2, clients.iam, ...
function M.here(ec2, opts)
  local clients = lazy(opts)
  if ec2 then
    rawset(clients, "ec2", ec2)
  end
  return clients
end

local function of_local_cloud(row, running_only)
  local client, state = require "localcloud.client", session.state.path
  if running_only and not session.local_cloud and not client.status { state = state } then
    return { why = "the local cloud does not run" }
  end
  local cloud = session.local_cloud or client.ensure { state = state }
  if "local:" .. cloud.id ~= row.endpoint then
    -- The local cloud was wiped: nothing of that place exists any more.
    return { wiped = true, why = "wiped" }
  end
  return { clients = lazy { region = row.region, endpoint_url = cloud.endpoint_url,
    credentials = { access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key } } }
end

local function of_account(row)
  local endpoint = row.endpoint or ""
  local clients = lazy { region = row.region, endpoint_url = endpoint ~= "" and endpoint or nil }
  local ok, who = pcall(function()
    return clients.sts:get_caller_identity {}
  end)
  if not ok then
    if type(who) == "table" and who.kind == "cancelled" then
      error(who, 0)
    end
    return { why = tostring(who), err = who }
  elseif who.Account ~= row.account then
    local text = ("belongs to account %s; credentials are for %s"):format(row.account, who.Account)
    return { why = text, err = require("hgauto.host").error { kind = "auth", message = text,
      hint = "--profile" } }
  end
  return { clients = clients }
end

--- The place of a row.
-- @param row table ledger row
-- @param cache table kept by the caller, {} at first, or {running_only=true}: a local
--   cloud that does not run is not started
-- @return table {clients=, or why=text, err=, wiped=true}
-- @waits
function M.of(row, cache)
  if not cache[row.place] then
    if (row.endpoint or ""):sub(1, 6) == "local:" then
      cache[row.place] = of_local_cloud(row, cache.running_only)
    elseif session.local_cloud then
      cache[row.place] = { why = "it is not in the local cloud; run gc without --local" }
    else
      cache[row.place] = of_account(row)
    end
  end
  return cache[row.place]
end

--- Raises unless the credentials in use belong to the account of all open rows
--- of this endpoint.
-- @param account string
-- @raise auth
function M.same_account(account)
  local others, n = nil, 0
  for _, row in ipairs(session.ledger:list { states = { "intent", "unknown", "live", "kept",
    "deleting" } }) do
    if row.endpoint == hg.ledger.endpoint(session) and row.account ~= account then
      others, n = row.account, n + 1
    end
  end
  if others then
    hg.fail { kind = "auth", hint = "--profile",
      message = ("%d resource%s belong%s to account %s; credentials are for %s"):format(n,
        n == 1 and "" or "s", n == 1 and "s" or "", others, account) }
  end
end

return M
