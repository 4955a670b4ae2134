/*
 * One AWS API call as a state machine, and what calls share.
 *
 * struct hga_aws is shared by all clients of the process: loop, model image,
 * signing keys, clock offsets and queues per host, memory of things just
 * created.  A client is one service with its settings; nothing is read or
 * looked up before its first call.  A call lives in the caller's struct and
 * goes: endpoint, validate, serialise, credentials, gate (once) - sign, send,
 * parse, decide, sleep (per attempt) - settled, done.  Credentials that the
 * service calls expired are got anew once per call, which is no attempt.
 *
 * A request is repeated only by this code: the policy of retry.h consents,
 * the quota has a price left, and the operation's repeat class allows it for
 * the way the attempt failed.  Every attempt sends the same bytes but date
 * and signature.
 */
#ifndef HGA_AWS_CALL_H
#define HGA_AWS_CALL_H

#include "aws/body.h"
#include "aws/config.h"
#include "aws/cred.h"
#include "aws/endpoint.h"
#include "aws/error.h"
#include "aws/image.h"
#include "aws/out.h"
#include "aws/request.h"
#include "aws/retry.h"
#include "aws/sink.h"
#include "base/val.h"
#include "net/http.h"
#include "net/loop.h"
#include "net/op.h"

#include <stdbool.h>
#include <stdint.h>

struct hga_aws;        /* opaque */
struct hga_aws_client; /* opaque, reference-counted */

struct hga_aws_args {
	struct hga_loop *loop;
	const struct hga_aws_image *img;
	const struct hga_aws_env *env; /* NULL: the real one */
	const char *agent;             /* "hgauto/1.0 ua/2.1 ..."; copied */
};

/* loop, img and env must outlive it. */
int hga_aws_new(struct hga_aws **out, const struct hga_aws_args *args,
                struct hga_err *err) HGA_MUST_USE;
/* All clients and calls must be gone; NULL is allowed. */
void hga_aws_free(struct hga_aws *aws);
/* From now on only this endpoint ("http://127.0.0.1:4566") may be talked to;
 * an empty view allows all again. */
int hga_aws_only(struct hga_aws *aws, struct hga_str url,
                 struct hga_err *err) HGA_MUST_USE;
const struct hga_aws_image *hga_aws_images(const struct hga_aws *aws);
const struct hga_aws_env *hga_aws_environment(const struct hga_aws *aws);

/* ---- clients ---- */

/* Zero: default or configuration.  Texts are copied. */
struct hga_aws_client_args {
	const struct hga_aws_svc *svc;
	struct hga_str profile, region, endpoint_url, retry_mode, ca_bundle;
	struct hga_str user_agent_extra;
	int use_fips, use_dualstack; /* -1 false, 0 unset, 1 true */
	int64_t max_attempts;
	int64_t timeout_ms, read_ms, connect_ms;
	int64_t max_response;    /* bytes of an answer's body */
	int64_t max_concurrency; /* requests in flight per host */
	bool no_eventual;        /* no patience with things just created */
	bool patient;            /* throttling is waited out, and no attempt */
	struct hga_creds *creds; /* NULL: the chain; a reference is taken */
	bool no_cred_cache;      /* leave the CLI's cache of roles alone */
	bool anonymous;          /* nothing is signed */
};

/* No I/O. */
int hga_aws_client_new(struct hga_aws *aws,
                       const struct hga_aws_client_args *args,
                       struct hga_aws_client **out,
                       struct hga_err *err) HGA_MUST_USE;
struct hga_aws_client *hga_aws_client_ref(struct hga_aws_client *c);
/* Drops one reference; NULL is allowed. */
void hga_aws_client_free(struct hga_aws_client *c);

/*
 * Reads the configuration: the endpoint is known afterwards.  Idempotent;
 * calls do it themselves.  Errors as in config.h, endpoint.h.
 */
int hga_aws_client_ready(struct hga_aws_client *c,
                         struct hga_err *err) HGA_MUST_USE;
const struct hga_aws_svc *hga_aws_client_svc(const struct hga_aws_client *c);
struct hga_aws_config *hga_aws_client_config(struct hga_aws_client *c);
/* After ready. */
const struct hga_aws_endpoint *
hga_aws_client_endpoint(const struct hga_aws_client *c);
/* What the last hga_creds_get_start got; NULL: nothing yet. */
const struct hga_creds *hga_aws_client_creds(const struct hga_aws_client *c);

/* ---- calls ---- */

struct hga_aws_call;

struct hga_aws_call_args {
	struct hga_aws_client *client; /* a reference is taken */
	struct hga_aws_op op;
	struct hga_val params;       /* read by start only */
	struct hga_val extra;        /* raw parameters, or NONE */
	int64_t timeout_ms, read_ms; /* 0: the client's */
	int64_t max_attempts;        /* 0: the client's */
	bool no_validate, no_eventual;
	/* The streaming member of a success goes into this file (copied), or
	 * into sink.queue: base.progress tells of new bytes, the reader clears
	 * the queue and calls hga_aws_call_resume.  No limit of max_response
	 * then. */
	const char *to_path;
	bool to_queue;
	/*
	 * The request is complete and nothing is sent.  < 0: it is not sent
	 * and the call does not start, or fails with that.  Called by start,
	 * or from the loop when credentials had to be waited for.
	 */
	int (*gate)(void *data, struct hga_aws_call *call, struct hga_err *err);
	/* Before an attempt that leaves later than 60 s after the gate or the
	 * last such notice.  < 0: it is not sent. */
	int (*resend)(void *data, struct hga_aws_call *call,
	              struct hga_err *err);
	/* The gate passed and the call is over (also by cancel): once, before
	 * done.  hga_aws_call_outcome tells what is known. */
	void (*settled)(void *data, struct hga_aws_call *call);
	void *data;
};

enum hga_aws_outcome {
	HGA_CALL_DONE = 1, /* success; the tape holds the answer */
	HGA_CALL_NOTHING,  /* refused, or never sent: no effect */
	HGA_CALL_UNKNOWN   /* may have had its effect */
};

struct hga_aws_call {
	struct hga_op base; /* err: kind, code and (cut) message */

	/* ---- readable when finished, until release ---- */
	struct hga_aws_client *client;
	struct hga_aws_op op;
	struct hga_aws_endpoint endpoint; /* host "": not known yet */
	struct hga_vtape *tape;     /* success: the answer; may be taken */
	struct hga_aws_out *out;    /* the last answer's reader or NULL */
	struct hga_aws_request req; /* tokens: filled in by us */
	struct hga_http http;       /* the last attempt: status, head, times */
	struct hga_aws_sink sink;   /* with to_path, to_queue */
	struct hga_buf report;      /* problems or warnings of the validation */
	struct hga_buf tried;       /* NoCredentials: reasons by provider */
	struct hga_buf message;     /* failure: the whole message */
	char code[128];             /* failure: the service's or our code */
	char request_id[128];
	int status;        /* of the last answer, 0: none */
	unsigned attempts; /* that counted */
	bool answered;     /* the service itself said no */
	bool sent;         /* a byte of some attempt may have left */
	bool ambiguous;    /* failure: may have had its effect */
	bool maybe_done;   /* "exists"/"not found" after such a one */
	bool retryable, throttling, exhausted;
	int64_t started_ms, took_ms;

	/* ---- the module's ---- */
	struct hga_aws_call_args args;
	struct hga_aws_file file; /* the request's body */
	struct hga_timer timer;
	struct hga_aws_call *next; /* in a host's queue */
	struct hga_creds *creds; /* of this call; replaced when they expired */
	struct hga_creds_get get;
	struct aws_host *host;
	struct hga_vtape *kept; /* parameters until credentials are there */
	char *kept_path;
	char invocation[37];
	char *names[4];        /* of the input, for later patience */
	struct hga_buf hidden; /* texts that must not be shown, see trace.h */
	int64_t deadline_ms, marked_ms;
	unsigned max_attempts, eventual_tries, throttles;
	int last_cost;
	bool gated, settled, in_slot, queued;
	bool skew_fixed, renewed, resent_fresh, force_fresh, any_ambiguous;
	bool bearer; /* creds hold a token that is sent as it is */
	bool paced;  /* held back by the client's rate limiter */
};

/*
 * Starts a call in a zeroed struct.  < 0: not started; call->report, tried
 * and message may hold more than err.  The caller releases it in any case.
 */
int hga_aws_call_start(struct hga_aws_call *call,
                       const struct hga_aws_call_args *args,
                       struct hga_err *err) HGA_MUST_USE;
/* There is room in sink.queue again. */
void hga_aws_call_resume(struct hga_aws_call *call);
/* Cancels a running call, frees everything; safe on a zeroed struct. */
void hga_aws_call_release(struct hga_aws_call *call);
/* Of a finished, failed or cancelled call; what a ledger may believe. */
enum hga_aws_outcome hga_aws_call_outcome(const struct hga_aws_call *call);
/*
 * Appends text as it may be shown: without secrets and without the values of
 * the call's sensitive parameters.  Until release.
 */
int hga_aws_call_hide(const struct hga_aws_call *call, struct hga_str text,
                      struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;
/* Root of the answer; NONE unless it succeeded. */
struct hga_val hga_aws_call_answer(const struct hga_aws_call *call);

/*
 * Appends a presigned URL.  No request is sent.  expires_s 1 to 604800.
 * Query protocols: the parameters move into the query of a GET, the URL is
 * all.  Others: *req (zeroed; the caller releases it) tells what must go with
 * the URL: method, the headers that are signed, and the body; s3 leaves the
 * body open.
 */
int hga_aws_presign_url(struct hga_aws_client *client,
                        const struct hga_creds *creds, struct hga_aws_op op,
                        struct hga_val params, unsigned expires_s,
                        struct hga_aws_request *req, struct hga_buf *url,
                        struct hga_err *err) HGA_MUST_USE;

#endif
