#!/bin/sh
# run.sh HGAUTO [SCRIPT...]: runs each script again and again, failing its
# first, second, third ... allocation, then n together with n+1 (one alone is
# absorbed by Lua's emergency collection).  Expects errors, never a crash, a
# hang, a sanitizer report.  STEP=n (default 1) skips, START and MAX bound n.
set -u
hgauto=$1
case $hgauto in /*) ;; *) hgauto=$(pwd)/$hgauto ;; esac
shift
cd "$(dirname "$0")" || exit 1
[ $# -gt 0 ] || set -- data.lua tasks.lua
dir=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-torture.XXXXXX")
trap 'rm -rf "$dir"' EXIT
export TORTURE_DIR="$dir"
bad=0
t=0
for script; do
	for pair in '' +; do
		n=${START:-1}
		fail=0
		while [ "$n" -le "${MAX:-100000}" ]; do
			HGAUTO_TORTURE=$n$pair timeout 20 "$hgauto" __lua \
				"$script" > "$dir/out" 2>&1
			rc=$?
			if [ $rc -ge 71 ] || grep -q 'Sanitizer\|runtime error:\|panic\|outside a protected' "$dir/out"; then
				fail=1
				echo "# $script, allocation $n$pair: exit $rc"
				head -n 40 "$dir/out" | sed 's/^/#   /'
				[ -z "${KEEP_GOING:-}" ] && break
			fi
			grep -q '^hgauto: torture:' "$dir/out" && break
			n=$((n + ${STEP:-1}))
		done
		t=$((t + 1))
		if [ $fail = 0 ]; then
			echo "ok $t - $script$pair: $n allocations failed once"
		else
			bad=1
			echo "not ok $t - $script$pair"
		fi
	done
done
echo "1..$t"
exit $bad
