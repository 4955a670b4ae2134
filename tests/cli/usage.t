# Texts and exit codes of wrong command lines; every help in its size.
h=$HGAUTO
n=0 bad=0
tmp=$(mktemp -d "${TMPDIR:-/tmp}/usage.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export HGAUTO_STATE="$tmp/state"
ok() { # ok CONDITION NAME
	n=$((n + 1))
	if eval "$1"; then echo "ok $n - $2"; else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/err"
		bad=1
	fi
}
run() { # run CODE NAME TEXT WORDS...: exit code and text on stderr
	code=$1 name=$2 text=$3
	shift 3
	rc=0
	"$h" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || rc=$?
	ok "[ $rc = $code ]" "$name: exit $code (got $rc)"
	[ -z "$text" ] || ok 'grep -qF -e "$text" "$tmp/err"' "$name: says $text"
	ok '[ "$(wc -l < "$tmp/err")" -le 5 ]' "$name: at most 5 lines"
}
run 2 "unknown command" 'hgauto: unknown command or task "buld-linux"; did you mean build-linux?' buld-linux
run 2 "unknown option" 'build-linux: unknown option --sourc' run build-linux --sourcx y
run 2 "bad duration" 'hgauto: --max-age: "2w": expected a duration such as 90s, 20m or 2h' build-linux --max-age 2w
run 2 "bad enum" 'expected one of wheel, sdist, deb, all; did you mean wheel?' build-linux weel
run 2 "missing task" 'run: missing <task>' run
run 2 "unknown local command" 'local: unknown command "stauts"; did you mean status?' local stauts
run 2 "two words, the first mistyped" 'state: unknown command "ledgr dump"; did you mean ledger dump?' state ledgr dump
run 2 "two words, the second mistyped" 'state: unknown command "ledger dmp"; did you mean ledger dump?' state ledger dmp
run 2 "two words, the second missing" 'state: ledger what? dump, check, rebuild, forget' state ledger
run 2 "no such file" 'no such task file: ./nothing.lua' run ./nothing.lua
printf 'return {\n' > "$tmp/syntax.lua"
run 2 "syntax error" "syntax.lua:" run "$tmp/syntax.lua"
printf 'local x = 1\n' > "$tmp/none.lua"
run 2 "no task" "none.lua returned no task" run "$tmp/none.lua"
printf 'os.execute("touch %s/touched")\nreturn function() end\n' "$tmp" > "$tmp/effect.lua"
run 2 "effect while loading" "while the file is loaded" run "$tmp/effect.lua"
ok '[ ! -e "$tmp/touched" ]' "the effect did not happen"
printf 'while true do end\n' > "$tmp/loop.lua"
run 2 "endless loading" "" run "$tmp/loop.lua"
printf 'local hg = require "hg"\nreturn hg.task { args = { hg.arg.flag { name = "plan" } }, run = print }\n' > "$tmp/res.lua"
run 2 "reserved option" 'option "plan" is reserved for hgauto' run "$tmp/res.lua"
rc=0
"$h" > "$tmp/out" 2> "$tmp/err" || rc=$?
ok '[ $rc = 2 ] && grep -q "^usage: hgauto" "$tmp/err"' "no command: the overview on stderr, exit 2"
for c in run list repl version help test gc local build-linux terminate-ec2-instances purge-ec2-resources; do
	rc=0
	"$h" "$c" --help > "$tmp/out" 2> "$tmp/err" || rc=$?
	ok "[ $rc = 0 ]" "$c --help: exit 0"
	ok '[ ! -s "$tmp/err" ]' "$c --help: nothing on stderr"
	ok 'head -n 1 "$tmp/out" | grep -q "^usage: hgauto $c"' "$c --help: usage line"
	ok '[ "$(wc -l < "$tmp/out")" -le 50 ]' "$c --help: short"
	"$h" help "$c" > "$tmp/out2" 2>&1
	ok 'cmp -s "$tmp/out" "$tmp/out2"' "help $c is the same"
done
"$h" version > "$tmp/out" 2> "$tmp/err"
ok 'grep -q "^hgauto [0-9]" "$tmp/out" && grep -q libssh2 "$tmp/out"' "version names its libraries"
"$h" list > "$tmp/out" 2> "$tmp/err"
ok 'grep -q "^build-linux  *Build" "$tmp/out"' "list shows build-linux"
ok '[ ! -e "$HGAUTO_STATE" ]' "none of this made a state directory"
echo "1..$n"
exit $bad
