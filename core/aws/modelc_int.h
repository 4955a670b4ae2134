/*
 * Inside of the model compiler: one service being compiled, and what its
 * parts share.  modelc.c does services and files, modelc_shape.c references
 * and shapes, modelc_op.c operations, waiters and paginators.
 *
 * Functions that add records return < 0 with *k->err filled for a wrong
 * model; a lack of memory sticks in the writer (k->w) and is told at the end.
 */
#ifndef HGA_AWS_MODELC_INT_H
#define HGA_AWS_MODELC_INT_H

#include "aws/modelc.h"

#include "aws/image.h"
#include "aws/modelw.h"

/* Entry of an object. */
struct mc_named {
	struct hga_str name;
	struct hga_val v;
};

/* One service being compiled. */
struct mc {
	bool strict;
	struct hga_buf *notes;
	struct hga_modelw *w;
	struct hga_str name;
	enum hga_aws_protocol protocol;
	struct mc_named *shapes; /* sorted */
	uint32_t n_shapes;
	struct mc_named *ops; /* sorted */
	uint32_t n_ops;
	uint32_t ops_at; /* first record of this service */
	struct hga_buf scratch;
	struct hga_err *err;
};

/* ---- values of a model ---- */

/* -HGA_PROTOCOL "Model": what is wrong with the thing called name. */
int mc_bad(struct mc *k, const char *what, struct hga_str name);
/* Text under a key; .s NULL when there is none. */
struct hga_str mc_str_at(struct hga_val v, const char *key);
bool mc_true_at(struct hga_val v, const char *key);
bool mc_has(struct hga_val v, const char *key);
bool mc_is_object(struct hga_val v);
/* String id of the text under a key, or NONE. */
uint32_t mc_id_at(struct mc *k, struct hga_val v, const char *key);
/* Number under a key, 0 when there is none. */
uint32_t mc_uint_at(struct hga_val v, const char *key);
/* Entries of an object sorted by name; the caller frees *out. */
int mc_sorted(struct mc *k, struct hga_val map, struct mc_named **out,
              uint32_t *n) HGA_MUST_USE;
/* Index of a name in such a list, or NONE. */
uint32_t mc_find_named(const struct mc_named *v, uint32_t n,
                       struct hga_str name);
/* Every key of v is in the list ended by NULL (strict), else noted; what and
 * of say where it is. */
int mc_check_keys(struct mc *k, struct hga_val v, const char *const *keys,
                  const char *what, struct hga_str of) HGA_MUST_USE;
/* Keys a reference to a shape may have. */
extern const char *const mc_keys_ref[];

/* ---- parts ---- */

/* The shape a reference names; *number NONE: there is none. */
struct hga_val mc_target_of(struct mc *k, struct hga_val ref, uint32_t *number);
/* xmlNamespace, as {uri, prefix} or as a text. */
void mc_xml_ns(struct mc *k, struct hga_val v, uint32_t *uri, uint32_t *prefix);
/* A text or a list of texts as string ids. */
struct hga_img_range mc_add_ids(struct mc *k, struct hga_val list);
/* Does the list under `auth` hold a name that ends like this? */
bool mc_lists_auth(struct hga_val v, const char *suffix);
int mc_add_shape(struct mc *k, const struct mc_named *n) HGA_MUST_USE;
int mc_add_op(struct mc *k, const struct mc_named *n) HGA_MUST_USE;
int mc_add_waiters(struct mc *k, struct hga_val doc,
                   struct hga_img_range *out) HGA_MUST_USE;
int mc_add_pages(struct mc *k, struct hga_val doc,
                 struct hga_img_range *out) HGA_MUST_USE;

#endif
