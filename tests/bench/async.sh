#!/bin/sh
# Scheduler against python3 asyncio in one run: 10,000 tasks of five sleeps,
# 20,000 times sleep(0).  Interleaved rounds (ROUNDS, default 9), minimum;
# user+sys CPU, peak RSS, memory of one sleeping task.
set -eu
py=${PYTHON:-/usr/bin/python3}
command -v "$py" >/dev/null || {
	echo "# SKIP bench async: python3 is not installed"
	exit 0
}
HGAUTO=${HGAUTO:-$(pwd)/$BUILD/$MODE/hgauto}
export HGAUTO
exec "$py" tests/bench/async.py
