/*
 * Tasks, the ready queue and waiting; architecture sections 4 and 5.
 *
 * The only place that resumes a task is resume_task, the only places where a
 * task yields are sched_await, sched_wait and sched_sleep.  Loop callbacks
 * (on_done, on_timer) touch C memory only.
 */
#include "sched.h"

#include "host.h"
#include "lb.h"
#include "scope.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <lauxlib.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* So often a task may catch `cancelled` without waiting in between; then the
 * hook raises wherever it is. */
#define SWALLOW_MAX 1000

/* Registry keys: addresses, so that looking them up never allocates. */
static const char anchors_key, nomem_key;

struct sched *sched_of(lua_State *L)
{
	return host_of(L)->sched;
}

struct task *task_of(lua_State *L)
{
	struct task *const *at = lua_getextraspace(L);

	return *at;
}

static void set_task(lua_State *L, struct task *t)
{
	struct task **at = lua_getextraspace(L);

	*at = t;
}

struct hga_loop *host_loop(lua_State *L)
{
	return host_of(L)->loop;
}

lua_State *sched_enter(lua_State *L)
{
	lua_State *prev = scope_running;

	scope_running = L;
	return prev;
}

/* ---- anchors: userdata of live tasks and scopes ---- */

int anchor_take(lua_State *L, int idx)
{
	int ref;

	idx = lua_absindex(L, idx);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
	lua_pushvalue(L, idx);
	ref = luaL_ref(L, -2);
	lua_pop(L, 1);
	return ref;
}

void anchor_drop(lua_State *L, int ref)
{
	if (ref == LUA_NOREF)
		return;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
	luaL_unref(L, -1, ref);
	lua_pop(L, 1);
}

void anchor_push(lua_State *L, int ref)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
	lua_rawgeti(L, -1, ref);
	lua_remove(L, -2);
}

void scope_pushuv(lua_State *L, const struct scope *s, int uv)
{
	anchor_push(L, s->anchor);
	lua_getiuservalue(L, -1, uv);
	lua_remove(L, -2);
}

void scope_setuv(lua_State *L, const struct scope *s, int uv)
{
	anchor_push(L, s->anchor);
	lua_insert(L, -2);
	lua_setiuservalue(L, -2, uv);
	lua_pop(L, 1);
}

void sched_pushnomem(lua_State *L)
{
	lua_rawgetp(L, LUA_REGISTRYINDEX, &nomem_key);
}

/* ---- ready queue and wait queues ---- */

void sched_ready(struct task *t)
{
	struct sched *s = t->sched;

	t->state = TASK_READY;
	if (t->queued)
		return;
	t->queued = true;
	t->ready_next = NULL;
	if (s->ready == NULL)
		s->ready = t;
	else
		s->ready_last->ready_next = t;
	s->ready_last = t;
}

static void waitq_add(struct waitq *q, struct task *t)
{
	t->wq = q;
	t->wnext = NULL;
	t->wprev = q->last;
	if (q->last != NULL)
		q->last->wnext = t;
	else
		q->first = t;
	q->last = t;
}

static void waitq_remove(struct task *t)
{
	struct waitq *q = t->wq;

	if (q == NULL)
		return;
	if (t->wprev != NULL)
		t->wprev->wnext = t->wnext;
	else
		q->first = t->wnext;
	if (t->wnext != NULL)
		t->wnext->wprev = t->wprev;
	else
		q->last = t->wprev;
	t->wq = NULL;
	t->wnext = NULL;
	t->wprev = NULL;
}

void waitq_wake(struct waitq *q, bool all)
{
	do {
		if (q->first == NULL)
			return;
		task_wake(q->first);
	} while (all);
}

void task_wake(struct task *t)
{
	if (t->state != TASK_WAITING)
		return;
	if (t->op != NULL) {
		t->op->task = NULL;
		t->op = NULL;
	}
	hga_timer_stop(t->sched->host->loop, &t->timer);
	waitq_remove(t);
	t->joining = NULL;
	t->hard = false;
	sched_ready(t);
}

void task_cancelled(struct task *t)
{
	if (t->state != TASK_WAITING || t->hard)
		return;
	if (t->op != NULL)
		hga_op_cancel(t->op);
	task_wake(t);
}

static void on_done(struct hga_op *op)
{
	struct task *t = op->task;

	if (t != NULL && t->op == op)
		task_wake(t);
}

static void on_timer(struct hga_timer *timer)
{
	struct task *t = timer->data;

	t->timed_out = true;
	task_wake(t);
}

/* ---- where waiting is possible ---- */

struct place {
	const char *name, *text;
};

/* C functions that call back without being able to yield. */
static const struct place places[] = {
    {"sort", "a table.sort comparator"},
    {"gsub", "a string.gsub callback"},
    {"require", "require"},
    {"load", "a reader function of load"},
    {"__gc", "a __gc metamethod"},
    {"__tostring", "a __tostring metamethod"},
    {"tostring", "a __tostring metamethod"},
    {"print", "a __tostring metamethod"},
    {"assert", "a message handler"},
};

static const char *place_text(const char *name)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (strcmp(places[i].name, name) == 0)
			return places[i].text;
	return NULL;
}

/* Pushes the field `name` of a loaded standard library and compares it. */
static bool is_lib_fn(lua_State *L, int fn, const char *lib, const char *name)
{
	bool is = false;

	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	if (lua_getfield(L, -1, lib) == LUA_TTABLE) {
		lua_getfield(L, -1, name);
		is = lua_rawequal(L, -1, fn);
		lua_pop(L, 1);
	}
	lua_pop(L, 2);
	return is;
}

/* The function of a frame has no name when Lua cannot tell: look it up. */
static const char *frame_text(lua_State *L, lua_Debug *ar)
{
	const char *text = NULL;

	if (!lua_getinfo(L, "nSf", ar))
		return NULL;
	if (ar->namewhat[0] == 'm' && strcmp(ar->name, "__gc") == 0)
		text = "a __gc metamethod";
	else if (*ar->what != 'C')
		text = NULL;
	else if (is_lib_fn(L, lua_gettop(L), "table", "sort"))
		text = places[0].text;
	else if (is_lib_fn(L, lua_gettop(L), "string", "gsub"))
		text = places[1].text;
	else if (is_lib_fn(L, lua_gettop(L), LUA_GNAME, "error"))
		text = "a message handler";
	else if (ar->name != NULL)
		text = place_text(ar->name);
	lua_pop(L, 1);
	return text;
}

static int fail_place(lua_State *L, const char *what)
{
	lua_Debug ar;
	const char *text = NULL;

	memset(&ar, 0, sizeof(ar));
	for (int level = 1; text == NULL && lua_getstack(L, level, &ar);
	     level++)
		text = frame_text(L, &ar);
	if (text != NULL)
		return lb_fail_at(L, HGA_USAGE, "CannotWait",
		                  "cannot wait inside %s (%s)", text, what);
	return lb_fail_at(L, HGA_USAGE, "CannotWait",
	                  "cannot wait here: %s is called through a C function "
	                  "that cannot be suspended",
	                  what);
}

void sched_check_place(lua_State *L, const char *what)
{
	sched_check_effect(L, what);
	if (task_of(L) == NULL && L != host_of(L)->L)
		(void)lb_fail_at(L, HGA_USAGE, "CannotWait",
		                 "cannot wait inside a plain coroutine; use "
		                 "async.spawn (%s)",
		                 what);
	if (task_of(L) == NULL || !lua_isyieldable(L))
		(void)fail_place(L, what);
}

void sched_check_wait(lua_State *L, const char *what)
{
	sched_check_place(L, what);
	sched_check_cancel(L);
}

void sched_check_cancel(lua_State *L)
{
	struct task *t = task_of(L);
	struct scope *by = t != NULL ? scope_cancelled(t->scope) : NULL;

	if (by == NULL)
		return;
	if (++t->swallowed == SWALLOW_MAX) /* a loop that catches it: */
		lua_sethook(L, scope_hook, LUA_MASKCOUNT, 1);
	scope_pusherr(L, by);
	(void)lua_error(L);
}

void sched_check_effect(lua_State *L, const char *what)
{
	if (host_of(L)->loading > 0)
		(void)lb_fail_at(L, HGA_LOAD, "Effect",
		                 "%s called while the file is loaded; move it "
		                 "into run",
		                 what);
}

/* ---- waiting ---- */

/* Common end of all waits: the hook goes, the test collector runs. */
static int yield(lua_State *L, struct task *t, lua_KFunction k,
                 lua_KContext ctx)
{
	t->hook_raised = 0;
	t->swallowed = 0;
	if (lua_gethook(L) != NULL)
		lua_sethook(L, NULL, 0, 0);
	if (t->sched->host->gcstress)
		lua_gc(L, LUA_GCCOLLECT);
	return lua_yieldk(L, 0, ctx, k);
}

/* A binding did not ask sched_check_wait: end the operation, then raise. */
static int refuse(lua_State *L, struct hga_op *op, const char *what)
{
	hga_op_cancel(op);
	sched_check_place(L, what);
	return lb_fail(L, HGA_BUG, "Await", "%s: not in a running task", what);
}

int sched_await(lua_State *L, struct hga_op *op, const char *what,
                lua_KFunction k)
{
	struct task *t = task_of(L);
	const struct task *other = op->task;

	if (t == NULL || !lua_isyieldable(L) || t->state != TASK_RUNNING)
		return refuse(L, op, what);
	if (other != NULL && other != t)
		return lb_fail(L, HGA_USAGE, "Busy", "%s: busy in task %s",
		               what, task_label(other));
	op->done = on_done;
	op->progress = on_done;
	t->what = what;
	if (scope_cancelled(t->scope) != NULL)
		hga_op_cancel(op);
	if (op->state == HGA_OP_RUNNING) {
		op->task = t;
		t->op = op;
		t->state = TASK_WAITING;
	} else {
		sched_ready(t);
	}
	return yield(L, t, k, (lua_KContext)op);
}

int sched_resumed_raw(lua_State *L, struct hga_op *op)
{
	struct task *t = task_of(L);

	if (t != NULL && scope_cancelled(t->scope) != NULL) {
		hga_op_cancel(op);
		sched_check_cancel(L);
	}
	if (op->state != HGA_OP_FINISHED)
		return 0;
	return op->err.kind == HGA_OK ? 1 : -1;
}

bool sched_resumed(lua_State *L, struct hga_op *op)
{
	int r = sched_resumed_raw(L, op);

	if (r < 0)
		(void)lb_raise(L, &op->err);
	return r > 0;
}

static void start_timer(lua_State *L, struct task *t, int64_t ms)
{
	struct hga_err err;

	t->timer.fn = on_timer;
	t->timer.data = t;
	if (hga_timer_start(t->sched->host->loop, &t->timer, ms, &err) < 0)
		(void)lb_raise(L, &err);
}

int sched_wait(lua_State *L, struct waitq *q, int64_t limit_ms,
               const char *what, lua_KFunction k, lua_KContext ctx)
{
	struct task *t = task_of(L);

	t->timed_out = false;
	if (limit_ms >= 0)
		start_timer(L, t, limit_ms);
	t->what = what;
	t->state = TASK_WAITING;
	waitq_add(q, t);
	return yield(L, t, k, ctx);
}

int sched_wait_hard(lua_State *L, const char *what, lua_KFunction k,
                    lua_KContext ctx)
{
	struct task *t = task_of(L);

	t->what = what;
	t->state = TASK_WAITING;
	t->hard = true;
	return yield(L, t, k, ctx);
}

static int sleep_k(lua_State *L, int status, lua_KContext ctx)
{
	(void)status; /* always LUA_YIELD */
	(void)ctx;    /* no state */
	sched_check_cancel(L);
	return 0;
}

int sched_pause(lua_State *L, int64_t ms, const char *what, lua_KFunction k,
                lua_KContext ctx)
{
	struct task *t = task_of(L);

	t->what = what;
	if (ms > 0) {
		start_timer(L, t, ms);
		t->state = TASK_WAITING;
	} else {
		sched_ready(t);
	}
	return yield(L, t, k, ctx);
}

int sched_sleep(lua_State *L, int64_t ms)
{
	return sched_pause(L, ms, "sleep", sleep_k, 0);
}

/* ---- resources ---- */

static struct scope *current_scope(lua_State *L)
{
	struct task *t = task_of(L);

	struct scope *s;

	if (t == NULL)
		t = sched_of(L)->running; /* from a plain coroutine */
	s = t != NULL ? t->scope : NULL;
	while (s != NULL && s->passing)
		s = s->parent;
	return s;
}

void sched_register(lua_State *L, int idx)
{
	struct scope *s = current_scope(L);

	if (s == NULL)
		return;
	idx = lua_absindex(L, idx);
	scope_pushuv(L, s, UV_RES);
	if (!lua_istable(L, -1)) {
		lua_pop(L, 1);
		lua_newtable(L);
		lua_pushvalue(L, -1);
		scope_setuv(L, s, UV_RES);
	}
	lua_pushvalue(L, idx);
	if (lua_rawget(L, -2) != LUA_TNIL) {
		lua_pop(L, 2);
		return;
	}
	lua_pop(L, 1);
	lua_pushvalue(L, idx);
	lua_pushinteger(L, s->res_seq + 1);
	lua_rawset(L, -3);
	lua_pushvalue(L, idx);
	lua_rawseti(L, -2, s->res_seq + 1);
	s->res_seq++;
	s->res_count++;
	lua_pop(L, 1);
}

/* Takes the object at idx out of s; false: not there. Does not raise. */
static bool release_from(lua_State *L, struct scope *s, int idx)
{
	lua_Integer seq;

	scope_pushuv(L, s, UV_RES);
	if (!lua_istable(L, -1)) {
		lua_pop(L, 1);
		return false;
	}
	lua_pushvalue(L, idx);
	if (lua_rawget(L, -2) == LUA_TNIL) {
		lua_pop(L, 2);
		return false;
	}
	seq = lua_tointeger(L, -1);
	lua_pop(L, 1);
	lua_pushnil(L);
	lua_rawseti(L, -2, seq);
	lua_pushvalue(L, idx);
	lua_pushnil(L);
	lua_rawset(L, -3);
	lua_pop(L, 1);
	s->res_count--;
	if (seq == s->res_seq)
		s->res_seq--;
	return true;
}

void sched_release(lua_State *L, int idx)
{
	struct scope *s = current_scope(L);

	if (!lua_checkstack(L, 6))
		return;
	idx = lua_absindex(L, idx);
	for (; s != NULL && s->anchor != LUA_NOREF; s = s->parent)
		if (release_from(L, s, idx))
			return;
}

/* ---- labels ---- */

const char *task_label(const struct task *t)
{
	lua_State *L = t->sched->host->L;
	const char *text = "";

	if (t->state == TASK_DEAD || !lua_checkstack(L, 3))
		return "";
	scope_pushuv(L, &t->root, UV_LABEL);
	if (lua_type(L, -1) == LUA_TSTRING)
		text = lua_tostring(L, -1); /* kept by the user value */
	lua_pop(L, 1);
	return text;
}

const char *sched_label(lua_State *L)
{
	const struct task *t = task_of(L);

	if (t == NULL)
		t = sched_of(L)->running;
	return t != NULL ? task_label(t) : "";
}

/* ---- life of a task ---- */

static int task_main(lua_State *L)
{
	struct task *t = task_of(L);

	return scope_run(L, &t->root);
}

/* Gives the new task (handle on top of L) its creator's label and values. */
static void inherit(lua_State *L, struct task *t)
{
	const struct task *from = task_of(L);
	size_t len = 0;

	if (from == NULL)
		from = t->sched->running;
	if (from == NULL)
		return;
	scope_pushuv(L, &from->root, UV_LOCALS);
	lua_setiuservalue(L, -2, UV_LOCALS);
	scope_pushuv(L, &from->root, UV_LABEL);
	(void)lua_tolstring(L, -1, &len); /* only the length is wanted */
	t->label_len = (unsigned)len;
	lua_setiuservalue(L, -2, UV_LABEL);
}

struct task *sched_spawn(lua_State *L, struct scope *scope, int nargs)
{
	struct sched *s = sched_of(L);
	struct task *t;
	lua_State *T;

	luaL_checkstack(L, 6, NULL);
	t = lb_newobj(L, sizeof(*t), 5, TASK_CLASS);
	t->sched = s;
	t->root.anchor = LUA_NOREF;
	T = lua_newthread(L);
	lua_setiuservalue(L, -2, UV_THREAD);
	lua_insert(L, -(nargs + 2));
	lua_sethook(T, NULL, 0, 0);
	if (!lua_checkstack(T, nargs + 4))
		(void)lb_fail(L, HGA_USAGE, "TooManyArguments",
		              "too many arguments for a task");
	lua_pushcfunction(T, task_main);
	lua_pushvalue(L, -(nargs + 2));
	lua_xmove(L, T, 1);
	lua_pushnil(T);
	lua_xmove(L, T, nargs + 1);
	t->root.anchor = anchor_take(L, -1);
	inherit(L, t);
	/* Nothing below raises. */
	t->L = T;
	t->nargs = nargs + 3;
	t->id = ++s->next_id;
	set_task(T, t);
	scope_init(&t->root, scope, t);
	t->scope = &t->root;
	scope->n_tasks++;
	s->n_live++;
	sched_ready(t);
	return t;
}

/* Stops and forgets the nested scopes of a task whose thread is dead. */
static bool drop_scopes(struct task *t)
{
	lua_State *L = t->sched->host->L;
	bool live = false;

	for (struct scope *s = t->scope;; s = s->parent) {
		if (s->n_tasks > 0) {
			live = true;
			scope_cancel(s, 1, CAUSE_FAIL, NULL);
		}
		if (s == &t->root)
			break;
	}
	while (!live && t->scope != &t->root) {
		struct scope *s = t->scope;

		t->scope = s->parent;
		scope_end(L, s);
	}
	return live;
}

/* Its errors go to the scope it was spawned in. */
static void report_outcome(lua_State *L, struct task *t, struct scope *p)
{
	if (p->isolate || t->outcome == TASK_OK)
		return;
	scope_pushuv(L, &t->root, UV_ERR);
	if (t->outcome == TASK_FAILED) {
		scope_fail(L, p);
		scope_cancel(p, 1, CAUSE_FAIL, NULL);
		return;
	}
	if (scope_fail_suppressed(L, p))
		scope_cancel(p, 1, CAUSE_FAIL, NULL);
}

static void task_done(struct task *t)
{
	struct sched *s = t->sched;
	lua_State *L = s->host->L;
	struct scope *p = t->root.parent;

	report_outcome(L, t, p);
	t->state = TASK_DEAD;
	hga_timer_stop(s->host->loop, &t->timer);
	waitq_wake(&t->joiners, true);
	set_task(t->L, NULL);
	lua_pushnil(L);
	scope_setuv(L, &t->root, UV_THREAD);
	t->L = NULL;
	scope_end(L, &t->root);
	s->n_live--;
	if (t == s->root)
		scope_root_ended(s);
	p->n_tasks--;
	if (p->n_tasks == 0 && p->owner != NULL && p->owner->hard)
		task_wake(p->owner);
}

/* The thread has returned or died (status); its children may still live. */
static void task_end(struct task *t, int status)
{
	lua_State *L = t->sched->host->L;

	if (t->outcome == TASK_LIVE) {
		t->outcome = TASK_FAILED;
		if (status != LUA_ERRMEM && lb_iserr(t->L, -1))
			lua_xmove(t->L, L, 1);
		else
			sched_pushnomem(L);
		scope_setuv(L, &t->root, UV_ERR);
	}
	t->zombie = true;
	if (!drop_scopes(t)) {
		task_done(t);
		return;
	}
	t->state = TASK_WAITING;
	t->hard = true;
	t->what = "its tasks";
}

/* A task cancelled before its first step never runs. */
static void skip_task(struct task *t)
{
	lua_State *L = t->sched->host->L;

	t->outcome = TASK_CANCELLED;
	lua_pushnil(L);
	scope_setuv(L, &t->root, UV_ERR);
	task_done(t);
}

static void resume_task(struct sched *s, struct task *t)
{
	int nargs = t->started ? 0 : t->nargs;
	int nres = 0;
	int status;

	if (t->zombie) {
		task_end(t, LUA_OK);
		return;
	}
	if (!t->started && scope_cancelled(&t->root) != NULL) {
		skip_task(t);
		return;
	}
	t->started = true;
	t->state = TASK_RUNNING;
	s->running = t;
	(void)sched_enter(t->L);
	scope_arm(t->L);
	status = lua_resume(t->L, s->host->L, nargs, &nres);
	(void)sched_enter(NULL);
	s->running = NULL;
	if (status != LUA_YIELD) {
		task_end(t, status);
		return;
	}
	lua_pop(t->L, nres);
	if (t->state == TASK_RUNNING) /* a yield that is none of ours */
		sched_ready(t);
}

void sched_step(struct sched *s)
{
	struct task *t = s->ready;

	s->ready = NULL;
	s->ready_last = NULL;
	while (t != NULL) {
		struct task *next = t->ready_next;

		t->queued = false;
		t->ready_next = NULL;
		resume_task(s, t);
		t = next;
	}
}

/* ---- deadlock ---- */

static void describe(const struct task *t, struct hga_buf *out,
                     struct hga_err *err)
{
	const char *label = task_label(t);
	int r;

	if (t->state != TASK_WAITING)
		return;
	r = hga_buf_addf(out, err, "%stask %u%s%s%s waits for %s",
	                 out->len > 0 ? "; " : "", t->id, *label ? " (" : "",
	                 label, *label ? ")" : "", t->what ? t->what : "?");
	if (r == 0 && t->joining != NULL)
		r = hga_buf_addf(out, err, " %u", t->joining->id);
	(void)r; /* a cut text is still useful */
}

/* Next task after `s` in preorder below top, or NULL. */
static struct scope *next_scope(struct scope *s, const struct scope *top)
{
	if (s->kids != NULL)
		return s->kids;
	while (s != top && s->next == NULL)
		s = s->parent;
	return s == top ? NULL : s->next;
}

static void describe_all(struct sched *s, struct hga_buf *out)
{
	struct hga_err err;

	for (struct scope *at = &s->top; at != NULL;
	     at = next_scope(at, &s->top))
		if (at->owner != NULL && at == &at->owner->root)
			describe(at->owner, out, &err);
}

/* (lightuserdata text): builds the error; protected. */
static int make_deadlock(lua_State *L)
{
	struct hga_err err;

	err.kind = HGA_BUG;
	(void)hga_fail(&err, HGA_BUG, 0, "Deadlock", "deadlock: %s",
	               (const char *)lua_touserdata(L, 1)); /* fills err */
	lb_pusherr(L, &err);
	return 1;
}

static void fail_root(struct sched *s, struct hga_buf *text)
{
	lua_State *L = s->host->L;
	union {
		const char *c;
		void *p;
	} u = {hga_buf_text(text)};

	lua_pushcfunction(L, make_deadlock);
	lua_pushlightuserdata(L, u.p);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		lua_pop(L, 1);
		sched_pushnomem(L);
	}
	if (s->root != NULL && s->root->state != TASK_DEAD) {
		scope_fail(L, &s->root->root);
		scope_cancel(&s->root->root, 1, CAUSE_DEADLOCK, NULL);
	} else {
		lua_pop(L, 1);
	}
}

static void deadlock(struct sched *s)
{
	struct hga_buf text;

	s->deadlocks++;
	if (s->deadlocks == 2) {
		scope_cancel(&s->top, 2, CAUSE_DEADLOCK, NULL);
		return;
	}
	hga_buf_init(&text, 400);
	describe_all(s, &text);
	if (s->deadlocks > 2) {
		fprintf(stderr, "hgauto: deadlock: %s\n", hga_buf_text(&text));
		_exit(70);
	}
	fail_root(s, &text);
	hga_buf_release(&text);
}

void sched_loop(struct sched *s)
{
	struct hga_loop *loop = s->host->loop;
	struct hga_err err;

	for (;;) {
		scope_interrupts(s);
		sched_step(s);
		if (s->n_live == 0)
			return;
		if (s->ready == NULL && !hga_loop_busy(loop) &&
		    !scope_interrupted(s)) {
			deadlock(s);
			continue;
		}
		if (hga_loop_step(loop, s->ready != NULL ? 0 : -1, &err) < 0) {
			fprintf(stderr, "hgauto: %s\n", err.msg);
			_exit(70);
		}
	}
}

/* ---- set-up ---- */

static int task_tostring(lua_State *L)
{
	const struct task *t = luaL_checkudata(L, 1, TASK_CLASS);
	const char *label = task_label(t);

	lua_pushfstring(L, "task %d%s%s", (int)t->id, *label ? " " : "", label);
	return 1;
}

static int task_gc(lua_State *L)
{
	struct task *t = luaL_checkudata(L, 1, TASK_CLASS);

	/* Only at the end of a process that could not unwind. */
	hga_timer_stop(host_of(L)->loop, &t->timer);
	hga_timer_stop(host_of(L)->loop, &t->root.timer);
	hga_free(t->root.why);
	t->root.why = NULL;
	return 0;
}

static const luaL_Reg task_meta[] = {
    {"__tostring", task_tostring}, {"__gc", task_gc}, {NULL, NULL}};

void sched_open(lua_State *L, struct sched *s)
{
	struct hga_err err;

	(void)s; /* all state is in the registry */
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
	(void)hga_fail_mem(&err); /* fills err only */
	lb_pusherr(L, &err);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &nomem_key);
	lb_newclass(L, TASK_CLASS, lasync_task_methods, task_meta);
	lb_openops(L);
}
