/*
 * A TCP connection as a plain descriptor: DNS, happy eyeballs and proxies by
 * libcurl (CONNECT_ONLY), then the descriptor is duplicated and handed over.
 */
#ifndef HGA_NET_DIAL_H
#define HGA_NET_DIAL_H

#include "net/loop.h"
#include "net/op.h"

struct hga_dial {
	struct hga_op base;
	int fd;           /* after success: non-blocking, CLOEXEC, caller's */
	char address[64]; /* numeric peer address */
	void *impl;       /* the module's */
};

struct hga_dial_args {
	const char *host;
	int port;
	int64_t timeout_ms;       /* > 0; resolve and connect together */
	int family;               /* 0 any, 4, 6 */
	const char *bind_address; /* NULL: any */
};

/* Errors: net Resolve, Refused, Unreachable, Reset, Proxy, LocalOnly; timeout
 * Connect.  The only proxy is that of all_proxy (CONNECT or SOCKS). */
int hga_dial_start(struct hga_loop *loop, struct hga_dial *op,
                   const struct hga_dial_args *args,
                   struct hga_err *err) HGA_MUST_USE;

#endif
