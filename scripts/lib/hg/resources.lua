--- What of ours exists: the ledger's rows and what carries our tag, side by side;
--- the commands `hgauto resources ls` and `show`.
local aws = require "hgauto.aws"
local hg = require "hg"
local json = require "hgauto.json"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

local function epoch(v)
  return type(v) == "string" and time.parse(v) or v or nil
end

local function run_state(run)
  if not run or run == "" then
    return "-"
  elseif session.run and run == session.run.id then
    return "this"
  end
  return session.state:run_alive(run) and "alive" or "dead"
end

-- Ledger rows by the id of their thing.
local function rows_by_id()
  local by_id = {}
  for _, row in ipairs(session.ledger:list { states = { "intent", "unknown", "live", "kept",
    "deleting" } }) do
    by_id[row.id and row.id ~= "" and row.id or row.op] = row
  end
  return by_id
end

--- All resources of this state directory, found by tag and in the ledger.
-- @return table[] {kind, id, name, state, run, run_state, born, expires, usd_per_hour, orphan}
-- @waits
function M.list()
  local ec2 = aws.client("ec2")
  local rows, list, seen = rows_by_id(), {}, {}
  for _, r in ipairs(hg.gc.scan(ec2, { Name = "tag:hgauto:state",
    Values = { session.state.sid } })) do
    local row = rows[r.id]
    seen[r.id] = true
    local run = r.run or (row and row.run)
    local state = run_state(run)
    list[#list + 1] = {
      kind = r.kind, id = r.id, name = r.name, state = r.state or (row and row.state) or "exists",
      run = run, run_state = state, born = epoch(r.born) or (row and row.t_intent),
      expires = epoch(r.expires), tags = r.tags, op = row and row.op or hg.ledger.tag(r.tags,
        "hgauto:op"),
      usd_per_hour = r.kind == "instance" and r.state ~= "stopped"
        and hg.prices.hourly(r.type or "") or nil,
      -- A machine whose run is dead waits for gc.
      orphan = hg.ledger.tag(r.tags, "hgauto:class") == "ephemeral" and state == "dead"
        and not (row and row.state == "kept"),
    }
  end
  for id, row in pairs(rows) do
    if not seen[id] and row.endpoint == hg.ledger.endpoint(session) and row.state ~= "live" then
      list[#list + 1] = { kind = row.kind, id = row.id ~= "" and row.id or nil, name = row.name,
        state = row.state, run = row.run, run_state = run_state(row.run), born = row.t_intent,
        op = row.op,
        orphan = run_state(row.run) == "dead" and row.cls == "ephemeral" }
    end
  end
  table.sort(list, function(a, b)
    if a.kind ~= b.kind then
      return a.kind < b.kind
    end
    return (a.born or 0) < (b.born or 0)
  end)
  return list
end

local function ago(t)
  return t and hg.format.duration(math.max(0, time.now() - t)) or "-"
end

local function ends(t)
  if not t then
    return "-"
  end
  local left = t - time.now()
  return left > 0 and "in " .. hg.format.duration(left) or "overdue"
end

local function print_list(list)
  local usd, rows = 0, { { "KIND", "ID", "NAME", "STATE", "AGE", "RUN", "ENDS", "USD/h" } }
  for _, r in ipairs(list) do
    usd = usd + (r.usd_per_hour or 0)
    rows[#rows + 1] = { r.kind, r.id or "?", r.name or "-", r.state, ago(r.born),
      r.run and ("%s (%s)"):format(r.run, r.run_state) or "-", ends(r.expires),
      (r.usd_per_hour and ("%.4f"):format(r.usd_per_hour) or "-")
        .. (r.orphan and "  orphan: hgauto gc" or "") }
  end
  if #list == 0 then
    out.note("nothing of ours in " .. tostring(session.region))
  else
    hg.runs.print_table(rows)
  end
  return usd
end

-- A resource as JSON shows it: times as text, no list of tags.
local function plain(r)
  local copy = {}
  for k, v in pairs(r) do
    copy[k] = (k == "born" or k == "expires") and time.iso(math.floor(v)) or v
  end
  copy.tags = nil
  for _, tag in ipairs(r.tags or {}) do
    copy.tags = copy.tags or {}
    copy.tags[tag.Key] = tag.Value
  end
  return copy
end

--- Prints the list as a table.
-- @return table {resources, usd_per_hour}
-- @waits
function M.show()
  local list = M.list()
  local usd = print_list(list)
  local resources = json.list {}
  for i, r in ipairs(list) do
    resources[i] = plain(r)
  end
  return { resources = resources, usd_per_hour = usd }
end

-- ---- commands ----------------------------------------------------------------------

local function open(opts)
  require("hg.cli.env").use_cloud(opts)
  session.ledger = session.state:ledger()
end

local function print_json(value)
  require("hgauto.term").out(json.encode(value, { indent = 2 }) .. "\n")
end

-- The one resource that a word begins, or names.
local function one(list, word)
  local hits, names = {}, {}
  for _, r in ipairs(list) do
    if r.id == word or r.name == word then
      return r
    elseif (r.id or ""):sub(1, #word) == word then
      hits[#hits + 1] = r
    end
    names[#names + 1] = r.id
  end
  if #hits == 1 then
    return hits[1]
  end
  hg.fail { kind = #hits == 0 and "notfound" or "usage", hint = "hgauto resources ls",
    message = #hits == 0 and ("%s is nothing of ours%s"):format(word,
      require("hg.suggest").text(word, names)) or ("%s is ambiguous: %d begin so"):format(word,
      #hits) }
end

local function print_one(r)
  local function say(name, value)
    if value then
      out.result(require("hgauto.term").filter(("%-9s %s"):format(name, value)))
    end
  end
  say("kind", r.kind)
  say("id", r.id or "not known yet")
  say("name", r.name)
  say("state", r.state)
  say("age", r.born and ago(r.born))
  say("run", r.run and ("%s (%s)"):format(r.run, r.run_state))
  say("ends", r.expires and ends(r.expires))
  say("cost", r.usd_per_hour and ("USD %.4f/h"):format(r.usd_per_hour))
  local row = r.op and session.ledger:get(r.op)
  if row then
    say("ledger", ("%s, %s, op %s"):format(row.state, row.cls, row.op))
    say("account", ("%s %s %s"):format(row.account or "?", row.region or "?", row.endpoint or ""))
    say("error", row.error)
  end
  for _, tag in ipairs(r.tags or {}) do
    say("tag", ("%s=%s"):format(tag.Key, tag.Value))
  end
  say("orphan", r.orphan and "its run is dead; hgauto gc removes it" or nil)
end

local arg = hg.arg
local OUTPUT = arg.enum { name = "output", short = "o", "table", "json", default = "table",
  help = "form" }

M.help = "What of ours exists in the cloud; changes nothing."

--- The commands of `hgauto resources`.
M.commands = {
  { name = "ls", help = "all of it: kind, id, name, state, age, run, end, cost", args = { OUTPUT },
    uses_cloud = true, example = "hgauto resources ls -o json",
    run = function(args, opts)
      open(opts)
      local list = M.list()
      if args.output == "table" then
        print_list(list)
        return 0
      end
      local doc = json.list {}
      for i, r in ipairs(list) do
        doc[i] = plain(r)
      end
      print_json(doc)
      return 0
    end },
  { name = "show", help = "one of them, with its tags and what the ledger says", args = {
      arg.string { name = "id", positional = true, required = true,
        help = "its id, a unique beginning of it, or its name" }, OUTPUT },
    uses_cloud = true, example = "hgauto resources show i-0123",
    run = function(args, opts)
      open(opts)
      local r = one(M.list(), args.id)
      if args.output == "json" then
        print_json(plain(r))
      else
        print_one(r)
      end
      return 0
    end },
}

return M
