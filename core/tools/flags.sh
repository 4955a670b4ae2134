#!/bin/sh
# Prints MODE_* and HARDEN_* for the Makefile: each hardening flag is tried
# once with the compiler, since compilers differ in what they know.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo 'int main(void) { return 0; }' > "$tmp/t.c"

try() { # flags: accepted without a warning
	# shellcheck disable=SC2086
	"$CC" -Werror $1 -o "$tmp/t" "$tmp/t.c" >/dev/null 2>&1
}

cflags= ldflags=
case $MODE in
release) mode='-O2 -g' ;;
debug) mode='-O0 -g3 -DHGA_DEBUG' ;;
asan) mode='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined
	-fno-sanitize-recover=all' ;;
torture) mode='-O0 -g3 -DHGA_DEBUG -DHGA_TORTURE' ;;
fuzz) mode='-O1 -g -fno-omit-frame-pointer
	-fsanitize=address,undefined,fuzzer-no-link
	-fno-sanitize-recover=all' ;;
cov) mode='-O0 -g --coverage' ;;
*)
	echo "unknown MODE=$MODE (release debug asan torture fuzz cov)" >&2
	exit 1
	;;
esac
case $MODE in
release)
	for f in '-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3' \
		-fstack-protector-strong -fstack-clash-protection \
		-fcf-protection -ftrivial-auto-var-init=zero \
		-fzero-call-used-regs=used-gpr; do
		if try "-O2 $f"; then cflags="$cflags $f"; fi
	done
	;;
esac
for f in -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack; do
	if try "$f"; then ldflags="$ldflags $f"; fi
done
# shellcheck disable=SC2086
mode=$(echo $mode)
echo "MODE_CFLAGS := $mode"
case $MODE in
asan | fuzz) echo "MODE_LDFLAGS := -fsanitize=address,undefined" ;;
cov) echo "MODE_LDFLAGS := --coverage" ;;
*) echo "MODE_LDFLAGS :=" ;;
esac
[ "$MODE" = fuzz ] && echo "FUZZ_LDFLAGS := -fsanitize=fuzzer"
echo "HARDEN_CFLAGS := -fPIE$cflags"
echo "HARDEN_LDFLAGS := -pie$ldflags"
printf '#include <zlib.h>\nint main(void) { return zlibVersion() == 0; }\n' > "$tmp/z.c"
if [ "${ZLIB:-auto}" != no ] &&
	"$CC" -o "$tmp/z" "$tmp/z.c" -lz >/dev/null 2>&1; then
	echo "ZLIB_CPPFLAGS := -DHGA_ZLIB"
	echo "ZLIB_LIBS := -lz"
elif [ "${ZLIB:-auto}" = yes ]; then
	echo "ZLIB=yes, but zlib is not installed (zlib1g-dev)" >&2
	exit 1
fi
printf '#include <stdio.h>\n#include <readline/readline.h>\nint main(void) { return rl_readline_version < 0x0800; }\n' \
	> "$tmp/r.c"
if [ "${READLINE:-auto}" != no ] &&
	"$CC" -o "$tmp/r" "$tmp/r.c" -lreadline >/dev/null 2>&1; then
	echo "READLINE_CPPFLAGS := -DHGA_READLINE"
	echo "READLINE_LIBS := -lreadline"
elif [ "${READLINE:-auto}" = yes ]; then
	echo "READLINE=yes, but readline >= 8.0 is not installed (libreadline-dev)" >&2
	exit 1
fi
