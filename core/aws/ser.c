/*
 * Parameters -> request: choice of the protocol, host prefix, scalars and
 * what the serialisers share.
 */
#include "aws/ser.h"

#include "aws/ser_int.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX (64u * 1024 * 1024)

/* ---- shared context ---- */

void hga_ser_ctx_init(struct hga_ser_ctx *c, const struct hga_aws_ser *s,
                      struct hga_aws_request *out, struct hga_err *err)
{
	memset(c, 0, sizeof(*c));
	c->s = s;
	c->svc = s->op.svc;
	c->out = out;
	c->err = err;
	hga_buf_init(&c->path, 1024 * 1024);
	hga_buf_init(&c->text, s->max_body);
}

void hga_ser_ctx_release(struct hga_ser_ctx *c)
{
	hga_buf_release(&c->path);
	hga_buf_release_secret(&c->text);
}

int hga_ser_enter(struct hga_ser_ctx *c, struct hga_str name)
{
	int rc = 0;

	if (c->path.len > 0)
		rc = hga_buf_addc(&c->path, '.', c->err);
	return rc < 0 ? rc : hga_buf_addstr(&c->path, name, c->err);
}

int hga_ser_enter_at(struct hga_ser_ctx *c, uint32_t i)
{
	return hga_buf_addf(&c->path, c->err, "[%" PRIu32 "]", i);
}

int hga_ser_wrong(struct hga_ser_ctx *c, const char *want)
{
	return hga_fail(c->err, HGA_USAGE, 0, "ParamValidation",
	                "parameter %.*s: expected %s",
	                HGA_STRF(hga_buf_str(&c->path)), want);
}

bool hga_ser_is_map(struct hga_val v)
{
	enum hga_vtype t = hga_val_type(v);

	return t == HGA_V_MAP || t == HGA_V_STRUCT || t == HGA_V_EMPTY;
}

bool hga_ser_is_list(struct hga_val v)
{
	enum hga_vtype t = hga_val_type(v);

	return t == HGA_V_LIST || t == HGA_V_EMPTY;
}

static int new_token(struct hga_ser_ctx *c, struct hga_str *token)
{
	const struct hga_aws_tokens *t = c->s->tokens;
	int rc = t->fn(t->data, c->token, c->err);

	if (rc < 0)
		return rc;
	*token = hga_str(c->token);
	rc = hga_aws_pairs_add(&c->out->tokens, hga_buf_str(&c->path), *token,
	                       c->err);
	return rc < 0 ? rc : 2;
}

int hga_ser_member(struct hga_ser_ctx *c, struct hga_val of,
                   const struct hga_img_member *m, struct hga_val *v,
                   struct hga_str *token)
{
	struct hga_str name = hga_aws_text(c->svc, m->name);
	size_t mark = c->path.len;
	int rc;

	*v = hga_val_getn(of, name);
	if (hga_val_type(*v) != HGA_V_NONE && !hga_val_is(*v, HGA_V_NULL))
		return 1;
	if (!(m->flags & HGA_MF_TOKEN) || c->s->tokens == NULL)
		return 0;
	rc = hga_ser_enter(c, name);
	if (rc == 0)
		rc = new_token(c, token);
	hga_buf_truncate(&c->path, mark);
	return rc;
}

static int by_key(const void *a, const void *b)
{
	const struct hga_ser_entry *x = a, *y = b;

	return hga_str_cmp(x->key, y->key);
}

int hga_ser_entries(struct hga_ser_ctx *c, struct hga_val map,
                    struct hga_ser_entry **out, uint32_t *n)
{
	struct hga_ser_entry *v;
	uint32_t count = 0, all;
	struct hga_vit it;

	*n = 0;
	*out = NULL;
	if (!hga_ser_is_map(map))
		return hga_ser_wrong(c, "table (map)");
	all = hga_val_is(map, HGA_V_EMPTY) ? 0 : hga_val_count(map);
	v = hga_calloc((size_t)all + 1, sizeof(*v));
	if (v == NULL)
		return hga_fail_mem(c->err);
	for (it = hga_val_first(map); count < all && hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_is(hga_vit_val(it), HGA_V_NULL))
			continue;
		v[count].key = hga_vit_name(&it);
		v[count++].v = hga_vit_val(it);
	}
	qsort(v, count, sizeof(*v), by_key);
	*out = v;
	*n = count;
	return 0;
}

/* ---- scalars ---- */

/* Microseconds of a timestamp parameter. */
static bool time_of(struct hga_val v, int64_t *us)
{
	double d;

	switch (hga_val_type(v)) {
	case HGA_V_INT:
		*us = hga_val_int(v, 0);
		if (*us > 253402300799 || *us < -62135596800)
			return false;
		*us *= 1000000;
		return true;
	case HGA_V_NUM:
		d = hga_val_num(v, 0);
		if (!(d > -62135596800.0 && d < 253402300800.0))
			return false;
		*us = llround(d * 1e6);
		return true;
	case HGA_V_STR:
		return hga_time_parse(hga_val_str(v), us);
	case HGA_V_NONE:
	case HGA_V_NULL:
	case HGA_V_BOOL:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		break;
	}
	return false;
}

/* Seconds with the fraction that is there, without trailing zeros. */
static int unix_text(struct hga_buf *out, int64_t us, struct hga_err *err)
{
	int64_t s = us / 1000000, f = us % 1000000;
	bool minus = us < 0;
	int digits = 6;

	if (f == 0)
		return hga_buf_addf(out, err, "%" PRId64, s);
	s = s < 0 ? -s : s;
	f = f < 0 ? -f : f;
	for (; f % 10 == 0; f /= 10)
		digits--;
	return hga_buf_addf(out, err, "%s%" PRId64 ".%0*" PRId64,
	                    minus ? "-" : "", s, digits, f);
}

int hga_aws_ser_time(struct hga_buf *out, struct hga_val v,
                     enum hga_aws_tsformat format, struct hga_err *err)
{
	char text[HGA_TIME_TEXT];
	int64_t us;

	if (!time_of(v, &us))
		return hga_fail(err, HGA_USAGE, 0, "ParamValidation",
		                "not a timestamp");
	if (format == HGA_TS_UNIX)
		return unix_text(out, us, err);
	return hga_buf_adds(out,
	                    hga_time_text(text, us,
	                                  format == HGA_TS_RFC822
	                                      ? HGA_TIME_HTTP
	                                      : HGA_TIME_ISO_AUTO),
	                    err);
}

static int num_text(struct hga_buf *out, double d, struct hga_err *err)
{
	char text[40];
	int p;

	if (isnan(d))
		return hga_buf_adds(out, "NaN", err);
	if (isinf(d))
		return hga_buf_adds(out, d < 0 ? "-Infinity" : "Infinity", err);
	for (p = 1; p <= 17; p++) {
		snprintf(text, sizeof(text), "%.*g", p, d);
		if (strtod(text, NULL) == d)
			break;
	}
	p = hga_buf_adds(out, text, err);
	if (p == 0 && strpbrk(text, ".e") == NULL)
		p = hga_buf_adds(out, ".0", err);
	return p;
}

/* Any scalar as text, for a shape that is no number. */
static int plain_text(struct hga_buf *out, struct hga_val v,
                      struct hga_err *err)
{
	switch (hga_val_type(v)) {
	case HGA_V_STR:
	case HGA_V_BLOB:
		return hga_buf_addstr(out, hga_val_str(v), err);
	case HGA_V_BOOL:
		return hga_buf_adds(
		    out, hga_val_bool(v, false) ? "true" : "false", err);
	case HGA_V_INT:
		return hga_buf_addf(out, err, "%" PRId64, hga_val_int(v, 0));
	case HGA_V_NUM:
		return num_text(out, hga_val_num(v, 0), err);
	case HGA_V_NONE:
	case HGA_V_NULL:
	case HGA_V_SSTR:
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		break;
	}
	return hga_fail(err, HGA_USAGE, 0, "ParamValidation",
	                "a table where a scalar is expected");
}

static bool exact_int(struct hga_val v, int64_t *i)
{
	double d;

	if (!hga_val_is(v, HGA_V_NUM))
		return false;
	d = hga_val_num(v, 0);
	if (!(d >= -9007199254740992.0 && d <= 9007199254740992.0) ||
	    floor(d) != d)
		return false;
	*i = (int64_t)d; /* in range: checked above */
	return true;
}

int hga_aws_ser_scalar(struct hga_buf *out, const struct hga_aws_svc *svc,
                       const struct hga_img_member *ref, struct hga_val v,
                       enum hga_aws_tsformat def, struct hga_err *err)
{
	const struct hga_img_shape *s = hga_aws_shape(svc, ref->shape);
	struct hga_str text;
	int64_t i;

	switch ((enum hga_aws_type)s->type) {
	case HGA_T_BLOB:
		if (!hga_val_is(v, HGA_V_STR) && !hga_val_is(v, HGA_V_BLOB))
			break;
		text = hga_val_str(v);
		return hga_b64_encode(out, text.s, text.n, err);
	case HGA_T_TIME:
		return hga_aws_ser_time(out, v,
		                        ref->ts != HGA_TS_NONE
		                            ? (enum hga_aws_tsformat)ref->ts
		                            : def,
		                        err);
	case HGA_T_INT:
	case HGA_T_LONG:
		if (exact_int(v, &i))
			return hga_buf_addf(out, err, "%" PRId64, i);
		break;
	case HGA_T_STRUCT:
	case HGA_T_LIST:
	case HGA_T_MAP:
	case HGA_T_STRING:
	case HGA_T_FLOAT:
	case HGA_T_DOUBLE:
	case HGA_T_BOOL:
		break;
	}
	return plain_text(out, v, err);
}

bool hga_aws_ser_file(struct hga_val v, struct hga_str *path)
{
	struct hga_val text = hga_val_get(v, HGA_AWS_FILE_KEY);

	if (!hga_val_is(v, HGA_V_MAP) || hga_val_count(v) != 1 ||
	    !hga_val_is(text, HGA_V_STR))
		return false;
	*path = hga_val_str(text);
	return true;
}

/* ---- host prefix ---- */

static bool label_good(struct hga_str t)
{
	size_t i;

	for (i = 0; i < t.n; i++) {
		char c = t.s[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      (c >= '0' && c <= '9') || c == '-' || c == '.'))
			return false;
	}
	return t.n > 0;
}

static int add_label(const struct hga_aws_ser *s, struct hga_str name,
                     struct hga_aws_request *out, struct hga_err *err)
{
	struct hga_str text = hga_val_str(hga_val_getn(s->params, name));

	if (!label_good(text))
		return hga_fail(err, HGA_USAGE, 0, "ParamValidation",
		                "parameter %.*s: must be a host name label "
		                "(letters, digits, '-', '.')",
		                HGA_STRF(name));
	return hga_buf_addstr(&out->host_prefix, text, err);
}

static int host_prefix(const struct hga_aws_ser *s, struct hga_aws_request *out,
                       struct hga_err *err)
{
	struct hga_str t = hga_aws_text(s->op.svc, s->op.r->host_prefix);
	size_t at = 0;
	int rc = 0;

	while (rc == 0 && at < t.n) {
		ptrdiff_t open = hga_str_chr(t, '{', at);
		ptrdiff_t close =
		    open < 0 ? -1 : hga_str_chr(t, '}', (size_t)open);
		size_t end = close < 0 ? t.n : (size_t)open;

		rc = hga_buf_add(&out->host_prefix, t.s + at, end - at, err);
		if (close < 0 || rc < 0)
			break;
		rc = add_label(
		    s, hga_strn(t.s + open + 1, (size_t)(close - open - 1)),
		    out, err);
		at = (size_t)close + 1;
	}
	return rc;
}

/* ---- entry ---- */

static int unsupported(const struct hga_aws_ser *s, struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "Unsupported",
	                "%s: requests of this service's protocol cannot be "
	                "made by this version",
	                hga_aws_cstr(s->op.svc, s->op.svc->r->name));
}

static int fresh(const struct hga_aws_ser *s, struct hga_aws_request *out,
                 struct hga_err *err)
{
	struct hga_str method = hga_aws_text(s->op.svc, s->op.r->method);

	hga_aws_request_release(out);
	hga_aws_request_init(out, s->max_body);
	if (method.n >= sizeof(out->method))
		return hga_fail(err, HGA_BUG, 0, "Model", "method too long");
	memcpy(out->method, method.s, method.n);
	out->method[method.n] = '\0';
	return 0;
}

int hga_aws_serialize(const struct hga_aws_ser *arg,
                      struct hga_aws_request *out, struct hga_err *err)
{
	struct hga_aws_ser own = *arg;
	const struct hga_aws_ser *s = &own;
	struct hga_err spare;
	int rc;

	if (err == NULL)
		err = &spare;
	if (own.max_body == 0)
		own.max_body = BODY_MAX;
	if (hga_val_type(s->params) != HGA_V_NONE && !hga_ser_is_map(s->params))
		return hga_fail(err, HGA_USAGE, 0, "ParamValidation",
		                "parameters: expected table (map)");
	rc = fresh(s, out, err);
	if (rc == 0)
		rc = host_prefix(s, out, err);
	if (rc < 0)
		return rc;
	switch ((enum hga_aws_protocol)s->op.svc->r->protocol) {
	case HGA_AWS_EC2:
	case HGA_AWS_QUERY:
		return hga_aws_ser_query(s, out, err);
	case HGA_AWS_JSON:
		return hga_aws_ser_json(s, out, err);
	case HGA_AWS_REST_JSON:
	case HGA_AWS_REST_XML:
		return hga_aws_ser_rest(s, out, err);
	case HGA_AWS_CBOR:
		break;
	}
	return unsupported(s, err);
}
