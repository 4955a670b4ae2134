/*
 * Module hgauto.async, C half: scopes, tasks, timeouts, events, channels.
 * Semantics: architecture section 4; the work is done in sched.c, scope.c.
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"
#include "scope.h"

#include <lauxlib.h>

#include <string.h>

#define DEFER_CLASS "hgauto.defer"
#define EVENT_CLASS "hgauto.event"
#define CHANNEL_CLASS "hgauto.channel"

#define UV_FN 3 /* of a defer: its function */

static struct task *running_task(lua_State *L, const char *what)
{
	struct task *t = task_of(L);

	if (t == NULL)
		t = sched_of(L)->running; /* from a plain coroutine */
	if (t == NULL)
		(void)lb_fail(L, HGA_USAGE, "NoTask", "%s: no task is running",
		              what);
	return t;
}

static void check_function(lua_State *L, int idx)
{
	if (lua_isfunction(L, idx))
		return;
	if (luaL_getmetafield(L, idx, "__call") != LUA_TNIL) {
		lua_pop(L, 1);
		return;
	}
	(void)lb_usage(L, idx, "function expected, got %s",
	               lua_isnone(L, idx) ? "no value" : luaL_typename(L, idx));
}

/* ---- scopes ---- */

static struct scope *new_scope(lua_State *L)
{
	struct scope *s = lb_newobj(L, sizeof(*s), 2, SCOPE_CLASS);

	s->anchor = LUA_NOREF;
	return s;
}

/// Runs a function as owner of tasks; ends when it and its tasks have ended.
// @param fn function gets the scope; its results are returned
// @param[opt] opts.isolate boolean failures of tasks stay in their handles
// @return any the results of fn
// @raise the first failure of body or tasks; later ones are in err.suppressed
// @waits
// @example async.scope(function(s) s:spawn(work, 1); s:spawn(work, 2) end)
static int l_scope(lua_State *L)
{
	static const struct lb_opt defs[] = {{"isolate", LB_BOOL, 0},
	                                     {NULL, LB_BOOL, 0}};
	bool isolate = false;
	struct scope *s;

	check_function(L, 1);
	lb_opts(L, 2, "async.scope", defs, &isolate);
	sched_check_wait(L, "async.scope");
	lua_settop(L, 1);
	lua_pushnil(L);
	lua_insert(L, 1);
	s = new_scope(L);
	s->isolate = isolate;
	lua_pushvalue(L, -1);
	lua_insert(L, 1); /* scope, nil, fn, scope */
	return scope_run(L, s);
}

/* [sec, fn, args] -> runs fn in a scope with that deadline. */
static int run_limited(lua_State *L, bool shield)
{
	struct scope *s;
	int64_t ms = lb_checkms(L, 1);

	check_function(L, 2);
	if (shield)
		sched_check_place(L, "async.shield");
	else
		sched_check_wait(L, "async.timeout");
	s = new_scope(L);
	s->limit_ms = ms > 0 ? ms : 1;
	s->shield = shield;
	s->passing = true;
	lua_replace(L, 1);
	lua_pushnil(L);
	lua_insert(L, 2);
	return scope_run(L, s);
}

/// Runs a function with a deadline, in the same task.
// @param sec number|string seconds or a duration
// @param fn function gets the further arguments
// @return any the results of fn
// @raise timeout its own deadline passed
// @waits
// @example async.timeout(30, poll, machine)
static int l_timeout(lua_State *L)
{
	return run_limited(L, false);
}

/// Runs a function that cancellation from outside does not reach.
// @param sec number|string its own deadline
// @param fn function gets the further arguments
// @return any the results of fn
// @raise timeout its own deadline passed
// @waits
// @example async.shield(30, terminate, id)
static int l_shield(lua_State *L)
{
	return run_limited(L, true);
}

static int spawn_in(lua_State *L, struct scope *s, const char *what)
{
	const struct scope *by;

	sched_check_effect(L, what);
	if (s->ended || s->phase == PHASE_END)
		return lb_fail(L, HGA_USAGE, "ScopeEnded",
		               "%s: scope has ended", what);
	by = scope_cancelled(s);
	if (by != NULL) {
		scope_pusherr(L, by);
		return lua_error(L);
	}
	(void)sched_spawn(L, s, lua_gettop(L) - 1);
	return 1;
}

/// Starts a task in this scope.
// @param fn function gets the further arguments
// @return task handle with join, cancel, status
// @raise cancelled the scope is cancelled; usage it has ended
static int scope_spawn(lua_State *L)
{
	struct scope *s = lb_check(L, 1, SCOPE_CLASS);

	check_function(L, 2);
	lua_remove(L, 1);
	return spawn_in(L, s, "scope:spawn");
}

/// Starts a task in the innermost scope.
// @param fn function gets the further arguments
// @return task handle with join, cancel, status
// @raise cancelled the scope is cancelled
static int l_spawn(lua_State *L)
{
	const struct task *t;

	check_function(L, 1);
	sched_check_effect(L, "async.spawn");
	t = running_task(L, "async.spawn");
	return spawn_in(L, t->scope, "async.spawn");
}

/* Also of defers: only at the end of a process that could not unwind. */
static int scope_gc(lua_State *L)
{
	struct scope *s = lua_touserdata(L, 1);

	hga_timer_stop(host_of(L)->loop, &s->timer);
	return 0;
}

static const luaL_Reg scope_meta[] = {{"__gc", scope_gc}, {NULL, NULL}};
static const luaL_Reg scope_methods[] = {{"spawn", scope_spawn}, {NULL, NULL}};

/* ---- tasks ---- */

static int join_result(lua_State *L, const struct task *t)
{
	int n;

	lua_settop(L, 1);
	lua_getiuservalue(L, 1, UV_ERR);
	switch ((enum task_outcome)t->outcome) {
	case TASK_OK:
		break;
	case TASK_LIVE:
	case TASK_FAILED:
	case TASK_CANCELLED:
		if (lua_isnil(L, 2))
			return lb_fail(L, HGA_CANCELLED, "Cancelled",
			               "task %u was cancelled", t->id);
		return lua_error(L);
	}
	if (lua_isnil(L, 2))
		return 0;
	lua_getfield(L, 2, "n");
	n = (int)lua_tointeger(L, 3);
	luaL_checkstack(L, n, "too many results");
	lua_settop(L, 2);
	for (int i = 1; i <= n; i++)
		lua_rawgeti(L, 2, i);
	return n;
}

static int join_k(lua_State *L, int status, lua_KContext ctx)
{
	struct task *t = (struct task *)ctx;

	(void)status; /* LUA_YIELD */
	sched_check_cancel(L);
	return join_result(L, t);
}

/// Waits for a task to end and returns its results.
// @return any what its function returned
// @raise the task's error; cancelled when it was cancelled
// @waits
static int task_join(lua_State *L)
{
	struct task *t = lb_check(L, 1, TASK_CLASS);
	struct task *me;

	if (t->state == TASK_DEAD)
		return join_result(L, t);
	sched_check_wait(L, "join");
	me = task_of(L);
	if (t == me)
		return lb_fail(L, HGA_USAGE, "JoinSelf",
		               "a task cannot join itself");
	lua_settop(L, 1);
	me->joining = t;
	return sched_wait(L, &t->joiners, -1, "task", join_k, (lua_KContext)t);
}

/// Cancels a task: each of its waits raises cancelled.
// @param[opt] why string
static int task_cancel(lua_State *L)
{
	struct task *t = lb_check(L, 1, TASK_CLASS);
	const char *why = luaL_optstring(L, 2, NULL);

	if (t->state != TASK_DEAD)
		scope_cancel(&t->root, 1, CAUSE_USER, why);
	return 0;
}

/// State of a task and, while it runs, what it waits for.
// @return string running, done, failed or cancelled
// @return string|nil
static int task_status(lua_State *L)
{
	const struct task *t = lb_check(L, 1, TASK_CLASS);

	if (t->state != TASK_DEAD) {
		lua_pushliteral(L, "running");
		if (t->state == TASK_WAITING && t->what != NULL)
			lua_pushstring(L, t->what);
		else
			lua_pushnil(L);
		return 2;
	}
	if (t->outcome == TASK_OK)
		lua_pushliteral(L, "done");
	else if (t->outcome == TASK_FAILED)
		lua_pushliteral(L, "failed");
	else
		lua_pushliteral(L, "cancelled");
	return 1;
}

const luaL_Reg lasync_task_methods[] = {{"join", task_join},
                                        {"cancel", task_cancel},
                                        {"status", task_status},
                                        {NULL, NULL}};

/// The handle of the running task.
// @return task
static int l_current(lua_State *L)
{
	anchor_push(L, running_task(L, "async.current")->root.anchor);
	return 1;
}

/// Whether the next wait would raise cancelled.
// @return boolean
static int l_cancelled(lua_State *L)
{
	struct task *t = running_task(L, "async.cancelled");

	lua_pushboolean(L, scope_cancelled(t->scope) != NULL);
	return 1;
}

/// Waits; 0 lets the other tasks run.
// @param sec number|string seconds or a duration
// @waits
static int l_sleep(lua_State *L)
{
	int64_t ms = lb_checkms(L, 1);

	sched_check_wait(L, "async.sleep");
	return sched_sleep(L, ms);
}

static int run_scope(lua_State *L)
{
	return scope_run(L, lua_touserdata(L, 1));
}

static int interruptible_k(lua_State *L, int status, lua_KContext ctx)
{
	const struct scope *s = (const struct scope *)ctx;
	struct sched *sched = sched_of(L);
	bool good = status == LUA_OK || status == LUA_YIELD;

	if (s->cause == CAUSE_INTERRUPT)
		scope_presses_reset(sched);
	if (sched->interruptible == s) /* it could not be entered */
		sched->interruptible = s->outer;
	lua_pushboolean(L, good);
	lua_replace(L, 1); /* the scope's place */
	return lua_gettop(L);
}

/// Runs a function that Ctrl-C ends without ending the program.
// @param fn function gets the further arguments
// @return boolean like pcall
// @return any results, or the error (kind cancelled after Ctrl-C)
// @waits
static int l_interruptible(lua_State *L)
{
	struct sched *sched = sched_of(L);
	struct scope *s;
	int n = lua_gettop(L);

	check_function(L, 1);
	sched_check_wait(L, "async.interruptible");
	luaL_checkstack(L, 8, NULL);
	s = new_scope(L);
	s->passing = true; /* the REPL's next chunk uses what this one opens */
	s->outer = sched->interruptible;
	lua_pushvalue(L, -1);
	lua_insert(L, 1); /* anchors ctx */
	lua_insert(L, 2);
	lua_pushnil(L);
	lua_insert(L, 3);
	lua_pushcfunction(L, run_scope);
	lua_insert(L, 2); /* scope, run_scope, scope, nil, fn, arguments */
	sched->interruptible = s;
	return interruptible_k(L,
	                       lua_pcallk(L, n + 2, LUA_MULTRET, 0,
	                                  (lua_KContext)s, interruptible_k),
	                       (lua_KContext)s);
}

/* ---- defer ---- */

/* An error of the cleanup joins the one that unwinds. */
static int deferred_k(lua_State *L, int status, lua_KContext ctx)
{
	(void)ctx; /* no state */
	if (status == LUA_OK || status == LUA_YIELD)
		return 0;
	if (lua_isnil(L, 2) || !lb_iserr(L, 2))
		return lua_error(L);
	lb_adderr(L, 2, -1);
	return 0;
}

static int defer_close(lua_State *L)
{
	struct scope *s = lb_check(L, 1, DEFER_CLASS);

	lua_settop(L, 2);
	if (lua_getiuservalue(L, 1, UV_FN) == LUA_TNIL)
		return 0; /* kept */
	lua_pushnil(L);
	lua_setiuservalue(L, 1, UV_FN);
	if (task_of(L) == NULL || !lua_isyieldable(L)) {
		/* No scope could wait here for its tasks. */
		return deferred_k(L, lua_pcallk(L, 0, 0, 0, 0, deferred_k), 0);
	}
	lua_pushcfunction(L, run_scope);
	lua_pushvalue(L, 1);
	lua_pushnil(L);
	lua_pushvalue(L, 3);
	s->shield = true;
	return deferred_k(L, lua_pcallk(L, 3, 0, 0, 0, deferred_k), 0);
}

/// Forgets the function: nothing runs at the end of the block.
static int defer_keep(lua_State *L)
{
	(void)lb_check(L, 1, DEFER_CLASS);
	lua_pushnil(L);
	lua_setiuservalue(L, 1, UV_FN);
	return 0;
}

/// A value whose block end runs fn, shielded from cancellation.
// @param fn function may wait
// @param[opt] sec number|string its deadline, default 30
// @return closable with keep()
// @example local _d <close> = async.defer(function() m:terminate() end, 60)
static int l_defer(lua_State *L)
{
	int64_t ms = lua_isnoneornil(L, 2) ? 30000 : lb_checkms(L, 2);
	struct scope *s;

	check_function(L, 1);
	s = lb_newobj(L, sizeof(*s), 3, DEFER_CLASS);
	s->anchor = LUA_NOREF;
	s->limit_ms = ms > 0 ? ms : 1;
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, UV_FN);
	return 1;
}

static const luaL_Reg defer_methods[] = {{"keep", defer_keep}, {NULL, NULL}};
static const luaL_Reg defer_meta[] = {
    {"__close", defer_close}, {"__gc", scope_gc}, {NULL, NULL}};

/* ---- events ---- */

struct event {
	struct waitq q;
	bool set;
};

/// Sets the event once and wakes all who wait; later calls change nothing.
// @param[opt] v any what wait returns, default true
// @return boolean it was not set before
static int event_set(lua_State *L)
{
	struct event *ev = lb_check(L, 1, EVENT_CLASS);
	bool first = !ev->set;

	lua_settop(L, 2);
	if (first) {
		if (lua_isnil(L, 2)) {
			lua_pushboolean(L, true);
			lua_replace(L, 2);
		}
		lua_setiuservalue(L, 1, 1);
		ev->set = true;
		waitq_wake(&ev->q, true);
	}
	lua_pushboolean(L, first);
	return 1;
}

static int event_value(lua_State *L)
{
	lua_getiuservalue(L, 1, 1);
	return 1;
}

static int event_k(lua_State *L, int status, lua_KContext ctx)
{
	struct event *ev = (struct event *)ctx;

	(void)status; /* LUA_YIELD */
	sched_check_cancel(L);
	if (!ev->set)
		return lb_fail(L, HGA_TIMEOUT, "Timeout",
		               "the event did not come in time");
	return event_value(L);
}

/// Waits until the event is set.
// @param[opt] sec number|string
// @return any the value of set
// @raise timeout
// @waits
static int event_wait(lua_State *L)
{
	struct event *ev = lb_check(L, 1, EVENT_CLASS);
	int64_t ms = lua_isnoneornil(L, 2) ? -1 : lb_checkms(L, 2);

	if (ev->set)
		return event_value(L);
	sched_check_wait(L, "event:wait");
	lua_settop(L, 1);
	return sched_wait(L, &ev->q, ms, "event", event_k, (lua_KContext)ev);
}

/// Whether the event was set.
// @return boolean
static int event_is_set(lua_State *L)
{
	const struct event *ev = lb_check(L, 1, EVENT_CLASS);

	lua_pushboolean(L, ev->set);
	return 1;
}

static const luaL_Reg event_methods[] = {{"set", event_set},
                                         {"wait", event_wait},
                                         {"is_set", event_is_set},
                                         {NULL, NULL}};

/// A one-shot event for many waiting tasks.
// @return event with set(v), wait([sec]), is_set()
static int l_event(lua_State *L)
{
	(void)lb_newobj(L, sizeof(struct event), 1, EVENT_CLASS);
	return 1;
}

/* ---- channels ---- */

struct channel {
	struct waitq senders, receivers;
	lua_Integer head, n, max; /* first index, filled, capacity */
	bool closed;
};

static int closed_error(lua_State *L)
{
	return lb_fail(L, HGA_USAGE, "Closed", "the channel is closed");
}

static int send_k(lua_State *L, int status, lua_KContext ctx)
{
	struct channel *ch = (struct channel *)ctx;

	if (status == LUA_YIELD) {
		/* A wake-up that came with a cancellation goes to the next. */
		if (scope_cancelled(task_of(L)->scope) != NULL &&
		    ch->n < ch->max)
			waitq_wake(&ch->senders, false);
		sched_check_cancel(L);
	}
	if (ch->closed)
		return closed_error(L);
	if (ch->n >= ch->max)
		return sched_wait(L, &ch->senders, -1, "channel:send", send_k,
		                  ctx);
	lua_getiuservalue(L, 1, 1);
	lua_pushvalue(L, 2);
	lua_rawseti(L, -2, ch->head + ch->n);
	ch->n++;
	waitq_wake(&ch->receivers, false);
	return 0;
}

/// Puts a value into the channel; waits while it is full.
// @param v any not nil
// @raise usage the channel is closed
// @waits
static int channel_send(lua_State *L)
{
	struct channel *ch = lb_check(L, 1, CHANNEL_CLASS);

	lua_settop(L, 2);
	if (lua_isnil(L, 2))
		return lb_usage(L, 2, "nil cannot be sent");
	if (ch->n >= ch->max && !ch->closed)
		sched_check_wait(L, "channel:send");
	return send_k(L, LUA_OK, (lua_KContext)ch);
}

static int recv_k(lua_State *L, int status, lua_KContext ctx)
{
	struct channel *ch = (struct channel *)ctx;

	if (status == LUA_YIELD) {
		if (scope_cancelled(task_of(L)->scope) != NULL && ch->n > 0)
			waitq_wake(&ch->receivers, false);
		sched_check_cancel(L);
	}
	if (ch->n == 0 && ch->closed)
		return 0;
	if (ch->n == 0)
		return sched_wait(L, &ch->receivers, -1, "channel:recv", recv_k,
		                  ctx);
	lua_getiuservalue(L, 1, 1);
	lua_rawgeti(L, -1, ch->head);
	lua_pushnil(L);
	lua_rawseti(L, -3, ch->head);
	ch->head++;
	ch->n--;
	waitq_wake(&ch->senders, false);
	return 1;
}

/// Takes the oldest value; waits while there is none.
// @return any nil when the channel is closed and empty
// @waits
static int channel_recv(lua_State *L)
{
	struct channel *ch = lb_check(L, 1, CHANNEL_CLASS);

	lua_settop(L, 1);
	if (ch->n == 0 && !ch->closed)
		sched_check_wait(L, "channel:recv");
	return recv_k(L, LUA_OK, (lua_KContext)ch);
}

/// No more values: receivers get what is left, then nil.
static int channel_close(lua_State *L)
{
	struct channel *ch = lb_check(L, 1, CHANNEL_CLASS);

	ch->closed = true;
	waitq_wake(&ch->senders, true);
	waitq_wake(&ch->receivers, true);
	return 0;
}

static int channel_gc(lua_State *L)
{
	(void)L; /* nobody waits: a waiting task would hold the channel */
	return 0;
}

static const luaL_Reg channel_methods[] = {{"send", channel_send},
                                           {"recv", channel_recv},
                                           {"close", channel_close},
                                           {NULL, NULL}};
static const luaL_Reg channel_meta[] = {{"__gc", channel_gc}, {NULL, NULL}};

/// A queue between tasks.
// @param[opt] max integer values it holds, default 1
// @return channel with send(v), recv(), close()
static int l_channel(lua_State *L)
{
	lua_Integer max = luaL_optinteger(L, 1, 1);
	struct channel *ch;

	if (max < 1)
		return lb_usage(L, 1, "at least 1 expected");
	ch = lb_newobj(L, sizeof(*ch), 1, CHANNEL_CLASS);
	ch->max = max;
	ch->head = 1;
	lua_newtable(L);
	lua_setiuservalue(L, -2, 1);
	return 1;
}

/* ---- labels and task-local values ---- */

static const char *label_text(lua_State *L, const struct task *t, size_t *n)
{
	const char *s = "";

	*n = 0;
	scope_pushuv(L, &t->root, UV_LABEL);
	if (lua_type(L, -1) == LUA_TSTRING)
		s = lua_tolstring(L, -1, n);
	return s;
}

/// Gets or sets the label of the task; names nest ("x64/build").
// @param[opt] name string
// @return string label path
static int l_label(lua_State *L)
{
	struct task *t = running_task(L, "async.label");
	const char *name = luaL_optstring(L, 1, NULL);
	const char *path;
	size_t n;

	path = label_text(L, t, &n);
	if (name == NULL)
		lua_pushlstring(L, path, n);
	else if (t->label_len == 0)
		lua_pushstring(L, name);
	else if (*name == '\0')
		lua_pushlstring(L, path, t->label_len);
	else {
		lua_pushlstring(L, path, t->label_len);
		lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), name);
	}
	if (name != NULL) {
		lua_pushvalue(L, -1);
		scope_setuv(L, &t->root, UV_LABEL);
	}
	return 1;
}

/// A task-local value; tasks inherit the values of their creator.
// @param key any
// @return any
static int l_local_get(lua_State *L)
{
	const struct task *t = running_task(L, "async.local_get");

	luaL_checkany(L, 1);
	scope_pushuv(L, &t->root, UV_LOCALS);
	if (!lua_istable(L, -1))
		return 0;
	lua_pushvalue(L, 1);
	lua_rawget(L, -2);
	return 1;
}

/// Sets a task-local value for this task and those it will start.
// @param key any
// @param v any
static int l_local_set(lua_State *L)
{
	const struct task *t = running_task(L, "async.local_set");

	luaL_checkany(L, 1);
	if (lua_isnil(L, 1))
		return lb_usage(L, 1, "a key cannot be nil");
	lua_settop(L, 2);
	lua_newtable(L); /* the old one may be shared with other tasks */
	scope_pushuv(L, &t->root, UV_LOCALS);
	if (lua_istable(L, 4)) {
		for (lua_pushnil(L); lua_next(L, 4) != 0; lua_settop(L, 5)) {
			lua_pushvalue(L, 5);
			lua_pushvalue(L, 6);
			lua_rawset(L, 3);
		}
	}
	lua_settop(L, 3);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_rawset(L, 3);
	scope_setuv(L, &t->root, UV_LOCALS);
	return 0;
}

/* ---- resources, interrupts ---- */

/// Lets the innermost scope close a value at its end (last in, first out).
// @param obj closable a value with a __close metamethod
// @return closable the same value
static int l_register(lua_State *L)
{
	luaL_checkany(L, 1);
	(void)running_task(L, "async.register");
	if (luaL_getmetafield(L, 1, "__close") == LUA_TNIL)
		return lb_usage(L, 1,
		                "a value with a __close metamethod "
		                "expected");
	sched_register(L, 1);
	lua_settop(L, 1);
	return 1;
}

/// Takes a value back from its scope; harmless if it is not there.
// @param obj closable
// @return closable the same value
static int l_release(lua_State *L)
{
	luaL_checkany(L, 1);
	sched_release(L, 1);
	lua_settop(L, 1);
	return 1;
}

/// Sets the function that hears of Ctrl-C, SIGTERM and SIGHUP.
// @param fn function|nil gets the number of presses; runs in a task of its own
// with 5 s, before the tasks unwind
// @param[opt] opts.replace boolean Ctrl-C does nothing else (REPL: fn cancels
// what should end, then calls host.press(0)); fn must not wait then
static int l_on_interrupt(lua_State *L)
{
	static const struct lb_opt defs[] = {{"replace", LB_BOOL, 0},
	                                     {NULL, LB_BOOL, 0}};
	struct sched *s = sched_of(L);
	bool replace = false;

	if (!lua_isnoneornil(L, 1))
		check_function(L, 1);
	lb_opts(L, 2, "async.on_interrupt", defs, &replace);
	luaL_unref(L, LUA_REGISTRYINDEX, s->on_interrupt);
	s->on_interrupt = LUA_NOREF;
	s->interrupt_replace = replace;
	if (lua_isnoneornil(L, 1))
		return 0;
	lua_pushvalue(L, 1);
	s->on_interrupt = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

static const luaL_Reg async_fns[] = {{"scope", l_scope},
                                     {"spawn", l_spawn},
                                     {"timeout", l_timeout},
                                     {"shield", l_shield},
                                     {"sleep", l_sleep},
                                     {"defer", l_defer},
                                     {"event", l_event},
                                     {"channel", l_channel},
                                     {"label", l_label},
                                     {"local_get", l_local_get},
                                     {"local_set", l_local_set},
                                     {"register", l_register},
                                     {"release", l_release},
                                     {"interruptible", l_interruptible},
                                     {"current", l_current},
                                     {"cancelled", l_cancelled},
                                     {"on_interrupt", l_on_interrupt},
                                     {NULL, NULL}};

int luaopen_hgauto_async_core(lua_State *L)
{
	lb_newclass(L, SCOPE_CLASS, scope_methods, scope_meta);
	lb_newclass(L, DEFER_CLASS, defer_methods, defer_meta);
	lb_newclass(L, EVENT_CLASS, event_methods, NULL);
	lb_newclass(L, CHANNEL_CLASS, channel_methods, channel_meta);
	luaL_newlib(L, async_fns);
	return 1;
}
