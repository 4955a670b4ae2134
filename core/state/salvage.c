/*
 * The ledger: what to do with a damaged file (reliability.md section 2.3).
 * It is set aside, a new one takes its place, and every row that still has
 * the right checksum is carried over; what is not final becomes unknown, so
 * that nothing is believed without a look-up.
 */
#include "state/ledger_impl.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct counts {
	int kept, lost; /* ops */
};

bool hga_led_damaged(int r, const struct hga_err *err)
{
	/* a changed schema shows as wrong SQL */
	return (r == -HGA_IO && strcmp(err->code, "Damaged") == 0) ||
	       (r == -HGA_USAGE && strcmp(err->code, "Sql") == 0);
}

static int insert_row(struct hga_ledger *led, const struct hga_table *t,
                      struct hga_row *row, struct counts *n)
{
	struct hga_err err;
	struct hga_str s;
	int r = 0;

	if (t == &hga_table_op) {
		s = hga_cell_str(&row->c[HGA_COL_STATE]);
		if (!hga_str_eqc(s, "gone") && !hga_str_eqc(s, "absent"))
			r = hga_cell_set_text(&row->c[HGA_COL_STATE],
			                      HGA_STR("unknown"), &err);
	}
	if (r == 0)
		r = hga_row_insert(led->db, t, "INSERT OR IGNORE", row, &err);
	if (t != &hga_table_op)
		return r == -HGA_IO ? r : 0;
	if (r == 0 && hga_db_changes(led->db) > 0)
		n->kept++;
	else if (r < 0)
		n->lost++;
	return r == -HGA_IO ? r : 0;
}

/*
 * Carries the readable rows of a table over; order: a second pass from the
 * end gets around a damaged page.  Only a failure of the new file is one.
 */
static int copy_table(struct hga_ledger *led, struct hga_db *from,
                      const struct hga_table *t, const char *order,
                      struct counts *n)
{
	struct hga_stmt *st = NULL;
	struct hga_row row;
	int r = 0;

	if (hga_row_select(from, t, order, &st, NULL) < 0)
		return 0;
	memset(&row, 0, sizeof(row));
	while (r == 0 && hga_stmt_step(st, NULL) > 0) {
		if (hga_row_read(t, st, &row, NULL) == 0)
			r = insert_row(led, t, &row, n);
		else if (t == &hga_table_op)
			n->lost++;
	}
	hga_row_clear(&row);
	hga_stmt_free(st);
	return r;
}

/*
 * A table of one file: n counts.  Later passes only add what is missing.
 */
static int copy_both_ways(struct hga_ledger *led, struct hga_db *from,
                          const struct hga_table *t, struct counts *n)
{
	struct counts again = {0, 0}; /* what the first pass missed */
	int r = copy_table(led, from, t, "ORDER BY rowid", n);

	if (r == 0)
		r = copy_table(led, from, t, "ORDER BY rowid DESC", &again);
	n->kept += again.kept;
	return r;
}

/* Rows of other files into ours.  All places first: an op that still can be
 * read is of no use when its place was lost and is in the next file. */
static int copy_tables(struct hga_ledger *led, struct hga_db *const *from,
                       struct counts *n, int files)
{
	static const struct hga_table *const tables[] = {
	    &hga_table_place, &hga_table_run, &hga_table_op};
	int r = 0;

	for (size_t i = 0; i < 3; i++)
		for (int k = 0; k < files && r == 0; k++)
			if (from[k] != NULL)
				r = copy_both_ways(led, from[k], tables[i],
				                   &n[k]);
	return r;
}

/* The same in one transaction; earlier files win.  path: NULL or not to be
 * opened: nothing can be had from it. */
static int copy_files(struct hga_ledger *led, const char *const *path,
                      struct counts *n, int files, struct hga_err *err)
{
	static const struct hga_db_opts opts = {.no_autocheckpoint = true,
	                                        .damaged = true};
	struct hga_db *from[2] = {NULL, NULL};
	int r;

	for (int k = 0; k < files; k++)
		if (path[k] != NULL &&
		    hga_db_open(path[k], &opts, &from[k], NULL, NULL) < 0)
			from[k] = NULL;
	r = hga_db_begin(led->db, err);
	if (r == 0) {
		r = copy_tables(led, from, n, files);
		if (r < 0)
			(void)hga_fail(err, HGA_IO, 0, "Sqlite",
			               "%s cannot be written", led->path);
	}
	if (r == 0)
		r = hga_db_commit(led->db, err);
	if (r < 0)
		hga_db_rollback(led->db);
	for (int k = 0; k < files; k++)
		hga_db_close(from[k]);
	return r;
}

/* Moves ledger.db and its companions into a new directory. */
static int set_aside(const struct hga_ledger *led, struct hga_buf *dir,
                     struct hga_err *err)
{
	/* the index of the log is made anew by whoever reads what was moved:
	 * it may not fit the log any more */
	static const char *const tails[] = {"", "-wal", "-shm"};
	static const char *const to_tails[] = {"", "-wal", "-old-shm"};
	char when[HGA_TIME_TEXT];
	struct hga_buf from;
	struct hga_buf to;
	int r = -HGA_EXISTS;

	(void)hga_time_text(when, hga_wall_us(), HGA_TIME_BASIC);
	for (int i = 0; i < 1000 && r == -HGA_EXISTS; i++) {
		hga_buf_clear(dir);
		r = hga_buf_addf(dir, err, "%s/ledger.bad-%s", led->dir, when);
		if (r == 0 && i > 0)
			r = hga_buf_addf(dir, err, "-%d", i);
		if (r == 0)
			r = hga_fs_mkdir(dir->data, 0700, false, err);
	}
	hga_buf_init(&from, 65536);
	hga_buf_init(&to, 65536);
	for (int i = 0; i < 3 && r == 0; i++) {
		hga_buf_clear(&from);
		hga_buf_clear(&to);
		r = hga_buf_addf(&from, err, "%s%s", led->path, tails[i]);
		if (r == 0)
			r = hga_buf_addf(&to, err, "%s/ledger.db%s", dir->data,
			                 to_tails[i]);
		if (r == 0 && rename(from.data, to.data) != 0 &&
		    errno != ENOENT)
			r = hga_fs_fail(err, errno, "set aside", from.data);
	}
	hga_buf_release(&from);
	hga_buf_release(&to);
	return r;
}

int hga_led_salvage(struct hga_ledger *led, struct hga_err *err)
{
	struct counts n[2] = {{0, 0}, {0, 0}};
	char *path[2] = {NULL, NULL};
	struct hga_buf dir;
	int r;

	hga_db_close(led->db);
	led->db = NULL;
	hga_buf_init(&dir, 65536);
	r = set_aside(led, &dir, err);
	if (r == 0)
		r = hga_led_open_db(led, err);
	if (r == 0) {
		path[0] = hga_led_join(dir.data, "ledger.db");
		path[1] = hga_led_join(led->dir, "ledger.bak");
		r = path[0] != NULL && path[1] != NULL
		        ? copy_files(led, (const char *const *)path, n, 2, err)
		        : hga_fail_mem(err);
	}
	if (r == 0)
		hga_log(HGA_LOG_WARN, "ledger",
		        "ledger.db was damaged: %d rows recovered, %d lost; "
		        "copy in %s",
		        n[0].kept + n[1].kept,
		        n[0].lost > n[1].kept ? n[0].lost - n[1].kept : 0,
		        dir.data);
	hga_free(path[0]);
	hga_free(path[1]);
	hga_buf_release(&dir);
	return r;
}

void hga_led_restore(struct hga_ledger *led)
{
	char *path = hga_led_join(led->dir, "ledger.bak");
	struct counts n = {0, 0};
	struct hga_err err = {.kind = HGA_OK};

	if (path == NULL)
		(void)hga_fail_mem(&err);
	if (path == NULL ||
	    copy_files(led, (const char *const *)&path, &n, 1, &err) < 0)
		hga_log(HGA_LOG_WARN, "ledger", "%s", err.msg);
	else if (n.kept > 0)
		hga_log(HGA_LOG_WARN, "ledger",
		        "ledger.db was missing: %d rows taken from "
		        "ledger.bak",
		        n.kept);
	hga_free(path);
}
