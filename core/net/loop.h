/*
 * The event loop: timers, descriptor watches, signals, wake-up, curl multi.
 *
 * One thread, CLOCK_MONOTONIC.  No function here calls a callback; callbacks
 * come from hga_loop_step only.  Timers and watches are caller-owned structs
 * (zero them first); start and stop are idempotent and allowed anywhere, also
 * inside callbacks, also on each other.  A stopped watch or timer gets no
 * callback even if its event was already collected in this step.
 * Idle watches cost nothing per step (one epoll descriptor).  One watch per
 * descriptor; a regular file counts as always ready.
 */
#ifndef HGA_NET_LOOP_H
#define HGA_NET_LOOP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hga_loop;

struct hga_timer {
	void (*fn)(struct hga_timer *);
	void *data;
	int64_t due_ms; /* the loop's */
	uint64_t seq;   /* the loop's: equal due times fire in start order */
	size_t heap_at; /* the loop's; 0 = not running (index + 1) */
};

enum {
	HGA_READ = 1,
	HGA_WRITE = 2,
	HGA_HUP = 4 /* peer closed or error */
};

struct hga_watch {
	void (*fn)(struct hga_watch *, int events);
	void *data;
	int fd;
	int events;              /* wanted; the loop's while running */
	bool running;            /* the loop's */
	bool ignored;            /* the loop's: hga_loop_ignore */
	bool always;             /* the loop's: a file epoll refuses */
	struct hga_watch *next_; /* the loop's */
};

/* Loop with epoll, self-pipe and, at first use, a curl multi handle.  SIGPIPE
 * is ignored from then on (children of net/proc get the default again). */
struct hga_loop *hga_loop_new(struct hga_err *err) HGA_MUST_USE;
/* All operations must have ended; closes what the loop owns. */
void hga_loop_free(struct hga_loop *loop);

/*
 * One step: waits at most max_ms (-1: until something happens) for the next
 * timer, watch, wake-up or transfer, then runs what is due.  Returns 0, or
 * -kind when the system refuses (never for EINTR).
 */
int hga_loop_step(struct hga_loop *loop, int max_ms,
                  struct hga_err *err) HGA_MUST_USE;

/* Much was freed, or is about to be: the heap is given back to the system
 * when the loop has to wait next. */
void hga_loop_trim(struct hga_loop *loop);

/* Anything that can still cause an event: running timers, watches (daemon
 * watches excepted, see hga_loop_ignore), transfers. */
bool hga_loop_busy(const struct hga_loop *loop);

/* Milliseconds of CLOCK_MONOTONIC at the start of this step. */
int64_t hga_loop_now(const struct hga_loop *loop);

/* (Re)starts t to fire once, delay_ms >= 0 from the real time now; 0 means
 * the next step.  Fails with memory only. */
int hga_timer_start(struct hga_loop *loop, struct hga_timer *t,
                    int64_t delay_ms, struct hga_err *err) HGA_MUST_USE;
void hga_timer_stop(struct hga_loop *loop, struct hga_timer *t);
static inline bool hga_timer_running(const struct hga_timer *t)
{
	return t->heap_at != 0;
}

/* Watches w->fd for events (HGA_READ|HGA_WRITE; HUP is always reported);
 * on a running watch: changes the wanted events.  Level-triggered. */
int hga_watch_start(struct hga_loop *loop, struct hga_watch *w, int events,
                    struct hga_err *err) HGA_MUST_USE;
/* Must be called before the descriptor is closed. */
void hga_watch_stop(struct hga_loop *loop, struct hga_watch *w);
/* A running watch that hga_loop_busy does not count, until it is stopped. */
void hga_loop_ignore(struct hga_loop *loop, struct hga_watch *w);

/*
 * From now on every connection of net/http and net/dial to an address outside
 * 127.0.0.0/8 (unix sockets excepted) fails with net "LocalOnly", no other
 * name than localhost and *.localhost is resolved and no proxy is used.
 */
void hga_loop_local_only(struct hga_loop *loop, bool on);
bool hga_loop_is_local_only(const struct hga_loop *loop);

/* Signal-safe: makes a waiting step return soon. */
void hga_loop_wake(struct hga_loop *loop);

/*
 * Signals: the handler only counts and writes to the self-pipe; fn runs from
 * the next step.  One function per signal; fn NULL restores the default.
 */
int hga_loop_signal(struct hga_loop *loop, int signo,
                    void (*fn)(int signo, void *data), void *data,
                    struct hga_err *err) HGA_MUST_USE;

/* Something to tidy when the loop is freed (children still dying); fn runs
 * once from hga_loop_free, newest first, and may not add hooks. */
struct hga_hook {
	void (*fn)(struct hga_hook *);
	void *data;
	struct hga_hook *prev, *next; /* the loop's */
	bool linked;                  /* the loop's */
};
void hga_hook_add(struct hga_loop *loop, struct hga_hook *h);
void hga_hook_remove(struct hga_loop *loop, struct hga_hook *h);

/* The loop of this process (set by hga_loop_new, cleared by free); for the
 * wake-up inside signal handlers only. */
struct hga_loop *hga_loop_current(void);

#endif
