#!/bin/sh
# Line coverage of core from the gcov data of MODE=cov, per file and in all.
set -eu
o=$BUILD/cov
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for f in core/base core/net core/state core/aws core/ssh core/box; do
	for c in "$f"/*.c; do
		[ -f "$o/${c%.c}.gcda" ] || {
			echo "0 0 $c"
			continue
		}
		gcov -n -o "$o/${c%.c}.o" "$c" 2>/dev/null | awk -v f="$c" '
			/^File/ { hit = index($0, f) } hit && /^Lines executed:/ {
			split($0, a, /[:% ]+/); print a[3], $NF, f; hit = 0 }'
	done
done > "$tmp/rows"
sort -n "$tmp/rows" | awk '{ printf "%6.1f%% of %5d  %s\n", $1, $2, $3; l += $2; h += $1 * $2 / 100 }
	END { printf "%6.1f%% of %5d  all of core\n", l ? 100 * h / l : 0, l }'
