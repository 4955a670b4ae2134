/*
 * PKCS#12 that a machine's user data brings.  Its MAC would stop nearly every
 * changed input, so each is also tried with a MAC made for it.
 */
#include "base/cert.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PASSWORD "Fuzz-Pass.word1"

static void try_read(const void *p, size_t n)
{
	struct hga_buf cert, key;
	struct hga_err err = {0};
	int r;

	hga_buf_init(&cert, 1 << 20);
	hga_buf_init(&key, 1 << 20);
	r = hga_cert_pfx_read(hga_strn(p, n), PASSWORD, &cert, &key, &err);
	if ((r == 0) != (cert.len > 0 && key.len > 0) ||
	    (r < 0 && err.msg[0] == '\0') || ERR_peek_error() != 0)
		abort();
	hga_buf_release(&cert);
	hga_buf_release(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const unsigned char *at = data;
	PKCS12 *p = d2i_PKCS12(NULL, &at, (long)size);
	unsigned char *der = NULL;
	int n = -1;

	ERR_clear_error();
	try_read(data, size);
	if (p != NULL &&
	    PKCS12_set_mac(p, PASSWORD, -1, NULL, 0, 1, EVP_sha1()) == 1)
		n = i2d_PKCS12(p, &der);
	ERR_clear_error();
	if (n > 0)
		try_read(der, (size_t)n);
	OPENSSL_free(der);
	PKCS12_free(p);
	return 0;
}
