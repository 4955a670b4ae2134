-- A task that reboots a Windows machine.
local hg = require "hg"

return hg.task {
  help = "Reboot a Windows machine.",
  run = function()
    local m <close> = hg.machines.windows { allow_cidr = { "127.0.0.1/32" } }
    m:mkdir "C:\\hgwork"
    local first = m:reboot()
    local second = m:reboot()
    hg.output.result(first.boot_time)
    hg.output.result(second.boot_time)
    hg.output.result(tostring(m:exists "C:\\hgwork"))
  end,
}
