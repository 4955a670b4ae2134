/*
 * Command channels: RFC 4254 sections 6.5 to 6.10.  Both streams are drained
 * at every turn: unread stderr would fill the window that stdout needs, and
 * libssh2 reports no end of file while any of it is queued.
 */
#include "ssh/exec.h"

#include "base/mem.h"
#include "base/time.h"
#include "ssh/forward.h"
#include "ssh/impl.h"

#include <stdio.h>
#include <string.h>

#define CHUNK (32 * 1024)
#define EXIT_MS 500
#define BRIEF_US 15000 /* well before the session looks for late bytes */
#define TAIL_MIN 1024

#ifdef HGA_SSH2_EDIT_STATUS
int hga_libssh2_has_exit_status(LIBSSH2_CHANNEL *channel);
#endif

/* The last bytes of a stream: grows to max, then goes round. */
struct tail {
	char *data;
	size_t cap, len, head, max;
	uint64_t total;
};

struct hga_ssh_exec {
	struct hga_ssh *ssh;
	struct hga_chan *chan; /* NULL: ended */
	struct tail tail[2];
	struct hga_buf queue[2];
	bool queued[2]; /* the owner wants everything of it */
	size_t max_output;
	struct hga_str input;  /* borrowed, rest */
	struct hga_buf in;     /* written later */
	bool in_eof, eof_sent; /* no more will be written */
	char want_signal[16];
	bool direct; /* a connection: no status */
	char term[64];
	struct hga_chan_pty pty;
	bool resized;
	bool started, ended, exited, wait_exit;
	int code;
	char signal[24];
	struct hga_err err;
	struct hga_timer exit_timer;
	struct hga_ssh_wait *wait;
	int64_t t0_us, t1_us, last_ms;
};

bool hga_ssh_knows_status(void)
{
#ifdef HGA_SSH2_EDIT_STATUS
	return true;
#else
	return false;
#endif
}

/* ---- tail ---- */

/* Place for new bytes, at least one; NULL: out of memory. */
static char *tail_room(struct tail *t, size_t *n)
{
	if (t->head == t->cap && t->cap < t->max) {
		size_t cap = t->cap ? t->cap * 2 : TAIL_MIN;
		char *p;

		if (cap > t->max)
			cap = t->max;
		p = hga_realloc(t->data, cap);
		if (p == NULL)
			return NULL;
		t->data = p;
		t->cap = cap;
	}
	if (t->head == t->cap)
		t->head = 0;
	*n = t->cap - t->head;
	return t->data + t->head;
}

static void tail_took(struct tail *t, size_t n)
{
	t->head += n;
	t->total += n;
	t->len = t->len + n > t->cap ? t->cap : t->len + n;
}

static int tail_add(struct tail *t, const char *p, size_t n)
{
	while (n > 0) {
		size_t room;
		char *to = tail_room(t, &room);

		if (to == NULL)
			return -HGA_MEMORY;
		if (room > n)
			room = n;
		memcpy(to, p, room);
		tail_took(t, room);
		p += room;
		n -= room;
	}
	return 0;
}

bool hga_ssh_exec_tail(const struct hga_ssh_exec *x, int stream,
                       struct hga_str part[2])
{
	const struct tail *t = &x->tail[stream];
	size_t keep = t->len < x->max_output ? t->len : x->max_output;
	size_t second = t->head < keep ? t->head : keep;
	size_t first = keep - second;

	/* first comes from the end of the ring, second ends at head. */
	part[0] = hga_strn(t->data ? t->data + t->cap - first : "", first);
	part[1] = hga_strn(t->data ? t->data + t->head - second : "", second);
	return t->total > keep;
}

/* ---- waiting ---- */

static bool wait_ready(const struct hga_ssh_exec *x,
                       const struct hga_ssh_wait *w)
{
	return x->ended || x->queue[0].len > 0 || x->queue[1].len > 0 ||
	       (w->want_space && x->in.len == 0);
}

static void wait_end(struct hga_ssh_wait *w)
{
	hga_timer_stop(w->x->ssh->loop, &w->timer);
	w->x->wait = NULL;
	w->x = NULL;
}

static void notify(struct hga_ssh_exec *x)
{
	struct hga_ssh_wait *w = x->wait;

	if (w == NULL || !wait_ready(x, w))
		return;
	wait_end(w);
	hga_op_finish(&w->base);
}

static void wait_cancel(struct hga_op *op)
{
	struct hga_ssh_wait *w = (struct hga_ssh_wait *)op;

	wait_end(w);
	hga_op_drop(op);
}

static int wait_arm(struct hga_ssh_wait *w, struct hga_err *err)
{
	int64_t now = hga_mono_ms(), due = INT64_MAX;

	if (wait_ready(w->x, w))
		due = now;
	if (w->end_ms > 0 && w->end_ms < due)
		due = w->end_ms;
	if (w->idle_ms > 0 && w->x->last_ms + w->idle_ms < due)
		due = w->x->last_ms + w->idle_ms;
	if (due == INT64_MAX)
		return 0;
	return hga_timer_start(w->x->ssh->loop, &w->timer,
	                       due > now ? due - now : 0, err);
}

static void on_wait_timer(struct hga_timer *t)
{
	struct hga_ssh_wait *w = t->data;
	struct hga_ssh_exec *x = w->x;
	int64_t now = hga_mono_ms();

	if (wait_ready(x, w)) {
		notify(x);
		return;
	}
	if (w->end_ms > 0 && now >= w->end_ms)
		(void)hga_fail(&w->base.err, HGA_TIMEOUT, 0, "Command",
		               "ssh %s: the command did not end in time "
		               "(exec, %.0f s)",
		               x->ssh->name,
		               (double)(hga_mono_us() - x->t0_us) /
		                   1e6); /* kept in the operation */
	else if (w->idle_ms > 0 && now >= x->last_ms + w->idle_ms)
		(void)hga_fail(&w->base.err, HGA_TIMEOUT, 0, "Idle",
		               "ssh %s: no output for %.0f s (exec)",
		               x->ssh->name,
		               (double)(now - x->last_ms) /
		                   1e3); /* kept in the operation */
	else if (wait_arm(w, &w->base.err) == 0)
		return;
	wait_end(w);
	hga_op_finish(&w->base);
}

int hga_ssh_wait_start(struct hga_ssh_exec *x, struct hga_ssh_wait *w,
                       int64_t timeout_ms, int64_t idle_ms, bool want_space,
                       struct hga_err *err)
{
	int rc;

	if (x->wait != NULL)
		return hga_fail(err, HGA_USAGE, 0, "Busy",
		                "ssh %s: the command is waited for already",
		                x->ssh->name);
	memset(&w->timer, 0, sizeof(w->timer));
	w->timer.fn = on_wait_timer;
	w->timer.data = w;
	w->x = x;
	w->end_ms = timeout_ms > 0 ? hga_mono_ms() + timeout_ms : 0;
	w->idle_ms = idle_ms;
	w->want_space = want_space;
	rc = wait_arm(w, err);
	if (rc < 0)
		return rc;
	x->wait = w;
	hga_op_begin(&w->base, wait_cancel);
	return 0;
}

/* ---- end ---- */

static void finish(struct hga_ssh_exec *x)
{
	x->ended = true;
	x->t1_us = hga_mono_us();
	x->ssh->brief = x->t1_us - x->t0_us < BRIEF_US;
	hga_timer_stop(x->ssh->loop, &x->exit_timer);
	if (x->chan != NULL)
		hga_chan_drop(x->chan);
	x->chan = NULL;
	notify(x);
}

static void group_digits(char *out, size_t size, uint64_t v)
{
	char raw[24];
	size_t n, at = 0;

	snprintf(raw, sizeof(raw), "%llu", (unsigned long long)v);
	n = strlen(raw);
	for (size_t i = 0; i < n && at + 2 < size; i++) {
		if (i > 0 && (n - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = raw[i];
	}
	out[at] = '\0';
}

static void on_fail(struct hga_chan *c, const struct hga_err *err)
{
	struct hga_ssh_exec *x = c->user;
	char bytes[32];

	x->err = *err;
	if (x->started && err->kind == HGA_NET &&
	    strcmp(err->code, "ConnectionLost") == 0) {
		group_digits(bytes, sizeof(bytes),
		             x->tail[0].total + x->tail[1].total);
		(void)hga_fail(&x->err, HGA_NET, err->sys, "ConnectionLost",
		               "ssh %s: connection lost during exec after %s "
		               "bytes of output, exit status unknown (exec, "
		               "%.1f s)",
		               x->ssh->name, bytes,
		               (double)(hga_mono_us() - x->t0_us) /
		                   1e6); /* kept in the object */
	}
	x->chan = NULL;
	finish(x);
}

static void read_status(struct hga_ssh_exec *x)
{
	LIBSSH2_CHANNEL *ch = x->chan->ch;
	char *name = NULL;
	size_t n = 0;

	if (x->direct)
		return;
	if (libssh2_channel_get_exit_signal(ch, &name, &n, NULL, NULL, NULL,
	                                    NULL) == 0 &&
	    name != NULL) {
		hga_ssh_clean(x->signal, sizeof(x->signal), hga_strn(name, n));
		libssh2_free(x->ssh->s, name);
		return;
	}
#ifdef HGA_SSH2_EDIT_STATUS
	x->exited = hga_libssh2_has_exit_status(ch) != 0;
#else
	x->exited = true; /* the caller's wrapper never exits with 0 */
#endif
	x->code = libssh2_channel_get_exit_status(ch);
	if (!x->exited)
		(void)hga_fail(&x->err, HGA_REMOTE, 0, "NoExitStatus",
		               "ssh %s: the command ended without exit status",
		               x->ssh->name); /* kept in the object */
}

static bool has_status(const struct hga_ssh_exec *x)
{
#ifdef HGA_SSH2_EDIT_STATUS
	return hga_libssh2_has_exit_status(x->chan->ch) != 0;
#else
	(void)x;
	return false;
#endif
}

static void on_exit_timer(struct hga_timer *t)
{
	struct hga_ssh_exec *x = t->data;

	if (x->chan == NULL)
		return;
	read_status(x);
	finish(x);
}

/* ---- turns ---- */

static int lost(struct hga_ssh_exec *x, struct hga_err *err, ssize_t rc)
{
	return hga_ssh_fail(x->ssh, err, "exec", (int)rc);
}

/* Writes from one source; bytes taken, or -kind. */
static ssize_t write_some(struct hga_ssh_exec *x, struct hga_str from,
                          struct hga_err *err)
{
	size_t done = 0;

	while (done < from.n && !hga_bio_full(&x->ssh->bio)) {
		ssize_t n = libssh2_channel_write_ex(
		    x->chan->ch, 0, from.s + done, from.n - done);

		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			break;
		/* Closed by the peer: what comes vanishes. */
		if (n == LIBSSH2_ERROR_CHANNEL_CLOSED ||
		    n == LIBSSH2_ERROR_CHANNEL_EOF_SENT)
			return (ssize_t)from.n;
		if (n < 0)
			return lost(x, err, n);
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static bool turn_input(struct hga_ssh_exec *x, struct hga_err *err)
{
	bool progress = false;
	ssize_t n;

	if (x->eof_sent)
		return false;
	n = write_some(x, x->input, err);
	if (n < 0)
		return false;
	x->input.s += n;
	x->input.n -= (size_t)n;
	progress = n > 0;
	if (x->input.n == 0 && x->in.len > 0) {
		n = write_some(x, hga_buf_str(&x->in), err);
		if (n < 0)
			return false;
		hga_buf_consume(&x->in, (size_t)n);
		progress |= n > 0;
	}
	if (x->input.n == 0 && x->in.len == 0 && x->in_eof) {
		int rc = libssh2_channel_send_eof(x->chan->ch);

		if (rc == 0)
			x->eof_sent = progress = true;
		else if (rc != LIBSSH2_ERROR_EAGAIN)
			(void)lost(x, err, rc); /* in err */
	}
	return progress;
}

static bool turn_signal(struct hga_ssh_exec *x)
{
	int rc;

	if (x->want_signal[0] == '\0')
		return false;
	rc = libssh2_channel_signal_ex(x->chan->ch, x->want_signal,
	                               strlen(x->want_signal));
	/* Nobody answers it; a lost connection shows in the next read. */
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	x->want_signal[0] = '\0';
	return true;
}

static bool turn_resize(struct hga_ssh_exec *x)
{
	if (!x->resized)
		return false;
	/* A lost connection shows in the next read. */
	if (libssh2_channel_request_pty_size_ex(x->chan->ch, x->pty.cols,
	                                        x->pty.rows, 0,
	                                        0) == LIBSSH2_ERROR_EAGAIN)
		return false;
	x->resized = false;
	return true;
}

/* One read of a stream; >0, 0 nothing, -kind. */
static ssize_t read_some(struct hga_ssh_exec *x, int stream,
                         struct hga_err *err)
{
	/* For the first bytes of a stream: most are short, or never begin. */
	static char first[CHUNK];
	int id = stream ? SSH_EXTENDED_DATA_STDERR : 0;
	struct hga_buf *q = &x->queue[stream];
	struct tail *t = &x->tail[stream];
	bool begins = !x->queued[stream] && t->cap < CHUNK;
	size_t room = CHUNK;
	char *to = first;
	ssize_t n;

	if (x->queued[stream]) {
		if (hga_buf_reserve(q, CHUNK, err) < 0)
			return -HGA_MEMORY;
		to = q->data + q->len;
	} else if (!begins) {
		to = tail_room(t, &room);
		if (to == NULL)
			return hga_fail_mem(err);
		/* libssh2 widens the window by the size of the buffer. */
		if (room > CHUNK)
			room = CHUNK;
	}
	n = libssh2_channel_read_ex(x->chan->ch, id, to, room);
	if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
		return 0;
	if (n < 0)
		return lost(x, err, n);
	if (begins)
		return tail_add(t, first, (size_t)n) < 0 ? hga_fail_mem(err)
		                                         : n;
	if (!x->queued[stream]) {
		tail_took(t, (size_t)n);
		return n;
	}
	q->len += (size_t)n;
	q->data[q->len] = '\0';
	if (tail_add(t, q->data + q->len - n, (size_t)n) < 0)
		return hga_fail_mem(err);
	return n;
}

static bool full(const struct hga_ssh_exec *x)
{
	return x->queue[0].len >= HGA_EXEC_QUEUE ||
	       x->queue[1].len >= HGA_EXEC_QUEUE;
}

static bool turn_output(struct hga_ssh_exec *x, struct hga_err *err)
{
	bool progress = false;

	for (int i = 0; i < 2; i++) {
		while (!full(x)) {
			ssize_t n = read_some(x, i, err);

			if (n < 0)
				return false;
			if (n == 0)
				break;
			progress = true;
		}
	}
	if (progress)
		x->last_ms = hga_mono_ms();
	return progress;
}

/* The peer has closed and all of its output was read. */
static bool turn_end(struct hga_ssh_exec *x, struct hga_err *err)
{
	int rc;

	if (full(x) || libssh2_channel_eof(x->chan->ch) != 1)
		return false;
	rc = libssh2_channel_wait_closed(x->chan->ch);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (rc < 0) {
		(void)lost(x, err, rc); /* in err */
		return false;
	}
	read_status(x);
	finish(x);
	return true;
}

static bool on_turn(struct hga_chan *c, struct hga_err *err)
{
	struct hga_ssh_exec *x = c->user;
	bool progress = turn_input(x, err);

	progress |= turn_signal(x);
	progress |= turn_resize(x);
	if (err->kind == HGA_OK)
		progress |= turn_output(x, err);
	if (err->kind == HGA_OK && turn_end(x, err))
		return true;
	if (err->kind != HGA_OK)
		return false;
	if (x->wait_exit && has_status(x) &&
	    !hga_timer_running(&x->exit_timer) &&
	    hga_timer_start(x->ssh->loop, &x->exit_timer, EXIT_MS, err) < 0)
		return false;
	if (progress)
		notify(x);
	return progress;
}

static void on_start(struct hga_chan *c)
{
	struct hga_ssh_exec *x = c->user;

	x->started = true;
	x->eof_sent = c->eof_sent;
	x->last_ms = hga_mono_ms();
}

/* ---- interface ---- */

static int check(struct hga_ssh *ssh, const struct hga_ssh_exec_args *a,
                 struct hga_err *err)
{
	if (a->cmd.n > HGA_EXEC_CMD_MAX)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "ssh %s: the command has %zu bytes, at most "
		                "%d are possible; send it as a file",
		                ssh->name, a->cmd.n, HGA_EXEC_CMD_MAX);
	if (memchr(a->cmd.s, '\0', a->cmd.n) != NULL)
		return hga_fail(err, HGA_USAGE, 0, "Nul",
		                "ssh %s: the command contains a NUL byte",
		                ssh->name);
	return hga_ssh_check(ssh, err);
}

static int open_command(struct hga_ssh *ssh, struct hga_ssh_exec *x,
                        const struct hga_ssh_exec_args *a, struct hga_err *err)
{
	x->chan = hga_chan_new(ssh, a->shell ? "shell" : "exec",
	                       a->shell ? HGA_STR("") : a->cmd, HGA_SSH_WINDOW);
	if (x->chan == NULL)
		return hga_fail_mem(err);
	if (a->term != NULL) {
		snprintf(x->term, sizeof(x->term), "%s", a->term);
		x->pty.term = x->term;
		x->pty.cols = a->cols;
		x->pty.rows = a->rows;
		x->chan->pty = &x->pty;
	}
	return 0;
}

static int open_direct(struct hga_ssh *ssh, struct hga_ssh_exec *x,
                       const struct hga_ssh_exec_args *a, struct hga_err *err)
{
	struct hga_buf msg;
	const char *type;

	hga_buf_init(&msg, 4096);
	type = hga_direct_message(&msg, a->to_host, a->to_port, err);
	if (type != NULL)
		x->chan = hga_chan_new_open(ssh, type, hga_buf_str(&msg));
	hga_buf_release(&msg);
	if (type == NULL)
		return -(int)err->kind;
	return x->chan != NULL ? 0 : hga_fail_mem(err);
}

int hga_ssh_exec_start(struct hga_ssh *ssh,
                       const struct hga_ssh_exec_args *args,
                       struct hga_ssh_exec **out, struct hga_err *err)
{
	struct hga_ssh_exec *x;
	int rc = check(ssh, args, err);

	if (rc < 0)
		return rc;
	x = hga_calloc(1, sizeof(*x));
	if (x == NULL)
		return hga_fail_mem(err);
	x->direct = args->to_host != NULL;
	rc = x->direct ? open_direct(ssh, x, args, err)
	               : open_command(ssh, x, args, err);
	if (rc < 0) {
		hga_free(x);
		return rc;
	}
	x->chan->user = x;
	x->chan->on_start = on_start;
	x->chan->on_turn = on_turn;
	x->chan->on_fail = on_fail;
	x->ssh = hga_ssh_ref(ssh);
	x->input = args->input;
	x->in_eof = !args->in_open;
	x->chan->no_input = x->in_eof && x->input.n == 0;
	x->chan->urgent = args->urgent;
	x->wait_exit = args->wait_exit;
	x->max_output = args->max_output;
	x->t0_us = hga_mono_us();
	x->last_ms = hga_mono_ms();
	x->exit_timer.fn = on_exit_timer;
	x->exit_timer.data = x;
	hga_buf_init(&x->in, HGA_EXEC_QUEUE);
	for (int i = 0; i < 2; i++) {
		x->queued[i] = args->queue[i];
		x->tail[i].max =
		    args->max_output > CHUNK ? args->max_output : CHUNK;
		hga_buf_init(&x->queue[i], 2 * HGA_EXEC_QUEUE);
	}
	*out = x;
	return 0;
}

void hga_ssh_exec_free(struct hga_ssh_exec *x)
{
	if (x == NULL)
		return;
	if (x->wait != NULL)
		hga_op_cancel(&x->wait->base);
	hga_timer_stop(x->ssh->loop, &x->exit_timer);
	if (x->chan != NULL)
		hga_chan_drop(x->chan);
	for (int i = 0; i < 2; i++) {
		hga_free(x->tail[i].data);
		hga_buf_release(&x->queue[i]);
	}
	hga_buf_release(&x->in);
	hga_ssh_unref(x->ssh);
	hga_free(x);
}

void hga_ssh_exec_info(const struct hga_ssh_exec *x,
                       struct hga_ssh_exec_info *out)
{
	int64_t end = x->ended ? x->t1_us : hga_mono_us();

	out->started = x->started;
	out->ended = x->ended;
	out->exited = x->exited;
	out->code = x->code;
	out->signal = x->signal;
	out->out = x->tail[0].total;
	out->err = x->tail[1].total;
	out->error = x->err.kind != HGA_OK ? &x->err : NULL;
	out->seconds = (double)(end - x->t0_us) / 1e6;
}

size_t hga_ssh_exec_write(struct hga_ssh_exec *x, const void *p, size_t n)
{
	size_t room = HGA_EXEC_QUEUE - x->in.len;

	if (x->ended || x->eof_sent)
		return n;
	if (n > room)
		n = room;
	if (n == 0 || hga_buf_add(&x->in, p, n, NULL) < 0)
		return 0;
	hga_ssh_kick(x->ssh);
	return n;
}

void hga_ssh_exec_eof(struct hga_ssh_exec *x)
{
	x->in_eof = true;
	hga_ssh_kick(x->ssh);
}

void hga_ssh_exec_signal(struct hga_ssh_exec *x, const char *name)
{
	if (x->chan == NULL)
		return;
	snprintf(x->want_signal, sizeof(x->want_signal), "%s", name);
	hga_ssh_kick(x->ssh);
}

void hga_ssh_exec_resize(struct hga_ssh_exec *x, int cols, int rows)
{
	if (x->chan == NULL || x->pty.term == NULL)
		return;
	x->pty.cols = cols;
	x->pty.rows = rows;
	x->resized = true;
	hga_ssh_kick(x->ssh);
}

struct hga_buf *hga_ssh_exec_queue(struct hga_ssh_exec *x, int stream)
{
	return &x->queue[stream];
}

void hga_ssh_exec_resume(struct hga_ssh_exec *x)
{
	if (x->chan != NULL)
		hga_ssh_kick(x->ssh);
}
