--- The guard: a process that outlives a host that was killed, and cleans up.
--
-- Started before the first ephemeral thing is asked for; learns what it needs
-- over a pipe whose other end only the host holds.  The pipe's end without the
-- words "done" means that the host is dead: then it does what `hgauto gc RUN`
-- does, but for what was kept on purpose (reliability specification, 2.11).
local async = require "hgauto.async"
local host = require "hgauto.host"
local json = require "hgauto.json"
local session = require "hg.session"
local time = require "hgauto.time"

local M = {}

-- Seconds until what was still on its way has arrived.
local AGAIN = 20
-- How long the kernel may take to end a dead process's lock.
local DYING = 10

-- ---- the host's side -----------------------------------------------------------------

local guard

-- Secrets travel over the pipe alone.
local HIDDEN = { AWS_ACCESS_KEY_ID = false, AWS_SECRET_ACCESS_KEY = false,
  AWS_SESSION_TOKEN = false }

local function spawn(run)
  local fs = require "hgauto.fs"
  local exe = fs.readlink "/proc/self/exe"
  return require("hgauto.proc").spawn({ "sh", "-c", 'exec "$@" >>"$0" 2>&1',
    run.dir .. "/guard.log", exe:match(" %(deleted%)$") and ("/proc/%d/exe"):format(host.pid())
      or exe, "--state-path", session.state.path, "__guard", run.id },
    { stdin = true, stdout = "null", stderr = "null", cwd = "/", env = HIDDEN, timeout = 0,
      session = true })
end

-- Where the run's things are and who may end them.
local function tell()
  local line = { region = session.region, profile = session.profile,
    endpoint_url = session.endpoint_url, is_local = session.local_cloud ~= nil }
  local aws = require "hgauto.aws"
  local who = aws.credentials {}
  if guard.told == who.access_key_id then
    return
  end
  line.expires = who.expires
  guard.process:write(json.encode(line) .. "\n")
  if not session.local_cloud then
    guard.process:write(aws.hand_over {})
    guard.process:write "\n"
  end
  guard.told = who.access_key_id
end

--- Starts the guard of the current run, or tells it of new credentials.
-- A run goes on without one.
-- @waits
function M.start()
  local run = session.run
  if host.getenv "HGAUTO_GUARD" == "0" or not run then
    return
  end
  local ok, err = pcall(function()
    if not guard or guard.run ~= run.id then
      guard = { run = run.id, process = spawn(run) }
      guard.process:keep()
    end
    tell()
  end)
  if not ok then
    if type(err) == "table" and err.kind == "cancelled" then
      error(err, 0)
    end
    require("hg.output").debug("no guard: " .. tostring(err))
  end
end

--- The run is over and has looked after its things.
function M.done()
  if guard then
    local g = guard
    guard = nil
    pcall(async.shield, 5, function()
      g.process:write '{"done":true}\n'
      g.process:close_stdin()
      g.process:wait()
    end)
  end
end

-- ---- the guard's side ----------------------------------------------------------------

-- What the host said last; nil when it was done.
local function listen()
  local reader <close> = require("hgauto.readline").open { edit = false }
  local last = {}
  while true do
    local text = reader:read()
    if not text then
      return last
    end
    local ok, line = pcall(json.decode, text)
    if ok and line.done then
      return nil
    elseif ok and line.access_key_id then
      last.credentials = line
    elseif ok then
      last = line
    end
  end
end

local function become(said, opts)
  opts.region, opts.profile, opts.endpoint_url = said.region, said.profile, said.endpoint_url
  opts["local"] = said.is_local or nil
  local over = said.expires and said.expires < time.now() + 60
  if said.credentials and not over then
    -- With others the chain of the host is asked, as it would have been.
    require("hgauto.aws").defaults { credentials = said.credentials }
  end
end

-- Instances of a local cloud end with its daemon; nobody wants it back for that.
local function nothing_there(opts)
  return opts["local"]
    and not require("localcloud.client").status { state = session.state.path }
end

local function collect(run, opts)
  if nothing_there(opts) then
    return
  end
  local ok, err = pcall(require("hg.gc").main, { run = run, no_wait = true, spare_kept = true },
    opts)
  if not ok then
    require("hg.output").warn(tostring(err))
  end
end

--- `hgauto __guard RUN`.
-- @param args table run
-- @param opts table global options
-- @return integer exit code
-- @waits
function M.main(args, opts)
  local said = listen()
  if not said then
    return 0
  end
  require("hg.cli.env").open_state(opts)
  local limit = time.mono() + DYING
  while session.state:run_alive(args.run) and time.mono() < limit do
    async.sleep(0.05)
  end
  become(said, opts)
  collect(args.run, opts)
  -- The state directory may go with a local cloud that is taken down.
  if nothing_there(opts) then
    return 0
  end
  async.sleep(AGAIN)
  collect(args.run, opts)
  return 0
end

return M
