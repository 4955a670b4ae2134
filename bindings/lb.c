/*
 * Helpers of every binding; see the header.  Error tables: architecture
 * section 7.  The error class lives here since C raises most of them.
 */
#include "lb.h"

#include "host.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/time.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERR_CLASS "hgauto.error"
#define OP_CLASS "hgauto.op"
#define SECRET_CLASS "hgauto.secret"

/* ---- errors ---- */

/* Pushes the message with line breaks made blanks. */
static void push_oneline(lua_State *L, const char *s, size_t n)
{
	luaL_Buffer b;
	bool blank = false;

	luaL_buffinit(L, &b);
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\n' || s[i] == '\r' ||
		    (blank && (s[i] == ' ' || s[i] == '\t'))) {
			blank = true;
			continue;
		}
		if (blank && i > 0)
			luaL_addchar(&b, ' ');
		blank = false;
		luaL_addchar(&b, s[i]);
	}
	luaL_pushresult(&b);
}

static int err_tostring(lua_State *L)
{
	size_t n;
	const char *s;

	lua_settop(L, 1);
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_pushliteral(L, "message");
	lua_rawget(L, 1);
	s = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &n) : NULL;
	if (s == NULL) {
		lua_pushliteral(L, "kind");
		lua_rawget(L, 1);
		if (lua_type(L, 3) != LUA_TSTRING)
			lua_pushliteral(L, "error");
		return 1;
	}
	push_oneline(L, s, n);
	return 1;
}

static int err_concat(lua_State *L)
{
	luaL_tolstring(L, 1, NULL);
	luaL_tolstring(L, 2, NULL);
	lua_concat(L, 2);
	return 1;
}

/* Text of a field of the error at 1, empty if it has none. */
static struct hga_str err_field(lua_State *L, const char *name)
{
	struct hga_str r = {"", 0};

	lua_pushstring(L, name);
	lua_rawget(L, 1);
	if (lua_type(L, -1) == LUA_TSTRING)
		r.s = lua_tolstring(L, -1, &r.n);
	return r; /* the field stays on the stack */
}

/// Whether the code (or the kind) of an error matches a glob.
// @param glob string e.g. "Invalid*.NotFound"
// @return boolean
static int err_is(lua_State *L)
{
	struct hga_str glob = lb_checkstr(L, 2);
	bool is;

	luaL_checktype(L, 1, LUA_TTABLE);
	is = hga_str_glob(glob, err_field(L, "code")) ||
	     hga_str_eq(glob, err_field(L, "kind"));
	lua_pushboolean(L, is);
	return 1;
}

static const luaL_Reg err_methods[] = {{"is", err_is}, {NULL, NULL}};

/* Pushes the metatable of errors, made at the first use. */
static void push_errmeta(lua_State *L)
{
	if (!luaL_newmetatable(L, ERR_CLASS))
		return;
	luaL_newlib(L, err_methods);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, err_tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pushcfunction(L, err_concat);
	lua_setfield(L, -2, "__concat");
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
}

void lb_pusherrmethods(lua_State *L)
{
	push_errmeta(L);
	lua_getfield(L, -1, "__index");
	lua_remove(L, -2);
}

void lb_seterrmeta(lua_State *L, int idx)
{
	idx = lua_absindex(L, idx);
	push_errmeta(L);
	lua_setmetatable(L, idx);
}

bool lb_iserr(lua_State *L, int idx)
{
	bool is;

	if (!lua_istable(L, idx) || !lua_getmetatable(L, idx))
		return false;
	luaL_getmetatable(L, ERR_CLASS);
	is = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return is;
}

enum hga_kind lb_errkind(lua_State *L, int idx)
{
	enum hga_kind kind = HGA_OK;

	if (!lua_istable(L, idx))
		return HGA_OK;
	idx = lua_absindex(L, idx);
	lua_pushliteral(L, "kind");
	lua_rawget(L, idx);
	if (lua_type(L, -1) == LUA_TSTRING)
		kind = hga_kind_find(lua_tostring(L, -1));
	lua_pop(L, 1);
	return kind;
}

void lb_pusherr(lua_State *L, const struct hga_err *err)
{
	enum hga_kind kind = err->kind == HGA_OK ? HGA_BUG : err->kind;

	luaL_checkstack(L, 5, NULL);
	lua_createtable(L, 0, 5);
	lua_pushstring(L, hga_kind_name(kind));
	lua_setfield(L, -2, "kind");
	if (err->code[0] != '\0') {
		lua_pushstring(L, err->code);
		lua_setfield(L, -2, "code");
	}
	lua_pushstring(L, err->msg[0] ? err->msg : hga_kind_name(kind));
	lua_setfield(L, -2, "message");
	if (err->sys != 0) {
		lua_pushinteger(L, err->sys);
		lua_setfield(L, -2, "sys");
	}
	lb_seterrmeta(L, -1);
}

int lb_raise(lua_State *L, const struct hga_err *err)
{
	lb_pusherr(L, err);
	return lua_error(L);
}

int lb_fail(lua_State *L, enum hga_kind kind, const char *code, const char *fmt,
            ...)
{
	struct hga_err err;
	va_list ap;

	va_start(ap, fmt);
	(void)hga_vfail(&err, kind, 0, code, fmt, ap); /* fills err only */
	va_end(ap);
	return lb_raise(L, &err);
}

/* Frames of our own library are passed over when there are others. */
bool lb_pushwhere(lua_State *L)
{
	static const char ours[] = "@hgauto:lib/";
	lua_Debug ar;
	bool found = false;

	memset(&ar, 0, sizeof(ar));
	for (int level = 0; lua_getstack(L, level, &ar); level++) {
		bool lib;

		if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0)
			continue;
		lib = strncmp(ar.source, ours, sizeof(ours) - 1) == 0;
		if (found && lib)
			continue;
		if (found)
			lua_pop(L, 1);
		lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
		found = true;
		if (!lib)
			break;
	}
	return found;
}

int lb_fail_at(lua_State *L, enum hga_kind kind, const char *code,
               const char *fmt, ...)
{
	struct hga_err err;
	va_list ap;

	va_start(ap, fmt);
	(void)hga_vfail(&err, kind, 0, code, fmt, ap); /* fills err only */
	va_end(ap);
	luaL_checkstack(L, 4, NULL);
	if (!lb_pushwhere(L))
		return lb_raise(L, &err);
	hga_err_prefix(&err, "%s", lua_tostring(L, -1));
	lb_pusherr(L, &err);
	lua_pushvalue(L, -2);
	lua_setfield(L, -2, "where");
	return lua_error(L);
}

int lb_usage(lua_State *L, int arg, const char *fmt, ...)
{
	struct hga_err err;
	lua_Debug ar;
	va_list ap;

	va_start(ap, fmt);
	(void)hga_vfail(&err, HGA_USAGE, 0, NULL, fmt, ap); /* fills err only */
	va_end(ap);
	memset(&ar, 0, sizeof(ar));
	if (lua_getstack(L, 0, &ar) && lua_getinfo(L, "n", &ar) &&
	    ar.name != NULL)
		hga_err_prefix(&err, "bad argument %d to %s", arg, ar.name);
	else
		hga_err_prefix(&err, "bad argument %d", arg);
	return lb_raise(L, &err);
}

/* The list at `list` (absolute) holds the value at idx. */
static bool list_has(lua_State *L, int list, int idx)
{
	bool has = false;

	for (lua_Integer i = 1; !has; i++) {
		int type = lua_rawgeti(L, list, i);

		has = type != LUA_TNIL && lua_rawequal(L, -1, idx);
		lua_pop(L, 1);
		if (type == LUA_TNIL)
			break;
	}
	return has;
}

/* Appends the value on top (popped) to the list at 3, not error 1 itself. */
static void list_add(lua_State *L)
{
	size_t n = (size_t)lua_rawlen(L, 3);

	if (n >= 100 || lua_rawequal(L, 1, -1) ||
	    list_has(L, 3, lua_gettop(L))) {
		lua_pop(L, 1);
		return;
	}
	lua_rawseti(L, 3, (lua_Integer)n + 1);
}

/* (first, other): see lb_adderr; protected. */
static int add_err(lua_State *L)
{
	lua_settop(L, 2);
	lua_getfield(L, 1, "suppressed");
	if (!lua_istable(L, 3)) {
		lua_newtable(L);
		lua_replace(L, 3);
	}
	if (lb_errkind(L, 2) != HGA_CANCELLED) {
		lua_pushvalue(L, 2);
		list_add(L);
	}
	if (lb_iserr(L, 2) && lua_getfield(L, 2, "suppressed") == LUA_TTABLE) {
		for (lua_Integer i = 1; lua_rawgeti(L, 4, i) != LUA_TNIL; i++)
			list_add(L);
		lua_pushnil(L);
		lua_setfield(L, 2, "suppressed");
	}
	if (lua_rawlen(L, 3) == 0)
		return 0;
	lua_pushvalue(L, 3);
	lua_setfield(L, 1, "suppressed");
	return 0;
}

void lb_adderr(lua_State *L, int first, int idx)
{
	first = lua_absindex(L, first);
	idx = lua_absindex(L, idx);
	if (!lua_checkstack(L, 4) || !lb_iserr(L, first) ||
	    lua_rawequal(L, first, idx))
		return;
	lua_pushcfunction(L, add_err);
	lua_pushvalue(L, first);
	lua_pushvalue(L, idx);
	if (lua_pcall(L, 2, 0, 0) != LUA_OK)
		lua_pop(L, 1); /* no memory: dropped */
}

/* ---- classes ---- */

static const luaL_Reg *find_method(const luaL_Reg *list, const char *name)
{
	for (; list != NULL && list->name != NULL; list++)
		if (strcmp(list->name, name) == 0)
			return list;
	return NULL;
}

/*
 * __close of every class: calls its close method; an error of the method
 * joins the error that is unwinding instead of replacing it.
 */
static int class_closed(lua_State *L, int status, lua_KContext ctx)
{
	(void)ctx; /* no state */
	if (status == LUA_OK || status == LUA_YIELD)
		return 0;
	if (lua_isnil(L, 2))
		return lua_error(L);
	if (lb_iserr(L, 2))
		lb_adderr(L, 2, -1);
	return 0;
}

static int class_close(lua_State *L)
{
	lua_settop(L, 2);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushvalue(L, 1);
	return class_closed(L, lua_pcallk(L, 1, 0, 0, 0, class_closed), 0);
}

void lb_newclass(lua_State *L, const char *tname, const luaL_Reg *methods,
                 const luaL_Reg *meta)
{
	const luaL_Reg *close = find_method(methods, "close");

	luaL_checkstack(L, 4, NULL);
	if (!luaL_newmetatable(L, tname)) {
		lua_pop(L, 1);
		return;
	}
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	if (close != NULL) {
		lua_pushcfunction(L, close->func);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, close->func);
		lua_pushcclosure(L, class_close, 1);
		lua_setfield(L, -2, "__close");
	}
	if (meta != NULL)
		luaL_setfuncs(L, meta, 0);
	if (find_method(meta, "__index") == NULL) {
		lua_newtable(L);
		if (methods != NULL)
			luaL_setfuncs(L, methods, 0);
		lua_setfield(L, -2, "__index");
	}
	lua_rawsetp(L, LUA_REGISTRYINDEX, tname); /* see push_class */
}

/* Each method call asks for a class: the address of its name finds it faster
 * than the name, which another file may have written down, too. */
static void push_class(lua_State *L, const char *tname)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, tname) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	luaL_getmetatable(L, tname);
}

void *lb_newobj(lua_State *L, size_t size, int nuv, const char *tname)
{
	void *p;

	luaL_checkstack(L, 3, NULL);
	p = lua_newuserdatauv(L, size ? size : 1, nuv);
	memset(p, 0, size ? size : 1);
	push_class(L, tname);
	lua_setmetatable(L, -2);
	return p;
}

void *lb_test(lua_State *L, int idx, const char *tname)
{
	void *p = lua_touserdata(L, idx);

	if (p == NULL || !lua_getmetatable(L, idx))
		return NULL;
	push_class(L, tname);
	if (!lua_rawequal(L, -1, -2))
		p = NULL;
	lua_pop(L, 2);
	return p;
}

/* Name of the class or type at idx; pushes what keeps it alive. */
static const char *type_name(lua_State *L, int idx)
{
	if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
		return lua_tostring(L, -1);
	return lua_isnone(L, idx) ? "no value" : luaL_typename(L, idx);
}

void *lb_check(lua_State *L, int idx, const char *tname)
{
	void *p = lb_test(L, idx, tname);
	const char *got;

	if (p != NULL)
		return p;
	got = type_name(L, idx);
	if (idx == 1 && !lua_isuserdata(L, idx))
		(void)lb_fail_at(L, HGA_USAGE, "Self",
		                 "call it with a colon: expected %s, got %s",
		                 tname, got);
	(void)lb_usage(L, idx, "%s expected, got %s", tname, got);
	return NULL;
}

/* ---- operations ---- */

/* Behind the caller's struct in the userdata. */
struct op_tail {
	void (*release)(struct hga_op *);
	bool ended;
};

static size_t tail_at(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

static struct op_tail *op_tail(lua_State *L, int idx)
{
	size_t n = (size_t)lua_rawlen(L, idx);
	char *p = lua_touserdata(L, idx);

	return (struct op_tail *)(void *)(p + n - sizeof(struct op_tail));
}

static void op_end(struct hga_op *op, struct op_tail *tail)
{
	if (tail->ended)
		return;
	tail->ended = true;
	hga_op_cancel(op);
	if (tail->release != NULL)
		tail->release(op);
}

static int op_gc(lua_State *L)
{
	op_end(lua_touserdata(L, 1), op_tail(L, 1));
	return 0;
}

static const luaL_Reg op_meta[] = {{"__gc", op_gc}, {NULL, NULL}};

void lb_openops(lua_State *L)
{
	lb_newclass(L, OP_CLASS, NULL, op_meta);
}

void *lb_newop(lua_State *L, size_t size, void (*release)(struct hga_op *))
{
	size_t all = tail_at(size) + tail_at(sizeof(struct op_tail));
	void *p;

	p = lb_newobj(L, all, 1, OP_CLASS);
	op_tail(L, -1)->release = release;
	return p;
}

void lb_endop(lua_State *L, struct hga_op *op)
{
	for (int i = lua_gettop(L); i > 0; i--) {
		if (lua_touserdata(L, i) != (void *)op)
			continue;
		op_end(op, op_tail(L, i));
		return;
	}
	hga_op_cancel(op);
}

/* ---- option tables ---- */

static const struct lb_opt *find_opt(const struct lb_opt *defs,
                                     struct hga_str name)
{
	for (; defs->name != NULL; defs++)
		if (hga_str_eqc(name, defs->name))
			return defs;
	return NULL;
}

static int unknown_opt(lua_State *L, const char *what,
                       const struct lb_opt *defs, struct hga_str name)
{
	size_t limit = name.n / 3 > 1 ? name.n / 3 : 1;
	const char *best = NULL;

	for (const struct lb_opt *d = defs; d->name != NULL; d++) {
		size_t dist = hga_str_distance(name, hga_str(d->name));

		if (dist > limit || (best != NULL && dist == limit))
			continue;
		best = d->name;
		limit = dist;
	}
	if (best == NULL)
		return lb_fail(L, HGA_USAGE, "UnknownOption",
		               "%s: unknown option %.*s", what, HGA_STRF(name));
	return lb_fail(L, HGA_USAGE, "UnknownOption",
	               "%s: unknown option %.*s; did you mean %s?", what,
	               HGA_STRF(name), best);
}

static int wrong_type(lua_State *L, const char *what, const char *name,
                      const char *want)
{
	const char *got = luaL_typename(L, -1);

	return lb_fail(L, HGA_USAGE, "OptionType",
	               "%s: option %s must be %s, not %s", what, name, want,
	               got);
}

static bool to_ms(lua_State *L, int idx, int64_t *ms)
{
	struct hga_str s;
	lua_Number v;

	if (lua_type(L, idx) == LUA_TSTRING) {
		s.s = lua_tolstring(L, idx, &s.n);
		return hga_duration_parse(s, ms);
	}
	if (lua_type(L, idx) != LUA_TNUMBER)
		return false;
	v = lua_tonumber(L, idx);
	if (!(v >= 0 && v <= 3.2e9))
		return false;
	*ms = (int64_t)(v * 1000 + 0.5);
	return true;
}

int64_t lb_checkms(lua_State *L, int idx)
{
	int64_t ms = 0;

	if (!to_ms(L, idx, &ms))
		(void)lb_usage(L, idx,
		               "expected seconds or a duration such as 90s or "
		               "20m, got %s",
		               lua_isnone(L, idx) ? "no value"
		                                  : luaL_typename(L, idx));
	return ms;
}

static const char *const opt_types[] = {
    [LB_BOOL] = "true or false",
    [LB_INT] = "an integer",
    [LB_NUM] = "a number",
    [LB_MS] = "seconds or a duration such as 90s or 20m",
    [LB_STR] = "a string",
    [LB_CSTR] = "a string without zero bytes",
    [LB_FUNC] = "a function",
    [LB_TABLE] = "a table",
    [LB_ANY] = "a value",
};

static bool opt_text(lua_State *L, bool cstr, void *at)
{
	struct hga_str s;

	if (lua_type(L, -1) != LUA_TSTRING)
		return false;
	s.s = lua_tolstring(L, -1, &s.n);
	if (cstr && strlen(s.s) != s.n)
		return false;
	if (cstr)
		*(const char **)at = s.s;
	else
		*(struct hga_str *)at = s;
	return true;
}

static bool opt_number(lua_State *L, enum lb_opttype type, void *at)
{
	int isnum = 0;

	if (lua_type(L, -1) != LUA_TNUMBER)
		return false;
	if (type == LB_INT)
		*(int64_t *)at = lua_tointegerx(L, -1, &isnum);
	else
		*(double *)at = lua_tonumberx(L, -1, &isnum);
	return isnum != 0;
}

/* Value on top into *at; false: wrong type. */
static bool read_opt(lua_State *L, enum lb_opttype type, void *at)
{
	switch (type) {
	case LB_BOOL:
		if (!lua_isboolean(L, -1))
			return false;
		*(bool *)at = lua_toboolean(L, -1);
		return true;
	case LB_INT:
	case LB_NUM:
		return opt_number(L, type, at);
	case LB_MS:
		return to_ms(L, -1, at);
	case LB_STR:
	case LB_CSTR:
		return opt_text(L, type == LB_CSTR, at);
	case LB_FUNC:
		*(int *)at = lua_isfunction(L, -1);
		return lua_isfunction(L, -1);
	case LB_TABLE:
		*(int *)at = lua_istable(L, -1);
		return lua_istable(L, -1);
	case LB_ANY:
		*(int *)at = 1;
		return true;
	}
	return false;
}

void lb_opts(lua_State *L, int idx, const char *what, const struct lb_opt *defs,
             void *out)
{
	if (lua_isnoneornil(L, idx))
		return;
	if (!lua_istable(L, idx))
		(void)lb_usage(L, idx, "%s: options must be a table, not %s",
		               what, luaL_typename(L, idx));
	idx = lua_absindex(L, idx);
	luaL_checkstack(L, 5, NULL);
	for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
		const struct lb_opt *d;
		struct hga_str name;

		if (lua_type(L, -2) != LUA_TSTRING)
			(void)lb_fail(L, HGA_USAGE, "UnknownOption",
			              "%s: option names are strings, not %s",
			              what, luaL_typename(L, -2));
		name.s = lua_tolstring(L, -2, &name.n);
		d = find_opt(defs, name);
		if (d == NULL)
			(void)unknown_opt(L, what, defs, name);
		else if (!read_opt(L, d->type, (char *)out + d->off))
			(void)wrong_type(L, what, d->name, opt_types[d->type]);
	}
}

const char **lb_strlist(lua_State *L, int idx, const char *what, size_t *n)
{
	const char **list;
	size_t len;
	lua_Unsigned count;

	if (!lua_istable(L, idx))
		(void)lb_fail(L, HGA_USAGE, NULL, "%s: a list expected, got %s",
		              what, luaL_typename(L, idx));
	idx = lua_absindex(L, idx);
	count = lua_rawlen(L, idx);
	if (count > 1000000)
		(void)lb_fail(L, HGA_USAGE, NULL, "%s: list too long", what);
	list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof(*list), 0);
	for (lua_Unsigned i = 1; i <= count; i++) {
		lua_rawgeti(L, idx, (lua_Integer)i);
		if (lua_type(L, -1) != LUA_TSTRING)
			(void)lb_fail(L, HGA_USAGE, NULL,
			              "%s: element %d must be a string, not %s",
			              what, (int)i, luaL_typename(L, -1));
		list[i - 1] = lua_tolstring(L, -1, &len);
		if (strlen(list[i - 1]) != len)
			(void)lb_fail(L, HGA_USAGE, NULL,
			              "%s: element %d contains a zero byte",
			              what, (int)i);
		lua_pop(L, 1);
	}
	list[count] = NULL;
	*n = (size_t)count;
	return list;
}

/* (buffer, skip): protected, since the buffer must be released after a
 * failure. */
static int push_text(lua_State *L)
{
	struct hga_buf *b = lua_touserdata(L, 1);
	size_t skip = (size_t)lua_tointeger(L, 2);

	if (!host_push_large(L, b, skip))
		lua_pushlstring(L, hga_buf_text(b) + skip, b->len - skip);
	return 1;
}

static bool try_pushbuf(lua_State *L, struct hga_buf *b, size_t skip)
{
	if (!lua_checkstack(L, 4))
		return false;
	lua_pushcfunction(L, push_text);
	lua_pushlightuserdata(L, b);
	lua_pushinteger(L, (lua_Integer)(skip < b->len ? skip : b->len));
	if (lua_pcall(L, 2, 1, 0) == LUA_OK)
		return true;
	host_of(L)->given = NULL;
	lua_pop(L, 1);
	return false;
}

bool lb_trypushbuf(lua_State *L, struct hga_buf *b)
{
	bool pushed = try_pushbuf(L, b, 0);

	hga_buf_release(b);
	return pushed;
}

void lb_pushbuf_after(lua_State *L, struct hga_buf *b, size_t skip)
{
	bool pushed = try_pushbuf(L, b, skip);

	hga_buf_release(b);
	if (!pushed)
		(void)lb_fail(L, HGA_MEMORY, "NoMemory", "out of memory");
}

void lb_pushbuf(lua_State *L, struct hga_buf *b)
{
	lb_pushbuf_after(L, b, 0);
}

void lb_pushbuf_secret(lua_State *L, struct hga_buf *b)
{
	bool pushed = try_pushbuf(L, b, 0);

	hga_buf_release_secret(b);
	if (!pushed)
		(void)lb_fail(L, HGA_MEMORY, "NoMemory", "out of memory");
}

/* ---- secrets ---- */

struct secret {
	size_t n;
	char *text;
};

static int secret_wipe(lua_State *L)
{
	struct secret *s = luaL_testudata(L, 1, SECRET_CLASS);

	if (s == NULL || s->text == NULL)
		return 0;
	hga_wipe(s->text, s->n);
	hga_free(s->text);
	s->text = NULL;
	s->n = 0;
	return 0;
}

/// The text of a secret.
// @return string
static int secret_reveal(lua_State *L)
{
	struct secret *s = lb_check(L, 1, SECRET_CLASS);

	lua_pushlstring(L, s->text ? s->text : "", s->n);
	return 1;
}

/// Length of a secret in bytes.
// @return integer
static int secret_len(lua_State *L)
{
	struct secret *s = lb_check(L, 1, SECRET_CLASS);

	lua_pushinteger(L, (lua_Integer)s->n);
	return 1;
}

static int secret_tostring(lua_State *L)
{
	lua_pushliteral(L, "***");
	return 1;
}

static const luaL_Reg secret_methods[] = {
    {"reveal", secret_reveal}, {"len", secret_len}, {NULL, NULL}};
static const luaL_Reg secret_meta[] = {{"__gc", secret_wipe},
                                       {"__tostring", secret_tostring},
                                       {"__len", secret_len},
                                       {NULL, NULL}};

void lb_pushsecret(lua_State *L, struct hga_str text)
{
	struct secret *s;

	lb_newclass(L, SECRET_CLASS, secret_methods, secret_meta);
	s = lb_newobj(L, sizeof(*s), 0, SECRET_CLASS);
	s->text = hga_memdup0(text.s ? text.s : "", text.n);
	if (s->text == NULL)
		(void)lb_fail(L, HGA_MEMORY, "NoMemory", "out of memory");
	s->n = text.n;
	hga_log_secret(text);
}

bool lb_tosecret(lua_State *L, int idx, struct hga_str *out)
{
	struct secret *s = luaL_testudata(L, idx, SECRET_CLASS);

	if (s != NULL) {
		*out = hga_strn(s->text ? s->text : "", s->n);
		return true;
	}
	if (lua_type(L, idx) != LUA_TSTRING)
		return false;
	out->s = lua_tolstring(L, idx, &out->n);
	return true;
}
