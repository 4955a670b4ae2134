/*
 * Every byte that the server sends during a command is flipped once: nothing
 * of the packet that holds it may be delivered, the command may not succeed.
 *
 * What a real sshd answers is kept on a tape instead of delivering it; then a
 * copy of this process (fork) for each byte plays the tape to its copy of the
 * session, byte by byte, with that byte wrong.  A wrong byte must end the
 * session with the last byte of its packet at the latest.  Only a wrong length
 * (the first four bytes of a packet) may make the client wait for more than
 * will come: then the deadline ends the command.
 * The other way round, from us to the server, each flip takes a connection.
 */
#include "ssh_line.h"

#include "ssh/impl.h"

#include <sys/mman.h>

#define TAPE_MAX 4096
#define WAIT_MS 80

enum mode {
	LIVE,   /* to and from the server */
	RECORD, /* nothing is delivered */
	PLAY    /* from the tape, one byte a call; what we send is dropped */
};

static struct {
	int fd;
	enum mode mode;
	unsigned char tape[TAPE_MAX];
	size_t n, at;
} tap;

/* What one copy of the process found out. */
struct verdict {
	struct hga_err err; /* of the command */
	bool dead;
	size_t at;    /* bytes played until then */
	uint64_t out; /* bytes of output delivered */
	bool wrong;   /* they were not a beginning of the right ones */
	bool good;    /* the whole result was right */
};

/* Shared with the copies. */
static struct board {
	struct verdict v;
	bool count;                    /* fill out_at */
	uint64_t out_at[TAPE_MAX + 1]; /* output after so many bytes */
} * board;

static ssize_t tap_recv(void *ctx, void *buf, size_t n)
{
	ssize_t r;

	(void)ctx; /* there is only one */
	switch (tap.mode) {
	case RECORD:
		return -EAGAIN;
	case PLAY:
		if (tap.at == tap.n)
			return -EAGAIN;
		*(unsigned char *)buf = tap.tape[tap.at++];
		return 1;
	case LIVE:
		break;
	}
	r = recv(tap.fd, buf, n, 0);
	return r < 0 ? -errno : r;
}

static ssize_t tap_send(void *ctx, const void *buf, size_t n)
{
	ssize_t r;

	(void)ctx; /* there is only one */
	if (tap.mode == PLAY)
		return (ssize_t)n;
	r = send(tap.fd, buf, n, MSG_NOSIGNAL);
	return r < 0 ? -errno : r;
}

static void tap_close(void *ctx)
{
	(void)ctx; /* there is only one */
	if (tap.fd >= 0)
		close(tap.fd);
	tap.fd = -1;
}

static const struct hga_bio_ops tap_ops = {tap_recv, tap_send, tap_close};

static struct hga_ssh *tap_connect(const char *cipher, const char *mac)
{
	struct hga_ssh_args a = env_args();
	struct hga_ssh_connect op;

	memset(&tap, 0, sizeof(tap));
	tap.fd = line_dial();
	if (tap.fd < 0)
		return NULL;
	a.ops = &tap_ops;
	a.ops_fd = tap.fd;
	a.ciphers = cipher;
	a.macs = mac;
	return env_connect_args(&a, &op);
}

/* A command that waits for a line of input and then says this. */
#define COMMAND "read x; seq 1 30; echo err >&2; exit 3"
#define OUT_BYTES 81
#define ERR_BYTES 4

static struct hga_ssh_exec *start_command(struct hga_ssh *ssh)
{
	struct hga_ssh_exec_args a = {
	    .cmd = HGA_STR(COMMAND), .in_open = true, .max_output = 4096};
	struct hga_ssh_exec_info info = {.started = false};
	struct hga_ssh_exec *x;
	struct hga_err err;

	if (hga_ssh_exec_start(ssh, &a, &x, &err) < 0)
		return NULL;
	for (int i = 0; i < 1000 && !info.started; i++) {
		env_steps(10);
		hga_ssh_exec_info(x, &info);
	}
	/* The window's adjustment that may follow is not to be on the tape. */
	env_steps(100);
	return x;
}

/* Takes what has arrived; true when something has. */
static bool record(void)
{
	ssize_t r = recv(tap.fd, tap.tape + tap.n, TAPE_MAX - tap.n, 0);

	if (r > 0)
		tap.n += (size_t)r;
	return r > 0;
}

static uint64_t delivered(struct hga_ssh_exec *x)
{
	struct hga_ssh_exec_info info;

	hga_ssh_exec_info(x, &info);
	return info.out + info.err;
}

static bool is_beginning(struct hga_ssh_exec *x)
{
	char want[OUT_BYTES + 1] = "", got[OUT_BYTES + 1] = "";
	struct hga_str p[2];
	size_t n = 0;

	for (int i = 1; i <= 30; i++)
		n += (size_t)snprintf(want + n, sizeof(want) - n, "%d\n", i);
	(void)hga_ssh_exec_tail(x, 0, p); /* kept as a whole */
	if (p[0].n + p[1].n > OUT_BYTES)
		return false;
	memcpy(got, p[0].s, p[0].n);
	memcpy(got + p[0].n, p[1].s, p[1].n);
	if (strncmp(got, want, strlen(got)) != 0)
		return false;
	(void)hga_ssh_exec_tail(x, 1, p); /* likewise */
	return p[0].n + p[1].n <= ERR_BYTES &&
	       memcmp(p[1].s, "err\n", p[1].n) == 0;
}

/* In a copy of the process: the rest of the session from the tape. */
static void play(struct hga_ssh *ssh, struct hga_ssh_exec *x)
{
	struct verdict *v = &board->v;
	struct hga_ssh_exec_info info;
	struct hga_ssh_wait w;

	memset(&w, 0, sizeof(w));
	tap.mode = PLAY;
	if (hga_ssh_wait_start(x, &w, WAIT_MS, 0, false, &v->err) < 0)
		return;
	while (tap.at < tap.n && ssh->phase != HGA_SSH_DEAD) {
		if (board->count)
			board->out_at[tap.at] = delivered(x);
		ssh->watch.fn(&ssh->watch, HGA_READ);
	}
	v->at = tap.at;
	v->dead = ssh->phase == HGA_SSH_DEAD;
	env_wait(&w.base, 10);
	hga_ssh_exec_info(x, &info);
	v->err = info.error ? *info.error : w.base.err;
	v->out = info.out + info.err;
	v->wrong = !is_beginning(x);
	v->good = info.exited && info.code == 3 && !v->wrong &&
	          info.out == OUT_BYTES && info.err == ERR_BYTES;
}

static struct verdict play_copy(struct hga_ssh *ssh, struct hga_ssh_exec *x,
                                bool count)
{
	int status = 0;
	pid_t pid;

	memset(&board->v, 0, sizeof(board->v));
	board->count = count;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		play(ssh, x);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0) {
		printf("# a copy ended with %#x\n", (unsigned)status);
		board->v.wrong = true;
	}
	return board->v;
}

static struct verdict flip(struct hga_ssh *ssh, struct hga_ssh_exec *x,
                           size_t at, int bit)
{
	struct verdict v;

	tap.tape[at] ^= (unsigned char)(1 << bit);
	v = play_copy(ssh, x, false);
	tap.tape[at] ^= (unsigned char)(1 << bit);
	return v;
}

/*
 * Where packets end: a wrong last byte (of the tag) is noticed with itself.
 * false: the packets do not fill the tape.
 */
static bool find_ends(const struct verdict *v, bool *is_end)
{
	size_t start = 0;

	for (size_t i = 0; i < tap.n; i++) {
		/* A wrong length is noticed where it stands, or after the
		 * first block: no packet is that short. */
		is_end[i + 1] =
		    v[i].dead && v[i].at == i + 1 && i + 1 - start >= 32;
		start = is_end[i + 1] ? i + 1 : start;
	}
	return start == tap.n;
}

struct count {
	int flips, ok, wrong, early, late, lives, waits, unended;
};

/* A packet from start to end with one bit wrong. */
static void judge(const struct verdict *v, size_t start, size_t end, size_t at,
                  struct count *c)
{
	c->flips++;
	c->ok += v->err.kind == HGA_OK || v->good;
	c->wrong += v->wrong;
	/* Of this packet, and of later ones, nothing. */
	c->early += v->out > board->out_at[start];
	if (v->dead) {
		c->late += v->at > end && at - start >= 4;
		return;
	}
	if (at - start >= 4) {
		c->lives++;
		printf("# byte %zu of the packet at %zu is not noticed: %s\n",
		       at - start, start, v->err.msg);
		return;
	}
	c->waits++;
	c->unended +=
	    v->err.kind != HGA_TIMEOUT || strcmp(v->err.code, "Command") != 0;
}

static void flip_all(struct hga_ssh *ssh, struct hga_ssh_exec *x,
                     const char *name)
{
	static struct verdict v[TAPE_MAX];
	static bool is_end[TAPE_MAX + 1];
	struct count c = {0};
	int packets = 0;
	bool all;

	for (size_t i = 0; i < tap.n; i++)
		v[i] = flip(ssh, x, i, (int)(i % 8));
	all = find_ends(v, is_end);
	for (size_t start = 0, end; all && start < tap.n; start = end) {
		for (end = start + 1; !is_end[end];)
			end++;
		packets++;
		for (size_t at = start; at < end; at++)
			judge(&v[at], start, end, at, &c);
		/* Each bit of a length, which is in clear text or as good. */
		for (size_t at = start; at < start + 4; at++) {
			for (int bit = 0; bit < 8; bit++) {
				struct verdict one = flip(ssh, x, at, bit);

				judge(&one, start, end, at, &c);
			}
		}
	}
	ok(packets >= 5, "%s: %d packets", name, packets);
	ok(c.flips > (int)tap.n && c.ok == 0,
	   "%s: none of %d flips succeeds (%d)", name, c.flips, c.ok);
	is_int(c.wrong, 0, "nothing wrong is delivered");
	is_int(c.early, 0, "nothing of the packet is delivered");
	is_int(c.late, 0, "noticed within the packet");
	is_int(c.lives, 0, "only a wrong length can make us wait");
	is_int(c.unended, 0, "that ends by the deadline");
	printf("# %s: %zu bytes, %d flips, %d waits\n", name, tap.n, c.flips,
	       c.waits);
}

/* What the server says. */
static void test_received(const char *cipher, const char *mac, const char *name)
{
	struct hga_ssh *ssh = tap_connect(cipher, mac);
	struct hga_ssh_exec *x = ssh ? start_command(ssh) : NULL;
	int64_t end = hga_mono_ms() + 20000;
	struct verdict base = {.good = false};

	if (x == NULL) {
		ok(false, "%s: connect and start", name);
		return;
	}
	tap.mode = RECORD;
	(void)hga_ssh_exec_write(x, "\n", 1); /* there is room */
	hga_ssh_exec_eof(x);
	env_steps(50);
	/* The tape is whole when it gives the right result. */
	while (!base.good && hga_mono_ms() < end) {
		while (record())
			;
		poll(NULL, 0, 20);
		if (!record() && tap.n > 0)
			base = play_copy(ssh, x, true);
	}
	ok(base.good, "%s: the tape as it is: %s", name, base.err.msg);
	if (base.good)
		flip_all(ssh, x, name);
	hga_ssh_exec_free(x);
	hga_ssh_close(ssh);
}

/* What we say: the server's refusal is an error here, never success. */
static void test_sent(const char *cipher, const char *mac, const char *name,
                      uint64_t step)
{
	int runs = 0, good = 0, named = 0;

	env.exec_ms = 500;
	/* Channel open, request, end of input: three packets. */
	for (uint64_t at = 1; at <= 140; at += step) {
		struct line l = {.fd = -1};
		struct hga_ssh_connect op;
		struct hga_ssh *ssh = line_connect(&l, cipher, mac, &op);
		struct env_result r;

		if (ssh == NULL)
			continue;
		runs++;
		l.flip_tx = l.tx + at;
		good += env_exec(ssh, "cat; exit 3", HGA_STR("in"), &r);
		named += r.err.kind == HGA_NET || r.err.kind == HGA_TIMEOUT;
		hga_ssh_close(ssh);
	}
	env.exec_ms = 0;
	ok(runs > 10 && good == 0 && named == runs,
	   "%s: sent: %d flips, %d succeed, %d net or timeout", name, runs,
	   good, named);
}

int main(void)
{
	static const struct {
		const char *cipher, *mac, *name;
	} ways[] = {
	    {"aes128-gcm@openssh.com", NULL, "aes128-gcm"},
	    {"aes256-gcm@openssh.com", NULL, "aes256-gcm"},
	    {"chacha20-poly1305@openssh.com", NULL, "chacha20-poly1305"},
	    {"aes128-ctr", "hmac-sha2-256-etm@openssh.com",
	     "ctr, sha2-256-etm"},
	    {"aes256-ctr", "hmac-sha2-512-etm@openssh.com",
	     "ctr, sha2-512-etm"},
	    {"aes256-ctr", "hmac-sha2-256", "ctr, sha2-256"},
	};

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED || !env_start())
		return done();
	env_listen("LogLevel ERROR");
	hga_ssh_close(env_connect());
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		test_received(ways[i].cipher, ways[i].mac, ways[i].name);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		test_sent(ways[i].cipher, ways[i].mac, ways[i].name,
		          i == 0 ? 2 : 13);
	env_stop();
	return done();
}
