/*
 * The standard libraries cut to size, and how `require` finds modules.
 *
 * While a file is loaded everything with an effect raises kind load; what
 * would block or end the process, load bytecode or machine code, or break the
 * scheduler is replaced or gone (cli.md section 5.3).
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"
#include "scope.h"

#include "base/mem.h"

#include <lauxlib.h>
#include <lualib.h>

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- guards ---- */

/* Upvalues: the function, its name. */
static int guarded(lua_State *L)
{
	sched_check_effect(L, lua_tostring(L, lua_upvalueindex(2)));
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* io.open: reading is harmless. */
static int guarded_open(lua_State *L)
{
	const char *mode = luaL_optstring(L, 2, "r");

	if (strpbrk(mode, "wa+") != NULL)
		sched_check_effect(L, "io.open for writing");
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* Wraps field `name` of the table on top; full: for messages. */
static void guard(lua_State *L, const char *name, const char *full,
                  lua_CFunction by)
{
	lua_getfield(L, -1, name);
	lua_pushstring(L, full);
	lua_pushcclosure(L, by, 2);
	lua_setfield(L, -2, name);
}

static int no_exit(lua_State *L)
{
	sched_check_effect(L, "os.exit");
	return lb_fail(L, HGA_USAGE, "NoExit", "os.exit: use ctx:exit");
}

static int no_execute(lua_State *L)
{
	sched_check_effect(L, "os.execute");
	return lb_fail(L, HGA_USAGE, "Blocking",
	               "os.execute would stop all tasks; use hgauto.proc");
}

static int no_popen(lua_State *L)
{
	sched_check_effect(L, "io.popen");
	return lb_fail(L, HGA_USAGE, "Blocking",
	               "io.popen would stop all tasks; use hgauto.proc");
}

static int no_setlocale(lua_State *L)
{
	return lb_fail(L, HGA_USAGE, "NoLocale",
	               "os.setlocale: the locale belongs to the program");
}

/* ---- output ---- */

/* In a lane: each line of the text on top gets "label | " in front. */
static void label_lines(lua_State *L)
{
	const char *label = sched_label(L);
	const char *bar = hga_term_utf8() ? " \xe2\x94\x82 " : " | ";
	const char *s, *end;
	luaL_Buffer b;
	size_t n;

	if (*label == '\0')
		return;
	lua_pushstring(L, label); /* it may change below */
	label = lua_tostring(L, -1);
	lua_insert(L, -2);
	s = lua_tolstring(L, -1, &n);
	luaL_buffinit(L, &b);
	for (end = s + n; s < end;) {
		const char *nl = memchr(s, '\n', (size_t)(end - s));
		const char *next = nl != NULL ? nl + 1 : end;

		luaL_addstring(&b, label);
		luaL_addstring(&b, bar);
		luaL_addlstring(&b, s, (size_t)(next - s));
		s = next;
	}
	luaL_pushresult(&b);
}

static int l_print(lua_State *L)
{
	luaL_Buffer b;
	int n = lua_gettop(L);
	size_t len;
	const char *s;

	sched_check_effect(L, "print");
	luaL_checkstack(L, n + 4, "too many values to print");
	for (int i = 1; i <= n; i++) {
		(void)luaL_tolstring(L, i, NULL); /* value stays on top */
		lua_replace(L, i);
	}
	luaL_buffinit(L, &b);
	for (int i = 1; i <= n; i++) {
		if (i > 1)
			luaL_addchar(&b, '\t');
		lua_pushvalue(L, i);
		luaL_addvalue(&b);
	}
	luaL_addchar(&b, '\n');
	luaL_pushresult(&b);
	label_lines(L);
	s = lua_tolstring(L, -1, &len);
	host_write(L, HGA_TERM_OUT, hga_strn(s, len));
	return 0;
}

/* file:write; upvalue 1: the original.  The streams of the program go
 * through the terminal writer. */
static int file_write(lua_State *L)
{
	luaL_Stream *f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
	int n = lua_gettop(L);

	sched_check_effect(L, "file:write");
	if (f->f != stdout && f->f != stderr) {
		lua_pushvalue(L, lua_upvalueindex(1));
		lua_insert(L, 1);
		lua_call(L, n, LUA_MULTRET);
		return lua_gettop(L);
	}
	for (int i = 2; i <= n; i++) {
		struct hga_str s = lb_checkstr(L, i);

		host_write(L, f->f == stdout ? HGA_TERM_OUT : HGA_TERM_ERR, s);
	}
	lua_settop(L, 1);
	return 1;
}

static int file_flush(lua_State *L)
{
	luaL_Stream *f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
	struct host *h = host_of(L);
	struct hga_err err;
	int r = 0;

	if (f->f == stdout || f->f == stderr)
		r = hga_term_flush(h->term,
		                   f->f == stdout ? HGA_TERM_OUT : HGA_TERM_ERR,
		                   &err);
	if (r < 0)
		return lb_raise(L, &err);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* io.write(...) = io.output():write(...); upvalues: io.output, file.write. */
static int io_write(lua_State *L)
{
	sched_check_effect(L, "io.write");
	lua_pushvalue(L, lua_upvalueindex(2));
	lua_insert(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_call(L, 0, 1);
	lua_insert(L, 2);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

static int io_output(lua_State *L)
{
	if (!lua_isnoneornil(L, 1))
		sched_check_effect(L, "io.output");
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

static void wrap_method(lua_State *L, const char *name, lua_CFunction fn)
{
	lua_getfield(L, -1, name);
	lua_pushcclosure(L, fn, 1);
	lua_setfield(L, -2, name);
}

static void trim_io(lua_State *L)
{
	luaL_getmetatable(L, LUA_FILEHANDLE);
	lua_getfield(L, -1, "__index");
	wrap_method(L, "write", file_write);
	wrap_method(L, "flush", file_flush);
	lua_getglobal(L, "io");
	guard(L, "open", "io.open", guarded_open);
	guard(L, "tmpfile", "io.tmpfile", guarded);
	lua_pushcfunction(L, no_popen);
	lua_setfield(L, -2, "popen");
	wrap_method(L, "output", io_output);
	lua_getfield(L, -1, "output");
	lua_getfield(L, -3, "write");
	lua_pushcclosure(L, io_write, 2);
	lua_setfield(L, -2, "write");
	lua_pop(L, 3);
}

static void trim_os(lua_State *L)
{
	static const luaL_Reg fns[] = {{"exit", no_exit},
	                               {"execute", no_execute},
	                               {"setlocale", no_setlocale},
	                               {NULL, NULL}};

	lua_getglobal(L, "os");
	guard(L, "remove", "os.remove", guarded);
	guard(L, "rename", "os.rename", guarded);
	guard(L, "tmpname", "os.tmpname", guarded);
	luaL_setfuncs(L, fns, 0);
	lua_pop(L, 1);
}

/* What reads only stays: the rest could break userdata and the scheduler. */
static void trim_debug(lua_State *L)
{
	static const char *const keep[] = {"traceback", "getinfo", "getlocal",
	                                   "getupvalue"};

	lua_getglobal(L, "debug");
	lua_newtable(L);
	for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
		lua_getfield(L, -2, keep[i]);
		lua_setfield(L, -2, keep[i]);
	}
	lua_pushvalue(L, -1);
	lua_setglobal(L, "debug");
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_insert(L, -2);
	lua_setfield(L, -2, "debug");
	lua_pop(L, 2);
}

/* ---- loading text ---- */

/* load(chunk [, name [, mode [, env]]]) with mode "t"; upvalue: load. */
static int l_load(lua_State *L)
{
	int n = lua_gettop(L);

	if (n < 2)
		lua_settop(L, 2);
	lua_pushliteral(L, "t");
	if (n >= 3)
		lua_replace(L, 3);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/// Loads a text file without running it.
static int l_loadfile(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	bool env = lua_gettop(L) >= 3;

	host_loadfile(L, path, false);
	if (env) {
		lua_pushvalue(L, 3);
		if (lua_setupvalue(L, -2, 1) == NULL)
			lua_pop(L, 1);
	}
	return 1;
}

static int dofile_k(lua_State *L, int status, lua_KContext ctx)
{
	(void)status; /* errors do not come here */
	(void)ctx;    /* no state */
	return lua_gettop(L) - 1;
}

static int l_dofile(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);

	lua_settop(L, 1);
	host_loadfile(L, path, false);
	lua_callk(L, 0, LUA_MULTRET, 0, dofile_k);
	return dofile_k(L, LUA_OK, 0);
}

/* ---- require ---- */

struct module {
	const char *name;
	lua_CFunction open;
};

#define HGA_ROW(name, f) {name, luaopen_##f},
static const struct module modules[] = {HGA_MODULES(HGA_ROW)};
#undef HGA_ROW

static int find_c(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	for (size_t i = 0; i < sizeof(modules) / sizeof(modules[0]); i++) {
		if (strcmp(modules[i].name, name) != 0)
			continue;
		if (modules[i].open == NULL)
			return lb_fail(L, HGA_NOTFOUND, "NotBuiltIn",
			               "module %s is not built in", name);
		lua_pushcfunction(L, modules[i].open);
		lua_pushliteral(L, ":built-in:");
		return 2;
	}
	return 0;
}

/* Letters, digits, _ and - in parts between single dots. */
static bool plain_name(const char *s)
{
	if (*s == '.' || *s == '\0' || strlen(s) > 200)
		return false;
	for (; *s != '\0'; s++) {
		if (*s == '.' && (s[1] == '.' || s[1] == '\0'))
			return false;
		if (*s != '.' && *s != '_' && *s != '-' &&
		    !isalnum((unsigned char)*s))
			return false;
	}
	return true;
}

/* Pushes the chunk of an embedded file; false: there is none. */
static bool load_embedded(lua_State *L, const char *name)
{
	struct hga_buf text, origin;
	struct hga_err err;
	struct hga_str s;
	int r;

	hga_buf_init(&text, (size_t)16 << 20);
	hga_buf_init(&origin, 4096);
	r = hga_buf_addc(&origin, '@', &err);
	if (r == 0)
		r = host_file(host_of(L), name, &text, &origin, &err);
	if (r < 0) {
		hga_buf_release(&text);
		hga_buf_release(&origin);
		if (r == -HGA_NOTFOUND)
			return false;
		(void)lb_raise(L, &err);
	}
	if (!lb_trypushbuf(L, &origin)) {
		hga_buf_release(&text);
		(void)lb_fail(L, HGA_MEMORY, "NoMemory", "out of memory");
	}
	lb_pushbuf(L, &text);
	s.s = lua_tolstring(L, -1, &s.n);
	host_loadtext(L, s, lua_tostring(L, -2));
	return true;
}

static int find_embedded(lua_State *L)
{
	static const char *const forms[] = {"lib/%s.lua", "lib/%s/init.lua",
	                                    "%s.lua", "%s/init.lua"};
	const char *name = luaL_checkstring(L, 1);
	bool cloud = strncmp(name, "localcloud", 10) == 0 &&
	             (name[10] == '\0' || name[10] == '.');
	const char *path, *file;

	if (!plain_name(name))
		return 0;
	path = luaL_gsub(L, name, ".", "/");
	for (size_t i = 0; i < (cloud ? 4 : 2); i++) {
		file = lua_pushfstring(L, forms[i], path);
		if (!load_embedded(L, file))
			continue;
		lua_pushfstring(L, "hgauto:%s", file);
		return 2;
	}
	lua_pushfstring(L, "no built-in module '%s'", name);
	return 1;
}

static bool is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* The script's own directory. */
static int find_local(lua_State *L)
{
	static const char *const forms[] = {"%s/%s.lua", "%s/%s/init.lua"};
	const char *name = luaL_checkstring(L, 1);
	const struct host *h = host_of(L);
	const char *path, *file;

	if (h->script_dir == NULL || !plain_name(name))
		return 0;
	path = luaL_gsub(L, name, ".", "/");
	for (size_t i = 0; i < 2; i++) {
		file = lua_pushfstring(L, forms[i], h->script_dir, path);
		if (!is_file(file))
			continue;
		host_loadfile(L, file, false);
		lua_pushstring(L, file);
		return 2;
	}
	lua_pushfstring(L, "no file '%s/%s.lua'", h->script_dir, path);
	return 1;
}

static void trim_package(lua_State *L)
{
	static const lua_CFunction searchers[] = {find_c, find_embedded,
	                                          find_local};

	lua_getglobal(L, "package");
	lua_pushliteral(L, "");
	lua_setfield(L, -2, "path");
	lua_pushliteral(L, "");
	lua_setfield(L, -2, "cpath");
	lua_pushnil(L);
	lua_setfield(L, -2, "loadlib");
	lua_pushnil(L);
	lua_setfield(L, -2, "searchpath");
	lua_getfield(L, -1, "searchers");
	/* 1 is package.preload's */
	for (int i = 0; i < 3; i++) {
		lua_pushcfunction(L, searchers[i]);
		lua_rawseti(L, -2, i + 2);
	}
	lua_pop(L, 2);
}

static void trim_base(lua_State *L)
{
	static const luaL_Reg fns[] = {{"print", l_print},
	                               {"loadfile", l_loadfile},
	                               {"dofile", l_dofile},
	                               {NULL, NULL}};

	lua_pushglobaltable(L);
	luaL_setfuncs(L, fns, 0);
	wrap_method(L, "load", l_load);
	lua_pop(L, 1);
}

void hostlib_open(lua_State *L)
{
	lua_pushboolean(L, true);
	lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
	luaL_openlibs(L);
	trim_base(L);
	trim_io(L);
	trim_os(L);
	trim_debug(L);
	trim_package(L);
	lcoro_open(L);
}
