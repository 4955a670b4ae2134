--- Prepares a process for AWS work: state directory, region, local cloud,
--- ledger.  Nothing here runs for help, list, version.
local session = require "hg.session"

local M = {}

--- The state directory that the options and the environment name.
-- @param opts table global options
-- @return string absolute path
function M.state_path(opts)
  if opts.state_path then
    return opts.state_path
  end
  return require("hgauto.fs").home() .. "/.hgautomation"
end

--- Opens the state directory (once).
-- @param opts table global options
-- @return table hgauto.state handle
-- @raise auth it is not ours or open to others
function M.open_state(opts)
  if not session.state then
    local ok, st = pcall(require("hgauto.state").open, M.state_path(opts), { create = true })
    if not ok then
      if type(st) == "table" and st.kind ~= "cancelled" and st.kind ~= "bug" then
        st.exit, st.hint = 3, st.hint or "--state-path DIR"
      end
      error(st, 0)
    end
    session.state = st
  end
  return session.state
end

local function use_local(opts)
  local out = require "hg.output"
  local cloud = require("localcloud.client").ensure {
    state = session.state.path,
    progress = function(text)
      out.note(text)
    end,
  }
  session.local_cloud = cloud
  require("hgauto.http").local_only(true)
  require("hgauto.aws").defaults {
    endpoint_url = cloud.endpoint_url,
    region = opts.region or cloud.region,
    credentials = {
      access_key_id = cloud.access_key_id,
      secret_access_key = cloud.secret_access_key,
    },
    only_endpoint = true, patient = true,
  }
  session.region = opts.region or cloud.region
end

-- A wrong --endpoint-url is a mistake of the command line, not of the task.
local function check_endpoint(aws)
  local ok, err = pcall(function()
    return aws.client("ec2").meta
  end)
  if not ok then
    if type(err) == "table" and err.message then
      err.message = err.message:gsub("^argument: ", "--endpoint-url: ")
    end
    error(err, 0)
  end
end

local function use_aws(opts)
  local aws = require "hgauto.aws"
  local region = opts.region
  if not region then
    local setting = aws.config({ profile = opts.profile }).region
    region = setting and setting.value
  end
  if not region then
    region = "us-west-2"
    require("hg.output").debug("no region configured: us-west-2")
  end
  aws.defaults { region = region, profile = opts.profile, endpoint_url = opts.endpoint_url,
    patient = true }
  if opts.endpoint_url then
    check_endpoint(aws)
  end
  session.region = region
end

--- Sets region, credentials and endpoint for this process.
-- @param opts table global and run options
-- @waits with --local: until the local cloud answers
function M.use_cloud(opts)
  M.open_state(opts)
  session.profile, session.endpoint_url = opts.profile, opts.endpoint_url
  require("hgauto.aws").model_cache(session.state.path .. "/cache/models")
  if opts["local"] then
    use_local(opts)
  else
    use_aws(opts)
  end
end

--- Starts a run: its lock, record and ledger; creating calls pass the gate from now on.
-- @param name string task
-- @return table run handle
function M.begin_run(name)
  local st = session.state
  local run = st:run(name)
  session.run = run
  session.ledger = st:ledger()
  session.ledger:begin_run(run.id, name)
  require("hg.ledger").attach(session)
  return run
end

--- One line about runs that died and left something, if any.
function M.tell_dead_runs()
  local dead = require("hg.ledger").dead_runs(session)
  if #dead == 0 then
    return
  end
  local command = "hgauto gc" .. (#dead == 1 and (" " .. dead[1]) or "")
    .. (session.local_cloud and " --local" or "")
  local text = #dead == 1 and ("run " .. dead[1]) or ("%d runs (%s)"):format(#dead,
    table.concat(dead, ", ", 1, math.min(3, #dead)) .. (#dead > 3 and ", …" or ""))
  require("hg.output").note(("%s left something behind: %s"):format(text, command))
end

return M
