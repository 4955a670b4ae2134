/*
 * The event loop (architecture section 3): one epoll descriptor for all
 * watches, a binary heap of timers, an eventfd that signal handlers write to,
 * and libcurl's multi handle, which gets the epoll descriptor as its only
 * extra one.  Without a transfer libcurl is not asked at all.
 */
#include "net/loop.h"

#include "base/mem.h"
#include "net/xfer.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define NSIGNALS 65
/* Newer libcurl shuts TLS connections down in the background: it gets that
 * many milliseconds of attention after the last transfer. */
#define LINGER_MS 2000
#define LINGER_STEP_MS 50
/* So many steps without a wait may follow each other unasked: work that
 * callbacks and tasks hand on goes on before the kernel is asked again. */
#define UNASKED_MAX 4

struct sig {
	void (*fn)(int signo, void *data);
	void *data;
	atomic_int count;
};

struct hga_loop {
	int epfd, evfd;
	int64_t now_ms;
	struct hga_timer **heap;
	size_t n_timers, cap_timers;
	uint64_t seq;
	size_t n_watches, n_ignored;
	struct hga_watch *always;
	struct epoll_event ready[BATCH]; /* of this step; NULL ptr: skip */
	int n_ready, at_ready;
	struct hga_watch *always_at; /* next one in this step */
	CURLM *multi;
	struct hga_xfer *xfers;
	size_t n_xfers;
	int64_t linger_until, linger_next;
	unsigned unasked;
	bool trim;
	bool local_only;
	struct hga_hook *hooks;
	atomic_bool signalled;
	struct sig sigs[NSIGNALS];
};

static struct hga_loop *_Atomic current;

/* ---- clock ---- */

static int64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

/* ---- life ---- */

struct hga_loop *hga_loop_current(void)
{
	return current;
}

static int open_fds(struct hga_loop *loop, struct hga_err *err)
{
	struct epoll_event ev = {.events = EPOLLIN};

	loop->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epfd < 0)
		return hga_fail(err, HGA_IO, errno, "Loop", "epoll_create");
	loop->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->evfd < 0)
		return hga_fail(err, HGA_IO, errno, "Loop", "eventfd");
	if (epoll_ctl(loop->epfd, EPOLL_CTL_ADD, loop->evfd, &ev) < 0)
		return hga_fail(err, HGA_IO, errno, "Loop", "epoll_ctl");
	return 0;
}

struct hga_loop *hga_loop_new(struct hga_err *err)
{
	struct sigaction sa = {.sa_handler = SIG_IGN};
	struct hga_loop *loop = hga_calloc(1, sizeof(*loop));

	if (loop == NULL) {
		(void)hga_fail_mem(err); /* the result is NULL */
		return NULL;
	}
	loop->epfd = loop->evfd = -1;
	loop->now_ms = clock_ms();
	if (open_fds(loop, err) < 0) {
		hga_loop_free(loop);
		return NULL;
	}
	sigaction(SIGPIPE, &sa, NULL);
	current = loop;
	return loop;
}

static void restore_signals(struct hga_loop *loop)
{
	int i;

	for (i = 1; i < NSIGNALS; i++)
		if (loop->sigs[i].fn != NULL)
			signal(i, SIG_DFL);
}

void hga_hook_add(struct hga_loop *loop, struct hga_hook *h)
{
	h->prev = NULL;
	h->next = loop->hooks;
	if (h->next != NULL)
		h->next->prev = h;
	loop->hooks = h;
	h->linked = true;
}

void hga_hook_remove(struct hga_loop *loop, struct hga_hook *h)
{
	if (!h->linked)
		return;
	if (h->prev != NULL)
		h->prev->next = h->next;
	else
		loop->hooks = h->next;
	if (h->next != NULL)
		h->next->prev = h->prev;
	h->prev = h->next = NULL;
	h->linked = false;
}

static void run_hooks(struct hga_loop *loop)
{
	struct hga_hook *h;

	while ((h = loop->hooks) != NULL) {
		hga_hook_remove(loop, h);
		h->fn(h);
	}
}

void hga_loop_free(struct hga_loop *loop)
{
	if (loop == NULL)
		return;
	run_hooks(loop);
	restore_signals(loop);
	if (current == loop)
		current = NULL;
	while (loop->xfers != NULL)
		hga_loop_xfer_remove(loop, loop->xfers);
	if (loop->multi != NULL) {
		curl_multi_cleanup(loop->multi);
		curl_global_cleanup();
	}
	if (loop->epfd >= 0)
		close(loop->epfd);
	if (loop->evfd >= 0)
		close(loop->evfd);
	hga_free(loop->heap);
	hga_free(loop);
}

int64_t hga_loop_now(const struct hga_loop *loop)
{
	return loop->now_ms;
}

bool hga_loop_busy(const struct hga_loop *loop)
{
	return loop->n_timers > 0 || loop->n_xfers > 0 ||
	       loop->n_watches > loop->n_ignored;
}

void hga_loop_local_only(struct hga_loop *loop, bool on)
{
	loop->local_only = on;
}

bool hga_loop_is_local_only(const struct hga_loop *loop)
{
	return loop->local_only;
}

/* ---- timers: a binary heap; heap_at is the place plus one ---- */

static bool before(const struct hga_timer *a, const struct hga_timer *b)
{
	return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

static void put(struct hga_loop *loop, size_t i, struct hga_timer *t)
{
	loop->heap[i] = t;
	t->heap_at = i + 1;
}

static void sift_up(struct hga_loop *loop, size_t i)
{
	struct hga_timer *t = loop->heap[i];

	while (i > 0 && before(t, loop->heap[(i - 1) / 2])) {
		put(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(loop, i, t);
}

static void sift_down(struct hga_loop *loop, size_t i)
{
	struct hga_timer *t = loop->heap[i];
	size_t kid;

	while ((kid = 2 * i + 1) < loop->n_timers) {
		if (kid + 1 < loop->n_timers &&
		    before(loop->heap[kid + 1], loop->heap[kid]))
			kid++;
		if (!before(loop->heap[kid], t))
			break;
		put(loop, i, loop->heap[kid]);
		i = kid;
	}
	put(loop, i, t);
}

static int grow_heap(struct hga_loop *loop, struct hga_err *err)
{
	size_t cap = loop->cap_timers > 0 ? loop->cap_timers * 2 : 64;
	struct hga_timer **heap;

	if (loop->n_timers < loop->cap_timers)
		return 0;
	heap = hga_realloc(loop->heap, cap * sizeof(struct hga_timer *));
	if (heap == NULL)
		return hga_fail_mem(err);
	loop->heap = heap;
	loop->cap_timers = cap;
	return 0;
}

int hga_timer_start(struct hga_loop *loop, struct hga_timer *t,
                    int64_t delay_ms, struct hga_err *err)
{
	const int64_t most = (int64_t)1000 * 86400 * 36500;

	hga_timer_stop(loop, t);
	if (grow_heap(loop, err) < 0)
		return -HGA_MEMORY;
	if (delay_ms > most)
		delay_ms = most;
	/* Rounded up: never early, not even by a part of a millisecond. */
	t->due_ms = delay_ms <= 0 ? clock_ms()
	                          : (clock_ns() + 999999) / 1000000 + delay_ms;
	t->seq = loop->seq++;
	loop->heap[loop->n_timers] = t;
	sift_up(loop, loop->n_timers++);
	return 0;
}

void hga_timer_stop(struct hga_loop *loop, struct hga_timer *t)
{
	struct hga_timer *last;
	size_t i;

	if (t->heap_at == 0)
		return;
	i = t->heap_at - 1;
	t->heap_at = 0;
	last = loop->heap[--loop->n_timers];
	if (last == t)
		return;
	put(loop, i, last);
	sift_up(loop, i);
	sift_down(loop, last->heap_at - 1);
}

static void run_timers(struct hga_loop *loop)
{
	uint64_t end = loop->seq; /* those started from now on: next step */
	int64_t now = clock_ms();
	struct hga_timer *t;

	while (loop->n_timers > 0) {
		t = loop->heap[0];
		if (t->due_ms > now || t->seq >= end)
			return;
		hga_timer_stop(loop, t);
		t->fn(t);
	}
}

/* ---- watches ---- */

static uint32_t to_epoll(int events)
{
	uint32_t r = 0;

	if (events & HGA_READ)
		r |= EPOLLIN;
	if (events & HGA_WRITE)
		r |= EPOLLOUT;
	if (events & HGA_HUP)
		r |= EPOLLRDHUP;
	return r;
}

static int from_epoll(uint32_t ev)
{
	int r = 0;

	if (ev & (EPOLLIN | EPOLLPRI))
		r |= HGA_READ;
	if (ev & EPOLLOUT)
		r |= HGA_WRITE;
	if (ev & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		r |= HGA_HUP;
	return r;
}

static void count_watch(struct hga_loop *loop, struct hga_watch *w)
{
	if (w->running)
		return;
	w->running = true;
	w->ignored = false;
	loop->n_watches++;
}

int hga_watch_start(struct hga_loop *loop, struct hga_watch *w, int events,
                    struct hga_err *err)
{
	struct epoll_event ev = {.events = to_epoll(events), .data.ptr = w};
	int op = w->running ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (!w->always && epoll_ctl(loop->epfd, op, w->fd, &ev) < 0) {
		/* Regular files: epoll refuses what is always ready. */
		if (errno != EPERM || w->running)
			return hga_fail(err, HGA_IO, errno, "Watch",
			                "watch descriptor %d", w->fd);
		w->always = true;
		w->next_ = loop->always;
		loop->always = w;
	}
	w->events = events;
	count_watch(loop, w);
	return 0;
}

static void unlink_always(struct hga_loop *loop, struct hga_watch *w)
{
	struct hga_watch **p = &loop->always;

	if (loop->always_at == w)
		loop->always_at = w->next_;
	while (*p != NULL && *p != w)
		p = &(*p)->next_;
	if (*p == w)
		*p = w->next_;
	w->always = false;
	w->next_ = NULL;
}

static void forget_ready(struct hga_loop *loop, const struct hga_watch *w)
{
	int i;

	for (i = loop->at_ready; i < loop->n_ready; i++)
		if (loop->ready[i].data.ptr == w)
			loop->ready[i].data.ptr = NULL;
}

void hga_watch_stop(struct hga_loop *loop, struct hga_watch *w)
{
	if (!w->running)
		return;
	if (w->always)
		unlink_always(loop, w);
	else
		(void)epoll_ctl(loop->epfd, EPOLL_CTL_DEL, w->fd,
		                NULL); /* already gone when it was closed */
	forget_ready(loop, w);
	w->running = false;
	loop->n_watches--;
	if (w->ignored)
		loop->n_ignored--;
	w->ignored = false;
}

void hga_loop_ignore(struct hga_loop *loop, struct hga_watch *w)
{
	if (!w->running || w->ignored)
		return;
	w->ignored = true;
	loop->n_ignored++;
}

static void collect(struct hga_loop *loop, int timeout_ms)
{
	int n = epoll_wait(loop->epfd, loop->ready, BATCH, timeout_ms);

	loop->at_ready = 0;
	loop->n_ready = n > 0 ? n : 0;
}

static void run_watches(struct hga_loop *loop)
{
	struct hga_watch *w;
	uint32_t ev;

	while (loop->at_ready < loop->n_ready) {
		w = loop->ready[loop->at_ready].data.ptr;
		ev = loop->ready[loop->at_ready].events;
		loop->at_ready++;
		if (w != NULL)
			w->fn(w, from_epoll(ev));
	}
	loop->always_at = loop->always;
	while (loop->always_at != NULL) {
		w = loop->always_at;
		loop->always_at = w->next_;
		if (w->events & (HGA_READ | HGA_WRITE))
			w->fn(w, w->events & (HGA_READ | HGA_WRITE));
	}
}

/* ---- wake-up and signals ---- */

void hga_loop_wake(struct hga_loop *loop)
{
	const uint64_t one = 1;
	int saved = errno;

	if (loop != NULL && write(loop->evfd, &one, sizeof(one)) < 0) {
		/* EAGAIN: the counter is full, so the loop wakes anyway. */
	}
	errno = saved;
}

static void on_signal(int signo)
{
	struct hga_loop *loop = current;

	if (loop == NULL || signo <= 0 || signo >= NSIGNALS)
		return;
	atomic_fetch_add(&loop->sigs[signo].count, 1);
	atomic_store(&loop->signalled, true);
	hga_loop_wake(loop);
}

int hga_loop_signal(struct hga_loop *loop, int signo,
                    void (*fn)(int signo, void *data), void *data,
                    struct hga_err *err)
{
	struct sigaction sa = {.sa_flags = SA_RESTART};

	if (signo <= 0 || signo >= NSIGNALS)
		return hga_fail(err, HGA_USAGE, 0, "Signal",
		                "no such signal: %d", signo);
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = fn != NULL ? on_signal : SIG_DFL;
	loop->sigs[signo].fn = fn;
	loop->sigs[signo].data = data;
	atomic_store(&loop->sigs[signo].count, 0);
	if (sigaction(signo, &sa, NULL) < 0) {
		loop->sigs[signo].fn = NULL;
		return hga_fail(err, HGA_USAGE, errno, "Signal",
		                "handle signal %d", signo);
	}
	return 0;
}

static void run_signals(struct hga_loop *loop)
{
	int i, n;

	if (!atomic_exchange(&loop->signalled, false))
		return;
	for (i = 1; i < NSIGNALS; i++) {
		n = atomic_exchange(&loop->sigs[i].count, 0);
		while (n-- > 0 && loop->sigs[i].fn != NULL)
			loop->sigs[i].fn(i, loop->sigs[i].data);
	}
}

static void drain_wake(struct hga_loop *loop)
{
	uint64_t n;
	int i;

	for (i = 0; i < loop->n_ready; i++)
		if (loop->ready[i].data.ptr == NULL &&
		    read(loop->evfd, &n, sizeof(n)) < 0)
			return; /* EAGAIN: nothing left to drain */
}

/* ---- libcurl ---- */

/* libcurl's copies of headers hold tokens and signatures: its memory is wiped
 * when it is given back, whatever it held. */
static void wiping_free(void *p)
{
	hga_wipe(p, malloc_usable_size(p));
	free(p);
}

static void *wiping_realloc(void *p, size_t n)
{
	size_t old = malloc_usable_size(p);
	void *q = malloc(n != 0 ? n : 1);

	if (q == NULL || p == NULL)
		return q;
	memcpy(q, p, old < n ? old : n);
	wiping_free(p);
	return q;
}

CURLM *hga_loop_multi(struct hga_loop *loop, struct hga_err *err)
{
	if (loop->multi != NULL)
		return loop->multi;
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, wiping_free,
	                         wiping_realloc, strdup, calloc) != CURLE_OK) {
		hga_fail(err, HGA_MEMORY, 0, "Curl", "cannot start libcurl");
		return NULL;
	}
	loop->multi = curl_multi_init();
	if (loop->multi == NULL) {
		curl_global_cleanup();
		hga_fail_mem(err);
		return NULL;
	}
	curl_multi_setopt(loop->multi, CURLMOPT_PIPELINING,
	                  (long)CURLPIPE_NOTHING);
	curl_multi_setopt(loop->multi, CURLMOPT_MAXCONNECTS, 32L);
	return loop->multi;
}

int hga_loop_xfer_add(struct hga_loop *loop, struct hga_xfer *x,
                      struct hga_err *err)
{
	CURLMcode rc;

	if (x->running)
		return hga_fail(err, HGA_BUG, 0, NULL,
		                "transfer started twice");
	rc = curl_multi_add_handle(loop->multi, x->easy);
	if (rc == CURLM_OUT_OF_MEMORY)
		return hga_fail_mem(err);
	if (rc != CURLM_OK)
		return hga_fail(err, HGA_BUG, 0, "Curl",
		                "curl_multi_add_handle: %s",
		                curl_multi_strerror(rc));
	x->prev = NULL;
	x->next = loop->xfers;
	if (x->next != NULL)
		x->next->prev = x;
	loop->xfers = x;
	loop->n_xfers++;
	x->running = true;
	return 0;
}

void hga_loop_xfer_remove(struct hga_loop *loop, struct hga_xfer *x)
{
	if (!x->running)
		return;
	(void)curl_multi_remove_handle(loop->multi,
	                               x->easy); /* only fails for our bugs */
	if (x->prev != NULL)
		x->prev->next = x->next;
	else
		loop->xfers = x->next;
	if (x->next != NULL)
		x->next->prev = x->prev;
	x->prev = x->next = NULL;
	x->running = false;
	loop->n_xfers--;
	loop->linger_until = clock_ms() + LINGER_MS;
}

static bool lingers(const struct hga_loop *loop)
{
	return loop->n_xfers == 0 && loop->now_ms < loop->linger_until;
}

static int run_curl(struct hga_loop *loop, struct hga_err *err)
{
	struct hga_xfer *x;
	int running, left;
	CURLMcode rc = curl_multi_perform(loop->multi, &running);
	CURLcode res;
	CURLMsg *m;

	if (rc == CURLM_OUT_OF_MEMORY)
		return hga_fail_mem(err);
	if (rc != CURLM_OK)
		return hga_fail(err, HGA_BUG, 0, "Curl",
		                "curl_multi_perform: %s",
		                curl_multi_strerror(rc));
	while ((m = curl_multi_info_read(loop->multi, &left)) != NULL) {
		if (m->msg != CURLMSG_DONE)
			continue;
		res = m->data.result; /* m dies with the handle's removal */
		x = NULL;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
		if (x->leaving != NULL)
			x->leaving(x, res);
		hga_loop_xfer_remove(loop, x);
		x->done(x, res);
	}
	return 0;
}

/* ---- the step ---- */

static int wait_ms(struct hga_loop *loop, int max_ms)
{
	int64_t left;

	if (loop->always != NULL)
		return 0;
	if (loop->n_timers == 0)
		return max_ms;
	left = loop->heap[0]->due_ms - clock_ms();
	if (left < 0)
		left = 0;
	if (max_ms >= 0 && left > max_ms)
		left = max_ms;
	return left > 3600000 ? 3600000 : (int)left;
}

static int wait_curl(struct hga_loop *loop, int timeout_ms, struct hga_err *err)
{
	struct curl_waitfd extra = {.fd = loop->epfd,
	                            .events = CURL_WAIT_POLLIN};
	CURLMcode rc;

	/* Without a limit libcurl would return at once. */
	if (timeout_ms < 0)
		timeout_ms = 3600000;
	rc = curl_multi_poll(loop->multi, &extra, 1, timeout_ms, NULL);
	if (rc == CURLM_OUT_OF_MEMORY)
		return hga_fail_mem(err);
	/* Other failures are interrupted waits: the next step tries again. */
	collect(loop, 0);
	return 0;
}

/* Without transfers its descriptors are not watched: now and then it is asked.
 */
static int linger(struct hga_loop *loop, struct hga_err *err)
{
	if (!lingers(loop) || loop->now_ms < loop->linger_next)
		return 0;
	loop->linger_next = loop->now_ms + LINGER_STEP_MS;
	return run_curl(loop, err);
}

/* A timer of the last step's millisecond is due again. */
static bool goes_on(struct hga_loop *loop)
{
	if (loop->n_timers == 0 || loop->heap[0]->due_ms > loop->now_ms ||
	    loop->always != NULL || atomic_load(&loop->signalled) ||
	    loop->unasked >= UNASKED_MAX || clock_ms() != loop->now_ms) {
		loop->unasked = 0;
		return false;
	}
	loop->unasked++;
	loop->at_ready = loop->n_ready = 0;
	return true;
}

void hga_loop_trim(struct hga_loop *loop)
{
	loop->trim = true;
}

static void trim(struct hga_loop *loop)
{
#ifdef __GLIBC__
	(void)malloc_trim(0); /* whether there was something */
#endif
	loop->trim = false;
}

int hga_loop_step(struct hga_loop *loop, int max_ms, struct hga_err *err)
{
	bool curl = loop->n_xfers > 0;
	int ms = wait_ms(loop, max_ms), r;

	if (lingers(loop) && (ms < 0 || ms > LINGER_STEP_MS))
		ms = LINGER_STEP_MS;
	if (loop->trim && ms != 0)
		trim(loop);
	if (curl && (r = wait_curl(loop, ms, err)) < 0)
		return r;
	if (!curl && !goes_on(loop))
		collect(loop, ms);
	loop->now_ms = clock_ms();
	drain_wake(loop);
	run_signals(loop);
	r = curl ? run_curl(loop, err) : linger(loop, err);
	if (r < 0)
		return r;
	run_watches(loop);
	run_timers(loop);
	return 0;
}
