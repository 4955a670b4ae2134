/*
 * Status and headers of rest answers -> members (Smithy HTTP bindings).
 */
#include "aws/out_rest.h"

#include "aws/error.h"
#include "aws/out_xml.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

#include <string.h>

#define TEXT_MAX (256u * 1024) /* a head is 64 KiB at most */

bool hga_out_is_rest(const struct hga_aws_svc *svc)
{
	return svc->r->protocol == HGA_AWS_REST_JSON ||
	       svc->r->protocol == HGA_AWS_REST_XML;
}

const struct hga_img_member *hga_out_payload(const struct hga_aws_svc *svc,
                                             const struct hga_img_shape *shape)
{
	uint32_t n;

	if (shape == NULL)
		return NULL;
	n = hga_aws_sext(svc, shape)->payload;
	return n == HGA_IMG_NONE ? NULL : hga_aws_member(svc, shape, n);
}

static bool in_head(const struct hga_img_member *m)
{
	return m->location == HGA_LOC_HEADER ||
	       m->location == HGA_LOC_HEADERS || m->location == HGA_LOC_STATUS;
}

bool hga_out_has_body(const struct hga_aws_svc *svc,
                      const struct hga_img_shape *shape)
{
	uint32_t i;

	for (i = 0; shape != NULL && i < shape->members.n; i++)
		if (!in_head(hga_aws_member(svc, shape, i)))
			return true;
	return false;
}

/* ---- lists ---- */

/* Position after the element of a header list that begins at `at`: a comma
 * outside of quotes, or the end.  commas: how many belong to an element. */
static size_t item_end(struct hga_str t, size_t at, unsigned commas)
{
	bool quoted = false;

	for (; at < t.n; at++) {
		if (quoted && t.s[at] == '\\' && at + 1 < t.n)
			at++;
		else if (t.s[at] == '"')
			quoted = !quoted;
		else if (t.s[at] == ',' && !quoted && commas-- == 0)
			break;
	}
	return at;
}

/* "\"a\\\"b\"" -> a"b; other texts as they are.  NULL .s: no memory. */
static struct hga_str unquoted(struct hga_buf *b, struct hga_str t)
{
	size_t i;

	t = hga_str_trim(t);
	if (t.n < 2 || t.s[0] != '"' || t.s[t.n - 1] != '"')
		return t;
	hga_buf_clear(b);
	for (i = 1; i + 1 < t.n; i++) {
		if (t.s[i] == '\\' && i + 2 < t.n)
			i++;
		if (hga_buf_addc(b, t.s[i], NULL) < 0)
			return hga_strn(NULL, 0);
	}
	return hga_buf_str(b);
}

/* Dates of RFC 822 hold a comma themselves. */
static unsigned inner_commas(const struct hga_aws_svc *svc,
                             const struct hga_img_member *item)
{
	bool date = hga_aws_shape(svc, item->shape)->type == HGA_T_TIME &&
	            (item->ts == HGA_TS_NONE || item->ts == HGA_TS_RFC822);

	return date ? 1 : 0;
}

static int put_list(const struct hga_out_rest_args *a, uint32_t name,
                    const struct hga_img_shape *s, struct hga_str text,
                    struct hga_err *err)
{
	const struct hga_img_member *item = hga_aws_member(a->svc, s, 0);
	unsigned commas = inner_commas(a->svc, item);
	struct hga_buf b;
	size_t at = 0;
	int rc = 0;

	hga_buf_init(&b, TEXT_MAX);
	(void)hga_vt_open(a->tape, HGA_V_LIST, name, HGA_NO_SHAPE); /* sticks */
	while (rc >= 0 && at <= text.n) {
		size_t end = item_end(text, at, commas);
		struct hga_str one =
		    unquoted(&b, hga_strn(text.s + at, end - at));

		if (one.s == NULL && end > at)
			rc = hga_fail_mem(err);
		else
			rc = hga_out_scalar(a->tape, HGA_NO_NAME, a->svc, item,
			                    one, a->raw_time, err);
		at = end + 1;
	}
	(void)hga_vt_close(a->tape); /* sticks */
	hga_buf_release(&b);
	return rc < 0 ? rc : 0;
}

/* ---- members ---- */

/* A document in base64: a table for an object or array, else its text. */
static int put_json(const struct hga_out_rest_args *a, uint32_t name,
                    struct hga_str b64, struct hga_err *err)
{
	struct hga_vtape *t = NULL;
	struct hga_buf text;
	struct hga_val v;
	int rc;

	hga_buf_init(&text, TEXT_MAX);
	rc = hga_b64_decode(&text, b64, err);
	if (rc == 0 &&
	    hga_json_parse(hga_buf_str(&text), 64 * TEXT_MAX, &t, NULL) == 0) {
		v = hga_vtape_root(t);
		if (hga_val_is(v, HGA_V_MAP) || hga_val_is(v, HGA_V_LIST))
			(void)hga_vt_copy(a->tape, name, v); /* sticks */
		else
			(void)hga_vt_str(a->tape, name, hga_buf_str(&text));
	} else if (rc == 0) {
		(void)hga_vt_str(a->tape, name, hga_buf_str(&text));
	}
	hga_vtape_free(t);
	hga_buf_release(&text);
	if (rc == -HGA_PROTOCOL)
		return hga_fail(err, HGA_PROTOCOL, 0, "Garbled",
		                "a header is not base64");
	return rc;
}

/* Lower-case copy of a header name; false: too long. */
static bool lower(char out[256], struct hga_str name)
{
	size_t i;

	if (name.n >= 256)
		return false;
	for (i = 0; i < name.n; i++)
		out[i] = name.s[i] >= 'A' && name.s[i] <= 'Z'
		             ? (char)(name.s[i] + 32)
		             : name.s[i];
	out[i] = '\0';
	return true;
}

static struct hga_str located_name(const struct hga_out_rest_args *a,
                                   const struct hga_img_member *m)
{
	const struct hga_img_mext *x = hga_aws_mext(a->svc, m);

	return hga_aws_text(a->svc, x->loc != HGA_IMG_NONE ? x->loc : m->name);
}

static int put_header(const struct hga_out_rest_args *a,
                      const struct hga_img_member *m, struct hga_err *err)
{
	const struct hga_img_shape *s = hga_aws_shape(a->svc, m->shape);
	struct hga_str text;
	char name[256];
	int rc;

	if (!lower(name, located_name(a, m)))
		return 0;
	text = hga_aws_head_get(a->head, name);
	if (text.s == NULL)
		return 0;
	if (m->flags & HGA_MF_JSONVALUE)
		return put_json(a, m->name, text, err);
	if (s->type == HGA_T_LIST)
		return put_list(a, m->name, s, text, err);
	rc =
	    hga_out_scalar(a->tape, m->name, a->svc, m, text, a->raw_time, err);
	return rc < 0 ? rc : 0;
}

/* All headers whose names begin with the member's prefix, by the rest. */
static void put_prefixed(const struct hga_out_rest_args *a,
                         const struct hga_img_member *m)
{
	const struct hga_img_mext *x = hga_aws_mext(a->svc, m);
	struct hga_str head = a->head;
	size_t at = 0, n;
	char prefix[256];
	bool any = false;

	if (!lower(prefix, hga_aws_text(a->svc, x->loc)))
		return;
	n = strlen(prefix);
	/* failures stick in the tape */
	while (at < head.n) {
		ptrdiff_t nl = hga_str_chr(head, '\n', at);
		size_t end = nl < 0 ? head.n : (size_t)nl;
		struct hga_str line = hga_strn(head.s + at, end - at);
		ptrdiff_t colon = hga_str_chr(line, ':', 0);

		at = end + 1;
		if (colon < 0 || (size_t)colon <= n ||
		    !hga_str_starts(line, prefix))
			continue;
		if (!any)
			(void)hga_vt_open(a->tape, HGA_V_MAP, m->name,
			                  HGA_NO_SHAPE);
		any = true;
		(void)hga_vt_key(a->tape,
		                 hga_strn(line.s + n, (size_t)colon - n));
		(void)hga_vt_str(
		    a->tape, HGA_NO_NAME,
		    hga_str_trim(hga_strn(line.s + colon + 1,
		                          line.n - (size_t)colon - 1)));
	}
	if (any)
		(void)hga_vt_close(a->tape);
}

int hga_out_rest_head(const struct hga_out_rest_args *a, struct hga_err *err)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; rc == 0 && a->shape != NULL && i < a->shape->members.n;
	     i++) {
		const struct hga_img_member *m =
		    hga_aws_member(a->svc, a->shape, i);

		if (m->location == HGA_LOC_STATUS)
			(void)hga_vt_int(a->tape, m->name,
			                 a->status); /* sticks */
		else if (m->location == HGA_LOC_HEADER)
			rc = put_header(a, m, err);
		else if (m->location == HGA_LOC_HEADERS)
			put_prefixed(a, m);
	}
	return rc;
}
