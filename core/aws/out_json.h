/*
 * JSON answers -> value, event by event.
 *
 * Used by out.c for results and by error.c for the members of modelled
 * errors.  Unknown members are skipped, null members and null map values
 * dropped, null list elements kept.
 */
#ifndef HGA_AWS_OUT_JSON_H
#define HGA_AWS_OUT_JSON_H

#include "aws/image.h"
#include "base/val.h"

struct hga_out_json; /* opaque */

struct hga_out_json_args {
	struct hga_aws_op op;
	const struct hga_img_shape *shape; /* NULL: no members */
	bool raw_time;
	/* rest: the structure of the shape is open in the tape and stays so;
	 * members that are not in the body are none of the reader's */
	bool inside;
	/* rest: the value of this member is the whole body (shape unused) */
	const struct hga_img_member *payload;
	struct hga_vtape *tape;
};

/* NULL on memory failure; args are copied. */
struct hga_out_json *
hga_out_json_new(const struct hga_out_json_args *args) HGA_MUST_USE;
void hga_out_json_free(struct hga_out_json *j);
/* -HGA_PROTOCOL: code "Syntax" or "Garbled" (not what the model says), or a
 * limit's; memory. */
int hga_out_json_feed(struct hga_out_json *j, const void *p, size_t n,
                      struct hga_err *err) HGA_MUST_USE;
/* After the last byte: 0 when one value was written to the tape, or its
 * members or payload. */
int hga_out_json_end(struct hga_out_json *j, struct hga_err *err) HGA_MUST_USE;

#endif
