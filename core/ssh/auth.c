/*
 * Public-key login over libssh2 with keys of base/crypto and a client of our
 * own for agents (libssh2's blocks).  RFC 4252 section 7, RFC 8332.
 */
#include "ssh/auth.h"

#include "base/fs.h"
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

static int add_cred(struct hga_auth *a, const struct hga_ssh_cred *c,
                    struct hga_err *err)
{
	struct hga_auth_id *id = id_new(a, err);
	int rc = 0;

	if (id == NULL)
		return -HGA_MEMORY;
	if (c->key != NULL)
		id->key = hga_key_ref(c->key);
	else if (hga_str_ends(hga_str(c->path), ".pub"))
		return load_public(id, c->path, err);
	else
		rc = hga_key_load(c->path, &id->key, err);
	if (rc < 0)
		return rc;
	return hga_buf_addstr(&id->blob, hga_key_blob(id->key), err);
}

int hga_auth_init(struct hga_auth *a, const struct hga_ssh_args *args,
                  struct hga_err *err)
{
	int rc = 0;

	memset(a, 0, sizeof(*a));
	a->agent.fd = -1;
	hga_buf_init(&a->tried, 4096);
	hga_buf_init(&a->sign_body, HGA_AGENT_FRAME);
	a->identities_only = args->identities_only;
	if (args->agent != NULL) {
		a->agent_path = hga_strdup(args->agent);
		if (a->agent_path == NULL)
			return hga_fail_mem(err);
	}
	for (size_t i = 0; i < args->n_creds && rc == 0; i++)
		rc = add_cred(a, &args->creds[i], err);
	return rc;
}

void hga_auth_release(struct hga_auth *a)
{
	for (size_t i = 0; i < a->n_ids; i++) {
		hga_key_free(a->ids[i].key);
		hga_buf_release(&a->ids[i].blob);
	}
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

static int sign_own(struct hga_auth *a, struct hga_auth_id *id,
                    struct hga_str alg, struct hga_str data,
                    unsigned char **sig, size_t *sig_len)
{
	char name[64];
	struct hga_buf out;
	struct hga_str raw;
	size_t at = 0;
	int rc = LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;

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
	if (!hga_str_eq(got_alg, alg)) {
		(void)hga_fail(&a->sign_err, HGA_AUTH, 0, "KeyUnsupported",
		               "the agent signed with %.*s instead of %.*s",
		               HGA_STRF(got_alg),
		               HGA_STRF(alg)); /* kept in sign_err */
		return LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED;
	}
	return give_sig(a, sig, sig_len, raw);
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

	if (a->sign_err.kind == HGA_MEMORY) {
		*err = a->sign_err;
		return -HGA_MEMORY;
	}
	return hga_fail(err, HGA_AUTH, 0, "AuthRejected",
	                "ssh %s: login as %s refused (tried %.300s; server "
	                "allows %s)%s%.80s",
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
		rc = hga_buf_addf(&a->tried, err, "%spublickey %s",
		                  a->tried.len ? ", " : "", fp);
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

static int step_next(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;

	if (strstr(a->methods, "publickey") == NULL)
		return refused(ssh, err);
	for (size_t i = 0; i < a->n_ids; i++) {
		struct hga_auth_id *id = &a->ids[i];

		if (id->tried || (id->key == NULL && !id->agent))
			continue;
		if (a->attempts == ATTEMPTS_MAX)
			return refused(ssh, err);
		id->tried = true;
		a->attempts++;
		a->at = i;
		a->signing = false;
		a->state = HGA_AUTH_TRY;
		return note_try(a, id, err) < 0 ? -HGA_MEMORY : 2;
	}
	if (a->agent_path != NULL && !a->agent_asked)
		return ask_list(ssh, err);
	return refused(ssh, err);
}

static int step_try(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_auth *a = &ssh->auth;
	struct hga_auth_id *id = &a->ids[a->at];
	int rc;

	a->abstract = a;
	a->heap = &ssh->heap;
	rc = libssh2_userauth_publickey(ssh->s, ssh->user,
	                                (const unsigned char *)id->blob.data,
	                                id->blob.len, on_sign, &a->abstract);
	if (rc == 0)
		return 1;
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return 0;
	/* -19 also stands for a connection that ended in the middle. */
	if ((rc == LIBSSH2_ERROR_AUTHENTICATION_FAILED ||
	     rc == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED) &&
	    ssh->disconnect[0] == '\0') {
		a->state = HGA_AUTH_NEXT;
		return 2;
	}
	return hga_ssh_fail(ssh, err, "login", rc);
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
		case HGA_AUTH_TRY:
			rc = step_try(ssh, err);
			break;
		}
	}
	return rc;
}
