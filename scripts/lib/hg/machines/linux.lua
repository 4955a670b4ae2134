--- One Linux machine over SSH: commands, files, scripts, its end.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local hg = require "hg"
local life = require "hg.machines.life"
local out = require "hg.output"
local session = require "hg.session"
local ec2m = require "hg.machines.ec2"

local Machine = { __name = "hg.machine" }
Machine.__index = Machine

local M = {}

local OPTS = {
  distro = "debian13", instance_type = "t3.large", max_age = 14400, label = hg.none,
  base_image = hg.none, allow_owner = hg.none,
  allow_cidr = hg.none, subnet = hg.none, root_gb = 16, image = "base",
  volume = hg.none,
}

-- Where the kernel may show the extra volume of that id.
local function volume_of(instance, wanted)
  if not wanted then
    return nil
  end
  for _, mapping in ipairs(instance.BlockDeviceMappings or {}) do
    if mapping.DeviceName == wanted.device then
      local id = mapping.Ebs.VolumeId
      return { id = id, size_gb = wanted.size_gb, devices = {
        "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" .. id:gsub("-", "", 1),
        wanted.device, (wanted.device:gsub("^/dev/sd", "/dev/xvd")) } }
    end
  end
  hg.fail { kind = "task", message = ("%s came without its volume %s"):format(
    instance.InstanceId, wanted.device) }
end

-- The key each machine was given, for other processes of this state directory.
local function known_hosts()
  local ssh = require "hgauto.ssh"
  ssh.use_state(session.state.path)
  return ssh.known_hosts()
end

-- Trusted is the key that the machine was given: ours, or with an adopted one what
-- the run that made it has noted.
local function connect(m, user, seconds)
  local ssh = require "hgauto.ssh"
  return ssh.wait_ready(m.address, {
    user = user, port = m.port, keys = { m.key },
    host_key = m.host_key and m.host_key:public():match("^(%S+ %S+)"),
    host_key_alias = not m.host_key and m.id or nil,
    known_hosts = not m.host_key and { session.state.path .. "/known_hosts" } or nil,
    label = m.id, for_seconds = seconds, agent = false,
    on_attempt = function(n, err)
      out.debug(("SSH attempt %d: %s"):format(n, tostring(err)))
    end,
  })
end

-- A machine object; f has what the instance does not tell.
local function object(ec2, o, instance, f)
  local m = setmetatable({
    id = instance.InstanceId, label = o.label or o.distro, os = "linux", distro = o.distro,
    arch = instance.Architecture or "x86_64", address = instance.PublicIpAddress, port = 22,
    src = "/hgdev/src", work = "/hgwork", simulated = false, transport = "ssh", uploaded = {},
    ec2 = ec2,
  }, Machine)
  for k, v in pairs(f) do
    m[k] = v
  end
  m.home = "/home/" .. m.user
  for _, tag in ipairs(instance.Tags or {}) do
    if tag.Key == "hgauto:ssh-port" then
      m.port = math.tointeger(tag.Value) or 22
    end
  end
  return m
end

-- The record of the run gets the machine, with what a resuming run needs to know.
local function enter(m, o, key, usd)
  life.begin(m, { type = o.instance_type, usd_per_hour = usd, key = key, user = m.user,
    image = m.image, base_image = m.base_image, prepared = m.prepared, volume = m.volume })
end

-- The machine that the resumed run left, or nil.
local function adopted(ec2, o, key)
  local instance, was, expires = hg.resume.adopt(ec2, key)
  if not instance then
    return nil
  end
  local m = object(ec2, o, instance, { user = was.user, image = was.image, volume = was.volume,
    base_image = was.base_image, prepared = was.prepared or false, expires = expires,
    key = (session.state:vault():key "automation") })
  enter(m, o, key, was.usd_per_hour)
  local undo <close> = async.defer(function()
    m:close()
  end, 60)
  local ok, err = pcall(function()
    m.ssh = connect(m, m.user, 60)
  end)
  if not ok then
    if type(err) ~= "table" or err.kind == "cancelled" or err.kind == "auth" then
      error(err, 0)
    end
    out.warn(("%s does not let us in any more (%s): another one is made"):format(m.id,
      tostring(err)))
    return nil
  end
  undo:keep()
  hg.resume.adopted(m.id)
  return m
end

local function launched(ec2, o, resume_key)
  local fact = hg.facts.images[o.distro]
  local image = hg.images.choose(ec2, o.distro, { image = o.image, base_image = o.base_image,
    owners = o.allow_owner, allow_cidr = o.allow_cidr, subnet = o.subnet })
  local key = hg.keys.ensure(ec2)
  local group = hg.network.ensure(ec2, { ports = { 22 }, allow = o.allow_cidr, subnet = o.subnet })
  local host_key = crypto.keypair("ed25519", "hgauto")
  local usd = hg.cost.price(o.instance_type, "linux")
  local instance, expires = ec2m.launch(ec2, {
    image = image, group = group, key_name = key.name, host_key = host_key,
    instance_type = o.instance_type, max_age = o.max_age, root_gb = o.root_gb,
    name = ("hg-%s-%s"):format(session.task or "machine", o.label or o.distro),
    subnet = o.subnet, volume = o.volume,
  })
  local m = object(ec2, o, instance, { user = image.user or fact.user, image = image.id,
    base_image = image.base_name or image.name, prepared = image.prepared or false,
    expires = expires, key = key.key, host_key = host_key })
  if hg.plan.on() then
    return hg.plan.machine(m, Machine)
  end
  enter(m, o, resume_key, usd)
  local undo <close> = async.defer(function()
    m:close()
  end, 60)
  m.volume = volume_of(instance, o.volume)
  m.record.volume = m.volume
  known_hosts():add(m.id, 22, host_key)
  m.ssh = connect(m, m.user, 600)
  undo:keep()
  out.note(("%s at %s, logged in as %s"):format(m.id, m.address, m.user))
  return m
end

--- A temporary machine, ready for commands; see hg.machines.linux.
-- @param given table
-- @return table
-- @waits
function M.new(given)
  local o = hg.opts(given, OPTS, "hg.machines.linux")
  if o.max_age < 60 or o.max_age > 86400 then
    hg.fail { kind = "usage", message = ("max-age %s: from 1m to 24h"):format(
      hg.format.duration(o.max_age)) }
  end
  local ec2 = require("hgauto.aws").client("ec2")
  local key = hg.resume.machine_key(session.ctx, given)
  return adopted(ec2, o, key) or launched(ec2, o, key)
end

--- Reconnects as another user of the machine.
-- @param user string
-- @waits
function Machine:login(user)
  local old = self.ssh
  self.ssh = connect(self, user, 600)
  self.user, self.home = user, "/home/" .. user
  self.uploaded = {}
  if session.ctx then
    -- A run that resumes this one logs in the same way.
    self.record.user = user
    session.ctx.save()
  end
  if old then
    old:close()
  end
end

-- The step that runs uses this machine.
local function note_use(m)
  if session.ctx then
    session.ctx:used(m.id)
  end
end

local EXEC = {
  cwd = hg.none, env = hg.none, stdin = hg.none, timeout = 14400, check = true, sudo = false,
  on_line = hg.none, max_output = hg.none, quiet = false,
}

--- Runs a command and waits for its end; its lines appear as they come.
-- @param cmd string|string[] command line or argument list
-- @param[opt] given table cwd env stdin timeout check sudo on_line max_output quiet
-- @return table {ok, code, signal, out, err, seconds, truncated}
-- @raise remote ExitCode, Signal; net ConnectionLost; timeout
-- @waits
function Machine:exec(cmd, given)
  local o = hg.opts(given, EXEC, "m:exec")
  note_use(self)
  local show = o.on_line
  if not show and not o.quiet then
    show = function(stream, line)
      out.remote(self.label, stream, line)
    end
  end
  local env = { LC_ALL = "C.UTF-8" }
  for k, v in pairs(o.env or {}) do
    env[k] = v
  end
  return self.ssh:exec(cmd, {
    cwd = o.cwd, env = env, stdin = o.stdin, timeout = o.timeout, check = o.check,
    sudo = o.sudo, on_line = show, max_output = o.max_output,
  })
end

--- Uploads one of our scripts once; returns its path there.
-- @param name string file name below scripts/linux
-- @return string
-- @waits
function Machine:upload_script(name)
  if not self.uploaded[name] then
    local text = embed.read("linux/" .. name)
    if not text then
      hg.fail { kind = "bug", message = "no script " .. name }
    end
    local dir = self.home .. "/.hgauto"
    self.ssh:mkdir(dir, { parents = true, mode = 448 })
    local path = ("%s/%s-%s"):format(dir, crypto.sha256(text):sub(1, 12), name)
    self.ssh:write(path, text, { mode = 448 })
    self.uploaded[name] = path
  end
  return self.uploaded[name]
end

--- Uploads a directory of ours once; returns the path of its parent there.
-- @param name string directory below scripts/linux
-- @return string
-- @waits
function Machine:upload_tree(name)
  if not self.uploaded[name] then
    local files, names = {}, embed.list("linux/" .. name .. "/")
    for i, file in ipairs(names) do
      files[i] = file .. "\0" .. embed.read(file)
    end
    local dir = ("%s/.hgauto/%s-%s"):format(self.home,
      crypto.sha256(table.concat(files, "\0")):sub(1, 12), name)
    for _, file in ipairs(names) do
      local path = dir .. "/" .. file:sub(#"linux/" + 1)
      self.ssh:mkdir(path:match("^(.*)/"), { parents = true, mode = 448 })
      self.ssh:write(path, embed.read(file), { mode = 384 })
    end
    self.uploaded[name] = dir
  end
  return self.uploaded[name]
end

--- Runs one of our shell scripts with arguments.
-- @param name string without .sh
-- @param args string[]
-- @param[opt] opts table as exec
-- @return table as exec
-- @waits
function Machine:script(name, args, opts)
  local path = self:upload_script(name .. ".sh")
  return self:exec({ "sh", path, table.unpack(args) }, opts)
end

for _, name in ipairs { "put", "get", "write", "read", "list", "stat", "mkdir", "remove",
  "rename" } do
  Machine[name] = function(self, ...)
    note_use(self)
    return self.ssh[name](self.ssh, ...)
  end
end

--- SHA-256 of a file there, hex.
-- @param path string
-- @return string
-- @waits
function Machine:sha256(path)
  local r = self:exec({ "sha256sum", "--", path }, { quiet = true, timeout = 600 })
  local sum = r.out:match("^\\?(%x+) ")
  if not sum or #sum ~= 64 then
    hg.fail { kind = "remote", message = "sha256sum of " .. path .. " answered nonsense" }
  end
  return sum
end

--- How many processors the machine has.
-- @return integer
-- @waits
function Machine:cpus()
  local r = self:exec({ "nproc" }, { quiet = true, timeout = 60 })
  return math.tointeger(tonumber(r.out:match("%d+"))) or 1
end

-- Its session goes; the machine does not wait for that.
function Machine:disconnect()
  local s = self.ssh
  self.ssh = nil
  if s then
    pcall(s.close, s)
  end
end

-- Its host key; one line too much does no harm.
function Machine:forget()
  pcall(known_hosts().remove, known_hosts(), self.id)
end

life.give(Machine)

return M
