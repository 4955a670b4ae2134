/*
 * JSON answers -> value.  A stack of frames follows the containers; a scalar
 * is written at once.
 */
#include "aws/out_json.h"

#include "aws/out_xml.h"
#include "base/json.h"
#include "base/mem.h"

#include <string.h>

enum jkind {
	J_STRUCT,
	J_LIST,
	J_MAP,
	J_ANY /* container inside a document: names are keys of the data */
};

struct jframe {
	enum jkind kind;
	bool opened;
	bool is_union;
	bool inside; /* its structure is the caller's */
	bool array;  /* J_ANY */
	const struct hga_img_shape *shape;
	uint32_t name;
};

struct hga_out_json {
	struct hga_out_json_args a;
	const struct hga_aws_svc *svc;
	struct hga_json *json;
	struct jframe f[HGA_JSON_DEPTH + 2];
	unsigned n;
	unsigned skip;                    /* open containers to pass over */
	bool skip_next;                   /* the next value is unknown */
	const struct hga_img_member *ref; /* of the next member value */
	struct hga_buf key;               /* of the next map value */
	bool key_due;
	char unknown[128];
};

static int garbled(struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_PROTOCOL, 0, "Garbled", "%s", what);
}

static void open_struct(struct hga_out_json *j, struct jframe *f)
{
	if (f->opened)
		return;
	f->opened = true;
	/* sticks in the tape */
	(void)hga_vt_open(j->a.tape, HGA_V_STRUCT, f->name,
	                  hga_aws_shape_number(j->svc, f->shape));
}

static struct jframe *push(struct hga_out_json *j, enum jkind kind,
                           const struct hga_img_shape *s, uint32_t name)
{
	struct jframe *f = &j->f[j->n++]; /* the parser limits the depth */

	memset(f, 0, sizeof(*f));
	f->kind = kind;
	f->shape = s;
	f->name = name;
	return f;
}

static void push_struct(struct hga_out_json *j, const struct hga_img_shape *s,
                        uint32_t name)
{
	struct jframe *f = push(j, J_STRUCT, s, name);

	f->is_union = s != NULL && (s->flags & HGA_SF_UNION) != 0;
	if (f->is_union)
		j->unknown[0] = '\0';
	else
		open_struct(j, f);
}

static void push_root(struct hga_out_json *j)
{
	struct jframe *f;

	if (!j->a.inside) {
		push_struct(j, j->a.shape, HGA_NO_NAME);
		return;
	}
	f = push(j, J_STRUCT, j->a.shape, HGA_NO_NAME);
	f->opened = true;
	f->inside = true;
}

static void push_any(struct hga_out_json *j, bool array, uint32_t name)
{
	push(j, J_ANY, NULL, name)->array = array;
	(void)hga_vt_open(j->a.tape, array ? HGA_V_LIST : HGA_V_MAP, name,
	                  HGA_NO_SHAPE); /* sticks */
}

/* ---- keys ---- */

static bool is_in_head(const struct hga_img_member *m)
{
	return m->location == HGA_LOC_HEADER ||
	       m->location == HGA_LOC_HEADERS || m->location == HGA_LOC_STATUS;
}

static void struct_key(struct hga_out_json *j, struct jframe *f,
                       struct hga_str name)
{
	const struct hga_img_member *m = NULL;

	if (f->shape != NULL)
		m = hga_aws_member_wire(j->svc, f->shape, name);
	if (m != NULL && f->inside && is_in_head(m))
		m = NULL;
	j->ref = m;
	j->skip_next = m == NULL;
	if (m == NULL && f->is_union && j->unknown[0] == '\0' &&
	    name.n < sizeof(j->unknown) && !hga_str_eqc(name, "__type")) {
		memcpy(j->unknown, name.s, name.n);
		j->unknown[name.n] = '\0';
	}
}

static int on_key(struct hga_out_json *j, struct hga_str name,
                  struct hga_err *err)
{
	struct jframe *f = &j->f[j->n - 1];

	switch (f->kind) {
	case J_STRUCT:
		struct_key(j, f, name);
		return 0;
	case J_MAP:
	case J_ANY:
		hga_buf_clear(&j->key);
		j->key_due = true;
		return hga_buf_addstr(&j->key, name, err);
	case J_LIST:
		break;
	}
	return 0;
}

/* ---- values ---- */

/*
 * What the next value belongs to: its reference (NULL: part of a document)
 * and its name; writes a pending key.  null: the value is null.  false:
 * nothing is to be written.
 */
static bool place(struct hga_out_json *j, bool null,
                  const struct hga_img_member **ref, uint32_t *name)
{
	struct jframe *f;

	*ref = NULL;
	*name = HGA_NO_NAME;
	if (j->n == 0) {
		*ref = j->a.payload;
		*name = *ref != NULL ? (*ref)->name : HGA_NO_NAME;
		return !null;
	}
	f = &j->f[j->n - 1];
	switch (f->kind) {
	case J_STRUCT:
		if (null)
			return false;
		open_struct(j, f);
		*ref = j->ref;
		*name = j->ref->name;
		return true;
	case J_LIST:
		*ref = hga_aws_member(j->svc, f->shape, 0);
		return true;
	case J_MAP:
		j->key_due = j->key_due && !null;
		if (null)
			return false;
		*ref = hga_aws_member(j->svc, f->shape, 1);
		break;
	case J_ANY:
		break;
	}
	if (j->key_due)
		(void)hga_vt_key(j->a.tape, hga_buf_str(&j->key)); /* sticks */
	j->key_due = false;
	return true;
}

/* A scalar of a document, as it stands. */
static void put_any(struct hga_out_json *j, const struct hga_json_event *ev,
                    uint32_t name)
{
	/* failures stick in the tape */
	switch (ev->type) {
	case HGA_JSON_STR:
		(void)hga_vt_str(j->a.tape, name, ev->text);
		return;
	case HGA_JSON_INT:
		(void)hga_vt_int(j->a.tape, name, ev->i);
		return;
	case HGA_JSON_NUM:
		(void)hga_vt_num(j->a.tape, name, ev->d);
		return;
	case HGA_JSON_BOOL:
		(void)hga_vt_bool(j->a.tape, name, ev->b);
		return;
	case HGA_JSON_NULL:
	case HGA_JSON_OBJECT:
	case HGA_JSON_OBJECT_END:
	case HGA_JSON_ARRAY:
	case HGA_JSON_ARRAY_END:
	case HGA_JSON_KEY:
		break;
	}
	(void)hga_vt_null(j->a.tape, name);
}

static int put_number(struct hga_out_json *j, const struct hga_json_event *ev,
                      const struct hga_img_member *ref,
                      const struct hga_img_shape *s, uint32_t name,
                      struct hga_err *err)
{
	double us = ev->d * 1e6;
	int rc;

	switch ((enum hga_aws_type)s->type) {
	case HGA_T_TIME:
		if (j->a.raw_time)
			break;
		if (!(us > -9e18 && us < 9e18))
			return garbled(err, "not a timestamp");
		/* the fraction is kept to microseconds */
		hga_out_time(j->a.tape, name,
		             (int64_t)(us < 0 ? us - 0.5 : us + 0.5));
		return 0;
	case HGA_T_INT:
	case HGA_T_LONG:
		put_any(j, ev, name);
		return 0;
	case HGA_T_FLOAT:
	case HGA_T_DOUBLE:
		(void)hga_vt_num(j->a.tape, name, ev->d); /* sticks */
		return 0;
	case HGA_T_STRUCT:
	case HGA_T_LIST:
	case HGA_T_MAP:
		return garbled(err, "a number where a structure is expected");
	case HGA_T_STRING:
	case HGA_T_BOOL:
	case HGA_T_BLOB:
		break;
	}
	rc = hga_out_scalar(j->a.tape, name, j->svc, ref, ev->text,
	                    j->a.raw_time, err);
	return rc < 0 ? rc : 0;
}

static int put_text(struct hga_out_json *j, const struct hga_json_event *ev,
                    const struct hga_img_member *ref, uint32_t name,
                    struct hga_err *err)
{
	int rc = hga_out_scalar(j->a.tape, name, j->svc, ref, ev->text,
	                        j->a.raw_time, err);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	/* an empty text for a number: a list or map keeps the place */
	if (name == HGA_NO_NAME)
		(void)hga_vt_null(j->a.tape, name); /* sticks */
	return 0;
}

static int put_bool(struct hga_out_json *j, const struct hga_json_event *ev,
                    const struct hga_img_member *ref,
                    const struct hga_img_shape *s, uint32_t name,
                    struct hga_err *err)
{
	int rc;

	if (s->type == HGA_T_BOOL) {
		put_any(j, ev, name);
		return 0;
	}
	rc = hga_out_scalar(j->a.tape, name, j->svc, ref,
	                    hga_str(ev->b ? "true" : "false"), j->a.raw_time,
	                    err);
	return rc < 0 ? rc : 0;
}

static int on_scalar(struct hga_out_json *j, const struct hga_json_event *ev,
                     struct hga_err *err)
{
	const struct hga_img_member *ref;
	const struct hga_img_shape *s;
	uint32_t name;

	if (j->skip_next) {
		j->skip_next = false;
		return 0;
	}
	if (j->n == 0 && j->a.payload == NULL)
		return garbled(err, "the answer is no JSON object");
	if (!place(j, ev->type == HGA_JSON_NULL, &ref, &name))
		return 0;
	if (ev->type == HGA_JSON_NULL || ref == NULL) {
		put_any(j, ev, name);
		return 0;
	}
	s = hga_aws_shape(j->svc, ref->shape);
	if (s->flags & HGA_SF_DOCUMENT) {
		put_any(j, ev, name);
		return 0;
	}
	if (ev->type == HGA_JSON_STR)
		return put_text(j, ev, ref, name, err);
	if (ev->type == HGA_JSON_BOOL)
		return put_bool(j, ev, ref, s, name, err);
	return put_number(j, ev, ref, s, name, err);
}

static int open_shape(struct hga_out_json *j, const struct hga_img_shape *s,
                      bool array, uint32_t name, struct hga_err *err)
{
	bool leaf = s->type != HGA_T_STRUCT && s->type != HGA_T_LIST &&
	            s->type != HGA_T_MAP;

	/* services have been seen to answer a table for a string */
	if (leaf || (s->flags & HGA_SF_DOCUMENT)) {
		push_any(j, array, name);
		return 0;
	}
	if (s->type == HGA_T_LIST && array) {
		push(j, J_LIST, s, name);
		(void)hga_vt_open(j->a.tape, HGA_V_LIST, name,
		                  HGA_NO_SHAPE); /* sticks */
		return 0;
	}
	if (s->type == HGA_T_MAP && !array) {
		push(j, J_MAP, s, name);
		(void)hga_vt_open(j->a.tape, HGA_V_MAP, name,
		                  HGA_NO_SHAPE); /* sticks */
		return 0;
	}
	if (s->type != HGA_T_STRUCT || array)
		return garbled(err, "a value has another type than its model");
	push_struct(j, s, name);
	return 0;
}

static int on_open(struct hga_out_json *j, bool array, struct hga_err *err)
{
	const struct hga_img_member *ref;
	uint32_t name;

	if (j->skip > 0 || j->skip_next) {
		j->skip_next = false;
		j->skip++;
		return 0;
	}
	if (j->n == 0 && j->a.payload == NULL) {
		if (array)
			return garbled(err, "the answer is no JSON object");
		push_root(j);
		return 0;
	}
	(void)place(j, false, &ref, &name); /* not null: always placed */
	if (ref == NULL) {
		push_any(j, array, name);
		return 0;
	}
	return open_shape(j, hga_aws_shape(j->svc, ref->shape), array, name,
	                  err);
}

static void on_close(struct hga_out_json *j)
{
	struct jframe *f;

	if (j->skip > 0) {
		j->skip--;
		return;
	}
	f = &j->f[--j->n];
	if (f->inside)
		return;
	if (f->kind == J_STRUCT && !f->opened && j->unknown[0] != '\0') {
		hga_out_unknown(j->a.tape, f->name, hga_str(j->unknown));
		j->unknown[0] = '\0';
		return;
	}
	if (f->kind == J_STRUCT)
		open_struct(j, f);
	(void)hga_vt_close(j->a.tape); /* sticks */
}

static int on_event(void *data, const struct hga_json_event *ev,
                    struct hga_err *err)
{
	struct hga_out_json *j = data;

	switch (ev->type) {
	case HGA_JSON_OBJECT:
	case HGA_JSON_ARRAY:
		return on_open(j, ev->type == HGA_JSON_ARRAY, err);
	case HGA_JSON_OBJECT_END:
	case HGA_JSON_ARRAY_END:
		on_close(j);
		return 0;
	case HGA_JSON_KEY:
		return j->skip > 0 ? 0 : on_key(j, ev->text, err);
	case HGA_JSON_STR:
	case HGA_JSON_INT:
	case HGA_JSON_NUM:
	case HGA_JSON_BOOL:
	case HGA_JSON_NULL:
		break;
	}
	return j->skip > 0 ? 0 : on_scalar(j, ev, err);
}

/* ---- the reader ---- */

struct hga_out_json *hga_out_json_new(const struct hga_out_json_args *args)
{
	struct hga_out_json *j = hga_calloc(1, sizeof(*j));

	if (j == NULL)
		return NULL;
	j->a = *args;
	j->svc = args->op.svc;
	hga_buf_init(&j->key, 32u * 1024 * 1024);
	j->json = hga_json_new(on_event, j);
	if (j->json == NULL) {
		hga_out_json_free(j);
		return NULL;
	}
	return j;
}

void hga_out_json_free(struct hga_out_json *j)
{
	if (j == NULL)
		return;
	hga_json_free(j->json);
	hga_buf_release(&j->key);
	hga_free(j);
}

int hga_out_json_feed(struct hga_out_json *j, const void *p, size_t n,
                      struct hga_err *err)
{
	return hga_json_feed(j->json, p, n, err);
}

int hga_out_json_end(struct hga_out_json *j, struct hga_err *err)
{
	int rc = hga_json_end(j->json, err);

	if (rc < 0 || j->a.inside || j->a.payload != NULL)
		return rc;
	return hga_vt_end(j->a.tape, err);
}
