/*
 * One HTTP request on the loop's curl multi handle (pool, DNS, TLS shared).
 *
 * HTTP/1.1; http and https only; redirects never followed; no netrc; TLS
 * >= 1.2 verified, system CA directory unless a bundle is named; proxies from
 * the environment but never for loopback or metadata addresses.  Bodies are
 * handed out by callback with a failing seek, so libcurl never re-sends a
 * request by itself; requests without a body that are not repeatable get a
 * connection of their own for the same reason.  Limits: header 64 KiB, body
 * max_body (not into a sink).  Content is never decoded.
 */
#ifndef HGA_NET_HTTP_H
#define HGA_NET_HTTP_H

#include "base/buf.h"
#include "base/str.h"
#include "net/loop.h"
#include "net/op.h"

struct hga_http_hdr {
	struct hga_str name, value;
};

struct hga_http_args {
	const char *method, *url;
	const struct hga_http_hdr *headers;
	size_t n_headers;
	const void *body; /* borrowed until done or cancel */
	size_t body_len;
	/* Source of the body instead of body: puts at most n bytes at p and
	 * returns how many, or -kind with *err filled to end the request with
	 * that error.  body_len in all; called from the loop. */
	int64_t (*source)(void *data, void *p, size_t n, struct hga_err *err);
	bool has_body;
	bool repeatable; /* may be sent again on a fresh connection by curl */
	bool fresh;      /* do not reuse a pooled connection */
	int64_t connect_ms, idle_ms, total_ms; /* 0: 10 s, 60 s, 120 s */
	size_t max_body;                       /* 0: 32 MiB */
	const char *ca_bundle;                 /* NULL: system directory */
	const char *ca_pem;      /* certificates trusted instead of any file */
	const char *pin;         /* "sha256//BASE64": the peer's public key must
	                            be that one; checked whatever else is */
	bool no_verify;          /* neither chain nor name of the certificate */
	const char *connect_to;  /* "::HOST:PORT": address to connect to, the
	                            URL's name stays in TLS and Host */
	const char *unix_socket; /* connect to this path instead of TCP */
	/* Body sink; NULL: collected in http.body.  Returns 0; 1 when it took
	 * nothing and wants the same bytes again after hga_http_resume; or
	 * -kind with *err filled to end the transfer with that error.  Called
	 * from the loop; must not start or cancel operations. */
	int (*sink)(void *data, const void *p, size_t n, struct hga_err *err);
	/* Called once before the first body byte (or at the end of a response
	 * without body), when status and headers are known. */
	int (*on_head)(void *data, struct hga_err *err);
	void *data;
};

struct hga_http {
	struct hga_op base;
	int status;
	struct hga_buf head; /* response headers "name: value\n", names lower
	                        case, interim responses removed */
	struct hga_buf body;
	bool sent;        /* a request byte may have reached the peer */
	bool got_any;     /* a response byte arrived */
	bool reused;      /* on a pooled connection */
	int64_t received; /* body bytes */
	/* seconds of the phases, as libcurl's getinfo */
	double t_dns, t_connect, t_tls, t_first, t_total;
	void *impl;
};

/*
 * op is zeroed or released.  Everything in args but body is copied.
 * Errors: net Resolve, Refused, Unreachable, Reset (before a complete
 * answer), Send (a pooled connection died under the request: sent, no
 * answer), Proxy, TLS, LocalOnly; auth Certificate; timeout Connect, Idle,
 * Total; auth Pin; protocol TooLarge, Malformed, ShortBody; usage Url, Header,
 * Method.
 */
int hga_http_start(struct hga_loop *loop, struct hga_http *op,
                   const struct hga_http_args *args,
                   struct hga_err *err) HGA_MUST_USE;
/* After the sink returned 1 and there is room again. */
void hga_http_resume(struct hga_http *op);
/* Value of the i-th (0-based) header of that lower-case name; empty view
 * with s == NULL when absent. */
struct hga_str hga_http_header(const struct hga_http *op, const char *name,
                               unsigned i);
/* Frees head and body; cancels a running one. */
void hga_http_release(struct hga_http *op);

#endif
