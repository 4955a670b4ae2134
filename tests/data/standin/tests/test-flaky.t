#!/bin/sh
# only when named: fails the first time
[ -e "$TMPDIR/flaky" ] && exit 0
: > "$TMPDIR/flaky"
echo not yet
exit 1
