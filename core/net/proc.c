/*
 * Child processes (architecture section 3): posix_spawn, own process group,
 * pidfd as watch.  The exit is noticed with WNOWAIT and the zombie collected
 * last, so that the group can be signalled without hitting a reused number.
 */
#include "net/proc.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUEUE_MAX (256 * 1024)
#define STDIN_MAX (4 * 1024 * 1024)
#define CHUNK 65536
#define KILL_MS 2000
#define LINGER_MS 1000
#define LATE_LINGER_MS 20 /* after a passed deadline */
#define MAX_KEEP 32
#define MAX_CHILD_FD 64

extern char **environ;

struct hga_proc_impl {
	struct hga_loop *loop;
	struct hga_proc *p; /* NULL: cancelled, only the reaping is left */
	struct hga_hook hook;
	pid_t pid;
	bool group;  /* has a process group of its own */
	bool exited; /* a zombie now */
	int pidfd, fd[3];
	struct hga_watch pid_w, io_w[3];
	struct hga_timer deadline, kill, linger;
	struct hga_buf in;
	bool in_open, timed_out;
	bool telling; /* inside the owner's progress: not freed */
	int64_t timeout_ms;
};

/* ---- small parts ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_io(struct hga_proc_impl *m, int i)
{
	hga_watch_stop(m->loop, &m->io_w[i]);
	close_fd(&m->fd[i]);
}

static void impl_free(struct hga_proc_impl *m)
{
	int i;

	hga_hook_remove(m->loop, &m->hook);
	hga_timer_stop(m->loop, &m->deadline);
	hga_timer_stop(m->loop, &m->kill);
	hga_timer_stop(m->loop, &m->linger);
	hga_watch_stop(m->loop, &m->pid_w);
	close_fd(&m->pidfd);
	for (i = 0; i < 3; i++)
		close_io(m, i);
	hga_buf_release_secret(&m->in);
	hga_free(m);
}

static void reap(struct hga_proc_impl *m)
{
	int status;

	while (m->pid > 0 && waitpid(m->pid, &status, 0) < 0 && errno == EINTR)
		;
	m->pid = 0;
}

static void send_signal(struct hga_proc_impl *m, int signo)
{
	if (m->pid > 0)
		(void)kill(m->group ? -m->pid : m->pid,
		           signo); /* ESRCH: all have ended */
}

static struct hga_buf *queue(struct hga_proc *p, int i)
{
	return i == 1 ? &p->out : &p->errq;
}

/* False: the owner cancelled it meanwhile; then p is gone and m may be. */
static bool progress(struct hga_proc_impl *m)
{
	struct hga_op *op = &m->p->base;

	if (op->state == HGA_OP_RUNNING && op->progress != NULL) {
		m->telling = true;
		op->progress(op);
		m->telling = false;
	}
	if (m->p != NULL)
		return true;
	if (m->pid == 0) /* reaped */
		impl_free(m);
	return false;
}

/* ---- the end ---- */

static void finish(struct hga_proc_impl *m)
{
	struct hga_proc *p = m->p;

	if (m->timed_out)
		(void)hga_fail(&p->base.err, HGA_TIMEOUT, 0, "Total",
		               "the command ran longer than %lld s",
		               (long long)(m->timeout_ms / 1000));
	reap(m);
	p->impl = NULL;
	p->out_eof = p->err_eof = true;
	impl_free(m);
	hga_op_finish(&p->base);
}

static void maybe_finish(struct hga_proc_impl *m)
{
	if (m->exited && m->fd[1] < 0 && m->fd[2] < 0)
		finish(m);
}

/* Full queues wait for their owner, however long that takes. */
static bool owner_is_slow(const struct hga_proc_impl *m)
{
	return (m->fd[1] >= 0 && !m->io_w[1].running) ||
	       (m->fd[2] >= 0 && !m->io_w[2].running);
}

static void start_linger(struct hga_proc_impl *m)
{
	if (!m->exited || owner_is_slow(m))
		return;
	if (hga_timer_start(m->loop, &m->linger,
	                    m->timed_out ? LATE_LINGER_MS : LINGER_MS,
	                    NULL) < 0)
		return; /* no memory: the pipes' end is awaited */
}

static void on_linger(struct hga_timer *t)
{
	struct hga_proc_impl *m = t->data;

	close_io(m, 1);
	close_io(m, 2);
	maybe_finish(m);
}

static void note_status(struct hga_proc *p, const siginfo_t *si)
{
	p->exited = true;
	if (si->si_code == CLD_EXITED) {
		p->code = si->si_status;
		p->status = si->si_status << 8;
		return;
	}
	p->signal = si->si_status;
	p->status = si->si_status | (si->si_code == CLD_DUMPED ? 0x80 : 0);
}

static void on_exit_pid(struct hga_watch *w, int events)
{
	struct hga_proc_impl *m = w->data;
	siginfo_t si = {0};

	(void)events; /* only one kind */
	if (waitid(P_PID, (id_t)m->pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    si.si_pid == 0)
		return;
	m->exited = true;
	hga_watch_stop(m->loop, &m->pid_w);
	hga_timer_stop(m->loop, &m->deadline);
	hga_timer_stop(m->loop, &m->kill);
	if (m->p == NULL) {
		reap(m);
		impl_free(m);
		return;
	}
	note_status(m->p, &si);
	close_io(m, 0);
	start_linger(m);
	maybe_finish(m); /* last: frees m */
}

static void on_kill(struct hga_timer *t)
{
	send_signal(t->data, SIGKILL);
}

/* TERM now, KILL later. */
static void end_child(struct hga_proc_impl *m)
{
	send_signal(m, SIGTERM);
	send_signal(m, SIGCONT);
	if (hga_timer_start(m->loop, &m->kill, KILL_MS, NULL) < 0)
		send_signal(m, SIGKILL);
}

static void on_deadline(struct hga_timer *t)
{
	struct hga_proc_impl *m = t->data;

	m->timed_out = true;
	end_child(m);
}

static void on_free(struct hga_hook *h)
{
	struct hga_proc_impl *m = h->data;

	send_signal(m, SIGKILL);
	reap(m);
	if (m->p != NULL)
		m->p->impl = NULL;
	impl_free(m);
}

static void cancel(struct hga_op *op)
{
	struct hga_proc *p = (struct hga_proc *)op;
	struct hga_proc_impl *m = p->impl;

	hga_op_drop(op);
	if (m == NULL)
		return;
	p->impl = NULL;
	m->p = NULL;
	hga_timer_stop(m->loop, &m->deadline);
	hga_timer_stop(m->loop, &m->linger);
	close_io(m, 0);
	close_io(m, 1);
	close_io(m, 2);
	end_child(m);
	if (m->exited) { /* what is left of its group had a TERM */
		reap(m);
		if (!m->telling)
			impl_free(m);
	}
}

/* ---- pipes ---- */

static void close_out(struct hga_proc_impl *m, int i)
{
	close_io(m, i);
	if (i == 1)
		m->p->out_eof = true;
	else
		m->p->err_eof = true;
}

static void on_output(struct hga_watch *w, int events)
{
	struct hga_proc_impl *m = w->data;
	struct hga_proc *p = m->p;
	int i = w == &m->io_w[1] ? 1 : 2;
	struct hga_buf *q = queue(p, i);
	size_t room = QUEUE_MAX - q->len;
	ssize_t n;

	(void)events; /* read tells */
	if (room > CHUNK)
		room = CHUNK;
	if (room == 0 || hga_buf_reserve(q, room, NULL) < 0) {
		hga_watch_stop(m->loop, w); /* until hga_proc_resume */
		return;
	}
	n = read(w->fd, q->data + q->len, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		q->len += (size_t)n;
		q->data[q->len] = '\0';
		if (q->len == QUEUE_MAX) {
			hga_watch_stop(m->loop, w);
			hga_timer_stop(m->loop, &m->linger);
		}
	} else {
		close_out(m, i);
	}
	if (progress(m))
		maybe_finish(m);
}

void hga_proc_resume(struct hga_proc *p)
{
	struct hga_proc_impl *m = p->impl;
	int i;

	if (m == NULL)
		return;
	for (i = 1; i <= 2; i++) {
		if (m->fd[i] < 0 || m->io_w[i].running ||
		    queue(p, i)->len >= QUEUE_MAX)
			continue;
		if (hga_watch_start(m->loop, &m->io_w[i], HGA_READ, NULL) < 0)
			close_out(m, i);
	}
	if (m->exited && !hga_timer_running(&m->linger))
		start_linger(m);
}

static void after_input(struct hga_proc_impl *m)
{
	if (m->in.len > 0)
		return;
	hga_watch_stop(m->loop, &m->io_w[0]);
	if (!m->in_open)
		close_io(m, 0);
	(void)progress(m);
}

static void on_input(struct hga_watch *w, int events)
{
	struct hga_proc_impl *m = w->data;
	ssize_t n = write(w->fd, m->in.data, m->in.len);

	(void)events; /* write tells */
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* the child does not want it: no error of ours */
		m->in_open = false;
		hga_buf_clear(&m->in);
	} else {
		hga_buf_consume(&m->in, (size_t)n);
	}
	after_input(m);
}

int hga_proc_write(struct hga_proc *p, const void *data, size_t n,
                   struct hga_err *err)
{
	struct hga_proc_impl *m = p->impl;
	int r;

	if (m == NULL || m->fd[0] < 0 || !m->in_open)
		return hga_fail(err, HGA_IO, 0, "Closed",
		                "standard input of the command is closed");
	if (n == 0)
		return 0;
	r = hga_buf_add(&m->in, data, n, err);
	if (r < 0)
		return r;
	return hga_watch_start(m->loop, &m->io_w[0], HGA_WRITE, err);
}

void hga_proc_close_stdin(struct hga_proc *p)
{
	struct hga_proc_impl *m = p->impl;

	if (m == NULL)
		return;
	m->in_open = false;
	if (m->in.len == 0)
		close_io(m, 0);
}

size_t hga_proc_pending(const struct hga_proc *p)
{
	return p->impl != NULL ? p->impl->in.len : 0;
}

void hga_proc_kill(struct hga_proc *p, int signo)
{
	if (p->impl != NULL)
		send_signal(p->impl, signo);
}

void hga_proc_release(struct hga_proc *p)
{
	hga_op_cancel(&p->base);
	hga_buf_release(&p->out);
	hga_buf_release(&p->errq);
}

/* ---- start ---- */

/* Descriptors of the child: `from` is ours or a duplicate in `dups`. */
struct plumbing {
	posix_spawn_file_actions_t fa;
	int child[3]; /* the child's ends of our pipes */
	int dups[MAX_KEEP + 3];
	size_t n_dups;
	int lowest; /* duplicates stay above every number of the child */
};

static void plumbing_release(struct plumbing *pl)
{
	size_t i;

	posix_spawn_file_actions_destroy(&pl->fa);
	for (i = 0; i < 3; i++)
		close_fd(&pl->child[i]);
	for (i = 0; i < pl->n_dups; i++)
		close_fd(&pl->dups[i]);
}

/* `from` becomes number `to` in the child.  What lies among the child's
 * numbers is duplicated first, so that no dup2 overwrites a later source. */
static int plumb(struct plumbing *pl, int from, int to, struct hga_err *err)
{
	if (from < pl->lowest) {
		if (pl->n_dups >= MAX_KEEP + 3)
			return hga_fail(err, HGA_USAGE, 0, "Spawn",
			                "too many descriptors for a child");
		from = fcntl(from, F_DUPFD_CLOEXEC, pl->lowest);
		if (from < 0)
			return hga_fail(err, HGA_IO, errno, "Spawn",
			                "duplicate a descriptor");
		pl->dups[pl->n_dups++] = from;
	}
	if (posix_spawn_file_actions_adddup2(&pl->fa, from, to) != 0)
		return hga_fail_mem(err);
	return 0;
}

static int make_pipe(struct hga_proc_impl *m, struct plumbing *pl, int i,
                     struct hga_err *err)
{
	int fds[2], ours = i == 0 ? 1 : 0;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return hga_fail(err, HGA_IO, errno, "Spawn", "pipe");
	m->fd[i] = m->io_w[i].fd = fds[ours];
	pl->child[i] = fds[!ours];
	if (fcntl(fds[ours], F_SETFL, O_NONBLOCK) < 0)
		return hga_fail(err, HGA_IO, errno, "Spawn", "pipe");
	return plumb(pl, pl->child[i], i, err);
}

static int one_stream(struct hga_proc_impl *m, struct plumbing *pl, int i,
                      enum hga_proc_io how, int fd, struct hga_err *err)
{
	int flags = i == 0 ? O_RDONLY : O_WRONLY;

	switch (how) {
	case HGA_IO_NULL:
		if (posix_spawn_file_actions_addopen(&pl->fa, i, "/dev/null",
		                                     flags, 0) != 0)
			return hga_fail_mem(err);
		return 0;
	case HGA_IO_PIPE:
		return make_pipe(m, pl, i, err);
	case HGA_IO_INHERIT:
		return plumb(pl, i, i, err);
	case HGA_IO_FD:
		return plumb(pl, fd, i, err);
	case HGA_IO_MERGE:
		if (i != 2)
			break;
		if (posix_spawn_file_actions_adddup2(&pl->fa, 1, 2) != 0)
			return hga_fail_mem(err);
		return 0;
	}
	return hga_fail(err, HGA_BUG, 0, NULL, "bad stream of a child");
}

static bool is_kept(const int *keep, int fd)
{
	for (; keep != NULL && keep[0] >= 0; keep += 2)
		if (keep[1] == fd)
			return true;
	return false;
}

/* Libraries open descriptors without CLOEXEC (libcurl's wake-up pair). */
static int close_rest(struct plumbing *pl, const int *keep)
{
	int fd;

	for (fd = 3; fd < pl->lowest; fd++)
		if (!is_kept(keep, fd) &&
		    posix_spawn_file_actions_addclose(&pl->fa, fd) != 0)
			return -1;
	if (posix_spawn_file_actions_addclosefrom_np(&pl->fa, pl->lowest) != 0)
		return -1;
	return 0;
}

static int plumb_all(struct hga_proc_impl *m, struct plumbing *pl,
                     const struct hga_proc_args *a, struct hga_err *err)
{
	const int *k;
	int r;

	pl->lowest = 3;
	for (k = a->keep; k != NULL && k[0] >= 0; k += 2)
		if (k[1] >= pl->lowest)
			pl->lowest = k[1] + 1;
	if (pl->lowest > MAX_CHILD_FD)
		return hga_fail(err, HGA_USAGE, 0, "Spawn",
		                "descriptor number of a child above %d",
		                MAX_CHILD_FD - 1);
	if ((r = one_stream(m, pl, 0, a->in, a->in_fd, err)) < 0 ||
	    (r = one_stream(m, pl, 1, a->out, a->out_fd, err)) < 0 ||
	    (r = one_stream(m, pl, 2, a->err, a->err_fd, err)) < 0)
		return r;
	for (k = a->keep; k != NULL && k[0] >= 0; k += 2)
		if ((r = plumb(pl, k[0], k[1], err)) < 0)
			return r;
	if (close_rest(pl, a->keep) < 0)
		return hga_fail_mem(err);
	if (a->cwd != NULL &&
	    posix_spawn_file_actions_addchdir_np(&pl->fa, a->cwd) != 0)
		return hga_fail_mem(err);
	return 0;
}

static int set_attr(posix_spawnattr_t *at, const struct hga_proc_args *a)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t none, reset;

	sigemptyset(&none);
	sigemptyset(&reset);
	sigaddset(&reset, SIGPIPE);
	sigaddset(&reset, SIGXFSZ);
	if (a->session)
		flags |= POSIX_SPAWN_SETSID;
	else if (!a->foreground)
		flags |= POSIX_SPAWN_SETPGROUP;
	return posix_spawnattr_setflags(at, flags) |
	       posix_spawnattr_setpgroup(at, 0) |
	       posix_spawnattr_setsigmask(at, &none) |
	       posix_spawnattr_setsigdefault(at, &reset);
}

static int spawn_err(const struct hga_proc_args *a, int sys,
                     struct hga_err *err)
{
	struct stat st;

	if (a->cwd != NULL && stat(a->cwd, &st) < 0)
		return hga_fail(err, HGA_NOTFOUND, errno, "Spawn",
		                "working directory %s", a->cwd);
	return hga_fail(err, sys == ENOENT ? HGA_NOTFOUND : HGA_IO, sys,
	                "Spawn", "cannot run %s", a->argv[0]);
}

/* argv and environment are not written to by the call. */
static char *const *loosen(const char *const *list)
{
	union {
		const char *const *in;
		char *const *out;
	} u = {.in = list};

	return u.out;
}

static int spawn(struct hga_proc_impl *m, struct plumbing *pl,
                 const struct hga_proc_args *a, struct hga_err *err)
{
	char *const *env = a->env != NULL ? loosen(a->env) : environ;
	posix_spawnattr_t at;
	pid_t pid = 0;
	int sys;

	if (posix_spawnattr_init(&at) != 0)
		return hga_fail_mem(err);
	sys = set_attr(&at, a);
	if (sys == 0)
		sys = posix_spawnp(&pid, a->argv[0], &pl->fa, &at,
		                   loosen(a->argv), env);
	posix_spawnattr_destroy(&at);
	if (sys != 0)
		return spawn_err(a, sys, err);
	m->pid = pid;
	m->group = !a->foreground;
	return 0;
}

static void set_callbacks(struct hga_proc_impl *m)
{
	int i;

	m->pid_w.fn = on_exit_pid;
	m->pid_w.data = m;
	for (i = 0; i < 3; i++) {
		m->io_w[i].fn = i == 0 ? on_input : on_output;
		m->io_w[i].data = m;
	}
	m->deadline.fn = on_deadline;
	m->kill.fn = on_kill;
	m->linger.fn = on_linger;
	m->deadline.data = m->kill.data = m->linger.data = m;
	m->hook.fn = on_free;
	m->hook.data = m;
}

static int watch_child(struct hga_proc_impl *m, struct hga_err *err)
{
	int i, r;

	m->pidfd = m->pid_w.fd = pidfd_open(m->pid, 0);
	if (m->pidfd < 0)
		return hga_fail(err, HGA_IO, errno, "Spawn", "pidfd_open");
	if ((r = hga_watch_start(m->loop, &m->pid_w, HGA_READ, err)) < 0)
		return r;
	for (i = 1; i <= 2; i++)
		if (m->fd[i] >= 0 && (r = hga_watch_start(m->loop, &m->io_w[i],
		                                          HGA_READ, err)) < 0)
			return r;
	if (m->in.len > 0 &&
	    (r = hga_watch_start(m->loop, &m->io_w[0], HGA_WRITE, err)) < 0)
		return r;
	if (m->timeout_ms > 0)
		return hga_timer_start(m->loop, &m->deadline, m->timeout_ms,
		                       err);
	return 0;
}

static int prepare_input(struct hga_proc_impl *m, const struct hga_proc_args *a,
                         struct hga_err *err)
{
	m->in_open = a->in == HGA_IO_PIPE && a->in_open;
	hga_buf_init(&m->in, a->in_len > STDIN_MAX ? a->in_len : STDIN_MAX);
	if (a->in != HGA_IO_PIPE || a->in_len == 0)
		return 0;
	return hga_buf_add(&m->in, a->in_data, a->in_len, err);
}

static int launch(struct hga_proc_impl *m, const struct hga_proc_args *a,
                  struct hga_err *err)
{
	struct plumbing pl = {.child = {-1, -1, -1}};
	int r;

	if (posix_spawn_file_actions_init(&pl.fa) != 0)
		return hga_fail_mem(err);
	r = plumb_all(m, &pl, a, err);
	if (r == 0)
		r = spawn(m, &pl, a, err);
	plumbing_release(&pl);
	if (r == 0)
		r = watch_child(m, err);
	return r;
}

int hga_proc_start(struct hga_loop *loop, struct hga_proc *p,
                   const struct hga_proc_args *args, struct hga_err *err)
{
	struct hga_proc_impl *m = hga_calloc(1, sizeof(*m));
	int r;

	if (m == NULL)
		return hga_fail_mem(err);
	m->loop = loop;
	m->pidfd = m->fd[0] = m->fd[1] = m->fd[2] = -1;
	m->timeout_ms = args->timeout_ms;
	set_callbacks(m);
	r = prepare_input(m, args, err);
	if (r == 0)
		r = launch(m, args, err);
	if (r < 0) {
		send_signal(m, SIGKILL);
		reap(m);
		impl_free(m);
		return r;
	}
	if (m->in.len == 0 && !m->in_open)
		close_io(m, 0);
	m->p = p;
	hga_hook_add(loop, &m->hook);
	p->pid = m->pid;
	p->status = p->code = p->signal = 0;
	p->exited = false;
	p->out_eof = m->fd[1] < 0;
	p->err_eof = m->fd[2] < 0;
	hga_buf_init(&p->out, QUEUE_MAX);
	hga_buf_init(&p->errq, QUEUE_MAX);
	p->impl = m;
	hga_op_begin(&p->base, cancel);
	return 0;
}
