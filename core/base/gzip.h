/*
 * gzip (RFC 1952) through zlib, where zlib was found at build time (ZLIB=no
 * builds without).  Without it both coders fail with usage "NoZlib".  They
 * want up to 32 KiB of room beyond what they write.
 */
#ifndef HGA_BASE_GZIP_H
#define HGA_BASE_GZIP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

/* The program was built with zlib. */
bool hga_gzip_there(void);
/* Appends data as one gzip member; the same data gives the same bytes. */
int hga_gzip(struct hga_buf *out, struct hga_str data,
             struct hga_err *err) HGA_MUST_USE;
/* Appends what one gzip member holds; -HGA_PROTOCOL "Garbled" for anything
 * that is not exactly one, "TooLarge" above the buffer's limit. */
int hga_gunzip(struct hga_buf *out, struct hga_str data,
               struct hga_err *err) HGA_MUST_USE;

#endif
