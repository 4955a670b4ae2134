/* What a credential_process prints and what cache files hold: credentials or
 * an error, and never content in the error. */
#include "aws/cred_int.h"
#include "base/log.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str text = {(const char *)data, size};
	struct hga_creds *c = NULL;
	struct hga_vtape *t = NULL;
	struct hga_err err = {0};

	if (cred_process_parse(text, "1", &c, &err) == 0) {
		if (c->access_key_id[0] == '\0' || c->secret.n == 0)
			abort();
	} else if (err.kind == HGA_OK || c != NULL) {
		abort();
	}
	hga_creds_free(c);
	c = NULL;
	if (cred_parse(text, &t, &err) == 0 &&
	    cred_from_doc(hga_val_get(hga_vtape_root(t), "Credentials"),
	                  &cred_names_sts, "cache", &c, &err) == 0)
		hga_creds_free(c);
	hga_vtape_free_secret(t);
	hga_log_release();
	return 0;
}
