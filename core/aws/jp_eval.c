/*
 * JMESPath: evaluation of a tree on a value.  The recursion follows the
 * tree, whose height the parser limits.
 */
#include "aws/jp_int.h"

#include "base/mem.h"

#include <stdarg.h>
#include <string.h>

#define BLOCK 16384

/* ---- memory, errors ---- */

void *jp_alloc(struct jp_run *r, size_t n, size_t size)
{
	struct jp_block *b = r->blocks;
	size_t bytes, block;
	void *p;

	if (!hga_size_mul(n, size, &bytes) ||
	    !hga_size_add(bytes, 15, &bytes)) {
		(void)hga_fail_mem(r->err);
		return NULL;
	}
	bytes &= ~(size_t)15;
	if (b == NULL || b->size - b->used < bytes) {
		block = bytes > BLOCK ? bytes : BLOCK;
		if (block > r->max - r->held) {
			(void)hga_fail(r->err, HGA_USAGE, 0, "TooLarge",
			               "JMESPath: the result grows over the "
			               "limit of %zu bytes",
			               r->max);
			return NULL;
		}
		b = hga_alloc(sizeof(*b) + 16 + block);
		if (b == NULL) {
			(void)hga_fail_mem(r->err);
			return NULL;
		}
		b->next = r->blocks;
		b->used = 0;
		b->size = block;
		r->blocks = b;
		r->held += block;
	}
	/* sizeof(*b) is a multiple of 8; round the start up to 16 */
	p = (char *)b + ((sizeof(*b) + 15) & ~(size_t)15) + b->used;
	b->used += bytes;
	return p;
}

int jp_fail(struct jp_run *r, const struct jp_node *at, const char *code,
            const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = hga_vfail(r->err, HGA_USAGE, 0, code, fmt, ap);
	va_end(ap);
	hga_err_prefix(r->err, "JMESPath, column %u", at->col);
	return rc;
}

/* ---- values ---- */

struct jv jv_string(struct hga_str s)
{
	struct jv v = {.k = JV_STR};

	v.u.s = s;
	return v;
}

struct jv jv_of(struct hga_val v)
{
	struct jv r = {.k = JV_NULL};

	switch (hga_val_type(v)) {
	case HGA_V_BOOL:
		r.k = JV_BOOL;
		r.u.b = hga_val_bool(v, false);
		return r;
	case HGA_V_INT:
		r.k = JV_INT;
		r.u.i = hga_val_int(v, 0);
		return r;
	case HGA_V_NUM:
		r.k = JV_NUM;
		r.u.d = hga_val_num(v, 0);
		return r;
	case HGA_V_STR:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
		return jv_string(hga_val_str(v));
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		r.k = JV_REF;
		r.u.ref = v;
		return r;
	case HGA_V_NONE:
	case HGA_V_NULL:
		break;
	}
	return r;
}

bool jv_is_list(const struct jv *v)
{
	return v->k == JV_LIST ||
	       (v->k == JV_REF && hga_val_is(v->u.ref, HGA_V_LIST));
}

bool jv_is_object(const struct jv *v)
{
	return v->k == JV_OBJ ||
	       (v->k == JV_REF && !hga_val_is(v->u.ref, HGA_V_LIST));
}

bool jv_is_number(const struct jv *v)
{
	return v->k == JV_INT || v->k == JV_NUM;
}

double jv_number(const struct jv *v)
{
	return v->k == JV_INT ? (double)v->u.i : v->u.d;
}

uint32_t jv_count(const struct jv *v)
{
	if (v->k == JV_LIST)
		return v->u.l.n;
	if (v->k == JV_OBJ)
		return v->u.o.n;
	return hga_val_is(v->u.ref, HGA_V_EMPTY) ? 0 : hga_val_count(v->u.ref);
}

bool jv_true(const struct jv *v)
{
	switch (v->k) {
	case JV_NULL:
		return false;
	case JV_BOOL:
		return v->u.b;
	case JV_STR:
		return v->u.s.n > 0;
	case JV_LIST:
	case JV_OBJ:
	case JV_REF:
		return jv_count(v) > 0;
	case JV_INT:
	case JV_NUM:
	case JV_EXPREF:
		break;
	}
	return true;
}

int jv_elements(struct jp_run *r, const struct jv *list, struct jv_list *out)
{
	struct hga_vit it;
	uint32_t i = 0;

	if (list->k == JV_LIST) {
		*out = list->u.l;
		return 0;
	}
	out->n = hga_val_count(list->u.ref);
	out->v = jp_alloc(r, out->n, sizeof(*out->v));
	if (out->v == NULL)
		return -(int)r->err->kind;
	for (it = hga_val_first(list->u.ref); hga_val_more(it);
	     it = hga_val_next(it))
		out->v[i++] = jv_of(hga_vit_val(it));
	return 0;
}

/* A key of the input; short ones live in the iterator, so they are copied. */
static int own_key(struct jp_run *r, const struct hga_vit *it,
                   struct hga_str *key)
{
	struct hga_str t = hga_vit_name(it);
	char *p = jp_alloc(r, t.n + 1, 1);

	if (p == NULL)
		return -(int)r->err->kind;
	memcpy(p, t.s, t.n);
	p[t.n] = '\0';
	*key = hga_strn(p, t.n);
	return 0;
}

int jv_entries(struct jp_run *r, const struct jv *obj, struct jv_obj *out)
{
	struct hga_vit it;
	uint32_t i = 0;

	if (obj->k == JV_OBJ) {
		*out = obj->u.o;
		return 0;
	}
	out->n = jv_count(obj);
	out->v = jp_alloc(r, out->n, sizeof(*out->v));
	if (out->v == NULL)
		return -(int)r->err->kind;
	if (out->n == 0)
		return 0;
	for (it = hga_val_first(obj->u.ref); hga_val_more(it);
	     it = hga_val_next(it)) {
		if (own_key(r, &it, &out->v[i].key) < 0)
			return -(int)r->err->kind;
		out->v[i++].v = jv_of(hga_vit_val(it));
	}
	return 0;
}

struct jv jv_field(const struct jv *v, struct hga_str name)
{
	struct jv none = {.k = JV_NULL};
	uint32_t i;

	if (v->k == JV_REF && jv_is_object(v))
		return jv_of(hga_val_getn(v->u.ref, name));
	if (v->k != JV_OBJ)
		return none;
	for (i = v->u.o.n; i > 0; i--)
		if (hga_str_eq(v->u.o.v[i - 1].key, name))
			return v->u.o.v[i - 1].v;
	return none;
}

/* ---- equality: no memory of its own ---- */

/* Element i of any list. */
static struct jv at(const struct jv *list, uint32_t i)
{
	if (list->k == JV_LIST)
		return list->u.l.v[i];
	return jv_of(hga_val_at(list->u.ref, i));
}

static bool lists_equal(const struct jv *a, const struct jv *b)
{
	uint32_t i, n = jv_count(a);

	if (n != jv_count(b))
		return false;
	for (i = 0; i < n; i++) {
		struct jv x = at(a, i), y = at(b, i);

		if (!jv_equal(&x, &y))
			return false;
	}
	return true;
}

/* Every entry of a has its like in b. */
static bool entries_in(const struct jv *a, const struct jv *b)
{
	struct hga_vit it;
	uint32_t i;

	if (a->k == JV_OBJ) {
		for (i = 0; i < a->u.o.n; i++) {
			struct jv y = jv_field(b, a->u.o.v[i].key);

			if (!jv_equal(&a->u.o.v[i].v, &y))
				return false;
		}
		return true;
	}
	if (jv_count(a) == 0)
		return true;
	for (it = hga_val_first(a->u.ref); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct jv x = jv_of(hga_vit_val(it));
		struct jv y = jv_field(b, hga_vit_name(&it));

		if (!jv_equal(&x, &y))
			return false;
	}
	return true;
}

/* Recursion follows the values, whose depth tapes and parser limit. */
bool jv_equal(const struct jv *a, const struct jv *b)
{
	if (jv_is_number(a) && jv_is_number(b))
		return a->k == JV_INT && b->k == JV_INT
		           ? a->u.i == b->u.i
		           : jv_number(a) == jv_number(b);
	if (a->k == JV_REF && b->k == JV_REF && jv_is_list(a) == jv_is_list(b))
		return hga_val_equal(a->u.ref, b->u.ref);
	if (jv_is_list(a) && jv_is_list(b))
		return lists_equal(a, b);
	if (jv_is_object(a) && jv_is_object(b))
		return jv_count(a) == jv_count(b) && entries_in(a, b);
	if (a->k != b->k)
		return false;
	switch (a->k) {
	case JV_NULL:
		return true;
	case JV_BOOL:
		return a->u.b == b->u.b;
	case JV_STR:
		return hga_str_eq(a->u.s, b->u.s);
	case JV_INT:
	case JV_NUM:
	case JV_REF:
	case JV_LIST:
	case JV_OBJ:
	case JV_EXPREF:
		break;
	}
	return false;
}

/* ---- nodes ---- */

static const struct jp_node *get(const struct jp_run *r, uint32_t i)
{
	return &r->jp->nodes[i];
}

static void set_null(struct jv *out)
{
	out->k = JV_NULL;
}

static void index_list(const struct jv *in, int64_t i, struct jv *out)
{
	int64_t n;

	set_null(out);
	if (!jv_is_list(in))
		return;
	n = jv_count(in);
	if (i < 0)
		i += n;
	if (i >= 0 && i < n)
		*out = at(in, (uint32_t)i);
}

/* Python's rules for one bound of a slice. */
static int64_t bound(int64_t v, int64_t n, bool back)
{
	if (v < 0) {
		v += n;
		return v < 0 ? (back ? -1 : 0) : v;
	}
	if (v >= n)
		return back ? n - 1 : n;
	return v;
}

static int slice_list(struct jp_run *r, const struct jp_node *s,
                      const struct jv *in, struct jv *out)
{
	int64_t step = s->has & 4 ? s->num[2] : 1, n, from, to, i;
	bool back = step < 0;
	struct jv_list all, got;

	set_null(out);
	if (step == 0)
		return jp_fail(r, s, "InvalidValue",
		               "the step of a slice cannot be 0");
	if (!jv_is_list(in))
		return 0;
	if (jv_elements(r, in, &all) < 0)
		return -(int)r->err->kind;
	n = all.n;
	from = s->has & 1 ? bound(s->num[0], n, back) : back ? n - 1 : 0;
	to = s->has & 2 ? bound(s->num[1], n, back) : back ? -1 : n;
	got.v = jp_alloc(r, all.n, sizeof(*got.v));
	if (got.v == NULL)
		return -(int)r->err->kind;
	got.n = 0;
	/* a step as large as the list takes one element; no overflow then */
	if (step > n)
		step = n + 1;
	if (step < -n)
		step = -n - 1;
	for (i = from; back ? i > to : i < to; i += step)
		got.v[got.n++] = all.v[i];
	out->k = JV_LIST;
	out->u.l = got;
	return 0;
}

/* right on each element of v (when cond, if any, holds), nulls dropped. */
static int project(struct jp_run *r, const struct jv *v, uint32_t n,
                   uint32_t right, uint32_t cond, struct jv *out)
{
	struct jv_list got = {jp_alloc(r, n, sizeof(*got.v)), 0};
	uint32_t i;

	if (got.v == NULL)
		return -(int)r->err->kind;
	for (i = 0; i < n; i++) {
		struct jv x;

		if (cond != JP_NO) {
			if (jp_eval(r, cond, &v[i], &x) < 0)
				return -(int)r->err->kind;
			if (!jv_true(&x))
				continue;
		}
		if (jp_eval(r, right, &v[i], &x) < 0)
			return -(int)r->err->kind;
		if (x.k != JV_NULL)
			got.v[got.n++] = x;
	}
	out->k = JV_LIST;
	out->u.l = got;
	return 0;
}

static int project_list(struct jp_run *r, const struct jp_node *n,
                        const struct jv *in, uint32_t cond, struct jv *out)
{
	struct jv_list l;
	struct jv base;

	if (jp_eval(r, n->a, in, &base) < 0)
		return -(int)r->err->kind;
	set_null(out);
	if (!jv_is_list(&base))
		return 0;
	if (jv_elements(r, &base, &l) < 0)
		return -(int)r->err->kind;
	return project(r, l.v, l.n, n->b, cond, out);
}

static int project_values(struct jp_run *r, const struct jp_node *n,
                          const struct jv *in, struct jv *out)
{
	struct jv_obj o;
	struct jv base, *v;
	uint32_t i;

	if (jp_eval(r, n->a, in, &base) < 0)
		return -(int)r->err->kind;
	set_null(out);
	if (!jv_is_object(&base))
		return 0;
	if (jv_entries(r, &base, &o) < 0)
		return -(int)r->err->kind;
	v = jp_alloc(r, o.n, sizeof(*v));
	if (v == NULL)
		return -(int)r->err->kind;
	for (i = 0; i < o.n; i++)
		v[i] = o.v[i].v;
	return project(r, v, o.n, n->b, JP_NO, out);
}

static int flatten(struct jp_run *r, const struct jp_node *n,
                   const struct jv *in, struct jv *out)
{
	struct jv_list l, got = {NULL, 0}, inner;
	struct jv base;
	uint32_t i, total = 0;

	if (jp_eval(r, n->a, in, &base) < 0)
		return -(int)r->err->kind;
	set_null(out);
	if (!jv_is_list(&base))
		return 0;
	if (jv_elements(r, &base, &l) < 0)
		return -(int)r->err->kind;
	for (i = 0; i < l.n; i++)
		total += jv_is_list(&l.v[i]) ? jv_count(&l.v[i]) : 1;
	got.v = jp_alloc(r, total, sizeof(*got.v));
	if (got.v == NULL)
		return -(int)r->err->kind;
	for (i = 0; i < l.n; i++) {
		if (!jv_is_list(&l.v[i])) {
			got.v[got.n++] = l.v[i];
			continue;
		}
		if (jv_elements(r, &l.v[i], &inner) < 0)
			return -(int)r->err->kind;
		if (inner.n > 0)
			memcpy(got.v + got.n, inner.v,
			       inner.n * sizeof(*inner.v));
		got.n += inner.n;
	}
	out->k = JV_LIST;
	out->u.l = got;
	return 0;
}

static uint32_t count_children(const struct jp_run *r, uint32_t first)
{
	uint32_t n = 0;

	for (; first != JP_NO; first = get(r, first)->next)
		n++;
	return n;
}

static int multi_list(struct jp_run *r, const struct jp_node *n,
                      const struct jv *in, struct jv *out)
{
	struct jv_list l = {NULL, 0};
	uint32_t c;

	set_null(out);
	if (in->k == JV_NULL)
		return 0;
	l.v = jp_alloc(r, count_children(r, n->a), sizeof(*l.v));
	if (l.v == NULL)
		return -(int)r->err->kind;
	for (c = n->a; c != JP_NO; c = get(r, c)->next)
		if (jp_eval(r, c, in, &l.v[l.n++]) < 0)
			return -(int)r->err->kind;
	out->k = JV_LIST;
	out->u.l = l;
	return 0;
}

static int multi_hash(struct jp_run *r, const struct jp_node *n,
                      const struct jv *in, struct jv *out)
{
	struct jv_obj o = {NULL, 0};
	uint32_t c, i;

	set_null(out);
	if (in->k == JV_NULL)
		return 0;
	o.v = jp_alloc(r, count_children(r, n->a), sizeof(*o.v));
	if (o.v == NULL)
		return -(int)r->err->kind;
	for (c = n->a; c != JP_NO; c = get(r, c)->next) {
		struct hga_str key = jp_text(r->jp, get(r, c));
		struct jv x;

		if (jp_eval(r, get(r, c)->a, in, &x) < 0)
			return -(int)r->err->kind;
		for (i = 0; i < o.n && !hga_str_eq(o.v[i].key, key); i++)
			;
		o.v[i].key = key;
		o.v[i].v = x;
		if (i == o.n)
			o.n++;
	}
	out->k = JV_OBJ;
	out->u.o = o;
	return 0;
}

static void compare(enum jp_op op, const struct jv *a, const struct jv *b,
                    struct jv *out)
{
	double x, y;
	bool yes = false;

	set_null(out);
	if (op == JP_EQ || op == JP_NE) {
		yes = jv_equal(a, b) == (op == JP_EQ);
	} else {
		if (!jv_is_number(a) || !jv_is_number(b))
			return;
		x = jv_number(a);
		y = jv_number(b);
		yes = op == JP_LT   ? x < y
		      : op == JP_LE ? x <= y
		      : op == JP_GT ? x > y
		                    : x >= y;
	}
	out->k = JV_BOOL;
	out->u.b = yes;
}

static int two(struct jp_run *r, const struct jp_node *n, const struct jv *in,
               struct jv *out)
{
	struct jv a, b;

	if (jp_eval(r, n->a, in, &a) < 0)
		return -(int)r->err->kind;
	switch ((enum jp_kind)n->kind) {
	case JP_OR:
	case JP_AND:
		if (jv_true(&a) == (n->kind == JP_OR)) {
			*out = a;
			return 0;
		}
		return jp_eval(r, n->b, in, out);
	case JP_COMPARE:
		if (jp_eval(r, n->b, in, &b) < 0)
			return -(int)r->err->kind;
		compare((enum jp_op)n->op, &a, &b, out);
		return 0;
	case JP_CURRENT:
	case JP_FIELD:
	case JP_INDEX:
	case JP_SLICE:
	case JP_SUB:
	case JP_PIPE:
	case JP_PROJECT:
	case JP_VALUES:
	case JP_FILTER:
	case JP_FLATTEN:
	case JP_NOT:
	case JP_LIST:
	case JP_HASH:
	case JP_LITERAL:
	case JP_STRING:
	case JP_CALL:
	case JP_EXPREF:
		break;
	}
	return jp_eval(r, n->b, &a, out); /* JP_SUB, JP_PIPE */
}

static int negate(struct jp_run *r, const struct jp_node *n,
                  const struct jv *in, struct jv *out)
{
	struct jv a;

	if (jp_eval(r, n->a, in, &a) < 0)
		return -(int)r->err->kind;
	out->k = JV_BOOL;
	out->u.b = !jv_true(&a);
	return 0;
}

int jp_eval(struct jp_run *r, uint32_t node, const struct jv *in,
            struct jv *out)
{
	const struct jp_node *n = get(r, node);

	switch ((enum jp_kind)n->kind) {
	case JP_CURRENT:
		*out = *in;
		return 0;
	case JP_FIELD:
		*out = jv_field(in, jp_text(r->jp, n));
		return 0;
	case JP_INDEX:
		index_list(in, n->num[0], out);
		return 0;
	case JP_SLICE:
		return slice_list(r, n, in, out);
	case JP_SUB:
	case JP_PIPE:
	case JP_OR:
	case JP_AND:
	case JP_COMPARE:
		return two(r, n, in, out);
	case JP_PROJECT:
		return project_list(r, n, in, JP_NO, out);
	case JP_FILTER:
		return project_list(r, n, in, n->c, out);
	case JP_VALUES:
		return project_values(r, n, in, out);
	case JP_FLATTEN:
		return flatten(r, n, in, out);
	case JP_NOT:
		return negate(r, n, in, out);
	case JP_LIST:
		return multi_list(r, n, in, out);
	case JP_HASH:
		return multi_hash(r, n, in, out);
	case JP_LITERAL:
		*out = jv_of(hga_vtape_root(r->jp->lits[n->lit].t));
		return 0;
	case JP_STRING:
		*out = jv_string(jp_text(r->jp, n));
		return 0;
	case JP_CALL:
		return jp_call(r, n, in, out);
	case JP_EXPREF:
		out->k = JV_EXPREF;
		out->u.node = n->a;
		return 0;
	}
	return jp_fail(r, n, "Syntax", "unknown node");
}

/* ---- results ---- */

/* Recursion follows the value made here, whose depth the parser limits. */
void jv_write(struct hga_vtape *t, const struct jv *v)
{
	uint32_t i;

	/* failures stick in the tape */
	switch (v->k) {
	case JV_BOOL:
		(void)hga_vt_bool(t, HGA_NO_NAME, v->u.b);
		return;
	case JV_INT:
		(void)hga_vt_int(t, HGA_NO_NAME, v->u.i);
		return;
	case JV_NUM:
		(void)hga_vt_num(t, HGA_NO_NAME, v->u.d);
		return;
	case JV_STR:
		(void)hga_vt_str(t, HGA_NO_NAME, v->u.s);
		return;
	case JV_REF:
		(void)hga_vt_copy(t, HGA_NO_NAME, v->u.ref);
		return;
	case JV_LIST:
		(void)hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
		for (i = 0; i < v->u.l.n; i++)
			jv_write(t, &v->u.l.v[i]);
		(void)hga_vt_close(t);
		return;
	case JV_OBJ:
		(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
		for (i = 0; i < v->u.o.n; i++) {
			(void)hga_vt_key(t, v->u.o.v[i].key);
			jv_write(t, &v->u.o.v[i].v);
		}
		(void)hga_vt_close(t);
		return;
	case JV_NULL:
	case JV_EXPREF:
		break;
	}
	(void)hga_vt_null(t, HGA_NO_NAME);
}
