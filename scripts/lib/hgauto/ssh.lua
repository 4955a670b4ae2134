--- SSH and SFTP: our own client.  C half: hgauto.ssh.core.
local core = require "hgauto.ssh.core"
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local log = require "hgauto.log"
local time = require "hgauto.time"

local M = {}

local Session = { __name = "ssh session" }
Session.__index = Session
local Process = { __name = "ssh process" }
Process.__index = Process

local LINE_MAX = 64 * 1024
local CHUNK = 256 * 1024
local LADDER_SEC = 10
local GRACE_SEC = 5

-- ---- options and errors ----

local function raise(e)
  error(host.error(e), 0)
end

local function usage(fmt, ...)
  raise { kind = "usage", message = fmt:format(...) }
end

local function nearest(key, defs)
  for name in pairs(defs) do
    if name:lower():gsub("_", "") == key:lower():gsub("[_-]", "") or name:sub(1, #key) == key then
      return "; did you mean " .. name .. "?"
    end
  end
  return ""
end

--- Checks an options table: defs maps names to types ("number string").
local function options(given, defs, what)
  if given == nil then
    return {}
  end
  if type(given) ~= "table" then
    usage("%s: options must be a table, not a %s", what, type(given))
  end
  local o = {}
  for key, value in pairs(given) do
    local types = defs[key]
    if not types then
      usage("%s: unknown option %s%s", what, tostring(key), nearest(tostring(key), defs))
    end
    if not (" " .. types .. " "):find(" " .. type(value) .. " ", 1, true) then
      usage("%s: option %s must be a %s, not a %s", what, key, types:gsub(" ", " or "), type(value))
    end
    o[key] = value
  end
  return o
end

local CONNECT = {
  user = "string", port = "number", host = "string", host_key = "string table userdata",
  known_hosts = "string table boolean", accept_new = "boolean", host_key_alias = "string",
  keys = "table", certificate = "string table", passphrase = "string userdata function",
  agent = "boolean string", identities_only = "boolean", password = "string userdata",
  prompt = "function", config = "boolean string", jump = "string table",
  proxy_command = "string", timeout = "number table", keepalive = "table",
  ciphers = "table string", bind_address = "string", family = "string number", label = "string",
}
local WAIT = {
  for_seconds = "number", delay = "number", max_delay = "number", auth_grace = "number",
  on_attempt = "function",
}
local KEEPALIVE = { interval = "number", count = "number" }
local TIMEOUT = {
  connect = "number", banner = "number", kex = "number", login = "number", total = "number",
}

--- Pins as a list of texts from a text, a key handle or a list of these.
local function pin_list(given)
  local list = {}
  if given == nil then
    return list
  end
  for _, pin in ipairs(type(given) == "table" and given or { given }) do
    if type(pin) == "userdata" then
      pin = pin:public()
    end
    list[#list + 1] = pin
  end
  return list
end

local function agent_path(o)
  if o.agent == false then
    return nil
  end
  if type(o.agent) == "string" then
    return o.agent
  end
  -- A list of keys says which ones: the agent is then asked only on request
  -- or for keys named by their public half.
  local public = false
  for _, key in ipairs(o.keys or {}) do
    public = public or type(key) == "string" and key:sub(-4) == ".pub"
  end
  if o.agent or public or not o.keys then
    return host.getenv("SSH_AUTH_SOCK")
  end
end

local OWN_KNOWN_HOSTS = "known_hosts"
local state_dir

--- Names the state directory, in which keys accepted with accept_new are kept.
-- @param path string
function M.use_state(path)
  state_dir = path
end

local function own_known_hosts()
  local dir = state_dir or host.getenv("HGAUTO_STATE") or fs.home() .. "/.hgautomation"
  return dir .. "/" .. OWN_KNOWN_HOSTS, dir
end

local function default_known_hosts()
  local list = {}
  for _, dir in ipairs { fs.home() .. "/.ssh/", "/etc/ssh/ssh_" } do
    list[#list + 1] = dir .. "known_hosts"
    list[#list + 1] = dir .. "known_hosts2"
  end
  return list
end

--- Where to look a host key up when none is pinned.
local function trust_of(o, t)
  t.host_key = pin_list(o.host_key)
  if o.host_key ~= nil or o.known_hosts == false then
    if o.accept_new then
      usage("ssh: accept_new needs known_hosts and no host_key")
    end
    return
  end
  local files = o.known_hosts
  if files == nil or files == true then
    files = default_known_hosts()
  end
  t.known_hosts = type(files) == "table" and files or { files }
  local path, dir = own_known_hosts()
  if o.accept_new then
    fs.mkdir(dir, { parents = true, mode = 448 })
  end
  t.own_known_hosts, t.accept_new, t.alias = path, o.accept_new, o.host_key_alias
end

local function listed(v)
  return type(v) == "table" and table.concat(v, ",") or v
end

--- One function for all that the core may ask while logging in.
local function asker(o)
  local pass, prompt = o.passphrase, o.prompt
  if type(pass) ~= "function" and not prompt then
    return nil
  end
  return function(q)
    if q.what == "passphrase" then
      return type(pass) == "function" and pass(q.path, q.attempt) or nil
    end
    return prompt and prompt(q) or nil
  end
end

local function target_of(name, o)
  local t = type(o.timeout) == "table" and options(o.timeout, TIMEOUT, "ssh: timeout")
    or { total = o.timeout }
  local keepalive = options(o.keepalive, KEEPALIVE, "ssh: keepalive")
  if type(name) ~= "string" then
    usage("ssh: a host name is needed")
  end
  local only = o.identities_only
  if only == nil then
    only = o.keys ~= nil
  end
  local secret = type(o.passphrase) ~= "function" and o.passphrase or nil
  local target = {
    name = o.label or name, host = name, port = o.port, user = o.user or host.getenv("USER"),
    keys = o.keys, agent = agent_path(o), identities_only = only,
    certs = type(o.certificate) == "string" and { o.certificate } or o.certificate,
    passphrase = secret, password = o.password, ask = asker(o),
    proxy_command = o.proxy_command,
    ciphers = listed(o.ciphers),
    bind_address = o.bind_address, family = math.tointeger(tonumber(o.family)),
    connect = t.connect, banner = t.banner, kex = t.kex, login = t.login, total = t.total,
    interval = keepalive.interval, count = math.tointeger(keepalive.count),
  }
  trust_of(o, target)
  return target
end

-- ---- sessions ----

local function new_session(conn)
  conn.users = conn.users + 1
  local s = setmetatable({ conn = conn }, Session)
  async.register(s)
  return s
end

local function split_host(where, given)
  if type(where) == "table" then
    return where.host, where
  end
  return where, given
end

--- Connects and logs in; the host key must be known in advance.
-- @param where string|table host name, or a table with it as field host
-- @param opts.user string
-- @param opts.port integer default 22
-- @param opts.host_key string|key|table trusted keys or "SHA256:..." fingerprints
-- @param opts.keys table key handles and private key files (a .pub names one of the agent)
-- @param opts.agent boolean|string use SSH_AUTH_SOCK or this socket
-- @param opts.identities_only boolean of the agent's keys only those in keys
-- @param opts.timeout number|table total, or connect banner kex login total
-- @param opts.keepalive table interval, count
-- @param opts.ciphers table narrows ours
-- @param opts.family string "any", 4, 6
-- @param opts.bind_address string
-- @param opts.label string name in messages
-- @return session closable, ends with the scope
-- @raise auth HostKeyChanged AuthRejected Key*; net; timeout; protocol
-- @waits
-- @example local s = ssh.connect("10.0.0.5", { user = "admin", keys = { key }, host_key = pin })
function M.connect(where, opts)
  local name, given = split_host(where, opts)
  local target = target_of(name, options(given, CONNECT, "ssh.connect"))
  return new_session { core = core.connect(target), target = target, users = 0 }
end

local function merged(a, b)
  local r = {}
  for k, v in pairs(a) do
    r[k] = v
  end
  for k, v in pairs(b) do
    r[k] = v
  end
  return r
end

local LITERAL = { "^%d+%.%d+%.%d+%.%d+$", "^%x*:[%x:.]+$" }

local function is_literal(name)
  for _, pattern in ipairs(LITERAL) do
    if name:find(pattern) then
      return true
    end
  end
  return false
end

--- Whether a failed attempt may be followed by another one.
local function not_yet(err, w)
  if err.code == "Resolve" then
    return not is_literal(w.host) and time.mono() - w.start < 60
  end
  if err.code == "LocalOnly" then
    return false
  end
  if err.kind == "net" or err.kind == "timeout" then
    return true
  end
  if err.kind == "protocol" then
    return err.before_login and err.code ~= "KexNoMatch"
  end
  if err.code == "AuthRejected" or err.code == "AuthTooMany" then
    return time.mono() - (w.banner or time.mono()) < w.auth_grace
  end
  return false
end

local function waiting_failed(target, seconds, last)
  raise {
    kind = "timeout", code = "Connect", cause = last,
    message = ("waiting for SSH on %s: no answer within %s (last: %s)"):format(target.name,
      seconds >= 120 and ("%gm"):format(seconds / 60) or ("%gs"):format(seconds),
      last and (last.message or tostring(last)) or "nothing tried"),
  }
end

local function attempt_until(target, o)
  local w = {
    start = time.mono(), host = target.host, auth_grace = o.auth_grace or 120,
  }
  local total, delay = o.for_seconds or 600, o.delay or 1
  local n, last = 0, nil
  while true do
    local left = total - (time.mono() - w.start)
    if left <= 0 then
      waiting_failed(target, total, last)
    end
    n = n + 1
    local limit = math.min(target.total or 45, left)
    local ok, r = pcall(core.connect, merged(target, { total = limit }))
    if ok then
      return r
    end
    if type(r) ~= "table" or r.kind == "cancelled" then
      error(r, 0)
    end
    last = r
    if r.banner_seen then
      w.banner = w.banner or time.mono()
    end
    if o.on_attempt then
      o.on_attempt(n, r)
    end
    if not not_yet(r, w) then
      r.attempts = n
      error(r, 0)
    end
    left = total - (time.mono() - w.start)
    async.sleep(math.max(0, math.min(delay * (0.8 + 0.4 * math.random()), left)))
    delay = math.min(delay * 1.5, o.max_delay or 10)
  end
end

--- Connects as soon as the host lets us in: for machines that are starting.
-- @param where string|table as connect
-- @param opts table as connect, and: for_seconds=600 delay=1 max_delay=10 auth_grace=120
-- @param opts.on_attempt function called with the number of a failed attempt and its error
-- @return session
-- @raise auth HostKeyChanged (at once), AuthRejected (after auth_grace); timeout
-- @waits
-- @example local s = ssh.wait_ready(address, { user = "admin", keys = { key }, host_key = pin })
function M.wait_ready(where, opts)
  local name, given = split_host(where, opts)
  local o = options(given, merged(CONNECT, WAIT), "ssh.wait_ready")
  local target = target_of(name, o)
  return new_session { core = attempt_until(target, o), target = target, users = 0 }
end

--- Makes the same target usable again after its connection was lost.
-- @param opts table for_seconds=600 delay max_delay auth_grace on_attempt
-- @raise as ssh.wait_ready
-- @waits
function Session:wait_ready(opts)
  local o = options(opts, WAIT, "s:wait_ready")
  local conn = self:_conn()
  conn.core:close()
  conn.core = attempt_until(conn.target, o)
end

function Session:_conn()
  if self.closed then
    raise { kind = "net", code = "ConnectionLost", message = "ssh: the session is closed" }
  end
  return self.conn
end

local busy_meta = {
  __close = function(b)
    local s = b.session
    s.depth = s.depth - 1
    if s.depth == 0 then
      s.task = nil
    end
  end,
}

--- A handle serves one task at a time; the same task may nest.
local function enter(self)
  local conn = self:_conn()
  local task = async.current()
  if self.task and self.task ~= task then
    usage("ssh %s: busy in task %s; use s:share()", conn.target.name, self.task_name)
  end
  self.task, self.task_name = task, async.label() or "?"
  self.depth = (self.depth or 0) + 1
  return setmetatable({ session = self }, busy_meta), conn
end

--- Another handle on the same connection, for another task.
-- @return session closable
function Session:share()
  return new_session(self:_conn())
end

--- The session outlives the scope that made it.
-- @return session
function Session:keep()
  async.release(self)
  return self
end

--- Ends the connection at once (with the last handle on it).
function Session:close()
  if self.closed then
    return
  end
  self.closed = true
  async.release(self)
  local conn = self.conn
  conn.users = conn.users - 1
  if conn.users == 0 then
    conn.closed = true
    conn.core:close()
  end
end

Session.__close = Session.close
Session.__gc = function(self)
  if not self.closed then
    log.debug("ssh %s: a session was not closed", self.conn.target.name)
  end
end

--- What is known of the connection.
-- @return table host address port user server kex hostkey cipher mac fingerprint trust rx tx rtt
--   banner open
function Session:info()
  local i = self:_conn().core:info()
  i.key = nil
  return i
end

--- One probe: seconds until the server's answer.
-- @return number
-- @raise net
-- @waits
function Session:ping()
  local _b <close>, conn = enter(self)
  return conn.core:ping()
end

-- ---- commands: request ----

--- POSIX words of a list, for a shell's command line.
-- @param list string[]
-- @return string
-- @example ssh.quote { "touch", "it's" }
M.quote = core.quote

local function words_of(o, id)
  local words = {}
  if o.sudo then
    words = { "sudo", "-n" }
    if type(o.sudo) == "string" then
      words[3], words[4] = "-u", o.sudo
    end
  end
  words[#words + 1] = "/usr/bin/env"
  words[#words + 1] = "_HGAUTO_EXEC=" .. id
  local names = {}
  for name in pairs(o.env or {}) do
    if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
      usage("ssh exec: %s is no name of a variable", tostring(name))
    end
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    words[#words + 1] = name .. "=" .. tostring(o.env[name])
  end
  return words
end

--- A library that reads a missing status as 0 sees only codes that differ.
local SWAP = "; r=$?; case $r in 0) exit 254;; 254) exit 0;; esac; exit $r"

local function compose(cmd, o, id)
  if o.raw then
    if type(cmd) ~= "string" or o.env or o.cwd or o.sudo then
      usage("ssh exec: raw takes a string and no env, cwd or sudo")
    end
    return cmd
  end
  local words = words_of(o, id)
  if type(cmd) == "table" then
    if #cmd == 0 then
      usage("ssh exec: the argument list is empty")
    end
    for i, word in ipairs(cmd) do
      if type(word) ~= "string" and type(word) ~= "number" then
        usage("ssh exec: argument %d is a %s", i, type(word))
      end
    end
  elseif type(cmd) ~= "string" then
    usage("ssh exec: a command line or an argument list is needed")
  end
  if not core.knows_status then
    local line = type(cmd) == "table" and core.quote(cmd) or "(" .. cmd .. "\n)"
    cmd = line .. SWAP
  end
  if type(cmd) == "string" then
    cmd = { "/bin/sh", "-c", cmd }
  end
  for _, word in ipairs(cmd) do
    words[#words + 1] = tostring(word)
  end
  local line = "exec " .. core.quote(words)
  if o.cwd then
    local dir = o.cwd:sub(1, 1) == "-" and "./" .. o.cwd or o.cwd
    line = "cd " .. core.quote { dir } .. " && " .. line
  end
  return line
end

-- ---- commands: end of what they started ----

local function marked_run(conn_core, id, sudo, seconds)
  local line = "exec " .. (sudo and "sudo -n " or "") .. ("/bin/sh -s %s %d"):format(id, GRACE_SEC)
  local p = conn_core:exec(line, { input = embed.read("linux/kill.sh"), max_output = 4096 })
  local deadline = time.mono() + seconds
  while not p:wait(math.max(0.01, deadline - time.mono()), 0, false) do
  end
  local text = p:tail(0)
  p:close()
  log.debug("ssh kill %s%s: %s", id, sudo and " (sudo)" or "", text)
  return tonumber(text:match("left=(%d+)")), tonumber(text:match("waited=(%d+)"))
end

--- Same connection while it answers, else one new one.
local function ladder_core(conn)
  if conn.core:info().open and pcall(async.timeout, 1.5, conn.core.ping, conn.core) then
    return conn.core
  end
  local c = core.connect(merged(conn.target, { total = 5 }))
  return c, c
end

local function run_ladder(p)
  local conn, o = p.conn, p.options
  local deadline = time.mono() + LADDER_SEC - 0.5
  p.core:signal("TERM")
  if o.raw or o.kill == "channel" then
    return nil
  end
  local c, fresh = ladder_core(conn)
  local user_sudo = o.sudo ~= nil and o.sudo ~= false
  local left, waited = marked_run(c, p.id, user_sudo, deadline - time.mono())
  -- Processes of another user (a sudo inside) need sudo, too.
  if not user_sudo and (left ~= 0 or waited == 0) and deadline - time.mono() > 1 then
    local ok, again = pcall(marked_run, c, p.id, true, deadline - time.mono())
    if ok and again then
      left = again
    end
  end
  if fresh then
    fresh:close()
  end
  return left or "unknown"
end

--- Ends what a command has started; how many processes are left.
local function ladder(p)
  if p.options.kill == "none" or p.conn.closed then
    return nil
  end
  local ok, left = pcall(async.shield, LADDER_SEC, run_ladder, p)
  if not ok then
    log.debug("ssh %s: kill: %s", p.conn.target.name, tostring(left))
    left = "unknown"
  end
  if left and left ~= 0 then
    log.warn("ssh %s: processes of the command may still run there (left: %s)",
      p.conn.target.name, tostring(left))
    return left
  end
end

-- ---- commands: streams ----

--- Cuts blocks into lines, longer ones into pieces.
local function splitter(emit)
  local rest = ""
  return function(block, last)
    rest = block and rest .. block or rest
    local from = 1
    while true do
      local at = rest:find("\n", from, true)
      if not at then
        break
      end
      for i = from, at - 1, LINE_MAX do
        emit(rest:sub(i, math.min(i + LINE_MAX - 1, at - 1)))
      end
      if at == from then
        emit("")
      end
      from = at + 1
    end
    rest = rest:sub(from)
    while #rest >= LINE_MAX or last and rest ~= "" do
      local piece = rest:sub(1, LINE_MAX)
      rest = rest:sub(LINE_MAX + 1)
      emit(piece)
    end
  end
end

--- Who gets everything of a stream: list of function(block, last).
local function consumers(o, stream, closers)
  local list = {}
  if o.on_line then
    list[1] = splitter(function(line)
      o.on_line(stream, line)
    end)
  end
  local sink = o.sink and o.sink[stream]
  if type(sink) == "function" then
    list[#list + 1] = function(block)
      if block then
        sink(block)
      end
    end
  elseif sink then
    local f, why = io.open(sink, "wb")
    if not f then
      raise { kind = "io", message = "ssh exec: cannot write " .. tostring(why) }
    end
    closers[#closers + 1] = f
    list[#list + 1] = function(block)
      if block and not f:write(block) then
        raise { kind = "io", message = "ssh exec: cannot write " .. sink }
      end
    end
  end
  return list
end

--- Function that gives the next piece of stdin, nil at the end.
local function source(stdin, closers)
  if type(stdin) == "function" then
    return stdin
  end
  if type(stdin) == "table" then
    local f, why = io.open(stdin.file or "", "rb")
    if not f then
      raise { kind = "io", message = "ssh exec: cannot read " .. tostring(why) }
    end
    closers[#closers + 1] = f
    return function()
      return f:read(CHUNK)
    end
  end
end

local EXEC = {
  cwd = "string", env = "table", stdin = "string function table boolean", sudo = "boolean string",
  timeout = "number", idle_timeout = "number", check = "boolean", on_line = "function",
  sink = "table", max_output = "number", merge = "boolean", wait = "string", raw = "boolean",
  kill = "string",
}
local CHOICES = {
  wait = { eof = true, exit = true },
  kill = { tree = true, channel = true, none = true },
}

local function exec_options(given, what)
  local o = options(given, EXEC, what)
  for key, allowed in pairs(CHOICES) do
    if o[key] and not allowed[o[key]] then
      usage("%s: option %s cannot be %q", what, key, o[key])
    end
  end
  if o.merge and not o.raw then
    o.shell_merge = true
  end
  return o
end

local function start(conn, cmd, o, spawned)
  local id = crypto.hex(crypto.random(8))
  if o.shell_merge then
    cmd = (type(cmd) == "table" and core.quote(cmd) or "(" .. cmd .. "\n)") .. " 2>&1"
  end
  local stream = o.on_line ~= nil or spawned
  local open = o.stdin == true or type(o.stdin) == "function" or type(o.stdin) == "table"
  local c = conn.core:exec(compose(cmd, o, id), {
    input = type(o.stdin) == "string" and o.stdin or nil,
    in_open = open, max_output = math.tointeger(o.max_output),
    queue_out = stream or o.sink ~= nil and o.sink.out ~= nil,
    queue_err = stream or o.sink ~= nil and o.sink.err ~= nil,
    wait_exit = o.wait == "exit",
  })
  return setmetatable({ core = c, conn = conn, options = o, id = id }, Process)
end

local function result(p)
  local i = p.core:info()
  local out, cut_out = p.core:tail(0)
  local err, cut_err = p.core:tail(1)
  local code = i.code
  if code and not core.knows_status and not p.options.raw then
    code = code == 254 and 0 or code == 0 and 254 or code
  end
  return {
    ok = code == 0 and not i.signal and not i.error, code = code, signal = i.signal,
    out = out, err = err, truncated = cut_out or cut_err, seconds = i.seconds,
  }, i.error
end

local function last_line(text)
  local last
  for line in text:sub(-2000):gmatch("[^\r\n]+") do
    if line:find("%S") then
      last = line
    end
  end
  return last and ": " .. last:sub(1, 200) or ""
end

--- The result of an ended command, or its error.
local function judge(p)
  local r, err = result(p)
  if err then
    err.result = r
    error(err, 0)
  end
  if r.code == 0 and p.options.raw and not core.knows_status then
    raise { kind = "remote", code = "NoExitStatus", result = r,
      message = ("ssh %s: ended without exit status"):format(p.conn.target.name) }
  end
  if p.options.check == false or r.ok then
    return r
  end
  local name = p.conn.target.name
  if r.signal then
    raise { kind = "remote", code = "Signal", result = r,
      message = ("ssh %s: command killed by signal %s"):format(name, r.signal) }
  end
  raise { kind = "remote", code = "ExitCode", result = r,
    message = ("ssh %s: command exited with code %d%s"):format(name, r.code or -1,
      last_line(r.err ~= "" and r.err or r.out)) }
end

local function feed(p, feeder)
  while feeder.next do
    if not feeder.text then
      feeder.text, feeder.at = feeder.next(), 1
      if not feeder.text then
        p.core:eof()
        feeder.next = nil
        return
      end
    end
    feeder.at = feeder.at + p.core:write(feeder.text, feeder.at)
    if feeder.at <= #feeder.text then
      return
    end
    feeder.text = nil
  end
end

local function drain(p, takers)
  for stream, list in pairs(takers) do
    local block = p.core:take(stream)
    while block do
      for _, take in ipairs(list) do
        take(block)
      end
      block = p.core:take(stream)
    end
  end
end

--- It runs, or ran when the connection was lost.
local function unfinished(p)
  local i = p.core:info()
  return not i.ended or i.started and i.error and i.error.kind == "net"
end

local function run(p, closers)
  local o = p.options
  local takers = {}
  for stream, name in pairs { [0] = "out", [1] = "err" } do
    takers[stream] = consumers(o, name, closers)
  end
  local feeder = { next = source(o.stdin, closers) }
  local deadline = time.mono() + (o.timeout or 14400)
  local ended = false
  while not ended do
    feed(p, feeder)
    ended = p.core:wait(math.max(0.001, deadline - time.mono()), o.idle_timeout or 0,
      feeder.next ~= nil)
    drain(p, takers)
  end
  for _, list in pairs(takers) do
    for _, take in ipairs(list) do
      take(nil, true)
    end
  end
  p.done = not unfinished(p)
end

--- Ends a command whose run did not come to its end.
local guard_meta = {
  __close = function(g, err)
    local p = g.process
    for _, f in ipairs(g.closers) do
      f:close()
    end
    if not p.done and unfinished(p) then
      local left = ladder(p)
      if left and type(err) == "table" then
        err.remote_left = left
      end
    end
    if type(err) == "table" and not err.result then
      err.result = result(p)
    end
    p.core:close()
  end,
}

--- Runs a command on the machine and returns its output.
-- A list is quoted word by word; a string goes to /bin/sh.
-- @param cmd string|string[]
-- @param opts.cwd string
-- @param opts.env table
-- @param opts.stdin string|function|table text, a function that gives pieces, {file=path}
-- @param opts.sudo boolean|string as root or as this user
-- @param opts.timeout number seconds, default 4 h
-- @param opts.idle_timeout number seconds without output
-- @param opts.check boolean raise for an exit code other than 0 or a signal, default true
-- @param opts.on_line function called with stream ("out", "err") and line
-- @param opts.sink table out, err: file or function that gets everything
-- @param opts.max_output integer bytes kept of each stream (the last ones), default 1 MiB
-- @param opts.merge boolean stderr into stdout
-- @param opts.wait string "eof" (default) or "exit": do not wait for background children
-- @param opts.raw boolean send the string as it is
-- @param opts.kill string "tree" (default), "channel", "none": at cancel or timeout
-- @return table {ok, code, signal, out, err, truncated, seconds}
-- @raise remote ExitCode Signal NoExitStatus; net ConnectionLost; timeout Command Idle; cancelled
-- @waits
-- @see RFC 4254 section 6.5
-- @example local r = s:exec({ "hg", "version", "-q" }, { cwd = "/hgdev/src" })
function Session:exec(cmd, opts)
  local _b <close>, conn = enter(self)
  local o = exec_options(opts, "s:exec")
  if o.stdin == true then
    usage("s:exec: stdin=true is for s:spawn")
  end
  local p = start(conn, cmd, o)
  local closers = {}
  do
    local _g <close> = setmetatable({ process = p, closers = closers }, guard_meta)
    run(p, closers)
    return judge(p)
  end
end

--- Starts a command; the process is ended with the scope.
-- @param cmd string|string[]
-- @param opts table as exec; stdin=true keeps it open for p:write
-- @return process closable
-- @raise usage, net
-- @example local p = s:spawn({ "cat" }, { stdin = true })
function Session:spawn(cmd, opts)
  local conn = self:_conn()
  local o = exec_options(opts, "s:spawn")
  if o.on_line or o.sink or type(o.stdin) == "function" then
    usage("s:spawn: on_line, sink and a stdin function are for s:exec")
  end
  local p = start(conn, cmd, o, true)
  async.register(p)
  return p
end

--- The next piece of output.
-- @return string|nil "out" or "err"; nil at the end
-- @return string
-- @waits
function Process:read()
  while true do
    for stream = 0, 1 do
      local block = self.core:take(stream)
      if block then
        return stream == 0 and "out" or "err", block
      end
    end
    if self.ended then
      return nil
    end
    self.ended = self.core:wait(0, 0, false)
  end
end

--- Iterates over the lines of both streams: line, stream.
-- @return function
-- @waits
function Process:lines()
  local queue, head, over, cut = {}, 1, false, {}
  for _, name in ipairs { "out", "err" } do
    cut[name] = splitter(function(line)
      queue[#queue + 1] = { line, name }
    end)
  end
  return function()
    while head > #queue do
      if over then
        return nil
      end
      queue, head = {}, 1
      local name, block = self:read()
      if name then
        cut[name](block)
      else
        over = true
        cut.out(nil, true)
        cut.err(nil, true)
      end
    end
    local item = queue[head]
    head = head + 1
    return item[1], item[2]
  end
end

--- Writes to the standard input of a process started with stdin=true.
-- @param text string
-- @waits until all of it is taken
function Process:write(text)
  local at = 1
  while at <= #text do
    at = at + self.core:write(text, at)
    if at <= #text then
      self.core:wait(0, 0, true)
    end
  end
end

--- No more input.
function Process:close_stdin()
  self.core:eof()
end

--- Sends a signal by name; servers may ignore it.
-- @param name string "TERM"
function Process:signal(name)
  self.core:signal(name)
end

--- Waits for the end; output that nobody read is dropped.
-- @param[opt] sec number
-- @return table as exec
-- @raise as exec; timeout Command
-- @waits
function Process:wait(sec)
  local deadline = sec and time.mono() + sec
  while not self.ended do
    self.ended = self.core:wait(deadline and math.max(0.001, deadline - time.mono()) or 0, 0, false)
    drain(self, { [0] = {}, {} })
  end
  return judge(self)
end

--- Whether it runs: nil, or the result's code and signal.
-- @return string "running" or "ended"
function Process:status()
  return self.core:info().ended and "ended" or "running"
end

--- Ends it and everything it has started.
-- @return integer|string|nil processes left
-- @waits at most 10 s
function Process:kill()
  if unfinished(self) then
    return ladder(self)
  end
end

--- Ends the process and gives the handle back.
function Process:close()
  if self.closed then
    return
  end
  self.closed = true
  async.release(self)
  if unfinished(self) then
    ladder(self)
  end
  self.core:close()
end

Process.__close = Process.close

-- ---- files ----

require "hgauto.ssh_files"(Session, {
  enter = enter, options = options, raise = raise, usage = usage, merged = merged,
  --- One more connection to the same host as the same user.
  another = function(conn, seconds)
    return core.connect(merged(conn.target, { total = seconds }))
  end,
})

-- ---- OpenSSH's files for children ----

local ALGORITHMS = { ["ssh-rsa"] = "rsa-sha2-512,rsa-sha2-256" }

local function config_value(text)
  text = tostring(text)
  if text:find('["\r\n]') or text:find("${", 1, true) then
    usage("ssh config: %q cannot be written there", text)
  end
  return '"' .. text:gsub("%%", "%%%%") .. '"'
end

local function key_line(blob)
  local n = string.unpack(">I4", blob)
  return blob:sub(5, 4 + n), crypto.base64(blob)
end

local function write_keys(dir, target, files)
  local lines = {}
  for i, key in ipairs(target.keys or {}) do
    local path = key
    if type(key) ~= "string" then
      path = ("%s/id%d"):format(dir, i)
      key:save(path)
      files[#files + 1] = path
    end
    lines[#lines + 1] = "  IdentityFile " .. config_value(path)
  end
  if #lines == 0 then
    lines[1] = "  IdentityFile none"
  end
  return lines
end

local function config_text(dir, target, i, type_name, keys)
  local lines = {
    "Host *",
    "  HostName " .. config_value(target.host),
    "  HostKeyAlias " .. config_value("hgauto-" .. target.name),
    "  User " .. config_value(target.user),
    "  Port " .. i.port,
  }
  table.move(keys, 1, #keys, #lines + 1, lines)
  for _, line in ipairs {
    "IdentitiesOnly yes",
    "IdentityAgent " .. (target.agent and config_value(target.agent) or "none"),
    "UserKnownHostsFile " .. config_value(dir .. "/known_hosts"),
    "GlobalKnownHostsFile /dev/null",
    "StrictHostKeyChecking yes",
    "UpdateHostKeys no",
    "HostKeyAlgorithms " .. (ALGORITHMS[type_name] or type_name),
    "BatchMode yes",
    "PreferredAuthentications publickey",
    "ControlMaster no",
    "ControlPath none",
    "ForwardAgent no",
    "ForwardX11 no",
    "ClearAllForwardings yes",
    "PermitLocalCommand no",
    "CanonicalizeHostname no",
    "ProxyJump none",
    "ProxyCommand none",
    "RequestTTY no",
    "EscapeChar none",
    "ServerAliveInterval 15",
    "ServerAliveCountMax 3",
    "ConnectTimeout 15",
    "LogLevel ERROR",
  } do
    lines[#lines + 1] = "  " .. line
  end
  return table.concat(lines, "\n") .. "\n"
end

local config_meta = {
  __close = function(c)
    if not c.gone then
      c.gone = true
      async.release(c)
      for _, path in ipairs(c.files) do
        pcall(fs.remove, path)
      end
    end
  end,
}

--- Writes a configuration for OpenSSH's ssh into a directory of ours.
-- Use: `ssh -F FILE HOST`, `hg --config ui.ssh="ssh -F 'FILE'"`.  The files are
-- removed with the scope.
-- @param dir string made with mode 0700 if it is missing
-- @return string path of the file
-- @raise usage, io
-- @example local file = s:openssh_config(dir)
function Session:openssh_config(dir)
  local conn = self:_conn()
  local i, target = conn.core:info(), conn.target
  if dir:sub(1, 1) ~= "/" then
    dir = fs.cwd() .. "/" .. dir
  end
  config_value(dir)
  if target.host:sub(1, 1) == "-" or target.name:find("[%s,*?!]") then
    usage("ssh config: %q is no name of a host", target.name)
  end
  fs.mkdir(dir, { parents = true, mode = 448 })
  local c = setmetatable({ files = {} }, config_meta)
  async.register(c)
  local type_name, b64 = key_line(i.key)
  local keys = write_keys(dir, target, c.files)
  for name, text in pairs {
    known_hosts = ("hgauto-%s %s %s\n"):format(target.name, type_name, b64),
    config = config_text(dir, target, i, type_name, keys),
  } do
    fs.write(dir .. "/" .. name, text, { mode = 384, atomic = true })
    c.files[#c.files + 1] = dir .. "/" .. name
  end
  return dir .. "/config"
end

-- ---- several hosts ----

require "hgauto.ssh_map"(M, { options = options, usage = usage, merged = merged })

--- Fingerprint of a key handle, a public key text or a private key file.
-- @param key key|string
-- @return string "SHA256:..."
-- @return string type
-- @return integer bits
function M.fingerprint(key)
  local text = key
  if type(key) == "userdata" then
    text = key:public()
  elseif not key:find("^[%w@.-]+ ") then
    text = key:sub(-4) == ".pub" and fs.read(key) or crypto.load_private(key):public()
  end
  local info = crypto.public_info((text:gsub("%s+$", "")))
  return info.fingerprint, info.type, info.bits
end

-- ---- known_hosts ----

local Known = { __name = "ssh known_hosts" }
Known.__index = Known

--- A known_hosts file: what it knows of hosts.
-- @param[opt] path string default the file of the state directory
-- @return table with find, add, remove, unreadable
-- @example ssh.known_hosts(fs.home() .. "/.ssh/known_hosts"):find("example.org")
function M.known_hosts(path)
  return setmetatable({ path = path or (own_known_hosts()) }, Known)
end

--- Lines for a host.
-- @param name string
-- @param[opt] port integer default 22
-- @return table list of {marker, names, type, fingerprint, line}
-- @raise protocol TooLarge
function Known:find(name, port)
  return (core.known_hosts(self.path, name, port))
end

--- Lines that cannot be read.
-- @return integer
function Known:unreadable()
  local _, bad = core.known_hosts(self.path)
  return bad
end

local function writable(self, what)
  local _, dir = own_known_hosts()
  if self.path:sub(1, #dir + 1) ~= dir .. "/" or self.path:find("/../", 1, true) then
    usage("%s: only files in the state directory are written, not %s", what, self.path)
  end
  fs.mkdir(dir, { parents = true, mode = 448 })
end

--- Adds a key for a host, in a file of the state directory.
-- @param name string
-- @param port integer
-- @param key string|key public key text or key handle
-- @raise usage, io
function Known:add(name, port, key)
  writable(self, "known_hosts:add")
  core.known_hosts_add(self.path, name, port, type(key) == "userdata" and key:public() or key)
end

--- Removes what is known of a host, from a file of the state directory.
-- @param name string
-- @param[opt] port integer default 22
-- @return integer lines removed
-- @raise usage, io
function Known:remove(name, port)
  writable(self, "known_hosts:remove")
  return core.known_hosts_remove(self.path, name, port)
end

--- Version of the SSH library and the edits it was built with.
M.library, M.edits = core.library, core.edits

return M
