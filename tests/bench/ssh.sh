#!/bin/sh
# bench-ssh: our client against OpenSSH's ssh and sftp: same server, same
# cipher, rounds interleaved, all in one run.  Prints for each case the median
# of the paired ratios (ours / theirs) of wall and processor time.
# SIZE: MiB moved (512), ROUNDS (5).
set -eu
o=${BUILD:-build}/${MODE:-release}
hgauto=$(cd "$o" && pwd)/hgauto
cpu=$(cd "$o/bench" && pwd)/cpu
SIZE=${SIZE:-512}
ROUNDS=${ROUNDS:-5}
if [ "$(id -u)" != 0 ] || ! PATH=$PATH:/usr/sbin command -v sshd >/dev/null; then
	echo "bench-ssh: SKIP needs root and openssh-server"
	exit
fi
DIR=$(mktemp -d /tmp/hgauto-bench.XXXXXX)
pid=
cleanup() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	umount "$DIR" 2>/dev/null || true
	rm -rf "$DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mount -t tmpfs -o size=4g tmpfs "$DIR" 2>/dev/null || echo "bench-ssh: files are not on tmpfs"
sh tests/servers/sshd.sh "$DIR" setup
PORT=$((20000 + $$ % 30000))
export DIR PORT BENCH
sh tests/servers/sshd.sh "$DIR" run $PORT "LogLevel ERROR" &
pid=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
	sleep 0.2
	ssh-keyscan -p $PORT 127.0.0.1 >/dev/null 2>&1 && break
done
cat > "$DIR/conf" <<END
Host *
  User root
  Port $PORT
  IdentityFile $DIR/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile $DIR/known
  StrictHostKeyChecking no
  LogLevel ERROR
  Ciphers aes128-gcm@openssh.com
END
head -c "${SIZE}M" /dev/urandom > "$DIR/big"
mkdir "$DIR/small"
i=0
while [ $i -lt 1000 ]; do
	head -c 4096 "$DIR/big" > "$DIR/small/f$i"
	i=$((i + 1))
done

ours() { BENCH=$1 "$cpu" "$hgauto" test tests/bench/ssh.lua 3>>"$DIR/$1.ours" >/dev/null; }
theirs() { # theirs CASE COMMAND...
	name=$1
	shift
	"$cpu" "$@" 3>>"$DIR/$name.theirs" >/dev/null
}
r=0
while [ $r -lt "$ROUNDS" ]; do
	ours get
	theirs get sftp -q -F "$DIR/conf" "127.0.0.1:$DIR/big" "$DIR/out3"
	ours put
	printf 'put %s %s\n' "$DIR/big" "$DIR/out4" > "$DIR/batch"
	theirs put sftp -q -F "$DIR/conf" -b "$DIR/batch" 127.0.0.1
	ours out
	theirs out ssh -F "$DIR/conf" 127.0.0.1 "cat $DIR/big"
	ours in
	theirs in sh -c "ssh -F $DIR/conf 127.0.0.1 'cat >/dev/null' < $DIR/big"
	rm -rf "$DIR/small2" "$DIR/small3"
	mkdir "$DIR/small3"
	ours small
	printf 'put -r %s/small %s/small3\n' "$DIR" "$DIR" > "$DIR/batch"
	theirs small sftp -q -F "$DIR/conf" -b "$DIR/batch" 127.0.0.1
	ours none
	theirs none ssh -F "$DIR/conf" 127.0.0.1 true
	if ! cmp -s "$DIR/big" "$DIR/out1" || ! cmp -s "$DIR/big" "$DIR/out2"; then
		echo "bench-ssh: data differ"
		exit 1
	fi
	rm -f "$DIR"/out?
	r=$((r + 1))
done
for c in get put out in small none; do
	paste "$DIR/$c.ours" "$DIR/$c.theirs" | awk -v c=$c '
		function median(v, n,   i, j, t) {
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && v[j] < v[j - 1]; j--) {
					t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
				}
			return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
		}
		{ n++; w[n] = $1 / $3; p[n] = $2 / $4; ow[n] = $1; oc[n] = $2; tw[n] = $3; tc[n] = $4 }
		END { printf "# ssh %-6s wall %.2f cpu %.2f  (ours %.3f s, %.3f s cpu; OpenSSH %.3f, %.3f)\n",
			c, median(w, n), median(p, n), median(ow, n), median(oc, n), median(tw, n), median(tc, n) }'
done
BENCH=execs "$cpu" "$hgauto" test tests/bench/ssh.lua 3>"$DIR/x" 2>"$DIR/y" >/dev/null
ssh -F "$DIR/conf" -o ControlMaster=yes -o ControlPath="$DIR/cm" -N -f 127.0.0.1
"$cpu" sh -c "i=0; while [ \$i -lt 200 ]; do ssh -F $DIR/conf -o ControlPath=$DIR/cm 127.0.0.1 true; i=\$((i+1)); done" 3>"$DIR/z"
ssh -F "$DIR/conf" -o ControlPath="$DIR/cm" -O exit 127.0.0.1 2>/dev/null
paste "$DIR/x" "$DIR/y" "$DIR/z" | awk '{ printf "# ssh exec on an open session: %.2f ms (wall ratio %.2f to ControlMaster), %.2f ms cpu each\n", $3 * 1000, $3 / ($4 / 200), $2 / 200 * 1000 }'
