/*
 * net/dial: the descriptor handed over, no byte lost, errors, cancel, guard.
 */
#include "tap.h"

#include "net/dial.h"
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct hga_loop *loop;
static struct hga_err err;
static int n_done;

static int64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_done(struct hga_op *op)
{
	(void)op;
	n_done++;
}

static int run(struct hga_dial *d, const char *host, int port, int family)
{
	struct hga_dial_args a = {
	    .host = host, .port = port, .timeout_ms = 3000, .family = family};
	int64_t end = ms_now() + 6000;
	int r;

	memset(d, 0, sizeof(*d));
	d->base.done = on_done;
	n_done = 0;
	r = hga_dial_start(loop, d, &a, &err);
	if (r < 0)
		return r;
	ok(n_done == 0, "start calls no callback");
	while (n_done == 0 && ms_now() < end)
		if (hga_loop_step(loop, 100, &err) < 0)
			break;
	return -(int)d->base.err.kind;
}

static void test_connect(int lfd, int port)
{
	struct hga_dial d;
	char buf[32] = "";
	int peer, i;

	is_int(run(&d, "localhost", port, 0), 0, "a name");
	ok(d.fd >= 0, "gives a descriptor");
	ok(fcntl(d.fd, F_GETFD) & FD_CLOEXEC, "CLOEXEC");
	ok(fcntl(d.fd, F_GETFL) & O_NONBLOCK, "non-blocking");
	is_str(d.address, "127.0.0.1", "the numeric address");
	peer = accept(lfd, NULL, NULL);
	for (i = 0; i < 20; i++)
		if (hga_loop_step(loop, 10, &err) < 0)
			break;
	is_int(send(peer, "SSH-2.0-x\r\n", 11, 0), 11,
	       "the connection outlives libcurl's handle");
	poll(&(struct pollfd){.fd = d.fd, .events = POLLIN}, 1, 2000);
	is_int(recv(d.fd, buf, sizeof(buf) - 1, 0), 11, "bytes arrive");
	is_str(buf, "SSH-2.0-x\r\n", "unchanged");
	is_int(send(d.fd, "hi", 2, 0), 2, "and go the other way");
	is_int(recv(peer, buf, sizeof(buf), 0), 2, "too");
	close(d.fd);
	is_int(recv(peer, buf, sizeof(buf), 0), 0, "closing it closes all");
	close(peer);
}

static void test_errors(int lfd, int port)
{
	struct hga_dial d;
	int p = 0, fd = hga_listen_tcp("127.0.0.1", 0, &p, &err);

	(void)lfd;
	close(fd);
	is_int(run(&d, "127.0.0.1", p, 0), -HGA_NET, "nobody listens");
	is_str(d.base.err.code, "Refused", "is Refused");
	ok(strstr(d.base.err.msg, "127.0.0.1:") != NULL, "names the address");
	is_int(run(&d, "no such host", 22, 0), -HGA_USAGE, "a bad name");
	is_int(run(&d, "127.0.0.1", 70000, 0), -HGA_USAGE, "a bad port");
	is_int(run(&d, "name.invalid", 22, 0), -HGA_NET, "an unknown name");
	ok(strcmp(d.base.err.code, "Resolve") == 0, "is Resolve");
	hga_loop_local_only(loop, true);
	is_int(run(&d, "203.0.113.9", 22, 0), -HGA_NET, "local only");
	is_str(err.msg,
	       "refusing to connect to 203.0.113.9:22: not a local cloud "
	       "address",
	       "refuses other addresses");
	is_int(run(&d, "127.0.0.1", port, 4), 0, "but not loopback");
	close(d.fd);
	hga_loop_local_only(loop, false);
}

/* Connects hang when nobody accepts and the queue is full. */
static void test_slow(void)
{
	int p = 0, fd = hga_listen_tcp("127.0.0.1", 0, &p, &err), i, fds[8];
	struct hga_dial_args a = {
	    .host = "127.0.0.1", .port = p, .timeout_ms = 300};
	struct hga_dial d = {.base.done = on_done};
	int64_t t0;

	listen(fd, 0); /* shrinks the queue */
	for (i = 0; i < 8; i++) {
		struct sockaddr_storage sa;
		socklen_t n = sizeof(sa);

		getsockname(fd, (struct sockaddr *)&sa, &n);
		fds[i] = socket(AF_INET,
		                SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fds[i], (struct sockaddr *)&sa, n);
	}
	t0 = ms_now();
	n_done = 0;
	if (hga_dial_start(loop, &d, &a, &err) < 0)
		ok(false, "start");
	while (n_done == 0 && ms_now() - t0 < 5000)
		if (hga_loop_step(loop, 100, &err) < 0)
			break;
	ok(d.base.err.kind == HGA_TIMEOUT &&
	       strcmp(d.base.err.code, "Connect") == 0,
	   "a connection that never comes is timeout Connect");
	ok(ms_now() - t0 < 1500, "in time");
	a.timeout_ms = 60000;
	n_done = 0;
	if (hga_dial_start(loop, &d, &a, &err) < 0)
		ok(false, "start");
	if (hga_loop_step(loop, 50, &err) < 0)
		ok(false, "step");
	hga_op_cancel(&d.base);
	memset(&d, 0xee, sizeof(d));
	for (i = 0; i < 5; i++)
		if (hga_loop_step(loop, 10, &err) < 0)
			ok(false, "step");
	is_int(n_done, 0, "no callback after cancel");
	for (i = 0; i < 8; i++)
		close(fds[i]);
	close(fd);
}

static int open_fds(void)
{
	int i, n = 0;

	for (i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

int main(void)
{
	int fds = open_fds(), port = 0, lfd;

	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	loop = hga_loop_new(&err);
	lfd = hga_listen_tcp("127.0.0.1", 0, &port, &err);
	fcntl(lfd, F_SETFL, 0);
	test_connect(lfd, port);
	test_errors(lfd, port);
	test_slow();
	close(lfd);
	ok(!hga_loop_busy(loop), "idle at the end");
	hga_loop_free(loop);
	is_int(open_fds(), fds, "no descriptor leaks");
	return done();
}
