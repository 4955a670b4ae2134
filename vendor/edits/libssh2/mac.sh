#!/bin/sh
# mac.sh SRCDIR: a wrong tag of chacha20-poly1305 ends the session.
#
# Why: the cipher reports a packet that was tampered with as 1; the transport
# takes positive numbers for packet types and tries the same packet again for
# ever: one flipped byte on the line makes the process spin.  Without this edit
# the client does not offer that cipher.
# What changes: the cipher's result is LIBSSH2_ERROR_DECRYPT instead of 1.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
c=$1/src/crypt.c
mark='hgauto edit: mac'
anchor='    return (ret == 0 ? 0 : 1);'

grep -qF "$mark" "$c" && exit 0
[ "$(grep -cF -- "$anchor" "$c")" = 1 ] || {
	echo "mac: crypt.c: anchor \"$anchor\" does not match once" >&2
	exit 3
}
awk -v mark="$mark" -v anchor="$anchor" '
index($0, anchor) == 1 {
	print "    return ret == 0 ? 0 : LIBSSH2_ERROR_DECRYPT; /* " mark " */"
	next
}
{ print }
' "$c" > "$c.new"
mv "$c.new" "$c"
