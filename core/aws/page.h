/*
 * Paging: what one page says about the next.
 *
 * Only the evaluation of a paginator's expressions on an answer lives here;
 * the loop, limits and merging are the caller's.
 */
#ifndef HGA_AWS_PAGE_H
#define HGA_AWS_PAGE_H

#include "aws/image.h"
#include "base/err.h"
#include "base/val.h"

#include <stdbool.h>

struct hga_pager; /* opaque, immutable */

/* Compiles the paginator of an operation; *out NULL when it has none. */
int hga_pager_new(struct hga_pager **out, struct hga_aws_op op,
                  struct hga_err *err) HGA_MUST_USE;
void hga_pager_free(struct hga_pager *p);

/* Number of tokens; name of input token i. */
uint32_t hga_pager_tokens(const struct hga_pager *p);
struct hga_str hga_pager_input(const struct hga_pager *p, uint32_t i);
/* Text of output token expression i. */
struct hga_str hga_pager_output(const struct hga_pager *p, uint32_t i);
/* Limit member; .s NULL: none. */
struct hga_str hga_pager_limit(const struct hga_pager *p);
/* Expression that says whether there is more; .s NULL: none. */
struct hga_str hga_pager_more(const struct hga_pager *p);
/* Result keys; the first is the primary one. */
uint32_t hga_pager_results(const struct hga_pager *p);
struct hga_str hga_pager_result(const struct hga_pager *p, uint32_t i);
/* Keys that are taken from the first page. */
uint32_t hga_pager_fixed(const struct hga_pager *p);
struct hga_str hga_pager_fixed_key(const struct hga_pager *p, uint32_t i);

/*
 * Appends to out (fresh, names NULL) one MAP of input token -> value, null
 * for an empty one.  *more is false when the answer says that it is the last
 * page, or when all tokens are empty.  An expression that fails on the answer
 * counts as empty; fails with memory only.
 */
int hga_pager_next(const struct hga_pager *p, struct hga_val answer,
                   struct hga_vtape *out, bool *more,
                   struct hga_err *err) HGA_MUST_USE;

#endif
