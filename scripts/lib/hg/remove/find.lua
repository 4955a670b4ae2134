--- Deciding what became of creations whose outcome nobody knows, and finding
--- what carries our tags (reliability specification, 2.8 and 2.10).
local async = require "hgauto.async"
local hg = require "hg"
local host = require "hgauto.host"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Values of one filter, as EC2 limits them.
local MOST = 200

local ROLE_PATH = "/hgauto/"

--- Seconds until an invisible creation cannot appear any more, and how far
--- apart two empty look-ups must lie.
-- A signed request may arrive minutes late at AWS; on loopback it is there at
-- once or never.
-- @param row table
-- @return number
-- @return number
function M.grace(row)
  local set = tonumber(host.getenv("HGAUTO_GC_GRACE") or "")
  if set then
    return set, math.min(set, 15)
  elseif row.endpoint:sub(1, 6) == "local:" then
    return 3, 1
  end
  return 660, 15
end

local function is(err, pattern)
  return type(err) == "table" and type(err.code) == "string" and err.code:find(pattern) ~= nil
end

-- ---- look-ups: each takes rows and fills found[op] = {id=, state=, name=} ---------

-- The service's clock as its answer tells it, whole seconds.
local function date_of(answer)
  local meta = require("hgauto.aws").meta(answer) or {}
  local date = (meta.HTTPHeaders or {}).date
  return date and time.parse(date) or nil
end

-- Calls fn(values, by_value) for batches of the rows' keys.
local function batches(rows, key, fn)
  for from = 1, #rows, MOST do
    local values, by = {}, {}
    for i = from, math.min(from + MOST - 1, #rows) do
      local value = key(rows[i])
      values[#values + 1], by[value] = value, rows[i]
    end
    fn(values, by)
  end
end

local FIND = {}

function FIND.instance(clients, rows, found)
  local date
  batches(rows, function(row)
    return row.token or row.op
  end, function(values, by)
    local r = clients.ec2:describe_instances {
      Filters = { { Name = "client-token", Values = values } } }
    date = date_of(r)
    for _, res in ipairs(r.Reservations or {}) do
      for _, i in ipairs(res.Instances or {}) do
        local row = by[i.ClientToken or ""] or #values == 1 and by[values[1]]
        -- A token's second instance cannot be; a terminated one is no news.
        if row and (not found[row.op] or i.State.Name ~= "terminated") then
          found[row.op] = { id = i.InstanceId, state = i.State.Name }
        end
      end
    end
  end)
  return date
end

-- These carry the row's id as a tag from the moment they exist.
local TAGGED = {
  group = { "describe_security_groups", "SecurityGroups", "GroupId" },
  keypair = { "describe_key_pairs", "KeyPairs", "KeyPairId" },
  volume = { "describe_volumes", "Volumes", "VolumeId" },
  address = { "describe_addresses", "Addresses", "AllocationId" },
  image = { "describe_images", "Images", "ImageId", { Owners = { "self" } } },
  snapshot = { "describe_snapshots", "Snapshots", "SnapshotId", { OwnerIds = { "self" } } },
}

for kind, how in pairs(TAGGED) do
  FIND[kind] = function(clients, rows, found)
    local date
    batches(rows, function(row)
      return row.op
    end, function(values, by)
      local params = { Filters = { { Name = "tag:hgauto:op", Values = values } } }
      for k, v in pairs(how[4] or {}) do
        params[k] = v
      end
      local r = clients.ec2[how[1]](clients.ec2, params)
      date = date_of(r)
      for _, thing in ipairs(r[how[2]] or {}) do
        local row = by[hg.ledger.tag(thing.Tags, "hgauto:op") or ""]
        -- The snapshots of an image carry its id, too; they are its children.
        if row and row.kind == kind then
          found[row.op] = { id = thing[how[3]] }
        end
      end
    end)
    return date
  end
end

-- Things with a name, asked for one by one.
local function by_name(get)
  return function(clients, rows, found)
    local date
    for _, row in ipairs(rows) do
      local ok, r = pcall(get, clients.iam, row.name)
      if ok then
        date = date_of(r)
        local thing = r.Role or r.InstanceProfile
        if thing.Path == ROLE_PATH then
          found[row.op] = { id = row.name }
        end
      elseif not is(r, "^NoSuchEntity") then
        error(r, 0)
      end
    end
    return date
  end
end

FIND.role = by_name(function(iam, name)
  return iam:get_role { RoleName = name }
end)
FIND.profile = by_name(function(iam, name)
  return iam:get_instance_profile { InstanceProfileName = name }
end)

function FIND.command(clients, rows, found)
  local by = {}
  for _, row in ipairs(rows) do
    by["hgauto:" .. row.op] = row
  end
  local r = clients.ssm:list_commands {}
  for _, c in ipairs(r.Commands or {}) do
    local row = by[c.Comment or ""]
    if row then
      found[row.op] = { id = c.CommandId }
    end
  end
  return date_of(r)
end

-- ---- refusals ------------------------------------------------------------------------

-- Whether an error means that what was asked for does not exist.
local function absent(err)
  return is(err, "NotFound$") or is(err, "%.Unavailable$") or is(err, "^NoSuchEntity")
end

local LOOK = {}

function LOOK.instance(clients, r)
  local answer = clients.ec2:describe_instances { InstanceIds = { r.id } }
  local res = (answer.Reservations or {})[1]
  return res and res.Instances[1].State.Name ~= "terminated"
end

function LOOK.role(clients, r)
  return clients.iam:get_role { RoleName = r.id } ~= nil
end

function LOOK.profile(clients, r)
  return clients.iam:get_instance_profile { InstanceProfileName = r.id } ~= nil
end

for kind, how in pairs(TAGGED) do
  LOOK[kind] = function(clients, r)
    local params = r.id and { [how[3] .. "s"] = { r.id } } or { KeyNames = { r.name } }
    return (clients.ec2[how[1]](clients.ec2, params)[how[2]] or {})[1] ~= nil
  end
end

--- Whether a refused removal means that the thing is gone.
-- Who may end only what carries our tag is refused for what does not exist: that
-- has no tags.  Then looking, which is always allowed, tells.
-- @param clients table clients by service
-- @param r table resource {kind, id, name}
-- @param err any why the removal failed
-- @return boolean
-- @waits
function M.refused_as_gone(clients, r, err)
  if not LOOK[r.kind] or not (is(err, "^UnauthorizedOperation$") or is(err, "^AccessDenied")) then
    return false
  end
  local ok, there = pcall(LOOK[r.kind], clients, r)
  if not ok and type(there) == "table" and there.kind == "cancelled" then
    error(there, 0)
  end
  return ok and not there or not ok and absent(there)
end

-- ---- deciding ------------------------------------------------------------------------

local function settle(row, thing)
  local late = not row.token and row.kind ~= "instance" and row.kind ~= "command"
  -- A second delivery of the request may still make it again, if it goes early.
  local recheck = late and (row.t_sent or row.t_intent) + M.grace(row) or nil
  session.ledger:set(row.op, "live", { id = thing.id,
    recheck = recheck and recheck > time.now() and recheck or nil })
  row.state, row.id = "live", thing.id
  if row.kind == "instance" and thing.state == "terminated" then
    session.ledger:set(row.op, "gone")
    row.state = "gone"
  end
end

-- One look at a row that was not found; true when that decides it.
local function missing(row, now)
  local limit, apart = M.grace(row)
  local born, at = row.t_sent or row.t_intent, time.mono()
  row.decided_at = born + limit
  if row.empty_at and at - row.empty_at >= apart and now >= row.decided_at then
    if row.state == "intent" then
      session.ledger:set(row.op, "unknown")
    end
    session.ledger:set(row.op, "absent")
    row.state = "absent"
    return true
  end
  row.empty_at = row.empty_at or at
  return false
end

-- Rows by place and kind: one question each.
local function grouped(rows)
  local list, by = {}, {}
  for _, row in ipairs(rows) do
    local key = ("%s %s"):format(row.place, row.kind)
    if not by[key] then
      by[key] = { kind = row.kind, place = row.place }
      list[#list + 1] = by[key]
    end
    table.insert(by[key], row)
  end
  return list
end

-- Whether asking again may help.
local function passing(err)
  return type(err) == "table" and (err.kind == "net" or err.kind == "timeout"
    or err.kind == "protocol" or err.throttling or err.kind == "aws"
    and (math.tointeger(err.status) or 0) >= 500) or false
end

local function look(rows, clients_of)
  local left = {}
  for _, group in ipairs(grouped(rows)) do
    local found, find = {}, FIND[group.kind]
    local ok, date = pcall(function()
      return find and find(clients_of(group[1]), group, found)
    end)
    if not ok and type(date) == "table" and date.kind == "cancelled" then
      error(date, 0)
    end
    -- Dates are whole seconds; a clock of ours that is behind must not decide early.
    local now = math.min(time.now(), ok and date and date + 1 or math.huge)
    for _, row in ipairs(group) do
      row.why = not ok and date or nil
      row.stuck = not find or not ok and not passing(date)
      if found[row.op] then
        settle(row, found[row.op])
      elseif not (find and ok and missing(row, now)) then
        left[#left + 1] = row
      end
    end
  end
  return left
end

-- Seconds until one of these rows may be decided by another look; nil: never.
local function next_look(rows)
  local nap
  for _, row in ipairs(rows) do
    local _, apart = M.grace(row)
    local wait = math.max((row.decided_at or 0) - time.now(),
      apart - (time.mono() - (row.empty_at or time.mono())), 0.05)
    if not row.stuck then
      nap = math.min(nap or 15, wait)
    end
  end
  return nap
end

-- However long a service is out of order, a collection ends.
local function longest(rows)
  local most = 0
  for _, row in ipairs(rows) do
    most = math.max(most, (M.grace(row)))
  end
  return most + 120
end

--- Decides rows in intent or unknown: their state becomes live, absent or gone.
-- @param rows table[] ledger rows
-- @param clients_of function(row) -> clients
-- @param[opt] o table patience=seconds after which the rest stays open, every=seconds
-- @return table[] those that are undecided, with decided_at and why
-- @waits
function M.resolve(rows, clients_of, o)
  o = o or {}
  local left, started = rows, time.mono()
  local patience = o.patience or longest(rows)
  while true do
    left = look(left, clients_of)
    local nap = next_look(left)
    nap = nap and math.min(nap, o.every or nap)
    if not nap or time.mono() - started + nap > patience then
      return left
    end
    async.sleep(nap)
  end
end

--- Looks again for things that were gone while a delivery could still come.
-- @param clients_of function(row) -> clients or nil
-- @return table[] rows that live again
-- @waits
function M.recheck(clients_of)
  local due, again = {}, {}
  for _, row in ipairs(session.ledger:list { states = { "gone", "absent" }, recheck_due = true }) do
    local alive = row.run and session.state:run_alive(row.run)
    if FIND[row.kind] and not alive and clients_of(row) then
      due[#due + 1] = row
    end
  end
  for _, group in ipairs(grouped(due)) do
    local found = {}
    local ok = pcall(FIND[group.kind], clients_of(group[1]), group, found)
    for _, row in ipairs(ok and group or {}) do
      if found[row.op] then
        session.ledger:set(row.op, "live", { id = found[row.op].id, recheck = 0 })
        row.state, row.id = "live", found[row.op].id
        again[#again + 1] = row
      else
        session.ledger:set(row.op, row.state, { recheck = 0 })
      end
    end
  end
  return again
end

-- ---- tags ------------------------------------------------------------------------------

-- An operation that this endpoint does not offer, or that we may not use where
-- `optional`, finds nothing.
local function ask(fn, optional)
  local ok, r = pcall(fn)
  if ok then
    return r
  end
  if is(r, "^UnsupportedOperation$") or is(r, "^InvalidAction$")
    or optional and (is(r, "^AccessDenied") or is(r, "^UnauthorizedOperation$")) then
    return {}
  end
  error(r, 0)
end

local ALIVE = { Name = "instance-state-name",
  Values = { "pending", "running", "stopping", "stopped" } }

-- What EC2 has: kind, question, and of the answer list, id, name, birth; more
-- parameters.
local SCANS = {
  { "volume", "describe_volumes", "Volumes", "VolumeId", nil, "CreateTime", { Filters = {
    { Name = "status", Values = { "available" } } } } },
  { "address", "describe_addresses", "Addresses", "AllocationId" },
  { "image", "describe_images", "Images", "ImageId", "Name", "CreationDate",
    { Owners = { "self" } } },
  { "snapshot", "describe_snapshots", "Snapshots", "SnapshotId", nil, "StartTime",
    { OwnerIds = { "self" } } },
  { "group", "describe_security_groups", "SecurityGroups", "GroupId", "GroupName" },
  { "keypair", "describe_key_pairs", "KeyPairs", "KeyPairId", "KeyName", "CreateTime" },
}

local function scan_ec2(ec2, filter, add)
  for _, res in ipairs(ask(function()
    return ec2:describe_instances { Filters = { filter, ALIVE } }
  end).Reservations or {}) do
    for _, i in ipairs(res.Instances) do
      add("instance", i.InstanceId, nil, i.Tags,
        { state = i.State.Name, born = i.LaunchTime, type = i.InstanceType })
    end
  end
  for _, s in ipairs(SCANS) do
    local params = { Filters = { filter } }
    for k, v in pairs(s[7] or {}) do
      params[k] = k == "Filters" and { filter, table.unpack(v) } or v
    end
    for _, thing in ipairs(ask(function()
      return ec2[s[2]](ec2, params)
    end)[s[3]] or {}) do
      add(s[1], thing[s[4]], s[5] and thing[s[5]], thing.Tags,
        { born = s[6] and thing[s[6]] })
    end
  end
end

-- Roles and profiles of our path; lists have no tags.
local function scan_iam(iam, wanted, add)
  for _, r in ipairs(ask(function()
    return iam:list_roles { PathPrefix = ROLE_PATH }
  end, true).Roles or {}) do
    local tags = ask(function()
      return iam:list_role_tags { RoleName = r.RoleName }
    end, true).Tags or {}
    if wanted(tags) then
      add("role", r.RoleName, r.RoleName, tags, { born = r.CreateDate })
    end
  end
  for _, p in ipairs(ask(function()
    return iam:list_instance_profiles { PathPrefix = ROLE_PATH }
  end, true).InstanceProfiles or {}) do
    local full = ask(function()
      return iam:get_instance_profile { InstanceProfileName = p.InstanceProfileName }
    end, true).InstanceProfile or p
    if wanted(full.Tags) then
      add("profile", p.InstanceProfileName, p.InstanceProfileName, full.Tags,
        { born = p.CreateDate })
    end
  end
end

-- Whether tags fit the filter that EC2 was given.
local function fits(filter)
  local key = filter.Name:match("^tag:(.*)$")
  return function(tags)
    local value = hg.ledger.tag(tags, key or filter.Values[1])
    if not key or value == nil then
      return value ~= nil
    end
    for _, v in ipairs(filter.Values) do
      if v == value then
        return true
      end
    end
    return false
  end
end

--- Resources of a region that a filter on tags finds.
-- @param clients table clients by service
-- @param filter table DescribeX filter on tags
-- @param[opt] o table iam=true: roles and profiles, too
-- @return table[] resources {kind, id, name, run, sid, expires, tags, born}
-- @waits
function M.scan(clients, filter, o)
  local list = {}
  local function add(kind, id, name, tags, extra)
    local r = { kind = kind, id = id, name = name or hg.ledger.tag(tags, "Name"), tags = tags,
      run = hg.ledger.tag(tags, "hgauto:run"), sid = hg.ledger.tag(tags, "hgauto:state"),
      op = nil, expires = hg.ledger.tag(tags, "hgauto:expires") }
    for k, v in pairs(extra) do
      r[k] = v
    end
    list[#list + 1] = r
  end
  scan_ec2(clients.ec2, filter, add)
  if o and o.iam then
    scan_iam(clients.iam, fits(filter), add)
  end
  return list
end

-- ---- the predecessor ---------------------------------------------------------------------

-- Its names begin so; this is its key pair, which its Linux machines have instead of tags.
local OLD_PREFIX, OLD_KEY = "hg-", "hg-automation"

-- By which filter each kind of its things is found.
local OLD_NAMES = { image = "name", group = "group-name", keypair = "key-name" }

local function old_ec2(ec2, add)
  for _, filter in ipairs { { Name = "tag:Name", Values = { OLD_PREFIX .. "*" } },
    { Name = "key-name", Values = { OLD_KEY } } } do
    for _, res in ipairs(ec2:describe_instances({ Filters = { filter, ALIVE } }).Reservations) do
      for _, i in ipairs(res.Instances) do
        add("instance", i.InstanceId, hg.ledger.tag(i.Tags, "Name"), i.Tags, i.LaunchTime)
      end
    end
  end
  for _, s in ipairs(SCANS) do
    local params = { Filters = { { Name = OLD_NAMES[s[1]], Values = { OLD_PREFIX .. "*" } } } }
    for k, v in pairs(OLD_NAMES[s[1]] and s[7] or {}) do
      params[k] = v
    end
    for _, thing in ipairs(OLD_NAMES[s[1]] and ec2[s[2]](ec2, params)[s[3]] or {}) do
      add(s[1], thing[s[4]], thing[s[5]], thing.Tags, s[6] and thing[s[6]])
    end
  end
end

-- Those of our path are ours; below others' paths nothing is looked for.
local function old_iam(iam, add)
  for _, kind in ipairs { { "role", "list_roles", "Roles", "RoleName" },
    { "profile", "list_instance_profiles", "InstanceProfiles", "InstanceProfileName" } } do
    for _, thing in ipairs(ask(function()
      return iam[kind[2]](iam, { PathPrefix = "/" })
    end, true)[kind[3]] or {}) do
      local name = thing[kind[4]]
      if thing.Path == "/" and name:sub(1, #OLD_PREFIX) == OLD_PREFIX then
        add(kind[1], name, name, nil, thing.CreateDate)
      end
    end
  end
end

--- What the automation before this one (Mercurial's contrib/automation) left in a region:
--- things by its names, machines by its key pair, too; nothing that carries our tag.
-- @param clients table clients by service
-- @param[opt] o table iam=true: roles and profiles, too
-- @return table[] resources as scan, each once
-- @waits
function M.legacy(clients, o)
  local list, seen = {}, {}
  local function add(kind, id, name, tags, born)
    if not seen[kind .. id] and not hg.ledger.tag(tags, "hgauto:state") then
      seen[kind .. id] = true
      list[#list + 1] = { kind = kind, id = id, name = name, tags = tags, born = born }
    end
  end
  old_ec2(clients.ec2, add)
  if o and o.iam then
    old_iam(clients.iam, add)
  end
  return list
end

return M
