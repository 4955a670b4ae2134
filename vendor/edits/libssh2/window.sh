#!/bin/sh
# window.sh SRCDIR: a channel's window is what was sent to the server.
#
# Why: an adjustment of the window that cannot be sent at once (new keys are
# being exchanged) is kept as a packet; the next read sends it, but counts what
# it would have asked for itself, which is another amount when it reads another
# stream or into another buffer.  Too little counted: data within the window of
# the server are cut off as too much, silently.  Too much: the next difference
# is negative, the server gets an adjustment of 4 GiB and closes.  Found with a
# server that wants new keys after each MiB.
# What changes: the amount in the packet is counted; an adjustment that has been
# sent meanwhile is not asked for again.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
c=$1/src/channel.c
mark='hgauto edit: window'
count='        channel->remote.window_size += adjustment;'
again='    if((channel->read_state == libssh2_NB_state_jump1) ||'

grep -qF "$mark" "$c" && exit 0

once() { # once TEXT
	[ "$(grep -cF -- "$1" "$c")" = 1 ] || {
		echo "window: channel.c: anchor \"$1\" does not match once" >&2
		exit 3
	}
}
once "$count"
once "$again"

awk -v mark="$mark" -v count="$count" -v again="$again" '
index($0, count) == 1 {
	print "        channel->remote.window_size += /* " mark " */"
	print "            _libssh2_ntohu32(&channel->adjust_adjust[5]);"
	next
}
index($0, again) == 1 {
	print "    if(channel->adjust_state == libssh2_NB_state_idle)"
	print "        channel->read_state = libssh2_NB_state_idle; /* " mark " */"
}
{ print }
' "$c" > "$c.new"
mv "$c.new" "$c"
