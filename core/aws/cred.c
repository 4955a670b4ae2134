/*
 * AWS credentials: storage of secrets and the chain of providers, each a
 * function that applies, does not apply, or fails.
 */
#include "aws/cred.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

/* ---- storage ---- */

int hga_secret_set(struct hga_secret *s, struct hga_str text,
                   struct hga_err *err)
{
	char *copy = hga_memdup0(text.s, text.n);

	if (copy == NULL)
		return hga_fail_mem(err);
	hga_secret_release(s);
	s->s = copy;
	s->n = text.n;
	hga_log_secret(text);
	return 0;
}

void hga_secret_release(struct hga_secret *s)
{
	if (s->s != NULL)
		hga_wipe(s->s, s->n);
	hga_free(s->s);
	s->s = NULL;
	s->n = 0;
}

int hga_creds_new(struct hga_creds **out, const char *provider,
                  struct hga_str access_key_id, struct hga_str secret,
                  struct hga_str token, struct hga_err *err)
{
	struct hga_creds *c;
	int rc = 0;

	access_key_id = hga_str_trim(access_key_id);
	secret = hga_str_trim(secret);
	token = hga_str_trim(token);
	if (access_key_id.n == 0 || secret.n == 0)
		return hga_fail(err, HGA_AUTH, 0, "PartialCredentials",
		                "Partial credentials found in %s, missing: %s",
		                provider,
		                secret.n == 0 ? "the secret access key"
		                              : "the access key id");
	c = hga_calloc(1, sizeof(*c));
	if (c == NULL)
		return hga_fail_mem(err);
	c->refs = 1;
	(void)snprintf(c->provider, sizeof(c->provider), "%s", provider);
	c->access_key_id = hga_memdup0(access_key_id.s, access_key_id.n);
	if (c->access_key_id == NULL)
		rc = hga_fail_mem(err);
	if (rc == 0)
		rc = hga_secret_set(&c->secret, secret, err);
	if (rc == 0 && token.n > 0)
		rc = hga_secret_set(&c->token, token, err);
	if (rc < 0) {
		hga_creds_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

struct hga_creds *hga_creds_ref(struct hga_creds *c)
{
	c->refs++;
	return c;
}

void hga_creds_free(struct hga_creds *c)
{
	if (c == NULL || --c->refs > 0)
		return;
	hga_free(c->access_key_id);
	hga_secret_release(&c->secret);
	hga_secret_release(&c->token);
	hga_free(c);
}

struct hga_aws_creds hga_creds_view(const struct hga_creds *c)
{
	struct hga_aws_creds v;

	v.access_key = hga_str(c->access_key_id);
	v.secret_key = hga_strn(c->secret.s, c->secret.n);
	v.token =
	    c->token.s != NULL ? hga_strn(c->token.s, c->token.n) : hga_str("");
	return v;
}

/* ---- providers ---- */

struct chain {
	struct hga_aws_config *cfg;
	struct hga_buf *why; /* reason of the last that did not apply */
	struct hga_creds *found;
};

/* 1: found; 0: does not apply (why says so); < 0: failure. */
typedef int (*provider_fn)(struct chain *c, struct hga_err *err);

static const char *var(const struct chain *c, const char *name)
{
	return hga_aws_env_get(c->cfg->env, name);
}

/* The reason may be lost without memory; it is only for people. */
static void because(struct chain *c, const char *text)
{
	(void)!hga_buf_adds(c->why, text, NULL);
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

static int from_environment(struct chain *c, struct hga_err *err)
{
	const char *id, *secret, *token;
	int rc;

	if (c->cfg->args[HGA_SET_PROFILE] != NULL) {
		because(c, "not asked, a profile was given");
		return 0;
	}
	id = var(c, "AWS_ACCESS_KEY_ID");
	secret = var(c, "AWS_SECRET_ACCESS_KEY");
	if (id == NULL) {
		because(c, "AWS_ACCESS_KEY_ID is not set");
		return 0;
	}
	if (secret == NULL)
		return hga_fail(err, HGA_AUTH, 0, "PartialCredentials",
		                "Partial credentials found in environment, "
		                "missing: AWS_SECRET_ACCESS_KEY");
	token = var(c, "AWS_SECURITY_TOKEN");
	if (token == NULL)
		token = var(c, "AWS_SESSION_TOKEN");
	rc = hga_creds_new(&c->found, "environment", hga_str(id),
	                   hga_str(secret), hga_str(token), err);
	if (rc < 0)
		return rc;
	set_account(c->found, var(c, "AWS_ACCOUNT_ID"));
	(void)snprintf(c->found->where, sizeof(c->found->where),
	               "AWS_ACCESS_KEY_ID");
	rc = set_expiry(c->found, var(c, "AWS_CREDENTIAL_EXPIRATION"), err);
	return rc < 0 ? rc : 1;
}

/* A profile key that asks for something this program cannot do. */
static int unsupported_key(const struct chain *c, const char *key,
                           const char *what, struct hga_err *err)
{
	return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	                "profile \"%s\" sets %s: %s is not supported here; "
	                "use a profile with aws_access_key_id and "
	                "aws_secret_access_key, or the environment",
	                c->cfg->profile, key, what);
}

static int no_profile_key(struct chain *c, const char *key, const char *what,
                          struct hga_err *err)
{
	char why[80];

	if (hga_aws_config_prop(c->cfg, key) != NULL)
		return unsupported_key(c, key, what, err);
	(void)snprintf(why, sizeof(why), "profile has no %s", key);
	because(c, why);
	return 0;
}

static int from_role(struct chain *c, struct hga_err *err)
{
	/* With a token file the next provider is meant. */
	if (hga_aws_config_prop(c->cfg, "web_identity_token_file") != NULL) {
		because(c, "profile uses a web identity");
		return 0;
	}
	return no_profile_key(c, "role_arn", "assuming a role", err);
}

static int from_web_identity(struct chain *c, struct hga_err *err)
{
	if (c->cfg->args[HGA_SET_PROFILE] == NULL &&
	    var(c, "AWS_WEB_IDENTITY_TOKEN_FILE") != NULL)
		return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
		                "AWS_WEB_IDENTITY_TOKEN_FILE is set: web "
		                "identities are not supported here; unset it "
		                "or set AWS_ACCESS_KEY_ID");
	return no_profile_key(c, "web_identity_token_file", "a web identity",
	                      err);
}

static int from_sso(struct chain *c, struct hga_err *err)
{
	static const char *const keys[] = {"sso_account_id", "sso_role_name"};

	for (size_t i = 0; i < 2; i++) {
		if (hga_aws_config_prop(c->cfg, keys[i]) != NULL)
			return unsupported_key(c, keys[i], "single sign-on",
			                       err);
	}
	if (hga_aws_config_prop(c->cfg, "sso_session") != NULL)
		because(c, "sso_session without sso_account_id and "
		           "sso_role_name gives a token, not credentials");
	else
		because(c, "profile has no sso_account_id");
	return 0;
}

static int from_login(struct chain *c, struct hga_err *err)
{
	return no_profile_key(c, "login_session", "aws login", err);
}

static int from_process(struct chain *c, struct hga_err *err)
{
	return no_profile_key(c, "credential_process", "a credential process",
	                      err);
}

/* Static keys of the profile in one of the two files. */
static int from_file(struct chain *c, bool credentials, struct hga_err *err)
{
	const struct hga_ini_section *s =
	    hga_aws_config_section(c->cfg, credentials);
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
		                path, c->cfg->profile);
	rc = hga_creds_new(&c->found, "profile", hga_str(id), hga_str(secret),
	                   hga_str(token), err);
	if (rc < 0)
		return rc;
	set_account(c->found, hga_aws_config_prop(c->cfg, "aws_account_id"));
	(void)snprintf(c->found->where, sizeof(c->found->where),
	               "profile %s (%s)", c->cfg->profile, path);
	return 1;
}

static int from_credentials_file(struct chain *c, struct hga_err *err)
{
	return from_file(c, true, err);
}

static int from_config_file(struct chain *c, struct hga_err *err)
{
	return from_file(c, false, err);
}

static int from_container(struct chain *c, struct hga_err *err)
{
	static const char *const vars[] = {
	    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	    "AWS_CONTAINER_CREDENTIALS_FULL_URI"};

	for (size_t i = 0; i < 2; i++) {
		if (var(c, vars[i]) != NULL)
			return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
			                "%s is set: container credentials are "
			                "not supported here; set "
			                "AWS_ACCESS_KEY_ID instead",
			                vars[i]);
	}
	because(c, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set");
	return 0;
}

static int from_metadata(struct chain *c, struct hga_err *err)
{
	(void)err;
	because(c, "not asked");
	return 0;
}

static const struct {
	const char *name;
	provider_fn fn;
} providers[] = {
    {"environment", from_environment},
    {"assume-role", from_role},
    {"web identity", from_web_identity},
    {"sso", from_sso},
    {"credentials file", from_credentials_file},
    {"login", from_login},
    {"process", from_process},
    {"config file", from_config_file},
    {"container", from_container},
    {"instance metadata", from_metadata},
};

int hga_creds_find(struct hga_aws_config *cfg, struct hga_creds **out,
                   struct hga_buf *tried, struct hga_err *err)
{
	const size_t n = sizeof(providers) / sizeof(*providers);
	struct hga_buf why;
	struct chain c = {cfg, &why, NULL};
	int rc = 0;

	hga_buf_init(&why, 256);
	/* The files are only read when the environment has no answer. */
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (i == 1)
			rc = hga_aws_config_load(cfg, err);
		hga_buf_clear(&why);
		if (rc == 0)
			rc = providers[i].fn(&c, err);
		if (rc == 0 && tried != NULL)
			(void)!hga_buf_addf(tried, NULL, "%s: %s\n",
			                    providers[i].name,
			                    hga_buf_text(&why));
	}
	hga_buf_release(&why);
	if (rc == 1) {
		*out = c.found;
		return 0;
	}
	hga_creds_free(c.found);
	if (rc < 0)
		return rc;
	return hga_fail(err, HGA_AUTH, 0, "NoCredentials",
	                "no AWS credentials found (environment, profile "
	                "\"%s\", container, instance metadata)",
	                cfg->profile);
}
