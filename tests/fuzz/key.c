/* Private key texts and public key lines. */
#include "base/crypto.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str text = {(const char *)data, size};
	struct hga_key *k = NULL;
	struct hga_pubinfo info;
	struct hga_buf out;
	int r = hga_key_parse(text, "f", &k, NULL);

	if ((r == 0) != (k != NULL))
		abort();
	hga_buf_init(&out, 1 << 16);
	if (k != NULL && (hga_key_public(k, &out, NULL) < 0 ||
	                  hga_pubkey_info(hga_buf_str(&out), &info, NULL) < 0))
		abort();
	r = hga_pubkey_info(text, &info, NULL);
	hga_buf_clear(&out);
	if (r == 0 && hga_pubkey_blob(text, &out, NULL) < 0)
		abort();
	hga_buf_release(&out);
	hga_key_free(k);
	return 0;
}
