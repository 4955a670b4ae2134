/*
 * Module hgauto.winrm.core, codec: CLIXML (winrm/clixml.h), fragments and
 * messages (winrm/psrp.h), quoting.  Values come from neutral tapes; this
 * file only converts.
 */
#include "lwinrm.h"

#include "lb.h"
#include "lbval.h"

#include "base/mem.h"
#include "winrm/clixml.h"
#include "winrm/psrp.h"
#include "winrm/tree.h"
#include "winrm/winrs.h"

#include <string.h>

#define TAPE_CLASS "hgauto.winrm.tape"
#define PSRP_CLASS "hgauto.winrm.psrp"
#define TAPE_MAX ((size_t)512 * 1024 * 1024)
#define TEXT_MAX ((size_t)128 * 1024 * 1024)
#define DEPTH_MAX 70

struct ltape {
	struct hga_vtape *t;
};

static int tape_close(lua_State *L)
{
	struct ltape *x = lb_test(L, 1, TAPE_CLASS);

	if (x == NULL)
		return 0;
	hga_vtape_free_secret(x->t);
	x->t = NULL;
	return 0;
}

/* A tape owned by a userdata on the stack. [-0, +1, raises] */
static struct ltape *push_tape(lua_State *L)
{
	struct ltape *x = lb_newobj(L, sizeof(*x), 0, TAPE_CLASS);

	x->t = hga_vtape_new(NULL, TAPE_MAX);
	if (x->t == NULL)
		(void)lb_fail(L, HGA_MEMORY, NULL, "out of memory");
	return x;
}

/* Frees it now: it may be large. */
static void drop_tape(struct ltape *x)
{
	hga_vtape_free_secret(x->t);
	x->t = NULL;
}

/* ---- neutral form to Lua ---- */

static int obj_tostring(lua_State *L)
{
	if (luaL_getmetafield(L, 1, "str") == LUA_TNIL)
		lua_pushliteral(L, "object");
	return 1;
}

static bool is_prim(struct hga_val v)
{
	struct hga_str t = hga_val_str(hga_val_get(v, "t"));

	return !hga_str_eqc(t, "Obj") && !hga_str_eqc(t, "Ref");
}

static bool is_enum(struct hga_val types)
{
	struct hga_vit it;

	for (it = hga_val_first(types); hga_val_more(it); it = hga_val_next(it))
		if (hga_str_eqc(hga_val_str(hga_vit_val(it)), "System.Enum"))
			return true;
	return false;
}

static void push_plain(lua_State *L, struct hga_val v, int refs, int depth);

static void push_number(lua_State *L, struct hga_str s)
{
	double d;

	if (hga_str_ieqc(s, "INF") || hga_str_ieqc(s, "Infinity"))
		lua_pushnumber(L, (lua_Number)__builtin_inf());
	else if (hga_str_ieqc(s, "-INF") || hga_str_ieqc(s, "-Infinity"))
		lua_pushnumber(L, (lua_Number)-__builtin_inf());
	else if (hga_str_ieqc(s, "NaN"))
		lua_pushnumber(L, (lua_Number)__builtin_nan(""));
	else if (hga_str_num(s, &d))
		lua_pushnumber(L, d);
	else
		lb_pushstr(L, s);
}

static void push_bytes(lua_State *L, struct hga_str s)
{
	struct hga_buf b;

	hga_buf_init(&b, TEXT_MAX);
	if (hga_b64_decode(&b, s, NULL) < 0) {
		hga_buf_release(&b);
		lb_pushstr(L, s); /* as sent: nothing is lost */
		return;
	}
	lb_pushbuf(L, &b);
}

static void push_char(lua_State *L, struct hga_str s)
{
	int64_t unit;
	char utf8[4];

	if (!hga_str_int(s, &unit) || unit < 0 || unit > 0xffff) {
		lb_pushstr(L, s);
		return;
	}
	lua_pushlstring(L, utf8, hga_utf8_put(utf8, (uint32_t)unit));
}

static void push_prim(lua_State *L, struct hga_str t, struct hga_val v)
{
	if (hga_val_is(v, HGA_V_BOOL) || hga_val_is(v, HGA_V_INT)) {
		lbval_push(L, v);
		return;
	}
	if (hga_str_eqc(t, "Sg") || hga_str_eqc(t, "Db"))
		push_number(L, hga_val_str(v));
	else if (hga_str_eqc(t, "BA"))
		push_bytes(L, hga_val_str(v));
	else if (hga_str_eqc(t, "C"))
		push_char(L, hga_val_str(v));
	else if (hga_str_eqc(t, "SS")) {
		lua_createtable(L, 0, 1);
		lb_pushstr(L, hga_val_str(v));
		lua_setfield(L, -2, "secure");
	} else
		lb_pushstr(L, hga_val_str(v));
}

/* refs[id] = value on top. [-0, +0, m] */
static void remember(lua_State *L, struct hga_val obj, int refs)
{
	lb_pushstr(L, hga_val_str(hga_val_get(obj, "id")));
	lua_pushvalue(L, -2);
	lua_rawset(L, refs);
}

static void add_members(lua_State *L, struct hga_val members, int refs,
                        int depth)
{
	struct hga_vit it;

	for (it = hga_val_first(members); hga_val_more(it);
	     it = hga_val_next(it)) {
		if (hga_val_is(hga_vit_val(it), HGA_V_NULL))
			continue;
		lb_pushstr(L, hga_vit_name(&it));
		push_plain(L, hga_vit_val(it), refs, depth);
		lua_rawset(L, -3);
	}
}

static void add_list(lua_State *L, struct hga_val list, int refs, int depth)
{
	struct hga_vit it;
	lua_Integer n = 0;

	for (it = hga_val_first(list); hga_val_more(it);
	     it = hga_val_next(it)) {
		push_plain(L, hga_vit_val(it), refs, depth);
		lua_rawseti(L, -2, ++n);
	}
}

static void add_dict(lua_State *L, struct hga_val dict, int refs, int depth)
{
	struct hga_vit it;

	for (it = hga_val_first(dict); hga_val_more(it);
	     it = hga_val_next(it)) {
		struct hga_val pair = hga_vit_val(it);

		if (hga_val_is(hga_val_at(pair, 1), HGA_V_NULL))
			continue;
		push_plain(L, hga_val_at(pair, 0), refs, depth);
		/* what cannot be a key: its text */
		if (lua_isnil(L, -1) ||
		    (lua_type(L, -1) == LUA_TNUMBER &&
		     lua_tonumber(L, -1) != lua_tonumber(L, -1))) {
			lua_pop(L, 1);
			lua_pushliteral(L, "");
		}
		push_plain(L, hga_val_at(pair, 1), refs, depth);
		lua_rawset(L, -3);
	}
}

/* The metatable of an object with a type or a text. [-0, +0, m] */
static void set_meta(lua_State *L, struct hga_val obj)
{
	struct hga_val types = hga_val_get(obj, "types");
	struct hga_val str = hga_val_get(obj, "str");

	if (hga_val_is(types, HGA_V_NONE) && hga_val_is(str, HGA_V_NONE))
		return;
	lua_createtable(L, 0, 4);
	if (hga_val_is(types, HGA_V_LIST)) {
		lbval_push(L, types);
		if (lua_rawgeti(L, -1, 1) == LUA_TSTRING)
			lua_setfield(L, -3, "__name");
		else
			lua_pop(L, 1);
		lua_setfield(L, -2, "types");
	}
	if (!hga_val_is(str, HGA_V_NONE)) {
		lb_pushstr(L, hga_val_str(str));
		lua_setfield(L, -2, "str");
		lua_pushcfunction(L, obj_tostring);
		lua_setfield(L, -2, "__tostring");
	}
	lua_setmetatable(L, -2);
}

static void push_enum(lua_State *L, struct hga_val obj, int refs, int depth)
{
	lua_createtable(L, 0, 2);
	lb_pushstr(L, hga_val_str(hga_val_get(obj, "str")));
	lua_setfield(L, -2, "name");
	push_plain(L, hga_val_get(obj, "base"), refs, depth);
	lua_setfield(L, -2, "value");
	set_meta(L, obj);
}

static void push_obj(lua_State *L, struct hga_val v, int refs, int depth)
{
	struct hga_val base = hga_val_get(v, "base");
	struct hga_val list = hga_val_get(v, "list");
	struct hga_val dict = hga_val_get(v, "dict");
	struct hga_val props = hga_val_get(v, "props");
	bool has_base = !hga_val_is(base, HGA_V_NONE);

	if (is_enum(hga_val_get(v, "types"))) {
		push_enum(L, v, refs, depth);
		remember(L, v, refs);
		return;
	}
	if (has_base && is_prim(base) && hga_val_is(props, HGA_V_NONE)) {
		push_plain(L, base, refs, depth);
		remember(L, v, refs);
		return;
	}
	if (has_base && !is_prim(base))
		push_plain(L, base, refs, depth);
	else
		lua_newtable(L);
	if (!lua_istable(L, -1)) { /* the inner object was a value */
		remember(L, v, refs);
		return;
	}
	remember(L, v, refs); /* before the members: cycles */
	if (hga_val_is(list, HGA_V_LIST)) {
		add_list(L, list, refs, depth);
		lbval_pushlistmeta(L);
		lua_setmetatable(L, -2);
		return;
	}
	if (hga_val_is(dict, HGA_V_LIST)) {
		add_dict(L, dict, refs, depth);
		return;
	}
	add_members(L, props, refs, depth);
	add_members(L, hga_val_get(v, "ext"), refs, depth);
	set_meta(L, v);
}

/* Recursion is bounded by the depth of XML. [-0, +1, raises] */
static void push_plain(lua_State *L, struct hga_val v, int refs, int depth)
{
	struct hga_str t;

	if (depth > DEPTH_MAX)
		(void)lb_fail(L, HGA_PROTOCOL, "Malformed",
		              "CLIXML: nested too deeply");
	luaL_checkstack(L, 8, NULL);
	if (hga_val_is(v, HGA_V_LIST)) {
		lua_newtable(L);
		add_list(L, v, refs, depth + 1);
		lbval_pushlistmeta(L);
		lua_setmetatable(L, -2);
		return;
	}
	if (!hga_val_is(v, HGA_V_MAP)) {
		lua_pushlightuserdata(L, NULL);
		return;
	}
	t = hga_val_str(hga_val_get(v, "t"));
	if (hga_str_eqc(t, "Obj"))
		push_obj(L, v, refs, depth + 1);
	else if (hga_str_eqc(t, "Ref")) {
		lb_pushstr(L, hga_val_str(hga_val_get(v, "id")));
		if (lua_rawget(L, refs) == LUA_TNIL) {
			lua_pop(L, 1);
			lua_pushlightuserdata(L, NULL);
		}
	} else
		push_prim(L, t, hga_val_get(v, "v"));
}

/// Reads CLIXML.
// @param xml string
// @param typed boolean|nil true: the neutral form, without loss
// @return any
// @raise protocol
static int l_decode(lua_State *L)
{
	struct hga_str xml = lb_checkstr(L, 1);
	bool typed = lua_toboolean(L, 2);
	struct ltape *x;
	struct hga_err err;

	lua_settop(L, 1);
	x = push_tape(L);
	if (hga_clixml_read(xml, x->t, &err) < 0)
		return lb_raise(L, &err);
	if (typed) {
		lbval_push(L, hga_vtape_root(x->t));
	} else {
		lua_newtable(L);
		push_plain(L, hga_vtape_root(x->t), 3, 0);
	}
	drop_tape(x);
	return 1;
}

/* Text made from the Lua value at idx by a writer of a tape. */
static int write_value(lua_State *L, int idx,
                       int (*fn)(struct hga_val, struct hga_buf *,
                                 struct hga_err *))
{
	struct ltape *x = push_tape(L);
	struct hga_buf b;
	struct hga_err err;
	int r;

	hga_buf_init(&b, TEXT_MAX);
	r = lbval_tape_secret(L, idx, x->t, &err);
	if (r == 0)
		r = fn(hga_vtape_root(x->t), &b, &err);
	drop_tape(x);
	if (r < 0) {
		hga_buf_release_secret(&b);
		return lb_raise(L, &err);
	}
	lb_pushbuf_secret(L, &b);
	return 1;
}

/// Writes a value as CLIXML.
// @param value any
// @param typed boolean|nil true: value is in the neutral form
// @return string
// @raise usage
static int l_encode(lua_State *L)
{
	bool typed = lua_toboolean(L, 2);

	lua_settop(L, 1);
	return write_value(L, 1,
	                   typed ? hga_clixml_write_typed : hga_clixml_write);
}

static int text_to_text(lua_State *L,
                        int (*fn)(struct hga_buf *, struct hga_str,
                                  struct hga_err *))
{
	struct hga_str s = lb_checkstr(L, 1);
	struct hga_buf b;
	struct hga_err err;

	hga_buf_init(&b, TEXT_MAX);
	if (fn(&b, s, &err) < 0) {
		hga_buf_release(&b);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &b);
	return 1;
}

static int l_escape(lua_State *L)
{
	return text_to_text(L, hga_clixml_escape);
}

static int l_unescape(lua_State *L)
{
	return text_to_text(L, hga_clixml_unescape);
}

static int stderr_text(struct hga_buf *b, struct hga_str s, struct hga_err *err)
{
	return hga_clixml_stderr(s, b, err);
}

static int l_stderr(lua_State *L)
{
	return text_to_text(L, stderr_text);
}

/// Quotes an argument as the C runtime of Windows reads it.
static int l_quote(lua_State *L)
{
	return text_to_text(L, hga_winrs_quote);
}

/// Length of the whole UTF-8 characters at the front.
static int l_whole(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)hga_winrs_whole(lb_checkstr(L, 1)));
	return 1;
}

/// An XML document as a tree {n=, a=, c=}.
static int l_tree(lua_State *L)
{
	struct hga_str xml = lb_checkstr(L, 1);
	struct ltape *x = push_tape(L);
	struct hga_err err;

	if (hga_xml_tree(xml, x->t, &err) < 0)
		return lb_raise(L, &err);
	lbval_push(L, hga_vtape_root(x->t));
	drop_tape(x);
	return 1;
}

/* ---- messages ---- */

static int pushbuf_or_raise(lua_State *L, struct hga_buf *b, int r,
                            const struct hga_err *err)
{
	if (r < 0) {
		hga_buf_release_secret(b);
		return lb_raise(L, err);
	}
	lb_pushbuf_secret(L, b);
	return 1;
}

static int l_capability(lua_State *L)
{
	struct hga_str version = lb_checkstr(L, 1);
	struct hga_buf b;
	struct hga_err err;
	int r;

	hga_buf_init(&b, TEXT_MAX);
	r = hga_psrp_capability(&b, version, &err);
	return pushbuf_or_raise(L, &b, r, &err);
}

/* init_pool(host, application arguments | nil) */
static int l_init_pool(lua_State *L)
{
	bool host = lua_toboolean(L, 1);
	struct ltape *x;
	struct hga_buf b;
	struct hga_err err;
	int r;

	lua_settop(L, 2);
	x = push_tape(L);
	hga_buf_init(&b, TEXT_MAX);
	r = lbval_tape_secret(L, 2, x->t, &err);
	if (r == 0)
		r = hga_psrp_init_pool(&b, host, hga_vtape_root(x->t), &err);
	drop_tape(x);
	return pushbuf_or_raise(L, &b, r, &err);
}

static int create_pipeline(struct hga_val v, struct hga_buf *b,
                           struct hga_err *err)
{
	return hga_psrp_create_pipeline(b, v, err);
}

static int l_create_pipeline(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	return write_value(L, 1, create_pipeline);
}

/* ---- both directions of a pool ---- */

struct lpsrp {
	struct hga_psrp_out out;
	struct hga_psrp_in *in;
	bool open;
};

static struct lpsrp *check(lua_State *L)
{
	struct lpsrp *x = lb_check(L, 1, PSRP_CLASS);

	if (!x->open)
		(void)lb_fail(L, HGA_USAGE, "Closed", "psrp state is closed");
	return x;
}

static int psrp_close(lua_State *L)
{
	struct lpsrp *x = lb_test(L, 1, PSRP_CLASS);

	if (x == NULL || !x->open)
		return 0;
	x->open = false;
	hga_psrp_out_release(&x->out);
	hga_psrp_in_free(x->in);
	x->in = NULL;
	return 0;
}

/* psrp(): fresh state */
static int l_psrp(lua_State *L)
{
	struct lpsrp *x = lb_newobj(L, sizeof(*x), 0, PSRP_CLASS);

	hga_psrp_out_init(&x->out);
	x->open = true;
	x->in = hga_psrp_in_new();
	if (x->in == NULL)
		return lb_fail(L, HGA_MEMORY, NULL, "out of memory");
	return 1;
}

/* p:add(payload, type, pool, pipeline, data[, to_client]) */
static int psrp_add(lua_State *L)
{
	struct lpsrp *x = check(L);
	lua_Integer payload = luaL_checkinteger(L, 2);
	struct hga_err err;
	uint32_t type;

	if (lua_type(L, 3) == LUA_TNUMBER)
		type = (uint32_t)luaL_checkinteger(L, 3);
	else
		type = hga_psrp_find(lb_checkstr(L, 3));
	if (type == 0 || payload < 0)
		return lb_usage(L, 3, "unknown type of message");
	x->out.payload = (size_t)payload;
	if (hga_psrp_out_add(&x->out, type, lua_toboolean(L, 7),
	                     lb_checkstr(L, 4), lb_checkstr(L, 5),
	                     lb_checkstr(L, 6), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/* p:take(more) -> list of buffers, one for each request; more: one that has
 * room stays */
static int psrp_take(lua_State *L)
{
	struct lpsrp *x = check(L);
	struct hga_err err;
	size_t from = 0;

	if (!lua_toboolean(L, 2) && hga_psrp_out_flush(&x->out, &err) < 0)
		return lb_raise(L, &err);
	lua_newtable(L);
	for (size_t i = 0; i < x->out.n_cuts; i++) {
		lua_pushlstring(L, x->out.data.data + from,
		                x->out.cuts[i] - from);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
		from = x->out.cuts[i];
	}
	hga_psrp_out_clear(&x->out);
	return 1;
}

/* p:feed(bytes) */
static int psrp_feed(lua_State *L)
{
	struct lpsrp *x = check(L);
	struct hga_str s = lb_checkstr(L, 2);
	struct hga_err err;

	if (hga_psrp_in_feed(x->in, s.s, s.n, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

static void push_guid(lua_State *L, const uint8_t in[16])
{
	char text[37];

	hga_psrp_guid_text(in, text);
	lua_pushstring(L, text);
}

/* p:next() -> {object, code, destination, type, pool, pipeline, xml} or nil */
static int psrp_next(lua_State *L)
{
	struct lpsrp *x = check(L);
	struct hga_psrp_msg m;
	const char *name;

	if (!hga_psrp_in_next(x->in, &m))
		return 0;
	lua_createtable(L, 0, 8);
	lua_pushinteger(L, (lua_Integer)m.object);
	lua_setfield(L, -2, "object");
	lua_pushinteger(L, m.type);
	lua_setfield(L, -2, "code");
	lua_pushinteger(L, m.destination);
	lua_setfield(L, -2, "destination");
	name = hga_psrp_name(m.type);
	lua_pushstring(L, name != NULL ? name : "UNKNOWN");
	lua_setfield(L, -2, "type");
	push_guid(L, m.pool);
	lua_setfield(L, -2, "pool");
	push_guid(L, m.pipeline);
	lua_setfield(L, -2, "pipeline");
	lb_pushstr(L, m.data);
	lua_setfield(L, -2, "xml");
	return 1;
}

/* p:whole(): nothing half received, no object missing; messages unfinished */
static int psrp_whole(lua_State *L)
{
	struct lpsrp *x = check(L);

	lua_pushboolean(L, hga_psrp_in_whole(x->in));
	lua_pushinteger(L, hga_psrp_in_unfinished(x->in));
	return 2;
}

static const luaL_Reg psrp_methods[] = {
    {"add", psrp_add},   {"take", psrp_take},   {"feed", psrp_feed},
    {"next", psrp_next}, {"whole", psrp_whole}, {"close", psrp_close},
    {NULL, NULL}};
static const luaL_Reg tape_methods[] = {{"close", tape_close}, {NULL, NULL}};

const luaL_Reg lwinrm_codec[] = {{"decode", l_decode},
                                 {"encode", l_encode},
                                 {"escape", l_escape},
                                 {"unescape", l_unescape},
                                 {"stderr", l_stderr},
                                 {"quote", l_quote},
                                 {"whole", l_whole},
                                 {"tree", l_tree},
                                 {"capability", l_capability},
                                 {"init_pool", l_init_pool},
                                 {"create_pipeline", l_create_pipeline},
                                 {"psrp", l_psrp},
                                 {NULL, NULL}};

void lwinrm_codec_classes(lua_State *L)
{
	lb_newclass(L, TAPE_CLASS, tape_methods, NULL);
	lb_newclass(L, PSRP_CLASS, psrp_methods, NULL);
}
