-- Starting, stopping, rebooting and terminating instances.

local describe = require "localcloud.ec2.describe"
local errors = require "localcloud.errors"
local images = require "localcloud.ec2.images"
local instances = require "localcloud.ec2.instances"
local state = require "localcloud.state"

local M = {}
local ops = {}
M.ops = ops

local function need_ids(c, p)
  if not p.InstanceIds[1] then
    errors.raise("MissingParameter", "The request must contain the parameter InstanceId")
  end
  return describe.by_ids("i", p.InstanceIds, instances.get(c))
end

-- Applies `change` to those of the list that `wants` names; the rest is told
-- unchanged.
local function transition(c, list, wants, change, after)
  local out, changed = {}, {}
  for i, instance in ipairs(list) do
    out[i] = { InstanceId = instance.id, PreviousState = instances.state_view(instance.state) }
    if wants[instance.state] then
      change(instance)
      changed[#changed + 1] = instance
    end
    out[i].CurrentState = instances.state_view(instance.state)
  end
  c:after_commit(function()
    for _, instance in ipairs(changed) do
      after(instance)
    end
  end)
  return out
end

local function refuse_state(list, allowed, verb)
  for _, instance in ipairs(list) do
    if not allowed[instance.state] then
      errors.raise("IncorrectInstanceState",
        "The instance '%s' is not in a state from which it can be %s.", instance.id, verb)
    end
  end
end

ops.TerminateInstances = {
  accept = { InstanceIds = true },
  run = function(c, p)
    local list = need_ids(c, p)
    for _, instance in ipairs(list) do
      if instance.protect and instance.state ~= "terminated" then
        errors.raise("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its"
          .. " 'disableApiTermination' instance attribute and try again.", instance.id)
      end
    end
    c:checked()
    local m = c.d.machines
    return { TerminatingInstances = transition(c, list,
      { pending = true, running = true, stopping = true, stopped = true },
      function(instance)
        m:wish(instance, "terminated")
      end,
      function(instance)
        m:pursue(instance, "terminated")
      end) }
  end,
}

ops.StopInstances = {
  accept = { InstanceIds = true, Force = true },
  run = function(c, p)
    local list = need_ids(c, p)
    refuse_state(list, { running = true, stopping = true, stopped = true }, "stopped")
    for _, instance in ipairs(list) do
      if instance.spot then
        errors.raise("UnsupportedOperation", "You can't stop the Spot Instance '%s' because it is"
          .. " associated with a one-time Spot Instance request. You can only stop Spot Instances"
          .. " associated with persistent Spot Instance requests.", instance.id)
      end
    end
    c:checked()
    local m = c.d.machines
    return { StoppingInstances = transition(c, list, { running = true }, function(instance)
      m:wish(instance, "stopped")
    end, function(instance)
      m:pursue(instance, "stopped")
    end) }
  end,
}

ops.StartInstances = {
  accept = { InstanceIds = true },
  before = instances.probe,
  run = function(c, p)
    local list = need_ids(c, p)
    refuse_state(list, { running = true, pending = true, stopped = true }, "started")
    for _, instance in ipairs(list) do
      if instance.imaging and instance.state == "stopped" then
        errors.raise("IncorrectInstanceState", "The instance '%s' is being imaged.", instance.id)
      end
    end
    for _, instance in ipairs(list) do
      if images.of_instance(c.S, instance).platform ~= "windows" then
        instances.check_host(c)
      end
    end
    c:checked()
    local m = c.d.machines
    return { StartingInstances = transition(c, list, { stopped = true }, function(instance)
      m:set(instance, "pending")
      instance.launched = state.now_ms()
    end, function(instance)
      m:launch(instance)
    end) }
  end,
}

ops.RebootInstances = {
  accept = { InstanceIds = true },
  run = function(c, p)
    local list = need_ids(c, p)
    refuse_state(list, { running = true, pending = true }, "rebooted")
    c:checked()
    c:after_commit(function()
      for _, instance in ipairs(list) do
        c.d.machines:reboot(instance)
      end
    end)
    return {}
  end,
}

return M
