/*
 * Power loss at any moment: what a disk may hold then, made of a system-call
 * trace of a program that writes the ledger, and opened one image after the
 * other.
 *
 *   ledger_power write STATE OPS [normal]
 *     The program that is traced: OPS operations through their states, and a
 *     line "OP STATE" to standard output once the ledger has said that the
 *     state is durable.  normal: with synchronous=NORMAL, which must fail.
 *   ledger_power images TRACE STATE WORK MOST SEED
 *     TRACE (strace -f -y -xx -s 10000000) of that or of a whole task in
 *     STATE; at each of its events the images: all written; only what was
 *     synced; each prefix of the unsynced writes; each one of them missing;
 *     the last one torn, zero, random.  Of more than MOST images every k-th,
 *     from one that SEED chooses.  Each must open without damage, know all
 *     that was told to be durable before (lines of "write"; of a task the
 *     operations whose requests have left), and go on.
 *     Prints "images N, failures N, told N, requests N".
 *
 * A name is durable when its directory was synced, content when its file was.
 */
#include "base/crypto.h"
#include "base/fs.h"
#include "state/ledger.h"
#include "state/ledger_impl.h"
#include "state/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct hga_err err;

/* What is read of a trace stays until the end. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

_Noreturn static void fail(const char *what, const char *detail)
{
	fprintf(stderr, "ledger_power: %s: %s\n", what, detail);
	exit(2);
}

static void *need(void *p)
{
	if (p == NULL)
		fail("memory", "none left");
	return p;
}

static void need_ok(int r, const char *what)
{
	if (r < 0)
		fail(what, err.msg);
}

/* ---- the program that is traced ---- */

static void tell(const char *op, enum hga_ledger_state s)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "%s %s\n", op,
	                 hga_ledger_state_name(s));

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		fail("write", "standard output");
}

static struct hga_ledger *open_to_write(struct hga_state *st, bool normal)
{
	struct hga_ledger *led = NULL;

	need_ok(hga_ledger_open(st, &led, &err), "open");
	if (normal)
		need_ok(hga_db_exec(led->db, "PRAGMA synchronous=NORMAL", &err),
		        "normal");
	return led;
}

static void step(struct hga_ledger *led, const char *op,
                 enum hga_ledger_state s)
{
	struct hga_ledger_change c;
	char id[24];

	memset(&c, 0, sizeof(c));
	(void)snprintf(id, sizeof(id), "i-%.17s", op);
	c.id = hga_str(id);
	need_ok(hga_ledger_set(led, hga_str(op), s, &c, &err), "set");
	tell(op, s);
}

static int write_some(const char *dir, int ops, bool normal)
{
	struct hga_ledger_place p = {HGA_STR("aws"), HGA_STR("123456789012"),
	                             HGA_STR("us-west-2"), HGA_STR("")};
	struct hga_state *st = NULL;
	struct hga_ledger_intent in;
	struct hga_ledger *led;
	int64_t place;

	need_ok(hga_state_open(dir, true, &st, &err), dir);
	led = open_to_write(st, normal);
	need_ok(hga_ledger_place(led, &p, &place, &err), "place");
	need_ok(hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("task"), -1,
	                             &err),
	        "run");
	for (int i = 0; i < ops; i++) {
		char op[HGA_OP_ID];

		need_ok(hga_token(op, &err), "token");
		memset(&in, 0, sizeof(in));
		in.op = hga_str(op);
		in.run = HGA_STR("run1");
		in.kind = HGA_STR("instance");
		in.place = place;
		in.token = hga_str(op);
		need_ok(hga_ledger_intent(led, &in, &err), "intent");
		tell(op, HGA_LEDGER_INTENT);
		step(led, op, HGA_LEDGER_LIVE);
		if (i % 3 != 0) {
			step(led, op, HGA_LEDGER_DELETING);
			step(led, op, HGA_LEDGER_GONE);
		}
		if (i % 20 == 19) { /* another process goes on */
			hga_ledger_close(led);
			led = open_to_write(st, normal);
		}
	}
	hga_ledger_close(led);
	hga_state_free(st);
	return 0;
}

/* ---- the model of the disk ---- */

#define FILES 64
#define NAME 64

struct bytes {
	unsigned char *p;
	size_t n;
};

struct inode {
	struct bytes synced;
	bool used;
};

enum what {
	WRITE,
	CUT,
	NAME_IT,
	FORGET
};

struct change { /* not yet on the disk for sure */
	enum what what;
	int ino;
	size_t at; /* of WRITE and CUT */
	struct bytes data;
	char name[NAME];
};

struct names {
	char name[FILES][NAME];
	int ino[FILES]; /* -1: free */
};

static struct inode inodes[4096];
static int n_inodes;
static struct names now_names, synced_names;
static struct change pending[4096];
static int n_pending;
static char state_dir[4096];
static const char *work;

struct told {
	char op[HGA_OP_ID];
	enum hga_ledger_state state;
	bool asked; /* for: its request has left */
};
static struct told told[8192];
static int n_told, n_requests;

static long images, failures, seen, stride = 1, offset;

static void set_bytes(struct bytes *b, size_t at, const void *p, size_t n)
{
	if (at + n > b->n) {
		b->p = need(realloc(b->p, at + n + 1));
		memset(b->p + b->n, 0, at + n - b->n);
		b->n = at + n;
	}
	if (n > 0)
		memcpy(b->p + at, p, n);
}

static void cut_bytes(struct bytes *b, size_t n)
{
	if (n > b->n)
		set_bytes(b, n, "", 0);
	b->n = n;
}

static int *name_slot(struct names *names, const char *name, bool add)
{
	int empty = -1;

	for (int i = 0; i < FILES; i++) {
		if (names->ino[i] >= 0 && strcmp(names->name[i], name) == 0)
			return &names->ino[i];
		if (names->ino[i] < 0 && empty < 0)
			empty = i;
	}
	if (!add)
		return NULL;
	if (empty < 0)
		fail("too many files", name);
	(void)snprintf(names->name[empty], NAME, "%s", name);
	return &names->ino[empty];
}

static void rename_in(struct names *names, const struct change *c)
{
	int *slot = name_slot(names, c->name, c->what == NAME_IT);

	if (slot != NULL)
		*slot = c->what == NAME_IT ? c->ino : -1;
}

static void apply(struct bytes *b, const struct change *c)
{
	if (c->what == WRITE)
		set_bytes(b, c->at, c->data.p, c->data.n);
	else
		cut_bytes(b, c->at);
}

static struct change *add_change(enum what what, int ino)
{
	struct change *c = &pending[n_pending];

	if (n_pending == (int)(sizeof(pending) / sizeof(pending[0])))
		fail("too many unsynced writes", state_dir);
	memset(c, 0, sizeof(*c));
	c->what = what;
	c->ino = ino;
	n_pending++;
	return c;
}

/* What one sync makes durable leaves the list.  ino < 0: the directory. */
static void sync_some(int ino)
{
	int left = 0;

	for (int i = 0; i < n_pending; i++) {
		struct change *c = &pending[i];
		bool of_names = c->what == NAME_IT || c->what == FORGET;

		if (of_names ? ino >= 0 : c->ino != ino) {
			pending[left++] = *c;
			continue;
		}
		if (of_names)
			rename_in(&synced_names, c);
		else
			apply(&inodes[ino].synced, c);
		free(c->data.p);
	}
	n_pending = left;
}

/* ---- one image ---- */

static void write_file(const char *name, const struct bytes *b)
{
	char path[8192];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", work, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, b->p, b->n) != (ssize_t)b->n)
		fail("write", path);
	(void)close(fd);
}

/* How the last of the unsynced writes comes out. */
enum last {
	WHOLE,
	TORN,
	ZERO,
	RANDOM
};

static void damage(struct bytes *b, const struct change *c, enum last how)
{
	size_t keep = how == TORN ? c->data.n / 1024 * 512 : 0;

	if (how == TORN) { /* what was there before, behind the first sectors */
		set_bytes(b, c->at, c->data.p, keep);
		return;
	}
	set_bytes(b, c->at, c->data.p, c->data.n);
	for (size_t i = 0; i < c->data.n; i++)
		b->p[c->at + i] =
		    how == ZERO ? 0 : (unsigned char)(rand() >> 8);
}

/* The first upto of the pending changes but `missing`, the last one as how. */
static void build(int upto, int missing, enum last how)
{
	struct names names = synced_names;

	need_ok(hga_fs_rmtree(work, &err), work);
	if (mkdir(work, 0700) != 0)
		fail("mkdir", work);
	for (int i = 0; i < upto; i++)
		if (i != missing &&
		    (pending[i].what == NAME_IT || pending[i].what == FORGET))
			rename_in(&names, &pending[i]);
	for (int f = 0; f < FILES; f++) {
		struct bytes b = {NULL, 0};
		int ino = names.ino[f];

		if (ino < 0)
			continue;
		set_bytes(&b, 0, inodes[ino].synced.p, inodes[ino].synced.n);
		for (int i = 0; i < upto; i++) {
			const struct change *c = &pending[i];

			if (i == missing || c->ino != ino ||
			    c->what == NAME_IT || c->what == FORGET)
				continue;
			if (i == upto - 1 && how != WHOLE && c->what == WRITE)
				damage(&b, c, how);
			else
				apply(&b, c);
		}
		write_file(names.name[f], &b);
		free(b.p);
	}
	if (images % 8 == 7) { /* shared memory of a dead process */
		unsigned char junk[4096];
		struct bytes b = {junk, sizeof(junk)};

		for (size_t i = 0; i < sizeof(junk); i++)
			junk[i] = (unsigned char)(rand() >> 8);
		write_file("ledger.db-shm", &b);
	}
}

static int find_row(void *data, const struct hga_ledger_row *row,
                    struct hga_err *e)
{
	(void)e;
	*(enum hga_ledger_state *)data = row->state;
	return 0;
}

static int rank(enum hga_ledger_state s)
{
	static const int ranks[] = {
	    [HGA_LEDGER_NONE] = 0,    [HGA_LEDGER_INTENT] = 1,
	    [HGA_LEDGER_UNKNOWN] = 2, [HGA_LEDGER_LIVE] = 3,
	    [HGA_LEDGER_KEPT] = 4,    [HGA_LEDGER_DELETING] = 5,
	    [HGA_LEDGER_GONE] = 6,    [HGA_LEDGER_ABSENT] = 6};

	return ranks[s];
}

/* Text of what is wrong with the rows, or NULL. */
static const char *check_rows(struct hga_ledger *led)
{
	static char text[400];
	struct hga_ledger_counts n;

	if (hga_ledger_check(led, &n, &err) < 0)
		return err.msg;
	if (n.bad > 0)
		return "a row with a wrong checksum";
	for (int i = 0; i < n_told; i++) {
		struct hga_ledger_filter f = {.op = hga_str(told[i].op)};
		enum hga_ledger_state have = HGA_LEDGER_NONE;

		if (hga_ledger_list(led, &f, find_row, &have, &err) < 0)
			return err.msg;
		if (rank(have) >= rank(told[i].state))
			continue;
		(void)snprintf(text, sizeof(text), "%s was %s, is %s",
		               told[i].op, hga_ledger_state_name(told[i].state),
		               hga_ledger_state_name(have));
		return text;
	}
	/* and it goes on */
	if (hga_ledger_event(led, HGA_STR(""), HGA_STR("after"), &err) < 0)
		return err.msg;
	return NULL;
}

static bool set_aside(void)
{
	DIR *d = opendir(work);
	bool found = false;

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
		found = found || strncmp(e->d_name, "ledger.bad", 10) == 0;
	if (d != NULL)
		(void)closedir(d);
	return found;
}

static const char *check_image(void)
{
	struct hga_state *st = NULL;
	struct hga_ledger *led = NULL;
	const char *wrong = NULL;

	if (hga_state_open(work, true, &st, &err) < 0 ||
	    hga_ledger_open(st, &led, &err) < 0)
		wrong = err.msg;
	else
		wrong = check_rows(led);
	/* before the first row there is nothing that could get lost */
	if (wrong == NULL && n_told > 0 && set_aside())
		wrong = "taken for damaged";
	hga_ledger_close(led);
	hga_state_free(st);
	return wrong;
}

static long line_no;

static void image(int upto, int missing, enum last how)
{
	static const char *const hows[] = {"whole", "torn", "zero", "random"};
	const char *wrong;

	if ((seen++ - offset) % stride != 0)
		return;
	build(upto, missing, how);
	images++;
	wrong = check_image();
	if (wrong == NULL)
		return;
	failures++;
	if (failures <= 10)
		printf("trace line %ld, %d of %d unsynced, without %d, last "
		       "%s: %s\n",
		       line_no, upto, n_pending, missing, hows[how], wrong);
}

static void images_here(void)
{
	image(n_pending, -1, WHOLE);
	if (n_pending == 0)
		return;
	for (int i = 0; i < n_pending; i++)
		image(i, -1, WHOLE); /* 0: only what was synced */
	for (int i = 0; i < n_pending - 1; i++)
		image(n_pending, i, WHOLE);
	if (pending[n_pending - 1].what != WRITE)
		return;
	image(n_pending, -1, TORN);
	image(n_pending, -1, ZERO);
	image(n_pending, -1, RANDOM);
}

/* ---- the trace ---- */

static int hex(int c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	                              : -1;
}

/* Reads "\x..\x.." up to the end character, in place. */
static char *unhex(char *p, int end, struct bytes *out)
{
	unsigned char *o = (unsigned char *)p;

	out->p = o;
	while (*p != end && *p != '\0') {
		if (p[0] != '\\' || p[1] != 'x')
			fail("trace", "an unexpected character");
		*o++ = (unsigned char)(hex(p[2]) << 4 | hex(p[3]));
		p += 4;
	}
	out->n = (size_t)(o - out->p);
	return *p == '\0' ? p : p + 1;
}

/* The n-th quoted string of a call, or of what stands in <...> (quote '<'). */
static bool quoted(const char *args, int quote, int nth, struct bytes *out)
{
	const char *p = args;
	char *copy;

	for (int i = 0; i <= nth && p != NULL; i++) {
		p = strchr(p, quote);
		if (p != NULL)
			p++;
		if (p != NULL && i < nth)
			p = strchr(p, quote == '<' ? '>' : '"') + 1;
	}
	if (p == NULL)
		return false;
	copy = need(strdup(p));
	(void)unhex(copy, quote == '<' ? '>' : '"', out);
	return true;
}

/* The name of a file of ours in that path; "" for the directory itself, NULL
 * for anything else. */
static const char *ours(const struct bytes *path)
{
	static char name[2][NAME];
	static int turn;
	size_t n = strlen(state_dir);
	char *out = name[turn ^= 1];

	if (path->n < n || memcmp(path->p, state_dir, n) != 0)
		return NULL;
	if (path->n == n)
		return "";
	if (path->p[n] != '/' || path->n - n - 1 >= NAME)
		return NULL;
	memcpy(out, path->p + n + 1, path->n - n - 1);
	out[path->n - n - 1] = '\0';
	if (strcmp(out, "ledger.db") == 0 ||
	    strcmp(out, "ledger.db-wal") == 0 ||
	    strcmp(out, "ledger.db-journal") == 0 ||
	    strncmp(out, "ledger.bak", 10) == 0 || strcmp(out, "sid") == 0 ||
	    strncmp(out, ".sid.", 5) == 0)
		return out;
	return NULL;
}

static const char *path_arg(const char *args, int nth, struct bytes *hold)
{
	return quoted(args, '"', nth, hold) ? ours(hold) : NULL;
}

static const char *fd_arg(const char *args, struct bytes *hold)
{
	return quoted(args, '<', 0, hold) ? ours(hold) : NULL;
}

static int inode_of(const char *name)
{
	int *slot = name_slot(&now_names, name, false);

	return slot != NULL ? *slot : -1;
}

static void name_it(const char *name, int ino)
{
	struct change *c = add_change(ino < 0 ? FORGET : NAME_IT, ino);

	(void)snprintf(c->name, NAME, "%s", name);
	rename_in(&now_names, c);
}

static long last_number(const char *args)
{
	const char *p = strrchr(args, ',');

	return p != NULL ? strtol(p + 1, NULL, 10) : 0;
}

static size_t file_end(int ino)
{
	size_t n = inodes[ino].synced.n;

	for (int i = 0; i < n_pending; i++) {
		const struct change *c = &pending[i];

		if (c->ino != ino)
			continue;
		if (c->what == WRITE && c->at + c->data.n > n)
			n = c->at + c->data.n;
		else if (c->what == CUT)
			n = c->at;
	}
	return n;
}

static void on_write(const char *args, const char *name, bool positioned)
{
	struct bytes data;
	struct change *c;
	int ino = inode_of(name);

	if (ino < 0 || !quoted(args, '"', 0, &data))
		fail("trace", name);
	c = add_change(WRITE, ino);
	/* the others only ever write from the start to the end */
	c->at = positioned ? (size_t)last_number(args) : file_end(ino);
	c->data = data;
	images_here();
}

static struct told *told_of(const char *op)
{
	for (int i = 0; i < n_told; i++)
		if (strcmp(told[i].op, op) == 0)
			return &told[i];
	if (n_told == (int)(sizeof(told) / sizeof(told[0])))
		fail("too many operations", op);
	(void)snprintf(told[n_told].op, HGA_OP_ID, "%.32s", op);
	return &told[n_told++];
}

/* A line of the writing program. */
static void on_line(const struct bytes *b)
{
	char line[80];
	struct told *t;

	if (b->n >= sizeof(line) || b->n < 36)
		return;
	memcpy(line, b->p, b->n);
	line[b->n - 1] = '\0';
	line[32] = '\0';
	t = told_of(line);
	t->state = hga_ledger_state_find(hga_str(line + 33));
	images_here();
}

/* A request: the operation that its tags name must be durable. */
static void on_request(const struct bytes *b)
{
	static const char tag[] = "hgauto%3Aop";
	char op[HGA_OP_ID];
	const char *p;

	/* the bytes of a trace line end with a quote that became a NUL */
	p = memmem(b->p, b->n, tag, sizeof(tag) - 1);
	if (p == NULL || memmem(b->p, b->n, "Action=Describe", 15) != NULL)
		return;
	for (p += sizeof(tag) - 1; p + 38 <= (const char *)b->p + b->n &&
	                           memcmp(p, "Value=", 6) != 0;)
		p++;
	if (p + 38 > (const char *)b->p + b->n)
		return;
	memcpy(op, p + 6, 32);
	op[32] = '\0';
	n_requests++;
	/* one that says "deleting" is not meant: only those that create tag */
	if (rank(told_of(op)->state) < rank(HGA_LEDGER_INTENT))
		told_of(op)->state = HGA_LEDGER_INTENT;
	images_here();
}

static bool is_call(const char *call, const char *name)
{
	size_t n = strlen(name);

	return strncmp(call, name, n) == 0 && call[n] == '(';
}

static void on_open(const char *args)
{
	struct bytes hold;
	const char *name = path_arg(args, 0, &hold);

	if (name == NULL || *name == '\0')
		return;
	if (inode_of(name) < 0 && strstr(args, "O_CREAT") != NULL) {
		if (n_inodes == (int)(sizeof(inodes) / sizeof(inodes[0])))
			fail("too many files", name);
		name_it(name, n_inodes++);
		images_here();
	} else if (strstr(args, "O_TRUNC") != NULL && inode_of(name) >= 0) {
		(void)add_change(CUT, inode_of(name));
		images_here();
	}
	free(hold.p);
}

static void on_names(const char *call, const char *args)
{
	struct bytes from, to;
	const char *a = path_arg(args, 0, &from);

	if (a == NULL)
		return;
	if (strncmp(call, "unlink", 6) == 0) {
		if (inode_of(a) >= 0)
			name_it(a, -1);
	} else {
		const char *b = path_arg(args, 1, &to);
		int ino = inode_of(a);

		if (b != NULL)
			name_it(b, ino);
		if (strncmp(call, "rename", 6) == 0)
			name_it(a, -1);
	}
	images_here();
}

static void on_call(const char *call)
{
	const char *args = strchr(call, '(');
	struct bytes hold = {NULL, 0};
	const char *name;

	if (args == NULL)
		return;
	args++;
	if (is_call(call, "openat")) {
		on_open(args);
	} else if (strncmp(call, "rename", 6) == 0 ||
	           strncmp(call, "link", 4) == 0 ||
	           strncmp(call, "unlink", 6) == 0) {
		on_names(call, args);
	} else if (is_call(call, "sendto") || is_call(call, "sendmsg")) {
		if (quoted(args, '"', 0, &hold))
			on_request(&hold);
	} else {
		name = fd_arg(args, &hold);
		if (name == NULL && is_call(call, "write") &&
		    strncmp(args, "1<", 2) == 0 && quoted(args, '"', 0, &hold))
			on_line(&hold);
		if (name == NULL)
			return;
		if (is_call(call, "pwrite64"))
			on_write(args, name, true);
		else if (is_call(call, "write"))
			on_write(args, name, false);
		else if (is_call(call, "ftruncate")) {
			add_change(CUT, inode_of(name))->at =
			    (size_t)last_number(args);
			images_here();
		} else if (is_call(call, "fdatasync") ||
		           is_call(call, "fsync")) {
			sync_some(*name == '\0' ? -1 : inode_of(name));
			images_here();
		}
	}
	free(hold.p);
}

/* Calls of several threads: the end of one that was interrupted in the log. */
struct cut_call {
	long pid;
	char *text;
};
static struct cut_call cut_calls[64];

static void on_trace_line(char *line)
{
	char *text;
	long pid = strtol(line, &text, 10);
	char *mark;
	int slot = 0;

	while (*text == ' ')
		text++;
	mark = strstr(text, " <unfinished ...>");
	if (mark != NULL) {
		while (slot < 63 && cut_calls[slot].text != NULL)
			slot++;
		*mark = '\0';
		cut_calls[slot] = (struct cut_call){pid, need(strdup(text))};
		return;
	}
	if (strncmp(text, "<... ", 5) == 0) {
		char *rest = strstr(text, "resumed>");
		char *whole;

		while (slot < 64 && (cut_calls[slot].text == NULL ||
		                     cut_calls[slot].pid != pid))
			slot++;
		if (slot == 64 || rest == NULL)
			return;
		whole = need(
		    malloc(strlen(cut_calls[slot].text) + strlen(rest) + 1));
		(void)sprintf(whole, "%s%s", cut_calls[slot].text, rest + 8);
		free(cut_calls[slot].text);
		cut_calls[slot].text = NULL;
		mark = strrchr(whole, '=');
		if (mark != NULL && mark[2] != '-' && mark[2] != '?') {
			if (mark[-1] == ' ')
				*mark = '\0';
			on_call(whole);
		}
		free(whole);
		return;
	}
	mark = strstr(text, ") = ");
	for (char *p = mark; p != NULL; p = strstr(p + 1, ") = "))
		mark = p;
	if (mark == NULL || mark[4] == '-' || mark[4] == '?')
		return; /* it failed, or is no call */
	*mark = '\0';
	on_call(text);
}

static void read_trace(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t room = 0;
	char *line = NULL;

	if (f == NULL)
		fail("cannot read", path);
	for (int i = 0; i < FILES; i++)
		now_names.ino[i] = synced_names.ino[i] = -1;
	while (getline(&line, &room, f) > 0) {
		line_no++;
		on_trace_line(line);
	}
	free(line);
	(void)fclose(f);
}

/* How many images there are in all: a pass without looking at any. */
static long count_images(const char *path)
{
	long n;

	stride = 1L << 40;
	offset = 1; /* no image has that number */
	read_trace(path);
	n = seen;
	seen = line_no = n_told = n_pending = n_inodes = n_requests = 0;
	memset(inodes, 0, sizeof(inodes));
	memset(told, 0, sizeof(told));
	return n;
}

static int make_images(char **argv)
{
	long most = strtol(argv[5], NULL, 10);
	long seed = strtol(argv[6], NULL, 10);
	long all;

	if (realpath(argv[3], state_dir) == NULL)
		fail("no directory", argv[3]);
	work = argv[4];
	srand((unsigned)seed);
	all = count_images(argv[2]);
	stride = most > 0 && all > most ? all / most : 1;
	offset = seed % stride;
	read_trace(argv[2]);
	printf("images %ld, failures %ld, told %d, requests %d, of %ld\n",
	       images, failures, n_told, n_requests, all);
	(void)!hga_fs_rmtree(work, &err);
	return failures > 0;
}

int main(int argc, char **argv)
{
	(void)umask(077);
	if (argc >= 4 && strcmp(argv[1], "write") == 0)
		return write_some(argv[2], atoi(argv[3]), argc > 4);
	if (argc == 7 && strcmp(argv[1], "images") == 0)
		return make_images(argv);
	fprintf(stderr, "usage: ledger_power write STATE OPS [normal]\n"
	                "       ledger_power images TRACE STATE WORK MOST "
	                "SEED\n");
	return 2;
}
