/*
 * Answers of rest-json and rest-xml: headers, members, payloads, errors.  The
 * first byte chooses what the answer is of; then come header lines up to an
 * empty one, then the body.
 */
#include "aws_toy.h"

#include "aws/out.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct toy toys[2];

static void open_toys(void)
{
	if (toys[0].img != NULL)
		return;
	toy_open(&toys[0], TOY_META("rest-json") TOY_REST);
	toy_open(&toys[1], TOY_META("rest-xml") TOY_REST);
}

/* Bytes of the header lines, with the empty one after them. */
static size_t head_length(struct hga_str t)
{
	ptrdiff_t end = hga_str_find(t, HGA_STR("\n\n"));

	return end < 0 ? 0 : (size_t)end + 2;
}

static int swallow(void *data, const void *p, size_t n, struct hga_err *err)
{
	(void)data;
	(void)p;
	(void)n;
	(void)err;
	return 0;
}

static void feed(const struct toy *t, const char *name, int status,
                 struct hga_str head, struct hga_str body, bool sink)
{
	struct hga_aws_op op = hga_aws_op_find(t->svc, hga_str(name));
	struct hga_aws_vopt opt = {.sink = sink ? swallow : NULL};
	struct hga_vtape *tape = hga_vtape_new(&t->svc->names, 1 << 24);
	struct hga_aws_out *o = hga_aws_out_new(op, &opt, tape);
	size_t cut = body.n / 2;
	enum hga_aws_answer kind;
	struct hga_buf b;

	hga_buf_init(&b, 1 << 26);
	if (o != NULL && hga_aws_out_head(o, status, head, NULL) == 0 &&
	    hga_aws_out_feed(o, body.s, cut, NULL) == 0 &&
	    hga_aws_out_feed(o, body.s + cut, body.n - cut, NULL) == 0 &&
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const ops[] = {"GetThing", "GetData", "GetPart"};
	struct hga_str all, head, body;
	size_t h;

	open_toys();
	if (n == 0)
		return 0;
	all = hga_strn((const char *)data + 1, n - 1);
	h = head_length(all);
	head = hga_strn(all.s, h > 0 ? h - 1 : 0);
	body = hga_strn(all.s + h, all.n - h);
	feed(&toys[data[0] & 1], ops[data[0] / 2 % 3], 200, head, body,
	     (data[0] & 64) != 0);
	feed(&toys[data[0] & 1], ops[data[0] / 2 % 3], 409, head, body, false);
	return 0;
}
