/*
 * Module hgauto.proc, C half: child processes (net/proc.h).  The Lua half
 * adds run, lines and the slicing of large writes.
 */
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "base/mem.h"
#include "net/proc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROC_CLASS "hgauto.process"
#define ENV_CLASS "hgauto.process.env"
#define MAX_ENV ((size_t)1024 * 1024)

extern char **environ;

enum {
	W_READ,
	W_WRITE,
	W_EXIT,
	W_N
};

struct lproc {
	struct hga_proc p; /* first */
	struct hga_op wait[W_N];
	bool started, told; /* told: the error was raised once */
};

/* ---- waiting ---- */

/* Anything happened: whoever waits looks again. */
static void on_event(struct hga_op *op)
{
	struct lproc *x = (struct lproc *)op;
	int i;

	for (i = 0; i < W_N; i++)
		if (x->wait[i].state == HGA_OP_RUNNING)
			hga_op_finish(&x->wait[i]);
}

static void drop_wait(struct hga_op *op)
{
	hga_op_drop(op);
}

static int await(lua_State *L, struct lproc *x, int which, const char *what,
                 lua_KFunction k)
{
	if (x->wait[which].state != HGA_OP_RUNNING)
		hga_op_begin(&x->wait[which], drop_wait);
	return sched_await(L, &x->wait[which], what, k);
}

static bool finished(const struct lproc *x)
{
	return x->p.base.state != HGA_OP_RUNNING;
}

static struct lproc *check(lua_State *L)
{
	struct lproc *x = lb_check(L, 1, PROC_CLASS);

	if (!x->started)
		(void)lb_fail(L, HGA_IO, "Closed", "process is closed");
	return x;
}

/* ---- environment ---- */

/* List of "NAME=value" texts in one block, wiped afterwards. */
struct lenv {
	struct hga_buf text;
	const char **list;
};

static int env_close(lua_State *L)
{
	struct lenv *e = lb_test(L, 1, ENV_CLASS);

	if (e == NULL)
		return 0;
	hga_buf_release_secret(&e->text);
	hga_free(e->list);
	e->list = NULL;
	return 0;
}

static const luaL_Reg env_methods[] = {{"close", env_close}, {NULL, NULL}};

static void env_add(lua_State *L, struct lenv *e, struct hga_str name,
                    struct hga_str value)
{
	struct hga_err err;

	if (hga_buf_addstr(&e->text, name, &err) < 0 ||
	    (value.s != NULL && (hga_buf_addc(&e->text, '=', &err) < 0 ||
	                         hga_buf_addstr(&e->text, value, &err) < 0)) ||
	    hga_buf_addc(&e->text, '\0', &err) < 0)
		(void)lb_raise(L, &err);
}

/* Pushes the value of the variable from the table at idx. */
static bool env_given(lua_State *L, int idx, const char *entry)
{
	const char *eq = strchr(entry, '=');

	if (idx == 0 || eq == NULL)
		return false;
	lua_pushlstring(L, entry, (size_t)(eq - entry));
	lua_rawget(L, idx);
	eq = lua_isnil(L, -1) ? NULL : eq;
	lua_pop(L, 1);
	return eq != NULL;
}

static void env_add_given(lua_State *L, struct lenv *e, int idx)
{
	struct hga_str name = {NULL, 0}, value = {NULL, 0};

	for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
		name.s = lua_type(L, -2) == LUA_TSTRING
		             ? lua_tolstring(L, -2, &name.n)
		             : NULL;
		if (name.s == NULL || name.n == 0 ||
		    memchr(name.s, '=', name.n) != NULL ||
		    memchr(name.s, '\0', name.n) != NULL)
			(void)lb_fail(L, HGA_USAGE, "Env",
			              "env: bad name of a variable");
		if (lua_type(L, -1) == LUA_TBOOLEAN && !lua_toboolean(L, -1))
			continue; /* taken out */
		if (lua_type(L, -1) == LUA_TNUMBER) {
			lua_pushvalue(L, -1); /* keeps the table as it is */
			value.s = lua_tolstring(L, -1, &value.n);
			env_add(L, e, name, value);
			lua_pop(L, 1);
			continue;
		}
		if (!lb_tosecret(L, -1, &value) ||
		    memchr(value.s, '\0', value.n) != NULL)
			(void)lb_fail(L, HGA_USAGE, "Env",
			              "env: value of %.*s must be a string "
			              "without zero bytes, a number or false",
			              HGA_STRF(name));
		env_add(L, e, name, value);
	}
}

static void env_index(lua_State *L, struct lenv *e)
{
	const char *p = hga_buf_text(&e->text), *end = p + e->text.len;
	size_t i, n = 0;

	for (i = 0; i < e->text.len; i++)
		n += p[i] == '\0';
	e->list = hga_calloc(n + 1, sizeof(*e->list));
	if (e->list == NULL) {
		(void)lb_fail(L, HGA_MEMORY, NULL, "out of memory");
		return;
	}
	for (i = 0; p < end; p += strlen(p) + 1)
		e->list[i++] = p;
}

/*
 * Pushes the environment: ours unless clean, with the variables of the table
 * at idx (0: none) set or, for false, taken out. [-0, +1, raises]
 */
static const char *const *push_env(lua_State *L, int idx, bool clean)
{
	struct lenv *e;
	size_t i;

	lb_newclass(L, ENV_CLASS, env_methods, NULL);
	e = lb_newobj(L, sizeof(*e), 0, ENV_CLASS);
	hga_buf_init(&e->text, MAX_ENV);
	for (i = 0; !clean && environ[i] != NULL; i++)
		if (!env_given(L, idx, environ[i]))
			env_add(L, e, hga_str(environ[i]), hga_strn(NULL, 0));
	if (idx != 0)
		env_add_given(L, e, idx);
	env_index(L, e);
	return e->list;
}

/* ---- start ---- */

struct opts {
	const char *cwd, *out, *err;
	int has_env, has_stdin;
	bool clean_env, foreground, inherit, session;
	int64_t timeout_ms;
};

static enum hga_proc_io stream_mode(lua_State *L, const char *name,
                                    const char *text, bool is_err)
{
	if (strcmp(text, "pipe") == 0)
		return HGA_IO_PIPE;
	if (strcmp(text, "null") == 0)
		return HGA_IO_NULL;
	if (strcmp(text, "inherit") == 0)
		return HGA_IO_INHERIT;
	if (is_err && strcmp(text, "merge") == 0)
		return HGA_IO_MERGE;
	(void)lb_fail(L, HGA_USAGE, "OptionValue",
	              "option %s: pipe, null or inherit expected, got %.40s",
	              name, text);
	return HGA_IO_NULL;
}

/* opts.stdin: text or secret, true (stays open), else nothing. */
static void read_stdin(lua_State *L, struct hga_proc_args *a, int given)
{
	struct hga_str text;

	a->in = HGA_IO_NULL;
	if (!given)
		return;
	lua_getfield(L, 2, "stdin"); /* stays: the text is borrowed */
	if (lua_isboolean(L, -1)) {
		a->in_open = lua_toboolean(L, -1);
		a->in = a->in_open ? HGA_IO_PIPE : HGA_IO_NULL;
		return;
	}
	if (!lb_tosecret(L, -1, &text))
		(void)lb_fail(L, HGA_USAGE, "OptionType",
		              "option stdin must be a string or true");
	a->in = HGA_IO_PIPE;
	a->in_data = text.s;
	a->in_len = text.n;
}

static void read_args(lua_State *L, struct hga_proc_args *a)
{
	static const struct lb_opt defs[] = {
	    {"cwd", LB_CSTR, offsetof(struct opts, cwd)},
	    {"env", LB_TABLE, offsetof(struct opts, has_env)},
	    {"clean_env", LB_BOOL, offsetof(struct opts, clean_env)},
	    {"stdin", LB_ANY, offsetof(struct opts, has_stdin)},
	    {"stdout", LB_CSTR, offsetof(struct opts, out)},
	    {"stderr", LB_CSTR, offsetof(struct opts, err)},
	    {"timeout", LB_MS, offsetof(struct opts, timeout_ms)},
	    {"foreground", LB_BOOL, offsetof(struct opts, foreground)},
	    {"session", LB_BOOL, offsetof(struct opts, session)},
	    {"inherit", LB_BOOL, offsetof(struct opts, inherit)},
	    {NULL, LB_ANY, 0}};
	struct opts o = {.out = "pipe", .err = "pipe", .timeout_ms = 3600000};
	int env = 0;

	lb_opts(L, 2, "proc", defs, &o);
	a->cwd = o.cwd;
	a->timeout_ms = o.timeout_ms;
	a->foreground = o.foreground;
	a->session = o.session;
	a->out = stream_mode(L, "stdout", o.out, false);
	a->err = stream_mode(L, "stderr", o.err, true);
	read_stdin(L, a, o.has_stdin);
	if (o.inherit) {
		a->out = a->err = HGA_IO_INHERIT;
		a->in = o.has_stdin ? a->in : HGA_IO_INHERIT;
	}
	if (o.has_env) {
		lua_getfield(L, 2, "env");
		env = lua_gettop(L);
	}
	if (o.has_env || o.clean_env)
		a->env = push_env(L, env, o.clean_env);
}

/// Starts a program; the process ends with the scope.
// @param argv string[] program (searched in PATH) and arguments
// @param[opt] opts.cwd string working directory
// @param[opt] opts.env table variables to set; false takes one out
// @param[opt] opts.clean_env boolean nothing but opts.env
// @param[opt] opts.stdin string|boolean input; true: p:write follows
// @param[opt] opts.stdout string pipe (default), null, inherit
// @param[opt] opts.stderr string pipe (default), null, inherit, merge
// @param[opt] opts.timeout number seconds, default 3600, 0 for none
// @param[opt] opts.inherit boolean all three streams are ours
// @param[opt] opts.foreground boolean stays in our process group
// @param[opt] opts.session boolean gets a session of its own
// @return process
// @raise notfound (Spawn) no such program or directory, io, usage
// @example local p <close> = proc.spawn({"ssh-agent", "-D"})
static int l_spawn(lua_State *L)
{
	struct hga_proc_args a = {.in = HGA_IO_NULL};
	struct hga_err err;
	struct lproc *x;
	size_t n;

	sched_check_effect(L, "proc.spawn");
	if (!lua_istable(L, 1))
		return lb_usage(L, 1,
		                "a list of program and arguments expected, "
		                "got %s",
		                luaL_typename(L, 1));
	lua_settop(L, 2);
	a.argv = lb_strlist(L, 1, "argv", &n);
	if (n == 0 || a.argv[0][0] == '\0')
		return lb_usage(L, 1, "the program's name is missing");
	read_args(L, &a);
	x = lb_newobj(L, sizeof(*x), 0, PROC_CLASS);
	x->p.base.done = x->p.base.progress = on_event;
	if (hga_proc_start(host_loop(L), &x->p, &a, &err) < 0)
		return lb_raise(L, &err);
	x->started = true;
	sched_register(L, -1);
	return 1;
}

/* ---- output ---- */

static bool push_block(lua_State *L, struct hga_buf *b, const char *name)
{
	if (b->len == 0)
		return false;
	lua_pushlstring(L, b->data, b->len);
	hga_buf_clear(b);
	lua_pushstring(L, name);
	return true;
}

/* 0: stdout, 1: stderr, 2: any. */
static int which_stream(lua_State *L)
{
	static const char *const names[] = {"out", "err", "any", NULL};

	return luaL_checkoption(L, 2, "any", names);
}

static int read_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lproc *x = check(L);
	int which = which_stream(L);
	bool eof = (which == 1 || x->p.out_eof) && (which == 0 || x->p.err_eof);

	(void)status; /* both ways look at the queues */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if ((which != 1 && push_block(L, &x->p.out, "out")) ||
	    (which != 0 && push_block(L, &x->p.errq, "err"))) {
		hga_proc_resume(&x->p);
		return 2;
	}
	if (eof || finished(x))
		return 0;
	return await(L, x, W_READ, "process output", read_k);
}

/// Waits for output.
// @param[opt] stream string "out", "err" or, as default, either of them
// @return string|nil bytes as they came; nil at the end
// @return string which of both
// @raise io (Closed), cancelled
// @waits
static int l_read(lua_State *L)
{
	sched_check_wait(L, "process:read");
	lua_settop(L, 2);
	return read_k(L, LUA_OK, 0);
}

/* ---- input ---- */

static int write_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lproc *x = check(L);

	(void)status; /* both ways look at the queue */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if (finished(x) || hga_proc_pending(&x->p) == 0)
		return 0;
	return await(L, x, W_WRITE, "process input", write_k);
}

/// Writes to the standard input of a process started with stdin=true.
// @param data string at most 4 MiB
// @raise io (Closed) it was closed, by us or by the process; cancelled
// @waits until the process has taken it
static int l_write(lua_State *L)
{
	struct lproc *x = check(L);
	struct hga_str text;
	struct hga_err err;

	if (!lb_tosecret(L, 2, &text))
		return lb_usage(L, 2, "string expected, got %s",
		                luaL_typename(L, 2));
	sched_check_wait(L, "process:write");
	if (hga_proc_write(&x->p, text.s, text.n, &err) < 0)
		return lb_raise(L, &err);
	lua_settop(L, 2);
	return write_k(L, LUA_OK, 0);
}

/// Closes the standard input; what was written still arrives.
static int l_close_stdin(lua_State *L)
{
	hga_proc_close_stdin(&check(L)->p);
	return 0;
}

/* ---- the end ---- */

static int push_result(lua_State *L, struct lproc *x)
{
	lua_createtable(L, 0, 3);
	lua_pushboolean(L, x->p.exited && x->p.signal == 0 && x->p.code == 0);
	lua_setfield(L, -2, "ok");
	if (x->p.signal != 0) {
		lua_pushinteger(L, x->p.signal);
		lua_setfield(L, -2, "signal");
	} else if (x->p.exited) {
		lua_pushinteger(L, x->p.code);
		lua_setfield(L, -2, "code");
	}
	return 1;
}

/* Output nobody reads must not hold the process. */
static void discard(struct lproc *x)
{
	hga_buf_clear(&x->p.out);
	hga_buf_clear(&x->p.errq);
	hga_proc_resume(&x->p);
}

static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lproc *x = check(L);

	(void)status; /* both ways look at the state */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if (!finished(x)) {
		discard(x);
		return await(L, x, W_EXIT, "process", wait_k);
	}
	if (x->p.base.err.kind != HGA_OK && !x->told) {
		x->told = true;
		return lb_raise(L, &x->p.base.err);
	}
	return push_result(L, x);
}

/// Waits until the process has ended; output not yet read is dropped.
// @return {ok=boolean, code=integer, signal=integer} code or signal is set
// @raise timeout (Total) once, when its deadline ended it; cancelled
// @waits
static int l_wait(lua_State *L)
{
	sched_check_wait(L, "process:wait");
	lua_settop(L, 1);
	return wait_k(L, LUA_OK, 0);
}

struct sig_name {
	const char *name;
	int number;
};

static int sig_number(lua_State *L, int idx)
{
	static const struct sig_name names[] = {
	    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT},
	    {"KILL", SIGKILL}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
	    {"TERM", SIGTERM}, {"CONT", SIGCONT}, {"STOP", SIGSTOP},
	    {NULL, 0}};
	const struct sig_name *s;
	const char *name;

	if (lua_isnoneornil(L, idx))
		return SIGTERM;
	if (lua_isinteger(L, idx) && lua_tointeger(L, idx) > 0 &&
	    lua_tointeger(L, idx) < 65)
		return (int)lua_tointeger(L, idx);
	name = lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : "";
	for (s = names; s->name != NULL; s++)
		if (strcmp(s->name, name) == 0)
			return s->number;
	return lb_usage(L, idx, "name or number of a signal expected");
}

/// Sends a signal to the process group; harmless after the end.
// @param[opt] signal string|integer "TERM" (default), "KILL", 15, ...
static int l_kill(lua_State *L)
{
	struct lproc *x = check(L);

	hga_proc_kill(&x->p, sig_number(L, 2));
	return 0;
}

/// Process id.
// @return integer
static int l_pid(lua_State *L)
{
	lua_pushinteger(L, check(L)->p.pid);
	return 1;
}

/// Whether it still runs.
// @return boolean
static int l_running(lua_State *L)
{
	lua_pushboolean(L, !finished(check(L)));
	return 1;
}

static void wake_closed(struct lproc *x)
{
	int i;

	for (i = 0; i < W_N; i++) {
		if (x->wait[i].state != HGA_OP_RUNNING)
			continue;
		(void)hga_fail(&x->wait[i].err, HGA_IO, 0, "Closed",
		               "process was closed");
		hga_op_finish(&x->wait[i]);
	}
}

/// Ends the process (TERM, 2 s later KILL) and forgets it; repeatable.
static int l_close(lua_State *L)
{
	struct lproc *x = lb_check(L, 1, PROC_CLASS);

	if (!x->started)
		return 0;
	x->started = false;
	hga_proc_release(&x->p);
	wake_closed(x);
	sched_release(L, 1);
	return 0;
}

static int l_gc(lua_State *L)
{
	struct lproc *x = lb_test(L, 1, PROC_CLASS);

	if (x != NULL && x->started)
		hga_proc_release(&x->p);
	if (x != NULL)
		x->started = false;
	return 0;
}

/// Takes the process out of its scope: it ends only with the program.
// @return process
static int l_keep(lua_State *L)
{
	(void)check(L);
	sched_release(L, 1);
	lua_settop(L, 1);
	return 1;
}

/* ---- looking for programs ---- */

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
	       access(path, X_OK) == 0;
}

/* Pushes dir/name if that is a program. */
static bool push_program(lua_State *L, struct hga_str dir, const char *name)
{
	if (dir.n == 0)
		dir = HGA_STR(".");
	lb_pushstr(L, dir);
	lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), name);
	lua_remove(L, -2);
	if (is_program(lua_tostring(L, -1)))
		return true;
	lua_pop(L, 1);
	return false;
}

/// Path of a program in PATH.
// @param name string
// @return string|nil nil when there is none
// @example if not proc.which("hg") then error("hg is missing") end
static int l_which(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const char *p = getenv("PATH"), *end;

	if (strchr(name, '/') != NULL) {
		lua_settop(L, 1);
		return is_program(name) ? 1 : 0;
	}
	for (p = p != NULL ? p : "/usr/bin:/bin"; name[0] != '\0';
	     p = end + 1) {
		end = strchrnul(p, ':');
		if (push_program(L, hga_strn(p, (size_t)(end - p)), name))
			return 1;
		if (*end == '\0')
			break;
	}
	return 0;
}

static const luaL_Reg methods[] = {{"read", l_read},
                                   {"write", l_write},
                                   {"close_stdin", l_close_stdin},
                                   {"wait", l_wait},
                                   {"kill", l_kill},
                                   {"pid", l_pid},
                                   {"running", l_running},
                                   {"close", l_close},
                                   {"keep", l_keep},
                                   {NULL, NULL}};
static const luaL_Reg meta[] = {{"__gc", l_gc}, {NULL, NULL}};
static const luaL_Reg functions[] = {
    {"spawn", l_spawn}, {"which", l_which}, {NULL, NULL}};

int luaopen_hgauto_proc_core(lua_State *L)
{
	lb_newclass(L, PROC_CLASS, methods, meta);
	luaL_newlib(L, functions);
	luaL_getmetatable(L, PROC_CLASS);
	lua_getfield(L, -1, "__index"); /* the Lua half adds methods */
	lua_setfield(L, -3, "methods");
	lua_pop(L, 1);
	return 1;
}
