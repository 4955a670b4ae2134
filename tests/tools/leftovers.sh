#!/bin/sh
# leftovers.sh before FILE: notes what is there.  leftovers.sh after FILE DIR:
# prints what came since and should be gone: processes that belong to the tests
# in DIR or are parts of local instances, mounts, loop devices.
set -eu
mode=$1 file=$2
snapshot() {
	sed 's/^/mount /' /proc/self/mounts | cut -d ' ' -f 1-4
	for f in /sys/block/loop*/loop/backing_file; do
		[ -f "$f" ] && echo "loop $f $(cat "$f")"
	done
	for p in /proc/[0-9]*; do
		echo "process ${p#/proc/}"
	done
}
# A process counts when its words or environment name DIR, or it is a box.
ours() { # ours PID DIR
	words=$({ tr '\0' ' ' < "/proc/$1/cmdline"; } 2>/dev/null) || return 1
	case $words in
	*leftovers.sh* | *check.sh*) return 1 ;;
	*"$2"* | *hgauto-box*) ;;
	*) { tr '\0' '\n' < "/proc/$1/environ"; } 2>/dev/null | grep -qF "=$2" || return 1 ;;
	esac
	echo "process $1: $words"
}
case $mode in
before) snapshot > "$file" ;;
after)
	tries=0
	while :; do
		found=$(snapshot | grep -vxFf "$file" | while read -r kind what rest; do
			case $kind in
			process) [ "$what" = $$ ] || ours "$what" "$3" || true ;;
			*) echo "$kind $what $rest" ;;
			esac
		done)
		if [ -z "$found" ] || [ $tries -ge 25 ]; then break; fi
		tries=$((tries + 1))
		sleep 0.2
	done
	[ -z "$found" ] || printf '%s\n' "$found"
	;;
esac
