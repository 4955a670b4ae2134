/*
 * Credentials of clients: plans made at first need, credentials shared by
 * clients with the same plan, got anew before they expire, once for all who
 * wait.
 */
#include "aws/cred_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABEL "aws"

/* Clients with the same plan; lives as long as one of them. */
struct cred_source {
	struct cred_source *next;
	unsigned refs;
	struct hga_aws *aws;
	char hash[65];
	bool cache, bearer;
	struct hga_aws_config cfg;
	struct cred_plan plan;
	struct hga_buf tried; /* reasons before the plan's links */
	struct hga_creds *creds;
	struct cred_run *run;        /* in flight or NULL */
	struct hga_creds_get *first; /* who waits for it */
	int64_t again_us; /* after a failed early refresh: not before */
	bool stale;       /* a service refused them: not from a cache */
};

/* ---- sources ---- */

void cred_source_free(struct cred_source *s)
{
	struct cred_source **p;

	if (s == NULL || --s->refs > 0)
		return;
	for (p = &s->aws->sources; *p != NULL && *p != s;)
		p = &(*p)->next;
	if (*p == s)
		*p = s->next;
	hga_aws_config_release(&s->cfg);
	cred_plan_release(&s->plan);
	hga_buf_release(&s->tried);
	hga_creds_free(s->creds);
	hga_free(s);
}

struct hga_creds *cred_source_creds(const struct cred_source *s)
{
	return s->creds;
}

static struct cred_source *find_source(struct hga_aws *aws, const char *hash,
                                       bool cache, bool bearer)
{
	struct cred_source *s;

	for (s = aws->sources; s != NULL; s = s->next) {
		if (strcmp(s->hash, hash) == 0 && s->cache == cache &&
		    s->bearer == bearer)
			return s;
	}
	return NULL;
}

/* The arguments that matter to requests of providers. */
static int copy_args(struct hga_aws_config *to,
                     const struct hga_aws_config *from, struct hga_err *err)
{
	static const enum hga_aws_setting list[] = {
	    HGA_SET_PROFILE, HGA_SET_REGION, HGA_SET_FIPS, HGA_SET_DUALSTACK,
	    HGA_SET_CA_BUNDLE};
	int rc = 0;

	for (size_t i = 0; i < sizeof(list) / sizeof(*list) && rc == 0; i++)
		rc = hga_aws_config_arg(to, list[i],
		                        hga_str(from->args[list[i]]), err);
	return rc;
}

/* Takes the plan (also on failure). */
static int new_source(struct hga_aws_client *c, struct cred_plan *plan,
                      const char *hash, const struct hga_buf *tried,
                      struct cred_source **out, struct hga_err *err)
{
	struct cred_source *s = hga_calloc(1, sizeof(*s));
	int rc;

	if (s == NULL) {
		cred_plan_release(plan);
		return hga_fail_mem(err);
	}
	s->refs = 1;
	s->aws = c->aws;
	s->cache = !c->no_cred_cache;
	s->plan = *plan;
	memset(plan, 0, sizeof(*plan));
	(void)snprintf(s->hash, sizeof(s->hash), "%s", hash);
	hga_buf_init(&s->tried, 4096);
	hga_aws_config_init(&s->cfg, &c->aws->env);
	rc = copy_args(&s->cfg, &c->config, err);
	if (rc == 0)
		rc = hga_buf_addstr(&s->tried, hga_buf_str(tried), err);
	if (rc < 0) {
		cred_source_free(s);
		return rc;
	}
	s->next = c->aws->sources;
	c->aws->sources = s;
	*out = s;
	return 0;
}

static int no_creds(struct hga_err *err)
{
	return hga_fail(err, HGA_AUTH, 0, "NoCredentials",
	                "Unable to locate credentials");
}

/* Static keys need no source. */
static bool is_static(const struct cred_plan *p)
{
	return p->n == 1 && p->links[0].kind == CRED_KEYS;
}

/* The source of a plan, which is taken. */
static int ensure_source(struct hga_aws_client *c, struct cred_plan *plan,
                         bool bearer, const struct hga_buf *tried,
                         struct cred_source **out, struct hga_err *err)
{
	struct cred_source *s;
	char hash[65] = "";
	int rc = cred_plan_hash(plan, hash, err);

	if (rc < 0) {
		cred_plan_release(plan);
		return rc;
	}
	s = find_source(c->aws, hash, !c->no_cred_cache, bearer);
	if (s == NULL) {
		rc = new_source(c, plan, hash, tried, out, err);
		if (rc == 0)
			(*out)->bearer = bearer;
		return rc;
	}
	s->refs++;
	cred_plan_release(plan);
	*out = s;
	return 0;
}

static int find_plan(struct hga_aws_client *c, struct hga_buf *tried,
                     struct hga_err *err)
{
	struct cred_plan plan = {0};
	int rc = cred_plan_make(&c->config, &plan, tried, err);

	if (rc == 0 && plan.n == 0)
		rc = no_creds(err);
	if (rc == 0 && !is_static(&plan))
		return ensure_source(c, &plan, false, tried, &c->source, err);
	if (rc == 0)
		c->creds = hga_creds_ref(plan.links[0].keys);
	cred_plan_release(&plan);
	return rc;
}

/* A plan that gives the token of a session. */
static int find_bearer(struct hga_aws_client *c, struct hga_buf *tried,
                       struct hga_err *err)
{
	struct cred_plan plan = {0};
	int rc = hga_aws_config_load(&c->config, err);

	if (rc == 0)
		rc = cred_plan_profile(&c->config, c->config.profile, &plan,
		                       err);
	if (rc == 0 && plan.n == 1 && plan.links[0].kind == CRED_SSO)
		return ensure_source(c, &plan, true, tried, &c->bearer, err);
	if (rc == 0)
		rc = hga_fail(err, HGA_AUTH, 0, "NoToken",
		              "profile \"%s\" has no sso_session that gives a "
		              "token",
		              c->config.profile);
	cred_plan_release(&plan);
	return rc;
}

/* ---- waiting ---- */

static void leave(struct hga_creds_get *g)
{
	struct hga_creds_get **p = &g->source->first;

	while (*p != NULL && *p != g)
		p = &(*p)->next;
	if (*p == g)
		*p = g->next;
	g->next = NULL;
}

static void stop_run(struct cred_source *s)
{
	if (s->run != NULL)
		cred_run_release(s->run);
	hga_free(s->run);
	s->run = NULL;
}

static void on_cancel(struct hga_op *op)
{
	struct hga_creds_get *g = (struct hga_creds_get *)op;

	leave(g);
	/* Nobody wants it any more. */
	if (g->source->first == NULL)
		stop_run(g->source);
	hga_op_drop(op);
}

static int64_t left_s(const struct cred_source *s)
{
	const struct hga_aws_env *env = &s->aws->env;

	if (s->creds == NULL)
		return -1;
	if (s->creds->expires_us == 0)
		return INT64_MAX;
	return (s->creds->expires_us - env->wall_us(env->data)) / 1000000;
}

/* What a refresh that failed means: the old ones may do for a while. */
static bool may_keep(struct cred_source *s, const struct hga_err *err)
{
	if (s->stale || left_s(s) <= CRED_MANDATORY_S)
		return false;
	hga_log(HGA_LOG_WARN, LABEL,
	        "credentials that expire in %" PRId64
	        " s could not be got anew: %s",
	        left_s(s), err->msg);
	s->again_us = s->aws->env.wall_us(s->aws->env.data) +
	              (int64_t)CRED_TRY_AGAIN_S * 1000000;
	return true;
}

static void take(struct cred_source *s, struct cred_run *r)
{
	hga_creds_free(s->creds);
	s->creds = hga_creds_ref(r->creds);
	s->stale = false;
	if (left_s(s) <= 0)
		(void)hga_fail(&r->err, HGA_AUTH, 0, "Expired",
		               "the credentials by %s have expired already",
		               s->creds->provider);
}

static void add_tried(const struct cred_source *s, const char *why,
                      struct hga_buf *tried)
{
	(void)!hga_buf_addstr(tried, hga_buf_str(&s->tried), NULL);
	if (why[0] != '\0')
		(void)!hga_buf_addf(tried, NULL, "instance metadata: %s\n",
		                    why);
}

/* Tells everyone; what they do then may start a new run. */
static void on_run(struct cred_run *r)
{
	struct cred_source *s = r->data;
	struct hga_creds_get *g, *all = s->first;
	struct hga_err err;
	char why[sizeof(r->why)];

	if (r->err.kind == HGA_OK)
		take(s, r);
	err = r->err;
	memcpy(why, r->why, sizeof(why));
	if (err.kind != HGA_OK && may_keep(s, &err))
		err.kind = HGA_OK;
	s->first = NULL;
	s->refs++; /* a callback may drop the last client */
	stop_run(s);
	for (g = all; g != NULL; g = g->next) {
		if (err.kind == HGA_OK)
			g->creds = hga_creds_ref(s->creds);
		else
			g->base.err = err;
		if (strcmp(err.code, "NoCredentials") == 0 &&
		    err.kind != HGA_OK)
			add_tried(s, why, &g->tried);
	}
	/* Each may be freed, or cancel others, by its callback. */
	s->first = all;
	while ((g = s->first) != NULL && g->base.state == HGA_OP_RUNNING &&
	       (g->creds != NULL || g->base.err.kind != HGA_OK)) {
		s->first = g->next;
		g->next = NULL;
		hga_op_finish(&g->base);
	}
	cred_source_free(s);
}

static int start_run(struct cred_source *s, struct hga_err *err)
{
	struct cred_run *r = hga_calloc(1, sizeof(*r));
	int rc;

	if (r == NULL)
		return hga_fail_mem(err);
	s->run = r;
	r->aws = s->aws;
	r->cfg = &s->cfg;
	r->plan = &s->plan;
	r->bearer = s->bearer;
	r->no_cache = !s->cache;
	r->stale = s->stale;
	r->done = on_run;
	r->data = s;
	rc = cred_run_start(r, err);
	if (rc < 0)
		stop_run(s);
	return rc;
}

static bool good_for_now(const struct cred_source *s)
{
	const struct hga_aws_env *env = &s->aws->env;
	int64_t left = left_s(s);

	if (s->creds == NULL || s->stale)
		return false;
	if (left > CRED_FRESH_S)
		return true;
	return left > CRED_MANDATORY_S && env->wall_us(env->data) < s->again_us;
}

static int wait_for(struct hga_creds_get *g, struct cred_source *s,
                    struct hga_err *err)
{
	int rc = s->run != NULL ? 0 : start_run(s, err);

	if (rc < 0)
		return rc;
	g->source = s;
	g->next = NULL;
	if (s->first == NULL) {
		s->first = g;
	} else {
		struct hga_creds_get *last = s->first;

		while (last->next != NULL)
			last = last->next;
		last->next = g;
	}
	hga_op_begin(&g->base, on_cancel);
	return 0;
}

static int expired(const struct hga_aws_client *c, struct hga_err *err)
{
	const struct hga_aws_env *env = &c->aws->env;

	if (c->creds_given || c->creds->expires_us == 0 ||
	    c->creds->expires_us > env->wall_us(env->data))
		return 0;
	return hga_fail(err, HGA_AUTH, 0, "Expired",
	                "the credentials of the %s have expired "
	                "(AWS_CREDENTIAL_EXPIRATION)",
	                c->creds->provider);
}

static int get(struct hga_creds_get *g, struct cred_source *s,
               struct hga_err *err)
{
	hga_buf_clear(&g->tried);
	if (!good_for_now(s))
		return wait_for(g, s, err);
	g->creds = hga_creds_ref(s->creds);
	return 1;
}

static void init_get(struct hga_creds_get *g, struct hga_aws_client *c)
{
	g->client = hga_aws_client_ref(c);
	hga_buf_init(&g->tried, 8192);
}

int hga_creds_get_start(struct hga_creds_get *g, struct hga_aws_client *c,
                        struct hga_err *err)
{
	int rc = 0;

	init_get(g, c);
	if (c->creds == NULL && c->source == NULL)
		rc = find_plan(c, &g->tried, err);
	if (rc == 0 && c->creds == NULL)
		return get(g, c->source, err);
	if (rc == 0)
		rc = expired(c, err);
	if (rc < 0)
		return rc;
	g->creds = hga_creds_ref(c->creds);
	return 1;
}

int hga_creds_bearer_start(struct hga_creds_get *g, struct hga_aws_client *c,
                           struct hga_err *err)
{
	int rc = 0;

	init_get(g, c);
	if (c->bearer == NULL)
		rc = find_bearer(c, &g->tried, err);
	return rc < 0 ? rc : get(g, c->bearer, err);
}

void hga_creds_get_release(struct hga_creds_get *g)
{
	hga_op_cancel(&g->base);
	hga_creds_free(g->creds);
	hga_buf_release(&g->tried);
	hga_aws_client_free(g->client);
	g->creds = NULL;
	g->client = NULL;
	g->source = NULL;
}

bool cred_refused(struct hga_aws_client *c, const struct hga_creds *used)
{
	struct cred_source *s = c->source;

	if (s == NULL || used == NULL)
		return false;
	/* Somebody else may have got new ones meanwhile. */
	if (s->creds == used)
		s->stale = true;
	return true;
}
