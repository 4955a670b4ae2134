/*
 * Shared by the serialisers: the path of the member being written, for
 * messages and token records, and members with their values.
 */
#ifndef HGA_AWS_SER_INT_H
#define HGA_AWS_SER_INT_H

#include "aws/ser.h"

/* One serialisation under way. */
struct hga_ser_ctx {
	const struct hga_aws_ser *s;
	const struct hga_aws_svc *svc;
	struct hga_aws_request *out;
	struct hga_buf path; /* "BlockDeviceMappings[1].Ebs" */
	struct hga_buf text; /* of one scalar */
	char token[37];
	struct hga_err *err;
};

void hga_ser_ctx_init(struct hga_ser_ctx *c, const struct hga_aws_ser *s,
                      struct hga_aws_request *out, struct hga_err *err);
void hga_ser_ctx_release(struct hga_ser_ctx *c);
/* Extends the path by a member or a 1-based index. */
int hga_ser_enter(struct hga_ser_ctx *c, struct hga_str name) HGA_MUST_USE;
int hga_ser_enter_at(struct hga_ser_ctx *c, uint32_t i) HGA_MUST_USE;
/* -HGA_USAGE: the value at the path is no `want`. */
int hga_ser_wrong(struct hga_ser_ctx *c, const char *want);

/*
 * Value of a structure's member.  1: *v is to be written; 2: *token is to be
 * written (a fresh idempotency token, recorded); 0: absent; < 0 as usual.
 */
int hga_ser_member(struct hga_ser_ctx *c, struct hga_val of,
                   const struct hga_img_member *m, struct hga_val *v,
                   struct hga_str *token) HGA_MUST_USE;

bool hga_ser_is_map(struct hga_val v);  /* map, structure or empty */
bool hga_ser_is_list(struct hga_val v); /* list or empty */

/* One entry of a map. */
struct hga_ser_entry {
	struct hga_str key;
	struct hga_val v;
};

/* Entries of a map without nulls, by key; hga_free it. */
int hga_ser_entries(struct hga_ser_ctx *c, struct hga_val map,
                    struct hga_ser_entry **out, uint32_t *n) HGA_MUST_USE;

/* ---- bodies of the rest protocols, appended to out->body ---- */

/* The parameters as one JSON object; body: only members of the body. */
int hga_ser_json_object(struct hga_ser_ctx *c, const struct hga_img_shape *s,
                        bool body) HGA_MUST_USE;
/* One value as JSON. */
int hga_ser_json_value(struct hga_ser_ctx *c, const struct hga_img_member *ref,
                       struct hga_val v) HGA_MUST_USE;
/* The parameters as one XML element called by the operation's rules; nothing
 * when no member of the body is set. */
int hga_ser_xml_input(struct hga_ser_ctx *c,
                      const struct hga_img_shape *s) HGA_MUST_USE;
/* The payload member's value as one XML element. */
int hga_ser_xml_payload(struct hga_ser_ctx *c, const struct hga_img_member *m,
                        struct hga_val v) HGA_MUST_USE;

#endif
