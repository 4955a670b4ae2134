/*
 * JSON models -> image (image.h), at build time (mkmodel) and at run time
 * (user models, test suites).
 *
 * Every key that can occur in a model is known: handled, or ignored on
 * purpose.  Another key is an error in strict mode and a note otherwise.
 * Limits: 65534 shapes a service, 64 MiB of JSON a file.
 */
#ifndef HGA_AWS_MODELC_H
#define HGA_AWS_MODELC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

#include <stdbool.h>

struct hga_modelc; /* opaque */

/* Files of one service as JSON text; empty views for missing ones.  Extras
 * are merged into their file (their top key "merge"). */
struct hga_modelc_src {
	struct hga_str name; /* "ec2" */
	struct hga_str service, service_extras;
	struct hga_str waiters, waiters_extras;
	struct hga_str paginators, paginators_extras;
	struct hga_str ruleset;
};

/* NULL on memory failure. */
struct hga_modelc *hga_modelc_new(bool strict) HGA_MUST_USE;
void hga_modelc_free(struct hga_modelc *c);
/* Adds a service; -HGA_PROTOCOL, code "Model", with name and place. */
int hga_modelc_add(struct hga_modelc *c, const struct hga_modelc_src *src,
                   struct hga_err *err) HGA_MUST_USE;
/* Adds a service whose models are values already (NONE: missing). */
int hga_modelc_addv(struct hga_modelc *c, struct hga_str name,
                    struct hga_val service, struct hga_val waiters,
                    struct hga_val paginators, struct hga_str ruleset,
                    struct hga_err *err) HGA_MUST_USE;
/* The partitions document. */
int hga_modelc_partitions(struct hga_modelc *c, struct hga_str json,
                          struct hga_err *err) HGA_MUST_USE;
/* Writes the image; c can only be freed afterwards. */
int hga_modelc_finish(struct hga_modelc *c, struct hga_buf *out,
                      struct hga_err *err) HGA_MUST_USE;
/* Unknown keys met in lenient mode, one a line. */
const char *hga_modelc_notes(const struct hga_modelc *c);

#endif
