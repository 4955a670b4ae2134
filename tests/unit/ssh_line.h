/*
 * For ssh_*.c: a transport to the sshd of ssh_env.h that misbehaves as told.
 */
#ifndef HGA_TEST_SSH_LINE_H
#define HGA_TEST_SSH_LINE_H

#include "ssh_env.h"

struct line {
	int fd;
	uint64_t rx, tx;
	uint64_t cut_rx;   /* end of the stream after so many bytes; 0: never */
	uint64_t stall_rx; /* nothing more after so many */
	uint64_t flip_tx;  /* this byte (1-based) arrives wrong */
	size_t max_rx, max_tx; /* bytes a call; 0: all */
};

static ssize_t line_recv(void *ctx, void *buf, size_t n)
{
	struct line *l = ctx;
	ssize_t r;

	if (l->stall_rx != 0 && l->rx >= l->stall_rx)
		return -EAGAIN;
	if (l->cut_rx != 0 && l->rx >= l->cut_rx)
		return 0;
	if (l->cut_rx != 0 && n > l->cut_rx - l->rx)
		n = (size_t)(l->cut_rx - l->rx);
	if (l->stall_rx != 0 && n > l->stall_rx - l->rx)
		n = (size_t)(l->stall_rx - l->rx);
	if (l->max_rx != 0 && n > l->max_rx)
		n = l->max_rx;
	r = recv(l->fd, buf, n, 0);
	if (r < 0)
		return -errno;
	l->rx += (uint64_t)r;
	return r;
}

static ssize_t line_send(void *ctx, const void *buf, size_t n)
{
	struct line *l = ctx;
	unsigned char one;
	ssize_t r;

	if (l->max_tx != 0 && n > l->max_tx)
		n = l->max_tx;
	if (l->flip_tx > l->tx && n > l->flip_tx - l->tx - 1) {
		n = (size_t)(l->flip_tx - l->tx - 1);
		if (n == 0) {
			one = *(const unsigned char *)buf ^ 0x20;
			buf = &one;
			n = 1;
		}
	}
	r = send(l->fd, buf, n, MSG_NOSIGNAL);
	if (r < 0)
		return -errno;
	l->tx += (uint64_t)r;
	return r;
}

static void line_close(void *ctx)
{
	struct line *l = ctx;

	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

static const struct hga_bio_ops line_ops = {line_recv, line_send, line_close};

static int line_dial(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	                         .sin_port = htons((uint16_t)env.port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static struct hga_ssh *line_connect(struct line *l, const char *cipher,
                                    const char *mac, struct hga_ssh_connect *op)
{
	struct hga_ssh_args a = env_args();

	l->fd = line_dial();
	if (l->fd < 0)
		return NULL;
	a.ops = &line_ops;
	a.ops_ctx = l;
	a.ops_fd = l->fd;
	a.ciphers = cipher;
	a.macs = mac;
	a.banner_ms = a.kex_ms = a.login_ms = 2000;
	return env_connect_args(&a, op);
}

#endif
