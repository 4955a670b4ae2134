/*
 * Digests, HMAC, CRC-32 and CRC-32C, constant-time comparison.
 *
 * Digests come from OpenSSL, fetched once per process.  One-shot functions
 * fail only without memory (-HGA_MEMORY) or when OpenSSL forbids the digest
 * (-HGA_BUG "Digest").
 */
#ifndef HGA_BASE_HASH_H
#define HGA_BASE_HASH_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hga_hash_alg {
	HGA_MD5,
	HGA_SHA1,
	HGA_SHA256,
	HGA_SHA384,
	HGA_SHA512
};

#define HGA_HASH_MAX 64
#define HGA_SHA256_LEN 32

/* Bytes of a digest. */
size_t hga_hash_len(enum hga_hash_alg alg);

struct hga_hash {
	void *ctx; /* NULL: released */
	enum hga_hash_alg alg;
};

int hga_hash_init(struct hga_hash *h, enum hga_hash_alg alg,
                  struct hga_err *err) HGA_MUST_USE;
int hga_hash_update(struct hga_hash *h, const void *p, size_t n,
                    struct hga_err *err) HGA_MUST_USE;
/* Writes the digest and makes h ready for the next message. */
int hga_hash_final(struct hga_hash *h, uint8_t *out,
                   struct hga_err *err) HGA_MUST_USE;
void hga_hash_release(struct hga_hash *h);

/* Digest of one message. */
int hga_hash(enum hga_hash_alg alg, const void *p, size_t n, uint8_t *out,
             struct hga_err *err) HGA_MUST_USE;
/* The same in lower-case hex with a NUL: 2 * length + 1 bytes. */
int hga_hash_hex(enum hga_hash_alg alg, const void *p, size_t n, char *out,
                 struct hga_err *err) HGA_MUST_USE;
/* SHA-256 hex (65 bytes) of what an open file holds from its position on;
 * reads all of it. */
int hga_hash_fd(int fd, char out[65], struct hga_err *err) HGA_MUST_USE;

int hga_hmac(enum hga_hash_alg alg, struct hga_str key, struct hga_str data,
             uint8_t *out, struct hga_err *err) HGA_MUST_USE;
/* HMAC-SHA256 into 32 bytes. */
int hga_hmac_sha256(struct hga_str key, struct hga_str data, uint8_t out[32],
                    struct hga_err *err) HGA_MUST_USE;

/* CRC-32 (IEEE, of gzip and zip) continued from crc (0 at the start). */
uint32_t hga_crc32(uint32_t crc, const void *p, size_t n);
/* CRC-32C (Castagnoli) continued from crc (0 at the start). */
uint32_t hga_crc32c(uint32_t crc, const void *p, size_t n);

/* Equal bytes, in time that depends on the lengths only. */
bool hga_equal_ct(struct hga_str a, struct hga_str b);

#endif
