-- hgauto.ssh: logins of all kinds against real servers; each failure has its own code.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")
local d = sshd.start(dir)

local function keygen(name, ...)
  proc.run { "ssh-keygen", "-q", "-C", name, "-f", dir .. "/" .. name, ... }
  return dir .. "/" .. name
end

local function allow(name)
  fs.append(dir .. "/authorized_keys", fs.read(("%s/%s.pub"):format(dir, name)))
end

local function login(o)
  local c <close> = ssh.connect("127.0.0.1", d:args(o))
  return c:exec("echo in").out
end

t.test("protected keys", function()
  for _, k in ipairs { { "locked_ed", "-t", "ed25519", "-N", "open me" },
    { "locked_rsa", "-t", "rsa", "-N", "open me" },
    { "locked_ec", "-t", "ecdsa", "-N", "open me" },
    { "locked_pem", "-t", "rsa", "-m", "PEM", "-N", "open me" },
    { "locked_p8", "-t", "ecdsa", "-m", "PKCS8", "-N", "open me" },
    { "locked_cbc", "-t", "ed25519", "-N", "open me", "-Z", "aes256-cbc" } } do
    local path = keygen(table.unpack(k))
    allow(k[1])
    t.is(login { keys = { path }, passphrase = "open me" }, "in\n", k[1] .. ": a text")
    t.raises(function() login { keys = { path } } end,
      { kind = "auth", code = "KeyNeedsPassphrase", match = "protected by a passphrase" }, "none")
    t.raises(function() login { keys = { path }, passphrase = "wrong" } end,
      { kind = "auth", code = "KeyPassphrase", match = "does not open" }, "a wrong one")
  end
  local asked = {}
  t.is(login { keys = { dir .. "/locked_ed" }, passphrase = function(path, attempt)
    asked[#asked + 1] = path:match("[^/]+$") .. attempt
    async.sleep(0.05)
    return attempt == 2 and crypto.secret("open me") or "no"
  end }, "in\n", "a function, a secret")
  t.is(asked, { "locked_ed1", "locked_ed2" }, "it was asked twice")
  t.raises(function() login { keys = { dir .. "/locked_ed" }, passphrase = function() end } end,
    { code = "KeyNeedsPassphrase" }, "no answer")
  asked = 0
  t.raises(function() login { keys = { dir .. "/locked_ed" }, passphrase = function()
    asked = asked + 1
    return "no"
  end } end, { code = "KeyPassphrase" }, "wrong answers")
  t.is(asked, 3, "three tries")
  asked = 0
  t.is(login { keys = { dir .. "/id_rsa", dir .. "/locked_ed" }, passphrase = function()
    asked = asked + 1
  end }, "in\n", "another key works")
  t.is(asked, 0, "then nothing is asked")
  fs.remove(dir .. "/locked_pem.pub")
  t.is(login { keys = { dir .. "/locked_pem" }, passphrase = "open me" }, "in\n", "no public half")
  keygen("locked_cc", "-t", "ed25519", "-N", "x", "-Z", "chacha20-poly1305@openssh.com")
  allow "locked_cc"
  local function wait(o)
    o.for_seconds = 20
    ssh.wait_ready("127.0.0.1", d:args(o))
  end
  for _, connect in ipairs { login, wait } do
    for _, passphrase in ipairs { "x", false } do
      t.raises(function()
        connect { keys = { dir .. "/locked_cc" }, passphrase = passphrase or nil }
      end, { kind = "auth", code = "KeyUnsupported", match = "chacha20" }, "a cipher we cannot")
    end
  end
end)

t.test("time while a question is open does not count", function()
  t.is(login { keys = { dir .. "/locked_ed" }, timeout = { login = 6, total = 8 },
    passphrase = function()
      async.sleep(9)
      return "open me"
    end }, "in\n", "a slow answer")
  local t0 = time.mono()
  t.raises(function()
    async.timeout(1, login, { keys = { dir .. "/locked_ed" }, passphrase = function()
      async.sleep(60)
    end })
  end, { kind = "timeout" }, "it can be cancelled")
  t.ok(time.mono() - t0 < 5, "at once")
end)

t.test("key files", function()
  t.raises(function() login { keys = { dir .. "/none" } } end, { code = "KeyNotFound" }, "missing")
  fs.copy(dir .. "/id_rsa", dir .. "/open")
  fs.chmod(dir .. "/open", 420)
  t.raises(function() login { keys = { dir .. "/open" } } end, { code = "KeyMode" }, "open modes")
  fs.write(dir .. "/text", "hello\n", { mode = 384 })
  t.raises(function() login { keys = { dir .. "/text" } } end, { code = "KeyFormat" }, "a text")
  fs.write(dir .. "/putty", "PuTTY-User-Key-File-3: ssh-rsa\n", { mode = 384 })
  t.raises(function() login { keys = { dir .. "/putty" } } end, { code = "KeyUnsupported" },
    "PuTTY")
  t.raises(function() login { agent = dir .. "/nowhere", keys = { dir .. "/id_rsa.pub" } } end,
    { code = "AgentUnavailable" }, "no agent")
end)

t.test("certificates", function()
  keygen("ca", "-t", "ed25519", "-N", "")
  local c = sshd.start(dir, { "TrustedUserCAKeys " .. dir .. "/ca.pub" })
  local keys = fs.read(dir .. "/authorized_keys")
  fs.write(dir .. "/authorized_keys", "")
  for _, kind in ipairs { "ed25519", "ecdsa", "rsa" } do
    local path = keygen("user_" .. kind, "-t", kind, "-N", "")
    proc.run { "ssh-keygen", "-q", "-s", dir .. "/ca", "-I", "id", "-n", "root", path .. ".pub" }
    local o = c:args { keys = { path }, certificate = path .. "-cert.pub" }
    local ok, s = pcall(ssh.connect, "127.0.0.1", o)
    t.ok(ok, kind .. ": " .. tostring(s))
    if ok then
      t.is(s:exec("echo in").out, "in\n", kind)
      s:close()
    end
    o.certificate = nil
    t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "AuthRejected" }, "without it")
    o.certificate = path .. ".pub"
    t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "KeyFormat" }, "no certificate")
  end
  fs.write(dir .. "/authorized_keys", keys, { mode = 420 })
  c:stop()
end)

t.test("the agent", function()
  local sock = dir .. "/agent"
  local _p <close> = proc.spawn { "ssh-agent", "-D", "-a", sock }
  t.ok(t.eventually(function() return fs.exists(sock) end), "it runs")
  local env = { SSH_AUTH_SOCK = sock }
  for i = 1, 7 do
    keygen("many" .. i, "-t", "ed25519", "-N", "")
    proc.run({ "ssh-add", "-q", dir .. "/many" .. i }, { env = env })
  end
  local before = #d:log()
  local e = t.raises(function() ssh.connect("127.0.0.1", d:args { agent = sock,
    identities_only = false, keys = {} }) end, { code = "AuthRejected" }, "seven foreign keys")
  local _, tried = e.tried:gsub("publickey", "")
  t.is(tried, 5, "five of them are tried")
  t.is(select(2, d:log():sub(before):gsub("userauth%-request for user root service %S+ "
    .. "method publickey", "")), 5, "the server saw five")
  t.is(login { agent = sock, identities_only = false, keys = { dir .. "/id_ecdsa" } }, "in\n",
    "a configured key comes first")
  allow "many7"
  t.is(login { agent = sock, keys = { dir .. "/many7.pub" } }, "in\n", "the public half names one")
  e = t.raises(function() login { agent = sock, keys = { dir .. "/many1.pub" } } end,
    { code = "AuthRejected" }, "only that one is tried")
  t.is(select(2, e.tried:gsub("publickey", "")), 1, "identities_only")
  proc.run({ "ssh-add", "-q", "-D" }, { env = env })
  local add = dir .. "/askpass"
  fs.write(add, "#!/bin/sh\necho open me\n", { mode = 448 })
  proc.run({ "ssh-add", "-q", dir .. "/locked_ed" }, { env = { SSH_AUTH_SOCK = sock,
    SSH_ASKPASS = add, SSH_ASKPASS_REQUIRE = "force", DISPLAY = "x" } })
  local asked = 0
  t.is(login { agent = sock, keys = { dir .. "/locked_ed" }, passphrase = function()
    asked = asked + 1
  end }, "in\n", "a protected key that the agent has")
  t.is(asked, 0, "is not asked for")
end)

t.test("passwords", function()
  if not proc.which("openssl") or not proc.which("chpasswd") then
    t.skip("needs openssl and chpasswd (passwd)")
  end
  local hash = proc.run({ "openssl", "passwd", "-6", "-stdin" }, { stdin = "secret word\n" }).out
  local p = sshd.start(dir, { "PasswordAuthentication yes", "PubkeyAuthentication no" },
    nil, { HGA_TEST_HASH = hash:gsub("%s", "") })
  local o = p:args { user = "hgtest", keys = {}, password = "secret word" }
  local s <close> = ssh.connect("127.0.0.1", o)
  t.is(s:exec("id -un").out, "hgtest\n", "a password")
  o.password = crypto.secret("secret word")
  ssh.connect("127.0.0.1", o):close()
  o.password = "wrong"
  local e = t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "AuthRejected" }, "wrong")
  t.is(e.tried, "password", "what was tried")
  t.ok(not tostring(e):find("wrong", 1, true), "it is not in the message")
  o.password = nil
  e = t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "AuthRejected" }, "none")
  t.is(e.tried, nil, "nothing was tried")
  p:stop()
end)

t.test("prompts", function()
  if not fs.exists("/etc/pam.d") then
    t.skip("needs PAM")
  end
  local hash = proc.run({ "openssl", "passwd", "-6", "-stdin" }, { stdin = "secret word\n" }).out
  local p = sshd.start(dir, { "UsePAM yes", "KbdInteractiveAuthentication yes",
    "PubkeyAuthentication yes", "PasswordAuthentication no",
    "AuthenticationMethods keyboard-interactive publickey,keyboard-interactive" }, nil,
    { HGA_TEST_HASH = hash:gsub("%s", "") })
  local seen
  local o = p:args { user = "hgtest", keys = {}, prompt = function(q)
    seen = q
    async.sleep(0.2)
    return { "secret word" }
  end }
  local s = ssh.connect("127.0.0.1", o)
  t.is(s:exec("id -un").out, "hgtest\n", "an answer that took its time")
  s:close()
  t.is({ seen.what, #seen.prompts, seen.prompts[1].echo }, { "prompts", 1, false }, "the question")
  t.like(seen.prompts[1].text, "[Pp]assword", "its text")
  o.prompt, o.password = nil, "secret word"
  s = ssh.connect("127.0.0.1", o)
  t.is(s:exec("id -un").out, "hgtest\n", "a password answers the only hidden prompt")
  s:close()
  o.prompt, o.password = function() end, nil
  t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "AuthRejected" }, "no answer")
  o.prompt = function() error("stop here", 0) end
  t.raises(function() ssh.connect("127.0.0.1", o) end, { match = "stop here" }, "an error in it")
  p:stop()
end)

t.is(host.getenv("SSH_AUTH_SOCK"), nil, "no agent of the machine was near")
d:stop()
return t.done()
