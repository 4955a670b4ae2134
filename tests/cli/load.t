#!/bin/sh
# Nothing runs because of the directory, the environment or a file that others
# may write; loading a task file has no effect; errors name file and line.
set -u
h=${HGAUTO:?}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-load.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
unset HGAUTO_LOCAL
export HGAUTO_STATE="$tmp/state" HOME="$tmp/home" AWS_EC2_METADATA_DISABLED=true
umask 077
mkdir "$HOME"
n=0 bad=0
ok() { # ok CONDITION NAME
	n=$((n + 1))
	if eval "$1"; then echo "ok $n - $2"; else
		echo "not ok $n - $2"
		sed 's/^/# /' "$tmp/err"
		bad=1
	fi
}
# run CODE NAME TEXT WORDS...
run() {
	code=$1 name=$2 text=$3
	shift 3
	rc=0
	timeout 60 "$h" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || rc=$?
	ok "[ $rc = $code ]" "$name: exit $code (got $rc)"
	[ -z "$text" ] || ok 'grep -q -e "$text" "$tmp/err"' "$name: says $text"
}
# load CODE NAME TEXT: `run FILE --help` of the text on stdin
load() {
	cat > "$tmp/t.lua"
	run "$1" "$2" "$3" run "$tmp/t.lua" --help
	ok '[ ! -e "$tmp/touched" ]' "$2: nothing happened"
}

# ---- a hostile directory ----
mkdir -p "$tmp/evil/.hgauto/tasks" "$tmp/evil/hg" "$tmp/evil/hgauto"
cd "$tmp/evil" || exit 1
trap_lua="local f = io.open('$tmp/touched', 'w') f:write 'x' f:close() return {}"
for f in json hg hgauto list run build-linux build_linux init lfs cjson hg/init \
	hg/cli hg/spec hgauto/json hgauto/async .hgauto/tasks/nightly .hgauto/config; do
	printf '%s\n' "$trap_lua" > "$f.lua"
done
cp json.lua .luarc; cp json.lua .hgauto/config
export LUA_INIT="$trap_lua" LUA_INIT_5_4="$trap_lua" LUA_PATH="$PWD/?.lua;;" \
	LUA_PATH_5_4="$PWD/?.lua;;" LUA_CPATH="$PWD/?.so" LUA_CPATH_5_4="$PWD/?.so"
run 0 "list in a hostile directory" "" list
run 0 "help" "" help build-linux
run 0 "version" "" version
run 2 "a task that is not there" 'unknown command or task "nightly"' nightly
run 0 "a task of that name" "" build-linux --help
ok 'grep -q "^usage: hgauto build-linux" "$tmp/out"' "is the built-in one"
printf 'local a, b = require "hg", require "hgauto.json"\nreturn a.task { run = print }\n' > mine.lua
run 0 "a script beside them" "" run ./mine.lua --help
ok '[ ! -e "$tmp/touched" ]' "nothing of all that ran"
printf 'print(type(require "hg".task), package.path == "", package.cpath == "")\n' |
	"$h" repl --local > "$tmp/out" 2> "$tmp/err"
ok '[ "$(cat "$tmp/out")" = "function	true	true" ]' "the REPL has our modules"
"$h" local down > "$tmp/out" 2> "$tmp/err"
ok '[ ! -e "$tmp/touched" ]' "and ran nothing either"
unset LUA_INIT LUA_INIT_5_4 LUA_PATH LUA_PATH_5_4 LUA_CPATH LUA_CPATH_5_4
printf 'return { value = 7 }\n' > "$tmp/own.lua"
load 0 "a module beside the script" "" << 'LUA'
assert(require("own").value == 7)
return function() end
LUA
cd / || exit 1

# ---- files that are refused ----
good='return function() end'
printf '%s\n' "$good" > "$tmp/w.lua"
chmod 666 "$tmp/w.lua"
run 2 "a world-writable script" "$tmp/w.lua: mode 0666 is too open" run "$tmp/w.lua" --help
mkdir -p "$tmp/wdir"
printf 'require "own"\n%s\n' "$good" > "$tmp/wdir/t.lua"
printf '%s\n' "$trap_lua" > "$tmp/wdir/own.lua"
run 2 "a module with an effect" "while the file is loaded" run "$tmp/wdir/t.lua" --help
chmod 777 "$tmp/wdir"
run 2 "beside it in a world-writable directory" "module 'own' not found" run "$tmp/wdir/t.lua" --help
ok '[ ! -e "$tmp/touched" ]' "nothing is searched"
if [ "$(id -u)" = 0 ]; then
	printf '%s\n' "$good" > "$tmp/foreign.lua"
	chown 12345 "$tmp/foreign.lua"
	run 2 "a script of another user" "owned by\|belongs" run "$tmp/foreign.lua" --help
	chown 0 "$tmp/foreign.lua"
else
	ok true "a script of another user # SKIP needs root"
fi
printf '\033LuaT\000\031\223\r\n\032\n' > "$tmp/byte.lua"
run 2 "bytecode" "" run "$tmp/byte.lua"
cat > "$tmp/dump.lua" << LUA
return function()
  local code = string.dump(function() end)
  local f, err = load(code, "x", "b")
  assert(f == nil, "load took bytecode")
  f, err = load(code, "x", "bt")
  assert(f == nil, "load took bytecode")
end
LUA
run 0 "load in a task refuses bytecode" "" run --local "$tmp/dump.lua"
"$h" local down > /dev/null 2>&1
mkdir "$tmp/dir.lua"
run 2 "a directory" "" run "$tmp/dir.lua"
run 2 "a missing file" 'no such task file' run "$tmp/nothing.lua"

# ---- errors while loading ----
load 2 "a syntax error" "$tmp/t.lua:2: " << 'LUA'
local x = 1
return { =
LUA
load 2 "a runtime error" "$tmp/t.lua:3: attempt to index" << 'LUA'
local none

return none.field
LUA
load 2 "no task" 't.lua returned no task' << 'LUA'
local x = 1
LUA
ok 'grep -q "^hint: end it with: return hg.task{ run = function(ctx, args) … end }" "$tmp/err"' "with a hint"
load 2 "a reserved option" "$tmp/t.lua:2: option \"plan\" is reserved for hgauto" << 'LUA'
local hg = require "hg"
return hg.task { args = { hg.arg.flag { name = "plan" } }, run = print }
LUA
load 2 "an unknown field" 't.lua: a task has no field "runn"; did you mean run?' << 'LUA'
return require("hg").task { runn = print }
LUA
load 2 "endless loading" "" << 'LUA'
while true do end
LUA
load 2 "too much memory" "" << 'LUA'
local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end
LUA
load 2 "pcall does not help" "" << LUA
pcall(function() while true do end end)
while true do pcall(function() while true do end end) end
LUA

# ---- effects while loading ----
effect() { # effect NAME LUA
	load 2 "$1 while loading" "t.lua:2: .*while the file is loaded" << LUA

$2
return function() end
LUA
}
effect "os.execute" "os.execute('touch $tmp/touched')"
effect "io.popen" "io.popen('touch $tmp/touched')"
effect "os.exit" "os.exit(0)"
effect "os.remove" "os.remove('$tmp/own.lua')"
effect "os.rename" "os.rename('$tmp/own.lua', '$tmp/touched')"
effect "os.tmpname" "os.tmpname()"
effect "io.open for writing" "io.open('$tmp/touched', 'w')"
effect "io.open for appending" "io.open('$tmp/touched', 'a')"
effect "io.output" "io.output('$tmp/touched')"
effect "io.write" "io.write('x')"
effect "print" "print('x')"
effect "fs.write" "require('hgauto.fs').write('$tmp/touched', '')"
effect "fs.mkdir" "require('hgauto.fs').mkdir('$tmp/touched')"
effect "fs.chdir" "require('hgauto.fs').chdir('/')"
effect "proc.run" "require('hgauto.proc').run { 'touch', '$tmp/touched' }"
effect "proc.spawn" "require('hgauto.proc').spawn { 'touch', '$tmp/touched' }"
effect "async.sleep" "require('hgauto.async').sleep(0)"
effect "async.spawn" "require('hgauto.async').spawn(print)"
effect "http.request" "require('hgauto.http').request { url = 'http://127.0.0.1:1/' }"
effect "ssh.connect" "require('hgauto.ssh').connect('127.0.0.1', { port = 1, user = 'x' })"
effect "an AWS call" "require('hgauto.aws').client('ec2', { region = 'us-west-2' }):describe_instances {}"
effect "an error caught" "assert(pcall(os.execute, 'touch $tmp/touched'))"
load 0 "a client alone is allowed" "" << 'LUA'
local ec2 = require("hgauto.aws").client("ec2", { region = "us-west-2" })
return function() return ec2 end
LUA
ok '[ ! -e "$HGAUTO_STATE/ledger.db" ] || [ -d "$HGAUTO_STATE" ]' "state is left alone"
echo "1..$n"
exit $bad
