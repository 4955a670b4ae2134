-- hgauto.ssh against Dropbear: another server's idea of SSH.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

if not proc.which("dropbear") or not proc.which("dropbearkey") or not proc.which("unshare")
  or proc.run({ "id", "-u" }).out ~= "0\n" then
  t.skip("needs root, unshare and dropbear (dropbear-bin)")
end
local dir = t.tmpdir()
local key = dir .. "/id"
proc.run { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key }
proc.run { "ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", dir .. "/id_rsa" }
local pins = {}
for _, kind in ipairs { "ed25519", "ecdsa", "rsa" } do
  local r = proc.run { "dropbearkey", "-t", kind, "-f", dir .. "/host_" .. kind }
  pins[#pins + 1] = r.out:match("\n(%S+ %S+)[^\n]*\n")
end
fs.mkdir(dir .. "/home/.ssh", { parents = true, mode = 448 })
fs.write(dir .. "/home/.ssh/authorized_keys",
  fs.read(key .. ".pub") .. fs.read(dir .. "/id_rsa.pub"), { mode = 384 })
fs.write(dir .. "/passwd", "root:x:0:0::" .. dir .. "/home:/bin/sh\n")
fs.chmod(dir .. "/passwd", 420)

-- /etc/passwd with this home is the server's alone.
local port = math.random(20000, 60000)
local server = proc.spawn { "unshare", "-m", "--propagation", "private", "sh", "-c", [[
  mount --bind "$1/passwd" /etc/passwd
  exec dropbear -F -E -s -p 127.0.0.1:$2 -P "$1/pid" -r "$1/host_ed25519" -r "$1/host_ecdsa" \
    -r "$1/host_rsa"]], "sh", dir, tostring(port) }

local function args(more)
  local a = { user = "root", port = port, label = "db", keys = { key }, host_key = pins }
  for k, v in pairs(more or {}) do
    a[k] = v
  end
  return a
end

local s = ssh.wait_ready("127.0.0.1", args { for_seconds = 20, delay = 0.1 })

t.test("logins", function()
  t.like(s:info().server, "dropbear", "it is Dropbear")
  for i, kind in ipairs { "ed25519", "ecdsa", "rsa" } do
    local c <close> = ssh.connect("127.0.0.1", args { host_key = pins[i], keys = {
      dir .. "/id_rsa" } })
    t.is(c:exec("echo in").out, "in\n", "host key " .. kind .. ", an RSA key")
  end
  t.raises(function() ssh.connect("127.0.0.1", args { host_key = fs.read(key .. ".pub") }) end,
    { code = "HostKeyChanged" }, "a wrong pin")
  t.raises(function() ssh.connect("127.0.0.1", args { user = "nobody-x" }) end,
    { kind = "auth" }, "a wrong user")
end)

t.test("commands", function()
  local data = crypto.random(300000)
  for _, cipher in ipairs { "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr" } do
    local ok, c = pcall(ssh.connect, "127.0.0.1", args { ciphers = { cipher } })
    if ok then
      t.ok(c:exec("cat", { stdin = data }).out == data, cipher .. ": data both ways")
      c:close()
    else
      t.is(c.code, "KexNoMatch", cipher .. " is not offered")
    end
  end
  local r = s:exec("echo a; echo b >&2; exit 7", { check = false })
  t.is({ r.code, r.out, r.err }, { 7, "a\n", "b\n" }, "streams and code")
  r = s:exec("kill -9 $$", { check = false })
  t.is({ r.ok, r.code }, { false, nil }, "a signal is never ok")
  t.like(s:exec("stty size", { pty = { cols = 99, rows = 33 } }).out, "^33 99", "a terminal")
  t.ok(s:ping() < 5, "probes are answered")
end)

t.test("forwarding", function()
  local f = s:forward { to = "127.0.0.1:" .. port }
  local c <close> = ssh.connect("127.0.0.1", args { port = f.port })
  t.is(c:exec("echo through").out, "through\n", "a session through a forward")
  local j <close> = ssh.connect("127.0.0.1", args { jump = s })
  t.is(j:exec("echo jumped").out, "jumped\n", "a jump")
  local r = s:forward_remote { to = "127.0.0.1:" .. port }
  local k <close> = ssh.connect("127.0.0.1", args { port = r.port })
  t.is(k:exec("echo back").out, "back\n", "from the server")
end)

t.test("files", function()
  if not fs.exists("/usr/lib/sftp-server") and not fs.exists("/usr/libexec/sftp-server")
    and not fs.exists("/usr/lib/openssh/sftp-server") then
    t.skip("needs sftp-server (openssh-sftp-server)")
  end
  local ok, e = pcall(s.write, s, dir .. "/file", "text\n")
  if not ok and e.code == "RequestDenied" then
    t.skip("this Dropbear knows no sftp-server")
  end
  t.ok(ok, tostring(e))
  t.is(s:read(dir .. "/file"), "text\n", "write and read")
end)

s:close()
server:kill("KILL")
return t.done()
