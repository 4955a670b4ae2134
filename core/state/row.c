/* Rows, checksums and the SQL for them; reliability.md section 2.3. */
#include "state/row.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

/* ---- tables ---- */

const struct hga_table hga_table_meta = {"meta", "k,v", 2};
const struct hga_table hga_table_place = {
    "place", "place,partition,account,region,endpoint", 5};
const struct hga_table hga_table_run = {"run", "run,task,t_start,t_end", 4};
const struct hga_table hga_table_op = {
    "op",
    "op,run,parent,kind,cls,state,place,name,token,id,req,t_intent,t_sent,"
    "t_live,t_seen,t_state,expires,keep_until,recheck,adopted,detail,error",
    HGA_ROW_COLS};
const struct hga_table hga_table_event = {"event", "n,t,op,state,note", 5};

const char hga_ledger_schema[] =
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

void hga_cell_clear(struct hga_cell *c)
{
	hga_free(c->s);
	memset(c, 0, sizeof(*c)); /* type NULL */
}

void hga_row_clear(struct hga_row *row)
{
	for (int i = 0; i < HGA_ROW_COLS; i++)
		hga_cell_clear(&row->c[i]);
}

int hga_cell_set_text(struct hga_cell *c, struct hga_str s, struct hga_err *err)
{
	char *copy = hga_memdup0(s.s, s.n);

	if (copy == NULL)
		return hga_fail_mem(err);
	hga_cell_clear(c);
	c->type = HGA_DB_TEXT;
	c->s = copy;
	c->n = s.n;
	return 0;
}

/* Empty text is NULL in the row. */
int hga_cell_set_opt(struct hga_cell *c, struct hga_str s, struct hga_err *err)
{
	return s.n == 0 ? 0 : hga_cell_set_text(c, s, err);
}

void hga_cell_set_int(struct hga_cell *c, int64_t v)
{
	hga_cell_clear(c);
	c->type = HGA_DB_INT;
	c->i = v;
}

void hga_cell_set_num(struct hga_cell *c, double v)
{
	hga_cell_clear(c);
	c->type = HGA_DB_NUM;
	c->d = v;
}

struct hga_str hga_cell_str(const struct hga_cell *c)
{
	return c->type == HGA_DB_TEXT ? hga_strn(c->s, c->n) : hga_strn("", 0);
}

double hga_cell_num(const struct hga_cell *c)
{
	return c->type == HGA_DB_NUM ? c->d : 0;
}

int hga_row_copy(struct hga_row *to, const struct hga_row *from,
                 struct hga_err *err)
{
	struct hga_row tmp;
	int r = 0;

	memset(&tmp, 0, sizeof(tmp));
	for (int i = 0; i < HGA_ROW_COLS && r == 0; i++) {
		const struct hga_cell *c = &from->c[i];

		if (c->type == HGA_DB_TEXT) {
			r = hga_cell_set_text(&tmp.c[i], hga_cell_str(c), err);
		} else {
			tmp.c[i] = *c;
		}
	}
	if (r < 0) {
		hga_row_clear(&tmp);
		return r;
	}
	hga_row_clear(to);
	*to = tmp;
	return 0;
}

/* printf's %.17g, whatever the locale. */
int hga_num_exact(char out[40], double v)
{
	locale_t old = uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));
	int n = snprintf(out, 40, "%.17g", v);

	(void)uselocale(old);
	return n;
}

/* CRC-32C over the cells: integers decimal, reals %.17g, text raw, NULL a
 * zero byte; 0x1f behind each. */
static uint32_t row_crc(const struct hga_row *row, int n)
{
	uint32_t crc = 0;
	char tmp[40];

	for (int i = 0; i < n; i++) {
		const struct hga_cell *c = &row->c[i];
		int len;

		switch (c->type) {
		case HGA_DB_NULL:
			crc = hga_crc32c(crc, "", 1);
			break;
		case HGA_DB_INT:
			len =
			    snprintf(tmp, sizeof(tmp), "%lld", (long long)c->i);
			crc = hga_crc32c(crc, tmp, (size_t)len);
			break;
		case HGA_DB_NUM:
			len = hga_num_exact(tmp, c->d);
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
int hga_row_read(const struct hga_table *t, struct hga_stmt *st,
                 struct hga_row *row, struct hga_err *err)
{
	int r = 0;

	hga_row_clear(row);
	for (int i = 0; i < t->n && r == 0; i++) {
		switch (hga_stmt_type(st, i)) {
		case HGA_DB_NULL:
			break;
		case HGA_DB_INT:
			hga_cell_set_int(&row->c[i], hga_stmt_get_int(st, i));
			break;
		case HGA_DB_NUM:
			hga_cell_set_num(&row->c[i], hga_stmt_get_num(st, i));
			break;
		case HGA_DB_TEXT:
		case HGA_DB_BLOB:
			r = hga_cell_set_text(&row->c[i],
			                      hga_stmt_get_str(st, i), err);
			break;
		}
	}
	if (r == 0 && hga_stmt_get_int(st, t->n) != (int64_t)row_crc(row, t->n))
		r = hga_fail(err, HGA_IO, 0, "Damaged",
		             "a row of table %s has a wrong checksum", t->name);
	return r;
}

static void bind_row(struct hga_stmt *st, const struct hga_row *row, int n)
{
	for (int i = 0; i < n; i++) {
		const struct hga_cell *c = &row->c[i];

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
			hga_stmt_text(st, i + 1, hga_cell_str(c));
			break;
		}
	}
	hga_stmt_int(st, n + 1, row_crc(row, n));
}

static int run_sql(struct hga_db *db, const char *sql,
                   const struct hga_row *row, int n, struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	int r = hga_stmt_new(db, sql, &st, err);

	if (r < 0)
		return r;
	bind_row(st, row, n);
	r = hga_stmt_step(st, err);
	hga_stmt_free(st);
	return r < 0 ? r : 0;
}

/* A mark for each column of the widest table and its crc; a table uses the
 * first MARKS characters. */
static const char marks[] = "?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?";
#define MARKS(t) (2 * (t)->n + 1)
_Static_assert(sizeof(marks) == 2 * HGA_ROW_COLS + 2, "one mark a column");

/* verb: "INSERT" or "INSERT OR REPLACE". */
int hga_row_insert(struct hga_db *db, const struct hga_table *t,
                   const char *verb, const struct hga_row *row,
                   struct hga_err *err)
{
	struct hga_buf sql;
	int r;

	hga_buf_init(&sql, 4096);
	r = hga_buf_addf(&sql, err, "%s INTO %s(%s,crc) VALUES(%.*s)", verb,
	                 t->name, t->cols, MARKS(t), marks);
	if (r == 0)
		r = run_sql(db, sql.data, row, t->n, err);
	hga_buf_release(&sql);
	return r;
}

/* Rewrites the row with the same key (its place in the order stays). */
int hga_row_update(struct hga_db *db, const struct hga_table *t,
                   const struct hga_row *row, struct hga_err *err)
{
	struct hga_buf sql;
	size_t key = strcspn(t->cols, ",");
	int r;

	hga_buf_init(&sql, 4096);
	r = hga_buf_addf(&sql, err,
	                 "UPDATE %s SET (%s,crc)=(%.*s) WHERE %.*s=?1", t->name,
	                 t->cols, MARKS(t), marks, (int)key, t->cols);
	if (r == 0)
		r = run_sql(db, sql.data, row, t->n, err);
	hga_buf_release(&sql);
	return r;
}

/* "SELECT <columns> FROM <table> <tail>" */
int hga_row_select(struct hga_db *db, const struct hga_table *t,
                   const char *tail, struct hga_stmt **st, struct hga_err *err)
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
int hga_row_find(struct hga_db *db, const struct hga_table *t,
                 const char *where, struct hga_str key, struct hga_row *row,
                 struct hga_err *err)
{
	struct hga_stmt *st = NULL;
	int r = hga_row_select(db, t, where, &st, err);

	if (r < 0)
		return r;
	hga_stmt_text(st, 1, key);
	r = hga_stmt_step(st, err);
	if (r > 0) {
		r = hga_row_read(t, st, row, err);
		r = r < 0 ? r : 1;
	}
	hga_stmt_free(st);
	return r;
}
