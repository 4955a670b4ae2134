--- Sweeps over the AWS requests of a task: its process ends at a chosen request.
--
-- Task processes talk to an api-only local cloud through a relay of ours, which
-- counts their requests and ends or interrupts them before a request has an
-- effect, after the effect but without an answer, or just after the answer; or
-- at a piece of remote work, of which stubs/lib/hg/remote_note.lua tells it.
-- What exists is read from the cloud's database, never through our client.
local async = require "hgauto.async"
local client = require "localcloud.client"
local faults = dofile "tests/lib/sweep_faults.lua"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local http = require "hgauto.http"
local json = require "hgauto.json"
local proc = require "hgauto.proc"
local time = require "hgauto.time"

-- seed: which storms, which of each stride's points, how long after an answer.
local M = { faults = faults, seed = 1 }

local Rig = {}
Rig.__index = Rig

-- Where a request may be cut.
M.MOMENTS = { "before", "after", "sent" }

--- Words of the tasks that can be swept, by name.
M.TASKS = {
  ["build-linux"] = { "wheel", "--allow-cidr", "127.0.0.1/32", "--dist-path", "@dist" },
  ["run-tests-linux"] = { "--allow-cidr", "127.0.0.1/32", "--results-path", "@results", "--shards",
    "2", "--image", "base" },
  ["bootstrap-linux-dev"] = { "--allow-cidr", "127.0.0.1/32", "--distros", "debian13" },
  ["terminate-ec2-instances"] = {},
  ["purge-ec2-resources"] = {},
  status = {},
  try = {},
  shell = { "--allow-cidr", "127.0.0.1/32" },
  ["bootstrap-windows-dev"] = { "--allow-cidr", "127.0.0.1/32" },
  ["build-windows-wheel"] = { "--allow-cidr", "127.0.0.1/32", "--dist-path", "@dist" },
  ["build-inno"] = { "--allow-cidr", "127.0.0.1/32", "--dist-path", "@dist", "--image", "base" },
  ["build-wix"] = { "--allow-cidr", "127.0.0.1/32", "--dist-path", "@dist", "--image", "base" },
  ["build-all-windows-packages"] = { "--allow-cidr", "127.0.0.1/32", "--dist-path", "@dist",
    "--image", "base" },
  ["run-tests-windows"] = { "--allow-cidr", "127.0.0.1/32", "--results-path", "@results",
    "--shards", "2", "--image", "base" },
}

-- Tasks that need something to be there.
local NEEDS_OBJECTS = { ["terminate-ec2-instances"] = true, ["purge-ec2-resources"] = true,
  status = true }

-- A hung process is one that is still there after this.  Each durable record is
-- an fsync, and on a disk that is busy with other work some take seconds.
local HUNG = 180

-- ---- the relay ----

-- What a repeat is told whose first try had an effect nobody heard of: none of it means
-- that the first one did nothing.
local REFUSAL = "<Response><Errors><Error><Code>%s</Code><Message>no</Message>"
  .. "</Error></Errors><RequestID>r</RequestID></Response>"
local REFUSALS = { expired = { 400, "RequestExpired" }, denied = { 403, "UnauthorizedOperation" },
  auth = { 401, "AuthFailure" }, limit = { 400, "InstanceLimitExceeded" },
  parameter = { 400, "InvalidParameterValue" } }
M.REFUSALS = { "expired", "denied", "auth", "limit", "parameter" }

local function action_of(req)
  return req.body:match("^Action=(%w+)") or req.body:match("&Action=(%w+)")
    or (req.headers["x-amz-target"] or ""):match("%.(%w+)$") or req.method
end

-- Between two presses of Ctrl-C; quicker ones count once.
local PAUSE = 0.7

local function act(rig, cut)
  cut.done = true
  if cut.signal then
    cut.process:kill(cut.signal)
  end
  rig.stalled = cut.presses ~= nil
end

-- Presses again, as often as is wanted, while the process is there.
local function press_on(cut)
  while not cut.done do
    async.sleep(0.02)
  end
  for _ = 2, cut.presses do
    async.sleep(PAUSE)
    cut.last_press = time.mono()
    cut.process:kill(cut.signal)
  end
end

-- A service that has stopped answering, until who asks goes or it is over.
local function hang(rig, req)
  while rig.stalled and not req:gone() do
    async.sleep(0.02)
  end
  req:abort "fin"
end

-- A process tells that it is about to work on a machine.
local function remote_work(rig, req, what)
  local n, cut = #rig.remote + 1, rig.cut
  rig.remote[n] = what
  if cut and not cut.done and cut.remote == n then
    act(rig, cut)
    if cut.signal == "KILL" then
      return req:abort "rst"
    end
  end
  req:respond { status = 200, body = "" }
end

local function relay(rig, req)
  local what = req.target:match "^/_remote/(.*)"
  if what then
    return remote_work(rig, req, what)
  end
  rig.n = rig.n + 1
  local n, action, cut = rig.n, action_of(req), rig.cut
  local entry = { action = action, body = req.body }
  rig.journal[n] = entry
  if rig.stalled then
    return hang(rig, req)
  end
  local fate = rig.refuse and rig.refuse(entry)
  if REFUSALS[fate] then
    local status, code = table.unpack(REFUSALS[fate])
    return req:respond { status = status, headers = { ["Content-Type"] = "text/xml" },
      body = REFUSAL:format(code) }
  end
  local function forward()
    return http.request { method = req.method, url = rig.cloud.endpoint_url .. req.target,
      headers = faults.end_to_end(req.raw_headers), body = req.body, fresh = true }
  end
  local fault = rig.fault
  if fault and fault.n == n then
    return faults.kind(fault.kind)[2](req, forward)
  end
  local due = cut and not cut.done and (cut.n == n or cut.action == action)
  if due and cut.when == "before" then
    act(rig, cut)
    if cut.signal == "KILL" then
      return req:abort("rst")
    end
  end
  local r = forward()
  if due and cut.when == "after" then
    act(rig, cut)
  end
  if fate == "lose" or due and cut.when == "after" and cut.signal == "KILL" then
    return req:abort("rst")
  end
  req:respond { status = r.status, headers = faults.end_to_end(r.raw_headers),
    body = rig.edit and rig.edit(r.body) or r.body }
  entry.status = r.status
  if due and cut.when == "sent" then
    async.spawn(function()
      -- From "not read yet" to "recorded and gone on"; another instant for each seed.
      async.sleep((n * 13 + (M.seed - 1) * 29) % 41 / 4000)
      act(rig, cut)
    end)
  end
end

-- ---- the rig ----

--- A cloud and a relay; close() stops both.
-- @param dir string directory for everything
-- @return table
-- @waits
function M.new(dir)
  local rig = setmetatable({ dir = dir, n = 0, journal = {}, remote = {}, states = 0 }, Rig)
  rig.cloud_state = dir .. "/cloud"
  fs.mkdir(rig.cloud_state, { parents = true, mode = 448 })
  rig:start_cloud()
  rig.server = require("hgauto.httpd").new { on_request = function(req)
    relay(rig, req)
  end }
  rig.url = ("http://127.0.0.1:%d"):format(rig.server:listen {})
  return rig
end

function Rig:start_cloud()
  self.cloud = client.ensure { state = self.cloud_state, api_only = true, listen = "127.0.0.1:0",
    delays = "pending=0.01,stopping=0.01,shutting-down=0.01", idle = "1h" }
end

--- Begins anew with an empty cloud.
-- @waits
function Rig:wipe()
  client.stop { state = self.cloud_state }
  require("localcloud.reaper").wipe(client.dir(self.cloud_state))
  self:start_cloud()
end

--- Ends both; repeatable, and to be called before the test's files go.
function Rig:close()
  if not self.closed then
    self.closed = true
    self.server:close()
    -- After an interrupt, too.
    async.shield(60, client.stop, { state = self.cloud_state })
  end
end

--- A new state directory.
-- @return string
function Rig:state()
  self.states = self.states + 1
  local state = ("%s/state%d"):format(self.dir, self.states)
  fs.mkdir(state, { mode = 448 })
  return state
end

local function environment(rig, more)
  local source = host.getenv "HGAUTO_TEST_SOURCE"
  local env = {
    AWS_ACCESS_KEY_ID = rig.cloud.access_key_id,
    AWS_SECRET_ACCESS_KEY = rig.cloud.secret_access_key,
    -- Another directory has the stubs over scripts that are not built yet.
    HGAUTO_SCRIPTS = source or fs.realpath "tests/torture/stubs",
    HGAUTO_SWEEP_SCRIPTS = source or fs.realpath "scripts",
    HGAUTO_SWEEP_CLOUD = rig.cloud.endpoint_url, HGAUTO_SWEEP_RELAY = rig.url,
    HGAUTO_GC_GRACE = "0.3", HGAUTO_POLL_MIN = "0.02", HGAUTO_GUARD = "0",
    HGAUTO_READ_TIMEOUT = "5",
    AWS_EC2_METADATA_DISABLED = "true", HOME = rig.dir, AWS_REGION = "us-west-2",
  }
  for k, v in pairs(more or {}) do
    env[k] = v
  end
  return env
end

Rig.__close = Rig.close

--- Starts the program under test against the relay.
-- @param state string state directory
-- @param words string[] "@name" is a path in the rig's directory
-- @param[opt] env table more variables
-- @return table process
function Rig:start(state, words, env)
  local argv = { M.program, "--state-path", state, "--endpoint-url", self.url, "--region",
    "us-west-2" }
  for _, word in ipairs(words) do
    argv[#argv + 1] = word:gsub("^@", state .. ".")
  end
  self.n, self.journal, self.remote = 0, {}, {}
  return proc.spawn(argv, { stderr = "merge", env = environment(self, env), timeout = HUNG,
    cwd = self.dir })
end

-- What a process that hangs asked last, and whether it was answered.
local function last_words(rig)
  local lines = {}
  for n = math.max(1, rig.n - 4), rig.n do
    local e = rig.journal[n]
    lines[#lines + 1] = ("request %d %s: %s"):format(n, e.action, e.status or "no answer")
  end
  return table.concat(lines, "\n")
end

local function finish(rig, p)
  local parts = {}
  for bytes in function() return (p:read()) end do
    parts[#parts + 1] = bytes
  end
  local ok, r = pcall(p.wait, p)
  local text = table.concat(parts)
  if not ok or r.timed_out then
    return { hung = true, text = text .. last_words(rig) }
  end
  return { code = r.code, signal = r.signal, text = text }
end

--- Runs the program to its end.
-- @return table {code, signal, text, hung, requests}
-- @waits
function Rig:run(state, words, env)
  self.cut = nil
  local p <close> = self:start(state, words, env)
  local r = finish(self, p)
  r.requests = self.n
  return r
end

--- Runs a task and sends its process a signal at a request.
-- @param state string
-- @param words string[]
-- @param cut table {n=, action=, when="before"|"after"|"sent", signal="KILL"|"INT"|"TERM"}, or
--   {remote=n, signal=} before the n-th piece of remote work;
--   presses=2|3: more signals, and from the first one on no request is answered
-- @return table as run, with seconds in all and, after the last press, since
-- @waits
function Rig:run_cut(state, words, cut, env)
  self.cut = nil
  local p <close> = self:start(state, words, env)
  cut.process, self.cut = p, cut
  local began = time.mono()
  local presses = cut.presses and async.spawn(press_on, cut)
  local r = finish(self, p)
  if presses then
    presses:cancel("it has ended")
  end
  r.seconds, self.cut, self.stalled = time.mono() - began, nil, nil
  r.since = cut.last_press and time.mono() - cut.last_press
  return r
end

--- Words of a task, or nil when it is none that can be swept.
-- @param name string
-- @return string[]
function M.words(name)
  return { name, table.unpack(M.TASKS[name]) }
end

--- Whether a task acts on what others left; then `prepare` makes some.
function M.needs_objects(name)
  return NEEDS_OBJECTS[name] or false
end

--- Leaves key pair, group and image in the cloud; for a task that ends machines,
--- one of a dead run, too (the others only look, and gc would change what they see).
-- @waits
function Rig:prepare(state, task)
  self:run(state, M.words "bootstrap-linux-dev")
  if task ~= "status" then
    self:run_cut(state, M.words "build-linux", { action = "RunInstances", when = "sent",
      signal = "KILL" })
  end
end

-- ---- inventory ----

local function counted(kind, o)
  if kind == "instance" then
    return o.state ~= "terminated"
  elseif kind == "group" then
    return o.name ~= "default"
  elseif kind == "image" then
    -- Those of publishers are not in the database; a deregistered one leaves a trace.
    return o.state ~= "deregistered"
  end
  return kind == "volume" or kind == "snapshot" or kind == "key" or kind == "role"
    or kind == "profile" or kind == "address"
end

local KINDS = { "instance", "volume", "address", "image", "snapshot", "group", "key", "profile",
  "role" }

--- What the database of a state directory's local cloud holds of anybody's.
-- @param state string
-- @return table kind -> number
function M.inventory_of(state)
  local st = require("hgauto.state").open(state, {})
  local db <close> = st:db "local/cloud"
  local n = {}
  for _, kind in ipairs(KINDS) do
    n[kind] = 0
  end
  for _, row in ipairs(db:exec "SELECT kind, json FROM obj") do
    if n[row.kind] and counted(row.kind, json.decode(row.json)) then
      n[row.kind] = n[row.kind] + 1
    end
  end
  return n
end

--- The same of the rig's cloud.
-- @return table kind -> number
function Rig:inventory()
  return M.inventory_of(self.cloud_state)
end

local EPHEMERAL = { "instance", "volume", "address" }

--- Waits until no machine, volume or address is left.
-- @param[opt] seconds number
-- @return boolean
-- @return string what is there
-- @waits
function Rig:no_ephemerals(seconds)
  local limit = time.mono() + (seconds or 2)
  while true do
    local have, n = self:inventory(), 0
    for _, kind in ipairs(EPHEMERAL) do
      n = n + have[kind]
    end
    if n == 0 or time.mono() > limit then
      return n == 0, M.text(have)
    end
    async.sleep(0.05)
  end
end

--- An inventory as text.
-- @param n table
-- @return string
function M.text(n)
  local parts = {}
  for _, kind in ipairs(KINDS) do
    if n[kind] > 0 then
      parts[#parts + 1] = ("%d %s"):format(n[kind], kind)
    end
  end
  return parts[1] and table.concat(parts, ", ") or "nothing"
end

M.program = host.getenv "HGAUTO" or fs.readlink "/proc/self/exe"

return M
