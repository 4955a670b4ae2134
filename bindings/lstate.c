/*
 * Module hgauto.state: the state directory, runs, the ledger, key pairs, and
 * plain SQLite files for the local cloud.
 *
 * Calls block for milliseconds (local disk).  Rows travel as value tapes, so
 * that no statement is open while Lua allocates.  The ledger of a state
 * object is opened once; it keeps the state object, runs are kept by both.
 * Long because one module is one file: many small functions, one per method.
 */
#include "lb.h"
#include "lbval.h"
#include "modules.h"
#include "sched.h"

#include "base/crypto.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "state/db.h"
#include "state/ledger.h"
#include "state/record.h"
#include "state/vault.h"

#include <lauxlib.h>

#include <math.h>
#include <string.h>
#include <unistd.h>

#define STATE_CLASS "hgauto.state"
#define RUN_CLASS "hgauto.state.run"
#define LOCK_CLASS "hgauto.state.lock"
#define LEDGER_CLASS "hgauto.state.ledger"
#define VAULT_CLASS "hgauto.state.vault"
#define DB_CLASS "hgauto.state.db"
#define HOLD_CLASS "hgauto.state.hold"

#define ROWS_MAX ((size_t)256 << 20)
#define DETAIL_MAX 4096
#define KIDS_MAX 64

struct hga_ledger *lstate_ledger(lua_State *L, int idx);

/* User values: 1 the open ledger, 2 table of runs by ID. */
struct l_state {
	struct hga_state *st;
};

struct l_run {
	struct hga_run *run;
};

struct l_lock {
	int fd; /* + 1, so that zero is closed */
};

/* User values: 1 the state object, 2 table of begun runs. */
struct l_ledger {
	struct hga_ledger *led;
};

struct l_db {
	struct hga_db *db;
};

/* Owns C memory across Lua calls that may raise. */
struct l_hold {
	struct hga_vtape *tape;
	struct hga_buf buf;
};

static int hold_close(lua_State *L)
{
	struct l_hold *h = lb_check(L, 1, HOLD_CLASS);

	hga_vtape_free(h->tape);
	h->tape = NULL;
	hga_buf_release(&h->buf);
	return 0;
}

/* [-0, +1, m] */
static struct l_hold *new_hold(lua_State *L)
{
	struct l_hold *h = lb_newobj(L, sizeof(*h), 0, HOLD_CLASS);

	hga_buf_init(&h->buf, ROWS_MAX);
	return h;
}

/* Pushes what the tape of the hold on top holds. [-0, +1, m] */
static void push_tape(lua_State *L, struct l_hold *h)
{
	lbval_drain(L, h->tape, NULL, NULL);
	hga_vtape_free(h->tape);
	h->tape = NULL;
}

/* ---- state directory ---- */

static struct hga_state *check_state(lua_State *L, int idx)
{
	struct l_state *s = lb_check(L, idx, STATE_CLASS);

	if (s->st == NULL)
		(void)lb_fail(L, HGA_USAGE, "Closed",
		              "the state directory is closed"); /* raises */
	return s->st;
}

/// Opens the state directory after checking owner, mode and file system.
// @param dir string
// @param opts.create boolean make it when missing
// @return state {path, sid, tightened}
// @raise auth (Owner, Filesystem), notfound, io
static int l_open(lua_State *L)
{
	static const struct lb_opt defs[] = {{"create", LB_BOOL, 0},
	                                     {NULL, LB_BOOL, 0}};
	const char *dir = luaL_checkstring(L, 1);
	struct l_state *s;
	struct hga_err err;
	bool create = false;

	sched_check_effect(L, "state.open");
	lb_opts(L, 2, "state.open", defs, &create);
	s = lb_newobj(L, sizeof(*s), 2, STATE_CLASS);
	lua_newtable(L);
	lua_setiuservalue(L, -2, 2);
	if (hga_state_open(dir, create, &s->st, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

static int state_close(lua_State *L)
{
	struct l_state *s = lb_check(L, 1, STATE_CLASS);

	hga_state_free(s->st);
	s->st = NULL;
	return 0;
}

/* Fields; methods come from the table in upvalue 1. */
static int state_index(lua_State *L)
{
	struct l_state *s = lb_check(L, 1, STATE_CLASS);
	const char *key =
	    lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

	if (s->st != NULL && strcmp(key, "path") == 0) {
		lua_pushstring(L, hga_state_path(s->st));
		return 1;
	}
	if (s->st != NULL && strcmp(key, "sid") == 0) {
		lua_pushstring(L, hga_state_sid(s->st));
		return 1;
	}
	if (s->st != NULL && strcmp(key, "tightened") == 0) {
		lua_pushboolean(L, hga_state_tightened(s->st));
		return 1;
	}
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	return 1;
}

/* ---- runs ---- */

/// Begins a run: makes its directory and holds its lock.
// @param[opt] task string
// @return run {id, dir, task}
// @raise io
static int state_run(lua_State *L)
{
	const struct hga_state *st = check_state(L, 1);
	struct l_run *run;
	struct hga_err err;

	sched_check_effect(L, "state:run");
	(void)luaL_optstring(L, 2, ""); /* type check */
	lua_settop(L, 2);
	run = lb_newobj(L, sizeof(*run), 1, RUN_CLASS);
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, -2, 1);
	if (hga_run_new(st, &run->run, &err) < 0)
		return lb_raise(L, &err);
	lua_getiuservalue(L, 1, 2);
	lua_pushvalue(L, -2);
	lua_setfield(L, -2, hga_run_id(run->run));
	lua_pop(L, 1);
	return 1;
}

/// Ends the run: gives up its lock; its files stay.
static int run_finish(lua_State *L)
{
	struct l_run *run = lb_check(L, 1, RUN_CLASS);

	hga_run_free(run->run);
	run->run = NULL;
	return 0;
}

/// Whether the lock file was removed under the run.
// @return boolean
static int run_lock_lost(lua_State *L)
{
	struct l_run *run = lb_check(L, 1, RUN_CLASS);

	lua_pushboolean(L, run->run == NULL || hga_run_lost(run->run));
	return 1;
}

static int run_index(lua_State *L)
{
	struct l_run *run = lb_check(L, 1, RUN_CLASS);
	const char *key =
	    lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";

	if (run->run != NULL && strcmp(key, "id") == 0) {
		lua_pushstring(L, hga_run_id(run->run));
		return 1;
	}
	if (run->run != NULL && strcmp(key, "dir") == 0) {
		lua_pushstring(L, hga_run_dir(run->run));
		return 1;
	}
	if (strcmp(key, "task") == 0) {
		lua_getiuservalue(L, 1, 1);
		return 1;
	}
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	return 1;
}

/// Whether a run's process lives (its lock is held).
// @param id string
// @return boolean
// @raise usage (not an ID), io
static int state_run_alive(lua_State *L)
{
	const struct hga_state *st = check_state(L, 1);
	struct hga_err err;
	int r = hga_run_alive(st, luaL_checkstring(L, 2), &err);

	if (r < 0)
		return lb_raise(L, &err);
	lua_pushboolean(L, r);
	return 1;
}

/// IDs of all runs that have a directory, sorted.
// @return string[]
static int state_runs(lua_State *L)
{
	const struct hga_state *st = check_state(L, 1);
	struct l_hold *h = new_hold(L);
	struct hga_err err;
	lua_Integer n = 0;

	if (hga_run_list(st, &h->buf, &err) < 0)
		return lb_raise(L, &err);
	lua_newtable(L);
	for (size_t i = 0; i < h->buf.len; i += strlen(h->buf.data + i) + 1) {
		lua_pushstring(L, h->buf.data + i);
		lua_rawseti(L, -2, ++n);
	}
	return 1;
}

/// Takes a dead run's lock, so that only we act for it.
// @param id string
// @return closable, or nil while the run lives
// @raise usage (not an ID), io
static int state_lock_run(lua_State *L)
{
	const struct hga_state *st = check_state(L, 1);
	const char *id = luaL_checkstring(L, 2);
	struct l_lock *lock;
	struct hga_err err;
	int fd;

	sched_check_effect(L, "state:lock_run");
	lock = lb_newobj(L, sizeof(*lock), 0, LOCK_CLASS);
	fd = hga_run_take(st, id, &err);
	if (fd == -HGA_EXISTS) {
		lua_pushnil(L);
		return 1;
	}
	if (fd < 0)
		return lb_raise(L, &err);
	lock->fd = fd + 1;
	return 1;
}

static int lock_close(lua_State *L)
{
	struct l_lock *lock = lb_check(L, 1, LOCK_CLASS);

	if (lock->fd > 0)
		(void)close(lock->fd - 1); /* unlocks */
	lock->fd = 0;
	return 0;
}

/* ---- vault ---- */

/// Key pairs of this state directory.
// @return vault
static int state_vault(lua_State *L)
{
	(void)check_state(L, 1); /* raises when closed */
	lb_newobj(L, 1, 1, VAULT_CLASS);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	return 1;
}

static const struct hga_state *vault_state(lua_State *L)
{
	const struct hga_state *st;

	(void)lb_check(L, 1, VAULT_CLASS); /* raises */
	lua_getiuservalue(L, 1, 1);
	st = check_state(L, -1);
	lua_pop(L, 1); /* the vault keeps it */
	return st;
}

/// Key of that name, made (ed25519) when there is none yet.
// @param name string
// @param[opt] comment string default hg-NAME-SID
// @return key handle, boolean whether it was made now
// @raise auth (KeyMode, KeyFormat), io, usage
static int vault_key(lua_State *L)
{
	const struct hga_state *st = vault_state(L);
	const char *name = luaL_checkstring(L, 2);
	const char *comment;
	struct hga_key **key;
	struct hga_err err;
	bool made = false;

	sched_check_effect(L, "vault:key");
	if (lua_isnoneornil(L, 3))
		comment =
		    lua_pushfstring(L, "hg-%s-%s", name, hga_state_sid(st));
	else
		comment = luaL_checkstring(L, 3);
	key = lb_newkey(L);
	if (hga_vault_key_ensure(st, name, comment, key, &made, &err) < 0)
		return lb_raise(L, &err);
	lua_pushboolean(L, made);
	return 2;
}

/// Key of that name.
// @param name string
// @return key handle, or nil when there is none
// @raise auth, io, usage
static int vault_find(lua_State *L)
{
	const struct hga_state *st = vault_state(L);
	const char *name = luaL_checkstring(L, 2);
	struct hga_key **key = lb_newkey(L);
	struct hga_err err;
	int r = hga_vault_key_get(st, name, key, &err);

	if (r == -HGA_NOTFOUND)
		lua_pushnil(L);
	else if (r < 0)
		return lb_raise(L, &err);
	return 1;
}

/// Stores a key handle under a name.
// @param name string
// @param key key handle
// @raise exists, io, usage
static int vault_put(lua_State *L)
{
	const struct hga_state *st = vault_state(L);
	const char *name = luaL_checkstring(L, 2);
	struct hga_key **key = lb_check(L, 3, LB_KEY_CLASS);
	struct hga_err err;

	sched_check_effect(L, "vault:put");
	if (*key == NULL)
		return lb_usage(L, 3, "the key is closed");
	if (hga_vault_key_put(st, name, *key, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Path of a key's private file, whether it exists or not.
// @param name string
// @return string
static int vault_path(lua_State *L)
{
	const struct hga_state *st = vault_state(L);
	const char *name = luaL_checkstring(L, 2);
	struct l_hold *h = new_hold(L);
	struct hga_err err;

	if (hga_vault_path(st, name, &h->buf, &err) < 0)
		return lb_raise(L, &err);
	lb_pushbuf(L, &h->buf);
	return 1;
}

/// Removes a key's files.
// @param name string
static int vault_remove(lua_State *L)
{
	const struct hga_state *st = vault_state(L);
	struct hga_err err;

	sched_check_effect(L, "vault:remove");
	if (hga_vault_key_remove(st, luaL_checkstring(L, 2), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/* ---- SQLite files ---- */

/// Opens or makes the SQLite file NAME.db inside the state directory.
// @param name string may hold slashes ("local/cloud")
// @return db
// @raise io (Damaged), usage
static int state_db(lua_State *L)
{
	static const struct hga_db_opts opts = {true, false, false,
	                                        0,    false, false};
	const struct hga_state *st = check_state(L, 1);
	const char *name = luaL_checkstring(L, 2);
	struct l_hold *h;
	struct l_db *db;
	struct hga_err err;

	sched_check_effect(L, "state:db");
	name = lua_pushfstring(L, "%s.db", name);
	h = new_hold(L);
	db = lb_newobj(L, sizeof(*db), 0, DB_CLASS);
	if (hga_state_file(st, name, &h->buf, &err) < 0 ||
	    hga_db_open(h->buf.data, &opts, &db->db, NULL, &err) < 0)
		return lb_raise(L, &err);
	return 1;
}

static struct hga_db *check_db(lua_State *L)
{
	struct l_db *db = lb_check(L, 1, DB_CLASS);

	if (db->db == NULL)
		(void)lb_fail(L, HGA_USAGE, "Closed",
		              "the database is closed"); /* raises */
	return db->db;
}

/* Parameters are checked before a statement exists. */
static void check_params(lua_State *L, int first)
{
	for (int i = first; i <= lua_gettop(L); i++) {
		int t = lua_type(L, i);

		if (t != LUA_TNIL && t != LUA_TBOOLEAN && t != LUA_TNUMBER &&
		    t != LUA_TSTRING)
			(void)lb_usage(L, i, "%s cannot be stored",
			               lua_typename(L, t)); /* raises */
	}
}

/* Does not raise: the types were checked. */
static void bind_param(lua_State *L, struct hga_stmt *st, int i, int idx)
{
	switch (lua_type(L, idx)) {
	case LUA_TBOOLEAN:
		hga_stmt_int(st, i, lua_toboolean(L, idx));
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, idx))
			hga_stmt_int(st, i, lua_tointeger(L, idx));
		else
			hga_stmt_num(st, i, lua_tonumber(L, idx));
		break;
	case LUA_TSTRING:
		hga_stmt_text(st, i, lb_checkstr(L, idx));
		break;
	default:
		hga_stmt_null(st, i);
		break;
	}
}

/* Builders' failures stick to the tape and are told at its end. */
static void add_column(struct hga_vtape *t, const struct hga_stmt *st, int col)
{
	enum hga_db_type type = hga_stmt_type(st, col);

	if (type == HGA_DB_NULL)
		return;
	hga_vt_key(t, hga_str(hga_stmt_name(st, col)));
	if (type == HGA_DB_INT)
		hga_vt_int(t, HGA_NO_NAME, hga_stmt_get_int(st, col));
	else if (type == HGA_DB_NUM)
		hga_vt_num(t, HGA_NO_NAME, hga_stmt_get_num(st, col));
	else
		hga_vt_str(t, HGA_NO_NAME, hga_stmt_get_str(st, col));
}

static int read_rows(struct hga_stmt *st, struct hga_vtape *t,
                     struct hga_err *err)
{
	int r;

	hga_vt_open(t, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	while ((r = hga_stmt_step(st, err)) > 0) {
		hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
		for (int i = 0; i < hga_stmt_columns(st); i++)
			add_column(t, st, i);
		if (hga_vt_close(t) < 0)
			break;
	}
	hga_vt_close(t);
	return r < 0 ? r : hga_vt_end(t, err);
}

/// Runs one SQL statement.
// @param sql string with ? for each value
// @param ... nil, boolean (0, 1), number or string
// @return table[] rows: column -> value; NULL is absent
// @raise usage (Sql), exists (Constraint), io (Busy, Full, Damaged)
static int db_exec(lua_State *L)
{
	struct hga_db *db = check_db(L);
	const char *sql = luaL_checkstring(L, 2);
	int n = lua_gettop(L) - 2;
	struct hga_stmt *st = NULL;
	struct l_hold *h;
	struct hga_err err;
	int r;

	check_params(L, 3);
	h = new_hold(L);
	h->tape = hga_vtape_new(NULL, ROWS_MAX);
	if (h->tape == NULL)
		return lb_fail(L, HGA_MEMORY, NULL, "out of memory");
	r = hga_stmt_new(db, sql, &st, &err);
	if (r == 0 && hga_stmt_params(st) != n)
		r = hga_fail(&err, HGA_USAGE, 0, "Sql",
		             "statement with %d parameters, %d values",
		             hga_stmt_params(st), n);
	for (int i = 1; i <= n && r == 0; i++)
		bind_param(L, st, i, i + 2);
	if (r == 0)
		r = read_rows(st, h->tape, &err);
	hga_stmt_free(st);
	if (r < 0)
		return lb_raise(L, &err);
	push_tape(L, h);
	return 1;
}

/// Begins a transaction that may write.
static int db_begin(lua_State *L)
{
	struct hga_err err;

	if (hga_db_begin(check_db(L), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Ends the transaction, keeping its changes.
static int db_commit(lua_State *L)
{
	struct hga_err err;

	if (hga_db_commit(check_db(L), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Ends the transaction, if one is open, undoing its changes.
static int db_rollback(lua_State *L)
{
	hga_db_rollback(check_db(L));
	return 0;
}

static int db_close(lua_State *L)
{
	struct l_db *db = lb_check(L, 1, DB_CLASS);

	hga_db_close(db->db);
	db->db = NULL;
	return 0;
}

/* ---- ledger ---- */

struct hga_ledger *lstate_ledger(lua_State *L, int idx)
{
	struct l_ledger *l = lb_check(L, idx, LEDGER_CLASS);

	if (l->led == NULL)
		(void)lb_fail(L, HGA_USAGE, "Closed",
		              "the ledger is closed"); /* raises */
	return l->led;
}

/// The ledger of this state directory; opened once.
// @return ledger {sid}
// @raise io (Damaged, Busy), auth
static int state_ledger(lua_State *L)
{
	const struct hga_state *st = check_state(L, 1);
	struct l_ledger *l;
	struct hga_err err;

	sched_check_effect(L, "state:ledger");
	if (lua_getiuservalue(L, 1, 1) == LUA_TUSERDATA) {
		l = lb_check(L, -1, LEDGER_CLASS);
		if (l->led != NULL)
			return 1;
	}
	l = lb_newobj(L, sizeof(*l), 2, LEDGER_CLASS);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	lua_newtable(L);
	lua_setiuservalue(L, -2, 2);
	if (hga_ledger_open(st, &l->led, &err) < 0)
		return lb_raise(L, &err);
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, 1, 1);
	return 1;
}

static int ledger_close(lua_State *L)
{
	struct l_ledger *l = lb_check(L, 1, LEDGER_CLASS);

	hga_ledger_close(l->led);
	l->led = NULL;
	return 0;
}

static int ledger_index(lua_State *L)
{
	(void)lb_check(L, 1, LEDGER_CLASS); /* raises */
	if (lua_type(L, 2) == LUA_TSTRING &&
	    strcmp(lua_tostring(L, 2), "sid") == 0) {
		lua_getiuservalue(L, 1, 1);
		lua_getfield(L, -1, "sid");
		return 1;
	}
	lua_pushvalue(L, 2);
	lua_rawget(L, lua_upvalueindex(1));
	return 1;
}

/// Number of a place, recorded when new.
// @param place {partition=, account=, region=, endpoint="" for AWS itself}
// @return integer
// @raise io
static int ledger_place(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"partition", LB_STR, offsetof(struct hga_ledger_place, partition)},
	    {"account", LB_STR, offsetof(struct hga_ledger_place, account)},
	    {"region", LB_STR, offsetof(struct hga_ledger_place, region)},
	    {"endpoint", LB_STR, offsetof(struct hga_ledger_place, endpoint)},
	    {NULL, LB_STR, 0}};
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_ledger_place p;
	struct hga_err err;
	int64_t n = 0;

	memset(&p, 0, sizeof(p));
	luaL_checktype(L, 2, LUA_TTABLE);
	lb_opts(L, 2, "ledger:place", defs, &p);
	if (hga_ledger_place(led, &p, &n, &err) < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, n);
	return 1;
}

#define INTENT(field) offsetof(struct hga_ledger_intent, field)

static const struct lb_opt intent_defs[] = {
    {"op", LB_STR, INTENT(op)},
    {"run", LB_STR, INTENT(run)},
    {"parent", LB_STR, INTENT(parent)},
    {"kind", LB_STR, INTENT(kind)},
    {"cls", LB_STR, INTENT(cls)},
    {"place", LB_INT, INTENT(place)},
    {"name", LB_STR, INTENT(name)},
    {"token", LB_STR, INTENT(token)},
    {"req", LB_STR, INTENT(req)},
    {"expires", LB_NUM, INTENT(expires)},
    {NULL, LB_STR, 0}};

/*
 * A copy of the table at idx without `detail` (and `also`), on top of the
 * stack, and the detail, JSON text or a table of it, in *detail, anchored
 * below.  [-0, +2, raises]
 */
static void split_detail(lua_State *L, int idx, const char *also,
                         struct hga_str *detail)
{
	struct l_hold *h = new_hold(L);
	struct hga_err err;

	lua_newtable(L);
	if (lua_isnoneornil(L, idx))
		return;
	luaL_checktype(L, idx, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
		lua_pushvalue(L, -2);
		lua_pushvalue(L, -2);
		lua_rawset(L, -5);
	}
	for (int i = 0; i < 2; i++) {
		const char *key = i == 0 ? "detail" : also;

		if (key != NULL) {
			lua_pushnil(L);
			lua_setfield(L, -2, key);
		}
	}
	if (lua_getfield(L, idx, "detail") == LUA_TTABLE) {
		h->tape = hga_vtape_new(NULL, (size_t)16 * DETAIL_MAX);
		if (h->tape == NULL)
			(void)lb_fail(L, HGA_MEMORY, NULL, "out of memory");
		if (lbval_tape(L, -1, h->tape, false, &err) < 0 ||
		    hga_vt_end(h->tape, &err) < 0 ||
		    hga_json_write(&h->buf, hga_vtape_root(h->tape), 0, true,
		                   &err) < 0)
			(void)lb_raise(L, &err); /* raises */
		*detail = hga_buf_str(&h->buf);
	} else if (!lua_isnil(L, -1)) {
		*detail = lb_checkstr(L, -1); /* the caller's table keeps it */
	}
	lua_pop(L, 1);
}

/// Records what is about to be created; only then may it be asked for.
// @param t {op=, run=, kind=, place=, parent=, cls="ephemeral"|"durable",
//   name=, token=, req=, expires=epoch, detail=JSON text or table}; op is
//   made when absent
// @return string op
// @raise io (LedgerFailed, RunLost, DiskFull, Busy), exists, usage
static int ledger_intent(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_ledger_intent in;
	char op[HGA_OP_ID];
	struct hga_err err;

	memset(&in, 0, sizeof(in));
	luaL_checktype(L, 2, LUA_TTABLE);
	split_detail(L, 2, NULL, &in.detail);
	lb_opts(L, -1, "ledger:intent", intent_defs, &in);
	if (in.op.n == 0) {
		if (hga_token(op, &err) < 0)
			return lb_raise(L, &err);
		in.op = hga_str(op);
	}
	if (hga_ledger_intent(led, &in, &err) < 0)
		return lb_raise(L, &err);
	lb_pushstr(L, in.op);
	return 1;
}

struct set_opts {
	struct hga_ledger_change c;
	double recheck; /* 0: remove, < 0: not given */
};

#define CHANGE(field) offsetof(struct set_opts, c.field)

static const struct lb_opt set_defs[] = {
    {"id", LB_STR, CHANGE(id)},
    {"error", LB_STR, CHANGE(error)},
    {"name", LB_STR, CHANGE(name)},
    {"expires", LB_NUM, CHANGE(expires)},
    {"keep_until", LB_NUM, CHANGE(keep_until)},
    {"t_seen", LB_NUM, CHANGE(t_seen)},
    {"recheck", LB_NUM, offsetof(struct set_opts, recheck)},
    {NULL, LB_STR, 0}};

#define CHILD(field) offsetof(struct hga_ledger_child, field)

static const struct lb_opt child_defs[] = {{"kind", LB_STR, CHILD(kind)},
                                           {"id", LB_STR, CHILD(id)},
                                           {"name", LB_STR, CHILD(name)},
                                           {"cls", LB_STR, CHILD(cls)},
                                           {NULL, LB_STR, 0}};

/* Reads opts.children (texts stay in its tables, which stay on the stack at
 * the returned height).  Returns their number. [-0, +n, raises] */
static size_t read_children(lua_State *L, int idx,
                            struct hga_ledger_child *kids)
{
	size_t n;

	if (lua_isnoneornil(L, idx) ||
	    lua_getfield(L, idx, "children") == LUA_TNIL)
		return 0;
	luaL_checktype(L, -1, LUA_TTABLE);
	n = lua_rawlen(L, -1);
	if (n > KIDS_MAX)
		(void)lb_usage(L, idx, "more than %d children",
		               KIDS_MAX); /* raises */
	luaL_checkstack(L, (int)n * 4 + 8, NULL);
	idx = lua_gettop(L);
	for (size_t i = 0; i < n; i++) {
		memset(&kids[i], 0, sizeof(kids[i]));
		lua_rawgeti(L, idx, (lua_Integer)i + 1);
		split_detail(L, lua_gettop(L), NULL, &kids[i].detail);
		lb_opts(L, -1, "ledger child", child_defs, &kids[i]);
	}
	return n;
}

/* A delete goes on although it cannot be recorded: gc finds out later. */
static bool may_go_on(enum hga_ledger_state s)
{
	return s == HGA_LEDGER_DELETING || s == HGA_LEDGER_GONE ||
	       s == HGA_LEDGER_KEPT;
}

/// Changes the state of an entry.
// @param op string
// @param state string live unknown absent deleting gone kept
// @param[opt] opts {id=, error=, detail=, name=, expires=, keep_until=,
//   t_seen=, recheck=epoch (0 removes it), children={{kind=, id=, name=,
//   cls=, detail=}, ...}}
// @return boolean false: not recorded (only deleting, gone, kept)
// @raise bug (LedgerState: illegal change), notfound, io
static int ledger_set(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_str op = lb_checkstr(L, 2);
	enum hga_ledger_state s = hga_ledger_state_find(lb_checkstr(L, 3));
	struct hga_ledger_child kids[KIDS_MAX];
	struct set_opts o;
	struct hga_err err;
	int r;

	memset(&o, 0, sizeof(o));
	o.recheck = -1;
	if (s == HGA_LEDGER_NONE)
		return lb_usage(L, 3, "no state of the ledger");
	lua_settop(L, 4);
	split_detail(L, 4, "children", &o.c.detail);
	lb_opts(L, -1, "ledger:set", set_defs, &o);
	o.c.n_children = read_children(L, 4, kids);
	o.c.children = kids;
	o.c.no_recheck = o.recheck == 0;
	o.c.recheck = o.recheck > 0 ? o.recheck : 0;
	r = hga_ledger_set(led, op, s, &o.c, &err);
	if (r < 0 && !(r == -HGA_IO && may_go_on(s)))
		return lb_raise(L, &err);
	lua_pushboolean(L, r == 0);
	return 1;
}

/// Notes that a request leaves (again) now.
// @param op string
static int ledger_sent(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_err err;

	if (hga_ledger_sent(led, lb_checkstr(L, 2), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Records a resource that came along with another one, as live.
// @param t {parent=op, kind=, id=, name=, cls=, detail=}
// @return string op
// @raise io, notfound, usage
static int ledger_child(lua_State *L)
{
	static const struct lb_opt parent_def[] = {{"parent", LB_STR, 0},
	                                           {NULL, LB_STR, 0}};
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_ledger_child c;
	struct hga_str parent = {"", 0};
	char op[HGA_OP_ID];
	struct hga_err err;

	memset(&c, 0, sizeof(c));
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	split_detail(L, 2, "parent", &c.detail);
	lb_opts(L, -1, "ledger:child", child_defs, &c);
	lua_newtable(L);
	lua_getfield(L, 2, "parent");
	lua_setfield(L, -2, "parent");
	lb_opts(L, -1, "ledger:child", parent_def, &parent);
	if (hga_ledger_child(led, parent, &c, op, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, op);
	return 1;
}

/// Records a resource that was found by its tags or name, as live.
// @param t as for intent, and id=
// @return string op
// @raise io, usage
static int ledger_adopt(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_ledger_intent in;
	struct hga_str id;
	char op[HGA_OP_ID];
	struct hga_err err;

	memset(&in, 0, sizeof(in));
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	split_detail(L, 2, "id", &in.detail);
	lb_opts(L, -1, "ledger:adopt", intent_defs, &in);
	lua_getfield(L, 2, "id");
	if (lua_type(L, -1) != LUA_TSTRING)
		return lb_usage(L, 2, "id is missing");
	id = lb_checkstr(L, -1);
	if (hga_ledger_adopt(led, &in, id, op, &err) < 0)
		return lb_raise(L, &err);
	lua_pushstring(L, op);
	return 1;
}

/* Texts and times that are NULL in the row are absent in the table. */
static void put_text(struct hga_vtape *t, const char *key, struct hga_str v)
{
	if (v.n == 0)
		return;
	hga_vt_key(t, hga_str(key));
	hga_vt_str(t, HGA_NO_NAME, v);
}

static void put_always(struct hga_vtape *t, const char *key, struct hga_str v)
{
	hga_vt_key(t, hga_str(key));
	hga_vt_str(t, HGA_NO_NAME, v);
}

static void put_time(struct hga_vtape *t, const char *key, double v)
{
	if (v == 0)
		return;
	hga_vt_key(t, hga_str(key));
	hga_vt_num(t, HGA_NO_NAME, v);
}

static void put_place(struct hga_vtape *t, const struct hga_ledger_row *r)
{
	hga_vt_key(t, HGA_STR("place"));
	hga_vt_int(t, HGA_NO_NAME, r->place);
	put_always(t, "partition", r->partition);
	put_always(t, "account", r->account);
	put_always(t, "region", r->region);
	put_always(t, "endpoint", r->endpoint);
}

static int add_row(void *data, const struct hga_ledger_row *r,
                   struct hga_err *err)
{
	struct hga_vtape *t = data;

	hga_vt_open(t, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	put_always(t, "op", r->op);
	put_always(t, "run", r->run);
	put_text(t, "parent", r->parent);
	put_always(t, "kind", r->kind);
	put_always(t, "cls", r->cls);
	put_always(t, "state", hga_str(hga_ledger_state_name(r->state)));
	put_place(t, r);
	put_text(t, "name", r->name);
	put_text(t, "token", r->token);
	put_text(t, "id", r->id);
	put_text(t, "req", r->req);
	put_time(t, "t_intent", r->t_intent);
	put_time(t, "t_sent", r->t_sent);
	put_time(t, "t_live", r->t_live);
	put_time(t, "t_seen", r->t_seen);
	put_time(t, "t_state", r->t_state);
	put_time(t, "expires", r->expires);
	put_time(t, "keep_until", r->keep_until);
	put_time(t, "recheck", r->recheck);
	hga_vt_key(t, HGA_STR("adopted"));
	hga_vt_bool(t, HGA_NO_NAME, r->adopted);
	put_text(t, "detail", r->detail);
	put_text(t, "error", r->error);
	return hga_vt_close(t) < 0 ? hga_vt_end(t, err) : 0;
}

/* Pushes a list of the rows that pass the filter. [-0, +1, raises] */
static void push_rows(lua_State *L, struct hga_ledger *led,
                      const struct hga_ledger_filter *f)
{
	struct l_hold *h = new_hold(L);
	struct hga_err err;
	int r;

	h->tape = hga_vtape_new(NULL, ROWS_MAX);
	if (h->tape == NULL)
		(void)lb_fail(L, HGA_MEMORY, NULL,
		              "out of memory"); /* raises */
	hga_vt_open(h->tape, HGA_V_LIST, HGA_NO_NAME, HGA_NO_SHAPE);
	r = hga_ledger_list(led, f, add_row, h->tape, &err);
	hga_vt_close(h->tape);
	if (r == 0)
		r = hga_vt_end(h->tape, &err);
	if (r < 0)
		(void)lb_raise(L, &err); /* raises */
	push_tape(L, h);
}

/// One entry.
// @param op string
// @return table row (see list), or nil
static int ledger_get(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_ledger_filter f;

	memset(&f, 0, sizeof(f));
	f.op = lb_checkstr(L, 2);
	if (f.op.n == 0)
		return lb_usage(L, 2, "empty op");
	push_rows(L, led, &f);
	lua_rawgeti(L, -1, 1);
	return 1;
}

/* Bits of the states named in field `states` (a list or one name). */
static unsigned read_states(lua_State *L, int idx)
{
	unsigned bits = 0;

	lua_getfield(L, idx, "states");
	if (lua_type(L, -1) == LUA_TSTRING) {
		bits = 1u << hga_ledger_state_find(lb_checkstr(L, -1));
	} else if (!lua_isnil(L, -1)) {
		luaL_checktype(L, -1, LUA_TTABLE);
		for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING;
		     i++) {
			bits |= 1u << hga_ledger_state_find(lb_checkstr(L, -1));
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
		if (bits == 0)
			(void)lb_usage(L, idx, "states is empty"); /* raises */
	}
	lua_pop(L, 1);
	if (bits & 1u << HGA_LEDGER_NONE)
		(void)lb_usage(L, idx, "unknown state in states"); /* raises */
	return bits;
}

/* First of field `kinds` when it has one element; else filtered below. */
static bool kind_wanted(lua_State *L, int kinds, int row)
{
	bool found = false;

	lua_getfield(L, row, "kind");
	for (lua_Integer i = 1; !found && lua_rawgeti(L, kinds, i) != LUA_TNIL;
	     i++) {
		found = lua_rawequal(L, -1, row + 1) != 0;
		lua_pop(L, 1);
	}
	lua_settop(L, row);
	return found;
}

/* Keeps of the list on top the rows of the wanted kinds. [-1, +1, m] */
static void keep_kinds(lua_State *L, int kinds)
{
	int list = lua_gettop(L);
	lua_Integer n = 0;
	lua_Integer all = (lua_Integer)lua_rawlen(L, list);

	for (lua_Integer i = 1; i <= all; i++) {
		lua_rawgeti(L, list, i);
		if (kind_wanted(L, kinds, list + 1))
			lua_rawseti(L, list, ++n);
		lua_settop(L, list);
	}
	for (lua_Integer i = n + 1; i <= all; i++) {
		lua_pushnil(L);
		lua_rawseti(L, list, i);
	}
}

struct list_opts {
	struct hga_ledger_filter f;
	int states, kinds; /* given */
};

/// Entries in the order of their creation.
// @param[opt] opts {run=, kind=, kinds={...}, parent=, place=, states={...},
//   recheck_due=true}
// @return table[] {op run parent kind cls state place partition account
//   region endpoint name token id req t_intent t_sent t_live t_seen t_state
//   expires keep_until recheck adopted detail error}; what is unknown is nil
// @raise io (Damaged), usage
static int ledger_list(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"run", LB_STR, offsetof(struct list_opts, f.run)},
	    {"kind", LB_STR, offsetof(struct list_opts, f.kind)},
	    {"parent", LB_STR, offsetof(struct list_opts, f.parent)},
	    {"place", LB_INT, offsetof(struct list_opts, f.place)},
	    {"recheck_due", LB_BOOL, offsetof(struct list_opts, f.recheck_due)},
	    {"states", LB_ANY, offsetof(struct list_opts, states)},
	    {"kinds", LB_TABLE, offsetof(struct list_opts, kinds)},
	    {NULL, LB_STR, 0}};
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct list_opts o;

	memset(&o, 0, sizeof(o));
	lua_settop(L, 2);
	lb_opts(L, 2, "ledger:list", defs, &o);
	if (o.states)
		o.f.states = read_states(L, 2);
	lua_pushnil(L);
	if (o.kinds) {
		lua_pop(L, 1);
		lua_getfield(L, 2, "kinds");
	}
	push_rows(L, led, &o.f);
	if (o.kinds)
		keep_kinds(L, 3);
	return 1;
}

/// Number of open ephemerals, kept ones not counted.
// @param[opt] run string of this run only
// @return integer
static int ledger_open_count(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_str run = {"", 0};
	struct hga_err err;
	int64_t n;

	if (!lua_isnoneornil(L, 2))
		run = lb_checkstr(L, 2);
	n = hga_ledger_open_count(led, run, &err);
	if (n < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, n);
	return 1;
}

/* Pushes the run object for the ID or run at idx, or nil. [-0, +1, m] */
static struct l_run *find_run(lua_State *L, int idx)
{
	if (lb_test(L, idx, RUN_CLASS) != NULL) {
		lua_pushvalue(L, idx);
		return lb_test(L, -1, RUN_CLASS);
	}
	lua_getiuservalue(L, 1, 1);  /* state */
	lua_getiuservalue(L, -1, 2); /* its runs */
	lua_pushvalue(L, idx);
	lua_rawget(L, -2);
	lua_replace(L, -3);
	lua_pop(L, 1);
	return lb_test(L, -1, RUN_CLASS);
}

/// Records the start of a run; its lock is checked before each intent.
// @param run string ID, or the run object
// @param[opt] task string
// @raise io
static int ledger_begin_run(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	const char *task = luaL_optstring(L, 3, "");
	struct l_run *run = find_run(L, 2);
	struct hga_str id;
	struct hga_err err;
	int fd = -1;

	if (run != NULL && run->run != NULL) {
		id = hga_str(hga_run_id(run->run));
		fd = hga_run_lock_fd(run->run);
	} else {
		id = lb_checkstr(L, 2);
	}
	/* the ledger uses the descriptor: it keeps the run */
	lua_getiuservalue(L, 1, 2);
	lua_pushvalue(L, -2);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	if (hga_ledger_run_begin(led, id, hga_str(task), fd, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Records the end of a run.
// @param run string ID, or the run object
// @return boolean whether it could be recorded
static int ledger_end_run(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct l_run *run = lb_test(L, 2, RUN_CLASS);
	struct hga_str id;
	struct hga_err err;
	int r;

	if (run != NULL && run->run == NULL)
		return lb_usage(L, 2, "the run has been finished");
	id = run != NULL ? hga_str(hga_run_id(run->run)) : lb_checkstr(L, 2);
	r = hga_ledger_run_end(led, id, &err);
	if (r == -HGA_NOTFOUND)
		return lb_raise(L, &err);
	/* a missing end is no harm: the lock tells */
	lua_pushboolean(L, r == 0);
	return 1;
}

/// Adds a note to the ledger's events.
// @param op string|nil
// @param note string
static int ledger_event(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_str op = {"", 0};
	struct hga_err err;

	if (!lua_isnoneornil(L, 2))
		op = lb_checkstr(L, 2);
	if (hga_ledger_event(led, op, lb_checkstr(L, 3), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Marks all entries of an endpoint as gone (a wiped local cloud).
// @param endpoint string not empty
// @return integer how many
static int ledger_forget(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_err err;
	int64_t n = 0;

	if (hga_ledger_forget(led, lb_checkstr(L, 2), &n, &err) < 0)
		return lb_raise(L, &err);
	lua_pushinteger(L, n);
	return 1;
}

/// Drops one entry after a person said so: it is gone from now on.
// @param op string
// @raise usage there is none
static int ledger_forget_op(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_err err;

	if (hga_ledger_forget_op(led, lb_checkstr(L, 2), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// A run that resumes another one takes over one of its resources.
// @param op string
// @param from string run that ended; its lock is the caller's
// @param to string run that goes on
// @raise io, usage (it is nothing that run has left)
static int ledger_take(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_err err;

	if (hga_ledger_take(led, lb_checkstr(L, 2), lb_checkstr(L, 3),
	                    lb_checkstr(L, 4), &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Looks at the whole file and at each entry's checksum.
// @return table {ops=, open=, bad=}
// @raise io (Damaged)
static int ledger_check(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_ledger_counts n;
	struct hga_err err;

	if (hga_ledger_check(led, &n, &err) < 0)
		return lb_raise(L, &err);
	lua_createtable(L, 0, 3);
	lua_pushinteger(L, n.ops);
	lua_setfield(L, -2, "ops");
	lua_pushinteger(L, n.open);
	lua_setfield(L, -2, "open");
	lua_pushinteger(L, n.bad);
	lua_setfield(L, -2, "bad");
	return 1;
}

/// Makes the file anew from what can be read of it; open entries are unknown
/// then.
// @raise io
static int ledger_rebuild(lua_State *L)
{
	struct hga_ledger *led = lstate_ledger(L, 1);
	struct hga_err err;

	if (hga_ledger_rebuild(led, &err) < 0)
		return lb_raise(L, &err);
	return 0;
}

/// Whether a write failed: nothing more may be created.
// @return boolean
static int ledger_poisoned(lua_State *L)
{
	lua_pushboolean(L, hga_ledger_poisoned(lstate_ledger(L, 1)));
	return 1;
}

/* ---- module ---- */

/* Replaces __index of a class by f with the method table as upvalue. */
static void with_fields(lua_State *L, const char *tname, lua_CFunction f)
{
	luaL_getmetatable(L, tname);
	lua_getfield(L, -1, "__index");
	lua_pushcclosure(L, f, 1);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}

static void make_classes(lua_State *L)
{
	static const luaL_Reg state_methods[] = {{"run", state_run},
	                                         {"run_alive", state_run_alive},
	                                         {"runs", state_runs},
	                                         {"lock_run", state_lock_run},
	                                         {"vault", state_vault},
	                                         {"db", state_db},
	                                         {"ledger", state_ledger},
	                                         {"close", state_close},
	                                         {NULL, NULL}};
	static const luaL_Reg run_methods[] = {{"finish", run_finish},
	                                       {"close", run_finish},
	                                       {"lock_lost", run_lock_lost},
	                                       {NULL, NULL}};
	static const luaL_Reg lock_methods[] = {{"close", lock_close},
	                                        {NULL, NULL}};
	static const luaL_Reg vault_methods[] = {
	    {"key", vault_key},   {"find", vault_find},     {"put", vault_put},
	    {"path", vault_path}, {"remove", vault_remove}, {NULL, NULL}};
	static const luaL_Reg db_methods[] = {
	    {"exec", db_exec},     {"begin", db_begin},
	    {"commit", db_commit}, {"rollback", db_rollback},
	    {"close", db_close},   {NULL, NULL}};
	static const luaL_Reg ledger_methods[] = {
	    {"place", ledger_place},
	    {"intent", ledger_intent},
	    {"set", ledger_set},
	    {"sent", ledger_sent},
	    {"child", ledger_child},
	    {"adopt", ledger_adopt},
	    {"get", ledger_get},
	    {"list", ledger_list},
	    {"open_count", ledger_open_count},
	    {"begin_run", ledger_begin_run},
	    {"end_run", ledger_end_run},
	    {"event", ledger_event},
	    {"forget", ledger_forget},
	    {"forget_op", ledger_forget_op},
	    {"take", ledger_take},
	    {"check", ledger_check},
	    {"rebuild", ledger_rebuild},
	    {"poisoned", ledger_poisoned},
	    {"close", ledger_close},
	    {NULL, NULL}};
	static const luaL_Reg hold_methods[] = {{"close", hold_close},
	                                        {NULL, NULL}};

	lb_newclass(L, STATE_CLASS, state_methods, NULL);
	lb_newclass(L, RUN_CLASS, run_methods, NULL);
	lb_newclass(L, LOCK_CLASS, lock_methods, NULL);
	lb_newclass(L, VAULT_CLASS, vault_methods, NULL);
	lb_newclass(L, DB_CLASS, db_methods, NULL);
	lb_newclass(L, LEDGER_CLASS, ledger_methods, NULL);
	lb_newclass(L, HOLD_CLASS, hold_methods, NULL);
	with_fields(L, STATE_CLASS, state_index);
	with_fields(L, RUN_CLASS, run_index);
	with_fields(L, LEDGER_CLASS, ledger_index);
}

int luaopen_hgauto_state(lua_State *L)
{
	static const luaL_Reg funcs[] = {{"open", l_open}, {NULL, NULL}};

	make_classes(L);
	luaL_newlib(L, funcs);
	return 1;
}
