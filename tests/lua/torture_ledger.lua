-- A few points of what tests/torture/ledger.lua does to the ledger.
local t = require "hg.tap"

for _, kind in ipairs { "power", "syscall", "share", "living", "damage" } do
  t.test(kind, function()
    dofile(("tests/torture/ledger_%s.lua"):format(kind)) { level = "quick", seed = 1,
      dir = t.tmpdir() }
  end)
end
return t.done()
