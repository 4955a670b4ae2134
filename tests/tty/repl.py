#!/usr/bin/env python3
# The REPL as a person uses it: a real pseudo terminal and a screen model,
# against an api-only local cloud; the same chunks through a pipe.
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

try:
    import pexpect
    import pyte
except ImportError:
    print("1..0 # SKIP needs python3-pexpect and python3-pyte")
    sys.exit(0)

HGAUTO = os.environ.get("HGAUTO") or shutil.which("hgauto") or "./hgauto"
# A sanitizer makes everything slower.
PATIENCE = float(os.environ.get("HGAUTO_PATIENCE", "20"))

count = failed = 0


def ok(cond, name, detail=""):
    global count, failed
    count += 1
    print("%sok %d - %s" % ("" if cond else "not ", count, name))
    if not cond:
        failed += 1
        for line in str(detail).splitlines():
            print("# |" + line)
    sys.stdout.flush()
    return cond


class Repl:
    """One `hgauto repl` on a pty; the screen is what a person sees."""

    def __init__(self, state, rows=24, cols=80, env=None, args=()):
        base = dict(os.environ, TERM="xterm", INPUTRC="/dev/null",
                    LC_ALL="C.UTF-8")
        base.update(env or {})
        self.screen = pyte.HistoryScreen(cols, rows, history=1000)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            HGAUTO, ["repl", "--local", "--state-path", state, *args],
            env=base, dimensions=(rows, cols), timeout=PATIENCE)
        self.child.delaybeforesend = None

    def pump(self, seconds=0.05):
        try:
            data = self.child.read_nonblocking(65536, seconds)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self.stream.feed(data)
        return True

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines()).rstrip()

    def until(self, test, limit=PATIENCE):
        end = time.time() + limit
        while not test():
            if time.time() > end:
                return False
            if not self.pump():
                return test()
        return True

    def row(self):
        return self.lines()[self.screen.cursor.y]

    def sees(self, text, limit=PATIENCE):
        return self.until(lambda: text in self.text(), limit)

    def prompt(self, limit=PATIENCE):
        """The cursor stands behind an empty prompt."""
        return self.until(lambda: self.row() == ">"
                          and self.screen.cursor.x == 2, limit)

    def send(self, text):
        self.child.send(text)

    def clear(self):
        self.send("\x0c")
        self.until(lambda: self.lines()[0] == ">")
        self.prompt()

    def chunk(self, text, clear=True):
        """Types a line at the prompt; gives what is above the next one."""
        if clear:
            self.clear()
        self.send(text + "\r")
        self.until(lambda: self.screen.cursor.y > 0)
        self.prompt()
        return "\n".join(self.text().splitlines()[1:-1])

    def settle(self, seconds=0.3):
        end = time.time() + seconds
        while time.time() < end:
            self.pump(0.02)

    def resize(self, rows, cols):
        self.screen.resize(rows, cols)
        self.child.setwinsize(rows, cols)
        self.settle()

    def quit(self):
        self.send("\x04")
        return self.wait()

    def wait(self):
        """Exit status, negative signal, or None if it does not end."""
        self.until(lambda: False, 0.01)
        end = time.time() + PATIENCE
        while time.time() < end and self.pump():
            pass
        while time.time() < end and self.child.isalive():
            time.sleep(0.02)
        self.child.close(force=True)
        if self.child.signalstatus is not None:
            return -self.child.signalstatus
        return self.child.exitstatus

    def kill(self):
        self.child.close(force=True)


def blocks(state):
    r = Repl(state)
    ok(r.prompt(), "the prompt appears", r.text())
    ok(r.chunk("1 + 1") == "2", "an expression is printed", r.text())
    ok(r.chunk("x = 5") == "", "a statement prints nothing", r.text())
    ok(r.chunk("x, nil, 'a'") == '5\nnil\n"a"', "several values", r.text())
    ok(r.chunk("_") == "5", "_ is the last value", r.text())
    r.clear()
    for line in "for i = 1, 2 do", "print(i * 10)":
        r.send(line + "\r")
        r.settle(0.15)
    ok(r.lines()[:3] == ["> for i = 1, 2 do", "  print(i * 10)", ""]
       and r.screen.cursor.y == 2 and r.screen.cursor.x == 2,
       "an unfinished chunk goes on below, with indent", r.text())
    r.send("end\r")
    ok(r.sees("\n10\n20") and r.prompt(), "and runs when it is whole", r.text())
    r.clear()
    r.send("\x1b[A")
    r.settle()
    ok("\n".join(r.lines()[:3]) ==
       "> for i = 1, 2 do\n  print(i * 10)\n  end",
       "Up gives the block back whole", r.text())
    # Up into its second line, to its end: 10 becomes 15.
    r.send("\x1b[A\x05\x02\x7f5")
    r.settle()
    ok(r.lines()[1] == "  print(i * 15)", "where it can be edited", r.text())
    r.send("\r")
    ok(r.sees("\n15\n30") and r.prompt(), "Enter runs it from anywhere",
       r.text())
    ok(r.chunk("1 +\r2") == "2\n3", "an operator at the end goes on",
       r.text())
    r.clear()
    r.send("f(\r\r")
    ok(r.sees("<eof>") and r.prompt(), "an empty line ends a block",
       r.text())
    r.clear()
    r.send("\x1b[200~local a = 2\nlocal b = 3\nprint(a * b)\n\x1b[201~")
    r.settle()
    ok("6" not in r.text().split(), "a paste waits for Enter", r.text())
    r.send("\r")
    ok(r.sees("\n6") and r.prompt(), "and is one chunk", r.text())
    r.clear()
    r.send("\x1b[200~print(1)")
    r.settle()
    r.child.kill(signal.SIGINT)
    # Nothing of a paste is shown before its end.
    ok(r.until(lambda: b"^C" in r.raw) and r.prompt(),
       "Ctrl-C ends a paste without end", r.text())
    ok(r.quit() == 0, "Ctrl-D leaves with 0")


def errors(state):
    r = Repl(state)
    r.prompt()
    ok(r.chunk("error('no ' .. 'luck')") == "hgauto: repl:1: no luck",
       "an error is one line", r.text())
    ok("no luck" in r.chunk("_err.message"), "_err is the error", r.text())
    ok(r.chunk("nosuch.field").startswith("hgauto: repl:1: attempt to index"),
       "a runtime error, too", r.text())
    ok(r.chunk("x = = 1") == "hgauto: repl:1: unexpected symbol near '='",
       "a syntax error", r.text())
    ok(r.chunk("error{a = 1}") == "hgauto: error a = 1",
       "an error that is a table shows it", r.text())
    ok("nil" in r.chunk("error()"), "error(nil) is one", r.text())
    ok(r.chunk("ec2.describe_instances{}") ==
       "hgauto: call it with a colon: ec2:describe_instances{…}",
       "a dot for a colon is told", r.text())
    out = r.chunk('ec2:describe_instances{InstanceIds={"i-00000000000000000"}}')
    ok("InvalidInstanceID" in out, "an AWS error", out)
    ok("traceback" not in r.text(), "no traceback")
    bad = r.chunk('setmetatable({}, {__tostring = function() error "t" end})')
    ok(bad.startswith("hgauto: "), "a value that cannot be printed", bad)
    ok(r.chunk("1") == "1", "it goes on after all that", r.text())
    r.quit()


def completion(state):
    r = Repl(state)
    r.prompt()

    def typed(keys, want, name):
        r.clear()
        r.send(keys)
        if not r.until(lambda: r.row() == "> " + want, 5):
            ok(False, name, r.text())
        else:
            ok(True, name)
        r.send("\x15")

    typed("setmet\t", "setmetatable", "a global")
    typed("string.rep\t", "string.rep", "a field of a library")
    typed("cryp\t", "crypto", "a module")
    typed("hgauto.cryp\t", "hgauto.crypto", "a module below hgauto")
    typed("hg.mercu\t", "hg.mercurial", "a part of hg, not loaded yet")
    typed("whi\t", "while", "a keyword")
    typed("ec2:run_inst\t", "ec2:run_instances", "an operation")
    typed("f(ec2:describe_instance_s\t", "f(ec2:describe_instance_status",
          "an operation inside a call")
    typed("sts:get_call\t", "sts:get_caller_identity",
          "an operation of a client not used yet")
    typed("x = Http\t", "x = http", "case is forgiven")
    typed(".he\t", ".help", "a dot command")
    typed("zzz\t", "zzz", "nothing fits, nothing changes")
    typed("nosuch.thing.x\t", "nosuch.thing.x", "an unknown path")
    r.chunk("local_table = {alpha_one = 1, alpha_two = {gamma = 1}}")
    typed("local_table.alpha_two.ga\t", "local_table.alpha_two.gamma",
          "fields of a user's table")
    r.chunk("ran = 0; trap = setmetatable({}, {__index = function() "
            "ran = ran + 1 end, __pairs = function() ran = ran + 1 end})")
    r.send("trap.a\t\t")
    r.settle()
    r.send("\x15")
    ok(r.chunk("ran") == "0", "completion runs nothing of the user's",
       r.text())
    r.clear()
    r.send("ec2:\t\t")
    ok(r.sees(" more") and r.until(lambda: r.row() == "> ec2:"),
       "hundreds of candidates: a few, no question, no pager", r.text())
    ok(len([x for x in r.lines() if x]) <= 16, "on half the screen at most",
       r.text())
    r.send("\x15")
    r.quit()


def interrupts(state):
    r = Repl(state)
    r.prompt()
    r.clear()
    r.send("abc(\x03")
    # The prompt before it would do, too: wait for the answer.
    r.until(lambda: "^C" in r.text())
    ok(r.prompt() and "cancelled" not in r.text(),
       "Ctrl-C at the prompt drops the line", r.text())
    ok(r.chunk("7") == "7", "and the next is clean", r.text())
    for name, code in (("a wait", "hgauto.async.sleep(100)"),
                       ("a busy loop", "while true do end"),
                       ("a pcall loop", "while true do pcall("
                        "hgauto.async.sleep, 100) end"),
                       ("children", "for i = 1, 3 do hgauto.async.spawn("
                        "hgauto.async.sleep, 100) end"),
                       ("a child process",
                        'hgauto.proc.run{"sleep", "100"}')):
        r.clear()
        r.send(code + "\r")
        r.settle(0.4)
        start = time.time()
        r.send("\x03")
        ok(r.sees("\ncancelled") and r.prompt(), "Ctrl-C ends %s" % name,
           r.text())
        took = time.time() - start
        ok(took < 1.5, "%s: at once (%.1f s)" % (name, took))
    ok(r.chunk("8") == "8", "and the session lives", r.text())
    r.clear()
    r.send("\x12print\x03")
    ok(r.prompt(), "Ctrl-C out of a search", r.text())
    for _ in range(20):
        r.send("\x03")
        r.settle(0.02)
    ok(r.prompt() and r.chunk("9") == "9", "20 times Ctrl-C", r.text())
    r.clear()
    r.send("do\rlocal _d <close> = hgauto.async.defer(function() "
           "hgauto.async.sleep(60) end)\rhgauto.async.sleep(100)\rend\r")
    r.settle(0.4)
    r.send("\x03")
    r.settle(0.8)
    r.send("\x03")
    ok(r.sees("cancelled") and r.prompt(5), "a second one cuts cleanup",
       r.text())
    ok(r.chunk("10") == "10", "which ends only the chunk", r.text())
    ok(r.quit() == 0, "Ctrl-D still gives 0")

    r = Repl(state)
    r.prompt()
    r.child.kill(signal.SIGTERM)
    got = r.wait()
    ok(got == 143, "SIGTERM at the prompt ends it: 143", got)
    r = Repl(state)
    r.prompt()
    r.send("hgauto.async.sleep(100)\r")
    r.settle(0.4)
    r.child.kill(signal.SIGTERM)
    got = r.wait()
    ok(got == 143, "SIGTERM during a chunk, too", got)


def keeps(state):
    r = Repl(state)
    r.prompt()
    r.chunk('p = hgauto.proc.spawn{"sleep", "1000"}')
    pid = r.chunk("p:pid()")
    ok(pid.isdigit() and os.path.exists("/proc/" + pid),
       "what a chunk opened stays open for the next", r.text())
    r.quit()
    ok(pid.isdigit() and not os.path.exists("/proc/" + pid),
       "and ends with the session")


def history(state):
    env = {}
    r = Repl(state, env=env)
    r.prompt()
    r.chunk("first_entry = 1")
    r.chunk("if true then\rprint('block entry')\rend")
    r.chunk(" hidden_entry = 1")
    r.chunk("first_entry = 2")
    r.chunk("first_entry = 2")
    r.quit()
    path = os.path.join(state, "repl_history.jsonl")
    mode = os.stat(path).st_mode & 0o777
    with open(path, encoding="utf-8") as f:
        text = f.read()
    ok(mode == 0o600, "the file is private", oct(mode))
    ok("hidden_entry" not in text, "a leading blank keeps a line out")
    ok(text.count("first_entry = 2") == 1, "repeats are one", text)
    r = Repl(state, env=env)
    r.prompt()
    r.clear()
    r.send("\x1b[A")
    ok(r.until(lambda: r.row() == "> first_entry = 2"),
       "the history outlives the program", r.text())
    r.send("\x1b[A")
    r.settle()
    ok(r.lines()[0] == "> if true then" and "block entry" in r.lines()[1],
       "blocks stay whole", r.text())
    r.send("\x03")
    r.prompt()
    r.clear()
    r.send("first\x1b[A\x1b[A")
    ok(r.until(lambda: r.row() == "> first_entry = 1"),
       "Up searches what begins like the line", r.text())
    r.send("\x03")
    r.prompt()
    with open(path, "a", encoding="utf-8") as f:
        f.write('{"t":1,"l":"torn')
    r.quit()
    r = Repl(state, env=env)
    ok(r.prompt(), "a torn line does no harm", r.text())
    r.quit()


def screen(state):
    r = Repl(state, rows=12, cols=40)
    r.prompt()
    ok(r.chunk("#'日本語'") == "9", "wide characters go in", r.text())
    r.clear()
    r.send("x = '日本'\x02\x02\x7fé\r")
    r.prompt()
    ok(r.chunk("x") == '"é本"', "and are edited as characters", r.text())
    r.clear()
    r.send("'" + "ab" * 30 + "'")
    r.settle()
    ok(r.lines()[1].startswith("ab") or r.lines()[1].startswith("ba"),
       "a long line is wrapped", r.text())
    r.resize(12, 100)
    r.settle()
    r.send("\x01\x0b1 + 2\r")
    ok(r.until(lambda: "3" in r.lines()) and r.prompt(),
       "it can be edited after a change of size", r.text())
    r.send("ok = 1\r")
    r.prompt()
    ok(r.chunk("'" + "y" * 60 + "'") == '"' + "y" * 60 + '"',
       "the new width is used", r.text())
    r.quit()
    r = Repl(state, env={"LC_ALL": "C"})
    r.prompt()
    ok(r.chunk("1 + 1") == "2", "the C locale works", r.text())
    r.quit()
    r = Repl(state, env={"TERM": "dumb"})
    ok(r.sees(">"), "a dumb terminal gets a prompt")
    r.send("20 + 3\r")
    ok(r.sees("\n23\n>"), "and answers", r.text())
    r.quit()


def by_pipe(state):
    chunks = ("1 + 1\nfor i = 1, 2 do\n\n  print(i * 10)\nend\nx = 5\nx\n"
              "error 'no'\n1 +\n2\n_\n'last'")

    def run(text, *args):
        return subprocess.run(
            [HGAUTO, "repl", "--local", "--state-path", state, *args],
            input=text.encode(), capture_output=True, timeout=PATIENCE)

    p = run(chunks)
    ok(p.stdout.decode() == '2\n10\n20\n5\n3\n3\n"last"\n',
       "the same chunks through a pipe", p.stdout + p.stderr)
    ok(p.stderr.decode() == "hgauto: repl:9: no\n"
       or p.stderr.decode() == "hgauto: repl:1: no\n",
       "no prompt, only the error", p.stderr)
    ok(p.returncode == 1, "exit code 1 when one failed", p.returncode)
    p = run("x = 1\n")
    ok(p.returncode == 0 and p.stdout == b"" and p.stderr == b"",
       "0 when none did", p.stdout + p.stderr)
    p = run("if x then\n")
    ok(p.returncode == 1 and b"<eof>" in p.stderr,
       "an unfinished last chunk is an error", p.stderr)
    p = run("print(1)\n.quit\nprint(2)\n")
    ok(p.stdout == b"1\n" and p.returncode == 0, ".quit leaves", p.stdout)
    ok(not any(c in p.stdout + p.stderr for c in b"\x1b\r"),
       "no ESC, no CR in pipes")
    p = run("y\n", os.path.join(state, "none.lua"))
    ok(p.returncode == 2, "a FILE that is missing: 2", p.stderr)
    name = os.path.join(state, "pre.lua")
    with open(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
        f.write("y = 11\n")
    p = run("y\n", name)
    ok(p.stdout == b"11\n", "FILE runs first", p.stdout + p.stderr)
    p = subprocess.Popen(
        [HGAUTO, "repl", "--local", "--state-path", state],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(b"print('on')\nhgauto.async.sleep(100)\nprint('no')\n")
    p.stdin.flush()
    p.stdout.readline()
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=PATIENCE)
    ok(p.returncode == 130 and out == b"", "Ctrl-C ends it: 130",
       (p.returncode, out, err))


def plain(state):
    """What a build with READLINE=no gives: no editing, same answers."""
    r = Repl(state)
    r.sees(">")
    r.send("1 + 1\r")
    ok(r.sees("\n2\n>"), "the plain reader evaluates", r.text())
    r.send("for i = 1, 2 do\r")
    ok(r.sees(">>"), "an unfinished chunk gets another prompt", r.text())
    r.send("print(i * 10)\r")
    r.until(lambda: r.text().count(">>") == 2)
    r.send("end\r")
    ok(r.sees("\n10\n20\n>"), "and is one chunk", r.text())
    r.send("hgauto.async.sleep(100)\r")
    r.settle(0.4)
    r.send("\x03")
    ok(r.sees("cancelled"), "Ctrl-C ends a call", r.text())
    r.send("error('x')\r")
    ok(r.sees("hgauto: repl:1: x"), "errors are told", r.text())
    ok(r.quit() == 0, "Ctrl-D leaves with 0")


def has_readline():
    p = subprocess.run([HGAUTO, "version"], capture_output=True, text=True,
                       timeout=PATIENCE)
    return "GNU readline" in p.stdout


def main():
    if not os.access(HGAUTO, os.X_OK):
        print("1..0 # SKIP needs the program: HGAUTO=PATH")
        return 0
    os.environ.pop("HGAUTO_LOCAL", None)
    with tempfile.TemporaryDirectory() as d:
        state = os.path.join(d, "state")
        up = subprocess.run([HGAUTO, "local", "up", "--api-only",
                             "--state-path", state], capture_output=True,
                            text=True, timeout=60)
        try:
            if not ok(up.returncode == 0, "a local cloud runs", up.stderr):
                return 1
            only = sys.argv[1:]
            for test in (blocks, errors, completion, interrupts, keeps,
                         history, screen) if has_readline() else ():
                if not only or test.__name__ in only:
                    test(state)
            for test in ((by_pipe,) if has_readline() else (by_pipe, plain)):
                if not only or test.__name__ in only:
                    test(state)
        finally:
            subprocess.run([HGAUTO, "local", "down", "--state-path", state],
                           capture_output=True, timeout=60)
    print("1..%d" % count)
    return 1 if failed else 0


sys.exit(main())
