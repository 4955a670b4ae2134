/* Dates and durations: what is read can be written and read again. */
#include "base/time.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str text = {(const char *)data, size};
	char out[HGA_TIME_TEXT];
	int64_t us;
	int64_t again;
	int64_t ms;

	if (hga_time_parse(text, &us)) {
		(void)hga_time_text(out, us, HGA_TIME_ISO_AUTO);
		if (us >= -62135596800 * 1000000 &&
		    us < 253402300800 * 1000000 &&
		    (!hga_time_parse(hga_str(out), &again) || again != us))
			abort();
		(void)hga_time_text(out, us, HGA_TIME_HTTP);
	}
	if (hga_duration_parse(text, &ms) && ms < 0)
		abort();
	return 0;
}
