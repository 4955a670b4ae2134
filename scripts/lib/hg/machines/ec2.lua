--- Launching and ending one EC2 instance, crash-safe.
local async = require "hgauto.async"
local hg = require "hg"
local json = require "hgauto.json"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Sent to every machine: the identity it must show and the deadline at which
-- it ends itself, should nobody else.
local DEAD_MAN = [[
left=$(( %d - $(date +%%s) ))
if [ "$left" -le 0 ]; then shutdown -P now; exit 0; fi
if [ -d /run/systemd/system ]; then
  systemd-run --on-active=${left} --timer-property=AccuracySec=1s shutdown -P now
else
  (setsid sh -c "sleep $left; shutdown -P now" </dev/null >/dev/null 2>&1 &)
fi
]]

--- User data of a Linux machine: JSON under #cloud-config.
-- @param host_key table key handle the machine shall show
-- @param expires integer epoch seconds
-- @return string
function M.user_data(host_key, expires)
  local secret = host_key:private()
  return "#cloud-config\n" .. json.encode {
    ssh_deletekeys = true,
    ssh_keys = {
      ed25519_private = secret:reveal(),
      ed25519_public = host_key:public(),
    },
    bootcmd = json.list { json.list { "sh", "-c", DEAD_MAN:format(expires) } },
  } .. "\n"
end

local function launch_params(o, expires)
  return {
    ImageId = o.image.id, MinCount = 1, MaxCount = 1, InstanceType = o.instance_type,
    KeyName = o.key_name, SecurityGroupIds = o.subnet and nil or { o.group },
    SubnetId = nil, UserData = M.user_data(o.host_key, expires),
    InstanceInitiatedShutdownBehavior = "terminate",
    MetadataOptions = { HttpTokens = "required", HttpPutResponseHopLimit = 1 },
    BlockDeviceMappings = { {
      DeviceName = o.image.root_device,
      Ebs = { VolumeSize = o.root_gb, VolumeType = "gp3", DeleteOnTermination = true,
        Encrypted = true },
    } },
    TagSpecifications = {
      { ResourceType = "instance", Tags = { { Key = "Name", Value = o.name } } },
      { ResourceType = "volume", Tags = { { Key = "Name", Value = o.name } } },
    },
  }
end

-- The instance while it starts; a missing one is "not yet" (eventual consistency).
local function describe(ec2, id)
  local ok, r = pcall(ec2.describe_instances, ec2, { InstanceIds = { id } })
  if ok then
    local res = r.Reservations[1]
    return res and res.Instances[1] or nil
  end
  if type(r) == "table" and r.code == "InvalidInstanceID.NotFound" then
    return nil
  end
  error(r, 0)
end

--- Waits until an instance runs and has an address.
-- @param ec2 table client
-- @param id string
-- @param timeout number seconds
-- @return table instance as described
-- @raise task it ended by itself, with AWS's reason
-- @waits
function M.wait_running(ec2, id, timeout)
  return hg.wait {
    what = id .. " to run", timeout = timeout, every = 0.5, max_every = 5,
    poll = function()
      local i = describe(ec2, id)
      local state = i and i.State.Name
      if state == "running" and i.PublicIpAddress then
        return i
      end
      if state == "terminated" or state == "shutting-down" then
        local reason = i.StateReason or {}
        hg.fail { kind = "task", code = reason.Code,
          message = ("%s ended while starting: %s"):format(id, reason.Message or state) }
      end
      return nil, state or "not visible yet"
    end,
  }
end

-- Runs fn; meanwhile the local cloud's news (a base image being built) are told.
local function with_news(fn, ...)
  if not session.local_cloud then
    return fn(...)
  end
  local args = table.pack(...)
  return async.scope(function(s)
    local news = s:spawn(require("localcloud.client").watch, {
      state = session.state.path, progress = hg.output.note,
    })
    local results = table.pack(fn(table.unpack(args, 1, args.n)))
    news:cancel("launched")
    return table.unpack(results, 1, results.n)
  end)
end

--- Launches one instance and waits until it runs.
-- @param ec2 table client
-- @param o table image group key_name host_key instance_type name root_gb max_age subnet
-- @return table instance as described
-- @return integer expires, epoch seconds
-- @waits
function M.launch(ec2, o)
  local expires = math.floor(time.now() + o.max_age)
  local params = launch_params(o, expires)
  if o.subnet then
    params.SubnetId = o.subnet
    params.SecurityGroupIds = { o.group }
  end
  hg.ledger.count_open(session, 1)
  local sent, r = pcall(ec2.run_instances, ec2, params, { expires = expires })
  if not sent then
    -- Cancelled or unanswered after it left: it may have started one.
    local _d <close> = async.defer(function()
      hg.gc.settle(session.run.id)
    end, 30)
    error(r, 0)
  end
  local id = r.Instances[1].InstanceId
  hg.ledger.count_open(session)
  local ok, instance = pcall(with_news, M.wait_running, ec2, id, 600)
  if not ok then
    local _d <close> = async.defer(function()
      M.terminate(ec2, id)
    end, 60)
    error(instance, 0)
  end
  return instance, expires
end

local function mark(id, state, fields)
  if not session.ledger then
    return
  end
  for _, row in ipairs(session.ledger:list { kinds = { "instance" } }) do
    if row.id == id and row.state ~= "gone" then
      session.ledger:set(row.op, state, fields or {})
    end
  end
  hg.ledger.count_open(session)
end

--- Terminates an instance and confirms that it is going.
-- Already gone is success.
-- @param ec2 table client
-- @param id string
-- @return string last state seen
-- @waits
function M.terminate(ec2, id)
  mark(id, "deleting")
  local ok, r = pcall(ec2.terminate_instances, ec2, { InstanceIds = { id } })
  if not ok then
    if type(r) == "table" and r.code == "InvalidInstanceID.NotFound" then
      mark(id, "gone")
      return "terminated"
    end
    if type(r) == "table" and r.kind == "aws" then
      mark(id, "live", { error = tostring(r) })
    end
    error(r, 0)
  end
  local state = r.TerminatingInstances[1].CurrentState.Name
  if state == "terminated" or state == "shutting-down" then
    mark(id, "gone")
  end
  return state
end

--- Records that a machine shall outlive the run.
-- @param id string
function M.keep(id)
  mark(id, "kept")
end

return M
