/* The ledger: reading rows, and forgetting those of a wiped local cloud. */
#include "state/ledger.h"

#include "state/ledger_impl.h"

#include <string.h>

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
	       (row->recheck > 0 && row->recheck <= hga_led_now());
}

static int view_place(struct hga_ledger *led, struct hga_ledger_row *out,
                      struct hga_err *err)
{
	struct hga_err why = {.kind = HGA_OK};
	const struct hga_led_place *p =
	    hga_led_find_place(led, out->place, &why);

	if (p == NULL && why.kind != HGA_OK) {
		*err = why;
		return -(int)why.kind;
	}
	if (p == NULL)
		return 0;
	out->partition = hga_cell_str(&p->row.c[1]);
	out->account = hga_cell_str(&p->row.c[2]);
	out->region = hga_cell_str(&p->row.c[3]);
	out->endpoint = hga_cell_str(&p->row.c[4]);
	return 0;
}

static void view(const struct hga_row *row, struct hga_ledger_row *out)
{
	memset(out, 0, sizeof(*out));
	out->op = hga_cell_str(&row->c[HGA_COL_OP]);
	out->run = hga_cell_str(&row->c[HGA_COL_RUN]);
	out->parent = hga_cell_str(&row->c[HGA_COL_PARENT]);
	out->kind = hga_cell_str(&row->c[HGA_COL_KIND]);
	out->cls = hga_cell_str(&row->c[HGA_COL_CLS]);
	out->state =
	    hga_ledger_state_find(hga_cell_str(&row->c[HGA_COL_STATE]));
	out->place = row->c[HGA_COL_PLACE].i;
	out->name = hga_cell_str(&row->c[HGA_COL_NAME]);
	out->token = hga_cell_str(&row->c[HGA_COL_TOKEN]);
	out->id = hga_cell_str(&row->c[HGA_COL_ID]);
	out->req = hga_cell_str(&row->c[HGA_COL_REQ]);
	out->t_intent = hga_cell_num(&row->c[HGA_COL_T_INTENT]);
	out->t_sent = hga_cell_num(&row->c[HGA_COL_T_SENT]);
	out->t_live = hga_cell_num(&row->c[HGA_COL_T_LIVE]);
	out->t_seen = hga_cell_num(&row->c[HGA_COL_T_SEEN]);
	out->t_state = hga_cell_num(&row->c[HGA_COL_T_STATE]);
	out->expires = hga_cell_num(&row->c[HGA_COL_EXPIRES]);
	out->keep_until = hga_cell_num(&row->c[HGA_COL_KEEP_UNTIL]);
	out->recheck = hga_cell_num(&row->c[HGA_COL_RECHECK]);
	out->adopted = row->c[HGA_COL_ADOPTED].i != 0;
	out->detail = hga_cell_str(&row->c[HGA_COL_DETAIL]);
	out->error = hga_cell_str(&row->c[HGA_COL_ERROR]);
}

static int give(struct hga_ledger *led, const struct hga_row *row,
                const struct hga_ledger_filter *f, hga_ledger_fn fn, void *data,
                struct hga_err *err)
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
	struct hga_stmt *st = NULL;
	struct hga_row row;
	int r;

	if (f->op.n > 0)
		tail = "WHERE op=?1";
	else if (f->states != 0 && (f->states & ~HGA_LEDGER_OPEN) == 0)
		tail = "WHERE state NOT IN ('gone','absent') ORDER BY rowid";
	r = hga_row_select(led->db, &hga_table_op, tail, &st, err);
	if (r < 0)
		return r;
	if (f->op.n > 0)
		hga_stmt_text(st, 1, f->op);
	memset(&row, 0, sizeof(row));
	while ((r = hga_stmt_step(st, err)) > 0) {
		const struct hga_led_op *m;

		r = hga_row_read(&hga_table_op, st, &row, err);
		if (r < 0)
			break;
		m = led->poisoned ? hga_led_mem_find(
		                        led, hga_cell_str(&row.c[HGA_COL_OP]))
		                  : NULL;
		if (m == NULL) /* else told from memory */
			r = give(led, &row, f, fn, data, err);
		if (r < 0)
			break;
	}
	hga_row_clear(&row);
	hga_stmt_free(st);
	return r;
}

int hga_ledger_list(struct hga_ledger *led, const struct hga_ledger_filter *f,
                    hga_ledger_fn fn, void *data, struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	int r = 0;

	err = err ? err : &own;
	if (led->db != NULL)
		r = list_file(led, f, fn, data, err);
	/* a failing file must not hide what memory knows */
	if (r == -HGA_IO && led->poisoned)
		r = 0;
	for (struct hga_led_op *m = led->ops;
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
                   struct hga_row *row, struct hga_err *err)
{
	return hga_row_find(
	    led->db, &hga_table_op,
	    "WHERE state NOT IN ('gone','absent') AND place IN"
	    " (SELECT place FROM place WHERE endpoint=?1) LIMIT 1",
	    endpoint, row, err);
}

static int tx_forget(struct hga_ledger *led, void *data, struct hga_err *err)
{
	static const struct hga_ledger_change nothing;
	struct forget_tx *x = data;
	struct hga_row row;
	int r;

	memset(&row, 0, sizeof(row));
	x->n = 0;
	while ((r = next_of(led, x->endpoint, &row, err)) > 0) {
		r = hga_led_apply(&row, HGA_LEDGER_GONE, &nothing, err);
		if (r == 0)
			r = hga_row_update(led->db, &hga_table_op, &row, err);
		if (r == 0)
			r = hga_led_add_event(
			    led, hga_cell_str(&row.c[HGA_COL_OP]), "gone",
			    HGA_STR("endpoint forgotten"), err);
		if (r == 0 &&
		    hga_led_mem_find(led, hga_cell_str(&row.c[HGA_COL_OP])) !=
		        NULL)
			r = hga_led_mem_keep(led, &row, err);
		if (r < 0)
			break;
		x->n++;
	}
	hga_row_clear(&row);
	return r;
}

int hga_ledger_forget(struct hga_ledger *led, struct hga_str endpoint,
                      int64_t *n, struct hga_err *err)
{
	struct forget_tx x = {endpoint, 0};
	struct hga_err own = {.kind = HGA_OK};
	int r;

	err = err ? err : &own;
	if (endpoint.n == 0)
		return hga_fail(err, HGA_USAGE, 0, "Ledger",
		                "entries of AWS itself cannot be forgotten");
	r = hga_led_transact(led, tx_forget, &x, true, err);
	if (r == 0 && n != NULL)
		*n = x.n;
	return r;
}
