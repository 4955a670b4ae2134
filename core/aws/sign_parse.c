/*
 * The other side of a signature: what an Authorization header or a presigned
 * query claims.  Used by the verifying local cloud; the input is a peer's.
 */
#include "aws/sign.h"

#include "base/mem.h"

#include <string.h>

static int incomplete(struct hga_err *err, const char *why)
{
	return hga_fail(err, HGA_AUTH, 0, "IncompleteSignature",
	                "the signature %s", why);
}

static bool put(char *out, size_t size, struct hga_str t)
{
	if (t.n == 0 || t.n >= size)
		return false;
	memcpy(out, t.s, t.n);
	out[t.n] = '\0';
	return true;
}

static bool all_digits(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s < '0' || *s > '9')
			return false;
	return true;
}

/* Next part up to c; *rest is what follows it. */
static struct hga_str next_part(struct hga_str *rest, char c)
{
	ptrdiff_t at = hga_str_chr(*rest, c, 0);
	struct hga_str part = *rest;

	if (rest->n == 0)
		return part;
	if (at < 0) {
		rest->s += rest->n;
		rest->n = 0;
		return part;
	}
	part.n = (size_t)at;
	rest->s += at + 1;
	rest->n -= (size_t)at + 1;
	return part;
}

/* KEY/DATE/REGION/SERVICE/aws4_request */
static int read_scope(struct hga_sign_auth *a, struct hga_str t,
                      struct hga_err *err)
{
	if (!put(a->access_key, sizeof(a->access_key), next_part(&t, '/')) ||
	    !put(a->date8, sizeof(a->date8), next_part(&t, '/')) ||
	    !put(a->region, sizeof(a->region), next_part(&t, '/')) ||
	    !put(a->service, sizeof(a->service), next_part(&t, '/')))
		return incomplete(err, "has an incomplete Credential");
	if (!hga_str_eqc(t, "aws4_request"))
		return incomplete(err, "has a Credential that does not end in "
		                       "aws4_request");
	if (strlen(a->date8) != 8 || !all_digits(a->date8))
		return incomplete(err, "has a Credential without a date");
	return 0;
}

static int read_signature(struct hga_sign_auth *a, struct hga_str t,
                          struct hga_err *err)
{
	size_t i;

	if (t.n != 64)
		return incomplete(err, "is not 64 hexadecimal digits");
	for (i = 0; i < t.n; i++)
		if (!((t.s[i] >= '0' && t.s[i] <= '9') ||
		      (t.s[i] >= 'a' && t.s[i] <= 'f')))
			return incomplete(err, "is not 64 hexadecimal digits");
	memcpy(a->signature, t.s, t.n);
	a->signature[64] = '\0';
	return 0;
}

int hga_sign_parse_header(struct hga_sign_auth *a, struct hga_str value,
                          struct hga_err *err)
{
	static const char algorithm[] = "AWS4-HMAC-SHA256";
	struct hga_str rest = hga_str_trim(value);
	bool scope = false;
	int rc = 0;

	memset(a, 0, sizeof(*a));
	a->expires_s = -1;
	if (!hga_str_starts(rest, algorithm) ||
	    rest.n <= sizeof(algorithm) - 1 ||
	    rest.s[sizeof(algorithm) - 1] != ' ')
		return incomplete(err, "is not AWS4-HMAC-SHA256");
	rest.s += sizeof(algorithm);
	rest.n -= sizeof(algorithm);
	while (rc == 0 && rest.n > 0) {
		struct hga_str item = hga_str_trim(next_part(&rest, ','));
		struct hga_str name = next_part(&item, '=');

		if (hga_str_eqc(name, "Credential")) {
			scope = true;
			rc = read_scope(a, item, err);
		} else if (hga_str_eqc(name, "SignedHeaders")) {
			a->signed_headers = item;
		} else if (hga_str_eqc(name, "Signature")) {
			rc = read_signature(a, item, err);
		}
	}
	if (rc < 0)
		return rc;
	if (!scope || a->signed_headers.n == 0 || a->signature[0] == '\0')
		return incomplete(err, "needs Credential, SignedHeaders and "
		                       "Signature");
	return 0;
}

/* ---- query form ---- */

/* Decoded value of a parameter in a->buf; .s NULL when absent. */
static int find_param(struct hga_sign_auth *a, struct hga_str query,
                      const char *name, struct hga_str *out,
                      struct hga_err *err)
{
	out->s = NULL;
	out->n = 0;
	while (query.n > 0) {
		struct hga_str p = next_part(&query, '&');
		struct hga_str key = next_part(&p, '=');
		int rc;

		if (!hga_str_eqc(key, name))
			continue;
		hga_buf_clear(&a->buf);
		rc = hga_pct_decode(&a->buf, p, false, err);
		*out = hga_buf_str(&a->buf);
		return rc;
	}
	return 0;
}

static int query_scope(struct hga_sign_auth *a, struct hga_str query,
                       struct hga_err *err)
{
	struct hga_str t;
	int rc = find_param(a, query, "X-Amz-Algorithm", &t, err);

	if (rc == 0 && !hga_str_eqc(t, "AWS4-HMAC-SHA256"))
		return incomplete(err, "is not AWS4-HMAC-SHA256");
	if (rc == 0)
		rc = find_param(a, query, "X-Amz-Credential", &t, err);
	return rc < 0 ? rc : read_scope(a, t, err);
}

static int query_dates(struct hga_sign_auth *a, struct hga_str query,
                       struct hga_err *err)
{
	struct hga_str t;
	int rc = find_param(a, query, "X-Amz-Date", &t, err);

	if (rc == 0 && !put(a->amz_date, sizeof(a->amz_date), t))
		return incomplete(err, "needs X-Amz-Date");
	if (rc == 0)
		rc = find_param(a, query, "X-Amz-Expires", &t, err);
	if (rc == 0 && (!hga_str_int(t, &a->expires_s) || a->expires_s < 0 ||
	                a->expires_s > 604800))
		return incomplete(err, "needs X-Amz-Expires of at most "
		                       "604800 seconds");
	return rc;
}

int hga_sign_parse_query(struct hga_sign_auth *a, struct hga_str query,
                         struct hga_err *err)
{
	struct hga_str t;
	int rc;

	memset(a, 0, sizeof(*a));
	a->expires_s = -1;
	hga_buf_init(&a->buf, query.n + 16);
	rc = find_param(a, query, "X-Amz-Signature", &t, err);
	if (rc == 0 && t.s == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, "MissingSignature",
		                "the query carries no signature");
	if (rc == 0)
		rc = read_signature(a, t, err);
	if (rc == 0)
		rc = query_scope(a, query, err);
	if (rc == 0)
		rc = query_dates(a, query, err);
	/* last, because its text stays in the buffer */
	if (rc == 0)
		rc = find_param(a, query, "X-Amz-SignedHeaders", &t, err);
	if (rc == 0 && t.n == 0)
		return incomplete(err, "needs X-Amz-SignedHeaders");
	a->signed_headers = t;
	return rc;
}

void hga_sign_auth_release(struct hga_sign_auth *a)
{
	hga_buf_release(&a->buf);
	a->signed_headers = hga_strn(NULL, 0);
}
