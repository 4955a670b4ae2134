/*
 * Module hgauto.aws.model: the API models as tables, for programs that speak
 * AWS's protocols from the other side, and the steps of a signature.
 *
 * Tables of shapes are made when they are first looked at; a shape has one
 * table per service.
 */
#include "laws.h"
#include "lb.h"
#include "modules.h"

#include "aws/image.h"
#include "aws/sign.h"
#include "aws/valid.h"
#include "base/mem.h"

#include <lauxlib.h>

#include <string.h>

#define WORK "hgauto.aws.model.work"

/* Upvalues of every function of a service. */
enum {
	UP_MODELS = 1, /* what owns them */
	UP_SVC,
	UP_SHAPES,
	UP_MEMBER_MT,
	UP_COUNT = 4
};

/* ---- small fields ---- */

static void set_str(lua_State *L, const char *key, struct hga_str s)
{
	if (s.n == 0)
		return;
	lb_pushstr(L, s);
	lua_setfield(L, -2, key);
}

static void set_id(lua_State *L, const char *key, const struct hga_aws_svc *svc,
                   uint32_t id)
{
	set_str(L, key, hga_aws_text(svc, id));
}

static void set_flag(lua_State *L, const char *key, unsigned flag)
{
	if (flag == 0)
		return;
	lua_pushboolean(L, 1);
	lua_setfield(L, -2, key);
}

static const char *protocol_name(uint8_t p)
{
	switch ((enum hga_aws_protocol)p) {
	case HGA_AWS_EC2:
		return "ec2";
	case HGA_AWS_QUERY:
		return "query";
	case HGA_AWS_JSON:
		return "json";
	case HGA_AWS_REST_JSON:
		return "rest-json";
	case HGA_AWS_REST_XML:
		return "rest-xml";
	case HGA_AWS_CBOR:
		return "smithy-rpc-v2-cbor";
	}
	return "unknown";
}

static const char *type_name(uint8_t t)
{
	switch ((enum hga_aws_type)t) {
	case HGA_T_STRUCT:
		return "structure";
	case HGA_T_LIST:
		return "list";
	case HGA_T_MAP:
		return "map";
	case HGA_T_STRING:
		return "string";
	case HGA_T_INT:
		return "integer";
	case HGA_T_LONG:
		return "long";
	case HGA_T_FLOAT:
		return "float";
	case HGA_T_DOUBLE:
		return "double";
	case HGA_T_BOOL:
		return "boolean";
	case HGA_T_BLOB:
		return "blob";
	case HGA_T_TIME:
		return "timestamp";
	}
	return "unknown";
}

static const char *ts_name(uint8_t ts)
{
	switch ((enum hga_aws_tsformat)ts) {
	case HGA_TS_ISO:
		return "iso8601";
	case HGA_TS_UNIX:
		return "unixTimestamp";
	case HGA_TS_RFC822:
		return "rfc822";
	case HGA_TS_NONE:
		break;
	}
	return "";
}

static const char *location_name(uint8_t l)
{
	switch ((enum hga_aws_location)l) {
	case HGA_LOC_URI:
		return "uri";
	case HGA_LOC_QUERY:
		return "querystring";
	case HGA_LOC_HEADER:
		return "header";
	case HGA_LOC_HEADERS:
		return "headers";
	case HGA_LOC_STATUS:
		return "statusCode";
	case HGA_LOC_BODY:
		break;
	}
	return "";
}

static const char *repeat_name(uint8_t r)
{
	switch ((enum hga_repeat)r) {
	case HGA_REPEAT_READ:
		return "read";
	case HGA_REPEAT_IDEMPOTENT:
		return "idempotent";
	case HGA_REPEAT_NAMED:
		return "named";
	case HGA_REPEAT_UNSAFE:
		break;
	}
	return "unsafe";
}

/* ---- shapes ---- */

static const struct hga_aws_svc *svc_of(lua_State *L)
{
	return lua_touserdata(L, lua_upvalueindex(UP_SVC));
}

/* Pushes the table of a reference; its shape is looked up when read. */
static void push_member(lua_State *L, const struct hga_aws_svc *svc,
                        const struct hga_img_member *m)
{
	lua_createtable(L, 1, 8);
	lua_pushinteger(L, m->shape);
	lua_rawseti(L, -2, 1);
	set_id(L, "name", svc, m->name);
	if (m->wire != m->name)
		set_id(L, "wire", svc, m->wire);
	if (m->sent != m->name)
		set_id(L, "query", svc, m->sent);
	set_flag(L, "required", m->flags & HGA_MF_REQUIRED);
	set_flag(L, "flattened", m->flags & HGA_MF_FLAT);
	set_flag(L, "sensitive", m->flags & HGA_MF_SENSITIVE);
	set_flag(L, "idempotency_token", m->flags & HGA_MF_TOKEN);
	set_flag(L, "streaming", m->flags & HGA_MF_STREAMING);
	set_flag(L, "host_label", m->flags & HGA_MF_HOSTLABEL);
	set_str(L, "location", hga_str(location_name(m->location)));
	set_str(L, "timestamp_format", hga_str(ts_name(m->ts)));
	lua_pushvalue(L, lua_upvalueindex(UP_MEMBER_MT));
	lua_setmetatable(L, -2);
}

static void set_children(lua_State *L, const struct hga_aws_svc *svc,
                         const struct hga_img_shape *s)
{
	uint32_t i;

	if (s->type == HGA_T_LIST) {
		push_member(L, svc, hga_aws_member(svc, s, 0));
		lua_setfield(L, -2, "member");
	} else if (s->type == HGA_T_MAP) {
		push_member(L, svc, hga_aws_member(svc, s, 0));
		lua_setfield(L, -2, "key");
		push_member(L, svc, hga_aws_member(svc, s, 1));
		lua_setfield(L, -2, "value");
	} else if (s->type == HGA_T_STRUCT) {
		lua_createtable(L, (int)s->members.n, 0);
		for (i = 0; i < s->members.n; i++) {
			push_member(L, svc, hga_aws_member(svc, s, i));
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		lua_setfield(L, -2, "members");
	}
}

static void fill_shape(lua_State *L, const struct hga_aws_svc *svc,
                       const struct hga_img_shape *s)
{
	uint32_t i;

	set_id(L, "name", svc, s->name);
	set_str(L, "type", hga_str(type_name(s->type)));
	set_flag(L, "flattened", s->flags & HGA_SF_FLAT);
	set_flag(L, "sensitive", s->flags & HGA_SF_SENSITIVE);
	set_flag(L, "union", s->flags & HGA_SF_UNION);
	set_flag(L, "document", s->flags & HGA_SF_DOCUMENT);
	set_flag(L, "exception", s->flags & HGA_SF_EXCEPTION);
	set_str(L, "timestamp_format", hga_str(ts_name(s->ts)));
	if (s->flags & HGA_SF_MIN) {
		lua_pushnumber(L, hga_aws_sext(svc, s)->min);
		lua_setfield(L, -2, "min");
	}
	if (s->type == HGA_T_STRUCT &&
	    hga_aws_sext(svc, s)->payload < s->members.n)
		set_id(L, "payload", svc,
		       hga_aws_member(svc, s, hga_aws_sext(svc, s)->payload)
		           ->name);
	set_children(L, svc, s);
	if (s->enums.n == 0)
		return;
	lua_createtable(L, (int)s->enums.n, 0);
	for (i = 0; i < s->enums.n; i++) {
		lb_pushstr(L, hga_aws_text(svc, hga_aws_id(svc, s->enums, i)));
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "enum");
}

/* Pushes a shape's table, made at first use; nil for no shape. [-0, +1] */
static void push_shape(lua_State *L, uint16_t number)
{
	const struct hga_aws_svc *svc = svc_of(L);
	const struct hga_img_shape *s = hga_aws_shape(svc, number);

	luaL_checkstack(L, 8, NULL);
	if (s == NULL) {
		lua_pushnil(L);
		return;
	}
	if (lua_rawgeti(L, lua_upvalueindex(UP_SHAPES),
	                (lua_Integer)number + 1) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_createtable(L, 0, 6);
	fill_shape(L, svc, s);
	lua_pushvalue(L, -1);
	lua_rawseti(L, lua_upvalueindex(UP_SHAPES), (lua_Integer)number + 1);
}

/* __index of members. */
static int member_index(lua_State *L)
{
	lua_settop(L, 2);
	lua_pushliteral(L, "shape");
	if (lua_type(L, 1) != LUA_TTABLE || !lua_rawequal(L, 2, 3)) {
		lua_pushnil(L);
		return 1;
	}
	lua_rawgeti(L, 1, 1);
	push_shape(L, (uint16_t)lua_tointeger(L, -1));
	lua_pushvalue(L, 3);
	lua_pushvalue(L, -2);
	lua_rawset(L, 1);
	return 1;
}

/* ---- operations ---- */

/* [-0, +1] */
static void push_errors(lua_State *L, struct hga_aws_op op)
{
	uint32_t i;

	lua_createtable(L, (int)op.r->errors.n, 0);
	for (i = 0; i < op.r->errors.n; i++) {
		const struct hga_img_shape *s = hga_aws_op_error(op, i);
		const struct hga_img_sext *x = hga_aws_sext(op.svc, s);

		lua_createtable(L, 0, 3);
		set_id(L, "name", op.svc, s->name);
		set_id(L, "code", op.svc,
		       x->code != HGA_IMG_NONE ? x->code : s->name);
		if (x->status != 0) {
			lua_pushinteger(L, x->status);
			lua_setfield(L, -2, "status");
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

/* The output's shape with the name of its wrapper. [-0, +1] */
static void push_output(lua_State *L, struct hga_aws_op op)
{
	push_shape(L, op.r->output);
	if (lua_istable(L, -1))
		set_id(L, "result_wrapper", op.svc, op.r->wrapper);
}

/* [-0, +1] */
static void push_ids(lua_State *L, const struct hga_aws_svc *svc,
                     struct hga_img_range r)
{
	uint32_t i;

	lua_createtable(L, (int)r.n, 0);
	for (i = 0; i < r.n; i++) {
		lb_pushstr(L, hga_aws_text(svc, hga_aws_id(svc, r, i)));
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void set_page(lua_State *L, struct hga_aws_op op)
{
	const struct hga_img_page *p = hga_aws_page(op);

	if (p == NULL)
		return;
	lua_createtable(L, 0, 6);
	push_ids(L, op.svc, p->in_tokens);
	lua_setfield(L, -2, "input_token");
	push_ids(L, op.svc, p->out_tokens);
	lua_setfield(L, -2, "output_token");
	push_ids(L, op.svc, p->result_keys);
	lua_setfield(L, -2, "result_key");
	push_ids(L, op.svc, p->non_aggregate);
	lua_setfield(L, -2, "non_aggregate_keys");
	set_id(L, "limit_key", op.svc, p->limit_key);
	set_id(L, "more_results", op.svc, p->more_results);
	lua_setfield(L, -2, "paginator");
}

static void push_op(lua_State *L, struct hga_aws_op op)
{
	lua_createtable(L, 0, 12);
	set_id(L, "name", op.svc, op.r->name);
	set_id(L, "snake", op.svc, op.r->snake);
	set_id(L, "method", op.svc, op.r->method);
	set_id(L, "uri", op.svc, op.r->uri);
	set_id(L, "result_wrapper", op.svc, op.r->wrapper);
	set_str(L, "repeat_class", hga_str(repeat_name(op.r->repeat)));
	push_shape(L, op.r->input);
	lua_setfield(L, -2, "input");
	push_output(L, op);
	lua_setfield(L, -2, "output");
	push_errors(L, op);
	lua_setfield(L, -2, "errors");
	set_id(L, "host_prefix", op.svc, op.r->host_prefix);
	set_flag(L, "unsigned", op.r->flags & HGA_OF_UNSIGNED);
	set_page(L, op);
}

/// One operation of the service, with its shapes.
// @param name string DescribeInstances or describe_instances
// @return table {name, snake, method, uri, input, output, errors,
// result_wrapper, repeat_class, host_prefix, unsigned, paginator}
// @raise usage (UnknownOperation)
// @see hgauto.aws.model.service
static int l_op(lua_State *L)
{
	struct hga_str name = lb_checkstr(L, 1), best;
	const struct hga_aws_svc *svc = svc_of(L);
	struct hga_aws_op op = hga_aws_op_find(svc, name);

	if (op.r != NULL) {
		push_op(L, op);
		return 1;
	}
	best = hga_aws_suggest_op(svc, name);
	if (best.s != NULL)
		return lb_fail(L, HGA_USAGE, "UnknownOperation",
		               "%s has no operation %.*s; did you mean %.*s?",
		               hga_aws_cstr(svc, svc->r->name), HGA_STRF(name),
		               HGA_STRF(best));
	return lb_fail(L, HGA_USAGE, "UnknownOperation",
	               "%s has no operation %.*s",
	               hga_aws_cstr(svc, svc->r->name), HGA_STRF(name));
}

/// Names of the service's operations, sorted.
// @return string[]
static int l_operations(lua_State *L)
{
	const struct hga_aws_svc *svc = svc_of(L);
	uint32_t i;

	lua_createtable(L, (int)svc->r->ops.n, 0);
	for (i = 0; i < svc->r->ops.n; i++) {
		lb_pushstr(L, hga_aws_text(svc, svc->ops[i].name));
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/// A shape of the service by its name, or nil.
// @param name string
// @return table|nil {name, type, members|member|key+value, enum, min}
static int l_shape(lua_State *L)
{
	struct hga_str name = lb_checkstr(L, 1);
	const struct hga_aws_svc *svc = svc_of(L);
	const struct hga_img_shape *s = hga_aws_shape_find(svc, name);

	push_shape(L, hga_aws_shape_number(svc, s));
	return 1;
}

/* ---- waiters ---- */

static void push_acceptor(lua_State *L, const struct hga_aws_svc *svc,
                          const struct hga_img_acceptor *a)
{
	/* in the order of enum hga_aws_matcher and hga_aws_accstate */
	static const char *const matchers[] = {"",        "path",   "pathAll",
	                                       "pathAny", "status", "error"};
	static const char *const states[] = {"", "success", "failure", "retry"};

	lua_createtable(L, 0, 4);
	set_str(L, "matcher", hga_str(matchers[a->matcher]));
	set_str(L, "state", hga_str(states[a->state]));
	set_id(L, "argument", svc, a->argument);
	if (a->kind == 's')
		lb_pushstr(L, hga_aws_text(svc, a->text));
	else if (a->kind == 'b')
		lua_pushboolean(L, a->num != 0);
	else
		lua_pushinteger(L, a->num);
	lua_setfield(L, -2, "expected");
}

/// One waiter of the service, in the form client:wait takes.
// @param name string InstanceStopped or instance_stopped
// @return table {name, snake, operation, delay, max_attempts, acceptors}
// @raise usage (UnknownWaiter)
// @see hgauto.aws.model.service
static int l_waiter(lua_State *L)
{
	struct hga_str name = lb_checkstr(L, 1), best;
	const struct hga_aws_svc *svc = svc_of(L);
	const struct hga_img_waiter *w = hga_aws_waiter_find(svc, name);
	uint32_t i;

	if (w == NULL) {
		best = hga_aws_suggest_waiter(svc, name);
		return lb_fail(L, HGA_USAGE, "UnknownWaiter",
		               "%s has no waiter %.*s%s%.*s%s",
		               hga_aws_cstr(svc, svc->r->name), HGA_STRF(name),
		               best.s != NULL ? "; did you mean " : "",
		               (int)best.n, best.s != NULL ? best.s : "",
		               best.s != NULL ? "?" : "");
	}
	lua_createtable(L, 0, 6);
	set_id(L, "name", svc, w->name);
	set_id(L, "snake", svc, w->snake);
	set_id(L, "operation", svc, hga_aws_op_at(svc, w->op).r->name);
	lua_pushinteger(L, w->delay_s);
	lua_setfield(L, -2, "delay");
	lua_pushinteger(L, w->max_attempts);
	lua_setfield(L, -2, "max_attempts");
	lua_createtable(L, (int)w->acceptors.n, 0);
	for (i = 0; i < w->acceptors.n; i++) {
		push_acceptor(L, svc, hga_aws_acceptor(svc, w, i));
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "acceptors");
	return 1;
}

/// Names of the service's waiters, sorted.
// @return string[]
static int l_waiters(lua_State *L)
{
	const struct hga_aws_svc *svc = svc_of(L);
	uint32_t i;

	lua_createtable(L, (int)svc->r->waiters.n, 0);
	for (i = 0; i < svc->r->waiters.n; i++) {
		lb_pushstr(L, hga_aws_text(svc, svc->waiters[i].name));
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* ---- services ---- */

static void set_service(lua_State *L, const struct hga_aws_svc *svc)
{
	const struct hga_img_svc *r = svc->r;

	set_id(L, "name", svc, r->name);
	set_id(L, "service_id", svc, r->id);
	set_id(L, "endpoint_prefix", svc, r->prefix);
	set_id(L, "signing_name", svc, r->signing);
	set_id(L, "api_version", svc, r->version);
	set_id(L, "target_prefix", svc, r->target);
	set_id(L, "json_version", svc, r->jsonver);
	set_id(L, "xml_namespace", svc, r->xmlns);
	set_str(L, "protocol", hga_str(protocol_name(r->protocol)));
}

/* Pushes copies of the four upvalues at stack index base. */
static void push_ups(lua_State *L, int base)
{
	int i;

	for (i = 0; i < UP_COUNT; i++)
		lua_pushvalue(L, base + i);
}

/* Makes the service's table. [-0, +1] */
static void push_service(lua_State *L, const struct hga_aws_svc *svc)
{
	static const luaL_Reg fns[] = {
	    {"op", l_op},           {"operations", l_operations},
	    {"shape", l_shape},     {"waiter", l_waiter},
	    {"waiters", l_waiters}, {NULL, NULL}};
	int base = lua_gettop(L) + 1;
	void *p;

	/* a light userdata has no const */
	memcpy(&p, &svc, sizeof(p));
	luaL_checkstack(L, 16, NULL);
	(void)laws_pushmodels(L); /* the closures keep them alive */
	lua_pushlightuserdata(L, p);
	lua_newtable(L); /* shapes */
	lua_newtable(L); /* metatable of members */
	push_ups(L, base);
	lua_pushcclosure(L, member_index, UP_COUNT);
	lua_setfield(L, base + UP_MEMBER_MT - 1, "__index");
	lua_newtable(L);
	set_service(L, svc);
	push_ups(L, base);
	luaL_setfuncs(L, fns, UP_COUNT);
	lua_replace(L, base);
	lua_settop(L, base);
}

/// Model of a service: {api_version, protocol, signing_name, …, op,
/// operations}.
// @param name string as in the list of services, "ec2"
// @return table op(name), operations(), shape(name), waiter(name), waiters()
// and texts
// @raise usage (UnknownService)
// @example local op = require
// "hgauto.aws.model".service("ec2").op("RunInstances")
static int l_service(lua_State *L)
{
	const struct hga_aws_svc *svc = laws_check_svc(L, lb_checkstr(L, 1));

	/* one table per service: the upvalue remembers them */
	lua_pushvalue(L, 1);
	if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TTABLE)
		return 1;
	push_service(L, svc);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, -2);
	lua_rawset(L, lua_upvalueindex(1));
	return 1;
}

/// Names of the services that are built in or in a model directory, sorted.
// @return string[]
static int l_services(lua_State *L)
{
	laws_pushservices(L);
	return 1;
}

/* ---- signatures ---- */

#define TEXT_MAX ((size_t)64 << 20)
#define HEADERS_MAX 1000

/* C memory of one computation, owned by a userdata. */
struct work {
	struct hga_buf canonical, to_sign;
	struct hga_sign_header *headers;
	struct hga_sign_auth auth;
};

static int work_close(lua_State *L)
{
	struct work *w = lb_check(L, 1, WORK);

	hga_buf_release(&w->canonical);
	hga_buf_release(&w->to_sign);
	hga_free(w->headers);
	w->headers = NULL;
	hga_sign_auth_release(&w->auth);
	return 0;
}

static struct work *push_work(lua_State *L)
{
	static const luaL_Reg methods[] = {{"close", work_close}, {NULL, NULL}};
	struct work *w;

	lb_newclass(L, WORK, methods, NULL);
	w = lb_newobj(L, sizeof(*w), 0, WORK);
	hga_buf_init(&w->canonical, TEXT_MAX);
	hga_buf_init(&w->to_sign, TEXT_MAX);
	return w;
}

struct sigv4_args {
	struct hga_str method, path, query, signed_headers, payload_hash, date,
	    region, service;
	int headers, secret;
	bool raw_path, keep_path;
};

/* Reads the list of {name, value} at idx; its strings stay in the table. */
static void read_headers(lua_State *L, int idx, struct work *w,
                         struct hga_sign_request *r)
{
	lua_Unsigned i, n = lua_rawlen(L, idx);

	if (n > HEADERS_MAX)
		lb_fail(L, HGA_USAGE, NULL, "sigv4: more than %d headers",
		        HEADERS_MAX);
	w->headers = hga_calloc(n + 1, sizeof(*w->headers));
	if (w->headers == NULL) {
		lb_fail(L, HGA_MEMORY, NULL, "out of memory");
		return; /* not reached */
	}
	for (i = 1; i <= n; i++) {
		struct hga_sign_header *h = &w->headers[i - 1];

		if (lua_rawgeti(L, idx, (lua_Integer)i) != LUA_TTABLE ||
		    lua_rawgeti(L, -1, 1) != LUA_TSTRING ||
		    lua_rawgeti(L, -2, 2) != LUA_TSTRING)
			lb_fail(L, HGA_USAGE, NULL,
			        "sigv4: headers must be a list of "
			        "{name, value}");
		h->name.s = lua_tolstring(L, -2, &h->name.n);
		h->value.s = lua_tolstring(L, -1, &h->value.n);
		lua_pop(L, 3);
	}
	r->headers = w->headers;
	r->n_headers = (size_t)n;
}

static void push_result(lua_State *L, const struct work *w,
                        const char *signature)
{
	lua_createtable(L, 0, 3);
	lb_pushstr(L, hga_buf_str(&w->canonical));
	lua_setfield(L, -2, "canonical");
	lb_pushstr(L, hga_buf_str(&w->to_sign));
	lua_setfield(L, -2, "string_to_sign");
	if (signature[0] != '\0') {
		lua_pushstring(L, signature);
		lua_setfield(L, -2, "signature");
	}
}

/// The signature a request should have, with the texts it is made of.
// @param req.method string
// @param req.path string as it came over the wire, still encoded
// @param req.query string as it came, default ""
// @param req.headers {{name, value}, …}
// @param req.signed_headers string "host;x-amz-date"; default all
// @param req.payload_hash string hex SHA-256 of the body
// @param req.date string X-Amz-Date, "20150830T123600Z"
// @param req.region string
// @param req.service string
// @param req.secret string|secret secret key; without it no signature
// @param req.raw_path boolean path is not encoded again (s3)
// @return {canonical=string, string_to_sign=string, signature=string}
// @raise usage
static int l_sigv4(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"method", LB_STR, offsetof(struct sigv4_args, method)},
	    {"path", LB_STR, offsetof(struct sigv4_args, path)},
	    {"query", LB_STR, offsetof(struct sigv4_args, query)},
	    {"headers", LB_TABLE, offsetof(struct sigv4_args, headers)},
	    {"signed_headers", LB_STR,
	     offsetof(struct sigv4_args, signed_headers)},
	    {"payload_hash", LB_STR, offsetof(struct sigv4_args, payload_hash)},
	    {"date", LB_STR, offsetof(struct sigv4_args, date)},
	    {"region", LB_STR, offsetof(struct sigv4_args, region)},
	    {"service", LB_STR, offsetof(struct sigv4_args, service)},
	    {"secret", LB_ANY, offsetof(struct sigv4_args, secret)},
	    {"raw_path", LB_BOOL, offsetof(struct sigv4_args, raw_path)},
	    {"keep_path", LB_BOOL, offsetof(struct sigv4_args, keep_path)},
	    {NULL, LB_BOOL, 0}};
	struct sigv4_args a = {.method = HGA_STR("POST")};
	struct hga_sign_request r = {.drop_signature = true};
	struct hga_str secret = {NULL, 0};
	char signature[65] = "";
	struct hga_err err;
	struct work *w;
	int rc;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lb_opts(L, 1, "sigv4", defs, &a);
	w = push_work(L);
	r.method = a.method;
	r.path = a.path;
	r.query = a.query;
	r.signed_headers = a.signed_headers;
	r.payload_hash = a.payload_hash;
	r.raw_path = a.raw_path;
	r.keep_path = a.keep_path;
	if (a.headers) {
		lua_getfield(L, 1, "headers");
		read_headers(L, lua_gettop(L), w, &r);
	}
	if (a.secret) {
		lua_getfield(L, 1, "secret");
		if (!lb_tosecret(L, -1, &secret))
			return lb_fail(L, HGA_USAGE, NULL,
			               "sigv4: secret must be a string");
	}
	rc = hga_sign_canonical(&w->canonical, NULL, &r, &err);
	if (rc == 0)
		rc = hga_sign_string(&w->to_sign, a.date, a.region, a.service,
		                     hga_buf_str(&w->canonical), &err);
	if (rc == 0 && a.secret)
		rc = hga_sign_signature(signature, secret, a.date, a.region,
		                        a.service, hga_buf_str(&w->to_sign),
		                        NULL, &err);
	if (rc < 0)
		return lb_raise(L, &err);
	push_result(L, w, signature);
	return 1;
}

static int push_auth(lua_State *L, const struct hga_sign_auth *a)
{
	lua_createtable(L, 0, 8);
	set_str(L, "access_key", hga_str(a->access_key));
	set_str(L, "date", hga_str(a->date8));
	set_str(L, "region", hga_str(a->region));
	set_str(L, "service", hga_str(a->service));
	set_str(L, "signature", hga_str(a->signature));
	set_str(L, "amz_date", hga_str(a->amz_date));
	set_str(L, "signed_headers", a->signed_headers);
	if (a->expires_s >= 0) {
		lua_pushinteger(L, a->expires_s);
		lua_setfield(L, -2, "expires");
	}
	return 1;
}

/// Reads who claims to have signed a request: header or presigned query.
// @param authorization string|nil Authorization header
// @param query string|nil encoded query, looked at when there is no header
// @return table|nil {access_key, date, region, service, signature,
// signed_headers,
//   amz_date, expires}; nil when nothing is signed
// @raise auth (IncompleteSignature)
static int l_sigv4_parse(lua_State *L)
{
	const char *header = luaL_optstring(L, 1, NULL);
	struct work *w = push_work(L);
	struct hga_err err;
	int rc;

	if (header != NULL)
		rc = hga_sign_parse_header(&w->auth, lb_checkstr(L, 1), &err);
	else
		rc = hga_sign_parse_query(
		    &w->auth, hga_str(luaL_optstring(L, 2, "")), &err);
	if (rc == -HGA_NOTFOUND) {
		lua_pushnil(L);
		return 1;
	}
	return rc < 0 ? lb_raise(L, &err) : push_auth(L, &w->auth);
}

int luaopen_hgauto_aws_model(lua_State *L)
{
	static const luaL_Reg fns[] = {{"service", l_service},
	                               {"services", l_services},
	                               {"sigv4", l_sigv4},
	                               {"sigv4_parse", l_sigv4_parse},
	                               {NULL, NULL}};

	lua_newtable(L);
	lua_newtable(L); /* tables of services */
	luaL_setfuncs(L, fns, 1);
	return 1;
}
