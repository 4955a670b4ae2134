#!/bin/sh
# kill.sh ID GRACE: ends everything that one remote command has started.
#
# Targets: processes whose environment holds exactly _HGAUTO_EXEC=ID, their
# descendants, and what belongs to a session or process group led by one of
# these; never this script, its ancestors or process 1.  TERM and CONT first,
# after GRACE seconds KILL, up to 5 rounds.  Prints "waited=N killed=N left=N":
# ended in time, ended by KILL, still there.  Runs from standard input, so
# nothing has to be uploaded.
set -u
id=$1
grace=$2

case $id in '' | *[!0-9a-f]*) echo "kill.sh: bad id" >&2; exit 2 ;; esac
[ -r /proc/self/environ ] || { echo "kill.sh: no /proc" >&2; exit 3; }

marked() {
	if [ "$zgrep" = yes ]; then
		grep -lzxsF "_HGAUTO_EXEC=$id" /proc/[0-9]*/environ |
			sed 's|^/proc/||; s|/environ$||'
	else
		for e in /proc/[0-9]*/environ; do
			if tr '\0' '\n' 2>/dev/null < "$e" |
				grep -qxF "_HGAUTO_EXEC=$id"; then
				e=${e#/proc/}
				echo "${e%/environ}"
			fi
		done 2>/dev/null
	fi
}
zgrep=no
if printf 'a\0b\0' | grep -qzxsF b 2>/dev/null; then zgrep=yes; fi

# One line each: "p PID", and "g PGID" for groups led by a target.
targets() {
	{
		marked | sed 's/^/m /'
		cat /proc/[0-9]*/stat 2>/dev/null
	} | awk -v self=$$ '
		$1 == "m" { set[$2] = 1; next }
		{
			pid = $1
			sub(/^.*\) /, "")   # the name may hold anything
			state[pid] = $1; ppid[pid] = $2; pgrp[pid] = $3; sess[pid] = $4
		}
		END {
			never[0]; never[1]
			for (p = self; p > 1 && (p in ppid); p = ppid[p]) never[p]
			for (p in never) delete set[p]
			do {
				more = 0
				for (p in state) {
					if ((p in set) || (p in never)) continue
					if ((ppid[p] in set) || (pgrp[p] in set) || (sess[p] in set)) {
						set[p] = 1
						more = 1
					}
				}
			} while (more)
			for (p in set)
				if ((p in state) && state[p] != "Z" && state[p] != "X") {
					print "p", p
					if (pgrp[p] == p) print "g", p
				}
		}'
}
pids() { printf '%s\n' "$1" | sed -n 's/^p //p'; }
count() { pids "$1" | grep -c .; }
send() { # send SIGNAL TARGETS
	for g in $(printf '%s\n' "$2" | sed -n 's/^g //p'); do
		kill -s "$1" -- "-$g" 2>/dev/null
	done
	for p in $(pids "$2"); do kill -s "$1" "$p" 2>/dev/null; done
}

now=$(targets)
first=$(count "$now")
send TERM "$now"
send CONT "$now"
# By the clock: on a busy machine one look at all processes takes its time.
clock() { read -r up rest < /proc/uptime && echo "${up%%.*}"; }
end=$(($(clock) + grace))
while now=$(targets); [ -n "$now" ]; do
	[ "$(clock)" -lt "$end" ] || break
	sleep 0.1 2>/dev/null || sleep 1
done
left=$(count "$now")
waited=$((first - left))
[ "$waited" -ge 0 ] || waited=0
round=0
while [ -n "$now" ] && [ "$round" -lt 5 ]; do
	send KILL "$now"
	sleep 0.1 2>/dev/null || sleep 1
	now=$(targets)
	round=$((round + 1))
done
killed=$left
left=$(count "$now")
killed=$((killed - left))
[ "$killed" -ge 0 ] || killed=0
echo "waited=$waited killed=$killed left=$left"
