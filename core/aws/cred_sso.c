/*
 * Single sign-on: the token the CLI keeps per session, its refresh (sso-oidc
 * CreateToken), and credentials of a role for it (sso GetRoleCredentials).
 */
#include "aws/cred_int.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABEL "aws"

static void log_in_again(struct cred_run *r, const char *why)
{
	const char *profile = cred_link_of(r)->t[CRED_T_PROFILE];
	const char *session = cred_link_of(r)->t[CRED_T_SSO_SESSION];

	if (session != NULL)
		cred_broken(r, "%s; run: aws sso login --sso-session %s", why,
		            session);
	else
		cred_broken(r, "%s; run: aws sso login --profile %s", why,
		            profile);
}

/* ---- credentials of the role ---- */

static int read_role(struct cred_run *r, struct hga_creds **out,
                     struct hga_err *err)
{
	const struct cred_link *l = cred_link_of(r);
	struct hga_val v =
	    hga_val_get(hga_aws_call_answer(&r->call), "roleCredentials");
	int64_t ms = hga_val_int(hga_val_get(v, "expiration"), 0);
	int rc = cred_from_doc(v, &cred_names_lower, "sso", out, err);

	if (rc < 0)
		return rc;
	if (ms > 0 && ms < INT64_MAX / 1000)
		(*out)->expires_us = ms * 1000;
	(void)snprintf((*out)->account_id, sizeof((*out)->account_id), "%s",
	               l->t[CRED_T_SSO_ACCOUNT]);
	(void)snprintf((*out)->where, sizeof((*out)->where),
	               "%s in %s (profile %s)", l->t[CRED_T_SSO_ROLE],
	               l->t[CRED_T_SSO_ACCOUNT], l->t[CRED_T_PROFILE]);
	return 0;
}

static void on_role(struct hga_op *op)
{
	struct cred_run *r = op->task;
	struct hga_creds *c = NULL;
	struct hga_err err = op->err;

	if (strcmp(r->call.code, "UnauthorizedException") == 0) {
		log_in_again(r, "the single sign-on session is not valid any "
		                "more");
		return;
	}
	if (err.kind == HGA_OK && read_role(r, &c, &err) == 0) {
		cred_cache_put(r, c, "sso");
		cred_yield(r, c);
		return;
	}
	if (r->call.message.len > 0)
		(void)hga_fail(&err, err.kind, 0, NULL, "%.400s",
		               hga_buf_text(&r->call.message));
	(void)snprintf(err.code, sizeof(err.code), "CredentialProvider");
	cred_fail(r, &err);
}

static void get_role(struct cred_run *r)
{
	const struct cred_link *l = cred_link_of(r);
	const struct cred_pair pairs[] = {
	    {"roleName", l->t[CRED_T_SSO_ROLE]},
	    {"accountId", l->t[CRED_T_SSO_ACCOUNT]},
	    {"accessToken", r->bearer_token.s},
	};
	struct hga_vtape *params = NULL;
	struct hga_err err = {0};
	int rc = cred_params(&params, pairs, 3, &err);

	/* From here on path and doc are those of the role. */
	hga_vtape_free_secret(r->doc);
	r->doc = NULL;
	if (rc == 0) {
		struct hga_creds *c = NULL;

		/* Only for the name of the file: it was looked at first. */
		if (cred_cache_get(r, cred_cache_sso, "sso", &c))
			hga_creds_free(c);
		rc = cred_call(r, "sso", l->t[CRED_T_SSO_REGION],
		               "GetRoleCredentials", params, NULL, on_role,
		               &err);
	}
	hga_vtape_free_secret(params);
	if (rc < 0)
		cred_fail(r, &err);
}

static void yield_token(struct cred_run *r)
{
	const struct cred_link *l = cred_link_of(r);
	struct hga_creds *c = NULL;
	struct hga_err err = {0};

	if (hga_creds_new_token(&c, "sso",
	                        hga_strn(r->bearer_token.s, r->bearer_token.n),
	                        &err) < 0) {
		cred_fail(r, &err);
		return;
	}
	c->expires_us = r->bearer_expires_us;
	(void)snprintf(c->where, sizeof(c->where), "sso-session %s",
	               l->t[CRED_T_SSO_SESSION] != NULL
	                   ? l->t[CRED_T_SSO_SESSION]
	                   : l->t[CRED_T_SSO_URL]);
	cred_yield(r, c);
}

static void have_token(struct cred_run *r)
{
	if (r->bearer)
		yield_token(r);
	else
		get_role(r);
}

/* ---- the token ---- */

static int64_t left_s(const struct cred_run *r)
{
	return (r->bearer_expires_us - cred_now_us(r)) / 1000000;
}

/* Reads accessToken and expiresAt of a document; false without them. */
static bool read_token(struct cred_run *r, struct hga_val doc)
{
	struct hga_str token = hga_val_str(hga_val_get(doc, "accessToken"));
	struct hga_str when = hga_val_str(hga_val_get(doc, "expiresAt"));

	return token.n > 0 && hga_time_parse(when, &r->bearer_expires_us) &&
	       hga_secret_set(&r->bearer_token, token, NULL) == 0;
}

/* The old token serves as long as it is valid. */
static void no_refresh(struct cred_run *r, const char *why)
{
	if (left_s(r) > 0) {
		hga_log(HGA_LOG_DEBUG, LABEL,
		        "the single sign-on token was not renewed: %s", why);
		have_token(r);
		return;
	}
	log_in_again(r, "the single sign-on session has expired");
}

static void put(struct hga_vtape *t, const char *key, struct hga_str v)
{
	if (v.n == 0)
		return;
	hga_vt_key(t, hga_str(key));
	hga_vt_str(t, HGA_NO_NAME, v);
}

/* Token file with what CreateToken answered. */
static void keep_token(struct cred_run *r, struct hga_val answer)
{
	struct hga_vtape *t = hga_vtape_new(NULL, CRED_TAPE_MAX);
	char when[HGA_TIME_TEXT];
	struct hga_err err = {0};

	if (t == NULL)
		return; /* the file stays as it was */
	(void)hga_time_text(when, r->bearer_expires_us, HGA_TIME_ISO);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	put(t, "accessToken", hga_strn(r->bearer_token.s, r->bearer_token.n));
	put(t, "expiresAt", hga_str(when));
	put(t, "refreshToken",
	    hga_val_str(hga_val_get(answer, "refreshToken")));
	hga_vt_close(t);
	if (hga_vt_end(t, &err) == 0)
		cred_cache_write(&r->aws->env, hga_buf_text(&r->path),
		                 hga_vtape_root(r->doc), hga_vtape_root(t));
	hga_vtape_free_secret(t);
}

static void on_token(struct hga_op *op)
{
	struct cred_run *r = op->task;
	struct hga_val v = hga_aws_call_answer(&r->call);
	struct hga_str token = hga_val_str(hga_val_get(v, "accessToken"));
	int64_t seconds = hga_val_int(hga_val_get(v, "expiresIn"), 0);

	if (op->err.kind != HGA_OK || token.n == 0 || seconds <= 0 ||
	    seconds > 100000000 ||
	    hga_secret_set(&r->bearer_token, token, NULL) < 0) {
		no_refresh(r, r->call.code[0] != '\0' ? r->call.code
		                                      : "no answer");
		return;
	}
	r->bearer_expires_us = cred_now_us(r) + seconds * 1000000;
	cred_hide(r, hga_val_str(hga_val_get(v, "refreshToken")));
	keep_token(r, v);
	have_token(r);
}

/* When the token in a file was last to be renewed. */
struct aws_sso_try {
	struct aws_sso_try *next;
	int64_t at_us;
	char path[];
};

void cred_sso_forget(struct hga_aws *aws)
{
	struct aws_sso_try *s;

	while ((s = aws->sso_tries) != NULL) {
		aws->sso_tries = s->next;
		hga_free(s);
	}
}

/* False: the minute since the last time is not over. */
static bool try_now(struct cred_run *r)
{
	struct aws_sso_try *s = r->aws->sso_tries;
	int64_t now = cred_now_us(r);

	while (s != NULL && strcmp(s->path, hga_buf_text(&r->path)) != 0)
		s = s->next;
	if (s != NULL && now - s->at_us < (int64_t)CRED_TRY_AGAIN_S * 1000000)
		return false;
	if (s == NULL) {
		s = hga_alloc(sizeof(*s) + r->path.len + 1);
		if (s == NULL)
			return false;
		memcpy(s->path, hga_buf_text(&r->path), r->path.len + 1);
		s->next = r->aws->sso_tries;
		r->aws->sso_tries = s;
	}
	s->at_us = now;
	return true;
}

/* True: nothing in the file stands against asking for a new one. */
static bool can_refresh(struct cred_run *r, struct hga_val doc)
{
	int64_t until = 0;
	struct hga_str when =
	    hga_val_str(hga_val_get(doc, "registrationExpiresAt"));

	if (cred_link_of(r)->t[CRED_T_SSO_SESSION] == NULL ||
	    hga_val_str(hga_val_get(doc, "refreshToken")).n == 0 ||
	    hga_val_str(hga_val_get(doc, "clientId")).n == 0 ||
	    hga_val_str(hga_val_get(doc, "clientSecret")).n == 0 ||
	    (when.n > 0 &&
	     (!hga_time_parse(when, &until) || until <= cred_now_us(r))))
		return false;
	return try_now(r);
}

static void refresh(struct cred_run *r)
{
	static const char *const keys[] = {"clientId", "clientSecret",
	                                   "refreshToken"};
	struct hga_val doc = hga_vtape_root(r->doc);
	struct hga_vtape *t = hga_vtape_new(NULL, CRED_TAPE_MAX);
	struct hga_err err = {0};
	int rc = t != NULL ? 0 : hga_fail_mem(&err);

	if (rc == 0) {
		hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
		for (size_t i = 0; i < 3; i++) {
			struct hga_str v =
			    hga_val_str(hga_val_get(doc, keys[i]));

			if (i > 0)
				cred_hide(r, v);
			put(t, keys[i], v);
		}
		put(t, "grantType", HGA_STR("refresh_token"));
		hga_vt_close(t);
		rc = hga_vt_end(t, &err);
	}
	if (rc == 0)
		rc = cred_call(r, "sso-oidc",
		               cred_link_of(r)->t[CRED_T_SSO_REGION],
		               "CreateToken", t, NULL, on_token, &err);
	hga_vtape_free_secret(t);
	if (rc < 0)
		no_refresh(r, err.msg);
}

static void load_token(struct cred_run *r)
{
	const struct cred_link *l = cred_link_of(r);
	const struct hga_aws_env *env = &r->aws->env;
	const char *name = l->t[CRED_T_SSO_SESSION] != NULL
	                       ? l->t[CRED_T_SSO_SESSION]
	                       : l->t[CRED_T_SSO_URL];
	struct hga_err err = {0};
	char hex[41];
	int rc = hga_hash_hex(HGA_SHA1, name, strlen(name), hex, &err);

	hga_vtape_free_secret(r->doc);
	r->doc = NULL;
	if (rc == 0)
		rc = cred_cache_path(env, "sso/cache", hex, &r->path, &err);
	if (rc == 0)
		rc =
		    cred_cache_read(env, hga_buf_text(&r->path), &r->doc, &err);
	if (rc < 0) {
		cred_fail(r, &err);
		return;
	}
	if (r->doc == NULL || !read_token(r, hga_vtape_root(r->doc))) {
		log_in_again(r, "there is no single sign-on session");
		return;
	}
	if (left_s(r) >= CRED_FRESH_S)
		have_token(r);
	else if (can_refresh(r, hga_vtape_root(r->doc)))
		refresh(r);
	else
		no_refresh(r, "not possible now");
}

void cred_sso_start(struct cred_run *r)
{
	struct hga_creds *c = NULL;

	if (!r->bearer && cred_link_of(r)->t[CRED_T_SSO_ACCOUNT] == NULL) {
		cred_broken(r, "sso_session without sso_account_id and "
		               "sso_role_name gives a token, not credentials");
		return;
	}
	if (!r->bearer && cred_cache_get(r, cred_cache_sso, "sso", &c)) {
		(void)snprintf(c->account_id, sizeof(c->account_id), "%s",
		               cred_link_of(r)->t[CRED_T_SSO_ACCOUNT]);
		cred_yield(r, c);
		return;
	}
	load_token(r);
}
