/* INI files; the same text twice changes nothing. */
#include "base/ini.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hga_str text = {(const char *)data, size};
	struct hga_ini ini;
	struct hga_str v;
	size_t total;

	memset(&ini, 0, sizeof(ini));
	if (hga_ini_parse(&ini, text, "f", NULL) == 0) {
		total = ini.total;
		if (hga_ini_parse(&ini, text, "f", NULL) < 0 ||
		    ini.total != total)
			abort();
	}
	for (size_t i = 0; i < ini.n; i++) {
		const struct hga_ini_section *s = &ini.sections[i];

		if (hga_ini_find(&ini, s->type, s->name) != s)
			abort();
		for (size_t k = 0; k < s->n; k++)
			if (hga_ini_get(s, s->props[k].name) == NULL ||
			    (hga_ini_nested(s->props[k].value, "a", &v) &&
			     v.n > size))
				abort();
	}
	hga_ini_release(&ini);
	return 0;
}
