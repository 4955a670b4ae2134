/*
 * AWS credentials: storage of secrets.  The chain is in cred_plan.c (where
 * from), cred_run.c (following it) and cred_get.c (for clients, refresh).
 */
#include "aws/cred.h"

#include "base/log.h"
#include "base/mem.h"

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

static int make(struct hga_creds **out, const char *provider, struct hga_str id,
                struct hga_str secret, struct hga_str token,
                struct hga_err *err)
{
	struct hga_creds *c = hga_calloc(1, sizeof(*c));
	int rc = 0;

	if (c == NULL)
		return hga_fail_mem(err);
	c->refs = 1;
	(void)snprintf(c->provider, sizeof(c->provider), "%s", provider);
	c->access_key_id = hga_memdup0(id.s, id.n);
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

int hga_creds_new(struct hga_creds **out, const char *provider,
                  struct hga_str access_key_id, struct hga_str secret,
                  struct hga_str token, struct hga_err *err)
{
	access_key_id = hga_str_trim(access_key_id);
	secret = hga_str_trim(secret);
	token = hga_str_trim(token);
	if (access_key_id.n == 0 || secret.n == 0)
		return hga_fail(err, HGA_AUTH, 0, "PartialCredentials",
		                "Partial credentials found in %s, missing: %s",
		                provider,
		                secret.n == 0 ? "the secret access key"
		                              : "the access key id");
	return make(out, provider, access_key_id, secret, token, err);
}

int hga_creds_new_token(struct hga_creds **out, const char *provider,
                        struct hga_str token, struct hga_err *err)
{
	return make(out, provider, HGA_STR(""), HGA_STR(""), token, err);
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
	/* What expires comes anew again and again. */
	if (c->expires_us != 0) {
		hga_log_forget(hga_strn(c->secret.s, c->secret.n));
		hga_log_forget(hga_strn(c->token.s, c->token.n));
	}
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
