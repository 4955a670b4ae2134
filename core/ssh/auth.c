/*
 * Logging in over libssh2: keys of base/crypto, a client of our own for agents
 * (libssh2's blocks), certificates, passwords and prompts.  RFC 4252 sections
 * 7 and 8, RFC 4256, RFC 8332, OpenSSH's PROTOCOL.certkeys.
 */
#include "ssh/auth.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "ssh/impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ATTEMPTS_MAX 5
#define AGENT_MS 5000
#define PUB_MAX (64 * 1024)
#define SECRET_MAX (64 * 1024)
#define UNLOCK_TRIES 3
#define KBD_ROUNDS 20

/* From the edits of these names (vendor/edits/libssh2). */
#ifdef HGA_SSH2_EDIT_ASK
void hga_libssh2_kbd_wait(LIBSSH2_SESSION *s);
#endif
#ifdef HGA_SSH2_EDIT_DIRECT
void hga_libssh2_sign_at_once(LIBSSH2_SESSION *s, int on);
#endif
#ifdef HGA_SSH2_EDIT_LOGIN
const char *hga_libssh2_login_methods(LIBSSH2_SESSION *s);
#endif
/* libssh2's own, for its key files; OpenSSL has none. */
#ifdef HGA_SSH2_EDIT_PROBE
int _libssh2_bcrypt_pbkdf(const char *pass, size_t pass_len,
                          const uint8_t *salt, size_t salt_len, uint8_t *key,
                          size_t key_len, unsigned int rounds);
#define BCRYPT _libssh2_bcrypt_pbkdf
#else
#define BCRYPT NULL
#endif

enum {
	AGENT_FAILURE = 5,
	AGENT_LIST = 11,
	AGENT_LIST_ANSWER = 12,
	AGENT_SIGN = 13,
	AGENT_SIGN_ANSWER = 14,
	AGENT_RSA_256 = 2,
	AGENT_RSA_512 = 4
};

/* ---- wire format ---- */

bool hga_wire_u32(struct hga_str data, size_t *at, uint32_t *out)
{
	const unsigned char *p;

	*out = 0;
	if (*at > data.n || data.n - *at < 4)
		return false;
	p = (const unsigned char *)data.s + *at;
	*out = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	       (uint32_t)p[2] << 8 | p[3];
	*at += 4;
	return true;
}

bool hga_wire_str(struct hga_str data, size_t *at, struct hga_str *out)
{
	size_t pos = *at;
	uint32_t n;

	*out = HGA_STR("");
	if (!hga_wire_u32(data, &pos, &n) || data.n - pos < n)
		return false;
	*out = hga_strn(data.s + pos, n);
	*at = pos + n;
	return true;
}

static int add_u32(struct hga_buf *b, uint32_t v, struct hga_err *err)
{
	char p[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};

	return hga_buf_add(b, p, 4, err);
}

static int add_str(struct hga_buf *b, struct hga_str s, struct hga_err *err)
{
	int rc = add_u32(b, (uint32_t)s.n, err);

	return rc < 0 ? rc : hga_buf_addstr(b, s, err);
}

bool hga_auth_sigalg(struct hga_str data, struct hga_str *alg)
{
	size_t at = 0;
	struct hga_str skip;

	if (!hga_wire_str(data, &at, &skip) || at >= data.n)
		return false;
	at++;                       /* SSH_MSG_USERAUTH_REQUEST */
	for (int i = 0; i < 3; i++) /* user, service, "publickey" */
		if (!hga_wire_str(data, &at, &skip))
			return false;
	at++; /* TRUE */
	return hga_wire_str(data, &at, alg);
}

/* ---- agent protocol ---- */

static int agent_bad(struct hga_err *err)
{
	return hga_fail(err, HGA_AUTH, 0, "AgentUnavailable",
	                "the agent's answer is malformed");
}

int hga_agent_parse_ids(struct hga_str frame, struct hga_agent_ids *out,
                        struct hga_err *err)
{
	size_t at = 1;
	uint32_t n = 0;

	out->n = 0;
	if (frame.n < 1 || (unsigned char)frame.s[0] != AGENT_LIST_ANSWER ||
	    !hga_wire_u32(frame, &at, &n))
		return agent_bad(err);
	for (uint32_t i = 0; i < n && out->n < HGA_AGENT_KEYS; i++) {
		struct hga_str comment;

		if (!hga_wire_str(frame, &at, &out->blob[out->n]) ||
		    !hga_wire_str(frame, &at, &comment))
			return agent_bad(err);
		if (out->blob[out->n].n > 0)
			out->n++;
	}
	return 0;
}

int hga_agent_parse_sig(struct hga_str frame, struct hga_str *alg,
                        struct hga_str *sig, struct hga_err *err)
{
	size_t at = 1;
	struct hga_str blob = HGA_STR("");

	*alg = *sig = blob;
	if (frame.n >= 1 && (unsigned char)frame.s[0] == AGENT_FAILURE)
		return hga_fail(err, HGA_AUTH, 0, "AgentUnavailable",
		                "the agent refused to sign");
	if (frame.n < 1 || (unsigned char)frame.s[0] != AGENT_SIGN_ANSWER ||
	    !hga_wire_str(frame, &at, &blob))
		return agent_bad(err);
	at = 0;
	if (!hga_wire_str(blob, &at, alg) || !hga_wire_str(blob, &at, sig))
		return agent_bad(err);
	return 0;
}

static void agent_end(struct hga_agent *a)
{
	if (a->fd >= 0) {
		hga_watch_stop(a->loop, &a->watch);
		close(a->fd);
		a->fd = -1;
	}
	if (a->loop != NULL)
		hga_timer_stop(a->loop, &a->timer);
	a->busy = false;
}

static void agent_fail(struct hga_agent *a, int sys, const char *what)
{
	(void)hga_fail(&a->err, HGA_AUTH, sys, "AgentUnavailable", "agent: %s",
	               what); /* kept in a->err */
	agent_end(a);
	a->wake(a->data);
}

static void on_agent_timer(struct hga_timer *t)
{
	agent_fail(t->data, 0, "no answer within 5 s");
}

/* 1: more may come, 0: wait, -1: ended (reported). */
static int agent_recv(struct hga_agent *a)
{
	char tmp[4096];
	ssize_t n = recv(a->fd, tmp, sizeof(tmp), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		agent_fail(a, n < 0 ? errno : 0, "connection closed");
		return -1;
	}
	if (hga_buf_add(&a->rx, tmp, (size_t)n, NULL) < 0) {
		agent_fail(a, 0, "answer too large");
		return -1;
	}
	return 1;
}

static bool agent_complete(const struct hga_agent *a, bool *bad)
{
	size_t at = 0;
	uint32_t n;

	if (!hga_wire_u32(hga_buf_str(&a->rx), &at, &n))
		return false;
	*bad = n == 0 || n > HGA_AGENT_FRAME;
	return a->rx.len - 4 >= n;
}

static void on_agent(struct hga_watch *w, int events)
{
	struct hga_agent *a = w->data;
	bool bad = false;
	int rc = 1;

	(void)events; /* both directions are tried */
	while (a->tx.len > 0) {
		ssize_t n = send(a->fd, a->tx.data, a->tx.len, MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) {
			agent_fail(a, errno, "connection lost");
			return;
		}
		hga_buf_consume(&a->tx, (size_t)n);
	}
	while (rc > 0 && !agent_complete(a, &bad) && !bad)
		rc = agent_recv(a);
	if (rc < 0)
		return;
	if (bad) {
		agent_fail(a, 0, "answer malformed");
		return;
	}
	if (agent_complete(a, &bad)) {
		a->answered = true;
		a->busy = false;
		hga_timer_stop(a->loop, &a->timer);
		hga_watch_stop(a->loop, &a->watch);
		a->wake(a->data);
		return;
	}
	if (hga_watch_start(a->loop, w,
	                    HGA_READ | (a->tx.len > 0 ? HGA_WRITE : 0),
	                    NULL) < 0)
		agent_fail(a, 0, "out of memory");
}

int hga_agent_open(struct hga_agent *a, struct hga_loop *loop, const char *path,
                   void (*wake)(void *), void *data, struct hga_err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	memset(a, 0, sizeof(*a));
	a->fd = -1;
	a->loop = loop;
	a->wake = wake;
	a->data = data;
	hga_buf_init(&a->tx, HGA_AGENT_FRAME + 4);
	hga_buf_init(&a->rx, HGA_AGENT_FRAME + 4);
	if (strlen(path) >= sizeof(sa.sun_path))
		return hga_fail(err, HGA_AUTH, 0, "AgentUnavailable",
		                "agent: the path of the socket is too long");
	memcpy(sa.sun_path, path, strlen(path) + 1);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 ||
	    connect(a->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int sys = errno;

		hga_agent_close(a);
		return hga_fail(err, HGA_AUTH, sys, "AgentUnavailable",
		                "agent %s", path);
	}
	a->watch.fd = a->fd;
	a->watch.fn = on_agent;
	a->watch.data = a;
	a->timer.fn = on_agent_timer;
	a->timer.data = a;
	return 0;
}

int hga_agent_ask(struct hga_agent *a, uint8_t type, struct hga_str body,
                  struct hga_err *err)
{
	int rc;

	if (a->fd < 0)
		return hga_fail(err, HGA_AUTH, 0, "AgentUnavailable",
		                "agent: not connected");
	hga_buf_clear(&a->tx);
	hga_buf_clear(&a->rx);
	a->answered = false;
	rc = add_u32(&a->tx, (uint32_t)body.n + 1, err);
	if (rc == 0)
		rc = hga_buf_addc(&a->tx, (char)type, err);
	if (rc == 0)
		rc = hga_buf_addstr(&a->tx, body, err);
	if (rc == 0)
		rc = hga_watch_start(a->loop, &a->watch, HGA_READ | HGA_WRITE,
		                     err);
	if (rc == 0)
		rc = hga_timer_start(a->loop, &a->timer, AGENT_MS, err);
	a->busy = rc == 0;
	return rc;
}

int hga_agent_answer(struct hga_agent *a, struct hga_str *answer,
                     struct hga_err *err)
{
	if (a->answered) {
		*answer = hga_strn(a->rx.data + 4, a->rx.len - 4);
		return 1;
	}
	if (a->err.kind != HGA_OK) {
		*err = a->err;
		return -(int)a->err.kind;
	}
	return 0;
}

void hga_agent_close(struct hga_agent *a)
{
	if (a->loop == NULL)
		return;
	agent_end(a);
	hga_buf_release(&a->tx);
	hga_buf_release(&a->rx);
}

/* ---- credentials ---- */

static struct hga_auth_id *id_new(struct hga_auth *a, struct hga_err *err)
{
	struct hga_auth_id *id;

	if (a->ids == NULL || a->n_ids == a->cap_ids) {
		size_t cap = a->cap_ids ? a->cap_ids * 2 : 8;
		struct hga_auth_id *v =
		    hga_realloc(a->ids, cap * sizeof(*a->ids));

		if (v == NULL) {
			(void)hga_fail_mem(err); /* NULL tells */
			return NULL;
		}
		a->ids = v;
		a->cap_ids = cap;
	}
	id = &a->ids[a->n_ids++];
	memset(id, 0, sizeof(*id));
	hga_buf_init(&id->blob, PUB_MAX);
	return id;
}

static int load_public(struct hga_auth_id *id, const char *path,
                       struct hga_err *err)
{
	struct hga_buf text;
	int rc;

	hga_buf_init(&text, PUB_MAX);
	rc = hga_fs_read(path, PUB_MAX, &text, err);
	if (rc == 0)
		rc = hga_pubkey_blob(hga_str_trim(hga_buf_str(&text)),
		                     &id->blob, err);
	hga_buf_release(&text);
	id->wanted = true;
	return rc;
}

static int read_public(const char *path, struct hga_buf *blob,
                       struct hga_err *err)
{
	struct hga_buf text, pub;
	int rc;

	hga_buf_init(&pub, 4096);
	hga_buf_init(&text, PUB_MAX);
	rc = hga_buf_addf(&pub, err, "%s.pub", path);
	if (rc == 0)
		rc = hga_fs_read(hga_buf_text(&pub), PUB_MAX, &text, err);
	if (rc == 0)
		rc = hga_pubkey_blob(hga_str_trim(hga_buf_str(&text)), blob,
		                     err);
	hga_buf_release(&text);
	hga_buf_release(&pub);
	return rc;
}

/* A protected key: opened when the server wants it. */
static int add_locked(struct hga_auth *a, struct hga_auth_id *id,
                      const char *path, struct hga_str text,
                      const struct hga_err *locked, struct hga_err *err)
{
	struct hga_err why;

	if (hga_key_peek(text, path, &id->blob, &why) < 0 &&
	    read_public(path, &id->blob, &why) == -HGA_MEMORY)
		return hga_fail_mem(err);
	if (a->passphrase.len == 0 && !a->can_ask) {
		/* The agent may have it. */
		a->locked = *locked;
		if (a->agent_path == NULL || id->blob.len == 0) {
			*err = *locked;
			return -(int)err->kind;
		}
		id->wanted = true;
		return 0;
	}
	id->path = hga_strdup(path);
	return id->path != NULL ? 0 : hga_fail_mem(err);
}

static int add_file(struct hga_auth *a, struct hga_auth_id *id,
                    const char *path, struct hga_err *err)
{
	struct hga_buf text;
	struct hga_err why;
	int rc;

	hga_buf_init(&text, PUB_MAX);
	rc = hga_key_read(path, &text, err);
	if (rc == 0) {
		rc = hga_key_parse(hga_buf_str(&text), path, &id->key, &why);
		/* The agent may have one that we cannot read, too. */
		if (rc < 0 && (strcmp(why.code, "KeyNeedsPassphrase") == 0 ||
		               (strcmp(why.code, "KeyUnsupported") == 0 &&
		                a->agent_path != NULL)))
			rc = add_locked(a, id, path, hga_buf_str(&text), &why,
			                err);
		else if (rc < 0)
			*err = why;
		else
			rc = hga_buf_addstr(&id->blob, hga_key_blob(id->key),
			                    err);
	}
	hga_buf_release_secret(&text);
	return rc;
}

static int add_cred(struct hga_auth *a, const struct hga_ssh_cred *c,
                    struct hga_err *err)
{
	struct hga_auth_id *id = id_new(a, err);
	struct hga_err why;
	int rc;

	if (id == NULL)
		return -HGA_MEMORY;
	if (c->key != NULL) {
		id->key = hga_key_ref(c->key);
		return hga_buf_addstr(&id->blob, hga_key_blob(id->key), err);
	}
	if (hga_str_ends(hga_str(c->path), ".pub"))
		rc = load_public(id, c->path, &why);
	else
		rc = add_file(a, id, c->path, &why);
	/* As OpenSSH does with keys nobody asked for by name. */
	if (c->optional && (rc == -HGA_NOTFOUND || rc == -HGA_AUTH)) {
		bool closed = strcmp(why.code, "KeyNeedsPassphrase") == 0;

		if (closed || (rc == -HGA_AUTH && a->locked.kind == HGA_OK))
			a->locked = why;
		if (rc == -HGA_AUTH && !closed)
			hga_log(HGA_LOG_WARN, "ssh", "%s", why.msg);
		hga_key_free(id->key);
		hga_buf_release(&id->blob);
		hga_free(id->path);
		a->n_ids--;
		return 0;
	}
	if (rc < 0)
		*err = why;
	return rc;
}

/* ---- certificates ---- */

static int bad_cert(struct hga_err *err, const char *what)
{
	return hga_fail(err, HGA_AUTH, 0, "KeyFormat",
	                "%s: not an OpenSSH user certificate", what);
}

static int cert_blob(struct hga_str cert, const char *what, struct hga_buf *out,
                     struct hga_err *err)
{
	static const char tail[] = "-cert-v01@openssh.com";
	struct hga_str type, part;
	size_t at = 0, n = sizeof(tail) - 1;
	int parts, rc;

	if (!hga_wire_str(cert, &at, &type) || type.n <= n ||
	    memcmp(type.s + type.n - n, tail, n) != 0 ||
	    !hga_wire_str(cert, &at, &part)) /* nonce */
		return bad_cert(err, what);
	type.n -= n;
	if (hga_str_eqc(type, "ssh-ed25519"))
		parts = 1;
	else if (hga_str_eqc(type, "ssh-rsa") ||
	         hga_str_starts(type, "ecdsa-sha2-"))
		parts = 2; /* exponent and modulus; curve and point */
	else
		return hga_fail(err, HGA_AUTH, 0, "KeyUnsupported",
		                "%s: certificates of this type are not "
		                "supported",
		                what);
	rc = add_str(out, type, err);
	for (int i = 0; i < parts && rc == 0; i++)
		rc = hga_wire_str(cert, &at, &part) ? add_str(out, part, err)
		                                    : bad_cert(err, what);
	return rc;
}

int hga_auth_cert_parse(struct hga_str text, const char *what,
                        struct hga_auth_cert *out, struct hga_err *err)
{
	struct hga_str t = hga_str_trim(text);
	ptrdiff_t from = hga_str_chr(t, ' ', 0), to;
	struct hga_err why;
	int rc;

	hga_buf_init(&out->cert, PUB_MAX);
	hga_buf_init(&out->blob, PUB_MAX);
	if (from < 0)
		return bad_cert(err, what);
	to = hga_str_chr(t, ' ', (size_t)from + 1);
	rc = hga_b64_decode(
	    &out->cert,
	    hga_strn(t.s + from + 1,
	             (to < 0 ? t.n : (size_t)to) - (size_t)from - 1),
	    &why);
	if (rc == -HGA_MEMORY)
		return hga_fail_mem(err);
	rc = rc < 0 ? bad_cert(err, what)
	            : cert_blob(hga_buf_str(&out->cert), what, &out->blob, err);
	if (rc < 0)
		hga_auth_cert_release(out);
	return rc;
}

void hga_auth_cert_release(struct hga_auth_cert *c)
{
	hga_buf_release(&c->cert);
	hga_buf_release(&c->blob);
}

static int load_certs(struct hga_auth *a, const struct hga_ssh_args *args,
                      struct hga_err *err)
{
	int rc = 0;

	a->certs = hga_calloc(args->n_certs + 1, sizeof(*a->certs));
	if (a->certs == NULL)
		return hga_fail_mem(err);
	for (size_t i = 0; i < args->n_certs && rc == 0; i++) {
		struct hga_buf text;

		hga_buf_init(&text, PUB_MAX);
		rc = hga_fs_read(args->certs[i], PUB_MAX, &text, err);
		if (rc == 0)
			rc = hga_auth_cert_parse(hga_buf_str(&text),
			                         args->certs[i], &a->certs[i],
			                         err);
		hga_buf_release(&text);
		a->n_certs = i + (rc == 0);
	}
	return rc;
}

static struct hga_buf *find_cert(struct hga_auth *a,
                                 const struct hga_auth_id *id)
{
	for (size_t i = 0; i < a->n_certs; i++)
		if (hga_str_eq(hga_buf_str(&a->certs[i].blob),
		               hga_buf_str(&id->blob)))
			return &a->certs[i].cert;
	return NULL;
}

int hga_auth_init(struct hga_auth *a, const struct hga_ssh_args *args,
                  struct hga_err *err)
{
	int rc = 0;

	struct hga_ssh *ssh = a->ssh;

	memset(a, 0, sizeof(*a));
	a->ssh = ssh;
	a->agent.fd = -1;
	hga_buf_init(&a->tried, 4096);
	hga_buf_init(&a->sign_body, HGA_AGENT_FRAME);
	hga_buf_init(&a->passphrase, SECRET_MAX);
	hga_buf_init(&a->password, SECRET_MAX);
	for (size_t i = 0; i < HGA_SSH_PROMPTS; i++)
		hga_buf_init(&a->answers[i], SECRET_MAX);
	a->identities_only = args->identities_only;
	a->can_ask = args->can_ask;
	rc = hga_buf_addstr(&a->passphrase, args->passphrase, err);
	if (rc == 0)
		rc = hga_buf_addstr(&a->password, args->password, err);
	if (rc < 0)
		return rc;
	if (args->agent != NULL) {
		a->agent_path = hga_strdup(args->agent);
		if (a->agent_path == NULL)
			return hga_fail_mem(err);
	}
	for (size_t i = 0; i < args->n_creds && rc == 0; i++)
		rc = add_cred(a, &args->creds[i], err);
	if (rc == 0)
		rc = load_certs(a, args, err);
#if defined(HGA_SSH2_EDIT_LOGIN) && defined(HGA_SSH2_EDIT_DIRECT)
	/* A key that the caller names and that is at hand needs no question
	 * before it; the answer to it tells the server's methods, too. */
	if (rc == 0 && args->n_creds > 0 && !args->creds[0].optional &&
	    a->n_ids > 0 && a->ids[0].key != NULL) {
		a->unasked = true;
		a->state = HGA_AUTH_NEXT;
	}
#endif
	return rc;
}

bool hga_auth_early(const struct hga_auth *a)
{
	/* Which hash an RSA key signs with, the server may say just before. */
	return a->unasked &&
	       strcmp(hga_key_type(a->ids[0].key), "ssh-rsa") != 0;
}

static void question_clear(struct hga_auth *a)
{
	hga_free(a->question.name);
	hga_free(a->question.instruction);
	for (unsigned i = 0; i < a->question.n; i++)
		hga_free(a->question.prompts[i].text);
	memset(&a->question, 0, sizeof(a->question));
}

static void answers_clear(struct hga_auth *a)
{
	for (size_t i = 0; i < HGA_SSH_PROMPTS; i++)
		hga_buf_release_secret(&a->answers[i]);
	a->n_answers = 0;
	a->answered = false;
}

void hga_auth_release(struct hga_auth *a)
{
	for (size_t i = 0; i < a->n_ids; i++) {
		hga_key_free(a->ids[i].key);
		hga_buf_release(&a->ids[i].blob);
		hga_free(a->ids[i].path);
	}
	for (size_t i = 0; i < a->n_certs; i++)
		hga_auth_cert_release(&a->certs[i]);
	hga_free(a->certs);
	a->certs = NULL;
	a->n_certs = 0;
	question_clear(a);
	answers_clear(a);
	hga_buf_release_secret(&a->passphrase);
	hga_buf_release_secret(&a->password);
	hga_free(a->ids);
	a->ids = NULL;
	a->n_ids = a->cap_ids = 0;
	hga_agent_close(&a->agent);
	hga_free(a->agent_path);
	a->agent_path = NULL;
	hga_buf_release(&a->sign_body);
	hga_buf_release(&a->tried);
}

/* ---- signing, called by libssh2 ---- */

static int give_sig(struct hga_auth *a, unsigned char **sig, size_t *sig_len,
                    struct hga_str s)
{
	*sig = hga_bio_alloc(s.n ? s.n : 1, &a->heap);
	if (*sig == NULL)
		return LIBSSH2_ERROR_ALLOC;
	memcpy(*sig, s.s, s.n);
	*sig_len = s.n;
	return 0;
}

/* Signatures over certificates are those of the plain key. */
static struct hga_str plain_alg(struct hga_str alg)
{
	static const char tail[] = "-cert-v01@openssh.com";

	if (hga_str_ends(alg, tail))
		alg.n -= sizeof(tail) - 1;
	return alg;
}

static int sign_own(struct hga_auth *a, struct hga_auth_id *id,
                    struct hga_str alg, struct hga_str data,
                    unsigned char **sig, size_t *sig_len)
{
	char name[64];
	struct hga_buf out;
	struct hga_str raw;
	size_t at = 0;
	int rc = LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;

	alg = plain_alg(alg);
	if (alg.n >= sizeof(name))
		return rc;
	memcpy(name, alg.s, alg.n);
	name[alg.n] = '\0';
	/* A server without EXT_INFO: libssh2 then asks for SHA-1. */
	if (strcmp(name, "ssh-rsa") == 0) {
		(void)hga_fail(&a->sign_err, HGA_AUTH, 0, "KeyUnsupported",
		               "the server offers only SHA-1 signatures for "
		               "RSA keys"); /* kept in sign_err */
		return rc;
	}
	hga_buf_init(&out, 64 * 1024);
	if (hga_key_sign(id->key, name, data, &out, &a->sign_err) == 0 &&
	    hga_wire_str(hga_buf_str(&out), &at, &raw) &&
	    hga_wire_str(hga_buf_str(&out), &at, &raw))
		rc = give_sig(a, sig, sig_len, raw);
	hga_buf_release(&out);
	return rc;
}

static int ask_agent(struct hga_auth *a, struct hga_auth_id *id,
                     struct hga_str alg, struct hga_str data)
{
	uint32_t flags = 0;
	int rc;

	alg = plain_alg(alg);
	if (hga_str_eqc(alg, "rsa-sha2-256"))
		flags = AGENT_RSA_256;
	else if (hga_str_eqc(alg, "rsa-sha2-512"))
		flags = AGENT_RSA_512;
	hga_buf_clear(&a->sign_body);
	rc = add_str(&a->sign_body, hga_buf_str(&id->blob), &a->sign_err);
	if (rc == 0)
		rc = add_str(&a->sign_body, data, &a->sign_err);
	if (rc == 0)
		rc = add_u32(&a->sign_body, flags, &a->sign_err);
	if (rc == 0)
		rc = hga_agent_ask(&a->agent, AGENT_SIGN,
		                   hga_buf_str(&a->sign_body), &a->sign_err);
	a->signing = rc == 0;
	return rc == 0 ? LIBSSH2_ERROR_EAGAIN
	               : LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
}

static int sign_agent(struct hga_auth *a, struct hga_auth_id *id,
                      struct hga_str alg, struct hga_str data,
                      unsigned char **sig, size_t *sig_len)
{
	struct hga_str frame = HGA_STR(""), got_alg, raw;
	int rc;

	if (!a->signing)
		return ask_agent(a, id, alg, data);
	rc = hga_agent_answer(&a->agent, &frame, &a->sign_err);
	if (rc == 0)
		return LIBSSH2_ERROR_EAGAIN;
	a->signing = false;
	if (rc < 0 ||
	    hga_agent_parse_sig(frame, &got_alg, &raw, &a->sign_err) < 0)
		return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
	alg = plain_alg(alg);
	if (!hga_str_eq(got_alg, alg)) {
		(void)hga_fail(&a->sign_err, HGA_AUTH, 0, "KeyUnsupported",
		               "the agent signed with %.*s instead of %.*s",
		               HGA_STRF(got_alg),
		               HGA_STRF(alg)); /* kept in sign_err */
		return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
	}
	return give_sig(a, sig, sig_len, raw);
}

/* ---- questions ---- */

static void ask(struct hga_auth *a)
{
	struct hga_ssh_connect *op = a->ssh->connect;

	a->asking = true;
	hga_ssh_pause(a->ssh);
	op->question = &a->question;
	if (op->base.progress != NULL)
		op->base.progress(&op->base);
}

int hga_auth_answer(struct hga_auth *a, const struct hga_str *texts, size_t n,
                    struct hga_err *err)
{
	int rc = 0;

	a->asking = false;
	answers_clear(a);
	for (size_t i = 0; i < n && i < HGA_SSH_PROMPTS && rc == 0; i++) {
		rc = hga_buf_addstr(&a->answers[i], texts[i], err);
		a->n_answers = i + 1;
	}
	a->answered = true;
	return rc;
}

static int try_unlock(struct hga_auth *a, struct hga_auth_id *id,
                      struct hga_str passphrase)
{
	struct hga_key_unlock u = {passphrase, BCRYPT};
	struct hga_buf text;
	int rc;

	hga_buf_init(&text, PUB_MAX);
	rc = hga_key_read(id->path, &text, &a->sign_err);
	if (rc == 0)
		rc = hga_key_unlock(hga_buf_str(&text), &u, id->path, &id->key,
		                    &a->sign_err);
	hga_buf_release_secret(&text);
	id->opened++;
	return rc;
}

/* Opens a protected key: 0, EAGAIN while it is asked for, or failed for good
 * (sign_err tells). */
static int unlock(struct hga_auth *a, struct hga_auth_id *id)
{
	struct hga_str given = hga_buf_str(&a->passphrase);

	if (a->asking)
		return LIBSSH2_ERROR_EAGAIN;
	if (id->opened == 0 && given.n > 0 && try_unlock(a, id, given) == 0)
		return 0;
	if (a->answered) {
		int rc = a->n_answers > 0
		             ? try_unlock(a, id, hga_buf_str(&a->answers[0]))
		             : hga_fail(&a->sign_err, HGA_AUTH, 0,
		                        "KeyNeedsPassphrase",
		                        "%s: the key is protected by a "
		                        "passphrase",
		                        id->path);
		bool gave_up = a->n_answers == 0;

		answers_clear(a);
		if (rc == 0) {
			a->sign_err.kind = HGA_OK;
			return 0;
		}
		if (gave_up)
			return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
	}
	if (!a->can_ask || id->opened >= UNLOCK_TRIES ||
	    (id->opened > 0 && strcmp(a->sign_err.code, "KeyPassphrase") != 0))
		return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
	question_clear(a);
	a->question.what = HGA_ASK_PASSPHRASE;
	a->question.path = id->path;
	a->question.attempt = id->opened + 1;
	ask(a);
	return LIBSSH2_ERROR_EAGAIN;
}

static int on_sign(LIBSSH2_SESSION *s, unsigned char **sig, size_t *sig_len,
                   const unsigned char *data, size_t len, void **abstract)
{
	struct hga_auth *a = *abstract;
	struct hga_auth_id *id = &a->ids[a->at];
	struct hga_str text = hga_strn((const char *)data, len), alg;

	(void)s; /* the key does not depend on the session */
	if (!hga_auth_sigalg(text, &alg))
		return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
	if (id->agent)
		return sign_agent(a, id, alg, text, sig, sig_len);
	if (id->key == NULL) {
		int rc = unlock(a, id);

		if (rc != 0)
			return rc;
	}
	return sign_own(a, id, alg, text, sig, sig_len);
}

/* ---- steps ---- */

static void wake_session(void *data)
{
	hga_ssh_kick(data);
}

static int step_methods(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	char *list = libssh2_userauth_list(ssh->s, ssh->user,
	                                   (unsigned)strlen(ssh->user));

	if (list == NULL) {
		int rc = libssh2_session_last_errno(ssh->s);

		if (libssh2_userauth_authenticated(ssh->s))
			return 1;
		if (rc == LIBSSH2_ERROR_EAGAIN)
			return 0;
		return hga_ssh_fail(ssh, err, "login", rc);
	}
	hga_ssh_clean(a->methods, sizeof(a->methods), hga_str(list));
	a->state = HGA_AUTH_NEXT;
	return 2;
}

static int refused(struct hga_ssh *ssh, struct hga_err *err)
{
	const struct hga_auth *a = &ssh->auth;
	const char *tried = hga_buf_text(&a->tried);

	const struct hga_err *own = &a->sign_err;

	if (own->kind == HGA_OK &&
	    (*tried == '\0' ||
	     strcmp(a->locked.code, "KeyNeedsPassphrase") == 0))
		own = &a->locked;
	/* Our own trouble with a key says more than the server's refusal. */
	if (own->kind == HGA_MEMORY ||
	    (own->kind == HGA_AUTH && strncmp(own->code, "Key", 3) == 0)) {
		*err = *own;
		if (own->kind != HGA_MEMORY)
			hga_err_prefix(err, "ssh %s", ssh->name);
		return -(int)err->kind;
	}
	return hga_fail(err, HGA_AUTH, 0, "AuthRejected",
	                "ssh %s: login as %.64s refused (tried %.220s; server "
	                "allows %s)%s%.200s",
	                ssh->name, ssh->user, *tried ? tried : "nothing",
	                a->methods[0] ? a->methods : "nothing",
	                a->sign_err.kind ? ": " : "",
	                a->sign_err.kind ? a->sign_err.msg : "");
}

/* Names the key in the list of what was tried. */
static int note_try(struct hga_auth *a, struct hga_auth_id *id,
                    struct hga_err *err)
{
	char fp[64];
	int rc = hga_blob_fingerprint(hga_buf_str(&id->blob), fp, err);

	if (rc == 0)
		rc = hga_buf_addf(&a->tried, err, "%spublickey %s%s",
		                  a->tried.len ? ", " : "", fp,
		                  a->at_cert ? " (certificate)" : "");
	return rc;
}

static struct hga_auth_id *id_find(struct hga_auth *a, struct hga_str blob)
{
	for (size_t i = 0; i < a->n_ids; i++)
		if (hga_str_eq(hga_buf_str(&a->ids[i].blob), blob))
			return &a->ids[i];
	return NULL;
}

static int add_agent_keys(struct hga_auth *a, struct hga_str frame,
                          struct hga_err *err)
{
	struct hga_agent_ids *ids = hga_alloc(sizeof(*ids));
	int rc;

	if (ids == NULL)
		return hga_fail_mem(err);
	rc = hga_agent_parse_ids(frame, ids, err);
	/* Keys the caller named come first, they are already in the list. */
	for (size_t i = 0; rc == 0 && i < ids->n; i++) {
		struct hga_auth_id *id = id_find(a, ids->blob[i]);

		if (id != NULL) {
			id->agent = id->key == NULL;
			hga_free(id->path); /* no need to open the file */
			id->path = NULL;
			continue;
		}
		if (a->identities_only)
			continue;
		id = id_new(a, err);
		rc = id == NULL ? -HGA_MEMORY
		                : hga_buf_addstr(&id->blob, ids->blob[i], err);
		if (rc == 0)
			id->agent = true;
	}
	hga_free(ids);
	return rc;
}

static int ask_list(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	int rc;

	a->agent_asked = true;
	rc = hga_agent_open(&a->agent, ssh->loop, a->agent_path, wake_session,
	                    ssh, err);
	if (rc == 0)
		rc = hga_agent_ask(&a->agent, AGENT_LIST, HGA_STR(""), err);
	a->state = HGA_AUTH_AGENT;
	return rc < 0 ? rc : 2;
}

static int step_agent(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	struct hga_str frame = HGA_STR("");
	int rc = hga_agent_answer(&a->agent, &frame, err);

	if (rc <= 0)
		return rc;
	rc = add_agent_keys(a, frame, err);
	a->state = HGA_AUTH_NEXT;
	return rc < 0 ? rc : 2;
}

static bool offers(const struct hga_auth *a, const char *method)
{
	return strstr(a->methods, method) != NULL;
}

/* After a failed try: what the server allows now. */
static void learn_methods(struct hga_ssh *ssh)
{
	struct hga_auth *a = &ssh->auth;

	a->state = HGA_AUTH_NEXT;
	a->unasked = false;
#ifdef HGA_SSH2_EDIT_LOGIN
	hga_ssh_clean(a->methods, sizeof(a->methods),
	              hga_str(hga_libssh2_login_methods(ssh->s)));
#endif
	if (a->methods[0] == '\0')
		a->state = HGA_AUTH_METHODS;
}

/* Key i, with its certificate first. */
static int start_try(struct hga_auth *a, size_t i, struct hga_err *err)
{
	struct hga_auth_id *id = &a->ids[i];

	a->at = i;
	a->signing = false;
	if (id->key == NULL && !id->agent && id->blob.len == 0) {
		a->state = HGA_AUTH_UNLOCK;
		return 2;
	}
	a->at_cert = id->tried_cert ? NULL : find_cert(a, id);
	if (a->at_cert != NULL)
		id->tried_cert = true;
	else
		id->tried = true;
	a->attempts++;
	a->state = HGA_AUTH_TRY;
	return note_try(a, id, err) < 0 ? -HGA_MEMORY : 2;
}

/* What comes after the keys. */
static int step_other(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	bool more = offers(a, "keyboard-interactive") || a->attempts > 0 ||
	            a->password_tried;
	const char *name = NULL;

	if (a->password.len > 0 && !a->password_tried &&
	    offers(a, "password")) {
		a->password_tried = true;
		a->state = HGA_AUTH_PASSWORD;
		name = "password";
	} else if ((a->password.len > 0 || a->can_ask) && !a->kbd_tried &&
	           more) {
		/* Also as the second factor of a server whose list does not
		 * tell. */
		a->kbd_tried = true;
		a->state = HGA_AUTH_KBD;
		return 2;
	}
	if (name == NULL)
		return refused(ssh, err);
	return hga_buf_addf(&a->tried, err, "%s%s", a->tried.len ? ", " : "",
	                    name) < 0
	           ? -HGA_MEMORY
	           : 2;
}

static int step_next(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;

	if (a->unasked)
		return start_try(a, 0, err);
	for (size_t i = 0; i < a->n_ids && offers(a, "publickey"); i++) {
		struct hga_auth_id *id = &a->ids[i];

		if (id->tried ||
		    (id->key == NULL && !id->agent && id->path == NULL))
			continue;
		/* A protected one may be in the agent. */
		if (id->key == NULL && !id->agent && a->agent_path != NULL &&
		    !a->agent_asked)
			continue;
		if (a->attempts == ATTEMPTS_MAX)
			return step_other(ssh, err);
		return start_try(a, i, err);
	}
	if (offers(a, "publickey") && a->agent_path != NULL && !a->agent_asked)
		return ask_list(ssh, err);
	return step_other(ssh, err);
}

static int step_unlock(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	struct hga_auth_id *id = &a->ids[a->at];
	int rc = unlock(a, id);

	if (rc == LIBSSH2_ERROR_EAGAIN)
		return 0;
	a->state = HGA_AUTH_NEXT;
	if (rc != 0) {
		id->tried = true;
		return 2;
	}
	return hga_buf_addstr(&id->blob, hga_key_blob(id->key), err) < 0
	           ? -HGA_MEMORY
	           : 2;
}

/* The result of a userauth call: 1 in, 0 wait, 2 next, -kind. */
static int judge(struct hga_ssh *ssh, int rc, struct hga_err *err)
{
	if (rc == 0)
		return 1;
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return 0;
	/* -19 also stands for a connection that ended in the middle. */
	if ((rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED ||
	     rc == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED ||
	     rc == LIBSSH2_ERROR_PASSWORD_EXPIRED) &&
	    ssh->disconnect[0] == '\0') {
		learn_methods(ssh);
		return 2;
	}
	return hga_ssh_fail(ssh, err, "login", rc);
}

static int step_try(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	const struct hga_buf *blob =
	    a->at_cert ? a->at_cert : &a->ids[a->at].blob;

	if (a->asking)
		return 0;
	a->abstract = a;
	a->heap = &ssh->heap;
#ifdef HGA_SSH2_EDIT_DIRECT
	/* Without a question first, unless signing may bother somebody. */
	hga_libssh2_sign_at_once(ssh->s, a->ids[a->at].key != NULL);
#endif
	return judge(ssh,
	             libssh2_userauth_publickey(
	                 ssh->s, ssh->user, (const unsigned char *)blob->data,
	                 blob->len, on_sign, &a->abstract),
	             err);
}

static int step_password(struct hga_ssh *ssh, struct hga_err *err)
{
	const struct hga_buf *p = &ssh->auth.password;

	return judge(ssh,
	             libssh2_userauth_password_ex(
	                 ssh->s, ssh->user, (unsigned)strlen(ssh->user),
	                 p->data, (unsigned)p->len, NULL),
	             err);
}

/* ---- keyboard-interactive ---- */

static char *shown(const unsigned char *p, size_t n)
{
	char *out;

	if (n > 4096)
		n = 4096;
	out = hga_alloc(n + 1);
	if (out != NULL)
		hga_ssh_clean(out, n + 1, hga_strn((const char *)p, n));
	return out;
}

static void set_question(struct hga_auth *a, struct hga_str name,
                         struct hga_str instruction, unsigned n,
                         const LIBSSH2_USERAUTH_KBDINT_PROMPT *prompts)
{
	struct hga_ssh_question *q = &a->question;

	question_clear(a);
	q->what = HGA_ASK_PROMPTS;
	q->name = shown((const unsigned char *)name.s, name.n);
	q->instruction =
	    shown((const unsigned char *)instruction.s, instruction.n);
	for (q->n = 0; q->n < n; q->n++) {
		q->prompts[q->n].text =
		    shown(prompts[q->n].text, prompts[q->n].length);
		q->prompts[q->n].echo = prompts[q->n].echo != 0;
	}
}

static void give_answer(struct hga_ssh *ssh, struct hga_str text,
                        LIBSSH2_USERAUTH_KBDINT_RESPONSE *to)
{
	void *heap = &ssh->heap;

	to->text = hga_bio_alloc(text.n + 1, &heap);
	if (to->text == NULL)
		return; /* an empty answer: the login fails */
	memcpy(to->text, text.s, text.n);
	to->length = (unsigned)text.n;
}

static void on_prompts(const char *name, int name_len, const char *instruction,
                       int instruction_len, int n,
                       const LIBSSH2_USERAUTH_KBDINT_PROMPT *prompts,
                       LIBSSH2_USERAUTH_KBDINT_RESPONSE *responses,
                       void **abstract)
{
	struct hga_ssh *ssh = *abstract;
	struct hga_auth *a = &ssh->auth;

	if (n <= 0 || n > HGA_SSH_PROMPTS || ++a->kbd_rounds > KBD_ROUNDS)
		return;
	if (n == 1 && !prompts[0].echo && a->password.len > 0 && !a->kbd_used &&
	    !a->asking && !a->answered) {
		a->kbd_used = true;
		give_answer(ssh, hga_buf_str(&a->password), &responses[0]);
		return;
	}
#ifdef HGA_SSH2_EDIT_ASK
	if (a->can_ask && !a->answered) {
		if (!a->asking) {
			set_question(
			    a,
			    hga_strn(name, name_len > 0 ? (size_t)name_len : 0),
			    hga_strn(instruction, instruction_len > 0
			                              ? (size_t)instruction_len
			                              : 0),
			    (unsigned)n, prompts);
			ask(a);
		}
		hga_libssh2_kbd_wait(ssh->s);
		return;
	}
#endif
	for (int i = 0; i < n && (size_t)i < a->n_answers; i++)
		give_answer(ssh, hga_buf_str(&a->answers[i]), &responses[i]);
	answers_clear(a);
}

static int step_kbd(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	int rc;

	/* Its prompts are still open: nothing to do for libssh2. */
	if (a->asking)
		return 0;
	rc = libssh2_userauth_keyboard_interactive_ex(
	    ssh->s, ssh->user, (unsigned)strlen(ssh->user), on_prompts);
	if (rc != LIBSSH2_ERROR_EAGAIN && rc != 0 && a->kbd_rounds > 0 &&
	    hga_buf_addf(&a->tried, err, "%skeyboard-interactive",
	                 a->tried.len ? ", " : "") < 0)
		return -HGA_MEMORY;
	return judge(ssh, rc, err);
}

int hga_auth_step(struct hga_ssh *ssh, struct hga_err *err)
{
	int rc = 2;

	while (rc == 2) {
		switch (ssh->auth.state) {
		case HGA_AUTH_METHODS:
			rc = step_methods(ssh, err);
			break;
		case HGA_AUTH_NEXT:
			rc = step_next(ssh, err);
			break;
		case HGA_AUTH_AGENT:
			rc = step_agent(ssh, err);
			break;
		case HGA_AUTH_UNLOCK:
			rc = step_unlock(ssh, err);
			break;
		case HGA_AUTH_TRY:
			rc = step_try(ssh, err);
			break;
		case HGA_AUTH_PASSWORD:
			rc = step_password(ssh, err);
			break;
		case HGA_AUTH_KBD:
			rc = step_kbd(ssh, err);
			break;
		}
	}
	return rc;
}
