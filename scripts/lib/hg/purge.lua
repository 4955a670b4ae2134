--- Removing more than what dead runs left: `hgauto purge` and the tasks
--- terminate-ec2-instances and purge-ec2-resources.
--
-- Found by the ledger and by tags; with a lost state directory by tags and IAM
-- path alone (reliability specification, 2.9 and 2.10).
local delete = require "hg.remove.delete"
local find = require "hg.remove.find"
local gc = require "hg.gc"
local hg = require "hg"
local out = require "hg.output"
local places = require "hg.remove.places"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- More than this needs --max.
local MOST = 50

local ALL = { command = true, instance = true, volume = true, address = true, image = true,
  snapshot = true, group = true, keypair = true, profile = true, role = true }

-- ---- what there is ------------------------------------------------------------------

local function is_own_run(id)
  return session.run ~= nil and session.run.id == id
end

-- Without those of live runs; what was left out is said.  `seen` knows the runs
-- whose locks are ours by now.
local function without_live(list, seen)
  local kept, out_list = 0, {}
  for _, r in ipairs(list) do
    local id = r.run
    if id and seen[id] == nil then
      seen[id] = session.state:run_alive(id)
    end
    if id and not is_own_run(id) and seen[id] then
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

-- Who collects holds the locks of dead runs, which makes these look alive.
local function only_one()
  return require("hgauto.fs").lock(session.state.path .. "/gc.lock", { wait = 60 })
end

local function refuse_beside_live_runs()
  for _, id in ipairs(session.state:runs()) do
    if not is_own_run(id) and session.state:run_alive(id) then
      -- Its machines log in with the key pair and the group.
      hg.fail { kind = "exists", message = ("run %s is alive; nothing is purged"):format(id),
        hint = "end it first, or: hgauto terminate-ec2-instances" }
    end
  end
end

local function legacy_list(clients, kinds)
  local list = {}
  for _, r in ipairs(find.legacy(clients, { iam = kinds.role })) do
    list[#list + 1] = kinds[r.kind] and r or nil
  end
  return list
end

local function of_sids(sids)
  if not sids then
    return { Name = "tag-key", Values = { "hgauto:state" } }
  end
  return { Name = "tag:hgauto:state", Values = sids }
end

local function ours(clients, kinds, o, seen)
  local list = {}
  for _, r in ipairs(find.scan(clients, of_sids { session.state.sid }, { iam = kinds.role })) do
    if kinds[r.kind] and (not o.run or r.run == o.run) then
      list[#list + 1] = r
    end
  end
  local others = legacy_list(clients, kinds)
  if o.legacy then
    table.move(others, 1, #others, #list + 1, list)
  else
    for _, r in ipairs(others) do
      -- A name proves nothing: somebody else may call his things so.
      out.note(("not ours by tag, left alone (--legacy): %s"):format(gc.line(r)))
    end
  end
  return without_live(gc.join_rows(list), seen)
end

-- Seconds; nil when nobody knows.
local function age(r)
  local row = r.op and session.ledger:get(r.op)
  local born = row and row.t_intent or r.born
  if type(born) == "string" then
    born = time.parse(born)
  end
  return born and time.now() - born or nil
end

-- Creations of dead runs that nobody knows the outcome of come first.
local function decide(kinds, o, locks, result)
  local cache, open = {}, {}
  local rows, alive = gc.dead_rows({ run = o.run }, locks)
  for _, row in ipairs(rows) do
    if (row.state == "intent" or row.state == "unknown") and kinds[row.kind]
      and places.of(row, cache).clients then
      open[#open + 1] = row
    end
  end
  for _, row in ipairs(find.resolve(open, function(row)
    return places.of(row, cache).clients
  end, { patience = o.patience or 5 })) do
    result.undecided[#result.undecided + 1] = { gc.from_row(row), row.decided_at, row.why }
  end
  return alive
end

-- ---- the tasks ----------------------------------------------------------------------

local function fail_unless_all(result)
  local code = gc.judge(result)
  if code ~= 0 then
    hg.fail { kind = "task", exit = code, message = "not everything could be removed",
      hint = "hgauto gc tries again" }
  end
end

local function remove(kinds, o, nothing)
  o.run = o.run and hg.runs.find(o.run, session.task or "gc")
  local clients, result = places.here(), delete.result()
  local locks <close> = setmetatable({}, { __close = gc.close_all })
  local alive = decide(kinds, o, locks, result)
  local list = {}
  for _, r in ipairs(ours(clients, kinds, o, alive)) do
    if not o.older or (age(r) or 0) >= o.older then
      list[#list + 1] = r
    end
  end
  delete.all(clients, list, result)
  gc.report_removed(result, "removed")
  fail_unless_all(result)
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
  local _lock <close> = only_one()
  return remove({ instance = true }, o, "nothing to terminate")
end

--- Everything of ours of this region, without a question.
-- @param o table keep_images legacy
-- @return table {removed=n}
-- @waits
function M.everything(o)
  local _lock <close> = only_one()
  refuse_beside_live_runs()
  local kinds = setmetatable({}, { __index = ALL })
  if o.keep_images then
    kinds.image, kinds.snapshot = false, false
  end
  return remove(kinds, o, "nothing to purge")
end

-- ---- hgauto purge ----------------------------------------------------------------------

-- Regions to look into: this one, those of our ledger, those asked for.
local function regions(args)
  local list, seen = {}, {}
  local function add(name)
    if name and name ~= "" and not seen[name] then
      seen[name], list[#list + 1] = true, name
    end
  end
  add(session.region)
  for _, row in ipairs(session.ledger:list {}) do
    if row.endpoint == hg.ledger.endpoint(session) then
      add(row.region)
    end
  end
  for _, name in ipairs(args.also_region or {}) do
    add(name)
  end
  return list
end

local function sids_of(args)
  if args.all_states then
    return nil
  elseif args.sid and #args.sid > 0 then
    return args.sid
  end
  return { session.state.sid }
end

local function place(region, who)
  return session.ledger:place { partition = who.Arn and who.Arn:match("^arn:([^:]+):") or "aws",
    account = who.Account, region = region, endpoint = hg.ledger.endpoint(session) }
end

-- Rows of this state directory that tags did not show: those of things that
-- cannot carry any, or that are still to become visible.
local function add_rows(list, region)
  local seen = {}
  for _, r in ipairs(list) do
    seen[r.op or ""], seen[r.id or ""] = true, true
  end
  for _, row in ipairs(session.ledger:list { states = { "live", "kept", "deleting" } }) do
    if row.region == region and row.endpoint == hg.ledger.endpoint(session) and not seen[row.op]
      and not seen[row.id or ""] then
      list[#list + 1] = gc.from_row(row)
    end
  end
end

local function gather(args, who)
  local all, sids = {}, sids_of(args)
  for i, region in ipairs(regions(args)) do
    local clients = places.here(nil, { region = region })
    -- IAM knows no regions.
    local list = find.scan(clients, of_sids(sids), { iam = i == 1 })
    gc.join_rows(list)
    if not args.by_tag then
      add_rows(list, region)
    end
    all[#all + 1] = { region = region, clients = clients, list = list,
      place = #list > 0 and place(region, who) or nil }
  end
  return all
end

local function show(all, who)
  local rows, n = { { "KIND", "ID", "NAME", "AGE", "RUN", "STATE", "REGION" } }, 0
  for _, at in ipairs(all) do
    for _, r in ipairs(at.list) do
      local a = age(r)
      n = n + 1
      rows[#rows + 1] = { r.kind, r.id or "?", r.name or "-", a and hg.format.duration(
        math.max(0, a)) or "-", r.run or "-", r.sid or session.state.sid, at.region }
    end
  end
  if n > 0 then
    hg.runs.print_table(rows)
    out.note(("%d resource%s in account %s"):format(n, n == 1 and "" or "s", who.Account))
  end
  return n
end

local function ask(n)
  local term = require "hgauto.term"
  if not term.isatty(0) then
    hg.fail { kind = "usage", message = "purge: nobody can be asked", hint = "--yes" }
  end
  local reader <close> = require("hgauto.readline").open {
    prompt = ("remove all %d? [yes/no] "):format(n), edit = false }
  return (reader:read() or ""):match("^%s*yes%s*$") ~= nil
end

--- `hgauto purge`.
-- @param args table yes by_tag all_states sid also_region max
-- @param opts table global options
-- @return integer exit code
-- @waits
function M.main(args, opts)
  require("hg.cli.env").use_cloud(opts)
  session.ledger = session.state:ledger()
  if not args.by_tag and (args.all_states or args.sid and #args.sid > 0) then
    hg.fail { kind = "usage", message = "purge: --all-states and --sid go with --by-tag" }
  end
  local _lock <close> = only_one()
  refuse_beside_live_runs()
  local who = require("hgauto.aws").account {}
  places.same_account(who.Account)
  local result = delete.result()
  local locks <close> = setmetatable({}, { __close = gc.close_all })
  -- Once what was asked for is all there, it is worth waiting for.
  decide(ALL, { patience = 700 }, locks, result)
  local all = gather(args, who)
  local n = show(all, who)
  if n > (args.max or MOST) then
    hg.fail { kind = "usage", message = ("purge: these are more than %d"):format(args.max or MOST),
      hint = ("--max %d"):format(n) }
  end
  if n > 0 and not args.yes and not ask(n) then
    out.note("nothing removed")
    return 1
  end
  for _, at in ipairs(all) do
    delete.all(at.clients, gc.join_rows(at.list, at.place), result)
  end
  if #result.removed > 0 then
    out.note("removed " .. gc.count_text(result.removed))
  end
  local code = gc.judge(result)
  if code == 0 and n == 0 then
    out.note("nothing to purge")
  end
  return code
end

return M
