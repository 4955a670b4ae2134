/*
 * The ledger: what a person may ask of the file as a whole: is it sound, make
 * it anew from what can be read, drop one entry (reliability.md section 2.10);
 * handing entries over to a run that resumes another one (2.11).
 */
#include "state/ledger_impl.h"

#include <string.h>
#include <unistd.h>

static int count_rows(struct hga_ledger *led, struct hga_ledger_counts *n,
                      struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	struct hga_row row;
	struct hga_str s;
	int r =
	    hga_row_select(led->db, &hga_table_op, "ORDER BY rowid", &st, err);

	if (r < 0)
		return r;
	memset(&row, 0, sizeof(row));
	while ((r = hga_stmt_step(st, err)) > 0) {
		n->ops++;
		if (hga_row_read(&hga_table_op, st, &row, NULL) < 0) {
			n->bad++;
			continue;
		}
		s = hga_cell_str(&row.c[HGA_COL_STATE]);
		n->open += !hga_str_eqc(s, "gone") && !hga_str_eqc(s, "absent");
	}
	hga_row_clear(&row);
	hga_stmt_free(st);
	return r;
}

int hga_ledger_check(struct hga_ledger *led, struct hga_ledger_counts *n,
                     struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	int r;

	err = err ? err : &own;
	memset(n, 0, sizeof(*n));
	if (led->db == NULL)
		return hga_led_failed(err);
	r = hga_db_check(led->db, err);
	return r < 0 ? r : count_rows(led, n, err);
}

int hga_ledger_rebuild(struct hga_ledger *led, struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	int lock;
	int r;

	err = err ? err : &own;
	if (led->db == NULL)
		return hga_led_failed(err);
	lock = hga_led_take_lock(led, err);
	if (lock < 0)
		return lock;
	r = hga_led_salvage(led, err);
	if (r < 0)
		led->poisoned = true;
	(void)close(lock); /* unlocks */
	return r;
}

static int tx_forget_op(struct hga_ledger *led, void *data, struct hga_err *err)
{
	static const struct hga_ledger_change nothing;
	const struct hga_str *op = data;
	struct hga_row row;
	int r;

	memset(&row, 0, sizeof(row));
	r = hga_row_find(led->db, &hga_table_op, "WHERE op=?1", *op, &row, err);
	if (r == 0)
		/* no failure of the file: -HGA_NOTFOUND would poison */
		r = hga_fail(err, HGA_USAGE, 0, "Ledger",
		             "no ledger entry %.*s", HGA_STRF(*op));
	if (r > 0)
		r = hga_led_apply(&row, HGA_LEDGER_GONE, &nothing, err);
	if (r == 0)
		r = hga_row_update(led->db, &hga_table_op, &row, err);
	if (r == 0)
		r = hga_led_add_event(led, *op, "gone", HGA_STR("forgotten"),
		                      err);
	hga_row_clear(&row);
	return r;
}

int hga_ledger_forget_op(struct hga_ledger *led, struct hga_str op,
                         struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};

	err = err ? err : &own;
	return hga_led_transact(led, tx_forget_op, &op, true, err);
}

struct take_tx {
	struct hga_str op, from, to;
};

/* 1 and the row of that op, when it is something the old run has left. */
static int find_left(struct hga_ledger *led, const struct take_tx *x,
                     struct hga_row *row, struct hga_err *err)
{
	int r = hga_row_find(led->db, &hga_table_op,
	                     "WHERE op=?1 AND state IN ('live','kept')", x->op,
	                     row, err);

	if (r < 0)
		return r;
	if (r > 0 && !hga_str_eq(x->from, x->to) &&
	    hga_str_eq(hga_cell_str(&row->c[HGA_COL_RUN]), x->from))
		return 1;
	/* no failure of the file: -HGA_NOTFOUND would poison */
	return hga_fail(err, HGA_USAGE, 0, "Ledger",
	                "%.*s is nothing that run %.*s has left",
	                HGA_STRF(x->op), HGA_STRF(x->from));
}

/* Gives one row its new run; live, no longer kept. */
static int take_row(struct hga_ledger *led, struct hga_row *row,
                    const struct take_tx *x, struct hga_err *err)
{
	static const struct hga_ledger_change nothing;
	int r = hga_cell_set_text(&row->c[HGA_COL_RUN], x->to, err);

	if (r == 0)
		r = hga_led_apply(row, HGA_LEDGER_LIVE, &nothing, err);
	if (r == 0) {
		hga_cell_clear(&row->c[HGA_COL_KEEP_UNTIL]);
		r = hga_row_update(led->db, &hga_table_op, row, err);
	}
	if (r == 0)
		r = hga_led_add_event(led, hga_cell_str(&row->c[HGA_COL_OP]),
		                      "live", HGA_STR("taken over"), err);
	return r < 0 ? r : hga_led_mem_keep(led, row, err);
}

static int tx_take(struct hga_ledger *led, void *data, struct hga_err *err)
{
	/* what came along with it; its own row changes last */
	static const char *const along =
	    "WHERE parent=?1 AND state IN ('live','kept')"
	    " AND run=(SELECT run FROM op WHERE op=?1) LIMIT 1";
	const struct take_tx *x = data;
	struct hga_row row, child;
	int r;

	memset(&row, 0, sizeof(row));
	memset(&child, 0, sizeof(child));
	r = find_left(led, x, &row, err);
	while (r > 0) {
		r = hga_row_find(led->db, &hga_table_op, along, x->op, &child,
		                 err);
		if (r > 0 && take_row(led, &child, x, err) < 0)
			r = -(int)err->kind;
	}
	if (r == 0)
		r = take_row(led, &row, x, err);
	hga_row_clear(&child);
	hga_row_clear(&row);
	return r;
}

int hga_ledger_take(struct hga_ledger *led, struct hga_str op,
                    struct hga_str from, struct hga_str to, struct hga_err *err)
{
	struct take_tx x = {op, from, to};
	struct hga_err own = {.kind = HGA_OK};

	err = err ? err : &own;
	return hga_led_transact(led, tx_take, &x, true, err);
}
