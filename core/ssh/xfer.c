/*
 * Transfer of one file over the SFTP engine: a job that tree.c and the
 * operation below share.  A put is open, write, set attributes, compare the
 * size, close, rename; all but the first and the last are sent without
 * waiting.  A get is (stat,) open, read, one read more that must find the end,
 * close; the local part becomes the file at the end.
 */
#include "ssh/sftp.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "ssh/sftp_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUT_OUT (2 * 1024 * 1024) /* bytes of writes on their way */
#define NAME_LEN 255
#define PART_LEN 18 /* ".hga-12345678.part" */
#define PATH_LEN 4096

static void clean_step(struct hga_sftp_job *j);
static void finish_step(struct hga_sftp_job *j);

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
	if (!j->put && j->part_made)
		(void)unlinkat(j->dirfd, j->lpart, 0);
	if (!j->put)
		j->part_made = false;
}

void hga_sftp_job_free(struct hga_sftp_job *j)
{
	if (j == NULL)
		return;
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

static void over(struct hga_sftp_job *j)
{
	j->state = JOB_OVER;
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

/* The first error stays; what was made is removed before the end. */
static void fail(struct hga_sftp_job *j, const struct hga_err *err)
{
	if (j->err.kind == HGA_OK)
		j->err = *err;
	if (j->state == JOB_CLEAN || j->state == JOB_OVER)
		return;
	j->state = JOB_CLEAN;
	if (!j->put)
		drop_local(j);
	clean_step(j);
}

static void fail_status(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	struct hga_err err;

	if (j->f->fatal.kind != HGA_OK)
		return; /* the engine's end follows */
	hga_sftp_status_err(j->f, r, verb(j), hga_buf_str(&j->remote), &err,
	                    &j->more);
	j->more.offset = (int64_t)j->moved;
	fail(j, &err);
}

static void fail_text(struct hga_sftp_job *j, enum hga_kind kind, int sys,
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
	fail(j, &err);
}

static void fail_local(struct hga_sftp_job *j, int sys, const char *doing)
{
	char text[64];

	snprintf(text, sizeof(text), "local file: %s", doing);
	fail_text(j, HGA_IO, sys, sys == ENOSPC ? "NoSpace" : "Local", text);
}

static void fail_short(struct hga_sftp_job *j, uint64_t got)
{
	char a[32], b[32], text[100];

	hga_sftp_digits(a, sizeof(a), got);
	hga_sftp_digits(b, sizeof(b), j->size);
	snprintf(text, sizeof(text), "got %s of %s bytes", a, b);
	fail_text(j, HGA_PROTOCOL, 0, "ShortTransfer", text);
}

static void on_user_fail(struct hga_sftp *f, struct hga_sftp_user *u,
                         const struct hga_err *err)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;
	bool left = j->put && j->part_made;
	size_t n;

	j->out = 0; /* no answer comes any more */
	if (j->state != JOB_OVER && j->err.kind == HGA_OK)
		j->err = *err;
	j->state = JOB_OVER;
	drop_local(j);
	n = strlen(j->err.msg);
	if (left && j->err.kind != HGA_OK)
		snprintf(j->err.msg + n, sizeof(j->err.msg) - n,
		         "; %.200s may be left there", hga_buf_text(&j->rpart));
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
	clean_step(j);
}

static void clean_step(struct hga_sftp_job *j)
{
	if (j->out > 0)
		return;
	if (j->have_handle && !j->closed) {
		j->closed = true;
		j->out++;
		hga_sftp_ask_handle(j->f, SFTP_CLOSE, hga_buf_str(&j->handle),
		                    on_cleaned, j);
	}
	if (j->put && j->part_made) {
		j->part_made = false;
		j->out++;
		hga_sftp_ask_path(j->f, SFTP_REMOVE, hga_buf_str(&j->rpart),
		                  on_cleaned, j);
	}
	if (j->out == 0)
		over(j);
}

/* Every reply passes here: false when the job only waits for its end. */
static bool live(struct hga_sftp_job *j)
{
	j->out--;
	if (j->state != JOB_CLEAN)
		return true;
	clean_step(j);
	return false;
}

/* ---- put ---- */

static void rename_part(struct hga_sftp_job *j);

static void on_dir_there(struct hga_sftp *f, void *ctx,
                         const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;
	struct hga_sftp_reply old = {.type = SFTP_STATUS,
	                             .status = FX_FAILURE,
	                             .text = HGA_STR("rename")};

	if (!live(j))
		return;
	if (hga_sftp_is_attrs(f, r, &a) && S_ISDIR(a.mode))
		fail_text(j, HGA_REMOTE, 0, "IsDirectory",
		          "the target is a directory");
	else
		fail_status(j, &old);
}

static void on_target_removed(struct hga_sftp *f, void *ctx,
                              const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	(void)f; /* of the job */
	(void)r; /* the second rename tells */
	if (live(j))
		rename_part(j);
}

static void on_rename(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (!live(j))
		return;
	if (hga_sftp_is_ok(f, r)) {
		j->part_made = false;
		over(j);
		return;
	}
	if (f->fatal.kind != HGA_OK)
		return;
	if (r->status != FX_FAILURE) {
		fail_status(j, r);
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

static void hash_end(struct hga_sftp_job *j)
{
	uint8_t raw[HGA_HASH_MAX];
	struct hga_err err;
	static const char digits[] = "0123456789abcdef";

	if (hga_hash_final(&j->hash, raw, &err) < 0) {
		fail(j, &err);
		return;
	}
	for (size_t i = 0; i < HGA_SHA256_LEN; i++) {
		j->sha256[2 * i] = digits[raw[i] >> 4];
		j->sha256[2 * i + 1] = digits[raw[i] & 15];
	}
	j->sha256[64] = '\0';
}

/* All answers are there: the part is complete on the server. */
static void put_finished(struct hga_sftp_job *j)
{
	struct stat st;

	if (j->fd >= 0 &&
	    (fstat(j->fd, &st) < 0 || (uint64_t)st.st_size != j->size)) {
		fail_text(j, HGA_IO, 0, "Changed",
		          "the local file changed meanwhile");
		return;
	}
	if (j->hashing)
		hash_end(j);
	if (j->state == JOB_CLEAN || j->state == JOB_OVER)
		return;
	if (j->hold)
		over(j);
	else
		rename_part(j);
}

static void on_closed(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (!live(j))
		return;
	if (!hga_sftp_is_ok(f, r))
		fail_status(j, r);
	else
		finish_step(j);
}

static void on_setstat(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	if (!live(j))
		return;
	/* Servers without permissions say so; the file is there. */
	if (!hga_sftp_is_ok(f, r) && r->status != FX_OP_UNSUPPORTED)
		fail_status(j, r);
	else
		finish_step(j);
}

static void on_put_stat(struct hga_sftp *f, void *ctx,
                        const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;
	struct hga_sftp_attrs a;

	if (!live(j))
		return;
	if (!hga_sftp_is_attrs(f, r, &a))
		fail_status(j, r);
	else if ((a.flags & HGA_ATTR_SIZE) && a.size != j->size)
		fail_short(j, a.size);
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
	uint32_t hi, lo;
	size_t at = 0;
	char bytes[32], text[120];
	struct hga_sftp_reply old = {.type = SFTP_STATUS,
	                             .status = FX_FAILURE,
	                             .text = HGA_STR("write")};

	if (!live(j))
		return;
	memset(v, 0, sizeof(v));
	/* f_bsize f_frsize f_blocks f_bfree f_bavail */
	for (int i = 0; i < 5 && r->type == SFTP_EXTENDED_REPLY; i++)
		if (hga_wire_u32(r->body, &at, &hi) &&
		    hga_wire_u32(r->body, &at, &lo))
			v[i] = (uint64_t)hi << 32 | lo;
	if (r->type != SFTP_EXTENDED_REPLY || v[1] == 0 ||
	    v[4] > f->write_size / v[1]) {
		fail_status(j, &old);
		return;
	}
	hga_sftp_digits(bytes, sizeof(bytes), j->moved);
	snprintf(text, sizeof(text),
	         "no space left on the remote disk after %s bytes", bytes);
	fail_text(j, HGA_REMOTE, 0, "NoSpace", text);
}

static void write_failed(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	struct hga_sftp *f = j->f;

	if (f->fatal.kind != HGA_OK)
		return;
	if (r->status != FX_FAILURE || !(f->ext & EXT_STATVFS)) {
		fail_status(j, r);
		return;
	}
	/* Only once: further failures of writes on their way are the same. */
	if (j->retried)
		return;
	j->retried = true;
	j->next = j->size;
	j->state = JOB_FINISH;
	j->out++;
	hga_sftp_put_begin(f, SFTP_EXTENDED, on_statvfs, j, 0, 0);
	hga_sftp_put_str(f, HGA_STR("statvfs@openssh.com"));
	hga_sftp_put_str(f, hga_buf_str(&j->rpart));
	hga_sftp_put_send(f);
}

static void on_written(struct hga_sftp *f, void *ctx,
                       const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	f->write_out -= r->len;
	if (!live(j))
		return;
	if (!hga_sftp_is_ok(f, r)) {
		write_failed(j, r);
		return;
	}
	j->moved += r->len;
	if (j->moved_fn != NULL)
		j->moved_fn(j);
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

static bool put_block(struct hga_sftp_job *j)
{
	struct hga_sftp *f = j->f;
	uint64_t left = j->size - j->next;
	uint32_t n = left < f->write_size ? (uint32_t)left : f->write_size;
	struct hga_err err;
	char *p;
	int sys;

	hga_sftp_put_begin(f, SFTP_WRITE, on_written, j, j->next, n);
	hga_sftp_put_str(f, hga_buf_str(&j->handle));
	hga_sftp_put_u64(f, j->next);
	p = hga_sftp_put_room(f, n);
	if (p == NULL)
		return false;
	sys = read_source(j, p, n);
	if (sys == 0 && j->hashing &&
	    hga_hash_update(&j->hash, p, n, &err) < 0) {
		hga_sftp_put_abort(f);
		fail(j, &err);
		return true;
	}
	if (sys != 0) {
		hga_sftp_put_abort(f);
		if (sys < 0)
			fail_text(j, HGA_IO, 0, "Changed",
			          "the local file became shorter");
		else
			fail_local(j, sys, "read");
		return true;
	}
	hga_sftp_put_send(f);
	j->out++;
	f->write_out += n;
	j->next += n;
	return true;
}

static bool produce_put(struct hga_sftp_job *j)
{
	bool did = false;

	if (j->state != JOB_MOVE)
		return false;
	if (j->next < j->size) {
		if (j->f->write_out >= PUT_OUT)
			return false;
		did = put_block(j);
	}
	if (j->state == JOB_MOVE && j->next == j->size) {
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

	if (!live(j))
		return;
	if (j->need_atomic && !(f->ext & EXT_POSIX_RENAME))
		fail_text(j, HGA_REMOTE, 0, "Unsupported",
		          "the server cannot replace a file atomically");
	else if (hga_sftp_is_attrs(f, r, &a) && S_ISDIR(a.mode))
		fail_text(j, HGA_USAGE, 0, "IsDirectory",
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
	if (!live(j) || f->fatal.kind != HGA_OK)
		return;
	if (j->have_handle)
		j->state = JOB_MOVE;
	else
		fail_status(j, r);
}

static void begin_put(struct hga_sftp_job *j)
{
	struct hga_sftp_attrs a = {.flags = HGA_ATTR_MODE, .mode = 0600};

	j->atomic = j->f->ext & EXT_POSIX_RENAME;
	if (j->check_target) {
		j->out++;
		hga_sftp_ask_path(j->f, SFTP_STAT, hga_buf_str(&j->remote),
		                  on_target, j);
	}
	j->out++;
	hga_sftp_ask_open(j->f, hga_buf_str(&j->rpart),
	                  FXF_WRITE | FXF_CREAT | FXF_EXCL, &a, on_put_open, j);
}

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
		fail(j, &err);
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
			fail(j, &err);
			return;
		}
		j->sink->len += need;
	}
	if (sys != 0) {
		fail_local(j, sys, "write");
		return;
	}
	if (j->sink != NULL)
		memcpy(j->sink->data + off, d.s, d.n);
	j->moved += d.n;
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
		fail_text(j, HGA_PROTOCOL, 0, "ShortTransfer", text);
		return;
	}
	if (j->max > 0 && j->size + d.n > j->max) {
		fail_text(j, HGA_PROTOCOL, 0, "TooLarge",
		          "the file is larger than allowed");
		return;
	}
	store(j, d, j->size);
	j->size += d.n;
	j->next = j->size;
	j->probe_sent = false;
}

static void on_data(struct hga_sftp_job *j, const struct hga_sftp_reply *r)
{
	struct hga_sftp *f = j->f;
	size_t at = 0;
	struct hga_str d;

	if (r->type != SFTP_DATA || !hga_wire_str(r->body, &at, &d) ||
	    d.n == 0 || d.n > r->len) {
		hga_sftp_bad(f, "data");
		return;
	}
	f->rate_bytes += d.n;
	if (r->off >= j->size) {
		grew(j, d);
		return;
	}
	store(j, d, r->off);
	if (j->state == JOB_MOVE && d.n < r->len)
		ask_read(j, r->off + d.n, r->len - (uint32_t)d.n);
}

static void on_read(struct hga_sftp *f, void *ctx,
                    const struct hga_sftp_reply *r)
{
	struct hga_sftp_job *j = ctx;

	f->read_out -= r->len;
	if (!live(j))
		return;
	if (r->type == SFTP_STATUS) {
		if (r->status != FX_EOF)
			fail_status(j, r);
		else if (r->off < j->size)
			fail_short(j, j->moved);
		else
			j->probed = true;
	} else {
		on_data(j, r);
	}
	if (j->state == JOB_MOVE && j->probed && j->out == 0)
		get_finished(j);
}

static bool produce_get(struct hga_sftp_job *j)
{
	struct hga_sftp *f = j->f;
	uint64_t left = j->size - j->next;

	if (j->state != JOB_MOVE || j->probe_sent)
		return false;
	if (left == 0) {
		/* One read behind the end: a growing file must not pass. */
		j->probe_sent = true;
		ask_read(j, j->size, j->sink ? f->read_size : 1);
		return true;
	}
	if (f->read_out >= f->window)
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
		fail_text(j, HGA_PROTOCOL, 0, "Malformed",
		          "the answers came out of order");
		return;
	}
	hga_hash_release(&j->hash);
	if (hga_hash_init(&j->hash, HGA_SHA256, &err) < 0) {
		fail(j, &err);
		return;
	}
	j->hashed = 0;
	while (j->hashed < j->size) {
		char block[4096];
		ssize_t n = j->sink ? (ssize_t)sizeof(block)
		                    : pread(j->fd, block, sizeof(block),
		                            (off_t)j->hashed);

		if (n <= 0) {
			fail_local(j, n < 0 ? errno : 0, "read");
			return;
		}
		if (j->sink != NULL) {
			if ((uint64_t)n > j->size - j->hashed)
				n = (ssize_t)(j->size - j->hashed);
			memcpy(block, j->sink->data + j->hashed, (size_t)n);
		}
		if (hga_hash_update(&j->hash, block, (size_t)n, &err) < 0) {
			fail(j, &err);
			return;
		}
		j->hashed += (uint64_t)n;
	}
}

static bool check_hash(struct hga_sftp_job *j)
{
	hash_again(j);
	if (j->state == JOB_MOVE)
		hash_end(j);
	if (j->state != JOB_MOVE)
		return false;
	if (j->want_sha256[0] != '\0' &&
	    strcmp(j->want_sha256, j->sha256) != 0) {
		fail_text(j, HGA_PROTOCOL, 0, "ShortTransfer",
		          "the SHA-256 differs");
		return false;
	}
	return true;
}

/* Part -> file. */
static int settle(struct hga_sftp_job *j, const char **doing)
{
	struct timespec ts[2] = {{.tv_sec = j->time}, {.tv_sec = j->time}};

	*doing = "set attributes";
	if ((j->mtime && futimens(j->fd, ts) < 0) ||
	    (j->set_mode && fchmod(j->fd, j->mode & 07777) < 0))
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

static void get_finished(struct hga_sftp_job *j)
{
	const char *doing = "";
	int sys;

	if (j->moved != j->size) {
		fail_short(j, j->moved);
		return;
	}
	if (j->hashing && !check_hash(j))
		return;
	if (j->sink == NULL && !j->discard) {
		sys = settle(j, &doing);
		if (sys != 0) {
			fail_local(j, sys, doing);
			return;
		}
	}
	j->closed = true;
	hga_sftp_ask_handle(j->f, SFTP_CLOSE, hga_buf_str(&j->handle),
	                    hga_sftp_ignore, NULL);
	over(j);
}

static bool make_part(struct hga_sftp_job *j)
{
	mode_t mode = (j->mode & 0777) | 0600;

	if (j->sink != NULL || j->discard)
		return true;
	j->fd = openat(j->dirfd, j->lpart,
	               O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
	               j->set_mode ? 0600 : mode);
	if (j->fd < 0) {
		fail_local(j, errno, "create");
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
	if (!live(j) || f->fatal.kind != HGA_OK)
		return;
	if (!j->have_handle) {
		fail_status(j, r);
		return;
	}
	if (make_part(j))
		j->state = JOB_MOVE;
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

	if (!live(j))
		return;
	if (!hga_sftp_is_attrs(f, r, &a)) {
		fail_status(j, r);
		return;
	}
	if (!S_ISREG(a.mode) || !(a.flags & HGA_ATTR_SIZE)) {
		fail_text(j, HGA_REMOTE, 0,
		          S_ISDIR(a.mode) ? "IsDirectory" : "SftpFailure",
		          S_ISDIR(a.mode) ? "it is a directory"
		                          : "not a regular file");
		return;
	}
	if (a.size > INT64_MAX || (j->max > 0 && a.size > j->max)) {
		fail_text(j, HGA_PROTOCOL, 0, "TooLarge",
		          "the file is larger than allowed");
		return;
	}
	j->size = a.size;
	if (!j->set_mode)
		j->mode = a.mode & 0777;
	j->time = a.mtime;
	if (j->moved_fn != NULL)
		j->moved_fn(j);
	open_get(j);
}

static void begin_get(struct hga_sftp_job *j)
{
	if (j->have_attrs) {
		open_get(j);
		return;
	}
	j->out++;
	hga_sftp_ask_path(j->f, SFTP_STAT, hga_buf_str(&j->remote), on_get_stat,
	                  j);
}

/* ---- jobs ---- */

static void finish_step(struct hga_sftp_job *j)
{
	if (j->state == JOB_FINISH && j->out == 0)
		put_finished(j);
}

static void on_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;

	(void)f; /* set at the start */
	if (j->state == JOB_CLEAN)
		clean_step(j);
	else if (j->put)
		begin_put(j);
	else
		begin_get(j);
}

static bool on_produce(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct hga_sftp_job *j = (struct hga_sftp_job *)u;

	(void)f; /* set at the start */
	return j->put ? produce_put(j) : produce_get(j);
}

/* Position of the last component. */
static size_t base_at(struct hga_str path)
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
static int part_name(struct hga_buf *out, struct hga_str path,
                     struct hga_err *err)
{
	char suffix[PART_LEN + 1];
	size_t base = base_at(path), n = path.n - base;
	int rc = part_suffix(suffix, err);

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
		fail(j, err);
	j->state = j->state == JOB_OVER ? JOB_OVER : JOB_CLEAN;
}

void hga_sftp_job_abandon(struct hga_sftp_job *j)
{
	j->detached = true;
	if (j->state == JOB_OVER)
		return;
	if (!j->put)
		drop_local(j);
	if (j->state == JOB_CLEAN)
		return;
	j->state = JOB_CLEAN;
	/* Before the version is known begin comes and ends it. */
	if (j->f->version)
		clean_step(j);
}

/* ---- operation ---- */

static void op_result(struct hga_sftp_xfer *op, struct hga_sftp_job *j)
{
	op->base.err = j->err;
	op->more = j->more;
	op->done = j->moved;
	op->total = j->size;
	op->atomic = j->atomic;
	memcpy(op->sha256, j->sha256, sizeof(op->sha256));
	/* Taken, so that freeing the job cannot remove it. */
	if (j->hold && j->err.kind == HGA_OK) {
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
	size_t base = base_at(hga_str(path));
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
