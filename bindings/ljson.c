/*
 * Module hgauto.json over base/json and base/val.
 */
#include "lb.h"
#include "lbval.h"
#include "modules.h"

#include "base/json.h"
#include "base/val.h"

#include <lauxlib.h>

#define JSON_CLASS "hgauto.json.work"
/* Largest tape of one text and largest text written. */
#define JSON_MAX ((size_t)256 << 20)

/* What a call holds while Lua may raise. */
struct work {
	struct hga_vtape *tape;
	struct hga_buf out;
};

static int work_close(lua_State *L)
{
	struct work *w = luaL_checkudata(L, 1, JSON_CLASS);

	hga_vtape_free(w->tape);
	w->tape = NULL;
	hga_buf_release(&w->out);
	return 0;
}

static struct work *new_work(lua_State *L)
{
	struct work *w = lb_newobj(L, sizeof(*w), 0, JSON_CLASS);

	hga_buf_init(&w->out, JSON_MAX);
	return w;
}

static void end_work(struct work *w)
{
	hga_vtape_free(w->tape);
	w->tape = NULL;
}

/// Text of a value; keys are sorted.
// @param v any null, booleans, numbers, strings, lists, maps
// @param[opt] opts.indent integer spaces per level, default none
// @return string
// @raise usage no data (function, cycle, hole, mixed keys, inf, nan)
// @example json.encode({ a = 1 }, { indent = 2 })
static int l_encode(lua_State *L)
{
	static const struct lb_opt defs[] = {{"indent", LB_INT, 0},
	                                     {NULL, LB_INT, 0}};
	int64_t indent = 0;
	struct hga_err err;
	struct work *w;

	luaL_checkany(L, 1);
	lb_opts(L, 2, "json.encode", defs, &indent);
	if (indent < 0 || indent > 16)
		return lb_usage(L, 2, "indent must be 0 to 16");
	w = new_work(L);
	w->tape = hga_vtape_new(NULL, JSON_MAX);
	if (w->tape == NULL)
		return lb_fail(L, HGA_MEMORY, "NoMemory", "out of memory");
	if (lbval_tape(L, 1, w->tape, true, &err) < 0 ||
	    hga_json_write(&w->out, hga_vtape_root(w->tape), (int)indent, true,
	                   &err) < 0) {
		end_work(w);
		hga_err_prefix(&err, "json.encode");
		return lb_raise(L, &err);
	}
	end_work(w);
	lb_pushbuf(L, &w->out);
	return 1;
}

/// Value of a text; null is json.null in lists, absent in objects.
// @param text string
// @return any
// @raise protocol (Syntax, TooDeep, TooLarge)
// @example json.decode('[1, 2]')
static int l_decode(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	struct hga_err err;
	struct work *w = new_work(L);

	if (hga_json_parse(text, JSON_MAX, &w->tape, &err) < 0) {
		hga_err_prefix(&err, "JSON");
		return lb_raise(L, &err);
	}
	lbval_pushx(L, hga_vtape_root(w->tape), true);
	end_work(w);
	return 1;
}

/// Marks a table as list, so that it is written as [] also when empty.
// @param[opt] t table default a new one
// @return table the same
static int l_list(lua_State *L)
{
	if (lua_isnoneornil(L, 1)) {
		lua_settop(L, 0);
		lua_newtable(L);
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lbval_pushlistmeta(L);
	lua_setmetatable(L, 1);
	return 1;
}

static const luaL_Reg json_fns[] = {
    {"encode", l_encode}, {"decode", l_decode}, {"list", l_list}, {NULL, NULL}};

int luaopen_hgauto_json(lua_State *L)
{
	static const luaL_Reg work_methods[] = {{"close", work_close},
	                                        {NULL, NULL}};

	lb_newclass(L, JSON_CLASS, work_methods, NULL);
	luaL_newlib(L, json_fns);
	lua_pushlightuserdata(L, NULL);
	lua_setfield(L, -2, "null");
	return 1;
}
