/*
 * AWS Signature Version 4: header form, query form (presigned URL), and the
 * single steps, shared by the client and by the verifying local cloud.
 *
 * Secrets: the secret key and derived keys live in wiped memory only and
 * never appear in any output but as HMAC results.
 */
#ifndef HGA_AWS_SIGN_H
#define HGA_AWS_SIGN_H

#include "aws/request.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

/* Borrowed view of credentials; an empty token means none. */
struct hga_aws_creds {
	struct hga_str access_key, secret_key, token;
};

struct hga_sign_args {
	struct hga_aws_creds creds;
	struct hga_str region, service;
	int64_t time_s;        /* wall clock, seconds since 1970 */
	struct hga_str host;   /* Host header value, when the request has
	                          none: lower case, no default port */
	bool raw_path;         /* path as sent (s3, disableDoubleEncoding);
	                          else normalised and encoded again */
	bool keep_path;        /* encode again but do not normalise */
	bool unsigned_payload; /* UNSIGNED-PAYLOAD */
	bool content_sha256;   /* header form: send x-amz-content-sha256 */
	bool omit_token;       /* add the token after signing */
	unsigned expires_s;    /* query form only: 1..604800 */
};

/* Derived keys of the last requests: 8 entries, wiped on eviction.  Zero it
 * before use; hga_sign_cache_release wipes it. */
struct hga_sign_key {
	char id[32]; /* of the key, as a digest */
	unsigned char key[32];
	uint64_t used;
};

struct hga_sign_cache {
	struct hga_sign_key v[8];
	uint64_t clock;
};

void hga_sign_cache_release(struct hga_sign_cache *c);

/* What was computed, for trace and tests; zero it; release it. */
struct hga_sign_trace {
	struct hga_buf canonical, to_sign;
	char signature[65];
};

void hga_sign_trace_release(struct hga_sign_trace *t);

/*
 * Signs r: sets X-Amz-Date (unless r has Date), X-Amz-Security-Token,
 * X-Amz-Content-Sha256 (if asked for) and Authorization; a Host header is
 * only added to what is signed, not to r.  Signing again replaces all of
 * them.  cache and trace may be NULL.  Fails with memory or bug.
 */
int hga_aws_sign(struct hga_aws_request *r, const struct hga_sign_args *a,
                 struct hga_sign_cache *cache, struct hga_sign_trace *trace,
                 struct hga_err *err) HGA_MUST_USE;

/*
 * Query form: extends r->query with the X-Amz-* parameters, Signature last.
 * Headers of r are signed and must be sent with the URL.  Fails with usage
 * for a wrong expires_s.
 */
int hga_aws_presign(struct hga_aws_request *r, const struct hga_sign_args *a,
                    struct hga_sign_cache *cache, struct hga_sign_trace *trace,
                    struct hga_err *err) HGA_MUST_USE;

/* ---- single steps (server side) ---- */

struct hga_sign_header {
	struct hga_str name, value;
};

struct hga_sign_request {
	struct hga_str method, path, query; /* as they came over the wire */
	const struct hga_sign_header *headers;
	size_t n_headers;
	struct hga_str signed_headers; /* "host;x-amz-date": only these; empty:
	                                  all but the never-signed ones */
	struct hga_str payload_hash;   /* last line */
	bool raw_path, keep_path;      /* as in struct hga_sign_args */
	bool drop_signature;           /* leave X-Amz-Signature out of query */
};

/* Appends the canonical request; signed (may be NULL) gets the list. */
int hga_sign_canonical(struct hga_buf *out, struct hga_buf *signed_list,
                       const struct hga_sign_request *r,
                       struct hga_err *err) HGA_MUST_USE;
/* Appends the string to sign; date "20150830T123600Z". */
int hga_sign_string(struct hga_buf *out, struct hga_str date,
                    struct hga_str region, struct hga_str service,
                    struct hga_str canonical, struct hga_err *err) HGA_MUST_USE;
/* Hex signature of a string to sign; date: its first 8 characters count. */
int hga_sign_signature(char out[65], struct hga_str secret, struct hga_str date,
                       struct hga_str region, struct hga_str service,
                       struct hga_str to_sign, struct hga_sign_cache *cache,
                       struct hga_err *err) HGA_MUST_USE;

/* Parts of an Authorization header or of a presigned query. */
struct hga_sign_auth {
	char access_key[129], date8[9], region[65], service[65];
	char signature[65];
	char amz_date[17];             /* query form: X-Amz-Date, else "" */
	int64_t expires_s;             /* query form, else -1 */
	struct hga_str signed_headers; /* view into the input (header form) or
	                                  into buf (query form) */
	struct hga_buf buf; /* release it with hga_sign_auth_release */
};

/* -HGA_AUTH, code "IncompleteSignature", with the reason, when it is not
 * well-formed "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
 * Signature=...". */
int hga_sign_parse_header(struct hga_sign_auth *a, struct hga_str value,
                          struct hga_err *err) HGA_MUST_USE;
/* Same from an encoded query string; -HGA_NOTFOUND without X-Amz-Signature. */
int hga_sign_parse_query(struct hga_sign_auth *a, struct hga_str query,
                         struct hga_err *err) HGA_MUST_USE;
void hga_sign_auth_release(struct hga_sign_auth *a);

#endif
