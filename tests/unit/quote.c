/* Shell quoting: round trips through a real shell, and splitting. */
#include "base/quote.h"
#include "base/str.h"
#include "tap.h"

#include <sys/wait.h>
#include <unistd.h>

static struct hga_buf buf;

static const char *quoted(const char *s)
{
	hga_buf_clear(&buf);
	return hga_quote_sh(&buf, hga_str(s), NULL) == 0 ? hga_buf_text(&buf)
	                                                 : "error";
}

/* What `sh -c "printf %s WORD"` prints. */
static size_t through_sh(const char *word, char *out, size_t room)
{
	char cmd[4096];
	size_t n = 0;
	FILE *p;

	snprintf(cmd, sizeof(cmd), "printf %%s %s", word);
	p = popen(cmd, "r");
	if (p != NULL) {
		n = fread(out, 1, room, p);
		pclose(p);
	}
	return n;
}

static void test_round_trips(void)
{
	unsigned seed = (unsigned)getpid();
	int bad = 0;

	printf("# seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 300; round++) {
		char text[40];
		char got[200];
		size_t n = (size_t)(rand() % 39);
		size_t m;

		for (size_t i = 0; i < n; i++)
			text[i] =
			    round % 2
			        ? "'\"\\$`!*?[]{}()<>|&;~# \n\t="[rand() % 25]
			        : (char)(rand() % 255 + 1);
		hga_buf_clear(&buf);
		if (hga_quote_sh(&buf, hga_strn(text, n), NULL) < 0)
			bad++;
		m = through_sh(hga_buf_text(&buf), got, sizeof(got));
		if (m != n || memcmp(got, text, n) != 0)
			bad++;
	}
	is_int(bad, 0, "random strings survive the shell");
}

static const char *split(const char *line)
{
	size_t n = 0;

	hga_buf_clear(&buf);
	if (hga_split_sh(&buf, hga_str(line), &n, NULL) < 0)
		return "error";
	for (size_t i = 0; i < buf.len; i++)
		if (buf.data[i] == '\0')
			buf.data[i] = '|';
	return hga_buf_text(&buf);
}

int main(void)
{
	struct hga_str words[3] = {HGA_STR("a b"), HGA_STR("c"), HGA_STR("")};

	hga_buf_init(&buf, 10000);
	is_str(quoted("plain-word_1.2/x:y,z@%+"), "plain-word_1.2/x:y,z@%+",
	       "plain words stay");
	is_str(quoted(""), "''", "empty word");
	is_str(quoted("a'b"), "'a'\\''b'", "single quote");
	is_str(quoted("~"), "'~'", "tilde");
	is_str(quoted("A=b"), "'A=b'", "assignment");
	is_int(hga_quote_sh(&buf, HGA_STR("a\0b"), NULL), -HGA_USAGE, "NUL");
	hga_buf_clear(&buf);
	is_int(hga_quote_sh_list(&buf, words, 3, NULL), 0, "list");
	is_str(hga_buf_text(&buf), "'a b' c ''", "its text");
	test_round_trips();
	is_str(split(" a  'b c' \"d\\\"e\\n\" f\\ g ''"), "a|b c|d\"e\\n|f g||",
	       "split");
	is_str(split(""), "", "nothing to split");
	is_str(split("a$(x)`y`;z"), "a$(x)`y`;z|", "nothing is expanded");
	is_str(split("'open"), "error", "unclosed quote");
	hga_buf_release(&buf);
	return done();
}
