/*
 * What may be shown of a call: whatever a service answers, a sensitive
 * parameter is not in it and no control character is.
 */
#include "aws/trace.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A secret of capital letters: nothing that is put in its place has any. */
static size_t make_secret(char out[64], const uint8_t *data, size_t n)
{
	size_t len = 6 + data[0] % 32;

	for (size_t i = 0; i < len; i++)
		out[i] = (char)('A' + data[i % n] % 26);
	return len;
}

static int hide(struct hga_str secret, struct hga_str text, struct hga_buf *out)
{
	struct hga_buf hidden;
	uint32_t n = (uint32_t)secret.n;
	int rc;

	hga_buf_init(&hidden, 4096);
	rc = hga_buf_add(&hidden, &n, sizeof(n), NULL);
	if (rc == 0)
		rc = hga_buf_addstr(&hidden, secret, NULL);
	if (rc == 0)
		rc = aws_hide(&hidden, text, out, NULL);
	hga_buf_release_secret(&hidden);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_buf out;
	char secret[64];
	struct hga_str text, key;

	if (size < 2 || size > 65536)
		return 0;
	key = hga_strn(secret, make_secret(secret, data, size));
	text = hga_strn((const char *)data, size);
	hga_buf_init(&out, (size_t)1 << 24);
	if (hide(key, text, &out) == 0) {
		if (hga_str_find(hga_buf_str(&out), key) >= 0)
			abort();
		for (size_t i = 0; i < out.len; i++)
			if ((uint8_t)out.data[i] < 0x20 &&
			    out.data[i] != '\n' && out.data[i] != '\t')
				abort();
	}
	hga_buf_release(&out);
	return 0;
}
