/* Clocks and dates; civil calendar arithmetic on days of 400-year eras. */
#include "base/time.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define US 1000000
#define DAY_S 86400
#define YEAR1_S (-62135596800)  /* 0001-01-01 */
#define YEAR9999_S 253402300799 /* 9999-12-31T23:59:59 */

/* Test replacements; see hga_clock_set. */
static int64_t (*wall_fn)(void);
static int64_t (*mono_fn)(void);

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) != 0)
		return 0;
	return (int64_t)ts.tv_sec * US + ts.tv_nsec / 1000;
}

int64_t hga_wall_us(void)
{
	return wall_fn != NULL ? wall_fn() : read_clock(CLOCK_REALTIME);
}

int64_t hga_mono_us(void)
{
	return mono_fn != NULL ? mono_fn() : read_clock(CLOCK_MONOTONIC);
}

int64_t hga_mono_ms(void)
{
	return hga_mono_us() / 1000;
}

void hga_clock_set(int64_t (*wall_us)(void), int64_t (*mono_us)(void))
{
	wall_fn = wall_us;
	mono_fn = mono_us;
}

/* Quotient rounded down, b > 0. */
static int64_t div_floor(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Days since 1970-01-01.  The year starts in March here, so that the leap
 * day is its last; an era is 400 years or 146097 days. */
static int64_t days_of(int64_t y, int m, int d)
{
	int64_t era;
	int64_t yoe;
	int64_t doy;

	if (m <= 2)
		y--;
	era = div_floor(y, 400);
	yoe = y - era * 400;
	doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void civil_of(int64_t days, struct hga_date *out)
{
	int64_t z = days + 719468;
	int64_t era = div_floor(z, 146097);
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;

	out->day = (int)(doy - (153 * mp + 2) / 5 + 1);
	out->month = (int)(mp < 10 ? mp + 3 : mp - 9);
	out->year = (int)(yoe + era * 400 + (out->month <= 2));
	out->wday = (int)((days % 7 + 11) % 7); /* day 0 was a Thursday */
}

void hga_date_of(int64_t us, struct hga_date *out)
{
	int64_t rest;
	int64_t s;

	if (us < YEAR1_S * US)
		us = YEAR1_S * US;
	if (us > YEAR9999_S * US + US - 1)
		us = YEAR9999_S * US + US - 1;
	s = div_floor(us, US);
	out->usec = (int)(us - s * US);
	civil_of(div_floor(s, DAY_S), out);
	rest = s - div_floor(s, DAY_S) * DAY_S;
	out->hour = (int)(rest / 3600);
	out->min = (int)(rest / 60 % 60);
	out->sec = (int)(rest % 60);
}

static int month_days(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30,
	                           31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

bool hga_date_us(const struct hga_date *d, int64_t *us)
{
	int64_t s;

	if (d->year < 1 || d->year > 9999 || d->month < 1 || d->month > 12 ||
	    d->day < 1 || d->day > month_days(d->year, d->month) ||
	    d->hour < 0 || d->hour > 23 || d->min < 0 || d->min > 59 ||
	    d->sec < 0 || d->sec > 60 || d->usec < 0 || d->usec >= US)
		return false;
	s = days_of(d->year, d->month, d->day) * DAY_S + d->hour * 3600 +
	    d->min * 60 + (d->sec == 60 ? 59 : d->sec);
	*us = s * US + d->usec;
	return true;
}

static const char days3[] = "SunMonTueWedThuFriSat";
static const char months3[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

/* ".5", ".123456" without trailing zeros, or "". */
static void fraction(char out[16], int usec)
{
	size_t n;

	out[0] = '\0';
	if (usec == 0)
		return;
	(void)snprintf(out, 16, ".%06d", usec % US);
	for (n = 7; out[n - 1] == '0'; n--)
		out[n - 1] = '\0';
}

const char *hga_time_text(char out[HGA_TIME_TEXT], int64_t us,
                          enum hga_time_fmt fmt)
{
	struct hga_date d;
	char frac[16] = "";

	hga_date_of(us, &d);
	if (fmt == HGA_TIME_ISO_AUTO)
		fraction(frac, d.usec);
	if (fmt == HGA_TIME_ISO_MS)
		(void)snprintf(frac, sizeof(frac), ".%03d",
		               d.usec / 1000 % 1000);
	switch (fmt) {
	case HGA_TIME_ISO:
	case HGA_TIME_ISO_MS:
	case HGA_TIME_ISO_AUTO:
		(void)snprintf(out, HGA_TIME_TEXT,
		               "%04d-%02d-%02dT%02d:%02d:%02d%sZ", d.year,
		               d.month, d.day, d.hour, d.min, d.sec, frac);
		break;
	case HGA_TIME_BASIC:
		(void)snprintf(out, HGA_TIME_TEXT, "%04d%02d%02dT%02d%02d%02dZ",
		               d.year, d.month, d.day, d.hour, d.min, d.sec);
		break;
	case HGA_TIME_DAY:
		(void)snprintf(out, HGA_TIME_TEXT, "%04d%02d%02d", d.year,
		               d.month, d.day);
		break;
	case HGA_TIME_HTTP:
		(void)snprintf(out, HGA_TIME_TEXT,
		               "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
		               days3 + (size_t)d.wday * 3, d.day,
		               months3 + ((size_t)d.month - 1) * 3, d.year,
		               d.hour, d.min, d.sec);
		break;
	}
	return out;
}

/* ---- reading ---- */

/* What is left of the text being read. */
struct scan {
	const char *s, *end;
};

static bool eat(struct scan *c, char ch)
{
	if (c->s == c->end || *c->s != ch)
		return false;
	c->s++;
	return true;
}

static void skip_blanks(struct scan *c)
{
	while (c->s < c->end && (*c->s == ' ' || *c->s == '\t'))
		c->s++;
}

static bool digit_next(const struct scan *c)
{
	return c->s < c->end && *c->s >= '0' && *c->s <= '9';
}

/* Between min and max digits. */
static bool number(struct scan *c, int min, int max, int *out)
{
	int n = 0;

	*out = 0;
	while (n < max && digit_next(c)) {
		*out = *out * 10 + (*c->s++ - '0');
		n++;
	}
	return n >= min;
}

/* Digits after a point as microseconds; further ones are dropped. */
static bool read_fraction(struct scan *c, int *usec)
{
	int scale = US / 10;

	*usec = 0;
	if (!digit_next(c))
		return false;
	for (; digit_next(c); c->s++) {
		*usec += (*c->s - '0') * scale;
		scale /= 10;
	}
	return true;
}

/* Index (0-based) of three letters in a table of such, any case. */
static bool name3(struct scan *c, const char *table, int *out)
{
	struct hga_str w = {c->s, 3};

	if (c->end - c->s < 3)
		return false;
	for (int i = 0; table[i * 3] != '\0'; i++) {
		if (!hga_str_ieq(w, hga_strn(table + (ptrdiff_t)i * 3, 3)))
			continue;
		*out = i;
		c->s += 3;
		return true;
	}
	return false;
}

static void skip_letters(struct scan *c)
{
	while (c->s < c->end && ((*c->s >= 'a' && *c->s <= 'z') ||
	                         (*c->s >= 'A' && *c->s <= 'Z')))
		c->s++;
}

/* "", Z, +hh:mm, +hhmm, +hh, GMT, UTC, UT, EST... in seconds. */
static bool zone(struct scan *c, int *off_s)
{
	static const struct {
		const char *name;
		int hours;
	} names[] = {{"Z", 0},    {"GMT", 0},  {"UTC", 0},  {"UT", 0},
	             {"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
	             {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};
	const char *from = c->s;
	int h;
	int m = 0;

	*off_s = 0;
	if (c->s == c->end)
		return true;
	if (*c->s == '+' || *c->s == '-') {
		c->s++;
		if (!number(c, 2, 2, &h))
			return false;
		(void)eat(c, ':'); /* optional */
		if (c->s < c->end && !number(c, 2, 2, &m))
			return false;
		*off_s = (h * 3600 + m * 60) * (*from == '-' ? -1 : 1);
		return h < 24 && m < 60;
	}
	skip_letters(c);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (hga_str_ieqc(hga_strn(from, (size_t)(c->s - from)),
		                 names[i].name)) {
			*off_s = names[i].hours * 3600;
			return true;
		}
	return false;
}

static bool clock_part(struct scan *c, struct hga_date *d)
{
	return number(c, 2, 2, &d->hour) && eat(c, ':') &&
	       number(c, 2, 2, &d->min) &&
	       (!eat(c, ':') || number(c, 2, 2, &d->sec));
}

static bool to_us(const struct hga_date *d, int off_s, int64_t *us)
{
	if (!hga_date_us(d, us))
		return false;
	*us -= (int64_t)off_s * US;
	return true;
}

static bool parse_iso(struct scan c, int64_t *us)
{
	struct hga_date d;
	int off = 0;
	bool basic;

	memset(&d, 0, sizeof(d));
	if (!number(&c, 4, 4, &d.year))
		return false;
	basic = !eat(&c, '-');
	if (!number(&c, 2, 2, &d.month) || (!basic && !eat(&c, '-')) ||
	    !number(&c, 2, 2, &d.day))
		return false;
	if (c.s == c.end)
		return to_us(&d, 0, us);
	if (!eat(&c, 'T') && !eat(&c, 't') && !eat(&c, ' '))
		return false;
	if (basic) {
		if (!number(&c, 2, 2, &d.hour) || !number(&c, 2, 2, &d.min) ||
		    !number(&c, 2, 2, &d.sec))
			return false;
	} else if (!clock_part(&c, &d)) {
		return false;
	}
	if ((eat(&c, '.') || eat(&c, ',')) && !read_fraction(&c, &d.usec))
		return false;
	skip_blanks(&c);
	return zone(&c, &off) && c.s == c.end && to_us(&d, off, us);
}

/* "[Sun, ]22 Nov 2026 14:03:30 GMT", "Sunday, 22-Nov-26 14:03:30 GMT" */
static bool parse_rfc(struct scan c, int64_t *us)
{
	struct hga_date d;
	const char *year;
	int off = 0;
	int wday;

	memset(&d, 0, sizeof(d));
	if (name3(&c, days3, &wday)) {
		skip_letters(&c);
		if (!eat(&c, ','))
			return false;
		skip_blanks(&c);
	}
	if (!number(&c, 1, 2, &d.day))
		return false;
	if (!eat(&c, '-'))
		skip_blanks(&c);
	if (!name3(&c, months3, &d.month))
		return false;
	d.month++;
	if (!eat(&c, '-'))
		skip_blanks(&c);
	year = c.s;
	if (!number(&c, 2, 4, &d.year))
		return false;
	if (c.s - year == 2) /* RFC 2822 section 4.3 */
		d.year += d.year < 50 ? 2000 : 1900;
	skip_blanks(&c);
	if (!clock_part(&c, &d))
		return false;
	if (eat(&c, '.') && !read_fraction(&c, &d.usec))
		return false;
	skip_blanks(&c);
	return zone(&c, &off) && c.s == c.end && to_us(&d, off, us);
}

/* "Sun Nov 22 14:03:30 2026" */
static bool parse_asctime(struct scan c, int64_t *us)
{
	struct hga_date d;
	int wday;

	memset(&d, 0, sizeof(d));
	if (!name3(&c, days3, &wday) || !eat(&c, ' ') ||
	    !name3(&c, months3, &d.month))
		return false;
	d.month++;
	skip_blanks(&c);
	if (!number(&c, 1, 2, &d.day))
		return false;
	skip_blanks(&c);
	if (!clock_part(&c, &d) || !eat(&c, ' ') || !number(&c, 4, 4, &d.year))
		return false;
	return c.s == c.end && to_us(&d, 0, us);
}

static bool parse_epoch(struct hga_str t, int64_t *us)
{
	double v;

	/* exact for plain integers; 8 digits are a basic date */
	if (hga_str_int(t, us))
		return !__builtin_mul_overflow(*us, (int64_t)US, us);
	if (!hga_str_num(t, &v) || v < -1e12 || v > 1e12)
		return false;
	*us = (int64_t)(v * US + (v < 0 ? -0.5 : 0.5));
	return true;
}

bool hga_time_parse(struct hga_str text, int64_t *us)
{
	struct hga_str t = hga_str_trim(text);
	struct scan c = {t.s, t.s + t.n};

	if (t.n == 0 || t.n > 64)
		return false;
	return (t.n >= 8 && parse_iso(c, us)) || parse_rfc(c, us) ||
	       parse_asctime(c, us) || parse_epoch(t, us);
}

/* Milliseconds of the unit at the front of c; 0 when there is none. */
static int64_t unit_ms(struct scan *c)
{
	static const struct {
		const char *name;
		int64_t ms;
	} units[] = {{"ms", 1},
	             {"s", 1000},
	             {"m", 60000},
	             {"h", 3600000},
	             {"d", 86400000}};
	const char *from = c->s;
	struct hga_str w;

	skip_letters(c);
	w = hga_strn(from, (size_t)(c->s - from));
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (hga_str_eqc(w, units[i].name))
			return units[i].ms;
	return 0;
}

bool hga_duration_parse(struct hga_str text, int64_t *ms)
{
	const double limit = 100.0 * 366 * 86400 * 1000;
	struct scan c = {text.s, text.s + text.n};
	double sum = 0;
	double v;

	if (text.n == 0 || text.n > 64 || !digit_next(&c))
		return false;
	if (hga_str_num(text, &v)) {
		sum = v * 1000;
		c.s = c.end;
	}
	while (c.s < c.end) {
		const char *from = c.s;
		int64_t unit;

		while (digit_next(&c) || (c.s < c.end && *c.s == '.'))
			c.s++;
		if (!hga_str_num(hga_strn(from, (size_t)(c.s - from)), &v))
			return false;
		unit = unit_ms(&c);
		if (unit == 0)
			return false;
		sum += v * (double)unit;
	}
	if (!(sum >= 0 && sum <= limit))
		return false;
	*ms = (int64_t)(sum + 0.5);
	return true;
}
