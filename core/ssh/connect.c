/*
 * From a name to a session that is logged in: dialling, banner, key exchange,
 * host key, login, each with its deadline.  RFC 4253.
 */
#include "ssh/session.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "ssh/forward.h"
#include "ssh/impl.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PHASE_MS 15000
#define TOTAL_MS 45000
#define ALIVE_MS 15000
#define ALIVE_COUNT 3
#define PRE_LINES 50
#define PRE_BYTES 8192

#ifdef HGA_SSH2_EDIT_LOGIN
/* From the edit "login" (vendor/edits/libssh2/login.sh). */
void hga_libssh2_login_early(LIBSSH2_SESSION *s);
#endif

/* libssh2 wants a descriptor number; this one is never open. */
#define NO_SOCKET INT_MAX

#ifndef HGA_VERSION
#define HGA_VERSION "dev"
#endif

#define KEX                                                                    \
	"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,"   \
	"ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group16-sha512," \
	"diffie-hellman-group18-sha512,diffie-hellman-group14-sha256,"         \
	"diffie-hellman-group-exchange-sha256"
/* Without the edit "mac" a wrong tag of the first never ends, a wrong length
 * with the others ends the process. */
#ifdef HGA_SSH2_EDIT_MAC
#define MORE_CRYPT                                                             \
	",chacha20-poly1305@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr"
#else
#define MORE_CRYPT ""
#endif
#define CRYPT "aes128-gcm@openssh.com,aes256-gcm@openssh.com" MORE_CRYPT
#define MAC                                                                    \
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"         \
	"hmac-sha2-256,hmac-sha2-512"

/* ---- callbacks of libssh2 ---- */

static ssize_t cb_send(libssh2_socket_t fd, const void *p, size_t n, int flags,
                       void **abstract)
{
	struct hga_ssh *ssh = *abstract;

	(void)fd;    /* not a socket */
	(void)flags; /* MSG_NOSIGNAL is bio's */
	return hga_bio_write(&ssh->bio, p, n);
}

static ssize_t cb_recv(libssh2_socket_t fd, void *p, size_t n, int flags,
                       void **abstract)
{
	struct hga_ssh *ssh = *abstract;

	(void)fd;    /* not a socket */
	(void)flags; /* never blocks */
	return hga_bio_read(&ssh->bio, p, n);
}

static void cb_disconnect(LIBSSH2_SESSION *s, int reason, const char *msg,
                          int len, const char *lang, int lang_len,
                          void **abstract)
{
	struct hga_ssh *ssh = *abstract;
	char clean[200];

	(void)s;
	(void)lang; /* nobody fills it */
	(void)lang_len;
	hga_ssh_clean(clean, sizeof(clean),
	              hga_strn(msg ? msg : "", len > 0 ? (size_t)len : 0));
	snprintf(ssh->disconnect, sizeof(ssh->disconnect), "%s",
	         *clean ? clean : "no reason given");
	hga_log(HGA_LOG_DEBUG, "ssh", "%s: disconnect %d: %s", ssh->name,
	        reason, ssh->disconnect);
}

static int set_method(struct hga_ssh *ssh, int kind, const char *list,
                      struct hga_err *err)
{
	int rc = libssh2_session_method_pref(ssh->s, kind, list);

	if (rc == LIBSSH2_ERROR_ALLOC)
		return hga_fail_mem(err);
	if (rc != 0)
		return hga_fail(err, HGA_USAGE, 0, "Ciphers",
		                "ssh: none of these is supported: %s", list);
	return 0;
}

static int set_methods(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_buf algs;
	int rc;

	hga_buf_init(&algs, 1024);
	rc =
	    hga_trust_algorithms(&ssh->trust, ssh->host, ssh->port, &algs, err);
	if (rc == 0)
		rc = set_method(ssh, LIBSSH2_METHOD_HOSTKEY,
		                hga_buf_text(&algs), err);
	hga_buf_release(&algs);
	for (int cs = 0; cs < 2 && rc == 0; cs++) {
		rc = set_method(
		    ssh, cs ? LIBSSH2_METHOD_CRYPT_CS : LIBSSH2_METHOD_CRYPT_SC,
		    ssh->ciphers ? ssh->ciphers : CRYPT, err);
		if (rc == 0)
			rc = set_method(ssh,
			                cs ? LIBSSH2_METHOD_MAC_CS
			                   : LIBSSH2_METHOD_MAC_SC,
			                ssh->macs ? ssh->macs : MAC, err);
		if (rc == 0)
			rc = set_method(ssh,
			                cs ? LIBSSH2_METHOD_COMP_CS
			                   : LIBSSH2_METHOD_COMP_SC,
			                "none", err);
	}
	if (rc == 0)
		rc = set_method(ssh, LIBSSH2_METHOD_KEX,
		                ssh->kex ? ssh->kex : KEX, err);
	return rc;
}

/* As a function pointer of libssh2's neutral type. */
#define CB(fn) ((libssh2_cb_generic *)(void (*)(void))(fn))

static int open_libssh2(struct hga_ssh *ssh, struct hga_err *err)
{
	ssh->heap.max = HGA_BIO_HEAP_BASE;
	ssh->s = libssh2_session_init_ex(hga_bio_alloc, hga_bio_free,
	                                 hga_bio_realloc, ssh);
	if (ssh->s == NULL)
		return hga_fail_mem(err);
	libssh2_session_set_blocking(ssh->s, 0);
	libssh2_session_callback_set2(ssh->s, LIBSSH2_CALLBACK_SEND,
	                              CB(cb_send));
	libssh2_session_callback_set2(ssh->s, LIBSSH2_CALLBACK_RECV,
	                              CB(cb_recv));
	libssh2_session_callback_set2(ssh->s, LIBSSH2_CALLBACK_DISCONNECT,
	                              CB(cb_disconnect));
	if (libssh2_session_banner_set(ssh->s, "SSH-2.0-hgauto_" HGA_VERSION) !=
	    0)
		return hga_fail_mem(err);
#ifndef HGA_SSH2_EDIT_PROBE
	libssh2_keepalive_config(ssh->s, 1, 2);
#endif
#ifdef HGA_SSH2_EDIT_LOGIN
	if (hga_auth_early(&ssh->auth))
		hga_libssh2_login_early(ssh->s);
#endif
	return set_methods(ssh, err);
}

/* ---- deadlines ---- */

static void on_deadline(struct hga_timer *t)
{
	struct hga_ssh *ssh = t->data;
	struct hga_err err;
	bool login = ssh->phase == HGA_SSH_LOGIN;

	(void)hga_fail(&err, HGA_TIMEOUT, 0, login ? "Login" : "Connect",
	               "ssh %s: no answer in time (%s, %.1f s)", ssh->name,
	               hga_ssh_phase_name(ssh->phase),
	               hga_ssh_age(ssh)); /* handed to die */
	hga_ssh_die(ssh, &err);
}

/* Enters a phase with its deadline, within the whole attempt's. */
static int enter(struct hga_ssh *ssh, enum hga_ssh_phase phase, int64_t ms,
                 struct hga_err *err)
{
	int64_t left = ssh->t_total_ms - hga_mono_ms();

	ssh->phase = phase;
	if (left < 0)
		left = 0;
	if (ms > left)
		ms = left;
	if (ssh->s != NULL)
		libssh2_session_set_read_timeout(ssh->s, (long)(ms / 1000 + 1));
	return hga_timer_start(ssh->loop, &ssh->deadline, ms, err);
}

void hga_ssh_pause(struct hga_ssh *ssh)
{
	ssh->paused_ms = hga_mono_ms();
	ssh->left_ms = ssh->deadline.due_ms - ssh->paused_ms;
	hga_timer_stop(ssh->loop, &ssh->deadline);
}

int hga_ssh_resume(struct hga_ssh *ssh, struct hga_err *err)
{
	ssh->t_total_ms += hga_mono_ms() - ssh->paused_ms;
	return hga_timer_start(ssh->loop, &ssh->deadline,
	                       ssh->left_ms > 0 ? ssh->left_ms : 0, err);
}

int hga_ssh_connect_answer(struct hga_ssh_connect *op,
                           const struct hga_str *texts, size_t n,
                           struct hga_err *err)
{
	struct hga_ssh *ssh = op->ssh;
	int rc;

	if (op->question == NULL)
		return hga_fail(err, HGA_USAGE, 0, "Question",
		                "ssh: nothing was asked");
	op->question = NULL;
	rc = hga_auth_answer(&ssh->auth, texts, n, err);
	if (rc == 0)
		rc = hga_ssh_resume(ssh, err);
	hga_ssh_kick(ssh);
	return rc;
}

/* ---- phases ---- */

/* Keeps the start of the server's key exchange: its lists, in clear text. */
static int keep_first(struct hga_ssh *ssh, const unsigned char *p, size_t n,
                      struct hga_err *err)
{
	size_t room = ssh->first.max - ssh->first.len;

	return hga_buf_add(&ssh->first, p, n < room ? n : room, err);
}

/* Looks at the raw input up to the banner line; libssh2 reads it again. */
static int watch_banner(struct hga_ssh *ssh, struct hga_err *err)
{
	const struct hga_bio *b = &ssh->bio;
	size_t i;

	for (i = 0; i < b->in_len && !ssh->banner_done; i++) {
		char c = (char)b->in[i];

		if (++ssh->pre_bytes > PRE_BYTES)
			break;
		if (c != '\n') {
			if (ssh->banner_len < sizeof(ssh->banner) - 1)
				ssh->banner[ssh->banner_len++] = c;
			continue;
		}
		ssh->banner[ssh->banner_len] = '\0';
		if (strncmp(ssh->banner, "SSH-", 4) == 0)
			ssh->banner_done = true;
		else if (++ssh->pre_lines > PRE_LINES)
			break;
		if (!ssh->banner_done)
			ssh->banner_len = 0;
	}
	if (ssh->pre_bytes > PRE_BYTES || ssh->pre_lines > PRE_LINES)
		return hga_fail(err, HGA_PROTOCOL, 0, "Banner",
		                "ssh %s: this is no SSH server (banner)",
		                ssh->name);
	if (!ssh->banner_done)
		return 0;
	ssh->banner[strcspn(ssh->banner, "\r")] = '\0';
	if (strncmp(ssh->banner, "SSH-2.0-", 8) != 0 &&
	    strncmp(ssh->banner, "SSH-1.99-", 9) != 0)
		return hga_fail(err, HGA_PROTOCOL, 0, "Banner",
		                "ssh %s: the server does not speak SSH 2 "
		                "(banner)",
		                ssh->name);
	return keep_first(ssh, b->in + i, b->in_len - i, err);
}

/* List number i of the server's KEXINIT (RFC 4253 section 7.1). */
static struct hga_str kexinit_list(const struct hga_ssh *ssh, int i)
{
	struct hga_str p = hga_buf_str(&ssh->first), list = HGA_STR("");
	size_t at = 4 + 1 + 1 + 16; /* length, padding, type, cookie */

	if (p.n < at || p.s[5] != 20)
		return list;
	for (int k = 0; k <= i; k++)
		if (!hga_wire_str(p, &at, &list))
			return HGA_STR("");
	return list;
}

/* Some name of our comma-separated list is in theirs. */
static bool lists_meet(const char *ours, struct hga_str theirs)
{
	while (*ours != '\0') {
		size_t n = strcspn(ours, ",");
		size_t from = 0;

		while (from < theirs.n) {
			ptrdiff_t end = hga_str_chr(theirs, ',', from);
			size_t to = end < 0 ? theirs.n : (size_t)end;

			if (to - from == n &&
			    memcmp(theirs.s + from, ours, n) == 0)
				return true;
			from = to + 1;
		}
		ours += n + (ours[n] == ',');
	}
	return false;
}

static int fail_kex(struct hga_ssh *ssh, int rc, struct hga_err *err)
{
	const struct {
		int list;
		const char *what, *ours;
	} lists[] = {{0, "key exchange", ssh->kex ? ssh->kex : KEX},
	             {1, "host key", NULL},
	             {2, "cipher", ssh->ciphers ? ssh->ciphers : CRYPT},
	             {4, "MAC", ssh->macs ? ssh->macs : MAC}};
	struct hga_buf algs;
	int r;

	ssh->broken = true;
	hga_buf_init(&algs, 1024);
	r = hga_trust_algorithms(&ssh->trust, ssh->host, ssh->port, &algs, err);
	for (size_t i = 0; i < 4 && r == 0; i++) {
		struct hga_str theirs = kexinit_list(ssh, lists[i].list);
		const char *ours =
		    lists[i].ours ? lists[i].ours : hga_buf_text(&algs);
		char clean[200];

		if (theirs.n == 0 || lists_meet(ours, theirs))
			continue;
		/* A server without a key of a pinned type is another one. */
		if (lists[i].list == 1 && ssh->trust.pins.n > 0) {
			r = hga_trust_fail_pin(ssh->name, err);
			break;
		}
		hga_ssh_clean(clean, sizeof(clean), theirs);
		r = hga_fail(err, HGA_PROTOCOL, 0, "KexNoMatch",
		             "ssh %s: no common %s (server: %s; here: %.150s)",
		             ssh->name, lists[i].what, clean, ours);
	}
	hga_buf_release(&algs);
	return r < 0 ? r : hga_ssh_fail(ssh, err, "key exchange", rc);
}

static int step_handshake(struct hga_ssh *ssh, bool filled, struct hga_err *err)
{
	int rc = 0;

	if (filled && ssh->phase == HGA_SSH_BANNER) {
		rc = watch_banner(ssh, err);
		if (rc == 0 && ssh->banner_done)
			rc = enter(ssh, HGA_SSH_KEX, ssh->kex_ms, err);
	} else if (filled) {
		rc = keep_first(ssh, ssh->bio.in, ssh->bio.in_len, err);
	}
	if (rc < 0)
		return rc;
	rc = libssh2_session_handshake(ssh->s, NO_SOCKET);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return 0;
	if (rc != 0)
		return fail_kex(ssh, rc, err);
	ssh->phase = HGA_SSH_HOSTKEY;
	hga_buf_release(&ssh->first);
	return 1;
}

static int step_hostkey(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_kh_host host = {ssh->host, ssh->port, ssh->trust.alias};
	size_t n = 0;
	int type = 0, rc;
	const char *p = libssh2_session_hostkey(ssh->s, &n, &type);

	if (p == NULL || n == 0)
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "ssh %s: the server showed no host key",
		                ssh->name);
	hga_buf_clear(&ssh->hostkey);
	rc = hga_buf_add(&ssh->hostkey, p, n, err);
	if (rc == 0)
		rc = hga_blob_fingerprint(hga_buf_str(&ssh->hostkey),
		                          ssh->fingerprint, err);
	if (rc < 0)
		return rc;
	rc = hga_trust_check(&ssh->trust, ssh->name, &host,
	                     hga_buf_str(&ssh->hostkey), ssh->fingerprint,
	                     &ssh->found, err);
	if (rc < 0)
		return rc;
	rc = enter(ssh, HGA_SSH_LOGIN, ssh->login_ms, err);
	return rc < 0 ? rc : 1;
}

static int become_ready(struct hga_ssh *ssh, struct hga_err *err)
{
	struct hga_ssh_connect *op = ssh->connect;
	char *banner = NULL;

	hga_timer_stop(ssh->loop, &ssh->deadline);
	hga_agent_close(&ssh->auth.agent);
	if (libssh2_userauth_banner(ssh->s, &banner) == 0 && banner != NULL) {
		size_t n = strlen(banner);

		ssh->login_banner = hga_memdup0(banner, n < 8192 ? n : 8192);
	}
	ssh->phase = HGA_SSH_READY;
	ssh->probe_rx_ms = ssh->bio.last_rx_ms;
	if (hga_timer_start(ssh->loop, &ssh->alive, ssh->interval_ms, err) < 0)
		return -HGA_MEMORY;
	ssh->connect = NULL;
	op->ssh = ssh; /* with the operation's reference */
	op->banner_seen = true;
	hga_op_finish(&op->base);
	return 1;
}

static int step_login(struct hga_ssh *ssh, struct hga_err *err)
{
	int rc = hga_auth_step(ssh, err);

	return rc == 1 ? become_ready(ssh, err) : rc;
}

int hga_ssh_step_connect(struct hga_ssh *ssh, bool filled, struct hga_err *err)
{
	switch (ssh->phase) {
	case HGA_SSH_BANNER:
	case HGA_SSH_KEX:
		return step_handshake(ssh, filled, err);
	case HGA_SSH_HOSTKEY:
		return step_hostkey(ssh, err);
	case HGA_SSH_LOGIN:
		return step_login(ssh, err);
	case HGA_SSH_CONNECT:
	case HGA_SSH_READY:
	case HGA_SSH_DEAD:
		break;
	}
	return 0;
}

/* ---- connecting ---- */

static int begin(struct hga_ssh *ssh, struct hga_err *err)
{
	unsigned ms = (unsigned)(ssh->interval_ms * ssh->count);
	int rc;

	/* Only TCP has it. */
	if (ssh->bio.fd >= 0)
		(void)setsockopt(ssh->bio.fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
		                 &ms, sizeof(ms));
	ssh->bio.last_rx_ms = hga_mono_ms();
	rc = open_libssh2(ssh, err);
	if (rc == 0)
		rc = enter(ssh, HGA_SSH_BANNER, ssh->banner_ms, err);
	if (rc < 0)
		return rc;
	ssh->watch.fd = ssh->bio.fd;
	hga_ssh_kick(ssh);
	return 0;
}

static void on_dial(struct hga_op *op)
{
	struct hga_ssh *ssh =
	    (struct hga_ssh *)((char *)op - offsetof(struct hga_ssh, dial));
	struct hga_err err = op->err;
	int fd = ssh->dial.fd;

	if (err.kind != HGA_OK) {
		hga_err_prefix(&err, "ssh %s", ssh->name);
		hga_ssh_die(ssh, &err);
		return;
	}
	memcpy(ssh->address, ssh->dial.address, sizeof(ssh->address));
	ssh->phase = HGA_SSH_BANNER;
	if (hga_bio_open_fd(&ssh->bio, fd, &err) < 0 || begin(ssh, &err) < 0)
		hga_ssh_die(ssh, &err);
}

static char *copy(const char *s, bool *failed)
{
	char *p;

	if (s == NULL)
		return NULL;
	p = hga_strdup(s);
	*failed |= p == NULL;
	return p;
}

static int64_t or_ms(int64_t v, int64_t def)
{
	return v > 0 ? v : def;
}

static int take_args(struct hga_ssh *ssh, const struct hga_ssh_args *a,
                     struct hga_err *err)
{
	bool failed = false;

	ssh->name = copy(a->name ? a->name : a->host, &failed);
	ssh->host = copy(a->host, &failed);
	ssh->user = copy(a->user, &failed);
	ssh->ciphers = copy(a->ciphers, &failed);
	ssh->kex = copy(a->kex, &failed);
	ssh->macs = copy(a->macs, &failed);
	ssh->bind_address = copy(a->bind_address, &failed);
	if (failed)
		return hga_fail_mem(err);
	ssh->port = a->port ? a->port : 22;
	ssh->family = a->family;
	ssh->connect_ms = or_ms(a->connect_ms, PHASE_MS);
	ssh->banner_ms = or_ms(a->banner_ms, PHASE_MS);
	ssh->kex_ms = or_ms(a->kex_ms, PHASE_MS);
	ssh->login_ms = or_ms(a->login_ms, PHASE_MS);
	ssh->t_total_ms = ssh->t_start_ms + or_ms(a->total_ms, TOTAL_MS);
	ssh->interval_ms = or_ms(a->interval_ms, ALIVE_MS);
	ssh->count = a->count > 0 ? a->count : ALIVE_COUNT;
	ssh->limit = HGA_SSH_CHANNELS;
	return 0;
}

static int check_args(const struct hga_ssh_args *a, struct hga_err *err)
{
	if (a->host == NULL || a->host[0] == '\0' || a->host[0] == '-')
		return hga_fail(err, HGA_USAGE, 0, "Host",
		                "ssh: \"%.100s\" is no host name",
		                a->host ? a->host : "");
	if (a->user == NULL || a->user[0] == '\0' || strlen(a->user) > 255)
		return hga_fail(err, HGA_USAGE, 0, "User",
		                "ssh %.100s: a user name is needed", a->host);
	if (a->port < 0 || a->port > 65535)
		return hga_fail(err, HGA_USAGE, 0, "Port",
		                "ssh %.100s: %d is no port", a->host, a->port);
#ifndef HGA_SSH2_EDIT_MAC
	if (a->ciphers != NULL && strstr(a->ciphers, "chacha20") != NULL)
		return hga_fail(err, HGA_USAGE, 0, "Ciphers",
		                "ssh %.100s: this build cannot use chacha20",
		                a->host);
#endif
	return 0;
}

static void connect_cancel(struct hga_op *base)
{
	struct hga_ssh_connect *op = (struct hga_ssh_connect *)base;
	struct hga_ssh *ssh = op->ssh;
	struct hga_err err;

	op->ssh = NULL;
	hga_op_drop(base);
	ssh->connect = NULL;
	hga_ssh_closed_err(ssh, &err);
	if (ssh->pumping)
		ssh->closing = true;
	else
		hga_ssh_die(ssh, &err);
	hga_ssh_unref(ssh);
}

static int begin_fd(struct hga_ssh *ssh, int fd, struct hga_err *err)
{
	ssh->phase = HGA_SSH_BANNER;
	if (hga_bio_open_fd(&ssh->bio, fd, err) < 0)
		return -HGA_MEMORY;
	return begin(ssh, err);
}

/* What carries this session has ended. */
static void on_carrier_end(struct hga_relay *r, void *user,
                           const struct hga_err *err)
{
	struct hga_ssh *ssh = user;

	(void)r; /* it is freed by itself */
	ssh->relay = NULL;
	if (err == NULL)
		return; /* the end of the stream tells */
	ssh->end = *err;
	hga_err_prefix(&ssh->end, "ssh %s: through the jump", ssh->name);
	hga_ssh_kick(ssh);
}

static int start_via(struct hga_ssh *ssh, struct hga_ssh *via,
                     struct hga_err *err)
{
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	               pair) < 0)
		return hga_fail(err, HGA_IO, errno, "Socket", "ssh %s",
		                ssh->name);
	rc = hga_relay_open(via, pair[1], ssh->host, ssh->port, on_carrier_end,
	                    ssh, &ssh->relay, err);
	if (rc < 0) {
		close(pair[0]);
		return rc;
	}
	ssh->via = hga_ssh_ref(via);
	return begin_fd(ssh, pair[0], err);
}

static int start_proxy(struct hga_ssh *ssh, const char *command,
                       struct hga_err *err)
{
	int fd, rc = hga_proxy_start(ssh, command, &fd, err);

	return rc < 0 ? rc : begin_fd(ssh, fd, err);
}

static int start_transport(struct hga_ssh *ssh, const struct hga_ssh_args *args,
                           struct hga_err *err)
{
	int64_t left = ssh->t_total_ms - hga_mono_ms();
	struct hga_dial_args da = {.host = ssh->host,
	                           .port = ssh->port,
	                           .timeout_ms = left < 1 ? 1
	                                         : left < ssh->connect_ms
	                                             ? left
	                                             : ssh->connect_ms,
	                           .family = ssh->family,
	                           .bind_address = ssh->bind_address};

	if (args->via != NULL)
		return start_via(ssh, args->via, err);
	if (args->proxy_command != NULL)
		return start_proxy(ssh, args->proxy_command, err);
	if (args->ops == NULL)
		return hga_dial_start(ssh->loop, &ssh->dial, &da, err);
	ssh->phase = HGA_SSH_BANNER;
	if (hga_bio_open(&ssh->bio, args->ops, args->ops_ctx, args->ops_fd,
	                 err) < 0)
		return -HGA_MEMORY;
	return begin(ssh, err);
}

int hga_ssh_connect_start(struct hga_loop *loop, struct hga_ssh_connect *op,
                          const struct hga_ssh_args *args, struct hga_err *err)
{
	struct hga_ssh *ssh;
	int rc = check_args(args, err);

	if (rc < 0)
		return rc;
	ssh = hga_ssh_alloc();
	if (ssh == NULL)
		return hga_fail_mem(err);
	ssh->loop = loop;
	ssh->bio.fd = -1;
	ssh->auth.agent.fd = -1;
	ssh->t_start_ms = hga_mono_ms();
	hga_buf_init(&ssh->hostkey, 64 * 1024);
	hga_buf_init(&ssh->first, 8 * 1024);
	hga_ssh_hook(ssh);
	ssh->deadline.fn = on_deadline;
	ssh->deadline.data = ssh;
	ssh->dial.base.done = on_dial;
	ssh->auth.ssh = ssh;
	rc = take_args(ssh, args, err);
	if (rc == 0)
		rc = hga_trust_init(&ssh->trust, args, err);
	if (rc == 0)
		rc = hga_auth_init(&ssh->auth, args, err);
	if (rc == 0)
		rc = start_transport(ssh, args, err);
	if (rc < 0) {
		hga_timer_stop(loop, &ssh->deadline);
		hga_timer_stop(loop, &ssh->kick);
		hga_relay_close(ssh->relay);
		hga_proxy_stop(ssh);
		if (ssh->via != NULL)
			hga_ssh_unref(ssh->via);
		ssh->refs = 1;
		hga_ssh_unref(ssh);
		return rc;
	}
	ssh->refs = 2; /* the living session's and the operation's */
	ssh->connect = op;
	op->ssh = ssh; /* for cancel; after success the caller's */
	op->banner_seen = op->before_login = false;
	op->question = NULL;
	memset(&op->more, 0, sizeof(op->more));
	hga_op_begin(&op->base, connect_cancel);
	return 0;
}
