/*
 * aws_sign N: signs one DescribeInstances request N times with a session
 * token of 300 bytes and a cached key; prints CPU seconds and the last
 * signature's length.
 */
#include "aws/sign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void fill(struct hga_aws_request *r)
{
	hga_aws_request_init(r, 1 << 20);
	(void)snprintf(r->method, sizeof(r->method), "POST");
	r->has_body = true;
	if (hga_buf_adds(&r->path, "/", NULL) < 0 ||
	    hga_buf_adds(&r->body,
	                 "Action=DescribeInstances&Version=2016-11-15&"
	                 "InstanceId.1=i-0123456789abcdef0",
	                 NULL) < 0 ||
	    hga_aws_pairs_add(
	        &r->headers, HGA_STR("Content-Type"),
	        HGA_STR("application/x-www-form-urlencoded; charset=utf-8"),
	        NULL) < 0)
		abort();
}

int main(int argc, char **argv)
{
	long n = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
	struct hga_sign_cache cache;
	struct hga_sign_args a = {0};
	struct hga_aws_request r;
	char token[301];
	const char *last;
	clock_t from;

	memset(&cache, 0, sizeof(cache));
	memset(token, 'T', sizeof(token) - 1);
	token[300] = '\0';
	a.creds.access_key = hga_str("AKIDEXAMPLE00001");
	a.creds.secret_key =
	    hga_str("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
	a.creds.token = hga_str(token);
	a.region = hga_str("us-west-2");
	a.service = hga_str("ec2");
	a.host = hga_str("ec2.us-west-2.amazonaws.com");
	fill(&r);
	from = clock();
	for (long i = 0; i < n; i++) {
		/* another second each, the same day */
		a.time_s = 1767225600 + i % 80000;
		if (hga_aws_sign(&r, &a, &cache, NULL, NULL) < 0)
			abort();
	}
	last = hga_aws_pairs_get(&r.headers, "authorization");
	printf("%.6f %zu\n", (double)(clock() - from) / CLOCKS_PER_SEC,
	       last != NULL ? strlen(last) : 0);
	hga_aws_request_release(&r);
	hga_sign_cache_release(&cache);
	return last == NULL;
}
