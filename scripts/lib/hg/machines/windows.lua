--- One Windows machine over WinRM: scripts, commands, files, its end.
local async = require "hgauto.async"
local ec2m = require "hg.machines.ec2"
local fs = require "hgauto.fs"
local hg = require "hg"
local json = require "hgauto.json"
local life = require "hg.machines.life"
local out = require "hg.output"
local session = require "hg.session"
local time = require "hgauto.time"

local Machine = { __name = "hg.machine" }
Machine.__index = Machine

local M = {}

local OPTS = {
  os = "windows2022", instance_type = "m6i.large", max_age = 14400, label = hg.none,
  image = hg.none, base_image = hg.none, allow_owner = hg.none,
  allow_cidr = hg.none, subnet = hg.none, root_gb = 64,
  ready = 900,
}

local READY = "C:\\ProgramData\\hgauto\\ready.json"

-- The last lines of the machine's console, for a message.
local function console_tail(m)
  local ok, r = pcall(m.ec2.get_console_output, m.ec2, { InstanceId = m.id })
  local text = ok and r.Output and r.Output or ""
  local good, plain = pcall(require("hgauto.crypto").unbase64, text)
  local last
  for line in (good and plain or text):gmatch("[^\r\n]+") do
    last = line
  end
  return last and ("; its console says: " .. last) or ""
end

-- What the machine says of itself once its user data has run.
local function read_ready(m)
  local text = m.winrm:ps_value(hg.windows.ps("ready"), { params = { Path = READY },
    library = hg.windows.library(), timeout = 60 })
  local ok, doc = pcall(json.decode, tostring(text))
  return ok and type(doc) == "table" and doc.token == m.identity.token and doc or {}
end

-- Ready is who shows our token: an endpoint that opens earlier is not it.
local function is_ready(m)
  local doc = read_ready(m)
  m.sshd = doc.ssh
  return doc.winrm == "ok"
end

-- The machine's own sshd, for files; nil where it has none (yet).
local function open_sftp(m)
  if m.sshd == "pending" then
    m.sshd = read_ready(m).ssh
  end
  if m.sshd ~= "ok" then
    return nil
  end
  return require("hgauto.ssh").connect(m.address, {
    user = m.user, keys = { m.ssh_key }, agent = false, label = m.id,
    host_key = m.identity.host_key:public():match("^(%S+ %S+)"),
  })
end

local function connect(m)
  local winrm = require "hgauto.winrm"
  local s = winrm.connect { host = m.address, user = m.user, password = m.identity.password,
    tls = { ca = m.identity.cert, name = "hgauto", pin = m.identity.pin }, label = m.label }
  s:use_sftp(function()
    return open_sftp(m)
  end)
  return s
end

--- Waits until the machine lets us in and shows its token.
-- @param limit number seconds
-- @raise auth another identity; timeout with the last reason and the console's last line
-- @waits
function Machine:wait_ready(limit)
  local until_ = time.mono() + limit
  local ok, err = pcall(function()
    self.winrm:wait { timeout = limit, interval = 0.5, on_attempt = function(n, e)
      out.debug(("WinRM attempt %d: %s"):format(n, tostring(e)))
    end }
    hg.wait { what = "the token of " .. self.id, every = 0.5, max_every = 5,
      timeout = math.max(1, until_ - time.mono()), poll = function()
        local good, r = pcall(is_ready, self)
        if good then
          return r or nil, "no token yet"
        elseif type(r) ~= "table" or r.kind == "cancelled" or r.code == "TlsIdentity" then
          error(r, 0)
        end
        return nil, r.message
      end }
  end)
  if not ok then
    if type(err) == "table" and err.kind == "timeout" then
      err.message = err.message .. async.shield(10, console_tail, self)
    end
    error(err, 0)
  end
end

--- A temporary machine, ready for scripts; see hg.machines.windows.
-- @param given table
-- @return table
-- @waits
function M.new(given)
  local o = hg.opts(given, OPTS, "hg.machines.windows")
  local fact = hg.facts.images[o.os]
  if not fact or fact.os ~= "windows" then
    hg.fail { kind = "usage", message = ("%s is no Windows; windows2019, windows2022, windows2025")
      :format(o.os) }
  end
  if o.max_age < 60 or o.max_age > 86400 then
    hg.fail { kind = "usage", message = ("max-age %s: from 1m to 24h"):format(
      hg.format.duration(o.max_age)) }
  end
  local ec2 = require("hgauto.aws").client("ec2")
  local image = o.image or hg.images.base(ec2, o.os, o.base_image, o.allow_owner)
  local key = hg.keys.ensure(ec2)
  local group = hg.network.ensure(ec2, { ports = { 5986, 22 }, allow = o.allow_cidr,
    subnet = o.subnet, os = "windows" })
  local identity, label = hg.windows.identity(), o.label or o.os
  local usd = hg.cost.price(o.instance_type, "windows")
  local instance, expires = ec2m.launch(ec2, {
    image = image, group = group, key_name = key.name, instance_type = o.instance_type,
    max_age = o.max_age, root_gb = o.root_gb, subnet = o.subnet,
    name = ("hg-%s-%s"):format(session.task or "machine", label),
    user_data = function(at)
      return hg.windows.user_data(identity, { expires = at,
        authorized_keys = key.key:public() .. "\n" })
    end,
  })
  local m = setmetatable({
    id = instance.InstanceId, label = label, os = "windows", distro = o.os,
    arch = instance.Architecture or "x86_64", address = instance.PublicIpAddress, port = 5986,
    user = fact.user, home = "C:\\Users\\" .. fact.user, src = "C:\\hgdev\\src",
    work = "C:\\hgwork", image = image.id, base_image = image.base_name or image.name,
    prepared = image.prepared or false, simulated = false,
    transport = "winrm", expires = expires, identity = identity, ec2 = ec2,
    ssh_key = key.key,
    sync_script = "hg-unbundle",
  }, Machine)
  if hg.plan.on() then
    return hg.plan.machine(m, Machine)
  end
  life.begin(m, { type = o.instance_type, usd_per_hour = usd })
  hg.windows.sweep_secrets()
  hg.windows.remember(m)
  local undo <close> = async.defer(function()
    m:close()
  end, 60)
  m.winrm = connect(m)
  m:wait_ready(o.ready)
  m.simulated = m.winrm.simulated
  m.record.simulated = m.simulated or nil
  hg.windows.rotate_password(m)
  undo:keep()
  out.note(("%s at %s, logged in as %s%s"):format(m.id, m.address, m.user,
    m.simulated and " (simulated)" or ""))
  return m
end

local PS = { params = hg.none, timeout = 14400, check = true, id = hg.none, quiet = true }

--- Runs one of our PowerShell sources.
-- @param name string below scripts/windows without .ps1
-- @param[opt] given table params timeout check quiet id=what kill ends when this fails
-- @return table as s:ps
-- @raise remote ScriptFailed, ExitCode; net; timeout
-- @waits
function Machine:ps(name, given)
  local o = hg.opts(given, PS, "m:ps")
  local source = hg.windows.ps(name)
  local undo <close> = async.defer(function()
    if o.id and not self.closed then
      pcall(self.kill, self, o.id)
    end
  end, 20)
  local function show(stream)
    return not o.quiet and function(v)
      if type(v) ~= "table" then -- what the caller reads
        out.remote(self.label, stream, tostring(v))
      end
    end or nil
  end
  local r = self.winrm:ps(source, { params = o.params, timeout = o.timeout, check = o.check,
    library = hg.windows.library(), on_output = show "stdout", on_stderr = show "stderr" })
  undo:keep()
  return r
end

local EXEC = { cwd = hg.none, env = hg.none, stdin = hg.none, timeout = 14400, check = true,
  id = hg.none, quiet = false }

--- Runs one of our PowerShell sources with its parameters in order.
-- @param name string
-- @param args any[]
-- @param[opt] given table as ps
-- @return table {ok, code, out, err, seconds}
-- @waits
function Machine:script(name, args, given)
  local o = hg.opts(given, EXEC, "m:script")
  local params = {}
  for i, param in ipairs(hg.windows.ps(name).order) do
    params[param] = args[i]
  end
  local r = self:ps(name, { params = params, timeout = o.timeout, check = o.check, id = o.id,
    quiet = o.quiet })
  local lines = {}
  for i, v in ipairs(r.output) do
    lines[i] = tostring(v) .. "\n"
  end
  return { ok = r.ok, code = r.exit_code, out = table.concat(lines), seconds = r.duration,
    err = table.concat(r.stderr, "\n") }
end

--- Runs a program (full path and arguments) or a line for cmd.exe.
-- @param cmd string|string[]
-- @param[opt] given table cwd env stdin timeout check quiet
-- @return table {ok, code, out, err, seconds}
-- @raise remote ExitCode; net; timeout
-- @waits
function Machine:exec(cmd, given)
  local o = hg.opts(given, EXEC, "m:exec")
  local function show(stream)
    return not o.quiet and function(text)
      for line in text:gmatch("[^\r\n]+") do
        out.remote(self.label, stream, line)
      end
    end or nil
  end
  local r = self.winrm:cmd(cmd, { cwd = o.cwd, env = o.env, stdin = o.stdin, timeout = o.timeout,
    check = o.check, on_stdout = show "stdout", on_stderr = show "stderr" })
  return { ok = r.ok, code = r.code, out = r.stdout, err = r.stderr, seconds = r.duration }
end

--- Nodes of a revision set in the machine's repository, for hg.mercurial.
-- @waits
function Machine:hg_nodes(revset)
  return self:script("hg-nodes", { revset }, { quiet = true, timeout = 1800 })
end

--- Applies a patch that was uploaded, for hg.mercurial.
-- @waits
function Machine:hg_import(path)
  return self:script("hg-import", { path }, { quiet = true, timeout = 1800 })
end

--- Uploads a file; it appears whole or not at all.
-- @waits
function Machine:put(src, dst)
  return self.winrm:upload(src, dst)
end

--- Downloads a file; it appears whole or not at all.
-- @waits
function Machine:get(src, dst, o)
  local r = self.winrm:download(src, dst)
  if o and o.mode then
    fs.chmod(dst, o.mode)
  end
  return r
end

--- Writes a text to a file there.
-- @waits
function Machine:write(path, text)
  local dir = fs.tmpdir(session.run and session.run.dir or nil, "write-")
  local _d <close> = async.defer(function()
    fs.remove(dir, { tree = true })
  end)
  fs.write(dir .. "/f", text)
  return self:put(dir .. "/f", path)
end

--- Files of a directory there: {name, size, sha256, type="file"}.
-- @waits
function Machine:list(path)
  local list = {}
  for i, f in ipairs(self:ps("dist-hash", { params = { OutDir = path } }).output) do
    list[i] = { name = f.Name, size = f.Size, sha256 = f.Sha256, type = "file" }
  end
  return list
end

--- Whether a file or directory is there.
-- @param path string
-- @return boolean
-- @waits
function Machine:exists(path)
  return self:ps("exists", { params = { Path = path }, timeout = 60 }).output[1] == true
end

--- How many processors the machine has.
-- @return integer
-- @waits
function Machine:cpus()
  if not self.facts then
    hg.windows.prepare(self)
  end
  return math.tointeger(self.facts.Processors) or 1
end

--- SHA-256 of a file there, hex.
-- @waits
function Machine:sha256(path)
  return self:script("sha256", { path }, { quiet = true, timeout = 600 }).out:match("%x+")
end

--- Removes a file or a directory with all below it.
-- @waits
function Machine:remove(path)
  self:script("remove", { path }, { quiet = true, timeout = 600 })
end

--- Makes a directory and those above it.
-- @waits
function Machine:mkdir(path)
  self:script("mkdir", { path }, { quiet = true, timeout = 120 })
end

--- Ends what a script left running under this id.
-- @param id string
-- @waits
function Machine:kill(id)
  self:script("kill-tree", { id }, { quiet = true, timeout = 15 })
end

local function boot_time(m)
  return m:ps("facts", { params = { Root = "C:\\hgdev" }, timeout = 60 }).output[1].Boot
end

--- Restarts the machine and waits until it is back.
-- @return table {seconds, boot_time}
-- @raise timeout
-- @waits
function Machine:reboot()
  local before, start = boot_time(self), time.mono()
  self:script("reboot", { 5 }, { quiet = true, timeout = 60 })
  self.winrm:close()
  self.winrm = connect(self)
  local now = hg.wait { what = self.id .. " to come back", timeout = 900, every = 1, max_every = 5,
    poll = function()
      local ok, at = pcall(boot_time, self)
      if not ok and (type(at) ~= "table" or at.kind == "cancelled" or at.code == "TlsIdentity") then
        error(at, 0)
      end
      return ok and at ~= before and at or nil, ok and "not down yet" or at.message
    end }
  return { seconds = time.mono() - start, boot_time = now }
end

-- Its password, which nobody else has.
function Machine:forget()
  hg.windows.forget(self.id)
end

-- Its session goes, which takes a request of its own.
function Machine:disconnect()
  local s = self.winrm
  self.winrm = nil
  if s then
    pcall(async.shield, 10, s.close, s)
  end
end

life.give(Machine)

return M
