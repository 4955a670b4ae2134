/*
 * JSON: push parser, reading into values, streaming writer.
 *
 * Parser: bytes in, events out; RFC 8259, UTF-8 only, exactly one value.
 * Strings are decoded; lone surrogates become U+FFFD; malformed UTF-8, raw
 * control bytes and trailing data are errors.  Integers are exact within
 * int64; larger ones are numbers.  Limits: nesting 100, string 32 MiB.
 * Errors are -HGA_PROTOCOL ("Syntax", "TooDeep", "TooLarge") with the byte
 * offset; no content is quoted.  A parser that failed stays failed.
 */
#ifndef HGA_BASE_JSON_H
#define HGA_BASE_JSON_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HGA_JSON_DEPTH 100

enum hga_json_type {
	HGA_JSON_OBJECT,
	HGA_JSON_OBJECT_END,
	HGA_JSON_ARRAY,
	HGA_JSON_ARRAY_END,
	HGA_JSON_KEY,
	HGA_JSON_STR,
	HGA_JSON_INT,
	HGA_JSON_NUM,
	HGA_JSON_BOOL,
	HGA_JSON_NULL
};

struct hga_json_event {
	enum hga_json_type type;
	struct hga_str text; /* KEY, STR: decoded; INT, NUM: as written;
	                      * valid during the call only */
	int64_t i;           /* INT */
	double d;            /* INT and NUM */
	bool b;              /* BOOL */
};

/* Takes one event; < 0 (err filled) stops the parser with that result. */
typedef int (*hga_json_fn)(void *data, const struct hga_json_event *ev,
                           struct hga_err *err);

struct hga_json; /* opaque parser */

/* NULL without memory.  data is handed to fn. */
struct hga_json *hga_json_new(hga_json_fn fn, void *data) HGA_MUST_USE;
void hga_json_free(struct hga_json *p);
/* Feeds n bytes, cut anywhere. */
int hga_json_feed(struct hga_json *p, const void *bytes, size_t n,
                  struct hga_err *err) HGA_MUST_USE;
/* No more bytes: error unless exactly one whole value was seen. */
int hga_json_end(struct hga_json *p, struct hga_err *err) HGA_MUST_USE;

/*
 * An hga_json_fn that builds the tape given as data: objects become MAP,
 * arrays LIST, null NULL.  Of equal keys look-ups find the last.
 */
int hga_json_into_tape(void *tape, const struct hga_json_event *ev,
                       struct hga_err *err) HGA_MUST_USE;

/* Parses a whole text into a new tape of at most max bytes; the caller frees
 * *out. */
int hga_json_parse(struct hga_str text, size_t max, struct hga_vtape **out,
                   struct hga_err *err) HGA_MUST_USE;

/*
 * Writer.  The first failure sticks; hga_jw_end tells it.  Malformed UTF-8
 * becomes U+FFFD; inf and nan are -HGA_USAGE "NotFinite"; depth over 128 or
 * a misplaced call is -HGA_BUG.  Caller's memory, owns nothing.
 */
struct hga_jw {
	struct hga_buf *out;
	struct hga_err err;
	int indent; /* spaces per level, 0: compact */
	unsigned depth;
	bool first;         /* nothing in the innermost container yet */
	bool keyed;         /* a key was written, its value is due */
	uint64_t arrays[2]; /* bit per level: array */
};

void hga_jw_init(struct hga_jw *w, struct hga_buf *out, int indent);
void hga_jw_object(struct hga_jw *w);
void hga_jw_array(struct hga_jw *w);
/* Closes the innermost object or array. */
void hga_jw_close(struct hga_jw *w);
void hga_jw_key(struct hga_jw *w, struct hga_str key);
void hga_jw_str(struct hga_jw *w, struct hga_str v);
void hga_jw_int(struct hga_jw *w, int64_t v);
/* Shortest text that reads back the same; always with '.', 'e' or both. */
void hga_jw_num(struct hga_jw *w, double v);
void hga_jw_bool(struct hga_jw *w, bool v);
void hga_jw_null(struct hga_jw *w);
/* A ready JSON text as the next value (trusted, copied as it is). */
void hga_jw_raw(struct hga_jw *w, struct hga_str json);
/* key and value in one call, for records. */
void hga_jw_kstr(struct hga_jw *w, const char *key, struct hga_str v);
void hga_jw_kint(struct hga_jw *w, const char *key, int64_t v);
/* A value of any type: BLOB as base64, EMPTY as {}; sort: keys in byte order
 * and the last of equal keys only. */
void hga_jw_val(struct hga_jw *w, struct hga_val v, bool sort);
/* 0 when all calls succeeded and everything is closed. */
int hga_jw_end(struct hga_jw *w, struct hga_err *err) HGA_MUST_USE;

/* hga_jw_val for a whole text. */
int hga_json_write(struct hga_buf *out, struct hga_val v, int indent, bool sort,
                   struct hga_err *err) HGA_MUST_USE;

#endif
