/*
 * One step of a waiter: an answer or an error of a poll -> go on, success or
 * failure, with the explanation that the SDKs give.
 *
 * A waiter comes from the model or from a description of the caller.  It is
 * immutable after its creation; polling, sleeping and counting are the
 * caller's.
 */
#ifndef HGA_AWS_WAIT_H
#define HGA_AWS_WAIT_H

#include "aws/image.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/val.h"

struct hga_waiter; /* opaque */

enum hga_waiter_verdict {
	HGA_WAITER_RETRY = 1, /* nothing decided */
	HGA_WAITER_SUCCESS,
	HGA_WAITER_FAILURE, /* a terminal state */
	HGA_WAITER_ERROR    /* the poll failed and no rule expects that */
};

/* From the model. */
int hga_waiter_new(struct hga_waiter **out, const struct hga_aws_svc *svc,
                   const struct hga_img_waiter *w,
                   struct hga_err *err) HGA_MUST_USE;
/*
 * From a description {operation, delay, max_attempts, acceptors = [{state,
 * matcher, argument, expected}, ...]}; name for messages.  -HGA_USAGE when
 * it is not well-formed or the operation does not exist.
 */
int hga_waiter_custom(struct hga_waiter **out, const struct hga_aws_svc *svc,
                      struct hga_str name, struct hga_val spec,
                      struct hga_err *err) HGA_MUST_USE;
void hga_waiter_free(struct hga_waiter *w);

const char *hga_waiter_name(const struct hga_waiter *w);
struct hga_aws_op hga_waiter_op(const struct hga_waiter *w);
double hga_waiter_delay_s(const struct hga_waiter *w);
uint32_t hga_waiter_attempts(const struct hga_waiter *w);

/* What one poll brought. */
struct hga_waiter_poll {
	struct hga_val response; /* NONE when it failed */
	int status;              /* HTTP status, 0 without answer */
	const char *code;        /* NULL: no error */
	const char *message;
};

/*
 * Judges a poll.  *explain gets (replaced) why a rule matched: "For
 * expression ...", or "An error occurred (C): M"; empty when none did.
 */
int hga_waiter_step(const struct hga_waiter *w,
                    const struct hga_waiter_poll *poll,
                    enum hga_waiter_verdict *verdict, struct hga_buf *explain,
                    struct hga_err *err) HGA_MUST_USE;

#endif
