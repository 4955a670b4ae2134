/*
 * Where a service's requests go: configured endpoints and the partition rule
 * for AWS itself.
 *
 * A configured endpoint may be http:// only for loopback addresses (the
 * caller decides about exceptions).  Without one the host is
 * PREFIX.REGION.SUFFIX of the region's partition; a few services have one
 * host per partition.  Nothing is resolved or contacted here.
 */
#ifndef HGA_AWS_ENDPOINT_H
#define HGA_AWS_ENDPOINT_H

#include "aws/image.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

struct hga_aws_endpoint_args {
	const struct hga_aws_svc *svc;
	struct hga_str region; /* may be empty for services without regions */
	const char *url;       /* configured endpoint or NULL */
	const char *origin;    /* where url comes from, for messages */
	bool fips, dualstack;
	bool sts_global;  /* sts_regional_endpoints = legacy */
	bool insecure_ok; /* http:// to any host */
};

struct hga_aws_endpoint {
	bool https, custom;
	char host[272];     /* lower case, with port unless it is the default */
	char base[256];     /* path prefix without final slash, "" usually */
	char region[64];    /* for signing */
	char service[64];   /* signing name */
	char partition[24]; /* "aws", "aws-cn", ... */
};

/* Kind usage, codes "NoRegion", "Endpoint". */
int hga_aws_endpoint_find(const struct hga_aws_endpoint_args *a,
                          struct hga_aws_endpoint *out,
                          struct hga_err *err) HGA_MUST_USE;

/* Takes an http(s) URL apart into https, host and base; user information,
 * query and fragment are refused. */
int hga_aws_endpoint_parse(struct hga_str url, struct hga_aws_endpoint *out,
                           struct hga_err *err) HGA_MUST_USE;
/* Host (with or without port, [v6] in brackets) is loopback by its text:
 * 127.0.0.0/8, ::1 or localhost. */
bool hga_aws_host_is_loopback(struct hga_str host);
/* Appends the whole URL "https://HOST/BASE". */
int hga_aws_endpoint_url(const struct hga_aws_endpoint *e, struct hga_buf *out,
                         struct hga_err *err) HGA_MUST_USE;
/* Name of a region's partition; "aws" for unknown ones. */
const char *hga_aws_partition_of(struct hga_str region);

#endif
