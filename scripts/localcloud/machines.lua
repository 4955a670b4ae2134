-- Instances as machines: one task per instance that is not at rest starts its
-- box, waits for its end and starts it again after a reboot.  In api-only mode
-- the same states pass without a box.  Objects are changed and committed between
-- waits only.

local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local disks = require "localcloud.disks"
local errors = require "localcloud.errors"
local fs = require "hgauto.fs"
local groups = require "localcloud.ec2.groups"
local images = require "localcloud.ec2.images"
local imds = require "localcloud.imds"
local layers = require "localcloud.layers"
local log = require "hgauto.log"
local state = require "localcloud.state"
local time = require "hgauto.time"
local userdata = require "localcloud.userdata"

local M = {}

--- The resolver that machines ask.
M.resolver = "169.254.169.253"

--- State codes of the API.
M.codes = { pending = 0, running = 16, ["shutting-down"] = 32, terminated = 48, stopping = 64,
  stopped = 80 }

local LIVE = { pending = true, running = true, stopping = true, ["shutting-down"] = true }
local MOVING = { pending = true, stopping = true, ["shutting-down"] = true }

-- Tries with another public address when the first is taken by somebody else.
local ADDRESS_TRIES = 5
local BOOT_COMMAND_SECONDS = 120
local SCRIPT_SECONDS = 24 * 3600
local POWEROFF_SECONDS = 10
local CONSOLE_MAX = 4 * 1024 * 1024

--- Reasons of states, as AWS words them.
M.reasons = {
  user = { "Client.UserInitiatedShutdown",
    "Client.UserInitiatedShutdown: User initiated shutdown" },
  guest = { "Client.InstanceInitiatedShutdown",
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown" },
  crash = { "Server.InternalError", "Server.InternalError: the machine's init process died" },
  spot = { "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Instance terminated due to Spot price" },
  supervisor = { "Server.InternalError", "Server.InternalError: supervisor ended" },
}

local Machines = {}
Machines.__index = Machines

--- Makes the machine part of a daemon.
-- @param opts.S State
-- @param opts.dir string the local cloud's directory
-- @param opts.pool table public addresses
-- @param opts.api_only boolean
-- @param opts.delays table|nil seconds per state in api-only mode
-- @param opts.host_ports integer[]|nil ports of the host that machines reach
-- @param opts.spawn function(fn) starts a task that lives as long as the daemon
-- @param opts.progress function(text) told of slow preparations
-- @return Machines
function M.new(opts)
  local self = setmetatable({ runs = {}, layers = {} }, Machines)
  for k, v in pairs(opts) do
    self[k] = v
  end
  self.changed = async.event()
  return self
end

--- Whether an instance has or will have a box.
function M.is_live(instance)
  return LIVE[instance.state] == true
end

--- Whether the state will change by itself.
function M.is_moving(instance)
  return MOVING[instance.state] == true
end

-- ---- changes of state ----

function Machines:notify()
  local old = self.changed
  self.changed = async.event()
  old:set(true)
end

-- What goes with a terminated instance: its interface, its volumes, its token.
local function release(self, instance)
  instance.private_ip = nil
  instance.ended = state.now_ms()
  local eni = self.S:get("eni", instance.region, instance.eni)
  if eni then
    self.S:drop(eni)
  end
  for _, m in ipairs(instance.volumes) do
    local volume = self.S:get("volume", instance.region, m.id)
    if volume and volume.delete then
      self.S:drop(volume)
    elseif volume then
      volume.instance, volume.device, volume.state = nil, nil, "available"
      volume.attach, volume.attached = nil, nil
      self.S:put(volume)
    end
  end
end

local function transition_text(reason)
  if reason == M.reasons.user then
    local at = time.iso(math.floor(time.now())):gsub("T", " "):gsub("Z", " GMT")
    return ("User initiated (%s)"):format(at)
  end
  return reason and reason[2] or ""
end

--- Sets an instance's state; the caller commits.
-- @param instance table
-- @param name string state
-- @param reason {code, message}|nil
function Machines:set(instance, name, reason)
  instance.state = name
  instance.reason = reason and { code = reason[1], message = reason[2] } or nil
  instance.transition = transition_text(reason)
  if name == "stopped" or name == "terminated" then
    instance.public_ip = nil
  end
  if name == "terminated" then
    release(self, instance)
  end
  self.S:put(instance)
end

local function settle(self, instance, name, reason)
  -- A goal set meanwhile (terminated while stopping) must not be undone.
  if instance.state == "terminated" then
    return
  end
  self:set(instance, name, reason)
  self.S:commit()
  self:notify()
end

-- ---- console ----

function Machines:console_path(instance)
  return ("%s/instances/%s/console.log"):format(self.dir, instance.id)
end

function Machines:say(instance, text)
  local path = self:console_path(instance)
  local ok, e = pcall(function()
    if fs.exists(path) and fs.stat(path).size > CONSOLE_MAX then
      return
    end
    fs.append(path, text:sub(-1) == "\n" and text or text .. "\n")
  end)
  if not ok then
    log.debug("console of %s: %s", instance.id, tostring(e))
  end
end

-- ---- a box ----

local function make_host_key(hostname)
  return function()
    local key = crypto.keypair("ed25519", "root@" .. hostname)
    local private = key:private()
    return type(private) == "string" and private or private:reveal(), key:public()
  end
end

local function plan_of(self, instance, first)
  local image = images.of_instance(self.S, instance)
  return userdata.plan { text = instance.user_data and crypto.unbase64(instance.user_data),
    first = first, user = image.user, public_key = instance.public_key,
    private_ip = instance.private_ip, dns = self.net and M.resolver or nil,
    make_host_key = make_host_key(userdata.hostname(instance.private_ip)) }, image
end

-- The base layer of an instance, built at first use; meanwhile the instance says
-- what it waits for.
local function base_of(self, instance, image)
  if instance.base_layer then
    return instance.base_layer
  end
  local have = self.layers[image.base]
  if have then
    return have
  end
  local store = require "localcloud.images"
  if not store.have(self.dir, image.base) then
    settle(self, instance, "pending",
      { "pending", ("pending: the base image %s is being built"):format(image.base) })
  end
  local layer = store.ensure(image.base, { path = self.dir, progress = self.progress })
  self.S:note_layer(layer)
  self.layers[image.base] = layer.layer
  return layer.layer
end

-- Layers of an instance, top first.
local function stack_of(self, instance, image)
  instance.base_layer = base_of(self, instance, image)
  instance.layers = instance.layers or {}
  self.S:put(instance)
  self.S:commit()
  local stack = table.move(instance.layers, 1, #instance.layers, 1, {})
  stack[#stack + 1] = instance.base_layer
  return stack
end

--- Inbound rules in the form of the box.
function Machines:rules(instance)
  return groups.inbound(self.S, instance)
end

local function start_box(self, instance, run, stack, plan)
  local box = require "hgauto.box"
  local image = images.of_instance(self.S, instance)
  for try = 1, ADDRESS_TRIES do
    run.address = run.address or self.pool:take()
    if not run.address then
      errors.raise("InsufficientAddressCapacity", "no public address is free")
    end
    local ok, b = pcall(box.start, { name = instance.id, hostname = plan.hostname,
      layers = stack, images_dir = self.dir .. "/images",
      dir = ("%s/instances/%s"):format(self.dir, instance.id), address = run.address,
      private_ip = instance.private_ip, net = self.net and "redirect" or "none",
      host_ports = self.host_ports,
      files = plan.files,
      users = table.move(plan.users, 1, #plan.users, 2,
        { { name = image.user, shell = "/bin/bash" } }), disks = run.disks,
      ports = self:rules(instance) })
    if ok then
      return b
    elseif b.kind == "cancelled" or b.code ~= "bind" or try == ADDRESS_TRIES then
      error(b, 0)
    end
    self.pool:give(run.address)
    run.address = nil
  end
end

local function run_boot(self, instance, b, plan)
  if not plan.boot then
    return
  end
  local ok, r = pcall(b.exec, b, { argv = plan.boot, user = "root",
    timeout = BOOT_COMMAND_SECONDS, env = { INSTANCE_ID = instance.id } })
  if not ok then
    if r.kind == "cancelled" then
      error(r, 0)
    end
    self:say(instance, "hgauto: bootcmd: " .. tostring(r))
  else
    self:say(instance, r.out)
    if r.code ~= 0 then
      self:say(instance, ("hgauto: bootcmd ended with %s"):format(tostring(r.code)))
    end
  end
end

local function run_script(self, instance, b, argv)
  local ok, r = pcall(b.exec, b, { argv = argv, user = "root", timeout = SCRIPT_SECONDS,
    env = { INSTANCE_ID = instance.id }, on_output = function(_, text)
      self:say(instance, text)
    end })
  if not ok and r.kind == "cancelled" then
    error(r, 0)
  elseif not ok or r.code ~= 0 then
    self:say(instance, ("hgauto: %s ended with %s"):format(argv[3]:match("instance/(%w+)") or "it",
      ok and tostring(r.code or r.signal) or tostring(r)))
  end
end

-- Scripts of the user run after each other beside everything else and end with
-- the box; what fails is said, the next one runs.
local function start_scripts(self, instance, b, plan)
  if not plan.scripts[1] and not plan.power then
    return
  end
  self.spawn(function()
    for _, argv in ipairs(plan.scripts) do
      run_script(self, instance, b, argv)
    end
    if plan.power then
      run_script(self, instance, b, { "/bin/sh", "-c", plan.power })
    end
  end)
end

local function announce(self, instance, plan)
  for _, text in ipairs(plan.notices) do
    self:say(instance, text)
  end
  if plan.host_public then
    self:say(instance, userdata.key_banner(plan.host_public))
    instance.host_public = plan.host_public
  end
end

local function warn_net(self, instance, b)
  if self.net and b:info().net == "none" then
    self:say(instance, "hgauto: this kernel has no nf_tables: the machine has no network")
  end
end

local function note_ssh_port(instance, b)
  local port = b:info().ssh_port
  instance.tags["hgauto:ssh-port"] = port and port ~= 22 and tostring(port) or nil
end

-- The machine's metadata, as long as it runs; nil where its kernel has no way to it.
local function metadata_of(self, instance, b)
  local ok, listener = pcall(b.listener, b, "imds")
  if not ok then
    self:say(instance, "hgauto: this kernel has no nf_tables: no metadata service")
    return nil
  end
  return imds.serve { S = self.S, instance = instance, listener = listener, now = function()
    return time.now() + self.faults.clock
  end }
end

-- Faults of a machine's start: it fails, or it says that it is impaired.
local function start_faults(self, instance)
  local event = { action = "launch", instance = instance.id }
  if self.faults:guest(event, "terminate") then
    errors.raise("Server.InternalError", "the machine failed to start (fault)")
  end
  instance.impaired = self.faults:guest(event, "impaired") and true or nil
end

-- The market wants a spot machine back: a notice, and so many seconds later its end.
local function spot_fault(self, instance)
  local seconds = instance.spot and self.faults:guest({ action = "run", instance = instance.id },
    "spot")
  if not seconds then
    return
  end
  instance.spot_notice = { action = "terminate", at = math.floor(time.now() + seconds) }
  self.S:put(instance)
  self.S:commit()
  self.spawn(function()
    async.sleep(seconds)
    if instance.state == "running" then
      self:set(instance, "shutting-down", M.reasons.spot)
      self.S:commit()
      self:pursue(instance, "terminated", M.reasons.spot)
    end
  end)
end

-- Runs fn when a fault says that the machine dies, so many seconds from now.
local function death_fault(self, instance, fn)
  local seconds = self.faults:guest({ action = "run", instance = instance.id }, "kill")
  if seconds then
    self.spawn(function()
      async.sleep(seconds)
      fn()
    end)
  end
end

-- One power-on: returns how it ended, "off", "reboot", "crash" or "killed".
-- The address stays the same over reboots.
local function power_on(self, instance, run)
  start_faults(self, instance)
  local plan, image = plan_of(self, instance, not instance.configured)
  local stack = stack_of(self, instance, image)
  run.disks = disks.of_launch(self, instance)
  fs.mkdir(("%s/instances/%s"):format(self.dir, instance.id), { parents = true })
  local b <close> = start_box(self, instance, run, stack, plan)
  local _metadata <close> = metadata_of(self, instance, b)
  announce(self, instance, plan)
  warn_net(self, instance, b)
  run_boot(self, instance, b, plan)
  run.box = b
  instance.public_ip, instance.configured = run.address, true
  note_ssh_port(instance, b)
  settle(self, instance, "running")
  start_scripts(self, instance, b, plan)
  spot_fault(self, instance)
  death_fault(self, instance, function()
    if run.box == b then
      b:kill()
    end
  end)
  local ended = b:wait()
  run.box = nil
  self:say(instance, ("hgauto: machine ended: %s"):format(ended.reason))
  return ended.reason
end

local function is_windows(self, instance)
  return images.of_instance(self.S, instance).platform == "windows"
end

-- The directory that stands for C:, below the one that becomes a layer when an
-- image is made; a layer holds all of it.
local function windows_disk(self, instance)
  local upper = ("%s/instances/%s/u"):format(self.dir, instance.id)
  local layer = instance.layers and instance.layers[1]
  if layer and not fs.exists(upper) then
    fs.mkdir(upper:match("^(.*)/"), { parents = true })
    layers.copy_layer(self.dir, layer, upper)
  end
  return upper .. "/c"
end

-- One power-on of a simulated Windows: an endpoint stands for the machine.
local function windows_on(self, instance, run)
  start_faults(self, instance)
  async.sleep(self.delays.pending)
  run.address = run.address or self.pool:take()
    or errors.raise("InsufficientAddressCapacity", "no public address is free")
  local root = windows_disk(self, instance)
  local sim <close> = require("localcloud.winmachine").start({
    root = root, address = run.address, boot = self.delays.windows,
    user_data = instance.user_data and crypto.unbase64(instance.user_data),
    say = function(text)
      self:say(instance, text)
    end,
    rules = function()
      return self:rules(instance)
    end,
    fault = function(action)
      return self.faults:guest({ action = action, instance = instance.id }, "winrm")
    end,
  }, self.spawn)
  instance.tags["hgauto:simulated"] = "windows"
  run.box = sim
  instance.public_ip, instance.configured = run.address, true
  settle(self, instance, "running")
  death_fault(self, instance, function()
    sim:kill()
  end)
  local how = sim:wait()
  run.box = nil
  self:say(instance, ("hgauto: machine ended: %s"):format(how))
  return how == "killed" and "crash" or how
end

-- The same without a machine: waits until somebody wants another state.
local function pretend(self, instance, run)
  async.sleep(self.delays.pending)
  start_faults(self, instance)
  run.address = self.pool:take()
  instance.configured = true
  if not run.goal then
    instance.public_ip = run.address
    settle(self, instance, "running")
  end
  spot_fault(self, instance)
  death_fault(self, instance, function()
    run.crashed = not run.goal
    run.wish:set(true)
  end)
  run.wish:wait()
  if run.crashed then
    return "crash"
  end
  async.sleep(self.delays[instance.state] or 0)
  return "off"
end

local function outcome(instance, run, ended)
  if run.goal then
    return run.goal, run.reason
  elseif ended == "off" then
    return instance.behavior == "terminate" and "terminated" or "stopped", M.reasons.guest
  end
  return "stopped", M.reasons.crash
end

local function live(self, instance, run)
  local once = self.api_only and pretend or is_windows(self, instance) and windows_on or power_on
  local ended
  repeat
    ended = once(self, instance, run)
    local between = run.between
    if between then
      run.between = nil
      between()
    end
  until ended ~= "reboot" or run.goal
  return outcome(instance, run, ended)
end

local function failure_reason(e)
  local text = errors.is(e) and e.message or tostring(e)
  if type(e) == "table" and e.hint then
    text = ("%s (%s)"):format(text, e.hint)
  end
  return { "Server.InternalError", "Server.InternalError: " .. text:sub(1, 400) }
end

-- State and reason after an attempt that raised.
local function after_failure(instance, run, e)
  if run.goal then
    return run.goal, run.reason
  end
  log.error("instance %s did not start: %s", instance.id, tostring(e))
  return instance.configured and "stopped" or "terminated", failure_reason(e)
end

local function body(self, instance, run)
  local ok, name, reason = pcall(live, self, instance, run)
  run.box, self.runs[instance.id] = nil, nil
  self.pool:give(run.address)
  instance.public_ip = nil
  if not ok then
    local e = name
    if type(e) == "table" and e.kind == "cancelled" and not run.goal then
      -- The daemon ends; its orderly end decides about the state.
      error(e, 0)
    end
    name, reason = after_failure(instance, run, e)
  end
  settle(self, instance, name, reason)
  if name == "terminated" then
    self:remove_files(instance)
  end
end

--- Deletes the files of a terminated instance in the background.
-- By a child: a build leaves many thousands, and requests must not wait for the
-- disk meanwhile.
function Machines:remove_files(instance)
  self.spawn(function()
    layers.delete { ("%s/instances/%s"):format(self.dir, instance.id) }
    self:collect()
  end)
end

--- Deletes layers and volume files that nothing names any more, in the
-- background.
function Machines:collect()
  if self.api_only then
    return
  end
  local dead = layers.unlink_dead(self.S, self.dir)
  if dead[1] then
    self.spawn(function()
      layers.delete(dead)
    end)
  end
end

-- ---- what the API asks for ----

--- Starts the machine of a committed pending instance.
-- @param instance table
function Machines:launch(instance)
  local run = { wish = async.event() }
  self.runs[instance.id] = run
  run.task = self.spawn(function()
    body(self, instance, run)
  end)
end

--- Brings an instance that is at rest or alive to "stopped" or "terminated".
-- The transitional state is set and must be committed by the caller; the rest
-- happens in the background, begun by :pursue.
function Machines:wish(instance, goal)
  if instance.state == "stopped" then
    self:set(instance, "terminated", M.reasons.user)
    return
  end
  self:set(instance, goal == "stopped" and "stopping" or "shutting-down", M.reasons.user)
end

--- Continues what :wish began, after the commit.
-- @param reason {code, message}|nil default: the user's
function Machines:pursue(instance, goal, reason)
  reason = reason or M.reasons.user
  self:notify()
  local run = self.runs[instance.id]
  if not run then
    if instance.state == "terminated" then
      self:remove_files(instance)
    elseif M.is_moving(instance) then
      settle(self, instance, goal, reason)
    end
    return
  end
  run.goal, run.reason = goal, reason
  local late = self.faults:guest({ action = "stop", instance = instance.id }, "slow_stop")
  if late then
    self.spawn(function()
      async.sleep(late)
      self:end_run(instance, run)
    end)
    return
  end
  self:end_run(instance, run)
end

--- Ends the machine of an instance that has a goal.
function Machines:end_run(instance, run)
  if self.api_only then
    run.wish:set(true)
  elseif run.box then
    local b = run.box
    self.spawn(function()
      local ok, e = pcall(b.poweroff, b, { timeout = POWEROFF_SECONDS })
      if not ok and e.kind == "cancelled" then
        error(e, 0)
      elseif not ok then
        log.debug("poweroff of %s: %s", instance.id, tostring(e))
        pcall(b.kill, b)
      end
    end)
  else
    run.task:cancel("the instance is to be " .. run.goal)
  end
end

--- Restarts a running instance, after the commit.
function Machines:reboot(instance)
  local b = self:box_of(instance.id)
  if not b then
    return
  end
  self.spawn(function()
    local ok, e = pcall(b.reboot, b)
    if not ok and e.kind == "cancelled" then
      error(e, 0)
    elseif not ok then
      log.warn("reboot of %s: %s", instance.id, tostring(e))
    end
  end)
end

--- Applies changed security group rules to the machines that use a group.
-- @waits
function Machines:apply_rules(region, group_id)
  for _, instance in ipairs(self.S:list("instance", region)) do
    local run = self.runs[instance.id]
    for _, id in ipairs(run and run.box and instance.groups or {}) do
      if id == group_id then
        local ok, e = pcall(run.box.ports, run.box, self:rules(instance))
        if not ok and e.kind == "cancelled" then
          error(e, 0)
        elseif not ok then
          log.warn("rules of %s: %s", instance.id, tostring(e))
        end
      end
    end
  end
end

--- The box of a running instance, or nil.
-- @param id string
function Machines:box_of(id)
  local run = self.runs[id]
  return run and run.box
end

--- Number of instances that have or will have a box.
function Machines:live_count()
  local n = 0
  for _, instance in ipairs(self.S:list("instance")) do
    n = n + (LIVE[instance.state] and 1 or 0)
  end
  return n
end

--- Records the end of all live instances; their boxes die with the daemon.
-- @param reason {code, message}
function Machines:bury(reason)
  for _, instance in ipairs(self.S:list("instance")) do
    if LIVE[instance.state] then
      local gone = instance.state == "shutting-down" or instance.behavior == "terminate"
      self:set(instance, gone and "terminated" or "stopped", reason)
    end
  end
  self.S:commit()
end

return M
