#!/bin/sh
# pad.sh SRCDIR: padding comes from a store of random bytes.
#
# Why: upstream asks OpenSSL's generator for the few bytes of each packet's
# padding; for small packets that costs as much as their encryption.
# What changes: a session takes 1 KiB of random bytes at a time; each byte
# still pads one packet only.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
t=$1/src/transport.c
h=$1/src/libssh2_priv.h
mark='hgauto edit: pad'
call='    if(_libssh2_random(p->outbuf + 5 + data_len, padding_length)) {'
include='#include "transport.h"'

grep -qF "$mark" "$t" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "pad: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$t" "$call"
once "$t" "$include"
once "$h" '    int keepalive_interval;'

awk -v mark="$mark" -v call="$call" -v include="$include" '
index($0, call) == 1 {
	print "    if(hga_pad(session, p->outbuf + 5 + data_len,"
	print "               (size_t)padding_length)) { /* " mark " */"
	next
}
{ print }
index($0, include) == 1 {
	print ""
	print "/* " mark " */"
	print "static int hga_pad(LIBSSH2_SESSION *session, unsigned char *to,"
	print "                   size_t len);"
}
' "$t" > "$t.new"
cat >> "$t.new" <<END

/* $mark: random bytes from the store, which is filled when it has too few. */
static int hga_pad(LIBSSH2_SESSION *session, unsigned char *to, size_t len)
{
    if(len > sizeof(session->hga_pad))
        return _libssh2_random(to, len);
    if(len > session->hga_pad_left) {
        if(_libssh2_random(session->hga_pad, sizeof(session->hga_pad)))
            return -1;
        session->hga_pad_left = sizeof(session->hga_pad);
    }
    session->hga_pad_left -= len;
    memcpy(to, session->hga_pad + session->hga_pad_left, len);
    return 0;
}
END
awk -v mark="$mark" '
index($0, "    int keepalive_interval;") == 1 {
	print "    unsigned char hga_pad[1024]; /* " mark " */"
	print "    size_t hga_pad_left;"
}
{ print }
' "$h" > "$h.new"
mv "$t.new" "$t"
mv "$h.new" "$h"
