/* Local files: see the header; rules of reliability.md section 4.1, S8. */
#include "base/fs.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define READ_STEP 65536
#define LOCK_STEP_MS 5

int hga_fs_fail(struct hga_err *err, int sys, const char *what,
                const char *path)
{
	enum hga_kind kind = HGA_IO;

	if (sys == ENOENT || sys == ENOTDIR)
		kind = HGA_NOTFOUND;
	else if (sys == EEXIST)
		kind = HGA_EXISTS;
	else if (sys == ENOMEM)
		kind = HGA_MEMORY;
	return hga_fail(err, kind, sys, strerrorname_np(sys), "cannot %s %s",
	                what, path);
}

int hga_fs_open(const char *path, int flags, unsigned mode, struct hga_err *err)
{
	int fd;

	do {
		fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? hga_fs_fail(err, errno, "open", path) : fd;
}

/* Room for the next piece: a small file needs no more than it is long. */
static size_t read_step(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
	    st.st_size < READ_STEP)
		return (size_t)st.st_size + 1;
	return READ_STEP;
}

int hga_fs_read_fd(int fd, const char *path, size_t max, struct hga_buf *out,
                   struct hga_err *err)
{
	size_t step = read_step(fd);
	size_t start = out->len;
	char extra;

	for (;;) {
		size_t room =
		    out->cap > out->len + 1 ? out->cap - out->len - 1 : 0;
		ssize_t n;
		int r;

		if (room == 0) {
			size_t left = out->max - out->len;

			room = left < step ? left : step;
			step = READ_STEP;
			r = hga_buf_reserve(out, room, err);
			if (r < 0)
				return r;
		}
		/* a full buffer may yet be the whole file */
		n = room ? read(fd, out->data + out->len, room)
		         : read(fd, &extra, 1);
		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return hga_fs_fail(err, errno, "read", path);
		if (room != 0) {
			out->len += (size_t)n;
			out->data[out->len] = '\0';
		}
		if (room == 0 || out->len - start > max)
			return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
			                "%s is larger than %zu bytes", path,
			                max);
	}
}

int hga_fs_read(const char *path, size_t max, struct hga_buf *out,
                struct hga_err *err)
{
	int fd = hga_fs_open(path, O_RDONLY | O_NOCTTY, 0, err);
	int r;

	if (fd < 0)
		return fd;
	r = hga_fs_read_fd(fd, path, max, out, err);
	(void)close(fd); /* was only read */
	return r;
}

int hga_fs_write_fd(int fd, const char *path, const void *p, size_t n,
                    struct hga_err *err)
{
	const char *s = p;

	while (n > 0) {
		ssize_t w = write(fd, s, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return hga_fs_fail(err, errno, "write", path);
		s += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Appends the directory of path: up to its last slash, else ".". */
static int add_dir(struct hga_buf *out, const char *path, struct hga_err *err)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return hga_buf_adds(out, ".", err);
	return hga_buf_add(out, path,
	                   slash == path ? 1 : (size_t)(slash - path), err);
}

int hga_fs_sync_dir(const char *path, struct hga_err *err)
{
	struct hga_buf dir;
	int fd;
	int r;

	hga_buf_init(&dir, 65536);
	r = add_dir(&dir, path, err);
	if (r < 0)
		goto out;
	fd = hga_fs_open(dir.data, O_RDONLY | O_DIRECTORY, 0, err);
	if (fd < 0) {
		r = fd;
		goto out;
	}
	if (fsync(fd) != 0)
		r = hga_fs_fail(err, errno, "sync directory", dir.data);
	(void)close(fd); /* was only read */
out:
	hga_buf_release(&dir);
	return r;
}

/* Name of a temporary file beside path: DIR/.BASE.<8 hex>. */
static int temp_name(struct hga_buf *out, const char *path, struct hga_err *err)
{
	const char *slash = strrchr(path, '/');
	const char *base = slash ? slash + 1 : path;
	uint32_t rnd;
	int r;

	if (getrandom(&rnd, sizeof(rnd), 0) != (ssize_t)sizeof(rnd))
		return hga_fs_fail(err, errno, "name a file beside", path);
	hga_buf_clear(out);
	r = add_dir(out, path, err);
	return r < 0 ? r
	             : hga_buf_addf(out, err, "/.%.200s.%08x", base,
	                            (unsigned)rnd);
}

/* Creates it; the final mode at once, whatever the umask. */
static int temp_open(struct hga_buf *name, const char *path, unsigned mode,
                     struct hga_err *err)
{
	int fd = -1;

	for (int tries = 0; tries < 16; tries++) {
		int r = temp_name(name, path, err);

		if (r < 0)
			return r;
		fd = hga_fs_open(name->data,
		                 O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode,
		                 err);
		if (fd != -HGA_EXISTS)
			break;
	}
	if (fd >= 0 && fchmod(fd, (mode_t)mode) != 0) {
		int sys = errno;

		(void)close(fd);          /* nothing was written */
		(void)unlink(name->data); /* ours, best effort */
		return hga_fs_fail(err, sys, "set the mode of", name->data);
	}
	return fd;
}

static int rename_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* file systems without that flag */
	if (link(from, to) != 0)
		return -1;
	return unlink(from);
}

/* Closes fd and puts the temporary file in its place. */
static int commit_temp(int fd, const char *temp, const char *path, int flags,
                       struct hga_err *err)
{
	int r = 0;

	if ((flags & HGA_FS_SYNC) && fsync(fd) != 0)
		r = hga_fs_fail(err, errno, "sync", temp);
	if (close(fd) != 0 && r == 0)
		r = hga_fs_fail(err, errno, "close", temp);
	if (r == 0 && ((flags & HGA_FS_EXCL) ? rename_new(temp, path)
	                                     : rename(temp, path)) != 0)
		r = hga_fs_fail(err, errno, "write", path);
	if (r < 0) {
		(void)unlink(temp); /* ours, best effort */
		return r;
	}
	return flags & HGA_FS_SYNC ? hga_fs_sync_dir(path, err) : 0;
}

int hga_fs_replace(const char *path, struct hga_str data, unsigned mode,
                   int flags, struct hga_err *err)
{
	struct hga_buf temp;
	int fd;
	int r;

	hga_buf_init(&temp, 65536);
	fd = temp_open(&temp, path, mode, err);
	if (fd < 0) {
		r = fd;
	} else {
		r = hga_fs_write_fd(fd, path, data.s, data.n, err);
		if (r < 0) {
			(void)close(fd);         /* thrown away */
			(void)unlink(temp.data); /* ours, best effort */
		} else {
			r = commit_temp(fd, temp.data, path, flags, err);
		}
	}
	hga_buf_release(&temp);
	return r;
}

static int write_open(const char *path, int flags, struct hga_str data,
                      unsigned mode, bool sync, struct hga_err *err)
{
	int fd =
	    hga_fs_open(path, flags | O_WRONLY | O_CREAT | O_NOCTTY, mode, err);
	int r;

	if (fd < 0)
		return fd;
	r = hga_fs_write_fd(fd, path, data.s, data.n, err);
	if (r == 0 && sync && fdatasync(fd) != 0)
		r = hga_fs_fail(err, errno, "sync", path);
	if (close(fd) != 0 && r == 0)
		r = hga_fs_fail(err, errno, "close", path);
	return r;
}

int hga_fs_write(const char *path, struct hga_str data, unsigned mode,
                 struct hga_err *err)
{
	return write_open(path, O_TRUNC, data, mode, false, err);
}

int hga_fs_append(const char *path, struct hga_str data, unsigned mode,
                  bool sync, struct hga_err *err)
{
	return write_open(path, O_APPEND, data, mode, sync, err);
}

static int copy_bytes(int in, int out, const char *from, const char *to,
                      struct hga_err *err)
{
	char *tmp = hga_alloc(READ_STEP);
	int r = tmp == NULL ? hga_fail_mem(err) : 0;

	while (r == 0) {
		ssize_t n = read(in, tmp, READ_STEP);

		if (n == 0)
			break;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = hga_fs_fail(err, errno, "read", from);
		else
			r = hga_fs_write_fd(out, to, tmp, (size_t)n, err);
	}
	hga_free(tmp);
	return r;
}

int hga_fs_copy(const char *from, const char *to, unsigned mode,
                struct hga_err *err)
{
	int in = hga_fs_open(from, O_RDONLY | O_NOCTTY, 0, err);
	struct hga_buf temp;
	int out;
	int r;

	if (in < 0)
		return in;
	hga_buf_init(&temp, 65536);
	out = temp_open(&temp, to, mode, err);
	if (out < 0) {
		r = out;
	} else {
		r = copy_bytes(in, out, from, to, err);
		if (r < 0) {
			(void)close(out);        /* thrown away */
			(void)unlink(temp.data); /* ours, best effort */
		} else {
			r = commit_temp(out, temp.data, to, 0, err);
		}
	}
	(void)close(in); /* was only read */
	hga_buf_release(&temp);
	return r;
}

static int mkdir_one(const char *path, unsigned mode, bool may_exist,
                     struct hga_err *err)
{
	struct stat st;

	if (mkdir(path, (mode_t)mode) == 0)
		return 0;
	if (errno == EEXIST && may_exist && stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		errno = EEXIST;
	}
	return hga_fs_fail(err, errno, "make directory", path);
}

int hga_fs_mkdir(const char *path, unsigned mode, bool parents,
                 struct hga_err *err)
{
	char *copy;
	int r = 0;

	if (!parents)
		return mkdir_one(path, mode, false, err);
	copy = hga_strdup(path);
	if (copy == NULL)
		return hga_fail_mem(err);
	for (char *p = copy + 1; copy[0] != '\0' && *p != '\0' && r == 0; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		r = mkdir_one(copy, mode, true, err);
		*p = '/';
	}
	if (r == 0)
		r = mkdir_one(copy, mode, true, err);
	hga_free(copy);
	return r;
}

/* A chmod afterwards would lose what is inherited: setgid, access lists. */
int hga_fs_mkdirat(int dir, const char *path, unsigned mode, mode_t mask,
                   struct hga_err *err)
{
	mode_t ours = umask(mask);
	int r = mkdirat(dir, path, mode & 0777);
	int sys = errno;

	(void)umask(ours); /* cannot fail */
	return r < 0 ? hga_fs_fail(err, sys, "make directory", path) : 0;
}

int hga_fs_tmpdir(const char *parent, const char *prefix, struct hga_buf *out,
                  struct hga_err *err)
{
	size_t start = out->len;
	int r = hga_buf_addf(out, err, "%s/%sXXXXXX", parent, prefix);

	if (r < 0)
		return r;
	if (mkdtemp(out->data + start) == NULL) {
		r = hga_fs_fail(err, errno, "make a directory in", parent);
		hga_buf_truncate(out, start);
	}
	return r;
}

/* ---- removal of trees ---- */

/*
 * Without recursion and with two descriptors whatever the depth: a
 * subdirectory that is not empty is emptied one level deep, its own
 * subdirectories moving up to the top under new names.
 */
struct rm {
	const char *path;
	int top;
	unsigned long moved; /* number for the next name */
	struct hga_err *err;
};

static bool dots(const char *name)
{
	return name[0] == '.' &&
	       (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Removes a file or an empty directory; 1: a directory that is not empty. */
static int remove_entry(const struct rm *rm, int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return hga_fs_fail(rm->err, errno, "remove", rm->path);
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTEMPTY || errno == EEXIST)
		return 1;
	/* a file that may not be removed */
	return hga_fs_fail(rm->err, errno == ENOTDIR ? EPERM : errno, "remove",
	                   rm->path);
}

static int move_up(struct rm *rm, int dir, const char *name)
{
	char to[32];

	for (int tries = 0; tries < 1000; tries++) {
		(void)snprintf(to, sizeof(to), ".rm-%lu", rm->moved++);
		if (renameat(dir, name, rm->top, to) == 0)
			return 0;
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			break;
	}
	return hga_fs_fail(rm->err, errno, "remove", rm->path);
}

/* Opens a directory below dir and makes it writable for us. */
static int open_sub(const struct rm *rm, int dir, const char *name)
{
	int fd =
	    openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return hga_fs_fail(rm->err, errno, "remove", rm->path);
	(void)fchmod(fd, 0700); /* not ours: the removal below will say so */
	return fd;
}

/* Calls fn for each entry of the directory fd, which it takes. */
static int each_entry(struct rm *rm, int fd,
                      int (*fn)(struct rm *, int fd, const char *name))
{
	DIR *d = fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (d == NULL) {
		r = hga_fs_fail(rm->err, errno, "list", rm->path);
		(void)close(fd); /* was only read */
		return r;
	}
	while (r == 0 && (errno = 0, e = readdir(d)) != NULL)
		if (!dots(e->d_name))
			r = fn(rm, dirfd(d), e->d_name);
	if (r == 0 && errno != 0)
		r = hga_fs_fail(rm->err, errno, "list", rm->path);
	(void)closedir(d); /* was only read */
	return r;
}

/* Entry of a subdirectory: gone or moved up. */
static int flatten(struct rm *rm, int fd, const char *name)
{
	int r = remove_entry(rm, fd, name);
	int sub;

	if (r <= 0)
		return r;
	sub = open_sub(rm, fd, name);
	if (sub < 0)
		return sub;
	(void)close(sub); /* only its mode mattered: moving writes ".." */
	return move_up(rm, fd, name);
}

static int clear_top(struct rm *rm, int fd, const char *name)
{
	int r = remove_entry(rm, fd, name);
	int sub;

	if (r <= 0)
		return r;
	sub = open_sub(rm, fd, name);
	if (sub < 0)
		return sub;
	r = each_entry(rm, sub, flatten);
	if (r == 0)
		r = remove_entry(rm, fd, name);
	return r < 0 ? r : 0; /* filled again meanwhile: the next pass */
}

int hga_fs_rmtree(const char *path, struct hga_err *err)
{
	struct rm rm = {path, -1, 0, err};
	int r = remove_entry(&rm, AT_FDCWD, path);

	if (r <= 0)
		return r;
	rm.top = open_sub(&rm, AT_FDCWD, path);
	if (rm.top < 0)
		return rm.top;
	do { /* a pass ends when the directory is empty or nothing helps */
		int fd =
		    openat(rm.top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		r = fd < 0 ? hga_fs_fail(err, errno, "list", path)
		           : each_entry(&rm, fd, clear_top);
		if (r == 0)
			r = remove_entry(&rm, AT_FDCWD, path);
	} while (r > 0);
	(void)close(rm.top); /* was only read */
	return r;
}

/* ---- checks ---- */

int hga_fs_check_owner(int fd, const char *path, unsigned mask, bool root_too,
                       struct hga_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return hga_fs_fail(err, errno, "stat", path);
	if (st.st_uid != geteuid() && !(root_too && st.st_uid == 0))
		return hga_fail(err, HGA_AUTH, 0, "Owner",
		                "%s: owned by uid %lu, not by you", path,
		                (unsigned long)st.st_uid);
	if ((st.st_mode & mask) != 0)
		return hga_fail(err, HGA_AUTH, 0, "Mode",
		                "%s: mode %04o is too open", path,
		                (unsigned)(st.st_mode & 07777));
	return 0;
}

bool hga_fs_name_ok(struct hga_str name)
{
	if (name.n == 0 || name.n > 255 || hga_str_eqc(name, ".") ||
	    hga_str_eqc(name, "..") || !hga_utf8_valid(name))
		return false;
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.s[i];

		if (c < 0x20 || c == 0x7f || c == '/')
			return false;
	}
	return true;
}

/* ---- locks ---- */

int hga_fs_lock(const char *path, bool shared, struct hga_err *err)
{
	int fd = hga_fs_open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, err);
	int sys;
	int r;

	if (fd < 0)
		return fd;
	do {
		r = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
	} while (r != 0 && errno == EINTR);
	if (r == 0)
		return fd;
	sys = errno;
	(void)close(fd); /* not locked */
	if (sys == EWOULDBLOCK)
		return hga_fail(err, HGA_EXISTS, 0, "Locked",
		                "%s is held by another process", path);
	return hga_fs_fail(err, sys, "lock", path);
}

int hga_fs_lock_wait(const char *path, bool shared, int wait_ms,
                     struct hga_err *err)
{
	struct timespec step = {0, LOCK_STEP_MS * 1000000L};

	for (;;) {
		int fd = hga_fs_lock(path, shared, err);

		if (fd != -HGA_EXISTS || wait_ms <= 0)
			return fd;
		(void)nanosleep(&step, NULL); /* cut short: tried sooner */
		wait_ms -= LOCK_STEP_MS;
	}
}

/* ---- file systems ---- */

int hga_fs_space(const char *path, uint64_t *bytes, struct hga_err *err)
{
	struct statvfs v;

	if (statvfs(path, &v) != 0)
		return hga_fs_fail(err, errno, "ask for the space of", path);
	*bytes = (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
	return 0;
}

static const struct {
	unsigned long magic;
	const char *name;
	bool remote;
} fs_types[] = {
    {0xef53, "ext4", false},         {0x58465342, "xfs", false},
    {0x9123683e, "btrfs", false},    {0x01021994, "tmpfs", false},
    {0x794c7630, "overlay", false},  {0xf2f52010, "f2fs", false},
    {0x2fc12fc1, "zfs", false},      {0x858458f6, "ramfs", false},
    {0x73717368, "squashfs", false}, {0xf15f, "ecryptfs", false},
    {0x4d44, "vfat", false},         {0x6969, "nfs", true},
    {0x517b, "smb", true},           {0xfe534d42, "smb2", true},
    {0xff534d42, "cifs", true},      {0x01021997, "9p", true},
    {0x5346414f, "afs", true},       {0x6b414653, "afs", true},
    {0x73757245, "coda", true},      {0x00c36400, "ceph", true},
    {0x0bd00bd0, "lustre", true},    {0x65735546, "fuse", true},
};
#define N_TYPES (sizeof(fs_types) / sizeof(fs_types[0]))

int hga_fs_type(const char *path, char out[32], struct hga_err *err)
{
	struct statfs v;
	unsigned long magic;

	if (statfs(path, &v) != 0)
		return hga_fs_fail(err, errno, "ask for the file system of",
		                   path);
	magic = (unsigned long)v.f_type & 0xffffffffUL;
	for (size_t i = 0; i < N_TYPES; i++)
		if (fs_types[i].magic == magic) {
			(void)snprintf(out, 32, "%s", fs_types[i].name);
			return 0;
		}
	(void)snprintf(out, 32, "0x%lx", magic);
	return 0;
}

bool hga_fs_type_remote(const char *type)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (strcmp(fs_types[i].name, type) == 0)
			return fs_types[i].remote;
	return false;
}
