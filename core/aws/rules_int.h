/*
 * Inside of the endpoint rules: values, and the functions rules may call
 * (rules_fn.c) on behalf of the interpreter (rules.c).
 *
 * Values borrow their text: from the ruleset, the parameters, the partitions
 * document or the evaluation's own memory, which lives until its end.
 */
#ifndef HGA_AWS_RULES_INT_H
#define HGA_AWS_RULES_INT_H

#include "aws/rules.h"

#include <stddef.h>
#include <stdint.h>

#define RULES_TEXT_MAX ((size_t)64 << 10)
#define RULES_ARGS 4

enum rv_kind {
	RV_NONE = 0, /* absent: conditions on it fail */
	RV_BOOL,
	RV_INT,
	RV_STR,
	RV_DATA, /* a list or map of a document or of the parameters */
	RV_URL,
	RV_ARN,
	RV_PARTITION
};

struct rv_url {
	struct hga_str scheme, authority, path, normalized;
	bool is_ip;
};

struct rv_arn {
	struct hga_str partition, service, region, account, resource;
};

struct rv {
	enum rv_kind kind;
	bool b;
	int64_t i;
	struct hga_str s;
	struct hga_val data;
	union {
		const struct rv_url *url;
		const struct rv_arn *arn;
		const struct hga_partition *partition;
	} u;
};

struct rules_block;

/* One evaluation. */
struct rules_run {
	struct hga_partitions *partitions;
	struct rules_block *blocks; /* memory made on the way */
	size_t used;
	struct hga_err *err;
};

/* Memory of the evaluation, zeroed; NULL: *run->err is filled. */
void *rules_alloc(struct rules_run *run, size_t size);
/* -HGA_PROTOCOL "Ruleset": what is wrong with the thing called name. */
int rules_bad(struct rules_run *run, const char *what, struct hga_str name);

/* The function with that name or NULL.  Arguments are evaluated; n is what
 * the function takes. */
typedef int (*rules_fn)(struct rules_run *run, const struct rv *argv,
                        struct rv *out);
rules_fn rules_fn_find(struct hga_str name, unsigned *n);
/* Part of a value by a path as getAttr takes it: "a.b[0]". */
int rules_attr(struct rules_run *run, const struct rv *v, struct hga_str path,
               struct rv *out);
/* Value of a document's node: text stays text, null is absent. */
struct rv rules_of_data(struct hga_val v);

#endif
