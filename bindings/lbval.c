/*
 * Tape <-> Lua; see the header.  Both directions are loops over an explicit
 * stack: depth is bounded by the tape's limit, not by C's stack.
 */
#include "lbval.h"

#include "lb.h"

#include <lauxlib.h>

#include <stdio.h>
#include <string.h>

/* The tape's limit plus the root. */
#define DEPTH 130

/* ---- list metatable ---- */

#define LIST_CLASS "hgauto.list"

void lbval_pushlistmeta(lua_State *L)
{
	if (!luaL_newmetatable(L, LIST_CLASS))
		return;
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
}

static bool is_list(lua_State *L, int idx)
{
	bool is;

	if (!lua_getmetatable(L, idx))
		return false;
	luaL_getmetatable(L, LIST_CLASS);
	is = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return is;
}

/* ---- tape -> Lua ---- */

struct up {
	enum hga_vtype type;
	uint32_t left; /* children to come */
	lua_Integer i; /* last index given in a list */
};

struct writer {
	struct up at[DEPTH];
	int depth;
	bool list_meta;
	lbval_shape_fn fn;
	void *data;
};

static int size_hint(uint32_t n)
{
	return n > 1u << 20 ? 1 << 20 : (int)n;
}

static void push_container(lua_State *L, struct writer *w, enum hga_vtype type,
                           uint32_t count, uint16_t shape)
{
	struct up *u = &w->at[w->depth++];
	int n = size_hint(count);

	luaL_checkstack(L, 8, "value nested too deeply");
	u->type = type;
	u->left = count;
	u->i = 0;
	lua_createtable(L, type == HGA_V_LIST ? n : 0,
	                type == HGA_V_LIST ? 0 : n);
	if (type == HGA_V_LIST && w->list_meta) {
		lbval_pushlistmeta(L);
		lua_setmetatable(L, -2);
	}
	if (type == HGA_V_STRUCT && shape != HGA_NO_SHAPE && w->fn != NULL)
		w->fn(L, shape, w->data);
}

/* The value on top is whole: into its container, and so on outwards. */
static void store(lua_State *L, struct writer *w)
{
	struct up *u;

	for (;;) {
		if (w->depth == 0)
			return;
		u = &w->at[w->depth - 1];
		u->left--;
		if (u->type == HGA_V_LIST)
			lua_rawseti(L, -2, ++u->i);
		else if (lua_touserdata(L, -1) == NULL &&
		         lua_type(L, -1) == LUA_TLIGHTUSERDATA)
			lua_pop(L, 2); /* null: absent */
		else
			lua_rawset(L, -3);
		if (u->left > 0)
			return;
		w->depth--; /* the container is on top now */
	}
}

static bool push_scalar(lua_State *L, const struct hga_node *n,
                        struct hga_str text)
{
	switch ((enum hga_vtype)n->type) {
	case HGA_V_NONE:
	case HGA_V_NULL:
		lua_pushlightuserdata(L, NULL);
		return true;
	case HGA_V_BOOL:
		lua_pushboolean(L, n->u.i != 0);
		return true;
	case HGA_V_INT:
		lua_pushinteger(L, (lua_Integer)n->u.i);
		return true;
	case HGA_V_NUM:
		lua_pushnumber(L, n->u.d);
		return true;
	case HGA_V_STR:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
		lb_pushstr(L, text);
		return true;
	case HGA_V_EMPTY:
		lua_newtable(L);
		return true;
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
		return false;
	}
	return false;
}

void lbval_drain(lua_State *L, struct hga_vtape *t, lbval_shape_fn fn,
                 void *data)
{
	const struct hga_vnames *names = hga_vtape_names(t);
	struct writer w = {.list_meta = fn != NULL, .fn = fn, .data = data};
	const struct hga_node *n;
	struct hga_vdrain d;
	struct hga_str text = {"", 0};
	bool key = false; /* a map's key was pushed, its value comes */

	luaL_checkstack(L, 8, NULL);
	hga_vdrain_init(&d, t);
	while ((n = hga_vdrain_next(&d, &text)) != NULL) {
		const struct up *u = w.depth > 0 ? &w.at[w.depth - 1] : NULL;

		if (u != NULL && u->type == HGA_V_MAP && !key) {
			lb_pushstr(L, text);
			key = true;
			continue;
		}
		key = false;
		if (u != NULL && u->type == HGA_V_STRUCT)
			lb_pushstr(L, names->text(names, n->name));
		if (!push_scalar(L, n, text)) {
			push_container(L, &w, (enum hga_vtype)n->type,
			               n->u.c.count, n->shape);
			if (n->u.c.count > 0)
				continue;
			w.depth--;
		}
		store(L, &w);
		if (w.depth == 0)
			return;
	}
	if (w.depth == 0)
		lua_pushnil(L); /* an empty tape */
}

/* Pushes a scalar or an empty container; false: a container to walk. */
static bool push_leaf(lua_State *L, struct writer *w, struct hga_val v)
{
	enum hga_vtype type = hga_val_type(v);

	switch (type) {
	case HGA_V_NONE:
	case HGA_V_NULL:
		lua_pushlightuserdata(L, NULL);
		return true;
	case HGA_V_BOOL:
		lua_pushboolean(L, hga_val_bool(v, false));
		return true;
	case HGA_V_INT:
		lua_pushinteger(L, (lua_Integer)hga_val_int(v, 0));
		return true;
	case HGA_V_NUM:
		lua_pushnumber(L, hga_val_num(v, 0));
		return true;
	case HGA_V_STR:
	case HGA_V_SSTR:
	case HGA_V_BLOB:
		lb_pushstr(L, hga_val_str(v));
		return true;
	case HGA_V_EMPTY:
		lua_newtable(L);
		return true;
	case HGA_V_LIST:
	case HGA_V_MAP:
	case HGA_V_STRUCT:
		push_container(L, w, type, hga_val_count(v), hga_val_shape(v));
		if (hga_val_count(v) > 0)
			return false;
		w->depth--;
		return true;
	}
	return true;
}

void lbval_pushx(lua_State *L, struct hga_val v, bool list_meta)
{
	struct writer w = {.list_meta = list_meta};
	struct hga_vit its[DEPTH];
	struct hga_vit *it;
	bool leaf;

	luaL_checkstack(L, 8, NULL);
	leaf = push_leaf(L, &w, v);
	if (leaf && hga_val_is(v, HGA_V_NONE)) {
		lua_pop(L, 1);
		lua_pushnil(L);
	}
	if (!leaf)
		its[w.depth - 1] = hga_val_first(v);
	while (w.depth > 0) {
		it = &its[w.depth - 1];
		if (w.at[w.depth - 1].type != HGA_V_LIST)
			lb_pushstr(L, hga_vit_name(it));
		v = hga_vit_val(*it);
		*it = hga_val_next(*it);
		if (push_leaf(L, &w, v))
			store(L, &w);
		else
			its[w.depth - 1] = hga_val_first(v);
	}
}

void lbval_push(lua_State *L, struct hga_val v)
{
	lbval_pushx(L, v, false);
}

/* ---- Lua -> tape ---- */

/* One table being written. */
struct down {
	const void *id;
	lua_Integer i, n; /* list: position, length; map: n < 0 */
	const char *key;  /* map: current key, for the path */
};

struct reader {
	lua_State *L;
	struct hga_vtape *t;
	struct down at[DEPTH];
	int depth;
	bool borrow;
	bool secrets; /* secret objects count as strings */
};

/* Appends ".key" and "[3]" of the open tables. */
static void path_text(const struct reader *r, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	for (int i = 0; i < r->depth && n < size; i++) {
		const struct down *d = &r->at[i];
		int w;

		if (d->n >= 0)
			w = snprintf(out + n, size - n, "[%lld]",
			             (long long)d->i);
		else
			w = snprintf(out + n, size - n, "%s%s",
			             n > 0 ? "." : "", d->key ? d->key : "?");
		n += w > 0 ? (size_t)w : 0;
	}
}

static int refuse(const struct reader *r, const char *why, struct hga_err *err)
{
	char path[200];

	path_text(r, path, sizeof(path));
	return hga_fail(err, HGA_USAGE, 0, "Value", "%s%s%s", path,
	                path[0] ? ": " : "", why);
}

struct keys {
	lua_Integer ints, max;
	bool strings, others;
};

static struct keys scan_keys(lua_State *L, int idx)
{
	struct keys k = {0, 0, false, false};

	for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
		if (lua_isinteger(L, -2)) {
			lua_Integer i = lua_tointeger(L, -2);

			k.ints++;
			if (i < 1)
				k.others = true;
			if (i > k.max)
				k.max = i;
		} else if (lua_type(L, -2) == LUA_TSTRING) {
			k.strings = true;
		} else {
			k.others = true;
		}
	}
	return k;
}

static int check_table(struct reader *r, const struct keys *k,
                       struct hga_err *err)
{
	const void *id = lua_topointer(r->L, -1);

	for (int i = 0; i < r->depth; i++)
		if (r->at[i].id == id)
			return refuse(r, "the table contains itself", err);
	if (k->others)
		return refuse(r, "keys must be strings, or 1 to n", err);
	if (k->strings && k->ints > 0)
		return refuse(r, "a list with string keys", err);
	if (k->ints != k->max)
		return refuse(r, "a list with holes", err);
	if (r->depth >= DEPTH - 2)
		return refuse(r, "nested too deeply", err);
	return 0;
}

/* Opens the table on top; an empty one is written and popped. */
static int open_table(struct reader *r, struct hga_err *err)
{
	lua_State *L = r->L;
	struct down *d = &r->at[r->depth];
	struct keys k;
	int rc;

	if (!lua_checkstack(L, 8))
		return hga_fail_mem(err);
	k = scan_keys(L, lua_gettop(L));
	rc = check_table(r, &k, err);
	if (rc < 0)
		return rc;
	if (k.ints == 0 && !k.strings && !is_list(L, lua_gettop(L))) {
		lua_pop(L, 1);
		(void)hga_vt_empty(r->t, HGA_NO_NAME); /* sticks */
		return 0;
	}
	d->id = lua_topointer(L, -1);
	d->i = 0;
	d->n = k.strings ? -1 : k.ints;
	d->key = NULL;
	r->depth++;
	(void)hga_vt_open(r->t, k.strings ? HGA_V_MAP : HGA_V_LIST, HGA_NO_NAME,
	                  HGA_NO_SHAPE); /* sticks */
	if (k.strings)
		lua_pushnil(L);
	return 0;
}

static void add_text(struct reader *r)
{
	struct hga_str s;

	s.s = lua_tolstring(r->L, -1, &s.n);
	/* failures stick to the tape */
	if (r->borrow)
		(void)hga_vt_str_borrow(r->t, HGA_NO_NAME, s);
	else
		(void)hga_vt_str(r->t, HGA_NO_NAME, s);
}

/* Writes the value on top and pops it; a table stays open. */
static int add_value(struct reader *r, struct hga_err *err)
{
	lua_State *L = r->L;
	struct hga_str secret;
	char why[80];

	switch (lua_type(L, -1)) {
	case LUA_TBOOLEAN:
		(void)hga_vt_bool(r->t, HGA_NO_NAME, lua_toboolean(L, -1));
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, -1))
			(void)hga_vt_int(r->t, HGA_NO_NAME,
			                 lua_tointeger(L, -1));
		else
			(void)hga_vt_num(r->t, HGA_NO_NAME,
			                 lua_tonumber(L, -1));
		break;
	case LUA_TSTRING:
		add_text(r);
		break;
	case LUA_TLIGHTUSERDATA:
		if (lua_touserdata(L, -1) != NULL)
			return refuse(r, "a light userdata is no data", err);
		(void)hga_vt_null(r->t, HGA_NO_NAME);
		break;
	case LUA_TTABLE:
		return open_table(r, err);
	case LUA_TUSERDATA:
		if (r->secrets && lb_tosecret(L, -1, &secret)) {
			/* sticks */
			(void)hga_vt_str(r->t, HGA_NO_NAME, secret);
			break;
		}
		return refuse(r, "a userdata is no data", err);
	default:
		(void)snprintf(why, sizeof(why), "a %s is no data",
		               luaL_typename(L, -1)); /* always fits */
		return refuse(r, why, err);
	}
	lua_pop(L, 1);
	return 0;
}

/* Pushes the next element of the innermost table; false: it has ended and
 * was popped. */
static bool next_value(struct reader *r)
{
	lua_State *L = r->L;
	struct down *d = &r->at[r->depth - 1];
	struct hga_str key;

	if (d->n >= 0 && d->i < d->n) {
		lua_rawgeti(L, -1, ++d->i);
		return true;
	}
	if (d->n < 0 && lua_next(L, -2) != 0) {
		key.s = lua_tolstring(L, -2, &key.n);
		d->key = key.s;              /* the table keeps it */
		(void)hga_vt_key(r->t, key); /* sticks */
		return true;
	}
	lua_pop(L, 1);
	r->depth--;
	(void)hga_vt_close(r->t); /* sticks */
	return false;
}

static int read_value(lua_State *L, int idx, struct reader *r,
                      struct hga_err *err)
{
	int top = lua_gettop(L);
	int rc;

	if (!lua_checkstack(L, 8))
		return hga_fail_mem(err);
	lua_pushvalue(L, idx);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		lua_pushlightuserdata(L, NULL);
	}
	rc = add_value(r, err);
	while (rc == 0 && r->depth > 0)
		if (next_value(r))
			rc = add_value(r, err);
	lua_settop(L, top);
	if (rc < 0)
		return rc;
	return hga_vt_end(r->t, err);
}

int lbval_tape(lua_State *L, int idx, struct hga_vtape *t, bool borrow,
               struct hga_err *err)
{
	struct reader r = {.L = L, .t = t, .borrow = borrow};

	return read_value(L, idx, &r, err);
}

int lbval_tape_secret(lua_State *L, int idx, struct hga_vtape *t,
                      struct hga_err *err)
{
	struct reader r = {.L = L, .t = t, .secrets = true};

	return read_value(L, idx, &r, err);
}
