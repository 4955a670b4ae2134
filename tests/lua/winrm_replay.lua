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
local text = fs.read(dir .. "/ops.json")
local all = json.decode(text)
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
-- The tests of the tests: a changed request and a tampered expectation are noticed.
local function change_request(ops)
  for _, op in ipairs(ops.ops) do
    if op.op == "command" then
      op.command = op.command .. "x"
      return true
    elseif op.op == "invoke" and op.statements then
      local cmd = op.statements[1][1]
      cmd.cmd = cmd.cmd .. " "
      return true
    end
  end
  return false
end

local function change_answer(ops)
  for _, e in ipairs(ops.expect) do
    if e.streams and e.streams.stdout then
      e.streams.stdout = e.streams.stdout .. "x"
      return true
    elseif e.psrp and e.psrp[1] then
      e.psrp[1].type = "PIPELINE_INPUT"
      return true
    end
  end
  return false
end

for what, change in pairs { ["a changed command"] = change_request,
  ["a tampered expectation"] = change_answer } do
  t.test(what .. " fails", function()
    local caught, tried, missed = 0, 0, {}
    for _, name in ipairs(names) do
      local fresh = json.decode(text)[name]
      if not NOT_YET[name] and change(fresh) then
        tried = tried + 1
        local case = json.decode(fs.read(dir .. "/" .. name .. ".json"))
        if replay.run(server, case, fresh) then
          caught = caught + 1
        else
          missed[#missed + 1] = name
        end
      end
    end
    t.is({ caught, missed }, { tried, {} }, ("%s is caught in %d cases"):format(what, tried))
  end)
end
t.diag(("winrm %d/%d"):format(passed, #names))
server.http:close()
return t.done()
