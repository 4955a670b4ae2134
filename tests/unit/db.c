/* SQLite front: opening, statements, transactions, backup, damage. */
#include "state/db.h"
#include "base/buf.h"
#include "base/fs.h"
#include "tap.h"

#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/hgauto-db-XXXXXX";
static struct hga_err err;

static const char *in(const char *name)
{
	static char p[4][256];
	static int i;
	char *out = p[i++ % 4];

	snprintf(out, 256, "%s/%s", dir, name);
	return out;
}

static void test_open(void)
{
	struct hga_db_opts o = {false, true, true, 0x12345678, false, false};
	struct hga_db *db = NULL;
	struct stat st;
	bool created = false;

	is_int(hga_db_open(in("x.db"), &o, &db, NULL, &err), -HGA_NOTFOUND,
	       "missing");
	o.create = true;
	is_int(hga_db_open(in("x.db"), &o, &db, &created, &err), 0, "created");
	ok(created, "told");
	is_int(stat(in("x.db"), &st), 0, "exists");
	is_int(st.st_mode & 07777, 0600, "private");
	is_int(hga_db_exec(db,
	                   "CREATE TABLE t(a INTEGER, b TEXT, c BLOB,"
	                   " d REAL, PRIMARY KEY(a)) STRICT",
	                   &err),
	       0, "table");
	hga_db_close(db);
	is_int(hga_db_open(in("x.db"), &o, &db, &created, &err), 0, "again");
	ok(!created, "not new");
	hga_db_close(db);
	o.application_id = 1;
	is_int(hga_db_open(in("x.db"), &o, &db, NULL, &err), -HGA_IO,
	       "another program's");
	is_str(err.code, "Damaged", "its code");
	is_int(hga_fs_write(in("junk"), HGA_STR("hello"), 0600, &err), 0,
	       "junk");
	is_int(hga_db_open(in("junk"), &o, &db, NULL, &err), -HGA_IO,
	       "no database");
	is_str(err.code, "Damaged", "its code");
	is_int(symlink("x.db", in("link")), 0, "link");
	ok(hga_db_open(in("link"), &o, &db, NULL, &err) < 0,
	   "a link is refused");
}

static void test_statements(struct hga_db *db)
{
	struct hga_stmt *st = NULL;
	int64_t n = 0;

	is_int(hga_stmt_new(db, "INSERT INTO t VALUES(?1,?2,?3,?4)", &st, &err),
	       0, "insert");
	is_int(hga_stmt_params(st), 4, "parameters");
	for (int i = 0; i < 3; i++) {
		hga_stmt_reset(st);
		hga_stmt_int(st, 1, i);
		hga_stmt_text(st, 2, HGA_STR("a\0b"));
		hga_stmt_blob(st, 3, HGA_STR("\xff"));
		if (i == 0)
			hga_stmt_null(st, 4);
		else
			hga_stmt_num(st, 4, 0.5);
		is_int(hga_stmt_step(st, &err), 0, "row");
	}
	hga_stmt_reset(st);
	hga_stmt_int(st, 1, 1);
	is_int(hga_stmt_step(st, &err), -HGA_EXISTS, "taken key");
	is_str(err.code, "Constraint", "its code");
	hga_stmt_reset(st);
	hga_stmt_int(st, 9, 1);
	is_int(hga_stmt_step(st, &err), -HGA_USAGE, "wrong parameter");
	hga_stmt_free(st);
	is_int(hga_stmt_new(db, "SELECT * FROM t ORDER BY a", &st, &err), 0,
	       "select");
	is_int(hga_stmt_step(st, &err), 1, "first row");
	is_int(hga_stmt_columns(st), 4, "columns");
	is_str(hga_stmt_name(st, 1), "b", "name");
	is_int((long long)hga_stmt_get_str(st, 1).n, 3, "text with NUL");
	is_int(hga_stmt_type(st, 2), HGA_DB_BLOB, "blob");
	is_int(hga_stmt_type(st, 3), HGA_DB_NULL, "null");
	hga_stmt_free(st);
	is_int(hga_db_int(db, "SELECT count(*) FROM t", 0, &n, &err), 0,
	       "count");
	is_int(n, 3, "three");
	is_int(hga_db_int(db, "SELECT a FROM t WHERE a=99", -7, &n, &err), 0,
	       "no row");
	is_int(n, -7, "default");
	is_int(hga_stmt_new(db, "SELEKT", &st, &err), -HGA_USAGE, "bad SQL");
	is_int(hga_stmt_new(db, "SELECT 1; SELECT 2", &st, &err), -HGA_USAGE,
	       "two statements");
	is_int(hga_stmt_new(db, "", &st, &err), -HGA_USAGE, "none");
}

static void test_transactions(struct hga_db *db)
{
	struct hga_db_opts o = {false, false, false, 0, false, false};
	struct hga_db *copy = NULL;
	int64_t n = 0;

	is_int(hga_db_begin(db, &err), 0, "begin");
	ok(hga_db_in_transaction(db), "inside");
	is_int(hga_db_exec(db, "DELETE FROM t", &err), 0, "delete");
	is_int(hga_db_changes(db), 3, "changes");
	hga_db_rollback(db);
	ok(!hga_db_in_transaction(db), "outside");
	hga_db_rollback(db);
	is_int(hga_db_int(db, "SELECT count(*) FROM t", 0, &n, &err), 0,
	       "count");
	is_int(n, 3, "rolled back");
	ok(hga_db_wal_pages(db) > 0, "the WAL is counted");
	is_int(hga_db_checkpoint(db, &err), 0, "checkpoint");
	is_int(hga_db_check(db, &err), 0, "integrity");
	is_int(hga_db_backup(db, in("copy"), &err), 0, "backup");
	is_int(hga_db_backup(db, in("copy"), &err), 0, "over the old one");
	is_int(hga_db_open(in("copy"), &o, &copy, NULL, &err), 0, "opens");
	is_int(hga_db_int(copy, "SELECT count(*) FROM t", 0, &n, &err), 0,
	       "count");
	is_int(n, 3, "complete");
	hga_db_close(copy);
}

static void copy(const char *from, const char *to, bool garble)
{
	struct hga_buf b;

	hga_buf_init(&b, 1 << 20);
	is_int(hga_fs_read(from, 1 << 20, &b, &err), 0, "read");
	if (garble)
		memset(b.data, 'x', 4096);
	is_int(hga_fs_write(to, hga_buf_str(&b), 0600, &err), 0, "written");
	hga_buf_release(&b);
}

/* A checkpoint was cut by a power loss: the first page is in the log. */
static void test_first_page(void)
{
	struct hga_db_opts o = {true, true, true, 0x12345678, false, false};
	struct hga_db *db = NULL;
	int64_t n = 0;

	is_int(hga_db_open(in("a"), &o, &db, NULL, &err), 0, "open");
	is_int(
	    hga_db_exec(db, "CREATE TABLE t(a); INSERT INTO t VALUES(5)", &err),
	    0, "a table");
	copy(in("a"), in("b"), true);
	copy(in("a-wal"), in("b-wal"), false);
	copy(in("a"), in("c"), true);
	hga_db_close(db);
	is_int(hga_db_open(in("b"), &o, &db, NULL, &err), 0,
	       "opens with its log");
	is_int(hga_db_int(db, "SELECT a FROM t", 0, &n, &err), 0, "select");
	is_int(n, 5, "all is there");
	hga_db_close(db);
	is_int(hga_db_open(in("c"), &o, &db, NULL, &err), -HGA_IO,
	       "without it is no database");
	is_str(err.code, "Damaged", "its code");
	copy(in("b"), in("d"), true);
	is_int(hga_fs_write(in("d-wal"), HGA_STR("nothing of use"), 0600, &err),
	       0, "a useless log");
	is_int(hga_db_open(in("d"), &o, &db, NULL, &err), -HGA_IO,
	       "is no help");
	is_str(err.code, "Damaged", "its code");
}

static void test_kept_statements(void)
{
	struct hga_db_opts o = {true, true, true, 0, true, false};
	struct hga_stmt *one = NULL;
	struct hga_stmt *two = NULL;
	struct hga_db *db = NULL;
	char sql[32];
	int wrong = 0;

	is_int(hga_db_open(in("kept"), &o, &db, NULL, &err), 0, "open");
	ok(hga_stmt_new(db, "SELECT ?1", &one, &err) == 0 &&
	       hga_stmt_new(db, "SELECT ?1", &two, &err) == 0 && one != two,
	   "one text, two in use");
	hga_stmt_int(one, 1, 7);
	is_int(hga_stmt_step(one, &err), 1, "a row");
	hga_stmt_free(one);
	hga_stmt_free(two);
	is_int(hga_stmt_new(db, "SELECT ?1", &one, &err), 0, "once more");
	is_int(hga_stmt_step(one, &err), 1, "from its start");
	is_int(hga_stmt_type(one, 0), HGA_DB_NULL, "without the old values");
	hga_stmt_free(one);
	for (int i = 0; i < 100; i++) {
		int64_t n = 0;

		snprintf(sql, sizeof(sql), "SELECT %d", i % 40);
		wrong += hga_db_int(db, sql, 0, &n, &err) != 0 || n != i % 40;
	}
	is_int(wrong, 0, "more texts than are kept");
	is_int(
	    hga_db_exec(db, "CREATE TABLE t(a); INSERT INTO t VALUES(1)", &err),
	    0, "a table");
	is_int(hga_stmt_new(db, "SELECT * FROM t", &one, &err), 0, "select");
	hga_stmt_free(one);
	is_int(hga_db_exec(db, "DROP TABLE t", &err), 0,
	       "is not held by one that is kept");
	hga_db_close(db);
}

int main(void)
{
	struct hga_db_opts o = {true, true, true, 0x12345678, false, false};
	struct hga_db *db = NULL;

	if (mkdtemp(dir) == NULL)
		return 1;
	test_open();
	is_int(hga_db_open(in("x.db"), &o, &db, NULL, &err), 0, "open");
	test_statements(db);
	test_transactions(db);
	hga_db_close(db);
	hga_db_close(NULL);
	test_first_page();
	test_kept_statements();
	is_int(hga_fs_rmtree(dir, &err), 0, "cleaned up");
	return done();
}
