/*
 * Module hgauto.ssh, C half: sessions, commands and files of core/ssh.  The
 * Lua half (lib/hgauto/ssh*.lua) holds options, trees' results, wait_ready and
 * the kill ladder; nothing here is called by scripts directly.
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "base/crypto.h"
#include "base/quote.h"
#include "ssh/console.h"
#include "ssh/exec.h"
#include "ssh/forward.h"
#include "ssh/known_hosts.h"
#include "ssh/session.h"
#include "ssh/sftp.h"
#include "ssh/sftp_file.h"
#include "ssh/tree.h"

#include <string.h>
#include <sys/stat.h>

/* What vendor.sh built: the Makefile tells. */
#ifndef HGA_SSH2_EDITS
#define HGA_SSH2_EDITS ""
#endif

#define SSH_CLASS "hgauto.ssh.session"
#define PROC_CLASS "hgauto.ssh.process"
#define FILE_CLASS "hgauto.ssh.file"
#define FORWARD_CLASS "hgauto.ssh.forward"

struct lssh {
	struct hga_ssh *ssh; /* NULL: closed */
};

struct lproc {
	struct hga_ssh_exec *x; /* NULL: closed */
	struct hga_ssh_wait *wait;
};

static void set_text(lua_State *L, const char *key, const char *text)
{
	if (text == NULL || *text == '\0')
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, key);
}

/* As lb_raise, with the phase that failed. */
static int raise_in(lua_State *L, const struct hga_err *err, const char *phase)
{
	lb_pusherr(L, err);
	set_text(L, "phase", phase);
	return lua_error(L);
}

static struct hga_ssh *check_ssh(lua_State *L)
{
	struct lssh *s = lb_check(L, 1, SSH_CLASS);

	if (s->ssh == NULL)
		(void)lb_fail(L, HGA_NET, "ConnectionLost",
		              "ssh: the session is closed");
	return s->ssh;
}

/* ---- connect ---- */

struct copts {
	const char *name, *host, *user, *agent, *ciphers, *bind_address;
	const char *kex_algs, *macs, *hostkeys, *own_known_hosts, *alias,
	    *proxy_command;
	int64_t port, family, count;
	int64_t connect, banner, kex, login, total, interval;
	bool identities_only, accept_new;
	int host_key, keys, known_hosts, certs, ask, via, passphrase, password;
};

#define O(field, type)                                                         \
	{                                                                      \
#field, type, offsetof(struct copts, field)                    \
	}
static const struct lb_opt connect_opts[] = {
    O(name, LB_CSTR),       O(host, LB_CSTR),
    O(user, LB_CSTR),       O(agent, LB_CSTR),
    O(ciphers, LB_CSTR),    O(bind_address, LB_CSTR),
    O(port, LB_INT),        O(family, LB_INT),
    O(count, LB_INT),       O(connect, LB_MS),
    O(banner, LB_MS),       O(kex, LB_MS),
    O(login, LB_MS),        O(total, LB_MS),
    O(interval, LB_MS),     O(identities_only, LB_BOOL),
    O(host_key, LB_TABLE),  O(keys, LB_TABLE),
    O(kex_algs, LB_CSTR),   O(macs, LB_CSTR),
    O(hostkeys, LB_CSTR),   O(own_known_hosts, LB_CSTR),
    O(alias, LB_CSTR),      O(proxy_command, LB_CSTR),
    O(accept_new, LB_BOOL), O(known_hosts, LB_TABLE),
    O(certs, LB_TABLE),     O(ask, LB_FUNC),
    O(via, LB_ANY),         O(passphrase, LB_ANY),
    O(password, LB_ANY),    {NULL, LB_BOOL, 0},
};
#undef O

/* Text or secret in a field of the options; it stays there. [-0, +0, raises] */
static struct hga_str get_secret(lua_State *L, const char *key, int given)
{
	struct hga_str s = HGA_STR("");

	if (!given)
		return s;
	lua_getfield(L, 1, key);
	if (!lb_tosecret(L, -1, &s))
		(void)lb_fail(L, HGA_USAGE, "OptionType",
		              "ssh: %s must be a text or a secret", key);
	lua_pop(L, 1); /* kept by the options */
	return s;
}

/* Texts of the list in field host_key, in a userdata. [-0, +1, raises] */
static const struct hga_str *push_pins(lua_State *L, size_t *n)
{
	struct hga_str *v;

	lua_getfield(L, 1, "host_key");
	*n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
	v = lua_newuserdatauv(L, (*n + 1) * sizeof(*v), 0);
	for (size_t i = 0; i < *n; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		v[i].s = lua_type(L, -1) == LUA_TSTRING
		             ? lua_tolstring(L, -1, &v[i].n)
		             : NULL;
		if (v[i].s == NULL)
			(void)lb_fail(L, HGA_USAGE, "OptionType",
			              "ssh: host_key must hold strings");
		lua_pop(L, 1); /* kept by the list */
	}
	lua_remove(L, -2); /* the list is kept by the options */
	return v;
}

/* Key handles and paths of field keys likewise. [-0, +1, raises] */
static const struct hga_ssh_cred *push_creds(lua_State *L, size_t *n)
{
	struct hga_ssh_cred *v;

	lua_getfield(L, 1, "keys");
	*n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
	v = lua_newuserdatauv(L, (*n + 1) * sizeof(*v), 0);
	memset(v, 0, (*n + 1) * sizeof(*v));
	for (size_t i = 0; i < *n; i++) {
		struct hga_key **k;

		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		k = lb_test(L, -1, LB_KEY_CLASS);
		if (k != NULL && *k != NULL)
			v[i].key = *k;
		else if (k == NULL && lua_type(L, -1) == LUA_TSTRING)
			v[i].path = lua_tostring(L, -1);
		else if (k == NULL && lua_istable(L, -1) &&
		         lua_getfield(L, -1, "optional") == LUA_TSTRING) {
			v[i].path = lua_tostring(L, -1);
			v[i].optional = true;
			lua_pop(L, 1); /* kept by the item */
		} else
			(void)lb_fail(L, HGA_USAGE, "OptionType",
			              "ssh: keys must hold key handles (not "
			              "closed) or paths");
		lua_pop(L, 1); /* kept by the list */
	}
	lua_remove(L, -2); /* the list is kept by the options */
	return v;
}

static void connect_release(struct hga_op *op)
{
	struct hga_ssh_connect *c = (struct hga_ssh_connect *)op;

	/* Not handed out: a memory error came between. */
	hga_ssh_close(c->ssh);
	c->ssh = NULL;
}

static void set_more(lua_State *L, const struct hga_ssh_more *m)
{
	set_text(L, "phase", m->phase);
	set_text(L, "fingerprint", m->fingerprint);
	set_text(L, "expected", m->expected);
	set_text(L, "methods", m->methods);
	set_text(L, "tried", m->tried);
	set_text(L, "server_message", m->server);
	set_text(L, "file", m->file);
	set_text(L, "hint", m->hint);
	set_text(L, "stderr", m->proxy);
	if (m->line > 0) {
		lua_pushinteger(L, m->line);
		lua_setfield(L, -2, "line");
	}
}

static int connect_k(lua_State *L, int status, lua_KContext ctx);

/* Stack: options, ..., operation, answers (list, text, secret or nil). */
static int answered_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_ssh_connect *c = (struct hga_ssh_connect *)ctx;
	struct hga_str texts[HGA_SSH_PROMPTS];
	struct hga_err err;
	size_t n = 0;

	(void)status; /* also called directly */
	if (lua_istable(L, -1)) {
		for (; n < HGA_SSH_PROMPTS; n++) {
			lua_rawgeti(L, -1, (lua_Integer)n + 1);
			if (!lb_tosecret(L, -1, &texts[n])) {
				lua_pop(L, 1); /* the end of the list */
				break;
			}
			lua_pop(L, 1); /* kept by the list */
		}
	} else if (lb_tosecret(L, -1, &texts[0])) {
		n = 1;
	}
	/* The login may have ended meanwhile. */
	if (c->base.state == HGA_OP_RUNNING && c->question != NULL &&
	    hga_ssh_connect_answer(c, texts, n, &err) < 0)
		return lb_raise(L, &err);
	lua_pop(L, 1); /* the answers */
	return sched_await(L, &c->base, "ssh connect", connect_k);
}

static void push_question(lua_State *L, const struct hga_ssh_question *q)
{
	lua_createtable(L, 0, 6);
	set_text(L, "what",
	         q->what == HGA_ASK_PASSPHRASE ? "passphrase" : "prompts");
	set_text(L, "path", q->path);
	set_text(L, "name", q->name);
	set_text(L, "instruction", q->instruction);
	lua_pushinteger(L, q->attempt);
	lua_setfield(L, -2, "attempt");
	lua_createtable(L, (int)q->n, 0);
	for (unsigned i = 0; i < q->n; i++) {
		lua_createtable(L, 0, 2);
		lua_pushstring(L, q->prompts[i].text ? q->prompts[i].text : "");
		lua_setfield(L, -2, "text");
		lua_pushboolean(L, q->prompts[i].echo);
		lua_setfield(L, -2, "echo");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "prompts");
}

static int connect_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_ssh_connect *c = (struct hga_ssh_connect *)ctx;
	struct lssh *s;
	int rc = sched_resumed_raw(L, &c->base);

	(void)status; /* LUA_YIELD */
	if (rc == 0 && c->question != NULL) {
		lua_getfield(L, 1, "ask");
		push_question(L, c->question);
		lua_callk(L, 1, 1, ctx, answered_k);
		return answered_k(L, LUA_OK, ctx);
	}
	if (rc == 0)
		return sched_await(L, &c->base, "ssh connect", connect_k);
	if (rc < 0) {
		lb_pusherr(L, &c->base.err);
		set_more(L, &c->more);
		lua_pushboolean(L, c->banner_seen);
		lua_setfield(L, -2, "banner_seen");
		lua_pushboolean(L, c->before_login);
		lua_setfield(L, -2, "before_login");
		return lua_error(L);
	}
	s = lb_newobj(L, sizeof(*s), 0, SSH_CLASS);
	s->ssh = c->ssh;
	c->ssh = NULL;
	return 1;
}

static struct hga_ssh *via_session(lua_State *L)
{
	struct lssh *s = lb_check(L, -1, SSH_CLASS);

	if (s->ssh == NULL)
		(void)lb_fail(L, HGA_NET, "ConnectionLost",
		              "ssh: the session to go through is closed");
	return s->ssh;
}

/* Strings of a list as NUL-terminated texts, in a userdata; they are kept by
 * the list. [-0, +1, raises] */
static const char **push_paths(lua_State *L, const char *key, size_t *n)
{
	const char **v;

	lua_getfield(L, 1, key);
	*n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
	v = lua_newuserdatauv(L, (*n + 1) * sizeof(*v), 0);
	for (size_t i = 0; i < *n; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		v[i] =
		    lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
		if (v[i] == NULL)
			(void)lb_fail(L, HGA_USAGE, "OptionType",
			              "ssh: %s must hold paths", key);
		lua_pop(L, 1); /* kept by the list */
	}
	lua_remove(L, -2); /* the list is kept by the options */
	return v;
}

static int l_connect(lua_State *L)
{
	struct copts o = {.port = 22};
	struct hga_ssh_connect *c;
	struct hga_ssh_args a = {.port = 22};
	struct hga_err err;

	lb_opts(L, 1, "ssh.core.connect", connect_opts, &o);
	sched_check_wait(L, "ssh connect");
	a.known_hosts = push_paths(L, "known_hosts", &a.n_known_hosts);
	a.certs = push_paths(L, "certs", &a.n_certs);
	a.passphrase = get_secret(L, "passphrase", o.passphrase);
	a.password = get_secret(L, "password", o.password);
	if (o.via) {
		lua_getfield(L, 1, "via");
		a.via = via_session(L);
		lua_pop(L, 1); /* kept by the options */
	}
	a.kex = o.kex_algs;
	a.macs = o.macs;
	a.hostkeys = o.hostkeys;
	a.own_known_hosts = o.own_known_hosts;
	a.accept_new = o.accept_new;
	a.host_key_alias = o.alias;
	a.proxy_command = o.proxy_command;
	a.can_ask = o.ask;
	a.pins = push_pins(L, &a.n_pins);
	a.creds = push_creds(L, &a.n_creds);
	a.name = o.name;
	a.host = o.host;
	a.user = o.user;
	a.agent = o.agent;
	a.ciphers = o.ciphers;
	a.bind_address = o.bind_address;
	a.identities_only = o.identities_only;
	a.port = o.port < 0 || o.port > 65535 ? -1 : (int)o.port;
	a.family = o.family == 4 || o.family == 6 ? (int)o.family : 0;
	a.count = o.count > 0 && o.count < 1000 ? (int)o.count : 0;
	a.connect_ms = o.connect;
	a.banner_ms = o.banner;
	a.kex_ms = o.kex;
	a.login_ms = o.login;
	a.total_ms = o.total;
	a.interval_ms = o.interval;
	c = lb_newop(L, sizeof(*c), connect_release);
	if (hga_ssh_connect_start(host_loop(L), c, &a, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &c->base, "ssh connect", connect_k);
}

static int ssh_close(lua_State *L)
{
	struct lssh *s = lb_check(L, 1, SSH_CLASS);
	struct hga_ssh *ssh = s->ssh;

	s->ssh = NULL;
	hga_ssh_close(ssh);
	return 0;
}

static int ssh_info(lua_State *L)
{
	struct hga_ssh_info i;

	hga_ssh_get_info(check_ssh(L), &i);
	lua_createtable(L, 0, 20);
	set_text(L, "name", i.name);
	set_text(L, "host", i.host);
	set_text(L, "address", i.address);
	set_text(L, "user", i.user);
	set_text(L, "server", i.server);
	set_text(L, "kex", i.kex);
	set_text(L, "hostkey", i.hostkey);
	set_text(L, "cipher", i.cipher);
	set_text(L, "mac", i.mac);
	set_text(L, "fingerprint", i.fingerprint);
	set_text(L, "banner", i.banner);
	set_text(L, "trust", i.trust);
	set_text(L, "file", i.trust_file);
	if (i.trust_line > 0) {
		lua_pushinteger(L, i.trust_line);
		lua_setfield(L, -2, "line");
	}
	lua_pushinteger(L, i.port);
	lua_setfield(L, -2, "port");
	lua_pushinteger(L, (lua_Integer)i.rx);
	lua_setfield(L, -2, "rx");
	lua_pushinteger(L, (lua_Integer)i.tx);
	lua_setfield(L, -2, "tx");
	lua_pushnumber(L, i.rtt);
	lua_setfield(L, -2, "rtt");
	lua_pushinteger(L, i.channels);
	lua_setfield(L, -2, "channels");
	lua_pushboolean(L, i.alive);
	lua_setfield(L, -2, "open");
	lb_pushstr(L, i.key);
	lua_setfield(L, -2, "key");
	return 1;
}

static int ping_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_ssh_ping *p = (struct hga_ssh_ping *)ctx;

	(void)status; /* LUA_YIELD */
	sched_resumed(L, &p->base);
	lua_pushnumber(L, p->seconds);
	return 1;
}

static int ssh_ping(lua_State *L)
{
	struct hga_ssh *ssh = check_ssh(L);
	struct hga_ssh_ping *p;
	struct hga_err err;

	sched_check_wait(L, "ssh ping");
	p = lb_newop(L, sizeof(*p), NULL);
	if (hga_ssh_ping_start(ssh, p, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &p->base, "ssh ping", ping_k);
}

/* ---- commands ---- */

struct xopts {
	struct hga_str input;
	int64_t max_output, cols, rows, to_port;
	const char *term, *to_host;
	bool in_open, queue_out, queue_err, wait_exit, shell, urgent;
};

#define O(field, type)                                                         \
	{                                                                      \
#field, type, offsetof(struct xopts, field)                    \
	}
static const struct lb_opt exec_opts[] = {
    O(input, LB_STR),      O(max_output, LB_INT), O(in_open, LB_BOOL),
    O(queue_out, LB_BOOL), O(queue_err, LB_BOOL), O(wait_exit, LB_BOOL),
    O(cols, LB_INT),       O(rows, LB_INT),       O(term, LB_CSTR),
    O(shell, LB_BOOL),     O(to_host, LB_CSTR),   O(to_port, LB_INT),
    O(urgent, LB_BOOL),    {NULL, LB_BOOL, 0},
};
#undef O

static int ssh_exec(lua_State *L)
{
	struct hga_ssh *ssh = check_ssh(L);
	struct xopts o = {.max_output = 1024 * 1024, .input = HGA_STR("")};
	struct hga_ssh_exec_args a;
	struct lproc *p;
	struct hga_err err;

	memset(&a, 0, sizeof(a));
	a.cmd = lb_checkstr(L, 2);
	lb_opts(L, 3, "ssh.core.exec", exec_opts, &o);
	if (o.max_output < 0 || o.max_output > 1024 * 1024 * 1024)
		return lb_fail(L, HGA_USAGE, "OptionRange",
		               "ssh exec: max_output must be 0 to 1 GiB");
	if (o.cols < 0 || o.cols > 10000 || o.rows < 0 || o.rows > 10000 ||
	    o.to_port < 0 || o.to_port > 65535)
		return lb_fail(L, HGA_USAGE, "OptionRange",
		               "ssh exec: no size of a terminal, or no port");
	sched_check_effect(L, "ssh exec");
	a.term = o.term;
	a.cols = (int)o.cols;
	a.rows = (int)o.rows;
	a.shell = o.shell;
	a.to_host = o.to_host;
	a.to_port = (int)o.to_port;
	a.input = o.input;
	a.in_open = o.in_open;
	a.max_output = (size_t)o.max_output;
	a.queue[0] = o.queue_out;
	a.queue[1] = o.queue_err;
	a.wait_exit = o.wait_exit;
	a.urgent = o.urgent;
	p = lb_newobj(L, sizeof(*p), 1, PROC_CLASS);
	if (lua_istable(L, 3)) {
		lua_getfield(L, 3, "input");
		lua_setiuservalue(L, -2, 1); /* borrowed until the end */
	}
	if (hga_ssh_exec_start(ssh, &a, &p->x, &err) < 0)
		return raise_in(L, &err, "exec");
	return 1;
}

static struct lproc *check_proc(lua_State *L)
{
	struct lproc *p = lb_check(L, 1, PROC_CLASS);

	if (p->x == NULL)
		(void)lb_fail(L, HGA_USAGE, "Closed",
		              "ssh: the command's handle is closed");
	return p;
}

static int proc_close(lua_State *L)
{
	struct lproc *p = lb_check(L, 1, PROC_CLASS);

	if (p->wait != NULL && p->wait->base.state == HGA_OP_RUNNING)
		return lb_fail(L, HGA_USAGE, "Busy",
		               "ssh: another task waits for this command");
	hga_ssh_exec_free(p->x);
	p->x = NULL;
	return 0;
}

static int proc_gc(lua_State *L)
{
	struct lproc *p = lb_test(L, 1, PROC_CLASS);

	if (p != NULL) {
		hga_ssh_exec_free(p->x);
		p->x = NULL;
	}
	return 0;
}

static int wait_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_ssh_wait *w = (struct hga_ssh_wait *)ctx;
	struct lproc *p = lua_touserdata(L, 1);
	struct hga_ssh_exec_info i;

	(void)status; /* LUA_YIELD */
	p->wait = NULL;
	if (sched_resumed_raw(L, &w->base) < 0)
		return raise_in(L, &w->base.err, "exec");
	hga_ssh_exec_info(p->x, &i);
	lua_pushboolean(L, i.ended);
	lua_pushboolean(L, i.ended && i.error == NULL);
	return 2;
}

/* p:wait(timeout_sec|0, idle_sec|0, want_space) -> whether it has ended,
 * whether without an error of the connection */
static int proc_wait(lua_State *L)
{
	struct lproc *p = check_proc(L);
	double timeout = luaL_optnumber(L, 2, 0),
	       idle = luaL_optnumber(L, 3, 0);
	bool space = lua_toboolean(L, 4);
	struct hga_ssh_wait *w;
	struct hga_err err;

	if (!(timeout >= 0 && timeout < 1e9 && idle >= 0 && idle < 1e9))
		return lb_usage(L, 2, "seconds expected");
	sched_check_wait(L, "ssh command");
	lua_settop(L, 1);
	w = lb_newop(L, sizeof(*w), NULL);
	if (hga_ssh_wait_start(p->x, w, (int64_t)(timeout * 1000),
	                       (int64_t)(idle * 1000), space, &err) < 0)
		return raise_in(L, &err, "exec");
	p->wait = w;
	return sched_await(L, &w->base, "ssh command", wait_k);
}

/* p:take(stream 0|1) -> what is queued, or nil */
static int proc_take(lua_State *L)
{
	struct lproc *p = check_proc(L);
	struct hga_buf *q =
	    hga_ssh_exec_queue(p->x, luaL_checkinteger(L, 2) != 0);

	if (q->len == 0)
		return 0;
	lua_pushlstring(L, q->data, q->len);
	hga_buf_clear(q);
	hga_ssh_exec_resume(p->x);
	return 1;
}

/* p:write(text, from) -> bytes taken from position from (1-based) on */
static int proc_write(lua_State *L)
{
	struct lproc *p = check_proc(L);
	struct hga_str s = lb_checkstr(L, 2);
	lua_Integer from = luaL_optinteger(L, 3, 1);
	size_t n = 0;

	if (from < 1)
		return lb_usage(L, 3, "position expected");
	if ((size_t)from <= s.n)
		n = hga_ssh_exec_write(p->x, s.s + from - 1,
		                       s.n - (size_t)from + 1);
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

static int proc_eof(lua_State *L)
{
	hga_ssh_exec_eof(check_proc(L)->x);
	return 0;
}

static int proc_signal(lua_State *L)
{
	struct lproc *p = check_proc(L);

	hga_ssh_exec_signal(p->x, luaL_checkstring(L, 2));
	return 0;
}

/* p:resize(cols, rows) */
static int proc_resize(lua_State *L)
{
	struct lproc *p = check_proc(L);
	lua_Integer cols = luaL_checkinteger(L, 2),
	            rows = luaL_checkinteger(L, 3);

	if (cols < 1 || cols > 10000 || rows < 1 || rows > 10000)
		return lb_usage(L, 2, "columns and rows expected");
	hga_ssh_exec_resize(p->x, (int)cols, (int)rows);
	return 0;
}

static void console_release(struct hga_op *op)
{
	hga_console_release((struct hga_console *)op);
}

static int console_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_console *c = (struct hga_console *)ctx;

	(void)status; /* LUA_YIELD */
	sched_resumed(L, &c->base);
	lua_pushboolean(L, c->left);
	lb_endop(L, &c->base);
	return 1;
}

/* p:console(raw, input, filter): joins it with our standard streams until it
 * ends -> whether the user left with ~. */
static int proc_console(lua_State *L)
{
	struct lproc *p = check_proc(L);
	struct hga_console_args a = {.in_fd = 0, .out_fd = {1, 2}};
	struct hga_console *c;
	struct hga_err err;

	a.raw = lua_toboolean(L, 2);
	a.input = lua_toboolean(L, 3);
	a.filter = lua_toboolean(L, 4);
	sched_check_wait(L, "ssh console");
	lua_settop(L, 1);
	c = lb_newop(L, sizeof(*c), console_release);
	if (hga_console_start(host_loop(L), c, p->x, &a, &err) < 0)
		return lb_raise(L, &err);
	return sched_await(L, &c->base, "ssh console", console_k);
}

static void push_problem(lua_State *L, const struct hga_err *err)
{
	if (err == NULL) {
		lua_pushnil(L);
		return;
	}
	lb_pusherr(L, err);
	set_text(L, "phase", "exec");
}

/* p:info() -> started, ended, error|nil */
static int proc_info(lua_State *L)
{
	struct hga_ssh_exec_info i;

	hga_ssh_exec_info(check_proc(L)->x, &i);
	lua_pushboolean(L, i.started);
	lua_pushboolean(L, i.ended);
	push_problem(L, i.error);
	return 3;
}

/* Pushes the end of a stream; whether more was received. */
static bool push_tail(lua_State *L, const struct lproc *p, int stream)
{
	struct hga_str part[2];
	bool cut = hga_ssh_exec_tail(p->x, stream, part);

	lua_pushlstring(L, part[0].s, part[0].n);
	if (part[1].n > 0) {
		lua_pushlstring(L, part[1].s, part[1].n);
		lua_concat(L, 2);
	}
	return cut;
}

/* p:result() -> out, err, whether more of them was received, code|nil,
 * signal|nil, seconds, error|nil */
static int proc_result(lua_State *L)
{
	const struct lproc *p = check_proc(L);
	struct hga_ssh_exec_info i;
	bool cut = push_tail(L, p, 0);

	cut |= push_tail(L, p, 1);
	hga_ssh_exec_info(p->x, &i);
	lua_pushboolean(L, cut);
	if (i.exited)
		lua_pushinteger(L, i.code);
	else
		lua_pushnil(L);
	lua_pushstring(L, i.signal[0] != '\0' ? i.signal : NULL);
	lua_pushnumber(L, i.seconds);
	push_problem(L, i.error);
	return 7;
}

/* ---- forwards ---- */

struct lforward {
	struct hga_forward *f; /* NULL: closed */
};

static void forward_release(struct hga_op *op)
{
	struct hga_forward_op *f = (struct hga_forward_op *)op;

	/* Not handed out: a memory error came between. */
	hga_forward_close(f->f);
	f->f = NULL;
}

static int forward_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_forward_op *op = (struct hga_forward_op *)ctx;
	struct lforward *f;

	(void)status; /* LUA_YIELD */
	if (sched_resumed_raw(L, &op->base) < 0)
		return raise_in(L, &op->base.err, "forward");
	f = lb_newobj(L, sizeof(*f), 0, FORWARD_CLASS);
	f->f = op->f;
	op->f = NULL;
	return 1;
}

/* s:forward(kind, listen_host|nil, listen_port, to_host|nil, to_port|nil) */
static int ssh_forward(lua_State *L)
{
	static const char *const kinds[] = {"local", "remote", "socks", NULL};
	struct hga_ssh *ssh = check_ssh(L);
	struct hga_forward_args a = {
	    .kind = (enum hga_forward_kind)luaL_checkoption(L, 2, NULL, kinds)};
	lua_Integer listen = luaL_checkinteger(L, 4),
	            to = luaL_optinteger(L, 6, 0);
	struct hga_forward_op *op;
	struct hga_err err;

	a.listen_host = luaL_optstring(L, 3, NULL);
	a.to_host = luaL_optstring(L, 5, NULL);
	a.listen_port = listen < -1 || listen > 65535 ? -2 : (int)listen;
	a.to_port = to < 0 || to > 65535 ? -1 : (int)to;
	sched_check_wait(L, "ssh forward");
	op = lb_newop(L, sizeof(*op), forward_release);
	if (hga_forward_start(ssh, op, &a, &err) < 0)
		return raise_in(L, &err, "forward");
	return sched_await(L, &op->base, "ssh forward", forward_k);
}

static int forward_close(lua_State *L)
{
	struct lforward *f = lb_check(L, 1, FORWARD_CLASS);

	hga_forward_close(f->f);
	f->f = NULL;
	return 0;
}

/* f:info() -> port, connections open, in all; nothing when closed */
static int forward_info(lua_State *L)
{
	struct lforward *f = lb_check(L, 1, FORWARD_CLASS);
	uint64_t total;

	if (f->f == NULL)
		return 0;
	lua_pushinteger(L, hga_forward_port(f->f));
	lua_pushinteger(L, hga_forward_open(f->f, &total));
	lua_pushinteger(L, (lua_Integer)total);
	return 3;
}

/* ---- known_hosts ---- */

static struct hga_kh_host check_host(lua_State *L, int idx)
{
	struct hga_kh_host h = {.host = luaL_checkstring(L, idx)};
	lua_Integer port = luaL_optinteger(L, idx + 1, 22);

	h.port = port > 0 && port < 65536 ? (int)port : 22;
	return h;
}

static void push_line(lua_State *L, const struct hga_kh_line *l)
{
	static const char *const markers[] = {"", "@revoked",
	                                      "@cert-authority"};
	char fp[64];
	struct hga_err err;

	lua_createtable(L, 0, 6);
	set_text(L, "marker", markers[l->marker]);
	lb_pushstr(L, l->names);
	lua_setfield(L, -2, "names");
	lb_pushstr(L, l->type);
	lua_setfield(L, -2, "type");
	lua_pushinteger(L, l->line);
	lua_setfield(L, -2, "line");
	if (hga_blob_fingerprint(l->blob, fp, &err) == 0)
		set_text(L, "fingerprint", fp);
}

/* Frees the file when the list of its lines could not be made. */
static int kh_gc(lua_State *L)
{
	struct hga_khosts **k = lua_touserdata(L, 1);

	hga_khosts_free(*k);
	*k = NULL;
	return 0;
}

/* known_hosts(path, host|nil, port) -> lines for that host (all), unreadable */
static int l_known_hosts(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	bool all = lua_isnoneornil(L, 2);
	struct hga_kh_host h = {.port = 22};
	struct hga_khosts **k;
	struct hga_buf name;
	struct hga_err err;
	lua_Integer n = 0;
	unsigned bad;

	if (!all)
		h = check_host(L, 2);
	lb_newclass(L, "hgauto.ssh.khosts", NULL,
	            (const luaL_Reg[]){{"__gc", kh_gc}, {NULL, NULL}});
	k = lb_newobj(L, sizeof(struct hga_khosts *), 0, "hgauto.ssh.khosts");
	if (hga_khosts_open(path, k, &err) < 0)
		return lb_raise(L, &err);
	hga_buf_init(&name, 4096);
	if (!all && hga_kh_name(&name, h.host, h.port, &err) < 0) {
		hga_buf_release(&name);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &name);
	lua_newtable(L);
	for (size_t i = 0; i < hga_khosts_count(*k); i++) {
		const struct hga_kh_line *l = hga_khosts_line(*k, i);

		if (!all && !hga_kh_match(l->names, lb_checkstr(L, -2)))
			continue;
		push_line(L, l);
		lua_rawseti(L, -2, ++n);
	}
	bad = hga_khosts_bad(*k);
	hga_khosts_free(*k);
	*k = NULL;
	lua_pushinteger(L, bad);
	return 2;
}

/* known_hosts_add(path, host, port, "TYPE BASE64") */
static int l_known_hosts_add(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct hga_kh_host h = check_host(L, 2);
	struct hga_buf blob;
	struct hga_err err;
	int rc;

	hga_buf_init(&blob, 64 * 1024);
	rc = hga_pubkey_blob(lb_checkstr(L, 4), &blob, &err);
	if (rc == 0)
		rc = hga_khosts_add(path, &h, hga_buf_str(&blob), &err);
	hga_buf_release(&blob);
	return rc < 0 ? lb_raise(L, &err) : 0;
}

/* known_hosts_remove(path, host, port) -> lines */
static int l_known_hosts_remove(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	struct hga_kh_host h = check_host(L, 2);
	struct hga_err err;
	unsigned n;

	if (hga_khosts_remove(path, &h, &n, &err) < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, n);
	return 1;
}

/* ---- single file operations ---- */

static void set_sftp_more(lua_State *L, const struct hga_sftp_more *m)
{
	set_text(L, "phase", "sftp");
	set_text(L, "path", m->path);
	set_text(L, "server_message", m->server);
	if (m->status >= 0) {
		lua_pushinteger(L, m->status);
		lua_setfield(L, -2, "sftp_status");
	}
	if (m->offset >= 0) {
		lua_pushinteger(L, m->offset);
		lua_setfield(L, -2, "offset");
	}
}

static int raise_sftp(lua_State *L, const struct hga_err *err,
                      const struct hga_sftp_more *m)
{
	lb_pusherr(L, err);
	set_sftp_more(L, m);
	return lua_error(L);
}

static const char *type_name(uint32_t mode)
{
	if (S_ISREG(mode))
		return "file";
	if (S_ISDIR(mode))
		return "dir";
	if (S_ISLNK(mode))
		return "link";
	if (S_ISCHR(mode))
		return "char";
	if (S_ISBLK(mode))
		return "block";
	if (S_ISFIFO(mode))
		return "fifo";
	return S_ISSOCK(mode) ? "socket" : "unknown";
}

static void push_attrs(lua_State *L, const struct hga_sftp_attrs *a)
{
	lua_createtable(L, 0, 8);
	if (a->flags & HGA_ATTR_SIZE) {
		lua_pushinteger(L, (lua_Integer)a->size);
		lua_setfield(L, -2, "size");
	}
	if (a->flags & HGA_ATTR_IDS) {
		lua_pushinteger(L, a->uid);
		lua_setfield(L, -2, "uid");
		lua_pushinteger(L, a->gid);
		lua_setfield(L, -2, "gid");
	}
	if (a->flags & HGA_ATTR_MODE) {
		set_text(L, "type", type_name(a->mode));
		lua_pushinteger(L, a->mode & 07777);
		lua_setfield(L, -2, "mode");
	}
	if (a->flags & HGA_ATTR_TIMES) {
		lua_pushinteger(L, a->atime);
		lua_setfield(L, -2, "atime");
		lua_pushinteger(L, a->mtime);
		lua_setfield(L, -2, "mtime");
	}
}

static void call_release(struct hga_op *op)
{
	hga_sftp_call_release((struct hga_sftp_call *)op);
}

static void push_entries(lua_State *L, const struct hga_sftp_call *c)
{
	lua_createtable(L, (int)(c->n_entries < 100000 ? c->n_entries : 0), 0);
	for (size_t i = 0; i < c->n_entries; i++) {
		push_attrs(L, &c->entries[i].attrs);
		lb_pushstr(L, c->entries[i].name);
		lua_setfield(L, -2, "name");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void set_int(lua_State *L, const char *key, uint64_t v)
{
	/* Sizes beyond 2^63 are nonsense of the server's. */
	lua_pushinteger(L, v > INT64_MAX ? INT64_MAX : (lua_Integer)v);
	lua_setfield(L, -2, key);
}

static uint64_t in_bytes(uint64_t blocks, uint64_t size)
{
	return size != 0 && blocks > INT64_MAX / size ? INT64_MAX
	                                              : blocks * size;
}

static void push_space(lua_State *L, const struct hga_sftp_space *s)
{
	lua_createtable(L, 0, 8);
	set_int(L, "block", s->block);
	set_int(L, "size", in_bytes(s->blocks, s->block));
	set_int(L, "free", in_bytes(s->free, s->block));
	set_int(L, "available", in_bytes(s->avail, s->block));
	set_int(L, "files", s->files);
	set_int(L, "files_free", s->files_free);
	lua_pushboolean(L, s->read_only);
	lua_setfield(L, -2, "read_only");
}

static int call_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_sftp_call *c = (struct hga_sftp_call *)ctx;
	int what = (int)lua_tointeger(L, 2);

	(void)status; /* LUA_YIELD */
	if (sched_resumed_raw(L, &c->base) < 0)
		return raise_sftp(L, &c->base.err, &c->more);
	if (what == HGA_SFTP_STAT || what == HGA_SFTP_LSTAT)
		push_attrs(L, &c->attrs);
	else if (what == HGA_SFTP_LIST)
		push_entries(L, c);
	else if (what == HGA_SFTP_STATVFS)
		push_space(L, &c->space);
	else if (what == HGA_SFTP_READLINK || what == HGA_SFTP_REALPATH ||
	         what == HGA_SFTP_EXPAND)
		lb_pushstr(L, hga_buf_str(&c->text));
	else
		return 0;
	lb_endop(L, &c->base);
	return 1;
}

static const char *const call_names[] = {
    "stat",     "lstat",  "list",    "mkdir",    "rmdir",
    "remove",   "rename", "setattr", "readlink", "symlink",
    "realpath", "link",   "statvfs", "expand",   NULL};

/* s:call(name, path, path2|nil, mode|nil, uid|nil, gid|nil, atime|nil,
 * mtime|nil) */
static int ssh_call(lua_State *L)
{
	struct hga_ssh *ssh = check_ssh(L);
	struct hga_sftp_call_args a;
	struct hga_sftp_call *c;
	struct hga_err err;
	int what = luaL_checkoption(L, 2, NULL, call_names);

	memset(&a, 0, sizeof(a));
	a.what = (enum hga_sftp_what)what;
	a.path = lb_checkstr(L, 3);
	if (!lua_isnoneornil(L, 4))
		a.path2 = lb_checkstr(L, 4);
	if (!lua_isnoneornil(L, 5)) {
		a.attrs.flags |= HGA_ATTR_MODE;
		a.attrs.mode = (uint32_t)luaL_checkinteger(L, 5) & 07777;
	}
	if (!lua_isnoneornil(L, 6)) {
		a.attrs.flags |= HGA_ATTR_IDS;
		a.attrs.uid = (uint32_t)luaL_checkinteger(L, 6);
		a.attrs.gid = (uint32_t)luaL_checkinteger(L, 7);
	}
	if (!lua_isnoneornil(L, 8)) {
		a.attrs.flags |= HGA_ATTR_TIMES;
		a.attrs.atime = (uint32_t)luaL_checkinteger(L, 8);
		a.attrs.mtime = (uint32_t)luaL_checkinteger(L, 9);
	}
	sched_check_wait(L, "sftp");
	lua_pushinteger(L, what);
	lua_replace(L, 2);
	c = lb_newop(L, sizeof(*c), call_release);
	if (hga_sftp_call_start(ssh, c, &a, &err) < 0)
		return raise_in(L, &err, "sftp");
	return sched_await(L, &c->base, "sftp", call_k);
}

/* ---- transfers ---- */

/* List of the texts in a buffer, each ended by NUL. [-0, +1, m] */
static void push_texts(lua_State *L, const struct hga_buf *b)
{
	lua_Integer n = 0;

	lua_newtable(L);
	for (size_t at = 0; at < b->len; at += strlen(b->data + at) + 1) {
		lua_pushstring(L, b->data + at);
		lua_rawseti(L, -2, ++n);
	}
}

/* As raise_sftp, with the parts that may be left on the server. */
static int raise_left(lua_State *L, const struct hga_err *err,
                      const struct hga_sftp_more *m, const struct hga_buf *left)
{
	lb_pusherr(L, err);
	set_sftp_more(L, m);
	if (left->len > 0) {
		push_texts(L, left);
		lua_setfield(L, -2, "left");
	}
	return lua_error(L);
}

struct topts {
	const char *local, *sha256;
	struct hga_str remote, data;
	int64_t mode, max, parallel;
	bool put, mtime, need_atomic, fsync, hash, hold, discard, resume, keep;
	int progress;
};

#define O(field, type)                                                         \
	{                                                                      \
#field, type, offsetof(struct topts, field)                    \
	}
static const struct lb_opt xfer_opts[] = {
    O(local, LB_CSTR),    O(sha256, LB_CSTR),  O(remote, LB_STR),
    O(data, LB_STR),      O(mode, LB_INT),     O(max, LB_INT),
    O(put, LB_BOOL),      O(mtime, LB_BOOL),   O(need_atomic, LB_BOOL),
    O(fsync, LB_BOOL),    O(hash, LB_BOOL),    O(hold, LB_BOOL),
    O(progress, LB_FUNC), O(discard, LB_BOOL), O(resume, LB_BOOL),
    O(parallel, LB_INT),  O(keep, LB_BOOL),    {NULL, LB_BOOL, 0},
};
#undef O

static void xfer_release(struct hga_op *op)
{
	hga_sftp_xfer_release((struct hga_sftp_xfer *)op);
}

static int xfer_result(lua_State *L, struct hga_sftp_xfer *x)
{
	if (x->base.err.kind != HGA_OK)
		return raise_left(L, &x->base.err, &x->more, &x->part);
	lua_createtable(L, 0, 6);
	lua_pushinteger(L, (lua_Integer)x->done);
	lua_setfield(L, -2, "bytes");
	lua_pushboolean(L, x->atomic);
	lua_setfield(L, -2, "atomic");
	if (x->resumed > 0)
		set_int(L, "resumed", x->resumed);
	set_text(L, "sha256", x->sha256);
	set_text(L, "part", hga_buf_text(&x->part));
	if (x->data.data != NULL) {
		lb_pushstr(L, hga_buf_str(&x->data));
		lua_setfield(L, -2, "data");
	}
	lb_endop(L, &x->base);
	return 1;
}

static int xfer_k(lua_State *L, int status, lua_KContext ctx);

static int xfer_told_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_sftp_xfer *x = (struct hga_sftp_xfer *)ctx;

	(void)status; /* also called directly */
	return sched_await(L, &x->base, "sftp transfer", xfer_k);
}

/* Stack: session, options, progress or nil, operation. */
static int xfer_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_sftp_xfer *x = (struct hga_sftp_xfer *)ctx;

	(void)status; /* LUA_YIELD */
	if (sched_resumed_raw(L, &x->base) != 0)
		return xfer_result(L, x);
	if (lua_isnil(L, 3))
		return xfer_told_k(L, LUA_OK, ctx);
	lua_pushvalue(L, 3);
	lua_pushinteger(L, (lua_Integer)x->done);
	lua_pushinteger(L, (lua_Integer)x->total);
	lua_callk(L, 2, 0, ctx, xfer_told_k);
	return xfer_told_k(L, LUA_OK, ctx);
}

static int ssh_xfer(lua_State *L)
{
	struct hga_ssh *ssh = check_ssh(L);
	struct topts o;
	struct hga_sftp_xfer_args a;
	struct hga_sftp_xfer *x;
	struct hga_err err;

	memset(&o, 0, sizeof(o));
	memset(&a, 0, sizeof(a));
	o.mode = -1;
	o.remote = o.data = HGA_STR("");
	lb_opts(L, 2, "ssh.core.xfer", xfer_opts, &o);
	sched_check_wait(L, "sftp transfer");
	lua_settop(L, 2);
	lua_getfield(L, 2, "progress");
	a.put = o.put;
	a.local = o.local;
	a.data = o.data;
	a.remote = o.remote;
	a.mode = o.mode;
	a.umask = host_of(L)->umask;
	a.mtime = o.mtime;
	a.need_atomic = o.need_atomic;
	a.fsync = o.fsync;
	a.hash = o.hash;
	a.sha256 = o.sha256;
	a.hold = o.hold;
	a.discard = o.discard;
	a.resume = o.resume;
	a.keep = o.keep;
	a.parallel =
	    o.parallel > 0 && o.parallel < 100 ? (unsigned)o.parallel : 0;
	a.max = o.max > 0 ? (uint64_t)o.max : 0;
	x = lb_newop(L, sizeof(*x), xfer_release);
	if (hga_sftp_xfer_start(ssh, x, &a, &err) < 0)
		return raise_in(L, &err, "sftp");
	return sched_await(L, &x->base, "sftp transfer", xfer_k);
}

/* ---- trees ---- */

struct tropts {
	const char *local, *links;
	struct hga_str remote;
	int64_t max_files, max_bytes;
	bool put, mtime, keep_going, newer;
	int exclude, progress;
};

#define O(field, type)                                                         \
	{                                                                      \
#field, type, offsetof(struct tropts, field)                   \
	}
static const struct lb_opt tree_opts[] = {
    O(local, LB_CSTR),    O(links, LB_CSTR),      O(remote, LB_STR),
    O(max_files, LB_INT), O(max_bytes, LB_INT),   O(put, LB_BOOL),
    O(mtime, LB_BOOL),    O(keep_going, LB_BOOL), O(exclude, LB_TABLE),
    O(progress, LB_FUNC), O(newer, LB_BOOL),      {NULL, LB_BOOL, 0},
};
#undef O

static void tree_release(struct hga_op *op)
{
	hga_tree_release((struct hga_tree *)op);
}

static int tree_result(lua_State *L, struct hga_tree *t)
{
	if (t->base.err.kind != HGA_OK)
		return raise_left(L, &t->base.err, &t->more, &t->left);
	lua_createtable(L, 0, 8);
	lua_pushinteger(L, (lua_Integer)t->files);
	lua_setfield(L, -2, "files");
	lua_pushinteger(L, (lua_Integer)t->dirs);
	lua_setfield(L, -2, "dirs");
	lua_pushinteger(L, (lua_Integer)t->done);
	lua_setfield(L, -2, "bytes");
	lua_pushinteger(L, (lua_Integer)t->unchanged);
	lua_setfield(L, -2, "unchanged");
	lua_pushinteger(L, t->n_errors);
	lua_setfield(L, -2, "failed");
	push_texts(L, &t->skipped);
	lua_setfield(L, -2, "skipped");
	push_texts(L, &t->errors);
	lua_setfield(L, -2, "errors");
	lb_endop(L, &t->base);
	return 1;
}

static int tree_k(lua_State *L, int status, lua_KContext ctx);

static int tree_told_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_tree *t = (struct hga_tree *)ctx;

	(void)status; /* also called directly */
	return sched_await(L, &t->base, "sftp transfer", tree_k);
}

/* Stack: session, options, progress or nil, ..., operation. */
static int tree_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_tree *t = (struct hga_tree *)ctx;

	(void)status; /* LUA_YIELD */
	if (sched_resumed_raw(L, &t->base) != 0)
		return tree_result(L, t);
	if (lua_isnil(L, 3))
		return tree_told_k(L, LUA_OK, ctx);
	lua_pushvalue(L, 3);
	lua_pushinteger(L, (lua_Integer)t->done);
	lua_pushinteger(L, (lua_Integer)t->total);
	lua_callk(L, 2, 0, ctx, tree_told_k);
	return tree_told_k(L, LUA_OK, ctx);
}

/* Views of the strings of the list on top, in a userdata above it.
 * [-0, +1, raises] */
static struct hga_str *list_views(lua_State *L, const char *what, size_t *n)
{
	struct hga_str *v;

	*n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
	v = lua_newuserdatauv(L, (*n + 1) * sizeof(*v), 0);
	for (size_t i = 0; i < *n; i++) {
		lua_rawgeti(L, -2, (lua_Integer)i + 1);
		if (lua_type(L, -1) != LUA_TSTRING)
			(void)lb_fail(L, HGA_USAGE, "OptionType",
			              "ssh: %s must hold strings", what);
		v[i] = lb_checkstr(L, -1);
		lua_pop(L, 1); /* kept by the list */
	}
	return v;
}

/* Views of a list of strings, in a userdata. [-0, +1, raises] */
static struct hga_str *push_views(lua_State *L, int idx, const char *key,
                                  size_t *n)
{
	struct hga_str *v;

	lua_getfield(L, idx, key);
	v = list_views(L, key, n);
	lua_remove(L, -2); /* the list is kept by the options */
	return v;
}

static int ssh_tree(lua_State *L)
{
	static const char *const links[] = {"keep", "follow", "skip"};
	struct hga_ssh *ssh = check_ssh(L);
	struct tropts o;
	struct hga_tree_args a;
	struct hga_tree *t;
	struct hga_err err;

	memset(&o, 0, sizeof(o));
	memset(&a, 0, sizeof(a));
	o.links = "keep";
	o.remote = HGA_STR("");
	lb_opts(L, 2, "ssh.core.tree", tree_opts, &o);
	sched_check_wait(L, "sftp transfer");
	if (o.local == NULL)
		return lb_usage(L, 2, "local expected");
	for (int i = 0; i < 3; i++)
		if (strcmp(links[i], o.links) == 0)
			a.links = (enum hga_tree_links)i;
	lua_settop(L, 2);
	lua_getfield(L, 2, "progress");
	a.exclude = push_views(L, 2, "exclude", &a.n_exclude);
	a.put = o.put;
	a.local = o.local;
	a.remote = o.remote;
	a.umask = host_of(L)->umask;
	a.mtime = o.mtime;
	a.keep_going = o.keep_going;
	a.newer = o.newer;
	a.max_files = o.max_files > 0 ? (uint64_t)o.max_files : 0;
	a.max_bytes = o.max_bytes > 0 ? (uint64_t)o.max_bytes : 0;
	t = lb_newop(L, sizeof(*t), tree_release);
	if (hga_tree_start(ssh, t, &a, &err) < 0)
		return raise_in(L, &err, "sftp");
	return sched_await(L, &t->base, "sftp transfer", tree_k);
}

/* s:assist(other): the get that runs on s may use other, too. */
static int ssh_assist(lua_State *L)
{
	struct hga_ssh *ssh = check_ssh(L);
	struct lssh *other = lb_check(L, 2, SSH_CLASS);
	struct hga_err err;

	if (other->ssh != NULL && hga_sftp_assist(ssh, other->ssh, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/* ---- open files ---- */

struct lfile {
	struct hga_sftp_file *file; /* NULL: closed */
};

static void open_release(struct hga_op *op)
{
	hga_sftp_open_release((struct hga_sftp_open *)op);
}

static void io_release(struct hga_op *op)
{
	hga_sftp_io_release((struct hga_sftp_io *)op);
}

static int open_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_sftp_open *o = (struct hga_sftp_open *)ctx;
	struct lfile *f;

	(void)status; /* LUA_YIELD */
	if (sched_resumed_raw(L, &o->base) < 0)
		return raise_sftp(L, &o->base.err, &o->more);
	f = lb_newobj(L, sizeof(*f), 0, FILE_CLASS);
	f->file = o->file;
	o->file = NULL;
	return 1;
}

/* s:open(path, "r"|"w"|"a"|"r+", mode) -> file */
static int ssh_open(lua_State *L)
{
	static const char *const modes[] = {"r", "w", "a", "r+", NULL};
	static const unsigned flags[] = {
	    HGA_SFTP_R, HGA_SFTP_W | HGA_SFTP_CREATE | HGA_SFTP_TRUNC,
	    HGA_SFTP_W | HGA_SFTP_CREATE, HGA_SFTP_R | HGA_SFTP_W};
	struct hga_ssh *ssh = check_ssh(L);
	struct hga_str path = lb_checkstr(L, 2);
	int how = luaL_checkoption(L, 3, "r", modes);
	uint32_t mode = (uint32_t)luaL_optinteger(L, 4, 0666) & 07777;
	struct hga_sftp_open *o;
	struct hga_err err;

	sched_check_wait(L, "sftp");
	o = lb_newop(L, sizeof(*o), open_release);
	if (hga_sftp_open_start(ssh, o, path, flags[how], mode, &err) < 0)
		return raise_in(L, &err, "sftp");
	return sched_await(L, &o->base, "sftp", open_k);
}

static int file_io_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_sftp_io *io = (struct hga_sftp_io *)ctx;
	int what = (int)lua_tointeger(L, 2);

	(void)status; /* LUA_YIELD */
	if (sched_resumed_raw(L, &io->base) < 0)
		return raise_sftp(L, &io->base.err, &io->more);
	if (what == HGA_SFTP_IO_READ)
		lb_pushstr(L, hga_buf_str(&io->data));
	else if (what == HGA_SFTP_IO_STAT)
		push_attrs(L, &io->attrs);
	else
		lua_pushboolean(L, 1);
	lb_endop(L, &io->base);
	return 1;
}

/* f:io("read", offset, length), ("write", offset, text), ("stat"),
 * ("truncate", size), ("sync"), ("close"); at most 1 MiB at once */
static int file_io(lua_State *L)
{
	static const char *const names[] = {"read", "write", "stat", "truncate",
	                                    "sync", "close", NULL};
	struct lfile *f = lb_check(L, 1, FILE_CLASS);
	struct hga_sftp_io_args a;
	struct hga_sftp_io *io;
	struct hga_err err;
	int what = luaL_checkoption(L, 2, NULL, names);
	lua_Integer off = luaL_optinteger(L, 3, 0), n;

	memset(&a, 0, sizeof(a));
	if (f->file == NULL)
		return lb_fail(L, HGA_USAGE, "Closed",
		               "ssh: the file is closed");
	if (off < 0)
		return lb_usage(L, 3, "position expected");
	a.what = (enum hga_sftp_io_what)what;
	a.offset = (uint64_t)off;
	a.text = HGA_STR("");
	if (what == HGA_SFTP_IO_READ) {
		n = luaL_checkinteger(L, 4);
		a.length = n < 0 ? SIZE_MAX : (size_t)n;
	}
	if (what == HGA_SFTP_IO_WRITE)
		a.text = lb_checkstr(L, 4);
	sched_check_wait(L, "sftp");
	lua_pushinteger(L, what);
	lua_replace(L, 2);
	io = lb_newop(L, sizeof(*io), io_release);
	if (hga_sftp_io_start(f->file, io, &a, &err) < 0)
		return raise_in(L, &err, "sftp");
	return sched_await(L, &io->base, "sftp", file_io_k);
}

/* Without waiting for the server's answer. */
static int file_drop(lua_State *L)
{
	struct lfile *f = lb_test(L, 1, FILE_CLASS);

	if (f != NULL) {
		hga_sftp_file_free(f->file);
		f->file = NULL;
	}
	return 0;
}

static const luaL_Reg file_methods[] = {
    {"io", file_io}, {"drop", file_drop}, {NULL, NULL}};
static const luaL_Reg file_meta[] = {{"__gc", file_drop}, {NULL, NULL}};

static int idle_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_sftp_idle *i = (struct hga_sftp_idle *)ctx;

	(void)status; /* LUA_YIELD */
	sched_resumed(L, &i->base);
	return 0;
}

/* s:idle(sec): waits until cancelled transfers are cleaned up. */
static int ssh_idle(lua_State *L)
{
	struct hga_ssh *ssh = check_ssh(L);
	int64_t ms = lb_checkms(L, 2);
	struct hga_sftp_idle *i;
	struct hga_err err;

	sched_check_wait(L, "sftp cleanup");
	i = lb_newop(L, sizeof(*i), NULL);
	if (hga_sftp_idle_start(ssh, i, ms, &err) < 0)
		return raise_in(L, &err, "sftp");
	return sched_await(L, &i->base, "sftp cleanup", idle_k);
}

/* ---- module ---- */

static int l_quote(lua_State *L)
{
	struct hga_buf b;
	struct hga_err err;
	size_t n;
	struct hga_str *v;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	v = list_views(L, "quote", &n);
	hga_buf_init(&b, (size_t)64 * 1024 * 1024);
	if (hga_quote_sh_list(&b, v, n, &err) < 0) {
		hga_buf_release(&b);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &b);
	return 1;
}

static const luaL_Reg ssh_methods[] = {
    {"close", ssh_close},   {"info", ssh_info},       {"ping", ssh_ping},
    {"exec", ssh_exec},     {"call", ssh_call},       {"xfer", ssh_xfer},
    {"tree", ssh_tree},     {"idle", ssh_idle},       {"open", ssh_open},
    {"assist", ssh_assist}, {"forward", ssh_forward}, {NULL, NULL}};

static const luaL_Reg forward_methods[] = {
    {"close", forward_close}, {"info", forward_info}, {NULL, NULL}};

static const luaL_Reg proc_methods[] = {{"close", proc_close},
                                        {"wait", proc_wait},
                                        {"take", proc_take},
                                        {"write", proc_write},
                                        {"eof", proc_eof},
                                        {"signal", proc_signal},
                                        {"info", proc_info},
                                        {"result", proc_result},
                                        {"resize", proc_resize},
                                        {"console", proc_console},
                                        {NULL, NULL}};

static const luaL_Reg proc_meta[] = {{"__gc", proc_gc}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"connect", l_connect},
    {"quote", l_quote},
    {"known_hosts", l_known_hosts},
    {"known_hosts_add", l_known_hosts_add},
    {"known_hosts_remove", l_known_hosts_remove},
    {NULL, NULL}};

int luaopen_hgauto_ssh_core(lua_State *L)
{
	lb_newclass(L, SSH_CLASS, ssh_methods, NULL);
	lb_newclass(L, PROC_CLASS, proc_methods, proc_meta);
	lb_newclass(L, FILE_CLASS, file_methods, file_meta);
	lb_newclass(L, FORWARD_CLASS, forward_methods, NULL);
	luaL_newlib(L, functions);
	lua_pushboolean(L, hga_ssh_knows_status());
	lua_setfield(L, -2, "knows_status");
	set_text(L, "library", hga_ssh_library());
	set_text(L, "edits", HGA_SSH2_EDITS);
	return 1;
}
