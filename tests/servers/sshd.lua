-- For Lua tests: a real sshd of our own (tests/servers/sshd.sh).
-- local sshd = dofile "tests/servers/sshd.lua"; local d = sshd.start(dir, {lines}); d.port, d.dir,
-- d:args() options for ssh.connect, d:log(), d:stop().  Skips the file where none can run.
-- env: variables of sshd.sh; LISTEN is the address then, NETNS a network namespace to run in.
local async = require "hgauto.async"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local t = require "hg.tap"
local time = require "hgauto.time"

local M = {}
local D = {}
D.__index = D

function D:args(more)
  local a = {
    user = "root", port = self.port, label = "t", keys = { self.dir .. "/id_ed25519" },
    host_key = (fs.read(self.dir .. "/host_ed25519.pub"):gsub("%s+$", "")),
  }
  for k, v in pairs(more or {}) do
    a[k] = v
  end
  return a
end

function D:log()
  return fs.exists(self.dir .. "/sshd.log") and fs.read(self.dir .. "/sshd.log", { max = 1 << 26 })
    or ""
end

function D:stop()
  self.p:kill("KILL")
end

local function listens(d)
  local limit = time.mono() + 10
  while time.mono() < limit do
    if d:log():find(("Server listening on %s port %d"):format(d.address, d.port), d.from, true) then
      return true
    end
    if not fs.exists("/proc/" .. d.p:pid()) then
      return false
    end
    async.sleep(0.02)
  end
  return false
end

function M.start(dir, lines, port, env)
  if proc.run({ "id", "-u" }).out ~= "0\n" or not proc.which("unshare") then
    t.skip("needs root and unshare")
  end
  if not fs.exists(dir .. "/host_rsa") then
    local r = proc.run({ "sh", "tests/servers/sshd.sh", dir, "setup" }, { check = false })
    if not r.ok then
      t.skip("needs sshd (openssh-server)")
    end
  end
  env = env or {}
  for _ = 1, 10 do
    local d = setmetatable({ dir = dir, port = port or math.random(20000, 60000),
      address = env.LISTEN or "127.0.0.1" }, D)
    local words = { "sh", "tests/servers/sshd.sh", dir, "run", tostring(d.port),
      table.unpack(lines or {}) }
    if env.NETNS then
      words = { "nsenter", "--net=" .. env.NETNS, table.unpack(words) }
    end
    d.from = #d:log() + 1 -- an earlier one may have had the same port
    d.p = proc.spawn(words, { env = env })
    if listens(d) then
      return d
    end
    d:stop()
  end
  error("sshd does not start: see " .. dir .. "/sshd.log")
end

return M
