-- hgauto.ssh_config: whatever a configuration file holds, reading it ends at once with the values
-- or with an error of ours that names the file; never with a failure inside the program.
-- HGAUTO_RANDOM: a seed (printed); HGAUTO_SECONDS: how long (5).
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local sc = require "hgauto.ssh_config"
local log = require "hgauto.log"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local file = dir .. "/config"
local seed = math.tointeger(tonumber(host.getenv("HGAUTO_RANDOM") or os.time()))
local seconds = tonumber(host.getenv("HGAUTO_SECONDS") or 5)
math.randomseed(seed)
log.level("error") -- unknown words are warnings

local KEYS = { "Host", "Match", "Include", "HostName", "User", "Port", "IdentityFile",
  "IdentitiesOnly", "IdentityAgent", "CertificateFile", "UserKnownHostsFile",
  "GlobalKnownHostsFile", "HostKeyAlias", "StrictHostKeyChecking", "ProxyJump", "ProxyCommand",
  "ConnectTimeout", "ServerAliveInterval", "ServerAliveCountMax", "AddressFamily", "BindAddress",
  "Ciphers", "KexAlgorithms", "MACs", "HostKeyAlgorithms", "RekeyLimit", "SendEnv", "SetEnv",
  "IgnoreUnknown", "Tunnel", "Nonsense" }
local WORDS = { "*", "?", "!", "a", "!a", "*.example", "%h", "%%", "%", "%q", "${HOME}", "${", "$",
  "~", "~/x", "~root/x", "none", "yes", "no", "ask", "any", "inet6", "0", "22", "65536", "-1",
  "99999999999999999999", "1h30m", "1w", "10x", "host", "originalhost", "user", "localuser", "all",
  "final", "canonical", "exec", "negate", "u@h:22,v@i", "[::1]:22", "h:", "@", ",", "+aes256-ctr",
  "-aes*", "^x", "A=b", "A", "=b", "\"", "\"a b\"", "\"a", "'", "\\", "\\\"", "=", "#", "\t", "\r",
  "\0", "\255\254", ("x"):rep(5000), "*" .. ("a*"):rep(30), dir .. "/config", dir .. "/*",
  dir .. "/none" }
-- Mostly right, so that files are read to their end.
local RIGHT = {
  "Host *", "Host a !b", "Host \"a\" b.*", "Match all", "Match host a,b*", "Match user x final",
  "Match originalhost a", "HostName %h.example", "HostName a", "User u", "Port 22", "Port=2222",
  "IdentityFile ~/.ssh/%r@%h:%p", "IdentityFile none", "IdentitiesOnly yes", "IdentityAgent none",
  "CertificateFile ${HOME}/c", "UserKnownHostsFile ~/a ~/b", "HostKeyAlias x",
  "StrictHostKeyChecking ask", "ProxyJump u@h:22,v@[::1]:23", "ProxyJump none",
  "ProxyCommand ssh -W %h:%p 'b a'", "ConnectTimeout 1h", "ServerAliveInterval 5m",
  "AddressFamily inet", "Ciphers ^aes*", "Ciphers +aes128-ctr", "RekeyLimit 1G",
  "SendEnv LANG LC_*", "SetEnv A=b C=\"d e\"",
  "IgnoreUnknown Non*", "# comment", "", "\tCompression yes",
}
local BETWEEN = { " ", "=", " = ", "\t", "  " }

local function pick(list)
  return list[math.random(#list)]
end

local function line()
  if math.random(5) > 1 then
    return pick(RIGHT)
  end
  local out = { pick(KEYS), pick(BETWEEN) }
  for _ = 1, math.random(0, 4) do
    out[#out + 1] = pick(WORDS)
    out[#out + 1] = pick(BETWEEN)
  end
  return table.concat(out)
end

local function text()
  local out = {}
  for i = 1, math.random(12) do
    out[i] = line()
  end
  local s = table.concat(out, math.random(9) == 1 and "\r\n" or "\n")
  -- Some bytes of it are something else.
  for _ = 1, s ~= "" and math.random(4) == 1 and math.random(3) or 0 do
    local at = math.random(#s)
    s = s:sub(1, at - 1) .. string.char(math.random(0, 255)) .. s:sub(at + math.random(0, 2))
  end
  return s
end

local n, values, errors, slowest = 0, 0, 0, 0
local limit = time.mono() + seconds
while time.mono() < limit do
  local s = text()
  fs.write(file, s, { mode = 384 })
  local t0 = time.mono()
  local ok, r = pcall(function()
    local c = sc.effective(pick { "a", "b.example", "::1", "x" }, file)
    local tokens = sc.tokens("a", c)
    for _, key in ipairs { "identityfile", "certificatefile" } do
      for _, path in ipairs(type(c[key]) == "table" and c[key] or {}) do
        pcall(sc.expand, path, tokens)
      end
    end
    return c
  end)
  slowest = math.max(slowest, time.mono() - t0)
  n = n + 1
  values, errors = values + (ok and 1 or 0), errors + (ok and 0 or 1)
  local ours = ok and type(r) == "table" or type(r) == "table" and r.kind ~= nil
    and r.kind ~= "runtime" and r.kind ~= "bug"
  if not ours then
    t.ok(false, ("seed %d, file %d: %s"):format(seed, n, tostring(r)))
    print("# " .. ("%q"):format(s):gsub("\n", "\n# "))
    break
  end
end
print(("# seed %d: %d files, %d read, %d refused, %.3f s at most"):format(seed, n, values, errors,
  slowest))
t.ok(n > 20 and values > 0 and errors > 0, "files are read and refused")
t.ok(slowest < 2, "none takes long")
return t.done()
