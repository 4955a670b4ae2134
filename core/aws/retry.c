/*
 * Retry policy of AWS calls (the modes legacy and standard of the AWS SDK
 * reference, with the 2026 delays and quota prices as the default).
 */
#include "aws/retry.h"

enum {
	QUOTA_MAX = 500
};

static const double DELAY_MAX = 20.0;
/* Most that a service's wish may add to our own delay. */
static const double AFTER_SLACK = 5.0;

static bool in_list(struct hga_str code, const char *const *list)
{
	for (; *list != NULL; list++) {
		if (hga_str_eqc(code, *list))
			return true;
	}
	return false;
}

static bool is_dynamodb(const char *service)
{
	return strcmp(service, "dynamodb") == 0 ||
	       strcmp(service, "dynamodbstreams") == 0 ||
	       strcmp(service, "dynamodb-streams") == 0;
}

bool hga_retry_mode_find(struct hga_str name, enum hga_retry_mode *out)
{
	if (hga_str_ieqc(name, "standard"))
		*out = HGA_RETRY_STANDARD;
	else if (hga_str_ieqc(name, "adaptive"))
		*out = HGA_RETRY_ADAPTIVE;
	else if (hga_str_ieqc(name, "standard-v1"))
		*out = HGA_RETRY_V1;
	else if (hga_str_ieqc(name, "legacy"))
		*out = HGA_RETRY_LEGACY;
	else
		return false;
	return true;
}

const char *hga_retry_mode_name(enum hga_retry_mode mode)
{
	switch (mode) {
	case HGA_RETRY_STANDARD:
		return "standard";
	case HGA_RETRY_V1:
		return "standard-v1";
	case HGA_RETRY_LEGACY:
		return "legacy";
	case HGA_RETRY_ADAPTIVE:
		return "adaptive";
	}
	return "standard";
}

unsigned hga_retry_attempts(enum hga_retry_mode mode, const char *service)
{
	switch (mode) {
	case HGA_RETRY_STANDARD:
	case HGA_RETRY_ADAPTIVE:
		return is_dynamodb(service) ? 4 : 3;
	case HGA_RETRY_V1:
		return 3;
	case HGA_RETRY_LEGACY:
		return strcmp(service, "dynamodb") == 0 ? 10 : 5;
	}
	return 3;
}

/* ---- classification ---- */

static const char *const throttle_codes[] = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottledException",
    "TooManyRequestsException",
    "ProvisionedThroughputExceededException",
    "TransactionInProgressException",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "LimitExceededException",
    "RequestThrottled",
    "SlowDown",
    "PriorRequestNotComplete",
    "EC2ThrottledException",
    NULL};

static enum hga_retry_cost classify_standard(const struct hga_retry_fact *f)
{
	static const char *const transient[] = {
	    "RequestTimeout", "RequestTimeoutException",
	    "PriorRequestNotComplete", NULL};

	if (f->network || f->garbled)
		return HGA_RETRY_TRANSIENT;
	if (in_list(f->code, throttle_codes) || f->model_throttling)
		return HGA_RETRY_THROTTLE;
	if (in_list(f->code, transient) || f->model_retryable)
		return HGA_RETRY_TRANSIENT;
	if (strcmp(f->service, "sts") == 0 &&
	    hga_str_eqc(f->code, "IDPCommunicationError"))
		return HGA_RETRY_TRANSIENT;
	if (f->status == 500 || f->status == 502 || f->status == 503 ||
	    f->status == 504)
		return HGA_RETRY_TRANSIENT;
	return HGA_RETRY_NO;
}

struct legacy_rule {
	const char *service; /* NULL: every service */
	const char *code;
	int status;
	enum hga_retry_cost class;
};

static const struct legacy_rule legacy_rules[] = {
    {NULL, "Throttling", 400, HGA_RETRY_THROTTLE},
    {NULL, "ThrottlingException", 400, HGA_RETRY_THROTTLE},
    {NULL, "ThrottledException", 400, HGA_RETRY_THROTTLE},
    {NULL, "RequestThrottledException", 400, HGA_RETRY_THROTTLE},
    {NULL, "ProvisionedThroughputExceededException", 400, HGA_RETRY_THROTTLE},
    {"ec2", "RequestLimitExceeded", 503, HGA_RETRY_THROTTLE},
    {"ec2", "EC2ThrottledException", 503, HGA_RETRY_THROTTLE},
    {"s3", "RequestTimeout", 400, HGA_RETRY_TRANSIENT},
    {"s3", "BadDigest", 400, HGA_RETRY_TRANSIENT},
    {"sts", "IDPCommunicationError", 400, HGA_RETRY_TRANSIENT},
    {"dynamodb", "TransactionInProgressException", 400, HGA_RETRY_THROTTLE},
    {"dynamodb", "ReplicatedWriteConflictException", 409, HGA_RETRY_TRANSIENT},
};

static enum hga_retry_cost classify_legacy(const struct hga_retry_fact *f)
{
	const size_t n = sizeof(legacy_rules) / sizeof(*legacy_rules);

	if (f->network || f->garbled)
		return HGA_RETRY_TRANSIENT;
	for (size_t i = 0; i < n; i++) {
		const struct legacy_rule *r = &legacy_rules[i];

		if (r->status == f->status && hga_str_eqc(f->code, r->code) &&
		    (r->service == NULL || strcmp(r->service, f->service) == 0))
			return r->class;
	}
	switch (f->status) {
	case 429:
		return HGA_RETRY_THROTTLE;
	case 500:
	case 502:
	case 503:
	case 504:
	case 509:
		return HGA_RETRY_TRANSIENT;
	default:
		return HGA_RETRY_NO;
	}
}

/* ---- delays ---- */

/* 2 to the attempt - 1; the caps make larger exponents pointless. */
static double power2(unsigned attempt)
{
	return (double)((uint64_t)1 << (attempt > 32 ? 31 : attempt - 1));
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static double delay_standard(const struct hga_retry_fact *f,
                             enum hga_retry_cost class, double random01)
{
	double base = is_dynamodb(f->service) ? 0.025 : 0.05;
	double t, want;

	if (class == HGA_RETRY_THROTTLE)
		base = 1.0;
	t = random01 * smaller(base * power2(f->attempt), DELAY_MAX);
	if (f->after_ms < 0)
		return t;
	want = (double)f->after_ms / 1000.0;
	want = smaller(want, t + AFTER_SLACK);
	return want > t ? want : t;
}

static double delay_of(const struct hga_retry_fact *f,
                       enum hga_retry_cost class, double random01)
{
	switch (f->mode) {
	case HGA_RETRY_STANDARD:
	case HGA_RETRY_ADAPTIVE:
		return delay_standard(f, class, random01);
	case HGA_RETRY_V1:
		return random01 * smaller(power2(f->attempt), DELAY_MAX);
	case HGA_RETRY_LEGACY:
		if (strcmp(f->service, "dynamodb") == 0)
			return 0.05 * power2(f->attempt);
		return random01 * power2(f->attempt);
	}
	return 0;
}

struct hga_retry_verdict hga_retry_policy(const struct hga_retry_fact *f,
                                          double random01)
{
	struct hga_retry_verdict v = {HGA_RETRY_NO, false, 0};
	unsigned max = f->max_attempts;

	if (max == 0)
		max = hga_retry_attempts(f->mode, f->service);
	v.class = f->mode == HGA_RETRY_LEGACY ? classify_legacy(f)
	                                      : classify_standard(f);
	if (v.class == HGA_RETRY_NO || f->attempt >= max)
		return v;
	v.retry = true;
	v.delay = delay_of(f, v.class, random01);
	return v;
}

int64_t hga_retry_after(struct hga_str x_amz, struct hga_str plain)
{
	uint64_t v;

	if (x_amz.s != NULL) {
		if (!hga_str_uint(hga_str_trim(x_amz), &v) || v > INT32_MAX)
			return -1;
		return (int64_t)v;
	}
	if (plain.s == NULL || !hga_str_uint(hga_str_trim(plain), &v) ||
	    v > INT32_MAX / 1000)
		return -1;
	return (int64_t)v * 1000;
}

/* ---- quota ---- */

void hga_retry_quota_init(struct hga_retry_quota *q)
{
	q->max = QUOTA_MAX;
	q->left = QUOTA_MAX;
}

bool hga_retry_quota_take(struct hga_retry_quota *q, int n)
{
	if (n > q->left)
		return false;
	q->left -= n;
	return true;
}

void hga_retry_quota_give(struct hga_retry_quota *q, int n)
{
	q->left = n > q->max - q->left ? q->max : q->left + n;
}

int hga_retry_quota_cost(const struct hga_retry_fact *f,
                         enum hga_retry_cost class, bool timed_out)
{
	switch (f->mode) {
	case HGA_RETRY_STANDARD:
	case HGA_RETRY_ADAPTIVE:
		return class == HGA_RETRY_THROTTLE ? 5 : 14;
	case HGA_RETRY_V1:
		return timed_out ? 10 : 5;
	case HGA_RETRY_LEGACY:
		return 0;
	}
	return 0;
}

/* ---- harm ---- */

bool hga_retry_gate(enum hga_retry_harm harm, enum hga_repeat repeat)
{
	switch (harm) {
	case HGA_HARM_NOT_SENT:
	case HGA_HARM_THROTTLED:
	case HGA_HARM_REFUSED:
		return true;
	case HGA_HARM_AMBIGUOUS:
		return repeat != HGA_REPEAT_UNSAFE;
	case HGA_HARM_FINAL:
		return false;
	}
	return false;
}

bool hga_retry_is_skew_code(struct hga_str code)
{
	static const char *const list[] = {"RequestTimeTooSkewed",
	                                   "RequestExpired",
	                                   "RequestInTheFuture",
	                                   "InvalidSignatureException",
	                                   "SignatureDoesNotMatch",
	                                   "AuthFailure",
	                                   NULL};

	return in_list(code, list);
}

bool hga_retry_is_expired_code(struct hga_str code)
{
	static const char *const list[] = {
	    "ExpiredToken", "ExpiredTokenException", "RequestExpired",
	    "InvalidClientTokenId", NULL};

	return in_list(code, list);
}
