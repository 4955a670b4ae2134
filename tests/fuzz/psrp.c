/* PSRP: any fragments in any pieces; limits hold. */
#include "winrm/psrp.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_psrp_in *in = hga_psrp_in_new();
	size_t cut = size > 0 ? data[0] % (size + 1) : 0;
	struct hga_psrp_msg m;
	char text[37];

	if (in == NULL)
		abort();
	if (hga_psrp_in_feed(in, data, cut, NULL) == 0)
		(void)!hga_psrp_in_feed(in, data + cut, size - cut, NULL);
	while (hga_psrp_in_next(in, &m)) {
		uint8_t raw[16];

		if (m.data.n > HGA_PSRP_MESSAGE_MAX)
			abort();
		hga_psrp_guid_text(m.pool, text);
		if (!hga_psrp_guid(hga_str(text), raw))
			abort();
	}
	if (hga_psrp_in_unfinished(in) > HGA_PSRP_UNFINISHED)
		abort();
	hga_psrp_in_free(in);
	return 0;
}
