/*
 * Inside of the ledger, shared by the files ledger*.c and salvage.c.
 *
 * Every write goes through hga_led_transact.  Rows that this process wrote
 * are kept in memory too, so that cleaning up can go on when the file fails.
 */
#ifndef HGA_STATE_LEDGER_IMPL_H
#define HGA_STATE_LEDGER_IMPL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "state/db.h"
#include "state/ledger.h"
#include "state/row.h"

#include <stdbool.h>
#include <sys/types.h>

#define HGA_LED_APP_ID 0x48474c31u
#define HGA_LED_DETAIL_MAX 4096
#define HGA_LED_ERROR_MAX 300
#define HGA_LED_TEXT_MAX 2048

#define HGA_LED_BUCKETS 256

struct hga_led_op { /* a row this process wrote */
	struct hga_row row;
	struct hga_led_op *next; /* in order of their coming */
	struct hga_led_op *peer; /* in its bucket */
};

struct hga_led_place {
	struct hga_row row;
	struct hga_led_place *next;
};

struct hga_led_run {
	struct hga_row row;
	int lock_fd;
	struct hga_led_run *next;
};

struct hga_ledger {
	char *dir;  /* the state directory */
	char *path; /* ledger.db */
	char *lock; /* ledger.lock */
	char *reserve;
	char sid[16];
	struct hga_db *db;
	int wal_pages; /* more make a checkpoint */
	dev_t dev;
	ino_t ino;
	bool poisoned;
	bool created; /* ledger.db did not exist */
	int newer;    /* schema of a newer program: read-only */
	struct hga_led_op *ops, *last_op; /* but those recorded as gone */
	struct hga_led_op *by_op[HGA_LED_BUCKETS];
	struct hga_led_place *places;
	struct hga_led_run *runs;
};

/* Wall clock in seconds. */
double hga_led_now(void);

/* A row of ours in memory, or NULL. */
struct hga_led_op *hga_led_mem_find(struct hga_ledger *led, struct hga_str op);
/* Keeps a copy of a row of ours. */
int hga_led_mem_keep(struct hga_ledger *led, const struct hga_row *row,
                     struct hga_err *err) HGA_MUST_USE;
/* Forgets it. */
void hga_led_mem_drop(struct hga_ledger *led, struct hga_str op);

/* Opens or makes ledger.db and checks it; the caller holds ledger.lock. */
int hga_led_open_db(struct hga_ledger *led, struct hga_err *err) HGA_MUST_USE;
/* The descriptor of ledger.lock, locked (close unlocks), or < 0. */
int hga_led_take_lock(const struct hga_ledger *led,
                      struct hga_err *err) HGA_MUST_USE;
/* The error says that the file is damaged. */
bool hga_led_damaged(int r, const struct hga_err *err);
/* "DIR/NAME", NULL without memory. */
char *hga_led_join(const char *dir, const char *name);

/* Statements of one transaction; < 0 rolls back. */
typedef int (*hga_led_tx)(struct hga_ledger *led, void *data,
                          struct hga_err *err);
/*
 * One durable transaction.  fn's own refusals (usage, bug, exists) leave the
 * ledger in order; a failing file poisons it.  use_reserve: on a full disk
 * give up ledger.reserve and try again.  err must not be NULL.
 */
int hga_led_transact(struct hga_ledger *led, hga_led_tx fn, void *data,
                     bool use_reserve, struct hga_err *err) HGA_MUST_USE;
/* Fills err: the ledger failed before. */
int hga_led_failed(struct hga_err *err);

/* A run that was begun here, or NULL. */
struct hga_led_run *hga_led_find_run(const struct hga_ledger *led,
                                     struct hga_str run);
/* The record of place n, from memory or the file; NULL: no such place or
 * (err filled) a failure. */
struct hga_led_place *hga_led_find_place(struct hga_ledger *led, int64_t n,
                                         struct hga_err *err);
/* Adds an event; inside a transaction. */
int hga_led_add_event(struct hga_ledger *led, struct hga_str op,
                      const char *state, struct hga_str note,
                      struct hga_err *err) HGA_MUST_USE;
/* Appends text without secrets, at most max bytes, whole characters. */
int hga_led_safe_text(struct hga_str s, size_t max, struct hga_buf *out,
                      struct hga_err *err) HGA_MUST_USE;
/* Applies a change to a row without asking whether it is allowed. */
int hga_led_apply(struct hga_row *row, enum hga_ledger_state to,
                  const struct hga_ledger_change *c,
                  struct hga_err *err) HGA_MUST_USE;

/* Sets the damaged ledger.db aside, opens a new one and fills it with what
 * can be read of it and of ledger.bak; under ledger.lock. */
int hga_led_salvage(struct hga_ledger *led, struct hga_err *err) HGA_MUST_USE;
/* Fills a new ledger.db from ledger.bak, if there is one. */
void hga_led_restore(struct hga_ledger *led);

#endif
