-- hgauto.ssh against OpenSSH: the same results as `ssh` and `sftp`, byte for byte.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

if not proc.which("ssh") or not proc.which("sftp") then
  t.skip("needs ssh and sftp (openssh-client)")
end
local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local s = ssh.connect("127.0.0.1", d:args())
local conf = s:openssh_config(dir .. "/conf")

local function theirs(cmd, stdin)
  local r = proc.run({ "ssh", "-F", conf, "host", cmd }, { check = false, stdin = stdin,
    max_output = 1 << 24 })
  return { r.code, r.out, r.err }
end

local function ours(cmd, stdin)
  local r = s:exec(cmd, { raw = true, check = false, stdin = stdin, max_output = 1 << 24 })
  return { r.code, r.out, r.err }
end

t.test("commands", function()
  local binary = crypto.random(200000)
  for _, c in ipairs {
    { "true" }, { "exit 7" }, { "echo a; echo b >&2; exit 255" }, { "printf 'no newline'" },
    { "cat", binary }, { "cat >&2", binary }, { "sha256sum", binary }, { "seq 1 100000" },
    { "echo \"$0 $HOME $PATH\"" }, { "nosuchcommand" }, { "cat", "" }, { "head -c 10", binary },
  } do
    t.is(crypto.sha256(table.concat(ours(c[1], c[2]), "\0")),
      crypto.sha256(table.concat(theirs(c[1], c[2]), "\0")), "as ssh: " .. c[1])
  end
end)

t.test("words", function()
  local words = { "printf", "%s\\n", "a b", "'", '"', "$x", "`id`", "\\", "*", "-n", "ä", "a\nb",
    "#", "~", "!", "{1,2}", ";", "&", "|", "<", ">", "(", "" }
  local local_out = proc.run(words).out
  t.is(s:exec(words).out, local_out, "arguments arrive as they are")
end)

t.test("host keys and logins of all types", function()
  for _, host in ipairs { "ed25519", "ecdsa", "rsa" } do
    for _, key in ipairs { "ed25519", "ecdsa", "rsa" } do
      local c <close> = ssh.connect("127.0.0.1", d:args {
        host_key = fs.read(("%s/host_%s.pub"):format(dir, host)), keys = { dir .. "/id_" .. key },
      })
      t.is(c:exec("echo in").out, "in\n", ("host key %s, key %s"):format(host, key))
      t.is(c:info().fingerprint, (ssh.fingerprint(("%s/host_%s.pub"):format(dir, host))),
        "fingerprint as in the file")
    end
  end
end)

t.test("ciphers", function()
  local data = crypto.random(300000)
  for _, c in ipairs { "aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr" } do
    local x <close> = ssh.connect("127.0.0.1", d:args { ciphers = { c } })
    t.is(x:info().cipher, c, "agreed")
    t.ok(x:exec("cat", { stdin = data }).out == data, c .. " both ways")
  end
end)

t.test("files", function()
  for _, n in ipairs { 0, 1, 32768, 1000003 } do
    fs.write(dir .. "/f", crypto.random(n > 0 and math.min(n, 60000) or 1):rep(20):sub(1, n))
    s:put(dir .. "/f", dir .. "/ours")
    fs.write(dir .. "/batch", ("put %s/f %s/theirs\nget %s/ours %s/back\n"):format(dir, dir, dir,
      dir))
    proc.run { "sftp", "-q", "-F", conf, "-b", dir .. "/batch", "host" }
    s:get(dir .. "/theirs", dir .. "/ours_back")
    for _, name in ipairs { "ours", "theirs", "back", "ours_back" } do
      t.is(fs.sha256(dir .. "/" .. name), fs.sha256(dir .. "/f"), name .. " of " .. n)
    end
  end
end)

t.test("trees", function()
  proc.run({ "sh", "-ec", [[mkdir -p t/a/b t/c; head -c 2000000 /dev/urandom > t/big
    for i in $(seq 50); do echo $i > t/a/f$i; done; printf x > "t/c/a b'c"; : > t/a/b/empty
    chmod 755 t/a/f1; chmod 700 t/c]] }, { cwd = dir })
  s:put(dir .. "/t", dir .. "/t_ours")
  fs.mkdir(dir .. "/t_theirs")
  fs.write(dir .. "/batch", ("put -rp %s/t/* %s/t_theirs\n"):format(dir, dir))
  proc.run { "sftp", "-q", "-F", conf, "-b", dir .. "/batch", "host" }
  t.is(proc.run({ "diff", "-r", dir .. "/t_ours", dir .. "/t_theirs" }, { check = false }).out, "",
    "as sftp put -r")
  local list = "cd %s && find . -mindepth 1 -printf '%%p %%m %%y\\n' | sort"
  t.is(s:exec(list:format(dir .. "/t_ours")).out, s:exec(list:format(dir .. "/t")).out,
    "names, modes, types")
end)

t.test("the agent", function()
  if not proc.which("ssh-agent") then
    t.skip("needs ssh-agent (openssh-client)")
  end
  local sock = dir .. "/agent"
  local _p <close> = proc.spawn { "ssh-agent", "-D", "-a", sock }
  require("hg").wait { what = "the agent", timeout = 10, every = 0.05, poll = function()
    return fs.exists(sock)
  end }
  for _, key in ipairs { "rsa", "ecdsa", "ed25519" } do
    proc.run({ "ssh-add", "-q", dir .. "/id_" .. key }, { env = { SSH_AUTH_SOCK = sock } })
    local a = d:args { agent = sock }
    a.keys = nil
    local c <close> = ssh.connect("127.0.0.1", a)
    t.is(c:exec("echo in").out, "in\n", key)
    proc.run({ "ssh-add", "-q", "-D" }, { env = { SSH_AUTH_SOCK = sock } })
  end
end)

s:close()
d:stop()
return t.done()
