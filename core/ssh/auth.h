/*
 * Login: keys given by the caller, then those of an agent, then a password,
 * then keyboard-interactive; the last two only when given.
 *
 * Each key is tried once (with its certificate before that), at most 5 tries
 * in all (a server counts 6).  Private keys stay in base/crypto or in the
 * agent; libssh2 only asks for signatures.  A protected key is opened when the
 * server wants it, not before.  The agent client never blocks: frames up to
 * 256 KiB, 256 keys, 5 s an answer.  Questions (passphrase, prompts) go to the
 * owner of the connect operation; no deadline runs meanwhile.
 */
#ifndef HGA_SSH_AUTH_H
#define HGA_SSH_AUTH_H

#include "base/buf.h"
#include "base/crypto.h"
#include "base/str.h"
#include "net/loop.h"
#include "ssh/session.h"

#include <stdbool.h>

/* ---- agent protocol (draft-ietf-sshm-ssh-agent) ---- */

#define HGA_AGENT_FRAME (256 * 1024)
#define HGA_AGENT_KEYS 256

struct hga_agent_ids {
	struct hga_str blob[HGA_AGENT_KEYS];
	size_t n;
};

/* Keys in an IDENTITIES_ANSWER (without the length word); views into it. */
int hga_agent_parse_ids(struct hga_str frame, struct hga_agent_ids *out,
                        struct hga_err *err) HGA_MUST_USE;
/* Signature blob in a SIGN_RESPONSE: algorithm and raw signature. */
int hga_agent_parse_sig(struct hga_str frame, struct hga_str *alg,
                        struct hga_str *sig, struct hga_err *err) HGA_MUST_USE;

/* A string of SSH's wire format at *at; false when it does not fit. */
bool hga_wire_str(struct hga_str data, size_t *at, struct hga_str *out);
bool hga_wire_u32(struct hga_str data, size_t *at, uint32_t *out);
/* Signature algorithm named in the data a server wants signed (RFC 4252
 * section 7); false when it has another form. */
bool hga_auth_sigalg(struct hga_str data, struct hga_str *alg);

struct hga_agent {
	struct hga_loop *loop;
	struct hga_watch watch;
	struct hga_timer timer;
	int fd; /* -1: not connected */
	struct hga_buf tx, rx;
	bool busy, answered; /* a request is out; rx holds the whole answer */
	struct hga_err err;  /* why the client ended */
	void (*wake)(void *data);
	void *data;
};

/* Connects to a socket; -HGA_AUTH AgentUnavailable. */
int hga_agent_open(struct hga_agent *a, struct hga_loop *loop, const char *path,
                   void (*wake)(void *), void *data,
                   struct hga_err *err) HGA_MUST_USE;
/* Sends one request (type and body); wake is called when it was answered. */
int hga_agent_ask(struct hga_agent *a, uint8_t type, struct hga_str body,
                  struct hga_err *err) HGA_MUST_USE;
/* 1: *answer is the frame; 0: not yet; -kind: failed. */
int hga_agent_answer(struct hga_agent *a, struct hga_str *answer,
                     struct hga_err *err) HGA_MUST_USE;
void hga_agent_close(struct hga_agent *a);

/* ---- login ---- */

enum hga_auth_state {
	HGA_AUTH_METHODS,
	HGA_AUTH_NEXT,
	HGA_AUTH_AGENT,  /* waits for the agent's list */
	HGA_AUTH_UNLOCK, /* a key that does not show its public half */
	HGA_AUTH_TRY,
	HGA_AUTH_PASSWORD,
	HGA_AUTH_KBD
};

/* A user certificate and the public key it is for. */
struct hga_auth_cert {
	struct hga_buf cert, blob;
};
/* Reads "TYPE BASE64 [comment]" of an OpenSSH certificate (PROTOCOL.certkeys);
 * -HGA_AUTH KeyFormat, KeyUnsupported. */
int hga_auth_cert_parse(struct hga_str text, const char *what,
                        struct hga_auth_cert *out,
                        struct hga_err *err) HGA_MUST_USE;
void hga_auth_cert_release(struct hga_auth_cert *c);

struct hga_auth_id {
	struct hga_key *key; /* ours, or NULL: the agent's */
	struct hga_buf blob; /* public key */
	bool agent, wanted;  /* in the agent; only a wish of the caller */
	bool tried, tried_cert;
	char *path;      /* of a protected key that is not open yet */
	unsigned opened; /* tries */
};

struct hga_auth {
	enum hga_auth_state state;
	struct hga_auth_id *ids;
	size_t n_ids, cap_ids, at;
	unsigned attempts;
	char *agent_path;
	bool identities_only, agent_asked;
	struct hga_agent agent;
	struct hga_buf sign_body;
	bool signing;
	struct hga_err sign_err;
	struct hga_ssh *ssh; /* its owner */
	struct hga_auth_cert *certs;
	size_t n_certs;
	struct hga_buf *at_cert; /* of the try that runs, or NULL */
	struct hga_buf passphrase, password;
	bool can_ask, password_tried, kbd_tried, kbd_used;
	unsigned kbd_rounds;
	struct hga_err locked; /* a key that nobody could open */
	struct hga_ssh_question question;
	bool asking, answered;
	struct hga_buf answers[HGA_SSH_PROMPTS];
	size_t n_answers;
	char methods[128]; /* the server's list; "": it has told none yet */
	bool unasked;      /* the first key goes without that list */
	struct hga_buf tried;
	void *abstract; /* handed through libssh2 */
	void *heap;     /* its allocator's, for signatures */
};

/* Loads key files and takes references; errors Key*. */
int hga_auth_init(struct hga_auth *a, const struct hga_ssh_args *args,
                  struct hga_err *err) HGA_MUST_USE;
void hga_auth_release(struct hga_auth *a);
/* What hga_ssh_connect_answer does. */
int hga_auth_answer(struct hga_auth *a, const struct hga_str *texts, size_t n,
                    struct hga_err *err) HGA_MUST_USE;
/* The login need not wait for the answer to SERVICE_REQUEST: its first request
 * is known, whatever the server says before. */
bool hga_auth_early(const struct hga_auth *a);
/* One step of the login: 1 logged in, 0 wait for the peer, -kind failed. */
int hga_auth_step(struct hga_ssh *ssh, struct hga_err *err) HGA_MUST_USE;

#endif
