#!/bin/sh
# SECS seconds of libFuzzer per target, starting from the seeds.
set -eu
for t in "$BUILD"/fuzz/fuzz/*; do
	case $t in *.d) continue ;; esac
	name=$(basename "$t")
	[ -z "${TARGETS:-}" ] || case " $TARGETS " in *" $name "*) ;; *) continue ;; esac
	corpus=$BUILD/fuzz/corpus/$name
	mkdir -p "$corpus"
	echo "== $name, $SECS s"
	"$t" -max_total_time="$SECS" -timeout=20 -rss_limit_mb=1024 -max_len=65536 \
		-artifact_prefix="$BUILD/fuzz/$name-" -print_final_stats=1 "$corpus" \
		tests/fuzz/seeds/"$name" > "$BUILD/fuzz/$name.log" 2>&1 || {
		tail -n 40 "$BUILD/fuzz/$name.log"
		exit 1
	}
	grep -E 'number_of_executed_units|peak_rss' "$BUILD/fuzz/$name.log"
done
