/*
 * TCP connections for protocols libcurl does not speak: an easy handle with
 * CONNECT_ONLY does names, addresses and proxies; its descriptor is
 * duplicated and the handle dropped.
 */
#include "net/dial.h"

#include "base/mem.h"
#include "net/xfer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_HOST 255

struct impl {
	struct hga_xfer x;
	struct hga_dial *op;
	char what[MAX_HOST + 16];
};

static void impl_free(struct impl *m)
{
	hga_xfer_close(&m->x);
	hga_free(m);
}

static void note_peer(struct hga_dial *op)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in s4;
		struct sockaddr_in6 s6;
	} u;
	socklen_t n = sizeof(u);

	op->address[0] = '\0';
	memset(&u, 0, sizeof(u));
	if (getpeername(op->fd, &u.sa, &n) < 0)
		return;
	if (u.sa.sa_family == AF_INET)
		inet_ntop(AF_INET, &u.s4.sin_addr, op->address,
		          sizeof(op->address));
	if (u.sa.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &u.s6.sin6_addr, op->address,
		          sizeof(op->address));
}

/* Takes the descriptor out of libcurl's hands. */
static int take_fd(struct impl *m, struct hga_err *err)
{
	curl_socket_t s = CURL_SOCKET_BAD;
	int fd, flags;

	curl_easy_getinfo(m->x.easy, CURLINFO_ACTIVESOCKET, &s);
	if (s == CURL_SOCKET_BAD)
		return hga_fail(err, HGA_NET, 0, "Reset",
		                "connection to %s was lost", m->what);
	fd = fcntl(s, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return hga_fail(err, HGA_IO, errno, "Dial",
		                "duplicate a descriptor");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		close(fd);
		return hga_fail(err, HGA_IO, errno, "Dial",
		                "make a descriptor non-blocking");
	}
	m->op->fd = fd;
	return 0;
}

/* The results are in op->base.err. */
static void on_leaving(struct hga_xfer *x, CURLcode rc)
{
	struct impl *m = x->data;

	if (rc != CURLE_OK)
		hga_xfer_conn_err(x, rc, m->what, &m->op->base.err);
	else if (take_fd(m, &m->op->base.err) == 0)
		note_peer(m->op);
}

static void on_done(struct hga_xfer *x, CURLcode rc)
{
	struct impl *m = x->data;
	struct hga_dial *op = m->op;

	(void)rc; /* on_leaving has read it */
	op->impl = NULL;
	impl_free(m);
	hga_op_finish(&op->base);
}

static void cancel(struct hga_op *op)
{
	struct hga_dial *d = (struct hga_dial *)op;

	hga_op_drop(op);
	if (d->impl != NULL)
		impl_free(d->impl);
	d->impl = NULL;
}

static bool good_host(const char *host)
{
	size_t n = strlen(host);

	return n > 0 && n <= MAX_HOST &&
	       strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST"
	                    "UVWXYZ0123456789-._:%") == n;
}

static int set_opts(struct impl *m, const struct hga_dial_args *a,
                    struct hga_err *err)
{
	const long family[] = {CURL_IPRESOLVE_WHATEVER, CURL_IPRESOLVE_V4,
	                       CURL_IPRESOLVE_V6};
	char url[MAX_HOST + 32], from[128];
	CURLcode rc = CURLE_OK;

	snprintf(url, sizeof(url), "http://%s/", m->what);
	HGA_SETOPT(&m->x, &rc, CURLOPT_URL, url);
	HGA_SETOPT(&m->x, &rc, CURLOPT_CONNECT_ONLY, 1L);
	HGA_SETOPT(&m->x, &rc, CURLOPT_FRESH_CONNECT, 1L);
	HGA_SETOPT(&m->x, &rc, CURLOPT_CONNECTTIMEOUT_MS, (long)a->timeout_ms);
	HGA_SETOPT(&m->x, &rc, CURLOPT_TIMEOUT_MS, (long)a->timeout_ms);
	HGA_SETOPT(&m->x, &rc, CURLOPT_IPRESOLVE,
	           family[a->family == 4   ? 1
	                  : a->family == 6 ? 2
	                                   : 0]);
	if (a->bind_address != NULL) {
		snprintf(from, sizeof(from), "host!%s", a->bind_address);
		HGA_SETOPT(&m->x, &rc, CURLOPT_INTERFACE, from);
	}
	return hga_xfer_opt_err(rc, err);
}

static int begin(struct hga_loop *loop, struct impl *m,
                 const struct hga_dial_args *a, struct hga_err *err)
{
	struct hga_xfer_peer peer = {
	    .host = a->host, .port = a->port, .use = HGA_X_TCP};
	int r;

	m->x.data = m;
	m->x.leaving = on_leaving;
	m->x.done = on_done;
	snprintf(m->what, sizeof(m->what),
	         strchr(a->host, ':') != NULL ? "[%s]:%d" : "%s:%d", a->host,
	         a->port);
	if ((r = hga_xfer_open(loop, &m->x, &peer, err)) < 0)
		return r;
	if ((r = set_opts(m, a, err)) < 0)
		return r;
	return hga_xfer_start(&m->x, err);
}

int hga_dial_start(struct hga_loop *loop, struct hga_dial *op,
                   const struct hga_dial_args *args, struct hga_err *err)
{
	struct impl *m;
	int r;

	if (!good_host(args->host) || args->port < 1 || args->port > 65535)
		return hga_fail(err, HGA_USAGE, 0, "Address",
		                "bad host name or port");
	m = hga_calloc(1, sizeof(*m));
	if (m == NULL)
		return hga_fail_mem(err);
	r = begin(loop, m, args, err);
	if (r < 0) {
		impl_free(m);
		return r;
	}
	m->op = op;
	op->impl = m;
	op->fd = -1;
	op->address[0] = '\0';
	hga_op_begin(&op->base, cancel);
	return 0;
}
