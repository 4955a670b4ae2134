#!/bin/sh
# ask.sh SRCDIR: keyboard-interactive whose answers may come later.
#
# Why: upstream wants all answers from its callback at once; a person, or a
# task that waits, would stop every other session.
# What changes: void hga_libssh2_kbd_wait(LIBSSH2_SESSION *), called from that
# callback, makes the running userauth call return EAGAIN; the next call of it
# calls the callback again, with the same prompts.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
src=$1/src
u=$src/userauth.c
h=$src/libssh2_priv.h
mark='hgauto edit: ask'

grep -qF "$mark" "$u" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "ask: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$u" '        if(session->userauth_kybd_state == libssh2_NB_state_sent) {'
once "$u" '            response_callback((const char *)session->userauth_kybd_auth_name,'
once "$h" '    int keepalive_interval;'

awk -v mark="$mark" '
index($0, "        if(session->userauth_kybd_state == libssh2_NB_state_sent) {") == 1 {
	print "        if(session->userauth_kybd_state == libssh2_NB_state_jump1)"
	print "            goto hga_ask; /* " mark " */"
}
index($0, "            response_callback((const char *)session->userauth_kybd_auth_name,") == 1 {
	print "hga_ask:"
	print "            session->userauth_kybd_state = libssh2_NB_state_jump1;"
	print "            session->hga_kbd_waits = 0;"
	within = 1
}
{ print }
within && /&session->abstract\);/ {
	print "            if(session->hga_kbd_waits)"
	print "                return _libssh2_error(session, LIBSSH2_ERROR_EAGAIN,"
	print "                                      \"Would block\");"
	print "            session->userauth_kybd_state = libssh2_NB_state_sent;"
	within = 0
}
' "$u" > "$u.new"
cat >> "$u.new" <<END

/* $mark */
void hga_libssh2_kbd_wait(LIBSSH2_SESSION *session);
void hga_libssh2_kbd_wait(LIBSSH2_SESSION *session)
{
    session->hga_kbd_waits = 1;
}
END
awk -v mark="$mark" '
index($0, "    int keepalive_interval;") == 1 {
	print "    int hga_kbd_waits; /* " mark " */"
}
{ print }
' "$h" > "$h.new"
mv "$u.new" "$u"
mv "$h.new" "$h"
