/* The client-side rate limiter: measure, curve, bucket, and all together. */
#include "tap.h"

#include "aws/rate.h"

#include <math.h>

static bool near(double a, double b)
{
	return fabs(a - b) < 1e-9;
}

static void test_meter(void)
{
	struct hga_rate_meter m;

	hga_rate_meter_init(&m, 100.0);
	ok(near(hga_rate_meter_count(&m, 100.1), 0), "nothing is known yet");
	/* two requests in half a second, smoothed by 0.8 */
	ok(near(hga_rate_meter_count(&m, 100.6), 4 * 0.8), "then it is");
	ok(near(hga_rate_meter_count(&m, 100.7), 3.2), "for half a second");
	ok(near(hga_rate_meter_count(&m, 99.0), 3.2),
	   "a clock that goes back changes nothing");
}

static void test_cubic(void)
{
	struct hga_rate_cubic c;
	/* (10 * 0.3 / 0.4) ^ (1/3) */
	double k = cbrt(7.5), before;

	hga_rate_cubic_init(&c, 0, 0);
	ok(near(hga_rate_cubic_throttle(&c, 10, 50), 7),
	   "a throttle leaves 70 %%");
	ok(near(hga_rate_cubic_ok(&c, 50), 7), "where the curve begins");
	ok(near(hga_rate_cubic_ok(&c, 50 + k), 10), "and comes back to 100 %%");
	before = hga_rate_cubic_ok(&c, 50 + k + 1);
	ok(near(before, 10.4), "slowly at first");
	ok(hga_rate_cubic_ok(&c, 60) > 100, "then without bound");
}

static void test_bucket(void)
{
	struct hga_rate_bucket b;

	hga_rate_bucket_init(&b, 4, 10);
	ok(near(hga_rate_bucket_take(&b, 10), 0.25), "it begins empty");
	ok(near(hga_rate_bucket_take(&b, 10.25), 0), "and fills with time");
	ok(near(hga_rate_bucket_take(&b, 10.25), 0.25), "one at a time");
	ok(near(hga_rate_bucket_take(&b, 1000), 0) && near(b.tokens, 3),
	   "it never holds more than a second's worth");
	hga_rate_bucket_set(&b, 0, 1000);
	ok(near(b.fill, 0.5) && near(b.tokens, 1),
	   "and never gives less than one in two seconds");
}

static void test_limiter(void)
{
	struct hga_rate r;
	int n = 0;

	hga_rate_init(&r, 0);
	for (int i = 1; i <= 100; i++) {
		if (hga_rate_ask(&r, i * 0.1) > 0)
			ok(false, "nothing is limited before a throttle");
		hga_rate_seen(&r, false, i * 0.1);
	}
	hga_rate_seen(&r, true, 10.05);
	while (n < 100 && hga_rate_ask(&r, 10.05) <= 0)
		n++;
	ok(n <= 7, "after a throttle there is a limit: %d at once", n);
	ok(r.bucket.rate > 6 && r.bucket.rate < 8,
	   "of 70 %% of the real rate of 10: %g", r.bucket.rate);
	for (int i = 0; i < 40; i++)
		hga_rate_seen(&r, true, 11 + i * 0.1);
	ok(near(hga_rate_ask(&r, 60), 0) && hga_rate_ask(&r, 60) <= 2,
	   "however often it is throttled something may go");
}

int main(void)
{
	test_meter();
	test_cubic();
	test_bucket();
	test_limiter();
	return done();
}
