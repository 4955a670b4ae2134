/*
 * Settings of AWS clients with their origin: a table of settings and one
 * look-up in the order argument, environment, profile, default.
 */
#include "aws/config.h"

#include "aws/ask.h"
#include "aws/valid.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	FILE_MAX = 1 << 20
};

/* ---- the real world ---- */

static const char *real_getenv(void *data, const char *name)
{
	(void)data;
	return getenv(name);
}

static int real_read(void *data, const char *path, struct hga_buf *out,
                     struct hga_err *err)
{
	(void)data;
	return hga_fs_read(path, FILE_MAX, out, err);
}

static const char *real_home(void *data)
{
	const struct passwd *pw = getpwuid(getuid());

	(void)data;
	return pw != NULL ? pw->pw_dir : NULL;
}

static int64_t real_wall(void *data)
{
	(void)data;
	return hga_wall_us();
}

static double real_random(void *data)
{
	uint32_t r = 0;

	(void)data;
	/* Without random bytes the delay is merely not spread. */
	if (hga_random(&r, sizeof(r), NULL) < 0)
		return 0.5;
	return (double)r / 4294967296.0;
}

static int real_uuid(void *data, char out[37], struct hga_err *err)
{
	(void)data;
	return hga_uuid(out, err);
}

static int real_read_private(void *data, const char *path, struct hga_buf *out,
                             struct hga_err *err)
{
	int rc, fd = hga_fs_open(path, O_RDONLY | O_NONBLOCK, 0, err);

	(void)data;
	if (fd < 0)
		return fd;
	rc = hga_fs_check_owner(fd, path, 077, false, err);
	if (rc == 0)
		rc = hga_fs_read_fd(fd, path, FILE_MAX, out, err);
	(void)close(fd); /* only read from */
	return rc;
}

static int real_write_private(void *data, const char *path, struct hga_str text,
                              struct hga_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int rc = 0;

	(void)data;
	if (slash != NULL && slash != path) {
		dir = hga_memdup0(path, (size_t)(slash - path));
		if (dir == NULL)
			return hga_fail_mem(err);
		rc = hga_fs_mkdir(dir, 0700, true, err);
		hga_free(dir);
	}
	if (rc < 0)
		return rc;
	return hga_fs_replace(path, text, 0600, HGA_FS_SYNC, err);
}

static int real_http(void *data, struct hga_loop *loop, struct hga_http *op,
                     const struct hga_http_args *args, struct hga_err *err)
{
	(void)data;
	return hga_http_start(loop, op, args, err);
}

static int real_spawn(void *data, struct hga_loop *loop, struct hga_proc *op,
                      const struct hga_proc_args *args, struct hga_err *err)
{
	(void)data;
	return hga_proc_start(loop, op, args, err);
}

static int real_ask(void *data, struct hga_loop *loop, struct hga_ask *op,
                    const char *prompt, struct hga_err *err)
{
	(void)data;
	return hga_ask_start(loop, op, prompt, err);
}

const struct hga_aws_env hga_aws_env_real = {
    NULL,        real_getenv, real_read,         real_home,          real_wall,
    real_random, real_uuid,   real_read_private, real_write_private, real_http,
    real_spawn,  real_ask,
};

void hga_aws_env_fill(struct hga_aws_env *env)
{
	if (env->read_private == NULL)
		env->read_private = real_read_private;
	if (env->write_private == NULL)
		env->write_private = real_write_private;
	if (env->http == NULL)
		env->http = real_http;
	if (env->spawn == NULL)
		env->spawn = real_spawn;
	if (env->ask == NULL)
		env->ask = real_ask;
}

const char *hga_aws_env_get(const struct hga_aws_env *env, const char *name)
{
	const char *v = env->getenv(env->data, name);

	if (v == NULL || hga_str_trim(hga_str(v)).n == 0)
		return NULL;
	return v;
}

/* ---- the settings ---- */

struct setting {
	const char *name;
	const char *vars[2];
	const char *key; /* of the profile, NULL: none */
	const char *def;
};

static const struct setting settings[HGA_SET_COUNT] = {
    [HGA_SET_PROFILE] = {"profile",
                         {"AWS_DEFAULT_PROFILE", "AWS_PROFILE"},
                         NULL,
                         "default"},
    [HGA_SET_REGION] = {"region",
                        {"AWS_REGION", "AWS_DEFAULT_REGION"},
                        "region",
                        NULL},
    [HGA_SET_CONFIG_FILE] = {"config_file",
                             {"AWS_CONFIG_FILE", NULL},
                             NULL,
                             NULL},
    [HGA_SET_CREDENTIALS_FILE] = {"shared_credentials_file",
                                  {"AWS_SHARED_CREDENTIALS_FILE", NULL},
                                  NULL,
                                  NULL},
    [HGA_SET_ENDPOINT_URL] = {"endpoint_url",
                              {"AWS_ENDPOINT_URL", NULL},
                              "endpoint_url",
                              NULL},
    [HGA_SET_IGNORE_ENDPOINTS] = {"ignore_configured_endpoint_urls",
                                  {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", NULL},
                                  "ignore_configured_endpoint_urls",
                                  "false"},
    [HGA_SET_FIPS] = {"use_fips",
                      {"AWS_USE_FIPS_ENDPOINT", NULL},
                      "use_fips_endpoint",
                      "false"},
    [HGA_SET_DUALSTACK] = {"use_dualstack",
                           {"AWS_USE_DUALSTACK_ENDPOINT", NULL},
                           "use_dualstack_endpoint",
                           "false"},
    [HGA_SET_RETRY_MODE] = {"retry_mode",
                            {"AWS_RETRY_MODE", NULL},
                            "retry_mode",
                            "standard"},
    [HGA_SET_MAX_ATTEMPTS] = {"max_attempts",
                              {"AWS_MAX_ATTEMPTS", NULL},
                              "max_attempts",
                              NULL},
    [HGA_SET_CA_BUNDLE] = {"ca_bundle",
                           {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"},
                           "ca_bundle",
                           NULL},
    [HGA_SET_STS_REGIONAL] = {"sts_regional_endpoints",
                              {"AWS_STS_REGIONAL_ENDPOINTS", NULL},
                              "sts_regional_endpoints",
                              "regional"},
    [HGA_SET_ACCOUNT_MODE] = {"account_id_endpoint_mode",
                              {"AWS_ACCOUNT_ID_ENDPOINT_MODE", NULL},
                              "account_id_endpoint_mode",
                              "preferred"},
    [HGA_SET_NO_HOST_PREFIX] = {"disable_host_prefix_injection",
                                {"AWS_DISABLE_HOST_PREFIX_INJECTION", NULL},
                                "disable_host_prefix_injection",
                                "false"},
    [HGA_SET_APP_ID] = {"sdk_ua_app_id",
                        {"AWS_SDK_UA_APP_ID", NULL},
                        "sdk_ua_app_id",
                        NULL},
    [HGA_SET_COMPRESS_MIN] = {"request_min_compression_size_bytes",
                              {"AWS_REQUEST_MIN_COMPRESSION_SIZE_BYTES", NULL},
                              "request_min_compression_size_bytes",
                              "10240"},
    [HGA_SET_NO_COMPRESS] = {"disable_request_compression",
                             {"AWS_DISABLE_REQUEST_COMPRESSION", NULL},
                             "disable_request_compression",
                             "false"},
    [HGA_SET_EXECUTION_ENV] = {"execution_env",
                               {"AWS_EXECUTION_ENV", NULL},
                               NULL,
                               NULL},
    [HGA_SET_IMDS_DISABLED] = {"ec2_metadata_disabled",
                               {"AWS_EC2_METADATA_DISABLED", NULL},
                               NULL,
                               "false"},
    [HGA_SET_IMDS_ENDPOINT] = {"ec2_metadata_service_endpoint",
                               {"AWS_EC2_METADATA_SERVICE_ENDPOINT", NULL},
                               "ec2_metadata_service_endpoint",
                               NULL},
    [HGA_SET_IMDS_MODE] = {"ec2_metadata_service_endpoint_mode",
                           {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", NULL},
                           "ec2_metadata_service_endpoint_mode",
                           "IPv4"},
    [HGA_SET_IMDS_NO_V1] = {"ec2_metadata_v1_disabled",
                            {"AWS_EC2_METADATA_V1_DISABLED", NULL},
                            "ec2_metadata_v1_disabled",
                            "false"},
    [HGA_SET_IMDS_TIMEOUT] = {"metadata_service_timeout",
                              {"AWS_METADATA_SERVICE_TIMEOUT", NULL},
                              "metadata_service_timeout",
                              "1"},
    [HGA_SET_IMDS_ATTEMPTS] = {"metadata_service_num_attempts",
                               {"AWS_METADATA_SERVICE_NUM_ATTEMPTS", NULL},
                               "metadata_service_num_attempts",
                               "1"},
    [HGA_SET_LOGIN_CACHE] = {"login_cache_directory",
                             {"AWS_LOGIN_CACHE_DIRECTORY", NULL},
                             NULL,
                             NULL},
    [HGA_SET_HTTPS_PROXY] = {"https_proxy",
                             {"https_proxy", "HTTPS_PROXY"},
                             NULL,
                             NULL},
    [HGA_SET_HTTP_PROXY] = {"http_proxy",
                            {"http_proxy", "HTTP_PROXY"},
                            NULL,
                            NULL},
    [HGA_SET_NO_PROXY] = {"no_proxy", {"no_proxy", "NO_PROXY"}, NULL, NULL},
};

const char *hga_aws_setting_name(enum hga_aws_setting s)
{
	return settings[s].name;
}

void hga_aws_config_init(struct hga_aws_config *c,
                         const struct hga_aws_env *env)
{
	memset(c, 0, sizeof(*c));
	c->env = env;
}

void hga_aws_config_release(struct hga_aws_config *c)
{
	for (size_t i = 0; i < HGA_SET_COUNT; i++)
		hga_free(c->args[i]);
	hga_free(c->profile);
	hga_free(c->config_path);
	hga_free(c->credentials_path);
	hga_free(c->nested);
	hga_ini_release(&c->config);
	hga_ini_release(&c->credentials);
	memset(c, 0, sizeof(*c));
}

int hga_aws_config_arg(struct hga_aws_config *c, enum hga_aws_setting s,
                       struct hga_str value, struct hga_err *err)
{
	char *copy = NULL;

	if (value.n > 0) {
		if (memchr(value.s, '\0', value.n) != NULL)
			return hga_fail(err, HGA_USAGE, 0, NULL,
			                "%s contains a zero byte",
			                settings[s].name);
		copy = hga_memdup0(value.s, value.n);
		if (copy == NULL)
			return hga_fail_mem(err);
	}
	hga_free(c->args[s]);
	c->args[s] = copy;
	return 0;
}

/* Argument or environment; false when neither has it. */
static bool direct(const struct hga_aws_config *c, enum hga_aws_setting s,
                   struct hga_aws_value *out)
{
	const struct setting *d = &settings[s];

	if (c->args[s] != NULL) {
		out->text = c->args[s];
		out->from = HGA_FROM_ARGUMENT;
		(void)snprintf(out->where, sizeof(out->where), "argument");
		return true;
	}
	for (size_t i = 0; i < 2 && d->vars[i] != NULL; i++) {
		const char *v = hga_aws_env_get(c->env, d->vars[i]);

		/* An empty bundle is an error of the user, not a default. */
		if (v == NULL && s == HGA_SET_CA_BUNDLE)
			v = c->env->getenv(c->env->data, d->vars[i]);
		if (v == NULL)
			continue;
		out->text = v;
		out->from = HGA_FROM_ENVIRONMENT;
		(void)snprintf(out->where, sizeof(out->where), "%s",
		               d->vars[i]);
		return true;
	}
	return false;
}

/* ---- files ---- */

int hga_aws_default_path(const struct hga_aws_env *env, bool windows,
                         const char *file, struct hga_buf *out,
                         struct hga_err *err)
{
	const char *home = hga_aws_env_get(env, "HOME");
	const char *sep = windows ? "\\" : "/";

	if (home == NULL && windows)
		home = hga_aws_env_get(env, "USERPROFILE");
	if (home == NULL && windows) {
		const char *drive = hga_aws_env_get(env, "HOMEDRIVE");
		const char *path = hga_aws_env_get(env, "HOMEPATH");

		if (drive != NULL && path != NULL)
			return hga_buf_addf(out, err, "%s%s\\.aws\\%s", drive,
			                    path, file);
	}
	if (home == NULL && !windows)
		home = env->home(env->data);
	if (home == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, NULL,
		                "no home directory");
	return hga_buf_addf(out, err, "%s%s.aws%s%s", home, sep, sep, file);
}

int hga_aws_expand(const struct hga_aws_env *env, const char *path,
                   struct hga_buf *out, struct hga_err *err)
{
	const char *home = NULL;
	int rc = 0;

	if (path[0] == '~' && path[1] == '/') {
		home = hga_aws_env_get(env, "HOME");
		if (home == NULL)
			home = env->home(env->data);
	}
	if (home != NULL)
		rc = hga_buf_adds(out, home, err);
	if (rc < 0)
		return rc;
	return hga_buf_adds(out, home != NULL ? path + 1 : path, err);
}

static int expand(const struct hga_aws_config *c, const char *path, char **out,
                  struct hga_err *err)
{
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, 4096);
	rc = hga_aws_expand(c->env, path, &b, err);
	if (rc == 0)
		*out = hga_buf_move(&b);
	hga_buf_release(&b);
	return rc;
}

/* Path of one of the two files; *out NULL when there is no home. */
static int find_path(struct hga_aws_config *c, enum hga_aws_setting s,
                     const char *file, char **out, struct hga_err *err)
{
	struct hga_aws_value v;
	struct hga_buf b;
	int rc;

	if (direct(c, s, &v))
		return expand(c, v.text, out, err);
	hga_buf_init(&b, 4096);
	rc = hga_aws_default_path(c->env, false, file, &b, err);
	if (rc == 0)
		*out = hga_buf_move(&b);
	hga_buf_release(&b);
	return rc == -HGA_NOTFOUND ? 0 : rc;
}

static int load_file(struct hga_aws_config *c, const char *path,
                     struct hga_ini *ini, struct hga_err *err)
{
	struct hga_buf text;
	int rc;

	if (path == NULL)
		return 0;
	hga_buf_init(&text, FILE_MAX);
	rc = c->env->read(c->env->data, path, &text, err);
	if (rc == 0)
		rc = hga_ini_parse(ini, hga_buf_str(&text), path, err);
	hga_buf_release_secret(&text);
	return rc == -HGA_NOTFOUND ? 0 : rc;
}

const struct hga_ini_section *
hga_aws_config_find(const struct hga_aws_config *c, bool credentials,
                    const char *profile)
{
	const struct hga_ini_section *s;

	if (credentials)
		return hga_ini_find(&c->credentials, "", profile);
	s = hga_ini_find(&c->config, "profile", profile);
	if (s == NULL && strcmp(profile, "default") == 0)
		s = hga_ini_find(&c->config, "", profile);
	return s;
}

const struct hga_ini_section *
hga_aws_config_section(const struct hga_aws_config *c, bool credentials)
{
	return hga_aws_config_find(c, credentials, c->profile);
}

bool hga_aws_config_has(const struct hga_aws_config *c, const char *profile)
{
	return hga_aws_config_find(c, false, profile) != NULL ||
	       hga_aws_config_find(c, true, profile) != NULL;
}

static void suggest_from(const struct hga_ini *ini, const char *type,
                         struct hga_suggest *s)
{
	for (size_t i = 0; i < ini->n; i++) {
		if (strcmp(ini->sections[i].type, type) == 0)
			hga_suggest_try(s, hga_str(ini->sections[i].name));
	}
}

int hga_aws_config_missing(const struct hga_aws_config *c, const char *profile,
                           struct hga_err *err)
{
	struct hga_suggest s;
	struct hga_str best;

	hga_suggest_init(&s, hga_str(profile));
	suggest_from(&c->credentials, "", &s);
	suggest_from(&c->config, "profile", &s);
	best = hga_suggest_best(&s);
	if (best.s == NULL)
		return hga_fail(err, HGA_USAGE, 0, "ProfileNotFound",
		                "The config profile (%s) could not be found",
		                profile);
	return hga_fail(err, HGA_USAGE, 0, "ProfileNotFound",
	                "The config profile (%s) could not be found; "
	                "did you mean %.*s?",
	                profile, HGA_STRF(best));
}

static int load(struct hga_aws_config *c, struct hga_err *err)
{
	struct hga_aws_value v = {"default", HGA_FROM_DEFAULT, ""};
	int rc;

	c->profile_named = direct(c, HGA_SET_PROFILE, &v);
	c->profile = hga_strdup(v.text);
	if (c->profile == NULL)
		return hga_fail_mem(err);
	rc = find_path(c, HGA_SET_CONFIG_FILE, "config", &c->config_path, err);
	if (rc == 0)
		rc = find_path(c, HGA_SET_CREDENTIALS_FILE, "credentials",
		               &c->credentials_path, err);
	if (rc == 0)
		rc = load_file(c, c->config_path, &c->config, err);
	if (rc == 0)
		rc = load_file(c, c->credentials_path, &c->credentials, err);
	if (rc < 0)
		return rc;
	if (c->profile_named && strcmp(c->profile, "default") != 0 &&
	    !hga_aws_config_has(c, c->profile))
		return hga_aws_config_missing(c, c->profile, err);
	return 0;
}

static void unload(struct hga_aws_config *c)
{
	hga_free(c->profile);
	hga_free(c->config_path);
	hga_free(c->credentials_path);
	c->profile = NULL;
	c->config_path = NULL;
	c->credentials_path = NULL;
	hga_ini_release(&c->config);
	hga_ini_release(&c->credentials);
}

int hga_aws_config_load(struct hga_aws_config *c, struct hga_err *err)
{
	int rc;

	if (c->loaded)
		return 0;
	rc = load(c, err);
	if (rc < 0) {
		unload(c);
		return rc;
	}
	c->loaded = true;
	return 0;
}

/* ---- look-up ---- */

/* Property of the profile in use and where it stands. */
static bool from_profile(const struct hga_aws_config *c, const char *key,
                         struct hga_aws_value *out)
{
	for (int cred = 1; cred >= 0; cred--) {
		const struct hga_ini_prop *p =
		    hga_ini_prop(hga_aws_config_section(c, cred != 0), key);

		if (p == NULL)
			continue;
		out->text = p->value;
		out->from = HGA_FROM_PROFILE;
		(void)snprintf(out->where, sizeof(out->where),
		               "profile %s (%s:%u)", c->profile,
		               cred != 0 ? c->credentials_path : c->config_path,
		               p->line);
		return true;
	}
	return false;
}

const char *hga_aws_config_prop(const struct hga_aws_config *c,
                                const char *name)
{
	return hga_aws_config_prop_of(c, c->profile, name);
}

const char *hga_aws_config_prop_of(const struct hga_aws_config *c,
                                   const char *profile, const char *name)
{
	const char *v =
	    hga_ini_get(hga_aws_config_find(c, true, profile), name);

	if (v != NULL)
		return v;
	return hga_ini_get(hga_aws_config_find(c, false, profile), name);
}

static int check_value(enum hga_aws_setting s, const struct hga_aws_value *v,
                       struct hga_err *err)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

	if (s == HGA_SET_REGION && v->text[strspn(v->text, ok)] != '\0')
		return hga_fail(err, HGA_USAGE, 0, "InvalidRegion",
		                "Provided region_name '%s' doesn't match a "
		                "supported format (from %s)",
		                v->text, v->where);
	if (s == HGA_SET_CA_BUNDLE && v->text[0] == '\0')
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "ca_bundle is empty (from %s)", v->where);
	return 0;
}

int hga_aws_config_get(struct hga_aws_config *c, enum hga_aws_setting s,
                       struct hga_aws_value *out, struct hga_err *err)
{
	const struct setting *d = &settings[s];
	int rc;

	memset(out, 0, sizeof(*out));
	if (direct(c, s, out))
		return check_value(s, out, err);
	rc = hga_aws_config_load(c, err);
	if (rc < 0)
		return rc;
	if (d->key != NULL && from_profile(c, d->key, out))
		return check_value(s, out, err);
	out->text = d->def;
	if (s == HGA_SET_CONFIG_FILE)
		out->text = c->config_path;
	if (s == HGA_SET_CREDENTIALS_FILE)
		out->text = c->credentials_path;
	if (out->text != NULL) {
		out->from = HGA_FROM_DEFAULT;
		(void)snprintf(out->where, sizeof(out->where), "default");
	}
	return 0;
}

int hga_aws_config_bool(struct hga_aws_config *c, enum hga_aws_setting s,
                        bool *out, struct hga_err *err)
{
	struct hga_aws_value v;
	struct hga_str t;
	int rc = hga_aws_config_get(c, s, &v, err);

	if (rc < 0)
		return rc;
	t = hga_str_trim(hga_str(v.text));
	*out = hga_str_ieqc(t, "true");
	if (*out || t.n == 0 || hga_str_ieqc(t, "false"))
		return 0;
	return hga_fail(err, HGA_USAGE, 0, NULL,
	                "%s: \"%.*s\" is neither true nor false (from %s)",
	                settings[s].name, HGA_STRF(t), v.where);
}

int hga_aws_config_num(struct hga_aws_config *c, enum hga_aws_setting s,
                       double max, double *out, struct hga_err *err)
{
	struct hga_aws_value v;
	int rc = hga_aws_config_get(c, s, &v, err);

	if (rc < 0)
		return rc;
	if (hga_str_num(hga_str_trim(hga_str(v.text)), out) && *out >= 0 &&
	    *out <= max)
		return 0;
	return hga_fail(err, HGA_USAGE, 0, NULL,
	                "%s: \"%s\" is not a number from 0 to %g (from %s)",
	                settings[s].name, v.text != NULL ? v.text : "", max,
	                v.text != NULL ? v.where : "nowhere");
}

/* ---- endpoints ---- */

/* Service id in a variable or a key: EC2, SSO OIDC -> SSO_OIDC. */
static void fold_id(struct hga_str id, bool upper, char *out, size_t size)
{
	size_t n = id.n < size - 1 ? id.n : size - 1;

	for (size_t i = 0; i < n; i++) {
		char ch = id.s[i];

		if (ch == ' ' || ch == '-')
			ch = '_';
		if (upper && ch >= 'a' && ch <= 'z')
			ch = (char)(ch - 'a' + 'A');
		if (!upper && ch >= 'A' && ch <= 'Z')
			ch = (char)(ch - 'A' + 'a');
		out[i] = ch;
	}
	out[n] = '\0';
}

static bool endpoint_from_env(const struct hga_aws_config *c,
                              struct hga_str service_id,
                              struct hga_aws_value *out)
{
	char name[96] = "AWS_ENDPOINT_URL_";
	const size_t at = sizeof("AWS_ENDPOINT_URL_") - 1;

	fold_id(service_id, true, name + at, sizeof(name) - at);
	out->text = hga_aws_env_get(c->env, name);
	if (out->text == NULL) {
		name[at - 1] = '\0';
		out->text = hga_aws_env_get(c->env, name);
	}
	if (out->text == NULL)
		return false;
	out->from = HGA_FROM_ENVIRONMENT;
	(void)snprintf(out->where, sizeof(out->where), "%s", name);
	return true;
}

/* [services S] of the profile.  1: found. */
static int endpoint_from_services(struct hga_aws_config *c,
                                  struct hga_str service_id,
                                  struct hga_aws_value *out,
                                  struct hga_err *err)
{
	const char *name = hga_aws_config_prop(c, "services");
	const struct hga_ini_section *s;
	const struct hga_ini_prop *p;
	struct hga_str url;
	char key[64];

	if (name == NULL)
		return 0;
	s = hga_ini_find(&c->config, "services", name);
	fold_id(service_id, false, key, sizeof(key));
	p = hga_ini_prop(s, key);
	if (p == NULL || !hga_ini_nested(p->value, "endpoint_url", &url) ||
	    url.n == 0)
		return 0;
	hga_free(c->nested);
	c->nested = hga_memdup0(url.s, url.n);
	if (c->nested == NULL)
		return hga_fail_mem(err);
	out->text = c->nested;
	out->from = HGA_FROM_PROFILE;
	(void)snprintf(out->where, sizeof(out->where), "services %s (%s:%u)",
	               name, c->config_path, p->line);
	return 1;
}

int hga_aws_config_endpoint(struct hga_aws_config *c, struct hga_str service_id,
                            struct hga_aws_value *out, struct hga_err *err)
{
	bool ignore;
	int rc;

	memset(out, 0, sizeof(*out));
	if (c->args[HGA_SET_ENDPOINT_URL] != NULL) {
		(void)direct(c, HGA_SET_ENDPOINT_URL, out);
		return 0;
	}
	rc = hga_aws_config_bool(c, HGA_SET_IGNORE_ENDPOINTS, &ignore, err);
	if (rc < 0 || ignore)
		return rc;
	if (endpoint_from_env(c, service_id, out))
		return 0;
	rc = hga_aws_config_load(c, err);
	if (rc == 0)
		rc = endpoint_from_services(c, service_id, out, err);
	if (rc == 0)
		(void)from_profile(c, "endpoint_url", out);
	return rc < 0 ? rc : 0;
}
