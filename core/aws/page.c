/*
 * Paginators of the model: token expressions evaluated on one answer.
 */
#include "aws/page.h"

#include "aws/jmespath.h"
#include "base/mem.h"

enum {
	MAX_TOKENS = 8
};

struct hga_pager {
	const struct hga_aws_svc *svc;
	const struct hga_img_page *page;
	uint32_t n;
	struct hga_jp *out[MAX_TOKENS];
	struct hga_jp *more; /* or NULL */
};

void hga_pager_free(struct hga_pager *p)
{
	if (p == NULL)
		return;
	for (uint32_t i = 0; i < p->n; i++)
		hga_jp_free(p->out[i]);
	hga_jp_free(p->more);
	hga_free(p);
}

static int compile(struct hga_pager *p, struct hga_err *err)
{
	const struct hga_img_page *r = p->page;
	int rc = 0;

	p->n =
	    r->in_tokens.n < r->out_tokens.n ? r->in_tokens.n : r->out_tokens.n;
	if (p->n > MAX_TOKENS)
		p->n = MAX_TOKENS;
	for (uint32_t i = 0; i < p->n && rc == 0; i++)
		rc = hga_jp_compile(&p->out[i], hga_pager_output(p, i), err);
	if (rc == 0 && r->more_results != HGA_IMG_NONE)
		rc = hga_jp_compile(&p->more,
		                    hga_aws_text(p->svc, r->more_results), err);
	return rc;
}

int hga_pager_new(struct hga_pager **out, struct hga_aws_op op,
                  struct hga_err *err)
{
	const struct hga_img_page *page = hga_aws_page(op);
	struct hga_pager *p;
	int rc;

	*out = NULL;
	if (page == NULL)
		return 0;
	p = hga_calloc(1, sizeof(*p));
	if (p == NULL)
		return hga_fail_mem(err);
	p->svc = op.svc;
	p->page = page;
	rc = compile(p, err);
	if (rc < 0) {
		hga_pager_free(p);
		return rc;
	}
	*out = p;
	return 0;
}

static struct hga_str item(const struct hga_pager *p, struct hga_img_range r,
                           uint32_t i)
{
	return hga_aws_text(p->svc, hga_aws_id(p->svc, r, i));
}

uint32_t hga_pager_tokens(const struct hga_pager *p)
{
	return p->n;
}

struct hga_str hga_pager_input(const struct hga_pager *p, uint32_t i)
{
	return item(p, p->page->in_tokens, i);
}

struct hga_str hga_pager_output(const struct hga_pager *p, uint32_t i)
{
	return item(p, p->page->out_tokens, i);
}

static struct hga_str text_or_null(const struct hga_pager *p, uint32_t id)
{
	const struct hga_str none = {NULL, 0};

	return id == HGA_IMG_NONE ? none : hga_aws_text(p->svc, id);
}

struct hga_str hga_pager_limit(const struct hga_pager *p)
{
	return text_or_null(p, p->page->limit_key);
}

struct hga_str hga_pager_more(const struct hga_pager *p)
{
	return text_or_null(p, p->page->more_results);
}

uint32_t hga_pager_results(const struct hga_pager *p)
{
	return p->page->result_keys.n;
}

struct hga_str hga_pager_result(const struct hga_pager *p, uint32_t i)
{
	return item(p, p->page->result_keys, i);
}

uint32_t hga_pager_fixed(const struct hga_pager *p)
{
	return p->page->non_aggregate.n;
}

struct hga_str hga_pager_fixed_key(const struct hga_pager *p, uint32_t i)
{
	return item(p, p->page->non_aggregate, i);
}

/* Evaluates into a tape of its own; *t NULL: the expression does not fit. */
static int eval(const struct hga_jp *jp, struct hga_val v, struct hga_vtape **t,
                struct hga_err *err)
{
	struct hga_vtape *tape = hga_vtape_new(NULL, 64u << 20);
	struct hga_err jerr = {0};
	int rc;

	*t = NULL;
	if (tape == NULL)
		return hga_fail_mem(err);
	rc = hga_jp_eval(jp, v, tape, 0, &jerr);
	if (rc == 0) {
		*t = tape;
		return 0;
	}
	hga_vtape_free(tape);
	return rc == -HGA_MEMORY ? hga_fail_mem(err) : 0;
}

/* The answer itself says whether there is more. */
static int says_more(const struct hga_pager *p, struct hga_val answer,
                     bool *more, struct hga_err *err)
{
	struct hga_vtape *t;
	int rc;

	*more = true;
	if (p->more == NULL)
		return 0;
	rc = eval(p->more, answer, &t, err);
	*more = rc == 0 && t != NULL && hga_jp_true(hga_vtape_root(t));
	hga_vtape_free(t);
	return rc;
}

int hga_pager_next(const struct hga_pager *p, struct hga_val answer,
                   struct hga_vtape *out, bool *more, struct hga_err *err)
{
	bool any = false;
	int rc = says_more(p, answer, more, err);

	if (rc < 0)
		return rc;
	hga_vt_open(out, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (uint32_t i = 0; i < p->n && *more; i++) {
		struct hga_vtape *t;
		bool full;

		rc = eval(p->out[i], answer, &t, err);
		if (rc < 0)
			return rc;
		full = t != NULL && hga_jp_true(hga_vtape_root(t));
		hga_vt_key(out, hga_pager_input(p, i));
		if (full)
			hga_vt_copy(out, HGA_NO_NAME, hga_vtape_root(t));
		else
			hga_vt_null(out, HGA_NO_NAME);
		any = any || full;
		hga_vtape_free(t);
	}
	hga_vt_close(out);
	*more = *more && any;
	return hga_vt_end(out, err);
}
