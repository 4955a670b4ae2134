/*
 * The ledger: every resource we create, written down before it is asked for.
 *
 * reliability.md section 2.  Each change is one durable transaction: when a
 * function returned 0 the change survives power loss.  A failed write
 * poisons the ledger of this process: the failing call returns -HGA_IO,
 * later intents are refused with "LedgerFailed", later changes are kept in
 * memory only and return 0 (cleaning up must go on), look-ups show them.
 * An illegal change of state is -HGA_BUG "LedgerState", the row unchanged.
 * Blocks for milliseconds (a lock file, fsync).  Loop thread only.
 */
#ifndef HGA_STATE_LEDGER_H
#define HGA_STATE_LEDGER_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hga_ledger; /* opaque */
struct hga_state;

#define HGA_OP_ID 33 /* 32 hex digits and NUL */

enum hga_ledger_state {
	HGA_LEDGER_NONE = 0,
	HGA_LEDGER_INTENT,
	HGA_LEDGER_UNKNOWN,
	HGA_LEDGER_LIVE,
	HGA_LEDGER_KEPT,
	HGA_LEDGER_DELETING,
	HGA_LEDGER_GONE,
	HGA_LEDGER_ABSENT
};

const char *hga_ledger_state_name(enum hga_ledger_state s);
/* NONE when there is no such state. */
enum hga_ledger_state hga_ledger_state_find(struct hga_str name);

/*
 * Opens or creates STATE/ledger.db, checks header, application id, version,
 * integrity and the checksums of all open rows.  A damaged file is set aside
 * (ledger.bad-<UTC>/) and a new one filled with the rows that can still be
 * read and those of ledger.bak; open ones become unknown; one line in the
 * log tells.  One written by a newer program opens read-only: changes are
 * -HGA_USAGE "LedgerNewer".
 */
int hga_ledger_open(const struct hga_state *st, struct hga_ledger **out,
                    struct hga_err *err) HGA_MUST_USE;
/* Checkpoints and closes; NULL is allowed. */
void hga_ledger_close(struct hga_ledger *led);
/* A write failed in this process. */
bool hga_ledger_poisoned(const struct hga_ledger *led);

struct hga_ledger_place {
	struct hga_str partition, account, region;
	struct hga_str endpoint; /* "" = AWS itself */
};
/* Number of that place, recorded if new. */
int hga_ledger_place(struct hga_ledger *led, const struct hga_ledger_place *p,
                     int64_t *place, struct hga_err *err) HGA_MUST_USE;

/*
 * Records the start of a run.  lock_fd is its lock file (-1: none), checked
 * before each of its intents: removed -> -HGA_IO "RunLost".  It stays the
 * caller's and must outlive the run's end.
 */
int hga_ledger_run_begin(struct hga_ledger *led, struct hga_str run,
                         struct hga_str task, int lock_fd,
                         struct hga_err *err) HGA_MUST_USE;
int hga_ledger_run_end(struct hga_ledger *led, struct hga_str run,
                       struct hga_err *err) HGA_MUST_USE;

/* What is recorded before a creating request leaves.  Views; empty = NULL in
 * the row.  op: 32 hex (hga_token). */
struct hga_ledger_intent {
	struct hga_str op, run;
	struct hga_str parent; /* op or empty */
	struct hga_str kind;   /* "instance", "group", "keypair", ... */
	struct hga_str cls;    /* "ephemeral" (default) or "durable" */
	int64_t place;
	struct hga_str name;   /* AWS name, if it has one */
	struct hga_str token;  /* ClientToken, if any */
	struct hga_str req;    /* hex SHA-256 of the request */
	double expires;        /* epoch seconds, 0 = none */
	struct hga_str detail; /* JSON, at most 4 KiB */
};

/*
 * Writes the intent.  Only when it returns 0 may the request be sent.
 * -HGA_IO also with less than 8 MiB free ("DiskFull"); nothing was recorded
 * then (or at most a may-exist row).
 */
int hga_ledger_intent(struct hga_ledger *led,
                      const struct hga_ledger_intent *in,
                      struct hga_err *err) HGA_MUST_USE;
/* t_sent = now, before an attempt that leaves later than 60 s after the last
 * t_sent. */
int hga_ledger_sent(struct hga_ledger *led, struct hga_str op,
                    struct hga_err *err) HGA_MUST_USE;

/* A resource that came along with another one's creation. */
struct hga_ledger_child {
	struct hga_str kind, id;
	struct hga_str name;   /* or empty */
	struct hga_str cls;    /* empty: the parent's */
	struct hga_str detail; /* JSON or empty */
};

/* What changes besides the state; zeroed fields stay as they are. */
struct hga_ledger_change {
	struct hga_str id;
	struct hga_str error; /* cut to 300 bytes, redacted here */
	struct hga_str detail;
	struct hga_str name;
	double expires, keep_until, recheck, t_seen;
	bool no_recheck;                         /* recheck becomes NULL */
	const struct hga_ledger_child *children; /* recorded live with it */
	size_t n_children;
};

/*
 * Changes a row's state in one transaction; c may be NULL.  The same state
 * again is allowed (fields are updated).  gone/absent -> live needs a due
 * recheck (c->id given).  Unknown op: -HGA_NOTFOUND.
 */
int hga_ledger_set(struct hga_ledger *led, struct hga_str op,
                   enum hga_ledger_state state,
                   const struct hga_ledger_change *c,
                   struct hga_err *err) HGA_MUST_USE;

/* Records a child as live, as part of parent (an op); its op goes to op_out
 * (may be NULL).  A child with the same kind and id is recorded once. */
int hga_ledger_child(struct hga_ledger *led, struct hga_str parent,
                     const struct hga_ledger_child *c, char op_out[HGA_OP_ID],
                     struct hga_err *err) HGA_MUST_USE;

/*
 * Records a resource found by tag or name as live (adopted = 1).  A known op
 * (in->op, or one with that kind and id) in intent or unknown becomes live
 * with that id; an open one in another state is left alone; a final one gets
 * a new op as its child.  in->op empty: a new one is made.
 */
int hga_ledger_adopt(struct hga_ledger *led, const struct hga_ledger_intent *in,
                     struct hga_str id, char op_out[HGA_OP_ID],
                     struct hga_err *err) HGA_MUST_USE;

/*
 * A run that goes on where another one ended takes over one of its resources
 * and what came along with it; a kept one is live again, in one transaction.
 * The caller holds the other run's lock.  -HGA_USAGE when op is no live or
 * kept entry of the run `from`.
 */
int hga_ledger_take(struct hga_ledger *led, struct hga_str op,
                    struct hga_str from, struct hga_str to,
                    struct hga_err *err) HGA_MUST_USE;

/* A row as read; views are valid during the call; NULL = empty or 0. */
struct hga_ledger_row {
	struct hga_str op, run, parent, kind, cls;
	enum hga_ledger_state state;
	int64_t place;
	struct hga_str partition, account, region, endpoint; /* of the place */
	struct hga_str name, token, id, req;
	double t_intent, t_sent, t_live, t_seen, t_state;
	double expires, keep_until, recheck;
	bool adopted;
	struct hga_str detail, error;
};

/* Filters; empty = any. */
struct hga_ledger_filter {
	struct hga_str run, kind, op, parent;
	unsigned states;  /* bits 1u << enum hga_ledger_state; 0 = any */
	int64_t place;    /* 0 = any */
	bool recheck_due; /* only rows whose recheck has passed */
};
#define HGA_LEDGER_OPEN                                                        \
	(1u << HGA_LEDGER_INTENT | 1u << HGA_LEDGER_UNKNOWN |                  \
	 1u << HGA_LEDGER_LIVE | 1u << HGA_LEDGER_KEPT |                       \
	 1u << HGA_LEDGER_DELETING)

/* Takes one row; < 0 stops the listing with that result. */
typedef int (*hga_ledger_fn)(void *data, const struct hga_ledger_row *row,
                             struct hga_err *err);

/* Rows in order of creation.  A row with a wrong checksum ends the listing
 * with -HGA_IO "Damaged".  fn must not call the ledger. */
int hga_ledger_list(struct hga_ledger *led, const struct hga_ledger_filter *f,
                    hga_ledger_fn fn, void *data,
                    struct hga_err *err) HGA_MUST_USE;

/* Open ephemeral rows of a run that were not kept on request (all runs: run
 * empty): what exit code 6 counts.  < 0 on error. */
int64_t hga_ledger_open_count(struct hga_ledger *led, struct hga_str run,
                              struct hga_err *err) HGA_MUST_USE;

/* Adds an event without an op's change ("not tracked" warnings). */
int hga_ledger_event(struct hga_ledger *led, struct hga_str op,
                     struct hga_str note, struct hga_err *err) HGA_MUST_USE;

/* Drops all rows of an endpoint (a wiped local cloud): they become gone.
 * *n (may be NULL) counts them. */
int hga_ledger_forget(struct hga_ledger *led, struct hga_str endpoint,
                      int64_t *n, struct hga_err *err) HGA_MUST_USE;

/* Drops one entry after a person said so: it becomes gone, whatever it was.
 * -HGA_USAGE when there is none. */
int hga_ledger_forget_op(struct hga_ledger *led, struct hga_str op,
                         struct hga_err *err) HGA_MUST_USE;

struct hga_ledger_counts {
	int64_t ops;  /* entries */
	int64_t open; /* of them not gone or absent */
	int64_t bad;  /* of them with a wrong checksum */
};
/* The file's integrity (-HGA_IO "Damaged") and every entry's checksum. */
int hga_ledger_check(struct hga_ledger *led, struct hga_ledger_counts *n,
                     struct hga_err *err) HGA_MUST_USE;
/* What is done with a damaged file, on request; open entries are unknown
 * then. */
int hga_ledger_rebuild(struct hga_ledger *led,
                       struct hga_err *err) HGA_MUST_USE;

#endif
