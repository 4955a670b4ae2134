#!/bin/sh
# Ctrl-C, SIGTERM, SIGHUP and the end of the process, below the command line:
# `hgauto __lua FILE` runs a file as the root task.
set -u
HGAUTO=${HGAUTO:?}
dir=$(mktemp -d "${TMPDIR:-/tmp}/hgauto-int.XXXXXX")
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null; rm -rf "$dir"' EXIT
n=0
bad=0
ok() { # ok CONDITION-STATUS NAME
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		bad=1
		echo "not ok $n - $2"
		echo "# exit $rc; output:"
		sed 's/^/#   /' "$dir/out"
	fi
}
said() { grep -q "$1" "$dir/out"; }
# start: runs $dir/s.lua; the file says "ready" when it may be disturbed.
# A shell ignores SIGINT in background jobs; env undoes that.
start() {
	cat > "$dir/s.lua"
	: > "$dir/out"
	env --default-signal=INT,HUP,TERM "$HGAUTO" __lua "$dir/s.lua" \
		> "$dir/out" 2>&1 &
	pid=$!
	i=0
	until grep -q ready "$dir/out" || [ $i -gt 500 ]; do
		sleep 0.02
		i=$((i + 1))
	done
}
finish() {
	( sleep 15; kill -9 "$pid" 2>/dev/null ) > /dev/null 2>&1 &
	dog=$!
	wait "$pid"
	rc=$?
	pid=
	kill "$dog" 2>/dev/null
	wait "$dog" 2>/dev/null
}
press() { kill "-${1:-INT}" "$pid"; }
direct() { # direct: runs the script on stdin to its end
	cat > "$dir/s.lua"
	"$HGAUTO" __lua "$dir/s.lua" > "$dir/out" 2>&1
	rc=$?
}

start <<'LUA'
local async = require "hgauto.async"
local _d <close> = async.defer(function() async.sleep(0.05) print "cleaned" end)
print "ready"
async.sleep(60)
print "not reached"
LUA
press
finish
[ $rc = 130 ] && said cleaned && ! said "not reached"
ok $? "press 1 cancels what waits; cleanup waits; exit 130"

start <<'LUA'
local async = require "hgauto.async"
local _d <close> = async.defer(function() print "cleaned" end)
print "ready"
while true do end
LUA
press
finish
[ $rc = 130 ] && said cleaned
ok $? "Lua that never waits is reached"

start <<'LUA'
print "ready"
while true do pcall(function() while true do end end) end
LUA
press
finish
[ $rc = 130 ]
ok $? "a pcall loop that never waits ends, too"

start <<'LUA'
print "ready"
local co = coroutine.wrap(function() while true do end end)
co()
LUA
press
finish
[ $rc = 130 ]
ok $? "a busy plain coroutine is reached"

start <<'LUA'
print "ready"
while true do
  local co = coroutine.create(function() while true do end end)
  coroutine.resume(co)
end
LUA
press
finish
[ $rc = 130 ]
ok $? "a loop of busy coroutines, too"

start <<'LUA'
local x <close> = setmetatable({}, { __close = function()
  local n = 0
  for i = 1, 300000 do n = n + i end
  print("closed " .. n)
end })
print "ready"
while true do end
LUA
press
finish
[ $rc = 130 ] && said "closed 45000150000"
ok $? "a __close function is not cut off at once"

start <<'LUA'
local async = require "hgauto.async"
async.scope(function(s)
  s:spawn(function()
    local _d <close> = async.defer(function() async.sleep(0.02) print "one" end)
    async.sleep(60)
  end)
  s:spawn(function()
    local _d <close> = async.defer(function() async.sleep(0.02) print "two" end)
    print "ready"
    while true do end
  end)
end)
LUA
press
finish
[ $rc = 130 ] && said one && said two
ok $? "all tasks unwind when one never waits"

start <<'LUA'
local async = require "hgauto.async"
local _d <close> = async.defer(function()
  print "cleaning"
  local ok, e = pcall(async.sleep, 20)
  print("cut " .. tostring(e.kind))
end)
print "ready"
async.sleep(60)
LUA
t0=$(date +%s)
press
sleep 0.6
press
finish
[ $rc = 130 ] && said "cut cancelled" && [ $(($(date +%s) - t0)) -lt 8 ]
ok $? "press 2 cuts the shields"

start <<'LUA'
local async = require "hgauto.async"
local _d <close> = async.defer(function() print "cleaning" async.sleep(1) print "cleaned" end)
print "ready"
async.sleep(60)
LUA
press
press
press
finish
[ $rc = 130 ] && said cleaned
ok $? "presses within half a second count once"

for open in 0 2; do
	start <<LUA
local async = require "hgauto.async"
require("hgauto.host").set_open($open)
local function stubborn()
  local _d <close> = async.defer(function() while true do end end)
  print "ready"
  async.sleep(60)
end
stubborn()
LUA
	press
	sleep 0.6
	# The second press reaches the loop in the cleanup; keep it busy.
	press
	finish
	[ $rc = 130 ]
	ok $? "a busy cleanup ends at press 2 ($open open)"
	start <<LUA
require("hgauto.host").set_open($open)
print "ready"
-- one C call that runs for very long
string.find(("a"):rep(60000), (".-"):rep(4) .. "b")
LUA
	sleep 0.5 # it is in the call now
	press
	sleep 0.6
	press
	sleep 0.6
	press
	finish
	if [ $open = 0 ]; then
		[ $rc = 130 ] && said "hgauto: killed"
	else
		[ $rc = 6 ] && said "hgauto gc"
	fi
	ok $? "press 3 ends the process in the handler ($open open)"
done

for sig in TERM HUP; do
	start <<'LUA'
local async = require "hgauto.async"
local _d <close> = async.defer(function() async.sleep(0.02) print "cleaned" end)
print "ready"
async.sleep(60)
LUA
	press $sig
	finish
	[ $rc = 143 ] && said cleaned
	ok $? "SIG$sig is press 1; exit 143"
done

cat > "$dir/s.lua" <<'LUA'
local async = require "hgauto.async"
print "ready"
async.sleep(0.5)
print "went on"
LUA
: > "$dir/out"
env --ignore-signal=INT,HUP "$HGAUTO" __lua "$dir/s.lua" > "$dir/out" 2>&1 &
pid=$!
i=0
until grep -q ready "$dir/out" || [ $i -gt 500 ]; do
	sleep 0.02
	i=$((i + 1))
done
press INT
press HUP
finish
[ $rc = 0 ] && said "went on"
ok $? "inherited SIG_IGN of INT and HUP is honoured"

start <<'LUA'
local async = require "hgauto.async"
async.on_interrupt(function(press, name) async.sleep(0) print("press " .. press .. " " .. name) end)
local _d <close> = async.defer(function() async.sleep(0.1) print "cleaned" end)
print "ready"
async.sleep(60)
LUA
press
finish
[ $rc = 130 ] && said "press 1 INT" && said cleaned
ok $? "on_interrupt hears of it"

start <<'LUA'
local async, host = require "hgauto.async", require "hgauto.host"
for i = 1, 2 do
  print(i == 1 and "ready" or "again")
  local ok, e = async.interruptible(function() async.sleep(60) end)
  print("ended " .. i, ok, e.kind, host.press())
end
LUA
press
i=0
until grep -q again "$dir/out" || [ $i -gt 500 ]; do
	sleep 0.02
	i=$((i + 1))
done
sleep 0.6
press
finish
[ $rc = 0 ] && said "ended 1	false	cancelled	0" && said "ended 2	false	cancelled	0"
ok $? "interruptible: Ctrl-C ends only the call"

start <<'LUA'
local async = require "hgauto.async"
local ok, e = async.interruptible(function() print "ready" while true do pcall(math.abs, 1) end end)
print("ended", ok, e.kind)
LUA
press
finish
[ $rc = 0 ] && said "ended	false	cancelled"
ok $? "interruptible: also a call that never waits"

start <<'LUA'
local async = require "hgauto.async"
async.on_interrupt(function(press)
  print("heard " .. press)
  require("hgauto.host").press(0)
end, { replace = true })
print "ready"
local t = require "hgauto.time"
local stop = t.mono() + 1
while t.mono() < stop do end
async.sleep(0.2)
print "went on"
LUA
press
finish
[ $rc = 0 ] && said "heard 1" && said "went on"
ok $? "on_interrupt may replace the ladder"

direct <<'LUA'
local async, host = require "hgauto.async", require "hgauto.host"
local _d <close> = async.defer(function() async.sleep(0.01) print "cleaned" end)
async.scope(function(s)
  s:spawn(function() pcall(host.exit, 3) async.sleep(1) end)
  async.sleep(60)
end)
LUA
[ $rc = 3 ] && said cleaned
ok $? "host.exit unwinds all tasks"

direct <<'LUA'
local async = require "hgauto.async"
local ev, never = async.event(), async.event()
async.scope(function(s)
  s:spawn(function() async.label("x64") ev:wait() end)
  local h = s:spawn(function() async.channel():recv() end)
  local _d <close> = async.defer(function() print "cleaned" end)
  h:join()
end)
LUA
[ $rc = 70 ] && said "deadlock: task 1 waits for task 3; task 3 waits for channel:recv; task 2 (x64) waits for event" && said cleaned
ok $? "a deadlock is a bug that names what each task waits for"

direct <<'LUA'
local async = require "hgauto.async"
async.timeout(0.01, async.sleep, 1)
LUA
[ $rc = 5 ] && said "hgauto: not done within 0.01s"
ok $? "an error gets its exit code"

direct <<'LUA'
os.exit(4)
LUA
[ $rc = 2 ] && said "os.exit: use ctx:exit"
ok $? "os.exit is refused"

direct <<'LUA'
return 7
LUA
[ $rc = 7 ]
ok $? "the root task's integer is the exit code"

cat > "$dir/s.lua" <<'LUA'
for i = 1, 100000 do print(i) end
io.stderr:write("ended\n")
LUA
"$HGAUTO" __lua "$dir/s.lua" 2> "$dir/out" | head -n 1 > /dev/null
rc=0
said ended && ! said EPIPE
ok $? "a closed pipe is no error of the writer"

direct <<'LUA'
local f = io.open("/proc/self/limits"):read("a")
print(f:match("Max core file size%s+(%d+)"))
require("hgauto.fs").write(arg and "x" or (os.getenv("OUT") or "/dev/null"), "", { atomic = false })
print(os.date("%p"), ("%.1f"):format(1.5), os.setlocale)
LUA
said "^0$" && said "1.5"
ok $? "no core dumps, C numbers"

mkdir "$dir/evil"
cat > "$dir/evil/json.lua" <<'LUA'
print "evil"
LUA
cp "$dir/evil/json.lua" "$dir/evil/hgauto.lua"
cat > "$dir/s.lua" <<'LUA'
print(pcall(require, "json"))
LUA
(cd "$dir/evil" && LUA_INIT='print "evil"' LUA_INIT_5_4='print "evil"' \
	LUA_PATH="$dir/evil/?.lua" LUA_CPATH="$dir/evil/?.so" \
	"$HGAUTO" __lua "$dir/s.lua" > "$dir/out" 2>&1)
rc=$?
[ $rc = 0 ] && ! said evil
ok $? "the current directory and LUA_* run nothing"

echo "1..$n"
exit $bad
