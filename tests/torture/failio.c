/*
 * Preloaded into a program under test: the n-th opening, write, sync,
 * truncation, renaming or removal of a file whose path contains a text fails,
 * or the process dies there.
 *
 * HGAUTO_FAILIO="TEXT:N:HOW": HOW is eio, enospc or kill; N = 0 only counts.
 * HGAUTO_FAILIO_COUNT names a file that gets the number of such calls (one
 * line per process) at exit.  From the n-th call on enospc stays: a full disk
 * does not get empty by itself.  HGAUTO_FAILIO_MARK names a file that appears
 * with the first failure and holds its path.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char text[128];
static long nth = -1;
static int fails_with;
static int sticky;
static long seen;

__attribute__((constructor)) static void setup(void)
{
	const char *s = getenv("HGAUTO_FAILIO");
	const char *a = s != NULL ? strchr(s, ':') : NULL;
	const char *b = a != NULL ? strchr(a + 1, ':') : NULL;

	if (b == NULL || (size_t)(a - s) >= sizeof(text))
		return;
	memcpy(text, s, (size_t)(a - s));
	nth = strtol(a + 1, NULL, 10);
	fails_with = strcmp(b + 1, "eio") == 0      ? EIO
	             : strcmp(b + 1, "enospc") == 0 ? ENOSPC
	                                            : 0;
	sticky = fails_with == ENOSPC;
}

__attribute__((destructor)) static void report(void)
{
	const char *name = getenv("HGAUTO_FAILIO_COUNT");
	FILE *f = name != NULL && nth >= 0 ? fopen(name, "a") : NULL;

	if (f == NULL)
		return;
	(void)fprintf(f, "%ld\n", seen);
	(void)fclose(f);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void mark(const char *path)
{
	const char *name = getenv("HGAUTO_FAILIO_MARK");
	int fd = name != NULL
	             ? NEXT(open64)(
	                   name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
	             : -1;

	if (fd < 0)
		return;
	(void)!NEXT(write)(fd, path, strlen(path));
	(void)close(fd);
}

/* Whether this call is to fail; errno is set then.  sync: a full disk does
 * not keep a file from being synced or removed. */
static int fails(const char *path, int needs_room)
{
	if (nth < 0 || path == NULL || strstr(path, text) == NULL)
		return 0;
	seen++;
	if (nth == 0 || (sticky ? seen < nth : seen != nth))
		return 0;
	if (fails_with == 0) {
		(void)kill(getpid(), SIGKILL);
		for (;;)
			(void)pause();
	}
	if (sticky && !needs_room)
		return 0;
	mark(path);
	errno = fails_with;
	return 1;
}

static int fails_fd(int fd, int needs_room)
{
	char link[64];
	char path[4096];
	ssize_t n;

	if (nth < 0)
		return 0;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0)
		return 0;
	path[n] = '\0';
	return fails(path, needs_room);
}

/* A name below an open directory, as its whole path. */
static int fails_at(int dir, const char *name, int needs_room)
{
	char link[64];
	char path[8192];
	ssize_t n;

	if (nth < 0 || name == NULL || name[0] == '/' || dir == AT_FDCWD)
		return fails(name, needs_room);
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	n = readlink(link, path, 4095);
	if (n <= 0)
		return 0;
	(void)snprintf(path + n, sizeof(path) - (size_t)n, "/%s", name);
	return fails(path, needs_room);
}

static int mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, int) : 0;
}

#define OPEN(name)                                                             \
	int name(const char *path, int flags, ...)                             \
	{                                                                      \
		va_list ap;                                                    \
		int mode;                                                      \
                                                                               \
		va_start(ap, flags);                                           \
		mode = mode_of(flags, ap);                                     \
		va_end(ap);                                                    \
		return fails(path, flags & O_CREAT)                            \
		           ? -1                                                \
		           : NEXT(name)(path, flags, mode);                    \
	}
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                           \
	int name(int dir, const char *path, int flags, ...)                    \
	{                                                                      \
		va_list ap;                                                    \
		int mode;                                                      \
                                                                               \
		va_start(ap, flags);                                           \
		mode = mode_of(flags, ap);                                     \
		va_end(ap);                                                    \
		return fails_at(dir, path, flags & O_CREAT)                    \
		           ? -1                                                \
		           : NEXT(name)(dir, path, flags, mode);               \
	}
OPENAT(openat)
OPENAT(openat64)

/* What fortified programs call when no mode is given. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return fails(path, 0) ? -1 : NEXT(open)(path, flags);
}

int __open64_2(const char *path, int flags)
{
	return fails(path, 0) ? -1 : NEXT(open64)(path, flags);
}

int __openat_2(int dir, const char *path, int flags)
{
	return fails_at(dir, path, 0) ? -1 : NEXT(openat)(dir, path, flags);
}

int __openat64_2(int dir, const char *path, int flags)
{
	return fails_at(dir, path, 0) ? -1 : NEXT(openat64)(dir, path, flags);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
	return fails_fd(fd, 1) ? -1 : NEXT(pwrite64)(fd, data, n, at);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
	return fails_fd(fd, 1) ? -1 : NEXT(pwrite)(fd, data, n, at);
}

ssize_t write(int fd, const void *data, size_t n)
{
	return fails_fd(fd, 1) ? -1 : NEXT(write)(fd, data, n);
}

int fdatasync(int fd)
{
	return fails_fd(fd, 0) ? -1 : NEXT(fdatasync)(fd);
}

int fsync(int fd)
{
	return fails_fd(fd, 0) ? -1 : NEXT(fsync)(fd);
}

int ftruncate64(int fd, off64_t n)
{
	return fails_fd(fd, 0) ? -1 : NEXT(ftruncate64)(fd, n);
}

int ftruncate(int fd, off_t n)
{
	return fails_fd(fd, 0) ? -1 : NEXT(ftruncate)(fd, n);
}

int posix_fallocate(int fd, off_t at, off_t n)
{
	return fails_fd(fd, 1) ? errno : NEXT(posix_fallocate)(fd, at, n);
}

int rename(const char *from, const char *to)
{
	return fails(from, 0) ? -1 : NEXT(rename)(from, to);
}

int unlink(const char *path)
{
	return fails(path, 0) ? -1 : NEXT(unlink)(path);
}

int renameat(int a, const char *from, int b, const char *to)
{
	return fails_at(a, from, 0) ? -1 : NEXT(renameat)(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
	return fails_at(a, from, 0) ? -1
	                            : NEXT(renameat2)(a, from, b, to, flags);
}

int link(const char *from, const char *to)
{
	return fails(to, 1) ? -1 : NEXT(link)(from, to);
}

int unlinkat(int dir, const char *path, int flags)
{
	return fails_at(dir, path, 0) ? -1 : NEXT(unlinkat)(dir, path, flags);
}
