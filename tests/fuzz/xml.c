/* XML: limits hold for any bytes in any pieces; start and end match. */
#include "base/xml.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	int depth;
	size_t text;
};

static int on_start(void *data, struct hga_str name,
                    const struct hga_xml_attr *attrs, size_t n,
                    struct hga_err *err)
{
	struct seen *s = data;

	(void)err;
	s->text = 0;
	if (++s->depth > HGA_XML_DEPTH || n > HGA_XML_ATTRS || name.n == 0)
		abort();
	for (size_t i = 0; i < n; i++)
		if (!hga_utf8_valid(attrs[i].value))
			abort();
	return 0;
}

static int on_text(void *data, struct hga_str text, struct hga_err *err)
{
	struct seen *s = data;

	(void)err;
	s->text += text.n;
	if (s->text > HGA_XML_TEXT || s->depth == 0)
		abort();
	return 0;
}

static int on_end(void *data, struct hga_str name, struct hga_err *err)
{
	struct seen *s = data;

	(void)name;
	(void)err;
	s->text = 0;
	if (s->depth-- == 0)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct hga_xml_fns fns = {on_start, on_text, on_end};
	struct seen s = {0, 0};
	struct hga_xml *x = hga_xml_new(&fns, &s);
	size_t step = size ? data[size - 1] % 9 + 1 : 1;
	struct hga_buf out;
	int r = 0;

	for (size_t i = 0; i < size && r == 0; i += step)
		r = hga_xml_feed(x, data + i, size - i < step ? size - i : step,
		                 NULL);
	if (r == 0)
		r = hga_xml_end(x, NULL);
	if (r == 0 && s.depth != 0)
		abort();
	hga_xml_free(x);
	hga_buf_init(&out, 1 << 26);
	if (hga_xml_escape(&out, hga_strn((const char *)data, size), NULL) ==
	        0 &&
	    (!hga_utf8_valid(hga_buf_str(&out)) ||
	     hga_str_chr(hga_buf_str(&out), '<', 0) >= 0))
		abort();
	hga_buf_release(&out);
	return 0;
}
