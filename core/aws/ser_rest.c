/*
 * Protocols rest-json and rest-xml: members go into the path, the query
 * string, headers or the body, as the model's locations say (Smithy HTTP
 * bindings).
 */
#include "aws/ser.h"

#include "aws/ser_int.h"
#include "base/json.h"
#include "base/mem.h"

#include <string.h>

static bool is_set(struct hga_val v)
{
	return hga_val_type(v) != HGA_V_NONE && !hga_val_is(v, HGA_V_NULL);
}

/* Name of a member in its location. */
static struct hga_str located_name(const struct hga_ser_ctx *c,
                                   const struct hga_img_member *m)
{
	const struct hga_img_mext *x = hga_aws_mext(c->svc, m);

	return hga_aws_text(c->svc, x->loc != HGA_IMG_NONE ? x->loc : m->name);
}

/* Text of a scalar into c->text. */
static int scalar_text(struct hga_ser_ctx *c, const struct hga_img_member *ref,
                       struct hga_val v, enum hga_aws_tsformat def)
{
	int rc;

	hga_buf_clear(&c->text);
	rc = hga_aws_ser_scalar(&c->text, c->svc, ref, v, def, c->err);
	if (rc == -HGA_USAGE)
		hga_err_prefix(c->err, "parameter %.*s",
		               HGA_STRF(hga_buf_str(&c->path)));
	return rc;
}

/* ---- path ---- */

/* Member that a label of the path names. */
static const struct hga_img_member *label_member(struct hga_ser_ctx *c,
                                                 const struct hga_img_shape *in,
                                                 struct hga_str label)
{
	uint32_t i;

	for (i = 0; in != NULL && i < in->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(c->svc, in, i);

		if (m->location == HGA_LOC_URI &&
		    hga_str_eq(located_name(c, m), label))
			return m;
	}
	return NULL;
}

static int put_label(struct hga_ser_ctx *c, const struct hga_img_shape *in,
                     struct hga_str label)
{
	bool greedy = hga_str_ends(label, "+");
	const struct hga_img_member *m;
	struct hga_str token, text;
	struct hga_val v;
	int what, rc = 0;

	label.n -= greedy;
	m = label_member(c, in, label);
	if (m == NULL)
		return hga_fail(c->err, HGA_BUG, 0, "Model",
		                "%.*s: no member for label {%.*s}",
		                HGA_STRF(hga_aws_op_name(c->s->op)),
		                HGA_STRF(label));
	what = hga_ser_member(c, c->s->params, m, &v, &token);
	if (what < 0)
		return what;
	hga_buf_clear(&c->path);
	rc = hga_ser_enter(c, hga_aws_text(c->svc, m->name));
	if (rc == 0 && what == 1)
		rc = scalar_text(c, m, v, HGA_TS_ISO);
	if (rc < 0)
		return rc;
	text = what == 2   ? token
	       : what == 1 ? hga_buf_str(&c->text)
	                   : hga_str("");
	if (text.n == 0)
		return hga_ser_wrong(c, "a text that is not empty (it is part "
		                        "of the path)");
	rc = hga_pct_encode(&c->out->path, text, greedy ? "/" : "", c->err);
	hga_buf_clear(&c->path);
	return rc;
}

/* "/{Bucket}/{Key+}?acl": labels replaced; what follows '?' is *query. */
static int put_path(struct hga_ser_ctx *c, const struct hga_img_shape *in,
                    struct hga_str *query)
{
	struct hga_str t = hga_aws_text(c->svc, c->s->op.r->uri);
	ptrdiff_t mark = hga_str_chr(t, '?', 0);
	struct hga_buf *path = &c->out->path;
	size_t at = 0;
	int rc = 0;

	*query = hga_str("");
	if (mark >= 0) {
		*query = hga_strn(t.s + mark + 1, t.n - (size_t)mark - 1);
		t.n = (size_t)mark;
	}
	while (rc == 0 && at < t.n) {
		ptrdiff_t open = hga_str_chr(t, '{', at), close = -1;

		if (open >= 0)
			close = hga_str_chr(t, '}', (size_t)open);
		if (close < 0)
			return hga_buf_add(path, t.s + at, t.n - at, c->err);
		rc = hga_buf_add(path, t.s + at, (size_t)open - at, c->err);
		if (rc == 0)
			rc = put_label(c, in,
			               hga_strn(t.s + open + 1,
			                        (size_t)(close - open - 1)));
		at = (size_t)close + 1;
	}
	return rc;
}

/* ---- query string ---- */

static int put_pair(struct hga_ser_ctx *c, struct hga_str name,
                    struct hga_str value)
{
	struct hga_buf *q = &c->out->query;
	int rc = 0;

	if (q->len > 0)
		rc = hga_buf_addc(q, '&', c->err);
	if (rc == 0)
		rc = hga_pct_encode(q, name, "", c->err);
	if (rc == 0)
		rc = hga_buf_addc(q, '=', c->err);
	return rc < 0 ? rc : hga_pct_encode(q, value, "", c->err);
}

static int query_scalar(struct hga_ser_ctx *c, struct hga_str name,
                        const struct hga_img_member *ref, struct hga_val v)
{
	int rc = scalar_text(c, ref, v, HGA_TS_ISO);

	return rc < 0 ? rc : put_pair(c, name, hga_buf_str(&c->text));
}

static int query_list(struct hga_ser_ctx *c, struct hga_str name,
                      const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *item = hga_aws_member(c->svc, s, 0);
	size_t path = c->path.len;
	struct hga_vit it;
	uint32_t n = 0;
	int rc = 0;

	if (!hga_ser_is_list(v))
		return hga_ser_wrong(c, "table (list)");
	if (hga_val_is(v, HGA_V_EMPTY))
		return 0;
	for (it = hga_val_first(v); rc == 0 && hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_is(hga_vit_val(it), HGA_V_NULL))
			continue;
		rc = hga_ser_enter_at(c, ++n);
		if (rc == 0)
			rc = query_scalar(c, name, item, hga_vit_val(it));
		hga_buf_truncate(&c->path, path);
	}
	return rc;
}

/* A member of its own has that name in the query string. */
static bool is_named(const struct hga_ser_ctx *c,
                     const struct hga_img_shape *in, struct hga_str name)
{
	uint32_t i;

	for (i = 0; i < in->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(c->svc, in, i);
		enum hga_aws_type type =
		    (enum hga_aws_type)hga_aws_shape(c->svc, m->shape)->type;

		if (m->location == HGA_LOC_QUERY && type != HGA_T_MAP &&
		    hga_str_eq(located_name(c, m), name) &&
		    is_set(hga_val_getn(c->s->params,
		                        hga_aws_text(c->svc, m->name))))
			return true;
	}
	return false;
}

static int query_map(struct hga_ser_ctx *c, const struct hga_img_shape *in,
                     const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *value = hga_aws_member(c->svc, s, 1);
	const struct hga_img_shape *vs = hga_aws_shape(c->svc, value->shape);
	size_t path = c->path.len;
	struct hga_ser_entry *e;
	uint32_t i, n;
	int rc = hga_ser_entries(c, v, &e, &n);

	for (i = 0; rc == 0 && i < n; i++) {
		if (is_named(c, in, e[i].key))
			continue;
		rc = hga_ser_enter(c, e[i].key);
		if (rc == 0 && vs->type == HGA_T_LIST)
			rc = query_list(c, e[i].key, vs, e[i].v);
		else if (rc == 0)
			rc = query_scalar(c, e[i].key, value, e[i].v);
		hga_buf_truncate(&c->path, path);
	}
	hga_free(e);
	return rc;
}

static int put_query(struct hga_ser_ctx *c, const struct hga_img_shape *in,
                     const struct hga_img_member *m, struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, m->shape);

	if (s->type == HGA_T_LIST)
		return query_list(c, located_name(c, m), s, v);
	if (s->type == HGA_T_MAP)
		return query_map(c, in, s, v);
	return query_scalar(c, located_name(c, m), m, v);
}

/* ---- headers ---- */

static int add_header(struct hga_ser_ctx *c, struct hga_str name,
                      struct hga_str value)
{
	if (hga_str_chr(value, '\n', 0) >= 0 ||
	    hga_str_chr(value, '\r', 0) >= 0 ||
	    hga_str_chr(value, '\0', 0) >= 0)
		return hga_ser_wrong(c, "a text without line breaks (it is "
		                        "sent as a header)");
	return hga_aws_pairs_set(&c->out->headers, name, value, c->err);
}

/* base64 of the text as given, or of a table's JSON. */
static int json_header(struct hga_ser_ctx *c, struct hga_str name,
                       struct hga_val v)
{
	struct hga_buf json;
	struct hga_str text = hga_val_str(v);
	int rc = 0;

	hga_buf_init(&json, 65536);
	if (!hga_val_is(v, HGA_V_STR)) {
		rc = hga_json_write(&json, v, 0, true, c->err);
		text = hga_buf_str(&json);
	}
	hga_buf_clear(&c->text);
	if (rc == 0)
		rc = hga_b64_encode(&c->text, text.s, text.n, c->err);
	if (rc == 0)
		rc = add_header(c, name, hga_buf_str(&c->text));
	hga_buf_release(&json);
	return rc;
}

/* An element of a list; quoted where a reader would split it. */
static int add_item(struct hga_ser_ctx *c, struct hga_buf *out,
                    struct hga_str text, bool quotable)
{
	size_t i;
	int rc = 0;

	if (!quotable ||
	    (hga_str_chr(text, ',', 0) < 0 && hga_str_chr(text, '"', 0) < 0))
		return hga_buf_addstr(out, text, c->err);
	rc = hga_buf_addc(out, '"', c->err);
	for (i = 0; rc == 0 && i < text.n; i++) {
		if (text.s[i] == '"' || text.s[i] == '\\')
			rc = hga_buf_addc(out, '\\', c->err);
		if (rc == 0)
			rc = hga_buf_addc(out, text.s[i], c->err);
	}
	return rc < 0 ? rc : hga_buf_addc(out, '"', c->err);
}

static int list_header(struct hga_ser_ctx *c, struct hga_str name,
                       const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *item = hga_aws_member(c->svc, s, 0);
	bool quotable =
	    hga_aws_shape(c->svc, item->shape)->type == HGA_T_STRING;
	struct hga_buf all;
	struct hga_vit it;
	uint32_t n = 0;
	int rc = 0;

	if (!hga_ser_is_list(v))
		return hga_ser_wrong(c, "table (list)");
	hga_buf_init(&all, 65536);
	for (it = hga_val_first(v);
	     rc == 0 && !hga_val_is(v, HGA_V_EMPTY) && hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_is(hga_vit_val(it), HGA_V_NULL))
			continue;
		if (n++ > 0)
			rc = hga_buf_addc(&all, ',', c->err);
		if (rc == 0)
			rc = scalar_text(c, item, hga_vit_val(it),
			                 HGA_TS_RFC822);
		if (rc == 0)
			rc = add_item(c, &all, hga_buf_str(&c->text), quotable);
	}
	if (rc == 0 && n > 0)
		rc = add_header(c, name, hga_buf_str(&all));
	hga_buf_release(&all);
	return rc;
}

static int put_header(struct hga_ser_ctx *c, const struct hga_img_member *m,
                      struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, m->shape);
	struct hga_str name = located_name(c, m);
	int rc;

	if (m->flags & HGA_MF_JSONVALUE)
		return json_header(c, name, v);
	if (s->type == HGA_T_LIST)
		return list_header(c, name, s, v);
	rc = scalar_text(c, m, v, HGA_TS_RFC822);
	return rc < 0 ? rc : add_header(c, name, hga_buf_str(&c->text));
}

/* A map whose keys are the ends of header names. */
static int put_headers(struct hga_ser_ctx *c, const struct hga_img_member *m,
                       struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, m->shape);
	const struct hga_img_mext *x = hga_aws_mext(c->svc, m);
	struct hga_str prefix = hga_aws_text(c->svc, x->loc);
	size_t path = c->path.len;
	struct hga_ser_entry *e;
	struct hga_buf name;
	uint32_t i, n;
	int rc;

	if (s->type != HGA_T_MAP)
		return hga_fail(c->err, HGA_BUG, 0, "Model",
		                "%.*s: headers that are no map",
		                HGA_STRF(hga_aws_text(c->svc, m->name)));
	rc = hga_ser_entries(c, v, &e, &n);
	hga_buf_init(&name, 65536);
	for (i = 0; rc == 0 && i < n; i++) {
		hga_buf_clear(&name);
		rc = hga_ser_enter(c, e[i].key);
		if (rc == 0)
			rc = hga_buf_addstr(&name, prefix, c->err);
		if (rc == 0)
			rc = hga_buf_addstr(&name, e[i].key, c->err);
		if (rc == 0)
			rc = scalar_text(c, hga_aws_member(c->svc, s, 1),
			                 e[i].v, HGA_TS_RFC822);
		if (rc == 0)
			rc = add_header(c, hga_buf_str(&name),
			                hga_buf_str(&c->text));
		hga_buf_truncate(&c->path, path);
	}
	hga_buf_release(&name);
	hga_free(e);
	return rc;
}

/* A member outside of path and body. */
static int put_located(struct hga_ser_ctx *c, const struct hga_img_shape *in,
                       const struct hga_img_member *m)
{
	struct hga_str token;
	struct hga_val v;
	int rc, what;

	if (m->location != HGA_LOC_QUERY && m->location != HGA_LOC_HEADER &&
	    m->location != HGA_LOC_HEADERS)
		return 0;
	what = hga_ser_member(c, c->s->params, m, &v, &token);
	if (what == 2 && m->location == HGA_LOC_QUERY)
		return put_pair(c, located_name(c, m), token);
	if (what == 2)
		return add_header(c, located_name(c, m), token);
	if (what <= 0)
		return what;
	rc = hga_ser_enter(c, hga_aws_text(c->svc, m->name));
	if (rc == 0 && m->location == HGA_LOC_QUERY)
		rc = put_query(c, in, m, v);
	else if (rc == 0 && m->location == HGA_LOC_HEADER)
		rc = put_header(c, m, v);
	else if (rc == 0)
		rc = put_headers(c, m, v);
	hga_buf_clear(&c->path);
	return rc;
}

/* ---- body ---- */

static int content_type(struct hga_ser_ctx *c, const char *type)
{
	if (hga_aws_pairs_get(&c->out->headers, "Content-Type") != NULL)
		return 0;
	return hga_aws_pairs_set(&c->out->headers, HGA_STR("Content-Type"),
	                         hga_str(type), c->err);
}

static bool is_json(const struct hga_ser_ctx *c)
{
	return c->svc->r->protocol == HGA_AWS_REST_JSON;
}

static int document_type(struct hga_ser_ctx *c)
{
	c->out->has_body = true;
	return content_type(c, is_json(c) ? "application/json"
	                                  : "application/xml");
}

static bool is_streaming(const struct hga_img_member *m,
                         const struct hga_img_shape *s)
{
	return (m->flags & HGA_MF_STREAMING) != 0 ||
	       (s->flags & HGA_SF_STREAMING) != 0;
}

/* A payload that is sent as it is: text, bytes, or a file's content. */
static int raw_payload(struct hga_ser_ctx *c, const struct hga_img_member *m,
                       const struct hga_img_shape *s, struct hga_val v)
{
	struct hga_str file;
	int rc = 0;

	c->out->has_body = true;
	if (!is_streaming(m, s))
		rc = content_type(c, s->type == HGA_T_BLOB
		                         ? "application/octet-stream"
		                         : "text/plain");
	else if (hga_aws_ser_file(v, &file)) {
		c->out->file = hga_memdup0(file.s, file.n);
		return c->out->file != NULL ? 0 : hga_fail_mem(c->err);
	}
	if (rc < 0)
		return rc;
	if (!hga_val_is(v, HGA_V_STR) && !hga_val_is(v, HGA_V_BLOB))
		return hga_ser_wrong(c, "string");
	return hga_buf_addstr(&c->out->body, hga_val_str(v), c->err);
}

static int put_payload(struct hga_ser_ctx *c, const struct hga_img_member *m)
{
	const struct hga_img_shape *s = hga_aws_shape(c->svc, m->shape);
	struct hga_val v =
	    hga_val_getn(c->s->params, hga_aws_text(c->svc, m->name));
	int rc;

	if (s->flags & HGA_SF_EVENTSTREAM)
		return hga_fail(c->err, HGA_USAGE, 0, "Unsupported",
		                "%.*s: event streams cannot be sent by this "
		                "version",
		                HGA_STRF(hga_aws_op_name(c->s->op)));
	if (!is_set(v)) {
		if (!is_json(c) || s->type != HGA_T_STRUCT ||
		    (s->flags & (HGA_SF_UNION | HGA_SF_DOCUMENT)))
			return 0;
		rc = document_type(c);
		return rc < 0 ? rc : hga_buf_adds(&c->out->body, "{}", c->err);
	}
	rc = hga_ser_enter(c, hga_aws_text(c->svc, m->name));
	if (rc < 0)
		return rc;
	if (s->type == HGA_T_STRING || s->type == HGA_T_BLOB)
		return raw_payload(c, m, s, v);
	rc = document_type(c);
	if (rc < 0)
		return rc;
	return is_json(c) ? hga_ser_json_value(c, m, v)
	                  : hga_ser_xml_payload(c, m, v);
}

static bool has_body_members(const struct hga_ser_ctx *c,
                             const struct hga_img_shape *in)
{
	uint32_t i;

	for (i = 0; i < in->members.n; i++)
		if (hga_aws_member(c->svc, in, i)->location == HGA_LOC_BODY)
			return true;
	return false;
}

/* Raw parameters need an object that they can join. */
static int check_extra(const struct hga_ser_ctx *c, bool object)
{
	struct hga_val x = c->s->extra;

	if (!is_set(x) || hga_val_is(x, HGA_V_EMPTY) || object)
		return 0;
	return hga_fail(c->err, HGA_USAGE, 0, "ParamValidation",
	                "extra: the body of %.*s takes no further parameters",
	                HGA_STRF(hga_aws_op_name(c->s->op)));
}

static int put_body(struct hga_ser_ctx *c, const struct hga_img_shape *in)
{
	uint32_t payload =
	    in == NULL ? HGA_IMG_NONE : hga_aws_sext(c->svc, in)->payload;
	bool members =
	    in != NULL && payload == HGA_IMG_NONE && has_body_members(c, in);
	int rc = check_extra(c, is_json(c) && members);

	if (rc < 0 || in == NULL)
		return rc;
	if (payload != HGA_IMG_NONE)
		return put_payload(c, hga_aws_member(c->svc, in, payload));
	if (!members)
		return 0;
	if (is_json(c)) {
		rc = document_type(c);
		return rc < 0 ? rc : hga_ser_json_object(c, in, true);
	}
	rc = hga_ser_xml_input(c, in);
	if (rc == 0 && c->out->body.len > 0)
		rc = document_type(c);
	return rc;
}

int hga_aws_ser_rest(const struct hga_aws_ser *s, struct hga_aws_request *out,
                     struct hga_err *err)
{
	const struct hga_img_shape *in =
	    hga_aws_shape(s->op.svc, s->op.r->input);
	struct hga_str query;
	struct hga_ser_ctx c;
	uint32_t i;
	int rc;

	hga_ser_ctx_init(&c, s, out, err);
	rc = put_path(&c, in, &query);
	if (rc == 0)
		rc = hga_buf_addstr(&out->query, query, err);
	for (i = 0; rc == 0 && in != NULL && i < in->members.n; i++)
		rc = put_located(&c, in, hga_aws_member(c.svc, in, i));
	if (rc == 0)
		rc = put_body(&c, in);
	hga_ser_ctx_release(&c);
	return rc;
}
