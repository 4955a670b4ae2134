/*
 * Transfer of one file as an operation: its options, its local side, what is
 * told about it.  The work is done by a job (xfer.c).
 */
#include "ssh/sftp.h"

#include "base/fs.h"
#include "base/mem.h"
#include "ssh/sftp_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_LEN 4096
#define PARALLEL_MAX 8

/* ---- operation ---- */

static void op_result(struct hga_sftp_xfer *op, struct hga_sftp_job *j)
{
	op->base.err = j->err;
	op->more = j->more;
	op->done = j->moved;
	op->total = j->size;
	op->atomic = j->atomic;
	op->resumed = j->resumed;
	memcpy(op->sha256, j->sha256, sizeof(op->sha256));
	/* Taken, so that freeing the job cannot remove it. */
	if ((j->hold && j->err.kind == HGA_OK) || j->left) {
		op->part = j->rpart;
		memset(&j->rpart, 0, sizeof(j->rpart));
	}
}

static void on_job_done(struct hga_sftp_job *j)
{
	struct hga_sftp_xfer *op = j->owner;

	op->impl = NULL;
	op_result(op, j);
	hga_sftp_job_free(j);
	hga_op_finish(&op->base);
}

static void on_job_moved(struct hga_sftp_job *j)
{
	struct hga_sftp_xfer *op = j->owner;
	bool much;

	if (j->detached)
		return;
	much = j->moved - op->done >= 1024 * 1024 || op->total != j->size;
	op->total = j->size;
	if (!much)
		return;
	op->done = j->moved;
	if (op->base.progress != NULL)
		op->base.progress(&op->base);
}

static void xfer_cancel(struct hga_op *base)
{
	struct hga_sftp_xfer *op = (struct hga_sftp_xfer *)base;
	struct hga_sftp_job *j = op->impl;

	op->impl = NULL;
	if (j != NULL) {
		j->moved_fn = NULL;
		j->sink = NULL;
		hga_sftp_job_abandon(j);
	}
	hga_op_drop(base);
}

static int open_source(struct hga_sftp_job *j, const char *path,
                       struct hga_err *err)
{
	/* Not blocked by a FIFO; its type is checked afterwards. */
	int fd = hga_fs_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);

	return fd < 0 ? fd : hga_sftp_job_from(j, fd, path, err);
}

static int open_target(struct hga_sftp_job *j, const char *path,
                       struct hga_err *err)
{
	size_t base = hga_sftp_base_at(hga_str(path));
	char *dir;
	int fd;

	if (path[base] == '\0' || strcmp(path + base, ".") == 0 ||
	    strcmp(path + base, "..") == 0)
		return hga_fail(err, HGA_USAGE, 0, "Path",
		                "sftp get: %s names no file", path);
	dir = base ? hga_memdup0(path, base) : hga_strdup(".");
	if (dir == NULL)
		return hga_fail_mem(err);
	fd = hga_fs_open(dir, O_RDONLY | O_DIRECTORY, 0, err);
	hga_free(dir);
	return fd < 0 ? fd : hga_sftp_job_into(j, fd, path + base, err);
}

static int open_local(struct hga_sftp_xfer *op, struct hga_sftp_job *j,
                      const struct hga_sftp_xfer_args *a, struct hga_err *err)
{
	if (a->local != NULL)
		return a->put ? open_source(j, a->local, err)
		              : open_target(j, a->local, err);
	if (a->put) {
		j->mem = a->data;
		j->size = a->data.n;
	} else if (a->discard) {
		j->discard = true;
	} else {
		hga_buf_init(&op->data, a->max ? a->max : SIZE_MAX / 4);
		j->sink = &op->data;
	}
	return 0;
}

static int job_options(struct hga_sftp_job *j,
                       const struct hga_sftp_xfer_args *a, struct hga_err *err)
{
	j->hold = a->hold;
	j->need_atomic = a->need_atomic;
	j->fsync = a->fsync;
	j->mtime = a->mtime && a->local != NULL;
	j->check_target = true;
	j->sync_local = true;
	j->max = a->max;
	j->umask = a->umask;
	j->resume = a->resume && a->local != NULL;
	j->keep_cancelled = a->keep;
	j->parallel = a->parallel > PARALLEL_MAX ? PARALLEL_MAX : a->parallel;
	if (a->mode >= 0) {
		j->mode = (uint32_t)a->mode & 07777;
		j->set_mode = true;
	}
	j->hashing = a->hash || a->sha256 != NULL;
	if (!j->hashing)
		return 0;
	return hga_hash_init(&j->hash, HGA_SHA256, err);
}

int hga_sftp_xfer_start(struct hga_ssh *ssh, struct hga_sftp_xfer *op,
                        const struct hga_sftp_xfer_args *args,
                        struct hga_err *err)
{
	struct hga_sftp *f;
	struct hga_sftp_job *j;
	struct hga_buf path;
	int rc = hga_sftp_get(ssh, &f, err);

	if (rc < 0)
		return rc;
	hga_buf_init(&path, PATH_LEN + 16);
	rc = hga_sftp_path(ssh, args->remote, &path, err);
	j = rc == 0 ? hga_sftp_job_new(args->put, hga_buf_str(&path), err)
	            : NULL;
	hga_buf_release(&path);
	if (j == NULL)
		return rc < 0 ? rc : -(int)err->kind;
	memset(&op->part, 0, sizeof(op->part));
	memset(&op->data, 0, sizeof(op->data));
	rc = open_local(op, j, args, err);
	if (rc == 0)
		rc = job_options(j, args, err);
	if (rc < 0) {
		hga_sftp_job_free(j);
		return rc;
	}
	if (args->sha256 != NULL)
		snprintf(op->want_, sizeof(op->want_), "%s", args->sha256);
	else
		op->want_[0] = '\0';
	j->want_sha256 = op->want_;
	j->owner = op;
	j->done = on_job_done;
	j->moved_fn = on_job_moved;
	op->done = 0;
	op->total = j->size;
	op->sha256[0] = '\0';
	op->impl = j;
	hga_op_begin(&op->base, xfer_cancel);
	hga_sftp_job_start(f, j);
	return 0;
}

void hga_sftp_xfer_release(struct hga_sftp_xfer *op)
{
	hga_op_cancel(&op->base);
	hga_buf_release(&op->part);
	hga_buf_release(&op->data);
}
