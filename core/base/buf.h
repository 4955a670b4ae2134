/*
 * Bounded byte buffer.
 *
 * Invariants: data[len] is NUL once anything was appended; len <= max.
 * A failed append changes nothing and returns -HGA_MEMORY or -HGA_PROTOCOL
 * (limit reached; code "TooLarge").  The text of the error names no content.
 * hga_buf_text never returns NULL.
 */
#ifndef HGA_BASE_BUF_H
#define HGA_BASE_BUF_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct hga_str;

struct hga_buf {
	char *data;
	size_t len, cap, max;
};

/* No allocation; max is the largest length ever held, in bytes. */
void hga_buf_init(struct hga_buf *b, size_t max);
/* Gives the memory back; safe on a zeroed struct; usable again (same max). */
void hga_buf_release(struct hga_buf *b);
/* As release, wiping the content first. */
void hga_buf_release_secret(struct hga_buf *b);
/* Empties, keeps the capacity. */
void hga_buf_clear(struct hga_buf *b);
/* Room for n more bytes; afterwards data + len may be written directly. */
int hga_buf_reserve(struct hga_buf *b, size_t n,
                    struct hga_err *err) HGA_MUST_USE;
/* Appends n bytes. */
int hga_buf_add(struct hga_buf *b, const void *p, size_t n,
                struct hga_err *err) HGA_MUST_USE;
int hga_buf_addc(struct hga_buf *b, char c, struct hga_err *err) HGA_MUST_USE;
int hga_buf_adds(struct hga_buf *b, const char *s,
                 struct hga_err *err) HGA_MUST_USE;
int hga_buf_addstr(struct hga_buf *b, struct hga_str s,
                   struct hga_err *err) HGA_MUST_USE;
/* Formatted append. */
int hga_buf_addf(struct hga_buf *b, struct hga_err *err, const char *fmt, ...)
    HGA_PRINTF(3, 4) HGA_MUST_USE;
/* Drops n bytes from the front (n <= len). */
void hga_buf_consume(struct hga_buf *b, size_t n);
/* Cuts to n bytes (n <= len). */
void hga_buf_truncate(struct hga_buf *b, size_t n);
/* NUL-terminated content, "" when empty. */
const char *hga_buf_text(const struct hga_buf *b);
/* Content as a view. */
struct hga_str hga_buf_str(const struct hga_buf *b);
/* Ownership of the NUL-terminated content passes to the caller (hga_free);
 * NULL when nothing was ever appended.  The buffer is empty afterwards. */
char *hga_buf_move(struct hga_buf *b);

#endif
