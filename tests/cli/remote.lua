-- hgauto ssh, hgauto exec: on a plain host, with pipes and with a terminal.
local fs = require "hgauto.fs"
local host = require "hgauto.host"
local proc = require "hgauto.proc"
local ssh = require "hgauto.ssh"
local t = require "hg.tap"

local dir = t.tmpdir()
local d = dofile("tests/servers/sshd.lua").start(dir)
local program = host.getenv("HGAUTO") or fs.readlink("/proc/self/exe")
local home = dir .. "/user"
fs.mkdir(home .. "/.ssh", { parents = true, mode = 448 })
fs.write(home .. "/.ssh/config", ([[
Host box
  HostName 127.0.0.1
  Port %d
  User root
  IdentityFile %s/id_ed25519
  UserKnownHostsFile %s/known
]]):format(d.port, dir, dir), { mode = 384 })
local KNOWN = ("[127.0.0.1]:%d %s"):format(d.port, fs.read(dir .. "/host_ed25519.pub"))
fs.write(dir .. "/known", KNOWN)

local function hgauto(argv, stdin)
  table.insert(argv, 1, program)
  return proc.run(argv, { check = false, stdin = stdin, timeout = 200,
    env = { HOME = home, HGAUTO_STATE = dir .. "/state", SSH_AUTH_SOCK = false } })
end

t.test("exec", function()
  local r = hgauto { "exec", "box", "--", "printf", "%s|", "a b", "$HOME", "it's" }
  t.is({ r.code, r.out, r.err }, { 0, "a b|$HOME|it's|", "" }, "words stay words")
  r = hgauto({ "exec", "box", "--", "cat" }, "input\n")
  t.is({ r.code, r.out }, { 0, "input\n" }, "standard input")
  r = hgauto { "exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7" }
  t.is({ r.code, r.out }, { 1, "out\n" }, "a failing command is exit 1")
  t.like(r.err, "^err\n.*exited with code 7", "its stderr, its code")
  r = hgauto { "exec", "--remote-exit", "box", "--", "sh", "-c", "exit 7" }
  t.is(r.code, 7, "--remote-exit")
  for _, case in ipairs { { 1, "exec", "box" }, { 255, "exec", "--remote-exit", "box" },
    { 255, "ssh", "box" } } do
    local words = case[2] == "ssh" and { "kill -9 $$" } or { "sh", "-c", "kill -9 $$" }
    r = hgauto(table.move(words, 1, #words, #case, { table.unpack(case, 2) }))
    t.is(r.code, case[1], "a command that is killed")
    t.like(r.err, "^[^\n]*box: command killed by signal KILL\n$", "is told to be")
  end
  r = hgauto { "exec", "--remote-exit", "-l", "nobody-x", "box", "--", "true" }
  t.is(r.code, 255, "our own failure then")
  t.like(r.err, "login as nobody%-x refused", "said")
  r = hgauto { "exec", "-l", "nobody-x", "box", "--", "true" }
  t.is(r.code, 3, "else by its kind")
  r = hgauto { "exec", "box" }
  t.is(r.code, 2, "no command")
  r = hgauto { "exec", "box", "printf", "%s|", "-l", "--", "--tty" }
  t.is({ r.code, r.out, r.err }, { 0, "-l|--|--tty|", "" }, "words after the host, as they are")
  r = hgauto { "exec", "box", "--", "head", "-c", "3000000", "/dev/zero" }
  t.is(#r.out > 0 and r.code, 0, "much output")
end)

t.test("ssh", function()
  local r = hgauto { "ssh", "box", "--", "echo", "$((1 + 2));", "exit 9" }
  t.is({ r.code, r.out }, { 9, "3\n" }, "a line as ssh sends it; its code")
  r = hgauto { "ssh", "box", "echo", "$((1 + 3));", "sh", "-c", "'exit 8'" }
  t.is({ r.code, r.out }, { 8, "4\n" }, "without --")
  r = hgauto { "ssh", "box", "-l", "root", "echo", "-n", "x" }
  t.is({ r.code, r.out }, { 0, "x" }, "options between the host and the command are ours")
  r = hgauto { "ssh", "box", "--no-such" }
  t.is(r.code, 2, "and must be known")
  r = hgauto({ "ssh", "box" }, "echo from a shell\nexit 4\n")
  t.is({ r.code, r.out }, { 4, "from a shell\n" }, "a shell that reads a pipe")
  r = hgauto { "ssh", ("root@127.0.0.1:%d"):format(d.port), "--", "true" }
  t.is(r.code, 255, "a host that is not known")
  t.like(r.err, "host key is not known %(ED25519 SHA256:", "said")
  fs.write(dir .. "/known", (KNOWN:gsub("AAAA%S+", fs.read(dir .. "/other.pub"):match("AAAA%S+"))))
  r = hgauto { "ssh", "box", "--", "true" }
  t.is(r.code, 255, "a changed key")
  local function print_of(name)
    return ssh.fingerprint(fs.read(dir .. name))
  end
  t.ok(r.err:find(("host key %s differs from the known one %s (%s/known:1); nothing was sent")
    :format(print_of "/host_ed25519.pub", print_of "/other.pub", dir), 1, true),
    "said, with both keys, file and line")
  fs.write(dir .. "/known", "")
  r = hgauto { "ssh", "--accept-new", "box", "--", "echo", "in" }
  t.is({ r.code, r.out, fs.read(dir .. "/known"), fs.read(dir .. "/state/known_hosts") },
    { 0, "in\n", "", KNOWN:gsub(" test\n", "\n") .. "" }, "--accept-new keeps it in our file")
end)

t.test("with a terminal", function()
  if not proc.which("python3") then
    t.skip("needs python3")
  end
  local SCRIPT = [[
import fcntl, os, pty, struct, sys, termios, time, select
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 111, 0, 0))
out = b""
def until(what, limit=90):
    global out
    end = time.time() + limit
    while what not in out and time.time() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try: b = os.read(fd, 65536)
            except OSError: return
            if not b: return
            out += b
    if what not in out: print("MISSING", what, out); sys.exit(1)
before = termios.tcgetattr(fd)
os.write(fd, b"echo re'ad'y\n"); until(b"ready")
os.write(fd, b"stty size\n"); until(b"40 111")
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 90, 0, 0))
os.write(fd, b"sleep 1; stty size\n"); until(b"50 90")
os.write(fd, b"sleep 100\n"); time.sleep(0.5); os.write(fd, b"\x03")
os.write(fd, b"echo st'ill'\n"); until(b"still\r")
if os.environ.get("LEAVE"):
    os.write(fd, b"\r~.")
else:
    os.write(fd, b"exit 6\n")
_, status = os.waitpid(pid, 0)
after = termios.tcgetattr(fd)
print("code", os.waitstatus_to_exitcode(status), before[3] == after[3])
]]
  local function run(leave)
    return proc.run({ "python3", "-c", SCRIPT, program, "ssh", "box" }, { check = false,
      timeout = 300, env = { HOME = home, HGAUTO_STATE = dir .. "/state", TERM = "xterm",
        LEAVE = leave } })
  end
  local r = run()
  t.is({ r.code, r.out }, { 0, "code 6 True\n" }, "size, resize, Ctrl-C, code; modes restored")
  r = run("1")
  t.is({ r.code, r.out }, { 0, "code 255 True\n" }, "~. leaves")
end)

d:stop()
return t.done()
