#!/bin/sh
# Runs the suite with prove; ends with counts and the SKIPs by reason.
# Environment: BUILD, MODE, TESTS (glob of files), SLOW=1 (also tests/slow).
set -eu
o=$BUILD/$MODE
HGAUTO=$(realpath "$o/hgauto")
export HGAUTO
HGAUTO_VECTORS=${HGAUTO_VECTORS:-$(pwd)/../shared/vectors}
export HGAUTO_VECTORS
case $HGAUTO_VECTORS in /*) ;; *) HGAUTO_VECTORS=$(pwd)/$HGAUTO_VECTORS ;; esac
# Nothing of the caller's account or home may leak into a test.
unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY \
	AWS_SESSION_TOKEN AWS_REGION AWS_DEFAULT_REGION AWS_ENDPOINT_URL \
	HGAUTO_STATE HGAUTO_SCRIPTS HGAUTO_SOURCE LUA_INIT LUA_PATH LUA_CPATH \
	SSH_AUTH_SOCK HGAUTO_LOCAL 2>/dev/null || true
export AWS_EC2_METADATA_DISABLED=true ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}
# Base images of the local cloud, if this user has built any.
HGAUTO_TEST_IMAGES=${HGAUTO_TEST_IMAGES:-$HOME/.hgautomation/local/images}
export HGAUTO_TEST_IMAGES
tmp=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-check.XXXXXX")
# Other users of test servers pass through; nothing of it is listed to them.
chmod 711 "$tmp"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
export TMPDIR="$tmp" HOME="$tmp/home" HGAUTO_TEST_TOP="$tmp"
mkdir -p "$HOME"

if [ -n "${TESTS:-}" ]; then
	set --
	for t in $TESTS; do
		case $t in
		tests/unit/*.c | tests/vectors/*.c | tests/fuzz/*.c)
			b=${t#tests/}
			set -- "$@" "$o/${b%.c}"
			;;
		*) set -- "$@" "$t" ;;
		esac
	done
else
	set --
	for t in "$o"/unit/* "$o"/vectors/* "$o"/fuzz/* tests/lua/*.lua \
		tests/cli/*.t tests/cli/*.lua tests/tty/*.py tests/security/*.t \
		tests/peers/*.t tests/peers/*.lua tests/peers/*.py \
		tests/localcloud/*.lua tests/localcloud/*.t; do
		case $t in *.d | *'*'*) continue ;; esac
		[ -f "$t" ] && set -- "$@" "$t"
	done
	if [ -n "${SLOW:-}" ]; then
		for t in tests/slow/*; do
			[ -f "$t" ] && set -- "$@" "$t"
		done
	fi
fi
[ $# -gt 0 ] || {
	echo "check: no test matches TESTS=$TESTS" >&2
	exit 1
}
sh tests/tools/leftovers.sh before "$tmp/before"
rc=0
prove -j"${JOBS:-2}" --timer --merge -v --exec 'sh tests/tools/run-one.sh' "$@" > "$tmp/log" 2>&1 || rc=$?
grep -E '^# aws |^# winrm |^# slow ' "$tmp/log" || true
# Failures with their diagnostics, then prove's own summary.
awk '/^not ok/ && !/# TODO/ { print; p = 1; next } p && /^#/ { print; next } { p = 0 }' "$tmp/log"
sed -n '/^Test Summary Report/,$p' "$tmp/log" | head -n 60
grep -h '# SKIP' "$tmp/log" | sed 's/.*# SKIP[: ]*//' | LC_ALL=C sort | uniq -c |
	sed 's/^ *\([0-9]*\) /skipped \1: /'
unset TMPDIR HOME HGAUTO_TEST_TOP
left=$(sh tests/tools/leftovers.sh after "$tmp/before" "$tmp")
if [ -n "$left" ]; then
	echo "left behind by the tests:"
	printf '%s\n' "$left"
	rc=1
fi
pass=$(grep -c '^ok [0-9]' "$tmp/log" || true)
skips=$(grep -c '^ok .*# SKIP' "$tmp/log" || true)
fail=$(grep -c '^not ok' "$tmp/log" || true)
[ $rc = 0 ] || cp "$tmp/log" "$o/check.log"
tail -n 3 "$tmp/log" | grep -E '^(Files|Result|All)' || true
if [ $rc != 0 ]; then
	[ "$fail" != 0 ] || fail=1
	echo "details in $o/check.log"
fi
echo "$((pass - skips)) passed, $fail failed, $skips skipped"
exit $rc
