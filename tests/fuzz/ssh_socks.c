/*
 * Fuzz target: greeting and request of a SOCKS client.
 */
#include "ssh/forward.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_socks req, again;
	bool ok;
	int used = hga_socks_greeting(data, size, &ok), rc;

	if (used < 0 || (size_t)used > size)
		return used < 0 ? 0 : (abort(), 0);
	rc = hga_socks_request(data + used, size - (size_t)used, &req);
	if (rc <= 0)
		return 0;
	if (req.used > size - (size_t)used || req.port < 1 ||
	    req.port > 65535 || req.host[0] == '\0')
		abort();
	/* What comes behind it does not matter, what is missing does. */
	if (hga_socks_request(data + used, req.used, &again) != 1 ||
	    strcmp(again.host, req.host) != 0 || again.port != req.port ||
	    hga_socks_request(data + used, req.used - 1, &again) > 0)
		abort();
	return 0;
}
