/*
 * Fuzz target: pin texts ("TYPE BASE64", "SHA256:...") and the key blob of a
 * server that is compared with them.  Input: a text, NUL, a blob.
 */
#include "ssh/hostkey.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
	size_t n = cut ? (size_t)(cut - data) : size;
	struct hga_str text = hga_strn((const char *)data, n);
	struct hga_str blob = hga_strn((const char *)data + n, size - n);
	struct hga_pins pins;
	struct hga_buf algs;
	struct hga_err err;
	char all[64];

	if (hga_pins_parse(&pins, &text, 1, &err) < 0)
		return 0;
	/* A key matches itself and only itself. */
	if (pins.v[0].blob.len > 0) {
		if (!hga_pins_match(&pins, hga_buf_str(&pins.v[0].blob)))
			abort();
		if (hga_pins_match(&pins, blob) &&
		    !hga_str_eq(blob, hga_buf_str(&pins.v[0].blob)))
			abort();
	}
	hga_buf_init(&algs, 1024);
	if (hga_pins_algorithms(&pins, &algs, &err) < 0 || algs.len == 0)
		abort();
	hga_buf_release(&algs);
	hga_pins_text(&pins, all, sizeof(all));
	hga_pins_release(&pins);
	return 0;
}
