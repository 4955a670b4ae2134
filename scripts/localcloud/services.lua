-- The emulated services: which one a request is for, which operation, and its
-- parameters and answer in the protocol of that service.

local auth = require "localcloud.auth"
local errors = require "localcloud.errors"
local model = require "hgauto.aws.model"
local wire = require "localcloud.wire"
local wire_json = require "localcloud.wire_json"

local M = {}

local function merge(...)
  local out = {}
  for _, name in ipairs { ... } do
    for op, def in pairs(require(name).ops) do
      out[op] = def
    end
  end
  return out
end

-- By signing name; family decides the form of refusals.
local SERVICES = {
  ec2 = { family = "ec2", ops = merge("localcloud.ec2.instances", "localcloud.ec2.power",
    "localcloud.ec2.attributes", "localcloud.ec2.images", "localcloud.ec2.imaging",
    "localcloud.ec2.snapshots", "localcloud.ec2.keys", "localcloud.ec2.groups",
    "localcloud.ec2.tags", "localcloud.ec2.volumes", "localcloud.ec2.network",
    "localcloud.ec2.addresses",
    "localcloud.ec2.types", "localcloud.ec2.offers", "localcloud.ec2.spot") },
  sts = { family = "query", ops = merge "localcloud.sts" },
  iam = { family = "query", ops = merge("localcloud.iam.roles", "localcloud.iam.profiles") },
  ssm = { family = "json", ops = merge("localcloud.ssm.commands", "localcloud.ssm.parameters") },
  pricing = { family = "json", ops = merge "localcloud.pricing" },
  lambda = { family = "json", ops = merge "localcloud.lambda" },
}

-- Services that are known and not emulated.
local OTHERS = { logs = "json" }
local VERSIONS = { ["2016-11-15"] = "ec2", ["2011-06-15"] = "sts", ["2010-05-08"] = "iam" }
local TARGETS = { AmazonSSM = "ssm", AWSPriceListService = "pricing" }

--- Names of all operations that are emulated.
-- @return string[] such as "ec2:RunInstances", sorted
function M.emulated()
  local list = {}
  for service, def in pairs(SERVICES) do
    for op in pairs(def.ops) do
      list[#list + 1] = service .. ":" .. op
    end
  end
  table.sort(list)
  return list
end

--- Form of a service's refusals.
-- @param service string
-- @return string "ec2"|"query"|"json"
function M.family(service)
  local known = SERVICES[service]
  return known and known.family or OTHERS[service] or "ec2"
end

--- Value of the first pair of that name.
-- @param list {{name, value}, …}
-- @param name string
-- @return string|nil
function M.find(list, name)
  for _, kv in ipairs(list) do
    if kv[1] == name then
      return kv[2]
    end
  end
end

-- Whether the parameters of a request come in a form.
local function is_form(req)
  local kind = req.headers["content-type"] or ""
  return not req.headers["x-amz-target"] and not kind:match("json")
    and not req.path:match("^/%d%d%d%d%-%d%d%-%d%d/")
end

--- Parameters of query and form body, without those of a presigned URL.
-- @param req table
-- @return {{name, value}, …}
function M.pairs_of(req)
  local list = {}
  for _, kv in ipairs(wire.parse_form(req.query or "")) do
    if not kv[1]:match("^X%-Amz%-") then
      list[#list + 1] = kv
    end
  end
  if req.method == "POST" and is_form(req) then
    for _, kv in ipairs(wire.parse_form(req.body or "")) do
      list[#list + 1] = kv
    end
  end
  return list
end

--- The service a request is for, before anything is verified.
-- @param req table
-- @param list table its pairs
-- @return string signing name
function M.claimed(req, list)
  local claim = auth.parse(req)
  if claim then
    return claim.service
  end
  local target = (req.headers["x-amz-target"] or ""):match("^(%w+)")
  if target then
    return TARGETS[target] or "logs"
  elseif req.path:match("^/2015%-03%-31/functions") then
    return "lambda"
  end
  return VERSIONS[M.find(list, "Version") or ""] or "ec2"
end

-- ---- which operation ----

local function by_path(svc, req)
  for _, name in ipairs(svc.operations()) do
    local op = svc.op(name)
    local uri = op.method == req.method and wire_json.match_uri(op.uri, req.path)
    if uri then
      return name, uri
    end
  end
end

--- Name of the operation that a request asks for, as far as it can be told.
-- @param service string
-- @param req table
-- @param list table its pairs
-- @return string|nil name
-- @return table|nil values of the path
function M.operation(service, req, list)
  if not SERVICES[service] then
    return M.find(list, "Action")
  end
  local svc = model.service(service)
  if svc.protocol == "json" then
    return (req.headers["x-amz-target"] or ""):match("^[%w_]+%.(%w+)$")
  elseif svc.protocol == "rest-json" then
    return by_path(svc, req)
  end
  return M.find(list, "Action")
end

local function unknown(service, name)
  if M.family(service) == "json" then
    errors.raise("UnknownOperationException", "The operation %s is not known", name)
  end
  errors.raise("InvalidAction", "The action %s is not valid for this web service.", name)
end

local function model_op(svc, name, service)
  local ok, op = pcall(svc.op, name)
  if not ok or not op then
    unknown(service, name)
  end
  local def = SERVICES[service].ops[op.name]
  if not def then
    errors.raise("UnsupportedOperation", "hgauto local cloud: %s:%s is not emulated", service,
      name)
  end
  return op, def
end

local function check_version(svc, list, service)
  local version = M.find(list, "Version")
  if version and version ~= svc.api_version then
    errors.raise("NoSuchVersion", "The requested version (%s) of service %s does not exist",
      version, service)
  end
end

local function as_table(list)
  local out = {}
  for _, kv in ipairs(list) do
    out[kv[1]] = kv[2]
  end
  return out
end

local function parameters(svc, op, ctx, list)
  if svc.protocol == "json" then
    return wire_json.decode(op, ctx.req.body or "")
  elseif svc.protocol == "rest-json" then
    return wire_json.decode_rest(op, ctx.req, ctx.uri, as_table(list))
  end
  return wire.decode(op, list, svc.protocol)
end

--- Finds operation and emulation and decodes the parameters into ctx.params.
-- @param ctx table request context: service, op_name, req, uri
-- @param list table pairs of query and form
-- @return table service model, table operation, table emulation {accept, run, …}
-- @raise UnsupportedOperation, MissingAction, InvalidAction, what decoding refuses
function M.decode(ctx, list)
  local service, name = ctx.service, ctx.op_name
  if not SERVICES[service] then
    errors.raise("UnsupportedOperation", "hgauto local cloud: the service %s is not emulated",
      service)
  elseif not name or name == "" then
    if M.family(service) == "json" then
      unknown(service, ctx.req.headers["x-amz-target"] or ctx.req.path)
    end
    errors.raise("MissingAction", "The request must contain the parameter Action")
  end
  local svc = model.service(service)
  check_version(svc, list, service)
  local op, def = model_op(svc, name, service)
  ctx.secret_params = def.secret
  ctx.params = parameters(svc, op, ctx, list)
  local refused = wire.not_accepted(setmetatable({ DryRun = true }, { __index = def.accept }),
    ctx.params)
  if refused then
    errors.raise("UnsupportedOperation", "hgauto local cloud: %s:%s parameter %s is not emulated",
      service, name, refused)
  end
  return svc, op, def
end

--- Encodes an answer.
-- @return string body, string content type, table|nil more headers, integer|nil status
function M.encode(svc, op, result, request_id)
  if svc.protocol == "json" then
    return wire_json.encode(op, result), "application/x-amz-json-" .. svc.json_version
  elseif svc.protocol == "rest-json" then
    local body, headers, status = wire_json.encode_rest(op, result)
    return body, "application/json", headers, status
  end
  return wire.encode(svc, op, result, request_id)
end

return M
