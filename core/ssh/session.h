/*
 * One SSH connection: connect, key exchange, host key, login, then a pump
 * that serves all channels, with keepalive probes.
 *
 * The host key is compared with a pin before any userauth message; without a
 * pin connecting is refused (kind bug).  libssh2 is called from the pump only,
 * never from a start function.  Any transport error ends the session: every
 * operation on it ends with that error, in the order of their start; there is
 * no silent reconnect.  A struct hga_ssh is counted: its owner's reference
 * goes with hga_ssh_close; running operations hold their own.
 *
 * Limits: 50 lines or 8 KiB before the banner, 10 channels, packets of 35,000
 * bytes, every phase has a deadline.
 */
#ifndef HGA_SSH_SESSION_H
#define HGA_SSH_SESSION_H

#include "base/crypto.h"
#include "base/str.h"
#include "net/loop.h"
#include "net/op.h"
#include "ssh/bio.h"

struct hga_ssh; /* opaque */

/* What an error knows beyond its text; empty strings are unknown. */
struct hga_ssh_more {
	const char *phase;    /* resolve connect banner keyexchange hostkey
	                         login exec sftp; NULL: none */
	char fingerprint[64]; /* of the server's key */
	char expected[160];   /* fingerprints of the pins */
	char methods[128];    /* login methods the server allows */
	char tried[400];      /* what was tried */
	char server[256];     /* the server's own words, filtered */
};

/* A key to log in with: a handle, or a private key file. */
struct hga_ssh_cred {
	struct hga_key *key; /* borrowed; the session takes a reference */
	const char *path;
};

struct hga_ssh_args {
	const char *name; /* in messages; NULL: host */
	const char *host;
	int port; /* 0: 22 */
	const char *user;
	/* Trusted keys: "TYPE BASE64 [comment]" or "SHA256:...". */
	const struct hga_str *pins;
	size_t n_pins;
	const struct hga_ssh_cred *creds;
	size_t n_creds;
	const char *agent;    /* socket of an agent; NULL: none */
	bool identities_only; /* of the agent's keys only those in creds */
	const char *ciphers;  /* comma separated, narrows ours; NULL: all */
	int family;           /* 0, 4, 6 */
	const char *bind_address;
	/* 0: 15 s each, 45 s in all */
	int64_t connect_ms, banner_ms, kex_ms, login_ms, total_ms;
	int64_t interval_ms; /* keepalive; 0: 15 s */
	int count;           /* unanswered probes; 0: 3 */
	/* Tests: a transport instead of dialling. */
	const struct hga_bio_ops *ops;
	void *ops_ctx;
	int ops_fd;
};

struct hga_ssh_connect {
	struct hga_op base;
	struct hga_ssh *ssh;      /* after success: the caller's reference */
	struct hga_ssh_more more; /* after failure */
	bool banner_seen;         /* the server answered at all */
	bool before_login;        /* failed before the first login attempt */
};

/*
 * Errors: as net/dial; net BannerClosed, ConnectionLost; protocol Banner,
 * KexNoMatch, Malformed; auth HostKeyChanged, AuthRejected, AuthTooMany, Key*,
 * AgentUnavailable; timeout Connect, Login; bug without any pin.  args are
 * copied.
 */
int hga_ssh_connect_start(struct hga_loop *loop, struct hga_ssh_connect *op,
                          const struct hga_ssh_args *args,
                          struct hga_err *err) HGA_MUST_USE;

/* Ends the connection at once, without waiting for the peer; operations on it
 * end with net ConnectionLost from the loop.  Drops the reference. */
void hga_ssh_close(struct hga_ssh *ssh);

/* One probe and its answer. */
struct hga_ssh_ping {
	struct hga_op base;
	double seconds;
	struct hga_ssh *ssh_;
	struct hga_ssh_ping *next_;
	unsigned want_;
	uint64_t rx_;
	int64_t t0_us;
};
/* Errors: net ConnectionLost, KeepaliveTimeout. */
int hga_ssh_ping_start(struct hga_ssh *ssh, struct hga_ssh_ping *op,
                       struct hga_err *err) HGA_MUST_USE;

/* What is known of a session; texts live as long as the session. */
struct hga_ssh_info {
	const char *name, *host, *address, *user, *server, *kex, *hostkey,
	    *cipher, *mac, *fingerprint, *banner;
	int port;
	uint64_t rx, tx;
	double rtt; /* seconds, 0: unknown */
	unsigned channels;
	bool alive;
	struct hga_str key; /* raw blob of the host key */
};
void hga_ssh_get_info(struct hga_ssh *ssh, struct hga_ssh_info *out);
/* The error that ended the session, or NULL while it lives. */
const struct hga_err *hga_ssh_dead_err(const struct hga_ssh *ssh);

/* Library and the edits it was built with ("bulk status probe"). */
const char *hga_ssh_library(void);
const char *hga_ssh_edits(void);
/* True when a missing exit status can be told from 0. */
bool hga_ssh_knows_status(void);
/* Once, at the end of the process. */
void hga_ssh_global_end(void);

#endif
