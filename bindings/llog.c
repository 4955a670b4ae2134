/*
 * Module hgauto.log: records, file sinks, secrets.
 */
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "base/log.h"
#include "base/redact.h"

#include <lauxlib.h>

#include <unistd.h>

#define FILE_CLASS "hgauto.log.file"
#define STDERR_KEY "hgauto.log.stderr"

/* Pushes the text of fmt and its arguments from 1 on. */
static struct hga_str format_text(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);

	if (lua_gettop(L) == 1)
		return text;
	lua_getglobal(L, "string");
	lua_getfield(L, -1, "format");
	lua_replace(L, -2);
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return lb_checkstr(L, 1);
}

static int log_at(lua_State *L, enum hga_log_level level)
{
	struct hga_str text;

	if (!hga_log_wants(level))
		return 0;
	text = format_text(L);
	hga_log_text(level, sched_label(L), text);
	return 0;
}

/// Logs detail.
// @param fmt string as string.format
static int l_debug(lua_State *L)
{
	return log_at(L, HGA_LOG_DEBUG);
}

/// Logs what happens.
// @param fmt string as string.format
static int l_info(lua_State *L)
{
	return log_at(L, HGA_LOG_INFO);
}

/// Logs what may be wrong.
// @param fmt string as string.format
static int l_warn(lua_State *L)
{
	return log_at(L, HGA_LOG_WARN);
}

/// Logs what is wrong.
// @param fmt string as string.format
static int l_error(lua_State *L)
{
	return log_at(L, HGA_LOG_ERROR);
}

static enum hga_log_level check_level(lua_State *L, int idx,
                                      enum hga_log_level def)
{
	enum hga_log_level level = def;

	if (lua_isnoneornil(L, idx))
		return def;
	if (!hga_log_level_find(luaL_checkstring(L, idx), &level))
		(void)lb_usage(L, idx,
		               "trace, debug, info, warn, error or none "
		               "expected");
	return level;
}

/* ---- stderr ---- */

static void write_stderr(struct hga_log_sink *sink,
                         const struct hga_log_rec *rec)
{
	ssize_t r;

	(void)sink; /* no state */
	r = write(STDERR_FILENO, rec->text.s, rec->text.n);
	if (r >= 0)
		r = write(STDERR_FILENO, "\n", 1);
	(void)r; /* the log never fails its caller */
}

/* The sink is owned by a userdata in the registry. */
static int sink_close(lua_State *L)
{
	struct hga_log_sink *sink = lua_touserdata(L, 1);

	hga_log_remove(sink);
	return 0;
}

/// Sets from which level on records are shown on stderr (none: nothing).
// @param name string trace, debug, info, warn, error, none
static int l_level(lua_State *L)
{
	static const luaL_Reg meta[] = {{"__gc", sink_close}, {NULL, NULL}};
	enum hga_log_level level = check_level(L, 1, HGA_LOG_NONE);
	struct hga_log_sink *sink;

	if (lua_getfield(L, LUA_REGISTRYINDEX, STDERR_KEY) == LUA_TNIL) {
		lb_newclass(L, STDERR_KEY, NULL, meta);
		sink = lb_newobj(L, sizeof(*sink), 0, STDERR_KEY);
		sink->write = write_stderr;
		lua_setfield(L, LUA_REGISTRYINDEX, STDERR_KEY);
		(void)lua_getfield(L, LUA_REGISTRYINDEX, STDERR_KEY);
	}
	sink = lua_touserdata(L, -1);
	sink->level = level;
	hga_log_remove(sink);
	if (level != HGA_LOG_NONE)
		hga_log_add(sink);
	return 0;
}

/* ---- files ---- */

struct file {
	struct hga_log_file *f;
};

/// Ends the log file.
static int file_close(lua_State *L)
{
	struct file *f = lb_check(L, 1, FILE_CLASS);

	hga_log_file_close(f->f);
	f->f = NULL;
	return 0;
}

/// Adds a log file (created with mode 0600).
// @param path string
// @param[opt] opts.level string lowest level, default debug
// @param[opt] opts.limit integer bytes, default 256 MiB
// @return handle with close()
static int l_file(lua_State *L)
{
	struct opts {
		const char *level;
		int64_t limit;
	} o = {NULL, 256 << 20};
	static const struct lb_opt defs[] = {
	    {"level", LB_CSTR, offsetof(struct opts, level)},
	    {"limit", LB_INT, offsetof(struct opts, limit)},
	    {NULL, LB_INT, 0}};
	const char *path = luaL_checkstring(L, 1);
	enum hga_log_level level = HGA_LOG_DEBUG;
	struct hga_err err;
	struct file *f;

	lb_opts(L, 2, "log.file", defs, &o);
	if (o.level != NULL && !hga_log_level_find(o.level, &level))
		return lb_usage(L, 2, "no log level %s", o.level);
	sched_check_effect(L, "log.file");
	f = lb_newobj(L, sizeof(*f), 0, FILE_CLASS);
	if (hga_log_file_open(path, level, o.limit > 0 ? (uint64_t)o.limit : 0,
	                      &f->f, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

/* ---- secrets ---- */

/// Registers a secret: log and screen show ***.
// @param text string|secret
static int l_secret(lua_State *L)
{
	struct hga_str text;

	if (!lb_tosecret(L, 1, &text))
		return lb_usage(L, 1, "string expected, got %s",
		                luaL_typename(L, 1));
	hga_log_secret(text);
	lua_settop(L, 1);
	return 1;
}

/// Text with registered secrets replaced by ***.
// @param text string
// @return string
static int l_redact(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	struct hga_buf out;
	struct hga_err err;

	hga_buf_init(&out, (size_t)1 << 30);
	if (hga_redact_text(hga_log_redact(), text, &out, &err) < 0) {
		hga_buf_release(&out);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &out);
	return 1;
}

static const luaL_Reg log_fns[] = {
    {"debug", l_debug},   {"info", l_info},     {"warn", l_warn},
    {"error", l_error},   {"level", l_level},   {"file", l_file},
    {"secret", l_secret}, {"redact", l_redact}, {NULL, NULL}};

int luaopen_hgauto_log(lua_State *L)
{
	static const luaL_Reg methods[] = {{"close", file_close}, {NULL, NULL}};

	lb_newclass(L, FILE_CLASS, methods, NULL);
	luaL_newlib(L, log_fns);
	return 1;
}
