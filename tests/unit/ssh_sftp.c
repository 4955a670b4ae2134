/*
 * The SFTP engine without a network: a little server in this program answers
 * the bytes in tx, whole, in single bytes, wrongly, or not to the end; every
 * allocation fails once.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "ssh/sftp_impl.h"
#include "tap.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the server ---- */

#define FILES 4
#define FILE_MAX (400 * 1024)

struct file {
	char name[300];
	unsigned char data[FILE_MAX];
	size_t n;
	bool used;
};

static struct {
	struct file f[FILES];
	struct hga_buf out;
	bool posix_rename, statvfs, full, short_reads, grow, wrong_size;
	const char *bad; /* what goes wrong */
	int requests;
	struct hga_str names[8];
	int n_names;
	bool listed;
} sv;

static struct file *sv_find(struct hga_str name, bool make)
{
	struct file *free_one = NULL;

	for (int i = 0; i < FILES; i++) {
		if (sv.f[i].used && hga_str_eqc(name, sv.f[i].name))
			return &sv.f[i];
		if (!sv.f[i].used && free_one == NULL)
			free_one = &sv.f[i];
	}
	if (!make || free_one == NULL)
		return NULL;
	snprintf(free_one->name, sizeof(free_one->name), "%.*s",
	         HGA_STRF(name));
	free_one->used = true;
	free_one->n = 0;
	return free_one;
}

static void o32(uint32_t v)
{
	char p[4] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};

	if (hga_buf_add(&sv.out, p, 4, NULL) < 0)
		abort();
}

static void ostr(struct hga_str s)
{
	o32((uint32_t)s.n);
	if (hga_buf_addstr(&sv.out, s, NULL) < 0)
		abort();
}

static size_t obegin(uint8_t type, uint32_t id)
{
	size_t at = sv.out.len;

	o32(0);
	if (hga_buf_addc(&sv.out, (char)type, NULL) < 0)
		abort();
	o32(id);
	return at;
}

static void oend(size_t at)
{
	uint32_t n = (uint32_t)(sv.out.len - at - 4);

	for (int i = 0; i < 4; i++)
		sv.out.data[at + (size_t)i] = (char)(n >> (24 - 8 * i));
}

static void ostatus(uint32_t id, uint32_t status)
{
	size_t at = obegin(SFTP_STATUS, id);

	o32(status);
	ostr(HGA_STR("text"));
	ostr(HGA_STR(""));
	oend(at);
}

static void oattrs(uint64_t size, uint32_t mode)
{
	o32(HGA_ATTR_SIZE | HGA_ATTR_MODE | HGA_ATTR_TIMES);
	o32((uint32_t)(size >> 32));
	o32((uint32_t)size);
	o32(mode);
	o32(1000);
	o32(2000);
}

static void sv_version(void)
{
	size_t at = sv.out.len;

	o32(0);
	if (hga_buf_addc(&sv.out, SFTP_VERSION, NULL) < 0)
		abort();
	o32(3);
	if (sv.posix_rename) {
		ostr(HGA_STR("posix-rename@openssh.com"));
		ostr(HGA_STR("1"));
	}
	if (sv.statvfs) {
		ostr(HGA_STR("statvfs@openssh.com"));
		ostr(HGA_STR("2"));
	}
	oend(at);
}

static uint64_t r64(struct hga_str b, size_t *at)
{
	uint32_t hi = 0, lo = 0;

	if (!hga_wire_u32(b, at, &hi) || !hga_wire_u32(b, at, &lo))
		abort();
	return (uint64_t)hi << 32 | lo;
}

static void sv_read(uint32_t id, struct file *f, struct hga_str b, size_t at)
{
	uint64_t off = r64(b, &at);
	uint32_t n = 0;
	size_t end = f->n + (sv.grow ? 10 : 0), start;

	(void)hga_wire_u32(b, &at, &n);
	if (off >= end) {
		ostatus(id, FX_EOF);
		return;
	}
	if (n > end - off)
		n = (uint32_t)(end - off);
	if (sv.short_reads && n > 7)
		n = n / 2;
	start = obegin(SFTP_DATA, id);
	ostr(hga_strn((char *)f->data + off, n));
	oend(start);
}

static void sv_write(uint32_t id, struct file *f, struct hga_str b, size_t at)
{
	uint64_t off = r64(b, &at);
	struct hga_str d;

	if (!hga_wire_str(b, &at, &d) || off + d.n > FILE_MAX)
		abort();
	if (sv.full && off + d.n > 40000) {
		ostatus(id, FX_FAILURE);
		return;
	}
	memcpy(f->data + off, d.s, d.n);
	if (off + d.n > f->n)
		f->n = (size_t)off + d.n;
	ostatus(id, FX_OK);
}

static void sv_stat(uint32_t id, const struct file *f)
{
	size_t at;

	if (f == NULL) {
		ostatus(id, FX_NO_SUCH_FILE);
		return;
	}
	at = obegin(SFTP_ATTRS, id);
	oattrs(sv.wrong_size ? f->n + 100 : f->n, S_IFREG | 0644);
	oend(at);
}

static void sv_names(uint32_t id)
{
	size_t at;

	if (sv.listed) {
		ostatus(id, FX_EOF);
		return;
	}
	sv.listed = true;
	at = obegin(SFTP_NAME, id);
	o32((uint32_t)sv.n_names);
	for (int i = 0; i < sv.n_names; i++) {
		ostr(sv.names[i]);
		ostr(HGA_STR("long"));
		oattrs(1, S_IFREG | 0600);
	}
	oend(at);
}

static void sv_rename(uint32_t id, struct hga_str b, size_t at, bool posix)
{
	struct hga_str from, to;
	struct file *f, *old;

	if (!hga_wire_str(b, &at, &from) || !hga_wire_str(b, &at, &to))
		abort();
	f = sv_find(from, false);
	old = sv_find(to, false);
	if (f == NULL || (old != NULL && !posix)) {
		ostatus(id, f ? FX_FAILURE : FX_NO_SUCH_FILE);
		return;
	}
	if (old != NULL)
		old->used = false;
	snprintf(f->name, sizeof(f->name), "%.*s", HGA_STRF(to));
	ostatus(id, FX_OK);
}

static void sv_extended(uint32_t id, struct hga_str b)
{
	struct hga_str name;
	size_t at = 0, start;

	if (!hga_wire_str(b, &at, &name))
		abort();
	if (hga_str_eqc(name, "posix-rename@openssh.com")) {
		sv_rename(id, b, at, true);
		return;
	}
	if (!hga_str_eqc(name, "statvfs@openssh.com"))
		abort();
	start = obegin(SFTP_EXTENDED_REPLY, id);
	for (int i = 0; i < 11; i++) {
		o32(0);
		o32(i < 2 ? 4096 : i == 4 && !sv.full ? 1000000 : 0);
	}
	oend(start);
}

static void sv_request(uint8_t type, uint32_t id, struct hga_str b)
{
	struct hga_str s = HGA_STR("");
	struct file *f;
	size_t at = 0, start;

	sv.requests++;
	if (type == SFTP_EXTENDED) {
		sv_extended(id, b);
		return;
	}
	if (!hga_wire_str(b, &at, &s))
		abort();
	f = sv_find(s, type == SFTP_OPEN && b.n > at + 3 &&
	                   (b.s[at + 3] & FXF_CREAT));
	switch (type) {
	case SFTP_OPEN:
	case SFTP_OPENDIR:
		if (f == NULL && type == SFTP_OPEN) {
			ostatus(id, FX_NO_SUCH_FILE);
			return;
		}
		start = obegin(SFTP_HANDLE, id);
		ostr(s);
		oend(start);
		return;
	case SFTP_READ:
		sv_read(id, f, b, at);
		return;
	case SFTP_WRITE:
		sv_write(id, f, b, at);
		return;
	case SFTP_STAT:
	case SFTP_FSTAT:
		sv_stat(id, f);
		return;
	case SFTP_READDIR:
		sv_names(id);
		return;
	case SFTP_RENAME:
		sv_rename(id, b, 0, false);
		return;
	case SFTP_REMOVE:
		if (f != NULL)
			f->used = false;
		ostatus(id, f ? FX_OK : FX_NO_SUCH_FILE);
		return;
	default:
		ostatus(id, FX_OK);
		return;
	}
}

/* Takes whole requests out of tx. */
static bool sv_take(struct hga_sftp *f)
{
	struct hga_str in =
	    hga_strn(f->tx.data + f->tx_at, f->tx.len - f->tx_at);
	size_t at = 0;
	uint32_t n, id;

	if (!hga_wire_u32(in, &at, &n) || in.n - at < n)
		return false;
	f->tx_at += 4 + n;
	if (in.s[4] == SFTP_INIT) {
		sv_version();
	} else {
		at = 5;
		if (!hga_wire_u32(in, &at, &id))
			abort();
		sv_request((uint8_t)in.s[4], id, hga_strn(in.s + 9, n - 5));
	}
	if (f->tx_at == f->tx.len) {
		hga_buf_clear(&f->tx);
		f->tx_at = 0;
	}
	return true;
}

static void sv_reset(void)
{
	struct hga_buf out = sv.out;

	memset(&sv, 0, sizeof(sv));
	sv.out = out;
	hga_buf_clear(&sv.out);
	sv.out.max = 16 << 20;
	sv.posix_rename = true;
}

/* ---- driving ---- */

static struct {
	bool done;
	struct hga_err err;
	struct hga_sftp_more more;
	bool atomic;
} res;

static void on_done(struct hga_sftp_job *j)
{
	res.done = true;
	res.err = j->err;
	res.more = j->more;
	res.atomic = j->atomic;
	hga_sftp_job_free(j);
}

/* Moves bytes until nothing moves; step bytes at a time; cut after so many.
 * False: the engine is at its end (err). */
static bool drive(struct hga_sftp *f, size_t step, size_t cut,
                  struct hga_err *err)
{
	size_t fed = 0;
	bool moved = true;

	while (moved) {
		moved = hga_sftp_produce(f);
		if (f->fatal.kind != HGA_OK) {
			*err = f->fatal;
			return false;
		}
		while (sv_take(f))
			moved = true;
		while (sv.out.len > 0) {
			size_t n = sv.out.len < step ? sv.out.len : step;

			if (fed + n > cut)
				n = cut - fed;
			if (n == 0)
				return true;
			if (hga_sftp_feed(f, sv.out.data, n, err) < 0)
				return false;
			hga_buf_consume(&sv.out, n);
			fed += n;
			moved = true;
		}
	}
	return true;
}

static struct hga_sftp_job *put_job(const char *data, size_t n,
                                    struct hga_err *err)
{
	struct hga_sftp_job *j =
	    hga_sftp_job_new(true, HGA_STR("dir/name"), err);

	if (j == NULL)
		return NULL;
	j->mem = hga_strn(data, n);
	j->size = n;
	j->check_target = true;
	j->done = on_done;
	return j;
}

static struct hga_sftp_job *get_job(struct hga_buf *sink, struct hga_err *err)
{
	struct hga_sftp_job *j = hga_sftp_job_new(false, HGA_STR("file"), err);

	if (j == NULL)
		return NULL;
	j->sink = sink;
	j->max = 1 << 20;
	j->done = on_done;
	return j;
}

/* One transfer to its end; false when the engine died. */
static bool run_job(struct hga_sftp_job *j, size_t step)
{
	struct hga_sftp *f = hga_sftp_engine_new(NULL);
	struct hga_err err = {.kind = HGA_OK};
	bool alive;

	memset(&res, 0, sizeof(res));
	hga_sftp_job_start(f, j);
	alive = drive(f, step, SIZE_MAX, &err);
	if (alive)
		(void)hga_fail(&err, HGA_NET, 0, "End", "end");
	hga_sftp_end(f, &err);
	return alive;
}

static char data[300000];

static void test_put(void)
{
	struct hga_err err;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7 + i / 1000);
	for (size_t step = 1; step < 100000; step *= 50) {
		size_t n = step == 1 ? 70000 : sizeof(data);

		sv_reset();
		ok(run_job(put_job(data, n, &err), step) && res.done &&
		       res.err.kind == 0 && res.atomic,
		   "put, answers in pieces of %zu: %s", step, res.err.msg);
		ok(sv.f[0].used && strcmp(sv.f[0].name, "dir/name") == 0 &&
		       sv.f[0].n == n && memcmp(sv.f[0].data, data, n) == 0,
		   "it is there, whole");
	}
	sv_reset();
	sv.posix_rename = false;
	(void)sv_find(HGA_STR("dir/name"), true);
	ok(run_job(put_job(data, 10, &err), 1000) && res.err.kind == 0 &&
	       !res.atomic,
	   "a server without posix-rename: not atomic");
	sv_reset();
	sv.full = sv.statvfs = true;
	(void)sv_find(HGA_STR("dir/name"), true);
	ok(run_job(put_job(data, sizeof(data), &err), 1000) &&
	       strcmp(res.err.code, "NoSpace") == 0,
	   "a full disk: %s", res.err.msg);
	ok(sv.f[0].used && !sv.f[1].used,
	   "the old file stays, the part is gone");
	sv_reset();
	sv.wrong_size = true;
	ok(run_job(put_job(data, 1000, &err), 1000) &&
	       strcmp(res.err.code, "ShortTransfer") == 0 && !sv.f[0].used,
	   "another size on the server: %s", res.err.msg);
}

static void test_get(void)
{
	struct hga_buf sink;
	struct hga_err err;

	for (size_t step = 1; step < 100000; step *= 50) {
		struct file *file;

		sv_reset();
		sv.short_reads = step == 50;
		file = sv_find(HGA_STR("file"), true);
		file->n = step == 1 ? 70000 : sizeof(data);
		memcpy(file->data, data, file->n);
		hga_buf_init(&sink, 1 << 20);
		ok(run_job(get_job(&sink, &err), step) && res.done &&
		       res.err.kind == 0,
		   "get, answers in pieces of %zu: %s", step, res.err.msg);
		ok(sink.len == file->n && memcmp(sink.data, data, file->n) == 0,
		   "the same bytes");
		hga_buf_release(&sink);
	}
	sv_reset();
	ok(run_job(get_job(&sink, &err), 100) && res.err.kind == HGA_NOTFOUND,
	   "a missing file: %s", res.err.msg);
	hga_buf_release(&sink);
}

static void test_get_file(void)
{
	char dir[] = "/tmp/hga-sftp-XXXXXX";
	struct hga_sftp_job *j;
	struct hga_err err;
	struct file *file;
	int fds[2];

	if (mkdtemp(dir) == NULL)
		abort();
	for (int i = 0; i < 3; i++) {
		sv_reset();
		file = sv_find(HGA_STR("file"), true);
		file->n = 1000;
		sv.grow = i == 1;
		sv.wrong_size = i == 2;
		j = hga_sftp_job_new(false, HGA_STR("file"), &err);
		j->done = on_done;
		fds[0] = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ok(hga_sftp_job_into(j, fds[0], "local", &err) == 0, "target");
		run_job(j, 100);
		if (i == 0)
			ok(res.err.kind == 0, "a file: %s", res.err.msg);
		else
			is_str(res.err.code, "ShortTransfer",
			       i == 1 ? "more than announced"
			              : "less than announced");
		printf("# %s\n", res.err.msg);
		fds[1] = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ok((faccessat(fds[1], "local", F_OK, 0) == 0) == (i == 0), "%s",
		   i == 0 ? "it is there" : "nothing is left");
		(void)unlinkat(fds[1], "local", 0);
		close(fds[1]);
	}
	ok(rmdir(dir) == 0, "no part is left");
}

/* ---- listings ---- */

static struct hga_err list_err;
static size_t list_n;

static void on_list(struct hga_sftp *f, struct hga_sftp_lister *l)
{
	(void)f;
	list_err = l->err;
	list_n = l->n;
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
	list_err = *err;
}

static void run_list(void)
{
	struct hga_sftp *f = hga_sftp_engine_new(NULL);
	struct hga_sftp_user u = {.begin = begin_list, .fail = fail_list};
	struct hga_err err;

	memset(&lister, 0, sizeof(lister));
	memset(&list_err, 0, sizeof(list_err));
	list_n = 0;
	lister.path = HGA_STR("d");
	lister.done = on_list;
	hga_sftp_link(f, &u);
	if (drive(f, 10, SIZE_MAX, &err)) {
		hga_sftp_unlink(f, &u);
		(void)hga_fail(&err, HGA_NET, 0, "End", "end");
	}
	hga_sftp_end(f, &err);
	hga_sftp_lister_release(&lister);
}

static void test_names(void)
{
	const struct hga_str bad[] = {
	    HGA_STR(""),          HGA_STR("../up"),     HGA_STR("../../up"),
	    HGA_STR("/abs"),      HGA_STR("a/b"),       HGA_STR("a\0b"),
	    HGA_STR("esc\033[m"), HGA_STR("new\nline"), HGA_STR("\xff\xfe"),
	    HGA_STR("\x7f"),
	};
	char longname[300];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		sv_reset();
		sv.names[0] = HGA_STR("good");
		sv.names[1] = bad[i];
		sv.n_names = 2;
		run_list();
		is_str(list_err.code, "UnsafeName", "an unsafe name");
	}
	memset(longname, 'x', sizeof(longname));
	sv_reset();
	sv.names[0] = hga_strn(longname, 256);
	sv.n_names = 1;
	run_list();
	is_str(list_err.code, "UnsafeName", "256 bytes");
	sv_reset();
	sv.names[0] = hga_strn(longname, 255);
	sv.names[1] = HGA_STR(".");
	sv.names[2] = HGA_STR("..");
	sv.names[3] = HGA_STR("b");
	sv.n_names = 4;
	run_list();
	ok(list_err.kind == 0 && list_n == 2, "255 bytes, dots are left out");
	sv_reset();
	sv.names[0] = sv.names[1] = HGA_STR("twice");
	sv.n_names = 2;
	run_list();
	is_str(list_err.code, "UnsafeName", "a name twice");
	printf("# %s\n", list_err.msg);
}

/* ---- malformed answers ---- */

static void expect_bad(const char *bytes, size_t n, const char *name)
{
	struct hga_sftp *f = hga_sftp_engine_new(NULL);
	struct hga_err err = {.kind = HGA_OK};
	struct hga_buf sink;
	struct hga_sftp_job *j;
	int rc;

	hga_buf_init(&sink, 1 << 20);
	memset(&res, 0, sizeof(res));
	j = get_job(&sink, &err);
	hga_sftp_job_start(f, j);
	rc = hga_sftp_feed(f, "\0\0\0\5\2\0\0\0\3", 9, &err);
	if (rc == 0)
		rc = hga_sftp_feed(f, bytes, n, &err);
	ok(rc < 0 && err.kind == HGA_PROTOCOL, "%s: %s", name, err.msg);
	hga_sftp_end(f, &err);
	ok(res.done && res.err.kind == HGA_PROTOCOL,
	   "the transfer ends with it");
	hga_buf_release(&sink);
}

static void test_malformed(void)
{
	expect_bad("\0\0\0\0", 4, "empty frame");
	expect_bad("\xff\xff\xff\xff", 4, "endless frame");
	expect_bad("\0\4\4\1", 4, "frame of 257 KiB and a byte");
	expect_bad("\0\0\0\1e", 5, "no id");
	expect_bad("\0\0\0\5e\0\0\0\1", 9, "unknown id");
	expect_bad("\0\0\0\5e\0\0\0\0", 9, "id 0");
	/* The first request has sequence 1, slot 0. */
	expect_bad("\0\0\0\5e\0\0\x10\0", 9, "status without a code");
	expect_bad("\0\0\0\5i\0\0\x10\0", 9, "attributes without flags");
	expect_bad("\0\0\0\x9i\0\0\x10\0\0\0\0\1", 13, "size without bytes");
	expect_bad("\0\0\0\x9g\0\0\x10\0\0\0\0\1", 13, "data for a stat");
	expect_bad("\0\0\0\x9i\0\0\x10\0\x80\0\0\0", 13, "extended, no count");
	expect_bad("\0\0\0\xdi\0\0\x10\0\x80\0\0\0\xff\xff\xff\xff", 17,
	           "extended count");
}

/* ---- cuts and failing allocations ---- */

static void test_cuts(void)
{
	struct hga_err err;
	size_t total = 0, good = 0, cuts = 0;

	for (size_t cut = 0;; cut++) {
		struct hga_sftp *f = hga_sftp_engine_new(NULL);
		struct hga_sftp_job *j;
		bool all;

		sv_reset();
		memset(&res, 0, sizeof(res));
		j = put_job(data, 5000, &err);
		hga_sftp_job_start(f, j);
		err.kind = HGA_OK;
		(void)drive(f, 64, cut, &err);
		all = sv.out.len == 0 && res.done;
		if (!res.done)
			(void)hga_fail(&err, HGA_NET, 0, "ConnectionLost",
			               "cut");
		hga_sftp_end(f, &err);
		cuts++;
		good += res.done &&
		        (all ? res.err.kind == 0 : res.err.kind == HGA_NET);
		total = cut;
		if (all)
			break;
	}
	ok(good == cuts && total > 100,
	   "a put cut at each of %zu bytes ends once, with an error", total);
}

static void test_torture(void)
{
	struct hga_err err;
	struct hga_buf sink;
	unsigned long n;
	int ends = 0, runs = 0;

	for (n = 1; n < 2000; n++) {
		struct hga_sftp *f;
		struct hga_sftp_job *put, *get;
		bool failed;

		sv_reset();
		(void)sv_find(HGA_STR("file"), true);
		if (hga_buf_reserve(&sv.out, 1 << 20, NULL) < 0)
			abort();
		hga_buf_init(&sink, 1 << 20);
		memset(&res, 0, sizeof(res));
		hga_mem_torture(n, false);
		f = hga_sftp_engine_new(NULL);
		put = f ? put_job(data, 3000, &err) : NULL;
		get = f ? get_job(&sink, &err) : NULL;
		err.kind = HGA_OK;
		if (put != NULL)
			hga_sftp_job_start(f, put);
		if (get != NULL)
			hga_sftp_job_start(f, get);
		if (f != NULL) {
			(void)drive(f, 10000, SIZE_MAX, &err);
			if (err.kind == HGA_OK)
				(void)hga_fail(&err, HGA_NET, 0, "End", "end");
			hga_sftp_end(f, &err);
		}
		failed = hga_mem_count() >= n;
		hga_mem_torture(0, false);
		hga_buf_release(&sink);
		runs++;
		ends += res.done || put == NULL || f == NULL;
		if (!failed)
			break;
	}
	is_int(ends, runs, "each failing allocation ends the transfers");
	ok(runs > 10, "%d allocations", runs);
}

int main(void)
{
	test_put();
	test_get();
	test_get_file();
	test_names();
	test_malformed();
	test_cuts();
	test_torture();
	hga_buf_release(&sv.out);
	return done();
}
