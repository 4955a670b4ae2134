/* Header fields between Lua and core; see the header. */
#include "lnet.h"

#include "lb.h"

#include <ctype.h>

#define MAX_FIELDS 200

struct fields {
	size_t n, max;
	struct hga_http_hdr h[];
};

/* ---- from Lua ---- */

static struct hga_str text_of(lua_State *L, int idx, const char *what)
{
	struct hga_str s = {NULL, 0};

	/* Numbers must be strings already: converting one in place would
	 * change a key under lua_next, or lose the text with the copy. */
	if (!lb_tosecret(L, idx, &s))
		(void)lb_fail(L, HGA_USAGE, "Header",
		              "headers: %s must be a string, not %s", what,
		              luaL_typename(L, idx));
	return s;
}

static void add(lua_State *L, struct fields *f, struct hga_str name,
                struct hga_str value)
{
	if (f->n >= f->max)
		(void)lb_fail(L, HGA_USAGE, "Header",
		              "headers: more than %d fields", MAX_FIELDS);
	f->h[f->n].name = name;
	f->h[f->n].value = value;
	f->n++;
}

/* A value at the top of the stack: text, number, or list of texts. */
static void add_value(lua_State *L, struct fields *f, struct hga_str name,
                      int keep)
{
	lua_Integer i, n;

	if (lua_type(L, -1) == LUA_TNUMBER) {
		/* The converted text is kept in the list at keep. */
		lua_pushvalue(L, -1);
		lua_tostring(L, -1);
		lua_pushvalue(L, -1);
		lua_rawseti(L, keep, (lua_Integer)lua_rawlen(L, keep) + 1);
		add(L, f, name, text_of(L, -1, "a value"));
		lua_pop(L, 1);
		return;
	}
	if (!lua_istable(L, -1)) {
		add(L, f, name, text_of(L, -1, "a value"));
		return;
	}
	n = (lua_Integer)lua_rawlen(L, -1);
	for (i = 1; i <= n; i++) {
		lua_rawgeti(L, -1, i);
		add(L, f, name, text_of(L, -1, "a value"));
		lua_pop(L, 1);
	}
}

/* The list of {name, value} at idx. */
static void read_list(lua_State *L, int idx, struct fields *f, int keep)
{
	lua_Integer i, n = (lua_Integer)lua_rawlen(L, idx);

	for (i = 1; i <= n; i++) {
		if (lua_rawgeti(L, idx, i) != LUA_TTABLE)
			(void)lb_fail(L, HGA_USAGE, "Header",
			              "headers: element %d must be "
			              "{name, value}",
			              (int)i);
		lua_rawgeti(L, -1, 1);
		lua_rawgeti(L, -2, 2);
		add_value(L, f, text_of(L, -2, "a name"), keep);
		lua_pop(L, 3);
	}
}

static void read_map(lua_State *L, int idx, struct fields *f, int keep)
{
	for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			(void)lb_fail(L, HGA_USAGE, "Header",
			              "headers: names and a list are mixed");
		add_value(L, f, text_of(L, -2, "a name"), keep);
	}
}

/* Insertion sort: few fields, and equal names must keep their order. */
static void sort_fields(struct fields *f)
{
	struct hga_http_hdr h;
	size_t i, k;

	for (i = 1; i < f->n; i++) {
		h = f->h[i];
		for (k = i; k > 0 && hga_str_cmp(f->h[k - 1].name, h.name) > 0;
		     k--)
			f->h[k] = f->h[k - 1];
		f->h[k] = h;
	}
}

const struct hga_http_hdr *lnet_headers(lua_State *L, int idx, size_t *n)
{
	struct fields *f;
	size_t size = sizeof(*f) + MAX_FIELDS * sizeof(f->h[0]);
	int keep;

	*n = 0;
	if (lua_isnoneornil(L, idx)) {
		lua_pushnil(L);
		return NULL;
	}
	idx = lua_absindex(L, idx);
	if (!lua_istable(L, idx))
		(void)lb_fail(L, HGA_USAGE, "Header",
		              "headers: a table expected, got %s",
		              luaL_typename(L, idx));
	luaL_checkstack(L, 10, NULL);
	f = lua_newuserdatauv(L, size, 1);
	f->n = 0;
	f->max = MAX_FIELDS;
	lua_newtable(L);
	keep = lua_gettop(L);
	if (lua_rawlen(L, idx) > 0) {
		read_list(L, idx, f, keep);
	} else {
		read_map(L, idx, f, keep);
		sort_fields(f);
	}
	lua_setiuservalue(L, -2, 1);
	*n = f->n;
	return f->h;
}

/* ---- to Lua ---- */

static void push_lower(lua_State *L, struct hga_str s)
{
	luaL_Buffer b;
	char *p = luaL_buffinitsize(L, &b, s.n);
	size_t i;

	for (i = 0; i < s.n; i++)
		p[i] = (char)tolower((unsigned char)s.s[i]);
	luaL_pushresultsize(&b, s.n);
}

void lnet_pushheaders(lua_State *L, const struct hga_http_hdr *h, size_t n)
{
	int map, list;
	size_t i;

	luaL_checkstack(L, 8, NULL);
	lua_createtable(L, 0, (int)(n < 100 ? n : 100));
	map = lua_gettop(L);
	lua_createtable(L, (int)(n < 100 ? n : 100), 0);
	list = map + 1;
	for (i = 0; i < n; i++) {
		lua_createtable(L, 2, 0);
		lb_pushstr(L, h[i].name);
		lua_rawseti(L, -2, 1);
		lb_pushstr(L, h[i].value);
		lua_rawseti(L, -2, 2);
		lua_rawseti(L, list, (lua_Integer)i + 1);
		push_lower(L, h[i].name);
		lua_pushvalue(L, -1);
		if (lua_rawget(L, map) == LUA_TNIL) {
			lua_pop(L, 1);
			lb_pushstr(L, h[i].value);
		} else {
			lua_pushliteral(L, ", ");
			lb_pushstr(L, h[i].value);
			lua_concat(L, 3);
		}
		lua_rawset(L, map);
	}
}
