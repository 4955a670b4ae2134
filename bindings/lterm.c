/*
 * Module hgauto.term: the program's output streams and what the terminal is.
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "base/term.h"

#include <lauxlib.h>

#include <string.h>

#define MODE_KEY "hgauto.term.color"

static int write_to(lua_State *L, enum hga_term_stream stream)
{
	struct hga_str text = lb_checkstr(L, 1);

	sched_check_effect(L, stream == HGA_TERM_OUT ? "term.out" : "term.err");
	host_write(L, stream, text);
	return 0;
}

/// Writes text to stdout; whole lines appear at once, secrets as ***.
// @param text string
static int l_out(lua_State *L)
{
	return write_to(L, HGA_TERM_OUT);
}

/// Writes text to stderr; whole lines appear at once, secrets as ***.
// @param text string
static int l_err(lua_State *L)
{
	return write_to(L, HGA_TERM_ERR);
}

/// Writes unfinished lines of both streams.
static int l_flush(lua_State *L)
{
	struct host *h = host_of(L);
	struct hga_err err;

	if (hga_term_flush(h->term, HGA_TERM_OUT, &err) < 0 ||
	    hga_term_flush(h->term, HGA_TERM_ERR, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Whether the reader of stdout (1) or stderr (2) has gone away.
// @param fd integer
// @return boolean
static int l_epipe(lua_State *L)
{
	lua_Integer fd = luaL_checkinteger(L, 1);

	lua_pushboolean(L,
	                hga_term_epipe(host_of(L)->term,
	                               fd == 2 ? HGA_TERM_ERR : HGA_TERM_OUT));
	return 1;
}

static int check_fd(lua_State *L, int idx)
{
	lua_Integer fd = luaL_checkinteger(L, idx);

	if (fd < 0 || fd > 1 << 20)
		return lb_usage(L, idx, "a descriptor expected");
	return (int)fd;
}

/// Whether a descriptor is a terminal.
// @param fd integer
// @return boolean
static int l_isatty(lua_State *L)
{
	lua_pushboolean(L, hga_term_isatty(check_fd(L, 1)));
	return 1;
}

/// Columns of the terminal.
// @param[opt] fd integer default 2
// @return integer
static int l_width(lua_State *L)
{
	int fd = lua_isnoneornil(L, 1) ? 2 : check_fd(L, 1);

	lua_pushinteger(L, hga_term_width(fd));
	return 1;
}

/// Columns that a text takes.
// @param text string
// @return integer
static int l_columns(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)hga_term_columns(lb_checkstr(L, 1)));
	return 1;
}

/// The longest beginning of a text that fits into some columns.
// @param text string
// @param columns integer
// @return string
static int l_cut(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	lua_Integer n = luaL_checkinteger(L, 2);

	lb_pushstr(L, hga_term_cut(text, n > 0 ? (size_t)n : 0));
	return 1;
}

/// Remote text made harmless for a terminal.
// @param text string
// @return string
static int l_filter(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, (size_t)1 << 30);
	if (hga_term_filter(&out, text, &err) < 0) {
		hga_buf_release(&out);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &out);
	return 1;
}

/// Whether the locale is UTF-8.
// @return boolean
static int l_utf8(lua_State *L)
{
	lua_pushboolean(L, hga_term_utf8());
	return 1;
}

/// Sets the choice (auto, always, never), or tells whether fd gets colour.
// @param mode_or_fd string|integer default 2
// @return boolean
static int l_color(lua_State *L)
{
	static const char *const modes[] = {"auto", "always", "never", NULL};
	int fd = 2;
	int choice;

	if (lua_type(L, 1) == LUA_TSTRING) {
		choice = luaL_checkoption(L, 1, NULL, modes);
		lua_pushinteger(L, choice);
		lua_setfield(L, LUA_REGISTRYINDEX, MODE_KEY);
	} else if (!lua_isnoneornil(L, 1)) {
		fd = check_fd(L, 1);
	}
	lua_getfield(L, LUA_REGISTRYINDEX, MODE_KEY);
	choice = (int)lua_tointeger(L, -1);
	lua_pushboolean(L, hga_term_color(fd, (enum hga_color)choice));
	return 1;
}

static const luaL_Reg term_fns[] = {
    {"out", l_out},         {"err", l_err},       {"flush", l_flush},
    {"epipe", l_epipe},     {"isatty", l_isatty}, {"width", l_width},
    {"columns", l_columns}, {"cut", l_cut},       {"filter", l_filter},
    {"utf8", l_utf8},       {"color", l_color},   {NULL, NULL}};

int luaopen_hgauto_term(lua_State *L)
{
	luaL_newlib(L, term_fns);
	return 1;
}
