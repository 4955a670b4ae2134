-- The metadata service of an instance: what it may know of itself, its user data,
-- the keys of its role, the notice that a spot machine is about to end.
--
-- Each machine has its own, on a socket that was made inside and that only this
-- machine reaches, at 169.254.169.254 port 80.  Tokens are kept nowhere: they are
-- signed by this state directory's secret.  Document: EC2 user guide, instance
-- metadata.
local auth = require "localcloud.auth"
local crypto = require "hgauto.crypto"
local httpd = require "hgauto.httpd"
local images = require "localcloud.ec2.images"
local json = require "hgauto.json"
local network = require "localcloud.ec2.network"
local profiles = require "localcloud.iam.profiles"
local sts = require "localcloud.sts"
local time = require "hgauto.time"

local M = {}

local TTL = "x-aws-ec2-metadata-token-ttl-seconds"
local TOKEN = "x-aws-ec2-metadata-token"
local MAX_TTL = 21600
-- Hops of an answer that is no token.
local FAR = 64
-- Seconds of a role's keys, and before their end when others are made.
local KEYS_FOR, KEYS_EARLY = 6 * 3600, 15 * 60

-- ---- tokens ----

local function signed(service, ends)
  return crypto.hmac_sha256(service.S.secret, ("imds %s %d"):format(service.instance.id, ends))
end

local function make_token(service, seconds)
  local ends = math.floor(service.now()) + seconds
  return (crypto.base64(signed(service, ends) .. tostring(ends)):gsub("+", "-"):gsub("/", "_"))
end

local function token_holds(service, text)
  local ok, raw = pcall(crypto.unbase64, (text:gsub("-", "+"):gsub("_", "/")))
  local ends = ok and raw and math.tointeger(tonumber(raw:sub(33)))
  return ends ~= nil and ends > service.now() and crypto.equal(raw:sub(1, 32),
    signed(service, ends))
end

-- ---- what there is ----

local function role_keys(service, role)
  local keys = service.keys
  if not keys or keys.role ~= role.id or keys.Expiration - service.now() < KEYS_EARLY then
    local id = service.instance.id
    keys = sts.issue(service.S, service.now(), KEYS_FOR, { id = role.id .. ":" .. id,
      arn = ("arn:aws:sts::%s:assumed-role/%s/%s"):format(auth.account, role.name, id) })
    service.S:commit()
    keys.role, keys.made = role.id, math.floor(service.now())
    service.keys = keys
  end
  return json.encode({ Code = "Success", LastUpdated = time.iso(keys.made), Type = "AWS-HMAC",
    AccessKeyId = keys.AccessKeyId, SecretAccessKey = keys.SecretAccessKey,
    Token = keys.SessionToken, Expiration = time.iso(keys.Expiration) }, { indent = 2 })
end

local function iam(service)
  local i = service.instance
  local role = profiles.role_of_instance(service.S, i)
  return role and { info = json.encode({ Code = "Success", LastUpdated = time.iso(
      math.floor(service.now())), InstanceProfileArn = i.profile.arn,
    InstanceProfileId = i.profile.id }, { indent = 2 }),
    ["security-credentials"] = { [role.name] = function()
      return role_keys(service, role)
    end } } or nil
end

local function group_names(service)
  local names = {}
  for k, id in ipairs(service.instance.groups) do
    local group = service.S:get("group", service.instance.region, id)
    names[k] = group and group.name or id
  end
  return table.concat(names, "\n")
end

local function subnet_of(i)
  for _, s in ipairs(network.subnets(i.region)) do
    if s.id == i.subnet then
      return s
    end
  end
end

local function interfaces(service, name)
  local i, subnet = service.instance, subnet_of(service.instance)
  return { macs = { [i.mac] = { ["device-number"] = "0", ["interface-id"] = i.eni, mac = i.mac,
    ["local-hostname"] = name, ["local-ipv4s"] = i.private_ip, ["owner-id"] = auth.account,
    ["public-ipv4s"] = i.public_ip, ["security-groups"] = group_names(service),
    ["security-group-ids"] = table.concat(i.groups, "\n"), ["subnet-id"] = i.subnet,
    ["subnet-ipv4-cidr-block"] = subnet and subnet.cidr, ["vpc-id"] = i.vpc,
    ["vpc-ipv4-cidr-block"] = "172.31.0.0/16", ["vpc-ipv4-cidr-blocks"] = "172.31.0.0/16" } } }
end

local function devices(service)
  local i, n = service.instance, 0
  local image = images.of_instance(service.S, i)
  local out = { ami = image.root:gsub("^/dev/", ""), root = image.root }
  for _, m in ipairs(i.volumes) do
    if m.device ~= image.root then
      n = n + 1
      out["ebs" .. n] = m.device:gsub("^/dev/", "")
    end
  end
  return out
end

local function spot(i)
  local notice = i.spot_notice
  return notice and { ["instance-action"] = json.encode { action = notice.action,
    time = time.iso(notice.at) }, ["termination-time"] = notice.action == "terminate"
    and time.iso(notice.at) or nil } or nil
end

local function keys_of(i)
  return i.key and i.public_key and setmetatable({ ["0"] = { ["openssh-key"] = i.public_key } },
    { names = { ["0"] = "0=" .. i.key } }) or nil
end

local function tags_of(i)
  return i.options.metadata.InstanceMetadataTags == "enabled" and { instance = i.tags } or nil
end

local function meta_data(service)
  local i = service.instance
  local name = ("ip-%s.%s.compute.internal"):format(i.private_ip:gsub("%.", "-"), i.region)
  return { ["ami-id"] = i.image, ["ami-launch-index"] = tostring(i.index),
    ["ami-manifest-path"] = "(unknown)", ["block-device-mapping"] = devices(service),
    hostname = name, iam = iam(service), ["instance-action"] = "none", ["instance-id"] = i.id,
    ["instance-life-cycle"] = i.spot and "spot" or "on-demand", ["instance-type"] = i.type,
    ["local-hostname"] = name, ["local-ipv4"] = i.private_ip, mac = i.mac,
    network = { interfaces = interfaces(service, name) },
    placement = { ["availability-zone"] = i.az, region = i.region },
    profile = "default-hvm", ["public-ipv4"] = i.public_ip, ["public-keys"] = keys_of(i),
    ["reservation-id"] = i.reservation, ["security-groups"] = group_names(service),
    services = { domain = "amazonaws.com", partition = "aws" }, spot = spot(i),
    tags = tags_of(i) }
end

local function identity(service)
  local i = service.instance
  return json.encode({ accountId = auth.account, architecture = "x86_64",
    availabilityZone = i.az, billingProducts = json.null, devpayProductCodes = json.null,
    marketplaceProductCodes = json.null, imageId = i.image, instanceId = i.id,
    instanceType = i.type, kernelId = json.null, pendingTime = time.iso(i.launched // 1000),
    privateIp = i.private_ip, ramdiskId = json.null, region = i.region,
    version = "2017-09-30" }, { indent = 2 })
end

local function latest(service)
  return { ["meta-data"] = meta_data(service),
    ["user-data"] = service.instance.user_data and crypto.unbase64(service.instance.user_data),
    dynamic = { ["instance-identity"] = { document = identity(service) } } }
end

-- ---- paths ----

-- The names of a directory, one a line, those of directories with a slash.
local function listing(dir)
  local names, shown = {}, (getmetatable(dir) or {}).names or {}
  for name, v in pairs(dir) do
    names[#names + 1] = shown[name] or (name .. (type(v) == "table" and "/" or ""))
  end
  table.sort(names)
  return table.concat(names, "\n")
end

-- Text at a path below the root, or nil.
local function look_up(service, path)
  local at
  for part in path:gmatch "[^/]+" do
    if not at then
      at = (part == "latest" or part:match "^%d%d%d%d%-%d%d%-%d%d$" or part == "1.0")
        and latest(service) or nil
    else
      at = type(at) == "table" and at[part] or nil
    end
    if at == nil then
      return nil
    end
  end
  if at == nil then
    return "1.0\nlatest"
  elseif type(at) == "function" then
    at = at()
  end
  return type(at) == "table" and listing(at) or at
end

-- ---- requests ----

local function reply(req, status, body, more)
  local headers = { ["Content-Type"] = "text/plain", Server = "EC2ws" }
  for k, v in pairs(more or {}) do
    headers[k] = v
  end
  req:respond { status = status, headers = headers, body = body or "" }
end

local function give_token(service, req, options)
  local seconds = tonumber((req.headers[TTL] or ""):match "^%d+$")
  if req.headers["x-forwarded-for"] then
    return reply(req, 403)
  elseif not seconds or seconds < 1 or seconds > MAX_TTL then
    return reply(req, 400)
  end
  -- A router on the way, such as that of a container, ends the packets.
  req:hops(options.HttpPutResponseHopLimit)
  reply(req, 200, make_token(service, math.tointeger(seconds)), { [TTL] = tostring(seconds) })
end

local function may_read(service, req, options)
  local token = req.headers[TOKEN]
  if token then
    return token_holds(service, token)
  end
  return options.HttpTokens == "optional"
end

local function answer(service, req)
  local options = service.instance.options.metadata
  local path = auth.normal_path(req.path)
  req:hops(FAR)
  if options.HttpEndpoint == "disabled" then
    reply(req, 403)
  elseif path == "/latest/api/token" then
    if req.method ~= "PUT" then
      return reply(req, 405, "", { Allow = "OPTIONS, PUT" })
    end
    give_token(service, req, options)
  elseif req.method ~= "GET" and req.method ~= "HEAD" then
    reply(req, 405, "", { Allow = "OPTIONS, GET, HEAD" })
  elseif not may_read(service, req, options) then
    reply(req, 401)
  else
    local text = look_up(service, path)
    reply(req, text and 200 or 404, text)
  end
end

--- Serves a machine's metadata until it is closed.
-- @param opts.S State
-- @param opts.instance table
-- @param opts.listener integer descriptor of the socket inside
-- @param opts.now function() -> number
-- @return closable
function M.serve(opts)
  local service = { S = opts.S, instance = opts.instance, now = opts.now }
  local own = opts.instance.private_ip .. ":"
  local server = httpd.new { max_body = 4096, on_request = function(req)
    -- The rule of the machine's kernel keeps the sender; who reaches the socket
    -- in another way does not ask the metadata service.
    if req.peer:sub(1, #own) ~= own then
      return req:abort "rst"
    end
    answer(service, req)
  end }
  server:adopt(opts.listener, "imds")
  return server
end

return M
