/* Bounded byte buffer; see the header. */
#include "base/buf.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

#define WIPED_MAX ((size_t)256 << 10)
/* A heap copies what it grows: few steps lead out of it. */
#define HEAP_MAX ((size_t)1 << 20)

void hga_buf_init(struct hga_buf *b, size_t max)
{
	memset(b, 0, sizeof(*b));
	b->max = max;
}

void hga_buf_release(struct hga_buf *b)
{
	hga_free(b->data);
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
}

void hga_buf_release_secret(struct hga_buf *b)
{
	hga_wipe(b->data, b->cap);
	hga_buf_release(b);
}

void hga_buf_clear(struct hga_buf *b)
{
	b->len = 0;
	if (b->data != NULL)
		b->data[0] = '\0';
}

/* Text often holds secrets before anybody knows it, so that growth leaves no
   copy behind.  Larger blocks are moved by the kernel, page by page. */
static char *grown(const struct hga_buf *b, size_t cap)
{
	char *p;

	if (b->cap > WIPED_MAX) {
		p = hga_realloc(b->data, cap);
		if (p != NULL)
			hga_mem_advise(p, cap);
		return p;
	}
	p = hga_alloc(cap);
	if (p == NULL || b->data == NULL)
		return p;
	memcpy(p, b->data, b->cap);
	hga_wipe(b->data, b->cap);
	hga_free(b->data);
	return p;
}

int hga_buf_reserve(struct hga_buf *b, size_t n, struct hga_err *err)
{
	size_t need;
	size_t cap;
	char *p;

	if (!hga_size_add(b->len, n, &need) || need > b->max)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "more than %zu bytes", b->max);
	if (need < b->cap)
		return 0;
	cap = b->cap ? b->cap : 64;
	while (cap <= need)
		if (!hga_size_add(cap, cap / 2 + 1, &cap))
			return hga_fail_mem(err);
	if (cap > HEAP_MAX)
		cap = hga_mem_large(cap);
	p = grown(b, cap);
	if (p == NULL)
		return hga_fail_mem(err);
	if (b->data == NULL)
		p[0] = '\0';
	b->data = p;
	b->cap = cap;
	return 0;
}

int hga_buf_add(struct hga_buf *b, const void *p, size_t n, struct hga_err *err)
{
	int r = hga_buf_reserve(b, n, err);

	if (r < 0)
		return r;
	if (n != 0)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
	return 0;
}

int hga_buf_addc(struct hga_buf *b, char c, struct hga_err *err)
{
	return hga_buf_add(b, &c, 1, err);
}

int hga_buf_adds(struct hga_buf *b, const char *s, struct hga_err *err)
{
	return hga_buf_add(b, s, strlen(s), err);
}

int hga_buf_addstr(struct hga_buf *b, struct hga_str s, struct hga_err *err)
{
	return hga_buf_add(b, s.s, s.n, err);
}

int hga_buf_addf(struct hga_buf *b, struct hga_err *err, const char *fmt, ...)
{
	va_list ap;
	int n;
	int r;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return hga_fail(err, HGA_BUG, 0, "Format", "bad format");
	r = hga_buf_reserve(b, (size_t)n, err);
	if (r < 0)
		return r;
	va_start(ap, fmt);
	(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

void hga_buf_consume(struct hga_buf *b, size_t n)
{
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
	b->data[b->len] = '\0';
}

void hga_buf_truncate(struct hga_buf *b, size_t n)
{
	if (n >= b->len)
		return;
	b->len = n;
	b->data[n] = '\0';
}

const char *hga_buf_text(const struct hga_buf *b)
{
	return b->data ? b->data : "";
}

struct hga_str hga_buf_str(const struct hga_buf *b)
{
	return hga_strn(hga_buf_text(b), b->len);
}

char *hga_buf_move(struct hga_buf *b)
{
	char *p = b->data;

	b->data = NULL;
	b->len = 0;
	b->cap = 0;
	return p;
}
