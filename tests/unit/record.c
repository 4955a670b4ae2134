/* The state directory, runs and their locks; the vault. */
#include "state/record.h"
#include "base/fs.h"
#include "base/mem.h"
#include "state/vault.h"
#include "tap.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/hgauto-record-XXXXXX";
static struct hga_err err;

static const char *in(const char *name)
{
	static char p[4][400];
	static int i;
	char *out = p[i++ % 4];

	snprintf(out, 400, "%s/%s", dir, name);
	return out;
}

static void test_open(void)
{
	struct hga_state *st = NULL;
	struct stat sb;
	char sid[16];

	is_int(hga_state_open(in("none"), false, &st, &err), -HGA_NOTFOUND,
	       "missing, not to be made");
	is_int(hga_state_open(in("s"), true, &st, &err), 0, "made");
	is_int(stat(in("s"), &sb), 0, "exists");
	is_int(sb.st_mode & 07777, 0700, "private");
	snprintf(sid, sizeof(sid), "%s", hga_state_sid(st));
	ok(strlen(sid) == 12 && strspn(sid, "0123456789abcdef") == 12,
	   "identity of 12 hex digits");
	ok(!hga_state_tightened(st), "nothing to tighten");
	hga_state_free(st);
	is_int(chmod(in("s"), 0755), 0, "opened up");
	is_int(hga_state_open(in("s"), true, &st, &err), 0, "opens");
	ok(hga_state_tightened(st), "tightened");
	is_str(hga_state_sid(st), sid, "the identity stays");
	hga_state_free(st);
	is_int(hga_fs_write(in("s/sid"), HGA_STR("zz"), 0600, &err), 0,
	       "damaged identity");
	is_int(hga_state_open(in("s"), true, &st, &err), -HGA_IO, "refused");
	is_int(unlink(in("s/sid")), 0, "removed");
	if (geteuid() != 0) {
		skip("not root");
		return;
	}
	is_int(mkdir(in("foreign"), 0700), 0, "directory");
	is_int(chown(in("foreign"), 12345, 12345), 0, "of somebody else");
	is_int(hga_state_open(in("foreign"), true, &st, &err), -HGA_AUTH,
	       "refused");
	is_str(err.code, "Owner", "its code");
	ok(strstr(err.msg, "owned by uid 12345, not by you") != NULL,
	   "its text");
}

static void test_files(struct hga_state *st)
{
	static const char *const bad[] = {"",       "/x", "a//b", "../x",
	                                  "a/../b", ".",  "a/"};
	struct hga_buf b;

	hga_buf_init(&b, 4096);
	is_int(hga_state_file(st, "local/cloud.db", &b, &err), 0, "a path");
	is_str(b.data + strlen(hga_state_path(st)), "/local/cloud.db",
	       "inside");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		hga_buf_clear(&b);
		ok(hga_state_file(st, bad[i], &b, &err) == -HGA_USAGE,
		   "refused: \"%s\"", bad[i]);
	}
	hga_buf_release(&b);
}

static void test_runs(struct hga_state *st)
{
	struct hga_run *run = NULL;
	struct hga_run *two = NULL;
	struct hga_buf b;
	char id[HGA_RUN_ID];
	char path[300];
	int fd;

	is_int(hga_run_new(st, &run, &err), 0, "a run");
	is_int(hga_run_new(st, &two, &err), 0, "another");
	snprintf(id, sizeof(id), "%s", hga_run_id(run));
	ok(hga_run_id_ok(hga_str(id)), "its ID");
	ok(strcmp(id, hga_run_id(two)) != 0, "they differ");
	is_int(hga_run_alive(st, id, &err), 1, "it lives");
	is_int(hga_run_take(st, id, &err), -HGA_EXISTS,
	       "a living run's lock cannot be taken");
	ok(!hga_run_lost(run), "its lock is there");
	hga_buf_init(&b, 4096);
	is_int(hga_run_list(st, &b, &err), 0, "list");
	is_int((long long)b.len, 38, "both IDs");
	hga_buf_release(&b);
	snprintf(path, sizeof(path), "%s/lock", hga_run_dir(two));
	is_int(unlink(path), 0, "lock removed");
	ok(hga_run_lost(two), "noticed");
	is_int(hga_run_alive(st, hga_run_id(two), &err), 0,
	       "without file it counts as dead");
	hga_run_free(run);
	hga_run_free(two);
	is_int(hga_run_alive(st, id, &err), 0, "ended");
	fd = hga_run_take(st, id, &err);
	ok(fd >= 0, "a dead run's lock can be taken");
	is_int(hga_run_alive(st, id, &err), 1, "and is held");
	is_int(hga_run_take(st, id, &err), -HGA_EXISTS, "by one only");
	close(fd);
	fd = hga_run_take(st, "20250101-0000-abcd", &err);
	ok(fd >= 0, "also without files");
	close(fd);
	is_int(hga_run_alive(st, "../../etc", &err), -HGA_USAGE,
	       "no ID of a run");
}

/* The kernel gives the lock back whatever the death. */
static void test_killed(struct hga_state *st)
{
	struct hga_run *run = NULL;
	char id[HGA_RUN_ID] = "";
	int fds[2];
	pid_t pid;

	is_int(pipe(fds), 0, "pipe");
	pid = fork();
	if (pid == 0) {
		if (hga_run_new(st, &run, NULL) == 0 &&
		    write(fds[1], hga_run_id(run), HGA_RUN_ID) > 0)
			pause();
		_exit(1);
	}
	is_int(read(fds[0], id, sizeof(id)), HGA_RUN_ID, "child's run");
	is_int(hga_run_alive(st, id, &err), 1, "lives");
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	is_int(hga_run_alive(st, id, &err), 0, "dead after kill -9");
	close(fds[0]);
	close(fds[1]);
}

static void test_vault(struct hga_state *st)
{
	struct hga_key *a = NULL;
	struct hga_key *b = NULL;
	struct hga_buf path;
	struct stat sb;
	bool made = false;

	is_int(hga_vault_key_get(st, "k1", &a, &err), -HGA_NOTFOUND, "no key");
	is_int(hga_vault_key_ensure(st, "k1", "c", &a, &made, &err), 0, "made");
	ok(made, "told");
	is_int(hga_vault_key_ensure(st, "k1", "c", &b, &made, &err), 0, "read");
	ok(!made && hga_str_eq(hga_key_blob(a), hga_key_blob(b)), "the same");
	is_int(hga_vault_key_put(st, "k1", a, &err), -HGA_EXISTS, "taken");
	hga_buf_init(&path, 4096);
	is_int(hga_vault_path(st, "k1", &path, &err), 0, "path");
	is_int(stat(path.data, &sb), 0, "file");
	is_int(sb.st_mode & 07777, 0600, "private");
	hga_buf_release(&path);
	is_int(hga_vault_key_ensure(st, "../k", "", &b, NULL, &err), -HGA_USAGE,
	       "no name");
	is_int(hga_vault_key_remove(st, "k1", &err), 0, "removed");
	is_int(hga_vault_key_remove(st, "k1", &err), 0, "again");
	hga_key_free(a);
	hga_key_free(b);
}

int main(void)
{
	struct hga_state *st = NULL;

	(void)umask(022);
	if (mkdtemp(dir) == NULL)
		return 1;
	test_open();
	is_int(hga_state_open(in("s"), true, &st, &err), 0, "state");
	test_files(st);
	test_runs(st);
	test_killed(st);
	test_vault(st);
	hga_state_free(st);
	hga_state_free(NULL);
	is_int(hga_fs_rmtree(dir, &err), 0, "cleaned up");
	return done();
}
