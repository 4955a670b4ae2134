/*
 * Requests, answers and validation as botocore makes them from the pinned
 * models (oracle/).  With other models the cases are skipped: expectations
 * depend on them.
 */
#include "vec.h"
#include "vec_http.h"
#include "vec_xml.h"

#include "aws/out.h"
#include "aws/ser.h"
#include "aws/valid.h"

/* The pinned models, told by what is in them. */
static bool pinned(const struct hga_aws_image *img)
{
	static const struct {
		const char *name;
		uint32_t ops, shapes;
	} v[] = {{"ec2", 658, 3413}, {"iam", 164, 519}, {"ssm", 144, 1271},
	         {"sts", 9, 80},     {"logs", 89, 509}, {"pricing", 5, 44}};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		const struct hga_aws_svc *s =
		    hga_aws_svc_find(img, hga_str(v[i].name));

		if (s == NULL || s->r->ops.n != v[i].ops ||
		    s->r->shapes.n != v[i].shapes)
			return false;
	}
	return true;
}

/* ---- parameters: tags become values ---- */

static void untag(struct hga_vtape *t, struct hga_val v)
{
	struct hga_val tag;
	struct hga_vit it;
	struct hga_buf b;

	if (hga_val_is(v, HGA_V_LIST)) {
		(void)hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
		for (it = hga_val_first(v); hga_val_more(it);
		     it = hga_val_next(it))
			untag(t, hga_vit_val(it));
		(void)hga_vt_close(t);
		return;
	}
	if (!hga_val_is(v, HGA_V_MAP)) {
		(void)hga_vt_copy(t, HGA_NO_NAME, v);
		return;
	}
	tag = hga_val_get(v, "$time");
	if (!vec_none(tag)) {
		(void)hga_vt_copy(t, HGA_NO_NAME, tag);
		return;
	}
	tag = hga_val_get(v, "$blob");
	if (!vec_none(tag)) {
		hga_buf_init(&b, 1 << 20);
		if (hga_b64_decode(&b, hga_val_str(tag), NULL) < 0)
			abort();
		(void)hga_vt_str(t, HGA_NO_NAME, hga_buf_str(&b));
		hga_buf_release(&b);
		return;
	}
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (it = hga_val_first(v); hga_val_more(it); it = hga_val_next(it)) {
		(void)hga_vt_key(t, hga_vit_name(&it));
		untag(t, hga_vit_val(it));
	}
	(void)hga_vt_close(t);
}

/* ---- requests ---- */

static bool form_equal(struct hga_str body, struct hga_val want)
{
	uint32_t n = 0;
	size_t at = 0;
	bool same = true;

	while (at < body.n && same) {
		ptrdiff_t amp = hga_str_chr(body, '&', at), eq;
		size_t end = amp < 0 ? body.n : (size_t)amp;
		struct hga_str p = hga_strn(body.s + at, end - at);
		struct hga_buf name, value;

		eq = hga_str_chr(p, '=', 0);
		hga_buf_init(&name, 1 << 20);
		hga_buf_init(&value, 1 << 20);
		if (eq < 0 ||
		    hga_pct_decode(&name, hga_strn(p.s, (size_t)eq), true,
		                   NULL) < 0 ||
		    hga_pct_decode(&value,
		                   hga_strn(p.s + eq + 1, p.n - (size_t)eq - 1),
		                   true, NULL) < 0)
			abort();
		same = hga_str_eq(
		    hga_val_str(hga_val_getn(want, hga_buf_str(&name))),
		    hga_buf_str(&value));
		if (!same)
			printf(
			    "#   %s=%s, want %s\n", hga_buf_text(&name),
			    hga_buf_text(&value),
			    vec_show(hga_val_getn(want, hga_buf_str(&name))));
		hga_buf_release(&name);
		hga_buf_release(&value);
		n++;
		at = end + 1;
	}
	return same && n == hga_val_count(want);
}

static bool raw_equal(struct hga_str got, struct hga_str b64)
{
	struct hga_buf want;
	bool same;

	hga_buf_init(&want, 1 << 24);
	if (hga_b64_decode(&want, b64, NULL) < 0)
		abort();
	same = hga_str_eq(got, hga_buf_str(&want));
	hga_buf_release(&want);
	return same;
}

static const char *check_body(const struct hga_aws_request *r,
                              struct hga_val want)
{
	struct hga_val form = hga_val_get(want, "form");
	struct hga_val json = hga_val_get(want, "json");
	struct hga_val xml = hga_val_get(want, "xml");
	struct hga_val raw = hga_val_get(want, "body_b64");
	struct hga_vtape *t = NULL;
	struct hga_err err;
	bool same;

	if (!vec_none(form))
		return form_equal(hga_buf_str(&r->body), form) ? NULL : "form";
	if (!vec_none(xml))
		return vec_xml_equal(hga_buf_str(&r->body), hga_val_str(xml))
		           ? NULL
		           : "xml";
	if (!vec_none(raw))
		return raw_equal(hga_buf_str(&r->body), hga_val_str(raw))
		           ? NULL
		           : "body";
	if (vec_none(json))
		return NULL;
	if (hga_json_parse(hga_buf_str(&r->body), VEC_TAPE, &t, &err) < 0)
		return "body is no JSON";
	same = hga_val_equal(hga_vtape_root(t), json);
	if (!same)
		printf("#   got: %s\n#  want: %s\n",
		       vec_show(hga_vtape_root(t)), vec_show(json));
	hga_vtape_free(t);
	return same ? NULL : "json";
}

/* The path as we send it against path and query of the case; a query in the
 * model's path stays there in the case. */
static bool url_equal(const struct hga_aws_request *r, struct hga_val want)
{
	struct hga_str path = vec_str(want, "url_path");
	struct hga_str query = vec_str(want, "query");
	char got[8192], expect[8192];

	snprintf(got, sizeof(got), "%s%s%s", hga_buf_text(&r->path),
	         r->query.len > 0 ? "?" : "", hga_buf_text(&r->query));
	snprintf(expect, sizeof(expect), "%.*s%s%.*s", HGA_STRF(path),
	         query.n == 0                    ? ""
	         : hga_str_chr(path, '?', 0) < 0 ? "?"
	                                         : "&",
	         HGA_STRF(query));
	if (vec_uri_equal(got, hga_str(expect)))
		return true;
	printf("#   got: %s\n#  want: %s\n", got, expect);
	return false;
}

static const char *check_headers(const struct hga_aws_request *r,
                                 struct hga_val want)
{
	struct hga_val h = hga_val_get(want, "headers");
	struct hga_vit it;
	char name[256];

	for (it = hga_val_first(h); hga_val_more(it); it = hga_val_next(it)) {
		struct hga_str value = hga_val_str(hga_vit_val(it));
		const char *got;

		snprintf(name, sizeof(name), "%.*s",
		         HGA_STRF(hga_vit_name(&it)));
		got = hga_aws_pairs_get(&r->headers, name);
		/* botocore writes booleans as Python does */
		if ((hga_str_eqc(value, "True") ||
		     hga_str_eqc(value, "False")) &&
		    hga_str_ieqc(value, got != NULL ? got : ""))
			continue;
		if (!vec_header_equal(got, value)) {
			printf("#  %s: %s\n#  want: %.*s\n", name,
			       got != NULL ? got : "(none)", HGA_STRF(value));
			return "header";
		}
	}
	return NULL;
}

static const char *check_request(const struct hga_aws_request *r,
                                 struct hga_val want)
{
	const char *bad;

	if (!hga_str_eqc(vec_str(want, "method"), r->method))
		return "method";
	if (!url_equal(r, want))
		return "path or query";
	if (!hga_str_eqc(vec_str(want, "host_prefix"),
	                 hga_buf_text(&r->host_prefix)))
		return "host prefix";
	bad = check_headers(r, want);
	return bad != NULL ? bad : check_body(r, want);
}

static void request_case(struct vec_count *n, const struct hga_aws_svc *svc,
                         struct hga_val c)
{
	struct hga_vtape *t = hga_vtape_new(NULL, VEC_TAPE);
	struct hga_aws_ser s = {
	    .op = hga_aws_op_find(svc, vec_str(c, "operation"))};
	struct hga_buf report;
	struct hga_aws_request r;
	struct hga_err err = {.kind = HGA_OK};
	const char *bad;

	memset(&r, 0, sizeof(r));
	hga_buf_init(&report, 1 << 20);
	untag(t, hga_val_get(c, "params"));
	if (hga_vt_end(t, &err) < 0)
		abort();
	s.params = hga_vtape_root(t);
	if (s.op.r == NULL)
		bad = "no such operation";
	else if (hga_aws_validate(s.op, s.params, &report, NULL, &err) < 0)
		bad = err.msg;
	else if (hga_aws_serialize(&s, &r, &err) < 0)
		bad = err.msg;
	else
		bad = check_request(&r, hga_val_get(c, "expect"));
	vec_case(n, bad == NULL, vec_cstr(c, "caseId"), bad);
	hga_aws_request_release(&r);
	hga_buf_release(&report);
	hga_vtape_free(t);
}

/* ---- answers ---- */

static void add_head(struct hga_buf *out, struct hga_val headers)
{
	struct hga_vit it;
	size_t i;

	for (it = hga_val_first(headers); hga_val_more(it);
	     it = hga_val_next(it)) {
		size_t at = out->len;

		if (hga_buf_addf(out, NULL, "%.*s: %.*s\n",
		                 HGA_STRF(hga_vit_name(&it)),
		                 HGA_STRF(hga_val_str(hga_vit_val(it)))) < 0)
			abort();
		for (i = at; out->data[i] != ':'; i++)
			if (out->data[i] >= 'A' && out->data[i] <= 'Z')
				out->data[i] = (char)(out->data[i] + 32);
	}
}

static void answer_case(struct vec_count *n, const struct hga_aws_svc *svc,
                        struct hga_val c)
{
	struct hga_aws_op op = hga_aws_op_find(svc, vec_str(c, "operation"));
	struct hga_str body = vec_str(c, "body");
	struct hga_val want = hga_val_get(c, "expect");
	struct hga_vtape *t = hga_vtape_new(&svc->names, VEC_TAPE);
	struct hga_aws_out *o = hga_aws_out_new(op, NULL, t);
	enum hga_aws_answer kind = HGA_ANSWER_OK;
	struct hga_err err = {.kind = HGA_OK};
	const char *bad = NULL;
	struct hga_buf head;
	size_t at;
	int rc;

	hga_buf_init(&head, 1 << 16);
	add_head(&head, hga_val_get(c, "headers"));
	rc = hga_aws_out_head(o, (int)hga_val_int(hga_val_get(c, "status"), 0),
	                      hga_buf_str(&head), &err);
	for (at = 0; rc == 0 && at < body.n; at += 97)
		rc = hga_aws_out_feed(
		    o, body.s + at, body.n - at < 97 ? body.n - at : 97, &err);
	if (rc == 0)
		rc = hga_aws_out_finish(o, &kind, &err);
	if (rc < 0)
		bad = err.msg;
	else if (kind != HGA_ANSWER_OK)
		bad = "an error";
	else if (!vec_equal(hga_vtape_root(t), want))
		bad = "result";
	if (!vec_case(n, bad == NULL, vec_cstr(c, "caseId"), bad) && rc == 0)
		printf("#   got: %s\n#  want: %s\n",
		       vec_show(hga_vtape_root(t)), vec_show(want));
	hga_buf_release(&head);
	hga_aws_out_free(o);
	hga_vtape_free(t);
}

/* ---- validation ---- */

struct problem {
	char text[512]; /* "kind|path|name" */
};

struct problems {
	struct problem v[64];
	unsigned n;
};

/* Path with 1-based indices as one with 0-based ones. */
static void zero_based(char *out, size_t size, struct hga_str path, bool ours)
{
	size_t i = 0, n = 0;

	while (i < path.n && n + 16 < size) {
		out[n++] = path.s[i++];
		if (!ours || out[n - 1] != '[')
			continue;
		n += (size_t)snprintf(out + n, size - n, "%d",
		                      (int)strtol(path.s + i, NULL, 10) - 1);
		while (i < path.n && path.s[i] >= '0' && path.s[i] <= '9')
			i++;
	}
	out[n] = '\0';
}

static void add_problem(struct problems *p, const char *kind,
                        struct hga_str path, struct hga_str name, bool ours)
{
	char at[256];

	zero_based(at, sizeof(at), path, ours);
	if (p->n < 64)
		snprintf(p->v[p->n++].text, sizeof(p->v[0].text), "%s|%s|%.*s",
		         kind, at, HGA_STRF(name));
}

static void read_line(struct problems *p, struct hga_str line, bool ours)
{
	static const char *const heads[] = {
	    "Missing required parameter in ", "Unknown parameter in ",
	    "Invalid type for parameter ", "Invalid length for parameter ",
	    "Invalid value for parameter "};
	struct hga_str none = {"", 0}, rest, path, name;
	ptrdiff_t cut;
	size_t i;

	for (i = 0; i < 5; i++)
		if (hga_str_starts(line, heads[i]))
			break;
	if (i == 5)
		return;
	rest = hga_strn(line.s + strlen(heads[i]), line.n - strlen(heads[i]));
	if (i >= 2) {
		cut = hga_str_find(rest, HGA_STR(", value: "));
		path = hga_strn(rest.s, cut < 0 ? rest.n : (size_t)cut);
		/* an explicit null is an absent member here */
		if (hga_str_find(rest, HGA_STR("NoneType")) >= 0)
			add_problem(p, heads[0], HGA_STR("input"), path, ours);
		else
			add_problem(p, heads[i], path, none, ours);
		return;
	}
	cut = hga_str_find(rest, HGA_STR(": \""));
	path = hga_strn(rest.s, (size_t)cut);
	name = hga_strn(rest.s + cut + 3, rest.n - (size_t)cut - 3);
	cut = hga_str_chr(name, '"', 0);
	name.n = (size_t)cut;
	add_problem(p, heads[i], path, name, ours);
}

static int problem_cmp(const void *a, const void *b)
{
	const struct problem *x = a, *y = b;

	return strcmp(x->text, y->text);
}

static void read_report(struct problems *p, struct hga_str text, bool ours)
{
	size_t at = 0;

	p->n = 0;
	while (at < text.n) {
		ptrdiff_t nl = hga_str_chr(text, '\n', at);
		size_t end = nl < 0 ? text.n : (size_t)nl;

		read_line(p, hga_strn(text.s + at, end - at), ours);
		at = end + 1;
	}
	qsort(p->v, p->n, sizeof(p->v[0]), problem_cmp);
}

static bool same_problems(const struct problems *a, const struct problems *b)
{
	unsigned i;

	if (a->n != b->n)
		return false;
	for (i = 0; i < a->n; i++)
		if (strcmp(a->v[i].text, b->v[i].text) != 0)
			return false;
	return true;
}

static void valid_case(struct vec_count *n, const struct hga_aws_image *img,
                       struct hga_val c)
{
	static struct problems got, want;
	const struct hga_aws_svc *svc =
	    hga_aws_svc_find(img, vec_str(c, "service"));
	struct hga_aws_op op = hga_aws_op_find(svc, vec_str(c, "operation"));
	struct hga_vtape *t = hga_vtape_new(NULL, VEC_TAPE);
	struct hga_err err = {.kind = HGA_OK};
	const char *bad = NULL;
	struct hga_buf report;
	int rc;

	hga_buf_init(&report, 1 << 20);
	untag(t, hga_val_get(c, "params"));
	if (hga_vt_end(t, &err) < 0)
		abort();
	rc = hga_aws_validate(op, hga_vtape_root(t), &report, NULL, &err);
	read_report(&got, hga_buf_str(&report), true);
	read_report(&want, vec_str(c, "report"), false);
	if (hga_val_bool(hga_val_get(c, "ok"), true) != (rc == 0))
		bad = "accepted or refused wrongly";
	else if (!same_problems(&got, &want))
		bad = hga_buf_text(&report);
	vec_case(n, bad == NULL, vec_cstr(c, "caseId"), bad);
	hga_buf_release(&report);
	hga_vtape_free(t);
}

/* ---- files ---- */

static void run_file(struct vec_count *n, const struct hga_aws_image *img,
                     const char *path, const char *what)
{
	struct hga_vtape *t = vec_json(path);
	struct hga_val doc = hga_vtape_root(t);
	struct hga_val cases = hga_val_get(doc, "cases");
	const struct hga_aws_svc *svc =
	    hga_aws_svc_find(img, vec_str(doc, "service"));
	struct hga_vit it;

	n->lie += hga_val_count(cases);
	for (it = hga_val_first(cases); hga_val_more(it);
	     it = hga_val_next(it)) {
		if (what[0] == 'v')
			valid_case(n, img, hga_vit_val(it));
		else if (svc == NULL)
			vec_case(n, false, vec_cstr(hga_vit_val(it), "caseId"),
			         "no such service in the models");
		else if (what[2] == 'q')
			request_case(n, svc, hga_vit_val(it));
		else
			answer_case(n, svc, hga_vit_val(it));
	}
	hga_vtape_free(t);
}

static void run(const struct hga_aws_image *img, const char *what)
{
	struct vec_count n = {.name = what};
	char pattern[4200];
	size_t i;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/%s*.json", vec_path("oracle"),
	         what);
	if (glob(pattern, 0, NULL, &g) != 0) {
		skip("no third-party cases: set HGAUTO_VECTORS");
		return;
	}
	for (i = 0; i < g.gl_pathc; i++)
		run_file(&n, img, g.gl_pathv[i], what);
	globfree(&g);
	vec_end(&n);
}

int main(void)
{
	struct hga_aws_image *img = vec_models();

	if (img == NULL) {
		skip("no model image: build it or set HGAUTO_MODELS");
	} else if (!pinned(img)) {
		skip("the models are not the pinned ones (vendor/manifest)");
	} else {
		run(img, "requests");
		run(img, "responses");
		run(img, "validation");
	}
	hga_aws_image_free(img);
	return done();
}
