/*
 * XML answers -> value.  One frame per open element that means something;
 * everything else is skipped by a counter.
 */
#include "aws/out_xml.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"
#include "base/xml.h"

#include <math.h>
#include <string.h>

#define SIDE_MAX (256u * 1024 * 1024)
#define DEPTH (HGA_XML_DEPTH + 2)

enum fkind {
	F_ROOT,   /* the response's outermost element */
	F_HOLD,   /* ErrorResponse, Errors: on the way to Error */
	F_META,   /* ResponseMetadata */
	F_REQID,  /* its RequestId */
	F_STRUCT, /* also the result wrapper */
	F_LIST,
	F_MAP,
	F_ENTRY, /* of a map */
	F_KEY,
	F_SCALAR
};

/* A flattened list or map, collected beside its structure. */
struct side {
	const struct hga_img_member *m;
	struct hga_vtape *tape;
	struct side *next;
};

struct frame {
	enum fkind kind;
	bool opened; /* a container is open in the tape for it */
	bool is_union;
	bool wrapper; /* its members belong to a structure that stays open */
	bool whole;   /* its end is the end of the value */
	bool on_side; /* its end goes back to the outer tape */
	const struct hga_img_shape *shape;
	const struct hga_img_member *ref; /* F_SCALAR, F_KEY */
	uint32_t name; /* of the value in its structure, or none */
	uint32_t next; /* structures: number of the member expected */
	struct side *sides;
	struct hga_vtape *outer;
	struct hga_vtape *late; /* entries: value that came before its key */
};

struct hga_out_xml {
	struct hga_out_xml_args a;
	const struct hga_aws_svc *svc;
	struct hga_xml *xml;
	struct hga_vtape *tape; /* where values go now */
	struct frame f[DEPTH];
	unsigned n;      /* open frames */
	unsigned skip;   /* open unknown elements */
	bool done_value; /* the result was written */
	bool saw_error;
	bool wrapped;      /* the members are in a wrapper element */
	bool key_known;    /* the open entry's key was read */
	char unknown[128]; /* first unknown member of the innermost union */
	struct hga_buf text, key;
	char request_id[128];
};

/* ---- shared ---- */

static int garbled(struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_PROTOCOL, 0, "Garbled", "%s", what);
}

void hga_out_time(struct hga_vtape *t, uint32_t name, int64_t us)
{
	/* a failure sticks in the tape */
	if (us % 1000000 == 0)
		(void)hga_vt_int(t, name, us / 1000000);
	else
		(void)hga_vt_num(t, name, (double)us / 1e6);
}

void hga_out_unknown(struct hga_vtape *t, uint32_t name, struct hga_str member)
{
	/* failures stick in the tape */
	(void)hga_vt_open(t, HGA_V_MAP, name, HGA_NO_SHAPE);
	(void)hga_vt_key(t, HGA_STR("SDK_UNKNOWN_MEMBER"));
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	(void)hga_vt_key(t, HGA_STR("name"));
	(void)hga_vt_str(t, HGA_NO_NAME, member);
	(void)hga_vt_close(t);
	(void)hga_vt_close(t);
}

static bool number_of(struct hga_str text, double *d)
{
	if (hga_str_eqc(text, "NaN"))
		*d = (double)NAN;
	else if (hga_str_eqc(text, "Infinity"))
		*d = (double)INFINITY;
	else if (hga_str_eqc(text, "-Infinity"))
		*d = -(double)INFINITY;
	else
		return hga_str_num(text, d);
	return true;
}

static int put_blob(struct hga_vtape *t, uint32_t name, struct hga_str text,
                    struct hga_err *err)
{
	struct hga_buf raw;
	int rc;

	hga_buf_init(&raw, text.n + 16);
	rc = hga_b64_decode(&raw, text, err);
	if (rc == 0)
		(void)hga_vt_blob(t, name, hga_buf_str(&raw)); /* sticks */
	hga_buf_release_secret(&raw);
	return rc == -HGA_PROTOCOL ? garbled(err, "not base64")
	       : rc < 0            ? rc
	                           : 1;
}

static int put_bool(struct hga_vtape *t, uint32_t name, struct hga_str text,
                    struct hga_err *err)
{
	bool yes = hga_str_ieqc(text, "true") || hga_str_eqc(text, "1");

	if (!yes && !hga_str_ieqc(text, "false") && !hga_str_eqc(text, "0"))
		return garbled(err, "not a boolean");
	(void)hga_vt_bool(t, name, yes); /* sticks */
	return 1;
}

static int put_number(struct hga_vtape *t, uint32_t name, struct hga_str text,
                      bool whole, struct hga_err *err)
{
	int64_t i;
	double d;

	/* failures stick in the tape */
	if (whole && hga_str_int(text, &i))
		(void)hga_vt_int(t, name, i);
	else if (number_of(text, &d))
		(void)hga_vt_num(t, name, d);
	else
		return garbled(err, "not a number");
	return 1;
}

static int put_time(struct hga_vtape *t, uint32_t name, struct hga_str text,
                    struct hga_err *err)
{
	int64_t us;

	if (!hga_time_parse(text, &us))
		return garbled(err, "not a timestamp");
	hga_out_time(t, name, us);
	return 1;
}

int hga_out_scalar(struct hga_vtape *t, uint32_t name,
                   const struct hga_aws_svc *svc,
                   const struct hga_img_member *ref, struct hga_str text,
                   bool raw_time, struct hga_err *err)
{
	const struct hga_img_shape *s = hga_aws_shape(svc, ref->shape);
	enum hga_aws_type type = (enum hga_aws_type)s->type;

	if (type == HGA_T_BLOB)
		return put_blob(t, name, text, err);
	if (type == HGA_T_STRING || (type == HGA_T_TIME && raw_time)) {
		(void)hga_vt_str(t, name, text); /* sticks */
		return 1;
	}
	text = hga_str_trim(text);
	if (text.n == 0)
		return 0;
	switch (type) {
	case HGA_T_BOOL:
		return put_bool(t, name, text, err);
	case HGA_T_INT:
	case HGA_T_LONG:
		return put_number(t, name, text, true, err);
	case HGA_T_FLOAT:
	case HGA_T_DOUBLE:
		return put_number(t, name, text, false, err);
	case HGA_T_TIME:
		return put_time(t, name, text, err);
	case HGA_T_STRUCT:
	case HGA_T_LIST:
	case HGA_T_MAP:
	case HGA_T_STRING:
	case HGA_T_BLOB:
		break;
	}
	return garbled(err, "a scalar where a structure is expected");
}

/* ---- moving a side tape ---- */

struct level {
	uint32_t end;
	bool map, key_due;
};

static void append_leaf(struct hga_vtape *to, const struct hga_node *n,
                        struct hga_str text)
{
	/* failures stick in the tape */
	switch ((enum hga_vtype)n->type) {
	case HGA_V_BOOL:
		(void)hga_vt_bool(to, n->name, n->u.i != 0);
		return;
	case HGA_V_INT:
		(void)hga_vt_int(to, n->name, n->u.i);
		return;
	case HGA_V_NUM:
		(void)hga_vt_num(to, n->name, n->u.d);
		return;
	case HGA_V_STR:
	case HGA_V_SSTR:
		(void)hga_vt_str(to, n->name, text);
		return;
	case HGA_V_BLOB:
		(void)hga_vt_blob(to, n->name, text);
		return;
	case HGA_V_EMPTY:
		(void)hga_vt_empty(to, n->name);
		return;
	case HGA_V_NONE:
	case HGA_V_NULL:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
		break;
	}
	(void)hga_vt_null(to, n->name);
}

static bool is_container(const struct hga_node *n)
{
	return n->type == HGA_V_LIST || n->type == HGA_V_MAP ||
	       n->type == HGA_V_STRUCT;
}

int hga_out_append(struct hga_vtape *to, struct hga_vtape *from,
                   struct hga_err *err)
{
	struct level lv[2 * DEPTH + 128];
	const struct hga_node *n;
	struct hga_vdrain d;
	struct hga_str text;
	unsigned depth = 0;
	uint32_t at = 0;
	int rc = hga_vt_end(from, err);

	if (rc < 0)
		return rc;
	hga_vdrain_init(&d, from);
	for (; (n = hga_vdrain_next(&d, &text)) != NULL; at++) {
		struct level *up = depth > 0 ? &lv[depth - 1] : NULL;

		if (up != NULL && up->map && up->key_due) {
			(void)hga_vt_key(to, text); /* sticks */
			up->key_due = false;
		} else {
			if (up != NULL)
				up->key_due = true;
			if (is_container(n)) {
				/* a tape is at most 128 deep */
				(void)hga_vt_open(to, (enum hga_vtype)n->type,
				                  n->name, n->shape);
				lv[depth].end = at + n->u.c.skip;
				lv[depth].map = n->type == HGA_V_MAP;
				lv[depth++].key_due = true;
			} else {
				append_leaf(to, n, text);
			}
		}
		while (depth > 0 && at + 1 == lv[depth - 1].end) {
			(void)hga_vt_close(to); /* sticks */
			depth--;
		}
	}
	return 0;
}

/* ---- frames ---- */

static struct frame *top(struct hga_out_xml *x)
{
	return &x->f[x->n - 1];
}

static struct frame *push(struct hga_out_xml *x, enum fkind kind)
{
	struct frame *f = &x->f[x->n++]; /* the parser limits the depth */

	memset(f, 0, sizeof(*f));
	f->kind = kind;
	f->name = HGA_NO_NAME;
	return f;
}

static void open_struct(struct hga_out_xml *x, struct frame *f)
{
	if (f->opened)
		return;
	f->opened = true;
	/* sticks in the tape */
	(void)hga_vt_open(x->tape, HGA_V_STRUCT, f->name,
	                  hga_aws_shape_number(x->svc, f->shape));
}

/* The structure of the result; also that of an error. */
static struct frame *push_struct(struct hga_out_xml *x,
                                 const struct hga_img_shape *s, uint32_t name)
{
	struct frame *f = push(x, F_STRUCT);

	f->shape = s;
	f->name = name;
	f->is_union = s != NULL && (s->flags & HGA_SF_UNION) != 0;
	if (f->is_union)
		x->unknown[0] = '\0';
	else
		open_struct(x, f);
	return f;
}

static void open_plain(struct hga_out_xml *x, struct frame *f,
                       enum hga_vtype type)
{
	f->opened = true;
	(void)hga_vt_open(x->tape, type, f->name, HGA_NO_SHAPE); /* sticks */
}

static int attributes(struct hga_out_xml *x, const struct frame *f,
                      const struct hga_xml_attr *attrs, size_t n,
                      struct hga_err *err)
{
	size_t i;

	for (i = 0; i < n; i++) {
		const struct hga_img_member *m =
		    hga_aws_member_wire(x->svc, f->shape, attrs[i].name);
		int rc;

		if (m == NULL || !(m->flags & HGA_MF_XMLATTR))
			continue;
		rc = hga_out_scalar(x->tape, m->name, x->svc, m, attrs[i].value,
		                    x->a.raw_time, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* An element begins that holds a value of ref's shape. */
static int push_value(struct hga_out_xml *x, const struct hga_img_member *ref,
                      uint32_t name, const struct hga_xml_attr *attrs, size_t n,
                      struct hga_err *err)
{
	const struct hga_img_shape *s = hga_aws_shape(x->svc, ref->shape);
	struct frame *f;

	switch ((enum hga_aws_type)s->type) {
	case HGA_T_STRUCT:
		f = push_struct(x, s, name);
		return n > 0 && f->opened ? attributes(x, f, attrs, n, err) : 0;
	case HGA_T_LIST:
	case HGA_T_MAP:
		f = push(x, s->type == HGA_T_LIST ? F_LIST : F_MAP);
		f->shape = s;
		f->name = name;
		open_plain(x, f,
		           s->type == HGA_T_LIST ? HGA_V_LIST : HGA_V_MAP);
		return 0;
	case HGA_T_STRING:
	case HGA_T_INT:
	case HGA_T_LONG:
	case HGA_T_FLOAT:
	case HGA_T_DOUBLE:
	case HGA_T_BOOL:
	case HGA_T_BLOB:
	case HGA_T_TIME:
		break;
	}
	f = push(x, F_SCALAR);
	f->ref = ref;
	f->name = name;
	hga_buf_clear(&x->text);
	return 0;
}

/* ---- flattened members ---- */

static struct side *find_side(struct hga_out_xml *x, struct frame *f,
                              const struct hga_img_member *m, bool map)
{
	struct side **p = &f->sides;

	while (*p != NULL && (*p)->m != m)
		p = &(*p)->next;
	if (*p != NULL)
		return *p;
	*p = hga_calloc(1, sizeof(**p));
	if (*p == NULL)
		return NULL;
	(*p)->m = m;
	(*p)->tape = hga_vtape_new(&x->svc->names, SIDE_MAX);
	if ((*p)->tape != NULL) /* else the caller fails */
		(void)hga_vt_open((*p)->tape, map ? HGA_V_MAP : HGA_V_LIST,
		                  m->name, HGA_NO_SHAPE); /* sticks */
	return *p;
}

static void free_sides(struct frame *f)
{
	while (f->sides != NULL) {
		struct side *s = f->sides;

		f->sides = s->next;
		hga_vtape_free(s->tape);
		hga_free(s);
	}
}

/* One element of a flattened list or map of the structure f. */
static int push_flat(struct hga_out_xml *x, struct frame *f,
                     const struct hga_img_member *m,
                     const struct hga_img_shape *s,
                     const struct hga_xml_attr *attrs, size_t n,
                     struct hga_err *err)
{
	bool map = s->type == HGA_T_MAP;
	struct side *side = find_side(x, f, m, map);
	struct hga_vtape *outer = x->tape;
	int rc = 0;

	if (side == NULL || side->tape == NULL)
		return hga_fail_mem(err);
	x->tape = side->tape;
	if (map) {
		push(x, F_ENTRY)->shape = s;
		x->key_known = false;
	} else {
		rc = push_value(x, hga_aws_member(x->svc, s, 0), HGA_NO_NAME,
		                attrs, n, err);
	}
	if (rc < 0)
		return rc;
	top(x)->on_side = true;
	top(x)->outer = outer;
	return 0;
}

static int write_sides(struct hga_out_xml *x, struct frame *f,
                       struct hga_err *err)
{
	struct side *s;
	int rc = 0;

	for (s = f->sides; s != NULL && rc == 0; s = s->next) {
		(void)hga_vt_close(s->tape); /* sticks */
		rc = hga_out_append(x->tape, s->tape, err);
	}
	free_sides(f);
	return rc;
}

/* ---- elements ---- */

static void skip_element(struct hga_out_xml *x)
{
	x->skip = 1;
}

/* Usually elements come in model order: look at the expected member first. */
static const struct hga_img_member *
find_child(struct hga_out_xml *x, struct frame *f, struct hga_str name)
{
	const struct hga_img_member *m =
	    hga_aws_member(x->svc, f->shape, f->next);

	if (m == NULL || !hga_str_eq(hga_aws_text(x->svc, m->wire), name))
		m = hga_aws_member_wire(x->svc, f->shape, name);
	if (m == NULL || (m->flags & HGA_MF_XMLATTR))
		return NULL;
	if (m->location == HGA_LOC_HEADER || m->location == HGA_LOC_HEADERS ||
	    m->location == HGA_LOC_STATUS)
		return NULL;
	f->next = (uint32_t)(m - hga_aws_member(x->svc, f->shape, 0)) + 1;
	return m;
}

static int child_of_struct(struct hga_out_xml *x, struct frame *f,
                           struct hga_str name,
                           const struct hga_xml_attr *attrs, size_t n,
                           struct hga_err *err)
{
	const struct hga_img_member *m = NULL;
	const struct hga_img_shape *s;

	if (f->shape != NULL)
		m = find_child(x, f, name);
	if (m == NULL) {
		if (f->is_union && x->unknown[0] == '\0' &&
		    name.n < sizeof(x->unknown)) {
			memcpy(x->unknown, name.s, name.n);
			x->unknown[name.n] = '\0';
		}
		skip_element(x);
		return 0;
	}
	open_struct(x, f);
	s = hga_aws_shape(x->svc, m->shape);
	if ((m->flags & HGA_MF_FLAT) &&
	    (s->type == HGA_T_LIST || s->type == HGA_T_MAP))
		return push_flat(x, f, m, s, attrs, n, err);
	return push_value(x, m, m->name, attrs, n, err);
}

/* The value of a map entry; one that precedes its key waits beside it. */
static int entry_value(struct hga_out_xml *x, struct frame *f,
                       const struct hga_img_member *value,
                       const struct hga_xml_attr *attrs, size_t n,
                       struct hga_err *err)
{
	struct hga_vtape *outer = x->tape;
	int rc;

	if (x->key_known) {
		(void)hga_vt_key(x->tape, hga_buf_str(&x->key)); /* sticks */
		x->key_known = false;
		return push_value(x, value, HGA_NO_NAME, attrs, n, err);
	}
	hga_vtape_free(f->late);
	f->late = hga_vtape_new(&x->svc->names, SIDE_MAX);
	if (f->late == NULL)
		return hga_fail_mem(err);
	x->tape = f->late;
	rc = push_value(x, value, HGA_NO_NAME, attrs, n, err);
	if (rc < 0)
		return rc;
	top(x)->on_side = true;
	top(x)->outer = outer;
	return 0;
}

static int child_of_entry(struct hga_out_xml *x, struct frame *f,
                          struct hga_str name, const struct hga_xml_attr *attrs,
                          size_t n, struct hga_err *err)
{
	const struct hga_img_member *key = hga_aws_member(x->svc, f->shape, 0);
	const struct hga_img_member *value =
	    hga_aws_member(x->svc, f->shape, 1);

	if (hga_str_eq(hga_aws_text(x->svc, key->wire), name)) {
		push(x, F_KEY);
		hga_buf_clear(&x->text);
		return 0;
	}
	if (hga_str_eq(hga_aws_text(x->svc, value->wire), name))
		return entry_value(x, f, value, attrs, n, err);
	skip_element(x);
	return 0;
}

static bool is_reqid(struct hga_str name)
{
	return hga_str_eqc(name, "RequestId") ||
	       hga_str_eqc(name, "requestId") || hga_str_eqc(name, "RequestID");
}

/* <OpResult>, or what the model calls it. */
static bool is_wrapper(const struct hga_out_xml *x, struct hga_str name)
{
	struct hga_str w = hga_aws_text(x->svc, x->a.op.r->wrapper);
	struct hga_str op = hga_aws_op_name(x->a.op);

	if (x->svc->r->protocol != HGA_AWS_QUERY)
		return false;
	if (w.n > 0)
		return hga_str_eq(w, name);
	if (x->a.shape != NULL &&
	    hga_aws_member_wire(x->svc, x->a.shape, name) != NULL)
		return false;
	return name.n == op.n + 6 && hga_str_starts(name, op.s) &&
	       hga_str_ends(name, "Result");
}

static int child_of_root(struct hga_out_xml *x, struct frame *f,
                         struct hga_str name, const struct hga_xml_attr *attrs,
                         size_t n, struct hga_err *err)
{
	if (is_wrapper(x, name) && !x->wrapped) {
		x->wrapped = true;
		push(x, F_STRUCT)->shape = x->a.shape;
		top(x)->opened = true; /* with the root */
		top(x)->wrapper = true;
		return 0;
	}
	if (f->shape != NULL &&
	    hga_aws_member_wire(x->svc, f->shape, name) != NULL &&
	    hga_aws_text(x->svc, x->a.op.r->wrapper).n == 0)
		return child_of_struct(x, f, name, attrs, n, err);
	if (is_reqid(name)) {
		push(x, F_REQID);
		hga_buf_clear(&x->text);
		return 0;
	}
	if (hga_str_eqc(name, "ResponseMetadata")) {
		push(x, F_META);
		return 0;
	}
	skip_element(x);
	return 0;
}

static int start_root(struct hga_out_xml *x, struct hga_str name,
                      struct hga_err *err)
{
	struct hga_str op = hga_aws_op_name(x->a.op);
	bool good = hga_str_starts(name, op.s) &&
	            (name.n == op.n ||
	             (name.n == op.n + 8 && hga_str_ends(name, "Response")));
	struct frame *f;

	if (!good)
		return garbled(err, "the answer has another outermost element "
		                    "than this operation's");
	f = push(x, F_ROOT);
	f->shape = x->a.shape;
	open_struct(x, f);
	return 0;
}

/* s3 answers the location as the text of the root. */
static const struct hga_img_member *root_member(const struct hga_out_xml *x,
                                                struct hga_str name)
{
	struct hga_str svc = hga_aws_text(x->svc, x->svc->r->name);

	if (!hga_str_eqc(svc, "s3") || x->a.shape == NULL ||
	    !hga_str_eqc(hga_aws_op_name(x->a.op), "GetBucketLocation"))
		return NULL;
	return hga_aws_member_wire(x->svc, x->a.shape, name);
}

/* The root of a rest answer may have any name. */
static int start_rest(struct hga_out_xml *x, struct hga_str name,
                      const struct hga_xml_attr *attrs, size_t n,
                      struct hga_err *err)
{
	const struct hga_img_member *m = x->a.payload;
	struct frame *f;
	int rc;

	if (hga_str_ieqc(name, "html"))
		return garbled(err, "the answer is a web page");
	if (hga_str_eqc(name, "Error")) {
		x->saw_error = true;
		return garbled(err, "the answer is an error document");
	}
	if (m == NULL)
		m = root_member(x, name);
	if (m != NULL) {
		rc = push_value(x, m, m->name, attrs, n, err);
		if (rc == 0)
			top(x)->whole = true;
		return rc;
	}
	f = push(x, F_ROOT);
	f->shape = x->a.shape;
	f->opened = true;
	f->wrapper = true;
	return n > 0 && f->shape != NULL ? attributes(x, f, attrs, n, err) : 0;
}

/* On the way to the first Error element. */
static int start_error(struct hga_out_xml *x, struct hga_str name)
{
	if (x->saw_error) {
		skip_element(x);
	} else if (hga_str_eqc(name, "Error")) {
		x->saw_error = true;
		if (x->a.inside) {
			push(x, F_STRUCT)->shape = x->a.shape;
			top(x)->opened = true;
			top(x)->wrapper = true;
		} else {
			push_struct(x, x->a.shape, HGA_NO_NAME);
		}
		top(x)->whole = true;
	} else if (hga_str_eqc(name, "ErrorResponse") ||
	           hga_str_eqc(name, "Response") ||
	           hga_str_eqc(name, "Errors")) {
		push(x, F_HOLD);
	} else {
		skip_element(x);
	}
	return 0;
}

static int start_first(struct hga_out_xml *x, struct hga_str name,
                       const struct hga_xml_attr *attrs, size_t n,
                       struct hga_err *err)
{
	switch (x->a.mode) {
	case HGA_XML_RESULT:
		return start_root(x, name, err);
	case HGA_XML_REST:
		return start_rest(x, name, attrs, n, err);
	case HGA_XML_ERROR:
		break;
	}
	return start_error(x, name);
}

static int on_start(void *data, struct hga_str name,
                    const struct hga_xml_attr *attrs, size_t n,
                    struct hga_err *err)
{
	struct hga_out_xml *x = data;
	struct frame *f;

	if (x->skip > 0) {
		x->skip++;
		return 0;
	}
	if (x->n == 0)
		return start_first(x, name, attrs, n, err);
	f = top(x);
	switch (f->kind) {
	case F_ROOT:
		return child_of_root(x, f, name, attrs, n, err);
	case F_HOLD:
		return start_error(x, name);
	case F_META:
		if (is_reqid(name)) {
			push(x, F_REQID);
			hga_buf_clear(&x->text);
			return 0;
		}
		break;
	case F_STRUCT:
		return child_of_struct(x, f, name, attrs, n, err);
	case F_LIST:
		return push_value(x, hga_aws_member(x->svc, f->shape, 0),
		                  HGA_NO_NAME, attrs, n, err);
	case F_MAP:
		push(x, F_ENTRY)->shape = f->shape;
		x->key_known = false;
		return 0;
	case F_ENTRY:
		return child_of_entry(x, f, name, attrs, n, err);
	case F_REQID:
	case F_KEY:
	case F_SCALAR:
		break;
	}
	skip_element(x);
	return 0;
}

static int on_text(void *data, struct hga_str text, struct hga_err *err)
{
	struct hga_out_xml *x = data;

	if (x->skip > 0 || x->n == 0)
		return 0;
	switch (top(x)->kind) {
	case F_SCALAR:
	case F_KEY:
	case F_REQID:
		return hga_buf_addstr(&x->text, text, err);
	case F_ROOT:
	case F_HOLD:
	case F_META:
	case F_STRUCT:
	case F_LIST:
	case F_MAP:
	case F_ENTRY:
		break;
	}
	return 0;
}

#define DOCUMENT_MAX (4u * 1024 * 1024)

/* A policy document as a table; false: it is none, or no object. */
static bool put_document(struct hga_out_xml *x, const struct frame *f)
{
	const struct hga_img_shape *s = hga_aws_shape(x->svc, f->ref->shape);
	struct hga_vtape *t = NULL;
	struct hga_buf text;
	bool good = false;

	if (!x->a.documents ||
	    !hga_str_eqc(hga_aws_text(x->svc, s->name), "policyDocumentType"))
		return false;
	hga_buf_init(&text, HGA_XML_TEXT + 1);
	if (hga_pct_decode(&text, hga_buf_str(&x->text), false, NULL) == 0 &&
	    hga_json_parse(hga_buf_str(&text), DOCUMENT_MAX, &t, NULL) == 0)
		good = hga_val_is(hga_vtape_root(t), HGA_V_MAP);
	if (good)
		(void)hga_vt_copy(x->tape, f->name,
		                  hga_vtape_root(t)); /* sticks */
	hga_vtape_free(t);
	hga_buf_release(&text);
	return good;
}

static int end_scalar(struct hga_out_xml *x, struct frame *f,
                      struct hga_err *err)
{
	int rc =
	    put_document(x, f)
	        ? 1
	        : hga_out_scalar(x->tape, f->name, x->svc, f->ref,
	                         hga_buf_str(&x->text), x->a.raw_time, err);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	/* nothing: allowed in a structure, elsewhere a place must be kept */
	if (f->name == HGA_NO_NAME)
		(void)hga_vt_null(x->tape, HGA_NO_NAME); /* sticks */
	return 0;
}

static int end_struct(struct hga_out_xml *x, struct frame *f,
                      struct hga_err *err)
{
	int rc;

	if (!f->opened && x->unknown[0] != '\0') {
		hga_out_unknown(x->tape, f->name, hga_str(x->unknown));
		x->unknown[0] = '\0';
		return 0;
	}
	open_struct(x, f);
	rc = write_sides(x, f, err);
	if (!f->wrapper)
		(void)hga_vt_close(x->tape); /* sticks */
	return rc;
}

static int end_entry(struct hga_out_xml *x, struct frame *f,
                     struct hga_err *err)
{
	int rc = 0;

	if (f->late != NULL && x->key_known) {
		(void)hga_vt_key(x->tape, hga_buf_str(&x->key)); /* sticks */
		rc = hga_out_append(x->tape, f->late, err);
	}
	x->key_known = false;
	hga_vtape_free(f->late);
	f->late = NULL;
	return rc;
}

static void end_reqid(struct hga_out_xml *x)
{
	struct hga_str t = hga_str_trim(hga_buf_str(&x->text));

	if (t.n < sizeof(x->request_id)) {
		memcpy(x->request_id, t.s, t.n);
		x->request_id[t.n] = '\0';
	}
}

static int end_frame(struct hga_out_xml *x, struct frame *f,
                     struct hga_err *err)
{
	int rc = 0;

	switch (f->kind) {
	case F_ROOT:
		rc = write_sides(x, f, err);
		if (!f->wrapper)
			(void)hga_vt_close(x->tape); /* sticks */
		x->done_value = true;
		return rc;
	case F_STRUCT:
		return end_struct(x, f, err);
	case F_LIST:
	case F_MAP:
		(void)hga_vt_close(x->tape); /* sticks */
		return 0;
	case F_ENTRY:
		return end_entry(x, f, err);
	case F_KEY:
		hga_buf_clear(&x->key);
		x->key_known = true;
		return hga_buf_addstr(&x->key, hga_buf_str(&x->text), err);
	case F_SCALAR:
		return end_scalar(x, f, err);
	case F_REQID:
		end_reqid(x);
		return 0;
	case F_HOLD:
	case F_META:
		break;
	}
	return 0;
}

static int on_end(void *data, struct hga_str name, struct hga_err *err)
{
	struct hga_out_xml *x = data;
	struct frame *f;
	int rc;

	(void)name; /* the parser has matched it */
	if (x->skip > 0) {
		x->skip--;
		return 0;
	}
	f = top(x);
	rc = end_frame(x, f, err);
	if (f->on_side)
		x->tape = f->outer;
	if (f->whole)
		x->done_value = true;
	x->n--;
	return rc;
}

static const struct hga_xml_fns fns = {on_start, on_text, on_end};

/* ---- the reader ---- */

struct hga_out_xml *hga_out_xml_new(const struct hga_out_xml_args *args)
{
	struct hga_out_xml *x = hga_calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->a = *args;
	x->svc = args->op.svc;
	x->tape = args->tape;
	hga_buf_init(&x->text, HGA_XML_TEXT + 1);
	hga_buf_init(&x->key, HGA_XML_TEXT + 1);
	x->xml = hga_xml_new(&fns, x);
	if (x->xml == NULL) {
		hga_out_xml_free(x);
		return NULL;
	}
	return x;
}

void hga_out_xml_free(struct hga_out_xml *x)
{
	if (x == NULL)
		return;
	while (x->n > 0) {
		struct frame *f = top(x);

		free_sides(f);
		hga_vtape_free(f->late);
		x->n--;
	}
	hga_xml_free(x->xml);
	hga_buf_release_secret(&x->text);
	hga_buf_release(&x->key);
	hga_free(x);
}

int hga_out_xml_feed(struct hga_out_xml *x, const void *p, size_t n,
                     struct hga_err *err)
{
	return hga_xml_feed(x->xml, p, n, err);
}

int hga_out_xml_end(struct hga_out_xml *x, struct hga_err *err)
{
	int rc = hga_xml_end(x->xml, err);

	if (rc < 0)
		return rc;
	if (!x->done_value)
		return garbled(err, "the answer holds no result");
	if (x->a.mode == HGA_XML_REST || x->a.inside)
		return 0;
	return hga_vt_end(x->a.tape, err);
}

bool hga_out_xml_is_error(const struct hga_out_xml *x)
{
	return x->a.mode == HGA_XML_REST && x->saw_error;
}

const char *hga_out_xml_request_id(const struct hga_out_xml *x)
{
	return x->request_id;
}
