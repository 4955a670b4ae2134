#!/bin/sh
# status.sh SRCDIR: tells whether a channel received an exit status at all.
#
# Why: libssh2_channel_get_exit_status gives 0 both for "exit 0" and for a
# command whose channel closed without a status (killed server process, some
# signals): a lost command would look like success.
# What changes: a flag in the channel, set where exit-status arrives, and
# int hga_libssh2_has_exit_status(LIBSSH2_CHANNEL *) that reads it.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
src=$1/src
p=$src/packet.c
h=$src/libssh2_priv.h
c=$src/channel.c
mark='hgauto edit: status'

grep -qF "$mark" "$c" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "status: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$p" '                        channelp->exit_status ='
once "$h" '    int exit_status;'
once "$c" 'libssh2_channel_get_exit_status(LIBSSH2_CHANNEL *channel)'

awk -v mark="$mark" '
index($0, "                        channelp->exit_status =") == 1 {
	print "                        channelp->hga_has_status = 1; /* " mark " */"
}
{ print }
' "$p" > "$p.new"
awk -v mark="$mark" '
{ print }
index($0, "    int exit_status;") == 1 {
	print "    int hga_has_status; /* " mark " */"
}
' "$h" > "$h.new"
{
	cat "$c"
	cat <<END

/* $mark */
int hga_libssh2_has_exit_status(LIBSSH2_CHANNEL *channel);
int hga_libssh2_has_exit_status(LIBSSH2_CHANNEL *channel)
{
    return channel->hga_has_status;
}
END
} > "$c.new"
mv "$p.new" "$p"
mv "$h.new" "$h"
mv "$c.new" "$c"
