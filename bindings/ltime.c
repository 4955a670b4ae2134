/*
 * Module hgauto.time: clocks and dates; seconds as numbers.
 */
#include "lb.h"
#include "modules.h"

#include "base/time.h"

#include <lauxlib.h>

#include <math.h>

/* Seconds at idx as microseconds, within the years 1 to 9999. */
static int64_t check_us(lua_State *L, int idx)
{
	lua_Number v = luaL_checknumber(L, idx);

	if (!(v > -6.3e10 && v < 2.6e11))
		(void)lb_usage(L, idx, "time out of range");
	return (int64_t)llround(v * 1e6);
}

/// Seconds since the epoch.
// @return number
static int l_now(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)hga_wall_us() / 1e6);
	return 1;
}

/// Seconds of a clock that never jumps.
// @return number
static int l_mono(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)hga_mono_us() / 1e6);
	return 1;
}

/// RFC 3339 text in UTC.
// @param epoch number
// @param[opt] opts.ms boolean with milliseconds
// @return string
// @example time.iso(0) -- 1970-01-01T00:00:00Z
static int l_iso(lua_State *L)
{
	static const struct lb_opt defs[] = {{"ms", LB_BOOL, 0},
	                                     {NULL, LB_BOOL, 0}};
	int64_t us = check_us(L, 1);
	char text[HGA_TIME_TEXT];
	bool ms = false;

	lb_opts(L, 2, "time.iso", defs, &ms);
	lua_pushstring(
	    L, hga_time_text(text, us, ms ? HGA_TIME_ISO_MS : HGA_TIME_ISO));
	return 1;
}

/// Seconds since the epoch of a date text (ISO 8601, RFC 822, number).
// @param text string
// @return number
// @raise usage it is none
static int l_parse(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	int64_t us;

	if (!hga_time_parse(text, &us))
		return lb_fail(L, HGA_USAGE, "Time", "\"%.*s\" is no time",
		               text.n > 40 ? 40 : (int)text.n, text.s);
	if (us % 1000000 == 0)
		lua_pushinteger(L, us / 1000000);
	else
		lua_pushnumber(L, (lua_Number)us / 1e6);
	return 1;
}

/// Text in local time, as os.date.
// @param epoch number
// @param[opt] fmt string default "%Y-%m-%d %H:%M:%S %z"
// @return string
static int l_local_text(lua_State *L)
{
	int64_t us = check_us(L, 1);
	const char *fmt = luaL_optstring(L, 2, "%Y-%m-%d %H:%M:%S %z");
	lua_Integer sec = us / 1000000 - (us % 1000000 < 0);

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, "os");
	lua_getfield(L, -1, "date"); /* checks the format */
	lua_pushstring(L, fmt);
	lua_pushinteger(L, sec);
	lua_call(L, 2, 1);
	return 1;
}

static const luaL_Reg time_fns[] = {{"now", l_now},
                                    {"mono", l_mono},
                                    {"iso", l_iso},
                                    {"parse", l_parse},
                                    {"local_text", l_local_text},
                                    {NULL, NULL}};

int luaopen_hgauto_time(lua_State *L)
{
	luaL_newlib(L, time_fns);
	return 1;
}
