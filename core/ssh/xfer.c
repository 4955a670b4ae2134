/*
 * Transfer of one file over the SFTP engine: a job that tree.c and xfer_op.c
 * share.  Its life, errors and names are here; how the data move is in
 * xfer_put.c, xfer_get.c and, for several channels at once, lane.c.
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

#define NAME_LEN 255
#define PART_LEN 18 /* ".hga-12345678.part" */
#define PATH_LEN 4096
#define RESUME_BACK (1024 * 1024)

static const char *verb(const struct hga_sftp_job *j)
{
	return j->put ? "put" : "get";
}

/* ---- errors, end ---- */

static void drop_local(struct hga_sftp_job *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
	/* What cannot be removed now was never ours to keep: best effort. */
	if (!j->put && j->part_made && !j->keep)
		(void)unlinkat(j->dirfd, j->lpart, 0);
	if (!j->put)
		j->part_made = false;
}

/* Whether another try can go on where this one ended; a local part then ends
 * at its first hole. */
static void decide_keep(struct hga_sftp_job *j, enum hga_kind why)
{
	if (!j->resume || j->keep ||
	    (why != HGA_NET && why != HGA_TIMEOUT &&
	     !(why == HGA_CANCELLED && j->keep_cancelled)))
		return;
	j->keep = true;
	if (!j->put && j->fd >= 0 && ftruncate(j->fd, (off_t)j->contiguous) < 0)
		j->keep = false;
}

void hga_sftp_job_free(struct hga_sftp_job *j)
{
	if (j == NULL)
		return;
	hga_lane_orphan(j);
	drop_local(j);
	if (j->dirfd >= 0)
		close(j->dirfd);
	hga_free(j->lname);
	hga_free(j->lpart);
	hga_buf_release(&j->remote);
	hga_buf_release(&j->rpart);
	hga_buf_release(&j->handle);
	hga_hash_release(&j->hash);
	hga_free(j);
}

void hga_job_over(struct hga_sftp_job *j)
{
	j->state = JOB_OVER;
	if (j->f->assisted == j)
		j->f->assisted = NULL;
	hga_sftp_over(j->f, &j->user);
}

static void on_finish(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;

	(void)f; /* the job needs it no more */
	if (j->detached)
		hga_sftp_job_free(j);
	else
		j->done(j);
}

void hga_job_fail(struct hga_sftp_job *j, const struct hga_err *err)
{
	if (j->err.kind == HGA_OK)
		j->err = *err;
	if (j->state == JOB_CLEAN || j->state == JOB_OVER)
		return;
	decide_keep(j, err->kind);
	j->state = JOB_CLEAN;
	if (!j->put)
		drop_local(j);
	hga_lane_wind_up(j);
	hga_job_clean(j);
}

void hga_job_fail_status(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	struct hga_err err;

	if (j->f->fatal.kind != HGA_OK)
		return; /* the engine's end follows */
	hga_sftp_status_err(j->f, r, verb(j), hga_buf_str(&j->remote), &err,
	                    &j->more);
	j->more.offset = (int64_t)j->moved;
	hga_job_fail(j, &err);
}

void hga_job_fail_text(struct hga_sftp_job *j, enum hga_kind kind, int sys,
                       const char *code, const char *text)
{
	struct hga_err err;
	char what[320];

	hga_sftp_what(j->f, verb(j), hga_buf_str(&j->remote), what,
	              sizeof(what));
	(void)hga_fail(&err, kind, sys, code, "%s: %s", what,
	               text); /* handed on */
	hga_ssh_clean(j->more.path, sizeof(j->more.path),
	              hga_buf_str(&j->remote));
	j->more.offset = (int64_t)j->moved;
	hga_job_fail(j, &err);
}

void hga_job_fail_local(struct hga_sftp_job *j, int sys, const char *doing)
{
	char text[320], name[260];
	bool full = sys == ENOSPC || sys == EDQUOT;

	hga_ssh_clean(name, sizeof(name), hga_str(j->lname ? j->lname : ""));
	snprintf(text, sizeof(text), "local file%s%s: %s", *name ? " " : "",
	         name, doing);
	hga_job_fail_text(j, HGA_IO, sys, full ? "NoSpace" : "Local", text);
}

void hga_job_fail_short(struct hga_sftp_job *j, uint64_t got)
{
	char a[32], b[32], text[100];

	hga_sftp_digits(a, sizeof(a), got);
	hga_sftp_digits(b, sizeof(b), j->size);
	snprintf(text, sizeof(text), "got %s of %s bytes", a, b);
	hga_job_fail_text(j, HGA_PROTOCOL, 0, "ShortTransfer", text);
}

static void on_user_fail(struct hga_sftp *f, struct hga_sftp_user *u,
                         const struct hga_err *err)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;
	size_t n;

	j->left = j->put && j->asked;

	j->out = 0; /* no answer comes any more */
	hga_lane_orphan(j);
	if (f->assisted == j)
		f->assisted = NULL;
	decide_keep(j, err->kind);
	if (j->state != JOB_OVER && j->err.kind == HGA_OK)
		j->err = *err;
	j->state = JOB_OVER;
	drop_local(j);
	n = strlen(j->err.msg);
	if (j->left && j->err.kind != HGA_OK)
		snprintf(j->err.msg + n, sizeof(j->err.msg) - n,
		         "; %.200s may be left there", hga_buf_text(&j->rpart));
	else if (j->keep && j->err.kind != HGA_OK)
		snprintf(j->err.msg + n, sizeof(j->err.msg) - n,
		         "; %.200s is kept for another try", j->lpart);
	on_finish(f, u);
}

/* ---- cleaning up on the server ---- */

static void on_cleaned(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	(void)f; /* of the job */
	(void)r; /* nothing more can be done about it */
	j->out--;
	hga_job_clean(j);
}

static void on_part_removed(struct hga_sftp *f, void *ctx,
                            const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	j->asked = false;
	on_cleaned(f, ctx, r);
}

void hga_job_clean(struct hga_sftp_job *j)
{
	if (j->out > 0 || j->lanes != NULL || j->state == JOB_OVER)
		return;
	if (j->have_handle && !j->closed) {
		j->closed = true;
		j->out++;
		hga_sftp_ask_handle(j->f, SFTP_CLOSE, hga_buf_str(&j->handle),
		                    on_cleaned, j);
	}
	if (j->put && j->part_made && !j->keep) {
		j->part_made = false;
		j->out++;
		hga_sftp_ask_path(j->f, SFTP_REMOVE, hga_buf_str(&j->rpart),
		                  on_part_removed, j);
	}
	if (j->out == 0)
		hga_job_over(j);
}

bool hga_job_live(struct hga_sftp_job *j)
{
	j->out--;
	if (j->state != JOB_CLEAN)
		return true;
	hga_job_clean(j);
	return false;
}

void hga_job_hash_end(struct hga_sftp_job *j)
{
	uint8_t raw[HGA_HASH_MAX];
	struct hga_err err;
	static const char digits[] = "0123456789abcdef";

	if (hga_hash_final(&j->hash, raw, &err) < 0) {
		hga_job_fail(j, &err);
		return;
	}
	for (size_t i = 0; i < HGA_SHA256_LEN; i++) {
		j->sha256[2 * i] = digits[raw[i] >> 4];
		j->sha256[2 * i + 1] = digits[raw[i] & 15];
	}
	j->sha256[64] = '\0';
}

/* ---- jobs ---- */

static void on_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;

	(void)f; /* set at the start */
	if (j->state == JOB_CLEAN)
		hga_job_clean(j);
	else if (j->put)
		hga_job_begin_put(j);
	else
		hga_job_begin_get(j);
}

static bool on_produce(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;

	(void)f; /* set at the start */
	return j->put ? hga_job_produce_put(j) : hga_job_produce_get(j);
}

size_t hga_sftp_base_at(struct hga_str path)
{
	size_t i = path.n;

	while (i > 0 && path.s[i - 1] != '/')
		i--;
	return i;
}

static int part_suffix(char out[PART_LEN + 1], struct hga_err *err)
{
	uint32_t r;
	int rc = hga_random(&r, sizeof(r), err);

	if (rc == 0)
		snprintf(out, PART_LEN + 1, ".hga-%08x.part", r);
	return rc;
}

/* NAME.hga-XXXXXXXX.part, cut (not inside a character) to 255 bytes. */
static int add_part_name(struct hga_buf *out, struct hga_str path,
                         const char *suffix, struct hga_err *err)
{
	size_t base = hga_sftp_base_at(path), n = path.n - base;
	int rc = 0;

	if (n > NAME_LEN - PART_LEN) {
		n = NAME_LEN - PART_LEN;
		while (n > 0 &&
		       ((unsigned char)path.s[base + n] & 0xc0) == 0x80)
			n--;
	}
	if (rc == 0)
		rc = hga_buf_add(out, path.s, base + n, err);
	if (rc == 0)
		rc = hga_buf_adds(out, suffix, err);
	return rc;
}

static int part_name(struct hga_buf *out, struct hga_str path,
                     struct hga_err *err)
{
	char suffix[PART_LEN + 1];
	int rc = part_suffix(suffix, err);

	return rc < 0 ? rc : add_part_name(out, path, suffix, err);
}

/* The same file of the same host gives the same name again. */
int hga_job_resume_name(struct hga_sftp_job *j, uint64_t size, uint64_t time,
                        struct hga_err *err)
{
	char suffix[PART_LEN + 1], hex[65];
	struct hga_buf key, part;
	struct hga_ssh *ssh = j->f->ssh;
	int rc;

	hga_buf_init(&key, 2 * PATH_LEN);
	hga_buf_init(&part, PATH_LEN + 600);
	rc = hga_buf_addf(&key, err, "%s %d %llu %llu ", ssh ? ssh->host : "",
	                  ssh ? ssh->port : 0, (unsigned long long)size,
	                  (unsigned long long)time);
	if (rc == 0)
		rc = hga_buf_addstr(&key, hga_buf_str(&j->remote), err);
	if (rc == 0)
		rc = hga_hash_hex(HGA_SHA256, key.data, key.len, hex, err);
	hga_buf_release(&key);
	if (rc < 0)
		return rc;
	snprintf(suffix, sizeof(suffix), ".hga-%.8s.part", hex);
	if (j->put) {
		hga_buf_clear(&j->rpart);
		return add_part_name(&j->rpart, hga_buf_str(&j->remote), suffix,
		                     err);
	}
	rc = add_part_name(&part, hga_str(j->lname), suffix, err);
	if (rc < 0) {
		hga_buf_release(&part);
		return rc;
	}
	hga_free(j->lpart);
	j->lpart = hga_buf_move(&part);
	return 0;
}

/* The last megabyte is written again: it may not have been complete. */
uint64_t hga_job_resume_at(const struct hga_sftp_job *j, uint64_t part)
{
	return part > j->size || part < RESUME_BACK ? 0 : part - RESUME_BACK;
}

void hga_job_alone(struct hga_sftp_job *j)
{
	if (j->state == JOB_CLEAN)
		hga_job_clean(j);
	else if (j->state == JOB_MOVE && !j->put)
		hga_job_get_step(j);
	else if (j->f->ssh != NULL)
		hga_ssh_kick(j->f->ssh);
}

struct hga_sftp_job *hga_sftp_job_new(bool put, struct hga_str remote,
                                      struct hga_err *err)
{
	struct hga_sftp_job *j = hga_calloc(1, sizeof(*j));
	int rc;

	if (j == NULL) {
		(void)hga_fail_mem(err); /* NULL tells */
		return NULL;
	}
	j->put = put;
	j->fd = j->dirfd = -1;
	j->want_sha256 = "";
	j->more.offset = j->more.status = -1;
	j->mode = 0644;
	hga_buf_init(&j->remote, PATH_LEN + 600);
	hga_buf_init(&j->rpart, PATH_LEN + 600);
	rc = hga_buf_addstr(&j->remote, remote, err);
	if (rc == 0 && put)
		rc = part_name(&j->rpart, remote, err);
	if (rc < 0) {
		hga_sftp_job_free(j);
		return NULL;
	}
	return j;
}

int hga_sftp_job_into(struct hga_sftp_job *j, int dirfd, const char *name,
                      struct hga_err *err)
{
	struct hga_buf part;
	int rc;

	j->dirfd = dirfd;
	hga_buf_init(&part, NAME_LEN + 1);
	rc = part_name(&part, hga_str(name), err);
	j->lpart = hga_buf_move(&part);
	j->lname = hga_strdup(name);
	if (rc == 0 && (j->lpart == NULL || j->lname == NULL))
		rc = hga_fail_mem(err);
	return rc;
}

int hga_sftp_job_from(struct hga_sftp_job *j, int fd, const char *path,
                      struct hga_err *err)
{
	struct stat st;

	j->fd = fd;
	if (fstat(fd, &st) < 0)
		return hga_fs_fail(err, errno, "stat", path);
	if (!S_ISREG(st.st_mode))
		return hga_fail(err, HGA_USAGE, 0, "NotRegular",
		                "sftp put: %s is no regular file", path);
	j->size = (uint64_t)st.st_size;
	j->mode = st.st_mode & 0777;
	j->time = (uint32_t)st.st_mtime;
	j->src_time = (uint64_t)st.st_mtime;
	return 0;
}

void hga_sftp_job_start(struct hga_sftp *f, struct hga_sftp_job *j)
{
	j->f = f;
	j->user.begin = on_begin;
	j->user.fail = on_user_fail;
	j->user.produce = on_produce;
	j->user.finish = on_finish;
	hga_sftp_link(f, &j->user);
}

void hga_sftp_job_stop(struct hga_sftp_job *j, const struct hga_err *err)
{
	if (j->state == JOB_OVER)
		return;
	if (j->err.kind == HGA_OK)
		j->err = *err;
	if (j->state != JOB_CLEAN && j->f->version)
		hga_job_fail(j, err);
	j->state = j->state == JOB_OVER ? JOB_OVER : JOB_CLEAN;
}

void hga_sftp_job_abandon(struct hga_sftp_job *j)
{
	j->detached = true;
	if (j->state == JOB_OVER)
		return;
	decide_keep(j, HGA_CANCELLED);
	if (!j->put)
		drop_local(j);
	if (j->state == JOB_CLEAN)
		return;
	j->state = JOB_CLEAN;
	hga_lane_wind_up(j);
	/* Before the version is known begin comes and ends it. */
	if (j->f->version)
		hga_job_clean(j);
}
