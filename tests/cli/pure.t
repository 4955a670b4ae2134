#!/bin/sh
# What only informs opens no socket, creates and changes no file, needs no
# home, no credentials and no state directory, and starts no process.
set -u
h=${HGAUTO:?}
command -v strace > /dev/null || {
	echo "1..0 # SKIP needs strace (apt install strace)"
	exit 0
}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-pure.XXXXXX")
trap 'chmod 700 "$tmp"/*; rm -rf "$tmp"' EXIT
if ! ASAN_OPTIONS=detect_leaks=0 strace -o "$tmp/trace" true 2> "$tmp/err"; then
	echo "1..0 # SKIP strace may not trace here: $(head -n 1 "$tmp/err")"
	exit 0
fi
unset HGAUTO_LOCAL HGAUTO_STATE
umask 077
# The leak check cannot run below strace.
export ASAN_OPTIONS=detect_leaks=0
mkdir -m 500 "$tmp/home"
n=0 bad=0
ok() { # ok CONDITION NAME
	n=$((n + 1))
	if eval "$1"; then echo "ok $n - $2"; else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/err"
		bad=1
	fi
}
cat > "$tmp/mine.lua" << 'LUA'
local hg = require "hg"
local ec2 = require("hgauto.aws").client("ec2", { region = "us-west-2" })
return hg.task { help = "Mine.", args = { hg.arg.enum { name = "arch", "x86", "x64" } },
  run = function() ec2:describe_instances {} end }
LUA
# A system call that reaches out, changes something or starts a program.
reach='^[0-9 ]*(socket|socketpair|connect|bind|sendto|mkdir|mkdirat|unlink|unlinkat|rename|renameat2?|link|linkat|symlink|symlinkat|chmod|fchmod|fchmodat|chown|ftruncate|truncate|fork|vfork|clone3?|execve)\('
# libcurl's libldap looks up the user and its own settings when it is loaded,
# before our first line; `strace curl --version` shows the same.
libldap='socket\(AF_UNIX, SOCK_STREAM\|SOCK_CLOEXEC\|SOCK_NONBLOCK, 0\)|/nscd/socket"'
pure() { # pure CODE WORDS...
	code=$1
	shift
	rc=0
	( cd "$tmp" && env -i HOME="$tmp/home" PATH=/nowhere LC_ALL=C.UTF-8 ASAN_OPTIONS="$ASAN_OPTIONS" \
		${HGAUTO_SCRIPTS:+HGAUTO_SCRIPTS="$HGAUTO_SCRIPTS"} \
		"$(command -v strace)" -f -o "$tmp/trace" "$h" "$@" ) > "$tmp/out" 2> "$tmp/err" < /dev/null || rc=$?
	ok "[ $rc = $code ]" "$*: exit $code (got $rc)"
	# The first execve is strace's own.
	sed 1d "$tmp/trace" | grep -E "$reach" | grep -vE "$libldap" > "$tmp/err"
	ok '[ ! -s "$tmp/err" ]' "$*: no connection, change or process"
	grep -E 'O_(CREAT|WRONLY|RDWR|TRUNC)' "$tmp/trace" | grep -v '"/dev/null"\|/dev/tty' > "$tmp/err"
	ok '[ ! -s "$tmp/err" ]' "$*: opens nothing for writing"
	grep -E '"[^"]*/home/[^"]*"' "$tmp/trace" | grep -v 'execve\|ldaprc"' > "$tmp/err"
	ok '[ ! -s "$tmp/err" ]' "$*: does not look into the home directory"
}
pure 0 --help
pure 0 help
pure 0 help build-linux
pure 0 build-linux --help
pure 0 run --help
pure 0 run ./mine.lua --help
ok 'grep -q "arch x86|x64" "$tmp/out"' "the help of a file"
pure 0 list
pure 0 version
pure 0 --version
pure 0 local --help
pure 0 local up --help
pure 0 repl --help
pure 0 gc --help
pure 2 nonsense
pure 2 build-linux --nonsense
pure 2 build-linux --max-age 2w
ok '[ -z "$(ls -A "$tmp/home")" ]' "the home directory is empty"
echo "1..$n"
exit $bad
