#!/bin/sh
# Everything that reads the sources without running them; silent when clean.
set -eu
rc=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
step() { # step NAME COMMAND...: output only on failure
	name=$1
	shift
	if ! "$@" > "$tmp/out" 2>&1; then
		echo "== lint: $name"
		head -n 80 "$tmp/out"
		rc=1
	fi
}
c_files() { find core bindings tests -name '*.c' -o -name '*.h' | LC_ALL=C sort; }
check_format() {
	command -v clang-format >/dev/null || return 0
	# shellcheck disable=SC2046
	clang-format --dry-run -Werror $(c_files)
}
check_lua() {
	for f in $(find scripts tests -name '*.lua'); do luac5.4 -p "$f" || return 1; done
	luacheck -q --codes scripts tests
}
check_sh() {
	# shellcheck disable=SC2046
	shellcheck \
		$(find scripts vendor core tests -name '*.sh') .ci/run
	for f in tests/*/*.t; do
		[ -f "$f" ] || continue
		case $(head -n 1 "$f") in *sh*) shellcheck -s sh "$f" || return 1 ;; esac
	done
}
check_ps() {
	lua5.4 tests/tools/pscheck/pscheck.lua --style scripts/windows/*.ps1
}
# The same once more by a grammar that is not ours, where npm has it.
check_grammar() {
	node tests/tools/pscheck/grammar.mjs "$modules" scripts/windows/*.ps1
}
werror() { # werror CC
	make -s --no-print-directory WERROR=1 CC="$1" BUILD="$BUILD/lint-$1" DEPS=no \
		-j"$(nproc)" all tests-build
}
analyze() {
	inc="-Icore -iquote bindings -I/usr/include/lua5.4 $(sed -n 's/^SSH2_CPPFLAGS := //p' "$BUILD/vendor/vendor.mk")"
	find core -name '*.c' | xargs -P "$(nproc)" -I {} \
		gcc -std=c11 -D_GNU_SOURCE -DHGA_VERSION='"0"' -O1 -fanalyzer -Wall -Wextra \
		-Wno-analyzer-too-complex $inc -S -o /dev/null {} > "$tmp/analyze" 2>&1 || return 1
	if grep -q 'warning:' "$tmp/analyze"; then
		cat "$tmp/analyze"
		return 1
	fi
}
check_cppcheck() {
	cppcheck -q --error-exitcode=1 --inline-suppr --std=c11 -Icore -Ibindings \
		--enable=warning,portability --suppress=missingIncludeSystem \
		--suppress='*:*/build/*' core bindings
}
check_tidy() {
	inc="-Icore -iquote bindings -I/usr/include/lua5.4 $(sed -n 's/^SSH2_CPPFLAGS := //p' "$BUILD/vendor/vendor.mk")"
	# One source a run: with several, its va_list checker takes one for another.
	find core bindings -name '*.c' | xargs -P "$(nproc)" -I {} \
		clang-tidy --quiet {} -- -std=c11 -D_GNU_SOURCE -DHGA_VERSION='"0"' \
		-DHGA_READLINE $inc > "$tmp/tidy" 2>/dev/null || true
	if grep -q 'warning:\|error:' "$tmp/tidy"; then
		cat "$tmp/tidy"
		return 1
	fi
}
step format check_format
step layers sh tests/tools/layers.sh
step shell check_sh
step lua check_lua
step powershell check_ps
if modules=$(sh tests/tools/pscheck/install.sh "$BUILD/pscheck" 2> "$tmp/npm"); then
	step "powershell grammar" check_grammar
else
	echo "lint: SKIP PowerShell's grammar: $(tail -n 1 "$tmp/npm")"
fi
step gcc werror gcc
step clang werror clang
step symbols sh tests/tools/layers.sh "$BUILD/lint-gcc/release"
step analyzer analyze
step cppcheck check_cppcheck
step clang-tidy check_tidy
exit $rc
