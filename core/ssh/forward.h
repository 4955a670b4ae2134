/*
 * Connections through a session: port forwarding both ways, SOCKS5, and the
 * relay between a channel and a descriptor that they share with jumps.
 *
 * A relay moves bytes both ways, 64 KiB a direction: a slow side stops the
 * other one.  Half-closed connections stay half closed.  A forward owns its
 * relays; closing it, or the end of the session, ends them.  Limits: 256
 * connections a forward at a time, a SOCKS request has 10 s.  Nothing here
 * waits for the peer at the end.
 */
#ifndef HGA_SSH_FORWARD_H
#define HGA_SSH_FORWARD_H

#include "net/op.h"
#include "ssh/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- relay ---- */

struct hga_relay; /* opaque */
struct hga_chan;

/* Called once, from the loop, when it is over; the relay is gone then.  err
 * NULL: both sides have ended. */
typedef void hga_relay_end(struct hga_relay *, void *user,
                           const struct hga_err *err);

/*
 * Opens a connection from the server to host:port (port 0: to the unix socket
 * at host) and joins it with fd, which is the relay's from now on, also on
 * failure.  from: what the server is told of the origin, "127.0.0.1" usually.
 */
int hga_relay_open(struct hga_ssh *ssh, int fd, const char *host, int port,
                   hga_relay_end *end, void *user, struct hga_relay **out,
                   struct hga_err *err) HGA_MUST_USE;
/* Ends it at once; end is not called. */
void hga_relay_close(struct hga_relay *r);

/* Message of a channel open request for direct-tcpip (port 0: streamlocal);
 * its type. */
const char *hga_direct_message(struct hga_buf *out, const char *host, int port,
                               struct hga_err *err);

/* ---- SOCKS5 (RFC 1928): CONNECT without authentication ---- */

struct hga_socks {
	char host[256];
	int port;
	size_t used;        /* bytes of input this was made of */
	unsigned char code; /* after a refusal: the reply's code */
};
/* The greeting at the front of p: bytes used, 0 more are needed, -1 it is
 * none; *ok: it offers to go without authentication. */
int hga_socks_greeting(const uint8_t *p, size_t n, bool *ok);
/* The request: 1 read, 0 more is needed, -1 refused (code tells). */
int hga_socks_request(const uint8_t *p, size_t n, struct hga_socks *out);

/* ---- forwards ---- */

enum hga_forward_kind {
	HGA_FORWARD_LOCAL,  /* we listen, the server connects */
	HGA_FORWARD_REMOTE, /* the server listens, we connect */
	HGA_FORWARD_SOCKS   /* we listen, each client says where to */
};

struct hga_forward_args {
	enum hga_forward_kind kind;
	const char *listen_host; /* NULL: 127.0.0.1; a path when port is -1 */
	int listen_port;         /* 0: any; -1: unix socket (local only) */
	const char *to_host;     /* or a path when to_port is 0 */
	int to_port;
};

struct hga_forward; /* opaque */

struct hga_forward_op {
	struct hga_op base;
	struct hga_forward *f; /* after success: the caller's */
};
/* Errors: exists InUse, usage Address, io; remote RequestDenied; net. */
int hga_forward_start(struct hga_ssh *ssh, struct hga_forward_op *op,
                      const struct hga_forward_args *args,
                      struct hga_err *err) HGA_MUST_USE;
int hga_forward_port(const struct hga_forward *f);
/* Connections that are open now; how many there were. */
unsigned hga_forward_open(const struct hga_forward *f, uint64_t *total);
void hga_forward_close(struct hga_forward *f);

#endif
