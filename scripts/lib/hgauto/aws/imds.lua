--- The region of the instance we run on, for region="imds".
local core = require "hgauto.aws.core"
local host = require "hgauto.host"
local http = require "hgauto.http"

local M = {}

local TOKEN, REGION = "/latest/api/token", "/latest/meta-data/placement/region"

local function fail(kind, fmt, ...)
  error(host.error { kind = kind, code = "NoRegion",
    message = 'region "imds": ' .. fmt:format(...),
    hint = "give the region itself, or set AWS_REGION" }, 0)
end

local function is_true(setting)
  return setting ~= nil and tostring(setting.value):lower() == "true"
end

-- One request; nil when nobody answered.
local function ask(settings, base, path, method, headers)
  local seconds = tonumber(settings.metadata_service_timeout.value) or 1
  for _ = 1, math.max(1, tonumber(settings.metadata_service_num_attempts.value) or 1) do
    local ok, r = pcall(http.request, { url = base .. path, method = method, headers = headers,
      connect_timeout = seconds, idle_timeout = seconds, timeout = 2 * seconds,
      max_body = 4096 })
    if ok then
      return r
    elseif type(r) ~= "table" or r.kind ~= "net" and r.kind ~= "timeout" then
      error(r, 0)
    end
  end
  return nil
end

local function base_url(settings)
  local given = settings.ec2_metadata_service_endpoint
  if given and given.value then
    return (given.value:gsub("/+$", ""))
  end
  local mode = settings.ec2_metadata_service_endpoint_mode.value:lower()
  return mode == "ipv6" and "http://[fd00:ec2::254]" or "http://169.254.169.254"
end

local known = {}

--- Asks the metadata service, once per process and service.
-- @param opts table options of core.client; what they say of a region is not looked at
-- @return string
-- @raise usage, net NoRegion
-- @waits
function M.region(opts)
  local settings = core.config(core.client { service = "sts", profile = opts.profile })
  local off = settings.ec2_metadata_disabled
  if is_true(off) then
    fail("usage", "the metadata service is switched off (%s)", off.origin)
  end
  local base = base_url(settings)
  if known[base] then
    return known[base]
  end
  local r = ask(settings, base, TOKEN, "PUT",
    { ["x-aws-ec2-metadata-token-ttl-seconds"] = "60" })
  local headers = {}
  if r and r.status == 200 then
    headers["x-aws-ec2-metadata-token"] = r.body:match "^%s*(%S+)%s*$"
  elseif is_true(settings.ec2_metadata_v1_disabled) then
    fail("net", "%s gave no token, and version 1 is disabled", base)
  end
  r = ask(settings, base, REGION, "GET", headers)
  if not r then
    fail("net", "no answer from %s", base)
  end
  local region = r.status == 200 and r.body:match "^%s*([a-z0-9-]+)%s*$"
  if not region then
    fail("net", "%s answered with status %d and no region", base, r.status)
  end
  known[base] = region
  return region
end

return M
