"""bench-winrm: see winrm.sh."""
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HGAUTO = os.environ['HGAUTO']
SMALL = int(os.environ.get('SMALL', '1000'))
MB = int(os.environ.get('MB', '50'))
ROUNDS = int(os.environ.get('ROUNDS', '5'))

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
print('%d bytes' % n)
'''

COLUMNS = ['CPU s', 'wall s', 'RSS MiB']
missed = []


def measure(argv, want, **env):
    """user+sys seconds, wall seconds, peak RSS in MiB, and what was printed."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(argv, stdout=out, env=dict(os.environ, **env))
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        out.seek(0)
        text = out.read().decode()
    if status != 0 or '%d bytes' % want not in text:
        sys.exit('bench-winrm: %s failed: %s' % (argv[0], text[:300]))
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, text


def judge(what, good, bar):
    if not good:
        missed.append(what)
    return '%s %s' % (bar, 'holds' if good else 'MISSED')


class Bench:
    def __init__(self, port, directory):
        self.port, self.dir = port, directory

    def ours(self, what, line, count, want):
        return measure([HGAUTO, 'test', 'tests/bench/winrm.lua'], want, PORT=self.port, WHAT=what,
                       LINE=line, COUNT=str(count), DIR=self.dir)

    def theirs(self, line, count, want):
        return measure([sys.executable, '-c', PEER, self.port, line, str(count)], want)

    def compare(self, name, line, count, want, bars):
        """Both clients in turn; bars: largest ratio ours/theirs of each column."""
        mine, other = [], []
        for _ in range(ROUNDS):
            mine.append(self.ours('cmd', line, count, want))
            other.append(self.theirs(line, count, want))
        print('# %s, medians of %d, interleaved' % (name, ROUNDS))
        for i, what in enumerate(COLUMNS):
            a = statistics.median(r[i] for r in mine)
            b = statistics.median(r[i] for r in other)
            bar = bars.get(what)
            print('%-8s ours %9.3f  python3-winrm %9.3f  ratio %.3f (%.1fx)%s' % (
                what, a, b, a / b, b / a, '' if bar is None else '  ' + judge(
                    '%s, %s' % (name, what), a / b <= bar, 'bar %.2f (%.1fx)' % (bar, 1 / bar))))

    def discard(self):
        want = 268 * 1000000
        idle = self.ours('cmd', 'small', 1, 4)[2]
        rss = self.ours('discard', 'big 268', 1, want)[2]
        print('# 256 MiB of output, collect=false')
        print('RSS MiB  idle %.1f  peak %.1f  %s' % (idle, rss, judge(
            'RSS of discarded output', rss <= idle + 8, 'bar idle + 8')))

    def transfer(self, what, via, most):
        """100 MiB; most: requests that winrm.md allows for its data."""
        size = 100 << 20
        with open(os.path.join(self.dir, 'local'), 'wb') as f:
            f.write(os.urandom(1 << 20) * 100)
        idle = self.ours('cmd', 'small', 1, 4)[2]
        cpu, wall, rss, text = self.ours(what, via, 1, size)
        requests = int(re.search(r'(\d+) requests', text).group(1))
        print('%-4s %-5s requests %5d  CPU %.2f s  wall %.2f s  RSS idle + %.1f MiB  %s  %s' % (
            what, via, requests, cpu, wall, rss - idle,
            judge('%s by %s, requests' % (what, via), requests <= most, 'bar %d' % most),
            judge('%s by %s, RSS' % (what, via), rss <= idle + 16, 'bar idle + 16')))


def main():
    with tempfile.TemporaryDirectory() as tmp:
        ready = os.path.join(tmp, 'port')
        root = os.path.join(tmp, 'c')
        os.mkdir(root)
        server = subprocess.Popen([HGAUTO, 'test', 'tests/bench/winrm_server.lua'],
                                  env=dict(os.environ, READY=ready, ROOT=root),
                                  stdout=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + 30
            while not os.path.exists(ready) and time.monotonic() < limit:
                time.sleep(0.05)
            with open(ready) as f:
                b = Bench(f.read(), tmp)
            cpu = {'CPU s': 1 / 5}
            row = {'CPU s': 0.35, 'wall s': 1.0, 'RSS MiB': 0.6}
            b.compare('%d small commands' % SMALL, 'small', SMALL, 4 * SMALL, cpu)
            b.compare('%d MB of output' % MB, 'big %d' % MB, 1, MB * 1000000, cpu)
            b.compare('5 MB of output', 'big 5', 1, 5000000, row)
            b.compare('20 small commands', 'small', 20, 80, row)
            b.discard()
            print('# 100 MiB there and back')
            for what, via, most in TRANSFERS:
                b.transfer(what, via, most)
        finally:
            server.terminate()
            server.wait()
    if missed:
        sys.exit('bench-winrm: missed: ' + '; '.join(missed))


# 100 MiB need 921 requests of 153600 bytes (winrm.md, Sizes) and 10 for the shell;
# a pool takes 512000 bytes, but base64 of base64, in 5 pipelines; its answers hold
# four fragments, one block of 98202 bytes.
TRANSFERS = [('up', 'stdin', 931), ('up', 'psrp', 420), ('down', 'psrp', 1080)]

main()
