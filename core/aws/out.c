/*
 * Answers -> values: chooses the reader from status and protocol, feeds it,
 * and tells success, error and garbled answers apart.
 */
#include "aws/out.h"

#include "aws/out_json.h"
#include "aws/out_rest.h"
#include "aws/out_xml.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define KEPT_MAX (64u * 1024)
#define HEAD_MAX (256u * 1024)
#define MEMBERS_MAX (16u * 1024 * 1024)

/* What the body of a success is. */
enum body {
	B_VALUE,   /* ec2, query, json: the whole result */
	B_MEMBERS, /* rest: the members that are not in the head */
	B_PAYLOAD, /* rest: the value of one member, as a document */
	B_RAW,     /* rest: the text or bytes of one member */
	B_SINK,    /* the same, streamed away */
	B_NOTHING  /* rest: no member at all */
};

struct hga_aws_out {
	struct hga_aws_op op;
	struct hga_aws_vopt opt;
	struct hga_vtape *tape;
	const struct hga_img_shape *shape; /* of the output, or NULL */
	int status;
	bool success;
	enum body body;
	const struct hga_img_member *payload;
	struct hga_buf head, kept, raw;
	struct hga_out_xml *xml; /* at most one of these two */
	struct hga_out_json *json;
	struct hga_err garbled; /* kind 0: not garbled so far */
	struct hga_aws_error error;
	struct hga_vtape *members;
	char request_id[128];
};

struct hga_aws_out *hga_aws_out_new(struct hga_aws_op op,
                                    const struct hga_aws_vopt *opt,
                                    struct hga_vtape *tape)
{
	struct hga_aws_out *o = hga_calloc(1, sizeof(*o));

	if (o == NULL)
		return NULL;
	o->op = op;
	if (opt != NULL)
		o->opt = *opt;
	o->tape = tape;
	o->shape = hga_aws_shape(op.svc, op.r->output);
	hga_buf_init(&o->head, HEAD_MAX);
	hga_buf_init(&o->kept, KEPT_MAX);
	hga_buf_init(&o->raw, SIZE_MAX / 2); /* the caller limits bodies */
	hga_aws_error_init(&o->error);
	return o;
}

void hga_aws_out_free(struct hga_aws_out *o)
{
	if (o == NULL)
		return;
	hga_out_xml_free(o->xml);
	hga_out_json_free(o->json);
	hga_vtape_free(o->members);
	hga_aws_error_release(&o->error);
	hga_buf_release(&o->head);
	hga_buf_release_secret(&o->kept);
	hga_buf_release_secret(&o->raw);
	hga_free(o);
}

static bool is_json(const struct hga_aws_out *o)
{
	return o->op.svc->r->protocol == HGA_AWS_JSON ||
	       o->op.svc->r->protocol == HGA_AWS_REST_JSON;
}

/* ---- rest: what is in the head ---- */

static bool is_streaming(const struct hga_img_member *m,
                         const struct hga_img_shape *s)
{
	return (m->flags & HGA_MF_STREAMING) != 0 ||
	       (s->flags & HGA_SF_STREAMING) != 0;
}

int hga_aws_out_check(struct hga_aws_op op, struct hga_err *err)
{
	const struct hga_img_shape *out = hga_aws_shape(op.svc, op.r->output);
	uint32_t i;

	for (i = 0; out != NULL && i < out->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(op.svc, out, i);

		if (hga_aws_shape(op.svc, m->shape)->flags & HGA_SF_EVENTSTREAM)
			return hga_fail(err, HGA_USAGE, 0, "Unsupported",
			                "%s: event streams cannot be read by "
			                "this version",
			                hga_aws_cstr(op.svc, op.r->name));
	}
	return 0;
}

const struct hga_img_member *hga_aws_out_stream(struct hga_aws_op op)
{
	const struct hga_img_member *m;
	const struct hga_img_shape *s;

	if (!hga_out_is_rest(op.svc))
		return NULL;
	m = hga_out_payload(op.svc, hga_aws_shape(op.svc, op.r->output));
	if (m == NULL)
		return NULL;
	s = hga_aws_shape(op.svc, m->shape);
	if (s->type != HGA_T_STRING && s->type != HGA_T_BLOB)
		return NULL;
	return is_streaming(m, s) ? m : NULL;
}

static enum body rest_body(const struct hga_aws_out *o)
{
	const struct hga_img_shape *s;

	if (o->payload == NULL)
		return hga_out_has_body(o->op.svc, o->shape) ? B_MEMBERS
		                                             : B_NOTHING;
	s = hga_aws_shape(o->op.svc, o->payload->shape);
	if (s->type != HGA_T_STRING && s->type != HGA_T_BLOB)
		return B_PAYLOAD;
	return o->opt.sink != NULL && is_streaming(o->payload, s) ? B_SINK
	                                                          : B_RAW;
}

static int rest_head(struct hga_aws_out *o, struct hga_err *err)
{
	struct hga_out_rest_args a = {.svc = o->op.svc,
	                              .shape = o->shape,
	                              .status = o->status,
	                              .head = hga_buf_str(&o->head),
	                              .raw_time = o->opt.raw_time,
	                              .tape = o->tape};
	struct hga_err e = {.kind = HGA_OK};
	int rc;

	o->payload = hga_out_payload(o->op.svc, o->shape);
	o->body = rest_body(o);
	rc = hga_aws_out_check(o->op, err);
	if (rc < 0)
		return rc;
	(void)hga_vt_open(
	    o->tape, HGA_V_STRUCT, HGA_NO_NAME,
	    hga_aws_shape_number(o->op.svc, o->shape)); /* sticks */
	rc = hga_out_rest_head(&a, &e);
	if (rc == -HGA_PROTOCOL) {
		o->garbled = e;
		return 0;
	}
	if (rc < 0 && err != NULL)
		*err = e;
	return rc;
}

int hga_aws_out_head(struct hga_aws_out *o, int status, struct hga_str head,
                     struct hga_err *err)
{
	int rc;

	if (o->op.svc->r->protocol == HGA_AWS_CBOR)
		return hga_fail(err, HGA_USAGE, 0, "Unsupported",
		                "answers of this service's protocol cannot be "
		                "read by this version");
	o->status = status;
	o->success = status >= 200 && status < 300;
	o->body = B_VALUE;
	hga_buf_clear(&o->head);
	rc = hga_buf_addstr(&o->head, head, err);
	if (rc == 0 && o->success && hga_out_is_rest(o->op.svc))
		rc = rest_head(o, err);
	return rc;
}

bool hga_aws_out_streams(const struct hga_aws_out *o)
{
	return o->success && o->body == B_SINK;
}

/* ---- bytes ---- */

static int open_reader(struct hga_aws_out *o, struct hga_err *err)
{
	bool rest = o->body != B_VALUE;
	struct hga_out_xml_args xa = {.op = o->op,
	                              .shape = o->shape,
	                              .mode =
	                                  rest ? HGA_XML_REST : HGA_XML_RESULT,
	                              .raw_time = o->opt.raw_time,
	                              .documents = o->opt.documents,
	                              .inside = o->body == B_MEMBERS,
	                              .payload = o->payload,
	                              .tape = o->tape};
	struct hga_out_json_args ja = {.op = o->op,
	                               .shape = o->shape,
	                               .raw_time = o->opt.raw_time,
	                               .inside = o->body == B_MEMBERS,
	                               .payload = o->payload,
	                               .tape = o->tape};

	if (is_json(o))
		o->json = hga_out_json_new(&ja);
	else
		o->xml = hga_out_xml_new(&xa);
	return o->json == NULL && o->xml == NULL ? hga_fail_mem(err) : 0;
}

/*
 * A reader's failure: memory and exceeded limits are passed on, anything
 * else makes the answer garbled.  A DOCTYPE or an instruction is what portal
 * pages begin with.
 */
static int judge(struct hga_aws_out *o, const struct hga_err *e,
                 struct hga_err *err)
{
	bool limit =
	    strcmp(e->code, "TooLarge") == 0 || strcmp(e->code, "TooDeep") == 0;

	if (e->kind != HGA_PROTOCOL || limit) {
		if (err != NULL)
			*err = *e;
		return -(int)e->kind;
	}
	o->garbled = *e;
	return 0;
}

static int feed_reader(struct hga_aws_out *o, const char *p, size_t n,
                       struct hga_err *err)
{
	struct hga_err e = {.kind = HGA_OK};
	int rc;

	while (o->xml == NULL && o->json == NULL) {
		/* blanks before the document are nobody's business */
		while (n > 0 &&
		       (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) {
			p++;
			n--;
		}
		if (n == 0)
			return 0;
		rc = open_reader(o, err);
		if (rc < 0)
			return rc;
	}
	rc = o->json != NULL ? hga_out_json_feed(o->json, p, n, &e)
	                     : hga_out_xml_feed(o->xml, p, n, &e);
	return rc < 0 ? judge(o, &e, err) : 0;
}

static int feed_body(struct hga_aws_out *o, const void *p, size_t n,
                     struct hga_err *err)
{
	switch (o->body) {
	case B_VALUE:
	case B_MEMBERS:
	case B_PAYLOAD:
		return feed_reader(o, p, n, err);
	case B_RAW:
		return hga_buf_add(&o->raw, p, n, err);
	case B_SINK:
	case B_NOTHING:
		break;
	}
	return 0;
}

int hga_aws_out_feed(struct hga_aws_out *o, const void *p, size_t n,
                     struct hga_err *err)
{
	size_t room = KEPT_MAX - o->kept.len;
	int rc = 0;

	if (n == 0)
		return 0;
	if (hga_aws_out_streams(o))
		return o->opt.sink(o->opt.data, p, n, err);
	if (room > 0)
		rc = hga_buf_add(&o->kept, p, n < room ? n : room, err);
	if (rc < 0 || !o->success || o->garbled.kind != HGA_OK)
		return rc;
	return feed_body(o, p, n, err);
}

/* ---- the end ---- */

static int garbled(const struct hga_aws_out *o, const char *why,
                   struct hga_err *err)
{
	return hga_fail(err, HGA_PROTOCOL, 0, "Garbled",
	                "%s: status %d, but not the answer of this operation: "
	                "%s",
	                hga_aws_cstr(o->op.svc, o->op.r->name), o->status, why);
}

static int no_body(struct hga_aws_out *o, struct hga_err *err)
{
	if (o->body != B_VALUE)
		return 0;
	if (!is_json(o) && o->shape != NULL && o->shape->members.n > 0)
		return garbled(o, "empty", err);
	/* failures stick: vt_end */
	(void)hga_vt_open(o->tape, HGA_V_STRUCT, HGA_NO_NAME,
	                  hga_aws_shape_number(o->op.svc, o->shape));
	(void)hga_vt_close(o->tape);
	return hga_vt_end(o->tape, err);
}

static int end_reader(struct hga_aws_out *o, struct hga_err *err)
{
	struct hga_err e = {.kind = HGA_OK};
	int rc;

	if (o->garbled.kind != HGA_OK)
		return garbled(o, o->garbled.msg, err);
	if (o->xml == NULL && o->json == NULL)
		return no_body(o, err);
	rc = o->json != NULL ? hga_out_json_end(o->json, &e)
	                     : hga_out_xml_end(o->xml, &e);
	if (rc < 0)
		rc = judge(o, &e, err);
	if (o->garbled.kind != HGA_OK)
		return garbled(o, o->garbled.msg, err);
	return rc;
}

/* Text or bytes of the payload; absent when empty, unless it streams. */
static void put_raw(struct hga_aws_out *o)
{
	const struct hga_img_shape *s =
	    hga_aws_shape(o->op.svc, o->payload->shape);

	if (o->raw.len == 0 && !is_streaming(o->payload, s))
		return;
	/* failures stick: vt_end */
	if (s->type == HGA_T_STRING)
		(void)hga_vt_str(o->tape, o->payload->name,
		                 hga_buf_str(&o->raw));
	else
		(void)hga_vt_blob(o->tape, o->payload->name,
		                  hga_buf_str(&o->raw));
	hga_buf_release_secret(&o->raw);
}

/* The whole result, whatever the body was. */
static int end_success(struct hga_aws_out *o, struct hga_err *err)
{
	int rc;

	if (o->body == B_NOTHING && hga_aws_is_html(hga_buf_str(&o->kept)))
		return garbled(o, "it is a web page", err);
	rc = end_reader(o, err);
	if (rc < 0 || o->body == B_VALUE)
		return rc;
	if (o->body == B_RAW)
		put_raw(o);
	(void)hga_vt_close(o->tape); /* sticks */
	return hga_vt_end(o->tape, err);
}

static void set_request_id(struct hga_aws_out *o)
{
	struct hga_str head = hga_buf_str(&o->head);
	struct hga_str t = hga_strn(NULL, 0);

	if (o->xml != NULL)
		t = hga_str(hga_out_xml_request_id(o->xml));
	if (t.n == 0)
		t = hga_aws_head_get(head, "x-amzn-requestid");
	if (t.n == 0)
		t = hga_aws_head_get(head, "x-amz-request-id");
	if (t.n < sizeof(o->request_id))
		snprintf(o->request_id, sizeof(o->request_id), "%.*s",
		         HGA_STRF(t));
}

static int end_error(struct hga_aws_out *o, struct hga_err *err)
{
	int rc;

	hga_vtape_free(o->members);
	o->members = hga_vtape_new(&o->op.svc->names, MEMBERS_MAX);
	if (o->members == NULL)
		return hga_fail_mem(err);
	rc = hga_aws_error_read(&o->error, o->op, o->success ? 500 : o->status,
	                        hga_buf_str(&o->head), hga_buf_str(&o->kept),
	                        o->members, err);
	if (rc == 0)
		memcpy(o->request_id, o->error.request_id,
		       sizeof(o->request_id));
	return rc;
}

int hga_aws_out_finish(struct hga_aws_out *o, enum hga_aws_answer *kind,
                       struct hga_err *err)
{
	bool bad =
	    !o->success || (o->xml != NULL && hga_out_xml_is_error(o->xml));

	*kind = bad ? HGA_ANSWER_ERROR : HGA_ANSWER_OK;
	if (bad)
		return end_error(o, err);
	set_request_id(o);
	return end_success(o, err);
}

/* ---- what was read ---- */

const struct hga_aws_error *hga_aws_out_error(const struct hga_aws_out *o)
{
	return &o->error;
}

struct hga_val hga_aws_out_members(const struct hga_aws_out *o)
{
	struct hga_val none = {NULL, 0};

	return o->members == NULL ? none : hga_vtape_root(o->members);
}

const char *hga_aws_out_request_id(const struct hga_aws_out *o)
{
	return o->request_id;
}

struct hga_str hga_aws_out_kept(const struct hga_aws_out *o)
{
	return hga_buf_str(&o->kept);
}

int hga_aws_out_status(const struct hga_aws_out *o)
{
	return o->status;
}
