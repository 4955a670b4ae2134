#!/bin/sh
# Pipes get plain text: no escape, no carriage return, whole lines; a reader
# that goes away harms nobody; results and progress do not mix.
set -u
h=${HGAUTO:?}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-pipe.XXXXXX")
unset HGAUTO_LOCAL FORCE_COLOR CLICOLOR_FORCE NO_COLOR
export HGAUTO_STATE="$tmp/state" HOME="$tmp/home" AWS_EC2_METADATA_DISABLED=true
umask 077
mkdir "$HOME"
trap '"$h" local down > /dev/null 2>&1; rm -rf "$tmp"' EXIT
n=0 bad=0
ok() { # ok CONDITION NAME
	n=$((n + 1))
	if eval "$1"; then echo "ok $n - $2"; else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/err"
		bad=1
	fi
}
# shellcheck disable=SC2034 # used by eval
esc=$(printf '\033') cr=$(printf '\r')
clean() { # clean NAME: the last out and err
	ok '! LC_ALL=C grep -q "[$esc$cr]" "$tmp/out" "$tmp/err"' "$1: no ESC, no CR"
}
rc=0
"$h" local up --api-only > "$tmp/out" 2> "$tmp/err" || rc=$?
ok '[ $rc = 0 ]' "a local cloud runs"
clean "local up"
for words in "list" "help" "help build-linux" "version" "--help" "local status" "local ls" \
	"nonsense" "run" "run $tmp/none.lua" "gc --local --dry-run"; do
	# shellcheck disable=SC2086
	"$h" $words > "$tmp/out" 2> "$tmp/err" < /dev/null
	clean "$words"
done
cat > "$tmp/noise.lua" << LUA
return function(ctx)
  ctx:log("a \27[31mred\27[0m word, \7 and \r return")
  ctx:warn("\27]0;title\7")
  ctx:step("noise \27[1m", function()
    require("hg").output.remote("vm", "stdout", "50%\r100%\27[K done \27[2J")
    require("hg").output.remote("vm", "stderr", "\xe2\x80\xaeevil \xff bytes")
  end)
  require("hgauto.fs").write("$tmp/made", "x")
  ctx:artifact("$tmp/made")
  error("failed with \27[31mcolour")
end
LUA
for how in "" "NO_COLOR=1" "TERM=dumb" "LC_ALL=C"; do
	# shellcheck disable=SC2086
	env $how "$h" run --local "$tmp/noise.lua" > "$tmp/out" 2> "$tmp/err" < /dev/null
	clean "a noisy task $how"
	ok 'grep -q "100%.*done" "$tmp/err"' "after a return the last part stays $how"
	ok '! grep -q "50%" "$tmp/err"' "only that $how"
	ok '[ "$(cat "$tmp/out")" = "$tmp/made" ]' "stdout is the artifact alone $how"
done
"$h" run --local "$tmp/noise.lua" > "$tmp/out" 2> "$tmp/err" < /dev/null
ok 'grep -v "^FAILED\|^hgauto: \|^hint: \|^log  \|^vm " "$tmp/err" | grep -vq "^[0-9][0-9]:[0-9][0-9]:[0-9][0-9] " ; [ $? = 1 ]' \
	"progress lines begin with the time"
ok 'tail -n 2 "$tmp/err" | grep -q "^hgauto: "' "the error comes last"
LC_ALL=C "$h" run --local "$tmp/noise.lua" > "$tmp/out" 2> "$tmp/err" < /dev/null
ok 'grep -q " ok noise" "$tmp/err"' "without UTF-8 marks are words"
"$h" run --local -q "$tmp/noise.lua" > "$tmp/out" 2> "$tmp/err" < /dev/null
ok '! grep -q "red" "$tmp/err" && grep -q "^hgauto: .*: failed" "$tmp/err"' "-q: errors only"
ok 'grep -q "red" "$HGAUTO_STATE"/runs/*/log.txt' "the log has all"

# ---- readers that go away ----
long() { # long WORDS...: what the program says when its reader has gone
	( "$h" "$@" 2> "$tmp/err"; echo $? > "$tmp/rc" ) | head -n 1 > "$tmp/out"
}
long list
ok '[ "$(cat "$tmp/rc")" = 0 ] && [ ! -s "$tmp/err" ]' "list | head -1: silent, 0"
( "$h" list 2> "$tmp/err"; echo $? > "$tmp/rc" ) | true
ok '[ "$(cat "$tmp/rc")" = 0 ] && [ ! -s "$tmp/err" ]' "list | true: silent, 0"
( sleep 0.2; "$h" list 2> "$tmp/err"; echo $? > "$tmp/rc" ) | true
ok '[ "$(cat "$tmp/rc")" = 0 ] && [ ! -s "$tmp/err" ]' "list without a reader: silent, 0"
cat > "$tmp/much.lua" << LUA
return function(ctx)
  for i = 1, 20000 do
    print("line " .. i)
  end
  require("hgauto.fs").write("$tmp/end", "x")
end
LUA
long run --local "$tmp/much.lua"
ok '[ -e "$tmp/end" ] && [ "$(cat "$tmp/rc")" = 0 ]' "a run goes on to its end: 0"
rm -f "$tmp/end"
{ "$h" run --local "$tmp/much.lua" 3>&1 > "$tmp/out" 2>&3 3>&-; echo $? > "$tmp/rc"; } | true
ok '[ -e "$tmp/end" ] && [ "$(cat "$tmp/rc")" = 0 ]' "also when stderr has no reader"
ok '[ "$(wc -l < "$tmp/out")" = 20000 ]' "all its output is there"
rc=0
"$h" list > /dev/full 2> "$tmp/err" || rc=$?
ok '[ $rc = 1 ] && grep -q "^hgauto: .*No space left" "$tmp/err"' "a full disk is an error (got $rc)"
rc=0
"$h" list >&- 2> "$tmp/err" || rc=$?
ok '[ $rc -le 1 ]' "closed standard output does no harm (got $rc)"
rc=0
"$h" list 2>&- > "$tmp/out" || rc=$?
ok '[ $rc = 0 ] && grep -q build-linux "$tmp/out"' "nor closed standard error"
echo "1..$n"
exit $bad
