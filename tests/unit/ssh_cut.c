/*
 * The SSH client over a line that misbehaves, in front of a real sshd: cut
 * after so many bytes, single bytes, short writes, stalls (flipped bytes:
 * ssh_tamper.c).
 * Never success with wrong data, never a hang, nothing leaked (ASan).
 */
#include "ssh_line.h"

/* libssh2 1.11.1 forgets OpenSSL's object of the host key when the exchange
 * ends between reading it and the new keys. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libcrypto\n";
}

/* Bytes from the server until the session is ready. */
static uint64_t handshake_bytes(void)
{
	struct line l = {.fd = -1};
	struct hga_ssh_connect op;
	struct hga_ssh *ssh = line_connect(&l, NULL, NULL, &op);
	uint64_t n = l.rx;

	hga_ssh_close(ssh);
	return ssh ? n : 0;
}

static void test_cuts(void)
{
	uint64_t all = handshake_bytes();
	int bad = 0, runs = 0, named = 0;

	ok(all > 1000, "the handshake takes %llu bytes",
	   (unsigned long long)all);
	for (uint64_t cut = 1; cut < all; cut += cut < 60 ? 19 : 137) {
		struct line l = {.fd = -1, .cut_rx = cut};
		struct hga_ssh_connect op;
		struct hga_ssh *ssh = line_connect(&l, NULL, NULL, &op);

		runs++;
		if (ssh != NULL || l.fd != -1)
			bad++;
		hga_ssh_close(ssh);
		named += op.base.err.kind == HGA_NET;
	}
	is_int(bad, 0, "a cut in the handshake never logs in");
	is_int(named, runs, "each is a net error");
}

static void test_stalls(void)
{
	uint64_t all = handshake_bytes();
	int64_t t0;

	for (int i = 0; i < 3; i++) {
		struct line l = {.fd = -1,
		                 .stall_rx =
		                     i == 0 ? 1 : all * (unsigned)i / 2 - 1};
		struct hga_ssh_connect op;
		struct hga_ssh *ssh;

		t0 = hga_mono_ms();
		ssh = line_connect(&l, NULL, NULL, &op);
		ok(ssh == NULL && op.base.err.kind == HGA_TIMEOUT &&
		       hga_mono_ms() - t0 < 7000,
		   "a stall: %s", op.base.err.msg);
	}
}

static void test_pieces(void)
{
	struct line l = {.fd = -1, .max_rx = 1, .max_tx = 1};
	struct hga_ssh_connect op;
	struct hga_ssh *ssh = line_connect(&l, NULL, NULL, &op);
	struct env_result r;

	ok(ssh != NULL, "a handshake in single bytes: %s", op.base.err.msg);
	l.max_rx = 3;
	l.max_tx = 7;
	ok(ssh && env_exec(ssh, "cat; seq 1 300", HGA_STR("some input\n"), &r),
	   "a command");
	ok(ssh && strncmp(r.out, "some input\n1\n2\n", 15) == 0 &&
	       r.info.out == 11 + 1092,
	   "its output");
	hga_ssh_close(ssh);
}

static bool slow_put(struct hga_ssh *ssh, struct line *l, uint64_t cut,
                     struct hga_sftp_xfer *op)
{
	struct hga_sftp_xfer_args a = {.put = true,
	                               .local = env_path("src"),
	                               .remote = hga_str(env_path("dst")),
	                               .mode = -1};
	char remote[512];

	snprintf(remote, sizeof(remote), "%s", env_path("dst"));
	a.remote = hga_str(remote);
	memset(op, 0, sizeof(*op));
	l->cut_rx = l->rx + cut;
	if (hga_sftp_xfer_start(ssh, op, &a, &op->base.err) < 0)
		return false;
	env_wait(&op->base, 20);
	return op->base.err.kind == HGA_OK;
}

static void test_put_cut(void)
{
	const char *sh[] = {"sh", "-c", NULL, NULL};
	char cmd[1024];
	int bad = 0, okay = 0;

	snprintf(cmd, sizeof(cmd),
	         "head -c 300000 /dev/urandom > %s; echo old > %s",
	         env_path("src"), env_path("dst"));
	sh[2] = cmd;
	env_run(sh);
	for (uint64_t cut = 1; cut < 3000; cut += 173) {
		struct line l = {.fd = -1};
		struct hga_ssh_connect cop;
		struct hga_ssh *ssh = line_connect(&l, NULL, NULL, &cop);
		struct hga_sftp_xfer op;
		const char *cmp[] = {"cmp", "-s", env_path("src"),
		                     env_path("dst"), NULL};
		char *text;
		bool same;

		if (ssh == NULL)
			break;
		if (slow_put(ssh, &l, cut, &op))
			okay++;
		same = env_run(cmp) == 0;
		text = env_read(env_path("dst"));
		/* Success means the new file; else old or new, never a mix. */
		if ((op.base.err.kind == HGA_OK && !same) ||
		    (!same && strcmp(text, "old\n") != 0))
			bad++;
		hga_free(text);
		hga_sftp_xfer_release(&op);
		hga_ssh_close(ssh);
	}
	is_int(bad, 0, "a cut put leaves the old file or the whole new one");
	printf("# %d went through\n", okay);
}

/* Every n-th allocation fails: an error or success, nothing else. */
static void test_torture(void)
{
	unsigned long step = getenv("HGAUTO_TORTURE_ALL") ? 1 : 3, all = 0;
	int runs = 0, bad = 0, fds = env_fds();

	for (unsigned long n = 1; all == 0 || n <= all; n += step) {
		struct line l = {.fd = -1};
		struct hga_ssh_connect op;
		struct hga_ssh *ssh;
		struct env_result r;

		env.exec_ms = 5000;
		hga_mem_torture(n, false);
		ssh = line_connect(&l, NULL, NULL, &op);
		if (ssh != NULL &&
		    env_exec(ssh, "seq 1 100", HGA_STR("in"), &r))
			bad += r.info.code != 0 || strlen(r.out) != 292;
		else if (ssh == NULL && op.base.err.kind == HGA_OK)
			bad++;
		hga_ssh_close(ssh);
		if (ssh == NULL)
			line_close(&l); /* not taken over */
		if (hga_mem_count() < n)
			all = n;
		hga_mem_torture(0, false);
		runs++;
	}
	env.exec_ms = 0;
	is_int(bad, 0, "failing allocations");
	is_int(env_fds(), fds, "no descriptor is left");
	printf("# %d runs over %lu allocations\n", runs, all);
}

int main(void)
{
	if (!env_start())
		return done();
	env_listen("LogLevel ERROR");
	hga_ssh_close(env_connect());
	test_cuts();
	test_stalls();
	test_pieces();
	test_put_cut();
	test_torture();
	env_stop();
	return done();
}
