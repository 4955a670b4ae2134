#!/bin/sh
# Every exit code that a run can have, and the last lines a person sees with
# it; against an api-only local cloud, so without root and network.
set -u
h=${HGAUTO:?}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-exit.XXXXXX")
unset HGAUTO_LOCAL
export HGAUTO_STATE="$tmp/state" HOME="$tmp/home" AWS_EC2_METADATA_DISABLED=true
umask 077
mkdir "$HOME"
trap '"$h" local down > /dev/null 2>&1; chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
n=0 bad=0
ok() { # ok CONDITION NAME
	n=$((n + 1))
	if eval "$1"; then echo "ok $n - $2"; else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/err"
		bad=1
	fi
}
# run CODE NAME TEXT WORDS...: exit code and a text on stderr (a pattern)
run() {
	code=$1 name=$2 text=$3
	shift 3
	rc=0
	timeout 60 "$h" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || rc=$?
	ok "[ $rc = $code ]" "$name: exit $code (got $rc)"
	[ -z "$text" ] || ok 'grep -q -e "$text" "$tmp/err"' "$name: says $text"
	ok '! grep -q "stack traceback" "$tmp/err"' "$name: no traceback"
}
# task CODE NAME TEXT [OPTIONS...]: the same for a task file on stdin
task() {
	code=$1 name=$2 text=$3
	shift 3
	cat > "$tmp/t.lua"
	run "$code" "$name" "$text" run --local "$@" "$tmp/t.lua"
}
rc=0
"$h" local up --api-only > "$tmp/out" 2> "$tmp/err" || rc=$?
ok '[ $rc = 0 ]' "a local cloud runs"
url=$(grep -o 'http://[0-9.:]*' "$tmp/out")

task 0 "a task that does nothing" 'ok    t in .*nothing left running' << 'LUA'
return function() end
LUA
task 0 "a task that returns a value" "" << 'LUA'
return function() return { answer = 42 } end
LUA
ok 'grep -q "\"answer\": 42" "$HGAUTO_STATE"/runs/*/run.json' "which is in the record"
task 0 "ctx:exit(0)" "" << 'LUA'
return function(ctx) ctx:exit(0) error "not reached" end
LUA
task 1 "an error" '^hgauto: .*t.lua:1: boo$' << 'LUA'
return function() error "boo" end
LUA
ok 'grep -q "^log   .*/log.txt$" "$tmp/err"' "it names the log"
task 1 "an error of kind task" '^hgauto: no luck$' << 'LUA'
local hg = require "hg"
return function() hg.fail { kind = "task", message = "no luck", hint = "try again" } end
LUA
ok 'grep -q "^hint: try again$" "$tmp/err"' "with its hint"
task 1 "os.exit" 'use ctx:exit' << 'LUA'
return function() os.exit(0) end
LUA
task 1 "a command that fails" 'exit' << 'LUA'
return function() require("hgauto.proc").run { "sh", "-c", "echo why >&2; exit 3" } end
LUA
task 1 "a file that is missing" 'none' << 'LUA'
return function() require("hgauto.fs").read("/none") end
LUA
task 1 "an AWS error" '(InvalidInstanceID.NotFound)' << 'LUA'
return function()
  require("hgauto.aws").client("ec2"):describe_instances {
    InstanceIds = { "i-0123456789abcdef0" } }
end
LUA
ok 'grep -q "^hint: " "$tmp/err"' "with the hint of its code"
task 1 "a wrong parameter names the line" 'ImageID.*ImageId.*(.*t.lua:3)$' << 'LUA'
return function()
  local ec2 = require("hgauto.aws").client("ec2")
  ec2:run_instances { ImageID = "x", MinCount = 1, MaxCount = 1 }
end
LUA
task 1 "a dot for a colon" 'call it with a colon: ec2:describe_instances{…} (.*t.lua:1)$' << 'LUA'
return function() require("hgauto.aws").client("ec2").describe_instances {} end
LUA
task 1 "a wait in a comparator" 't.lua:1: cannot wait inside a table.sort comparator' << 'LUA'
return function() table.sort({ 2, 1 }, function() require("hgauto.async").sleep(1) end) end
LUA
task 1 "an undeclared argument" 'args.sourc is not declared; did you mean source?' << 'LUA'
local hg = require "hg"
return hg.task { args = { hg.arg.string { name = "source" } },
  run = function(_, args) return args.sourc end }
LUA
task 1 "a failing step" 'FAILED one/two at .*t.lua:3$' << 'LUA'
return function(ctx)
  ctx:step("one", function()
    ctx:step("two", error, "boo")
  end)
end
LUA
task 2 "a value that the task refuses" '^hgauto: --source: no such thing$' << 'LUA'
local hg = require "hg"
return function() hg.fail { kind = "usage", message = "--source: no such thing" } end
LUA
run 2 "an unknown option of a file" 't: unknown option --sourc' run --local "$tmp/t.lua" --sourc x
task 3 "kind auth" 'key file is open' << 'LUA'
return function() require("hg").fail { kind = "auth", message = "the key file is open" } end
LUA
cat > "$tmp/sts.lua" << 'LUA'
return function() require("hgauto.aws").client("sts"):get_caller_identity() end
LUA
run 3 "no credentials" \
	'^hgauto: Unable to locate credentials$' \
	run "$tmp/sts.lua"
(
	export AWS_ACCESS_KEY_ID=AKIAWRONG AWS_SECRET_ACCESS_KEY=wrong
	run 3 "wrong credentials" 'InvalidClientTokenId\|AuthFailure' \
		run --endpoint-url "$url" "$tmp/sts.lua"
	run 4 "nobody answers" \
		'^hgauto: sts GetCallerIdentity: cannot connect to 127.0.0.1 port 1: connection refused (3 attempts' \
		run --endpoint-url http://127.0.0.1:1 "$tmp/sts.lua"
	echo "$n $bad" > "$tmp/n"
)
read -r n bad < "$tmp/n"
task 4 "kind protocol" "" << 'LUA'
return function() require("hg").fail { kind = "protocol", message = "nonsense" } end
LUA
task 5 "--timeout" 'not done within 1s' --timeout 1s << 'LUA'
return function(ctx) ctx:step("sleep", require("hgauto.async").sleep, 60) end
LUA
task 5 "timeout of the task" 'not done within' << 'LUA'
return require("hg").task { timeout = "1s",
  run = function() require("hgauto.async").sleep(60) end }
LUA
task 5 "hg.wait" 'waiting for godot: not within 0.2s (last: not here)' << 'LUA'
local hg = require "hg"
return function() hg.wait { what = "godot", timeout = 0.2, every = 0.1,
  poll = function() return nil, "not here" end } end
LUA
task 6 "an instance left over" 'may still cost money: 1 instance (i-[0-9a-f]*, us-west-2)' << 'LUA'
return function()
  local ec2 = require("hgauto.aws").client("ec2")
  local image = ec2:describe_images({ Owners = { "136693071363" } }).Images[1].ImageId
  ec2:run_instances { ImageId = image, MinCount = 1, MaxCount = 1, InstanceType = "t3.micro" }
end
LUA
id=$(sed -n 's/^hint: hgauto gc \([^ ]*\) --local$/\1/p' "$tmp/err")
ok '[ -n "$id" ]' "the hint is the command"
task 0 "the next run" "run $id left something behind: hgauto gc $id --local$" << 'LUA'
return function() end
LUA
run 0 "gc" "" gc --local "$id"
i=0
until "$h" local status > "$tmp/out" && ! grep -q "running\|pending" "$tmp/out" || [ $i -gt 50 ]; do
	sleep 0.1
	i=$((i + 1))
done
ok '[ $i -le 50 ]' "it is gone"
task 12 "ctx:exit(12) with a text" '^hgauto: because$' << 'LUA'
return function(ctx) ctx:exit(12, "because") end
LUA
task 63 "ctx:exit(63)" "" << 'LUA'
return function(ctx) ctx:step("deep", ctx.exit, ctx, 63) end
LUA
ok '! grep -q "^hgauto:" "$tmp/err"' "without a text nothing is said"
task 1 "ctx:exit(5)" 'ctx:exit takes 0, 1 or 10 to 63' << 'LUA'
return function(ctx) ctx:exit(5) end
LUA
rc=0
cat > "$tmp/t.lua" << 'LUA'
return function()
  error(require("hgauto.host").error { kind = "bug", message = "broken" }, 0)
end
LUA
"$h" run --local "$tmp/t.lua" > "$tmp/out" 2> "$tmp/err" || rc=$?
ok '[ $rc = 70 ] && grep -q "^hgauto: broken" "$tmp/err"' "our own fault: exit 70"
ok 'grep -q "stack traceback" "$tmp/err"' "and only then a traceback"
cat > "$tmp/t.lua" << 'LUA'
return function() local none; return none.field end
LUA
rc=0
"$h" run --local -v "$tmp/t.lua" > "$tmp/out" 2> "$tmp/err" || rc=$?
ok '[ $rc = 1 ] && grep -q "stack traceback" "$tmp/err"' "-v: a traceback"

cat > "$tmp/t.lua" << 'LUA'
return function(ctx)
  local async = require "hgauto.async"
  local _d <close> = async.defer(function() async.sleep(0.05) ctx:log "cleaned" end)
  ctx:log "ready"
  async.sleep(60)
end
LUA
for sig in INT:130 TERM:143 HUP:143; do
	: > "$tmp/err"
	# A shell ignores SIGINT in background jobs; env undoes that.
	env --default-signal=INT,TERM,HUP "$h" run --local "$tmp/t.lua" \
		> "$tmp/out" 2> "$tmp/err" &
	pid=$!
	i=0
	until grep -q ready "$tmp/err" || [ $i -gt 500 ]; do
		sleep 0.02
		i=$((i + 1))
	done
	kill "-${sig%:*}" "$pid"
	rc=0
	wait "$pid" || rc=$?
	ok "[ $rc = ${sig#*:} ]" "SIG${sig%:*}: exit ${sig#*:} (got $rc)"
	ok 'grep -q cleaned "$tmp/err" && grep -q "interrupted after .*nothing left" "$tmp/err"' \
		"SIG${sig%:*}: cleaned up, and says so"
done

mkdir -m 755 "$tmp/open"
: > "$tmp/t.lua"
printf 'return function() end\n' > "$tmp/t.lua"
run 0 "an open state directory of ours" '' run --local --state-path "$HGAUTO_STATE" "$tmp/t.lua"
printf 'x' > "$tmp/file"
run 3 "a state directory that is a file" "$tmp/file" run --local --state-path "$tmp/file" "$tmp/t.lua"
if [ "$(id -u)" = 0 ]; then
	mkdir -m 700 "$tmp/foreign"
	chown 12345 "$tmp/foreign"
	run 3 "a state directory of another user" "$tmp/foreign.*nothing was read\|owned by" \
		run --local --state-path "$tmp/foreign" "$tmp/t.lua"
	chown 0 "$tmp/foreign"
else
	ok true "a state directory of another user # SKIP needs root"
fi
mkdir "$tmp/sub"
printf 'return function(ctx) ctx:log(require("hgauto.fs").cwd()) end\n' > "$tmp/sub/where.lua"
run 0 "-C" "$tmp/sub" -C "$tmp/sub" run --local ./where.lua
run 2 "-C to nowhere" "expected an existing directory" -C "$tmp/none" list
cat > "$tmp/rest.lua" << 'LUA'
local hg = require "hg"
return hg.task {
  args = { hg.arg.enum { name = "arch", "x86", "x64", multiple = true },
    hg.arg.flag { name = "quick" } },
  run = function(_, args)
    print(table.concat(args.arch, "+"), args.quick, table.concat(args.rest, "|"))
  end,
}
LUA
run 0 "rest words and prefixes" "" run --local "$tmp/rest.lua" --ar x86,x64 --quick --no-quick --quic -- -j 3 --arch
ok '[ "$(cat "$tmp/out")" = "x86+x64	true	-j|3|--arch" ]' "arrive as they are"
run 2 "an ambiguous prefix" '^hgauto: --re is ambiguous: --region, --resume, --revision$' build-linux --re x
echo "1..$n"
exit $bad
