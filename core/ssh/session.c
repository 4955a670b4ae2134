/*
 * The SSH session: its life and end, errors, pump, keepalive.
 * What libssh2 1.11.1 does behind its interface and how that is answered:
 * it sees neither socket nor end of stream (bio), it is called from pump()
 * only, opening channels goes through one slot, closing never waits.
 * RFC 4253, RFC 4254.
 */
#include "ssh/session.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "ssh/forward.h"
#include "ssh/impl.h"
#include "ssh/sftp_impl.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* So many sessions at once leave a heap worth giving back. */
#define TRIM_FROM 16
#define ROUND_BYTES (1024 * 1024)
#define ROUND_US 5000
#define FREE_TRIES 1000
/* Of a fast transfer this much wakes us, or that time. */
#define LOWAT (256 * 1024)
#define LATE_MS 20

/* From the edit "probe" (vendor/edits/libssh2/probe.sh). */
#ifdef HGA_SSH2_EDIT_PROBE
int hga_libssh2_probe(LIBSSH2_SESSION *s);
unsigned int hga_libssh2_probe_answers(LIBSSH2_SESSION *s);
int hga_libssh2_pump(LIBSSH2_SESSION *s);
void hga_libssh2_abandon(LIBSSH2_SESSION *s);
#endif

static void pump(struct hga_ssh *ssh);

const char *hga_ssh_phase_name(enum hga_ssh_phase p)
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
#ifdef HGA_SSH2_EDIT_PROBE
	hga_libssh2_abandon(ssh->s);
#endif
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
	hga_trust_release(&ssh->trust);
	hga_buf_release(&ssh->hostkey);
	hga_buf_release(&ssh->first);
	hga_free(ssh->name);
	hga_free(ssh->host);
	hga_free(ssh->user);
	hga_free(ssh->ciphers);
	hga_free(ssh->kex);
	hga_free(ssh->macs);
	hga_free(ssh->bind_address);
	hga_free(ssh->login_banner);
	hga_free(ssh);
}

/* Sessions of the process, which has one thread. */
static unsigned sessions, most_sessions;

struct hga_ssh *hga_ssh_alloc(void)
{
	struct hga_ssh *ssh = hga_calloc(1, sizeof(*ssh));

	if (ssh != NULL && ++sessions > most_sessions)
		most_sessions = sessions;
	return ssh;
}

void hga_ssh_unref(struct hga_ssh *ssh)
{
	struct hga_loop *loop = ssh->loop;

	if (--ssh->refs > 0)
		return;
	free_session(ssh);
	if (--sessions > 0)
		return;
	if (most_sessions >= TRIM_FROM)
		hga_loop_trim(loop);
	most_sessions = 0;
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
	const char *phase = hga_ssh_phase_name(ssh->phase);

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

/* The transport has ended: why, in err (a proxy command's end may be awaited
 * first). */
static void lost(struct hga_ssh *ssh, struct hga_err *err)
{
	if (ssh->proxy == NULL || ssh->phase >= HGA_SSH_READY ||
	    ssh->disconnect[0] != '\0')
		(void)fail_lost(ssh, err); /* in err */
	else
		(void)hga_proxy_failed(ssh, err); /* in err, or later */
}

int hga_ssh_fail(struct hga_ssh *ssh, struct hga_err *err, const char *doing,
                 int rc)
{
	char *text = NULL;
	char clean[200];

	ssh->broken = true;
	if (ssh->heap.over)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "ssh %s: %s: the server sends more than it was "
		                "asked for (%zu MiB are held)",
		                ssh->name, doing, ssh->heap.used >> 20);
	if (ssh->bio.over)
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "ssh %s: %s: the server does not read the "
		                "answers that it asks for",
		                ssh->name, doing);
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

/* Empty before; what a proxy command said is there already. */
static void fill_more(struct hga_ssh *ssh, struct hga_ssh_more *m,
                      enum hga_ssh_phase phase)
{
	m->phase = hga_ssh_phase_name(phase);
	memcpy(m->fingerprint, ssh->fingerprint, sizeof(m->fingerprint));
	hga_pins_text(&ssh->trust.pins, m->expected, sizeof(m->expected));
	if (ssh->found.line.path != NULL) {
		snprintf(m->file, sizeof(m->file), "%s", ssh->found.line.path);
		m->line = ssh->found.line.line;
		snprintf(m->expected, sizeof(m->expected), "%s",
		         ssh->found.line.expected);
	}
	m->hint = ssh->found.hint;
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
	    ssh->phase > HGA_SSH_BANNER && !ssh->broken) {
		/* No memory or a rekey in progress: then without goodbye. */
		(void)libssh2_session_disconnect(ssh->s, "bye");
		hga_bio_flush(&ssh->bio);
	}
	hga_watch_stop(ssh->loop, &ssh->watch);
	hga_timer_stop(ssh->loop, &ssh->deadline);
	hga_timer_stop(ssh->loop, &ssh->alive);
	hga_timer_stop(ssh->loop, &ssh->retry);
	hga_timer_stop(ssh->loop, &ssh->bury);
	hga_timer_stop(ssh->loop, &ssh->late);
	hga_timer_stop(ssh->loop, &ssh->spare_end);
	hga_agent_close(&ssh->auth.agent);
	free_libssh2(ssh);
	hga_bio_release(&ssh->bio);
	hga_relay_close(ssh->relay);
	ssh->relay = NULL;
	hga_proxy_stop(ssh);
	if (ssh->via != NULL)
		hga_ssh_unref(ssh->via);
	ssh->via = NULL;
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
		hga_chan_free(c);
	}
	hga_forward_end_all(ssh);
	finish_pings(ssh);
}

void hga_ssh_die(struct hga_ssh *ssh, const struct hga_err *err)
{
	enum hga_ssh_phase phase = ssh->phase;

	if (phase == HGA_SSH_DEAD)
		return;
	hga_ssh_ref(ssh); /* ending what carries it may come back here */
	ssh->dead = *err;
	hga_log(HGA_LOG_DEBUG, "ssh", "%s: session ends: %s", ssh->name,
	        err->msg);
	end_transport(ssh);
	hga_timer_stop(ssh->loop, &ssh->kick);
	ssh->phase = HGA_SSH_DEAD;
	notify_all(ssh, phase);
	hga_ssh_unref(ssh); /* the living session's */
	hga_ssh_unref(ssh);
}

static bool has_operations(const struct hga_ssh *ssh)
{
	if (ssh->connect != NULL || ssh->pings != NULL ||
	    hga_forward_waited(ssh))
		return true;
	for (const struct hga_chan *c = ssh->chans; c != NULL; c = c->next)
		if (!c->zombie && !c->passive)
			return true;
	return false;
}

void hga_ssh_closed_err(struct hga_ssh *ssh, struct hga_err *err)
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
	hga_ssh_closed_err(ssh, &err);
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

void hga_ssh_global_end(void)
{
	libssh2_exit();
}

const char *hga_ssh_library(void)
{
	return libssh2_version(0);
}

/* ---- liveness ---- */

double hga_ssh_rtt(struct hga_ssh *ssh)
{
	struct tcp_info ti;
	socklen_t n = sizeof(ti);

	if (ssh->bio.fd >= 0 &&
	    getsockopt(ssh->bio.fd, IPPROTO_TCP, TCP_INFO, &ti, &n) == 0)
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
	if (hga_libssh2_probe(ssh->s) == 0) {
		ssh->probe_due = false;
		ssh->probes_sent++;
	}
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

bool hga_ssh_probing(const struct hga_ssh *ssh)
{
#ifdef HGA_SSH2_EDIT_PROBE
	return ssh->probes_sent != hga_libssh2_probe_answers(ssh->s);
#else
	(void)ssh; /* nothing waits for an answer then */
	return false;
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

/* ---- pump ---- */

static bool step_ready(struct hga_ssh *ssh, struct hga_err *err)
{
	bool progress;

	if (ssh->probe_due && !ssh->no_probe)
		send_probe(ssh);
	progress = hga_chan_turn_all(ssh, err);
	if (err->kind == HGA_OK)
		progress |= hga_forward_turn_all(ssh, err);
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
	case HGA_SSH_HOSTKEY:
	case HGA_SSH_LOGIN:
		return hga_ssh_step_connect(ssh, filled, err) > 0;
	case HGA_SSH_READY:
		return step_ready(ssh, err);
	case HGA_SSH_CONNECT:
	case HGA_SSH_DEAD:
		break;
	}
	return false;
}

/* There is more to send than what can wait for the next turn. */
static bool must_send(const struct hga_ssh *ssh)
{
	return hga_bio_unsent(&ssh->bio) > ssh->lazy;
}

/* A reader that wakes for each packet slows the server down, whose kernel has
 * to wake it; and a command in a row of brief ones needs one wake, at its end.
 */
static int bytes_wanted(struct hga_ssh *ssh)
{
	if (ssh->sftp != NULL && hga_sftp_coming(ssh->sftp) >= 2 * LOWAT)
		return LOWAT;
	if (ssh->brief && ssh->forwards == NULL && ssh->pings == NULL)
		return (int)hga_chan_answers(ssh) + 1;
	return 1;
}

static void set_lowat(struct hga_ssh *ssh)
{
	int n = bytes_wanted(ssh);

	/* Without the timer an answer other than expected could lie there. */
	if (n == 1) {
		hga_timer_stop(ssh->loop, &ssh->late);
	} else if (!hga_timer_running(&ssh->late) ||
	           ssh->late_rx != ssh->bio.rx) {
		ssh->late_rx = ssh->bio.rx;
		if (hga_timer_start(ssh->loop, &ssh->late, LATE_MS, NULL) < 0)
			n = 1;
	}
	hga_bio_lowat(&ssh->bio, n);
}

static int update_watch(struct hga_ssh *ssh, bool more, struct hga_err *err)
{
	int events = HGA_READ;

	if (!more) /* the next turn comes before a wait, and may want others */
		set_lowat(ssh);
	if (must_send(ssh))
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

		/* After the login the server tells of its keys; only when that
		 * is acknowledged its kernel sends the answer to our first
		 * request. */
		if (filled && ssh->phase == HGA_SSH_READY && !ssh->ever_open)
			hga_bio_ack(&ssh->bio);

		if (ssh->closing && err->kind == HGA_OK)
			hga_ssh_closed_err(ssh, err);
		if (ssh->end.kind != HGA_OK && err->kind == HGA_OK)
			*err = ssh->end;
		if (err->kind != HGA_OK || ssh->phase == HGA_SSH_DEAD)
			return false;
		if (must_send(ssh)) {
			bool was_full = hga_bio_full(&ssh->bio);

			ssh->lazy = 0;
			hga_bio_flush(&ssh->bio);
			progress |= was_full && !hga_bio_full(&ssh->bio);
		}
		if (!filled && !progress) {
			if (hga_bio_ended(&ssh->bio))
				lost(ssh, err);
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
	ssh->lazy = 0;
	ssh->held = false;
	more = pump_round(ssh, &err);
	ssh->pumping = false;
	/* Callbacks started something; something waits to be sent. */
	more |= ssh->again || ssh->lazy > 0;
	if (ssh->phase != HGA_SSH_DEAD && err.kind == HGA_OK &&
	    !hga_bio_keep(&ssh->bio))
		(void)hga_fail_mem(&err); /* handed to die */
	if (ssh->phase != HGA_SSH_DEAD &&
	    (err.kind != HGA_OK || update_watch(ssh, more, &err) < 0))
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
		hga_ssh_closed_err(ssh, &err);
		hga_ssh_die(ssh, &err);
		return;
	}
	/* Timers follow sockets within one step: tasks come first. */
	if (ssh->lazy > 0 && !ssh->held) {
		ssh->held = true;
		hga_ssh_kick(ssh);
		return;
	}
	pump(ssh);
}

static void on_retry(struct hga_timer *t)
{
	pump(t->data);
}

static void on_late(struct hga_timer *t)
{
	struct hga_ssh *ssh = t->data;

	ssh->bio.ready = true;
	ssh->brief = false;
	pump(ssh);
}

void hga_ssh_hook(struct hga_ssh *ssh)
{
	ssh->retry.fn = on_retry;
	ssh->retry.data = ssh;
	ssh->late.fn = on_late;
	ssh->late.data = ssh;
	ssh->watch.fn = on_socket;
	ssh->watch.data = ssh;
	ssh->kick.fn = on_kick;
	ssh->kick.data = ssh;
	ssh->alive.fn = on_alive;
	ssh->alive.data = ssh;
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
	out->trust = ssh->found.pin     ? "pin"
	             : ssh->found.added ? "new"
	                                : "known_hosts";
	out->trust_file = ssh->found.line.path ? ssh->found.line.path : "";
	out->trust_line = ssh->found.line.line;
	out->port = ssh->port;
	out->rx = ssh->bio.rx;
	out->tx = ssh->bio.tx;
	out->rtt = hga_ssh_rtt(ssh);
	out->channels = ssh->open;
	if (ssh->spare != NULL && ssh->spare->state != HGA_CHAN_QUEUED)
		out->channels--; /* nobody uses it yet */
	out->alive = ssh->phase == HGA_SSH_READY && !ssh->closing;
	out->key = hga_buf_str(&ssh->hostkey);
}
