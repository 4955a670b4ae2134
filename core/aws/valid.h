/*
 * Validation of parameters against the model, and suggestions for names that
 * do not exist.
 *
 * All problems are collected; nothing stops at the first.  Paths use 1-based
 * indices.  Values of sensitive members are shown as ***, long ones are cut.
 */
#ifndef HGA_AWS_VALID_H
#define HGA_AWS_VALID_H

#include "aws/image.h"
#include "base/buf.h"
#include "base/val.h"

/*
 * Checks params (NONE: none) for op.  Returns 0 when they are acceptable,
 * with warnings (lines "warning: ...", unknown enum values) in *warnings if
 * that is not NULL.  Else -HGA_USAGE, code "ParamValidation", the whole text
 * ("Parameter validation failed:" and one line each) in *report; err->msg
 * holds its beginning.
 */
int hga_aws_validate(struct hga_aws_op op, struct hga_val params,
                     struct hga_buf *report, struct hga_buf *warnings,
                     struct hga_err *err) HGA_MUST_USE;

/*
 * Nearest of the candidates: equal after lower-casing and removing '_' and
 * '-'; else the smallest optimal-string-alignment distance that is at most
 * min(3, max(1, length / 3)); ties alphabetical.  Views must stay valid.
 */
struct hga_suggest {
	struct hga_str want, best;
	size_t dist, limit;
};

void hga_suggest_init(struct hga_suggest *s, struct hga_str want);
void hga_suggest_try(struct hga_suggest *s, struct hga_str candidate);
/* The suggestion; s == NULL in it: none. */
struct hga_str hga_suggest_best(const struct hga_suggest *s);

/* Nearest operation (in the spelling of name: snake or Camel), service,
 * member of a structure, waiter; .s NULL: none. */
struct hga_str hga_aws_suggest_op(const struct hga_aws_svc *svc,
                                  struct hga_str name);
struct hga_str hga_aws_suggest_svc(const struct hga_aws_image *img,
                                   struct hga_str name);
struct hga_str hga_aws_suggest_member(const struct hga_aws_svc *svc,
                                      const struct hga_img_shape *s,
                                      struct hga_str name);
struct hga_str hga_aws_suggest_waiter(const struct hga_aws_svc *svc,
                                      struct hga_str name);

#endif
