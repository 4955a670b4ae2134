/*
 * Inside of net/: libcurl transfers on the loop.  Only loop, xfer, dial and
 * http include this; nobody else sees a curl type.
 *
 * libcurl and its multi handle are initialised by the first hga_xfer_open.
 * A transfer is a caller-owned struct; done comes from hga_loop_step after
 * the easy handle left the multi handle, so it may be reused or cleaned up.
 * Stop is allowed anywhere but in libcurl's own callbacks.
 */
#ifndef HGA_NET_XFER_H
#define HGA_NET_XFER_H

#include "net/loop.h"

#include <curl/curl.h>

struct hga_xfer {
	CURL *easy;
	/* Just before the handle leaves the multi handle (and CONNECT_ONLY
	 * loses its connection); must not start or stop anything; or NULL. */
	void (*leaving)(struct hga_xfer *, CURLcode);
	void (*done)(struct hga_xfer *, CURLcode);
	void *data;
	struct hga_loop *loop; /* set by hga_xfer_open */
	bool running;          /* the loop's */
	struct hga_xfer *prev, *next;
	char refused[80]; /* address local-only refused, "" for none */
	char curl_err[CURL_ERROR_SIZE];
};

/* What goes over the connection; picks the proxy variables. */
enum hga_xfer_use {
	HGA_X_HTTP,
	HGA_X_HTTPS,
	HGA_X_TCP
};

struct hga_xfer_peer {
	const char *host; /* without brackets */
	int port;
	enum hga_xfer_use use;
	bool unix_socket; /* no address is ever connected to */
};

/*
 * Easy handle with the options every transfer has: no signals, no netrc, no
 * redirects, TLS verification against the system's directory, proxy by the
 * environment (never for loopback and metadata addresses), local-only guard.
 * loop and data are set here; done and data are the caller's.
 */
int hga_xfer_open(struct hga_loop *loop, struct hga_xfer *x,
                  const struct hga_xfer_peer *peer,
                  struct hga_err *err) HGA_MUST_USE;
/* Adds to the multi handle. */
int hga_xfer_start(struct hga_xfer *x, struct hga_err *err) HGA_MUST_USE;
/* Takes it out; no done comes any more; the handle stays. */
void hga_xfer_stop(struct hga_xfer *x);
/* Stops and frees the easy handle; safe on a zeroed struct. */
void hga_xfer_close(struct hga_xfer *x);

/* Sets an option; the first failure is kept in *rc. */
#define HGA_SETOPT(x, rc, opt, val)                                            \
	do {                                                                   \
		CURLcode rc_ = curl_easy_setopt((x)->easy, (opt), (val));      \
		if (*(rc) == CURLE_OK)                                         \
			*(rc) = rc_;                                           \
	} while (0)

/* Fills err from a failed curl_easy_setopt and returns -kind. */
int hga_xfer_opt_err(CURLcode rc, struct hga_err *err);

/*
 * Fills err for a connection that could not be set up (resolve, connect,
 * proxy, TLS) and returns -kind; what: "HOST:PORT".  Every rc is mapped.
 */
int hga_xfer_conn_err(struct hga_xfer *x, CURLcode rc, const char *what,
                      struct hga_err *err);

/* Implemented by loop.c. */
CURLM *hga_loop_multi(struct hga_loop *loop, struct hga_err *err);
int hga_loop_xfer_add(struct hga_loop *loop, struct hga_xfer *x,
                      struct hga_err *err) HGA_MUST_USE;
void hga_loop_xfer_remove(struct hga_loop *loop, struct hga_xfer *x);

#endif
