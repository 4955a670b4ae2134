-- Puts the store right after whatever ended the last daemon, and forgets what
-- has been shown long enough.  Both may run any number of times.

local capture = require "localcloud.capture"
local fs = require "hgauto.fs"
local layers = require "localcloud.layers"
local log = require "hgauto.log"
local machines = require "localcloud.machines"
local state = require "localcloud.state"

local M = {}

local VISIBLE_MS = 3600 * 1000
local TOKEN_MS = 24 * 3600 * 1000

local function remove(path)
  local ok, e = pcall(fs.remove, path, { tree = true })
  if not ok then
    if type(e) == "table" and e.kind == "cancelled" then
      error(e, 0)
    end
    log.warn("reaper: %s: %s", path, tostring(e))
  end
  return ok
end

-- Directories of instances that are terminated or were never recorded.
local function instance_dirs(S, dir)
  local known = {}
  for _, instance in ipairs(S:list("instance")) do
    known[instance.id] = instance.state ~= "terminated"
  end
  local removed = 0
  local path = dir .. "/instances"
  for _, name in ipairs(fs.exists(path) and fs.list(path) or {}) do
    if name:match("^i%-%x+$") and not known[name] and remove(path .. "/" .. name) then
      removed = removed + 1
    end
  end
  return removed
end

-- Volumes that were on the way: what was being made is not, what was being
-- attached or detached is as the store says.
local function settle_volumes(S)
  for _, v in ipairs(S:list("volume")) do
    if v.state == "creating" then
      v.state = "error"
      S:put(v)
    elseif v.attach then
      v.attach = nil
      S:put(v)
    end
  end
  S:commit()
end

--- Before listening: no keeper outlived the last daemon, so what the store calls
-- alive is not.
-- @param m Machines
-- @return {instances=number, dirs=number} what was put right
function M.run(m)
  local before = m:live_count()
  m:bury(machines.reasons.supervisor)
  capture.bury(m.S, m.dir)
  settle_volumes(m.S)
  local dirs = instance_dirs(m.S, m.dir)
  return { instances = before,
    dirs = dirs + (m.api_only and 0 or layers.delete(layers.unlink_dead(m.S, m.dir))) }
end

--- Deletes records and instances of a local cloud that does not run; base
-- images stay.
-- @param dir string its directory
function M.wipe(dir)
  local _held <close> = fs.lock(dir .. "/daemon.lock", { wait = 5 })
  for _, name in ipairs { "instances", "volumes", "cloud.db", "cloud.db-wal", "cloud.db-shm",
    "credentials", "requests.jsonl", "requests.jsonl.1", "daemon.json", "ctl.sock" } do
    if fs.exists(dir .. "/" .. name) then
      fs.remove(dir .. "/" .. name, { tree = true })
    end
  end
end

--- Hides terminated instances after an hour; forgets them, and the client
-- tokens that made them, a day later.
-- @param S State
function M.sweep(S)
  local now = state.now_ms()
  for _, instance in ipairs(S:list("instance")) do
    local age = instance.state == "terminated" and now - (instance.ended or 0)
    if age and age > VISIBLE_MS + TOKEN_MS then
      S:drop(instance)
      if instance.token then
        S:drop_token("RunInstances", instance.region, instance.token)
      end
    elseif age and age > VISIBLE_MS and not instance.hidden then
      instance.hidden = true
      S:put(instance)
    end
  end
  for _, image in ipairs(S:list("image")) do
    if image.state == "deregistered" and now - image.ended > VISIBLE_MS then
      S:drop(image)
    end
  end
  -- A day past its end a temporary key is not even called expired any more.
  for _, session in ipairs(S:list("session")) do
    if session.expires * 1000 + TOKEN_MS < now then
      S:drop(session)
    end
  end
  S:commit()
end

return M
