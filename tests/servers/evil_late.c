/*
 * evil_late MODE: an SSH server that keeps to the protocol through the key
 * exchange and then misbehaves; for one connection after the other.  Prints
 * its port on 127.0.0.1 and its host key's public line.  Any login succeeds.
 * MODE is WHAT-login (after the new keys, instead of an answer) or WHAT-ready
 * (instead of an answer to the first command).
 * RFC 4253, RFC 8731 (curve25519-sha256), RFC 8709, RFC 5647 as OpenSSH's
 * aes128-gcm@openssh.com has it; with etm- before MODE aes128-ctr and
 * hmac-sha2-256-etm@openssh.com.  The keys are of this run alone.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BANNER "SSH-2.0-evil"
#define MAX 40000

struct bytes {
	size_t n;
	unsigned char p[MAX];
};

struct way {
	unsigned char key[16], iv[16], mac[32];
	EVP_CIPHER_CTX *ctr;
	uint32_t packets;
};

static struct {
	int fd;
	bool encrypted, etm;
	struct way out, in;
	EVP_PKEY *host;
	unsigned char host_public[32];
} s;

/* ---- building ---- */

static void add(struct bytes *b, const void *p, size_t n)
{
	if (b->n + n > MAX)
		abort();
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void add_byte(struct bytes *b, unsigned v)
{
	unsigned char c = (unsigned char)v;

	add(b, &c, 1);
}

static void add_u32(struct bytes *b, uint32_t v)
{
	uint32_t be = htonl(v);

	add(b, &be, 4);
}

static void add_string(struct bytes *b, const void *p, size_t n)
{
	add_u32(b, (uint32_t)n);
	add(b, p, n);
}

static void add_text(struct bytes *b, const char *t)
{
	add_string(b, t, strlen(t));
}

static void add_mpint(struct bytes *b, const unsigned char *p, size_t n)
{
	for (; n > 0 && *p == 0; n--)
		p++;
	add_u32(b, (uint32_t)(n + (n > 0 && *p >= 0x80)));
	if (n > 0 && *p >= 0x80)
		add_byte(b, 0);
	add(b, p, n);
}

static uint32_t u32(const unsigned char *p)
{
	uint32_t be;

	memcpy(&be, p, 4);
	return ntohl(be);
}

/* ---- packets ---- */

static bool put(const void *p, size_t n)
{
	return send(s.fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static bool get(void *p, size_t n)
{
	return recv(s.fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

/* RFC 5647 section 7.1: the last eight bytes count the packets. */
static void next_iv(struct way *w)
{
	for (int i = 11; i >= 4 && ++w->iv[i] == 0; i--)
		;
}

static void gcm(struct way *w, unsigned char *b, size_t n, bool enc)
{
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int len;

	if (EVP_CipherInit_ex(c, EVP_aes_128_gcm(), NULL, w->key, w->iv, enc) !=
	        1 ||
	    EVP_CipherUpdate(c, NULL, &len, b, 4) != 1 ||
	    EVP_CipherUpdate(c, b + 4, &len, b + 4, (int)n) != 1)
		abort();
	/* What arrives is our client's: its tag is not looked at. */
	if (enc &&
	    (EVP_CipherFinal_ex(c, b + 4 + n, &len) != 1 ||
	     EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, b + 4 + n) != 1))
		abort();
	EVP_CIPHER_CTX_free(c);
	next_iv(w);
}

/* n bytes behind the length; when sending, the MAC behind them. */
static void etm(struct way *w, unsigned char *b, size_t n, bool enc)
{
	static struct bytes m;
	int len;

	if (EVP_CipherUpdate(w->ctr, b + 4, &len, b + 4, (int)n) != 1)
		abort();
	m.n = 0;
	add_u32(&m, w->packets);
	add(&m, b, 4 + n);
	if (enc &&
	    HMAC(EVP_sha256(), w->mac, 32, m.p, m.n, b + 4 + n, NULL) == NULL)
		abort();
}

static void crypt_packet(struct way *w, unsigned char *b, size_t n, bool enc)
{
	if (s.etm)
		etm(w, b, n, enc);
	else
		gcm(w, b, n, enc);
}

static size_t tag_size(void)
{
	return !s.encrypted ? 0 : s.etm ? 32 : 16;
}

/* The packet with that payload, as it goes over the line. */
static void seal(struct bytes *b, const struct bytes *payload)
{
	size_t block = s.encrypted ? 16 : 8, head = s.encrypted ? 0 : 4;
	size_t pad = block - (head + 1 + payload->n) % block;

	if (pad < 4)
		pad += block;
	b->n = 0;
	add_u32(b, (uint32_t)(1 + payload->n + pad));
	add_byte(b, (unsigned)pad);
	add(b, payload->p, payload->n);
	memset(b->p + b->n, 0, pad + 32);
	b->n += pad;
	if (s.encrypted)
		crypt_packet(&s.out, b->p, b->n - 4, true);
	s.out.packets++;
	b->n += tag_size();
}

static bool say(const struct bytes *payload)
{
	static struct bytes b;

	seal(&b, payload);
	return put(b.p, b.n);
}

static bool hear(struct bytes *payload)
{
	static struct bytes b;
	size_t n;

	if (!get(b.p, 4))
		return false;
	n = u32(b.p);
	if (n < 2 || n > MAX - 64 || !get(b.p + 4, n + tag_size()))
		return false;
	if (s.encrypted)
		crypt_packet(&s.in, b.p, n, false);
	s.in.packets++;
	payload->n = 0;
	add(payload, b.p + 5, n - 1 - b.p[4]);
	return true;
}

/* ---- key exchange ---- */

static void add_kexinit(struct bytes *b)
{
	const char *cipher = s.etm ? "aes128-ctr" : "aes128-gcm@openssh.com";
	const char *mac = "hmac-sha2-256-etm@openssh.com";
	const char *lists[] = {"curve25519-sha256",
	                       "ssh-ed25519",
	                       cipher,
	                       cipher,
	                       mac,
	                       mac,
	                       "none",
	                       "none",
	                       "",
	                       ""};

	add_byte(b, 20);
	memset(b->p + b->n, 7, 16);
	b->n += 16;
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		add_text(b, lists[i]);
	add_byte(b, 0);
	add_u32(b, 0);
}

static void sha256(const struct bytes *b, unsigned char out[32])
{
	if (EVP_Digest(b->p, b->n, out, NULL, EVP_sha256(), NULL) != 1)
		abort();
}

static void derive(const struct bytes *k, const unsigned char h[32],
                   char letter, unsigned char *out, size_t n)
{
	static struct bytes b;
	unsigned char d[32];

	b.n = 0;
	add(&b, k->p, k->n);
	add(&b, h, 32);
	add_byte(&b, (unsigned char)letter);
	add(&b, h, 32); /* the session id */
	sha256(&b, d);
	memcpy(out, d, n);
}

static void add_host_key(struct bytes *b)
{
	static struct bytes k;

	k.n = 0;
	add_text(&k, "ssh-ed25519");
	add_string(&k, s.host_public, 32);
	add_string(b, k.p, k.n);
}

static void add_signature(struct bytes *b, const unsigned char h[32])
{
	static struct bytes sig;
	unsigned char raw[64];
	size_t n = sizeof(raw);
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	if (EVP_DigestSignInit(c, NULL, NULL, NULL, s.host) != 1 ||
	    EVP_DigestSign(c, raw, &n, h, 32) != 1)
		abort();
	EVP_MD_CTX_free(c);
	sig.n = 0;
	add_text(&sig, "ssh-ed25519");
	add_string(&sig, raw, n);
	add_string(b, sig.p, sig.n);
}

static void shared(const unsigned char peer[32], unsigned char ours[32],
                   unsigned char secret[32])
{
	EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
	EVP_PKEY *p =
	    EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, peer, 32);
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(k, NULL);
	size_t n = 32, m = 32;

	if (EVP_PKEY_get_raw_public_key(k, ours, &n) != 1 ||
	    EVP_PKEY_derive_init(c) != 1 ||
	    EVP_PKEY_derive_set_peer(c, p) != 1 ||
	    EVP_PKEY_derive(c, secret, &m) != 1)
		abort();
	EVP_PKEY_CTX_free(c);
	EVP_PKEY_free(p);
	EVP_PKEY_free(k);
}

static void new_ctr(struct way *w)
{
	EVP_CIPHER_CTX_free(w->ctr);
	w->ctr = EVP_CIPHER_CTX_new();
	if (EVP_EncryptInit_ex(w->ctr, EVP_aes_128_ctr(), NULL, w->key,
	                       w->iv) != 1)
		abort();
}

static bool client_banner(struct bytes *b)
{
	char c;

	b->n = 0;
	while (get(&c, 1) && c != '\n' && b->n < 255)
		if (c != '\r')
			add(b, &c, 1);
	return b->n > 4;
}

static bool exchange(void)
{
	static struct bytes vc, ic, is, m, h, k;
	unsigned char q[32], secret[32], hash[32];

	s.encrypted = false;
	s.in.packets = s.out.packets = 0;
	is.n = h.n = k.n = 0;
	add_kexinit(&is);
	if (!put(BANNER "\r\n", sizeof(BANNER) + 1) || !client_banner(&vc) ||
	    !say(&is) || !hear(&ic) || !hear(&m) || m.n != 37 || m.p[0] != 30)
		return false;
	shared(m.p + 5, q, secret);
	add_mpint(&k, secret, 32);
	add_string(&h, vc.p, vc.n);
	add_text(&h, BANNER);
	add_string(&h, ic.p, ic.n);
	add_string(&h, is.p, is.n);
	add_host_key(&h);
	add_string(&h, m.p + 5, 32);
	add_string(&h, q, 32);
	add(&h, k.p, k.n);
	sha256(&h, hash);
	m.n = 0;
	add_byte(&m, 31);
	add_host_key(&m);
	add_string(&m, q, 32);
	add_signature(&m, hash);
	if (!say(&m))
		return false;
	m.n = 0;
	add_byte(&m, 21);
	if (!say(&m) || !hear(&m) || m.p[0] != 21)
		return false;
	derive(&k, hash, 'A', s.in.iv, 16);
	derive(&k, hash, 'B', s.out.iv, 16);
	derive(&k, hash, 'C', s.in.key, 16);
	derive(&k, hash, 'D', s.out.key, 16);
	derive(&k, hash, 'E', s.in.mac, 32);
	derive(&k, hash, 'F', s.out.mac, 32);
	new_ctr(&s.in);
	new_ctr(&s.out);
	s.encrypted = true;
	return true;
}

/* ---- what is wrong with it ---- */

static void fill(struct bytes *b, size_t n)
{
	memset(b->p + b->n, 'x', n);
	b->n += n;
}

/* The message that is sent without end; 0: mode is no flood. */
static bool flood_message(const char *mode, struct bytes *b)
{
	b->n = 0;
	if (strncmp(mode, "ignore-", 7) == 0) {
		add_byte(b, 2);
		add_u32(b, 2000);
		fill(b, 2000);
	} else if (strncmp(mode, "debug-", 6) == 0) {
		add_byte(b, 4);
		add_byte(b, 1);
		add_text(b, "\033[2Jhello");
		add_text(b, "");
	} else if (strncmp(mode, "ext-info-", 9) == 0) {
		add_byte(b, 7);
		add_u32(b, 2);
		add_text(b, "server-sig-algs");
		add_u32(b, 8000);
		fill(b, 8000);
		add_text(b, "other");
		add_text(b, "value");
	} else if (strncmp(mode, "ext-count-", 10) == 0) {
		add_byte(b, 7);
		add_u32(b, 0xffffffff);
	} else if (strncmp(mode, "banner-", 7) == 0) {
		add_byte(b, 53);
		add_u32(b, 8000);
		fill(b, 8000);
		add_text(b, "");
	} else if (strncmp(mode, "unknown-", 8) == 0) {
		add_byte(b, 200);
		fill(b, 8000);
	} else if (strncmp(mode, "success-", 8) == 0) {
		add_byte(b, 99); /* for no channel */
		add_u32(b, 77);
	} else if (strncmp(mode, "ask-", 4) == 0) {
		add_byte(b, 80); /* whose answers nobody reads */
		add_text(b, "x@evil");
		add_byte(b, 1);
	} else if (strncmp(mode, "open-", 5) == 0) {
		add_byte(b, 90);
		add_text(b, "x11");
		add_u32(b, 5);
		add_u32(b, 1 << 20);
		add_u32(b, 32768);
		add_text(b, "127.0.0.1");
		add_u32(b, 6010);
	} else if (strncmp(mode, "data-", 5) == 0) {
		add_byte(b, 94); /* far beyond any window */
		add_u32(b, 0);
		add_u32(b, 30000);
		fill(b, 30000);
	}
	return b->n > 0;
}

static void wait_end(void)
{
	char b[4096];

	while (recv(s.fd, b, sizeof(b), 0) > 0)
		;
}

/* A message of n bytes in a packet whose padding is said to be of pad bytes:
 * as it should be, but for these numbers. */
static void odd_packet(struct bytes *b, size_t n, unsigned pad)
{
	b->n = 0;
	add_u32(b, (uint32_t)(1 + n));
	add_byte(b, pad);
	add_byte(b, 1); /* disconnect, whose text is looked at */
	add_u32(b, 11);
	add_u32(b, 16000);
	memset(b->p + b->n, 'x', n + 32);
	b->n = 5 + n;
	crypt_packet(&s.out, b->p, 1 + n, true);
	b->n += tag_size();
}

static void misbehave(const char *mode)
{
	static struct bytes b, packet;
	unsigned char head[64] = {0x00, 0xff, 0xff, 0xff};

	if (flood_message(mode, &b)) {
		while (say(&b))
			;
		return;
	}
	if (strncmp(mode, "huge-", 5) == 0) {
		put(head, sizeof(head));
	} else if (strncmp(mode, "empty-", 6) == 0) {
		memset(head, 0, sizeof(head));
		put(head, sizeof(head));
	} else if (strncmp(mode, "slow-", 5) == 0) {
		add_byte(&b, 2);
		add_u32(&b, 3000);
		fill(&b, 3000);
		seal(&packet, &b);
		for (size_t i = 0; i < packet.n && put(packet.p + i, 1); i++)
			usleep(50000);
	} else if (strncmp(mode, "padding-", 8) == 0) {
		odd_packet(&packet, 31, 255);
		put(packet.p, packet.n);
	} else if (strncmp(mode, "nothing-", 8) == 0) {
		odd_packet(&packet, 31, 31);
		put(packet.p, packet.n);
	} else if (strncmp(mode, "odd-", 4) == 0) {
		odd_packet(&packet, 36, 4);
		put(packet.p, packet.n);
	} else if (strncmp(mode, "replay-", 7) == 0) {
		add_byte(&b, 2);
		add_text(&b, "the same packet twice");
		seal(&packet, &b);
		put(packet.p, packet.n);
		put(packet.p, packet.n);
	}
	wait_end();
}

/* ---- as a server should ---- */

/* The answer to m in b; false: none. */
static bool answer(const struct bytes *m, struct bytes *b)
{
	b->n = 0;
	switch (m->p[0]) {
	case 5: /* service */
		add_byte(b, 6);
		add_text(b, "ssh-userauth");
		break;
	case 50: /* userauth */
		add_byte(b, 52);
		break;
	case 90: /* channel open: "session" */
		add_byte(b, 91);
		add(b, m->p + 12, 4);
		add_u32(b, 0);
		add_u32(b, 1 << 20);
		add_u32(b, 32768);
		break;
	default:
		break;
	}
	return b->n > 0;
}

static void serve(const char *mode)
{
	static struct bytes m, b;
	bool late = strstr(mode, "-ready") != NULL;

	if (!exchange())
		return;
	while (hear(&m)) {
		if (m.p[0] == (late ? 98 : 50)) {
			misbehave(mode);
			return;
		}
		if (answer(&m, &b) && !say(&b))
			return;
	}
}

static void new_host_key(void)
{
	static struct bytes k;
	char text[128];
	size_t n = 32;

	s.host = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (s.host == NULL ||
	    EVP_PKEY_get_raw_public_key(s.host, s.host_public, &n) != 1)
		abort();
	add_text(&k, "ssh-ed25519");
	add_string(&k, s.host_public, 32);
	EVP_EncodeBlock((unsigned char *)text, k.p, (int)k.n);
	printf("ssh-ed25519 %s evil\n", text);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t n = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	signal(SIGPIPE, SIG_IGN);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (argc != 2 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(fd, 5) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
		return 1;
	printf("%d\n", ntohs(sa.sin_port));
	new_host_key();
	for (;;) {
		s.fd = accept(fd, NULL, NULL);
		if (s.fd < 0)
			return 1;
		s.etm = strncmp(argv[1], "etm-", 4) == 0;
		serve(argv[1] + (s.etm ? 4 : 0));
		close(s.fd);
	}
}
