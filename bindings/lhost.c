/*
 * Module hgauto.host: what the command line and tests need of the process.
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"
#include "scope.h"

#include <lauxlib.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Versions of the libraries behind core.  Declared here because bindings
 * include none of their headers; weak, since a build may lack some.
 */
#define WEAK __attribute__((weak))
extern char *curl_version(void) WEAK;
extern const char *OpenSSL_version(int t) WEAK;
extern const char *libssh2_version(int min) WEAK;
extern const char *sqlite3_libversion(void) WEAK;
extern const char *XML_ExpatVersion(void) WEAK;
extern const char *MHD_get_version(void) WEAK;
extern const char *rl_library_version WEAK;

#ifndef HGA_VERSION
#define HGA_VERSION "0"
#endif
/* What vendor.sh built: the Makefile tells. */
#ifndef HGA_SSH2_ORIGIN
#define HGA_SSH2_ORIGIN "unknown origin"
#define HGA_SSH2_EDITS "none"
#define HGA_MODELS_VERSION "unknown"
#endif

/* name = the word of text after `skip`, up to a blank. */
static void set_version(lua_State *L, const char *name, const char *skip,
                        const char *text)
{
	size_t n;

	if (text == NULL)
		return;
	if (strncmp(text, skip, strlen(skip)) == 0)
		text += strlen(skip);
	n = strcspn(text, " ");
	lua_pushlstring(L, text, n);
	lua_setfield(L, -2, name);
}

static void push_versions(lua_State *L)
{
	lua_newtable(L);
	set_version(L, "hgauto", "", HGA_VERSION);
	set_version(L, "lua", "Lua ", LUA_RELEASE);
	if (curl_version != NULL)
		set_version(L, "libcurl", "libcurl/", curl_version());
	if (OpenSSL_version != NULL)
		set_version(L, "openssl", "OpenSSL ", OpenSSL_version(0));
	if (libssh2_version != NULL) {
		lua_pushfstring(L, "%s (%s; edits: %s)", libssh2_version(0),
		                HGA_SSH2_ORIGIN, HGA_SSH2_EDITS);
		lua_setfield(L, -2, "libssh2");
	}
	set_version(L, "models", "", "botocore-" HGA_MODELS_VERSION);
#ifdef HGA_SSH2_ORIGIN
	set_version(L, "libssh2_origin", "", HGA_SSH2_ORIGIN);
#endif
#ifdef HGA_MODELS_VERSION
	set_version(L, "models", "", HGA_MODELS_VERSION);
#endif
	if (sqlite3_libversion != NULL)
		set_version(L, "sqlite", "", sqlite3_libversion());
	if (XML_ExpatVersion != NULL)
		set_version(L, "expat", "expat_", XML_ExpatVersion());
	if (MHD_get_version != NULL)
		set_version(L, "microhttpd", "", MHD_get_version());
	if (&rl_library_version != NULL && luaopen_hgauto_readline != NULL)
		set_version(L, "readline", "", rl_library_version);
}

/* host.version may also be called. */
static int l_versions(lua_State *L)
{
	lua_settop(L, 1);
	return 1;
}

/// Ends the program: all tasks are cancelled and unwind first.
// @param code integer exit code
// @raise cancelled always
static int l_exit(lua_State *L)
{
	lua_Integer code = luaL_checkinteger(L, 1);
	struct host *h = host_of(L);
	struct task *root = h->sched->root;

	if (code < 0 || code > 255)
		return lb_usage(L, 1, "0 to 255 expected");
	h->exit_code = (int)code;
	if (root == NULL || root->state == TASK_DEAD)
		return 0;
	scope_cancel(&root->root, 1, CAUSE_EXIT, NULL);
	scope_pusherr(L, &root->root);
	return lua_error(L);
}

/// Makes an error of the common form from a table; `error(host.error{…}, 0)`.
// @param e table kind message [code hint cause …]
// @return table the same table
static int l_error(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	if (lb_errkind(L, 1) == HGA_OK) {
		lua_getfield(L, 1, "kind");
		return lb_fail(L, HGA_BUG, "Kind", "no error kind \"%s\"",
		               luaL_tolstring(L, -1, NULL));
	}
	lb_seterrmeta(L, 1);
	lua_settop(L, 1);
	return 1;
}

/* Gives the chunk on top the environment at idx, if there is one. */
static void set_env(lua_State *L, int idx)
{
	if (lua_isnoneornil(L, idx) || lua_gettop(L) == idx)
		return;
	luaL_checktype(L, idx, LUA_TTABLE);
	lua_pushvalue(L, idx);
	if (lua_setupvalue(L, -2, 1) == NULL)
		lua_pop(L, 1);
}

/// Loads a script file: owner, mode and text are checked.
// @param path string
// @param[opt] env table its globals
// @return function the chunk
// @raise load, notfound
static int l_load_file(lua_State *L)
{
	host_loadfile(L, luaL_checkstring(L, 1), true);
	set_env(L, 2);
	return 1;
}

/// Loads a script text.
// @param text string
// @param[opt] name string for messages; @ or = in front as in load
// @param[opt] env table its globals
// @return function the chunk
// @raise load
static int l_load_text(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	const char *name = luaL_optstring(L, 2, "text");

	lua_settop(L, 3);
	if (*name != '@' && *name != '=')
		name = lua_pushfstring(L, "@%s", name);
	host_loadtext(L, text, name);
	set_env(L, 3);
	return 1;
}

/// Sets the directory that require searches after the built-in modules.
// @param dir string|nil an absolute path
static int l_script_dir(lua_State *L)
{
	struct host *h = host_of(L);
	const char *dir = luaL_optstring(L, 1, NULL);

	host_setdir(h, dir);
	return 0;
}

struct saved {
	struct host *h;
	size_t mem_max;
	int64_t load_left;
};

static void sandbox_enter(lua_State *L, struct saved *s)
{
	struct host *h = host_of(L);
	size_t limit = h->mem_used + HOST_LOAD_BYTES;

	s->h = h;
	s->mem_max = h->mem_max;
	s->load_left = h->load_left;
	if (h->loading++ == 0)
		h->load_left = HOST_LOAD_STEPS;
	if (limit < h->mem_max)
		h->mem_max = limit;
	lua_sethook(L, scope_hook, LUA_MASKCOUNT, LOAD_TICK);
}

static void sandbox_leave(lua_State *L, const struct saved *s)
{
	s->h->mem_max = s->mem_max;
	if (--s->h->loading == 0) {
		s->h->load_left = s->load_left;
		lua_sethook(L, NULL, 0, 0);
		scope_arm(L);
	}
}

/// Calls fn with effects forbidden and instructions and memory limited.
// @param fn function gets the further arguments
// @return any its results
// @raise load an effect, or a limit
static int l_sandbox(lua_State *L)
{
	struct saved s;
	int status;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	sandbox_enter(L, &s);
	status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
	sandbox_leave(L, &s);
	if (status == LUA_OK)
		return lua_gettop(L);
	if (status == LUA_ERRMEM) {
		lua_gc(L, LUA_GCCOLLECT);
		return lb_fail(L, HGA_LOAD, "TooMuchMemory",
		               "the file takes too much memory while it is "
		               "loaded");
	}
	return lua_error(L);
}

/// Whether a file is being loaded, so that effects are forbidden.
// @return boolean
static int l_loading(lua_State *L)
{
	lua_pushboolean(L, host_of(L)->loading > 0);
	return 1;
}

/// Presses of Ctrl-C so far; with 0 sets the count back.
// @param[opt] zero integer 0
// @return integer
static int l_press(lua_State *L)
{
	if (!lua_isnoneornil(L, 1))
		scope_presses_reset(sched_of(L));
	lua_pushinteger(L, scope_presses());
	return 1;
}

/// Signal that interrupted the program.
// @return string|nil INT, TERM or HUP
static int l_cancel_reason(lua_State *L)
{
	lua_pushstring(L, scope_signal_name());
	return 1;
}

/// Tells how many things may still cost money, for the third Ctrl-C.
// @param n integer
static int l_set_open(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);

	scope_set_open(n > 0 ? (n < 10000 ? (int)n : 10000) : 0);
	return 0;
}

/// An environment variable.
// @param name string
// @return string|nil
static int l_getenv(lua_State *L)
{
	lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
	return 1;
}

/// Sets or (nil) removes an environment variable of this process.
// @param name string
// @param value string|nil
static int l_setenv(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const char *value = luaL_optstring(L, 2, NULL);
	int r;

	sched_check_effect(L, "host.setenv");
	r = value != NULL ? setenv(name, value, 1) : unsetenv(name);
	if (r != 0)
		return lb_fail(L, HGA_USAGE, "Name", "setenv: bad name");
	return 0;
}

/// Process id.
// @return integer
static int l_pid(lua_State *L)
{
	lua_pushinteger(L, getpid());
	return 1;
}

/// Bytes that Lua holds now.
// @return integer
static int l_memory(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)host_of(L)->mem_used);
	return 1;
}

static const luaL_Reg host_fns[] = {{"exit", l_exit},
                                    {"error", l_error},
                                    {"load_file", l_load_file},
                                    {"load_text", l_load_text},
                                    {"script_dir", l_script_dir},
                                    {"sandbox", l_sandbox},
                                    {"loading", l_loading},
                                    {"press", l_press},
                                    {"cancel_reason", l_cancel_reason},
                                    {"set_open", l_set_open},
                                    {"getenv", l_getenv},
                                    {"setenv", l_setenv},
                                    {"pid", l_pid},
                                    {"memory", l_memory},
                                    {NULL, NULL}};

int luaopen_hgauto_host(lua_State *L)
{
	const struct host *h = host_of(L);

	luaL_newlib(L, host_fns);
	push_versions(L);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, l_versions);
	lua_setfield(L, -2, "__call");
	lua_setmetatable(L, -2);
	lua_setfield(L, -2, "version");
	lua_createtable(L, h->argc, 0);
	for (int i = 0; i < h->argc; i++) {
		lua_pushstring(L, h->argv[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "argv");
	return 1;
}
