/*
 * Channels of a session: opening through the one slot that libssh2 has, the
 * request, turns, and the end that never waits for the peer.  RFC 4254
 * sections 5 and 6.
 */
#include "ssh/impl.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "ssh/sftp_impl.h"

#include <string.h>

#ifdef HGA_SSH2_EDIT_EARLY
int hga_libssh2_requested(LIBSSH2_CHANNEL *channel);
#endif

#define REFUSED_TRIES 10
#define REFUSED_MS 50
#define BURY_MS 5000
#define SPARE_MS 10000
#define SPARE_FROM 2   /* commands, before a third is expected */
#define SPARE_BESIDE 3 /* channels, with which none is opened */
#define SPARE_LIMIT 5  /* the least that the server allows */

static const char session_type[] = "session";

void hga_chan_free(struct hga_chan *c)
{
	hga_free(c->message);
	hga_free(c->open_message);
	hga_free(c);
}

static struct hga_chan *new_chan(struct hga_ssh *ssh, const char *type)
{
	struct hga_chan *c = hga_calloc(1, sizeof(*c)), **at = &ssh->chans;

	if (c == NULL)
		return NULL;
	c->ssh = ssh;
	c->type = type;
	c->window = HGA_SSH_WINDOW;
	while (*at != NULL)
		at = &(*at)->next;
	*at = c;
	hga_ssh_kick(ssh);
	return c;
}

struct hga_chan *hga_chan_new(struct hga_ssh *ssh, const char *request,
                              struct hga_str message, unsigned window)
{
	char *copy = hga_memdup0(message.s, message.n);
	struct hga_chan *c = copy != NULL ? new_chan(ssh, session_type) : NULL;

	if (c == NULL) {
		hga_free(copy);
		return NULL;
	}
	c->message = copy;
	c->message_len = message.n;
	c->request = request;
	c->window = window;
	return c;
}

struct hga_chan *hga_chan_new_open(struct hga_ssh *ssh, const char *type,
                                   struct hga_str message)
{
	char *copy = hga_memdup0(message.s, message.n);
	struct hga_chan *c = copy != NULL ? new_chan(ssh, type) : NULL;

	if (c == NULL) {
		hga_free(copy);
		return NULL;
	}
	c->open_message = copy;
	c->open_len = message.n;
	return c;
}

struct hga_chan *hga_chan_adopt(struct hga_ssh *ssh, LIBSSH2_CHANNEL *ch)
{
	struct hga_chan *c = new_chan(ssh, "forwarded-tcpip");

	if (c == NULL)
		return NULL;
	c->ch = ch;
	c->state = HGA_CHAN_RUNNING;
	return c;
}

/* Only these count for the server's MaxSessions. */
static bool counts(const struct hga_chan *c)
{
	return c->type == session_type;
}

static bool is_exec(const struct hga_chan *c)
{
	return c->request != NULL && strcmp(c->request, "exec") == 0;
}

void hga_chan_drop(struct hga_chan *c)
{
	c->zombie = true;
	c->user = NULL;
	c->pty = NULL;
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

/* The server could not or would not connect: RFC 4254 section 5.1's reasons,
 * of which libssh2 keeps only the words. */
static void connect_refused(struct hga_chan *c)
{
	char *text = NULL;

	(void)libssh2_session_last_error(c->ssh->s, &text, NULL, 0);
	c->state = HGA_CHAN_GONE;
	if (text != NULL && strstr(text, "connect failed") != NULL)
		chan_fail(c, HGA_NET, "Unreachable",
		          "the server cannot connect there");
	else
		chan_fail(c, HGA_REMOTE, "ChannelRefused",
		          "the server refuses the connection");
}

static void refuse(struct hga_chan *c)
{
	c->state = HGA_CHAN_GONE;
	chan_fail(c, HGA_REMOTE, "ChannelRefused",
	          "the server refuses another channel");
}

/*
 * A refused open with others open means the server's limit: wait until one
 * ends.  OpenSSH forgets an ended one a little later than it says so: then
 * try again a few times.
 */
static void open_refused(struct hga_ssh *ssh, struct hga_chan *c)
{
	ssh->slot = NULL;
	if (!counts(c)) {
		connect_refused(c);
		return;
	}
	ssh->open--;
	if (c == ssh->spare) {
		ssh->limit = ssh->open > 0 ? ssh->open : 1;
		ssh->spare = NULL;
		c->zombie = true;
		c->state = HGA_CHAN_GONE;
		return;
	}
	if (!c->urgent &&
	    (ssh->open > 0 || (ssh->ever_open && c->refused++ < REFUSED_TRIES &&
	                       hga_timer_start(ssh->loop, &ssh->retry,
	                                       REFUSED_MS, NULL) == 0))) {
		ssh->limit = ssh->open > 0 ? ssh->open : 1;
		c->not_before_ms =
		    ssh->open > 0 ? 0 : hga_mono_ms() + REFUSED_MS;
		c->state = HGA_CHAN_QUEUED;
		return;
	}
	refuse(c);
}

/* Without the edit "match" the answer to another channel's request would end
 * ours: then one starts after the other. */
static void leave_slot(struct hga_ssh *ssh, const struct hga_chan *c,
                       bool starting)
{
#ifdef HGA_SSH2_EDIT_MATCH
	starting = false;
#endif
	if (ssh->slot == c && !starting)
		ssh->slot = NULL;
}

/* ---- the spare channel ---- */

/*
 * Commands in a row: the channel of the next one is opened beside the request
 * of the one before, and its request needs no round trip of its own.  A spare
 * channel lives for seconds only and leaves most of the server's MaxSessions
 * to others.
 */

static void spare_forget(struct hga_ssh *ssh)
{
	if (ssh->spare != NULL)
		hga_chan_drop(ssh->spare);
	ssh->spare = NULL;
}

static void on_spare_end(struct hga_timer *t)
{
	spare_forget(t->data);
}

static void spare_started(struct hga_chan *c)
{
	if (hga_timer_start(c->ssh->loop, &c->ssh->spare_end, SPARE_MS, NULL) <
	    0)
		spare_forget(c->ssh); /* it would stay as long as the session */
}

static bool spare_turn(struct hga_chan *c, struct hga_err *err)
{
	(void)err; /* nothing can fail */
	if (libssh2_channel_eof(c->ch) != 1)
		return false;
	spare_forget(c->ssh); /* the server has closed it */
	return true;
}

static void spare_failed(struct hga_chan *c, const struct hga_err *err)
{
	(void)err; /* nobody asked for it */
	c->ssh->spare = NULL;
}

/* After a request: opens the channel of the next one. */
static void spare_make(struct hga_ssh *ssh)
{
#if defined(HGA_SSH2_EDIT_MATCH) && defined(HGA_SSH2_EDIT_EARLY)
	struct hga_chan *s;

	if (ssh->spare != NULL || ssh->execs < SPARE_FROM ||
	    ssh->open >= SPARE_BESIDE || ssh->limit < SPARE_LIMIT)
		return;
	s = new_chan(ssh, session_type);
	if (s == NULL)
		return; /* the next command does without */
	s->passive = true;
	s->on_start = spare_started;
	s->on_turn = spare_turn;
	s->on_fail = spare_failed;
	ssh->spare = s;
	ssh->spare_end.fn = on_spare_end;
	ssh->spare_end.data = ssh;
#else
	(void)ssh; /* one channel starts after the other */
#endif
}

/* 1: c has the spare channel; 0: there is none for it; -1: not yet. */
static int spare_take(struct hga_ssh *ssh, struct hga_chan *c)
{
	struct hga_chan *s = ssh->spare;

	if (s == NULL || s == c || !counts(c) || c->window != s->window)
		return 0;
	if (s->state != HGA_CHAN_RUNNING)
		return -1;
	if (libssh2_channel_eof(s->ch) == 1)
		return 0;
	hga_timer_stop(ssh->loop, &ssh->spare_end);
	c->ch = s->ch;
	c->state = HGA_CHAN_STARTING;
	s->ch = NULL; /* it counts as before, for c */
	s->zombie = true;
	ssh->spare = NULL;
	return 1;
}

/* The terminal, if one is wanted, then the request itself. */
static int start_request(struct hga_chan *c, bool pty)
{
	if (pty)
		return libssh2_channel_request_pty_ex(
		    c->ch, c->pty->term, (unsigned)strlen(c->pty->term), NULL,
		    0, c->pty->cols, c->pty->rows, 0, 0);
	if (c->request == NULL)
		return 0;
	if (strcmp(c->request, "shell") == 0)
		return libssh2_channel_process_startup(c->ch, "shell", 5, NULL,
		                                       0);
	return libssh2_channel_process_startup(
	    c->ch, c->request, (unsigned)strlen(c->request), c->message,
	    (unsigned)c->message_len);
}

/* What need not wait for the answer to the request: the end of input where
 * nothing will be written, or the owner's first bytes. */
static int follow_request(struct hga_chan *c, struct hga_err *err)
{
#ifdef HGA_SSH2_EDIT_EARLY
	if (c->zombie || !hga_libssh2_requested(c->ch))
		return 0;
	if (is_exec(c))
		spare_make(c->ssh);
	if (c->no_input && !c->eof_sent)
		c->eof_sent = libssh2_channel_send_eof(c->ch) == 0;
	else if (c->on_request != NULL)
		return c->on_request(c, err);
#else
	(void)c;   /* the owner sends it after the answer */
	(void)err;
#endif
	return 0;
}

/* libssh2 has all that came and was free to send: until more comes it can
 * only say the same. */
static void must_wait(struct hga_chan *c)
{
	const struct hga_bio *bio = &c->ssh->bio;

	c->asked = bio->in_len == 0 && !hga_bio_full(bio);
	c->asked_rx = bio->rx;
}

static bool waits(const struct hga_chan *c)
{
	return c->asked && c->asked_rx == c->ssh->bio.rx;
}

static bool turn_start(struct hga_ssh *ssh, struct hga_chan *c,
                       struct hga_err *err)
{
	bool pty = c->pty != NULL && !c->pty_done;
	int rc = waits(c) ? LIBSSH2_ERROR_EAGAIN : start_request(c, pty);

	if (rc == LIBSSH2_ERROR_EAGAIN) {
		must_wait(c);
		return !pty && follow_request(c, err) < 0;
	}
	c->asked = false;
	if (rc == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED) {
		leave_slot(ssh, c, false);
		c->state = HGA_CHAN_RUNNING;
		chan_fail(c, HGA_REMOTE, "RequestDenied",
		          pty ? "the server refuses a terminal"
		              : "the server refuses the request");
		return true;
	}
	if (rc != 0) {
		(void)hga_ssh_fail(ssh, err, pty ? "pty" : c->request,
		                   rc); /* in err */
		return true;
	}
	if (pty) {
		c->pty_done = true;
		return true;
	}
	leave_slot(ssh, c, false);
	c->state = HGA_CHAN_RUNNING;
	ssh->execs += is_exec(c);
	if (!c->zombie)
		c->on_start(c);
	return true;
}

/* All that the server allows are open: idle ones give way. */
static void make_room(struct hga_ssh *ssh)
{
	spare_forget(ssh);
	hga_sftp_make_way(ssh);
}

static bool turn_open(struct hga_ssh *ssh, struct hga_chan *c,
                      struct hga_err *err)
{
	int rc;

	if (c->state == HGA_CHAN_QUEUED) {
		rc = spare_take(ssh, c);
		if (rc < 0)
			return false;
		/* At once: it leaves together with the end of the last one. */
		if (rc > 0) {
			(void)turn_start(ssh, c, err); /* in err */
			return true;
		}
		if (counts(c) && ssh->open >= ssh->limit) {
			if (c->urgent)
				refuse(c);
			else if (c != ssh->spare)
				make_room(ssh);
			return c->urgent;
		}
		if (ssh->slot != NULL || c->not_before_ms > hga_mono_ms())
			return false;
		ssh->slot = c;
		ssh->open += counts(c);
		c->state = HGA_CHAN_OPENING;
		c->asked = false;
	}
	if (waits(c))
		return false;
	c->ch = libssh2_channel_open_ex(
	    ssh->s, c->type, (unsigned)strlen(c->type), c->window,
	    HGA_SSH_PACKET, c->open_message, (unsigned)c->open_len);
	if (c->ch != NULL) {
		leave_slot(ssh, c, true);
		ssh->ever_open |= counts(c);
		c->state = HGA_CHAN_STARTING;
		c->asked = false;
		return true;
	}
	rc = libssh2_session_last_errno(ssh->s);
	if (rc == LIBSSH2_ERROR_EAGAIN) {
		must_wait(c);
		return false;
	}
	if (rc == LIBSSH2_ERROR_CHANNEL_FAILURE) {
		open_refused(ssh, c);
		return true;
	}
	(void)hga_ssh_fail(ssh, err, "open a channel", rc); /* in err */
	return true;
}

static void on_bury(struct hga_timer *t);

static void bury_in(struct hga_ssh *ssh, int64_t ms)
{
	ssh->bury.fn = on_bury;
	ssh->bury.data = ssh;
	/* Without memory they count until the server closes them. */
	if (hga_timer_start(ssh->loop, &ssh->bury, ms, NULL) < 0)
		hga_log(HGA_LOG_WARN, "ssh", "%s: out of memory", ssh->name);
}

/* A command that goes on holds its channel open.  We do not count on its end:
 * whether the server still counts it shows when it refuses another one. */
static void on_bury(struct hga_timer *t)
{
	struct hga_ssh *ssh = t->data;
	int64_t now = hga_mono_ms(), next = INT64_MAX;

	for (struct hga_chan *c = ssh->chans; c != NULL; c = c->next) {
		if (c->closed_ms == 0 || c->forgotten)
			continue;
		if (now < c->closed_ms + BURY_MS) {
			if (next > c->closed_ms + BURY_MS)
				next = c->closed_ms + BURY_MS;
			continue;
		}
		c->forgotten = true;
		ssh->open -= counts(c);
	}
	if (next != INT64_MAX)
		bury_in(ssh, next - now);
	hga_ssh_kick(ssh);
}

static void close_waits(struct hga_ssh *ssh, struct hga_chan *c)
{
	if (c->closed_ms != 0)
		return;
	c->closed_ms = hga_mono_ms();
	if (!hga_timer_running(&ssh->bury))
		bury_in(ssh, BURY_MS);
}

/* EOF and CLOSE are sent by the first call; later ones look for the peer's. */
static bool turn_close(struct hga_ssh *ssh, struct hga_chan *c,
                       struct hga_err *err)
{
	bool waited;
	int rc;

	if (c->ch == NULL) {
		c->state = HGA_CHAN_GONE;
		return true;
	}
	waited = hga_bio_pending(&ssh->bio);
	rc = libssh2_channel_free(c->ch);
	/* The end alone can wait for what the next turn sends: often another
	 * command. */
	if (!waited)
		ssh->lazy = hga_bio_unsent(&ssh->bio);
	if (rc == LIBSSH2_ERROR_EAGAIN) {
		close_waits(ssh, c);
		return false;
	}
	if (rc != 0) {
		(void)hga_ssh_fail(ssh, err, "close a channel",
		                   rc); /* in err */
		return true;
	}
	c->ch = NULL;
	c->state = HGA_CHAN_GONE;
	if (c->forgotten)
		ssh->limit = HGA_SSH_CHANNELS; /* it may have been too low */
	else
		ssh->open -= counts(c);
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
		/* Nobody wants it any more and nothing is on its way. */
		if (c->zombie && c->request == NULL)
			c->state = HGA_CHAN_RUNNING;
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

/*
 * Only one command without input is there, and perhaps the spare channel: no
 * one acts on what the server says before its output or its end.  Sizes are
 * those of AES-GCM's packets (RFC 5647); with a cipher whose packets are larger
 * the first answer wakes, with smaller ones the timer does.
 */
size_t hga_chan_answers(const struct hga_ssh *ssh)
{
	/* OpenSSH widens the window before it says yes. */
	const size_t started = 36 + 36, opened = 52;
	unsigned commands = 0;
	size_t n = 0;

	for (const struct hga_chan *c = ssh->chans; c != NULL; c = c->next) {
		bool starting = c->state == HGA_CHAN_STARTING;

		if (c == ssh->spare) {
			n += c->state == HGA_CHAN_OPENING ? opened : 0;
			continue;
		}
		if (!is_exec(c) || c->zombie || c->pty != NULL ||
		    !c->eof_sent || ++commands > 1 ||
		    (!starting && c->state != HGA_CHAN_RUNNING))
			return 0;
		n += starting ? started : 0;
	}
	return commands > 0 ? n : 0;
}

/* What libssh2 may hold goes with the windows. */
static void limit_heap(struct hga_ssh *ssh)
{
	ssh->heap.max = HGA_BIO_HEAP_BASE;
	for (struct hga_chan *c = ssh->chans; c != NULL; c = c->next)
		ssh->heap.max += c->ch != NULL ? HGA_BIO_HEAP_CHANNEL : 0;
}

bool hga_chan_turn_all(struct hga_ssh *ssh, struct hga_err *err)
{
	bool progress = false;

	limit_heap(ssh);
	for (struct hga_chan *c = ssh->chans; c != NULL && err->kind == HGA_OK;
	     c = c->next)
		progress |= turn_chan(ssh, c, err);
	for (struct hga_chan **at = &ssh->chans; *at != NULL;) {
		struct hga_chan *c = *at;

		if (c->state == HGA_CHAN_GONE && c->zombie) {
			*at = c->next;
			hga_chan_free(c);
		} else {
			at = &c->next;
		}
	}
	return progress;
}
