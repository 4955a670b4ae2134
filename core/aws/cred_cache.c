/*
 * Caches on disk in the forms of the AWS CLI: names, reading, writing
 * (aws.md section 9, "Disk cache").
 */
#include "aws/cred_int.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

#define LABEL "aws"

int cred_cache_path(const struct hga_aws_env *env, const char *sub,
                    const char *name, struct hga_buf *out, struct hga_err *err)
{
	char file[200];

	(void)snprintf(file, sizeof(file), "%s/%s.json", sub, name);
	hga_buf_clear(out);
	return hga_aws_default_path(env, false, file, out, err);
}

/* ---- names ---- */

/* A JSON text in ASCII only, as the CLI's. */
static int add_json(struct hga_buf *b, const char *text, struct hga_err *err)
{
	struct hga_str s = hga_str(text);
	int rc = hga_buf_addc(b, '"', err);

	while (s.n > 0 && rc == 0) {
		uint32_t cp = 0;
		size_t n = hga_utf8_next(s, &cp);

		if (n == 0)
			return hga_fail(err, HGA_USAGE, 0, NULL,
			                "malformed UTF-8");
		s = hga_strn(s.s + n, s.n - n);
		if (cp == '"' || cp == '\\')
			rc = hga_buf_addf(b, err, "\\%c", (char)cp);
		else if (cp >= ' ' && cp < 127)
			rc = hga_buf_addc(b, (char)cp, err);
		else if (cp < 0x10000)
			rc = hga_buf_addf(b, err, "\\u%04x", (unsigned)cp);
		else
			rc = hga_buf_addf(b, err, "\\u%04x\\u%04x",
			                  0xd800 + ((cp - 0x10000) >> 10),
			                  0xdc00 + ((cp - 0x10000) & 0x3ff));
	}
	return rc == 0 ? hga_buf_addc(b, '"', err) : rc;
}

struct part {
	const char *key, *value;
	bool number;
};

/* SHA-1 of an object with the parts that have a value. */
static int name_of(const struct part *parts, size_t n, const char *comma,
                   const char *colon, char out[41], struct hga_err *err)
{
	struct hga_buf b;
	bool first = true;
	int rc;

	hga_buf_init(&b, 16384);
	rc = hga_buf_addc(&b, '{', err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (parts[i].value == NULL)
			continue;
		rc = hga_buf_addf(&b, err, "%s\"%s\"%s", first ? "" : comma,
		                  parts[i].key, colon);
		first = false;
		if (rc == 0 && parts[i].number)
			rc = hga_buf_adds(&b, parts[i].value, err);
		else if (rc == 0)
			rc = add_json(&b, parts[i].value, err);
	}
	if (rc == 0)
		rc = hga_buf_addc(&b, '}', err);
	if (rc == 0)
		rc = hga_hash_hex(HGA_SHA1, b.data, b.len, out, err);
	hga_buf_release(&b);
	return rc;
}

int cred_cache_role(const struct cred_link *l, char out[41],
                    struct hga_err *err)
{
	const struct part parts[] = {
	    {"DurationSeconds", l->t[CRED_T_DURATION], true},
	    {"ExternalId", l->t[CRED_T_EXTERNAL_ID], false},
	    {"RoleArn", l->t[CRED_T_ROLE_ARN], false},
	    {"RoleSessionName", l->t[CRED_T_SESSION_NAME], false},
	    {"SerialNumber", l->t[CRED_T_MFA], false},
	};

	return name_of(parts, sizeof(parts) / sizeof(*parts), ", ", ": ", out,
	               err);
}

int cred_cache_sso(const struct cred_link *l, char out[41], struct hga_err *err)
{
	const struct part parts[] = {
	    {"accountId", l->t[CRED_T_SSO_ACCOUNT], false},
	    {"roleName", l->t[CRED_T_SSO_ROLE], false},
	    {"sessionName", l->t[CRED_T_SSO_SESSION], false},
	    {"startUrl",
	     l->t[CRED_T_SSO_SESSION] == NULL ? l->t[CRED_T_SSO_URL] : NULL,
	     false},
	};

	return name_of(parts, sizeof(parts) / sizeof(*parts), ",", ":", out,
	               err);
}

/* ---- files ---- */

int cred_cache_read(const struct hga_aws_env *env, const char *path,
                    struct hga_vtape **out, struct hga_err *err)
{
	struct hga_err why = {0};
	struct hga_buf text;
	int rc;

	*out = NULL;
	hga_buf_init(&text, CRED_DOC_MAX);
	rc = env->read_private(env->data, path, &text, &why);
	if (rc == 0) {
		rc = cred_parse(hga_buf_str(&text), out, &why);
		if (rc < 0)
			hga_err_prefix(&why, "%s", path);
	}
	hga_buf_release_secret(&text);
	if (rc == -HGA_MEMORY) {
		*err = why;
		return rc;
	}
	if (rc < 0 && rc != -HGA_NOTFOUND)
		hga_log(HGA_LOG_WARN, LABEL, "credential cache is ignored: %s",
		        why.msg);
	return 0;
}

/* Members of a, each replaced by the one of equal name of b, then the other
 * ones of b. */
static void merge(struct hga_vtape *t, struct hga_val a, struct hga_val b,
                  bool deep)
{
	struct hga_vit it;

	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (it = hga_val_first(a); hga_val_more(it); it = hga_val_next(it)) {
		struct hga_val own = hga_vit_val(it);
		struct hga_val new = hga_val_getn(b, hga_vit_name(&it));

		hga_vt_key(t, hga_vit_name(&it));
		if (hga_val_type(new) == HGA_V_NONE)
			hga_vt_copy(t, HGA_NO_NAME, own);
		else if (deep && hga_val_is(own, HGA_V_MAP) &&
		         hga_val_is(new, HGA_V_MAP))
			merge(t, own, new, false);
		else
			hga_vt_copy(t, HGA_NO_NAME, new);
	}
	for (it = hga_val_first(b); hga_val_more(it); it = hga_val_next(it)) {
		if (hga_val_type(hga_val_getn(a, hga_vit_name(&it))) !=
		    HGA_V_NONE)
			continue;
		hga_vt_key(t, hga_vit_name(&it));
		hga_vt_copy(t, HGA_NO_NAME, hga_vit_val(it));
	}
	hga_vt_close(t);
}

static int write_merged(const struct hga_aws_env *env, const char *path,
                        struct hga_val old, struct hga_val news,
                        struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 2 * CRED_TAPE_MAX);
	struct hga_buf text;
	int rc;

	if (t == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&text, 2 * CRED_DOC_MAX);
	merge(t, old, news, true);
	rc = hga_vt_end(t, err);
	if (rc == 0)
		rc = hga_json_write(&text, hga_vtape_root(t), 2, true, err);
	if (rc == 0)
		rc = env->write_private(env->data, path, hga_buf_str(&text),
		                        err);
	hga_buf_release_secret(&text);
	hga_vtape_free_secret(t);
	return rc;
}

void cred_cache_write(const struct hga_aws_env *env, const char *path,
                      struct hga_val old, struct hga_val news)
{
	struct hga_err err = {0};

	if (write_merged(env, path, old, news, &err) < 0)
		hga_log(HGA_LOG_WARN, LABEL,
		        "credential cache %s was not written: %s", path,
		        err.msg);
}

/* ---- credentials of roles ---- */

static bool lasts(const struct cred_run *r, const struct hga_creds *c)
{
	return c->expires_us == 0 || c->expires_us - cred_now_us(r) >=
	                                 (int64_t)CRED_FRESH_S * 1000000;
}

bool cred_cache_get(struct cred_run *r,
                    int (*name)(const struct cred_link *, char *,
                                struct hga_err *),
                    const char *provider, struct hga_creds **out)
{
	const struct hga_aws_env *env = &r->aws->env;
	struct hga_err err = {0};
	char hex[41];
	bool good;

	hga_buf_clear(&r->path);
	if (r->no_cache || name(cred_link_of(r), hex, &err) < 0 ||
	    cred_cache_path(env, "cli/cache", hex, &r->path, &err) < 0 ||
	    cred_cache_read(env, hga_buf_text(&r->path), &r->doc, &err) < 0 ||
	    r->doc == NULL)
		return false;
	good = cred_from_doc(hga_val_get(hga_vtape_root(r->doc), "Credentials"),
	                     &cred_names_sts, provider, out, NULL) == 0;
	if (good && lasts(r, *out) && !r->stale) {
		(void)snprintf((*out)->where, sizeof((*out)->where), "%s",
		               hga_buf_text(&r->path));
		return true;
	}
	if (good)
		hga_creds_free(*out);
	*out = NULL;
	return false;
}

static void put(struct hga_vtape *t, const char *key, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	hga_vt_key(t, hga_str(key));
	hga_vt_str(t, HGA_NO_NAME, hga_str(value));
}

void cred_cache_put(struct cred_run *r, const struct hga_creds *c,
                    const char *provider_type)
{
	const struct hga_val none = {NULL, 0};
	struct hga_vtape *t;
	char when[HGA_TIME_TEXT] = "";
	struct hga_err err = {0};

	if (r->path.len == 0)
		return;
	t = hga_vtape_new(NULL, CRED_TAPE_MAX);
	if (t == NULL)
		return; /* it will be asked for again */
	if (c->expires_us != 0)
		(void)hga_time_text(when, c->expires_us, HGA_TIME_ISO);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	put(t, "ProviderType", provider_type);
	hga_vt_key(t, HGA_STR("Credentials"));
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	put(t, "AccessKeyId", c->access_key_id);
	put(t, "SecretAccessKey", c->secret.s);
	put(t, "SessionToken", c->token.s);
	put(t, "Expiration", when);
	put(t, "AccountId", c->account_id);
	hga_vt_close(t);
	hga_vt_close(t);
	if (hga_vt_end(t, &err) == 0)
		cred_cache_write(&r->aws->env, hga_buf_text(&r->path),
		                 r->doc != NULL ? hga_vtape_root(r->doc) : none,
		                 hga_vtape_root(t));
	hga_vtape_free_secret(t);
}
