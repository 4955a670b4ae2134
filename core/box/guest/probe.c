/*
 * Mode probe: does this machine allow what an instance of tier full needs?
 * Each check is one line on stdout, "NAME ok" or "NAME failed TEXT"; the
 * namespace checks run in a child that is thrown away.
 */
#include "box/guest/guest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void line(const char *name, int sys, const char *text)
{
	if (text == NULL)
		(void)dprintf(STDOUT_FILENO, "%s ok\n", name);
	else if (sys == 0)
		(void)dprintf(STDOUT_FILENO, "%s failed %s\n", name, text);
	else
		(void)dprintf(STDOUT_FILENO, "%s failed %s: %s\n", name, text,
		              strerror(sys));
}

static bool bind_to(uint16_t port, int *sys)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	                         .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	in.sin_addr.s_addr = htonl(0x7f4dfffeu); /* 127.77.255.254 */
	r = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&in, sizeof(in));
	*sys = errno;
	if (fd >= 0)
		(void)close(fd); /* never listened */
	return r == 0;
}

static void probe_bind(void)
{
	int sys = 0, second = 0;

	if (bind_to(22, &sys))
		line("bind", 0, NULL);
	else if (bind_to(2222, &second))
		line("bind", 0, NULL);
	else
		line("bind", sys, "127.77.255.254 port 22");
}

static bool make_dirs(const char *dir)
{
	static const char *const names[] = {"i", "i/base", "u", "w"};

	if (chdir(dir) < 0)
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (mkdir(names[i], 0700) < 0)
			return false;
	return true;
}

static void remove_dirs(const char *dir)
{
	/* overlay leaves one directory in w; what stays is the caller's */
	static const char *const names[] = {"w/work", "w",      "u/dev",
	                                    "u/proc", "u/sys",  "u/run",
	                                    "u",      "i/base", "i"};

	if (chdir(dir) < 0)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)rmdir(names[i]); /* the last line says if it matters */
}

/* In all new namespaces: the very functions that make an instance. */
static int probe_child(const struct spec *s)
{
	struct fault f;

	(void)umask(0);
	line("namespaces", 0, NULL);
	if (root_enter(s, &f) < 0) {
		line(strcmp(f.step, "overlay") == 0 ? "overlay" : "mounts",
		     f.sys, f.text);
		return 1;
	}
	line("overlay", 0, NULL);
	line("mounts", 0, NULL);
	if (guest_net_none(0x0a000001u, &f) < 0) {
		line("net", f.sys, f.text);
		return 1;
	}
	line("net", 0, NULL);
	return 0;
}

static int probe_namespaces(const char *dir)
{
	static struct spec s;
	int pidfd, status = 1;
	pid_t pid;

	(void)snprintf(s.hostname, sizeof(s.hostname), "probe");
	if (snprintf(s.images_dir, sizeof(s.images_dir), "%s/i", dir) >=
	    (int)sizeof(s.images_dir))
		return 1;
	(void)snprintf(s.layer[0], sizeof(s.layer[0]), "base");
	s.n_layers = 1;
	(void)snprintf(s.upper, sizeof(s.upper), "../u");
	(void)snprintf(s.work, sizeof(s.work), "../w");
	pid = guest_clone(&pidfd);
	if (pid == 0)
		_exit(probe_child(&s));
	if (pid < 0) {
		line("namespaces", errno, "clone");
		return 1;
	}
	if (waitpid(pid, &status, 0) < 0)
		return 1;
	(void)close(pidfd);
	return status != 0;
}

int probe_run(const char *dir)
{
	char full[PATH_MAX];
	int bad;

	probe_bind();
	if (realpath(dir, full) == NULL || strlen(full) > PATH_MAX - 8 ||
	    !make_dirs(full)) {
		line("directory", errno, dir);
		return 1;
	}
	line("directory", 0, NULL);
	bad = probe_namespaces(full);
	remove_dirs(full);
	return bad;
}
