--- A session's files for OpenSSH's own programs.
-- Part of hgauto.ssh, which calls this with its session class and helpers.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local ssh_config = require "hgauto.ssh_config"

return function(Session, lib)
  local usage = lib.usage

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
      local path = type(key) == "table" and key.optional or key
      if type(key) == "userdata" then
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
      "ProxyCommand " .. (target.proxy_command and target.proxy_command:gsub("%%", "%%%%")
        or "none"),
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

  --- Keys go into it: nobody else may have a way in.
  local function make_private(dir)
    fs.mkdir(dir, { parents = true, mode = 448 })
    local st = fs.lstat(dir)
    if st.type ~= "dir" or st.uid ~= ssh_config.uid() or st.mode & 511 ~= 448 then
      usage("ssh config: %s must be a directory of ours with mode 0700", dir)
    end
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
  -- @param dir string made with mode 0700 if it is missing, refused with another
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
    if target.hops then
      usage("ssh config: %s is reached through a session of ours, which ssh cannot use",
        target.name)
    end
    if target.host:sub(1, 1) == "-" or target.name:find("[%s,*?!]") then
      usage("ssh config: %q is no name of a host", target.name)
    end
    make_private(dir)
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
end
