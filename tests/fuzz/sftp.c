/*
 * Fuzz target: answers of an SFTP server to a put, a get, a listing, trees both
 * ways, single operations and an open file, all on their way together.
 *
 * Input: records of a head byte (bit 7: take the id from the record, else that
 * of the oldest request not answered yet; the rest: which request), a type
 * byte, a length byte (times 4 with bit 7 set) and that many bytes of body.
 */
#include "base/fs.h"
#include "ssh/sftp_file.h"
#include "ssh/sftp_impl.h"
#include "ssh/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define IDS 64

static struct {
	uint32_t v[IDS];
	size_t n;
} ids;

static int ends;
static char dir[64], source[80], target[80];

static void remove_dir(void)
{
	if (hga_fs_rmtree(dir, NULL) < 0)
		fprintf(stderr, "cannot remove %s\n", dir);
}

static void make_dirs(void)
{
	char path[128];
	int fd;

	snprintf(dir, sizeof(dir), "/tmp/hga-fuzz-XXXXXX");
	if (mkdtemp(dir) == NULL)
		abort();
	snprintf(source, sizeof(source), "%s/from", dir);
	snprintf(target, sizeof(target), "%s/to", dir);
	snprintf(path, sizeof(path), "%s/f", source);
	if (mkdir(source, 0700) < 0)
		abort();
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "text", 4) != 4 || close(fd) < 0)
		abort();
	atexit(remove_dir);
}

/* A session that is ready and never pumped: its engine is fed by hand. */
static struct hga_ssh fake;

static struct {
	struct hga_tree get, put;
	struct hga_sftp_call call[4];
	struct hga_sftp_open open;
	struct hga_sftp_io io;
	struct hga_sftp_xfer xfer;
} ops;

static void on_op(struct hga_op *op)
{
	(void)op;
	ends++;
}

static void start_ops(void)
{
	static const enum hga_sftp_what what[4] = {
	    HGA_SFTP_STAT, HGA_SFTP_LIST, HGA_SFTP_READLINK, HGA_SFTP_STATVFS};
	struct hga_tree_args t = {.local = target,
	                          .remote = HGA_STR("t"),
	                          .links = HGA_LINKS_FOLLOW,
	                          .mtime = true};
	struct hga_sftp_xfer_args x = {
	    .remote = HGA_STR("x"), .mode = -1, .max = 4096};
	struct hga_err err;

	memset(&ops, 0, sizeof(ops));
	ops.get.base.done = ops.put.base.done = on_op;
	ops.open.base.done = ops.xfer.base.done = on_op;
	if (hga_tree_start(&fake, &ops.get, &t, &err) < 0)
		abort();
	t.put = t.newer = true;
	t.local = source;
	if (hga_tree_start(&fake, &ops.put, &t, &err) < 0 ||
	    hga_sftp_open_start(&fake, &ops.open, HGA_STR("o"), HGA_SFTP_R, 0,
	                        &err) < 0 ||
	    hga_sftp_xfer_start(&fake, &ops.xfer, &x, &err) < 0)
		abort();
	for (int i = 0; i < 4; i++) {
		struct hga_sftp_call_args a = {.what = what[i],
		                               .path = HGA_STR("c")};

		ops.call[i].base.done = on_op;
		if (hga_sftp_call_start(&fake, &ops.call[i], &a, &err) < 0)
			abort();
	}
}

/* As soon as the file is open it is read. */
static void read_file(void)
{
	struct hga_sftp_io_args a = {.what = HGA_SFTP_IO_READ, .length = 9000};
	struct hga_err err;

	if (ops.open.file == NULL || ops.io.base.state != HGA_OP_IDLE)
		return;
	ops.io.base.done = on_op;
	if (hga_sftp_io_start(ops.open.file, &ops.io, &a, &err) < 0)
		ops.io.base.state = HGA_OP_FINISHED;
}

static void release_ops(void)
{
	hga_tree_release(&ops.get);
	hga_tree_release(&ops.put);
	hga_sftp_io_release(&ops.io);
	hga_sftp_open_release(&ops.open);
	hga_sftp_xfer_release(&ops.xfer);
	for (int i = 0; i < 4; i++) {
		for (size_t k = 0; k < ops.call[i].n_entries; k++)
			if (!hga_sftp_name_safe(ops.call[i].entries[k].name))
				abort();
		hga_sftp_call_release(&ops.call[i]);
	}
}

static void on_done(struct hga_sftp_job *j)
{
	ends++;
	hga_sftp_job_free(j);
}

static void on_list(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	(void)f;
	for (size_t i = 0; l->err.kind == HGA_OK && i < l->n; i++)
		if (!hga_sftp_name_safe(l->v[i].name))
			abort();
}

static struct hga_sftp_lister lister;

static void begin_list(struct hga_sftp *f, struct hga_sftp_user *u)
{
	(void)u;
	hga_sftp_list(f, &lister);
}

static void fail_list(struct hga_sftp *f, struct hga_sftp_user *u,
                      const struct hga_err *err)
{
	(void)f;
	(void)u;
	(void)err;
}

/* Remembers the ids of what was asked. */
static void take(struct hga_sftp *f)
{
	size_t at = f->tx_at;

	while (f->tx.len - at >= 4) {
		struct hga_str in = hga_strn(f->tx.data, f->tx.len);
		uint32_t n, id;
		size_t p = at;

		if (!hga_wire_u32(in, &p, &n) || in.n - p < n)
			abort(); /* our own requests are whole */
		p++;
		if (n >= 5 && in.s[p - 1] != SFTP_INIT &&
		    hga_wire_u32(in, &p, &id) && ids.n < IDS)
			ids.v[ids.n++] = id;
		at += 4 + n;
	}
	hga_buf_clear(&f->tx);
	f->tx_at = 0;
}

static int answer(struct hga_sftp *f, const uint8_t *head, const uint8_t *body,
                  size_t n, struct hga_err *err)
{
	unsigned char frame[9 + 512];
	uint32_t len = (uint32_t)n + 5, id = 0;
	size_t which = head[0] & 63;

	if (!(head[0] & 128) && ids.n > 0) {
		which %= ids.n;
		id = ids.v[which];
		memmove(ids.v + which, ids.v + which + 1,
		        (--ids.n - which) * sizeof(ids.v[0]));
	} else if (n >= 4) {
		memcpy(&id, body, 4);
	}
	for (int i = 0; i < 4; i++) {
		frame[i] = (unsigned char)(len >> (24 - 8 * i));
		frame[5 + i] = (unsigned char)(id >> (24 - 8 * i));
	}
	frame[4] = head[1];
	memcpy(frame + 9, body, n);
	return hga_sftp_feed(f, frame, n + 9, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char version[] = "\0\0\0\5\2\0\0\0\3";
	struct hga_sftp *f;
	struct hga_sftp_user u = {.begin = begin_list, .fail = fail_list};
	struct hga_err err = {.kind = HGA_OK};
	struct hga_sftp_job *put, *get;
	struct hga_buf sink;
	int rc;

	if (*dir == '\0')
		make_dirs();
	memset(&fake, 0, sizeof(fake));
	fake.refs = 1;
	fake.phase = HGA_SSH_READY;
	fake.pumping = true;
	fake.bio.fd = -1;
	fake.name = fake.host = (char[]){"h"};
	f = hga_sftp_engine_new(&fake);
	if (f == NULL)
		abort();
	f->gen = fake.sftp_gen = 1;
	fake.sftp = f;
	ids.n = 0;
	ends = 0;
	memset(&lister, 0, sizeof(lister));
	lister.path = HGA_STR("d");
	lister.done = on_list;
	hga_buf_init(&sink, 4096);
	put = hga_sftp_job_new(true, HGA_STR("d/f"), &err);
	get = hga_sftp_job_new(false, HGA_STR("d/g"), &err);
	put->mem = HGA_STR("some content");
	put->size = 12;
	put->check_target = true;
	get->sink = &sink;
	get->max = 4096;
	put->done = get->done = on_done;
	hga_sftp_job_start(f, put);
	hga_sftp_job_start(f, get);
	hga_sftp_link(f, &u);
	start_ops();
	if (size > 0 && data[0] == 'R') /* raw bytes from the start */
		rc = hga_sftp_feed(f, data + 1, size - 1, &err);
	else
		rc = hga_sftp_feed(f, version, 9, &err);
	for (size_t at = 0; rc == 0 && size - at >= 3 && data[0] != 'R';) {
		size_t n = data[at + 2] & 128 ? (size_t)(data[at + 2] & 127) * 4
		                              : data[at + 2];

		read_file();
		(void)hga_sftp_produce(f);
		take(f);
		if (n > size - at - 3)
			n = size - at - 3;
		rc = answer(f, data + at, data + at + 3, n, &err);
		at += 3 + n;
	}
	if (rc == 0)
		(void)hga_fail(&err, HGA_NET, 0, "End", "end");
	hga_sftp_end(f, &err);
	/* Each ends exactly once: two jobs, eight operations, perhaps a read.
	 */
	if (ends != 10 + (ops.io.base.done != NULL &&
	                  ops.io.base.err.kind != HGA_USAGE &&
	                  ops.io.base.cancel != NULL))
		abort();
	release_ops();
	if (fake.refs != 1)
		abort(); /* somebody holds the session */
	if (access(target, F_OK) == 0 && hga_fs_rmtree(target, NULL) < 0)
		abort(); /* the next input would find it */
	hga_sftp_lister_release(&lister);
	hga_buf_release(&sink);
	return 0;
}
