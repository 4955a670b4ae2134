#!/bin/sh
# probe.sh SRCDIR: keepalive probes whose answers are consumed and counted,
# reading without a channel, freeing without sending.
#
# Why: upstream queues the answers to its keepalive requests for ever and could
# take one for the answer to a forward request; it sends one per two seconds at
# most; and it reads from the transport only while somebody reads a channel, so
# that an idle session answers neither the server's probes nor its rekeying.
# Freeing a session closes its channels over the line, even when a failed key
# exchange has left no cipher: a null pointer is called.
# What changes: int hga_libssh2_probe(LIBSSH2_SESSION *) sends one probe,
# unsigned hga_libssh2_probe_answers(LIBSSH2_SESSION *) counts the answers,
# int hga_libssh2_pump(LIBSSH2_SESSION *) handles what has arrived,
# void hga_libssh2_abandon(LIBSSH2_SESSION *) makes the next free send nothing.
# No other global request may wait for its answer while a probe does.
# Exit 0: applied (or was already); 3: an anchor does not match exactly once,
# nothing was changed.
set -eu
src=$1/src
p=$src/packet.c
h=$src/libssh2_priv.h
k=$src/keepalive.c
mark='hgauto edit: probe'

grep -qF "$mark" "$k" && exit 0

once() { # once FILE TEXT
	[ "$(grep -cF -- "$2" "$1")" = 1 ] || {
		echo "probe: $(basename "$1"): anchor \"$2\" does not match once" >&2
		exit 3
	}
}
once "$p" '        case SSH_MSG_GLOBAL_REQUEST:'
once "$h" '    int keepalive_interval;'
once "$k" 'libssh2_keepalive_send(LIBSSH2_SESSION *session,'

awk -v mark="$mark" '
index($0, "        case SSH_MSG_GLOBAL_REQUEST:") == 1 {
	print "        case SSH_MSG_REQUEST_SUCCESS: /* " mark " */"
	print "        case SSH_MSG_REQUEST_FAILURE:"
	print "            if(session->hga_probes_open == 0)"
	print "                break;"
	print "            session->hga_probes_open--;"
	print "            session->hga_probe_answers++;"
	print "            LIBSSH2_FREE(session, data);"
	print "            session->packAdd_state = libssh2_NB_state_idle;"
	print "            return 0;"
	print ""
}
{ print }
' "$p" > "$p.new"
awk -v mark="$mark" '
index($0, "    int keepalive_interval;") == 1 {
	print "    unsigned int hga_probes_open; /* " mark " */"
	print "    unsigned int hga_probe_answers;"
}
{ print }
' "$h" > "$h.new"
{
	cat "$k"
	cat <<END

/* $mark */
int hga_libssh2_probe(LIBSSH2_SESSION *session);
int hga_libssh2_probe(LIBSSH2_SESSION *session)
{
    static const unsigned char request[] =
        "\\x50\\x00\\x00\\x00\\x15keepalive@openssh.com\\x01";
    int rc = _libssh2_transport_send(session, request, sizeof(request) - 1,
                                     NULL, 0);

    if(rc == 0)
        session->hga_probes_open++;
    return rc;
}

unsigned int hga_libssh2_probe_answers(LIBSSH2_SESSION *session);
unsigned int hga_libssh2_probe_answers(LIBSSH2_SESSION *session)
{
    return session->hga_probe_answers;
}

int hga_libssh2_pump(LIBSSH2_SESSION *session);
int hga_libssh2_pump(LIBSSH2_SESSION *session)
{
    int rc;

    do
        rc = _libssh2_transport_read(session);
    while(rc > 0);
    return rc;
}

void hga_libssh2_abandon(LIBSSH2_SESSION *session);
void hga_libssh2_abandon(LIBSSH2_SESSION *session)
{
    session->socket_state = LIBSSH2_SOCKET_DISCONNECTED;
}
END
} > "$k.new"
mv "$p.new" "$p"
mv "$h.new" "$h"
mv "$k.new" "$k"
