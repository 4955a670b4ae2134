/*
 * Rows of the ledger's tables as arrays of cells in declared order, so that
 * reading, checksum, writing and copies are one piece of code for all tables.
 *
 * Each row carries crc: CRC-32C over its other columns (integers decimal,
 * reals %.17g, text raw, NULL a zero byte, 0x1f behind each), verified
 * whenever a row is read.  A zeroed row is empty (all NULL); it owns its
 * texts.  Used inside core/state only.
 */
#ifndef HGA_STATE_ROW_H
#define HGA_STATE_ROW_H

#include "base/err.h"
#include "base/str.h"
#include "state/db.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HGA_ROW_COLS 22 /* of the widest table */

struct hga_table {
	const char *name, *cols; /* columns without crc, the key first */
	int n;
};

extern const struct hga_table hga_table_meta, hga_table_place, hga_table_run,
    hga_table_op, hga_table_event;

/* Columns of op. */
enum hga_col {
	HGA_COL_OP,
	HGA_COL_RUN,
	HGA_COL_PARENT,
	HGA_COL_KIND,
	HGA_COL_CLS,
	HGA_COL_STATE,
	HGA_COL_PLACE,
	HGA_COL_NAME,
	HGA_COL_TOKEN,
	HGA_COL_ID,
	HGA_COL_REQ,
	HGA_COL_T_INTENT,
	HGA_COL_T_SENT,
	HGA_COL_T_LIVE,
	HGA_COL_T_SEEN,
	HGA_COL_T_STATE,
	HGA_COL_EXPIRES,
	HGA_COL_KEEP_UNTIL,
	HGA_COL_RECHECK,
	HGA_COL_ADOPTED,
	HGA_COL_DETAIL,
	HGA_COL_ERROR
};

/* SQL that makes all tables of schema 1. */
extern const char hga_ledger_schema[];

struct hga_cell {
	enum hga_db_type type;
	int64_t i;
	double d;
	char *s; /* TEXT: owned */
	size_t n;
};

struct hga_row {
	struct hga_cell c[HGA_ROW_COLS];
};

/* Becomes NULL. */
void hga_cell_clear(struct hga_cell *c);
int hga_cell_set_text(struct hga_cell *c, struct hga_str s,
                      struct hga_err *err) HGA_MUST_USE;
/* As set_text; an empty text leaves the cell as it is. */
int hga_cell_set_opt(struct hga_cell *c, struct hga_str s,
                     struct hga_err *err) HGA_MUST_USE;
void hga_cell_set_int(struct hga_cell *c, int64_t v);
void hga_cell_set_num(struct hga_cell *c, double v);
/* Text, empty for other types; real, 0 for other types. */
struct hga_str hga_cell_str(const struct hga_cell *c);
double hga_cell_num(const struct hga_cell *c);

void hga_row_clear(struct hga_row *row);
/* *to is replaced; unchanged on failure. */
int hga_row_copy(struct hga_row *to, const struct hga_row *from,
                 struct hga_err *err) HGA_MUST_USE;

/* Reads the current row of a statement made by hga_row_select; a wrong
 * checksum is -HGA_IO "Damaged". */
int hga_row_read(const struct hga_table *t, struct hga_stmt *st,
                 struct hga_row *row, struct hga_err *err) HGA_MUST_USE;
/* verb: "INSERT", "INSERT OR IGNORE", "INSERT OR REPLACE". */
int hga_row_insert(struct hga_db *db, const struct hga_table *t,
                   const char *verb, const struct hga_row *row,
                   struct hga_err *err) HGA_MUST_USE;
/* Rewrites the row with the same key; its place in the order stays. */
int hga_row_update(struct hga_db *db, const struct hga_table *t,
                   const struct hga_row *row, struct hga_err *err) HGA_MUST_USE;
/* "SELECT <columns> FROM <table> <tail>". */
int hga_row_select(struct hga_db *db, const struct hga_table *t,
                   const char *tail, struct hga_stmt **st,
                   struct hga_err *err) HGA_MUST_USE;
/* 1 and the row for "WHERE ...?1", 0 when there is none. */
int hga_row_find(struct hga_db *db, const struct hga_table *t,
                 const char *where, struct hga_str key, struct hga_row *row,
                 struct hga_err *err) HGA_MUST_USE;

/* printf's %.17g, whatever the locale; returns the length. */
int hga_num_exact(char out[40], double v);

#endif
