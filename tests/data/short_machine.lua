-- A task whose machine lives for a minute, and that is killed before.
local hg = require "hg"

return hg.task {
  help = "Launch a machine for a minute and die.",
  run = function()
    local m = hg.machines.linux { max_age = 60 }
    hg.output.note(("expires %d"):format(m.expires))
    require("hgauto.proc").run { "kill", "-9", tostring(require("hgauto.host").pid()) }
  end,
}
