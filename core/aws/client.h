/*
 * Inside of aws/: what call.c and client.c share.  Not for others.
 *
 * Hosts (clock offset, requests in flight, queue) and the memory of things
 * just created belong to struct hga_aws and live as long as it does.
 */
#ifndef HGA_AWS_CLIENT_H
#define HGA_AWS_CLIENT_H

#include "aws/call.h"
#include "aws/rate.h"
#include "aws/sign.h"

#define AWS_INFLIGHT 16     /* requests per host at a time */
#define AWS_RECENT 1024     /* things remembered */
#define AWS_RECENT_TEXT 160 /* bytes of a remembered name */
#define AWS_PLACES 32       /* answers of the endpoint rules per client */
#define AWS_REQUEST_MAX ((size_t)64 << 20)

/* One endpoint host of the process. */
struct aws_host {
	struct aws_host *next;
	char *name;
	int64_t skew_us; /* service time - local time */
	bool skew_told;
	unsigned inflight;
	struct hga_aws_call *first, *last; /* waiting for a slot */
};

/* An id or name of something this process made. */
struct aws_recent {
	char *text;
	int64_t at_ms;
	bool profile; /* an instance profile */
};

/* Parsed endpoint rules of a service. */
struct aws_rules {
	struct aws_rules *next;
	const struct hga_aws_svc *svc;
	struct hga_rules *rules;
};

/* An answer of the rules and the question in JSON. */
struct aws_placed {
	char *asked; /* NULL: free */
	uint64_t used;
	struct hga_aws_endpoint endpoint;
};

struct hga_aws {
	struct hga_loop *loop;
	const struct hga_aws_image *img;
	struct hga_aws_env env;
	char *agent;
	char *only; /* the only host allowed, or NULL */
	struct hga_sign_cache keys;
	struct hga_partitions *partitions;
	struct aws_rules *rules;
	struct aws_host *hosts;
	struct aws_recent recent[AWS_RECENT];
	size_t recent_at; /* next slot */
	uint64_t seed;    /* of the jitter, 0: the environment's random */
	struct cred_source *sources;   /* of credentials (cred_get.c) */
	struct aws_sso_try *sso_tries; /* renewals of tokens */
};

struct hga_aws_client {
	unsigned refs;
	struct hga_aws *aws;
	const struct hga_aws_svc *svc;
	struct hga_aws_config config;
	struct hga_creds *creds; /* given or static */
	struct cred_source *source, *bearer;
	bool creds_given, no_cred_cache, anonymous, ready;
	struct hga_aws_endpoint endpoint; /* of no operation in particular */
	bool varies;                      /* it depends on the call */
	struct aws_placed *places;        /* AWS_PLACES of them, made at need */
	uint64_t place_clock;
	bool no_host_prefix;
	enum hga_retry_mode mode;
	unsigned max_attempts;
	struct hga_retry_quota quota;
	struct hga_rate rate; /* retry mode adaptive */
	int64_t timeout_ms, read_ms, connect_ms;
	size_t max_response;
	unsigned max_concurrency;
	bool eventual, patient;
	char *ca_bundle; /* or NULL */
	char *agent;     /* whole User-Agent, after ready */
	char *agent_extra;
};

/* Drops one reference; NULL is allowed. */
void cred_source_free(struct cred_source *s);
/* Frees what was remembered about renewed tokens (cred_sso.c). */
void cred_sso_forget(struct hga_aws *aws);
/* What it has now or NULL. */
struct hga_creds *cred_source_creds(const struct cred_source *s);
/* True: the request is made with the credentials' help (the account may
 * choose the endpoint, a URL inside is signed). */
bool aws_wants_creds(const struct hga_aws_client *c, struct hga_aws_op op,
                     struct hga_val params);
/* A service refused these credentials as expired: true when others can be
 * got, which the next hga_creds_get_start does. */
bool cred_refused(struct hga_aws_client *c, const struct hga_creds *used);
/* The host's record, made at need; NULL without memory. */
struct aws_host *aws_host_ensure(struct hga_aws *aws, const char *name);
/* Uniform in [0, 1). */
double aws_random(struct hga_aws *aws);
/* Remembers a text (long ones are not). */
void aws_recent_add(struct hga_aws *aws, struct hga_str text, int64_t now_ms,
                    bool profile);
/* Forgets whatever text names. */
void aws_recent_forget(struct hga_aws *aws, struct hga_str text);
/* Youngest thing that text names; NULL: none. */
const struct aws_recent *aws_recent_in(const struct hga_aws *aws,
                                       struct hga_str text, bool profile);
/* Where a call goes: the client's endpoint, or the one the rules choose for
 * these parameters and credentials (may be NULL). */
int aws_find_place(struct hga_aws_client *c, struct hga_aws_op op,
                   struct hga_val params, const struct hga_creds *creds,
                   struct hga_aws_endpoint *out,
                   struct hga_err *err) HGA_MUST_USE;
/*
 * Makes req ready for the endpoint: host prefix into host (of size bytes),
 * base path before the path, headers.
 */
int aws_place_request(const struct hga_aws_client *c,
                      const struct hga_aws_endpoint *e, struct hga_aws_op op,
                      struct hga_aws_request *req, char *host, size_t size,
                      struct hga_err *err) HGA_MUST_USE;
/* The client's endpoint and what it needs; called by ready. */
int aws_find_endpoint(struct hga_aws_client *c,
                      struct hga_err *err) HGA_MUST_USE;
void aws_places_release(struct hga_aws_client *c);
void aws_rules_release(struct hga_aws *aws);
/* Signing arguments for now (with the host's clock offset). */
struct hga_sign_args aws_sign_args(const struct hga_aws_client *c,
                                   const struct hga_aws_endpoint *e,
                                   const struct hga_creds *creds,
                                   const struct aws_host *host,
                                   const char *host_name);
/* Inside of Lambda a chain of calls must stay recognisable: its id goes on in
 * a header unless there is one. */
int aws_add_trace_id(const struct hga_aws_env *env, struct hga_aws_pairs *h,
                     struct hga_err *err) HGA_MUST_USE;
/* Serialises with the customisations of the operation. */
int aws_serialize(struct hga_aws_client *c, struct hga_aws_op op,
                  struct hga_val params, struct hga_val extra,
                  struct hga_aws_request *req,
                  struct hga_err *err) HGA_MUST_USE;

#endif
