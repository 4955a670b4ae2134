-- known_hosts against OpenSSH: for each file the verdict of `ssh -o StrictHostKeyChecking=yes`.
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

if not proc.which("ssh") or not proc.which("ssh-keygen") then
  t.skip("needs ssh and ssh-keygen (openssh-client)")
end
local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local file = dir .. "/known"
ssh.use_state(dir .. "/state")

local function key(name)
  return (fs.read(("%s/%s.pub"):format(dir, name)):match("^(%S+ %S+)"))
end
local ED, EC, RSA, OTHER = key "host_ed25519", key "host_ecdsa", key "host_rsa", key "other"
proc.run { "ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", dir .. "/rsa2" }
local RSA2 = key "rsa2"
local A = "web.example.org" -- HostKeyAlias unless a case says otherwise
local HERE = ("[127.0.0.1]:%d"):format(d.port)

local function hashed(name, text)
  local f = dir .. "/hash"
  fs.write(f, name .. " " .. text .. "\n")
  proc.run { "ssh-keygen", "-q", "-H", "-f", f }
  return (fs.read(f):gsub("%s+$", ""))
end

local function theirs(host, alias)
  local argv = { "ssh", "-F", "none", "-p", tostring(d.port), "-i", dir .. "/id_ed25519",
    "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
    "-o", "UserKnownHostsFile=" .. file, "-o", "GlobalKnownHostsFile=/dev/null",
    "-o", "CheckHostIP=no", "root@" .. host, "true" }
  if alias then
    table.insert(argv, 2, "-oHostKeyAlias=" .. alias)
  end
  local r = proc.run(argv, { check = false, env = { SSH_AUTH_SOCK = false } })
  if r.ok then
    return "trusted"
  end
  return r.err:find("REVOKED HOST KEY", 1, true) and "revoked"
    or r.err:find("IDENTIFICATION HAS CHANGED", 1, true) and "changed"
    or r.err:find("host key is known", 1, true) and "unknown" or r.err
end

local CODES = { HostKeyRevoked = "revoked", HostKeyChanged = "changed", HostKeyUnknown = "unknown" }

local function ours(host, alias)
  local o = d:args { known_hosts = file, host_key_alias = alias }
  o.host_key = nil
  local ok, r = pcall(ssh.connect, host, o)
  if ok then
    r:close()
    return "trusted"
  end
  return CODES[r.code] or tostring(r), r
end

local CASES = {
  { "an empty file", "" },
  { "the key", A .. " " .. ED },
  { "another key of the type", A .. " " .. OTHER },
  { "the key of another type", A .. " " .. RSA },
  { "both, right and wrong", A .. " " .. OTHER .. "\n" .. A .. " " .. ED },
  { "another type with a wrong key", A .. " " .. RSA2 },
  { "all types", A .. " " .. RSA .. "\n" .. A .. " " .. EC .. "\n" .. A .. " " .. ED },
  { "upper case", "WEB.Example.ORG " .. ED },
  { "a list", "a,b," .. A .. ",c " .. ED },
  { "a star", "*.example.org " .. ED },
  { "a question mark", "we?.example.org " .. ED },
  { "a star that does not fit", "*.example.com " .. ED },
  { "a negation first", "!web.example.org,*.example.org " .. ED },
  { "a negation last", "*.example.org,!web.* " .. ED },
  { "a negation of another", "*.example.org,!db.* " .. ED },
  { "only a negation", "!db.example.org " .. ED },
  { "a negated wrong key and a right one", "*,!web.example.org " .. OTHER .. "\n* " .. ED },
  { "hashed", hashed(A, ED) },
  { "hashed, another key", hashed(A, OTHER) },
  { "hashed, another host", hashed("db.example.org", ED) },
  { "a damaged hash", hashed(A, ED):gsub("^|1|....", "|1|AAAA") .. "" },
  { "a hash of another kind", (hashed(A, ED):gsub("^|1|", "|2|")) },
  { "CRLF", A .. " " .. ED .. "\r\n" },
  { "CRLF and another host", "x " .. OTHER .. "\r\n\r\n" .. A .. " " .. ED .. "\r\n" },
  { "comments and blanks", "# x\n\n   \n\t" .. A .. "\t " .. ED .. "   a comment\n#" },
  { "no newline at the end", "x " .. OTHER .. "\n" .. A .. " " .. ED },
  { "an RSA1 line", A .. " 1024 35 1234567890123456789\n" .. A .. " " .. ED },
  { "only an RSA1 line", A .. " 1024 35 1234567890123456789" },
  { "garbage", "garbage\n" .. A .. "\n" .. A .. " ssh-ed25519\n" .. A .. " " .. ED },
  { "damaged base64", A .. " ssh-ed25519 AAAA*BBB\n" .. A .. " " .. ED },
  { "a type that differs from the key's", A .. " ssh-rsa " .. ED:match("%S+$") },
  { "an unknown type", A .. " ssh-foo " .. ED:match("%S+$") },
  { "revoked", "@revoked " .. A .. " " .. ED .. "\n" .. A .. " " .. ED },
  { "revoked below", A .. " " .. ED .. "\n@revoked * " .. ED },
  { "another key revoked", "@revoked * " .. OTHER .. "\n" .. A .. " " .. ED },
  { "revoked for another host", "@revoked db.* " .. ED .. "\n" .. A .. " " .. ED },
  { "an unknown marker", "@trusted " .. A .. " " .. ED },
  { "an unknown marker beside a line", "@x " .. A .. " " .. OTHER .. "\n" .. A .. " " .. ED },
  { "a certificate authority", "@cert-authority " .. A .. " " .. OTHER .. "\n" .. A .. " " .. ED },
  { "only a certificate authority", "@cert-authority * " .. ED },
  { "host and port", HERE .. " " .. ED, "127.0.0.1" },
  { "host and port, another key", HERE .. " " .. OTHER, "127.0.0.1" },
  { "another port", "[127.0.0.1]:22 " .. ED .. "\n[127.0.0.1]:1 " .. ED, "127.0.0.1" },
  { "the plain name on another port", "127.0.0.1 " .. ED, "127.0.0.1" },
  { "the plain name, another key", "127.0.0.1 " .. OTHER, "127.0.0.1" },
  { "the plain name revoked", "@revoked 127.0.0.1 " .. ED, "127.0.0.1" },
  { "both names", "127.0.0.1 " .. ED .. "\n" .. HERE .. " " .. OTHER, "127.0.0.1" },
  { "a wildcard port", "[127.0.0.1]:* " .. ED, "127.0.0.1" },
  { "hashed with port", hashed(HERE, ED), "127.0.0.1" },
  { "a name", ("[localhost]:%d "):format(d.port) .. ED, "LOCALHOST" },
}

t.test("verdicts", function()
  local refused = 0
  for _, c in ipairs(CASES) do
    fs.write(file, c[2])
    local before = { fs.stat(file), fs.sha256(file) }
    local host, alias = c[3] or "127.0.0.1", not c[3] and A or nil
    local log = #d:log()
    local mine, e = ours(host, alias)
    if mine ~= "trusted" then
      refused = refused + 1
      t.ok(not d:log():sub(log):find("userauth-request", 1, true) and type(e) == "table",
        c[1] .. ": nothing was sent")
    end
    t.is(mine, theirs(host, alias), c[1] .. ": " .. mine)
    local after = { fs.stat(file), fs.sha256(file) }
    for _, s in ipairs { before[1], after[1] } do
      s.atime = nil
    end
    t.is(after, before, c[1] .. ": the file is as it was")
  end
  t.ok(refused > 10 and refused < #CASES - 10, "both kinds of verdict")
end)

t.test("details of a refusal", function()
  fs.write(file, "# one\n" .. A .. " " .. OTHER .. "\n")
  local o = d:args { known_hosts = file, host_key_alias = A }
  o.host_key = nil
  local e = t.raises(function() ssh.connect("127.0.0.1", o) end,
    { kind = "auth", code = "HostKeyChanged", match = "known:2%); nothing was sent$" }, "changed")
  t.is({ e.file, e.line, e.expected, e.fingerprint, e.phase },
    { file, 2, (ssh.fingerprint(OTHER)), (ssh.fingerprint(ED)), "hostkey" }, "fields")
  fs.write(file, "@cert-authority * " .. OTHER .. "\n")
  e = t.raises(function() ssh.connect("127.0.0.1", o) end,
    { code = "HostKeyUnknown", match = "host key is not known %(ED25519 SHA256:" }, "unknown")
  t.is(e.hint, "only a certificate authority is known", "hint")
  fs.write(file, "")
  e = t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "HostKeyUnknown" }, "unknown")
  t.is(e.hint, "compare the fingerprint, then accept_new=true", "hint")
end)

t.test("accepting a new key", function()
  local mine = dir .. "/state/known_hosts"
  local o = d:args { known_hosts = file, accept_new = true }
  o.host_key = nil
  fs.write(file, "")
  local s = ssh.connect("127.0.0.1", o)
  t.is({ s:info().trust, fs.read(file), fs.stat(mine).mode }, { "new", "", 384 },
    "it goes into our file only")
  t.is(fs.read(mine), HERE .. " " .. ED .. "\n", "its line")
  s:close()
  o.accept_new = nil
  s = ssh.connect("127.0.0.1", o)
  local i = s:info()
  t.is({ i.trust, i.file, i.line }, { "known_hosts", mine, 1 }, "from now on it is known")
  s:close()
  fs.write(file, HERE .. " " .. OTHER .. "\n")
  o.accept_new = true
  t.is(ours("127.0.0.1"), "trusted", "our line for the host counts beside a user's")
  fs.write(file, "@revoked * " .. ED .. "\n")
  t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "HostKeyRevoked" }, "not revoked")
  fs.remove(mine)
  fs.write(file, HERE .. " " .. OTHER .. "\n")
  t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "HostKeyChanged" }, "not changed")
  t.ok(not fs.exists(mine), "and nothing was written")
  t.raises(function() ssh.connect("127.0.0.1", d:args { accept_new = true }) end,
    { kind = "usage" }, "a pin is not new")
end)

t.test("reading and writing files", function()
  fs.write(file, "a,b " .. ED .. "\ngarbage\n@revoked [c]:2222 " .. RSA .. "\n"
    .. hashed("d", EC) .. "\n")
  local k = ssh.known_hosts(file)
  t.is(k:find("B"), { { names = "a,b", type = "ssh-ed25519", line = 1,
    fingerprint = (ssh.fingerprint(ED)) } }, "find")
  t.is({ #k:find("c"), k:find("c", 2222)[1].marker, #k:find("d"), k:unreadable() },
    { 0, "@revoked", 1, 1 }, "ports, markers, hashes, garbage")
  t.raises(function() k:add("x", 22, ED) end, { kind = "usage", match = "state directory" },
    "a user's file is not written")
  local own = ssh.known_hosts(dir .. "/state/known_hosts")
  own:add("x", 22, ED)
  own:add("y", 2200, key "host_rsa")
  t.is({ #own:find("x"), #own:find("y", 2200), #own:find("y") }, { 1, 1, 0 }, "add")
  t.is({ own:remove("x"), own:remove("x"), #own:find("y", 2200) }, { 1, 0, 1 }, "remove")
  t.raises(function() own:add("a b", 22, ED) end, { kind = "usage" }, "no name")
  fs.write(file, ("x"):rep(17 * 1024 * 1024))
  t.raises(function() ssh.known_hosts(file):find("x") end, { code = "TooLarge" }, "a huge file")
  t.is(crypto.hex(crypto.random(1)):len(), 2, "alive")
end)

d:stop()
return t.done()
