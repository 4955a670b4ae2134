/*
 * Answer of an operation -> value, while its bytes arrive.
 *
 * The reader and the shape are chosen from the status before the first body
 * byte.  A success is written into the caller's tape as one STRUCT of the
 * output shape (an empty one when the operation has no output).  The body is
 * never held, except its first 64 KiB (errors, trace) and a payload that is
 * text or bytes and goes into the tape.  Names are ids of
 * op.svc->names, which the tape must have been made with.
 *
 * Limits: XML depth 64, 64 attributes, text 1 MiB, JSON depth 100; DOCTYPE,
 * entity declarations and processing instructions are refused.
 */
#ifndef HGA_AWS_OUT_H
#define HGA_AWS_OUT_H

#include "aws/error.h"
#include "aws/image.h"
#include "base/val.h"

struct hga_aws_out; /* opaque */

struct hga_aws_vopt {
	bool raw_time; /* keep timestamps as text */
	/* iam: policy documents become tables (their texts are URL-encoded
	 * JSON) */
	bool documents;
	/* Where the body of a streaming member goes when the answer is a
	 * success; its member is then absent in the tape.  NULL: into the
	 * tape.  fn as hga_http_args.sink: 1 when it took nothing. */
	int (*sink)(void *data, const void *p, size_t n, struct hga_err *err);
	void *data;
};

enum hga_aws_answer {
	HGA_ANSWER_OK = 1, /* the tape holds the result */
	HGA_ANSWER_ERROR   /* error holds what the service said */
};

/* tape: fresh, names = &op.svc->names; borrowed until free.  NULL on a
 * memory failure. */
struct hga_aws_out *hga_aws_out_new(struct hga_aws_op op,
                                    const struct hga_aws_vopt *opt,
                                    struct hga_vtape *tape) HGA_MUST_USE;
void hga_aws_out_free(struct hga_aws_out *o);

/*
 * Once, before any body byte.  head as in error.h (copied).  Fails with
 * memory, or usage "Unsupported" for a protocol without reader.
 */
int hga_aws_out_head(struct hga_aws_out *o, int status, struct hga_str head,
                     struct hga_err *err) HGA_MUST_USE;
/* After head: the body goes to the sink of the options. */
bool hga_aws_out_streams(const struct hga_aws_out *o);
/*
 * Next bytes of the body.  1: the sink took nothing, the same bytes are to be
 * fed again later.  A malformed body is not a failure here (finish
 * tells); fails with protocol, code "TooLarge" or "TooDeep" (a limit was
 * exceeded: never retried), or memory.
 */
int hga_aws_out_feed(struct hga_aws_out *o, const void *p, size_t n,
                     struct hga_err *err) HGA_MUST_USE;
/*
 * After the last byte.  0: *kind says which.  -HGA_PROTOCOL, code "Garbled":
 * a 2xx without the modelled answer (portal page, truncated, wrong root,
 * empty); the request may have worked.  Else as feed.  An error document
 * under status 200 (s3) is an error of status 500.  The tape must not be
 * used unless *kind is HGA_ANSWER_OK.
 */
int hga_aws_out_finish(struct hga_aws_out *o, enum hga_aws_answer *kind,
                       struct hga_err *err) HGA_MUST_USE;

/* usage "Unsupported" for an operation whose answer is a stream of events:
 * to be asked before anything is sent. */
int hga_aws_out_check(struct hga_aws_op op, struct hga_err *err) HGA_MUST_USE;
/* Member of the operation's answer that streams, or NULL. */
const struct hga_img_member *hga_aws_out_stream(struct hga_aws_op op);
/* After finish with HGA_ANSWER_ERROR; owned by o. */
const struct hga_aws_error *hga_aws_out_error(const struct hga_aws_out *o);
/* Members of the modelled error as a value (structure) of a tape of o's own;
 * after HGA_ANSWER_ERROR. */
struct hga_val hga_aws_out_members(const struct hga_aws_out *o);
/* Request id of the answer, "" if it has none. */
const char *hga_aws_out_request_id(const struct hga_aws_out *o);
/* First bytes of the body (at most 64 KiB). */
struct hga_str hga_aws_out_kept(const struct hga_aws_out *o);
/* Status given to head. */
int hga_aws_out_status(const struct hga_aws_out *o);

#endif
