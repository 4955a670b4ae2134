/*
 * Asymmetric keys as SSH uses them; random bytes; UUIDs.
 *
 * A struct hga_key holds one private key (ed25519, ecdsa nistp256/384/521,
 * rsa) inside OpenSSL; it never leaves as plain bytes but through
 * hga_key_private.  Reference counted: a key may be shared by many sessions.
 * Reads OpenSSH, PEM and PKCS#8 texts.  Error codes (kind auth): KeyFormat,
 * KeyUnsupported, KeyNeedsPassphrase, KeyPassphrase; from files also KeyMode;
 * missing file: kind notfound, KeyNotFound.
 */
#ifndef HGA_BASE_CRYPTO_H
#define HGA_BASE_CRYPTO_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stddef.h>
#include <stdint.h>

struct hga_key; /* opaque */

/* Makes a key; alg: "ed25519" (others: -HGA_USAGE).  comment may be "". */
int hga_key_new(const char *alg, const char *comment, struct hga_key **out,
                struct hga_err *err) HGA_MUST_USE;
/* Reads a private key text; what names its origin in messages. */
int hga_key_parse(struct hga_str text, const char *what, struct hga_key **out,
                  struct hga_err *err) HGA_MUST_USE;
/* What opens a protected key. */
struct hga_key_unlock {
	struct hga_str passphrase;
	/* bcrypt_pbkdf of OpenSSH's own format, 0 on success; NULL: such keys
	 * stay closed (OpenSSL has no bcrypt). */
	int (*kdf)(const char *pass, size_t pass_len, const uint8_t *salt,
	           size_t salt_len, uint8_t *out, size_t out_len,
	           unsigned rounds);
};
/* As hga_key_parse, opening a protected key; u NULL: none.  Wrong passphrase:
 * -HGA_AUTH KeyPassphrase.  Takes about 0.1 s for OpenSSH's format. */
int hga_key_unlock(struct hga_str text, const struct hga_key_unlock *u,
                   const char *what, struct hga_key **out,
                   struct hga_err *err) HGA_MUST_USE;
/* Appends the public blob of a protected key in OpenSSH's format, which shows
 * it; of others -HGA_AUTH KeyNeedsPassphrase. */
int hga_key_peek(struct hga_str text, const char *what, struct hga_buf *out,
                 struct hga_err *err) HGA_MUST_USE;
/* Appends the text of a private key file, which is checked as by
 * hga_key_load; release it with hga_buf_release_secret. */
int hga_key_read(const char *path, struct hga_buf *text,
                 struct hga_err *err) HGA_MUST_USE;
/*
 * Reads a private key file: owner self or root, no group or other bits, at
 * most 64 KiB, a regular file (links are followed; the descriptor is
 * checked).
 */
int hga_key_load(const char *path, struct hga_key **out,
                 struct hga_err *err) HGA_MUST_USE;
struct hga_key *hga_key_ref(struct hga_key *k);
/* Drops one reference. */
void hga_key_free(struct hga_key *k);

/* "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa", ...; static text. */
const char *hga_key_type(const struct hga_key *k);
/* Size in bits (256 for ed25519). */
unsigned hga_key_bits(const struct hga_key *k);
const char *hga_key_comment(const struct hga_key *k);
/* SSH public key blob (RFC 4253 section 6.6), borrowed. */
struct hga_str hga_key_blob(const struct hga_key *k);
/* Appends "TYPE BASE64[ COMMENT]", no newline. */
int hga_key_public(const struct hga_key *k, struct hga_buf *out,
                   struct hga_err *err) HGA_MUST_USE;
/* Appends "SHA256:..." of the public blob. */
int hga_key_fingerprint(const struct hga_key *k, struct hga_buf *out,
                        struct hga_err *err) HGA_MUST_USE;
/* Appends the private key as OpenSSH PEM text (ed25519 only, others
 * -HGA_USAGE); release out with hga_buf_release_secret. */
int hga_key_private(const struct hga_key *k, struct hga_buf *out,
                    struct hga_err *err) HGA_MUST_USE;

/*
 * Signs data; alg is the SSH signature algorithm ("ssh-ed25519",
 * "ecdsa-sha2-nistp256", "rsa-sha2-256", "rsa-sha2-512") or NULL for the
 * best.  Appends the whole SSH signature blob: string algorithm, string
 * signature.  An algorithm that does not fit the key is -HGA_USAGE.
 */
int hga_key_sign(const struct hga_key *k, const char *alg, struct hga_str data,
                 struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;
/* Default signature algorithm of the key: rsa -> "rsa-sha2-512". */
const char *hga_key_sigalg(const struct hga_key *k);

/* What is known of a public key line "TYPE BASE64 [COMMENT]". */
struct hga_pubinfo {
	char type[32];
	unsigned bits;
	char fingerprint[64]; /* "SHA256:..." without padding */
	char sha256_b64[64];  /* the same digest with padding, no prefix */
	char md5_der[64];     /* rsa: colon hex of MD5 over the DER
	                       * SubjectPublicKeyInfo (EC2); else "" */
	char md5_blob[64];    /* colon hex of MD5 over the blob */
};
/* -HGA_USAGE "KeyFormat" when it is not such a line. */
int hga_pubkey_info(struct hga_str line, struct hga_pubinfo *out,
                    struct hga_err *err) HGA_MUST_USE;
/* Raw public blob of such a line, appended to out. */
int hga_pubkey_blob(struct hga_str line, struct hga_buf *out,
                    struct hga_err *err) HGA_MUST_USE;
/* "SHA256:..." of any public blob. */
int hga_blob_fingerprint(struct hga_str blob, char out[64],
                         struct hga_err *err) HGA_MUST_USE;

/* Cryptographically strong bytes. */
int hga_random(void *p, size_t n, struct hga_err *err) HGA_MUST_USE;
/* Random UUID (version 4), lower case, with NUL. */
int hga_uuid(char out[37], struct hga_err *err) HGA_MUST_USE;
/* 32 random lower-case hex digits with NUL. */
int hga_token(char out[33], struct hga_err *err) HGA_MUST_USE;

#endif
