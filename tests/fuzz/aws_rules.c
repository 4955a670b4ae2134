/*
 * Endpoint rulesets, partitions and parameters from outside: three texts
 * divided by 0xff bytes, evaluated once.
 */
#include "aws/rules.h"
#include "base/json.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct hga_str part(const uint8_t **p, size_t *n)
{
	struct hga_str r = {(const char *)*p, 0};

	while (r.n < *n && (*p)[r.n] != 0xff)
		r.n++;
	*p += r.n < *n ? r.n + 1 : r.n;
	*n -= r.n < *n ? r.n + 1 : r.n;
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct hga_str rules_text = part(&data, &n);
	struct hga_str parts_text = part(&data, &n);
	struct hga_str params_text = part(&data, &n);
	struct hga_rules_result res = {0};
	struct hga_partitions *parts = NULL;
	struct hga_rules *rules = NULL;
	struct hga_vtape *params = NULL;
	struct hga_val none = {NULL, 0};

	if (hga_rules_new(&rules, rules_text, NULL) == 0 &&
	    hga_partitions_new(&parts, parts_text, NULL) == 0) {
		/* without parameters when they are no JSON */
		(void)!hga_json_parse(params_text, 1 << 20, &params, NULL);
		(void)!hga_rules_eval(
		    rules, parts,
		    params != NULL ? hga_vtape_root(params) : none, &res, NULL);
	}
	hga_rules_result_release(&res);
	hga_vtape_free(params);
	hga_partitions_free(parts);
	hga_rules_free(rules);
	return 0;
}
