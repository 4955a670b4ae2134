/*
 * Functions of endpoint rules (the Smithy rules engine's standard library
 * and its AWS functions).
 */
#include "aws/rules_int.h"

#include <string.h>

static const struct rv none = {.kind = RV_NONE};

static struct rv of_str(struct hga_str s)
{
	struct rv v = none;

	v.kind = RV_STR;
	v.s = s;
	return v;
}

static struct rv of_bool(bool b)
{
	struct rv v = none;

	v.kind = RV_BOOL;
	v.b = b;
	return v;
}

struct rv rules_of_data(struct hga_val x)
{
	struct rv v = none;

	switch (hga_val_type(x)) {
	case HGA_V_BOOL:
		return of_bool(hga_val_bool(x, false));
	case HGA_V_INT:
	case HGA_V_NUM:
		v.kind = RV_INT;
		v.i = hga_val_int(x, 0);
		return v;
	case HGA_V_STR:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
		return of_str(hga_val_str(x));
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
	case HGA_V_EMPTY:
		v.kind = RV_DATA;
		v.data = x;
		return v;
	case HGA_V_NONE:
	case HGA_V_NULL:
		break;
	}
	return v;
}

/* ---- parts of values ---- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Component i of an ARN's resource, which ':' and '/' divide. */
static struct rv resource_part(struct hga_str r, uint32_t i)
{
	size_t at = 0;

	for (;;) {
		size_t end = at;

		while (end < r.n && r.s[end] != ':' && r.s[end] != '/')
			end++;
		if (i-- == 0)
			return of_str(hga_strn(r.s + at, end - at));
		if (end == r.n)
			return none;
		at = end + 1;
	}
}

static struct rv url_field(const struct rv_url *u, struct hga_str name)
{
	if (hga_str_eqc(name, "scheme"))
		return of_str(u->scheme);
	if (hga_str_eqc(name, "authority"))
		return of_str(u->authority);
	if (hga_str_eqc(name, "path"))
		return of_str(u->path);
	if (hga_str_eqc(name, "normalizedPath"))
		return of_str(u->normalized);
	if (hga_str_eqc(name, "isIp"))
		return of_bool(u->is_ip);
	return none;
}

static struct rv arn_field(const struct rv *v, struct hga_str name)
{
	const struct rv_arn *a = v->u.arn;

	if (hga_str_eqc(name, "partition"))
		return of_str(a->partition);
	if (hga_str_eqc(name, "service"))
		return of_str(a->service);
	if (hga_str_eqc(name, "region"))
		return of_str(a->region);
	if (hga_str_eqc(name, "accountId"))
		return of_str(a->account);
	/* a list: the index is applied to the ARN itself */
	return hga_str_eqc(name, "resourceId") ? *v : none;
}

static struct rv partition_field(const struct hga_partition *p,
                                 struct hga_str name)
{
	struct rv v = rules_of_data(hga_val_getn(p->region, name));

	if (v.kind != RV_NONE)
		return v;
	v = rules_of_data(hga_val_getn(p->outputs, name));
	if (v.kind == RV_NONE && hga_str_eqc(name, "name"))
		return of_str(p->name);
	return v;
}

static struct rv field(const struct rv *v, struct hga_str name)
{
	switch (v->kind) {
	case RV_URL:
		return url_field(v->u.url, name);
	case RV_ARN:
		return arn_field(v, name);
	case RV_PARTITION:
		return partition_field(v->u.partition, name);
	case RV_DATA:
		return rules_of_data(hga_val_getn(v->data, name));
	case RV_NONE:
	case RV_BOOL:
	case RV_INT:
	case RV_STR:
		break;
	}
	return none;
}

static struct rv element(const struct rv *v, uint32_t i)
{
	if (v->kind == RV_ARN)
		return resource_part(v->u.arn->resource, i);
	if (v->kind == RV_DATA && hga_val_is(v->data, HGA_V_LIST))
		return rules_of_data(hga_val_at(v->data, i));
	return none;
}

int rules_attr(struct rules_run *run, const struct rv *v, struct hga_str path,
               struct rv *out)
{
	size_t at = 0;

	*out = *v;
	while (at < path.n) {
		size_t end = at;
		uint64_t i;

		if (path.s[at] == '[') {
			ptrdiff_t close = hga_str_chr(path, ']', at);
			struct hga_str number =
			    hga_strn(path.s + at + 1,
			             close < 0 ? 0 : (size_t)close - at - 1);

			if (close < 0 || !hga_str_uint(number, &i) ||
			    i > 0xffff)
				return rules_bad(run, "bad index in the path",
				                 path);
			*out = element(out, (uint32_t)i);
			at = (size_t)close + 1;
			at += at < path.n && path.s[at] == '.';
			continue;
		}
		while (end < path.n && path.s[end] != '.' && path.s[end] != '[')
			end++;
		*out = field(out, hga_strn(path.s + at, end - at));
		at = end + (end < path.n && path.s[end] == '.');
	}
	return 0;
}

/* ---- plain functions ---- */

static int fn_is_set(struct rules_run *run, const struct rv *v, struct rv *out)
{
	(void)run; /* cannot fail */
	*out = of_bool(v[0].kind != RV_NONE);
	return 0;
}

static int fn_not(struct rules_run *run, const struct rv *v, struct rv *out)
{
	if (v[0].kind != RV_BOOL)
		return rules_bad(run, "needs a boolean", HGA_STR("not"));
	*out = of_bool(!v[0].b);
	return 0;
}

/* Text of an argument; absent: *there false. */
static int text_arg(struct rules_run *run, const struct rv *v, const char *fn,
                    struct hga_str *text, bool *there)
{
	*there = v->kind == RV_STR;
	*text = v->s;
	if (!*there && v->kind != RV_NONE)
		return rules_bad(run, "needs text", hga_str(fn));
	return 0;
}

static int fn_string_equals(struct rules_run *run, const struct rv *v,
                            struct rv *out)
{
	struct hga_str a, b = {NULL, 0};
	bool has_a, has_b = false;
	int rc = text_arg(run, &v[0], "stringEquals", &a, &has_a);

	if (rc == 0)
		rc = text_arg(run, &v[1], "stringEquals", &b, &has_b);
	if (rc == 0)
		*out = of_bool(has_a && has_b && hga_str_eq(a, b));
	return rc;
}

static int fn_boolean_equals(struct rules_run *run, const struct rv *v,
                             struct rv *out)
{
	for (int i = 0; i < 2; i++) {
		if (v[i].kind != RV_BOOL && v[i].kind != RV_NONE)
			return rules_bad(run, "needs booleans",
			                 HGA_STR("booleanEquals"));
	}
	*out = of_bool(v[0].kind == v[1].kind && v[0].b == v[1].b &&
	               v[0].kind == RV_BOOL);
	return 0;
}

static int fn_get_attr(struct rules_run *run, const struct rv *v,
                       struct rv *out)
{
	if (v[1].kind != RV_STR)
		return rules_bad(run, "needs a path", HGA_STR("getAttr"));
	return rules_attr(run, &v[0], v[1].s, out);
}

static int fn_substring(struct rules_run *run, const struct rv *v,
                        struct rv *out)
{
	struct hga_str s;
	bool there;
	size_t a, b;
	int rc = text_arg(run, &v[0], "substring", &s, &there);

	if (rc < 0)
		return rc;
	if (v[1].kind != RV_INT || v[2].kind != RV_INT || v[3].kind != RV_BOOL)
		return rules_bad(run, "needs text, start, stop, reverse",
		                 HGA_STR("substring"));
	*out = none;
	if (!there || v[1].i < 0 || v[1].i >= v[2].i || (uint64_t)v[2].i > s.n)
		return 0;
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.s[i] > 127)
			return 0; /* only ASCII has such parts */
	}
	a = (size_t)v[1].i; /* 0 <= start < stop <= length */
	b = (size_t)v[2].i;
	*out = of_str(v[3].b ? hga_strn(s.s + s.n - b, b - a)
	                     : hga_strn(s.s + a, b - a));
	return 0;
}

static int fn_uri_encode(struct rules_run *run, const struct rv *v,
                         struct rv *out)
{
	struct hga_buf b;
	struct hga_str s;
	bool there;
	char *copy;
	int rc = text_arg(run, &v[0], "uriEncode", &s, &there);

	*out = none;
	if (rc < 0 || !there)
		return rc;
	hga_buf_init(&b, RULES_TEXT_MAX);
	rc = hga_pct_encode(&b, s, "", run->err);
	if (rc == 0) {
		copy = rules_alloc(run, b.len + 1);
		if (copy != NULL) {
			memcpy(copy, hga_buf_text(&b), b.len);
			*out = of_str(hga_strn(copy, b.len));
		} else {
			rc = -(int)run->err->kind;
		}
	}
	hga_buf_release(&b);
	return rc;
}

/* ---- hosts and URLs ---- */

static bool is_label(struct hga_str s)
{
	if (s.n == 0 || s.n > 63 || s.s[0] == '-' || s.s[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!is_alnum(s.s[i]) && s.s[i] != '-')
			return false;
	}
	return true;
}

static bool is_host_label(struct hga_str s, bool dots)
{
	size_t at = 0;

	if (!dots)
		return is_label(s);
	for (;;) {
		ptrdiff_t dot = hga_str_chr(s, '.', at);
		size_t end = dot < 0 ? s.n : (size_t)dot;

		if (!is_label(hga_strn(s.s + at, end - at)))
			return false;
		if (dot < 0)
			return true;
		at = end + 1;
	}
}

static int fn_is_valid_host_label(struct rules_run *run, const struct rv *v,
                                  struct rv *out)
{
	struct hga_str s;
	bool there;
	int rc = text_arg(run, &v[0], "isValidHostLabel", &s, &there);

	if (rc < 0)
		return rc;
	*out =
	    of_bool(there && is_host_label(s, v[1].kind == RV_BOOL && v[1].b));
	return 0;
}

/* Four numbers of at most three digits. */
static bool is_ipv4(struct hga_str s)
{
	unsigned digits = 0, dots = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (is_digit(s.s[i])) {
			if (++digits > 3)
				return false;
		} else if (s.s[i] == '.' && digits > 0) {
			digits = 0;
			dots++;
		} else {
			return false;
		}
	}
	return dots == 3 && digits > 0;
}

static int fn_is_virtual_hostable(struct rules_run *run, const struct rv *v,
                                  struct rv *out)
{
	struct hga_str s;
	bool there, good;
	int rc =
	    text_arg(run, &v[0], "aws.isVirtualHostableS3Bucket", &s, &there);

	if (rc < 0)
		return rc;
	good = there && s.n >= 3 && s.n <= 63 && !is_ipv4(s) &&
	       is_host_label(s, v[1].kind == RV_BOOL && v[1].b);
	for (size_t i = 0; good && i < s.n; i++)
		good = s.s[i] < 'A' || s.s[i] > 'Z';
	*out = of_bool(good);
	return 0;
}

/* "host", "host:80" or "[v6]:80"; the port is a number. */
static bool authority_ok(struct hga_str a)
{
	ptrdiff_t at = 0;
	uint64_t port;

	if (a.n == 0)
		return false;
	if (a.s[0] == '[') {
		at = hga_str_chr(a, ']', 0);
		if (at < 2)
			return false;
	}
	at = hga_str_chr(a, ':', (size_t)at);
	if (at < 0)
		return true;
	return at > 0 &&
	       hga_str_uint(hga_strn(a.s + at + 1, a.n - (size_t)at - 1),
	                    &port) &&
	       port <= 65535;
}

static bool authority_is_ip(struct hga_str a)
{
	ptrdiff_t colon;

	if (a.s[0] == '[')
		return true;
	colon = hga_str_chr(a, ':', 0);
	return is_ipv4(colon < 0 ? a : hga_strn(a.s, (size_t)colon));
}

/* The path with a slash at its end. */
static int normalize(struct rules_run *run, struct rv_url *u)
{
	char *copy;

	if (u->path.n > 0 && u->path.s[u->path.n - 1] == '/') {
		u->normalized = u->path;
		return 0;
	}
	copy = rules_alloc(run, u->path.n + 2);
	if (copy == NULL)
		return -(int)run->err->kind;
	memcpy(copy, u->path.s, u->path.n);
	copy[u->path.n] = '/';
	u->normalized = hga_strn(copy, u->path.n + 1);
	return 0;
}

static int fn_parse_url(struct rules_run *run, const struct rv *v,
                        struct rv *out)
{
	struct rv_url u = {0}, *copy;
	struct hga_str s;
	bool there;
	size_t skip;
	ptrdiff_t slash;
	int rc = text_arg(run, &v[0], "parseURL", &s, &there);

	*out = none;
	if (rc < 0 || !there)
		return rc;
	if (hga_str_starts(s, "https://"))
		skip = 8;
	else if (hga_str_starts(s, "http://"))
		skip = 7;
	else
		return 0;
	if (hga_str_chr(s, '?', 0) >= 0 || hga_str_chr(s, '#', 0) >= 0)
		return 0;
	u.scheme = hga_strn(s.s, skip - 3);
	slash = hga_str_chr(s, '/', skip);
	u.authority =
	    hga_strn(s.s + skip, (slash < 0 ? s.n : (size_t)slash) - skip);
	u.path = slash < 0 ? HGA_STR("")
	                   : hga_strn(s.s + slash, s.n - (size_t)slash);
	if (!authority_ok(u.authority))
		return 0;
	u.is_ip = authority_is_ip(u.authority);
	rc = normalize(run, &u);
	if (rc < 0)
		return rc;
	copy = rules_alloc(run, sizeof(*copy));
	if (copy == NULL)
		return -(int)run->err->kind;
	*copy = u;
	out->kind = RV_URL;
	out->u.url = copy;
	return 0;
}

/* ---- AWS ---- */

static int fn_partition(struct rules_run *run, const struct rv *v,
                        struct rv *out)
{
	struct hga_partition *p;
	struct hga_str region;
	bool there, found = false;
	int rc = text_arg(run, &v[0], "aws.partition", &region, &there);

	*out = none;
	if (rc < 0 || !there || run->partitions == NULL)
		return rc;
	p = rules_alloc(run, sizeof(*p));
	if (p == NULL)
		return -(int)run->err->kind;
	rc = hga_partitions_find(run->partitions, region, p, &found, run->err);
	if (rc < 0 || !found)
		return rc;
	out->kind = RV_PARTITION;
	out->u.partition = p;
	return 0;
}

static int fn_parse_arn(struct rules_run *run, const struct rv *v,
                        struct rv *out)
{
	struct hga_str part[6], s;
	struct rv_arn *a;
	size_t at = 0;
	bool there;
	int rc = text_arg(run, &v[0], "aws.parseArn", &s, &there);

	*out = none;
	if (rc < 0 || !there)
		return rc;
	for (int i = 0; i < 5; i++) {
		ptrdiff_t colon = hga_str_chr(s, ':', at);

		if (colon < 0)
			return 0;
		part[i] = hga_strn(s.s + at, (size_t)colon - at);
		at = (size_t)colon + 1;
	}
	part[5] = hga_strn(s.s + at, s.n - at);
	if (!hga_str_eqc(part[0], "arn") || part[1].n == 0 || part[2].n == 0 ||
	    part[5].n == 0)
		return 0;
	a = rules_alloc(run, sizeof(*a));
	if (a == NULL)
		return -(int)run->err->kind;
	a->partition = part[1];
	a->service = part[2];
	a->region = part[3];
	a->account = part[4];
	a->resource = part[5];
	out->kind = RV_ARN;
	out->u.arn = a;
	return 0;
}

rules_fn rules_fn_find(struct hga_str name, unsigned *n)
{
	static const struct {
		const char *name;
		unsigned n;
		rules_fn fn;
	} v[] = {
	    {"isSet", 1, fn_is_set},
	    {"not", 1, fn_not},
	    {"getAttr", 2, fn_get_attr},
	    {"stringEquals", 2, fn_string_equals},
	    {"booleanEquals", 2, fn_boolean_equals},
	    {"substring", 4, fn_substring},
	    {"uriEncode", 1, fn_uri_encode},
	    {"parseURL", 1, fn_parse_url},
	    {"isValidHostLabel", 2, fn_is_valid_host_label},
	    {"aws.partition", 1, fn_partition},
	    {"aws.parseArn", 1, fn_parse_arn},
	    {"aws.isVirtualHostableS3Bucket", 2, fn_is_virtual_hostable},
	};

	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		if (hga_str_eqc(name, v[i].name)) {
			*n = v[i].n;
			return v[i].fn;
		}
	}
	return NULL;
}
