/* Shared by the targets that read answers: one service for all runs. */
#ifndef HGA_FUZZ_AWS_OUT_H
#define HGA_FUZZ_AWS_OUT_H

#include "aws_toy.h"

#include "aws/out.h"

#include <stdint.h>

/* The input is fed in two pieces; its first byte says where it is cut. */
static void feed_answer(const struct toy *t, int status, const uint8_t *data,
                        size_t n)
{
	struct hga_aws_op op =
	    hga_aws_op_find(t->svc, HGA_STR("DescribeThings"));
	struct hga_vtape *tape = hga_vtape_new(&t->svc->names, 1 << 24);
	struct hga_aws_out *o = hga_aws_out_new(op, NULL, tape);
	size_t cut = n > 0 ? data[0] % n : 0;
	enum hga_aws_answer kind;
	struct hga_buf b;

	hga_buf_init(&b, 1 << 26);
	if (o != NULL &&
	    hga_aws_out_head(o, status, HGA_STR("x-amzn-requestid: r\n"),
	                     NULL) == 0 &&
	    hga_aws_out_feed(o, data, cut, NULL) == 0 &&
	    hga_aws_out_feed(o, data + cut, n - cut, NULL) == 0 &&
	    hga_aws_out_finish(o, &kind, NULL) == 0) {
		/* what was read must be a whole value */
		if (hga_json_write(&b,
		                   kind == HGA_ANSWER_OK
		                       ? hga_vtape_root(tape)
		                       : hga_aws_out_members(o),
		                   0, true, NULL) == -HGA_BUG)
			abort();
	}
	hga_buf_release(&b);
	hga_aws_out_free(o);
	hga_vtape_free(tape);
}

#endif
