--- The commands `hgauto state ledger ...`.
local hg = require "hg"
local session = require "hg.session"
local arg = hg.arg

local M = { name = "state", commands = {}, help = "What this state directory knows and holds." }

local function command(c)
  M.commands[#M.commands + 1] = c
end

local function out(fmt, ...)
  require("hgauto.term").out(fmt:format(...) .. "\n")
end

local function ledger(args)
  require("hg.cli.env").open_state(args)
  session.ledger = session.state:ledger()
  return session.ledger
end

local function place_text(row)
  return ("%s %s%s"):format(row.account or "?", row.region or "?",
    (row.endpoint or "") ~= "" and " " .. row.endpoint or "")
end

command { name = "ledger dump", help = "every entry of the ledger", args = {
    arg.enum { name = "output", short = "o", "table", "json", default = "table", help = "form" },
  }, example = "hgauto state ledger dump -o json",
  run = function(args)
    local rows = ledger(args):list {}
    if args.output == "json" then
      local doc = setmetatable({}, { __jsontype = "object" })
      for _, row in ipairs(rows) do
        doc[row.op] = { state = row.state, kind = row.kind, id = row.id, run = row.run,
          cls = row.cls, place = place_text(row) }
      end
      out("%s", #rows == 0 and "{}" or require("hgauto.json").encode(doc, { indent = 2 }))
      return 0
    end
    local lines = { { "OP", "KIND", "CLASS", "STATE", "ID", "RUN", "PLACE" } }
    for _, row in ipairs(rows) do
      lines[#lines + 1] = { row.op, row.kind, row.cls, row.state, row.id or "-", row.run or "-",
        place_text(row) }
    end
    hg.runs.print_table(lines)
    return 0
  end }

command { name = "ledger check", help = "whether the file and every entry are sound", args = {},
  run = function(args)
    local n = ledger(args):check()
    out("%d entries, %d open, %d damaged", n.ops, n.open, n.bad)
    return n.bad == 0 and 0 or 1
  end }

command { name = "ledger rebuild", help = "make the file anew from what can be read", args = {},
  run = function(args)
    local led = ledger(args)
    led:rebuild()
    local n = led:check()
    out("%d entries, %d open", n.ops, n.open)
    return 0
  end }

command { name = "ledger forget", help = "drop entries of a place, or one, without a look-up",
  args = {
    arg.string { name = "op", positional = true, help = "one entry" },
    arg.string { name = "endpoint", metavar = "URL", help = "all entries of that endpoint" },
    arg.flag { name = "yes", help = "do it; otherwise they are listed" },
  }, example = "hgauto state ledger forget --endpoint http://127.0.0.1:4566 --yes",
  run = function(args)
    if (args.op == nil) == (args.endpoint == nil) then
      hg.fail { kind = "usage", message = "forget: give one entry or --endpoint URL" }
    end
    local led, n = ledger(args), 0
    for _, row in ipairs(led:list { states = { "intent", "unknown", "live", "kept",
      "deleting" } }) do
      if row.op == args.op or (args.endpoint and row.endpoint == args.endpoint) then
        n = n + 1
        out("%s  %s", hg.gc.line(hg.gc.from_row(row)), row.state)
      end
    end
    if n == 0 then
      hg.fail { kind = "usage", message = "forget: there is no such open entry",
        hint = "hgauto state ledger dump" }
    elseif not args.yes then
      hg.fail { kind = "usage", hint = "--yes",
        message = ("forget: nothing would look for %s any more"):format(
          n == 1 and "it" or "these " .. n) }
    end
    if args.op then
      led:forget_op(args.op)
    else
      led:forget(args.endpoint)
    end
    out("%d forgotten", n)
    return 0
  end }

return M
