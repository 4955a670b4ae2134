/*
 * hgauto.aws.core: calls that wait, their errors and metadata, and the gate
 * between creating calls and the ledger (reliability section 2.4): the intent
 * is written when the request is complete and nothing is sent; whatever comes
 * of the call is written before the task hears of it.
 */
#include "laws.h"

#include "aws/jmespath.h"
#include "base/hash.h"
#include "base/log.h"
#include "lb.h"
#include "lbval.h"
#include "sched.h"
#include "state/ledger.h"

#include <lauxlib.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* lstate.c: the ledger behind the object at idx, or raises. */
struct hga_ledger *lstate_ledger(lua_State *L, int idx);

#define TAPE_MAX ((size_t)256 << 20)
#define GATE_IDS 32 /* more instances in one call are not recorded apart */

/* ---- creating operations ---- */

struct creates {
	const char *service, *op, *kind, *cls, *token, *name, *tags, *types,
	    *path, *ids, *prefix;
};

static const struct creates creates[] = {
#define CREATE(service, op, kind, cls, token, name, tags, types, path, ids,    \
               prefix)                                                         \
	{service, op, kind, cls, token, name, tags, types, path, ids, prefix},
#include "creates.def"
#undef CREATE
};

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (text == NULL || text[0] == '\0')
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

static void push_creates(lua_State *L, const struct creates *r)
{
	lua_createtable(L, 0, 9);
	set_text(L, "kind", r->kind);
	set_text(L, "cls", r->cls);
	set_text(L, "token", r->token);
	set_text(L, "name", r->name);
	set_text(L, "tags", r->tags);
	set_text(L, "types", r->types);
	set_text(L, "path", r->path);
	set_text(L, "ids", r->ids);
	set_text(L, "prefix", r->prefix);
}

int laws_creates(lua_State *L)
{
	const size_t n = sizeof(creates) / sizeof(*creates);

	lua_createtable(L, 0, (int)n);
	for (size_t i = 0; i < n; i++) {
		push_creates(L, &creates[i]);
		lua_pushfstring(L, "%s:%s", creates[i].service, creates[i].op);
		lua_insert(L, -2);
		lua_rawset(L, -3);
	}
	return 1;
}

/* ---- the gate ---- */

struct gate {
	struct hga_ledger *led; /* NULL: no gate; anchored by the options */
	struct hga_ledger_intent in; /* texts: views of the options' strings */
	const char *ids, *prefix;
	struct hga_err bad; /* success whose answer cannot be believed */
};

struct l_call {
	struct hga_aws_call c;
	struct gate g;
	struct hga_vtape *next; /* tokens of the next page */
};

static int gate_open(void *data, struct hga_aws_call *call, struct hga_err *err)
{
	struct gate *g = data;
	char hash[65];
	int rc = hga_hash_hex(HGA_SHA256, call->req.body.data,
	                      call->req.body.len, hash, err);

	if (rc < 0)
		return rc;
	g->in.req = hga_str(hash);
	rc = hga_ledger_intent(g->led, &g->in, err);
	g->in.req = hga_str("");
	return rc;
}

static int gate_resend(void *data, struct hga_aws_call *call,
                       struct hga_err *err)
{
	struct gate *g = data;

	(void)call; /* the row is all that counts */
	return hga_ledger_sent(g->led, g->in.op, err);
}

static bool is_id(struct hga_str s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (n == 0)
		return s.n > 0;
	if (!hga_str_starts(s, prefix) || s.n < n + 8 || s.n > n + 17)
		return false;
	for (size_t i = n; i < s.n; i++) {
		bool hex = (s.s[i] >= '0' && s.s[i] <= '9') ||
		           (s.s[i] >= 'a' && s.s[i] <= 'f');

		if (!hex)
			return false;
	}
	return true;
}

static int not_believed(struct gate *g, const char *why)
{
	return hga_fail(&g->bad, HGA_PROTOCOL, 0, "Garbled",
	                "the answer cannot be believed: %s", why);
}

/* EC2 repeats the token of the request in what it made. */
static int check_token(struct gate *g, struct hga_val answer)
{
	struct hga_val first = hga_val_at(hga_val_get(answer, "Instances"), 0);
	struct hga_val token = hga_val_get(first, "ClientToken");

	if (g->in.token.n == 0 || !hga_val_is(token, HGA_V_STR) ||
	    hga_val_str(token).n == 0 ||
	    hga_str_eq(hga_val_str(token), g->in.token))
		return 0;
	return not_believed(g, "it carries another ClientToken");
}

/* Views into the tape t, which holds a text or a list of texts. */
static int list_ids(struct gate *g, const struct hga_vtape *t,
                    struct hga_str *ids, size_t *n)
{
	struct hga_val root = hga_vtape_root(t);
	struct hga_vit it;

	*n = 0;
	if (hga_val_is(root, HGA_V_STR)) {
		ids[(*n)++] = hga_val_str(root);
	} else if (hga_val_is(root, HGA_V_LIST)) {
		for (it = hga_val_first(root);
		     hga_val_more(it) && *n < GATE_IDS; it = hga_val_next(it))
			ids[(*n)++] = hga_val_str(hga_vit_val(it));
	}
	if (*n == 0)
		return not_believed(g, "it names no new resource");
	for (size_t i = 0; i < *n; i++) {
		if (!is_id(ids[i], g->prefix))
			return not_believed(g, "it has a malformed id");
	}
	return 0;
}

static int record_live(struct gate *g, const struct hga_str *ids, size_t n,
                       struct hga_err *err)
{
	struct hga_ledger_child kids[GATE_IDS];
	struct hga_ledger_change change = {0};

	memset(kids, 0, sizeof(kids));
	for (size_t i = 1; i < n; i++) {
		kids[i - 1].kind = g->in.kind;
		kids[i - 1].id = ids[i];
		kids[i - 1].name = g->in.name;
	}
	change.id = ids[0];
	change.children = kids;
	change.n_children = n - 1;
	return hga_ledger_set(g->led, g->in.op, HGA_LEDGER_LIVE, &change, err);
}

static int record_success(struct gate *g, struct hga_val answer,
                          struct hga_err *err)
{
	struct hga_str ids[GATE_IDS];
	struct hga_vtape *found = NULL;
	struct hga_ledger_change change = {0};
	size_t n;
	int rc = check_token(g, answer);

	if (rc == 0)
		rc = hga_jp_query(hga_str(g->ids), answer, &found, &g->bad);
	if (rc == 0)
		rc = list_ids(g, found, ids, &n);
	if (rc == 0) {
		rc = record_live(g, ids, n, err);
	} else {
		change.error = hga_str(g->bad.msg);
		rc = hga_ledger_set(g->led, g->in.op, HGA_LEDGER_UNKNOWN,
		                    &change, err);
	}
	hga_vtape_free(found);
	return rc;
}

static void gate_settled(void *data, struct hga_aws_call *call)
{
	struct gate *g = data;
	struct hga_ledger_change change = {0};
	struct hga_err err = {0};
	int rc = 0;

	change.error = call->message.len > 0 ? hga_buf_str(&call->message)
	                                     : hga_str(call->base.err.msg);
	switch (hga_aws_call_outcome(call)) {
	case HGA_CALL_DONE:
		rc = record_success(g, hga_aws_call_answer(call), &err);
		break;
	case HGA_CALL_NOTHING:
		rc = hga_ledger_set(g->led, g->in.op, HGA_LEDGER_ABSENT,
		                    &change, &err);
		break;
	case HGA_CALL_UNKNOWN:
		rc = hga_ledger_set(g->led, g->in.op, HGA_LEDGER_UNKNOWN,
		                    &change, &err);
		break;
	}
	if (rc < 0)
		hga_log(HGA_LOG_ERROR, "ledger",
		        "the outcome of %.*s %.*s was not recorded: %s",
		        HGA_STRF(g->in.kind), HGA_STRF(g->in.op), err.msg);
}

/* ---- metadata and errors ---- */

static void set_num(lua_State *L, const char *name, double v)
{
	lua_pushnumber(L, v);
	lua_setfield(L, -2, name);
}

static void set_bool(lua_State *L, const char *name, bool v)
{
	lua_pushboolean(L, v);
	lua_setfield(L, -2, name);
}

static void set_int(lua_State *L, const char *name, lua_Integer v)
{
	lua_pushinteger(L, v);
	lua_setfield(L, -2, name);
}

/* Response headers as a table; of equal names the last wins. */
static void push_headers(lua_State *L, const struct hga_http *h)
{
	struct hga_str head = hga_buf_str(&h->head);

	lua_newtable(L);
	while (head.n > 0) {
		ptrdiff_t nl = hga_str_chr(head, '\n', 0);
		size_t len = nl < 0 ? head.n : (size_t)nl;
		ptrdiff_t colon = hga_str_chr(hga_strn(head.s, len), ':', 0);

		if (colon > 0) {
			struct hga_str v = hga_strn(head.s + colon + 1,
			                            len - (size_t)colon - 1);

			lua_pushlstring(L, head.s, (size_t)colon);
			lb_pushstr(L, hga_str_trim(v));
			lua_rawset(L, -3);
		}
		len = nl < 0 ? len : len + 1;
		head = hga_strn(head.s + len, head.n - len);
	}
}

static void push_tokens(lua_State *L, const struct hga_aws_call *c)
{
	lua_createtable(L, 0, (int)c->req.tokens.n);
	for (size_t i = 0; i < c->req.tokens.n; i++)
		set_text(L, c->req.tokens.v[i].name, c->req.tokens.v[i].value);
}

static void push_timing(lua_State *L, const struct hga_aws_call *c)
{
	lua_createtable(L, 0, 5);
	set_num(L, "dns", c->http.t_dns);
	set_num(L, "connect", c->http.t_connect);
	set_num(L, "tls", c->http.t_tls);
	set_num(L, "first_byte", c->http.t_first);
	set_num(L, "total", (double)c->took_ms / 1000);
}

static void push_meta(lua_State *L, const struct l_call *x)
{
	const struct hga_aws_call *c = &x->c;

	lua_createtable(L, 0, 7);
	set_text(L, "RequestId", c->request_id);
	set_int(L, "HTTPStatusCode", c->status);
	set_int(L, "RetryAttempts", c->attempts > 0 ? c->attempts - 1 : 0);
	push_headers(L, &c->http);
	lua_setfield(L, -2, "HTTPHeaders");
	push_tokens(L, c);
	lua_setfield(L, -2, "tokens");
	push_timing(L, c);
	lua_setfield(L, -2, "timing");
	if (x->g.led != NULL) {
		lb_pushstr(L, x->g.in.op);
		lua_setfield(L, -2, "op");
	}
}

/* err.response = modelled members and {Error = {Code, Message}}. */
static void set_response(lua_State *L, struct hga_aws_call *c)
{
	const struct hga_aws_error *e = hga_aws_out_error(c->out);
	struct hga_val members = hga_aws_out_members(c->out);

	if (e == NULL)
		return;
	if (hga_val_is(members, HGA_V_STRUCT))
		lbval_push(L, members);
	else
		lua_createtable(L, 0, 1);
	lua_createtable(L, 0, 2);
	set_text(L, "Code", e->code);
	/* The service may quote what it was sent. */
	hga_buf_clear(&c->report);
	if (hga_aws_call_hide(c, hga_buf_str(&e->message), &c->report, NULL) ==
	    0)
		set_text(L, "Message", hga_buf_text(&c->report));
	lua_setfield(L, -2, "Error");
	lua_setfield(L, -2, "response");
	set_text(L, "host_id", e->host_id);
	if (c->request_id[0] == '\0')
		set_text(L, "request_id", e->request_id);
}

/* Fields that say what was called and where. */
static void set_place(lua_State *L, const struct hga_aws_call *c)
{
	const struct hga_aws_endpoint *e =
	    c->endpoint.host[0] != '\0' ? &c->endpoint
	                                : hga_aws_client_endpoint(c->client);

	set_text(L, "service", hga_aws_cstr(c->op.svc, c->op.svc->r->name));
	set_text(L, "operation", hga_aws_cstr(c->op.svc, c->op.r->name));
	if (e == NULL)
		return;
	set_text(L, "region", e->region);
	set_text(L, "endpoint", e->host);
}

static void set_fate(lua_State *L, const struct hga_aws_call *c)
{
	set_int(L, "attempts", c->attempts);
	set_bool(L, "retryable", c->retryable);
	set_bool(L, "throttling", c->throttling);
	set_bool(L, "sent", c->sent);
	set_bool(L, "ambiguous", c->ambiguous);
	set_bool(L, "maybe_done", c->maybe_done);
	set_text(L, "request_id", c->request_id);
	if (c->status != 0)
		set_int(L, "status", c->status);
	if (c->req.tokens.n > 0) {
		push_tokens(L, c);
		lua_setfield(L, -2, "tokens");
	}
}

void laws_set_tried(lua_State *L, const struct hga_err *err,
                    const struct hga_buf *tried)
{
	if (strcmp(err->code, "NoCredentials") != 0)
		return;
	set_text(L, "tried", hga_buf_text(tried));
	set_text(L, "hint",
	         "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add the "
	         "profile to ~/.aws/credentials; -v tells what was tried");
}

static int raise_failed(lua_State *L, struct l_call *x)
{
	struct hga_aws_call *c = &x->c;

	lb_pusherr(L, &c->base.err);
	if (c->message.len > 0)
		set_text(L, "message", hga_buf_text(&c->message));
	set_text(L, "code", c->code);
	laws_set_tried(L, &c->base.err, &c->tried);
	set_place(L, c);
	set_fate(L, c);
	if (x->g.led != NULL) {
		lb_pushstr(L, x->g.in.op);
		lua_setfield(L, -2, "op");
	}
	if (c->answered && c->base.err.kind == HGA_AWS)
		set_response(L, c);
	/* Whose error it is, for err:decode(). */
	laws_pushmetas(L);
	lua_pushvalue(L, -2);
	lua_pushvalue(L, 1);
	lua_rawset(L, -3);
	lua_pop(L, 1);
	lb_endop(L, &x->c.base);
	return lua_error(L);
}

/* The call did not start. */
static int raise_unstarted(lua_State *L, struct l_call *x,
                           const struct hga_err *err)
{
	const struct hga_aws_call *c = &x->c;

	lb_pusherr(L, err);
	if (strcmp(err->code, "ParamValidation") == 0 && c->report.len > 0)
		set_text(L, "message", hga_buf_text(&c->report));
	laws_set_tried(L, err, &c->tried);
	set_place(L, c);
	set_bool(L, "sent", false);
	lb_endop(L, &x->c.base);
	return lua_error(L);
}

/* ---- the call ---- */

static void call_release(struct hga_op *op)
{
	struct l_call *x = (struct l_call *)op;

	hga_aws_call_release(&x->c);
	hga_vtape_free(x->next);
	x->next = NULL;
}

struct call_opts {
	int64_t timeout_ms, read_ms, max_attempts;
	int extra, pager, gate, to;
	bool validate, eventual;
};

static const struct lb_opt call_defs[] = {
    {"timeout", LB_MS, offsetof(struct call_opts, timeout_ms)},
    {"read_timeout", LB_MS, offsetof(struct call_opts, read_ms)},
    {"max_attempts", LB_INT, offsetof(struct call_opts, max_attempts)},
    {"validate", LB_BOOL, offsetof(struct call_opts, validate)},
    {"eventual", LB_BOOL, offsetof(struct call_opts, eventual)},
    {"extra", LB_TABLE, offsetof(struct call_opts, extra)},
    {"to", LB_ANY, offsetof(struct call_opts, to)},
    {"pager", LB_ANY, offsetof(struct call_opts, pager)},
    {"gate", LB_TABLE, offsetof(struct call_opts, gate)},
    {NULL, LB_ANY, 0},
};

struct gate_opts {
	struct hga_ledger_intent in;
	int ledger;
	int64_t place;
};

static const struct lb_opt gate_defs[] = {
    {"ledger", LB_ANY, offsetof(struct gate_opts, ledger)},
    {"op", LB_STR, offsetof(struct gate_opts, in.op)},
    {"run", LB_STR, offsetof(struct gate_opts, in.run)},
    {"kind", LB_STR, offsetof(struct gate_opts, in.kind)},
    {"cls", LB_STR, offsetof(struct gate_opts, in.cls)},
    {"place", LB_INT, offsetof(struct gate_opts, in.place)},
    {"name", LB_STR, offsetof(struct gate_opts, in.name)},
    {"token", LB_STR, offsetof(struct gate_opts, in.token)},
    {"expires", LB_NUM, offsetof(struct gate_opts, in.expires)},
    {"detail", LB_STR, offsetof(struct gate_opts, in.detail)},
    {NULL, LB_ANY, 0},
};

/* Row of an operation in creates.def or NULL. */
static const struct creates *find_creates(struct hga_aws_op op)
{
	const char *service = hga_aws_cstr(op.svc, op.svc->r->name);

	for (size_t i = 0; i < sizeof(creates) / sizeof(*creates); i++) {
		if (strcmp(creates[i].service, service) == 0 &&
		    hga_str_eqc(hga_aws_op_name(op), creates[i].op))
			return &creates[i];
	}
	return NULL;
}

/* Options' gate table (at idx 4) -> x->g; its strings stay alive there. */
static void read_gate(lua_State *L, struct l_call *x, struct hga_aws_op op)
{
	const struct creates *row = find_creates(op);
	struct gate_opts o;

	if (row == NULL) {
		lb_fail(L, HGA_BUG, NULL, "no ledger row for this operation");
		return; /* never: it raised */
	}
	memset(&o, 0, sizeof(o));
	lua_getfield(L, 4, "gate");
	lb_opts(L, -1, "aws gate", gate_defs, &o);
	lua_getfield(L, -1, "ledger");
	x->g.led = lstate_ledger(L, -1);
	lua_pop(L, 2);
	x->g.in = o.in;
	x->g.ids = row->ids;
	x->g.prefix = row->prefix;
}

/* Pushes the tokens of the next page, or nil without a pager. */
static void push_next(lua_State *L, struct l_call *x, bool *more)
{
	const struct laws_pager *p;
	struct hga_err err = {0};

	if (!lua_istable(L, 4) || lua_getfield(L, 4, "pager") == LUA_TNIL) {
		lua_settop(L, 5);
		lua_pushnil(L);
		return;
	}
	p = lb_check(L, -1, LAWS_PAGER);
	lua_settop(L, 5);
	x->next = hga_vtape_new(NULL, 1 << 20);
	if (x->next == NULL)
		hga_fail_mem(&err);
	if (err.kind != HGA_OK ||
	    hga_pager_next(p->p, hga_aws_call_answer(&x->c), x->next, more,
	                   &err) < 0)
		lb_raise(L, &err);
	lbval_push(L, hga_vtape_root(x->next));
}

/* Answer at 8: what became of the member that streamed. */
static void set_streamed(lua_State *L, struct l_call *x)
{
	const struct hga_aws_call *c = &x->c;
	const struct hga_img_member *m;

	if (!c->sink.open)
		return;
	m = hga_aws_out_stream(c->op);
	lua_pushstring(L, hga_aws_cstr(c->op.svc, m->name));
	lua_createtable(L, 0, 2);
	set_text(L, "path", c->sink.path);
	set_int(L, "size", (lua_Integer)c->sink.size);
	lua_rawset(L, 8);
}

/* Result: answer, meta, tokens or nil, more.  Stack: 1 client, 2 operation,
 * 3 parameters, 4 options, 5 the op. */
static int push_result(lua_State *L, struct l_call *x)
{
	bool more = false;

	push_next(L, x, &more);
	push_meta(L, x);
	laws_pushanswer(L, laws_check_client(L, 1), x->c.tape);
	laws_pushmetas(L);
	set_streamed(L, x);
	lua_pushvalue(L, 8);
	lua_pushvalue(L, 7);
	lua_rawset(L, 9);
	lua_settop(L, 8);
	lb_endop(L, &x->c.base);
	lua_pushvalue(L, 7);
	lua_pushvalue(L, 6);
	lua_pushboolean(L, more);
	return 4;
}

static int call_k(lua_State *L, int status, lua_KContext ctx);

/* The function that takes chunks has returned, or raised: then the call ends
 * at once. */
static int chunk_k(lua_State *L, int status, lua_KContext ctx)
{
	struct l_call *x = (struct l_call *)ctx;

	if (status != LUA_OK && status != LUA_YIELD) {
		lb_endop(L, &x->c.base);
		return lua_error(L);
	}
	lua_settop(L, 5);
	if (x->c.sink.queue.len > 0 || x->c.base.state == HGA_OP_FINISHED)
		return call_k(L, LUA_OK, ctx);
	return sched_await(L, &x->c.base, "aws call", call_k);
}

/* Gives what is queued to the function of option to. */
static int push_chunk(lua_State *L, struct l_call *x)
{
	struct hga_buf *q = &x->c.sink.queue;
	lua_KContext ctx = (lua_KContext)x;

	lua_getfield(L, 4, "to");
	lua_pushlstring(L, q->data, q->len);
	hga_buf_clear(q);
	hga_aws_call_resume(&x->c);
	return chunk_k(L, lua_pcallk(L, 1, 0, 0, ctx, chunk_k), ctx);
}

static int call_k(lua_State *L, int status, lua_KContext ctx)
{
	struct l_call *x = (struct l_call *)ctx;
	int rc = sched_resumed_raw(L, &x->c.base);

	(void)status; /* both ways look at the operation */
	if (rc >= 0 && x->c.sink.queue.len > 0)
		return push_chunk(L, x);
	if (rc == 0)
		return sched_await(L, &x->c.base, "aws call", call_k);
	if (rc < 0)
		return raise_failed(L, x);
	if (x->g.bad.kind != HGA_OK) {
		x->c.base.err = x->g.bad;
		x->c.ambiguous = true;
		return raise_failed(L, x);
	}
	return push_result(L, x);
}

/* Tape of the table at idx in *t; nothing for other values. */
static int tape_of(lua_State *L, int idx, struct hga_vtape **t,
                   struct hga_val *root, struct hga_err *err)
{
	int rc;

	if (!lua_istable(L, idx))
		return 0;
	*t = hga_vtape_new(NULL, TAPE_MAX);
	if (*t == NULL)
		return hga_fail_mem(err);
	rc = lbval_tape(L, idx, *t, true, err);
	if (rc == 0)
		rc = hga_vt_end(*t, err);
	if (rc == 0)
		*root = hga_vtape_root(*t);
	return rc;
}

/* Parameters at 3, extra ones at 6.  The tapes live only here; raises
 * nothing. */
static int start(lua_State *L, struct l_call *x, struct hga_aws_call_args *a,
                 struct hga_err *err)
{
	struct hga_vtape *params = NULL, *extra = NULL;
	int rc = tape_of(L, 3, &params, &a->params, err);

	if (rc == 0)
		rc = tape_of(L, 6, &extra, &a->extra, err);
	if (rc == 0)
		rc = hga_aws_call_start(&x->c, a, err);
	hga_vtape_free_secret(params);
	hga_vtape_free_secret(extra);
	return rc;
}

static void check_here(lua_State *L, struct hga_aws_op op)
{
	char what[160];

	(void)snprintf(what, sizeof(what), "%s:%s",
	               hga_aws_cstr(op.svc, op.svc->r->name),
	               hga_aws_cstr(op.svc, op.r->snake));
	sched_check_effect(L, what);
	sched_check_wait(L, what);
}

/* Option to: a path, or a function that takes chunks. */
static void read_to(lua_State *L, struct hga_aws_op op,
                    struct hga_aws_call_args *a)
{
	if (lua_getfield(L, 4, "to") == LUA_TSTRING)
		a->to_path = lua_tostring(L, -1); /* the options keep it */
	else if (lua_isfunction(L, -1))
		a->to_queue = true;
	else
		(void)lb_fail(L, HGA_USAGE, NULL,
		              "%s: to must be a path or a function, not %s",
		              hga_aws_cstr(op.svc, op.r->snake),
		              luaL_typename(L, -1));
	lua_pop(L, 1);
}

int laws_call(lua_State *L)
{
	struct laws_client *client = laws_check_client(L, 1);
	struct hga_aws_op op =
	    laws_check_op(L, hga_aws_client_svc(client->c), lb_checkstr(L, 2));
	struct call_opts o = {0};
	struct hga_aws_call_args a = {0};
	struct hga_err err = {0};
	struct l_call *x;

	lua_settop(L, 4);
	if (!lua_isnil(L, 3) && !lua_istable(L, 3))
		return lb_fail(L, HGA_USAGE, NULL,
		               "%s: parameters must be a table",
		               hga_aws_cstr(op.svc, op.r->snake));
	o.validate = true;
	o.eventual = true;
	lb_opts(L, 4, hga_aws_cstr(op.svc, op.r->snake), call_defs, &o);
	check_here(L, op);
	x = lb_newop(L, sizeof(*x), call_release);
	if (o.gate) {
		read_gate(L, x, op);
		a.gate = gate_open;
		a.resend = gate_resend;
		a.settled = gate_settled;
		a.data = &x->g;
	}
	if (o.to)
		read_to(L, op, &a);
	a.client = client->c;
	a.op = op;
	a.timeout_ms = o.timeout_ms;
	a.read_ms = o.read_ms;
	a.max_attempts = o.max_attempts;
	a.no_validate = !o.validate;
	a.no_eventual = !o.eventual;
	lua_settop(L, 5);
	if (lua_istable(L, 4))
		lua_getfield(L, 4, "extra");
	if (start(L, x, &a, &err) < 0)
		return raise_unstarted(L, x, &err);
	lua_settop(L, 5);
	return sched_await(L, &x->c.base, "aws call", call_k);
}
