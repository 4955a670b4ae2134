/*
 * TAP for unit tests: ok, is_str, is_int, skip, done.  One program per file.
 */
#ifndef HGA_TEST_TAP_H
#define HGA_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_n, tap_failed;

__attribute__((unused, format(printf, 2, 3))) static bool
ok(bool cond, const char *fmt, ...)
{
	va_list ap;

	tap_n++;
	if (!cond)
		tap_failed++;
	printf("%sok %d - ", cond ? "" : "not ", tap_n);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	return cond;
}

__attribute__((unused)) static bool is_str(const char *got, const char *want,
                                           const char *name)
{
	bool same = got == want ||
	            (got != NULL && want != NULL && strcmp(got, want) == 0);

	ok(same, "%s", name);
	if (!same)
		printf("#  got: %s\n# want: %s\n", got ? got : "(null)",
		       want ? want : "(null)");
	return same;
}

__attribute__((unused)) static bool is_int(long long got, long long want,
                                           const char *name)
{
	ok(got == want, "%s", name);
	if (got != want)
		printf("#  got: %lld\n# want: %lld\n", got, want);
	return got == want;
}

__attribute__((unused)) static void skip(const char *why)
{
	tap_n++;
	printf("ok %d # SKIP %s\n", tap_n, why);
}

__attribute__((unused)) static int done(void)
{
	printf("1..%d\n", tap_n);
	return tap_failed ? 1 : 0;
}

#endif
