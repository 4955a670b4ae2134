-- hgauto.ssh: connecting, commands, files, errors, against a real sshd.
local async = require "hgauto.async"
local crypto = require "hgauto.crypto"
local fs = require "hgauto.fs"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"
local time = require "hgauto.time"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local s = ssh.connect("127.0.0.1", d:args())

t.test("what cannot be trusted is refused", function()
  t.raises(function() ssh.connect("127.0.0.1", d:args { host_key = {} }) end,
    { kind = "bug", match = "without a trusted host key" }, "no pin")
  local before = #d:log()
  local e = t.raises(function()
    ssh.connect("127.0.0.1", d:args { host_key = fs.read(dir .. "/other.pub") })
  end, { kind = "auth", code = "HostKeyChanged", match = "nothing was sent$" }, "wrong pin")
  t.is(e.phase, "hostkey", "phase")
  t.like(e.fingerprint, "^SHA256:", "what the server has")
  t.like(e.expected, "^SHA256:", "what was expected")
  t.ok(not d:log():sub(before):find("userauth"), "no userauth message reached the server")
  t.raises(function() ssh.connect("127.0.0.1", d:args { strict = false }) end,
    { kind = "usage", match = "unknown option strict" }, "no option turns it off")
  t.raises(function() ssh.connect("-oProxyCommand=x", d:args()) end, { kind = "usage" }, "host")
end)

t.test("logins", function()
  local key = crypto.load_private(dir .. "/id_rsa")
  local c = ssh.connect { host = "localhost", user = "root", port = d.port, keys = { key },
    host_key = { fs.read(dir .. "/host_ecdsa.pub"), fs.read(dir .. "/host_rsa.pub") } }
  t.is(c:exec("echo hi").out, "hi\n", "a key handle; two pins")
  local i = c:info()
  t.is({ i.user, i.hostkey, i.trust, i.open }, { "root", "ecdsa-sha2-nistp256", "pin", true },
    "information")
  t.ok(c:ping() < 5, "ping")
  c:close()
  c:close()
  t.raises(function() c:exec("true") end, { kind = "net", match = "closed" }, "a closed session")
  local e = t.raises(function() ssh.connect("127.0.0.1", d:args { keys = { dir .. "/other" } }) end,
    { kind = "auth", code = "AuthRejected" }, "another key")
  t.is({ e.phase, e.methods }, { "login", "publickey" }, "details")
  t.raises(function() ssh.connect("127.0.0.1", d:args { user = "nobody-here" }) end,
    { code = "AuthRejected" }, "unknown user")
  t.raises(function() ssh.connect("127.0.0.1", d:args { ciphers = { "aes128-cbc" } }) end,
    { code = "KexNoMatch" }, "no common cipher")
end)

t.test("commands", function()
  local r = s:exec { "sh", "-c", 'printf "%s|" "$@"', "x", "a b", "it's", "$HOME", "", "\n" }
  t.is(r.out, "a b|it's|$HOME||\n|", "argument lists are quoted")
  local proxy = setmetatable({}, {
    __index = { "echo", 7 }, __len = function() return 2 end,
  })
  t.is(s:exec(proxy).out, "7\n", "a list behind a metatable")
  r = s:exec("echo $A; pwd; cat; echo e >&2", { env = { A = "1 2" }, cwd = "/tmp", stdin = "in" })
  t.is({ r.ok, r.code, r.out, r.err, r.truncated }, { true, 0, "1 2\n/tmp\nin", "e\n", false },
    "environment, directory, input")
  local e = t.raises(function() s:exec("echo some; echo no such thing >&2; exit 7") end,
    { kind = "remote", code = "ExitCode", match = "exited with code 7: no such thing$" }, "code 7")
  t.is({ e.result.code, e.result.out }, { 7, "some\n" }, "its result")
  r = s:exec({ "false" }, { check = false })
  t.is({ r.ok, r.code }, { false, 1 }, "check=false")
  t.raises(function() s:exec("kill -9 $$") end,
    { kind = "remote", code = "Signal", match = "killed by signal KILL" }, "signal")
  r = s:exec("kill -9 $$", { check = false })
  t.is({ r.ok, r.code, r.signal }, { false, nil, "KILL" }, "a signal is never ok")
  t.raises(function() s:exec({ "true" }, { cwd = "/no/such" }) end, { code = "ExitCode" }, "cwd")
  t.is(s:exec("echo raw", { raw = true }).out, "raw\n", "raw")
  t.is(s:exec("echo a; echo b >&2", { merge = true }).out, "a\nb\n", "merge")
  t.is(s:exec({ "id", "-un" }, { sudo = "hgtest" }).out, "hgtest\n", "sudo as a user")
  t.raises(function() s:exec("x\0y") end, { kind = "usage" }, "NUL")
  t.raises(function() s:exec(("x"):rep(140000)) end, { kind = "usage", match = "file" }, "too long")
  t.raises(function() s:exec({ "true" }, { tmeout = 1 }) end, { kind = "usage" }, "unknown option")
  local mark = dir .. "/not-started"
  local function refused(o, match, kind)
    t.raises(function() s:exec({ "touch", mark }, o) end, { kind = kind or "usage", match = match },
      match)
  end
  refused({ sink = { stdout = print } }, "sink: unknown option stdout")
  refused({ sink = { out = 1 } }, "sink: option out")
  refused({ stdin = { path = "/dev/null" } }, "stdin: unknown option path")
  refused({ stdin = {} }, "stdin: option file")
  refused({ stdin = { file = dir .. "/none" } }, "cannot read", "io")
  refused({ sink = { out = dir .. "/none/x" } }, "cannot write", "io")
  t.ok(not fs.exists(mark), "nothing was started")
  t.raises(function() s:spawn("cat", { stdin = { file = "/dev/null" } }) end, { kind = "usage" },
    "spawn with a file that nobody would read")
  t.raises(function() s:exec({ "true" }, { env = { ["A=B"] = "" } }) end, { kind = "usage" }, "env")
end)

t.test("streams", function()
  local lines = {}
  local r = s:exec("printf 'one\\n\\ntwo'; echo three >&2", { on_line = function(stream, line)
    async.sleep(0.01)
    lines[#lines + 1] = stream .. ":" .. line
  end })
  table.sort(lines)
  t.is(lines, { "err:three", "out:", "out:one", "out:two" }, "lines, the unfinished last one too")
  t.is(r.out, "one\n\ntwo", "and the output")
  local n, last = 0, nil
  r = s:exec("seq 1 300000", { max_output = 1000, on_line = function(_, line)
    n, last = n + 1, line
  end })
  t.is({ n, last, #r.out, r.truncated }, { 300000, "300000", 1000, true }, "many lines, the tail")
  t.is(r.out:sub(-14), "299999\n300000\n", "the last bytes")
  n = 0
  s:exec("head -c 200000 /dev/zero | tr '\\0' x", { on_line = function(_, line)
    n = n + 1
    t.ok(#line <= 65536, "piece")
  end })
  t.is(n, 4, "long lines come in pieces")
  local parts = { "a", ("b"):rep(700000), "c" }
  r = s:exec("wc -c", { stdin = function() return table.remove(parts, 1) end })
  t.is(r.out, "700002\n", "input by function")
  fs.write(dir .. "/in", ("z"):rep(1000000))
  local out = 0
  r = s:exec("cat", { stdin = { file = dir .. "/in" }, max_output = 10, sink = {
    out = function(b) out = out + #b end, err = dir .. "/err" } })
  t.is({ out, r.out, fs.read(dir .. "/err") }, { 1000000, ("z"):rep(10), "" }, "file, sinks")
  r = s:exec("echo x; sleep 4 & exit 0", { wait = "exit" })
  t.ok(r.out == "x\n" and r.seconds < 3, "wait=exit does not wait for a child")
  r = s:exec("head -c 5000000 /dev/zero >&2; echo done")
  t.is(r.out, "done\n", "much stderr does not stop stdout")
end)

t.test("processes", function()
  local p = s:spawn({ "cat" }, { stdin = true })
  p:write(("x"):rep(600000) .. "\n")
  p:write("end\n")
  p:close_stdin()
  local n, last = 0, nil
  for line, stream in p:lines() do
    n, last = n + #line, line .. stream
  end
  t.is({ n, last }, { 600003, "endout" }, "write and lines")
  t.ok(p:wait().ok, "wait")
  p:close()
  p = s:spawn { "sleep", "100" }
  t.is(p:status(), "running", "status")
  t.raises(function() p:wait(0.2) end, { kind = "timeout" }, "wait with a limit")
  t.is(p:kill(), nil, "kill leaves nothing")
  p = s:spawn("printf 12345; printf 67 >&2")
  local got, name, block = { out = {}, err = {} }, p:read(2)
  while name do
    table.insert(got[name], block)
    name, block = p:read(#got.out < 2 and 2 or nil)
  end
  t.is({ got.out[1], got.out[2], table.concat(got.out, "", 3), table.concat(got.err) },
    { "12", "34", "5", "67" }, "pieces of at most so many bytes")
  t.raises(function() p:read(0) end, { kind = "usage" }, "read of nothing")
  t.raises(function() p:kill(-1) end, { kind = "usage" }, "a grace of less than nothing")
  p = s:spawn("trap 'sleep 1.5; echo ended; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
  t.is(select(2, p:read()), "ready\n", "a process that takes its time to end")
  t.is(p:kill(0), nil, "kill with a grace of none")
  t.raises(function() p:wait(5) end, { code = "Signal" }, "does not give it that")
  p:close()
end)

t.test("sessions serve one task", function()
  async.scope(function(sc)
    sc:spawn(function() s:exec("sleep 0.5") end)
    async.sleep(0.1)
    t.raises(function() s:exec("true") end, { kind = "usage", match = "busy in task" }, "busy")
    local two <close> = s:share()
    t.is(two:exec("echo two").out, "two\n", "share")
  end)
  local list = async.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, function(i)
    local c <close> = s:share()
    return c:exec("sleep 0.1; echo " .. i).out
  end, { limit = 12 })
  t.is(#list, 12, "more commands than a server's channels")
end)

t.test("files", function()
  local r = dir .. "/r"
  s:mkdir(r .. "/a/b", { parents = true })
  s:mkdir(r .. "/a/b", { parents = true })
  t.raises(function() s:mkdir(r) end, { kind = "exists" }, "mkdir of what exists")
  t.raises(function() s:mkdir(r .. "/x/y") end, { kind = "notfound" }, "missing parent")
  local w = s:write(r .. "/text", "hello\n", { mode = 384 })
  t.is({ w.bytes, w.atomic }, { 6, true }, "write")
  t.is(s:read(r .. "/text"), "hello\n", "read")
  local st = s:stat(r .. "/text")
  t.is({ st.type, st.size, st.mode, st.uid }, { "file", 6, 384, 0 }, "stat")
  t.is(s:find(r .. "/nothing"), nil, "find")
  local e = t.raises(function() s:stat(r .. "/nothing") end, { kind = "notfound" }, "stat")
  t.is({ e.sftp_status, e.phase }, { 2, "sftp" }, "details")
  t.raises(function() s:read(r .. "/text", { max = 3 }) end,
    { kind = "protocol", code = "TooLarge" }, "read beyond max")
  s:symlink("text", r .. "/link")
  t.is({ s:readlink(r .. "/link"), s:lstat(r .. "/link").type }, { "text", "link" }, "links")
  s:rename(r .. "/text", r .. "/a/text")
  s:chmod(r .. "/a/text", 420)
  local names = {}
  for _, x in ipairs(s:list(r)) do names[#names + 1] = x.name .. ":" .. x.type end
  t.is(names, { "a:dir", "link:link" }, "list")
  t.raises(function() s:remove(r) end, { kind = "remote" }, "remove of a full directory")
  s:remove(r, { tree = true })
  t.is(s:find(r), nil, "remove a tree")
  t.is(s:realpath("~"), "/root", "home")
end)

t.test("transfers of files", function()
  local data = crypto.random(1024 * 1024):rep(3) .. "tail"
  fs.write(dir .. "/src", data)
  s:mkdir(dir .. "/sub", { parents = true })
  local seen = 0
  local r = s:put(dir .. "/src", dir .. "/sub/", { verify = "sha256", progress = function(n)
    seen = n
  end })
  t.is({ r.bytes, r.files, r.sha256, r.part }, { #data, 1, crypto.sha256(data), nil }, "put")
  t.ok(seen > 0 and fs.read(dir .. "/sub/src") == data, "progress, content")
  r = s:get(dir .. "/sub/src", dir .. "/back", { sha256 = crypto.sha256(data) })
  t.ok(r.bytes == #data and fs.read(dir .. "/back") == data, "get")
  t.raises(function() s:get(dir .. "/sub/src", dir .. "/back2", { sha256 = ("0"):rep(64) }) end,
    { kind = "protocol", match = "SHA%-256" }, "wrong hash")
  t.ok(not fs.exists(dir .. "/back2"), "nothing is left of it")
  local exec, absent = s.exec, false
  s.exec = function(...)
    local sum = exec(...)
    proc.run { "sh", "-c", "printf X | dd conv=notrunc status=none of=" .. dir .. "/sub/src" }
    return absent and { ok = false } or sum
  end
  t.raises(function() s:get(dir .. "/sub/src", dir .. "/back2", { verify = "sha256" }) end,
    { kind = "protocol", code = "ShortTransfer", match = "SHA%-256" }, "changed behind the hash")
  t.is({ fs.exists(dir .. "/back2"), proc.run({ "find", dir, "-name", "*.part" }).out },
    { false, "" }, "nothing is left of that")
  absent = true
  r = s:get(dir .. "/sub/src", dir .. "/back2", { verify = "sha256" })
  t.is(r.sha256, crypto.sha256(fs.read(dir .. "/back2")), "read twice without sha256sum there")
  s.exec = nil
  t.raises(function() s:put(dir .. "/none", "/tmp/x") end, { kind = "notfound" }, "missing source")
  t.raises(function() s:put(dir .. "/src", dir .. "/sub") end, { kind = "usage" }, "a directory")
  t.raises(function() s:get(dir .. "/src", dir .. "/x", { max = 10 }) end,
    { code = "TooLarge" }, "max")
  t.raises(function() s:put(dir .. "/src", "/proc/x") end, { kind = "notfound" }, "unwritable")
end)

t.test("errors tell whose they are and whether to try again", function()
  local function told(phase, retryable, fn, kind)
    local e = t.raises(fn, { kind = kind }, phase)
    t.is({ e.phase, e.host, e.port, e.user, e.retryable },
      { phase, "127.0.0.1", d.port, "root", retryable }, "details")
  end
  local function closed(c)
    c:exec("kill -9 $PPID", { kill = "none" })
  end
  told("hostkey", false, function()
    ssh.connect("127.0.0.1", d:args { host_key = fs.read(dir .. "/other.pub") })
  end, "auth")
  told("exec", false, function() s:exec("exit 3") end, "remote")
  told("exec", false, function() s:exec("kill -9 $$") end, "remote")
  told("exec", false, function() s:exec("sleep 60", { timeout = 0.1 }) end, "timeout")
  told("sftp", false, function() s:stat("/no/such") end, "notfound")
  told("sftp", false, function() s:get("/no/such", dir .. "/x") end, "notfound")
  local p <close> = s:spawn("sleep 60")
  told("exec", false, function() p:wait(0.1) end, "timeout")
  local c = ssh.connect("127.0.0.1", d:args())
  told("exec", false, function() closed(c) end, "net")
  told("sftp", true, function() c:put(dir .. "/src", dir .. "/x") end, "net")
  told("sftp", true, function() c:read(dir .. "/src") end, "net")
  told("sftp", false, function() c:mkdir(dir .. "/x") end, "net")
  c:close()
  local free = require("hgauto.httpd").new { on_request = function() end }
  local port = free:listen { host = "127.0.0.1", port = 0 }
  free:close()
  local e = t.raises(function() ssh.connect("127.0.0.1", d:args { port = port }) end,
    { kind = "net", code = "Refused" }, "refused")
  t.is({ e.phase, e.port, e.retryable }, { "connect", port, true }, "it may be tried again")
  e = t.raises(function()
    ssh.wait_ready("127.0.0.1", d:args { port = port, for_seconds = 0.5, delay = 0.1 })
  end, { kind = "timeout" }, "refused until the end")
  t.is({ e.phase, e.port, e.retryable }, { "connect", port, true }, "so may this")
  t.ok(e.attempts > 1, "it was tried more than once")
  e = t.raises(function()
    s:exec("echo", { on_line = function() error({ kind = "net" }, 0) end })
  end, { kind = "net" }, "what a function of the caller's raises")
  t.is({ e.host, e.retryable }, {}, "is left alone")
end)

t.test("trees", function()
  proc.run({ "sh", "-ec", [[mkdir -p t/a/b; cd t
    for i in 1 2 3 4 5 6 7 8 9; do echo $i > a/f$i; done
    head -c 3000000 /dev/urandom > big; ln -s big l; echo no > skip.o; mkfifo p]] }, { cwd = dir })
  local r = s:put(dir .. "/t", dir .. "/t2", { exclude = { "*.o" } })
  t.is({ r.files, r.dirs, r.skipped, r.failed }, { 11, 3, { "p" }, 0 }, "put")
  t.is(proc.run({ "diff", "-r", "--no-dereference", "-x", "*.o", "-x", "p", "t", "t2" },
    { cwd = dir }).out, "", "same")
  r = s:get(dir .. "/t2", dir .. "/t3")
  t.is({ r.files, r.skipped }, { 10, { "l" } }, "get makes no links")
  r = s:get(dir .. "/t2", dir .. "/t4", { links = "follow" })
  t.is(r.files, 11, "get follows links to files")
  t.raises(function() s:get(dir .. "/t2", dir .. "/t5", { max_files = 3 }) end,
    { code = "TooLarge" }, "too many")
  t.is(proc.run({ "find", dir, "-name", "*.hga-*" }).out, "", "no parts are left anywhere")
end)

t.test("OpenSSH's configuration", function()
  local out
  async.scope(function()
    local file = s:openssh_config(dir .. "/conf %x")
    t.is(fs.stat(file).mode & 511, 384, "mode")
    out = proc.run({ "ssh", "-F", file, "host", "echo", "works" }).out
    local text = fs.read(dir .. "/conf %x/known_hosts")
    fs.write(dir .. "/conf %x/known_hosts", (text:gsub("ssh%-ed25519 %S+",
      fs.read(dir .. "/other.pub"):match("^%S+ %S+"))))
    local r = proc.run({ "ssh", "-F", file, "host", "true" }, { check = false })
    t.ok(not r.ok, "a wrong key fails without asking: " .. r.err)
  end)
  t.is(out, "works\n", "ssh -F")
  t.is(fs.list(dir .. "/conf %x"), {}, "files go with the scope")
  proc.run({ "sh", "-ec", "mkdir -m 755 open; mkdir -m 700 priv theirs; chown 12345 theirs; "
    .. "ln -s priv link" }, { cwd = dir })
  for _, name in ipairs { "/open", "/theirs", "/link" } do
    t.raises(function() s:openssh_config(dir .. name) end, { kind = "usage", match = "mode 0700" },
      name .. " is no place for keys")
    t.is(fs.list(dir .. name), {}, "and nothing is written there")
  end
end)

t.test("waiting for a machine", function()
  local n = 0
  local t0 = time.mono()
  t.raises(function()
    ssh.wait_ready("127.0.0.1", d:args { port = 1, for_seconds = 2, delay = 0.2, on_attempt =
      function() n = n + 1 end })
  end, { kind = "timeout", match = "waiting for SSH on t: no answer within 2s %(last: " }, "none")
  t.ok(n >= 3 and time.mono() - t0 < 5, "several attempts")
  t0 = time.mono()
  t.raises(function()
    ssh.wait_ready("127.0.0.1", d:args { host_key = fs.read(dir .. "/other.pub") })
  end, { code = "HostKeyChanged" }, "a wrong key is fatal")
  t.raises(function()
    ssh.wait_ready("127.0.0.1", d:args { keys = { dir .. "/missing" } })
  end, { code = "KeyNotFound" }, "an unreadable key is fatal")
  t.ok(time.mono() - t0 < 5, "at once")
  local keys = fs.read(dir .. "/authorized_keys")
  fs.write(dir .. "/authorized_keys", "")
  async.scope(function(sc)
    sc:spawn(function()
      async.sleep(1)
      fs.write(dir .. "/authorized_keys", keys, { mode = 420 })
    end)
    local c <close> = ssh.wait_ready("127.0.0.1", d:args { delay = 0.2 })
    t.is(c:exec("echo in").out, "in\n", "a login refused at first")
  end)
  fs.write(dir .. "/authorized_keys", "")
  t.raises(function()
    ssh.wait_ready("127.0.0.1", d:args { delay = 0.1, auth_grace = 0.5 })
  end, { code = "AuthRejected" }, "refused for longer than the grace")
  fs.write(dir .. "/authorized_keys", keys, { mode = 420 })
end)

t.test("many hosts", function()
  local list = ssh.map({ "127.0.0.1", "127.0.0.2", { host = "127.0.0.1", label = "third" } },
    "echo $SSH_CONNECTION", { connect = d:args() })
  t.is({ #list, list.failed, list[1].ok, list[2].ok, list[3].ok }, { 3, 1, true, false, true },
    "map")
  t.is(list[2].error.kind, "net", "nobody listens there")
end)

t.test("small things", function()
  t.is(ssh.quote { "a", "b c" }, "a 'b c'", "quote")
  local fp, kind, bits = ssh.fingerprint(dir .. "/id_ed25519")
  t.is({ fp, kind, bits }, { s:info().fingerprint and fp, "ssh-ed25519", 256 }, "fingerprint")
  t.like(ssh.library, "^1%.11", "library")
end)

s:close()
d:stop()
return t.done()
