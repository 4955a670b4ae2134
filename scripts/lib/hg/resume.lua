--- Going on where an ended run stopped: `hgauto run --resume RUN`.
--
-- The journal of the old run tells which steps ended well, what they returned
-- and which machines they used.  A step is left out when all of that is still
-- true; a machine that the old run left is used again under the same key (lane
-- and declaration).  The old run's lock is ours meanwhile: no collection touches
-- what it left, and nobody else resumes it (command line specification, 5.7).
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local hg = require "hg"
local json = require "hgauto.json"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Results of a step that are longer are not kept.
local MAX_VALUES = 65536

-- A machine that ends itself sooner is not worth adopting.
local MIN_LEFT = 60

-- ---- what a step leaves for later ----------------------------------------------------

-- Nil, booleans, numbers, strings, and tables of these without cycles.
local function plain(v, seen)
  local t = type(v)
  if t == "nil" or t == "boolean" or t == "number" or t == "string" then
    return true
  elseif t ~= "table" or seen[v] then
    return false
  end
  seen[v] = true
  for k, x in next, v do
    if not plain(k, seen) or not plain(x, seen) then
      return false
    end
  end
  seen[v] = nil
  return true
end

--- Whether a value is plain data, which a record can hold.
-- @param v any
-- @return boolean
function M.plain(v)
  return plain(v, {})
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b and math.type(a) == math.type(b)
  end
  for k, v in next, a do
    if not same(v, b[k]) then
      return false
    end
  end
  for k in next, b do
    if a[k] == nil then
      return false
    end
  end
  return true
end

--- A step's results as its journal holds them.
-- @param results table packed, from index 1, with n
-- @return table fields of its step.end: n and values, or values_omitted="type", "size" or "secret"
function M.values(results)
  local list, last = {}, 0
  for i = 1, results.n do
    last = results[i] ~= nil and i or last
  end
  for i = 1, last do
    -- JSON has no place for a nil in between.
    if results[i] == nil or not plain(results[i], {}) then
      return { values_omitted = "type" }
    end
    list[i] = results[i]
  end
  local ok, text = pcall(json.encode, json.list(list))
  if not ok or not same(json.decode(text), list) then
    return { values_omitted = "type" }
  elseif #text > MAX_VALUES then
    return { values_omitted = "size" }
  elseif require("hgauto.log").redact(text) ~= text then
    return { values_omitted = "secret" }
  end
  return { n = results.n, values = json.list(list) }
end

--- The key of a machine: the same for the same declaration in the same lane.
-- @param ctx table|nil
-- @param given table what hg.machines.* was called with
-- @return string|nil
function M.machine_key(ctx, given)
  local ok, text = pcall(json.encode, given)
  if not ctx or not ok then
    return nil
  end
  local key = ("%s|%s"):format(async.local_get("lane") or "", crypto.sha256(text):sub(1, 16))
  ctx.uses[key] = (ctx.uses[key] or 0) + 1
  return key .. "#" .. ctx.uses[key]
end

-- ---- beginning -----------------------------------------------------------------------

local function journal(dir)
  local steps = {}
  for _, e in ipairs(hg.events.read(dir)) do
    if e.ev == "step.end" and e.key then
      steps[e.key] = e
    end
  end
  return steps
end

local function check_from(id, steps, from)
  local names = {}
  for _, e in pairs(steps) do
    if e.step == from then
      return
    end
    names[#names + 1] = e.step
  end
  table.sort(names)
  hg.fail { kind = "usage", message = ("--from: run %s has no step %s%s"):format(id, from,
    require("hg.suggest").text(from, names)), hint = "hgauto runs show " .. id }
end

--- Reads a record that is to be resumed.
-- @param word string run as the user wrote it
-- @return table record
-- @raise usage
function M.record(word)
  local record = hg.runs.read(hg.runs.find(word, "--resume"))
  if record.alive then
    hg.fail { kind = "usage", message = ("--resume: run %s is alive"):format(record.run),
      hint = "hgauto runs cancel " .. record.run }
  elseif type(record.argv) ~= "table" or type(record.cwd) ~= "string" then
    hg.fail { kind = "usage",
      message = ("--resume: the record of run %s does not tell its command line"):format(
        record.run) }
  end
  return record
end

--- Takes the old run: its lock is held until M.finish.
-- @param record table from M.record
-- @param from string|nil step from which on all runs again
-- @raise usage it lives, or has no such step
function M.begin(record, from)
  local id = record.run
  local steps = journal(hg.runs.dir(id))
  if from then
    check_from(id, steps, from)
  end
  local lock = session.state:lock_run(id)
  if not lock then
    hg.fail { kind = "usage", message = ("--resume: run %s is alive, or somebody resumes or "
      .. "collects it"):format(id) }
  end
  local r = { run = id, steps = steps, machines = {}, adopted = {}, dirty = {}, from = from,
    lock = lock }
  for _, m in ipairs(record.machines or {}) do
    if m.key then
      r.machines[m.key] = m
    end
  end
  session.resume = r
  return r
end

--- Gives up the old run.
function M.finish()
  local r = session.resume
  if r then
    session.resume = nil
    r.lock:close()
  end
end

--- Warns when the task's file is another one than then.
-- @param record table
-- @param now string|nil SHA-256
function M.check_file(record, now)
  if record.sha256 ~= now then
    out.warn(("the task has changed since run %s"):format(record.run))
  end
end

-- ---- steps ------------------------------------------------------------------------------

-- A lane and those it was started from.
local function lane_is_dirty(r, lane)
  local name = lane
  while name do
    if r.dirty[name] then
      return true
    end
    name = name ~= "" and (name:match("^(.*)/[^/]*$") or "") or nil
  end
  return false
end

local function still_true(r, e)
  for _, id in ipairs(e.machines or {}) do
    if not r.adopted[id] then
      return false
    end
  end
  return true
end

--- What a step returned in the run that is resumed, if it need not run again.
-- @param key string
-- @param lane string
-- @param path string
-- @param may boolean the step's option resume
-- @return table|nil its step.end; with values and n
function M.done(key, lane, path, may)
  local r = session.resume
  local e = r and r.steps[key]
  if not r or lane_is_dirty(r, lane) then
    return nil
  elseif r.from == path or not e or (e.status ~= "ok" and e.status ~= "skipped")
    or not still_true(r, e) then
    r.dirty[lane] = true
    return nil
  end
  return may and e.values and e or nil
end

-- ---- machines ----------------------------------------------------------------------------

local function row_of(r, id)
  for _, row in ipairs(session.ledger:list { run = r.run, kinds = { "instance" },
    states = { "live", "kept" } }) do
    if row.id == id and row.endpoint == hg.ledger.endpoint(session)
      and row.region == session.region then
      return row
    end
  end
  return nil
end

local function running(ec2, id)
  local ok, r = pcall(ec2.describe_instances, ec2, { InstanceIds = { id } })
  if not ok then
    if type(r) == "table" and r.code == "InvalidInstanceID.NotFound" then
      return nil
    end
    error(r, 0)
  end
  local i = r.Reservations[1] and r.Reservations[1].Instances[1]
  return i and i.State.Name == "running" and i.PublicIpAddress and i or nil
end

--- Takes over the machine that the old run had under that key, if it is there.
-- @param ec2 table client
-- @param key string|nil from M.machine_key
-- @return table|nil instance as described
-- @return table|nil its record in the old run
-- @return number|nil expires
-- @waits
function M.adopt(ec2, key)
  local r = session.resume
  local record = r and key and r.machines[key]
  local row = record and record.state ~= "terminated" and row_of(r, record.id)
  if not row then
    return nil
  end
  local expires = row.expires or record.expires or 0
  local instance = expires - time.now() > MIN_LEFT and running(ec2, record.id) or nil
  if not instance then
    out.note(("%s of run %s is no longer usable: another one is made"):format(record.id, r.run))
    return nil
  end
  session.ledger:take(row.op, r.run, session.run.id)
  hg.ledger.count_open(session)
  r.machines[key] = nil
  return instance, record, expires
end

--- A machine was made: what comes in its lane has not been done on it.
function M.renewed()
  if session.resume then
    session.resume.dirty[async.local_get("lane") or ""] = true
  end
end

--- Says that an adopted machine is usable: steps that used it need not run again.
-- @param id string
function M.adopted(id)
  session.resume.adopted[id] = true
  out.note(("%s of run %s goes on"):format(id, session.resume.run))
end

--- SHA-256 of the file that a task comes from.
-- @param path string|nil file; nil: built in, of that name
-- @param name string
-- @return string|nil
function M.file_hash(path, name)
  if path then
    return fs.exists(path) and fs.sha256(path) or nil
  end
  local text = require("hgauto.embed").read((name:gsub("-", "_")) .. ".lua")
  return text and crypto.sha256(text) or nil
end

return M
