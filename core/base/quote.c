/* Quoting and splitting of POSIX shell words (XCU section 2.2). */
#include "base/quote.h"

#include <string.h>

/* Bytes that mean nothing to a shell wherever they stand in a word.  Not ~
 * and =: they do at the beginning. */
static bool plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("_-./:,@%+", c) != NULL);
}

int hga_quote_sh(struct hga_buf *out, struct hga_str word, struct hga_err *err)
{
	size_t from = 0;
	bool bare = word.n > 0;
	int r;

	for (size_t i = 0; i < word.n; i++) {
		if (word.s[i] == '\0')
			return hga_fail(err, HGA_USAGE, 0, "Nul",
			                "a shell word cannot hold a NUL byte");
		bare = bare && plain(word.s[i]);
	}
	if (bare)
		return hga_buf_addstr(out, word, err);
	r = hga_buf_addc(out, '\'', err);
	for (size_t i = 0; i < word.n && r == 0; i++) {
		if (word.s[i] != '\'')
			continue;
		r = hga_buf_add(out, word.s + from, i - from, err);
		if (r == 0)
			r = hga_buf_adds(out, "'\\''", err);
		from = i + 1;
	}
	if (r == 0)
		r = hga_buf_add(out, word.s + from, word.n - from, err);
	return r < 0 ? r : hga_buf_addc(out, '\'', err);
}

int hga_quote_sh_list(struct hga_buf *out, const struct hga_str *words,
                      size_t n, struct hga_err *err)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (i > 0)
			r = hga_buf_addc(out, ' ', err);
		if (r == 0)
			r = hga_quote_sh(out, words[i], err);
	}
	return r;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word from line[*i] on, without its quotes, and a NUL. */
static int split_word(struct hga_buf *out, struct hga_str line, size_t *i,
                      struct hga_err *err)
{
	char quote = '\0';
	int r = 0;

	for (; *i < line.n && r == 0; (*i)++) {
		char c = line.s[*i];
		char next = *i + 1 < line.n ? line.s[*i + 1] : '\0';

		if (quote == '\0' && blank(c))
			break;
		if (c == quote && quote != '\0') {
			quote = '\0';
			continue;
		}
		if (quote == '\0' && (c == '\'' || c == '"')) {
			quote = c;
			continue;
		}
		/* in "" a backslash only protects " and itself */
		if (c == '\\' && *i + 1 < line.n &&
		    (quote == '\0' ||
		     (quote == '"' && (next == '"' || next == '\\')))) {
			(*i)++;
			c = next;
		}
		r = hga_buf_addc(out, c, err);
	}
	if (r == 0 && quote != '\0')
		r = hga_fail(err, HGA_USAGE, 0, "Quote", "unclosed quote %c",
		             quote);
	return r < 0 ? r : hga_buf_addc(out, '\0', err);
}

int hga_split_sh(struct hga_buf *out, struct hga_str line, size_t *n,
                 struct hga_err *err)
{
	size_t i = 0;
	int r = 0;

	*n = 0;
	if (hga_str_chr(line, '\0', 0) >= 0)
		return hga_fail(err, HGA_USAGE, 0, "Nul",
		                "a command line cannot hold a NUL byte");
	while (r == 0) {
		while (i < line.n && blank(line.s[i]))
			i++;
		if (i == line.n)
			break;
		r = split_word(out, line, &i, err);
		if (r == 0)
			(*n)++;
	}
	return r;
}
