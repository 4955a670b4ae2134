/*
 * Mode contain: runs a program that makes mounts and many children (the
 * build of a base image) so that nothing of it outlives whoever asked for it.
 */
#include "box/guest/guest.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int fail(const char *what)
{
	say("hgauto-box: %s: %s", what, strerror(errno));
	return 125;
}

/* Pid 1 of the new namespace; root and working directory as before. */
static int contained(char **argv)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || root < 0 ||
	    cwd < 0)
		return fail("start");
	if (root_private("/proc") < 0 || fchdir(root) < 0 || chroot(".") < 0 ||
	    fchdir(cwd) < 0)
		return fail("make mounts private");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
	          NULL) < 0)
		return fail("mount /proc");
	(void)execvp(argv[0], argv); /* returns only to fail */
	return fail(argv[0]);
}

int contain_run(char **argv)
{
	pid_t parent = getppid(), pid;
	int status;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ||
	    getppid() != parent)
		return 125;
	pid = raw_clone(SIGCHLD | CLONE_NEWNS | CLONE_NEWPID, NULL);
	if (pid == 0)
		_exit(contained(argv));
	if (pid < 0)
		return fail("new namespaces");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return fail("wait");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
