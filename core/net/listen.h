/*
 * Listening sockets: TCP on a numeric address, unix on a path.  They are
 * non-blocking and CLOEXEC and belong to the caller.
 */
#ifndef HGA_NET_LISTEN_H
#define HGA_NET_LISTEN_H

#include "base/err.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

/*
 * host: numeric IPv4 or IPv6 address, or localhost; port 0: any, the result
 * is in *port_out (may be NULL).  Returns the descriptor or -kind: exists
 * "InUse", usage "Address", io "Listen".
 */
int hga_listen_tcp(const char *host, int port, int *port_out,
                   struct hga_err *err) HGA_MUST_USE;

/*
 * Binds to a path with that mode.  A socket file that nobody listens on is
 * replaced; a live one is exists "InUse"; a path over 107 bytes usage
 * "Address".  Whoever closes the descriptor removes the file.
 */
int hga_listen_unix(const char *path, mode_t mode,
                    struct hga_err *err) HGA_MUST_USE;

/* "127.0.0.1:80", "[::1]:80" or "unix". */
void hga_sockaddr_text(const struct sockaddr *sa, char *out, size_t size);

#endif
