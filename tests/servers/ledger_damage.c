/*
 * Damaged ledgers: files of a good one changed at random, and opened.
 *
 *   ledger_damage many WORK COUNT SEED
 *     Makes two good ledgers (closed; with a log that a killed process left),
 *     then COUNT times a copy of one, a change, an opening.  It must open,
 *     show no row that never was, show every row that the change has not
 *     reached and every row of an intact ledger.bak, and go on.
 *     Prints "mutations N, failures N, rows N, lost N".
 *   ledger_damage one STATE SEED
 *     One change to the files of a state directory; says which.
 *
 * Changes: a bit, some bytes, a cut, bytes put in, a page of zeros, a page of
 * junk, the log of an earlier moment, a file that is gone.
 */
#include "base/crypto.h"
#include "base/fs.h"
#include "state/ledger.h"
#include "state/ledger_impl.h"
#include "state/record.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPS 60
#define IN_BACKUP 40
#define PAGE 4096
#define MOST (1u << 22)

enum file {
	DB,
	WAL,
	BAK,
	N_FILES
};
static const char *const names[N_FILES] = {"ledger.db", "ledger.db-wal",
                                           "ledger.bak"};

static struct hga_err err;
static char ops[OPS][HGA_OP_ID];

struct good { /* the files of one good ledger; empty: none */
	struct hga_buf f[N_FILES];
	struct hga_buf old_wal; /* of an earlier moment */
	struct hga_buf sid;
	bool in_db[OPS]; /* known without the log */
};

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "ledger_damage: %s: %s\n", what, err.msg);
	exit(2);
}

static void need(int r, const char *what)
{
	if (r < 0)
		fail(what);
}

static const char *in(const char *dir, const char *name)
{
	static char path[4][4096];
	static int i;
	char *out = path[i++ % 4];

	(void)snprintf(out, sizeof(path[0]), "%s/%s", dir, name);
	return out;
}

/* ---- the good ones ---- */

static void make_ops(struct hga_ledger *led, int64_t place, int from, int to)
{
	struct hga_ledger_intent x;
	struct hga_ledger_change c;
	char id[32];

	for (int i = from; i < to; i++) {
		need(hga_token(ops[i], &err), "token");
		memset(&x, 0, sizeof(x));
		x.op = hga_str(ops[i]);
		x.run = HGA_STR("run1");
		x.kind = HGA_STR("instance");
		x.place = place;
		x.token = hga_str(ops[i]);
		x.detail = HGA_STR("{\"type\":\"t3.medium\"}");
		need(hga_ledger_intent(led, &x, &err), "intent");
		memset(&c, 0, sizeof(c));
		(void)snprintf(id, sizeof(id), "i-%.17s", ops[i]);
		c.id = hga_str(id);
		if (i % 4 != 0)
			need(hga_ledger_set(led, hga_str(ops[i]),
			                    HGA_LEDGER_LIVE, &c, &err),
			     "live");
	}
}

static void take(const char *dir, const char *name, struct hga_buf *b)
{
	hga_buf_init(b, MOST);
	if (access(in(dir, name), F_OK) == 0)
		need(hga_fs_read(in(dir, name), MOST, b, &err), name);
}

/* The writer is a child that just stops: its log stays as it is. */
static void write_good(const char *dir, bool killed)
{
	struct hga_ledger_place p = {HGA_STR("aws"), HGA_STR("123456789012"),
	                             HGA_STR("us-west-2"), HGA_STR("")};
	struct hga_state *st = NULL;
	struct hga_ledger *led = NULL;
	struct hga_buf wal;
	int64_t place;

	need(hga_state_open(dir, true, &st, &err), dir);
	need(hga_ledger_open(st, &led, &err), "open");
	need(hga_ledger_place(led, &p, &place, &err), "place");
	make_ops(led, place, 0, IN_BACKUP);
	need(hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("task"), -1,
	                          &err),
	     "run");
	make_ops(led, place, IN_BACKUP, OPS - 5);
	take(dir, "ledger.db-wal", &wal);
	need(hga_fs_write(in(dir, "old-wal"), hga_buf_str(&wal), 0600, &err),
	     "old-wal");
	hga_buf_release(&wal);
	if (killed) {
		need(hga_db_checkpoint(led->db, &err), "checkpoint");
		make_ops(led, place, OPS - 5, OPS);
	} else {
		make_ops(led, place, OPS - 5, OPS);
		hga_ledger_close(led);
	}
	need(hga_fs_write(in(dir, "ops"),
	                  hga_strn((const char *)ops, sizeof(ops)), 0600, &err),
	     "ops");
	_exit(0);
}

static int note_op(void *data, const struct hga_ledger_row *row,
                   struct hga_err *e)
{
	bool *there = data;

	(void)e;
	for (int i = 0; i < OPS; i++)
		if (hga_str_eqc(row->op, ops[i]))
			there[i] = true;
	return 0;
}

static void put(const char *dir, const char *name, const struct hga_buf *b)
{
	if (b->len > 0)
		need(hga_fs_write(in(dir, name), hga_buf_str(b), 0600, &err),
		     name);
}

static void fresh_dir(const char *dir, const struct good *g)
{
	need(hga_fs_rmtree(dir, &err), dir);
	need(hga_fs_mkdir(dir, 0700, false, &err), dir);
	put(dir, "sid", &g->sid);
}

static void make_good(struct good *g, const char *dir, bool killed)
{
	struct hga_ledger_filter all = {.states = 0};
	struct hga_state *st = NULL;
	struct hga_ledger *led = NULL;
	struct hga_buf list;
	int status = 1;
	pid_t pid;

	need(hga_fs_rmtree(dir, &err), dir);
	need(hga_fs_mkdir(dir, 0700, true, &err), dir);
	pid = fork();
	if (pid == 0)
		write_good(dir, killed);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
		fail("the writer");
	take(dir, "ops", &list);
	if (list.len != sizeof(ops))
		fail("ops");
	memcpy(ops, list.data, sizeof(ops));
	hga_buf_release(&list);
	for (int f = 0; f < N_FILES; f++)
		take(dir, names[f], &g->f[f]);
	take(dir, "old-wal", &g->old_wal);
	take(dir, "sid", &g->sid);
	memset(g->in_db, 0, sizeof(g->in_db));
	fresh_dir(dir, g);
	put(dir, names[DB], &g->f[DB]);
	need(hga_state_open(dir, true, &st, &err), dir);
	need(hga_ledger_open(st, &led, &err), "open");
	need(hga_ledger_list(led, &all, note_op, g->in_db, &err), "list");
	hga_ledger_close(led);
	hga_state_free(st);
}

/* ---- changes ---- */

static unsigned pick(unsigned n)
{
	return n > 0 ? (unsigned)rand() % n : 0;
}

/* From where on, and how far, the bytes are others. */
struct reach {
	enum file file;
	size_t from, to;
	char text[120];
};

static void fill(struct hga_buf *b, size_t from, size_t n, bool junk)
{
	for (size_t i = from; i < from + n && i < b->len; i++)
		b->data[i] = junk ? (char)(rand() >> 8) : 0;
}

static void insert(struct hga_buf *b, size_t at, size_t n)
{
	char junk[64];
	struct hga_buf out;

	for (size_t i = 0; i < n; i++)
		junk[i] = (char)(rand() >> 8);
	hga_buf_init(&out, MOST);
	need(hga_buf_add(&out, b->data, at, &err), "insert");
	need(hga_buf_add(&out, junk, n, &err), "insert");
	need(hga_buf_add(&out, b->data + at, b->len - at, &err), "insert");
	hga_buf_release(b);
	*b = out;
}

/* One change to a file that is not empty; what it does, and how far. */
static struct reach change(struct hga_buf f[N_FILES],
                           const struct hga_buf *old_wal)
{
	static const char *const what[] = {
	    "a bit", "some bytes",  "a cut",      "bytes put in",
	    "zeros", "a junk page", "an old log", "a file is gone"};
	struct reach r = {DB, 0, MOST, ""};
	unsigned kind = pick(8);
	struct hga_buf *b;
	size_t at;

	r.file = (enum file)(pick(3) > 0 ? DB : pick(N_FILES));
	if (f[r.file].len == 0)
		r.file = DB;
	if (kind == 6)
		r.file = WAL;
	b = &f[r.file];
	at = pick((unsigned)b->len);
	(void)snprintf(r.text, sizeof(r.text), "%s of %.20s at %zu", what[kind],
	               names[r.file], at);
	switch (kind) {
	case 0:
		b->data[at] = (char)(b->data[at] ^ 1 << pick(8));
		r.from = r.to = at;
		break;
	case 1:
		r.from = at;
		r.to = at + 1 + pick(64);
		fill(b, at, r.to - at, true);
		break;
	case 2:
		hga_buf_truncate(b, at);
		r.from = at;
		break;
	case 3:
		insert(b, at, 1 + pick(64));
		r.from = at;
		break;
	case 4:
	case 5:
		r.from = at / PAGE * PAGE;
		r.to = r.from + PAGE - 1;
		fill(b, r.from, PAGE, kind == 5);
		break;
	case 6:
		hga_buf_clear(b);
		need(hga_buf_add(b, old_wal->data, old_wal->len, &err), "log");
		break;
	default:
		hga_buf_clear(b);
		break;
	}
	return r;
}

/* ---- what must still be there ---- */

static bool page_changed(const struct reach *r, size_t page)
{
	return r->from / PAGE <= page && page <= r->to / PAGE;
}

/* The pages that lead to the rows: the first one and those inside of trees. */
static bool way_changed(const struct hga_buf *db, const struct reach *r)
{
	for (size_t page = 0; page * PAGE < db->len; page++)
		if ((page == 0 || db->data[page * PAGE] == 5 ||
		     db->data[page * PAGE] == 2) &&
		    page_changed(r, page))
			return true;
	return false;
}

/* Whether the row of an op stands on no page that was changed. */
static bool untouched(const struct hga_buf *db, const struct reach *r,
                      const char *op)
{
	char key[HGA_OP_ID + 4];
	const char *p = db->data;
	size_t left = db->len;

	/* columns op and run, one behind the other, as only a row has them */
	(void)snprintf(key, sizeof(key), "%.32srun1", op);
	while ((p = memmem(p, left, key, strlen(key))) != NULL) {
		size_t at = (size_t)(p - db->data);

		/* a row may begin on the page before and go on behind */
		if (page_changed(r, at / PAGE))
			return false;
		p++;
		left = db->len - at - 1;
	}
	return true;
}

static bool must_be_there(const struct good *g, const struct reach *r, int i)
{
	bool in_backup = i < IN_BACKUP;

	if (r->file == BAK)
		return true; /* ledger.db and its log are whole */
	if (in_backup)
		return true;
	if (r->file == WAL) /* an old log puts its pages over newer ones */
		return g->in_db[i] && strncmp(r->text, "an old log", 10) != 0;
	/* with a log, its pages stand before those of the file */
	return g->f[WAL].len == 0 && !way_changed(&g->f[DB], r) &&
	       untouched(&g->f[DB], r, ops[i]);
}

struct seen {
	bool there[OPS];
	char wrong[200];
};

static int look(void *data, const struct hga_ledger_row *row, struct hga_err *e)
{
	struct seen *s = data;
	char id[32];
	int i = 0;

	(void)e;
	while (i < OPS && !hga_str_eqc(row->op, ops[i]))
		i++;
	if (i == OPS) {
		(void)snprintf(s->wrong, sizeof(s->wrong), "op %.*s never was",
		               HGA_STRF(row->op));
		return 0;
	}
	s->there[i] = true;
	(void)snprintf(id, sizeof(id), "i-%.17s", ops[i]);
	if (!hga_str_eqc(row->kind, "instance") ||
	    !hga_str_eqc(row->run, "run1") ||
	    !hga_str_eqc(row->account, "123456789012") ||
	    (row->id.n > 0 && !hga_str_eqc(row->id, id)) ||
	    (row->state != HGA_LEDGER_INTENT && row->state != HGA_LEDGER_LIVE &&
	     row->state != HGA_LEDGER_UNKNOWN))
		(void)snprintf(s->wrong, sizeof(s->wrong),
		               "%.32s shows as %.*s of %.*s, id %.*s, state %s",
		               ops[i], HGA_STRF(row->kind), HGA_STRF(row->run),
		               HGA_STRF(row->id),
		               hga_ledger_state_name(row->state));
	return 0;
}

static long rows, lost;

/* Text of what is wrong, or NULL. */
static const char *judge(struct hga_ledger *led, const struct good *g,
                         const struct reach *r)
{
	struct hga_ledger_filter all = {.states = 0};
	static struct seen s;

	memset(&s, 0, sizeof(s));
	if (hga_ledger_list(led, &all, look, &s, &err) < 0)
		return err.msg;
	if (s.wrong[0] != '\0')
		return s.wrong;
	rows += OPS;
	for (int i = 0; i < OPS; i++) {
		lost += !s.there[i];
		if (s.there[i] || !must_be_there(g, r, i))
			continue;
		(void)snprintf(s.wrong, sizeof(s.wrong),
		               "row %d (%.32s) is not shown", i, ops[i]);
		return s.wrong;
	}
	if (hga_ledger_event(led, HGA_STR(""), HGA_STR("after"), &err) < 0)
		return err.msg;
	return NULL;
}

static const char *try_one(const char *dir, const struct good *g,
                           struct reach *r)
{
	struct hga_buf f[N_FILES];
	struct hga_state *st = NULL;
	struct hga_ledger *led = NULL;
	const char *wrong;

	for (int i = 0; i < N_FILES; i++) {
		hga_buf_init(&f[i], MOST);
		need(hga_buf_add(&f[i], g->f[i].data, g->f[i].len, &err),
		     "copy");
	}
	*r = change(f, &g->old_wal);
	fresh_dir(dir, g);
	for (int i = 0; i < N_FILES; i++) {
		put(dir, names[i], &f[i]);
		hga_buf_release(&f[i]);
	}
	if (hga_state_open(dir, true, &st, &err) < 0 ||
	    hga_ledger_open(st, &led, &err) < 0)
		wrong = err.msg;
	else
		wrong = judge(led, g, r);
	hga_ledger_close(led);
	hga_state_free(st);
	return wrong;
}

static int many(const char *work, int count, int seed)
{
	struct good g[2];
	char both[2][OPS][HGA_OP_ID];
	int failures = 0;

	for (int k = 0; k < 2; k++) {
		make_good(&g[k], work, k == 1);
		memcpy(both[k], ops, sizeof(ops));
	}
	srand((unsigned)seed);
	for (int i = 0; i < count; i++) {
		int k = i % 2;
		struct reach r;
		const char *wrong;

		memcpy(ops, both[k], sizeof(ops));
		wrong = try_one(work, &g[k], &r);
		if (wrong == NULL)
			continue;
		failures++;
		if (failures <= 10)
			printf("mutation %d (%s, %s): %s\n", i, r.text,
			       k ? "with a log" : "closed", wrong);
	}
	printf("mutations %d, failures %d, rows %ld, lost %ld\n", count,
	       failures, rows, lost);
	for (int k = 0; k < 2; k++) {
		for (int f = 0; f < N_FILES; f++)
			hga_buf_release(&g[k].f[f]);
		hga_buf_release(&g[k].old_wal);
		hga_buf_release(&g[k].sid);
	}
	(void)!hga_fs_rmtree(work, &err);
	return failures > 0;
}

/* The same file, as others have it open. */
static void overwrite(const char *path, const struct hga_buf *b)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, b->data, b->len) != (ssize_t)b->len ||
	    ftruncate(fd, (off_t)b->len) != 0 || close(fd) != 0)
		fail(path);
}

static int one(const char *dir, int seed)
{
	struct hga_buf f[N_FILES];
	struct reach r;
	bool gone;

	srand((unsigned)seed);
	for (int i = 0; i < N_FILES; i++)
		take(dir, names[i], &f[i]);
	r = change(f, &f[WAL]);
	gone = f[r.file].len == 0;
	if (gone)
		(void)unlink(in(dir, names[r.file]));
	else
		overwrite(in(dir, names[r.file]), &f[r.file]);
	for (int i = 0; i < N_FILES; i++)
		hga_buf_release(&f[i]);
	printf("%s\n", r.text);
	return 0;
}

int main(int argc, char **argv)
{
	(void)umask(077);
	if (argc == 5 && strcmp(argv[1], "many") == 0)
		return many(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 4 && strcmp(argv[1], "one") == 0)
		return one(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: ledger_damage many WORK COUNT SEED\n"
	                "       ledger_damage one STATE SEED\n");
	return 2;
}
