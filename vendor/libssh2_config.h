/*
 * Configuration of the vendored libssh2 (compiled with -DHAVE_CONFIG_H and
 * this directory in the include path): Linux, OpenSSL, no zlib, no traces.
 */
#ifndef HGA_LIBSSH2_CONFIG_H
#define HGA_LIBSSH2_CONFIG_H

#ifndef LIBSSH2_OPENSSL
#define LIBSSH2_OPENSSL
#endif

#define HAVE_UNISTD_H
#define HAVE_INTTYPES_H
#define HAVE_SYS_UIO_H
#define HAVE_SYS_SELECT_H
#define HAVE_SYS_SOCKET_H
#define HAVE_SYS_IOCTL_H
#define HAVE_SYS_TIME_H
#define HAVE_SYS_UN_H
#define HAVE_ARPA_INET_H
#define HAVE_NETINET_IN_H
#define HAVE_GETTIMEOFDAY
#define HAVE_STRTOLL
#define HAVE_SNPRINTF
#define HAVE_EXPLICIT_BZERO
#define HAVE_POLL
#define HAVE_O_NONBLOCK

#endif
