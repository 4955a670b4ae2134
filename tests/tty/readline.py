#!/usr/bin/env python3
# hgauto.readline on a pseudo terminal: block editing, history, completion,
# Ctrl-C, Ctrl-D, printing while editing, bracketed paste, no readline.
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import fcntl
import sys
import tempfile
import termios
import time

HGAUTO = os.environ.get("HGAUTO") or shutil.which("hgauto") or "./hgauto"
SCRIPT = r'''
local async = require "hgauto.async"
local readline = require "hgauto.readline"
local term = require "hgauto.term"
local mode = require("hgauto.host").argv[3]
local rl <close> = readline.open {
  prompt = "P> ", edit = mode ~= "plain",
  continuation = function(text)
    if load("return " .. text) then
      return false
    end
    local chunk, err = load(text)
    return not chunk and err:find("<eof>") ~= nil
  end,
  complete = function(text, cursor)
    local word = text:sub(1, cursor):match("[%w_]*$")
    local list = {}
    for _, name in ipairs { "alpha_one", "alpha_two", "beta" } do
      if name:sub(1, #word) == word then
        list[#list + 1] = name
      end
    end
    return cursor - #word, list
  end,
}
rl:add_history("x = 1")
rl:add_history("for i = 1, 2 do\n  f(i)\nend")
if mode == "print" then
  async.spawn(function()
    async.sleep(0.5)
    rl:print("printed meanwhile")
  end)
end
if mode == "timeout" then
  local good, err = pcall(async.timeout, 0.3, function() rl:read() end)
  term.out(("TIMEOUT %s\n"):format(tostring(err.kind)))
  return
end
term.out("READY\n")
while true do
  local text = rl:read()
  if text == nil then
    term.out("EOF\n")
    return
  end
  term.out(("GOT %q\n"):format(text):gsub("\\\n", "\\n"))
end
'''

count = failed = 0


def ok(cond, name, detail=""):
    global count, failed
    count += 1
    print("%sok %d - %s" % ("" if cond else "not ", count, name))
    if not cond:
        failed += 1
        for line in str(detail).splitlines():
            print("# " + line)
    sys.stdout.flush()


class Session:
    def __init__(self, script, mode="edit", env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm", "INPUTRC": "/dev/null"})
            os.environ.update(env or {})
            os.execv(HGAUTO, [HGAUTO, "__lua", script, mode])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ,
                    struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""

    def expect(self, pattern, timeout=15):
        end = time.time() + timeout
        while not re.search(pattern, self.text):
            left = end - time.time()
            if left <= 0:
                return False
            if select.select([self.fd], [], [], left)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    return re.search(pattern, self.text) is not None
                if not data:
                    return False
                self.text += data.decode("utf-8", "replace")
        self.text = self.text[re.search(pattern, self.text).end():]
        return True

    def send(self, text):
        os.write(self.fd, text.encode())

    def modes(self):
        return termios.tcgetattr(self.fd)[3]

    def close(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return status

    def wait(self):
        end = time.time() + 10
        while time.time() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.fd, 65536).decode("utf-8",
                                                                "replace")
                except OSError:
                    pass
        return None


def got(s, want, name):
    ok(s.expect(r"GOT " + re.escape('"' + want + '"')), name, repr(s.text))


def editing(script):
    s = Session(script)
    ok(s.expect("READY") and s.expect("P> "), "the prompt appears")
    s.send("a = 1\r")
    got(s, "a = 1", "a whole line is a chunk")
    s.expect("P> ")
    s.send("for i = 1, 2 do\r")
    time.sleep(0.2)
    s.send("g(i)\r")
    time.sleep(0.1)
    s.send("end\r")
    got(s, r"for i = 1, 2 do\n  g(i)\n  end",
        "Enter in an unfinished chunk is a new line with indent")
    s.expect("P> ")
    s.send("if x then\r\r")
    got(s, r"if x then\n  ", "Enter on an empty last line accepts")
    s.expect("P> ")
    s.send("one()\x1b\rtwo()\r")
    got(s, r"one()\ntwo()", "Alt-Enter is a new line")
    s.expect("P> ")
    s.send("aa\x1b\rbb\x1b[A\x1b[AXX\r")
    s.expect("GOT")
    s.expect("P> ")
    s.send("\x1b[A\x1b[A\x1b[A")
    time.sleep(0.2)
    s.send("\x03")
    ok(s.expect(r"\^C") and s.expect('GOT ""'),
       "Ctrl-C inside a block gives an empty chunk", repr(s.text))
    s.expect("P> ")
    s.send("abc\x03")
    ok(s.expect('GOT ""'), "Ctrl-C drops what was typed")
    s.expect("P> ")
    s.send("d\r")
    got(s, "d", "and the next line is clean")
    s.expect("P> ")
    s.send("\x12x = \x03")
    ok(s.expect('GOT ""'), "Ctrl-C out of a search")
    s.expect("P> ")
    s.send("e\r")
    got(s, "e", "and the next line is clean again")
    s.expect("P> ")
    s.send("x\x02\x04y\r")
    got(s, "y", "Ctrl-D in a line that is not empty deletes")
    s.expect("P> ")
    s.send("\x04")
    ok(s.expect("EOF"), "Ctrl-D on an empty one is the end")
    ok(s.wait() == 0, "exit code 0")


def history(script):
    s = Session(script)
    s.expect("READY")
    s.expect("P> ")
    s.send("\x1b[A\r")
    got(s, r"for i = 1, 2 do\n  f(i)\nend", "Up recalls a block whole")
    s.expect("P> ")
    s.send("\x1b[A\x1b[A\x1b[A\x1b[A\r")
    got(s, "x = 1", "Up moves in the block first, then to older entries")
    s.expect("P> ")
    s.send("x\x1b[A\r")
    got(s, "x = 1", "Up searches entries with that beginning")
    s.expect("P> ")
    s.send("\x12f(i)\r\r")
    got(s, r"for i = 1, 2 do\n  f(i)\nend", "Ctrl-R finds a block")
    s.close()


def completion(script):
    s = Session(script)
    s.expect("READY")
    s.expect("P> ")
    s.send("be\t\r")
    got(s, "beta", "Tab completes a single candidate")
    s.expect("P> ")
    s.send("f(al\t")
    time.sleep(0.2)
    s.send("\t\t")
    ok(s.expect(r"alpha_one +alpha_two"), "further Tabs list several",
       repr(s.text))
    s.send("o\t)\r")
    got(s, "f(alpha_one)", "the common part is there already")
    s.expect("P> ")
    s.send("zz\t = 1\r")
    got(s, "zz = 1", "no candidate, no change")
    s.close()


def paste(script):
    s = Session(script)
    s.expect("READY")
    s.expect("P> ")
    s.send("\x1b[200~p()\nq()\nr()\x1b[201~")
    time.sleep(0.2)
    s.send("\r")
    got(s, r"p()\nq()\nr()", "a bracketed paste stays one block")
    s.expect("P> ")
    s.send("\x1b[200~without end")
    time.sleep(0.3)
    os.kill(s.pid, signal.SIGINT)
    ok(s.expect('GOT ""'), "Ctrl-C ends a paste without end", repr(s.text))
    s.expect("P> ")
    s.send("ok\r")
    got(s, "ok", "and the reader goes on")
    s.close()


def printing(script):
    s = Session(script, "print")
    s.expect("READY")
    s.expect("P> ")
    s.send("half")
    ok(s.expect("printed meanwhile\r\n"), "print writes above the line")
    ok(s.expect("P> half"), "which is drawn again", repr(s.text))
    s.send(" whole\r")
    got(s, "half whole", "and goes on")
    s.close()


def terminal(script):
    s = Session(script)
    before = s.modes()
    s.expect("READY")
    s.expect("P> ")
    time.sleep(0.2)
    ok(not s.modes() & termios.ICANON, "while it reads the terminal is raw")
    fcntl.ioctl(s.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 40, 0, 0))
    os.kill(s.pid, signal.SIGWINCH)
    s.send("x" * 60 + "\r")
    got(s, "x" * 60, "a new size is taken")
    s.expect("P> ")
    s.send("\x04")
    s.expect("EOF")
    # the master's view of the modes outlives the child only until close
    try:
        ok(bool(s.modes() & termios.ICANON) == bool(before & termios.ICANON),
           "afterwards it is as before")
    except termios.error:
        ok(True, "afterwards it is gone")
    s.wait()
    s = Session(script, "timeout")
    ok(s.expect("TIMEOUT timeout"), "a deadline ends the wait", repr(s.text))
    ok(s.wait() == 0, "and the program")


def plain(script):
    s = Session(script, "plain")
    s.expect("READY")
    ok(s.expect("P> "), "the plain reader shows the prompt")
    s.send("a = 1\n")
    got(s, "a = 1", "a line")
    s.expect("P> ")
    s.send("for i = 1, 2 do\n")
    ok(s.expect(">> "), "an unfinished chunk gets another prompt")
    s.send("end\n")
    got(s, r"for i = 1, 2 do\nend", "and is one chunk")
    s.expect("P> ")
    s.send("do\n")
    s.expect(">> ")
    s.send("\x03")
    ok(s.expect('GOT ""'), "Ctrl-C drops it")
    s.expect("P> ")
    s.send("\x04")
    ok(s.expect("EOF"), "Ctrl-D")
    ok(s.wait() == 0, "exit code 0")
    r = subprocess.run([HGAUTO, "__lua", script, "edit"],
                       input="a = 1\ndo\nend\nb = 2", capture_output=True,
                       text=True, timeout=20)
    ok(r.stdout == 'READY\nGOT "a = 1"\nGOT "do\\nend"\nGOT "b = 2"\nEOF\n',
       "a pipe is read without prompts, the last line without its end",
       r.stdout + r.stderr)
    with open(script) as f:
        r = subprocess.run([HGAUTO, "__lua", script, "edit"], stdin=f,
                           capture_output=True, text=True, timeout=20)
    ok(r.returncode == 0 and r.stdout.endswith("EOF\n"),
       "standard input may be a file", r.stdout + r.stderr)


def main():
    if not os.access(HGAUTO, os.X_OK):
        print("1..0 # SKIP needs the program: HGAUTO=PATH")
        return 0
    with tempfile.TemporaryDirectory() as d:
        script = os.path.join(d, "t.lua")
        with open(script, "w") as f:
            f.write(SCRIPT)
        os.chmod(script, 0o600)
        r = subprocess.run([HGAUTO, "__lua", "/dev/stdin"], timeout=20,
                           input='io.write(tostring('
                           'require("hgauto.readline").available))',
                           capture_output=True, text=True)
        has = "true" in r.stdout
        if not has:
            with open(os.path.join(d, "a.lua"), "w") as f:
                f.write('io.write(tostring('
                        'require("hgauto.readline").available))')
            r = subprocess.run([HGAUTO, "__lua", os.path.join(d, "a.lua")],
                               capture_output=True, text=True, timeout=20)
            has = "true" in r.stdout
        if has:
            for test in editing, history, completion, paste, printing, \
                    terminal:
                test(script)
        else:
            print("ok 1 # SKIP built without readline: "
                  "apt install libreadline-dev")
            global count
            count = 1
        plain(script)
    print("1..%d" % count)
    return 1 if failed else 0


sys.exit(main())
