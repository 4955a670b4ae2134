--- Command shells (WinRS): shells, commands, output, exit codes.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local time = require "hgauto.time"
local u = require "hgauto.winrm.util"

local M = {}

local Shell = { __name = "winrm shell" }
Shell.__index = Shell
local Command = { __name = "winrm command" }
Command.__index = Command

local MAX_COLLECT = 64 * 1024 * 1024
local LINE_MAX, ARGV_MAX = 8000, 32000
local GRACE = 5
local CLEANUP = 10

local SHELL = {
  env = "table", cwd = "string", codepage = "number", idle_timeout = "number",
  no_profile = "boolean",
}
local CMD = {
  timeout = "number", check = "boolean", collect = "boolean", max_collect = "number",
  cwd = "string", env = "table", stdin = "string function table", codepage = "number",
  binary = "boolean", on_stdout = "function", on_stderr = "function",
}

--- name, value, name, value ... in the order of the names.
local function flat(env)
  if not env then
    return nil
  end
  local names, list = {}, {}
  for name in pairs(env) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    if type(name) ~= "string" or name == "" or name:find("[=%z]") then
      u.usage("winrm: bad name of an environment variable")
    end
    list[#list + 1] = name
    list[#list + 1] = tostring(env[name])
  end
  return list
end

--- Opens a command shell on a session.
function M.open(session, opts)
  local o = u.options(opts, SHELL, "s:shell")
  local r = session:_create({
    resource = u.CMD, inputs = "stdin", outputs = "stdout stderr", env = flat(o.env), cwd = o.cwd,
    idle_s = math.tointeger(o.idle_timeout or session.idle_timeout),
    codepage = ("%d"):format(o.codepage or 65001), no_profile = o.no_profile ~= false,
  })
  if not r.shell then
    session:_freed()
    u.raise { kind = "protocol", code = "Malformed", message = "winrm: shell without an id" }
  end
  session:_trace("shell_open", { resource = u.CMD, shell = r.shell })
  return setmetatable({ session = session, id = r.shell, fresh = true }, Shell)
end

--- Starts a command.
-- @param line string program or command line
-- @param args table|nil further words, joined by blanks by the service
-- @param opts.skip_shell boolean no cmd.exe in between
-- @param opts.stdin boolean input will be sent
-- @return command with send, receive, signal
-- @waits
function Shell:command(line, args, opts)
  opts = opts or {}
  local r = self.session:_call("command", {
    resource = u.CMD, shell = self.id, line = line, args = args, is_cmd = true,
    skip_shell = opts.skip_shell or false, console_stdin = not opts.stdin,
  })
  self.fresh = false
  if not r.command then
    u.raise { kind = "protocol", code = "Malformed", message = "winrm: command without an id" }
  end
  return self:_attach(r.command)
end

--- A command by its id, without starting it.
function Shell:_attach(id)
  return setmetatable({ shell = self, session = self.session, id = id }, Command)
end

--- Sends input; last ends it.
-- @waits
function Command:send(data, last)
  local room = self.session.core:payload(u.CMD)
  local at = 1
  repeat
    local part = data:sub(at, at + room - 1)
    at = at + #part
    self.session:_call("send", {
      resource = u.CMD, shell = self.shell.id, command = self.id, data = part,
      ["end"] = (last and at > #data) or false,
    })
  until at > #data
end

--- Waits for more output; also returns when there was none for the operation timeout.
-- @param sink userdata|nil takes the output instead of the result
-- @return table streams {stdout=, stderr=}, state "Running", "Pending" or "Done", exit_code
-- @waits
function Command:receive(sink)
  local r = self.session:_call("receive", {
    resource = u.CMD, shell = self.shell.id, command = self.id, streams = "stdout stderr",
    sink = sink,
  })
  if r.state == "Done" then
    self.done = true
  end
  return r
end

local SIGNALS = {
  terminate = u.SHELL .. "/signal/terminate", ctrl_c = u.SHELL .. "/signal/ctrl_c",
  ctrl_break = u.SHELL .. "/signal/ctrl_break",
}

--- Sends "terminate", "ctrl_c" or "ctrl_break" (or a code in full).
-- @waits
function Command:signal(name)
  self.session:_call("signal", {
    resource = u.CMD, shell = self.shell.id, command = self.id, code = SIGNALS[name] or name,
  })
end

--- Ends the command, politely first when it still runs.
function Command:_end()
  if not self.done then
    u.quietly(self.signal, self, "ctrl_c")
    u.quietly(async.timeout, GRACE, function()
      while not self.done do
        self:receive()
      end
    end)
  end
  u.quietly(self.signal, self, "terminate")
end

--- Deletes the shell; repeatable.
-- @waits
function Shell:close()
  if self.closed then
    return
  end
  self.closed = true
  local s = self.session
  local good, e = pcall(s._call, s, "delete", { resource = u.CMD, shell = self.id })
  s:_freed()
  s:_trace("shell_close", { resource = u.CMD, shell = self.id })
  local code = not good and type(e) == "table" and e.fault and e.fault.code
  if not good and code ~= u.UNKNOWN_SHELL and code ~= u.ABORTED then
    error(e, 0)
  end
end
Shell.__close = Shell.close

--- Collects output in C, or hands it on in whole characters and collects that.
local function collector(result, o)
  local parts, held = { stdout = {}, stderr = {} }, { stdout = "", stderr = "" }
  local max, size = math.tointeger(o.max_collect) or MAX_COLLECT, 0
  local c = {}
  if o.collect ~= false and not o.on_stdout and not o.on_stderr then
    c.sink = core.sink(max)
  end
  local function keep(list, bytes)
    size = size + #bytes
    if size > max then
      u.raise {
        kind = "remote", code = "OutputTooLarge",
        message = ("winrm: more than %d bytes of output; use collect=false"):format(max),
      }
    end
    list[#list + 1] = bytes
  end
  function c.take(name, bytes, last)
    if o.collect ~= false and bytes ~= "" then
      keep(parts[name], bytes)
    end
    local fn = o["on_" .. name]
    if not fn then
      return
    end
    if not o.binary then
      bytes = held[name] .. bytes
      local n = last and #bytes or core.whole(bytes)
      held[name], bytes = bytes:sub(n + 1), bytes:sub(1, n)
    end
    if bytes ~= "" then
      fn(bytes)
    end
  end
  function c.finish()
    for name, list in pairs(parts) do
      if c.sink then
        result[name] = c.sink:take(name)
      elseif o.collect ~= false then
        result[name] = table.concat(list)
      end
    end
  end
  return c
end

local function is_new_shell(e)
  local code = type(e) == "table" and e.fault and e.fault.code
  return code == u.QUOTA or code == u.UNLOADED, code
end

--- Opens a shell and starts the command; once more in a new shell when the service refused it
-- because of the shell.
local function start(session, shell_opts, line, opts)
  local sh = M.open(session, shell_opts)
  local good, c = pcall(sh.command, sh, line, nil, opts)
  if good then
    return sh, c
  end
  local refused, code = is_new_shell(c)
  local again = refused or (code == u.UNKNOWN_SHELL and sh.fresh)
  do
    local _d <close> = async.defer(function() u.quietly(sh.close, sh) end, CLEANUP)
  end
  if not again then
    error(c, 0)
  end
  session:_trace("retry", { what = "new shell", code = code })
  sh = M.open(session, shell_opts)
  good, c = pcall(sh.command, sh, line, nil, opts)
  if not good then
    do
      local _d <close> = async.defer(function() u.quietly(sh.close, sh) end, CLEANUP)
    end
    error(c, 0)
  end
  return sh, c
end

local function command_line(command)
  if type(command) == "string" then
    if #command > LINE_MAX then
      u.usage("s:cmd: command line longer than %d characters; pass an argument list", LINE_MAX)
    end
    return command, false
  end
  if type(command) ~= "table" or type(command[1]) ~= "string" then
    u.usage("s:cmd: command must be a line or a list of arguments")
  end
  local words = {}
  for i, word in ipairs(command) do
    words[i] = core.quote(tostring(word))
  end
  local line = table.concat(words, " ")
  if #line > ARGV_MAX then
    u.usage("s:cmd: arguments longer than %d characters", ARGV_MAX)
  end
  return line, true
end

local function send_stdin(c, stdin)
  if type(stdin) == "string" then
    return c:send(stdin, true)
  end
  while true do
    local part, last = stdin()
    if part == nil or last then
      return c:send(part or "", true)
    end
    if part ~= "" then
      c:send(part)
    end
  end
end

local function check(session, r)
  if r.code ~= 0 then
    local text = (r.stderr or ""):match("^%s*([^\r\n]*)") or ""
    local code = r.code >= 0x80000000 and ("%d (0x%08X)"):format(r.code, r.code) or r.code
    u.raise {
      kind = "remote", code = "ExitCode", result = r, operation = "winrm.cmd", host = session.label,
      message = ("winrm cmd on %s: exited with code %s%s"):format(session.label, code,
        text ~= "" and ": " .. text or ""),
    }
  end
end

--- Runs one command in a shell of its own; see hgauto.winrm for the options.
function M.run(session, command, opts)
  local o = u.options(opts, CMD, "s:cmd")
  local line, skip = command_line(command)
  local result = { ok = false, simulated = false }
  local out = collector(result, o)
  local started = time.mono()
  u.guarded(session, "winrm.cmd", o.timeout, result, function()
    local sh, c
    local _d <close> = async.defer(function()
      out.finish()
      if c then
        c:_end()
      end
      if sh then
        u.quietly(sh.close, sh)
      end
    end, CLEANUP + GRACE)
    sh, c = start(session, {
      env = o.env, cwd = o.cwd, codepage = o.codepage,
    }, line, { skip_shell = skip, stdin = o.stdin ~= nil })
    if o.stdin ~= nil then
      send_stdin(c, o.stdin)
    end
    while not c.done do
      local r = c:receive(out.sink)
      out.take("stdout", r.streams.stdout or "", c.done)
      out.take("stderr", r.streams.stderr or "", c.done)
      result.simulated = result.simulated or r.simulated
      if c.done then
        result.code = r.exit_code
      end
    end
  end)
  if not result.code then
    u.raise {
      kind = "protocol", code = "Malformed", result = result,
      message = "winrm: command ended without an exit code",
    }
  end
  result.ok, result.duration = result.code == 0, time.mono() - started
  if o.check ~= false then
    check(session, result)
  end
  return result
end

return M
