/* Digests and MACs through OpenSSL; CRC-32 (RFC 1952 section 8) and CRC-32C
 * (RFC 3720 appendix B.4) by table. */
#include "base/hash.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

static const struct {
	const char *name;
	size_t len, block;
} algs[] = {
    [HGA_MD5] = {"MD5", 16, 64},        [HGA_SHA1] = {"SHA1", 20, 64},
    [HGA_SHA256] = {"SHA256", 32, 64},  [HGA_SHA384] = {"SHA384", 48, 128},
    [HGA_SHA512] = {"SHA512", 64, 128},
};

/* Fetched once: a fetch costs more than a short message.  Never freed; the
 * library does it at exit. */
static EVP_MD *fetched[sizeof(algs) / sizeof(algs[0])];

size_t hga_hash_len(enum hga_hash_alg alg)
{
	return algs[alg].len;
}

static const EVP_MD *digest(enum hga_hash_alg alg, struct hga_err *err)
{
	if (fetched[alg] == NULL)
		fetched[alg] = EVP_MD_fetch(NULL, algs[alg].name, NULL);
	if (fetched[alg] == NULL)
		(void)hga_fail(err, HGA_BUG, 0, "Digest",
		               "%s is not available in OpenSSL",
		               algs[alg].name);
	return fetched[alg];
}

static int evp_failed(struct hga_err *err)
{
	return hga_fail(err, HGA_MEMORY, 0, "Digest", "digest failed");
}

int hga_hash_init(struct hga_hash *h, enum hga_hash_alg alg,
                  struct hga_err *err)
{
	const EVP_MD *md = digest(alg, err);

	h->alg = alg;
	h->ctx = NULL;
	if (md == NULL)
		return -HGA_BUG;
	h->ctx = EVP_MD_CTX_new();
	if (h->ctx == NULL)
		return hga_fail_mem(err);
	if (EVP_DigestInit_ex(h->ctx, md, NULL) != 1) {
		hga_hash_release(h);
		return evp_failed(err);
	}
	return 0;
}

int hga_hash_update(struct hga_hash *h, const void *p, size_t n,
                    struct hga_err *err)
{
	return EVP_DigestUpdate(h->ctx, p, n) == 1 ? 0 : evp_failed(err);
}

int hga_hash_final(struct hga_hash *h, uint8_t *out, struct hga_err *err)
{
	if (EVP_DigestFinal_ex(h->ctx, out, NULL) != 1 ||
	    EVP_DigestInit_ex(h->ctx, NULL, NULL) != 1)
		return evp_failed(err);
	return 0;
}

void hga_hash_release(struct hga_hash *h)
{
	EVP_MD_CTX_free(h->ctx);
	h->ctx = NULL;
}

int hga_hash(enum hga_hash_alg alg, const void *p, size_t n, uint8_t *out,
             struct hga_err *err)
{
	const EVP_MD *md = digest(alg, err);

	if (md == NULL)
		return -HGA_BUG;
	return EVP_Digest(p, n, out, NULL, md, NULL) == 1 ? 0 : evp_failed(err);
}

static void to_hex(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 15];
	}
	*out = '\0';
}

int hga_hash_hex(enum hga_hash_alg alg, const void *p, size_t n, char *out,
                 struct hga_err *err)
{
	uint8_t raw[HGA_HASH_MAX];
	int r = hga_hash(alg, p, n, raw, err);

	if (r == 0)
		to_hex(raw, algs[alg].len, out);
	return r;
}

static int hash_rest(struct hga_hash *h, int fd, uint8_t *tmp, size_t size,
                     struct hga_err *err)
{
	for (;;) {
		ssize_t n = read(fd, tmp, size);
		int r;

		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hga_fail(err, HGA_IO, errno, "Read",
			                "cannot read");
		r = hga_hash_update(h, tmp, (size_t)n, err);
		if (r < 0)
			return r;
	}
}

int hga_hash_fd(int fd, char out[65], struct hga_err *err)
{
	const size_t size = 65536;
	uint8_t raw[HGA_SHA256_LEN];
	uint8_t *tmp = hga_alloc(size);
	struct hga_hash h = {NULL, HGA_SHA256};
	int r;

	if (tmp == NULL)
		return hga_fail_mem(err);
	r = hga_hash_init(&h, HGA_SHA256, err);
	if (r == 0)
		r = hash_rest(&h, fd, tmp, size, err);
	if (r == 0)
		r = hga_hash_final(&h, raw, err);
	if (r == 0)
		to_hex(raw, sizeof(raw), out);
	hga_hash_release(&h);
	hga_free(tmp);
	return r;
}

/* RFC 2104, on our fetched digests: OpenSSL 3's one-shot HMAC() fetches its
 * MAC anew each time, which costs several times the hashing. */
int hga_hmac(enum hga_hash_alg alg, struct hga_str key, struct hga_str data,
             uint8_t *out, struct hga_err *err)
{
	uint8_t pad[128];
	uint8_t inner[HGA_HASH_MAX];
	size_t block = algs[alg].block;
	struct hga_hash h = {NULL, alg};
	int r;

	memset(pad, 0, sizeof(pad));
	if (key.n > block) {
		r = hga_hash(alg, key.s, key.n, pad, err);
		if (r < 0)
			return r;
	} else if (key.n > 0) {
		memcpy(pad, key.s, key.n);
	}
	for (size_t i = 0; i < block; i++)
		pad[i] ^= 0x36;
	r = hga_hash_init(&h, alg, err);
	if (r == 0)
		r = hga_hash_update(&h, pad, block, err);
	if (r == 0)
		r = hga_hash_update(&h, data.s, data.n, err);
	if (r == 0)
		r = hga_hash_final(&h, inner, err);
	for (size_t i = 0; i < block; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	if (r == 0)
		r = hga_hash_update(&h, pad, block, err);
	if (r == 0)
		r = hga_hash_update(&h, inner, algs[alg].len, err);
	if (r == 0)
		r = hga_hash_final(&h, out, err);
	hga_hash_release(&h);
	hga_wipe(pad, sizeof(pad));
	hga_wipe(inner, sizeof(inner));
	return r;
}

int hga_hmac_sha256(struct hga_str key, struct hga_str data, uint8_t out[32],
                    struct hga_err *err)
{
	return hga_hmac(HGA_SHA256, key, data, out, err);
}

/* Eight steps of the reflected polynomial for each byte value. */
static void make_table(uint32_t table[256], uint32_t poly)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (poly & (0u - (crc & 1)));
		table[i] = crc;
	}
}

static uint32_t crc_update(const uint32_t table[256], uint32_t crc,
                           const uint8_t *b, size_t n)
{
	crc = ~crc;
	while (n-- > 0)
		crc = crc >> 8 ^ table[(crc ^ *b++) & 0xff];
	return ~crc;
}

uint32_t hga_crc32(uint32_t crc, const void *p, size_t n)
{
	static uint32_t table[256]; /* made at first use */

	if (table[1] == 0)
		make_table(table, 0xedb88320u);
	return crc_update(table, crc, p, n);
}

uint32_t hga_crc32c(uint32_t crc, const void *p, size_t n)
{
	static uint32_t table[256]; /* made at first use */

	if (table[1] == 0)
		make_table(table, 0x82f63b78u);
	return crc_update(table, crc, p, n);
}

bool hga_equal_ct(struct hga_str a, struct hga_str b)
{
	return a.n == b.n && (a.n == 0 || CRYPTO_memcmp(a.s, b.s, a.n) == 0);
}
