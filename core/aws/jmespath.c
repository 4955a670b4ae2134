/*
 * JMESPath: compiled expressions and their evaluation, the public side.
 */
#include "aws/jmespath.h"

#include "aws/jp_int.h"
#include "base/mem.h"

#define RUN_MAX (64u * 1024 * 1024)

int hga_jp_compile(struct hga_jp **out, struct hga_str text,
                   struct hga_err *err)
{
	struct hga_err spare;
	struct hga_jp *jp;
	int rc;

	if (err == NULL)
		err = &spare;
	if (text.n > JP_TEXT_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Syntax",
		                "JMESPath: the expression is longer than %u "
		                "bytes",
		                JP_TEXT_MAX);
	jp = hga_calloc(1, sizeof(*jp));
	if (jp == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&jp->src, JP_TEXT_MAX);
	hga_buf_init(&jp->pool, 4 * JP_TEXT_MAX);
	rc = hga_buf_addstr(&jp->src, text, err);
	if (rc == 0)
		rc = jp_parse(jp, err);
	if (rc < 0) {
		hga_jp_free(jp);
		return rc;
	}
	*out = jp;
	return 0;
}

void hga_jp_free(struct hga_jp *jp)
{
	uint32_t i;

	if (jp == NULL)
		return;
	for (i = 0; i < jp->n_lits; i++)
		hga_vtape_free(jp->lits[i].t);
	hga_free(jp->lits);
	hga_free(jp->nodes);
	hga_buf_release(&jp->src);
	hga_buf_release(&jp->pool);
	hga_free(jp);
}

struct hga_str hga_jp_text(const struct hga_jp *jp)
{
	return hga_buf_str(&jp->src);
}

int hga_jp_eval(const struct hga_jp *jp, struct hga_val v,
                struct hga_vtape *out, size_t max, struct hga_err *err)
{
	struct hga_err spare = {.kind = HGA_OK};
	struct jp_run r = {.jp = jp,
	                   .max = max == 0 ? RUN_MAX : max,
	                   .err = err == NULL ? &spare : err};
	struct jv in = jv_of(v), result;
	int rc = jp_eval(&r, jp->root, &in, &result);

	if (rc == 0) {
		jv_write(out, &result);
		rc = hga_vt_end(out, r.err);
	}
	while (r.blocks != NULL) {
		struct jp_block *b = r.blocks;

		r.blocks = b->next;
		hga_free(b);
	}
	return rc;
}

int hga_jp_query(struct hga_str text, struct hga_val v, struct hga_vtape **out,
                 struct hga_err *err)
{
	struct hga_vtape *t;
	struct hga_jp *jp = NULL;
	int rc = hga_jp_compile(&jp, text, err);

	if (jp == NULL)
		return rc;
	t = hga_vtape_new(NULL, 8 * (size_t)RUN_MAX);
	rc = t == NULL ? hga_fail_mem(err) : hga_jp_eval(jp, v, t, 0, err);
	hga_jp_free(jp);
	if (rc < 0) {
		hga_vtape_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

bool hga_jp_true(struct hga_val v)
{
	struct jv x = jv_of(v);

	return jv_true(&x);
}
