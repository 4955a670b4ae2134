-- A task that keeps a machine and then is killed.
local hg = require "hg"

return hg.task {
  help = "Keep a machine and die.",
  run = function()
    local m = hg.machines.linux { allow_cidr = { "127.0.0.1/32" } }
    m:keep()
    require("hgauto.proc").run { "kill", "-9", tostring(require("hgauto.host").pid()) }
  end,
}
