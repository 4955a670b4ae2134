--- Machines: `hg.machines.linux{…}` returns one that is ready for commands.
--
-- Every machine ends with its scope: closing terminates it and confirms that.
-- `m:keep()` takes it out of that.
local M = {}

--- A temporary Linux machine, reachable and trusted.
-- @param o table distro= instance_type= max_age= label= image= base_image= allow_owner=
--   allow_cidr= subnet= root_gb= volume=
-- @return table machine (hg.machines.linux)
-- @raise what launching or logging in raises; nothing is left then
-- @waits
-- @example local m <close> = hg.machines.linux { distro = "debian13" }
function M.linux(o)
  return require("hg.machines.linux").new(o)
end

--- A temporary Windows machine, armed and trusted.
-- @param o table os= instance_type= max_age= label= allow_cidr= subnet= root_gb=
--   image=from hg.winimage.choose base_image=
-- @return table machine (hg.machines.windows)
-- @raise what launching or logging in raises; nothing is left then
-- @waits
-- @example local m <close> = hg.machines.windows { os = "windows2022" }
function M.windows(o)
  return require("hg.machines.windows").new(o)
end

return M
