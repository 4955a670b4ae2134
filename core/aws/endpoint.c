/*
 * Endpoints of AWS services: what their rules are asked, what the answers
 * mean, and URLs taken apart.
 */
#include "aws/endpoint.h"

#include "aws/jmespath.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

/* ---- URLs ---- */

static struct hga_str without_port(struct hga_str host)
{
	ptrdiff_t at;

	if (host.n > 0 && host.s[0] == '[') {
		at = hga_str_chr(host, ']', 0);
		return at < 0 ? host : hga_strn(host.s + 1, (size_t)at - 1);
	}
	at = hga_str_chr(host, ':', 0);
	return at < 0 ? host : hga_strn(host.s, (size_t)at);
}

bool hga_aws_host_is_loopback(struct hga_str host)
{
	int dots = 0;

	host = without_port(host);
	if (hga_str_ieqc(host, "localhost") || hga_str_eqc(host, "::1"))
		return true;
	if (!hga_str_starts(host, "127."))
		return false;
	/* "127.0.0.1.example.org" is a name, not an address. */
	for (size_t i = 0; i < host.n; i++) {
		if (host.s[i] == '.')
			dots++;
		else if (host.s[i] < '0' || host.s[i] > '9')
			return false;
	}
	return dots == 3;
}

static bool host_chars_ok(struct hga_str host)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyz"
	                         "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";

	if (host.n == 0)
		return false;
	for (size_t i = 0; i < host.n; i++) {
		if (memchr(ok, host.s[i], sizeof(ok) - 1) == NULL)
			return false;
	}
	return true;
}

static int bad_url(struct hga_str url, const char *why, struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "Endpoint",
	                "Invalid endpoint: %.*s (%s)", HGA_STRF(url), why);
}

static int set_host(struct hga_aws_endpoint *out, struct hga_str url,
                    struct hga_str host, struct hga_err *err)
{
	const char *def = out->https ? ":443" : ":80";
	struct hga_str port;
	ptrdiff_t at = -1;
	uint64_t number;

	if (!host_chars_ok(host) || host.n >= sizeof(out->host))
		return bad_url(url, "bad host", err);
	if (host.s[0] == '[')
		at = hga_str_chr(host, ']', 0);
	at = hga_str_chr(host, ':', at < 0 ? 0 : (size_t)at);
	if (at >= 0) {
		port = hga_strn(host.s + at + 1, host.n - (size_t)at - 1);
		if (!hga_str_uint(port, &number) || number == 0 ||
		    number > 65535)
			return bad_url(url, "bad port", err);
	}
	if (hga_str_ends(host, def))
		host.n -= strlen(def);
	for (size_t i = 0; i < host.n; i++) {
		char c = host.s[i];

		out->host[i] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
	}
	out->host[host.n] = '\0';
	return 0;
}

int hga_aws_endpoint_parse(struct hga_str url, struct hga_aws_endpoint *out,
                           struct hga_err *err)
{
	struct hga_str rest = hga_str_trim(url), host, base;
	ptrdiff_t slash;
	size_t scheme;

	if (memchr(rest.s, '@', rest.n) != NULL)
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "Invalid endpoint: user information in the "
		                "URL is not allowed");
	out->https = hga_str_starts(rest, "https://");
	if (!out->https && !hga_str_starts(rest, "http://"))
		return bad_url(url, "expected http:// or https://", err);
	if (hga_str_chr(rest, '?', 0) >= 0 || hga_str_chr(rest, '#', 0) >= 0)
		return bad_url(url, "query or fragment", err);
	scheme = out->https ? 8 : 7;
	rest.s += scheme;
	rest.n -= scheme;
	slash = hga_str_chr(rest, '/', 0);
	host = slash < 0 ? rest : hga_strn(rest.s, (size_t)slash);
	base = slash < 0 ? hga_str("")
	                 : hga_strn(rest.s + slash, rest.n - (size_t)slash);
	while (base.n > 0 && base.s[base.n - 1] == '/')
		base.n--;
	if (base.n >= sizeof(out->base))
		return bad_url(url, "path too long", err);
	(void)snprintf(out->base, sizeof(out->base), "%.*s", HGA_STRF(base));
	return set_host(out, url, host, err);
}

int hga_aws_endpoint_url(const struct hga_aws_endpoint *e, struct hga_buf *out,
                         struct hga_err *err)
{
	return hga_buf_addf(out, err, "%s://%s%s", e->https ? "https" : "http",
	                    e->host, e->base);
}

/* ---- what the rules are asked ---- */

/* Service with one address per partition, which needs no region. */
static bool is_global(const struct hga_aws_endpoint_args *a)
{
	const struct hga_img_svc *r = a->svc->r;

	if (r->global == HGA_IMG_NONE)
		return false;
	return !hga_str_eqc(hga_aws_text(a->svc, r->name), "sts") ||
	       a->sts_global;
}

/* The region the rules are asked about. */
static struct hga_str asked_region(const struct hga_aws_endpoint_args *a)
{
	return a->region.n > 0 ? a->region : HGA_STR("aws-global");
}

/* The region's text becomes part of a host name. */
static int check_region(const struct hga_aws_endpoint_args *a,
                        struct hga_err *err)
{
	struct hga_str r = a->region;

	if (r.n == 0 && !is_global(a))
		return hga_fail(err, HGA_USAGE, 0, "NoRegion",
		                "You must specify a region.");
	for (size_t i = 0; i < r.n; i++) {
		char c = r.s[i];

		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-')
			return hga_fail(err, HGA_USAGE, 0, "Endpoint",
			                "\"%.*s\" is not the name of a region",
			                HGA_STRF(r));
	}
	if (r.n > 63)
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "region name too long");
	return 0;
}

static bool is_there(struct hga_val v)
{
	return hga_val_type(v) != HGA_V_NONE && !hga_val_is(v, HGA_V_NULL);
}

/* The operation's context parameters as a value; *t stays the owner. */
static int read_contexts(const struct hga_aws_endpoint_args *a,
                         struct hga_vtape **t, struct hga_err *err)
{
	*t = NULL;
	if (a->op.r == NULL || a->op.r->contexts == HGA_IMG_NONE)
		return 0;
	return hga_json_parse(hga_aws_doc(a->svc, a->op.r->contexts), 1 << 20,
	                      t, err);
}

/* Value of the input member that is bound to a rule parameter. */
static struct hga_val bound_member(const struct hga_aws_endpoint_args *a,
                                   struct hga_str name)
{
	const struct hga_val none = {NULL, 0};
	const struct hga_img_shape *in;

	if (a->op.r == NULL)
		return none;
	in = hga_aws_shape(a->svc, a->op.r->input);
	for (uint32_t i = 0; in != NULL && i < in->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(a->svc, in, i);
		uint32_t id = hga_aws_mext(a->svc, m)->context;

		if (id != HGA_IMG_NONE &&
		    hga_str_eq(hga_aws_text(a->svc, id), name))
			return hga_val_getn(a->params,
			                    hga_aws_text(a->svc, m->name));
	}
	return none;
}

/* What an expression of the model finds in the parameters. */
static int from_path(const struct hga_aws_endpoint_args *a,
                     struct hga_val contexts, struct hga_str name,
                     struct hga_vtape *t, bool *done, struct hga_err *err)
{
	struct hga_val path = hga_val_get(
	    hga_val_getn(hga_val_get(contexts, "operation"), name), "path");
	struct hga_vtape *found = NULL;
	int rc;

	if (!hga_val_is(path, HGA_V_STR))
		return 0;
	rc = hga_jp_query(hga_val_str(path), a->params, &found, err);
	if (rc == 0 && is_there(hga_vtape_root(found))) {
		(void)hga_vt_key(t, name);
		(void)hga_vt_copy(t, HGA_NO_NAME, hga_vtape_root(found));
		*done = true;
	}
	hga_vtape_free(found);
	return rc;
}

static void put_text(struct hga_vtape *t, struct hga_str name, const char *text)
{
	if (text == NULL || text[0] == '\0')
		return;
	(void)hga_vt_key(t, name);
	(void)hga_vt_str(t, HGA_NO_NAME, hga_str(text));
}

/* The account id unless its use is switched off. */
static const char *account_id(const struct hga_aws_endpoint_args *a)
{
	bool off =
	    a->account_mode != NULL && strcmp(a->account_mode, "disabled") == 0;

	return off ? NULL : a->account_id;
}

static void put_builtin(const struct hga_aws_endpoint_args *a,
                        struct hga_vtape *t, struct hga_str name,
                        struct hga_str builtin)
{
	const struct {
		const char *builtin;
		bool value;
	} flags[] = {{"AWS::UseFIPS", a->fips},
	             {"AWS::UseDualStack", a->dualstack},
	             {"AWS::STS::UseGlobalEndpoint", a->sts_global}};

	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		if (!hga_str_eqc(builtin, flags[i].builtin))
			continue;
		(void)hga_vt_key(t, name);
		(void)hga_vt_bool(t, HGA_NO_NAME, flags[i].value);
		return;
	}
	if (hga_str_eqc(builtin, "AWS::Region")) {
		(void)hga_vt_key(t, name);
		(void)hga_vt_str(t, HGA_NO_NAME, asked_region(a));
	} else if (hga_str_eqc(builtin, "SDK::Endpoint")) {
		put_text(t, name, a->url);
	} else if (hga_str_eqc(builtin, "AWS::Auth::AccountId")) {
		put_text(t, name, account_id(a));
	} else if (hga_str_eqc(builtin, "AWS::Auth::AccountIdEndpointMode")) {
		put_text(t, name, a->account_mode);
	}
}

/* One parameter of the rules: the first source that has it. */
static int put_param(const struct hga_aws_endpoint_args *a,
                     struct hga_val contexts, struct hga_str name,
                     struct hga_val decl, struct hga_vtape *t,
                     struct hga_err *err)
{
	struct hga_str builtin = hga_val_str(hga_val_get(decl, "builtIn"));
	struct hga_val v = hga_val_get(
	    hga_val_getn(hga_val_get(contexts, "static"), name), "value");
	bool done = false;
	int rc;

	if (!is_there(v))
		v = bound_member(a, name);
	if (!is_there(v)) {
		rc = from_path(a, contexts, name, t, &done, err);
		if (rc < 0 || done)
			return rc;
		v = hga_val_getn(a->settings, name);
	}
	if (!is_there(v) && builtin.n > 0)
		v = hga_val_getn(a->settings, builtin);
	if (is_there(v)) {
		(void)hga_vt_key(t, name);
		(void)hga_vt_copy(t, HGA_NO_NAME, v);
	} else {
		put_builtin(a, t, name, builtin);
	}
	return 0;
}

int hga_aws_endpoint_params(const struct hga_aws_endpoint_args *a,
                            struct hga_vtape *t, struct hga_err *err)
{
	const struct hga_val none = {NULL, 0};
	struct hga_vtape *doc = NULL;
	struct hga_val contexts = none;
	struct hga_vit it;
	int rc = read_contexts(a, &doc, err);

	if (rc < 0)
		return rc;
	if (doc != NULL)
		contexts = hga_vtape_root(doc);
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	if (a->rules != NULL) {
		it = hga_val_first(hga_rules_params(a->rules));
		for (; rc == 0 && hga_val_more(it); it = hga_val_next(it))
			rc = put_param(a, contexts, hga_vit_name(&it),
			               hga_vit_val(it), t, err);
	}
	(void)hga_vt_close(t);
	hga_vtape_free(doc);
	return rc == 0 ? hga_vt_end(t, err) : rc;
}

bool hga_aws_endpoint_varies(const struct hga_rules *rules)
{
	struct hga_vit it;

	if (rules == NULL)
		return false;
	for (it = hga_val_first(hga_rules_params(rules)); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_str builtin =
		    hga_val_str(hga_val_get(hga_vit_val(it), "builtIn"));

		if (builtin.n == 0 ||
		    hga_str_eqc(builtin, "AWS::Auth::AccountId"))
			return true;
	}
	return false;
}

/* ---- what the answer means ---- */

static int set_text(char *out, size_t size, struct hga_str text,
                    const char *what, struct hga_err *err)
{
	if (text.n >= size)
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "endpoint rules: %s too long", what);
	memcpy(out, text.s, text.n);
	out[text.n] = '\0';
	return 0;
}

/* Signing by one of the schemes the rules allow. */
static int take_scheme(struct hga_aws_endpoint *out, struct hga_val s,
                       struct hga_err *err)
{
	struct hga_val name = hga_val_get(s, "signingName");
	struct hga_val region = hga_val_get(s, "signingRegion");
	int rc = 0;

	out->raw_path =
	    hga_val_bool(hga_val_get(s, "disableDoubleEncoding"), false);
	if (hga_val_is(name, HGA_V_STR))
		rc = set_text(out->service, sizeof(out->service),
		              hga_val_str(name), "signing name", err);
	if (rc == 0 && hga_val_is(region, HGA_V_STR))
		rc = set_text(out->region, sizeof(out->region),
		              hga_val_str(region), "signing region", err);
	return rc;
}

static int take_schemes(struct hga_aws_endpoint *out, struct hga_val list,
                        struct hga_err *err)
{
	struct hga_str first = {"", 0};
	struct hga_vit it;

	for (it = hga_val_first(list); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_str name =
		    hga_val_str(hga_val_get(hga_vit_val(it), "name"));

		if (hga_str_eqc(name, "sigv4"))
			return take_scheme(out, hga_vit_val(it), err);
		if (first.n == 0)
			first = name;
	}
	if (first.n == 0 || hga_str_eqc(first, "none"))
		return 0;
	return hga_fail(err, HGA_USAGE, 0, "Endpoint",
	                "%s wants signatures of the kind %.*s, which is not "
	                "supported",
	                out->host, HGA_STRF(first));
}

static int take_headers(struct hga_aws_endpoint *out,
                        const struct hga_aws_pairs *h, struct hga_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++) {
		int k = snprintf(out->headers + n, sizeof(out->headers) - n,
		                 "%s: %s\n", h->v[i].name, h->v[i].value);

		if (k < 0 || (size_t)k >= sizeof(out->headers) - n ||
		    strpbrk(h->v[i].value, "\r\n") != NULL)
			return hga_fail(err, HGA_USAGE, 0, "Endpoint",
			                "endpoint rules: headers too long");
		n += (size_t)k;
	}
	return 0;
}

static int take_answer(struct hga_aws_endpoint *out,
                       const struct hga_rules_result *res, struct hga_err *err)
{
	int rc;

	if (res->refused)
		return hga_fail(err, HGA_USAGE, 0, "Endpoint", "%s",
		                hga_buf_text(&res->text));
	rc = hga_aws_endpoint_parse(hga_buf_str(&res->text), out, err);
	if (rc == 0)
		rc = take_headers(out, &res->headers, err);
	if (rc == 0 && res->properties != NULL)
		rc = take_schemes(
		    out,
		    hga_val_get(hga_vtape_root(res->properties), "authSchemes"),
		    err);
	return rc;
}

/* Without rules: the form that most services have. */
static int plain_host(const struct hga_aws_endpoint_args *a,
                      const struct hga_partition *p,
                      struct hga_aws_endpoint *out, struct hga_err *err)
{
	struct hga_val dual = hga_val_get(p->outputs, "dualStackDnsSuffix");
	struct hga_str suffix =
	    p->suffix.n > 0 ? p->suffix : HGA_STR("amazonaws.com");
	int n;

	if (a->dualstack && !hga_val_is(dual, HGA_V_STR))
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "DualStack is enabled but this partition does "
		                "not support DualStack");
	if (a->dualstack)
		suffix = hga_val_str(dual);
	out->https = true;
	n = snprintf(out->host, sizeof(out->host), "%s%s.%s.%.*s",
	             hga_aws_cstr(a->svc, a->svc->r->prefix),
	             a->fips ? "-fips" : "", out->region, HGA_STRF(suffix));
	if (n < 0 || (size_t)n >= sizeof(out->host))
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "host name too long");
	return 0;
}

/* Is the configured endpoint one that may be talked to? */
static int check_custom(const struct hga_aws_endpoint_args *a,
                        struct hga_aws_endpoint *out, struct hga_err *err)
{
	int rc = hga_aws_endpoint_parse(hga_str(a->url), out, err);

	if (rc < 0) {
		if (err != NULL && a->origin != NULL)
			hga_err_prefix(err, "%s", a->origin);
		return rc;
	}
	out->custom = true;
	if (out->https || a->insecure_ok ||
	    hga_aws_host_is_loopback(hga_str(out->host)))
		return 0;
	return hga_fail(err, HGA_USAGE, 0, "Endpoint",
	                "%s: %s is plain http to another machine; use https, "
	                "or set HGAUTO_INSECURE_ENDPOINT=1",
	                a->origin != NULL ? a->origin : "endpoint", a->url);
}

/* Partition, and who signs unless the rules say otherwise. */
static int set_defaults(const struct hga_aws_endpoint_args *a,
                        struct hga_partition *p, struct hga_aws_endpoint *out,
                        struct hga_err *err)
{
	struct hga_str region = asked_region(a);
	bool found = false;
	int rc = 0;

	memset(p, 0, sizeof(*p));
	if (a->partitions != NULL)
		rc = hga_partitions_find(a->partitions, region, p, &found, err);
	if (rc < 0)
		return rc;
	if (!found) {
		p->name = HGA_STR("aws");
		p->global_region = HGA_STR("us-east-1");
	}
	/* "aws-global", "aws-cn-global": no region signs under that name */
	if (hga_str_starts(region, "aws-") && hga_str_ends(region, "-global"))
		region = p->global_region;
	rc = set_text(out->region, sizeof(out->region), region, "region", err);
	if (rc == 0)
		rc = set_text(out->partition, sizeof(out->partition), p->name,
		              "partition", err);
	if (rc == 0)
		rc = set_text(out->service, sizeof(out->service),
		              hga_aws_text(a->svc, a->svc->r->signing),
		              "signing name", err);
	return rc;
}

int hga_aws_endpoint_apply(const struct hga_aws_endpoint_args *a,
                           struct hga_val asked, struct hga_aws_endpoint *out,
                           struct hga_err *err)
{
	struct hga_rules_result res;
	struct hga_partition p;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = check_region(a, err);
	if (rc == 0)
		rc = set_defaults(a, &p, out, err);
	if (rc == 0 && a->url != NULL)
		rc = check_custom(a, out, err);
	if (rc < 0)
		return rc;
	if (a->rules == NULL)
		return a->url != NULL ? 0 : plain_host(a, &p, out, err);
	rc = hga_rules_eval(a->rules, a->partitions, asked, &res, err);
	if (rc == 0)
		rc = take_answer(out, &res, err);
	hga_rules_result_release(&res);
	out->bucket_placed =
	    hga_str_eqc(hga_aws_text(a->svc, a->svc->r->name), "s3") &&
	    is_there(hga_val_get(asked, "Bucket"));
	return rc;
}

int hga_aws_endpoint_find(const struct hga_aws_endpoint_args *a,
                          struct hga_aws_endpoint *out, struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 20);
	int rc;

	if (t == NULL)
		return hga_fail_mem(err);
	rc = hga_aws_endpoint_params(a, t, err);
	if (rc == 0)
		rc = hga_aws_endpoint_apply(a, hga_vtape_root(t), out, err);
	hga_vtape_free(t);
	return rc;
}
