--- Deleting resources by rank, with the ledger told before and after
--- (reliability specification, 2.9).
local async = require "hgauto.async"
local find = require "hg.remove.find"
local hg = require "hg"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Instances that one call ends.
local BATCH = 50
-- Seconds after which what is still not found is gone (2.8-5), and a little.
local VISIBLE = 310
-- Kinds whose ids may be unknown to EC2 for a while after their creation.
local SEEN_LATE = { volume = true, address = true, image = true, snapshot = true, group = true }

-- pcall that lets cancellation through.
local function try(fn, ...)
  local ok, r = pcall(fn, ...)
  if not ok and type(r) == "table" and r.kind == "cancelled" then
    error(r, 0)
  end
  return ok, r
end

--- Whether an error says that the thing does not exist (any more).
-- @param err any
-- @return boolean
function M.not_found(err)
  return type(err) == "table" and type(err.code) == "string" and (err.code:find("NotFound$")
    or err.code:find("%.Unavailable$") or err.code:find("^NoSuchEntity")) ~= nil
end

-- ---- the ledger -------------------------------------------------------------------------

-- Deleting goes on when nothing can be written: the row still says live.
local function note_state(r, state, fields)
  if r.op then
    local ok, err = pcall(session.ledger.set, session.ledger, r.op, state, fields)
    if not ok then
      out.warn("ledger: " .. tostring(err))
    end
  end
end

local function gone(r, result)
  note_state(r, "gone")
  result.removed[#result.removed + 1] = r
end

local function refused(r, err, result)
  note_state(r, "live", { error = tostring(err) })
  result.failed[#result.failed + 1] = { r, err }
end

-- ---- instances -------------------------------------------------------------------------

-- Whether a thing that is not found may be too new to be visible; an image that is
-- called unavailable was there.
local function may_appear(r, err)
  if type(err) == "table" and (err.code or ""):find("%.Unavailable$") then
    return false
  end
  return require("hg.machines.ec2").too_young(r.op and session.ledger:get(r.op) or nil)
end

-- The errors by id, and of these the ones of ids that may not be visible yet.
local function terminate_batch(clients, list)
  local ec2, ids, failed, unseen = clients.ec2, {}, {}, {}
  for i, r in ipairs(list) do
    ids[i] = r.id
  end
  local ok, err = try(ec2.terminate_instances, ec2, { InstanceIds = ids })
  if ok then
    return failed, unseen
  end
  for _, r in ipairs(list) do
    -- One bad id fails the whole call: then singly.
    local good, e = false, err
    if err.kind == "aws" then
      good, e = try(ec2.terminate_instances, ec2, { InstanceIds = { r.id } })
    end
    local missing = not good and (M.not_found(e) or find.refused_as_gone(clients, r, e))
    unseen[r.id] = missing and may_appear(r, e)
    if not good and (not missing or unseen[r.id]) then
      failed[r.id] = e
    end
  end
  return failed, unseen
end

-- Asks for the end of all; of those that may not be visible yet, a list {r, error}.
local function terminate_once(clients, instances, ids, result)
  local later = {}
  for from = 1, #instances, BATCH do
    local batch = table.move(instances, from, math.min(from + BATCH - 1, #instances), 1, {})
    local failed, unseen = terminate_batch(clients, batch)
    for _, r in ipairs(batch) do
      if unseen[r.id] then
        later[#later + 1] = { r, failed[r.id] }
      elseif failed[r.id] then
        refused(r, failed[r.id], result)
      else
        gone(r, result)
        ids[#ids + 1] = r.id
      end
    end
  end
  return later
end

local function terminate(clients, instances, result)
  local ids, later = {}, nil
  for _, r in ipairs(instances) do
    note_state(r, "deleting")
  end
  local function ask(list)
    later = terminate_once(clients, list, ids, result)
    return #later == 0, later[1] and tostring(later[1][2])
  end
  local ok, err = ask(instances), nil
  if not ok then
    ok, err = try(hg.wait, { what = "new instances to be visible", timeout = VISIBLE, every = 2,
      max_every = 15, poll = function()
        local list = {}
        for i, l in ipairs(later) do
          list[i] = l[1]
        end
        return ask(list)
      end })
  end
  if not ok and err.kind ~= "timeout" then
    error(err, 0)
  end
  for _, l in ipairs(later) do
    refused(l[1], l[2], result)
  end
  return ids
end

local function wait_terminated(ec2, ids)
  if #ids == 0 then
    return
  end
  hg.wait {
    what = #ids == 1 and (ids[1] .. " to terminate") or (#ids .. " instances to terminate"),
    timeout = 600, every = 0.3, max_every = 5,
    poll = function()
      local ok, r = try(ec2.describe_instances, ec2, { InstanceIds = ids })
      if not ok then
        return M.not_found(r), tostring(r)
      end
      for _, res in ipairs(r.Reservations) do
        for _, i in ipairs(res.Instances) do
          if i.State.Name ~= "terminated" then
            return nil, i.State.Name
          end
        end
      end
      return true
    end,
  }
end

-- ---- the other kinds ---------------------------------------------------------------------

-- Rules of other groups that name this one keep it from being deleted.
local function revoke_mentions(ec2, id)
  for _, group in ipairs(ec2:describe_security_groups({}).SecurityGroups) do
    for _, p in ipairs(group.IpPermissions or {}) do
      for _, pair in ipairs(p.UserIdGroupPairs or {}) do
        if pair.GroupId == id then
          ec2:revoke_security_group_ingress { GroupId = group.GroupId, IpPermissions = { {
            IpProtocol = p.IpProtocol, FromPort = p.FromPort, ToPort = p.ToPort,
            UserIdGroupPairs = { { GroupId = id, UserId = pair.UserId } } } } }
        end
      end
    end
  end
end

-- Snapshots of an image, in the ledger as being deleted before the image goes:
-- afterwards nobody could tell which they were.
local function record_snapshots(ec2, r)
  local list = {}
  for _, image in ipairs(ec2:describe_images({ ImageIds = { r.id } }).Images) do
    for _, mapping in ipairs(image.BlockDeviceMappings or {}) do
      local id = mapping.Ebs and mapping.Ebs.SnapshotId
      if id then
        local child = { kind = "snapshot", id = id, name = r.name, run = r.run,
          op = r.op and session.ledger:child { parent = r.op, kind = "snapshot", id = id,
            name = r.name } or nil }
        note_state(child, "deleting")
        list[#list + 1] = child
      end
    end
  end
  return list
end

local function each(list, member, fn)
  for _, item in ipairs(list or {}) do
    fn(member and item[member] or item)
  end
end

local DELETE = {}

function DELETE.command(clients, r)
  clients.ssm:cancel_command { CommandId = r.id }
end

function DELETE.volume(clients, r)
  clients.ec2:delete_volume { VolumeId = r.id }
end

function DELETE.address(clients, r)
  clients.ec2:release_address { AllocationId = r.id }
end

function DELETE.image(clients, r)
  local children = record_snapshots(clients.ec2, r)
  local ok, err = try(clients.ec2.deregister_image, clients.ec2, { ImageId = r.id })
  if not ok and not M.not_found(err) then
    -- They stay as long as it does: nobody is to wait for that.
    for _, child in ipairs(children) do
      note_state(child, "live", { error = tostring(err) })
    end
    error(err, 0)
  end
  return children
end

function DELETE.snapshot(clients, r)
  clients.ec2:delete_snapshot { SnapshotId = r.id }
end

function DELETE.group(clients, r)
  local ok, err = try(clients.ec2.delete_security_group, clients.ec2, { GroupId = r.id })
  if not ok then
    if type(err) == "table" and err.code == "DependencyViolation" then
      try(revoke_mentions, clients.ec2, r.id)
    end
    error(err, 0)
  end
end

function DELETE.keypair(clients, r)
  clients.ec2:delete_key_pair(r.id and { KeyPairId = r.id } or { KeyName = r.name })
end

function DELETE.profile(clients, r)
  local iam = clients.iam
  local profile = iam:get_instance_profile({ InstanceProfileName = r.id }).InstanceProfile
  each(profile.Roles, "RoleName", function(role)
    iam:remove_role_from_instance_profile { InstanceProfileName = r.id, RoleName = role }
  end)
  iam:delete_instance_profile { InstanceProfileName = r.id }
end

function DELETE.role(clients, r)
  local iam = clients.iam
  each(iam:list_attached_role_policies({ RoleName = r.id }).AttachedPolicies, "PolicyArn",
    function(arn)
      iam:detach_role_policy { RoleName = r.id, PolicyArn = arn }
    end)
  each(iam:list_role_policies({ RoleName = r.id }).PolicyNames, nil, function(name)
    iam:delete_role_policy { RoleName = r.id, PolicyName = name }
  end)
  iam:delete_role { RoleName = r.id }
end

-- Kinds in the order in which they can go: what keeps one for a while, and how long.
local RANKS = {
  { "volume", "VolumeInUse", 300 }, { "address" }, { "image" },
  { "snapshot", "InvalidSnapshot.InUse", 300 }, { "group", "DependencyViolation", 600 },
  { "keypair" }, { "profile", "DeleteConflict", 120 }, { "role", "DeleteConflict", 120 },
}

-- A snapshot is in use as long as its image: one that stays is not waited for.
local function patience(rank, result)
  for _, f in ipairs(result.failed) do
    if rank[1] == "snapshot" and f[1].kind == "image" then
      return 0
    end
  end
  return rank[3] or 0
end

-- Deletes things of one kind: all are asked for before any is waited for.
local function delete_rank(clients, rank, list, result)
  local kind, code, ends = rank[1], rank[2], time.mono() + patience(rank, result)
  local visible = time.mono() + VISIBLE
  local pending, delay, children = list, 1, {}
  for _, r in ipairs(list) do
    note_state(r, "deleting")
  end
  while #pending > 0 do
    local later = {}
    for _, r in ipairs(pending) do
      local ok, more = try(DELETE[kind], clients, r)
      local missing = not ok and (M.not_found(more) or find.refused_as_gone(clients, r, more))
      if missing and SEEN_LATE[kind] and may_appear(r, more) and time.mono() < visible then
        later[#later + 1] = r
      elseif ok or missing then
        table.move(ok and more or {}, 1, ok and more and #more or 0, #children + 1, children)
        gone(r, result)
      elseif code and type(more) == "table" and more.code == code and time.mono() < ends then
        later[#later + 1] = r
      else
        refused(r, more, result)
      end
    end
    pending = later
    if #pending > 0 then
      async.sleep(delay * (0.5 + math.random() / 2))
      delay = math.min(delay * 2, 15)
    end
  end
  return children
end

--- An empty result of deletions.
-- @return table {removed, failed, undecided, unasked}
function M.result()
  return { removed = {}, failed = {}, undecided = {}, unasked = {} }
end

local function known(list)
  local set = {}
  for _, r in ipairs(list) do
    set[r.id or ""] = true
  end
  return set
end

--- Deletes resources of one place in order of rank; one failure stops nothing.
-- @param clients table clients by service
-- @param list table[] {kind, id, name, run, op}
-- @param result table of M.result, filled
-- @waits
function M.all(clients, list, result)
  local by_kind, later = {}, false
  for _, r in ipairs(list) do
    by_kind[r.kind] = by_kind[r.kind] or {}
    table.insert(by_kind[r.kind], r)
  end
  if by_kind.command then
    delete_rank(clients, { "command" }, by_kind.command, result)
  end
  for _, rank in ipairs(RANKS) do
    later = later or by_kind[rank[1]] ~= nil
  end
  local ids = terminate(clients, by_kind.instance or {}, result)
  if later then
    -- Those that hang do not keep what they do not use.
    local ok, err = try(wait_terminated, clients.ec2, ids)
    if not ok then
      out.warn(tostring(err))
    end
  end
  for _, rank in ipairs(RANKS) do
    if by_kind[rank[1]] then
      local children = delete_rank(clients, rank, by_kind[rank[1]], result)
      local there = known(by_kind.snapshot or {})
      for _, child in ipairs(children) do
        by_kind.snapshot = by_kind.snapshot or {}
        if not there[child.id] then
          table.insert(by_kind.snapshot, child)
        end
      end
    end
  end
end

return M
