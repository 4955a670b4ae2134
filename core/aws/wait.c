/*
 * Waiters: acceptors in order, the first that matches decides.  A JMESPath
 * expression that fails on an answer is no match.
 */
#include "aws/wait.h"

#include "aws/jmespath.h"
#include "aws/valid.h"
#include "base/mem.h"

#include <string.h>

enum {
	MAX_ACCEPTORS = 64
};

struct acceptor {
	enum hga_aws_matcher matcher;
	enum hga_waiter_verdict state;
	struct hga_jp *path;        /* path matchers */
	struct hga_vtape *expected; /* one scalar */
};

struct hga_waiter {
	struct hga_aws_op op;
	char name[96];
	double delay_s;
	uint32_t attempts;
	size_t n;
	struct acceptor v[];
};

const char *hga_waiter_name(const struct hga_waiter *w)
{
	return w->name;
}

struct hga_aws_op hga_waiter_op(const struct hga_waiter *w)
{
	return w->op;
}

double hga_waiter_delay_s(const struct hga_waiter *w)
{
	return w->delay_s;
}

uint32_t hga_waiter_attempts(const struct hga_waiter *w)
{
	return w->attempts;
}

void hga_waiter_free(struct hga_waiter *w)
{
	if (w == NULL)
		return;
	for (size_t i = 0; i < w->n; i++) {
		hga_jp_free(w->v[i].path);
		hga_vtape_free(w->v[i].expected);
	}
	hga_free(w);
}

static struct hga_waiter *new_waiter(size_t n, struct hga_str name)
{
	struct hga_waiter *w;
	size_t size;

	if (!hga_size_mul(n, sizeof(struct acceptor), &size) ||
	    !hga_size_add(size, sizeof(*w), &size))
		return NULL;
	w = hga_calloc(1, size);
	if (w == NULL)
		return NULL;
	w->n = n;
	if (name.n >= sizeof(w->name))
		name.n = sizeof(w->name) - 1;
	memcpy(w->name, name.s, name.n);
	return w;
}

static enum hga_waiter_verdict verdict_of(enum hga_aws_accstate s)
{
	switch (s) {
	case HGA_ACC_SUCCESS:
		return HGA_WAITER_SUCCESS;
	case HGA_ACC_FAILURE:
		return HGA_WAITER_FAILURE;
	case HGA_ACC_RETRY:
		return HGA_WAITER_RETRY;
	}
	return HGA_WAITER_RETRY;
}

static int from_model(struct acceptor *a, const struct hga_aws_svc *svc,
                      const struct hga_img_acceptor *m, struct hga_err *err)
{
	a->matcher = (enum hga_aws_matcher)m->matcher;
	a->state = verdict_of((enum hga_aws_accstate)m->state);
	a->expected = hga_vtape_new(NULL, 4096);
	if (a->expected == NULL)
		return hga_fail_mem(err);
	if (m->kind == 's')
		hga_vt_str(a->expected, HGA_NO_NAME,
		           hga_aws_text(svc, m->text));
	else if (m->kind == 'b')
		hga_vt_bool(a->expected, HGA_NO_NAME, m->num != 0);
	else
		hga_vt_int(a->expected, HGA_NO_NAME, m->num);
	if (hga_vt_end(a->expected, err) < 0)
		return -HGA_MEMORY;
	if (m->argument == HGA_IMG_NONE)
		return 0;
	return hga_jp_compile(&a->path, hga_aws_text(svc, m->argument), err);
}

int hga_waiter_new(struct hga_waiter **out, const struct hga_aws_svc *svc,
                   const struct hga_img_waiter *m, struct hga_err *err)
{
	struct hga_waiter *w =
	    new_waiter(m->acceptors.n, hga_aws_text(svc, m->name));
	int rc = 0;

	if (w == NULL)
		return hga_fail_mem(err);
	w->op = hga_aws_op_at(svc, m->op);
	w->delay_s = m->delay_s;
	w->attempts = m->max_attempts;
	for (uint32_t i = 0; i < w->n && rc == 0; i++)
		rc =
		    from_model(&w->v[i], svc, hga_aws_acceptor(svc, m, i), err);
	if (rc < 0) {
		hga_waiter_free(w);
		return rc;
	}
	*out = w;
	return 0;
}

/* ---- custom waiters ---- */

static int bad(struct hga_err *err, uint32_t i, const char *what)
{
	return hga_fail(err, HGA_USAGE, 0, NULL, "waiter: acceptors[%u]: %s",
	                (unsigned)i + 1, what);
}

static bool find_matcher(struct hga_str s, enum hga_aws_matcher *out)
{
	static const struct {
		const char *name;
		enum hga_aws_matcher m;
	} list[] = {
	    {"path", HGA_ACC_PATH},       {"pathAll", HGA_ACC_PATHALL},
	    {"pathAny", HGA_ACC_PATHANY}, {"status", HGA_ACC_STATUS},
	    {"error", HGA_ACC_ERROR},
	};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		if (hga_str_eqc(s, list[i].name)) {
			*out = list[i].m;
			return true;
		}
	}
	return false;
}

static bool is_path(enum hga_aws_matcher m)
{
	return m == HGA_ACC_PATH || m == HGA_ACC_PATHALL ||
	       m == HGA_ACC_PATHANY;
}

static bool find_state(struct hga_str s, enum hga_waiter_verdict *out)
{
	if (hga_str_eqc(s, "success"))
		*out = HGA_WAITER_SUCCESS;
	else if (hga_str_eqc(s, "failure"))
		*out = HGA_WAITER_FAILURE;
	else if (hga_str_eqc(s, "retry"))
		*out = HGA_WAITER_RETRY;
	else
		return false;
	return true;
}

static int from_value(struct acceptor *a, struct hga_val v, uint32_t i,
                      struct hga_err *err)
{
	struct hga_val expected = hga_val_get(v, "expected");
	struct hga_val path = hga_val_get(v, "argument");

	if (!find_state(hga_val_str(hga_val_get(v, "state")), &a->state))
		return bad(err, i, "state must be success, failure or retry");
	if (!find_matcher(hga_val_str(hga_val_get(v, "matcher")), &a->matcher))
		return bad(err, i,
		           "matcher must be path, pathAll, pathAny, status or "
		           "error");
	if (hga_val_type(expected) == HGA_V_NONE)
		return bad(err, i, "expected is missing");
	a->expected = hga_vtape_new(NULL, 1 << 16);
	if (a->expected == NULL)
		return hga_fail_mem(err);
	hga_vt_copy(a->expected, HGA_NO_NAME, expected);
	if (hga_vt_end(a->expected, err) < 0)
		return -HGA_MEMORY;
	if (!is_path(a->matcher))
		return 0;
	if (!hga_val_is(path, HGA_V_STR))
		return bad(err, i, "argument must be a JMESPath expression");
	return hga_jp_compile(&a->path, hga_val_str(path), err);
}

static int custom_head(struct hga_waiter *w, const struct hga_aws_svc *svc,
                       struct hga_val spec, struct hga_err *err)
{
	struct hga_str op = hga_val_str(hga_val_get(spec, "operation"));
	struct hga_str best;

	w->op = hga_aws_op_find(svc, op);
	if (w->op.r == NULL) {
		best = hga_aws_suggest_op(svc, op);
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                best.s == NULL
		                    ? "waiter: no operation \"%.*s\"%.*s"
		                    : "waiter: no operation \"%.*s\"; did "
		                      "you mean %.*s?",
		                HGA_STRF(op), HGA_STRF(best));
	}
	w->delay_s = hga_val_num(hga_val_get(spec, "delay"), 15);
	w->attempts =
	    (uint32_t)hga_val_int(hga_val_get(spec, "max_attempts"), 40);
	return 0;
}

int hga_waiter_custom(struct hga_waiter **out, const struct hga_aws_svc *svc,
                      struct hga_str name, struct hga_val spec,
                      struct hga_err *err)
{
	struct hga_val list = hga_val_get(spec, "acceptors");
	struct hga_waiter *w;
	int rc;

	if (!hga_val_is(list, HGA_V_LIST) ||
	    hga_val_count(list) > MAX_ACCEPTORS)
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "waiter: acceptors must be a list of 1 to %d",
		                MAX_ACCEPTORS);
	w = new_waiter(hga_val_count(list), name);
	if (w == NULL)
		return hga_fail_mem(err);
	rc = custom_head(w, svc, spec, err);
	for (uint32_t i = 0; i < w->n && rc == 0; i++)
		rc = from_value(&w->v[i], hga_val_at(list, i), i, err);
	if (rc < 0) {
		hga_waiter_free(w);
		return rc;
	}
	*out = w;
	return 0;
}

/* ---- the step ---- */

/* A scalar as the SDKs' messages show it. */
static int show(struct hga_buf *out, struct hga_val v, struct hga_err *err)
{
	switch (hga_val_type(v)) {
	case HGA_V_STR:
	case HGA_V_SSTR:
		return hga_buf_addstr(out, hga_val_str(v), err);
	case HGA_V_BOOL:
		return hga_buf_adds(
		    out, hga_val_bool(v, false) ? "True" : "False", err);
	case HGA_V_INT:
	case HGA_V_NUM:
		return hga_buf_addf(out, err, "%lld",
		                    (long long)hga_val_int(v, 0));
	case HGA_V_NONE:
	case HGA_V_NULL:
	case HGA_V_BLOB:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		break;
	}
	return hga_buf_adds(out, "?", err);
}

static bool list_matches(struct hga_val got, struct hga_val want, bool all)
{
	struct hga_vit it;

	if (!hga_val_is(got, HGA_V_LIST) || hga_val_count(got) == 0)
		return false;
	for (it = hga_val_first(got); hga_val_more(it); it = hga_val_next(it)) {
		if (hga_val_equal(hga_vit_val(it), want) != all)
			return !all;
	}
	return all;
}

/* 1 match, 0 none, < 0 memory. */
static int match_path(const struct acceptor *a, struct hga_val response,
                      struct hga_err *err)
{
	struct hga_val want = hga_vtape_root(a->expected), got;
	struct hga_vtape *t;
	struct hga_err jerr = {0};
	bool yes;
	int rc;

	if (hga_val_type(response) == HGA_V_NONE)
		return 0;
	t = hga_vtape_new(NULL, 64u << 20);
	if (t == NULL)
		return hga_fail_mem(err);
	rc = hga_jp_eval(a->path, response, t, 0, &jerr);
	if (rc < 0) {
		hga_vtape_free(t);
		return rc == -HGA_MEMORY ? hga_fail_mem(err) : 0;
	}
	got = hga_vtape_root(t);
	if (a->matcher == HGA_ACC_PATH)
		yes = hga_val_equal(got, want);
	else
		yes = list_matches(got, want, a->matcher == HGA_ACC_PATHALL);
	hga_vtape_free(t);
	return yes ? 1 : 0;
}

static bool match_error(const struct acceptor *a,
                        const struct hga_waiter_poll *p)
{
	struct hga_val want = hga_vtape_root(a->expected);

	if (hga_val_is(want, HGA_V_BOOL))
		return hga_val_bool(want, false) == (p->code != NULL);
	return p->code != NULL && hga_str_eqc(hga_val_str(want), p->code);
}

static int match(const struct acceptor *a, const struct hga_waiter_poll *p,
                 struct hga_err *err)
{
	switch (a->matcher) {
	case HGA_ACC_PATH:
	case HGA_ACC_PATHALL:
	case HGA_ACC_PATHANY:
		return match_path(a, p->response, err);
	case HGA_ACC_STATUS:
		return hga_val_int(hga_vtape_root(a->expected), -1) ==
		       p->status;
	case HGA_ACC_ERROR:
		return match_error(a, p);
	}
	return 0;
}

static int explain_path(const struct acceptor *a, const char *tail,
                        struct hga_buf *out, struct hga_err *err)
{
	int rc = hga_buf_addf(out, err, "For expression \"%.*s\" %s path: \"",
	                      HGA_STRF(hga_jp_text(a->path)),
	                      a->matcher == HGA_ACC_PATHALL
	                          ? "all members matched expected"
	                          : "we matched expected");

	if (rc == 0)
		rc = show(out, hga_vtape_root(a->expected), err);
	if (rc == 0)
		rc = hga_buf_adds(out, tail, err);
	return rc;
}

static int explain_match(const struct acceptor *a, struct hga_buf *out,
                         struct hga_err *err)
{
	const char *what = NULL;
	int rc;

	switch (a->matcher) {
	case HGA_ACC_PATH:
	case HGA_ACC_PATHALL:
		return explain_path(a, "\"", out, err);
	case HGA_ACC_PATHANY:
		return explain_path(a, "\" at least once", out, err);
	case HGA_ACC_STATUS:
		what = "Matched expected HTTP status code: ";
		break;
	case HGA_ACC_ERROR:
		what = "Matched expected service error code: ";
		break;
	}
	rc = hga_buf_adds(out, what != NULL ? what : "", err);
	return rc == 0 ? show(out, hga_vtape_root(a->expected), err) : rc;
}

int hga_waiter_step(const struct hga_waiter *w,
                    const struct hga_waiter_poll *poll,
                    enum hga_waiter_verdict *verdict, struct hga_buf *explain,
                    struct hga_err *err)
{
	hga_buf_clear(explain);
	for (size_t i = 0; i < w->n; i++) {
		int rc = match(&w->v[i], poll, err);

		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		*verdict = w->v[i].state;
		return explain_match(&w->v[i], explain, err);
	}
	*verdict = HGA_WAITER_RETRY;
	if (poll->code == NULL)
		return 0;
	*verdict = HGA_WAITER_ERROR;
	return hga_buf_addf(explain, err, "An error occurred (%s): %s",
	                    poll->code, poll->message);
}
