--- SSH and SFTP: our own client.  C half: hgauto.ssh.core.
local core = require "hgauto.ssh.core"
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local log = require "hgauto.log"
local time = require "hgauto.time"

local M = {}

local Session = { __name = "ssh session" }
Session.__index = Session

-- ---- options and errors ----

local function raise(e)
  error(host.error(e), 0)
end

local function usage(fmt, ...)
  raise { kind = "usage", message = fmt:format(...) }
end

--- Completes an error: whose it is, and whether the same again may help.  After the login only a
-- transfer may be repeated: a command may have been carried out.
local function of_target(err, target, transfer)
  if type(err) ~= "table" or err.host or err.kind == "cancelled" then
    return err
  end
  err.host, err.port, err.user = target.host, target.port or 22, target.user
  err.retryable = (err.kind == "net" or err.kind == "timeout")
    and (err.before_login == true or transfer == true)
  return err
end

local function nearest(key, defs)
  for name in pairs(defs) do
    if name:lower():gsub("_", "") == key:lower():gsub("[_-]", "") or name:sub(1, #key) == key then
      return "; did you mean " .. name .. "?"
    end
  end
  return ""
end

--- "number string" as a set.
local type_sets = setmetatable({}, {
  __index = function(sets, types)
    local set = {}
    for name in types:gmatch("%S+") do
      set[name] = true
    end
    sets[types] = set
    return set
  end,
})

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
    if not type_sets[types][type(value)] then
      usage("%s: option %s must be a %s, not a %s", what, key, types:gsub(" ", " or "), type(value))
    end
    o[key] = value
  end
  return o
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

-- ---- configuration files ----

local KEX = {
  "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384",
  "ecdh-sha2-nistp521", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512",
  "diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256",
}
local CIPHERS = {
  "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr",
  "aes192-ctr", "aes128-ctr",
}
local MACS = {
  "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256",
  "hmac-sha2-512",
}
local HOST_KEYS = {
  "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
  "rsa-sha2-512", "rsa-sha2-256",
}

local function narrowed(sc, ours, c, key)
  if not c[key] then
    return nil
  end
  local list = sc.narrow(ours, c[key])
  if #list == 0 then
    usage("ssh_config: %s %s leaves nothing that is supported", key, c[key])
  end
  return table.concat(list, ",")
end

local function agent_of(sc, c, tokens)
  local v = c.identityagent
  if v == "none" then
    return false
  elseif not v or v == "SSH_AUTH_SOCK" then
    return host.getenv("SSH_AUTH_SOCK") or false
  elseif v:sub(1, 1) == "$" and v:sub(2, 2) ~= "{" then
    return host.getenv(v:sub(2)) or false
  end
  return sc.expand(v, tokens)
end

local function key_files(sc, c, tokens)
  local keys, certs = {}, {}
  for _, f in ipairs(c.certificatefile) do
    certs[#certs + 1] = sc.expand(f, tokens)
  end
  for _, f in ipairs(c.identityfile) do
    if f:lower() ~= "none" then
      local path = sc.expand(f, tokens)
      keys[#keys + 1] = { optional = path }
      if fs.exists(path .. "-cert.pub") then
        certs[#certs + 1] = path .. "-cert.pub"
      end
    end
  end
  return keys, certs
end

local function known_files(sc, c, tokens)
  local list = {}
  for _, f in ipairs(c.userknownhostsfile) do
    if f:lower() ~= "none" then
      list[#list + 1] = sc.expand(f, tokens)
    end
  end
  for _, f in ipairs(c.globalknownhostsfile) do
    list[#list + 1] = f
  end
  return list
end

local warned_strict

--- The jump of a host; one that names the host itself (Host *) is none.
local function jump_of(sc, c, name, o)
  if o.proxy_command or not c.proxyjump then
    return nil
  end
  local last = sc.parse_jump(c.proxyjump:match("([^,]*)$"))
  return last.host ~= name and last.host ~= c.hostname and c.proxyjump or nil
end

--- Options for a host, completed from the configuration files.
local function configured(name, o)
  local sc = require "hgauto.ssh_config"
  local c = sc.effective(name, type(o.config) == "string" and o.config or nil,
    { user = o.user, port = o.port and math.tointeger(o.port) })
  local tokens = sc.tokens(name, c)
  local keys, certs = key_files(sc, c, tokens)
  if c.stricthostkeychecking ~= "ask" and c.stricthostkeychecking ~= "true"
    and not warned_strict then
    warned_strict = true
    log.warn("ssh_config: StrictHostKeyChecking %s counts as yes here", c.stricthostkeychecking)
  end
  local wait = c.connecttimeout >= 0 and c.connecttimeout or nil
  local alive = { count = c.serveralivecountmax }
  if c.serveraliveinterval > 0 then
    alive.interval = c.serveraliveinterval
  end
  local found = {
    user = c.user, port = c.port, keys = keys, certificate = #certs > 0 and certs or nil,
    identities_only = c.identitiesonly, agent = agent_of(sc, c, tokens),
    known_hosts = o.host_key == nil and known_files(sc, c, tokens) or nil,
    host_key_alias = c.hostkeyalias, jump = jump_of(sc, c, name, o),
    proxy_command = not o.jump and c.proxycommand
      and sc.expand(c.proxycommand, tokens, true) or nil,
    timeout = wait and { connect = wait, banner = wait, kex = wait } or nil,
    keepalive = alive, bind_address = c.bindaddress, label = name,
    family = c.addressfamily == "inet" and 4 or c.addressfamily == "inet6" and 6 or nil,
    ciphers = narrowed(sc, CIPHERS, c, "ciphers"),
  }
  if o.keys then
    found.certificate = nil
  end
  local more = {
    kex_algs = narrowed(sc, KEX, c, "kexalgorithms"), macs = narrowed(sc, MACS, c, "macs"),
    hostkeys = narrowed(sc, HOST_KEYS, c, "hostkeyalgorithms"), env = {},
  }
  for _, pair in ipairs(c.setenv) do
    local key, value = pair:match("^([^=]+)=(.*)$")
    if more.env[key] == nil then
      more.env[key] = value
    end
  end
  return c.hostname, merged(found, o), more
end

-- ---- what is connected to ----

local HOPS_MAX = 8
local target_of

--- Targets of the hosts to go through, first one first; or a session.
local function hops_of(o, depth)
  local jump = o.jump
  if jump == nil or jump == "none" then
    return nil
  end
  if o.proxy_command then
    usage("ssh: jump and proxy_command exclude each other")
  end
  if getmetatable(jump) == Session then
    return { jump }
  end
  if depth >= HOPS_MAX then
    usage("ssh: more than %d jumps", HOPS_MAX)
  end
  local list, hops = {}, {}
  if type(jump) == "string" then
    for text in (jump .. ","):gmatch("([^,]*),") do
      list[#list + 1] = require("hgauto.ssh_config").parse_jump(text)
        or usage("ssh: %q is no jump host", text)
    end
  else
    list = jump.host and { jump } or jump
  end
  for i, hop in ipairs(list) do
    local given = {
      config = o.config, agent = o.agent, passphrase = o.passphrase, password = o.password,
      prompt = o.prompt, timeout = o.timeout, accept_new = o.accept_new,
      -- With a configuration each host has its own of these.
      keys = not o.config and o.keys or nil, user = not o.config and o.user or nil,
      identities_only = o.identities_only, jump = i > 1 and "none" or nil,
    }
    given = merged(given, hop)
    given.host = nil
    local target = target_of(hop.host, options(given, CONNECT, "ssh: jump"), depth + 1)
    -- What the first one itself needs comes before it.
    for _, earlier in ipairs(target.hops or {}) do
      hops[#hops + 1] = earlier
    end
    target.hops = nil
    hops[#hops + 1] = target
  end
  return hops
end

local function secret_or_nil(v)
  return type(v) ~= "function" and v or nil
end

function target_of(name, o, depth)
  if type(name) ~= "string" then
    usage("ssh: a host name is needed")
  end
  local address, more = name, nil
  if o.config then
    address, o, more = configured(name, o)
  end
  local t = type(o.timeout) == "table" and options(o.timeout, TIMEOUT, "ssh: timeout")
    or { total = o.timeout }
  local keepalive = options(o.keepalive, KEEPALIVE, "ssh: keepalive")
  local only = o.identities_only
  if only == nil then
    only = o.keys ~= nil
  end
  local target = {
    name = o.label or name, host = address, port = o.port, user = o.user or host.getenv("USER"),
    keys = o.keys, agent = agent_path(o), identities_only = only,
    certs = type(o.certificate) == "string" and { o.certificate } or o.certificate,
    passphrase = secret_or_nil(o.passphrase), password = o.password, ask = asker(o),
    proxy_command = o.proxy_command, ciphers = listed(o.ciphers),
    bind_address = o.bind_address, family = math.tointeger(tonumber(o.family)),
    connect = t.connect, banner = t.banner, kex = t.kex, login = t.login, total = t.total,
    interval = keepalive.interval, count = math.tointeger(keepalive.count),
  }
  trust_of(o, target)
  if more then
    target = merged(target, more)
  end
  target.hops = hops_of(o, depth or 0)
  return target
end

--- Options for the core, through an open session if need be.
local function core_args(target, via, limit)
  local a = merged(target, { via = via, total = limit or target.total })
  a.hops, a.env = nil, nil
  return a
end

--- Connects to a target; the hosts before it stay connected while it is used.
local function dial(target, limit)
  local via, hops = nil, target.hops or {}
  local opened, at = {}, target
  local ok, r = pcall(function()
    for _, hop in ipairs(hops) do
      if getmetatable(hop) == Session then
        via = hop:_conn().core
      else
        at = hop
        via = core.connect(core_args(hop, via, limit))
        opened[#opened + 1] = via
      end
    end
    at = target
    return core.connect(core_args(target, via, limit))
  end)
  if not ok then
    for i = #opened, 1, -1 do
      opened[i]:close()
    end
    error(of_target(r, at), 0)
  end
  return r, opened
end

local function close_core(conn)
  conn.core:close()
  for i = #conn.hops, 1, -1 do
    conn.hops[i]:close()
  end
  conn.hops = {}
end

-- ---- sessions ----

--- Who uses a handle, how deep; closed by each use at its end.
local Busy = {
  __close = function(busy, err)
    -- What is raised on the way and is no error of SSH's has no phase.
    if type(err) == "table" and err.phase then
      of_target(err, busy.conn.target)
    end
    busy.depth = busy.depth - 1
    if busy.depth == 0 then
      busy.task = nil
    end
  end,
}

local function new_session(conn)
  conn.users = conn.users + 1
  local s = setmetatable({
    conn = conn, closed = false, busy = setmetatable({ conn = conn, depth = 0 }, Busy),
  }, Session)
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
-- @param opts.known_hosts string|string[]|boolean files to look in without host_key
-- @param opts.accept_new boolean an unknown key goes into the state directory's known_hosts
-- @param opts.host_key_alias string name to look up instead of host and port
-- @param opts.keys table key handles and private key files (a .pub names one of the agent)
-- @param opts.certificate string|string[] user certificates for the keys
-- @param opts.passphrase string|secret|function of protected keys; fn(path, attempt) may wait
-- @param opts.agent boolean|string use SSH_AUTH_SOCK or this socket
-- @param opts.password string|secret
-- @param opts.prompt function fn{name, instruction, prompts} returns the answers; may wait
-- @param opts.config boolean|string complete the options from ~/.ssh/config, or this file
-- @param opts.jump string|session|table "user@host:port,..." to go through
-- @param opts.proxy_command string command whose standard streams are the connection
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
  local c, hops = dial(target)
  return new_session { core = c, hops = hops, target = target, users = 0 }
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

local function waiting_failed(target, seconds, last, attempts)
  raise(of_target({
    kind = "timeout", code = "Connect", cause = last, phase = last and last.phase,
    before_login = last and last.before_login, attempts = attempts,
    message = ("waiting for SSH on %s: no answer within %s (last: %s)"):format(target.name,
      seconds >= 120 and ("%gm"):format(seconds / 60) or ("%gs"):format(seconds),
      last and (last.message or tostring(last)) or "nothing tried"),
  }, target))
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
      waiting_failed(target, total, last, n)
    end
    n = n + 1
    local limit = math.min(target.total or 45, left)
    local ok, r, hops = pcall(dial, target, limit)
    if ok then
      return r, hops
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
  local c, hops = attempt_until(target, o)
  return new_session { core = c, hops = hops, target = target, users = 0 }
end

--- Makes the same target usable again after its connection was lost.
-- @param opts table for_seconds=600 delay max_delay auth_grace on_attempt
-- @raise as ssh.wait_ready
-- @waits
function Session:wait_ready(opts)
  local o = options(opts, WAIT, "s:wait_ready")
  local conn = self:_conn()
  close_core(conn)
  conn.core, conn.hops = attempt_until(conn.target, o)
end

function Session:_conn()
  if self.closed then
    raise(of_target({ kind = "net", code = "ConnectionLost",
      message = "ssh: the session is closed" }, self.conn.target))
  end
  return self.conn
end

--- A handle serves one task at a time; the same task may nest.
local function enter(self)
  local conn, busy = self:_conn(), self.busy
  local task = async.current()
  if busy.task and busy.task ~= task then
    usage("ssh %s: busy in %s; use s:share()", conn.target.name, tostring(busy.task))
  end
  busy.task = task
  busy.depth = busy.depth + 1
  return busy, conn
end

local REBOOT = {
  command = "string table", sudo = "boolean string", for_seconds = "number", delay = "number",
  max_delay = "number", auth_grace = "number", on_attempt = "function",
}

--- Output of a command that the client's half has begun, ours alone: closes it.
local function output_of(command, seconds)
  local c <close> = command
  local deadline = time.mono() + seconds
  while not c:wait(math.max(0.01, deadline - time.mono()), 0, false) do
  end
  local text, _, _, _, _, _, problem = c:result()
  if problem then
    error(problem, 0)
  end
  return text
end

local function boot_id(conn)
  local p = conn.core:exec("cat /proc/sys/kernel/random/boot_id", { max_output = 200 })
  local ok, text = pcall(output_of, p, 15)
  if not ok and text.kind == "cancelled" then
    error(text, 0)
  end
  return ok and text:match("%x[%x-]+%x") or nil
end

--- Reboots the machine and waits until it is another boot that lets us in.
-- @param opts.command string|string[] default: systemctl reboot, else reboot
-- @param opts.sudo boolean|string default: unless the login is root
-- @param opts.for_seconds number in all, default 600; delay max_delay auth_grace on_attempt
-- @return string boot id
-- @raise timeout; remote where the boot cannot be told; as ssh.wait_ready
-- @waits
-- @example s:reboot { for_seconds = 300 }
function Session:reboot(opts)
  local o = options(opts, REBOOT, "s:reboot")
  local _b <close>, conn = enter(self)
  local before = boot_id(conn)
  if not before then
    raise { kind = "remote", code = "Unsupported", phase = "exec",
      message = ("ssh %s: the machine does not tell its boot id"):format(conn.target.name) }
  end
  local ends = time.mono() + (o.for_seconds or 600)
  local sudo = o.sudo
  if sudo == nil then
    sudo = conn.target.user ~= "root"
  end
  local ok, err = pcall(self.exec, self, o.command or "systemctl reboot || reboot",
    { sudo = sudo, timeout = 30, kill = "none" })
  if not ok and err.kind ~= "net" and err.kind ~= "timeout" and err.code ~= "Signal"
    and err.code ~= "NoExitStatus" then
    error(err, 0)
  end
  while true do
    local now = conn.core:info().open and boot_id(conn)
    if now and now ~= before then
      return now
    end
    local left = ends - time.mono()
    -- Less is not enough for another login.
    if left <= 1 then
      raise { kind = "timeout", code = "Connect", phase = "connect", message =
        ("ssh %s: no other boot within %gs"):format(conn.target.name, o.for_seconds or 600) }
    end
    async.sleep(math.min(o.delay or 1, left))
    close_core(conn)
    conn.core, conn.hops = attempt_until(conn.target, {
      for_seconds = math.max(1, ends - time.mono()), delay = o.delay, max_delay = o.max_delay,
      auth_grace = o.auth_grace, on_attempt = o.on_attempt,
    })
  end
end

--- Gives the machine a new host key and goes on with that one.
-- @param install function gets the session and the new key; puts it in place, sshd re-read
-- @param[opt] sec number until the server shows it, default 30
-- @return key the new key; from now on it is this session's pin
-- @raise what install raises; auth HostKeyChanged when another key is shown
-- @waits
-- @example local key = s:rotate_host_key(function(c, k) c:write("/etc/ssh/k", k:private()) end)
function Session:rotate_host_key(install, sec)
  local _b <close>, conn = enter(self)
  local old = conn.core:info().fingerprint
  local key = crypto.keypair("ed25519", "hgauto")
  install(self, key)
  local target = merged(conn.target, { host_key = { (key:public():match("^%S+ %S+")) } })
  target.known_hosts, target.own_known_hosts, target.accept_new, target.alias = nil, nil, nil, nil
  local ends = time.mono() + (sec or 30)
  local function try()
    local ok, c, hops = pcall(dial, target, math.max(1, ends - time.mono()))
    if ok then
      return c, hops
    end
    -- The old key: the server has not read the new one yet.
    local later = c.kind == "net" or c.kind == "timeout"
      or c.code == "HostKeyChanged" and (c.fingerprint == old or not c.fingerprint)
    if not later or time.mono() >= ends then
      error(c, 0)
    end
  end
  local c, hops = try()
  while not c do
    async.sleep(0.5)
    c, hops = try()
  end
  close_core(conn)
  conn.core, conn.hops, conn.target = c, hops, target
  return key
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
    close_core(conn)
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

-- ---- commands ----

--- POSIX words of a list, for a shell's command line.
-- @param list string[]
-- @return string
-- @example ssh.quote { "touch", "it's" }
M.quote = core.quote

require "hgauto.ssh_exec"(Session, {
  enter = enter, options = options, raise = raise, usage = usage, merged = merged,
  dial = dial, close_core = close_core, of_target = of_target, output_of = output_of,
})

-- ---- forwarding ----

local Forward = { __name = "ssh forward" }
Forward.__index = Forward

local function address_of(text, what)
  if text:sub(1, 1) == "/" then
    return text, nil
  end
  local name, port = text:match("^%[([^%]]+)%]:(%d+)$")
  if not name then
    name, port = text:match("^([^:]*):(%d+)$")
  end
  if not name and text:find("^%d+$") then
    name, port = "", text
  end
  if not name then
    usage("%s: %q is no address; host:port or a path is needed", what, text)
  end
  return name ~= "" and name or "127.0.0.1", math.tointeger(tonumber(port))
end

local function forward(self, kind, opts, what)
  local o = options(opts, { listen = "string number", to = "string" }, what)
  local _b <close>, conn = enter(self)
  local name, port = address_of(tostring(o.listen or "127.0.0.1:0"), what)
  local to_name, to_port
  if kind ~= "socks" then
    if not o.to then
      usage("%s: option to is needed", what)
    end
    to_name, to_port = address_of(o.to, what)
  end
  local f = conn.core:forward(kind, name, port or -1, to_name, to_port or 0)
  local r = setmetatable({ core = f, port = (f:info()), host = name }, Forward)
  async.register(r)
  return r
end

--- Listens here; the server connects: `ssh -L`.
-- @param opts.listen string "127.0.0.1:0", a port, or the path of a unix socket
-- @param opts.to string "host:port" as the server sees it, or a path there
-- @return table {port, host} closable, ends with the scope
-- @raise exists InUse; usage; net
-- @waits
-- @example local f = s:forward { to = "localhost:8000" }
function Session:forward(opts)
  return forward(self, "local", opts, "s:forward")
end

--- The server listens; we connect: `ssh -R`.
-- @param opts.listen string "127.0.0.1:0" there, or a port
-- @param opts.to string "host:port" here, or a path
-- @return table {port, host} closable, ends with the scope
-- @raise remote RequestDenied; net
-- @waits
-- @example local f = s:forward_remote { to = "localhost:8000" }
function Session:forward_remote(opts)
  return forward(self, "remote", opts, "s:forward_remote")
end

--- Listens here as a SOCKS5 proxy whose connections the server makes: `ssh -D`.
-- @param opts.listen string "127.0.0.1:0" or a port
-- @return table {port, host} closable, ends with the scope
-- @raise exists InUse; usage; net
-- @waits
-- @example local f = s:socks { listen = 1080 }
function Session:socks(opts)
  return forward(self, "socks", opts, "s:socks")
end

--- Connections that are open, and how many there were.
-- @return integer
-- @return integer
function Forward:count()
  local _, open, total = self.core:info()
  return open or 0, total or 0
end

--- Ends it with all its connections.
function Forward:close()
  if not self.closed then
    self.closed = true
    async.release(self)
    self.core:close()
  end
end

Forward.__close = Forward.close

-- ---- files ----

require "hgauto.ssh_files"(Session, {
  enter = enter, options = options, raise = raise, usage = usage, merged = merged,
  of_target = of_target,
  --- One more connection to the same host as the same user.
  another = function(conn, seconds)
    local list = conn.target.hops or {}
    local last = list[#list]
    local via = last and conn.hops[#conn.hops]
    if getmetatable(last) == Session then
      via = last:_conn().core
    end
    return core.connect(core_args(conn.target, via, seconds))
  end,
})

-- ---- OpenSSH's files for children ----

require "hgauto.ssh_openssh"(Session, { usage = usage })

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

--- All directives of ~/.ssh/config and /etc/ssh/ssh_config that apply to a host.
-- @param name string
-- @param[opt] path string another file instead
-- @param[opt] given table user, port: what goes before the files
-- @return table directive in lower case = value
-- @raise usage with file and line; auth ConfigMode; notfound
-- @see ssh_config(5)
-- @example ssh.effective("example.org").identityfile
function M.effective(name, path, given)
  return require("hgauto.ssh_config").effective(name, path, given)
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
