#!/bin/sh
# The line between client and server drops everything without a word: see
# tests/lib/ssh_halfopen.lua.
set -eu
servers=$(dirname "${HGAUTO:?}")/servers
skip() {
	echo "1..0 # SKIP $1"
	exit
}
[ "$(id -u)" = 0 ] || skip "needs root"
[ -x "$servers/delay" ] || skip "needs servers/delay (make tests-build)"
rc=0
"$servers/delay" 1 hgfar 10.99.79.1 hgnear 10.99.79.2 -- \
	"$HGAUTO" test tests/lib/ssh_halfopen.lua || rc=$?
[ $rc != 77 ] || skip "needs /dev/net/tun and network namespaces"
exit $rc
