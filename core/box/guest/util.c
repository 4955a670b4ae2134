/* Faults, log lines and bounded copies of the box program. */
#include "box/guest/guest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int fault_set(struct fault *f, const char *step, int sys, const char *fmt, ...)
{
	va_list ap;

	f->step = step;
	f->sys = sys;
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, ap); /* may be cut */
	va_end(ap);
	return -1;
}

void say(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* a full disk must not stop an instance */
}

bool text_copy(char *dst, size_t size, struct hga_box_text t)
{
	if (t.n >= size || (t.n > 0 && memchr(t.s, '\0', t.n) != NULL))
		return false;
	if (t.n > 0)
		memcpy(dst, t.s, t.n);
	dst[t.n] = '\0';
	return true;
}

void grow_add(struct grow *g, const char *s, size_t n)
{
	if (g->bad || n > (8u << 20) - g->n) {
		g->bad = true;
		return;
	}
	if (g->n + n + 1 > g->cap) {
		size_t cap = (g->n + n + 1) * 2;
		char *p = realloc(g->p, cap);

		if (p == NULL) {
			g->bad = true;
			return;
		}
		g->p = p;
		g->cap = cap;
	}
	if (n > 0)
		memcpy(g->p + g->n, s, n);
	g->n += n;
	g->p[g->n] = '\0';
}

void grow_addf(struct grow *g, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line)) {
		g->bad = true;
		return;
	}
	grow_add(g, line, (size_t)n);
}

void grow_free(struct grow *g)
{
	free(g->p);
	memset(g, 0, sizeof(*g));
}
