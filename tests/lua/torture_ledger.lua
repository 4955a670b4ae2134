-- A few points of what tests/torture/ledger.lua does to the ledger.
local t = require "hg.tap"

for _, kind in ipairs { "ledger_power", "ledger_syscall", "ledger_share", "ledger_living",
  "ledger_damage", "deadline" } do
  t.test(kind, function()
    dofile(("tests/torture/%s.lua"):format(kind)) { level = "quick", seed = 1,
      dir = t.tmpdir() }
  end)
end
return t.done()
