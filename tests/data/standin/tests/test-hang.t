#!/bin/sh
# only when named: hangs with a daemon of its own session
setsid sleep 987654 >/dev/null 2>&1 &
echo now it hangs >&2
sleep 3600
