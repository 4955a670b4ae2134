--- PowerShell remoting: runspace pools, pipelines, records.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local u = require "hgauto.winrm.util"

local M = {}

local Pool = { __name = "winrm pool" }
Pool.__index = Pool
local Pipeline = { __name = "winrm pipeline" }
Pipeline.__index = Pipeline

local MESSAGE_MAX, INPUT_MAX = 8 * 1024 * 1024, 40 * 1024 * 1024
local AUTO_ENVELOPE = 512000
local NONE = "00000000-0000-0000-0000-000000000000"
local POOL = {
  no_profile = "boolean", idle_timeout = "number", host = "boolean", version = "string",
  application_arguments = "table", configuration = "string", resource = "string",
}
local POOL_STATES = { [2] = "Opened", [3] = "Closed", [5] = "Broken" }
local STATES = { [3] = "Stopped", [4] = "Completed", [5] = "Failed" }

local function malformed(what)
  u.raise { kind = "protocol", code = "Malformed", message = "winrm: " .. what }
end

--- Reads an error record (or what a state carries) into plain fields; values and scripts in it are
-- not taken over.
function M.error_record(rec)
  if type(rec) ~= "table" then
    return { message = tostring(rec) }
  end
  local ex = type(rec.Exception) == "table" and rec.Exception or {}
  local inv = type(rec.InvocationInfo) == "table" and rec.InvocationInfo or {}
  local mt = getmetatable(rec) or {}
  local types = (getmetatable(ex) or {}).types
  return {
    message = mt.str or ex.Message or "error without a text", text = ex.Message,
    class = types and types[1], id = rec.FullyQualifiedErrorId,
    category = rec.ErrorCategory_Category, category_text = rec.ErrorCategory_Message,
    line = inv.ScriptLineNumber, offset = inv.OffsetInLine, line_text = inv.Line,
    position = inv.PositionMessage, stack = rec.ErrorDetails_ScriptStackTrace,
    target = type(rec.TargetObject) == "string" and rec.TargetObject or nil,
  }
end

local function payload(self)
  return self.session.core:payload(self.resource, self.envelope)
end

--- Reads whole messages out of one answer.
local function messages(self, r)
  local list = {}
  if r.streams.stdout then
    self.psrp:feed(r.streams.stdout)
  end
  while true do
    local m = self.psrp:next()
    if not m then
      return list
    end
    list[#list + 1] = m
  end
end

local function version_minor(text)
  return math.tointeger(tonumber((text or ""):match("^2%.(%d+)$") or 0))
end

--- What concerns the pool whoever receives it.
local function note(self, m)
  if m.type == "SESSION_CAPABILITY" then
    local v = core.decode(m.xml)
    self.version = v.protocolversion
    self.minor = version_minor(v.protocolversion)
    if self.minor >= 2 and not self.fixed_envelope then
      self.envelope = AUTO_ENVELOPE
    end
  elseif m.type == "APPLICATION_PRIVATE_DATA" then
    local v = core.decode(m.xml).ApplicationPrivateData
    self.private = type(v) == "table" and v or {}
    if self.private.hgauto_simulated == true then
      self.simulated, self.session.simulated = true, true
    end
  elseif m.type == "RUNSPACEPOOL_STATE" then
    local v = core.decode(m.xml)
    self.state = POOL_STATES[v.RunspaceState] or self.state
    if v.RunspaceState == 3 or v.RunspaceState == 5 then
      local rec = M.error_record(v.ExceptionAsErrorRecord or "no reason given")
      self.failed = rec
      u.raise {
        kind = "remote", code = "PoolFailed",
        message = ("winrm: the PowerShell pool is %s: %s"):format(self.state, rec.message),
      }
    end
  end
end

--- One Receive: the messages in it.
local function receive(self, command)
  local r = self.session:_call("receive", {
    resource = self.resource, shell = self.shell, command = command, streams = "stdout",
    envelope = self.envelope,
  })
  if r.attempts > 1 then
    self.repeated = true
  end
  local list = messages(self, r)
  for _, m in ipairs(list) do
    note(self, m)
  end
  return list, r
end

--- Opens a runspace pool.
-- @param opts.no_profile boolean
-- @param opts.idle_timeout number seconds
-- @param opts.host boolean calls of the host are wanted (exit codes of `exit N`), default true
-- @param opts.configuration string session configuration
-- @param opts.application_arguments table
function M.open(session, opts)
  local o = u.options(opts, POOL, "s:pool")
  local self = setmetatable({
    session = session, id = crypto.uuid():upper(), psrp = core.psrp(), host = o.host ~= false,
    resource = o.resource or u.POWERSHELL .. (o.configuration or session.configuration),
    envelope = session.envelope, fixed_envelope = session.envelope ~= nil, minor = 3,
    private = {}, seen = {},
  }, Pool)
  local version = o.version or "2.3"
  local room = payload(self)
  self.psrp:add(room, "SESSION_CAPABILITY", self.id, "", core.capability(version))
  self.psrp:add(room, "INIT_RUNSPACEPOOL", self.id, "",
    core.init_pool(self.host, o.application_arguments))
  local buffers = self.psrp:take()
  if #buffers ~= 1 then
    u.usage("winrm: application arguments do not fit into the first request")
  end
  local idle = o.idle_timeout or session.idle_timeout
  local r = session:_create({
    resource = self.resource, version = version, pool = self.id, creation = buffers[1],
    inputs = "stdin pr", outputs = "stdout", idle_s = math.tointeger(idle),
    no_profile = o.no_profile or false, envelope = self.envelope,
  })
  self.shell = r.shell or self.id -- old services choose their own
  session:_trace("shell_open", { resource = self.resource, shell = self.shell })
  local good, e = pcall(function()
    while self.state ~= "Opened" do
      for _, m in ipairs((receive(self))) do
        self.seen[#self.seen + 1] = m
      end
    end
  end)
  if not good then
    do
      local _d <close> = async.defer(function() u.quietly(self.close, self) end, 10)
    end
    error(e, 0)
  end
  return self
end

--- One message of the pool itself (not of a pipeline), for tests.
function Pool:receive()
  return (receive(self))
end

--- Whether the pool still exists on the machine.
-- @return boolean
-- @waits
function Pool:alive()
  if self.closed then
    return false
  end
  local good, e = pcall(self.session._call, self.session, "get", {
    resource = u.SHELL, shell = self.shell, envelope = self.envelope,
  })
  if good then
    return true
  end
  if type(e) == "table" and e.fault and e.fault.code == u.UNKNOWN_SHELL then
    return false
  end
  error(e, 0)
end

--- Deletes the pool and what runs in it; repeatable.
-- @waits
function Pool:close()
  if self.closed then
    return
  end
  self.closed = true
  local s = self.session
  local good, e = pcall(s._call, s, "delete", {
    resource = self.resource, shell = self.shell, envelope = self.envelope,
  })
  s:_freed()
  s:_trace("shell_close", { resource = self.resource, shell = self.shell })
  local code = not good and type(e) == "table" and e.fault and e.fault.code
  if not good and code ~= u.UNKNOWN_SHELL and code ~= u.ABORTED then
    error(e, 0)
  end
end
Pool.__close = Pool.close

-- ---- pipelines ----

--- A pipeline by its id, without starting it.
function Pool:_attach(id)
  return setmetatable({
    pool = self, session = self.session, id = id, command = id, sent = 0,
  }, Pipeline)
end

--- Starts a pipeline; low level, for ps and tests.
-- @param spec.statements table lists of {cmd=, is_script=, args={{name=, value=}}, MergeError=n}
-- @param spec.xml string|nil a CREATE_PIPELINE message instead
-- @param spec.id string|nil its UUID
-- @return pipeline
-- @waits
function Pool:invoke(spec)
  if self.closed then
    u.raise { kind = "usage", code = "Closed", message = "winrm: the pool is closed" }
  end
  if self.busy and not spec.nested then
    u.raise { kind = "usage", code = "Busy", message = "winrm: the pool is busy" }
  end
  local xml = spec.xml
  if not xml then
    local s = {}
    for key, v in pairs(spec) do
      s[key] = v
    end
    s.id = nil
    if s.host == nil then
      s.host = self.host
    end
    s.minor = self.minor
    xml = core.create_pipeline(s)
  end
  local p = self:_attach(spec.id or crypto.uuid():upper())
  self.busy = true
  self.psrp:add(payload(self), "CREATE_PIPELINE", self.id, p.id, xml)
  local buffers = self.psrp:take()
  local r = self.session:_call("command", {
    resource = self.resource, shell = self.shell, command = p.id, first = buffers[1],
    envelope = self.envelope,
  })
  p.command = r.command or p.id -- old services choose their own
  for i = 2, #buffers do
    p:_send(buffers[i])
  end
  return p
end

function Pipeline:_send(bytes)
  local pool = self.pool
  self.session:_call("send", {
    resource = pool.resource, shell = pool.shell, command = self.command, data = bytes,
    envelope = pool.envelope,
  })
end

--- Sends messages {type=, value= | xml=}, several to a request.
-- @param more boolean others follow: a request that has room for them is not sent yet
-- @waits
function Pipeline:send(list, more)
  local pool = self.pool
  for _, m in ipairs(list) do
    local xml = m.xml or core.encode(m.value)
    if #xml > MESSAGE_MAX then
      u.usage("winrm: an input object above %d bytes; use upload", MESSAGE_MAX)
    end
    self.sent = self.sent + #xml
    if self.sent > INPUT_MAX then
      u.usage("winrm: more than %d bytes of input; use upload", INPUT_MAX)
    end
    pool.psrp:add(payload(pool), m.type, pool.id, self.id, xml)
  end
  self.cut = more
  for _, bytes in ipairs(pool.psrp:take(more)) do
    self:_send(bytes)
  end
end

--- Waits for the next messages.
-- @return table list of {type=, xml=, pipeline=, object=}
-- @waits
function Pipeline:receive()
  local list = receive(self.pool, self.command)
  for _, m in ipairs(list) do
    if m.type == "PIPELINE_STATE"
      and (m.pipeline == self.id or m.pipeline == self.command:upper() or m.pipeline == NONE) then
      local v = core.decode(m.xml)
      local state = STATES[v.PipelineState]
      if state then
        self.state = state
        self.reason = v.ExceptionAsErrorRecord and M.error_record(v.ExceptionAsErrorRecord)
        if self.pool.repeated and not self.pool.psrp:whole() then
          malformed("output lost: messages are missing after a connection broke")
        end
      end
    end
  end
  return list
end

local SIGNALS = {
  terminate = u.SHELL .. "/signal/terminate", ctrl_c = "powershell/signal/ctrl_c",
}

--- Sends a signal: "terminate", "ctrl_c" or a code in full.
-- @waits
function Pipeline:signal(name)
  self.session:_call("signal", {
    resource = self.pool.resource, shell = self.pool.shell, command = self.command,
    code = SIGNALS[name] or name, envelope = self.pool.envelope,
  })
end

--- Tells the service that nothing more is wanted of the pipeline, stopping it first when it runs.
function Pipeline:finish()
  if self.ended then
    return
  end
  self.ended = true
  self.pool.busy = false
  if not self.state then
    u.quietly(self.signal, self, "ctrl_c")
    u.quietly(async.timeout, 5, function()
      while not self.state do
        self:receive()
      end
    end)
  end
  u.quietly(self.signal, self, "terminate")
  if self.cut then -- its last request would go out with the next pipeline's first
    u.quietly(self.pool.close, self.pool)
  end
end

M.class = Pool

return M
