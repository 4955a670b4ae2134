/*
 * Fuzz target: a user certificate's file, and the public key it is for.
 */
#include "ssh/auth.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_auth_cert c;
	struct hga_err err;
	struct hga_str part;
	size_t at = 0;

	memset(&c, 0, sizeof(c));
	if (hga_auth_cert_parse(hga_strn((const char *)data, size), "f", &c,
	                        &err) < 0)
		return 0;
	while (at < c.blob.len)
		if (!hga_wire_str(hga_buf_str(&c.blob), &at, &part))
			abort();
	hga_auth_cert_release(&c);
	return 0;
}
