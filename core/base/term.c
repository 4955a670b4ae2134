/* Terminal questions, display width, escape filter, single writer. */
#include "base/term.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/redact.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PENDING_MAX (1024 * 1024)
#define LINE_MAX_HELD 65536 /* a longer unfinished line is written anyway */

bool hga_term_isatty(int fd)
{
	return isatty(fd) == 1;
}

unsigned hga_term_width(int fd)
{
	const char *env = getenv("COLUMNS");
	struct winsize ws;
	uint64_t n;

	if (ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
		return ws.ws_col;
	if (env != NULL && hga_str_uint(hga_str(env), &n) && n > 0 && n < 10000)
		return (unsigned)n;
	return 80;
}

bool hga_term_utf8(void)
{
	static const char *const vars[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (size_t i = 0; i < 3; i++) {
		const char *v = getenv(vars[i]);

		if (v != NULL && v[0] != '\0')
			return strcasestr(v, "utf-8") != NULL ||
			       strcasestr(v, "utf8") != NULL;
	}
	return false;
}

static bool env_set(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && v[0] != '\0';
}

bool hga_term_color(int fd, enum hga_color choice)
{
	const char *force = getenv("CLICOLOR_FORCE");
	const char *term = getenv("TERM");

	if (choice != HGA_COLOR_AUTO)
		return choice == HGA_COLOR_ALWAYS;
	if (env_set("NO_COLOR"))
		return false;
	if (env_set("FORCE_COLOR") ||
	    (force != NULL && force[0] != '\0' && strcmp(force, "0") != 0))
		return true;
	return hga_term_isatty(fd) && term != NULL && strcmp(term, "dumb") != 0;
}

/* ---- width ---- */

struct range {
	uint32_t from, to;
};

/* Characters that take no column: combining marks, joiners, selectors. */
static const struct range zero[] = {
    {0x0300, 0x036f},   {0x0483, 0x0489},   {0x0591, 0x05bd},
    {0x05bf, 0x05bf},   {0x05c1, 0x05c2},   {0x05c4, 0x05c5},
    {0x0610, 0x061a},   {0x061c, 0x061c},   {0x064b, 0x065f},
    {0x0670, 0x0670},   {0x06d6, 0x06dc},   {0x06df, 0x06e4},
    {0x06e7, 0x06e8},   {0x06ea, 0x06ed},   {0x0900, 0x0902},
    {0x093a, 0x093a},   {0x093c, 0x093c},   {0x0941, 0x0948},
    {0x094d, 0x094d},   {0x0e31, 0x0e31},   {0x0e34, 0x0e3a},
    {0x0e47, 0x0e4e},   {0x1ab0, 0x1aff},   {0x1dc0, 0x1dff},
    {0x200b, 0x200f},   {0x202a, 0x202e},   {0x2060, 0x2064},
    {0x2066, 0x206f},   {0x20d0, 0x20ff},   {0xfe00, 0xfe0f},
    {0xfe20, 0xfe2f},   {0xfeff, 0xfeff},   {0x1f3fb, 0x1f3ff},
    {0xe0001, 0xe007f}, {0xe0100, 0xe01ef},
};

/* Characters that take two: East Asian wide and full width, emoji. */
static const struct range wide[] = {
    {0x1100, 0x115f},   {0x231a, 0x231b},   {0x2329, 0x232a},
    {0x23e9, 0x23ec},   {0x23f0, 0x23f0},   {0x23f3, 0x23f3},
    {0x25fd, 0x25fe},   {0x2614, 0x2615},   {0x2648, 0x2653},
    {0x267f, 0x267f},   {0x2693, 0x2693},   {0x26a1, 0x26a1},
    {0x26aa, 0x26ab},   {0x26bd, 0x26be},   {0x26c4, 0x26c5},
    {0x26ce, 0x26ce},   {0x26d4, 0x26d4},   {0x26ea, 0x26ea},
    {0x26f2, 0x26f3},   {0x26f5, 0x26f5},   {0x26fa, 0x26fa},
    {0x26fd, 0x26fd},   {0x2705, 0x2705},   {0x270a, 0x270b},
    {0x2728, 0x2728},   {0x274c, 0x274c},   {0x274e, 0x274e},
    {0x2753, 0x2755},   {0x2757, 0x2757},   {0x2795, 0x2797},
    {0x27b0, 0x27b0},   {0x27bf, 0x27bf},   {0x2b1b, 0x2b1c},
    {0x2b50, 0x2b50},   {0x2b55, 0x2b55},   {0x2e80, 0x303e},
    {0x3041, 0x33ff},   {0x3400, 0x4dbf},   {0x4e00, 0x9fff},
    {0xa000, 0xa4cf},   {0xa960, 0xa97f},   {0xac00, 0xd7a3},
    {0xf900, 0xfaff},   {0xfe10, 0xfe19},   {0xfe30, 0xfe6f},
    {0xff00, 0xff60},   {0xffe0, 0xffe6},   {0x16fe0, 0x18aff},
    {0x1b000, 0x1b2ff}, {0x1f004, 0x1f004}, {0x1f0cf, 0x1f0cf},
    {0x1f18e, 0x1f18e}, {0x1f191, 0x1f19a}, {0x1f200, 0x1f320},
    {0x1f32d, 0x1f335}, {0x1f337, 0x1f37c}, {0x1f37e, 0x1f393},
    {0x1f3a0, 0x1f3ca}, {0x1f3cf, 0x1f3d3}, {0x1f3e0, 0x1f3f0},
    {0x1f3f4, 0x1f3f4}, {0x1f3f8, 0x1f43e}, {0x1f440, 0x1f440},
    {0x1f442, 0x1f4fc}, {0x1f4ff, 0x1f53d}, {0x1f54b, 0x1f54e},
    {0x1f550, 0x1f567}, {0x1f57a, 0x1f57a}, {0x1f595, 0x1f596},
    {0x1f5a4, 0x1f5a4}, {0x1f5fb, 0x1f64f}, {0x1f680, 0x1f6c5},
    {0x1f6cc, 0x1f6cc}, {0x1f6d0, 0x1f6d2}, {0x1f6d5, 0x1f6d7},
    {0x1f6eb, 0x1f6ec}, {0x1f6f4, 0x1f6fc}, {0x1f7e0, 0x1f7eb},
    {0x1f90c, 0x1f93a}, {0x1f93c, 0x1f945}, {0x1f947, 0x1f9ff},
    {0x1fa70, 0x1faff}, {0x20000, 0x3fffd},
};

static bool in_table(uint32_t cp, const struct range *t, size_t n)
{
	size_t lo = 0;

	while (lo < n) {
		size_t mid = lo + (n - lo) / 2;

		if (cp > t[mid].to)
			lo = mid + 1;
		else
			n = mid;
	}
	/* n is now the first range that does not end before cp; the caller's
	 * n may be the table's end */
	return t[lo].from <= cp && cp <= t[lo].to;
}

static unsigned cp_columns(uint32_t cp)
{
	const size_t nz = sizeof(zero) / sizeof(zero[0]);
	const size_t nw = sizeof(wide) / sizeof(wide[0]);

	if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
		return 0;
	if (cp < 0x300)
		return 1;
	if (cp <= zero[nz - 1].to && in_table(cp, zero, nz))
		return 0;
	return cp <= wide[nw - 1].to && in_table(cp, wide, nw) ? 2 : 1;
}

struct hga_str hga_term_cut(struct hga_str text, size_t columns)
{
	size_t used = 0;
	size_t i = 0;

	while (i < text.n) {
		uint32_t cp = 0xfffd;
		size_t len =
		    hga_utf8_next(hga_strn(text.s + i, text.n - i), &cp);

		used += cp_columns(cp);
		if (used > columns)
			break;
		i += len ? len : 1;
	}
	return hga_strn(text.s, i);
}

size_t hga_term_columns(struct hga_str text)
{
	size_t used = 0;

	while (text.n > 0) {
		uint32_t cp = 0xfffd;
		size_t len = hga_utf8_next(text, &cp);

		used += cp_columns(cp);
		len = len ? len : 1;
		text = hga_strn(text.s + len, text.n - len);
	}
	return used;
}

/* ---- filter ---- */

static bool is_bidi(uint32_t cp)
{
	return cp == 0x61c || cp == 0x200e || cp == 0x200f ||
	       (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

/* Length of an SGR sequence (ESC [ digits ; : m) at the front, else 0. */
static size_t sgr_len(struct hga_str t)
{
	size_t i = 2;

	if (t.n < 3 || t.s[0] != '\x1b' || t.s[1] != '[')
		return 0;
	while (i < t.n && ((t.s[i] >= '0' && t.s[i] <= '9') || t.s[i] == ';' ||
	                   t.s[i] == ':'))
		i++;
	return i < t.n && t.s[i] == 'm' ? i + 1 : 0;
}

/* One character of t into out; returns bytes used or < 0. */
static int filter_char(struct hga_buf *out, struct hga_str t, size_t *used,
                       struct hga_err *err)
{
	uint32_t cp = 0;
	size_t len = hga_utf8_next(t, &cp);

	*used = sgr_len(t);
	if (*used > 0)
		return 0;
	*used = len ? len : 1;
	if (len == 0)
		return hga_buf_addf(out, err, "\\x%02x", (unsigned char)t.s[0]);
	if (cp == '\t' || (cp >= 0x20 && cp < 0x7f))
		return hga_buf_addc(out, t.s[0], err);
	if (cp < 0xa0)
		return hga_buf_addf(out, err, "\\x%02x", (unsigned)cp);
	if (is_bidi(cp))
		return hga_buf_addf(out, err, "\\u%04x", (unsigned)cp);
	return hga_buf_add(out, t.s, len, err);
}

/* What a terminal would show of a line with carriage returns: the last
 * segment that is not empty. */
static struct hga_str last_segment(struct hga_str line)
{
	size_t end = line.n;
	size_t from;

	while (end > 0 && line.s[end - 1] == '\r')
		end--;
	from = end;
	while (from > 0 && line.s[from - 1] != '\r')
		from--;
	return hga_strn(line.s + from, end - from);
}

int hga_term_filter(struct hga_buf *out, struct hga_str text,
                    struct hga_err *err)
{
	size_t from = 0;
	int r = 0;

	while (from < text.n && r == 0) {
		ptrdiff_t nl = hga_str_chr(text, '\n', from);
		size_t to = nl < 0 ? text.n : (size_t)nl;
		struct hga_str t =
		    last_segment(hga_strn(text.s + from, to - from));

		while (t.n > 0 && r == 0) {
			size_t used;

			r = filter_char(out, t, &used, err);
			t = hga_strn(t.s + used, t.n - used);
		}
		if (nl >= 0 && r == 0)
			r = hga_buf_addc(out, '\n', err);
		from = to + 1;
	}
	return r;
}

/* ---- writer ---- */

struct hga_term {
	struct {
		int fd;
		struct hga_buf pending;
		bool broken;
	} s[2];
};

struct hga_term *hga_term_new(int out_fd, int err_fd)
{
	struct hga_term *t = hga_calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->s[HGA_TERM_OUT].fd = out_fd;
	t->s[HGA_TERM_ERR].fd = err_fd;
	for (int i = 0; i < 2; i++)
		hga_buf_init(&t->s[i].pending, PENDING_MAX);
	return t;
}

void hga_term_free(struct hga_term *t)
{
	if (t == NULL)
		return;
	for (int i = 0; i < 2; i++) {
		/* the process ends: nobody is left to be told */
		(void)!hga_term_flush(t, (enum hga_term_stream)i, NULL);
		hga_buf_release(&t->s[i].pending);
	}
	hga_free(t);
}

bool hga_term_epipe(const struct hga_term *t, enum hga_term_stream stream)
{
	return t->s[stream].broken;
}

/* All bytes, also to a descriptor that somebody made non-blocking. */
static int put_all(int fd, struct hga_str s)
{
	while (s.n > 0) {
		struct pollfd p = {fd, POLLOUT, 0};
		ssize_t n = write(fd, s.s, s.n);

		if (n >= 0) {
			s = hga_strn(s.s + n, s.n - (size_t)n);
			continue;
		}
		if (errno == EAGAIN && (poll(&p, 1, -1) >= 0 || errno == EINTR))
			continue;
		if (errno != EINTR)
			return errno;
	}
	return 0;
}

/* Writes the first n pending bytes, redacted, in one write. */
static int put_pending(struct hga_term *t, enum hga_term_stream stream,
                       size_t n, struct hga_err *err)
{
	struct hga_buf *pending = &t->s[stream].pending;
	struct hga_buf safe;
	int sys = 0;
	int r;

	hga_buf_init(&safe, (size_t)PENDING_MAX * 2);
	r = hga_redact_text(hga_log_redact(),
	                    hga_strn(hga_buf_text(pending), n), &safe, err);
	if (r == 0)
		sys = put_all(t->s[stream].fd, hga_buf_str(&safe));
	if (sys == EPIPE)
		t->s[stream].broken = true;
	else if (sys != 0)
		r = hga_fail(err, HGA_IO, sys, "Output", "cannot write to %s",
		             stream == HGA_TERM_OUT ? "stdout" : "stderr");
	hga_buf_consume(pending, n);
	hga_buf_release_secret(&safe);
	return r;
}

/* Up to and with the last newline, 0 without one. */
static size_t whole_lines(const struct hga_buf *b)
{
	const char *nl = b->len ? memrchr(b->data, '\n', b->len) : NULL;

	if (nl != NULL)
		return (size_t)(nl - b->data) + 1;
	return b->len > LINE_MAX_HELD ? b->len : 0;
}

int hga_term_write(struct hga_term *t, enum hga_term_stream stream,
                   struct hga_str text, struct hga_err *err)
{
	int r = 0;

	while (text.n > 0 && r == 0 && !t->s[stream].broken) {
		size_t part =
		    text.n < PENDING_MAX / 2 ? text.n : PENDING_MAX / 2;
		size_t n;

		r = hga_buf_add(&t->s[stream].pending, text.s, part, err);
		n = whole_lines(&t->s[stream].pending);
		if (r == 0 && n > 0)
			r = put_pending(t, stream, n, err);
		text = hga_strn(text.s + part, text.n - part);
	}
	return r;
}

int hga_term_flush(struct hga_term *t, enum hga_term_stream stream,
                   struct hga_err *err)
{
	size_t n = t->s[stream].pending.len;

	if (t->s[stream].broken || n == 0)
		return 0;
	return put_pending(t, stream, n, err);
}
