--- Windows machines: what arms them, our PowerShell sources, steps on them.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local hg = require "hg"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local out = require "hg.output"
local session = require "hg.session"

local M = {}

--- User data that EC2 takes, in bytes.
M.max_user_data = 16000

local CLASSES = { "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789",
  "!#%+=_.-" }

-- A number below n, each equally likely.
local function below(n)
  local limit = 256 - 256 % n
  local byte
  repeat
    byte = crypto.random(1):byte()
  until byte < limit
  return byte % n + 1
end

--- A password as Windows' complexity rules want it: 24 characters, each class.
-- @return secret
function M.password()
  local all = table.concat(CLASSES)
  local text
  repeat
    local parts = {}
    for i = 1, 24 do
      local at = below(#all)
      parts[i] = all:sub(at, at)
    end
    text = table.concat(parts)
    local complete = text:find "%u" and text:find "%l" and text:find "%d" and text:find "[^%w]"
  until complete
  return crypto.secret(text)
end

--- What a machine will show and know; made here, before it is launched.
-- @return table {password, cert, key, pin, pfx, pfx_password, host_key, token}
-- @waits
function M.identity()
  local c = crypto.certificate { name = "hgauto" }
  local pfx_password = M.password()
  return { password = M.password(), cert = c.cert, key = c.key, pin = c.pin,
    pfx = crypto.pfx(c.cert, c.key, pfx_password), pfx_password = pfx_password,
    host_key = crypto.keypair("ed25519", "hgauto"), token = crypto.token() }
end

-- ---- PowerShell sources ----------------------------------------------------------------

-- Names and order of the parameters of a source.
local function params_of(text, name)
  local block = text:match("^param%(\n(.-)\n?%)\n")
  if not block then
    hg.fail { kind = "bug", message = name .. ".ps1 does not begin with its parameters" }
  end
  local known, order = {}, {}
  for p in block:gmatch("%[[%w%[%]]+%]%$(%w+)") do
    known[p], order[#order + 1] = true, p
  end
  return known, order
end

local sources = {}

--- One of our PowerShell sources.
-- @param name string file below scripts/windows without .ps1
-- @return table {name, text, params=set, order=string[]} for s:ps
-- @raise bug there is none
function M.ps(name)
  if not sources[name] then
    local text = embed.read("windows/" .. name .. ".ps1")
    if not text then
      hg.fail { kind = "bug", message = ("no PowerShell source %s"):format(name) }
    end
    local params, order = params_of(text, name)
    sources[name] = { name = name, text = text, params = params, order = order }
  end
  return sources[name]
end

--- Functions that all sources may use.
-- @return string
function M.library()
  return embed.read("windows/lib.ps1")
end

-- ---- user data -----------------------------------------------------------------------

local function reveal(v)
  return type(v) == "string" and v or v:reveal()
end

-- No byte of a value can end such a literal.
local function literal(v, is_bytes)
  if math.type(v) == "integer" then
    return tostring(v)
  end
  local form = is_bytes and "[Convert]::FromBase64String('%s')"
    or "[Text.Encoding]::UTF8.GetString([Convert]::FromBase64String('%s'))"
  return form:format(crypto.base64(reveal(v)))
end

--- Renders the user data that arms a machine; values are data in it, never code.
-- @param identity table from identity
-- @param o table expires=epoch seconds authorized_keys=string
-- @return string
-- @raise usage too long
function M.user_data(identity, o)
  local lines = { "<powershell>", "# hgauto-userdata 1", "$hga = @{" }
  for _, v in ipairs {
    { "Password", identity.password }, { "Pfx", identity.pfx, true },
    { "PfxPassword", identity.pfx_password }, { "Token", identity.token },
    { "AuthorizedKeys", o.authorized_keys or "" }, { "HostKey", identity.host_key:private() },
    { "Expires", math.tointeger(o.expires) },
  } do
    lines[#lines + 1] = ("  %s = %s"):format(v[1], literal(v[2], v[3]))
  end
  lines[#lines + 1] = "}\n& {\n" .. M.ps("arm").text .. "} @hga\n</powershell>\n"
  local text = table.concat(lines, "\n")
  if #text > M.max_user_data then
    hg.fail { kind = "usage", message = ("user data of %d bytes; %d at most"):format(#text,
      M.max_user_data), hint = "fewer authorized keys" }
  end
  return text
end

-- ---- what other processes need to log in ------------------------------------------------

local function secrets_dir()
  return session.state.path .. "/secrets"
end

local function secret_path(id)
  return ("%s/%s.json"):format(secrets_dir(), id)
end

--- Keeps how to log in to a machine, in the state directory (secrets/ID.json, 0600):
--- before a password is used, so that no machine outlives it.
-- @param m table {id, identity}
-- @param[opt] former secret the password that may still be valid
function M.remember(m, former)
  local i = m.identity
  fs.mkdir(secrets_dir(), { parents = true, mode = 448 })
  fs.write(secret_path(m.id), json.encode { v = 1, password = i.password:reveal(),
    former = former and former:reveal() or nil, cert = i.cert, pin = i.pin }, { mode = 384 })
end

--- Forgets a machine that is gone.
-- @param id string
function M.forget(id)
  if session.state and fs.exists(secret_path(id)) then
    fs.remove(secret_path(id))
  end
end

-- Machines that something else has ended leave theirs behind.
local function sweep()
  if not session.ledger or not fs.exists(secrets_dir()) then
    return
  end
  local live = {}
  for _, row in ipairs(session.ledger:list { kinds = { "instance" } }) do
    live[row.id or ""] = row.state ~= "gone" or live[row.id or ""]
  end
  for _, name in ipairs(fs.list(secrets_dir())) do
    local id = name:match "^(i%-%x+)%.json$"
    if id and not live[id] then
      M.forget(id)
    end
  end
end
M.sweep_secrets = sweep

--- A WinRM session to a machine of this state directory.
-- @param id string
-- @param address string
-- @param[opt] user string
-- @return session closable; nothing is sent yet
-- @raise auth its password is not known here
function M.recall(id, address, user)
  if not fs.exists(secret_path(id)) then
    hg.fail { kind = "auth", code = "NoPassword", message = ("%s: its password is not in this state"
      .. " directory"):format(id), hint = "it was launched from another one: --state-path" }
  end
  local ok, known = pcall(json.decode, fs.read(secret_path(id)))
  if not ok or type(known) ~= "table" or type(known.password) ~= "string" then
    hg.fail { kind = "auth", code = "NoPassword",
      message = secret_path(id) .. " is damaged; the machine can only be terminated" }
  end
  local s = require("hgauto.winrm").connect { host = address, label = id, user = user,
    password = crypto.secret(known.password),
    tls = { ca = known.cert, name = "hgauto", pin = known.pin } }
  -- A run that was killed while it changed the password leaves two candidates.
  if type(known.former) == "string" then
    local good, e = pcall(s.ping, s)
    if not good and type(e) == "table" and e.code == "Unauthorized" then
      s:set_password(known.former)
    elseif not good then
      s:close()
      error(e, 0)
    end
  end
  return s
end

-- ---- steps ---------------------------------------------------------------------------

--- Another password, known to nobody who can read the user data.
-- @param m table machine
-- @waits
function M.rotate_password(m)
  local new, former = M.password(), m.identity.password
  m.identity.password = new
  M.remember(m, former)
  local ok, err = pcall(m.script, m, "rotate-password", { new }, { quiet = true, timeout = 120 })
  -- The answer itself may be refused already: every request shows the password.
  if not ok and (type(err) ~= "table" or err.code ~= "Unauthorized") then
    error(err, 0)
  end
  m.winrm:set_password(new)
  m.winrm:ping()
  M.remember(m)
end

--- Prepares the machine for building: its facts, the repository.
-- @param m table machine
-- @return table facts
-- @waits
function M.prepare(m)
  m.facts = m:ps("facts", { params = { Root = "C:\\hgdev" } }).output[1]
  m:script("hg-init", { m.src }, { timeout = 300 })
  return m.facts
end

--- Turns the antivirus on or off where there is one: it doubles the time of builds.
-- @param m table machine
-- @param on boolean
-- @waits
function M.antivirus(m, on)
  m:script("antivirus", { on }, { quiet = true, timeout = 300 })
end

-- ---- work as SYSTEM --------------------------------------------------------------------
-- Updates and features refuse a remote logon, whoever it is; a scheduled task may.

local function start_as_system(m, name, params)
  local id = crypto.token():sub(1, 16)
  m:ps("system-start", { timeout = 300, params = { Id = id, Script = M.ps(name).text,
    Library = M.library(), Wrapper = embed.read("windows/system-run.ps1"),
    Values = params or {} } })
  return id
end

-- What it printed since `offset`, and how it ended if it did.
local function poll_system(m, id, offset)
  local r = m:ps("system-poll", { params = { Id = id, Offset = offset }, timeout = 120 }).output[1]
  local ok, last = pcall(json.decode, r.End)
  return crypto.unbase64(r.Text), r.Next, ok and type(last) == "table" and last or nil
end

--- Runs one of our PowerShell sources as SYSTEM, from outside of any session.
-- @param m table machine
-- @param name string source
-- @param[opt] params table
-- @param[opt] o table timeout=seconds quiet=boolean
-- @return string what it printed
-- @raise remote ScriptFailed; timeout
-- @waits
function M.as_system(m, name, params, o)
  o = o or {}
  local id = start_as_system(m, name, params)
  local _d <close> = async.defer(function()
    pcall(m.ps, m, "system-end", { params = { Id = id }, timeout = 60 })
  end, 70)
  local parts, offset, pending = {}, 0, ""
  hg.wait { what = name .. " on " .. m.label, timeout = o.timeout or 3600, every = 0.2,
    max_every = 3, poll = function()
      local text, next_offset, last = poll_system(m, id, offset)
      local more = next_offset > offset
      offset, parts[#parts + 1] = next_offset, text
      pending = pending .. text:gsub("\239\187\191", ""):gsub("\r", "")
      for line in pending:gmatch("([^\n]*)\n") do
        if not o.quiet then
          out.remote(m.label, "stdout", line)
        end
      end
      pending = pending:match("[^\n]*$")
      if last and not more and last.exit ~= 0 then
        hg.fail { kind = "remote", code = "ScriptFailed",
          message = ("%s on %s: %s"):format(name, m.label, tostring(last.why)) }
      end
      return last and not more or nil, "running"
    end }
  return table.concat(parts)
end

--- Installs what Windows Update brings: sshd where it is missing, .NET 3.5.
-- @param m table machine
-- @waits
function M.install_features(m)
  local sshd = m.distro ~= "windows2025" and hg.facts.windows_features.sshd or ""
  M.as_system(m, "features", { Capabilities = sshd,
    Features = hg.facts.windows_features.features }, { timeout = 3600 })
end

-- How far the machine is on its way to a stop.
local function state_of(m)
  local r = m.ec2:describe_instances({ InstanceIds = { m.id } }).Reservations[1]
  return r and r.Instances[1].State.Name or "unknown"
end

--- Removes what is of this machine alone and stops it, ready for an image.
-- Nobody can log in any more: the next machine arms itself from its own user data.
-- @param m table machine
-- @raise task sealing failed; timeout
-- @waits
function M.seal(m)
  m.ec2:modify_instance_attribute { InstanceId = m.id,
    InstanceInitiatedShutdownBehavior = { Value = "stop" } }
  local id = start_as_system(m, "seal")
  hg.wait { what = m.id .. " to stop after sealing", timeout = 900, every = 0.5, max_every = 5,
    poll = function()
      local state = state_of(m)
      if state == "terminated" or state == "shutting-down" then
        hg.fail { kind = "task", message = m.id .. " ended while it was sealed" }
      elseif state == "running" then
        -- It answers until the seal has removed its listener.
        local ok, _, _, last = pcall(poll_system, m, id, 0)
        if ok and last and last.exit ~= 0 then
          hg.fail { kind = "task", message = ("%s cannot be sealed: %s"):format(m.id,
            tostring(last.why)) }
        end
      end
      return state == "stopped" or nil, state
    end }
end

-- The name that exactly one build has.
local function expected(o)
  if o.kind == "wheel" then
    return ("-cp%s-cp%s-%s.whl"):format(o.python:gsub("%.", ""), o.python:gsub("%.", ""),
      o.arch == "x86" and "win32" or "win_amd64")
  end
  return ("-%s.%s"):format(o.arch, o.kind == "inno" and "exe" or "msi")
end

--- Builds one artifact and returns its path there.
-- @param m table machine
-- @param o table kind="wheel"|"inno"|"wix" arch="x86"|"x64" python="3.13" version= epoch=
-- @return table {kind, path, name, version, arch, python, sha256, size}
-- @raise remote the build failed; task not exactly one file of the right name
-- @waits
function M.build(m, o)
  local label = o.python and o.kind == "wheel" and o.python .. "-" .. o.arch or o.arch
  local dir = ("%s\\out\\%s-%s"):format(m.work, o.kind, label)
  m:script("hg-purge", { m.src }, { quiet = true, timeout = 600 })
  local id = crypto.token():sub(1, 16)
  if o.kind == "wheel" then
    m:script("build-wheel", { id, o.python, o.arch, dir, tostring(o.epoch) },
      { id = id, timeout = 7200 })
  else
    m:script("build-installer", { id, o.kind, o.arch, o.version, dir }, { id = id, timeout = 7200 })
  end
  local files = m:ps("dist-hash", { params = { OutDir = dir } }).output
  local file, names, tail = files[1], {}, expected(o)
  for i, f in ipairs(files) do
    names[i] = f.Name
  end
  local version = file and file.Name:match(hg.facts.windows_artifacts[o.kind])
  if #files ~= 1 or not version or file.Name:sub(-#tail) ~= tail then
    hg.fail { kind = "task", message = ("%s: expected one file like mercurial-VERSION%s, found %s")
      :format(o.kind, tail, names[1] and table.concat(names, ", ") or "nothing") }
  end
  return { kind = o.kind, path = dir .. "\\" .. file.Name, name = file.Name, version = version,
    arch = o.arch, python = o.kind == "wheel" and o.python or nil, sha256 = file.Sha256,
    size = file.Size }
end

return M
