/*
 * hgauto.box.core: local instances for Lua.  The Lua half (hgauto.box) shapes
 * options and documents the functions; here they become core operations.
 */
#include "embed.h"
#include "lb.h"
#include "sched.h"

#include "box/box.h"

#include <lauxlib.h>
#include <lua.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define BOX_CLASS "hgauto.box"
#define PROGRAM_CLASS "hgauto.box.program"

enum {
	EXEC_MS = 600000,
	POWER_MS = 10000,
	OUTPUT_MAX = 1 << 20
};

struct l_box {
	struct hga_box *box; /* NULL: closed */
};

struct l_program {
	struct hga_box_program p;
	bool open;
};

struct l_op { /* start, rules, wait */
	struct hga_box_op op;
};

int luaopen_hgauto_box_core(lua_State *L);

/* ---- objects ---- */

static struct hga_box *check_box(lua_State *L)
{
	struct l_box *b = lb_check(L, 1, BOX_CLASS);

	if (b->box == NULL)
		(void)lb_fail(L, HGA_IO, "Gone", "the instance is closed");
	return b->box;
}

/// Ends the instance at once if it runs, and frees it.
static int l_close(lua_State *L)
{
	struct l_box *b = lb_check(L, 1, BOX_CLASS);

	if (b->box == NULL)
		return 0;
	hga_box_free(b->box);
	b->box = NULL;
	sched_release(L, 1);
	return 0;
}

/// Lets the instance outlive the scope that started it.
static int l_keep(lua_State *L)
{
	(void)lb_check(L, 1, BOX_CLASS);
	sched_release(L, 1);
	lua_settop(L, 1);
	return 1;
}

static int program_close(lua_State *L)
{
	struct l_program *p = lb_check(L, 1, PROGRAM_CLASS);

	if (p->open)
		hga_box_program_close(&p->p);
	p->open = false;
	return 0;
}

/// Path of the box program, made executable at first use.
// @param dir string where a copy goes if the kernel allows no other way
static int l_program(lua_State *L)
{
	const char *dir = luaL_checkstring(L, 1);
	struct l_program *p = lua_touserdata(L, lua_upvalueindex(1));
	const struct embed_file *image = embed_find("hgauto-box");
	struct hga_err err;

	if (!p->open) {
		if (image == NULL)
			return lb_fail(L, HGA_NOTFOUND, "NoFile",
			               "hgauto-box is not built in");
		if (hga_box_program_open(&p->p, image->data, image->len, dir,
		                         &err) < 0)
			return lb_raise(L, &err);
		p->open = true;
	}
	lua_pushstring(L, p->p.path);
	return 1;
}

/* ---- reading lists of tables ---- */

/* Array for the elements of the list in field `name` of the table at 1, on
 * the stack; NULL and *n = 0 if absent. [-0, +2, raises] */
static void *list_room(lua_State *L, const char *name, size_t size, size_t *n)
{
	lua_Unsigned count;

	*n = 0;
	if (lua_getfield(L, 1, name) == LUA_TNIL) {
		lua_pushnil(L);
		return NULL;
	}
	if (!lua_istable(L, -1))
		(void)lb_fail(L, HGA_USAGE, NULL,
		              "box.start: %s must be a list", name);
	count = lua_rawlen(L, -1);
	if (count > 10000)
		(void)lb_fail(L, HGA_USAGE, NULL, "box.start: %s too long",
		              name);
	*n = (size_t)count;
	return lua_newuserdatauv(L, ((size_t)count + 1) * size, 0);
}

struct file_opts {
	const char *path, *owner;
	int64_t mode;
	int data;
};

static const struct lb_opt file_defs[] = {
    {"path", LB_CSTR, offsetof(struct file_opts, path)},
    {"owner", LB_CSTR, offsetof(struct file_opts, owner)},
    {"mode", LB_INT, offsetof(struct file_opts, mode)},
    {"data", LB_ANY, offsetof(struct file_opts, data)},
    {NULL, LB_ANY, 0},
};

static void read_file(lua_State *L, struct hga_box_file *out)
{
	struct file_opts o = {.mode = 0644};
	struct hga_str data = {"", 0};
	int at = lua_gettop(L);

	lb_opts(L, at, "box.start files", file_defs, &o);
	if (o.path == NULL || o.mode < 0 || o.mode > 07777)
		(void)lb_fail(L, HGA_USAGE, NULL,
		              "box.start files: path and a mode of 0 to 07777");
	lua_getfield(L, at, "data");
	if (!lua_isnil(L, -1) && !lb_tosecret(L, -1, &data))
		(void)lb_fail(L, HGA_USAGE, NULL,
		              "box.start files: data must be a string");
	lua_pop(L, 1); /* the table keeps it */
	out->path = o.path;
	out->owner = o.owner;
	out->mode = (unsigned)o.mode;
	out->data = data.s;
	out->len = data.n;
}

static const struct lb_opt user_defs[] = {
    {"name", LB_CSTR, offsetof(struct hga_box_user, name)},
    {"shell", LB_CSTR, offsetof(struct hga_box_user, shell)},
    {"groups", LB_CSTR, offsetof(struct hga_box_user, groups)},
    {NULL, LB_ANY, 0},
};

static void read_user(lua_State *L, struct hga_box_user *out)
{
	memset(out, 0, sizeof(*out));
	lb_opts(L, lua_gettop(L), "box.start users", user_defs, out);
	if (out->name == NULL)
		(void)lb_fail(L, HGA_USAGE, NULL, "box.start users: no name");
}

struct rule_opts {
	const char *protocol, *cidr;
	int64_t from, to;
};

static const struct lb_opt rule_defs[] = {
    {"protocol", LB_CSTR, offsetof(struct rule_opts, protocol)},
    {"cidr", LB_CSTR, offsetof(struct rule_opts, cidr)},
    {"from", LB_INT, offsetof(struct rule_opts, from)},
    {"to", LB_INT, offsetof(struct rule_opts, to)},
    {NULL, LB_ANY, 0},
};

/* One rule; false when its protocol reaches no port. */
static bool read_rule(lua_State *L, struct hga_box_rule *out)
{
	struct rule_opts o = {"tcp", "0.0.0.0/0", -1, -1};
	struct hga_err err;
	bool used;

	lb_opts(L, lua_gettop(L), "box ports", rule_defs, &o);
	if (o.to < 0)
		o.to = o.from;
	if (o.from > 65535 || o.to > 65535)
		o.from = o.to = -1;
	if (hga_box_rule_make(o.protocol, (int)o.from, (int)o.to, o.cidr, out,
	                      &used, &err) < 0)
		(void)lb_raise(L, &err);
	return used;
}

/* The list on top of the stack below its array. */
static size_t read_rules(lua_State *L, struct hga_box_rule *rules, size_t n)
{
	int list = lua_gettop(L) - 1;
	size_t used = 0;

	for (size_t i = 1; i <= n; i++) {
		lua_rawgeti(L, list, (lua_Integer)i);
		used += read_rule(L, &rules[used]);
		lua_pop(L, 1);
	}
	return used;
}

static void read_files(lua_State *L, struct hga_box_args *a)
{
	struct hga_box_file *files =
	    list_room(L, "files", sizeof(*files), &a->n_files);
	int list = lua_gettop(L) - 1;

	for (size_t i = 1; i <= a->n_files; i++) {
		lua_rawgeti(L, list, (lua_Integer)i);
		read_file(L, &files[i - 1]);
		lua_pop(L, 1);
	}
	a->files = files;
}

static void read_users(lua_State *L, struct hga_box_args *a)
{
	struct hga_box_user *users =
	    list_room(L, "users", sizeof(*users), &a->n_users);
	int list = lua_gettop(L) - 1;

	for (size_t i = 1; i <= a->n_users; i++) {
		lua_rawgeti(L, list, (lua_Integer)i);
		read_user(L, &users[i - 1]);
		lua_pop(L, 1);
	}
	a->users = users;
}

static const struct lb_opt disk_defs[] = {
    {"path", LB_CSTR, offsetof(struct hga_box_disk, path)},
    {"names", LB_CSTR, offsetof(struct hga_box_disk, names)},
    {NULL, LB_ANY, 0},
};

static void read_disk(lua_State *L, int at, struct hga_box_disk *out)
{
	*out = (struct hga_box_disk){"", NULL};
	lb_opts(L, at, "box disks", disk_defs, out);
	if (out->names == NULL)
		(void)lb_fail(L, HGA_USAGE, NULL, "box disks: no names");
}

static void read_disks(lua_State *L, struct hga_box_args *a)
{
	struct hga_box_disk *disks =
	    list_room(L, "disks", sizeof(*disks), &a->n_disks);
	int list = lua_gettop(L) - 1;

	for (size_t i = 1; i <= a->n_disks; i++) {
		lua_rawgeti(L, list, (lua_Integer)i);
		read_disk(L, lua_gettop(L), &disks[i - 1]);
		lua_pop(L, 1);
	}
	a->disks = disks;
}

static void read_host_ports(lua_State *L, struct hga_box_args *a)
{
	uint16_t *ports =
	    list_room(L, "host_ports", sizeof(*ports), &a->n_host_ports);
	int list = lua_gettop(L) - 1;

	if (a->n_host_ports > 32)
		(void)lb_fail(L, HGA_USAGE, NULL, "box host_ports: at most 32");
	for (size_t i = 1; i <= a->n_host_ports; i++) {
		lua_Integer v;

		lua_rawgeti(L, list, (lua_Integer)i);
		v = lua_tointeger(L, -1); /* 0 for what is no number */
		if (v < 1 || v > 65535)
			(void)lb_fail(L, HGA_USAGE, NULL,
			              "box host_ports: ports are numbers of 1 "
			              "to 65535");
		ports[i - 1] = (uint16_t)v;
		lua_pop(L, 1);
	}
	a->host_ports = ports;
}

/* ---- start ---- */

struct start_opts {
	struct hga_box_args args;
	int layers, files, users, ports, disks, host_ports;
};

static const struct lb_opt start_defs[] = {
    {"program", LB_CSTR, offsetof(struct start_opts, args.program)},
    {"hostname", LB_CSTR, offsetof(struct start_opts, args.hostname)},
    {"images_dir", LB_CSTR, offsetof(struct start_opts, args.images_dir)},
    {"upper", LB_CSTR, offsetof(struct start_opts, args.upper)},
    {"work", LB_CSTR, offsetof(struct start_opts, args.work)},
    {"log", LB_CSTR, offsetof(struct start_opts, args.log)},
    {"address", LB_CSTR, offsetof(struct start_opts, args.address)},
    {"private_ip", LB_CSTR, offsetof(struct start_opts, args.private_ip)},
    {"timeout", LB_MS, offsetof(struct start_opts, args.timeout_ms)},
    {"layers", LB_TABLE, offsetof(struct start_opts, layers)},
    {"files", LB_TABLE, offsetof(struct start_opts, files)},
    {"users", LB_TABLE, offsetof(struct start_opts, users)},
    {"ports", LB_TABLE, offsetof(struct start_opts, ports)},
    {"disks", LB_TABLE, offsetof(struct start_opts, disks)},
    {"redirect", LB_BOOL, offsetof(struct start_opts, args.redirect)},
    {"dns", LB_CSTR, offsetof(struct start_opts, args.dns)},
    {"host_ports", LB_TABLE, offsetof(struct start_opts, host_ports)},
    {NULL, LB_ANY, 0},
};

enum {
	AT_BOX = 2
}; /* stack index of the new object during a start */

static int start_k(lua_State *L, int status, lua_KContext ctx)
{
	struct l_op *x = (struct l_op *)ctx;

	(void)status; /* always LUA_YIELD */
	if (sched_resumed_raw(L, &x->op.base) < 0) {
		lua_pushcfunction(L, l_close);
		lua_pushvalue(L, AT_BOX);
		lua_call(L, 1, 0);
		return lb_raise(L, &x->op.base.err);
	}
	lua_settop(L, AT_BOX);
	return 1;
}

/* (options) -> box; the Lua half has made the directories. */
static int l_start(lua_State *L)
{
	struct start_opts o = {.args = {0}};
	struct hga_box_rule *rules;
	struct hga_err err;
	struct l_box *b;
	struct l_op *x;
	size_t n;

	sched_check_effect(L, "box.start");
	sched_check_wait(L, "box.start");
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lb_opts(L, 1, "box.start", start_defs, &o);
	b = lb_newobj(L, sizeof(*b), 0, BOX_CLASS);
	lua_getfield(L, 1, "layers");
	o.args.layers = lb_strlist(L, -1, "box.start layers", &o.args.n_layers);
	read_files(L, &o.args);
	read_users(L, &o.args);
	read_disks(L, &o.args);
	read_host_ports(L, &o.args);
	rules = list_room(L, "ports", sizeof(*rules), &n);
	o.args.n_rules = read_rules(L, rules, n);
	o.args.rules = rules;
	x = lb_newop(L, sizeof(*x), NULL);
	sched_register(L, AT_BOX);
	b->box = hga_box_new(host_loop(L), &err);
	if (b->box == NULL ||
	    hga_box_start(b->box, &x->op, &o.args, &err) < 0) {
		lua_pushcfunction(L, l_close);
		lua_pushvalue(L, AT_BOX);
		lua_call(L, 1, 0);
		return lb_raise(L, &err);
	}
	return sched_await(L, &x->op.base, "box.start", start_k);
}

/* ---- commands ---- */

struct l_exec {
	struct hga_box_exec x;
	struct hga_buf got[2]; /* collected output and error output */
	size_t max;            /* of each */
	bool truncated, callback;
};

enum {
	AT_EXEC = 3,
	AT_CALLBACK = 4
};

static void exec_release(struct hga_op *op)
{
	struct l_exec *e = (struct l_exec *)op;

	hga_box_exec_release(&e->x);
	hga_buf_release(&e->got[0]);
	hga_buf_release(&e->got[1]);
}

struct exec_opts {
	int argv, env, on_output;
	const char *shell, *user, *cwd;
	struct hga_str in;
	int64_t timeout_ms, max_output;
};

static const struct lb_opt exec_defs[] = {
    {"argv", LB_TABLE, offsetof(struct exec_opts, argv)},
    {"shell", LB_CSTR, offsetof(struct exec_opts, shell)},
    {"user", LB_CSTR, offsetof(struct exec_opts, user)},
    {"cwd", LB_CSTR, offsetof(struct exec_opts, cwd)},
    {"env", LB_TABLE, offsetof(struct exec_opts, env)},
    {"stdin", LB_STR, offsetof(struct exec_opts, in)},
    {"timeout", LB_MS, offsetof(struct exec_opts, timeout_ms)},
    {"max_output", LB_INT, offsetof(struct exec_opts, max_output)},
    {"on_output", LB_FUNC, offsetof(struct exec_opts, on_output)},
    {NULL, LB_ANY, 0},
};

/* Appends to what is kept of a stream; the rest is dropped and noted. */
static void keep(lua_State *L, struct l_exec *e, int i, struct hga_str t)
{
	size_t room = e->max - e->got[i].len;
	struct hga_err err;

	if (t.n > room) {
		e->truncated = true;
		t.n = room;
	}
	if (t.n > 0 && hga_buf_add(&e->got[i], t.s, t.n, &err) < 0)
		(void)lb_raise(L, &err);
}

static void push_result(lua_State *L, struct l_exec *e)
{
	lua_createtable(L, 0, 5);
	if (e->x.exited && e->x.signal == 0) {
		lua_pushinteger(L, e->x.code);
		lua_setfield(L, -2, "code");
	}
	if (e->x.signal != 0) {
		lua_pushinteger(L, e->x.signal);
		lua_setfield(L, -2, "signal");
	}
	lb_pushstr(L, hga_buf_str(&e->got[0]));
	lua_setfield(L, -2, "out");
	lb_pushstr(L, hga_buf_str(&e->got[1]));
	lua_setfield(L, -2, "err");
	lua_pushboolean(L, e->truncated);
	lua_setfield(L, -2, "truncated");
}

/* The end of a command: its result, or its error with the output so far. */
static int exec_end(lua_State *L, struct l_exec *e)
{
	int failed = e->x.base.err.kind != HGA_OK;

	if (failed)
		lb_pusherr(L, &e->x.base.err);
	push_result(L, e);
	lb_endop(L, &e->x.base);
	if (!failed)
		return 1;
	lua_setfield(L, -2, "result");
	return lua_error(L);
}

static int exec_pump(lua_State *L, struct l_exec *e);

static int exec_called(lua_State *L, int status, lua_KContext ctx)
{
	(void)status; /* errors unwind */
	return exec_pump(L, (struct l_exec *)ctx);
}

static int exec_k(lua_State *L, int status, lua_KContext ctx)
{
	struct l_exec *e = (struct l_exec *)ctx;

	(void)status; /* always LUA_YIELD */
	/* raises cancelled; an error is raised when the queues are empty */
	(void)sched_resumed_raw(L, &e->x.base);
	return exec_pump(L, e);
}

/* Hands queued output out, then waits for more or ends. */
static int exec_pump(lua_State *L, struct l_exec *e)
{
	struct hga_buf *queues[2] = {&e->x.out, &e->x.errq};

	for (int i = 0; i < 2; i++) {
		while (queues[i]->len > 0) {
			keep(L, e, i, hga_buf_str(queues[i]));
			if (!e->callback) {
				hga_buf_clear(queues[i]);
				continue;
			}
			lua_pushvalue(L, AT_CALLBACK);
			lua_pushstring(L, i == 0 ? "out" : "err");
			lb_pushstr(L, hga_buf_str(queues[i]));
			hga_buf_clear(queues[i]);
			hga_box_exec_resume(&e->x);
			lua_callk(L, 2, 0, (lua_KContext)e, exec_called);
		}
	}
	if (e->x.base.state == HGA_OP_FINISHED)
		return exec_end(L, e);
	hga_box_exec_resume(&e->x);
	return sched_await(L, &e->x.base, "box exec", exec_k);
}

/* NAME=value list of the table in field env of the table at 2; pushed. */
static const char **read_env(lua_State *L, size_t *n)
{
	const char **list;

	lua_newtable(L); /* the texts */
	lua_getfield(L, 2, "env");
	*n = 0;
	lua_pushnil(L);
	while (lua_next(L, -2) != 0) {
		if (lua_type(L, -2) != LUA_TSTRING ||
		    (lua_type(L, -1) != LUA_TSTRING &&
		     lua_type(L, -1) != LUA_TNUMBER))
			(void)lb_fail(L, HGA_USAGE, NULL,
			              "box exec: env maps names to strings");
		lua_pushvalue(L, -2);
		lua_pushliteral(L, "=");
		lua_pushvalue(L, -3);
		lua_concat(L, 3);
		lua_rawseti(L, -5, (lua_Integer)++ * n);
		lua_pop(L, 1); /* the value */
	}
	lua_pop(L, 1); /* env */
	list = lb_strlist(L, -1, "box exec env", n);
	return list;
}

/// Runs a command inside, as root unless said otherwise.
static int l_exec(lua_State *L)
{
	struct hga_box *box = check_box(L);
	struct exec_opts o = {.timeout_ms = EXEC_MS, .max_output = OUTPUT_MAX};
	const char *shell[] = {"/bin/sh", "-c", NULL};
	struct hga_box_exec_args a = {0};
	struct hga_err err;
	struct l_exec *e;

	sched_check_effect(L, "box exec");
	sched_check_wait(L, "box exec");
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	lb_opts(L, 2, "box exec", exec_defs, &o);
	if ((o.argv != 0) == (o.shell != NULL) || o.max_output < 0)
		return lb_fail(L, HGA_USAGE, NULL,
		               "box exec: one of argv and shell is needed");
	e = lb_newop(L, sizeof(*e), exec_release);
	hga_buf_init(&e->got[0], (size_t)o.max_output);
	hga_buf_init(&e->got[1], (size_t)o.max_output);
	e->max = (size_t)o.max_output;
	e->callback = o.on_output != 0;
	lua_getfield(L, 2, "on_output");
	shell[2] = o.shell;
	a.argv = shell;
	a.argc = 3;
	if (o.argv) {
		lua_getfield(L, 2, "argv");
		a.argv = lb_strlist(L, -1, "box exec argv", &a.argc);
	}
	if (o.env)
		a.env = read_env(L, &a.n_env);
	a.user = o.user;
	a.cwd = o.cwd;
	a.in = o.in.s;
	a.in_len = o.in.n;
	a.timeout_ms = o.timeout_ms;
	if (hga_box_exec_start(box, &e->x, &a, &err) < 0)
		return lb_raise(L, &err);
	lua_settop(L, AT_CALLBACK);
	return sched_await(L, &e->x.base, "box exec", exec_k);
}

/* ---- rules ---- */

static int done_k(lua_State *L, int status, lua_KContext ctx)
{
	struct l_op *x = (struct l_op *)ctx;

	(void)status; /* always LUA_YIELD */
	(void)sched_resumed(L, &x->op.base);
	return 0;
}

/// Replaces the inbound rules.
static int l_ports(lua_State *L)
{
	struct hga_box *box = check_box(L);
	struct hga_box_rule *rules;
	struct hga_err err;
	struct l_op *x;
	size_t n;

	sched_check_wait(L, "box ports");
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	n = (size_t)lua_rawlen(L, 2);
	if (n > HGA_BOX_RULES)
		return lb_fail(L, HGA_USAGE, NULL, "box ports: too many");
	rules = lua_newuserdatauv(L, (n + 1) * sizeof(*rules), 0);
	n = read_rules(L, rules, n);
	x = lb_newop(L, sizeof(*x), NULL);
	if (hga_box_ports(box, &x->op, rules, n, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &x->op.base, "box ports", done_k);
}

/* ---- volumes ---- */

/// Makes a file a block device inside.
static int l_attach(lua_State *L)
{
	struct hga_box *box = check_box(L);
	struct hga_box_disk disk;
	struct hga_err err;
	struct l_op *x;

	sched_check_wait(L, "box attach");
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	read_disk(L, 2, &disk);
	x = lb_newop(L, sizeof(*x), NULL);
	if (hga_box_attach(box, &x->op, &disk, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &x->op.base, "box attach", done_k);
}

/// Takes a block device away again.
static int l_detach(lua_State *L)
{
	struct hga_box *box = check_box(L);
	const char *path = luaL_checkstring(L, 2);
	struct hga_err err;
	struct l_op *x;

	sched_check_wait(L, "box detach");
	lua_settop(L, 2);
	x = lb_newop(L, sizeof(*x), NULL);
	if (hga_box_detach(box, &x->op, path, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &x->op.base, "box detach", done_k);
}

/* ---- the end ---- */

static void push_end(lua_State *L, const struct hga_box_info *info)
{
	int status = info->status;

	lua_createtable(L, 0, 2);
	lua_pushstring(L, hga_box_reason_name(info->reason));
	lua_setfield(L, -2, "reason");
	lua_pushinteger(L, WIFSIGNALED(status) ? 128 + WTERMSIG(status)
	                                       : WEXITSTATUS(status));
	lua_setfield(L, -2, "status");
}

static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
	struct l_op *x = (struct l_op *)ctx;
	struct l_box *b;

	(void)status; /* always LUA_YIELD */
	(void)sched_resumed(L, &x->op.base);
	b = lb_check(L, 1, BOX_CLASS);
	if (b->box == NULL) /* closed by another task meanwhile */
		return lb_fail(L, HGA_IO, "Gone", "the instance is closed");
	push_end(L, hga_box_get_info(b->box));
	return 1;
}

struct wait_opts {
	int64_t timeout_ms;
};

static const struct lb_opt wait_defs[] = {
    {"timeout", LB_MS, offsetof(struct wait_opts, timeout_ms)},
    {NULL, LB_ANY, 0},
};

/* Common end of wait, poweroff, reboot, kill. */
static int await_end(lua_State *L, const char *what, enum hga_box_power power,
                     int64_t timeout_ms)
{
	struct hga_box *box = check_box(L);
	struct wait_opts o = {timeout_ms};
	struct hga_err err;
	struct l_op *x;

	sched_check_wait(L, what);
	lb_opts(L, 2, what, wait_defs, &o);
	x = lb_newop(L, sizeof(*x), NULL);
	if ((int)power != 0 && hga_box_power(box, power, &err) < 0)
		return lb_raise(L, &err);
	if (hga_box_wait(box, &x->op, o.timeout_ms, (int)power != 0, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &x->op.base, what, wait_k);
}

/// Waits for the end of the instance.
static int l_wait(lua_State *L)
{
	return await_end(L, "box wait", (enum hga_box_power)0, 0);
}

/// Shuts the instance down in order, and kills it after the timeout.
static int l_poweroff(lua_State *L)
{
	return await_end(L, "box poweroff", HGA_BOX_POWER_OFF, POWER_MS);
}

/// As poweroff; the reason is "reboot": start it again on its directory.
static int l_reboot(lua_State *L)
{
	return await_end(L, "box reboot", HGA_BOX_POWER_REBOOT, POWER_MS);
}

/// Ends the instance at once.
static int l_kill(lua_State *L)
{
	return await_end(L, "box kill", HGA_BOX_POWER_KILL, POWER_MS);
}

/// What is known about the instance.
static int l_info(lua_State *L)
{
	static const char *const states[] = {"new", "starting", "up", "ended"};
	const struct hga_box_info *i = hga_box_get_info(check_box(L));

	lua_createtable(L, 0, 6);
	lua_pushstring(L, states[i->state]);
	lua_setfield(L, -2, "state");
	lua_pushstring(L, i->net ? "redirect" : "none");
	lua_setfield(L, -2, "net");
	lua_pushinteger(L, (lua_Integer)i->keeper);
	lua_setfield(L, -2, "pid");
	if (i->ssh_port != 0) {
		lua_pushinteger(L, i->ssh_port);
		lua_setfield(L, -2, "ssh_port");
	}
	if (i->down != HGA_BOX_REASON_NONE) {
		lua_pushstring(L, hga_box_reason_name(i->down));
		lua_setfield(L, -2, "down");
	}
	if (i->state == HGA_BOX_ENDED) {
		lua_pushstring(L, hga_box_reason_name(i->reason));
		lua_setfield(L, -2, "reason");
	}
	return 1;
}

/// Descriptor of a socket that listens inside, for hgauto.httpd's adopt.
// @param name string "imds": where 169.254.169.254:80 leads
static int l_listener(lua_State *L)
{
	struct hga_box *box = check_box(L);
	struct hga_err err;
	int fd = hga_box_listener(box, luaL_checkstring(L, 2), &err);

	if (fd < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, fd);
	return 1;
}

/// Connections to other ports inside are not supported yet.
static int l_unsupported(lua_State *L)
{
	(void)check_box(L);
	return lb_fail(L, HGA_IO, "Unsupported",
	               "local instances do not support this yet");
}

static const luaL_Reg box_methods[] = {
    {"exec", l_exec},         {"ports", l_ports},
    {"poweroff", l_poweroff}, {"reboot", l_reboot},
    {"kill", l_kill},         {"wait", l_wait},
    {"info", l_info},         {"connect", l_unsupported},
    {"attach", l_attach},     {"detach", l_detach},
    {"listener", l_listener}, {"keep", l_keep},
    {"close", l_close},       {NULL, NULL},
};

static const luaL_Reg program_methods[] = {
    {"close", program_close},
    {NULL, NULL},
};

int luaopen_hgauto_box_core(lua_State *L)
{
	lb_newclass(L, BOX_CLASS, box_methods, NULL);
	lb_newclass(L, PROGRAM_CLASS, program_methods, NULL);
	lua_createtable(L, 0, 2);
	lua_pushcfunction(L, l_start);
	lua_setfield(L, -2, "start");
	(void)lb_newobj(L, sizeof(struct l_program), 0, PROGRAM_CLASS);
	lua_pushcclosure(L, l_program, 1);
	lua_setfield(L, -2, "program");
	return 1;
}
