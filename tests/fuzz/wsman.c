/* Answers of a WSMan service: any bytes in any pieces; also as a tree. */
#include "winrm/tree.h"
#include "winrm/wsman.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_wsman_resp r;
	size_t step = size ? data[size - 1] % 9 + 1 : 1;
	struct hga_vtape *t = hga_vtape_new(NULL, 1 << 26);
	int rc = 0;

	hga_wsman_resp_init(&r);
	for (size_t i = 0; i < size && rc == 0; i += step)
		rc = hga_wsman_resp_feed(
		    &r, data + i, size - i < step ? size - i : step, NULL);
	if (rc == 0)
		rc = hga_wsman_resp_end(&r, NULL);
	for (size_t i = 0; i < r.n_streams; i++)
		if (r.streams[i].at + r.streams[i].len > r.data.len)
			abort();
	(void)hga_wsman_fault_text(&r);
	hga_wsman_resp_release(&r);
	if (t != NULL)
		(void)!hga_xml_tree(hga_strn((const char *)data, size), t,
		                    NULL);
	hga_vtape_free(t);
	return 0;
}
