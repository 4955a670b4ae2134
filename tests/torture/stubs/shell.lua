--- The task shell as it is, told that it has a terminal: sweeps run without one.
local host = require "hgauto.host"
local term = require "hgauto.term"

local isatty = term.isatty
term.isatty = function(fd)
  return fd == 0 or fd == 1 or isatty(fd)
end

return assert(loadfile(host.getenv "HGAUTO_SWEEP_SCRIPTS" .. "/shell.lua"))()
