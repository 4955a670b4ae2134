/*
 * Inside of aws/: what may be shown of a call.  Not for others.
 *
 * Values of sensitive members are collected from the parameters when a call
 * starts, and from the answer when it is traced; whatever is said about the
 * call passes aws_hide, which takes them out in all their spellings, with
 * every secret known to the log, signatures and bearer tokens.
 */
#ifndef HGA_AWS_TRACE_H
#define HGA_AWS_TRACE_H

#include "aws/call.h"
#include "aws/sign.h"

/* Appends the texts of sensitive members of v (of that shape number) to
 * hidden, a buffer that only aws_hide reads; wipe it. */
int aws_hidden_add(struct hga_buf *hidden, const struct hga_aws_svc *svc,
                   uint16_t shape, struct hga_val v,
                   struct hga_err *err) HGA_MUST_USE;
/* Appends text without them; control characters are escaped. */
int aws_hide(const struct hga_buf *hidden, struct hga_str text,
             struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;
/* Level trace: the request as it will be sent (sign may be NULL), and what
 * came back (whole: the tape holds the answer). */
void aws_trace_request(const struct hga_aws_call *c,
                       const struct hga_sign_trace *sign);
void aws_trace_answer(struct hga_aws_call *c, bool whole);

#endif
