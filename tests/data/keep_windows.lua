-- A task that keeps a Windows machine.
local hg = require "hg"

return hg.task {
  help = "Keep a Windows machine.",
  run = function()
    local m = hg.machines.windows { allow_cidr = { "127.0.0.1/32" } }
    m:keep()
    hg.output.result(m.id)
  end,
}
