/*
 * evil_sshd MODE: a server for one connection after the other that breaks the
 * SSH protocol before or in the key exchange.  Prints its port on 127.0.0.1.
 * RFC 4253; it holds no key and can do no harm but to time and memory.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BANNER "SSH-2.0-evil\r\n"

static int put(int fd, const void *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static int say(int fd, const char *s)
{
	return put(fd, s, strlen(s));
}

static void be32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

/* An unencrypted packet with that payload. */
static int packet(int fd, const unsigned char *payload, size_t n)
{
	unsigned char b[4096];
	size_t pad = 8 - (5 + n) % 8;

	if (pad < 4)
		pad += 8;
	memset(b, 0, sizeof(b));
	be32(b, (uint32_t)(1 + n + pad));
	b[4] = (unsigned char)pad;
	memcpy(b + 5, payload, n);
	return put(fd, b, 5 + n + pad);
}

static int raw_length(int fd, uint32_t n)
{
	unsigned char b[64] = {0};

	be32(b, n);
	b[4] = 4;
	b[5] = 20;
	return put(fd, b, sizeof(b));
}

static void wait_end(int fd)
{
	char b[4096];

	while (recv(fd, b, sizeof(b), 0) > 0)
		;
}

static int disconnect(int fd)
{
	unsigned char p[64] = {1};
	static const char text[] = "go away\033[2J";

	be32(p + 1, 11);
	be32(p + 5, sizeof(text) - 1);
	memcpy(p + 9, text, sizeof(text) - 1);
	return packet(fd, p, 9 + sizeof(text) - 1 + 4);
}

/* One message without end, before any key exchange. */
static void flood(int fd, unsigned char type)
{
	unsigned char p[2048] = {type};

	if (type == 7) { /* ext-info: one extension with a long value */
		be32(p + 1, 1);
		be32(p + 5, 15);
		memcpy(p + 9, "server-sig-algs", 15);
		be32(p + 24, 1900);
	} else {
		be32(p + 1, 2000);
	}
	while (packet(fd, p, 2005) == 0)
		;
}

/* A beginning of a packet of 30,000 bytes, byte by byte. */
static void drip(int fd)
{
	unsigned char c[6] = {0, 0, 0x75, 0x30, 4, 20};

	for (int i = 0; put(fd, &c[i < 5 ? i : 5], 1) == 0; i++)
		usleep(50000);
}

static void serve(int fd, const char *mode)
{
	int i;

	if (strcmp(mode, "close") == 0)
		return;
	if (strcmp(mode, "silent") == 0) {
		wait_end(fd);
		return;
	}
	if (strcmp(mode, "http") == 0) {
		for (i = 0; i < 1000 && say(fd, "HTTP/1.1 400 no\r\n") == 0;
		     i++)
			;
		wait_end(fd);
		return;
	}
	if (strcmp(mode, "lines") == 0) {
		while (say(fd, "\033]0;hello\007 welcome\r\n") == 0)
			;
		return;
	}
	if (strcmp(mode, "longline") == 0) {
		while (say(fd, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx") == 0)
			;
		return;
	}
	if (strcmp(mode, "ssh1") == 0) {
		say(fd, "SSH-1.5-old\r\n");
		wait_end(fd);
		return;
	}
	if (strcmp(mode, "slow") == 0) {
		for (i = 0; BANNER[i] != '\0' && put(fd, &BANNER[i], 1) == 0;
		     i++)
			usleep(700000);
		return;
	}
	say(fd, BANNER);
	if (strcmp(mode, "late") == 0) {
		usleep(300000);
		return;
	}
	if (strcmp(mode, "zero") == 0)
		raw_length(fd, 0);
	else if (strcmp(mode, "huge") == 0)
		raw_length(fd, 0x7fffffff);
	else if (strcmp(mode, "garbage") == 0)
		say(fd, "\3\2\1garbage that is no packet at all, and more");
	else if (strcmp(mode, "disconnect") == 0)
		disconnect(fd);
	else if (strcmp(mode, "ignore-flood") == 0)
		flood(fd, 2);
	else if (strcmp(mode, "debug-flood") == 0)
		flood(fd, 4);
	else if (strcmp(mode, "ext-info-flood") == 0)
		flood(fd, 7);
	else if (strcmp(mode, "unknown-flood") == 0)
		flood(fd, 200);
	else if (strcmp(mode, "slow-kex") == 0)
		drip(fd);
	wait_end(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t n = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	signal(SIGPIPE, SIG_IGN);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (argc != 2 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(fd, 5) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
		return 1;
	printf("%d\n", ntohs(sa.sin_port));
	fflush(stdout);
	for (;;) {
		int c = accept(fd, NULL, NULL);

		if (c < 0)
			return 1;
		serve(c, argv[1]);
		close(c);
	}
}
