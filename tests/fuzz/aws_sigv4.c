/*
 * Signed requests as a server gets them: the first line is METHOD TARGET,
 * then headers, a blank line, the body.  The claim is parsed and the
 * canonical request rebuilt, as the local cloud does.
 */
#include "aws/sign.h"

#include <stdint.h>
#include <string.h>

#define HEADERS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct hga_str line_of(struct hga_str *rest)
{
	ptrdiff_t nl = hga_str_chr(*rest, '\n', 0);
	struct hga_str l = hga_strn(rest->s, nl < 0 ? rest->n : (size_t)nl);
	size_t used = nl < 0 ? rest->n : (size_t)nl + 1;

	rest->s += used;
	rest->n -= used;
	return l;
}

static struct hga_str cut(struct hga_str *rest, char c)
{
	ptrdiff_t at = hga_str_chr(*rest, c, 0);
	struct hga_str l = hga_strn(rest->s, at < 0 ? rest->n : (size_t)at);
	size_t used = at < 0 ? rest->n : (size_t)at + 1;

	rest->s += used;
	rest->n -= used;
	return l;
}

static void verify(const struct hga_sign_request *r,
                   const struct hga_sign_auth *a, struct hga_str body)
{
	struct hga_sign_request q = *r;
	struct hga_buf canonical, text;
	char sum[65];

	hga_buf_init(&canonical, 1 << 24);
	hga_buf_init(&text, 1 << 20);
	q.signed_headers = a->signed_headers;
	q.payload_hash = body;
	q.drop_signature = a->expires_s >= 0;
	if (hga_sign_canonical(&canonical, NULL, &q, NULL) == 0 &&
	    hga_sign_string(&text, hga_str(a->date8), hga_str(a->region),
	                    hga_str(a->service), hga_buf_str(&canonical),
	                    NULL) == 0 &&
	    hga_sign_signature(sum, HGA_STR("secret"), hga_str(a->date8),
	                       hga_str(a->region), hga_str(a->service),
	                       hga_buf_str(&text), NULL, NULL) == 0)
		sum[0] = '\0';
	hga_buf_release(&canonical);
	hga_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct hga_sign_header h[HEADERS];
	struct hga_str rest = hga_strn((const char *)data, n), line, auth;
	struct hga_sign_request r;
	struct hga_sign_auth a;

	memset(&r, 0, sizeof(r));
	auth = hga_strn(NULL, 0);
	line = line_of(&rest);
	r.method = cut(&line, ' ');
	r.path = cut(&line, '?');
	r.query = line;
	r.headers = h;
	while (rest.n > 0 && r.n_headers < HEADERS) {
		line = line_of(&rest);
		if (line.n == 0)
			break;
		h[r.n_headers].name = cut(&line, ':');
		h[r.n_headers].value = line;
		if (hga_str_ieqc(h[r.n_headers].name, "authorization"))
			auth = line;
		r.n_headers++;
	}
	if (hga_sign_parse_header(&a, auth, NULL) == 0)
		verify(&r, &a, rest);
	hga_sign_auth_release(&a);
	if (hga_sign_parse_query(&a, r.query, NULL) == 0)
		verify(&r, &a, rest);
	hga_sign_auth_release(&a);
	return 0;
}
