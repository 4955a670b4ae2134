/* SQLite front; settings of reliability.md section 2.2. */
#include "state/db.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#if SQLITE_VERSION_NUMBER < 3040000
#error "SQLite 3.40 or newer is needed"
#endif

#define BUSY_MS 10000
#define HEADER 100 /* bytes of the database header */
#define APP_ID_AT 68

#define IDLE 16 /* compiled statements that are kept for the next use */

struct hga_db {
	sqlite3 *h;
	char *path;
	int wal_pages;
	bool keep;     /* statements */
	unsigned next; /* the slot that is given up when all are taken */
	struct hga_stmt *idle[IDLE];
};

struct hga_stmt {
	sqlite3_stmt *s;
	struct hga_db *db;
	int bad; /* first failed bind */
};

static int map_rc(int rc, const char **code)
{
	*code = "Sqlite";
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		*code = "Busy";
		return HGA_IO;
	case SQLITE_FULL:
		*code = "Full";
		return HGA_IO;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		*code = "Damaged";
		return HGA_IO;
	case SQLITE_CONSTRAINT:
		*code = "Constraint";
		return HGA_EXISTS;
	case SQLITE_NOMEM:
		*code = "NoMemory";
		return HGA_MEMORY;
	case SQLITE_ERROR:
	case SQLITE_RANGE:
	case SQLITE_MISMATCH:
	case SQLITE_TOOBIG:
		*code = "Sql";
		return HGA_USAGE;
	default:
		/* also: what the log's index names is not in the log */
		if (rc == SQLITE_IOERR_CORRUPTFS ||
		    rc == SQLITE_IOERR_SHORT_READ)
			*code = "Damaged";
		return HGA_IO;
	}
}

/* Failures of the file name it and what the system says; others SQLite's text
 * after "what: ". */
static int db_fail(const struct hga_db *db, int rc, const char *what,
                   struct hga_err *err)
{
	const char *code;
	int kind = map_rc(rc, &code);
	const char *text = db->h ? sqlite3_errmsg(db->h) : sqlite3_errstr(rc);
	int os = db->h && ((rc & 0xff) == SQLITE_IOERR ||
	                   (rc & 0xff) == SQLITE_CANTOPEN)
	             ? sqlite3_system_errno(db->h)
	             : 0;

	if (kind != HGA_IO)
		(void)hga_fail(err, (enum hga_kind)kind, 0, code, "%s: %s",
		               what, text);
	else if ((rc & 0xff) == SQLITE_FULL)
		(void)hga_fail(err, HGA_IO, ENOSPC, code, "cannot write %s",
		               db->path);
	else if (os != 0)
		(void)hga_fail(err, HGA_IO, os, code, "%s", db->path);
	else
		(void)hga_fail(err, HGA_IO, 0, code, "%s: %s", db->path, text);
	return -kind;
}

int hga_db_exec(struct hga_db *db, const char *sql, struct hga_err *err)
{
	int rc = sqlite3_exec(db->h, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : db_fail(db, rc, "database", err);
}

int hga_db_int(struct hga_db *db, const char *sql, int64_t def, int64_t *out,
               struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	int r = hga_stmt_new(db, sql, &st, err);

	if (r < 0)
		return r;
	*out = def;
	r = hga_stmt_step(st, err);
	if (r > 0)
		*out = hga_stmt_get_int(st, 0);
	hga_stmt_free(st);
	return r < 0 ? r : 0;
}

/* Creates an empty file of our own when there is none. */
static int make_file(const char *path, struct hga_err *err)
{
	int fd = hga_fs_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600,
	                     err);

	if (fd == -HGA_EXISTS)
		return 0;
	if (fd < 0)
		return fd;
	(void)close(fd); /* nothing was written */
	return hga_fs_sync_dir(path, err);
}

/* Looks at the header before SQLite does; *empty: a new file. */
static int check_header(const char *path, const struct hga_db_opts *o,
                        bool *empty, struct hga_err *err)
{
	unsigned char h[HEADER];
	uint32_t id;
	ssize_t n;
	int fd = hga_fs_open(path, O_RDONLY | O_NOFOLLOW, 0, err);

	if (fd < 0)
		return fd;
	n = read(fd, h, sizeof(h));
	(void)close(fd); /* was only read */
	if (n < 0)
		return hga_fs_fail(err, errno, "read", path);
	*empty = n == 0;
	if (n == 0)
		return 0;
	if (n < HEADER || memcmp(h, "SQLite format 3", 16) != 0)
		return hga_fail(err, HGA_IO, 0, "Damaged",
		                "%s is not a database", path);
	/* versions above 2 would only open read-only */
	if (h[18] < 1 || h[18] > 2 || h[19] < 1 || h[19] > 2)
		return hga_fail(err, HGA_IO, 0, "Damaged",
		                "%s has an unknown format", path);
	id = (uint32_t)h[APP_ID_AT] << 24 | (uint32_t)h[APP_ID_AT + 1] << 16 |
	     (uint32_t)h[APP_ID_AT + 2] << 8 | h[APP_ID_AT + 3];
	if (o->application_id != 0 && id != o->application_id)
		return hga_fail(err, HGA_IO, 0, "Damaged",
		                "%s does not carry our mark", path);
	return 0;
}

/* Whether commits may stand in a log beside the file. */
static bool has_wal(const char *path, struct hga_err *err)
{
	struct hga_buf wal;
	struct stat sb;
	bool there;

	hga_buf_init(&wal, 65536);
	there = hga_buf_addf(&wal, err, "%s-wal", path) == 0 &&
	        lstat(wal.data, &sb) == 0 && sb.st_size > 0;
	hga_buf_release(&wal);
	return there;
}

/* The mark again, as SQLite sees it: with what is in the log. */
static int check_mark(struct hga_db *db, const char *path,
                      const struct hga_db_opts *o, struct hga_err *err)
{
	int64_t id = 0;
	int r = hga_db_int(db, "PRAGMA application_id", 0, &id, err);

	if (r < 0)
		return r;
	if (o->application_id != 0 && (uint32_t)id != o->application_id)
		return hga_fail(err, HGA_IO, 0, "Damaged",
		                "%s does not carry our mark", path);
	if (sqlite3_db_readonly(db->h, "main") == 1)
		return hga_fail(err, HGA_IO, 0, "Damaged",
		                "%s has an unknown format", path);
	return 0;
}

static int on_commit(void *data, sqlite3 *h, const char *name, int pages)
{
	struct hga_db *db = data;

	(void)h;
	(void)name;
	db->wal_pages = pages;
	return SQLITE_OK;
}

static int check_wal(struct hga_db *db, struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	int r = hga_stmt_new(db, "PRAGMA journal_mode=WAL", &st, err);

	if (r < 0)
		return r;
	r = hga_stmt_step(st, err);
	if (r >= 0 && !(r > 0 && hga_str_ieqc(hga_stmt_get_str(st, 0), "wal")))
		r = hga_fail(err, HGA_IO, 0, "Sqlite",
		             "the file system does not support a WAL");
	hga_stmt_free(st);
	return r < 0 ? r : 0;
}

static int configure(struct hga_db *db, const struct hga_db_opts *o, bool empty,
                     struct hga_err *err)
{
	char sql[256];
	int r;

	(void)sqlite3_extended_result_codes(db->h, 1); /* cannot fail */
	if (sqlite3_busy_timeout(db->h, BUSY_MS) != SQLITE_OK ||
	    sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, !o->damaged,
	                      NULL) != SQLITE_OK ||
	    sqlite3_db_config(db->h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL) !=
	        SQLITE_OK)
		return db_fail(db, SQLITE_INTERNAL, "database settings", err);
	/* the mark goes in before the WAL, so that it is in the file */
	(void)snprintf(sql, sizeof(sql), "PRAGMA application_id=%ld",
	               (long)(int32_t)o->application_id);
	if (empty && o->application_id != 0) {
		r = hga_db_exec(db, sql, err);
		if (r < 0)
			return r;
	}
	/* SQLite then reads the front of a file that was cut, too */
	r = o->damaged ? hga_db_exec(db, "PRAGMA writable_schema=ON", err) : 0;
	if (r == 0)
		r = check_wal(db, err);
	if (r < 0)
		return r;
	(void)snprintf(sql, sizeof(sql),
	               "PRAGMA synchronous=%s; PRAGMA mmap_size=0;"
	               "PRAGMA foreign_keys=ON; PRAGMA cell_size_check=ON;"
	               "%s",
	               o->full_sync ? "FULL" : "NORMAL",
	               o->no_autocheckpoint ? "PRAGMA wal_autocheckpoint=0"
	                                    : "");
	r = hga_db_exec(db, sql, err);
	if (r == 0 && o->no_autocheckpoint)
		(void)sqlite3_wal_hook(db->h, on_commit, db); /* no old one */
	return r;
}

int hga_db_open(const char *path, const struct hga_db_opts *o,
                struct hga_db **out, bool *created, struct hga_err *err)
{
	const int flags =
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX;
	struct hga_db *db;
	bool empty = false;
	bool in_pieces;
	int rc;
	int r = o->create ? make_file(path, err) : 0;

	if (r == 0)
		r = check_header(path, o, &empty, err);
	/* a checkpoint that a power loss cut may have left the first page in
	 * pieces; the log still has it */
	in_pieces = r == -HGA_IO && has_wal(path, err);
	if (r < 0 && !in_pieces)
		return r;
	db = hga_calloc(1, sizeof(*db));
	if (db == NULL)
		return hga_fail_mem(err);
	db->keep = o->keep_statements;
	db->path = hga_strdup(path);
	if (db->path == NULL) {
		hga_free(db);
		return hga_fail_mem(err);
	}
	rc = sqlite3_open_v2(path, &db->h, flags, NULL);
	r = rc == SQLITE_OK ? configure(db, o, empty, err)
	                    : db_fail(db, rc, path, err);
	if (r == 0 && in_pieces)
		r = check_mark(db, path, o, err);
	if (r < 0) {
		hga_db_close(db);
		return r;
	}
	if (created != NULL)
		*created = empty;
	*out = db;
	return 0;
}

static void finalize(struct hga_stmt *st)
{
	(void)sqlite3_finalize(st->s); /* repeats the last step's result */
	hga_free(st);
}

void hga_db_close(struct hga_db *db)
{
	if (db == NULL)
		return;
	for (unsigned i = 0; i < IDLE; i++)
		if (db->idle[i] != NULL)
			finalize(db->idle[i]);
	/* v2: a forgotten statement keeps it alive instead of leaking it */
	(void)sqlite3_close_v2(db->h);
	hga_free(db->path);
	hga_free(db);
}

/* One statement without parameters and results, kept as others are. */
static int run(struct hga_db *db, const char *sql, struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	int r = hga_stmt_new(db, sql, &st, err);

	if (r == 0)
		r = hga_stmt_step(st, err);
	hga_stmt_free(st);
	return r;
}

int hga_db_begin(struct hga_db *db, struct hga_err *err)
{
	return run(db, "BEGIN IMMEDIATE", err);
}

int hga_db_commit(struct hga_db *db, struct hga_err *err)
{
	return run(db, "COMMIT", err);
}

void hga_db_rollback(struct hga_db *db)
{
	/* SQLite may have rolled back by itself */
	(void)!hga_db_exec(db, "ROLLBACK", NULL);
}

bool hga_db_in_transaction(const struct hga_db *db)
{
	return sqlite3_get_autocommit(db->h) == 0;
}

int64_t hga_db_changes(const struct hga_db *db)
{
	return sqlite3_changes64(db->h);
}

int hga_db_wal_pages(const struct hga_db *db)
{
	return db->wal_pages;
}

int hga_db_checkpoint(struct hga_db *db, struct hga_err *err)
{
	int rc;

	/* a reader in the way: do not wait for it */
	(void)sqlite3_busy_timeout(db->h, 0); /* cannot fail */
	rc = sqlite3_wal_checkpoint_v2(db->h, NULL, SQLITE_CHECKPOINT_RESTART,
	                               NULL, NULL);
	(void)sqlite3_busy_timeout(db->h, BUSY_MS); /* cannot fail */
	if (rc == SQLITE_OK)
		db->wal_pages = 0;
	if (rc == SQLITE_OK || (rc & 0xff) == SQLITE_BUSY)
		return 0;
	return db_fail(db, rc, "checkpoint", err);
}

int hga_db_check(struct hga_db *db, struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	int r = hga_stmt_new(db, "PRAGMA integrity_check(1)", &st, err);

	if (r < 0)
		return r;
	r = hga_stmt_step(st, err);
	if (r >= 0 && !(r > 0 && hga_str_eqc(hga_stmt_get_str(st, 0), "ok")))
		r = hga_fail(err, HGA_IO, 0, "Damaged",
		             "the database is damaged");
	hga_stmt_free(st);
	return r < 0 ? r : 0;
}

static int copy_into(struct hga_db *from, const char *path, struct hga_err *err)
{
	struct hga_db to = {.h = NULL, .path = hga_strdup(path)};
	sqlite3_backup *b;
	int r = 0;
	int rc;

	if (to.path == NULL)
		return hga_fail_mem(err);
	rc = sqlite3_open_v2(path, &to.h,
	                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW |
	                         SQLITE_OPEN_NOMUTEX,
	                     NULL);
	b = rc == SQLITE_OK ? sqlite3_backup_init(to.h, "main", from->h, "main")
	                    : NULL;
	if (b == NULL) {
		r = db_fail(&to, rc ? rc : sqlite3_errcode(to.h), "backup",
		            err);
	} else {
		rc = sqlite3_backup_step(b, -1);
		(void)sqlite3_backup_finish(b); /* repeats rc */
		if (rc != SQLITE_DONE)
			r = db_fail(&to, rc, "backup", err);
	}
	(void)sqlite3_close_v2(to.h); /* the copy is synced by the caller */
	hga_free(to.path);
	return r;
}

static int sync_file(const char *path, struct hga_err *err)
{
	int fd = hga_fs_open(path, O_RDONLY | O_NOFOLLOW, 0, err);
	int r;

	if (fd < 0)
		return fd;
	r = fsync(fd) == 0 ? 0 : hga_fs_fail(err, errno, "sync", path);
	(void)close(fd); /* was only read */
	return r;
}

int hga_db_backup(struct hga_db *db, const char *path, struct hga_err *err)
{
	struct hga_buf tmp;
	int r;

	hga_buf_init(&tmp, 65536);
	r = hga_buf_addf(&tmp, err, "%s.tmp", path);
	if (r < 0)
		goto out;
	(void)unlink(tmp.data); /* left by a crash */
	r = make_file(tmp.data, err);
	if (r == 0)
		r = copy_into(db, tmp.data, err);
	if (r == 0)
		r = sync_file(tmp.data, err);
	if (r == 0 && rename(tmp.data, path) != 0)
		r = hga_fs_fail(err, errno, "write", path);
	if (r == 0)
		r = hga_fs_sync_dir(path, err);
	else
		(void)unlink(tmp.data); /* ours, best effort */
out:
	hga_buf_release(&tmp);
	return r;
}

/* ---- statements ---- */

/* The idle statement of that text, no longer idle; NULL: none. */
static struct hga_stmt *wake(struct hga_db *db, const char *sql)
{
	for (unsigned i = 0; i < IDLE; i++) {
		struct hga_stmt *st = db->idle[i];

		if (st != NULL && strcmp(sqlite3_sql(st->s), sql) == 0) {
			db->idle[i] = NULL;
			return st;
		}
	}
	return NULL;
}

int hga_stmt_new(struct hga_db *db, const char *sql, struct hga_stmt **out,
                 struct hga_err *err)
{
	struct hga_stmt *st = wake(db, sql);
	const char *rest = "";
	int rc;

	if (st != NULL) {
		*out = st;
		return 0;
	}
	st = hga_calloc(1, sizeof(*st));
	if (st == NULL) {
		(void)hga_fail_mem(err);
		return -HGA_MEMORY;
	}
	st->db = db;
	rc = sqlite3_prepare_v2(db->h, sql, -1, &st->s, &rest);
	if (rc != SQLITE_OK) {
		hga_free(st);
		return db_fail(db, rc, "database", err);
	}
	if (st->s == NULL || rest[strspn(rest, " \t\r\n;")] != '\0') {
		hga_stmt_free(st);
		(void)hga_fail(err, HGA_USAGE, 0, "Sql",
		               "exactly one SQL statement is expected");
		return -HGA_USAGE;
	}
	*out = st;
	return 0;
}

void hga_stmt_free(struct hga_stmt *st)
{
	struct hga_db *db;
	unsigned slot = 0;

	if (st == NULL)
		return;
	db = st->db;
	if (!db->keep || st->s == NULL) {
		finalize(st);
		return;
	}
	hga_stmt_reset(st);
	while (slot < IDLE && db->idle[slot] != NULL)
		slot++;
	if (slot == IDLE) {
		slot = db->next++ % IDLE;
		finalize(db->idle[slot]);
	}
	db->idle[slot] = st;
}

void hga_stmt_reset(struct hga_stmt *st)
{
	(void)sqlite3_reset(st->s); /* repeats the last step's result */
	(void)sqlite3_clear_bindings(st->s); /* cannot fail */
	st->bad = SQLITE_OK;
}

static void bound(struct hga_stmt *st, int rc)
{
	if (st->bad == SQLITE_OK)
		st->bad = rc;
}

void hga_stmt_null(struct hga_stmt *st, int i)
{
	bound(st, sqlite3_bind_null(st->s, i));
}

void hga_stmt_int(struct hga_stmt *st, int i, int64_t v)
{
	bound(st, sqlite3_bind_int64(st->s, i, v));
}

void hga_stmt_num(struct hga_stmt *st, int i, double v)
{
	bound(st, sqlite3_bind_double(st->s, i, v));
}

void hga_stmt_text(struct hga_stmt *st, int i, struct hga_str v)
{
	bound(st, sqlite3_bind_text64(st->s, i, v.s ? v.s : "", v.n,
	                              SQLITE_TRANSIENT, SQLITE_UTF8));
}

void hga_stmt_blob(struct hga_stmt *st, int i, struct hga_str v)
{
	bound(st, sqlite3_bind_blob64(st->s, i, v.s ? v.s : "", v.n,
	                              SQLITE_TRANSIENT));
}

int hga_stmt_params(const struct hga_stmt *st)
{
	return sqlite3_bind_parameter_count(st->s);
}

int hga_stmt_step(struct hga_stmt *st, struct hga_err *err)
{
	/* made by hga_stmt_new, whose failures are negative;
	 * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	int rc = st->bad != SQLITE_OK ? st->bad : sqlite3_step(st->s);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	return db_fail(st->db, rc, "database", err);
}

int hga_stmt_columns(const struct hga_stmt *st)
{
	return sqlite3_column_count(st->s);
}

const char *hga_stmt_name(const struct hga_stmt *st, int col)
{
	const char *name = sqlite3_column_name(st->s, col);

	return name != NULL ? name : "";
}

enum hga_db_type hga_stmt_type(const struct hga_stmt *st, int col)
{
	switch (sqlite3_column_type(st->s, col)) {
	case SQLITE_INTEGER:
		return HGA_DB_INT;
	case SQLITE_FLOAT:
		return HGA_DB_NUM;
	case SQLITE_TEXT:
		return HGA_DB_TEXT;
	case SQLITE_BLOB:
		return HGA_DB_BLOB;
	default:
		return HGA_DB_NULL;
	}
}

int64_t hga_stmt_get_int(const struct hga_stmt *st, int col)
{
	return sqlite3_column_int64(st->s, col);
}

double hga_stmt_get_num(const struct hga_stmt *st, int col)
{
	return sqlite3_column_double(st->s, col);
}

struct hga_str hga_stmt_get_str(const struct hga_stmt *st, int col)
{
	const char *p = sqlite3_column_type(st->s, col) == SQLITE_BLOB
	                    ? sqlite3_column_blob(st->s, col)
	                    : (const char *)sqlite3_column_text(st->s, col);
	int n = sqlite3_column_bytes(st->s, col);

	/* lengths are never negative; NULL also when memory ran out */
	return hga_strn(p != NULL ? p : "", p != NULL ? (size_t)n : 0);
}
