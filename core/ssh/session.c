/*
 * The SSH session: phases of the connection, pump, channels, keepalive.
 * What libssh2 1.11.1 does behind its interface and how that is answered:
 * it sees neither socket nor end of stream (bio), it is called from pump()
 * only, opening channels goes through one slot, closing never waits.
 * RFC 4253, RFC 4254.
 */
#include "ssh/session.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "ssh/impl.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define PHASE_MS 15000
#define TOTAL_MS 45000
#define ALIVE_MS 15000
#define ALIVE_COUNT 3
#define PRE_LINES 50
#define PRE_BYTES 8192
#define ROUND_BYTES (1024 * 1024)
#define ROUND_US 5000
#define FREE_TRIES 1000
#define REFUSED_TRIES 10
#define REFUSED_MS 50

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
/* Without the edit "mac" a wrong tag of this one never ends. */
#ifdef HGA_SSH2_EDIT_MAC
#define CHACHA "chacha20-poly1305@openssh.com,"
#else
#define CHACHA ""
#endif
#define CRYPT                                                                  \
	"aes128-gcm@openssh.com,aes256-gcm@openssh.com," CHACHA                \
	"aes256-ctr,aes192-ctr,aes128-ctr"
#define MAC                                                                    \
	"hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,"         \
	"hmac-sha2-256,hmac-sha2-512"

/* From the edit "probe" (vendor/edits/libssh2/probe.sh). */
#ifdef HGA_SSH2_EDIT_PROBE
int hga_libssh2_probe(LIBSSH2_SESSION *s);
unsigned int hga_libssh2_probe_answers(LIBSSH2_SESSION *s);
int hga_libssh2_pump(LIBSSH2_SESSION *s);
#endif

static void pump(struct hga_ssh *ssh);

static const char *phase_name(enum hga_ssh_phase p)
{
	switch (p) {
	case HGA_SSH_CONNECT:
		return "connect";
	case HGA_SSH_BANNER:
		return "banner";
	case HGA_SSH_KEX:
		return "keyexchange";
	case HGA_SSH_HOSTKEY:
		return "hostkey";
	case HGA_SSH_LOGIN:
		return "login";
	case HGA_SSH_READY:
	case HGA_SSH_DEAD:
		break;
	}
	return "session";
}

void hga_ssh_clean(char *out, size_t size, struct hga_str text)
{
	size_t n = text.n < size - 1 ? text.n : size - 1;
	bool utf8 = hga_utf8_valid(text);

	/* Not in the middle of a character. */
	while (utf8 && n < text.n && n > 0 &&
	       ((unsigned char)text.s[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text.s[i];
		bool bad = c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8);

		out[i] = bad ? '?' : (char)c;
		/* C1 control characters as UTF-8. */
		if (c == 0xc2 && i + 1 < n &&
		    (unsigned char)text.s[i + 1] < 0xa0)
			out[i] = '?';
		if (i > 0 && (unsigned char)text.s[i - 1] == 0xc2 && c < 0xa0)
			out[i] = '?';
	}
	out[n] = '\0';
}

/* ---- life ---- */

struct hga_ssh *hga_ssh_ref(struct hga_ssh *ssh)
{
	ssh->refs++;
	return ssh;
}

static void free_libssh2(struct hga_ssh *ssh)
{
	if (ssh->s == NULL)
		return;
	hga_bio_shut(&ssh->bio);
	/* Each call ends at least one channel; none of them can wait. */
	for (int i = 0; i < FREE_TRIES; i++)
		if (libssh2_session_free(ssh->s) != LIBSSH2_ERROR_EAGAIN)
			break;
	ssh->s = NULL;
	(void)hga_bio_heap_release(&ssh->heap); /* its count is for debugging */
}

static void free_session(struct hga_ssh *ssh)
{
	free_libssh2(ssh);
	hga_bio_release(&ssh->bio);
	hga_auth_release(&ssh->auth);
	hga_pins_release(&ssh->pins);
	hga_buf_release(&ssh->hostkey);
	hga_buf_release(&ssh->first);
	hga_free(ssh->name);
	hga_free(ssh->host);
	hga_free(ssh->user);
	hga_free(ssh->ciphers);
	hga_free(ssh->bind_address);
	hga_free(ssh->login_banner);
	hga_free(ssh);
}

void hga_ssh_unref(struct hga_ssh *ssh)
{
	if (--ssh->refs == 0)
		free_session(ssh);
}

double hga_ssh_age(const struct hga_ssh *ssh)
{
	return (double)(hga_mono_ms() - ssh->t_start_ms) / 1000;
}

int hga_ssh_check(struct hga_ssh *ssh, struct hga_err *err)
{
	if (ssh->phase == HGA_SSH_READY && !ssh->closing)
		return 0;
	if (ssh->dead.kind != HGA_OK) {
		*err = ssh->dead;
		return -(int)err->kind;
	}
	return hga_fail(err, HGA_NET, 0, "ConnectionLost",
			"ssh %s: the session is closed", ssh->name);
}

const struct hga_err *hga_ssh_dead_err(const struct hga_ssh *ssh)
{
	return ssh->dead.kind != HGA_OK ? &ssh->dead : NULL;
}

void hga_ssh_kick(struct hga_ssh *ssh)
{
	if (ssh->pumping)
		ssh->again = true;
	if (ssh->pumping || hga_timer_running(&ssh->kick) ||
	    ssh->phase == HGA_SSH_DEAD)
		return;
	/* Without memory for a timer the next readable event pumps. */
	if (hga_timer_start(ssh->loop, &ssh->kick, 0, NULL) < 0)
		hga_log(HGA_LOG_WARN, "ssh", "%s: out of memory", ssh->name);
}

/* ---- errors ---- */

static int fail_lost(struct hga_ssh *ssh, struct hga_err *err)
{
	const char *phase = phase_name(ssh->phase);

	if (ssh->disconnect[0] != '\0') {
		if (strstr(ssh->disconnect, "Too many authentication") != NULL)
			return hga_fail(err, HGA_AUTH, 0, "AuthTooMany",
					"ssh %s: login as %s: %s", ssh->name,
					ssh->user, ssh->disconnect);
		return hga_fail(err, HGA_NET, 0, "ConnectionLost",
				"ssh %s: the server ended the connection: %s "
				"(%s)",
				ssh->name, ssh->disconnect, phase);
	}
	if (ssh->phase == HGA_SSH_BANNER)
		return hga_fail(err, HGA_NET, ssh->bio.sys, "BannerClosed",
				"ssh %s: connection closed before the banner "
				"(banner)",
				ssh->name);
	return hga_fail(err, HGA_NET, ssh->bio.sys, "ConnectionLost",
			"ssh %s: connection lost (%s, %.1f s)", ssh->name,
			phase, hga_ssh_age(ssh));
}

int hga_ssh_fail(struct hga_ssh *ssh, struct hga_err *err, const char *doing,
		 int rc)
{
	char *text = NULL;
	char clean[200];

	if (rc == LIBSSH2_ERROR_ALLOC)
		return hga_fail_mem(err);
	if (ssh->disconnect[0] != '\0' || hga_bio_ended(&ssh->bio))
		return fail_lost(ssh, err);
	(void)libssh2_session_last_error(ssh->s, &text, NULL, 0);
	hga_ssh_clean(clean, sizeof(clean), hga_str(text));
	if (rc == LIBSSH2_ERROR_TIMEOUT)
		return hga_fail(err, HGA_TIMEOUT, 0, "Connect",
				"ssh %s: %s: %s", ssh->name, doing, clean);
	return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
			"ssh %s: %s: %s (libssh2 %d)", ssh->name, doing,
			*clean ? clean : "malformed packet", rc);
}

/* ---- end ---- */

static void fill_more(struct hga_ssh *ssh, struct hga_ssh_more *m,
		      enum hga_ssh_phase phase)
{
	memset(m, 0, sizeof(*m));
	m->phase = phase_name(phase);
	memcpy(m->fingerprint, ssh->fingerprint, sizeof(m->fingerprint));
	hga_pins_text(&ssh->pins, m->expected, sizeof(m->expected));
	memcpy(m->methods, ssh->auth.methods, sizeof(m->methods));
	snprintf(m->tried, sizeof(m->tried), "%s",
		 hga_buf_text(&ssh->auth.tried));
	snprintf(m->server, sizeof(m->server), "%s", ssh->disconnect);
}

/* Says goodbye if the transport still works, then gives all back. */
static void end_transport(struct hga_ssh *ssh)
{
	if (ssh->phase == HGA_SSH_CONNECT)
		hga_op_cancel(&ssh->dial.base);
	if (ssh->s != NULL && !hga_bio_ended(&ssh->bio) && !ssh->bio.closed &&
	    ssh->phase > HGA_SSH_BANNER) {
		/* No memory or a rekey in progress: then without goodbye. */
		(void)libssh2_session_disconnect(ssh->s, "bye");
		hga_bio_flush(&ssh->bio);
	}
	hga_watch_stop(ssh->loop, &ssh->watch);
	hga_timer_stop(ssh->loop, &ssh->deadline);
	hga_timer_stop(ssh->loop, &ssh->alive);
	hga_timer_stop(ssh->loop, &ssh->retry);
	hga_agent_close(&ssh->auth.agent);
	free_libssh2(ssh);
	hga_bio_release(&ssh->bio);
}

static void finish_connect(struct hga_ssh *ssh, enum hga_ssh_phase phase)
{
	struct hga_ssh_connect *op = ssh->connect;

	if (op == NULL)
		return;
	ssh->connect = NULL;
	op->ssh = NULL;
	op->base.err = ssh->dead;
	op->banner_seen = ssh->banner_done;
	op->before_login = phase < HGA_SSH_LOGIN;
	fill_more(ssh, &op->more, phase);
	if (strcmp(ssh->dead.code, "Resolve") == 0)
		op->more.phase = "resolve";
	hga_ssh_unref(ssh); /* the operation's; ours is still held */
	hga_op_finish(&op->base);
}

static void finish_pings(struct hga_ssh *ssh)
{
	while (ssh->pings != NULL) {
		struct hga_ssh_ping *p = ssh->pings;

		ssh->pings = p->next_;
		p->base.err = ssh->dead;
		hga_op_finish(&p->base);
	}
}

static void free_chan(struct hga_chan *c)
{
	hga_free(c->message);
	hga_free(c);
}

static void notify_all(struct hga_ssh *ssh, enum hga_ssh_phase phase)
{
	finish_connect(ssh, phase);
	while (ssh->chans != NULL) {
		struct hga_chan *c = ssh->chans;

		ssh->chans = c->next;
		c->ch = NULL;
		c->state = HGA_CHAN_GONE;
		if (!c->zombie)
			c->on_fail(c, &ssh->dead);
		free_chan(c);
	}
	finish_pings(ssh);
}

void hga_ssh_die(struct hga_ssh *ssh, const struct hga_err *err)
{
	enum hga_ssh_phase phase = ssh->phase;

	if (phase == HGA_SSH_DEAD)
		return;
	ssh->dead = *err;
	hga_log(HGA_LOG_DEBUG, "ssh", "%s: session ends: %s", ssh->name,
		err->msg);
	end_transport(ssh);
	hga_timer_stop(ssh->loop, &ssh->kick);
	ssh->phase = HGA_SSH_DEAD;
	notify_all(ssh, phase);
	hga_ssh_unref(ssh); /* the living session's */
}

static bool has_operations(const struct hga_ssh *ssh)
{
	if (ssh->connect != NULL || ssh->pings != NULL)
		return true;
	for (const struct hga_chan *c = ssh->chans; c != NULL; c = c->next)
		if (!c->zombie && !c->passive)
			return true;
	return false;
}

static void closed_err(struct hga_ssh *ssh, struct hga_err *err)
{
	(void)hga_fail(err, HGA_NET, 0, "ConnectionLost",
		       "ssh %s: the session was closed",
		       ssh->name); /* handed on by the caller */
}

void hga_ssh_close(struct hga_ssh *ssh)
{
	struct hga_err err;

	if (ssh == NULL)
		return;
	closed_err(ssh, &err);
	ssh->closing = true;
	/* Callbacks come from the loop only. */
	if (ssh->phase != HGA_SSH_DEAD && !ssh->pumping) {
		if (has_operations(ssh))
			hga_ssh_kick(ssh);
		else
			hga_ssh_die(ssh, &err);
	}
	hga_ssh_unref(ssh);
}

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
	rc = hga_pins_algorithms(&ssh->pins, &algs, err);
	if (rc == 0)
		rc = set_method(ssh, LIBSSH2_METHOD_HOSTKEY,
				hga_buf_text(&algs), err);
	hga_buf_release(&algs);
	for (int cs = 0; cs < 2 && rc == 0; cs++) {
		rc = set_method(ssh,
				cs ? LIBSSH2_METHOD_CRYPT_CS
				   : LIBSSH2_METHOD_CRYPT_SC,
				ssh->ciphers ? ssh->ciphers : CRYPT, err);
		if (rc == 0)
			rc = set_method(ssh,
					cs ? LIBSSH2_METHOD_MAC_CS
					   : LIBSSH2_METHOD_MAC_SC,
					MAC, err);
		if (rc == 0)
			rc = set_method(ssh,
					cs ? LIBSSH2_METHOD_COMP_CS
					   : LIBSSH2_METHOD_COMP_SC,
					"none", err);
	}
	if (rc == 0)
		rc = set_method(ssh, LIBSSH2_METHOD_KEX, KEX, err);
	return rc;
}

/* As a function pointer of libssh2's neutral type. */
#define CB(fn) ((libssh2_cb_generic *)(void (*)(void))(fn))

static int open_libssh2(struct hga_ssh *ssh, struct hga_err *err)
{
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
	if (libssh2_session_banner_set(ssh->s, "SSH-2.0-hgauto_" HGA_VERSION) != 0)
		return hga_fail_mem(err);
#ifndef HGA_SSH2_EDIT_PROBE
	libssh2_keepalive_config(ssh->s, 1, 2);
#endif
	return set_methods(ssh, err);
}

void hga_ssh_global_end(void)
{
	libssh2_exit();
}

const char *hga_ssh_library(void)
{
	return libssh2_version(0);
}

const char *hga_ssh_edits(void)
{
	return ""
#ifdef HGA_SSH2_EDIT_BULK
	       "bulk "
#endif
#ifdef HGA_SSH2_EDIT_MAC
	       "mac "
#endif
#ifdef HGA_SSH2_EDIT_STATUS
	       "status "
#endif
#ifdef HGA_SSH2_EDIT_PROBE
	       "probe"
#endif
		;
}

/* ---- deadlines ---- */

static void on_deadline(struct hga_timer *t)
{
	struct hga_ssh *ssh = t->data;
	struct hga_err err;
	bool login = ssh->phase == HGA_SSH_LOGIN;

	(void)hga_fail(&err, HGA_TIMEOUT, 0, login ? "Login" : "Connect",
		       "ssh %s: no answer in time (%s, %.1f s)", ssh->name,
		       phase_name(ssh->phase),
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
		libssh2_session_set_read_timeout(ssh->s,
						 (long)(ms / 1000 + 1));
	return hga_timer_start(ssh->loop, &ssh->deadline, ms, err);
}

/* ---- liveness ---- */

double hga_ssh_rtt(struct hga_ssh *ssh)
{
	struct tcp_info ti;
	socklen_t n = sizeof(ti);

	if (ssh->bio.fd >= 0 && getsockopt(ssh->bio.fd, IPPROTO_TCP, TCP_INFO,
					   &ti, &n) == 0)
		return (double)ti.tcpi_rtt / 1e6;
	return ssh->rtt;
}

static void on_alive(struct hga_timer *t)
{
	struct hga_ssh *ssh = t->data;
	int64_t now = hga_mono_ms();
	struct hga_err err;
	int64_t due;

	if (ssh->bio.last_rx_ms != ssh->probe_rx_ms) {
		ssh->probe_rx_ms = ssh->bio.last_rx_ms;
		ssh->probes = 0;
	}
	due = ssh->probe_rx_ms + ssh->interval_ms * (ssh->probes + 1);
	if (now >= due && ssh->probes >= ssh->count) {
		(void)hga_fail(&err, HGA_NET, 0, "KeepaliveTimeout",
			       "ssh %s: no answer from the server for %.0f s "
			       "(%d probes)",
			       ssh->name,
			       (double)(now - ssh->probe_rx_ms) / 1000,
			       ssh->count); /* handed to die */
		hga_ssh_die(ssh, &err);
		return;
	}
	if (now >= due) {
		ssh->probes++;
		ssh->probe_due = true;
		due += ssh->interval_ms;
		hga_ssh_kick(ssh);
	}
	if (hga_timer_start(ssh->loop, t, due > now ? due - now : 0, &err) < 0)
		hga_ssh_die(ssh, &err);
}

static void send_probe(struct hga_ssh *ssh)
{
#ifdef HGA_SSH2_EDIT_PROBE
	if (hga_libssh2_probe(ssh->s) == 0)
		ssh->probe_due = false;
#else
	int next;

	/* A failure shows in the next read. */
	if (libssh2_keepalive_send(ssh->s, &next) == 0)
		ssh->probe_due = false;
#endif
}

static unsigned probe_answers(struct hga_ssh *ssh)
{
#ifdef HGA_SSH2_EDIT_PROBE
	return hga_libssh2_probe_answers(ssh->s);
#else
	(void)ssh; /* pings count received bytes instead */
	return 0;
#endif
}

static void check_pings(struct hga_ssh *ssh)
{
	struct hga_ssh_ping **at = &ssh->pings;

	while (*at != NULL) {
		struct hga_ssh_ping *p = *at;
		bool answered = (int)(probe_answers(ssh) - p->want_) >= 0;

#ifndef HGA_SSH2_EDIT_PROBE
		answered = ssh->bio.rx > p->rx_;
#endif
		if (!answered) {
			at = &p->next_;
			continue;
		}
		*at = p->next_;
		p->seconds = (double)(hga_mono_us() - p->t0_us) / 1e6;
		ssh->rtt = p->seconds;
		hga_op_finish(&p->base);
	}
}

static void ping_cancel(struct hga_op *op)
{
	struct hga_ssh_ping *p = (struct hga_ssh_ping *)op;

	for (struct hga_ssh_ping **at = &p->ssh_->pings; *at != NULL;
	     at = &(*at)->next_)
		if (*at == p) {
			*at = p->next_;
			break;
		}
	hga_op_drop(op);
}

int hga_ssh_ping_start(struct hga_ssh *ssh, struct hga_ssh_ping *op,
		       struct hga_err *err)
{
	int rc = hga_ssh_check(ssh, err);

	if (rc < 0)
		return rc;
	hga_op_begin(&op->base, ping_cancel);
	op->ssh_ = ssh;
	op->next_ = ssh->pings;
	/* Probes already on their way are answered first. */
	op->want_ = probe_answers(ssh) + 1;
	op->rx_ = ssh->bio.rx;
	op->t0_us = hga_mono_us();
	ssh->pings = op;
	ssh->probe_due = true;
	hga_ssh_kick(ssh);
	return 0;
}

/* ---- channels ---- */

struct hga_chan *hga_chan_new(struct hga_ssh *ssh, const char *request,
			      struct hga_str message, unsigned window)
{
	struct hga_chan *c = hga_calloc(1, sizeof(*c)), **at = &ssh->chans;

	if (c == NULL)
		return NULL;
	c->message = hga_memdup0(message.s, message.n);
	if (c->message == NULL) {
		hga_free(c);
		return NULL;
	}
	c->message_len = message.n;
	c->ssh = ssh;
	c->request = request;
	c->window = window;
	while (*at != NULL)
		at = &(*at)->next;
	*at = c;
	hga_ssh_kick(ssh);
	return c;
}

void hga_chan_drop(struct hga_chan *c)
{
	c->zombie = true;
	c->user = NULL;
	hga_ssh_kick(c->ssh);
}

static void chan_fail(struct hga_chan *c, enum hga_kind kind, const char *code,
		      const char *what)
{
	struct hga_err err;
	char *text = NULL;
	char clean[200];

	(void)libssh2_session_last_error(c->ssh->s, &text, NULL, 0);
	hga_ssh_clean(clean, sizeof(clean), hga_str(text));
	(void)hga_fail(&err, kind, 0, code, "ssh %s: %s: %s", c->ssh->name,
		       what, clean); /* handed on */
	if (c->zombie)
		return;
	c->zombie = true;
	c->on_fail(c, &err);
}

/*
 * A refused open with others open means the server's limit: wait until one
 * ends.  OpenSSH forgets an ended one a little later than it says so: then
 * try again a few times.
 */
static void open_refused(struct hga_ssh *ssh, struct hga_chan *c)
{
	ssh->slot = NULL;
	ssh->open--;
	if (ssh->open > 0 ||
	    (ssh->ever_open && c->refused++ < REFUSED_TRIES &&
	     hga_timer_start(ssh->loop, &ssh->retry, REFUSED_MS, NULL) == 0)) {
		ssh->limit = ssh->open > 0 ? ssh->open : 1;
		c->not_before_ms = ssh->open > 0 ? 0 : hga_mono_ms() +
							       REFUSED_MS;
		c->state = HGA_CHAN_QUEUED;
		return;
	}
	c->state = HGA_CHAN_GONE;
	chan_fail(c, HGA_REMOTE, "ChannelRefused",
		  "the server refuses another channel");
}

static bool turn_open(struct hga_ssh *ssh, struct hga_chan *c,
		      struct hga_err *err)
{
	int rc;

	if (c->state == HGA_CHAN_QUEUED) {
		if (ssh->slot != NULL || ssh->open >= ssh->limit ||
		    c->not_before_ms > hga_mono_ms())
			return false;
		ssh->slot = c;
		ssh->open++;
		c->state = HGA_CHAN_OPENING;
	}
	c->ch = libssh2_channel_open_ex(ssh->s, "session", 7, c->window,
					HGA_SSH_PACKET, NULL, 0);
	if (c->ch != NULL) {
		ssh->slot = NULL;
		ssh->ever_open = true;
		c->state = HGA_CHAN_STARTING;
		return true;
	}
	rc = libssh2_session_last_errno(ssh->s);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc == LIBSSH2_ERROR_CHANNEL_FAILURE) {
		open_refused(ssh, c);
		return true;
	}
	(void)hga_ssh_fail(ssh, err, "open a channel", rc); /* in err */
	return true;
}

static bool turn_start(struct hga_ssh *ssh, struct hga_chan *c,
		       struct hga_err *err)
{
	int rc = libssh2_channel_process_startup(
		c->ch, c->request, (unsigned)strlen(c->request), c->message,
		(unsigned)c->message_len);

	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED) {
		c->state = HGA_CHAN_RUNNING;
		chan_fail(c, HGA_REMOTE, "RequestDenied",
			  "the server refuses the request");
		return true;
	}
	if (rc != 0) {
		(void)hga_ssh_fail(ssh, err, c->request, rc); /* in err */
		return true;
	}
	c->state = HGA_CHAN_RUNNING;
	if (!c->zombie)
		c->on_start(c);
	return true;
}

/* EOF and CLOSE are sent by the first call; later ones look for the peer's. */
static bool turn_close(struct hga_ssh *ssh, struct hga_chan *c,
		       struct hga_err *err)
{
	int rc;

	if (c->ch == NULL) {
		c->state = HGA_CHAN_GONE;
		return true;
	}
	rc = libssh2_channel_free(c->ch);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc != 0) {
		(void)hga_ssh_fail(ssh, err, "close a channel", rc); /* in err */
		return true;
	}
	c->ch = NULL;
	c->state = HGA_CHAN_GONE;
	ssh->open--;
	return true;
}

static bool turn_chan(struct hga_ssh *ssh, struct hga_chan *c,
		      struct hga_err *err)
{
	switch (c->state) {
	case HGA_CHAN_QUEUED:
		if (c->zombie) {
			c->state = HGA_CHAN_GONE;
			return true;
		}
		return turn_open(ssh, c, err);
	case HGA_CHAN_OPENING:
		return turn_open(ssh, c, err);
	case HGA_CHAN_STARTING:
		return turn_start(ssh, c, err);
	case HGA_CHAN_RUNNING:
		if (c->zombie)
			return turn_close(ssh, c, err);
		return c->on_turn(c, err);
	case HGA_CHAN_GONE:
		break;
	}
	return false;
}

static bool turn_chans(struct hga_ssh *ssh, struct hga_err *err)
{
	bool progress = false;

	for (struct hga_chan *c = ssh->chans; c != NULL && err->kind == HGA_OK;
	     c = c->next)
		progress |= turn_chan(ssh, c, err);
	for (struct hga_chan **at = &ssh->chans; *at != NULL;) {
		struct hga_chan *c = *at;

		if (c->state == HGA_CHAN_GONE && c->zombie) {
			*at = c->next;
			free_chan(c);
		} else {
			at = &c->next;
		}
	}
	return progress;
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

static int fail_changed(struct hga_ssh *ssh, struct hga_err *err)
{
	return hga_fail(err, HGA_AUTH, 0, "HostKeyChanged",
			"ssh %s: host key differs from the one given to the "
			"machine; nothing was sent",
			ssh->name);
}

static int fail_kex(struct hga_ssh *ssh, int rc, struct hga_err *err)
{
	static const struct {
		int list;
		const char *what, *ours;
	} lists[] = {{0, "key exchange", KEX}, {2, "cipher", NULL}};
	struct hga_buf algs;
	bool keys;

	hga_buf_init(&algs, 1024);
	keys = hga_pins_algorithms(&ssh->pins, &algs, NULL) == 0 &&
	       !lists_meet(hga_buf_text(&algs), kexinit_list(ssh, 1)) &&
	       kexinit_list(ssh, 1).n > 0;
	hga_buf_release(&algs);
	if (keys)
		return fail_changed(ssh, err);
	for (size_t i = 0; i < 2; i++) {
		struct hga_str theirs = kexinit_list(ssh, lists[i].list);
		const char *ours = lists[i].ours ? lists[i].ours
				   : ssh->ciphers ? ssh->ciphers
						  : CRYPT;
		char clean[200];

		if (theirs.n == 0 || lists_meet(ours, theirs))
			continue;
		hga_ssh_clean(clean, sizeof(clean), theirs);
		return hga_fail(err, HGA_PROTOCOL, 0, "KexNoMatch",
				"ssh %s: no common %s (server: %s; here: "
				"%.150s)",
				ssh->name, lists[i].what, clean, ours);
	}
	return hga_ssh_fail(ssh, err, "key exchange", rc);
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
	if (!hga_pins_match(&ssh->pins, hga_buf_str(&ssh->hostkey)))
		return fail_changed(ssh, err);
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

static bool step_ready(struct hga_ssh *ssh, struct hga_err *err)
{
	bool progress;

	if (ssh->probe_due)
		send_probe(ssh);
	progress = turn_chans(ssh, err);
	if (err->kind != HGA_OK)
		return false;
#ifdef HGA_SSH2_EDIT_PROBE
	/* Nobody read a channel: answer the server's own requests. */
	if (ssh->bio.in_len > 0) {
		int rc = hga_libssh2_pump(ssh->s);

		if (rc < 0 && rc != LIBSSH2_ERROR_EAGAIN)
			(void)hga_ssh_fail(ssh, err, "read", rc); /* in err */
	}
#endif
	if (err->kind == HGA_OK)
		check_pings(ssh);
	return progress;
}

/* One turn of whatever phase; true on progress; err tells of an end. */
static bool step(struct hga_ssh *ssh, bool filled, struct hga_err *err)
{
	switch (ssh->phase) {
	case HGA_SSH_BANNER:
	case HGA_SSH_KEX:
		return step_handshake(ssh, filled, err) > 0;
	case HGA_SSH_HOSTKEY:
		return step_hostkey(ssh, err) > 0;
	case HGA_SSH_LOGIN:
		return step_login(ssh, err) > 0;
	case HGA_SSH_READY:
		return step_ready(ssh, err);
	case HGA_SSH_CONNECT:
	case HGA_SSH_DEAD:
		break;
	}
	return false;
}

/* ---- pump ---- */

static int update_watch(struct hga_ssh *ssh, struct hga_err *err)
{
	int events = HGA_READ;

	if (hga_bio_pending(&ssh->bio))
		events |= HGA_WRITE;
	/* Unread input of our own: the socket waits until it is taken. */
	if (ssh->bio.in_len > 0)
		events &= ~HGA_READ;
	if (ssh->watch.running && ssh->watch.events == events)
		return 0;
	return hga_watch_start(ssh->loop, &ssh->watch, events, err);
}

/* Turns until nothing moves; true when stopped by the limits of a round. */
static bool pump_round(struct hga_ssh *ssh, struct hga_err *err)
{
	uint64_t rx0 = ssh->bio.rx, tx0 = ssh->bio.tx;
	int64_t end_us = hga_mono_us() + ROUND_US;

	for (;;) {
		bool filled = hga_bio_fill(&ssh->bio, hga_mono_ms());
		bool progress = step(ssh, filled, err);

		if (ssh->closing && err->kind == HGA_OK)
			closed_err(ssh, err);
		if (err->kind != HGA_OK || ssh->phase == HGA_SSH_DEAD)
			return false;
		if (hga_bio_pending(&ssh->bio)) {
			bool was_full = hga_bio_full(&ssh->bio);

			hga_bio_flush(&ssh->bio);
			progress |= was_full && !hga_bio_full(&ssh->bio);
		}
		if (!filled && !progress) {
			if (hga_bio_ended(&ssh->bio))
				(void)fail_lost(ssh, err); /* in err */
			return false;
		}
		if (ssh->bio.rx - rx0 + (ssh->bio.tx - tx0) > ROUND_BYTES ||
		    hga_mono_us() > end_us)
			return true;
	}
}

static void pump(struct hga_ssh *ssh)
{
	struct hga_err err = {.kind = HGA_OK};
	bool more;

	if (ssh->pumping || ssh->phase == HGA_SSH_DEAD ||
	    ssh->phase == HGA_SSH_CONNECT)
		return;
	hga_ssh_ref(ssh);
	ssh->pumping = true;
	ssh->again = false;
	more = pump_round(ssh, &err);
	ssh->pumping = false;
	more |= ssh->again; /* callbacks started something */
	if (ssh->phase != HGA_SSH_DEAD && err.kind == HGA_OK &&
	    !hga_bio_keep(&ssh->bio))
		(void)hga_fail_mem(&err); /* handed to die */
	if (ssh->phase != HGA_SSH_DEAD &&
	    (err.kind != HGA_OK || update_watch(ssh, &err) < 0))
		hga_ssh_die(ssh, &err);
	else if (more)
		hga_ssh_kick(ssh);
	hga_ssh_unref(ssh);
}

static void on_socket(struct hga_watch *w, int events)
{
	struct hga_ssh *ssh = w->data;

	if (events & (HGA_READ | HGA_HUP))
		ssh->bio.ready = true;
	pump(ssh);
}

static void on_kick(struct hga_timer *t)
{
	struct hga_ssh *ssh = t->data;
	struct hga_err err;

	if (ssh->closing) {
		closed_err(ssh, &err);
		hga_ssh_die(ssh, &err);
		return;
	}
	pump(ssh);
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
	if (a->n_pins == 0)
		return hga_fail(err, HGA_BUG, 0, "NoHostKey",
				"ssh %.100s: connect without a trusted host "
				"key (host_key)",
				a->host);
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
	closed_err(ssh, &err);
	if (ssh->pumping)
		ssh->closing = true;
	else
		hga_ssh_die(ssh, &err);
	hga_ssh_unref(ssh);
}

static void on_retry(struct hga_timer *t)
{
	pump(t->data);
}

static void set_callbacks(struct hga_ssh *ssh)
{
	ssh->retry.fn = on_retry;
	ssh->retry.data = ssh;
	ssh->watch.fn = on_socket;
	ssh->watch.data = ssh;
	ssh->deadline.fn = on_deadline;
	ssh->deadline.data = ssh;
	ssh->kick.fn = on_kick;
	ssh->kick.data = ssh;
	ssh->alive.fn = on_alive;
	ssh->alive.data = ssh;
	ssh->dial.base.done = on_dial;
}

static int start_transport(struct hga_ssh *ssh, const struct hga_ssh_args *args,
			   struct hga_err *err)
{
	struct hga_dial_args da = {.host = ssh->host,
				   .port = ssh->port,
				   .timeout_ms = ssh->connect_ms,
				   .family = ssh->family,
				   .bind_address = ssh->bind_address};

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
	ssh = hga_calloc(1, sizeof(*ssh));
	if (ssh == NULL)
		return hga_fail_mem(err);
	ssh->loop = loop;
	ssh->bio.fd = -1;
	ssh->auth.agent.fd = -1;
	ssh->t_start_ms = hga_mono_ms();
	hga_buf_init(&ssh->hostkey, 64 * 1024);
	hga_buf_init(&ssh->first, 8 * 1024);
	set_callbacks(ssh);
	rc = take_args(ssh, args, err);
	if (rc == 0)
		rc = hga_pins_parse(&ssh->pins, args->pins, args->n_pins, err);
	if (rc == 0)
		rc = hga_auth_init(&ssh->auth, args, err);
	if (rc == 0)
		rc = start_transport(ssh, args, err);
	if (rc < 0) {
		hga_timer_stop(loop, &ssh->deadline);
		hga_timer_stop(loop, &ssh->kick);
		free_session(ssh);
		return rc;
	}
	ssh->refs = 2; /* the living session's and the operation's */
	ssh->connect = op;
	op->ssh = ssh; /* for cancel; after success the caller's */
	op->banner_seen = op->before_login = false;
	memset(&op->more, 0, sizeof(op->more));
	hga_op_begin(&op->base, connect_cancel);
	return 0;
}

/* ---- information ---- */

static const char *method(struct hga_ssh *ssh, int kind)
{
	const char *m = ssh->s ? libssh2_session_methods(ssh->s, kind) : NULL;

	return m ? m : "";
}

void hga_ssh_get_info(struct hga_ssh *ssh, struct hga_ssh_info *out)
{
	memset(out, 0, sizeof(*out));
	out->name = ssh->name;
	out->host = ssh->host;
	out->address = ssh->address;
	out->user = ssh->user;
	out->server = ssh->banner;
	out->kex = method(ssh, LIBSSH2_METHOD_KEX);
	out->hostkey = method(ssh, LIBSSH2_METHOD_HOSTKEY);
	out->cipher = method(ssh, LIBSSH2_METHOD_CRYPT_SC);
	out->mac = method(ssh, LIBSSH2_METHOD_MAC_SC);
	out->fingerprint = ssh->fingerprint;
	out->banner = ssh->login_banner ? ssh->login_banner : "";
	out->port = ssh->port;
	out->rx = ssh->bio.rx;
	out->tx = ssh->bio.tx;
	out->rtt = hga_ssh_rtt(ssh);
	out->channels = ssh->open;
	out->alive = ssh->phase == HGA_SSH_READY && !ssh->closing;
	out->key = hga_buf_str(&ssh->hostkey);
}
