/*
 * Builder of the model image's bytes: interned strings, growing sections,
 * and at the end sorting, renumbering and layout.  Used by modelc.c only.
 *
 * String ids given out while building are provisional; every field that
 * holds one is renumbered at the end.  The first failure sticks in err.
 */
#ifndef HGA_AWS_MODELW_H
#define HGA_AWS_MODELW_H

#include "aws/image.h"
#include "base/buf.h"

struct hga_modelw_str {
	uint32_t at, n;
};

struct hga_modelw {
	struct hga_buf sections[HGA_IMG_NSECTIONS];
	struct hga_buf text; /* of all strings, in order of arrival */
	struct hga_modelw_str *strs;
	uint32_t n_strs, cap_strs;
	uint32_t *slots; /* open addressing; id + 1 */
	uint32_t n_slots;
	uint32_t partitions;
	struct hga_err err;
};

void hga_modelw_init(struct hga_modelw *w);
void hga_modelw_release(struct hga_modelw *w);
/* Provisional id of a text; NONE when its s is NULL or after a failure. */
uint32_t hga_modelw_str(struct hga_modelw *w, struct hga_str text);
/* Records in a section now. */
uint32_t hga_modelw_count(const struct hga_modelw *w, enum hga_img_section s);
/* Appends one record (its size is the section's); returns its index. */
uint32_t hga_modelw_add(struct hga_modelw *w, enum hga_img_section s,
                        const void *record);
/* Appends a document; returns its index. */
uint32_t hga_modelw_doc(struct hga_modelw *w, struct hga_str json);
/* Sorts, renumbers and writes the image; hash: 64 characters. */
int hga_modelw_finish(struct hga_modelw *w, const char *hash,
                      struct hga_buf *out, struct hga_err *err) HGA_MUST_USE;

#endif
