/*
 * JMESPath compliance cases.
 */
#include "vec.h"

#include "aws/jmespath.h"

static const char *code_of(const char *want)
{
	static const char *const v[][2] = {
	    {"syntax", "Syntax"},
	    {"invalid-type", "InvalidType"},
	    {"invalid-arity", "InvalidArity"},
	    {"invalid-value", "InvalidValue"},
	    {"unknown-function", "UnknownFunction"},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (strcmp(v[i][0], want) == 0)
			return v[i][1];
	return want;
}

static void one(struct vec_count *n, struct hga_val given, struct hga_val c)
{
	struct hga_val want = hga_val_get(c, "result");
	const char *id = vec_cstr(c, "caseId");
	const char *code = vec_cstr(c, "error");
	struct hga_vtape *t = NULL;
	struct hga_err err = {.kind = HGA_OK};
	const char *bad = NULL;
	int rc;

	rc = hga_jp_query(vec_str(c, "expression"), given, &t, &err);
	if (code[0] != '\0') {
		if (rc == 0)
			bad = "no error";
		else if (strcmp(err.code, code_of(code)) != 0)
			bad = "another error";
	} else if (rc < 0) {
		bad = err.msg;
	} else if (hga_val_type(want) != HGA_V_NONE &&
	           !hga_val_equal(hga_vtape_root(t), want)) {
		bad = "result";
	}
	if (!vec_case(n, bad == NULL, id, bad))
		printf("#   expression: %s\n#   got: %s\n#  want: %s%s\n",
		       vec_cstr(c, "expression"),
		       rc < 0 ? err.msg : vec_show(hga_vtape_root(t)),
		       vec_show(want), code);
	hga_vtape_free(t);
}

static void run_file(struct vec_count *n, const char *path)
{
	struct hga_vtape *t = vec_json(path);
	struct hga_vit g, c;

	for (g = hga_val_first(hga_vtape_root(t)); hga_val_more(g);
	     g = hga_val_next(g)) {
		struct hga_val cases = hga_val_get(hga_vit_val(g), "cases");

		for (c = hga_val_first(cases); hga_val_more(c);
		     c = hga_val_next(c))
			one(n, hga_val_get(hga_vit_val(g), "given"),
			    hga_vit_val(c));
	}
	hga_vtape_free(t);
}

int main(void)
{
	struct vec_count n = {.name = "jmespath"};
	char pattern[4200];
	size_t i;
	glob_t g;

	snprintf(pattern, sizeof(pattern), "%s/*.json", vec_path("jmespath"));
	if (glob(pattern, 0, NULL, &g) != 0) {
		skip("no third-party cases: set HGAUTO_VECTORS");
		return done();
	}
	for (i = 0; i < g.gl_pathc; i++)
		run_file(&n, g.gl_pathv[i]);
	globfree(&g);
	vec_end(&n);
	return done();
}
