/*
 * Quoting for the POSIX shell.
 *
 * The result is one word for any POSIX shell whatever the bytes; a NUL byte
 * cannot be carried: -HGA_USAGE "Nul".
 */
#ifndef HGA_BASE_QUOTE_H
#define HGA_BASE_QUOTE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stddef.h>

/* Appends word, in single quotes when anything in it needs them. */
int hga_quote_sh(struct hga_buf *out, struct hga_str word,
                 struct hga_err *err) HGA_MUST_USE;
/* Appends words separated by blanks. */
int hga_quote_sh_list(struct hga_buf *out, const struct hga_str *words,
                      size_t n, struct hga_err *err) HGA_MUST_USE;

/*
 * Splits a line into words as a POSIX shell does without expanding anything:
 * blanks, '', "", backslash.  Words are appended to out, each ended by NUL;
 * *n counts them.  -HGA_USAGE "Quote" for an unclosed quote.
 */
int hga_split_sh(struct hga_buf *out, struct hga_str line, size_t *n,
                 struct hga_err *err) HGA_MUST_USE;

#endif
