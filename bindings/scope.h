/*
 * Tasks and scopes from inside: shared by sched.c, scope.c, lasync.c, host.c.
 *
 * A struct task lives in the userdata of its handle (class TASK_CLASS), a
 * struct scope in that of its handle (SCOPE_CLASS) or, as root, in its task.
 * The userdata is anchored while the task or scope lives.  Scopes form one
 * tree: a nested scope's parent is the next outer one of the same task, a
 * task's root scope hangs below the scope it was spawned in.
 *
 * Cancellation is a level per scope: 1 stops at shields, 2 does not.  A task
 * is cancelled when walking up from its innermost scope meets such a level.
 * Only C memory is touched by it, so it works from loop callbacks.
 */
#ifndef HGA_SCOPE_H
#define HGA_SCOPE_H

#include "net/loop.h"
#include "net/op.h"

#include <lua.h>
#include <lauxlib.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TASK_CLASS "hgauto.task"
#define SCOPE_CLASS "hgauto.scope"

/* Instructions between two checks of a file's limit while it is loaded. */
#define LOAD_TICK 1000

/* User values of both handles; tasks have all, scopes the first two. */
enum {
	UV_ERR = 1,    /* the first error; of an ended task also its results */
	UV_RES = 2,    /* resources: seq -> object, object -> seq */
	UV_THREAD = 3, /* the task's Lua thread until its end */
	UV_LOCALS = 4, /* task-local values, never changed in place */
	UV_LABEL = 5   /* label path */
};

enum scope_cause {
	CAUSE_NONE = 0,
	CAUSE_FAIL,      /* body or child failed */
	CAUSE_USER,      /* handle:cancel */
	CAUSE_DEADLINE,  /* its own */
	CAUSE_INTERRUPT, /* Ctrl-C, SIGTERM, SIGHUP */
	CAUSE_EXIT,      /* host.exit */
	CAUSE_DEADLOCK
};

enum scope_phase {
	PHASE_BODY = 0,
	PHASE_DRAIN,
	PHASE_CLOSE,
	PHASE_END
};

struct task;

struct scope {
	struct scope *parent, *kids, *next, *prev;
	struct task *owner;     /* whose body runs in it */
	struct scope *outer;    /* next in sched.interruptible */
	struct hga_timer timer; /* deadline; also of one closing resource */
	char *why;              /* words of a user's cancel or NULL; owned */
	int64_t limit_ms;       /* of the deadline, 0: none */
	int64_t res_seq;        /* last number given to a resource */
	unsigned res_count;
	unsigned n_tasks; /* live tasks spawned here */
	int anchor;       /* of the userdata it lives in */
	unsigned char level, cause;
	unsigned char saved_level, saved_cause; /* while resources close */
	unsigned char phase;
	bool shield, isolate, ended;
	bool passing; /* timeout, shield: resources go to the next outer one */
	bool saved_shield;
};

struct waitq {
	struct task *first, *last;
};

enum task_state {
	TASK_READY = 0,
	TASK_RUNNING,
	TASK_WAITING,
	TASK_DEAD
};
enum task_outcome {
	TASK_LIVE = 0,
	TASK_OK,
	TASK_FAILED,
	TASK_CANCELLED
};

struct task {
	struct scope root;
	struct scope *scope; /* innermost */
	struct sched *sched;
	lua_State *L;
	struct task *ready_next;
	struct task *wnext, *wprev; /* in wq */
	struct waitq *wq;
	struct hga_op *op;      /* waited for */
	struct hga_timer timer; /* sleep, or limit of a wait in wq */
	const char *what;       /* names the wait */
	const struct task *joining;
	struct waitq joiners;
	unsigned id;
	unsigned label_len; /* inherited part of the label path */
	int nargs;          /* for the first resume */
	unsigned char state, outcome;
	bool started, queued;
	bool hard;      /* the wait ignores cancellation (end of a scope) */
	bool timed_out; /* the limit of a wait in wq passed */
	bool zombie;    /* thread dead, children still live */
	unsigned hook_raised; /* times, since the last wait */
	unsigned swallowed;   /* errors cancelled, since the last wait */
};

struct sched {
	struct host *host;
	struct scope top; /* above the root task's and the interrupt tasks' */
	struct task *ready, *ready_last;
	struct task *root;
	unsigned n_live, next_id;
	struct task *running;
	struct hga_timer ladder; /* next press by itself */
	unsigned presses_done;
	struct scope *interruptible; /* what Ctrl-C cancels instead of root */
	int on_interrupt; /* registry reference of the function, or LUA_NOREF */
	bool interrupt_replace;
	unsigned deadlocks;
};

/* The scheduler of a state; one per process. */
struct sched *sched_of(lua_State *L);
/* The task of a thread; NULL in plain coroutines and the main state. */
struct task *task_of(lua_State *L);

/* ---- sched.c: tasks ---- */

/* Opens classes and tables for tasks. [-0, +0, raises] */
void sched_open(lua_State *L, struct sched *s);
/*
 * Makes a task below scope from the function and nargs arguments on top of L
 * (popped); pushes its handle. [-(nargs+1), +1, raises]
 */
struct task *sched_spawn(lua_State *L, struct scope *scope, int nargs);
/* Appends to the ready queue (once). */
void sched_ready(struct task *t);
/* Resumes once each task that was ready. */
void sched_step(struct sched *s);
/* Runs tasks and the loop until all tasks have ended. */
void sched_loop(struct sched *s);
/* Stops what t waits for and makes it ready; nothing if it does not wait. */
void task_wake(struct task *t);
/* The same because a scope of its was cancelled: its operation is cancelled;
 * a hard wait goes on. */
void task_cancelled(struct task *t);
/* Label path, "" if none; valid until the task or its label changes. */
const char *task_label(const struct task *t);
/* Methods of task handles (lasync.c). */
extern const luaL_Reg lasync_task_methods[];
/* Marks which state runs, for the signal handler; returns the previous. */
lua_State *sched_enter(lua_State *L);

/* ---- sched.c: waits that are no operation; `return sched_...;` ---- */

/* The first half of sched_check_wait: may a wait stand here? [raises] */
void sched_check_place(lua_State *L, const char *what);
/* The second half, also for continuations: raises cancelled if so. */
void sched_check_cancel(lua_State *L);
/* Waits in q until waitq_wake; limit_ms < 0: no limit, else t->timed_out
 * tells k that it passed.  k asks sched_check_cancel itself. */
int sched_wait(lua_State *L, struct waitq *q, int64_t limit_ms,
               const char *what, lua_KFunction k, lua_KContext ctx);
/* Waits for the end of a child, cancelled or not. */
int sched_wait_hard(lua_State *L, const char *what, lua_KFunction k,
                    lua_KContext ctx);
/* Lets other tasks run for ms (0: once), then calls k, which asks
 * sched_check_cancel itself. */
int sched_pause(lua_State *L, int64_t ms, const char *what, lua_KFunction k,
                lua_KContext ctx);
/* The same for a function without results. */
int sched_sleep(lua_State *L, int64_t ms);
/* Wakes the first task of q, or all. */
void waitq_wake(struct waitq *q, bool all);

/* ---- sched.c: userdata of live tasks and scopes ---- */

/* Keeps the userdata at idx alive; drop gives it up (LUA_NOREF: nothing);
 * push puts it on the stack. */
int anchor_take(lua_State *L, int idx);
void anchor_drop(lua_State *L, int ref);
void anchor_push(lua_State *L, int ref);
/* Pushes user value uv of a live scope's (or task's) userdata; pops the top
 * into it.  Neither raises. */
void scope_pushuv(lua_State *L, const struct scope *s, int uv);
void scope_setuv(lua_State *L, const struct scope *s, int uv);
/* Pushes the error "out of memory", made in advance. */
void sched_pushnomem(lua_State *L);

/* ---- scope.c ---- */

/* Puts a zeroed scope into the tree as innermost one of owner. */
void scope_init(struct scope *s, struct scope *parent, struct task *owner);
/* Takes it out again, stops its timer, drops its anchor. */
void scope_end(lua_State *L, struct scope *s);
/* The scope whose cancellation reaches s, or NULL. */
struct scope *scope_cancelled(struct scope *s);
/* Cancels s (why: copied words or NULL) and wakes what waits below it.
 * A lower or equal level than before changes nothing. */
void scope_cancel(struct scope *s, int level, enum scope_cause cause,
                  const char *why);
/* Pushes the error for a wait in a scope cancelled by `by`. [-0, +1, m] */
void scope_pusherr(lua_State *L, const struct scope *by);
/* Records an error (popped) as first of s or joins it to the first. Does not
 * raise. [-1, +0] */
void scope_fail(lua_State *L, struct scope *s);
/* The same for what the error `cancelled` on top (popped) or nil suppresses;
 * true when that was anything. [-1, +0] */
bool scope_fail_suppressed(lua_State *L, struct scope *s);
/*
 * The body of a scope.  Stack of the calling C function: 1 the userdata with
 * the scope, 2 anything (becomes the message handler), 3 the function, 4...
 * its arguments.  Enters s as innermost scope of the task, runs, waits for
 * the children, closes resources, leaves; returns fn's results or raises.
 * For a task's root scope: sets outcome and UV_ERR instead.
 */
int scope_run(lua_State *L, struct scope *s);
/* The message handler of all scopes. */
int scope_msgh(lua_State *L);

/* ---- scope.c: signals ---- */

/* Installs the handlers of INT, TERM, HUP (inherited SIG_IGN of INT and HUP
 * stays); off: back to the default. */
int scope_signals(struct sched *s, struct hga_err *err) HGA_MUST_USE;
void scope_signals_off(void);
/* Acts on presses that came since; from the loop. */
void scope_interrupts(struct sched *s);
/* Presses came that nothing was done about. */
bool scope_interrupted(const struct sched *s);
/* The root task is over: no press by the clock any more. */
void scope_root_ended(struct sched *s);
/* Presses so far; reset: none. */
int scope_presses(void);
void scope_presses_reset(struct sched *s);
/* First signal of the ladder: "INT", "TERM", "HUP", or NULL. */
const char *scope_signal_name(void);
/* Number of open ephemerals, for the third press. */
void scope_set_open(int n);
/* Sets the hook on L when an interrupt waits to be seen, or while a file is
 * loaded. */
void scope_arm(lua_State *L);
/* The count hook: interrupts and the load limit. */
void scope_hook(lua_State *L, lua_Debug *ar);
/* The state that runs now (NULL: none), read by the signal handler. */
extern lua_State *volatile scope_running;

#endif
