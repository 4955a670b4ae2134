/*
 * delay MS NAME1 ADDR1 NAME2 ADDR2 -- COMMAND...: two network namespaces
 * joined by a line that holds each packet back for MS milliseconds, each way,
 * without loss; for kernels without netem.  Runs COMMAND in the second one,
 * with HGAUTO_NS1 in its environment: `nsenter --net=$HGAUTO_NS1` starts a
 * server in the first.  Ends with the command and its exit code.
 *
 * Each side is a TUN device; its packets wait in a FIFO of RING entries.
 * Needs root and /dev/net/tun; 77 without.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RING 8192
#define MTU 1500

struct packet {
	int64_t due_us;
	uint16_t n;
	unsigned char p[MTU + 4];
};

struct line {
	int from, to;
	struct packet *ring;
	unsigned head, len;
};

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void die(const char *what)
{
	fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
	exit(77);
}

static void run(const char *const *argv)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	if (status != 0) {
		fprintf(stderr, "delay: failed: %s %s %s\n", argv[0], argv[1],
		        argv[2]);
		exit(77);
	}
}

/* A new network namespace with one TUN device; its descriptor. */
static int make_side(const char *name, const char *addr, const char *peer)
{
	struct ifreq r;
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		die("network namespace");
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		die("/dev/net/tun");
	memset(&r, 0, sizeof(r));
	r.ifr_flags = IFF_TUN | IFF_NO_PI;
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &r) < 0)
		die("TUN");
	run((const char *[]){"ip", "link", "set", "lo", "up", NULL});
	run((const char *[]){"ip", "link", "set", "dev", name, "up", "mtu",
	                     "1500", "txqueuelen", "20000", NULL});
	run((const char *[]){"ip", "addr", "add", addr, "dev", name, NULL});
	run((const char *[]){"ip", "route", "add", peer, "dev", name, NULL});
	return fd;
}

static void take(struct line *l, int64_t delay_us)
{
	int64_t due = now_us() + delay_us;

	while (l->len < RING) {
		struct packet *k = &l->ring[(l->head + l->len) % RING];
		ssize_t n = read(l->from, k->p, sizeof(k->p));

		if (n <= 0)
			return;
		k->n = (uint16_t)n;
		k->due_us = due;
		l->len++;
	}
}

/* Sends what is due; microseconds until the next, -1: none waits. */
static int64_t give(struct line *l)
{
	while (l->len > 0) {
		struct packet *k = &l->ring[l->head];
		int64_t left = k->due_us - now_us();

		if (left > 0)
			return left;
		if (write(l->to, k->p, k->n) < 0 && errno == EAGAIN)
			return 200;
		l->head = (l->head + 1) % RING;
		l->len--;
	}
	return -1;
}

static void relay(int a, int b, int64_t delay_us)
{
	struct line l[2] = {{.from = a, .to = b}, {.from = b, .to = a}};

	for (int i = 0; i < 2; i++) {
		l[i].ring = calloc(RING, sizeof(struct packet));
		if (l[i].ring == NULL)
			die("memory");
	}
	/* A line does not wait for a processor; without the right it may. */
	(void)sched_setscheduler(0, SCHED_RR, &(struct sched_param){1});
	for (;;) {
		struct pollfd p[2] = {{.fd = a, .events = POLLIN},
		                      {.fd = b, .events = POLLIN}};
		int64_t wait_us = -1;
		struct timespec ts;

		for (int i = 0; i < 2; i++) {
			int64_t left = give(&l[i]);

			if (left >= 0 && (wait_us < 0 || left < wait_us))
				wait_us = left;
			if (l[i].len == RING)
				p[i].fd = -1;
		}
		ts.tv_sec = wait_us / 1000000;
		ts.tv_nsec = wait_us % 1000000 * 1000;
		if (ppoll(p, 2, wait_us < 0 ? NULL : &ts, NULL) < 0 &&
		    errno != EINTR)
			die("poll");
		for (int i = 0; i < 2; i++)
			take(&l[i], delay_us);
	}
}

int main(int argc, char **argv)
{
	char ns1[64];
	int fd1, fd2, status = 0;
	pid_t line, pid;

	if (argc < 8 || strcmp(argv[6], "--") != 0) {
		fprintf(stderr, "usage: delay MS NAME1 ADDR1 NAME2 ADDR2 -- "
		                "COMMAND...\n");
		return 2;
	}
	fd1 = make_side(argv[2], argv[3], argv[5]);
	snprintf(ns1, sizeof(ns1), "/proc/%d/fd/%d", (int)getpid(),
	         open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	fd2 = make_side(argv[4], argv[5], argv[3]);
	setenv("HGAUTO_NS1", ns1, 1);
	line = fork();
	if (line == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		relay(fd1, fd2, (int64_t)(atof(argv[1]) * 1000));
	}
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(fd1);
		close(fd2);
		execvp(argv[7], argv + 7);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	kill(line, SIGKILL);
	waitpid(line, NULL, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}
