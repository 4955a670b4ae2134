/* Digests, MACs and checksums against published vectors. */
#include "base/hash.h"
#include "base/mem.h"
#include "tap.h"

#include <fcntl.h>
#include <unistd.h>

static const char *hex(const uint8_t *p, size_t n)
{
	static char out[2 * HGA_HASH_MAX + 1];

	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", p[i]);
	return out;
}

static void digest(enum hga_hash_alg alg, const char *want, const char *name)
{
	char out[2 * HGA_HASH_MAX + 1];

	is_int(hga_hash_hex(alg, "abc", 3, out, NULL), 0, name);
	is_str(out, want, name);
}

static void test_digests(void)
{
	struct hga_hash h = {NULL, HGA_SHA256};
	uint8_t raw[32];

	/* RFC 1321 A.5, FIPS 180-2 appendices */
	digest(HGA_MD5, "900150983cd24fb0d6963f7d28e17f72", "md5");
	digest(HGA_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d", "sha1");
	digest(HGA_SHA256,
	       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015"
	       "ad",
	       "sha256");
	digest(HGA_SHA384,
	       "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5b"
	       "ed8086072ba1e7cc2358baeca134c825a7",
	       "sha384");
	is_int(hga_hash_init(&h, HGA_SHA256, NULL), 0, "init");
	for (int round = 0; round < 2; round++) {
		is_int(hga_hash_update(&h, "a", 1, NULL), 0, "update");
		is_int(hga_hash_update(&h, "bc", 2, NULL), 0, "update");
		is_int(hga_hash_final(&h, raw, NULL), 0, "final");
		ok(strncmp(hex(raw, 32), "ba7816bf", 8) == 0,
		   "streamed; final starts afresh");
	}
	hga_hash_release(&h);
	hga_hash_release(&h);
}

static void test_hmac(void)
{
	uint8_t out[64];
	char key[131];

	/* RFC 4231 cases 1, 2 and 6; RFC 2202 case 2 */
	memset(key, 0x0b, 20);
	is_int(
	    hga_hmac_sha256(hga_strn(key, 20), HGA_STR("Hi There"), out, NULL),
	    0, "case 1");
	is_str(hex(out, 32),
	       "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cf"
	       "f7",
	       "case 1");
	is_int(hga_hmac_sha256(HGA_STR("Jefe"),
	                       HGA_STR("what do ya want for nothing?"), out,
	                       NULL),
	       0, "case 2");
	is_str(hex(out, 32),
	       "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec38"
	       "43",
	       "case 2");
	memset(key, 0xaa, 131);
	is_int(hga_hmac_sha256(hga_strn(key, 131),
	                       HGA_STR("Test Using Larger Than Block-Size Key -"
	                               " Hash Key First"),
	                       out, NULL),
	       0, "long key");
	is_str(hex(out, 32),
	       "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f"
	       "54",
	       "long key");
	is_int(hga_hmac(HGA_SHA1, HGA_STR("Jefe"),
	                HGA_STR("what do ya want for nothing?"), out, NULL),
	       0, "sha1");
	is_str(hex(out, 20), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
	       "sha1");
}

static void test_rest(void)
{
	char zeros[32] = {0};
	char path[] = "/tmp/hgauto-hash-XXXXXX";
	char out[65];
	int fd = mkstemp(path);

	/* RFC 3720 B.4 */
	is_int(hga_crc32c(0, zeros, 32), 0x8a9136aa, "crc of 32 zeros");
	is_int(hga_crc32c(0, "123456789", 9), 0xe3069283, "check value");
	is_int(hga_crc32c(hga_crc32c(0, "1234", 4), "56789", 5), 0xe3069283,
	       "continued");
	ok(hga_equal_ct(HGA_STR("ab"), HGA_STR("ab")) &&
	       !hga_equal_ct(HGA_STR("ab"), HGA_STR("ac")) &&
	       !hga_equal_ct(HGA_STR("a"), HGA_STR("ab")),
	   "comparison");
	unlink(path);
	is_int(write(fd, "abc", 3), 3, "file");
	lseek(fd, 0, SEEK_SET);
	is_int(hga_hash_fd(fd, out, NULL), 0, "of a file");
	ok(strncmp(out, "ba7816bf", 8) == 0, "its digest");
	close(fd);
	is_int(hga_hash_fd(-1, out, NULL), -HGA_IO, "of no file");
}

int main(void)
{
	test_digests();
	test_hmac();
	test_rest();
	return done();
}
