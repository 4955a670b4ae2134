--- What we made: places, runs, look-ups and durable creation.
--
-- The ledger itself is core's (hgauto.state); creating calls pass its gate in
-- hgauto.aws.  Here: which account and region a row belongs to, what is open,
-- ensure-style creation of named things (reliability specification, 2).
local fs = require "hgauto.fs"

local M = {}

local OPEN = { "intent", "unknown", "live", "kept", "deleting" }

--- Where the calls of this process go, as the ledger names it.
-- @param session table hg.session
-- @return string "" for AWS, "local:ID" for the local cloud, else the URL
function M.endpoint(session)
  if session.local_cloud then
    return "local:" .. session.local_cloud.id
  end
  return session.endpoint_url or ""
end

-- The place row for the credentials and region in use; asked once per process.
local function place_of(session)
  if not session.place then
    local who = require("hgauto.aws").account {}
    session.account = who.Account
    session.place = session.ledger:place {
      partition = who.Arn and who.Arn:match("^arn:([^:]+):") or "aws", account = who.Account,
      region = session.region, endpoint = M.endpoint(session),
    }
  end
  return session.place
end

--- Connects AWS calls of this process with the ledger of the current run.
-- @param session table hg.session with ledger and run
function M.attach(session)
  require("hgauto.aws").ledger(session.ledger, session.run.id, function()
    return place_of(session)
  end, { before_ephemeral = function()
    require("hg.guard").start()
  end })
end

--- The place row of this process's account, region and endpoint.
-- @param session table
-- @return integer
-- @waits
function M.place(session)
  return place_of(session)
end

--- Open ephemeral rows of a run: what may still cost money (kept ones not counted).
-- @param session table
-- @param run string id
-- @return table[] rows
function M.open_rows(session, run)
  local rows = {}
  for _, row in ipairs(session.ledger:list { run = run,
    states = { "intent", "unknown", "live", "deleting" } }) do
    if row.cls == "ephemeral" then
      rows[#rows + 1] = row
    end
  end
  return rows
end

--- Tells the host how much may still cost money: the third Ctrl-C leaves at
--- once and its exit code says whether something stays.
-- @param session table
-- @param[opt] more integer creations that are about to be asked for
function M.count_open(session, more)
  if session.ledger and session.run then
    require("hgauto.host").set_open(session.ledger:open_count(session.run.id) + (more or 0))
  end
end

--- Runs that are dead and left open ephemerals or undecided creations.
-- @param session table
-- @return string[] run ids
function M.dead_runs(session)
  local seen, out = {}, {}
  for _, row in ipairs(session.ledger:list { states = OPEN }) do
    local id = row.run
    if id and not seen[id] and row.state ~= "kept"
      and (row.cls == "ephemeral" or row.state ~= "live") then
      seen[id] = true
      if not session.state:run_alive(id) then
        out[#out + 1] = id
      end
    end
  end
  table.sort(out)
  return out
end

--- Whether tags say that a resource belongs to this state directory.
-- @param tags table[]|nil
-- @return boolean
function M.is_ours(tags)
  local sid = require("hg.session").state.sid
  for _, tag in ipairs(tags or {}) do
    if tag.Key == "hgauto:state" then
      return tag.Value == sid
    end
  end
  return false
end

--- Whether the ledger has a thing as existing, or may have it by its name: a creation
--- whose outcome is not known yet.  Tags may be seen later than what they are on.
-- @param kind string
-- @param id string
-- @param name string
-- @return string|nil "exists" or "undecided"
function M.knows(kind, id, name)
  local answer
  for _, row in ipairs(require("hg.session").ledger:list { kind = kind,
    states = { "intent", "unknown", "live", "kept", "deleting" } }) do
    if row.id == id then
      return "exists"
    elseif not row.id and row.name == name then
      answer = "undecided"
    end
  end
  return answer
end

--- The value of a tag, or nil.
-- @param tags table[]|nil
-- @param key string
-- @return string|nil
function M.tag(tags, key)
  for _, tag in ipairs(tags or {}) do
    if tag.Key == key then
      return tag.Value
    end
  end
  return nil
end

--- A lock for building one named thing once per state directory.
-- @param name string
-- @param seconds number how long to wait
-- @return table closable
-- @waits
function M.lock(name, seconds)
  local dir = require("hg.session").state.path .. "/locks"
  fs.mkdir(dir, { parents = true, mode = 448 })
  local file = require("hgauto.crypto").sha256(name) .. ".lock"
  return fs.lock(dir .. "/" .. file, { wait = seconds })
end

--- Creates a named thing so that a repeat adopts instead of failing.
-- `find` decides after a duplicate or an ambiguous answer.
-- @param o table kind= name= call=function() find=function() -> thing|nil
-- @return any what call returned, or what find found
-- @waits
function M.create(o)
  local ok, result = pcall(o.call)
  if ok then
    return result
  end
  local err = result
  if type(err) ~= "table" or err.kind == "cancelled" then
    error(err, 0)
  end
  local duplicate = type(err.code) == "string"
    and (err.code:find("%.Duplicate$") or err.code == "EntityAlreadyExists")
  if duplicate or err.ambiguous then
    -- What was just made may become visible late.
    local ok_wait, found = pcall(require("hg").wait, { what = o.name, timeout = 30, every = 1,
      max_every = 8, poll = o.find })
    if ok_wait then
      return found
    elseif type(found) == "table" and found.kind == "cancelled" then
      error(found, 0)
    end
  elseif err.code == "IncorrectInstanceState" then
    -- A request that was delivered twice: the second finds the first at work.
    local found = o.find()
    if found then
      return found
    end
  end
  error(err, 0)
end

return M
