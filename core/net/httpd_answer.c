/*
 * Answers of the HTTP server: whole ones, aborts, and bodies in pieces, which
 * libmicrohttpd reads from a queue and waits for by suspending.
 */
#include "net/httpd_int.h"

#include "base/mem.h"
#include "base/time.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define STREAM_BLOCK ((size_t)32 * 1024)

/* ---- answers ---- */

static bool is_ours(struct hga_str name)
{
	return hga_str_ieqc(name, "content-length") ||
	       hga_str_ieqc(name, "transfer-encoding");
}

static bool plain(struct hga_str s)
{
	size_t i;

	for (i = 0; i < s.n; i++)
		if (s.s[i] == '\r' || s.s[i] == '\n' || s.s[i] == '\0')
			return false;
	return true;
}

static int put_header(struct MHD_Response *resp, struct hga_str name,
                      struct hga_str value, struct hga_err *err)
{
	struct hga_buf b;
	int r = 0;

	hga_buf_init(&b, HGA_HTTPD_CONN_MEMORY);
	if (!plain(name) || !plain(value) || name.n == 0)
		return hga_fail(err, HGA_USAGE, 0, "Header",
		                "bad name or value of header %.*s",
		                HGA_STRF(name));
	if ((r = hga_buf_addstr(&b, name, err)) == 0 &&
	    (r = hga_buf_addc(&b, '\0', err)) == 0)
		r = hga_buf_addstr(&b, value, err);
	if (r == 0 && MHD_add_response_header(resp, b.data,
	                                      b.data + name.n + 1) != MHD_YES)
		r = hga_fail(err, HGA_USAGE, 0, "Header",
		             "bad name or value of header %.*s",
		             HGA_STRF(name));
	hga_buf_release_secret(&b);
	return r;
}

static int put_headers(struct MHD_Response *resp,
                       const struct hga_httpd_answer *a, struct hga_err *err)
{
	char text[HGA_TIME_TEXT];
	bool dated = false;
	size_t i;
	int r;

	for (i = 0; i < a->n_headers; i++) {
		if (is_ours(a->headers[i].name))
			continue;
		dated = dated || hga_str_ieqc(a->headers[i].name, "date");
		r = put_header(resp, a->headers[i].name, a->headers[i].value,
		               err);
		if (r < 0)
			return r;
	}
	if (dated)
		return 0;
	hga_time_text(text, hga_wall_us(), HGA_TIME_HTTP);
	return put_header(resp, HGA_STR("Date"), hga_str(text), err);
}

/* Installs resp as the answer, consuming it. */
static int set_answer(struct req *r, struct MHD_Response *resp,
                      const struct hga_httpd_answer *a, struct hga_err *err)
{
	int rc;

	if (resp == NULL)
		return hga_fail_mem(err);
	if (a->status < 200 || a->status > 599)
		rc = hga_fail(err, HGA_USAGE, 0, "Status",
		              "status %d: want 200 to 599", a->status);
	else
		rc = put_headers(resp, a, err);
	if (rc < 0) {
		MHD_destroy_response(resp);
		return rc;
	}
	r->answer = resp;
	r->status = a->status;
	return 0;
}

static void end_by_owner(struct req *r)
{
	r->owner_done = true;
	if (r->mhd_done)
		hga_httpd_req_free(r);
	else
		hga_httpd_resume(r);
}

/* libmicrohttpd copies, but its prototype has no const in old versions. */
static struct MHD_Response *copy_body(const void *p, size_t n)
{
	union {
		const void *in;
		void *out;
	} u = {.in = n > 0 ? p : ""};

	return MHD_create_response_from_buffer(n, u.out, MHD_RESPMEM_MUST_COPY);
}

int hga_httpd_respond(struct hga_httpd_req *req,
                      const struct hga_httpd_answer *a, struct hga_err *err)
{
	struct req *r = (struct req *)req;
	int rc;

	if (r->state != OWNED)
		return hga_fail(err, HGA_BUG, 0, NULL,
		                "request answered twice");
	rc = set_answer(r, copy_body(a->body, a->body_len), a, err);
	if (rc < 0)
		return rc;
	r->state = ANSWERING;
	end_by_owner(r);
	return 0;
}

void hga_httpd_abort(struct hga_httpd_req *req, enum hga_httpd_cut how)
{
	struct req *r = (struct req *)req;

	if (r->state == STREAMING) {
		hga_httpd_stream_end(req, false);
		return;
	}
	r->state = ANSWERING;
	r->cut = true;
	r->how = how;
	end_by_owner(r);
}

void hga_httpd_hops(struct hga_httpd_req *req, int hops)
{
	const struct req *r = (const struct req *)req;

	if (r->conn != NULL) /* a unix socket has none, and says so */
		(void)setsockopt(r->conn->fd, IPPROTO_IP, IP_TTL, &hops,
		                 sizeof(hops));
}

void hga_httpd_raw(struct hga_httpd_req *req, struct hga_str bytes)
{
	struct req *r = (struct req *)req;
	ssize_t n = 0;

	/* suspended: libmicrohttpd does not touch the socket meanwhile */
	while (r->conn != NULL && bytes.n > 0 && n >= 0) {
		n = send(r->conn->fd, bytes.s, bytes.n,
		         MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			bytes = hga_strn(bytes.s + n, bytes.n - (size_t)n);
	}
	hga_httpd_abort(req, HGA_CUT_FIN);
}

/* ---- streamed answers ---- */

static ssize_t stream_read(void *cls, uint64_t pos, char *to, size_t max)
{
	struct req *r = cls;
	size_t n = r->stream.len < max ? r->stream.len : max;

	(void)pos; /* pieces come in order */
	if (r->stream_failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n > 0) {
		memcpy(to, r->stream.data, n);
		hga_buf_consume(&r->stream, n);
		if (r->high && r->stream.len < HGA_HTTPD_STREAM_HIGH / 2) {
			r->high = false;
			if (r->s != NULL && r->s->opts.on_drain != NULL)
				r->s->opts.on_drain(r->s->opts.data, &r->pub);
		}
		return (ssize_t)n;
	}
	if (r->stream_end || r->s == NULL)
		return MHD_CONTENT_READER_END_OF_STREAM;
	hga_httpd_suspend(r);
	return 0;
}

int hga_httpd_stream_begin(struct hga_httpd_req *req,
                           const struct hga_httpd_answer *a, int64_t length,
                           struct hga_err *err)
{
	struct req *r = (struct req *)req;
	uint64_t size = length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length;
	int rc;

	if (r->state != OWNED)
		return hga_fail(err, HGA_BUG, 0, NULL,
		                "request answered twice");
	rc = hga_buf_add(&r->stream, a->body, a->body_len, err);
	if (rc < 0)
		return rc;
	rc = set_answer(r,
	                MHD_create_response_from_callback(size, STREAM_BLOCK,
	                                                  stream_read, r, NULL),
	                a, err);
	if (rc < 0)
		return rc;
	r->state = STREAMING;
	if (!r->mhd_done)
		hga_httpd_resume(r);
	return 0;
}

int hga_httpd_stream_write(struct hga_httpd_req *req, const void *p, size_t n,
                           struct hga_err *err)
{
	struct req *r = (struct req *)req;
	int rc;

	if (r->mhd_done || r->pub.gone)
		return 0;
	rc = hga_buf_add(&r->stream, p, n, err);
	if (rc < 0)
		return rc;
	if (r->stream.len > HGA_HTTPD_STREAM_HIGH)
		r->high = true;
	hga_httpd_resume(r);
	return 0;
}

size_t hga_httpd_stream_queued(const struct hga_httpd_req *req)
{
	const struct req *r = (const struct req *)req;

	return r->mhd_done || r->pub.gone ? 0 : r->stream.len;
}

void hga_httpd_stream_end(struct hga_httpd_req *req, bool complete)
{
	struct req *r = (struct req *)req;

	r->stream_end = true;
	r->stream_failed = !complete;
	end_by_owner(r);
}
