/*
 * Clients and what they share: hosts with their clock offsets, things just
 * created, settings resolved at first use, requests made ready for an
 * endpoint, presigned URLs.
 */
#include "aws/client.h"

#include "aws/body.h"
#include "aws/ser.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

enum {
	CONNECT_MS = 10000,
	MAX_RESPONSE = 32 << 20
};

/* ---- shared state ---- */

static void read_seed(struct hga_aws *aws)
{
	const char *text = hga_aws_env_get(&aws->env, "HGAUTO_RETRY_SEED");
	uint64_t seed;

	if (text != NULL && hga_str_uint(hga_str(text), &seed))
		aws->seed = seed * 2 + 1;
}

int hga_aws_new(struct hga_aws **out, const struct hga_aws_args *args,
                struct hga_err *err)
{
	struct hga_aws *aws = hga_calloc(1, sizeof(*aws));

	if (aws == NULL)
		return hga_fail_mem(err);
	aws->loop = args->loop;
	aws->img = args->img;
	aws->env = args->env != NULL ? *args->env : hga_aws_env_real;
	hga_aws_env_fill(&aws->env);
	aws->agent = hga_strdup(args->agent);
	if (aws->agent == NULL) {
		hga_aws_free(aws);
		return hga_fail_mem(err);
	}
	read_seed(aws);
	*out = aws;
	return 0;
}

void hga_aws_free(struct hga_aws *aws)
{
	struct aws_host *h;

	if (aws == NULL)
		return;
	while ((h = aws->hosts) != NULL) {
		aws->hosts = h->next;
		hga_free(h->name);
		hga_free(h);
	}
	for (size_t i = 0; i < AWS_RECENT; i++)
		hga_free(aws->recent[i].text);
	cred_sso_forget(aws);
	hga_sign_cache_release(&aws->keys);
	aws_rules_release(aws);
	hga_free(aws->agent);
	hga_free(aws->only);
	hga_free(aws);
}

int hga_aws_only(struct hga_aws *aws, struct hga_str url, struct hga_err *err)
{
	struct hga_aws_endpoint e;
	char *copy = NULL;
	int rc;

	if (url.n > 0) {
		memset(&e, 0, sizeof(e));
		rc = hga_aws_endpoint_parse(url, &e, err);
		if (rc < 0)
			return rc;
		copy = hga_strdup(e.host);
		if (copy == NULL)
			return hga_fail_mem(err);
	}
	hga_free(aws->only);
	aws->only = copy;
	return 0;
}

const struct hga_aws_image *hga_aws_images(const struct hga_aws *aws)
{
	return aws->img;
}

const struct hga_aws_env *hga_aws_environment(const struct hga_aws *aws)
{
	return &aws->env;
}

struct aws_host *aws_host_ensure(struct hga_aws *aws, const char *name)
{
	struct aws_host *h;

	for (h = aws->hosts; h != NULL; h = h->next) {
		if (strcmp(h->name, name) == 0)
			return h;
	}
	h = hga_calloc(1, sizeof(*h));
	if (h == NULL)
		return NULL;
	h->name = hga_strdup(name);
	if (h->name == NULL) {
		hga_free(h);
		return NULL;
	}
	h->next = aws->hosts;
	aws->hosts = h;
	return h;
}

double aws_random(struct hga_aws *aws)
{
	if (aws->seed == 0)
		return aws->env.random(aws->env.data);
	/* xorshift64: repeatable jitter for tests */
	aws->seed ^= aws->seed << 13;
	aws->seed ^= aws->seed >> 7;
	aws->seed ^= aws->seed << 17;
	return (double)(aws->seed >> 11) / 9007199254740992.0;
}

/* ---- things just created ---- */

void aws_recent_add(struct hga_aws *aws, struct hga_str text, int64_t now_ms,
                    bool profile)
{
	struct aws_recent *r = &aws->recent[aws->recent_at];
	char *copy;

	/* Short texts would be found in every message. */
	if (text.n < 3 || text.n > AWS_RECENT_TEXT)
		return;
	copy = hga_memdup0(text.s, text.n);
	if (copy == NULL)
		return; /* less patience, nothing else */
	hga_free(r->text);
	r->text = copy;
	r->at_ms = now_ms;
	r->profile = profile;
	aws->recent_at = (aws->recent_at + 1) % AWS_RECENT;
}

void aws_recent_forget(struct hga_aws *aws, struct hga_str text)
{
	for (size_t i = 0; i < AWS_RECENT; i++) {
		struct aws_recent *r = &aws->recent[i];

		if (r->text == NULL || hga_str_find(text, hga_str(r->text)) < 0)
			continue;
		hga_free(r->text);
		r->text = NULL;
	}
}

const struct aws_recent *aws_recent_in(const struct hga_aws *aws,
                                       struct hga_str text, bool profile)
{
	const struct aws_recent *best = NULL;

	for (size_t i = 0; i < AWS_RECENT; i++) {
		const struct aws_recent *r = &aws->recent[i];

		if (r->text == NULL || (profile && !r->profile) ||
		    (best != NULL && r->at_ms <= best->at_ms))
			continue;
		if (hga_str_find(text, hga_str(r->text)) >= 0)
			best = r;
	}
	return best;
}

/* ---- clients ---- */

static int set_bool(struct hga_aws_config *c, enum hga_aws_setting s, int v,
                    struct hga_err *err)
{
	if (v == 0)
		return 0;
	return hga_aws_config_arg(c, s, hga_str(v > 0 ? "true" : "false"), err);
}

static int set_args(struct hga_aws_client *c,
                    const struct hga_aws_client_args *a, struct hga_err *err)
{
	const struct {
		enum hga_aws_setting set;
		struct hga_str value;
	} list[] = {
	    {HGA_SET_PROFILE, a->profile},
	    {HGA_SET_REGION, a->region},
	    {HGA_SET_ENDPOINT_URL, a->endpoint_url},
	    {HGA_SET_RETRY_MODE, a->retry_mode},
	    {HGA_SET_CA_BUNDLE, a->ca_bundle},
	};
	int rc = set_bool(&c->config, HGA_SET_FIPS, a->use_fips, err);

	if (rc == 0)
		rc = set_bool(&c->config, HGA_SET_DUALSTACK, a->use_dualstack,
		              err);
	for (size_t i = 0; i < sizeof(list) / sizeof(*list) && rc == 0; i++)
		rc = hga_aws_config_arg(&c->config, list[i].set, list[i].value,
		                        err);
	if (rc == 0 && a->user_agent_extra.n > 0) {
		c->agent_extra =
		    hga_memdup0(a->user_agent_extra.s, a->user_agent_extra.n);
		if (c->agent_extra == NULL)
			rc = hga_fail_mem(err);
	}
	return rc;
}

static int64_t or_default(int64_t v, int64_t def)
{
	return v > 0 ? v : def;
}

int hga_aws_client_new(struct hga_aws *aws, const struct hga_aws_client_args *a,
                       struct hga_aws_client **out, struct hga_err *err)
{
	struct hga_aws_client *c = hga_calloc(1, sizeof(*c));
	int rc;

	if (c == NULL)
		return hga_fail_mem(err);
	c->refs = 1;
	c->aws = aws;
	c->svc = a->svc;
	hga_aws_config_init(&c->config, &aws->env);
	hga_retry_quota_init(&c->quota);
	hga_rate_init(&c->rate, (double)hga_mono_ms() / 1000);
	c->max_attempts = (unsigned)(a->max_attempts > 0 ? a->max_attempts : 0);
	c->timeout_ms = or_default(a->timeout_ms, 0);
	c->read_ms = or_default(a->read_ms, 0);
	c->connect_ms = or_default(a->connect_ms, CONNECT_MS);
	c->max_response = (size_t)or_default(a->max_response, MAX_RESPONSE);
	c->max_concurrency =
	    (unsigned)or_default(a->max_concurrency, AWS_INFLIGHT);
	c->eventual = !a->no_eventual;
	c->no_cred_cache = a->no_cred_cache;
	c->patient = a->patient;
	c->anonymous = a->anonymous;
	if (a->creds != NULL) {
		c->creds = hga_creds_ref(a->creds);
		c->creds_given = true;
	}
	rc = set_args(c, a, err);
	if (rc < 0) {
		hga_aws_client_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

struct hga_aws_client *hga_aws_client_ref(struct hga_aws_client *c)
{
	c->refs++;
	return c;
}

void hga_aws_client_free(struct hga_aws_client *c)
{
	if (c == NULL || --c->refs > 0)
		return;
	aws_places_release(c);
	hga_aws_config_release(&c->config);
	hga_creds_free(c->creds);
	cred_source_free(c->source);
	cred_source_free(c->bearer);
	hga_free(c->ca_bundle);
	hga_free(c->agent);
	hga_free(c->agent_extra);
	hga_free(c);
}

const struct hga_aws_svc *hga_aws_client_svc(const struct hga_aws_client *c)
{
	return c->svc;
}

struct hga_aws_config *hga_aws_client_config(struct hga_aws_client *c)
{
	return &c->config;
}

const struct hga_aws_endpoint *
hga_aws_client_endpoint(const struct hga_aws_client *c)
{
	return c->ready ? &c->endpoint : NULL;
}

const struct hga_creds *hga_aws_client_creds(const struct hga_aws_client *c)
{
	if (c->creds == NULL && c->source != NULL)
		return cred_source_creds(c->source);
	return c->creds;
}

/* ---- settings at first use ---- */

static int find_retry(struct hga_aws_client *c, struct hga_err *err)
{
	struct hga_aws_value v;
	uint64_t n;
	int rc = hga_aws_config_get(&c->config, HGA_SET_RETRY_MODE, &v, err);

	if (rc < 0)
		return rc;
	if (!hga_retry_mode_find(hga_str_trim(hga_str(v.text)), &c->mode))
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "retry_mode: \"%s\" is not one of standard, "
		                "standard-v1, legacy, adaptive (from %s)",
		                v.text, v.where);
	rc = hga_aws_config_get(&c->config, HGA_SET_MAX_ATTEMPTS, &v, err);
	if (rc < 0)
		return rc;
	if (c->max_attempts == 0 && v.text != NULL) {
		if (!hga_str_uint(hga_str_trim(hga_str(v.text)), &n) ||
		    n == 0 || n > 1000)
			return hga_fail(err, HGA_USAGE, 0, NULL,
			                "max_attempts: \"%s\" is not a number "
			                "from 1 to 1000 (from %s)",
			                v.text, v.where);
		c->max_attempts = (unsigned)n;
	}
	if (c->max_attempts == 0)
		c->max_attempts = hga_retry_attempts(
		    c->mode, hga_aws_cstr(c->svc, c->svc->r->name));
	return 0;
}

static int find_tls(struct hga_aws_client *c, struct hga_err *err)
{
	struct hga_aws_value v;
	int rc = hga_aws_config_get(&c->config, HGA_SET_CA_BUNDLE, &v, err);

	if (rc < 0 || v.text == NULL)
		return rc;
	c->ca_bundle = hga_strdup(v.text);
	return c->ca_bundle != NULL ? 0 : hga_fail_mem(err);
}

/* Header texts must stay on one line, whoever configured them. */
static int add_plain(struct hga_buf *b, const char *prefix, const char *text,
                     struct hga_err *err)
{
	int rc;

	if (text == NULL)
		return 0;
	rc = hga_buf_adds(b, prefix, err);
	for (; *text != '\0' && rc == 0; text++)
		rc = hga_buf_addc(b, *text > ' ' && *text < 127 ? *text : '-',
		                  err);
	return rc;
}

static int make_agent(struct hga_aws_client *c, struct hga_err *err)
{
	struct hga_aws_value app, where;
	struct hga_buf b;
	int rc = hga_aws_config_get(&c->config, HGA_SET_APP_ID, &app, err);

	if (rc == 0)
		rc = hga_aws_config_get(&c->config, HGA_SET_EXECUTION_ENV,
		                        &where, err);
	if (rc != 0)
		return rc;
	hga_buf_init(&b, 1024);
	rc = hga_buf_addf(&b, err, "%s cfg/retry-mode#%s", c->aws->agent,
	                  hga_retry_mode_name(c->mode));
	if (rc == 0)
		rc = add_plain(&b, " exec-env/", where.text, err);
	if (rc == 0)
		rc = add_plain(&b, " app/", app.text, err);
	if (rc == 0)
		rc = add_plain(&b, " ", c->agent_extra, err);
	if (rc == 0)
		c->agent = hga_buf_move(&b);
	hga_buf_release(&b);
	return rc;
}

/* The order: what is cheap and often wrong first. */
static int make_ready(struct hga_aws_client *c, struct hga_err *err)
{
	int rc = aws_find_endpoint(c, err);

	if (rc == 0)
		rc = find_retry(c, err);
	if (rc == 0 && c->ca_bundle == NULL)
		rc = find_tls(c, err);
	if (rc == 0 && c->agent == NULL)
		rc = make_agent(c, err);
	return rc;
}

int hga_aws_client_ready(struct hga_aws_client *c, struct hga_err *err)
{
	int rc = 0;

	if (!c->ready)
		rc = make_ready(c, err);
	if (rc == 0)
		c->ready = true;
	return rc;
}

/* ---- requests ---- */

/* ---- parameters that single operations change ---- */

/* Copies a map without the named entries; the map stays open in *out. */
static int begin_change(struct hga_val params, const char *const *without,
                        struct hga_vtape **out, struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(NULL, AWS_REQUEST_MAX);
	struct hga_vit it;

	*out = t;
	if (t == NULL)
		return hga_fail_mem(err);
	/* failures stick: vt_end */
	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (it = hga_val_first(params); hga_val_more(it);
	     it = hga_val_next(it)) {
		const char *const *w = without;

		while (*w != NULL && !hga_str_eqc(hga_vit_name(&it), *w))
			w++;
		if (*w != NULL)
			continue;
		hga_vt_key(t, hga_vit_name(&it));
		hga_vt_copy(t, HGA_NO_NAME, hga_vit_val(it));
	}
	return 0;
}

static void change(struct hga_vtape *t, const char *name, struct hga_str text)
{
	hga_vt_key(t, hga_str(name)); /* failures stick: vt_end */
	hga_vt_str(t, HGA_NO_NAME, text);
}

static int end_change(struct hga_vtape *t, struct hga_err *err)
{
	hga_vt_close(t);
	return hga_vt_end(t, err);
}

/* RunInstances wants user data in base64; scripts give the text itself. */
static int encode_user_data(struct hga_val params, struct hga_vtape **out,
                            struct hga_err *err)
{
	static const char *const names[] = {"UserData", NULL};
	struct hga_str text = hga_val_str(hga_val_get(params, "UserData"));
	struct hga_buf b64;
	int rc = begin_change(params, names, out, err);

	hga_buf_init(&b64, AWS_REQUEST_MAX);
	if (rc == 0)
		rc = hga_b64_encode(&b64, text.s, text.n, err);
	if (rc == 0) {
		change(*out, "UserData", hga_buf_str(&b64));
		rc = end_change(*out, err);
	}
	hga_buf_release_secret(&b64);
	return rc;
}

/* The same identity and settings in another region. */
static int neighbour(struct hga_aws_client *c, struct hga_str region,
                     struct hga_aws_client **out, struct hga_err *err)
{
	struct hga_aws_client_args a = {
	    .svc = c->svc,
	    .profile = hga_str(c->config.args[HGA_SET_PROFILE]),
	    .region = region,
	    .endpoint_url = hga_str(c->config.args[HGA_SET_ENDPOINT_URL]),
	    .anonymous = true}; /* signs with given ones only */

	return hga_aws_client_new(c->aws, &a, out, err);
}

/* A snapshot is copied by the region it goes to, which asks the one it comes
 * from with a URL that the caller has signed there. */
static int presign_copy(struct hga_aws_client *c, struct hga_aws_op op,
                        struct hga_val params, struct hga_vtape **out,
                        struct hga_err *err)
{
	static const char *const names[] = {"DestinationRegion", NULL};
	struct hga_str from = hga_val_str(hga_val_get(params, "SourceRegion"));
	struct hga_aws_client *there = NULL;
	struct hga_aws_request req = {0};
	struct hga_vtape *with = NULL;
	const struct hga_creds *creds = hga_aws_client_creds(c);
	struct hga_buf url;
	int rc;

	if (creds == NULL)
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "the copy's URL is signed before credentials "
		                "are waited for: call aws.credentials first");
	rc = begin_change(params, names, &with, err);
	hga_buf_init(&url, AWS_REQUEST_MAX);
	if (rc == 0) {
		change(with, names[0], hga_str(c->endpoint.region));
		rc = end_change(with, err);
	}
	if (rc == 0)
		rc = neighbour(c, from, &there, err);
	if (rc == 0)
		rc = hga_aws_presign_url(there, creds, op, hga_vtape_root(with),
		                         3600, &req, &url, err);
	if (rc == 0)
		rc = begin_change(params, names, out, err);
	if (rc == 0) {
		change(*out, names[0], hga_str(c->endpoint.region));
		change(*out, "PresignedUrl", hga_buf_str(&url));
		rc = end_change(*out, err);
	}
	hga_aws_request_release(&req);
	hga_aws_client_free(there);
	hga_vtape_free_secret(with);
	hga_buf_release_secret(&url);
	return rc;
}

static bool is_text(struct hga_val params, const char *name)
{
	return hga_val_is(hga_val_get(params, name), HGA_V_STR);
}

/* One that names the destination is about to be presigned itself. */
static bool is_copy(struct hga_aws_op op, struct hga_val params)
{
	return hga_str_eqc(hga_aws_text(op.svc, op.svc->r->name), "ec2") &&
	       hga_str_eqc(hga_aws_op_name(op), "CopySnapshot") &&
	       is_text(params, "SourceRegion") &&
	       !is_text(params, "DestinationRegion") &&
	       !is_text(params, "PresignedUrl");
}

bool aws_wants_creds(const struct hga_aws_client *c, struct hga_aws_op op,
                     struct hga_val params)
{
	return c->varies || is_copy(op, params);
}

/* *changed: parameters to send instead; the caller frees it, also after a
 * failure. */
static int customise(struct hga_aws_client *c, struct hga_aws_op op,
                     struct hga_val params, struct hga_vtape **changed,
                     struct hga_err *err)
{
	struct hga_str name = hga_aws_op_name(op);

	if (!hga_str_eqc(hga_aws_text(op.svc, op.svc->r->name), "ec2"))
		return 0;
	if (hga_str_eqc(name, "RunInstances") && is_text(params, "UserData"))
		return encode_user_data(params, changed, err);
	if (is_copy(op, params))
		return presign_copy(c, op, params, changed, err);
	return 0;
}

static int make_token(void *data, char out[37], struct hga_err *err)
{
	const struct hga_aws *aws = data;

	return aws->env.uuid(aws->env.data, out, err);
}

/* Largest value that services and SDKs know. */
#define COMPRESS_MIN_MAX 10485760

static int compress(struct hga_aws_client *c, struct hga_aws_op op,
                    struct hga_aws_request *req, struct hga_err *err)
{
	struct hga_aws_value v;
	uint64_t min;
	bool off;
	int rc;

	if (!(op.r->flags & HGA_OF_GZIP))
		return 0;
	rc = hga_aws_config_bool(&c->config, HGA_SET_NO_COMPRESS, &off, err);
	if (rc < 0 || off)
		return rc;
	rc = hga_aws_config_get(&c->config, HGA_SET_COMPRESS_MIN, &v, err);
	if (rc < 0)
		return rc;
	if (!hga_str_uint(hga_str_trim(hga_str(v.text)), &min) ||
	    min > COMPRESS_MIN_MAX)
		return hga_fail(err, HGA_USAGE, 0, NULL,
		                "request_min_compression_size_bytes: \"%s\" is "
		                "not a number from 0 to %d (from %s)",
		                v.text, COMPRESS_MIN_MAX, v.where);
	return hga_aws_body_compress(op, req, min, err);
}

/* Compression first: the checksum is of what is sent. */
static int finish_body(struct hga_aws_client *c, struct hga_aws_op op,
                       struct hga_val params, struct hga_aws_request *req,
                       struct hga_err *err)
{
	enum hga_aws_sum sum;
	int rc = compress(c, op, req, err);

	if (rc == 0)
		rc = hga_aws_body_sum(op, params, req, &sum, err);
	if (rc != 0)
		return rc;
	req->sum = sum;
	return hga_aws_body_set_sum(op, req, sum, err);
}

int aws_serialize(struct hga_aws_client *c, struct hga_aws_op op,
                  struct hga_val params, struct hga_val extra,
                  struct hga_aws_request *req, struct hga_err *err)
{
	struct hga_aws_tokens tokens = {make_token, c->aws};
	struct hga_aws_ser s = {op, params, extra, &tokens, AWS_REQUEST_MAX};
	struct hga_vtape *changed = NULL;
	int rc = customise(c, op, params, &changed, err);

	if (rc == 0 && changed != NULL)
		s.params = hga_vtape_root(changed);
	hga_aws_request_init(req, AWS_REQUEST_MAX);
	if (rc == 0)
		rc = hga_aws_serialize(&s, req, err);
	if (rc == 0)
		rc = finish_body(c, op, s.params, req, err);
	hga_vtape_free_secret(changed);
	return rc;
}

/* ---- presigned URLs ---- */

/* Query protocols: the form body becomes the query string of a GET. */
static int body_into_query(struct hga_aws_request *req, struct hga_err *err)
{
	int rc = 0;

	if (!req->has_body)
		return 0;
	if (req->query.len > 0)
		rc = hga_buf_addc(&req->query, '&', err);
	if (rc == 0)
		rc = hga_buf_addstr(&req->query, hga_buf_str(&req->body), err);
	hga_buf_clear(&req->body);
	req->has_body = false;
	hga_aws_pairs_remove(&req->headers, "Content-Type");
	(void)snprintf(req->method, sizeof(req->method), "GET");
	return rc;
}

/* s3: whoever has the URL may send any content. */
static void forget_body(struct hga_aws_request *req)
{
	struct hga_aws_pairs *h = &req->headers;
	size_t i = 0;

	hga_aws_pairs_remove(h, "Content-MD5");
	while (i < h->n) {
		struct hga_str name = hga_str(h->v[i].name);

		if (name.n >= 14 &&
		    (hga_str_ieqc(hga_strn(name.s, 14), "x-amz-checksum") ||
		     hga_str_ieqc(name, "x-amz-sdk-checksum-algorithm")))
			hga_aws_pairs_remove(h, h->v[i].name);
		else
			i++;
	}
	hga_buf_clear(&req->body);
	hga_free(req->file);
	req->file = NULL;
	req->has_body = false;
}

static int presign(struct hga_aws_client *c, const struct hga_creds *creds,
                   const struct hga_aws_endpoint *e, struct hga_aws_op op,
                   struct hga_aws_request *req, unsigned expires_s,
                   struct hga_buf *url, struct hga_err *err)
{
	enum hga_aws_protocol p = (enum hga_aws_protocol)op.svc->r->protocol;
	struct hga_sign_args a;
	char host[400];
	int rc = aws_place_request(c, e, op, req, host, sizeof(host), err);

	if (rc < 0)
		return rc;
	a = aws_sign_args(c, e, creds, aws_host_ensure(c->aws, host), host);
	a.expires_s = expires_s;
	a.unsigned_payload = a.content_sha256; /* s3 */
	a.content_sha256 = false;
	if (p == HGA_AWS_EC2 || p == HGA_AWS_QUERY)
		rc = body_into_query(req, err);
	else if (a.unsigned_payload)
		forget_body(req);
	else if (req->file != NULL)
		rc = hga_fail(err, HGA_USAGE, 0, "Unsupported",
		              "presign: a body cannot be a file");
	if (rc == 0)
		rc = hga_aws_presign(req, &a, &c->aws->keys, NULL, err);
	if (rc < 0)
		return rc;
	return hga_buf_addf(
	    url, err, "%s://%s%s?%s", e->https ? "https" : "http", host,
	    hga_buf_text(&req->path), hga_buf_text(&req->query));
}

int hga_aws_presign_url(struct hga_aws_client *client,
                        const struct hga_creds *creds, struct hga_aws_op op,
                        struct hga_val params, unsigned expires_s,
                        struct hga_aws_request *req, struct hga_buf *url,
                        struct hga_err *err)
{
	const struct hga_val none = {NULL, 0};
	struct hga_aws_endpoint e;
	int rc = hga_aws_client_ready(client, err);

	if (rc == 0)
		rc = aws_find_place(client, op, params, creds, &e, err);
	if (rc == 0)
		rc = aws_serialize(client, op, params, none, req, err);
	if (rc == 0)
		rc = presign(client, creds, &e, op, req, expires_s, url, err);
	return rc;
}
