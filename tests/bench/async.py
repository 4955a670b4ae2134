"""Scheduler against asyncio: CPU and peak RSS, interleaved rounds, minimum."""
import os
import subprocess
import sys
import tempfile

ROUNDS = int(os.environ.get("ROUNDS", "9"))
HGAUTO = os.environ["HGAUTO"]

LUA_TASKS = """
local async, host = require "hgauto.async", require "hgauto.host"
collectgarbage()
local before = host.memory()
async.scope(function(s)
  for i = 1, 10000 do
    s:spawn(function() for j = 1, 5 do async.sleep(0.01) end end)
  end
  async.sleep(0)
  if os.getenv("MEASURE") then
    collectgarbage() collectgarbage()
    print((host.memory() - before) // 10000)
  end
end)
"""
PY_TASKS = """
import asyncio
async def work():
    for j in range(5):
        await asyncio.sleep(0.01)
async def main():
    await asyncio.gather(*[asyncio.create_task(work()) for i in range(10000)])
asyncio.run(main())
"""
LUA_YIELD = """
local async = require "hgauto.async"
for i = 1, 20000 do async.sleep(0) end
"""
PY_YIELD = """
import asyncio
async def main():
    for i in range(20000):
        await asyncio.sleep(0)
asyncio.run(main())
"""


def run(argv):
    """CPU seconds and peak RSS in KiB of one process."""
    pid = os.posix_spawn(argv[0], argv, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        sys.exit("%s: status %d" % (" ".join(argv), status))
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def best(results):
    return min(r[0] for r in results), min(r[1] for r in results)


def main():
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        def script(name, text):
            path = os.path.join(tmp, name)
            with open(path, "w") as f:
                f.write(text)
            return path

        pairs = {
            "10,000 tasks x 5 sleeps": (
                [HGAUTO, "__lua", script("t.lua", LUA_TASKS)],
                [sys.executable, script("t.py", PY_TASKS)], 0.6, 1.0),
            "20,000 x sleep(0)": (
                [HGAUTO, "__lua", script("y.lua", LUA_YIELD)],
                [sys.executable, script("y.py", PY_YIELD)], 0.7, None),
        }
        got = {name: ([], []) for name in pairs}
        for _ in range(ROUNDS):
            for name, pair in pairs.items():
                got[name][0].append(run(pair[0]))
                got[name][1].append(run(pair[1]))
        for name, pair in pairs.items():
            ours, theirs = best(got[name][0]), best(got[name][1])
            cpu, rss = ours[0] / theirs[0], ours[1] / theirs[1]
            good = cpu <= pair[2] and (pair[3] is None or rss <= pair[3])
            bad += not good
            print("%s async: %s: CPU %.3f s / %.3f s = %.2f (limit %.1f), "
                  "RSS %.1f / %.1f MiB = %.2f" % (
                      "ok" if good else "MISSED", name, ours[0], theirs[0],
                      cpu, pair[2], ours[1] / 1024, theirs[1] / 1024, rss))
        size = int(subprocess.run(
            pairs["10,000 tasks x 5 sleeps"][0], stdout=subprocess.PIPE,
            check=True, env=dict(os.environ, MEASURE="1")).stdout)
        good = size <= 2560
        bad += not good
        print("%s async: %d bytes per sleeping task (limit 2560)" % (
            "ok" if good else "MISSED", size))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
