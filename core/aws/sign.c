/*
 * AWS Signature Version 4 ("Create a signed AWS API request" in the IAM
 * user guide): canonical request, string to sign, signature; header form and
 * query form.
 */
#include "aws/sign.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define TEXT_MAX (64u * 1024 * 1024)

/* ---- path ---- */

/* Without dot segments and empty segments; appended to out. */
static int normalize(struct hga_buf *out, struct hga_str path,
                     struct hga_err *err)
{
	size_t start = out->len, at = 0;
	bool slash = path.n == 0 || path.s[path.n - 1] == '/';
	int rc = 0;

	while (rc == 0 && at < path.n) {
		ptrdiff_t next = hga_str_chr(path, '/', at);
		size_t end = next < 0 ? path.n : (size_t)next;
		struct hga_str seg = hga_strn(path.s + at, end - at);

		at = end + 1;
		if (seg.n == 0 || hga_str_eqc(seg, "."))
			continue;
		if (hga_str_eqc(seg, "..")) {
			while (out->len > start &&
			       out->data[out->len - 1] != '/')
				hga_buf_truncate(out, out->len - 1);
			if (out->len > start)
				hga_buf_truncate(out, out->len - 1);
			continue;
		}
		rc = hga_buf_addc(out, '/', err);
		if (rc == 0)
			rc = hga_buf_addstr(out, seg, err);
	}
	/* a final dot segment names a directory too */
	if (hga_str_ends(path, "/.") || hga_str_ends(path, "/.."))
		slash = true;
	if (rc == 0 && (slash || out->len == start))
		rc = hga_buf_addc(out, '/', err);
	return rc;
}

static int put_path(struct hga_buf *out, const struct hga_sign_request *r,
                    struct hga_err *err)
{
	struct hga_str path = r->path.n > 0 ? r->path : HGA_STR("/");
	struct hga_buf tmp;
	int rc;

	if (r->raw_path)
		return hga_buf_addstr(out, path, err);
	if (r->keep_path)
		return hga_pct_encode(out, path, "/", err);
	hga_buf_init(&tmp, TEXT_MAX);
	rc = normalize(&tmp, path, err);
	if (rc == 0)
		rc = hga_pct_encode(out, hga_buf_str(&tmp), "/", err);
	hga_buf_release(&tmp);
	return rc;
}

/* ---- query ---- */

/* Parameters decoded and encoded anew: offsets into one buffer. */
struct qparam {
	struct hga_str name, value;
};

static int qparam_cmp(const void *a, const void *b)
{
	const struct qparam *x = a, *y = b;
	int c = hga_str_cmp(x->name, y->name);

	return c != 0 ? c : hga_str_cmp(x->value, y->value);
}

static size_t count_params(struct hga_str query)
{
	size_t i, n = 1;

	for (i = 0; i < query.n; i++)
		n += query.s[i] == '&';
	return n;
}

/* Encoded form of one raw part, at the end of buf. */
static int recode(struct hga_buf *buf, struct hga_str raw, struct hga_err *err)
{
	struct hga_buf plain;
	int rc;

	hga_buf_init(&plain, TEXT_MAX);
	rc = hga_pct_decode(&plain, raw, false, err);
	if (rc == 0)
		rc = hga_pct_encode(buf, hga_buf_str(&plain), "", err);
	hga_buf_release_secret(&plain);
	return rc;
}

/* Splits into v; names and values are lengths first, views afterwards. */
static int split_query(struct hga_str query, bool drop_signature,
                       struct qparam *v, size_t *n, struct hga_buf *buf,
                       struct hga_err *err)
{
	size_t at = 0, i, pos = 0;
	int rc = 0;

	*n = 0;
	while (rc == 0 && at < query.n) {
		ptrdiff_t amp = hga_str_chr(query, '&', at);
		size_t end = amp < 0 ? query.n : (size_t)amp, mark = buf->len;
		struct hga_str p = hga_strn(query.s + at, end - at);
		ptrdiff_t eq = hga_str_chr(p, '=', 0);
		size_t cut = eq < 0 ? p.n : (size_t)eq;

		at = end + 1;
		if (p.n == 0 ||
		    (drop_signature &&
		     hga_str_eqc(hga_strn(p.s, cut), "X-Amz-Signature")))
			continue;
		rc = recode(buf, hga_strn(p.s, cut), err);
		v[*n].name.n = buf->len - mark;
		mark = buf->len;
		if (rc == 0 && eq >= 0)
			rc = recode(buf, hga_strn(p.s + cut + 1, p.n - cut - 1),
			            err);
		v[(*n)++].value.n = buf->len - mark;
	}
	for (i = 0; i < *n; i++) {
		v[i].name.s = hga_buf_text(buf) + pos;
		pos += v[i].name.n;
		v[i].value.s = hga_buf_text(buf) + pos;
		pos += v[i].value.n;
	}
	return rc;
}

static int put_query(struct hga_buf *out, const struct hga_sign_request *r,
                     struct hga_err *err)
{
	struct qparam *v;
	struct hga_buf buf;
	size_t i, n = 0;
	int rc;

	if (r->query.n == 0)
		return 0;
	v = hga_calloc(count_params(r->query), sizeof(*v));
	if (v == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&buf, TEXT_MAX);
	rc = split_query(r->query, r->drop_signature, v, &n, &buf, err);
	if (rc == 0 && n > 1)
		qsort(v, n, sizeof(*v), qparam_cmp);
	for (i = 0; rc == 0 && i < n; i++) {
		if (i > 0)
			rc = hga_buf_addc(out, '&', err);
		if (rc == 0)
			rc = hga_buf_addstr(out, v[i].name, err);
		if (rc == 0)
			rc = hga_buf_addc(out, '=', err);
		if (rc == 0)
			rc = hga_buf_addstr(out, v[i].value, err);
	}
	hga_buf_release_secret(&buf);
	hga_free(v);
	return rc;
}

/* ---- headers ---- */

static bool never_signed(struct hga_str name)
{
	static const char *const v[] = {"connection",
	                                "expect",
	                                "keep-alive",
	                                "proxy-authenticate",
	                                "proxy-authorization",
	                                "te",
	                                "trailer",
	                                "transfer-encoding",
	                                "upgrade",
	                                "user-agent",
	                                "x-amzn-trace-id",
	                                "authorization",
	                                NULL};
	size_t i;

	for (i = 0; v[i] != NULL; i++)
		if (hga_str_ieqc(name, v[i]))
			return true;
	return false;
}

/* name as an element of "a;b;c" */
static bool in_list(struct hga_str list, struct hga_str name)
{
	size_t at = 0;

	while (at < list.n) {
		ptrdiff_t semi = hga_str_chr(list, ';', at);
		size_t end = semi < 0 ? list.n : (size_t)semi;

		if (hga_str_ieq(hga_strn(list.s + at, end - at), name))
			return true;
		at = end + 1;
	}
	return false;
}

static int fold_cmp(struct hga_str a, struct hga_str b)
{
	size_t i;

	for (i = 0; i < a.n && i < b.n; i++) {
		int x = (unsigned char)a.s[i], y = (unsigned char)b.s[i];

		x = x >= 'A' && x <= 'Z' ? x + 32 : x;
		y = y >= 'A' && y <= 'Z' ? y + 32 : y;
		if (x != y)
			return x - y;
	}
	return a.n == b.n ? 0 : a.n < b.n ? -1 : 1;
}

struct href {
	const struct hga_sign_header *h;
	size_t at; /* order of arrival */
};

static int href_cmp(const void *a, const void *b)
{
	const struct href *x = a, *y = b;
	int c = fold_cmp(x->h->name, y->h->name);

	return c != 0 ? c : x->at < y->at ? -1 : 1;
}

static int put_lower(struct hga_buf *out, struct hga_str name,
                     struct hga_err *err)
{
	size_t at = out->len, i;
	int rc = hga_buf_addstr(out, name, err);

	for (i = at; rc == 0 && i < out->len; i++)
		if (out->data[i] >= 'A' && out->data[i] <= 'Z')
			out->data[i] = (char)(out->data[i] + 32);
	return rc;
}

/* Trimmed, each run of blanks (and folds) as one space. */
static int put_value(struct hga_buf *out, struct hga_str value,
                     struct hga_err *err)
{
	bool gap = false;
	size_t i;
	int rc;

	value = hga_str_trim(value);
	rc = hga_buf_reserve(out, value.n + 1, err);
	for (i = 0; rc == 0 && i < value.n; i++) {
		char c = value.s[i];
		bool blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';

		if (!blank)
			rc = hga_buf_addc(out, c, err);
		else if (!gap)
			rc = hga_buf_addc(out, ' ', err);
		gap = blank;
	}
	return rc;
}

static size_t choose(const struct hga_sign_request *r, struct href *v)
{
	size_t i, n = 0;

	for (i = 0; i < r->n_headers; i++) {
		const struct hga_sign_header *h = &r->headers[i];

		if (r->signed_headers.n > 0
		        ? !in_list(r->signed_headers, h->name)
		        : never_signed(h->name))
			continue;
		v[n].h = h;
		v[n++].at = i;
	}
	if (n > 1)
		qsort(v, n, sizeof(*v), href_cmp);
	return n;
}

static int put_headers(struct hga_buf *out, struct hga_buf *list,
                       const struct href *v, size_t n, struct hga_err *err)
{
	size_t i;
	int rc = 0;

	for (i = 0; rc == 0 && i < n; i++) {
		bool again =
		    i > 0 && fold_cmp(v[i - 1].h->name, v[i].h->name) == 0;

		if (again) {
			rc = hga_buf_addc(out, ',', err);
		} else {
			if (i > 0)
				rc = hga_buf_addc(out, '\n', err);
			if (rc == 0 && list->len > 0)
				rc = hga_buf_addc(list, ';', err);
			if (rc == 0)
				rc = put_lower(list, v[i].h->name, err);
			if (rc == 0)
				rc = put_lower(out, v[i].h->name, err);
			if (rc == 0)
				rc = hga_buf_addc(out, ':', err);
		}
		if (rc == 0)
			rc = put_value(out, v[i].h->value, err);
	}
	if (rc == 0 && n > 0)
		rc = hga_buf_addc(out, '\n', err);
	return rc;
}

static int put_all_headers(struct hga_buf *out, struct hga_buf *signed_list,
                           const struct hga_sign_request *r,
                           struct hga_err *err)
{
	struct href *v = hga_calloc(r->n_headers + 1, sizeof(*v));
	struct hga_buf list;
	int rc;

	if (v == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&list, TEXT_MAX);
	rc = put_headers(out, &list, v, choose(r, v), err);
	if (rc == 0)
		rc = hga_buf_addc(out, '\n', err);
	if (rc == 0)
		rc = hga_buf_addstr(out, hga_buf_str(&list), err);
	if (rc == 0 && signed_list != NULL)
		rc = hga_buf_addstr(signed_list, hga_buf_str(&list), err);
	hga_buf_release(&list);
	hga_free(v);
	return rc;
}

int hga_sign_canonical(struct hga_buf *out, struct hga_buf *signed_list,
                       const struct hga_sign_request *r, struct hga_err *err)
{
	int rc = hga_buf_addstr(out, r->method, err);

	if (rc == 0)
		rc = hga_buf_addc(out, '\n', err);
	if (rc == 0)
		rc = put_path(out, r, err);
	if (rc == 0)
		rc = hga_buf_addc(out, '\n', err);
	if (rc == 0)
		rc = put_query(out, r, err);
	if (rc == 0)
		rc = hga_buf_addc(out, '\n', err);
	if (rc == 0)
		rc = put_all_headers(out, signed_list, r, err);
	if (rc == 0)
		rc = hga_buf_addc(out, '\n', err);
	return rc < 0 ? rc : hga_buf_addstr(out, r->payload_hash, err);
}

/* ---- string to sign, signature ---- */

static struct hga_str day_of(struct hga_str date)
{
	return hga_strn(date.s, date.n < 8 ? date.n : 8);
}

static int put_scope(struct hga_buf *out, struct hga_str date,
                     struct hga_str region, struct hga_str service,
                     struct hga_err *err)
{
	return hga_buf_addf(out, err, "%.*s/%.*s/%.*s/aws4_request",
	                    HGA_STRF(day_of(date)), HGA_STRF(region),
	                    HGA_STRF(service));
}

int hga_sign_string(struct hga_buf *out, struct hga_str date,
                    struct hga_str region, struct hga_str service,
                    struct hga_str canonical, struct hga_err *err)
{
	char hex[2 * HGA_SHA256_LEN + 1];
	int rc;

	rc = hga_hash_hex(HGA_SHA256, canonical.s, canonical.n, hex, err);
	if (rc == 0)
		rc = hga_buf_addf(out, err, ALGORITHM "\n%.*s\n",
		                  HGA_STRF(date));
	if (rc == 0)
		rc = put_scope(out, date, region, service, err);
	return rc < 0 ? rc : hga_buf_addf(out, err, "\n%s", hex);
}

static int derive(uint8_t key[32], struct hga_str secret, struct hga_str date,
                  struct hga_str region, struct hga_str service,
                  struct hga_err *err)
{
	struct hga_str k;
	struct hga_buf first;
	int rc;

	hga_buf_init(&first, secret.n + 8);
	rc = hga_buf_adds(&first, "AWS4", err);
	if (rc == 0)
		rc = hga_buf_addstr(&first, secret, err);
	if (rc == 0)
		rc = hga_hmac_sha256(hga_buf_str(&first), day_of(date), key,
		                     err);
	hga_buf_release_secret(&first);
	k = hga_strn((const char *)key, 32);
	if (rc == 0)
		rc = hga_hmac_sha256(k, region, key, err);
	if (rc == 0)
		rc = hga_hmac_sha256(k, service, key, err);
	if (rc == 0)
		rc = hga_hmac_sha256(k, HGA_STR("aws4_request"), key, err);
	return rc;
}

/* Digest of everything the derived key depends on. */
static int key_id(char id[32], struct hga_str secret, struct hga_str date,
                  struct hga_str region, struct hga_str service,
                  struct hga_err *err)
{
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, TEXT_MAX);
	rc = hga_buf_addf(&b, err, "%.*s/%.*s/%.*s/", HGA_STRF(day_of(date)),
	                  HGA_STRF(region), HGA_STRF(service));
	if (rc == 0)
		rc = hga_buf_addstr(&b, secret, err);
	if (rc == 0)
		rc = hga_hash(HGA_SHA256, b.data, b.len, (uint8_t *)id, err);
	hga_buf_release_secret(&b);
	return rc;
}

/* The entry of that id, or the one to fill (oldest, wiped). */
static struct hga_sign_key *cache_entry(struct hga_sign_cache *c,
                                        const char id[32], bool *hit)
{
	struct hga_sign_key *old = &c->v[0];
	size_t i;

	*hit = false;
	for (i = 0; i < sizeof(c->v) / sizeof(c->v[0]); i++) {
		struct hga_sign_key *k = &c->v[i];

		if (k->used != 0 && memcmp(k->id, id, sizeof(k->id)) == 0) {
			k->used = ++c->clock;
			*hit = true;
			return k;
		}
		if (k->used < old->used)
			old = k;
	}
	hga_wipe(old, sizeof(*old));
	return old;
}

static int signing_key(uint8_t key[32], struct hga_str secret,
                       struct hga_str date, struct hga_str region,
                       struct hga_str service, struct hga_sign_cache *cache,
                       struct hga_err *err)
{
	struct hga_sign_key *e;
	char id[32];
	bool hit;
	int rc;

	if (cache == NULL)
		return derive(key, secret, date, region, service, err);
	rc = key_id(id, secret, date, region, service, err);
	if (rc < 0)
		return rc;
	e = cache_entry(cache, id, &hit);
	if (!hit) {
		rc = derive(e->key, secret, date, region, service, err);
		if (rc < 0)
			return rc;
		memcpy(e->id, id, sizeof(e->id));
		e->used = ++cache->clock;
	}
	memcpy(key, e->key, 32);
	return 0;
}

int hga_sign_signature(char out[65], struct hga_str secret, struct hga_str date,
                       struct hga_str region, struct hga_str service,
                       struct hga_str to_sign, struct hga_sign_cache *cache,
                       struct hga_err *err)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t key[32], sum[32] = {0};
	size_t i;
	int rc;

	rc = signing_key(key, secret, date, region, service, cache, err);
	if (rc == 0)
		rc = hga_hmac_sha256(hga_strn((const char *)key, 32), to_sign,
		                     sum, err);
	hga_wipe(key, sizeof(key));
	if (rc < 0)
		return rc;
	for (i = 0; i < 32; i++) {
		out[2 * i] = digits[sum[i] >> 4];
		out[2 * i + 1] = digits[sum[i] & 15];
	}
	out[64] = '\0';
	return 0;
}

void hga_sign_cache_release(struct hga_sign_cache *c)
{
	hga_wipe(c, sizeof(*c));
}

void hga_sign_trace_release(struct hga_sign_trace *t)
{
	hga_buf_release(&t->canonical);
	hga_buf_release(&t->to_sign);
}

/* ---- requests ---- */

struct job {
	struct hga_aws_request *r;
	const struct hga_sign_args *a;
	struct hga_sign_cache *cache;
	struct hga_sign_trace own, *trace;
	struct hga_buf signed_list;
	char date[HGA_TIME_TEXT];
	char payload[2 * HGA_SHA256_LEN + 1];
	struct hga_err *err;
};

static int payload_hash(struct job *j)
{
	const char *given =
	    hga_aws_pairs_get(&j->r->headers, "x-amz-content-sha256");

	if (j->a->unsigned_payload) {
		snprintf(j->payload, sizeof(j->payload), "UNSIGNED-PAYLOAD");
		return 0;
	}
	if (!j->a->content_sha256 && given != NULL &&
	    strlen(given) < sizeof(j->payload)) {
		memcpy(j->payload, given, strlen(given) + 1);
		return 0;
	}
	if (j->r->payload_hash[0] != '\0') {
		memcpy(j->payload, j->r->payload_hash, sizeof(j->payload));
		return 0;
	}
	return hga_hash_hex(HGA_SHA256, hga_buf_text(&j->r->body),
	                    j->r->body.len, j->payload, j->err);
}

static int canonical(struct job *j, struct hga_sign_header *v)
{
	struct hga_aws_request *r = j->r;
	struct hga_sign_request q = {
	    .method = hga_str(r->method),
	    .path = hga_buf_str(&r->path),
	    .query = hga_buf_str(&r->query),
	    .headers = v,
	    .payload_hash = hga_str(j->payload),
	    .raw_path = j->a->raw_path,
	    .keep_path = j->a->keep_path,
	};
	size_t i;

	for (i = 0; i < r->headers.n; i++) {
		v[i].name = hga_str(r->headers.v[i].name);
		v[i].value = hga_str(r->headers.v[i].value);
	}
	q.n_headers = r->headers.n;
	if (hga_aws_pairs_get(&r->headers, "host") == NULL) {
		v[i].name = HGA_STR("host");
		v[i].value = j->a->host;
		q.n_headers++;
	}
	hga_buf_clear(&j->signed_list);
	hga_buf_clear(&j->trace->canonical);
	return hga_sign_canonical(&j->trace->canonical, &j->signed_list, &q,
	                          j->err);
}

/* Canonical request, string to sign and signature of the request as it is. */
static int compute(struct job *j)
{
	const struct hga_sign_args *a = j->a;
	struct hga_sign_header *v;
	int rc;

	v = hga_calloc(j->r->headers.n + 1, sizeof(*v));
	if (v == NULL)
		return hga_fail_mem(j->err);
	rc = canonical(j, v);
	hga_free(v);
	hga_buf_clear(&j->trace->to_sign);
	if (rc == 0)
		rc = hga_sign_string(&j->trace->to_sign, hga_str(j->date),
		                     a->region, a->service,
		                     hga_buf_str(&j->trace->canonical), j->err);
	if (rc == 0)
		rc = hga_sign_signature(
		    j->trace->signature, a->creds.secret_key, hga_str(j->date),
		    a->region, a->service, hga_buf_str(&j->trace->to_sign),
		    j->cache, j->err);
	return rc;
}

static void job_init(struct job *j, struct hga_aws_request *r,
                     const struct hga_sign_args *a,
                     struct hga_sign_cache *cache, struct hga_sign_trace *trace,
                     struct hga_err *err)
{
	memset(j, 0, sizeof(*j));
	j->r = r;
	j->a = a;
	j->cache = cache;
	j->trace = trace != NULL ? trace : &j->own;
	j->err = err;
	if (j->trace->canonical.max == 0)
		hga_buf_init(&j->trace->canonical, TEXT_MAX);
	if (j->trace->to_sign.max == 0)
		hga_buf_init(&j->trace->to_sign, TEXT_MAX);
	hga_buf_init(&j->signed_list, TEXT_MAX);
	hga_time_text(j->date, a->time_s * 1000000, HGA_TIME_BASIC);
}

static void job_release(struct job *j)
{
	hga_sign_trace_release(&j->own);
	hga_buf_release(&j->signed_list);
}

static int set_date(struct job *j)
{
	struct hga_aws_pairs *h = &j->r->headers;
	const char *date = hga_aws_pairs_get(h, "date");
	int64_t us;

	if (date == NULL)
		return hga_aws_pairs_set(h, HGA_STR("X-Amz-Date"),
		                         hga_str(j->date), j->err);
	/* the string to sign carries the same moment */
	if (hga_time_parse(hga_str(date), &us))
		hga_time_text(j->date, us, HGA_TIME_BASIC);
	return 0;
}

static int set_token(struct job *j)
{
	if (j->a->creds.token.n == 0)
		return 0;
	return hga_aws_pairs_set(&j->r->headers,
	                         HGA_STR("X-Amz-Security-Token"),
	                         j->a->creds.token, j->err);
}

static int set_authorization(struct job *j)
{
	const struct hga_sign_args *a = j->a;
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, TEXT_MAX);
	rc = hga_buf_addf(&b, j->err, ALGORITHM " Credential=%.*s/",
	                  HGA_STRF(a->creds.access_key));
	if (rc == 0)
		rc = put_scope(&b, hga_str(j->date), a->region, a->service,
		               j->err);
	if (rc == 0)
		rc = hga_buf_addf(
		    &b, j->err, ", SignedHeaders=%s, Signature=%s",
		    hga_buf_text(&j->signed_list), j->trace->signature);
	if (rc == 0)
		rc = hga_aws_pairs_set(&j->r->headers, HGA_STR("Authorization"),
		                       hga_buf_str(&b), j->err);
	hga_buf_release(&b);
	return rc;
}

int hga_aws_sign(struct hga_aws_request *r, const struct hga_sign_args *a,
                 struct hga_sign_cache *cache, struct hga_sign_trace *trace,
                 struct hga_err *err)
{
	struct job j;
	int rc;

	job_init(&j, r, a, cache, trace, err);
	hga_aws_pairs_remove(&r->headers, "authorization");
	hga_aws_pairs_remove(&r->headers, "x-amz-security-token");
	rc = set_date(&j);
	if (rc == 0)
		rc = payload_hash(&j);
	if (rc == 0 && a->content_sha256)
		rc = hga_aws_pairs_set(&r->headers,
		                       HGA_STR("X-Amz-Content-Sha256"),
		                       hga_str(j.payload), err);
	if (rc == 0 && !a->omit_token)
		rc = set_token(&j);
	if (rc == 0)
		rc = compute(&j);
	if (rc == 0 && a->omit_token)
		rc = set_token(&j);
	if (rc == 0)
		rc = set_authorization(&j);
	job_release(&j);
	return rc;
}

/* ---- query form ---- */

static int add_param(struct job *j, const char *name, struct hga_str value)
{
	struct hga_buf *q = &j->r->query;
	int rc = 0;

	if (q->len > 0)
		rc = hga_buf_addc(q, '&', j->err);
	if (rc == 0)
		rc = hga_buf_addf(q, j->err, "%s=", name);
	return rc < 0 ? rc : hga_pct_encode(q, value, "", j->err);
}

/* Names of the headers that will be signed, without computing more. */
static int list_headers(struct job *j)
{
	struct hga_sign_header *v = hga_calloc(j->r->headers.n + 1, sizeof(*v));
	int rc;

	if (v == NULL)
		return hga_fail_mem(j->err);
	rc = canonical(j, v);
	hga_free(v);
	return rc;
}

static int add_credential(struct job *j)
{
	const struct hga_sign_args *a = j->a;
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, TEXT_MAX);
	rc = hga_buf_addf(&b, j->err, "%.*s/", HGA_STRF(a->creds.access_key));
	if (rc == 0)
		rc = put_scope(&b, hga_str(j->date), a->region, a->service,
		               j->err);
	if (rc == 0)
		rc = add_param(j, "X-Amz-Credential", hga_buf_str(&b));
	hga_buf_release(&b);
	return rc;
}

static int add_params(struct job *j)
{
	char expires[16];
	int rc;

	snprintf(expires, sizeof(expires), "%u", j->a->expires_s);
	rc = add_param(j, "X-Amz-Algorithm", HGA_STR(ALGORITHM));
	if (rc == 0)
		rc = add_credential(j);
	if (rc == 0)
		rc = add_param(j, "X-Amz-Date", hga_str(j->date));
	if (rc == 0)
		rc = list_headers(j);
	if (rc == 0)
		rc = add_param(j, "X-Amz-SignedHeaders",
		               hga_buf_str(&j->signed_list));
	return rc < 0 ? rc : add_param(j, "X-Amz-Expires", hga_str(expires));
}

int hga_aws_presign(struct hga_aws_request *r, const struct hga_sign_args *a,
                    struct hga_sign_cache *cache, struct hga_sign_trace *trace,
                    struct hga_err *err)
{
	bool token = a->creds.token.n > 0;
	struct job j;
	int rc;

	if (a->expires_s < 1 || a->expires_s > 604800)
		return hga_fail(err, HGA_USAGE, 0, "Expires",
		                "expires: %u seconds; allowed are 1 to 604800",
		                a->expires_s);
	job_init(&j, r, a, cache, trace, err);
	rc = payload_hash(&j);
	if (rc == 0)
		rc = add_params(&j);
	if (rc == 0 && token && !a->omit_token)
		rc = add_param(&j, "X-Amz-Security-Token", a->creds.token);
	if (rc == 0)
		rc = compute(&j);
	if (rc == 0 && token && a->omit_token)
		rc = add_param(&j, "X-Amz-Security-Token", a->creds.token);
	if (rc == 0)
		rc = add_param(&j, "X-Amz-Signature",
		               hga_str(j.trace->signature));
	job_release(&j);
	return rc;
}
