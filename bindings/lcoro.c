/*
 * Replacements in the standard library `coroutine`: tasks are threads too,
 * but only the scheduler may resume or close them, and a plain yield must not
 * reach it.  resume and wrap also tell the signal handler which state runs.
 */
#include "host.h"
#include "lb.h"
#include "scope.h"

#include <lauxlib.h>

/* A plain coroutine at idx; a task is a usage error. */
static lua_State *check_plain(lua_State *L, int idx)
{
	lua_State *co = lua_tothread(L, idx);

	if (co == NULL)
		(void)lb_usage(L, idx, "coroutine expected, got %s",
		               luaL_typename(L, idx));
	else if (task_of(co) != NULL)
		(void)lb_usage(L, idx, "this is a task; use its handle");
	return co;
}

/* Resumes co with the n topmost values of L.  Results or the error are moved
 * to L; returns the number of results, -1: error. */
static int resume(lua_State *L, lua_State *co, int n)
{
	lua_State *prev;
	int status;
	int nres = 0;

	if (!lua_checkstack(co, n)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	lua_xmove(L, co, n);
	prev = sched_enter(co);
	scope_arm(co);
	status = lua_resume(co, L, n, &nres);
	(void)sched_enter(prev);
	scope_arm(L);
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return -1;
	}
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, nres);
	return nres;
}

static int co_resume(lua_State *L)
{
	lua_State *co = check_plain(L, 1);
	int n = resume(L, co, lua_gettop(L) - 1);

	lua_pushboolean(L, n >= 0);
	lua_insert(L, n >= 0 ? -(n + 1) : -2);
	return n >= 0 ? n + 1 : 2;
}

static int wrap_error(lua_State *L, lua_State *co)
{
	int status = lua_status(co);

	if (status != LUA_OK && status != LUA_YIELD) {
		/* error in the coroutine: close its pending variables */
		if (lua_resetthread(co) != LUA_OK)
			lua_xmove(co, L, 1);
	}
	if (lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

static int wrap_call(lua_State *L)
{
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	int n = resume(L, co, lua_gettop(L));

	return n >= 0 ? n : wrap_error(L, co);
}

static int co_wrap(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, wrap_call, 1);
	return 1;
}

static int co_close(lua_State *L)
{
	(void)check_plain(L, 1);
	lua_settop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, 1, LUA_MULTRET);
	return lua_gettop(L);
}

static int co_yield (lua_State *L)
{
	if (task_of(L) != NULL)
		return lb_fail(L, HGA_USAGE, "Yield",
		               "coroutine.yield outside a coroutine; "
		               "async.sleep(0) lets other tasks run");
	return lua_yield(L, lua_gettop(L));
}

void lcoro_open(lua_State *L)
{
	static const luaL_Reg fns[] = {{"resume", co_resume},
	                               {"wrap", co_wrap},
	                               {"yield", co_yield },
	                               {NULL, NULL}};

	lua_getglobal(L, "coroutine");
	luaL_setfuncs(L, fns, 0);
	lua_getfield(L, -1, "close");
	lua_pushcclosure(L, co_close, 1);
	lua_setfield(L, -2, "close");
	lua_pop(L, 1);
}
