/*
 * net/loop: order of timers, stopping inside callbacks, many timers, watches,
 * regular files, signals, wake-up, busy.
 */
#include "tap.h"

#include "net/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct hga_loop *loop;
static struct hga_err err;
static char trace[256];

static void mark(char c)
{
	size_t n = strlen(trace);

	if (n + 1 < sizeof(trace)) {
		trace[n] = c;
		trace[n + 1] = '\0';
	}
}

static void step(int ms)
{
	if (hga_loop_step(loop, ms, &err) < 0)
		ok(false, "step failed: %s", err.msg);
}

static int64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- timers ---- */

static void on_mark(struct hga_timer *t)
{
	mark(*(const char *)t->data);
}

static void test_order(void)
{
	static char names[] = "abcd";
	struct hga_timer t[4];
	const int delay[4] = {30, 10, 20, 10};
	int64_t start = ms_now();
	int i, r = 0;

	memset(t, 0, sizeof(t));
	trace[0] = '\0';
	for (i = 0; i < 4; i++) {
		t[i].fn = on_mark;
		t[i].data = &names[i];
		r |= hga_timer_start(loop, &t[i], delay[i], &err);
	}
	is_int(r, 0, "timers start");
	ok(hga_loop_busy(loop), "running timers make the loop busy");
	while (hga_loop_busy(loop))
		step(-1);
	is_str(trace, "bdca", "timers fire by time, equal ones in start order");
	ok(ms_now() - start >= 30, "no timer fires early");
}

static struct hga_timer chain;
static int fired;

static void on_again(struct hga_timer *t)
{
	fired++;
	if (hga_timer_start(loop, t, 0, &err) < 0)
		ok(false, "restart");
}

static void test_restart(void)
{
	fired = 0;
	chain.fn = on_again;
	ok(hga_timer_start(loop, &chain, 0, &err) == 0 && fired == 0,
	   "start calls no callback");
	step(0);
	is_int(fired, 1, "a timer restarted in its callback waits for a step");
	step(-1);
	is_int(fired, 2, "and fires in the next one");
	hga_timer_stop(loop, &chain);
	hga_timer_stop(loop, &chain);
	step(0);
	is_int(fired, 2,
	       "a stopped timer stays silent; stop twice is harmless");
	ok(!hga_loop_busy(loop), "nothing runs, not busy");
}

static struct hga_timer pair[2];

static void on_first(struct hga_timer *t)
{
	(void)t;
	mark('1');
	hga_timer_stop(loop, &pair[1]);
}

static void on_second(struct hga_timer *t)
{
	(void)t;
	mark('2');
}

static void test_stop_other(void)
{
	trace[0] = '\0';
	pair[0].fn = on_first;
	pair[1].fn = on_second;
	if (hga_timer_start(loop, &pair[0], 0, &err) < 0 ||
	    hga_timer_start(loop, &pair[1], 0, &err) < 0)
		ok(false, "start");
	step(-1);
	step(0);
	is_str(trace, "1", "a timer stopped by another one due now is silent");
}

#define MANY 20000
static struct hga_timer many[MANY];
static int64_t last_due;
static int wrong_order;

static void on_many(struct hga_timer *t)
{
	if (t->due_ms < last_due)
		wrong_order++;
	last_due = t->due_ms;
	fired++;
}

static void test_many(void)
{
	unsigned seed = 12345;
	int i, stopped = 0;

	fired = wrong_order = 0;
	last_due = 0;
	for (i = 0; i < MANY; i++) {
		many[i].fn = on_many;
		seed = seed * 1103515245u + 12345u;
		if (hga_timer_start(loop, &many[i], (seed >> 16) % 50, &err) <
		    0)
			ok(false, "start");
	}
	for (i = 0; i < MANY; i += 3) {
		hga_timer_stop(loop, &many[i]);
		stopped++;
	}
	while (hga_loop_busy(loop))
		step(-1);
	is_int(fired, MANY - stopped, "20000 timers, a third stopped");
	is_int(wrong_order, 0, "in the order of their times");
}

/* ---- watches ---- */

struct end {
	struct hga_watch w;
	struct end *other;
	int fd, seen, events;
};

static void on_stop_other(struct hga_watch *w, int events)
{
	struct end *e = w->data;
	char c;

	e->seen++;
	e->events = events;
	if (read(e->fd, &c, 1) < 0)
		e->seen += 100;
	if (e->other != NULL) {
		hga_watch_stop(loop, &e->other->w);
		memset(&e->other->w, 0xee, sizeof(e->other->w));
	}
}

static void start_end(struct end *e, int fd, struct end *other)
{
	memset(e, 0, sizeof(*e));
	e->fd = fd;
	e->other = other;
	e->w.fd = fd;
	e->w.fn = on_stop_other;
	e->w.data = e;
	if (hga_watch_start(loop, &e->w, HGA_READ, &err) < 0)
		ok(false, "watch: %s", err.msg);
}

static void test_watch_stop(void)
{
	struct end a, b;
	int p[2], q[2];

	if (pipe(p) < 0 || pipe(q) < 0)
		return;
	start_end(&a, p[0], &b);
	start_end(&b, q[0], &a);
	if (write(p[1], "x", 1) != 1 || write(q[1], "x", 1) != 1)
		return;
	step(-1);
	is_int(a.seen + b.seen, 1,
	       "a watch stopped and freed by another one gets no event");
	hga_watch_stop(loop, a.seen ? &a.w : &b.w);
	ok(!hga_loop_busy(loop), "all stopped, not busy");
	close(p[0]);
	close(p[1]);
	close(q[0]);
	close(q[1]);
}

static void on_count(struct hga_watch *w, int events)
{
	struct end *e = w->data;

	e->seen++;
	e->events = events;
}

static void test_watch_events(void)
{
	struct end e;
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) < 0)
		return;
	start_end(&e, s[0], NULL);
	e.w.fn = on_count;
	step(0);
	is_int(e.seen, 0, "nothing to read, no event");
	ok(hga_watch_start(loop, &e.w, HGA_WRITE, &err) == 0,
	   "wanted events change while it runs");
	step(0);
	is_int(e.events, HGA_WRITE, "writable");
	ok(hga_watch_start(loop, &e.w, HGA_HUP, &err) == 0, "only hang-up");
	e.seen = 0;
	if (write(s[1], "x", 1) != 1)
		return;
	step(0);
	is_int(e.seen, 0, "data is not reported when only HUP is wanted");
	close(s[1]);
	step(1000);
	ok(e.seen == 1 && (e.events & HGA_HUP), "the peer's close is");
	hga_loop_ignore(loop, &e.w);
	ok(!hga_loop_busy(loop), "an ignored watch does not count as busy");
	hga_watch_stop(loop, &e.w);
	hga_watch_stop(loop, &e.w);
	ok(!hga_loop_busy(loop), "stop twice is harmless");
	close(s[0]);
	e.w.fd = s[0];
	ok(hga_watch_start(loop, &e.w, HGA_READ, &err) == -HGA_IO,
	   "a closed descriptor is kind io");
}

static void on_forever(struct hga_timer *t)
{
	fired++;
	if (hga_timer_start(loop, t, 0, &err) < 0)
		ok(false, "restart");
}

static void test_fair(void)
{
	struct hga_timer endless = {.fn = on_forever};
	struct end e;
	int s[2], steps = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) < 0)
		return;
	start_end(&e, s[0], NULL);
	e.w.fn = on_count;
	ok(hga_timer_start(loop, &endless, 0, &err) == 0, "a chain of timers");
	for (; steps < 20; steps++)
		step(0);
	if (write(s[1], "x", 1) != 1)
		return;
	for (steps = 0; e.seen == 0 && steps < 20; steps++)
		step(0);
	ok(e.seen > 0 && steps <= 6, "does not keep descriptors waiting (%d)",
	   steps);
	hga_timer_stop(loop, &endless);
	hga_watch_stop(loop, &e.w);
	close(s[0]);
	close(s[1]);
}

static void test_file(void)
{
	struct end e;
	int fd = open("/proc/self/exe", O_RDONLY);

	start_end(&e, fd, NULL);
	e.w.fn = on_count;
	step(-1);
	step(-1);
	is_int(e.seen, 2, "a regular file is always ready");
	hga_watch_stop(loop, &e.w);
	step(0);
	is_int(e.seen, 2, "until it is stopped");
	close(fd);
}

/* ---- signals, wake-up ---- */

static int signals;

static void on_signal(int signo, void *data)
{
	signals += signo == SIGUSR1 && data == &signals;
}

static void test_signal(void)
{
	ok(hga_loop_signal(loop, SIGUSR1, on_signal, &signals, &err) == 0,
	   "signal handler installed");
	raise(SIGUSR1);
	raise(SIGUSR1);
	is_int(signals, 0, "the function does not run in the handler");
	step(-1);
	is_int(signals, 2, "but in the next step, once for each signal");
	ok(hga_loop_signal(loop, SIGUSR1, NULL, NULL, &err) == 0, "restored");
	ok(signal(SIGUSR1, SIG_DFL) == SIG_DFL, "to the default");
	ok(hga_loop_signal(loop, SIGKILL, on_signal, NULL, &err) == -HGA_USAGE,
	   "SIGKILL cannot be handled");
}

static void *waker(void *arg)
{
	struct timespec ts = {.tv_nsec = 20000000};

	nanosleep(&ts, NULL);
	hga_loop_wake(arg);
	return NULL;
}

static void test_wake(void)
{
	int64_t start = ms_now();
	pthread_t th;

	step(15);
	ok(ms_now() - start >= 14, "an idle step lasts as long as allowed");
	hga_loop_wake(hga_loop_current());
	step(-1);
	ok(true, "a wake-up before the step ends its wait");
	if (pthread_create(&th, NULL, waker, loop) != 0)
		return;
	step(-1);
	ok(true, "a wake-up during the wait ends it");
	pthread_join(th, NULL);
}

static int open_fds(void)
{
	int i, n = 0;

	for (i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

int main(void)
{
	int fds = open_fds();

	loop = hga_loop_new(&err);
	if (!ok(loop != NULL, "loop opens"))
		return done();
	ok(hga_loop_current() == loop, "it is the current one");
	ok(!hga_loop_busy(loop), "a new loop is not busy");
	test_order();
	test_restart();
	test_stop_other();
	test_many();
	test_watch_stop();
	test_watch_events();
	test_fair();
	test_file();
	test_signal();
	test_wake();
	hga_loop_free(loop);
	hga_loop_free(NULL);
	ok(hga_loop_current() == NULL, "no current loop afterwards");
	is_int(open_fds(), fds, "no descriptor leaks");
	return done();
}
