/*
 * Clocks (replaceable in tests) and dates.
 *
 * Microseconds are int64 since the epoch (wall) or any fixed point (mono).
 * Dates are UTC and know neither locale nor TZ; years 1 to 9999.
 */
#ifndef HGA_BASE_TIME_H
#define HGA_BASE_TIME_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

int64_t hga_wall_us(void);
int64_t hga_mono_us(void);
int64_t hga_mono_ms(void);

/* Replaces a clock; NULL restores the system's.  Tests only. */
void hga_clock_set(int64_t (*wall_us)(void), int64_t (*mono_us)(void));

struct hga_date {
	int year, month, day; /* 2026, 1-12, 1-31 */
	int hour, min, sec;
	int usec;
	int wday; /* 0 Sunday; ignored by hga_date_us */
};

/* Civil date of a time; values outside the years 1-9999 are clamped. */
void hga_date_of(int64_t us, struct hga_date *out);
/* Time of a civil date; second 60 counts as 59; false if not a date. */
bool hga_date_us(const struct hga_date *d, int64_t *us) HGA_MUST_USE;

enum hga_time_fmt {
	HGA_TIME_ISO,      /* 2026-11-22T14:03:30Z */
	HGA_TIME_ISO_MS,   /* 2026-11-22T14:03:30.123Z */
	HGA_TIME_ISO_AUTO, /* fraction only when there is one (up to us) */
	HGA_TIME_BASIC,    /* 20261122T140330Z (SigV4) */
	HGA_TIME_DAY,      /* 20261122 */
	HGA_TIME_HTTP      /* Sun, 22 Nov 2026 14:03:30 GMT */
};

#define HGA_TIME_TEXT 40

/* Text of a time in a caller's array; returns it. */
const char *hga_time_text(char out[HGA_TIME_TEXT], int64_t us,
                          enum hga_time_fmt fmt);

/*
 * Reads ISO 8601 / RFC 3339 (date, T or blank, optional fraction, Z or
 * offset; no zone means UTC; date alone; basic form 20261122T140330Z),
 * RFC 822/1123 and RFC 850 dates, asctime, or a number of epoch seconds with
 * optional fraction.  False when it is none of them.
 */
bool hga_time_parse(struct hga_str text, int64_t *us) HGA_MUST_USE;

/*
 * "90s", "20m", "2h", "1d", "500ms", "1h30m", or a bare number of seconds
 * ("90", "1.5") in milliseconds; false otherwise, also when negative or over
 * 100 years.
 */
bool hga_duration_parse(struct hga_str text, int64_t *ms) HGA_MUST_USE;

#endif
