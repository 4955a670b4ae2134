#!/bin/sh
# bench-ledger: a durable record (intent and event, lock, checkpoints) against
# one append of 300 bytes with fdatasync, in turn, on the same file system;
# opening a ledger of 1,000 entries; API calls of a collection.  Bars: p50 1.3
# and mean 1.6 times the append, 20 ms of processor time, 12 calls.
# RECORDS (300), OPENS (9), LEDGER_DIR: where the files are written (the build
# directory: /tmp may be no disk).  Exit 1 when a bar is missed.
set -eu
HGAUTO=$(realpath "${HGAUTO:-$BUILD/$MODE/hgauto}")
export HGAUTO
dir=$(mktemp -d "${LEDGER_DIR:-$BUILD}/bench-ledger.XXXXXX")
trap 'rm -rf "$dir"' EXIT
chmod 700 "$dir"
"$BUILD/$MODE/bench/ledger" "$(realpath "$dir")" "${RECORDS:-300}" "${OPENS:-9}" > "$dir/out"
rc=0
awk '{ a[$1] = $2; b[$1] = $3 }
function verdict(text, good) { printf "%s: %s\n", text, good ? "met" : "MISSED"; bad += !good }
END {
	p = a["record"] / a["append"]; m = b["record"] / b["append"]
	verdict(sprintf("# ledger record p50 %.3f ms, append %.3f ms: %.2f x (bar 1.3)", a["record"], a["append"], p), p <= 1.3)
	verdict(sprintf("# ledger record mean %.3f ms, append %.3f ms: %.2f x (bar 1.6)", b["record"], b["append"], m), m <= 1.6)
	verdict(sprintf("# ledger open and checks of 1,000 entries: %.1f ms cpu (bar 20)", a["open"]), a["open"] <= 20)
	exit bad > 0
}' "$dir/out" || rc=1
"$HGAUTO" test tests/bench/ledger.lua > "$dir/gc" 2>&1 || rc=1
sed -n 's/^ok [0-9]* - gc of/# ledger gc of/p; /^not ok/p; /^# /p' "$dir/gc"
exit $rc
