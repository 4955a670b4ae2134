-- hgauto.ssh: through other hosts, and other connections through a session.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local sshd = dofile("tests/servers/sshd.lua")
local d = sshd.start(dir)
local far = sshd.start(dir)
ssh.use_state(dir .. "/state")
local s = ssh.connect("127.0.0.1", d:args())
local data = crypto.random(700000)
fs.write(dir .. "/data", data)

fs.write(dir .. "/known", ("[127.0.0.1]:%d %s[127.0.0.1]:%d %s"):format(d.port,
  fs.read(dir .. "/host_ed25519.pub"), far.port, fs.read(dir .. "/host_ed25519.pub")))

t.test("jumps", function()
  local o = far:args { jump = s }
  local c = ssh.connect("127.0.0.1", o)
  t.is(c:exec("cat", { stdin = data }).out == data, true, "data through a session")
  t.like(c:exec("echo $SSH_CONNECTION").out, (" %d\n$"):format(far.port), "it is the far one")
  c:put(dir .. "/data", dir .. "/data2")
  t.is(fs.sha256(dir .. "/data2"), crypto.sha256(data), "files")
  c:close()
  t.ok(s:ping() < 5, "the session it went through lives")
  o = far:args { jump = ("root@127.0.0.1:%d"):format(d.port), known_hosts = dir .. "/known" }
  t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "HostKeyUnknown" },
    "the first host's key must be known")
  o.jump = { host = "127.0.0.1", port = d.port, known_hosts = dir .. "/known" }
  c = ssh.connect("127.0.0.1", o)
  t.is(c:exec("echo far").out, "far\n", "an address")
  o.jump = { o.jump, { host = "127.0.0.1", port = far.port, known_hosts = dir .. "/known" } }
  local two = ssh.connect("127.0.0.1", o)
  t.is(two:exec("echo far").out, "far\n", "two hops")
  two:close()
  c:close()
  o.jump.host = nil
  o.jump = { host = "127.0.0.1", port = d.port,
    host_key = (fs.read(dir .. "/other.pub"):gsub("%s+$", "")) }
  t.raises(function() ssh.connect("127.0.0.1", o) end, { code = "HostKeyChanged" },
    "a wrong first host")
end)

t.test("jumps that fail", function()
  local t0 = time.mono()
  t.raises(function() ssh.connect("127.0.0.1", far:args { jump = s, port = 1 }) end,
    { kind = "net", match = "through the jump.*cannot connect" }, "nobody listens there")
  local first = ssh.connect("127.0.0.1", d:args())
  local c = ssh.connect("127.0.0.1", far:args { jump = first })
  async.scope(function(sc)
    sc:spawn(function()
      async.sleep(0.3)
      first:close()
    end)
    t.raises(function() c:exec("sleep 60", { kill = "none" }) end,
      { kind = "net", code = "ConnectionLost" }, "the first host goes away")
  end)
  c:close()
  t.raises(function() ssh.connect("127.0.0.1", far:args { jump = first }) end,
    { kind = "net" }, "through a closed session")
  t.ok(time.mono() - t0 < 10, "at once")
end)

t.test("a proxy command", function()
  if not proc.which("ssh") then
    t.skip("needs ssh (openssh-client)")
  end
  local relay = ("ssh -F none -i %s/id_ed25519 -o UserKnownHostsFile=%s/known -p %d "
    .. "-o GlobalKnownHostsFile=/dev/null -W 127.0.0.1:%d root@127.0.0.1"):format(dir, dir, d.port,
    far.port)
  local c = ssh.connect("never.resolved.invalid", far:args { proxy_command = relay })
  t.ok(c:exec("cat", { stdin = data }).out == data, "OpenSSH's -W")
  c:close()
  t.ok(t.eventually(function()
    return not proc.run({ "pgrep", "-f", dir .. "/known -p" }, { check = false }).ok
  end), "its process is gone")
  local e = t.raises(function()
    ssh.connect("x", far:args { proxy_command = "sh -c 'echo no such door >&2; exit 3'" })
  end, { kind = "net", code = "ProxyFailed", match = "exited with code 3: no such door$" }, "fails")
  t.is(e.phase, "banner", "phase")
  e = t.raises(function()
    ssh.connect("x", far:args {
      proxy_command = "sh -c 'seq 1000 2000; echo; echo a reason; echo the end >&2; exit 3' 1>&2",
    })
  end, { kind = "net", code = "ProxyFailed", match = "exited with code 3: the end$" }, "says much")
  t.like(e.stderr, "\n1999\n2000\n\na reason\nthe end$", "its last lines are in the error")
  t.ok(#e.stderr > 1900 and #e.stderr <= 2048, "2 KiB of them")
  e = t.raises(function()
    ssh.connect("x", far:args { proxy_command = "sh -c 'echo hm >&2; sleep 60'",
      timeout = { banner = 1 } })
  end, { kind = "timeout" }, "says something and then nothing")
  t.is(e.stderr, "hm", "that is in the error, too")
  t.raises(function() ssh.connect("x", far:args { proxy_command = "/no/such/program" }) end,
    { code = "ProxyFailed", match = "code 127" }, "missing")
  local t0 = time.mono()
  t.raises(function()
    ssh.connect("x", far:args { proxy_command = "sleep 60237", timeout = { banner = 1 } })
  end, { kind = "timeout" }, "silent")
  t.ok(time.mono() - t0 < 4, "in time")
  t.ok(t.eventually(function()
    return not proc.run({ "pgrep", "-x", "-f", "sleep 60237" }, { check = false }).ok
  end), "nothing is left")
end)

t.test("configuration files", function()
  fs.write(dir .. "/conf", ([[
Host far
  HostName 127.0.0.1
  Port %d
  ProxyJump near
Host near
  HostName 127.0.0.1
  Port %d
Host *
  User root
  IdentityFile %s/id_ecdsa
  IdentityFile %s/not-there
  UserKnownHostsFile %s/known
  SetEnv FROM_CONFIG=yes
  Ciphers aes256-ctr
  ServerAliveInterval 5
]]):format(far.port, d.port, dir, dir, dir))
  local c <close> = ssh.connect("far", { config = dir .. "/conf", agent = false })
  t.is(c:exec("echo $FROM_CONFIG").out, "yes\n", "SetEnv")
  local i = c:info()
  t.is({ i.name, i.host, i.port, i.user, i.cipher, i.trust, i.file },
    { "far", "127.0.0.1", far.port, "root", "aes256-ctr", "known_hosts", dir .. "/known" },
    "directives, with a jump")
  local n <close> = ssh.connect("near", { config = dir .. "/conf", agent = false,
    ciphers = { "aes128-gcm@openssh.com" } })
  t.is(n:info().cipher, "aes128-gcm@openssh.com", "options come first")
  t.is(c:exec("echo $FROM_CONFIG", { env = { FROM_CONFIG = "mine" } }).out, "mine\n", "env wins")
end)

if not proc.which("perl") then
  t.skip("needs perl")
end

-- A server that echoes, says bye at the end of its input, and ends.
local echo = proc.spawn { "perl", "-MIO::Socket::INET", "-e", [[
$| = 1; $SIG{CHLD} = "IGNORE";
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 50) or die;
print $s->sockport, "\n";
while (my $c = $s->accept) {
  next if fork;
  my $b;
  while (sysread($c, $b, 65536)) {
    for (my $o = 0; $o < length $b;) { $o += syswrite($c, $b, length($b) - $o, $o) // exit }
  }
  syswrite($c, "bye");
  exit;
}]] }
local echo_port = math.tointeger(tonumber((echo:lines("out")())))

-- Sends n times 10,000 bytes, closes its half, counts what comes.
local CLIENT = [[
$SIG{PIPE} = "IGNORE";
my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or exit 3;
if (!fork) {
  for (1 .. $ARGV[1]) {
    my $b = "x" x 10000;
    for (my $o = 0; $o < length $b;) { $o += syswrite($c, $b, length($b) - $o, $o) // exit }
  }
  shutdown($c, 1);
  exit;
}
my ($b, $n) = ("", 0);
while (my $k = sysread($c, $b, 65536)) { $n += $k }
print $n]]

local function echoed(port, n)
  local r = proc.run({ "perl", "-MIO::Socket::INET", "-e", CLIENT, tostring(port), tostring(n) },
    { timeout = 200, check = false })
  return tonumber(r.out) or r.code
end

t.test("forwarding", function()
  local f = s:forward { to = "127.0.0.1:" .. echo_port }
  t.is(echoed(f.port, 300), 3000003, "both ways, half closed")
  t.ok(t.eventually(function() return f:count() == 0 end), "connections end")
  local sums = async.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, function()
    return echoed(f.port, 20)
  end, { limit = 12 })
  t.is(sums[12], 200003, "twelve at once")
  t.is({ f:count() }, { 0, 13 }, "counted")
  f:close()
  t.is(echoed(f.port, 1), 3, "a closed one is closed")
  local g = s:forward { listen = dir .. "/sock", to = "127.0.0.1:" .. echo_port }
  t.is(fs.stat(dir .. "/sock").mode, 384, "a unix socket here")
  g:close()
  t.ok(not fs.exists(dir .. "/sock"), "goes with it")
  g = s:forward { to = "127.0.0.1:1" }
  t.ok(echoed(g.port, 1) ~= 10003 and t.eventually(function() return g:count() == 0 end),
    "nobody there: the connection ends")
  t.raises(function() s:forward { listen = g.port, to = "x:1" } end, { kind = "exists" }, "taken")
  t.raises(function() s:forward { to = "nonsense" } end, { kind = "usage" }, "no address")
  t.raises(function() s:forward {} end, { kind = "usage" }, "no target")
  g:close()
end)

t.test("forwarding from the server", function()
  local f = s:forward_remote { to = "127.0.0.1:" .. echo_port }
  t.ok(f.port > 0, "it chose a port")
  t.is(echoed(f.port, 300), 3000003, "both ways")
  t.ok(s:ping() < 5, "probes between")
  t.is(echoed(f.port, 1), 10003, "again")
  t.raises(function() s:forward_remote { listen = d.port, to = "x:1" } end,
    { kind = "remote", code = "RequestDenied" }, "taken there")
  f:close()
  t.ok(t.eventually(function() return echoed(f.port, 1) == 3 end, 60), "closed there, too")
  t.ok(s:exec("true").ok, "the session lives")
end)

t.test("SOCKS", function()
  if not proc.which("curl") then
    t.skip("needs curl")
  end
  local web = proc.spawn { "perl", "-MIO::Socket::INET", "-e", [[
$| = 1;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 5) or die;
print $s->sockport, "\n";
while (my $c = $s->accept) {
  while (my $l = <$c>) { last if $l eq "\r\n" }
  print $c "HTTP/1.0 200 OK\r\n\r\n";
}]] }
  local port = web:lines("out")()
  local f = s:socks {}
  for _, how in ipairs { "socks5://", "socks5h://" } do
    local r = proc.run({ "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-x",
      how .. "127.0.0.1:" .. f.port, ("http://localhost:%s/"):format(port) }, { check = false,
      env = { no_proxy = "", NO_PROXY = "" } })
    t.is(r.out, "200", how)
  end
  local r = proc.run({ "curl", "-s", "-x", "socks5h://127.0.0.1:" .. f.port,
    "http://localhost:1/" }, { check = false, env = { no_proxy = "", NO_PROXY = "" } })
  t.is(r.code, 97, "nobody there: refused by SOCKS")
  r = proc.run({ "curl", "-s", "-m", "5", ("http://127.0.0.1:%d/"):format(f.port) },
    { check = false })
  t.ok(not r.ok, "HTTP is not spoken")
  f:close()
  web:kill("KILL")
end)

t.test("channels", function()
  local c = s:channel("127.0.0.1", echo_port)
  c:write("hello")
  local name, text = c:read()
  t.is({ name, text }, { "out", "hello" }, "write and read")
  c:close_stdin()
  name, text = c:read()
  t.is({ name, text, c:read() }, { "out", "bye", nil }, "half closed, then the end")
  t.ok(c:wait(5).ok, "wait")
  c:close()
  c = s:channel("127.0.0.1", 1)
  t.raises(function() c:wait(5) end, { kind = "net", code = "Unreachable" }, "nobody there")
  c:close()
  t.ok(s:exec("true").ok, "the session lives")
end)

t.test("a forward ends with its session", function()
  local c = ssh.connect("127.0.0.1", d:args())
  local f = c:forward { to = "127.0.0.1:" .. echo_port }
  local r = c:forward_remote { to = "127.0.0.1:" .. echo_port }
  local p = proc.spawn { "perl", "-MIO::Socket::INET", "-e", [[
my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or exit 3;
syswrite($c, "x"); my $b; 1 while sysread($c, $b, 9)]], tostring(f.port) }
  t.ok(t.eventually(function() return f:count() == 1 end, 60), "a connection is open")
  c:close()
  t.is({ p:wait(60).code, (f:count()) }, { 0, 0 }, "it was ended")
  f:close()
  r:close()
end)

echo:kill("KILL")
s:close()
d:stop()
far:stop()
return t.done()
