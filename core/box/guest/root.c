/*
 * The instance's view of the system: private mounts, overlay root, kernel
 * file systems, device nodes, network, shutdown commands.  Local cloud
 * specification, section 2.1.
 */
#include "box/guest/guest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>

/* No stack of its own: the copy goes on here. */
pid_t raw_clone(unsigned long flags, int *pidfd)
{
	return (pid_t)syscall(SYS_clone, flags, NULL, pidfd, NULL, NULL);
}

pid_t guest_clone(int *pidfd)
{
	unsigned long flags = SIGCHLD | CLONE_PIDFD | CLONE_NEWNS |
	                      CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
	                      CLONE_NEWNET;
	pid_t pid = raw_clone(flags | CLONE_NEWCGROUP, pidfd);

	/* a kernel built without cgroups */
	if (pid < 0 && errno == EINVAL)
		pid = raw_clone(flags, pidfd);
	return pid;
}

/* ---- network ---- */

static int set_address(int sock, const char *name, uint32_t ip, uint32_t mask)
{
	struct ifreq req = {0};
	struct sockaddr_in in = {.sin_family = AF_INET};

	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	in.sin_addr.s_addr = htonl(ip);
	memcpy(&req.ifr_addr, &in, sizeof(in));
	if (ioctl(sock, SIOCSIFADDR, &req) < 0)
		return -1;
	in.sin_addr.s_addr = htonl(mask);
	memcpy(&req.ifr_addr, &in, sizeof(in));
	return ioctl(sock, SIOCSIFNETMASK, &req);
}

int guest_net_none(uint32_t private_ip, struct fault *f)
{
	struct ifreq req = {.ifr_name = "lo"};
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (sock < 0)
		return fault_set(f, "net", errno, "socket");
	req.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
	r = ioctl(sock, SIOCSIFFLAGS, &req);
	if (r == 0 && private_ip != 0)
		r = set_address(sock, "lo:0", private_ip, UINT32_MAX);
	if (r < 0)
		r = fault_set(f, "net", errno, "loopback interface");
	(void)close(sock); /* holds nothing */
	return r;
}

/* ---- mounts ---- */

/* Directory in the new root (the working directory), made if missing; the
 * result is an O_PATH descriptor: a link there cannot lead a mount astray. */
static int mount_dir(const char *name)
{
	if (mkdir(name, 0755) < 0 && errno != EEXIST)
		return -1;
	return open(name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int mount_on(const char *type, const char *name, unsigned long flags,
                    const char *data, struct fault *f)
{
	char at[40];
	int fd = mount_dir(name), r;

	if (fd < 0)
		return fault_set(f, "mount", errno, "directory %s", name);
	(void)snprintf(at, sizeof(at), "/proc/self/fd/%d", fd); /* fits */
	r = mount(type, at, type, flags, data);
	if (r < 0)
		r = fault_set(f, "mount", errno, "%s on %s", type, name);
	(void)close(fd); /* only a name */
	return r;
}

/* Parts of /proc that reach the host's settings become read-only. */
static void guard_proc(void)
{
	static const char *const parts[] = {"proc/sys", "proc/irq", "proc/bus",
	                                    "proc/fs", "proc/sysrq-trigger"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const char *p = parts[i];

		/* absent on some kernels; then nothing is to be guarded */
		if (mount(p, p, NULL, MS_BIND | MS_REC, NULL) == 0 &&
		    mount(NULL, p, NULL,
		          MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID |
		              MS_NODEV | MS_NOEXEC,
		          NULL) < 0)
			say("hgauto-box: %s stays writable: %s", p,
			    strerror(errno));
	}
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Layer names are relative to the working directory, images_dir. */
static int mount_overlay(const struct spec *s, struct fault *f)
{
	static char opts[4096], at[PATH_MAX + 3];
	size_t n = 0;
	int r = 0;

	n += (size_t)snprintf(opts, sizeof(opts), "lowerdir=");
	for (size_t i = 0; i < s->n_layers; i++)
		n += (size_t)snprintf(opts + n, sizeof(opts) - n, "%s%s",
		                      i ? ":" : "", s->layer[i]);
	if (n < sizeof(opts))
		n += (size_t)snprintf(opts + n, sizeof(opts) - n,
		                      ",upperdir=%s,workdir=%s", s->upper,
		                      s->work);
	if (n >= sizeof(opts) - 1) /* mount(2) cuts off at one page */
		return fault_set(f, "overlay", E2BIG, "options of the mount");
	/* the working directory stays below the new mount: enter by name */
	(void)snprintf(at, sizeof(at), "../%s", last_part(s->images_dir));
	/* EBUSY: the kernel is still taking down the last boot's mount */
	for (int i = 0; i < 100; i++) {
		r = mount("overlay", at, "overlay", 0, opts);
		if (r == 0 || errno != EBUSY)
			break;
		(void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	if (r < 0)
		return fault_set(f, "overlay", errno, "in %.150s",
		                 s->images_dir);
	if (chdir(at) < 0)
		return fault_set(f, "overlay", errno, "enter the root");
	return 0;
}

/* ---- /dev ---- */

static int make_nodes(struct fault *f)
{
	static const struct {
		const char *name;
		mode_t mode;
		unsigned major, minor;
	} nodes[] = {
	    {"dev/null", 0666, 1, 3},    {"dev/zero", 0666, 1, 5},
	    {"dev/full", 0666, 1, 7},    {"dev/random", 0666, 1, 8},
	    {"dev/urandom", 0666, 1, 9}, {"dev/tty", 0666, 5, 0},
	    {"dev/fuse", 0666, 10, 229},
	};
	static const struct {
		const char *name, *to;
	} links[] = {
	    {"dev/ptmx", "pts/ptmx"},
	    {"dev/fd", "/proc/self/fd"},
	    {"dev/stdin", "/proc/self/fd/0"},
	    {"dev/stdout", "/proc/self/fd/1"},
	    {"dev/stderr", "/proc/self/fd/2"},
	};

	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		if (mknod(nodes[i].name, S_IFCHR | nodes[i].mode,
		          makedev(nodes[i].major, nodes[i].minor)) < 0)
			return fault_set(f, "mount", errno, "node %s",
			                 nodes[i].name);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i].to, links[i].name) < 0)
			return fault_set(f, "mount", errno, "link %s",
			                 links[i].name);
	return 0;
}

static int mount_dev(struct fault *f)
{
	unsigned long flags = MS_NOSUID | MS_NOEXEC;
	const char *pts = "newinstance,gid=5,mode=620,ptmxmode=666";

	if (mount_on("tmpfs", "dev", MS_NOSUID, "mode=755,size=1m", f) < 0 ||
	    make_nodes(f) < 0)
		return -1;
	/* an image without group 5 in its map refuses the option */
	if (mount_on("devpts", "dev/pts", flags, pts, f) < 0 &&
	    mount_on("devpts", "dev/pts", flags,
	             "newinstance,mode=620,ptmxmode=666", f) < 0)
		return -1;
	if (mount_on("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", f) <
	    0)
		return -1;
	return mount_on("mqueue", "dev/mqueue",
	                MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, f);
}

static int mount_run(struct fault *f)
{
	static const struct {
		const char *name;
		mode_t mode;
	} dirs[] = {{"run/sshd", 0755},
	            {"run/lock", 01777},
	            {"run/hgauto", 0755},
	            {"run/user", 0755}};

	if (mount_on("tmpfs", "run", MS_NOSUID | MS_NODEV, "mode=755", f) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (mkdir(dirs[i].name, dirs[i].mode) < 0)
			return fault_set(f, "mount", errno, "directory %s",
			                 dirs[i].name);
	return 0;
}

/* Kernel file systems, while the host's /proc is still in sight. */
static int mount_system(struct fault *f)
{
	unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (mount_on("proc", "proc", safe, NULL, f) < 0)
		return -1;
	guard_proc();
	if (mount_on("sysfs", "sys", safe | MS_RDONLY, NULL, f) < 0)
		return -1;
	if (mount_dev(f) < 0)
		return -1;
	return mount_run(f);
}

static int swap_root(struct fault *f)
{
	if (syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fault_set(f, "pivot", errno, "change the root");
	return 0;
}

/*
 * Back to the root of the mount namespace, for in a chroot neither the
 * propagation of / can be changed nor the root be swapped.  A root directory
 * below the working directory does not stop "..".
 */
static int leave_chroot(const char *below)
{
	struct stat here, up;

	if (chdir("/") < 0 || chroot(below) < 0)
		return -1;
	for (int i = 0; i < PATH_MAX; i++) {
		if (stat(".", &here) < 0 || stat("..", &up) < 0 ||
		    chdir("..") < 0)
			return -1;
		if (here.st_ino == up.st_ino && here.st_dev == up.st_dev)
			return chroot(".");
	}
	errno = ELOOP;
	return -1;
}

static int make_private(void)
{
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

int root_private(const char *below)
{
	if (make_private() == 0)
		return 0;
	if (errno != EINVAL || leave_chroot(below) < 0)
		return -1;
	return make_private();
}

int root_enter(const struct spec *s, struct fault *f)
{
	int dir = open(s->images_dir, O_PATH | O_DIRECTORY | O_CLOEXEC), r;

	if (dir < 0)
		return fault_set(f, "overlay", errno, "%.200s", s->images_dir);
	if (sethostname(s->hostname, strlen(s->hostname)) < 0)
		return fault_set(f, "clone", errno, "set the host name");
	if (root_private(s->images_dir) < 0)
		return fault_set(f, "mount", errno, "make mounts private");
	r = fchdir(dir);
	(void)close(dir); /* only a name */
	if (r < 0)
		return fault_set(f, "overlay", errno, "%.200s", s->images_dir);
	if (mount_overlay(s, f) < 0 || mount_system(f) < 0)
		return -1;
	return swap_root(f);
}

/* ---- shutdown ---- */

/*
 * One script for four names.  It lives in the tmpfs /run and is reached by
 * links: a bind mount over /usr/sbin/shutdown would make dpkg fail (EBUSY)
 * as soon as a package brings its own.
 */
static const char shim[] =
    "#!/bin/sh\n"
    "# Ends or restarts this local instance: see hgauto's local cloud.\n"
    "name=${0##*/} what=P when= cancel= dry=\n"
    "[ \"$name\" = reboot ] && what=R\n"
    "while [ $# -gt 0 ]; do\n"
    "  case $1 in\n"
    "  --) ;;\n"
    "  --reboot) what=R ;;\n"
    "  --poweroff | --halt) what=P ;;\n"
    "  --help) echo \"usage: shutdown [-hPrH] now|+MINUTES|HH:MM, "
    "shutdown -c; poweroff; halt; reboot\"; exit 0 ;;\n"
    "  --*) ;;\n"
    "  -?*)\n"
    "    case $1 in *c*) cancel=1 ;; esac\n"
    "    case $1 in *r*) what=R ;; esac\n"
    "    case $1 in *[hPHp]*) what=P ;; esac\n"
    "    case $1 in *k* | *w*) dry=1 ;; esac ;;\n"
    "  *) [ -n \"$when\" ] || when=$1 ;;\n"
    "  esac\n"
    "  shift\n"
    "done\n"
    "fail() { echo \"$name: $1\" >&2; exit 1; }\n"
    "number() {\n"
    "  case $1 in '' | *[!0-9]* | ???????*) fail \"bad time: $when\" ;; "
    "esac\n"
    "}\n"
    "strip() {\n"
    "  n=$1\n"
    "  while [ \"${n#0}\" != \"$n\" ]; do n=${n#0}; done\n"
    "  echo \"${n:-0}\"\n"
    "}\n"
    "if [ \"$name\" = shutdown ]; then\n"
    "  case ${when:=+1} in\n"
    "  now) secs=0 ;;\n"
    "  +*) number \"${when#+}\"; secs=$(($(strip \"${when#+}\") * 60)) ;;\n"
    "  *:*)\n"
    "    h=${when%%:*} m=${when#*:}\n"
    "    number \"$h\"; number \"$m\"\n"
    "    set -- $(date '+%H %M %S')\n"
    "    secs=$((($(strip \"$h\") * 60 + $(strip \"$m\")) * 60 - "
    "($(strip \"$1\") * 60 + $(strip \"$2\")) * 60 - $(strip \"$3\")))\n"
    "    [ $secs -ge 0 ] || secs=$((secs + 86400)) ;;\n"
    "  *) number \"$when\"; secs=$(($(strip \"$when\") * 60)) ;;\n"
    "  esac\n"
    "else\n"
    "  secs=0\n"
    "fi\n"
    "[ -z \"$dry\" ] || exit 0\n"
    "ctl=/run/hgauto/initctl\n"
    "[ -w $ctl ] || fail 'must be root'\n"
    "if [ -n \"$cancel\" ]; then echo C >$ctl; exit 0; fi\n"
    "echo \"$what $secs\" >$ctl\n"
    "[ $secs -eq 0 ] || echo \"$name: in $secs seconds, use "
    "'shutdown -c' to cancel.\" >&2\n";

/* Links to the script where the image has nothing or a link of its own. */
static void link_shims(const char *dir)
{
	static const char *const names[] = {"shutdown", "poweroff", "halt",
	                                    "reboot"};
	char path[64], to[64], old[64];
	ssize_t n;

	if (access(dir, F_OK) < 0)
		return; /* a small image without the directory */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		(void)snprintf(to, sizeof(to), "/run/hgauto/%s", names[i]);
		n = readlink(path, old, sizeof(old) - 1);
		if (n >= 0) {
			old[n] = '\0';
			if (strcmp(old, to) == 0)
				continue;
			(void)unlink(path); /* symlink reports the failure */
		}
		if (symlink(to, path) < 0 && errno != EEXIST)
			say("hgauto-box: link %s: %s", path, strerror(errno));
	}
}

int root_shims(struct fault *f)
{
	static const char *const names[] = {"poweroff", "halt", "reboot"};
	struct spec_file file = {.mode = 0755};
	char path[64];
	int fd;

	file.path = (struct hga_box_text){"/run/hgauto/shutdown", 20};
	file.data = (struct hga_box_text){shim, sizeof(shim) - 1};
	if (files_write(&file, f) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "/run/hgauto/%s", names[i]);
		if (symlink("shutdown", path) < 0)
			return fault_set(f, "file", errno, "%s", path);
	}
	link_shims("/usr/local/sbin");
	link_shims("/usr/sbin");
	if (mkfifo("/run/hgauto/initctl", 0600) < 0)
		return fault_set(f, "file", errno, "/run/hgauto/initctl");
	fd = open("/run/hgauto/initctl", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fault_set(f, "file", errno, "/run/hgauto/initctl");
	return fd;
}
