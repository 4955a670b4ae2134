#!/bin/sh
# direct.sh SRCDIR: a login with a key that is at hand takes one request.
#
# Why: upstream first asks whether the server would accept the public key and
# signs after the answer: a round trip more for each login, good only where
# signing costs something (an agent that asks its user).
# What changes: void hga_libssh2_sign_at_once(LIBSSH2_SESSION *, int) makes
# libssh2_userauth_publickey send the signature with its first request.
# RFC 4252 section 7 leaves the question to the client.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
src=$1/src
u=$src/userauth.c
h=$src/libssh2_priv.h
mark='hgauto edit: direct'
anchor='    if(session->userauth_pblc_state == libssh2_NB_state_created) {'

grep -qF "$mark" "$u" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "direct: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$u" "$anchor"
once "$h" '    int keepalive_interval;'

awk -v mark="$mark" -v anchor="$anchor" '
index($0, anchor) == 1 {
	print "    if(session->userauth_pblc_state == libssh2_NB_state_created &&"
	print "       session->hga_sign_at_once) { /* " mark " */"
	print "        *session->userauth_pblc_b = 0x01;"
	print "        session->userauth_pblc_state = libssh2_NB_state_sent1;"
	print "    }"
	print ""
}
{ print }
' "$u" > "$u.new"
cat >> "$u.new" <<END

/* $mark */
void hga_libssh2_sign_at_once(LIBSSH2_SESSION *session, int on);
void hga_libssh2_sign_at_once(LIBSSH2_SESSION *session, int on)
{
    session->hga_sign_at_once = on;
}
END
awk -v mark="$mark" '
index($0, "    int keepalive_interval;") == 1 {
	print "    int hga_sign_at_once; /* " mark " */"
}
{ print }
' "$h" > "$h.new"
mv "$u.new" "$u"
mv "$h.new" "$h"
