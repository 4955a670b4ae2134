/*
 * The ledger: rows, states, fail-stop; reliability.md sections 2.2-2.7.
 *
 * Rows are handled as arrays of cells in declared order, so that reading,
 * checksum, writing and the copy in memory are one piece of code for all
 * tables.  Every write goes through transact().
 */
#include "state/ledger.h"

#include "base/buf.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/redact.h"
#include "base/time.h"
#include "state/db.h"
#include "state/record.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define APP_ID 0x48474c31u
#define SCHEMA 1
#define LOCK_MS 10000
#define WAL_PAGES 64 /* 256 KiB of 4 KiB pages */
#define RESERVE (1024 * 1024)
#define FREE_MIN (8u * 1024 * 1024)
#define DETAIL_MAX 4096
#define ERROR_MAX 300
#define TEXT_MAX 2048
#define BACKUP_AGE_S (24 * 3600)
#define DAY_S 86400.0

/* ---- tables ---- */

#define MAX_COLS 22

struct table {
	const char *name, *cols; /* columns without crc */
	int n;
};

static const struct table t_meta = {"meta", "k,v", 2};
static const struct table t_place = {
	"place", "place,partition,account,region,endpoint", 5};
static const struct table t_run = {"run", "run,task,t_start,t_end", 4};
static const struct table t_op = {
	"op",
	"op,run,parent,kind,cls,state,place,name,token,id,req,t_intent,t_sent,"
	"t_live,t_seen,t_state,expires,keep_until,recheck,adopted,detail,error",
	MAX_COLS};
static const struct table t_event = {"event", "n,t,op,state,note", 5};

enum {
	OP,
	RUN,
	PARENT,
	KIND,
	CLS,
	STATE,
	PLACE,
	NAME,
	TOKEN,
	ID,
	REQ,
	T_INTENT,
	T_SENT,
	T_LIVE,
	T_SEEN,
	T_STATE,
	EXPIRES,
	KEEP_UNTIL,
	RECHECK,
	ADOPTED,
	DETAIL,
	ERROR
};

static const char schema[] =
	"CREATE TABLE meta(k TEXT PRIMARY KEY, v TEXT, crc INTEGER NOT NULL)"
	" STRICT;"
	"CREATE TABLE place(place INTEGER PRIMARY KEY, partition TEXT NOT NULL,"
	" account TEXT NOT NULL, region TEXT NOT NULL, endpoint TEXT NOT NULL,"
	" crc INTEGER NOT NULL, UNIQUE(partition,account,region,endpoint))"
	" STRICT;"
	"CREATE TABLE run(run TEXT PRIMARY KEY, task TEXT, t_start REAL,"
	" t_end REAL, crc INTEGER NOT NULL) STRICT;"
	"CREATE TABLE op(op TEXT PRIMARY KEY, run TEXT NOT NULL, parent TEXT,"
	" kind TEXT NOT NULL, cls TEXT NOT NULL, state TEXT NOT NULL,"
	" place INTEGER NOT NULL REFERENCES place(place), name TEXT,"
	" token TEXT, id TEXT, req TEXT, t_intent REAL, t_sent REAL,"
	" t_live REAL, t_seen REAL, t_state REAL, expires REAL,"
	" keep_until REAL, recheck REAL, adopted INTEGER NOT NULL,"
	" detail TEXT, error TEXT, crc INTEGER NOT NULL) STRICT;"
	"CREATE INDEX op_open ON op(state)"
	" WHERE state NOT IN ('gone','absent');"
	"CREATE TABLE event(n INTEGER PRIMARY KEY, t REAL NOT NULL, op TEXT,"
	" state TEXT, note TEXT, crc INTEGER NOT NULL) STRICT;"
	"PRAGMA user_version=1;";

/* ---- cells and rows ---- */

struct cell {
	enum hga_db_type type;
	int64_t i;
	double d;
	char *s; /* TEXT: owned */
	size_t n;
};

struct row {
	struct cell c[MAX_COLS];
};

static void cell_clear(struct cell *c)
{
	hga_free(c->s);
	memset(c, 0, sizeof(*c)); /* type NULL */
}

static void row_clear(struct row *row)
{
	for (int i = 0; i < MAX_COLS; i++)
		cell_clear(&row->c[i]);
}

static int set_text(struct cell *c, struct hga_str s, struct hga_err *err)
{
	char *copy = hga_memdup0(s.s, s.n);

	if (copy == NULL)
		return hga_fail_mem(err);
	cell_clear(c);
	c->type = HGA_DB_TEXT;
	c->s = copy;
	c->n = s.n;
	return 0;
}

/* Empty text is NULL in the row. */
static int set_opt(struct cell *c, struct hga_str s, struct hga_err *err)
{
	return s.n == 0 ? 0 : set_text(c, s, err);
}

static void set_int(struct cell *c, int64_t v)
{
	cell_clear(c);
	c->type = HGA_DB_INT;
	c->i = v;
}

static void set_num(struct cell *c, double v)
{
	cell_clear(c);
	c->type = HGA_DB_NUM;
	c->d = v;
}

static struct hga_str cell_str(const struct cell *c)
{
	return c->type == HGA_DB_TEXT ? hga_strn(c->s, c->n) : hga_strn("", 0);
}

static double cell_num(const struct cell *c)
{
	return c->type == HGA_DB_NUM ? c->d : 0;
}

static int row_copy(struct row *to, const struct row *from,
		    struct hga_err *err)
{
	struct row tmp;
	int r = 0;

	memset(&tmp, 0, sizeof(tmp));
	for (int i = 0; i < MAX_COLS && r == 0; i++) {
		const struct cell *c = &from->c[i];

		if (c->type == HGA_DB_TEXT) {
			r = set_text(&tmp.c[i], cell_str(c), err);
		} else {
			tmp.c[i] = *c;
		}
	}
	if (r < 0) {
		row_clear(&tmp);
		return r;
	}
	row_clear(to);
	*to = tmp;
	return 0;
}

/* printf's %.17g, whatever the locale. */
static int exact_num(char out[40], double v)
{
	locale_t old = uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));
	int n = snprintf(out, 40, "%.17g", v);

	(void)uselocale(old);
	return n;
}

/* CRC-32C over the cells: integers decimal, reals %.17g, text raw, NULL a
 * zero byte; 0x1f behind each. */
static uint32_t row_crc(const struct row *row, int n)
{
	uint32_t crc = 0;
	char tmp[40];

	for (int i = 0; i < n; i++) {
		const struct cell *c = &row->c[i];
		int len;

		switch (c->type) {
		case HGA_DB_NULL:
			crc = hga_crc32c(crc, "", 1);
			break;
		case HGA_DB_INT:
			len = snprintf(tmp, sizeof(tmp), "%lld",
				       (long long)c->i);
			crc = hga_crc32c(crc, tmp, (size_t)len);
			break;
		case HGA_DB_NUM:
			len = exact_num(tmp, c->d);
			crc = hga_crc32c(crc, tmp, (size_t)len);
			break;
		case HGA_DB_TEXT:
		case HGA_DB_BLOB:
			crc = hga_crc32c(crc, c->s, c->n);
			break;
		}
		crc = hga_crc32c(crc, "\x1f", 1);
	}
	return crc;
}

/* Reads the current row of st (all columns and crc, in order). */
static int row_read(const struct table *t, struct hga_stmt *st,
		    struct row *row, struct hga_err *err)
{
	int r = 0;

	row_clear(row);
	for (int i = 0; i < t->n && r == 0; i++) {
		switch (hga_stmt_type(st, i)) {
		case HGA_DB_NULL:
			break;
		case HGA_DB_INT:
			set_int(&row->c[i], hga_stmt_get_int(st, i));
			break;
		case HGA_DB_NUM:
			set_num(&row->c[i], hga_stmt_get_num(st, i));
			break;
		case HGA_DB_TEXT:
		case HGA_DB_BLOB:
			r = set_text(&row->c[i], hga_stmt_get_str(st, i), err);
			break;
		}
	}
	if (r == 0 && hga_stmt_get_int(st, t->n) !=
			      (int64_t)row_crc(row, t->n))
		r = hga_fail(err, HGA_IO, 0, "Damaged",
			     "a row of table %s has a wrong checksum", t->name);
	return r;
}

static void bind_row(struct hga_stmt *st, const struct row *row, int n)
{
	for (int i = 0; i < n; i++) {
		const struct cell *c = &row->c[i];

		switch (c->type) {
		case HGA_DB_NULL:
			hga_stmt_null(st, i + 1);
			break;
		case HGA_DB_INT:
			hga_stmt_int(st, i + 1, c->i);
			break;
		case HGA_DB_NUM:
			hga_stmt_num(st, i + 1, c->d);
			break;
		case HGA_DB_TEXT:
		case HGA_DB_BLOB:
			hga_stmt_text(st, i + 1, cell_str(c));
			break;
		}
	}
	hga_stmt_int(st, n + 1, row_crc(row, n));
}

static int run_sql(struct hga_db *db, const char *sql, const struct row *row,
		   int n, struct hga_err *err)
{
	struct hga_stmt *st;
	int r = hga_stmt_new(db, sql, &st, err);

	if (r < 0)
		return r;
	bind_row(st, row, n);
	r = hga_stmt_step(st, err);
	hga_stmt_free(st);
	return r < 0 ? r : 0;
}

/* verb: "INSERT" or "INSERT OR REPLACE". */
static int row_insert(struct hga_db *db, const struct table *t,
		      const char *verb, const struct row *row,
		      struct hga_err *err)
{
	struct hga_buf sql;
	int r;

	hga_buf_init(&sql, 4096);
	r = hga_buf_addf(&sql, err, "%s INTO %s(%s,crc) VALUES(", verb, t->name,
			 t->cols);
	for (int i = 1; i <= t->n && r == 0; i++)
		r = hga_buf_addf(&sql, err, "?%d,", i);
	if (r == 0)
		r = hga_buf_addf(&sql, err, "?%d)", t->n + 1);
	if (r == 0)
		r = run_sql(db, sql.data, row, t->n, err);
	hga_buf_release(&sql);
	return r;
}

/* Rewrites the row with the same key (its place in the order stays). */
static int row_update(struct hga_db *db, const struct table *t,
		      const struct row *row, struct hga_err *err)
{
	struct hga_buf sql;
	size_t key = strcspn(t->cols, ",");
	int r;

	hga_buf_init(&sql, 4096);
	r = hga_buf_addf(&sql, err, "UPDATE %s SET (%s,crc)=(", t->name,
			 t->cols);
	for (int i = 1; i <= t->n && r == 0; i++)
		r = hga_buf_addf(&sql, err, "?%d,", i);
	if (r == 0)
		r = hga_buf_addf(&sql, err, "?%d) WHERE %.*s=?1", t->n + 1,
				 (int)key, t->cols);
	if (r == 0)
		r = run_sql(db, sql.data, row, t->n, err);
	hga_buf_release(&sql);
	return r;
}

/* "SELECT <columns> FROM <table> <tail>" */
static int select_rows(struct hga_db *db, const struct table *t,
		       const char *tail, struct hga_stmt **st,
		       struct hga_err *err)
{
	struct hga_buf sql;
	int r;

	hga_buf_init(&sql, 4096);
	r = hga_buf_addf(&sql, err, "SELECT %s,crc FROM %s %s", t->cols,
			 t->name, tail);
	if (r == 0)
		r = hga_stmt_new(db, sql.data, st, err);
	hga_buf_release(&sql);
	return r;
}

/* 1 and the row with that key, 0 when there is none. */
static int row_find(struct hga_db *db, const struct table *t, const char *where,
		    struct hga_str key, struct row *row, struct hga_err *err)
{
	struct hga_stmt *st;
	int r = select_rows(db, t, where, &st, err);

	if (r < 0)
		return r;
	hga_stmt_text(st, 1, key);
	r = hga_stmt_step(st, err);
	if (r > 0) {
		r = row_read(t, st, row, err);
		r = r < 0 ? r : 1;
	}
	hga_stmt_free(st);
	return r;
}

/* ---- the object ---- */

struct mem_op { /* a row this process wrote */
	struct row row;
	struct mem_op *next;
};

struct mem_place {
	struct row row;
	struct mem_place *next;
};

struct mem_run {
	struct row row;
	int lock_fd;
	struct mem_run *next;
};

struct hga_ledger {
	char *dir;    /* the state directory */
	char *path;   /* ledger.db */
	char *lock;   /* ledger.lock */
	char *reserve;
	char sid[16];
	struct hga_db *db;
	dev_t dev;
	ino_t ino;
	bool poisoned;
	int newer; /* schema of a newer program: read-only */
	struct mem_op *ops;
	struct mem_place *places;
	struct mem_run *runs;
};

static const char *const state_names[] = {
	"none", "intent", "unknown", "live", "kept", "deleting", "gone",
	"absent"};

const char *hga_ledger_state_name(enum hga_ledger_state s)
{
	return state_names[s];
}

enum hga_ledger_state hga_ledger_state_find(struct hga_str name)
{
	for (unsigned i = HGA_LEDGER_INTENT; i <= HGA_LEDGER_ABSENT; i++)
		if (hga_str_eqc(name, state_names[i]))
			return (enum hga_ledger_state)i;
	return HGA_LEDGER_NONE;
}

bool hga_ledger_poisoned(const struct hga_ledger *led)
{
	return led->poisoned;
}

static double now_s(void)
{
	return (double)hga_wall_us() / 1e6;
}

static struct mem_op *mem_find(const struct hga_ledger *led,
			       struct hga_str op)
{
	struct mem_op *m = led->ops;

	while (m != NULL && !hga_str_eq(cell_str(&m->row.c[OP]), op))
		m = m->next;
	return m;
}

/* Keeps (a copy of) a row of ours for the case that the file fails. */
static int mem_keep(struct hga_ledger *led, const struct row *row,
		    struct hga_err *err)
{
	struct mem_op *m = mem_find(led, cell_str(&row->c[OP]));
	struct mem_op **end = &led->ops;
	int r;

	if (m != NULL)
		return row_copy(&m->row, row, err);
	m = hga_calloc(1, sizeof(*m));
	if (m == NULL)
		return hga_fail_mem(err);
	r = row_copy(&m->row, row, err);
	if (r < 0) {
		hga_free(m);
		return r;
	}
	while (*end != NULL)
		end = &(*end)->next;
	*end = m;
	return 0;
}

static void mem_drop(struct hga_ledger *led, struct hga_str op)
{
	struct mem_op **p = &led->ops;
	struct mem_op *m = mem_find(led, op);

	while (m != NULL && *p != m)
		p = &(*p)->next;
	if (m == NULL)
		return;
	*p = m->next;
	row_clear(&m->row);
	hga_free(m);
}

static void mem_release(struct hga_ledger *led)
{
	while (led->ops != NULL) {
		struct mem_op *m = led->ops;

		led->ops = m->next;
		row_clear(&m->row);
		hga_free(m);
	}
	while (led->places != NULL) {
		struct mem_place *m = led->places;

		led->places = m->next;
		row_clear(&m->row);
		hga_free(m);
	}
	while (led->runs != NULL) {
		struct mem_run *m = led->runs;

		led->runs = m->next;
		row_clear(&m->row);
		hga_free(m);
	}
}

/* ---- opening ---- */

static int make_schema(struct hga_ledger *led, struct hga_err *err)
{
	struct row row;
	int r = hga_db_begin(led->db, err);

	memset(&row, 0, sizeof(row));
	if (r == 0)
		r = hga_db_exec(led->db, schema, err);
	if (r == 0)
		r = set_text(&row.c[0], HGA_STR("sid"), err);
	if (r == 0)
		r = set_text(&row.c[1], hga_str(led->sid), err);
	if (r == 0)
		r = row_insert(led->db, &t_meta, "INSERT", &row, err);
	if (r == 0)
		r = hga_db_commit(led->db, err);
	if (r < 0)
		hga_db_rollback(led->db);
	row_clear(&row);
	return r;
}

static int check_sid(struct hga_ledger *led, struct hga_err *err)
{
	struct row row;
	int r;

	memset(&row, 0, sizeof(row));
	r = row_find(led->db, &t_meta, "WHERE k=?1", HGA_STR("sid"), &row, err);
	if (r == 0)
		r = hga_fail(err, HGA_IO, 0, "Damaged",
			     "%s has no identity", led->path);
	else if (r > 0 && !hga_str_eqc(cell_str(&row.c[1]), led->sid))
		r = hga_fail(err, HGA_IO, 0, "Identity",
			     "%s belongs to %.*s, but the file sid beside it "
			     "says %s",
			     led->path, HGA_STRF(cell_str(&row.c[1])),
			     led->sid);
	row_clear(&row);
	return r < 0 ? r : 0;
}

/* All open rows can be read and have the right checksum. */
static int check_rows(struct hga_ledger *led, struct hga_err *err)
{
	struct hga_stmt *st;
	struct row row;
	int r = select_rows(led->db, &t_op,
			    "WHERE state NOT IN ('gone','absent')", &st, err);

	if (r < 0)
		return r;
	memset(&row, 0, sizeof(row));
	while ((r = hga_stmt_step(st, err)) > 0) {
		r = row_read(&t_op, st, &row, err);
		if (r < 0)
			break;
	}
	row_clear(&row);
	hga_stmt_free(st);
	return r;
}

/* Old final rows and events go, at each opening. */
static int prune(struct hga_ledger *led, struct hga_err *err)
{
	char sql[512];
	char ops[40];
	char events[40];
	int r = hga_db_begin(led->db, err);

	(void)exact_num(ops, now_s() - 30 * DAY_S); /* always fits */
	(void)exact_num(events, now_s() - 90 * DAY_S);
	(void)snprintf(sql, sizeof(sql),
		       "DELETE FROM op WHERE state IN ('gone','absent')"
		       " AND recheck IS NULL AND t_state < %s;"
		       "DELETE FROM event WHERE t < %s OR n <="
		       " (SELECT max(n) FROM event) - 50000;",
		       ops, events);
	if (r == 0)
		r = hga_db_exec(led->db, sql, err);
	if (r == 0)
		r = hga_db_commit(led->db, err);
	if (r < 0)
		hga_db_rollback(led->db);
	return r;
}

static int check_content(struct hga_ledger *led, struct hga_err *err)
{
	int64_t version;
	int r = hga_db_int(led->db, "PRAGMA user_version", 0, &version, err);

	if (r < 0)
		return r;
	if (version == 0) /* new, or a crash came before the first commit */
		return make_schema(led, err);
	r = hga_db_check(led->db, err);
	if (r == 0 && version > SCHEMA) {
		led->newer = (int)version;
		return 0;
	}
	if (r == 0)
		r = check_sid(led, err);
	if (r == 0)
		r = check_rows(led, err);
	return r < 0 ? r : prune(led, err);
}

/* The caller holds ledger.lock. */
static int open_db(struct hga_ledger *led, struct hga_err *err)
{
	const struct hga_db_opts opts = {true, true, true, APP_ID};
	struct stat sb;
	int r = hga_db_open(led->path, &opts, &led->db, NULL, err);

	if (r == 0 && stat(led->path, &sb) != 0)
		r = hga_fs_fail(err, errno, "stat", led->path);
	if (r < 0)
		return r;
	led->dev = sb.st_dev;
	led->ino = sb.st_ino;
	return check_content(led, err);
}

/* Space that lets deletions be recorded on a full disk. */
static void make_reserve(const struct hga_ledger *led)
{
	struct stat sb;
	int fd;

	if (lstat(led->reserve, &sb) == 0)
		return;
	fd = hga_fs_open(led->reserve,
			 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, NULL);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, RESERVE) != 0)
		(void)unlink(led->reserve); /* full: without it, then */
	(void)close(fd); /* holds no data */
}

static char *join(const char *dir, const char *name)
{
	struct hga_buf b;

	hga_buf_init(&b, 65536);
	if (hga_buf_addf(&b, NULL, "%s/%s", dir, name) < 0)
		hga_buf_release(&b);
	return hga_buf_move(&b);
}

static int take_lock(const struct hga_ledger *led, struct hga_err *err)
{
	int fd = hga_fs_lock_wait(led->lock, false, LOCK_MS, err);

	if (fd == -HGA_EXISTS)
		return hga_fail(err, HGA_IO, 0, "Busy",
				"ledger.lock is held by another hgauto");
	return fd;
}

int hga_ledger_open(const struct hga_state *st, struct hga_ledger **out,
		    struct hga_err *err)
{
	struct hga_ledger *led = hga_calloc(1, sizeof(*led));
	int lock = -1;
	int r = 0;

	if (led == NULL)
		return hga_fail_mem(err);
	led->dir = hga_strdup(hga_state_path(st));
	led->path = join(hga_state_path(st), "ledger.db");
	led->lock = join(hga_state_path(st), "ledger.lock");
	led->reserve = join(hga_state_path(st), "ledger.reserve");
	(void)snprintf(led->sid, sizeof(led->sid), "%s", hga_state_sid(st));
	if (led->dir == NULL || led->path == NULL || led->lock == NULL ||
	    led->reserve == NULL)
		r = hga_fail_mem(err);
	if (r == 0)
		r = lock = take_lock(led, err);
	if (lock >= 0) {
		r = open_db(led, err);
		if (r == 0)
			make_reserve(led);
		(void)close(lock); /* unlocks */
	}
	if (r < 0)
		hga_ledger_close(led);
	else
		*out = led;
	return r;
}

void hga_ledger_close(struct hga_ledger *led)
{
	int lock;

	if (led == NULL)
		return;
	if (led->db != NULL) {
		lock = take_lock(led, NULL);
		/* what is not checkpointed stays in the WAL */
		if (lock >= 0 && !led->poisoned && led->newer == 0)
			(void)!hga_db_checkpoint(led->db, NULL);
		hga_db_close(led->db);
		if (lock >= 0)
			(void)close(lock); /* unlocks */
	}
	mem_release(led);
	hga_free(led->dir);
	hga_free(led->path);
	hga_free(led->lock);
	hga_free(led->reserve);
	hga_free(led);
}

/* ---- transactions ---- */

/* Statements of one transaction; < 0 rolls back. */
typedef int (*tx_fn)(struct hga_ledger *led, void *data, struct hga_err *err);

static int restore_rows(struct hga_ledger *led, struct hga_err *err)
{
	int r = 0;

	for (struct mem_place *m = led->places; m != NULL && r == 0;
	     m = m->next)
		r = row_insert(led->db, &t_place, "INSERT OR IGNORE", &m->row,
			       err);
	for (struct mem_run *m = led->runs; m != NULL && r == 0; m = m->next)
		r = row_insert(led->db, &t_run, "INSERT OR REPLACE", &m->row,
			       err);
	for (struct mem_op *m = led->ops; m != NULL && r == 0; m = m->next)
		r = row_insert(led->db, &t_op, "INSERT OR REPLACE", &m->row,
			       err);
	return r;
}

/* Another process set the file aside: go on in the new one. */
static int follow_file(struct hga_ledger *led, struct hga_err *err)
{
	struct hga_db *old = led->db;
	struct stat sb;
	int r;

	if (stat(led->path, &sb) == 0 && sb.st_dev == led->dev &&
	    sb.st_ino == led->ino)
		return 0;
	led->db = NULL;
	r = open_db(led, err);
	if (r < 0) { /* the old one can still be read */
		hga_db_close(led->db);
		led->db = old;
		return r;
	}
	hga_db_close(old);
	r = hga_db_begin(led->db, err);
	if (r == 0)
		r = restore_rows(led, err);
	if (r == 0)
		r = hga_db_commit(led->db, err);
	return r;
}

static int try_tx(struct hga_ledger *led, tx_fn fn, void *data,
		  struct hga_err *err)
{
	int r = hga_db_begin(led->db, err);

	if (r == 0)
		r = fn(led, data, err);
	if (r == 0)
		r = hga_db_commit(led->db, err);
	if (r < 0)
		hga_db_rollback(led->db);
	return r;
}

static bool is_code(int r, const struct hga_err *err, const char *code)
{
	return r == -HGA_IO && strcmp(err->code, code) == 0;
}

/* Errors that say that the file cannot be trusted with more writes. */
static bool fatal(int r, const struct hga_err *err)
{
	return (r == -HGA_IO && !is_code(r, err, "Busy")) ||
	       r == -HGA_NOTFOUND;
}

/* The file part of transact: under ledger.lock. */
static int locked_tx(struct hga_ledger *led, tx_fn fn, void *data,
		     bool use_reserve, struct hga_err *err)
{
	int r = follow_file(led, err);

	if (r < 0)
		return r;
	r = try_tx(led, fn, data, err);
	if (is_code(r, err, "Full") && use_reserve &&
	    unlink(led->reserve) == 0)
		r = try_tx(led, fn, data, err);
	if (r == 0 && hga_db_wal_pages(led->db) > WAL_PAGES)
		r = hga_db_checkpoint(led->db, err);
	return r;
}

static int ledger_failed(struct hga_err *err)
{
	return hga_fail(err, HGA_IO, 0, "LedgerFailed",
			"the ledger failed before; nothing more is created");
}

/*
 * One durable transaction.  fn's own refusals (usage, bug, exists) leave the
 * ledger in order; a failing file poisons it.  *err must not be NULL.
 */
static int transact(struct hga_ledger *led, tx_fn fn, void *data,
		    bool use_reserve, struct hga_err *err)
{
	int lock;
	int r;

	if (led->newer != 0)
		return hga_fail(err, HGA_USAGE, 0, "LedgerNewer",
				"ledger.db was written by a newer hgauto "
				"(schema %d, this one knows %d)",
				led->newer, SCHEMA);
	if (led->poisoned)
		return ledger_failed(err);
	lock = take_lock(led, err);
	r = lock;
	if (lock >= 0) {
		r = locked_tx(led, fn, data, use_reserve, err);
		(void)close(lock); /* unlocks */
	}
	if (r < 0 && (lock < 0 ? !is_code(r, err, "Busy") : fatal(r, err))) {
		led->poisoned = true;
		hga_log(HGA_LOG_ERROR, "ledger", "%s", err->msg);
		if (r == -HGA_NOTFOUND)
			err->kind = HGA_IO;
		r = -HGA_IO;
	}
	return r;
}

/* ---- runs and places ---- */

static struct mem_run *find_run(const struct hga_ledger *led,
				struct hga_str run)
{
	struct mem_run *m = led->runs;

	while (m != NULL && !hga_str_eq(cell_str(&m->row.c[0]), run))
		m = m->next;
	return m;
}

static int tx_run(struct hga_ledger *led, void *data, struct hga_err *err)
{
	return row_insert(led->db, &t_run, "INSERT OR REPLACE", data, err);
}

/* A copy of the ledger once a day; a run does without if it fails. */
static void daily_backup(struct hga_ledger *led)
{
	struct hga_err err;
	struct stat sb;
	char *path = join(led->dir, "ledger.bak");
	int lock;

	if (path == NULL)
		return;
	if (stat(path, &sb) == 0 &&
	    now_s() - (double)sb.st_mtime < BACKUP_AGE_S) {
		hga_free(path);
		return;
	}
	lock = take_lock(led, &err);
	if (lock < 0 || hga_db_backup(led->db, path, &err) < 0)
		hga_log(HGA_LOG_WARN, "ledger", "no copy of ledger.db: %s",
			err.msg);
	if (lock >= 0)
		(void)close(lock); /* unlocks */
	hga_free(path);
}

int hga_ledger_run_begin(struct hga_ledger *led, struct hga_str run,
			 struct hga_str task, int lock_fd, struct hga_err *err)
{
	struct mem_run *m = hga_calloc(1, sizeof(*m));
	struct hga_err own;
	int r = 0;

	err = err ? err : &own;
	if (m == NULL)
		return hga_fail_mem(err);
	m->lock_fd = lock_fd;
	if (run.n == 0 || run.n > 64 || task.n > TEXT_MAX)
		r = hga_fail(err, HGA_USAGE, 0, "Run", "wrong run or task");
	if (r == 0)
		r = set_text(&m->row.c[0], run, err);
	if (r == 0)
		r = set_opt(&m->row.c[1], task, err);
	if (r == 0) {
		set_num(&m->row.c[2], now_s());
		r = transact(led, tx_run, &m->row, false, err);
	}
	if (r < 0) {
		row_clear(&m->row);
		hga_free(m);
		return r;
	}
	m->next = led->runs;
	led->runs = m;
	daily_backup(led);
	return 0;
}

int hga_ledger_run_end(struct hga_ledger *led, struct hga_str run,
		       struct hga_err *err)
{
	struct mem_run *m = find_run(led, run);
	struct hga_err own;

	if (m == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, "Run",
				"run %.*s was not begun here", HGA_STRF(run));
	m->lock_fd = -1;
	set_num(&m->row.c[3], now_s());
	if (led->poisoned)
		return 0;
	return transact(led, tx_run, &m->row, true, err ? err : &own);
}

/* The record of place n, from memory or the file; NULL: no such place. */
static struct mem_place *find_place(struct hga_ledger *led, int64_t n,
				    struct hga_err *err)
{
	struct mem_place *m = led->places;
	char key[24];
	int r;

	while (m != NULL && m->row.c[0].i != n)
		m = m->next;
	if (m != NULL)
		return m;
	if (led->db == NULL)
		return NULL;
	m = hga_calloc(1, sizeof(*m));
	if (m == NULL)
		return NULL;
	(void)snprintf(key, sizeof(key), "%lld", (long long)n);
	r = row_find(led->db, &t_place, "WHERE place=CAST(?1 AS INTEGER)",
		     hga_str(key), &m->row, err);
	if (r <= 0) {
		row_clear(&m->row);
		hga_free(m);
		return NULL;
	}
	m->next = led->places;
	led->places = m;
	return m;
}

static int select_place(struct hga_ledger *led,
			const struct hga_ledger_place *p, int64_t *n,
			struct hga_err *err)
{
	struct hga_stmt *st;
	int r = hga_stmt_new(led->db,
			     "SELECT place FROM place WHERE partition=?1 AND"
			     " account=?2 AND region=?3 AND endpoint=?4",
			     &st, err);

	if (r < 0)
		return r;
	hga_stmt_text(st, 1, p->partition);
	hga_stmt_text(st, 2, p->account);
	hga_stmt_text(st, 3, p->region);
	hga_stmt_text(st, 4, p->endpoint);
	r = hga_stmt_step(st, err);
	if (r > 0)
		*n = hga_stmt_get_int(st, 0);
	hga_stmt_free(st);
	return r;
}

struct place_tx {
	const struct hga_ledger_place *p;
	int64_t n;
};

static int tx_place(struct hga_ledger *led, void *data, struct hga_err *err)
{
	struct place_tx *x = data;
	struct row row;
	int r = select_place(led, x->p, &x->n, err);

	if (r != 0)
		return r < 0 ? r : 0;
	r = hga_db_int(led->db, "SELECT max(place)+1 FROM place", 1, &x->n,
		       err);
	memset(&row, 0, sizeof(row));
	x->n = x->n > 0 ? x->n : 1;
	set_int(&row.c[0], x->n);
	if (r == 0)
		r = set_text(&row.c[1], x->p->partition, err);
	if (r == 0)
		r = set_text(&row.c[2], x->p->account, err);
	if (r == 0)
		r = set_text(&row.c[3], x->p->region, err);
	if (r == 0)
		r = set_text(&row.c[4], x->p->endpoint, err);
	if (r == 0)
		r = row_insert(led->db, &t_place, "INSERT", &row, err);
	row_clear(&row);
	return r;
}

int hga_ledger_place(struct hga_ledger *led, const struct hga_ledger_place *p,
		     int64_t *place, struct hga_err *err)
{
	struct place_tx x = {p, 0};
	struct hga_err own;
	int r;

	err = err ? err : &own;
	if (led->db == NULL)
		return ledger_failed(err);
	if (p->partition.n + p->account.n + p->region.n + p->endpoint.n >
	    TEXT_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Place", "overlong place");
	r = select_place(led, p, &x.n, err);
	if (r == 0)
		r = transact(led, tx_place, &x, false, err);
	if (r < 0)
		return r;
	*place = x.n;
	/* remembered, so that a new file can get it too */
	return find_place(led, x.n, err) != NULL ? 0 : hga_fail_mem(err);
}

/* ---- events ---- */

static int add_event(struct hga_ledger *led, struct hga_str op,
		     const char *state, struct hga_str note,
		     struct hga_err *err)
{
	struct row row;
	int64_t n;
	int r = hga_db_int(led->db, "SELECT max(n)+1 FROM event", 1, &n, err);

	memset(&row, 0, sizeof(row));
	set_int(&row.c[0], n > 0 ? n : 1);
	set_num(&row.c[1], now_s());
	if (r == 0)
		r = set_opt(&row.c[2], op, err);
	if (r == 0 && state != NULL)
		r = set_text(&row.c[3], hga_str(state), err);
	if (r == 0)
		r = set_opt(&row.c[4], note, err);
	if (r == 0)
		r = row_insert(led->db, &t_event, "INSERT", &row, err);
	row_clear(&row);
	return r;
}

struct event_tx {
	struct hga_str op, note;
};

static int tx_event(struct hga_ledger *led, void *data, struct hga_err *err)
{
	const struct event_tx *x = data;

	return add_event(led, x->op, NULL, x->note, err);
}

/* Text without secrets, at most max bytes, whole characters. */
static int safe_text(struct hga_str s, size_t max, struct hga_buf *out,
		     struct hga_err *err)
{
	struct hga_buf tmp;
	int r;

	hga_buf_init(&tmp, 1024 * 1024);
	r = hga_redact_text(hga_log_redact(), s, &tmp, err);
	if (r == 0)
		r = hga_redact_shapes(hga_buf_str(&tmp), out, err);
	if (out->len > max) {
		hga_buf_truncate(out, max);
		/* the last character may have been cut */
		for (int i = 0; i < 3 && !hga_utf8_valid(hga_buf_str(out)); i++)
			hga_buf_truncate(out, out->len - 1);
	}
	hga_buf_release(&tmp);
	return r;
}

int hga_ledger_event(struct hga_ledger *led, struct hga_str op,
		     struct hga_str note, struct hga_err *err)
{
	struct hga_err own;
	struct hga_buf safe;
	struct event_tx x;
	int r;

	err = err ? err : &own;
	hga_buf_init(&safe, 1024 * 1024);
	r = safe_text(note, ERROR_MAX, &safe, err);
	x.op = op;
	x.note = hga_buf_str(&safe);
	if (r == 0)
		r = transact(led, tx_event, &x, true, err);
	hga_buf_release(&safe);
	return r;
}

/* ---- intents ---- */

static bool op_ok(struct hga_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(s.s[i] >= '0' && s.s[i] <= '9') &&
		    !(s.s[i] >= 'a' && s.s[i] <= 'f'))
			return false;
	return s.n == HGA_OP_ID - 1;
}

static int check_intent(const struct hga_ledger_intent *in,
			struct hga_err *err)
{
	const char *wrong = NULL;

	if (!op_ok(in->op))
		wrong = "op is not 32 hex digits";
	else if (in->run.n == 0 || in->run.n > 64)
		wrong = "run is missing";
	else if (in->kind.n == 0 || in->kind.n > 64)
		wrong = "kind is missing";
	else if (in->cls.n != 0 && !hga_str_eqc(in->cls, "ephemeral") &&
		 !hga_str_eqc(in->cls, "durable"))
		wrong = "class is neither ephemeral nor durable";
	else if (in->place <= 0)
		wrong = "place is missing";
	else if (in->parent.n != 0 && !op_ok(in->parent))
		wrong = "parent is not 32 hex digits";
	else if (in->name.n > TEXT_MAX || in->token.n > TEXT_MAX ||
		 in->req.n > 128)
		wrong = "name, token or req is too long";
	else if (in->detail.n > DETAIL_MAX)
		wrong = "detail is over 4 KiB";
	if (wrong == NULL)
		return 0;
	return hga_fail(err, HGA_USAGE, 0, "Ledger", "ledger entry: %s", wrong);
}

static int fill_row(struct row *row, const struct hga_ledger_intent *in,
		    enum hga_ledger_state state, struct hga_err *err)
{
	struct hga_str cls = in->cls.n ? in->cls : HGA_STR("ephemeral");
	int r = set_text(&row->c[OP], in->op, err);

	if (r == 0)
		r = set_text(&row->c[RUN], in->run, err);
	if (r == 0)
		r = set_opt(&row->c[PARENT], in->parent, err);
	if (r == 0)
		r = set_text(&row->c[KIND], in->kind, err);
	if (r == 0)
		r = set_text(&row->c[CLS], cls, err);
	if (r == 0)
		r = set_text(&row->c[STATE], hga_str(state_names[state]), err);
	if (r == 0)
		r = set_opt(&row->c[NAME], in->name, err);
	if (r == 0)
		r = set_opt(&row->c[TOKEN], in->token, err);
	if (r == 0)
		r = set_opt(&row->c[REQ], in->req, err);
	if (r == 0)
		r = set_opt(&row->c[DETAIL], in->detail, err);
	set_int(&row->c[PLACE], in->place);
	set_int(&row->c[ADOPTED], 0);
	set_num(&row->c[T_INTENT], now_s());
	set_num(&row->c[T_STATE], now_s());
	if (in->expires > 0)
		set_num(&row->c[EXPIRES], in->expires);
	return r;
}

static const char *row_state(const struct row *row)
{
	return row->c[STATE].s;
}

static int tx_insert(struct hga_ledger *led, void *data, struct hga_err *err)
{
	const struct row *row = data;
	int r = row_insert(led->db, &t_op, "INSERT", row, err);

	if (r == 0)
		r = add_event(led, cell_str(&row->c[OP]), row_state(row),
			      hga_strn("", 0), err);
	return r;
}

static int check_room(const struct hga_ledger *led, struct hga_err *err)
{
	uint64_t bytes;
	int r = hga_fs_space(led->dir, &bytes, err);

	if (r == 0 && bytes < FREE_MIN)
		r = hga_fail(err, HGA_IO, 0, "DiskFull",
			     "less than 8 MiB free in %s; nothing is created",
			     led->dir);
	return r;
}

static int check_run(const struct hga_ledger *led, struct hga_str run,
		     struct hga_err *err)
{
	const struct mem_run *m = find_run(led, run);
	struct stat sb;

	if (m == NULL || m->lock_fd < 0)
		return 0;
	if (fstat(m->lock_fd, &sb) == 0 && sb.st_nlink > 0)
		return 0;
	return hga_fail(err, HGA_IO, 0, "RunLost",
			"the record of run %.*s was removed while it runs; "
			"nothing more is created",
			HGA_STRF(run));
}

int hga_ledger_intent(struct hga_ledger *led,
		      const struct hga_ledger_intent *in, struct hga_err *err)
{
	struct hga_err own;
	struct row row;
	int r;

	err = err ? err : &own;
	memset(&row, 0, sizeof(row));
	r = check_intent(in, err);
	if (r == 0 && mem_find(led, in->op) != NULL)
		r = hga_fail(err, HGA_EXISTS, 0, "Ledger",
			     "ledger entry %.*s exists", HGA_STRF(in->op));
	if (r < 0)
		return r;
	if (r == 0)
		r = check_run(led, in->run, err);
	if (r == 0)
		r = check_room(led, err);
	if (r == 0)
		r = fill_row(&row, in, HGA_LEDGER_INTENT, err);
	if (r == 0) {
		set_num(&row.c[T_SENT], now_s());
		/* before the file: what was recorded must not be forgotten */
		r = mem_keep(led, &row, err);
	}
	if (r == 0)
		r = transact(led, tx_insert, &row, false, err);
	if (r < 0) /* it will not be sent */
		mem_drop(led, in->op);
	row_clear(&row);
	return r;
}

/* ---- changes ---- */

static bool allowed(enum hga_ledger_state from, enum hga_ledger_state to)
{
	static const unsigned next[] = {
		[HGA_LEDGER_INTENT] = 1u << HGA_LEDGER_LIVE |
				      1u << HGA_LEDGER_UNKNOWN |
				      1u << HGA_LEDGER_ABSENT,
		[HGA_LEDGER_UNKNOWN] = 1u << HGA_LEDGER_LIVE |
				       1u << HGA_LEDGER_ABSENT,
		[HGA_LEDGER_LIVE] = 1u << HGA_LEDGER_DELETING |
				    1u << HGA_LEDGER_KEPT |
				    1u << HGA_LEDGER_GONE,
		[HGA_LEDGER_KEPT] = 1u << HGA_LEDGER_DELETING |
				    1u << HGA_LEDGER_LIVE |
				    1u << HGA_LEDGER_GONE,
		[HGA_LEDGER_DELETING] = 1u << HGA_LEDGER_GONE |
					1u << HGA_LEDGER_LIVE,
		[HGA_LEDGER_GONE] = 0,
		[HGA_LEDGER_ABSENT] = 0,
	};

	return from == to || (next[from] >> to & 1);
}

/* A final row comes back only by its recheck, once that is due. */
static bool reborn(const struct row *row, enum hga_ledger_state from,
		   enum hga_ledger_state to, const struct hga_ledger_change *c)
{
	double due = cell_num(&row->c[RECHECK]);

	return (from == HGA_LEDGER_GONE || from == HGA_LEDGER_ABSENT) &&
	       to == HGA_LEDGER_LIVE && due > 0 && c->id.n > 0 &&
	       now_s() >= due;
}

static int check_change(const struct row *row, enum hga_ledger_state to,
			const struct hga_ledger_change *c, struct hga_err *err)
{
	enum hga_ledger_state from =
		hga_ledger_state_find(cell_str(&row->c[STATE]));

	if (from == HGA_LEDGER_NONE)
		return hga_fail(err, HGA_IO, 0, "Damaged",
				"ledger entry with an unknown state");
	if (to == HGA_LEDGER_NONE ||
	    (!allowed(from, to) && !reborn(row, from, to, c)))
		return hga_fail(err, HGA_BUG, 0, "LedgerState",
				"ledger entry %.8s (%.20s): %s cannot become "
				"%s",
				row->c[OP].s, row->c[KIND].s, state_names[from],
				state_names[to]);
	if (c->detail.n > DETAIL_MAX || c->id.n > TEXT_MAX ||
	    c->name.n > TEXT_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Ledger",
				"ledger entry: id, name or detail is too long");
	return 0;
}

static int set_error(struct cell *c, struct hga_str text, struct hga_err *err)
{
	struct hga_buf safe;
	int r;

	if (text.n == 0)
		return 0;
	hga_buf_init(&safe, 1024 * 1024);
	r = safe_text(text, ERROR_MAX, &safe, err);
	if (r == 0)
		r = set_text(c, hga_buf_str(&safe), err);
	hga_buf_release(&safe);
	return r;
}

/* Applies a checked change to a row. */
static int apply(struct row *row, enum hga_ledger_state to,
		 const struct hga_ledger_change *c, struct hga_err *err)
{
	bool moved = !hga_str_eqc(cell_str(&row->c[STATE]), state_names[to]);
	int r = set_opt(&row->c[ID], c->id, err);

	if (r == 0)
		r = set_opt(&row->c[DETAIL], c->detail, err);
	if (r == 0)
		r = set_opt(&row->c[NAME], c->name, err);
	if (r == 0)
		r = set_error(&row->c[ERROR], c->error, err);
	if (r == 0 && moved)
		r = set_text(&row->c[STATE], hga_str(state_names[to]), err);
	if (r < 0)
		return r;
	if (moved)
		set_num(&row->c[T_STATE], now_s());
	if (to == HGA_LEDGER_LIVE && cell_num(&row->c[T_LIVE]) == 0)
		set_num(&row->c[T_LIVE], now_s());
	if (c->expires > 0)
		set_num(&row->c[EXPIRES], c->expires);
	if (c->keep_until > 0)
		set_num(&row->c[KEEP_UNTIL], c->keep_until);
	if (c->t_seen > 0)
		set_num(&row->c[T_SEEN], c->t_seen);
	if (c->recheck > 0)
		set_num(&row->c[RECHECK], c->recheck);
	if (c->no_recheck)
		cell_clear(&row->c[RECHECK]);
	return 0;
}

/* The op of a resource with that kind and id in a place; 1 found, 0 not. */
static int find_resource(struct hga_ledger *led, int64_t place,
			 struct hga_str kind, struct hga_str id,
			 char op_out[HGA_OP_ID], struct hga_err *err)
{
	struct hga_stmt *st;
	int r = hga_stmt_new(led->db,
			     "SELECT op FROM op WHERE place=?1 AND kind=?2"
			     " AND id=?3 AND state NOT IN ('gone','absent')",
			     &st, err);

	if (r < 0)
		return r;
	hga_stmt_int(st, 1, place);
	hga_stmt_text(st, 2, kind);
	hga_stmt_text(st, 3, id);
	r = hga_stmt_step(st, err);
	if (r > 0) {
		struct hga_str op = hga_stmt_get_str(st, 0);

		(void)snprintf(op_out, HGA_OP_ID, "%.*s", HGA_STRF(op));
	}
	hga_stmt_free(st);
	return r;
}

/* Fills the row of a child of parent, live. */
static int child_row(const struct row *parent,
		     const struct hga_ledger_child *c, struct row *row,
		     struct hga_err *err)
{
	char op[HGA_OP_ID];
	struct hga_ledger_intent in;
	int r = hga_token(op, err);

	memset(&in, 0, sizeof(in));
	in.op = hga_str(op);
	in.run = cell_str(&parent->c[RUN]);
	in.parent = cell_str(&parent->c[OP]);
	in.kind = c->kind;
	in.cls = c->cls.n ? c->cls : cell_str(&parent->c[CLS]);
	in.place = parent->c[PLACE].i;
	in.name = c->name;
	in.expires = cell_num(&parent->c[EXPIRES]);
	in.detail = c->detail;
	if (r == 0)
		r = check_intent(&in, err);
	if (r == 0)
		r = fill_row(row, &in, HGA_LEDGER_LIVE, err);
	if (r == 0)
		r = set_opt(&row->c[ID], c->id, err);
	if (r == 0)
		set_num(&row->c[T_LIVE], now_s());
	return r;
}

/* Inserts a child unless it is known; op_out may be NULL. */
static int add_child(struct hga_ledger *led, const struct row *parent,
		     const struct hga_ledger_child *c, char *op_out,
		     struct hga_err *err)
{
	char op[HGA_OP_ID];
	struct row row;
	int r = find_resource(led, parent->c[PLACE].i, c->kind, c->id, op, err);

	memset(&row, 0, sizeof(row));
	if (r == 0) {
		r = child_row(parent, c, &row, err);
		if (r == 0)
			r = tx_insert(led, &row, err);
		if (r == 0)
			r = mem_keep(led, &row, err);
		if (r == 0)
			(void)snprintf(op, sizeof(op), "%s", row.c[OP].s);
	}
	row_clear(&row);
	if (r < 0)
		return r;
	if (op_out != NULL)
		memcpy(op_out, op, HGA_OP_ID);
	return 0;
}

struct set_tx {
	struct hga_str op;
	enum hga_ledger_state state;
	const struct hga_ledger_change *c;
	struct row row; /* as changed */
};

static int no_op(struct hga_str op, struct hga_err *err)
{
	/* kind usage inside a transaction: notfound there means the file */
	return hga_fail(err, HGA_USAGE, 0, "NoOp",
			"the ledger has no entry %.*s", HGA_STRF(op));
}

static int tx_set(struct hga_ledger *led, void *data, struct hga_err *err)
{
	struct set_tx *x = data;
	int r = row_find(led->db, &t_op, "WHERE op=?1", x->op, &x->row, err);

	if (r <= 0)
		return r < 0 ? r : no_op(x->op, err);
	r = check_change(&x->row, x->state, x->c, err);
	if (r == 0)
		r = apply(&x->row, x->state, x->c, err);
	if (r == 0)
		r = row_update(led->db, &t_op, &x->row, err);
	if (r == 0)
		r = add_event(led, x->op, state_names[x->state],
			      cell_str(&x->row.c[ERROR]), err);
	for (size_t i = 0; i < x->c->n_children && r == 0; i++)
		r = add_child(led, &x->row, &x->c->children[i], NULL, err);
	return r;
}

/* The same in memory when the file has failed. */
static int set_in_memory(struct hga_ledger *led, const struct set_tx *x,
			 struct hga_err *err)
{
	struct mem_op *m = mem_find(led, x->op);
	struct row row;
	int r = 0;

	memset(&row, 0, sizeof(row));
	if (m == NULL) {
		/* not ours: what the file still tells */
		r = led->db != NULL ? row_find(led->db, &t_op, "WHERE op=?1",
					       x->op, &row, err)
				    : 0;
		if (r <= 0)
			r = r < 0 ? r : no_op(x->op, err);
		else
			r = mem_keep(led, &row, err);
		m = mem_find(led, x->op);
	}
	if (r == 0 && m != NULL)
		r = check_change(&m->row, x->state, x->c, err);
	if (r == 0 && m != NULL)
		r = apply(&m->row, x->state, x->c, err);
	for (size_t i = 0; i < x->c->n_children && r == 0 && m != NULL; i++) {
		row_clear(&row);
		r = child_row(&m->row, &x->c->children[i], &row, err);
		if (r == 0)
			r = mem_keep(led, &row, err);
	}
	row_clear(&row);
	return r;
}

static int unknown_op(int r, struct hga_err *err)
{
	if (r == -HGA_USAGE && strcmp(err->code, "NoOp") == 0) {
		err->kind = HGA_NOTFOUND;
		return -HGA_NOTFOUND;
	}
	return r;
}

int hga_ledger_set(struct hga_ledger *led, struct hga_str op,
		   enum hga_ledger_state state,
		   const struct hga_ledger_change *c, struct hga_err *err)
{
	static const struct hga_ledger_change nothing;
	struct hga_err own;
	struct hga_err ignored;
	struct set_tx x;
	int r;

	err = err ? err : &own;
	memset(&x, 0, sizeof(x));
	x.op = op;
	x.state = state;
	x.c = c ? c : &nothing;
	if (led->poisoned)
		return unknown_op(set_in_memory(led, &x, err), err);
	r = transact(led, tx_set, &x, true, err);
	if (r == 0)
		r = mem_keep(led, &x.row, err);
	else if (led->poisoned && set_in_memory(led, &x, &ignored) < 0)
		hga_log(HGA_LOG_ERROR, "ledger", "%s", ignored.msg);
	row_clear(&x.row);
	return unknown_op(r, err);
}

static int tx_sent(struct hga_ledger *led, void *data, struct hga_err *err)
{
	struct set_tx *x = data;
	int r = row_find(led->db, &t_op, "WHERE op=?1", x->op, &x->row, err);

	if (r <= 0)
		return r < 0 ? r : no_op(x->op, err);
	set_num(&x->row.c[T_SENT], now_s());
	return row_update(led->db, &t_op, &x->row, err);
}

int hga_ledger_sent(struct hga_ledger *led, struct hga_str op,
		    struct hga_err *err)
{
	struct hga_err own;
	struct set_tx x;
	int r;

	err = err ? err : &own;
	memset(&x, 0, sizeof(x));
	x.op = op;
	r = transact(led, tx_sent, &x, false, err);
	if (r == 0)
		r = mem_keep(led, &x.row, err);
	row_clear(&x.row);
	return unknown_op(r, err);
}

struct child_tx {
	struct hga_str parent;
	const struct hga_ledger_child *c;
	char op[HGA_OP_ID];
};

static int tx_child(struct hga_ledger *led, void *data, struct hga_err *err)
{
	struct child_tx *x = data;
	struct row row;
	int r;

	memset(&row, 0, sizeof(row));
	r = row_find(led->db, &t_op, "WHERE op=?1", x->parent, &row, err);
	if (r > 0)
		r = add_child(led, &row, x->c, x->op, err);
	else if (r == 0)
		r = no_op(x->parent, err);
	row_clear(&row);
	return r;
}

static int child_in_memory(struct hga_ledger *led, struct child_tx *x,
			   struct hga_err *err)
{
	struct mem_op *m = mem_find(led, x->parent);
	struct row row;
	int r;

	if (m == NULL)
		return no_op(x->parent, err);
	memset(&row, 0, sizeof(row));
	r = child_row(&m->row, x->c, &row, err);
	if (r == 0)
		r = mem_keep(led, &row, err);
	if (r == 0)
		(void)snprintf(x->op, sizeof(x->op), "%s", row.c[OP].s);
	row_clear(&row);
	return r;
}

int hga_ledger_child(struct hga_ledger *led, struct hga_str parent,
		     const struct hga_ledger_child *c, char op_out[HGA_OP_ID],
		     struct hga_err *err)
{
	struct child_tx x = {parent, c, ""};
	struct hga_err own;
	int r;

	err = err ? err : &own;
	r = led->poisoned ? child_in_memory(led, &x, err)
			  : transact(led, tx_child, &x, true, err);
	if (r == 0 && op_out != NULL)
		memcpy(op_out, x.op, HGA_OP_ID);
	return unknown_op(r, err);
}

struct adopt_tx {
	const struct hga_ledger_intent *in;
	struct hga_str id;
	char op[HGA_OP_ID];
	struct row row;
};

/* Known already: under its op, or by kind and id. */
static int adopt_known(struct hga_ledger *led, struct adopt_tx *x,
		       struct hga_err *err)
{
	struct hga_ledger_change c;
	enum hga_ledger_state s;
	int r = find_resource(led, x->in->place, x->in->kind, x->id, x->op,
			      err);

	if (r == 0 && x->in->op.n > 0)
		(void)snprintf(x->op, sizeof(x->op), "%.*s",
			       HGA_STRF(x->in->op));
	if (r < 0 || x->op[0] == '\0')
		return r;
	r = row_find(led->db, &t_op, "WHERE op=?1", hga_str(x->op), &x->row,
		     err);
	if (r <= 0)
		return r;
	s = hga_ledger_state_find(cell_str(&x->row.c[STATE]));
	if (s == HGA_LEDGER_GONE || s == HGA_LEDGER_ABSENT)
		return 0; /* a late delivery: a new entry, child of this one */
	if (s != HGA_LEDGER_INTENT && s != HGA_LEDGER_UNKNOWN)
		return 1;
	memset(&c, 0, sizeof(c));
	c.id = x->id;
	r = apply(&x->row, HGA_LEDGER_LIVE, &c, err);
	if (r == 0)
		r = row_update(led->db, &t_op, &x->row, err);
	if (r == 0)
		r = add_event(led, hga_str(x->op), "live", HGA_STR("found"),
			      err);
	return r < 0 ? r : 1;
}

static int tx_adopt(struct hga_ledger *led, void *data, struct hga_err *err)
{
	struct adopt_tx *x = data;
	struct hga_ledger_intent in = *x->in;
	char old[HGA_OP_ID];
	int r = adopt_known(led, x, err);

	if (r != 0)
		return r < 0 ? r : 0;
	if (x->row.c[OP].n > 0) {
		memcpy(old, x->op, sizeof(old));
		in.parent = hga_str(old);
		in.op = hga_strn("", 0);
		row_clear(&x->row);
	}
	if (in.op.n == 0) {
		r = hga_token(x->op, err);
		in.op = hga_str(x->op);
	}
	if (r == 0)
		r = check_intent(&in, err);
	if (r == 0)
		r = fill_row(&x->row, &in, HGA_LEDGER_LIVE, err);
	if (r == 0)
		r = set_opt(&x->row.c[ID], x->id, err);
	if (r < 0)
		return r;
	set_int(&x->row.c[ADOPTED], 1);
	set_num(&x->row.c[T_LIVE], now_s());
	set_num(&x->row.c[T_SEEN], now_s());
	return tx_insert(led, &x->row, err);
}

int hga_ledger_adopt(struct hga_ledger *led,
		     const struct hga_ledger_intent *in, struct hga_str id,
		     char op_out[HGA_OP_ID], struct hga_err *err)
{
	struct hga_err own;
	struct adopt_tx x;
	int r;

	err = err ? err : &own;
	memset(&x, 0, sizeof(x));
	x.in = in;
	x.id = id;
	r = transact(led, tx_adopt, &x, true, err);
	if (r == 0)
		r = mem_keep(led, &x.row, err);
	if (r == 0 && op_out != NULL)
		memcpy(op_out, x.row.c[OP].s, HGA_OP_ID);
	row_clear(&x.row);
	return r;
}

/* ---- reading ---- */

static bool matches(const struct hga_ledger_row *row,
		    const struct hga_ledger_filter *f)
{
	if (f->run.n > 0 && !hga_str_eq(f->run, row->run))
		return false;
	if (f->kind.n > 0 && !hga_str_eq(f->kind, row->kind))
		return false;
	if (f->op.n > 0 && !hga_str_eq(f->op, row->op))
		return false;
	if (f->parent.n > 0 && !hga_str_eq(f->parent, row->parent))
		return false;
	if (f->states != 0 && !(f->states >> row->state & 1))
		return false;
	if (f->place != 0 && f->place != row->place)
		return false;
	return !f->recheck_due ||
	       (row->recheck > 0 && row->recheck <= now_s());
}

static int view_place(struct hga_ledger *led, struct hga_ledger_row *out,
		      struct hga_err *err)
{
	struct hga_err why = {.kind = HGA_OK};
	const struct mem_place *p = find_place(led, out->place, &why);

	if (p == NULL && why.kind != HGA_OK) {
		*err = why;
		return -(int)why.kind;
	}
	if (p == NULL)
		return 0;
	out->partition = cell_str(&p->row.c[1]);
	out->account = cell_str(&p->row.c[2]);
	out->region = cell_str(&p->row.c[3]);
	out->endpoint = cell_str(&p->row.c[4]);
	return 0;
}

static void view(const struct row *row, struct hga_ledger_row *out)
{
	memset(out, 0, sizeof(*out));
	out->op = cell_str(&row->c[OP]);
	out->run = cell_str(&row->c[RUN]);
	out->parent = cell_str(&row->c[PARENT]);
	out->kind = cell_str(&row->c[KIND]);
	out->cls = cell_str(&row->c[CLS]);
	out->state = hga_ledger_state_find(cell_str(&row->c[STATE]));
	out->place = row->c[PLACE].i;
	out->name = cell_str(&row->c[NAME]);
	out->token = cell_str(&row->c[TOKEN]);
	out->id = cell_str(&row->c[ID]);
	out->req = cell_str(&row->c[REQ]);
	out->t_intent = cell_num(&row->c[T_INTENT]);
	out->t_sent = cell_num(&row->c[T_SENT]);
	out->t_live = cell_num(&row->c[T_LIVE]);
	out->t_seen = cell_num(&row->c[T_SEEN]);
	out->t_state = cell_num(&row->c[T_STATE]);
	out->expires = cell_num(&row->c[EXPIRES]);
	out->keep_until = cell_num(&row->c[KEEP_UNTIL]);
	out->recheck = cell_num(&row->c[RECHECK]);
	out->adopted = row->c[ADOPTED].i != 0;
	out->detail = cell_str(&row->c[DETAIL]);
	out->error = cell_str(&row->c[ERROR]);
}

static int give(struct hga_ledger *led, const struct row *row,
		const struct hga_ledger_filter *f, hga_ledger_fn fn,
		void *data, struct hga_err *err)
{
	struct hga_ledger_row out;
	int r;

	view(row, &out);
	if (!matches(&out, f))
		return 0;
	r = view_place(led, &out, err);
	return r < 0 ? r : fn(data, &out, err);
}

static int list_file(struct hga_ledger *led, const struct hga_ledger_filter *f,
		     hga_ledger_fn fn, void *data, struct hga_err *err)
{
	const char *tail = "ORDER BY rowid";
	struct hga_stmt *st;
	struct row row;
	int r;

	if (f->op.n > 0)
		tail = "WHERE op=?1";
	else if (f->states != 0 && (f->states & ~HGA_LEDGER_OPEN) == 0)
		tail = "WHERE state NOT IN ('gone','absent') ORDER BY rowid";
	r = select_rows(led->db, &t_op, tail, &st, err);
	if (r < 0)
		return r;
	if (f->op.n > 0)
		hga_stmt_text(st, 1, f->op);
	memset(&row, 0, sizeof(row));
	while ((r = hga_stmt_step(st, err)) > 0) {
		const struct mem_op *m;

		r = row_read(&t_op, st, &row, err);
		if (r < 0)
			break;
		m = led->poisoned ? mem_find(led, cell_str(&row.c[OP])) : NULL;
		if (m == NULL) /* else told from memory */
			r = give(led, &row, f, fn, data, err);
		if (r < 0)
			break;
	}
	row_clear(&row);
	hga_stmt_free(st);
	return r;
}

int hga_ledger_list(struct hga_ledger *led, const struct hga_ledger_filter *f,
		    hga_ledger_fn fn, void *data, struct hga_err *err)
{
	struct hga_err own;
	int r = 0;

	err = err ? err : &own;
	if (led->db != NULL)
		r = list_file(led, f, fn, data, err);
	/* a failing file must not hide what memory knows */
	if (r == -HGA_IO && led->poisoned)
		r = 0;
	for (struct mem_op *m = led->ops;
	     m != NULL && led->poisoned && r == 0; m = m->next)
		r = give(led, &m->row, f, fn, data, err);
	return r;
}

static int count_row(void *data, const struct hga_ledger_row *row,
		     struct hga_err *err)
{
	int64_t *n = data;

	(void)err;
	if (hga_str_eqc(row->cls, "ephemeral"))
		(*n)++;
	return 0;
}

int64_t hga_ledger_open_count(struct hga_ledger *led, struct hga_str run,
			      struct hga_err *err)
{
	struct hga_ledger_filter f;
	int64_t n = 0;
	int r;

	memset(&f, 0, sizeof(f));
	f.run = run;
	f.states = HGA_LEDGER_OPEN & ~(1u << HGA_LEDGER_KEPT);
	r = hga_ledger_list(led, &f, count_row, &n, err);
	return r < 0 ? r : n;
}

/* ---- forgetting a wiped local cloud ---- */

struct forget_tx {
	struct hga_str endpoint;
	int64_t n;
};

/* The first open op of the endpoint: 1 and its row, or 0. */
static int next_of(struct hga_ledger *led, struct hga_str endpoint,
		   struct row *row, struct hga_err *err)
{
	return row_find(led->db, &t_op,
			"WHERE state NOT IN ('gone','absent') AND place IN"
			" (SELECT place FROM place WHERE endpoint=?1) LIMIT 1",
			endpoint, row, err);
}

static int tx_forget(struct hga_ledger *led, void *data, struct hga_err *err)
{
	static const struct hga_ledger_change nothing;
	struct forget_tx *x = data;
	struct row row;
	int r;

	memset(&row, 0, sizeof(row));
	x->n = 0;
	while ((r = next_of(led, x->endpoint, &row, err)) > 0) {
		r = apply(&row, HGA_LEDGER_GONE, &nothing, err);
		if (r == 0)
			r = row_update(led->db, &t_op, &row, err);
		if (r == 0)
			r = add_event(led, cell_str(&row.c[OP]), "gone",
				      HGA_STR("endpoint forgotten"), err);
		if (r == 0 && mem_find(led, cell_str(&row.c[OP])) != NULL)
			r = mem_keep(led, &row, err);
		if (r < 0)
			break;
		x->n++;
	}
	row_clear(&row);
	return r;
}

int hga_ledger_forget(struct hga_ledger *led, struct hga_str endpoint,
		      int64_t *n, struct hga_err *err)
{
	struct forget_tx x = {endpoint, 0};
	struct hga_err own;
	int r;

	err = err ? err : &own;
	if (endpoint.n == 0)
		return hga_fail(err, HGA_USAGE, 0, "Ledger",
				"entries of AWS itself cannot be forgotten");
	r = transact(led, tx_forget, &x, true, err);
	if (r == 0 && n != NULL)
		*n = x.n;
	return r;
}
