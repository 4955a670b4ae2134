#!/bin/sh
# bench-ssh: our client against others: same server, same cipher, rounds
# interleaved, all in one run.  Prints for each case the median of the paired
# ratios (ours / theirs) of wall and processor time of the whole client, and
# judges the bars: exit 1 when one is missed.
# Parts: near (loopback), far (a line of 80 ms: ssh/far.sh) and fan (many
# hosts: ssh/fan.sh).  SIZE: MiB moved (512), ROUNDS (4), PARTS="near far fan",
# CASES: only these of near ("get put out in small true execs"), far ("get put
# small true") and fan (names of peers, "many").
set -eu
PARTS=${PARTS:-near far fan}
for part in $PARTS; do
	case $part in near | far | fan) ;; *)
		echo "bench-ssh: PARTS: $part is none of near, far, fan" >&2
		exit 2
		;;
	esac
done
# shellcheck source=tests/bench/ssh/lib.sh
. tests/bench/ssh/lib.sh
case " $PARTS " in *" far "*) sh tests/bench/ssh/far.sh || missed=1 ;; esac
case " $PARTS " in *" fan "*) sh tests/bench/ssh/fan.sh || missed=1 ;; esac
case " $PARTS " in *" near "*) ;; *) exit $missed ;; esac
SIZE=${SIZE:-512}
ROUNDS=${ROUNDS:-4}
need_root bench-ssh
bench_start 4g
head -c "${SIZE}M" /dev/urandom > "$DIR/big"
make_small
r=0
while [ $r -lt "$ROUNDS" ]; do
	if wanted get; then
		warm $((2 * SIZE))
		ours get get
		theirs get sftp -q -F "$DIR/conf" "127.0.0.1:$DIR/big" "$DIR/out3"
		same "$DIR/big" "$DIR/out1"
	fi
	if wanted put; then
		warm $((2 * SIZE))
		ours put put
		printf 'put %s %s\n' "$DIR/big" "$DIR/out4" > "$DIR/batch"
		theirs put sftp -q -F "$DIR/conf" -b "$DIR/batch" 127.0.0.1
		same "$DIR/big" "$DIR/out2"
	fi
	if wanted out; then
		ours out out
		theirs out ssh -F "$DIR/conf" 127.0.0.1 "cat $DIR/big"
	fi
	if wanted in; then
		ours in in
		theirs in sh -c "ssh -F $DIR/conf 127.0.0.1 'cat >/dev/null' < $DIR/big"
	fi
	if wanted small; then
		rm -rf "$DIR/small2" "$DIR/small3"
		mkdir "$DIR/small3"
		ours small small
		printf 'put -r %s/small %s/small3\n' "$DIR" "$DIR" > "$DIR/batch"
		theirs small sftp -q -F "$DIR/conf" -b "$DIR/batch" 127.0.0.1
	fi
	if wanted true; then
		ours true none
		theirs true ssh -F "$DIR/conf" 127.0.0.1 true
	fi
	rm -f "$DIR"/out?
	r=$((r + 1))
done
echo "# loopback, $SIZE MiB, 1000 files of 4 KiB, login and 'true'; theirs: sftp, ssh"
compare get "$SIZE" 0.556 0.40
compare put "$SIZE" 0.91 0.70
compare out "$SIZE" 0.8 1.0
compare in "$SIZE" 1.1
compare small 0 0.35
compare true
wanted execs || exit $missed
# Commands on an open session: 1000 of ours less login and start, 100 through
# OpenSSH's ControlMaster.  Theirs is one process a command; the master's own
# work for them is counted, too.
ssh -F "$DIR/conf" -o ControlMaster=yes -o ControlPath="$DIR/cm" -N -f 127.0.0.1
master=$(pgrep -n -f "ControlPath=$DIR/cm -N")
nanoseconds() { cut -d ' ' -f 1 "/proc/$master/schedstat"; }
r=0
while [ $r -lt "$ROUNDS" ]; do
	ours execs execs
	ours idle login
	before=$(nanoseconds)
	theirs execs sh -c "i=0; while [ \$i -lt 100 ]; do ssh -F $DIR/conf -o ControlPath=$DIR/cm 127.0.0.1 true; i=\$((i+1)); done"
	echo $(($(nanoseconds) - before)) >> "$DIR/execs.master"
	r=$((r + 1))
done
ssh -F "$DIR/conf" -o ControlPath="$DIR/cm" -O exit 127.0.0.1 2>/dev/null
# In seconds for 100 commands, as compare takes it.
paste "$DIR/execs.ours" "$DIR/idle.ours" "$DIR/execs.op" | awk '{ print $5 / 10, ($2 - $4) / 10 }' > "$DIR/exec100.ours"
paste "$DIR/execs.theirs" "$DIR/execs.master" | awk '{ print $1, $2 + $3 / 1e9 }' > "$DIR/exec100.theirs"
echo "# 100 commands on an open session; theirs: ssh with a ControlMaster"
compare exec100 0 0.4 0.02
exit $missed
