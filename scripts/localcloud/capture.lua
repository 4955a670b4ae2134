-- Images and snapshots of instances and volumes: brings the instance to rest if
-- that is asked for, takes its layer, copies its volumes, and says how it went.
-- Objects are pending in the store before anything is touched, with the name
-- of the layer to come: after a crash the reaper can tell what was done.

local async = require "hgauto.async"
local layers = require "localcloud.layers"
local log = require "hgauto.log"

local M = {}

local REBOOT_SECONDS = 120

local function copied(list)
  return table.move(list, 1, #list, 1, {})
end

-- The same stack, or, when it has become too long, one layer with all of it.
-- A simulated Windows has no base and each of its layers is a whole disk.
local function fit(m, stack, base)
  if not base then
    return { stack[1] }, nil
  end
  if #stack + 1 <= layers.max then
    return stack, base
  end
  local merged = layers.new_name()
  stack = copied(stack)
  stack[#stack + 1] = base
  layers.merge(m.dir, stack, merged)
  return {}, merged
end

local function commit(m, instance)
  m.S:put(instance)
  m.S:commit()
end

-- While the instance does not run: its upper directory becomes its top layer.
local function take(m, job)
  local instance = job.instance
  layers.take_upper(m.dir, instance.id, job.layer)
  table.insert(instance.layers, 1, job.layer)
  commit(m, instance)
  instance.layers, instance.base_layer = fit(m, instance.layers, instance.base_layer)
  commit(m, instance)
end

local function copy_volumes(m, job)
  for _, v in ipairs(job.volumes) do
    layers.copy_volume(m.dir, v.volume, v.snapshot.id)
  end
end

-- Reboots the instance and does the work in between.
local function between(m, job, run)
  local done, failure = async.event(), nil
  run.between = function()
    local ok, e = pcall(function()
      take(m, job)
      copy_volumes(m, job)
    end)
    failure = not ok and e or nil
    done:set(true)
  end
  local ok, e = pcall(run.box.reboot, run.box)
  if not ok and e.kind == "cancelled" then
    error(e, 0)
  end
  done:wait(REBOOT_SECONDS)
  if failure then
    error(failure, 0)
  end
end

local function with_root(m, job)
  local instance = job.instance
  local run = m.runs[instance.id]
  if run and not (job.reboot and run.box) then
    layers.copy_upper(m.dir, instance.id, job.layer)
    copy_volumes(m, job)
    return fit(m, table.move(instance.layers, 1, #instance.layers, 2, { job.layer }),
      instance.base_layer)
  elseif run then
    between(m, job, run)
  else
    take(m, job)
    copy_volumes(m, job)
  end
  return copied(instance.layers), instance.base_layer
end

local function work(m, job)
  if m.faults:guest({ action = "image", instance = job.instance and job.instance.id },
    "fail_image") then
    error("the image could not be made (fault)", 0)
  elseif m.api_only then
    async.sleep(m.delays.pending)
    return {}, nil
  elseif job.layer then
    return with_root(m, job)
  end
  copy_volumes(m, job)
  return {}, nil
end

local function settle_snapshot(m, snapshot, ok, stack, base)
  snapshot.state, snapshot.progress = ok and "completed" or "error", ok and "100%" or ""
  if ok and snapshot.root then
    snapshot.layers, snapshot.base_layer = stack, base
  end
  m.S:put(snapshot)
end

local function settle(m, job, ok, stack, base)
  local image = job.image
  if image and image.state == "pending" then
    image.state = ok and "available" or "failed"
    image.reason = not ok and tostring(stack):sub(1, 300) or nil
    image.layers, image.base_layer = ok and stack or {}, ok and base or nil
    image.plan = nil
    m.S:put(image)
  end
  for _, snapshot in ipairs(job.snapshots) do
    settle_snapshot(m, snapshot, ok, stack, base)
  end
  if job.instance then
    job.instance.imaging = nil
    m.S:put(job.instance)
  end
  m.S:commit()
  m:notify()
  m:collect()
end

--- Begins, after the commit of the pending objects.
-- @param m Machines
-- @param job.instance table|nil whose root volume is taken
-- @param job.layer string|nil name for its upper directory
-- @param job.reboot boolean stop it meanwhile if it runs
-- @param job.image table|nil pending image
-- @param job.snapshots table[] all pending snapshots
-- @param job.volumes {volume=id, snapshot=table}[] files to copy
function M.start(m, job)
  m.spawn(function()
    local ok, stack, base = pcall(work, m, job)
    if not ok then
      if type(stack) == "table" and stack.kind == "cancelled" then
        error(stack, 0)
      end
      log.error("image of %s: %s", job.instance and job.instance.id or "volumes",
        tostring(stack))
    end
    settle(m, job, ok, stack, base)
  end)
end

-- After a crash: an instance whose upper directory became a layer gets it back
-- as its uppermost layer.
local function recover_instance(S, dir, image)
  local plan = image.plan
  local instance = plan.instance and S:get("instance", image.region, plan.instance)
  if not instance or instance.layers[1] == plan.layer then
    return
  end
  local fs = require "hgauto.fs"
  if fs.exists(("%s/images/%s"):format(dir, plan.layer))
    and not fs.exists(("%s/instances/%s/u"):format(dir, instance.id)) then
    table.insert(instance.layers, 1, plan.layer)
    S:put(instance)
  end
end

--- After a daemon's death: what was pending has failed, no data is lost.
-- @param S State
-- @param dir string the local cloud's directory
function M.bury(S, dir)
  for _, instance in ipairs(S:list("instance")) do
    if instance.imaging then
      instance.imaging = nil
      S:put(instance)
    end
  end
  for _, kind in ipairs { "image", "snapshot" } do
    for _, obj in ipairs(S:list(kind)) do
      if obj.plan then
        recover_instance(S, dir, obj)
        obj.plan = nil
        S:put(obj)
      end
      if obj.state == "pending" then
        obj.state = kind == "image" and "failed" or "error"
        obj.reason = "the local cloud ended meanwhile"
        S:put(obj)
      end
    end
  end
  S:commit()
end

return M
