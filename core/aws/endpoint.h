/*
 * Where a service's requests go: its endpoint rules, fed with settings and
 * the parameters of the operation, and the URL rules for configured ones.
 *
 * A configured endpoint may be http:// only for loopback addresses (the
 * caller decides about exceptions); it goes through the rules like any other
 * parameter.  A service without rules (a user's model) is looked for at
 * PREFIX.REGION.SUFFIX of the region's partition.  Nothing is resolved or
 * contacted here.
 */
#ifndef HGA_AWS_ENDPOINT_H
#define HGA_AWS_ENDPOINT_H

#include "aws/image.h"
#include "aws/rules.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>

struct hga_aws_endpoint_args {
	const struct hga_aws_svc *svc;
	const struct hga_rules *rules;     /* of the service; NULL: none */
	struct hga_partitions *partitions; /* NULL: none */
	struct hga_str region; /* may be empty for services without regions */
	const char *url;       /* configured endpoint or NULL */
	const char *origin;    /* where url comes from, for messages */
	bool fips, dualstack;
	bool sts_global;          /* sts_regional_endpoints = legacy */
	bool insecure_ok;         /* http:// to any host */
	const char *account_id;   /* of the credentials, or NULL */
	const char *account_mode; /* account_id_endpoint_mode, or NULL */
	struct hga_val settings;  /* NONE, or more values: client context
	                             parameters by their name, built-ins by
	                             theirs ("AWS::S3::Accelerate") */
	struct hga_aws_op op;     /* .r NULL: no operation in particular */
	struct hga_val params;    /* its parameters, or NONE */
};

struct hga_aws_endpoint {
	bool https, custom;
	bool raw_path;      /* the signed path is not encoded again */
	bool bucket_placed; /* the rules put the bucket into the URL */
	char host[272];     /* lower case, with port unless it is the default */
	char base[256];     /* path prefix without final slash, "" usually */
	char region[64];    /* for signing */
	char service[64];   /* signing name */
	char partition[24]; /* "aws", "aws-cn", ... */
	char headers[256];  /* to be sent, "name: value\n" each */
};

/* Kind usage, codes "NoRegion", "Endpoint" (also what the rules refuse);
 * protocol "Ruleset" for broken rules. */
int hga_aws_endpoint_find(const struct hga_aws_endpoint_args *a,
                          struct hga_aws_endpoint *out,
                          struct hga_err *err) HGA_MUST_USE;

/*
 * The same in two steps, for a cache between them: what the rules are asked
 * (a map appended to t; {} without rules), and the answer to it.  The
 * answer depends on that map and on no other parameter of the operation.
 */
int hga_aws_endpoint_params(const struct hga_aws_endpoint_args *a,
                            struct hga_vtape *t,
                            struct hga_err *err) HGA_MUST_USE;
int hga_aws_endpoint_apply(const struct hga_aws_endpoint_args *a,
                           struct hga_val asked, struct hga_aws_endpoint *out,
                           struct hga_err *err) HGA_MUST_USE;
/* The rules look at the operation or the credentials: one endpoint a client
 * does not do. */
bool hga_aws_endpoint_varies(const struct hga_rules *rules);

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

#endif
