/*
 * Envelopes and calls of WS-Management ([MS-WSMV] 2.2, DSP0226 section 5).
 */
#include "winrm/wsman.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/xml.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENVELOPE 153600u
#define MAX_ANSWER ((size_t)16 * 1024 * 1024)
#define CONNECT_MS 10000
#define OPERATION_MS 20000
#define DAY_MS ((int64_t)24 * 3600 * 1000)
#define UNSENT_TRIES 3u
#define SAME_TRIES 5u
/* Of an answer's memory that is kept; the largest envelope's data fits. */
#define SPARE_MAX ((size_t)4 * 1024 * 1024)

#define NS_ADDRESSING "http://schemas.xmlsoap.org/ws/2004/08/addressing"
#define NS_TRANSFER "http://schemas.xmlsoap.org/ws/2004/09/transfer"

/* ---- envelopes ---- */

static const char *action_uri(enum hga_wsman_action a)
{
	switch (a) {
	case HGA_WSMAN_GET:
		return NS_TRANSFER "/Get";
	case HGA_WSMAN_CREATE:
		return NS_TRANSFER "/Create";
	case HGA_WSMAN_DELETE:
		return NS_TRANSFER "/Delete";
	case HGA_WSMAN_COMMAND:
		return HGA_WSMAN_NS_SHELL "/Command";
	case HGA_WSMAN_SEND:
		return HGA_WSMAN_NS_SHELL "/Send";
	case HGA_WSMAN_RECEIVE:
		return HGA_WSMAN_NS_SHELL "/Receive";
	case HGA_WSMAN_SIGNAL:
		return HGA_WSMAN_NS_SHELL "/Signal";
	}
	return "";
}

static int put_options(const struct hga_wsman_req *req, struct hga_buf *out,
                       struct hga_err *err)
{
	int r = 0;

	if (req->n_options == 0)
		return 0;
	r = hga_buf_adds(out, "<wsman:OptionSet s:mustUnderstand=\"true\">",
	                 err);
	for (size_t i = 0; i < req->n_options && r == 0; i++) {
		const struct hga_wsman_option *o = &req->options[i];

		r = hga_buf_addf(out, err, "<wsman:Option Name=\"%s\"%s>",
		                 o->name,
		                 o->must ? " MustComply=\"true\"" : "");
		if (r == 0)
			r = hga_xml_escape(out, o->value, err);
		if (r == 0)
			r = hga_buf_adds(out, "</wsman:Option>", err);
	}
	return r < 0 ? r : hga_buf_adds(out, "</wsman:OptionSet>", err);
}

static int put_shell(const struct hga_wsman_req *req, struct hga_buf *out,
                     struct hga_err *err)
{
	int r;

	if (req->shell.n == 0)
		return 0;
	r = hga_buf_adds(
	    out, "<wsman:SelectorSet><wsman:Selector Name=\"ShellId\">", err);
	if (r == 0)
		r = hga_xml_escape(out, req->shell, err);
	return r < 0 ? r
	             : hga_buf_adds(
	                   out, "</wsman:Selector></wsman:SelectorSet>", err);
}

static int put_head(const struct hga_wsman_head *h,
                    const struct hga_wsman_req *req, const char *id,
                    struct hga_buf *out, struct hga_err *err)
{
	int r = hga_buf_addf(
	    out, err,
	    "<s:Header><wsa:Action s:mustUnderstand=\"true\">%s</wsa:Action>"
	    "<wsmv:DataLocale s:mustUnderstand=\"false\" xml:lang=\"en-US\"/>"
	    "<wsman:Locale s:mustUnderstand=\"false\" xml:lang=\"en-US\"/>"
	    "<wsman:MaxEnvelopeSize s:mustUnderstand=\"true\">%zu"
	    "</wsman:MaxEnvelopeSize>"
	    "<wsa:MessageID>uuid:%s</wsa:MessageID>"
	    "<wsman:OperationTimeout>PT%lld.%03dS</wsman:OperationTimeout>"
	    "<wsa:ReplyTo><wsa:Address s:mustUnderstand=\"true\">" NS_ADDRESSING
	    "/role/anonymous</wsa:Address></wsa:ReplyTo>"
	    "<wsman:ResourceURI s:mustUnderstand=\"true\">%.*s"
	    "</wsman:ResourceURI>"
	    "<wsmv:SessionId s:mustUnderstand=\"false\">uuid:%.*s"
	    "</wsmv:SessionId><wsa:To>",
	    action_uri(req->action),
	    req->envelope > 0 ? req->envelope : h->envelope, id,
	    (long long)(h->operation_ms / 1000), (int)(h->operation_ms % 1000),
	    HGA_STRF(req->resource), HGA_STRF(h->session_id));

	if (r == 0)
		r = hga_xml_escape(out, h->to, err);
	if (r == 0)
		r = hga_buf_adds(out, "</wsa:To>", err);
	if (r == 0)
		r = put_options(req, out, err);
	if (r == 0)
		r = put_shell(req, out, err);
	return r < 0 ? r : hga_buf_adds(out, "</s:Header>", err);
}

int hga_wsman_envelope(const struct hga_wsman_head *h,
                       const struct hga_wsman_req *req, const char *message_id,
                       struct hga_buf *out, struct hga_err *err)
{
	int r = hga_buf_adds(
	    out,
	    "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" "
	    "xmlns:wsa=\"" NS_ADDRESSING "\" xmlns:wsman=\""
	    "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" xmlns:wsmv=\""
	    "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" "
	    "xmlns:rsp=\"" HGA_WSMAN_NS_SHELL "\">",
	    err);

	if (r == 0)
		r = put_head(h, req, message_id, out, err);
	if (r == 0)
		r = hga_buf_adds(out, "<s:Body>", err);
	if (r == 0)
		r = hga_buf_addstr(out, hga_buf_str(&req->body), err);
	return r < 0 ? r : hga_buf_adds(out, "</s:Body></s:Envelope>", err);
}

/* ---- sessions ---- */

struct hga_wsman {
	struct hga_loop *loop;
	struct hga_wsman_head head;
	struct hga_wsman_stats stats;
	char *url, *peer, *connect_to, *ca, *pin;
	struct hga_buf auth;  /* "Basic ..." */
	struct hga_buf spare; /* memory of a former answer */
	char session_id[37];
	bool insecure;
	int64_t connect_ms;
};

static void upper(char *s)
{
	for (; *s != '\0'; s++)
		*s = (char)toupper((unsigned char)*s);
}

static int new_uuid(char out[37], struct hga_err *err)
{
	int r = hga_uuid(out, err);

	if (r == 0)
		upper(out);
	return r;
}

static bool is_loopback(const char *host)
{
	return strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0;
}

static int check_opts(const struct hga_wsman_opts *o, struct hga_err *err)
{
	if (o->host == NULL || o->host[0] == '\0')
		return hga_fail(err, HGA_USAGE, 0, "MissingOption",
		                "winrm: host is missing");
	if (o->port < 1 || o->port > 65535)
		return hga_fail(err, HGA_USAGE, 0, "OptionValue",
		                "winrm: port must be 1 to 65535");
	if (o->user.n == 0 || memchr(o->user.s, ':', o->user.n) != NULL)
		return hga_fail(err, HGA_USAGE, 0, "OptionValue",
		                "winrm: user must be a name without a colon");
	if (!o->https && !o->allow_plaintext)
		return hga_fail(err, HGA_USAGE, 0, "Plaintext",
		                "winrm: plain HTTP would show the password to "
		                "the network; use TLS or allow_plaintext");
	if (o->insecure && !is_loopback(o->host))
		return hga_fail(err, HGA_USAGE, 0, "Insecure",
		                "winrm: insecure is for 127.0.0.0/8 only");
	if (o->https && o->ca == NULL && o->pin == NULL && !o->insecure)
		return hga_fail(err, HGA_USAGE, 0, "TlsIdentity",
		                "winrm: tls needs the machine's certificate "
		                "(ca) or the pin of its key");
	return 0;
}

static int copy(char **to, const char *s, struct hga_err *err)
{
	if (s == NULL)
		return 0;
	*to = hga_strdup(s);
	return *to == NULL ? hga_fail_mem(err) : 0;
}

static int format(char **to, struct hga_err *err, const char *fmt, ...)
    HGA_PRINTF(3, 4);
static int format(char **to, struct hga_err *err, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return copy(to, text, err);
}

/* The URL names the certificate's name; the address goes beside it. */
static int set_address(struct hga_wsman *s, const struct hga_wsman_opts *o,
                       struct hga_err *err)
{
	bool named = o->https && o->ca != NULL && o->name != NULL;
	bool v6 = strchr(o->host, ':') != NULL && o->host[0] != '[';
	const char *l = v6 ? "[" : "", *r = v6 ? "]" : "";
	int rc = format(&s->peer, err, "%s%s%s:%d", l, o->host, r, o->port);

	if (rc == 0)
		rc = format(&s->url, err, "%s://%s:%d/wsman",
		            o->https ? "https" : "http",
		            named ? o->name : o->host, o->port);
	if (rc == 0 && v6 && !named) {
		hga_free(s->url);
		s->url = NULL;
		rc = format(&s->url, err, "%s://%s/wsman",
		            o->https ? "https" : "http", s->peer);
	}
	if (rc == 0 && named)
		rc = format(&s->connect_to, err, "::%s", s->peer);
	return rc;
}

int hga_wsman_account(struct hga_wsman *s, struct hga_str user,
                      struct hga_str password, struct hga_err *err)
{
	struct hga_buf plain;
	int r;

	hga_buf_init(&plain, 65536);
	hga_buf_release_secret(&s->auth);
	r = hga_buf_addstr(&plain, user, err);
	if (r == 0)
		r = hga_buf_addc(&plain, ':', err);
	if (r == 0)
		r = hga_buf_addstr(&plain, password, err);
	if (r == 0)
		r = hga_buf_adds(&s->auth, "Basic ", err);
	if (r == 0)
		r = hga_b64_encode(&s->auth, plain.data, plain.len, err);
	hga_buf_release_secret(&plain);
	return r;
}

static int fill(struct hga_wsman *s, const struct hga_wsman_opts *o,
                struct hga_err *err)
{
	int r = set_address(s, o, err);

	if (r == 0)
		r = copy(&s->ca, o->ca, err);
	if (r == 0)
		r = copy(&s->pin, o->pin, err);
	if (r == 0)
		r = new_uuid(s->session_id, err);
	if (r == 0)
		r = hga_wsman_account(s, o->user, o->password, err);
	if (r < 0)
		return r;
	s->insecure = o->insecure;
	s->connect_ms = o->connect_ms > 0 ? o->connect_ms : CONNECT_MS;
	s->head.to = hga_str(s->url);
	s->head.session_id = hga_str(s->session_id);
	s->head.envelope = o->envelope > 0 ? o->envelope : ENVELOPE;
	s->head.operation_ms =
	    o->operation_ms > 0 ? o->operation_ms : OPERATION_MS;
	return 0;
}

int hga_wsman_open(struct hga_loop *loop, const struct hga_wsman_opts *opts,
                   struct hga_wsman **out, struct hga_err *err)
{
	struct hga_wsman *s;
	int r = check_opts(opts, err);

	if (r < 0)
		return r;
	s = hga_calloc(1, sizeof(*s));
	if (s == NULL)
		return hga_fail_mem(err);
	s->loop = loop;
	hga_buf_init(&s->auth, 128 * 1024);
	r = fill(s, opts, err);
	if (r < 0)
		hga_wsman_close(s);
	else
		*out = s;
	return r;
}

void hga_wsman_close(struct hga_wsman *s)
{
	if (s == NULL)
		return;
	hga_buf_release_secret(&s->auth);
	hga_buf_release(&s->spare);
	hga_free(s->url);
	hga_free(s->peer);
	hga_free(s->connect_to);
	hga_free(s->ca);
	hga_free(s->pin);
	hga_free(s);
}

const char *hga_wsman_peer(const struct hga_wsman *s)
{
	return s->peer;
}

const struct hga_wsman_head *hga_wsman_head(const struct hga_wsman *s)
{
	return &s->head;
}

const struct hga_wsman_stats *hga_wsman_stats(const struct hga_wsman *s)
{
	return &s->stats;
}

/* ---- one call ---- */

struct call {
	struct hga_wsman_call *c;
	struct hga_wsman *s;
	struct hga_http http;
	struct hga_timer again;
	struct hga_buf envelope;
	char id[37];
	enum hga_wsman_action action;
	bool repeatable;
	size_t max;
	struct hga_err bad;       /* why the body is not XML */
	size_t had_out, had_errs; /* in the caller's buffers before */
	unsigned unsent, same;
};

static void call_free(struct call *k)
{
	hga_timer_stop(k->s->loop, &k->again);
	hga_http_release(&k->http);
	hga_buf_release_secret(&k->envelope);
	hga_free(k);
}

static int sink(void *data, const void *p, size_t n, struct hga_err *err)
{
	struct call *k = data;

	k->s->stats.bytes_in += n;
	if ((uint64_t)k->http.received + n > k->max)
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "answer larger than %zu bytes", k->max);
	/* What is no XML may be an error page: it is read to its end. */
	if (k->bad.kind == HGA_OK &&
	    hga_wsman_resp_feed(&k->c->resp, p, n, &k->bad) == -HGA_MEMORY)
		return hga_fail_mem(err);
	return 0;
}

/* Memory changes its owner, limits stay. */
static void swap(struct hga_buf *a, struct hga_buf *b)
{
	struct hga_buf t = *a;

	*a = *b;
	a->max = t.max;
	t.max = b->max;
	*b = t;
}

/* What an answer that does not count has left there. */
static void take_back(struct call *k)
{
	if (k->c->out != NULL)
		hga_buf_truncate(k->c->out, k->had_out);
	if (k->c->errs != NULL)
		hga_buf_truncate(k->c->errs, k->had_errs);
}

static int send_now(struct call *k, struct hga_err *err);

static void on_again(struct hga_timer *t)
{
	struct call *k = t->data;

	struct hga_wsman_call *c = k->c;

	if (send_now(k, &c->base.err) == 0)
		return;
	c->impl = NULL;
	call_free(k);
	hga_op_finish(&c->base);
}

/* Tries once more after a while; false: there is no memory for the timer. */
static bool again(struct call *k, unsigned n)
{
	int64_t ms = (int64_t)500 << (n - 1);
	unsigned char dice = 0;

	if (ms > 8000)
		ms = 8000;
	if (hga_random(&dice, 1, NULL) < 0)
		dice = 0; /* no jitter then */
	k->s->stats.retries++;
	return hga_timer_start(k->s->loop, &k->again, ms / 2 + ms * dice / 512,
	                       NULL) == 0;
}

static bool is_read_loss(const struct hga_err *e)
{
	return e->kind == HGA_NET ||
	       (e->kind == HGA_TIMEOUT && strcmp(e->code, "Idle") == 0);
}

/* The transfer failed: once more? */
static bool retry_lost(struct call *k, const struct hga_err *e)
{
	bool lost = e->kind == HGA_NET || e->kind == HGA_TIMEOUT;

	if (lost && !k->http.sent && strcmp(e->code, "LocalOnly") != 0)
		return ++k->unsent < UNSENT_TRIES && again(k, k->unsent);
	if (k->repeatable && is_read_loss(e) && !k->http.got_any)
		return ++k->same <= SAME_TRIES && again(k, k->same);
	return false;
}

static int tls_err(struct call *k, const struct hga_err *e, struct hga_err *err)
{
	if (strcmp(e->code, "Pin") == 0)
		return hga_fail(err, HGA_AUTH, 0, "TlsIdentity",
		                "%s: public key differs from the pin",
		                k->s->peer);
	return hga_fail(err, HGA_AUTH, 0, "TlsIdentity",
	                "%s: certificate is not the one made for this "
	                "machine, or no longer valid: %s",
	                k->s->peer, e->msg);
}

static int lost_err(struct call *k, const struct hga_err *e,
                    struct hga_err *err)
{
	if (e->kind == HGA_AUTH)
		return tls_err(k, e, err);
	if (e->kind != HGA_NET && e->kind != HGA_TIMEOUT) {
		*err = *e;
		return -(int)e->kind;
	}
	if (!k->http.sent)
		return hga_fail(err, HGA_NET, 0, "Connect", "%s", e->msg);
	if (e->kind == HGA_TIMEOUT)
		return hga_fail(err, HGA_TIMEOUT, 0, "Response", "%s", e->msg);
	return hga_fail(err, HGA_NET, 0, "ConnectionLost",
	                "%s; the command may have run", e->msg);
}

static int fault_err(struct call *k, struct hga_err *err)
{
	struct hga_wsman_resp *r = &k->c->resp;
	struct hga_str text = hga_wsman_fault_text(r);

	if (text.n > 300)
		text.n = 300;
	if (r->has_code && r->code == HGA_WSMAN_ACCESS_DENIED)
		return hga_fail(err, HGA_AUTH, 0, "AccessDenied",
		                "%s: access denied: %.*s", k->s->peer,
		                HGA_STRF(text));
	if (r->has_code)
		return hga_fail(err, HGA_REMOTE, 0, "WSManFault",
		                "fault %llu (0x%08llX): %.*s",
		                (unsigned long long)r->code,
		                (unsigned long long)r->code, HGA_STRF(text));
	return hga_fail(err, HGA_REMOTE, 0, "WSManFault", "fault %s: %.*s",
	                r->subcode, HGA_STRF(text));
}

static bool relates(const struct call *k)
{
	struct hga_str s = hga_str(k->c->resp.relates);
	ptrdiff_t colon = hga_str_chr(s, ':', 0);

	if (colon >= 0)
		s = hga_strn(s.s + colon + 1, s.n - (size_t)colon - 1);
	return hga_str_ieqc(s, k->id);
}

/* A whole answer: what does it say? */
static int judge(struct call *k, struct hga_err *err)
{
	struct hga_wsman_resp *r = &k->c->resp;
	int status = k->http.status;

	if (k->bad.kind == HGA_OK && !r->whole)
		r->whole = hga_wsman_resp_end(r, &k->bad) == 0;
	if (status == 401)
		return hga_fail(err, HGA_AUTH, 0, "Unauthorized",
		                "%s: user or password wrong, or the machine "
		                "was armed without Basic over HTTPS",
		                k->s->peer);
	if (r->whole && r->fault) {
		r->timed_out = k->action == HGA_WSMAN_RECEIVE && r->has_code &&
		               r->code == HGA_WSMAN_TIMED_OUT;
		return r->timed_out ? 0 : fault_err(k, err);
	}
	if (r->too_much)
		return hga_fail(err, HGA_REMOTE, 0, "OutputTooLarge",
		                "winrm: %s of output; use on_stdout and "
		                "collect=false",
		                k->bad.msg);
	if (status != 200)
		return hga_fail(err, HGA_REMOTE, 0, "Http",
		                "%s answered with HTTP status %d%s", k->s->peer,
		                status,
		                status == 503   ? " (not ready yet)"
		                : status == 404 ? " (no WinRM at this path)"
		                                : "");
	if (!r->whole)
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "answer of %s: %s", k->s->peer, k->bad.msg);
	if (!relates(k))
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "answer of %s belongs to another request",
		                k->s->peer);
	return 0;
}

static bool simulated(const struct hga_http *h)
{
	struct hga_str s = hga_http_header(h, "server", 0);

	return s.s != NULL && hga_str_starts(s, "hgauto-simulated");
}

static void on_http(struct hga_op *op)
{
	struct hga_http *h = (struct hga_http *)op;
	struct call *k =
	    (struct call *)(void *)((char *)h - offsetof(struct call, http));
	struct hga_wsman_call *c = k->c;

	c->sent = c->sent || h->sent;
	c->status = h->status;
	if (op->err.kind != HGA_OK) {
		if (retry_lost(k, &op->err))
			return;
		(void)lost_err(k, &op->err, &c->base.err); /* err tells */
	} else {
		c->resp.simulated = simulated(h);
		if (judge(k, &c->base.err) < 0 && k->repeatable &&
		    h->status == 503 && ++k->same <= SAME_TRIES &&
		    again(k, k->same))
			return;
	}
	if (c->base.err.kind != HGA_OK)
		take_back(k);
	c->impl = NULL;
	call_free(k); /* before: the owner may close the session now */
	hga_op_finish(&c->base);
}

static int send_now(struct call *k, struct hga_err *err)
{
	struct hga_wsman *s = k->s;
	const struct hga_http_hdr headers[] = {
	    {HGA_STR("Content-Type"),
	     HGA_STR("application/soap+xml;charset=UTF-8")},
	    {HGA_STR("Accept-Encoding"), HGA_STR("identity")},
	    {HGA_STR("User-Agent"), HGA_STR("hgauto/" HGA_VERSION)},
	    {HGA_STR("Authorization"), hga_buf_str(&s->auth)},
	};
	struct hga_http_args a = {
	    .method = "POST",
	    .url = s->url,
	    .headers = headers,
	    .n_headers = sizeof(headers) / sizeof(headers[0]),
	    .body = k->envelope.data,
	    .body_len = k->envelope.len,
	    .has_body = true,
	    .repeatable = k->repeatable,
	    .connect_ms = s->connect_ms,
	    .idle_ms = s->head.operation_ms + 10000,
	    .total_ms = DAY_MS, /* silence ends it, or the caller */
	    .ca_pem = s->ca,
	    .pin = s->pin,
	    .connect_to = s->connect_to,
	    /* A pin alone is the identity; a name proves nothing then. */
	    .no_verify = s->insecure || (s->ca == NULL && s->pin != NULL),
	    .sink = sink,
	    .data = k,
	};

	hga_http_release(&k->http);
	memset(&k->http, 0, sizeof(k->http));
	memset(&k->bad, 0, sizeof(k->bad));
	k->http.base.done = on_http;
	hga_wsman_resp_release(&k->c->resp);
	hga_wsman_resp_init(&k->c->resp);
	take_back(k);
	k->c->resp.out = k->c->out;
	k->c->resp.errs = k->c->errs;
	if (s->spare.cap > 0)
		swap(&s->spare, &k->c->resp.data);
	k->c->base.err.kind = HGA_OK;
	k->c->attempts++;
	s->stats.requests++;
	s->stats.bytes_out += k->envelope.len;
	return hga_http_start(s->loop, &k->http, &a, err);
}

static void cancel(struct hga_op *op)
{
	struct hga_wsman_call *c = (struct hga_wsman_call *)op;
	struct call *k = c->impl;

	hga_op_drop(op);
	c->impl = NULL;
	if (k == NULL)
		return;
	take_back(k);
	call_free(k);
}

int hga_wsman_call_start(struct hga_wsman *s, struct hga_wsman_call *c,
                         struct hga_wsman_req *req, struct hga_err *err)
{
	struct call *k = hga_calloc(1, sizeof(*k));
	size_t envelope = req->envelope > 0 ? req->envelope : s->head.envelope;
	int r = k == NULL ? hga_fail_mem(err) : 0;

	if (r == 0) {
		k->c = c;
		k->s = s;
		k->action = req->action;
		k->repeatable = req->action == HGA_WSMAN_RECEIVE ||
		                req->action == HGA_WSMAN_GET;
		k->had_out = c->out != NULL ? c->out->len : 0;
		k->had_errs = c->errs != NULL ? c->errs->len : 0;
		k->max = envelope > MAX_ANSWER / 2 ? 2 * envelope : MAX_ANSWER;
		k->again.fn = on_again;
		k->again.data = k;
		hga_buf_init(&k->envelope, (size_t)64 * 1024 * 1024);
		hga_wsman_resp_init(&c->resp);
		c->attempts = 0;
		c->sent = false;
		c->status = 0;
		r = new_uuid(k->id, err);
		if (r == 0)
			r = hga_wsman_envelope(&s->head, req, k->id,
			                       &k->envelope, err);
		if (r == 0)
			r = send_now(k, err);
		if (r < 0)
			call_free(k);
	}
	hga_buf_release_secret(&req->body);
	if (r < 0)
		return r;
	c->impl = k;
	hga_op_begin(&c->base, cancel);
	return 0;
}

void hga_wsman_reuse(struct hga_wsman *s, struct hga_wsman_call *c)
{
	if (c->resp.data.cap > SPARE_MAX || c->resp.data.cap <= s->spare.cap)
		return;
	swap(&s->spare, &c->resp.data);
	hga_buf_clear(&s->spare);
}

void hga_wsman_call_release(struct hga_wsman_call *c)
{
	hga_op_cancel(&c->base);
	hga_wsman_resp_release(&c->resp);
}
