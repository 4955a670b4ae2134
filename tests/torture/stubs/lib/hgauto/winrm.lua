--- Stand-in for hgauto.winrm in sweeps over the requests of tasks: Windows machines of
--- an api-only cloud whose scripts succeed at once.  Calls to AWS stay real; what a
--- machine does by itself (read its user data, power off) is asked of the cloud past
--- the relay, where no request of the task is counted.
local aws = require "hgauto.aws"
local crypto = require "hgauto.crypto"
local embed = require "hgauto.embed"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local json = require "hgauto.json"
local note = require "hg.remote_note"

local M = {}

-- The version of everything that is "built"; stubs/lib/hg/mercurial.lua names it.
local VERSION = "7.9"
local REPORT = 'testreport ={ "test-%s.t": {"result": "success", "time": "0.1"} }\n'

local Session = {}
Session.__index = Session
Session.__close = function() end

local function cloud()
  return aws.client("ec2", { endpoint_url = host.getenv "HGAUTO_SWEEP_CLOUD" })
end

local function instance_at(address)
  return cloud():describe_instances({ Filters = {
    { Name = "ip-address", Values = { address } } } }).Reservations[1].Instances[1].InstanceId
end

-- The token in the user data that this machine was launched with.
local function token(address)
  local r = cloud():describe_instance_attribute { InstanceId = instance_at(address),
    Attribute = "userData" }
  return crypto.unbase64(crypto.unbase64(r.UserData.Value):match("Token = %S-'([^']+)'"))
end

-- A shutdown from inside: what becomes of the machine was said at its launch, or later.
local function power_off(address)
  local ec2, id = cloud(), instance_at(address)
  local r = ec2:describe_instance_attribute { InstanceId = id,
    Attribute = "instanceInitiatedShutdownBehavior" }
  if r.InstanceInitiatedShutdownBehavior.Value == "stop" then
    ec2:stop_instances { InstanceIds = { id } }
  else
    ec2:terminate_instances { InstanceIds = { id } }
  end
end

local function wheel(python, arch)
  local tag = "cp" .. python:gsub("%.", "")
  return ("mercurial-%s-%s-%s-%s.whl"):format(VERSION, tag, tag,
    arch == "x86" and "win32" or "win_amd64")
end

local INSTALLERS = { inno = "Mercurial-%s-%s.exe", wix = "mercurial-%s-%s.msi" }

local function shard_of(flags)
  for i, flag in ipairs(flags) do
    if flag == "--shard-index" then
      return flags[i + 1]
    end
  end
  return "1"
end

-- What our PowerShell sources do, as far as later steps see it.
local SOURCES = {
  facts = function(s)
    return { { Boot = ("boot %d"):format(s.machine.boots), Processors = 2 } }
  end,
  reboot = function(s)
    s.machine.boots = s.machine.boots + 1
  end,
  exists = function()
    return { true }
  end,
  ["system-start"] = function(s, p)
    if p.Script == embed.read "windows/seal.ps1" then
      power_off(s.address)
    end
  end,
  ["system-poll"] = function(_, p)
    return { { Text = "", Next = p.Offset, End = '{"exit":0}' } }
  end,
  ["build-wheel"] = function(s, p)
    s.files[p.OutDir .. "\\" .. wheel(p.Python, p.Arch)] = "the wheel"
  end,
  ["build-installer"] = function(s, p)
    s.files[p.OutDir .. "\\" .. INSTALLERS[p.Kind]:format(p.Version, p.Arch)] = "the installer"
  end,
  ["dist-hash"] = function(s, p)
    local list = {}
    for path, text in pairs(s.files) do
      local name = path:sub(1, #p.OutDir + 1) == p.OutDir .. "\\" and path:sub(#p.OutDir + 2)
      if name and not name:find("\\", 1, true) then
        list[#list + 1] = { Name = name, Size = #text, Sha256 = crypto.sha256(text) }
      end
    end
    return list
  end,
  sha256 = function(s, p)
    return { crypto.sha256(s.files[p.Path]) }
  end,
  ["run-tests"] = function(s, p)
    s.files[p.Out .. "\\report.json"] = REPORT:format(shard_of(p.Flags))
    return { { Code = 0 } }
  end,
}

function Session:ps(source, o)
  note(source.name)
  local fn = SOURCES[source.name]
  return { ok = true, exit_code = 0, duration = 0, stderr = {}, errors = {},
    output = fn and fn(self, o and o.params or {}) or {} }
end

--- Only "ready" is asked so.
function Session:ps_value()
  note "ready"
  return json.encode { token = token(self.address), winrm = "ok" }
end

function Session:upload(here, there)
  note "upload"
  self.files[there] = fs.read(here)
end

function Session:download(there, here)
  note "download"
  fs.write(here, self.files[there])
  return { bytes = #self.files[there] }
end

for _, name in ipairs { "wait", "ping", "use_sftp", "set_password", "close" } do
  Session[name] = function() end
end

local machines = {}

--- A session with the machine of that address; its files last as long as we.
-- @param o table host=
-- @return table
function M.connect(o)
  machines[o.host] = machines[o.host] or { files = {}, boots = 0 }
  local machine = machines[o.host]
  return setmetatable({ address = o.host, machine = machine, files = machine.files }, Session)
end

return M
