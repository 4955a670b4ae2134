/*
 * Recorded answers of real services (response/): XML with the table that must
 * come out.  Timestamps stay text; policy documents of iam become tables, as
 * calls have them.
 */
#include "vec.h"

#include "aws/out.h"

static bool same(struct hga_val got, struct hga_val want, bool top)
{
	struct hga_vit a, b;
	uint32_t n = 0;

	if (hga_val_is(got, HGA_V_LIST) && hga_val_is(want, HGA_V_LIST)) {
		if (hga_val_count(got) != hga_val_count(want))
			return false;
		a = hga_val_first(got);
		for (b = hga_val_first(want); hga_val_more(b);
		     a = hga_val_next(a), b = hga_val_next(b))
			if (!same(hga_vit_val(a), hga_vit_val(b), false))
				return false;
		return true;
	}
	if (!hga_val_is(want, HGA_V_MAP))
		return vec_equal(got, want);
	for (b = hga_val_first(want); hga_val_more(b); b = hga_val_next(b)) {
		struct hga_str name = hga_vit_name(&b);

		if (top && hga_str_eqc(name, "ResponseMetadata"))
			continue;
		n++;
		if (!same(hga_val_getn(got, name), hga_vit_val(b), false))
			return false;
	}
	return hga_val_count(got) == n;
}

static const char *check(struct hga_aws_out *o, struct hga_vtape *t,
                         enum hga_aws_answer kind, struct hga_val want)
{
	struct hga_str id =
	    vec_str(hga_val_get(want, "ResponseMetadata"), "RequestId");
	struct hga_val e = hga_val_get(want, "Error");
	static char why[5000];

	if (id.n > 0 && !hga_str_eqc(id, hga_aws_out_request_id(o)))
		return "request id";
	if (!vec_none(e)) {
		const struct hga_aws_error *err = hga_aws_out_error(o);

		if (kind != HGA_ANSWER_ERROR)
			return "a result, but an error is expected";
		if (!hga_str_eqc(vec_str(e, "Code"), err->code) ||
		    !hga_str_eq(vec_str(e, "Message"),
		                hga_buf_str(&err->message)))
			return "code or message";
		return NULL;
	}
	if (kind != HGA_ANSWER_OK)
		return "an error, but a result is expected";
	if (same(hga_vtape_root(t), want, true))
		return NULL;
	snprintf(why, sizeof(why), "result\n#   got: %s\n#  want: %s",
	         vec_show(hga_vtape_root(t)), vec_show(want));
	return why;
}

static void run(struct vec_count *n, struct hga_aws_op op, const char *id,
                int status, struct hga_str body, struct hga_val want)
{
	struct hga_aws_vopt opt = {.raw_time = true, .documents = true};
	struct hga_vtape *t = hga_vtape_new(&op.svc->names, VEC_TAPE);
	struct hga_aws_out *o = hga_aws_out_new(op, &opt, t);
	enum hga_aws_answer kind = HGA_ANSWER_OK;
	struct hga_err err = {.kind = HGA_OK};
	const char *bad;
	int rc;

	rc = hga_aws_out_head(o, status, hga_str(""), &err);
	if (rc == 0)
		rc = hga_aws_out_feed(o, body.s, body.n, &err);
	if (rc == 0)
		rc = hga_aws_out_finish(o, &kind, &err);
	bad = rc < 0 ? err.msg : check(o, t, kind, want);
	vec_case(n, bad == NULL, id, bad);
	hga_aws_out_free(o);
	hga_vtape_free(t);
}

/* .../SERVICE-OPERATION.xml */
static void run_file(struct vec_count *n, const struct hga_aws_image *img,
                     const char *path, int status)
{
	const char *base = strrchr(path, '/') + 1;
	const char *dash = strchr(base, '-');
	const struct hga_aws_svc *svc;
	struct hga_vtape *want;
	struct hga_aws_op op;
	char json[4200];
	size_t len = 0;
	char *body;

	n->lie++;
	svc = hga_aws_svc_find(img, hga_strn(base, (size_t)(dash - base)));
	if (svc == NULL) {
		vec_case(n, false, base, "no such service in the models");
		return;
	}
	op = hga_aws_op_find(svc, hga_strn(dash + 1, strlen(dash + 1) - 4));
	if (op.r == NULL) {
		vec_case(n, false, base, "no such operation in the models");
		return;
	}
	snprintf(json, sizeof(json), "%.*s.json", (int)strlen(path) - 4, path);
	want = vec_json(json);
	body = vec_read(path, &len);
	run(n, op, base, status, hga_strn(body, len), hga_vtape_root(want));
	hga_free(body);
	hga_vtape_free(want);
}

static void run_dir(struct vec_count *n, const struct hga_aws_image *img,
                    const char *dir, int status)
{
	char pattern[4200];
	size_t i;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/%s/*.xml", vec_path("response"),
	         dir);
	if (glob(pattern, 0, NULL, &g) != 0)
		return;
	for (i = 0; i < g.gl_pathc; i++)
		run_file(n, img, g.gl_pathv[i], status);
	globfree(&g);
}

int main(void)
{
	struct vec_count n = {.name = "response"};
	struct hga_aws_image *img = vec_models();

	if (img == NULL) {
		skip("no model image: build it or set HGAUTO_MODELS");
	} else if (!vec_there("response")) {
		skip("no third-party cases: set HGAUTO_VECTORS");
	} else {
		run_dir(&n, img, "responses", 200);
		run_dir(&n, img, "errors", 400);
		vec_end(&n);
		ok(n.total > 0, "there were cases");
	}
	hga_aws_image_free(img);
	return done();
}
