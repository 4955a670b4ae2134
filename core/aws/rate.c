/*
 * Rate limiter of the retry mode adaptive, with the constants that the SDKs
 * share: RFC 9438's curve with beta 0.7 and C 0.4, a bucket that never gives
 * less than one request in two seconds.
 */
#include "aws/rate.h"

#include <math.h>

static const double BETA = 0.7;
static const double SCALE = 0.4;
static const double SMOOTHING = 0.8;
static const double BUCKET_S = 0.5;
static const double RATE_MIN = 0.5;

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

/* ---- what is really sent ---- */

static double bucket_of(double now)
{
	return floor(now / BUCKET_S) * BUCKET_S;
}

void hga_rate_meter_init(struct hga_rate_meter *m, double now)
{
	m->measured = 0;
	m->bucket = bucket_of(now);
	m->count = 0;
}

double hga_rate_meter_count(struct hga_rate_meter *m, double now)
{
	double bucket = bucket_of(now), rate;

	m->count++;
	if (bucket <= m->bucket)
		return m->measured;
	rate = m->count / (bucket - m->bucket);
	m->measured = rate * SMOOTHING + m->measured * (1 - SMOOTHING);
	m->count = 0;
	m->bucket = bucket;
	return m->measured;
}

/* ---- the curve ---- */

/* Seconds from a throttle until the curve is at w_max again. */
static double zero_point(double w_max)
{
	return cbrt(w_max * (1 - BETA) / SCALE);
}

void hga_rate_cubic_init(struct hga_rate_cubic *c, double w_max, double now)
{
	c->w_max = w_max;
	c->k = zero_point(w_max);
	c->failed_at = now;
}

double hga_rate_cubic_ok(const struct hga_rate_cubic *c, double now)
{
	double t = now - c->failed_at - c->k;

	return SCALE * t * t * t + c->w_max;
}

double hga_rate_cubic_throttle(struct hga_rate_cubic *c, double rate,
                               double now)
{
	hga_rate_cubic_init(c, rate, now);
	return rate * BETA;
}

/* ---- the bucket ---- */

static void refill(struct hga_rate_bucket *b, double now)
{
	double more = larger(now - b->filled_at, 0) * b->fill;

	b->tokens = smaller(b->capacity, b->tokens + more);
	b->filled_at = now;
}

void hga_rate_bucket_init(struct hga_rate_bucket *b, double rate, double now)
{
	b->fill = 0;
	b->tokens = 0;
	b->capacity = 0;
	b->filled_at = now;
	hga_rate_bucket_set(b, rate, now);
}

void hga_rate_bucket_set(struct hga_rate_bucket *b, double rate, double now)
{
	refill(b, now);
	b->rate = rate;
	b->fill = larger(rate, RATE_MIN);
	b->capacity = larger(rate, 1);
	b->tokens = smaller(b->tokens, b->capacity);
}

double hga_rate_bucket_take(struct hga_rate_bucket *b, double now)
{
	refill(b, now);
	if (b->tokens < 1)
		return (1 - b->tokens) / b->fill;
	b->tokens -= 1;
	return 0;
}

/* ---- together ---- */

void hga_rate_init(struct hga_rate *r, double now)
{
	hga_rate_meter_init(&r->meter, now);
	hga_rate_cubic_init(&r->cubic, 0, now);
	hga_rate_bucket_init(&r->bucket, 1, now);
	r->enabled = false;
}

double hga_rate_ask(struct hga_rate *r, double now)
{
	return r->enabled ? hga_rate_bucket_take(&r->bucket, now) : 0;
}

void hga_rate_seen(struct hga_rate *r, bool throttled, double now)
{
	double measured = hga_rate_meter_count(&r->meter, now), rate;

	if (throttled) {
		rate = measured;
		if (r->enabled)
			rate = smaller(rate, r->bucket.rate);
		rate = hga_rate_cubic_throttle(&r->cubic, rate, now);
		r->enabled = true;
	} else {
		rate = hga_rate_cubic_ok(&r->cubic, now);
	}
	hga_rate_bucket_set(&r->bucket, smaller(rate, 2 * measured), now);
}
