/*
 * The ledger: opening, fail-stop transactions, runs, places, events;
 * reliability.md sections 2.2 and 2.3.
 */
#include "state/ledger.h"

#include "state/ledger_impl.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/redact.h"
#include "base/time.h"
#include "state/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA 1
#define LOCK_MS 10000
#define WAL_PAGES 64 /* 256 KiB of 4 KiB pages */
#define RESERVE (1024 * 1024)
#define BACKUP_AGE_S (24 * 3600)
#define DAY_S 86400.0

/* ---- the object ---- */

static const char *const state_names[] = {
    "none", "intent", "unknown", "live", "kept", "deleting", "gone", "absent"};

const char *hga_ledger_state_name(enum hga_ledger_state s)
{
	return state_names[s];
}

enum hga_ledger_state hga_ledger_state_find(struct hga_str name)
{
	for (unsigned i = HGA_LEDGER_INTENT; i <= HGA_LEDGER_ABSENT; i++)
		if (hga_str_eqc(name, hga_ledger_state_name(i)))
			return (enum hga_ledger_state)i;
	return HGA_LEDGER_NONE;
}

bool hga_ledger_poisoned(const struct hga_ledger *led)
{
	return led->poisoned;
}

double hga_led_now(void)
{
	return (double)hga_wall_us() / 1e6;
}

static struct hga_led_op **bucket(struct hga_ledger *led, struct hga_str op)
{
	return &led->by_op[hga_crc32c(0, op.s, op.n) % HGA_LED_BUCKETS];
}

struct hga_led_op *hga_led_mem_find(struct hga_ledger *led, struct hga_str op)
{
	struct hga_led_op *m = *bucket(led, op);

	while (m != NULL &&
	       !hga_str_eq(hga_cell_str(&m->row.c[HGA_COL_OP]), op))
		m = m->peer;
	return m;
}

/* Keeps (a copy of) a row of ours for the case that the file fails. */
int hga_led_mem_keep(struct hga_ledger *led, const struct hga_row *row,
                     struct hga_err *err)
{
	struct hga_str op = hga_cell_str(&row->c[HGA_COL_OP]);
	struct hga_led_op *m = hga_led_mem_find(led, op);
	int r;

	if (m != NULL)
		return hga_row_copy(&m->row, row, err);
	m = hga_calloc(1, sizeof(*m));
	if (m == NULL)
		return hga_fail_mem(err);
	r = hga_row_copy(&m->row, row, err);
	if (r < 0) {
		hga_free(m);
		return r;
	}
	m->peer = *bucket(led, op);
	*bucket(led, op) = m;
	*(led->last_op != NULL ? &led->last_op->next : &led->ops) = m;
	led->last_op = m;
	return 0;
}

void hga_led_mem_drop(struct hga_ledger *led, struct hga_str op)
{
	struct hga_led_op *m = hga_led_mem_find(led, op);
	struct hga_led_op **p = bucket(led, op);
	struct hga_led_op *before = NULL;

	if (m == NULL)
		return;
	while (*p != m)
		p = &(*p)->peer;
	*p = m->peer;
	if (m != led->ops)
		for (before = led->ops; before->next != m;)
			before = before->next;
	*(before != NULL ? &before->next : &led->ops) = m->next;
	if (led->last_op == m)
		led->last_op = before;
	hga_row_clear(&m->row);
	hga_free(m);
}

static void mem_release(struct hga_ledger *led)
{
	while (led->ops != NULL) {
		struct hga_led_op *m = led->ops;

		led->ops = m->next;
		hga_row_clear(&m->row);
		hga_free(m);
	}
	while (led->places != NULL) {
		struct hga_led_place *m = led->places;

		led->places = m->next;
		hga_row_clear(&m->row);
		hga_free(m);
	}
	while (led->runs != NULL) {
		struct hga_led_run *m = led->runs;

		led->runs = m->next;
		hga_row_clear(&m->row);
		hga_free(m);
	}
}

/* ---- opening ---- */

static int make_schema(struct hga_ledger *led, struct hga_err *err)
{
	struct hga_row row;
	int r = hga_db_begin(led->db, err);

	memset(&row, 0, sizeof(row));
	if (r == 0)
		r = hga_db_exec(led->db, hga_ledger_schema, err);
	if (r == 0)
		r = hga_cell_set_text(&row.c[0], HGA_STR("sid"), err);
	if (r == 0)
		r = hga_cell_set_text(&row.c[1], hga_str(led->sid), err);
	if (r == 0)
		r = hga_row_insert(led->db, &hga_table_meta, "INSERT", &row,
		                   err);
	if (r == 0)
		r = hga_db_commit(led->db, err);
	if (r < 0)
		hga_db_rollback(led->db);
	hga_row_clear(&row);
	return r;
}

static int check_sid(struct hga_ledger *led, struct hga_err *err)
{
	struct hga_row row;
	int r;

	memset(&row, 0, sizeof(row));
	r = hga_row_find(led->db, &hga_table_meta, "WHERE k=?1", HGA_STR("sid"),
	                 &row, err);
	if (r == 0)
		r = hga_fail(err, HGA_IO, 0, "Damaged", "%s has no identity",
		             led->path);
	else if (r > 0 && !hga_str_eqc(hga_cell_str(&row.c[1]), led->sid))
		r = hga_fail(err, HGA_IO, 0, "Identity",
		             "%s belongs to %.*s, but the file sid beside it "
		             "says %s",
		             led->path, HGA_STRF(hga_cell_str(&row.c[1])),
		             led->sid);
	hga_row_clear(&row);
	return r < 0 ? r : 0;
}

/* All open rows can be read and have the right checksum. */
static int check_rows(struct hga_ledger *led, struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	struct hga_row row;
	int r =
	    hga_row_select(led->db, &hga_table_op,
	                   "WHERE state NOT IN ('gone','absent')", &st, err);

	if (r < 0)
		return r;
	memset(&row, 0, sizeof(row));
	while ((r = hga_stmt_step(st, err)) > 0) {
		r = hga_row_read(&hga_table_op, st, &row, err);
		if (r < 0)
			break;
	}
	hga_row_clear(&row);
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

	(void)hga_num_exact(ops, hga_led_now() - 30 * DAY_S); /* always fits */
	(void)hga_num_exact(events, hga_led_now() - 90 * DAY_S);
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
	if (version < 0)
		return hga_fail(err, HGA_IO, 0, "Damaged", "%s: wrong version",
		                led->path);
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
int hga_led_open_db(struct hga_ledger *led, struct hga_err *err)
{
	const struct hga_db_opts opts = {true,           true, true,
	                                 HGA_LED_APP_ID, true, false};
	struct stat sb = {0};
	int r = hga_db_open(led->path, &opts, &led->db, &led->created, err);

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
	fd = hga_fs_open(led->reserve, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
	                 0600, NULL);
	if (fd < 0)
		return;
	if (posix_fallocate(fd, 0, RESERVE) != 0)
		(void)unlink(led->reserve); /* full: without it, then */
	(void)close(fd);                    /* holds no data */
}

char *hga_led_join(const char *dir, const char *name)
{
	struct hga_buf b;

	hga_buf_init(&b, 65536);
	if (hga_buf_addf(&b, NULL, "%s/%s", dir, name) < 0)
		hga_buf_release(&b);
	return hga_buf_move(&b);
}

int hga_led_take_lock(const struct hga_ledger *led, struct hga_err *err)
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
	/* tests have more checkpoints */
	const char *small = getenv("HGAUTO_LEDGER_WAL");
	struct hga_ledger *led = hga_calloc(1, sizeof(*led));
	struct hga_err own = {.kind = HGA_OK};
	int lock = -1;
	int r = 0;

	err = err ? err : &own;
	if (led == NULL)
		return hga_fail_mem(err);
	led->wal_pages =
	    small != NULL ? (int)strtol(small, NULL, 10) : WAL_PAGES;
	led->dir = hga_strdup(hga_state_path(st));
	led->path = hga_led_join(hga_state_path(st), "ledger.db");
	led->lock = hga_led_join(hga_state_path(st), "ledger.lock");
	led->reserve = hga_led_join(hga_state_path(st), "ledger.reserve");
	(void)snprintf(led->sid, sizeof(led->sid), "%s", hga_state_sid(st));
	if (led->dir == NULL || led->path == NULL || led->lock == NULL ||
	    led->reserve == NULL)
		r = hga_fail_mem(err);
	if (r == 0)
		r = lock = hga_led_take_lock(led, err);
	if (lock >= 0) {
		r = hga_led_open_db(led, err);
		if (hga_led_damaged(r, err))
			r = hga_led_salvage(led, err);
		else if (r == 0 && led->created)
			hga_led_restore(led);
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
		lock = hga_led_take_lock(led, NULL);
		/* what is not checkpointed stays in the WAL */
		if (lock >= 0 && !led->poisoned && led->newer == 0)
			(void)!hga_db_checkpoint(led->db, NULL);
		/* SQLite leaves the log alone when the file was moved */
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
typedef int (*hga_led_tx)(struct hga_ledger *led, void *data,
                          struct hga_err *err);

static int restore_rows(struct hga_ledger *led, struct hga_err *err)
{
	int r = 0;

	for (struct hga_led_place *m = led->places; m != NULL && r == 0;
	     m = m->next)
		r = hga_row_insert(led->db, &hga_table_place,
		                   "INSERT OR IGNORE", &m->row, err);
	for (struct hga_led_run *m = led->runs; m != NULL && r == 0;
	     m = m->next)
		r = hga_row_insert(led->db, &hga_table_run, "INSERT OR REPLACE",
		                   &m->row, err);
	for (struct hga_led_op *m = led->ops; m != NULL && r == 0; m = m->next)
		r = hga_row_insert(led->db, &hga_table_op, "INSERT OR REPLACE",
		                   &m->row, err);
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
	r = hga_led_open_db(led, err);
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

static int try_tx(struct hga_ledger *led, hga_led_tx fn, void *data,
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
	return (r == -HGA_IO && !is_code(r, err, "Busy")) || r == -HGA_NOTFOUND;
}

/* The file part of hga_led_transact: under ledger.lock. */
static int locked_tx(struct hga_ledger *led, hga_led_tx fn, void *data,
                     bool use_reserve, struct hga_err *err)
{
	int r = follow_file(led, err);

	if (r < 0)
		return r;
	r = try_tx(led, fn, data, err);
	if (is_code(r, err, "Full") && use_reserve && unlink(led->reserve) == 0)
		r = try_tx(led, fn, data, err);
	if (r == 0 && hga_db_wal_pages(led->db) > led->wal_pages)
		r = hga_db_checkpoint(led->db, err);
	return r;
}

int hga_led_failed(struct hga_err *err)
{
	return hga_fail(err, HGA_IO, 0, "LedgerFailed",
	                "the ledger failed before; nothing more is created");
}

/*
 * One durable transaction.  fn's own refusals (usage, bug, exists) leave the
 * ledger in order; a failing file poisons it.  *err must not be NULL.
 */
int hga_led_transact(struct hga_ledger *led, hga_led_tx fn, void *data,
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
		return hga_led_failed(err);
	lock = hga_led_take_lock(led, err);
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

struct hga_led_run *hga_led_find_run(const struct hga_ledger *led,
                                     struct hga_str run)
{
	struct hga_led_run *m = led->runs;

	while (m != NULL && !hga_str_eq(hga_cell_str(&m->row.c[0]), run))
		m = m->next;
	return m;
}

static int tx_run(struct hga_ledger *led, void *data, struct hga_err *err)
{
	return hga_row_insert(led->db, &hga_table_run, "INSERT OR REPLACE",
	                      data, err);
}

/* A copy of the ledger once a day; a run does without if it fails. */
static void daily_backup(struct hga_ledger *led)
{
	struct hga_err err;
	struct stat sb;
	char *path = hga_led_join(led->dir, "ledger.bak");
	int lock;

	if (path == NULL)
		return;
	if (stat(path, &sb) == 0 &&
	    hga_led_now() - (double)sb.st_mtime < BACKUP_AGE_S) {
		hga_free(path);
		return;
	}
	lock = hga_led_take_lock(led, &err);
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
	struct hga_led_run *m = hga_calloc(1, sizeof(*m));
	struct hga_err own = {.kind = HGA_OK};
	int r = 0;

	err = err ? err : &own;
	if (m == NULL)
		return hga_fail_mem(err);
	m->lock_fd = lock_fd;
	if (run.n == 0 || run.n > 64 || task.n > HGA_LED_TEXT_MAX)
		r = hga_fail(err, HGA_USAGE, 0, "Run", "wrong run or task");
	if (r == 0)
		r = hga_cell_set_text(&m->row.c[0], run, err);
	if (r == 0)
		r = hga_cell_set_opt(&m->row.c[1], task, err);
	if (r == 0) {
		hga_cell_set_num(&m->row.c[2], hga_led_now());
		r = hga_led_transact(led, tx_run, &m->row, false, err);
	}
	if (r < 0) {
		hga_row_clear(&m->row);
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
	struct hga_led_run *m = hga_led_find_run(led, run);
	struct hga_err own = {.kind = HGA_OK};

	if (m == NULL)
		return hga_fail(err, HGA_NOTFOUND, 0, "Run",
		                "run %.*s was not begun here", HGA_STRF(run));
	m->lock_fd = -1;
	hga_cell_set_num(&m->row.c[3], hga_led_now());
	if (led->poisoned)
		return 0;
	return hga_led_transact(led, tx_run, &m->row, true, err ? err : &own);
}

/* The record of place n, from memory or the file; NULL: no such place. */
struct hga_led_place *hga_led_find_place(struct hga_ledger *led, int64_t n,
                                         struct hga_err *err)
{
	struct hga_led_place *m = led->places;
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
	r = hga_row_find(led->db, &hga_table_place,
	                 "WHERE place=CAST(?1 AS INTEGER)", hga_str(key),
	                 &m->row, err);
	if (r <= 0) {
		hga_row_clear(&m->row);
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
	struct hga_stmt *st = NULL;
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
	struct hga_row row;
	int r = select_place(led, x->p, &x->n, err);

	if (r != 0)
		return r < 0 ? r : 0;
	r = hga_db_int(led->db, "SELECT max(place)+1 FROM place", 1, &x->n,
	               err);
	memset(&row, 0, sizeof(row));
	x->n = x->n > 0 ? x->n : 1;
	hga_cell_set_int(&row.c[0], x->n);
	if (r == 0)
		r = hga_cell_set_text(&row.c[1], x->p->partition, err);
	if (r == 0)
		r = hga_cell_set_text(&row.c[2], x->p->account, err);
	if (r == 0)
		r = hga_cell_set_text(&row.c[3], x->p->region, err);
	if (r == 0)
		r = hga_cell_set_text(&row.c[4], x->p->endpoint, err);
	if (r == 0)
		r = hga_row_insert(led->db, &hga_table_place, "INSERT", &row,
		                   err);
	hga_row_clear(&row);
	return r;
}

int hga_ledger_place(struct hga_ledger *led, const struct hga_ledger_place *p,
                     int64_t *place, struct hga_err *err)
{
	struct place_tx x = {p, 0};
	struct hga_err own = {.kind = HGA_OK};
	int r;

	err = err ? err : &own;
	if (led->db == NULL)
		return hga_led_failed(err);
	if (p->partition.n + p->account.n + p->region.n + p->endpoint.n >
	    HGA_LED_TEXT_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Place", "overlong place");
	r = select_place(led, p, &x.n, err);
	if (r == 0)
		r = hga_led_transact(led, tx_place, &x, false, err);
	if (r < 0)
		return r;
	*place = x.n;
	/* remembered, so that a new file can get it too */
	return hga_led_find_place(led, x.n, err) != NULL ? 0
	                                                 : hga_fail_mem(err);
}

/* ---- events ---- */

int hga_led_add_event(struct hga_ledger *led, struct hga_str op,
                      const char *state, struct hga_str note,
                      struct hga_err *err)
{
	struct hga_row row;
	int64_t n;
	int r = hga_db_int(led->db, "SELECT max(n)+1 FROM event", 1, &n, err);

	memset(&row, 0, sizeof(row));
	hga_cell_set_int(&row.c[0], n > 0 ? n : 1);
	hga_cell_set_num(&row.c[1], hga_led_now());
	if (r == 0)
		r = hga_cell_set_opt(&row.c[2], op, err);
	if (r == 0 && state != NULL)
		r = hga_cell_set_text(&row.c[3], hga_str(state), err);
	if (r == 0)
		r = hga_cell_set_opt(&row.c[4], note, err);
	if (r == 0)
		r = hga_row_insert(led->db, &hga_table_event, "INSERT", &row,
		                   err);
	hga_row_clear(&row);
	return r;
}

struct event_tx {
	struct hga_str op, note;
};

static int tx_event(struct hga_ledger *led, void *data, struct hga_err *err)
{
	const struct event_tx *x = data;

	return hga_led_add_event(led, x->op, NULL, x->note, err);
}

/* Text without secrets, at most max bytes, whole characters. */
int hga_led_safe_text(struct hga_str s, size_t max, struct hga_buf *out,
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
	struct hga_err own = {.kind = HGA_OK};
	struct hga_buf safe;
	struct event_tx x;
	int r;

	err = err ? err : &own;
	hga_buf_init(&safe, 1024 * 1024);
	r = hga_led_safe_text(note, HGA_LED_ERROR_MAX, &safe, err);
	x.op = op;
	x.note = hga_buf_str(&safe);
	if (r == 0)
		r = hga_led_transact(led, tx_event, &x, true, err);
	hga_buf_release(&safe);
	return r;
}
