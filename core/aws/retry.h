/*
 * Retry policy of AWS calls: pure functions of facts; no clock, no state but
 * the quota the caller owns.
 *
 * Two questions are answered apart: what the policy of the retry mode says
 * (hga_retry_policy), and whether repeating this operation can do harm
 * (hga_retry_gate).  A repeat needs both.  Delays are seconds.
 */
#ifndef HGA_AWS_RETRY_H
#define HGA_AWS_RETRY_H

#include "aws/image.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum hga_retry_mode {
	HGA_RETRY_STANDARD, /* the 2026 values */
	HGA_RETRY_V1,       /* standard as it was before */
	HGA_RETRY_LEGACY,
	HGA_RETRY_ADAPTIVE /* standard; the caller adds rate.h */
};

/* "standard", "standard-v1", "legacy", "adaptive"; false for anything else. */
bool hga_retry_mode_find(struct hga_str name,
                         enum hga_retry_mode *out) HGA_MUST_USE;
const char *hga_retry_mode_name(enum hga_retry_mode mode);

/* Attempts in all (first one included) for a service id such as "ec2". */
unsigned hga_retry_attempts(enum hga_retry_mode mode, const char *service);

/* What is known about one finished attempt. */
struct hga_retry_fact {
	enum hga_retry_mode mode;
	const char *service;   /* lower-case service name */
	unsigned attempt;      /* 1 = the first */
	unsigned max_attempts; /* 0: the mode's */
	bool network;          /* no complete answer: connect, read, TLS */
	bool garbled;          /* 2xx or 429 whose content is no answer */
	int status;            /* 0 with network */
	struct hga_str code;   /* the service's, may be empty */
	bool model_retryable, model_throttling; /* the error shape's traits */
	int64_t after_ms; /* the service's wish (x-amz-retry-after), -1: none */
};

enum hga_retry_cost {
	HGA_RETRY_NO, /* not retryable */
	HGA_RETRY_TRANSIENT,
	HGA_RETRY_THROTTLE
};

struct hga_retry_verdict {
	enum hga_retry_cost class; /* of the failure, whatever the count */
	bool retry;                /* the policy consents */
	double delay;              /* s, when retry */
};

/* The policy; random01 in [0, 1] scales the delay. */
struct hga_retry_verdict hga_retry_policy(const struct hga_retry_fact *f,
                                          double random01);

/* x-amz-retry-after (milliseconds) or, when that is absent, Retry-After
 * (whole seconds; dates are not understood): milliseconds, or -1. */
int64_t hga_retry_after(struct hga_str x_amz, struct hga_str plain);

/* Token quota of one client. */
struct hga_retry_quota {
	int left, max;
};

void hga_retry_quota_init(struct hga_retry_quota *q);
/* Takes n when that many are left. */
bool hga_retry_quota_take(struct hga_retry_quota *q, int n) HGA_MUST_USE;
void hga_retry_quota_give(struct hga_retry_quota *q, int n);
/* Price of a retry. */
int hga_retry_quota_cost(const struct hga_retry_fact *f,
                         enum hga_retry_cost class, bool timed_out);

/* How an attempt failed, as far as harm of a repeat goes. */
enum hga_retry_harm {
	HGA_HARM_NOT_SENT,  /* no request byte was written */
	HGA_HARM_THROTTLED, /* refused for load in a well-formed document */
	HGA_HARM_REFUSED,   /* other well-formed refusal: nothing happened */
	HGA_HARM_AMBIGUOUS, /* sent; effect unknown */
	HGA_HARM_FINAL      /* certificate, limit exceeded: never repeated */
};

/* May the operation of that repeat class be sent again? */
bool hga_retry_gate(enum hga_retry_harm harm, enum hga_repeat repeat);

/* Code of the service that may mean a wrong clock. */
bool hga_retry_is_skew_code(struct hga_str code);
/* Code that says the credentials' time is over. */
bool hga_retry_is_expired_code(struct hga_str code);

#endif
