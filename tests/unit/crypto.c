/* Keys: made, written, read; compared with ssh-keygen and openssl. */
#include "base/cert.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"
#include "tap.h"

#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

static char dir[] = "/tmp/hgauto-crypto-XXXXXX";

/* Runs a shell command in dir; true when it succeeded. */
__attribute__((format(printf, 1, 2))) static bool sh(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;
	size_t n;

	n = (size_t)snprintf(cmd, sizeof(cmd), "cd %s && { ", dir);
	va_start(ap, fmt);
	n += (size_t)vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	snprintf(cmd + n, sizeof(cmd) - n, "; } >/dev/null 2>&1");
	return system(cmd) == 0;
}

static const char *path_of(const char *name)
{
	static char p[256];

	snprintf(p, sizeof(p), "%s/%s", dir, name);
	return p;
}

/* First line of a file in dir. */
static const char *line_of(const char *name)
{
	static char text[8192];
	struct hga_buf b;

	hga_buf_init(&b, 8000);
	text[0] = '\0';
	if (hga_fs_read(path_of(name), 8000, &b, NULL) == 0)
		snprintf(text, sizeof(text), "%s", hga_buf_text(&b));
	text[strcspn(text, "\n")] = '\0';
	hga_buf_release(&b);
	return text;
}

static void write_text(const char *name, struct hga_str s, unsigned mode)
{
	ok(hga_fs_replace(path_of(name), s, mode, 0, NULL) == 0, "wrote %s",
	   name);
}

static void test_new(void)
{
	struct hga_key *k = NULL;
	struct hga_key *again = NULL;
	struct hga_buf b;
	struct hga_buf pub;

	hga_buf_init(&b, 65536);
	hga_buf_init(&pub, 65536);
	is_int(hga_key_new("ed25519", "me@here", &k, NULL), 0, "new key");
	is_int(hga_key_private(k, &b, NULL), 0, "private text");
	is_int(hga_key_public(k, &pub, NULL), 0, "public line");
	is_int(hga_key_parse(hga_buf_str(&b), "test", &again, NULL), 0,
	       "our own text reads back");
	ok(again != NULL && hga_str_eq(hga_key_blob(k), hga_key_blob(again)),
	   "same public key");
	is_str(hga_key_comment(again), "me@here", "same comment");
	write_text("mine", hga_buf_str(&b), 0600);
	if (sh("ssh-keygen -y -f mine >mine.out && ssh-keygen -lf mine.out "
	       ">mine.fp")) {
		char fp[200];
		struct hga_buf mine;

		is_str(line_of("mine.out"), hga_buf_text(&pub),
		       "ssh-keygen derives the same public key");
		snprintf(fp, sizeof(fp), "%s", line_of("mine.fp"));
		hga_buf_init(&mine, 200);
		is_int(hga_key_fingerprint(k, &mine, NULL), 0, "fingerprint");
		ok(strstr(fp, hga_buf_text(&mine)) != NULL,
		   "ssh-keygen shows the same fingerprint");
		hga_buf_release(&mine);
	} else {
		skip("no ssh-keygen; install openssh-client");
	}
	is_int(hga_key_new("dsa", "", &again, NULL), -HGA_USAGE,
	       "other types are not made");
	hga_key_free(hga_key_ref(k));
	is_int(hga_key_bits(k), 256, "a dropped reference leaves the key");
	hga_key_free(k);
	hga_key_free(again);
	hga_buf_release_secret(&b);
	hga_buf_release(&pub);
}

static void put(struct hga_buf *b, const void *p, size_t n)
{
	unsigned char len[4] = {0, 0, (unsigned char)(n >> 8),
	                        (unsigned char)n};

	if (hga_buf_add(b, len, 4, NULL) < 0 || hga_buf_add(b, p, n, NULL) < 0)
		ok(false, "memory");
}

/* Signs as `ssh-keygen -Y sign` does (openssh's PROTOCOL.sshsig) and lets
 * ssh-keygen verify it. */
static void check_sshsig(const struct hga_key *k, const char *alg)
{
	struct hga_buf b[4]; /* to be signed, signature, file, its text */
	uint8_t h[32];

	for (int i = 0; i < 4; i++)
		hga_buf_init(&b[i], 65536);
	ok(hga_hash(HGA_SHA256, "data", 4, h, NULL) == 0 &&
	       hga_buf_adds(&b[0], "SSHSIG", NULL) == 0,
	   "begin");
	put(&b[0], "test", 4);
	put(&b[0], "", 0);
	put(&b[0], "sha256", 6);
	put(&b[0], h, 32);
	ok(hga_key_sign(k, alg, hga_buf_str(&b[0]), &b[1], NULL) == 0 &&
	       hga_buf_add(&b[2], "SSHSIG\0\0\0\1", 10, NULL) == 0,
	   "sign with %s", alg);
	put(&b[2], hga_key_blob(k).s, hga_key_blob(k).n);
	put(&b[2], "test", 4);
	put(&b[2], "", 0);
	put(&b[2], "sha256", 6);
	put(&b[2], b[1].data, b[1].len);
	ok(hga_buf_adds(&b[3], "-----BEGIN SSH SIGNATURE-----\n", NULL) == 0 &&
	       hga_b64_encode(&b[3], b[2].data, b[2].len, NULL) == 0 &&
	       hga_buf_adds(&b[3], "\n-----END SSH SIGNATURE-----\n", NULL) ==
	           0,
	   "armour");
	write_text("data.sig", hga_buf_str(&b[3]), 0600);
	hga_buf_clear(&b[3]);
	ok(hga_buf_adds(&b[3], "me ", NULL) == 0 &&
	       hga_key_public(k, &b[3], NULL) == 0 &&
	       hga_buf_addc(&b[3], '\n', NULL) == 0,
	   "signer");
	write_text("signers", hga_buf_str(&b[3]), 0600);
	ok(sh("printf data | ssh-keygen -Y verify -f signers -I me -n test "
	      "-s data.sig"),
	   "ssh-keygen verifies %s", alg);
	for (int i = 0; i < 4; i++)
		hga_buf_release(&b[i]);
}

static void check_signature(const char *file, const char *alg)
{
	struct hga_key *k = NULL;
	struct hga_buf sig;
	struct hga_err err;

	hga_buf_init(&sig, 65536);
	ok(hga_key_load(path_of(file), &k, &err) == 0, "load %s", file);
	if (k == NULL) {
		printf("# %s\n", err.msg);
		return;
	}
	ok(hga_key_sign(k, alg, HGA_STR("data"), &sig, &err) == 0,
	   "sign with %s", alg);
	ok(sig.len > 4 + strlen(alg) &&
	       memcmp(sig.data + 4, alg, strlen(alg)) == 0,
	   "blob names %s", alg);
	if (strncmp(alg, "rsa-sha2", 8) == 0) {
		size_t off = 4 + strlen(alg) + 4;

		write_text("sig", hga_strn(sig.data + off, sig.len - off),
		           0600);
		ok(sh("printf data >data && openssl dgst -%s -verify %s.pem "
		      "-signature sig data",
		      alg[9] == '2' ? "sha256" : "sha512", file),
		   "openssl verifies %s", alg);
	}
	check_sshsig(k, alg);
	is_int(hga_key_sign(k, "ssh-dss", HGA_STR("data"), &sig, &err),
	       -HGA_USAGE, "another key's algorithm is refused");
	hga_key_free(k);
	hga_buf_release(&sig);
}

static void read_kind(const char *name, const char *args, const char *alg)
{
	struct hga_key *k = NULL;
	struct hga_buf pub;
	struct hga_err err;

	if (!sh("ssh-keygen -q -t %s -N '' -C 'a comment' -f %s", args, name)) {
		skip("no ssh-keygen; install openssh-client");
		return;
	}
	hga_buf_init(&pub, 65536);
	is_int(hga_key_load(path_of(name), &k, &err), 0, name);
	if (k != NULL && hga_key_public(k, &pub, NULL) == 0) {
		char file[64];

		snprintf(file, sizeof(file), "%s.pub", name);
		is_str(hga_buf_text(&pub), line_of(file), "same public line");
	} else {
		printf("# %s\n", err.msg);
	}
	hga_key_free(k);
	hga_buf_release(&pub);
	if (strcmp(alg, "rsa") == 0) {
		(void)sh("ssh-keygen -e -m PKCS8 -f %s >%s.pem", name, name);
		check_signature(name, "rsa-sha2-256");
		check_signature(name, "rsa-sha2-512");
	} else {
		check_signature(name, alg);
	}
}

static void read_pem(const char *name, const char *cmd)
{
	struct hga_key *k = NULL;
	struct hga_err err;

	if (!sh("%s", cmd)) {
		skip("no openssl command; install openssl");
		return;
	}
	(void)chmod(path_of(name), 0600);
	ok(hga_key_load(path_of(name), &k, &err) == 0, "%s", name);
	if (k == NULL)
		printf("# %s\n", err.msg);
	hga_key_free(k);
}

static void refused(const char *name, const char *code)
{
	struct hga_key *k = NULL;
	struct hga_err err = {.kind = HGA_OK};

	ok(hga_key_load(path_of(name), &k, &err) < 0, "%s is refused", name);
	is_str(err.code, code, "with its code");
	ok(k == NULL, "and gives no key");
	hga_key_free(k);
}

static void test_refused(void)
{
	refused("missing", "KeyNotFound");
	write_text("garbage", HGA_STR("hello\n"), 0600);
	refused("garbage", "KeyFormat");
	write_text("pub", HGA_STR("ssh-ed25519 AAAA me\n"), 0600);
	refused("pub", "KeyFormat");
	write_text("cut", HGA_STR("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"),
	           0600);
	refused("cut", "KeyFormat");
	write_text("bad64",
	           HGA_STR("-----BEGIN OPENSSH PRIVATE KEY-----\n*\n"
	                   "-----END OPENSSH PRIVATE KEY-----\n"),
	           0600);
	refused("bad64", "KeyFormat");
	refused(".", "KeyFormat");
	(void)mkfifo(path_of("fifo"), 0600);
	refused("fifo", "KeyFormat");
	if (!sh("ssh-keygen -q -t ed25519 -N secret -f locked && "
	        "ssh-keygen -q -t ed25519 -N '' -f open && chmod 640 open && "
	        "ssh-keygen -q -t rsa -b 1024 -N '' -f small && "
	        "ssh-keygen -q -t rsa -m PEM -N secret -f lockedpem")) {
		skip("no ssh-keygen; install openssh-client");
		return;
	}
	refused("locked", "KeyNeedsPassphrase");
	refused("lockedpem", "KeyNeedsPassphrase");
	refused("open", "KeyMode");
	refused("small", "KeyUnsupported");
}

/* Each flipped byte of a key file: refused or the same key, no crash. */
static void test_mutations(void)
{
	struct hga_key *k = NULL;
	struct hga_buf b;
	int bad = 0;

	hga_buf_init(&b, 65536);
	is_int(hga_key_new("ed25519", "x", &k, NULL), 0, "new key");
	is_int(hga_key_private(k, &b, NULL), 0, "its text");
	for (size_t i = 0; i < b.len; i++) {
		struct hga_key *m = NULL;
		char old = b.data[i];

		b.data[i] = (char)(old ^ 1);
		if (hga_key_parse(hga_buf_str(&b), "test", &m, NULL) == 0 &&
		    !hga_str_eq(hga_key_blob(m), hga_key_blob(k)))
			bad++;
		hga_key_free(m);
		b.data[i] = old;
	}
	is_int(bad, 0, "no damaged text gives another key");
	hga_key_free(k);
	hga_buf_release_secret(&b);
}

static void test_pubinfo(void)
{
	struct hga_pubinfo i;
	struct hga_err err;
	char want[200] = "";

	is_int(hga_pubkey_info(HGA_STR("ssh-rsa AAAA"), &i, &err), -HGA_USAGE,
	       "broken line");
	is_int(hga_pubkey_info(HGA_STR("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA=="),
	                       &i, &err),
	       -HGA_USAGE, "type and blob differ");
	if (!sh("ssh-keygen -q -t rsa -b 2048 -N '' -f info && ssh-keygen -lf "
	        "info.pub >info.fp && ssh-keygen -E md5 -lf info.pub >info.md5 "
	        "&& ssh-keygen -e -m PKCS8 -f info.pub | openssl pkey -pubin "
	        "-outform DER | openssl md5 -c >info.der")) {
		skip("no ssh-keygen; install openssh-client");
		return;
	}
	is_int(hga_pubkey_info(hga_str(line_of("info.pub")), &i, &err), 0,
	       "info of an rsa key");
	is_int(i.bits, 2048, "bits");
	is_str(i.type, "ssh-rsa", "type");
	snprintf(want, sizeof(want), "%s", line_of("info.fp"));
	ok(strstr(want, i.fingerprint) != NULL, "fingerprint");
	snprintf(want, sizeof(want), "%s", line_of("info.md5"));
	ok(strstr(want, i.md5_blob) != NULL, "md5 of the blob");
	snprintf(want, sizeof(want), "%s", line_of("info.der"));
	ok(strstr(want, i.md5_der) != NULL && strlen(i.md5_der) == 47,
	   "md5 of the DER form (EC2's fingerprint)");
}

static void test_random(void)
{
	char a[37];
	char b[37];
	char t[33];

	is_int(hga_uuid(a, NULL), 0, "uuid");
	is_int(hga_uuid(b, NULL), 0, "another");
	ok(strcmp(a, b) != 0, "they differ");
	ok(strlen(a) == 36 && a[14] == '4' && strchr("89ab", a[19]) != NULL,
	   "version and variant");
	is_int(hga_token(t, NULL), 0, "token");
	ok(strlen(t) == 32 && strspn(t, "0123456789abcdef") == 32, "32 hex");
}

/* A PKCS#12 of openssl that asks for so many rounds: 0, or the refusal. */
static int read_pfx(const char *options)
{
	struct hga_buf pfx, cert, key;
	struct hga_err err = {0};
	int r;

	hga_buf_init(&pfx, 1 << 16);
	hga_buf_init(&cert, 1 << 16);
	hga_buf_init(&key, 1 << 16);
	ok(sh("openssl pkcs12 -export -inkey k.pem -in c.pem -passout "
	      "pass:word -out p.pfx %s",
	      options),
	   "openssl writes one with %s", options);
	r = hga_fs_read(path_of("p.pfx"), 1 << 16, &pfx, &err);
	if (r == 0)
		r = hga_cert_pfx_read(hga_buf_str(&pfx), "word", &cert, &key,
		                      &err);
	if (r == 0)
		ok(hga_str_starts(hga_buf_str(&cert), "-----BEGIN CERT") &&
		       hga_str_starts(hga_buf_str(&key), "-----BEGIN"),
		   "both are PEM");
	hga_buf_release(&pfx);
	hga_buf_release(&cert);
	hga_buf_release_secret(&key);
	return r;
}

static void test_pfx(void)
{
	const char *sha1 = "-macalg sha1 -keypbe PBE-SHA1-3DES "
	                   "-certpbe PBE-SHA1-3DES";
	char options[200];

	ok(sh("openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem "
	      "-out c.pem -subj /CN=x -days 2"),
	   "a certificate");
	is_int(read_pfx("-iter 2048"), 0, "AES, 2048 rounds");
	is_int(read_pfx("-keypbe NONE -certpbe NONE"), 0, "not encrypted");
	snprintf(options, sizeof(options), "%s -iter 2048", sha1);
	is_int(read_pfx(options), 0, "as we write it");
	snprintf(options, sizeof(options), "%s -iter 30000", sha1);
	is_int(read_pfx(options), -HGA_USAGE, "too many rounds: refused");
	is_int(read_pfx("-iter 30000"), -HGA_USAGE, "of PBKDF2, too");
	is_int(read_pfx("-iter 30000 -nomaciter -keypbe NONE"), -HGA_USAGE,
	       "for the certificate alone");
	is_int(read_pfx("-iter 30000 -nomaciter -certpbe NONE"), -HGA_USAGE,
	       "for the key alone");
}

int main(void)
{
	if (mkdtemp(dir) == NULL)
		return 1;
	test_new();
	read_kind("ed", "ed25519", "ssh-ed25519");
	read_kind("ec256", "ecdsa -b 256", "ecdsa-sha2-nistp256");
	read_kind("ec384", "ecdsa -b 384", "ecdsa-sha2-nistp384");
	read_kind("ec521", "ecdsa -b 521", "ecdsa-sha2-nistp521");
	read_kind("rsa", "rsa -b 2048", "rsa");
	read_pem("pem_rsa", "openssl genrsa -traditional -out pem_rsa 2048");
	read_pem("pem_p8", "openssl genpkey -algorithm ED25519 -out pem_p8");
	read_pem("pem_ec", "openssl ecparam -name prime256v1 -genkey -noout "
	                   "-out pem_ec");
	test_refused();
	test_mutations();
	test_pubinfo();
	test_random();
	test_pfx();
	ok(hga_fs_rmtree(dir, NULL) == 0, "cleaned up");
	return done();
}
