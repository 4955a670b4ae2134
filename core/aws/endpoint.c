/*
 * Endpoints of AWS services: URL rules for configured ones, the partition
 * table for AWS itself.
 */
#include "aws/endpoint.h"

#include <stdio.h>
#include <string.h>

struct partition {
	const char *name;
	const char *prefixes[12]; /* of region names */
	const char *suffix, *dual_suffix;
	const char *global_region; /* signs for services without regions */
};

static const struct partition partitions[] = {
    {"aws",
     {"us-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-",
      "aws-global", NULL},
     "amazonaws.com",
     "api.aws",
     "us-east-1"},
    {"aws-cn",
     {"cn-", "aws-cn-global", NULL},
     "amazonaws.com.cn",
     "api.amazonwebservices.com.cn",
     "cn-north-1"},
    {"aws-us-gov",
     {"us-gov-", "aws-us-gov-global", NULL},
     "amazonaws.com",
     "api.aws",
     "us-gov-west-1"},
    {"aws-iso",
     {"us-iso-", "aws-iso-global", NULL},
     "c2s.ic.gov",
     NULL,
     "us-iso-east-1"},
    {"aws-iso-b",
     {"us-isob-", "aws-iso-b-global", NULL},
     "sc2s.sgov.gov",
     NULL,
     "us-isob-east-1"},
    {"aws-iso-e",
     {"eu-isoe-", "aws-iso-e-global", NULL},
     "cloud.adc-e.uk",
     NULL,
     "eu-isoe-west-1"},
    {"aws-iso-f",
     {"us-isof-", "aws-iso-f-global", NULL},
     "csp.hci.ic.gov",
     NULL,
     "us-isof-south-1"},
    {"aws-eusc", {"eusc-", NULL}, "amazonaws.eu", NULL, "eusc-de-east-1"},
};

/* The longest matching prefix decides (us-gov- before us-). */
static const struct partition *find_partition(struct hga_str region)
{
	const size_t n = sizeof(partitions) / sizeof(*partitions);
	const struct partition *best = &partitions[0];
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		for (const char *const *p = partitions[i].prefixes; *p != NULL;
		     p++) {
			if (strlen(*p) > len && hga_str_starts(region, *p)) {
				best = &partitions[i];
				len = strlen(*p);
			}
		}
	}
	return best;
}

const char *hga_aws_partition_of(struct hga_str region)
{
	return find_partition(region)->name;
}

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

/* ---- AWS itself ---- */

/* Services with one host per partition, and who signs for them. */
static bool is_global(const struct hga_aws_endpoint_args *a)
{
	const char *name = hga_aws_cstr(a->svc, a->svc->r->name);

	if (strcmp(name, "iam") == 0)
		return true;
	if (strcmp(name, "sts") != 0)
		return false;
	return a->sts_global || hga_str_eqc(a->region, "aws-global");
}

static int global_host(const struct hga_aws_endpoint_args *a,
                       const struct partition *p, struct hga_aws_endpoint *out)
{
	const char *prefix = hga_aws_cstr(a->svc, a->svc->r->prefix);
	const char *fips = a->fips ? "-fips" : "";

	(void)snprintf(out->region, sizeof(out->region), "%s",
	               p->global_region);
	if (strcmp(p->name, "aws") == 0)
		return snprintf(out->host, sizeof(out->host), "%s%s.%s", prefix,
		                fips, p->suffix);
	/* The government cloud's host is both at once. */
	if (strcmp(p->name, "aws-us-gov") == 0)
		return snprintf(out->host, sizeof(out->host), "%s.us-gov.%s",
		                prefix, p->suffix);
	return snprintf(out->host, sizeof(out->host), "%s%s.%s.%s", prefix,
	                fips, p->global_region, p->suffix);
}

static int aws_host(const struct hga_aws_endpoint_args *a,
                    struct hga_aws_endpoint *out, struct hga_err *err)
{
	const struct partition *p = find_partition(a->region);
	int n;

	if (a->dualstack && p->dual_suffix == NULL)
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "DualStack is enabled but this partition "
		                "(%s) does not support DualStack",
		                p->name);
	out->https = true;
	if (is_global(a))
		n = global_host(a, p, out);
	else
		n = snprintf(out->host, sizeof(out->host), "%s%s.%.*s.%s",
		             hga_aws_cstr(a->svc, a->svc->r->prefix),
		             a->fips ? "-fips" : "", HGA_STRF(a->region),
		             a->dualstack ? p->dual_suffix : p->suffix);
	if (n < 0 || (size_t)n >= sizeof(out->host))
		return hga_fail(err, HGA_USAGE, 0, "Endpoint",
		                "region name too long");
	return 0;
}

static int custom_host(const struct hga_aws_endpoint_args *a,
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

int hga_aws_endpoint_find(const struct hga_aws_endpoint_args *a,
                          struct hga_aws_endpoint *out, struct hga_err *err)
{
	const struct partition *p = find_partition(a->region);

	memset(out, 0, sizeof(*out));
	if (a->region.n == 0 && !is_global(a))
		return hga_fail(err, HGA_USAGE, 0, "NoRegion",
		                "You must specify a region.");
	(void)snprintf(out->service, sizeof(out->service), "%s",
	               hga_aws_cstr(a->svc, a->svc->r->signing));
	(void)snprintf(out->partition, sizeof(out->partition), "%s", p->name);
	(void)snprintf(
	    out->region, sizeof(out->region), "%.*s",
	    HGA_STRF(a->region.n > 0 ? a->region : hga_str(p->global_region)));
	if (a->url != NULL)
		return custom_host(a, out, err);
	return aws_host(a, out, err);
}
