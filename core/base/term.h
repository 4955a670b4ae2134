/*
 * Terminal: kind and width, display width of text, escape filter, and the
 * single writer for stdout and stderr.
 *
 * The writer gathers bytes until a line is whole, removes secrets from it
 * (the log's redactor) and hands whole lines over in one write(2).  A broken
 * pipe sets a flag and swallows what follows; other errors are returned.
 */
#ifndef HGA_BASE_TERM_H
#define HGA_BASE_TERM_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool hga_term_isatty(int fd);
/* Columns of the terminal at fd, else $COLUMNS, else 80. */
unsigned hga_term_width(int fd);
/* The locale's encoding (LC_ALL, LC_CTYPE, LANG) is UTF-8. */
bool hga_term_utf8(void);

/* Columns a text takes: 0 for combining marks, 2 for wide characters, 1 for
 * a malformed byte; control bytes count 0. */
size_t hga_term_columns(struct hga_str text);
/* The longest beginning that fits into columns, whole characters only. */
struct hga_str hga_term_cut(struct hga_str text, size_t columns);

/*
 * Appends remote text made harmless (cli.md section 3.2): SGR sequences are
 * dropped; other escape sequences, C0 but \n and \t, DEL, C1, bidirectional
 * controls and malformed UTF-8 are shown as \x1b or \u202e; of a line with
 * carriage returns the last non-empty segment stays.
 */
int hga_term_filter(struct hga_buf *out, struct hga_str text,
                    struct hga_err *err) HGA_MUST_USE;

enum hga_color {
	HGA_COLOR_AUTO,
	HGA_COLOR_ALWAYS,
	HGA_COLOR_NEVER
};
/* Colour for fd: choice > NO_COLOR > FORCE_COLOR, CLICOLOR_FORCE > terminal
 * with TERM other than dumb. */
bool hga_term_color(int fd, enum hga_color choice);

struct hga_term; /* opaque writer */

enum hga_term_stream {
	HGA_TERM_OUT = 0,
	HGA_TERM_ERR = 1
};

/* The descriptors stay the caller's. */
struct hga_term *hga_term_new(int out_fd, int err_fd) HGA_MUST_USE;
/* Writes what is left, ignoring errors; NULL is allowed. */
void hga_term_free(struct hga_term *t);
/* Takes text; everything up to its last newline is written now. */
int hga_term_write(struct hga_term *t, enum hga_term_stream stream,
                   struct hga_str text, struct hga_err *err) HGA_MUST_USE;
/* Writes an unfinished line, too. */
int hga_term_flush(struct hga_term *t, enum hga_term_stream stream,
                   struct hga_err *err) HGA_MUST_USE;
/* The reader of that stream is gone. */
bool hga_term_epipe(const struct hga_term *t, enum hga_term_stream stream);

#endif
