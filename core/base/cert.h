/*
 * Certificates of machines we start: RSA-2048, self-signed, so that the
 * certificate itself is what a client trusts; pins of public keys.
 */
#ifndef HGA_BASE_CERT_H
#define HGA_BASE_CERT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdint.h>

struct hga_cert_opts {
	const char *name; /* common name and DNS name in it */
	const char *ip;   /* one more name: an address, or NULL */
	/* Validity in seconds from now; both 0: a day ago to 825 days on. */
	int64_t from_s, to_s;
};

/* Appends certificate and private key (PKCS#8) as PEM; release key with
 * hga_buf_release_secret. */
int hga_cert_new(const struct hga_cert_opts *opts, struct hga_buf *cert,
                 struct hga_buf *key, struct hga_err *err) HGA_MUST_USE;
/* "sha256//BASE64" over the public key of a certificate in PEM.
 * -HGA_USAGE "Certificate" when it is none. */
int hga_cert_pin(struct hga_str pem, struct hga_buf *out,
                 struct hga_err *err) HGA_MUST_USE;
/* Appends PKCS#12 (PBE-SHA1-3DES, SHA-1 MAC: what each Windows imports) of
 * both, for that password. */
int hga_cert_pfx(struct hga_str cert, struct hga_str key, const char *password,
                 struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

/* Certificate and key of a PKCS#12, as PEM texts; bytes of anybody.
 * -HGA_USAGE "Certificate": none, another password, or one that asks for more
 * rounds of derivation than anybody needs. */
int hga_cert_pfx_read(struct hga_str pfx, const char *password,
                      struct hga_buf *cert, struct hga_buf *key,
                      struct hga_err *err);

#endif
