/*
 * Scopes, cancellation, Ctrl-C; architecture section 4, cli.md section 3.4.
 *
 * scope_run is the one boundary of all scopes and tasks: body, wait for the
 * children, close resources last-in first-out, then decide what comes out.
 * It keeps its state in struct scope and continues in *_k functions.
 */
#include "scope.h"

#include "host.h"
#include "lb.h"
#include "sched.h"

#include "base/mem.h"
#include "base/time.h"

#include <lauxlib.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Time one resource may take to close at the end of its scope. */
#define CLOSE_MS 30000
/* For a function of async.on_interrupt. */
#define INTERRUPT_MS 5000
/* Press 2 comes by itself: after SIGTERM, SIGHUP; after Ctrl-C. */
#define TERM_MS 20000
#define INT_MS 300000
#define DEBOUNCE_MS 500

/* ---- the tree ---- */

static void on_deadline(struct hga_timer *timer)
{
	scope_cancel(timer->data, 1, CAUSE_DEADLINE, NULL);
}

void scope_init(struct scope *s, struct scope *parent, struct task *owner)
{
	s->parent = parent;
	s->owner = owner;
	s->timer.fn = on_deadline;
	s->timer.data = s;
	s->prev = NULL;
	s->next = parent->kids;
	if (s->next != NULL)
		s->next->prev = s;
	parent->kids = s;
}

static void unlink_scope(struct scope *s)
{
	if (s->prev != NULL)
		s->prev->next = s->next;
	else if (s->parent != NULL)
		s->parent->kids = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	s->parent = NULL;
	s->next = NULL;
	s->prev = NULL;
}

void scope_end(lua_State *L, struct scope *s)
{
	struct sched *sched = sched_of(L);

	hga_timer_stop(sched->host->loop, &s->timer);
	if (sched->interruptible == s)
		sched->interruptible = s->outer;
	unlink_scope(s);
	hga_free(s->why);
	s->why = NULL;
	s->ended = true;
	anchor_drop(L, s->anchor);
	s->anchor = LUA_NOREF;
}

struct scope *scope_cancelled(struct scope *s)
{
	int need = 1;

	for (; s != NULL; s = s->parent) {
		if (s->level >= need)
			return s;
		if (s->shield)
			need = 2;
	}
	return NULL;
}

/* Next scope after s below top in preorder; skip: not what is below s. */
static struct scope *walk(struct scope *s, const struct scope *top, bool skip)
{
	if (s->kids != NULL && !skip)
		return s->kids;
	while (s != top && s->next == NULL)
		s = s->parent;
	return s == top ? NULL : s->next;
}

void scope_cancel(struct scope *top, int level, enum scope_cause cause,
                  const char *why)
{
	if (top->ended)
		return;
	if (top->phase == PHASE_CLOSE && level < 2 &&
	    cause != CAUSE_DEADLINE) { /* counts when all is closed */
		if (top->saved_level == 0) {
			top->saved_level = (unsigned char)level;
			top->saved_cause = (unsigned char)cause;
		}
		return;
	}
	if (top->level >= level)
		return;
	if (top->level == 0) {
		top->cause = (unsigned char)cause;
		/* Without memory the words are missing, not the effect. */
		top->why = why != NULL ? hga_strdup(why) : NULL;
	}
	top->level = (unsigned char)level;
	for (struct scope *s = top; s != NULL;) {
		bool skip = s != top && s->shield && level < 2;

		if (!skip && s->owner != NULL && s->owner->scope == s)
			task_cancelled(s->owner);
		s = walk(s, top, skip);
	}
}

/* ---- errors ---- */

static const char *cause_code(const struct scope *by)
{
	switch ((enum scope_cause)by->cause) {
	case CAUSE_NONE:
	case CAUSE_USER:
		return "Cancelled";
	case CAUSE_FAIL:
		return "Sibling";
	case CAUSE_DEADLINE:
		return "Deadline";
	case CAUSE_INTERRUPT:
		return "Interrupted";
	case CAUSE_EXIT:
		return "Exit";
	case CAUSE_DEADLOCK:
		return "Deadlock";
	}
	return "Cancelled";
}

static const char *cause_text(const struct scope *by)
{
	switch ((enum scope_cause)by->cause) {
	case CAUSE_NONE:
	case CAUSE_USER:
		return by->why != NULL ? by->why : "cancelled";
	case CAUSE_FAIL:
		return "cancelled: another task of the scope failed";
	case CAUSE_DEADLINE:
		return "cancelled: a deadline passed";
	case CAUSE_INTERRUPT:
		return "interrupted";
	case CAUSE_EXIT:
		return "cancelled: the program ends";
	case CAUSE_DEADLOCK:
		return "cancelled: deadlock";
	}
	return "cancelled";
}

void scope_pusherr(lua_State *L, const struct scope *by)
{
	struct hga_err err;

	/* hga_fail fills err; its result is its kind again. */
	(void)hga_fail(&err, HGA_CANCELLED, 0, cause_code(by), "%s",
	               cause_text(by));
	lb_pusherr(L, &err);
}

/* "10s", "1.5s" */
static void push_timeout(lua_State *L, const struct scope *s)
{
	struct hga_err err;

	if (s->limit_ms % 1000 == 0)
		(void)hga_fail(&err, HGA_TIMEOUT, 0, "Timeout",
		               "not done within %llds",
		               (long long)(s->limit_ms / 1000));
	else
		(void)hga_fail(&err, HGA_TIMEOUT, 0, "Timeout",
		               "not done within %.3gs",
		               (double)s->limit_ms / 1000);
	lb_pusherr(L, &err);
}

void scope_fail(lua_State *L, struct scope *s)
{
	scope_pushuv(L, s, UV_ERR);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		scope_setuv(L, s, UV_ERR);
		return;
	}
	lb_adderr(L, -1, -2);
	lua_pop(L, 2);
}

/* (error): its suppressed list or nil; protected. */
static int get_suppressed(lua_State *L)
{
	lua_getfield(L, 1, "suppressed");
	return 1;
}

/* (list, i): the element; the first becomes an error of its own that
 * suppresses the others. */
bool scope_fail_suppressed(lua_State *L, struct scope *s)
{
	bool any = false;

	if (!lb_iserr(L, -1)) {
		lua_pop(L, 1);
		return false;
	}
	lua_pushcfunction(L, get_suppressed);
	lua_insert(L, -2);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK || !lua_istable(L, -1)) {
		lua_pop(L, 1);
		return false;
	}
	for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
		scope_fail(L, s);
		any = true;
	}
	lua_pop(L, 2);
	return any;
}

/* A value that is no error table becomes one of kind runtime. */
static void wrap(lua_State *L)
{
	struct hga_err err;
	const char *text;
	bool usage;

	if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER)
		text = lua_tostring(L, 1);
	else
		text = lua_pushfstring(L, "error object is a %s value",
		                       luaL_typename(L, 1));
	/* Lua's own argument checks of our functions */
	usage = strstr(text, "bad argument #") != NULL;
	err.kind = usage ? HGA_USAGE : HGA_RUNTIME;
	err.sys = 0;
	err.code[0] = '\0';
	err.msg[0] = '\0';
	lb_pusherr(L, &err);
	lua_pushstring(L, text);
	lua_setfield(L, -2, "message");
	lua_replace(L, 1);
	lua_settop(L, 1);
}

/* Gives the error at 1 its common form. */
static void normalise(lua_State *L)
{
	if (lb_iserr(L, 1))
		return;
	if (!lua_istable(L, 1) && !lua_isuserdata(L, 1)) {
		wrap(L);
		return;
	}
	if (lb_errkind(L, 1) == HGA_OK || lua_getmetatable(L, 1)) {
		lua_settop(L, 1); /* a foreign error keeps its identity */
		return;
	}
	lb_seterrmeta(L, 1);
}

static void add_traceback(lua_State *L)
{
	if (!lb_iserr(L, 1) || lb_errkind(L, 1) == HGA_CANCELLED)
		return;
	if (lua_getfield(L, 1, "traceback") == LUA_TNIL) {
		luaL_traceback(L, L, NULL, 1);
		lua_setfield(L, 1, "traceback");
	}
	if (lua_getfield(L, 1, "where") == LUA_TNIL && lb_pushwhere(L))
		lua_setfield(L, 1, "where");
	lua_settop(L, 1);
}

/*
 * Runs where the error is raised, for errors that will leave the innermost
 * scope.  A second error that comes while the first unwinds (from a __close)
 * joins it, and the first goes on.
 */
int scope_msgh(lua_State *L)
{
	struct task *t = task_of(L);

	lua_settop(L, 1);
	normalise(L);
	add_traceback(L);
	if (t == NULL)
		return 1;
	scope_pushuv(L, t->scope, UV_ERR);
	if (lua_isnil(L, 2)) {
		lua_pushvalue(L, 1);
		scope_setuv(L, t->scope, UV_ERR);
		lua_settop(L, 1);
		return 1;
	}
	if (lua_rawequal(L, 1, 2))
		return 1;
	if (lb_errkind(L, 1) == HGA_CANCELLED) {
		lua_settop(L, 1);
		return 1;
	}
	lb_adderr(L, 2, 1);
	return 1; /* the first */
}

/* ---- the boundary ---- */

/* A C function's protected call failed with the error on top (popped). */
static void record(lua_State *L, struct scope *s, int status)
{
	bool room = lua_checkstack(L, 8);

	if (!room || (status == LUA_ERRMEM && !lb_iserr(L, -1))) {
		lua_pop(L, 1);
		sched_pushnomem(L);
	} else if (lua_isstring(L, -1)) { /* the handler itself failed */
		lua_pushcfunction(L, scope_msgh);
		lua_insert(L, -2);
		if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
			lua_pop(L, 1);
			sched_pushnomem(L);
		}
	}
	scope_pushuv(L, s, UV_ERR);
	if (lua_rawequal(L, -1, -2)) {
		lua_pop(L, 2);
		return;
	}
	lua_pop(L, 1);
	scope_fail(L, s);
}

static bool failed(int status)
{
	return status != LUA_OK && status != LUA_YIELD;
}

/* The scope whose cancellation, other than by a failure in s, reaches s. */
static struct scope *cancelled_by(struct scope *s)
{
	struct scope *by;

	if (s->level > 0 && s->cause != CAUSE_FAIL)
		return s;
	by = s->parent != NULL ? scope_cancelled(s->parent) : NULL;
	if (by != NULL && s->shield && by->level < 2)
		return NULL;
	return by;
}

/* Decides what comes out of s and leaves it.  True: an error was pushed;
 * *cancelled: it is nothing but the cancellation. */
static bool leave(lua_State *L, struct scope *s, bool *cancelled)
{
	struct task *t = s->owner;
	struct scope *by = cancelled_by(s);
	bool deadline = by == s && s->cause == CAUSE_DEADLINE &&
	                (s->shield || scope_cancelled(s->parent) == NULL);
	bool err;

	scope_pushuv(L, s, UV_ERR);
	err = !lua_isnil(L, -1);
	*cancelled = by != NULL && (!err || lb_errkind(L, -1) == HGA_CANCELLED);
	if (*cancelled && deadline) {
		push_timeout(L, s);
		if (err)
			lb_adderr(L, -1, -2);
		*cancelled = false;
		err = true;
	} else if (*cancelled && !err) {
		scope_pusherr(L, by);
		err = true;
	}
	s->phase = PHASE_END;
	if (s != &t->root) {
		t->scope = s->parent;
		scope_end(L, s);
	}
	return err;
}

/* The task's outcome and, in UV_ERR, its results or error. */
static int finish_task(lua_State *L, struct task *t)
{
	int n = lua_gettop(L) - 2;
	bool cancelled;

	if (leave(L, &t->root, &cancelled)) {
		scope_setuv(L, &t->root, UV_ERR);
		t->outcome = cancelled ? TASK_CANCELLED : TASK_FAILED;
		return 0;
	}
	lua_settop(L, n + 2);
	if (n > 0) {
		lua_createtable(L, n, 1);
		lua_insert(L, 3);
		for (int i = n; i > 0; i--)
			lua_rawseti(L, 3, i);
		lua_pushinteger(L, n);
		lua_setfield(L, 3, "n");
		scope_setuv(L, &t->root, UV_ERR);
	}
	t->outcome = TASK_OK;
	return 0;
}

static int finish(lua_State *L, struct scope *s)
{
	int top = lua_gettop(L);
	bool cancelled;

	hga_timer_stop(host_of(L)->loop, &s->timer);
	if (s->phase == PHASE_CLOSE) {
		s->shield = s->saved_shield;
		s->cause = s->saved_cause;
		s->level = s->level == 2 ? 2 : s->saved_level;
	}
	if (s == &s->owner->root)
		return finish_task(L, s->owner);
	if (leave(L, s, &cancelled))
		return lua_error(L);
	lua_settop(L, top);
	return top - 2;
}

/* Pushes the youngest resource and takes it out of the list. */
static void pop_resource(lua_State *L, struct scope *s)
{
	scope_pushuv(L, s, UV_RES);
	while (lua_rawgeti(L, -1, s->res_seq) == LUA_TNIL) {
		lua_pop(L, 1);
		s->res_seq--;
	}
	lua_pushnil(L);
	lua_rawseti(L, -3, s->res_seq--);
	lua_pushvalue(L, -1);
	lua_pushnil(L);
	lua_rawset(L, -4);
	lua_remove(L, -2);
	s->res_count--;
}

static void restart_close(lua_State *L, struct scope *s)
{
	struct hga_err err;

	if (s->phase != PHASE_CLOSE) {
		s->phase = PHASE_CLOSE;
		s->saved_shield = s->shield;
		s->saved_level = s->level;
		s->saved_cause = s->cause;
		s->shield = true;
	}
	s->level = s->saved_level == 2 ? 2 : 0;
	/* Without memory for the timer it closes without a limit. */
	(void)!hga_timer_start(host_of(L)->loop, &s->timer, CLOSE_MS, &err);
}

static int closed_k(lua_State *L, int status, lua_KContext ctx);

static int close_next(lua_State *L, struct scope *s)
{
	restart_close(L, s);
	pop_resource(L, s);
	if (luaL_getmetafield(L, -1, "__close") == LUA_TNIL) {
		lua_pop(L, 1);
		return LUA_OK;
	}
	lua_insert(L, -2);
	scope_pushuv(L, s, UV_ERR);
	return lua_pcallk(L, 2, 0, 2, (lua_KContext)s, closed_k);
}

/* The body is over: children, then resources, then out. */
static int drain_k(lua_State *L, int status, lua_KContext ctx)
{
	struct scope *s = (struct scope *)ctx;

	(void)status; /* LUA_OK or LUA_YIELD */
	if (s->phase == PHASE_BODY)
		s->phase = PHASE_DRAIN;
	for (;;) {
		if (s->n_tasks > 0)
			return sched_wait_hard(L, "the tasks of its scope",
			                       drain_k, ctx);
		if (s->res_count == 0 || !lua_checkstack(L, LUA_MINSTACK))
			return finish(L, s);
		status = close_next(L, s);
		if (failed(status))
			record(L, s, status);
	}
}

static int closed_k(lua_State *L, int status, lua_KContext ctx)
{
	if (failed(status))
		record(L, (struct scope *)ctx, status);
	return drain_k(L, LUA_OK, ctx);
}

static int body_k(lua_State *L, int status, lua_KContext ctx)
{
	struct scope *s = (struct scope *)ctx;

	if (failed(status)) {
		record(L, s, status);
		lua_settop(L, 2);
		scope_cancel(s, 1, CAUSE_FAIL, NULL);
	} else if (!lua_checkstack(L, LUA_MINSTACK)) {
		lua_settop(L, 2);
		sched_pushnomem(L);
		scope_fail(L, s);
		scope_cancel(s, 1, CAUSE_FAIL, NULL);
	}
	return drain_k(L, LUA_OK, ctx);
}

int scope_run(lua_State *L, struct scope *s)
{
	struct task *t = task_of(L);
	struct hga_err err;

	lua_pushcfunction(L, scope_msgh);
	lua_replace(L, 2);
	if (s != &t->root) {
		s->anchor = anchor_take(L, 1);
		scope_init(s, t->scope, t);
		t->scope = s;
	}
	if (s->limit_ms > 0 && hga_timer_start(t->sched->host->loop, &s->timer,
	                                       s->limit_ms, &err) < 0) {
		if (s != &t->root) {
			t->scope = s->parent;
			scope_end(L, s);
		}
		return lb_raise(L, &err);
	}
	return body_k(L,
	              lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 2,
	                         (lua_KContext)s, body_k),
	              (lua_KContext)s);
}

/* ---- signals: the ladder ---- */

lua_State *volatile scope_running;
static volatile sig_atomic_t presses, last_signal, open_count;
static volatile sig_atomic_t have_press_time;
static struct timespec press_time;

static bool debounced(void)
{
	struct timespec now;
	int64_t ms;

	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return false;
	ms = (int64_t)(now.tv_sec - press_time.tv_sec) * 1000 +
	     (now.tv_nsec - press_time.tv_nsec) / 1000000;
	if (have_press_time && ms < DEBOUNCE_MS)
		return true;
	press_time = now;
	have_press_time = 1;
	return false;
}

/* Third press: nothing but async-signal-safe calls. */
static void die_now(void)
{
	static const char with[] =
	    "\nhgauto: killed; something may still cost money: hgauto gc\n";
	static const char without[] = "\nhgauto: killed\n";
	ssize_t r;

	if (open_count > 0)
		r = write(STDERR_FILENO, with, sizeof(with) - 1);
	else
		r = write(STDERR_FILENO, without, sizeof(without) - 1);
	(void)r; /* nothing left to do about it */
	_exit(open_count > 0 ? 6 : 130);
}

static void on_signal(int signo)
{
	int saved = errno;
	lua_State *L = scope_running;
	struct hga_loop *loop = hga_loop_current();

	if (signo == SIGINT) {
		if (debounced()) {
			errno = saved;
			return;
		}
		presses++;
	} else if (presses == 0) {
		presses = 1;
	}
	if (presses == 1)
		last_signal = signo;
	if (presses >= 3)
		die_now();
	if (L != NULL)
		lua_sethook(L, scope_hook, LUA_MASKCOUNT, 1);
	if (loop != NULL)
		hga_loop_wake(loop);
	errno = saved;
}

static const int ladder_signals[] = {SIGINT, SIGTERM, SIGHUP};

int scope_signals(struct sched *s, struct hga_err *err)
{
	struct sigaction old, sa;

	(void)s; /* the handler knows the running state only */
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_RESTART;
	for (size_t i = 0; i < sizeof(ladder_signals) / sizeof(int); i++) {
		if (sigaction(ladder_signals[i], NULL, &old) != 0)
			return hga_fail(err, HGA_IO, errno, "Signal",
			                "sigaction");
		if (old.sa_handler == SIG_IGN && ladder_signals[i] != SIGTERM)
			continue; /* nohup, shell background jobs */
		if (sigaction(ladder_signals[i], &sa, NULL) != 0)
			return hga_fail(err, HGA_IO, errno, "Signal",
			                "sigaction");
	}
	return 0;
}

void scope_signals_off(void)
{
	struct sigaction old, sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = SIG_DFL;
	for (size_t i = 0; i < sizeof(ladder_signals) / sizeof(int); i++)
		if (sigaction(ladder_signals[i], NULL, &old) == 0 &&
		    old.sa_handler == on_signal)
			(void)sigaction(ladder_signals[i], &sa, NULL);
	presses = 0;
	last_signal = 0;
	have_press_time = 0;
}

int scope_presses(void)
{
	return presses;
}

void scope_presses_reset(struct sched *s)
{
	presses = 0;
	have_press_time = 0; /* the next is a new one */
	last_signal = 0;
	s->presses_done = 0;
	hga_timer_stop(s->host->loop, &s->ladder);
}

const char *scope_signal_name(void)
{
	switch (last_signal) {
	case SIGINT:
		return "INT";
	case SIGTERM:
		return "TERM";
	case SIGHUP:
		return "HUP";
	}
	return NULL;
}

void scope_set_open(int n)
{
	open_count = n;
}

bool scope_interrupted(const struct sched *s)
{
	return (unsigned)presses != s->presses_done;
}

/* The press that the clock makes. */
static void on_ladder(struct hga_timer *timer)
{
	(void)timer; /* the process has one ladder */
	if (presses < 2)
		presses = 2; /* the loop acts on it after this step */
}

void scope_root_ended(struct sched *s)
{
	hga_timer_stop(s->host->loop, &s->ladder);
}

/* (press): spawns the function of async.on_interrupt; protected. */
static int spawn_interrupt(lua_State *L)
{
	struct sched *s = sched_of(L);
	struct task *t;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->on_interrupt);
	lua_pushvalue(L, 1);
	lua_pushstring(L, scope_signal_name());
	t = sched_spawn(L, &s->top, 2);
	t->root.shield = true;
	t->root.limit_ms = INTERRUPT_MS;
	return 0;
}

static bool replaced(const struct sched *s)
{
	return s->interrupt_replace && last_signal == SIGINT &&
	       s->on_interrupt != LUA_NOREF;
}

/* Ctrl-C in async.interruptible ends that only. */
static bool inner_press(struct sched *s, unsigned press)
{
	if (s->interruptible == NULL || last_signal != SIGINT)
		return false;
	scope_cancel(s->interruptible, press >= 2 ? 2 : 1, CAUSE_INTERRUPT,
	             NULL);
	return true;
}

static void cancel_root(struct sched *s, unsigned press)
{
	struct hga_err err;

	if (s->root == NULL || s->root->state == TASK_DEAD)
		return;
	s->ladder.fn = on_ladder;
	if (press == 1) /* without memory nothing presses by itself */
		(void)!hga_timer_start(s->host->loop, &s->ladder,
		                       last_signal == SIGINT ? INT_MS : TERM_MS,
		                       &err);
	scope_cancel(&s->root->root, press >= 2 ? 2 : 1, CAUSE_INTERRUPT, NULL);
}

/* Calls the function of async.on_interrupt or, when waits: spawns it. */
static void tell(struct sched *s, lua_State *L, unsigned press, bool spawn)
{
	if (s->on_interrupt == LUA_NOREF || !lua_checkstack(L, 6))
		return;
	if (spawn) {
		lua_pushcfunction(L, spawn_interrupt);
		lua_pushinteger(L, press);
	} else {
		lua_rawgeti(L, LUA_REGISTRYINDEX, s->on_interrupt);
		lua_pushinteger(L, press);
	}
	if (lua_pcall(L, 1, 0, 0) != LUA_OK)
		lua_pop(L, 1); /* the ladder goes on without it */
}

void scope_interrupts(struct sched *s)
{
	while (s->presses_done < (unsigned)presses) {
		unsigned press = s->presses_done + 1;

		if (inner_press(s, press)) {
			s->presses_done = press;
			continue;
		}
		tell(s, s->host->L, press, true);
		if (s->presses_done + 1 != press)
			continue; /* it was set back */
		s->presses_done = press;
		if (!replaced(s))
			cancel_root(s, press);
	}
}

/* In the hook of a task that does not wait: cancel now, tell later. */
static void interrupts_in_hook(struct sched *s, lua_State *L)
{
	unsigned press = s->presses_done + 1;

	if (s->presses_done >= (unsigned)presses ||
	    inner_press(s, (unsigned)presses))
		return;
	if (!replaced(s)) {
		cancel_root(s, (unsigned)presses);
		return;
	}
	tell(s, L, press, false);
	if (s->presses_done + 1 == press)
		s->presses_done = press;
}

static void count_load(lua_State *L, struct host *h)
{
	h->load_left -= lua_gethookcount(L);
	/* Above the limit no instruction runs, so pcall does not help. */
	lua_sethook(L, scope_hook, LUA_MASKCOUNT,
	            h->load_left < 0 ? 1 : LOAD_TICK);
	if (h->load_left < 0)
		(void)lb_fail(L, HGA_LOAD, "TooLong",
		              "the file runs for too long while it is loaded");
}

/* A __close function runs: it should not be cut off at once. */
static bool in_close(lua_State *L)
{
	lua_Debug ar;

	memset(&ar, 0, sizeof(ar));
	for (int level = 0; lua_getstack(L, level, &ar); level++)
		if (lua_getinfo(L, "n", &ar) && ar.namewhat[0] == 'm' &&
		    strcmp(ar.name, "close") == 0)
			return true;
	return false;
}

/* Raises; again after fewer and fewer instructions, so that cleanups have
 * some room and a loop that catches everything ends nevertheless. */
static void raise_in_hook(lua_State *L, struct task *t, const struct scope *by)
{
	unsigned n = t->hook_raised++;

	if (by->level < 2 && n < 16 && in_close(L)) {
		lua_sethook(L, scope_hook, LUA_MASKCOUNT, 1 << 18);
		return;
	}
	lua_sethook(L, scope_hook, LUA_MASKCOUNT,
	            n < 5 ? (1 << 20) >> (4 * n) : 1);
	scope_pusherr(L, by);
	(void)lua_error(L);
}

void scope_hook(lua_State *L, lua_Debug *ar)
{
	struct host *h = host_of(L);
	struct sched *s = h->sched;
	struct task *t = s->running;
	const struct scope *by;

	(void)ar; /* any event will do */
	interrupts_in_hook(s, L);
	by = t != NULL ? scope_cancelled(t->scope) : NULL;
	if (by != NULL) {
		raise_in_hook(L, t, by);
		return;
	}
	if (h->loading > 0)
		count_load(L, h);
	else
		lua_sethook(L, NULL, 0, 0);
}

void scope_arm(lua_State *L)
{
	const struct sched *s = sched_of(L);

	if (scope_interrupted(s) ||
	    (s->running != NULL && s->running->hook_raised > 0))
		lua_sethook(L, scope_hook, LUA_MASKCOUNT, 1);
	else if (s->host->loading > 0)
		lua_sethook(L, scope_hook, LUA_MASKCOUNT, LOAD_TICK);
}
