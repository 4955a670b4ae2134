--- Launching and ending one EC2 instance, crash-safe.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
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

local function disks(o)
  local function disk(device, size)
    return { DeviceName = device, Ebs = { VolumeSize = size, VolumeType = "gp3",
      DeleteOnTermination = true, Encrypted = true } }
  end
  local list = { disk(o.image.root_device, o.root_gb) }
  if o.volume then
    list[2] = disk(o.volume.device, o.volume.size_gb)
  end
  return list
end

local function launch_params(o, expires)
  return {
    ImageId = o.image.id, MinCount = 1, MaxCount = 1, InstanceType = o.instance_type,
    KeyName = o.key_name, SecurityGroupIds = { o.group }, SubnetId = o.subnet,
    UserData = o.user_data and o.user_data(expires) or M.user_data(o.host_key, expires),
    InstanceInitiatedShutdownBehavior = "terminate",
    MetadataOptions = { HttpTokens = "required", HttpPutResponseHopLimit = 1 },
    BlockDeviceMappings = disks(o),
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

-- Instances that EC2 has shown once: for these, NotFound means gone.
local seen = {}

-- Why an instance is not usable yet, in AWS's words where it says so.
local function why_not_yet(i)
  if not i then
    return "not visible yet"
  end
  local reason = i.StateReason or {}
  if reason.Message and reason.Message ~= "" then
    return ("%s: %s"):format(i.State.Name, reason.Message)
  end
  return i.State.Name == "running" and "running, but without a public address" or i.State.Name
end

--- Waits until an instance runs and has an address.
-- @param ec2 table client
-- @param id string
-- @param timeout number seconds
-- @param[opt] planned table instance when there is only a plan
-- @return table instance as described
-- @raise task it ended by itself, with AWS's reason
-- @waits
function M.wait_running(ec2, id, timeout, planned)
  return hg.wait {
    planned = planned, what = id .. " to run", timeout = timeout, every = 0.5, max_every = 5,
    poll = function()
      local i = describe(ec2, id)
      seen[id] = seen[id] or i ~= nil
      local state = i and i.State.Name
      if state == "running" and i.PublicIpAddress then
        return i
      end
      if state == "terminated" or state == "shutting-down" then
        local reason = i.StateReason or {}
        hg.fail { kind = "task", code = reason.Code,
          message = ("%s ended while starting: %s"):format(id, reason.Message or state) }
      end
      return nil, why_not_yet(i)
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
    local news = s:spawn(function()
      -- Without news the launch goes on.
      pcall(require("localcloud.client").watch, {
        state = session.state.path, progress = hg.output.note,
      })
    end)
    local results = table.pack(fn(table.unpack(args, 1, args.n)))
    news:cancel("launched")
    return table.unpack(results, 1, results.n)
  end)
end

--- Launches one instance and waits until it runs.
-- Whatever ends this early (a lost answer, Ctrl-C, a refusal): the instance
-- that may have come into being is looked up by its token and terminated.
-- @param ec2 table client
-- @param o table image group key_name host_key instance_type name root_gb max_age subnet
--   user_data=function(expires), instead of the one with host_key
--   volume={device, size_gb}
-- @return table instance as described
-- @return integer expires, epoch seconds
-- @waits
function M.launch(ec2, o)
  hg.resume.renewed()
  local expires = math.floor(time.now() + o.max_age)
  local op, id = crypto.token(), nil
  local undo <close> = async.defer(function()
    if id then
      M.terminate(ec2, id)
    else
      hg.gc.settle(op)
    end
    hg.ledger.count_open(session)
  end, 60)
  hg.ledger.count_open(session, 1)
  local r = ec2:run_instances(launch_params(o, expires), { expires = expires, op = op })
  id = r.Instances[1].InstanceId
  hg.ledger.count_open(session)
  -- The first local instance waits for its base image to be built, too.
  local instance = with_news(M.wait_running, ec2, id, session.local_cloud and 4200 or 600,
    r.Instances[1])
  undo:keep()
  return instance, expires
end

local function mark(id, state, fields)
  if not session.ledger then
    return nil
  end
  local found
  for _, row in ipairs(session.ledger:list { kinds = { "instance" } }) do
    if row.id == id and row.state ~= "gone" then
      session.ledger:set(row.op, state, fields or {})
      found = row
    end
  end
  hg.ledger.count_open(session)
  return found
end

--- Whether NotFound about an instance may only mean "not visible yet".
-- @param row table|nil ledger row
-- @return boolean
function M.too_young(row)
  return row ~= nil and not seen[row.id] and (row.endpoint or ""):sub(1, 6) ~= "local:"
    and time.now() - (row.t_live or 0) < 300
end

--- Terminates an instance and confirms that it is going.
-- Already gone is success; a new one that EC2 does not know yet is asked for again.
-- @param ec2 table client
-- @param id string
-- @return string last state seen
-- @waits
function M.terminate(ec2, id)
  local row = mark(id, "deleting")
  local delay = 2
  while true do
    local ok, r = pcall(ec2.terminate_instances, ec2, { InstanceIds = { id } })
    if ok then
      local state = r.TerminatingInstances[1].CurrentState.Name
      if state == "terminated" or state == "shutting-down" then
        mark(id, "gone")
      end
      return state
    end
    local missing = type(r) == "table" and r.code == "InvalidInstanceID.NotFound"
      or require("hg.remove.find").refused_as_gone({ ec2 = ec2 }, { kind = "instance", id = id }, r)
    if missing and not M.too_young(row) then
      mark(id, "gone")
      return "terminated"
    elseif not missing then
      if type(r) == "table" and r.kind == "aws" then
        mark(id, "live", { error = tostring(r) })
      end
      error(r, 0)
    end
    async.sleep(delay)
    delay = math.min(delay * 2, 15)
  end
end

--- Records that a machine shall outlive the run.
-- @param id string
function M.keep(id)
  mark(id, "kept")
end

return M
