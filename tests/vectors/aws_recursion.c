/*
 * Recursion detection: the trace id of a Lambda function in the headers of
 * its calls (recursion-detection.json).
 */
#include "vec.h"

#include "../unit/aws_env.h"
#include "aws/client.h"

/* "K: V" lines as headers. */
static void set_headers(struct hga_aws_pairs *h, struct hga_val list)
{
	struct hga_vit it;

	for (it = hga_val_first(list); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_str line = hga_val_str(hga_vit_val(it));
		ptrdiff_t at = hga_str_find(line, HGA_STR(": "));

		if (at < 0 ||
		    hga_aws_pairs_add(
		        h, hga_strn(line.s, (size_t)at),
		        hga_strn(line.s + at + 2, line.n - (size_t)at - 2),
		        NULL) < 0)
			abort();
	}
}

static bool same_headers(const struct hga_aws_pairs *got,
                         const struct hga_aws_pairs *want)
{
	for (size_t i = 0; i < want->n; i++) {
		const char *v = hga_aws_pairs_get(got, want->v[i].name);

		if (v == NULL || strcmp(v, want->v[i].value) != 0)
			return false;
	}
	return got->n == want->n;
}

static void one_case(struct vec_count *n, struct hga_val c)
{
	struct hga_aws_pairs got = {0}, want = {0};
	struct hga_val env = hga_val_get(c, "env");
	char names[32][64], values[32][1024];
	struct fake_env f;
	struct hga_err err = {0};
	struct hga_vit it;
	size_t i = 0;
	bool good;

	fake_init(&f);
	for (it = hga_val_first(env); hga_val_more(it) && i < 31;
	     it = hga_val_next(it), i++) {
		snprintf(names[i], sizeof(names[i]), "%.*s",
		         HGA_STRF(hga_vit_name(&it)));
		snprintf(values[i], sizeof(values[i]), "%.*s",
		         HGA_STRF(hga_val_str(hga_vit_val(it))));
		fake_var(&f, names[i], values[i]);
	}
	set_headers(&got, hga_val_get(c, "requestHeadersBefore"));
	set_headers(&want, hga_val_get(c, "requestHeadersAfter"));
	good = aws_add_trace_id(&f.env, &got, &err) == 0 &&
	       same_headers(&got, &want);
	vec_case(n, good, vec_cstr(c, "caseId"),
	         got.n > 0 ? got.v[0].value : "no header");
	hga_aws_pairs_release(&got);
	hga_aws_pairs_release(&want);
}

/* What the one shared case does not cover; the texts are the SDKs' rules. */
static void own_case(const char *fn, const char *id, const char *before,
                     const char *want, const char *what)
{
	struct hga_aws_pairs h = {0};
	struct fake_env f;
	const char *got;

	fake_init(&f);
	if (fn != NULL)
		fake_var(&f, "AWS_LAMBDA_FUNCTION_NAME", fn);
	if (id != NULL)
		fake_var(&f, "_X_AMZN_TRACE_ID", id);
	if (before != NULL && hga_aws_pairs_add(&h, HGA_STR("x-amzn-trace-id"),
	                                        hga_str(before), NULL) < 0)
		abort();
	if (aws_add_trace_id(&f.env, &h, NULL) < 0)
		abort();
	got = hga_aws_pairs_get(&h, "X-Amzn-Trace-Id");
	is_str(got, want, what);
	hga_aws_pairs_release(&h);
}

int main(void)
{
	struct vec_count n = {.name = "recursion-detection"};
	struct hga_vtape *t = vec_json(vec_path("recursion-detection.json"));
	struct hga_vit it;

	if (t == NULL) {
		skip("no third-party cases: set HGAUTO_VECTORS");
	} else {
		for (it = hga_val_first(hga_vtape_root(t)); hga_val_more(it);
		     it = hga_val_next(it))
			one_case(&n, hga_vit_val(it));
		ok(n.total == hga_val_count(hga_vtape_root(t)),
		   "recursion-detection: %u cases ran", n.total);
		vec_end(&n);
	}
	hga_vtape_free(t);
	own_case("f", "Root=1;Parent=2", NULL, "Root=1;Parent=2",
	         "the id goes on");
	own_case(NULL, "Root=1", NULL, NULL, "not outside of Lambda");
	own_case("f", NULL, NULL, NULL, "not without an id");
	own_case("f", "Root=1", "mine", "mine", "the caller's own stays");
	own_case("f", "a\nb\xc3\xa9", NULL, "a%0Ab%C3%A9",
	         "control and other bytes are encoded");
	return done();
}
