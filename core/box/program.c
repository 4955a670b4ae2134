/* The embedded box program as something the kernel can execute. */
#include "box/box.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif

enum {
	LOWEST_FD = 20
}; /* above every number a child's plumbing uses */

static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t r = write(fd, p, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static int make_memfd(void)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create("hgauto-box", flags | MFD_EXEC);

	if (fd < 0 && errno == EINVAL) /* the flag is younger */
		fd = memfd_create("hgauto-box", flags);
	return fd;
}

static int open_memfd(struct hga_box_program *p, const void *image, size_t len)
{
	int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int low = make_memfd(), sys;

	p->fd = -1;
	if (low < 0)
		return -1;
	if (write_all(low, image, len) == 0 && fchmod(low, 0700) == 0 &&
	    fcntl(low, F_ADD_SEALS, seals) == 0)
		p->fd = fcntl(low, F_DUPFD_CLOEXEC, LOWEST_FD);
	sys = errno;
	(void)close(low); /* a duplicate is kept */
	errno = sys;
	if (p->fd < 0)
		return -1;
	/* by process number: children may have closed the descriptor */
	(void)snprintf(p->path, sizeof(p->path), "/proc/%ld/fd/%d",
	               (long)getpid(), p->fd); /* fits */
	return 0;
}

static int write_file(struct hga_box_program *p, const void *image, size_t len,
                      const char *dir, struct hga_err *err)
{
	char temp[PATH_MAX];
	int fd, r;

	if (snprintf(p->path, sizeof(p->path), "%s/hgauto-box", dir) >=
	        (int)sizeof(p->path) ||
	    snprintf(temp, sizeof(temp), "%s/hgauto-box.%ld", dir,
	             (long)getpid()) >= (int)sizeof(temp))
		return hga_fail(err, HGA_IO, ENAMETOOLONG, "spawn", "%.100s",
		                dir);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
	          0700);
	if (fd < 0)
		return hga_fail(err, HGA_IO, errno, "spawn", "%.200s", temp);
	r = write_all(fd, image, len);
	if (close(fd) < 0)
		r = -1;
	if (r < 0 || rename(temp, p->path) < 0) {
		r = hga_fail(err, HGA_IO, errno, "spawn", "%.200s", temp);
		(void)unlink(temp); /* the first error counts */
	}
	return r;
}

/* 0 when the kernel executes it: an argument it refuses gives exit 2, which
 * is all we ask; access(2) knows about memfd_noexec and noexec mounts. */
static bool executable(const char *path)
{
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

int hga_box_program_open(struct hga_box_program *p, const void *image,
                         size_t len, const char *dir, struct hga_err *err)
{
	int r;

	p->fd = -1;
	p->path[0] = '\0';
	if (open_memfd(p, image, len) == 0) {
		if (executable(p->path))
			return 0;
		hga_box_program_close(p);
	}
	r = write_file(p, image, len, dir, err);
	if (r == 0 && !executable(p->path))
		r = hga_fail(err, HGA_IO, EACCES, "spawn", "execute %.200s",
		             p->path);
	return r;
}

void hga_box_program_close(struct hga_box_program *p)
{
	if (p->fd >= 0)
		(void)close(p->fd); /* holds no data of ours */
	p->fd = -1;
	p->path[0] = '\0';
}
