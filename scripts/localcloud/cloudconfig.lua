-- What the keys of a cloud-config mean for a local instance: files, users and
-- host name before it is reachable, scripts that run beside SSH afterwards.
-- A part that cannot be used is named on the console; the others are used.

local crypto = require "hgauto.crypto"

local M = {}

local MAX_FILES = 200

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function note(plan, fmt, ...)
  plan.notices[#plan.notices + 1] = "hgauto: cloud-config: " .. fmt:format(...)
end

local function list_of(value)
  return type(value) == "table" and (value[1] ~= nil or next(value) == nil) and value or { value }
end

-- ---- write_files ----

local ENCODINGS = { [""] = false, ["text/plain"] = false, b64 = true, base64 = true }

-- Contents of a file, or nil and why not.
local function content_of(f)
  local text, encoding = f.content or "", f.encoding or ""
  if type(text) ~= "string" or ENCODINGS[encoding] == nil then
    return nil, ("encoding %s is not supported"):format(tostring(encoding))
  elseif not ENCODINGS[encoding] then
    return text
  end
  local ok, bytes = pcall(crypto.unbase64, (text:gsub("%s+", "")))
  return ok and bytes or nil, "the content is not base64"
end

local function mode_of(text)
  local mode = text == nil and 420 or tonumber(tostring(text), 8)
  return mode and math.tointeger(mode) and mode <= 4095 and mode or nil
end

-- One entry as a file of the box, or nil and why not.
local function file_of(f)
  if type(f) ~= "table" or type(f.path) ~= "string" or not f.path:match("^/.*[^/]$") then
    return nil, "needs an absolute path"
  elseif f.append then
    return nil, "append is not supported"
  end
  local data, why = content_of(f)
  local mode = mode_of(f.permissions)
  if not data then
    return nil, why
  elseif not mode then
    return nil, ("permissions %s are no octal number"):format(tostring(f.permissions))
  end
  return { path = f.path, mode = math.tointeger(mode), data = data,
    owner = tostring(f.owner or "root"):match("^([^:]+)") }
end

local function write_files(plan, list)
  for i, f in ipairs(list_of(list)) do
    local file, why = file_of(f)
    if file and #plan.files < MAX_FILES then
      plan.files[#plan.files + 1] = file
    else
      note(plan, "write_files[%d]: %s", i, why or "too many files")
    end
  end
end

-- ---- users ----

local function authorize(plan, name, keys, home)
  local lines = {}
  for _, key in ipairs(list_of(keys)) do
    lines[#lines + 1] = tostring(key):gsub("%s+$", "")
  end
  plan.files[#plan.files + 1] = { path = home .. "/.ssh/", mode = 448, owner = name, data = "" }
  plan.files[#plan.files + 1] = { path = home .. "/.ssh/authorized_keys", mode = 384,
    owner = name, data = table.concat(lines, "\n") .. "\n" }
end

local function add_user(plan, u)
  local groups = type(u.groups) == "string" and u.groups:gsub("%s+", "")
    or type(u.groups) == "table" and table.concat(u.groups, ",") or nil
  local home = "/home/" .. u.name
  plan.users[#plan.users + 1] = { name = u.name, shell = u.shell or "/bin/bash", groups = groups }
  plan.files[#plan.files + 1] = { path = home .. "/", mode = 493, owner = u.name, data = "" }
  if u.sudo and u.sudo ~= "False" then
    local rules = {}
    for i, rule in ipairs(list_of(u.sudo)) do
      rules[i] = ("%s %s\n"):format(u.name, tostring(rule))
    end
    plan.files[#plan.files + 1] = { path = "/etc/sudoers.d/91-" .. u.name, mode = 288,
      owner = "root", data = table.concat(rules) }
  end
  if u.ssh_authorized_keys then
    authorize(plan, u.name, u.ssh_authorized_keys, home)
  end
end

local function users(plan, list)
  for i, u in ipairs(list_of(list)) do
    if u == "default" then
      plan.default_user = true
    elseif type(u) == "table" and type(u.name) == "string"
      and u.name:match("^[%l_][%l%d_-]*$") and #u.name <= 32 then
      add_user(plan, u)
    else
      note(plan, "users[%d]: needs a name of lower-case letters", i)
    end
  end
end

-- ---- scripts ----

--- Commands as a shell script: strings are lines of shell, lists are quoted.
-- @param list table
-- @return string
function M.script(list)
  local lines = { "#!/bin/sh" }
  for _, item in ipairs(list) do
    if type(item) == "table" then
      local words = {}
      for i, word in ipairs(item) do
        words[i] = quote(word)
      end
      lines[#lines + 1] = table.concat(words, " ")
    else
      lines[#lines + 1] = tostring(item)
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

local function packages(plan, config)
  local names = {}
  for _, p in ipairs(config.packages and list_of(config.packages) or {}) do
    names[#names + 1] = quote(type(p) == "table" and p[1] or p)
  end
  local lines = {}
  if config.package_update or config.package_upgrade or names[1] then
    lines[1] = "apt-get update"
  end
  if config.package_upgrade then
    lines[#lines + 1] = "apt-get -y upgrade"
  end
  if names[1] then
    lines[#lines + 1] = "apt-get install -y --no-install-recommends " .. table.concat(names, " ")
  end
  if lines[1] then
    plan.stages[#plan.stages + 1] = { name = "packages",
      text = "#!/bin/sh\nset -e\nexport DEBIAN_FRONTEND=noninteractive\n"
        .. table.concat(lines, "\n") .. "\n" }
  end
end

local function timezone(plan, zone)
  if type(zone) ~= "string" or not zone:match("^[%w_+/-]+$") then
    note(plan, "timezone: %s is no name of a zone", tostring(zone))
    return
  end
  plan.stages[#plan.stages + 1] = { name = "timezone", text = ("#!/bin/sh\nset -e\n"
    .. "test -e /usr/share/zoneinfo/%s\nln -sf /usr/share/zoneinfo/%s /etc/localtime\n"
    .. "echo %s >/etc/timezone\n"):format(zone, zone, zone) }
end

local MODES = { poweroff = "-P", halt = "-H", reboot = "-r" }

local function power_state(plan, p)
  local flag = type(p) == "table" and MODES[p.mode]
  local delay = type(p) == "table" and tostring(p.delay or "now") or ""
  if not flag or not (delay == "now" or delay:match("^%+?%d+$")) then
    note(plan, "power_state: needs a mode (poweroff, halt, reboot) and a delay (now, +MINUTES)")
  elseif p.condition ~= nil and type(p.condition) ~= "boolean" then
    note(plan, "power_state: condition is true or false here")
  elseif p.condition ~= false then
    plan.power = ("shutdown %s %s"):format(flag, delay:gsub("^(%d)", "+%1"))
  end
end

-- ---- all keys ----

local NOTHING = { growpart = true, resize_rootfs = true, ssh_deletekeys = true, ssh_keys = true,
  bootcmd = true, preserve_hostname = true, manage_etc_hosts = true, disable_root = true,
  packages = true, package_update = true, package_upgrade = true, ssh_pwauth = true }

local HANDLERS = {
  write_files = write_files, users = users, timezone = timezone, power_state = power_state,
  ssh_authorized_keys = function(plan, keys)
    plan.more_keys = list_of(keys)
  end,
  hostname = function(plan, name)
    if type(name) == "string" and name:match("^%w[%w.-]*$") and #name <= 64 then
      plan.hostname = name
    else
      note(plan, "hostname: %s is not a host name", tostring(name))
    end
  end,
}

local function unknown(plan, names)
  table.sort(names)
  for _, name in ipairs(names) do
    plan.notices[#plan.notices + 1] =
      ("hgauto: cloud-config key '%s' is not supported"):format(name)
  end
end

--- Works a cloud-config into a plan, at the first boot of an instance.
-- @param plan table files, users, notices, stages and hostname are added to
-- @param config table decoded
function M.apply(plan, config)
  local others = {}
  for key in pairs(config) do
    if not HANDLERS[key] and not NOTHING[key] and key ~= "runcmd" then
      others[#others + 1] = tostring(key)
    end
  end
  for key in pairs(type(config.ssh_keys) == "table" and config.ssh_keys or {}) do
    if key ~= "ed25519_private" and key ~= "ed25519_public" then
      others[#others + 1] = "ssh_keys." .. tostring(key)
    end
  end
  unknown(plan, others)
  for _, key in ipairs { "hostname", "users", "ssh_authorized_keys", "write_files", "timezone",
    "power_state" } do
    if config[key] ~= nil then
      HANDLERS[key](plan, config[key])
    end
  end
  if config.ssh_pwauth then
    note(plan, "ssh_pwauth: passwords are never accepted here")
  end
  packages(plan, config)
  if type(config.runcmd) == "table" and config.runcmd[1] ~= nil then
    plan.stages[#plan.stages + 1] = { name = "runcmd", text = M.script(config.runcmd) }
  end
end

return M
