/*
 * Endpoint rules: the interpreter of endpoint-rule-set-1.json and the
 * partitions it asks about.
 *
 * A ruleset is a document of conditions (functions with arguments, whose
 * results can be named) under which an endpoint, an error or more rules
 * apply; the first rule that applies decides.  It is interpreted where it
 * lies, so reading one costs its parsing and nothing else.  Documents may
 * come from outside the program: an unknown function, a missing name or a
 * value of the wrong type is -HGA_PROTOCOL "Ruleset", never a guess.
 * Limits: 1 MiB a document, its nesting that of JSON, 64 KiB of text made
 * during one evaluation.
 */
#ifndef HGA_AWS_RULES_H
#define HGA_AWS_RULES_H

#include "aws/request.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

#include <stdbool.h>

/* ---- partitions ---- */

struct hga_partitions; /* opaque */

/* What a partition says about its regions; views into the document. */
struct hga_partition {
	struct hga_str name;          /* "aws", "aws-cn" */
	struct hga_str suffix;        /* "amazonaws.com" */
	struct hga_str global_region; /* signs for services without regions */
	struct hga_val region, outputs;
};

/* The document's text is borrowed and read at the first question. */
int hga_partitions_new(struct hga_partitions **out, struct hga_str json,
                       struct hga_err *err) HGA_MUST_USE;
void hga_partitions_free(struct hga_partitions *p);
/*
 * Partition of a region: the one that lists it, else the first whose pattern
 * fits, else "aws".  *found false: there is none (an empty document).
 */
int hga_partitions_find(struct hga_partitions *p, struct hga_str region,
                        struct hga_partition *out, bool *found,
                        struct hga_err *err) HGA_MUST_USE;

/* ---- rules ---- */

struct hga_rules; /* opaque */

/* Parses a document (not kept). */
int hga_rules_new(struct hga_rules **out, struct hga_str json,
                  struct hga_err *err) HGA_MUST_USE;
void hga_rules_free(struct hga_rules *r);
/* The document's parameters: name -> {type, required, default, builtIn}. */
struct hga_val hga_rules_params(const struct hga_rules *r);
/* There are no rules at all (a fragment without endpoints). */
bool hga_rules_empty(const struct hga_rules *r);

struct hga_rules_result {
	bool refused;        /* the rules say no; text says why */
	struct hga_buf text; /* URL, or the error's text */
	struct hga_aws_pairs headers;
	struct hga_vtape *properties; /* expanded; NULL: none */
};

/*
 * Evaluates for parameters (a map, or NONE; null counts as absent).  A
 * missing required parameter and rules of which none applies are refusals.
 * *out is the caller's to release, also after a failure.
 */
int hga_rules_eval(const struct hga_rules *r, struct hga_partitions *p,
                   struct hga_val params, struct hga_rules_result *out,
                   struct hga_err *err) HGA_MUST_USE;
/* Safe on a zeroed struct. */
void hga_rules_result_release(struct hga_rules_result *res);

#endif
