/*
 * Credentials of an instance: the metadata service, version 2 (a token
 * first) and, where that is not known, version 1.
 */
#include "aws/cred_int.h"

#include "aws/endpoint.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABEL "aws"
#define ROLES "/latest/meta-data/iam/security-credentials/"

enum {
	TRIES = 3, /* when somebody is there */
	PAUSE_MS = 200
};

enum step {
	TOKEN,
	ROLE,
	KEYS
};

/* ---- the plan ---- */

static int base_url(struct hga_aws_config *cfg, char *out, size_t size,
                    struct hga_err *err)
{
	struct hga_aws_value url, mode;
	struct hga_aws_endpoint e = {0};
	struct hga_str m;
	int rc = hga_aws_config_get(cfg, HGA_SET_IMDS_ENDPOINT, &url, err);

	if (rc == 0)
		rc = hga_aws_config_get(cfg, HGA_SET_IMDS_MODE, &mode, err);
	if (rc != 0)
		return rc;
	if (url.text != NULL) {
		rc = hga_aws_endpoint_parse(hga_str_trim(hga_str(url.text)), &e,
		                            err);
		(void)snprintf(out, size, "%s://%s%s",
		               e.https ? "https" : "http", e.host, e.base);
		return rc;
	}
	m = hga_str_trim(hga_str(mode.text));
	if (hga_str_ieqc(m, "ipv6"))
		(void)snprintf(out, size, "http://[fd00:ec2::254]");
	else if (hga_str_ieqc(m, "ipv4"))
		(void)snprintf(out, size, "http://169.254.169.254");
	else
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "ec2_metadata_service_endpoint_mode: \"%s\" is "
		                "neither IPv4 nor IPv6 (from %s)",
		                mode.text, mode.where);
	return 0;
}

int cred_plan_imds(struct hga_aws_config *cfg, struct cred_plan *p,
                   struct hga_err *err)
{
	struct cred_link *l;
	char url[600];
	double attempts;
	bool off;
	int rc = hga_aws_config_bool(cfg, HGA_SET_IMDS_DISABLED, &off, err);

	if (rc < 0 || off)
		return rc;
	rc = base_url(cfg, url, sizeof(url), err);
	if (rc == 0)
		rc = cred_plan_add(p, CRED_IMDS, &l, err);
	if (rc == 0)
		rc = cred_text_set(l, CRED_T_URL, url, err);
	if (rc == 0)
		rc = hga_aws_config_bool(cfg, HGA_SET_IMDS_NO_V1, &l->no_v1,
		                         err);
	if (rc == 0)
		rc = hga_aws_config_num(cfg, HGA_SET_IMDS_TIMEOUT, 3600,
		                        &l->timeout_s, err);
	if (rc == 0)
		rc = hga_aws_config_num(cfg, HGA_SET_IMDS_ATTEMPTS, 100,
		                        &attempts, err);
	if (rc != 0)
		return rc;
	l->attempts = attempts >= 1 ? (unsigned)attempts : 1;
	return 1;
}

/* ---- requests ---- */

static void send(struct cred_run *r);

static void next_step(struct cred_run *r, enum step step)
{
	r->state = step;
	r->tries = 0;
	send(r);
}

/* Somebody is there but does not make sense. */
static void puzzled(struct cred_run *r, const char *what)
{
	char why[120];

	if (++r->tries < TRIES) {
		cred_later(r, PAUSE_MS, send);
		return;
	}
	(void)snprintf(why, sizeof(why), "%s (%u tries)", what, r->tries);
	cred_none(r, why);
}

/* Nobody was reached, or nobody answered. */
static void lost(struct cred_run *r)
{
	const char *url = cred_link_of(r)->t[CRED_T_URL];
	char why[200];

	if (++r->tries < cred_link_of(r)->attempts) {
		cred_later(r, PAUSE_MS, send);
		return;
	}
	(void)snprintf(why, sizeof(why), "no answer from %s: %.80s", url,
	               r->http.base.err.msg);
	cred_none(r, why);
}

static void no_token(struct cred_run *r)
{
	if (cred_link_of(r)->no_v1) {
		cred_none(r, "it does not know version 2, and version 1 is "
		             "disabled");
		return;
	}
	hga_log(HGA_LOG_DEBUG, LABEL,
	        "the metadata service does not know version 2");
	r->v1 = true;
	next_step(r, ROLE);
}

static bool is_text(struct hga_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.s[i] <= ' ' || s.s[i] == 127)
			return false;
	}
	return s.n > 0;
}

static void got_token(struct cred_run *r)
{
	struct hga_str t = hga_str_trim(hga_buf_str(&r->http.body));
	struct hga_err err = {0};

	switch (r->http.status) {
	case 200:
		break;
	case 400:
		cred_none(r, "the request for a token was refused");
		return;
	case 403:
	case 404:
	case 405:
		no_token(r);
		return;
	default:
		puzzled(r, "it gave no token");
		return;
	}
	if (!is_text(t)) {
		puzzled(r, "it gave an empty token");
		return;
	}
	if (hga_secret_set(&r->code, t, &err) < 0)
		cred_fail(r, &err);
	else
		next_step(r, ROLE);
}

static void got_role(struct cred_run *r)
{
	struct hga_str t = hga_str_trim(hga_buf_str(&r->http.body));
	ptrdiff_t nl = hga_str_chr(t, '\n', 0);

	if (r->http.status == 404) {
		cred_none(r, "the instance has no role");
		return;
	}
	if (nl >= 0)
		t = hga_str_trim(hga_strn(t.s, (size_t)nl));
	if (r->http.status != 200 || !is_text(t) || t.n >= sizeof(r->name)) {
		puzzled(r, "it named no role");
		return;
	}
	(void)snprintf(r->name, sizeof(r->name), "%.*s", HGA_STRF(t));
	next_step(r, KEYS);
}

/* A service in trouble hands out old ones: they work longer than they say.
 * Asking again is spread. */
static void extend(struct cred_run *r, struct hga_creds *c)
{
	const struct hga_aws_env *env = &r->aws->env;
	int64_t now = cred_now_us(r);
	double more = CRED_FRESH_S + 120 + 480 * env->random(env->data);

	if (c->expires_us == 0 ||
	    c->expires_us - now >= (int64_t)CRED_FRESH_S * 1000000)
		return;
	c->expires_us = now + (int64_t)(more * 1e6);
	hga_log(HGA_LOG_WARN, LABEL,
	        "the metadata service gave credentials that expire soon; "
	        "they are used for %.0f more minutes",
	        more / 60);
}

static void got_keys(struct cred_run *r)
{
	struct hga_vtape *t = NULL;
	struct hga_creds *c = NULL;
	struct hga_str code;

	if (r->http.status == 404) {
		cred_none(r, "the role has no credentials");
		return;
	}
	if (r->http.status == 200 &&
	    cred_parse(hga_buf_str(&r->http.body), &t, NULL) == 0) {
		code = hga_val_str(hga_val_get(hga_vtape_root(t), "Code"));
		if (code.n == 0 || hga_str_eqc(code, "Success"))
			(void)!cred_from_doc(hga_vtape_root(t),
			                     &cred_names_upper,
			                     "instance metadata", &c, NULL);
	}
	hga_vtape_free_secret(t);
	if (c == NULL) {
		puzzled(r, "it gave no credentials for the role");
		return;
	}
	extend(r, c);
	(void)snprintf(c->where, sizeof(c->where), "role %.150s", r->name);
	cred_yield(r, c);
}

static void on_answer(struct hga_op *op)
{
	struct cred_run *r = op->task;

	if (op->err.kind == HGA_OK) {
		if (r->state == TOKEN)
			got_token(r);
		else if (r->state == ROLE)
			got_role(r);
		else
			got_keys(r);
		return;
	}
	if (op->err.kind == HGA_TIMEOUT && !cred_unreached(&r->http) &&
	    r->state == TOKEN)
		no_token(r); /* a hop limit swallows the answer */
	else if (op->err.kind == HGA_PROTOCOL)
		puzzled(r, "its answer was malformed");
	else
		lost(r);
}

static int make_url(struct cred_run *r, struct hga_buf *out,
                    struct hga_err *err)
{
	int rc = hga_buf_adds(out, cred_link_of(r)->t[CRED_T_URL], err);

	if (rc < 0 || r->state == TOKEN)
		return rc < 0 ? rc
		              : hga_buf_adds(out, "/latest/api/token", err);
	rc = hga_buf_adds(out, ROLES, err);
	if (rc == 0 && r->state == KEYS)
		rc = hga_pct_encode(out, hga_str(r->name), "+=,@", err);
	return rc;
}

static int request(struct cred_run *r, const char *url, struct hga_err *err)
{
	struct hga_http_hdr header;
	struct hga_http_args a = {0};
	double ms = cred_link_of(r)->timeout_s * 1000;

	header.name = HGA_STR("x-aws-ec2-metadata-token");
	header.value = hga_str(r->code.s);
	a.method = r->state == TOKEN ? "PUT" : "GET";
	if (r->state == TOKEN) {
		header.name = HGA_STR("x-aws-ec2-metadata-token-ttl-seconds");
		header.value = HGA_STR("21600");
	}
	a.url = url;
	a.headers = &header;
	a.n_headers = r->v1 ? 0 : 1;
	a.connect_ms = ms >= 1 ? (int64_t)ms : 1;
	a.idle_ms = a.connect_ms;
	a.total_ms = 2 * a.connect_ms;
	a.repeatable = true;
	return cred_http(r, &a, on_answer, err);
}

static void send(struct cred_run *r)
{
	struct hga_err err = {0};
	struct hga_buf url;
	int rc;

	hga_buf_init(&url, 2048);
	rc = make_url(r, &url, &err);
	if (rc == 0 && cred_only(r, hga_buf_text(&url), &err) < 0) {
		hga_buf_release(&url);
		cred_none(r, err.msg);
		return;
	}
	if (rc == 0)
		rc = request(r, hga_buf_text(&url), &err);
	hga_buf_release(&url);
	if (rc < 0)
		cred_fail(r, &err);
}

void cred_imds_start(struct cred_run *r)
{
	next_step(r, TOKEN);
}
