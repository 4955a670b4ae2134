/*
 * Lanes: one file over several channels.  An OpenSSH server gives 2 MiB of
 * window per channel and its client's reads pass one socket: over 80 ms one
 * channel moves no more than 25 MB a second, whatever the line can carry.
 */
#include "ssh/xfer_impl.h"

#include "base/mem.h"

#include <string.h>

#define LANE_MIN (8 * 1024 * 1024)   /* bytes left that are worth a lane */
#define LANE_AUTO (64 * 1024 * 1024) /* size that is worth it unasked */
#define CHANNELS_AUTO 4
#define PUT_OUT (2 * 1024 * 1024)

static void lane_step(struct hga_sftp_lane *l);

/* ---- end ---- */

static void lane_free(struct hga_sftp_lane *l)
{
	if (l->ssh != NULL)
		hga_ssh_unref(l->ssh);
	hga_buf_release(&l->handle);
	hga_free(l);
}

static void leave_job(struct hga_sftp_lane *l)
{
	struct hga_sftp_job *j = l->job;
	struct hga_sftp_lane **at;

	l->job = NULL;
	if (j == NULL)
		return;
	for (at = &j->lanes; *at != l; at = &(*at)->next)
		;
	*at = l->next;
	if (j->lanes == NULL)
		hga_job_alone(j);
}

/* Gone from its engine, which nobody else uses if it is the lane's own. */
static void lane_end(struct hga_sftp_lane *l)
{
	struct hga_sftp *f = l->f;
	bool own = l->own_engine;

	leave_job(l);
	lane_free(l);
	if (own)
		hga_sftp_retire(f);
}

static void on_finish(struct hga_sftp *f, struct hga_sftp_user *u)
{
	(void)f; /* known to the lane */
	lane_end((struct hga_sftp_lane *)u);
}

static void on_fail(struct hga_sftp *f, struct hga_sftp_user *u,
                    const struct hga_err *err)
{
	struct hga_sftp_lane *l = (struct hga_sftp_lane *)u;
	struct hga_sftp_job *j = l->job;

	(void)f; /* about to go by itself */
	if (j != NULL && l->out > 0 && l->have_handle)
		hga_job_fail(j, err);
	leave_job(l);
	lane_free(l);
}

static void on_closed(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_lane *l = ctx;

	l->out--;
	/* A server may tell of a full disk only here. */
	if (l->job != NULL && l->job->put && !hga_sftp_is_ok(f, r))
		hga_job_fail_status(l->job, r);
	hga_sftp_over(f, &l->user);
}

static bool has_blocks(const struct hga_sftp_lane *l)
{
	const struct hga_sftp_job *j = l->job;

	return j != NULL && j->state == JOB_MOVE && j->next < j->size;
}

/* Nothing on its way and nothing to do: close. */
static void lane_step(struct hga_sftp_lane *l)
{
	if (l->out > 0 || l->closing || !l->begun || has_blocks(l))
		return;
	l->closing = true;
	if (!l->have_handle) {
		hga_sftp_over(l->f, &l->user);
		return;
	}
	l->out++;
	hga_sftp_ask_handle(l->f, SFTP_CLOSE, hga_buf_str(&l->handle),
	                    on_closed, l);
}

void hga_lane_wind_up(struct hga_sftp_job *j)
{
	struct hga_sftp_lane *l = j->lanes, *next;

	for (; l != NULL; l = next) {
		next = l->next;
		if (l->begun) {
			lane_step(l);
			continue;
		}
		/* Its channel may wait for ever: go now. */
		hga_sftp_unlink(l->f, &l->user);
		lane_end(l);
	}
}

void hga_lane_orphan(struct hga_sftp_job *j)
{
	while (j->lanes != NULL) {
		struct hga_sftp_lane *l = j->lanes;

		j->lanes = l->next;
		l->job = NULL;
		if (l->begun) {
			lane_step(l);
			continue;
		}
		hga_sftp_unlink(l->f, &l->user);
		lane_end(l);
	}
}

/* ---- data ---- */

static void on_written(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_lane *l = ctx;

	f->write_out -= r->len;
	l->out--;
	if (l->job != NULL)
		hga_job_put_answer(l->job, r);
	lane_step(l);
}

static void on_read(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r);

static void ask_read(struct hga_sftp_lane *l, uint64_t off, uint32_t n)
{
	struct hga_sftp *f = l->f;

	hga_sftp_put_begin(f, SFTP_READ, on_read, l, off, n);
	hga_sftp_put_str(f, hga_buf_str(&l->handle));
	hga_sftp_put_u64(f, off);
	hga_sftp_put_u32(f, n);
	hga_sftp_put_send(f);
	l->out++;
	f->read_out += n;
}

static void on_read(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r)
{
	struct hga_sftp_lane *l = ctx;
	struct hga_sftp_job *j = l->job;
	int64_t left;

	f->read_out -= r->len;
	l->out--;
	if (j == NULL || j->state != JOB_MOVE) {
		lane_step(l);
		return;
	}
	if (r->type == SFTP_STATUS && r->status == FX_EOF) {
		hga_job_fail_short(j, j->moved);
	} else if (r->type == SFTP_STATUS) {
		hga_job_fail_status(j, r);
	} else {
		left = hga_job_get_answer(j, f, r);
		if (left > 0)
			ask_read(l, r->off + r->len - (uint64_t)left,
			         (uint32_t)left);
	}
	lane_step(l);
}

static bool lane_get(struct hga_sftp_lane *l)
{
	struct hga_sftp_job *j = l->job;
	uint64_t n = j->size - j->next;

	if (!hga_sftp_may_read(l->f))
		return false;
	if (n > l->f->read_size)
		n = l->f->read_size;
	ask_read(l, j->next, (uint32_t)n);
	j->next += n;
	return true;
}

static bool lane_put(struct hga_sftp_lane *l)
{
	uint32_t n;

	if (l->f->write_out >= PUT_OUT)
		return false;
	n = hga_job_put_block(l->job, l->f, hga_buf_str(&l->handle), on_written,
	                      l);
	l->out += n > 0;
	return n > 0;
}

static bool on_produce(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_lane *l = (struct hga_sftp_lane *)u;

	(void)f; /* known to the lane */
	if (!l->have_handle || l->closing)
		return false;
	if (has_blocks(l))
		return l->job->put ? lane_put(l) : lane_get(l);
	lane_step(l);
	return false;
}

/* ---- begin ---- */

static void on_open(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r)
{
	struct hga_sftp_lane *l = ctx;

	l->out--;
	if (hga_sftp_is_handle(f, r, &l->handle))
		l->have_handle = true;
	if (f->fatal.kind != HGA_OK)
		return;        /* the engine's end fails the lane */
	if (!l->have_handle) { /* not a second time: then no lane */
		l->closing = true;
		hga_sftp_over(f, &l->user);
		return;
	}
	lane_step(l);
}

static void on_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_lane *l = (struct hga_sftp_lane *)u;
	const struct hga_sftp_job *j = l->job;
	const struct hga_sftp_attrs none = {.flags = 0};

	l->begun = true;
	if (!has_blocks(l)) {
		lane_step(l);
		return;
	}
	l->out++;
	hga_sftp_ask_open(f, hga_buf_str(j->put ? &j->rpart : &j->remote),
	                  j->put ? FXF_WRITE : FXF_READ, &none, on_open, l);
}

static void lane_start(struct hga_sftp_job *j, struct hga_sftp *f,
                       struct hga_sftp_lane *l)
{
	l->f = f;
	l->job = j;
	l->next = j->lanes;
	j->lanes = l;
	l->user.begin = on_begin;
	l->user.fail = on_fail;
	l->user.produce = on_produce;
	l->user.finish = on_finish;
	hga_sftp_link(f, &l->user);
}

void hga_lane_add_channels(struct hga_sftp_job *j)
{
	struct hga_ssh *ssh = j->f->ssh;
	unsigned n = j->parallel;

	if (ssh == NULL || j->resume)
		return;
	if (n == 0)
		n = j->size >= LANE_AUTO && hga_ssh_rtt(ssh) >= HGA_SSH_LONG_RTT
		        ? CHANNELS_AUTO
		        : 1;
	for (unsigned i = 1; i < n && j->size > LANE_MIN; i++) {
		struct hga_sftp_lane *l = hga_calloc(1, sizeof(*l));
		struct hga_sftp *f;

		/* Fewer lanes are no failure. */
		if (l == NULL || hga_sftp_extra(ssh, &f, NULL) < 0) {
			hga_free(l);
			return;
		}
		l->own_engine = true;
		lane_start(j, f, l);
	}
}

int hga_sftp_assist(struct hga_ssh *ssh, struct hga_ssh *other,
                    struct hga_err *err)
{
	struct hga_sftp_job *j = ssh->sftp ? ssh->sftp->assisted : NULL;
	struct hga_sftp_lane *l;
	struct hga_sftp *f;
	int rc;

	if (j == NULL || j->state != JOB_MOVE || j->resume ||
	    j->size - j->next < LANE_MIN)
		return 0;
	rc = hga_sftp_get(other, &f, err);
	if (rc < 0)
		return rc;
	l = hga_calloc(1, sizeof(*l));
	if (l == NULL)
		return hga_fail_mem(err);
	l->ssh = hga_ssh_ref(other);
	lane_start(j, f, l);
	return 0;
}
