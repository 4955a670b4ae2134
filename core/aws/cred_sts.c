/*
 * Roles: sts AssumeRole and AssumeRoleWithWebIdentity, with the CLI's cache
 * and MFA codes from the terminal.
 */
#include "aws/cred_int.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- answers ---- */

/* The account in "arn:aws:sts::123456789012:assumed-role/...". */
static void account_of(struct hga_str arn, char out[16])
{
	for (int colons = 0; arn.n > 0 && colons < 4;) {
		colons += arn.s[0] == ':';
		arn = hga_strn(arn.s + 1, arn.n - 1);
	}
	arn.n =
	    hga_str_chr(arn, ':', 0) > 0 ? (size_t)hga_str_chr(arn, ':', 0) : 0;
	(void)snprintf(out, 16, "%.*s", HGA_STRF(arn));
}

static int read_answer(struct cred_run *r, const char *provider,
                       struct hga_creds **out, struct hga_err *err)
{
	struct hga_val v = hga_aws_call_answer(&r->call);
	struct hga_val user = hga_val_get(v, "AssumedRoleUser");
	const struct cred_link *l = cred_link_of(r);
	int rc = cred_from_doc(hga_val_get(v, "Credentials"), &cred_names_sts,
	                       provider, out, err);

	if (rc < 0)
		return rc;
	account_of(hga_val_str(hga_val_get(user, "Arn")), (*out)->account_id);
	(void)snprintf((*out)->where, sizeof((*out)->where), "%s (profile %s)",
	               l->t[CRED_T_ROLE_ARN],
	               l->t[CRED_T_PROFILE] != NULL ? l->t[CRED_T_PROFILE]
	                                            : "default");
	return 0;
}

/* The whole message of a failed call, on one error. */
static void fail_call(struct cred_run *r)
{
	struct hga_err err = r->call.base.err;

	if (r->call.message.len > 0)
		(void)hga_fail(&err, err.kind, 0, NULL, "%.400s",
		               hga_buf_text(&r->call.message));
	(void)snprintf(err.code, sizeof(err.code), "CredentialProvider");
	cred_fail(r, &err);
}

static void on_answer(struct hga_op *op)
{
	struct cred_run *r = op->task;
	bool web = cred_link_of(r)->kind == CRED_WEB;
	struct hga_creds *c = NULL;
	struct hga_err err = {0};

	if (op->err.kind != HGA_OK) {
		fail_call(r);
		return;
	}
	if (read_answer(r, web ? "web identity" : "assume-role", &c, &err) <
	    0) {
		cred_fail(r, &err);
		return;
	}
	cred_cache_put(r, c, NULL);
	cred_yield(r, c);
}

static bool from_cache(struct cred_run *r, const char *provider)
{
	struct hga_creds *c = NULL;

	if (!cred_cache_get(r, cred_cache_role, provider, &c))
		return false;
	cred_yield(r, c);
	return true;
}

static const char *session_name(const struct cred_run *r, char *out,
                                size_t size)
{
	const char *given = cred_link_of(r)->t[CRED_T_SESSION_NAME];

	(void)snprintf(out, size, "hgauto-%" PRId64, cred_now_us(r) / 1000000);
	return given != NULL ? given : out;
}

static void call(struct cred_run *r, const char *op, struct hga_vtape *params,
                 struct hga_creds *creds)
{
	struct hga_err err = {0};
	int rc = cred_call(r, "sts", NULL, op, params, creds, on_answer, &err);

	hga_vtape_free_secret(params);
	if (rc < 0)
		cred_fail(r, &err);
}

/* ---- AssumeRole ---- */

static int role_params(struct cred_run *r, struct hga_vtape **out,
                       struct hga_err *err)
{
	const struct cred_link *l = cred_link_of(r);
	struct hga_vtape *t = hga_vtape_new(NULL, CRED_TAPE_MAX);
	char name[64];
	const struct cred_pair texts[] = {
	    {"RoleArn", l->t[CRED_T_ROLE_ARN]},
	    {"RoleSessionName", session_name(r, name, sizeof(name))},
	    {"ExternalId", l->t[CRED_T_EXTERNAL_ID]},
	    {"SerialNumber", l->t[CRED_T_MFA]},
	    {"TokenCode", l->t[CRED_T_MFA] != NULL ? r->code.s : NULL},
	};
	int64_t seconds;
	int rc;

	if (t == NULL)
		return hga_fail_mem(err);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (texts[i].value == NULL)
			continue;
		hga_vt_key(t, hga_str(texts[i].name));
		hga_vt_str(t, HGA_NO_NAME, hga_str(texts[i].value));
	}
	if (l->t[CRED_T_DURATION] != NULL &&
	    hga_str_int(hga_str(l->t[CRED_T_DURATION]), &seconds)) {
		hga_vt_key(t, HGA_STR("DurationSeconds"));
		hga_vt_int(t, HGA_NO_NAME, seconds);
	}
	hga_vt_close(t);
	rc = hga_vt_end(t, err);
	if (rc < 0) {
		hga_vtape_free_secret(t);
		return rc;
	}
	*out = t;
	return 0;
}

static void assume(struct cred_run *r)
{
	struct hga_vtape *params = NULL;
	struct hga_err err = {0};

	if (role_params(r, &params, &err) < 0)
		cred_fail(r, &err);
	else
		call(r, "AssumeRole", params, r->creds);
}

static void on_code(struct hga_op *op)
{
	struct cred_run *r = op->task;
	struct hga_err err = op->err;

	if (err.kind == HGA_OK)
		(void)!hga_secret_set(&r->code, hga_str(r->ask.answer), &err);
	hga_wipe(r->ask.answer, sizeof(r->ask.answer));
	if (err.kind != HGA_OK)
		cred_fail(r, &err);
	else
		assume(r);
}

static void ask_code(struct cred_run *r)
{
	const struct hga_aws_env *env = &r->aws->env;
	const char *mfa = cred_link_of(r)->t[CRED_T_MFA];
	struct hga_err err = {0};
	char prompt[256];

	(void)snprintf(prompt, sizeof(prompt),
	               "Enter MFA code for %.200s: ", mfa);
	hga_ask_release(&r->ask);
	memset(&r->ask, 0, sizeof(r->ask));
	r->ask.base.done = on_code;
	r->ask.base.task = r;
	if (env->ask(env->data, r->aws->loop, &r->ask, prompt, &err) == 0)
		return;
	hga_err_prefix(&err, "mfa_serial wants a code for %s", mfa);
	cred_fail(r, &err);
}

void cred_role_start(struct cred_run *r)
{
	if (from_cache(r, "assume-role"))
		return;
	if (cred_link_of(r)->t[CRED_T_MFA] != NULL)
		ask_code(r);
	else
		assume(r);
}

/* ---- web identity ---- */

static int read_token(struct cred_run *r, struct hga_buf *out,
                      struct hga_err *err)
{
	const struct hga_aws_env *env = &r->aws->env;
	struct hga_buf path;
	int rc;

	hga_buf_init(&path, 4096);
	rc = hga_aws_expand(env, cred_link_of(r)->t[CRED_T_TOKEN_FILE], &path,
	                    err);
	if (rc == 0)
		rc = env->read(env->data, hga_buf_text(&path), out, err);
	hga_buf_release(&path);
	return rc;
}

void cred_web_start(struct cred_run *r)
{
	const struct cred_link *l = cred_link_of(r);
	struct hga_vtape *params = NULL;
	struct hga_err err = {0};
	struct hga_buf token;
	struct hga_str trimmed;
	char name[64];
	int rc;

	if (from_cache(r, "web identity"))
		return;
	hga_buf_init(&token, CRED_DOC_MAX);
	rc = read_token(r, &token, &err);
	trimmed = hga_str_trim(hga_buf_str(&token));
	if (rc == 0 && trimmed.n == 0)
		rc = hga_fail(&err, HGA_AUTH, 0, "CredentialProvider",
		              "%s is empty", l->t[CRED_T_TOKEN_FILE]);
	if (rc == 0) {
		/* Trailing blanks are no part of it. */
		size_t end = (size_t)(trimmed.s - token.data) + trimmed.n;

		token.data[end] = '\0';
		{
			const struct cred_pair pairs[] = {
			    {"RoleArn", l->t[CRED_T_ROLE_ARN]},
			    {"RoleSessionName",
			     session_name(r, name, sizeof(name))},
			    {"WebIdentityToken", trimmed.s},
			};

			rc = hga_secret_set(&r->bearer_token, trimmed, &err);
			if (rc == 0)
				rc = cred_params(&params, pairs, 3, &err);
		}
	}
	hga_buf_release_secret(&token);
	if (rc < 0)
		cred_fail(r, &err);
	else
		call(r, "AssumeRoleWithWebIdentity", params, NULL);
}
