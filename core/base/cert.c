/*
 * X.509 on OpenSSL (RFC 5280), pins as libcurl takes them (RFC 7469).
 */
#include "base/cert.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define DAY 86400
#define BITS 2048u

static int failed(struct hga_err *err, const char *what)
{
	ERR_clear_error();
	return hga_fail(err, HGA_BUG, 0, "OpenSSL", "cannot %s", what);
}

static bool add_ext(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	bool good;

	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	good = e != NULL && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return good;
}

static bool set_serial(X509 *x)
{
	unsigned char raw[16];
	BIGNUM *n;
	bool good;

	if (RAND_bytes(raw, sizeof(raw)) != 1)
		return false;
	raw[0] = (raw[0] & 0x7f) | 1; /* positive, not zero */
	n = BN_bin2bn(raw, sizeof(raw), NULL);
	good = n != NULL &&
	       BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
	BN_free(n);
	return good;
}

static bool fill(X509 *x, EVP_PKEY *key, const struct hga_cert_opts *o)
{
	bool standard = o->from_s == 0 && o->to_s == 0;
	X509_NAME *n = X509_get_subject_name(x);
	char san[512];

	if (o->ip != NULL)
		snprintf(san, sizeof(san), "DNS:%s,IP:%s", o->name, o->ip);
	else
		snprintf(san, sizeof(san), "DNS:%s", o->name);
	return X509_set_version(x, 2) == 1 && set_serial(x) &&
	       X509_gmtime_adj(X509_getm_notBefore(x),
	                       standard ? -DAY : (long)o->from_s) != NULL &&
	       X509_gmtime_adj(X509_getm_notAfter(x),
	                       standard ? 825L * DAY : (long)o->to_s) != NULL &&
	       X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8,
	                                  (const unsigned char *)o->name, -1,
	                                  -1, 0) == 1 &&
	       X509_set_issuer_name(x, n) == 1 &&
	       X509_set_pubkey(x, key) == 1 &&
	       add_ext(x, NID_subject_alt_name, san) &&
	       add_ext(x, NID_ext_key_usage, "serverAuth") &&
	       X509_sign(x, key, EVP_sha256()) > 0;
}

/* What a memory BIO holds; it is emptied of secrets by OpenSSL. */
static int take(BIO *b, bool good, struct hga_buf *out, struct hga_err *err)
{
	char *p = NULL;
	long n = good ? BIO_get_mem_data(b, &p) : -1;

	return n < 0 ? failed(err, "write PEM")
	             : hga_buf_add(out, p, (size_t)n, err);
}

static int write_both(X509 *x, EVP_PKEY *key, struct hga_buf *cert,
                      struct hga_buf *priv, struct hga_err *err)
{
	BIO *b = BIO_new(BIO_s_mem()), *k = BIO_new(BIO_s_secmem());
	int r;

	if (b == NULL || k == NULL)
		r = hga_fail_mem(err);
	else
		r = take(b, PEM_write_bio_X509(b, x) == 1, cert, err);
	if (r == 0)
		r = take(k,
		         PEM_write_bio_PKCS8PrivateKey(k, key, NULL, NULL, 0,
		                                       NULL, NULL) == 1,
		         priv, err);
	BIO_free(b);
	BIO_free(k);
	return r;
}

/* The name goes into an extension's text form. */
static bool plain_name(const char *s)
{
	if (*s == '\0' || strlen(s) > 200)
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	                 "0123456789.-:") == strlen(s);
}

int hga_cert_new(const struct hga_cert_opts *opts, struct hga_buf *cert,
                 struct hga_buf *key, struct hga_err *err)
{
	EVP_PKEY *k;
	X509 *x;
	int r;

	if (!plain_name(opts->name) ||
	    (opts->ip != NULL && !plain_name(opts->ip)))
		return hga_fail(err, HGA_USAGE, 0, "Name",
		                "certificate: name and address must be plain");
	k = EVP_RSA_gen(BITS);
	x = X509_new();
	if (k == NULL || x == NULL)
		r = failed(err, "make a key");
	else if (!fill(x, k, opts))
		r = failed(err, "make a certificate");
	else
		r = write_both(x, k, cert, key, err);
	X509_free(x);
	EVP_PKEY_free(k);
	return r;
}

static X509 *read_cert(struct hga_str pem)
{
	BIO *b;
	X509 *x = NULL;

	if (pem.n > 1024 * 1024)
		return NULL;
	b = BIO_new_mem_buf(pem.s, (int)pem.n);
	if (b != NULL)
		x = PEM_read_bio_X509(b, NULL, NULL, NULL);
	BIO_free(b);
	ERR_clear_error();
	return x;
}

static int not_a_cert(struct hga_err *err)
{
	return hga_fail(err, HGA_USAGE, 0, "Certificate",
	                "not a certificate in PEM");
}

int hga_cert_pin(struct hga_str pem, struct hga_buf *out, struct hga_err *err)
{
	X509 *x = read_cert(pem);
	unsigned char *der = NULL;
	uint8_t sum[HGA_SHA256_LEN];
	int n, r;

	if (x == NULL)
		return not_a_cert(err);
	n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
	X509_free(x);
	if (n <= 0)
		return failed(err, "read the public key");
	r = hga_hash(HGA_SHA256, der, (size_t)n, sum, err);
	OPENSSL_free(der);
	if (r == 0)
		r = hga_buf_adds(out, "sha256//", err);
	return r < 0 ? r : hga_b64_encode(out, sum, sizeof(sum), err);
}

static EVP_PKEY *read_key(struct hga_str pem)
{
	BIO *b;
	EVP_PKEY *k = NULL;

	if (pem.n > 1024 * 1024)
		return NULL;
	b = BIO_new_mem_buf(pem.s, (int)pem.n);
	if (b != NULL)
		k = PEM_read_bio_PrivateKey(b, NULL, NULL, NULL);
	BIO_free(b);
	ERR_clear_error();
	return k;
}

int hga_cert_pfx(struct hga_str cert, struct hga_str key, const char *password,
                 struct hga_buf *out, struct hga_err *err)
{
	X509 *x = read_cert(cert);
	EVP_PKEY *k = read_key(key);
	PKCS12 *p = NULL;
	unsigned char *der = NULL;
	int n = -1, r;

	if (x != NULL && k != NULL)
		p = PKCS12_create(password, "hgauto", k, x, NULL,
		                  NID_pbe_WithSHA1And3_Key_TripleDES_CBC,
		                  NID_pbe_WithSHA1And3_Key_TripleDES_CBC, 2048,
		                  -1, 0);
	if (p != NULL &&
	    PKCS12_set_mac(p, password, -1, NULL, 0, 2048, EVP_sha1()) == 1)
		n = i2d_PKCS12(p, &der);
	r = x == NULL || k == NULL ? not_a_cert(err)
	    : n <= 0               ? failed(err, "write PKCS#12")
	                           : hga_buf_add(out, der, (size_t)n, err);
	OPENSSL_free(der);
	PKCS12_free(p);
	X509_free(x);
	EVP_PKEY_free(k);
	return r;
}

static int write_pem(X509 *x, EVP_PKEY *k, struct hga_buf *cert,
                     struct hga_buf *key, struct hga_err *err)
{
	BIO *c = BIO_new(BIO_s_mem()), *b = BIO_new(BIO_s_mem());
	char *cp = NULL, *kp = NULL;
	long cn = 0, kn = 0;
	int r;

	if (c != NULL && b != NULL && PEM_write_bio_X509(c, x) == 1 &&
	    PEM_write_bio_PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) == 1) {
		cn = BIO_get_mem_data(c, &cp);
		kn = BIO_get_mem_data(b, &kp);
	}
	r = cn <= 0 || kn <= 0 ? failed(err, "write PEM")
	                       : hga_buf_add(cert, cp, (size_t)cn, err);
	if (r == 0)
		r = hga_buf_add(key, kp, (size_t)kn, err);
	BIO_free(c);
	BIO_free(b);
	return r;
}

/* Rounds that one derivation of a key may ask for; we write 2048. */
#define ROUNDS 20000

/* A peer that names billions of rounds would stop the loop for hours. */
static bool few(const ASN1_INTEGER *rounds)
{
	int64_t n = 0;

	return rounds == NULL ||
	       (ASN1_INTEGER_get_int64(&n, rounds) == 1 && n <= ROUNDS);
}

static bool cheap_pbkdf2(const X509_ALGOR *a)
{
	PBKDF2PARAM *p = NULL;
	bool good;

	if (a != NULL && OBJ_obj2nid(a->algorithm) == NID_id_pbkdf2)
		p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM),
		                              a->parameter);
	good = p != NULL && few(p->iter);
	PBKDF2PARAM_free(p);
	return good;
}

/* Whether a key of that scheme (RFC 8018) is derived in reasonable time. */
static bool cheap(const X509_ALGOR *a)
{
	bool two = OBJ_obj2nid(a->algorithm) == NID_pbes2;
	PBEPARAM *one = NULL;
	PBE2PARAM *p = NULL;
	bool good;

	if (two)
		p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM),
		                              a->parameter);
	else
		one = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM),
		                                a->parameter);
	good = two ? p != NULL && cheap_pbkdf2(p->keyfunc)
	           : one != NULL && few(one->iter);
	PBE2PARAM_free(p);
	PBEPARAM_free(one);
	return good;
}

static bool cheap_bags(STACK_OF(PKCS12_SAFEBAG) * bags)
{
	bool good = bags != NULL && sk_PKCS12_SAFEBAG_num(bags) <= 4;

	for (int i = 0; good && i < sk_PKCS12_SAFEBAG_num(bags); i++) {
		PKCS12_SAFEBAG *bag = sk_PKCS12_SAFEBAG_value(bags, i);
		int nid = PKCS12_SAFEBAG_get_nid(bag);
		const X509_ALGOR *a = NULL;

		if (nid == NID_pkcs8ShroudedKeyBag) {
			X509_SIG_get0(PKCS12_SAFEBAG_get0_pkcs8(bag), &a, NULL);
			good = cheap(a);
		} else {
			good = nid != NID_safeContentsBag; /* nobody nests */
		}
	}
	sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
	return good;
}

/* Whether a PKCS#12 can be opened without an unreasonable number of rounds. */
static bool cheap_pfx(const PKCS12 *p, const char *password)
{
	const ASN1_INTEGER *rounds = NULL;
	STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p);
	bool good = safes != NULL && sk_PKCS7_num(safes) <= 4;

	PKCS12_get0_mac(NULL, NULL, NULL, &rounds, p);
	good = good && few(rounds);
	for (int i = 0; good && i < sk_PKCS7_num(safes); i++) {
		PKCS7 *s = sk_PKCS7_value(safes, i);
		const PKCS7_ENCRYPT *e =
		    PKCS7_type_is_encrypted(s) ? s->d.encrypted : NULL;

		if (PKCS7_type_is_data(s))
			good = cheap_bags(PKCS12_unpack_p7data(s));
		else
			good = e != NULL && e->enc_data != NULL &&
			       cheap(e->enc_data->algorithm) &&
			       cheap_bags(
			           PKCS12_unpack_p7encdata(s, password, -1));
	}
	sk_PKCS7_pop_free(safes, PKCS7_free);
	return good;
}

int hga_cert_pfx_read(struct hga_str pfx, const char *password,
                      struct hga_buf *cert, struct hga_buf *key,
                      struct hga_err *err)
{
	const unsigned char *at = (const unsigned char *)pfx.s;
	PKCS12 *p = pfx.n <= 65536 ? d2i_PKCS12(NULL, &at, (long)pfx.n) : NULL;
	X509 *x = NULL;
	EVP_PKEY *k = NULL;
	int r;

	if (p == NULL || !cheap_pfx(p, password) ||
	    PKCS12_parse(p, password, &k, &x, NULL) != 1 || x == NULL ||
	    k == NULL) {
		ERR_clear_error();
		r = hga_fail(err, HGA_USAGE, 0, "Certificate",
		             "not a PKCS#12 of a certificate and its key, or "
		             "another password");
	} else {
		r = write_pem(x, k, cert, key, err);
	}
	PKCS12_free(p);
	X509_free(x);
	EVP_PKEY_free(k);
	return r;
}
