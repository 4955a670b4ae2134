/*
 * What becomes of a request's body after it was serialised: compression,
 * checksums, and bodies that are files.
 *
 * A file is read again for every attempt; its size and time of change must
 * stay what they were when it was opened.  It is hashed in parts, so that no
 * call blocks the loop for long.
 */
#ifndef HGA_AWS_BODY_H
#define HGA_AWS_BODY_H

#include "aws/image.h"
#include "aws/request.h"
#include "base/hash.h"
#include "base/val.h"

#include <stdint.h>
#include <time.h>

enum hga_aws_sum {
	HGA_SUM_NONE = 0,
	HGA_SUM_MD5, /* Content-MD5 */
	HGA_SUM_CRC32,
	HGA_SUM_CRC32C,
	HGA_SUM_SHA1,
	HGA_SUM_SHA256
};

/*
 * Compresses the body (gzip) when the operation asks for it and the body has
 * at least min bytes; "gzip" is appended to Content-Encoding.  Nothing
 * happens without zlib.
 */
int hga_aws_body_compress(struct hga_aws_op op, struct hga_aws_request *r,
                          uint64_t min, struct hga_err *err) HGA_MUST_USE;

/*
 * Checksum that the operation requires or the caller chose (checksum
 * algorithm member), unless one is among the headers already.  Fails with
 * usage for an algorithm this program does not know.
 */
int hga_aws_body_sum(struct hga_aws_op op, struct hga_val params,
                     const struct hga_aws_request *r, enum hga_aws_sum *sum,
                     struct hga_err *err) HGA_MUST_USE;
/* Computes it over r->body and sets its headers; nothing for a file. */
int hga_aws_body_set_sum(struct hga_aws_op op, struct hga_aws_request *r,
                         enum hga_aws_sum sum,
                         struct hga_err *err) HGA_MUST_USE;

/* A file being sent; zeroed: none.  The module's own but size. */
struct hga_aws_file {
	int fd; /* plus one; 0: closed */
	char *path;
	uint64_t size, at;
	struct timespec changed;
	enum hga_aws_sum sum;
	struct hga_hash sha, other;
	uint32_t crc;
};

/* Opens r->file, which must be a regular one. */
int hga_aws_file_open(struct hga_aws_file *f, const struct hga_aws_request *r,
                      enum hga_aws_sum sum, struct hga_err *err) HGA_MUST_USE;
/* Closes; safe on a zeroed struct. */
void hga_aws_file_close(struct hga_aws_file *f);
/* Hashes the next part: 1 there is more, 0 r->payload_hash and the headers
 * of the checksum are set. */
int hga_aws_file_hash(struct hga_aws_file *f, struct hga_aws_op op,
                      struct hga_aws_request *r,
                      struct hga_err *err) HGA_MUST_USE;
/* Goes to the start for an attempt; io "Changed" when it is another file
 * than it was. */
int hga_aws_file_rewind(struct hga_aws_file *f,
                        struct hga_err *err) HGA_MUST_USE;
/* At most n bytes from the current position into p; returns how many (0: the
 * end) or -kind; io "Changed" when the file ends early. */
int64_t hga_aws_file_read(struct hga_aws_file *f, void *p, size_t n,
                          struct hga_err *err) HGA_MUST_USE;

#endif
