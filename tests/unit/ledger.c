/* The ledger: rows, states, fail-stop, replaced files, parallel writers. */
#include "state/ledger.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "state/db.h"
#include "state/record.h"
#include "tap.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/hgauto-ledger-XXXXXX";
static struct hga_err err;
static struct hga_state *st;
static struct hga_ledger *led;
static int64_t place;

static const char *in(const char *name)
{
	static char p[4][400];
	static int i;
	char *out = p[i++ % 4];

	snprintf(out, 400, "%s/%s", hga_state_path(st), name);
	return out;
}

/* A fresh state directory and ledger with one place. */
static void fresh(const char *name)
{
	struct hga_ledger_place p = {HGA_STR("aws"), HGA_STR("123456789012"),
	                             HGA_STR("us-west-2"), HGA_STR("local:x")};
	char path[300];

	hga_ledger_close(led);
	hga_state_free(st);
	led = NULL;
	st = NULL;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ok(hga_state_open(path, true, &st, &err) == 0 &&
	       hga_ledger_open(st, &led, &err) == 0 &&
	       hga_ledger_place(led, &p, &place, &err) == 0,
	   "ledger %s", name);
	if (led == NULL) {
		printf("# %s\n", err.msg);
		exit(1);
	}
}

static const char *new_op(void)
{
	static char op[8][HGA_OP_ID];
	static int i;

	(void)!hga_token(op[i = (i + 1) % 8], NULL);
	return op[i];
}

static int intend(const char *op, const char *kind)
{
	struct hga_ledger_intent in;

	memset(&in, 0, sizeof(in));
	in.op = hga_str(op);
	in.run = HGA_STR("run1");
	in.kind = hga_str(kind);
	in.place = place;
	in.name = HGA_STR("hg-test");
	in.token = hga_str(op);
	in.expires = 1795356210.5;
	in.detail = HGA_STR("{\"type\":\"t3\"}");
	return hga_ledger_intent(led, &in, &err);
}

static int set(const char *op, enum hga_ledger_state s, const char *id)
{
	struct hga_ledger_change c;

	memset(&c, 0, sizeof(c));
	c.id = hga_str(id);
	return hga_ledger_set(led, hga_str(op), s, &c, &err);
}

static struct hga_ledger_row last;
static char last_id[64], last_error[400], last_op[HGA_OP_ID];
static int rows;

/* The views of a row live during the call only. */
static struct hga_str keep(int slot, struct hga_str s)
{
	static char text[8][256];

	snprintf(text[slot], sizeof(text[0]), "%.*s", HGA_STRF(s));
	return hga_str(text[slot]);
}

static int on_row(void *data, const struct hga_ledger_row *row,
                  struct hga_err *e)
{
	(void)data;
	(void)e;
	rows++;
	last = *row;
	last.cls = keep(0, row->cls);
	last.endpoint = keep(1, row->endpoint);
	last.region = keep(2, row->region);
	last.run = keep(3, row->run);
	last.account = keep(4, row->account);
	snprintf(last_id, sizeof(last_id), "%.*s", HGA_STRF(row->id));
	snprintf(last_op, sizeof(last_op), "%.*s", HGA_STRF(row->op));
	snprintf(last_error, sizeof(last_error), "%.*s", HGA_STRF(row->error));
	return 0;
}

static int list(const struct hga_ledger_filter *f)
{
	rows = 0;
	return hga_ledger_list(led, f, on_row, NULL, &err);
}

static enum hga_ledger_state state_of(const char *op)
{
	struct hga_ledger_filter f = {.op = hga_str(op)};

	return list(&f) == 0 && rows == 1 ? last.state : HGA_LEDGER_NONE;
}

static void test_life(void)
{
	const char *op = new_op();
	struct hga_ledger_change c;

	fresh("life");
	is_int(hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("task"), -1,
	                            &err),
	       0, "run begins");
	is_int(intend(op, "instance"), 0, "intent");
	is_int(state_of(op), HGA_LEDGER_INTENT, "recorded");
	ok(hga_str_eqc(last.cls, "ephemeral") && last.expires == 1795356210.5 &&
	       last.t_sent > 0 && last.t_live == 0 && !last.adopted,
	   "its columns");
	ok(hga_str_eqc(last.endpoint, "local:x") &&
	       hga_str_eqc(last.region, "us-west-2"),
	   "its place");
	is_int(intend(op, "instance"), -HGA_EXISTS, "an op is used once");
	is_int(hga_ledger_open_count(led, HGA_STR("run1"), &err), 1,
	       "one open ephemeral");
	is_int(hga_ledger_sent(led, hga_str(op), &err), 0, "sent");
	is_int(set(op, HGA_LEDGER_LIVE, "i-1"), 0, "live");
	is_str(last_id, "", "before");
	is_int(state_of(op), HGA_LEDGER_LIVE, "is live");
	is_str(last_id, "i-1", "has its id");
	ok(last.t_live > 0, "and time");
	is_int(set(op, HGA_LEDGER_ABSENT, ""), -HGA_BUG,
	       "a live one cannot be absent");
	is_str(err.code, "LedgerState", "its code");
	is_int(state_of(op), HGA_LEDGER_LIVE, "the row is unchanged");
	is_int(set(op, HGA_LEDGER_KEPT, ""), 0, "kept");
	is_int(hga_ledger_open_count(led, HGA_STR("run1"), &err), 0,
	       "kept ones do not count");
	is_int(set(op, HGA_LEDGER_DELETING, ""), 0, "deleting");
	memset(&c, 0, sizeof(c));
	hga_log_secret(HGA_STR("hunter22"));
	c.error = HGA_STR("refused for hunter22");
	is_int(hga_ledger_set(led, hga_str(op), HGA_LEDGER_LIVE, &c, &err), 0,
	       "refused: live again");
	is_int(state_of(op), HGA_LEDGER_LIVE, "live");
	is_str(last_error, "refused for ***", "errors are redacted");
	is_int(set(op, HGA_LEDGER_GONE, ""), 0, "gone");
	is_int(set(op, HGA_LEDGER_GONE, ""), 0, "again");
	is_int(set(op, HGA_LEDGER_LIVE, "i-1"), -HGA_BUG, "final");
	is_int(set("0123456789abcdef0123456789abcdef", HGA_LEDGER_LIVE, "x"),
	       -HGA_NOTFOUND, "unknown op");
	is_int(hga_ledger_run_end(led, HGA_STR("run1"), &err), 0, "run ends");
	ok(access(in("ledger.bak"), F_OK) == 0 &&
	       access(in("ledger.reserve"), F_OK) == 0,
	   "copy and reserve exist");
}

static void test_transitions(void)
{
	static const char *const names[] = {"",     "intent", "unknown",
	                                    "live", "kept",   "deleting",
	                                    "gone", "absent"};
	/* rows: from; letters: allowed targets (reliability.md 2.5) */
	static const char *const ways[] = {"",
	                                   "intent unknown live absent",
	                                   "unknown live absent",
	                                   "live kept deleting gone",
	                                   "kept live deleting gone",
	                                   "deleting live gone",
	                                   "gone",
	                                   "absent"};
	static const enum hga_ledger_state path[][4] = {
	    {0},
	    {0},
	    {HGA_LEDGER_UNKNOWN},
	    {HGA_LEDGER_LIVE},
	    {HGA_LEDGER_LIVE, HGA_LEDGER_KEPT},
	    {HGA_LEDGER_LIVE, HGA_LEDGER_DELETING},
	    {HGA_LEDGER_LIVE, HGA_LEDGER_GONE},
	    {HGA_LEDGER_ABSENT}};
	int wrong = 0;

	fresh("ways");
	for (int from = 1; from < 8; from++) {
		for (int to = 1; to < 8; to++) {
			const char *op = new_op();
			bool want = strstr(ways[from], names[to]) != NULL;
			int r = intend(op, "instance");

			for (int i = 0; i < 4 && path[from][i] != 0; i++)
				r = r ? r : set(op, path[from][i], "i-1");
			if (r != 0)
				wrong++;
			r = set(op, (enum hga_ledger_state)to, "i-1");
			if ((r == 0) != want || (r != 0 && r != -HGA_BUG)) {
				printf("# %s -> %s: %d\n", names[from],
				       names[to], r);
				wrong++;
			}
		}
	}
	is_int(wrong, 0, "exactly the documented transitions");
}

static int64_t later(void)
{
	return (int64_t)2000000000 * 1000000;
}

static void test_recheck(void)
{
	const char *op = new_op();
	struct hga_ledger_change c = {.recheck = 1900000000.0};
	struct hga_ledger_filter due = {.recheck_due = true};

	fresh("recheck");
	is_int(intend(op, "group"), 0, "intent");
	is_int(hga_ledger_set(led, hga_str(op), HGA_LEDGER_ABSENT, &c, &err), 0,
	       "absent, to be looked up again");
	is_int(set(op, HGA_LEDGER_LIVE, "sg-1"), -HGA_BUG, "not due");
	is_int(list(&due), 0, "due ones");
	is_int(rows, 0, "none");
	hga_clock_set(later, NULL);
	is_int(list(&due), 0, "later");
	is_int(rows, 1, "one");
	is_int(set(op, HGA_LEDGER_LIVE, "sg-1"), 0, "came late");
	hga_clock_set(NULL, NULL);
}

static void test_children(void)
{
	const char *op = new_op();
	const char *late = new_op();
	struct hga_ledger_child kids[2] = {
	    {.kind = HGA_STR("snapshot"), .id = HGA_STR("snap-1")},
	    {.kind = HGA_STR("snapshot"), .id = HGA_STR("snap-2")}};
	struct hga_ledger_change c = {
	    .id = HGA_STR("ami-1"), .children = kids, .n_children = 2};
	struct hga_ledger_filter f = {.parent = hga_str(op)};
	struct hga_ledger_intent found;
	char child[HGA_OP_ID];
	char again[HGA_OP_ID];

	fresh("kids");
	is_int(intend(op, "image"), 0, "intent");
	is_int(hga_ledger_set(led, hga_str(op), HGA_LEDGER_LIVE, &c, &err), 0,
	       "live with children");
	is_int(list(&f), 0, "children");
	is_int(rows, 2, "two");
	ok(last.state == HGA_LEDGER_LIVE && hga_str_eqc(last.run, "run1") &&
	       last.expires == 1795356210.5,
	   "live, of the same run");
	kids[0].id = HGA_STR("snap-3");
	is_int(hga_ledger_child(led, hga_str(op), &kids[0], child, &err), 0,
	       "a third");
	is_int(hga_ledger_child(led, hga_str(op), &kids[0], again, &err), 0,
	       "once more");
	is_str(again, child, "is the same");
	memset(&found, 0, sizeof(found));
	found.op = hga_str(late);
	found.run = HGA_STR("run1");
	found.kind = HGA_STR("instance");
	found.place = place;
	is_int(hga_ledger_adopt(led, &found, HGA_STR("i-9"), child, &err), 0,
	       "adopted");
	is_str(child, late, "under its tag's op");
	is_int(state_of(late), HGA_LEDGER_LIVE, "live");
	ok(last.adopted, "marked");
	found.op = HGA_STR("");
	is_int(hga_ledger_adopt(led, &found, HGA_STR("i-9"), again, &err), 0,
	       "found again without op");
	is_str(again, late, "recognised by its id");
	is_int(set(late, HGA_LEDGER_GONE, ""), 0, "gone");
	found.op = hga_str(late);
	is_int(hga_ledger_adopt(led, &found, HGA_STR("i-10"), again, &err), 0,
	       "a late delivery");
	ok(strcmp(again, late) != 0 && state_of(again) == HGA_LEDGER_LIVE,
	   "gets an op of its own");
	op = new_op();
	is_int(intend(op, "instance"), 0, "an intent");
	found.op = hga_str(op);
	is_int(hga_ledger_adopt(led, &found, HGA_STR("i-11"), again, &err), 0,
	       "found by tag");
	is_int(state_of(op), HGA_LEDGER_LIVE, "becomes live");
	is_str(last_id, "i-11", "with its id");
}

static void test_reopen(void)
{
	const char *op = new_op();
	struct hga_ledger *two = NULL;
	struct hga_ledger_filter open_rows = {.states = HGA_LEDGER_OPEN};
	int64_t n = 0;

	fresh("reopen");
	is_int(intend(op, "instance"), 0, "intent");
	is_int(hga_ledger_open(st, &two, &err), 0, "a second process opens it");
	hga_ledger_close(two);
	hga_ledger_close(led);
	led = NULL;
	is_int(hga_ledger_open(st, &led, &err), 0, "opens again");
	is_int(list(&open_rows), 0, "list");
	is_int(rows, 1, "the row is there");
	is_int(hga_ledger_forget(led, HGA_STR("local:x"), &n, &err), 0,
	       "endpoint wiped");
	is_int(n, 1, "one row");
	is_int(state_of(op), HGA_LEDGER_GONE, "gone");
	is_int(hga_ledger_forget(led, HGA_STR(""), &n, &err), -HGA_USAGE,
	       "AWS cannot be forgotten");
}

static void test_admin(void)
{
	struct hga_ledger_filter open_rows = {.states = HGA_LEDGER_OPEN};
	struct hga_ledger_counts n;
	const char *a, *b;

	fresh("admin");
	a = new_op();
	is_int(intend(a, "instance"), 0, "an intent");
	b = new_op();
	is_int(intend(b, "group"), 0, "another");
	is_int(hga_ledger_set(led, hga_str(b), HGA_LEDGER_ABSENT, NULL, &err),
	       0, "absent");
	is_int(hga_ledger_check(led, &n, &err), 0, "the ledger is sound");
	ok(n.ops == 2 && n.open == 1 && n.bad == 0, "2 entries, 1 open");
	is_int(hga_ledger_rebuild(led, &err), 0, "made anew");
	is_int(state_of(a), HGA_LEDGER_UNKNOWN, "what was open is unknown");
	is_int(state_of(b), HGA_LEDGER_ABSENT, "what was final stays");
	is_int(hga_ledger_forget_op(led, hga_str(a), &err), 0, "forgotten");
	is_int(state_of(a), HGA_LEDGER_GONE, "is gone");
	is_int(list(&open_rows), 0, "list");
	is_int(rows, 0, "nothing is open");
	is_int(hga_ledger_forget_op(led, hga_str(new_op()), &err), -HGA_USAGE,
	       "what is not there cannot be forgotten");
	ok(!hga_ledger_poisoned(led), "which does not poison the ledger");
}

static int take(const char *op, const char *from, const char *to)
{
	return hga_ledger_take(led, hga_str(op), hga_str(from), hga_str(to),
	                       &err);
}

static void test_take(void)
{
	struct hga_ledger_child vol = {.kind = HGA_STR("volume"),
	                               .id = HGA_STR("vol-1")};
	char child[HGA_OP_ID];
	const char *a, *b;

	fresh("take");
	a = new_op();
	is_int(intend(a, "instance"), 0, "an intent");
	is_int(take(a, "run1", "run2"), -HGA_USAGE, "an intent stays");
	is_int(set(a, HGA_LEDGER_LIVE, "i-1"), 0, "live");
	is_int(hga_ledger_child(led, hga_str(a), &vol, child, &err), 0,
	       "a volume with it");
	is_int(set(a, HGA_LEDGER_KEPT, ""), 0, "kept");
	is_int(take(a, "run3", "run2"), -HGA_USAGE, "of another run: no");
	is_int(take(a, "run1", "run1"), -HGA_USAGE, "nor by itself");
	is_int(take(a, "run1", "run2"), 0, "taken over");
	is_int(state_of(a), HGA_LEDGER_LIVE, "no longer kept");
	ok(hga_str_eqc(last.run, "run2"), "it is the new run's");
	is_int(state_of(child), HGA_LEDGER_LIVE, "the volume");
	ok(hga_str_eqc(last.run, "run2"), "went with it");
	is_int(take(a, "run1", "run4"), -HGA_USAGE, "once");
	b = new_op();
	is_int(take(b, "run1", "run2"), -HGA_USAGE, "what is not there");
	ok(!hga_ledger_poisoned(led), "which does not poison the ledger");
}

static void test_bad_intents(void)
{
	struct hga_ledger_intent in;
	static char big[5000];

	fresh("bad");
	memset(&in, 0, sizeof(in));
	in.op = HGA_STR("short");
	in.run = HGA_STR("r");
	in.kind = HGA_STR("instance");
	in.place = place;
	is_int(hga_ledger_intent(led, &in, &err), -HGA_USAGE, "wrong op");
	in.op = hga_str(new_op());
	in.cls = HGA_STR("other");
	is_int(hga_ledger_intent(led, &in, &err), -HGA_USAGE, "wrong class");
	in.cls = HGA_STR("durable");
	in.place = 99;
	is_int(hga_ledger_intent(led, &in, &err), -HGA_EXISTS,
	       "unknown place breaks a constraint");
	in.place = place;
	memset(big, 'x', sizeof(big));
	in.detail = hga_strn(big, sizeof(big));
	is_int(hga_ledger_intent(led, &in, &err), -HGA_USAGE, "large detail");
	in.detail = HGA_STR("");
	is_int(hga_ledger_intent(led, &in, &err), 0, "a good one after all");
	ok(!hga_ledger_poisoned(led), "refusals do not poison");
}

static void test_run_lock(void)
{
	struct hga_run *run = NULL;
	const char *op = new_op();
	char path[300];

	fresh("runlock");
	is_int(hga_run_new(st, &run, &err), 0, "run");
	is_int(hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("t"),
	                            hga_run_lock_fd(run), &err),
	       0, "begun");
	is_int(intend(op, "instance"), 0, "intent");
	snprintf(path, sizeof(path), "%s/lock", hga_run_dir(run));
	is_int(unlink(path), 0, "its lock file is removed");
	is_int(intend(new_op(), "instance"), -HGA_IO,
	       "nothing more is created");
	is_str(err.code, "RunLost", "its code");
	is_int(set(op, HGA_LEDGER_LIVE, "i-1"), 0, "but states are recorded");
	is_int(hga_ledger_run_end(led, HGA_STR("run1"), &err), 0, "end");
	hga_run_free(run);
}

/* Writes beyond a file size fail as a full or broken disk does. */
static void test_fail_stop(void)
{
	struct rlimit old;
	struct rlimit small;
	const char *op = new_op();
	const char *two = new_op();
	struct hga_ledger_filter all = {.states = 0};

	fresh("failstop");
	is_int(intend(op, "instance"), 0, "intent");
	is_int(intend(two, "instance"), 0, "another");
	(void)getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 4096;
	(void)setrlimit(RLIMIT_FSIZE, &small);
	is_int(set(op, HGA_LEDGER_LIVE, "i-1"), -HGA_IO, "a write fails");
	(void)setrlimit(RLIMIT_FSIZE, &old);
	ok(hga_ledger_poisoned(led), "the ledger is poisoned");
	is_int(intend(new_op(), "instance"), -HGA_IO, "no further creation");
	is_str(err.code, "LedgerFailed", "its code");
	is_int(state_of(op), HGA_LEDGER_LIVE, "memory knows the id");
	is_str(last_id, "i-1", "it is there");
	is_int(set(op, HGA_LEDGER_DELETING, ""), 0, "cleaning up goes on");
	is_int(set(op, HGA_LEDGER_GONE, ""), 0, "to its end");
	is_int(set(two, HGA_LEDGER_KEPT, ""), -HGA_BUG,
	       "rules hold in memory, too");
	is_int(list(&all), 0, "list");
	is_int(rows, 2, "each row once");
	is_int(hga_ledger_open_count(led, HGA_STR("run1"), &err), 1,
	       "the count knows");
	hga_ledger_close(led);
	led = NULL;
	is_int(hga_ledger_open(st, &led, &err), 0, "next process");
	is_int(state_of(op), HGA_LEDGER_INTENT,
	       "finds the last recorded state");
}

static void test_replaced(void)
{
	const char *op = new_op();

	fresh("replaced");
	is_int(
	    hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("t"), -1, &err),
	    0, "begun");
	is_int(intend(op, "instance"), 0, "intent");
	is_int(rename(in("ledger.db"), in("old.db")), 0, "set aside");
	(void)unlink(in("ledger.db-wal"));
	(void)unlink(in("ledger.db-shm"));
	is_int(set(op, HGA_LEDGER_LIVE, "i-1"), 0, "the new file is used");
	hga_ledger_close(led);
	led = NULL;
	is_int(hga_ledger_open(st, &led, &err), 0, "reopened");
	is_int(state_of(op), HGA_LEDGER_LIVE, "with our rows");
	ok(hga_str_eqc(last.account, "123456789012"), "and their place");
	is_int(rename(in("ledger.db"), in("old2.db")), 0, "set aside");
	is_int(mkdir(in("ledger.db"), 0700), 0, "something else instead");
	is_int(set(op, HGA_LEDGER_DELETING, ""), -HGA_IO, "fails");
	ok(hga_ledger_poisoned(led), "poisons");
	is_int(state_of(op), HGA_LEDGER_DELETING, "memory goes on");
	is_int(set(op, HGA_LEDGER_GONE, ""), 0, "gone");
	is_int(rmdir(in("ledger.db")), 0, "undone");
}

/* A process that makes the ledger anew when it is told to, again and again. */
static pid_t rebuilder(int fds[4])
{
	char c;
	pid_t pid;

	if (pipe(fds) != 0 || pipe(fds + 2) != 0)
		return -1;
	pid = fork();
	if (pid != 0)
		return pid;
	close(fds[1]);
	while (read(fds[0], &c, 1) == 1) {
		struct hga_ledger *mine = NULL;

		if (hga_ledger_open(st, &mine, &err) < 0 ||
		    hga_ledger_rebuild(mine, &err) < 0)
			_exit(1);
		hga_ledger_close(mine);
		if (write(fds[3], &c, 1) != 1)
			_exit(1);
	}
	_exit(0);
}

static void test_moved_beside(void)
{
	const char *op = new_op();
	int fds[4];
	int status = 1;
	char c = 'x';
	pid_t pid;

	fresh("moved");
	hga_ledger_close(led); /* no connection is used across a fork */
	led = NULL;
	pid = rebuilder(fds);
	is_int(hga_ledger_open(st, &led, &err), 0, "opened");
	is_int(
	    hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("t"), -1, &err),
	    0, "begun");
	is_int(intend(op, "instance"), 0, "intent");
	ok(write(fds[1], &c, 1) == 1 && read(fds[2], &c, 1) == 1,
	   "another process makes it anew");
	is_int(set(op, HGA_LEDGER_LIVE, "i-1"), 0, "the new one is used");
	is_int(access(in("ledger.db-wal"), F_OK), 0, "its log stays");
	ok(write(fds[1], &c, 1) == 1 && read(fds[2], &c, 1) == 1,
	   "anew once more, from what is there");
	is_int(hga_fs_write(in("ledger.db-wal"), HGA_STR("of somebody"), 0600,
	                    &err),
	       0, "somebody's log");
	hga_ledger_close(led); /* without a look at the new one */
	is_int(access(in("ledger.db-wal"), F_OK), 0, "stays when this closes");
	is_int(unlink(in("ledger.db-wal")), 0, "removed");
	led = NULL;
	is_int(hga_ledger_open(st, &led, &err), 0, "opened");
	is_int(state_of(op), HGA_LEDGER_UNKNOWN, "no row is lost");
	is_str(last_id, "i-1", "nor its id");
	close(fds[1]);
	(void)waitpid(pid, &status, 0);
	is_int(status, 0, "the other ends well");
	for (int i = 0; i < 4; i++)
		if (i != 1)
			close(fds[i]);
}

/* Opens ledger.db as another program would. */
static struct hga_db *by_hand(void)
{
	const struct hga_db_opts o = {false,      true,  true,
	                              0x48474c31, false, false};
	struct hga_db *db = NULL;

	hga_ledger_close(led);
	led = NULL;
	is_int(hga_db_open(in("ledger.db"), &o, &db, NULL, &err), 0, "by hand");
	return db;
}

static char logged[400];

static void on_log(struct hga_log_sink *sink, const struct hga_log_rec *rec)
{
	(void)sink;
	snprintf(logged, sizeof(logged), "%.*s", HGA_STRF(rec->text));
}

/* A changed letter that SQLite itself does not see. */
static void test_checksum(void)
{
	struct hga_log_sink sink = {on_log, HGA_LOG_WARN, NULL};
	const char *op = new_op();
	const char *two = new_op();
	const char *gone = new_op();
	struct hga_db *db;

	fresh("crc");
	ok(intend(op, "instance") == 0 && intend(two, "instance") == 0 &&
	       intend(gone, "instance") == 0 &&
	       set(gone, HGA_LEDGER_ABSENT, "") == 0,
	   "three rows");
	db = by_hand();
	is_int(
	    hga_db_exec(db, "UPDATE op SET name='hg-tess' WHERE rowid=1", &err),
	    0, "one letter");
	hga_db_close(db);
	hga_log_add(&sink);
	is_int(hga_ledger_open(st, &led, &err), 0, "opens");
	hga_log_remove(&sink);
	ok(strstr(logged, "ledger.db was damaged: 2 rows recovered, 1 lost; "
	                  "copy in ") != NULL,
	   "and tells: %s", logged);
	is_int(state_of(two), HGA_LEDGER_UNKNOWN,
	       "a recovered row is not believed");
	is_int(state_of(gone), HGA_LEDGER_ABSENT, "a final one stays");
	is_int(state_of(op), HGA_LEDGER_NONE, "the damaged one is lost");
	is_int(set(two, HGA_LEDGER_LIVE, "i-1"), 0, "work goes on");
	is_int(
	    hga_ledger_run_begin(led, HGA_STR("run1"), HGA_STR("t"), -1, &err),
	    0, "a run makes a copy");
	hga_ledger_close(led);
	led = NULL;
	is_int(hga_fs_write(in("ledger.db"), HGA_STR("garbage"), 0600, &err), 0,
	       "garbage");
	is_int(hga_ledger_open(st, &led, &err), 0, "opens");
	is_int(state_of(two), HGA_LEDGER_UNKNOWN, "rows come from the copy");
	hga_ledger_close(led);
	led = NULL;
	is_int(unlink(in("ledger.db")), 0, "removed");
	is_int(hga_ledger_open(st, &led, &err), 0, "opens");
	is_int(state_of(two), HGA_LEDGER_UNKNOWN, "rows come from the copy");
}

static void test_newer(void)
{
	const char *op = new_op();
	struct hga_db *db;

	fresh("newer");
	is_int(intend(op, "instance"), 0, "intent");
	db = by_hand();
	is_int(hga_db_exec(db, "PRAGMA user_version=9", &err), 0,
	       "a newer program's");
	hga_db_close(db);
	is_int(hga_ledger_open(st, &led, &err), 0, "opens");
	is_int(state_of(op), HGA_LEDGER_INTENT, "can be read");
	is_int(set(op, HGA_LEDGER_LIVE, "i"), -HGA_USAGE, "not written");
	is_str(err.code, "LedgerNewer", "its code");
	ok(strstr(err.msg, "(schema 9, this one knows 1)") != NULL, "its text");
}

/* Random bytes of the file changed: it always opens, and what it then shows
 * of a row is right. */
static void test_mutations(void)
{
	struct hga_buf good;
	unsigned seed = (unsigned)getpid();
	const char *ops[6];
	int failed = 0;
	int wrong = 0;
	int missing = 0;

	printf("# seed %u\n", seed);
	srand(seed);
	fresh("mutations");
	for (int i = 0; i < 6; i++) {
		ops[i] = new_op();
		if (intend(ops[i], "instance") != 0 ||
		    set(ops[i], HGA_LEDGER_LIVE, "i-0123") != 0)
			failed++;
	}
	hga_ledger_close(led);
	led = NULL;
	hga_buf_init(&good, 1 << 20);
	is_int(hga_fs_read(in("ledger.db"), 1 << 20, &good, &err), 0, "file");
	for (int round = 0; round < 120; round++) {
		size_t at =
		    round < 100 ? (size_t)round : (size_t)rand() % good.len;
		char old = good.data[at];

		good.data[at] = (char)(old ^ (1 << rand() % 8));
		if (at >= 60 && at < 64) /* the version: a newer program's */
			good.data[at] = old;
		if (hga_fs_write(in("ledger.db"), hga_buf_str(&good), 0600,
		                 &err) < 0 ||
		    hga_ledger_open(st, &led, &err) < 0) {
			printf("# byte %zu: %s\n", at, err.msg);
			failed++;
		}
		for (int i = 0; i < 6 && led != NULL; i++) {
			enum hga_ledger_state s = state_of(ops[i]);

			missing += s == HGA_LEDGER_NONE;
			wrong +=
			    (s != HGA_LEDGER_LIVE && s != HGA_LEDGER_UNKNOWN &&
			     s != HGA_LEDGER_NONE) ||
			    (s != HGA_LEDGER_NONE &&
			     strcmp(last_id, "i-0123") != 0);
		}
		hga_ledger_close(led);
		led = NULL;
		good.data[at] = old;
	}
	is_int(failed, 0, "a damaged file always opens");
	is_int(wrong, 0, "and never shows a wrong row");
	printf("# rows lost: %d of 720\n", missing);
	hga_buf_release(&good);
}

static void writer(int n)
{
	struct hga_ledger *mine = NULL;
	int bad = 0;

	if (hga_ledger_open(st, &mine, NULL) < 0)
		_exit(1);
	led = mine;
	for (int i = 0; i < n; i++) {
		const char *op = new_op();

		if (intend(op, "instance") != 0 ||
		    set(op, HGA_LEDGER_LIVE, "i-1") != 0)
			bad++;
	}
	hga_ledger_close(mine);
	_exit(bad ? 1 : 0);
}

static void test_parallel(void)
{
	struct hga_ledger_filter live = {.states = 1u << HGA_LEDGER_LIVE};
	pid_t pid[4];
	int failed = 0;

	fresh("parallel");
	hga_ledger_close(led); /* no connection is used across a fork */
	led = NULL;
	for (int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			writer(30);
	}
	for (int i = 0; i < 4; i++) {
		int status = 0;

		(void)waitpid(pid[i], &status, 0);
		failed += status != 0;
	}
	is_int(failed, 0, "four writers at once");
	is_int(hga_ledger_open(st, &led, &err), 0, "opens");
	is_int(list(&live), 0, "list");
	is_int(rows, 120, "all rows");
}

/* Killed at any moment: what was reported as recorded is there. */
static void test_killed(void)
{
	int lost = 0;

	fresh("killed");
	hga_ledger_close(led);
	led = NULL;
	for (int round = 0; round < 15; round++) {
		char op[HGA_OP_ID] = "";
		char next[HGA_OP_ID];
		int fds[2];
		pid_t pid;

		if (pipe(fds) != 0)
			break;
		pid = fork();
		if (pid == 0) {
			if (hga_ledger_open(st, &led, NULL) < 0)
				_exit(1);
			for (;;) {
				const char *o = new_op();

				if (intend(o, "instance") != 0 ||
				    write(fds[1], o, HGA_OP_ID) < 0)
					_exit(1);
			}
		}
		close(fds[1]);
		usleep((useconds_t)(5000 + round * 3000));
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		while (read(fds[0], next, HGA_OP_ID) == HGA_OP_ID)
			memcpy(op, next, HGA_OP_ID);
		close(fds[0]);
		if (hga_ledger_open(st, &led, &err) < 0 ||
		    (op[0] != '\0' && state_of(op) != HGA_LEDGER_INTENT))
			lost++;
		hga_ledger_close(led);
		led = NULL;
	}
	is_int(lost, 0, "nothing recorded is lost by kill -9");
}

static void test_memory(void)
{
	int r = -1;
	unsigned long n = 0;

	fresh("memory");
	while (r != 0 && n < 300) {
		hga_mem_torture(++n, false);
		r = intend(new_op(), "instance");
		hga_mem_torture(0, false);
		if (r != 0 && r != -HGA_MEMORY)
			break;
	}
	is_int(r, 0, "failing allocations are told");
	ok(n > 10 && !hga_ledger_poisoned(led), "and do not poison");
}

int main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)umask(077);
	if (mkdtemp(dir) == NULL)
		return 1;
	test_life();
	test_transitions();
	test_recheck();
	test_children();
	test_reopen();
	test_admin();
	test_take();
	test_bad_intents();
	test_run_lock();
	test_fail_stop();
	test_replaced();
	test_moved_beside();
	test_checksum();
	test_newer();
	test_mutations();
	test_parallel();
	test_killed();
	test_memory();
	hga_ledger_close(led);
	hga_state_free(st);
	hga_log_release();
	is_int(hga_fs_rmtree(dir, &err), 0, "cleaned up");
	return done();
}
