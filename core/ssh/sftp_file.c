/*
 * Open remote files.  An operation that was cancelled stays in the engine
 * until its answers have come; it holds a reference on the file.
 */
#include "ssh/sftp_file.h"

#include "base/mem.h"
#include "ssh/sftp_impl.h"

#include <string.h>

#define PATH_MAX_BYTES 4096

struct hga_sftp_file {
	unsigned refs;
	struct hga_ssh *ssh;
	uint64_t gen; /* of the engine */
	bool closed;
	struct hga_buf handle, path;
};

/* One operation on a file, or its opening. */
struct io {
	struct hga_sftp_user user;
	struct hga_sftp *f;
	struct hga_sftp_file *file;
	struct hga_sftp_open *open; /* these two: NULL when cancelled */
	struct hga_sftp_io *op;
	bool opening;
	unsigned flags; /* of opening */
	uint32_t mode;
	enum hga_sftp_io_what what;
	uint64_t off, end; /* READ: end of what there is, as far as known */
	unsigned out;
	struct hga_err err;
	struct hga_sftp_more more;
};

static const char *const io_names[] = {
    [HGA_SFTP_IO_READ] = "read",  [HGA_SFTP_IO_WRITE] = "write",
    [HGA_SFTP_IO_STAT] = "stat",  [HGA_SFTP_IO_TRUNCATE] = "truncate",
    [HGA_SFTP_IO_SYNC] = "fsync", [HGA_SFTP_IO_CLOSE] = "close",
};

/* ---- files ---- */

static struct hga_sftp *engine_of(const struct hga_sftp_file *file)
{
	struct hga_sftp *f = file->ssh->sftp;

	return f != NULL && f->gen == file->gen ? f : NULL;
}

static void file_unref(struct hga_sftp_file *file)
{
	if (--file->refs > 0)
		return;
	hga_ssh_unref(file->ssh);
	hga_buf_release(&file->handle);
	hga_buf_release(&file->path);
	hga_free(file);
}

static struct hga_sftp_file *file_new(struct hga_ssh *ssh, struct hga_sftp *f,
                                      struct hga_str path, struct hga_err *err)
{
	struct hga_sftp_file *file = hga_calloc(1, sizeof(*file));

	if (file == NULL) {
		(void)hga_fail_mem(err); /* NULL tells */
		return NULL;
	}
	file->refs = 1;
	file->ssh = hga_ssh_ref(ssh);
	file->gen = f->gen;
	file->closed = true; /* until it is open */
	hga_buf_init(&file->path, PATH_MAX_BYTES + 16);
	if (hga_sftp_path(ssh, path, &file->path, err) < 0) {
		file_unref(file);
		return NULL;
	}
	return file;
}

void hga_sftp_file_free(struct hga_sftp_file *file)
{
	struct hga_sftp *f;

	if (file == NULL)
		return;
	f = engine_of(file);
	if (!file->closed && f != NULL)
		hga_sftp_ask_handle(f, SFTP_CLOSE, hga_buf_str(&file->handle),
		                    hga_sftp_ignore, NULL);
	file->closed = true;
	file_unref(file);
}

/* ---- operations ---- */

static void io_end(struct io *io)
{
	struct hga_sftp_open *open = io->open;
	struct hga_sftp_io *op = io->op;

	if (open != NULL) {
		open->impl = NULL;
		open->base.err = io->err;
		open->more = io->more;
		if (io->err.kind == HGA_OK) {
			open->file = io->file;
			io->file = NULL;
		}
	} else if (op != NULL) {
		op->impl = NULL;
		op->base.err = io->err;
		op->more = io->more;
	}
	hga_sftp_file_free(io->opening ? io->file : NULL);
	if (!io->opening && io->file != NULL)
		file_unref(io->file);
	hga_free(io);
	if (open != NULL)
		hga_op_finish(&open->base);
	else if (op != NULL)
		hga_op_finish(&op->base);
}

static void io_over(struct io *io)
{
	hga_sftp_unlink(io->f, &io->user);
	io_end(io);
}

static void io_fail(struct hga_sftp *f, struct hga_sftp_user *u,
                    const struct hga_err *err)
{
	struct io *io = (struct io *)u;

	(void)f; /* about to go */
	if (io->err.kind == HGA_OK)
		io->err = *err;
	io->file->closed = true;
	io_end(io);
}

static void io_status(struct io *io, const struct hga_sftp_reply *r,
                      const char *doing, uint64_t off)
{
	if (io->err.kind != HGA_OK || io->f->fatal.kind != HGA_OK)
		return;
	hga_sftp_status_err(io->f, r, doing, hga_buf_str(&io->file->path),
	                    &io->err, &io->more);
	io->more.offset = (int64_t)off;
}

static void ask_read(struct io *io, uint64_t off, uint32_t n);

/* What came for off; anything missing in front of the end is asked again. */
static void take_data(struct io *io, const struct hga_sftp_reply *r)
{
	struct hga_str d;
	size_t at = 0;

	if (r->type != SFTP_DATA || !hga_wire_str(r->body, &at, &d) ||
	    d.n == 0 || d.n > r->len) {
		hga_sftp_bad(io->f, "data");
		return;
	}
	if (io->op != NULL)
		memcpy(io->op->data.data + (r->off - io->off), d.s, d.n);
	if (d.n < r->len)
		ask_read(io, r->off + d.n, r->len - (uint32_t)d.n);
}

static void on_io(struct hga_sftp *f, void *ctx, const struct hga_sftp_reply *r)
{
	struct io *io = ctx;
	struct hga_sftp_attrs a;

	io->out--;
	switch (io->what) {
	case HGA_SFTP_IO_READ:
		if (r->type != SFTP_STATUS)
			take_data(io, r);
		else if (r->status != FX_EOF)
			io_status(io, r, "read", r->off);
		else if (r->off < io->end)
			io->end = r->off;
		break;
	case HGA_SFTP_IO_STAT:
		if (!hga_sftp_is_attrs(f, r, &a))
			io_status(io, r, "stat", 0);
		else if (io->op != NULL)
			io->op->attrs = a;
		break;
	case HGA_SFTP_IO_WRITE:
	case HGA_SFTP_IO_TRUNCATE:
	case HGA_SFTP_IO_SYNC:
	case HGA_SFTP_IO_CLOSE:
		if (!hga_sftp_is_ok(f, r))
			io_status(io, r, io_names[io->what], r->off);
		break;
	}
	if (io->out > 0 || f->fatal.kind != HGA_OK)
		return;
	if (io->what == HGA_SFTP_IO_READ && io->op != NULL)
		hga_buf_truncate(&io->op->data, (size_t)(io->end - io->off));
	io_over(io);
}

static void ask_read(struct io *io, uint64_t off, uint32_t n)
{
	hga_sftp_put_begin(io->f, SFTP_READ, on_io, io, off, n);
	hga_sftp_put_str(io->f, hga_buf_str(&io->file->handle));
	hga_sftp_put_u64(io->f, off);
	hga_sftp_put_u32(io->f, n);
	hga_sftp_put_send(io->f);
	io->out++;
}

static void ask_reads(struct io *io)
{
	for (uint64_t at = io->off; at < io->end;) {
		uint64_t n = io->end - at;

		if (n > io->f->read_size)
			n = io->f->read_size;
		ask_read(io, at, (uint32_t)n);
		at += n;
	}
}

static void ask_writes(struct io *io, struct hga_str text)
{
	for (size_t at = 0; at < text.n;) {
		size_t n = text.n - at;

		if (n > io->f->write_size)
			n = io->f->write_size;
		hga_sftp_put_begin(io->f, SFTP_WRITE, on_io, io, io->off + at,
		                   (uint32_t)n);
		hga_sftp_put_str(io->f, hga_buf_str(&io->file->handle));
		hga_sftp_put_u64(io->f, io->off + at);
		hga_sftp_put_str(io->f, hga_strn(text.s + at, n));
		hga_sftp_put_send(io->f);
		io->out++;
		at += n;
	}
}

static void ask_truncate(struct io *io)
{
	struct hga_sftp_attrs a = {.flags = HGA_ATTR_SIZE, .size = io->off};

	hga_sftp_put_begin(io->f, SFTP_FSETSTAT, on_io, io, io->off, 0);
	hga_sftp_put_str(io->f, hga_buf_str(&io->file->handle));
	hga_sftp_put_attrs(io->f, &a);
	hga_sftp_put_send(io->f);
	io->out++;
}

static void ask_handle(struct io *io, uint8_t type, const char *name)
{
	hga_sftp_put_begin(io->f, type, on_io, io, 0, 0);
	if (name != NULL)
		hga_sftp_put_str(io->f, hga_str(name));
	hga_sftp_put_str(io->f, hga_buf_str(&io->file->handle));
	hga_sftp_put_send(io->f);
	io->out++;
}

static void io_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	/* Requests are sent by the start: a file is open, the version known. */
	(void)f;
	(void)u;
}

static void io_cancel(struct hga_op *base)
{
	struct hga_sftp_io *op = (struct hga_sftp_io *)base;
	struct io *io = op->impl;

	/* The answers still come; it waits for them alone. */
	if (io != NULL)
		io->op = NULL;
	op->impl = NULL;
	hga_op_drop(base);
}

static int io_check(struct hga_sftp_file *file,
                    const struct hga_sftp_io_args *args, struct hga_err *err)
{
	struct hga_sftp *f = engine_of(file);

	if (f == NULL)
		return hga_fail(err, HGA_NET, 0, "ConnectionLost",
		                "sftp %s: the connection that had %.200s open "
		                "is gone; open it again",
		                file->ssh->name, hga_buf_text(&file->path));
	if (file->closed)
		return hga_fail(err, HGA_USAGE, 0, "Closed",
		                "sftp %s: %.200s is closed", file->ssh->name,
		                hga_buf_text(&file->path));
	if (args->length > HGA_SFTP_IO_MAX || args->text.n > HGA_SFTP_IO_MAX ||
	    args->offset > INT64_MAX - HGA_SFTP_IO_MAX)
		return hga_fail(err, HGA_USAGE, 0, "Range",
		                "sftp %s: at most %d bytes at once",
		                file->ssh->name, HGA_SFTP_IO_MAX);
	if (args->what == HGA_SFTP_IO_SYNC && !(f->ext & EXT_FSYNC))
		return hga_fail(err, HGA_REMOTE, 0, "Unsupported",
		                "sftp %s: the server cannot sync files",
		                file->ssh->name);
	if ((args->what == HGA_SFTP_IO_READ && args->length == 0) ||
	    (args->what == HGA_SFTP_IO_WRITE && args->text.n == 0))
		return hga_fail(err, HGA_USAGE, 0, "Range",
		                "sftp %s: no bytes to %s", file->ssh->name,
		                io_names[args->what]);
	return 0;
}

static void io_ask(struct io *io, const struct hga_sftp_io_args *args)
{
	switch (args->what) {
	case HGA_SFTP_IO_READ:
		ask_reads(io);
		return;
	case HGA_SFTP_IO_WRITE:
		ask_writes(io, args->text);
		return;
	case HGA_SFTP_IO_STAT:
		ask_handle(io, SFTP_FSTAT, NULL);
		return;
	case HGA_SFTP_IO_TRUNCATE:
		ask_truncate(io);
		return;
	case HGA_SFTP_IO_SYNC:
		ask_handle(io, SFTP_EXTENDED, "fsync@openssh.com");
		return;
	case HGA_SFTP_IO_CLOSE:
		io->file->closed = true;
		ask_handle(io, SFTP_CLOSE, NULL);
		return;
	}
}

int hga_sftp_io_start(struct hga_sftp_file *file, struct hga_sftp_io *op,
                      const struct hga_sftp_io_args *args, struct hga_err *err)
{
	int rc = io_check(file, args, err);
	struct io *io = rc == 0 ? hga_calloc(1, sizeof(*io)) : NULL;

	if (rc < 0)
		return rc;
	if (io == NULL)
		return hga_fail_mem(err);
	hga_buf_init(&op->data, HGA_SFTP_IO_MAX);
	if (args->what == HGA_SFTP_IO_READ) {
		rc = hga_buf_reserve(&op->data, args->length, err);
		if (rc < 0) {
			hga_free(io);
			return rc;
		}
		op->data.len = args->length;
	}
	io->f = engine_of(file);
	io->file = file;
	file->refs++;
	io->op = op;
	io->what = args->what;
	io->off = args->offset;
	io->end = args->offset + args->length;
	io->more.offset = io->more.status = -1;
	io->user.begin = io_begin;
	io->user.fail = io_fail;
	op->impl = io;
	hga_op_begin(&op->base, io_cancel);
	hga_sftp_link(io->f, &io->user);
	io_ask(io, args);
	return 0;
}

void hga_sftp_io_release(struct hga_sftp_io *op)
{
	hga_op_cancel(&op->base);
	hga_buf_release(&op->data);
}

/* ---- opening ---- */

static void on_opened(struct hga_sftp *f, void *ctx,
                      const struct hga_sftp_reply *r)
{
	struct io *io = ctx;

	if (hga_sftp_is_handle(f, r, &io->file->handle))
		io->file->closed = false;
	else if (f->fatal.kind != HGA_OK)
		return; /* the engine's end fails it */
	else
		io_status(io, r, "open", 0);
	io_over(io);
}

static void open_begin(struct hga_sftp *f, struct hga_sftp_user *u)
{
	struct io *io = (struct io *)u;
	struct hga_sftp_attrs a = {.flags = HGA_ATTR_MODE, .mode = io->mode};

	if (io->open == NULL) { /* cancelled before the version was known */
		io_over(io);
		return;
	}
	io->file->gen = f->gen;
	if (!(io->flags & HGA_SFTP_CREATE))
		a.flags = 0;
	hga_sftp_ask_open(f, hga_buf_str(&io->file->path), io->flags, &a,
	                  on_opened, io);
}

static void open_cancel(struct hga_op *base)
{
	struct hga_sftp_open *op = (struct hga_sftp_open *)base;
	struct io *io = op->impl;

	if (io != NULL)
		io->open = NULL;
	op->impl = NULL;
	hga_op_drop(base);
}

int hga_sftp_open_start(struct hga_ssh *ssh, struct hga_sftp_open *op,
                        struct hga_str path, unsigned flags, uint32_t mode,
                        struct hga_err *err)
{
	struct hga_sftp *f;
	struct io *io;
	int rc = hga_sftp_get(ssh, &f, err);

	if (rc < 0)
		return rc;
	io = hga_calloc(1, sizeof(*io));
	if (io == NULL)
		return hga_fail_mem(err);
	io->file = file_new(ssh, f, path, err);
	if (io->file == NULL) {
		hga_free(io);
		return -(int)err->kind;
	}
	io->f = f;
	io->open = op;
	io->opening = true;
	io->flags = flags;
	io->mode = mode & 07777;
	io->more.offset = io->more.status = -1;
	io->user.begin = open_begin;
	io->user.fail = io_fail;
	op->file = NULL;
	op->impl = io;
	hga_op_begin(&op->base, open_cancel);
	hga_sftp_link(f, &io->user);
	return 0;
}

void hga_sftp_open_release(struct hga_sftp_open *op)
{
	hga_op_cancel(&op->base);
	hga_sftp_file_free(op->file);
	op->file = NULL;
}
