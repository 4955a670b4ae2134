/*
 * AWS credentials: secrets in wiped memory and the chain that finds them.
 *
 * A struct hga_creds is an immutable, reference-counted snapshot: a call
 * keeps the one it began with.  Secrets are registered with the log's
 * redactor when they are stored, and never appear in messages.
 *
 * The chain asks its providers in order; the first that applies wins.  One
 * that is configured but cannot deliver is an error: nothing falls through.
 * Getting credentials is an operation on the loop: it may need requests, a
 * child process or an answer on the terminal.  Clients whose configuration
 * leads to the same providers share what was got; credentials that expire
 * are got anew in time, once for all who wait.
 */
#ifndef HGA_AWS_CRED_H
#define HGA_AWS_CRED_H

#include "aws/config.h"
#include "aws/sign.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "net/op.h"

#include <stdbool.h>
#include <stdint.h>

struct hga_aws_client;
struct cred_source;

/* A secret text; wiped when given up. */
struct hga_secret {
	char *s; /* NUL-terminated; NULL: none */
	size_t n;
};

/* Copies and registers for redaction; the old content is wiped. */
int hga_secret_set(struct hga_secret *s, struct hga_str text,
                   struct hga_err *err) HGA_MUST_USE;
/* Wipes and frees; safe on a zeroed struct. */
void hga_secret_release(struct hga_secret *s);

struct hga_creds {
	unsigned refs;
	char provider[24]; /* "argument", "environment", "assume-role", ... */
	char where[160];   /* variable, or file and profile */
	char *access_key_id;
	struct hga_secret secret, token;
	char account_id[16]; /* "" unless the configuration told it */
	int64_t expires_us;  /* wall clock; 0: never */
};

/*
 * Makes credentials (one reference, the caller's).  Blanks around the texts
 * are dropped; an empty id or secret is -HGA_AUTH "PartialCredentials".
 */
int hga_creds_new(struct hga_creds **out, const char *provider,
                  struct hga_str access_key_id, struct hga_str secret,
                  struct hga_str token, struct hga_err *err) HGA_MUST_USE;
/* Only a bearer token; id and secret stay empty. */
int hga_creds_new_token(struct hga_creds **out, const char *provider,
                        struct hga_str token, struct hga_err *err) HGA_MUST_USE;
struct hga_creds *hga_creds_ref(struct hga_creds *c);
/* Drops one reference; NULL is allowed. */
void hga_creds_free(struct hga_creds *c);
/* View for the signer, valid as long as the reference. */
struct hga_aws_creds hga_creds_view(const struct hga_creds *c);

/* ---- getting them ---- */

struct hga_creds_get {
	struct hga_op base;
	struct hga_creds *creds; /* success: a reference, taken on release */
	struct hga_buf tried;    /* NoCredentials: one line per provider */
	/* ---- the module's ---- */
	struct hga_aws_client *client;
	struct cred_source *source;
	struct hga_creds_get *next;
};

/*
 * Gets the client's credentials in a zeroed struct.  1: at once, g->creds is
 * set and no callback comes; 0: running; < 0: none.  Errors, here or in
 * g->base.err, are kind auth: "NoCredentials" (g->tried says why for each
 * provider), "PartialCredentials", "CredentialProvider" (configured, but
 * broken; names profile, key or variable), "Expired", "NoTerminal"; or what
 * the request or file behind it failed with.
 */
int hga_creds_get_start(struct hga_creds_get *g, struct hga_aws_client *client,
                        struct hga_err *err) HGA_MUST_USE;
/* The same for the bearer token of an sso-session (g->creds->token). */
int hga_creds_bearer_start(struct hga_creds_get *g,
                           struct hga_aws_client *client,
                           struct hga_err *err) HGA_MUST_USE;
/* Cancels a running one and frees; safe on a zeroed struct. */
void hga_creds_get_release(struct hga_creds_get *g);

#endif
