/*
 * A TCP peer on loopback that does not come to an end.
 *
 * stall MODE [TEXT]: prints "listening PORT", then, to each connection,
 *   hang       reads and never answers
 *   freeze     sends TEXT at once and nothing more
 *   slow       sends TEXT, a byte each 100 ms, again and again
 *   blackhole  is never reached: its queue is full, packets are dropped
 * It ends with its parent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 256

static struct pollfd fds[MOST];
static size_t sent[MOST];
static int n = 1; /* the listener */

_Noreturn static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int listener(int queue, struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(at, 0, sizeof(*at));
	at->sin_family = AF_INET;
	at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof(*at)) != 0 ||
	    listen(fd, queue) != 0 ||
	    getsockname(fd, (struct sockaddr *)at, &len) != 0)
		fail("listen");
	return fd;
}

/* Connects to itself until that takes longer than it can. */
static void fill_queue(const struct sockaddr_in *at)
{
	for (int i = 0; i < 64; i++) {
		int fd = socket(AF_INET,
		                SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		struct pollfd p = {fd, POLLOUT, 0};

		if (fd < 0)
			fail("socket");
		if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) !=
		        0 &&
		    errno != EINPROGRESS)
			fail("connect");
		if (poll(&p, 1, 200) == 0)
			return;
	}
}

static void take(int queue)
{
	int fd = accept4(queue, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (n == MOST) {
		close(fd);
		return;
	}
	fds[n] = (struct pollfd){fd, POLLIN, 0};
	sent[n++] = 0;
}

/* What came is of no interest; false: the other end is gone. */
static int drain(int fd)
{
	char buf[65536];
	ssize_t r = read(fd, buf, sizeof(buf));

	return r > 0 || (r < 0 && (errno == EAGAIN || errno == EINTR));
}

static void say(int i, const char *text, int slow)
{
	size_t len = strlen(text);
	size_t want = slow ? 1 : len;

	if (!slow && sent[i] > 0)
		return;
	if (write(fds[i].fd, text + sent[i] % len, want) > 0)
		sent[i] += want;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int hang = strcmp(mode, "hang") == 0;
	const char *text = argc > 2 && !hang ? argv[2] : "";
	int blackhole = strcmp(mode, "blackhole") == 0;
	int slow = strcmp(mode, "slow") == 0;
	struct sockaddr_in at;
	int fd;

	if (!blackhole && !slow && !hang && strcmp(mode, "freeze") != 0) {
		fprintf(stderr, "usage: stall hang|freeze|slow|blackhole "
		                "[TEXT]\n");
		return 2;
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = listener(blackhole ? 0 : 64, &at);
	if (blackhole)
		fill_queue(&at);
	printf("listening %d\n", ntohs(at.sin_port));
	fflush(stdout);
	fds[0] = (struct pollfd){blackhole ? -1 : fd, POLLIN, 0};
	for (;;) {
		if (poll(fds, (nfds_t)n, 100) < 0 && errno != EINTR)
			fail("poll");
		if (fds[0].revents & POLLIN)
			take(fd);
		for (int i = 1; i < n; i++) {
			if (fds[i].revents != 0 && !drain(fds[i].fd)) {
				close(fds[i].fd);
				fds[i] = fds[--n];
				sent[i--] = sent[n];
			} else if (*text != '\0') {
				say(i, text, slow);
			}
		}
	}
}
