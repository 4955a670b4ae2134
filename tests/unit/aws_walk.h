/*
 * Shared by the tests of the model image: reads everything an open image
 * holds, so that a sanitizer sees any index that leads out of it.
 */
#ifndef HGA_TEST_AWS_WALK_H
#define HGA_TEST_AWS_WALK_H

#include "aws/image.h"

#include <stdint.h>

static uint64_t walk_sum;

static void walk_text(const struct hga_aws_svc *svc, uint32_t id)
{
	struct hga_str t = hga_aws_text(svc, id);
	size_t i;

	for (i = 0; i < t.n; i++)
		walk_sum += (unsigned char)t.s[i];
	walk_sum += (unsigned char)t.s[t.n];
}

static void walk_ids(const struct hga_aws_svc *svc, struct hga_img_range r)
{
	uint32_t i;

	for (i = 0; i < r.n; i++)
		walk_text(svc, hga_aws_id(svc, r, i));
}

static void walk_shape(const struct hga_aws_svc *svc,
                       const struct hga_img_shape *s)
{
	const struct hga_img_sext *x = hga_aws_sext(svc, s);
	uint32_t i;

	walk_text(svc, s->name);
	walk_text(svc, x->loc);
	walk_text(svc, x->code);
	walk_ids(svc, s->enums);
	for (i = 0; i < s->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(svc, s, i);

		walk_text(svc, m->name);
		walk_text(svc, m->wire);
		walk_text(svc, m->sent);
		walk_text(svc, hga_aws_mext(svc, m)->context);
		walk_sum += hga_aws_shape(svc, m->shape)->type;
		walk_sum += (uintptr_t)hga_aws_member_find(
		    svc, s, hga_aws_text(svc, m->name));
		walk_sum += (uintptr_t)hga_aws_member_wire(
		    svc, s, hga_aws_text(svc, m->wire));
	}
}

static void walk_op(struct hga_aws_op op)
{
	const struct hga_img_page *p = hga_aws_page(op);
	uint32_t i;

	walk_text(op.svc, op.r->name);
	walk_text(op.svc, op.r->snake);
	walk_text(op.svc, op.r->uri);
	walk_text(op.svc, op.r->host_prefix);
	walk_sum += hga_aws_doc(op.svc, op.r->contexts).n;
	walk_sum += (uintptr_t)hga_aws_shape(op.svc, op.r->input);
	walk_sum += (uintptr_t)hga_aws_shape(op.svc, op.r->output);
	walk_sum += (uintptr_t)hga_aws_op_find(
	                op.svc, hga_aws_text(op.svc, op.r->snake))
	                .r;
	for (i = 0; i < op.r->errors.n; i++)
		walk_text(op.svc, hga_aws_op_error(op, i)->name);
	if (p == NULL)
		return;
	walk_ids(op.svc, p->in_tokens);
	walk_ids(op.svc, p->out_tokens);
	walk_ids(op.svc, p->result_keys);
	walk_ids(op.svc, p->non_aggregate);
}

static void walk_waiter(const struct hga_aws_svc *svc,
                        const struct hga_img_waiter *w)
{
	uint32_t i;

	walk_text(svc, w->name);
	walk_sum += hga_aws_op_at(svc, w->op).r->repeat;
	for (i = 0; i < w->acceptors.n; i++) {
		const struct hga_img_acceptor *a = hga_aws_acceptor(svc, w, i);

		walk_text(svc, a->argument);
		if (a->kind == 's')
			walk_text(svc, a->text);
	}
}

static void walk_image(const struct hga_aws_image *img)
{
	size_t n;
	uint32_t i;

	walk_sum += hga_aws_partitions(img).n + hga_aws_image_hash(img).n;
	for (n = 0; n < hga_aws_image_services(img); n++) {
		const struct hga_aws_svc *svc = hga_aws_svc_at(img, n);

		walk_text(svc, svc->r->name);
		walk_text(svc, svc->r->xmlns);
		walk_sum += hga_aws_doc(svc, svc->r->ruleset).n;
		for (i = 0; i < svc->r->shapes.n; i++)
			walk_shape(svc, hga_aws_shape(svc, (uint16_t)i));
		for (i = 0; i < svc->r->ops.n; i++)
			walk_op(hga_aws_op_at(svc, i));
		for (i = 0; i < svc->r->waiters.n; i++)
			walk_waiter(svc, &svc->waiters[i]);
	}
}

#endif
