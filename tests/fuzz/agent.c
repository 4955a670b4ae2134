/*
 * Fuzz target: answers of an SSH agent, the data libssh2 wants signed.
 */
#include "ssh/auth.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct hga_str all, struct hga_str s)
{
	if (s.n > all.n || s.s < all.s || s.s + s.n > all.s + all.n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str in = hga_strn((const char *)data, size), alg, sig;
	struct hga_agent_ids *ids = malloc(sizeof(*ids));
	struct hga_err err;

	if (ids == NULL)
		return 0;
	if (hga_agent_parse_ids(in, ids, &err) == 0)
		for (size_t i = 0; i < ids->n; i++)
			inside(in, ids->blob[i]);
	free(ids);
	if (hga_agent_parse_sig(in, &alg, &sig, &err) == 0) {
		inside(in, alg);
		inside(in, sig);
	}
	if (hga_auth_sigalg(in, &alg))
		inside(in, alg);
	return 0;
}
