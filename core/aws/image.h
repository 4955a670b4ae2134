/*
 * The model image: what the program knows about AWS services.
 *
 * One little-endian, pointer-free block, made by modelc.h at build time
 * (embedded) or at run time (user models).  This header is its format and
 * the way to read it.  Records are used in place; nothing is copied and an
 * open image costs one small allocation.
 *
 * Names are string ids: indices into one table sorted by bytes, so equal text
 * has one id within an image.  A shape number is an index into its service.
 * The image's memory must outlive everything that refers to it.  An image
 * from outside the program is checked completely when it is opened: every
 * index, range and string; afterwards no accessor can leave it.
 */
#ifndef HGA_AWS_IMAGE_H
#define HGA_AWS_IMAGE_H

#include "base/err.h"
#include "base/str.h"
#include "base/val.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HGA_IMG_NONE 0xffffffffu /* no string, no index */
#define HGA_IMG_NOSHAPE 0xffffu

enum hga_aws_protocol {
	HGA_AWS_EC2 = 1,
	HGA_AWS_QUERY,
	HGA_AWS_JSON,
	HGA_AWS_REST_JSON,
	HGA_AWS_REST_XML,
	HGA_AWS_CBOR
};

enum hga_aws_type {
	HGA_T_STRUCT = 1,
	HGA_T_LIST,
	HGA_T_MAP,
	HGA_T_STRING,
	HGA_T_INT,  /* integer */
	HGA_T_LONG, /* long */
	HGA_T_FLOAT,
	HGA_T_DOUBLE,
	HGA_T_BOOL,
	HGA_T_BLOB,
	HGA_T_TIME
};

enum hga_aws_tsformat {
	HGA_TS_NONE = 0, /* the protocol's */
	HGA_TS_ISO,      /* iso8601 */
	HGA_TS_UNIX,     /* unixTimestamp */
	HGA_TS_RFC822    /* rfc822 */
};

enum hga_aws_location {
	HGA_LOC_BODY = 0,
	HGA_LOC_URI,
	HGA_LOC_QUERY,
	HGA_LOC_HEADER,
	HGA_LOC_HEADERS,
	HGA_LOC_STATUS
};

/* May the request be sent again after it may have reached the service? */
enum hga_repeat {
	HGA_REPEAT_READ = 1,   /* changes nothing */
	HGA_REPEAT_IDEMPOTENT, /* same effect twice */
	HGA_REPEAT_NAMED,      /* unique name: a repeat answers "exists" */
	HGA_REPEAT_UNSAFE
};

/* Flags of shapes. */
enum {
	HGA_SF_FLAT = 1u, /* flattened */
	HGA_SF_SENSITIVE = 2u,
	HGA_SF_EXCEPTION = 4u,
	HGA_SF_FAULT = 8u,
	HGA_SF_UNION = 16u,
	HGA_SF_DOCUMENT = 32u,
	HGA_SF_STREAMING = 64u,
	HGA_SF_EVENTSTREAM = 128u,
	HGA_SF_RETRYABLE = 256u,
	HGA_SF_THROTTLING = 512u,
	HGA_SF_MIN = 1024u, /* has a minimum */
	HGA_SF_XMLNS = 2048u
};

/* Flags of members (references). */
enum {
	HGA_MF_REQUIRED = 1u,
	HGA_MF_TOKEN = 2u,   /* idempotencyToken */
	HGA_MF_FLAT = 4u,    /* flattened on the reference or its shape */
	HGA_MF_FLATREF = 8u, /* flattened on the reference itself */
	HGA_MF_JSONVALUE = 16u,
	HGA_MF_HOSTLABEL = 32u,
	HGA_MF_STREAMING = 64u,
	HGA_MF_XMLATTR = 128u,
	HGA_MF_SENSITIVE = 256u
};

/* Flags of operations. */
enum {
	HGA_OF_READONLY = 1u,
	HGA_OF_IDEMPOTENT = 2u,
	HGA_OF_UNSIGNED = 4u,         /* authtype none */
	HGA_OF_UNSIGNED_PAYLOAD = 8u, /* unsignedPayload, v4-unsigned-body */
	HGA_OF_CHECKSUM = 16u,        /* httpChecksum: one is required */
	HGA_OF_GZIP = 32u,            /* requestcompression gzip */
	HGA_OF_BEARER = 64u,          /* auth lists httpBearerAuth */
	HGA_OF_MD5 = 128u,            /* httpChecksumRequired: Content-MD5 */
	HGA_OF_SIGV4 = 256u           /* auth lists sigv4 */
};

/* Flags of services. */
enum {
	HGA_VF_QUERY_COMPAT = 1u, /* awsQueryCompatible */
	HGA_VF_BEARER = 2u,       /* auth lists httpBearerAuth */
	HGA_VF_SIGV4 = 4u         /* auth lists sigv4 */
};

/* ---- records (fixed layout; all numbers little-endian) ---- */

struct hga_img_range {
	uint32_t at, n;
};

struct hga_img_svc {
	uint32_t name;    /* "ec2", the models' directory */
	uint32_t id;      /* serviceId, "EC2" */
	uint32_t prefix;  /* endpointPrefix */
	uint32_t signing; /* signingName, else endpointPrefix */
	uint32_t version; /* apiVersion */
	uint32_t target;  /* targetPrefix or NONE */
	uint32_t jsonver; /* jsonVersion or NONE */
	uint32_t xmlns;   /* xmlNamespace uri or NONE */
	uint32_t global;  /* globalEndpoint or NONE */
	uint32_t ruleset; /* index of a document or NONE */
	uint8_t protocol, pad;
	uint16_t flags;
	struct hga_img_range ops, shapes, waiters, pages;
	uint32_t snakes; /* u16 permutation of ops by snake name */
};

struct hga_img_op {
	uint32_t name, snake; /* DescribeInstances, describe_instances */
	uint32_t method, uri;
	uint32_t wrapper;            /* resultWrapper or NONE */
	uint32_t host_prefix;        /* endpoint.hostPrefix or NONE */
	uint32_t in_name;            /* locationName of the input reference */
	uint32_t in_ns, in_nsprefix; /* xmlNamespace of the input reference */
	uint32_t checksum_member;    /* httpChecksum.requestAlgorithmMember */
	uint32_t contexts; /* document {"static":…,"operation":…} or NONE */
	uint16_t input, output; /* shape numbers or NOSHAPE */
	uint16_t flags;
	uint8_t repeat, pad;
	struct hga_img_range errors; /* u16 shape numbers */
	uint32_t page;               /* index of the paginator or NONE */
};

struct hga_img_shape {
	uint32_t name;
	uint8_t type, ts;
	uint16_t flags;
	/* structure: members; list: one reference; map: key and value */
	struct hga_img_range members;
	/* structure: two permutations (u16) of the members, one after the
	 * other: sorted by name, then by wire name */
	uint32_t perms;
	struct hga_img_range enums; /* string ids, sorted by text */
	uint32_t ext;               /* index of the rare properties or NONE */
};

/* Rare properties of shapes. */
struct hga_img_sext {
	double min;            /* with HGA_SF_MIN */
	uint32_t loc;          /* locationName on the shape or NONE */
	uint32_t ns, nsprefix; /* xmlNamespace or NONE */
	uint32_t payload; /* structure: number of the payload member or NONE */
	uint32_t code;    /* exceptions: error.code, else NONE */
	uint32_t status;  /* exceptions: httpStatusCode or 0 */
};

struct hga_img_member {
	uint32_t name; /* API name */
	uint32_t wire; /* name in results, all rules applied */
	uint32_t sent; /* name in requests, all rules applied */
	uint16_t shape;
	uint16_t flags;
	uint8_t location, ts; /* ts: the reference's, else its shape's */
	uint16_t pad;
	uint32_t ext; /* index of the rare properties or NONE */
};

/* Rare properties of members. */
struct hga_img_mext {
	uint32_t loc; /* rest protocols: locationName as the model has it,
	                 or NONE */
	uint32_t ns, nsprefix; /* xmlNamespace or NONE */
	uint32_t context;      /* contextParam.name or NONE */
};

enum hga_aws_matcher {
	HGA_ACC_PATH = 1,
	HGA_ACC_PATHALL,
	HGA_ACC_PATHANY,
	HGA_ACC_STATUS,
	HGA_ACC_ERROR
};

enum hga_aws_accstate {
	HGA_ACC_SUCCESS = 1,
	HGA_ACC_FAILURE,
	HGA_ACC_RETRY
};

struct hga_img_acceptor {
	uint8_t matcher, state;
	uint8_t kind; /* of expected: 's' string, 'i' number, 'b' bool */
	uint8_t pad;
	uint32_t argument; /* JMESPath text or NONE */
	uint32_t text;     /* 's' */
	int32_t num;       /* 'i' and 'b' */
};

struct hga_img_waiter {
	uint32_t name, snake;
	uint32_t op; /* index within the service */
	uint32_t delay_s, max_attempts;
	struct hga_img_range acceptors;
};

struct hga_img_page {
	uint32_t op;                      /* index within the service */
	uint32_t limit_key, more_results; /* or NONE */
	/* string ids each */
	struct hga_img_range in_tokens, out_tokens, result_keys, non_aggregate;
};

/* ---- open images ---- */

struct hga_aws_image; /* opaque */

/* One service of an open image; address stable until the image is freed. */
struct hga_aws_svc {
	struct hga_vnames names; /* for tapes of this service's results */
	const struct hga_aws_image *img;
	const struct hga_img_svc *r;
	const struct hga_img_op *ops;
	const struct hga_img_shape *shapes;
	const struct hga_img_waiter *waiters;
	const struct hga_img_page *pages;
};

/* One operation, by value; r NULL: no such operation. */
struct hga_aws_op {
	const struct hga_aws_svc *svc;
	const struct hga_img_op *r;
};

/*
 * Opens an image of n bytes at data (8-aligned, borrowed).  trusted: made by
 * this very program (embedded), only the header is looked at.  Fails with
 * -HGA_PROTOCOL, code "Image", or memory.
 */
int hga_aws_image_open(struct hga_aws_image **out, const void *data, size_t n,
                       bool trusted, struct hga_err *err) HGA_MUST_USE;
void hga_aws_image_free(struct hga_aws_image *img);
/* Hash of the inputs the image was made of (hex text). */
struct hga_str hga_aws_image_hash(const struct hga_aws_image *img);
size_t hga_aws_image_services(const struct hga_aws_image *img);
/* Service number i (0-based, sorted by name). */
const struct hga_aws_svc *hga_aws_svc_at(const struct hga_aws_image *img,
                                         size_t i);
/* By directory name ("ec2"); NULL when there is none. */
const struct hga_aws_svc *hga_aws_svc_find(const struct hga_aws_image *img,
                                           struct hga_str name);
/* The partitions document as JSON text, or an empty view. */
struct hga_str hga_aws_partitions(const struct hga_aws_image *img);

/* Text of a string id; NONE gives the empty view.  NUL-terminated. */
struct hga_str hga_aws_text(const struct hga_aws_svc *svc, uint32_t id);
/* Same as a C string. */
const char *hga_aws_cstr(const struct hga_aws_svc *svc, uint32_t id);
/* Id of a text or NONE. */
uint32_t hga_aws_text_find(const struct hga_aws_svc *svc, struct hga_str text);
/* Document (minified JSON) of an index, or an empty view. */
struct hga_str hga_aws_doc(const struct hga_aws_svc *svc, uint32_t index);
/* String id number i of a list (enums, tokens, keys). */
uint32_t hga_aws_id(const struct hga_aws_svc *svc, struct hga_img_range r,
                    uint32_t i);

/* Operation by name: DescribeInstances, describe_instances or
 * describe-instances; .r NULL when there is none. */
struct hga_aws_op hga_aws_op_find(const struct hga_aws_svc *svc,
                                  struct hga_str name);
struct hga_aws_op hga_aws_op_at(const struct hga_aws_svc *svc, uint32_t i);
/* Name of the operation. */
struct hga_str hga_aws_op_name(struct hga_aws_op op);

/* Shape by number; HGA_IMG_NOSHAPE gives NULL. */
const struct hga_img_shape *hga_aws_shape(const struct hga_aws_svc *svc,
                                          uint16_t number);
/* Shape by name (binary search) or NULL. */
const struct hga_img_shape *hga_aws_shape_find(const struct hga_aws_svc *svc,
                                               struct hga_str name);
uint16_t hga_aws_shape_number(const struct hga_aws_svc *svc,
                              const struct hga_img_shape *s);
/* Member i in model order; lists: 0; maps: 0 key, 1 value. */
const struct hga_img_member *hga_aws_member(const struct hga_aws_svc *svc,
                                            const struct hga_img_shape *s,
                                            uint32_t i);
/* Member by API name (binary search) or NULL. */
const struct hga_img_member *hga_aws_member_find(const struct hga_aws_svc *svc,
                                                 const struct hga_img_shape *s,
                                                 struct hga_str name);
/* Member by its name in results (binary search) or NULL. */
const struct hga_img_member *hga_aws_member_wire(const struct hga_aws_svc *svc,
                                                 const struct hga_img_shape *s,
                                                 struct hga_str wire);

/* Rare properties; never NULL (all NONE and 0 when there are none). */
const struct hga_img_sext *hga_aws_sext(const struct hga_aws_svc *svc,
                                        const struct hga_img_shape *s);
const struct hga_img_mext *hga_aws_mext(const struct hga_aws_svc *svc,
                                        const struct hga_img_member *m);
/* Error shape i of an operation. */
const struct hga_img_shape *hga_aws_op_error(struct hga_aws_op op, uint32_t i);

/* Waiter by name: InstanceStopped, instance_stopped, instance-stopped. */
const struct hga_img_waiter *hga_aws_waiter_find(const struct hga_aws_svc *svc,
                                                 struct hga_str name);
/* Acceptor i of a waiter. */
const struct hga_img_acceptor *hga_aws_acceptor(const struct hga_aws_svc *svc,
                                                const struct hga_img_waiter *w,
                                                uint32_t i);
/* Paginator of an operation or NULL. */
const struct hga_img_page *hga_aws_page(struct hga_aws_op op);

/*
 * snake_case form of a CamelCase name (DescribeDBInstances ->
 * describe_db_instances), as every SDK user writes it.
 */
int hga_aws_snake(struct hga_buf *out, struct hga_str camel,
                  struct hga_err *err) HGA_MUST_USE;

/* ---- format, for modelc.c and image.c only ---- */

#define HGA_IMG_MAGIC 0x4d414748u /* "HGAM" */
#define HGA_IMG_FORMAT 1u
#define HGA_IMG_ENDIAN 0x01020304u

enum hga_img_section {
	HGA_IMG_SVCS = 0, /* struct hga_img_svc, sorted by name */
	HGA_IMG_OPS,      /* per service sorted by name */
	HGA_IMG_SHAPES,   /* per service sorted by name */
	HGA_IMG_SEXTS,
	HGA_IMG_MEMBERS,
	HGA_IMG_MEXTS,
	HGA_IMG_U16S,    /* permutations, error shapes */
	HGA_IMG_U32S,    /* lists of string ids */
	HGA_IMG_WAITERS, /* per service sorted by name */
	HGA_IMG_ACCS,
	HGA_IMG_PAGES, /* per service sorted by operation */
	HGA_IMG_DOCS,  /* struct hga_img_range into DOCTEXT */
	HGA_IMG_DOCTEXT,
	HGA_IMG_STROFF,  /* u32 offsets into STRTEXT; one more than strings */
	HGA_IMG_STRTEXT, /* each string followed by NUL */
	HGA_IMG_NSECTIONS
};

struct hga_img_header {
	uint32_t magic, format, endian, size;
	uint32_t partitions; /* document or NONE */
	uint32_t pad;
	char hash[64]; /* hex SHA-256 of the inputs */
	struct hga_img_range sections[HGA_IMG_NSECTIONS]; /* bytes */
};

#endif
