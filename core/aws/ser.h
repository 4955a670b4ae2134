/*
 * Parameters of an operation -> request (protocols query, ec2, json,
 * rest-json, rest-xml).
 *
 * The value may come from a script (maps, lists, EMPTY) or from core.  It is
 * not validated here (valid.h): members the model does not know are left
 * out, a value of a wrong type is -HGA_USAGE with its path.  null is an
 * absent member.  Structures are written in model order and maps in byte
 * order of their keys, so equal input gives equal bytes.  Nothing of the
 * parameters is borrowed by the request.  Depth <= 128.
 */
#ifndef HGA_AWS_SER_H
#define HGA_AWS_SER_H

#include "aws/image.h"
#include "aws/request.h"
#include "base/val.h"

/* Source of idempotency tokens; fn writes 36 characters and a NUL. */
struct hga_aws_tokens {
	int (*fn)(void *data, char out[37], struct hga_err *err);
	void *data;
};

struct hga_aws_ser {
	struct hga_aws_op op;
	struct hga_val params; /* map, structure or EMPTY; NONE: none */
	struct hga_val extra;  /* NONE, or a map of raw parameters: texts for
	                          query protocols, body members for json */
	const struct hga_aws_tokens *tokens; /* NULL: tokens stay absent */
	size_t max_body;                     /* 0: 64 MiB */
};

/*
 * Fills *out (init by the caller or zeroed; the caller releases it, also
 * after a failure).  Fails with usage (wrong value; code "Unsupported" for a
 * protocol that has no serialiser), memory, or what the token source says.
 */
int hga_aws_serialize(const struct hga_aws_ser *s, struct hga_aws_request *out,
                      struct hga_err *err) HGA_MUST_USE;

/* By protocol, for hga_aws_serialize only. */
int hga_aws_ser_query(const struct hga_aws_ser *s, struct hga_aws_request *out,
                      struct hga_err *err) HGA_MUST_USE;
int hga_aws_ser_json(const struct hga_aws_ser *s, struct hga_aws_request *out,
                     struct hga_err *err) HGA_MUST_USE;

int hga_aws_ser_rest(const struct hga_aws_ser *s, struct hga_aws_request *out,
                     struct hga_err *err) HGA_MUST_USE;

/*
 * Path of a file given in place of a streaming blob: a map whose only entry
 * is HGA_AWS_FILE_KEY.  False: v is nothing like it.
 */
#define HGA_AWS_FILE_KEY "$file"
bool hga_aws_ser_file(struct hga_val v, struct hga_str *path);

/* Text of a timestamp parameter (number or text) in a format; usage when it
 * is none. */
int hga_aws_ser_time(struct hga_buf *out, struct hga_val v,
                     enum hga_aws_tsformat format,
                     struct hga_err *err) HGA_MUST_USE;
/* Text of a scalar parameter as query protocols write it. */
int hga_aws_ser_scalar(struct hga_buf *out, const struct hga_aws_svc *svc,
                       const struct hga_img_member *ref, struct hga_val v,
                       enum hga_aws_tsformat def,
                       struct hga_err *err) HGA_MUST_USE;

#endif
