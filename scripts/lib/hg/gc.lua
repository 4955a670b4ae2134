--- Removing what dead runs left: `hgauto gc`.
--
-- Look-ups, deletions and places are in hg.remove.*, what removes more than
-- dead runs' things in hg.purge.  Only what carries our tag or stands in our
-- ledger is touched, never what a live run uses (reliability specification,
-- sections 2.8 to 2.10).
local delete = require "hg.remove.delete"
local find = require "hg.remove.find"
local hg = require "hg"
local out = require "hg.output"
local places = require "hg.remove.places"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Billable kinds: leaving one behind is exit code 6.
local BILLABLE = { instance = true, volume = true, address = true, image = true, snapshot = true }

local OPEN = { "intent", "unknown", "live", "kept", "deleting" }

-- ---- scope ------------------------------------------------------------------

local function undecided(row)
  return row.state == "intent" or row.state == "unknown"
end

local function in_scope(row, o)
  if o.run and row.run ~= o.run then
    return false
  end
  if o.older and time.now() - row.t_intent < o.older then
    return false
  end
  if row.state == "kept" then
    return o.run == row.run and not o.spare_kept or (row.keep_until and row.keep_until > 0
      and row.keep_until < time.now())
  end
  return row.cls == "ephemeral" or row.state ~= "live"
end

--- Rows of dead runs that a collection is to decide or remove.
-- @param o table run= older=
-- @param locks table[] filled with the runs' locks, held until M.close_all
-- @return table[] rows
-- @return table run -> whether it lives
function M.dead_rows(o, locks)
  local rows, alive = {}, {}
  for _, row in ipairs(session.ledger:list { states = OPEN }) do
    if row.run and alive[row.run] == nil and in_scope(row, o) then
      local lock = session.state:lock_run(row.run)
      alive[row.run] = lock == nil
      locks[#locks + 1] = lock
    end
  end
  -- Read again: until its lock was ours a run could change them.
  for _, row in ipairs(session.ledger:list { states = OPEN }) do
    if row.run and alive[row.run] == false and in_scope(row, o) then
      rows[#rows + 1] = row
    end
  end
  return rows, alive
end

--- Gives up locks of runs.
-- @param locks table[]
function M.close_all(locks)
  for i = #locks, 1, -1 do
    locks[i]:close()
  end
end

-- ---- resources ----------------------------------------------------------------

--- The resource of a ledger row.
-- @param row table
-- @return table {kind, id, name, run, op}
function M.from_row(row)
  return { kind = row.kind, id = row.id, name = row.name, run = row.run, op = row.op }
end

--- One line about a resource.
-- @param r table
-- @return string
function M.line(r)
  local name = r.name and r.name ~= "" and r.name ~= r.id and (" " .. r.name) or ""
  return ("%-9s %s%s%s"):format(r.kind, r.id or "?", name, r.run and ("  run " .. r.run) or "")
end

--- Resources of this region that carry our tag (or, expired, anybody's of hgauto).
-- @param ec2 table client
-- @param filter table DescribeX filter
-- @return table[] resources {kind, id, name, run, expires, tags}
-- @waits
function M.scan(ec2, filter)
  return find.scan(places.here(ec2), filter)
end

-- What is found becomes a row before it is deleted.
local function adopt(r, place)
  local tagged = hg.ledger.tag(r.tags, "hgauto:op")
  local row = tagged and session.ledger:get(tagged)
  if row and row.kind ~= r.kind then
    -- Snapshots carry the tags of their image.
    return session.ledger:child { parent = tagged, kind = r.kind, id = r.id, name = r.name }
  end
  return session.ledger:adopt {
    op = tagged, run = r.run or "-", kind = r.kind,
    cls = hg.ledger.tag(r.tags, "hgauto:class"), place = place, name = r.name, id = r.id,
  }
end

--- Gives found resources their ledger rows, so that deleting is recorded there.
-- @param list table[]
-- @param[opt] place integer where they are: those without a row get one
-- @return table[] list
function M.join_rows(list, place)
  local by_id, by_name = {}, {}
  for _, row in ipairs(session.ledger:list { states = OPEN }) do
    if row.id and row.id ~= "" then
      by_id[row.id] = row
    elseif row.name and row.name ~= "" then
      by_name[row.kind .. " " .. row.name] = row
    end
  end
  for _, r in ipairs(list) do
    local row = by_id[r.id] or by_name[r.kind .. " " .. (r.name or "")]
    if row then
      if undecided(row) then
        session.ledger:set(row.op, "live", { id = r.id })
      end
      r.op, r.run = row.op, r.run or row.run
    elseif place then
      local ok, op = pcall(adopt, r, place)
      r.op = ok and op or nil
    end
  end
  return list
end

-- ---- results ----------------------------------------------------------------------

--- "2 instances, 1 key pair".
-- @param list table[] resources
-- @return string
function M.count_text(list)
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

--- Warns about what is left.
-- @param result table of hg.remove.delete
-- @return integer exit code: 6 billable left, 1 free kinds left, 0 nothing
function M.judge(result)
  local code = 0
  for _, f in ipairs(result.failed) do
    out.warn(("%s: %s"):format(M.line(f[1]), tostring(f[2])))
    code = math.max(code, BILLABLE[f[1].kind] and 6 or 1)
  end
  for _, u in ipairs(result.undecided) do
    local until_text = u[2] and (", decided after " .. time.local_text(u[2], "%H:%M")) or ""
    out.warn(("a %s of run %s may still appear%s%s"):format(u[1].kind, u[1].run or "?", until_text,
      u[3] and ": " .. tostring(u[3]) or ""))
    code = math.max(code, BILLABLE[u[1].kind] and 6 or 1)
  end
  for _, u in ipairs(result.unasked) do
    out.warn(("%s: %s"):format(M.line(u[1]), u[2]))
    local exit = type(u[3]) == "table" and require("hg.cli.exit").code(u[3]) or 6
    code = math.max(code, exit == 4 and 4 or exit == 3 and 3 or 6)
  end
  return code
end

--- Lists what was removed.
-- @param result table
-- @param verb string
function M.report_removed(result, verb)
  for _, r in ipairs(result.removed) do
    out.result(M.line(r))
  end
  if #result.removed > 0 then
    out.note(("%s %s"):format(verb, M.count_text(result.removed)))
  end
end

-- ---- gc -----------------------------------------------------------------------------

-- Sorts rows by what can be done: undecided ones, those to be deleted by place.
local function sort_rows(rows, o, cache, result)
  local open, work = {}, {}
  for _, row in ipairs(rows) do
    local at = places.of(row, cache)
    if at.wiped then
      if not o.dry_run then
        session.ledger:forget(row.endpoint)
      end
    elseif not at.clients then
      result.unasked[#result.unasked + 1] = { M.from_row(row), at.why, at.err }
    elseif o.dry_run then
      out.result(M.line(M.from_row(row)) .. "  " .. row.state)
    elseif undecided(row) then
      open[#open + 1] = row
    else
      work[#work + 1] = row
    end
  end
  return open, work
end

-- Decides rows; what lives then and shall go is added to work.
local function decide(open, work, o, cache, result)
  local left = {}
  for _, row in ipairs(find.resolve(open, function(row)
    return places.of(row, cache).clients
  end, o)) do
    left[row.op] = true
    result.undecided[#result.undecided + 1] = { M.from_row(row), row.decided_at, row.why }
  end
  for _, row in ipairs(open) do
    if not left[row.op] and row.state == "live" then
      work[#work + 1] = row
    end
  end
end

-- Volumes that a machine of a dead run left behind, though they were to go with it.
local function stray_volumes(clients, list)
  local runs, seen = {}, {}
  for _, r in ipairs(list) do
    seen[r.id or ""] = true
    if r.kind == "instance" and r.run and not seen["run " .. r.run] then
      runs[#runs + 1], seen["run " .. r.run] = r.run, true
    end
  end
  if #runs == 0 then
    return
  end
  local ok, r = pcall(clients.ec2.describe_volumes, clients.ec2, { Filters = {
    { Name = "tag:hgauto:run", Values = runs }, { Name = "tag:hgauto:class",
      Values = { "ephemeral" } }, { Name = "tag:hgauto:state", Values = { session.state.sid } },
    { Name = "status", Values = { "available" } } } })
  for _, v in ipairs(ok and r.Volumes or {}) do
    if not seen[v.VolumeId] then
      list[#list + 1] = { kind = "volume", id = v.VolumeId, name = hg.ledger.tag(v.Tags, "Name"),
        run = hg.ledger.tag(v.Tags, "hgauto:run"), tags = v.Tags }
    end
  end
end

local function collect(o, result)
  local locks <close> = setmetatable({}, { __close = M.close_all })
  local cache = { running_only = o.running_only }
  local open, work = sort_rows(M.dead_rows(o, locks), o, cache, result)
  decide(open, work, o, cache, result)
  if not o.dry_run and not o.run then
    for _, row in ipairs(find.recheck(function(row)
      return places.of(row, cache).clients
    end)) do
      row.late = true
      work[#work + 1] = row
    end
  end
  local lists, order = {}, {}
  for _, row in ipairs(work) do
    -- What came late was deleted once: nobody waits for it.
    if row.cls == "ephemeral" or row.state == "deleting" or row.late then
      if not lists[row.place] then
        lists[row.place] = {}
        order[#order + 1] = row.place
      end
      table.insert(lists[row.place], M.from_row(row))
    end
  end
  for _, place in ipairs(order) do
    local clients = cache[place].clients
    stray_volumes(clients, lists[place])
    delete.all(clients, lists[place], result)
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
  local clients, list = places.here(), {}
  local now = service_time()
  for _, r in ipairs(find.scan(clients, { Name = "tag:hgauto:class", Values = { "ephemeral" } })) do
    local ends = r.expires and time.parse(r.expires)
    if ends and ends < now then
      if o.dry_run then
        out.result(M.line(r))
      else
        list[#list + 1] = r
      end
    end
  end
  delete.all(clients, M.join_rows(list), result)
end

--- `hgauto gc`.
-- @param args table run dry_run older no_wait by_tag spare_kept
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
    require("hgauto.aws").defaults { region = opts.region or "us-west-2", profile = opts.profile,
      patient = true }
  end
  local _lock <close> = require("hgauto.fs").lock(session.state.path .. "/gc.lock", { wait = 60 })
  local result = delete.result()
  local o = { run = args.run and hg.runs.find(args.run, "gc"), dry_run = args.dry_run,
    spare_kept = args.spare_kept, older = args.older, patience = args.no_wait and 5 or nil }
  collect(o, result)
  if args.by_tag then
    by_tag(o, result)
  end
  M.report_removed(result, "removed")
  local code = M.judge(result)
  if code == 0 and #result.removed == 0 and not args.dry_run then
    out.note("nothing to remove")
  end
  return code
end

-- Seconds that a start gives to what others left.
local AT_START = 5

--- What runs and sessions do at their start, beside everything else: ends what
--- dead runs left, as far as that can be decided at once.  Whoever else collects
--- goes first; nothing that happens here is an error of the run.
-- @raise cancelled
-- @waits
function M.at_start()
  if #hg.ledger.dead_runs(session) == 0 then
    return
  end
  local result = delete.result()
  local ok, err = pcall(function()
    local _lock <close> = require("hgauto.fs").lock(session.state.path .. "/gc.lock", { wait = 0 })
    require("hgauto.async").timeout(AT_START, collect, { patience = 0, running_only = true },
      result)
  end)
  if not ok and type(err) == "table" and err.kind == "cancelled" then
    error(err, 0)
  elseif not ok then
    out.debug("gc at the start: " .. tostring(err))
  end
  if #result.removed > 0 then
    out.note(("removed %s that dead runs left"):format(M.count_text(result.removed)))
  end
end

--- After a creation that did not end well: finds and ends what it made.
-- @param op string id of its row
-- @waits
function M.settle(op)
  local row = session.ledger and session.ledger:get(op)
  if not row or row.state == "absent" or row.state == "gone" then
    return
  end
  local clients = places.of(row, {}).clients
  if not clients then
    return
  end
  if undecided(row) then
    find.resolve({ row }, function()
      return clients
    end, { patience = 25, every = 3 })
  end
  if row.state == "live" then
    local result = delete.result()
    delete.all(clients, { M.from_row(row) }, result)
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
  local result = delete.result()
  delete.all(places.here(ec2), M.join_rows(list), result)
  if #result.failed > 0 then
    error(result.failed[1][2], 0)
  end
end

--- All instances of ours that no live run uses; see hg.purge.
-- @param o table run older legacy
-- @return table {removed=n}
-- @waits
function M.terminate(o)
  return require("hg.purge").terminate(o)
end

--- Everything of ours; see hg.purge.
-- @param o table keep_images legacy
-- @return table {removed=n}
-- @waits
function M.purge(o)
  return require("hg.purge").everything(o)
end

return M
