/*
 * XML bodies of protocol rest-xml.  Names follow the image; attributes go
 * into the start tag, so each structure is walked twice.
 */
#include "aws/ser.h"

#include "aws/ser_int.h"
#include "base/mem.h"
#include "base/xml.h"

/* Name of an element and the namespace declared on it. */
struct tag {
	struct hga_str name;
	uint32_t ns, prefix; /* string ids or NONE */
};

static int put_value(struct hga_ser_ctx *c, const struct tag *t,
                     const struct hga_img_member *ref, struct hga_val v);

static int raw(struct hga_ser_ctx *c, const char *text)
{
	return hga_buf_adds(&c->out->body, text, c->err);
}

static int escaped(struct hga_ser_ctx *c, struct hga_str text)
{
	return hga_xml_escape(&c->out->body, text, c->err);
}

/* ---- tags ---- */

/* A member's element: the reference's namespace, else its shape's. */
static struct tag tag_of(const struct hga_ser_ctx *c,
                         const struct hga_img_member *m, struct hga_str name)
{
	const struct hga_img_mext *x = hga_aws_mext(c->svc, m);
	const struct hga_img_sext *s =
	    hga_aws_sext(c->svc, hga_aws_shape(c->svc, m->shape));
	struct tag t = {name, x->ns, x->nsprefix};

	if (t.ns == HGA_IMG_NONE) {
		t.ns = s->ns;
		t.prefix = s->nsprefix;
	}
	return t;
}

/* " NAME=\"TEXT\"" */
static int put_attr(struct hga_ser_ctx *c, struct hga_str name,
                    struct hga_str text)
{
	int rc = raw(c, " ");

	if (rc == 0)
		rc = hga_buf_addstr(&c->out->body, name, c->err);
	if (rc == 0)
		rc = raw(c, "=\"");
	if (rc == 0)
		rc = escaped(c, text);
	return rc < 0 ? rc : raw(c, "\"");
}

/* "<NAME xmlns=...", still open for attributes. */
static int begin_tag(struct hga_ser_ctx *c, const struct tag *t)
{
	struct hga_str prefix = hga_aws_text(c->svc, t->prefix);
	int rc = raw(c, "<");

	if (rc == 0)
		rc = hga_buf_addstr(&c->out->body, t->name, c->err);
	if (rc < 0 || t->ns == HGA_IMG_NONE)
		return rc;
	rc = raw(c, " xmlns");
	if (rc == 0 && prefix.n > 0)
		rc = raw(c, ":");
	if (rc == 0)
		rc = hga_buf_addstr(&c->out->body, prefix, c->err);
	if (rc == 0)
		rc = raw(c, "=\"");
	if (rc == 0)
		rc = escaped(c, hga_aws_text(c->svc, t->ns));
	return rc < 0 ? rc : raw(c, "\"");
}

static int open_tag(struct hga_ser_ctx *c, const struct tag *t)
{
	int rc = begin_tag(c, t);

	return rc < 0 ? rc : raw(c, ">");
}

static int close_tag(struct hga_ser_ctx *c, const struct tag *t)
{
	int rc = raw(c, "</");

	if (rc == 0)
		rc = hga_buf_addstr(&c->out->body, t->name, c->err);
	return rc < 0 ? rc : raw(c, ">");
}

static int put_text(struct hga_ser_ctx *c, const struct tag *t,
                    struct hga_str text)
{
	int rc = open_tag(c, t);

	if (rc == 0)
		rc = escaped(c, text);
	return rc < 0 ? rc : close_tag(c, t);
}

/* ---- values ---- */

/* Text of a scalar into c->text. */
static int scalar_text(struct hga_ser_ctx *c, const struct hga_img_member *ref,
                       struct hga_val v)
{
	int rc;

	hga_buf_clear(&c->text);
	rc = hga_aws_ser_scalar(&c->text, c->svc, ref, v, HGA_TS_ISO, c->err);
	if (rc == -HGA_USAGE)
		hga_err_prefix(c->err, "parameter %.*s",
		               HGA_STRF(hga_buf_str(&c->path)));
	return rc;
}

/* One member of a structure: in the start tag (attr) or inside. */
static int put_member(struct hga_ser_ctx *c, const struct hga_img_member *m,
                      struct hga_val of, bool attr)
{
	struct tag t = tag_of(c, m, hga_aws_text(c->svc, m->sent));
	size_t path = c->path.len;
	struct hga_str token;
	struct hga_val x;
	int rc, what = hga_ser_member(c, of, m, &x, &token);

	if (what <= 0)
		return what;
	rc = hga_ser_enter(c, hga_aws_text(c->svc, m->name));
	if (rc == 0 && what == 2) {
		rc = attr ? put_attr(c, t.name, token) : put_text(c, &t, token);
	} else if (rc == 0 && attr) {
		rc = scalar_text(c, m, x);
		if (rc == 0)
			rc = put_attr(c, t.name, hga_buf_str(&c->text));
	} else if (rc == 0) {
		rc = put_value(c, &t, m, x);
	}
	hga_buf_truncate(&c->path, path);
	return rc;
}

/* A structure as one element; body: only members of the body. */
static int put_struct(struct hga_ser_ctx *c, const struct tag *t,
                      const struct hga_img_shape *s, struct hga_val v,
                      bool body)
{
	int pass, rc;

	if (!hga_ser_is_map(v))
		return hga_ser_wrong(c, "table (map)");
	rc = begin_tag(c, t);
	for (pass = 0; rc == 0 && pass < 2; pass++) {
		uint32_t i;

		for (i = 0; rc == 0 && i < s->members.n; i++) {
			const struct hga_img_member *m =
			    hga_aws_member(c->svc, s, i);
			bool attr = (m->flags & HGA_MF_XMLATTR) != 0;

			if (attr != (pass == 0) ||
			    (body && m->location != HGA_LOC_BODY))
				continue;
			rc = put_member(c, m, v, attr);
		}
		if (rc == 0 && pass == 0)
			rc = raw(c, ">");
	}
	return rc < 0 ? rc : close_tag(c, t);
}

static int put_list(struct hga_ser_ctx *c, const struct tag *t,
                    const struct hga_img_member *ref,
                    const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *item = hga_aws_member(c->svc, s, 0);
	bool flat = (ref->flags & HGA_MF_FLAT) != 0;
	struct tag each =
	    flat ? *t : tag_of(c, item, hga_aws_text(c->svc, item->sent));
	size_t path = c->path.len;
	struct hga_vit it;
	uint32_t n = 0;
	int rc = 0;

	if (!hga_ser_is_list(v))
		return hga_ser_wrong(c, "table (list)");
	if (!flat)
		rc = open_tag(c, t);
	for (it = hga_val_first(v);
	     rc == 0 && !hga_val_is(v, HGA_V_EMPTY) && hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_is(hga_vit_val(it), HGA_V_NULL))
			continue;
		rc = hga_ser_enter_at(c, ++n);
		if (rc == 0)
			rc = put_value(c, &each, item, hga_vit_val(it));
		hga_buf_truncate(&c->path, path);
	}
	return rc < 0 || flat ? rc : close_tag(c, t);
}

static int put_entry(struct hga_ser_ctx *c, const struct tag *t,
                     const struct hga_img_shape *s,
                     const struct hga_ser_entry *e)
{
	const struct hga_img_member *key = hga_aws_member(c->svc, s, 0);
	const struct hga_img_member *value = hga_aws_member(c->svc, s, 1);
	struct tag k = tag_of(c, key, hga_aws_text(c->svc, key->sent));
	struct tag v = tag_of(c, value, hga_aws_text(c->svc, value->sent));
	int rc = open_tag(c, t);

	if (rc == 0)
		rc = put_text(c, &k, e->key);
	if (rc == 0)
		rc = hga_ser_enter(c, e->key);
	if (rc == 0)
		rc = put_value(c, &v, value, e->v);
	return rc < 0 ? rc : close_tag(c, t);
}

static int put_map(struct hga_ser_ctx *c, const struct tag *t,
                   const struct hga_img_member *ref,
                   const struct hga_img_shape *s, struct hga_val v)
{
	bool flat = (ref->flags & HGA_MF_FLAT) != 0;
	struct tag each = {HGA_STR("entry"), HGA_IMG_NONE, HGA_IMG_NONE};
	size_t path = c->path.len;
	struct hga_ser_entry *e;
	uint32_t i, n;
	int rc = hga_ser_entries(c, v, &e, &n);

	if (rc == 0 && !flat)
		rc = open_tag(c, t);
	for (i = 0; rc == 0 && i < n; i++) {
		rc = put_entry(c, flat ? t : &each, s, &e[i]);
		hga_buf_truncate(&c->path, path);
	}
	if (rc == 0 && !flat)
		rc = close_tag(c, t);
	hga_free(e);
	return rc;
}

/* Recursion follows the value, whose depth a tape limits. */
static int put_value(struct hga_ser_ctx *c, const struct tag *t,
                     const struct hga_img_member *ref, struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, ref->shape);
	int rc;

	switch ((enum hga_aws_type)s->type) {
	case HGA_T_STRUCT:
		return put_struct(c, t, s, v, false);
	case HGA_T_LIST:
		return put_list(c, t, ref, s, v);
	case HGA_T_MAP:
		return put_map(c, t, ref, s, v);
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
	rc = scalar_text(c, ref, v);
	return rc < 0 ? rc : put_text(c, t, hga_buf_str(&c->text));
}

/* ---- whole bodies ---- */

static bool is_set(struct hga_val v)
{
	return hga_val_type(v) != HGA_V_NONE && !hga_val_is(v, HGA_V_NULL);
}

static bool body_is_set(const struct hga_ser_ctx *c,
                        const struct hga_img_shape *s)
{
	uint32_t i;

	for (i = 0; i < s->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(c->svc, s, i);
		bool made =
		    (m->flags & HGA_MF_TOKEN) != 0 && c->s->tokens != NULL;

		if (m->location == HGA_LOC_BODY &&
		    (made || is_set(hga_val_getn(
		                 c->s->params, hga_aws_text(c->svc, m->name)))))
			return true;
	}
	return false;
}

int hga_ser_xml_input(struct hga_ser_ctx *c, const struct hga_img_shape *s)
{
	const struct hga_img_op *op = c->s->op.r;
	const struct hga_img_sext *x = hga_aws_sext(c->svc, s);
	uint32_t name = op->in_name != HGA_IMG_NONE ? op->in_name
	                : x->loc != HGA_IMG_NONE    ? x->loc
	                                            : s->name;
	struct tag t = {hga_aws_text(c->svc, name), op->in_ns, op->in_nsprefix};

	if (!body_is_set(c, s))
		return 0;
	if (t.ns == HGA_IMG_NONE) {
		t.ns = x->ns;
		t.prefix = x->nsprefix;
	}
	if (t.ns == HGA_IMG_NONE)
		t.ns = c->svc->r->xmlns;
	return put_struct(c, &t, s, c->s->params, true);
}

int hga_ser_xml_payload(struct hga_ser_ctx *c, const struct hga_img_member *m,
                        struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, m->shape);
	const struct hga_img_sext *x = hga_aws_sext(c->svc, s);
	const struct hga_img_mext *r = hga_aws_mext(c->svc, m);
	bool own = r->loc != HGA_IMG_NONE &&
	           (r->loc != m->name || r->ns != HGA_IMG_NONE);
	uint32_t name = own                      ? r->loc
	                : x->loc != HGA_IMG_NONE ? x->loc
	                                         : s->name;
	struct tag t = tag_of(c, m, hga_aws_text(c->svc, name));

	if (t.ns == HGA_IMG_NONE)
		t.ns = c->svc->r->xmlns;
	return put_value(c, &t, m, v);
}
