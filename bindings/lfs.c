/*
 * Module hgauto.fs: local files over base/fs.
 *
 * Calls block (local disks); only sha256 of large files and waiting for a
 * lock let other tasks run.  While a file is loaded only reading is allowed.
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"
#include "scope.h"

#include "base/fs.h"
#include "base/hash.h"

#include <lauxlib.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_CLASS "hgauto.fs.lock"
#define HASH_CLASS "hgauto.fs.hash"

#define READ_MAX ((int64_t)1 << 30)
#define HASH_BLOCK ((size_t)64 << 10)
/* Blocks between two chances for other tasks: 4 MiB, about 10 ms. */
#define HASH_BLOCKS 64
#define LOCK_POLL_MS 50

/* A path without zero bytes. */
static const char *check_path(lua_State *L, int idx)
{
	struct hga_str s = lb_checkstr(L, idx);

	if (strlen(s.s) != s.n)
		(void)lb_usage(L, idx, "path contains a zero byte");
	if (s.n == 0)
		(void)lb_usage(L, idx, "empty path");
	return s.s;
}

static int fail_errno(lua_State *L, const char *what, const char *path)
{
	struct hga_err err;

	(void)hga_fs_fail(&err, errno, what, path); /* fills err */
	return lb_raise(L, &err);
}

/* ---- whole files ---- */

/// Content of a file.
// @param path string
// @param[opt] opts.max integer bytes, default 1 GiB; more raises protocol
// @return string
// @raise notfound, io, protocol (TooLarge)
static int l_read(lua_State *L)
{
	static const struct lb_opt defs[] = {{"max", LB_INT, 0},
	                                     {NULL, LB_INT, 0}};
	const char *path = check_path(L, 1);
	int64_t max = READ_MAX;
	struct hga_buf out;
	struct hga_err err;

	lb_opts(L, 2, "fs.read", defs, &max);
	if (max < 0)
		return lb_usage(L, 2, "max must not be negative");
	hga_buf_init(&out, (size_t)max);
	if (hga_fs_read(path, (size_t)max, &out, &err) < 0) {
		hga_buf_release(&out);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &out);
	return 1;
}

struct write_opts {
	int64_t mode;
	bool atomic, sync;
};

static unsigned check_mode(lua_State *L, int idx, int64_t mode)
{
	if (mode < 0 || mode > 07777)
		(void)lb_usage(L, idx, "mode must be 0 to 4095 (octal 7777)");
	return (unsigned)mode;
}

/// Writes a file: in place of the old one at once, or not at all.
// @param path string
// @param data string
// @param[opt] opts.mode integer default 384 (octal 600)
// @param[opt] opts.atomic boolean default true; false writes in place
// @param[opt] opts.sync boolean waits until it is on the disk
// @raise io, notfound
static int l_write(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"mode", LB_INT, offsetof(struct write_opts, mode)},
	    {"atomic", LB_BOOL, offsetof(struct write_opts, atomic)},
	    {"sync", LB_BOOL, offsetof(struct write_opts, sync)},
	    {NULL, LB_INT, 0}};
	struct write_opts o = {0600, true, false};
	const char *path = check_path(L, 1);
	struct hga_str data = lb_checkstr(L, 2);
	struct hga_err err;
	unsigned mode;
	int r;

	lb_opts(L, 3, "fs.write", defs, &o);
	mode = check_mode(L, 3, o.mode);
	sched_check_effect(L, "fs.write");
	if (o.atomic)
		r = hga_fs_replace(path, data, mode, o.sync ? HGA_FS_SYNC : 0,
		                   &err);
	else
		r = hga_fs_write(path, data, mode, &err);
	return r < 0 ? lb_raise(L, &err) : 0;
}

/// Appends to a file in one write; creates it with mode 600.
// @param path string
// @param data string
// @param[opt] opts.sync boolean on disk when it returns
// @raise io, notfound
static int l_append(lua_State *L)
{
	static const struct lb_opt defs[] = {{"sync", LB_BOOL, 0},
	                                     {NULL, LB_INT, 0}};
	const char *path = check_path(L, 1);
	struct hga_str data = lb_checkstr(L, 2);
	bool sync = false;
	struct hga_err err;

	lb_opts(L, 3, "fs.append", defs, &sync);
	sched_check_effect(L, "fs.append");
	if (hga_fs_append(path, data, 0600, sync, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Copies a file (not a tree), replacing the target at once.
// @param from string
// @param to string
// @param[opt] opts.mode integer default 384 (octal 600)
// @raise io, notfound
static int l_copy(lua_State *L)
{
	static const struct lb_opt defs[] = {{"mode", LB_INT, 0},
	                                     {NULL, LB_INT, 0}};
	const char *from = check_path(L, 1);
	const char *to = check_path(L, 2);
	int64_t mode = 0600;
	struct hga_err err;

	lb_opts(L, 3, "fs.copy", defs, &mode);
	sched_check_effect(L, "fs.copy");
	if (hga_fs_copy(from, to, check_mode(L, 3, mode), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/* ---- names and directories ---- */

struct mkdir_opts {
	int64_t mode;
	bool parents;
};

/// Makes a directory.
// @param path string
// @param[opt] opts.parents boolean missing parents too; existing is fine
// @param[opt] opts.mode integer default 448 (octal 700), less fs.umask()
// @raise exists, io, notfound
static int l_mkdir(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"mode", LB_INT, offsetof(struct mkdir_opts, mode)},
	    {"parents", LB_BOOL, offsetof(struct mkdir_opts, parents)},
	    {NULL, LB_INT, 0}};
	struct mkdir_opts o = {0700, false};
	const char *path = check_path(L, 1);
	struct hga_err err;
	unsigned mode;
	mode_t ours;
	int r;

	lb_opts(L, 2, "fs.mkdir", defs, &o);
	mode = check_mode(L, 2, o.mode);
	sched_check_effect(L, "fs.mkdir");
	ours = umask(host_of(L)->umask);
	r = hga_fs_mkdir(path, mode, o.parents, &err);
	(void)umask(ours); /* cannot fail */
	return r < 0 ? lb_raise(L, &err) : 0;
}

/// The umask that hgauto was called with: for files the user asked for, as
// what hgauto keeps for itself is nobody else's.
// @return integer
// @example fs.write("report.txt", text, { mode = 438 & ~fs.umask() })
static int l_umask(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)host_of(L)->umask);
	return 1;
}

/// Removes a file or an empty directory, or (tree) all below a path.
// @param path string
// @param[opt] opts.tree boolean whole tree; missing is fine
// @raise notfound, io
static int l_remove(lua_State *L)
{
	static const struct lb_opt defs[] = {{"tree", LB_BOOL, 0},
	                                     {NULL, LB_BOOL, 0}};
	const char *path = check_path(L, 1);
	bool tree = false;
	struct hga_err err = {0};

	lb_opts(L, 2, "fs.remove", defs, &tree);
	sched_check_effect(L, "fs.remove");
	if (tree) {
		if (hga_fs_rmtree(path, &err) < 0)
			return lb_raise(L, &err);
		return 0;
	}
	return remove(path) != 0 ? fail_errno(L, "remove", path) : 0;
}

/// Renames; an existing target file is replaced.
// @param from string
// @param to string
// @raise notfound, io
static int l_rename(lua_State *L)
{
	const char *from = check_path(L, 1);
	const char *to = check_path(L, 2);

	sched_check_effect(L, "fs.rename");
	return rename(from, to) != 0 ? fail_errno(L, "rename", from) : 0;
}

/// Makes a symbolic link.
// @param target string what it says
// @param path string where it is
// @raise exists, io
static int l_symlink(lua_State *L)
{
	const char *target = check_path(L, 1);
	const char *path = check_path(L, 2);

	sched_check_effect(L, "fs.symlink");
	return symlink(target, path) != 0 ? fail_errno(L, "symlink", path) : 0;
}

/// Makes a second name of a file.
// @param from string
// @param to string
// @raise exists, notfound, io
static int l_link(lua_State *L)
{
	const char *from = check_path(L, 1);
	const char *to = check_path(L, 2);

	sched_check_effect(L, "fs.link");
	return link(from, to) != 0 ? fail_errno(L, "link", to) : 0;
}

/// Changes permissions.
// @param path string
// @param mode integer
// @raise notfound, io
static int l_chmod(lua_State *L)
{
	const char *path = check_path(L, 1);
	unsigned mode = check_mode(L, 2, luaL_checkinteger(L, 2));

	sched_check_effect(L, "fs.chmod");
	return chmod(path, mode) != 0 ? fail_errno(L, "chmod", path) : 0;
}

/// What a symbolic link says.
// @param path string
// @return string
// @raise notfound, io
static int l_readlink(lua_State *L)
{
	const char *path = check_path(L, 1);
	char text[PATH_MAX];
	ssize_t n = readlink(path, text, sizeof(text));

	if (n < 0)
		return fail_errno(L, "readlink", path);
	lua_pushlstring(L, text, (size_t)n);
	return 1;
}

/// Absolute path without links.
// @param path string
// @return string
// @raise notfound, io
static int l_realpath(lua_State *L)
{
	const char *path = check_path(L, 1);
	char text[PATH_MAX];

	if (realpath(path, text) == NULL)
		return fail_errno(L, "realpath", path);
	lua_pushstring(L, text);
	return 1;
}

static const char *type_of(mode_t mode)
{
	if (S_ISREG(mode))
		return "file";
	if (S_ISDIR(mode))
		return "dir";
	if (S_ISLNK(mode))
		return "link";
	if (S_ISFIFO(mode))
		return "fifo";
	if (S_ISSOCK(mode))
		return "socket";
	return S_ISCHR(mode) || S_ISBLK(mode) ? "device" : "other";
}

static void set_int(lua_State *L, const char *name, lua_Integer v)
{
	lua_pushinteger(L, v);
	lua_setfield(L, -2, name);
}

static int push_stat(lua_State *L, const struct stat *st)
{
	lua_createtable(L, 0, 9);
	lua_pushstring(L, type_of(st->st_mode));
	lua_setfield(L, -2, "type");
	set_int(L, "size", (lua_Integer)st->st_size);
	set_int(L, "mode", (lua_Integer)(st->st_mode & 07777));
	set_int(L, "uid", (lua_Integer)st->st_uid);
	set_int(L, "gid", (lua_Integer)st->st_gid);
	set_int(L, "ino", (lua_Integer)st->st_ino);
	set_int(L, "dev", (lua_Integer)st->st_dev);
	set_int(L, "nlink", (lua_Integer)st->st_nlink);
	lua_pushnumber(L, (lua_Number)st->st_mtim.tv_sec +
	                      (lua_Number)st->st_mtim.tv_nsec / 1e9);
	lua_setfield(L, -2, "mtime");
	return 1;
}

/// What is known of a path; links are followed.
// @param path string
// @return {type=string, size=integer, mode=integer, uid=integer, gid=integer,
// mtime=number, ino=integer, dev=integer, nlink=integer}
// @raise notfound, io
static int l_stat(lua_State *L)
{
	const char *path = check_path(L, 1);
	struct stat st;

	if (stat(path, &st) != 0)
		return fail_errno(L, "stat", path);
	return push_stat(L, &st);
}

/// As stat, of a link itself.
// @param path string
// @return table
// @raise notfound, io
static int l_lstat(lua_State *L)
{
	const char *path = check_path(L, 1);
	struct stat st;

	if (lstat(path, &st) != 0)
		return fail_errno(L, "lstat", path);
	return push_stat(L, &st);
}

/// Whether a path exists; links are followed.
// @param path string
// @return boolean
static int l_exists(lua_State *L)
{
	struct stat st;

	lua_pushboolean(L, stat(check_path(L, 1), &st) == 0);
	return 1;
}

/* Appends each name with its NUL. */
static int read_names(const char *path, struct hga_buf *out,
                      struct hga_err *err)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int r = 0;

	if (d == NULL)
		return hga_fs_fail(err, errno, "list", path);
	while (r == 0) {
		errno = 0;
		e = readdir(d);
		if (e == NULL && errno != 0)
			r = hga_fs_fail(err, errno, "list", path);
		if (e == NULL)
			break;
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = hga_buf_add(out, e->d_name, strlen(e->d_name) + 1,
			                err);
	}
	(void)closedir(d); /* only read from */
	return r;
}

/// Names in a directory, sorted.
// @param path string
// @return string[]
// @raise notfound, io
static int l_list(lua_State *L)
{
	const char *path = check_path(L, 1);
	struct hga_buf names;
	struct hga_err err;
	const char *s, *end;
	lua_Integer i = 0;
	size_t n;

	hga_buf_init(&names, (size_t)1 << 28);
	if (read_names(path, &names, &err) < 0) {
		hga_buf_release(&names);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &names);
	s = lua_tolstring(L, -1, &n);
	lua_newtable(L);
	for (end = s + n; s < end; s += strlen(s) + 1) {
		lua_pushstring(L, s);
		lua_rawseti(L, -2, ++i);
	}
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, "table");
	lua_getfield(L, -1, "sort");
	lua_pushvalue(L, -4);
	lua_call(L, 1, 0);
	lua_pop(L, 2);
	return 1;
}

/// Makes a fresh directory (mode 700).
// @param parent string
// @param prefix string beginning of its name
// @return string its path
// @raise io, notfound
static int l_tmpdir(lua_State *L)
{
	const char *parent = check_path(L, 1);
	const char *prefix = luaL_optstring(L, 2, "");
	struct hga_buf path;
	struct hga_err err;

	sched_check_effect(L, "fs.tmpdir");
	hga_buf_init(&path, PATH_MAX);
	if (hga_fs_tmpdir(parent, prefix, &path, &err) < 0) {
		hga_buf_release(&path);
		return lb_raise(L, &err);
	}
	lb_pushbuf(L, &path);
	return 1;
}

/// Free bytes on the file system of a path.
// @param path string
// @return integer
// @raise notfound, io
static int l_space(lua_State *L)
{
	const char *path = check_path(L, 1);
	struct hga_err err;
	uint64_t n;

	if (hga_fs_space(path, &n, &err) < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, n > INT64_MAX ? INT64_MAX : (lua_Integer)n);
	return 1;
}

/// Name of the file system of a path ("ext4", "tmpfs", "nfs", ...).
// @param path string
// @return string
// @return boolean it is a remote one, without reliable locks
// @raise notfound, io
static int l_fstype(lua_State *L)
{
	const char *path = check_path(L, 1);
	struct hga_err err;
	char type[32];

	if (hga_fs_type(path, type, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, type);
	lua_pushboolean(L, hga_fs_type_remote(type));
	return 2;
}

/// Current directory.
// @return string
static int l_cwd(lua_State *L)
{
	char text[PATH_MAX];

	if (getcwd(text, sizeof(text)) == NULL)
		return fail_errno(L, "getcwd", ".");
	lua_pushstring(L, text);
	return 1;
}

/// Changes the current directory of the whole program.
// @param path string
// @raise io, notfound
static int l_chdir(lua_State *L)
{
	const char *path = check_path(L, 1);

	sched_check_effect(L, "fs.chdir");
	if (chdir(path) < 0)
		return fail_errno(L, "chdir", path);
	return 0;
}

/// Home directory of the user.
// @return string
static int l_home(lua_State *L)
{
	const char *home = getenv("HOME");
	const struct passwd *pw;

	if (home == NULL || *home != '/') {
		pw = getpwuid(getuid());
		home = pw != NULL ? pw->pw_dir : "/";
	}
	lua_pushstring(L, home);
	return 1;
}

/* ---- sha256 ---- */

struct hashing {
	struct hga_hash h;
	int fd; /* + 1; 0: closed */
	const char *path;
};

static int hashing_close(lua_State *L)
{
	struct hashing *x = luaL_checkudata(L, 1, HASH_CLASS);

	hga_hash_release(&x->h);
	if (x->fd > 0)
		(void)close(x->fd - 1); /* only read from */
	x->fd = 0;
	return 0;
}

/* Reads up to HASH_BLOCKS blocks; 1: more is left, 0: end. */
static int hash_some(struct hashing *x, struct hga_err *err)
{
	char block[4096];
	size_t todo = HASH_BLOCK * HASH_BLOCKS / sizeof(block);
	ssize_t n;
	int r;

	while (todo-- > 0) {
		do
			n = read(x->fd - 1, block, sizeof(block));
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return hga_fs_fail(err, errno, "read", x->path);
		if (n == 0)
			return 0;
		r = hga_hash_update(&x->h, block, (size_t)n, err);
		if (r < 0)
			return r;
	}
	return 1;
}

static int hash_k(lua_State *L, int status, lua_KContext ctx)
{
	struct hashing *x = (struct hashing *)ctx;
	uint8_t digest[HGA_HASH_MAX];
	struct hga_err err;
	bool can_wait = task_of(L) != NULL && lua_isyieldable(L);
	char text[2 * HGA_SHA256_LEN + 1];
	int r;

	if (status == LUA_YIELD)
		sched_check_cancel(L);
	do
		r = hash_some(x, &err);
	while (r > 0 && !can_wait);
	if (r > 0)
		return sched_pause(L, 0, "fs.sha256", hash_k, ctx);
	if (r == 0)
		r = hga_hash_final(&x->h, digest, &err);
	if (r < 0)
		return lb_raise(L, &err);
	for (int i = 0; i < HGA_SHA256_LEN; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", digest[i]); /* fits */
	(void)close(x->fd - 1); /* only read from */
	x->fd = 0;
	lua_pushstring(L, text);
	return 1;
}

/// SHA-256 of a file; other tasks run meanwhile.
// @param path string
// @return string hex
// @raise notfound, io
// @waits
static int l_sha256(lua_State *L)
{
	const char *path = check_path(L, 1);
	struct hashing *x;
	struct hga_err err;
	int fd;

	lua_settop(L, 1);
	x = lb_newobj(L, sizeof(*x), 0, HASH_CLASS);
	x->path = path;
	fd = hga_fs_open(path, O_RDONLY | O_NOCTTY, 0, &err);
	if (fd < 0)
		return lb_raise(L, &err);
	x->fd = fd + 1;
	if (hga_hash_init(&x->h, HGA_SHA256, &err) < 0)
		return lb_raise(L, &err);
	return hash_k(L, LUA_OK, (lua_KContext)x);
}

/* ---- locks ---- */

struct lock {
	int fd; /* + 1; 0: not held */
	bool shared, try_only;
	int64_t left_ms; /* of the wait; < 0: none wanted */
	const char *path;
};

/// Gives the lock back; harmless when done before.
static int lock_close(lua_State *L)
{
	struct lock *x = lb_check(L, 1, LOCK_CLASS);

	if (x->fd > 0)
		(void)close(x->fd - 1); /* nothing was written */
	x->fd = 0;
	return 0;
}

static int lock_k(lua_State *L, int status, lua_KContext ctx)
{
	struct lock *x = (struct lock *)ctx;
	struct hga_err err;
	int fd;

	if (status == LUA_YIELD)
		sched_check_cancel(L);
	fd = hga_fs_lock(x->path, x->shared, &err);
	if (fd >= 0) {
		x->fd = fd + 1;
		return 1; /* the lock is on top */
	}
	if (fd != -HGA_EXISTS || x->left_ms < 0)
		return lb_raise(L, &err);
	if (x->try_only)
		return 0;
	if (x->left_ms == 0)
		return lb_fail(L, HGA_TIMEOUT, "Locked",
		               "%s: another process holds the lock", x->path);
	if (status != LUA_YIELD)
		sched_check_wait(L, "fs.lock");
	x->left_ms -= x->left_ms < LOCK_POLL_MS ? x->left_ms : LOCK_POLL_MS;
	return sched_pause(L, LOCK_POLL_MS, "fs.lock", lock_k, ctx);
}

/// Takes a lock on a file (made when missing, mode 600).
// @param path string
// @param[opt] opts.wait number|boolean seconds to wait for it; false: nil at
// once when it is taken; default: raises exists at once
// @param[opt] opts.shared boolean
// @return lock|nil closable
// @raise exists (Locked), timeout (Locked), io
// @waits
// @example local lock <close> = fs.lock(dir .. "/lock", { wait = 30 })
static int l_lock(lua_State *L)
{
	struct opts {
		int wait;
		bool shared;
	} o = {0, false};
	static const struct lb_opt defs[] = {
	    {"wait", LB_ANY, offsetof(struct opts, wait)},
	    {"shared", LB_BOOL, offsetof(struct opts, shared)},
	    {NULL, LB_BOOL, 0}};
	const char *path = check_path(L, 1);
	struct lock *x;

	lb_opts(L, 2, "fs.lock", defs, &o);
	sched_check_effect(L, "fs.lock");
	lua_settop(L, 2);
	lua_pushnil(L);
	if (o.wait) {
		lua_getfield(L, 2, "wait");
		lua_replace(L, 3);
	}
	x = lb_newobj(L, sizeof(*x), 0, LOCK_CLASS);
	x->path = path;
	x->shared = o.shared;
	x->try_only = lua_isboolean(L, 3) && !lua_toboolean(L, 3);
	x->left_ms = -1;
	if (x->try_only)
		x->left_ms = 0;
	else if (!lua_isnil(L, 3))
		x->left_ms = lb_checkms(L, 3);
	return lock_k(L, LUA_OK, (lua_KContext)x);
}

static const luaL_Reg fs_fns[] = {
    {"read", l_read},         {"write", l_write},
    {"append", l_append},     {"copy", l_copy},
    {"mkdir", l_mkdir},       {"remove", l_remove},
    {"rename", l_rename},     {"symlink", l_symlink},
    {"link", l_link},         {"chmod", l_chmod},
    {"readlink", l_readlink}, {"realpath", l_realpath},
    {"stat", l_stat},         {"lstat", l_lstat},
    {"exists", l_exists},     {"list", l_list},
    {"tmpdir", l_tmpdir},     {"space", l_space},
    {"fstype", l_fstype},     {"cwd", l_cwd},
    {"chdir", l_chdir},       {"home", l_home},
    {"sha256", l_sha256},     {"lock", l_lock},
    {"umask", l_umask},       {NULL, NULL}};

int luaopen_hgauto_fs(lua_State *L)
{
	static const luaL_Reg lock_methods[] = {{"close", lock_close},
	                                        {NULL, NULL}};
	static const luaL_Reg hash_methods[] = {{"close", hashing_close},
	                                        {NULL, NULL}};

	lb_newclass(L, LOCK_CLASS, lock_methods, NULL);
	lb_newclass(L, HASH_CLASS, hash_methods, NULL);
	luaL_newlib(L, fs_fns);
	return 1;
}
