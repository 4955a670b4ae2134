/*
 * SQLite behind a small front: open with safe settings, statements, backup.
 *
 * Extended result codes, defensive mode, trusted_schema off, mmap off,
 * foreign keys on, cell_size_check on, WAL, busy timeout 10 s.  One
 * connection belongs to the thread of the loop and is never used after fork.
 * Nothing else in the process may open the same file.
 * Errors are -HGA_IO with code "Busy", "Full", "Damaged" or "Sqlite" and
 * SQLite's text; a violated constraint is -HGA_EXISTS "Constraint"; wrong SQL
 * or parameters -HGA_USAGE "Sql".
 */
#ifndef HGA_STATE_DB_H
#define HGA_STATE_DB_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hga_db;   /* opaque: a connection */
struct hga_stmt; /* opaque: a prepared statement */

struct hga_db_opts {
	bool create;    /* make a missing file (O_EXCL, 0600) */
	bool full_sync; /* synchronous=FULL, else NORMAL */
	bool no_autocheckpoint;
	uint32_t application_id; /* 0: any; else a new file gets it, another
	                          * one with a different id is "Damaged" */
	bool keep_statements; /* freed ones stay compiled for the same text */
	bool damaged; /* reads what can be read of a file known to be so */
};

/*
 * Opens path (its directories resolved, the file no link).  *created (may be
 * NULL) tells whether the file is new.  -HGA_NOTFOUND without create.
 */
int hga_db_open(const char *path, const struct hga_db_opts *opts,
                struct hga_db **out, bool *created,
                struct hga_err *err) HGA_MUST_USE;
/* All statements must have been freed; NULL is allowed. */
void hga_db_close(struct hga_db *db);

/* Runs statements without parameters and results (";" between them). */
int hga_db_exec(struct hga_db *db, const char *sql,
                struct hga_err *err) HGA_MUST_USE;
/* First column of the first row as an integer, def without a row. */
int hga_db_int(struct hga_db *db, const char *sql, int64_t def, int64_t *out,
               struct hga_err *err) HGA_MUST_USE;
/* BEGIN IMMEDIATE, COMMIT; rollback never fails (nothing open: nothing). */
int hga_db_begin(struct hga_db *db, struct hga_err *err) HGA_MUST_USE;
int hga_db_commit(struct hga_db *db, struct hga_err *err) HGA_MUST_USE;
void hga_db_rollback(struct hga_db *db);
bool hga_db_in_transaction(const struct hga_db *db);
/* Rows changed by the last statement. */
int64_t hga_db_changes(const struct hga_db *db);
/* Pages in the WAL after the last commit (with no_autocheckpoint). */
int hga_db_wal_pages(const struct hga_db *db);
/* Checkpoint RESTART; a reader in the way is no error. */
int hga_db_checkpoint(struct hga_db *db, struct hga_err *err) HGA_MUST_USE;
/* PRAGMA integrity_check says ok, else -HGA_IO "Damaged". */
int hga_db_check(struct hga_db *db, struct hga_err *err) HGA_MUST_USE;
/* Consistent copy into a new file (temporary, fsync, rename). */
int hga_db_backup(struct hga_db *db, const char *path,
                  struct hga_err *err) HGA_MUST_USE;

/* Compiles one statement. */
int hga_stmt_new(struct hga_db *db, const char *sql, struct hga_stmt **out,
                 struct hga_err *err) HGA_MUST_USE;
void hga_stmt_free(struct hga_stmt *st);
/* Ready for new values and another run. */
void hga_stmt_reset(struct hga_stmt *st);
/* Parameters count from 1.  Texts are copied.  A failure (memory, wrong
 * index) shows at the next step. */
void hga_stmt_null(struct hga_stmt *st, int i);
void hga_stmt_int(struct hga_stmt *st, int i, int64_t v);
void hga_stmt_num(struct hga_stmt *st, int i, double v);
void hga_stmt_text(struct hga_stmt *st, int i, struct hga_str v);
void hga_stmt_blob(struct hga_stmt *st, int i, struct hga_str v);
/* Number of parameters. */
int hga_stmt_params(const struct hga_stmt *st);
/* 1: a row is there, 0: done, < 0: error. */
int hga_stmt_step(struct hga_stmt *st, struct hga_err *err) HGA_MUST_USE;

enum hga_db_type {
	HGA_DB_NULL,
	HGA_DB_INT,
	HGA_DB_NUM,
	HGA_DB_TEXT,
	HGA_DB_BLOB
};
/* Columns count from 0; texts are valid until the next step or reset. */
int hga_stmt_columns(const struct hga_stmt *st);
const char *hga_stmt_name(const struct hga_stmt *st, int col);
enum hga_db_type hga_stmt_type(const struct hga_stmt *st, int col);
int64_t hga_stmt_get_int(const struct hga_stmt *st, int col);
double hga_stmt_get_num(const struct hga_stmt *st, int col);
struct hga_str hga_stmt_get_str(const struct hga_stmt *st, int col);

#endif
