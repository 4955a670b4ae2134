/*
 * AWS credentials: secrets in wiped memory and the chain that finds them.
 *
 * A struct hga_creds is an immutable, reference-counted snapshot: a call
 * keeps the one it began with.  Secrets are registered with the log's
 * redactor when they are stored, and never appear in messages.
 *
 * The chain asks its providers in order; the first that applies wins.  One
 * that is configured but cannot deliver is an error: nothing falls through.
 */
#ifndef HGA_AWS_CRED_H
#define HGA_AWS_CRED_H

#include "aws/config.h"
#include "aws/sign.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

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
	char provider[24]; /* "argument", "environment", "profile" */
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
struct hga_creds *hga_creds_ref(struct hga_creds *c);
/* Drops one reference; NULL is allowed. */
void hga_creds_free(struct hga_creds *c);
/* View for the signer, valid as long as the reference. */
struct hga_aws_creds hga_creds_view(const struct hga_creds *c);

/*
 * Asks the chain under the configuration (which is loaded if need be).
 * Without result: -HGA_AUTH "NoCredentials", and *tried (may be NULL) gets
 * one line per provider saying why it did not apply.  A provider that is
 * configured but broken or not supported: -HGA_AUTH "CredentialProvider" or
 * "PartialCredentials", naming the key or variable.
 */
int hga_creds_find(struct hga_aws_config *cfg, struct hga_creds **out,
                   struct hga_buf *tried, struct hga_err *err) HGA_MUST_USE;

#endif
