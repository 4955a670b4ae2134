-- The ledger under what disks, other processes and damage do to it; peers that do not
-- end; many operations in one process;
-- `make torture T=…` runs it with full counts, CI=1 with fewer.
--
-- Environment: T=kind,… of KINDS (default all), SEED=n (default 1).
local host = require "hgauto.host"
local t = require "hg.tap"

local KINDS = { "power", "syscall", "share", "living", "damage", "deadline", "soak" }
local FILES = { deadline = "deadline", soak = "soak" }

local function setting(name, default)
  local v = host.getenv(name)
  return v and v ~= "" and v or default
end

local wanted = "," .. setting("T", table.concat(KINDS, ",")) .. ","
local seed = math.tointeger(tonumber(setting("SEED", "1")))
if not seed then
  error(("SEED=%s: a whole number"):format(host.getenv "SEED"), 0)
end
for _, kind in ipairs(KINDS) do
  if wanted:find("," .. kind .. ",", 1, true) then
    t.test(kind, function()
      dofile(("tests/torture/%s.lua"):format(FILES[kind] or "ledger_" .. kind)) {
        level = setting "CI" and "ci" or "full", seed = seed, dir = t.tmpdir() }
    end)
  end
end
t.diag("seed %d", seed)
return t.done()
