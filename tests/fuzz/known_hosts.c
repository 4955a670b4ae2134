/*
 * Fuzz target: a known_hosts file and its verdict about a key.  Input: a host
 * name, newline, a file.
 */
#include "ssh/known_hosts.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct hga_khosts *k, const char *host)
{
	struct hga_kh_host h = {host, 2222, NULL};
	struct hga_kh_found found;
	enum hga_kh_verdict v;
	struct hga_err err;
	bool has;

	for (size_t i = 0; i < hga_khosts_count(k); i++) {
		const struct hga_kh_line *l = hga_khosts_line(k, i);

		if (hga_khosts_check(&k, 1, &h, l->blob, &v, &found, &err) < 0)
			abort();
		/* Trust and distrust come from a line. */
		if ((v == HGA_KH_UNKNOWN) != (found.path == NULL))
			abort();
		if (hga_khosts_has_type(&k, 1, &h, "ssh-ed25519", &has, &err) <
		    0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
	size_t n = nl ? (size_t)(nl - data) : 0;
	struct hga_khosts *k;
	struct hga_err err;
	char host[256];

	if (n >= sizeof(host))
		n = 0;
	memcpy(host, data, n);
	host[n] = '\0';
	if (size > 0)
		n++;
	if (n > size)
		n = size;
	if (hga_khosts_parse(hga_strn((const char *)data + n, size - n), "f",
	                     &k, &err) < 0)
		abort();
	check(k, host);
	hga_khosts_free(k);
	return 0;
}
