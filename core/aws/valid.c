/*
 * Validation of parameters: collects every problem with its path.
 */
#include "aws/valid.h"

#include "aws/ser_int.h"
#include "base/time.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SHOWN_MAX 60
#define NAMES_MAX 12

struct vctx {
	const struct hga_aws_svc *svc;
	struct hga_buf path;
	struct hga_buf *report, *warnings;
	unsigned problems;
	int rc; /* of the buffers: memory */
	struct hga_err *err;
};

/* ---- suggestions ---- */

/* Equal after lower-casing and removing '_' and '-'. */
static bool loosely_equal(struct hga_str a, struct hga_str b)
{
	size_t i = 0, j = 0;

	for (;;) {
		int x, y;

		while (i < a.n && (a.s[i] == '_' || a.s[i] == '-'))
			i++;
		while (j < b.n && (b.s[j] == '_' || b.s[j] == '-'))
			j++;
		if (i == a.n || j == b.n)
			return i == a.n && j == b.n;
		x = (unsigned char)a.s[i++];
		y = (unsigned char)b.s[j++];
		x = x >= 'A' && x <= 'Z' ? x + 32 : x;
		y = y >= 'A' && y <= 'Z' ? y + 32 : y;
		if (x != y)
			return false;
	}
}

void hga_suggest_init(struct hga_suggest *s, struct hga_str want)
{
	size_t third = want.n / 3;

	s->want = want;
	s->best = hga_strn(NULL, 0);
	s->dist = SIZE_MAX;
	s->limit = third < 1 ? 1 : third > 3 ? 3 : third;
}

void hga_suggest_try(struct hga_suggest *s, struct hga_str candidate)
{
	size_t gap = candidate.n > s->want.n ? candidate.n - s->want.n
	                                     : s->want.n - candidate.n;
	size_t d;

	if (loosely_equal(s->want, candidate)) {
		d = 0;
	} else {
		if (gap > s->limit)
			return;
		d = hga_str_distance(s->want, candidate);
		if (d > s->limit)
			return;
		d++; /* loosely equal beats any distance */
	}
	if (d < s->dist ||
	    (d == s->dist && hga_str_cmp(candidate, s->best) < 0)) {
		s->dist = d;
		s->best = candidate;
	}
}

struct hga_str hga_suggest_best(const struct hga_suggest *s)
{
	return s->best;
}

/* Written as a Lua method: no capital anywhere. */
static bool is_snake(struct hga_str name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if (name.s[i] >= 'A' && name.s[i] <= 'Z')
			return false;
	return true;
}

struct hga_str hga_aws_suggest_op(const struct hga_aws_svc *svc,
                                  struct hga_str name)
{
	bool snake = is_snake(name);
	struct hga_suggest s;
	uint32_t i;

	hga_suggest_init(&s, name);
	for (i = 0; i < svc->r->ops.n; i++)
		hga_suggest_try(&s,
		                hga_aws_text(svc, snake ? svc->ops[i].snake
		                                        : svc->ops[i].name));
	return hga_suggest_best(&s);
}

struct hga_str hga_aws_suggest_svc(const struct hga_aws_image *img,
                                   struct hga_str name)
{
	struct hga_suggest s;
	size_t i;

	hga_suggest_init(&s, name);
	for (i = 0; i < hga_aws_image_services(img); i++) {
		const struct hga_aws_svc *v = hga_aws_svc_at(img, i);

		hga_suggest_try(&s, hga_aws_text(v, v->r->name));
	}
	return hga_suggest_best(&s);
}

struct hga_str hga_aws_suggest_member(const struct hga_aws_svc *svc,
                                      const struct hga_img_shape *shape,
                                      struct hga_str name)
{
	struct hga_suggest s;
	uint32_t i;

	hga_suggest_init(&s, name);
	if (shape->type == HGA_T_STRUCT)
		for (i = 0; i < shape->members.n; i++)
			hga_suggest_try(
			    &s, hga_aws_text(
			            svc, hga_aws_member(svc, shape, i)->name));
	return hga_suggest_best(&s);
}

struct hga_str hga_aws_suggest_waiter(const struct hga_aws_svc *svc,
                                      struct hga_str name)
{
	bool snake = is_snake(name);
	struct hga_suggest s;
	uint32_t i;

	hga_suggest_init(&s, name);
	for (i = 0; i < svc->r->waiters.n; i++)
		hga_suggest_try(
		    &s, hga_aws_text(svc, snake ? svc->waiters[i].snake
		                                : svc->waiters[i].name));
	return hga_suggest_best(&s);
}

/* ---- lines of the report ---- */

static void note(struct vctx *c, int rc)
{
	if (rc < 0 && c->rc == 0)
		c->rc = rc;
}

static void add(struct vctx *c, const char *text)
{
	note(c, hga_buf_adds(c->report, text, c->err));
}

static void addv(struct vctx *c, struct hga_str text)
{
	note(c, hga_buf_addstr(c->report, text, c->err));
}

/* Path of the value looked at; the whole input has none. */
static void add_place(struct vctx *c)
{
	if (c->path.len == 0)
		add(c, "input");
	else
		addv(c, hga_buf_str(&c->path));
}

static void problem(struct vctx *c, const char *text)
{
	c->problems++;
	add(c, "\n");
	add(c, text);
	add_place(c);
}

static void enter(struct vctx *c, struct hga_str name)
{
	if (c->path.len > 0)
		note(c, hga_buf_addc(&c->path, '.', c->err));
	note(c, hga_buf_addstr(&c->path, name, c->err));
}

static void enter_at(struct vctx *c, uint32_t i)
{
	note(c, hga_buf_addf(&c->path, c->err, "[%" PRIu32 "]", i));
}

/* A cut that leaves whole UTF-8 characters. */
static struct hga_str shortened(struct hga_str t)
{
	if (t.n <= SHOWN_MAX)
		return t;
	t.n = SHOWN_MAX;
	while (t.n > 0 && ((unsigned char)t.s[t.n] & 0xc0) == 0x80)
		t.n--;
	return t;
}

static void add_value(struct vctx *c, const struct hga_img_member *ref,
                      struct hga_val v)
{
	struct hga_str t;

	if (ref != NULL && (ref->flags & HGA_MF_SENSITIVE)) {
		add(c, "***");
		return;
	}
	switch (hga_val_type(v)) {
	case HGA_V_STR:
	case HGA_V_BLOB:
		t = shortened(hga_val_str(v));
		addv(c, t);
		if (t.n < hga_val_str(v).n)
			add(c, "...");
		return;
	case HGA_V_BOOL:
		add(c, hga_val_bool(v, false) ? "true" : "false");
		return;
	case HGA_V_INT:
		note(c, hga_buf_addf(c->report, c->err, "%" PRId64,
		                     hga_val_int(v, 0)));
		return;
	case HGA_V_NUM:
		note(c, hga_buf_addf(c->report, c->err, "%.14g",
		                     hga_val_num(v, 0)));
		return;
	case HGA_V_NULL:
		add(c, "null");
		return;
	case HGA_V_NONE:
	case HGA_V_SSTR:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		break;
	}
	add(c, "table");
}

static const char *type_name(struct hga_val v)
{
	switch (hga_val_type(v)) {
	case HGA_V_BOOL:
		return "boolean";
	case HGA_V_INT:
		return "integer";
	case HGA_V_NUM:
		return "number";
	case HGA_V_STR:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
		return "string";
	case HGA_V_LIST:
		return "table (list)";
	case HGA_V_MAP:
	case HGA_V_STRUCT:
		return "table (map)";
	case HGA_V_EMPTY:
		return "table";
	case HGA_V_NONE:
	case HGA_V_NULL:
		break;
	}
	return "null";
}

static void wrong_type(struct vctx *c, const struct hga_img_member *ref,
                       struct hga_val v, const char *valid)
{
	problem(c, "Invalid type for parameter ");
	add(c, ", value: ");
	add_value(c, ref, v);
	add(c, ", type: ");
	add(c, type_name(v));
	add(c, ", valid types: ");
	add(c, valid);
}

static double min_of(struct vctx *c, const struct hga_img_shape *s)
{
	return (s->flags & HGA_SF_MIN) ? hga_aws_sext(c->svc, s)->min
	                               : -(double)INFINITY;
}

static void check_length(struct vctx *c, const struct hga_img_shape *s,
                         size_t n)
{
	if ((double)n >= min_of(c, s))
		return;
	problem(c, "Invalid length for parameter ");
	note(c, hga_buf_addf(c->report, c->err,
	                     ", value: %zu, valid min length: %.0f", n,
	                     min_of(c, s)));
}

static void check_min(struct vctx *c, const struct hga_img_member *ref,
                      const struct hga_img_shape *s, struct hga_val v)
{
	if (hga_val_num(v, 0) >= min_of(c, s))
		return;
	problem(c, "Invalid value for parameter ");
	add(c, ", value: ");
	add_value(c, ref, v);
	note(c, hga_buf_addf(c->report, c->err, ", valid min value: %.14g",
	                     min_of(c, s)));
}

/* ---- unknown names ---- */

/* "Placement.AvailabilityZone": the nearest member of a member. */
static bool deeper(struct vctx *c, const struct hga_img_shape *s,
                   struct hga_str name, const struct hga_img_member **outer,
                   const struct hga_img_member **inner)
{
	struct hga_suggest g;
	uint32_t i, j;

	hga_suggest_init(&g, name);
	for (i = 0; i < s->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(c->svc, s, i);
		const struct hga_img_shape *t = hga_aws_shape(c->svc, m->shape);

		if (t->type != HGA_T_STRUCT)
			continue;
		for (j = 0; j < t->members.n; j++) {
			const struct hga_img_member *x =
			    hga_aws_member(c->svc, t, j);
			const char *before = g.best.s;

			hga_suggest_try(&g, hga_aws_text(c->svc, x->name));
			if (g.best.s == before)
				continue;
			*outer = m;
			*inner = x;
		}
	}
	return *outer != NULL && *inner != NULL &&
	       hga_suggest_best(&g).s != NULL;
}

static void list_names(struct vctx *c, const struct hga_img_shape *s)
{
	uint32_t i, n = s->members.n < NAMES_MAX ? s->members.n : NAMES_MAX;

	add(c, ", must be one of: ");
	for (i = 0; i < n; i++) {
		if (i > 0)
			add(c, ", ");
		addv(c,
		     hga_aws_text(c->svc, hga_aws_member(c->svc, s, i)->name));
	}
	if (n < s->members.n)
		note(c, hga_buf_addf(c->report, c->err, " and %" PRIu32 " more",
		                     s->members.n - n));
}

static void unknown(struct vctx *c, const struct hga_img_shape *s,
                    struct hga_str name)
{
	struct hga_str best = hga_aws_suggest_member(c->svc, s, name);
	const struct hga_img_member *outer = NULL, *inner = NULL;

	problem(c, "Unknown parameter in ");
	add(c, ": \"");
	addv(c, shortened(name));
	add(c, "\"");
	if (best.s != NULL) {
		add(c, ", did you mean \"");
		addv(c, best);
		add(c, "\"?");
	} else if (deeper(c, s, name, &outer, &inner)) {
		add(c, ", did you mean ");
		addv(c, hga_aws_text(c->svc, outer->name));
		add(c, ".");
		addv(c, hga_aws_text(c->svc, inner->name));
		add(c, "?");
	} else if (s->members.n > 0) {
		list_names(c, s);
	} else {
		add(c, ", no parameters are known");
	}
}

/* ---- values ---- */

static void check(struct vctx *c, const struct hga_img_member *ref,
                  struct hga_val v);

static bool is_set(struct hga_val v)
{
	return hga_val_type(v) != HGA_V_NONE && !hga_val_is(v, HGA_V_NULL);
}

static void check_required(struct vctx *c, const struct hga_img_shape *s,
                           struct hga_val v)
{
	uint32_t i;

	for (i = 0; i < s->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(c->svc, s, i);
		struct hga_str name = hga_aws_text(c->svc, m->name);

		/* a missing token is made when the request is */
		if (!(m->flags & HGA_MF_REQUIRED) ||
		    (m->flags & HGA_MF_TOKEN) || is_set(hga_val_getn(v, name)))
			continue;
		problem(c, "Missing required parameter in ");
		add(c, ": \"");
		addv(c, name);
		add(c, "\"");
	}
}

static void check_union(struct vctx *c, const struct hga_img_shape *s,
                        struct hga_val v)
{
	uint32_t i, n = 0;

	for (i = 0; i < s->members.n; i++)
		n += is_set(hga_val_getn(
		    v,
		    hga_aws_text(c->svc, hga_aws_member(c->svc, s, i)->name)));
	if (n == 1)
		return;
	problem(c, "Invalid number of members set in union ");
	note(c, hga_buf_addf(c->report, c->err,
	                     ": %" PRIu32 ", exactly one is needed", n));
	list_names(c, s);
}

static void check_struct(struct vctx *c, const struct hga_img_shape *s,
                         struct hga_val v)
{
	size_t mark = c->path.len;
	struct hga_vit it;

	check_required(c, s, v);
	if (s->flags & HGA_SF_UNION)
		check_union(c, s, v);
	if (!hga_val_is(v, HGA_V_MAP) && !hga_val_is(v, HGA_V_STRUCT))
		return;
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);
		const struct hga_img_member *m;

		if (!is_set(hga_vit_val(it)))
			continue;
		m = hga_aws_member_find(c->svc, s, name);
		if (m == NULL) {
			unknown(c, s, name);
			continue;
		}
		enter(c, name);
		check(c, m, hga_vit_val(it));
		hga_buf_truncate(&c->path, mark);
	}
}

static void check_list(struct vctx *c, const struct hga_img_member *ref,
                       const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *item = hga_aws_member(c->svc, s, 0);
	size_t mark = c->path.len;
	struct hga_vit it;
	uint32_t i = 0;

	if (!hga_ser_is_list(v)) {
		wrong_type(c, ref, v, "table (list)");
		return;
	}
	if (hga_val_is(v, HGA_V_EMPTY)) {
		check_length(c, s, 0);
		return;
	}
	check_length(c, s, hga_val_count(v));
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it)) {
		enter_at(c, ++i);
		if (is_set(hga_vit_val(it)))
			check(c, item, hga_vit_val(it));
		hga_buf_truncate(&c->path, mark);
	}
}

static void check_map(struct vctx *c, const struct hga_img_member *ref,
                      const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *value = hga_aws_member(c->svc, s, 1);
	size_t mark = c->path.len;
	struct hga_vit it;

	if (!hga_ser_is_map(v)) {
		wrong_type(c, ref, v, "table (map)");
		return;
	}
	if (hga_val_is(v, HGA_V_EMPTY))
		return;
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it)) {
		if (!is_set(hga_vit_val(it)))
			continue;
		enter(c, hga_vit_name(&it));
		check(c, value, hga_vit_val(it));
		hga_buf_truncate(&c->path, mark);
	}
}

static size_t characters(struct hga_str t)
{
	size_t i, n = 0;

	for (i = 0; i < t.n; i++)
		n += ((unsigned char)t.s[i] & 0xc0) != 0x80;
	return n;
}

static bool in_enum(struct vctx *c, const struct hga_img_shape *s,
                    struct hga_str t)
{
	uint32_t id = hga_aws_text_find(c->svc, t), i;

	if (id == HGA_IMG_NONE)
		return false;
	for (i = 0; i < s->enums.n; i++)
		if (hga_aws_id(c->svc, s->enums, i) == id)
			return true;
	return false;
}

static void warn_enum(struct vctx *c, const struct hga_img_member *ref,
                      const struct hga_img_shape *s, struct hga_str t)
{
	struct hga_str name = hga_aws_text(c->svc, s->name), best;
	struct hga_suggest g;
	uint32_t i;

	if (c->warnings == NULL || s->enums.n == 0 || in_enum(c, s, t))
		return;
	if (ref->flags & HGA_MF_SENSITIVE)
		t = HGA_STR("***");
	hga_suggest_init(&g, t);
	for (i = 0; i < s->enums.n; i++)
		hga_suggest_try(
		    &g, hga_aws_text(c->svc, hga_aws_id(c->svc, s->enums, i)));
	best = hga_suggest_best(&g);
	note(c, hga_buf_addf(c->warnings, c->err,
	                     "warning: \"%.*s\" is not a known %.*s",
	                     HGA_STRF(shortened(t)), HGA_STRF(name)));
	if (best.s != NULL)
		note(c,
		     hga_buf_addf(c->warnings, c->err,
		                  "; did you mean \"%.*s\"?", HGA_STRF(best)));
	note(c, hga_buf_addc(c->warnings, '\n', c->err));
}

static bool is_whole(struct hga_val v)
{
	double d = hga_val_num(v, 0.5);

	return hga_val_is(v, HGA_V_INT) ||
	       (hga_val_is(v, HGA_V_NUM) && isfinite(d) && floor(d) == d &&
	        fabs(d) <= 9007199254740992.0);
}

static bool is_number(struct hga_val v)
{
	return hga_val_is(v, HGA_V_INT) || hga_val_is(v, HGA_V_NUM);
}

static void check_time(struct vctx *c, const struct hga_img_member *ref,
                       struct hga_val v)
{
	int64_t us;

	if (is_number(v) ||
	    (hga_val_is(v, HGA_V_STR) && hga_time_parse(hga_val_str(v), &us)))
		return;
	wrong_type(c, ref, v, "number, string (a date)");
}

static bool is_streaming(const struct hga_img_member *ref,
                         const struct hga_img_shape *s)
{
	return (ref->flags & HGA_MF_STREAMING) != 0 ||
	       (s->flags & HGA_SF_STREAMING) != 0;
}

static void check_blob(struct vctx *c, const struct hga_img_member *ref,
                       const struct hga_img_shape *s, struct hga_val v)
{
	bool streams = is_streaming(ref, s);
	struct hga_str path;

	if (streams && hga_aws_ser_file(v, &path))
		return;
	if (hga_val_is(v, HGA_V_STR) || hga_val_is(v, HGA_V_BLOB))
		check_length(c, s, hga_val_str(v).n);
	else
		wrong_type(c, ref, v,
		           streams ? "string, aws.file(path)" : "string");
}

static void check_text(struct vctx *c, const struct hga_img_member *ref,
                       const struct hga_img_shape *s, struct hga_val v)
{
	if (!hga_val_is(v, HGA_V_STR) && !hga_val_is(v, HGA_V_BLOB)) {
		wrong_type(c, ref, v, "string");
		return;
	}
	check_length(c, s, characters(hga_val_str(v)));
	warn_enum(c, ref, s, hga_val_str(v));
}

/* Recursion follows the value, whose depth a tape limits. */
static void check(struct vctx *c, const struct hga_img_member *ref,
                  struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, ref->shape);

	if (s->flags & HGA_SF_DOCUMENT)
		return;
	switch ((enum hga_aws_type)s->type) {
	case HGA_T_STRUCT:
		if (hga_ser_is_map(v))
			check_struct(c, s, v);
		else
			wrong_type(c, ref, v, "table (map)");
		return;
	case HGA_T_LIST:
		check_list(c, ref, s, v);
		return;
	case HGA_T_MAP:
		check_map(c, ref, s, v);
		return;
	case HGA_T_STRING:
		/* a table for jsonvalue is sent as its JSON */
		if (!(ref->flags & HGA_MF_JSONVALUE))
			check_text(c, ref, s, v);
		return;
	case HGA_T_BLOB:
		check_blob(c, ref, s, v);
		return;
	case HGA_T_INT:
	case HGA_T_LONG:
		if (is_whole(v))
			check_min(c, ref, s, v);
		else
			wrong_type(c, ref, v, "integer");
		return;
	case HGA_T_FLOAT:
	case HGA_T_DOUBLE:
		if (is_number(v))
			check_min(c, ref, s, v);
		else
			wrong_type(c, ref, v, "number");
		return;
	case HGA_T_BOOL:
		if (!hga_val_is(v, HGA_V_BOOL))
			wrong_type(c, ref, v, "boolean");
		return;
	case HGA_T_TIME:
		check_time(c, ref, v);
		return;
	}
}

static void check_input(struct vctx *c, const struct hga_img_shape *in,
                        struct hga_val params)
{
	struct hga_vit it;

	if (is_set(params) && !hga_ser_is_map(params)) {
		wrong_type(c, NULL, params, "table (map)");
		return;
	}
	if (in != NULL) {
		check_struct(c, in, params);
		return;
	}
	if (!hga_val_is(params, HGA_V_MAP) && !hga_val_is(params, HGA_V_STRUCT))
		return;
	for (it = hga_val_first(params); hga_val_more(it);
	     it = hga_val_next(it)) {
		problem(c, "Unknown parameter in ");
		add(c, ": \"");
		addv(c, shortened(hga_vit_name(&it)));
		add(c, "\", the operation has no parameters");
	}
}

int hga_aws_validate(struct hga_aws_op op, struct hga_val params,
                     struct hga_buf *report, struct hga_buf *warnings,
                     struct hga_err *err)
{
	struct vctx c = {
	    .svc = op.svc, .report = report, .warnings = warnings, .err = err};

	hga_buf_init(&c.path, 1024 * 1024);
	hga_buf_clear(report);
	add(&c, "Parameter validation failed:");
	check_input(&c, hga_aws_shape(op.svc, op.r->input), params);
	hga_buf_release(&c.path);
	if (c.rc < 0)
		return c.rc;
	if (c.problems == 0) {
		hga_buf_clear(report);
		return 0;
	}
	return hga_fail(err, HGA_USAGE, 0, "ParamValidation", "%s",
	                hga_buf_text(report));
}
