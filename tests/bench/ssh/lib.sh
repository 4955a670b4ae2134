# shellcheck shell=sh
# Sourced by ssh*.sh: a server, OpenSSH's configuration, paired medians.
# Variables: DIR, PORT, HOST; hgauto, cpu (programs); missed.
# shellcheck disable=SC2034 # those who source this exit with missed
o=${BUILD:-build}/${MODE:-release}
hgauto=$(cd "$o" && pwd)/hgauto
cpu=$(cd "$o/bench" && pwd)/cpu
servers=$(cd "$o/servers" && pwd) # of far.sh
export servers
HOST=${HOST:-127.0.0.1}
pid=
missed=0 # 1: a bar was missed; the exit code

need_root() { # need_root NAME
	if [ "$(id -u)" != 0 ] || ! PATH=$PATH:/usr/sbin command -v sshd >/dev/null; then
		echo "$1: SKIP needs root and openssh-server"
		exit
	fi
}

wanted() { # wanted CASE: all are without CASES
	case " ${CASES:-$1} " in *" $1 "*) ;; *) return 1 ;; esac
}

same() {
	cmp -s "$1" "$2" || {
		echo "bench-ssh: data differ"
		exit 1
	}
}

bench_start() { # bench_start SIZE_OF_TMPFS [LINE of sshd_config...]
	size=$1
	shift
	DIR=$(mktemp -d /tmp/hgauto-bench.XXXXXX)
	trap bench_end EXIT
	trap 'exit 130' INT TERM
	mount -t tmpfs -o size="$size" tmpfs "$DIR" 2>/dev/null || echo "# files are not on tmpfs"
	sh tests/servers/sshd.sh "$DIR" setup
	PORT=$((20000 + $$ % 30000))
	export DIR PORT HOST BENCH PARALLEL N LIMIT
	LISTEN=$HOST $server_in sh tests/servers/sshd.sh "$DIR" run $PORT "LogLevel ERROR" "$@" &
	pid=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.3
		ssh-keyscan -p $PORT "${PROBE:-$HOST}" >/dev/null 2>&1 && break
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
}
server_in=

bench_end() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	# A server that still ends may hold it.
	umount "$DIR" 2>/dev/null || umount -l "$DIR" 2>/dev/null || true
	rm -rf "$DIR"
}

make_small() { # 1000 files of 4 KiB
	mkdir "$DIR/small"
	i=0
	while [ $i -lt 1000 ]; do
		head -c 4096 "$DIR/big" > "$DIR/small/f$i"
		i=$((i + 1))
	done
}

# ours NAME CASE: wall and CPU of the program into NAME.ours, seconds of the
# operation alone into NAME.op
ours() {
	BENCH=$2 "$cpu" "$hgauto" test tests/bench/ssh.lua 3>>"$DIR/$1.ours" 2>>"$DIR/$1.op" >"$DIR/log" || {
		cat "$DIR/log" "$DIR/$1.op"
		exit 1
	}
}

theirs() { # theirs NAME COMMAND...
	name=$1
	shift
	"$cpu" "$@" 3>>"$DIR/$name.theirs" >/dev/null
}

# warm MiB: takes so much memory of tmpfs and gives it back: a virtual machine
# pays for memory that was never used, and whoever comes first would pay more.
warm() {
	head -c "$1M" /dev/zero > "$DIR/warm"
	rm "$DIR/warm"
}

# Of awk programs: whether a value is at most its bar (0: there is none), and
# the median of v[1] to v[n].
judge='
	function bar(value, most) {
		if (most == 0)
			return ""
		if (value > most)
			bad = 1
		return sprintf(" (bar %.5g %s)", most, value > most ? "MISSED" : "met")
	}
	function median(v, n,   i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j] < v[j - 1]; j--) {
				t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
			}
		return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
	}'

# compare NAME [MiB [WALL [CPU]]]: median of the paired ratios, and their bars
compare() {
	[ -f "$DIR/$1.ours" ] || return 0
	paste "$DIR/$1.ours" "$DIR/$1.theirs" | awk -v c="$1" -v mib="${2:-0}" -v wall="${3:-0}" -v proc="${4:-0}" "$judge"'
	{ n++; w[n] = $1 / $3; p[n] = $2 / ($4 > 0 ? $4 : 0.001); ow[n] = $1; oc[n] = $2; tw[n] = $3; tc[n] = $4 }
	END {
		printf "# %-12s wall %.2f%s cpu %.3g%s  (ours %.3f s, %.3g s cpu; theirs %.3f, %.3f",
			c, median(w, n), bar(median(w, n), wall), median(p, n), bar(median(p, n), proc),
			median(ow, n), median(oc, n), median(tw, n), median(tc, n)
		if (mib > 0)
			printf "; %.0f and %.0f MiB/s", mib / median(ow, n), mib / median(tw, n)
		print ")"
		exit bad
	}' || missed=1
}

# at_most FILE SECONDS: median of what ours has put into it: NAME.ours or NAME.op
at_most() {
	[ -f "$DIR/$1" ] || return 0
	awk -v c="$1" -v most="$2" "$judge"'
	NF { v[++n] = $1 }
	END {
		m = median(v, n)
		printf "# %-12s %.3f s%s\n", c, m, bar(m, most)
		exit bad
	}' "$DIR/$1" || missed=1
}
