/*
 * The sending half of a job: open, write, set attributes, compare the size,
 * close, rename; all but the first and the last are sent without waiting.
 */
#include "ssh/xfer_impl.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- put ---- */

#define PUT_OUT (2 * 1024 * 1024) /* bytes of writes on their way */

static void rename_part(struct hga_sftp_job *j);
static void put_finished(struct hga_sftp_job *j);

static void finish_step(struct hga_sftp_job *j)
{
	if (j->state == JOB_FINISH && j->out == 0)
		put_finished(j);
}

static void on_dir_there(struct hga_sftp *f, void *ctx,
                         const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;
	struct hga_sftp_reply old = {.type = SFTP_STATUS,
	                             .status = FX_FAILURE,
	                             .text = HGA_STR("rename")};

	if (!hga_job_live(j))
		return;
	if (hga_sftp_is_attrs(f, r, &a) && S_ISDIR(a.mode))
		hga_job_fail_text(j, HGA_REMOTE, 0, "IsDirectory",
		                  "the target is a directory");
	else
		hga_job_fail_status(j, &old);
}

static void on_target_removed(struct hga_sftp *f, void *ctx,
                              const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	(void)f; /* of the job */
	(void)r; /* the second rename tells */
	if (hga_job_live(j))
		rename_part(j);
}

static void on_rename(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (!hga_job_live(j))
		return;
	if (hga_sftp_is_ok(f, r)) {
		j->part_made = j->asked = false;
		hga_job_over(j);
		return;
	}
	if (f->fatal.kind != HGA_OK)
		return;
	if (r->status != FX_FAILURE) {
		hga_job_fail_status(j, r);
	} else if (!(f->ext & EXT_POSIX_RENAME) && !j->retried) {
		j->retried = true;
		j->atomic = false;
		j->out++;
		hga_sftp_ask_path(f, SFTP_REMOVE, hga_buf_str(&j->remote),
		                  on_target_removed, j);
	} else {
		j->out++;
		hga_sftp_ask_path(f, SFTP_STAT, hga_buf_str(&j->remote),
		                  on_dir_there, j);
	}
}

static void rename_part(struct hga_sftp_job *j)
{
	j->state = JOB_RENAME;
	j->out++;
	hga_sftp_ask_rename(j->f, hga_buf_str(&j->rpart),
	                    hga_buf_str(&j->remote), on_rename, j);
}

/* What an earlier try has sent passes no more: read it once for the hash. */
static bool hash_whole(struct hga_sftp_job *j)
{
	char block[16384];
	struct hga_err err;
	uint64_t at = 0;

	hga_hash_release(&j->hash);
	if (hga_hash_init(&j->hash, HGA_SHA256, &err) < 0) {
		hga_job_fail(j, &err);
		return false;
	}
	while (at < j->size) {
		ssize_t n = pread(j->fd, block, sizeof(block), (off_t)at);

		if (n <= 0) {
			hga_job_fail_local(j, n < 0 ? errno : 0, "read");
			return false;
		}
		if (hga_hash_update(&j->hash, block, (size_t)n, &err) < 0) {
			hga_job_fail(j, &err);
			return false;
		}
		at += (uint64_t)n;
	}
	return true;
}

/* All answers are there: the part is complete on the server. */
static void put_finished(struct hga_sftp_job *j)
{
	struct stat st;

	if (j->fd >= 0 &&
	    (fstat(j->fd, &st) < 0 || (uint64_t)st.st_size != j->size ||
	     (j->resume && (uint64_t)st.st_mtime != j->src_time))) {
		hga_job_fail_text(j, HGA_IO, 0, "Changed",
		                  "the local file changed meanwhile");
		return;
	}
	if (j->hashing && j->resumed > 0 && !hash_whole(j))
		return;
	if (j->hashing)
		hga_job_hash_end(j);
	if (j->state == JOB_CLEAN || j->state == JOB_OVER)
		return;
	if (j->hold)
		hga_job_over(j);
	else
		rename_part(j);
}

static void on_closed(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (!hga_job_live(j))
		return;
	if (!hga_sftp_is_ok(f, r))
		hga_job_fail_status(j, r);
	else
		finish_step(j);
}

static void on_setstat(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (!hga_job_live(j))
		return;
	/* Servers without permissions say so; the file is there. */
	if (!hga_sftp_is_ok(f, r) && r->status != FX_OP_UNSUPPORTED)
		hga_job_fail_status(j, r);
	else
		finish_step(j);
}

static void on_put_stat(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;

	if (!hga_job_live(j))
		return;
	if (!hga_sftp_is_attrs(f, r, &a))
		hga_job_fail_status(j, r);
	else if ((a.flags & HGA_ATTR_SIZE) && a.size != j->size &&
	         !j->asks_space)
		hga_job_fail_short(j, a.size);
	else
		finish_step(j);
}

/* Everything behind the data in one go; the server keeps the order. */
static void put_finish(struct hga_sftp_job *j)
{
	struct hga_sftp *f = j->f;
	struct hga_sftp_attrs a = {.flags = HGA_ATTR_MODE, .mode = j->mode};
	struct hga_str h = hga_buf_str(&j->handle);

	j->state = JOB_FINISH;
	if (j->mtime) {
		a.flags |= HGA_ATTR_TIMES;
		a.atime = a.mtime = j->time;
	}
	j->out += 3;
	hga_sftp_put_begin(f, SFTP_FSETSTAT, on_setstat, j, 0, 0);
	hga_sftp_put_str(f, h);
	hga_sftp_put_attrs(f, &a);
	hga_sftp_put_send(f);
	hga_sftp_ask_handle(f, SFTP_FSTAT, h, on_put_stat, j);
	if (j->fsync && (f->ext & EXT_FSYNC)) {
		j->out++;
		hga_sftp_put_begin(f, SFTP_EXTENDED, on_closed, j, 0, 0);
		hga_sftp_put_str(f, HGA_STR("fsync@openssh.com"));
		hga_sftp_put_str(f, h);
		hga_sftp_put_send(f);
	}
	j->closed = true;
	hga_sftp_ask_handle(f, SFTP_CLOSE, h, on_closed, j);
}

/* A failed write on a full disk is told as such. */
static void on_statvfs(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	uint64_t v[5];
	size_t at = 0;
	char bytes[32], text[120];
	struct hga_sftp_reply old = {.type = SFTP_STATUS,
	                             .status = FX_FAILURE,
	                             .text = HGA_STR("write")};

	if (!hga_job_live(j))
		return;
	memset(v, 0, sizeof(v));
	/* f_bsize f_frsize f_blocks f_bfree f_bavail */
	for (int i = 0; i < 5 && r->type == SFTP_EXTENDED_REPLY; i++)
		if (!hga_sftp_read_u64(r->body, &at, &v[i]))
			v[1] = 0;
	if (r->type != SFTP_EXTENDED_REPLY || v[1] == 0 ||
	    v[4] > f->write_size / v[1]) {
		hga_job_fail_status(j, &old);
		return;
	}
	hga_sftp_digits(bytes, sizeof(bytes), j->moved);
	snprintf(text, sizeof(text),
	         "no space left on the remote disk after %s bytes", bytes);
	hga_job_fail_text(j, HGA_REMOTE, 0, "NoSpace", text);
}

static void ask_space(struct hga_sftp_job *j, struct hga_str path)
{
	struct hga_sftp *f = j->f;

	j->out++;
	hga_sftp_put_begin(f, SFTP_EXTENDED, on_statvfs, j, 0, 0);
	hga_sftp_put_str(f, HGA_STR("statvfs@openssh.com"));
	hga_sftp_put_str(f, path);
	hga_sftp_put_send(f);
}

/* "Failure" of an open may be a full disk, too: the directory's is asked. */
static void open_failed(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	struct hga_str path = hga_buf_str(&j->remote);
	size_t base = hga_sftp_base_at(path);

	if (r->status != FX_FAILURE || !(j->f->ext & EXT_STATVFS)) {
		hga_job_fail_status(j, r);
		return;
	}
	ask_space(j, base > 0 ? hga_strn(path.s, base) : HGA_STR("."));
}

static void write_failed(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	struct hga_sftp *f = j->f;

	if (f->fatal.kind != HGA_OK)
		return;
	if (r->status != FX_FAILURE || !(f->ext & EXT_STATVFS)) {
		hga_job_fail_status(j, r);
		return;
	}
	/* Only once: further failures of writes on their way are the same, and
	 * so is a size that is too small. */
	if (j->asks_space)
		return;
	j->asks_space = true;
	j->next = j->size;
	j->state = JOB_FINISH;
	ask_space(j, hga_buf_str(&j->rpart));
}

void hga_job_put_answer(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	if (j->state == JOB_CLEAN || j->state == JOB_OVER)
		return;
	if (!hga_sftp_is_ok(j->f, r)) {
		write_failed(j, r);
		return;
	}
	j->moved += r->len;
	if (j->moved_fn != NULL)
		j->moved_fn(j);
}

static void on_written(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	f->write_out -= r->len;
	if (!hga_job_live(j))
		return;
	hga_job_put_answer(j, r);
	finish_step(j);
}

/* Fills p with n bytes of the source; 0, or an errno, -1 when it is short. */
static int read_source(struct hga_sftp_job *j, char *p, size_t n)
{
	size_t got = 0;

	if (j->fd < 0) {
		memcpy(p, j->mem.s + j->next, n);
		return 0;
	}
	while (got < n) {
		ssize_t r =
		    pread(j->fd, p + got, n - got, (off_t)(j->next + got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return errno;
		if (r == 0)
			return -1;
		got += (size_t)r;
	}
	return 0;
}

uint32_t hga_job_put_block(struct hga_sftp_job *j, struct hga_sftp *f,
                           struct hga_str handle, hga_sftp_fn fn, void *ctx)
{
	uint64_t left = j->size - j->next;
	uint32_t n = left < f->write_size ? (uint32_t)left : f->write_size;
	struct hga_err err;
	char *p;
	int sys;

	hga_sftp_put_begin(f, SFTP_WRITE, fn, ctx, j->next, n);
	hga_sftp_put_str(f, handle);
	hga_sftp_put_u64(f, j->next);
	p = hga_sftp_put_room(f, n);
	if (p == NULL)
		return 0;
	sys = read_source(j, p, n);
	if (sys == 0 && j->hashing &&
	    hga_hash_update(&j->hash, p, n, &err) < 0) {
		hga_sftp_put_abort(f);
		hga_job_fail(j, &err);
		return 0;
	}
	if (sys != 0) {
		hga_sftp_put_abort(f);
		if (sys < 0)
			hga_job_fail_text(j, HGA_IO, 0, "Changed",
			                  "the local file became shorter");
		else
			hga_job_fail_local(j, sys, "read");
		return 0;
	}
	hga_sftp_put_send(f);
	f->write_out += n;
	j->next += n;
	return n;
}

bool hga_job_produce_put(struct hga_sftp_job *j)
{
	bool did = false;

	if (j->state != JOB_MOVE)
		return false;
	if (j->next < j->size) {
		if (j->f->write_out >= PUT_OUT)
			return false;
		did = hga_job_put_block(j, j->f, hga_buf_str(&j->handle),
		                        on_written, j) > 0;
		j->out += did;
	}
	if (j->state == JOB_MOVE && j->next == j->size)
		hga_lane_wind_up(j);
	/* What follows relies on the order of one channel. */
	if (j->state == JOB_MOVE && j->next == j->size && j->lanes == NULL) {
		put_finish(j);
		did = true;
	}
	return did;
}

static void on_target(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;

	if (!hga_job_live(j))
		return;
	if (j->need_atomic && !(f->ext & EXT_POSIX_RENAME))
		hga_job_fail_text(
		    j, HGA_REMOTE, 0, "Unsupported",
		    "the server cannot replace a file atomically");
	else if (hga_sftp_is_attrs(f, r, &a) && S_ISDIR(a.mode))
		hga_job_fail_text(
		    j, HGA_USAGE, 0, "IsDirectory",
		    "the target is a directory; end it with / to put "
		    "the file into it");
	else if (f->fatal.kind == HGA_OK)
		finish_step(j);
}

static void on_put_open(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (hga_sftp_is_handle(f, r, &j->handle))
		j->have_handle = j->part_made = true;
	else
		j->asked = false;
	if (!hga_job_live(j) || f->fatal.kind != HGA_OK)
		return;
	if (!j->have_handle) {
		open_failed(j, r);
		return;
	}
	j->state = JOB_MOVE;
	hga_lane_add_channels(j);
}

static void open_part(struct hga_sftp_job *j, uint32_t flags)
{
	const struct hga_sftp_attrs a = {.flags = HGA_ATTR_MODE, .mode = 0600};

	j->out++;
	j->asked = true;
	hga_sftp_ask_open(j->f, hga_buf_str(&j->rpart), flags, &a, on_put_open,
	                  j);
}

static void on_old_removed(struct hga_sftp *f, void *ctx,
                           const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	(void)f; /* of the job */
	(void)r; /* the exclusive open tells */
	if (hga_job_live(j))
		open_part(j, FXF_WRITE | FXF_CREAT | FXF_EXCL);
}

/* The part of an earlier try, if it is one: never through a link. */
static void on_old_part(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;

	if (!hga_job_live(j))
		return;
	if (!hga_sftp_is_attrs(f, r, &a)) {
		if (f->fatal.kind == HGA_OK)
			open_part(j, FXF_WRITE | FXF_CREAT | FXF_EXCL);
		return;
	}
	if (S_ISREG(a.mode) && (a.flags & HGA_ATTR_SIZE) && a.size <= j->size) {
		j->resumed = hga_job_resume_at(j, a.size);
		j->next = j->moved = j->resumed;
		open_part(j, FXF_WRITE);
		return;
	}
	j->out++;
	hga_sftp_ask_path(f, SFTP_REMOVE, hga_buf_str(&j->rpart),
	                  on_old_removed, j);
}

static void begin_resume(struct hga_sftp_job *j)
{
	struct hga_err err;

	if (hga_job_resume_name(j, j->size, j->src_time, &err) < 0) {
		hga_job_fail(j, &err);
		return;
	}
	j->out++;
	hga_sftp_ask_path(j->f, SFTP_LSTAT, hga_buf_str(&j->rpart), on_old_part,
	                  j);
}

void hga_job_begin_put(struct hga_sftp_job *j)
{
	j->atomic = j->f->ext & EXT_POSIX_RENAME;
	if (j->check_target) {
		j->out++;
		hga_sftp_ask_path(j->f, SFTP_STAT, hga_buf_str(&j->remote),
		                  on_target, j);
	}
	if (j->resume)
		begin_resume(j);
	else
		open_part(j, FXF_WRITE | FXF_CREAT | FXF_EXCL);
}
