-- Guest configuration: what an instance gets before it is reachable (stage 1)
-- and what its user data runs afterwards (stage 2).  Understood are `#!` scripts
-- and `#cloud-config` bodies written as JSON; cloudconfig.lua has their keys.

local cloudconfig = require "localcloud.cloudconfig"
local crypto = require "hgauto.crypto"
local errors = require "localcloud.errors"
local json = require "hgauto.json"

local M = {}

--- Largest user data after decoding.
M.max = 16384

local DIR = "/var/lib/cloud/instance/"
local LOG = "/var/log/cloud-init-output.log"

local function unsupported(what)
  errors.raise("UnsupportedOperation",
    "hgauto local cloud: ec2:RunInstances parameter UserData (%s) is not emulated", what)
end

--- Splits user data into its parts; pure.
-- @param text string decoded user data
-- @return {script=string|nil, config=table|nil, plain=boolean}
function M.parse(text)
  if text:sub(1, 2) == "\31\139" then
    unsupported("gzip")
  elseif text:match("^[Cc]ontent%-[Tt]ype:%s*multipart/") or text:match("^MIME%-Version:") then
    unsupported("multipart")
  elseif text:sub(1, 2) == "#!" then
    return { script = text }
  elseif not text:match("^#cloud%-config[ \t\r]*\n") then
    return { plain = text ~= "" }
  end
  local body = text:gsub("^[^\n]*\n", "")
  body = ("\n" .. body):gsub("\n[ \t]*#[^\n]*", "\n")
  if body:match("^%s*$") then
    return { config = {} }
  end
  local ok, config = pcall(json.decode, body)
  if not ok or type(config) ~= "table" then
    unsupported("a cloud-config body that is not JSON")
  end
  return { config = config }
end

--- Decodes and checks the parameter UserData of RunInstances.
-- @param base64 string|nil
-- @return string|nil decoded text
function M.check(base64)
  if not base64 or base64 == "" then
    return nil
  end
  local ok, text = pcall(crypto.unbase64, (base64:gsub("%s+", "")))
  if not ok or not text then
    errors.raise("InvalidParameterValue", "Invalid BASE64 encoding of user data.")
  end
  if #text > M.max then
    errors.raise("InvalidParameterValue", "User data is limited to %d bytes", M.max)
  end
  M.parse(text)
  return text
end

-- ---- stage 1 ----

local function file(files, path, mode, data, owner)
  files[#files + 1] = { path = path, mode = tonumber(mode, 8), owner = owner or "root",
    data = data or "" }
end

--- Host name of a private address: 172.31.4.5 is ip-172-31-4-5.
-- @param private_ip string
-- @return string
function M.hostname(private_ip)
  return "ip-" .. private_ip:gsub("%.", "-")
end

local function network_files(files, private_ip, name, dns)
  file(files, "/etc/hostname", "644", name .. "\n")
  file(files, "/etc/hosts", "644",
    ("127.0.0.1 localhost\n%s %s\n::1 localhost ip6-localhost ip6-loopback\n"):format(
      private_ip, name))
  file(files, "/etc/resolv.conf", "644",
    dns and ("nameserver %s\n"):format(dns) or "# this machine has no network\n")
end

local function user_files(files, user, keys)
  local home = "/home/" .. user
  file(files, home .. "/", "755", nil, user)
  file(files, ("/etc/sudoers.d/90-%s"):format(user), "440",
    user .. " ALL=(ALL) NOPASSWD:ALL\n")
  if keys[1] then
    file(files, home .. "/.ssh/", "700", nil, user)
    file(files, home .. "/.ssh/authorized_keys", "600", table.concat(keys, "\n") .. "\n", user)
  end
end

-- The machine's host key: the injected one, else one made here.
local function host_key(plan, config, make)
  local keys = type(config.ssh_keys) == "table" and config.ssh_keys or {}
  local private, public = keys.ed25519_private, keys.ed25519_public
  if type(private) ~= "string" or type(public) ~= "string" then
    private, public = make()
  end
  public = public:gsub("%s+$", "")
  file(plan.files, "/etc/ssh/ssh_host_ed25519_key", "600", (private:gsub("\n*$", "\n")))
  file(plan.files, "/etc/ssh/ssh_host_ed25519_key.pub", "644", public .. "\n")
  plan.host_public = public
end

--- Works out what an instance needs for a boot.
-- @param opts.text string|nil decoded user data
-- @param opts.first boolean first boot of this instance id
-- @param opts.user string the image's user
-- @param opts.public_key string|nil line for authorized_keys
-- @param opts.private_ip string
-- @param opts.dns string|nil resolver inside
-- @param opts.make_host_key function() -> private text, public line
-- @return {files, users, hostname, host_public|nil, boot|nil, scripts, power|nil, notices}
--   boot and each of scripts (after each other) are command lines (argv) to run
--   inside as root; power is a shell command after them
function M.plan(opts)
  local plan = { files = {}, users = {}, notices = {}, stages = {}, scripts = {},
    hostname = M.hostname(opts.private_ip) }
  local parts = M.parse(opts.text or "")
  local config = parts.config or {}
  if opts.first then
    cloudconfig.apply(plan, config)
    local keys = table.move(plan.more_keys or {}, 1, #(plan.more_keys or {}), 2,
      { opts.public_key })
    if not opts.public_key then
      keys = plan.more_keys or {}
    end
    user_files(plan.files, opts.user, keys)
    host_key(plan, config, opts.make_host_key)
    if parts.plain then
      table.insert(plan.notices, 1,
        "hgauto: user data is neither a script nor cloud-config; not used")
    end
  elseif type(config.hostname) == "string" and config.hostname:match("^%w[%w.-]*$") then
    plan.hostname = config.hostname
  end
  network_files(plan.files, opts.private_ip, plan.hostname, opts.dns)
  if type(config.bootcmd) == "table" and config.bootcmd[1] ~= nil then
    file(plan.files, DIR .. "boot.sh", "700", cloudconfig.script(config.bootcmd))
    -- What it leaves running must not hold our pipe, hence the file between.
    plan.boot = { "/bin/sh", "-c", ("f=%sboot.log; sh %sboot.sh >$f 2>&1 </dev/null; r=$?;"
      .. " cat $f; cat $f >>%s; exit $r"):format(DIR, DIR, LOG) }
  end
  if parts.script and opts.first then
    plan.stages[#plan.stages + 1] = { name = "script", text = parts.script }
  end
  for _, stage in ipairs(plan.stages) do
    file(plan.files, DIR .. stage.name, "700", stage.text)
    plan.scripts[#plan.scripts + 1] = { "/bin/bash", "-c", ("set -o pipefail;"
      .. " %s%s 2>&1 </dev/null | tee -a %s"):format(DIR, stage.name, LOG) }
  end
  return plan
end

--- The console lines that announce the host key, as cloud-init prints them.
-- @param public string public key line
-- @return string
function M.key_banner(public)
  local info = crypto.public_info(public)
  local comment = public:match("^%S+%s+%S+%s+(.*)$") or ""
  return ("-----BEGIN SSH HOST KEY FINGERPRINTS-----\n256 %s %s (ED25519)\n"
    .. "-----END SSH HOST KEY FINGERPRINTS-----\n-----BEGIN SSH HOST KEY KEYS-----\n%s\n"
    .. "-----END SSH HOST KEY KEYS-----\n"):format(info.fingerprint, comment, public)
end

return M
