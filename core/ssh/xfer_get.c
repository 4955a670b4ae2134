/*
 * The receiving half of a job: (stat,) open, read, one read more that must
 * find the end, close; the local part becomes the file at the end.
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

/* ---- get ---- */

static void get_finished(struct hga_sftp_job *j);

static int write_all(struct hga_sftp_job *j, const char *p, size_t n,
                     uint64_t off)
{
	while (n > 0) {
		ssize_t w = pwrite(j->fd, p, n, (off_t)off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w < 0 ? errno : EIO;
		p += w;
		n -= (size_t)w;
		off += (uint64_t)w;
	}
	return 0;
}

/* In order only; otherwise the file is read again at the end. */
static int hash_data(struct hga_sftp_job *j, struct hga_str d, uint64_t off,
                     struct hga_err *err)
{
	if (!j->hashing || off != j->hashed)
		return 0;
	j->hashed += d.n;
	return hga_hash_update(&j->hash, d.s, d.n, err);
}

static void store(struct hga_sftp_job *j, struct hga_str d, uint64_t off)
{
	struct hga_err err;
	int sys = 0;

	if (hash_data(j, d, off, &err) < 0) {
		hga_job_fail(j, &err);
		return;
	}
	if (j->discard) {
		sys = 0;
	} else if (j->sink == NULL) {
		sys = write_all(j, d.s, d.n, off);
	} else if (off + d.n > j->sink->len) {
		/* Within the maximum: checked before it was asked for. */
		size_t need = (size_t)(off + d.n) - j->sink->len;

		if (hga_buf_reserve(j->sink, need, &err) < 0) {
			hga_job_fail(j, &err);
			return;
		}
		j->sink->len += need;
	}
	if (sys != 0) {
		hga_job_fail_local(j, sys, "write");
		return;
	}
	if (j->sink != NULL)
		memcpy(j->sink->data + off, d.s, d.n);
	j->moved += d.n;
	if (off == j->contiguous)
		j->contiguous += d.n;
	if (j->moved_fn != NULL)
		j->moved_fn(j);
}

static void on_read(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r);

static void ask_read(struct hga_sftp_job *j, uint64_t off, uint32_t n)
{
	struct hga_sftp *f = j->f;

	hga_sftp_put_begin(f, SFTP_READ, on_read, j, off, n);
	hga_sftp_put_str(f, hga_buf_str(&j->handle));
	hga_sftp_put_u64(f, off);
	hga_sftp_put_u32(f, n);
	hga_sftp_put_send(f);
	j->out++;
	f->read_out += n;
}

/* More bytes than announced: into memory they are welcome up to max. */
static void grew(struct hga_sftp_job *j, struct hga_str d)
{
	char n[32], text[100];

	if (j->sink == NULL) {
		hga_sftp_digits(n, sizeof(n), j->size);
		snprintf(text, sizeof(text),
		         "more than the announced %s bytes came", n);
		hga_job_fail_text(j, HGA_PROTOCOL, 0, "ShortTransfer", text);
		return;
	}
	if (j->max > 0 && j->size + d.n > j->max) {
		hga_job_fail_text(j, HGA_PROTOCOL, 0, "TooLarge",
		                  "the file is larger than allowed");
		return;
	}
	store(j, d, j->size);
	j->size += d.n;
	j->next = j->size;
	j->probe_sent = false;
}

int64_t hga_job_get_answer(struct hga_sftp_job *j, struct hga_sftp *f,
                           const struct hga_sftp_reply *r)
{
	size_t at = 0;
	struct hga_str d;

	if (r->type != SFTP_DATA || !hga_wire_str(r->body, &at, &d) ||
	    d.n == 0 || d.n > r->len) {
		hga_sftp_bad(f, "data");
		return -1;
	}
	f->rate_bytes += d.n;
	if (r->off >= j->size) {
		grew(j, d);
		return 0;
	}
	store(j, d, r->off);
	return j->state == JOB_MOVE ? (int64_t)(r->len - d.n) : -1;
}

void hga_job_get_step(struct hga_sftp_job *j)
{
	if (j->state == JOB_MOVE && j->probed && j->out == 0 &&
	    j->lanes == NULL)
		get_finished(j);
}

static void on_read(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	int64_t left;

	f->read_out -= r->len;
	if (!hga_job_live(j))
		return;
	if (r->type == SFTP_STATUS) {
		if (r->status != FX_EOF)
			hga_job_fail_status(j, r);
		else if (r->off < j->size)
			hga_job_fail_short(j, j->moved);
		else
			j->probed = true;
	} else {
		left = hga_job_get_answer(j, f, r);
		if (left > 0)
			ask_read(j, r->off + r->len - (uint64_t)left,
			         (uint32_t)left);
	}
	hga_job_get_step(j);
}

bool hga_job_produce_get(struct hga_sftp_job *j)
{
	struct hga_sftp *f = j->f;
	uint64_t left = j->size - j->next;

	if (j->state != JOB_MOVE || j->probe_sent)
		return false;
	if (left == 0) {
		/* One read behind the end: a growing file must not pass. */
		j->probe_sent = true;
		hga_lane_wind_up(j);
		ask_read(j, j->size, j->sink ? f->read_size : 1);
		return true;
	}
	if (!hga_sftp_may_read(f))
		return false;
	if (left > f->read_size)
		left = f->read_size;
	ask_read(j, j->next, (uint32_t)left);
	j->next += left;
	return true;
}

/* Reads the part again when the pieces came out of order. */
static void hash_again(struct hga_sftp_job *j)
{
	struct hga_err err;

	if (j->hashed == j->size)
		return;
	if (j->discard) {
		hga_job_fail_text(j, HGA_PROTOCOL, 0, "Malformed",
		                  "the answers came out of order");
		return;
	}
	hga_hash_release(&j->hash);
	if (hga_hash_init(&j->hash, HGA_SHA256, &err) < 0) {
		hga_job_fail(j, &err);
		return;
	}
	j->hashed = 0;
	while (j->hashed < j->size) {
		char block[4096];
		ssize_t n = j->sink ? (ssize_t)sizeof(block)
		                    : pread(j->fd, block, sizeof(block),
		                            (off_t)j->hashed);

		if (n <= 0) {
			hga_job_fail_local(j, n < 0 ? errno : 0, "read");
			return;
		}
		if (j->sink != NULL) {
			if ((uint64_t)n > j->size - j->hashed)
				n = (ssize_t)(j->size - j->hashed);
			memcpy(block, j->sink->data + j->hashed, (size_t)n);
		}
		if (hga_hash_update(&j->hash, block, (size_t)n, &err) < 0) {
			hga_job_fail(j, &err);
			return;
		}
		j->hashed += (uint64_t)n;
	}
}

static bool check_hash(struct hga_sftp_job *j)
{
	hash_again(j);
	if (j->state == JOB_MOVE)
		hga_job_hash_end(j);
	if (j->state != JOB_MOVE)
		return false;
	if (j->want_sha256[0] != '\0' &&
	    strcmp(j->want_sha256, j->sha256) != 0) {
		hga_job_fail_text(j, HGA_PROTOCOL, 0, "ShortTransfer",
		                  "the SHA-256 differs");
		return false;
	}
	return true;
}

/* Until it has this the part is ours alone. */
static mode_t final_mode(const struct hga_sftp_job *j)
{
	return j->set_mode ? j->mode & 07777
	                   : ((j->mode & 0777) | 0600) & ~j->umask;
}

/* Part -> file. */
static int settle(struct hga_sftp_job *j, const char **doing)
{
	struct timespec ts[2] = {{.tv_sec = j->time}, {.tv_sec = j->time}};

	*doing = "set attributes";
	if ((j->mtime && futimens(j->fd, ts) < 0) ||
	    fchmod(j->fd, final_mode(j)) < 0)
		return errno;
	*doing = "fsync";
	if (j->sync_local && fsync(j->fd) < 0)
		return errno;
	*doing = "close";
	if (close(j->fd) < 0) {
		j->fd = -1;
		return errno;
	}
	j->fd = -1;
	*doing = "rename";
	if (renameat(j->dirfd, j->lpart, j->dirfd, j->lname) < 0)
		return errno;
	j->part_made = false;
	*doing = "fsync";
	/* Some file systems cannot sync a directory. */
	if (j->sync_local && fsync(j->dirfd) < 0 && errno != EINVAL)
		return errno;
	return 0;
}

/* A file put together from two tries must have been one file. */
static void on_source(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;

	if (!hga_job_live(j))
		return;
	if (!hga_sftp_is_attrs(f, r, &a)) {
		hga_job_fail_status(j, r);
		return;
	}
	if (a.size != j->size || a.mtime != j->src_time) {
		hga_job_fail_text(j, HGA_REMOTE, 0, "Changed",
		                  "the file changed between two tries");
		return;
	}
	j->checked = true;
	hga_job_get_step(j);
}

static void check_source(struct hga_sftp_job *j)
{
	j->out++;
	hga_sftp_ask_handle(j->f, SFTP_FSTAT, hga_buf_str(&j->handle),
	                    on_source, j);
}

static void get_finished(struct hga_sftp_job *j)
{
	const char *doing = "";
	int sys;

	if (j->moved != j->size) {
		hga_job_fail_short(j, j->moved);
		return;
	}
	if (j->resumed > 0 && !j->checked) {
		check_source(j);
		return;
	}
	if (j->hashing && !check_hash(j))
		return;
	if (j->sink == NULL && !j->discard) {
		sys = settle(j, &doing);
		if (sys != 0) {
			hga_job_fail_local(j, sys, doing);
			return;
		}
	}
	j->closed = true;
	hga_sftp_ask_handle(j->f, SFTP_CLOSE, hga_buf_str(&j->handle),
	                    hga_sftp_ignore, NULL);
	hga_job_over(j);
}

/* The part of an earlier try: a file of ours with one name. */
static bool old_part(struct hga_sftp_job *j)
{
	struct stat st;
	int fd = openat(j->dirfd, j->lpart,
	                O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_uid == geteuid() && st.st_nlink == 1 &&
	    (uint64_t)st.st_size <= j->size) {
		j->fd = fd;
		j->part_made = true;
		j->resumed = hga_job_resume_at(j, (uint64_t)st.st_size);
		j->next = j->moved = j->contiguous = j->resumed;
		return true;
	}
	if (fd >= 0)
		close(fd);
	/* If it cannot be removed the exclusive open fails and tells. */
	(void)unlinkat(j->dirfd, j->lpart, 0);
	return false;
}

static bool make_part(struct hga_sftp_job *j)
{
	if (j->sink != NULL || j->discard)
		return true;
	if (j->resume && old_part(j))
		return true;
	j->fd =
	    openat(j->dirfd, j->lpart,
	           O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (j->fd < 0) {
		hga_job_fail_local(j, errno, "create");
		return false;
	}
	j->part_made = true;
	return true;
}

static void on_get_open(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (hga_sftp_is_handle(f, r, &j->handle))
		j->have_handle = true;
	if (!hga_job_live(j) || f->fatal.kind != HGA_OK)
		return;
	if (!j->have_handle) {
		hga_job_fail_status(j, r);
		return;
	}
	if (!make_part(j))
		return;
	j->state = JOB_MOVE;
	if (f->assisted == NULL && j->sink == NULL && !j->discard)
		f->assisted = j;
}

static void open_get(struct hga_sftp_job *j)
{
	struct hga_sftp_attrs none = {.flags = 0};

	j->out++;
	hga_sftp_ask_open(j->f, hga_buf_str(&j->remote), FXF_READ, &none,
	                  on_get_open, j);
}

static void on_get_stat(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;
	struct hga_err err;

	if (!hga_job_live(j))
		return;
	if (!hga_sftp_is_attrs(f, r, &a)) {
		hga_job_fail_status(j, r);
		return;
	}
	if (!S_ISREG(a.mode) || !(a.flags & HGA_ATTR_SIZE)) {
		hga_job_fail_text(j, HGA_REMOTE, 0,
		                  S_ISDIR(a.mode) ? "IsDirectory"
		                                  : "SftpFailure",
		                  S_ISDIR(a.mode) ? "it is a directory"
		                                  : "not a regular file");
		return;
	}
	if (a.size > INT64_MAX || (j->max > 0 && a.size > j->max)) {
		hga_job_fail_text(j, HGA_PROTOCOL, 0, "TooLarge",
		                  "the file is larger than allowed");
		return;
	}
	j->size = a.size;
	if (!j->set_mode)
		j->mode = a.mode & 0777;
	j->time = a.mtime;
	j->src_time = a.mtime;
	if (j->resume && hga_job_resume_name(j, a.size, a.mtime, &err) < 0) {
		hga_job_fail(j, &err);
		return;
	}
	if (j->moved_fn != NULL)
		j->moved_fn(j);
	open_get(j);
}

void hga_job_begin_get(struct hga_sftp_job *j)
{
	if (j->have_attrs) {
		open_get(j);
		return;
	}
	j->out++;
	hga_sftp_ask_path(j->f, SFTP_STAT, hga_buf_str(&j->remote), on_get_stat,
	                  j);
}
