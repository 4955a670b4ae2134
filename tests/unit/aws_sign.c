/*
 * Signatures: what the third-party cases do not ask.  The expected signature
 * of the example request is that of the service's documentation ("GET
 * ListUsers").
 */
#include "tap.h"

#include "aws/sign.h"

#include <stdlib.h>

static struct hga_sign_args example(void)
{
	struct hga_sign_args a = {
	    .creds = {HGA_STR("AKIDEXAMPLE"),
	              HGA_STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
	              {NULL, 0}},
	    .region = HGA_STR("us-east-1"),
	    .service = HGA_STR("iam"),
	    .time_s = 1440938160,
	    .host = HGA_STR("iam.amazonaws.com"),
	};
	return a;
}

static void list_users(struct hga_aws_request *r)
{
	hga_aws_request_init(r, 1 << 20);
	snprintf(r->method, sizeof(r->method), "GET");
	if (hga_buf_adds(&r->path, "/", NULL) < 0 ||
	    hga_buf_adds(&r->query, "Action=ListUsers&Version=2010-05-08",
	                 NULL) < 0 ||
	    hga_aws_pairs_add(
	        &r->headers, HGA_STR("Content-Type"),
	        HGA_STR("application/x-www-form-urlencoded; charset=utf-8"),
	        NULL) < 0)
		abort();
}

static void test_example(void)
{
	struct hga_sign_args a = example();
	struct hga_sign_cache cache;
	struct hga_aws_request r;
	char first[1024];
	int i;

	memset(&cache, 0, sizeof(cache));
	list_users(&r);
	if (hga_aws_sign(&r, &a, &cache, NULL, NULL) < 0)
		abort();
	is_str(hga_aws_pairs_get(&r.headers, "authorization"),
	       "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/"
	       "aws4_request, SignedHeaders=content-type;host;x-amz-date, "
	       "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b"
	       "5924a6f2b5d7",
	       "the documented example");
	snprintf(first, sizeof(first), "%s",
	         hga_aws_pairs_get(&r.headers, "authorization"));
	for (i = 1; i < 20; i++) {
		a.time_s += 86400;
		if (hga_aws_sign(&r, &a, &cache, NULL, NULL) < 0)
			abort();
	}
	ok(strcmp(first, hga_aws_pairs_get(&r.headers, "authorization")) != 0,
	   "another day signs differently");
	a.time_s = 1440938160;
	if (hga_aws_sign(&r, &a, &cache, NULL, NULL) < 0)
		abort();
	is_str(hga_aws_pairs_get(&r.headers, "authorization"), first,
	       "signing again replaces date and signature");
	ok(r.headers.n == 3, "no header was added twice");
	hga_sign_cache_release(&cache);
	for (i = 0; i < 32; i++)
		if (cache.v[0].key[i] != 0)
			break;
	ok(i == 32, "a released cache holds no key");
	hga_aws_request_release(&r);
}

static void test_token(void)
{
	struct hga_sign_args a = example();
	struct hga_aws_request r;

	list_users(&r);
	a.creds.token = HGA_STR("tok");
	if (hga_aws_sign(&r, &a, NULL, NULL, NULL) < 0)
		abort();
	is_str(hga_aws_pairs_get(&r.headers, "x-amz-security-token"), "tok",
	       "the token is sent");
	ok(strstr(hga_aws_pairs_get(&r.headers, "authorization"),
	          "x-amz-date;x-amz-security-token,") != NULL,
	   "and signed");
	a.creds.token = hga_strn(NULL, 0);
	if (hga_aws_sign(&r, &a, NULL, NULL, NULL) < 0)
		abort();
	ok(hga_aws_pairs_get(&r.headers, "x-amz-security-token") == NULL,
	   "credentials without a token send none");
	hga_aws_request_release(&r);
}

static void test_never_signed(void)
{
	struct hga_sign_args a = example();
	struct hga_aws_request r;

	list_users(&r);
	if (hga_aws_pairs_add(&r.headers, HGA_STR("User-Agent"), HGA_STR("x"),
	                      NULL) < 0 ||
	    hga_aws_pairs_add(&r.headers, HGA_STR("X-Amzn-Trace-Id"),
	                      HGA_STR("y"), NULL) < 0 ||
	    hga_aws_sign(&r, &a, NULL, NULL, NULL) < 0)
		abort();
	ok(strstr(hga_aws_pairs_get(&r.headers, "authorization"),
	          "5d672d79c15b13162d9279b0855cfba6") != NULL,
	   "headers a proxy may change are not signed");
	hga_aws_request_release(&r);
}

static void test_presign(void)
{
	struct hga_sign_args a = example();
	struct hga_aws_request r;
	struct hga_sign_auth auth;
	struct hga_err err;

	list_users(&r);
	a.expires_s = 604801;
	ok(hga_aws_presign(&r, &a, NULL, NULL, &err) == -HGA_USAGE,
	   "more than a week is refused");
	a.expires_s = 60;
	if (hga_aws_presign(&r, &a, NULL, NULL, &err) < 0)
		abort();
	ok(hga_sign_parse_query(&auth, hga_buf_str(&r.query), &err) == 0,
	   "our own URL parses");
	is_str(auth.access_key, "AKIDEXAMPLE", "its key");
	is_str(auth.amz_date, "20150830T123600Z", "its date");
	is_int(auth.expires_s, 60, "its life");
	ok(hga_str_eqc(auth.signed_headers, "content-type;host"),
	   "its headers");
	hga_sign_auth_release(&auth);
	hga_aws_request_release(&r);
}

static void test_parse(void)
{
	static const char good[] =
	    "AWS4-HMAC-SHA256 Credential=AK/20150830/r/s/aws4_request, "
	    "SignedHeaders=host;x-amz-date, Signature="
	    "0123456789012345678901234567890123456789012345678901234567890"
	    "abc";
	static const char *const wrong[] = {
	    "",
	    "AWS4-HMAC-SHA256",
	    "AWS4-HMAC-SHA256 ",
	    "Basic abc",
	    "AWS4-HMAC-SHA256 Credential=AK/20150830/r/s/aws4_request",
	    "AWS4-HMAC-SHA256 Credential=AK/2015/r/s/aws4_request, "
	    "SignedHeaders=host, Signature=00",
	    "AWS4-HMAC-SHA256 Credential=//r/s/aws4_request, "
	    "SignedHeaders=host, Signature=00",
	    "AWS4-HMAC-SHA256 Credential=AK/20150830/r/s/other, "
	    "SignedHeaders=host, Signature=00",
	};
	struct hga_sign_auth a;
	struct hga_err err;
	size_t i;

	ok(hga_sign_parse_header(&a, hga_str(good), &err) == 0,
	   "a header parses");
	ok(strcmp(a.region, "r") == 0 && strcmp(a.service, "s") == 0 &&
	       hga_str_eqc(a.signed_headers, "host;x-amz-date") &&
	       a.expires_s == -1,
	   "into its parts");
	hga_sign_auth_release(&a);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ok(hga_sign_parse_header(&a, hga_str(wrong[i]), &err) ==
		       -HGA_AUTH,
		   "refused: \"%s\"", wrong[i]);
		hga_sign_auth_release(&a);
	}
	ok(hga_sign_parse_query(&a, HGA_STR("Action=X"), &err) == -HGA_NOTFOUND,
	   "a query without signature is just that");
	hga_sign_auth_release(&a);
}

int main(void)
{
	test_example();
	test_token();
	test_never_signed();
	test_presign();
	test_parse();
	return done();
}
