/*
 * Answers of a hostile server to our HTTP client, through a unix socket.
 *
 * First byte: bits 0-1 choose the method, bit 2 sends the rest in two parts,
 * bit 3 collects into a sink.  Checked: done comes exactly once, a success
 * has a final status, limits hold, headers have their form.
 */
#include "net/http.h"
#include "net/listen.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_BODY 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct hga_loop *loop;
static struct hga_watch listener;
static char path[64];
static const uint8_t *answer;
static size_t answer_n, answer_cut;
static int n_done;
static size_t sunk;

static void need(bool cond)
{
	if (!cond)
		abort();
}

static void on_accept(struct hga_watch *w, int events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
	char in[4096];

	(void)events;
	if (fd < 0)
		return;
	/* The request is small: it is there or comes at once. */
	if (recv(fd, in, sizeof(in), MSG_DONTWAIT) < 0)
		in[0] = '\0';
	if (send(fd, answer, answer_cut, MSG_NOSIGNAL) >= 0 &&
	    answer_n > answer_cut &&
	    send(fd, answer + answer_cut, answer_n - answer_cut, MSG_NOSIGNAL) <
	        0)
		n_done += 0;
	shutdown(fd, SHUT_WR);
	while (recv(fd, in, sizeof(in), MSG_DONTWAIT) > 0)
		;
	close(fd);
}

static void clean_up(void)
{
	hga_watch_stop(loop, &listener);
	close(listener.fd);
	unlink(path);
	hga_loop_free(loop);
}

static void set_up(void)
{
	struct hga_err err;

	snprintf(path, sizeof(path), "/tmp/hga-fuzz-http.%d", (int)getpid());
	loop = hga_loop_new(&err);
	need(loop != NULL);
	listener.fd = hga_listen_unix(path, 0600, &err);
	need(listener.fd >= 0);
	listener.fn = on_accept;
	need(hga_watch_start(loop, &listener, HGA_READ, &err) == 0);
	need(atexit(clean_up) == 0);
}

static void on_done(struct hga_op *op)
{
	(void)op;
	n_done++;
}

static int on_head(void *data, struct hga_err *err)
{
	(void)err;
	need(sunk == 0);
	need(((struct hga_http *)data)->status >= 200);
	return 0;
}

static int on_body(void *data, const void *p, size_t n, struct hga_err *err)
{
	const char *c = p;

	(void)data;
	(void)err;
	if (n > 0)
		sunk += n + (c[0] != c[n - 1] ? 0 : 0);
	return 0;
}

/* Each line is "name: value" with a lower-case name. */
static void check_head(const struct hga_buf *head)
{
	const char *p = hga_buf_text(head), *nl, *colon;

	need(strlen(p) == head->len);
	for (; *p != '\0'; p = nl + 1) {
		nl = strchr(p, '\n');
		need(nl != NULL);
		colon = strstr(p, ": ");
		need(colon != NULL && colon > p && colon < nl);
		for (; p < colon; p++)
			need(*p > ' ' && *p < 0x7f &&
			     !(*p >= 'A' && *p <= 'Z'));
	}
}

static void check(struct hga_http *h)
{
	need(n_done == 1);
	need(h->base.state == HGA_OP_FINISHED);
	need(h->body.len <= MAX_BODY);
	if (h->base.err.kind != HGA_OK) {
		need(h->base.err.kind == HGA_NET ||
		     h->base.err.kind == HGA_PROTOCOL ||
		     h->base.err.kind == HGA_TIMEOUT);
		return;
	}
	need(h->status >= 200 && h->status <= 999);
	check_head(&h->head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "GET"};
	struct hga_http_args a = {.url = "http://fuzz/",
	                          .unix_socket = path,
	                          .fresh = true,
	                          .idle_ms = 300,
	                          .total_ms = 1000,
	                          .max_body = MAX_BODY};
	struct hga_http h;
	struct hga_err err;
	uint8_t how;

	if (loop == NULL)
		set_up();
	if (size < 1)
		return 0;
	how = data[0];
	answer = data + 1;
	answer_n = size - 1;
	answer_cut = how & 4 ? answer_n / 2 : answer_n;
	a.method = methods[how & 3];
	memset(&h, 0, sizeof(h));
	h.base.done = on_done;
	n_done = 0;
	sunk = 0;
	if (how & 8) {
		a.sink = on_body;
		a.on_head = on_head;
		a.data = &h;
	}
	need(hga_http_start(loop, &h, &a, &err) == 0);
	while (n_done == 0)
		need(hga_loop_step(loop, 2000, &err) == 0);
	check(&h);
	hga_http_release(&h);
	return 0;
}
