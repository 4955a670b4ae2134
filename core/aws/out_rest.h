/*
 * Parts of rest answers that are not in the body: status and headers.
 *
 * Used by out.c for results and by error.c for modelled errors.  The caller
 * has opened the structure the members belong to.
 */
#ifndef HGA_AWS_OUT_REST_H
#define HGA_AWS_OUT_REST_H

#include "aws/image.h"
#include "base/val.h"

struct hga_out_rest_args {
	const struct hga_aws_svc *svc;
	const struct hga_img_shape *shape; /* NULL: no members */
	int status;
	struct hga_str head; /* "name: value\n", lower-case names */
	bool raw_time;
	struct hga_vtape *tape;
};

/*
 * Writes the members with locations statusCode, header and headers.  A
 * header whose text is no value of its member's type is -HGA_PROTOCOL
 * "Garbled"; memory sticks in the tape or is returned.
 */
int hga_out_rest_head(const struct hga_out_rest_args *a,
                      struct hga_err *err) HGA_MUST_USE;
/* The service speaks rest-json or rest-xml. */
bool hga_out_is_rest(const struct hga_aws_svc *svc);
/* Payload member of a shape, or NULL; shape may be NULL. */
const struct hga_img_member *hga_out_payload(const struct hga_aws_svc *svc,
                                             const struct hga_img_shape *shape);
/* The shape has members in the body (no payload); shape may be NULL. */
bool hga_out_has_body(const struct hga_aws_svc *svc,
                      const struct hga_img_shape *shape);

#endif
