/* CLIXML: any bytes give a value or an error; a value that was read can be
 * written and reads back the same. */
#include "winrm/clixml.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str in = hga_strn((const char *)data, size);
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 26);
	struct hga_vtape *u = hga_vtape_new(NULL, 1 << 26);
	struct hga_buf out, plain;

	hga_buf_init(&out, 1 << 26);
	hga_buf_init(&plain, 1 << 26);
	if (t == NULL || u == NULL)
		abort();
	if (hga_clixml_read(in, t, NULL) == 0 &&
	    hga_clixml_write_typed(hga_vtape_root(t), &out, NULL) == 0 &&
	    hga_clixml_read(hga_buf_str(&out), u, NULL) < 0)
		abort();
	hga_buf_clear(&out);
	if (hga_clixml_escape(&out, in, NULL) == 0 &&
	    !hga_utf8_valid(hga_buf_str(&out)))
		abort();
	if (hga_clixml_unescape(&plain, in, NULL) < 0)
		abort();
	hga_buf_clear(&out);
	(void)!hga_clixml_stderr(in, &out, NULL); /* must only not crash */
	hga_buf_release(&out);
	hga_buf_release(&plain);
	hga_vtape_free(t);
	hga_vtape_free(u);
	return 0;
}
