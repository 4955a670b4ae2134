/*
 * The host: Lua state, allocator, embedded files, script files, root task.
 */
#include "host.h"

#include "embed.h"
#include "lb.h"
#include "sched.h"
#include "scope.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <lauxlib.h>
#include <lualib.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if LUA_VERSION_RELEASE_NUM < 50404
#error "Lua 5.4.4 or newer is needed: __close must be able to wait"
#endif

#ifndef HGA_MODE
#define HGA_MODE "release"
#endif

/* Largest script, embedded or not. */
#define SCRIPT_MAX ((size_t)16 << 20)
#define FILE_MAX ((size_t)512 << 20)

/* ---- state ---- */

struct host *host_of(lua_State *L)
{
	void *ud;

	(void)lua_getallocf(L, &ud); /* only its data is wanted */
	return ud;
}

/* Lua asks for a string: is it the one for which a block was given? */
static void *take_given(struct host *h, size_t osize, size_t nsize)
{
	struct hga_buf *b = h->given;
	void *p;

	if (b == NULL || osize != LUA_TSTRING || nsize != b->cap)
		return NULL;
	p = b->data;
	h->given = NULL;
	hga_buf_init(b, b->max);
	h->mem_used += nsize;
	return p;
}

static void *host_alloc(void *ud, void *p, size_t osize, size_t nsize)
{
	struct host *h = ud;
	size_t old = p != NULL ? osize : 0;
	void *q;

	if (nsize == 0) {
		h->mem_used -= old;
		free(p);
		return NULL;
	}
	if (nsize > old && (nsize - old > h->mem_max - h->mem_used ||
	                    h->mem_used > h->mem_max || hga_mem_should_fail()))
		return NULL;
	q = p == NULL ? take_given(h, osize, nsize) : NULL;
	if (q != NULL)
		return q;
	q = realloc(p, nsize);
	if (q == NULL) /* Lua relies on shrinking blocks */
		return nsize <= old ? p : NULL;
	h->mem_used = h->mem_used - old + nsize;
	if (h->sees) {
		h->seen = q;
		h->seen_size = nsize;
	}
	if (nsize > old)
		hga_mem_advise(q, nsize);
	return q;
}

/* Sees how this Lua lays out a long string. [-0, +0, m] */
static void measure_text(lua_State *L)
{
	struct host *h = host_of(L);
	char text[200] = {0};

	lua_gc(L, LUA_GCSTOP);
	h->seen = NULL;
	h->sees = true;
	lua_pushlstring(L, text, sizeof(text));
	h->sees = false;
	lua_gc(L, LUA_GCRESTART);
	h->text_head = (size_t)(lua_tostring(L, -1) - h->seen);
	h->text_extra = h->seen_size - sizeof(text);
	lua_pop(L, 1);
}

bool host_push_large(lua_State *L, struct hga_buf *b, size_t skip)
{
	struct host *h = host_of(L);
	size_t n = b->len - skip, size = n + h->text_extra;
	char *p;

	if (n < HGA_MEM_LARGE || size > h->mem_max)
		return false;
	if (skip > h->text_head) /* the tail may be cut then */
		memmove(b->data + h->text_head, b->data + skip, n);
	p = hga_realloc(b->data, size);
	if (p == NULL)
		return false;
	b->data = p;
	b->cap = size;
	if (skip < h->text_head)
		memmove(p + h->text_head, p + skip, n);
	h->given = b;
	lua_pushlstring(L, p + h->text_head, n); /* onto itself */
	h->given = NULL;
	return true;
}

static int on_panic(lua_State *L)
{
	const char *msg = lua_tostring(L, -1);

	fprintf(stderr, "hgauto: error outside a protected call: %s\n",
	        msg ? msg : "?");
	_exit(70);
}

static void on_warn(void *ud, const char *msg, int tocont)
{
	struct host *h = ud;

	(void)h;
	(void)tocont; /* pieces become records of their own */
	hga_log_text(HGA_LOG_WARN, "lua", hga_str(msg));
}

static int open_all(lua_State *L)
{
	struct host *h = host_of(L);

	measure_text(L);
	sched_open(L, h->sched);
	hostlib_open(L);
	return 0;
}

static void read_environment(struct host *h)
{
	const char *s = getenv("HGAUTO_TORTURE");
	char *end = NULL;

	h->gcstress =
	    getenv("HGAUTO_GCSTRESS") != NULL || strcmp(HGA_MODE, "debug") == 0;
	if (s != NULL) {
		h->torture = strtoul(s, &end, 10);
		h->torture_pair = end != NULL && *end == '+';
	}
}

int host_init(struct host *h, struct hga_err *err)
{
	h->mem_max = (size_t)4 << 30;
	h->exit_code = -1;
	hga_mem_start();
	read_environment(h);
	h->sched = hga_calloc(1, sizeof(*h->sched));
	h->term = hga_term_new(STDOUT_FILENO, STDERR_FILENO);
	if (h->sched == NULL || h->term == NULL)
		return hga_fail_mem(err);
	h->sched->host = h;
	h->sched->on_interrupt = LUA_NOREF;
	h->sched->top.isolate = true;
	h->sched->top.anchor = LUA_NOREF;
	h->loop = hga_loop_new(err);
	if (h->loop == NULL)
		return -(int)err->kind;
	h->L = lua_newstate(host_alloc, h);
	if (h->L == NULL)
		return hga_fail_mem(err);
	/* New threads copy it: plain coroutines have no task. */
	memset(lua_getextraspace(h->L), 0, LUA_EXTRASPACE);
	lua_atpanic(h->L, on_panic);
	lua_setwarnf(h->L, on_warn, h);
	lua_pushcfunction(h->L, open_all);
	if (lua_pcall(h->L, 0, 0, 0) != LUA_OK) {
		const char *msg = luaL_tolstring(h->L, -1, NULL);

		return hga_fail(err, HGA_BUG, 0, "Init", "%s", msg);
	}
	return 0;
}

void host_release(struct host *h)
{
	if (h->L != NULL)
		lua_close(h->L);
	h->L = NULL;
	if (h->mem_used != 0 && strcmp(HGA_MODE, "debug") == 0)
		fprintf(stderr, "hgauto: %zu bytes of Lua are left\n",
		        h->mem_used);
	if (h->loop != NULL)
		hga_loop_free(h->loop);
	h->loop = NULL;
	hga_free(h->sched);
	h->sched = NULL;
	hga_term_free(h->term);
	h->term = NULL;
	hga_free(h->script_dir);
	h->script_dir = NULL;
	hga_log_release();
}

void host_write(lua_State *L, enum hga_term_stream stream, struct hga_str text)
{
	struct host *h = host_of(L);
	struct hga_err err;

	if (hga_term_write(h->term, stream, text, &err) < 0)
		(void)lb_raise(L, &err);
}

/* ---- root task ---- */

static int exit_of_kind(enum hga_kind kind)
{
	switch (kind) {
	case HGA_OK:
	case HGA_TASK:
	case HGA_REMOTE:
	case HGA_RUNTIME:
	case HGA_IO:
	case HGA_NOTFOUND:
	case HGA_EXISTS:
	case HGA_AWS:
		return 1;
	case HGA_USAGE:
	case HGA_LOAD:
		return 2;
	case HGA_AUTH:
		return 3;
	case HGA_NET:
	case HGA_PROTOCOL:
		return 4;
	case HGA_TIMEOUT:
	case HGA_COST:
		return 5;
	case HGA_MEMORY:
	case HGA_BUG:
		return 70;
	case HGA_CANCELLED:
		return 130;
	}
	return 70;
}

static int exit_of_signal(void)
{
	const char *name = scope_signal_name();

	return name != NULL && strcmp(name, "INT") != 0 ? 143 : 130;
}

/* Prints the error on top, once, for whoever escaped the command line. */
static void print_error(lua_State *L)
{
	const char *text = luaL_tolstring(L, -1, NULL);
	const char *trace = NULL;

	if (lb_errkind(L, -2) == HGA_BUG || getenv("HGAUTO_TRACE") != NULL) {
		lua_getfield(L, -2, "traceback");
		trace = lua_tostring(L, -1);
	}
	fprintf(stderr, "hgauto: %s\n", text);
	if (trace != NULL)
		fprintf(stderr, "%s\n", trace);
}

static int result_code(lua_State *L, const struct task *t)
{
	int code = 0;

	lua_getiuservalue(L, 1, UV_ERR);
	if (t->outcome != TASK_OK) {
		code = exit_of_kind(lb_errkind(L, -1));
		if (t->outcome == TASK_CANCELLED)
			code = exit_of_signal();
		if (t->outcome != TASK_CANCELLED || scope_presses() == 0)
			print_error(L);
		return code;
	}
	if (!lua_istable(L, -1))
		return 0;
	lua_rawgeti(L, -1, 1);
	if (lua_isinteger(L, -1))
		code = (int)(lua_tointeger(L, -1) & 0xff);
	else if (lua_isboolean(L, -1))
		code = lua_toboolean(L, -1) ? 0 : 1;
	return code;
}

static int run_root(lua_State *L)
{
	struct host *h = host_of(L);
	struct sched *s = h->sched;
	struct task *t;
	int code;

	lua_settop(L, 1);
	t = sched_spawn(L, &s->top, 0);
	s->root = t;
	sched_loop(s);
	code = h->exit_code >= 0 ? h->exit_code : result_code(L, t);
	lua_pushinteger(L, code);
	return 1;
}

int host_run(struct host *h, lua_CFunction fn)
{
	struct hga_err err;
	int code = 70;

	if (scope_signals(h->sched, &err) < 0) {
		fprintf(stderr, "hgauto: %s\n", err.msg);
		return 70;
	}
	lua_pushcfunction(h->L, run_root);
	lua_pushcfunction(h->L, fn);
	if (lua_pcall(h->L, 1, 1, 0) == LUA_OK)
		code = (int)lua_tointeger(h->L, -1);
	else
		fprintf(stderr, "hgauto: out of memory\n");
	lua_settop(h->L, 0);
	scope_signals_off();
	if (h->torture != 0 && hga_mem_count() < h->torture)
		fprintf(stderr, "hgauto: torture: %lu allocations\n",
		        hga_mem_count());
	hga_mem_torture(0, false);
	return code;
}

/* ---- embedded files ---- */

static int compare_name(const void *key, const void *item)
{
	const struct embed_file *f = item;

	return strcmp(key, f->name);
}

const struct embed_file *embed_find(const char *name)
{
	if (embed_n == 0)
		return NULL;
	return bsearch(name, embed_files, embed_n, sizeof(embed_files[0]),
	               compare_name);
}

static int from_directory(struct host *h, const char *name, struct hga_buf *out,
                          struct hga_buf *origin, struct hga_err *err)
{
	struct hga_buf path;
	struct stat st;
	int r;

	hga_buf_init(&path, 4096);
	r = hga_buf_addf(&path, err, "%s/%s", h->scripts, name);
	if (r == 0 &&
	    (stat(hga_buf_text(&path), &st) != 0 || !S_ISREG(st.st_mode)))
		r = hga_fail(err, HGA_NOTFOUND, 0, "NoFile", "no file %s",
		             hga_buf_text(&path));
	if (r == 0)
		r = hga_fs_read(hga_buf_text(&path), FILE_MAX, out, err);
	if (r == 0 && origin != NULL)
		r = hga_buf_addstr(origin, hga_buf_str(&path), err);
	hga_buf_release(&path);
	return r;
}

int host_file(struct host *h, const char *name, struct hga_buf *out,
              struct hga_buf *origin, struct hga_err *err)
{
	const struct embed_file *f;
	int r;

	if (h->scripts != NULL) {
		r = from_directory(h, name, out, origin, err);
		if (r != -HGA_NOTFOUND)
			return r;
	}
	f = embed_find(name);
	if (f == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, "NoFile",
		                "no embedded file %s", name);
	if (origin != NULL) {
		r = hga_buf_addf(origin, err, "hgauto:%s", name);
		if (r < 0)
			return r;
	}
	return hga_buf_add(out, f->data, f->len, err);
}

static int add_entry(DIR *d, const struct dirent *e, struct hga_buf *out,
                     struct hga_err *err)
{
	struct stat st;

	if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, 0) != 0)
		return 0;
	/* with the NUL */
	if (hga_buf_addc(out, S_ISDIR(st.st_mode) ? 'd' : 'f', err) < 0)
		return -HGA_MEMORY;
	return hga_buf_add(out, e->d_name, strlen(e->d_name) + 1, err);
}

/* Appends type letter, name, NUL for each entry; errors: fewer of them. */
static void read_names(const char *path, struct hga_buf *out)
{
	struct hga_err err;
	struct dirent *e;
	DIR *d = opendir(path);

	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL)
		if (add_entry(d, e, out, &err) < 0)
			break;
	(void)closedir(d); /* only read from */
}

/* Adds the names below the override directory to the set at 1; directories
 * to come are added to the list at 2. */
static void list_directory(lua_State *L, const char *top, const char *rel)
{
	struct hga_buf names;
	const char *s, *end;
	size_t n;

	hga_buf_init(&names, 1 << 20);
	read_names(*rel ? lua_pushfstring(L, "%s/%s", top, rel) : top, &names);
	lb_pushbuf(L, &names);
	s = lua_tolstring(L, -1, &n);
	for (end = s + n; s < end; s += strlen(s) + 1) {
		lua_pushfstring(L, "%s%s%s", rel, *rel ? "/" : "", s + 1);
		if (*s == 'd') {
			lua_rawseti(L, 2, (lua_Integer)lua_rawlen(L, 2) + 1);
			continue;
		}
		lua_pushboolean(L, true);
		lua_rawset(L, 1);
	}
}

static void list_override(lua_State *L, const char *top)
{
	lua_pushliteral(L, "");
	lua_rawseti(L, 2, 1);
	for (lua_Unsigned n; (n = lua_rawlen(L, 2)) > 0;) {
		lua_settop(L, 2);
		lua_rawgeti(L, 2, (lua_Integer)n);
		lua_pushnil(L);
		lua_rawseti(L, 2, (lua_Integer)n);
		list_directory(L, top, lua_tostring(L, 3));
	}
}

/* (): set of all names. */
static int all_files(lua_State *L)
{
	const struct host *h = host_of(L);

	lua_newtable(L);
	lua_newtable(L);
	for (size_t i = 0; i < embed_n; i++) {
		lua_pushboolean(L, true);
		lua_setfield(L, 1, embed_files[i].name);
	}
	if (h->scripts != NULL)
		list_override(L, h->scripts);
	lua_settop(L, 1);
	return 1;
}

void host_files(lua_State *L, const char *prefix)
{
	size_t n = strlen(prefix);
	lua_Integer i = 0;
	int set;

	lua_pushcfunction(L, all_files);
	lua_call(L, 0, 1);
	set = lua_gettop(L);
	lua_newtable(L);
	for (lua_pushnil(L); lua_next(L, set) != 0; lua_pop(L, 1)) {
		if (strncmp(lua_tostring(L, -2), prefix, n) != 0)
			continue;
		lua_pushvalue(L, -2);
		lua_rawseti(L, set + 1, ++i);
	}
	lua_remove(L, set);
	luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 0);
	lua_getfield(L, -1, "sort");
	lua_pushvalue(L, set);
	lua_call(L, 1, 0);
	lua_pop(L, 1);
}

/* ---- script files ---- */

void host_loadtext(lua_State *L, struct hga_str text, const char *chunkname)
{
	const char *s = text.s;
	const char *nl;
	size_t n = text.n;

	if (n > 0 && *s == '#') { /* a first line for the kernel */
		nl = memchr(s, '\n', n);
		n = nl != NULL ? n - (size_t)(nl - s) : 0;
		s = nl != NULL ? nl : "";
	}
	if (luaL_loadbufferx(L, s, n, chunkname, "t") == LUA_OK)
		return;
	if (lua_type(L, -1) != LUA_TSTRING)
		(void)lua_error(L);
	(void)lb_fail(L, HGA_LOAD, "Syntax", "%s", lua_tostring(L, -1));
}

/* Only its owner or root may have written it. */
static int check_owner(int fd, const char *path, struct hga_err *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) != 0)
		return hga_fs_fail(err, errno, "stat", path);
	if (!S_ISREG(st.st_mode))
		return hga_fail(err, HGA_LOAD, 0, "NotFile",
		                "%s: not a regular file", path);
	r = hga_fs_check_owner(fd, path, S_IWOTH, true, err);
	if (r < 0 && err != NULL) {
		err->kind = HGA_LOAD;
		return -HGA_LOAD;
	}
	return r;
}

/* The directory may be searched: ours and not writable by others. */
static bool safe_dir(const char *dir)
{
	struct hga_err err;
	int fd = hga_fs_open(dir, O_RDONLY | O_DIRECTORY, 0, &err);
	bool safe;

	if (fd < 0)
		return false;
	safe = hga_fs_check_owner(fd, dir, S_IWOTH, true, &err) == 0;
	(void)close(fd); /* only looked at */
	return safe;
}

void host_setdir(struct host *h, const char *dir)
{
	hga_free(h->script_dir);
	h->script_dir = NULL;
	if (dir != NULL && safe_dir(dir))
		h->script_dir = hga_strdup(dir); /* else none is searched */
}

static void set_script_dir(struct host *h, const char *path)
{
	char *real = realpath(path, NULL);
	char *slash = real != NULL ? strrchr(real, '/') : NULL;

	if (slash == real)
		slash = NULL; /* not the root directory */
	if (slash != NULL)
		*slash = '\0';
	host_setdir(h, slash != NULL ? real : NULL);
	free(real);
}

static int read_script(const char *path, struct hga_buf *out,
                       struct hga_err *err)
{
	int fd = hga_fs_open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, err);
	int r;

	if (fd < 0)
		return fd;
	r = check_owner(fd, path, err);
	if (r == 0)
		r = hga_fs_read_fd(fd, path, SCRIPT_MAX, out, err);
	(void)close(fd); /* only read from */
	return r;
}

void host_loadfile(lua_State *L, const char *path, bool set_dir)
{
	struct hga_buf text;
	struct hga_err err;
	struct hga_str s;

	hga_buf_init(&text, SCRIPT_MAX);
	if (read_script(path, &text, &err) < 0) {
		hga_buf_release(&text);
		(void)lb_raise(L, &err);
	}
	lb_pushbuf(L, &text);
	if (set_dir)
		set_script_dir(host_of(L), path);
	s.s = lua_tolstring(L, -1, &s.n);
	lua_pushfstring(L, "@%s", path);
	host_loadtext(L, s, lua_tostring(L, -1));
	lua_replace(L, -3);
	lua_pop(L, 1);
}
