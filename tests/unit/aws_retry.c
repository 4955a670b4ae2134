/*
 * Retry policy: modes, delays, quota, harm.  Values from aws.md section 12.
 */
#include "tap.h"

#include "aws/retry.h"

static struct hga_retry_fact fact(const char *service, unsigned attempt)
{
	struct hga_retry_fact f = {0};

	f.service = service;
	f.attempt = attempt;
	f.after_ms = -1;
	return f;
}

static double delay_of(struct hga_retry_fact f)
{
	struct hga_retry_verdict v = hga_retry_policy(&f, 1.0);

	return v.retry ? v.delay : -1;
}

static bool near(double a, double b)
{
	return a - b < 1e-9 && b - a < 1e-9;
}

static void test_standard(void)
{
	struct hga_retry_fact f = fact("ec2", 1);

	f.status = 503;
	ok(near(delay_of(f), 0.05), "a 503 is repeated after up to 50 ms");
	f.attempt = 2;
	ok(near(delay_of(f), 0.1), "the second time after up to 100 ms");
	f.attempt = 3;
	ok(delay_of(f) < 0, "three attempts are all");
	f.max_attempts = 20;
	f.attempt = 15;
	ok(near(delay_of(f), 20), "no delay is above 20 s");
	f = fact("ec2", 1);
	f.status = 400;
	f.code = hga_str("RequestLimitExceeded");
	ok(near(delay_of(f), 1.0), "throttling starts at 1 s");
	is_int(hga_retry_policy(&f, 1).class, HGA_RETRY_THROTTLE,
	       "and is called throttling");
	f.code = hga_str("InvalidParameterValue");
	ok(delay_of(f) < 0, "a refusal is not repeated");
	f = fact("ec2", 1);
	f.network = true;
	ok(near(delay_of(f), 0.05), "a lost connection is");
	f = fact("ec2", 1);
	f.garbled = true;
	f.status = 200;
	ok(near(delay_of(f), 0.05), "so is a garbled success");
	f = fact("dynamodb", 3);
	f.status = 500;
	ok(near(delay_of(f), 0.1), "dynamodb has four attempts, half delays");
	f = fact("iam", 1);
	f.status = 400;
	f.code = hga_str("IDPCommunicationError");
	ok(delay_of(f) < 0, "IDPCommunicationError counts for sts only");
	f.service = "sts";
	ok(near(delay_of(f), 0.05), "there it is repeated");
}

static void test_after(void)
{
	struct hga_retry_fact f = fact("ec2", 1);
	struct hga_str none = {NULL, 0};

	f.status = 503;
	f.after_ms = 1500;
	ok(near(delay_of(f), 1.5), "the service's wish is kept");
	f.after_ms = 9000;
	ok(near(delay_of(f), 5.05), "but adds at most 5 s");
	f.after_ms = 0;
	ok(near(delay_of(f), 0.05), "a wish below our delay changes nothing");
	is_int(hga_retry_after(hga_str("1500"), none), 1500, "x-amz in ms");
	is_int(hga_retry_after(none, hga_str("2")), 2000, "Retry-After in s");
	is_int(hga_retry_after(hga_str("-1"), hga_str("2")), -1,
	       "a bad wish is none");
	is_int(hga_retry_after(none, hga_str("Sun, 22 Nov 2026 14:03:30 GMT")),
	       -1, "dates are no wish");
	is_int(hga_retry_after(none, none), -1, "no header, no wish");
}

static void test_quota(void)
{
	struct hga_retry_quota q;
	struct hga_retry_fact f = fact("ec2", 1);
	int n = 0;

	hga_retry_quota_init(&q);
	is_int(q.left, 500, "the quota starts at 500");
	is_int(hga_retry_quota_cost(&f, HGA_RETRY_TRANSIENT, false), 14,
	       "a transient retry costs 14");
	is_int(hga_retry_quota_cost(&f, HGA_RETRY_THROTTLE, false), 5,
	       "a throttled one 5");
	while (hga_retry_quota_take(&q, 14))
		n++;
	is_int(n, 35, "35 transient retries empty it");
	is_int(q.left, 10, "a refused take takes nothing");
	hga_retry_quota_give(&q, 1000);
	is_int(q.left, 500, "it never grows above 500");
	f.mode = HGA_RETRY_V1;
	is_int(hga_retry_quota_cost(&f, HGA_RETRY_TRANSIENT, true), 10,
	       "standard-v1: timeouts cost 10");
}

static void test_gate(void)
{
	static const enum hga_repeat all[] = {
	    HGA_REPEAT_READ, HGA_REPEAT_IDEMPOTENT, HGA_REPEAT_NAMED,
	    HGA_REPEAT_UNSAFE};

	for (size_t i = 0; i < 4; i++) {
		ok(hga_retry_gate(HGA_HARM_NOT_SENT, all[i]),
		   "class %zu: what was not sent may be sent", i);
		ok(hga_retry_gate(HGA_HARM_THROTTLED, all[i]),
		   "class %zu: what was throttled, too", i);
		ok(hga_retry_gate(HGA_HARM_AMBIGUOUS, all[i]) == (i != 3),
		   "class %zu: an unknown effect stops unsafe ones only", i);
		ok(!hga_retry_gate(HGA_HARM_FINAL, all[i]),
		   "class %zu: certificate and limits stop all", i);
	}
}

static void test_modes(void)
{
	enum hga_retry_mode m;

	ok(hga_retry_mode_find(hga_str("Standard"), &m) &&
	       m == HGA_RETRY_STANDARD,
	   "modes are found in any case");
	ok(hga_retry_mode_find(hga_str("legacy"), &m) && m == HGA_RETRY_LEGACY,
	   "legacy");
	ok(!hga_retry_mode_find(hga_str("fast"), &m), "fast is none");
	is_int(hga_retry_attempts(HGA_RETRY_STANDARD, "ec2"), 3, "standard");
	is_int(hga_retry_attempts(HGA_RETRY_LEGACY, "ec2"), 5, "legacy");
	is_int(hga_retry_attempts(HGA_RETRY_LEGACY, "dynamodb"), 10,
	       "legacy dynamodb");
	ok(hga_retry_is_skew_code(hga_str("RequestExpired")), "skew code");
	ok(!hga_retry_is_skew_code(hga_str("Throttling")), "no skew code");
}

int main(void)
{
	test_standard();
	test_after();
	test_quota();
	test_gate();
	test_modes();
	return done();
}
