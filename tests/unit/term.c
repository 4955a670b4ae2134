/* Terminal: width of text, escape filter, whole-line writer. */
#include "base/term.h"
#include "base/log.h"
#include "tap.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static const char *filtered(const char *s, size_t n)
{
	static char out[1024];
	struct hga_buf b;

	hga_buf_init(&b, 1000);
	out[0] = '\0';
	if (hga_term_filter(&b, hga_strn(s, n), NULL) == 0)
		snprintf(out, sizeof(out), "%s", hga_buf_text(&b));
	hga_buf_release(&b);
	return out;
}

static void gives(const char *in, const char *want, const char *name)
{
	is_str(filtered(in, strlen(in)), want, name);
}

static void test_filter(void)
{
	gives("a\tb\nc", "a\tb\nc", "tab and newline stay");
	gives("\x1b[1;31mred\x1b[0m\x1b[m", "red", "SGR is dropped");
	gives("\x1b[38:5:1mx", "x", "SGR with colons");
	gives("\x1b[2Jx", "\\x1b[2Jx", "other sequences are shown");
	gives("\x1b]0;title\x07", "\\x1b]0;title\\x07", "OSC");
	gives("\x1b[1", "\\x1b[1", "cut sequence");
	gives("a\x08\x7f", "a\\x08\\x7f", "backspace, DEL");
	is_str(filtered("a\0b", 3), "a\\x00b", "NUL");
	gives("\xc2\x9b[31m", "\\x9b[31m", "C1");
	gives("\xe2\x80\xae"
	      "abc\xe2\x81\xa6",
	      "\\u202eabc\\u2066", "bidi controls");
	gives("\xff\xc3", "\\xff\\xc3", "malformed UTF-8");
	gives("\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac", "UTF-8 stays");
	gives("10%\r50%\r100%\ndone\r\n", "100%\ndone\n",
	      "the last segment stays");
	gives("50%\r", "50%", "a carriage return at the end");
	gives("a\r\r\rb\r", "b", "several");
}

static void test_width(void)
{
	is_int((long long)hga_term_columns(HGA_STR("abc")), 3, "ASCII");
	is_int((long long)hga_term_columns(HGA_STR("\xc3\xa4\xe2\x94\x82")), 2,
	       "narrow");
	is_int((long long)hga_term_columns(HGA_STR("\xe6\xbc\xa2\xe5\xad\x97")),
	       4, "wide");
	is_int((long long)hga_term_columns(HGA_STR("e\xcc\x81")), 1,
	       "combining");
	is_int((long long)hga_term_columns(HGA_STR("\xf0\x9f\x98\x80")), 2,
	       "emoji");
	is_int((long long)hga_term_columns(HGA_STR("\xff")), 1, "malformed");
	is_int((long long)hga_term_columns(HGA_STR("\xf4\x8f\xbf\xbf")), 1,
	       "last code point");
	is_int((long long)hga_term_cut(HGA_STR("a\xe6\xbc\xa2"
	                                       "b"),
	                               2)
	           .n,
	       1, "cut before a wide one that does not fit");
	is_int((long long)hga_term_cut(HGA_STR("abc"), 10).n, 3, "no cut");
}

static int fds[2];

static const char *piped(void)
{
	static char out[8192];
	ssize_t n = read(fds[0], out, sizeof(out) - 1);

	out[n > 0 ? n : 0] = '\0';
	return out;
}

static void test_writer(void)
{
	struct hga_term *t;
	struct hga_err err;

	is_int(pipe2(fds, O_NONBLOCK), 0, "pipe");
	t = hga_term_new(fds[1], fds[1]);
	is_int(hga_term_write(t, HGA_TERM_OUT, HGA_STR("half"), &err), 0,
	       "half a line");
	is_str(piped(), "", "is kept");
	is_int(hga_term_write(t, HGA_TERM_ERR, HGA_STR("err\n"), &err), 0,
	       "the other stream");
	is_str(piped(), "err\n", "is written");
	is_int(
	    hga_term_write(t, HGA_TERM_OUT, HGA_STR(" and whole\nrest"), &err),
	    0, "the line ends");
	is_str(piped(), "half and whole\n", "and comes out");
	hga_log_secret(HGA_STR("hunter22"));
	is_int(hga_term_write(t, HGA_TERM_OUT, HGA_STR(" hun"), &err), 0,
	       "a secret");
	is_int(hga_term_write(t, HGA_TERM_OUT, HGA_STR("ter22\n"), &err), 0,
	       "in two pieces");
	is_str(piped(), "rest ***\n", "is hidden");
	is_int(hga_term_write(t, HGA_TERM_OUT, HGA_STR("prompt? "), &err), 0,
	       "a prompt");
	is_int(hga_term_flush(t, HGA_TERM_OUT, &err), 0, "flushed");
	is_str(piped(), "prompt? ", "appears");
	ok(!hga_term_epipe(t, HGA_TERM_OUT), "no broken pipe yet");
	close(fds[0]);
	is_int(hga_term_write(t, HGA_TERM_OUT, HGA_STR("x\n"), &err), 0,
	       "a broken pipe is no error");
	ok(hga_term_epipe(t, HGA_TERM_OUT), "but known");
	is_int(hga_term_write(t, HGA_TERM_OUT, HGA_STR("x\n"), &err), 0,
	       "and swallows");
	hga_term_free(t);
	hga_term_free(NULL);
	close(fds[1]);
	t = hga_term_new(-1, -1);
	is_int(hga_term_write(t, HGA_TERM_ERR, HGA_STR("x\n"), &err), -HGA_IO,
	       "another failure is told");
	hga_term_free(t);
}

static void test_color(void)
{
	unsetenv("NO_COLOR");
	unsetenv("FORCE_COLOR");
	unsetenv("CLICOLOR_FORCE");
	ok(!hga_term_color(-1, HGA_COLOR_AUTO), "no terminal, no colour");
	ok(hga_term_color(-1, HGA_COLOR_ALWAYS), "asked for");
	setenv("FORCE_COLOR", "1", 1);
	ok(hga_term_color(-1, HGA_COLOR_AUTO), "FORCE_COLOR");
	setenv("NO_COLOR", "1", 1);
	ok(!hga_term_color(-1, HGA_COLOR_AUTO), "NO_COLOR is stronger");
	ok(hga_term_color(-1, HGA_COLOR_ALWAYS), "the option is strongest");
	setenv("COLUMNS", "132", 1);
	is_int(hga_term_width(-1), 132, "COLUMNS");
	setenv("COLUMNS", "junk", 1);
	is_int(hga_term_width(-1), 80, "else 80");
}

int main(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	test_filter();
	test_width();
	test_writer();
	test_color();
	hga_log_release();
	return done();
}
