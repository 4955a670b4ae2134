-- The control socket: what the commands `hgauto local …` ask a daemon.

local crypto = require "hgauto.crypto"
local describe = require "localcloud.ec2.describe"
local host = require "hgauto.host"
local images = require "localcloud.ec2.images"
local json = require "hgauto.json"
local requests = require "localcloud.requests"

local M = {}

local JSON = { ["content-type"] = "application/json" }

--- What `hgauto local status` shows.
-- @param d Daemon
-- @return table
function M.status(d)
  local counts = {}
  for _, instance in ipairs(d.S:list("instance")) do
    if not instance.hidden then
      counts[instance.state] = (counts[instance.state] or 0) + 1
    end
  end
  return { pid = host.pid(), endpoint = d.endpoint, id = d.id, started = d.started,
    api_only = d.api_only, net = d.machines.net or false, tier = d.tier or nil, counts = counts,
    live = d.machines:live_count(), idle_seconds = math.floor(d:idle_for()),
    policy = d.policy and d.policy.hash, leaves_after = d.idle, busy_with = d.progress_text,
    faults = d.faults:count() }
end

local function instance_row(d, instance)
  return { id = instance.id, state = instance.state, region = instance.region,
    type = instance.type, image = instance.image,
    user = images.of_instance(d.S, instance).user,
    address = instance.public_ip, private_ip = instance.private_ip, key = instance.key,
    public_key = instance.public_key, host_key = instance.host_public,
    ssh_port = tonumber(instance.tags["hgauto:ssh-port"]), name = instance.tags.Name,
    launched = instance.launched / 1000, reason = instance.reason and instance.reason.message }
end

local routes = {}

routes["GET /_hgauto/status"] = M.status

routes["GET /_hgauto/instances"] = function(d)
  local out = {}
  for _, instance in ipairs(describe.sort(d.S:list("instance"))) do
    if not instance.hidden then
      out[#out + 1] = instance_row(d, instance)
    end
  end
  return { instances = json.list(out) }
end

-- Long poll for lines about slow work: ?after=N, answers at once when there are.
routes["GET /_hgauto/progress"] = function(d, req)
  local after = math.tointeger(tonumber((req.query or ""):match("after=(%d+)"))) or 0
  if d.progress_seq <= after then
    requests.wait_at_most(d.progress_event, 20)
  end
  local lines = {}
  for _, line in ipairs(d.progress_lines) do
    if line[1] > after then
      lines[#lines + 1] = line[2]
    end
  end
  return { last = d.progress_seq, lines = json.list(lines) }
end

routes["GET /_hgauto/faults"] = function(d)
  return { rules = json.list(d.faults:rows()) }
end

-- A rule or a list of rules; all of them or none are added.
routes["POST /_hgauto/faults"] = function(d, req)
  local ok, value = pcall(json.decode, req.body or "")
  if not ok or type(value) ~= "table" then
    require("hg").fail { kind = "usage", message = "a fault rule must be a JSON object" }
  end
  return { ids = json.list(d.faults:add(value[1] ~= nil and value or { value })) }
end

routes["DELETE /_hgauto/faults"] = function(d, req)
  return { removed = d.faults:clear((req.query or ""):match("id=([^&]+)")) }
end

-- Runs a command in a machine through its agent, without SSH.
routes["POST /_hgauto/exec"] = function(d, req)
  local ok, o = pcall(json.decode, req.body or "")
  local id = ok and type(o) == "table" and o.id
  local box = id and d.machines:box_of(id)
  if not box or not box.exec then
    require("hg").fail { kind = "usage", message = ("%s is no machine that runs commands"):format(
      tostring(id)) }
  end
  local r = box:exec { argv = o.argv, user = o.user, cwd = "/", timeout = o.timeout,
    stdin = o.stdin and crypto.unbase64(o.stdin) }
  return { code = r.code, signal = r.signal, out = crypto.base64(r.out),
    err = crypto.base64(r.err), truncated = r.truncated or nil }
end

routes["POST /_hgauto/stop"] = function(d)
  d.stop_wanted:set(true)
  return { stopping = true, pid = host.pid() }
end

--- Answers one request on the control socket.
-- @param d Daemon
-- @param req table
-- @return {status, headers, body}
function M.answer(d, req)
  local fn = routes[req.method .. " " .. req.path]
  if not fn then
    return { status = 404, headers = JSON, body = json.encode {
      error = "no such control function" } }
  end
  local ok, result = pcall(fn, d, req)
  if not ok and type(result) == "table" and result.kind == "usage" then
    return { status = 400, headers = JSON, body = json.encode { error = result.message } }
  elseif not ok then
    error(result, 0)
  end
  return { status = 200, headers = JSON, body = json.encode(result) }
end

return M
