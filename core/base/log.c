/* The log; see the header.  Records are redacted before any sink. */
#include "base/log.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/redact.h"
#include "base/time.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX (16 * 1024)
#define FORGOTTEN 16

/* The process's log. */
static struct hga_log_sink *sinks;
static struct hga_redact *redactor;
static bool busy;
/* The last secrets that were forgotten, still registered. */
static struct {
	char *s;
	size_t n;
} forgotten[FORGOTTEN];
static size_t next_forgotten;

static const char *const names[] = {"trace", "debug", "info",
                                    "warn",  "error", "none"};
static const char letters[] = "TDIWE-";

void hga_log_add(struct hga_log_sink *sink)
{
	hga_log_remove(sink);
	sink->next = sinks;
	sinks = sink;
}

void hga_log_remove(struct hga_log_sink *sink)
{
	struct hga_log_sink **p = &sinks;

	while (*p != NULL && *p != sink)
		p = &(*p)->next;
	if (*p != NULL)
		*p = sink->next;
}

bool hga_log_wants(enum hga_log_level level)
{
	for (const struct hga_log_sink *s = sinks; s != NULL; s = s->next)
		if (level >= s->level && level < HGA_LOG_NONE)
			return true;
	return false;
}

bool hga_log_level_find(const char *name, enum hga_log_level *out)
{
	for (unsigned i = 0; i <= HGA_LOG_NONE; i++)
		if (strcmp(names[i], name) == 0) {
			*out = (enum hga_log_level)i;
			return true;
		}
	return false;
}

const char *hga_log_level_name(enum hga_log_level level)
{
	return names[level];
}

struct hga_redact *hga_log_redact(void)
{
	if (redactor == NULL)
		redactor = hga_redact_new();
	return redactor;
}

void hga_log_secret(struct hga_str secret)
{
	struct hga_redact *r = hga_log_redact();

	/* without memory nothing more can be done here; short ones would
	 * blank out innocent text */
	if (r != NULL && hga_redact_add(r, secret, NULL) < 0)
		return;
}

static void drop_forgotten(size_t i)
{
	struct hga_str s = hga_strn(forgotten[i].s, forgotten[i].n);

	if (s.s == NULL)
		return;
	if (redactor != NULL)
		hga_redact_drop(redactor, s);
	hga_wipe(forgotten[i].s, s.n);
	hga_free(forgotten[i].s);
	forgotten[i].s = NULL;
}

void hga_log_forget(struct hga_str secret)
{
	char *copy;

	if (secret.n < HGA_REDACT_MIN || redactor == NULL)
		return;
	copy = hga_memdup0(secret.s, secret.n);
	if (copy == NULL)
		return; /* it stays registered */
	drop_forgotten(next_forgotten);
	forgotten[next_forgotten].s = copy;
	forgotten[next_forgotten].n = secret.n;
	next_forgotten = (next_forgotten + 1) % FORGOTTEN;
}

void hga_log_release(void)
{
	for (size_t i = 0; i < FORGOTTEN; i++)
		drop_forgotten(i);
	hga_redact_free(redactor);
	redactor = NULL;
	sinks = NULL;
}

static void give(const struct hga_log_rec *rec)
{
	struct hga_log_sink *next;

	for (struct hga_log_sink *s = sinks; s != NULL; s = next) {
		next = s->next;
		if (rec->level >= s->level)
			s->write(s, rec);
	}
}

static struct hga_str trim_newline(struct hga_str s)
{
	while (s.n > 0 && (s.s[s.n - 1] == '\n' || s.s[s.n - 1] == '\r'))
		s.n--;
	return s;
}

static void record(enum hga_log_level level, char letter, const char *label,
                   struct hga_str text)
{
	static const char lost[] = "(record lost: out of memory)";
	struct hga_log_rec rec = {
	    level, letter, hga_wall_us(), label ? label : "", {NULL, 0}};
	struct hga_buf a;
	struct hga_buf b;
	int r;

	if (busy)
		return;
	busy = true;
	if (text.n > TEXT_MAX)
		text.n = TEXT_MAX;
	hga_buf_init(&a, (size_t)TEXT_MAX * 2);
	hga_buf_init(&b, (size_t)TEXT_MAX * 4);
	r = hga_redact_text(redactor, trim_newline(text), &a, NULL);
	if (r == 0)
		r = hga_redact_shapes(hga_buf_str(&a), &b, NULL);
	/* what could not be redacted is not shown */
	rec.text = r == 0 ? hga_buf_str(&b) : hga_str(lost);
	give(&rec);
	hga_buf_release(&a);
	hga_buf_release(&b);
	busy = false;
}

void hga_log_text(enum hga_log_level level, const char *label,
                  struct hga_str text)
{
	if (hga_log_wants(level))
		record(level, letters[level], label, text);
}

void hga_log_output(bool is_stderr, const char *label, struct hga_str text)
{
	if (hga_log_wants(HGA_LOG_DEBUG))
		record(HGA_LOG_DEBUG, is_stderr ? 'e' : 'o', label, text);
}

void hga_log(enum hga_log_level level, const char *label, const char *fmt, ...)
{
	char *text;
	va_list ap;
	int n;

	if (!hga_log_wants(level) || busy)
		return;
	text = hga_alloc(TEXT_MAX);
	if (text == NULL)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, TEXT_MAX, fmt, ap);
	va_end(ap);
	if (n >= 0)
		record(level, letters[level], label, hga_str(text));
	hga_wipe(text, n < 0 ? 0 : n < TEXT_MAX ? (size_t)n : TEXT_MAX);
	hga_free(text);
}

/* ---- file ---- */

struct hga_log_file {
	struct hga_log_sink sink; /* first: write() finds us by it */
	int fd;
	uint64_t limit, written;
	bool full;
};

static int add_line(struct hga_buf *out, const struct hga_log_rec *rec,
                    struct hga_str line)
{
	char when[HGA_TIME_TEXT];
	int r;

	(void)hga_time_text(when, rec->wall_us, HGA_TIME_ISO_MS);
	r = hga_buf_addf(out, NULL, "%s %c %s%s\xe2\x94\x82 ", when,
	                 rec->letter, rec->label,
	                 rec->label[0] != '\0' ? " " : "");
	if (r == 0)
		r = hga_buf_addstr(out, line, NULL);
	return r < 0 ? r : hga_buf_addc(out, '\n', NULL);
}

static int add_lines(struct hga_buf *out, const struct hga_log_rec *rec)
{
	struct hga_str t = rec->text;
	size_t from = 0;
	int r = 0;

	do {
		ptrdiff_t nl = hga_str_chr(t, '\n', from);
		size_t to = nl < 0 ? t.n : (size_t)nl;

		r = add_line(out, rec, hga_strn(t.s + from, to - from));
		from = to + 1;
	} while (from <= t.n && r == 0);
	return r;
}

static void write_file(struct hga_log_sink *sink, const struct hga_log_rec *rec)
{
	/* the sink is the file's first member */
	struct hga_log_file *f = (struct hga_log_file *)sink;
	struct hga_log_rec last = *rec;
	struct hga_buf out;

	if (f->full)
		return;
	hga_buf_init(&out, 4 * 1024 * 1024);
	if (add_lines(&out, rec) < 0)
		hga_buf_clear(&out);
	if (f->limit != 0 && f->written + out.len > f->limit) {
		f->full = true;
		hga_buf_clear(&out);
		last.text = HGA_STR("log full: nothing more is recorded");
		if (add_lines(&out, &last) < 0)
			hga_buf_clear(&out);
	}
	f->written += out.len;
	/* a full disk must not end the run */
	if (out.len > 0 &&
	    hga_fs_write_fd(f->fd, "log", out.data, out.len, NULL) < 0)
		f->full = true;
	hga_buf_release(&out);
}

int hga_log_file_open(const char *path, enum hga_log_level level,
                      uint64_t limit_bytes, struct hga_log_file **out,
                      struct hga_err *err)
{
	struct hga_log_file *f = hga_calloc(1, sizeof(*f));

	if (f == NULL)
		return hga_fail_mem(err);
	f->fd = hga_fs_open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW,
	                    0600, err);
	if (f->fd < 0) {
		int r = f->fd;

		hga_free(f);
		return r;
	}
	f->limit = limit_bytes;
	f->sink.write = write_file;
	f->sink.level = level;
	hga_log_add(&f->sink);
	*out = f;
	return 0;
}

void hga_log_file_close(struct hga_log_file *f)
{
	if (f == NULL)
		return;
	hga_log_remove(&f->sink);
	(void)close(f->fd); /* a lost line is no failure of the run */
	hga_free(f);
}
