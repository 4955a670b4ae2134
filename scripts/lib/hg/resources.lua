--- What of ours exists: the ledger's rows and what carries our tag, side by side.
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
      expires = epoch(r.expires),
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

--- Prints the list as a table.
-- @return table {resources, usd_per_hour}
-- @waits
function M.show()
  local list, usd = M.list(), 0
  local table_rows = { { "KIND", "ID", "NAME", "STATE", "AGE", "RUN", "ENDS", "USD/h" } }
  for _, r in ipairs(list) do
    usd = usd + (r.usd_per_hour or 0)
    table_rows[#table_rows + 1] = { r.kind, r.id or "?", r.name or "-", r.state, ago(r.born),
      r.run and ("%s (%s)"):format(r.run, r.run_state) or "-", ends(r.expires),
      (r.usd_per_hour and ("%.4f"):format(r.usd_per_hour) or "-")
        .. (r.orphan and "  orphan: hgauto gc" or "") }
  end
  if #list == 0 then
    out.note("nothing of ours in " .. tostring(session.region))
    return { resources = json.list {}, usd_per_hour = 0 }
  end
  hg.runs.print_table(table_rows)
  return { resources = list, usd_per_hour = usd }
end

return M
