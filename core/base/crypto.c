/*
 * Keys as SSH uses them (RFC 4253, 5656, 8332, 8709; openssh's
 * PROTOCOL.key), on OpenSSL; random bytes.  Long because reading, writing and
 * signing share the table of algorithms and the wire helpers.
 */
#include "base/crypto.h"

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#define FILE_MAX (64 * 1024)
/* A key file that wants more work than this is not opened. */
#define KDF_ROUNDS 1024
#define BLOB_MAX (16 * 1024)
#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 16384
#define ED_LEN 32

enum algo {
	ALGO_ED25519,
	ALGO_EC256,
	ALGO_EC384,
	ALGO_EC521,
	ALGO_RSA
};

static const struct {
	const char *type, *sigalg;
	const char *curve, *group; /* SSH's and OpenSSL's name */
	unsigned bits;             /* 0: of the key */
	const char *digest;
} algos[] = {
    [ALGO_ED25519] = {"ssh-ed25519", "ssh-ed25519", NULL, NULL, 256, NULL},
    [ALGO_EC256] = {"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "nistp256",
                    "prime256v1", 256, "SHA256"},
    [ALGO_EC384] = {"ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384", "nistp384",
                    "secp384r1", 384, "SHA384"},
    [ALGO_EC521] = {"ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521", "nistp521",
                    "secp521r1", 521, "SHA512"},
    [ALGO_RSA] = {"ssh-rsa", "rsa-sha2-512", NULL, NULL, 0, NULL},
};
#define N_ALGOS (sizeof(algos) / sizeof(algos[0]))

struct hga_key {
	unsigned refs;
	enum algo algo;
	unsigned bits;
	EVP_PKEY *pkey;
	struct hga_buf blob;
	char *comment;
};

/* ---- SSH wire format ---- */

struct wire {
	const uint8_t *p;
	size_t n;
};

static bool get_u32(struct wire *w, uint32_t *v)
{
	if (w->n < 4)
		return false;
	*v = (uint32_t)w->p[0] << 24 | (uint32_t)w->p[1] << 16 |
	     (uint32_t)w->p[2] << 8 | w->p[3];
	w->p += 4;
	w->n -= 4;
	return true;
}

static bool get_str(struct wire *w, struct hga_str *s)
{
	uint32_t n;

	if (!get_u32(w, &n) || n > w->n)
		return false;
	*s = hga_strn((const char *)w->p, n);
	w->p += n;
	w->n -= n;
	return true;
}

static int put_u32(struct hga_buf *b, size_t v, struct hga_err *err)
{
	uint8_t tmp[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16),
	                  (uint8_t)(v >> 8), (uint8_t)v};

	return hga_buf_add(b, tmp, 4, err);
}

static int put_str(struct hga_buf *b, struct hga_str s, struct hga_err *err)
{
	int r = put_u32(b, s.n, err);

	return r < 0 ? r : hga_buf_addstr(b, s, err);
}

static int ssl_failed(struct hga_err *err, const char *what)
{
	ERR_clear_error();
	return hga_fail(err, HGA_MEMORY, 0, "OpenSSL", "%s failed in OpenSSL",
	                what);
}

static int put_mpint(struct hga_buf *b, const BIGNUM *v, struct hga_err *err)
{
	size_t n = (size_t)BN_num_bytes(v);
	bool pad = n > 0 && BN_is_bit_set(v, (int)n * 8 - 1);
	int r = put_u32(b, n + pad, err);

	if (r == 0 && pad)
		r = hga_buf_addc(b, '\0', err);
	if (r == 0)
		r = hga_buf_reserve(b, n, err);
	if (r < 0)
		return r;
	b->len += (size_t)BN_bn2bin(v, (uint8_t *)b->data + b->len);
	b->data[b->len] = '\0';
	return 0;
}

/* ---- public halves ---- */

static int ed_blob(const struct hga_key *k, struct hga_buf *out,
                   struct hga_err *err)
{
	uint8_t pub[ED_LEN];
	size_t n = sizeof(pub);

	if (EVP_PKEY_get_raw_public_key(k->pkey, pub, &n) != 1)
		return ssl_failed(err, "reading an ed25519 key");
	return put_str(out, hga_strn((char *)pub, n), err);
}

static int ec_blob(const struct hga_key *k, struct hga_buf *out,
                   struct hga_err *err)
{
	uint8_t point[160]; /* 1 + 2 * 66 for the largest curve */
	BIGNUM *x = NULL;
	BIGNUM *y = NULL;
	size_t n = (algos[k->algo].bits + 7) / 8;
	int r = 0;

	/* from the coordinates: the encoded point may be compressed */
	if (EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_EC_PUB_X, &x) != 1 ||
	    EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_EC_PUB_Y, &y) != 1 ||
	    BN_bn2binpad(x, point + 1, (int)n) < 0 ||
	    BN_bn2binpad(y, point + 1 + n, (int)n) < 0)
		r = ssl_failed(err, "reading an ecdsa key");
	point[0] = 4; /* uncompressed, SEC 1 section 2.3.3 */
	if (r == 0)
		r = put_str(out, hga_str(algos[k->algo].curve), err);
	if (r == 0)
		r = put_str(out, hga_strn((char *)point, 1 + 2 * n), err);
	BN_free(x);
	BN_free(y);
	return r;
}

static int rsa_blob(const struct hga_key *k, struct hga_buf *out,
                    struct hga_err *err)
{
	BIGNUM *n = NULL;
	BIGNUM *e = NULL;
	int r = 0;

	if (EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_RSA_N, &n) != 1 ||
	    EVP_PKEY_get_bn_param(k->pkey, OSSL_PKEY_PARAM_RSA_E, &e) != 1)
		r = ssl_failed(err, "reading an rsa key");
	if (r == 0)
		r = put_mpint(out, e, err);
	if (r == 0)
		r = put_mpint(out, n, err);
	BN_free(n);
	BN_free(e);
	return r;
}

static int make_blob(struct hga_key *k, struct hga_err *err)
{
	int r = put_str(&k->blob, hga_str(algos[k->algo].type), err);

	if (r < 0)
		return r;
	switch (k->algo) {
	case ALGO_ED25519:
		return ed_blob(k, &k->blob, err);
	case ALGO_EC256:
	case ALGO_EC384:
	case ALGO_EC521:
		return ec_blob(k, &k->blob, err);
	case ALGO_RSA:
		return rsa_blob(k, &k->blob, err);
	}
	return 0;
}

/* Algorithm of an OpenSSL key; false for those SSH does not use. */
static bool find_algo(EVP_PKEY *pkey, enum algo *out)
{
	char group[64];

	if (EVP_PKEY_is_a(pkey, "ED25519")) {
		*out = ALGO_ED25519;
		return true;
	}
	if (EVP_PKEY_is_a(pkey, "RSA")) {
		*out = ALGO_RSA;
		return true;
	}
	if (!EVP_PKEY_is_a(pkey, "EC") ||
	    EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1)
		return false;
	for (unsigned a = ALGO_EC256; a <= ALGO_EC521; a++)
		if (strcmp(group, algos[a].group) == 0) {
			*out = (enum algo)a;
			return true;
		}
	return false;
}

/* Takes pkey, also on failure. */
static int wrap_take(EVP_PKEY *pkey, struct hga_str comment, const char *what,
                     struct hga_key **out, struct hga_err *err)
{
	struct hga_key *k = hga_calloc(1, sizeof(*k));
	int bits = EVP_PKEY_get_bits(pkey);
	int r;

	if (k == NULL) {
		EVP_PKEY_free(pkey);
		return hga_fail_mem(err);
	}
	k->refs = 1;
	k->pkey = pkey;
	hga_buf_init(&k->blob, BLOB_MAX);
	k->comment = hga_memdup0(comment.s, comment.n);
	if (k->comment == NULL)
		r = hga_fail_mem(err);
	else if (!find_algo(pkey, &k->algo) || bits <= 0)
		r = hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		             "%s: key type is not supported (ed25519, ecdsa "
		             "or rsa)",
		             what);
	else if (k->algo == ALGO_RSA && bits < RSA_MIN_BITS)
		r = hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		             "%s: rsa key of %d bits, at least %d are needed",
		             what, bits, RSA_MIN_BITS);
	else
		r = make_blob(k, err);
	if (r < 0) {
		hga_key_free(k);
		return r;
	}
	k->bits = algos[k->algo].bits ? algos[k->algo].bits : (unsigned)bits;
	*out = k;
	return 0;
}

int hga_key_new(const char *alg, const char *comment, struct hga_key **out,
                struct hga_err *err)
{
	EVP_PKEY *pkey;

	if (strcmp(alg, "ed25519") != 0)
		return hga_fail(err, HGA_USAGE, 0, "KeyType",
		                "cannot make keys of type \"%s\"; use ed25519",
		                alg);
	pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (pkey == NULL)
		return ssl_failed(err, "making a key");
	return wrap_take(pkey, hga_str(comment), "new key", out, err);
}

struct hga_key *hga_key_ref(struct hga_key *k)
{
	k->refs++;
	return k;
}

void hga_key_free(struct hga_key *k)
{
	if (k == NULL || --k->refs > 0)
		return;
	EVP_PKEY_free(k->pkey); /* OpenSSL clears private parts */
	hga_buf_release(&k->blob);
	hga_free(k->comment);
	hga_free(k);
}

/* ---- openssh-key-v1 ---- */

static EVP_PKEY *from_params(const char *type, int selection,
                             OSSL_PARAM_BLD *bld)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
	EVP_PKEY *pkey = NULL;

	if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pkey, selection, params) != 1)
		pkey = NULL;
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

static BIGNUM *to_bn(struct hga_str s)
{
	BIGNUM *b;

	if (s.n > RSA_MAX_BITS / 8 + 1)
		return NULL;
	b = BN_secure_new();
	if (b == NULL)
		return NULL;
	return BN_bin2bn((const uint8_t *)s.s, (int)s.n, b);
}

static EVP_PKEY *read_ed(struct wire *w)
{
	struct hga_str pub;
	struct hga_str priv;
	uint8_t got[ED_LEN];
	size_t n = sizeof(got);
	EVP_PKEY *pkey;

	if (!get_str(w, &pub) || !get_str(w, &priv) || pub.n != ED_LEN ||
	    priv.n != 2 * ED_LEN)
		return NULL;
	pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
	                                    (const uint8_t *)priv.s, ED_LEN);
	if (pkey != NULL && (EVP_PKEY_get_raw_public_key(pkey, got, &n) != 1 ||
	                     memcmp(got, pub.s, ED_LEN) != 0)) {
		EVP_PKEY_free(pkey);
		return NULL;
	}
	return pkey;
}

static EVP_PKEY *read_ec(struct wire *w, enum algo a)
{
	struct hga_str curve;
	struct hga_str point;
	struct hga_str scalar;
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *d = NULL;
	EVP_PKEY *pkey = NULL;

	if (bld != NULL && get_str(w, &curve) && get_str(w, &point) &&
	    get_str(w, &scalar) && hga_str_eqc(curve, algos[a].curve))
		d = to_bn(scalar);
	if (d != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME,
	                                    algos[a].group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY,
	                                     point.s, point.n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1)
		pkey = from_params("EC", EVP_PKEY_KEYPAIR, bld);
	BN_clear_free(d);
	OSSL_PARAM_BLD_free(bld);
	return pkey;
}

enum {
	RSA_N,
	RSA_E,
	RSA_D,
	RSA_QINV,
	RSA_P,
	RSA_Q,
	RSA_DP,
	RSA_DQ,
	RSA_COUNT
};

/* d mod (p - 1) and d mod (q - 1): the file leaves them out. */
static bool rsa_exponents(BIGNUM **v)
{
	BN_CTX *ctx = BN_CTX_secure_new();
	BIGNUM *t = BN_secure_new();
	bool good = false;

	v[RSA_DP] = BN_secure_new();
	v[RSA_DQ] = BN_secure_new();
	if (ctx != NULL && t != NULL && v[RSA_DP] != NULL &&
	    v[RSA_DQ] != NULL && !BN_is_zero(v[RSA_P]) && !BN_is_zero(v[RSA_Q]))
		good = BN_sub(t, v[RSA_P], BN_value_one()) == 1 &&
		       BN_mod(v[RSA_DP], v[RSA_D], t, ctx) == 1 &&
		       BN_sub(t, v[RSA_Q], BN_value_one()) == 1 &&
		       BN_mod(v[RSA_DQ], v[RSA_D], t, ctx) == 1;
	BN_clear_free(t);
	BN_CTX_free(ctx);
	return good;
}

static EVP_PKEY *read_rsa(struct wire *w)
{
	static const char *const names[RSA_COUNT] = {
	    OSSL_PKEY_PARAM_RSA_N,         OSSL_PKEY_PARAM_RSA_E,
	    OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
	    OSSL_PKEY_PARAM_RSA_FACTOR1,   OSSL_PKEY_PARAM_RSA_FACTOR2,
	    OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2};
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	BIGNUM *v[RSA_COUNT] = {NULL};
	EVP_PKEY *pkey = NULL;
	bool good = bld != NULL;

	for (int i = 0; i <= RSA_Q && good; i++) {
		struct hga_str s;

		good = get_str(w, &s);
		v[i] = good ? to_bn(s) : NULL;
		good = v[i] != NULL;
	}
	good = good && rsa_exponents(v);
	for (int i = 0; i < RSA_COUNT && good; i++)
		good = OSSL_PARAM_BLD_push_BN(bld, names[i], v[i]) == 1;
	if (good)
		pkey = from_params("RSA", EVP_PKEY_KEYPAIR, bld);
	OSSL_PARAM_BLD_free(bld);
	for (int i = 0; i < RSA_COUNT; i++)
		BN_clear_free(v[i]);
	return pkey;
}

static int bad_key(struct hga_err *err, const char *what, const char *why)
{
	ERR_clear_error();
	return hga_fail(err, HGA_AUTH, 0, "KeyFormat", "%s: %s", what, why);
}

/* The unencrypted private section: two equal check words, type, numbers,
 * comment, padding 1 2 3 ... */
static int read_private(struct wire w, struct hga_str pub, const char *what,
                        struct hga_key **out, struct hga_err *err)
{
	struct hga_str type;
	struct hga_str comment;
	EVP_PKEY *pkey = NULL;
	uint32_t c1;
	uint32_t c2;
	size_t a = 0;
	int r;

	if (!get_u32(&w, &c1) || !get_u32(&w, &c2) || c1 != c2 ||
	    !get_str(&w, &type))
		return bad_key(err, what, "damaged private key");
	while (a < N_ALGOS && !hga_str_eqc(type, algos[a].type))
		a++;
	if (a == N_ALGOS)
		return hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		                "%s: key type %.*s is not supported", what,
		                (int)(type.n < 40 ? type.n : 40), type.s);
	if (a == ALGO_ED25519)
		pkey = read_ed(&w);
	else if (a == ALGO_RSA)
		pkey = read_rsa(&w);
	else
		pkey = read_ec(&w, (enum algo)a);
	if (pkey == NULL)
		return bad_key(err, what, "damaged private key");
	if (!get_str(&w, &comment)) {
		EVP_PKEY_free(pkey);
		return bad_key(err, what, "damaged private key");
	}
	r = wrap_take(pkey, comment, what, out, err);
	if (r == 0 && !hga_str_eq(pub, hga_buf_str(&(*out)->blob))) {
		hga_key_free(*out);
		*out = NULL;
		return bad_key(err, what, "public and private key differ");
	}
	return r;
}

static int locked_key(struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_AUTH, 0, "KeyNeedsPassphrase",
	                "%s: the key is protected by a passphrase", what);
}

static int wrong_passphrase(struct hga_err *err, const char *what)
{
	ERR_clear_error();
	return hga_fail(err, HGA_AUTH, 0, "KeyPassphrase",
	                "%s: the passphrase does not open this key", what);
}

/* Decrypts a private section in place; key holds key and IV. */
static bool decrypt_section(const EVP_CIPHER *c, const uint8_t *key,
                            struct hga_buf *data)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *p = (uint8_t *)data->data;
	int n = 0;
	bool good;

	good = ctx != NULL &&
	       EVP_DecryptInit_ex(ctx, c, NULL, key,
	                          key + EVP_CIPHER_get_key_length(c)) == 1 &&
	       EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
	       EVP_DecryptUpdate(ctx, p, &n, p, (int)data->len) == 1 &&
	       (size_t)n == data->len;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

static const EVP_CIPHER *section_cipher(struct hga_str name)
{
	if (hga_str_eqc(name, "aes256-ctr"))
		return EVP_aes_256_ctr();
	if (hga_str_eqc(name, "aes192-ctr"))
		return EVP_aes_192_ctr();
	if (hga_str_eqc(name, "aes128-ctr"))
		return EVP_aes_128_ctr();
	if (hga_str_eqc(name, "aes256-cbc"))
		return EVP_aes_256_cbc();
	if (hga_str_eqc(name, "aes128-cbc"))
		return EVP_aes_128_cbc();
	return NULL;
}

/* The parts of an OpenSSH private key file. */
struct openssh_file {
	struct hga_str cipher, kdf, opts, pub, priv;
};

static int derive(const struct openssh_file *f, const struct hga_key_unlock *u,
                  uint8_t *key, size_t n, const char *what, struct hga_err *err)
{
	struct wire w = {(const uint8_t *)f->opts.s, f->opts.n};
	struct hga_str salt;
	uint32_t rounds;

	if (!hga_str_eqc(f->kdf, "bcrypt") || !get_str(&w, &salt) ||
	    !get_u32(&w, &rounds) || rounds == 0 || rounds > KDF_ROUNDS)
		return hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		                "%s: the key is protected in a way that is "
		                "not supported",
		                what);
	if (u->passphrase.n == 0 ||
	    u->kdf(u->passphrase.s, u->passphrase.n, (const uint8_t *)salt.s,
	           salt.n, key, n, rounds) != 0)
		return wrong_passphrase(err, what);
	return 0;
}

/* A protected section: derive the key, decrypt, look at the check words.  No
 * passphrase is asked for where none would help. */
static int read_locked(const struct openssh_file *f,
                       const struct hga_key_unlock *u, const char *what,
                       struct hga_key **out, struct hga_err *err)
{
	const EVP_CIPHER *c = section_cipher(f->cipher);
	uint8_t key[EVP_MAX_KEY_LENGTH + EVP_MAX_IV_LENGTH];
	struct hga_buf plain;
	struct wire w;
	uint32_t c1 = 0;
	uint32_t c2 = 1;
	int r;

	if (c == NULL || (u != NULL && u->kdf == NULL))
		return hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		                "%s: keys protected with %.*s cannot be read; "
		                "use an agent or ssh-keygen -p",
		                what,
		                (int)(f->cipher.n < 40 ? f->cipher.n : 40),
		                f->cipher.s);
	if (u == NULL)
		return locked_key(err, what);
	r = derive(f, u, key,
	           (size_t)EVP_CIPHER_get_key_length(c) +
	               (size_t)EVP_CIPHER_get_iv_length(c),
	           what, err);
	if (r < 0)
		return r;
	hga_buf_init(&plain, FILE_MAX);
	r = hga_buf_addstr(&plain, f->priv, err);
	w = (struct wire){(const uint8_t *)plain.data, plain.len};
	if (r == 0 && (!decrypt_section(c, key, &plain) || !get_u32(&w, &c1) ||
	               !get_u32(&w, &c2) || c1 != c2))
		r = wrong_passphrase(err, what);
	w = (struct wire){(const uint8_t *)plain.data, plain.len};
	if (r == 0)
		r = read_private(w, f->pub, what, out, err);
	hga_buf_release_secret(&plain);
	hga_wipe(key, sizeof(key));
	return r;
}

static int split_openssh(struct hga_str raw, const char *what,
                         struct openssh_file *f, struct hga_err *err)
{
	static const char magic[] = "openssh-key-v1"; /* with its NUL */
	struct wire w = {(const uint8_t *)raw.s, raw.n};
	uint32_t n;

	if (raw.n < sizeof(magic) || memcmp(raw.s, magic, sizeof(magic)) != 0)
		return bad_key(err, what, "not an OpenSSH private key");
	w.p += sizeof(magic);
	w.n -= sizeof(magic);
	if (!get_str(&w, &f->cipher) || !get_str(&w, &f->kdf) ||
	    !get_str(&w, &f->opts) || !get_u32(&w, &n) ||
	    !get_str(&w, &f->pub) || !get_str(&w, &f->priv) || n != 1)
		return bad_key(err, what, "damaged OpenSSH private key");
	return 0;
}

static int read_openssh(struct hga_str raw, const struct hga_key_unlock *u,
                        const char *what, struct hga_key **out,
                        struct hga_err *err)
{
	struct openssh_file f;
	int r = split_openssh(raw, what, &f, err);

	if (r < 0)
		return r;
	if (!hga_str_eqc(f.cipher, "none"))
		return read_locked(&f, u, what, out, err);
	return read_private((struct wire){(const uint8_t *)f.priv.s, f.priv.n},
	                    f.pub, what, out, err);
}

static const char openssh_head[] = "-----BEGIN OPENSSH PRIVATE KEY-----";
static const char openssh_tail[] = "-----END OPENSSH PRIVATE KEY-----";

/* The bytes between head and tail, in raw; release it as a secret. */
static int openssh_body(struct hga_str text, const char *what,
                        struct hga_buf *raw, struct hga_err *err)
{
	ptrdiff_t from = hga_str_find(text, hga_str(openssh_head));
	struct hga_str body = {text.s + from, text.n - (size_t)from};
	ptrdiff_t to;
	int r;

	body.s += sizeof(openssh_head) - 1;
	body.n -= sizeof(openssh_head) - 1;
	to = hga_str_find(body, hga_str(openssh_tail));
	if (to < 0)
		return bad_key(err, what, "OpenSSH private key is cut off");
	/* all room at once: growing would leave copies behind */
	r = hga_buf_reserve(raw, (size_t)to, err);
	if (r == 0 &&
	    hga_b64_decode(raw, hga_strn(body.s, (size_t)to), NULL) < 0)
		r = bad_key(err, what, "damaged base64 in private key");
	return r;
}

static int parse_openssh(struct hga_str text, const struct hga_key_unlock *u,
                         const char *what, struct hga_key **out,
                         struct hga_err *err)
{
	struct hga_buf raw;
	int r;

	hga_buf_init(&raw, FILE_MAX);
	r = openssh_body(text, what, &raw, err);
	if (r == 0)
		r = read_openssh(hga_buf_str(&raw), u, what, out, err);
	hga_buf_release_secret(&raw);
	return r;
}

struct pem_asked {
	bool asked;
	const struct hga_key_unlock *unlock;
};

static int give_passphrase(char *buf, int size, int rwflag, void *data)
{
	struct pem_asked *a = data;

	(void)rwflag; /* only reading */
	a->asked = true;
	if (a->unlock == NULL || a->unlock->passphrase.n == 0 || size < 0 ||
	    a->unlock->passphrase.n > (size_t)size)
		return -1;
	memcpy(buf, a->unlock->passphrase.s, a->unlock->passphrase.n);
	return (int)a->unlock->passphrase.n;
}

static int parse_pem(struct hga_str text, const struct hga_key_unlock *u,
                     const char *what, struct hga_key **out,
                     struct hga_err *err)
{
	struct pem_asked asked = {false, u};
	EVP_PKEY *pkey;
	BIO *bio = BIO_new_mem_buf(text.s, (int)text.n);

	if (bio == NULL)
		return ssl_failed(err, "reading a key");
	pkey = PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &asked);
	BIO_free(bio);
	ERR_clear_error();
	if (asked.asked && u == NULL) {
		EVP_PKEY_free(pkey);
		return locked_key(err, what);
	}
	if (asked.asked && pkey == NULL)
		return wrong_passphrase(err, what);
	if (pkey == NULL)
		return bad_key(err, what, "no private key that can be read");
	return wrap_take(pkey, hga_strn("", 0), what, out, err);
}

int hga_key_unlock(struct hga_str text, const struct hga_key_unlock *u,
                   const char *what, struct hga_key **out, struct hga_err *err)
{
	struct hga_str t = hga_str_trim(text);

	*out = NULL;
	if (text.n > FILE_MAX)
		return bad_key(err, what, "larger than 64 KiB");
	if (hga_str_find(t, hga_str(openssh_head)) >= 0)
		return parse_openssh(t, u, what, out, err);
	if (hga_str_starts(t, "PuTTY-User-Key-File"))
		return hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		                "%s: PuTTY key files are not supported; "
		                "export it as an OpenSSH key",
		                what);
	if (hga_str_starts(t, "ssh-") || hga_str_starts(t, "ecdsa-"))
		return bad_key(err, what, "this is a public key");
	if (hga_str_find(t, HGA_STR("-----BEGIN ")) < 0)
		return bad_key(err, what, "not a private key");
	return parse_pem(t, u, what, out, err);
}

int hga_key_parse(struct hga_str text, const char *what, struct hga_key **out,
                  struct hga_err *err)
{
	return hga_key_unlock(text, NULL, what, out, err);
}

int hga_key_peek(struct hga_str text, const char *what, struct hga_buf *out,
                 struct hga_err *err)
{
	struct hga_str t = hga_str_trim(text);
	struct openssh_file f;
	struct hga_buf raw;
	int r;

	if (text.n > FILE_MAX || hga_str_find(t, hga_str(openssh_head)) < 0)
		return locked_key(err, what);
	hga_buf_init(&raw, FILE_MAX);
	r = openssh_body(t, what, &raw, err);
	if (r == 0)
		r = split_openssh(hga_buf_str(&raw), what, &f, err);
	if (r == 0)
		r = hga_buf_addstr(out, f.pub, err);
	hga_buf_release_secret(&raw);
	return r;
}

static int check_key_file(int fd, const char *path, struct hga_err *err)
{
	struct hga_err why;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return hga_fs_fail(err, errno, "stat", path);
	if (!S_ISREG(st.st_mode))
		return bad_key(err, path, "not a regular file");
	if (hga_fs_check_owner(fd, path, 077, true, &why) < 0)
		return hga_fail(err, HGA_AUTH, 0, "KeyMode", "%s", why.msg);
	return 0;
}

int hga_key_read(const char *path, struct hga_buf *text, struct hga_err *err)
{
	struct hga_err why;
	/* non-blocking: a FIFO must not hang us before fstat */
	int fd = hga_fs_open(path, O_RDONLY | O_NONBLOCK, 0, &why);
	int r;

	if (fd == -HGA_NOTFOUND)
		return hga_fail(err, HGA_NOTFOUND, 0, "KeyNotFound",
		                "%s: no such key file", path);
	if (fd < 0)
		return hga_fail(err, why.kind, 0, "KeyFile", "%s", why.msg);
	r = check_key_file(fd, path, err);
	if (r == 0)
		r = hga_fs_read_fd(fd, path, FILE_MAX, text, err);
	(void)close(fd); /* was only read */
	return r;
}

int hga_key_load(const char *path, struct hga_key **out, struct hga_err *err)
{
	struct hga_buf text;
	int r;

	*out = NULL;
	hga_buf_init(&text, FILE_MAX);
	r = hga_key_read(path, &text, err);
	if (r == 0)
		r = hga_key_parse(hga_buf_str(&text), path, out, err);
	hga_buf_release_secret(&text);
	return r;
}

/* ---- questions ---- */

const char *hga_key_type(const struct hga_key *k)
{
	return algos[k->algo].type;
}

const char *hga_key_sigalg(const struct hga_key *k)
{
	return algos[k->algo].sigalg;
}

unsigned hga_key_bits(const struct hga_key *k)
{
	return k->bits;
}

const char *hga_key_comment(const struct hga_key *k)
{
	return k->comment;
}

struct hga_str hga_key_blob(const struct hga_key *k)
{
	return hga_buf_str(&k->blob);
}

int hga_key_public(const struct hga_key *k, struct hga_buf *out,
                   struct hga_err *err)
{
	int r = hga_buf_addf(out, err, "%s ", algos[k->algo].type);

	if (r == 0)
		r = hga_b64_encode(out, k->blob.data, k->blob.len, err);
	if (r == 0 && k->comment[0] != '\0')
		r = hga_buf_addf(out, err, " %s", k->comment);
	return r;
}

int hga_blob_fingerprint(struct hga_str blob, char out[64], struct hga_err *err)
{
	uint8_t raw[HGA_SHA256_LEN];
	struct hga_buf b;
	int r = hga_hash(HGA_SHA256, blob.s, blob.n, raw, err);

	hga_buf_init(&b, 64);
	if (r == 0)
		r = hga_b64_encode(&b, raw, sizeof(raw), err);
	if (r == 0) /* 44 characters, the last one padding */
		(void)snprintf(out, 64, "SHA256:%.43s", hga_buf_text(&b));
	hga_buf_release(&b);
	return r;
}

int hga_key_fingerprint(const struct hga_key *k, struct hga_buf *out,
                        struct hga_err *err)
{
	char fp[64];
	int r = hga_blob_fingerprint(hga_key_blob(k), fp, err);

	return r < 0 ? r : hga_buf_adds(out, fp, err);
}

/* ---- writing ---- */

/* Check words, type, public, private, comment, padding to 8 bytes. */
static int ed_private(const struct hga_key *k, struct hga_buf *out,
                      struct hga_err *err)
{
	uint8_t both[2 * ED_LEN];
	uint8_t check[4];
	size_t n = ED_LEN;
	size_t m = ED_LEN;
	int r = hga_random(check, sizeof(check), err);

	if (EVP_PKEY_get_raw_private_key(k->pkey, both, &n) != 1 ||
	    EVP_PKEY_get_raw_public_key(k->pkey, both + ED_LEN, &m) != 1)
		r = ssl_failed(err, "reading a key");
	for (int i = 0; i < 2 && r == 0; i++)
		r = hga_buf_add(out, check, sizeof(check), err);
	if (r == 0)
		r = hga_buf_addstr(out, hga_key_blob(k), err);
	if (r == 0)
		r = put_str(out, hga_strn((char *)both, sizeof(both)), err);
	if (r == 0)
		r = put_str(out, hga_str(k->comment), err);
	for (char pad = 1; out->len % 8 != 0 && r == 0; pad++)
		r = hga_buf_addc(out, pad, err);
	hga_wipe(both, sizeof(both));
	return r;
}

static int openssh_bytes(const struct hga_key *k, struct hga_buf *raw,
                         struct hga_buf *priv, struct hga_err *err)
{
	int r = ed_private(k, priv, err);

	if (r == 0)
		r = hga_buf_add(raw, "openssh-key-v1", 15, err);
	for (int i = 0; i < 2 && r == 0; i++) /* cipher, kdf */
		r = put_str(raw, HGA_STR("none"), err);
	if (r == 0)
		r = put_u32(raw, 0, err); /* kdf options */
	if (r == 0)
		r = put_u32(raw, 1, err); /* one key */
	if (r == 0)
		r = put_str(raw, hga_key_blob(k), err);
	if (r == 0)
		r = put_str(raw, hga_buf_str(priv), err);
	return r;
}

static int add_lines(struct hga_buf *out, struct hga_str b64,
                     struct hga_err *err)
{
	int r = hga_buf_addf(out, err, "%s\n", openssh_head);

	while (b64.n > 0 && r == 0) {
		size_t n = b64.n < 70 ? b64.n : 70;

		r = hga_buf_add(out, b64.s, n, err);
		if (r == 0)
			r = hga_buf_addc(out, '\n', err);
		b64 = hga_strn(b64.s + n, b64.n - n);
	}
	return r < 0 ? r : hga_buf_addf(out, err, "%s\n", openssh_tail);
}

int hga_key_private(const struct hga_key *k, struct hga_buf *out,
                    struct hga_err *err)
{
	struct hga_buf b[3]; /* private section, whole, base64 */
	int r = 0;

	if (k->algo != ALGO_ED25519)
		return hga_fail(err, HGA_USAGE, 0, "KeyType",
		                "only ed25519 keys can be written");
	for (int i = 0; i < 3; i++) {
		hga_buf_init(&b[i], BLOB_MAX);
		if (r == 0) /* growing would leave copies behind */
			r = hga_buf_reserve(&b[i], 4096, err);
	}
	if (r == 0)
		r = hga_buf_reserve(out, 4096, err);
	if (r == 0)
		r = openssh_bytes(k, &b[1], &b[0], err);
	if (r == 0)
		r = hga_b64_encode(&b[2], b[1].data, b[1].len, err);
	if (r == 0)
		r = add_lines(out, hga_buf_str(&b[2]), err);
	for (int i = 0; i < 3; i++)
		hga_buf_release_secret(&b[i]);
	return r;
}

/* ---- signatures ---- */

/* DER ECDSA-Sig-Value -> two mpints (RFC 5656 section 3.1.2). */
static int ec_signature(struct hga_str der, struct hga_buf *out,
                        struct hga_err *err)
{
	const unsigned char *p = (const unsigned char *)der.s;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der.n);
	struct hga_buf b;
	int r;

	if (sig == NULL)
		return ssl_failed(err, "signing");
	hga_buf_init(&b, BLOB_MAX);
	r = put_mpint(&b, ECDSA_SIG_get0_r(sig), err);
	if (r == 0)
		r = put_mpint(&b, ECDSA_SIG_get0_s(sig), err);
	if (r == 0)
		r = put_str(out, hga_buf_str(&b), err);
	ECDSA_SIG_free(sig);
	hga_buf_release(&b);
	return r;
}

static int raw_sign(const struct hga_key *k, const char *md,
                    struct hga_str data, uint8_t *sig, size_t *n,
                    struct hga_err *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int good =
	    ctx != NULL &&
	    EVP_DigestSignInit_ex(ctx, NULL, md, NULL, NULL, k->pkey, NULL) ==
	        1 &&
	    EVP_DigestSign(ctx, sig, n, (const uint8_t *)data.s, data.n) == 1;

	EVP_MD_CTX_free(ctx);
	return good ? 0 : ssl_failed(err, "signing");
}

/* Digest for a signature algorithm of this key; false: does not fit. */
static bool sign_digest(const struct hga_key *k, const char *alg,
                        const char **md)
{
	if (k->algo != ALGO_RSA) {
		*md = algos[k->algo].digest;
		return strcmp(alg, algos[k->algo].sigalg) == 0;
	}
	*md = strcmp(alg, "rsa-sha2-256") == 0 ? "SHA256" : "SHA512";
	return strcmp(alg, "rsa-sha2-256") == 0 ||
	       strcmp(alg, "rsa-sha2-512") == 0;
}

int hga_key_sign(const struct hga_key *k, const char *alg, struct hga_str data,
                 struct hga_buf *out, struct hga_err *err)
{
	uint8_t sig[RSA_MAX_BITS / 8];
	size_t n = sizeof(sig);
	const char *md;
	int r;

	if (alg == NULL)
		alg = algos[k->algo].sigalg;
	if (!sign_digest(k, alg, &md))
		return hga_fail(err, HGA_USAGE, 0, "KeyType",
		                "a %s key cannot sign with %s",
		                algos[k->algo].type, alg);
	if (k->bits > RSA_MAX_BITS)
		return hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		                "key of more than %d bits", RSA_MAX_BITS);
	r = raw_sign(k, md, data, sig, &n, err);
	if (r == 0)
		r = put_str(out, hga_str(alg), err);
	if (r < 0)
		return r;
	if (algos[k->algo].curve != NULL)
		return ec_signature(hga_strn((char *)sig, n), out, err);
	return put_str(out, hga_strn((char *)sig, n), err);
}

/* ---- public key lines ---- */

static int bad_line(struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "KeyFormat",
	                "not an OpenSSH public key line");
}

/* Splits at the first run of blanks. */
static struct hga_str first_word(struct hga_str *rest)
{
	struct hga_str t = hga_str_trim(*rest);
	size_t n = 0;

	while (n < t.n && t.s[n] != ' ' && t.s[n] != '\t')
		n++;
	*rest = hga_strn(t.s + n, t.n - n);
	return hga_strn(t.s, n);
}

static int line_blob(struct hga_str line, struct hga_str *type,
                     struct hga_buf *out, struct hga_err *err)
{
	struct hga_str rest = line;
	struct hga_str b64;
	struct hga_str name;
	struct wire w;

	*type = first_word(&rest);
	b64 = first_word(&rest);
	if (type->n == 0 || type->n > 31 || b64.n == 0 || b64.n > BLOB_MAX ||
	    hga_b64_decode(out, b64, NULL) < 0)
		return bad_line(err);
	w = (struct wire){(const uint8_t *)out->data, out->len};
	if (!get_str(&w, &name) || !hga_str_eq(name, *type))
		return bad_line(err);
	return 0;
}

int hga_pubkey_blob(struct hga_str line, struct hga_buf *out,
                    struct hga_err *err)
{
	struct hga_str type;
	struct hga_buf b;
	int r;

	hga_buf_init(&b, BLOB_MAX);
	r = line_blob(line, &type, &b, err);
	if (r == 0)
		r = hga_buf_addstr(out, hga_buf_str(&b), err);
	hga_buf_release(&b);
	return r;
}

static void colon_hex(char out[64], const uint8_t md5[16])
{
	for (size_t i = 0; i < 16; i++)
		(void)snprintf(out + 3 * i, 4, "%02x:", md5[i]);
	out[47] = '\0';
}

static int md5_text(const void *p, size_t n, char out[64], struct hga_err *err)
{
	uint8_t raw[16];
	int r = hga_hash(HGA_MD5, p, n, raw, err);

	if (r == 0)
		colon_hex(out, raw);
	return r;
}

/* MD5 over the DER SubjectPublicKeyInfo, as EC2 reports for imported keys. */
static int rsa_info(struct wire w, struct hga_pubinfo *out, struct hga_err *err)
{
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	struct hga_str e;
	struct hga_str n;
	BIGNUM *be = NULL;
	BIGNUM *bn = NULL;
	EVP_PKEY *pkey = NULL;
	unsigned char *der = NULL;
	int len = 0;
	int r;

	if (get_str(&w, &e) && get_str(&w, &n)) {
		be = to_bn(e);
		bn = to_bn(n);
	}
	if (bld != NULL && be != NULL && bn != NULL && !BN_is_zero(bn) &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn) == 1 &&
	    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, be) == 1)
		pkey = from_params("RSA", EVP_PKEY_PUBLIC_KEY, bld);
	if (pkey != NULL)
		len = i2d_PUBKEY(pkey, &der);
	if (len > 0) {
		out->bits = (unsigned)BN_num_bits(bn);
		r = md5_text(der, (size_t)len, out->md5_der, err);
	} else {
		r = bad_line(err);
	}
	OPENSSL_free(der);
	EVP_PKEY_free(pkey);
	BN_free(be);
	BN_free(bn);
	OSSL_PARAM_BLD_free(bld);
	ERR_clear_error();
	return r;
}

/* What the blob says beyond its name. */
static int blob_info(struct hga_str blob, struct hga_pubinfo *out,
                     struct hga_err *err)
{
	struct wire w = {(const uint8_t *)blob.s, blob.n};
	struct hga_str s;

	if (!get_str(&w, &s)) /* the type, checked before */
		return bad_line(err);
	if (strcmp(out->type, "ssh-rsa") == 0)
		return rsa_info(w, out, err);
	for (size_t a = 0; a < N_ALGOS; a++)
		if (strcmp(out->type, algos[a].type) == 0)
			out->bits = algos[a].bits;
	if (strcmp(out->type, "ssh-ed25519") == 0 &&
	    (!get_str(&w, &s) || s.n != ED_LEN))
		return bad_line(err);
	return 0;
}

int hga_pubkey_info(struct hga_str line, struct hga_pubinfo *out,
                    struct hga_err *err)
{
	struct hga_str type;
	struct hga_buf b;
	int r;

	memset(out, 0, sizeof(*out));
	hga_buf_init(&b, BLOB_MAX);
	r = line_blob(line, &type, &b, err);
	if (r == 0) {
		memcpy(out->type, type.s, type.n); /* at most 31 bytes */
		r = blob_info(hga_buf_str(&b), out, err);
	}
	if (r == 0)
		r = hga_blob_fingerprint(hga_buf_str(&b), out->fingerprint,
		                         err);
	if (r == 0) {
		(void)snprintf(out->sha256_b64, sizeof(out->sha256_b64),
		               "%.43s=", out->fingerprint + strlen("SHA256:"));
		r = md5_text(b.data, b.len, out->md5_blob, err);
	}
	hga_buf_release(&b);
	return r;
}

/* ---- random ---- */

int hga_random(void *p, size_t n, struct hga_err *err)
{
	uint8_t *b = p;

	while (n > 0) {
		int part = n < 65536 ? (int)n : 65536;

		if (RAND_bytes(b, part) != 1) {
			ERR_clear_error();
			return hga_fail(err, HGA_BUG, 0, "Random",
			                "no random bytes from OpenSSL");
		}
		b += part;
		n -= (size_t)part;
	}
	return 0;
}

int hga_token(char out[33], struct hga_err *err)
{
	uint8_t raw[16];
	int r = hga_random(raw, sizeof(raw), err);

	for (size_t i = 0; i < sizeof(raw) && r == 0; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", raw[i]);
	return r;
}

int hga_uuid(char out[37], struct hga_err *err)
{
	uint8_t b[16];
	int r = hga_random(b, sizeof(b), err);
	size_t at = 0;

	if (r < 0)
		return r;
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80); /* variant 1 */
	for (size_t i = 0; i < sizeof(b); i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[at++] = '-';
		(void)snprintf(out + at, 3, "%02x", b[i]);
		at += 2;
	}
	return 0;
}
