#!/bin/sh
# bench-winrm: our client against python3-winrm on the same simulated endpoint,
# rounds interleaved, in one run; then requests and memory of transfers.  SMALL
# commands (1000), MB of output (50), ROUNDS (5).  Prints medians of user+sys
# CPU, wall time and peak RSS of the whole client, and judges the bars: exit 1
# when one is missed.
set -eu
py=${PYTHON:-/usr/bin/python3}
if ! "$py" -c 'import winrm' 2>/dev/null; then
	echo "# SKIP bench winrm: python3-winrm is not installed"
	exit 0
fi
HGAUTO=${HGAUTO:-$(pwd)/$BUILD/$MODE/hgauto}
export HGAUTO
exec "$py" tests/bench/winrm.py
