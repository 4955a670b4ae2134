/*
 * Answers of a WS-Management service ([MS-WSMV] 3.1.4, DSP0226 section 13):
 * expat's events into struct hga_wsman_resp.  Elements are known by their
 * local name: the prefixes differ between hosts.
 */
#include "winrm/wsman.h"

#include "base/mem.h"
#include "base/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX ((size_t)64 * 1024 * 1024)
#define LEAVES_MAX 256u
#define STREAMS_MAX 100000u

struct parser {
	struct hga_xml *x;
	struct hga_wsman_resp *r;
	struct hga_buf text;
	unsigned depth, leaves;
	unsigned body, subcode,
	    provider; /* depth of that element, 0: outside */
	bool leaf, stream, fault_code;
	struct hga_wsman_stream s;
	struct hga_buf *out; /* of the stream s */
	struct hga_b64 b64;
};

static struct hga_str attr(const struct hga_xml_attr *a, size_t n,
                           const char *name)
{
	for (size_t i = 0; i < n; i++) {
		struct hga_str s = a[i].name;
		ptrdiff_t colon = hga_str_chr(s, ':', 0);

		if (colon >= 0)
			s = hga_strn(s.s + colon + 1, s.n - (size_t)colon - 1);
		if (hga_str_eqc(s, name))
			return a[i].value;
	}
	return hga_str(NULL);
}

static void set(char *to, size_t size, struct hga_str s)
{
	snprintf(to, size, "%.*s", HGA_STRF(hga_str_trim(s)));
}
#define SET(to, s) set(to, sizeof(to), s)

static struct hga_str after_slash(struct hga_str s)
{
	for (size_t i = s.n; i > 0; i--)
		if (s.s[i - 1] == '/')
			return hga_strn(s.s + i, s.n - i);
	return s;
}

static void start_stream(struct parser *p, const struct hga_xml_attr *a,
                         size_t n)
{
	struct hga_wsman_resp *r = p->r;

	memset(&p->s, 0, sizeof(p->s));
	memset(&p->b64, 0, sizeof(p->b64));
	p->stream = true;
	SET(p->s.name, attr(a, n, "Name"));
	p->s.end = hga_str_ieqc(attr(a, n, "End"), "true");
	p->out = &r->data;
	if (r->out != NULL && strcmp(p->s.name, "stdout") == 0)
		p->out = r->out;
	else if (r->errs != NULL && strcmp(p->s.name, "stderr") == 0)
		p->out = r->errs;
	p->s.at = p->out->len;
}

/* Only what is below Body. */
static void start_body(struct parser *p, struct hga_str name,
                       const struct hga_xml_attr *a, size_t n)
{
	struct hga_wsman_resp *r = p->r;

	if (hga_str_eqc(name, "Stream"))
		start_stream(p, a, n);
	else if (hga_str_eqc(name, "CommandState"))
		SET(r->state, after_slash(attr(a, n, "State")));
	else if (hga_str_eqc(name, "Fault"))
		r->fault = true;
	else if (hga_str_eqc(name, "Subcode") && p->subcode == 0)
		p->subcode = p->depth;
	else if (hga_str_eqc(name, "ProviderFault") && p->provider == 0) {
		p->provider = p->depth;
		SET(r->provider, attr(a, n, "provider"));
		SET(r->provider_path, attr(a, n, "path"));
	} else if (hga_str_eqc(name, "WSManFault") && !p->fault_code)
		p->fault_code = r->has_code =
		    hga_str_uint(attr(a, n, "Code"), &r->code);
	else if (hga_str_eqc(name, "Selector") &&
	         hga_str_eqc(attr(a, n, "Name"), "ShellId"))
		r->shell_id[0] = '\0'; /* its text comes */
}

static int on_start(void *data, struct hga_str name,
                    const struct hga_xml_attr *a, size_t n, struct hga_err *err)
{
	struct parser *p = data;

	(void)err;
	p->depth++;
	p->leaf = true;
	hga_buf_clear(&p->text);
	if (p->depth == 2 && hga_str_eqc(name, "Body"))
		p->body = p->depth;
	else if (p->body > 0)
		start_body(p, name, a, n);
	return p->stream ? HGA_XML_OWN : 0;
}

/* What decoding a piece of a stream gave. */
static int decoded(struct parser *p, int r, struct hga_err *err)
{
	if (r != -HGA_PROTOCOL)
		return r;
	p->r->too_much = err != NULL && strcmp(err->code, "TooLarge") == 0;
	return p->r->too_much ? r
	                      : hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
	                                 "stream is not base64");
}

static int on_text(void *data, struct hga_str text, struct hga_err *err)
{
	struct parser *p = data;
	int r;

	if (p->stream && p->leaf)
		return decoded(p, hga_b64_feed(&p->b64, p->out, text, err),
		               err);
	if (p->provider > 0 && hga_str_trim(text).n > 0 &&
	    (r = hga_buf_addstr(&p->r->provider_text, text, err)) < 0)
		return r;
	return p->leaf ? hga_buf_addstr(&p->text, text, err) : 0;
}

static int end_stream(struct parser *p, struct hga_err *err)
{
	struct hga_wsman_resp *r = p->r;
	struct hga_wsman_stream *s;
	int rc = decoded(p, hga_b64_end(&p->b64, p->out, err), err);

	p->stream = false;
	if (rc < 0 || p->out != &r->data)
		return rc;
	if ((r->n_streams & (r->n_streams - 1)) == 0) { /* a power of two */
		size_t cap = r->n_streams ? r->n_streams * 2 : 4;

		if (cap > STREAMS_MAX)
			return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
			                "answer with too many streams");
		s = hga_realloc(r->streams, cap * sizeof(*s));
		if (s == NULL)
			return hga_fail_mem(err);
		r->streams = s;
	}
	p->s.len = r->data.len - p->s.at;
	r->streams[r->n_streams++] = p->s;
	return 0;
}

static int end_fault(struct parser *p, struct hga_str name, struct hga_str text,
                     struct hga_err *err)
{
	struct hga_wsman_resp *r = p->r;

	if (hga_str_eqc(name, "Value") && p->subcode > 0)
		SET(r->subcode, text);
	else if (hga_str_eqc(name, "Text") && r->reason.len == 0)
		return hga_buf_addstr(&r->reason, text, err);
	else if (hga_str_eqc(name, "Message") && r->message.len == 0 &&
	         p->provider == 0)
		return hga_buf_addstr(&r->message, text, err);
	return 0;
}

static int add_leaf(struct parser *p, struct hga_str name, struct hga_str text,
                    struct hga_err *err)
{
	struct hga_buf *b = &p->r->leaves;
	int r = hga_buf_addstr(b, name, err);

	if (r == 0)
		r = hga_buf_addc(b, '\0', err);
	if (r == 0)
		r = hga_buf_addstr(b, text, err);
	return r < 0 ? r : hga_buf_addc(b, '\0', err);
}

static int end_leaf(struct parser *p, struct hga_str name, struct hga_err *err)
{
	struct hga_wsman_resp *r = p->r;
	struct hga_str text = hga_str_trim(hga_buf_str(&p->text));
	uint64_t code;

	if (hga_str_eqc(name, "RelatesTo"))
		SET(r->relates, text);
	if (p->body == 0)
		return 0;
	if (r->fault)
		return end_fault(p, name, text, err);
	if (hga_str_eqc(name, "ShellId") ||
	    (hga_str_eqc(name, "Selector") && r->shell_id[0] == '\0'))
		SET(r->shell_id, text);
	else if (hga_str_eqc(name, "CommandId"))
		SET(r->command_id, text);
	else if (hga_str_eqc(name, "State"))
		SET(r->shell_state, text);
	else if (hga_str_eqc(name, "ExitCode")) {
		/* Seen as -1 too: the low 32 bits count. */
		int64_t s;

		if (hga_str_uint(text, &code))
			r->exit_code = (uint32_t)code;
		else if (hga_str_int(text, &s))
			r->exit_code = (uint32_t)s;
		else
			return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
			                "exit code is not a number");
		r->has_exit = true;
	}
	return ++p->leaves > LEAVES_MAX ? 0 : add_leaf(p, name, text, err);
}

static int on_end(void *data, struct hga_str name, struct hga_err *err)
{
	struct parser *p = data;
	int r = 0;

	if (p->stream)
		r = end_stream(p, err);
	else if (p->leaf)
		r = end_leaf(p, name, err);
	if (p->depth == p->subcode)
		p->subcode = 0;
	if (p->depth == p->provider)
		p->provider = 0;
	if (p->depth == p->body)
		p->body = 0;
	p->depth--;
	p->leaf = false;
	return r;
}

void hga_wsman_resp_init(struct hga_wsman_resp *r)
{
	memset(r, 0, sizeof(*r));
	hga_buf_init(&r->data, TEXT_MAX);
	hga_buf_init(&r->leaves, 1024 * 1024);
	hga_buf_init(&r->reason, 1024 * 1024);
	hga_buf_init(&r->message, 1024 * 1024);
	hga_buf_init(&r->provider_text, 1024 * 1024);
}

static void parser_free(struct hga_wsman_resp *r)
{
	struct parser *p = r->impl;

	if (p == NULL)
		return;
	hga_xml_free(p->x);
	hga_buf_release(&p->text);
	hga_free(p);
	r->impl = NULL;
}

void hga_wsman_resp_release(struct hga_wsman_resp *r)
{
	parser_free(r);
	hga_free(r->streams);
	hga_buf_release(&r->data);
	hga_buf_release(&r->leaves);
	hga_buf_release(&r->reason);
	hga_buf_release(&r->message);
	hga_buf_release(&r->provider_text);
	memset(r, 0, sizeof(*r));
}

static int parser_new(struct hga_wsman_resp *r, struct hga_err *err)
{
	static const struct hga_xml_fns fns = {on_start, on_text, on_end};
	struct parser *p = hga_calloc(1, sizeof(*p));

	if (p == NULL)
		return hga_fail_mem(err);
	p->r = r;
	hga_buf_init(&p->text, TEXT_MAX);
	p->x = hga_xml_new(&fns, p);
	r->impl = p;
	if (p->x == NULL) {
		parser_free(r);
		return hga_fail_mem(err);
	}
	hga_xml_limit_text(p->x, TEXT_MAX);
	hga_xml_own_text(p->x);
	return 0;
}

int hga_wsman_resp_feed(struct hga_wsman_resp *r, const void *p, size_t n,
                        struct hga_err *err)
{
	struct parser *ps;

	if (r->impl == NULL) {
		int rc = parser_new(r, err);

		if (rc < 0)
			return rc;
	}
	ps = r->impl;
	return hga_xml_feed(ps->x, p, n, err);
}

int hga_wsman_resp_end(struct hga_wsman_resp *r, struct hga_err *err)
{
	struct parser *p = r->impl;
	int rc;

	if (p == NULL)
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "empty answer");
	rc = hga_xml_end(p->x, err);
	r->whole = rc == 0;
	parser_free(r);
	return rc;
}

struct hga_str hga_wsman_fault_text(const struct hga_wsman_resp *r)
{
	struct hga_str s = hga_str_trim(hga_buf_str(&r->provider_text));

	if (s.n == 0)
		s = hga_buf_str(&r->message);
	return s.n > 0 ? s : hga_buf_str(&r->reason);
}
