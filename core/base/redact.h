/*
 * Removal of secrets from text.
 *
 * Each registered secret is looked for as it is and as base64, base64url and
 * percent-encoded base64 (three alignments), the same over its UTF-16LE form,
 * UTF-16LE itself, percent-, JSON- and XML-escaped, and hex in both cases; each
 * run of covered bytes becomes "***".  Works across pieces of a stream: bytes
 * that may be the beginning of a secret are held back until decided. Secrets
 * under 6 bytes are refused, over 64 KiB too; those over 4 KiB are looked for
 * as they are, JSON- and XML-escaped and in base64 only.  Of a secret with
 * several lines each line of 16 bytes and more counts as well. All copies are
 * wiped.
 */
#ifndef HGA_BASE_REDACT_H
#define HGA_BASE_REDACT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HGA_REDACT_MIN 6

struct hga_redact; /* opaque: the set of secrets */

struct hga_redact *hga_redact_new(void) HGA_MUST_USE;
/* Wipes everything; NULL is allowed.  No stream may use it any more. */
void hga_redact_free(struct hga_redact *r);
/* Registers (again: counted).  -HGA_USAGE "TooShort", "TooLarge". */
int hga_redact_add(struct hga_redact *r, struct hga_str secret,
                   struct hga_err *err) HGA_MUST_USE;
/* Takes one successful hga_redact_add of this secret back. */
void hga_redact_drop(struct hga_redact *r, struct hga_str secret);
/* Number of registered secrets. */
size_t hga_redact_count(const struct hga_redact *r);

/* A stream of text being redacted; zeroed = fresh. */
struct hga_redact_stream {
	struct hga_redact *r;
	uint32_t state, epoch;
	bool hidden;          /* the last byte given out was inside a secret */
	struct hga_buf held;  /* undecided bytes */
	struct hga_buf marks; /* one byte for each: 1 = part of a secret */
};

/* r may be NULL: everything passes. */
void hga_redact_open(struct hga_redact_stream *s, struct hga_redact *r);
/* Appends what is decided to out. */
int hga_redact_feed(struct hga_redact_stream *s, struct hga_str text,
                    struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;
/* Appends the rest and starts afresh. */
int hga_redact_flush(struct hga_redact_stream *s, struct hga_buf *out,
                     struct hga_err *err) HGA_MUST_USE;
/* Gives the memory back, wiping. */
void hga_redact_close(struct hga_redact_stream *s);

/* A whole text at once. */
int hga_redact_text(struct hga_redact *r, struct hga_str text,
                    struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

/*
 * Appends text with well-known shapes removed: access key ids (AKIA/ASIA and
 * 16 letters or digits), values of Authorization and X-Amz-Security-Token
 * headers or parameters, PEM private key blocks.
 */
int hga_redact_shapes(struct hga_str text, struct hga_buf *out,
                      struct hga_err *err) HGA_MUST_USE;

#endif
