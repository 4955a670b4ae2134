/*
 * INI files in the dialect of the AWS SDKs (aws.md section 8).
 *
 * Parsed into sections in order of first appearance; equal sections merge, a
 * later property wins.  "[profile X]" has type "profile" and name "X";
 * "[X]" has type "" and name "X".  Property names are folded to lower case.
 * Sections and properties with names outside A-Za-z0-9-_./%@:+ are skipped.
 * A nested section (empty value, then indented "k = v" lines) is the
 * property's text "\nk = v\n..."; hga_ini_nested looks into it.
 * Limits: file 1 MiB, value 64 KiB, 2,000 sections, 10,000 properties.
 */
#ifndef HGA_BASE_INI_H
#define HGA_BASE_INI_H

#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

struct hga_ini_prop {
	char *name;  /* lower case */
	char *value; /* never NULL */
	unsigned line;
};

struct hga_ini_section {
	char *type; /* "", "profile", "sso-session", "services", ... */
	char *name;
	unsigned line; /* of the first header */
	struct hga_ini_prop *props;
	size_t n, cap;
};

struct hga_ini {
	struct hga_ini_section *sections;
	size_t n, cap, total; /* total: properties */
};

/* Gives everything up, wiping the values; safe on a zeroed struct. */
void hga_ini_release(struct hga_ini *ini);

/*
 * Merges a text into ini (zeroed before first use).  file is for messages:
 * -HGA_USAGE "Ini" "FILE:LINE: ...": property before any section, missing
 * ], no =, continuation without a property.  After an error ini holds the
 * part before it; release it.
 */
int hga_ini_parse(struct hga_ini *ini, struct hga_str text, const char *file,
                  struct hga_err *err) HGA_MUST_USE;

/* Reads and parses a file; a missing one is -HGA_NOTFOUND, an unreadable one
 * -HGA_IO. */
int hga_ini_load(struct hga_ini *ini, const char *path,
                 struct hga_err *err) HGA_MUST_USE;

/* Section or NULL. */
const struct hga_ini_section *hga_ini_find(const struct hga_ini *ini,
                                           const char *type, const char *name);
/* Value of a property (lower-case name) or NULL; s may be NULL. */
const char *hga_ini_get(const struct hga_ini_section *s, const char *name);
/* Its whole record, for the line number, or NULL. */
const struct hga_ini_prop *hga_ini_prop(const struct hga_ini_section *s,
                                        const char *name);
/* Value of key (case ignored) in a nested section's text; false if absent. */
bool hga_ini_nested(const char *text, const char *key, struct hga_str *out);

#endif
