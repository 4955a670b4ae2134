/*
 * Pid 1 at work: runs commands and sshd for the keeper, obeys the shutdown
 * script, reaps everything, ends the instance in order.  It never execs.
 */
#include "box/guest/guest.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum {
	CHILDREN = 1024,
	GROUPS = 64,
	END_MS = 2000
};

struct child { /* only what the daemon asked for; id 0: free */
	pid_t pid;
	uint32_t id;
	int64_t kill_at; /* ms; 0: not */
	bool doomed;     /* a KILL came: its group must not outlive it */
};

struct agent {
	int sock, initctl, sigfd;
	struct child child[CHILDREN];
	size_t n_child; /* used slots are below */
	int64_t end_at; /* ms; 0: no shutdown is planned */
	enum hga_box_power end_what;
	struct exec_args exec;
	uint8_t buf[HGA_BOX_MSG];
	char line[64]; /* of initctl */
	size_t line_n;
};

static struct agent agent;

/* Counts while the machine sleeps, as a cloud's clock does. */
static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void reply(struct agent *a, enum hga_box_msg type, uint32_t id,
                  const struct hga_box_wr *w)
{
	/* a keeper that is gone ends us in the next poll */
	(void)hga_box_send(a->sock, type, id, w ? w->p : NULL, w ? w->n : 0,
	                   NULL, 0);
}

static void reply_error(struct agent *a, uint32_t id, int sys, const char *text)
{
	uint8_t room[256];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u32(&w, (uint32_t)sys);
	hga_box_wr_text(&w, text, strlen(text) > 200 ? 200 : strlen(text));
	reply(a, HGA_BOX_ERR, id, &w);
}

/* ---- children ---- */

static struct child *free_slot(struct agent *a)
{
	for (size_t i = 0; i < a->n_child; i++)
		if (a->child[i].id == 0)
			return &a->child[i];
	return a->n_child < CHILDREN ? &a->child[a->n_child++] : NULL;
}

static void reset_signals(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &dfl, NULL); /* KILL and STOP refuse */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Rights that reach the host's kernel; pid 1 itself keeps them. */
static void drop_rights(void)
{
	static const int rights[] = {CAP_SYS_MODULE, CAP_SYS_RAWIO,
	                             CAP_SYS_TIME, CAP_SYSLOG, CAP_MKNOD};

	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
		(void)prctl(PR_CAPBSET_DROP, rights[i], 0, 0, 0); /* absent */
}

/* In the child: these descriptors become 0, 1, 2 and the only ones. */
static void set_fds(const int fds[3])
{
	int high[3];

	for (int i = 0; i < 3; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
		if (high[i] < 0)
			_exit(126);
	}
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			_exit(126);
	if (close_range(3, ~0u, 0) < 0)
		_exit(126);
}

static void start_child(const int fds[3])
{
	(void)setsid(); /* a fresh child is no group leader */
	reset_signals();
	set_fds(fds);
	drop_rights();
	(void)umask(022);
}

static void fail_child(const char *what)
{
	int sys = errno;

	say("hgauto-box: %s: %s", what, strerror(sys));
	_exit(sys == ENOENT ? 127 : 126);
}

struct identity {
	struct account acc;
	gid_t groups[GROUPS];
	size_t n_groups;
};

/* User of a command from the instance's own files. */
static int identify(const char *user, struct identity *who, struct fault *f)
{
	struct grow pw, gr;
	const char *name = user[0] ? user : "root";
	bool found;

	if (files_read("/etc/passwd", &pw, f) < 0)
		return -1;
	if (files_read("/etc/group", &gr, f) < 0) {
		grow_free(&pw);
		return -1;
	}
	found = passwd_find((struct hga_box_text){pw.p ? pw.p : "", pw.n}, name,
	                    &who->acc);
	if (!found && user[0] == '\0') { /* an image without accounts */
		memset(&who->acc, 0, sizeof(who->acc));
		(void)snprintf(who->acc.home, sizeof(who->acc.home), "/root");
		found = true;
	}
	if (found)
		who->n_groups =
		    group_list((struct hga_box_text){gr.p ? gr.p : "", gr.n},
		               name, who->acc.gid, who->groups, GROUPS);
	grow_free(&pw);
	grow_free(&gr);
	return found ? 0 : fault_set(f, "exec", ENOENT, "no user %s", name);
}

static void default_env(const struct identity *who, const char *user)
{
	const char *shell = who->acc.shell[0] ? who->acc.shell : "/bin/sh";

	if (clearenv() != 0 ||
	    setenv("PATH",
	           "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:"
	           "/bin",
	           1) != 0 ||
	    setenv("HOME", who->acc.home, 1) != 0 ||
	    setenv("USER", user, 1) != 0 || setenv("LOGNAME", user, 1) != 0 ||
	    setenv("SHELL", shell, 1) != 0 || setenv("LANG", "C.UTF-8", 1) != 0)
		fail_child("environment");
}

static void exec_child(const struct exec_args *x, const struct identity *who,
                       const int fds[3])
{
	start_child(fds);
	default_env(who, x->user[0] ? x->user : "root");
	for (size_t i = 0; i < x->envc; i++)
		if (putenv(x->env[i]) != 0)
			fail_child("environment");
	if (setgroups(who->n_groups, who->groups) < 0 ||
	    setgid(who->acc.gid) < 0 || setuid(who->acc.uid) < 0)
		fail_child(x->user);
	if (chdir(x->cwd[0] ? x->cwd : who->acc.home) < 0 &&
	    (x->cwd[0] != '\0' || chdir("/") < 0))
		fail_child(x->cwd);
	(void)execvp(x->argv[0], x->argv); /* returns only to fail */
	fail_child(x->argv[0]);
}

static void on_exec(struct agent *a, struct hga_box_in *in)
{
	static struct identity who;
	struct fault f;
	struct child *c;
	pid_t pid;

	if (in->id == 0 || in->n_fds != 3 || !exec_parse(&in->body, &a->exec)) {
		reply_error(a, in->id, EINVAL, "malformed command");
		return;
	}
	if (identify(a->exec.user, &who, &f) < 0) {
		reply_error(a, in->id, f.sys, f.text);
		return;
	}
	c = free_slot(a);
	if (c == NULL) {
		reply_error(a, in->id, EAGAIN, "too many commands");
		return;
	}
	pid = fork();
	if (pid == 0)
		exec_child(&a->exec, &who, in->fds);
	if (pid < 0) {
		reply_error(a, in->id, errno, "fork");
		return;
	}
	*c = (struct child){.pid = pid, .id = in->id};
}

static void on_kill(struct agent *a, struct hga_box_in *in)
{
	int signo = (int)hga_box_rd_u32(&in->body);
	uint32_t grace = hga_box_rd_u32(&in->body);

	if (in->body.bad || signo <= 0 || signo >= NSIG)
		return;
	for (size_t i = 0; i < a->n_child; i++) {
		struct child *c = &a->child[i];

		if (c->id != in->id || c->id == 0)
			continue;
		/* before its setsid the child has no group of its own */
		if (kill(-c->pid, signo) < 0)
			(void)kill(c->pid, signo); /* it may be gone */
		c->doomed |= grace > 0 || signo == SIGKILL;
		if (grace > 0)
			c->kill_at = now_ms() + grace;
	}
}

static void ssh_child(const int fds[3])
{
	char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
	              "/sbin:/bin";
	char name[] = "/usr/sbin/sshd", inetd[] = "-i", log[] = "-e";
	char *argv[] = {name, inetd, log, NULL};
	char *env[] = {path, NULL};

	start_child(fds);
	(void)execve(name, argv, env); /* returns only to fail */
	fail_child(name);
}

static void on_ssh(struct hga_box_in *in)
{
	int fds[3] = {-1, -1, STDERR_FILENO};
	pid_t pid;

	if (in->n_fds != 1)
		return;
	fds[0] = in->fds[0];
	fds[1] = in->fds[0];
	pid = fork();
	if (pid == 0)
		ssh_child(fds);
	if (pid < 0)
		say("hgauto-box: fork for sshd: %s", strerror(errno));
}

/* ---- reaping ---- */

static void reaped(struct agent *a, pid_t pid, int status)
{
	uint8_t room[8];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	for (size_t i = 0; i < a->n_child; i++) {
		if (a->child[i].id == 0 || a->child[i].pid != pid)
			continue;
		hga_box_wr_u32(&w, (uint32_t)status);
		reply(a, HGA_BOX_EXIT, a->child[i].id, &w);
		a->child[i].id = 0;
		return;
	}
}

/* The group of a command that is to be killed, while its number is still
 * held by the unreaped leader. */
static void sweep_group(struct agent *a, pid_t pid)
{
	for (size_t i = 0; i < a->n_child; i++)
		if (a->child[i].id != 0 && a->child[i].pid == pid &&
		    a->child[i].doomed)
			(void)kill(-pid, SIGKILL); /* may be empty */
}

/* Collects all zombies; false when no child is left at all. */
static bool reap(struct agent *a)
{
	siginfo_t info;
	int status;

	for (;;) {
		info.si_pid = 0;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
			return errno != ECHILD;
		if (info.si_pid == 0)
			return true;
		sweep_group(a, info.si_pid);
		if (waitpid(info.si_pid, &status, WNOHANG) == info.si_pid)
			reaped(a, info.si_pid, status);
	}
}

static void run_kills(struct agent *a, int64_t now)
{
	for (size_t i = 0; i < a->n_child; i++) {
		struct child *c = &a->child[i];

		if (c->id == 0 || c->kill_at == 0 || c->kill_at > now)
			continue;
		c->kill_at = 0;
		(void)kill(-c->pid, SIGKILL); /* may be gone */
	}
}

/* ---- the end ---- */

static void drain_signals(struct agent *a)
{
	struct signalfd_siginfo info;

	while (read(a->sigfd, &info, sizeof(info)) > 0)
		;
}

/* Waits until no child is left, at most until `until`. */
static bool wait_empty(struct agent *a, int64_t until)
{
	while (reap(a)) {
		struct pollfd p = {.fd = a->sigfd, .events = POLLIN};
		int64_t left = until - now_ms();

		if (left <= 0)
			return false;
		if (poll(&p, 1, (int)left) > 0)
			drain_signals(a);
	}
	return true;
}

/* Orderly end of all processes; returns the exit status. */
static int bring_down(struct agent *a, enum hga_box_power what)
{
	bool again = what == HGA_BOX_POWER_REBOOT;
	uint8_t reason = again ? HGA_BOX_REASON_REBOOT : HGA_BOX_REASON_OFF;
	struct hga_box_wr w = {&reason, 1, 1, false};

	reply(a, HGA_BOX_DOWN, 0, &w);
	(void)kill(-1, SIGTERM); /* nobody left is fine */
	(void)kill(-1, SIGCONT);
	if (!wait_empty(a, now_ms() + END_MS)) {
		(void)kill(-1, SIGKILL);
		(void)wait_empty(a, now_ms() + END_MS); /* our end kills all */
	}
	/* no sync: the page cache is the host's and outlives the instance */
	return again ? HGA_BOX_EXIT_REBOOT : HGA_BOX_EXIT_OFF;
}

static void plan(struct agent *a, const struct initctl *c)
{
	a->end_at = 0;
	a->end_what = c->what;
	if (c->what == (enum hga_box_power)0)
		return;
	a->end_at = now_ms() + (int64_t)c->seconds * 1000;
}

static void on_initctl(struct agent *a)
{
	char buf[256];
	ssize_t n = read(a->initctl, buf, sizeof(buf));
	struct initctl c;

	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] != '\n') {
			if (a->line_n < sizeof(a->line))
				a->line[a->line_n++] = buf[i];
			continue;
		}
		if (initctl_parse(a->line, a->line_n, &c))
			plan(a, &c);
		a->line_n = 0;
	}
}

/* ---- volumes ---- */

static void on_disk(struct agent *a, struct hga_box_in *in, bool attach)
{
	static struct disk d; /* too large for the stack */
	unsigned ma = hga_box_rd_u32(&in->body);
	unsigned mi = hga_box_rd_u32(&in->body);
	struct fault f;

	if (!disk_parse(&in->body, &d)) {
		reply_error(a, in->id, EINVAL, "malformed volume");
		return;
	}
	d.major = ma;
	d.minor = mi;
	if ((attach ? disk_nodes(&d, &f) : disk_forget(&d, &f)) < 0)
		reply_error(a, in->id, f.sys, f.text);
	else
		reply(a, HGA_BOX_OK, in->id, NULL);
}

/* ---- messages ---- */

/* POWER: 0 and *what set; anything malformed: -1. */
static int on_power(struct hga_box_in *in, enum hga_box_power *what)
{
	uint8_t v = hga_box_rd_u8(&in->body);

	if (in->body.bad ||
	    (v != HGA_BOX_POWER_OFF && v != HGA_BOX_POWER_REBOOT))
		return -1;
	*what = (enum hga_box_power)v;
	return 0;
}

/* One message; false when the keeper is gone or speaks nonsense. */
static bool on_message(struct agent *a, enum hga_box_power *end)
{
	struct hga_box_in in;
	bool good = true;

	if (hga_box_recv(a->sock, a->buf, &in) <= 0)
		return false;
	switch (in.type) {
	case HGA_BOX_EXEC:
		on_exec(a, &in);
		break;
	case HGA_BOX_KILL:
		on_kill(a, &in);
		break;
	case HGA_BOX_SSH:
		on_ssh(&in);
		break;
	case HGA_BOX_POWER:
		good = on_power(&in, end) == 0;
		break;
	case HGA_BOX_DISK:
	case HGA_BOX_UNDISK:
		on_disk(a, &in, in.type == HGA_BOX_DISK);
		break;
	case HGA_BOX_CONN:
		reply_error(a, in.id, ENOTSUP,
		            "this version does not support it");
		break;
	case HGA_BOX_PORTS:
	case HGA_BOX_NET:
	case HGA_BOX_BORN:
	case HGA_BOX_BOOTED:
	case HGA_BOX_FAIL:
	case HGA_BOX_LISTEN:
	case HGA_BOX_DOWN:
	case HGA_BOX_GONE:
	case HGA_BOX_EXIT:
	case HGA_BOX_FD:
	case HGA_BOX_OK:
	case HGA_BOX_ERR:
	default:
		good = false;
		break;
	}
	hga_box_close_fds(&in);
	return good;
}

/* Milliseconds until the next deadline, -1 for none; at most a minute, for
 * poll does not count the machine's sleep. */
static int next_wait(const struct agent *a, int64_t now)
{
	int64_t at = a->end_at ? a->end_at : INT64_MAX;

	for (size_t i = 0; i < a->n_child; i++)
		if (a->child[i].id != 0 && a->child[i].kill_at != 0 &&
		    a->child[i].kill_at < at)
			at = a->child[i].kill_at;
	if (at == INT64_MAX)
		return -1;
	if (at <= now)
		return 0;
	return at - now > 60000 ? 60000 : (int)(at - now);
}

/* One round; returns false when the instance must end at once. */
static bool turn(struct agent *a, enum hga_box_power *end)
{
	struct pollfd p[3] = {
	    {.fd = a->sock, .events = POLLIN},
	    {.fd = a->sigfd, .events = POLLIN},
	    {.fd = a->initctl, .events = POLLIN},
	};
	int64_t now;

	if (poll(p, 3, next_wait(a, now_ms())) < 0)
		return errno == EINTR;
	if (p[1].revents != 0) {
		drain_signals(a);
		(void)reap(a); /* no child at all is the normal case */
	}
	if (p[2].revents != 0)
		on_initctl(a);
	if (p[0].revents != 0 && !on_message(a, end))
		return false;
	now = now_ms();
	run_kills(a, now);
	if (a->end_at != 0 && now >= a->end_at)
		*end = a->end_what;
	return true;
}

int agent_run(int sock, int initctl)
{
	enum hga_box_power end = (enum hga_box_power)0;
	struct agent *a = &agent;
	sigset_t set;

	a->sock = sock;
	a->initctl = initctl;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	a->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->sigfd < 0)
		return HGA_BOX_EXIT_FAIL;
	while (end == (enum hga_box_power)0)
		if (!turn(a, &end))
			return HGA_BOX_EXIT_FAIL;
	return bring_down(a, end);
}
