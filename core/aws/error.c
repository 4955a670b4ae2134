/*
 * Error answers: what the headers and the body say about code, message,
 * request id, and the members of the modelled error.
 *
 * The body may be anything: cut, HTML, of another protocol than the
 * service's.  Its first non-blank byte decides between XML and JSON.
 */
#include "aws/error.h"

#include "aws/out_json.h"
#include "aws/out_rest.h"
#include "aws/out_xml.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/xml.h"

#include <stdio.h>
#include <string.h>

#define MESSAGE_MAX (64u * 1024)
#define MEMBERS_MAX (16u * 1024 * 1024)

/* What a body says, by the name it says it under. */
enum slot {
	S_TYPE, /* __type */
	S_CODE, /* code, Code */
	S_CODE2,
	S_MESSAGE,
	S_MESSAGE2, /* Message */
	S_MESSAGE3, /* errorMessage */
	S_OAUTH,    /* error: of sso-oidc, a code of OAuth 2.0 */
	S_OAUTH_TEXT,
	S_FAULT, /* Type: Sender or Receiver */
	S_REQID,
	S_HOSTID,
	S_COUNT
};

struct found {
	struct hga_buf v[S_COUNT];
	int at; /* slot of the open element or key, or -1 */
	unsigned depth;
	unsigned error; /* XML: depth of the open Error element, or 0 */
	bool had_error;
	bool bad; /* no memory */
};

static int slot_of(struct hga_str name)
{
	static const struct {
		const char *name;
		int slot;
	} v[] = {
	    {"__type", S_TYPE},      {"code", S_CODE},
	    {"Code", S_CODE2},       {"message", S_MESSAGE},
	    {"Message", S_MESSAGE2}, {"errorMessage", S_MESSAGE3},
	    {"error", S_OAUTH},      {"error_description", S_OAUTH_TEXT},
	    {"Type", S_FAULT},       {"RequestId", S_REQID},
	    {"RequestID", S_REQID},  {"requestId", S_REQID},
	    {"HostId", S_HOSTID},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (hga_str_eqc(name, v[i].name))
			return v[i].slot;
	return -1;
}

static void keep(struct found *f, struct hga_str text)
{
	struct hga_buf *b;
	size_t room;

	if (f->at < 0)
		return;
	b = &f->v[f->at];
	room = b->max - b->len;
	if (hga_buf_add(b, text.s, text.n < room ? text.n : room, NULL) < 0)
		f->bad = true;
}

/* ---- XML ---- */

static bool is_holder(struct hga_str name)
{
	return hga_str_eqc(name, "ErrorResponse") ||
	       hga_str_eqc(name, "Response") || hga_str_eqc(name, "Errors") ||
	       hga_str_eqc(name, "ResponseMetadata");
}

static int x_start(void *data, struct hga_str name,
                   const struct hga_xml_attr *attrs, size_t n,
                   struct hga_err *err)
{
	struct found *f = data;
	int slot;

	(void)attrs; /* errors have no attributes */
	(void)n;
	(void)err;
	f->depth++;
	f->at = -1;
	if (f->error == 0 && !f->had_error && f->depth <= 3 &&
	    hga_str_eqc(name, "Error")) {
		f->error = f->depth;
		f->had_error = true;
		return 0;
	}
	if (is_holder(name))
		return 0;
	slot = slot_of(name);
	if (slot >= 0 && f->v[slot].len == 0 &&
	    (f->depth == f->error + 1 || (slot == S_REQID && f->depth <= 3)))
		f->at = slot;
	return 0;
}

static int x_text(void *data, struct hga_str text, struct hga_err *err)
{
	(void)err; /* a failure is kept in f */
	keep(data, text);
	return 0;
}

static int x_end(void *data, struct hga_str name, struct hga_err *err)
{
	struct found *f = data;

	(void)name;
	(void)err;
	if (f->error == f->depth)
		f->error = 0;
	f->depth--;
	f->at = -1;
	return 0;
}

static int read_xml(struct found *f, struct hga_str body, struct hga_err *err)
{
	static const struct hga_xml_fns fns = {x_start, x_text, x_end};
	struct hga_xml *x = hga_xml_new(&fns, f);

	if (x == NULL)
		return hga_fail_mem(err);
	/* a body that is cut or wrong still said something before that */
	if (hga_xml_feed(x, body.s, body.n, NULL) == -HGA_MEMORY)
		f->bad = true;
	hga_xml_free(x);
	return f->bad ? hga_fail_mem(err) : 0;
}

/* ---- JSON ---- */

static int j_event(void *data, const struct hga_json_event *ev,
                   struct hga_err *err)
{
	struct found *f = data;

	(void)err; /* a failure is kept in f */
	switch (ev->type) {
	case HGA_JSON_OBJECT:
	case HGA_JSON_ARRAY:
		f->depth++;
		f->at = -1;
		break;
	case HGA_JSON_OBJECT_END:
	case HGA_JSON_ARRAY_END:
		f->depth--;
		break;
	case HGA_JSON_KEY:
		f->at = f->depth == 1 ? slot_of(ev->text) : -1;
		break;
	case HGA_JSON_STR:
	case HGA_JSON_INT:
	case HGA_JSON_NUM:
		if (f->depth == 1)
			keep(f, ev->text);
		f->at = -1;
		break;
	case HGA_JSON_BOOL:
	case HGA_JSON_NULL:
		f->at = -1;
		break;
	}
	return 0;
}

static int read_json(struct found *f, struct hga_str body, struct hga_err *err)
{
	struct hga_json *j = hga_json_new(j_event, f);

	if (j == NULL)
		return hga_fail_mem(err);
	if (hga_json_feed(j, body.s, body.n, NULL) == -HGA_MEMORY)
		f->bad = true;
	hga_json_free(j);
	return f->bad ? hga_fail_mem(err) : 0;
}

/* ---- putting it together ---- */

struct hga_str hga_aws_head_get(struct hga_str head, const char *name)
{
	size_t n = strlen(name), at = 0;

	while (at < head.n) {
		ptrdiff_t nl = hga_str_chr(head, '\n', at);
		size_t end = nl < 0 ? head.n : (size_t)nl;
		struct hga_str line = hga_strn(head.s + at, end - at);

		if (line.n > n && line.s[n] == ':' &&
		    memcmp(line.s, name, n) == 0)
			return hga_str_trim(
			    hga_strn(line.s + n + 1, line.n - n - 1));
		at = end + 1;
	}
	return hga_strn(NULL, 0);
}

const char *hga_aws_reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} v[] = {
	    {200, "OK"},
	    {301, "Moved Permanently"},
	    {302, "Found"},
	    {303, "See Other"},
	    {304, "Not Modified"},
	    {307, "Temporary Redirect"},
	    {308, "Permanent Redirect"},
	    {400, "Bad Request"},
	    {401, "Unauthorized"},
	    {403, "Forbidden"},
	    {404, "Not Found"},
	    {405, "Method Not Allowed"},
	    {408, "Request Timeout"},
	    {409, "Conflict"},
	    {412, "Precondition Failed"},
	    {413, "Content Too Large"},
	    {416, "Range Not Satisfiable"},
	    {429, "Too Many Requests"},
	    {500, "Internal Server Error"},
	    {501, "Not Implemented"},
	    {502, "Bad Gateway"},
	    {503, "Service Unavailable"},
	    {504, "Gateway Timeout"},
	    {509, "Bandwidth Limit Exceeded"},
	};
	size_t i;

	for (i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		if (v[i].status == status)
			return v[i].text;
	return "Unknown";
}

/* "ns#Name:http://..." -> "Name" */
static struct hga_str plain_code(struct hga_str t)
{
	ptrdiff_t colon = hga_str_chr(t, ':', 0);
	size_t i;

	if (t.s == NULL)
		return t;
	if (colon >= 0)
		t.n = (size_t)colon;
	for (i = t.n; i > 0; i--)
		if (t.s[i - 1] == '#')
			return hga_strn(t.s + i, t.n - i);
	return t;
}

static void set_text(char *out, size_t size, struct hga_str t)
{
	t = hga_str_trim(t);
	if (t.n >= size)
		t.n = size - 1;
	if (t.n > 0)
		memcpy(out, t.s, t.n);
	out[t.n] = '\0';
}

bool hga_aws_is_html(struct hga_str body)
{
	body = hga_str_trim(body);
	return (body.n >= 5 && hga_str_ieqc(hga_strn(body.s, 5), "<html")) ||
	       (body.n >= 9 && hga_str_ieqc(hga_strn(body.s, 9), "<!doctype"));
}

static struct hga_str slot_text(const struct found *f, enum slot s)
{
	return hga_str_trim(hga_buf_str(&f->v[s]));
}

/* Code of the body, before it is cut. */
static struct hga_str body_code(const struct found *f)
{
	if (f->v[S_TYPE].len > 0)
		return slot_text(f, S_TYPE);
	if (f->v[S_CODE].len > 0)
		return slot_text(f, S_CODE);
	return slot_text(f, S_CODE2);
}

/* Other services have members called error that are no codes. */
static bool speaks_oauth(struct hga_aws_op op)
{
	return hga_str_eqc(hga_aws_text(op.svc, op.svc->r->name), "sso-oidc");
}

static void set_code(struct hga_aws_error *e, struct hga_aws_op op,
                     const struct found *f, struct hga_str head)
{
	struct hga_str t = hga_aws_head_get(head, "x-amzn-query-error");
	ptrdiff_t semi = hga_str_chr(t, ';', 0);

	e->sender = hga_str_eqc(slot_text(f, S_FAULT), "Sender") ||
	            hga_str_ends(t, ";Sender");
	if (semi >= 0)
		t.n = (size_t)semi;
	if (t.n == 0)
		t = hga_aws_head_get(head, "x-amzn-errortype");
	if (t.n == 0)
		t = body_code(f);
	if (t.n == 0 && speaks_oauth(op))
		t = slot_text(f, S_OAUTH);
	set_text(e->code, sizeof(e->code), plain_code(t));
	if (e->code[0] == '\0')
		snprintf(e->code, sizeof(e->code), "%d", e->status);
}

static int set_message(struct hga_aws_error *e, struct hga_aws_op op,
                       const struct found *f, struct hga_str head,
                       struct hga_err *err)
{
	struct hga_str location = hga_aws_head_get(head, "location");
	enum slot s = S_MESSAGE;

	hga_buf_clear(&e->message);
	/* a message of blanks says nothing */
	while (s < S_MESSAGE3 && slot_text(f, s).n == 0)
		s++;
	if (slot_text(f, s).n > 0)
		return hga_buf_addstr(&e->message, slot_text(f, s), err);
	if (slot_text(f, S_OAUTH_TEXT).n > 0 && speaks_oauth(op))
		return hga_buf_addstr(&e->message, slot_text(f, S_OAUTH_TEXT),
		                      err);
	if (e->status >= 300 && e->status < 400 && location.n > 0)
		return hga_buf_addf(
		    &e->message, err, "%s (not followed, to %.*s)",
		    hga_aws_reason(e->status), HGA_STRF(location));
	return hga_buf_adds(&e->message, hga_aws_reason(e->status), err);
}

static void set_ids(struct hga_aws_error *e, const struct found *f,
                    struct hga_str head)
{
	struct hga_str t = slot_text(f, S_REQID);

	if (t.n == 0)
		t = hga_aws_head_get(head, "x-amzn-requestid");
	if (t.n == 0)
		t = hga_aws_head_get(head, "x-amz-request-id");
	set_text(e->request_id, sizeof(e->request_id), t);
	t = slot_text(f, S_HOSTID);
	if (t.n == 0)
		t = hga_aws_head_get(head, "x-amz-id-2");
	set_text(e->host_id, sizeof(e->host_id), t);
}

/* ---- the modelled error ---- */

static bool fits(const struct hga_aws_svc *svc, const struct hga_img_shape *s,
                 struct hga_str code)
{
	const struct hga_img_sext *x = hga_aws_sext(svc, s);

	if (x->code != HGA_IMG_NONE &&
	    hga_str_eq(hga_aws_text(svc, x->code), code))
		return true;
	return hga_str_eq(hga_aws_text(svc, s->name), code);
}

static const struct hga_img_shape *find_shape(struct hga_aws_op op,
                                              struct hga_str code)
{
	uint32_t i;

	for (i = 0; i < op.r->errors.n; i++)
		if (fits(op.svc, hga_aws_op_error(op, i), code))
			return hga_aws_op_error(op, i);
	for (i = 0; i < op.svc->r->shapes.n; i++)
		if ((op.svc->shapes[i].flags & HGA_SF_EXCEPTION) &&
		    fits(op.svc, &op.svc->shapes[i], code))
			return &op.svc->shapes[i];
	return NULL;
}

/* An error answer whose members are being read into a tape. */
struct answer {
	struct hga_aws_op op;
	const struct hga_img_shape *shape; /* of the error or NULL */
	int status;
	struct hga_str head, body;
};

static int members_xml(const struct answer *a, bool inside, struct hga_vtape *t,
                       struct hga_err *err)
{
	struct hga_out_xml_args args = {.op = a->op,
	                                .shape = a->shape,
	                                .mode = HGA_XML_ERROR,
	                                .inside = inside,
	                                .tape = t};
	struct hga_out_xml *x = hga_out_xml_new(&args);
	int rc;

	if (x == NULL)
		return hga_fail_mem(err);
	rc = hga_out_xml_feed(x, a->body.s, a->body.n, err);
	if (rc == 0)
		rc = hga_out_xml_end(x, err);
	hga_out_xml_free(x);
	return rc;
}

static int members_json(const struct answer *a, bool inside,
                        struct hga_vtape *t, struct hga_err *err)
{
	struct hga_out_json_args args = {
	    .op = a->op, .shape = a->shape, .inside = inside, .tape = t};
	struct hga_out_json *j = hga_out_json_new(&args);
	int rc;

	if (j == NULL)
		return hga_fail_mem(err);
	rc = hga_out_json_feed(j, a->body.s, a->body.n, err);
	if (rc == 0)
		rc = hga_out_json_end(j, err);
	hga_out_json_free(j);
	return rc;
}

static int members_body(const struct answer *a, bool inside,
                        struct hga_vtape *t, struct hga_err *err)
{
	if (a->body.n > 0 && a->body.s[0] == '{')
		return members_json(a, inside, t, err);
	if (a->body.n > 0 && a->body.s[0] == '<')
		return members_xml(a, inside, t, err);
	return -HGA_PROTOCOL;
}

/* rest: members of the headers and, with body, of the body. */
static int members_rest(const struct answer *a, bool body, struct hga_vtape *t,
                        struct hga_err *err)
{
	struct hga_out_rest_args h = {.svc = a->op.svc,
	                              .shape = a->shape,
	                              .status = a->status,
	                              .head = a->head,
	                              .tape = t};
	int rc;

	(void)hga_vt_open(t, HGA_V_STRUCT, HGA_NO_NAME,
	                  hga_aws_shape_number(a->op.svc, a->shape));
	rc = hga_out_rest_head(&h, err);
	if (rc == 0 && body)
		rc = members_body(a, true, t, err);
	(void)hga_vt_close(t); /* failures stick: vt_end */
	return rc;
}

/* The members as a whole value of the fresh tape t. */
static int members_into(const struct answer *a, bool body, struct hga_vtape *t,
                        struct hga_err *err)
{
	if (a->shape == NULL)
		return -HGA_PROTOCOL;
	if (hga_out_is_rest(a->op.svc))
		return members_rest(a, body, t, err);
	return body ? members_body(a, false, t, err) : -HGA_PROTOCOL;
}

/* Tries with and without the body; -HGA_PROTOCOL: neither can be read. */
static int try_members(const struct answer *a, bool body, struct hga_vtape *out,
                       struct hga_err *err)
{
	struct hga_vtape *t = hga_vtape_new(&a->op.svc->names, MEMBERS_MAX);
	int rc;

	if (t == NULL)
		return hga_fail_mem(err);
	rc = members_into(a, body, t, err);
	if (rc == 0)
		rc = hga_out_append(out, t, err);
	hga_vtape_free(t);
	return rc;
}

/* The members, or an empty structure when they cannot be read. */
static int read_members(const struct answer *a, struct hga_vtape *out,
                        struct hga_err *err)
{
	int rc = try_members(a, true, out, err);

	if (rc < 0 && rc != -HGA_MEMORY)
		rc = try_members(a, false, out, err);
	if (rc < 0 && rc != -HGA_MEMORY) {
		(void)hga_vt_open(out, HGA_V_STRUCT, HGA_NO_NAME,
		                  hga_aws_shape_number(a->op.svc, a->shape));
		(void)hga_vt_close(out); /* failures stick: vt_end */
		rc = 0;
	}
	return rc < 0 ? rc : hga_vt_end(out, err);
}

static void set_shape(struct hga_aws_error *e, struct hga_aws_op op,
                      const struct found *f)
{
	e->shape = find_shape(op, hga_str(e->code));
	/* a code from the headers may differ from the shape's name */
	if (e->shape == NULL)
		e->shape = find_shape(op, plain_code(body_code(f)));
	if (e->shape == NULL)
		return;
	e->retryable = (e->shape->flags & HGA_SF_RETRYABLE) != 0;
	e->throttling = (e->shape->flags & HGA_SF_THROTTLING) != 0;
}

static int fill(struct hga_aws_error *e, struct hga_aws_op op, struct found *f,
                struct hga_str head, struct hga_str body, struct hga_err *err)
{
	int rc = 0;

	if (body.n > 0 && body.s[0] == '{')
		rc = read_json(f, body, err);
	else if (body.n > 0 && body.s[0] == '<' && !hga_aws_is_html(body))
		rc = read_xml(f, body, err);
	if (rc < 0)
		return rc;
	set_code(e, op, f, head);
	set_ids(e, f, head);
	set_shape(e, op, f);
	return set_message(e, op, f, head, err);
}

int hga_aws_error_read(struct hga_aws_error *e, struct hga_aws_op op,
                       int status, struct hga_str head, struct hga_str body,
                       struct hga_vtape *members, struct hga_err *err)
{
	struct answer a = {.op = op, .status = status, .head = head};
	struct found f = {.at = -1};
	size_t i;
	int rc;

	for (i = 0; i < S_COUNT; i++)
		hga_buf_init(&f.v[i], i >= S_MESSAGE && i <= S_OAUTH_TEXT
		                          ? MESSAGE_MAX
		                          : 512);
	e->status = status;
	body = hga_str_trim(body);
	a.body = body;
	rc = fill(e, op, &f, head, body, err);
	a.shape = e->shape;
	if (rc == 0 && members != NULL)
		rc = read_members(&a, members, err);
	for (i = 0; i < S_COUNT; i++)
		hga_buf_release(&f.v[i]);
	return rc;
}

void hga_aws_error_init(struct hga_aws_error *e)
{
	memset(e, 0, sizeof(*e));
	hga_buf_init(&e->message, MESSAGE_MAX);
}

void hga_aws_error_release(struct hga_aws_error *e)
{
	hga_buf_release(&e->message);
}
