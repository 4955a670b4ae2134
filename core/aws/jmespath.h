/*
 * JMESPath: the whole language with its 26 functions, on values.
 *
 * Absent and null are the same; EMPTY counts as an object.  Expressions are
 * immutable after compilation and independent of any tape.
 * Errors: kind usage, code Syntax, InvalidType, InvalidArity, InvalidValue
 * or UnknownFunction; the message names the column of the expression.
 * Limits: 64 open brackets, tree height 512, expression 64 KiB.  The error
 * message of a failed evaluation never quotes the data.
 */
#ifndef HGA_AWS_JMESPATH_H
#define HGA_AWS_JMESPATH_H

#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

struct hga_jp; /* opaque */

/* The text is copied. */
int hga_jp_compile(struct hga_jp **out, struct hga_str text,
                   struct hga_err *err) HGA_MUST_USE;
void hga_jp_free(struct hga_jp *jp);
/* The expression's text. */
struct hga_str hga_jp_text(const struct hga_jp *jp);

/*
 * Evaluates on v (NONE counts as null) and appends the result as the next
 * value to out (a fresh tape with names NULL, another than v's).  max limits
 * the memory of intermediate values, 0: 64 MiB (-HGA_USAGE "TooLarge").
 */
int hga_jp_eval(const struct hga_jp *jp, struct hga_val v,
                struct hga_vtape *out, size_t max,
                struct hga_err *err) HGA_MUST_USE;

/* compile + eval into a new tape; *out is freed by the caller. */
int hga_jp_query(struct hga_str text, struct hga_val v, struct hga_vtape **out,
                 struct hga_err *err) HGA_MUST_USE;

/* Truth as JMESPath sees it: null, false, "", [], {} are false. */
bool hga_jp_true(struct hga_val v);

#endif
