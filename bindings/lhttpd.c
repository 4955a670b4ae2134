/*
 * Module hgauto.httpd, C half: the server's queue of events and its requests
 * (net/httpd.h).  Loop callbacks only append to C queues; the accept loop of
 * the Lua half takes events out and runs a task for each request.
 */
#include "lb.h"
#include "lnet.h"
#include "modules.h"
#include "sched.h"

#include "base/mem.h"
#include "net/httpd.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SERVER_CLASS "hgauto.httpd.server"
#define REQ_CLASS "hgauto.httpd.request"
#define STREAM_HIGH ((size_t)256 * 1024)

struct event;

struct lserver {
	struct hga_httpd *s;
	struct event *first, *last; /* not yet taken by the accept loop */
	struct hga_op wait;
	bool closed;
};

/*
 * One request between core and script.  Shared by the event queue, the
 * core's request (user) and the script's object; freed when all let go.
 */
struct event {
	struct event *next;
	struct lserver *srv;       /* NULL: the server's object is gone */
	struct hga_httpd_req *req; /* NULL: ended */
	struct lreq *obj;          /* the script's object */
	bool queued, gone, told_gone;
};

struct lreq {
	struct event *ev; /* NULL: ended */
	struct hga_op wait;
	bool streaming;
};

/* ---- events, from the loop ---- */

static void wake(struct hga_op *op)
{
	if (op->state == HGA_OP_RUNNING)
		hga_op_finish(op);
}

static void push_event(struct lserver *x, struct event *e)
{
	if (e->queued)
		return;
	e->queued = true;
	e->next = NULL;
	if (x->last != NULL)
		x->last->next = e;
	else
		x->first = e;
	x->last = e;
	wake(&x->wait);
}

static struct event *pop_event(struct lserver *x)
{
	struct event *e = x->first;

	if (e == NULL)
		return NULL;
	x->first = e->next;
	if (x->first == NULL)
		x->last = NULL;
	e->queued = false;
	return e;
}

/* Frees what nobody refers to any more. */
static void event_drop(struct event *e)
{
	if (e->req == NULL && e->obj == NULL && !e->queued)
		hga_free(e);
}

static void on_request(void *data, struct hga_httpd_req *req)
{
	struct event *e = hga_calloc(1, sizeof(*e));

	if (e == NULL) {
		hga_httpd_abort(req, HGA_CUT_FIN);
		return;
	}
	e->req = req;
	req->user = e;
	push_event(data, e);
}

static void on_gone(void *data, struct hga_httpd_req *req)
{
	struct event *e = req->user;

	e->gone = true;
	if (e->obj != NULL) {
		wake(&e->obj->wait);
		push_event(data, e);
	}
}

static void on_drain(void *data, struct hga_httpd_req *req)
{
	struct event *e = req->user;

	(void)data; /* only the request's own task waits */
	if (e->obj != NULL)
		wake(&e->obj->wait);
}

/* ---- server ---- */

static struct lserver *check_server(lua_State *L)
{
	struct lserver *x = lb_check(L, 1, SERVER_CLASS);

	if (x->closed)
		(void)lb_fail(L, HGA_IO, "Closed", "server is closed");
	return x;
}

struct new_opts {
	int64_t max_body, idle_ms, max_conns;
	const char *tls_cert;
	int has_key;
};

/// Opens a server without listeners.
// @param opts.max_body integer bytes, default 8 MiB
// @param opts.idle_timeout number seconds, default 60
// @param opts.max_connections integer default 256
// @param opts.tls_cert string|nil PEM; with tls_key every connection is TLS
// @param opts.tls_key string|secret|nil PEM
// @return server
static int l_new(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"max_body", LB_INT, offsetof(struct new_opts, max_body)},
	    {"idle_timeout", LB_MS, offsetof(struct new_opts, idle_ms)},
	    {"max_connections", LB_INT, offsetof(struct new_opts, max_conns)},
	    {"tls_cert", LB_CSTR, offsetof(struct new_opts, tls_cert)},
	    {"tls_key", LB_ANY, offsetof(struct new_opts, has_key)},
	    {NULL, LB_ANY, 0}};
	struct hga_httpd_opts h = {
	    .on_request = on_request, .on_gone = on_gone, .on_drain = on_drain};
	struct new_opts o = {.max_body = 0};
	struct hga_str key;
	struct hga_err err;
	struct lserver *x;

	sched_check_effect(L, "httpd.new");
	lb_opts(L, 1, "httpd.new", defs, &o);
	if (o.max_body < 0 || o.max_conns < 0 || o.max_conns > 65536)
		return lb_fail(L, HGA_USAGE, "OptionValue",
		               "httpd.new: number out of range");
	x = lb_newobj(L, sizeof(*x), 0, SERVER_CLASS);
	x->closed = true;
	if (o.has_key != (o.tls_cert != NULL))
		return lb_fail(L, HGA_USAGE, "MissingOption",
		               "httpd.new: tls_cert and tls_key go together");
	if (o.has_key) {
		lua_getfield(L, 1, "tls_key"); /* stays for the open below */
		if (!lb_tosecret(L, -1, &key))
			return lb_fail(L, HGA_USAGE, "OptionType",
			               "httpd.new: tls_key must be a text");
		h.tls_cert = o.tls_cert;
		h.tls_key = key.s;
	}
	h.data = x;
	h.max_body = (size_t)o.max_body;
	h.idle_ms = o.idle_ms;
	h.max_conns = (unsigned)o.max_conns;
	x->s = hga_httpd_open(host_loop(L), &h, &err);
	if (x->s == NULL)
		return lb_raise(L, &err);
	x->closed = false;
	if (o.has_key)
		lua_pop(L, 1);
	sched_register(L, -1);
	return 1;
}

struct listen_opts {
	const char *host, *unix_path, *tag;
	int64_t port, mode;
};

static int listen_tcp(lua_State *L, struct lserver *x,
                      const struct listen_opts *o)
{
	struct hga_err err;
	int port = 0;

	if (o->port < 0 || o->port > 65535)
		return lb_fail(L, HGA_USAGE, "OptionValue",
		               "httpd.listen: port out of range");
	if (hga_httpd_listen_tcp(x->s, o->host, (int)o->port, o->tag, &port,
	                         &err) < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, port);
	return 1;
}

/// Listens on an address or a path.
// @param opts.host string numeric address, default 127.0.0.1
// @param opts.port integer default 0: any free one
// @param opts.unix string path of a socket, instead of host and port
// @param opts.mode integer mode of the socket file, default 0600
// @param opts.tag string given to each request as req.tag
// @return integer|nil the port
// @raise exists (InUse), usage (Address), io (Listen)
static int l_listen(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"host", LB_CSTR, offsetof(struct listen_opts, host)},
	    {"port", LB_INT, offsetof(struct listen_opts, port)},
	    {"unix", LB_CSTR, offsetof(struct listen_opts, unix_path)},
	    {"mode", LB_INT, offsetof(struct listen_opts, mode)},
	    {"tag", LB_CSTR, offsetof(struct listen_opts, tag)},
	    {NULL, LB_ANY, 0}};
	struct listen_opts o = {.host = "127.0.0.1", .mode = 0600};
	struct lserver *x = check_server(L);
	struct hga_err err;

	luaL_checktype(L, 2, LUA_TTABLE);
	lb_opts(L, 2, "httpd.listen", defs, &o);
	if (o.unix_path == NULL)
		return listen_tcp(L, x, &o);
	if (hga_httpd_listen_unix(x->s, o.unix_path, (mode_t)(o.mode & 0777),
	                          o.tag, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Takes over a listening descriptor.
// @param fd integer belongs to the server afterwards
// @param[opt] tag string
// @raise io
static int l_adopt(lua_State *L)
{
	struct lserver *x = check_server(L);
	lua_Integer fd = luaL_checkinteger(L, 2);
	struct hga_err err;

	if (fd < 3 || fd > 1 << 20)
		return lb_usage(L, 2, "descriptor expected");
	if (hga_httpd_adopt(x->s, (int)fd, luaL_optstring(L, 3, ""), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Connections open now.
// @return integer
static int l_connections(lua_State *L)
{
	lua_pushinteger(L, hga_httpd_conns(check_server(L)->s));
	return 1;
}

static void close_server(struct lserver *x)
{
	if (x->closed)
		return;
	x->closed = true;
	hga_httpd_close(x->s);
	x->s = NULL;
	wake(&x->wait);
}

/// Closes listeners and connections; open requests are told. Repeatable.
static int l_close_server(lua_State *L)
{
	struct lserver *x = lb_check(L, 1, SERVER_CLASS);

	if (x->closed)
		return 0;
	close_server(x);
	sched_release(L, 1);
	return 0;
}

static int l_gc_server(lua_State *L)
{
	struct lserver *x = lb_test(L, 1, SERVER_CLASS);
	struct event *e;

	if (x == NULL)
		return 0;
	close_server(x);
	while ((e = pop_event(x)) != NULL) {
		if (e->obj == NULL && e->req != NULL) {
			hga_httpd_abort(e->req, HGA_CUT_FIN);
			e->req = NULL;
		}
		event_drop(e);
	}
	return 0;
}

/* ---- the accept loop's side ---- */

static void drop_wait(struct hga_op *op)
{
	hga_op_drop(op);
}

static int await(lua_State *L, struct hga_op *op, const char *what,
                 lua_KFunction k)
{
	if (op->state != HGA_OP_RUNNING)
		hga_op_begin(op, drop_wait);
	return sched_await(L, op, what, k);
}

/* The table of a request: fields, and the object as field 1. */
static void push_request(lua_State *L, struct event *e)
{
	const struct hga_httpd_req *q = e->req;
	struct lreq *r;

	luaL_checkstack(L, 8, NULL);
	lua_createtable(L, 1, 12);
	r = lb_newobj(L, sizeof(*r), 0, REQ_CLASS);
	r->ev = e;
	e->obj = r;
	lua_rawseti(L, -2, 1);
	lb_pushstr(L, q->method);
	lua_setfield(L, -2, "method");
	lb_pushstr(L, q->target);
	lua_setfield(L, -2, "target");
	lb_pushstr(L, q->path);
	lua_setfield(L, -2, "path");
	lb_pushstr(L, q->query);
	lua_setfield(L, -2, "query");
	lb_pushstr(L, q->body);
	lua_setfield(L, -2, "body");
	lua_pushstring(L, q->peer);
	lua_setfield(L, -2, "peer");
	lua_pushstring(L, q->tag);
	lua_setfield(L, -2, "tag");
	lua_pushinteger(L, (lua_Integer)q->id);
	lua_setfield(L, -2, "id");
	lua_pushnumber(L, (lua_Number)q->wall_us / 1e6);
	lua_setfield(L, -2, "time");
	lnet_pushheaders(L, q->headers, q->n_headers);
	lua_setfield(L, -3, "raw_headers");
	lua_setfield(L, -2, "headers");
}

/* Takes events until one is worth telling; false: none is left. */
static bool push_next(lua_State *L, struct lserver *x)
{
	struct event *e;

	while ((e = pop_event(x)) != NULL) {
		if (e->req == NULL) { /* ended meanwhile */
			event_drop(e);
			continue;
		}
		if (e->obj != NULL) {
			if (e->told_gone)
				continue;
			e->told_gone = true;
			lua_pushliteral(L, "gone");
			lua_pushinteger(L, (lua_Integer)e->req->id);
			return true;
		}
		if (e->gone) { /* left before anybody looked */
			hga_httpd_abort(e->req, HGA_CUT_FIN);
			e->req = NULL;
			event_drop(e);
			continue;
		}
		lua_pushliteral(L, "request");
		push_request(L, e);
		return true;
	}
	return false;
}

static int next_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lserver *x = lb_check(L, 1, SERVER_CLASS);

	(void)status; /* both ways look at the queue */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if (push_next(L, x))
		return 2;
	if (x->closed)
		return 0;
	return await(L, &x->wait, "http server", next_k);
}

/// Waits for what happens next (the accept loop of the Lua half).
// @return string|nil "request" or "gone"; nil when the server is closed
// @return table|integer the request; the id of the request whose client left
// @waits
static int l_next(lua_State *L)
{
	sched_check_wait(L, "http server");
	lua_settop(L, 1);
	return next_k(L, LUA_OK, 0);
}

/* ---- requests ---- */

static struct hga_httpd_req *check_req(lua_State *L, struct lreq **out)
{
	struct lreq *r = lb_check(L, 1, REQ_CLASS);

	if (out != NULL)
		*out = r;
	if (r->ev == NULL || r->ev->req == NULL) {
		(void)lb_fail(L, HGA_USAGE, "Answered",
		              "the request is already answered");
		return NULL;
	}
	return r->ev->req;
}

/* The core has let go of the request. */
static void ended(struct lreq *r)
{
	struct event *e = r->ev;

	r->ev = NULL;
	e->req = NULL;
	e->obj = NULL;
	event_drop(e);
}

struct answer {
	struct hga_httpd_answer a;
	struct hga_str body;
};

/* (req, status, headers, body) */
static void read_answer(lua_State *L, struct answer *out)
{
	lua_Integer status = luaL_checkinteger(L, 2);

	memset(out, 0, sizeof(*out));
	out->body = hga_str("");
	if (!lua_isnoneornil(L, 4) && !lb_tosecret(L, 4, &out->body))
		(void)lb_fail(L, HGA_USAGE, "OptionType",
		              "respond: body must be a string or function, "
		              "not %s",
		              luaL_typename(L, 4));
	out->a.status = status < 0 || status > 999 ? 0 : (int)status;
	out->a.body = out->body.s;
	out->a.body_len = out->body.n;
	out->a.headers = lnet_headers(L, 3, &out->a.n_headers);
}

/// Answers: (status, headers, body).
// @raise usage (Answered, Header, Status); the request is still open then
static int l_respond(lua_State *L)
{
	struct hga_httpd_req *q;
	struct hga_err err;
	struct answer ans;
	struct lreq *r;

	(void)check_req(L, &r); /* only raises */
	lua_settop(L, 4);
	read_answer(L, &ans);
	q = check_req(L, &r);
	if (r->streaming)
		return lb_fail(L, HGA_USAGE, "Answered",
		               "the request is already answered");
	if (hga_httpd_respond(q, &ans.a, &err) < 0)
		return lb_raise(L, &err);
	ended(r);
	return 0;
}

/// Begins an answer in parts: (status, headers, first, length|nil).
static int l_begin(lua_State *L)
{
	struct hga_httpd_req *q;
	struct hga_err err;
	struct answer ans;
	struct lreq *r;
	lua_Integer length = luaL_optinteger(L, 5, -1);

	(void)check_req(L, &r); /* only raises */
	lua_settop(L, 4);
	read_answer(L, &ans);
	q = check_req(L, &r);
	if (hga_httpd_stream_begin(q, &ans.a, length, &err) < 0)
		return lb_raise(L, &err);
	r->streaming = true;
	return 0;
}

static int write_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lreq *r;
	struct hga_httpd_req *q = check_req(L, &r);

	(void)status; /* both ways look at the queue */
	if (ctx != 0)
		(void)sched_resumed(L, (struct hga_op *)ctx);
	if (hga_httpd_stream_queued(q) <= STREAM_HIGH)
		return 0;
	return await(L, &r->wait, "http answer", write_k);
}

/// Writes a part of the answer; waits while much of it is not sent.
// @param data string
// @waits
static int l_write(lua_State *L)
{
	struct lreq *r;
	struct hga_httpd_req *q = check_req(L, &r);
	struct hga_str s;
	struct hga_err err;

	if (!r->streaming)
		return lb_fail(L, HGA_USAGE, "NotBegun",
		               "write comes after begin");
	if (!lb_tosecret(L, 2, &s))
		return lb_usage(L, 2, "string expected, got %s",
		                luaL_typename(L, 2));
	sched_check_wait(L, "http answer");
	if (hga_httpd_stream_write(q, s.s, s.n, &err) < 0)
		return lb_raise(L, &err);
	lua_settop(L, 1);
	return write_k(L, LUA_OK, 0);
}

/// Ends an answer in parts; false: the client sees that it is not whole.
static int l_finish(lua_State *L)
{
	struct lreq *r;
	struct hga_httpd_req *q = check_req(L, &r);

	if (!r->streaming)
		return lb_fail(L, HGA_USAGE, "NotBegun",
		               "finish comes after begin");
	hga_httpd_stream_end(q, lua_isnone(L, 2) || lua_toboolean(L, 2));
	ended(r);
	return 0;
}

/// Ends the request without an answer: "fin" closes, "rst" resets.
static int l_abort(lua_State *L)
{
	static const char *const names[] = {"fin", "rst", NULL};
	struct lreq *r;
	struct hga_httpd_req *q = check_req(L, &r);
	int how = luaL_checkoption(L, 2, "fin", names);

	hga_httpd_abort(q, how == 1 ? HGA_CUT_RST : HGA_CUT_FIN);
	ended(r);
	return 0;
}

/// Ends the request with bytes as they are, and a close.
// @param bytes string at most some 100 KiB: what the socket's buffer holds
static int l_raw(lua_State *L)
{
	struct lreq *r;
	struct hga_httpd_req *q = check_req(L, &r);

	if (r->streaming)
		return lb_fail(L, HGA_USAGE, "Answered",
		               "raw cannot follow begin");
	hga_httpd_raw(q, lb_checkstr(L, 2));
	ended(r);
	return 0;
}

/// How many routers packets to this client may pass from now on.
// @param hops integer 1 to 255
static int l_hops(lua_State *L)
{
	struct lreq *r;
	struct hga_httpd_req *q = check_req(L, &r);
	lua_Integer n = luaL_checkinteger(L, 2);

	luaL_argcheck(L, n >= 1 && n <= 255, 2, "1 to 255");
	hga_httpd_hops(q, (int)n);
	return 0;
}

/// "open", "streaming" or "done".
static int l_state(lua_State *L)
{
	struct lreq *r = lb_check(L, 1, REQ_CLASS);

	lua_pushstring(L, r->ev == NULL  ? "done"
	                  : r->streaming ? "streaming"
	                                 : "open");
	return 1;
}

/// Whether the client has left.
static int l_gone(lua_State *L)
{
	struct lreq *r = lb_check(L, 1, REQ_CLASS);

	lua_pushboolean(L, r->ev == NULL || r->ev->gone);
	return 1;
}

/* A handler that forgot its request: the connection is closed. */
static int l_gc_req(lua_State *L)
{
	struct lreq *r = lb_test(L, 1, REQ_CLASS);

	if (r == NULL || r->ev == NULL)
		return 0;
	if (r->ev->req != NULL)
		hga_httpd_abort(r->ev->req, HGA_CUT_FIN);
	ended(r);
	return 0;
}

static const luaL_Reg server_methods[] = {
    {"listen", l_listen},           {"adopt", l_adopt},        {"next", l_next},
    {"connections", l_connections}, {"close", l_close_server}, {NULL, NULL}};
static const luaL_Reg server_meta[] = {{"__gc", l_gc_server}, {NULL, NULL}};
static const luaL_Reg req_methods[] = {
    {"respond", l_respond}, {"begin", l_begin},
    {"write", l_write},     {"finish", l_finish},
    {"abort", l_abort},     {"raw", l_raw},
    {"hops", l_hops},       {"state", l_state},
    {"gone", l_gone},       {NULL, NULL}};
static const luaL_Reg req_meta[] = {{"__gc", l_gc_req}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"new", l_new}, {NULL, NULL}};

int luaopen_hgauto_httpd_core(lua_State *L)
{
	lb_newclass(L, SERVER_CLASS, server_methods, server_meta);
	lb_newclass(L, REQ_CLASS, req_methods, req_meta);
	luaL_newlib(L, functions);
	return 1;
}
