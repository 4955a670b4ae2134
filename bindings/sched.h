/*
 * Tasks, the ready queue and waiting, as seen by a binding.
 *
 * A task is a Lua thread; its struct task * sits in lua_getextraspace of the
 * thread (NULL in plain coroutines).  Bindings only use: sched_await,
 * sched_spawnable checks, sched_register, sched_release, sched_loop.
 *
 * Pattern of a waiting function:
 *
 *	static int exec_k(lua_State *L, int status, lua_KContext ctx)
 *	{
 *		struct l_exec *x = (struct l_exec *)ctx;
 *		sched_resumed(L, &x->op.base);   // raises cancelled or op err
 *		... push results ...
 *		return 1;
 *	}
 *	static int l_exec(lua_State *L)
 *	{
 *		... arguments ...
 *		struct l_exec *x = lb_newop(L, sizeof(*x), release);
 *		if (hga_..._start(host_loop(L), &x->op, &args, &err) < 0)
 *			return lb_raise(L, &err);
 *		return sched_await(L, &x->op.base, exec_k);
 *	}
 *
 * The suspended stack keeps the operation's userdata alive.
 */
#ifndef HGA_SCHED_H
#define HGA_SCHED_H

#include "net/loop.h"
#include "net/op.h"

#include <lua.h>

#include <stdbool.h>

/* The process's loop; created with the host. */
struct hga_loop *host_loop(lua_State *L);

/*
 * Raises usage "cannot wait here: ..." where a yield is impossible (plain
 * coroutine, comparator, __gc, ...), cancelled when the task's scope is
 * cancelled, load when a task file is being loaded.  Call before an operation
 * is started.  what: "ssh exec", for messages and deadlock reports.
 * [-0, +0, raises]
 */
void sched_check_wait(lua_State *L, const char *what);

/*
 * Suspends the running task until op is done, makes progress or the task's
 * scope is cancelled (then op->cancel was called).  An op that another task
 * waits for is usage, "busy in task NAME".  Takes over op->done, op->progress
 * (always set) and op->task;
 * what (static text) names the wait in deadlock reports.  Calls k with
 * ctx = (lua_KContext)(void *)op.  Use as: return sched_await(...).
 * An op that is already finished makes the task ready at once.
 */
int sched_await(lua_State *L, struct hga_op *op, const char *what,
                lua_KFunction k);

/*
 * First statement of a continuation: raises `cancelled` when the task's scope
 * is cancelled (after cancelling op if it still runs), raises op->err when op
 * finished with an error; returns true when op finished, false when it only
 * made progress (handle it, then sched_await again).
 */
bool sched_resumed(lua_State *L, struct hga_op *op);

/* As sched_resumed, but returns -1 when op finished with an error (so that
 * the continuation can add fields and raise itself), 1 finished, 0 progress.
 * Still raises cancelled. */
int sched_resumed_raw(lua_State *L, struct hga_op *op);

/*
 * The userdata or table at idx (with a __close metamethod) is a resource:
 * closed by the end of the innermost scope of the running task (timeouts and
 * shields do not count) unless released before.  Call sched_release in
 * close() and keep().
 */
void sched_register(lua_State *L, int idx);
void sched_release(lua_State *L, int idx);

/* True while a task file is being loaded (effects must raise kind load):
 * raises "WHAT called while the file is loaded; move it into run". */
void sched_check_effect(lua_State *L, const char *what);

/* Label path of the running task ("x64", "x64/build") or "". */
const char *sched_label(lua_State *L);

#endif
