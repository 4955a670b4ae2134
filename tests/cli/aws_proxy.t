#!/bin/sh
# Proxies of AWS calls: which requests go through one, which never do, and that
# its password stays out of sight; --trace.  Runs in a network of its own where
# nothing but loopback exists.
if [ "$1" != inside ]; then
	if ! unshare -n true 2> /dev/null || ! command -v python3 > /dev/null ||
		! command -v ip > /dev/null; then
		echo "1..0 # SKIP needs unshare -n, ip and python3"
		exit 0
	fi
	exec unshare -n sh "$0" inside
fi

tmp=$(mktemp -d) || exit 1
server=
trap 'test -n "$server" && kill "$server"; rm -rf "$tmp"' EXIT
ip link set lo up || exit 1
n=0
failed=0
hgauto=${HGAUTO:?}

ok() { # STATUS NAME
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		failed=1
		sed 's/^/# /' "$tmp/log" "$tmp/out"
	fi
}

cat > "$tmp/server.py" << 'PY'
"""Logs the first line of each request and what it says of a login."""
import socket
import sys
import threading

log = open(sys.argv[1], "a", buffering=1, encoding="utf-8")
ANSWER = b"<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>"


def serve(c):
    data = b""
    while b"\r\n\r\n" not in data:
        part = c.recv(65536)
        if not part:
            return
        data += part
    head = data.split(b"\r\n\r\n")[0].decode()
    login = [x for x in head.split("\r\n") if x.lower().startswith("proxy-auth")]
    log.write(" ".join([head.split("\r\n")[0]] + login) + "\n")
    if head.startswith("CONNECT "):
        c.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
    else:
        c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER)
    c.close()


s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
PY
: > "$tmp/log"
python3 "$tmp/server.py" "$tmp/log" > "$tmp/port" &
server=$!
for _ in $(seq 200); do
	test -s "$tmp/port" && break
	sleep 0.05
done
port=$(cat "$tmp/port")

cat > "$tmp/call.lua" << 'LUA'
return function()
  local aws = require "hgauto.aws"
  local ok, err = pcall(function()
    return aws.client("ec2", { max_attempts = 1, timeout = 20 }):describe_regions {}
  end)
  print(ok and "answered" or tostring(err))
end
LUA

# One call with these variables and options; what was asked is in $tmp/log.
call() {
	: > "$tmp/log"
	env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u no_proxy -u NO_PROXY \
		-u all_proxy -u ALL_PROXY HOME="$tmp" AWS_REGION=us-west-2 AWS_EC2_METADATA_DISABLED=true \
		AWS_ACCESS_KEY_ID=AKIDEXAMPLE00001 AWS_SECRET_ACCESS_KEY=canary-secret "$@" \
		> "$tmp/out" 2>&1
}

run() { # VARIABLES...
	call "$@" "$hgauto" run -v --trace "$tmp/trace" --state-path "$tmp/state" "$tmp/call.lua"
}

via="CONNECT ec2.us-west-2.amazonaws.com:443"
for name in HTTPS_PROXY https_proxy ALL_PROXY; do
	run $name="http://127.0.0.1:$port"
	grep -q "^$via" "$tmp/log"
	ok $? "$name: the call goes through it"
done
grep -qi proxy "$tmp/out"
ok $? "the error speaks of the proxy"
for name in NO_PROXY no_proxy; do
	run HTTPS_PROXY="http://127.0.0.1:$port" $name=.amazonaws.com
	test ! -s "$tmp/log"
	ok $? "$name: not to hosts that it names"
done
run HTTPS_PROXY="http://127.0.0.1:$port" NO_PROXY=example.com
grep -q "^$via" "$tmp/log"
ok $? "NO_PROXY: to all others it does"

run HTTP_PROXY=http://127.0.0.1:9 http_proxy=http://127.0.0.1:9 \
	AWS_ENDPOINT_URL="http://127.0.0.1:$port"
grep -q '^POST / ' "$tmp/log" && grep -q answered "$tmp/out"
ok $? "never to a loopback address"
run http_proxy="http://127.0.0.1:$port" HTTP_PROXY="http://127.0.0.1:$port" \
	ALL_PROXY="http://127.0.0.1:$port" AWS_EC2_METADATA_DISABLED=false AWS_ACCESS_KEY_ID=
test ! -s "$tmp/log" && grep -q 'locate credentials' "$tmp/out"
ok $? "never to the metadata service"
run ALL_PROXY="http://127.0.0.1:$port" AWS_ACCESS_KEY_ID= \
	AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x
test ! -s "$tmp/log"
ok $? "never to a container's address"

rm -f "$tmp/trace"
run HTTPS_PROXY="http://user:canary-proxy@127.0.0.1:$port"
grep -q "Proxy-Authorization: Basic dXNlcjpjYW5hcnktcHJveHk=" "$tmp/log"
ok $? "the proxy gets its password"
test -s "$tmp/trace" && grep -q 'DescribeRegions' "$tmp/trace"
ok $? "--trace: the request is in the file"
test "$(stat -c %a "$tmp/trace")" = 600
ok $? "which is for its owner alone"
! grep -rq -e canary -e dXNlcjpjYW5hcnktcHJveHk "$tmp/out" "$tmp/trace" "$tmp/state"
ok $? "no password or secret in it, on the screen, or in the record"
run AWS_ENDPOINT_URL="http://user:canary-user@127.0.0.1:$port"
! grep -q canary "$tmp/out" "$tmp/trace"
ok $? "nor that of an endpoint's URL"
run HTTPS_PROXY="http://user:canary-proxy@127.0.0.1:1"
! grep -q canary "$tmp/out" "$tmp/trace"
ok $? "nor that of a proxy that is not there"
call HTTPS_PROXY="http://user:canary-proxy@127.0.0.1:1" "$hgauto" run --trace "$tmp/none/x" \
	--state-path "$tmp/state" "$tmp/call.lua"
status=$?
test $status -eq 2 -o $status -eq 1 && grep -q "none/x" "$tmp/out"
ok $? "a trace file that cannot be made is an error"

echo "1..$n"
exit $failed
