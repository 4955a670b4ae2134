/* Views of text, numbers and coders (RFC 4648, RFC 3986); see the header. */
#include "base/str.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned char lower(char c)
{
	unsigned char u = (unsigned char)c;

	return u >= 'A' && u <= 'Z' ? (unsigned char)(u + 32) : u;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool hga_str_eq(struct hga_str a, struct hga_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0);
}

bool hga_str_eqc(struct hga_str a, const char *b)
{
	return hga_str_eq(a, hga_str(b));
}

bool hga_str_ieq(struct hga_str a, struct hga_str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (lower(a.s[i]) != lower(b.s[i]))
			return false;
	return true;
}

bool hga_str_ieqc(struct hga_str a, const char *b)
{
	return hga_str_ieq(a, hga_str(b));
}

int hga_str_cmp(struct hga_str a, struct hga_str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int r = n ? memcmp(a.s, b.s, n) : 0;

	if (r != 0)
		return r;
	return a.n < b.n ? -1 : a.n > b.n;
}

bool hga_str_starts(struct hga_str a, const char *prefix)
{
	size_t n = strlen(prefix);

	return a.n >= n && (n == 0 || memcmp(a.s, prefix, n) == 0);
}

bool hga_str_ends(struct hga_str a, const char *suffix)
{
	size_t n = strlen(suffix);

	return a.n >= n && (n == 0 || memcmp(a.s + a.n - n, suffix, n) == 0);
}

struct hga_str hga_str_trim(struct hga_str a)
{
	while (a.n > 0 && is_blank(a.s[0])) {
		a.s++;
		a.n--;
	}
	while (a.n > 0 && is_blank(a.s[a.n - 1]))
		a.n--;
	return a;
}

ptrdiff_t hga_str_chr(struct hga_str a, char c, size_t from)
{
	const char *p;

	if (from >= a.n)
		return -1;
	p = memchr(a.s + from, (unsigned char)c, a.n - from);
	return p ? p - a.s : -1;
}

ptrdiff_t hga_str_find(struct hga_str a, struct hga_str needle)
{
	const char *p;

	if (needle.n == 0)
		return 0;
	if (a.n == 0)
		return -1;
	p = memmem(a.s, a.n, needle.s, needle.n);
	return p ? p - a.s : -1;
}

bool hga_str_glob(struct hga_str p, struct hga_str t)
{
	size_t pi = 0;
	size_t ti = 0;
	size_t star = SIZE_MAX; /* last * seen, and where it stands in t */
	size_t mark = 0;

	while (ti < t.n) {
		if (pi < p.n && p.s[pi] == '*') {
			star = pi++;
			mark = ti;
		} else if (pi < p.n && (p.s[pi] == '?' || p.s[pi] == t.s[ti])) {
			pi++;
			ti++;
		} else if (star != SIZE_MAX) {
			pi = star + 1;
			ti = ++mark;
		} else {
			return false;
		}
	}
	while (pi < p.n && p.s[pi] == '*')
		pi++;
	return pi == p.n;
}

bool hga_str_uint(struct hga_str a, uint64_t *out)
{
	uint64_t v = 0;

	if (a.n == 0)
		return false;
	for (size_t i = 0; i < a.n; i++) {
		if (!is_digit(a.s[i]) ||
		    __builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(a.s[i] - '0'), &v))
			return false;
	}
	*out = v;
	return true;
}

bool hga_str_int(struct hga_str a, int64_t *out)
{
	bool neg = a.n > 0 && a.s[0] == '-';
	uint64_t v;

	if (a.n > 0 && (a.s[0] == '-' || a.s[0] == '+'))
		a = hga_strn(a.s + 1, a.n - 1);
	if (!hga_str_uint(a, &v))
		return false;
	if (!neg && v > INT64_MAX)
		return false;
	if (neg && v > (uint64_t)INT64_MAX + 1)
		return false;
	/* -(v - 1) - 1 stays in range for the smallest number, too */
	*out = neg && v > 0 ? -(int64_t)(v - 1) - 1 : (int64_t)v;
	return true;
}

/* [+-] digits [. digits] [e [+-] digits], at least one digit before e. */
static bool num_syntax(struct hga_str a)
{
	size_t i = 0;
	size_t digits = 0;

	if (i < a.n && (a.s[i] == '+' || a.s[i] == '-'))
		i++;
	for (; i < a.n && is_digit(a.s[i]); i++)
		digits++;
	if (i < a.n && a.s[i] == '.')
		for (i++; i < a.n && is_digit(a.s[i]); i++)
			digits++;
	if (digits == 0)
		return false;
	if (i == a.n)
		return true;
	if (a.s[i] != 'e' && a.s[i] != 'E')
		return false;
	i++;
	if (i < a.n && (a.s[i] == '+' || a.s[i] == '-'))
		i++;
	if (i == a.n)
		return false;
	for (; i < a.n; i++)
		if (!is_digit(a.s[i]))
			return false;
	return true;
}

/* glibc gives its static "C" object: nothing is allocated or to be freed. */
static locale_t c_locale(void)
{
	return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool hga_str_num(struct hga_str a, double *out)
{
	char tmp[1024];
	double v;

	if (a.n >= sizeof(tmp) || !num_syntax(a))
		return false;
	memcpy(tmp, a.s, a.n);
	tmp[a.n] = '\0';
	v = strtod_l(tmp, NULL, c_locale());
	if (!isfinite(v))
		return false;
	*out = v;
	return true;
}

size_t hga_num_text(char out[32], double v)
{
	locale_t old;

	if (!isfinite(v))
		return (size_t)snprintf(
		    out, 32, "%s", isnan(v) ? "nan" : (v < 0 ? "-inf" : "inf"));
	old = uselocale(c_locale());
	for (int prec = 15; prec <= 17; prec++) {
		(void)snprintf(out, 32, "%.*g", prec, v);
		if (strtod(out, NULL) == v)
			break;
	}
	(void)uselocale(old);
	if (strpbrk(out, ".e") == NULL)
		memcpy(out + strlen(out), ".0", 3);
	return strlen(out);
}

int hga_hex_encode(struct hga_buf *out, const void *p, size_t n,
                   struct hga_err *err)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *b = p;
	size_t need;
	int r;

	if (__builtin_mul_overflow(n, (size_t)2, &need))
		return hga_fail(err, HGA_MEMORY, 0, "NoMemory", "too large");
	r = hga_buf_reserve(out, need, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		out->data[out->len++] = digits[b[i] >> 4];
		out->data[out->len++] = digits[b[i] & 15];
	}
	out->data[out->len] = '\0';
	return 0;
}

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hga_hex_decode(struct hga_buf *out, struct hga_str hex, struct hga_err *err)
{
	size_t start = out->len;
	int r;

	if (hex.n % 2 != 0)
		return hga_fail(err, HGA_PROTOCOL, 0, "Hex",
		                "odd number of hex digits");
	r = hga_buf_reserve(out, hex.n / 2, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < hex.n; i += 2) {
		int hi = hex_value(hex.s[i]);
		int lo = hex_value(hex.s[i + 1]);

		if (hi < 0 || lo < 0) {
			hga_buf_truncate(out, start);
			return hga_fail(err, HGA_PROTOCOL, 0, "Hex",
			                "not a hex digit at %zu", i);
		}
		out->data[out->len++] = (char)(hi << 4 | lo);
	}
	out->data[out->len] = '\0';
	return 0;
}

int hga_b64_encode(struct hga_buf *out, const void *p, size_t n,
                   struct hga_err *err)
{
	static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                          "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *b = p;
	int r;

	if (n > SIZE_MAX / 2)
		return hga_fail(err, HGA_MEMORY, 0, "NoMemory", "too large");
	r = hga_buf_reserve(out, (n + 2) / 3 * 4, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)b[i] << 16;

		if (i + 1 < n)
			v |= (uint32_t)b[i + 1] << 8;
		if (i + 2 < n)
			v |= b[i + 2];
		out->data[out->len++] = abc[v >> 18];
		out->data[out->len++] = abc[v >> 12 & 63];
		out->data[out->len++] = i + 1 < n ? abc[v >> 6 & 63] : '=';
		out->data[out->len++] = i + 2 < n ? abc[v & 63] : '=';
	}
	if (out->data != NULL)
		out->data[out->len] = '\0';
	return 0;
}

/* Value of a character of either alphabet; 64: it is none. */
static const uint8_t b64_values[256] = {
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 62, 64, 62, 64, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60,
    61, 64, 64, 64, 64, 64, 64, 64, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 64, 64, 64, 64,
    63, 64, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42,
    43, 44, 45, 46, 47, 48, 49, 50, 51, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 64, 64, 64, 64, 64, 64, 64,
};

static int b64_value(char c)
{
	uint8_t v = b64_values[(uint8_t)c];

	return v < 64 ? v : -1;
}

/* Whole groups of four from position i on; returns the position after the
 * last one.  out has room. */
static size_t b64_groups(struct hga_buf *out, struct hga_str b64, size_t i)
{
	const uint8_t *s = (const uint8_t *)b64.s;
	char *to = out->data + out->len;

	for (; i + 4 <= b64.n; i += 4, to += 3) {
		uint32_t a = b64_values[s[i]], b = b64_values[s[i + 1]];
		uint32_t c = b64_values[s[i + 2]], d = b64_values[s[i + 3]];

		if (((a | b | c | d) & 64) != 0)
			break;
		a = a << 18 | b << 12 | c << 6 | d;
		to[0] = (char)(a >> 16);
		to[1] = (char)(a >> 8);
		to[2] = (char)a;
	}
	out->len = (size_t)(to - out->data);
	return i;
}

static int not_base64(struct hga_err *err)
{
	return hga_fail(err, HGA_PROTOCOL, 0, "Base64", "not base64");
}

/* One character that is no blank; false: it cannot be here. */
static bool b64_char(struct hga_b64 *d, struct hga_buf *out, char c)
{
	int v = b64_value(c);

	if (c == '=' && d->have >= 2 && d->pad + d->have < 4) {
		d->pad++;
		return true;
	}
	if (v < 0 || d->pad > 0)
		return false;
	d->acc = d->acc << 6 | (uint32_t)v;
	if (++d->have < 4)
		return true;
	out->data[out->len++] = (char)(d->acc >> 16);
	out->data[out->len++] = (char)(d->acc >> 8);
	out->data[out->len++] = (char)d->acc;
	d->acc = 0;
	d->have = 0;
	return true;
}

int hga_b64_feed(struct hga_b64 *d, struct hga_buf *out, struct hga_str b64,
                 struct hga_err *err)
{
	size_t start = out->len, i = 0;
	int r = hga_buf_reserve(out, b64.n / 4 * 3 + 3, err);

	if (r < 0)
		return r;
	while (i < b64.n) {
		if (d->have == 0 && d->pad == 0)
			i = b64_groups(out, b64, i);
		if (i < b64.n && !is_blank(b64.s[i]) &&
		    !b64_char(d, out, b64.s[i])) {
			hga_buf_truncate(out, start);
			return not_base64(err);
		}
		i++;
	}
	out->data[out->len] = '\0';
	return 0;
}

int hga_b64_end(const struct hga_b64 *d, struct hga_buf *out,
                struct hga_err *err)
{
	int r = 0;

	if (d->have == 1 || (d->pad > 0 && d->pad + d->have != 4))
		return not_base64(err);
	if (d->have >= 2)
		r = hga_buf_addc(out, (char)(d->acc >> (d->have == 2 ? 4 : 10)),
		                 err);
	if (r == 0 && d->have == 3)
		r = hga_buf_addc(out, (char)(d->acc >> 2), err);
	return r;
}

int hga_b64_decode(struct hga_buf *out, struct hga_str b64, struct hga_err *err)
{
	struct hga_b64 d = {0};
	size_t start = out->len;
	int r = hga_b64_feed(&d, out, b64, err);

	if (r == 0)
		r = hga_b64_end(&d, out, err);
	if (r < 0)
		hga_buf_truncate(out, start);
	return r;
}

static bool unreserved(char c)
{
	return is_digit(c) || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') || c == '-' || c == '_' || c == '.' ||
	       c == '~';
}

int hga_pct_encode(struct hga_buf *out, struct hga_str text, const char *safe,
                   struct hga_err *err)
{
	static const char digits[] = "0123456789ABCDEF";
	int r = 0;

	for (size_t i = 0; i < text.n && r == 0; i++) {
		unsigned char c = (unsigned char)text.s[i];
		char esc[3] = {'%', digits[c >> 4], digits[c & 15]};

		if (unreserved(text.s[i]) ||
		    (c != 0 && strchr(safe, c) != NULL))
			r = hga_buf_addc(out, text.s[i], err);
		else
			r = hga_buf_add(out, esc, 3, err);
	}
	return r;
}

int hga_pct_decode(struct hga_buf *out, struct hga_str text, bool plus,
                   struct hga_err *err)
{
	int r = hga_buf_reserve(out, text.n, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.s[i];

		if (c == '%' && text.n - i > 2 &&
		    hex_value(text.s[i + 1]) >= 0 &&
		    hex_value(text.s[i + 2]) >= 0) {
			c = (char)(hex_value(text.s[i + 1]) << 4 |
			           hex_value(text.s[i + 2]));
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		out->data[out->len++] = c;
	}
	out->data[out->len] = '\0';
	return 0;
}

size_t hga_utf8_next(struct hga_str a, uint32_t *cp)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *s = (const unsigned char *)a.s;
	uint32_t v;
	size_t len;

	if (a.n == 0)
		return 0;
	v = s[0];
	len = v < 0x80 ? 1 : v >= 0xf0 ? 4 : v >= 0xe0 ? 3 : 2;
	if (len > 1) {
		if (v < 0xc2 || v > 0xf4 || a.n < len)
			return 0;
		v &= 0xffu >> (len + 1);
	}
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (s[i] & 0x3fu);
	}
	if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return 0;
	if (cp != NULL)
		*cp = v;
	return len;
}

bool hga_utf8_valid(struct hga_str a)
{
	while (a.n > 0) {
		size_t len = hga_utf8_next(a, NULL);

		if (len == 0)
			return false;
		a = hga_strn(a.s + len, a.n - len);
	}
	return true;
}

size_t hga_utf8_put(char out[4], uint32_t cp)
{
	size_t len;

	if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
		cp = 0xfffd;
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	for (size_t i = len - 1; i > 0; i--) {
		out[i] = (char)(0x80 | (cp & 0x3f));
		cp >>= 6;
	}
	out[0] = (char)((0xff00u >> len & 0xff) | cp); /* c0, e0, f0 */
	return len;
}

#define DIST_MAX 64

static size_t min2(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t hga_str_distance(struct hga_str a, struct hga_str b)
{
	size_t rows[3][DIST_MAX + 1]; /* i-2, i-1, i in turn */

	if (a.n > DIST_MAX || b.n > DIST_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.n; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		size_t *cur = rows[i % 3];
		const size_t *prev = rows[(i + 2) % 3];
		const size_t *prev2 = rows[(i + 1) % 3];

		cur[0] = i;
		for (size_t j = 1; j <= b.n; j++) {
			unsigned char x = lower(a.s[i - 1]);
			unsigned char y = lower(b.s[j - 1]);

			cur[j] = min2(min2(prev[j], cur[j - 1]) + 1,
			              prev[j - 1] + (x != y));
			if (i > 1 && j > 1 && x == lower(b.s[j - 2]) &&
			    lower(a.s[i - 2]) == y)
				cur[j] = min2(cur[j], prev2[j - 2] + 1);
		}
	}
	return rows[a.n % 3][b.n];
}
