/*
 * Comparison of the parts of requests: URLs and header values.
 */
#ifndef HGA_TEST_VEC_HTTP_H
#define HGA_TEST_VEC_HTTP_H

#include "vec.h"

/* Without the blank after a comma between the items of a list. */
VEC_UNUSED static void vec_squeeze(char *out, size_t size, struct hga_str t)
{
	size_t i, n = 0;
	bool quoted = false;

	for (i = 0; i < t.n && n + 1 < size; i++) {
		if (t.s[i] == '"' && (i == 0 || t.s[i - 1] != '\\'))
			quoted = !quoted;
		if (t.s[i] == ' ' && i > 0 && t.s[i - 1] == ',' && !quoted)
			continue;
		out[n++] = t.s[i];
	}
	out[n] = '\0';
}

VEC_UNUSED static bool vec_header_equal(const char *got, struct hga_str want)
{
	char a[2048], b[2048];

	vec_squeeze(a, sizeof(a), hga_str(got)); /* absent is "" */
	vec_squeeze(b, sizeof(b), want);
	return strcmp(a, b) == 0;
}

/* Pairs of a query string, as they are encoded, in the order of their names;
 * pairs of one name keep theirs. */
VEC_UNUSED static void vec_sort_query(char *out, size_t size, const char *query)
{
	char *v[256], *copy = hga_strdup(query), *p, *save = NULL;
	size_t n = 0, i, j, len = 0;

	for (p = strtok_r(copy, "&", &save); p != NULL && n < 256;
	     p = strtok_r(NULL, "&", &save))
		v[n++] = p;
	for (i = 1; i < n; i++) {
		char *one = v[i];
		size_t a = strcspn(one, "=");

		for (j = i; j > 0; j--) {
			size_t b = strcspn(v[j - 1], "=");
			int c = strncmp(v[j - 1], one, a < b ? a : b);

			if (c < 0 || (c == 0 && b <= a))
				break;
			v[j] = v[j - 1];
		}
		v[j] = one;
	}
	out[0] = '\0';
	for (i = 0; i < n && len < size; i++)
		len += (size_t)snprintf(out + len, size - len, "%s&", v[i]);
	hga_free(copy);
}

VEC_UNUSED static bool vec_uri_equal(const char *got, struct hga_str want_str)
{
	char a[4096], b[4096], want[4096];
	size_t n = strcspn(got, "?");

	snprintf(want, sizeof(want), "%.*s", HGA_STRF(want_str));
	if (n != strcspn(want, "?") || strncmp(got, want, n) != 0)
		return false;
	vec_sort_query(a, sizeof(a), got[n] == '?' ? got + n + 1 : "");
	vec_sort_query(b, sizeof(b), want[n] == '?' ? want + n + 1 : "");
	return strcmp(a, b) == 0;
}

#endif
