/*
 * `aws login`: the session the CLI keeps, renewed at the sign-in service with
 * a proof of possession (RFC 9449, ES256 of RFC 7518 section 3.4).
 */
#include "aws/cred_int.h"

#include "aws/endpoint.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABEL "aws"

enum {
	P256 = 32, /* bytes of a coordinate */
	LOGIN_MS = 30000
};

/* ---- the proof ---- */

static int add_b64url(struct hga_buf *out, const void *p, size_t n,
                      struct hga_err *err)
{
	size_t from = out->len;
	int rc = hga_b64_encode(out, p, n, err);

	if (rc < 0)
		return rc;
	while (out->len > from && out->data[out->len - 1] == '=')
		hga_buf_truncate(out, out->len - 1);
	for (size_t i = from; i < out->len; i++) {
		if (out->data[i] == '+')
			out->data[i] = '-';
		if (out->data[i] == '/')
			out->data[i] = '_';
	}
	return 0;
}

/* Next length-prefixed string of an SSH blob (RFC 4251 section 5). */
static bool next_string(struct hga_str *blob, struct hga_str *out)
{
	const unsigned char *p = (const unsigned char *)blob->s;
	size_t n;

	if (blob->n < 4)
		return false;
	n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
	if (n > blob->n - 4)
		return false;
	*out = hga_strn(blob->s + 4, n);
	*blob = hga_strn(blob->s + 4 + n, blob->n - 4 - n);
	return true;
}

/* A number of the signature in exactly 32 bytes. */
static bool fixed(struct hga_str mpint, uint8_t out[P256])
{
	while (mpint.n > P256 && mpint.s[0] == '\0')
		mpint = hga_strn(mpint.s + 1, mpint.n - 1);
	if (mpint.n > P256)
		return false;
	memset(out, 0, P256);
	memcpy(out + P256 - mpint.n, mpint.s, mpint.n);
	return true;
}

static int bad_key(struct hga_err *err)
{
	return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	                "dpopKey is no P-256 key");
}

/* {"typ":...,"jwk":{...}} of the header. */
static int proof_header(const struct hga_key *key, struct hga_buf *out,
                        struct hga_err *err)
{
	struct hga_str blob = hga_key_blob(key), type, curve, point;
	int rc;

	if (strcmp(hga_key_type(key), "ecdsa-sha2-nistp256") != 0 ||
	    !next_string(&blob, &type) || !next_string(&blob, &curve) ||
	    !next_string(&blob, &point) || point.n != 1 + 2 * P256)
		return bad_key(err);
	rc = hga_buf_adds(out,
	                  "{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":"
	                  "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"",
	                  err);
	if (rc == 0)
		rc = add_b64url(out, point.s + 1, P256, err);
	if (rc == 0)
		rc = hga_buf_adds(out, "\",\"y\":\"", err);
	if (rc == 0)
		rc = add_b64url(out, point.s + 1 + P256, P256, err);
	return rc == 0 ? hga_buf_adds(out, "\"}}", err) : rc;
}

static int proof_claims(const char *url, int64_t now_us, const char *jti,
                        struct hga_buf *out, struct hga_err *err)
{
	struct hga_jw w;

	hga_jw_init(&w, out, 0);
	hga_jw_object(&w);
	hga_jw_kstr(&w, "htm", HGA_STR("POST"));
	hga_jw_kstr(&w, "htu", hga_str(url));
	hga_jw_kint(&w, "iat", now_us / 1000000);
	hga_jw_kstr(&w, "jti", hga_str(jti));
	hga_jw_close(&w);
	return hga_jw_end(&w, err);
}

/* Appends ".signature" of what out holds from the position from on. */
static int proof_sign(const struct hga_key *key, struct hga_buf *out,
                      size_t from, struct hga_err *err)
{
	struct hga_buf sig;
	struct hga_str s, alg, both, r1, s1;
	uint8_t raw[2 * P256];
	int rc;

	hga_buf_init(&sig, 1024);
	rc = hga_key_sign(key, "ecdsa-sha2-nistp256",
	                  hga_strn(out->data + from, out->len - from), &sig,
	                  err);
	s = hga_buf_str(&sig);
	if (rc == 0 && (!next_string(&s, &alg) || !next_string(&s, &both) ||
	                !next_string(&both, &r1) || !next_string(&both, &s1) ||
	                !fixed(r1, raw) || !fixed(s1, raw + P256)))
		rc = bad_key(err);
	if (rc == 0)
		rc = hga_buf_addc(out, '.', err);
	if (rc == 0)
		rc = add_b64url(out, raw, sizeof(raw), err);
	hga_buf_release(&sig);
	return rc;
}

int cred_login_proof(struct hga_str pem, const char *url, int64_t now_us,
                     const char *jti, struct hga_buf *out, struct hga_err *err)
{
	struct hga_key *key = NULL;
	struct hga_buf part;
	size_t from = out->len;
	int rc = hga_key_parse(pem, "dpopKey", &key, err);

	if (rc < 0)
		return rc;
	hga_buf_init(&part, 8192);
	rc = proof_header(key, &part, err);
	if (rc == 0)
		rc = add_b64url(out, part.data, part.len, err);
	hga_buf_clear(&part);
	if (rc == 0)
		rc = proof_claims(url, now_us, jti, &part, err);
	if (rc == 0)
		rc = hga_buf_addc(out, '.', err);
	if (rc == 0)
		rc = add_b64url(out, part.data, part.len, err);
	if (rc == 0)
		rc = proof_sign(key, out, from, err);
	hga_buf_release(&part);
	hga_key_free(key);
	return rc;
}

/* ---- the session's file ---- */

static int file_path(struct cred_run *r, struct hga_err *err)
{
	const struct cred_link *l = cred_link_of(r);
	const struct hga_aws_env *env = &r->aws->env;
	const char *dir = l->t[CRED_T_LOGIN_DIR];
	char hex[65];
	int rc = hga_hash_hex(HGA_SHA256, l->t[CRED_T_LOGIN],
	                      strlen(l->t[CRED_T_LOGIN]), hex, err);

	if (rc < 0 || dir == NULL)
		return rc < 0 ? rc
		              : cred_cache_path(env, "login/cache", hex,
		                                &r->path, err);
	hga_buf_clear(&r->path);
	rc = hga_aws_expand(env, dir, &r->path, err);
	return rc == 0 ? hga_buf_addf(&r->path, err, "/%s.json", hex) : rc;
}

static struct hga_val token_of(const struct cred_run *r)
{
	return hga_val_get(hga_vtape_root(r->doc), "accessToken");
}

static void log_in_again(struct cred_run *r, const char *why)
{
	cred_broken(r, "%s; run: aws login --profile %s", why,
	            cred_link_of(r)->t[CRED_T_PROFILE]);
}

static void yield(struct cred_run *r, struct hga_creds *c)
{
	(void)snprintf(c->where, sizeof(c->where), "%s (profile %s)",
	               cred_link_of(r)->t[CRED_T_LOGIN],
	               cred_link_of(r)->t[CRED_T_PROFILE]);
	cred_yield(r, c);
}

static bool lasts(const struct cred_run *r, const struct hga_creds *c)
{
	return c->expires_us != 0 && c->expires_us - cred_now_us(r) >=
	                                 (int64_t)CRED_LOGIN_FRESH_S * 1000000;
}

/* ---- renewal ---- */

static int endpoint(struct cred_run *r, char *out, size_t size,
                    struct hga_err *err)
{
	const char *region = cred_link_of(r)->t[CRED_T_REGION];
	struct hga_aws_endpoint e = {0};
	struct hga_aws_value v;
	int rc = hga_aws_config_endpoint(r->cfg, HGA_STR("Signin"), &v, err);

	if (rc < 0)
		return rc;
	if (v.text != NULL) {
		rc = hga_aws_endpoint_parse(hga_str(v.text), &e, err);
		if (rc == 0 && !e.https &&
		    !hga_aws_host_is_loopback(hga_str(e.host)))
			rc = hga_fail(err, HGA_USAGE, 0, "Endpoint",
			              "%s: http:// is for loopback addresses "
			              "only (from %s)",
			              v.text, v.where);
		(void)snprintf(out, size, "%s://%s%s/v1/token",
		               e.https ? "https" : "http", e.host, e.base);
		return rc;
	}
	if (region == NULL)
		return hga_fail(err, HGA_USAGE, 0, "NoRegion",
		                "You must specify a region.");
	if (strncmp(region, "cn-", 3) == 0)
		(void)snprintf(out, size,
		               "https://%s.signin.amazonaws.cn/v1/token",
		               region);
	else if (strncmp(region, "us-gov-", 7) == 0)
		(void)snprintf(
		    out, size,
		    "https://%s.signin.amazonaws-us-gov.com/v1/token", region);
	else
		(void)snprintf(out, size,
		               "https://%s.signin.aws.amazon.com/v1/token",
		               region);
	return 0;
}

static void put(struct hga_vtape *t, const char *key, struct hga_str v)
{
	if (v.n == 0)
		return;
	hga_vt_key(t, hga_str(key));
	hga_vt_str(t, HGA_NO_NAME, v);
}

static void keep(struct cred_run *r, const struct hga_creds *c,
                 struct hga_str refresh)
{
	struct hga_vtape *t = hga_vtape_new(NULL, CRED_TAPE_MAX);
	char when[HGA_TIME_TEXT];
	struct hga_err err = {0};

	if (t == NULL)
		return; /* the file stays as it was */
	(void)hga_time_text(when, c->expires_us, HGA_TIME_ISO);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_key(t, HGA_STR("accessToken"));
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	put(t, "accessKeyId", hga_str(c->access_key_id));
	put(t, "secretAccessKey", hga_str(c->secret.s));
	put(t, "sessionToken", hga_str(c->token.s));
	put(t, "accountId", hga_str(c->account_id));
	put(t, "expiresAt", hga_str(when));
	hga_vt_close(t);
	put(t, "refreshToken", refresh);
	hga_vt_close(t);
	if (hga_vt_end(t, &err) == 0)
		cred_cache_write(&r->aws->env, hga_buf_text(&r->path),
		                 hga_vtape_root(r->doc), hga_vtape_root(t));
	hga_vtape_free_secret(t);
}

static void refused(struct cred_run *r, struct hga_val answer)
{
	struct hga_str code = hga_val_str(hga_val_get(answer, "error"));

	if (hga_str_eqc(code, "TOKEN_EXPIRED"))
		log_in_again(r, "the login session has expired");
	else if (hga_str_eqc(code, "USER_CREDENTIALS_CHANGED"))
		log_in_again(r, "the user's password has changed");
	else
		cred_broken(r,
		            "the sign-in service answered with status %d%s%.*s",
		            r->http.status, code.n > 0 ? ": " : "",
		            (int)(code.n < 64 ? code.n : 64), code.s);
}

static void renewed(struct cred_run *r, struct hga_val answer)
{
	struct hga_str account =
	    hga_val_str(hga_val_get(token_of(r), "accountId"));
	int64_t seconds = hga_val_int(hga_val_get(answer, "expiresIn"), 0);
	struct hga_str refresh =
	    hga_val_str(hga_val_get(answer, "refreshToken"));
	struct hga_creds *c = NULL;
	struct hga_err err = {0};

	if (seconds <= 0 || seconds > 100000000) {
		cred_broken(r, "the sign-in service gave no life time");
		return;
	}
	if (cred_from_doc(hga_val_get(answer, "accessToken"), &cred_names_lower,
	                  "login", &c, &err) < 0) {
		cred_fail(r, &err);
		return;
	}
	c->expires_us = cred_now_us(r) + seconds * 1000000;
	if (c->account_id[0] == '\0')
		(void)snprintf(c->account_id, sizeof(c->account_id), "%.*s",
		               HGA_STRF(account));
	/* Registers it; without memory it is in nobody's log either. */
	(void)!hga_secret_set(&r->bearer_token, refresh, NULL);
	keep(r, c, refresh);
	yield(r, c);
}

static void on_answer(struct hga_op *op)
{
	struct cred_run *r = op->task;
	const struct hga_val none = {NULL, 0};
	struct hga_vtape *t = NULL;
	struct hga_err err = op->err;

	if (err.kind == HGA_OK && r->http.status == 200 &&
	    cred_parse(hga_buf_str(&r->http.body), &t, &err) == 0) {
		renewed(r, hga_vtape_root(t));
	} else if (err.kind != HGA_OK) {
		cred_fail(r, &err);
	} else {
		(void)!cred_parse(hga_buf_str(&r->http.body), &t, NULL);
		refused(r, t != NULL ? hga_vtape_root(t) : none);
	}
	hga_vtape_free_secret(t);
}

static int make_body(struct cred_run *r, struct hga_err *err)
{
	struct hga_val doc = hga_vtape_root(r->doc);
	struct hga_str refresh = hga_val_str(hga_val_get(doc, "refreshToken"));
	struct hga_jw w;
	int rc = hga_secret_set(&r->code, refresh, err);

	if (rc < 0)
		return rc;
	hga_buf_release_secret(&r->text);
	hga_jw_init(&w, &r->text, 0);
	hga_jw_object(&w);
	hga_jw_kstr(&w, "clientId", hga_val_str(hga_val_get(doc, "clientId")));
	hga_jw_kstr(&w, "grantType", HGA_STR("refresh_token"));
	hga_jw_kstr(&w, "refreshToken", refresh);
	hga_jw_close(&w);
	return hga_jw_end(&w, err);
}

static int send(struct cred_run *r, const char *url, struct hga_str proof,
                struct hga_err *err)
{
	struct hga_http_hdr headers[] = {
	    {HGA_STR("Content-Type"), HGA_STR("application/json")},
	    {HGA_STR("Accept"), HGA_STR("application/json")},
	    {HGA_STR("DPoP"), proof},
	};
	struct hga_http_args a = {0};
	struct hga_aws_value ca;
	int rc = hga_aws_config_get(r->cfg, HGA_SET_CA_BUNDLE, &ca, err);

	if (rc < 0)
		return rc;
	a.method = "POST";
	a.url = url;
	a.headers = headers;
	a.n_headers = 3;
	a.body = r->text.data;
	a.body_len = r->text.len;
	a.has_body = true;
	a.fresh = true;
	a.total_ms = LOGIN_MS;
	a.ca_bundle = ca.text;
	return cred_http(r, &a, on_answer, err);
}

static void renew(struct cred_run *r)
{
	const struct hga_aws_env *env = &r->aws->env;
	struct hga_str pem =
	    hga_val_str(hga_val_get(hga_vtape_root(r->doc), "dpopKey"));
	struct hga_err err = {0};
	struct hga_buf proof;
	char url[600], jti[37];
	int rc = endpoint(r, url, sizeof(url), &err);

	hga_buf_init(&proof, 8192);
	if (rc == 0)
		rc = env->uuid(env->data, jti, &err);
	if (rc == 0)
		rc = cred_login_proof(pem, url, cred_now_us(r), jti, &proof,
		                      &err);
	if (rc == 0)
		rc = make_body(r, &err);
	if (rc == 0)
		rc = cred_only(r, url, &err);
	if (rc == 0)
		rc = send(r, url, hga_buf_str(&proof), &err);
	hga_buf_release_secret(&proof);
	if (rc < 0)
		cred_fail(r, &err);
}

void cred_login_start(struct cred_run *r)
{
	struct hga_creds *c = NULL;
	struct hga_err err = {0};
	int rc = file_path(r, &err);

	if (rc == 0)
		rc = cred_cache_read(&r->aws->env, hga_buf_text(&r->path),
		                     &r->doc, &err);
	if (rc == 0 && r->doc == NULL) {
		log_in_again(r, "there is no login session");
		return;
	}
	if (rc == 0)
		rc = cred_from_doc(token_of(r), &cred_names_lower, "login", &c,
		                   &err);
	if (rc < 0) {
		cred_fail(r, &err);
		return;
	}
	if (c != NULL && lasts(r, c) && !r->stale) {
		yield(r, c);
		return;
	}
	hga_creds_free(c);
	renew(r);
}
