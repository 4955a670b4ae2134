-- Files to and from a Windows machine by each method: sizes at the borders, requests as the
-- server counts them, memory, transfers that break.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local sshd = dofile "tests/servers/sshd.lua"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local winrm = require "hgauto.winrm"
local winsim = require "localcloud.winsim"

local PASSWORD = "Bench-Pass.word1"
local HGAUTO = fs.readlink "/proc/self/exe"
local MIB = 1024 * 1024

local dir = t.tmpdir()
local root, here, back = dir .. "/c", dir .. "/local", dir .. "/back"
fs.mkdir(root)

local fault
local ep = winsim.open {
  password = PASSWORD, root = root,
  fault = function(action, req) return fault and fault(action, req) end,
}

local function connect()
  return winrm.connect { host = "127.0.0.1", port = ep.port, password = PASSWORD,
    plaintext = true, allow_plaintext = true }
end

-- A file of n bytes that no two blocks of share.
local function make(n)
  local seed, part = crypto.random(65521), {}
  for i = 1, n // #seed + 1 do
    part[i] = i % 64 == 0 and ("%08d"):format(i) .. seed:sub(9) or seed
  end
  fs.write(here, table.concat(part):sub(1, n))
end

local function there(name)
  return fs.exists(root .. "/" .. name) and fs.sha256(root .. "/" .. name) or "none"
end

local function leftovers()
  local list = {}
  for _, place in ipairs { root .. "/in", dir } do
    for _, name in ipairs(fs.exists(place) and fs.list(place) or {}) do
      list[#list + 1] = name:match "%.part$"
    end
  end
  return list
end

local SIZES = { 0, 1, 98202, 98203, 64 * MIB }

local function round(s, up, down, n)
  local sum = fs.sha256(here)
  local u = s:upload(here, [[C:\in\File.bin]], { via = up })
  t.is({ u.via, u.bytes, u.sha256 }, { up, n, sum }, ("%d bytes up by %s"):format(n, up))
  local d = s:download([[C:\in\File.bin]], back, { via = down })
  t.is({ d.via, d.bytes, d.sha256, fs.sha256(back) }, { down, n, sum, sum },
    ("and back by %s"):format(down))
  t.is(leftovers(), {}, "no part is left")
end

t.test("every size by every method of WinRM", function()
  local s <close> = connect()
  for _, n in ipairs(SIZES) do
    make(n)
    round(s, "stdin", "psrp", n)
    round(s, "psrp", "psrp", n)
  end
  t.is(s:upload(here, [[C:\in\auto]]).via, "stdin", "without sshd raw input is taken")
end)

-- winrm.md, Sizes: raw bytes of one Send at each envelope.
t.test("a Send is filled", function()
  local n, sends = 8 * MIB, 0
  make(n)
  fault = function(action)
    sends = sends + (action == "Send" and 1 or 0)
  end
  for envelope, payload in pairs { [153600] = 113900, [512000] = 382700 } do
    local s <close> = winrm.connect { host = "127.0.0.1", port = ep.port, password = PASSWORD,
      plaintext = true, allow_plaintext = true, envelope = envelope }
    sends = 0
    s:upload(here, [[C:\in\sends]], { via = "stdin" })
    t.is(sends, (n + payload - 1) // payload, ("Sends of %d bytes"):format(envelope))
  end
  local s <close> = connect()
  local before = ep.counts.requests
  s:upload(here, [[C:\in\sends]], { via = "psrp" })
  -- base64 of base64 (16/9) in 512000 bytes, and what opens and ends the pool's script
  t.ok(ep.counts.requests - before <= n * 16 // 9 // 500000 + 8,
    "a pipeline's requests are full: " .. ep.counts.requests - before)
  before = ep.counts.requests
  s:download([[C:\in\sends]], back)
  t.ok(ep.counts.requests - before <= n // 98202 + 8,
    "so are a pipeline's answers: " .. ep.counts.requests - before)
  fault = nil
end)

t.test("memory does not grow with the file", function()
  if t.sanitized() then
    t.skip "AddressSanitizer is in this program: its memory is not ours"
  end
  make(64 * MIB)
  local function peak(what, via)
    local r = proc.run({ HGAUTO, "test", "tests/bench/winrm.lua" }, { env = {
      PORT = tostring(ep.port), WHAT = what, LINE = via, COUNT = "1", DIR = dir,
    } })
    return math.tointeger(tonumber(r.out:match("peak (%d+) KiB")))
  end
  local idle = peak("idle", "")
  for _, way in ipairs { { "up", "stdin" }, { "up", "psrp" }, { "down", "psrp" } } do
    local kib = peak(way[1], way[2])
    t.ok(kib <= idle + 16 * 1024, ("64 MiB %s by %s: idle + %d KiB"):format(way[1], way[2],
      kib - idle))
  end
end)

-- Ends the transfer at its third request of that kind.
local function breaks(kind, how)
  local n = 0
  return function(action, req)
    n = n + (action == kind and 1 or 0)
    if action ~= kind or n ~= 3 then
      return nil
    end
    if how == "rst" then
      req:abort "rst"
      return "handled"
    end
    return how
  end
end

t.test("a transfer that breaks leaves neither part nor target", function()
  make(3 * MIB)
  local sum = fs.sha256(here)
  for _, via in ipairs { "stdin", "psrp" } do
    for _, how in ipairs { "rst", "invalid" } do
      local s <close> = connect()
      fault = breaks("Send", how)
      t.raises(function() s:upload(here, [[C:\in\broken]], { via = via }) end, {},
        ("%s: %s"):format(via, how))
      fault = nil
      t.is({ there "in/broken", leftovers() }, { "none", {} }, "nothing is left")
      t.is(s:upload(here, [[C:\in\after]], { via = via }).sha256, sum, "the session goes on")
    end
  end
  local s <close> = connect()
  s:upload(here, [[C:\in\whole]])
  fs.remove(back)
  for _, how in ipairs { "rst", "invalid" } do
    fault = breaks("Receive", how)
    -- a Receive of which nothing came is asked for again
    local good = pcall(s.download, s, [[C:\in\whole]], back)
    fault = nil
    t.is(good, how == "rst", "download, Receive: " .. how)
    t.is({ fs.exists(back), leftovers() }, { good, {} }, "whole or not at all")
    fs.write(back, "")
    fs.remove(back)
  end
end)

t.test("a cancelled upload leaves nothing", function()
  make(3 * MIB)
  for _, via in ipairs { "stdin", "psrp" } do
    local s <close> = connect()
    local stop
    fault = function(action)
      if action == "Send" and stop then
        stop:cancel("enough")
        stop = nil
      end
    end
    async.scope(function(scope)
      stop = scope:spawn(function()
        s:upload(here, [[C:\in\cut]], { via = via })
      end)
    end)
    fault = nil
    t.is({ there "in/cut", leftovers() }, { "none", {} }, via)
  end
end)

t.test("an existing target", function()
  local s <close> = connect()
  make(10)
  s:upload(here, [[C:\in\there]])
  local was = there "in/there"
  make(11)
  for _, via in ipairs { "stdin", "psrp" } do
    t.raises(function() s:upload(here, [[C:\in\there]], { overwrite = false, via = via }) end,
      { match = "exists" }, "overwrite=false by " .. via)
    t.is(there "in/there", was, "it is as before")
  end
  s:upload(here, [[C:\in\there]])
  t.is(there "in/there", fs.sha256(here), "else it is replaced")
  t.raises(function() s:upload(here, [[C:\in\x]], { via = "ftp" }) end, { kind = "usage" }, "ftp")
  t.raises(function() s:upload(here, [[C:\in\x]], { via = "sftp" }) end,
    { kind = "usage", match = "knows no sshd" }, "SFTP where there is none")
end)

t.test("raw input refused before any byte: a pipeline instead", function()
  local s <close> = connect()
  make(1000)
  fault = function(action, req)
    return action == "Create" and req.body:find("shell/cmd", 1, true) and "invalid" or nil
  end
  t.is(s:upload(here, [[C:\in\other]]).via, "psrp", "auto")
  t.raises(function() s:upload(here, [[C:\in\other]], { via = "stdin" }) end, {}, "stdin")
  fault = nil
end)

t.test("SFTP where sshd answers with its key", function()
  local keys = dir .. "/keys"
  fs.mkdir(keys)
  local d = sshd.start(keys)
  local _s <close> = async.defer(function() d:stop() end)
  local s <close> = connect()
  local place = dir .. "/sftp"
  fs.mkdir(place .. "/C:/in", { parents = true })
  s:use_sftp(function() return ssh.connect("127.0.0.1", d:args()), place end)
  for _, n in ipairs(SIZES) do
    make(n)
    local before = ep.counts.requests
    round(s, "sftp", "sftp", n)
    t.is(ep.counts.requests, before, "nothing over WinRM")
  end
  t.is(s:upload(here, [[C:\in\again]], { verify = true }).via, "sftp", "auto verifies, too")
  t.raises(function() s:upload(here, [[C:\in\again]], { overwrite = false }) end,
    { kind = "exists" }, "overwrite=false")
  t.raises(function() s:upload(here, [[C:\none\x]]) end, { kind = "notfound" }, "no directory")
  local other = crypto.keypair("ed25519", "x"):public():match("^(%S+ %S+)")
  make(98203)
  s:use_sftp(function() return ssh.connect("127.0.0.1", d:args { host_key = other }), place end)
  t.is(s:upload(here, [[C:\in\other]]).via, "stdin", "another key there: over WinRM")
  s:use_sftp(function() return nil end)
  t.is(s:download([[C:\in\other]], back).via, "psrp", "not ready: over WinRM")
end)

ep.close()
return t.done()
