/*
 * One SSH connection: connect, key exchange, host key, login, then a pump
 * that serves all channels, with keepalive probes.
 *
 * The host key is compared with a pin, else with known_hosts files, before any
 * userauth message; without either connecting is refused (kind bug).  libssh2
 * is called from the pump only, never from a start function.  Any transport
 * error ends the session: every operation on it ends with that error, in the
 * order of their start; there is no silent reconnect.  A struct hga_ssh is
 * counted: its owner's reference goes with hga_ssh_close; running operations
 * hold their own.
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
	char file[256];       /* known_hosts file that decided */
	unsigned line;        /* its line, 0: none */
	const char *hint;     /* what to do, or NULL; static */
	char proxy[2049];     /* last lines of a proxy command's stderr */
};

/* A key to log in with: a handle, or a private key file. */
struct hga_ssh_cred {
	struct hga_key *key; /* borrowed; the session takes a reference */
	const char *path;    /* private key, or a .pub that an agent has */
	bool optional;       /* no error when the file is missing */
};

#define HGA_SSH_PROMPTS 16

/* What the server or a key asks for while logging in. */
enum hga_ssh_ask {
	HGA_ASK_PASSPHRASE, /* of the key file path */
	HGA_ASK_PROMPTS     /* keyboard-interactive */
};
struct hga_ssh_question {
	enum hga_ssh_ask what;
	const char *path;
	unsigned attempt; /* from 1: the passphrase was wrong before */
	char *name, *instruction;
	unsigned n;
	struct {
		char *text;
		bool echo;
	} prompts[HGA_SSH_PROMPTS];
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
	/* When there are no pins: files to look in; our own, which accept_new
	 * lets an unknown key be written to; another name to look for. */
	const char *const *known_hosts;
	size_t n_known_hosts;
	const char *own_known_hosts;
	bool accept_new;
	const char *host_key_alias;
	/* Certificates (files) for the keys in creds. */
	const char *const *certs;
	size_t n_certs;
	struct hga_str passphrase; /* n 0: none; copied, wiped */
	struct hga_str password;   /* likewise */
	bool can_ask;              /* progress is called for questions */
	const char *ciphers; /* comma separated, narrows ours; NULL: all */
	const char *kex, *macs, *hostkeys; /* likewise */
	int family;                        /* 0, 4, 6 */
	const char *bind_address;
	/* 0: 15 s each, 45 s in all */
	int64_t connect_ms, banner_ms, kex_ms, login_ms, total_ms;
	int64_t interval_ms; /* keepalive; 0: 15 s */
	int count;           /* unanswered probes; 0: 3 */
	/* Instead of TCP: through another session, or over a command whose
	 * standard input and output are the connection (given to /bin/sh). */
	struct hga_ssh *via; /* borrowed; a reference is taken */
	const char *proxy_command;
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
	/* Set when progress is called: to be answered, time stands still. */
	const struct hga_ssh_question *question;
};

/*
 * Errors: as net/dial; net BannerClosed, ConnectionLost; protocol Banner,
 * KexNoMatch, Malformed; auth HostKeyChanged, HostKeyUnknown, HostKeyRevoked,
 * AuthRejected, AuthTooMany, Key*, AgentUnavailable; net ProxyFailed; timeout
 * Connect, Login; bug without any source of trust.  args are copied.
 */
int hga_ssh_connect_start(struct hga_loop *loop, struct hga_ssh_connect *op,
                          const struct hga_ssh_args *args,
                          struct hga_err *err) HGA_MUST_USE;

/*
 * Answers op->question: one text per prompt, or the passphrase; n 0: no answer
 * (the key or method is given up).  The texts are copied and wiped.
 */
int hga_ssh_connect_answer(struct hga_ssh_connect *op,
                           const struct hga_str *texts, size_t n,
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
	const char *trust;      /* pin, known_hosts, new */
	const char *trust_file; /* of known_hosts, or "" */
	unsigned trust_line;
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

/* The SSH library and its version. */
const char *hga_ssh_library(void);
/* True when a missing exit status can be told from 0. */
bool hga_ssh_knows_status(void);
/* Once, at the end of the process. */
void hga_ssh_global_end(void);

#endif
