/*
 * The SSH client against a real OpenSSH server: login, host key, commands,
 * files, and ends of all sorts.
 */
#include "ssh_env.h"

#include "base/hash.h"

static void test_identity(void)
{
	struct hga_ssh_args a = env_args();
	struct hga_ssh_connect op;
	char *log, *other = env_read(env_path("other.pub"));
	struct hga_str pins[1] = {hga_str(other)};
	char fp[80] = "";
	struct hga_pubinfo info;

	a.n_pins = 0;
	ok(env_connect_args(&a, &op) == NULL && op.base.err.kind == HGA_BUG,
	   "connecting without a pin is refused");
	a.n_pins = 1;
	a.pins = pins;
	ok(env_connect_args(&a, &op) == NULL && op.base.err.kind == HGA_AUTH,
	   "a wrong pin is an auth error");
	is_str(op.base.err.code, "HostKeyChanged", "its code");
	is_str(op.base.err.msg,
	       "ssh t: host key differs from the one given to the machine; "
	       "nothing was sent",
	       "its text");
	is_str(op.more.phase, "hostkey", "its phase");
	log = env_log_with("KEX done");
	ok(strstr(log, "userauth-request") == NULL &&
	       strstr(log, "KEX done") != NULL,
	   "the server saw no userauth message");
	hga_free(log);
	ok(hga_pubkey_info(hga_str(env.pin), &info, NULL) == 0, "pin");
	snprintf(fp, sizeof(fp), "%s", info.fingerprint);
	pins[0] = hga_str(fp);
	ok(env_connect_args(&a, &op) != NULL, "a fingerprint works as a pin");
	hga_ssh_close(op.ssh);
	hga_free(other);
	/* The type of the pin decides which key the server shows. */
	other = env_read(env_path("host_rsa.pub"));
	pins[0] = hga_str(other);
	ok(env_connect_args(&a, &op) != NULL, "an rsa host key: %s",
	   op.base.err.msg);
	hga_ssh_close(op.ssh);
	hga_free(other);
	other = env_read(env_path("host_ecdsa.pub"));
	pins[0] = hga_str(other);
	ok(env_connect_args(&a, &op) != NULL, "an ecdsa host key: %s",
	   op.base.err.msg);
	hga_ssh_close(op.ssh);
	hga_free(other);
}

static void test_keys(void)
{
	static const char *const names[] = {"id_ed25519", "id_ecdsa", "id_rsa"};
	struct hga_ssh_args a = env_args();
	struct hga_ssh_connect op;
	struct hga_ssh_cred cred = {.key = NULL};

	a.creds = &cred;
	for (int i = 0; i < 3; i++) {
		cred.path = env_path(names[i]);
		ok(env_connect_args(&a, &op) != NULL, "login with file %s: %s",
		   names[i], op.base.err.msg);
		hga_ssh_close(op.ssh);
	}
	cred.path = env_path("other");
	ok(env_connect_args(&a, &op) == NULL, "another key is refused");
	is_str(op.base.err.code, "AuthRejected", "its code");
	ok(strstr(op.base.err.msg, "login as root refused (tried publickey "
	                           "SHA256:") != NULL &&
	       strstr(op.base.err.msg, "server allows publickey)") != NULL,
	   "its text: %s", op.base.err.msg);
	is_str(op.more.phase, "login", "its phase");
	cred.path = env_path("nothing");
	ok(env_connect_args(&a, &op) == NULL &&
	       strcmp(op.base.err.code, "KeyNotFound") == 0,
	   "a missing key file: %s", op.base.err.msg);
	chmod(env_path("other"), 0644);
	cred.path = env_path("other");
	ok(env_connect_args(&a, &op) == NULL &&
	       strcmp(op.base.err.code, "KeyMode") == 0,
	   "a key file others may read: %s", op.base.err.msg);
	chmod(env_path("other"), 0600);
}

static void test_agent(void)
{
	static const char *const names[] = {"id_rsa", "id_ecdsa", "id_ed25519"};
	struct hga_ssh_args a = env_args();
	struct hga_ssh_connect op;
	char *sock = env_path("agent"), keep[512];
	struct hga_ssh_cred cred = {.key = NULL};
	pid_t pid;

	snprintf(keep, sizeof(keep), "%s", sock);
	pid = fork();
	if (pid == 0) {
		if (freopen("/dev/null", "w", stdout) == NULL)
			_exit(126);
		execlp("ssh-agent", "ssh-agent", "-D", "-a", keep,
		       (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 500 && access(keep, F_OK) != 0; i++)
		poll(NULL, 0, 10);
	setenv("SSH_AUTH_SOCK", keep, 1);
	a.creds = NULL;
	a.n_creds = 0;
	a.agent = keep;
	ok(env_connect_args(&a, &op) == NULL &&
	       strcmp(op.base.err.code, "AuthRejected") == 0,
	   "an empty agent: %s", op.base.err.msg);
	for (int i = 0; i < 3; i++) {
		const char *add[] = {"ssh-add", "-q", env_path(names[i]), NULL};
		const char *del[] = {"ssh-add", "-q", "-D", NULL};

		ok(env_run(add) == 0, "add %s", names[i]);
		ok(env_connect_args(&a, &op) != NULL, "login by agent: %s: %s",
		   names[i], op.base.err.msg);
		hga_ssh_close(op.ssh);
		env_run(del);
	}
	for (int i = 0; i < 7; i++) {
		char file[512];
		const char *gen[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N",
		                     "",           "-f", file, NULL};
		const char *add[] = {"ssh-add", "-q", file, NULL};

		snprintf(file, sizeof(file), "%s/k%d", env.dir, i);
		env_run(gen);
		env_run(add);
	}
	ok(env_connect_args(&a, &op) == NULL &&
	       strcmp(op.base.err.code, "AuthRejected") == 0,
	   "seven wrong keys: five are tried: %s", op.base.err.msg);
	{
		const char *add[] = {"ssh-add", "-q", env_path("id_rsa"), NULL};

		env_run(add);
	}
	cred.path = env_path("id_rsa.pub");
	a.creds = &cred;
	a.n_creds = 1;
	ok(env_connect_args(&a, &op) != NULL, "the configured key first: %s",
	   op.base.err.msg);
	hga_ssh_close(op.ssh);
	kill(pid, SIGSTOP);
	ok(env_connect_args(&a, &op) == NULL &&
	       strcmp(op.base.err.code, "AgentUnavailable") == 0,
	   "a silent agent: %s", op.base.err.msg);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(env_connect_args(&a, &op) == NULL &&
	       strcmp(op.base.err.code, "AgentUnavailable") == 0,
	   "no agent: %s", op.base.err.msg);
}

static void test_exec(struct hga_ssh *ssh)
{
	struct env_result r;
	char *big;

	ok(env_exec(ssh, "echo out; echo err >&2; exit 7", HGA_STR(""), &r),
	   "exec: %s", r.err.msg);
	is_str(r.out, "out\n", "stdout");
	is_str(r.errout, "err\n", "stderr");
	is_int(r.info.code, 7, "exit status");
	ok(env_exec(ssh, "true", HGA_STR(""), &r) && r.info.exited &&
	       r.info.code == 0,
	   "status 0");
	ok(env_exec(ssh, "cat; cat >&2", HGA_STR("hello"), &r), "stdin");
	is_str(r.out, "hello", "comes back");
	ok(env_exec(ssh, "kill -9 $$", HGA_STR(""), &r) && !r.info.exited,
	   "a signal is no exit status");
	is_str(r.info.signal, "KILL", "its name");
	ok(!env_exec(ssh, "kill -9 $PPID; sleep 1", HGA_STR(""), &r) ||
	       !r.info.exited,
	   "killed server process: not ok (%s)", r.err.msg);
	hga_ssh_close(ssh);
	ssh = env_connect();
	ok(env_exec(ssh, "seq 1 200000", HGA_STR(""), &r) && r.truncated,
	   "long output is cut");
	ok(strlen(r.out) == 4096 && strcmp(r.out + 4089, "200000\n") == 0,
	   "the tail is kept");
	is_int((long long)r.info.out, 1288895, "all was counted");
	big = malloc(3000000);
	memset(big, 'x', 3000000);
	ok(env_exec(ssh, "wc -c", hga_strn(big, 3000000), &r), "much stdin");
	is_str(r.out, "3000000\n", "all of it");
	ok(env_exec(ssh, "true", hga_strn(big, 3000000), &r) &&
	       r.info.code == 0,
	   "a command that ignores its stdin");
	ok(env_exec(ssh, "head -c 20000000 /dev/zero >&2; echo done",
	            HGA_STR(""), &r),
	   "stderr flood");
	is_str(r.out, "done\n", "stdout comes through");
	free(big);
	hga_ssh_close(ssh);
}

static void test_many(struct hga_ssh *ssh)
{
	struct hga_ssh_exec_args a = {.cmd = HGA_STR("sleep 0.2; echo x"),
	                              .max_output = 100};
	struct hga_ssh_exec *x[30];
	struct hga_ssh_wait w[30];
	struct hga_ssh_exec_info info;
	struct hga_err err;
	int good = 0;

	memset(w, 0, sizeof(w));
	for (int i = 0; i < 30; i++)
		if (hga_ssh_exec_start(ssh, &a, &x[i], &err) < 0 ||
		    hga_ssh_wait_start(x[i], &w[i], 30000, 0, false, &err) < 0)
			printf("# %s\n", err.msg);
	for (int i = 0; i < 30; i++) {
		env_wait(&w[i].base, 60);
		hga_ssh_exec_info(x[i], &info);
		good += info.exited && info.code == 0 && info.out == 2;
		hga_ssh_exec_free(x[i]);
	}
	is_int(good, 30, "30 commands at once on 10 channels");
}

static void test_cancel(struct hga_ssh *ssh)
{
	struct hga_ssh_exec_args a = {.cmd = HGA_STR("sleep 0.3"),
	                              .max_output = 100};
	struct hga_ssh_exec *x;
	struct hga_ssh_wait w = {.want_space = false};
	struct env_result r;
	struct hga_err err;
	struct hga_ssh_info si;

	for (int ms = 0; ms < 60; ms += 3) {
		if (hga_ssh_exec_start(ssh, &a, &x, &err) < 0 ||
		    hga_ssh_wait_start(x, &w, 0, 0, false, &err) < 0)
			break;
		env_steps(ms);
		hga_op_cancel(&w.base);
		hga_ssh_exec_free(x);
	}
	env_steps(1000);
	hga_ssh_get_info(ssh, &si);
	is_int(si.channels, 0, "cancelled commands leave no channel");
	ok(env_exec(ssh, "echo on", HGA_STR(""), &r), "the session goes on");
	a.cmd = HGA_STR("sleep 5");
	ok(hga_ssh_exec_start(ssh, &a, &x, &err) == 0 &&
	       hga_ssh_wait_start(x, &w, 200, 0, false, &err) == 0,
	   "start");
	env_wait(&w.base, 5);
	is_str(w.base.err.code, "Command", "a deadline");
	ok(hga_ssh_wait_start(x, &w, 0, 200, false, &err) == 0, "wait again");
	env_wait(&w.base, 5);
	is_str(w.base.err.code, "Idle", "an idle limit");
	hga_ssh_exec_signal(x, "KILL");
	ok(hga_ssh_wait_start(x, &w, 500, 0, false, &err) == 0, "wait again");
	env_wait(&w.base, 5);
	hga_ssh_exec_free(x);
}

static void make_file(const char *path, size_t n)
{
	FILE *f = fopen(path, "w");
	uint32_t x = 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		putc((int)(x >> 24), f);
	}
	fclose(f);
}

static bool same_file(const char *a, const char *b)
{
	const char *argv[] = {"cmp", "-s", a, b, NULL};

	return env_run(argv) == 0;
}

static bool xfer(struct hga_ssh *ssh, bool put, const char *local,
                 const char *remote, struct hga_sftp_xfer *op)
{
	struct hga_sftp_xfer_args a = {.put = put,
	                               .local = local,
	                               .remote = hga_str(remote),
	                               .mode = -1,
	                               .mtime = true,
	                               .hash = true};

	memset(op, 0, sizeof(*op));
	if (hga_sftp_xfer_start(ssh, op, &a, &op->base.err) < 0)
		return false;
	env_wait(&op->base, 60);
	return op->base.err.kind == HGA_OK;
}

static int count_parts(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int n = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		n += strstr(e->d_name, ".hga-") != NULL;
	if (d != NULL)
		closedir(d);
	return n;
}

static void test_files(struct hga_ssh *ssh)
{
	static const size_t sizes[] = {0, 1, 4095, 131072, 5000001};
	struct hga_sftp_xfer op;
	struct stat a, b;
	char local[512], remote[512], back[512], hex[65];

	for (size_t i = 0; i < 5; i++) {
		int fd;

		snprintf(local, sizeof(local), "%s/src%zu", env.dir, i);
		snprintf(remote, sizeof(remote), "%s/dst%zu", env.dir, i);
		snprintf(back, sizeof(back), "%s/back%zu", env.dir, i);
		make_file(local, sizes[i]);
		chmod(local, 0751);
		ok(xfer(ssh, true, local, remote, &op), "put %zu bytes: %s",
		   sizes[i], op.base.err.msg);
		ok(same_file(local, remote), "same content");
		ok(op.atomic && op.done == sizes[i], "atomic, counted");
		stat(local, &a);
		stat(remote, &b);
		ok(a.st_mode == b.st_mode && a.st_mtime == b.st_mtime,
		   "mode and time");
		fd = open(local, O_RDONLY | O_CLOEXEC);
		ok(hga_hash_fd(fd, hex, NULL) == 0, "hash");
		close(fd);
		is_str(op.sha256, hex, "SHA-256 while it passes");
		ok(xfer(ssh, true, local, remote, &op), "put over it");
		ok(xfer(ssh, false, back, remote, &op), "get: %s",
		   op.base.err.msg);
		ok(same_file(local, back), "same content");
		is_str(op.sha256, hex, "SHA-256 of get");
		hga_sftp_xfer_release(&op);
	}
	ok(!xfer(ssh, false, back, env_path("missing"), &op) &&
	       op.base.err.kind == HGA_NOTFOUND,
	   "get of a missing file: %s", op.base.err.msg);
	ok(!xfer(ssh, true, local, env_path("no/such/dir"), &op) &&
	       op.base.err.kind == HGA_NOTFOUND,
	   "put into a missing directory: %s", op.base.err.msg);
	ok(!xfer(ssh, true, local, env_path("home"), &op) &&
	       op.base.err.kind == HGA_USAGE,
	   "put onto a directory: %s", op.base.err.msg);
	ok(!xfer(ssh, false, back, env_path("home"), &op) &&
	       strcmp(op.base.err.code, "IsDirectory") == 0,
	   "get of a directory: %s", op.base.err.msg);
	ok(!xfer(ssh, false, back, "/dev/null", &op) &&
	       op.base.err.kind == HGA_REMOTE,
	   "get of a device: %s", op.base.err.msg);
	is_int(count_parts(env.dir), 0, "no parts are left");
}

static void test_memory(struct hga_ssh *ssh)
{
	struct hga_sftp_xfer op;
	struct hga_sftp_xfer_args a = {.put = true,
	                               .data = HGA_STR("some text\n"),
	                               .remote = hga_str(env_path("text")),
	                               .mode = 0640};
	struct stat st;
	char path[512];

	snprintf(path, sizeof(path), "%s", env_path("text"));
	a.remote = hga_str(path);
	memset(&op, 0, sizeof(op));
	ok(hga_sftp_xfer_start(ssh, &op, &a, &op.base.err) == 0 &&
	       env_wait(&op.base, 20) && op.base.err.kind == 0,
	   "write: %s", op.base.err.msg);
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640 &&
	       st.st_size == 10,
	   "mode and size");
	hga_sftp_xfer_release(&op);
	a.put = false;
	a.max = 1000;
	ok(hga_sftp_xfer_start(ssh, &op, &a, &op.base.err) == 0 &&
	       env_wait(&op.base, 20) && op.base.err.kind == 0,
	   "read: %s", op.base.err.msg);
	ok(op.data.len == 10 && memcmp(op.data.data, "some text\n", 10) == 0,
	   "the text");
	hga_sftp_xfer_release(&op);
	a.max = 9;
	ok(hga_sftp_xfer_start(ssh, &op, &a, &op.base.err) == 0 &&
	       env_wait(&op.base, 20) &&
	       strcmp(op.base.err.code, "TooLarge") == 0,
	   "read beyond the maximum: %s", op.base.err.msg);
	hga_sftp_xfer_release(&op);
	a.max = 1 << 20;
	a.remote = HGA_STR("/proc/self/limits");
	ok(hga_sftp_xfer_start(ssh, &op, &a, &op.base.err) == 0 &&
	       env_wait(&op.base, 20) && op.base.err.kind == 0 &&
	       op.data.len > 500,
	   "read of a file without a size: %s", op.base.err.msg);
	hga_sftp_xfer_release(&op);
}

static bool run_call(struct hga_ssh *ssh, struct hga_sftp_call *op,
                     enum hga_sftp_what what, const char *p, const char *p2)
{
	struct hga_sftp_call_args a = {
	    .what = what, .path = hga_str(p), .path2 = hga_str(p2)};

	a.attrs.flags = HGA_ATTR_MODE;
	a.attrs.mode = 0700;
	memset(op, 0, sizeof(*op));
	if (hga_sftp_call_start(ssh, op, &a, &op->base.err) < 0)
		return false;
	env_wait(&op->base, 20);
	return op->base.err.kind == HGA_OK;
}

static void test_calls(struct hga_ssh *ssh)
{
	struct hga_sftp_call op;
	struct stat st;

	ok(run_call(ssh, &op, HGA_SFTP_MKDIR, env_path("d"), NULL), "mkdir");
	ok(stat(env_path("d"), &st) == 0 && S_ISDIR(st.st_mode), "it is there");
	ok(run_call(ssh, &op, HGA_SFTP_SYMLINK, env_path("d/l"), "../text"),
	   "symlink");
	ok(run_call(ssh, &op, HGA_SFTP_READLINK, env_path("d/l"), NULL) &&
	       strcmp(hga_buf_text(&op.text), "../text") == 0,
	   "readlink");
	hga_sftp_call_release(&op);
	ok(run_call(ssh, &op, HGA_SFTP_STAT, env_path("d/l"), NULL) &&
	       S_ISREG(op.attrs.mode) && op.attrs.size == 10,
	   "stat follows");
	ok(run_call(ssh, &op, HGA_SFTP_LSTAT, env_path("d/l"), NULL) &&
	       S_ISLNK(op.attrs.mode),
	   "lstat does not");
	ok(run_call(ssh, &op, HGA_SFTP_LIST, env.dir, NULL) &&
	       op.n_entries > 10,
	   "list: %s", op.base.err.msg);
	for (size_t i = 1; i < op.n_entries; i++)
		if (hga_str_cmp(op.entries[i - 1].name, op.entries[i].name) >=
		    0)
			ok(false, "sorted");
	hga_sftp_call_release(&op);
	ok(run_call(ssh, &op, HGA_SFTP_RENAME, env_path("d/l"),
	            env_path("d/m")),
	   "rename");
	ok(!run_call(ssh, &op, HGA_SFTP_RMDIR, env_path("d"), NULL) &&
	       op.base.err.kind == HGA_REMOTE,
	   "rmdir of a full one: %s", op.base.err.msg);
	ok(run_call(ssh, &op, HGA_SFTP_REMOVE, env_path("d/m"), NULL),
	   "remove");
	ok(run_call(ssh, &op, HGA_SFTP_SETATTR, env_path("d"), NULL), "chmod");
	ok(run_call(ssh, &op, HGA_SFTP_RMDIR, env_path("d"), NULL), "rmdir");
	ok(run_call(ssh, &op, HGA_SFTP_REALPATH, "~", NULL) &&
	       strcmp(hga_buf_text(&op.text), "/root") == 0,
	   "home: %s", hga_buf_text(&op.text));
	hga_sftp_call_release(&op);
	ok(!run_call(ssh, &op, HGA_SFTP_STAT, "~other/x", NULL) &&
	       op.base.err.kind == HGA_USAGE,
	   "~user");
}

static bool tree(struct hga_ssh *ssh, bool put, const char *local,
                 const char *remote, struct hga_tree *op)
{
	static const struct hga_str exclude[1] = {{"*.skip", 6}};
	struct hga_tree_args a = {.put = put,
	                          .local = local,
	                          .remote = hga_str(remote),
	                          .exclude = exclude,
	                          .n_exclude = 1,
	                          .mtime = true};

	memset(op, 0, sizeof(*op));
	if (hga_tree_start(ssh, op, &a, &op->base.err) < 0)
		return false;
	env_wait(&op->base, 60);
	return op->base.err.kind == HGA_OK;
}

static void test_tree(struct hga_ssh *ssh)
{
	struct hga_tree op;
	char cmd[2048], src[512], dst[512], back[512];
	const char *sh[] = {"sh", "-c", cmd, NULL};

	snprintf(src, sizeof(src), "%s", env_path("tree"));
	snprintf(dst, sizeof(dst), "%s", env_path("tree2"));
	snprintf(back, sizeof(back), "%s", env_path("tree3"));
	snprintf(cmd, sizeof(cmd),
	         "set -e; mkdir -p %s/a/b/c %s/e; cd %s; for i in $(seq 300);"
	         "do echo $i > a/f$i; done; head -c 3000000 /dev/urandom > big;"
	         "head -c 2000000 /dev/urandom > a/b/big2; ln -s ../f1 a/b/l;"
	         "echo x > y.skip; mkfifo pipe; touch a/b/c/empty",
	         src, src, src);
	ok(env_run(sh) == 0, "a tree");
	ok(tree(ssh, true, src, dst, &op), "put: %s", op.base.err.msg);
	is_int((long long)op.files, 304, "files");
	is_str(hga_buf_text(&op.skipped), "pipe", "skipped");
	hga_tree_release(&op);
	snprintf(cmd, sizeof(cmd),
	         "diff -r --no-dereference -x '*.skip' -x pipe %s %s", src,
	         dst);
	ok(env_run(sh) == 0, "same tree");
	ok(tree(ssh, true, src, dst, &op), "put again: %s", op.base.err.msg);
	hga_tree_release(&op);
	ok(tree(ssh, false, back, dst, &op), "get: %s", op.base.err.msg);
	is_int((long long)op.files, 303, "files");
	is_str(hga_buf_text(&op.skipped), "a/b/l", "links are skipped");
	hga_tree_release(&op);
	snprintf(cmd, sizeof(cmd),
	         "diff -r --no-dereference -x l -x '*.skip' -x pipe %s %s", src,
	         back);
	ok(env_run(sh) == 0, "same tree");
	snprintf(cmd, sizeof(cmd), "! find %s | grep .hga-.*part", dst);
	ok(env_run(sh) == 0, "no parts");
	ok(!tree(ssh, false, back, env_path("nothing"), &op) &&
	       op.base.err.kind == HGA_NOTFOUND,
	   "a missing tree: %s", op.base.err.msg);
	hga_tree_release(&op);
}

static void test_xfer_cancel(struct hga_ssh *ssh)
{
	struct hga_sftp_xfer op;
	struct hga_sftp_idle idle;
	char local[512], remote[512];
	struct hga_sftp_xfer_args a = {.put = true, .mode = -1};
	bool put = true;

	snprintf(local, sizeof(local), "%s", env_path("huge"));
	snprintf(remote, sizeof(remote), "%s", env_path("huge2"));
	make_file(local, 20000000);
	a.local = local;
	a.remote = hga_str(remote);
	for (int i = 0; i < 12; i++) {
		memset(&op, 0, sizeof(op));
		a.put = put;
		a.local = put ? local : remote;
		a.remote = hga_str(put ? remote : local);
		if (hga_sftp_xfer_start(ssh, &op, &a, &op.base.err) < 0)
			ok(false, "start: %s", op.base.err.msg);
		env_steps(i * 2);
		hga_sftp_xfer_release(&op);
		put = !put;
	}
	memset(&idle, 0, sizeof(idle));
	ok(hga_sftp_idle_start(ssh, &idle, 5000, NULL) == 0 &&
	       env_wait(&idle.base, 10),
	   "cleanups end");
	is_int(count_parts(env.dir), 0, "cancelled transfers leave no part");
}

static void test_loss(void)
{
	struct hga_ssh *ssh = env_connect();
	struct hga_ssh_exec_args a = {
	    .cmd = HGA_STR("echo $PPID; exec sleep 3"), .max_output = 100};
	struct hga_ssh_exec *x;
	struct hga_ssh_wait w = {.want_space = false};
	struct hga_ssh_exec_info info;
	struct hga_sftp_xfer op;
	struct hga_sftp_xfer_args xa = {.put = true, .mode = -1};
	struct hga_err err;
	struct hga_str part[2];
	char local[512], remote[512];
	pid_t pid;

	ok(hga_ssh_exec_start(ssh, &a, &x, &err) == 0 &&
	       hga_ssh_wait_start(x, &w, 20000, 0, false, &err) == 0,
	   "start");
	do {
		env_steps(20);
		hga_ssh_exec_info(x, &info);
	} while (info.out < 2 && !info.ended);
	hga_ssh_exec_tail(x, 0, part);
	printf("# sshd: %.*s", (int)part[1].n, part[1].s);
	snprintf(local, sizeof(local), "%.*s", (int)part[1].n, part[1].s);
	pid = (pid_t)strtol(local, NULL, 10);
	ok(pid > 1 && kill(pid, SIGKILL) == 0, "kill -9 of sshd");
	env_wait(&w.base, 5);
	hga_ssh_exec_info(x, &info);
	ok(info.ended && !info.exited && info.error != NULL, "killed sshd");
	printf("# %s\n", info.error ? info.error->msg : "");
	hga_ssh_exec_free(x);
	hga_ssh_close(ssh);
	ssh = env_connect();
	snprintf(local, sizeof(local), "%s", env_path("huge"));
	snprintf(remote, sizeof(remote), "%s", env_path("huge2"));
	xa.local = local;
	xa.remote = hga_str(remote);
	memset(&op, 0, sizeof(op));
	ok(hga_sftp_xfer_start(ssh, &op, &xa, &err) == 0, "put starts");
	env_steps(40);
	hga_ssh_close(ssh);
	env_wait(&op.base, 5);
	ok(op.base.err.kind == HGA_NET, "closed during put: %s",
	   op.base.err.msg);
	hga_sftp_xfer_release(&op);
}

int main(void)
{
	struct hga_ssh *ssh;
	int fds;

	if (!env_start())
		return done();
	env_listen("");
	/* libcurl keeps some of its own from its first use on. */
	hga_ssh_close(env_connect());
	fds = env_fds();
	unlink(env_path("sshd.log"));
	test_identity();
	test_keys();
	test_agent();
	ssh = env_connect();
	ok(ssh != NULL, "connect");
	test_exec(ssh);
	ssh = env_connect();
	test_many(ssh);
	test_cancel(ssh);
	test_files(ssh);
	test_memory(ssh);
	test_calls(ssh);
	test_tree(ssh);
	test_xfer_cancel(ssh);
	hga_ssh_close(ssh);
	test_loss();
	env_steps(50);
	is_int(env_fds(), fds, "no descriptor is left");
	env_stop();
	return done();
}
