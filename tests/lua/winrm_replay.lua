-- hgauto.winrm against exchanges recorded from real Windows hosts: every case there is.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local replay = dofile("tests/lib/winrm_replay.lua")
local t = require "hg.tap"

-- What these four need is not built: a session key, counts of runspaces, disconnecting.
local NOT_YET = {
  psrp_disconnect_runspaces = "disconnecting", psrp_multiple_commands = "a session key",
  psrp_reset_runspace_state = "resetting a runspace", psrp_set_runspaces = "counts of runspaces",
}

local dir = (host.getenv("HGAUTO_VECTORS") or "../shared/vectors") .. "/winrm"
if not fs.exists(dir .. "/ops.json") then
  t.skip("no recorded exchanges: set HGAUTO_VECTORS")
  return
end
local all = json.decode(fs.read(dir .. "/ops.json"))
local names = {}
for name in pairs(all) do
  if fs.exists(dir .. "/" .. name .. ".json") then
    names[#names + 1] = name
  end
end
table.sort(names)
local server = replay.server()
local passed = 0
for _, name in ipairs(names) do
  t.test(name, function()
    local case = json.decode(fs.read(dir .. "/" .. name .. ".json"))
    local why = replay.run(server, case, all[name])
    if not why then
      passed = passed + 1
    elseif NOT_YET[name] then
      t.skip("needs " .. NOT_YET[name])
    end
    t.is(why, nil, name)
  end)
end
t.diag(("winrm %d/%d"):format(passed, #names))
server.http:close()
return t.done()
