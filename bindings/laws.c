/*
 * hgauto.aws.core: clients, answers as Lua tables, waiters, pagers,
 * introspection.  The Lua half (aws.lua) makes the API of it; calls are in
 * laws_call.c.
 */
#include "laws.h"

#include "aws/jmespath.h"
#include "aws/ser.h"
#include "aws/valid.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/time.h"
#include "embed.h"
#include "lb.h"
#include "lbval.h"
#include "modules.h"
#include "sched.h"

#include <lauxlib.h>
#include <stddef.h>
#include <string.h>

#ifndef HGA_VERSION
#define HGA_VERSION "0"
#endif

#define SHARED "hgauto.aws.shared"
#define METAS "hgauto.aws.metas"
#define SHAPES "hgauto.aws.shapes"
#define TAPE_MAX ((size_t)256 << 20)

/* ---- shared state ---- */

struct shared {
	struct hga_aws *aws;
	struct hga_aws_image *img;
	struct hga_aws_models *models;
};

static int shared_close(lua_State *L)
{
	struct shared *s = lb_check(L, 1, SHARED);

	hga_aws_free(s->aws);
	hga_aws_models_free(s->models);
	hga_aws_image_free(s->img);
	s->aws = NULL;
	s->models = NULL;
	s->img = NULL;
	return 0;
}

static int shared_open(lua_State *L, struct shared *s, struct hga_err *err)
{
	const struct embed_file *f = embed_find("models.img");
	struct hga_aws_args a = {0};
	int rc;

	if (f == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, NULL,
		                "no AWS models are built in");
	rc = hga_aws_image_open(&s->img, f->data, f->len, true, err);
	if (rc == 0)
		rc = hga_aws_models_new(&s->models, s->img, &hga_aws_env_real,
		                        err);
	if (rc < 0)
		return rc;
	a.loop = host_loop(L);
	a.img = s->img;
	a.agent =
	    "hgauto/" HGA_VERSION " ua/2.1 os/linux lang/lua#5.4 md/libcurl";
	return hga_aws_new(&s->aws, &a, err);
}

/* Made at first use; lives in the registry, so longer than all clients.
 * [-0, +1, raises] */
static struct shared *push_shared(lua_State *L)
{
	static const luaL_Reg methods[] = {{"close", shared_close},
	                                   {NULL, NULL}};
	struct hga_err err = {0};
	struct shared *s;

	if (lua_getfield(L, LUA_REGISTRYINDEX, SHARED ".object") ==
	    LUA_TUSERDATA)
		return lua_touserdata(L, -1);
	lua_pop(L, 1);
	lb_newclass(L, SHARED, methods, NULL);
	s = lb_newobj(L, sizeof(*s), 0, SHARED);
	if (shared_open(L, s, &err) < 0)
		lb_raise(L, &err);
	lua_pushvalue(L, -1);
	lua_setfield(L, LUA_REGISTRYINDEX, SHARED ".object");
	return s;
}

static struct hga_aws *shared_of(lua_State *L)
{
	struct shared *s = push_shared(L);

	lua_pop(L, 1);
	return s->aws;
}

struct hga_aws_models *laws_pushmodels(lua_State *L)
{
	return push_shared(L)->models;
}

/* ---- values in C memory that a userdata holds ---- */

struct held {
	struct hga_op base; /* never runs; its release frees the rest */
	struct hga_vtape *in, *out;
	struct hga_buf text;
};

static void held_release(struct hga_op *op)
{
	struct held *h = (struct held *)op;

	hga_vtape_free(h->in);
	hga_vtape_free(h->out);
	hga_buf_release(&h->text);
	h->in = NULL;
	h->out = NULL;
}

/* Only room for a text. [-0, +1, m] */
static struct held *hold_text(lua_State *L)
{
	struct held *h = lb_newop(L, sizeof(*h), held_release);

	hga_buf_init(&h->text, 1 << 20);
	return h;
}

/* The value at idx as a tape, and an empty one. [-0, +1, raises] */
static struct held *hold(lua_State *L, int idx)
{
	struct held *h = hold_text(L);
	struct hga_err err = {0};

	h->in = hga_vtape_new(NULL, TAPE_MAX);
	h->out = hga_vtape_new(NULL, TAPE_MAX);
	if (h->in == NULL || h->out == NULL) {
		hga_fail_mem(&err);
		lb_raise(L, &err);
	}
	if (lbval_tape(L, idx, h->in, true, &err) < 0 ||
	    hga_vt_end(h->in, &err) < 0)
		lb_raise(L, &err);
	return h;
}

/* ---- services ---- */

static int no_service(lua_State *L, struct hga_aws_models *m,
                      struct hga_str name)
{
	struct held *h = hold_text(L);
	struct hga_err err = {0};
	struct hga_str best;

	if (hga_aws_models_names(m, &h->text, &err) < 0)
		return lb_raise(L, &err);
	best = hga_aws_models_suggest(hga_buf_str(&h->text), name);
	if (best.s != NULL)
		return lb_fail(L, HGA_USAGE, "UnknownService",
		               "Unknown service: '%.*s'; did you mean %.*s?",
		               HGA_STRF(name), HGA_STRF(best));
	return lb_fail(L, HGA_USAGE, "UnknownService",
	               "Unknown service: '%.*s'", HGA_STRF(name));
}

const struct hga_aws_svc *laws_check_svc(lua_State *L, struct hga_str name)
{
	struct hga_aws_models *m = laws_pushmodels(L);
	const struct hga_aws_svc *svc = NULL;
	struct hga_err err = {0};

	if (hga_aws_models_find(m, name, &svc, &err) < 0)
		lb_raise(L, &err);
	if (svc == NULL)
		no_service(L, m, name);
	lua_pop(L, 1);
	return svc;
}

void laws_pushservices(lua_State *L)
{
	struct hga_aws_models *m = laws_pushmodels(L);
	struct held *h = hold_text(L);
	struct hga_err err = {0};
	struct hga_str names;
	lua_Integer n = 0;

	if (hga_aws_models_names(m, &h->text, &err) < 0)
		lb_raise(L, &err);
	names = hga_buf_str(&h->text);
	lua_newtable(L);
	while (names.n > 0) {
		size_t len = (size_t)hga_str_chr(names, '\n', 0);

		lua_pushlstring(L, names.s, len);
		lua_rawseti(L, -2, ++n);
		names = hga_strn(names.s + len + 1, names.n - len - 1);
	}
	lua_replace(L, -3);
	lua_pop(L, 1);
}

struct hga_aws_op laws_check_op(lua_State *L, const struct hga_aws_svc *svc,
                                struct hga_str name)
{
	struct hga_aws_op op = hga_aws_op_find(svc, name);
	const char *service = hga_aws_cstr(svc, svc->r->name);
	struct hga_str best;

	if (op.r != NULL)
		return op;
	best = hga_aws_suggest_op(svc, name);
	if (best.s != NULL)
		lb_fail(L, HGA_USAGE, "UnknownOperation",
		        "%s has no operation \"%.*s\"; did you mean %.*s?",
		        service, HGA_STRF(name), HGA_STRF(best));
	lb_fail(L, HGA_USAGE, "UnknownOperation",
	        "%s has no operation \"%.*s\"", service, HGA_STRF(name));
	return op;
}

/* ---- answers ---- */

void laws_pushmetas(lua_State *L)
{
	if (luaL_getsubtable(L, LUA_REGISTRYINDEX, METAS))
		return;
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "k");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
}

/* answer.ResponseMetadata without being one of its fields. */
static int push_meta(lua_State *L)
{
	laws_pushmetas(L);
	lua_pushvalue(L, 1);
	lua_rawget(L, -2);
	return 1;
}

static bool is_meta_key(lua_State *L)
{
	return lua_type(L, 2) == LUA_TSTRING &&
	       strcmp(lua_tostring(L, 2), "ResponseMetadata") == 0;
}

static int loose_index(lua_State *L)
{
	return is_meta_key(L) ? push_meta(L) : 0;
}

/* A field that is not there: nil if the model has it, else an error. */
static int strict_index(lua_State *L)
{
	const struct hga_aws_svc *svc = lua_touserdata(L, lua_upvalueindex(1));
	uint16_t number = (uint16_t)lua_tointeger(L, lua_upvalueindex(2));
	const struct hga_img_shape *shape = hga_aws_shape(svc, number);
	struct hga_str name, best, own;

	if (is_meta_key(L))
		return push_meta(L);
	if (lua_type(L, 2) != LUA_TSTRING || shape == NULL)
		return 0;
	name = lb_checkstr(L, 2);
	if (hga_aws_member_find(svc, shape, name) != NULL ||
	    hga_str_eqc(name, "NextToken") || hga_str_starts(name, "__"))
		return 0;
	own = hga_aws_text(svc, shape->name);
	best = hga_aws_suggest_member(svc, shape, name);
	if (best.s != NULL)
		return lb_fail(L, HGA_USAGE, "UnknownField",
		               "%.*s has no field %.*s; did you mean %.*s?",
		               HGA_STRF(own), HGA_STRF(name), HGA_STRF(best));
	return lb_fail(L, HGA_USAGE, "UnknownField", "%.*s has no field %.*s",
	               HGA_STRF(own), HGA_STRF(name));
}

struct shaping {
	const struct hga_aws_svc *svc;
	int metas; /* stack index of the service's list of metatables */
	bool strict;
};

static void new_shape_meta(lua_State *L, const struct shaping *s,
                           uint16_t shape)
{
	lua_createtable(L, 0, 1);
	if (s->strict) {
		lua_pushlightuserdata(L, (void *)(uintptr_t)s->svc);
		lua_pushinteger(L, shape);
		lua_pushcclosure(L, strict_index, 2);
	} else {
		lua_pushcfunction(L, loose_index);
	}
	lua_setfield(L, -2, "__index");
	lua_pushvalue(L, -1);
	lua_rawseti(L, s->metas, shape + 1);
}

static void on_shape(lua_State *L, uint16_t shape, void *data)
{
	const struct shaping *s = data;

	luaL_checkstack(L, 4, NULL);
	if (lua_rawgeti(L, s->metas, shape + 1) != LUA_TTABLE) {
		lua_pop(L, 1);
		new_shape_meta(L, s, shape);
	}
	lua_setmetatable(L, -2);
}

void laws_pushanswer(lua_State *L, const struct laws_client *c,
                     struct hga_vtape *tape)
{
	const struct hga_aws_svc *svc = hga_aws_client_svc(c->c);
	struct shaping s = {svc, 0, c->strict};

	luaL_getsubtable(L, LUA_REGISTRYINDEX,
	                 c->strict ? SHAPES : SHAPES ".loose");
	luaL_getsubtable(L, -1, hga_aws_cstr(svc, svc->r->name));
	s.metas = lua_gettop(L);
	lbval_drain(L, tape, on_shape, &s);
	lua_replace(L, -3);
	lua_pop(L, 1);
}

/* ---- clients ---- */

struct laws_client *laws_check_client(lua_State *L, int idx)
{
	return lb_check(L, idx, LAWS_CLIENT);
}

static int client_close(lua_State *L)
{
	struct laws_client *c = laws_check_client(L, 1);

	hga_aws_client_free(c->c);
	c->c = NULL;
	return 0;
}

static struct hga_str secret_field(lua_State *L, const char *name)
{
	struct hga_str text = {"", 0};

	/* The value stays alive in the caller's table. */
	if (lua_getfield(L, -1, name) != LUA_TNIL && !lb_tosecret(L, -1, &text))
		lb_fail(L, HGA_USAGE, NULL, "credentials.%s must be a string",
		        name);
	lua_pop(L, 1);
	return text;
}

static void check_cred_keys(lua_State *L)
{
	static const char *const known[] = {
	    "access_key_id", "secret_access_key", "session_token", NULL};

	for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
		const char *k =
		    lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
		size_t i = 0;

		while (known[i] != NULL && strcmp(known[i], k) != 0)
			i++;
		if (known[i] == NULL)
			lb_fail(L, HGA_USAGE, NULL,
			        "credentials: unknown key \"%s\"; expected "
			        "access_key_id, secret_access_key, "
			        "session_token",
			        k);
	}
}

static int creds_close(lua_State *L)
{
	struct laws_creds *c = lb_check(L, 1, LAWS_CREDS);

	hga_creds_free(c->c);
	c->c = NULL;
	return 0;
}

/* core.credentials{access_key_id=, secret_access_key=[, session_token=]}
 * -> object: the texts become wiped memory at once */
static int l_credentials(lua_State *L)
{
	struct hga_str id, secret, token;
	struct hga_err err = {0};
	struct laws_creds *c;

	luaL_checktype(L, 1, LUA_TTABLE);
	c = lb_newobj(L, sizeof(*c), 0, LAWS_CREDS);
	lua_pushvalue(L, 1);
	check_cred_keys(L);
	id = secret_field(L, "access_key_id");
	secret = secret_field(L, "secret_access_key");
	token = secret_field(L, "session_token");
	lua_pop(L, 1);
	if (hga_creds_new(&c->c, "argument", id, secret, token, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

struct client_opts {
	struct hga_str service;
	struct hga_aws_client_args a;
	int fips, dualstack, credentials;
	bool validate, strict, eventual, no_cred_cache, patient;
};

static const struct lb_opt client_defs[] = {
    {"service", LB_STR, offsetof(struct client_opts, service)},
    {"profile", LB_STR, offsetof(struct client_opts, a.profile)},
    {"region", LB_STR, offsetof(struct client_opts, a.region)},
    {"endpoint_url", LB_STR, offsetof(struct client_opts, a.endpoint_url)},
    {"retry_mode", LB_STR, offsetof(struct client_opts, a.retry_mode)},
    {"ca_bundle", LB_STR, offsetof(struct client_opts, a.ca_bundle)},
    {"user_agent_extra", LB_STR,
     offsetof(struct client_opts, a.user_agent_extra)},
    {"max_attempts", LB_INT, offsetof(struct client_opts, a.max_attempts)},
    {"timeout", LB_MS, offsetof(struct client_opts, a.timeout_ms)},
    {"read_timeout", LB_MS, offsetof(struct client_opts, a.read_ms)},
    {"connect_timeout", LB_MS, offsetof(struct client_opts, a.connect_ms)},
    {"max_response", LB_INT, offsetof(struct client_opts, a.max_response)},
    {"max_concurrency", LB_INT,
     offsetof(struct client_opts, a.max_concurrency)},
    {"use_fips", LB_ANY, offsetof(struct client_opts, fips)},
    {"use_dualstack", LB_ANY, offsetof(struct client_opts, dualstack)},
    {"credentials", LB_ANY, offsetof(struct client_opts, credentials)},
    {"validate", LB_BOOL, offsetof(struct client_opts, validate)},
    {"strict", LB_BOOL, offsetof(struct client_opts, strict)},
    {"patient", LB_BOOL, offsetof(struct client_opts, patient)},
    {"eventual", LB_BOOL, offsetof(struct client_opts, eventual)},
    {"no_credential_cache", LB_BOOL,
     offsetof(struct client_opts, no_cred_cache)},
    {NULL, LB_ANY, 0},
};

static int tri_state(lua_State *L, int idx, const char *name, int given)
{
	int v;

	if (!given)
		return 0;
	lua_getfield(L, idx, name);
	v = lua_toboolean(L, -1) ? 1 : -1;
	lua_pop(L, 1);
	return v;
}

/* core.client{service=, ...} -> client */
static int l_client(lua_State *L)
{
	struct client_opts o;
	struct hga_err err = {0};
	struct laws_client *c;
	struct hga_aws *aws;

	memset(&o, 0, sizeof(o));
	o.strict = true;
	o.eventual = true;
	luaL_checktype(L, 1, LUA_TTABLE);
	lb_opts(L, 1, "aws.client", client_defs, &o);
	aws = shared_of(L);
	o.a.svc = laws_check_svc(L, o.service);
	o.a.use_fips = tri_state(L, 1, "use_fips", o.fips);
	o.a.use_dualstack = tri_state(L, 1, "use_dualstack", o.dualstack);
	o.a.no_eventual = !o.eventual;
	o.a.no_cred_cache = o.no_cred_cache;
	o.a.patient = o.patient;
	if (o.credentials && lua_getfield(L, 1, "credentials") != LUA_TNIL)
		o.a.creds =
		    ((struct laws_creds *)lb_check(L, -1, LAWS_CREDS))->c;
	c = lb_newobj(L, sizeof(*c), 0, LAWS_CLIENT);
	c->strict = o.strict;
	if (hga_aws_client_new(aws, &o.a, &c->c, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (text == NULL || text[0] == '\0')
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

/* core.info(client) -> {service, region, endpoint, ...} */
static int l_info(lua_State *L)
{
	struct hga_aws_client *c = laws_check_client(L, 1)->c;
	const struct hga_aws_svc *svc = hga_aws_client_svc(c);
	struct hga_err err = {0};
	const struct hga_aws_endpoint *e;
	char url[700];

	sched_check_effect(L, "aws client meta");
	if (hga_aws_client_ready(c, &err) < 0 ||
	    hga_aws_config_load(hga_aws_client_config(c), &err) < 0)
		return lb_raise(L, &err);
	e = hga_aws_client_endpoint(c);
	(void)snprintf(url, sizeof(url), "%s://%s%s",
	               e->https ? "https" : "http", e->host, e->base);
	lua_createtable(L, 0, 8);
	set_text(L, "service", hga_aws_cstr(svc, svc->r->name));
	set_text(L, "api_version", hga_aws_cstr(svc, svc->r->version));
	set_text(L, "region", e->region);
	set_text(L, "endpoint", url);
	set_text(L, "partition", e->partition);
	set_text(L, "profile", hga_aws_client_config(c)->profile);
	lua_pushboolean(L, e->custom);
	lua_setfield(L, -2, "custom_endpoint");
	return 1;
}

/* ---- credentials ---- */

static void get_release(struct hga_op *op)
{
	hga_creds_get_release((struct hga_creds_get *)op);
}

static int raise_creds(lua_State *L, struct hga_creds_get *g,
                       const struct hga_err *err)
{
	lb_pusherr(L, err);
	laws_set_tried(L, err, &g->tried);
	lb_endop(L, &g->base);
	return lua_error(L);
}

/*
 * Waits for the credentials of the client at 1; k gets the op on top of the
 * arguments, also when nothing had to be waited for (status LUA_OK).
 */
static int with_creds(lua_State *L, const char *what, lua_KFunction k)
{
	struct hga_aws_client *c = laws_check_client(L, 1)->c;
	struct hga_err err = {0};
	struct hga_creds_get *g;
	int rc;

	sched_check_effect(L, what);
	g = lb_newop(L, sizeof(*g), get_release);
	rc = hga_creds_get_start(g, c, &err);
	if (rc < 0)
		return raise_creds(L, g, &err);
	if (rc == 1)
		return k(L, LUA_OK, (lua_KContext)g);
	if (!lua_isyieldable(L))
		lb_endop(L, &g->base); /* the next line raises */
	sched_check_wait(L, what);
	return sched_await(L, &g->base, "aws credentials", k);
}

/* First statement of such a k: true when g->creds is there, false to wait
 * again. */
static bool creds_there(lua_State *L, int status, struct hga_creds_get *g)
{
	int rc = status == LUA_OK ? 1 : sched_resumed_raw(L, &g->base);

	if (rc < 0)
		raise_creds(L, g, &g->base.err);
	return rc != 0;
}

static int creds_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_creds_get *g = (struct hga_creds_get *)ctx;
	const struct hga_creds *cr;

	if (!creds_there(L, status, g))
		return sched_await(L, &g->base, "aws credentials", creds_k);
	cr = g->creds;
	lua_createtable(L, 0, 5);
	set_text(L, "provider", cr->provider);
	set_text(L, "where", cr->where);
	set_text(L, "access_key_id", cr->access_key_id);
	set_text(L, "account_id", cr->account_id);
	if (cr->expires_us != 0) {
		lua_pushinteger(L, cr->expires_us / 1000000);
		lua_setfield(L, -2, "expires");
	}
	return 1;
}

/* [-0, +1, raises]: a secret with the JSON object of the credentials. */
static int push_handed(lua_State *L, const struct hga_creds *cr)
{
	struct hga_err err = {0};
	struct hga_buf b;
	struct hga_jw w;

	hga_buf_init(&b, 65536);
	hga_jw_init(&w, &b, 0);
	hga_jw_object(&w);
	hga_jw_key(&w, hga_str("access_key_id"));
	hga_jw_str(&w, hga_str(cr->access_key_id));
	hga_jw_key(&w, hga_str("secret_access_key"));
	hga_jw_str(&w, hga_strn(cr->secret.s, cr->secret.n));
	if (cr->token.n > 0) {
		hga_jw_key(&w, hga_str("session_token"));
		hga_jw_str(&w, hga_strn(cr->token.s, cr->token.n));
	}
	hga_jw_close(&w);
	if (hga_jw_end(&w, &err) < 0) {
		hga_buf_release(&b);
		return lb_raise(L, &err);
	}
	lb_pushbuf_secret(L, &b);
	return 1;
}

static int handed_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_creds_get *g = (struct hga_creds_get *)ctx;

	if (!creds_there(L, status, g))
		return sched_await(L, &g->base, "aws credentials", handed_k);
	return push_handed(L, g->creds);
}

/* core.hand_over(client) -> secret; waits */
static int l_hand_over(lua_State *L)
{
	lua_settop(L, 1);
	return with_creds(L, "aws.hand_over", handed_k);
}

/* core.creds(client) -> {provider, access_key_id, ...}; never the secret;
 * waits */
static int l_creds(lua_State *L)
{
	lua_settop(L, 1);
	return with_creds(L, "aws.credentials", creds_k);
}

/* core.config(client) -> {region={value=, origin=}, ...} */
static int l_config(lua_State *L)
{
	struct hga_aws_client *c = laws_check_client(L, 1)->c;
	struct hga_err err = {0};

	sched_check_effect(L, "aws.config");
	lua_createtable(L, 0, HGA_SET_COUNT);
	for (int i = 0; i < HGA_SET_COUNT; i++) {
		enum hga_aws_setting s = (enum hga_aws_setting)i;
		struct hga_aws_value v;

		if (hga_aws_config_get(hga_aws_client_config(c), s, &v, &err) <
		    0)
			return lb_raise(L, &err);
		lua_createtable(L, 0, 2);
		set_text(L, "value", v.text);
		set_text(L, "origin", v.text != NULL ? v.where : "not set");
		lua_setfield(L, -2, hga_aws_setting_name(s));
	}
	return 1;
}

/* core.only(url or nil) */
static int l_only(lua_State *L)
{
	struct hga_err err = {0};
	struct hga_str url = {"", 0};

	if (!lua_isnoneornil(L, 1))
		url = lb_checkstr(L, 1);
	if (hga_aws_only(shared_of(L), url, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/* ---- operations, pagers ---- */

static int pager_close(lua_State *L)
{
	struct laws_pager *p = lb_check(L, 1, LAWS_PAGER);

	hga_pager_free(p->p);
	p->p = NULL;
	return 0;
}

static void push_strings(lua_State *L, const struct hga_pager *p, uint32_t n,
                         struct hga_str (*get)(const struct hga_pager *,
                                               uint32_t),
                         const char *field)
{
	lua_createtable(L, (int)n, 0);
	for (uint32_t i = 0; i < n; i++) {
		lb_pushstr(L, get(p, i));
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, field);
}

static void push_optional(lua_State *L, struct hga_str text, const char *field)
{
	if (text.s == NULL)
		return;
	lb_pushstr(L, text);
	lua_setfield(L, -2, field);
}

/* {pager=, inputs=, outputs=, limit=, results=, fixed=} */
static void push_paging(lua_State *L, struct hga_aws_op op)
{
	struct hga_err err = {0};
	struct laws_pager *p;

	if (hga_aws_page(op) == NULL) {
		lua_pushnil(L);
		return;
	}
	lua_createtable(L, 0, 6);
	p = lb_newobj(L, sizeof(*p), 0, LAWS_PAGER);
	if (hga_pager_new(&p->p, op, &err) < 0)
		lb_raise(L, &err);
	lua_setfield(L, -2, "pager");
	push_strings(L, p->p, hga_pager_tokens(p->p), hga_pager_input,
	             "inputs");
	push_strings(L, p->p, hga_pager_tokens(p->p), hga_pager_output,
	             "outputs");
	push_strings(L, p->p, hga_pager_results(p->p), hga_pager_result,
	             "results");
	push_strings(L, p->p, hga_pager_fixed(p->p), hga_pager_fixed_key,
	             "fixed");
	push_optional(L, hga_pager_limit(p->p), "limit");
	push_optional(L, hga_pager_more(p->p), "more");
}

static bool has_input(struct hga_aws_op op, struct hga_str name)
{
	const struct hga_img_shape *in = hga_aws_shape(op.svc, op.r->input);

	return in != NULL && hga_aws_member_find(op.svc, in, name) != NULL;
}

/* core.operation(client, name) -> {name, snake, paging} */
static int l_operation(lua_State *L)
{
	const struct hga_aws_svc *svc =
	    hga_aws_client_svc(laws_check_client(L, 1)->c);
	struct hga_aws_op op = laws_check_op(L, svc, lb_checkstr(L, 2));

	lua_createtable(L, 0, 5);
	set_text(L, "name", hga_aws_cstr(svc, op.r->name));
	set_text(L, "snake", hga_aws_cstr(svc, op.r->snake));
	lua_pushboolean(L, has_input(op, HGA_STR("DryRun")));
	lua_setfield(L, -2, "can_dry_run");
	lua_pushboolean(L, has_input(op, HGA_STR("TagSpecifications")));
	lua_setfield(L, -2, "can_tag");
	push_paging(L, op);
	lua_setfield(L, -2, "paging");
	return 1;
}

/* core.pager_next(pager, answer) -> tokens, more */
static int l_pager_next(lua_State *L)
{
	const struct laws_pager *p = lb_check(L, 1, LAWS_PAGER);
	struct held *h = hold(L, 2);
	struct hga_err err = {0};
	bool more;

	if (hga_pager_next(p->p, hga_vtape_root(h->in), h->out, &more, &err) <
	    0)
		return lb_raise(L, &err);
	lbval_push(L, hga_vtape_root(h->out));
	lua_pushboolean(L, more);
	return 2;
}

/* ---- waiters ---- */

static int waiter_close(lua_State *L)
{
	struct laws_waiter *w = lb_check(L, 1, LAWS_WAITER);

	hga_waiter_free(w->w);
	w->w = NULL;
	return 0;
}

static int named_waiter(lua_State *L, const struct hga_aws_svc *svc,
                        struct hga_waiter **out, struct hga_err *err)
{
	struct hga_str name = lb_checkstr(L, 2), best;
	const struct hga_img_waiter *w = hga_aws_waiter_find(svc, name);
	const char *service = hga_aws_cstr(svc, svc->r->name);

	if (w != NULL)
		return hga_waiter_new(out, svc, w, err);
	best = hga_aws_suggest_waiter(svc, name);
	if (best.s != NULL)
		return hga_fail(err, HGA_USAGE, 0, "UnknownWaiter",
		                "%s has no waiter \"%.*s\"; did you mean "
		                "%.*s?",
		                service, HGA_STRF(name), HGA_STRF(best));
	return hga_fail(err, HGA_USAGE, 0, "UnknownWaiter",
	                "%s has no waiter \"%.*s\"", service, HGA_STRF(name));
}

/* core.waiter(client, name or description) -> waiter, {name, ...} */
static int l_waiter(lua_State *L)
{
	const struct hga_aws_svc *svc =
	    hga_aws_client_svc(laws_check_client(L, 1)->c);
	struct laws_waiter *w;
	struct hga_err err = {0};
	int rc;

	lua_settop(L, 2);
	w = lb_newobj(L, sizeof(*w), 0, LAWS_WAITER);
	if (lua_istable(L, 2)) {
		struct held *h = hold(L, 2);

		rc = hga_waiter_custom(&w->w, svc, HGA_STR("custom"),
		                       hga_vtape_root(h->in), &err);
	} else {
		rc = named_waiter(L, svc, &w->w, &err);
	}
	if (rc < 0)
		return lb_raise(L, &err);
	lua_pushvalue(L, 3);
	lua_createtable(L, 0, 4);
	set_text(L, "name", hga_waiter_name(w->w));
	set_text(L, "operation",
	         hga_aws_cstr(svc, hga_waiter_op(w->w).r->name));
	lua_pushnumber(L, hga_waiter_delay_s(w->w));
	lua_setfield(L, -2, "delay");
	lua_pushinteger(L, hga_waiter_attempts(w->w));
	lua_setfield(L, -2, "max_attempts");
	return 2;
}

static const char *verdict_name(enum hga_waiter_verdict v)
{
	switch (v) {
	case HGA_WAITER_RETRY:
		return "retry";
	case HGA_WAITER_SUCCESS:
		return "success";
	case HGA_WAITER_FAILURE:
		return "failure";
	case HGA_WAITER_ERROR:
		return "error";
	}
	return "error";
}

/* core.waiter_step(waiter, answer or nil, status, code, message)
 * -> verdict, explanation */
static int l_waiter_step(lua_State *L)
{
	const struct laws_waiter *w = lb_check(L, 1, LAWS_WAITER);
	struct hga_waiter_poll poll = {{NULL, 0}, 0, NULL, NULL};
	enum hga_waiter_verdict v;
	struct hga_err err = {0};
	struct held *h;

	lua_settop(L, 5);
	poll.status = (int)luaL_optinteger(L, 3, 0);
	poll.code = luaL_optstring(L, 4, NULL);
	poll.message = luaL_optstring(L, 5, "");
	h = poll.code == NULL ? hold(L, 2) : hold_text(L);
	if (poll.code == NULL)
		poll.response = hga_vtape_root(h->in);
	if (hga_waiter_step(w->w, &poll, &v, &h->text, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, verdict_name(v));
	lua_pushlstring(L, hga_buf_text(&h->text), h->text.len);
	return 2;
}

/* ---- other functions ---- */

struct presigned {
	struct hga_aws_request req;
};

static int presigned_close(lua_State *L)
{
	struct presigned *p = lb_check(L, 1, LAWS_PRESIGNED);

	hga_aws_request_release(&p->req);
	return 0;
}

/* What must go with the URL: {method, headers, body}. */
static void push_presigned(lua_State *L, const struct hga_aws_request *r)
{
	lua_createtable(L, 0, 3);
	set_text(L, "method", r->method);
	lua_createtable(L, 0, (int)r->headers.n);
	for (size_t i = 0; i < r->headers.n; i++)
		set_text(L, r->headers.v[i].name, r->headers.v[i].value);
	lua_setfield(L, -2, "headers");
	if (!r->has_body)
		return;
	lb_pushstr(L, hga_buf_str(&r->body));
	lua_setfield(L, -2, "body");
}

static int presign_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hga_creds_get *g = (struct hga_creds_get *)ctx;
	struct hga_aws_client *c = laws_check_client(L, 1)->c;
	struct hga_err err = {0};
	struct hga_aws_op op;
	struct presigned *p;
	struct held *h;

	if (!creds_there(L, status, g))
		return sched_await(L, &g->base, "aws credentials", presign_k);
	op = laws_check_op(L, hga_aws_client_svc(c), lb_checkstr(L, 2));
	p = lb_newobj(L, sizeof(*p), 0, LAWS_PRESIGNED);
	h = hold(L, 3);
	if (hga_aws_validate(op, hga_vtape_root(h->in), &h->text, NULL, &err) <
	    0)
		return lb_raise(L, &err);
	hga_buf_clear(&h->text);
	if (hga_aws_presign_url(c, g->creds, op, hga_vtape_root(h->in),
	                        (unsigned)lua_tointeger(L, 4), &p->req,
	                        &h->text, &err) < 0)
		return lb_raise(L, &err);
	lua_pushlstring(L, hga_buf_text(&h->text), h->text.len);
	push_presigned(L, &p->req);
	hga_aws_request_release(&p->req);
	return 2;
}

/* core.presign(client, operation, params, expires) -> url, request; waits
 * only for credentials */
static int l_presign(lua_State *L)
{
	struct hga_aws_client *c = laws_check_client(L, 1)->c;
	lua_Integer expires = luaL_optinteger(L, 4, 3600);

	(void)laws_check_op(L, hga_aws_client_svc(c), lb_checkstr(L, 2));
	lua_settop(L, 3);
	if (lua_isnil(L, 3)) {
		lua_settop(L, 2);
		lua_newtable(L);
	}
	if (expires < 1 || expires > 604800)
		return lb_fail(L, HGA_USAGE, NULL,
		               "presign: expires must be from 1 to 604800 "
		               "seconds");
	lua_pushinteger(L, expires);
	return with_creds(L, "aws presign", presign_k);
}

/* core.query(expression, value) -> value */
static int l_query(lua_State *L)
{
	struct hga_str text = lb_checkstr(L, 1);
	struct hga_err err = {0};
	struct held *h;

	if (lua_isnoneornil(L, 2)) {
		lua_settop(L, 1);
		lua_pushlightuserdata(L, NULL);
	}
	h = hold(L, 2);
	hga_vtape_free(h->out);
	h->out = NULL;
	if (hga_jp_query(text, hga_vtape_root(h->in), &h->out, &err) < 0)
		return lb_raise(L, &err);
	if (hga_val_is(hga_vtape_root(h->out), HGA_V_NULL))
		return 0;
	lbval_push(L, hga_vtape_root(h->out));
	return 1;
}

/* core.services() -> names */
static int l_services(lua_State *L)
{
	laws_pushservices(L);
	return 1;
}

/* core.model_cache(dir or nil): where compiled models of users are kept */
static int l_model_cache(lua_State *L)
{
	struct hga_aws_models *m = laws_pushmodels(L);
	struct hga_str dir = {"", 0};
	struct hga_err err = {0};

	if (!lua_isnoneornil(L, 1))
		dir = lb_checkstr(L, 1);
	if (hga_aws_models_cache(m, dir, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/* core.operations(service) -> snake_case names */
static int l_operations(lua_State *L)
{
	const struct hga_aws_svc *svc = laws_check_svc(L, lb_checkstr(L, 1));
	uint32_t n = svc->r->ops.n;

	lua_createtable(L, (int)n, 0);
	for (uint32_t i = 0; i < n; i++) {
		lb_pushstr(L,
		           hga_aws_text(svc, hga_aws_op_at(svc, i).r->snake));
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* core.waiters(service) -> snake_case names */
static int l_waiters(lua_State *L)
{
	const struct hga_aws_svc *svc = laws_check_svc(L, lb_checkstr(L, 1));
	uint32_t n = svc->r->waiters.n;

	lua_createtable(L, (int)n, 0);
	for (uint32_t i = 0; i < n; i++) {
		lb_pushstr(L, hga_aws_text(svc, svc->waiters[i].snake));
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

/* core.metas() -> weak table answer -> meta, error -> core client */
static int l_metas(lua_State *L)
{
	laws_pushmetas(L);
	return 1;
}

/* core.list_methods(table): methods of every list */
static int l_list_methods(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lbval_pushlistmeta(L);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "__index");
	return 0;
}

/* core.error_method(name, function): a method of every error */
static int l_error_method(lua_State *L)
{
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lb_pusherrmethods(L);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_rawset(L, -3);
	return 0;
}

/* core.iso(epoch seconds) -> text */
static int l_iso(lua_State *L)
{
	double t = luaL_checknumber(L, 1);
	char text[HGA_TIME_TEXT];

	lua_pushstring(
	    L, hga_time_text(text, (int64_t)(t * 1e6), HGA_TIME_ISO_AUTO));
	return 1;
}

/* core.seconds(number or "10m") -> number */
static int l_seconds(lua_State *L)
{
	lua_pushnumber(L, (double)lb_checkms(L, 1) / 1000);
	return 1;
}

int luaopen_hgauto_aws_core(lua_State *L)
{
	static const luaL_Reg client[] = {{"close", client_close},
	                                  {NULL, NULL}};
	static const luaL_Reg creds[] = {{"close", creds_close}, {NULL, NULL}};
	static const luaL_Reg pager[] = {{"close", pager_close}, {NULL, NULL}};
	static const luaL_Reg waiter[] = {{"close", waiter_close},
	                                  {NULL, NULL}};
	static const luaL_Reg presigned[] = {{"close", presigned_close},
	                                     {NULL, NULL}};
	static const luaL_Reg functions[] = {
	    {"credentials", l_credentials},
	    {"client", l_client},
	    {"info", l_info},
	    {"creds", l_creds},
	    {"hand_over", l_hand_over},
	    {"config", l_config},
	    {"only", l_only},
	    {"operation", l_operation},
	    {"call", laws_call},
	    {"creates", laws_creates},
	    {"pager_next", l_pager_next},
	    {"waiter", l_waiter},
	    {"waiter_step", l_waiter_step},
	    {"presign", l_presign},
	    {"query", l_query},
	    {"services", l_services},
	    {"model_cache", l_model_cache},
	    {"operations", l_operations},
	    {"waiters", l_waiters},
	    {"metas", l_metas},
	    {"list_methods", l_list_methods},
	    {"error_method", l_error_method},
	    {"iso", l_iso},
	    {"seconds", l_seconds},
	    {NULL, NULL},
	};

	lb_newclass(L, LAWS_CLIENT, client, NULL);
	lb_newclass(L, LAWS_CREDS, creds, NULL);
	lb_newclass(L, LAWS_PAGER, pager, NULL);
	lb_newclass(L, LAWS_WAITER, waiter, NULL);
	lb_newclass(L, LAWS_PRESIGNED, presigned, NULL);
	luaL_newlib(L, functions);
	return 1;
}
