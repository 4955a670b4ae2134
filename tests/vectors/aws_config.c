/*
 * Profile files, configured endpoints and file locations: the shared cases of
 * the SDK teams, over a world without a file system.
 */
#include "vec.h"

#include "../unit/aws_env.h"

#include "aws/config.h"
#include "base/log.h"

#define NO_CASES "no third-party cases (HGAUTO_VECTORS)"

/* Texts that live until the end of a case. */
static char pool[64][4096];
static unsigned pool_at;

static const char *keep(struct hga_str s)
{
	char *p = pool[pool_at++ % 64];

	snprintf(p, sizeof(pool[0]), "%.*s", (int)s.n, s.s);
	return p;
}

/* ---- profile-parser ---- */

static size_t merged_count(const struct hga_aws_config *c)
{
	const struct hga_ini_section *a = hga_aws_config_section(c, true);
	const struct hga_ini_section *b = hga_aws_config_section(c, false);
	size_t n = a != NULL ? a->n : 0;

	for (size_t i = 0; b != NULL && i < b->n; i++) {
		if (a == NULL || hga_ini_get(a, b->props[i].name) == NULL)
			n++;
	}
	return n;
}

static bool same_profile(struct fake_env *f, struct hga_str name,
                         struct hga_val want)
{
	struct hga_aws_config c;
	struct hga_err err = {0};
	struct hga_vit it;
	bool good;

	hga_aws_config_init(&c, &f->env);
	good = hga_aws_config_arg(&c, HGA_SET_PROFILE, name, &err) == 0 &&
	       hga_aws_config_load(&c, &err) == 0 &&
	       merged_count(&c) == hga_val_count(want);
	for (it = hga_val_first(want); good && hga_val_more(it);
	     it = hga_val_next(it)) {
		const char *v =
		    hga_aws_config_prop(&c, keep(hga_vit_name(&it)));

		good =
		    v != NULL && hga_str_eqc(hga_val_str(hga_vit_val(it)), v);
	}
	hga_aws_config_release(&c);
	return good;
}

/* Profiles in the files that nobody expects. */
static bool no_others(struct fake_env *f, struct hga_val profiles)
{
	struct hga_aws_config c;
	struct hga_err err = {0};
	bool good;

	hga_aws_config_init(&c, &f->env);
	good = hga_aws_config_load(&c, &err) == 0;
	for (size_t i = 0; good && i < c.config.n; i++) {
		const struct hga_ini_section *s = &c.config.sections[i];

		if (strcmp(s->type, "profile") == 0)
			good = !vec_none(hga_val_get(profiles, s->name));
	}
	for (size_t i = 0; good && i < c.credentials.n; i++) {
		const struct hga_ini_section *s = &c.credentials.sections[i];

		if (s->type[0] == '\0')
			good = !vec_none(hga_val_get(profiles, s->name));
	}
	hga_aws_config_release(&c);
	return good;
}

static void set_files(struct fake_env *f, struct hga_val in)
{
	struct hga_val conf = hga_val_get(in, "configFile");
	struct hga_val cred = hga_val_get(in, "credentialsFile");

	fake_init(f);
	if (!vec_none(conf))
		fake_file(f, "/pw-home/.aws/config", keep(hga_val_str(conf)));
	if (!vec_none(cred))
		fake_file(f, "/pw-home/.aws/credentials",
		          keep(hga_val_str(cred)));
}

static bool parser_case(struct hga_val c)
{
	struct hga_val out = hga_val_get(c, "output"), profiles;
	struct fake_env f;
	struct hga_vit it;

	set_files(&f, hga_val_get(c, "input"));
	if (!vec_none(hga_val_get(out, "errorContaining"))) {
		struct hga_aws_config cfg;
		int rc;

		hga_aws_config_init(&cfg, &f.env);
		rc = hga_aws_config_load(&cfg, NULL);
		hga_aws_config_release(&cfg);
		return rc == -HGA_USAGE;
	}
	profiles = hga_val_get(hga_val_get(out, "config"), "profiles");
	for (it = hga_val_first(profiles); hga_val_more(it);
	     it = hga_val_next(it)) {
		if (!same_profile(&f, hga_vit_name(&it), hga_vit_val(it)))
			return false;
	}
	return no_others(&f, profiles);
}

static void each(const char *file, const char *name, const char *list,
                 bool (*fn)(struct hga_val))
{
	struct vec_count count = {.name = name};
	struct hga_vtape *t = vec_json(vec_path(file));
	struct hga_vit it;

	if (t == NULL) {
		skip(NO_CASES);
		return;
	}
	it = hga_val_first(hga_val_get(hga_vtape_root(t), list));
	for (; hga_val_more(it); it = hga_val_next(it))
		vec_case(&count, fn(hga_vit_val(it)),
		         vec_cstr(hga_vit_val(it), "caseId"), "differs");
	vec_end(&count);
	hga_vtape_free(t);
}

/* ---- file locations ---- */

static bool location_case(struct hga_val c)
{
	static const char *const files[] = {"config", "credentials"};
	static const char *const keys[] = {"configLocation",
	                                   "credentialsLocation"};
	bool windows = hga_str_eqc(vec_str(c, "platform"), "windows");
	struct fake_env f;
	struct hga_vit it;
	bool good = true;

	fake_init(&f);
	it = hga_val_first(hga_val_get(c, "environment"));
	for (; hga_val_more(it); it = hga_val_next(it))
		fake_var(&f, keep(hga_vit_name(&it)),
		         keep(hga_val_str(hga_vit_val(it))));
	for (size_t i = 0; i < 2; i++) {
		struct hga_buf b;

		hga_buf_init(&b, 4096);
		good = good &&
		       hga_aws_default_path(&f.env, windows, files[i], &b,
		                            NULL) == 0 &&
		       hga_str_eq(hga_buf_str(&b), vec_str(c, keys[i]));
		hga_buf_release(&b);
	}
	return good;
}

/* ---- configured endpoints ---- */

static void add_services(char *out, size_t size, struct hga_val services)
{
	for (struct hga_vit a = hga_val_first(services); hga_val_more(a);
	     a = hga_val_next(a)) {
		size_t n = strlen(out);

		snprintf(out + n, size - n, "[services %s]\n",
		         keep(hga_vit_name(&a)));
		for (struct hga_vit b = hga_val_first(hga_vit_val(a));
		     hga_val_more(b); b = hga_val_next(b)) {
			n = strlen(out);
			snprintf(out + n, size - n,
			         "%s =\n  endpoint_url = %s\n",
			         keep(hga_vit_name(&b)),
			         vec_cstr(hga_vit_val(b), "endpoint_url"));
		}
	}
}

static void add_profiles(char *out, size_t size, struct hga_val profiles)
{
	for (struct hga_vit a = hga_val_first(profiles); hga_val_more(a);
	     a = hga_val_next(a)) {
		size_t n = strlen(out);

		snprintf(out + n, size - n, "[profile %s]\n",
		         keep(hga_vit_name(&a)));
		for (struct hga_vit b = hga_val_first(hga_vit_val(a));
		     hga_val_more(b); b = hga_val_next(b)) {
			n = strlen(out);
			snprintf(out + n, size - n, "%s = %s\n",
			         keep(hga_vit_name(&b)),
			         keep(hga_val_str(hga_vit_val(b))));
		}
	}
}

static bool url_case(struct hga_val suite, struct hga_val c, const char *text)
{
	struct hga_val client = hga_val_getn(
	    hga_val_get(suite, "client_configs"), vec_str(c, "client_config"));
	struct hga_val env = hga_val_getn(hga_val_get(suite, "environments"),
	                                  vec_str(c, "environment"));
	struct hga_val want =
	    hga_val_get(hga_val_get(c, "output"), "endpointUrl");
	struct hga_aws_config cfg;
	struct hga_aws_value v;
	struct hga_err err = {0};
	struct fake_env f;
	bool good;

	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config", text);
	for (struct hga_vit it = hga_val_first(env); hga_val_more(it);
	     it = hga_val_next(it))
		fake_var(&f, keep(hga_vit_name(&it)),
		         keep(hga_val_str(hga_vit_val(it))));
	hga_aws_config_init(&cfg, &f.env);
	good = hga_aws_config_arg(&cfg, HGA_SET_PROFILE, vec_str(c, "profile"),
	                          &err) == 0 &&
	       hga_aws_config_arg(&cfg, HGA_SET_ENDPOINT_URL,
	                          vec_str(client, "endpoint_url"), &err) == 0;
	if (good &&
	    hga_val_bool(hga_val_get(client, "ignore_configured_endpoint_urls"),
	                 false))
		good = hga_aws_config_arg(&cfg, HGA_SET_IGNORE_ENDPOINTS,
		                          hga_str("true"), &err) == 0;
	good = good && hga_aws_config_endpoint(&cfg, vec_str(c, "service"), &v,
	                                       &err) == 0;
	if (good && v.text == NULL) /* the rules decide: their own test */
		good = hga_str_find(hga_val_str(want),
		                    HGA_STR("amazonaws.com")) >= 0 ||
		       vec_none(want);
	else if (good)
		good = hga_str_eqc(hga_val_str(want), v.text);
	hga_aws_config_release(&cfg);
	return good;
}

static void endpoint_urls(void)
{
	static char text[65536];
	struct vec_count count = {.name = "endpoint-url"};
	struct hga_vtape *t = vec_json(vec_path("endpoint-url.json"));
	struct hga_val suite;
	struct hga_vit it;

	if (t == NULL) {
		skip(NO_CASES);
		return;
	}
	suite = hga_val_at(hga_val_get(hga_vtape_root(t), "testSuites"), 0);
	add_profiles(text, sizeof(text), hga_val_get(suite, "profiles"));
	add_services(text, sizeof(text), hga_val_get(suite, "services"));
	it = hga_val_first(hga_val_get(suite, "endpointUrlTests"));
	for (; hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val c = hga_vit_val(it);

		vec_case(&count, url_case(suite, c, text),
		         vec_cstr(c, "caseId"), "differs");
	}
	vec_end(&count);
	hga_vtape_free(t);
}

int main(void)
{
	each("profile-parser.json", "profile-parser", "tests", parser_case);
	each("profile-file-location.json", "profile-file-location", "tests",
	     location_case);
	endpoint_urls();
	hga_log_release();
	return done();
}
