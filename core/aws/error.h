/*
 * Answers that say no: error code, message and request id of every protocol,
 * and the members of the modelled error.
 */
#ifndef HGA_AWS_ERROR_H
#define HGA_AWS_ERROR_H

#include "aws/image.h"
#include "base/buf.h"
#include "base/str.h"
#include "base/val.h"

struct hga_aws_error {
	int status;     /* HTTP status */
	char code[128]; /* never empty */
	char request_id[128];
	char host_id[128];                 /* s3 */
	struct hga_buf message;            /* never empty after success */
	const struct hga_img_shape *shape; /* modelled error or NULL */
	bool retryable, throttling;        /* as the model says */
	bool sender;                       /* the error blames the caller */
};

void hga_aws_error_init(struct hga_aws_error *e);
void hga_aws_error_release(struct hga_aws_error *e);

/*
 * Reads an error answer.  head: response headers as "name: value\n" lines
 * with lower-case names (struct hga_http.head); body: its first bytes (may
 * be cut).  members: when not NULL, a fresh tape that receives the members
 * of the modelled error as one structure (empty when there is none); nothing
 * is written when the function fails.  Whatever the bytes are, e gets a code
 * and a message; fails with memory only.
 */
int hga_aws_error_read(struct hga_aws_error *e, struct hga_aws_op op,
                       int status, struct hga_str head, struct hga_str body,
                       struct hga_vtape *members,
                       struct hga_err *err) HGA_MUST_USE;

/* Value of the first header of that lower-case name in head; .s NULL: none. */
struct hga_str hga_aws_head_get(struct hga_str head, const char *name);
/* The bytes begin as a web page does (blanks before it are allowed). */
bool hga_aws_is_html(struct hga_str body);
/* Reason phrase of a status, "Unknown" for foreign ones. */
const char *hga_aws_reason(int status);

#endif
