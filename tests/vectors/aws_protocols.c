/*
 * Protocol cases of the SDK teams (protocols/ and protocols-legacy/): each
 * case is a small model, compiled by the run-time compiler, and parameters
 * with the expected request, or an answer with the expected result.
 */
#include "vec.h"
#include "vec_http.h"
#include "vec_xml.h"

#include "aws/body.h"
#include "aws/out.h"
#include "aws/ser.h"
#include "base/gzip.h"

/* Protocols that are to come. */
static bool is_later(struct hga_val suite)
{
	struct hga_str p = vec_str(hga_val_get(suite, "metadata"), "protocol");

	return hga_str_eqc(p, "smithy-rpc-v2-cbor");
}

/* Answers that are event streams, which are to come. */
static bool is_event_stream(struct hga_val suite)
{
	struct hga_vit it;

	for (it = hga_val_first(hga_val_get(suite, "shapes")); hga_val_more(it);
	     it = hga_val_next(it))
		if (hga_val_bool(hga_val_get(hga_vit_val(it), "eventstream"),
		                 false))
			return true;
	return false;
}

#define COMPRESS_MIN 10240 /* the default of clients */

/* Cases whose body is compressed, where this program cannot. */
static bool needs_gzip(struct hga_val c)
{
	struct hga_val given = hga_val_get(c, "given");

	return !hga_gzip_there() &&
	       !vec_none(hga_val_get(given, "requestcompression"));
}

static int fixed_token(void *data, char out[37], struct hga_err *err)
{
	(void)data;
	(void)err;
	memcpy(out, "00000000-0000-4000-8000-000000000000", 37);
	return 0;
}

/* ---- forms ---- */

struct pair {
	char *name, *value;
	char *group; /* sort key: map entries stay together, order free */
};

struct form {
	struct pair v[256];
	size_t n;
};

static char *decode(struct hga_str t)
{
	struct hga_buf b;

	hga_buf_init(&b, 1 << 20);
	if (hga_pct_decode(&b, t, true, NULL) < 0 ||
	    hga_buf_addc(&b, '\0', NULL) < 0)
		abort();
	return hga_buf_move(&b);
}

static void form_parse(struct form *f, struct hga_str body)
{
	size_t at = 0;

	f->n = 0;
	body = hga_str_trim(body);
	while (at < body.n && f->n < 256) {
		ptrdiff_t amp = hga_str_chr(body, '&', at);
		size_t end = amp < 0 ? body.n : (size_t)amp;
		struct hga_str p =
		    hga_str_trim(hga_strn(body.s + at, end - at));
		ptrdiff_t eq = hga_str_chr(p, '=', 0);
		size_t n = eq < 0 ? p.n : (size_t)eq;

		f->v[f->n].name = decode(hga_strn(p.s, n));
		f->v[f->n].value = decode(
		    eq < 0 ? hga_str("") : hga_strn(p.s + n + 1, p.n - n - 1));
		f->v[f->n++].group = NULL;
		at = end + 1;
	}
}

static void form_free(struct form *f)
{
	while (f->n > 0) {
		f->n--;
		hga_free(f->v[f->n].name);
		hga_free(f->v[f->n].value);
		hga_free(f->v[f->n].group);
	}
}

/* Length of the part of a map entry's name before its number: the pair is
 * P.N.key with "key" as the suite spells it. */
static size_t entry_prefix(const char *name)
{
	static const char *const keys[] = {"key", "K", "Key", "foo", NULL};
	const char *last = strrchr(name, '.'), *num;
	int i;

	if (last == NULL || last == name)
		return 0;
	for (num = last - 1; num > name && *num >= '0' && *num <= '9'; num--)
		;
	if (*num != '.' || num + 1 == last)
		return 0;
	for (i = 0; keys[i] != NULL; i++)
		if (strcmp(last + 1, keys[i]) == 0)
			return (size_t)(num - name);
	return 0;
}

/* Entries' numbers are replaced by the entry's key, outer ones first. */
static void form_unorder(struct form *f)
{
	size_t i, j;

	for (i = 0; i < f->n; i++) {
		size_t n = entry_prefix(f->v[i].name);
		size_t whole;
		char *from;

		if (n == 0)
			continue;
		whole = (size_t)(strrchr(f->v[i].name, '.') - f->v[i].name) + 1;
		from = hga_memdup0(f->v[i].name, whole);
		for (j = 0; j < f->n; j++) {
			char *old = f->v[j].name, text[2048];

			if (strncmp(old, from, whole) != 0)
				continue;
			snprintf(text, sizeof(text), "%.*s.<%s>.%s", (int)n,
			         old, f->v[i].value, old + whole);
			f->v[j].name = hga_strdup(text);
			hga_free(old);
		}
		hga_free(from);
	}
}

static int pair_cmp(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c != 0 ? c : strcmp(x->value, y->value);
}

static bool forms_equal(struct hga_str got, struct hga_str want)
{
	static struct form a, b;
	bool same;
	size_t i;

	form_parse(&a, got);
	form_parse(&b, want);
	form_unorder(&a);
	form_unorder(&b);
	qsort(a.v, a.n, sizeof(a.v[0]), pair_cmp);
	qsort(b.v, b.n, sizeof(b.v[0]), pair_cmp);
	same = a.n == b.n;
	for (i = 0; same && i < a.n; i++)
		same = pair_cmp(&a.v[i], &b.v[i]) == 0;
	form_free(&a);
	form_free(&b);
	return same;
}

static bool json_equal(struct hga_str got, struct hga_str want)
{
	struct hga_vtape *a = NULL, *b = NULL;
	bool same = false;

	if (hga_json_parse(got, VEC_TAPE, &a, NULL) == 0 &&
	    hga_json_parse(want, VEC_TAPE, &b, NULL) == 0)
		same = hga_val_equal(hga_vtape_root(a), hga_vtape_root(b));
	hga_vtape_free(a);
	hga_vtape_free(b);
	return same;
}

/* ---- input cases ---- */

static const char *check_listed(const struct hga_aws_request *r,
                                struct hga_val names, bool there)
{
	struct hga_vit it;

	if (!hga_val_is(names, HGA_V_LIST))
		return NULL;
	for (it = hga_val_first(names); hga_val_more(it);
	     it = hga_val_next(it)) {
		char n[256];

		snprintf(n, sizeof(n), "%.*s",
		         HGA_STRF(hga_val_str(hga_vit_val(it))));
		/* the transport adds the length of every body */
		if (strcasecmp(n, "content-length") == 0) {
			if (!there && r->has_body)
				return "a body where there should be none";
			continue;
		}
		if ((hga_aws_pairs_get(&r->headers, n) != NULL) != there)
			return there ? "a required header is missing"
			             : "forbidden header";
	}
	return NULL;
}

static const char *check_headers(const struct hga_aws_request *r, bool typed,
                                 struct hga_val want)
{
	struct hga_val h = hga_val_get(want, "headers");
	const char *bad;
	struct hga_vit it;

	for (it = hga_val_first(h);
	     hga_val_is(h, HGA_V_MAP) && hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);
		char n[256];

		if (!typed && hga_str_ieqc(name, "content-type"))
			continue;
		snprintf(n, sizeof(n), "%.*s", HGA_STRF(name));
		if (!vec_header_equal(hga_aws_pairs_get(&r->headers, n),
		                      hga_val_str(hga_vit_val(it))))
			return "header";
	}
	bad = check_listed(r, hga_val_get(want, "requireHeaders"), true);
	if (bad == NULL)
		bad =
		    check_listed(r, hga_val_get(want, "forbidHeaders"), false);
	return bad;
}

/* The path and host of the endpoint, joined as a call does it. */
static const char *check_uri(const struct hga_aws_request *r,
                             struct hga_val suite, struct hga_val want)
{
	struct hga_str ep = vec_str(suite, "clientEndpoint");
	struct hga_str host = hga_str(""), base = hga_str("");
	struct hga_val h = hga_val_get(want, "host");
	char uri[4096], full[1024];
	ptrdiff_t p;

	p = hga_str_find(ep, HGA_STR("://"));
	if (p >= 0) {
		host = hga_strn(ep.s + p + 3, ep.n - (size_t)p - 3);
		p = hga_str_chr(host, '/', 0);
		if (p >= 0) {
			base = hga_strn(host.s + p, host.n - (size_t)p);
			host.n = (size_t)p;
		}
	}
	snprintf(uri, sizeof(uri), "%.*s%s%s%s", HGA_STRF(base),
	         hga_buf_text(&r->path), r->query.len > 0 ? "?" : "",
	         hga_buf_text(&r->query));
	if (!vec_uri_equal(uri, vec_str(want, "uri"))) {
		printf("#  uri: %s\n# want: %s\n", uri, vec_cstr(want, "uri"));
		return "uri";
	}
	snprintf(full, sizeof(full), "%s%.*s%.*s",
	         hga_buf_text(&r->host_prefix), HGA_STRF(host), HGA_STRF(base));
	if (hga_val_is(h, HGA_V_STR) && host.n > 0 &&
	    !hga_str_eqc(hga_val_str(h), full))
		return "host";
	return NULL;
}

/* As the protocol compares bodies; raw payloads byte by byte. */
static bool body_equal(enum hga_aws_protocol p, struct hga_str got,
                       struct hga_str want)
{
	bool same = hga_str_eq(got, want);

	switch (p) {
	case HGA_AWS_EC2:
	case HGA_AWS_QUERY:
		return forms_equal(got, want);
	case HGA_AWS_JSON:
	case HGA_AWS_REST_JSON:
		return same || json_equal(got, want);
	case HGA_AWS_REST_XML:
		return same || vec_xml_equal(got, want);
	case HGA_AWS_CBOR:
		break;
	}
	return same;
}

static const char *check_request(const struct vec_model *m,
                                 const struct hga_aws_request *r,
                                 struct hga_val suite, struct hga_val given,
                                 struct hga_val want)
{
	enum hga_aws_protocol p = (enum hga_aws_protocol)m->svc->r->protocol;
	bool typed = p != HGA_AWS_EC2 && p != HGA_AWS_QUERY;
	bool packed = !vec_none(hga_val_get(given, "requestcompression"));
	struct hga_val body = hga_val_get(want, "body");
	struct hga_str method = vec_str(want, "method");
	const char *bad;

	if (method.n > 0 && !hga_str_eqc(method, r->method))
		return "method";
	bad = check_uri(r, suite, want);
	if (bad == NULL)
		bad = check_headers(r, typed, want);
	/* of a packed body only the header is to be compared */
	if (bad != NULL || packed || !hga_val_is(body, HGA_V_STR))
		return bad;
	return body_equal(p, hga_buf_str(&r->body), hga_val_str(body)) ? NULL
	                                                               : "body";
}

static void input_case(struct vec_count *n, struct hga_val suite,
                       struct hga_val c)
{
	struct hga_aws_tokens tokens = {fixed_token, NULL};
	struct hga_val given = hga_val_get(c, "given");
	struct hga_aws_ser s = {.tokens = &tokens};
	const char *id = vec_cstr(c, "caseId"), *bad = NULL;
	struct hga_aws_request r;
	struct vec_model m;
	struct hga_err err = {.kind = HGA_OK};

	memset(&r, 0, sizeof(r));
	if (!vec_model(&m, suite, given, &err)) {
		vec_case(n, false, id, err.msg);
		vec_model_release(&m);
		return;
	}
	s.op = m.op;
	s.params = hga_val_get(c, "params");
	if (hga_aws_serialize(&s, &r, &err) < 0 ||
	    hga_aws_body_compress(m.op, &r, COMPRESS_MIN, &err) < 0)
		bad = err.msg;
	else
		bad = check_request(&m, &r, suite, given,
		                    hga_val_get(c, "serialized"));
	if (!vec_case(n, bad == NULL, id, bad))
		printf("#   got: %.300s\n#  want: %.300s\n",
		       hga_buf_text(&r.body),
		       vec_cstr(hga_val_get(c, "serialized"), "body"));
	hga_aws_request_release(&r);
	vec_model_release(&m);
}

/* ---- output cases ---- */

static void head_text(struct hga_buf *out, struct hga_val headers)
{
	struct hga_vit it;

	if (!hga_val_is(headers, HGA_V_MAP))
		return;
	for (it = hga_val_first(headers); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);
		size_t at = out->len, i;

		if (hga_buf_addf(out, NULL, "%.*s: %.*s\n", HGA_STRF(name),
		                 HGA_STRF(hga_val_str(hga_vit_val(it)))) < 0)
			abort();
		for (i = at; i < at + name.n; i++)
			if (out->data[i] >= 'A' && out->data[i] <= 'Z')
				out->data[i] = (char)(out->data[i] + 32);
	}
}

/* fold: names of headers are keys of the result, and have no case. */
static const char *check_answer(struct hga_aws_out *o, struct hga_vtape *t,
                                enum hga_aws_answer kind, struct hga_val c,
                                bool fold)
{
	static char why[5000];
	const struct hga_aws_error *e = hga_aws_out_error(o);
	struct hga_val want = hga_val_get(c, "errorCode"), got;
	const char *what = "result";

	if (vec_none(want)) {
		if (kind != HGA_ANSWER_OK)
			return "an error, but a result is expected";
		got = hga_vtape_root(t);
		want = hga_val_get(c, "result");
	} else {
		if (kind != HGA_ANSWER_ERROR)
			return "a result, but an error is expected";
		if (!hga_str_eqc(hga_val_str(want), e->code))
			return "error code";
		want = hga_val_get(c, "errorMessage");
		if (!vec_none(want) &&
		    !hga_str_eq(hga_val_str(want), hga_buf_str(&e->message)))
			return "error message";
		got = hga_aws_out_members(o);
		want = hga_val_get(c, "error");
		what = "error members";
	}
	if (vec_none(want) ? hga_val_count(got) == 0
	                   : vec_equal_as(got, want, fold))
		return NULL;
	snprintf(why, sizeof(why), "%s\n#   got: %s\n#  want: %s", what,
	         vec_show(got), vec_show(want));
	return why;
}

/* The output has a member for many headers. */
static bool has_headers(const struct vec_model *m)
{
	const struct hga_img_shape *s = hga_aws_shape(m->svc, m->op.r->output);
	uint32_t i;

	for (i = 0; s != NULL && i < s->members.n; i++)
		if (hga_aws_member(m->svc, s, i)->location == HGA_LOC_HEADERS)
			return true;
	return false;
}

/* Feeds the body in pieces of that size. */
static void output_pieces(struct vec_count *n, const struct vec_model *m,
                          struct hga_val c, size_t piece)
{
	struct hga_val resp = hga_val_get(c, "response");
	struct hga_str body = vec_str(resp, "body");
	const char *id = vec_cstr(c, "caseId"), *bad = NULL;
	struct hga_vtape *t = hga_vtape_new(&m->svc->names, VEC_TAPE);
	struct hga_aws_out *o = hga_aws_out_new(m->op, NULL, t);
	enum hga_aws_answer kind = HGA_ANSWER_OK;
	struct hga_err err = {.kind = HGA_OK};
	struct hga_buf head;
	size_t at;
	int rc;

	hga_buf_init(&head, 65536);
	head_text(&head, hga_val_get(resp, "headers"));
	rc = hga_aws_out_head(
	    o, (int)hga_val_int(hga_val_get(resp, "status_code"), 200),
	    hga_buf_str(&head), &err);
	for (at = 0; rc == 0 && at < body.n; at += piece)
		rc = hga_aws_out_feed(o, body.s + at,
		                      body.n - at < piece ? body.n - at : piece,
		                      &err);
	if (rc == 0)
		rc = hga_aws_out_finish(o, &kind, &err);
	bad = rc < 0 ? err.msg : check_answer(o, t, kind, c, has_headers(m));
	vec_case(n, bad == NULL, id, bad);
	hga_buf_release(&head);
	hga_aws_out_free(o);
	hga_vtape_free(t);
}

static void output_case(struct vec_count *n, struct vec_count *bytewise,
                        struct hga_val suite, struct hga_val c)
{
	struct vec_model m;
	struct hga_err err = {.kind = HGA_OK};

	if (vec_model(&m, suite, hga_val_get(c, "given"), &err)) {
		output_pieces(n, &m, c, SIZE_MAX / 2);
		output_pieces(bytewise, &m, c, 1);
	} else {
		vec_case(n, false, vec_cstr(c, "caseId"), err.msg);
	}
	vec_model_release(&m);
}

/* ---- files ---- */

static void run_file(const char *path, bool input, struct vec_count *n,
                     struct vec_count *bytewise)
{
	struct hga_vtape *t = vec_json(path);
	struct hga_vit s, c;

	for (s = hga_val_first(hga_vtape_root(t)); hga_val_more(s);
	     s = hga_val_next(s)) {
		struct hga_val suite = hga_vit_val(s);
		struct hga_val cases = hga_val_get(suite, "cases");
		bool later =
		    is_later(suite) || (!input && is_event_stream(suite));

		n->lie += hga_val_count(cases);
		for (c = hga_val_first(cases); hga_val_more(c);
		     c = hga_val_next(c)) {
			if (later || needs_gzip(hga_vit_val(c)))
				n->named++;
			else if (input)
				input_case(n, suite, hga_vit_val(c));
			else
				output_case(n, bytewise, suite, hga_vit_val(c));
		}
	}
	hga_vtape_free(t);
}

static void run_suite(const char *name)
{
	static const char *const ends[] = {"input", "output"};
	struct vec_count n = {.name = name,
	                      .why = "smithy-rpc-v2-cbor and event streams "
	                             "are to come; compressed bodies need "
	                             "zlib"};
	struct vec_count bytewise = {.name = "answers fed byte by byte"};
	size_t e, i;

	if (!vec_there(name)) {
		printf("# aws %s: not there\n", name);
		skip("no third-party cases: set HGAUTO_VECTORS");
		return;
	}
	for (e = 0; e < 2; e++) {
		char pattern[4200];
		glob_t g;

		snprintf(pattern, sizeof(pattern), "%s/%s/*.json",
		         vec_path(name), ends[e]);
		if (glob(pattern, 0, NULL, &g) != 0)
			continue;
		for (i = 0; i < g.gl_pathc; i++)
			run_file(g.gl_pathv[i], e == 0, &n, &bytewise);
		globfree(&g);
	}
	vec_end(&n);
	ok(n.lie > 0, "%s: there were cases", name);
	ok(bytewise.passed == bytewise.total,
	   "%s: answers cut anywhere read the same", name);
}

int main(void)
{
	run_suite("protocols");
	run_suite("protocols-legacy");
	return done();
}
