/*
 * One HTTP request to AWS as bytes, before a host is known: what the
 * serialisers make, the signer reads and completes, the transport sends.
 *
 * Header names are kept as given and compared without case.  All text is
 * owned by the request.
 */
#ifndef HGA_AWS_REQUEST_H
#define HGA_AWS_REQUEST_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

/* Ordered list of owned name/value pairs; zero it to make it empty. */
struct hga_aws_pair {
	char *name, *value;
};

struct hga_aws_pairs {
	struct hga_aws_pair *v;
	size_t n, cap;
};

/* Appends, even if the name is there already. */
int hga_aws_pairs_add(struct hga_aws_pairs *h, struct hga_str name,
                      struct hga_str value, struct hga_err *err) HGA_MUST_USE;
/* Replaces the first of that name and drops others, or appends. */
int hga_aws_pairs_set(struct hga_aws_pairs *h, struct hga_str name,
                      struct hga_str value, struct hga_err *err) HGA_MUST_USE;
/* First value of that name (case ignored) or NULL. */
const char *hga_aws_pairs_get(const struct hga_aws_pairs *h, const char *name);
void hga_aws_pairs_remove(struct hga_aws_pairs *h, const char *name);
/* Wipes and frees the texts; empty afterwards. */
void hga_aws_pairs_release(struct hga_aws_pairs *h);

struct hga_aws_request {
	char method[16];
	struct hga_buf path;  /* percent-encoded as sent, from '/' */
	struct hga_buf query; /* encoded as sent, without '?' */
	struct hga_aws_pairs headers;
	struct hga_buf body;
	bool has_body;               /* false: no body and no Content-Type */
	char *file;                  /* the body is this file's content, or
	                                NULL; body is empty then */
	int sum;                     /* enum hga_aws_sum of that file, body.h */
	char payload_hash[65];       /* hex SHA-256 of the file's content, for
	                                the signer; "": of body */
	struct hga_buf host_prefix;  /* put before the endpoint's host */
	struct hga_aws_pairs tokens; /* filled-in idempotency tokens: path of
	                                the member, token */
};

/* Body and texts together are limited to max_body bytes. */
void hga_aws_request_init(struct hga_aws_request *r, size_t max_body);
/* Frees everything, wiping it; safe on a zeroed struct. */
void hga_aws_request_release(struct hga_aws_request *r);

#endif
