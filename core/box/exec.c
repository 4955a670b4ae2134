/*
 * Commands inside an instance: the agent gets three pipe ends, the loop pumps
 * ours.  Local cloud specification, section 2.2 (EXEC, KILL, EXIT).
 */
#include "box/inner.h"

#include "base/mem.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	GRACE_MS = 2000,
	LINGER_MS = 1000,
	CHUNK = 65536
};

struct hga_box_exec_impl {
	struct hga_box *box;
	struct hga_loop *loop;
	struct hga_box_exec *x;
	struct hga_box_exec_impl *next;
	uint32_t id;
	int fd[3];
	struct hga_watch w[3];
	struct hga_timer linger, deadline;
	struct hga_buf in;
	bool exited, timed_out;
	int64_t timeout_ms;
};

static void close_io(struct hga_box_exec_impl *m, int i)
{
	hga_watch_stop(m->loop, &m->w[i]);
	if (m->fd[i] >= 0)
		(void)close(m->fd[i]); /* a pipe */
	m->fd[i] = -1;
}

static void impl_free(struct hga_box_exec_impl *m)
{
	struct hga_box_exec_impl **at = hga_box_execs(m->box);

	while (*at != NULL && *at != m)
		at = &(*at)->next;
	if (*at == m)
		*at = m->next;
	for (int i = 0; i < 3; i++)
		close_io(m, i);
	hga_timer_stop(m->loop, &m->linger);
	hga_timer_stop(m->loop, &m->deadline);
	hga_buf_release_secret(&m->in);
	m->x->impl = NULL;
	hga_free(m);
}

static void finish(struct hga_box_exec_impl *m)
{
	struct hga_box_exec *x = m->x;

	if (m->timed_out)
		(void)hga_fail(&x->base.err, HGA_TIMEOUT, 0, "Total",
		               "the command ran longer than %lld s",
		               (long long)(m->timeout_ms / 1000));
	impl_free(m);
	hga_op_finish(&x->base);
}

static void maybe_finish(struct hga_box_exec_impl *m)
{
	if (m->exited && m->fd[1] < 0 && m->fd[2] < 0)
		finish(m);
}

/* TERM to the group now, KILL from the agent later: it needs no one here. */
static void ask_end(struct hga_box_exec_impl *m)
{
	struct hga_buf b;

	hga_buf_init(&b, 8);
	if (!m->exited && hga_box_put_u32(&b, SIGTERM, NULL) == 0 &&
	    hga_box_put_u32(&b, GRACE_MS, NULL) == 0 &&
	    hga_box_post(m->box, HGA_BOX_KILL, m->id, &b, NULL, 0, NULL) < 0) {
		/* the instance is ending: so is the command */
	}
	hga_buf_release(&b);
}

static void cancel(struct hga_op *op)
{
	struct hga_box_exec *x = (struct hga_box_exec *)op;

	hga_op_drop(op);
	if (x->impl == NULL)
		return;
	ask_end(x->impl);
	impl_free(x->impl);
}

/* ---- what the agent says ---- */

static struct hga_box_exec_impl *find(struct hga_box *box, uint32_t id)
{
	struct hga_box_exec_impl *m = *hga_box_execs(box);

	while (m != NULL && m->id != id)
		m = m->next;
	return m;
}

static void on_linger(struct hga_timer *t)
{
	struct hga_box_exec_impl *m = t->data;

	close_io(m, 1);
	close_io(m, 2);
	maybe_finish(m);
}

/* Full queues wait for their owner, however long that takes. */
static bool owner_is_slow(const struct hga_box_exec_impl *m)
{
	return (m->fd[1] >= 0 && !m->w[1].running) ||
	       (m->fd[2] >= 0 && !m->w[2].running);
}

static void start_linger(struct hga_box_exec_impl *m)
{
	if (!m->exited || owner_is_slow(m))
		return;
	if (hga_timer_start(m->loop, &m->linger, LINGER_MS, NULL) < 0)
		return; /* no memory: the pipes' end is awaited */
}

void hga_box_exec_exit(struct hga_box *box, uint32_t id, int status)
{
	struct hga_box_exec_impl *m = find(box, id);

	if (m == NULL)
		return;
	m->exited = true;
	m->x->exited = true;
	if (WIFSIGNALED(status))
		m->x->signal = WTERMSIG(status);
	else
		m->x->code = WEXITSTATUS(status);
	hga_timer_stop(m->loop, &m->deadline);
	close_io(m, 0);
	start_linger(m);
	maybe_finish(m); /* last: frees m */
}

bool hga_box_exec_refused(struct hga_box *box, uint32_t id, int sys,
                          struct hga_box_text text)
{
	struct hga_box_exec_impl *m = find(box, id);
	struct hga_box_exec *x;

	if (m == NULL)
		return false;
	x = m->x;
	/* ENOENT is the missing user: a missing program is exit code 127 */
	(void)hga_fail(&x->base.err, sys == ENOENT ? HGA_NOTFOUND : HGA_IO,
	               sys == ENOENT ? 0 : sys, "Exec", "%.*s",
	               (int)(text.n & 255), text.s);
	impl_free(m);
	hga_op_finish(&x->base);
	return true;
}

void hga_box_exec_gone(struct hga_box *box)
{
	while (*hga_box_execs(box) != NULL) {
		struct hga_box_exec_impl *m = *hga_box_execs(box);
		struct hga_box_exec *x = m->x;

		if (!m->exited)
			(void)hga_fail(&x->base.err, HGA_IO, 0, "Gone",
			               "the instance ended while the command "
			               "ran");
		impl_free(m);
		hga_op_finish(&x->base);
	}
}

void hga_box_exec_cancel_all(struct hga_box *box)
{
	while (*hga_box_execs(box) != NULL)
		hga_op_cancel(&(*hga_box_execs(box))->x->base);
}

/* ---- pipes ---- */

static void on_output(struct hga_watch *w, int events)
{
	struct hga_box_exec_impl *m = w->data;
	struct hga_box_exec *x = m->x;
	int i = w == &m->w[1] ? 1 : 2;
	struct hga_buf *q = i == 1 ? &x->out : &x->errq;
	size_t room = HGA_BOX_QUEUE - q->len;
	ssize_t n;

	(void)events; /* read tells */
	if (room > CHUNK)
		room = CHUNK;
	if (room == 0 || hga_buf_reserve(q, room, NULL) < 0) {
		hga_watch_stop(m->loop, w); /* until resume */
		return;
	}
	n = read(w->fd, q->data + q->len, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		q->len += (size_t)n;
		q->data[q->len] = '\0';
		if (q->len == HGA_BOX_QUEUE) {
			hga_watch_stop(m->loop, w);
			hga_timer_stop(m->loop, &m->linger);
		}
	} else {
		close_io(m, i);
	}
	if (x->base.progress != NULL)
		x->base.progress(&x->base);
	if (x->impl == m)
		maybe_finish(m);
}

void hga_box_exec_resume(struct hga_box_exec *x)
{
	struct hga_box_exec_impl *m = x->impl;

	if (m == NULL)
		return;
	for (int i = 1; i <= 2; i++) {
		struct hga_buf *q = i == 1 ? &x->out : &x->errq;

		if (m->fd[i] < 0 || m->w[i].running || q->len >= HGA_BOX_QUEUE)
			continue;
		if (hga_watch_start(m->loop, &m->w[i], HGA_READ, NULL) < 0)
			close_io(m, i); /* no memory to watch it */
	}
	if (!hga_timer_running(&m->linger))
		start_linger(m);
}

static void on_input(struct hga_watch *w, int events)
{
	struct hga_box_exec_impl *m = w->data;
	ssize_t n = write(w->fd, m->in.data, m->in.len);

	(void)events; /* write tells */
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* a command that does not read its input is no error of ours */
	hga_buf_consume(&m->in, n < 0 ? m->in.len : (size_t)n);
	if (m->in.len == 0)
		close_io(m, 0);
}

/* ---- start ---- */

static void on_deadline(struct hga_timer *t)
{
	struct hga_box_exec_impl *m = t->data;

	m->timed_out = true;
	ask_end(m);
}

static int put_words(struct hga_buf *b, const char *const *list, size_t n,
                     struct hga_err *err)
{
	int r;

	if (n > 2048)
		return hga_fail(err, HGA_USAGE, 0, "TooLarge",
		                "more than 2048 arguments");
	r = hga_box_put_u32(b, (uint32_t)n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = hga_box_put_text(b, list[i], err);
	return r;
}

static int put_command(struct hga_buf *b, const struct hga_box_exec_args *a,
                       struct hga_err *err)
{
	int r;

	if (a->argc == 0)
		return hga_fail(err, HGA_USAGE, 0, "Missing",
		                "a command needs a program");
	if ((r = hga_box_put_text(b, a->user, err)) == 0 &&
	    (r = hga_box_put_text(b, a->cwd, err)) == 0 &&
	    (r = put_words(b, a->argv, a->argc, err)) == 0)
		r = put_words(b, a->env, a->n_env, err);
	if (r == -HGA_PROTOCOL) /* the buffer's limit */
		r = hga_fail(err, HGA_USAGE, 0, "TooLarge",
		             "arguments and environment of more than %d bytes",
		             HGA_BOX_PAYLOAD);
	return r;
}

/* Ours in m->fd (non-blocking), the command's in child. */
static int open_pipes(struct hga_box_exec_impl *m, int child[3],
                      struct hga_err *err)
{
	for (int i = 0; i < 3; i++) {
		int p[2];

		if (pipe2(p, O_CLOEXEC) < 0)
			return hga_fail(err, HGA_IO, errno, "spawn", "pipe");
		m->fd[i] = p[i == 0];
		child[i] = p[i != 0];
		m->w[i].fd = m->fd[i];
		if (fcntl(m->fd[i], F_SETFL, O_NONBLOCK) < 0)
			return hga_fail(err, HGA_IO, errno, "spawn", "pipe");
	}
	return 0;
}

static int start_io(struct hga_box_exec_impl *m,
                    const struct hga_box_exec_args *a, struct hga_err *err)
{
	int r = 0;

	if (a->in_len > 0)
		r = hga_buf_add(&m->in, a->in, a->in_len, err);
	if (r == 0 && a->in_len > 0)
		r = hga_watch_start(m->loop, &m->w[0], HGA_WRITE, err);
	if (r == 0 && a->in_len == 0)
		close_io(m, 0);
	for (int i = 1; r == 0 && i <= 2; i++)
		r = hga_watch_start(m->loop, &m->w[i], HGA_READ, err);
	if (r == 0 && a->timeout_ms > 0)
		r = hga_timer_start(m->loop, &m->deadline, a->timeout_ms, err);
	return r;
}

static struct hga_box_exec_impl *impl_new(struct hga_box *box,
                                          struct hga_box_exec *x)
{
	struct hga_box_exec_impl *m = hga_calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->box = box;
	m->loop = hga_box_loop(box);
	m->x = x;
	m->id = hga_box_next_id(box);
	hga_buf_init(&m->in, (size_t)64 << 20);
	for (int i = 0; i < 3; i++) {
		m->fd[i] = -1;
		m->w[i].data = m;
		m->w[i].fn = i == 0 ? on_input : on_output;
	}
	m->linger.fn = on_linger;
	m->deadline.fn = on_deadline;
	m->linger.data = m->deadline.data = m;
	m->next = *hga_box_execs(box);
	*hga_box_execs(box) = m;
	x->impl = m;
	return m;
}

int hga_box_exec_start(struct hga_box *box, struct hga_box_exec *x,
                       const struct hga_box_exec_args *args,
                       struct hga_err *err)
{
	struct hga_box_exec_impl *m;
	struct hga_buf b;
	int child[3] = {-1, -1, -1};
	int r = hga_box_must_be_up(box, err);

	if (r < 0)
		return r;
	hga_buf_init(&x->out, HGA_BOX_QUEUE);
	hga_buf_init(&x->errq, HGA_BOX_QUEUE);
	hga_buf_init(&b, HGA_BOX_PAYLOAD);
	r = put_command(&b, args, err);
	m = r < 0 ? NULL : impl_new(box, x);
	if (r == 0 && m == NULL)
		r = hga_fail_mem(err);
	if (r == 0)
		r = open_pipes(m, child, err);
	if (r == 0) {
		m->timeout_ms = args->timeout_ms;
		r = start_io(m, args, err);
	}
	if (r == 0)
		r = hga_box_post(box, HGA_BOX_EXEC, m->id, &b, child, 3, err);
	for (int i = 0; i < 3; i++)
		if (child[i] >= 0)
			(void)close(child[i]); /* only after a failure */
	hga_buf_release_secret(&b);
	if (r < 0 && m != NULL)
		impl_free(m);
	if (r == 0)
		hga_op_begin(&x->base, cancel);
	return r;
}

void hga_box_exec_release(struct hga_box_exec *x)
{
	hga_op_cancel(&x->base);
	hga_buf_release(&x->out);
	hga_buf_release(&x->errq);
}
