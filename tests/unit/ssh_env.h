/*
 * For ssh_*.c: a real sshd of our own (tests/servers/sshd.sh), a loop, and
 * transports that misbehave.  ssh_env_start skips the whole program where no
 * sshd can run.
 */
#ifndef HGA_TEST_SSH_ENV_H
#define HGA_TEST_SSH_ENV_H

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "net/loop.h"
#include "ssh/exec.h"
#include "ssh/session.h"
#include "ssh/sftp.h"
#include "ssh/tree.h"
#include "tap.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	char dir[256], pin[2048];
	int port, exec_ms;
	pid_t pid;
	struct hga_loop *loop;
	struct hga_key *key;
	struct hga_str pins[1];
	struct hga_ssh_cred cred[1];
} env;

__attribute__((unused)) static char *env_path(const char *name)
{
	static char path[4][512];
	static int i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", env.dir, name);
	return path[i];
}

static int env_run(const char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

__attribute__((unused)) static char *env_read(const char *path)
{
	struct hga_buf b;

	hga_buf_init(&b, 64 << 20);
	if (hga_fs_read(path, 64 << 20, &b, NULL) < 0)
		hga_buf_clear(&b);
	if (hga_buf_addc(&b, '\0', NULL) < 0)
		abort();
	return hga_buf_move(&b);
}

/* The server's log once it holds `word` (or after 10 s). */
__attribute__((unused)) static char *env_log_with(const char *word)
{
	char *log = NULL;

	for (int i = 0; i < 1000; i++) {
		hga_free(log);
		log = env_read(env_path("sshd.log"));
		if (strstr(log, word) != NULL)
			break;
		usleep(10000);
	}
	return log;
}

static int env_free_port(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t n = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
		abort();
	close(fd);
	return ntohs(sa.sin_port);
}

static bool env_connects(int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool up;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	up = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
	close(fd);
	return up;
}

__attribute__((unused)) static void env_listen(const char *line)
{
	char port[16];

	env.port = env_free_port();
	snprintf(port, sizeof(port), "%d", env.port);
	env.pid = fork();
	if (env.pid == 0) {
		setpgid(0, 0);
		execlp("sh", "sh", "tests/servers/sshd.sh", env.dir, "run",
		       port, line, (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 1000 && !env_connects(env.port); i++)
		poll(NULL, 0, 10);
}

/* Keys, directory, loop; false: no sshd here (said). */
static bool env_start(void)
{
	struct hga_err err;
	const char *argv[] = {"sh", "tests/servers/sshd.sh", env.dir, "setup",
	                      NULL};
	const char *tmp = getenv("TMPDIR");
	char *pub;

	snprintf(env.dir, sizeof(env.dir), "%s/hga-ssh-XXXXXX",
	         tmp ? tmp : "/tmp");
	if (mkdtemp(env.dir) == NULL || geteuid() != 0 || env_run(argv) != 0) {
		skip("needs root and sshd (openssh-server)");
		return false;
	}
	signal(SIGPIPE, SIG_IGN);
	env.loop = hga_loop_new(&err);
	if (env.loop == NULL ||
	    hga_key_load(env_path("id_ed25519"), &env.key, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		exit(1);
	}
	pub = env_read(env_path("host_ed25519.pub"));
	snprintf(env.pin, sizeof(env.pin), "%s", pub);
	hga_free(pub);
	env.pins[0] = hga_str(env.pin);
	env.cred[0].key = env.key;
	return true;
}

static void env_kill(void)
{
	if (env.pid > 0) {
		kill(-env.pid, SIGKILL);
		kill(env.pid, SIGKILL);
		waitpid(env.pid, NULL, 0);
	}
	env.pid = 0;
}

__attribute__((unused)) static int env_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static void env_stop(void)
{
	struct hga_err err;

	env_kill();
	hga_key_free(env.key);
	if (env.loop != NULL) {
		hga_loop_free(env.loop);
		hga_ssh_global_end();
	}
	if (env.dir[0] == '/' && hga_fs_rmtree(env.dir, &err) < 0)
		printf("# %s\n", err.msg);
}

static struct hga_ssh_args env_args(void)
{
	struct hga_ssh_args a = {.name = "t",
	                         .host = "127.0.0.1",
	                         .port = env.port,
	                         .user = "root",
	                         .pins = env.pins,
	                         .n_pins = 1,
	                         .creds = env.cred,
	                         .n_creds = 1};

	return a;
}

/* Steps the loop until the operation ends; false after sec seconds. */
static bool env_wait(struct hga_op *op, int sec)
{
	int64_t end = hga_mono_ms() + 1000 * sec;
	struct hga_err err;

	while (op->state == HGA_OP_RUNNING) {
		if (hga_mono_ms() > end) {
			printf("# gave up after %d s\n", sec);
			hga_op_cancel(op);
			return false;
		}
		if (hga_loop_step(env.loop, 100, &err) < 0)
			return false;
	}
	return true;
}

__attribute__((unused)) static void env_steps(int ms)
{
	int64_t end = hga_mono_ms() + ms;
	struct hga_err err;

	while (hga_mono_ms() < end)
		if (hga_loop_step(env.loop, 10, &err) < 0)
			return;
}

static struct hga_ssh *env_connect_args(const struct hga_ssh_args *a,
                                        struct hga_ssh_connect *op)
{
	memset(op, 0, sizeof(*op));
	if (hga_ssh_connect_start(env.loop, op, a, &op->base.err) < 0)
		return NULL;
	env_wait(&op->base, 60);
	return op->base.err.kind == HGA_OK ? op->ssh : NULL;
}

__attribute__((unused)) static struct hga_ssh *env_connect(void)
{
	struct hga_ssh_args a = env_args();
	struct hga_ssh_connect op;
	struct hga_ssh *ssh = env_connect_args(&a, &op);

	if (ssh == NULL)
		printf("# connect: %s\n", op.base.err.msg);
	return ssh;
}

struct env_result {
	struct hga_ssh_exec_info info;
	struct hga_err err;
	char out[8192], errout[8192], signal[24];
	bool truncated;
};

/* Runs a command to its end. */
__attribute__((unused)) static bool env_exec(struct hga_ssh *ssh,
                                             const char *cmd, struct hga_str in,
                                             struct env_result *r)
{
	struct hga_ssh_exec_args a = {
	    .cmd = hga_str(cmd), .input = in, .max_output = 4096};
	struct hga_ssh_exec *x;
	struct hga_ssh_wait w;
	int limit_ms = env.exec_ms ? env.exec_ms : 60000;

	memset(r, 0, sizeof(*r));
	memset(&w, 0, sizeof(w));
	if (hga_ssh_exec_start(ssh, &a, &x, &r->err) < 0)
		return false;
	do {
		if (hga_ssh_wait_start(x, &w, limit_ms, 0, false, &r->err) < 0)
			break;
		env_wait(&w.base, 65);
		hga_ssh_exec_info(x, &r->info);
	} while (w.base.err.kind == HGA_OK && !r->info.ended);
	if (w.base.err.kind != HGA_OK)
		r->err = w.base.err;
	for (int i = 0; i < 2; i++) {
		struct hga_str p[2];
		char *to = i ? r->errout : r->out;

		r->truncated |= hga_ssh_exec_tail(x, i, p);
		memcpy(to, p[0].s, p[0].n);
		memcpy(to + p[0].n, p[1].s, p[1].n);
		to[p[0].n + p[1].n] = '\0';
	}
	if (r->info.error != NULL)
		r->err = *r->info.error;
	snprintf(r->signal, sizeof(r->signal), "%s", r->info.signal);
	r->info.signal = r->signal;
	r->info.error = NULL;
	hga_ssh_exec_free(x);
	return r->err.kind == HGA_OK;
}

#endif
