/*
 * Requests and answers in the log at level trace, and the removal of what
 * must not be seen.  Secrets are found by value, not by place: they vanish
 * also where a service repeats them in a message.
 */
#include "aws/trace.h"

#include "aws/client.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/redact.h"

#include <stdio.h>
#include <string.h>

enum {
	DEPTH = 64,       /* of values that are looked at */
	PIECE = 12 * 1024 /* bytes of one record: less than the log's limit */
};

#define SHOWN ((size_t)256 << 10) /* bytes of a request or an answer */
#define LABEL "aws"

/* Secret whatever the models say. */
static const char *const secret_names[] = {"UserData", "KeyMaterial",
                                           "PasswordData", "SecretAccessKey",
                                           "SessionToken"};

static bool is_secret_name(struct hga_str name)
{
	for (size_t i = 0; i < sizeof(secret_names) / sizeof(*secret_names);
	     i++) {
		if (hga_str_eqc(name, secret_names[i]))
			return true;
	}
	return false;
}

/* ---- values of sensitive members ---- */

/* Stored as length and bytes, one after the other. */
static int add_value(struct hga_buf *hidden, struct hga_str s,
                     struct hga_err *err)
{
	uint32_t n = (uint32_t)s.n; /* tapes hold no longer texts */
	int rc;

	if (s.n < HGA_REDACT_MIN)
		return 0;
	rc = hga_buf_add(hidden, &n, sizeof(n), err);
	if (rc == 0)
		rc = hga_buf_addstr(hidden, s, err);
	return rc;
}

struct walk {
	struct hga_buf *hidden;
	const struct hga_aws_svc *svc;
	struct hga_err *err;
};

/* Reference under which an entry of a container stands, or NULL. */
static const struct hga_img_member *reference(const struct walk *w,
                                              const struct hga_img_shape *s,
                                              struct hga_str name)
{
	switch (s->type) {
	case HGA_T_STRUCT:
		return hga_aws_member_find(w->svc, s, name);
	case HGA_T_LIST:
		return hga_aws_member(w->svc, s, 0);
	case HGA_T_MAP:
		return hga_aws_member(w->svc, s, 1);
	default:
		return NULL;
	}
}

static int walk(const struct walk *w, const struct hga_img_shape *s,
                struct hga_val v, bool secret, int depth)
{
	enum hga_vtype t = hga_val_type(v);
	int rc = 0;

	secret = secret || (s != NULL && (s->flags & HGA_SF_SENSITIVE) != 0);
	if (t == HGA_V_STR || t == HGA_V_BLOB)
		return secret ? add_value(w->hidden, hga_val_str(v), w->err)
		              : 0;
	if (depth == 0 || (s == NULL && !secret) ||
	    (t != HGA_V_LIST && t != HGA_V_MAP && t != HGA_V_STRUCT))
		return 0;
	for (struct hga_vit it = hga_val_first(v); hga_val_more(it) && rc == 0;
	     it = hga_val_next(it)) {
		struct hga_str name = hga_vit_name(&it);
		const struct hga_img_member *m =
		    s != NULL ? reference(w, s, name) : NULL;
		bool here = secret || is_secret_name(name) ||
		            (m != NULL && (m->flags & HGA_MF_SENSITIVE) != 0);

		rc = walk(w, m != NULL ? hga_aws_shape(w->svc, m->shape) : NULL,
		          hga_vit_val(it), here, depth - 1);
	}
	return rc;
}

int aws_hidden_add(struct hga_buf *hidden, const struct hga_aws_svc *svc,
                   uint16_t shape, struct hga_val v, struct hga_err *err)
{
	const struct walk w = {hidden, svc, err};

	return walk(&w, hga_aws_shape(svc, shape), v, false, DEPTH);
}

/* ---- removal ---- */

static int add_all(struct hga_redact *r, const struct hga_buf *hidden,
                   struct hga_err *err)
{
	size_t at = 0;
	uint32_t n;

	while (at + sizeof(n) <= hidden->len) {
		struct hga_str s;
		int rc;

		memcpy(&n, hidden->data + at, sizeof(n));
		s = hga_strn(hidden->data + at + sizeof(n), n);
		at += sizeof(n) + n;
		rc = hga_redact_add(r, s, err);
		/* Nothing that long stands in a line of the log. */
		if (rc < 0 && rc != -HGA_USAGE)
			return rc;
	}
	return 0;
}

static int hide_values(const struct hga_buf *hidden, struct hga_str text,
                       struct hga_buf *out, struct hga_err *err)
{
	struct hga_redact *r;
	int rc;

	if (hidden->len == 0)
		return hga_buf_addstr(out, text, err);
	r = hga_redact_new();
	if (r == NULL)
		return hga_fail_mem(err);
	rc = add_all(r, hidden, err);
	if (rc == 0)
		rc = hga_redact_text(r, text, out, err);
	hga_redact_free(r);
	return rc;
}

/* Signatures of presigned URLs, as they are or percent-encoded. */
static int hide_signatures(struct hga_str text, struct hga_buf *out,
                           struct hga_err *err)
{
	const struct hga_str mark = HGA_STR("X-Amz-Signature");
	int rc = 0;

	while (rc == 0 && text.n > 0) {
		ptrdiff_t at = hga_str_find(text, mark);
		size_t n = at < 0 ? text.n : (size_t)at + mark.n;

		rc = hga_buf_add(out, text.s, n, err);
		text = hga_strn(text.s + n, text.n - n);
		if (at < 0 || rc < 0)
			return rc;
		for (n = 0;
		     n < text.n && n < 80 &&
		     strchr("=%3Dd0123456789abcdef", text.s[n]) != NULL &&
		     text.s[n] != '\0';)
			n++;
		if (n > 0)
			rc = hga_buf_adds(out, "=***", err);
		text = hga_strn(text.s + n, text.n - n);
	}
	return rc;
}

static int escape(struct hga_str text, struct hga_buf *out, struct hga_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < text.n && rc == 0; i++) {
		unsigned char b = (unsigned char)text.s[i];

		if ((b < 0x20 && b != '\n' && b != '\t') || b == 0x7f)
			rc = hga_buf_addf(out, err, "\\x%02x", b);
		else
			rc = hga_buf_addc(out, (char)b, err);
	}
	return rc;
}

int aws_hide(const struct hga_buf *hidden, struct hga_str text,
             struct hga_buf *out, struct hga_err *err)
{
	struct hga_buf a, b;
	int rc;

	hga_buf_init(&a, 8 * text.n + 4096);
	hga_buf_init(&b, 8 * text.n + 4096);
	rc = hide_values(hidden, text, &a, err);
	if (rc == 0)
		rc =
		    hga_redact_text(hga_log_redact(), hga_buf_str(&a), &b, err);
	hga_buf_clear(&a);
	if (rc == 0)
		rc = hga_redact_shapes(hga_buf_str(&b), &a, err);
	hga_buf_clear(&b);
	if (rc == 0)
		rc = hide_signatures(hga_buf_str(&a), &b, err);
	if (rc == 0)
		rc = escape(hga_buf_str(&b), out, err);
	hga_buf_release_secret(&a);
	hga_buf_release_secret(&b);
	return rc;
}

/* ---- records ---- */

/* A long text in several records, cut at line ends where there are any. */
static void say(struct hga_str text)
{
	while (text.n > 0) {
		size_t n = text.n < PIECE ? text.n : PIECE;
		size_t cut = n;

		if (n < text.n) {
			while (cut > n / 2 && text.s[cut - 1] != '\n')
				cut--;
			if (cut == n / 2)
				cut = n;
		}
		hga_log_text(HGA_LOG_TRACE, LABEL, hga_strn(text.s, cut));
		text = hga_strn(text.s + cut, text.n - cut);
	}
}

/* Hides in one go: no secret is cut in two. */
static void say_hidden(const struct hga_buf *hidden, struct hga_str text,
                       bool whole)
{
	struct hga_buf out;

	hga_buf_init(&out, 16 * SHOWN);
	if (aws_hide(hidden, text, &out, NULL) == 0)
		say(hga_buf_str(&out));
	else
		hga_log_text(HGA_LOG_TRACE, LABEL,
		             HGA_STR("(not shown: out of memory)"));
	if (!whole)
		hga_log_text(HGA_LOG_TRACE, LABEL,
		             HGA_STR("(the rest is too long to show)"));
	hga_buf_release(&out);
}

static bool is_secret_header(struct hga_str name)
{
	static const char *const list[] = {"authorization",
	                                   "x-amz-security-token",
	                                   "dpop",
	                                   "x-amz-sso_bearer_token",
	                                   "x-aws-ec2-metadata-token",
	                                   "proxy-authorization",
	                                   "cookie",
	                                   "set-cookie"};

	for (size_t i = 0; i < sizeof(list) / sizeof(*list); i++) {
		if (hga_str_ieqc(name, list[i]))
			return true;
	}
	return false;
}

static int add_header(struct hga_buf *b, struct hga_str name,
                      struct hga_str value)
{
	if (is_secret_header(name))
		value = HGA_STR("***");
	/* Whole: half a secret would not be recognised. */
	if (hga_buf_addstr(b, name, NULL) < 0 ||
	    hga_buf_adds(b, ": ", NULL) < 0 ||
	    hga_buf_addstr(b, value, NULL) < 0)
		return -HGA_MEMORY;
	return hga_buf_addc(b, '\n', NULL);
}

/* The content, or only its size where it is too long. */
static int add_body(struct hga_buf *b, struct hga_str body)
{
	if (body.n > SHOWN / 2)
		return hga_buf_addf(b, NULL, "\n(%zu bytes)", body.n);
	if (body.n == 0)
		return 0;
	if (hga_buf_addc(b, '\n', NULL) < 0)
		return -HGA_MEMORY;
	return hga_buf_addstr(b, body, NULL);
}

void aws_trace_request(const struct hga_aws_call *c,
                       const struct hga_sign_trace *sign)
{
	const struct hga_aws_pairs *h = &c->req.headers;
	struct hga_buf b;
	int rc;

	hga_buf_init(&b, SHOWN);
	rc = hga_buf_addf(&b, NULL, "> %s %s%s%s\nHost: %s\n", c->req.method,
	                  hga_buf_text(&c->req.path),
	                  c->req.query.len > 0 ? "?" : "",
	                  hga_buf_text(&c->req.query), c->host->name);
	for (size_t i = 0; i < h->n && rc == 0; i++)
		rc = add_header(&b, hga_str(h->v[i].name),
		                hga_str(h->v[i].value));
	if (rc == 0)
		rc = add_body(&b, hga_buf_str(&c->req.body));
	say_hidden(&c->hidden, hga_buf_str(&b), rc == 0);
	hga_buf_clear(&b);
	if (sign != NULL && hga_buf_addf(&b, NULL, "canonical request\n%s",
	                                 hga_buf_text(&sign->canonical)) == 0)
		say_hidden(&c->hidden, hga_buf_str(&b), true);
	hga_buf_release_secret(&b);
}

/* Does an answer of this shape hold secrets?  seen: shapes looked at. */
static bool has_secrets(const struct hga_aws_svc *svc, uint16_t number,
                        unsigned char *seen, int depth)
{
	const struct hga_img_shape *s = hga_aws_shape(svc, number);

	if (s == NULL || seen[number] != 0)
		return false;
	seen[number] = 1;
	if ((s->flags & HGA_SF_SENSITIVE) != 0 || depth == 0)
		return true;
	if (s->type != HGA_T_STRUCT && s->type != HGA_T_LIST &&
	    s->type != HGA_T_MAP)
		return false;
	for (uint32_t i = 0; i < s->members.n; i++) {
		const struct hga_img_member *m = hga_aws_member(svc, s, i);

		if ((m->flags & HGA_MF_SENSITIVE) != 0 ||
		    is_secret_name(hga_aws_text(svc, m->name)) ||
		    has_secrets(svc, m->shape, seen, depth - 1))
			return true;
	}
	return false;
}

static bool answer_has_secrets(const struct hga_aws_call *c)
{
	unsigned char *seen = hga_calloc(c->op.svc->r->shapes.n + 1, 1);
	bool has = seen == NULL ||
	           has_secrets(c->op.svc, c->op.r->output, seen, DEPTH);

	hga_free(seen);
	return has;
}

/* What cannot be read cannot be cleaned either. */
static bool may_show(struct hga_aws_call *c, bool whole, struct hga_buf *hidden)
{
	if (hga_buf_add(hidden, c->hidden.data, c->hidden.len, NULL) < 0)
		return false;
	if (!whole)
		return !answer_has_secrets(c);
	return aws_hidden_add(hidden, c->op.svc, c->op.r->output,
	                      hga_vtape_root(c->tape), NULL) == 0;
}

void aws_trace_answer(struct hga_aws_call *c, bool whole)
{
	struct hga_str head = hga_buf_str(&c->http.head);
	struct hga_buf b, hidden;
	int rc;

	hga_buf_init(&b, SHOWN);
	hga_buf_init(&hidden, (size_t)64 << 20);
	rc = hga_buf_addf(&b, NULL, "< %d, %lld bytes\n", c->http.status,
	                  (long long)c->http.received);
	while (head.n > 0 && rc == 0) {
		ptrdiff_t nl = hga_str_chr(head, '\n', 0);
		struct hga_str line =
		    hga_strn(head.s, nl < 0 ? head.n : (size_t)nl);
		ptrdiff_t colon = hga_str_chr(line, ':', 0);

		if (colon > 0)
			rc = add_header(
			    &b, hga_strn(line.s, (size_t)colon),
			    hga_str_trim(hga_strn(line.s + colon + 1,
			                          line.n - (size_t)colon - 1)));
		head = hga_strn(head.s + line.n, head.n - line.n);
		if (nl >= 0)
			head = hga_strn(head.s + 1, head.n - 1);
	}
	if (rc == 0 && may_show(c, whole, &hidden))
		rc = add_body(&b, hga_aws_out_kept(c->out));
	else if (rc == 0)
		rc = hga_buf_adds(&b, "\n(not shown: may hold secrets)", NULL);
	say_hidden(&hidden, hga_buf_str(&b), rc == 0);
	hga_buf_release_secret(&b);
	hga_buf_release_secret(&hidden);
}
