#!/bin/sh
# login.sh SRCDIR: a login may begin with the first key, a round trip sooner.
#
# Why: upstream learns which methods the server allows only from a request
# that has to fail ("none"), reads the server's banner only in the answer to
# it, and sends no login before SERVICE_ACCEPT has come: two round trips more
# than RFC 4252 asks of a client that has its key at hand.  And a connection
# that breaks while a key is tried looks like a refused key.
# What changes: const char *hga_libssh2_login_methods(LIBSSH2_SESSION *) gives
# the list of the last failed login of any method ("" before one); the banner
# is taken from wherever it comes; void hga_libssh2_login_early(
# LIBSSH2_SESSION *) lets libssh2_session_handshake end when the service has
# been asked for; the transport's error is that of the try.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
src=$1/src
p=$src/packet.c
s=$src/session.c
u=$src/userauth.c
h=$src/libssh2_priv.h
mark='hgauto edit: login'
accept='    if(session->startup_state == libssh2_NB_state_sent4) {'

grep -qF "$mark" "$p" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "login: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$p" '#include "packet.h"'
once "$p" '        case SSH_MSG_EXT_INFO:'
once "$s" "$accept"
once "$u" '"Waiting for USERAUTH response"'
once "$u" '"Waiting for publickey USERAUTH response"'
once "$h" '    int keepalive_interval;'

awk -v mark="$mark" '
index($0, "        case SSH_MSG_EXT_INFO:") == 1 {
	print "        case SSH_MSG_SERVICE_ACCEPT: /* " mark " */"
	print "        case SSH_MSG_USERAUTH_FAILURE:"
	print "        case SSH_MSG_USERAUTH_BANNER:"
	print "            if(!hga_login_note(session, data, datalen))"
	print "                break;"
	print "            LIBSSH2_FREE(session, data);"
	print "            session->packAdd_state = libssh2_NB_state_idle;"
	print "            return 0;"
	print ""
}
{ print }
index($0, "#include \"packet.h\"") == 1 {
	print ""
	print "/* " mark " */"
	print "static int hga_login_note(LIBSSH2_SESSION *session,"
	print "                          unsigned char *data, size_t datalen);"
	print "const char *hga_libssh2_login_methods(LIBSSH2_SESSION *session);"
	print "void hga_libssh2_login_early(LIBSSH2_SESSION *session);"
}
' "$p" > "$p.new"
cat >> "$p.new" <<END

/* $mark */
const char *hga_libssh2_login_methods(LIBSSH2_SESSION *session)
{
    return session->hga_login_methods;
}

void hga_libssh2_login_early(LIBSSH2_SESSION *session)
{
    session->hga_login_early = 1;
}

/* Takes what a message of the login tells; 1: nobody else needs it. */
static int hga_login_note(LIBSSH2_SESSION *session,
                          unsigned char *data, size_t datalen)
{
    struct string_buf buf;
    unsigned char *text = NULL;
    size_t len = 0;
    char *banner;

    if(session->state &
       (LIBSSH2_STATE_INITIAL_KEX | LIBSSH2_STATE_AUTHENTICATED))
        return 0;
    if(data[0] == SSH_MSG_SERVICE_ACCEPT) {
        int early = session->hga_login_early;

        session->hga_login_early = 0;
        return early;
    }
    buf.data = data;
    buf.dataptr = data + 1;
    buf.len = datalen;
    if(_libssh2_get_string(&buf, &text, &len) || !text)
        return 0;
    if(data[0] == SSH_MSG_USERAUTH_FAILURE) {
        if(len >= sizeof(session->hga_login_methods))
            len = sizeof(session->hga_login_methods) - 1;
        memcpy(session->hga_login_methods, text, len);
        session->hga_login_methods[len] = '\0';
        return 0;
    }
    banner = LIBSSH2_ALLOC(session, len + 1);
    if(!banner)
        return 0;
    memcpy(banner, text, len);
    banner[len] = '\0';
    if(session->userauth_banner)
        LIBSSH2_FREE(session, session->userauth_banner);
    session->userauth_banner = banner;
    return 1;
}
END
awk -v mark="$mark" -v accept="$accept" '
index($0, accept) == 1 {
	print "    if(session->startup_state == libssh2_NB_state_sent4 &&"
	print "       session->hga_login_early) { /* " mark " */"
	print "        session->startup_state = libssh2_NB_state_idle;"
	print "        return 0;"
	print "    }"
	print ""
}
{ print }
' "$s" > "$s.new"
awk -v mark="$mark" '
/"Waiting for (publickey )?USERAUTH response"/ {
	sub(/LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED,/,
	    "rc ? rc : /* " mark " */\n                              &", held)
}
NR > 1 { print held }
{ held = $0 }
END { print held }
' "$u" > "$u.new"
awk -v mark="$mark" '
index($0, "    int keepalive_interval;") == 1 {
	print "    char hga_login_methods[128]; /* " mark " */"
	print "    int hga_login_early;"
}
{ print }
' "$h" > "$h.new"
mv "$p.new" "$p"
mv "$s.new" "$s"
mv "$u.new" "$u"
mv "$h.new" "$h"
