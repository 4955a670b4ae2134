#!/bin/sh
# early.sh SRCDIR: tells that a channel's request is on its way.
#
# Why: the end of a command's input may follow the request at once instead of
# a round trip later, but must never come before it (a key exchange can hold
# the request back).
# What changes: int hga_libssh2_requested(LIBSSH2_CHANNEL *) tells that
# libssh2_channel_process_startup has sent its packet.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
c=$1/src/channel.c
mark='hgauto edit: early'
anchor='        channel->process_state = libssh2_NB_state_sent;'

grep -qF "$mark" "$c" && exit 0
[ "$(grep -cF -- "$anchor" "$c")" = 1 ] || {
	echo "early: channel.c: anchor \"$anchor\" does not match once" >&2
	exit 3
}
{
	cat "$c"
	cat <<END

/* $mark */
int hga_libssh2_requested(LIBSSH2_CHANNEL *channel);
int hga_libssh2_requested(LIBSSH2_CHANNEL *channel)
{
    return channel->process_state == libssh2_NB_state_sent;
}
END
} > "$c.new"
mv "$c.new" "$c"
