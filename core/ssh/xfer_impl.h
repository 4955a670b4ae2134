/*
 * Inside of a transfer (xfer.c, xfer_put.c, xfer_get.c, lane.c).
 *
 * A job moves its blocks in order of j->next over its own engine.  Lanes are
 * helpers on further engines (channels of the same session for put, another
 * session for get): each opens the same remote file and takes blocks from
 * j->next, too.  A lane that cannot start goes away silently; one that fails
 * with blocks on their way fails the job.  The job ends after its lanes.
 */
#ifndef HGA_SSH_XFER_IMPL_H
#define HGA_SSH_XFER_IMPL_H

#include "ssh/sftp_impl.h"

struct hga_sftp_lane {
	struct hga_sftp_user user;
	struct hga_sftp *f;
	struct hga_sftp_job *job; /* NULL: ended before its lane */
	struct hga_sftp_lane *next;
	struct hga_ssh *ssh; /* get: the other session, held */
	bool own_engine;     /* made for this lane, goes with it */
	bool begun, have_handle, closing;
	unsigned out;
	struct hga_buf handle;
};

/* ---- ends (xfer.c) ---- */

/* The first error stays; what was made is removed before the end. */
void hga_job_fail(struct hga_sftp_job *j, const struct hga_err *err);
void hga_job_fail_status(struct hga_sftp_job *j,
                         const struct hga_sftp_reply *r);
void hga_job_fail_text(struct hga_sftp_job *j, enum hga_kind kind, int sys,
                       const char *code, const char *text);
void hga_job_fail_local(struct hga_sftp_job *j, int sys, const char *doing);
void hga_job_fail_short(struct hga_sftp_job *j, uint64_t got);
/* One step of cleaning up, when nothing is on its way. */
void hga_job_clean(struct hga_sftp_job *j);
/* Every reply passes here: false when the job only waits for its end. */
bool hga_job_live(struct hga_sftp_job *j);
void hga_job_over(struct hga_sftp_job *j);
void hga_job_hash_end(struct hga_sftp_job *j);
/* Name of the part when it must be found again: from key and the name. */
int hga_job_resume_name(struct hga_sftp_job *j, uint64_t size, uint64_t time,
                        struct hga_err *err) HGA_MUST_USE;
/* Where to go on in a part of that size: a little before its end. */
uint64_t hga_job_resume_at(const struct hga_sftp_job *j, uint64_t part);

/* ---- halves ---- */

void hga_job_begin_put(struct hga_sftp_job *j);
bool hga_job_produce_put(struct hga_sftp_job *j);
void hga_job_begin_get(struct hga_sftp_job *j);
bool hga_job_produce_get(struct hga_sftp_job *j);

/* Builds the next write for that engine and handle; 0: not possible (the job
 * has failed or memory), else the bytes that are on their way now. */
uint32_t hga_job_put_block(struct hga_sftp_job *j, struct hga_sftp *f,
                           struct hga_str handle, hga_sftp_fn fn, void *ctx);
/* Judges the answer to a write. */
void hga_job_put_answer(struct hga_sftp_job *j, const struct hga_sftp_reply *r);
/* Stores a DATA reply; bytes that are still missing of it, -1: failed. */
int64_t hga_job_get_answer(struct hga_sftp_job *j, struct hga_sftp *f,
                           const struct hga_sftp_reply *r);
/* Ends the get if all has come. */
void hga_job_get_step(struct hga_sftp_job *j);
/* The last lane is gone: the job may go on to its end. */
void hga_job_alone(struct hga_sftp_job *j);

/* ---- lanes (lane.c) ---- */

/* Adds what the size and the line deserve: put, j is moving data. */
void hga_lane_add_channels(struct hga_sftp_job *j);
/* No block is left, or the job has failed: lanes end. */
void hga_lane_wind_up(struct hga_sftp_job *j);
/* The job goes: its lanes end alone. */
void hga_lane_orphan(struct hga_sftp_job *j);

#endif
