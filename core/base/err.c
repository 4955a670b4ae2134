/* Error kinds and formatting; architecture section 7. */
#include "base/err.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {
    [HGA_OK] = "ok",           [HGA_USAGE] = "usage",
    [HGA_LOAD] = "load",       [HGA_AUTH] = "auth",
    [HGA_AWS] = "aws",         [HGA_REMOTE] = "remote",
    [HGA_NET] = "net",         [HGA_PROTOCOL] = "protocol",
    [HGA_TIMEOUT] = "timeout", [HGA_COST] = "cost",
    [HGA_IO] = "io",           [HGA_NOTFOUND] = "notfound",
    [HGA_EXISTS] = "exists",   [HGA_TASK] = "task",
    [HGA_RUNTIME] = "runtime", [HGA_CANCELLED] = "cancelled",
    [HGA_MEMORY] = "memory",   [HGA_BUG] = "bug",
};

#define N_KINDS (sizeof(kind_names) / sizeof(kind_names[0]))

const char *hga_kind_name(enum hga_kind kind)
{
	if ((size_t)kind >= N_KINDS)
		return "bug";
	return kind_names[kind];
}

enum hga_kind hga_kind_find(const char *name)
{
	for (size_t i = 1; i < N_KINDS; i++)
		if (strcmp(kind_names[i], name) == 0)
			return (enum hga_kind)i;
	return HGA_OK;
}

int(hga_vfail)(struct hga_err *err, enum hga_kind kind, int sys,
               const char *code, const char *fmt, va_list ap)
{
	int n;

	if (err == NULL)
		return -(int)kind;
	err->kind = kind;
	err->sys = sys;
	(void)snprintf(err->code, sizeof(err->code), "%s", code ? code : "");
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	if (sys != 0 && n >= 0 && (size_t)n < sizeof(err->msg))
		(void)snprintf(err->msg + n, sizeof(err->msg) - (size_t)n,
		               ": %s", strerror(sys));
	return -(int)kind;
}

int(hga_fail)(struct hga_err *err, enum hga_kind kind, int sys,
              const char *code, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = hga_vfail(err, kind, sys, code, fmt, ap);
	va_end(ap);
	return r;
}

int(hga_fail_mem)(struct hga_err *err)
{
	return hga_fail(err, HGA_MEMORY, 0, "NoMemory", "out of memory");
}

void hga_err_prefix(struct hga_err *err, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;
	int n;

	if (err == NULL)
		return;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n + 2 >= sizeof(err->msg))
		return;
	err->msg[n++] = ':';
	err->msg[n++] = ' ';
	old[sizeof(old) - (size_t)n - 1] = '\0';
	memcpy(err->msg + n, old, strlen(old) + 1);
}
