/*
 * HTTP/1.1 server on libmicrohttpd, driven by the loop; no threads.
 *
 * on_request is called from the loop when a request has arrived whole.  From
 * then on the request is the owner's: the connection is suspended until it
 * ends the request by exactly one of hga_httpd_respond, hga_httpd_abort,
 * hga_httpd_raw or hga_httpd_stream_end (after hga_httpd_stream_begin);
 * afterwards the pointer is invalid.  on_gone (at most once, before that) says
 * that the client has left or the server was closed: the answer will reach
 * nobody, ending the request stays the owner's duty and is harmless.
 *
 * All views of a request live as long as the request.  Path and query are the
 * bytes received, without any decoding; headers are in their order.
 * Limits: header 128 KiB, body max_body (413), max_conns connections,
 * connections idle for idle_ms are closed.
 */
#ifndef HGA_NET_HTTPD_H
#define HGA_NET_HTTPD_H

#include "base/buf.h"
#include "base/str.h"
#include "net/http.h"
#include "net/loop.h"

#include <sys/types.h>

struct hga_httpd; /* opaque */

struct hga_httpd_req {
	uint64_t id;                   /* 1, 2, 3 ... of this server */
	struct hga_str method, target; /* target: as in the request line */
	struct hga_str path, query;    /* of the target; query without '?' */
	struct hga_str version;        /* "HTTP/1.1" */
	const struct hga_http_hdr *headers;
	size_t n_headers;
	struct hga_str body;
	const char *peer; /* "127.0.0.1:50412" or "unix" */
	const char *tag;  /* the listener's, "" for none */
	int64_t wall_us;  /* arrival of the request line */
	bool gone;        /* on_gone was called */
	void *user;       /* the owner's */
};

struct hga_httpd_opts {
	size_t max_body;    /* 0: 8 MiB */
	int64_t idle_ms;    /* 0: 60 s */
	unsigned max_conns; /* 0: 256 */
	/* PEM texts: every connection is TLS; read by open. */
	const char *tls_cert, *tls_key;
	void (*on_request)(void *data, struct hga_httpd_req *req);
	void (*on_gone)(void *data, struct hga_httpd_req *req); /* or NULL */
	/* The queue of a streamed body has room again; or NULL. */
	void (*on_drain)(void *data, struct hga_httpd_req *req);
	void *data;
};

struct hga_httpd_answer {
	int status;
	const struct hga_http_hdr *headers; /* Date is added, Content-Length
	                                       and Transfer-Encoding are ours */
	size_t n_headers;
	const void *body; /* copied */
	size_t body_len;
};

enum hga_httpd_cut {
	HGA_CUT_FIN, /* the connection closes without an answer */
	HGA_CUT_RST  /* it is reset */
};

/* Server without listeners. */
struct hga_httpd *hga_httpd_open(struct hga_loop *loop,
                                 const struct hga_httpd_opts *opts,
                                 struct hga_err *err) HGA_MUST_USE;
/* Listens as hga_listen_tcp/unix do; returns 0 or -kind.  tag is copied. */
int hga_httpd_listen_tcp(struct hga_httpd *s, const char *host, int port,
                         const char *tag, int *port_out,
                         struct hga_err *err) HGA_MUST_USE;
int hga_httpd_listen_unix(struct hga_httpd *s, const char *path, mode_t mode,
                          const char *tag, struct hga_err *err) HGA_MUST_USE;
/* Takes over a listening descriptor (closed on failure, too). */
int hga_httpd_adopt(struct hga_httpd *s, int fd, const char *tag,
                    struct hga_err *err) HGA_MUST_USE;
/* Takes over one accepted connection (closed on failure, too). */
int hga_httpd_adopt_conn(struct hga_httpd *s, int fd, const char *tag,
                         struct hga_err *err) HGA_MUST_USE;
/* Connections open now. */
unsigned hga_httpd_conns(const struct hga_httpd *s);
/*
 * Closes listeners (unix ones are removed) and connections; on_gone comes for
 * open requests from inside this call, they may be ended later.  Not from the
 * server's own callbacks.  NULL is allowed.
 */
void hga_httpd_close(struct hga_httpd *s);

/* Value of the i-th (0-based) header of that name (case ignored); s == NULL
 * when absent. */
struct hga_str hga_httpd_header(const struct hga_httpd_req *req,
                                const char *name, unsigned i);

/* Ends the request with an answer.  On failure (memory; usage "Header",
 * "Status" for what HTTP cannot carry) it is still open. */
int hga_httpd_respond(struct hga_httpd_req *req,
                      const struct hga_httpd_answer *answer,
                      struct hga_err *err) HGA_MUST_USE;
/* Ends the request without one. */
void hga_httpd_abort(struct hga_httpd_req *req, enum hga_httpd_cut how);
/* Routers that packets to this client may pass from now on (IP_TTL, 1 to 255).
 */
void hga_httpd_hops(struct hga_httpd_req *req, int hops);
/*
 * Ends the request with bytes as they are, whatever HTTP says of them, and a
 * close.  They must fit into the socket's buffer (some 100 KiB): the rest is
 * lost.
 */
void hga_httpd_raw(struct hga_httpd_req *req, struct hga_str bytes);

/* Answers with a body that follows in pieces; length < 0: unknown (chunked).
 * answer->body is the first piece. */
int hga_httpd_stream_begin(struct hga_httpd_req *req,
                           const struct hga_httpd_answer *answer,
                           int64_t length, struct hga_err *err) HGA_MUST_USE;
/* Queues a copy of n bytes; dropped when the client has left. */
int hga_httpd_stream_write(struct hga_httpd_req *req, const void *p, size_t n,
                           struct hga_err *err) HGA_MUST_USE;
/* Bytes queued and not yet sent; above 256 KiB wait for on_drain. */
size_t hga_httpd_stream_queued(const struct hga_httpd_req *req);
/* Ends the request; complete false: the connection is cut, so that the client
 * sees that the body is not whole. */
void hga_httpd_stream_end(struct hga_httpd_req *req, bool complete);

#endif
