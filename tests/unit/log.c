/* The log: levels, redaction before sinks, file sink. */
#include "base/log.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/redact.h"
#include "base/time.h"
#include "tap.h"

#include <sys/stat.h>
#include <unistd.h>

static char got[4096];
static int calls;

static void on_record(struct hga_log_sink *sink, const struct hga_log_rec *rec)
{
	(void)sink;
	calls++;
	snprintf(got, sizeof(got), "%c %s|%.*s", rec->letter, rec->label,
	         HGA_STRF(rec->text));
}

static struct hga_log_sink sink = {on_record, HGA_LOG_INFO, NULL};

static int64_t fixed(void)
{
	return 1795356210123456;
}

static void test_levels(void)
{
	enum hga_log_level level;

	ok(!hga_log_wants(HGA_LOG_ERROR), "nobody listens");
	hga_log(HGA_LOG_ERROR, NULL, "lost");
	hga_log_add(&sink);
	hga_log_add(&sink);
	ok(hga_log_wants(HGA_LOG_INFO) && !hga_log_wants(HGA_LOG_DEBUG),
	   "what is wanted");
	hga_log(HGA_LOG_DEBUG, "x", "no");
	is_int(calls, 0, "below the level");
	hga_log(HGA_LOG_WARN, "lane", "n=%d\n", 5);
	is_str(got, "W lane|n=5", "a record");
	is_int(calls, 1, "once although added twice");
	hga_log(HGA_LOG_INFO, NULL, "%s", "");
	is_str(got, "I |", "no label, no text");
	ok(hga_log_level_find("warn", &level) && level == HGA_LOG_WARN &&
	       !hga_log_level_find("loud", &level),
	   "names");
}

static void test_redaction(void)
{
	hga_log_secret(HGA_STR("hunter22"));
	hga_log_secret(HGA_STR("tiny"));
	hga_log(HGA_LOG_INFO, NULL, "pw %s, id %s, tiny", "hunter22",
	        "AKIAIOSFODNN7EXAMPLE");
	is_str(got, "I |pw ***, id ***, tiny", "secrets do not reach a sink");
	hga_log_text(HGA_LOG_INFO, NULL, HGA_STR("a\0hunter22"));
	ok(memcmp(got, "I |a", 4) == 0, "ready text");
}

static void test_memory(void)
{
	bool leaked = false;

	for (unsigned long n = 1; n < 8; n++) {
		hga_mem_torture(n, true);
		hga_log(HGA_LOG_INFO, NULL, "pw hunter22");
		hga_mem_torture(0, false);
		leaked = leaked || strstr(got, "hunter22") != NULL;
	}
	ok(!leaked, "without memory nothing is shown unredacted");
}

static const char *file_text(const char *path)
{
	static char text[8192];
	struct hga_buf b;

	hga_buf_init(&b, 8000);
	text[0] = '\0';
	if (hga_fs_read(path, 8000, &b, NULL) == 0)
		snprintf(text, sizeof(text), "%s", hga_buf_text(&b));
	hga_buf_release(&b);
	return text;
}

static void test_file(void)
{
	char path[] = "/tmp/hgauto-log-XXXXXX";
	struct hga_log_file *f = NULL;
	struct stat st;

	close(mkstemp(path));
	unlink(path);
	hga_clock_set(fixed, NULL);
	is_int(hga_log_file_open(path, HGA_LOG_DEBUG, 300, &f, NULL), 0,
	       "log file");
	is_int(stat(path, &st), 0, "exists");
	is_int(st.st_mode & 07777, 0600, "its mode");
	hga_log(HGA_LOG_INFO, "x64 build", "one\ntwo hunter22");
	hga_log_output(true, "x64", HGA_STR("remote \x1b[1m"));
	is_str(file_text(path),
	       "2026-11-22T14:03:30.123Z I x64 build \xe2\x94\x82 one\n"
	       "2026-11-22T14:03:30.123Z I x64 build \xe2\x94\x82 two ***\n"
	       "2026-11-22T14:03:30.123Z e x64 \xe2\x94\x82 remote \x1b[1m\n",
	       "its lines, raw bytes kept");
	for (int i = 0; i < 10; i++)
		hga_log(HGA_LOG_INFO, NULL, "line %d", i);
	ok(strstr(file_text(path), "log full") != NULL, "the limit is said");
	ok(strlen(file_text(path)) < 420, "and kept");
	hga_log_file_close(f);
	hga_log_file_close(NULL);
	unlink(path);
	is_int(symlink("/tmp/hgauto-log-target", path), 0, "a link");
	is_int(hga_log_file_open(path, HGA_LOG_DEBUG, 0, &f, NULL), -HGA_IO,
	       "is not followed");
	unlink(path);
	hga_clock_set(NULL, NULL);
}

int main(void)
{
	test_levels();
	test_redaction();
	test_memory();
	test_file();
	hga_log_remove(&sink);
	hga_log_remove(&sink);
	hga_log_release();
	return done();
}
