--- Windows machines over WinRM: commands, PowerShell, files.  C half: hgauto.winrm.core.
local async = require "hgauto.async"
local core = require "hgauto.winrm.core"
local crypto = require "hgauto.crypto"
local json = require "hgauto.json"
local files = require "hgauto.winrm.files"
local pool = require "hgauto.winrm.pool"
local ps = require "hgauto.winrm.ps"
local shell = require "hgauto.winrm.shell"
local time = require "hgauto.time"
local u = require "hgauto.winrm.util"

local M = {}

local Session = { __name = "winrm session" }
Session.__index = Session

local CONNECT = {
  host = "string", port = "number", user = "string", password = "string userdata", tls = "table",
  allow_plaintext = "boolean", auth = "string", connect_timeout = "number",
  operation_timeout = "number", timeout = "number", idle_timeout = "number",
  envelope = "number string", configuration = "string", label = "string", trace = "function",
  plaintext = "boolean",
}
local TLS = { ca = "string", name = "string", pin = "string", insecure = "boolean" }

local function open_core(s)
  local o, t = s.opts, s.tls
  return core.open {
    host = s.host, port = s.port, https = not s.plaintext, allow_plaintext = o.allow_plaintext,
    user = s.user, password = s.password, ca = t.ca, pin = t.pin, insecure = t.insecure,
    name = t.ca and (t.name or "hgauto") or nil, connect_timeout = o.connect_timeout,
    operation_timeout = o.operation_timeout, envelope = s.envelope,
  }
end

--- Makes a session; the first call connects.  The machine proves its identity by its own
-- certificate (tls.ca), by the pin of its key, or by both; the password leaves only afterwards.
-- @param opts.host string
-- @param opts.port integer default 5986; 5985 with plaintext
-- @param opts.user string default "Administrator"; local accounts only
-- @param opts.password string|secret
-- @param opts.tls table ca=PEM, name="hgauto", pin="sha256//…"; insecure=true for loopback
-- @param opts.plaintext boolean plain HTTP; needs allow_plaintext=true as well
-- @param opts.connect_timeout number seconds, default 10
-- @param opts.operation_timeout number seconds a request waits for output, default 20
-- @param opts.timeout number|nil default of the calls
-- @param opts.idle_timeout number seconds until a forgotten shell ends, default 900
-- @param opts.envelope integer|string bytes of a request, default "auto"
-- @param opts.configuration string session configuration, default "Microsoft.PowerShell"
-- @param opts.label string name in messages
-- @param opts.trace function called with event, details; never with contents
-- @return session closable, ends with the scope
-- @raise usage
-- @example local s <close> = winrm.connect { host = ip, password = pw, tls = { ca = pem } }
function M.connect(opts)
  local o = u.options(opts, CONNECT, "winrm.connect")
  if (o.auth or "basic") ~= "basic" then
    u.usage("winrm.connect: only Basic over HTTPS is supported; re-arm the machine with "
      .. "hg.windows.user_data")
  end
  local s = setmetatable({
    opts = o, tls = u.options(o.tls, TLS, "winrm.connect tls"), host = o.host,
    plaintext = o.plaintext or false, user = o.user or "Administrator", password = o.password,
    port = math.tointeger(o.port or (o.plaintext and 5985 or 5986)),
    envelope = math.tointeger(tonumber(o.envelope)), idle_timeout = o.idle_timeout or 900,
    configuration = o.configuration or "Microsoft.PowerShell", open_shells = 0,
    simulated = false,
  }, Session)
  if type(s.password) == "string" then
    s.password = crypto.secret(s.password)
  end
  s.label = o.label and ("%s (%s)"):format(o.label, o.host) or tostring(o.host)
  s.core = open_core(s)
  async.register(s)
  return s
end

function Session:_trace(event, details)
  if self.opts.trace then
    self.opts.trace(event, details)
  end
end

--- One request; all of them go through here.
function Session:_call(action, o)
  if self.closed then
    u.raise { kind = "usage", code = "Closed", message = "winrm: the session is closed" }
  end
  self:_trace("request", { action = action, resource = o.resource, shell = o.shell,
    command = o.command })
  local good, r = pcall(self.core.call, self.core, action, o)
  if not good then
    if type(r) == "table" and r.kind then
      r.host, r.operation = r.host or self.label, r.operation or "winrm." .. action
      self:_trace("fault", { action = action, code = r.fault and r.fault.code or r.code })
    end
    error(r, 0)
  end
  if r.simulated then
    self.simulated = true
  end
  self:_trace("response", { action = action, attempts = r.attempts, state = r.state })
  return r
end

-- Shells of one session at once; and how long a service that has too many is asked again.
local SHELLS, QUOTA_TRIES, QUOTA_WAIT = 8, 6, 5

local function too_many_shells(e)
  local fault = type(e) == "table" and e.fault
  return fault and fault.code ~= u.QUOTA and (fault.subcode or ""):find("QuotaLimit$") ~= nil
end

--- Creates a shell or pool: waits for a free place among this session's shells, and
-- for the service when it has too many.  Whoever got an answer calls _freed once.
function Session:_create(o)
  while self.open_shells >= SHELLS do
    self.slot = self.slot or async.event()
    self.slot:wait()
  end
  self.open_shells = self.open_shells + 1
  local created = false
  local _d <close> = async.defer(function()
    if not created then
      self:_freed()
    end
  end)
  for try = 1, QUOTA_TRIES + 1 do
    local good, r = pcall(self._call, self, "create", o)
    if good then
      created = true
      return r
    elseif not too_many_shells(r) or try > QUOTA_TRIES then
      error(r, 0)
    end
    self:_trace("retry", { what = "too many shells", attempt = try })
    async.sleep(QUOTA_WAIT)
  end
end

--- A shell of this session is gone.
function Session:_freed()
  self.open_shells = self.open_shells - 1
  local slot = self.slot
  self.slot = nil
  if slot then
    slot:set(true)
  end
end

local function with_timeout(self, opts)
  if self.opts.timeout == nil or (opts and opts.timeout) then
    return opts
  end
  local o = { timeout = self.opts.timeout }
  for key, v in pairs(opts or {}) do
    o[key] = v
  end
  return o
end

--- Runs a command in a shell of its own.
-- @param command string|table line for cmd.exe, or a list: full path of a program and arguments
-- @param opts table timeout check=true collect=true max_collect cwd env stdin codepage=65001 binary
--   on_stdout on_stderr
-- @return {ok=boolean, code=integer, stdout=string, stderr=string, duration=number,
--   simulated=boolean}
-- @raise remote (ExitCode, WSManFault, Http), auth, net, timeout, protocol, cancelled, usage
-- @waits
-- @example local r = s:cmd { [[C:\hg\hg.exe]], "version", "-q" }
function Session:cmd(command, opts)
  return shell.run(self, command, with_timeout(self, opts))
end

--- Opens a command shell for several commands.
-- @param opts table env cwd codepage idle_timeout no_profile
-- @return shell with command(line, args, {skip_shell=}) and close
-- @waits
function Session:shell(opts)
  return shell.open(self, opts)
end

--- Opens a PowerShell pool: state of the session survives between scripts.
-- @param opts table no_profile idle_timeout configuration application_arguments host
-- @return pool with ps, ps_value, ps_json, alive, invoke, close
-- @waits
function Session:pool(opts)
  return pool.open(self, opts)
end

--- The implicit pool, or a temporary one while that is busy.
local function in_pool(self, fn, script, opts)
  local p = self.implicit
  if p and not p.closed and not p.busy then
    return fn(p, script, opts)
  end
  if p and p.busy and not p.closed then
    local extra
    local _d <close> = async.defer(function()
      if extra then
        u.quietly(extra.close, extra)
      end
    end, 10)
    extra = pool.open(self)
    return fn(extra, script, opts)
  end
  p = pool.open(self)
  if self.implicit and not self.implicit.closed then
    -- another task was faster
    local _d <close> = async.defer(function() u.quietly(p.close, p) end, 10)
    return fn(p, script, opts)
  end
  self.implicit = p
  return fn(p, script, opts)
end

-- Whether the service refused to begin a script because of the pool: nothing has run.
local function pool_is_used_up(e)
  local fault = type(e) == "table" and e.operation == "winrm.command" and e.fault
  return fault and (fault.code == u.QUOTA or fault.code == u.UNLOADED
    or fault.code == u.UNKNOWN_SHELL
    or (fault.text or ""):find("concurrent commands per shell", 1, true) ~= nil)
end

--- As in_pool; once more in a new pool when the service refused the Command because of
-- the old one.
local function with_pool(self, fn, script, opts)
  opts = with_timeout(self, opts)
  local results = table.pack(pcall(in_pool, self, fn, script, opts))
  if not results[1] then
    if not pool_is_used_up(results[2]) then
      error(results[2], 0)
    end
    self:_trace("retry", { what = "new pool", code = results[2].fault.code })
    local p = self.implicit
    self.implicit = nil
    if p then
      u.quietly(p.close, p)
    end
    return in_pool(self, fn, script, opts)
  end
  return table.unpack(results, 2, results.n)
end

--- Runs a PowerShell script; values travel as arguments, never inside its text.
-- @param script string|table text, or a source
-- @param opts table timeout check=true collect=true params args input cwd env errors="fail"
--   native="fail" scope="local" progress on_output on_stderr on_record invocation_info
-- @return {ok=boolean, state=string, output=table, errors=table, warnings=table, verbose=table,
--   debug=table, information=table, stderr=table, exit_code=integer, duration=number}
-- @raise remote (ScriptFailed, ExitCode, WSManFault), auth, net, timeout, protocol, cancelled
-- @waits
-- @example local r = s:ps("param($Name) Get-Item $Name", { params = { Name = [[C:\hg]] } })
function Session:ps(script, opts)
  return with_pool(self, ps.run, script, opts)
end

--- As ps, but the single value of the output.
-- @return any
-- @raise as ps; remote (NotOneValue)
-- @waits
function Session:ps_value(script, opts)
  return with_pool(self, ps.value, script, opts)
end

--- As ps, but the output passed through JSON: nested data survives.
-- @return any
-- @raise as ps
-- @waits
function Session:ps_json(script, opts)
  return with_pool(self, ps.json, script, opts)
end

--- Copies a local file to the machine; it appears whole or not at all.
-- @param src string local file
-- @param dst string path on the machine
-- @param opts table overwrite=true progress=function(done, total) timeout
--   via="auto", "sftp" (where use_sftp gave one), "stdin" or "psrp"; verify=true: over SFTP the
--   content is compared too, the others always do
-- @return {bytes=integer, sha256=string, seconds=number, via=string}
-- @waits
function Session:upload(src, dst, opts)
  return files.upload(self, src, dst, opts)
end

--- Copies a file of the machine here; it appears whole or not at all.
-- @param src string path on the machine
-- @param dst string local file
-- @param opts table overwrite=true progress=function(done) timeout via="auto", "sftp" or "psrp"
--   verify=true
-- @return {bytes=integer, sha256=string, seconds=number, via=string}
-- @waits
function Session:download(src, dst, opts)
  return files.download(self, src, dst, opts)
end

--- Says how to reach the machine's sshd: files go over SFTP then.
-- @param open function|nil returns a session of hgauto.ssh of its own for each transfer (and a
--   directory below which C: is, for tests), or nil; when it fails files go over WinRM
-- @example s:use_sftp(function() return ssh.connect { host = ip, host_key = key, user = name } end)
function Session:use_sftp(open)
  self.sftp = open
end

--- Whether the machine lets us in: opens a command shell and deletes it.
-- @return boolean true; failures are raised
-- @waits
function Session:ping()
  local sh = shell.open(self)
  sh:close()
  return true
end

--- Settings of the service (administrators only).
-- @return table name = text; the envelope of this session follows MaxEnvelopeSizekb
-- @waits
function Session:config()
  local r = self:_call("get", { resource = u.CONFIG })
  local kb = math.tointeger(tonumber(r.leaves.MaxEnvelopeSizekb))
  if kb and kb > 0 then
    self.envelope = kb * 1024
  end
  return r.leaves
end

--- Another address of the same machine; its identity stays.
-- @param opts table host, port
function Session:retarget(opts)
  local o = u.options(opts, { host = "string", port = "number" }, "s:retarget")
  self.host, self.port = o.host or self.host, math.tointeger(o.port) or self.port
  self.core:close()
  self.core, self.implicit = open_core(self), nil
end

local function not_yet(e, w)
  if e.kind == "net" or e.kind == "timeout" or e.kind == "protocol" then
    return e.code ~= "LocalOnly"
  end
  if e.code == "Http" or e.code == "WSManFault" or e.code == "PoolFailed" then
    return true
  end
  if e.code == "Unauthorized" then
    w.refused = w.refused or time.mono()
    return time.mono() - w.refused < w.grace
  end
  return false
end

--- Waits until a machine that is starting lets us in.
-- @param opts table timeout=900 interval=5 auth_grace=120 on_attempt=function(n, error)
-- @return {attempts=integer, seconds=number}
-- @raise auth (TlsIdentity at once, Unauthorized after the grace), timeout
-- @waits
function Session:wait(opts)
  local o = u.options(opts, { timeout = "number", interval = "number", auth_grace = "number",
    on_attempt = "function" }, "s:wait")
  local w = { grace = o.auth_grace or 120 }
  local started, limit, n = time.mono(), o.timeout or 900, 0
  while true do
    n = n + 1
    local left = limit - (time.mono() - started)
    local good, e = pcall(async.timeout, math.max(1, left), self.ping, self)
    if good then
      return { attempts = n, seconds = time.mono() - started }
    end
    if type(e) ~= "table" or e.kind == "cancelled" or not not_yet(e, w) then
      error(e, 0)
    end
    if o.on_attempt then
      o.on_attempt(n, e)
    end
    if time.mono() - started >= limit then
      u.raise {
        kind = "timeout", code = "Deadline", cause = e, host = self.label,
        message = ("winrm: %s not ready within %g s (wait, %d attempts; last: %s)"):format(
          self.label, limit, n, e.message),
      }
    end
    async.sleep(o.interval or 5)
  end
end

--- Requests, retries, bytes and open shells of this session.
-- @return {requests=integer, retries=integer, bytes_in=integer, bytes_out=integer, shells=integer}
function Session:stats()
  local r = self.core:stats()
  r.shells = self.open_shells
  return r
end

--- Another password for the account: it was changed on the machine.
-- @param password string|secret
function Session:set_password(password)
  self.password = type(password) == "string" and crypto.secret(password) or password
  self.core:account(self.user, self.password)
end

--- Ends the session and its implicit pool; repeatable.
-- @waits
function Session:close()
  if self.closed then
    return
  end
  async.release(self)
  if self.implicit then
    local p = self.implicit
    self.implicit = nil
    local _d <close> = async.defer(function() u.quietly(p.close, p) end, 10)
  end
  self.closed = true
  self.core:close()
end
Session.__close = Session.close

--- The session outlives the scope that made it.
-- @return session
function Session:keep()
  async.release(self)
  return self
end

local pools = pool.class
pools.ps, pools.ps_value, pools.ps_json = ps.run, ps.value, ps.json

--- A value of a type that Lua has not.
-- @param tag string element of CLIXML: "DT", "Version", "G", "U64" ...
-- @param text string|integer|boolean
-- @return table to be used as a parameter
function M.typed(tag, text)
  return { [core.mark] = { t = tag, v = text } }
end

--- Bytes instead of text.
-- @param s string
-- @return table to be used as a parameter
function M.bytes(s)
  return { [core.mark] = { t = "BA", v = crypto.base64(s) } }
end

--- An array, also when it is empty.
-- @param t table
-- @return table to be used as a parameter
function M.list(t)
  return json.list(t)
end

--- Epoch seconds of a DT value.
-- @param text string ISO 8601
-- @return number
function M.time(text)
  return time.parse(text)
end

--- CLIXML: decode(xml, {typed=true}), encode(value), stderr(text).
M.clixml = {
  decode = function(xml, opts) return core.decode(xml, opts and opts.typed or false) end,
  encode = function(value, opts) return core.encode(value, opts and opts.typed or false) end,
  stderr = core.stderr,
}

return M
