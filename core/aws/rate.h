/*
 * Client-side rate limiter of the retry mode "adaptive": how fast a client
 * may send after its service began to throttle.
 *
 * Pure functions of the times given to them (seconds of any clock that does
 * not go back).  Three parts that can be used alone: a measure of the real
 * rate, the CUBIC curve that the allowed rate follows after a throttle, and a
 * bucket of tokens.  Nothing is limited before the first throttle.
 */
#ifndef HGA_AWS_RATE_H
#define HGA_AWS_RATE_H

#include <stdbool.h>

/* Requests per second, measured in buckets of half a second. */
struct hga_rate_meter {
	double measured, bucket;
	unsigned count;
};

void hga_rate_meter_init(struct hga_rate_meter *m, double now);
/* One more request; the smoothed rate. */
double hga_rate_meter_count(struct hga_rate_meter *m, double now);

/* CUBIC: back to the rate of the last throttle fast, beyond it slowly. */
struct hga_rate_cubic {
	double w_max, k, failed_at;
};

void hga_rate_cubic_init(struct hga_rate_cubic *c, double w_max, double now);
/* New rate after a success. */
double hga_rate_cubic_ok(const struct hga_rate_cubic *c, double now);
/* New rate after a throttle that came at the given rate. */
double hga_rate_cubic_throttle(struct hga_rate_cubic *c, double rate,
                               double now);

struct hga_rate_bucket {
	double rate, fill, capacity, tokens, filled_at;
};

void hga_rate_bucket_init(struct hga_rate_bucket *b, double rate, double now);
void hga_rate_bucket_set(struct hga_rate_bucket *b, double rate, double now);
/* Takes one token and returns 0, or returns the seconds until there may be
 * one. */
double hga_rate_bucket_take(struct hga_rate_bucket *b, double now);

/* The limiter of one client. */
struct hga_rate {
	struct hga_rate_meter meter;
	struct hga_rate_cubic cubic;
	struct hga_rate_bucket bucket;
	bool enabled;
};

void hga_rate_init(struct hga_rate *r, double now);
/* Before a request: 0 (it may go) or the seconds to wait before asking
 * again. */
double hga_rate_ask(struct hga_rate *r, double now);
/* After an answer. */
void hga_rate_seen(struct hga_rate *r, bool throttled, double now);

#endif
