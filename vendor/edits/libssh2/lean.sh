#!/bin/sh
# lean.sh SRCDIR: a session's buffers take memory when they are used.
#
# Why: two packet buffers of 50 KiB are part of upstream's session; clearing
# all of it makes each of many idle sessions hold every page of them.
# What changes: the clearing goes for a session of more than 64 KiB; our
# allocator gives such a block cleared (core/ssh/bio.c), and its pages appear
# when they are touched.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
s=$1/src/session.c
mark='hgauto edit: lean'
anchor='        memset(session, 0, sizeof(LIBSSH2_SESSION));'

grep -qF "$mark" "$s" && exit 0
[ "$(grep -cF -- "$anchor" "$s")" = 1 ] || {
	echo "lean: session.c: anchor \"$anchor\" does not match once" >&2
	exit 3
}
awk -v mark="$mark" -v anchor="$anchor" '
index($0, anchor) == 1 {
	print "        /* " mark ": cleared by the allocator */"
	print "        if(sizeof(LIBSSH2_SESSION) <= 64 * 1024)"
	print "    " $0
	next
}
{ print }
' "$s" > "$s.new"
mv "$s.new" "$s"
