#!/bin/sh
# mac.sh SRCDIR: a packet that was tampered with, or is none, ends the session.
#
# Why: chacha20-poly1305 reports a wrong tag as 1; the transport takes positive
# numbers for packet types and tries the same packet again for ever: one
# flipped byte on the line makes the process spin.  A length that is no
# multiple of the cipher's block (with a cipher in counter mode one flipped bit
# of a packet) fails an assertion: the process is gone.  With an -etm MAC the
# length of the padding is not compared with the packet's: more of it than
# packet, and what lies behind the buffer is taken for a message.
# Without this edit the client offers neither that cipher nor counter mode.
# What changes: the results are LIBSSH2_ERROR_DECRYPT.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
c=$1/src/crypt.c
t=$1/src/transport.c
mark='hgauto edit: mac'
tag='    return (ret == 0 ? 0 : 1);'
length='        assert((len % blocksize) == 0);'
padding='        session->fullpacket_payload_len -= p->padding_length;'

grep -qF "$mark" "$c" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "mac: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$c" "$tag"
once "$t" "$length"
once "$t" "$padding"

awk -v mark="$mark" -v anchor="$tag" '
index($0, anchor) == 1 {
	print "    return ret == 0 ? 0 : LIBSSH2_ERROR_DECRYPT; /* " mark " */"
	next
}
{ print }
' "$c" > "$c.new"
awk -v mark="$mark" -v length_="$length" -v padding="$padding" '
index($0, length_) == 1 {
	print "        if(len % blocksize) { /* " mark " */"
	print "            LIBSSH2_FREE(session, p->payload);"
	print "            p->payload = NULL;"
	print "            return LIBSSH2_ERROR_DECRYPT;"
	print "        }"
	next
}
index($0, padding) == 1 {
	print "        if(p->padding_length >= session->fullpacket_payload_len) {"
	print "            LIBSSH2_FREE(session, p->payload); /* " mark " */"
	print "            p->payload = NULL;"
	print "            return LIBSSH2_ERROR_DECRYPT;"
	print "        }"
}
{ print }
' "$t" > "$t.new"
mv "$c.new" "$c"
mv "$t.new" "$t"
