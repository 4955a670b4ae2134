#!/bin/sh
# match.sh SRCDIR: an answer to one channel's request does not end another's.
#
# Why: while a request waits for its answer, upstream reads packets; one of the
# right type that belongs to another channel is queued as it should be, but the
# call then fails with -1 instead of reading on.  A server that handles
# channels side by side answers in any order: two commands that start at once
# would end the session.
# What changes: the call goes on until its own answer comes.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
p=$1/src/packet.c
mark='hgauto edit: match'
anchor='        if(strchr((char *) packet_types, ret)) {'

grep -qF "$mark" "$p" && exit 0
[ "$(grep -cF -- "$anchor" "$p")" = 1 ] || {
	echo "match: packet.c: anchor \"$anchor\" does not match once" >&2
	exit 3
}
awk -v mark="$mark" -v anchor="$anchor" '
{ print }
index($0, anchor) == 1 {
	print "            /* " mark " */"
	print "            if(_libssh2_packet_askv(session, packet_types, data,"
	print "                                    data_len, match_ofs, match_buf,"
	print "                                    match_len))"
	print "                continue;"
	print "            state->start = 0;"
	print "            return 0;"
}
' "$p" > "$p.new"
mv "$p.new" "$p"
