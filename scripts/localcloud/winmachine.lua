--- Instances of Windows images: a simulated WinRM endpoint instead of a box.
--
-- It opens with what the user data of hg.windows holds (password, certificate,
-- token); any other user data leaves the machine closed.  A directory stands for
-- its disk C:.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local json = require "hgauto.json"
local winsim = require "localcloud.winsim"

local M = {}

--- Port of the endpoint; nothing ever listens on 5985.
M.port = 5986

local MAX_TEXT = 65536

local LITERALS = {
  { "^%[Text%.Encoding%]::UTF8%.GetString%(%[Convert%]::FromBase64String%('([%w+/=]*)'%)%)$",
    crypto.unbase64 },
  { "^%[Convert%]::FromBase64String%('([%w+/=]*)'%)$", crypto.unbase64 },
  { "^(%d+)$", math.tointeger },
}

local function literal(text)
  for _, l in ipairs(LITERALS) do
    local inner = text:match(l[1])
    if inner then
      local ok, v = pcall(l[2], inner)
      return ok and v or nil
    end
  end
  return nil
end

--- Reads the values of user data that hg.windows rendered; pure.
-- @param text string decoded user data
-- @return table|nil values by name
-- @return string|nil why it is not understood
function M.parse(text)
  if #text > MAX_TEXT or not text:find("^<powershell>\n# hgauto%-userdata 1\n") then
    return nil, "user data was not made by hgauto; the machine stays closed"
  end
  local head = text:match("\n%$hga = @{\n(.-)\n}\n")
  local values = {}
  for line in ((head or "") .. "\n"):gmatch("([^\n]*)\n") do
    local name, value = line:match("^  (%a%w*) = (.*)$")
    values[name or ""] = value and literal(value)
    if not name or values[name] == nil then
      return nil, "user data is damaged; the machine stays closed"
    end
  end
  for _, name in ipairs { "Password", "Pfx", "PfxPassword", "Token" } do
    if type(values[name]) ~= "string" then
      return nil, ("user data has no %s; the machine stays closed"):format(name)
    end
  end
  return values
end

local Sim = {}
Sim.__index = Sim

-- What a fault rule does to a request, when it is not the name of a fault.
local EFFECTS = {}

function EFFECTS.rst(_, req)
  req:abort "rst"
end

function EFFECTS.fin(_, req)
  req:abort "fin"
end

function EFFECTS.unavailable(_, req)
  req:respond { status = 503, body = "" }
end

function EFFECTS.hang()
  async.sleep(3600)
end

function EFFECTS.reboot(sim, req)
  sim:finish "reboot"
  req:abort "rst"
end

-- For winsim: the name of a fault, "handled", or nil.
local function fault_of(sim)
  return function(action, req)
    local what = sim.fault and sim.fault(action or "")
    if what and EFFECTS[what] then
      EFFECTS[what](sim, req)
      return "handled"
    end
    return what
  end
end

local function covers(rules)
  for _, r in ipairs(rules) do
    if r.from <= M.port and r.to >= M.port then
      return true
    end
  end
  return false
end

-- Opens or closes the endpoint as the security groups say.
function Sim:apply(rules)
  local want = self.armed and covers(rules)
  if want and not self.ep then
    self.ep = winsim.open {
      password = self.password, root = self.root, host = self.address, port = M.port,
      tls = self.tls, rules = require "localcloud.winsim_rules", machine = self,
      fault = fault_of(self),
    }
  elseif self.ep and not want then
    self.ep.close()
    self.ep = nil
  end
end

--- The machine ends its power-on: "off", "reboot", "killed".
function Sim:finish(how)
  if not self.ended then
    self.ended = how
    self.event:set(true)
  end
end

function Sim:close()
  if self.ep then
    self.ep.close()
    self.ep = nil
  end
end
Sim.__close = Sim.close

-- A real first boot writes this at the end of the user data.
local function note_ready(sim, values)
  local place = sim.root .. "/programdata/hgauto"
  fs.mkdir(place, { parents = true, mode = 448 })
  fs.write(place .. "/ready.json", json.encode { token = values.Token, winrm = "ok",
    ssh = "absent", simulated = true })
end

--- Begins a power-on.
-- @param o table root= address= user_data= boot=seconds say=function(text) rules=function()
--   fault=function(action) what a rule wants of a request
-- @param spawn function(fn) starts a task that outlives the call
-- @return table closable; has of a box: wait, poweroff, reboot, kill, ports
function M.start(o, spawn)
  local sim = setmetatable({ root = o.root, address = o.address, event = async.event(),
    fault = o.fault,
    later = spawn, boot_time = require("hgauto.time").now() }, Sim)
  fs.mkdir(o.root, { parents = true, mode = 448 })
  local values, why = M.parse(o.user_data or "")
  if not values then
    o.say("hgauto: " .. why)
    return sim
  end
  local ok, tls = pcall(crypto.pfx_read, values.Pfx, values.PfxPassword)
  if not ok then
    o.say("hgauto: the certificate cannot be imported; the machine stays closed")
    return sim
  end
  -- User data runs once in the life of a disk, unless it was sealed.
  local once = o.root .. "/.armed"
  if fs.exists(once) and fs.read(once) ~= values.Token then
    o.say("hgauto: user data ran before on this disk and does not run again (the image was not"
      .. " sealed); the machine stays closed")
    return sim
  end
  fs.write(once, values.Token, { mode = 384 })
  -- The password outlives a restart, as an account's does.
  local kept = o.root .. "/.password"
  sim.password_file = kept
  sim.password = fs.exists(kept) and fs.read(kept) or values.Password
  sim.tls = { cert = tls.cert, key = tls.key:reveal() }
  spawn(function()
    async.sleep(o.boot)
    if sim.ended then
      return
    end
    note_ready(sim, values)
    sim.armed = true
    sim:apply(o.rules())
    o.say("hgauto: SIMULATED Windows, WinRM over HTTPS on port 5986")
  end)
  return sim
end

--- Another password of the account.
function Sim:set_password(text)
  fs.write(self.password_file, text, { mode = 384 })
  self.password = text
  if self.ep then
    self.ep.password = text
  end
end

--- Forgets whose machine it was, as sealing does: its image arms itself anew.
function Sim:unarm()
  for _, path in ipairs { self.root .. "/.armed", self.password_file,
    self.root .. "/programdata/hgauto" } do
    if fs.exists(path) then
      fs.remove(path, { tree = true })
    end
  end
end

--- Waits for the end of the power-on.
-- @return string "off", "reboot" or "killed"
-- @waits
function Sim:wait()
  self.event:wait()
  return self.ended
end

function Sim:info() -- luacheck: no self
  return {}
end

--- Ends it as its operating system would.
function Sim:poweroff()
  self:finish("off")
end

function Sim:reboot()
  self:finish("reboot")
end

function Sim:kill()
  self:finish("killed")
end

function Sim:ports(rules)
  self:apply(rules)
end

return M
