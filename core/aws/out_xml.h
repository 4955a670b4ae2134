/*
 * XML answers of query, ec2 and rest-xml -> value, element by element.
 *
 * Used by out.c for results and by error.c for the members of modelled
 * errors.  Unknown elements are skipped.  The elements of a flattened list
 * may be mixed with others; they end up in one list.
 */
#ifndef HGA_AWS_OUT_XML_H
#define HGA_AWS_OUT_XML_H

#include "aws/image.h"
#include "aws/out.h"
#include "base/val.h"

struct hga_out_xml; /* opaque */

enum hga_out_xml_mode {
	HGA_XML_RESULT, /* root <Op>Response or <Op>, result wrapper */
	HGA_XML_REST,   /* any root but html; Error: see below */
	HGA_XML_ERROR   /* members of the first Error element */
};

struct hga_out_xml_args {
	struct hga_aws_op op;
	const struct hga_img_shape *shape; /* NULL: no members */
	enum hga_out_xml_mode mode;
	bool raw_time, documents; /* as struct hga_aws_vopt */
	/* rest: the structure of the shape is open in the tape and stays so */
	bool inside;
	/* rest: the root is the value of this member (shape unused) */
	const struct hga_img_member *payload;
	struct hga_vtape *tape;
};

/* NULL on memory failure; args are copied. */
struct hga_out_xml *
hga_out_xml_new(const struct hga_out_xml_args *args) HGA_MUST_USE;
void hga_out_xml_free(struct hga_out_xml *x);
/* -HGA_PROTOCOL: code "Syntax" or "Garbled" (not what the model says), or a
 * limit's; memory. */
int hga_out_xml_feed(struct hga_out_xml *x, const void *p, size_t n,
                     struct hga_err *err) HGA_MUST_USE;
/* After the last byte: 0 when one value was written to the tape, or its
 * members or payload. */
int hga_out_xml_end(struct hga_out_xml *x, struct hga_err *err) HGA_MUST_USE;
/* HGA_XML_REST stopped at a root "Error": s3 answers so with status 200. */
bool hga_out_xml_is_error(const struct hga_out_xml *x);
/* Request id in the body, "" if none. */
const char *hga_out_xml_request_id(const struct hga_out_xml *x);

/* ---- shared by the readers ---- */

/*
 * Writes the text of a scalar as the next value.  1: written; 0: an empty
 * text that is no value of this type (nothing written); -HGA_PROTOCOL
 * "Garbled": not a value of this type.
 */
int hga_out_scalar(struct hga_vtape *t, uint32_t name,
                   const struct hga_aws_svc *svc,
                   const struct hga_img_member *ref, struct hga_str text,
                   bool raw_time, struct hga_err *err) HGA_MUST_USE;
/* A timestamp: INT, or NUM when it has a fraction. */
void hga_out_time(struct hga_vtape *t, uint32_t name, int64_t us);
/* {SDK_UNKNOWN_MEMBER={name=...}} in place of a union. */
void hga_out_unknown(struct hga_vtape *t, uint32_t name, struct hga_str member);
/* Moves the whole value of `from` to the end of `to`, keeping ids. */
int hga_out_append(struct hga_vtape *to, struct hga_vtape *from,
                   struct hga_err *err) HGA_MUST_USE;

#endif
