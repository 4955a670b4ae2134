/*
 * Module hgauto.crypto: digests, coding, random, SSH keys.
 *
 * The class LB_KEY_CLASS holds one struct hga_key * (NULL: closed); lssh.c
 * takes it through lb_check, lstate.c makes one with lb_newkey.
 */
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "base/cert.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/gzip.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"

#include <lauxlib.h>

#include <stdio.h>
#include <string.h>

#define RANDOM_MAX ((lua_Integer)1 << 20)
#define GUNZIP_MAX ((lua_Integer)1 << 30)

/* ---- digests ---- */

static int push_digest(lua_State *L, enum hga_hash_alg alg)
{
	struct hga_str text = lb_checkstr(L, 1);
	char hex[2 * HGA_HASH_MAX + 1];
	struct hga_err err;

	if (hga_hash_hex(alg, text.s, text.n, hex, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, hex);
	return 1;
}

/// SHA-256 of a text.
// @param text string
// @return string hex
static int l_sha256(lua_State *L)
{
	return push_digest(L, HGA_SHA256);
}

/// SHA-1 of a text.
// @param text string
// @return string hex
static int l_sha1(lua_State *L)
{
	return push_digest(L, HGA_SHA1);
}

/// MD5 of a text.
// @param text string
// @return string hex
static int l_md5(lua_State *L)
{
	return push_digest(L, HGA_MD5);
}

/// HMAC-SHA256 of a text.
// @param key string|secret
// @param text string
// @return string raw, 32 bytes
static int l_hmac_sha256(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 2);
	struct hga_str key;
	uint8_t out[HGA_SHA256_LEN];
	struct hga_err err;

	if (!lb_tosecret(L, 1, &key))
		return lb_usage(L, 1, "string expected, got %s",
		                luaL_typename(L, 1));
	if (hga_hmac_sha256(key, text, out, &err) < 0)
		return lb_raise(L, &err);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	return 1;
}

/// Whether two texts are equal, in time that depends on the lengths only.
// @param a string|secret
// @param b string|secret
// @return boolean
static int l_equal(lua_State *L)
{
	struct hga_str a, b;

	if (!lb_tosecret(L, 1, &a) || !lb_tosecret(L, 2, &b))
		return lb_usage(L, 1, "two strings expected");
	lua_pushboolean(L, hga_equal_ct(a, b));
	return 1;
}

/* ---- coding ---- */

static int code(lua_State *L, int r, struct hga_buf *out, struct hga_err *err)
{
	if (r < 0) {
		hga_buf_release(out);
		return lb_raise(L, err);
	}
	lb_pushbuf(L, out);
	return 1;
}

/// Lower-case hex of a text.
// @param text string
// @return string
static int l_hex(lua_State *L)
{
	struct hga_str s = lb_checkstr(L, 1);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, (size_t)1 << 30);
	return code(L, hga_hex_encode(&out, s.s, s.n, &err), &out, &err);
}

/// Text of a hex string.
// @param hex string
// @return string
// @raise protocol
static int l_unhex(lua_State *L)
{
	struct hga_str s = lb_checkstr(L, 1);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, (size_t)1 << 30);
	return code(L, hga_hex_decode(&out, s, &err), &out, &err);
}

/// Base64 of a text.
// @param text string
// @return string
static int l_base64(lua_State *L)
{
	struct hga_str s = lb_checkstr(L, 1);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, (size_t)1 << 30);
	return code(L, hga_b64_encode(&out, s.s, s.n, &err), &out, &err);
}

/// Text of a base64 or base64url string.
// @param text string
// @return string
// @raise protocol
static int l_unbase64(lua_State *L)
{
	struct hga_str s = lb_checkstr(L, 1);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, (size_t)1 << 30);
	return code(L, hga_b64_decode(&out, s, &err), &out, &err);
}

/* ---- random ---- */

/// Random bytes.
// @param n integer
// @return string raw
static int l_random(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);
	struct hga_err err;
	void *p;

	if (n < 0 || n > RANDOM_MAX)
		return lb_usage(L, 1, "0 to %d bytes", (int)RANDOM_MAX);
	p = lua_newuserdatauv(L, (size_t)n + 1, 0);
	if (hga_random(p, (size_t)n, &err) < 0)
		return lb_raise(L, &err);
	lua_pushlstring(L, p, (size_t)n);
	hga_wipe(p, (size_t)n);
	return 1;
}

/// A random UUID.
// @return string
static int l_uuid(lua_State *L)
{
	struct hga_err err;
	char out[37];

	if (hga_uuid(out, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, out);
	return 1;
}

/// 32 random hex digits.
// @return string
static int l_token(lua_State *L)
{
	struct hga_err err;
	char out[33];

	if (hga_token(out, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, out);
	return 1;
}

/// A secret: shown as ***, its text by :reveal(); registered for redaction.
// @param text string
// @return secret
static int l_secret(lua_State *L)
{
	lb_pushsecret(L, lb_checkstr(L, 1));
	return 1;
}

/* ---- keys ---- */

static struct hga_key *check_key(lua_State *L)
{
	struct hga_key **k = lb_check(L, 1, LB_KEY_CLASS);

	if (*k == NULL)
		(void)lb_fail(L, HGA_USAGE, "Closed", "the key is closed");
	return *k;
}

/// Forgets the key.
static int key_close(lua_State *L)
{
	struct hga_key **k = lb_check(L, 1, LB_KEY_CLASS);

	hga_key_free(*k);
	*k = NULL;
	return 0;
}

/// Public key line "ssh-ed25519 AAAA… comment".
// @return string
static int key_public(lua_State *L)
{
	const struct hga_key *k = check_key(L);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, 1 << 16);
	return code(L, hga_key_public(k, &out, &err), &out, &err);
}

/// Fingerprint "SHA256:…".
// @return string
static int key_fingerprint(lua_State *L)
{
	const struct hga_key *k = check_key(L);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, 1 << 16);
	return code(L, hga_key_fingerprint(k, &out, &err), &out, &err);
}

/// Raw public key (RFC 4253).
// @return string
static int key_blob(lua_State *L)
{
	lb_pushstr(L, hga_key_blob(check_key(L)));
	return 1;
}

/// Algorithm, e.g. "ssh-ed25519".
// @return string
static int key_type(lua_State *L)
{
	lua_pushstring(L, hga_key_type(check_key(L)));
	return 1;
}

/// Private key as OpenSSH PEM.
// @return secret
static int key_private(lua_State *L)
{
	const struct hga_key *k = check_key(L);
	struct hga_buf out;
	struct hga_err err;
	struct hga_str s;

	hga_buf_init(&out, 1 << 16);
	if (hga_key_private(k, &out, &err) < 0) {
		hga_buf_release_secret(&out);
		return lb_raise(L, &err);
	}
	lb_pushbuf_secret(L, &out);
	s.s = lua_tolstring(L, -1, &s.n);
	lb_pushsecret(L, s);
	return 1;
}

/// Writes the private key to a file (mode 600, at once).
// @param path string
// @raise io
static int key_save(lua_State *L)
{
	const struct hga_key *k = check_key(L);
	const char *path = luaL_checkstring(L, 2);
	struct hga_buf out;
	struct hga_err err;
	int r;

	sched_check_effect(L, "key:save");
	hga_buf_init(&out, 1 << 16);
	r = hga_key_private(k, &out, &err);
	if (r == 0)
		r = hga_fs_replace(path, hga_buf_str(&out), 0600, HGA_FS_SYNC,
		                   &err);
	hga_buf_release_secret(&out);
	return r < 0 ? lb_raise(L, &err) : 0;
}

static int key_tostring(lua_State *L)
{
	struct hga_key *const *k = lb_check(L, 1, LB_KEY_CLASS);

	lua_pushfstring(L, "key %s", *k != NULL ? hga_key_type(*k) : "closed");
	return 1;
}

struct hga_key **lb_newkey(lua_State *L)
{
	static const luaL_Reg methods[] = {
	    {"public", key_public},   {"fingerprint", key_fingerprint},
	    {"blob", key_blob},       {"type", key_type},
	    {"private", key_private}, {"save", key_save},
	    {"close", key_close},     {NULL, NULL}};
	static const luaL_Reg meta[] = {{"__tostring", key_tostring},
	                                {NULL, NULL}};

	lb_newclass(L, LB_KEY_CLASS, methods, meta);
	return lb_newobj(L, sizeof(struct hga_key *), 0, LB_KEY_CLASS);
}

/// Makes a key pair.
// @param alg string "ed25519"
// @param[opt] comment string
// @return key
static int l_keypair(lua_State *L)
{
	const char *alg = luaL_checkstring(L, 1);
	const char *comment = luaL_optstring(L, 2, "");
	struct hga_key **k = lb_newkey(L);
	struct hga_err err;

	if (hga_key_new(alg, comment, k, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

/// Reads a private key file: ours, mode 600 or less.
// @param path string
// @return key
// @raise auth (KeyFormat, KeyMode, ...), notfound
static int l_load_private(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct hga_key **k = lb_newkey(L);
	struct hga_err err;

	if (hga_key_load(path, k, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

/// Reads a private key text.
// @param text string|secret
// @return key
// @raise auth (KeyFormat, ...)
static int l_parse_private(lua_State *L)
{
	struct hga_str text;
	struct hga_key **k;
	struct hga_err err;

	if (!lb_tosecret(L, 1, &text))
		return lb_usage(L, 1, "string expected, got %s",
		                luaL_typename(L, 1));
	k = lb_newkey(L);
	if (hga_key_parse(text, "key", k, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (text[0] == '\0')
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

/// What a public key line says.
// @param line string "ssh-ed25519 AAAA…" or "ssh-rsa …"
// @return {type=string, bits=integer, fingerprint=string, md5_der=string|nil,
// md5_blob=string, sha256_b64=string}
// @raise usage (KeyFormat)
static int l_public_info(lua_State *L)
{
	struct hga_str line = lb_checkstr(L, 1);
	struct hga_pubinfo info;
	struct hga_err err;

	if (hga_pubkey_info(line, &info, &err) < 0)
		return lb_raise(L, &err);
	lua_createtable(L, 0, 6);
	set_text(L, "type", info.type);
	set_text(L, "fingerprint", info.fingerprint);
	set_text(L, "sha256_b64", info.sha256_b64);
	set_text(L, "md5_der", info.md5_der);
	set_text(L, "md5_blob", info.md5_blob);
	lua_pushinteger(L, info.bits);
	lua_setfield(L, -2, "bits");
	return 1;
}

struct cert_opts {
	const char *name, *ip;
	int64_t valid_from, valid_to;
};

/// Makes an RSA key and a certificate signed by itself.
// @param opts.name string its name, as clients will ask for it
// @param opts.ip string|nil one more name: an address
// @param opts.valid_from integer|nil seconds from now, default a day ago
// @param opts.valid_to integer|nil seconds from now, default in 825 days
// @return {cert=string, key=secret, pin=string} PEM texts; pin "sha256//..."
// @raise usage
static int l_certificate(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"name", LB_CSTR, offsetof(struct cert_opts, name)},
	    {"ip", LB_CSTR, offsetof(struct cert_opts, ip)},
	    {"valid_from", LB_INT, offsetof(struct cert_opts, valid_from)},
	    {"valid_to", LB_INT, offsetof(struct cert_opts, valid_to)},
	    {NULL, LB_ANY, 0}};
	struct cert_opts o = {.name = "hgauto"};
	struct hga_cert_opts c;
	struct hga_buf cert, key, pin;
	struct hga_err err;
	int r;

	lb_opts(L, 1, "crypto.certificate", defs, &o);
	c = (struct hga_cert_opts){o.name, o.ip, o.valid_from, o.valid_to};
	hga_buf_init(&cert, 65536);
	hga_buf_init(&key, 65536);
	hga_buf_init(&pin, 256);
	r = hga_cert_new(&c, &cert, &key, &err);
	if (r == 0)
		r = hga_cert_pin(hga_buf_str(&cert), &pin, &err);
	if (r < 0) {
		hga_buf_release(&cert);
		hga_buf_release_secret(&key);
		return lb_raise(L, &err);
	}
	/* Few and small: a memory error here loses them, not the secret. */
	lua_createtable(L, 0, 3);
	lb_pushbuf(L, &cert);
	lua_setfield(L, -2, "cert");
	lb_pushbuf(L, &pin);
	lua_setfield(L, -2, "pin");
	lb_pushbuf_secret(L, &key);
	lb_pushsecret(L, lb_checkstr(L, -1));
	lua_setfield(L, -3, "key");
	lua_pop(L, 1);
	return 1;
}

/// Pin of a certificate's public key.
// @param pem string
// @return string "sha256//..."
// @raise usage (Certificate)
static int l_certificate_pin(lua_State *L)
{
	struct hga_str pem = lb_checkstr(L, 1);
	struct hga_buf b;
	struct hga_err err;

	hga_buf_init(&b, 256);
	if (hga_cert_pin(pem, &b, &err) < 0) {
		hga_buf_release(&b);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &b);
	return 1;
}

/// PKCS#12 of a certificate and its key, as each Windows imports it.
// @param cert string PEM
// @param key string|secret PEM
// @param password string|secret
// @return secret
// @raise usage (Certificate)
static int l_pfx(lua_State *L)
{
	struct hga_str cert = lb_checkstr(L, 1), key, password;
	struct hga_buf b;
	struct hga_err err;

	if (!lb_tosecret(L, 2, &key) || !lb_tosecret(L, 3, &password))
		return lb_usage(L, 2, "key and password expected");
	hga_buf_init(&b, 65536);
	if (hga_cert_pfx(cert, key, password.s, &b, &err) < 0) {
		hga_buf_release_secret(&b);
		return lb_raise(L, &err);
	}
	lb_pushbuf_secret(L, &b);
	lb_pushsecret(L, lb_checkstr(L, -1));
	return 1;
}

/// Certificate and key of a PKCS#12.
// @param pfx string|secret its bytes
// @param password string|secret
// @return {cert=string, key=secret} PEM texts
// @raise usage (Certificate) damaged, or another password
static int l_pfx_read(lua_State *L)
{
	struct hga_str pfx, password;
	struct hga_buf cert, key;
	struct hga_err err;
	int r;

	if (!lb_tosecret(L, 1, &pfx) || !lb_tosecret(L, 2, &password))
		return lb_usage(L, 1, "bytes and password expected");
	hga_buf_init(&cert, 65536);
	hga_buf_init(&key, 65536);
	r = hga_cert_pfx_read(pfx, password.s, &cert, &key, &err);
	if (r < 0) {
		hga_buf_release(&cert);
		hga_buf_release_secret(&key);
		return lb_raise(L, &err);
	}
	lua_createtable(L, 0, 2);
	lb_pushbuf(L, &cert);
	lua_setfield(L, -2, "cert");
	lb_pushbuf_secret(L, &key);
	lb_pushsecret(L, lb_checkstr(L, -1));
	lua_setfield(L, -3, "key");
	lua_pop(L, 1);
	return 1;
}

/// What one gzip member holds.
// @param data string
// @param max integer bytes at most
// @return string
// @raise protocol (Garbled, TooLarge); usage (NoZlib) built without zlib
static int l_gunzip(lua_State *L)
{
	struct hga_str data = lb_checkstr(L, 1);
	lua_Integer max = luaL_checkinteger(L, 2);
	struct hga_buf b;
	struct hga_err err;

	if (max < 0 || max > GUNZIP_MAX)
		return lb_usage(L, 2, "a size up to 1 GiB expected");
	/* Its writer wants room beyond what it writes. */
	hga_buf_init(&b, (size_t)max + 65536);
	if (hga_gunzip(&b, data, &err) < 0) {
		hga_buf_release(&b);
		return lb_raise(L, &err);
	}
	if (b.len > (size_t)max) {
		hga_buf_release(&b);
		return lb_fail(L, HGA_PROTOCOL, "TooLarge",
		               "more than %lld bytes", (long long)max);
	}
	lb_pushbuf(L, &b);
	return 1;
}

static const luaL_Reg crypto_fns[] = {{"sha256", l_sha256},
                                      {"sha1", l_sha1},
                                      {"md5", l_md5},
                                      {"hmac_sha256", l_hmac_sha256},
                                      {"equal", l_equal},
                                      {"hex", l_hex},
                                      {"unhex", l_unhex},
                                      {"base64", l_base64},
                                      {"unbase64", l_unbase64},
                                      {"random", l_random},
                                      {"uuid", l_uuid},
                                      {"token", l_token},
                                      {"secret", l_secret},
                                      {"certificate", l_certificate},
                                      {"certificate_pin", l_certificate_pin},
                                      {"pfx", l_pfx},
                                      {"pfx_read", l_pfx_read},
                                      {"gunzip", l_gunzip},
                                      {"keypair", l_keypair},
                                      {"load_private", l_load_private},
                                      {"parse_private", l_parse_private},
                                      {"public_info", l_public_info},
                                      {NULL, NULL}};

int luaopen_hgauto_crypto(lua_State *L)
{
	luaL_newlib(L, crypto_fns);
	return 1;
}
