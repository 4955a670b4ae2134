/*
 * Where credentials come from: the chain's order, profiles that lead to
 * profiles, roles that lead to roles (aws.md section 9).  Nothing is asked
 * here; the result is a list of links.
 */
#include "aws/cred_int.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

enum {
	OLD_FILE_MAX = 64 << 10 /* files of boto and the first EC2 tools */
};

/* ---- links ---- */

void cred_plan_release(struct cred_plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		struct cred_link *l = &p->links[i];

		for (size_t k = 0; k < CRED_T_COUNT; k++) {
			if (l->t[k] != NULL)
				hga_wipe(l->t[k], strlen(l->t[k]));
			hga_free(l->t[k]);
		}
		hga_creds_free(l->keys);
	}
	memset(p, 0, sizeof(*p));
}

int cred_plan_add(struct cred_plan *p, enum cred_kind kind,
                  struct cred_link **out, struct hga_err *err)
{
	if (p->n == CRED_LINKS)
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "more than %d profiles lead to each other",
		                CRED_LINKS);
	*out = &p->links[p->n++];
	memset(*out, 0, sizeof(**out));
	(*out)->kind = kind;
	return 0;
}

int cred_text_set(struct cred_link *l, enum cred_text what, const char *text,
                  struct hga_err *err)
{
	struct hga_str t = hga_str_trim(hga_str(text));

	if (text == NULL || t.n == 0)
		return 0;
	l->t[what] = hga_memdup0(t.s, t.n);
	return l->t[what] != NULL ? 0 : hga_fail_mem(err);
}

static int hash_text(struct hga_hash *h, struct hga_str t, struct hga_err *err)
{
	uint64_t n = t.s != NULL ? t.n + 1 : 0; /* absent is not empty */
	int rc = hga_hash_update(h, &n, sizeof(n), err);

	if (rc == 0 && t.n > 0)
		rc = hga_hash_update(h, t.s, t.n, err);
	return rc;
}

static int hash_link(struct hga_hash *h, const struct cred_link *l,
                     struct hga_err *err)
{
	const double numbers[] = {(double)l->kind, (double)l->required,
	                          (double)l->no_v1, l->timeout_s,
	                          (double)l->attempts};
	int rc = hga_hash_update(h, numbers, sizeof(numbers), err);

	for (size_t i = 0; i < CRED_T_COUNT && rc == 0; i++)
		rc = hash_text(
		    h, l->t[i] != NULL ? hga_str(l->t[i]) : hga_strn(NULL, 0),
		    err);
	if (rc == 0 && l->keys != NULL) {
		struct hga_aws_creds v = hga_creds_view(l->keys);

		rc = hash_text(h, v.access_key, err);
		if (rc == 0)
			rc = hash_text(h, v.secret_key, err);
		if (rc == 0)
			rc = hash_text(h, v.token, err);
	}
	return rc;
}

int cred_plan_hash(const struct cred_plan *p, char out[65], struct hga_err *err)
{
	uint8_t digest[HGA_SHA256_LEN];
	struct hga_hash h;
	int rc = hga_hash_init(&h, HGA_SHA256, err);

	for (size_t i = 0; i < p->n && rc == 0; i++)
		rc = hash_link(&h, &p->links[i], err);
	if (rc == 0)
		rc = hga_hash_final(&h, digest, err);
	hga_hash_release(&h);
	for (size_t i = 0; i < sizeof(digest) && rc == 0; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return rc;
}

/* ---- providers of the chain ---- */

struct chain {
	struct hga_aws_config *cfg;
	struct cred_plan *plan;
	const char *profile; /* NULL before the files were read */
	struct hga_buf *why; /* reason of the last that did not apply */
	bool tokens;         /* sessions without account count, too */
};

/* 1: link added; 0: does not apply (why says so); < 0: failure. */
typedef int (*provider_fn)(struct chain *c, struct hga_err *err);

static const char *var(const struct chain *c, const char *name)
{
	return hga_aws_env_get(c->cfg->env, name);
}

/* Non-blank property of the profile. */
static const char *prop(const struct chain *c, const char *name)
{
	const char *v = hga_aws_config_prop_of(c->cfg, c->profile, name);

	return v != NULL && hga_str_trim(hga_str(v)).n > 0 ? v : NULL;
}

/* The reason may be lost without memory; it is only for people. */
static void because(struct chain *c, const char *text)
{
	(void)!hga_buf_adds(c->why, text, NULL);
}

static int broken(const struct chain *c, struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	                "profile \"%s\" %s", c->profile, what);
}

static int add_keys(struct chain *c, struct hga_creds *keys,
                    struct hga_err *err)
{
	struct cred_link *l;
	int rc = cred_plan_add(c->plan, CRED_KEYS, &l, err);

	if (rc < 0) {
		hga_creds_free(keys);
		return rc;
	}
	l->keys = keys;
	return 1;
}

static int set_expiry(struct hga_creds *c, const char *text,
                      struct hga_err *err)
{
	if (text == NULL)
		return 0;
	if (!hga_time_parse(hga_str_trim(hga_str(text)), &c->expires_us))
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "AWS_CREDENTIAL_EXPIRATION is not a time");
	return 0;
}

static void set_account(struct hga_creds *c, const char *text)
{
	if (text != NULL)
		(void)snprintf(c->account_id, sizeof(c->account_id), "%.*s",
		               HGA_STRF(hga_str_trim(hga_str(text))));
}

/* Keys of the environment: 1 with *out, 0 when there are none. */
static int env_keys(const struct chain *c, struct hga_creds **out,
                    struct hga_err *err)
{
	const char *id = var(c, "AWS_ACCESS_KEY_ID");
	const char *secret = var(c, "AWS_SECRET_ACCESS_KEY");
	const char *token;
	int rc;

	if (id == NULL)
		return 0;
	if (secret == NULL)
		return hga_fail(err, HGA_AUTH, 0, "PartialCredentials",
		                "Partial credentials found in environment, "
		                "missing: AWS_SECRET_ACCESS_KEY");
	token = var(c, "AWS_SECURITY_TOKEN");
	if (token == NULL)
		token = var(c, "AWS_SESSION_TOKEN");
	rc = hga_creds_new(out, "environment", hga_str(id), hga_str(secret),
	                   hga_str(token), err);
	if (rc < 0)
		return rc;
	set_account(*out, var(c, "AWS_ACCOUNT_ID"));
	(void)snprintf((*out)->where, sizeof((*out)->where),
	               "AWS_ACCESS_KEY_ID");
	rc = set_expiry(*out, var(c, "AWS_CREDENTIAL_EXPIRATION"), err);
	if (rc < 0)
		hga_creds_free(*out);
	return rc < 0 ? rc : 1;
}

static int from_environment(struct chain *c, struct hga_err *err)
{
	struct hga_creds *keys = NULL;
	int rc;

	if (c->cfg->args[HGA_SET_PROFILE] != NULL) {
		because(c, "not asked, a profile was given");
		return 0;
	}
	rc = env_keys(c, &keys, err);
	if (rc == 0)
		because(c, "AWS_ACCESS_KEY_ID is not set");
	return rc == 1 ? add_keys(c, keys, err) : rc;
}

/* Static keys of a profile in one file: 1 with *out, 0 without. */
static int section_keys(struct chain *c, bool credentials,
                        struct hga_creds **out, struct hga_err *err)
{
	const struct hga_ini_section *s =
	    hga_aws_config_find(c->cfg, credentials, c->profile);
	const char *path =
	    credentials ? c->cfg->credentials_path : c->cfg->config_path;
	const char *id = hga_ini_get(s, "aws_access_key_id");
	const char *secret = hga_ini_get(s, "aws_secret_access_key");
	const char *token = hga_ini_get(s, "aws_session_token");
	int rc;

	if (id == NULL || hga_str_trim(hga_str(id)).n == 0) {
		because(c, s == NULL ? "no such profile in the file"
		                     : "profile has no aws_access_key_id");
		return 0;
	}
	if (secret == NULL)
		return hga_fail(err, HGA_AUTH, 0, "PartialCredentials",
		                "Partial credentials found in %s, profile %s, "
		                "missing: aws_secret_access_key",
		                path, c->profile);
	rc = hga_creds_new(out, "profile", hga_str(id), hga_str(secret),
	                   hga_str(token), err);
	if (rc < 0)
		return rc;
	set_account(*out, prop(c, "aws_account_id"));
	(void)snprintf((*out)->where, sizeof((*out)->where), "profile %s (%s)",
	               c->profile, path);
	return 1;
}

static int from_file(struct chain *c, bool credentials, struct hga_err *err)
{
	struct hga_creds *keys = NULL;
	int rc = section_keys(c, credentials, &keys, err);

	return rc == 1 ? add_keys(c, keys, err) : rc;
}

static int from_credentials_file(struct chain *c, struct hga_err *err)
{
	return from_file(c, true, err);
}

static int from_config_file(struct chain *c, struct hga_err *err)
{
	return from_file(c, false, err);
}

/* ---- web identity ---- */

static int add_web(struct chain *c, const char *file, const char *arn,
                   const char *session, struct hga_err *err)
{
	struct cred_link *l;
	int rc;

	if (arn == NULL)
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "a web identity token file is configured "
		                "(profile \"%s\"), but no role: set role_arn "
		                "beside it or AWS_ROLE_ARN",
		                c->profile);
	rc = cred_plan_add(c->plan, CRED_WEB, &l, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_TOKEN_FILE, file, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_ROLE_ARN, arn, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_SESSION_NAME, session, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_PROFILE, c->profile, err);
	return rc < 0 ? rc : 1;
}

/* Of a profile that another one names: the environment does not count. */
static int own_web(struct chain *c, struct hga_err *err)
{
	const char *file = prop(c, "web_identity_token_file");

	if (file == NULL) {
		because(c, "profile has no web_identity_token_file");
		return 0;
	}
	return add_web(c, file, prop(c, "role_arn"),
	               prop(c, "role_session_name"), err);
}

static const char *env_or_prop(const struct chain *c, const char *name,
                               const char *key)
{
	const char *v = NULL;

	if (c->cfg->args[HGA_SET_PROFILE] == NULL)
		v = var(c, name);
	return v != NULL ? v : prop(c, key);
}

static int from_web_identity(struct chain *c, struct hga_err *err)
{
	const char *file = env_or_prop(c, "AWS_WEB_IDENTITY_TOKEN_FILE",
	                               "web_identity_token_file");

	if (file == NULL)
		return own_web(c, err);
	return add_web(
	    c, file, env_or_prop(c, "AWS_ROLE_ARN", "role_arn"),
	    env_or_prop(c, "AWS_ROLE_SESSION_NAME", "role_session_name"), err);
}

/* ---- single sign-on ---- */

/* The session's value; the profile may repeat it, not change it. */
static int from_session(struct chain *c, const struct hga_ini_section *s,
                        const char *session, const char *key, const char **out,
                        struct hga_err *err)
{
	const char *own = prop(c, key);

	*out = hga_ini_get(s, key);
	if (*out == NULL || (*out)[0] == '\0')
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "[sso-session %s] has no %s (profile \"%s\")",
		                session, key, c->profile);
	if (own == NULL ||
	    hga_str_eq(hga_str_trim(hga_str(own)), hga_str_trim(hga_str(*out))))
		return 0;
	return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	                "profile \"%s\" and [sso-session %s] have different "
	                "%s; remove it from the profile",
	                c->profile, session, key);
}

static int sso_place(struct chain *c, const char *session, const char **url,
                     const char **region, struct hga_err *err)
{
	const struct hga_ini_section *s;
	int rc;

	if (session == NULL) {
		*url = prop(c, "sso_start_url");
		*region = prop(c, "sso_region");
		if (*url == NULL || *region == NULL)
			return broken(c, err,
			              *url == NULL
			                  ? "uses single sign-on without "
			                    "sso_start_url or sso_session"
			                  : "uses single sign-on without "
			                    "sso_region");
		return 0;
	}
	s = hga_ini_find(&c->cfg->config, "sso-session", session);
	if (s == NULL)
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "profile \"%s\" names sso_session \"%s\", but "
		                "there is no [sso-session %s] in %s",
		                c->profile, session, session,
		                c->cfg->config_path);
	rc = from_session(c, s, session, "sso_region", region, err);
	if (rc == 0)
		rc = from_session(c, s, session, "sso_start_url", url, err);
	return rc;
}

static int add_sso(struct chain *c, const char *account, const char *role,
                   struct hga_err *err)
{
	const char *session = prop(c, "sso_session"), *url, *region;
	struct cred_link *l;
	int rc = sso_place(c, session, &url, &region, err);

	if (rc == 0)
		rc = cred_plan_add(c->plan, CRED_SSO, &l, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_PROFILE, c->profile, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_SSO_SESSION, session, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_SSO_URL, url, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_SSO_REGION, region, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_SSO_ACCOUNT, account, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_SSO_ROLE, role, err);
	return rc < 0 ? rc : 1;
}

static int from_sso(struct chain *c, struct hga_err *err)
{
	const char *account = prop(c, "sso_account_id");
	const char *role = prop(c, "sso_role_name");

	if (account != NULL && role != NULL)
		return add_sso(c, account, role, err);
	if (account != NULL || role != NULL)
		return broken(c, err,
		              account == NULL
		                  ? "has sso_role_name, but no sso_account_id"
		                  : "has sso_account_id, but no sso_role_name");
	if (prop(c, "sso_session") == NULL) {
		because(c, "profile has no sso_account_id");
		return 0;
	}
	if (c->tokens)
		return add_sso(c, NULL, NULL, err);
	because(c, "sso_session without sso_account_id and sso_role_name "
	           "gives a token, not credentials");
	return 0;
}

/* ---- aws login, processes ---- */

static int from_login(struct chain *c, struct hga_err *err)
{
	const char *session = prop(c, "login_session");
	struct hga_aws_value region, dir;
	struct cred_link *l;
	int rc;

	if (session == NULL) {
		because(c, "profile has no login_session");
		return 0;
	}
	rc = hga_aws_config_get(c->cfg, HGA_SET_REGION, &region, err);
	if (rc == 0)
		rc = hga_aws_config_get(c->cfg, HGA_SET_LOGIN_CACHE, &dir, err);
	if (rc == 0)
		rc = cred_plan_add(c->plan, CRED_LOGIN, &l, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_PROFILE, c->profile, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_LOGIN, session, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_LOGIN_DIR, dir.text, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_REGION, region.text, err);
	return rc < 0 ? rc : 1;
}

static int from_process(struct chain *c, struct hga_err *err)
{
	const char *command = prop(c, "credential_process");
	struct cred_link *l;
	int rc;

	if (command == NULL) {
		because(c, "profile has no credential_process");
		return 0;
	}
	rc = cred_plan_add(c->plan, CRED_PROCESS, &l, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_PROFILE, c->profile, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_COMMAND, command, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_ACCOUNT, prop(c, "aws_account_id"),
		                   err);
	return rc < 0 ? rc : 1;
}

/* ---- roles ---- */

static int add_role(struct chain *c, struct hga_err *err)
{
	struct cred_link *l;
	const struct {
		enum cred_text what;
		const char *key;
	} keys[] = {
	    {CRED_T_ROLE_ARN, "role_arn"},
	    {CRED_T_SESSION_NAME, "role_session_name"},
	    {CRED_T_EXTERNAL_ID, "external_id"},
	    {CRED_T_MFA, "mfa_serial"},
	    {CRED_T_DURATION, "duration_seconds"},
	};
	uint64_t n;
	int rc = cred_plan_add(c->plan, CRED_ROLE, &l, err);

	if (rc == 0)
		rc = cred_text_set(l, CRED_T_PROFILE, c->profile, err);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys) && rc == 0; i++)
		rc = cred_text_set(l, keys[i].what, prop(c, keys[i].key), err);
	if (rc == 0 && l->t[CRED_T_DURATION] != NULL &&
	    (!hga_str_uint(hga_str(l->t[CRED_T_DURATION]), &n) || n > 1000000))
		return broken(c, err,
		              "has a duration_seconds that is not a "
		              "number of seconds");
	return rc;
}

static int from_source(struct chain *c, const char *source, struct hga_err *err)
{
	struct hga_creds *keys = NULL;
	int rc;

	if (strcmp(source, "Environment") == 0) {
		rc = env_keys(c, &keys, err);
		if (rc == 1)
			rc = add_keys(c, keys, err);
		return rc != 0 ? rc
		               : broken(c, err,
		                        "has credential_source = Environment, "
		                        "but AWS_ACCESS_KEY_ID is not set");
	}
	if (strcmp(source, "EcsContainer") == 0) {
		rc = cred_plan_container(c->cfg, c->plan, err);
		return rc != 0 ? rc
		               : broken(c, err,
		                        "has credential_source = EcsContainer, "
		                        "but AWS_CONTAINER_CREDENTIALS_"
		                        "RELATIVE_URI is not set");
	}
	if (strcmp(source, "Ec2InstanceMetadata") == 0) {
		rc = cred_plan_imds(c->cfg, c->plan, err);
		if (rc == 1)
			c->plan->links[c->plan->n - 1].required = true;
		return rc != 0 ? rc
		               : broken(c, err,
		                        "has credential_source = "
		                        "Ec2InstanceMetadata, which is "
		                        "switched off");
	}
	return broken(c, err,
	              "has an unknown credential_source; it can be "
	              "Environment, Ec2InstanceMetadata or EcsContainer");
}

/* Providers of a profile that another one names as its source. */
static int from_named(struct chain *c, struct hga_err *err)
{
	static const provider_fn list[] = {own_web, from_sso, from_login,
	                                   from_process};
	int rc = from_credentials_file(c, err);

	if (rc == 0)
		rc = from_config_file(c, err);
	for (size_t i = 0; i < sizeof(list) / sizeof(*list) && rc == 0; i++)
		rc = list[i](c, err);
	return rc != 0 ? rc
	               : broken(c, err,
	                        "is a source_profile, but has no credentials");
}

static int cycle(const char *const *path, size_t n, const char *again,
                 struct hga_err *err)
{
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, 400);
	/* A list that is too long is cut. */
	for (size_t i = 0; i < n; i++)
		(void)!hga_buf_addf(&b, NULL, "%s -> ", path[i]);
	(void)!hga_buf_adds(&b, again, NULL);
	rc = hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	              "source_profile leads in a circle: %s", hga_buf_text(&b));
	hga_buf_release(&b);
	return rc;
}

static bool has_keys(const struct chain *c)
{
	return prop(c, "aws_access_key_id") != NULL;
}

static bool is_role(const struct chain *c)
{
	return prop(c, "role_arn") != NULL &&
	       prop(c, "web_identity_token_file") == NULL;
}

static bool seen(const char *const *path, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(path[i], name) == 0)
			return true;
	}
	return false;
}

/* What one role of the path leads to: 1 the base was added, 0 to the profile
 * that is now c->profile. */
static int role_step(struct chain *c, const char *const *path, size_t n,
                     struct hga_err *err)
{
	const char *from = prop(c, "source_profile"), *self = c->profile;
	const char *source = prop(c, "credential_source");

	if (from != NULL && source != NULL)
		return broken(c, err,
		              "has both source_profile and credential_source");
	if (from == NULL && source == NULL)
		return broken(c, err,
		              "has role_arn, but neither source_profile nor "
		              "credential_source");
	if (source != NULL)
		return from_source(c, source, err);
	if (strcmp(from, self) == 0)
		return has_keys(c) ? from_named(c, err)
		                   : cycle(path, n, from, err);
	if (seen(path, n, from))
		return cycle(path, n, from, err);
	if (!hga_aws_config_has(c->cfg, from))
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "profile \"%s\" names source_profile \"%s\", "
		                "which does not exist",
		                self, from);
	c->profile = from;
	return 0;
}

static int from_role(struct chain *c, struct hga_err *err)
{
	const char *path[CRED_LINKS], *first = c->profile;
	size_t n = 0;
	int rc = 0;

	if (!is_role(c)) {
		because(c, prop(c, "role_arn") != NULL
		               ? "profile uses a web identity"
		               : "profile has no role_arn");
		return 0;
	}
	while (rc == 0 && is_role(c) && (n == 0 || !has_keys(c))) {
		if (n == CRED_LINKS - 1)
			return cycle(path, n, "...", err);
		path[n++] = c->profile;
		rc = role_step(c, path, n, err);
	}
	if (rc == 0)
		rc = from_named(c, err);
	while (rc >= 0 && n > 0) {
		c->profile = path[--n];
		rc = add_role(c, err);
	}
	c->profile = first;
	return rc < 0 ? rc : 1;
}

/* ---- files of former times ---- */

/* "key = value" (or ":") below [section]; section NULL: anywhere. */
static struct hga_str old_value(struct hga_str text, const char *section,
                                const char *key)
{
	bool inside = section == NULL;
	struct hga_str found = {NULL, 0};

	while (text.n > 0) {
		ptrdiff_t nl = hga_str_chr(text, '\n', 0);
		size_t len = nl < 0 ? text.n : (size_t)nl;
		struct hga_str line = hga_str_trim(hga_strn(text.s, len));
		size_t eq = 0;

		len = nl < 0 ? len : len + 1;
		text = hga_strn(text.s + len, text.n - len);
		if (line.n > 1 && line.s[0] == '[') {
			inside = section == NULL ||
			         hga_str_ieqc(hga_strn(line.s + 1, line.n - 2),
			                      section);
			continue;
		}
		while (eq < line.n && line.s[eq] != '=' && line.s[eq] != ':')
			eq++;
		if (inside && eq < line.n &&
		    hga_str_ieqc(hga_str_trim(hga_strn(line.s, eq)), key))
			found = hga_str_trim(
			    hga_strn(line.s + eq + 1, line.n - eq - 1));
	}
	return found;
}

/* Names of the two keys in such a file. */
struct old_names {
	const char *section, *id, *secret, *provider;
};

/* 1 added, 0 no keys in it. */
static int old_file(struct chain *c, const char *path,
                    const struct old_names *n, struct hga_err *err)
{
	const struct hga_aws_env *env = c->cfg->env;
	struct hga_buf full, text;
	struct hga_creds *keys = NULL;
	struct hga_str id;
	int rc;

	hga_buf_init(&full, 4096);
	hga_buf_init(&text, OLD_FILE_MAX);
	rc = hga_aws_expand(env, path, &full, err);
	if (rc == 0)
		rc = env->read(env->data, hga_buf_text(&full), &text, err);
	id = old_value(hga_buf_str(&text), n->section, n->id);
	if (rc == 0 && id.n > 0) {
		rc = hga_creds_new(
		    &keys, n->provider, id,
		    old_value(hga_buf_str(&text), n->section, n->secret),
		    hga_str(""), err);
		if (rc == 0) {
			(void)snprintf(keys->where, sizeof(keys->where), "%s",
			               hga_buf_text(&full));
			rc = add_keys(c, keys, err);
		}
	}
	hga_buf_release(&full);
	hga_buf_release_secret(&text);
	return rc;
}

static int from_credential_file(struct chain *c, struct hga_err *err)
{
	static const struct old_names names = {NULL, "AWSAccessKeyId",
	                                       "AWSSecretKey", "ec2 file"};
	const char *path = var(c, "AWS_CREDENTIAL_FILE");
	int rc;

	if (path == NULL) {
		because(c, "AWS_CREDENTIAL_FILE is not set");
		return 0;
	}
	rc = old_file(c, path, &names, err);
	if (rc < 0)
		hga_err_prefix(err, "AWS_CREDENTIAL_FILE");
	return rc != 0 ? rc
	               : hga_fail(err, HGA_AUTH, 0, "PartialCredentials",
	                          "AWS_CREDENTIAL_FILE: no AWSAccessKeyId in "
	                          "%s",
	                          path);
}

static int from_boto(struct chain *c, struct hga_err *err)
{
	static const struct old_names names = {"Credentials",
	                                       "aws_access_key_id",
	                                       "aws_secret_access_key", "boto"};
	static const char *const usual[] = {"/etc/boto.cfg", "~/.boto"};
	const char *path = var(c, "BOTO_CONFIG");
	int rc = 0;

	if (path != NULL) {
		rc = old_file(c, path, &names, err);
		if (rc < 0)
			hga_err_prefix(err, "BOTO_CONFIG");
		if (rc == 0)
			because(c, "the file BOTO_CONFIG names has no keys");
		return rc;
	}
	for (size_t i = 0; i < 2 && rc == 0; i++) {
		rc = old_file(c, usual[i], &names, err);
		if (rc == -HGA_NOTFOUND)
			rc = 0;
	}
	if (rc == 0)
		because(c, "no keys in /etc/boto.cfg or ~/.boto");
	return rc;
}

/* ---- machines ---- */

static int from_container(struct chain *c, struct hga_err *err)
{
	int rc = cred_plan_container(c->cfg, c->plan, err);

	if (rc == 0)
		because(c, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set");
	return rc;
}

static int from_metadata(struct chain *c, struct hga_err *err)
{
	int rc = cred_plan_imds(c->cfg, c->plan, err);

	if (rc == 0)
		because(c, "switched off by AWS_EC2_METADATA_DISABLED");
	c->plan->may_be_none = rc == 1;
	return rc;
}

static const struct {
	const char *name;
	provider_fn fn;
	bool profile; /* asks the profile only */
} providers[] = {
    {"environment", from_environment, false},
    {"assume-role", from_role, true},
    {"web identity", from_web_identity, true},
    {"sso", from_sso, true},
    {"credentials file", from_credentials_file, true},
    {"login", from_login, true},
    {"process", from_process, true},
    {"config file", from_config_file, true},
    {"AWS_CREDENTIAL_FILE", from_credential_file, false},
    {"boto", from_boto, false},
    {"container", from_container, false},
    {"instance metadata", from_metadata, false},
};

#define PROVIDERS (sizeof(providers) / sizeof(*providers))

static int ask_all(struct chain *c, bool profile_only, struct hga_buf *tried,
                   struct hga_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < PROVIDERS && rc == 0; i++) {
		if (profile_only && !providers[i].profile)
			continue;
		/* The files are only read when the environment has no
		 * answer. */
		if (i == 1)
			rc = hga_aws_config_load(c->cfg, err);
		if (rc == 0 && c->profile == NULL)
			c->profile = c->cfg->profile;
		hga_buf_clear(c->why);
		if (rc == 0)
			rc = providers[i].fn(c, err);
		if (rc == 0 && tried != NULL)
			(void)!hga_buf_addf(tried, NULL, "%s: %s\n",
			                    providers[i].name,
			                    hga_buf_text(c->why));
	}
	return rc < 0 ? rc : 0;
}

int cred_plan_make(struct hga_aws_config *cfg, struct cred_plan *p,
                   struct hga_buf *tried, struct hga_err *err)
{
	struct hga_buf why;
	struct chain c = {cfg, p, NULL, &why, false};
	int rc;

	hga_buf_init(&why, 1024);
	rc = ask_all(&c, false, tried, err);
	hga_buf_release(&why);
	return rc;
}

int cred_plan_profile(struct hga_aws_config *cfg, const char *profile,
                      struct cred_plan *p, struct hga_err *err)
{
	struct hga_buf why;
	struct chain c = {cfg, p, profile, &why, true};
	int rc = hga_aws_config_load(cfg, err);

	if (rc < 0)
		return rc;
	hga_buf_init(&why, 1024);
	rc = ask_all(&c, true, NULL, err);
	hga_buf_release(&why);
	return rc;
}
