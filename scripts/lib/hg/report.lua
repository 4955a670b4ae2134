--- What a run did: a summary on the terminal, or one page with its time line.
--
-- The page stands alone: no script, nothing loaded from elsewhere, well-formed
-- XML, and whatever a machine or a name says in it is text (command line
-- specification, section 6).
local fs = require "hgauto.fs"
local hg = require "hg"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Lines of a step's log, and of one that failed.
local TAIL, FAILED_TAIL = 200, 2000
-- The drawing: its width, that of the names, heights of rows.
local WIDTH, NAMES, ROW, BAR = 1000, 130, 22, 17
-- Of a letter in a bar.
local LETTER = 6.2

-- ---- text that may be anything ----------------------------------------------------

local ENTITY = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

-- Valid UTF-8 without what XML does not allow.
local function clean(text)
  local parts, at = {}, 1
  while at <= #text do
    local good, bad = utf8.len(text, at)
    parts[#parts + 1] = text:sub(at, good and -1 or bad - 1)
    if good then
      break
    end
    parts[#parts + 1], at = "\u{FFFD}", bad + 1
  end
  return (table.concat(parts):gsub("[\0-\8\11-\31\127]", "\u{FFFD}")
    :gsub("\u{FFFE}", "\u{FFFD}"):gsub("\u{FFFF}", "\u{FFFD}"))
end

local function esc(v)
  return (clean(tostring(v)):gsub('[&<>"]', ENTITY))
end

-- What fits into so many units of width.
local function cut(text, width)
  local n = width // LETTER
  if utf8.len(text) <= n then
    return text
  end
  return n >= 3 and text:sub(1, utf8.offset(text, n) - 1) .. "…" or ""
end

-- ---- what happened when ---------------------------------------------------------------

-- Bars of the steps: {lane, step, depth, from, to (ms), kind, status, error, log}.
local function bars_of(events, total)
  local bars, open = {}, {}
  for _, e in ipairs(events) do
    local name = ("%s|%s"):format(e.lane or "", e.step or "")
    if e.ev == "step.start" then
      open[name] = e
    elseif e.ev == "step.end" then
      open[name] = nil
      bars[#bars + 1] = { lane = e.lane or "local", step = e.step or "?", kind = e.kind or "run",
        from = math.max(0, (e.m or 0) - (e.ms or 0)), to = e.m or 0, status = e.status,
        error = type(e.error) == "table" and e.error.message or nil, log = e.log }
    end
  end
  for _, e in pairs(open) do
    bars[#bars + 1] = { lane = e.lane or "local", step = e.step or "?", kind = e.kind or "run",
      from = e.m or 0, to = total, status = "not ended" }
  end
  table.sort(bars, function(a, b)
    if a.from ~= b.from then
      return a.from < b.from
    end
    return #a.step < #b.step
  end)
  for _, b in ipairs(bars) do
    b.depth = select(2, b.step:gsub("/", ""))
  end
  return bars
end

-- Epoch seconds of a time in a record, or nil.
local function epoch(text)
  local ok, t = pcall(time.parse, text)
  return ok and t or nil
end

local function machine_bars(r, began, total)
  local bars = {}
  for _, m in ipairs(r.machines or {}) do
    local from = epoch(m.started) or began
    local to = epoch(m.ended)
    bars[#bars + 1] = { lane = m.id or "?", step = ("%s %s"):format(m.type or "?", m.state or ""),
      kind = "machine", depth = 0, from = math.max(0, (from - began) * 1000),
      to = to and (to - began) * 1000 or total, status = m.state }
  end
  return bars
end

local function total_of(r, events, began)
  local last = 1
  for _, e in ipairs(events) do
    last = math.max(last, e.m or 0)
  end
  local ended = epoch(r.ended)
  return math.max(last, ended and (ended - began) * 1000 or 0)
end

-- Rows from the top: lanes in the order in which they begin, one row per depth.
local function rows_of(bars)
  local lanes, by = {}, {}
  for _, b in ipairs(bars) do
    local lane = by[b.lane]
    if not lane then
      lane = { name = b.lane, depth = 0 }
      by[b.lane], lanes[#lanes + 1] = lane, lane
    end
    lane.depth = math.max(lane.depth, b.depth)
  end
  local y = 0
  for _, lane in ipairs(lanes) do
    lane.y = y
    y = y + (lane.depth + 1) * ROW + 6
  end
  return lanes, by, y
end

-- ---- drawing ----------------------------------------------------------------------------

local MARK = { failed = "✗ ", ["not ended"] = "… ", skipped = "↷ ", cancelled = "✗ " }

local function bar_svg(b, lane, scale)
  local x, w = NAMES + b.from * scale, math.max(1, (b.to - b.from) * scale)
  local y = lane.y + b.depth * ROW
  local took = hg.format.duration(math.max(0, b.to - b.from) / 1000)
  local short = (MARK[b.status] or "") .. b.step:match "[^/]*$"
  local label = cut(clean(short), w - 6)
  return ('<g class="%s%s"><title>%s: %s, %s, %s%s</title><rect x="%.1f" y="%d" width="%.1f"'
    .. ' height="%d" rx="2"/>%s</g>'):format(
    (b.kind:match "^%l+$") or "run", (b.status == "failed" or b.status == "cancelled")
      and " failed" or b.status == "skipped" and " skipped" or "",
    esc(b.lane), esc(b.step), esc(b.status or "?"), took, b.error and ": " .. esc(b.error) or "",
    x, y, w, BAR, label ~= "" and ('<text x="%.1f" y="%d">%s</text>'):format(x + 3, y + 13,
      esc(label)) or "")
end

-- Round times for the axis, some six of them.
local function ticks(total)
  local seconds = total / 1000
  for _, step in ipairs { 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600 } do
    if seconds / step <= 8 then
      return step
    end
  end
  return 86400
end

local function timeline(bars, total)
  local lanes, by, height = rows_of(bars)
  local scale, step, parts = (WIDTH - NAMES - 4) / total, ticks(total), {}
  parts[1] = ('<svg viewBox="0 0 %d %d" role="img" aria-label="time line">'):format(WIDTH,
    height + 18)
  for at = 0, total / 1000, step do
    local x = NAMES + at * 1000 * scale
    parts[#parts + 1] = ('<line class="tick" x1="%.1f" y1="0" x2="%.1f" y2="%d"/><text class="axis"'
      .. ' x="%.1f" y="%d">%s</text>'):format(x, x, height, x + 2, height + 13,
      hg.format.duration(at))
  end
  for _, lane in ipairs(lanes) do
    parts[#parts + 1] = ('<text class="lane" x="0" y="%d">%s<title>%s</title></text>'):format(
      lane.y + 13, esc(cut(clean(lane.name), NAMES - 6)), esc(lane.name))
  end
  for _, b in ipairs(bars) do
    parts[#parts + 1] = bar_svg(b, by[b.lane], scale)
  end
  parts[#parts + 1] = "</svg>"
  return table.concat(parts, "\n")
end

local function spent_at(r, began, ms)
  local usd = 0
  for _, m in ipairs(r.machines or {}) do
    local from = epoch(m.started) or began
    local to = math.min(epoch(m.ended) or math.huge, began + ms / 1000)
    usd = usd + (m.usd_per_hour or 0) * math.max(0, to - from) / 3600
  end
  return usd
end

local function cost_curve(r, began, total)
  local most = spent_at(r, began, total)
  if most <= 0 then
    return ""
  end
  local points, height = {}, 80
  for i = 0, 100 do
    points[#points + 1] = ("%.1f,%.1f"):format(NAMES + i / 100 * (WIDTH - NAMES - 4),
      height - spent_at(r, began, total * i / 100) / most * (height - 14))
  end
  return ('<h2>Cost</h2><svg viewBox="0 0 %d %d" role="img" aria-label="cost">'
    .. '<polyline class="cost" points="%s"/><text class="lane" x="0" y="20">%s</text></svg>')
    :format(WIDTH, height + 4, table.concat(points, " "), esc(hg.prices.text(most)))
end

-- ---- the page -----------------------------------------------------------------------------

local STYLE = [[
:root { color-scheme: light dark; --fg: #1c1c1c; --bg: #fff; --dim: #666; --line: #ddd;
  --run: #b9d3f0; --wait: #e3e3e3; --transfer: #cdebc8; --cleanup: #eadcf3; --machine: #f4e2bd;
  --bad: #b00020; }
@media (prefers-color-scheme: dark) { :root { --fg: #e6e6e6; --bg: #161616; --dim: #999;
  --line: #383838; --run: #27476b; --wait: #3c3c3c; --transfer: #2c5230; --cleanup: #4a3557;
  --machine: #5c4a1e; --bad: #ff6b7d; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--fg); background: var(--bg);
  max-width: 1100px; min-width: 0; margin: 0 auto; padding: 1em; overflow-wrap: anywhere; }
h1 { font-size: 1.4em; margin: 0 0 .4em } h2 { font-size: 1.1em; margin: 1.4em 0 .4em }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15em .8em .15em 0;
  vertical-align: top } th { color: var(--dim); font-weight: normal }
svg { width: 100%; height: auto; display: block } svg text { font-size: 11px; fill: var(--fg) }
svg .axis, svg .lane { fill: var(--dim) } .tick { stroke: var(--line) }
rect { fill: var(--run) } .wait rect { fill: var(--wait) } .transfer rect { fill: var(--transfer) }
.cleanup rect { fill: var(--cleanup) } .machine rect { fill: var(--machine) }
.failed rect { stroke: var(--bad); stroke-width: 2 } .skipped rect { opacity: .5 }
.cost { fill: none; stroke: var(--fg); stroke-width: 1.5 } .bad { color: var(--bad) }
pre { overflow-x: auto; font-size: 12px; border-left: 3px solid var(--line); padding-left: .8em }
summary { cursor: pointer }
]]

local function row(name, value)
  return value ~= nil and value ~= "" and ("<tr><th>%s</th><td>%s</td></tr>"):format(esc(name),
    esc(value)) or ""
end

local function grid(title, head, rows)
  if #rows == 0 then
    return ""
  end
  local parts = { ("<h2>%s</h2><table><tr><th>%s</th></tr>"):format(esc(title),
    table.concat(head, "</th><th>")) }
  for _, cells in ipairs(rows) do
    local list = {}
    for i, cell in ipairs(cells) do
      list[i] = "<td>" .. esc(cell) .. "</td>"
    end
    parts[#parts + 1] = "<tr>" .. table.concat(list) .. "</tr>"
  end
  parts[#parts + 1] = "</table>"
  return table.concat(parts, "\n")
end

-- The last lines of a part of the log.
local function tail(log, range, most)
  local text = log:sub(range[1] + 1, range[1] + range[2])
  local at, n = #text, 0
  while at > 0 do
    if text:byte(at) == 10 and at < #text then
      n = n + 1
      if n == most then
        return text:sub(at + 1)
      end
    end
    at = at - 1
  end
  return text
end

local function log_tails(bars, log)
  local parts = {}
  for _, b in ipairs(bars) do
    if b.log and (b.log[2] or 0) > 0 then
      local failed = b.status == "failed"
      parts[#parts + 1] = ("<details%s><summary>%s: %s%s</summary><pre>%s</pre></details>"):format(
        failed and ' open="open"' or "", esc(b.lane), MARK[b.status] or "", esc(b.step),
        esc(tail(log, b.log, failed and FAILED_TAIL or TAIL)))
    end
  end
  return #parts > 0 and "<h2>Log</h2>\n" .. table.concat(parts, "\n") or ""
end

local function header(r, id)
  local status = r.status .. (r.exit and (", exit %d"):format(r.exit) or "")
  local rows = { row("run", id), row("status", status), row("started", r.started
    and time.local_text(time.parse(r.started), "%Y-%m-%d %H:%M:%S %z")),
    row("took", hg.runs.took(r)), row("region", r.region), row("cost", r.usd and r.usd > 0
      and hg.prices.text(r.usd) or nil), row("resumed from", r.resumed_from),
    row("version", r.version) }
  for _, o in ipairs(r.open or {}) do
    rows[#rows + 1] = row("may still cost money", ("%s %s"):format(o.kind, o.id or "?"))
  end
  return ("<h1>%s</h1><table>%s</table>"):format(esc(r.task or "?"), table.concat(rows, "\n"))
end

local function failure(r)
  if not r.error then
    return ""
  end
  local e = r.error
  return ('<h2>Failure</h2><p class="bad">✗ %s%s</p>%s'):format(
    e.step and esc(e.step) .. ": " or "", esc(e.message or "?"),
    e.hint and "<p>" .. esc(e.hint) .. "</p>" or "")
end

local function tables(r, bars)
  local machines, steps, artifacts = {}, {}, {}
  for i, m in ipairs(r.machines or {}) do
    machines[i] = { m.id or "?", m.type or "", m.address or "", m.state or "", m.usd_per_hour
      and ("USD %.4f/h"):format(m.usd_per_hour) or "" }
  end
  for i, b in ipairs(bars) do
    steps[i] = { b.lane, (MARK[b.status] or "") .. b.step, b.status or "?",
      hg.format.duration(math.max(0, b.to - b.from) / 1000) }
  end
  for i, a in ipairs(r.artifacts or {}) do
    artifacts[i] = { a.name or "?", hg.format.bytes(a.size or 0), a.sha256 or "" }
  end
  return grid("Machines", { "id", "type", "address", "state", "price" }, machines)
    .. grid("Steps", { "lane", "step", "status", "took" }, steps)
    .. grid("Artifacts", { "name", "size", "SHA-256" }, artifacts)
end

--- The page of a run.
-- @param id string
-- @return string HTML that is XML, too
function M.html(id)
  local dir, r = hg.runs.dir(id), hg.runs.read(id)
  local events = hg.events.read(dir)
  local log = fs.exists(dir .. "/log.txt") and fs.read(dir .. "/log.txt") or ""
  local began = epoch(r.started) or 0
  local total = total_of(r, events, began)
  local bars = bars_of(events, total)
  local all = table.move(bars, 1, #bars, 1, {})
  table.move(machine_bars(r, began, total), 1, #(r.machines or {}), #all + 1, all)
  return table.concat({
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>',
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src'
      .. ' \'unsafe-inline\'"/>',
    '<meta name="viewport" content="width=device-width"/>',
    ("<title>%s %s</title><style>%s</style></head><body>"):format(esc(r.task or "?"), esc(id),
      STYLE),
    header(r, id), failure(r),
    #all > 0 and "<h2>Time line</h2>" .. timeline(all, total) or "",
    cost_curve(r, began, total), tables(r, bars), log_tails(bars, log),
    "</body></html>\n",
  }, "\n")
end

-- ---- the command ----------------------------------------------------------------------------

-- The last lines of the step that failed.
local function print_failure(id)
  local log = fs.exists(hg.runs.dir(id) .. "/log.txt") and fs.read(hg.runs.dir(id) .. "/log.txt")
  for _, e in ipairs(log and hg.events.read(hg.runs.dir(id)) or {}) do
    if e.ev == "step.end" and e.status == "failed" and e.log then
      for line in tail(log, e.log, 15):gmatch "[^\n]+" do
        out.result(require("hgauto.term").filter("  | " .. line))
      end
      return
    end
  end
end

local function show(path)
  local proc = require "hgauto.proc"
  if not proc.which "xdg-open" then
    hg.fail { kind = "io", message = "report --open: xdg-open is missing", hint = "open " .. path }
  end
  proc.run { "xdg-open", path }
end

--- `hgauto report`.
-- @param args table run html open
-- @param opts table global options
-- @return integer exit code
-- @waits
function M.main(args, opts)
  require("hg.cli.env").open_state(opts)
  session.ledger = session.state:ledger()
  local id = hg.runs.find(args.run, "report")
  if not args.html and not args.open then
    hg.runs.show(id)
    print_failure(id)
    return 0
  end
  local path = args.html or hg.runs.dir(id) .. "/report.html"
  fs.write(path, M.html(id), { mode = 384 })
  out.result(path)
  if args.open then
    show(path)
  end
  return 0
end

return M
