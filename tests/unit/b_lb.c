/* Helpers of the bindings: options, operations, errors, values. */
#include "tap.h"

#include "host.h"
#include "lb.h"
#include "lbval.h"

#include "base/mem.h"

#include <lauxlib.h>
#include <lualib.h>

/* ---- options ---- */

struct opts {
	bool flag;
	int64_t n, ms;
	double x;
	struct hga_str s;
	const char *c;
	int fn, table, any;
};

static const struct lb_opt opt_defs[] = {
    {"flag", LB_BOOL, offsetof(struct opts, flag)},
    {"n", LB_INT, offsetof(struct opts, n)},
    {"time", LB_MS, offsetof(struct opts, ms)},
    {"x", LB_NUM, offsetof(struct opts, x)},
    {"s", LB_STR, offsetof(struct opts, s)},
    {"cstr", LB_CSTR, offsetof(struct opts, c)},
    {"fn", LB_FUNC, offsetof(struct opts, fn)},
    {"table", LB_TABLE, offsetof(struct opts, table)},
    {"any", LB_ANY, offsetof(struct opts, any)},
    {NULL, LB_BOOL, 0}};

static int read_opts(lua_State *L)
{
	struct opts *o = lua_touserdata(L, lua_upvalueindex(1));

	lb_opts(L, 1, "test", opt_defs, o);
	return 0;
}

/* Runs `read{...}`; NULL or the error's text. */
static const char *with_opts(lua_State *L, struct opts *o, const char *table)
{
	memset(o, 0, sizeof(*o));
	lua_settop(L, 0);
	lua_pushlightuserdata(L, o);
	lua_pushcclosure(L, read_opts, 1);
	if (luaL_dostring(L, lua_pushfstring(L, "return %s", table)) != LUA_OK)
		return lua_tostring(L, -1);
	lua_remove(L, 2);
	if (lua_pcall(L, 1, 0, 0) == LUA_OK)
		return NULL;
	return luaL_tolstring(L, -1, NULL);
}

static void test_opts(lua_State *L)
{
	struct opts o;

	is_str(with_opts(L, &o,
	                 "{flag=true,n=5,time='1m30s',x=1.5,s='a\\0b',cstr='c',"
	                 "fn=print,table={},any=false}"),
	       NULL, "all types are read");
	ok(o.flag && o.n == 5 && o.ms == 90000 && o.x > 1.4 && o.s.n == 3 &&
	       o.fn == 1 && o.table == 1 && o.any == 1,
	   "values arrive");
	is_str(with_opts(L, &o, "{time=0.25}"), NULL, "seconds as number");
	is_int(o.ms, 250, "become milliseconds");
	is_str(with_opts(L, &o, "nil"), NULL, "no table is fine");
	is_str(with_opts(L, &o, "{tabel={}}"),
	       "test: unknown option tabel; did you mean table?", "unknown");
	is_str(with_opts(L, &o, "{zzzzzz=1}"), "test: unknown option zzzzzz",
	       "nothing near");
	is_str(with_opts(L, &o, "{1}"),
	       "test: option names are strings, not number", "list");
	is_str(with_opts(L, &o, "{n='5'}"),
	       "test: option n must be an integer, not string", "type");
	is_str(with_opts(L, &o, "{n=1.5}"),
	       "test: option n must be an integer, not number", "fraction");
	is_str(with_opts(L, &o, "{cstr='a\\0b'}"),
	       "test: option cstr must be a string without zero bytes, not "
	       "string",
	       "zero byte");
	ok(with_opts(L, &o, "{time=-1}") != NULL, "negative time");
	ok(with_opts(L, &o, "{time=0/0}") != NULL, "nan as time");
	ok(with_opts(L, &o, "{time='soon'}") != NULL, "no duration");
	ok(with_opts(L, &o, "5") != NULL, "no table at all");
}

/* ---- operations ---- */

struct fake {
	struct hga_op op;
	char pad[37];
};

static int released, cancelled;

static void on_release(struct hga_op *op)
{
	(void)op;
	released++;
}

static void on_cancel(struct hga_op *op)
{
	cancelled++;
	hga_op_drop(op);
}

static void test_op(lua_State *L)
{
	struct fake *f;

	lua_settop(L, 0);
	f = lb_newop(L, sizeof(*f), on_release);
	ok(lua_touserdata(L, 1) == (void *)f && f->pad[36] == 0,
	   "the userdata is the zeroed struct");
	hga_op_begin(&f->op, on_cancel);
	lb_endop(L, &f->op);
	lb_endop(L, &f->op);
	ok(cancelled == 1 && released == 1, "lb_endop ends once");
	lua_settop(L, 0);
	lua_gc(L, LUA_GCCOLLECT);
	ok(cancelled == 1 && released == 1, "the collector does not again");
	f = lb_newop(L, sizeof(*f), on_release);
	hga_op_begin(&f->op, on_cancel);
	lua_settop(L, 0);
	lua_gc(L, LUA_GCCOLLECT);
	ok(cancelled == 2 && released == 2, "a lost one is cancelled");
}

/* ---- errors ---- */

static void push_error(lua_State *L, enum hga_kind kind, const char *code)
{
	struct hga_err err;

	(void)hga_fail(&err, kind, 0, code, "%s", code);
	lb_pusherr(L, &err);
}

static const char *nth(lua_State *L, int idx, int i)
{
	const char *code;

	lua_getfield(L, idx, "suppressed");
	lua_geti(L, -1, i);
	if (!lua_istable(L, -1)) {
		lua_pop(L, 2);
		return NULL;
	}
	lua_getfield(L, -1, "code");
	code = lua_tostring(L, -1);
	lua_pop(L, 3);
	return code;
}

static void test_err(lua_State *L)
{
	lua_settop(L, 0);
	push_error(L, HGA_TASK, "First");
	push_error(L, HGA_CANCELLED, "Gone");
	push_error(L, HGA_IO, "Inner");
	push_error(L, HGA_IO, "Second");
	lb_adderr(L, 2, 3);
	lb_adderr(L, 1, 2);
	is_str(nth(L, 1, 1), "Inner", "of cancelled only what it suppresses");
	lb_adderr(L, 1, 4);
	lb_adderr(L, 1, 4);
	lb_adderr(L, 1, 1);
	is_str(nth(L, 1, 2), "Second", "an error is appended");
	is_str(nth(L, 1, 3), NULL, "once, and never to itself");
	ok(lb_errkind(L, 2) == HGA_CANCELLED &&
	       lb_errkind(L, lua_gettop(L) + 1) == HGA_OK,
	   "kinds");
	lua_pushnil(L);
	ok(!lb_iserr(L, -1), "nil is no error");
}

/* ---- values ---- */

static const char value_text[] =
    "return {a={1,2,{x='y'}},b={},c='s',d=1.5,e=true,"
    "f={{},{{}}},long=('z'):rep(100)}";

static struct hga_vtape *tape_of(lua_State *L, int idx, bool borrow)
{
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 24);
	struct hga_err err;

	if (t != NULL && lbval_tape(L, idx, t, borrow, &err) < 0) {
		hga_vtape_free(t);
		return NULL;
	}
	return t;
}

/* Both values to tapes and compared there. */
static bool same(lua_State *L, int a, int b)
{
	struct hga_vtape *ta = tape_of(L, a, false);
	struct hga_vtape *tb = tape_of(L, b, false);
	bool r = ta != NULL && tb != NULL &&
	         hga_val_equal(hga_vtape_root(ta), hga_vtape_root(tb));

	hga_vtape_free(ta);
	hga_vtape_free(tb);
	return r;
}

static void build_struct(struct hga_vtape *t)
{
	(void)hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	(void)hga_vt_null(t, HGA_NO_NAME);
	(void)hga_vt_open(t, HGA_V_STRUCT, HGA_NO_NAME, 7);
	(void)hga_vt_str(t, 0, hga_str("v0"));
	(void)hga_vt_null(t, 1);
	(void)hga_vt_int(t, 2, 5);
	(void)hga_vt_close(t);
	(void)hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	(void)hga_vt_close(t);
	(void)hga_vt_close(t);
}

static struct hga_str name_text(const struct hga_vnames *n, uint32_t id)
{
	static const char *const names[] = {"zero", "one", "two"};

	(void)n;
	return hga_str(names[id]);
}

static void on_shape(lua_State *L, uint16_t shape, void *data)
{
	(void)L;
	*(int *)data += shape;
}

static void test_struct(lua_State *L)
{
	static const struct hga_vnames names = {name_text, NULL, NULL};
	struct hga_vtape *t = hga_vtape_new(&names, 1 << 20);
	int shapes = 0;

	lua_settop(L, 0);
	build_struct(t);
	lbval_push(L, hga_vtape_root(t));
	lbval_drain(L, t, on_shape, &shapes);
	hga_vtape_free(t);
	ok(same(L, 1, 2), "drain and push give the same");
	is_int(shapes, 7, "the shape function is called for structures");
	lua_geti(L, 2, 1);
	ok(lua_type(L, -1) == LUA_TLIGHTUSERDATA, "null in a list is a value");
	lua_geti(L, 2, 2);
	ok(lua_getfield(L, -1, "one") == LUA_TNIL, "in a structure absent");
	ok(lua_getfield(L, -2, "two") == LUA_TNUMBER, "members by name");
}

static void test_val(lua_State *L)
{
	struct hga_vtape *t;

	lua_settop(L, 0);
	ok(luaL_dostring(L, value_text) == LUA_OK, "a value");
	t = tape_of(L, 1, true);
	ok(t != NULL, "to a tape");
	lbval_push(L, hga_vtape_root(t));
	ok(same(L, 1, 2), "push gives it back");
	lbval_drain(L, t, NULL, NULL);
	hga_vtape_free(t);
	ok(same(L, 1, 3), "drain gives it back");
	is_int(lua_gettop(L), 3, "nothing else is on the stack");
	t = hga_vtape_new(NULL, 1 << 20);
	lbval_drain(L, t, NULL, NULL);
	hga_vtape_free(t);
	ok(lua_isnil(L, -1), "an empty tape is nil");
}

/* Bytes after `skip` become a string; large ones without a copy. */
static void push_large(lua_State *L, size_t n, size_t skip, bool moves)
{
	struct hga_err err;
	struct hga_buf b;
	const char *was, *s;
	size_t len, bad = 0, used = host_of(L)->mem_used;
	int r;

	hga_buf_init(&b, n);
	r = hga_buf_reserve(&b, n, &err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = hga_buf_addc(&b, (char)(i * 7 + i / 251), &err);
	ok(r == 0, "a buffer of %zu bytes", n);
	was = b.data;
	lb_pushbuf_after(L, &b, skip);
	s = lua_tolstring(L, -1, &len);
	for (size_t i = 0; i < len; i++)
		bad += s[i] != (char)((i + skip) * 7 + (i + skip) / 251);
	ok(len == n - skip && bad == 0 && s[len] == '\0', "its bytes, skip %zu",
	   skip);
	ok(b.data == NULL && b.len == 0, "the buffer is empty");
#ifdef __SANITIZE_ADDRESS__
	moves = false; /* its realloc moves always */
#endif
	if (moves)
		ok(s == was + host_of(L)->text_head, "in the same memory");
	lua_pop(L, 1);
	lua_gc(L, LUA_GCCOLLECT);
	ok(host_of(L)->mem_used <= used + 1000, "and it is collected");
}

static void test_large(lua_State *L)
{
	size_t head = host_of(L)->text_head, big = 5 << 20;

	ok(head > 0 && head < host_of(L)->text_extra, "layout of a string");
	push_large(L, 1000, 0, false);
	push_large(L, 1000, head, false);
	push_large(L, big, 0, false);
	push_large(L, big, head, true);
	push_large(L, big, head + 3, false);
	push_large(L, big, 1, false);
}

static int all(lua_State *L)
{
	luaL_checkstack(L, 50, NULL);
	test_opts(L);
	test_op(L);
	test_err(L);
	test_val(L);
	test_struct(L);
	test_large(L);
	return 0;
}

int main(void)
{
	struct host h;
	struct hga_err err;

	memset(&h, 0, sizeof(h));
	ok(host_init(&h, &err) == 0, "host starts");
	lua_pushcfunction(h.L, all);
	if (!ok(lua_pcall(h.L, 0, 0, 0) == LUA_OK, "no error escapes"))
		printf("# %s\n", luaL_tolstring(h.L, -1, NULL));
	host_release(&h);
	return done();
}
