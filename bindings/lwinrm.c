/*
 * Module hgauto.winrm.core: sessions and calls of winrm/wsman.h.  The Lua
 * half makes shells, commands, pools and pipelines of them.
 */
#include "lwinrm.h"

#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "winrm/clixml.h"
#include "winrm/winrs.h"
#include "winrm/wsman.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define SINK_CLASS "hgauto.winrm.core.sink"
#define SESSION_CLASS "hgauto.winrm.core.session"

struct lsession {
	struct hga_wsman *s;
	unsigned running;
	bool closed;
};

/* Output that is only collected never becomes a Lua string until its end. */
struct lsink {
	size_t head; /* bytes in front of the output in both */
	struct hga_buf out, errs;
};

struct lcall {
	struct hga_wsman_call c; /* first */
	struct lsession *of;     /* its userdata is on the waiting stack */
};

static struct lsession *check(lua_State *L)
{
	struct lsession *x = lb_check(L, 1, SESSION_CLASS);

	if (x->closed)
		(void)lb_fail(L, HGA_USAGE, "Closed", "session is closed");
	return x;
}

/* ---- sessions ---- */

struct oopts {
	const char *host, *ca, *name, *pin;
	struct hga_str user;
	int64_t port, connect_ms, operation_ms, envelope;
	int password;
	bool https, allow_plaintext, insecure;
};

#define O(field, key, type)                                                    \
	{                                                                      \
		key, type, offsetof(struct oopts, field)                       \
	}
static const struct lb_opt open_opts[] = {
    O(host, "host", LB_CSTR),
    O(port, "port", LB_INT),
    O(https, "https", LB_BOOL),
    O(allow_plaintext, "allow_plaintext", LB_BOOL),
    O(user, "user", LB_STR),
    O(password, "password", LB_ANY),
    O(ca, "ca", LB_CSTR),
    O(name, "name", LB_CSTR),
    O(pin, "pin", LB_CSTR),
    O(insecure, "insecure", LB_BOOL),
    O(connect_ms, "connect_timeout", LB_MS),
    O(operation_ms, "operation_timeout", LB_MS),
    O(envelope, "envelope", LB_INT),
    {NULL, LB_BOOL, 0},
};
#undef O

/// Makes a session; nothing is connected yet.
// @return session
// @raise usage
static int l_open(lua_State *L)
{
	struct oopts o = {.https = true, .port = 5986, .user = {"", 0}};
	struct hga_wsman_opts w = {.host = NULL};
	struct lsession *x;
	struct hga_err err;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lb_opts(L, 1, "winrm.connect", open_opts, &o);
	lua_getfield(L, 1, "password");
	if (!lb_tosecret(L, 2, &w.password))
		return lb_fail(L, HGA_USAGE, "MissingOption",
		               "winrm.connect: password must be a secret");
	if (o.envelope < 0 || o.envelope > 64 * 1024 * 1024)
		return lb_fail(L, HGA_USAGE, "OptionValue",
		               "winrm.connect: envelope out of range");
	x = lb_newobj(L, sizeof(*x), 0, SESSION_CLASS);
	w.host = o.host;
	w.port = o.port > 0 && o.port < 65536 ? (int)o.port : 0;
	w.https = o.https;
	w.allow_plaintext = o.allow_plaintext;
	w.user = o.user;
	w.ca = o.ca;
	w.name = o.name;
	w.pin = o.pin;
	w.insecure = o.insecure;
	w.connect_ms = o.connect_ms;
	w.operation_ms = o.operation_ms;
	w.envelope = (size_t)o.envelope;
	if (hga_wsman_open(host_loop(L), &w, &x->s, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

/* Calls that still run keep what they use; the collector frees it then. */
static int session_close(lua_State *L)
{
	struct lsession *x = lb_test(L, 1, SESSION_CLASS);

	if (x == NULL)
		return 0;
	x->closed = true;
	if (x->running > 0)
		return 0;
	hga_wsman_close(x->s);
	x->s = NULL;
	return 0;
}

static int session_gc(lua_State *L)
{
	struct lsession *x = lb_test(L, 1, SESSION_CLASS);

	if (x == NULL)
		return 0;
	hga_wsman_close(x->s);
	x->s = NULL;
	x->closed = true;
	return 0;
}

/* s:payload(resource, envelope|nil) */
static int session_payload(lua_State *L)
{
	struct lsession *x = check(L);
	struct hga_str resource = lb_checkstr(L, 2);
	lua_Integer envelope = luaL_optinteger(L, 3, 0);

	lua_pushinteger(L, (lua_Integer)hga_winrs_payload(
	                       hga_wsman_head(x->s), resource,
	                       envelope > 0 ? (size_t)envelope : 0));
	return 1;
}

static int session_account(lua_State *L)
{
	struct lsession *x = check(L);
	struct hga_str user = lb_checkstr(L, 2), password;
	struct hga_err err;

	if (!lb_tosecret(L, 3, &password))
		return lb_usage(L, 3, "secret expected");
	if (hga_wsman_account(x->s, user, password, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

static int session_stats(lua_State *L)
{
	const struct hga_wsman_stats *s = hga_wsman_stats(check(L)->s);

	lua_createtable(L, 0, 4);
	lua_pushinteger(L, (lua_Integer)s->requests);
	lua_setfield(L, -2, "requests");
	lua_pushinteger(L, (lua_Integer)s->retries);
	lua_setfield(L, -2, "retries");
	lua_pushinteger(L, (lua_Integer)s->bytes_in);
	lua_setfield(L, -2, "bytes_in");
	lua_pushinteger(L, (lua_Integer)s->bytes_out);
	lua_setfield(L, -2, "bytes_out");
	return 1;
}

/* ---- calls ---- */

struct copts {
	struct hga_str resource, shell, inputs, outputs, cwd, name, lifetime,
	    codepage, version, pool, creation, command, line, first, stream,
	    data, streams, code;
	int64_t envelope, idle_s;
	bool no_profile, skip_shell, console_stdin, is_cmd, end;
	int env, args, sink;
};

#define O(field, type)                                                         \
	{                                                                      \
#field, type, offsetof(struct copts, field)                    \
	}
static const struct lb_opt call_opts[] = {
    O(resource, LB_STR),
    O(shell, LB_STR),
    O(inputs, LB_STR),
    O(outputs, LB_STR),
    O(cwd, LB_STR),
    O(name, LB_STR),
    O(lifetime, LB_STR),
    O(codepage, LB_STR),
    O(version, LB_STR),
    O(pool, LB_STR),
    O(creation, LB_STR),
    O(command, LB_STR),
    O(line, LB_STR),
    O(first, LB_STR),
    O(stream, LB_STR),
    O(data, LB_STR),
    O(streams, LB_STR),
    O(code, LB_STR),
    O(envelope, LB_INT),
    O(idle_s, LB_INT),
    O(no_profile, LB_BOOL),
    O(skip_shell, LB_BOOL),
    O(console_stdin, LB_BOOL),
    O(is_cmd, LB_BOOL),
    O(end, LB_BOOL),
    O(env, LB_TABLE),
    O(args, LB_TABLE),
    O(sink, LB_ANY),
    {NULL, LB_BOOL, 0},
};
#undef O

/* Views of a list of texts, in a userdata; they stay the options'.
 * [-0, +1, raises] */
static struct hga_str *push_views(lua_State *L, int idx, const char *key,
                                  size_t *n)
{
	struct hga_str *v;

	lua_getfield(L, idx, key);
	*n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
	v = lua_newuserdatauv(L, (*n + 1) * sizeof(*v), 0);
	for (size_t i = 0; i < *n; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		if (lua_type(L, -1) != LUA_TSTRING)
			(void)lb_fail(L, HGA_USAGE, "OptionType",
			              "winrm: %s must hold texts", key);
		v[i] = lb_checkstr(L, -1);
		lua_pop(L, 1); /* kept by the list */
	}
	lua_remove(L, -2); /* the list is kept by the options */
	return v;
}

static void set_text(lua_State *L, const char *key, const char *text)
{
	if (text[0] == '\0')
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, key);
}

static void set_buf(lua_State *L, const char *key, const struct hga_buf *b)
{
	if (b->len == 0)
		return;
	lb_pushstr(L, hga_buf_str(b));
	lua_setfield(L, -2, key);
}

/* The fault as a table. [-0, +1, m] */
static void push_fault(lua_State *L, const struct hga_wsman_resp *r)
{
	char hex[24];

	lua_createtable(L, 0, 8);
	if (r->has_code) {
		lua_pushinteger(L, (lua_Integer)r->code);
		lua_setfield(L, -2, "code");
		snprintf(hex, sizeof(hex), "0x%08llX",
		         (unsigned long long)r->code);
		set_text(L, "hex", hex);
	}
	set_text(L, "subcode", r->subcode);
	set_text(L, "provider", r->provider);
	set_text(L, "provider_path", r->provider_path);
	set_buf(L, "reason", &r->reason);
	set_buf(L, "message", &r->message);
	set_buf(L, "provider_text", &r->provider_text);
	lb_pushstr(L, hga_wsman_fault_text(r));
	lua_setfield(L, -2, "text");
}

static int raise_call(lua_State *L, struct lcall *x)
{
	lb_pusherr(L, &x->c.base.err);
	lua_pushboolean(L, x->c.sent);
	lua_setfield(L, -2, "sent");
	lua_pushinteger(L, x->c.attempts);
	lua_setfield(L, -2, "attempts");
	if (x->c.status > 0) {
		lua_pushinteger(L, x->c.status);
		lua_setfield(L, -2, "status");
	}
	if (x->c.resp.fault) {
		push_fault(L, &x->c.resp);
		lua_setfield(L, -2, "fault");
	}
	return lua_error(L);
}

/* All bytes of a stream, in one string. [-0, +1, m] */
static void push_stream(lua_State *L, const struct hga_wsman_resp *r,
                        size_t from)
{
	const char *name = r->streams[from].name;
	size_t pieces = 0;
	luaL_Buffer b;

	for (size_t i = from + 1; i < r->n_streams; i++)
		pieces += strcmp(r->streams[i].name, name) == 0 &&
		          r->streams[i].len > 0;
	if (pieces == 0) { /* the usual case: no copy */
		lua_pushlstring(L, r->data.data + r->streams[from].at,
		                r->streams[from].len);
		return;
	}
	luaL_buffinit(L, &b);
	for (size_t i = from; i < r->n_streams; i++)
		if (strcmp(r->streams[i].name, name) == 0)
			luaL_addlstring(&b, r->data.data + r->streams[i].at,
			                r->streams[i].len);
	luaL_pushresult(&b);
}

static bool has_head(struct lsink *k, struct hga_err *err)
{
	while (k->out.len < k->head)
		if (hga_buf_addc(&k->out, '\0', err) < 0)
			return false;
	while (k->errs.len < k->head)
		if (hga_buf_addc(&k->errs, '\0', err) < 0)
			return false;
	return true;
}

/* {stdout = bytes, ...} of what arrived and went into no sink.
 * [-0, +1, raises] */
static void push_streams(lua_State *L, const struct hga_wsman_resp *r)
{
	lua_createtable(L, 0, 2);
	for (size_t i = 0; i < r->n_streams; i++) {
		if (lua_getfield(L, -1, r->streams[i].name) == LUA_TNIL) {
			push_stream(L, r, i);
			lua_setfield(L, -3, r->streams[i].name);
		}
		lua_pop(L, 1);
	}
}

static void push_leaves(lua_State *L, const struct hga_wsman_resp *r)
{
	const char *p = hga_buf_text(&r->leaves), *end = p + r->leaves.len;

	lua_newtable(L);
	while (p < end) {
		const char *text = p + strlen(p) + 1;

		lua_pushstring(L, text);
		lua_setfield(L, -2, p);
		p = text + strlen(text) + 1;
	}
}

static void push_resp(lua_State *L, const struct lcall *x)
{
	const struct hga_wsman_resp *r = &x->c.resp;

	lua_createtable(L, 0, 12);
	set_text(L, "shell", r->shell_id);
	set_text(L, "command", r->command_id);
	set_text(L, "state", r->state);
	set_text(L, "shell_state", r->shell_state);
	if (r->has_exit) {
		lua_pushinteger(L, r->exit_code);
		lua_setfield(L, -2, "exit_code");
	}
	lua_pushboolean(L, r->timed_out);
	lua_setfield(L, -2, "timed_out");
	lua_pushboolean(L, r->simulated);
	lua_setfield(L, -2, "simulated");
	lua_pushinteger(L, x->c.attempts);
	lua_setfield(L, -2, "attempts");
	push_streams(L, r);
	lua_setfield(L, -2, "streams");
	push_leaves(L, r);
	lua_setfield(L, -2, "leaves");
}

static void call_release(struct hga_op *op)
{
	struct lcall *x = (struct lcall *)op;

	hga_wsman_call_release(&x->c);
	if (x->of != NULL)
		x->of->running--;
	x->of = NULL;
}

static int call_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lcall *x = (struct lcall *)ctx;
	int r = sched_resumed_raw(L, &x->c.base);

	(void)status; /* LUA_YIELD */
	if (r == 0)
		return sched_await(L, &x->c.base, "winrm call", call_k);
	if (r < 0)
		return raise_call(L, x);
	push_resp(L, x);
	if (x->of->s != NULL)
		hga_wsman_reuse(x->of->s, &x->c);
	lb_endop(L, &x->c.base);
	return 1;
}

static const char *const actions[] = {"get",  "create",  "delete", "command",
                                      "send", "receive", "signal", NULL};

/// One request and its answer: s:call(action, options).
// @waits
static int session_call(lua_State *L)
{
	struct lsession *s = check(L);
	int action = luaL_checkoption(L, 2, NULL, actions);
	struct copts o;
	struct hga_winrs_req in;
	struct hga_wsman_req q;
	struct hga_err err = {0};
	struct lsink *sink;
	struct lcall *x;

	memset(&o, 0, sizeof(o));
	memset(&in, 0, sizeof(in));
	memset(&q, 0, sizeof(q));
	luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	lb_opts(L, 3, "winrm.core.call", call_opts, &o);
	sched_check_wait(L, "winrm call");
	in.env = push_views(L, 3, "env", &in.n_env);
	in.args = push_views(L, 3, "args", &in.n_args);
	in.n_env /= 2;
	in.action = (enum hga_wsman_action)action;
	in.resource = o.resource;
	in.shell = o.shell;
	in.envelope = o.envelope > 0 ? (size_t)o.envelope : 0;
	in.inputs = o.inputs;
	in.outputs = o.outputs;
	in.cwd = o.cwd;
	in.name = o.name;
	in.lifetime = o.lifetime;
	in.codepage = o.codepage;
	in.version = o.version;
	in.pool = o.pool;
	in.creation = o.creation;
	in.idle_s = o.idle_s;
	in.no_profile = o.no_profile;
	in.command = o.command;
	in.line = o.line;
	in.first = o.first;
	in.skip_shell = o.skip_shell;
	in.console_stdin = o.console_stdin;
	in.is_cmd = o.is_cmd;
	in.stream = o.stream;
	in.data = o.data;
	in.streams = o.streams;
	in.code = o.code;
	in.end = o.end;
	lua_getfield(L, 3, "sink"); /* kept by the options */
	sink = lb_test(L, -1, SINK_CLASS);
	x = lb_newop(L, sizeof(*x), call_release);
	if (sink != NULL && !has_head(sink, &err))
		return lb_raise(L, &err);
	if (sink != NULL) {
		x->c.out = &sink->out;
		x->c.errs = &sink->errs;
	}
	if (hga_winrs_write(&in, &q, &err) < 0 ||
	    hga_wsman_call_start(s->s, &x->c, &q, &err) < 0)
		return lb_raise(L, &err);
	s->running++;
	x->of = s;
	return sched_await(L, &x->c.base, "winrm call", call_k);
}

/* ---- sinks ---- */

static int sink_close(lua_State *L)
{
	struct lsink *k = lb_test(L, 1, SINK_CLASS);

	if (k == NULL)
		return 0;
	hga_buf_release(&k->out);
	hga_buf_release(&k->errs);
	return 0;
}

/* core.sink(max bytes of each stream) */
static int l_sink(lua_State *L)
{
	lua_Integer max = luaL_checkinteger(L, 1);
	struct lsink *k = lb_newobj(L, sizeof(*k), 0, SINK_CLASS);

	if (max < 0)
		return lb_usage(L, 1, "size expected");
	k->head = host_of(L)->text_head;
	hga_buf_init(&k->out, (size_t)max + k->head);
	hga_buf_init(&k->errs, (size_t)max + k->head);
	return 1;
}

/* sink:take("stdout"): the bytes; the stream is empty afterwards. */
static int sink_take(lua_State *L)
{
	struct lsink *k = lb_check(L, 1, SINK_CLASS);
	static const char *const names[] = {"stdout", "stderr", NULL};

	lb_pushbuf_after(
	    L, luaL_checkoption(L, 2, NULL, names) == 0 ? &k->out : &k->errs,
	    k->head);
	return 1;
}

static const luaL_Reg sink_methods[] = {
    {"take", sink_take}, {"close", sink_close}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"call", session_call},       {"payload", session_payload},
    {"account", session_account}, {"stats", session_stats},
    {"close", session_close},     {NULL, NULL}};
static const luaL_Reg meta[] = {{"__gc", session_gc}, {NULL, NULL}};
static const luaL_Reg functions[] = {
    {"open", l_open}, {"sink", l_sink}, {NULL, NULL}};

int luaopen_hgauto_winrm_core(lua_State *L)
{
	lb_newclass(L, SESSION_CLASS, methods, meta);
	lb_newclass(L, SINK_CLASS, sink_methods, NULL);
	lwinrm_codec_classes(L);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, lwinrm_codec, 0);
	lua_pushliteral(L, HGA_CLIXML_MARK);
	lua_setfield(L, -2, "mark");
	return 1;
}
