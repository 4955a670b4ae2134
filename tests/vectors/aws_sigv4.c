/*
 * Signature cases: sigv4/ (header and query form) and sigv4-legacy/.  Each is
 * a raw request with the canonical request, string to sign and signature.
 */
#include "vec.h"

#include "aws/sign.h"
#include "base/time.h"

#include <ftw.h>

/* ---- raw requests ---- */

static void add_header(struct hga_aws_request *r, struct hga_str line)
{
	ptrdiff_t colon = hga_str_chr(line, ':', 0);

	if (colon < 0)
		return;
	if (hga_aws_pairs_add(
	        &r->headers, hga_strn(line.s, (size_t)colon),
	        hga_str_trim(
	            hga_strn(line.s + colon + 1, line.n - (size_t)colon - 1)),
	        NULL) < 0)
		abort();
}

static void set_target(struct hga_aws_request *r, struct hga_str line)
{
	ptrdiff_t sp = hga_str_chr(line, ' ', 0), q;
	struct hga_str t;
	size_t i;

	snprintf(r->method, sizeof(r->method), "%.*s", (int)sp, line.s);
	t = hga_strn(line.s + sp + 1, line.n - (size_t)sp - 1);
	for (i = t.n; i > 6; i--)
		if (memcmp(t.s + i - 6, " HTTP/", 6) == 0)
			break;
	t.n = i - 6;
	q = hga_str_chr(t, '?', 0);
	if (q >= 0 &&
	    hga_buf_add(&r->query, t.s + q + 1, t.n - (size_t)q - 1, NULL) < 0)
		abort();
	if (hga_buf_add(&r->path, t.s, q >= 0 ? (size_t)q : t.n, NULL) < 0)
		abort();
}

/* CR LF or LF, folded headers, body after the blank line. */
static void parse_request(struct hga_aws_request *r, char *text, size_t n)
{
	struct hga_str rest, line, held = {NULL, 0};
	char *w = text;
	size_t i;
	bool first = true;

	for (i = 0; i < n; i++)
		if (text[i] != '\r')
			*w++ = text[i];
	rest = hga_strn(text, (size_t)(w - text));
	hga_aws_request_init(r, 1 << 20);
	while (rest.n > 0) {
		ptrdiff_t nl = hga_str_chr(rest, '\n', 0);

		line = hga_strn(rest.s, nl < 0 ? rest.n : (size_t)nl);
		rest.s += nl < 0 ? rest.n : (size_t)nl + 1;
		rest.n -= nl < 0 ? rest.n : (size_t)nl + 1;
		if (first) {
			set_target(r, line);
			first = false;
			continue;
		}
		if (line.n > 0 && (line.s[0] == ' ' || line.s[0] == '\t')) {
			held.n = (size_t)(line.s + line.n - held.s);
			continue;
		}
		add_header(r, held);
		held = line;
		if (line.n == 0)
			break;
	}
	add_header(r, held);
	r->has_body = rest.n > 0;
	if (hga_buf_addstr(&r->body, rest, NULL) < 0)
		abort();
}

/* Expected text without a final line end and CR. */
static bool same_file(const char *dir, const char *name, const char *got)
{
	char path[4200];
	size_t n = 0, i;
	char *text, *w;
	bool same;

	snprintf(path, sizeof(path), "%s%s", dir, name);
	text = vec_read(path, &n);
	if (text == NULL)
		return true; /* nothing is expected */
	w = text;
	for (i = 0; i < n; i++)
		if (text[i] != '\r')
			*w++ = text[i];
	*w = '\0';
	while (w > text && w[-1] == '\n')
		*--w = '\0';
	same = strcmp(text, got) == 0;
	if (!same)
		printf("#   got: %s\n#  want: %s\n", got, text);
	hga_free(text);
	return same;
}

static int64_t epoch(struct hga_str text)
{
	int64_t us = 0;

	if (!hga_time_parse(text, &us))
		abort();
	return us / 1000000;
}

/* ---- sigv4/ ---- */

/* Query parameters of the expected signed request, as a set. */
static bool same_target(const char *dir, const struct hga_aws_request *r)
{
	struct hga_aws_request want;
	char path[4200];
	size_t n = 0;
	char *text;
	bool same;

	snprintf(path, sizeof(path), "%squery-signed-request.txt", dir);
	text = vec_read(path, &n);
	if (text == NULL)
		return false;
	memset(&want, 0, sizeof(want));
	parse_request(&want, text, n);
	same = strcmp(hga_buf_text(&want.query), hga_buf_text(&r->query)) == 0;
	if (!same)
		printf("#   got: %s\n#  want: %s\n", hga_buf_text(&r->query),
		       hga_buf_text(&want.query));
	hga_aws_request_release(&want);
	hga_free(text);
	return same;
}

static const char *check_trace(const char *dir, const char *form,
                               const struct hga_sign_trace *t)
{
	char name[64];

	snprintf(name, sizeof(name), "%s-canonical-request.txt", form);
	if (!same_file(dir, name, hga_buf_text(&t->canonical)))
		return "canonical request";
	snprintf(name, sizeof(name), "%s-string-to-sign.txt", form);
	if (!same_file(dir, name, hga_buf_text(&t->to_sign)))
		return "string to sign";
	snprintf(name, sizeof(name), "%s-signature.txt", form);
	return same_file(dir, name, t->signature) ? NULL : "signature";
}

/* What the server side makes of the header form. */
static const char *check_server(const struct hga_aws_request *r,
                                const struct hga_sign_args *a,
                                const struct hga_sign_trace *t,
                                const char *payload)
{
	struct hga_sign_header h[64];
	struct hga_sign_request q = {
	    .method = hga_str(r->method),
	    .path = hga_buf_str(&r->path),
	    .query = hga_buf_str(&r->query),
	    .headers = h,
	    .payload_hash = hga_str(payload),
	    .keep_path = a->keep_path,
	    .raw_path = a->raw_path,
	};
	struct hga_sign_auth auth;
	struct hga_buf out;
	bool same;
	size_t i;

	if (hga_sign_parse_header(
	        &auth, hga_str(hga_aws_pairs_get(&r->headers, "authorization")),
	        NULL) < 0)
		return "our own Authorization does not parse";
	for (i = 0; i < r->headers.n; i++) {
		h[i].name = hga_str(r->headers.v[i].name);
		h[i].value = hga_str(r->headers.v[i].value);
	}
	q.n_headers = r->headers.n;
	q.signed_headers = auth.signed_headers;
	hga_buf_init(&out, 1 << 20);
	same = hga_sign_canonical(&out, NULL, &q, NULL) == 0 &&
	       strcmp(hga_buf_text(&out), hga_buf_text(&t->canonical)) == 0 &&
	       strcmp(auth.signature, t->signature) == 0;
	hga_buf_release(&out);
	hga_sign_auth_release(&auth);
	return same ? NULL : "server side";
}

static void run_form(struct vec_count *n, const char *dir, struct hga_val ctx,
                     bool query)
{
	static struct hga_sign_cache cache;
	struct hga_val cr = hga_val_get(ctx, "credentials");
	struct hga_sign_args a = {
	    .creds = {vec_str(cr, "access_key_id"),
	              vec_str(cr, "secret_access_key"), vec_str(cr, "token")},
	    .region = vec_str(ctx, "region"),
	    .service = vec_str(ctx, "service"),
	    .time_s = epoch(vec_str(ctx, "timestamp")),
	    .keep_path = !hga_val_bool(hga_val_get(ctx, "normalize"), true),
	    .content_sha256 =
	        hga_val_bool(hga_val_get(ctx, "sign_body"), false),
	    .omit_token =
	        hga_val_bool(hga_val_get(ctx, "omit_session_token"), false),
	    .expires_s = (unsigned)hga_val_int(
	        hga_val_get(ctx, "expiration_in_seconds"), 3600),
	};
	struct hga_sign_trace trace;
	struct hga_aws_request r;
	char path[4200], hex[65];
	struct hga_err err = {.kind = HGA_OK};
	const char *bad;
	size_t len = 0;
	char *text;

	snprintf(path, sizeof(path), "%srequest.txt", dir);
	text = vec_read(path, &len);
	memset(&r, 0, sizeof(r));
	memset(&trace, 0, sizeof(trace));
	parse_request(&r, text, len);
	if ((query ? hga_aws_presign : hga_aws_sign)(&r, &a, &cache, &trace,
	                                             &err) < 0)
		bad = err.msg;
	else
		bad = check_trace(dir, query ? "query" : "header", &trace);
	if (bad == NULL && query && !same_target(dir, &r))
		bad = "signed URL";
	if (bad == NULL && !query) {
		const char *canon = hga_buf_text(&trace.canonical);

		snprintf(hex, sizeof(hex), "%s", strrchr(canon, '\n') + 1);
		bad = check_server(&r, &a, &trace, hex);
	}
	vec_case(n, bad == NULL, dir, bad);
	hga_sign_trace_release(&trace);
	hga_aws_request_release(&r);
	hga_free(text);
}

static void run_new(void)
{
	struct vec_count n = {.name = "sigv4 (header and query form)"};
	char pattern[4200];
	size_t i;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/*/context.json",
	         vec_path("sigv4"));
	if (glob(pattern, 0, NULL, &g) != 0) {
		skip("no third-party cases: set HGAUTO_VECTORS");
		return;
	}
	for (i = 0; i < g.gl_pathc; i++) {
		struct hga_vtape *t = vec_json(g.gl_pathv[i]);
		char dir[4200];

		snprintf(dir, sizeof(dir), "%s", g.gl_pathv[i]);
		*(strrchr(dir, '/') + 1) = '\0';
		run_form(&n, dir, hga_vtape_root(t), false);
		run_form(&n, dir, hga_vtape_root(t), true);
		hga_vtape_free(t);
	}
	globfree(&g);
	vec_end(&n);
}

/* ---- sigv4-legacy/ ---- */

static struct vec_count legacy = {.name = "sigv4-legacy"};

static void run_legacy(const char *req)
{
	struct hga_sign_args a = {
	    .creds = {HGA_STR("AKIDEXAMPLE"),
	              HGA_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
	              {NULL, 0}},
	    .region = HGA_STR("us-east-1"),
	    .service = HGA_STR("service"),
	    .time_s = epoch(HGA_STR("2015-08-30T12:36:00Z")),
	};
	struct hga_sign_trace trace;
	struct hga_aws_request r;
	char base[4200], token[4096] = "";
	const char *bad = NULL;
	struct hga_err err = {.kind = HGA_OK};
	size_t len = 0;
	char *text, *p;

	snprintf(base, sizeof(base), "%s", req);
	base[strlen(base) - 4] = '\0';
	snprintf(base + strlen(base), 8, ".creq");
	text = vec_read(base, &len);
	base[strlen(base) - 5] = '\0';
	p = text == NULL ? NULL : strstr(text, "x-amz-security-token:");
	if (p != NULL) {
		snprintf(token, sizeof(token), "%s", p + 21);
		token[strcspn(token, "\r\n")] = '\0';
		a.creds.token = hga_str(token);
	}
	hga_free(text);
	text = vec_read(req, &len);
	memset(&r, 0, sizeof(r));
	memset(&trace, 0, sizeof(trace));
	parse_request(&r, text, len);
	if (hga_aws_sign(&r, &a, NULL, &trace, &err) < 0)
		bad = err.msg;
	else if (!same_file(base, ".creq", hga_buf_text(&trace.canonical)))
		bad = "canonical request";
	else if (!same_file(base, ".sts", hga_buf_text(&trace.to_sign)))
		bad = "string to sign";
	else if (!same_file(base, ".authz",
	                    hga_aws_pairs_get(&r.headers, "authorization")))
		bad = "authorization";
	vec_case(&legacy, bad == NULL, base, bad);
	hga_sign_trace_release(&trace);
	hga_aws_request_release(&r);
	hga_free(text);
}

static int visit(const char *path, const struct stat *st, int type,
                 struct FTW *at)
{
	size_t n = strlen(path);

	(void)st;
	(void)at;
	if (type == FTW_F && n > 4 && strcmp(path + n - 4, ".req") == 0)
		run_legacy(path);
	return 0;
}

int main(void)
{
	run_new();
	if (!vec_there("sigv4-legacy")) {
		skip("no third-party cases: set HGAUTO_VECTORS");
		return done();
	}
	if (nftw(vec_path("sigv4-legacy"), visit, 16, FTW_PHYS) != 0)
		ok(false, "walk of sigv4-legacy");
	vec_end(&legacy);
	return done();
}
