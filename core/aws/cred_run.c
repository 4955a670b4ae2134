/*
 * Following a plan on the loop: link after link, with the requests, children
 * and pauses the providers need.
 */
#include "aws/cred_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LABEL "aws"

const struct cred_names cred_names_upper = {"AccessKeyId", "SecretAccessKey",
                                            "Token", "Expiration", "AccountId"};
const struct cred_names cred_names_sts = {"AccessKeyId", "SecretAccessKey",
                                          "SessionToken", "Expiration",
                                          "AccountId"};
const struct cred_names cred_names_lower = {
    "accessKeyId", "secretAccessKey", "sessionToken", "expiresAt", "accountId"};

const struct cred_link *cred_link_of(const struct cred_run *r)
{
	return &r->plan->links[r->at];
}

int64_t cred_now_us(const struct cred_run *r)
{
	return r->aws->env.wall_us(r->aws->env.data);
}

/* ---- documents ---- */

int cred_parse(struct hga_str text, struct hga_vtape **out, struct hga_err *err)
{
	*out = NULL;
	if (text.n > CRED_DOC_MAX)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "longer than %d bytes", CRED_DOC_MAX);
	return hga_json_parse(text, CRED_TAPE_MAX, out, err);
}

static bool read_time(struct hga_val v, int64_t *us)
{
	double d;

	if (hga_val_is(v, HGA_V_STR))
		return hga_time_parse(hga_str_trim(hga_val_str(v)), us);
	d = hga_val_num(v, -1);
	if (d < 0 || d > 1e11)
		return false;
	*us = (int64_t)(d * 1e6);
	return true;
}

int cred_from_doc(struct hga_val doc, const struct cred_names *n,
                  const char *provider, struct hga_creds **out,
                  struct hga_err *err)
{
	struct hga_val when = hga_val_get(doc, n->expires);
	struct hga_str account = hga_val_str(hga_val_get(doc, n->account));
	enum hga_vtype type = hga_val_type(when);
	int rc =
	    hga_creds_new(out, provider, hga_val_str(hga_val_get(doc, n->id)),
	                  hga_val_str(hga_val_get(doc, n->secret)),
	                  hga_val_str(hga_val_get(doc, n->token)), err);

	if (rc < 0)
		return rc;
	(void)snprintf((*out)->account_id, sizeof((*out)->account_id), "%.*s",
	               HGA_STRF(account));
	if (type == HGA_V_NONE || type == HGA_V_NULL ||
	    read_time(when, &(*out)->expires_us))
		return 0;
	hga_creds_free(*out);
	*out = NULL;
	return hga_fail(err, HGA_AUTH, 0, "CredentialProvider",
	                "%s is not a time", n->expires);
}

/* ---- ends ---- */

static void begin_link(struct cred_run *r);

static void forget(struct cred_run *r)
{
	hga_vtape_free_secret(r->doc);
	r->doc = NULL;
	hga_buf_clear(&r->path);
	hga_buf_release_secret(&r->text);
	r->state = 0;
	r->tries = 0;
	r->v1 = false;
}

static const char *kind_name(enum cred_kind k)
{
	switch (k) {
	case CRED_KEYS:
		return "keys";
	case CRED_ROLE:
		return "assume-role";
	case CRED_WEB:
		return "web identity";
	case CRED_SSO:
		return "sso";
	case CRED_LOGIN:
		return "login";
	case CRED_PROCESS:
		return "process";
	case CRED_CONTAINER:
		return "container";
	case CRED_IMDS:
		return "instance metadata";
	}
	return "";
}

void cred_yield(struct cred_run *r, struct hga_creds *taken)
{
	hga_creds_free(r->creds);
	r->creds = taken;
	forget(r);
	r->at++;
	if (r->at < r->plan->n) {
		begin_link(r);
		return;
	}
	hga_log(HGA_LOG_DEBUG, LABEL, "credentials from %s%s%s",
	        taken->provider, taken->where[0] != '\0' ? ": " : "",
	        taken->where);
	r->err.kind = HGA_OK;
	r->done(r);
}

static void end(struct cred_run *r)
{
	hga_creds_free(r->creds);
	r->creds = NULL;
	r->done(r);
}

void cred_none(struct cred_run *r, const char *why)
{
	if (cred_link_of(r)->required) {
		cred_broken(r, "the instance has no credentials: %s", why);
		return;
	}
	(void)snprintf(r->why, sizeof(r->why), "%s", why);
	(void)hga_fail(&r->err, HGA_AUTH, 0, "NoCredentials",
	               "Unable to locate credentials");
	end(r);
}

void cred_fail(struct cred_run *r, const struct hga_err *err)
{
	const struct cred_link *l = cred_link_of(r);
	const char *profile = l->t[CRED_T_PROFILE];

	r->err = *err;
	/* A kind or code of what is behind the provider would be taken for
	 * one of the service that was called. */
	if (err->kind == HGA_AWS || err->kind == HGA_NOTFOUND ||
	    err->kind == HGA_IO || err->kind == HGA_PROTOCOL)
		(void)hga_fail(&r->err, HGA_AUTH, 0, "CredentialProvider", "%s",
		               err->msg);
	if (profile != NULL)
		hga_err_prefix(&r->err, "credentials by %s (profile \"%s\")",
		               kind_name(l->kind), profile);
	else
		hga_err_prefix(&r->err, "credentials by %s",
		               kind_name(l->kind));
	end(r);
}

void cred_broken(struct cred_run *r, const char *fmt, ...)
{
	struct hga_err err = {0};
	va_list ap;

	va_start(ap, fmt);
	(void)hga_vfail(&err, HGA_AUTH, 0, "CredentialProvider", fmt, ap);
	va_end(ap);
	cred_fail(r, &err);
}

/* ---- what providers need ---- */

int cred_only(const struct cred_run *r, const char *url, struct hga_err *err)
{
	const char *only = r->aws->only, *host = strstr(url, "://");
	size_t n = only != NULL ? strlen(only) : 0;

	if (only == NULL || (host != NULL && strncmp(host + 3, only, n) == 0 &&
	                     (host[3 + n] == '/' || host[3 + n] == '\0')))
		return 0;
	return hga_fail(err, HGA_USAGE, 0, "Endpoint",
	                "not asked, this run may only talk to %s", only);
}

static void on_timer(struct hga_timer *t)
{
	struct cred_run *r = t->data;

	r->then(r);
}

void cred_later(struct cred_run *r, int64_t ms, void (*fn)(struct cred_run *))
{
	struct hga_err err = {0};

	r->then = fn;
	if (hga_timer_start(r->aws->loop, &r->timer, ms, &err) < 0)
		cred_fail(r, &err);
}

static void wipe_http(struct cred_run *r)
{
	hga_op_cancel(&r->http.base);
	hga_buf_release_secret(&r->http.body);
	hga_http_release(&r->http);
	memset(&r->http, 0, sizeof(r->http));
}

int cred_http(struct cred_run *r, struct hga_http_args *a,
              void (*done)(struct hga_op *), struct hga_err *err)
{
	const struct hga_aws_env *env = &r->aws->env;

	wipe_http(r);
	a->max_body = CRED_DOC_MAX;
	r->http.base.done = done;
	r->http.base.task = r;
	return env->http(env->data, r->aws->loop, &r->http, a, err);
}

bool cred_unreached(const struct hga_http *h)
{
	const struct hga_err *e = &h->base.err;

	return e->kind == HGA_NET ||
	       (e->kind == HGA_TIMEOUT && strcmp(e->code, "Connect") == 0);
}

static void drop_call(struct cred_run *r)
{
	struct hga_vtape *t;

	hga_op_cancel(&r->call.base);
	t = r->call.tape;
	/* Its reader may point into the tape. */
	hga_aws_out_free(r->call.out);
	r->call.out = NULL;
	r->call.tape = NULL;
	hga_vtape_free_secret(t);
	hga_aws_call_release(&r->call);
	memset(&r->call, 0, sizeof(r->call));
}

static int inner_client(struct cred_run *r, const struct hga_aws_svc *svc,
                        const char *region, struct hga_creds *creds,
                        struct hga_aws_client **out, struct hga_err *err)
{
	char *const *args = r->cfg->args;
	struct hga_aws_client_args a = {0};
	int rc;

	a.svc = svc;
	a.profile = hga_str(args[HGA_SET_PROFILE]);
	a.region = hga_str(region != NULL ? region : args[HGA_SET_REGION]);
	a.ca_bundle = hga_str(args[HGA_SET_CA_BUNDLE]);
	a.creds = creds;
	a.anonymous = creds == NULL;
	rc = hga_aws_client_new(r->aws, &a, out, err);
	for (int s = HGA_SET_FIPS; s <= HGA_SET_DUALSTACK && rc == 0; s++)
		rc = hga_aws_config_arg(hga_aws_client_config(*out),
		                        (enum hga_aws_setting)s,
		                        hga_str(args[s]), err);
	return rc;
}

int cred_call(struct cred_run *r, const char *service, const char *region,
              const char *op, struct hga_vtape *params, struct hga_creds *creds,
              void (*done)(struct hga_op *), struct hga_err *err)
{
	struct hga_aws_call_args a = {0};
	const struct hga_aws_svc *svc = NULL;
	struct hga_aws_client *client = NULL;
	int rc;

	if (r->aws->img != NULL)
		svc = hga_aws_svc_find(r->aws->img, hga_str(service));
	if (svc == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, NULL,
		                "no model of %s is built in", service);
	drop_call(r);
	rc = inner_client(r, svc, region, creds, &client, err);
	if (rc == 0) {
		a.client = client;
		a.op = hga_aws_op_find(svc, hga_str(op));
		a.params = hga_vtape_root(params);
		a.timeout_ms = 60000;
		r->call.base.done = done;
		r->call.base.task = r;
		rc = hga_aws_call_start(&r->call, &a, err);
		if (rc < 0 && r->call.report.len > 0)
			rc = hga_fail(err, HGA_USAGE, 0, "ParamValidation",
			              "%.400s", hga_buf_text(&r->call.report));
	}
	hga_aws_client_free(client);
	return rc;
}

int cred_params(struct hga_vtape **out, const struct cred_pair *pairs, size_t n,
                struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(NULL, CRED_TAPE_MAX);
	int rc;

	if (t == NULL)
		return hga_fail_mem(err);
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (size_t i = 0; i < n; i++) {
		if (pairs[i].value == NULL)
			continue;
		hga_vt_key(t, hga_str(pairs[i].name));
		hga_vt_str(t, HGA_NO_NAME, hga_str(pairs[i].value));
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

/* ---- the run ---- */

static void begin_link(struct cred_run *r)
{
	const struct cred_link *l = cred_link_of(r);

	switch (l->kind) {
	case CRED_KEYS:
		cred_yield(r, hga_creds_ref(l->keys));
		return;
	case CRED_ROLE:
		cred_role_start(r);
		return;
	case CRED_WEB:
		cred_web_start(r);
		return;
	case CRED_SSO:
		cred_sso_start(r);
		return;
	case CRED_LOGIN:
		cred_login_start(r);
		return;
	case CRED_PROCESS:
		cred_process_start(r);
		return;
	case CRED_CONTAINER:
		cred_container_start(r);
		return;
	case CRED_IMDS:
		cred_imds_start(r);
		return;
	}
}

int cred_run_start(struct cred_run *r, struct hga_err *err)
{
	r->timer.fn = on_timer;
	r->timer.data = r;
	r->then = begin_link;
	hga_buf_init(&r->path, 4096);
	hga_buf_init(&r->text, CRED_DOC_MAX);
	return hga_timer_start(r->aws->loop, &r->timer, 0, err);
}

static void drop_secret(struct hga_secret *s)
{
	hga_log_forget(hga_strn(s->s, s->n));
	hga_secret_release(s);
}

void cred_hide(struct cred_run *r, struct hga_str secret)
{
	const unsigned max = sizeof(r->seen) / sizeof(*r->seen);

	if (r->n_seen == max ||
	    hga_secret_set(&r->seen[r->n_seen], secret, NULL) < 0)
		hga_log_secret(secret);
	else
		r->n_seen++;
}

void cred_run_release(struct cred_run *r)
{
	if (r->aws == NULL)
		return;
	hga_timer_stop(r->aws->loop, &r->timer);
	wipe_http(r);
	hga_op_cancel(&r->proc.base);
	hga_buf_release_secret(&r->proc.out);
	hga_proc_release(&r->proc);
	hga_ask_release(&r->ask);
	drop_call(r);
	forget(r);
	hga_buf_release(&r->path);
	/* Each run has others. */
	drop_secret(&r->bearer_token);
	drop_secret(&r->code);
	while (r->n_seen > 0)
		drop_secret(&r->seen[--r->n_seen]);
	hga_creds_free(r->creds);
	memset(r, 0, sizeof(*r));
}
