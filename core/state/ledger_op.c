/*
 * The ledger: intents, changes of state, children, adoption; reliability.md
 * sections 2.4 and 2.5.
 */
#include "state/ledger.h"

#include "state/ledger_impl.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FREE_MIN (8u * 1024 * 1024)

/* ---- intents ---- */

static bool op_ok(struct hga_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(s.s[i] >= '0' && s.s[i] <= '9') &&
		    !(s.s[i] >= 'a' && s.s[i] <= 'f'))
			return false;
	return s.n == HGA_OP_ID - 1;
}

static int check_intent(const struct hga_ledger_intent *in, struct hga_err *err)
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
	else if (in->name.n > HGA_LED_TEXT_MAX ||
	         in->token.n > HGA_LED_TEXT_MAX || in->req.n > 128)
		wrong = "name, token or req is too long";
	else if (in->detail.n > HGA_LED_DETAIL_MAX)
		wrong = "detail is over 4 KiB";
	if (wrong == NULL)
		return 0;
	return hga_fail(err, HGA_USAGE, 0, "Ledger", "ledger entry: %s", wrong);
}

static int fill_row(struct hga_row *row, const struct hga_ledger_intent *in,
                    enum hga_ledger_state state, struct hga_err *err)
{
	struct hga_str cls = in->cls.n ? in->cls : HGA_STR("ephemeral");
	int r = hga_cell_set_text(&row->c[HGA_COL_OP], in->op, err);

	if (r == 0)
		r = hga_cell_set_text(&row->c[HGA_COL_RUN], in->run, err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_PARENT], in->parent, err);
	if (r == 0)
		r = hga_cell_set_text(&row->c[HGA_COL_KIND], in->kind, err);
	if (r == 0)
		r = hga_cell_set_text(&row->c[HGA_COL_CLS], cls, err);
	if (r == 0)
		r = hga_cell_set_text(&row->c[HGA_COL_STATE],
		                      hga_str(hga_ledger_state_name(state)),
		                      err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_NAME], in->name, err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_TOKEN], in->token, err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_REQ], in->req, err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_DETAIL], in->detail, err);
	hga_cell_set_int(&row->c[HGA_COL_PLACE], in->place);
	hga_cell_set_int(&row->c[HGA_COL_ADOPTED], 0);
	hga_cell_set_num(&row->c[HGA_COL_T_INTENT], hga_led_now());
	hga_cell_set_num(&row->c[HGA_COL_T_STATE], hga_led_now());
	if (in->expires > 0)
		hga_cell_set_num(&row->c[HGA_COL_EXPIRES], in->expires);
	return r;
}

static const char *row_state(const struct hga_row *row)
{
	return row->c[HGA_COL_STATE].s;
}

static int tx_insert(struct hga_ledger *led, void *data, struct hga_err *err)
{
	const struct hga_row *row = data;
	int r = hga_row_insert(led->db, &hga_table_op, "INSERT", row, err);

	if (r == 0)
		r = hga_led_add_event(led, hga_cell_str(&row->c[HGA_COL_OP]),
		                      row_state(row), hga_strn("", 0), err);
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
	const struct hga_led_run *m = hga_led_find_run(led, run);
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

/* Tells what follows for the request. */
static void not_sent(struct hga_err *err)
{
	struct hga_err old = *err;

	(void)hga_fail(err, HGA_IO, 0, old.code,
	               "ledger: %s; nothing was requested", old.msg);
	err->sys = old.sys;
}

int hga_ledger_intent(struct hga_ledger *led,
                      const struct hga_ledger_intent *in, struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	struct hga_row row;
	int r;

	err = err ? err : &own;
	memset(&row, 0, sizeof(row));
	r = check_intent(in, err);
	if (r == 0 && hga_led_mem_find(led, in->op) != NULL)
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
		hga_cell_set_num(&row.c[HGA_COL_T_SENT], hga_led_now());
		/* before the file: what was recorded must not be forgotten */
		r = hga_led_mem_keep(led, &row, err);
	}
	if (r == 0) {
		r = hga_led_transact(led, tx_insert, &row, false, err);
		if (r == -HGA_IO)
			not_sent(err);
	}
	if (r < 0)
		hga_led_mem_drop(led, in->op);
	hga_row_clear(&row);
	return r;
}

/* ---- changes ---- */

static bool allowed(enum hga_ledger_state from, enum hga_ledger_state to)
{
	static const unsigned next[] = {
	    [HGA_LEDGER_INTENT] = 1u << HGA_LEDGER_LIVE |
	                          1u << HGA_LEDGER_UNKNOWN |
	                          1u << HGA_LEDGER_ABSENT,
	    [HGA_LEDGER_UNKNOWN] =
	        1u << HGA_LEDGER_LIVE | 1u << HGA_LEDGER_ABSENT,
	    [HGA_LEDGER_LIVE] = 1u << HGA_LEDGER_DELETING |
	                        1u << HGA_LEDGER_KEPT | 1u << HGA_LEDGER_GONE,
	    [HGA_LEDGER_KEPT] = 1u << HGA_LEDGER_DELETING |
	                        1u << HGA_LEDGER_LIVE | 1u << HGA_LEDGER_GONE,
	    [HGA_LEDGER_DELETING] =
	        1u << HGA_LEDGER_GONE | 1u << HGA_LEDGER_LIVE,
	    [HGA_LEDGER_GONE] = 0,
	    [HGA_LEDGER_ABSENT] = 0,
	};

	return from == to || (next[from] >> to & 1);
}

/* A final row comes back only by its recheck, once that is due. */
static bool reborn(const struct hga_row *row, enum hga_ledger_state from,
                   enum hga_ledger_state to, const struct hga_ledger_change *c)
{
	double due = hga_cell_num(&row->c[HGA_COL_RECHECK]);

	return (from == HGA_LEDGER_GONE || from == HGA_LEDGER_ABSENT) &&
	       to == HGA_LEDGER_LIVE && due > 0 && c->id.n > 0 &&
	       hga_led_now() >= due;
}

static int check_change(const struct hga_row *row, enum hga_ledger_state to,
                        const struct hga_ledger_change *c, struct hga_err *err)
{
	enum hga_ledger_state from =
	    hga_ledger_state_find(hga_cell_str(&row->c[HGA_COL_STATE]));

	if (from == HGA_LEDGER_NONE)
		return hga_fail(err, HGA_IO, 0, "Damaged",
		                "ledger entry with an unknown state");
	if (to == HGA_LEDGER_NONE ||
	    (!allowed(from, to) && !reborn(row, from, to, c)))
		return hga_fail(err, HGA_BUG, 0, "LedgerState",
		                "ledger entry %.8s (%.20s): %s cannot become "
		                "%s",
		                row->c[HGA_COL_OP].s, row->c[HGA_COL_KIND].s,
		                hga_ledger_state_name(from),
		                hga_ledger_state_name(to));
	if (c->detail.n > HGA_LED_DETAIL_MAX || c->id.n > HGA_LED_TEXT_MAX ||
	    c->name.n > HGA_LED_TEXT_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Ledger",
		                "ledger entry: id, name or detail is too long");
	return 0;
}

static int set_error(struct hga_cell *c, struct hga_str text,
                     struct hga_err *err)
{
	struct hga_buf safe;
	int r;

	if (text.n == 0)
		return 0;
	hga_buf_init(&safe, 1024 * 1024);
	r = hga_led_safe_text(text, HGA_LED_ERROR_MAX, &safe, err);
	if (r == 0)
		r = hga_cell_set_text(c, hga_buf_str(&safe), err);
	hga_buf_release(&safe);
	return r;
}

/* Applies a checked change to a row. */
int hga_led_apply(struct hga_row *row, enum hga_ledger_state to,
                  const struct hga_ledger_change *c, struct hga_err *err)
{
	bool moved = !hga_str_eqc(hga_cell_str(&row->c[HGA_COL_STATE]),
	                          hga_ledger_state_name(to));
	int r = hga_cell_set_opt(&row->c[HGA_COL_ID], c->id, err);

	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_DETAIL], c->detail, err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_NAME], c->name, err);
	if (r == 0)
		r = set_error(&row->c[HGA_COL_ERROR], c->error, err);
	if (r == 0 && moved)
		r = hga_cell_set_text(&row->c[HGA_COL_STATE],
		                      hga_str(hga_ledger_state_name(to)), err);
	if (r < 0)
		return r;
	if (moved)
		hga_cell_set_num(&row->c[HGA_COL_T_STATE], hga_led_now());
	if (to == HGA_LEDGER_LIVE && hga_cell_num(&row->c[HGA_COL_T_LIVE]) == 0)
		hga_cell_set_num(&row->c[HGA_COL_T_LIVE], hga_led_now());
	if (c->expires > 0)
		hga_cell_set_num(&row->c[HGA_COL_EXPIRES], c->expires);
	if (c->keep_until > 0)
		hga_cell_set_num(&row->c[HGA_COL_KEEP_UNTIL], c->keep_until);
	if (c->t_seen > 0)
		hga_cell_set_num(&row->c[HGA_COL_T_SEEN], c->t_seen);
	if (c->recheck > 0)
		hga_cell_set_num(&row->c[HGA_COL_RECHECK], c->recheck);
	if (c->no_recheck)
		hga_cell_clear(&row->c[HGA_COL_RECHECK]);
	return 0;
}

/* The op of a resource with that kind and id in a place; 1 found, 0 not. */
static int find_resource(struct hga_ledger *led, int64_t place,
                         struct hga_str kind, struct hga_str id,
                         char op_out[HGA_OP_ID], struct hga_err *err)
{
	struct hga_stmt *st = NULL;
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
static int child_row(const struct hga_row *parent,
                     const struct hga_ledger_child *c, struct hga_row *row,
                     struct hga_err *err)
{
	char op[HGA_OP_ID];
	struct hga_ledger_intent in;
	int r = hga_token(op, err);

	memset(&in, 0, sizeof(in));
	in.op = hga_str(op);
	in.run = hga_cell_str(&parent->c[HGA_COL_RUN]);
	in.parent = hga_cell_str(&parent->c[HGA_COL_OP]);
	in.kind = c->kind;
	in.cls = c->cls.n ? c->cls : hga_cell_str(&parent->c[HGA_COL_CLS]);
	in.place = parent->c[HGA_COL_PLACE].i;
	in.name = c->name;
	in.expires = hga_cell_num(&parent->c[HGA_COL_EXPIRES]);
	in.detail = c->detail;
	if (r == 0)
		r = check_intent(&in, err);
	if (r == 0)
		r = fill_row(row, &in, HGA_LEDGER_LIVE, err);
	if (r == 0)
		r = hga_cell_set_opt(&row->c[HGA_COL_ID], c->id, err);
	if (r == 0)
		hga_cell_set_num(&row->c[HGA_COL_T_LIVE], hga_led_now());
	return r;
}

/* Inserts a child unless it is known; op_out may be NULL. */
static int add_child(struct hga_ledger *led, const struct hga_row *parent,
                     const struct hga_ledger_child *c, char *op_out,
                     struct hga_err *err)
{
	char op[HGA_OP_ID];
	struct hga_row row;
	int r = find_resource(led, parent->c[HGA_COL_PLACE].i, c->kind, c->id,
	                      op, err);

	memset(&row, 0, sizeof(row));
	if (r == 0) {
		r = child_row(parent, c, &row, err);
		if (r == 0)
			r = tx_insert(led, &row, err);
		if (r == 0)
			r = hga_led_mem_keep(led, &row, err);
		if (r == 0)
			(void)snprintf(op, sizeof(op), "%s",
			               row.c[HGA_COL_OP].s);
	}
	hga_row_clear(&row);
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
	struct hga_row row; /* as changed */
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
	int r = hga_row_find(led->db, &hga_table_op, "WHERE op=?1", x->op,
	                     &x->row, err);

	if (r <= 0)
		return r < 0 ? r : no_op(x->op, err);
	r = check_change(&x->row, x->state, x->c, err);
	if (r == 0)
		r = hga_led_apply(&x->row, x->state, x->c, err);
	if (r == 0)
		r = hga_row_update(led->db, &hga_table_op, &x->row, err);
	if (r == 0)
		r = hga_led_add_event(
		    led, x->op, hga_ledger_state_name(x->state),
		    hga_cell_str(&x->row.c[HGA_COL_ERROR]), err);
	for (size_t i = 0; i < x->c->n_children && r == 0; i++)
		r = add_child(led, &x->row, &x->c->children[i], NULL, err);
	return r;
}

/* The same in memory when the file has failed. */
static int set_in_memory(struct hga_ledger *led, const struct set_tx *x,
                         struct hga_err *err)
{
	struct hga_led_op *m = hga_led_mem_find(led, x->op);
	struct hga_row row;
	int r = 0;

	memset(&row, 0, sizeof(row));
	if (m == NULL) {
		/* not ours: what the file still tells */
		r = led->db != NULL
		        ? hga_row_find(led->db, &hga_table_op, "WHERE op=?1",
		                       x->op, &row, err)
		        : 0;
		if (r <= 0)
			r = r < 0 ? r : no_op(x->op, err);
		else
			r = hga_led_mem_keep(led, &row, err);
		m = hga_led_mem_find(led, x->op);
	}
	if (r == 0 && m != NULL)
		r = check_change(&m->row, x->state, x->c, err);
	if (r == 0 && m != NULL)
		r = hga_led_apply(&m->row, x->state, x->c, err);
	for (size_t i = 0; i < x->c->n_children && r == 0 && m != NULL; i++) {
		hga_row_clear(&row);
		r = child_row(&m->row, &x->c->children[i], &row, err);
		if (r == 0)
			r = hga_led_mem_keep(led, &row, err);
	}
	hga_row_clear(&row);
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
	struct hga_err own = {.kind = HGA_OK};
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
	r = hga_led_transact(led, tx_set, &x, true, err);
	/* nothing is left to be cleaned up of one that is durably gone */
	if (r == 0 && (state == HGA_LEDGER_GONE || state == HGA_LEDGER_ABSENT))
		hga_led_mem_drop(led, op);
	else if (r == 0)
		r = hga_led_mem_keep(led, &x.row, err);
	else if (led->poisoned && set_in_memory(led, &x, &ignored) < 0)
		hga_log(HGA_LOG_ERROR, "ledger", "%s", ignored.msg);
	hga_row_clear(&x.row);
	return unknown_op(r, err);
}

static int tx_sent(struct hga_ledger *led, void *data, struct hga_err *err)
{
	struct set_tx *x = data;
	int r = hga_row_find(led->db, &hga_table_op, "WHERE op=?1", x->op,
	                     &x->row, err);

	if (r <= 0)
		return r < 0 ? r : no_op(x->op, err);
	hga_cell_set_num(&x->row.c[HGA_COL_T_SENT], hga_led_now());
	return hga_row_update(led->db, &hga_table_op, &x->row, err);
}

int hga_ledger_sent(struct hga_ledger *led, struct hga_str op,
                    struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	struct set_tx x;
	int r;

	err = err ? err : &own;
	memset(&x, 0, sizeof(x));
	x.op = op;
	r = hga_led_transact(led, tx_sent, &x, false, err);
	if (r == 0)
		r = hga_led_mem_keep(led, &x.row, err);
	hga_row_clear(&x.row);
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
	struct hga_row row;
	int r;

	memset(&row, 0, sizeof(row));
	r = hga_row_find(led->db, &hga_table_op, "WHERE op=?1", x->parent, &row,
	                 err);
	if (r > 0)
		r = add_child(led, &row, x->c, x->op, err);
	else if (r == 0)
		r = no_op(x->parent, err);
	hga_row_clear(&row);
	return r;
}

static int child_in_memory(struct hga_ledger *led, struct child_tx *x,
                           struct hga_err *err)
{
	struct hga_led_op *m = hga_led_mem_find(led, x->parent);
	struct hga_row row;
	int r;

	if (m == NULL)
		return no_op(x->parent, err);
	memset(&row, 0, sizeof(row));
	r = child_row(&m->row, x->c, &row, err);
	if (r == 0)
		r = hga_led_mem_keep(led, &row, err);
	if (r == 0)
		(void)snprintf(x->op, sizeof(x->op), "%s", row.c[HGA_COL_OP].s);
	hga_row_clear(&row);
	return r;
}

int hga_ledger_child(struct hga_ledger *led, struct hga_str parent,
                     const struct hga_ledger_child *c, char op_out[HGA_OP_ID],
                     struct hga_err *err)
{
	struct child_tx x = {parent, c, ""};
	struct hga_err own = {.kind = HGA_OK};
	int r;

	err = err ? err : &own;
	r = led->poisoned ? child_in_memory(led, &x, err)
	                  : hga_led_transact(led, tx_child, &x, true, err);
	if (r == 0 && op_out != NULL)
		memcpy(op_out, x.op, HGA_OP_ID);
	return unknown_op(r, err);
}

struct adopt_tx {
	const struct hga_ledger_intent *in;
	struct hga_str id;
	char op[HGA_OP_ID];
	struct hga_row row;
};

/* Known already: under its op, or by kind and id. */
static int adopt_known(struct hga_ledger *led, struct adopt_tx *x,
                       struct hga_err *err)
{
	struct hga_ledger_change c;
	enum hga_ledger_state s;
	int r =
	    find_resource(led, x->in->place, x->in->kind, x->id, x->op, err);

	if (r == 0 && x->in->op.n > 0)
		(void)snprintf(x->op, sizeof(x->op), "%.*s",
		               HGA_STRF(x->in->op));
	if (r < 0 || x->op[0] == '\0')
		return r;
	r = hga_row_find(led->db, &hga_table_op, "WHERE op=?1", hga_str(x->op),
	                 &x->row, err);
	if (r <= 0)
		return r;
	s = hga_ledger_state_find(hga_cell_str(&x->row.c[HGA_COL_STATE]));
	if (s == HGA_LEDGER_GONE || s == HGA_LEDGER_ABSENT)
		return 0; /* a late delivery: a new entry, child of this one */
	if (s != HGA_LEDGER_INTENT && s != HGA_LEDGER_UNKNOWN)
		return 1;
	memset(&c, 0, sizeof(c));
	c.id = x->id;
	r = hga_led_apply(&x->row, HGA_LEDGER_LIVE, &c, err);
	if (r == 0)
		r = hga_row_update(led->db, &hga_table_op, &x->row, err);
	if (r == 0)
		r = hga_led_add_event(led, hga_str(x->op), "live",
		                      HGA_STR("found"), err);
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
	if (x->row.c[HGA_COL_OP].n > 0) {
		memcpy(old, x->op, sizeof(old));
		in.parent = hga_str(old);
		in.op = hga_strn("", 0);
		hga_row_clear(&x->row);
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
		r = hga_cell_set_opt(&x->row.c[HGA_COL_ID], x->id, err);
	if (r < 0)
		return r;
	hga_cell_set_int(&x->row.c[HGA_COL_ADOPTED], 1);
	hga_cell_set_num(&x->row.c[HGA_COL_T_LIVE], hga_led_now());
	hga_cell_set_num(&x->row.c[HGA_COL_T_SEEN], hga_led_now());
	return tx_insert(led, &x->row, err);
}

int hga_ledger_adopt(struct hga_ledger *led, const struct hga_ledger_intent *in,
                     struct hga_str id, char op_out[HGA_OP_ID],
                     struct hga_err *err)
{
	struct hga_err own = {.kind = HGA_OK};
	struct adopt_tx x;
	int r;

	err = err ? err : &own;
	memset(&x, 0, sizeof(x));
	x.in = in;
	x.id = id;
	r = hga_led_transact(led, tx_adopt, &x, true, err);
	if (r == 0)
		r = hga_led_mem_keep(led, &x.row, err);
	if (r == 0 && op_out != NULL)
		memcpy(op_out, x.row.c[HGA_COL_OP].s, HGA_OP_ID);
	hga_row_clear(&x.row);
	return r;
}
