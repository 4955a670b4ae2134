#!/bin/sh
# bench-ledger: a durable record (intent and event, lock, checkpoints) against
# one append of 300 bytes with fdatasync, in turn, on the same file system;
# opening a ledger of 1,000 entries; API calls of a collection.  Bars: p50 1.3
# and mean 1.6 times the append, 20 ms of processor time, 12 calls.
# ROUNDS (5; the median counts), RECORDS (300), OPENS (9), LEDGER_DIR: where the
# files are written (the build directory: /tmp may be no disk).  Exit 1 when a bar
# is missed.
set -eu
HGAUTO=$(realpath "${HGAUTO:-$BUILD/$MODE/hgauto}")
export HGAUTO
dir=$(mktemp -d "${LEDGER_DIR:-$BUILD}/bench-ledger.XXXXXX")
trap 'rm -rf "$dir"' EXIT
i=0
while [ $i -lt "${ROUNDS:-5}" ]; do
	mkdir -m 700 "$dir/$i"
	"$BUILD/$MODE/bench/ledger" "$(realpath "$dir/$i")" "${RECORDS:-300}" \
		"${OPENS:-9}" > "$dir/out"
	awk '{ a[$1] = $2; b[$1] = $3 } END {
		print a["record"] / a["append"], b["record"] / b["append"], a["open"],
			a["record"], a["append"] }' "$dir/out" >> "$dir/all"
	i=$((i + 1))
done
middle() { sort -n -k "$1" "$dir/all" | awk -v k="$1" '{ v[NR] = $k } END { print v[int((NR + 1) / 2)] }'; }
rc=0
verdict() { # verdict TEXT VALUE BAR UNIT
	met=$(awk -v v="$2" -v b="$3" 'BEGIN { print v <= b ? "met" : "MISSED" }')
	printf '# ledger %s: %.2f %s (bar %s): %s\n' "$1" "$2" "$4" "$3" "$met"
	[ "$met" = met ] || rc=1
}
verdict "record p50 ($(middle 4) ms) to append ($(middle 5) ms)" "$(middle 1)" 1.3 x
verdict "record mean to append" "$(middle 2)" 1.6 x
verdict "open and checks of 1,000 entries" "$(middle 3)" 20 "ms cpu"
"$HGAUTO" test tests/bench/ledger.lua > "$dir/gc" 2>&1 || rc=1
sed -n 's/^ok [0-9]* - gc of/# ledger gc of/p; t; /^not ok/p; /^# /p' "$dir/gc"
exit $rc
