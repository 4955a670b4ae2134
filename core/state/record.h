/*
 * The state directory and its runs.
 *
 * Opening checks owner, mode and file system (reliability.md section 2.1):
 * another owner and network file systems are -HGA_AUTH ("Owner",
 * "Filesystem"); an open mode of a directory of ours is tightened to 0700.
 * A run is a directory runs/ID with a file `lock` held by flock for the life
 * of the process: that lock, and nothing else, tells whether a run lives.
 */
#ifndef HGA_STATE_RECORD_H
#define HGA_STATE_RECORD_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

#define HGA_RUN_ID 24 /* "YYYYMMDD-HHMM-xxxx" and NUL */

struct hga_state; /* opaque */

/* create: make a missing directory, else it is -HGA_NOTFOUND. */
int hga_state_open(const char *dir, bool create, struct hga_state **out,
                   struct hga_err *err) HGA_MUST_USE;
void hga_state_free(struct hga_state *st);
/* Resolved path. */
const char *hga_state_path(const struct hga_state *st);
/* 12 hex digits, this directory's identity. */
const char *hga_state_sid(const struct hga_state *st);
/* The mode was open and has been tightened just now (worth a line). */
bool hga_state_tightened(const struct hga_state *st);
/* Appends "PATH/NAME" after making sure that the directories of NAME exist
 * (0700); NAME is relative, of safe components. */
int hga_state_file(const struct hga_state *st, const char *name,
                   struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

struct hga_run; /* opaque: a run of this process */

/* Makes runs/ID, creates and locks its lock file, syncs the directory. */
int hga_run_new(const struct hga_state *st, struct hga_run **out,
                struct hga_err *err) HGA_MUST_USE;
/* Gives up the lock (the run ends); files stay. */
void hga_run_free(struct hga_run *run);
const char *hga_run_id(const struct hga_run *run);
const char *hga_run_dir(const struct hga_run *run);
int hga_run_lock_fd(const struct hga_run *run);
/* The lock file was removed under us: no further resources may be made. */
bool hga_run_lost(const struct hga_run *run);

/* The syntax of a run's ID. */
bool hga_run_id_ok(struct hga_str id);
/* 1 alive, 0 dead or missing, < 0 error. */
int hga_run_alive(const struct hga_state *st, const char *id,
                  struct hga_err *err) HGA_MUST_USE;
/* Takes a dead run's lock: a descriptor (close unlocks); -HGA_EXISTS
 * "Locked" while it lives.  A missing directory is made (the ledger may know
 * a run whose files are gone). */
int hga_run_take(const struct hga_state *st, const char *id,
                 struct hga_err *err) HGA_MUST_USE;
/* Appends the IDs of all run directories, sorted, each ended by NUL. */
int hga_run_list(const struct hga_state *st, struct hga_buf *out,
                 struct hga_err *err) HGA_MUST_USE;

#endif
