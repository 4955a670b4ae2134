--- Removing what runs left: from the ledger, and from tags.
--
-- `hgauto gc`, terminate-ec2-instances and purge-ec2-resources.  Only what
-- carries our tag or stands in our ledger is touched, never what a live run
-- uses (reliability specification, sections 2.8 to 2.10).
local async = require "hgauto.async"
local hg = require "hg"
local host = require "hgauto.host"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Billable kinds: leaving one behind is exit code 6.
local BILLABLE = { instance = true, volume = true, address = true, image = true, snapshot = true }

-- How long after the request an invisible creation may still appear, and how
-- far apart two empty look-ups must lie.  A signed request may arrive minutes
-- late at AWS; on loopback it is there at once or never.
local function grace(place)
  local set = tonumber(host.getenv("HGAUTO_GC_GRACE") or "")
  if set then
    return set, math.min(set, 15)
  elseif place.endpoint:sub(1, 6) == "local:" then
    return 3, 1
  end
  return 660, 15
end

-- pcall that lets cancellation through.
local function try(fn, ...)
  local ok, r = pcall(fn, ...)
  if not ok and type(r) == "table" and r.kind == "cancelled" then
    error(r, 0)
  end
  return ok, r
end

-- ---- scope ------------------------------------------------------------------

local function in_scope(row, o)
  if o.run and row.run ~= o.run then
    return false
  end
  if o.older and time.now() - row.t_intent < o.older then
    return false
  end
  if row.state == "kept" then
    return o.run == row.run or (row.keep_until and row.keep_until > 0
      and row.keep_until < time.now())
  end
  return row.cls == "ephemeral" or row.state ~= "live"
end

-- Rows of dead runs; their locks are held until `locks` is closed.
local function dead_rows(o, locks)
  local rows, alive = {}, {}
  local all = session.ledger:list { states = { "intent", "unknown", "live", "kept", "deleting" } }
  for _, row in ipairs(all) do
    if row.run and alive[row.run] == nil and in_scope(row, o) then
      local lock = session.state:lock_run(row.run)
      alive[row.run] = lock == nil
      if lock then
        locks[#locks + 1] = lock
      end
    end
    if row.run and alive[row.run] == false and in_scope(row, o) then
      rows[#rows + 1] = row
    end
  end
  return rows, alive
end

local function close_all(locks)
  for i = #locks, 1, -1 do
    locks[i]:close()
  end
end

-- ---- places -----------------------------------------------------------------

-- A client for the place of a row, or nil and why it cannot be asked.
local function client_for(row, cache)
  local key = row.place
  if cache[key] then
    return cache[key].client, cache[key].why
  end
  local c = {}
  cache[key] = c
  local endpoint = row.endpoint or ""
  local aws = require "hgauto.aws"
  if endpoint:sub(1, 6) == "local:" then
    local cloud = session.local_cloud or require("localcloud.client").ensure {
      state = session.state.path,
    }
    if "local:" .. cloud.id ~= endpoint then
      -- The local cloud was wiped: nothing of that place exists any more.
      c.wiped = true
      c.why = "wiped"
    else
      c.client = aws.client("ec2", {
        region = row.region, endpoint_url = cloud.endpoint_url,
        credentials = { access_key_id = cloud.access_key_id,
          secret_access_key = cloud.secret_access_key },
      })
    end
    return c.client, c.why
  end
  if session.local_cloud then
    c.why = "it is not in the local cloud; run gc without --local"
    return nil, c.why
  end
  local opts = { region = row.region, endpoint_url = endpoint ~= "" and endpoint or nil }
  local ok, who = try(function()
    return aws.client("sts", opts):get_caller_identity {}
  end)
  if not ok then
    c.why, c.err = tostring(who), who
  elseif who.Account ~= row.account then
    c.why = ("belongs to account %s; credentials are for %s"):format(row.account, who.Account)
  else
    c.client = aws.client("ec2", opts)
  end
  return c.client, c.why
end

-- ---- look-ups -----------------------------------------------------------------

local FIND = {}

function FIND.instance(ec2, row)
  local found
  local r = ec2:describe_instances {
    Filters = { { Name = "client-token", Values = { row.token or row.op } } },
  }
  for _, res in ipairs(r.Reservations or {}) do
    for _, i in ipairs(res.Instances or {}) do
      found = i.InstanceId
      if i.State.Name ~= "terminated" then
        return found, i.State.Name
      end
    end
  end
  return found, found and "terminated" or nil
end

-- The other kinds carry the row's id as a tag from the moment they exist.
for kind, how in pairs {
  group = { "describe_security_groups", "SecurityGroups", "GroupId" },
  keypair = { "describe_key_pairs", "KeyPairs", "KeyPairId" },
  volume = { "describe_volumes", "Volumes", "VolumeId" },
  address = { "describe_addresses", "Addresses", "AllocationId" },
  image = { "describe_images", "Images", "ImageId" },
  snapshot = { "describe_snapshots", "Snapshots", "SnapshotId" },
} do
  FIND[kind] = function(ec2, row)
    local r = ec2[how[1]](ec2, { Filters = { { Name = "tag:hgauto:op", Values = { row.op } } } })
    local first = r[how[2]] and r[how[2]][1]
    return first and first[how[3]]
  end
end

-- Decides a row in intent or unknown: "live", "absent", "gone" or "undecided",
-- the last when that takes longer than o.patience seconds (looking each o.every).
local function resolve(ec2, row, o)
  local find = FIND[row.kind]
  if not find then
    return "undecided"
  end
  local limit, apart = grace(row)
  local born = row.t_sent or row.t_intent
  local started = time.now()
  while true do
    local id, state = find(ec2, row)
    if id then
      session.ledger:set(row.op, "live", { id = id })
      row.state, row.id = "live", id
      if state == "terminated" then
        session.ledger:set(row.op, "gone")
        row.state = "gone"
        return "gone"
      end
      return "live"
    end
    local now = time.now()
    if row.empty_at and now - row.empty_at >= apart and now >= born + limit then
      if row.state == "intent" then
        session.ledger:set(row.op, "unknown")
      end
      session.ledger:set(row.op, "absent")
      row.state = "absent"
      return "absent"
    end
    row.empty_at = row.empty_at or now
    local wait = math.max(born + limit - now, apart - (now - row.empty_at), 0.05)
    local nap = math.min(wait, o.every or wait)
    if now - started + nap > (o.patience or math.huge) then
      return "undecided", born + limit
    end
    async.sleep(math.min(nap, 15))
  end
end

-- ---- deletions ------------------------------------------------------------------

local function hg_ec2()
  return require "hg.machines.ec2"
end

local function not_found(err)
  return type(err) == "table" and type(err.code) == "string"
    and (err.code:find("NotFound$") or err.code:find("%.Unavailable$"))
end

-- Repeats while the service says "still in use"; other errors are raised.
local function retry_while(code, limit, fn)
  local ends, delay = time.mono() + limit, 1
  while true do
    local ok, err = pcall(fn)
    if ok or not_found(err) then
      return
    end
    if type(err) ~= "table" or err.code ~= code or time.mono() > ends then
      error(err, 0)
    end
    async.sleep(delay)
    delay = math.min(delay * 2, 15)
  end
end

local function wait_terminated(ec2, ids)
  if #ids == 0 then
    return
  end
  hg.wait {
    what = #ids == 1 and (ids[1] .. " to terminate") or (#ids .. " instances to terminate"),
    timeout = 600, every = 0.3, max_every = 5,
    poll = function()
      local ok, r = pcall(ec2.describe_instances, ec2, { InstanceIds = ids })
      if not ok then
        if not_found(r) then
          return true
        end
        if type(r) == "table" and r.kind == "cancelled" then
          error(r, 0)
        end
        return nil, tostring(r)
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

-- Terminates a list of resources; returns errors by id.
local function terminate_batch(ec2, list)
  local ids, failed = {}, {}
  for i, r in ipairs(list) do
    ids[i] = r.id
  end
  local ok, err = try(ec2.terminate_instances, ec2, { InstanceIds = ids })
  if ok then
    return failed
  end
  for _, r in ipairs(list) do
    -- One bad id fails the whole call: then singly.
    local good, e = false, err
    if err.kind == "aws" then
      good, e = try(ec2.terminate_instances, ec2, { InstanceIds = { r.id } })
    end
    local gone = not good and not_found(e)
      and not hg_ec2().too_young(r.op and session.ledger:get(r.op) or nil)
    if not good and not gone then
      failed[r.id] = e
    end
  end
  return failed
end

local function delete_snapshot(ec2, r)
  retry_while("InvalidSnapshot.InUse", 300, function()
    ec2:delete_snapshot { SnapshotId = r.id }
  end)
end

local DELETE = {
  volume = function(ec2, r)
    retry_while("VolumeInUse", 300, function()
      ec2:delete_volume { VolumeId = r.id }
    end)
  end,
  address = function(ec2, r)
    ec2:release_address { AllocationId = r.id }
  end,
  image = function(ec2, r)
    -- The snapshots are known only as long as the image is registered.
    local snapshots = {}
    for _, image in ipairs(ec2:describe_images({ ImageIds = { r.id } }).Images) do
      for _, mapping in ipairs(image.BlockDeviceMappings or {}) do
        snapshots[#snapshots + 1] = mapping.Ebs and mapping.Ebs.SnapshotId
      end
    end
    ec2:deregister_image { ImageId = r.id }
    for _, id in ipairs(snapshots) do
      local ok, err = try(delete_snapshot, ec2, { id = id })
      if not ok and not not_found(err) then
        error(err, 0)
      end
    end
  end,
  snapshot = delete_snapshot,
  group = function(ec2, r)
    retry_while("DependencyViolation", 600, function()
      ec2:delete_security_group { GroupId = r.id }
    end)
  end,
  keypair = function(ec2, r)
    ec2:delete_key_pair { KeyName = r.name }
  end,
}
local RANK = { "volume", "address", "image", "snapshot", "group", "keypair" }

-- A resource: {kind, id, name, run, op (row) or nil}.
local function note_state(r, state, fields)
  if r.op then
    local ok, err = pcall(session.ledger.set, session.ledger, r.op, state, fields)
    if not ok then
      out.warn("ledger: " .. tostring(err))
    end
  end
end

local function delete_rank(ec2, kind, list, result)
  for _, r in ipairs(list) do
    note_state(r, "deleting")
    local ok, err = try(DELETE[kind], ec2, r)
    if ok or not_found(err) then
      note_state(r, "gone")
      result.removed[#result.removed + 1] = r
    else
      note_state(r, "live", { error = tostring(err) })
      result.failed[#result.failed + 1] = { r, err }
    end
  end
end

-- Deletes resources of one place in order of rank; one failure stops nothing.
local function delete_all(ec2, list, result)
  local by_kind = {}
  for _, r in ipairs(list) do
    by_kind[r.kind] = by_kind[r.kind] or {}
    table.insert(by_kind[r.kind], r)
  end
  local instances, later = by_kind.instance or {}, false
  for _, kind in ipairs(RANK) do
    later = later or by_kind[kind] ~= nil
  end
  local ids = {}
  for from = 1, #instances, 50 do
    local batch = table.move(instances, from, math.min(from + 49, #instances), 1, {})
    for _, r in ipairs(batch) do
      note_state(r, "deleting")
    end
    local failed = terminate_batch(ec2, batch)
    for _, r in ipairs(batch) do
      if failed[r.id] then
        note_state(r, "live", { error = tostring(failed[r.id]) })
        result.failed[#result.failed + 1] = { r, failed[r.id] }
      else
        note_state(r, "gone")
        ids[#ids + 1] = r.id
        result.removed[#result.removed + 1] = r
      end
    end
  end
  if later then
    -- Those that hang do not keep what they do not use.
    local ok, err = try(wait_terminated, ec2, ids)
    if not ok then
      out.warn(tostring(err))
    end
  end
  for _, kind in ipairs(RANK) do
    if by_kind[kind] then
      delete_rank(ec2, kind, by_kind[kind], result)
    end
  end
end

local function from_row(row)
  return { kind = row.kind, id = row.id, name = row.name, run = row.run, op = row.op }
end

local function line(r)
  local name = r.name and r.name ~= "" and r.name ~= r.id and (" " .. r.name) or ""
  return ("%-9s %s%s%s"):format(r.kind, r.id or "?", name, r.run and ("  run " .. r.run) or "")
end

-- ---- tags -----------------------------------------------------------------------

-- An operation that this endpoint does not offer finds nothing.
local function ask(fn)
  local ok, r = pcall(fn)
  if ok then
    return r
  end
  if type(r) == "table" and (r.code == "UnsupportedOperation" or r.code == "InvalidAction") then
    return {}
  end
  error(r, 0)
end

--- Resources of this region that carry our tag (or, expired, anybody's of hgauto).
-- @param ec2 table client
-- @param filter table DescribeX filter
-- @return table[] resources {kind, id, name, run, expires, tags}
-- @waits
function M.scan(ec2, filter)
  local list = {}
  local function add(kind, id, name, tags, extra)
    local r = { kind = kind, id = id, name = name, tags = tags,
      run = hg.ledger.tag(tags, "hgauto:run"), op = nil,
      expires = hg.ledger.tag(tags, "hgauto:expires") }
    for k, v in pairs(extra or {}) do
      r[k] = v
    end
    list[#list + 1] = r
  end
  local alive = { Name = "instance-state-name",
    Values = { "pending", "running", "stopping", "stopped" } }
  for _, res in ipairs(ask(function()
    return ec2:describe_instances { Filters = { filter, alive } }
  end).Reservations or {}) do
    for _, i in ipairs(res.Instances) do
      add("instance", i.InstanceId, hg.ledger.tag(i.Tags, "Name"), i.Tags,
        { state = i.State.Name, born = i.LaunchTime, type = i.InstanceType })
    end
  end
  for _, v in ipairs(ask(function()
    return ec2:describe_volumes { Filters = { filter,
      { Name = "status", Values = { "available" } } } }
  end).Volumes or {}) do
    add("volume", v.VolumeId, hg.ledger.tag(v.Tags, "Name"), v.Tags)
  end
  for _, i in ipairs(ask(function()
    return ec2:describe_images { Owners = { "self" }, Filters = { filter } }
  end).Images or {}) do
    add("image", i.ImageId, i.Name, i.Tags)
  end
  for _, s in ipairs(ask(function()
    return ec2:describe_snapshots { OwnerIds = { "self" }, Filters = { filter } }
  end).Snapshots or {}) do
    add("snapshot", s.SnapshotId, hg.ledger.tag(s.Tags, "Name"), s.Tags)
  end
  for _, g in ipairs(ask(function()
    return ec2:describe_security_groups { Filters = { filter } }
  end).SecurityGroups or {}) do
    add("group", g.GroupId, g.GroupName, g.Tags)
  end
  for _, k in ipairs(ask(function()
    return ec2:describe_key_pairs { Filters = { filter } }
  end).KeyPairs or {}) do
    add("keypair", k.KeyPairId, k.KeyName, k.Tags)
  end
  return list
end

-- The ledger's row of a found resource, so that deleting is recorded there.
local function join_rows(list)
  local by_id, by_name = {}, {}
  for _, row in ipairs(session.ledger:list { states = { "intent", "unknown", "live", "kept",
    "deleting" } }) do
    if row.id and row.id ~= "" then
      by_id[row.id] = row
    elseif row.name and row.name ~= "" then
      by_name[row.kind .. " " .. row.name] = row
    end
  end
  for _, r in ipairs(list) do
    local row = by_id[r.id] or by_name[r.kind .. " " .. (r.name or "")]
    if row then
      if row.state == "intent" or row.state == "unknown" then
        session.ledger:set(row.op, "live", { id = r.id })
      end
      r.op, r.run = row.op, r.run or row.run
    end
  end
  return list
end

-- ---- results ----------------------------------------------------------------------

local function count_text(list)
  local n, order = {}, {}
  for _, r in ipairs(list) do
    if not n[r.kind] then
      n[r.kind] = 0
      order[#order + 1] = r.kind
    end
    n[r.kind] = n[r.kind] + 1
  end
  for i, kind in ipairs(order) do
    order[i] = ("%d %s%s"):format(n[kind], kind == "keypair" and "key pair" or kind,
      n[kind] == 1 and "" or "s")
  end
  return table.concat(order, ", ")
end

local function new_result()
  return { removed = {}, failed = {}, undecided = {}, unasked = {} }
end

-- Exit code of a collection: 6 billable left, 1 free kinds left, 0 nothing.
local function judge(result)
  local code = 0
  for _, f in ipairs(result.failed) do
    out.warn(("%s: %s"):format(line(f[1]), tostring(f[2])))
    code = math.max(code, BILLABLE[f[1].kind] and 6 or 1)
  end
  for _, u in ipairs(result.undecided) do
    local until_text = u[2] and (", decided after " .. time.local_text(u[2], "%H:%M")) or ""
    out.warn(("a %s of run %s may still appear%s"):format(u[1].kind, u[1].run or "?", until_text))
    code = math.max(code, BILLABLE[u[1].kind] and 6 or 1)
  end
  for _, u in ipairs(result.unasked) do
    out.warn(("%s: %s"):format(line(u[1]), u[2]))
    local exit = type(u[3]) == "table" and require("hg.cli.exit").code(u[3]) or 6
    code = math.max(code, exit == 4 and 4 or exit == 3 and 3 or 6)
  end
  return code
end

local function report_removed(result, verb)
  for _, r in ipairs(result.removed) do
    out.result(line(r))
  end
  if #result.removed > 0 then
    out.note(("%s %s"):format(verb, count_text(result.removed)))
  end
end

-- ---- gc -----------------------------------------------------------------------------

local function collect(o, result)
  local locks <close> = setmetatable({}, { __close = close_all })
  local rows = dead_rows(o, locks)
  local cache, work, order = {}, {}, {}
  for _, row in ipairs(rows) do
    local ec2, why = client_for(row, cache)
    if not ec2 then
      if cache[row.place].wiped then
        if not o.dry_run then
          session.ledger:forget(row.endpoint)
        end
      else
        result.unasked[#result.unasked + 1] = { from_row(row), why, cache[row.place].err }
      end
    elseif o.dry_run then
      out.result(line(from_row(row)) .. "  " .. row.state)
    else
      local state, when = row.state, nil
      if state == "intent" or state == "unknown" then
        state, when = resolve(ec2, row, o)
      end
      if state == "undecided" then
        result.undecided[#result.undecided + 1] = { from_row(row), when }
      elseif state ~= "absent" and state ~= "gone"
        and (row.cls == "ephemeral" or row.state == "deleting") then
        if not work[row.place] then
          work[row.place] = {}
          order[#order + 1] = row.place
        end
        table.insert(work[row.place], from_row(row))
      end
    end
  end
  for _, place in ipairs(order) do
    delete_all(cache[place].client, work[place], result)
  end
end

-- The clock of the service: others' machines end by it, not by ours.
local function service_time()
  local aws = require "hgauto.aws"
  local answer = aws.client("sts"):get_caller_identity {}
  local date = (aws.meta(answer).HTTPHeaders or {}).date
  local r = date and time.parse(date)
  if not r then
    hg.fail { kind = "protocol", message = "the service does not tell its time" }
  end
  return r
end

-- Machines whose deadline has passed, found by tag alone.
local function by_tag(o, result)
  local ec2, list = require("hgauto.aws").client("ec2"), {}
  local now = service_time()
  for _, r in ipairs(M.scan(ec2, { Name = "tag:hgauto:class", Values = { "ephemeral" } })) do
    local ends = r.expires and time.parse(r.expires)
    if ends and ends < now then
      if o.dry_run then
        out.result(line(r))
      else
        list[#list + 1] = r
      end
    end
  end
  delete_all(ec2, join_rows(list), result)
end

--- `hgauto gc`.
-- @param args table run dry_run older no_wait by_tag
-- @param opts table global options
-- @return integer exit code
-- @waits
function M.main(args, opts)
  local env = require "hg.cli.env"
  env.open_state(opts)
  session.ledger = session.state:ledger()
  if opts["local"] or args.by_tag then
    env.use_cloud(opts)
  else
    -- Rows of the local cloud bring their own endpoint.
    session.profile, session.endpoint_url = opts.profile, opts.endpoint_url
    require("hgauto.aws").defaults { region = opts.region or "us-west-2", profile = opts.profile }
  end
  local _lock <close> = require("hgauto.fs").lock(session.state.path .. "/gc.lock", { wait = 60 })
  local result = new_result()
  local o = { run = args.run and hg.runs.find(args.run, "gc"), dry_run = args.dry_run,
    older = args.older, patience = args.no_wait and 5 or nil }
  collect(o, result)
  if args.by_tag then
    by_tag(o, result)
  end
  report_removed(result, "removed")
  local code = judge(result)
  if code == 0 and #result.removed == 0 and not args.dry_run then
    out.note("nothing to remove")
  end
  return code
end

--- After a creation that did not end well: finds and ends what it made.
-- @param op string id of its row
-- @waits
function M.settle(op)
  local row = session.ledger and session.ledger:get(op)
  if not row or row.state == "absent" or row.state == "gone" then
    return
  end
  local ec2, state = client_for(row, {}), row.state
  if ec2 and (state == "intent" or state == "unknown") then
    state = resolve(ec2, row, { patience = 25, every = 3 })
  end
  if ec2 and state == "live" then
    local result = new_result()
    delete_all(ec2, { from_row(row) }, result)
    if #result.removed > 0 then
      out.note(("%s terminated (had just started)"):format(row.id))
    end
  end
end

--- Removes resources of ours that are known by id; all or an error.
-- @param ec2 table client
-- @param list table[] {kind, id, name}
-- @raise task what could not be removed
-- @waits
function M.remove(ec2, list)
  local result = new_result()
  delete_all(ec2, join_rows(list), result)
  if #result.failed > 0 then
    error(result.failed[1][2], 0)
  end
end

-- ---- terminate, purge -----------------------------------------------------------------

-- Without those of live runs; what was left out is said.  `seen` knows the runs
-- whose locks are ours by now.
local function without_live(list, seen)
  local kept, out_list = 0, {}
  for _, r in ipairs(list) do
    local id = r.run
    if id and seen[id] == nil then
      seen[id] = session.state:run_alive(id)
    end
    if id and id ~= session.run.id and seen[id] then
      kept = kept + 1
    else
      out_list[#out_list + 1] = r
    end
  end
  if kept > 0 then
    out.note(("%d of live runs left alone"):format(kept))
  end
  return out_list
end

local function legacy_list(ec2, kinds)
  local list = {}
  for _, r in ipairs(M.scan(ec2, { Name = "tag:Name", Values = { "hg-*" } })) do
    if kinds[r.kind] and not hg.ledger.tag(r.tags, "hgauto:state") then
      list[#list + 1] = r
    end
  end
  return list
end

local function ours(ec2, kinds, o, seen)
  local filter = { Name = "tag:hgauto:state", Values = { session.state.sid } }
  local list = {}
  for _, r in ipairs(M.scan(ec2, filter)) do
    if kinds[r.kind] and (not o.run or r.run == o.run) then
      list[#list + 1] = r
    end
  end
  local others = legacy_list(ec2, kinds)
  if o.legacy then
    table.move(others, 1, #others, #list + 1, list)
  else
    for _, r in ipairs(others) do
      out.note(("not ours by tag, left alone (--legacy): %s"):format(line(r)))
    end
  end
  return without_live(join_rows(list), seen)
end

-- Seconds; 0 when nobody knows.
local function age(r)
  local row = r.op and session.ledger:get(r.op)
  local born = row and row.t_intent or r.born
  if type(born) == "string" then
    born = time.parse(born)
  end
  return born and time.now() - born or 0
end

local function remove(kinds, o, nothing)
  o.run = o.run and hg.runs.find(o.run, session.task or "gc")
  local ec2 = require("hgauto.aws").client("ec2")
  local result = new_result()
  -- Creations that nobody knows the outcome of come first.
  local locks <close> = setmetatable({}, { __close = close_all })
  local cache = {}
  local rows, alive = dead_rows({ run = o.run }, locks)
  for _, row in ipairs(rows) do
    if (row.state == "intent" or row.state == "unknown") and kinds[row.kind] then
      local client = client_for(row, cache)
      local state, when
      if client then
        state, when = resolve(client, row, { patience = 5 })
      end
      if state == "undecided" then
        result.undecided[#result.undecided + 1] = { from_row(row), when }
      end
    end
  end
  local list = {}
  for _, r in ipairs(ours(ec2, kinds, o, alive)) do
    if not o.older or age(r) >= o.older then
      list[#list + 1] = r
    end
  end
  delete_all(ec2, list, result)
  report_removed(result, "removed")
  local code = judge(result)
  if code ~= 0 then
    hg.fail { kind = "task", exit = code, message = "not everything could be removed",
      hint = "hgauto gc tries again" }
  end
  if #list == 0 then
    out.note(nothing)
  end
  return { removed = #result.removed }
end

--- All instances of ours that no live run uses.
-- @param o table run older legacy
-- @return table {removed=n}
-- @waits
function M.terminate(o)
  return remove({ instance = true }, o, "nothing to terminate")
end

--- Everything of ours: instances, volumes, images, snapshots, groups, key pairs.
-- @param o table keep_images legacy
-- @return table {removed=n}
-- @waits
function M.purge(o)
  for _, id in ipairs(session.state:runs()) do
    if id ~= session.run.id and session.state:run_alive(id) then
      -- Its machines log in with the key pair and the group.
      hg.fail { kind = "exists", message = ("run %s is alive; nothing is purged"):format(id),
        hint = "end it first, or: hgauto terminate-ec2-instances" }
    end
  end
  local kinds = { instance = true, volume = true, address = true, group = true, keypair = true }
  if not o.keep_images then
    kinds.image, kinds.snapshot = true, true
  end
  return remove(kinds, o, "nothing to purge")
end

return M
