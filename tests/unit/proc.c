/*
 * net/proc: output, input, exit states, descriptors, groups, deadlines,
 * cancel, back-pressure, grandchildren; no zombie and no descriptor is left.
 */
#include "tap.h"

#include "base/mem.h"
#include "net/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct hga_loop *loop;
static struct hga_err err;

struct job {
	struct hga_proc p;
	struct hga_buf out, errq;
	int done, progress;
	bool slow; /* leaves its queues full */
};

static int64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void take(struct hga_buf *to, struct hga_buf *from)
{
	if (hga_buf_add(to, hga_buf_text(from), from->len, NULL) < 0)
		ok(false, "collecting output");
	hga_buf_clear(from);
}

static void drain(struct job *j)
{
	take(&j->out, &j->p.out);
	take(&j->errq, &j->p.errq);
	hga_proc_resume(&j->p);
}

static void on_progress(struct hga_op *op)
{
	struct job *j = (struct job *)op;

	j->progress++;
	if (!j->slow)
		drain(j);
}

static void on_done(struct hga_op *op)
{
	struct job *j = (struct job *)op;

	j->done++;
	drain(j);
}

static int start(struct job *j, struct hga_proc_args *a,
                 const char *const *argv)
{
	memset(j, 0, sizeof(*j));
	hga_buf_init(&j->out, 8 << 20);
	hga_buf_init(&j->errq, 8 << 20);
	j->p.base.done = on_done;
	j->p.base.progress = on_progress;
	a->argv = argv;
	return hga_proc_start(loop, &j->p, a, &err);
}

static void wait_for(struct job *j)
{
	int64_t end = ms_now() + 10000;

	while (j->done == 0 && ms_now() < end)
		if (hga_loop_step(loop, 1000, &err) < 0)
			break;
}

static void release(struct job *j)
{
	hga_proc_release(&j->p);
	hga_buf_release(&j->out);
	hga_buf_release(&j->errq);
}

/* Runs sh -c SCRIPT with pipes. */
static void run(struct job *j, const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct hga_proc_args a = {
	    .in = HGA_IO_NULL, .out = HGA_IO_PIPE, .err = HGA_IO_PIPE};

	if (start(j, &a, argv) == 0)
		wait_for(j);
	else
		ok(false, "start: %s", err.msg);
}

static void test_output(void)
{
	struct job j;

	run(&j, "echo out; echo err >&2; exit 3");
	is_int(j.done, 1, "done once");
	is_str(hga_buf_text(&j.out), "out\n", "standard output");
	is_str(hga_buf_text(&j.errq), "err\n", "standard error");
	ok(j.p.exited && j.p.code == 3 && j.p.signal == 0, "exit code");
	is_int(j.p.base.err.kind, HGA_OK, "an exit code is no error here");
	release(&j);
	run(&j, "kill -9 $$");
	ok(j.p.exited && j.p.signal == SIGKILL && WIFSIGNALED(j.p.status),
	   "a signal is told");
	hga_proc_kill(&j.p, SIGTERM);
	release(&j);
	release(&j);
	ok(true, "kill after the end and a second release are harmless");
}

static void test_missing(void)
{
	const char *const argv[] = {"hgauto-no-such-program", NULL};
	const char *const sh[] = {"sh", "-c", "pwd", NULL};
	struct hga_proc_args a = {.out = HGA_IO_PIPE};
	struct job j;

	is_int(start(&j, &a, argv), -HGA_NOTFOUND, "missing program");
	is_str(err.code, "Spawn", "code Spawn");
	a.cwd = "/nonexistent-dir";
	is_int(start(&j, &a, sh), -HGA_NOTFOUND, "missing directory");
	ok(strstr(err.msg, "/nonexistent-dir") != NULL, "is named");
	a.cwd = "/";
	is_int(start(&j, &a, sh), 0, "an existing one");
	wait_for(&j);
	is_str(hga_buf_text(&j.out), "/\n", "is used");
	release(&j);
	ok(!hga_loop_busy(loop), "nothing is left in the loop");
}

static void test_input(void)
{
	const char *const argv[] = {"wc", "-c", NULL};
	const char *const cat[] = {"cat", NULL};
	const char *const no[] = {"true", NULL};
	struct hga_proc_args a = {.in = HGA_IO_PIPE, .out = HGA_IO_PIPE};
	size_t n = 3 << 20;
	char *big = calloc(1, n);
	struct job j;

	a.in_data = big;
	a.in_len = n;
	is_int(start(&j, &a, argv), 0, "3 MiB to standard input");
	wait_for(&j);
	is_str(hga_buf_text(&j.out), "3145728\n", "arrive");
	release(&j);
	is_int(start(&j, &a, no), 0, "a child that reads nothing");
	wait_for(&j);
	ok(j.done == 1 && j.p.code == 0 && j.p.base.err.kind == HGA_OK,
	   "is no error");
	release(&j);
	a.in_data = "one ";
	a.in_len = 4;
	a.in_open = true;
	is_int(start(&j, &a, cat), 0, "standard input stays open");
	is_int(hga_proc_write(&j.p, "two", 3, &err), 0, "a write");
	ok(hga_proc_pending(&j.p) == 7, "pending bytes are counted");
	hga_proc_close_stdin(&j.p);
	is_int(hga_proc_write(&j.p, "x", 1, &err), -HGA_IO,
	       "a write after close fails");
	wait_for(&j);
	is_str(hga_buf_text(&j.out), "one two", "all of it arrives");
	release(&j);
	free(big);
}

static void test_env(void)
{
	const char *const argv[] = {"sh", "-c",
	                            "echo $A-$HOME-$(ps -o "
	                            "pgid= -p $$ | tr -d ' ')",
	                            NULL};
	const char *const env[] = {"A=1", "PATH=/usr/bin:/bin", NULL};
	struct hga_proc_args a = {.out = HGA_IO_PIPE, .env = env};
	char want[64];
	struct job j;

	is_int(start(&j, &a, argv), 0, "own environment");
	wait_for(&j);
	snprintf(want, sizeof(want), "1--%d\n", (int)j.p.pid);
	is_str(hga_buf_text(&j.out), want,
	       "only the given variables, a process group of its own");
	release(&j);
	run(&j, "grep SigIgn /proc/self/status");
	ok((strtoull(hga_buf_text(&j.out) + 8, NULL, 16) >> (SIGPIPE - 1)) %
	           2 ==
	       0,
	   "SIGPIPE is not ignored in the child");
	release(&j);
}

static int above_8(int fd)
{
	int high = fcntl(fd, F_DUPFD, 9);

	close(fd);
	return high;
}

/* The numbers cross: our 7 and 8 become the child's 8 and 7. */
static void test_fds(void)
{
	const char *const argv[] = {"sh", "-c",
	                            "cat <&8; cat <&7; ls /proc/self/fd | "
	                            "tr '\\n' ' '",
	                            NULL};
	const int keep[] = {7, 8, 8, 7, -1};
	struct hga_proc_args a = {.in = HGA_IO_NULL,
	                          .out = HGA_IO_PIPE,
	                          .err = HGA_IO_MERGE,
	                          .keep = keep};
	int p[2], q[2];
	struct job j;

	/* No CLOEXEC on purpose: none of the four may be inherited. */
	if (pipe(p) < 0 || pipe(q) < 0 || write(p[1], "P", 1) != 1 ||
	    write(q[1], "Q", 1) != 1)
		return;
	p[0] = above_8(p[0]);
	q[0] = above_8(q[0]);
	close(p[1]);
	close(q[1]);
	dup2(p[0], 7);
	dup2(q[0], 8);
	is_int(start(&j, &a, argv), 0, "descriptors for the child");
	wait_for(&j);
	is_str(hga_buf_text(&j.out), "PQ0 1 2 3 7 8 ",
	       "get their numbers, and no other is inherited");
	release(&j);
	close(7);
	close(8);
	close(p[0]);
	close(q[0]);
}

/* Alive and no zombie of somebody else. */
static bool is_running(pid_t pid)
{
	char path[64], line[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (f == NULL)
		return false;
	if (fgets(line, sizeof(line), f) == NULL)
		line[0] = '\0';
	fclose(f);
	return strstr(line, ") Z") == NULL && line[0] != '\0';
}

static void test_deadline(void)
{
	const char *const soft[] = {"sleep", "60", NULL};
	const char *const hard[] = {"sh", "-c",
	                            "trap '' TERM; sleep 60 & echo $!; "
	                            "while :; do sleep 1; done",
	                            NULL};
	struct hga_proc_args a = {.out = HGA_IO_PIPE, .timeout_ms = 100};
	int64_t t0 = ms_now();
	struct job j;
	pid_t kid;
	int i;

	is_int(start(&j, &a, soft), 0, "a deadline");
	wait_for(&j);
	is_int(j.p.base.err.kind, HGA_TIMEOUT, "is kind timeout");
	is_str(j.p.base.err.code, "Total", "code Total");
	ok(j.p.signal == SIGTERM && ms_now() - t0 < 1500, "ended by TERM");
	release(&j);
	t0 = ms_now();
	is_int(start(&j, &a, hard), 0, "a group that ignores TERM");
	wait_for(&j);
	is_int(j.p.signal, SIGKILL, "ended by KILL");
	ok(ms_now() - t0 >= 2000 && ms_now() - t0 < 3000, "2 s later");
	kid = (pid_t)strtol(hga_buf_text(&j.out), NULL, 10);
	for (i = 0; i < 100 && is_running(kid); i++)
		usleep(10000);
	if (!ok(kid > 0 && !is_running(kid), "with the children of the child"))
		printf("# kid %d, output %s\n", (int)kid, hga_buf_text(&j.out));
	release(&j);
}

static bool alive(pid_t pid)
{
	return kill(pid, 0) == 0;
}

static void test_cancel(void)
{
	const char *const argv[] = {"sleep", "60", NULL};
	const char *const hard[] = {
	    "sh", "-c", "trap '' TERM; echo x; sleep 60; sleep 60", NULL};
	struct hga_proc_args a = {.out = HGA_IO_PIPE};
	int64_t t0 = ms_now();
	struct job j;
	pid_t pid;

	is_int(start(&j, &a, argv), 0, "cancel");
	pid = j.p.pid;
	hga_op_cancel(&j.p.base);
	memset(&j.p, 0xee, sizeof(j.p));
	ok(hga_loop_busy(loop), "the loop still has the child");
	while (hga_loop_busy(loop) && ms_now() - t0 < 5000)
		if (hga_loop_step(loop, 1000, &err) < 0)
			break;
	ok(!alive(pid), "until it is dead and collected");
	ok(ms_now() - t0 < 1500, "by TERM");
	memset(&j.p, 0, sizeof(j.p));
	release(&j);

	is_int(start(&j, &a, hard), 0, "a child that ignores TERM");
	while (j.out.len == 0)
		if (hga_loop_step(loop, 1000, &err) < 0)
			break;
	pid = j.p.pid;
	release(&j);
	hga_loop_free(loop);
	ok(!alive(pid), "dies with the loop");
	loop = hga_loop_new(&err);
}

static void test_pressure(void)
{
	const char *const argv[] = {
	    "sh", "-c", "head -c 2000000 /dev/zero; echo end >&2", NULL};
	struct hga_proc_args a = {.out = HGA_IO_PIPE, .err = HGA_IO_PIPE};
	int64_t end = ms_now() + 1500;
	struct job j;

	is_int(start(&j, &a, argv), 0, "2 MB that nobody takes");
	j.slow = true;
	while (ms_now() < end)
		if (hga_loop_step(loop, 100, &err) < 0)
			break;
	is_int((long long)j.p.out.len, 256 * 1024, "wait in a bounded queue");
	is_int(j.done, 0, "and the child with them");
	j.slow = false;
	drain(&j);
	wait_for(&j);
	is_int((long long)j.out.len, 2000000, "all arrive later");
	is_str(hga_buf_text(&j.errq), "end\n", "on both pipes");
	release(&j);
	run(&j, "head -c 200000 /dev/zero");
	is_int((long long)j.out.len, 200000, "nothing is lost at the exit");
	release(&j);
}

static void test_grandchild(void)
{
	int64_t t0 = ms_now();
	struct job j;
	char pid[32];

	run(&j, "sleep 30 & echo $!");
	ok(ms_now() - t0 >= 900 && ms_now() - t0 < 3000,
	   "a grandchild with our pipe is awaited for 1 s");
	ok(j.p.exited && j.p.code == 0, "the exit code is the child's");
	snprintf(pid, sizeof(pid), "%s", hga_buf_text(&j.out));
	ok(alive(strtol(pid, NULL, 10)), "the grandchild lives on");
	kill((pid_t)strtol(pid, NULL, 10), SIGKILL);
	release(&j);
}

static int open_fds(void)
{
	int i, n = 0;

	for (i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static bool gave_up;

static void give_up(struct hga_op *op)
{
	struct hga_proc *p = (struct hga_proc *)op;

	hga_op_cancel(op);
	hga_proc_release(p);
	hga_free(p);
	gave_up = true;
}

/* A credential process that says too much ends so. */
static void test_give_up(void)
{
	static const char *const argvs[][4] = {
	    {"sh", "-c", "echo x; sleep 30", NULL},
	    {"sh", "-c", "echo x; exec >&-; sleep 0.1", NULL}};

	for (size_t i = 0; i < 2; i++) {
		struct hga_proc *p = hga_calloc(1, sizeof(*p));
		struct hga_proc_args a = {.argv = argvs[i], .out = HGA_IO_PIPE};
		int64_t end = ms_now() + 10000;

		gave_up = false;
		p->base.done = on_done; /* does not come */
		p->base.progress = give_up;
		is_int(hga_proc_start(loop, p, &a, &err), 0, "started");
		while (!gave_up && ms_now() < end)
			(void)!hga_loop_step(loop, 100, &err);
		ok(gave_up, "given up at its first output");
		while (hga_loop_busy(loop) && ms_now() < end)
			(void)!hga_loop_step(loop, 100, &err);
		ok(!hga_loop_busy(loop), "and the child has ended");
	}
}

int main(void)
{
	int fds = open_fds();

	loop = hga_loop_new(&err);
	test_output();
	test_missing();
	test_input();
	test_env();
	test_fds();
	test_deadline();
	test_cancel();
	test_pressure();
	test_grandchild();
	test_give_up();
	ok(!hga_loop_busy(loop), "the loop is idle at the end");
	hga_loop_free(loop);
	ok(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD,
	   "no zombie is left");
	is_int(open_fds(), fds, "no descriptor is left");
	return done();
}
