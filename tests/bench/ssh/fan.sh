#!/bin/sh
# Part of bench-ssh: 'true' on N hosts (200), LIMIT (50) at a time: addresses
# of 127.78.0.0/16 in a network namespace, all one sshd.  A login costs that
# server some 90 ms of processor time, so wall time is compared with the floor
# (server + client CPU) / processors.  Then 500 hosts at once against the
# MaxStartups that servers come with.  CASES: only these peers ("asyncssh
# paramiko clush pssh xargs-ssh ansible") and "many".
set -eu
# shellcheck source=tests/bench/ssh/lib.sh
. tests/bench/ssh/lib.sh
need_root bench-ssh-fan
if [ -z "${HGAUTO_FAN:-}" ]; then
	HGAUTO_FAN=1 exec unshare -n sh "$0"
fi
export HGAUTO_FAN
ip link set lo up
HOST=0.0.0.0
PROBE=127.0.0.1
N=${N:-200}
LIMIT=${LIMIT:-50}
bench_start 256m "MaxStartups 10000"
HOST=127.0.0.1
i=0
while [ $i -lt "$N" ]; do
	i=$((i + 1))
	echo "127.78.$((i / 250)).$((i % 250 + 1))"
done > "$DIR/hosts"
cat > "$DIR/peer.py" <<'END'
import asyncio, sys, os
which, port, limit, d = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
hosts = open(d + "/hosts").read().split()
bad = 0
if which == "asyncssh":
    import asyncssh
    key = asyncssh.read_private_key(d + "/id_ed25519")
    pin = asyncssh.import_known_hosts("* " + open(d + "/host_ed25519.pub").read())
    async def one(h, gate):
        global bad
        async with gate:
            try:
                async with asyncssh.connect(h, port, username="root", client_keys=[key], known_hosts=pin,
                        config=None, agent_path=None, encryption_algs=["aes128-gcm@openssh.com"]) as c:
                    bad += (await c.run("true")).exit_status != 0
            except Exception as e:
                bad += 1
                print("#", e)
    async def main():
        gate = asyncio.Semaphore(limit)
        await asyncio.gather(*(one(h, gate) for h in hosts))
    asyncio.run(main())
else:
    import paramiko
    from concurrent.futures import ThreadPoolExecutor
    key = paramiko.Ed25519Key.from_private_key_file(d + "/id_ed25519")
    def one(h):
        c = paramiko.SSHClient()
        c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        c.connect(h, port, "root", pkey=key, allow_agent=False, look_for_keys=False)
        code = c.exec_command("true")[1].channel.recv_exit_status()
        c.close()
        return code
    with ThreadPoolExecutor(limit) as pool:
        bad = sum(1 for r in pool.map(one, hosts) if r)
sys.exit(bad > 0)
END
cat > "$DIR/ansible.cfg" <<END
[defaults]
forks = $LIMIT
host_key_checking = False
[ssh_connection]
ssh_args = -F $DIR/conf
END
py=/usr/bin/python3 # the one of the apt packages
server_cpu() { # ticks of sshd and its ended children
	awk '{ print $14 + $15 + $16 + $17 }' "/proc/$(server_pid)/stat"
}
server_pid() {
	pgrep -f "sshd.*-f $DIR/sshd_config" | head -1
}
have() { # have PACKAGE TEST...
	p=$1
	shift
	"$@" >/dev/null 2>&1 && return
	echo "# fan-out: SKIP $p (apt package $p)"
	return 1
}
peer() { # peer NAME COMMAND...; BAR: of ours by its CPU
	name=$1
	shift
	wanted "$name" || return 0
	"$cpu" "$@" 3>"$DIR/$name.fan" >"$DIR/$name.log" 2>&1 || echo "# $name: some hosts failed"
	paste "$DIR/$name.fan" "$DIR/ours.fan" | awk -v name="$name" -v n="$N" -v most="${BAR:-0}" "$judge"'{
		printf "# fan-out %-12s %6.2f s, %7.2f ms cpu a host: ours is 1/%.1f of its cpu%s, wall %.2f\n",
			name, $1, $2 / n * 1000, $2 / $4, bar($4 / $2, most), $3 / $1 }
		END { exit bad }' || missed=1
}
before=$(server_cpu)
BENCH=fan "$cpu" "$hgauto" test tests/bench/ssh.lua 3>"$DIR/ours.fan" 2>"$DIR/ours.op" >"$DIR/log" || cat "$DIR/log"
BENCH=idle "$cpu" "$hgauto" test tests/bench/ssh.lua 3>"$DIR/idle.fan" >/dev/null 2>&1
sleep 0.5
paste "$DIR/ours.fan" "$DIR/ours.op" "$DIR/idle.fan" | awk -v n="$N" -v limit="$LIMIT" -v ticks=$(($(server_cpu) - before)) \
	-v hz="$(getconf CLK_TCK)" -v cores="$(nproc)" "$judge"'{
	floor = (ticks / hz + $2) / cores
	kib = $5 > 6144 ? ($5 - 6144) / limit : 0
	printf "# fan-out hgauto       %6.2f s, %7.2f ms cpu a host%s (%.2f with the start of the program), %d of %d ok\n",
		$1, ($2 - $7) / n * 1000, bar(($2 - $7) / n * 1000, 3), $2 / n * 1000, $3, n
	printf "# fan-out: server %.1f ms cpu a login, wall %.2f of the floor of %.2f s%s; memory %d KiB above idle, %.0f KiB a live session beyond 6 MiB%s\n",
		ticks / hz / n * 1000, $1 / floor, floor, bar($1 / floor, 1.15), $5, kib, bar(kib, 90)
	bad = bad || $3 < n }
	END { exit bad }' || missed=1
! have python3-asyncssh $py -c "import asyncssh" || BAR=0.25 peer asyncssh $py "$DIR/peer.py" asyncssh $PORT "$LIMIT" "$DIR"
! have python3-paramiko $py -c "import paramiko" || BAR=0.333 peer paramiko $py "$DIR/peer.py" paramiko $PORT "$LIMIT" "$DIR"
! have clustershell which clush || peer clush clush -f "$LIMIT" -o "-F $DIR/conf" -w "$(paste -sd, "$DIR/hosts")" true
! have pssh which parallel-ssh || peer pssh parallel-ssh -p "$LIMIT" -h "$DIR/hosts" -x "-F $DIR/conf" true
BAR=0.0333 peer xargs-ssh xargs -P "$LIMIT" -I{} ssh -F "$DIR/conf" {} true < "$DIR/hosts"
! have ansible-core which ansible || BAR=0.01 ANSIBLE_CONFIG=$DIR/ansible.cfg peer ansible ansible all -i "$DIR/hosts" -m raw -a true
wanted many || exit $missed
kill "$pid"
wait "$pid" 2>/dev/null || true
# The key of the first server stays; the second one refuses at random.
LISTEN=0.0.0.0 sh tests/servers/sshd.sh "$DIR" run $PORT "LogLevel ERROR" "MaxStartups 10:30:100" &
pid=$!
sleep 1
N=500 LIMIT=500 BENCH=fan "$cpu" "$hgauto" test tests/bench/ssh.lua 3>"$DIR/many.fan" 2>"$DIR/many.op" >"$DIR/log" || grep -m3 '^#' "$DIR/log"
paste "$DIR/many.fan" "$DIR/many.op" | awk -v n=500 "$judge"'{
	printf "# 500 hosts at once, MaxStartups 10:30:100: %d ok with %d connections, %.1f s, %.2f s cpu, %d KiB above idle%s\n",
		$3, $4, $1, $2, $5, bar($5, 4096 + 90 * n)
	bad = bad || $3 < n }
	END { exit bad }' || missed=1
exit $missed
