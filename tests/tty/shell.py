#!/usr/bin/python3
# The task shell on a real terminal: a login shell on a real instance.
import os
import subprocess
import sys
import tempfile

images = os.environ.get("HGAUTO_TEST_IMAGES", "")
try:
    import pexpect
except ImportError:
    print("1..0 # SKIP python3-pexpect is not installed")
    sys.exit(0)
if os.geteuid() != 0:
    print("1..0 # SKIP instances need root")
    sys.exit(0)
if not os.path.isdir(images):
    print("1..0 # SKIP no base image (hgauto local image build debian13)")
    sys.exit(0)

HGAUTO = os.environ["HGAUTO"]
n = bad = 0


def ok(good, name, more=""):
    global n, bad
    n += 1
    print("%s %d - %s" % ("ok" if good else "not ok", n, name))
    if not good:
        bad += 1
        print("# " + str(more).replace("\n", "\n# "))


def hg(repo, *words):
    subprocess.run(["hg", "-R", repo, *words], check=True,
                   env=dict(os.environ, HGRCPATH="", HGUSER="t"))


with tempfile.TemporaryDirectory(prefix="hgauto-shell.") as top:
    state, repo = top + "/state", top + "/repo"
    os.makedirs(state + "/local/images")
    os.chmod(state, 0o700)
    for name in os.listdir(images):
        os.symlink(os.path.join(os.path.realpath(images), name),
                   os.path.join(state, "local/images", name))
    subprocess.run(["cp", "-a", "tests/data/standin", repo], check=True)
    hg(repo, "init", repo)
    hg(repo, "commit", "-q", "-A", "-m", "x")
    hg(repo, "tag", "7.9")
    hg(repo, "update", "-q", "7.9")
    try:
        r = subprocess.run([HGAUTO, "--state-path", state, "run", "--local",
                            "shell", "--source", repo], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True)
        ok(r.returncode == 2 and "needs a terminal" in r.stderr,
           "without a terminal: exit 2", r.stderr)
        c = pexpect.spawn(HGAUTO, ["--state-path", state, "run", "--local",
                                   "shell", "--image", "base", "--source", repo],
                          timeout=180, encoding="utf-8")
        ok(c.expect(["is yours", pexpect.EOF, pexpect.TIMEOUT]) == 0, "the machine is there", c.before)
        c.sendline('cd /hgdev/src; echo at-$(hg log -r . -T "{tags}")-$(tty)')
        ok(c.expect(["at-7.9-/dev/pts/", pexpect.EOF, pexpect.TIMEOUT]) == 0,
           "a shell on a terminal, the source beside it", c.before)
        c.sendline("exit 0")
        c.expect(pexpect.EOF)
        c.close()
        ok(c.exitstatus == 0 and "nothing left running" in c.before,
           "its end ends the machine", c.before)
        c = pexpect.spawn(HGAUTO, ["--state-path", state, "run", "--local", "shell", "--os", "2022",
                                   "--image", "base", "--source", repo],
                          timeout=180, encoding="utf-8")
        ok(c.expect(["is yours", pexpect.EOF, pexpect.TIMEOUT]) == 0, "a Windows machine", c.before)
        c.expect(["windows2022> ", pexpect.EOF, pexpect.TIMEOUT])
        c.sendline("Get-Location")
        ok(c.expect(["not simulated: Get-Location", pexpect.EOF, pexpect.TIMEOUT]) == 0,
           "a line of PowerShell reaches it", c.before)
        c.sendline("exit")
        c.expect(pexpect.EOF)
        c.close()
        ok("nothing left running" in c.before, "its end ends the machine", c.before)
    finally:
        subprocess.run([HGAUTO, "--state-path", state, "local", "down"],
                       capture_output=True)
print("1..%d" % n)
sys.exit(1 if bad else 0)
