/*
 * AWS credentials: which provider answers, and what is said when none or a
 * broken one does.  Expectations from aws.md section 9.
 */
#include "tap.h"

#include "aws_env.h"

#include "aws/call.h"
#include "base/log.h"
#include "base/redact.h"

#define ID "AKIDEXAMPLE00001"
#define SECRET "wJalrXUtnFEMI-canary-secret"

static struct hga_buf tried;
static int steps = -1; /* of the loop until a question is given up; -1: never */

static void on_done(struct hga_op *op)
{
	*(bool *)op->task = true;
}

/* The chain under the fake world; one loop for each question. */
static int find(struct fake_env *f, const char *profile, struct hga_creds **out,
                struct hga_err *err)
{
	struct hga_loop *loop = hga_loop_new(err);
	struct hga_aws_args args = {loop, NULL, &f->env, "test"};
	struct hga_aws_client_args a = {0};
	struct hga_aws_client *client = NULL;
	struct hga_creds_get g = {0};
	struct hga_aws *aws = NULL;
	bool done = false;
	int rc;

	*out = NULL;
	memset(err, 0, sizeof(*err));
	a.profile = hga_str(profile);
	g.base.done = on_done;
	g.base.task = &done;
	rc = hga_aws_new(&aws, &args, err);
	if (rc == 0)
		rc = hga_aws_client_new(aws, &a, &client, err);
	if (rc == 0)
		rc = hga_creds_get_start(&g, client, err);
	for (int left = steps; rc == 0 && !done && left != 0; left--)
		if (hga_loop_step(loop, 1000, err) < 0)
			abort();
	if (rc == 0 && g.base.err.kind != HGA_OK) {
		*err = g.base.err;
		rc = -(int)err->kind;
	}
	if (g.creds != NULL)
		*out = hga_creds_ref(g.creds);
	hga_buf_clear(&tried);
	(void)!hga_buf_addstr(&tried, hga_buf_str(&g.tried), NULL);
	hga_creds_get_release(&g);
	hga_aws_client_free(client);
	hga_aws_free(aws);
	hga_loop_free(loop);
	return rc < 0 ? rc : 0;
}

static void found(struct fake_env *f, const char *profile, const char *id,
                  const char *provider, const char *name)
{
	struct hga_creds *c;
	struct hga_err err;

	if (find(f, profile, &c, &err) < 0) {
		ok(false, "%s: %s", name, err.msg);
		return;
	}
	is_str(c->access_key_id, id, name);
	is_str(c->provider, provider, "its provider");
	hga_creds_free(c);
}

static void fails(struct fake_env *f, const char *profile, const char *code,
                  const char *part)
{
	struct hga_creds *c;
	struct hga_err err;

	is_int(find(f, profile, &c, &err), -HGA_AUTH, part);
	is_str(err.code, code, "code");
	ok(strstr(err.msg, part) != NULL, "\"%s\" names %s", err.msg, part);
	ok(strstr(err.msg, SECRET) == NULL, "no secret in the message");
	hga_creds_free(c);
}

static void test_environment(void)
{
	struct fake_env f;
	struct hga_creds *c;
	struct hga_err err;

	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/credentials",
	          "[default]\naws_access_key_id = FROMFILE\n"
	          "aws_secret_access_key = " SECRET "\n"
	          "[hg]\naws_access_key_id = HGFILE\n"
	          "aws_secret_access_key = " SECRET "\n");
	fake_var(&f, "AWS_ACCESS_KEY_ID", ID);
	fails(&f, "", "PartialCredentials", "AWS_SECRET_ACCESS_KEY");
	fake_var(&f, "AWS_SECRET_ACCESS_KEY", "  ");
	fails(&f, "", "PartialCredentials", "AWS_SECRET_ACCESS_KEY");
	fake_var(&f, "AWS_SECRET_ACCESS_KEY", SECRET);
	fake_var(&f, "AWS_SESSION_TOKEN", "tok-session");
	fake_var(&f, "AWS_ACCOUNT_ID", "123456789012");
	found(&f, "", ID, "environment", "the environment comes first");
	is_int(f.reads, 0, "no file is read for it");
	found(&f, "hg", "HGFILE", "profile",
	      "a profile given as argument skips it");
	if (find(&f, "", &c, &err) == 0) {
		is_str(c->token.s, "tok-session", "session token");
		is_str(c->account_id, "123456789012", "account");
		hga_creds_free(c);
	}
	fake_var(&f, "AWS_SECURITY_TOKEN", "tok-security");
	if (find(&f, "", &c, &err) == 0) {
		is_str(c->token.s, "tok-security",
		       "AWS_SECURITY_TOKEN is asked first");
		hga_creds_free(c);
	}
	fake_var(&f, "AWS_ACCESS_KEY_ID", " ");
	found(&f, "", "FROMFILE", "profile", "a blank id counts as unset");
}

static void test_profile(void)
{
	struct fake_env f;

	fake_init(&f);
	fake_file(&f, "/pw-home/.aws/config",
	          "[default]\naws_access_key_id = CONF\n"
	          "aws_secret_access_key = " SECRET "\n"
	          "[profile half]\naws_access_key_id = HALF\n"
	          "[profile role]\nrole_arn = arn:aws:iam::1:role/x\n"
	          "source_profile = default\n"
	          "[profile sso]\nsso_account_id = 1\nsso_role_name = r\n"
	          "[profile token]\nsso_session = s\n"
	          "[profile proc]\ncredential_process = /bin/false\n"
	          "[profile web]\nrole_arn = a\nweb_identity_token_file = /t\n"
	          "[profile login]\nlogin_session = arn\n");
	found(&f, "", "CONF", "profile", "the config file has keys, too");
	fails(&f, "half", "PartialCredentials", "aws_secret_access_key");
	fails(&f, "role", "CredentialProvider", "assume-role (profile");
	fails(&f, "sso", "CredentialProvider", "sso_start_url");
	fails(&f, "proc", "CredentialProvider", "code 1");
	fails(&f, "web", "CredentialProvider", "web identity (profile");
	fails(&f, "login", "CredentialProvider", "aws login");
	fails(&f, "token", "NoCredentials", "Unable to locate");
	ok(strstr(hga_buf_text(&tried), "gives a token, not credentials") !=
	       NULL,
	   "a session without account is explained");
	fake_file(&f, "/pw-home/.aws/credentials",
	          "[default]\naws_access_key_id = CRED\n"
	          "aws_secret_access_key = " SECRET "\n");
	found(&f, "", "CRED", "profile", "the credentials file comes first");
	fake_var(&f, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.1.2.3/");
	found(&f, "", "CRED", "profile", "files come before the container");
	fails(&f, "token", "CredentialProvider",
	      "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

static void test_none(void)
{
	struct fake_env f;

	fake_init(&f);
	fails(&f, "", "NoCredentials", "Unable to locate credentials");
	ok(strstr(hga_buf_text(&tried),
	          "environment: AWS_ACCESS_KEY_ID is not set\n") != NULL,
	   "each provider says why it did not apply");
	ok(strstr(hga_buf_text(&tried), "credentials file: ") != NULL,
	   "the credentials file, too");
	fake_file(&f, "/pw-home/.aws/config", NULL);
	{
		struct hga_creds *c;
		struct hga_err err;

		is_int(find(&f, "", &c, &err), -HGA_IO,
		       "an unreadable file is not taken for a missing one");
	}
}

static void test_secret(void)
{
	struct hga_secret s = {NULL, 0};
	struct hga_buf out;

	ok(hga_secret_set(&s, hga_str(SECRET), NULL) == 0, "set");
	hga_buf_init(&out, 1000);
	ok(hga_redact_text(hga_log_redact(), hga_str("x " SECRET " y"), &out,
	                   NULL) == 0,
	   "redacted");
	is_str(hga_buf_text(&out), "x *** y", "secrets vanish from the log");
	hga_buf_release(&out);
	hga_secret_release(&s);
	hga_secret_release(&s);
	ok(s.s == NULL, "a second release is harmless");
}

/* A process that lives for days sees many tokens. */
static void test_tokens(void)
{
	struct fake_env f;
	struct hga_creds *c;
	struct hga_err err;
	size_t before = hga_redact_count(hga_log_redact()), after;
	char token[40];

	steps = 1;
	for (int i = 0; i < 24; i++) {
		fake_init(&f);
		(void)snprintf(token, sizeof(token), "Bearer token-%08d", i);
		/* Nobody listens at port 1. */
		fake_var(&f, "AWS_CONTAINER_CREDENTIALS_FULL_URI",
		         "http://127.0.0.1:1/");
		fake_var(&f, "AWS_CONTAINER_AUTHORIZATION_TOKEN", token);
		(void)!find(&f, "", &c, &err);
	}
	steps = -1;
	after = hga_redact_count(hga_log_redact());
	ok(after > before, "a token of late is hidden still");
	ok(after < before + 20, "old tokens of a container are forgotten");
}

int main(void)
{
	hga_buf_init(&tried, 4096);
	test_environment();
	test_profile();
	test_none();
	test_secret();
	test_tokens();
	hga_buf_release(&tried);
	hga_log_release();
	return done();
}
