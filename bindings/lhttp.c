/*
 * Module hgauto.http, C half: one HTTP request (net/http.h).  The Lua half
 * adds request{}.
 *
 * Where the body goes: memory; a file (written beside the target, renamed at
 * the end); or a bounded queue that a script empties.  The last two only for
 * an answer 2xx: the body of any other one is kept in memory.
 */
#include "lb.h"
#include "lnet.h"
#include "modules.h"
#include "sched.h"

#include "base/fs.h"
#include "base/mem.h"
#include "net/http.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HTTP_CLASS "hgauto.http.transfer"
#define QUEUE_MAX ((size_t)256 * 1024)
#define ERROR_BODY ((size_t)1024 * 1024)

enum {
	UV_BODY = 1,
	UV_PATH = 2
};

enum target {
	TO_MEMORY,
	TO_FILE,
	TO_QUEUE
};

struct lhttp {
	struct hga_http h; /* first */
	bool started;
	enum target target;
	struct hga_buf queue; /* for the script, or an error's body */
	int fd;               /* of the file, plus one; 0: none */
	char *path, *tmp;
	struct hga_op wait;
};

/* ---- the body ---- */

static bool is_2xx(const struct lhttp *x)
{
	return x->h.status / 100 == 2;
}

static int keep_error_body(struct lhttp *x, const void *p, size_t n,
                           struct hga_err *err)
{
	size_t room = ERROR_BODY - x->queue.len;

	return hga_buf_add(&x->queue, p, n < room ? n : room, err);
}

static void on_event(struct hga_op *op)
{
	struct lhttp *x = (struct lhttp *)op;

	if (x->wait.state == HGA_OP_RUNNING)
		hga_op_finish(&x->wait);
}

static int to_queue(struct lhttp *x, const void *p, size_t n,
                    struct hga_err *err)
{
	int r;

	if (x->queue.len > 0 && x->queue.len + n > QUEUE_MAX)
		return 1;
	r = hga_buf_add(&x->queue, p, n, err);
	on_event(&x->h.base);
	return r;
}

static int sink(void *data, const void *p, size_t n, struct hga_err *err)
{
	struct lhttp *x = data;

	if (!is_2xx(x))
		return keep_error_body(x, p, n, err);
	if (x->target == TO_QUEUE)
		return to_queue(x, p, n, err);
	return hga_fs_write_fd(x->fd - 1, x->path, p, n, err);
}

static int open_file(struct lhttp *x, struct hga_err *err)
{
	struct hga_buf b;
	int fd, r;

	hga_buf_init(&b, 65536);
	r = hga_buf_addf(&b, err, "%s.part-XXXXXX", x->path);
	if (r < 0)
		return r;
	x->tmp = hga_buf_move(&b);
	fd = mkostemp(x->tmp, O_CLOEXEC);
	if (fd < 0) {
		r = hga_fs_fail(err, errno, "create", x->tmp);
		hga_free(x->tmp);
		x->tmp = NULL;
		return r;
	}
	x->fd = fd + 1;
	return 0;
}

static void drop_file(struct lhttp *x)
{
	if (x->fd > 0)
		close(x->fd - 1);
	x->fd = 0;
	if (x->tmp != NULL)
		(void)unlink(x->tmp); /* gone when it was renamed */
	hga_free(x->tmp);
	x->tmp = NULL;
}

static int finish_file(struct lhttp *x, struct hga_err *err)
{
	int r = 0;

	if (fsync(x->fd - 1) < 0)
		r = hga_fs_fail(err, errno, "write", x->tmp);
	if (r == 0 && rename(x->tmp, x->path) < 0)
		r = hga_fs_fail(err, errno, "rename", x->path);
	drop_file(x);
	return r;
}

/* ---- start ---- */

struct opts {
	const char *method, *url, *unix_socket, *ca_bundle, *path;
	int has_body, has_headers;
	bool repeatable, fresh, queue;
	int64_t timeout_ms, idle_ms, connect_ms, max_body;
};

static const struct lb_opt defs[] = {
    {"method", LB_CSTR, offsetof(struct opts, method)},
    {"url", LB_CSTR, offsetof(struct opts, url)},
    {"headers", LB_TABLE, offsetof(struct opts, has_headers)},
    {"body", LB_ANY, offsetof(struct opts, has_body)},
    {"timeout", LB_MS, offsetof(struct opts, timeout_ms)},
    {"idle_timeout", LB_MS, offsetof(struct opts, idle_ms)},
    {"connect_timeout", LB_MS, offsetof(struct opts, connect_ms)},
    {"unix", LB_CSTR, offsetof(struct opts, unix_socket)},
    {"ca_bundle", LB_CSTR, offsetof(struct opts, ca_bundle)},
    {"max_body", LB_INT, offsetof(struct opts, max_body)},
    {"repeatable", LB_BOOL, offsetof(struct opts, repeatable)},
    {"fresh", LB_BOOL, offsetof(struct opts, fresh)},
    {"path", LB_CSTR, offsetof(struct opts, path)},
    {"queue", LB_BOOL, offsetof(struct opts, queue)},
    {NULL, LB_ANY, 0}};

static void check_opts(lua_State *L, const struct opts *o)
{
	if (o->url == NULL)
		(void)lb_fail(L, HGA_USAGE, "MissingOption",
		              "http.request: url is missing");
	if (o->max_body < 0)
		(void)lb_fail(L, HGA_USAGE, "OptionValue",
		              "http.request: max_body must not be negative");
}

static void set_body(lua_State *L, struct lhttp *x, struct hga_http_args *a)
{
	struct hga_str text;

	(void)x; /* its user value keeps the text */
	lua_getfield(L, 1, "body");
	if (!lb_tosecret(L, -1, &text))
		(void)lb_fail(L, HGA_USAGE, "OptionType",
		              "http.request: option body must be a string, "
		              "not %s",
		              luaL_typename(L, -1));
	a->has_body = true;
	a->body = text.s;
	a->body_len = text.n;
	lua_setiuservalue(L, 2, UV_BODY);
}

static void set_target(lua_State *L, struct lhttp *x, const struct opts *o,
                       struct hga_http_args *a)
{
	struct hga_err err;

	hga_buf_init(&x->queue,
	             QUEUE_MAX > ERROR_BODY ? QUEUE_MAX : ERROR_BODY);
	if (o->path == NULL && !o->queue)
		return;
	a->sink = sink;
	a->data = x;
	if (o->queue) {
		x->target = TO_QUEUE;
		return;
	}
	x->target = TO_FILE;
	x->path = hga_strdup(o->path);
	if (x->path == NULL)
		(void)lb_fail(L, HGA_MEMORY, NULL, "out of memory");
	if (open_file(x, &err) < 0)
		(void)lb_raise(L, &err);
}

/// Starts a request; see hgauto.http.request for most options.
// @param opts.path string file for the body of an answer 2xx
// @param opts.queue boolean the body of an answer 2xx is taken by read
// @return transfer
// @raise usage, net (LocalOnly), io
static int l_start(lua_State *L)
{
	struct opts o = {.method = "GET"};
	struct hga_http_args a = {.method = NULL};
	struct hga_err err;
	struct lhttp *x;

	sched_check_effect(L, "http.request");
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lb_opts(L, 1, "http.request", defs, &o);
	check_opts(L, &o);
	x = lb_newobj(L, sizeof(*x), 2, HTTP_CLASS);
	set_target(L, x, &o, &a);
	if (o.has_body)
		set_body(L, x, &a);
	if (o.has_headers) {
		lua_getfield(L, 1, "headers");
		a.headers = lnet_headers(L, -1, &a.n_headers);
	}
	a.method = o.method;
	a.url = o.url;
	a.unix_socket = o.unix_socket;
	a.ca_bundle = o.ca_bundle;
	a.total_ms = o.timeout_ms;
	a.idle_ms = o.idle_ms;
	a.connect_ms = o.connect_ms;
	a.max_body = (size_t)o.max_body;
	a.repeatable = o.repeatable;
	a.fresh = o.fresh;
	x->h.base.done = x->h.base.progress = on_event;
	x->started = true;
	if (hga_http_start(host_loop(L), &x->h, &a, &err) < 0)
		return lb_raise(L, &err);
	lua_settop(L, 2);
	return 1;
}

/* ---- waiting ---- */

static void drop_wait(struct hga_op *op)
{
	hga_op_drop(op);
}

static int await(lua_State *L, struct lhttp *x, lua_KFunction k)
{
	if (x->wait.state != HGA_OP_RUNNING)
		hga_op_begin(&x->wait, drop_wait);
	return sched_await(L, &x->wait, "http request", k);
}

static struct lhttp *check(lua_State *L)
{
	struct lhttp *x = lb_check(L, 1, HTTP_CLASS);

	if (!x->started)
		(void)lb_fail(L, HGA_IO, "Closed", "transfer is closed");
	return x;
}

static int raise_http(lua_State *L, struct lhttp *x)
{
	lb_pusherr(L, &x->h.base.err);
	lua_pushboolean(L, x->h.sent);
	lua_setfield(L, -2, "sent");
	if (x->h.status > 0) {
		lua_pushinteger(L, x->h.status);
		lua_setfield(L, -2, "status");
	}
	return lua_error(L);
}

static bool running(const struct lhttp *x)
{
	return x->h.base.state == HGA_OP_RUNNING;
}

static int read_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lhttp *x = check(L);

	(void)status; /* both ways look at the queue */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if (x->queue.len > 0 && is_2xx(x)) {
		lua_pushlstring(L, x->queue.data, x->queue.len);
		hga_buf_clear(&x->queue);
		hga_http_resume(&x->h);
		return 1;
	}
	if (running(x))
		return await(L, x, read_k);
	if (x->h.base.err.kind != HGA_OK)
		return raise_http(L, x);
	return 0;
}

/// Waits for a part of the body of an answer 2xx (started with queue=true).
// @return string|nil nil at the end or when the answer is another one
// @raise net, timeout, protocol, auth; err.sent: the request may have arrived
// @waits
static int l_read(lua_State *L)
{
	sched_check_wait(L, "http.request");
	lua_settop(L, 1);
	return read_k(L, LUA_OK, 0);
}

/* The fields of the answer; the array is Lua's, since what follows raises. */
static void push_headers(lua_State *L, struct lhttp *x)
{
	const char *p = hga_buf_text(&x->h.head), *nl, *colon;
	struct hga_http_hdr *h;
	size_t i = 0, n = 0;

	for (nl = p; (nl = strchr(nl, '\n')) != NULL; nl++)
		n++;
	h = lua_newuserdatauv(L, (n + 1) * sizeof(*h), 0);
	for (; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
		colon = strchr(p, ':');
		h[i].name = hga_strn(p, (size_t)(colon - p));
		h[i].value = hga_strn(colon + 2, (size_t)(nl - colon - 2));
		i++;
	}
	lnet_pushheaders(L, h, i);
}

static int push_answer(lua_State *L, struct lhttp *x)
{
	struct hga_buf *body = x->target == TO_MEMORY ? &x->h.body : &x->queue;

	lua_createtable(L, 0, 7);
	lua_pushinteger(L, x->h.status);
	lua_setfield(L, 2, "status");
	push_headers(L, x);
	lua_setfield(L, 2, "raw_headers");
	lua_setfield(L, 2, "headers");
	lua_settop(L, 2);
	if (body->len > 0 || x->target == TO_MEMORY || !is_2xx(x)) {
		lua_pushlstring(L, hga_buf_text(body), body->len);
		lua_setfield(L, 2, "body");
	}
	lua_pushinteger(L, (lua_Integer)x->h.received);
	lua_setfield(L, 2, "received");
	lua_pushboolean(L, x->h.reused);
	lua_setfield(L, 2, "reused");
	lua_pushnumber(L, x->h.t_total);
	lua_setfield(L, 2, "seconds");
	return 1;
}

static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lhttp *x = check(L);
	struct hga_err err;

	(void)status; /* both ways look at the state */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if (running(x))
		return await(L, x, wait_k);
	if (x->h.base.err.kind != HGA_OK)
		return raise_http(L, x);
	if (x->target == TO_FILE && is_2xx(x) && x->fd > 0 &&
	    finish_file(x, &err) < 0)
		return lb_raise(L, &err);
	return push_answer(L, x);
}

/// Waits for the end of the answer.
// @return {status=integer, headers=table, raw_headers=table, body=string,
// received=integer, reused=boolean, seconds=number}
// @raise net, timeout, protocol, auth, io; err.sent: the request may have
// arrived; err.status when an answer began
// @waits
static int l_wait(lua_State *L)
{
	sched_check_wait(L, "http.request");
	lua_settop(L, 1);
	return wait_k(L, LUA_OK, 0);
}

/* ---- closing ---- */

static int l_close(lua_State *L)
{
	struct lhttp *x = lb_test(L, 1, HTTP_CLASS);

	if (x == NULL)
		return 0;
	hga_http_release(&x->h);
	if (x->wait.state == HGA_OP_RUNNING) {
		(void)hga_fail(&x->wait.err, HGA_IO, 0, "Closed",
		               "transfer was closed");
		hga_op_finish(&x->wait);
	}
	x->started = false;
	hga_buf_release(&x->queue);
	drop_file(x);
	hga_free(x->path);
	x->path = NULL;
	return 0;
}

/// From now on only connections to the local cloud are allowed.
// @param on boolean
static int l_local_only(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TBOOLEAN);
	hga_loop_local_only(host_loop(L), lua_toboolean(L, 1));
	return 0;
}

static const luaL_Reg methods[] = {
    {"read", l_read}, {"wait", l_wait}, {"close", l_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {
    {"start", l_start}, {"local_only", l_local_only}, {NULL, NULL}};

int luaopen_hgauto_http_core(lua_State *L)
{
	lb_newclass(L, HTTP_CLASS, methods, NULL);
	luaL_newlib(L, functions);
	return 1;
}
