-- ssh_config against OpenSSH: what `ssh -G` says is what ssh.effective says.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local sc = require "hgauto.ssh_config"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

-- ssh knows the home directory from the password file alone.
host.setenv("HOME", proc.run({ "sh", "-c",
  "getent passwd $(id -u) | cut -d : -f 6" }).out:match("[^\n]+"))

if not proc.which("ssh") then
  t.skip("needs ssh (openssh-client)")
end
local dir = t.tmpdir()
local file = dir .. "/config"
host.setenv("USER", proc.run({ "id", "-un" }).out:match("%S+"))
fs.write(dir .. "/inc1", "User included\nHost b\n  Port 77\n")
fs.write(dir .. "/inc2", "Host *\n  Port 78\n  IdentityFile ~/two\n")
fs.write(dir .. "/loop", ("Include %s/loop\n"):format(dir))

local LISTS = { identityfile = true, certificatefile = true, sendenv = true, setenv = true }
local KEYS = { "hostname", "user", "port", "addressfamily", "bindaddress", "identitiesonly",
  "stricthostkeychecking", "serveralivecountmax", "serveraliveinterval", "connecttimeout",
  "identityagent", "hostkeyalias", "proxyjump", "proxycommand", "identityfile", "certificatefile",
  "userknownhostsfile", "globalknownhostsfile", "sendenv", "setenv" }

local function theirs(name)
  local r = proc.run({ "ssh", "-G", "-F", file, name }, { check = false })
  if not r.ok then
    return nil, r.err
  end
  local o = { certificatefile = {}, sendenv = {}, setenv = {} }
  for key, value in r.out:gmatch("(%S+) ([^\n]*)\n") do
    if LISTS[key] then
      o[key] = o[key] or {}
      table.insert(o[key], value)
    else
      o[key] = value
    end
  end
  return o
end

local function text(key, v)
  if key == "connecttimeout" then
    return v < 0 and "none" or tostring(v)
  elseif key == "serveraliveinterval" then
    return tostring(math.max(0, v))
  elseif key == "userknownhostsfile" or key == "globalknownhostsfile" then
    local list = {}
    for i, f in ipairs(v) do
      list[i] = f:gsub("^~/", fs.home() .. "/")
    end
    return table.concat(list, " ")
  elseif key == "identityagent" and v then
    return (v:gsub("^~/", fs.home() .. "/"))
  elseif type(v) == "boolean" then
    return v and "yes" or "no"
  end
  return type(v) == "number" and tostring(v) or v
end

local function compare(config, name)
  fs.write(file, config)
  local want, why = theirs(name)
  local user, target = name:match("^(.*)@(.*)$")
  local ok, o = pcall(ssh.effective, target or name, file, { user = user })
  if not want or not ok then
    return t.ok(not want and not ok and o.code == "SshConfig", ("both refuse: %s"):format(
      tostring(ok and why or o)))
  end
  local a, b = {}, {}
  for _, key in ipairs(KEYS) do
    a[key], b[key] = text(key, o[key]), want[key]
  end
  return t.is(a, b, (config:gsub("\n", " | ")))
end

local CASES = {
  "", "Port 2222", "port=2222", "PORT = 2222", "  Port\t=\t2222  ", "Port 2222\nPort 1",
  "User bob\nHost a\nUser al", "Host a\n User al\nHost *\n User bob", "Host b\n User al\n",
  "Host !a *\n User al\nHost *\n Port 9", "Host * !a\n User al", "Host a b\n Port 1",
  "Host ?\n Port 5",
  "Host aa?\n Port 5", "Host *a*\n Port 5", "Host A\n Port 5", "HostName real.example.org",
  "HostName %h.example.org", "HostName Real.Example.ORG", "HostName 10.0.0.1", "HostName x%%y",
  "Host a\nHostName n\nMatch host n\nPort 6", "Host a\nHostName n\nMatch host a\nPort 6",
  "HostName n\nMatch originalhost a\nPort 6", "Match originalhost b,a\nPort 6",
  "Match originalhost !a,*\nPort 6", "Match user al\nPort 7", "User al\nMatch user al\nPort 7",
  "User al\nMatch !user al\nPort 7", "Match all\nPort 8", "Match host a user root\nPort 9",
  "Match host a !user root\nPort 9", "Match localuser *\nPort 10",
  "Match localuser nobody-x\nPort 1",
  "Match final\nPort 11", "Host a\nHostName b\nMatch final host b\nUser fin",
  "Match final all\nPort 3", "Host a\nUser u\nMatch final\nUser v\nIdentityFile x",
  "IdentityFile ~/.ssh/k1\nIdentityFile ~/.ssh/k2\nIdentityFile ~/.ssh/k1",
  "IdentityFile \"~/with blank/k\"", "IdentityFile ~/.ssh/%h-%r", "IdentitiesOnly yes",
  "IdentitiesOnly true", "IdentitiesOnly maybe", "IdentityAgent none", "IdentityAgent ~/agent",
  "CertificateFile ~/c1\nCertificateFile ~/c2", "UserKnownHostsFile ~/kh1 ~/kh2",
  "UserKnownHostsFile /dev/null\nGlobalKnownHostsFile /etc/a /etc/b", "HostKeyAlias alias.x",
  "StrictHostKeyChecking no", "StrictHostKeyChecking accept-new", "StrictHostKeyChecking off",
  "StrictHostKeyChecking perhaps", "ProxyJump j1,al@j2:2200", "ProxyJump none\nProxyJump j1",
  "ProxyJump j\nProxyCommand nc %h %p", "ProxyCommand nc %h %p\nProxyJump j",
  "ProxyCommand ssh -W '%h:%p' \"b c\" # no comment", "ProxyCommand none\nProxyCommand x",
  "ProxyJump ssh://al@j:22", "ConnectTimeout 5", "ConnectTimeout 1m30s", "ConnectTimeout none",
  "ServerAliveInterval 1m\nServerAliveCountMax 7", "ServerAliveInterval x", "AddressFamily inet6",
  "AddressFamily ipx", "BindAddress 127.0.0.1", "Port 0", "Port 65536", "Port x", "Port",
  "Port 1 2", "SetEnv A=1 B=\"two words\"\nSetEnv C=3", "SendEnv LANG LC_*\nSendEnv X",
  "SendEnv LANG LC_*\nSendEnv -LC_*", "Compression yes\nForwardAgent yes\nRekeyLimit 1G",
  "IgnoreUnknown foo*\nFooBar 1\nPort 4", "# Port 1\nPort 2 # comment", "User \"a b\"", "User 'q'",
  "User \"open", ("Include %s/inc1\nPort 5"):format(dir), ("Host b\nInclude %s/inc1"):format(dir),
  ("Include %s/inc*\nUser last"):format(dir), ("Include %s/none*\nPort 5"):format(dir),
  ("Include %s/inc1 %s/inc2"):format(dir, dir), ("Host a\nInclude %s/inc2\nPort 1"):format(dir),
  ("Include %s/loop"):format(dir), "Host a\r\nPort 12\r\n", "Host", "Match", "Match host",
  "Host=a\nPort=13", "User x\nHost a # c\nPort 14",
}

t.test("as ssh -G", function()
  for _, config in ipairs(CASES) do
    compare(config, "a")
  end
  compare("User config\nHost a\nPort 3", "given@a")
  compare("Match user given\nPort 3", "given@a")
  compare("Host EXAMPLE.org\nPort 3\nHost example.org\nPort 4", "EXAMPLE.org")
  t.ok(#CASES >= 60, #CASES .. " configurations")
end)

t.test("algorithms", function()
  local ours = { "aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr" }
  local function set(list)
    table.sort(list)
    return list
  end
  for _, v in ipairs { "aes256-ctr,aes128-ctr", "-aes*-ctr", "^aes192-ctr", "+aes128-cbc",
    "aes128-cbc,aes256-gcm@openssh.com", "-chacha20-poly1305@openssh.com" } do
    fs.write(file, "Ciphers " .. v .. "\n")
    local want = {}
    for c in theirs("a").ciphers:gmatch("[^,]+") do
      for _, o in ipairs(ours) do
        want[#want + 1] = o == c and c or nil
      end
    end
    local got = sc.narrow(ours, ssh.effective("a", file).ciphers)
    if v:find("^[a^]") then
      t.is(got[1], want[1], "first of " .. v)
    end
    t.is(set({ table.unpack(got) }), set(want), v)
  end
end)

t.test("tokens", function()
  fs.write(file, "HostName h.example\nPort 2200\nUser al\nIdentityFile %d/k-%h-%p-%r-%u-%n-%%-%C\n"
    .. "UserKnownHostsFile %d/kh-%k-%h\n")
  local o = ssh.effective("a", file)
  local tokens = sc.tokens("a", o)
  t.is(sc.expand(o.userknownhostsfile[1], tokens), theirs("a").userknownhostsfile,
    "known hosts file")
  local key = sc.expand(o.identityfile[1], tokens)
  t.like(key, "/k%-h%.example%-2200%-al%-%w+%-a%-%%%-%x+$", "identity file")
  fs.write(file, "HostName h.example\nPort 2200\nUser al\nControlPath /x/%C\n")
  t.is("/x/" .. key:match("%x+$"), theirs("a").controlpath, "%C")
  host.setenv("HGA_TEST_DIR", "/from/env")
  t.is(sc.expand("${HGA_TEST_DIR}/k", tokens), "/from/env/k", "a variable")
  t.raises(function() sc.expand("${HGA_TEST_NONE}/k", tokens) end, { kind = "usage" }, "unset")
  t.raises(function() sc.expand("%z", tokens) end, { kind = "usage" }, "an unknown token")
end)

t.test("what is refused", function()
  fs.write(file, "Port 1\n\nMatch exec \"touch /tmp/x\"\nPort 2\n")
  local e = t.raises(function() ssh.effective("a", file) end,
    { kind = "usage", match = "config:3: Match exec is not supported" }, "Match exec")
  t.is({ e.file, e.line }, { file, 3 }, "where")
  t.raises(function() ssh.effective("a", dir .. "/missing") end, { kind = "notfound" }, "missing")
  local home = host.getenv("HOME")
  fs.mkdir(dir .. "/home/.ssh", { parents = true })
  fs.write(dir .. "/home/.ssh/config", "Port 99\n", { mode = 384 })
  host.setenv("HOME", dir .. "/home")
  local ok, o = pcall(ssh.effective, "a")
  fs.chmod(dir .. "/home/.ssh/config", 438)
  local bad, why = pcall(ssh.effective, "a")
  host.setenv("HOME", home)
  t.is({ ok, ok and o.port }, { true, 99 }, "the user's file")
  t.is({ bad, why.code }, { false, "ConfigMode" }, "others could have written it")
end)

t.test("no text breaks the parser", function()
  local seed = tonumber(host.getenv("SEED")) or os.time()
  t.diag("SEED=%d", seed)
  math.randomseed(seed)
  local words = { "Host", "Match", "Include", "a", "*", "!", "!a", "\"", "'", "\\", "=", "#", "\n",
    "\r\n", "\t", " ", "Port", "22", "User", "%h", "${X}", "ProxyJump", "ssh://", "host", "final",
    "all", "exec", "SetEnv", "A=1", "\0", "\xff", "IdentityFile", dir .. "/inc*", "," }
  local kinds = {}
  for _ = 1, 3000 do
    local parts = {}
    for i = 1, math.random(1, 12) do
      parts[i] = words[math.random(#words)] .. (math.random(3) == 1 and "\n" or " ")
    end
    fs.write(file, "IgnoreUnknown *\n" .. table.concat(parts))
    local ok, e = pcall(ssh.effective, "a", file)
    if not ok and e.kind ~= "usage" and e.kind ~= "io" then
      t.ok(false, ("%q: %s"):format(table.concat(parts), tostring(e)))
    end
    kinds[ok and "ok" or e.kind] = true
  end
  t.ok(kinds.ok and kinds.usage, "some are read, some are refused, none does anything else")
end)

return t.done()
