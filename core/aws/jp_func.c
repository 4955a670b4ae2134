/*
 * JMESPath: the 26 functions.  Types of arguments are checked here, before
 * a function runs.
 */
#include "aws/jp_int.h"

#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ARGS_MAX 64

/* Types an argument may have. */
enum {
	A_NUM = 1,
	A_STR = 2,
	A_BOOL = 4,
	A_LIST = 8,
	A_OBJ = 16,
	A_NULL = 32,
	A_EXPR = 64,
	A_NUMS = 128, /* list of numbers */
	A_STRS = 256, /* list of strings */
	A_ANY = A_NUM | A_STR | A_BOOL | A_LIST | A_OBJ | A_NULL
};

struct fcall {
	struct jp_run *r;
	const struct jp_node *n;
	struct jv a[ARGS_MAX];
	unsigned count;
};

struct func {
	const char *name;
	uint8_t min, variadic;
	uint16_t types[2]; /* the last one repeats when variadic */
	int (*fn)(struct fcall *c, struct jv *out);
};

static int failed(const struct fcall *c)
{
	return -(int)c->r->err->kind;
}

static void set_bool(struct jv *out, bool b)
{
	out->k = JV_BOOL;
	out->u.b = b;
}

static void set_int(struct jv *out, int64_t i)
{
	out->k = JV_INT;
	out->u.i = i;
}

static void set_num(struct jv *out, double d)
{
	out->k = JV_NUM;
	out->u.d = d;
}

static int new_list(struct fcall *c, uint32_t n, struct jv *out)
{
	out->k = JV_LIST;
	out->u.l.n = n;
	out->u.l.v = jp_alloc(c->r, n, sizeof(struct jv));
	return out->u.l.v == NULL ? failed(c) : 0;
}

static struct hga_str type_of(const struct jv *v)
{
	if (jv_is_number(v))
		return HGA_STR("number");
	if (jv_is_list(v))
		return HGA_STR("array");
	if (jv_is_object(v))
		return HGA_STR("object");
	if (v->k == JV_STR)
		return HGA_STR("string");
	if (v->k == JV_BOOL)
		return HGA_STR("boolean");
	return v->k == JV_EXPREF ? HGA_STR("expression") : HGA_STR("null");
}

/* ---- numbers ---- */

static int f_abs(struct fcall *c, struct jv *out)
{
	if (c->a[0].k == JV_INT && c->a[0].u.i > INT64_MIN)
		set_int(out, c->a[0].u.i < 0 ? -c->a[0].u.i : c->a[0].u.i);
	else
		set_num(out, fabs(jv_number(&c->a[0])));
	return 0;
}

/* A whole number as an integer where it fits. */
static void set_whole(struct jv *out, double d)
{
	if (fabs(d) < 9e15)
		set_int(out, (int64_t)d); /* checked: in range */
	else
		set_num(out, d);
}

static int f_ceil(struct fcall *c, struct jv *out)
{
	if (c->a[0].k == JV_INT)
		*out = c->a[0];
	else
		set_whole(out, ceil(c->a[0].u.d));
	return 0;
}

static int f_floor(struct fcall *c, struct jv *out)
{
	if (c->a[0].k == JV_INT)
		*out = c->a[0];
	else
		set_whole(out, floor(c->a[0].u.d));
	return 0;
}

static int f_sum(struct fcall *c, struct jv *out)
{
	struct jv_list l;
	int64_t whole = 0;
	bool exact = true;
	double d = 0;
	uint32_t i;

	if (jv_elements(c->r, &c->a[0], &l) < 0)
		return failed(c);
	for (i = 0; i < l.n; i++) {
		d += jv_number(&l.v[i]);
		if (!exact || l.v[i].k != JV_INT ||
		    __builtin_add_overflow(whole, l.v[i].u.i, &whole))
			exact = false;
	}
	if (exact)
		set_int(out, whole);
	else
		set_num(out, d);
	return 0;
}

static int f_avg(struct fcall *c, struct jv *out)
{
	uint32_t n = jv_count(&c->a[0]);

	out->k = JV_NULL;
	if (n == 0)
		return 0;
	if (f_sum(c, out) < 0)
		return failed(c);
	set_num(out, jv_number(out) / n);
	return 0;
}

static int f_to_number(struct fcall *c, struct jv *out)
{
	struct hga_str s;
	int64_t i;
	double d;

	out->k = JV_NULL;
	if (jv_is_number(&c->a[0]))
		*out = c->a[0];
	if (c->a[0].k != JV_STR)
		return 0;
	s = c->a[0].u.s;
	if (hga_str_int(s, &i))
		set_int(out, i);
	else if (hga_str_num(s, &d) && isfinite(d))
		set_num(out, d);
	return 0;
}

/* ---- strings ---- */

static int f_contains(struct fcall *c, struct jv *out)
{
	const struct jv *in = &c->a[0], *what = &c->a[1];
	struct jv_list l;
	bool found = false;
	uint32_t i;

	if (in->k == JV_STR) {
		found =
		    what->k == JV_STR && hga_str_find(in->u.s, what->u.s) >= 0;
	} else {
		if (jv_elements(c->r, in, &l) < 0)
			return failed(c);
		for (i = 0; i < l.n && !found; i++)
			found = jv_equal(&l.v[i], what);
	}
	set_bool(out, found);
	return 0;
}

static int f_starts_with(struct fcall *c, struct jv *out)
{
	struct hga_str s = c->a[0].u.s, p = c->a[1].u.s;

	set_bool(out, s.n >= p.n && hga_str_eq(hga_strn(s.s, p.n), p));
	return 0;
}

static int f_ends_with(struct fcall *c, struct jv *out)
{
	struct hga_str s = c->a[0].u.s, p = c->a[1].u.s;

	set_bool(out,
	         s.n >= p.n && hga_str_eq(hga_strn(s.s + (s.n - p.n), p.n), p));
	return 0;
}

static int f_join(struct fcall *c, struct jv *out)
{
	struct hga_str glue = c->a[0].u.s;
	struct jv_list l;
	size_t n = 0;
	uint32_t i;
	char *p;

	if (jv_elements(c->r, &c->a[1], &l) < 0)
		return failed(c);
	for (i = 0; i < l.n; i++)
		n += l.v[i].u.s.n + glue.n;
	p = jp_alloc(c->r, n + 1, 1);
	if (p == NULL)
		return failed(c);
	*out = jv_string(hga_strn(p, 0));
	for (i = 0; i < l.n; i++) {
		if (i > 0 && glue.n > 0) {
			memcpy(p + out->u.s.n, glue.s, glue.n);
			out->u.s.n += glue.n;
		}
		if (l.v[i].u.s.n > 0)
			memcpy(p + out->u.s.n, l.v[i].u.s.s, l.v[i].u.s.n);
		out->u.s.n += l.v[i].u.s.n;
	}
	return 0;
}

static int f_length(struct fcall *c, struct jv *out)
{
	struct hga_str s = c->a[0].u.s;
	int64_t n = 0;
	size_t i;

	if (c->a[0].k != JV_STR) {
		set_int(out, jv_count(&c->a[0]));
		return 0;
	}
	for (i = 0; i < s.n; i++)
		n += ((unsigned char)s.s[i] & 0xc0) != 0x80;
	set_int(out, n);
	return 0;
}

/* By characters, not bytes. */
static int reverse_text(struct fcall *c, struct jv *out)
{
	struct hga_str s = c->a[0].u.s;
	char *p = jp_alloc(c->r, s.n + 1, 1);
	size_t end = s.n, at = 0, i;

	if (p == NULL)
		return failed(c);
	for (i = s.n; i > 0; i--) {
		if (((unsigned char)s.s[i - 1] & 0xc0) == 0x80 && i > 1)
			continue;
		memcpy(p + at, s.s + i - 1, end - (i - 1));
		at += end - (i - 1);
		end = i - 1;
	}
	*out = jv_string(hga_strn(p, s.n));
	return 0;
}

static int f_reverse(struct fcall *c, struct jv *out)
{
	struct jv_list l;
	uint32_t i;

	if (c->a[0].k == JV_STR)
		return reverse_text(c, out);
	if (jv_elements(c->r, &c->a[0], &l) < 0 || new_list(c, l.n, out) < 0)
		return failed(c);
	for (i = 0; i < l.n; i++)
		out->u.l.v[i] = l.v[l.n - 1 - i];
	return 0;
}

static int f_to_string(struct fcall *c, struct jv *out)
{
	struct hga_vtape *t;
	struct hga_buf b;
	char *p = NULL;
	int rc;

	*out = c->a[0];
	if (out->k == JV_STR)
		return 0;
	t = hga_vtape_new(NULL, c->r->max);
	if (t == NULL)
		return hga_fail_mem(c->r->err);
	hga_buf_init(&b, c->r->max);
	jv_write(t, &c->a[0]);
	rc = hga_vt_end(t, c->r->err);
	if (rc == 0)
		rc = hga_json_write(&b, hga_vtape_root(t), 0, false, c->r->err);
	if (rc == 0) {
		p = jp_alloc(c->r, b.len + 1, 1);
		rc = p == NULL ? failed(c) : 0;
	}
	if (p != NULL) {
		memcpy(p, hga_buf_text(&b), b.len);
		*out = jv_string(hga_strn(p, b.len));
	}
	hga_buf_release(&b);
	hga_vtape_free(t);
	return rc;
}

/* ---- any type ---- */

static int f_type(struct fcall *c, struct jv *out)
{
	*out = jv_string(type_of(&c->a[0]));
	return 0;
}

static int f_to_array(struct fcall *c, struct jv *out)
{
	if (jv_is_list(&c->a[0])) {
		*out = c->a[0];
		return 0;
	}
	if (new_list(c, 1, out) < 0)
		return failed(c);
	out->u.l.v[0] = c->a[0];
	return 0;
}

static int f_not_null(struct fcall *c, struct jv *out)
{
	unsigned i;

	out->k = JV_NULL;
	for (i = 0; i < c->count && out->k == JV_NULL; i++)
		*out = c->a[i];
	return 0;
}

/* ---- objects ---- */

static int f_keys(struct fcall *c, struct jv *out)
{
	struct jv_obj o;
	uint32_t i;

	if (jv_entries(c->r, &c->a[0], &o) < 0 || new_list(c, o.n, out) < 0)
		return failed(c);
	for (i = 0; i < o.n; i++)
		out->u.l.v[i] = jv_string(o.v[i].key);
	return 0;
}

static int f_values(struct fcall *c, struct jv *out)
{
	struct jv_obj o;
	uint32_t i;

	if (jv_entries(c->r, &c->a[0], &o) < 0 || new_list(c, o.n, out) < 0)
		return failed(c);
	for (i = 0; i < o.n; i++)
		out->u.l.v[i] = o.v[i].v;
	return 0;
}

static int f_merge(struct fcall *c, struct jv *out)
{
	struct jv_obj o, all = {NULL, 0};
	uint32_t i, j, n = 0;
	unsigned a;

	for (a = 0; a < c->count; a++)
		n += jv_count(&c->a[a]);
	all.v = jp_alloc(c->r, n, sizeof(*all.v));
	if (all.v == NULL)
		return failed(c);
	for (a = 0; a < c->count; a++) {
		if (jv_entries(c->r, &c->a[a], &o) < 0)
			return failed(c);
		for (i = 0; i < o.n; i++) {
			for (j = 0; j < all.n; j++)
				if (hga_str_eq(all.v[j].key, o.v[i].key))
					break;
			all.v[j] = o.v[i];
			if (j == all.n)
				all.n++;
		}
	}
	out->k = JV_OBJ;
	out->u.o = all;
	return 0;
}

/* ---- order ---- */

struct keyed {
	struct jv key, v;
	uint32_t at; /* keeps the sort stable */
};

static int key_cmp(const struct jv *a, const struct jv *b)
{
	double x, y;

	if (a->k == JV_STR)
		return hga_str_cmp(a->u.s, b->u.s);
	x = jv_number(a);
	y = jv_number(b);
	return x < y ? -1 : x > y;
}

static int keyed_cmp(const void *a, const void *b)
{
	const struct keyed *x = a, *y = b;
	int c = key_cmp(&x->key, &y->key);

	return c != 0 ? c : x->at < y->at ? -1 : 1;
}

static int wrong_keys(struct fcall *c)
{
	return jp_fail(c->r, c->n, "InvalidType",
	               "%.*s: the keys must be all numbers or all strings",
	               HGA_STRF(jp_text(c->r->jp, c->n)));
}

/* Elements of the first argument with their keys (expr NULL: themselves). */
static int with_keys(struct fcall *c, const struct jv *expr, struct keyed **out,
                     uint32_t *n)
{
	struct jv_list l;
	struct keyed *v;
	uint32_t i;

	if (jv_elements(c->r, &c->a[0], &l) < 0)
		return failed(c);
	v = jp_alloc(c->r, l.n, sizeof(*v));
	if (v == NULL)
		return failed(c);
	for (i = 0; i < l.n; i++) {
		v[i].v = l.v[i];
		v[i].at = i;
		v[i].key = l.v[i];
		if (expr != NULL &&
		    jp_eval(c->r, expr->u.node, &l.v[i], &v[i].key) < 0)
			return failed(c);
		if ((v[i].key.k != JV_STR && !jv_is_number(&v[i].key)) ||
		    (v[i].key.k == JV_STR) != (v[0].key.k == JV_STR))
			return wrong_keys(c);
	}
	*out = v;
	*n = l.n;
	return 0;
}

static int sorted(struct fcall *c, const struct jv *expr, struct jv *out)
{
	struct keyed *v = NULL;
	uint32_t i, n = 0;

	if (with_keys(c, expr, &v, &n) < 0)
		return failed(c);
	if (n > 1)
		qsort(v, n, sizeof(*v), keyed_cmp);
	if (new_list(c, n, out) < 0)
		return failed(c);
	for (i = 0; i < n; i++)
		out->u.l.v[i] = v[i].v;
	return 0;
}

/* want < 0: the smallest, > 0: the largest; the first of equal ones. */
static int extreme(struct fcall *c, const struct jv *expr, int want,
                   struct jv *out)
{
	struct keyed *v = NULL;
	uint32_t i, n = 0, best = 0;

	if (with_keys(c, expr, &v, &n) < 0)
		return failed(c);
	out->k = JV_NULL;
	if (n == 0)
		return 0;
	for (i = 1; i < n; i++)
		if (key_cmp(&v[i].key, &v[best].key) * want > 0)
			best = i;
	*out = v[best].v;
	return 0;
}

static int f_sort(struct fcall *c, struct jv *out)
{
	return sorted(c, NULL, out);
}

static int f_sort_by(struct fcall *c, struct jv *out)
{
	return sorted(c, &c->a[1], out);
}

static int f_max(struct fcall *c, struct jv *out)
{
	return extreme(c, NULL, 1, out);
}

static int f_min(struct fcall *c, struct jv *out)
{
	return extreme(c, NULL, -1, out);
}

static int f_max_by(struct fcall *c, struct jv *out)
{
	return extreme(c, &c->a[1], 1, out);
}

static int f_min_by(struct fcall *c, struct jv *out)
{
	return extreme(c, &c->a[1], -1, out);
}

static int f_map(struct fcall *c, struct jv *out)
{
	struct jv_list l;
	uint32_t i;

	if (jv_elements(c->r, &c->a[1], &l) < 0 || new_list(c, l.n, out) < 0)
		return failed(c);
	for (i = 0; i < l.n; i++)
		if (jp_eval(c->r, c->a[0].u.node, &l.v[i], &out->u.l.v[i]) < 0)
			return failed(c);
	return 0;
}

/* ---- the table ---- */

static const struct func funcs[] = {
    {"abs", 1, 0, {A_NUM, 0}, f_abs},
    {"avg", 1, 0, {A_NUMS, 0}, f_avg},
    {"ceil", 1, 0, {A_NUM, 0}, f_ceil},
    {"contains", 2, 0, {A_STR | A_LIST, A_ANY}, f_contains},
    {"ends_with", 2, 0, {A_STR, A_STR}, f_ends_with},
    {"floor", 1, 0, {A_NUM, 0}, f_floor},
    {"join", 2, 0, {A_STR, A_STRS}, f_join},
    {"keys", 1, 0, {A_OBJ, 0}, f_keys},
    {"length", 1, 0, {A_STR | A_LIST | A_OBJ, 0}, f_length},
    {"map", 2, 0, {A_EXPR, A_LIST}, f_map},
    {"max", 1, 0, {A_NUMS | A_STRS, 0}, f_max},
    {"max_by", 2, 0, {A_LIST, A_EXPR}, f_max_by},
    {"merge", 1, 1, {A_OBJ, A_OBJ}, f_merge},
    {"min", 1, 0, {A_NUMS | A_STRS, 0}, f_min},
    {"min_by", 2, 0, {A_LIST, A_EXPR}, f_min_by},
    {"not_null", 1, 1, {A_ANY, A_ANY}, f_not_null},
    {"reverse", 1, 0, {A_STR | A_LIST, 0}, f_reverse},
    {"sort", 1, 0, {A_NUMS | A_STRS, 0}, f_sort},
    {"sort_by", 2, 0, {A_LIST, A_EXPR}, f_sort_by},
    {"starts_with", 2, 0, {A_STR, A_STR}, f_starts_with},
    {"sum", 1, 0, {A_NUMS, 0}, f_sum},
    {"to_array", 1, 0, {A_ANY, 0}, f_to_array},
    {"to_number", 1, 0, {A_ANY, 0}, f_to_number},
    {"to_string", 1, 0, {A_ANY, 0}, f_to_string},
    {"type", 1, 0, {A_ANY, 0}, f_type},
    {"values", 1, 0, {A_OBJ, 0}, f_values},
};

static const struct func *find(struct hga_str name)
{
	size_t i;

	for (i = 0; i < sizeof(funcs) / sizeof(funcs[0]); i++)
		if (hga_str_eqc(name, funcs[i].name))
			return &funcs[i];
	return NULL;
}

bool jp_is_function(struct hga_str name)
{
	return find(name) != NULL;
}

static unsigned type_bit(const struct jv *v)
{
	if (jv_is_number(v))
		return A_NUM;
	if (jv_is_list(v))
		return A_LIST;
	if (jv_is_object(v))
		return A_OBJ;
	if (v->k == JV_STR)
		return A_STR;
	if (v->k == JV_BOOL)
		return A_BOOL;
	return v->k == JV_EXPREF ? A_EXPR : A_NULL;
}

/* 1: all elements are of one of the kinds asked for. */
static int elements_fit(struct fcall *c, const struct jv *v, unsigned types)
{
	bool nums = (types & A_NUMS) != 0, strs = (types & A_STRS) != 0;
	struct jv_list l;
	uint32_t i;

	if (!jv_is_list(v))
		return 0;
	if (jv_elements(c->r, v, &l) < 0)
		return failed(c);
	for (i = 0; i < l.n; i++) {
		nums = nums && jv_is_number(&l.v[i]);
		strs = strs && l.v[i].k == JV_STR;
	}
	return nums || strs;
}

static int check_arg(struct fcall *c, unsigned i, unsigned types)
{
	int fits = (type_bit(&c->a[i]) & types) != 0;

	if (!fits && (types & (A_NUMS | A_STRS)))
		fits = elements_fit(c, &c->a[i], types);
	if (fits < 0)
		return fits;
	if (fits)
		return 0;
	return jp_fail(c->r, c->n, "InvalidType",
	               "%.*s: argument %u has the wrong type (%.*s)",
	               HGA_STRF(jp_text(c->r->jp, c->n)), i + 1,
	               HGA_STRF(type_of(&c->a[i])));
}

static int check_count(struct jp_run *r, const struct jp_node *n,
                       const struct func *f, unsigned count)
{
	if (count == f->min ||
	    (f->variadic && count > f->min && count <= ARGS_MAX))
		return 0;
	return jp_fail(r, n, "InvalidArity", "%s: %u arguments instead of %s%u",
	               f->name, count, f->variadic ? "at least " : "", f->min);
}

int jp_call(struct jp_run *r, const struct jp_node *n, const struct jv *in,
            struct jv *out)
{
	struct hga_str name = jp_text(r->jp, n);
	const struct func *f = find(name);
	unsigned i, count = 0;
	struct fcall *c;
	uint32_t child;
	int rc;

	if (f == NULL)
		return jp_fail(r, n, "UnknownFunction",
		               "there is no function %.*s", HGA_STRF(name));
	for (child = n->a; child != JP_NO; child = r->jp->nodes[child].next)
		count++;
	rc = check_count(r, n, f, count);
	if (rc < 0)
		return rc;
	c = jp_alloc(r, 1, sizeof(*c));
	if (c == NULL)
		return -(int)r->err->kind;
	c->r = r;
	c->n = n;
	c->count = count;
	for (child = n->a, i = 0; child != JP_NO;
	     child = r->jp->nodes[child].next, i++) {
		rc = jp_eval(r, child, in, &c->a[i]);
		if (rc == 0)
			rc = check_arg(c, i, f->types[i < 2 ? i : 1]);
		if (rc < 0)
			return rc;
	}
	return f->fn(c, out);
}
