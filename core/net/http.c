/*
 * One HTTP request over libcurl (AWS client specification section 11).
 *
 * Deadlines are timers of our own, so that each kind of silence has its own
 * code; libcurl only gets the connection timeout, which it divides among
 * addresses.
 */
#include "net/http.h"

#include "base/mem.h"
#include "net/xfer.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER 65536L
#define MAX_HEAD ((size_t)64 * 1024)
#define MAX_BODY ((size_t)32 * 1024 * 1024)
#define CONNECT_MS 10000
#define IDLE_MS 60000
#define TOTAL_MS 120000

struct impl {
	struct hga_xfer x;
	struct hga_http *op;
	struct hga_loop *loop;
	struct curl_slist *headers, *connect_to;
	struct hga_timer idle, total, resume;
	int64_t idle_ms, total_ms, last_ms; /* last sign of life */
	const char *body;
	size_t body_len, body_at;
	bool repeatable, asked; /* the request began to go out */
	bool head_done, told, in_body, paused;
	size_t head_bytes;
	int64_t max_body; /* -1: sink, no limit */
	int64_t (*source)(void *, void *, size_t, struct hga_err *);
	int (*sink)(void *, const void *, size_t, struct hga_err *);
	int (*on_head)(void *, struct hga_err *);
	void *data;
	struct hga_err cb_err; /* of our own callbacks */
	char what[280];        /* HOST:PORT */
	char host[280];        /* of connect_to */
};

static void impl_free(struct impl *m)
{
	hga_timer_stop(m->loop, &m->idle);
	hga_timer_stop(m->loop, &m->total);
	hga_timer_stop(m->loop, &m->resume);
	hga_xfer_close(&m->x);
	curl_slist_free_all(m->headers);
	curl_slist_free_all(m->connect_to);
	hga_free(m);
}

/* ---- request body ---- */

static size_t read_cb(char *to, size_t size, size_t n, void *data)
{
	struct impl *m = data;
	size_t len = size * n, left = m->body_len - m->body_at;

	int64_t got;

	if (len > left)
		len = left;
	m->last_ms = hga_loop_now(m->loop);
	if (m->source != NULL && len > 0) {
		got = m->source(m->data, to, len, &m->cb_err);
		if (got <= 0 || (uint64_t)got > len)
			return CURL_READFUNC_ABORT;
		len = (size_t)got; /* at most len */
	} else if (len > 0) {
		memcpy(to, m->body + m->body_at, len);
	}
	m->body_at += len;
	return len;
}

/* libcurl rewinds to send a request again: only where that is allowed. */
static int seek_cb(void *data, curl_off_t off, int origin)
{
	struct impl *m = data;

	if (origin != SEEK_SET || off < 0 || (size_t)off > m->body_len)
		return CURL_SEEKFUNC_FAIL;
	/* a source gives its bytes once */
	if (m->body_at > 0 && (!m->repeatable || m->source != NULL))
		return CURL_SEEKFUNC_FAIL;
	m->body_at = (size_t)off;
	return CURL_SEEKFUNC_OK;
}

/* Connected; the first byte of the request goes out next. */
static int prereq_cb(void *data, char *ip, char *local_ip, int port,
                     int local_port)
{
	struct impl *m = data;
	long fresh = 0;

	(void)ip; /* what we need of it comes from getinfo */
	(void)local_ip;
	(void)port;
	(void)local_port;
	curl_easy_getinfo(m->x.easy, CURLINFO_NUM_CONNECTS, &fresh);
	if (!m->asked) /* a re-send has a new connection */
		m->op->reused = fresh == 0;
	m->asked = true;
	m->op->sent = true;
	m->last_ms = hga_loop_now(m->loop);
	if (!hga_timer_running(&m->idle) &&
	    hga_timer_start(m->loop, &m->idle, m->idle_ms, &m->cb_err) < 0)
		return CURL_PREREQFUNC_ABORT;
	return CURL_PREREQFUNC_OK;
}

/* ---- answer: headers ---- */

static bool is_tchar(char c)
{
	return isalnum((unsigned char)c) ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static int malformed(struct impl *m, const char *what)
{
	return hga_fail(&m->cb_err, HGA_PROTOCOL, 0, "Malformed",
	                "answer of %s: %s", m->what, what);
}

/* "HTTP/1.1 200 OK": forgets the headers of an interim answer. */
static int status_line(struct impl *m, struct hga_str line)
{
	const char *p = memchr(line.s, ' ', line.n);
	size_t i;
	int status = 0;

	hga_buf_clear(&m->op->head);
	m->head_done = false;
	for (i = 1; p != NULL && i <= 3; i++) {
		if (p + i >= line.s + line.n || !isdigit((unsigned char)p[i]))
			return malformed(m, "bad status line");
		status = status * 10 + (p[i] - '0');
	}
	if (status < 100)
		return malformed(m, "bad status line");
	m->op->status = status;
	return 0;
}

/* A line that begins with a blank continues the value before (RFC 7230
 * section 3.2.4). */
static int folded_line(struct impl *m, struct hga_str line)
{
	struct hga_buf *b = &m->op->head;
	struct hga_str text = hga_str_trim(line);

	if (b->len == 0)
		return malformed(m, "bad header line");
	hga_buf_truncate(b, b->len - 1);
	if (hga_buf_addc(b, ' ', &m->cb_err) < 0 ||
	    hga_buf_addstr(b, text, &m->cb_err) < 0)
		return -1;
	return hga_buf_addc(b, '\n', &m->cb_err);
}

static int field_line(struct impl *m, struct hga_str line)
{
	struct hga_buf *b = &m->op->head;
	const char *colon = memchr(line.s, ':', line.n);
	size_t i, n = colon != NULL ? (size_t)(colon - line.s) : 0;
	struct hga_str value;

	if (n == 0 || memchr(line.s, '\0', line.n) != NULL)
		return malformed(m, "bad header line");
	for (i = 0; i < n; i++) {
		if (!is_tchar(line.s[i]))
			return malformed(m, "bad header name");
		if (hga_buf_addc(b, (char)tolower((unsigned char)line.s[i]),
		                 &m->cb_err) < 0)
			return -1;
	}
	value = hga_str_trim(hga_strn(colon + 1, line.n - n - 1));
	if (memchr(value.s, '\r', value.n) != NULL)
		return malformed(m, "carriage return in a header");
	if (hga_buf_adds(b, ": ", &m->cb_err) < 0 ||
	    hga_buf_addstr(b, value, &m->cb_err) < 0)
		return -1;
	return hga_buf_addc(b, '\n', &m->cb_err);
}

static int header_line(struct impl *m, struct hga_str line)
{
	m->head_bytes += line.n;
	if (m->head_bytes > MAX_HEAD)
		return hga_fail(&m->cb_err, HGA_PROTOCOL, 0, "TooLarge",
		                "answer of %s: headers above %zu bytes",
		                m->what, MAX_HEAD);
	if (m->in_body)
		return 0; /* trailers are of no use to us */
	if (hga_str_starts(line, "HTTP/"))
		return status_line(m, line);
	if (hga_str_trim(line).n == 0) {
		m->head_done = true;
		return 0;
	}
	if (line.s[0] == ' ' || line.s[0] == '\t')
		return folded_line(m, line);
	return field_line(m, line);
}

static size_t header_cb(char *p, size_t size, size_t n, void *data)
{
	struct impl *m = data;

	m->op->got_any = true;
	m->last_ms = hga_loop_now(m->loop);
	return header_line(m, hga_strn(p, size * n)) < 0 ? 0 : size * n;
}

/* ---- answer: body ---- */

static int tell_head(struct impl *m)
{
	if (m->told || m->on_head == NULL)
		return 0;
	m->told = true;
	return m->on_head(m->data, &m->cb_err);
}

static int take_body(struct impl *m, const char *p, size_t n)
{
	int r = tell_head(m);

	m->in_body = true;
	if (r < 0)
		return r;
	if (m->sink != NULL)
		return m->sink(m->data, p, n, &m->cb_err);
	if (m->op->received + (int64_t)n > m->max_body)
		return hga_fail(&m->cb_err, HGA_PROTOCOL, 0, "TooLarge",
		                "answer of %s: body above %lld bytes", m->what,
		                (long long)m->max_body);
	return hga_buf_add(&m->op->body, p, n, &m->cb_err);
}

static size_t write_cb(char *p, size_t size, size_t n, void *data)
{
	struct impl *m = data;
	int r;

	m->op->got_any = true;
	m->last_ms = hga_loop_now(m->loop);
	r = take_body(m, p, size * n);
	if (r > 0) {
		m->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (r < 0)
		return size * n == 0 ? 1 : 0; /* anything but all of it */
	m->op->received += (int64_t)(size * n);
	return size * n;
}

/* ---- the end ---- */

static void read_times(struct impl *m)
{
	struct hga_http *op = m->op;

	curl_easy_getinfo(m->x.easy, CURLINFO_NAMELOOKUP_TIME, &op->t_dns);
	curl_easy_getinfo(m->x.easy, CURLINFO_CONNECT_TIME, &op->t_connect);
	curl_easy_getinfo(m->x.easy, CURLINFO_APPCONNECT_TIME, &op->t_tls);
	curl_easy_getinfo(m->x.easy, CURLINFO_STARTTRANSFER_TIME, &op->t_first);
	curl_easy_getinfo(m->x.easy, CURLINFO_TOTAL_TIME, &op->t_total);
}

static void finish(struct impl *m)
{
	struct hga_http *op = m->op;

	read_times(m);
	op->impl = NULL;
	impl_free(m);
	hga_op_finish(&op->base);
}

static const char *reason(const struct impl *m, CURLcode rc)
{
	return m->x.curl_err[0] != '\0' ? m->x.curl_err
	                                : curl_easy_strerror(rc);
}

/* libcurl has one code for a lost connection and for broken chunks. */
static bool is_chunk_error(const struct impl *m)
{
	return m->op->got_any && strcasestr(m->x.curl_err, "chunk") != NULL;
}

static int lost(struct impl *m, CURLcode rc, struct hga_err *err)
{
	if (is_chunk_error(m))
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "answer of %s: %s", m->what, reason(m, rc));
	return hga_fail(err, HGA_NET, 0, "Reset",
	                "%s closed the connection before a complete answer: %s",
	                m->what, reason(m, rc));
}

/* The request was on its way. */
static int answer_err(struct impl *m, CURLcode rc, struct hga_err *err)
{
	switch ((int)rc) { /* the list grows with each libcurl */
	case CURLE_SEND_FAIL_REWIND:
		return hga_fail(err, HGA_NET, 0, "Send",
		                "%s closed a kept connection while the request "
		                "was sent: it may have been executed",
		                m->what);
	case CURLE_PARTIAL_FILE:
		return hga_fail(err, HGA_PROTOCOL, 0, "ShortBody",
		                "answer of %s was cut: %s", m->what,
		                reason(m, rc));
	case CURLE_OUT_OF_MEMORY:
		/* 7.88 says so for a header line above its own limit. */
		if (m->in_body)
			return hga_fail_mem(err);
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "answer of %s: header line too long", m->what);
#if LIBCURL_VERSION_NUM >= 0x080600
	case CURLE_TOO_LARGE:
		return hga_fail(err, HGA_PROTOCOL, 0, "TooLarge",
		                "answer of %s: %s", m->what, reason(m, rc));
#endif
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL: /* no status line at all */
	case CURLE_BAD_CONTENT_ENCODING:
	case CURLE_FILESIZE_EXCEEDED:
		return hga_fail(err, HGA_PROTOCOL, 0, "Malformed",
		                "answer of %s: %s", m->what, reason(m, rc));
	default:
		return lost(m, rc, err);
	}
}

/* Whole answer: what libcurl lets through but we do not. */
static int check_answer(struct impl *m)
{
	if (!m->head_done || m->op->status < 200)
		return hga_fail(&m->cb_err, HGA_NET, 0, "Reset",
		                "%s closed the connection inside the headers",
		                m->what);
	return tell_head(m);
}

static void on_done(struct hga_xfer *x, CURLcode rc)
{
	struct impl *m = x->data;
	struct hga_err *err = &m->op->base.err;

	if (rc == CURLE_OK)
		(void)check_answer(m); /* fills cb_err */
	if (m->cb_err.kind != HGA_OK)
		*err = m->cb_err;
	else if (rc != CURLE_OK && m->asked)
		answer_err(m, rc, err);
	else if (rc != CURLE_OK)
		hga_xfer_conn_err(x, rc, m->what, err);
	finish(m);
}

static const char *phase(const struct impl *m)
{
	return m->op->got_any ? "receive"
	       : m->op->sent  ? "wait"
	       : m->asked     ? "send"
	                      : "connect";
}

static void give_up(struct impl *m, const char *code, int64_t ms,
                    const char *what)
{
	(void)hga_fail(&m->op->base.err, HGA_TIMEOUT, 0, code,
	               "%s: %s for %.3g s (%s)", m->what, what,
	               (double)ms / 1000, phase(m));
	finish(m);
}

static void on_idle(struct hga_timer *t)
{
	struct impl *m = t->data;
	int64_t left = m->last_ms + m->idle_ms - hga_loop_now(m->loop);

	if (m->paused)
		left = m->idle_ms; /* that silence is ours */
	if (left > 0 && hga_timer_start(m->loop, t, left, NULL) == 0)
		return;
	give_up(m, "Idle", m->idle_ms, "no byte");
}

static void on_total(struct hga_timer *t)
{
	struct impl *m = t->data;

	give_up(m, "Total", m->total_ms, "no complete answer");
}

static void cancel(struct hga_op *op)
{
	struct hga_http *h = (struct hga_http *)op;

	hga_op_drop(op);
	if (h->impl != NULL)
		impl_free(h->impl);
	h->impl = NULL;
}

/* libcurl hands out the kept bytes inside the call, so it is made from the
 * loop. */
static void on_resume(struct hga_timer *t)
{
	struct impl *m = t->data;
	CURLcode rc;

	m->paused = false;
	m->last_ms = hga_loop_now(m->loop);
	rc = curl_easy_pause(m->x.easy, CURLPAUSE_CONT);
	if (rc == CURLE_OK)
		return;
	hga_xfer_stop(&m->x);
	on_done(&m->x, rc);
}

void hga_http_resume(struct hga_http *op)
{
	struct impl *m = op->impl;

	if (m == NULL || !m->paused || hga_timer_running(&m->resume))
		return;
	if (hga_timer_start(m->loop, &m->resume, 0, NULL) < 0)
		return; /* no memory: the total deadline ends it */
}

/* ---- start ---- */

static bool good_value(struct hga_str s)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if (s.s[i] == '\r' || s.s[i] == '\n' || s.s[i] == '\0')
			return false;
	return true;
}

static bool good_token(struct hga_str s)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if (!is_tchar(s.s[i]))
			return false;
	return s.n > 0;
}

static int add_line(struct impl *m, const char *line, struct hga_err *err)
{
	struct curl_slist *l = curl_slist_append(m->headers, line);

	if (l == NULL)
		return hga_fail_mem(err);
	m->headers = l;
	return 0;
}

static int add_header(struct impl *m, const struct hga_http_hdr *h,
                      struct hga_err *err)
{
	struct hga_buf b;
	int r;

	if (!good_token(h->name) || !good_value(h->value))
		return hga_fail(err, HGA_USAGE, 0, "Header",
		                "bad name or value of header %.*s",
		                HGA_STRF(h->name));
	hga_buf_init(&b, MAX_HEAD);
	r = hga_buf_addstr(&b, h->name, err);
	if (r == 0) /* libcurl's form for an empty value */
		r = h->value.n == 0 ? hga_buf_addc(&b, ';', err)
		                    : hga_buf_adds(&b, ": ", err);
	if (r == 0)
		r = hga_buf_addstr(&b, h->value, err);
	if (r == 0)
		r = add_line(m, b.data, err);
	hga_buf_release_secret(&b);
	return r;
}

static bool has_header(const struct hga_http_args *a, const char *name)
{
	size_t i;

	for (i = 0; i < a->n_headers; i++)
		if (hga_str_ieqc(a->headers[i].name, name))
			return true;
	return false;
}

/* Ours, and the removal of those that libcurl adds by itself. */
static int add_headers(struct impl *m, const struct hga_http_args *a,
                       struct hga_err *err)
{
	static const char *const unwanted[] = {"Expect", "Content-Type",
	                                       "Accept"};
	char line[32];
	size_t i;
	int r;

	for (i = 0; i < a->n_headers; i++)
		if ((r = add_header(m, &a->headers[i], err)) < 0)
			return r;
	for (i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++) {
		if (has_header(a, unwanted[i]))
			continue;
		snprintf(line, sizeof(line), "%s:", unwanted[i]);
		if ((r = add_line(m, line, err)) < 0)
			return r;
	}
	return 0;
}

static void set_body(struct impl *m, const struct hga_http_args *a,
                     CURLcode *rc)
{
	const char *method = a->method;

	if (!a->has_body && strcmp(method, "POST") != 0 &&
	    strcmp(method, "PUT") != 0 && strcmp(method, "PATCH") != 0) {
		if (strcmp(method, "HEAD") == 0)
			HGA_SETOPT(&m->x, rc, CURLOPT_NOBODY, 1L);
		else
			HGA_SETOPT(&m->x, rc, CURLOPT_HTTPGET, 1L);
		HGA_SETOPT(&m->x, rc, CURLOPT_CUSTOMREQUEST, method);
		return;
	}
	m->body = a->body;
	m->body_len = a->has_body ? a->body_len : 0;
	HGA_SETOPT(&m->x, rc, CURLOPT_POST, 1L);
	HGA_SETOPT(&m->x, rc, CURLOPT_POSTFIELDSIZE_LARGE,
	           (curl_off_t)m->body_len);
	HGA_SETOPT(&m->x, rc, CURLOPT_CUSTOMREQUEST, method);
	HGA_SETOPT(&m->x, rc, CURLOPT_READFUNCTION, read_cb);
	HGA_SETOPT(&m->x, rc, CURLOPT_READDATA, m);
	HGA_SETOPT(&m->x, rc, CURLOPT_SEEKFUNCTION, seek_cb);
	HGA_SETOPT(&m->x, rc, CURLOPT_SEEKDATA, m);
}

/* A failing seek cannot stop a re-send where no body byte was handed out. */
static bool needs_fresh(const struct impl *m, const struct hga_http_args *a)
{
	return a->fresh || (!a->repeatable && m->body_len == 0);
}

/* Who the peer must be, and where it is. */
static int set_identity(struct impl *m, const struct hga_http_args *a,
                        CURLcode *rc, struct hga_err *err)
{
	struct hga_xfer *x = &m->x;

	if (a->ca_pem != NULL) {
		struct curl_blob blob = {.flags = CURL_BLOB_COPY};
		char *pem = hga_strdup(a->ca_pem);

		if (pem == NULL)
			return hga_fail_mem(err);
		blob.data = pem;
		blob.len = strlen(pem);
		HGA_SETOPT(x, rc, CURLOPT_CAINFO, NULL);
		HGA_SETOPT(x, rc, CURLOPT_CAPATH, NULL);
		HGA_SETOPT(x, rc, CURLOPT_CAINFO_BLOB, &blob);
		hga_free(pem);
	}
	if (a->pin != NULL)
		HGA_SETOPT(x, rc, CURLOPT_PINNEDPUBLICKEY, a->pin);
	if (a->no_verify) {
		HGA_SETOPT(x, rc, CURLOPT_SSL_VERIFYPEER, 0L);
		HGA_SETOPT(x, rc, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (a->connect_to == NULL)
		return 0;
	m->connect_to = curl_slist_append(NULL, a->connect_to);
	if (m->connect_to == NULL)
		return hga_fail_mem(err);
	HGA_SETOPT(x, rc, CURLOPT_CONNECT_TO, m->connect_to);
	return 0;
}

static int set_opts(struct impl *m, const struct hga_http_args *a,
                    struct hga_err *err)
{
	CURLcode rc = CURLE_OK;
	struct hga_xfer *x = &m->x;
	int r;

	HGA_SETOPT(x, &rc, CURLOPT_URL, a->url);
	HGA_SETOPT(x, &rc, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	HGA_SETOPT(x, &rc, CURLOPT_PATH_AS_IS, 1L);
	HGA_SETOPT(x, &rc, CURLOPT_HTTP09_ALLOWED, 0L);
	HGA_SETOPT(x, &rc, CURLOPT_HTTPHEADER, m->headers);
	HGA_SETOPT(x, &rc, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	HGA_SETOPT(x, &rc, CURLOPT_HEADERFUNCTION, header_cb);
	HGA_SETOPT(x, &rc, CURLOPT_HEADERDATA, m);
	HGA_SETOPT(x, &rc, CURLOPT_BUFFERSIZE, BUFFER);
	HGA_SETOPT(x, &rc, CURLOPT_WRITEFUNCTION, write_cb);
	HGA_SETOPT(x, &rc, CURLOPT_WRITEDATA, m);
	HGA_SETOPT(x, &rc, CURLOPT_PREREQFUNCTION, prereq_cb);
	HGA_SETOPT(x, &rc, CURLOPT_PREREQDATA, m);
	HGA_SETOPT(x, &rc, CURLOPT_CONNECTTIMEOUT_MS,
	           (long)(a->connect_ms > 0 ? a->connect_ms : CONNECT_MS));
	set_body(m, a, &rc);
	if (needs_fresh(m, a))
		HGA_SETOPT(x, &rc, CURLOPT_FRESH_CONNECT, 1L);
	if (a->unix_socket != NULL)
		HGA_SETOPT(x, &rc, CURLOPT_UNIX_SOCKET_PATH, a->unix_socket);
	if (a->ca_bundle != NULL) {
		HGA_SETOPT(x, &rc, CURLOPT_CAPATH, NULL);
		HGA_SETOPT(x, &rc, CURLOPT_CAINFO, a->ca_bundle);
	}
	if ((r = set_identity(m, a, &rc, err)) < 0)
		return r;
	return hga_xfer_opt_err(rc, err);
}

/* Parts of a parsed URL, owned by libcurl's allocator. */
struct url {
	CURLU *h;
	char *scheme, *host, *port;
};

static void url_release(struct url *u)
{
	curl_free(u->scheme);
	curl_free(u->host);
	curl_free(u->port);
	curl_url_cleanup(u->h);
}

static int url_parse(struct url *u, const char *text, struct hga_err *err)
{
	const unsigned char *p;
	CURLUcode rc;

	for (p = (const unsigned char *)text; *p != '\0'; p++)
		if (*p <= ' ' || *p == 0x7f)
			return hga_fail(err, HGA_USAGE, 0, "Url",
			                "blank or control byte in the URL");
	u->h = curl_url();
	if (u->h == NULL)
		return hga_fail_mem(err);
	rc = curl_url_set(u->h, CURLUPART_URL, text, CURLU_PATH_AS_IS);
	if (rc == CURLUE_OK)
		rc = curl_url_get(u->h, CURLUPART_SCHEME, &u->scheme, 0);
	if (rc == CURLUE_OK)
		rc = curl_url_get(u->h, CURLUPART_HOST, &u->host, 0);
	if (rc == CURLUE_OK)
		rc = curl_url_get(u->h, CURLUPART_PORT, &u->port,
		                  CURLU_DEFAULT_PORT);
	if (rc == CURLUE_OUT_OF_MEMORY)
		return hga_fail_mem(err);
	if (rc != CURLUE_OK)
		return hga_fail(err, HGA_USAGE, 0, "Url", "bad URL: %s",
		                curl_url_strerror(rc));
	if (strcmp(u->scheme, "http") != 0 && strcmp(u->scheme, "https") != 0)
		return hga_fail(err, HGA_USAGE, 0, "Url",
		                "only http and https URLs");
	return 0;
}

/* [::1] -> ::1, in place. */
static const char *bare_host(char *host)
{
	size_t n = strlen(host);

	if (n < 2 || host[0] != '[' || host[n - 1] != ']')
		return host;
	host[n - 1] = '\0';
	return host + 1;
}

/* "::HOST:PORT" -> HOST; what decides about proxies and the local guard.
 * Kept in what, which messages then show, too. */
static const char *connect_host(struct impl *m, const char *connect_to)
{
	char *colon;

	snprintf(m->what, sizeof(m->what), "%s",
	         strncmp(connect_to, "::", 2) == 0 ? connect_to + 2
	                                           : connect_to);
	snprintf(m->host, sizeof(m->host), "%s", m->what);
	colon = strrchr(m->host, ':');
	if (colon != NULL)
		*colon = '\0';
	return bare_host(m->host);
}

static int open_xfer(struct impl *m, const struct hga_http_args *a,
                     struct hga_err *err)
{
	struct url u = {NULL, NULL, NULL, NULL};
	struct hga_xfer_peer peer = {.unix_socket = a->unix_socket != NULL};
	int r = url_parse(&u, a->url, err);

	if (r == 0 && u.scheme != NULL && u.host != NULL && u.port != NULL) {
		if (a->unix_socket != NULL)
			snprintf(m->what, sizeof(m->what), "%s",
			         a->unix_socket);
		else
			snprintf(m->what, sizeof(m->what), "%s:%s", u.host,
			         u.port);
		peer.host = a->connect_to != NULL
		                ? connect_host(m, a->connect_to)
		                : bare_host(u.host);
		peer.port = (int)strtol(u.port, NULL, 10);
		peer.use =
		    strcmp(u.scheme, "https") == 0 ? HGA_X_HTTPS : HGA_X_HTTP;
		r = hga_xfer_open(m->loop, &m->x, &peer, err);
	}
	url_release(&u);
	return r;
}

static int start_timers(struct impl *m, const struct hga_http_args *a,
                        struct hga_err *err)
{
	m->idle.fn = on_idle;
	m->total.fn = on_total;
	m->resume.fn = on_resume;
	m->idle.data = m->total.data = m->resume.data = m;
	m->idle_ms = a->idle_ms > 0 ? a->idle_ms : IDLE_MS;
	m->total_ms = a->total_ms > 0 ? a->total_ms : TOTAL_MS;
	return hga_timer_start(m->loop, &m->total, m->total_ms, err);
}

static int begin(struct impl *m, const struct hga_http_args *a,
                 struct hga_err *err)
{
	size_t max = a->max_body > 0 ? a->max_body : MAX_BODY;
	int r;

	if (!good_token(hga_str(a->method)))
		return hga_fail(err, HGA_USAGE, 0, "Method",
		                "bad request method");
	m->repeatable = a->repeatable;
	m->source = a->source;
	m->sink = a->sink;
	m->on_head = a->on_head;
	m->data = a->data;
	m->max_body = max > INT64_MAX ? INT64_MAX : (int64_t)max;
	m->x.data = m;
	m->x.done = on_done;
	hga_buf_init(&m->op->head, MAX_HEAD);
	hga_buf_init(&m->op->body, max);
	if ((r = open_xfer(m, a, err)) < 0 ||
	    (r = add_headers(m, a, err)) < 0 || (r = set_opts(m, a, err)) < 0 ||
	    (r = start_timers(m, a, err)) < 0)
		return r;
	return hga_xfer_start(&m->x, err);
}

int hga_http_start(struct hga_loop *loop, struct hga_http *op,
                   const struct hga_http_args *args, struct hga_err *err)
{
	struct impl *m = hga_calloc(1, sizeof(*m));
	int r;

	if (m == NULL)
		return hga_fail_mem(err);
	m->loop = loop;
	m->op = op;
	op->status = 0;
	op->sent = op->got_any = op->reused = false;
	op->received = 0;
	r = begin(m, args, err);
	if (r < 0) {
		impl_free(m);
		return r;
	}
	op->impl = m;
	hga_op_begin(&op->base, cancel);
	return 0;
}

/* ---- results ---- */

struct hga_str hga_http_header(const struct hga_http *op, const char *name,
                               unsigned i)
{
	const struct hga_str none = {NULL, 0};
	const char *p = hga_buf_text(&op->head), *nl;
	size_t n = strlen(name);

	for (; (nl = strchr(p, '\n')) != NULL; p = nl + 1) {
		if (strncmp(p, name, n) != 0 || strncmp(p + n, ": ", 2) != 0)
			continue;
		if (i-- == 0)
			return hga_strn(p + n + 2, (size_t)(nl - p) - n - 2);
	}
	return none;
}

void hga_http_release(struct hga_http *op)
{
	hga_op_cancel(&op->base);
	hga_buf_release(&op->head);
	hga_buf_release(&op->body);
}
