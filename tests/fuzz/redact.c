/*
 * Redaction and the terminal filter.  The first line is the secret; the rest,
 * whole or in pieces, never shows it afterwards.
 */
#include "base/redact.h"
#include "base/term.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_filter(struct hga_str text)
{
	struct hga_buf out;

	hga_buf_init(&out, 1 << 24);
	if (hga_term_filter(&out, text, NULL) == 0) {
		if (!hga_utf8_valid(hga_buf_str(&out)))
			abort();
		for (size_t i = 0; i < out.len; i++)
			if ((unsigned char)out.data[i] < 0x20 &&
			    out.data[i] != '\n' && out.data[i] != '\t')
				abort();
	}
	if (hga_term_cut(text, 20).n > text.n)
		abort();
	hga_buf_release(&out);
}

static void check_pieces(struct hga_redact *r, struct hga_str text,
                         struct hga_str want)
{
	struct hga_redact_stream s;
	struct hga_buf out;
	size_t step = text.n ? (unsigned char)text.s[0] % 5 + 1 : 1;
	int res = 0;

	hga_buf_init(&out, 1 << 24);
	hga_redact_open(&s, r);
	for (size_t i = 0; i < text.n && res == 0; i += step)
		res = hga_redact_feed(
		    &s,
		    hga_strn(text.s + i, text.n - i < step ? text.n - i : step),
		    &out, NULL);
	if (res < 0 || hga_redact_flush(&s, &out, NULL) < 0 ||
	    !hga_str_eq(hga_buf_str(&out), want))
		abort();
	hga_redact_close(&s);
	hga_buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str all = {(const char *)data, size};
	ptrdiff_t nl = hga_str_chr(all, '\n', 0);
	struct hga_redact *r = hga_redact_new();
	struct hga_str secret;
	struct hga_str text;
	struct hga_buf out;

	hga_buf_init(&out, 1 << 24);
	check_filter(all);
	if (nl >= 0) {
		secret = hga_strn(all.s, (size_t)nl);
		text = hga_strn(all.s + nl + 1, all.n - (size_t)nl - 1);
		if (hga_redact_add(r, secret, NULL) == 0) {
			if (hga_redact_text(r, text, &out, NULL) < 0)
				abort();
			/* "***" itself may complete a secret of stars */
			if (hga_str_chr(secret, '*', 0) < 0 &&
			    hga_str_find(hga_buf_str(&out), secret) >= 0)
				abort();
			check_pieces(r, text, hga_buf_str(&out));
		}
	}
	hga_buf_clear(&out);
	if (hga_redact_shapes(all, &out, NULL) < 0)
		abort();
	hga_buf_release(&out);
	hga_redact_free(r);
	return 0;
}
