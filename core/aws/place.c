/*
 * Where a call goes: the client's settings and the call's parameters asked
 * of the service's endpoint rules, with the last answers remembered; and the
 * request made ready for the place.
 */
#include "aws/client.h"

#include "base/ini.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define TAPE_MAX ((size_t)1 << 20)

/* ---- rules, parsed once a process ---- */

void aws_rules_release(struct hga_aws *aws)
{
	struct aws_rules *r;

	while ((r = aws->rules) != NULL) {
		aws->rules = r->next;
		hga_rules_free(r->rules);
		hga_free(r);
	}
	hga_partitions_free(aws->partitions);
	aws->partitions = NULL;
}

/* Rules of a service; *out NULL: it has none. */
static int rules_of(struct hga_aws *aws, const struct hga_aws_svc *svc,
                    const struct hga_rules **out, struct hga_err *err)
{
	struct hga_str doc = hga_aws_doc(svc, svc->r->ruleset);
	struct aws_rules *r;
	int rc;

	*out = NULL;
	if (doc.n == 0)
		return 0;
	for (r = aws->rules; r != NULL && r->svc != svc; r = r->next)
		;
	if (r == NULL) {
		r = hga_calloc(1, sizeof(*r));
		if (r == NULL)
			return hga_fail_mem(err);
		rc = hga_rules_new(&r->rules, doc, err);
		if (rc < 0) {
			hga_free(r);
			return rc;
		}
		r->svc = svc;
		r->next = aws->rules;
		aws->rules = r;
	}
	*out = hga_rules_empty(r->rules) ? NULL : r->rules;
	return 0;
}

/* ---- the question ---- */

/* The profile's `s3 =` section as rule parameters. */
static int s3_settings(struct hga_aws_client *c, struct hga_vtape *t,
                       struct hga_err *err)
{
	static const struct {
		const char *key, *want, *param;
	} keys[] = {
	    {"addressing_style", "path", "ForcePathStyle"},
	    {"use_accelerate_endpoint", "true", "Accelerate"},
	    {"use_arn_region", "true", "UseArnRegion"},
	};
	const char *section;
	int rc = hga_aws_config_load(&c->config, err);

	if (rc < 0)
		return rc;
	section = hga_aws_config_prop(&c->config, "s3");
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct hga_str v;

		if (section == NULL ||
		    !hga_ini_nested(section, keys[i].key, &v))
			continue;
		(void)hga_vt_key(t, hga_str(keys[i].param));
		(void)hga_vt_bool(t, HGA_NO_NAME,
		                  hga_str_ieqc(v, keys[i].want));
	}
	(void)hga_vt_close(t);
	return hga_vt_end(t, err);
}

/* What a question is made of; kept until the answer is there. */
struct question {
	struct hga_aws_endpoint_args a;
	struct hga_aws_value region, url, sts, mode;
	struct hga_vtape *settings; /* or NULL */
};

static int ask_settings(struct hga_aws_client *c, struct question *q,
                        struct hga_err *err)
{
	int rc;

	if (!hga_str_eqc(hga_aws_text(c->svc, c->svc->r->name), "s3"))
		return 0;
	q->settings = hga_vtape_new(NULL, TAPE_MAX);
	if (q->settings == NULL)
		return hga_fail_mem(err);
	rc = s3_settings(c, q->settings, err);
	if (rc == 0)
		q->a.settings = hga_vtape_root(q->settings);
	return rc;
}

static int make_question(struct hga_aws_client *c, struct question *q,
                         struct hga_err *err)
{
	struct hga_aws_config *g = &c->config;
	struct hga_str id = hga_aws_text(c->svc, c->svc->r->id);
	const char *insecure =
	    hga_aws_env_get(g->env, "HGAUTO_INSECURE_ENDPOINT");
	int rc = hga_aws_config_get(g, HGA_SET_REGION, &q->region, err);

	if (rc == 0)
		rc = hga_aws_config_endpoint(g, id, &q->url, err);
	if (rc == 0)
		rc = hga_aws_config_bool(g, HGA_SET_FIPS, &q->a.fips, err);
	if (rc == 0)
		rc = hga_aws_config_bool(g, HGA_SET_DUALSTACK, &q->a.dualstack,
		                         err);
	if (rc == 0)
		rc = hga_aws_config_get(g, HGA_SET_STS_REGIONAL, &q->sts, err);
	if (rc == 0)
		rc = hga_aws_config_get(g, HGA_SET_ACCOUNT_MODE, &q->mode, err);
	if (rc == 0)
		rc = rules_of(c->aws, c->svc, &q->a.rules, err);
	if (rc == 0)
		rc = ask_settings(c, q, err);
	if (rc < 0)
		return rc;
	q->a.svc = c->svc;
	q->a.partitions = c->aws->partitions;
	q->a.region = hga_str(q->region.text);
	q->a.url = q->url.text;
	q->a.origin = q->url.where;
	q->a.sts_global =
	    q->sts.text != NULL && strcmp(q->sts.text, "legacy") == 0;
	q->a.insecure_ok = insecure != NULL && strcmp(insecure, "1") == 0;
	q->a.account_mode = q->mode.text;
	return 0;
}

static void question_release(struct question *q)
{
	hga_vtape_free(q->settings);
}

/* ---- answers ---- */

void aws_places_release(struct hga_aws_client *c)
{
	if (c->places == NULL)
		return;
	for (size_t i = 0; i < AWS_PLACES; i++)
		hga_free(c->places[i].asked);
	hga_free(c->places);
	c->places = NULL;
}

/* The remembered answer, or the slot for a new one (least recently used). */
static struct aws_placed *find_slot(struct hga_aws_client *c, const char *asked,
                                    bool *known)
{
	struct aws_placed *oldest = &c->places[0];

	*known = true;
	for (size_t i = 0; i < AWS_PLACES; i++) {
		struct aws_placed *p = &c->places[i];

		if (p->asked != NULL && strcmp(p->asked, asked) == 0)
			return p;
		if (p->used < oldest->used)
			oldest = p;
	}
	*known = false;
	return oldest;
}

static int answer(struct hga_aws_client *c, const struct question *q,
                  struct hga_val asked, struct hga_aws_endpoint *out,
                  struct hga_err *err)
{
	struct aws_placed *slot;
	struct hga_buf key;
	bool known;
	int rc;

	if (c->places == NULL)
		c->places = hga_calloc(AWS_PLACES, sizeof(*c->places));
	if (c->places == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&key, TAPE_MAX);
	rc = hga_json_write(&key, asked, 0, true, err);
	if (rc < 0)
		goto out;
	slot = find_slot(c, hga_buf_text(&key), &known);
	if (!known) {
		rc = hga_aws_endpoint_apply(&q->a, asked, out, err);
		if (rc < 0)
			goto out;
		hga_free(slot->asked);
		slot->asked = hga_buf_move(&key);
		slot->endpoint = *out;
	}
	slot->used = ++c->place_clock;
	*out = slot->endpoint;
out:
	hga_buf_release(&key);
	return rc;
}

int aws_find_place(struct hga_aws_client *c, struct hga_aws_op op,
                   struct hga_val params, const struct hga_creds *creds,
                   struct hga_aws_endpoint *out, struct hga_err *err)
{
	struct hga_vtape *t;
	struct question q;
	int rc;

	*out = c->endpoint;
	if (!c->varies)
		return 0;
	memset(&q, 0, sizeof(q));
	t = hga_vtape_new(NULL, TAPE_MAX);
	if (t == NULL)
		return hga_fail_mem(err);
	rc = make_question(c, &q, err);
	q.a.op = op;
	q.a.params = params;
	q.a.account_id = creds != NULL ? creds->account_id : NULL;
	if (rc == 0)
		rc = hga_aws_endpoint_params(&q.a, t, err);
	if (rc == 0)
		rc = answer(c, &q, hga_vtape_root(t), out, err);
	question_release(&q);
	hga_vtape_free(t);
	return rc;
}

/* Only one endpoint may be talked to: is host it, or a name below it? */
static int check_only(const struct hga_aws_client *c, const char *host,
                      struct hga_err *err)
{
	const char *only = c->aws->only;
	size_t n = strlen(host), k = only != NULL ? strlen(only) : 0;

	if (only == NULL || strcmp(only, host) == 0 ||
	    (n > k && host[n - k - 1] == '.' &&
	     strcmp(host + n - k, only) == 0))
		return 0;
	return hga_fail(err, HGA_USAGE, 0, "Endpoint",
	                "this run may only talk to %s, not to %s", only, host);
}

int aws_find_endpoint(struct hga_aws_client *c, struct hga_err *err)
{
	struct question q;
	int rc = 0;

	memset(&q, 0, sizeof(q));
	if (c->aws->partitions == NULL)
		rc = hga_partitions_new(&c->aws->partitions,
		                        hga_aws_partitions(c->aws->img), err);
	if (rc == 0)
		rc = make_question(c, &q, err);
	/* without credentials, which come later: calls ask again */
	q.a.account_mode = NULL;
	if (rc == 0)
		rc = hga_aws_endpoint_find(&q.a, &c->endpoint, err);
	if (rc == 0)
		rc = check_only(c, c->endpoint.host, err);
	if (rc == 0)
		rc = hga_aws_config_bool(&c->config, HGA_SET_NO_HOST_PREFIX,
		                         &c->no_host_prefix, err);
	c->varies = hga_aws_endpoint_varies(q.a.rules);
	question_release(&q);
	return rc;
}

/* ---- requests ---- */

static int set_headers(struct hga_aws_request *req,
                       const struct hga_aws_endpoint *e, struct hga_err *err)
{
	struct hga_str rest = hga_str(e->headers);
	int rc = 0;

	while (rc == 0 && rest.n > 0) {
		/* "name: value\n" each, as endpoint.c writes them */
		ptrdiff_t nl = hga_str_chr(rest, '\n', 0);
		ptrdiff_t colon = hga_str_chr(rest, ':', 0);

		rc = hga_aws_pairs_set(
		    &req->headers, hga_strn(rest.s, (size_t)colon),
		    hga_strn(rest.s + colon + 2, (size_t)(nl - colon) - 2),
		    err);
		rest = hga_strn(rest.s + nl + 1, rest.n - (size_t)nl - 1);
	}
	return rc;
}

/* The path without the bucket, which the endpoint holds already. */
static struct hga_str own_path(const struct hga_aws_endpoint *e,
                               struct hga_aws_op op, struct hga_str path)
{
	ptrdiff_t slash;

	if (!e->bucket_placed ||
	    !hga_str_starts(hga_aws_text(op.svc, op.r->uri), "/{Bucket}"))
		return path;
	slash = hga_str_chr(path, '/', 1);
	return slash < 0 ? hga_strn("", 0)
	                 : hga_strn(path.s + slash, path.n - (size_t)slash);
}

int aws_place_request(const struct hga_aws_client *c,
                      const struct hga_aws_endpoint *e, struct hga_aws_op op,
                      struct hga_aws_request *req, char *host, size_t size,
                      struct hga_err *err)
{
	struct hga_str own = own_path(e, op, hga_buf_str(&req->path));
	struct hga_buf path;
	int n, rc;

	n = snprintf(host, size, "%s%s",
	             c->no_host_prefix ? "" : hga_buf_text(&req->host_prefix),
	             e->host);
	if (n < 0 || (size_t)n >= size)
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "host name too long");
	rc = check_only(c, host, err);
	if (rc == 0)
		rc = set_headers(req, e, err);
	if (rc < 0 || (e->base[0] == '\0' && own.n == req->path.len))
		return rc;
	hga_buf_init(&path, AWS_REQUEST_MAX);
	rc = hga_buf_adds(&path, e->base, err);
	if (rc == 0)
		rc = hga_buf_addstr(&path, own, err);
	if (rc == 0 && path.len == 0)
		rc = hga_buf_addc(&path, '/', err);
	if (rc == 0) {
		hga_buf_release(&req->path);
		req->path = path;
		return 0;
	}
	hga_buf_release(&path);
	return rc;
}

struct hga_sign_args aws_sign_args(const struct hga_aws_client *c,
                                   const struct hga_aws_endpoint *e,
                                   const struct hga_creds *creds,
                                   const struct aws_host *host,
                                   const char *host_name)
{
	bool s3 = hga_str_eqc(hga_aws_text(c->svc, c->svc->r->name), "s3");
	struct hga_sign_args a = {0};
	const struct hga_aws_env *env = &c->aws->env;

	a.creds = hga_creds_view(creds);
	a.region = hga_str(e->region);
	a.service = hga_str(e->service);
	a.time_s =
	    (env->wall_us(env->data) + (host != NULL ? host->skew_us : 0)) /
	    1000000;
	a.host = hga_str(host_name);
	a.raw_path = s3 || e->raw_path;
	a.content_sha256 = s3;
	return a;
}
