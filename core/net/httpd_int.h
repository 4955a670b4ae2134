/*
 * Inside of the HTTP server: shared by httpd.c (connections, arrival) and
 * httpd_answer.c (answers, streams).  Nobody else includes this.
 */
#ifndef HGA_NET_HTTPD_INT_H
#define HGA_NET_HTTPD_INT_H

#include "net/httpd.h"

#include <microhttpd.h>

#define HGA_HTTPD_CONN_MEMORY ((size_t)128 * 1024)
#define HGA_HTTPD_STREAM_HIGH ((size_t)256 * 1024)

struct listener;

struct conn {
	struct conn *next, *prev;
	struct hga_httpd *s;
	int fd;
	char *tag;
	char peer[80];
};

enum state {
	ARRIVING,  /* libmicrohttpd's */
	OWNED,     /* suspended, the owner's */
	ANSWERING, /* respond or abort was called */
	STREAMING  /* the owner still writes */
};

struct req {
	struct hga_httpd_req pub;
	struct req *next, *prev; /* open requests of the server */
	struct hga_httpd *s;     /* NULL: closed or connection ended */
	struct conn *conn;
	struct MHD_Connection *mc;
	enum state state;
	bool owner_done, mhd_done;
	bool suspended, queued;
	bool cut;
	enum hga_httpd_cut how;
	struct MHD_Response *answer;
	int status;
	struct hga_watch leave;
	struct hga_buf target, body, text; /* text: method and headers */
	struct hga_http_hdr *headers;
	size_t max_headers, dropped;
	bool too_large;
	struct hga_buf stream;
	bool stream_end, stream_failed, high;
};

struct hga_httpd {
	struct hga_loop *loop;
	struct hga_httpd_opts opts;
	struct MHD_Daemon *daemon;
	struct hga_watch watch;
	struct hga_timer timer;
	struct listener *listeners;
	struct conn *conns;
	struct req *reqs;
	uint64_t last_id;
	unsigned n_conns;
};

/* httpd.c: takes the connection out of libmicrohttpd's hands and gives it
 * back; both harmless when it is so already. */
void hga_httpd_suspend(struct req *r);
void hga_httpd_resume(struct req *r);
/* Frees a request that neither side knows any more. */
void hga_httpd_req_free(struct req *r);

#endif
