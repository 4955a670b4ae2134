"""bench-winrm: see winrm.sh."""
import os
import statistics
import subprocess
import sys
import tempfile
import time

HGAUTO = os.environ['HGAUTO']
SMALL = int(os.environ.get('SMALL', '1000'))
MB = int(os.environ.get('MB', '50'))
ROUNDS = int(os.environ.get('ROUNDS', '3'))

PEER = '''
import sys, winrm.protocol
p = winrm.protocol.Protocol(endpoint='http://127.0.0.1:%s/wsman' % sys.argv[1], transport='basic',
    username='Administrator', password='Bench-Pass.word1', message_encryption='never')
n = 0
for i in range(int(sys.argv[3])):
    s = p.open_shell()
    c = p.run_command(s, sys.argv[2])
    out, err, code = p.get_command_output(s, c)
    p.cleanup_command(s, c)
    p.close_shell(s)
    n += len(out)
assert code == 0
print(n)
'''


def measure(argv, want, **env):
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(argv, stdout=out, env=dict(os.environ, **env))
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        out.seek(0)
        text = out.read().decode()
    if status != 0 or str(want) not in text:
        sys.exit('bench-winrm: %s failed: %s' % (argv[0], text[:300]))
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def report(name, mine, theirs):
    print('# %s, medians of %d' % (name, len(mine)))
    for i, what in enumerate(['CPU s', 'wall s', 'RSS MiB']):
        a = statistics.median(r[i] for r in mine)
        b = statistics.median(r[i] for r in theirs)
        print('%-8s ours %9.3f  python3-winrm %9.3f  ratio %.3f (%.1fx)'
              % (what, a, b, a / b, b / a))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        ready = os.path.join(tmp, 'port')
        server = subprocess.Popen([HGAUTO, 'test', 'tests/bench/winrm_server.lua'],
                                  env=dict(os.environ, READY=ready, MB=str(MB)),
                                  stdout=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + 30
            while not os.path.exists(ready) and time.monotonic() < limit:
                time.sleep(0.05)
            with open(ready) as f:
                port = f.read()
            for name, line, n, want in [
                    ('%d small commands' % SMALL, 'small', SMALL, 4 * SMALL),
                    ('%d MB of output' % MB, 'big', 1, MB * 1000000)]:
                mine, theirs = [], []
                for _ in range(ROUNDS):
                    mine.append(measure([HGAUTO, 'test', 'tests/bench/winrm.lua'], want,
                                        PORT=port, LINE=line, COUNT=str(n)))
                    theirs.append(measure([sys.executable, '-c', PEER, port, line, str(n)], want))
                report(name, mine, theirs)
        finally:
            server.terminate()
            server.wait()


main()
