-- hgauto.ssh against Dropbear: another key exchange, chacha20 and aes-ctr, and an SFTP server
-- without OpenSSH's extensions (tests/servers/evil_sftp.c) as well as with them.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

if not proc.which("dropbear") and not fs.exists("/usr/sbin/dropbear") then
  t.skip("needs dropbear (apt package dropbear-bin)")
end
if proc.run({ "id", "-u" }).out ~= "0\n" or not proc.which("unshare") then
  t.skip("needs root and unshare")
end

local dir = t.tmpdir()
local port = math.random(20000, 60000)

--- In a mount namespace, so that root's home and keys are ours there.
local SCRIPT = [[
set -e
dir=$1 port=$2
PATH=$PATH:/usr/sbin
mkdir -p -m 700 "$dir/home/.ssh"
ssh-keygen -q -t ed25519 -N '' -f "$dir/id"
cp "$dir/id.pub" "$dir/home/.ssh/authorized_keys"
dropbearkey -t ed25519 -f "$dir/host" 2>/dev/null | grep '^ssh-' > "$dir/host.pub"
sed "/^root:/s|:/root:[^:]*$|:$dir/home:/bin/sh|" /etc/passwd > "$dir/passwd"
chmod 644 "$dir/passwd"
exec unshare -m --propagation private sh -c '
	mount --bind "$1/passwd" /etc/passwd
	exec dropbear -F -E -r "$1/host" -p "127.0.0.1:$2" -P "$1/pid"' sh "$dir" "$port"
]]
proc.run { "chmod", "755", dir }
local p = proc.spawn({ "sh", "-c", SCRIPT, "sh", dir, tostring(port) }, { stderr = "null" })
local limit = time.mono() + 10
while not fs.exists(dir .. "/pid") and time.mono() < limit do
  async.sleep(0.05)
end

local data = crypto.random(1024 * 1024):rep(5) .. "tail"
fs.write(dir .. "/src", data)
for _, cipher in ipairs { "chacha20-poly1305@openssh.com", "aes128-ctr", "aes256-ctr" } do
  t.test(cipher, function()
    local s <close> = ssh.connect("127.0.0.1", { user = "root", port = port, ciphers = { cipher },
      keys = { dir .. "/id" }, host_key = fs.read(dir .. "/host.pub"), agent = false })
    t.is(s:info().cipher, cipher, "cipher")
    t.like(s:info().server, "dropbear", "server")
    t.is(s:exec("cat; echo err >&2", { stdin = "in" }).out, "in", "a command")
    t.raises(function() s:exec("exit 3") end, { code = "ExitCode" }, "its code")
    local r = s:put(dir .. "/src", dir .. "/dst", { verify = "sha256" })
    t.is({ r.sha256, crypto.sha256(fs.read(dir .. "/dst")) },
      { crypto.sha256(data), crypto.sha256(data) }, "put")
    s:get(dir .. "/dst", dir .. "/back", { sha256 = r.sha256 })
    t.is(fs.read(dir .. "/back") == data, true, "get")
    fs.mkdir(dir .. "/tree/a", { parents = true })
    for i = 1, 50 do
      fs.write(("%s/tree/a/%d"):format(dir, i), tostring(i))
    end
    t.is(s:put(dir .. "/tree", dir .. "/tree2").files, 50, "a tree")
    t.is(proc.run({ "diff", "-r", "tree", "tree2" }, { cwd = dir }).out, "", "is the same")
    s:remove(dir .. "/tree2", { tree = true })
  end)
end
t.is(proc.run({ "find", dir, "-name", "*.hga-*" }).out, "", "no parts")
p:kill("KILL")
return t.done()
