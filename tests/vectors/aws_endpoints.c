/*
 * Endpoint rules: every case of endpoints/ and endpoint-rules/ through the
 * interpreter (aws.md sections 10 and 18).  Where a case also names
 * operations with their input, what the rules are asked is made of that
 * input and the built-in models, and must give the same answer.
 */
#include "vec.h"

#include "aws/endpoint.h"
#include "aws/rules.h"

static struct hga_aws_image *img; /* NULL: none was built */

/* Directory of the rulesets: the named one, else the last botocore's. */
static const char *rulesets(void)
{
	static char dir[4200];
	char pattern[4200];
	struct stat st;
	glob_t g;

	snprintf(dir, sizeof(dir), "%s",
	         vec_path("common/rulesets/botocore-1.43.67"));
	if (stat(dir, &st) == 0)
		return dir;
	snprintf(pattern, sizeof(pattern), "%s/botocore-*",
	         vec_path("common/rulesets"));
	if (glob(pattern, 0, NULL, &g) == 0) {
		snprintf(dir, sizeof(dir), "%s", g.gl_pathv[g.gl_pathc - 1]);
		globfree(&g);
	}
	return dir;
}

/* Expected headers are lists of values by name. */
static bool same_headers(const struct hga_aws_pairs *got, struct hga_val want)
{
	struct hga_vit h, it;
	size_t n = 0;

	for (h = hga_val_first(want); hga_val_more(h); h = hga_val_next(h)) {
		struct hga_val list = hga_vit_val(h);

		for (it = hga_val_first(list); hga_val_more(it);
		     it = hga_val_next(it), n++) {
			if (n >= got->n ||
			    !hga_str_eqc(hga_vit_name(&h), got->v[n].name) ||
			    !hga_str_eqc(hga_val_str(hga_vit_val(it)),
			                 got->v[n].value))
				return false;
		}
	}
	return n == got->n;
}

static const char *compare(const struct hga_rules_result *r,
                           struct hga_val want)
{
	const struct hga_val none = {NULL, 0};
	struct hga_val e = hga_val_get(want, "endpoint");
	struct hga_val got =
	    r->properties != NULL ? hga_vtape_root(r->properties) : none;
	struct hga_val props = hga_val_get(e, "properties");

	if (vec_none(e)) {
		if (!r->refused)
			return "an endpoint where an error is expected";
		return hga_str_eqc(vec_str(want, "error"),
		                   hga_buf_text(&r->text))
		           ? NULL
		           : hga_buf_text(&r->text);
	}
	if (r->refused)
		return hga_buf_text(&r->text);
	if (!hga_str_eqc(vec_str(e, "url"), hga_buf_text(&r->text)))
		return hga_buf_text(&r->text);
	if (!same_headers(&r->headers, hga_val_get(e, "headers")))
		return "headers";
	if (hga_val_count(props) == 0)
		return vec_none(got) ? NULL : "unexpected properties";
	return vec_equal(got, props) ? NULL : vec_show(got);
}

/* ---- from an operation's input ---- */

static struct vec_count inputs = {.name = "endpoint operation inputs"};

/* Built-ins and client parameters as one map. */
static struct hga_vtape *settings_of(struct hga_val input)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 20);
	const char *const from[] = {"builtInParams", "clientParams"};

	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (int i = 0; i < 2; i++) {
		struct hga_vit it = hga_val_first(hga_val_get(input, from[i]));

		for (; hga_val_more(it); it = hga_val_next(it)) {
			(void)hga_vt_key(t, hga_vit_name(&it));
			(void)hga_vt_copy(t, HGA_NO_NAME, hga_vit_val(it));
		}
	}
	(void)hga_vt_close(t);
	return t;
}

static void one_input(const struct hga_aws_svc *svc,
                      const struct hga_rules *rules,
                      struct hga_partitions *parts, struct hga_val c,
                      struct hga_val input)
{
	struct hga_vtape *settings = settings_of(input);
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 20);
	struct hga_aws_endpoint_args a = {.svc = svc, .rules = rules};
	struct hga_rules_result res = {0};
	struct hga_err err = {0};
	const char *bad;

	a.op = hga_aws_op_find(svc, vec_str(input, "operationName"));
	a.params = hga_val_get(input, "operationParams");
	a.settings = hga_vtape_root(settings);
	if (a.op.r == NULL) {
		inputs.skipped++;
		bad = NULL;
	} else if (hga_aws_endpoint_params(&a, t, &err) < 0 ||
	           hga_rules_eval(rules, parts, hga_vtape_root(t), &res, &err) <
	               0) {
		bad = err.msg;
	} else {
		bad = compare(&res, hga_val_get(c, "expect"));
	}
	if (a.op.r != NULL)
		vec_case(&inputs, bad == NULL, vec_cstr(c, "caseId"), bad);
	hga_rules_result_release(&res);
	hga_vtape_free(settings);
	hga_vtape_free(t);
}

static void operation_inputs(const struct hga_aws_svc *svc,
                             const struct hga_rules *rules,
                             struct hga_partitions *parts, struct hga_val c)
{
	struct hga_vit it = hga_val_first(hga_val_get(c, "operationInputs"));

	for (; svc != NULL && rules != NULL && hga_val_more(it);
	     it = hga_val_next(it))
		one_input(svc, rules, parts, c, hga_vit_val(it));
}

/* ---- cases ---- */

static void one_case(struct vec_count *n, const struct hga_rules *rules,
                     struct hga_partitions *parts, struct hga_val c)
{
	struct hga_rules_result res = {0};
	struct hga_err err = {0};
	const char *bad;

	if (rules == NULL)
		bad = "no ruleset of that name";
	else if (hga_rules_eval(rules, parts, hga_val_get(c, "params"), &res,
	                        &err) < 0)
		bad = err.msg;
	else
		bad = compare(&res, hga_val_get(c, "expect"));
	vec_case(n, bad == NULL, vec_cstr(c, "caseId"), bad);
	hga_rules_result_release(&res);
}

static uint32_t run_file(struct vec_count *n, const char *path,
                         const char *rules_dir, struct hga_partitions *parts)
{
	struct hga_vtape *t = vec_json(path);
	struct hga_val cases = hga_val_get(hga_vtape_root(t), "testCases");
	uint32_t count = hga_val_count(cases);
	const struct hga_aws_svc *svc =
	    img == NULL
	        ? NULL
	        : hga_aws_svc_find(img, vec_str(hga_vtape_root(t), "service"));
	struct hga_rules *rules = NULL;
	struct hga_err err = {0};
	struct hga_vit it;
	char own[4400], *text;
	size_t size = 0;

	snprintf(own, sizeof(own), "%s/%s", rules_dir, strrchr(path, '/') + 1);
	text = vec_read(own, &size);
	if (text != NULL &&
	    hga_rules_new(&rules, hga_strn(text, size), &err) < 0)
		printf("# %s: %s\n", own, err.msg);
	hga_free(text);
	for (it = hga_val_first(cases); hga_val_more(it);
	     it = hga_val_next(it)) {
		one_case(n, rules, parts, hga_vit_val(it));
		operation_inputs(svc, rules, parts, hga_vit_val(it));
	}
	hga_rules_free(rules);
	hga_vtape_free(t);
	return count;
}

static void run(const char *suite, const char *rules_dir,
                struct hga_partitions *parts)
{
	struct vec_count n = {.name = suite};
	char pattern[4200];
	uint32_t lie = 0;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/*.json", vec_path(suite));
	if (glob(pattern, 0, NULL, &g) != 0) {
		skip("no third-party cases: set HGAUTO_VECTORS");
		return;
	}
	for (size_t i = 0; i < g.gl_pathc; i++)
		lie += run_file(&n, g.gl_pathv[i], rules_dir, parts);
	globfree(&g);
	ok(n.total == lie, "%s: %u cases lie there and ran", suite, lie);
	vec_end(&n);
}

int main(void)
{
	char dir[4200], own[4200], path[4300], *text;
	size_t size = 0;
	struct hga_partitions *parts = NULL;
	struct hga_err err = {0};

	snprintf(dir, sizeof(dir), "%s", rulesets());
	snprintf(own, sizeof(own), "%s",
	         vec_path("common/endpoint-rules-rulesets"));
	snprintf(path, sizeof(path), "%s/partitions.json", dir);
	text = vec_read(path, &size);
	if (hga_partitions_new(&parts, hga_strn(text, size), &err) < 0)
		abort();
	img = vec_models();
	run("endpoints", dir, parts);
	run("endpoint-rules", own, parts);
	if (inputs.total > 0)
		vec_end(&inputs);
	hga_aws_image_free(img);
	hga_partitions_free(parts);
	hga_free(text);
	return done();
}
