/* JSON: pieces and whole agree; what is read can be written and read. */
#include "base/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int pieces(const uint8_t *data, size_t size, struct hga_vtape *t)
{
	struct hga_json *p = hga_json_new(hga_json_into_tape, t);
	size_t step = size ? data[0] % 7 + 1 : 1;
	int r = 0;

	for (size_t i = 0; i < size && r == 0; i += step)
		r = hga_json_feed(p, data + i,
		                  size - i < step ? size - i : step, NULL);
	if (r == 0)
		r = hga_json_end(p, NULL);
	hga_json_free(p);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str text = {(const char *)data, size};
	struct hga_vtape *a = NULL;
	struct hga_vtape *b = hga_vtape_new(NULL, 1 << 24);
	struct hga_vtape *c = NULL;
	struct hga_buf out;
	int r = hga_json_parse(text, 1 << 24, &a, NULL);

	hga_buf_init(&out, 1 << 26);
	if (pieces(data, size, b) != r)
		abort();
	if (r == 0) {
		if (hga_json_write(&out, hga_vtape_root(b), size % 3, true,
		                   NULL) < 0 ||
		    hga_json_parse(hga_buf_str(&out), 1 << 24, &c, NULL) < 0)
			abort();
		hga_buf_clear(&out);
		if (hga_json_write(&out, hga_vtape_root(c), 0, false, NULL) < 0)
			abort();
	}
	hga_buf_release(&out);
	hga_vtape_free(a);
	hga_vtape_free(b);
	hga_vtape_free(c);
	return 0;
}
