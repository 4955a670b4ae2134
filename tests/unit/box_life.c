/*
 * Local instances for real: start, commands, rules, every way to end.  Needs
 * root and a static busybox; the layer is busybox and three account files.
 */
#include "box/box.h"
#include "net/loop.h"

#include "base/mem.h"
#include "tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct hga_loop *loop;
static struct hga_box_program program;
static char dir[PATH_MAX]; /* images/base, i/u, i/w, i/box.log */
static bool got;

static void on_done(struct hga_op *op)
{
	(void)op;
	got = true;
}

/* Steps the loop until the operation's done came, at most 15 s. */
static bool settle(void)
{
	time_t end = time(NULL) + 15;

	while (!got && time(NULL) < end)
		if (hga_loop_step(loop, 100, NULL) < 0)
			return false;
	return got;
}

/* ---- the layer ---- */

static bool make_dirs(void)
{
	static const char *const names[] = {"",
	                                    "/images",
	                                    "/images/base",
	                                    "/images/base/bin",
	                                    "/images/base/etc",
	                                    "/images/base/root",
	                                    "/images/base/usr",
	                                    "/images/base/usr/sbin",
	                                    "/i",
	                                    "/i/u",
	                                    "/i/u2",
	                                    "/i/w"};
	char path[PATH_MAX + 64];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", dir, names[i]);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return false;
	}
	return true;
}

static bool put(const char *name, const void *p, size_t n, mode_t mode)
{
	char path[PATH_MAX + 64];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	if (f == NULL)
		return false;
	n -= fwrite(p, 1, n, f);
	return fclose(f) == 0 && n == 0 && chmod(path, mode) == 0;
}

static char *load(const char *path, size_t *n)
{
	FILE *f = fopen(path, "re");
	char *p = NULL;
	long size;

	if (f == NULL)
		return NULL;
	if (fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) > 0 &&
	    fseek(f, 0, SEEK_SET) == 0 && (p = malloc((size_t)size)) != NULL)
		*n = fread(p, 1, (size_t)size, f);
	(void)fclose(f);
	return p;
}

static bool make_layer(void)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
	                             "web:x:33:33::/:/bin/sh\n";
	static const char group[] = "root:x:0:\nweb:x:33:\nsudo:x:27:\n"
	                            "adm:x:4:web\n";
	static const char *const tools[] = {
	    "sh",    "cat",  "id",   "sleep",    "env",  "pwd",
	    "mount", "ls",   "kill", "date",     "head", "reboot_",
	    "stat",  "echo", "dd",   "hostname", "ip",   "mknod"};
	char to[PATH_MAX + 64];
	size_t n = 0;
	char *p = load("/bin/busybox", &n);
	bool good =
	    p != NULL && make_dirs() &&
	    put("images/base/bin/busybox", p, n, 0755) &&
	    put("images/base/etc/passwd", passwd, sizeof(passwd) - 1, 0644) &&
	    put("images/base/etc/group", group, sizeof(group) - 1, 0644);

	free(p);
	for (size_t i = 0; good && i < sizeof(tools) / sizeof(tools[0]); i++) {
		(void)snprintf(to, sizeof(to), "%s/images/base/bin/%s", dir,
		               tools[i]);
		good = symlink("busybox", to) == 0;
	}
	return good;
}

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *at)
{
	(void)st;
	(void)flag;
	(void)at;
	return remove(path);
}

/* ---- helpers of the cases ---- */

static struct hga_box_rule ssh_rule = {
    .proto = 6, .prefix = 8, .from = 22, .to = 22, .net = 0x7f000000};

static const char *upper = "../i/u";

static struct hga_box *boot(const struct hga_box_args *more,
                            struct hga_err *err)
{
	static char images[PATH_MAX + 16], log[PATH_MAX + 16];
	static const char *const layers[] = {"base"};
	struct hga_box_args a = *more;
	struct hga_box_op op = {.base = {.done = on_done}};
	struct hga_box *box = hga_box_new(loop, err);
	int r;

	(void)snprintf(images, sizeof(images), "%s/images", dir);
	(void)snprintf(log, sizeof(log), "%s/i/box.log", dir);
	a.program = program.path;
	if (a.hostname == NULL)
		a.hostname = "ip-172-31-0-5";
	a.images_dir = images;
	if (a.layers == NULL) {
		a.layers = layers;
		a.n_layers = 1;
	}
	a.upper = upper;
	a.work = "../i/w";
	a.log = log;
	got = false;
	r = hga_box_start(box, &op, &a, err);
	if (r == 0 && !settle())
		(void)hga_fail(&op.base.err, HGA_TIMEOUT, 0, "test", "boot");
	if (r == 0)
		*err = op.base.err;
	hga_op_cancel(&op.base);
	return box;
}

static char output[8192];

/* Runs a shell command as user; its exit code, or -1; output is kept. */
static int sh(struct hga_box *box, const char *user, const char *command,
              struct hga_err *err)
{
	const char *argv[] = {"/bin/sh", "-c", command};
	const char *env[] = {"COLOR=blue"};
	struct hga_box_exec x = {.base = {.done = on_done}};
	struct hga_box_exec_args a = {.user = user,
	                              .argv = argv,
	                              .argc = 3,
	                              .env = env,
	                              .n_env = 1,
	                              .in = "from stdin\n",
	                              .in_len = 11};
	int code = -1;

	got = false;
	err->kind = HGA_OK;
	if (hga_box_exec_start(box, &x, &a, err) == 0) {
		if (settle() && x.base.err.kind == HGA_OK && x.exited)
			code = x.signal ? 1000 + x.signal : x.code;
		*err = x.base.err;
	}
	(void)snprintf(output, sizeof(output), "%s%s", hga_buf_text(&x.out),
	               hga_buf_text(&x.errq));
	hga_box_exec_release(&x);
	return code;
}

static const char *end_reason(struct hga_box *box)
{
	struct hga_box_op op = {.base = {.done = on_done}};

	got = false;
	if (hga_box_wait(box, &op, 10000, true, NULL) < 0 || !settle())
		return "no end";
	return hga_box_reason_name(hga_box_get_info(box)->reason);
}

/* ---- cases ---- */

static void test_commands(void)
{
	struct hga_err err = {0};
	struct hga_box_args a = {.private_ip = "172.31.0.5"};
	struct hga_box *box = boot(&a, &err);

	is_str(err.msg, "", "an instance boots");
	is_int(sh(box, NULL, "echo out; echo err >&2; exit 7", &err), 7,
	       "exit code");
	is_str(output, "out\nerr\n", "output and error output");
	is_int(sh(box, NULL, "cat", &err), 0, "standard input");
	is_str(output, "from stdin\n", "reaches the command and ends");
	is_int(sh(box, NULL, "echo $COLOR $HOME $USER; pwd; hostname", &err), 0,
	       "environment");
	is_str(output, "blue /root root\n/root\nip-172-31-0-5\n",
	       "is clean and has what was given");
	is_int(sh(box, "web", "id", &err), 0, "as another user");
	is_str(output, "uid=33(web) gid=33(web) groups=4(adm),33(web)\n",
	       "with its groups");
	is_int(sh(box, "nobody", "id", &err), -1, "an unknown user");
	is_int(err.kind, HGA_NOTFOUND, "is said so");
	is_int(sh(box, NULL, "kill -9 $$", &err), 1009, "death by signal");
	is_int(sh(box, NULL, "mknod /tmp/x c 1 3", &err), 1,
	       "commands may not make device nodes");
	is_int(sh(box, NULL, "echo 1 >/proc/sys/kernel/panic", &err), 1,
	       "nor change the host's settings");
	is_int(sh(box, NULL, "ip -4 addr show | grep -c inet || ip addr", &err),
	       0, "two addresses on lo");
	is_int(sh(box, NULL,
	          "echo x >/dev/null && echo $$ >/dev/shm/a && "
	          "ls /dev/pts/ptmx /proc/self/exe",
	          &err),
	       0, "device nodes work");
	hga_box_free(box);
}

static void test_files(void)
{
	static const struct hga_box_file files[] = {
	    {"/home/admin/.ssh/", "admin", 0700, NULL, 0},
	    {"/home/admin/.ssh/authorized_keys", "admin", 0600, "key\n", 4},
	    {"/etc/deep/er/file", NULL, 0640, "a\0b", 3},
	};
	static const struct hga_box_user users[] = {
	    {"admin", "/bin/sh", "sudo,adm"}};
	static const struct hga_box_file bad = {"/bin/sh/x", NULL, 0, "", 0};
	static const struct hga_box_file link_ = {"/bin/sh", NULL, 0755,
	                                          "#!/bin/cat\n", 11};
	struct hga_box_args a = {
	    .files = files, .n_files = 3, .users = users, .n_users = 1};
	struct hga_err err = {0};
	struct hga_box *box = boot(&a, &err);

	is_str(err.msg, "", "boot with files and a user");
	is_int(sh(box, "admin",
	          "id; stat -c '%a %U %n' ~ ~/.ssh "
	          "~/.ssh/authorized_keys",
	          &err),
	       0, "the user");
	is_str(output,
	       "uid=1000(admin) gid=1000(admin) "
	       "groups=4(adm),27(sudo),1000(admin)\n"
	       "755 admin /home/admin\n700 admin /home/admin/.ssh\n"
	       "600 admin /home/admin/.ssh/authorized_keys\n",
	       "owns home and files");
	is_int(sh(box, NULL,
	          "stat -c '%a %U %s' /etc/deep/er/file; "
	          "cat /etc/shadow | head -c 9",
	          &err),
	       0, "root's");
	is_str(output, "640 root 3\nadmin:*:1", "file and locked password");
	hga_box_free(box);

	a = (struct hga_box_args){.files = &bad, .n_files = 1};
	box = boot(&a, &err);
	is_str(err.code, "file", "a path through a link is refused");
	hga_box_free(box);
	a.files = &link_;
	box = boot(&a, &err);
	is_int(err.kind, HGA_OK, "a link at the end is replaced");
	hga_box_free(box);
	is_int(access("/bin/sh", X_OK), 0, "(the host's is as it was)");
	upper = "../i/u2"; /* that link was the shell */
}

/* A connection to 127.77.250.9:22: 0, or errno of connect or read. */
static int knock(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	                         .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), r;
	char c;

	in.sin_addr.s_addr = htonl(0x7f4dfa09);
	r = connect(fd, (struct sockaddr *)&in, sizeof(in));
	if (r == 0)
		r = read(fd, &c, 1) < 0 ? -1 : 0;
	r = r < 0 ? errno : 0;
	(void)close(fd);
	return r;
}

static int set_rules(struct hga_box *box, const struct hga_box_rule *rules,
                     size_t n)
{
	struct hga_box_op op = {.base = {.done = on_done}};
	struct hga_err err = {0};

	got = false;
	if (hga_box_ports(box, &op, rules, n, &err) < 0 || !settle())
		return -1;
	return (int)op.base.err.kind;
}

static void test_rules(void)
{
	struct hga_box_rule other = ssh_rule;
	struct hga_box_args a = {
	    .address = "127.77.250.9", .rules = &ssh_rule, .n_rules = 1};
	struct hga_err err = {0};
	struct hga_box *box = boot(&a, &err);
	uint16_t port = hga_box_get_info(box)->ssh_port;

	is_str(err.msg, "", "boot with a public address");
	ok(port == 22 || port == 2222, "SSH listens");
	is_int(knock(port), 0,
	       "an admitted source is served "
	       "(this layer has no sshd: end of file)");
	other.net = 0x0a000000;
	is_int(set_rules(box, &other, 1), 0, "replace the rules");
	is_int(knock(port), ECONNRESET, "another source is reset");
	is_int(set_rules(box, NULL, 0), 0, "no rules");
	is_int(knock(port), ECONNREFUSED, "nothing listens");
	is_int(hga_box_get_info(box)->ssh_port, 0, "and info says so");
	is_int(set_rules(box, &ssh_rule, 1), 0, "rules again");
	is_int(knock(port), 0, "listens again");
	hga_box_free(box);
	is_int(knock(port), ECONNREFUSED, "nothing listens after the end");
}

static void test_ends(void)
{
	static const struct {
		const char *command, *reason, *name;
	} ways[] = {
	    {"/usr/sbin/poweroff", "off", "poweroff"},
	    {"/usr/sbin/reboot", "reboot", "reboot"},
	    {"shutdown -h now", "off", "shutdown now"},
	    {"shutdown -r +0", "reboot", "shutdown -r +0"},
	    {"shutdown -P +5; shutdown -c; echo P 1 >/run/hgauto/initctl",
	     "off", "a planned end is replaced"},
	    {"busybox poweroff -f", "off", "reboot(2) to power off"},
	    {"busybox reboot -f", "reboot", "reboot(2) to restart"},
	};
	struct hga_box_args a = {0};
	struct hga_err err = {0};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct hga_box *box = boot(&a, &err);

		(void)sh(box, NULL, ways[i].command, &err); /* may not answer */
		is_str(end_reason(box), ways[i].reason, ways[i].name);
		is_int(sh(box, NULL, "true", &err), -1, "no command after it");
		is_str(err.code, "Gone", "says gone");
		hga_box_free(box);
	}
}

static void test_power(void)
{
	static const struct {
		enum hga_box_power what;
		const char *reason;
	} ways[] = {{HGA_BOX_POWER_OFF, "off"},
	            {HGA_BOX_POWER_REBOOT, "reboot"},
	            {HGA_BOX_POWER_KILL, "killed"}};
	struct hga_box_args a = {0};
	struct hga_err err = {0};

	for (size_t i = 0; i < 3; i++) {
		struct hga_box *box = boot(&a, &err);

		is_int(hga_box_power(box, ways[i].what, &err), 0, "power");
		is_str(end_reason(box), ways[i].reason, ways[i].reason);
		is_int(hga_box_power(box, ways[i].what, &err), 0,
		       "again, after the end");
		hga_box_free(box);
	}
}

static void test_murder(void)
{
	struct hga_box_args a = {0};
	struct hga_err err = {0};
	struct hga_box *box = boot(&a, &err);

	(void)sh(box, NULL, "busybox setsid sleep 1000 >/dev/null 2>&1 &",
	         &err);
	(void)kill(hga_box_get_info(box)->keeper, SIGKILL);
	is_str(end_reason(box), "crash", "a killed keeper takes all along");
	hga_box_free(box);
	box = boot(&a, &err);
	is_int(err.kind, HGA_OK, "the directory can be used at once");
	(void)kill(hga_box_get_info(box)->keeper, SIGTERM);
	is_str(end_reason(box), "crash", "terminated keeper");
	hga_box_free(box);
}

static void test_bad_start(void)
{
	static const char *const nolayer[] = {"missing"};
	static const char *const evil[] = {"base,upperdir=x"};
	struct hga_box_args a = {.layers = nolayer, .n_layers = 1};
	struct hga_err err = {0};
	struct hga_box *box = boot(&a, &err);

	is_str(err.code, "overlay", "a missing layer is named");
	is_int(err.sys, ENOENT, "with its errno");
	is_str(end_reason(box), "crash", "such a start has ended");
	hga_box_free(box);
	a.layers = evil;
	box = boot(&a, &err);
	is_str(err.code, "spec", "a layer name with mount options is refused");
	hga_box_free(box);
	a = (struct hga_box_args){.address = "10.0.0.1"};
	box = boot(&a, &err);
	is_str(err.code, "spec", "only loopback addresses");
	hga_box_free(box);
}

static void test_output(void)
{
	static const char flood[] =
	    "dd if=/dev/zero bs=1000 count=900 2>&-; sleep 100";
	const char *argv[] = {"/bin/sh", "-c", flood};
	struct hga_box_args a = {0};
	struct hga_box_exec_args x_args = {
	    .argv = argv, .argc = 3, .timeout_ms = 700};
	struct hga_box_exec x = {.base = {.done = on_done}};
	struct hga_err err = {0};
	struct hga_box *box = boot(&a, &err);
	size_t sum = 0;

	got = false;
	is_int(hga_box_exec_start(box, &x, &x_args, &err), 0, "much output");
	for (time_t end = time(NULL) + 15; !got && time(NULL) < end;) {
		if (hga_loop_step(loop, 100, NULL) < 0)
			break;
		sum += x.out.len;
		hga_buf_clear(&x.out);
		hga_box_exec_resume(&x);
	}
	is_int((long long)sum, 900000, "arrives whole through the queue");
	is_int(x.base.err.kind, HGA_TIMEOUT, "the deadline is kept");
	hga_box_exec_release(&x);

	x = (struct hga_box_exec){.base = {.done = on_done}};
	is_int(hga_box_exec_start(box, &x, &x_args, &err), 0, "cancelled one");
	hga_box_exec_release(&x);
	is_int(sh(box, NULL,
	          "i=0; while busybox pidof sleep && [ $i -lt 40 ]; "
	          "do i=$((i+1)); busybox usleep 100000; done; "
	          "busybox pidof sleep",
	          &err),
	       1, "nothing of it is left");
	hga_box_free(box);
}

static void test_speed(void)
{
	struct hga_box_args a = {.private_ip = "172.31.0.5",
	                         .address = "127.77.250.9",
	                         .rules = &ssh_rule,
	                         .n_rules = 1};
	struct hga_err err = {0};
	double best = 1e9, sum = 0;

	for (int i = 0; i < 20; i++) {
		struct timespec t, u;
		struct hga_box *box;

		(void)clock_gettime(CLOCK_MONOTONIC, &t);
		box = boot(&a, &err);
		(void)clock_gettime(CLOCK_MONOTONIC, &u);
		hga_box_free(box);
		double ms = (double)(u.tv_sec - t.tv_sec) * 1e3 +
		            (double)(u.tv_nsec - t.tv_nsec) / 1e6;
		sum += ms;
		if (ms < best)
			best = ms;
	}
	printf("# start to booted: best %.1f ms, mean %.1f ms\n", best,
	       sum / 20);
}

/* ---- */

static bool open_program(struct hga_err *err)
{
	char self[PATH_MAX], path[PATH_MAX + 32];
	const char *given = getenv("HGAUTO_BOX_PROGRAM");
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	size_t len = 0;
	char *image;
	bool good;

	self[n > 0 ? n : 0] = '\0';
	for (int i = 0; i < 2 && strrchr(self, '/'); i++)
		*strrchr(self, '/') = '\0';
	(void)snprintf(path, sizeof(path), "%s/hgauto-box", self);
	image = load(given ? given : path, &len);
	good = image != NULL &&
	       hga_box_program_open(&program, image, len, dir, err) == 0;
	free(image);
	return good;
}

int main(void)
{
	struct hga_err err = {0};
	const char *tmp = getenv("TMPDIR");

	if (geteuid() != 0) {
		skip("local instances need root");
		return done();
	}
	if (access("/bin/busybox", X_OK) < 0) {
		skip("no /bin/busybox (apt install busybox-static)");
		return done();
	}
	(void)snprintf(dir, sizeof(dir), "%s/box_life.%ld", tmp ? tmp : "/tmp",
	               (long)getpid());
	loop = hga_loop_new(&err);
	if (!make_layer() || !open_program(&err)) {
		skip("no box program or no layer (make all first)");
		(void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
		return done();
	}
	test_commands();
	test_files();
	test_rules();
	test_ends();
	test_power();
	test_murder();
	test_bad_start();
	test_output();
	test_speed();
	hga_box_program_close(&program);
	hga_loop_free(loop);
	is_int(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0,
	       "the directory is free to go");
	return done();
}
