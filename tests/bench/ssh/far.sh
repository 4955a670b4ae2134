#!/bin/sh
# Part of bench-ssh: a line of 80 ms (tests/servers/delay.c), no loss.
# FAR_SIZE: MiB moved (128), FAR_ROUNDS (3).
set -eu
# shellcheck source=tests/bench/ssh/lib.sh
. tests/bench/ssh/lib.sh
need_root bench-ssh-far
if [ -z "${HGAUTO_NS1:-}" ]; then
	exec "$servers/delay" 40 hgfar 10.99.78.1 hgnear 10.99.78.2 -- sh "$0"
fi
SIZE=${FAR_SIZE:-128}
ROUNDS=${FAR_ROUNDS:-3}
HOST=10.99.78.1
server_in="nsenter --net=$HGAUTO_NS1"
for ns in "" "$server_in"; do
	$ns sh -c 'cd /proc/sys/net/ipv4
		for c in cubic reno; do
			grep -qw $c tcp_allowed_congestion_control || continue
			echo $c > tcp_congestion_control
			break
		done
		echo "4096 6291456 6291456" > tcp_rmem
		echo "4096 16384 4194304" > tcp_wmem
		echo 0 > tcp_slow_start_after_idle'
done
bench_start 2g
head -c "${SIZE}M" /dev/urandom > "$DIR/big"
make_small
r=0
while [ $r -lt "$ROUNDS" ]; do
	if wanted get; then
		PARALLEL=1 ours get1 get
		theirs get1 sftp -q -F "$DIR/conf" "$HOST:$DIR/big" "$DIR/out3"
		PARALLEL=2 ours get2 get
		same "$DIR/big" "$DIR/out1"
	fi
	if wanted put; then
		PARALLEL=1 ours put1 put
		printf 'put %s %s\n' "$DIR/big" "$DIR/out4" > "$DIR/batch"
		theirs put1 sftp -q -F "$DIR/conf" -b "$DIR/batch" $HOST
		PARALLEL=4 ours put4 put
		same "$DIR/big" "$DIR/out2"
	fi
	if wanted small; then
		rm -rf "$DIR/small2" "$DIR/small3" "$DIR"/out?
		mkdir "$DIR/small3"
		PARALLEL=1 ours small small
		theirs small sh -c "tar -C $DIR -cf - small | ssh -F $DIR/conf $HOST 'tar -C $DIR/small3 -xf -'"
	fi
	if wanted true; then
		ours true none
		theirs true ssh -F "$DIR/conf" $HOST true
	fi
	rm -f "$DIR"/out?
	r=$((r + 1))
done
! [ -f "$DIR/get1.theirs" ] || cp "$DIR/get1.theirs" "$DIR/get2.theirs"
! [ -f "$DIR/put1.theirs" ] || cp "$DIR/put1.theirs" "$DIR/put4.theirs"
echo "# 80 ms, $(cat /proc/sys/net/ipv4/tcp_congestion_control), $SIZE MiB with login: get1, put1 one session; get2 two sessions, put4 four channels; theirs: sftp"
compare get1 "$SIZE" 0.80
compare get2 "$SIZE" 0.588
compare put1 "$SIZE" 1.0
compare put4 "$SIZE" 0.80
echo "# 1000 files of 4 KiB, theirs: tar | ssh; login and 'true', theirs: ssh"
compare small 0 1.3
at_most small.op 2.5
compare true 0 0.8
at_most true.ours 0.92 # 11.5 round trips
exit $missed
