--- For tests of task libraries: a state directory, runs, an api-only local cloud,
--- all in this process.
local aws = require "hgauto.aws"
local client = require "localcloud.client"
local hg = require "hg"
local session = require "hg.session"
local t = require "hg.tap"

local M = {}

--- A state directory as the one of this process.
-- @return table state handle
function M.state()
  session.state = require("hgauto.state").open(t.tmpdir() .. "/state", { create = true })
  session.ledger, session.place = session.state:ledger(), nil
  session.task, session.region = "test", "us-west-2"
  return session.state
end

--- Starts an api-only local cloud for the state directory; clients use it.
-- @return table client of ec2
-- @return table connection
function M.cloud()
  local cloud = client.ensure { state = session.state.path, api_only = true,
    listen = "127.0.0.1:0" }
  session.local_cloud = cloud
  aws.defaults {
    region = cloud.region, endpoint_url = cloud.endpoint_url,
    credentials = { access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key },
  }
  return aws.client "ec2", cloud
end

--- Begins a run; creating calls belong to it from now on.
-- @return table run handle
function M.run()
  local run = session.state:run "test"
  session.run = run
  session.ledger:begin_run(run.id, "test")
  hg.ledger.attach(session)
  return run
end

--- Catches what is told from now on.
-- @return table {lines of results, notes and warnings}; its text() joins them
function M.listen()
  local said = {}
  for _, name in ipairs { "result", "note", "warn" } do
    hg.output[name] = function(text)
      said[#said + 1] = name == "warn" and "warning: " .. text or text
    end
  end
  function said.text()
    return table.concat(said, "\n")
  end
  function said.clear()
    for i = #said, 1, -1 do
      said[i] = nil
    end
  end
  return said
end

--- Stops the local cloud and removes what was made.
function M.stop()
  client.stop { state = session.state.path }
end

--- Whether a program is there; else the file is skipped.
-- @param name string
function M.need(name)
  if not require("hgauto.proc").which(name) then
    t.skip(("%s is missing (apt install mercurial)"):format(name))
  end
end

return M
