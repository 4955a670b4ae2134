/*
 * JMESPath: the first line is the expression, the rest the JSON it runs on.
 */
#include "aws/jmespath.h"
#include "base/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *nl = n > 0 ? memchr(data, '\n', n) : NULL;
	size_t first = nl != NULL ? (size_t)(nl - data) : n;
	struct hga_vtape *in = NULL, *out;
	struct hga_val v = {NULL, 0};
	struct hga_jp *jp;
	struct hga_buf b;

	if (hga_jp_compile(&jp, hga_strn((const char *)data, first), NULL) < 0)
		return 0;
	if (nl != NULL &&
	    hga_json_parse(hga_strn((const char *)nl + 1, n - first - 1),
	                   1 << 22, &in, NULL) == 0)
		v = hga_vtape_root(in);
	out = hga_vtape_new(NULL, 1 << 24);
	hga_buf_init(&b, 1 << 26);
	if (out != NULL && hga_jp_eval(jp, v, out, 1 << 22, NULL) == 0 &&
	    hga_json_write(&b, hga_vtape_root(out), 0, false, NULL) == -HGA_BUG)
		abort();
	hga_buf_release(&b);
	hga_vtape_free(out);
	hga_vtape_free(in);
	hga_jp_free(jp);
	return 0;
}
