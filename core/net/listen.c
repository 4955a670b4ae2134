/* Listening sockets; see the header. */
#include "net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

union address {
	struct sockaddr sa;
	struct sockaddr_in s4;
	struct sockaddr_in6 s6;
	struct sockaddr_un un;
	struct sockaddr_storage any;
};

void hga_sockaddr_text(const struct sockaddr *sa, char *out, size_t size)
{
	const struct sockaddr_in *s4 = (const void *)sa;
	const struct sockaddr_in6 *s6 = (const void *)sa;
	char ip[INET6_ADDRSTRLEN] = "?";

	if (sa->sa_family == AF_INET) {
		inet_ntop(AF_INET, &s4->sin_addr, ip, sizeof(ip));
		snprintf(out, size, "%s:%d", ip, ntohs(s4->sin_port));
	} else if (sa->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &s6->sin6_addr, ip, sizeof(ip));
		snprintf(out, size, "[%s]:%d", ip, ntohs(s6->sin6_port));
	} else {
		snprintf(out, size, "unix");
	}
}

static socklen_t parse(const char *host, int port, union address *a)
{
	memset(a, 0, sizeof(*a));
	if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (inet_pton(AF_INET, host, &a->s4.sin_addr) == 1) {
		a->s4.sin_family = AF_INET;
		a->s4.sin_port = htons((uint16_t)port);
		return sizeof(a->s4);
	}
	if (inet_pton(AF_INET6, host, &a->s6.sin6_addr) == 1) {
		a->s6.sin6_family = AF_INET6;
		a->s6.sin6_port = htons((uint16_t)port);
		return sizeof(a->s6);
	}
	return 0;
}

static int new_socket(int family, struct hga_err *err)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return hga_fail(err, HGA_IO, errno, "Listen", "socket");
	return fd;
}

static int fail_close(int fd, const char *what, struct hga_err *err)
{
	int sys = errno;
	enum hga_kind kind = sys == EADDRINUSE ? HGA_EXISTS : HGA_IO;

	close(fd);
	return hga_fail(err, kind, sys, sys == EADDRINUSE ? "InUse" : "Listen",
	                "listen on %s", what);
}

static int bound_port(int fd)
{
	union address a;
	socklen_t n = sizeof(a);

	memset(&a, 0, sizeof(a));
	if (getsockname(fd, &a.sa, &n) < 0)
		return 0;
	return ntohs(a.sa.sa_family == AF_INET6 ? a.s6.sin6_port
	                                        : a.s4.sin_port);
}

int hga_listen_tcp(const char *host, int port, int *port_out,
                   struct hga_err *err)
{
	union address a;
	socklen_t len = parse(host, port, &a);
	char what[80];
	int fd, one = 1;

	if (len == 0 || port < 0 || port > 65535)
		return hga_fail(err, HGA_USAGE, 0, "Address",
		                "not a numeric address and port: %.60s:%d",
		                host, port);
	fd = new_socket(a.sa.sa_family, err);
	if (fd < 0)
		return fd;
	hga_sockaddr_text(&a.sa, what, sizeof(what));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, &a.sa, len) < 0 || listen(fd, BACKLOG) < 0)
		return fail_close(fd, what, err);
	if (port_out != NULL)
		*port_out = bound_port(fd);
	return fd;
}

/* Removes a socket file that nobody answers on; other files stay. */
static void remove_stale(const union address *a)
{
	struct stat st;
	int fd;

	if (lstat(a->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, &a->sa, sizeof(a->un)) < 0 && errno == ECONNREFUSED)
		(void)unlink(a->un.sun_path); /* bind tells when it stays */
	close(fd);
}

int hga_listen_unix(const char *path, mode_t mode, struct hga_err *err)
{
	union address a;
	int fd;

	memset(&a, 0, sizeof(a));
	a.un.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(a.un.sun_path) || path[0] == '\0')
		return hga_fail(err, HGA_USAGE, 0, "Address",
		                "socket path empty or over %zu bytes: %s",
		                sizeof(a.un.sun_path) - 1, path);
	memcpy(a.un.sun_path, path, strlen(path));
	remove_stale(&a);
	fd = new_socket(AF_UNIX, err);
	if (fd < 0)
		return fd;
	/* Nobody can connect before listen, so the mode is never too wide. */
	if (bind(fd, &a.sa, sizeof(a.un)) < 0 || chmod(path, mode) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return fail_close(fd, path, err);
	return fd;
}
