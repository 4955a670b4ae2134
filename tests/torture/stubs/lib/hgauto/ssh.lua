--- Stand-in for hgauto.ssh in sweeps over the requests of tasks: machines of an
--- api-only cloud whose commands succeed at once.  Calls to AWS stay real.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local note = require "hg.remote_note"

local M = {}

-- The version of everything that is "built"; stubs/lib/hg/mercurial.lua names it.
local VERSION = "7.9"
local NAMES = {
  wheel = ("mercurial-%s-cp313-cp313-linux_x86_64.whl"):format(VERSION),
  sdist = ("mercurial-%s.tar.gz"):format(VERSION),
  deb = ("mercurial_%s~trixie1_amd64.deb"):format(VERSION),
}

-- Of each shard another test.
local REPORT = 'testreport ={ "test-%s.t": {"result": "success", "time": "0.1"} }\n'

local Session = {}
Session.__index = Session

-- What our shell scripts do, as far as later steps see it.
local SCRIPTS = {
  build = function(s, kind, out)
    s.files[out .. "/" .. NAMES[kind]] = "the " .. kind
  end,
  deb = function(s, _, _, _, out)
    s.files[out .. "/" .. NAMES.deb] = "the deb"
  end,
  verify = function()
    return ("version %s\n"):format(VERSION)
  end,
  ["run-tests"] = function(s, _, _, out, ...)
    local index = table.concat({ ... }, " "):match("%-%-shard%-index (%d+)")
    s.files[out .. "/report.json"] = REPORT:format(index or "1")
  end,
}

local function script_of(cmd)
  return type(cmd) == "table" and cmd[1] == "sh" and cmd[2]
    and cmd[2]:match("/%x+%-([%w-]+)%.sh$")
end

function Session:exec(cmd)
  local name, out = script_of(cmd), ""
  note(name or type(cmd) == "table" and cmd[1]:match "[%w-]+$" or "command")
  if name and SCRIPTS[name] then
    out = SCRIPTS[name](self, table.unpack(cmd, 3)) or ""
  elseif type(cmd) == "table" and cmd[1] == "sha256sum" then
    out = crypto.sha256(self.files[cmd[#cmd]] or "") .. "  x\n"
  elseif type(cmd) == "table" and cmd[1] == "nproc" then
    out = "2\n"
  elseif type(cmd) == "table" and cmd[1] == "python3" then
    out = VERSION .. "\n"
  end
  return { ok = true, code = 0, out = out, err = "", seconds = 0 }
end

function Session:list(dir)
  local list = {}
  for path, text in pairs(self.files) do
    local name = path:sub(1, #dir + 1) == dir .. "/" and path:sub(#dir + 2)
    if name and not name:find("/", 1, true) then
      list[#list + 1] = { name = name, type = "file", size = #text }
    end
  end
  return list
end

function Session:put(here, there)
  note "put"
  self.files[there] = fs.read(here)
end

function Session:write(there, text)
  self.files[there] = text
end

function Session:read(there)
  return self.files[there]
end

function Session:get(there, here, o)
  note "get"
  fs.write(here, self.files[there], { mode = o and o.mode })
  return { bytes = #self.files[there] }
end

-- Somebody's session, over at once.
local Shell = { __close = function() end }
Shell.__index = Shell

function Shell:console()
  note "console"
end

function Shell:wait()
  return { code = 0 }
end

function Session:shell()
  return setmetatable({}, Shell)
end

for _, name in ipairs { "mkdir", "remove", "rename", "stat", "close" } do
  Session[name] = function() end
end

local machines = {}

--- A session with the machine of that address; its files last as long as we.
-- @param address string
-- @return table
function M.wait_ready(address)
  note "login"
  machines[address] = machines[address] or {}
  return setmetatable({ files = machines[address] }, Session)
end

function M.use_state() end

--- Keys of hosts: nobody asks for them here.
function M.known_hosts()
  return setmetatable({}, { __index = function()
    return function() end
  end })
end

return M
