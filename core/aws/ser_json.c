/*
 * Protocol json (1.0 and 1.1): parameters as one JSON object in the body,
 * the operation in a header.  Also the JSON bodies of rest-json.
 */
#include "aws/ser.h"

#include "aws/ser_int.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>

struct jctx {
	struct hga_ser_ctx *c;
	struct hga_jw w;
};

static int put_value(struct jctx *j, const struct hga_img_member *ref,
                     struct hga_val v);

/*
 * The members of a structure; the object is open.  body: only those that the
 * rest protocols send in the body.
 */
static int put_members(struct jctx *j, const struct hga_img_shape *s,
                       struct hga_val v, bool body)
{
	size_t path = j->c->path.len;
	uint32_t i;
	int rc = 0;

	for (i = 0; rc >= 0 && i < s->members.n; i++) {
		const struct hga_img_member *m =
		    hga_aws_member(j->c->svc, s, i);
		struct hga_str token;
		struct hga_val x;
		int what;

		if (body && m->location != HGA_LOC_BODY)
			continue;
		what = hga_ser_member(j->c, v, m, &x, &token);
		if (what <= 0) {
			rc = what;
			continue;
		}
		hga_jw_key(&j->w, hga_aws_text(j->c->svc, m->sent));
		if (what == 2) {
			hga_jw_str(&j->w, token);
			rc = 0;
			continue;
		}
		rc = hga_ser_enter(j->c, hga_aws_text(j->c->svc, m->name));
		if (rc == 0)
			rc = put_value(j, m, x);
		hga_buf_truncate(&j->c->path, path);
	}
	return rc;
}

static int put_struct(struct jctx *j, const struct hga_img_shape *s,
                      struct hga_val v)
{
	int rc;

	if (s->flags & HGA_SF_DOCUMENT) {
		hga_jw_val(&j->w, v, true);
		return 0;
	}
	if (!hga_ser_is_map(v))
		return hga_ser_wrong(j->c, "table (map)");
	hga_jw_object(&j->w);
	rc = put_members(j, s, v, false);
	hga_jw_close(&j->w);
	return rc;
}

static int put_list(struct jctx *j, const struct hga_img_shape *s,
                    struct hga_val v)
{
	const struct hga_img_member *item = hga_aws_member(j->c->svc, s, 0);
	size_t path = j->c->path.len;
	struct hga_vit it;
	uint32_t n = 0;
	int rc = 0;

	if (!hga_ser_is_list(v))
		return hga_ser_wrong(j->c, "table (list)");
	hga_jw_array(&j->w);
	if (!hga_val_is(v, HGA_V_EMPTY)) {
		for (it = hga_val_first(v); rc == 0 && hga_val_more(it);
		     it = hga_val_next(it)) {
			rc = hga_ser_enter_at(j->c, ++n);
			if (rc == 0)
				rc = put_value(j, item, hga_vit_val(it));
			hga_buf_truncate(&j->c->path, path);
		}
	}
	hga_jw_close(&j->w);
	return rc;
}

static int put_map(struct jctx *j, const struct hga_img_shape *s,
                   struct hga_val v)
{
	const struct hga_img_member *value = hga_aws_member(j->c->svc, s, 1);
	size_t path = j->c->path.len;
	struct hga_ser_entry *e;
	uint32_t i, n;
	int rc = hga_ser_entries(j->c, v, &e, &n);

	if (rc < 0)
		return rc;
	hga_jw_object(&j->w);
	for (i = 0; rc == 0 && i < n; i++) {
		hga_jw_key(&j->w, e[i].key);
		rc = hga_ser_enter(j->c, e[i].key);
		if (rc == 0)
			rc = put_value(j, value, e[i].v);
		hga_buf_truncate(&j->c->path, path);
	}
	hga_jw_close(&j->w);
	hga_free(e);
	return rc;
}

static int scalar_text(struct jctx *j, const struct hga_img_member *ref,
                       struct hga_val v)
{
	int rc;

	hga_buf_clear(&j->c->text);
	rc = hga_aws_ser_scalar(&j->c->text, j->c->svc, ref, v, HGA_TS_UNIX,
	                        j->c->err);
	if (rc == -HGA_USAGE)
		hga_err_prefix(j->c->err, "parameter %.*s",
		               HGA_STRF(hga_buf_str(&j->c->path)));
	return rc;
}

/* A timestamp or number is JSON's number, all else a string. */
static int put_scalar(struct jctx *j, const struct hga_img_member *ref,
                      const struct hga_img_shape *s, struct hga_val v)
{
	bool number = hga_val_is(v, HGA_V_INT) ||
	              (hga_val_is(v, HGA_V_NUM) && isfinite(hga_val_num(v, 0)));
	int rc;

	if (hga_val_is(v, HGA_V_BOOL) && s->type != HGA_T_TIME) {
		hga_jw_bool(&j->w, hga_val_bool(v, false));
		return 0;
	}
	rc = scalar_text(j, ref, v);
	if (rc < 0)
		return rc;
	if (s->type == HGA_T_TIME)
		number = ref->ts == HGA_TS_NONE || ref->ts == HGA_TS_UNIX;
	else if (s->type == HGA_T_STRING || s->type == HGA_T_BLOB)
		number = false;
	if (number)
		hga_jw_raw(&j->w, hga_buf_str(&j->c->text));
	else
		hga_jw_str(&j->w, hga_buf_str(&j->c->text));
	return 0;
}

/* Recursion follows the value, whose depth a tape limits. */
static int put_value(struct jctx *j, const struct hga_img_member *ref,
                     struct hga_val v)
{
	const struct hga_img_shape *s = hga_aws_shape(j->c->svc, ref->shape);

	if (hga_val_is(v, HGA_V_NULL)) {
		hga_jw_null(&j->w);
		return 0;
	}
	switch ((enum hga_aws_type)s->type) {
	case HGA_T_STRUCT:
		return put_struct(j, s, v);
	case HGA_T_LIST:
		return put_list(j, s, v);
	case HGA_T_MAP:
		return put_map(j, s, v);
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
	return put_scalar(j, ref, s, v);
}

static void put_extra(struct jctx *j, struct hga_val extra)
{
	struct hga_vit it;

	if (!hga_ser_is_map(extra) || hga_val_is(extra, HGA_V_EMPTY))
		return;
	for (it = hga_val_first(extra); hga_val_more(it);
	     it = hga_val_next(it)) {
		hga_jw_key(&j->w, hga_vit_name(&it));
		hga_jw_val(&j->w, hga_vit_val(it), true);
	}
}

static int put_headers(struct hga_ser_ctx *c)
{
	const struct hga_img_svc *r = c->svc->r;
	struct hga_aws_pairs *h = &c->out->headers;
	struct hga_str ver = hga_aws_text(c->svc, r->jsonver);
	struct hga_str target = hga_aws_text(c->svc, r->target);
	int rc;

	hga_buf_clear(&c->text);
	rc = hga_buf_addf(&c->text, c->err, "application/x-amz-json-%.*s",
	                  HGA_STRF(ver.n > 0 ? ver : HGA_STR("1.0")));
	if (rc == 0)
		rc = hga_aws_pairs_set(h, HGA_STR("Content-Type"),
		                       hga_buf_str(&c->text), c->err);
	hga_buf_clear(&c->text);
	if (rc == 0)
		rc = hga_buf_addf(&c->text, c->err, "%.*s.%.*s",
		                  HGA_STRF(target),
		                  HGA_STRF(hga_aws_op_name(c->s->op)));
	if (rc == 0)
		rc = hga_aws_pairs_set(h, HGA_STR("X-Amz-Target"),
		                       hga_buf_str(&c->text), c->err);
	if (rc == 0 && (r->flags & HGA_VF_QUERY_COMPAT))
		rc = hga_aws_pairs_set(h, HGA_STR("x-amzn-query-mode"),
		                       HGA_STR("true"), c->err);
	return rc;
}

int hga_ser_json_object(struct hga_ser_ctx *c, const struct hga_img_shape *s,
                        bool body)
{
	struct jctx j = {.c = c};
	int rc = 0;

	hga_jw_init(&j.w, &c->out->body, 0);
	hga_jw_object(&j.w);
	if (s != NULL)
		rc = put_members(&j, s, c->s->params, body);
	if (rc < 0)
		return rc;
	put_extra(&j, c->s->extra);
	hga_jw_close(&j.w);
	return hga_jw_end(&j.w, c->err);
}

int hga_ser_json_value(struct hga_ser_ctx *c, const struct hga_img_member *ref,
                       struct hga_val v)
{
	struct jctx j = {.c = c};
	int rc;

	hga_jw_init(&j.w, &c->out->body, 0);
	rc = put_value(&j, ref, v);
	return rc < 0 ? rc : hga_jw_end(&j.w, c->err);
}

int hga_aws_ser_json(const struct hga_aws_ser *s, struct hga_aws_request *out,
                     struct hga_err *err)
{
	struct hga_ser_ctx c;
	int rc;

	hga_ser_ctx_init(&c, s, out, err);
	rc = hga_buf_addc(&out->path, '/', err);
	if (rc == 0)
		rc = put_headers(&c);
	if (rc == 0)
		rc = hga_ser_json_object(
		    &c, hga_aws_shape(c.svc, s->op.r->input), false);
	out->has_body = true;
	hga_ser_ctx_release(&c);
	return rc;
}
