--- A simulated WinRM endpoint: a scripted responder, not a Windows.
--
-- It speaks WinRS and PSRP as a service does; what a command or script does is told by rules, the
-- first that matches.  What no rule knows fails, never succeeds.  Everything it sends is marked as
-- simulated: the Server header, the owner of shells, the private data of pools.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local httpd = require "hgauto.httpd"

local M = {}

local NS = table.concat({
  'xmlns:s="http://www.w3.org/2003/05/soap-envelope"',
  'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"',
  'xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer"',
  'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"',
  'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"',
  'xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"',
  'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"',
}, " ")
local SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
local POWERSHELL = "http://schemas.microsoft.com/powershell/"
local ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
local SERVER = "hgauto-simulated-winrm/1"
local ENVELOPE = 512000
local FRAGMENT_DATA = 32747

local FAULTS = {
  timed_out = { 2150858793, "s:Receiver", "w:TimedOut",
    "The operation had nothing to answer within its OperationTimeout." },
  selectors = { 2150858843, "s:Sender", "w:InvalidSelectors",
    "There is no such shell or command." },
  encoding = { 2150858817, "s:Sender", "w:EncodingLimit", "The request is larger than allowed." },
  quota = { 2150859174, "s:Receiver", "w:QuotaLimit", "Too many operations of this user." },
  -- As sent without a code; "too many" is not the quota of operations.
  shells = { nil, "s:Receiver", "w:QuotaLimit",
    "This user has as many shells as the service allows." },
  denied = { 5, "s:Sender", "w:AccessDenied", "Access is denied." },
  invalid = { 87, "s:Sender", "w:InvalidParameter", "The request cannot be understood." },
}

-- ---- XML ----

local function xml(s)
  return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

local function find(node, name)
  if node.n == name then
    return node
  end
  for _, c in ipairs(node.c) do
    local f = type(c) == "table" and find(c, name)
    if f then
      return f
    end
  end
  return nil
end

local function all(node, name, into)
  into = into or {}
  if node.n == name then
    into[#into + 1] = node
  end
  for _, c in ipairs(node.c) do
    if type(c) == "table" then
      all(c, name, into)
    end
  end
  return into
end

local function text(node, name)
  local f = node and (name and find(node, name) or not name and node)
  if not f then
    return nil
  end
  local parts = {}
  for _, c in ipairs(f.c) do
    parts[#parts + 1] = type(c) == "string" and c or ""
  end
  return table.concat(parts)
end

local function envelope(action, relates, body)
  return table.concat {
    '<s:Envelope xml:lang="en-US" ', NS, "><s:Header><a:Action>", action,
    "</a:Action><a:MessageID>uuid:", crypto.uuid():upper(), "</a:MessageID><a:To>", ANONYMOUS,
    "</a:To><a:RelatesTo>", xml(relates), "</a:RelatesTo></s:Header><s:Body>", body,
    "</s:Body></s:Envelope>",
  }
end

local function fault_body(name)
  local code, sender, sub, message = table.unpack(FAULTS[name], 1, 4)
  local detail = code and ('<f:WSManFault Code="%d" Machine="SIM"><f:Message>%s</f:Message>'
    .. "</f:WSManFault>"):format(code, message) or ""
  return table.concat {
    "<s:Fault><s:Code><s:Value>", sender, "</s:Value><s:Subcode><s:Value>", sub,
    '</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">', message,
    "</s:Text></s:Reason><s:Detail>", detail, "</s:Detail></s:Fault>",
  }
end

-- ---- rules ----

--- What is compared: line ends and blanks at line ends do not count.
local function normal(s)
  return (s:gsub("\r\n", "\n"):gsub("[ \t]+\n", "\n"):gsub("%s+$", ""))
end

local function embedded(name)
  local good, s = pcall(embed.read, "windows/" .. name .. ".ps1")
  return good and normal(s) or nil
end

local function params_match(want, params)
  for name, pattern in pairs(want or {}) do
    if not tostring((params or {})[name] or ""):find(pattern) then
      return false
    end
  end
  return true
end

local function matches(rule, kind, script, params)
  local m = rule.match
  if kind == "command" and m.encoded then
    local b64 = script:match("%-EncodedCommand ([%w+/=]+)$")
    return b64 ~= nil and normal(crypto.unbase64(b64):gsub("%z", "")) == embedded(m.encoded)
  end
  if kind == "command" then
    return m.command_pattern ~= nil and script:find(m.command_pattern) ~= nil
  end
  if not params_match(rule.params, params) then
    return false
  end
  local s = normal(script)
  if m.source then
    return s == embedded(m.source)
  end
  if m.sha256 then
    return crypto.sha256(s) == m.sha256
  end
  return m.script_pattern ~= nil and s:find(m.script_pattern) ~= nil
end

-- A command whose match is {encoded = "NAME"} is powershell.exe with that source of ours.
local function rule_for(ep, kind, script, params)
  for _, rule in ipairs(ep.rules) do
    if matches(rule, kind, script, params) then
      return rule
    end
  end
  return nil
end

local function not_simulated(script)
  local first = script:match("^%s*([^\r\n]*)"):sub(1, 120)
  return ("not simulated: %s (sha256 %s)"):format(first, crypto.sha256(normal(script)):sub(1, 12))
end

-- ---- commands ----

local Job = {}
Job.__index = Job

--- Adds output of a stream.
function Job:write(stream, data)
  if data ~= "" then
    self.queue[#self.queue + 1] = { stream, data }
    self.event:set()
  end
end

--- The next piece of the standard input; nil at its end.
function Job:read()
  while not self.stdin[1] do
    if self.stdin_done:is_set() then
      return nil
    end
    self.stdin_came = async.event()
    self.stdin_came:wait()
  end
  return table.remove(self.stdin, 1)
end

function Job:finish(code)
  self.done, self.code = true, code
  self.event:set()
end

local function play(job, rule)
  for _, step in ipairs(rule.reply or {}) do
    if step.delay then
      async.sleep(step.delay)
    elseif step.exit then
      return step.exit
    else
      for _, stream in ipairs { "stdout", "stderr" } do
        job:write(stream, step[stream] or "")
      end
    end
  end
  return 0
end

local function run_command(ep, job)
  local rule = rule_for(ep, "command", job.line)
  local code
  if not rule then
    job:write("stderr", not_simulated(job.line) .. "\r\n")
    code = 9009
  elseif rule.run then
    code = rule.run(job) or 0
  else
    code = play(job, rule)
  end
  job:finish(code)
end

-- ---- pipelines ----

--- Messages of a pipeline, cut as a service cuts them.
local Pipe = {}
Pipe.__index = Pipe

function Pipe:message(kind, body)
  local p = self.shell.out
  p:add(FRAGMENT_DATA + 21, kind, self.shell.id, self.id, "\xef\xbb\xbf" .. body, true)
  for _, part in ipairs(p:take()) do
    self:write("stdout", part)
  end
end
setmetatable(Pipe, { __index = Job })

--- Adds a value to the output.
function Pipe:output(v)
  self:message("PIPELINE_OUTPUT", core.encode(v))
end

local function record(types, str, ext)
  return core.encode({ t = "Obj", types = types, str = str, ext = ext }, true)
end

local function S(s)
  return { t = "S", v = s }
end

local function error_value(message, id)
  return {
    t = "Obj", types = { "System.Management.Automation.ErrorRecord", "System.Object" },
    str = message,
    ext = {
      Exception = {
        t = "Obj", types = { "System.Management.Automation.RuntimeException", "System.Exception",
          "System.Object" }, str = message, props = { Message = S(message) },
      },
      FullyQualifiedErrorId = S(id or "SimulatedError"),
      ErrorCategory_Category = { t = "I32", v = 0 },
      ErrorCategory_Message = S("NotSpecified: (:) [], RuntimeException"),
    },
  }
end

--- Adds an error record.
function Pipe:error(message, id)
  self:message("ERROR_RECORD", core.encode(error_value(message, id), true))
end

--- Adds a record of another stream: "warning", "verbose", "debug".
function Pipe:record(stream, message)
  local name = stream:sub(1, 1):upper() .. stream:sub(2)
  self:message(stream:upper() .. "_RECORD", record({
    ("System.Management.Automation.%sRecord"):format(name),
    "System.Management.Automation.InformationalRecord", "System.Object",
  }, message, {
    InformationalRecord_Message = S(message),
    InformationalRecord_SerializeInvocationInfo = { t = "B", v = false },
  }))
end

function Pipe:state(n, message, id)
  local ext = { PipelineState = { t = "I32", v = n } }
  if message then
    ext.ExceptionAsErrorRecord = error_value(message, id)
  end
  self:message("PIPELINE_STATE", core.encode({ t = "Obj", ext = ext }, true))
  self:finish(0)
end

local function play_script(pipe, rule)
  for _, step in ipairs(rule.reply or {}) do
    if step.delay then
      async.sleep(step.delay)
    elseif step.output ~= nil then
      pipe:output(step.output)
    elseif step.state == "failed" then
      return nil, step.error or "failed"
    elseif step.error then
      pipe:error(step.error, step.id)
    elseif step.exit then
      return step.exit
    end
    for _, stream in ipairs { "warning", "verbose", "debug" } do
      if step[stream] then
        pipe:record(stream, step[stream])
      end
    end
  end
  return 0
end

local function argument(cmd, name)
  for _, a in ipairs(cmd.Args or {}) do
    if a.N == name then
      return a.V
    end
  end
  return nil
end

--- What is asked for: text and parameters, out of the runner when it is ours.
local function unwrap(cmd)
  local token = argument(cmd, "HgaToken")
  if token and normal(cmd.Cmd) == embedded("hga-run") then
    local params = argument(cmd, "HgaParams")
    return argument(cmd, "HgaScript"), type(params) == "table" and params or {}, token
  end
  return cmd.Cmd, {}, nil
end

local function run_pipeline(ep, pipe, spec)
  local cmd = spec.PowerShell.Cmds[1]
  local script, params, token = unwrap(cmd)
  pipe.script, pipe.params, pipe.root, pipe.machine = script, params, ep.root, ep.machine
  pipe:state_running()
  if not spec.NoInput then
    pipe.input_done:wait()
  end
  local rule = rule_for(ep, "script", script, params)
  if not rule then
    return pipe:state(5, not_simulated(script), "HgautoNotSimulated")
  end
  local code, failed
  if rule.run then
    local good, a, b = pcall(rule.run, pipe)
    if not good then
      if async.cancelled() then
        error(a, 0)
      end
      code, failed = nil, type(a) == "table" and a.message or tostring(a)
    else
      code, failed = a or (not b and 0 or nil), b
    end
  else
    code, failed = play_script(pipe, rule)
  end
  if failed then
    return pipe:state(5, failed)
  end
  if token then
    pipe:message("PIPELINE_OUTPUT", core.encode({
      t = "Obj", types = { "System.Management.Automation.PSCustomObject", "System.Object" },
      ext = { HgaToken = S(token), ExitCode = { t = "I32", v = code or 0 } },
    }, true))
  end
  return pipe:state(4)
end

function Pipe:state_running() -- luacheck: no self
end

-- ---- actions ----

local ACTION = {}

local function new_job(class, fields)
  fields.queue, fields.event = {}, async.event()
  return setmetatable(fields, class)
end

local function shell_of(ep, req)
  local selector = text(find(req.tree, "SelectorSet"), "Selector")
  return ep.shells[selector or ""]
end

local function fragments_in(shell, data)
  shell.inn:feed(crypto.unbase64(data))
  local list = {}
  while true do
    local m = shell.inn:next()
    if not m then
      return list
    end
    list[#list + 1] = m
  end
end

local function created(shell, uri)
  return table.concat {
    "<x:ResourceCreated><a:Address>http://SIM/wsman</a:Address><a:ReferenceParameters>",
    "<w:ResourceURI>", uri, '</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">', shell.id,
    "</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell>",
    "<rsp:ShellId>", shell.id, "</rsp:ShellId><rsp:ResourceUri>", uri,
    "</rsp:ResourceUri><rsp:Owner>SIMULATED\\Administrator</rsp:Owner><rsp:ClientIP>127.0.0.1",
    "</rsp:ClientIP><rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut><rsp:InputStreams>",
    shell.inn and "stdin pr" or "stdin", "</rsp:InputStreams><rsp:OutputStreams>",
    shell.inn and "stdout" or "stdout stderr",
    "</rsp:OutputStreams><rsp:State>Connected</rsp:State></rsp:Shell>",
  }
end

local function pool_message(shell, kind, body)
  shell.out:add(FRAGMENT_DATA + 21, kind, kind == "SESSION_CAPABILITY" and "" or shell.id, "",
    "\xef\xbb\xbf" .. body, true)
  for _, part in ipairs(shell.out:take()) do
    shell.job:write("stdout", part)
  end
end

local function open_pool(shell, list)
  local capability
  for _, m in ipairs(list) do
    if m.type == "SESSION_CAPABILITY" then
      capability = core.decode(m.xml)
    end
    shell.id = m.pool
  end
  if not capability or #list < 2 then
    return false
  end
  shell.job = new_job(Job, {})
  pool_message(shell, "SESSION_CAPABILITY", core.capability("2.3"))
  pool_message(shell, "APPLICATION_PRIVATE_DATA", core.encode({
    t = "Obj", ext = { ApplicationPrivateData = {
      t = "Obj", types = { "System.Management.Automation.PSPrimitiveDictionary",
        "System.Collections.Hashtable", "System.Object" },
      dict = { { S("hgauto_simulated"), { t = "B", v = true } } },
    } },
  }, true))
  shell.pending_state = true
  return true
end

function ACTION.Create(ep, req)
  local n = 0
  for _ in pairs(ep.shells) do
    n = n + 1
  end
  if n >= ep.max_shells then
    return nil, "shells"
  end
  local uri = text(req.tree, "ResourceURI")
  local shell = { env = {}, commands = {}, uri = uri, id = crypto.uuid():upper() }
  if uri:find(POWERSHELL, 1, true) then
    shell.inn, shell.out = core.psrp(), core.psrp()
    local list = fragments_in(shell, text(req.tree, "creationXml") or "")
    if not open_pool(shell, list) then
      return nil, "invalid"
    end
  else
    for _, v in ipairs(all(req.tree, "Variable")) do
      shell.env[v.a.Name or ""] = text(v)
    end
    shell.cwd = text(req.tree, "WorkingDirectory")
  end
  ep.shells[shell.id] = shell
  ep.counts.shells = ep.counts.shells + 1
  return created(shell, uri)
end

function ACTION.Delete(ep, req)
  local shell = shell_of(ep, req)
  if not shell then
    return nil, "selectors"
  end
  ep.shells[shell.id] = nil
  for _, job in pairs(shell.commands) do
    if job.task then
      job.task:cancel("shell deleted")
    end
  end
  return ""
end

function ACTION.Get(ep, req)
  if text(req.tree, "ResourceURI"):find("/config$") then
    return ("<cfg:Config xmlns:cfg=\"http://schemas.microsoft.com/wbem/wsman/1/config\">"
      .. "<cfg:MaxEnvelopeSizekb>%d</cfg:MaxEnvelopeSizekb></cfg:Config>"):format(ENVELOPE // 1024)
  end
  local shell = shell_of(ep, req)
  if not shell then
    return nil, "selectors"
  end
  return "<rsp:Shell><rsp:ShellId>" .. shell.id
    .. "</rsp:ShellId><rsp:State>Connected</rsp:State></rsp:Shell>"
end

local function start_pipeline(ep, shell, list, id)
  for _, m in ipairs(list) do
    local pipe = shell.commands[id or m.pipeline] or shell.commands[m.pipeline]
    if m.type == "CREATE_PIPELINE" and pipe then
      local spec = core.decode(m.xml)
      pipe.id = m.pipeline
      pipe.task = ep.scope:spawn(run_pipeline, ep, pipe, spec)
    elseif m.type == "PIPELINE_INPUT" and pipe then
      pipe.input[#pipe.input + 1] = core.decode(m.xml)
    elseif m.type == "END_OF_PIPELINE_INPUT" and pipe then
      pipe.input_done:set()
    end
  end
end

local function command_text(req)
  local words = { text(req.tree, "Command") or "" }
  for _, a in ipairs(all(find(req.tree, "Body"), "Arguments")) do
    words[#words + 1] = text(a)
  end
  return table.concat(words, " ")
end

function ACTION.Command(ep, req)
  local shell = shell_of(ep, req)
  if not shell then
    return nil, "selectors"
  end
  ep.counts.commands = ep.counts.commands + 1
  local id = find(req.tree, "CommandLine").a.CommandId or crypto.uuid():upper()
  if shell.inn then
    shell.commands[id] = new_job(Pipe, {
      shell = shell, id = id, input = {}, input_done = async.event(),
    })
    local list = fragments_in(shell, text(req.tree, "Arguments") or "")
    if list[1] and list[1].type ~= "CREATE_PIPELINE" then
      return nil, "invalid"
    end
    start_pipeline(ep, shell, list, id)
  else
    local job = new_job(Job, {
      line = command_text(req), env = shell.env, cwd = shell.cwd, root = ep.root, stdin = {},
      stdin_done = async.event(), stdin_came = async.event(),
    })
    shell.commands[id] = job
    job.task = ep.scope:spawn(run_command, ep, job)
  end
  return "<rsp:CommandResponse><rsp:CommandId>" .. id .. "</rsp:CommandId></rsp:CommandResponse>"
end

function ACTION.Send(ep, req)
  local shell = shell_of(ep, req)
  local stream = find(req.tree, "Stream")
  local job = shell and shell.commands[stream.a.CommandId or ""]
  if not job then
    return nil, "selectors"
  end
  local data = text(stream)
  if shell.inn then
    start_pipeline(ep, shell, fragments_in(shell, data), stream.a.CommandId)
  else
    job.stdin[#job.stdin + 1] = crypto.unbase64(data)
    job.stdin_came:set()
    if (stream.a.End or ""):lower() == "true" then
      job.stdin_done:set()
      job.stdin_came:set()
    end
  end
  return "<rsp:SendResponse/>"
end

-- Of a pool's output a service puts no more fragments into one answer.
local FRAGMENTS = 4

--- Takes as much output as fits into the answer.
local function take(job, room)
  local parts, used = {}, 0
  while job.queue[1] and not (job.shell and #parts == FRAGMENTS) do
    local name, data = job.queue[1][1], job.queue[1][2]
    local free = (room - used) // 4 * 3 - 256
    if free < 1024 and used > 0 then
      break
    end
    local part = data
    if #data > free then
      if job.shell or job.whole then
        if used > 0 then
          break
        end
      else
        part = data:sub(1, free)
      end
    end
    if #part < #data then
      job.queue[1][2] = data:sub(#part + 1)
    else
      table.remove(job.queue, 1)
    end
    parts[#parts + 1] = { name, part }
    used = used + #part * 4 // 3 + 200
  end
  return parts
end

local function stream_xml(parts, id)
  local out = {}
  for _, p in ipairs(parts) do
    out[#out + 1] = ('<rsp:Stream Name="%s"%s>%s</rsp:Stream>'):format(p[1],
      id and (' CommandId="%s"'):format(id) or "", crypto.base64(p[2]))
  end
  return table.concat(out)
end

local function seconds(duration)
  local h, m, s = duration:match("^P[%dDYM]*T?(%d*)H?(%d*)M?([%d.]*)S?$")
  if duration:match("^PT[%d.]+S$") then
    return tonumber(duration:match("[%d.]+"))
  end
  return (tonumber(h) or 0) * 3600 + (tonumber(m) or 0) * 60 + (tonumber(s) or 0)
end

function ACTION.Receive(ep, req)
  local shell = shell_of(ep, req)
  local desired = find(req.tree, "DesiredStream")
  local id = desired and desired.a.CommandId
  local job = shell and (id and shell.commands[id] or not id and shell.job)
  if not job then
    return nil, "selectors"
  end
  if not job.queue[1] and not job.done and shell.pending_state and not id then
    shell.pending_state = nil
    pool_message(shell, "RUNSPACEPOOL_STATE", core.encode({
      t = "Obj", ext = { RunspaceState = { t = "I32", v = 2 } },
    }, true))
  end
  if not job.queue[1] and not job.done then
    job.event = async.event()
    local limit = seconds(text(req.tree, "OperationTimeout") or "PT60S")
    local good, e = pcall(async.timeout, limit, job.event.wait, job.event)
    if not good and (type(e) ~= "table" or e.kind ~= "timeout") then
      error(e, 0)
    end
  end
  if not job.queue[1] and not job.done then
    return nil, "timed_out"
  end
  local room = tonumber(text(req.tree, "MaxEnvelopeSize")) or 153600
  local body = stream_xml(take(job, math.min(room, ENVELOPE) - 2048), id)
  if id and job.done and not job.queue[1] then
    for _, name in ipairs(shell.inn and { "stdout" } or { "stdout", "stderr" }) do
      body = body .. ('<rsp:Stream Name="%s" CommandId="%s" End="true"></rsp:Stream>'):format(name,
        id)
    end
    body = body .. ('<rsp:CommandState CommandId="%s" State="%s/CommandState/Done"><rsp:ExitCode>'
      .. '%d</rsp:ExitCode></rsp:CommandState>'):format(id, SHELL, job.code)
  elseif id then
    body = body .. ('<rsp:CommandState CommandId="%s" State="%s/CommandState/Running"/>'):format(id,
      SHELL)
  end
  return "<rsp:ReceiveResponse>" .. body .. "</rsp:ReceiveResponse>"
end

function ACTION.Signal(ep, req)
  local shell = shell_of(ep, req)
  local id = find(req.tree, "Signal").a.CommandId
  local job = shell and shell.commands[id or ""]
  if not job then
    return nil, "selectors"
  end
  local code = text(req.tree, "Code") or ""
  if not job.done and job.task then
    job.task:cancel("signal")
    if shell.inn then
      job:state(3)
    else
      job:finish(3221225786)
    end
  end
  if code:lower():find("terminate$") then
    shell.commands[id] = nil
  end
  return "<rsp:SignalResponse/>"
end

-- ---- requests ----

local function authorized(ep, req)
  local given = req.headers.authorization or ""
  local want = "Basic " .. crypto.base64(ep.user .. ":" .. ep.password)
  return crypto.equal(given, want)
end

local function respond(req, status, body)
  req:respond {
    status = status, body = body,
    headers = { ["Content-Type"] = "application/soap+xml;charset=UTF-8", Server = SERVER },
  }
end

local function handle(ep, req)
  ep.counts.requests = ep.counts.requests + 1
  if req.path ~= "/wsman" then
    return respond(req, 404, "")
  end
  if req.headers.authorization then
    ep.counts.credentials = ep.counts.credentials + 1
  end
  if not authorized(ep, req) then
    return req:respond {
      status = 401, body = "",
      headers = { ["WWW-Authenticate"] = 'Basic realm="WSMAN"', Server = SERVER },
    }
  end
  local good, tree = pcall(core.tree, req.body)
  if not good then
    return respond(req, 400, "")
  end
  local relates = text(tree, "MessageID") or ""
  local action = text(tree, "Action") or ""
  local fn = ACTION[action:match("([^/]+)$") or ""]
  local fault = ep.fault and ep.fault(action:match("([^/]+)$"), req)
  if fault == "handled" then
    return nil
  end
  local body
  if not fault and #req.body > ENVELOPE then
    fault = "encoding"
  end
  if not fault and not fn then
    fault = "invalid"
  end
  if not fault then
    body, fault = fn(ep, { tree = tree, http = req })
  end
  if fault then
    return respond(req, 500, envelope("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", relates,
      fault_body(fault)))
  end
  return respond(req, 200, envelope(action .. "Response", relates, body))
end

--- Rules for our own sources: files go to and come from the directory that stands for C:.
M.builtin = {
  { name = "upload-stdin", match = { encoded = "upload-stdin" }, run = function(job)
    return require("localcloud.winfiles").upload_stdin(job)
  end },
  { name = "upload-psrp", match = { source = "upload-psrp" }, run = function(pipe)
    return require("localcloud.winfiles").upload(pipe)
  end },
  { name = "remove", match = { source = "remove" }, run = function(pipe)
    return require("localcloud.winfiles").remove(pipe)
  end },
  { name = "download", match = { source = "download" }, run = function(pipe)
    return require("localcloud.winfiles").download(pipe)
  end },
}

--- Opens an endpoint; it ends with the scope.
-- @param opts.user string default "Administrator"
-- @param opts.password string
-- @param opts.rules table the first that matches counts
-- @param opts.root string|nil directory that stands for C:
-- @param opts.tls table|nil {cert=PEM, key=PEM}
-- @param opts.host string|nil default 127.0.0.1
-- @param opts.port integer|nil default: any
-- @param opts.fault function|nil (action, request) -> name of a fault, or "handled"
-- @param opts.max_shells integer|nil default 30, as a service allows one user
-- @param opts.machine table|nil what rules that change the machine use
-- @return endpoint with port, counts {requests, credentials, shells, commands}, shells, close
function M.open(opts)
  local ep = {
    user = opts.user or "Administrator", password = opts.password, root = opts.root, shells = {},
    rules = {}, counts = { requests = 0, credentials = 0, shells = 0, commands = 0 },
    fault = opts.fault, machine = opts.machine, max_shells = opts.max_shells or 30,
  }
  for _, list in ipairs { opts.rules or {}, M.builtin } do
    table.move(list, 1, #list, #ep.rules + 1, ep.rules)
  end
  local ready, stop = async.event(), async.event()
  ep.task = async.spawn(function()
    async.scope(function(s)
      ep.scope = s
      ready:set()
      stop:wait()
    end, { isolate = true })
  end)
  ready:wait()
  ep.http = httpd.new {
    max_body = 64 * 1024 * 1024, on_request = function(req) handle(ep, req) end,
    tls_cert = opts.tls and opts.tls.cert, tls_key = opts.tls and opts.tls.key,
  }
  ep.port = ep.http:listen { host = opts.host, port = opts.port }
  function ep.close()
    ep.http:close()
    ep.task:cancel("endpoint closed")
  end
  return ep
end

return M
