/*
 * Bytes of a hostile client to our HTTP server, through a socket pair.
 *
 * First byte: bit 0 answers later, bit 1 closes half way, bit 2 streams, bit
 * 3 aborts.  Checked: views lie in order, limits hold, nothing is left open.
 */
#include "net/httpd.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_BODY 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct hga_loop *loop;
static struct hga_httpd *srv;
static struct hga_err err;
static uint8_t how;
static struct hga_httpd_req *open_req;

static void need(bool cond)
{
	if (!cond)
		abort();
}

static void end_req(struct hga_httpd_req *q)
{
	struct hga_httpd_answer a = {
	    .status = 200, .body = "fine", .body_len = 4};

	if (how & 8) {
		hga_httpd_abort(q, HGA_CUT_FIN);
		return;
	}
	if (!(how & 4)) {
		need(hga_httpd_respond(q, &a, &err) == 0);
		return;
	}
	need(hga_httpd_stream_begin(q, &a, -1, &err) == 0);
	need(hga_httpd_stream_write(q, "more", 4, &err) == 0);
	hga_httpd_stream_end(q, true);
}

static void on_request(void *data, struct hga_httpd_req *q)
{
	size_t i;

	(void)data;
	need(q->method.n > 0 && q->target.n >= q->path.n);
	need(q->body.n <= MAX_BODY);
	for (i = 0; i < q->n_headers; i++) {
		need(memchr(q->headers[i].name.s, '\n', q->headers[i].name.n) ==
		     NULL);
		need(memchr(q->headers[i].value.s, '\n',
		            q->headers[i].value.n) == NULL);
	}
	if (how & 1) {
		need(open_req == NULL);
		open_req = q;
		return;
	}
	end_req(q);
}

static void on_gone(void *data, struct hga_httpd_req *q)
{
	(void)data;
	need(q == open_req || open_req == NULL);
}

static void steps(int n)
{
	while (n-- > 0)
		need(hga_loop_step(loop, 0, &err) == 0);
	if (open_req != NULL) {
		struct hga_httpd_req *q = open_req;

		open_req = NULL;
		end_req(q);
	}
}

static void clean_up(void)
{
	hga_httpd_close(srv);
	hga_loop_free(loop);
}

static void set_up(void)
{
	struct hga_httpd_opts o = {
	    .on_request = on_request, .on_gone = on_gone, .max_body = MAX_BODY};

	loop = hga_loop_new(&err);
	need(loop != NULL);
	srv = hga_httpd_open(loop, &o, &err);
	need(srv != NULL);
	need(atexit(clean_up) == 0);
}

static void feed(int fd, const uint8_t *p, size_t n)
{
	ssize_t k;

	while (n > 0) {
		k = send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		steps(3);
		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char in[65536];
	int sv[2], i;
	size_t n;

	if (loop == NULL)
		set_up();
	if (size < 1)
		return 0;
	how = data[0];
	n = size - 1;
	need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	need(hga_httpd_adopt_conn(srv, sv[0], "fuzz", &err) == 0);
	feed(sv[1], data + 1, how & 2 ? n / 2 : n);
	for (i = 0; i < 6; i++)
		steps(2);
	shutdown(sv[1], SHUT_WR);
	while (recv(sv[1], in, sizeof(in), MSG_DONTWAIT) > 0)
		steps(1);
	close(sv[1]);
	for (i = 0; i < 50 && hga_httpd_conns(srv) > 0; i++)
		steps(2);
	need(hga_httpd_conns(srv) == 0);
	return 0;
}
