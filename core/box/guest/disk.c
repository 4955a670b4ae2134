/*
 * Volumes: files of the host as loop devices, and their names inside an
 * instance.  Local cloud specification, section 2.6.
 */
#include "box/guest/guest.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
	TRIES = 64 /* others may take the free device first */
};

/* Device n bound to the file; its descriptor, or -1 with errno. */
static int bind_loop(int file, long n)
{
	struct loop_config c = {.fd = (__u32)file};
	char path[32];
	int fd, sys;

	(void)snprintf(path, sizeof(path), "/dev/loop%ld", n); /* fits */
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -1;
	c.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	if (ioctl(fd, LOOP_CONFIGURE, &c) == 0)
		return fd;
	sys = errno;
	(void)close(fd); /* not ours */
	errno = sys;
	return -1;
}

static int take_loop(int file)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd = -1, sys;

	if (control < 0)
		return -1;
	for (int i = 0; i < TRIES && fd < 0; i++) {
		long n = ioctl(control, LOOP_CTL_GET_FREE);

		if (n < 0)
			break;
		fd = bind_loop(file, n);
		if (fd < 0 && errno != EBUSY)
			break;
	}
	sys = errno;
	(void)close(control); /* only asked */
	errno = sys;
	return fd;
}

int disk_open(struct disk *d, struct fault *f)
{
	struct stat st;
	int file;

	d->fd = -1;
	if (d->path[0] == '\0')
		return 0;
	file = open(d->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (file < 0)
		return fault_set(f, "loop", errno, "volume %.200s", d->path);
	d->fd = take_loop(file);
	if (d->fd < 0)
		(void)fault_set(f, "loop", errno, "loop device for %.180s",
		                d->path); /* returned below */
	(void)close(file);                /* the device holds it */
	if (d->fd < 0)
		return -1;
	if (fstat(d->fd, &st) < 0)
		return fault_set(f, "loop", errno, "loop device");
	d->major = major(st.st_rdev);
	d->minor = minor(st.st_rdev);
	return 0;
}

/* Calls fn for each name as a path below /dev; stops at the first failure. */
static int each_name(const struct disk *d, int (*fn)(const char *, dev_t))
{
	char path[300];
	const char *p = d->names;

	while (*p != '\0') {
		size_t n = strcspn(p, ",");

		if (n > 0) {
			(void)snprintf(path, sizeof(path), "/dev/%.*s", (int)n,
			               p); /* fits */
			if (fn(path, makedev(d->major, d->minor)) < 0)
				return -1;
		}
		p += n + (p[n] == ',');
	}
	return 0;
}

static int make_node(const char *path, dev_t dev)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return -1;
	return mknod(path, S_IFBLK | 0660, dev);
}

static int remove_node(const char *path, dev_t dev)
{
	struct stat st;

	/* another volume may have the name now */
	if (lstat(path, &st) < 0 || st.st_rdev != dev)
		return 0;
	return unlink(path);
}

int disk_nodes(const struct disk *d, struct fault *f)
{
	if (each_name(d, make_node) < 0)
		return fault_set(f, "loop", errno, "nodes %.200s", d->names);
	return 0;
}

/* Is the device the source of a mount that pid 1 sees? */
static bool mounted(const struct disk *d)
{
	char line[4096];
	unsigned ma, mi;
	FILE *in = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	if (in == NULL)
		return true; /* rather keep it */
	while (!found && fgets(line, sizeof(line), in) != NULL)
		found = sscanf(line, "%*u %*u %u:%u", &ma, &mi) == 2 &&
		        ma == d->major && mi == d->minor;
	(void)fclose(in); /* read only */
	return found;
}

int disk_forget(const struct disk *d, struct fault *f)
{
	if (mounted(d))
		return fault_set(f, "loop", EBUSY, "the volume is mounted");
	if (each_name(d, remove_node) < 0)
		return fault_set(f, "loop", errno, "nodes %.200s", d->names);
	return 0;
}
