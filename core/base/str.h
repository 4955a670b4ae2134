/*
 * Views of text (not NUL-terminated), numbers, hex, base64, percent coding,
 * edit distance.
 *
 * A struct hga_str borrows its bytes; it owns nothing.  Coders append to a
 * struct hga_buf and fail as hga_buf_add does.
 */
#ifndef HGA_BASE_STR_H
#define HGA_BASE_STR_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hga_str {
	const char *s;
	size_t n;
};

/* View of a literal. */
#define HGA_STR(lit) ((struct hga_str){"" lit, sizeof(lit) - 1})

/* For printf's %.*s. */
#define HGA_STRF(x) (int)((x).n > 4096 ? 4096 : (x).n), (x).s

/* View of a NUL-terminated string; NULL gives the empty view. */
static inline struct hga_str hga_str(const char *s)
{
	struct hga_str r = {s ? s : "", s ? strlen(s) : 0};
	return r;
}

/* View of n bytes. */
static inline struct hga_str hga_strn(const char *s, size_t n)
{
	struct hga_str r = {s, n};
	return r;
}

bool hga_str_eq(struct hga_str a, struct hga_str b);
bool hga_str_eqc(struct hga_str a, const char *b);
/* ASCII case ignored. */
bool hga_str_ieq(struct hga_str a, struct hga_str b);
bool hga_str_ieqc(struct hga_str a, const char *b);
/* Byte order, as strcmp. */
int hga_str_cmp(struct hga_str a, struct hga_str b);
bool hga_str_starts(struct hga_str a, const char *prefix);
bool hga_str_ends(struct hga_str a, const char *suffix);
/* Without blanks (space, tab, CR, LF) at both ends. */
struct hga_str hga_str_trim(struct hga_str a);
/* Index of byte c from position from, or -1. */
ptrdiff_t hga_str_chr(struct hga_str a, char c, size_t from);
/* Index of needle, or -1. */
ptrdiff_t hga_str_find(struct hga_str a, struct hga_str needle);
/* Glob with * and ?; case sensitive; no escapes. */
bool hga_str_glob(struct hga_str pattern, struct hga_str text);

/* Whole view is a decimal integer (optional sign) in range; else false. */
bool hga_str_int(struct hga_str a, int64_t *out) HGA_MUST_USE;
bool hga_str_uint(struct hga_str a, uint64_t *out) HGA_MUST_USE;
/* Whole view is a number in C syntax; locale-independent; else false. */
bool hga_str_num(struct hga_str a, double *out) HGA_MUST_USE;
/* Shortest decimal text that reads back the same, with '.' or 'e' in it
 * ("3.0", "1e+20", "inf", "nan"); locale-independent; returns its length. */
size_t hga_num_text(char out[32], double v);

/* Lower-case hex of n bytes. */
int hga_hex_encode(struct hga_buf *out, const void *p, size_t n,
                   struct hga_err *err) HGA_MUST_USE;
/* -HGA_PROTOCOL on odd length or a wrong digit. */
int hga_hex_decode(struct hga_buf *out, struct hga_str hex,
                   struct hga_err *err) HGA_MUST_USE;
/* Standard alphabet with padding. */
int hga_b64_encode(struct hga_buf *out, const void *p, size_t n,
                   struct hga_err *err) HGA_MUST_USE;
/* Standard or URL alphabet, padding optional, blanks skipped. */
int hga_b64_decode(struct hga_buf *out, struct hga_str b64,
                   struct hga_err *err) HGA_MUST_USE;
/* The same in pieces, cut anywhere: zeroed, fed, ended.  What a failing call
 * appended is taken back, what calls before it did is not. */
struct hga_b64 {
	uint32_t acc;
	unsigned have, pad; /* characters in acc, of padding */
};
int hga_b64_feed(struct hga_b64 *d, struct hga_buf *out, struct hga_str b64,
                 struct hga_err *err) HGA_MUST_USE;
int hga_b64_end(const struct hga_b64 *d, struct hga_buf *out,
                struct hga_err *err) HGA_MUST_USE;
/* RFC 3986: all but A-Za-z0-9-_.~ and the bytes of safe become %XX. */
int hga_pct_encode(struct hga_buf *out, struct hga_str text, const char *safe,
                   struct hga_err *err) HGA_MUST_USE;
/* plus: '+' is a blank.  A bad escape stays as it is. */
int hga_pct_decode(struct hga_buf *out, struct hga_str text, bool plus,
                   struct hga_err *err) HGA_MUST_USE;

/* Well-formed UTF-8 without surrogates and overlong forms. */
bool hga_utf8_valid(struct hga_str a);
/* Bytes of the well-formed character at the front and its code point (cp may
 * be NULL); 0 when it is malformed or a is empty. */
size_t hga_utf8_next(struct hga_str a, uint32_t *cp);
/* Encodes a code point (a surrogate or one out of range as U+FFFD); returns
 * the bytes used. */
size_t hga_utf8_put(char out[4], uint32_t cp);

/*
 * Optimal-string-alignment distance (insert, delete, replace, swap of
 * neighbours), ASCII case ignored; texts over 64 bytes give SIZE_MAX.
 */
size_t hga_str_distance(struct hga_str a, struct hga_str b);

#endif
