/*
 * Protocols query and ec2: parameters as a form in the body.
 *
 * ec2 differs in names (queryName, capitals: done in the image), in that
 * lists are always flattened, and in that an empty list writes nothing.
 */
#include "aws/ser.h"

#include "aws/ser_int.h"
#include "base/mem.h"

#include <inttypes.h>

#define FORM "application/x-www-form-urlencoded; charset=utf-8"

struct qctx {
	struct hga_ser_ctx c;
	struct hga_buf prefix; /* wire name so far */
	bool ec2;
};

static int put_value(struct qctx *q, const struct hga_img_member *ref,
                     struct hga_val v);

/* NAME=VALUE, both encoded. */
static int put_pair(struct qctx *q, struct hga_str name, struct hga_str value)
{
	struct hga_buf *b = &q->c.out->body;
	int rc = 0;

	if (b->len > 0)
		rc = hga_buf_addc(b, '&', q->c.err);
	if (rc == 0)
		rc = hga_pct_encode(b, name, "", q->c.err);
	if (rc == 0)
		rc = hga_buf_addc(b, '=', q->c.err);
	if (rc == 0)
		rc = hga_pct_encode(b, value, "", q->c.err);
	return rc;
}

/* Extends the wire name: ".NAME" (or "NAME" at the start). */
static int extend(struct qctx *q, struct hga_str name)
{
	int rc = 0;

	if (q->prefix.len > 0)
		rc = hga_buf_addc(&q->prefix, '.', q->c.err);
	return rc < 0 ? rc : hga_buf_addstr(&q->prefix, name, q->c.err);
}

static int extend_n(struct qctx *q, uint32_t n)
{
	return hga_buf_addf(&q->prefix, q->c.err, ".%" PRIu32, n);
}

static int put_struct(struct qctx *q, const struct hga_img_shape *s,
                      struct hga_val v)
{
	size_t wire = q->prefix.len, path = q->c.path.len;
	uint32_t i;
	int rc = 0;

	if (hga_val_type(v) != HGA_V_NONE && !hga_ser_is_map(v))
		return hga_ser_wrong(&q->c, "table (map)");
	for (i = 0; rc >= 0 && i < s->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(q->c.svc, s, i);
		struct hga_str token;
		struct hga_val x;
		int what = hga_ser_member(&q->c, v, m, &x, &token);

		if (what <= 0) {
			rc = what;
			continue;
		}
		rc = extend(q, hga_aws_text(q->c.svc, m->sent));
		if (rc == 0)
			rc = hga_ser_enter(&q->c,
			                   hga_aws_text(q->c.svc, m->name));
		if (rc == 0 && what == 2)
			rc = put_pair(q, hga_buf_str(&q->prefix), token);
		else if (rc == 0)
			rc = put_value(q, m, x);
		hga_buf_truncate(&q->prefix, wire);
		hga_buf_truncate(&q->c.path, path);
	}
	return rc;
}

static int put_list(struct qctx *q, const struct hga_img_member *ref,
                    const struct hga_img_shape *s, struct hga_val v)
{
	const struct hga_img_member *item = hga_aws_member(q->c.svc, s, 0);
	size_t wire = q->prefix.len, path = q->c.path.len, base;
	struct hga_vit it;
	uint32_t n = 0;
	int rc = 0;

	if (!hga_ser_is_list(v))
		return hga_ser_wrong(&q->c, "table (list)");
	if (hga_val_is(v, HGA_V_EMPTY) || hga_val_count(v) == 0)
		return q->ec2
		           ? 0
		           : put_pair(q, hga_buf_str(&q->prefix), HGA_STR(""));
	if (!q->ec2 && !(ref->flags & HGA_MF_FLAT))
		rc = extend(q, hga_aws_text(q->c.svc, item->sent));
	base = q->prefix.len;
	for (it = hga_val_first(v); rc == 0 && hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_is(hga_vit_val(it), HGA_V_NULL))
			continue;
		rc = extend_n(q, ++n);
		if (rc == 0)
			rc = hga_ser_enter_at(&q->c, n);
		if (rc == 0)
			rc = put_value(q, item, hga_vit_val(it));
		hga_buf_truncate(&q->prefix, base);
		hga_buf_truncate(&q->c.path, path);
	}
	hga_buf_truncate(&q->prefix, wire);
	return rc;
}

static int put_entry(struct qctx *q, const struct hga_img_shape *s,
                     const struct hga_ser_entry *e)
{
	const struct hga_img_member *key = hga_aws_member(q->c.svc, s, 0);
	const struct hga_img_member *value = hga_aws_member(q->c.svc, s, 1);
	size_t base = q->prefix.len;
	int rc = extend(q, hga_aws_text(q->c.svc, key->sent));

	if (rc == 0)
		rc = put_pair(q, hga_buf_str(&q->prefix), e->key);
	hga_buf_truncate(&q->prefix, base);
	if (rc == 0)
		rc = extend(q, hga_aws_text(q->c.svc, value->sent));
	if (rc == 0)
		rc = hga_ser_enter(&q->c, e->key);
	return rc < 0 ? rc : put_value(q, value, e->v);
}

static int put_map(struct qctx *q, const struct hga_img_member *ref,
                   const struct hga_img_shape *s, struct hga_val v)
{
	size_t wire = q->prefix.len, path = q->c.path.len, base;
	struct hga_ser_entry *e;
	uint32_t i, n;
	int rc = hga_ser_entries(&q->c, v, &e, &n);

	if (rc == 0 && !(ref->flags & HGA_MF_FLAT))
		rc = extend(q, HGA_STR("entry"));
	base = q->prefix.len;
	for (i = 0; rc == 0 && i < n; i++) {
		rc = extend_n(q, i + 1);
		if (rc == 0)
			rc = put_entry(q, s, &e[i]);
		hga_buf_truncate(&q->prefix, base);
		hga_buf_truncate(&q->c.path, path);
	}
	hga_buf_truncate(&q->prefix, wire);
	hga_free(e);
	return rc;
}

static int put_scalar(struct qctx *q, const struct hga_img_member *ref,
                      struct hga_val v)
{
	int rc;

	hga_buf_clear(&q->c.text);
	rc = hga_aws_ser_scalar(&q->c.text, q->c.svc, ref, v, HGA_TS_ISO,
	                        q->c.err);
	if (rc < 0) {
		if (rc == -HGA_USAGE)
			hga_err_prefix(q->c.err, "parameter %.*s",
			               HGA_STRF(hga_buf_str(&q->c.path)));
		return rc;
	}
	return put_pair(q, hga_buf_str(&q->prefix), hga_buf_str(&q->c.text));
}

/* Recursion follows the value, whose depth a tape limits. */
static int put_value(struct qctx *q, const struct hga_img_member *ref,
                     struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(q->c.svc, ref->shape);

	switch ((enum hga_aws_type)s->type) {
	case HGA_T_STRUCT:
		return put_struct(q, s, v);
	case HGA_T_LIST:
		return put_list(q, ref, s, v);
	case HGA_T_MAP:
		return put_map(q, ref, s, v);
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
	return put_scalar(q, ref, v);
}

static int put_extra(struct qctx *q, struct hga_val extra)
{
	struct hga_vit it;
	int rc = 0;

	if (hga_val_type(extra) == HGA_V_NONE || hga_val_is(extra, HGA_V_EMPTY))
		return 0;
	if (!hga_ser_is_map(extra))
		return hga_fail(q->c.err, HGA_USAGE, 0, "ParamValidation",
		                "extra: expected table (map)");
	for (it = hga_val_first(extra); rc == 0 && hga_val_more(it);
	     it = hga_val_next(it)) {
		if (!hga_val_is(hga_vit_val(it), HGA_V_STR))
			return hga_fail(q->c.err, HGA_USAGE, 0,
			                "ParamValidation",
			                "extra.%.*s: expected string",
			                HGA_STRF(hga_vit_name(&it)));
		rc = put_pair(q, hga_vit_name(&it),
		              hga_val_str(hga_vit_val(it)));
	}
	return rc;
}

static int put_all(struct qctx *q)
{
	const struct hga_aws_ser *s = q->c.s;
	const struct hga_aws_svc *svc = q->c.svc;
	const struct hga_img_shape *in = hga_aws_shape(svc, s->op.r->input);
	int rc;

	rc = put_pair(q, HGA_STR("Action"), hga_aws_op_name(s->op));
	if (rc == 0)
		rc = put_pair(q, HGA_STR("Version"),
		              hga_aws_text(svc, svc->r->version));
	if (rc == 0 && in != NULL)
		rc = put_struct(q, in, s->params);
	return rc < 0 ? rc : put_extra(q, s->extra);
}

int hga_aws_ser_query(const struct hga_aws_ser *s, struct hga_aws_request *out,
                      struct hga_err *err)
{
	struct qctx q = {.ec2 = s->op.svc->r->protocol == HGA_AWS_EC2};
	int rc;

	hga_ser_ctx_init(&q.c, s, out, err);
	hga_buf_init(&q.prefix, 1024 * 1024);
	rc = hga_buf_addc(&out->path, '/', err);
	if (rc == 0)
		rc = hga_aws_pairs_set(&out->headers, HGA_STR("Content-Type"),
		                       HGA_STR(FORM), err);
	if (rc == 0)
		rc = put_all(&q);
	out->has_body = true;
	hga_buf_release(&q.prefix);
	hga_ser_ctx_release(&q.c);
	return rc;
}
