/*
 * net/http against our own httpd (what is sent, kept connections, limits,
 * deadlines) and against raw sockets that misbehave: cut, garbage, slow,
 * huge, interim answers, a kept connection that dies under the request.
 */
#include "tap.h"

#include "base/mem.h"
#include "net/http.h"
#include "net/httpd.h"
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct hga_loop *loop;
static struct hga_err err;
static int port;

static int64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void step(int ms)
{
	if (hga_loop_step(loop, ms, &err) < 0)
		ok(false, "step: %s", err.msg);
}

/* ---- a server that does what its script says ---- */

/*
 * Each connection plays the script of its number (the last one for all later
 * ones).  A script is a text: '<' waits for a whole request head (and counts
 * it), '>' sends the text up to the next blank line mark '|', '.' waits 150
 * ms, 'F' closes, 'R' resets, 'H' holds.
 */
struct peer {
	struct hga_watch w;
	struct hga_timer t;
	const char *at;
	char in[70000];
	size_t n;
};

static int raw_fd, raw_port, raw_conns, raw_heads;
static struct hga_watch raw_w;
static struct peer *peers[16];
static const char *scripts[8];
static char raw_in[70000]; /* the last request */

static void play(struct peer *p);

static void peer_end(struct peer *p, bool reset)
{
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	if (p->w.fd < 0)
		return;
	hga_watch_stop(loop, &p->w);
	hga_timer_stop(loop, &p->t);
	if (reset && connect(p->w.fd, &sa, sizeof(sa)) < 0)
		ok(false, "reset");
	close(p->w.fd);
	p->w.fd = -1;
}

static void on_timer(struct hga_timer *t)
{
	play(t->data);
}

static const char *body_end(const char *head)
{
	const char *cl = strcasestr(head, "\r\nContent-Length: ");
	const char *end = strstr(head, "\r\n\r\n");

	if (end == NULL)
		return NULL;
	end += 4;
	return cl != NULL ? end + strtoul(cl + 18, NULL, 10) : end;
}

static void on_peer(struct hga_watch *w, int events)
{
	struct peer *p = w->data;
	ssize_t k;

	(void)events;
	k = recv(w->fd, p->in + p->n, sizeof(p->in) - 1 - p->n, 0);
	if (k <= 0 && errno != EAGAIN) {
		peer_end(p, false);
		return;
	}
	if (k <= 0)
		return;
	p->n += (size_t)k;
	p->in[p->n] = '\0';
	play(p);
}

static bool take_request(struct peer *p)
{
	const char *end = body_end(p->in);

	if (p->n == 0 || end == NULL || end > p->in + p->n)
		return false;
	raw_heads++;
	memcpy(raw_in, p->in, (size_t)(end - p->in));
	raw_in[end - p->in] = '\0';
	p->n -= (size_t)(end - p->in);
	memmove(p->in, end, p->n);
	p->in[p->n] = '\0';
	return true;
}

static void send_all(int fd, const char *s, size_t n)
{
	int64_t end = ms_now() + 5000;

	while (n > 0 && ms_now() < end) {
		ssize_t k = send(fd, s, n, MSG_NOSIGNAL);

		if (k < 0 && errno != EAGAIN)
			return;
		if (k > 0) {
			s += k;
			n -= (size_t)k;
		}
	}
}

static void play(struct peer *p)
{
	const char *end;

	while (p->w.fd >= 0) {
		switch (*p->at) {
		case '<':
			if (!take_request(p))
				return;
			p->at++;
			break;
		case '>':
			end = strchr(p->at, '|');
			send_all(p->w.fd, p->at + 1, (size_t)(end - p->at - 1));
			p->at = end + 1;
			break;
		case 'Z': /* a NUL inside the header */
			send_all(p->w.fd, "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
			         27);
			p->at++;
			break;
		case 'L': /* endless headers */
			send_all(p->w.fd, "HTTP/1.1 200 OK\r\n", 17);
			for (int i = 0; i < 3000; i++)
				send_all(p->w.fd,
				         "X-Long-Header-Name: and a value\r\n",
				         33);
			p->at++;
			break;
		case 'I': /* endless interim answers */
			for (int i = 0; i < 3000; i++)
				send_all(p->w.fd,
				         "HTTP/1.1 103 Early\r\nX: y\r\n\r\n",
				         28);
			p->at++;
			break;
		case 'W': { /* one endless header line */
			char x[1000];

			memset(x, 'x', sizeof(x));
			send_all(p->w.fd, "HTTP/1.1 200 OK\r\nX: ", 20);
			for (int i = 0; i < 300; i++)
				send_all(p->w.fd, x, sizeof(x));
			p->at++;
			break;
		}
		case '.':
			p->at++;
			if (hga_timer_start(loop, &p->t, 150, &err) < 0)
				ok(false, "timer");
			return;
		case 'F':
			peer_end(p, false);
			return;
		case 'R':
			peer_end(p, true);
			return;
		default: /* H */
			return;
		}
	}
}

static void on_raw(struct hga_watch *w, int events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct peer *p;
	int i = raw_conns;

	(void)events;
	if (fd < 0 || raw_conns >= 16)
		return;
	while (i > 0 && (i >= 8 || scripts[i] == NULL))
		i--;
	p = peers[raw_conns++] = calloc(1, sizeof(*p));
	p->at = scripts[i];
	p->w.fd = fd;
	p->w.fn = on_peer;
	p->w.data = p->t.data = p;
	p->t.fn = on_timer;
	if (hga_watch_start(loop, &p->w, HGA_READ, &err) < 0)
		ok(false, "watch");
	play(p);
}

static void raw_reset(const char *a, const char *b)
{
	int i;

	for (i = 0; i < raw_conns; i++) {
		peer_end(peers[i], false);
		free(peers[i]);
	}
	raw_conns = raw_heads = 0;
	memset(scripts, 0, sizeof(scripts));
	scripts[0] = a;
	scripts[1] = b;
}

/* ---- one request ---- */

static int n_done;

static void on_done(struct hga_op *op)
{
	(void)op;
	n_done++;
}

static struct hga_http_args get(const char *url)
{
	struct hga_http_args a = {.method = "GET", .url = url};

	return a;
}

static int run(struct hga_http *h, const struct hga_http_args *a)
{
	int64_t end = ms_now() + 8000;
	int r;

	memset(h, 0, sizeof(*h));
	h->base.done = on_done;
	n_done = 0;
	r = hga_http_start(loop, h, a, &err);
	if (r < 0)
		return r;
	while (n_done == 0 && ms_now() < end)
		step(100);
	if (n_done != 1)
		ok(false, "done once, got %d", n_done);
	return -(int)h->base.err.kind;
}

static const char *raw_url(void)
{
	static char url[64];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", raw_port);
	return url;
}

static void expect(const char *script, enum hga_kind kind, const char *code,
                   const char *name)
{
	struct hga_http_args a = get(raw_url());
	struct hga_http h;
	int r;

	raw_reset(script, NULL);
	a.fresh = true;
	a.idle_ms = 600;
	r = run(&h, &a);
	if (!ok(r == -(int)kind && strcmp(h.base.err.code, code) == 0, "%s",
	        name))
		printf("# %s %s: %s (status %d, body %s)\n",
		       hga_kind_name(h.base.err.kind), h.base.err.code,
		       h.base.err.msg, h.status, hga_buf_text(&h.body));
	hga_http_release(&h);
}

/* ---- misbehaving servers ---- */

#define OK200 "HTTP/1.1 200 OK\r\n"

static void test_broken(void)
{
	expect("<>" OK200 "Content-Length: 2\r\n\r\nok|H", HGA_OK, "",
	       "a plain answer");
	expect("<F", HGA_NET, "Reset", "closed without an answer");
	expect("<R", HGA_NET, "Reset", "reset without an answer");
	expect("F", HGA_NET, "Reset", "closed at once");
	expect("<>HTTP/1.1 200 O|F", HGA_NET, "Reset", "cut status line");
	expect("<>" OK200 "Content-Le|F", HGA_NET, "Reset", "cut header");
	expect("<>" OK200 "Content-Length: 10\r\n\r\n12345|F", HGA_PROTOCOL,
	       "ShortBody", "cut body");
	expect("<>" OK200 "Content-Length: 10\r\n\r\n12345|.R", HGA_NET,
	       "Reset", "reset in the body");
	expect("<>" OK200 "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n|F",
	       HGA_PROTOCOL, "ShortBody", "cut between chunks");
	expect("<>" OK200
	       "Transfer-Encoding: chunked\r\n\r\nxyz\r\n12345\r\n|H",
	       HGA_PROTOCOL, "Malformed", "bad chunk size");
	expect("<>" OK200 "Content-Length: twelve\r\n\r\n12345|F", HGA_PROTOCOL,
	       "Malformed", "bad Content-Length");
	expect("<>SSH-2.0-OpenSSH_9.2\r\n|H", HGA_PROTOCOL, "Malformed",
	       "no HTTP at all");
	expect("<>HTTP/1.1 2x0 OK\r\n\r\n|F", HGA_PROTOCOL, "Malformed",
	       "bad status line");
	expect("<>" OK200 "no colon here\r\nContent-Length: 0\r\n\r\n|F",
	       HGA_PROTOCOL, "Malformed", "header without a colon");
	expect("<>" OK200 "Bad Name: x\r\nContent-Length: 0\r\n\r\n|F",
	       HGA_PROTOCOL, "Malformed", "blank in a header's name");
	expect("<ZF", HGA_PROTOCOL, "Malformed", "NUL in a header");
	expect("<LF", HGA_PROTOCOL, "TooLarge", "headers above 64 KiB");
	expect("<IF", HGA_PROTOCOL, "TooLarge", "endless interim answers");
	expect("<WF", HGA_PROTOCOL, "TooLarge", "one header above 100 KB");
	expect("<>HTTP/1.1 100 Continue\r\n\r\n|F", HGA_NET, "Reset",
	       "only an interim answer");
	expect("<H", HGA_TIMEOUT, "Idle", "silence");
	expect("<>" OK200 "Content-Length: 9\r\n\r\n1|H", HGA_TIMEOUT, "Idle",
	       "silence in the body");
	expect("<>" OK200 "Content-Length: 5\r\n\r\n1|.>2|.>3|.>4|.>5|H",
	       HGA_OK, "", "slow but alive is no silence");
	raw_reset("H", NULL);
}

static void test_interim(void)
{
	struct hga_http_args a = get(raw_url());
	struct hga_http h;

	raw_reset("<>HTTP/1.1 103 Early Hints\r\nLink: early\r\n\r\n"
	          "HTTP/1.1 100 Continue\r\n\r\n" OK200
	          "X-One: 1\r\nx-one:  two \r\nX-Fold: a\r\n  b\r\n"
	          "Empty:\r\nTransfer-Encoding: chunked\r\n\r\n"
	          "3\r\nabc\r\n0\r\nX-Trailer: t\r\n\r\n|H",
	          NULL);
	is_int(run(&h, &a), 0, "interim answers, folding, trailers");
	is_int(h.status, 200, "the final status");
	is_str(hga_buf_text(&h.head),
	       "x-one: 1\nx-one: two\nx-fold: a b\nempty: \n"
	       "transfer-encoding: chunked\n",
	       "only the final headers");
	ok(hga_str_eqc(hga_http_header(&h, "x-one", 1), "two"),
	   "the second of that name");
	ok(hga_http_header(&h, "x-one", 2).s == NULL &&
	       hga_http_header(&h, "one", 0).s == NULL,
	   "absent ones are NULL");
	is_str(hga_buf_text(&h.body), "abc", "body");
	hga_http_release(&h);
	hga_http_release(&h);
	raw_reset("H", NULL);
}

/* ---- re-sending ---- */

/* A kept connection dies when the second request arrives on it. */
static void resend(const char *name, const char *method, const char *body,
                   bool repeatable, int want_heads, const char *want_code)
{
	struct hga_http_args first = get(raw_url()), a = get(raw_url());
	struct hga_http h;
	char answer[] = "<>" OK200 "Content-Length: 2\r\n\r\nok|<F";

	first.repeatable = true;
	raw_reset(answer, "<>" OK200 "Content-Length: 3\r\n\r\nnew|H");
	if (run(&h, &first) < 0)
		ok(false, "first request: %s", h.base.err.msg);
	hga_http_release(&h);
	a.method = method;
	a.repeatable = repeatable;
	a.has_body = body != NULL;
	a.body = body;
	a.body_len = body != NULL ? strlen(body) : 0;
	(void)run(&h, &a);
	if (!ok(raw_heads == want_heads &&
	            strcmp(h.base.err.code, want_code) == 0,
	        "%s", name))
		printf("# %d requests, %s %s\n", raw_heads, h.base.err.code,
		       h.base.err.msg);
	if (want_code[0] != '\0')
		if (!ok(h.sent && h.reused, "which counts as sent"))
			printf("# sent %d reused %d\n", h.sent, h.reused);
	hga_http_release(&h);
	raw_reset("H", NULL);
}

static void test_resend(void)
{
	char *big = calloc(1, 40001);

	memset(big, 'b', 40000);
	resend("POST is not sent again", "POST", "data", false, 2, "Send");
	resend("a large POST neither", "POST", big, false, 2, "Send");
	resend("PUT neither", "PUT", "data", false, 2, "Send");
	resend("a POST marked repeatable is", "POST", "data", true, 3, "");
	ok(strstr(raw_in, "\r\n\r\ndata") != NULL, "with its whole body");
	resend("GET is when repeatable", "GET", NULL, true, 3, "");
	/* Not repeatable, nothing that could fail to rewind: own connection. */
	resend("GET else gets a connection of its own", "GET", NULL, false, 2,
	       "");
	resend("DELETE, too", "DELETE", NULL, false, 2, "");
	resend("an empty POST, too", "POST", "", false, 2, "");
	free(big);
}

static void test_reuse(void)
{
	struct hga_http_args a = get(raw_url());
	struct hga_http h;

	raw_reset("<>" OK200 "Content-Length: 1\r\n\r\n1|<>" OK200
	          "Content-Length: 1\r\n\r\n2|<>" OK200
	          "Content-Length: 1\r\n\r\n3|H",
	          "<>" OK200 "Content-Length: 1\r\n\r\n4|H");
	a.repeatable = true;
	(void)run(&h, &a);
	ok(!h.reused, "the first request connects");
	hga_http_release(&h);
	(void)run(&h, &a);
	ok(h.reused, "the second does not");
	hga_http_release(&h);
	a.method = "POST";
	a.repeatable = false;
	a.has_body = true;
	a.body = "x";
	a.body_len = 1;
	(void)run(&h, &a);
	ok(h.reused && strcmp(hga_buf_text(&h.body), "3") == 0,
	   "a POST with a body may use a kept connection");
	hga_http_release(&h);
	a.fresh = true;
	(void)run(&h, &a);
	is_str(hga_buf_text(&h.body), "4", "fresh asks for a new one");
	hga_http_release(&h);
	raw_reset("H", NULL);
}

/* ---- what is sent, against our own server ---- */

static char seen[4096];

static void on_request(void *data, struct hga_httpd_req *q)
{
	struct hga_httpd_answer a = {.status = 200};
	char *big = NULL;
	size_t i, n;

	(void)data;
	n = (size_t)snprintf(seen, sizeof(seen), "%.*s %.*s\n",
	                     HGA_STRF(q->method), HGA_STRF(q->target));
	for (i = 0; i < q->n_headers; i++)
		n += (size_t)snprintf(seen + n, sizeof(seen) - n, "%.*s=%.*s\n",
		                      HGA_STRF(q->headers[i].name),
		                      HGA_STRF(q->headers[i].value));
	snprintf(seen + n, sizeof(seen) - n, "[%zu]", q->body.n);
	if (hga_str_starts(q->path, "/big")) {
		a.body_len = 1000000;
		a.body = big = calloc(1, a.body_len);
	} else {
		a.body = "fine";
		a.body_len = 4;
	}
	if (hga_httpd_respond(q, &a, &err) < 0)
		hga_httpd_abort(q, HGA_CUT_FIN);
	free(big);
}

static const char *url_of(const char *rest)
{
	static char url[256];

	snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, rest);
	return url;
}

static void sent(const char *method, const char *path, const char *body,
                 const char *want, const char *name)
{
	struct hga_http_hdr hdr[] = {{HGA_STR("Host"), HGA_STR("h")},
	                             {HGA_STR("X-Empty"), HGA_STR("")},
	                             {HGA_STR("X-A"), HGA_STR("b c")}};
	struct hga_http_args a = {.method = method,
	                          .url = url_of(path),
	                          .headers = hdr,
	                          .n_headers = 3,
	                          .has_body = body != NULL,
	                          .body = body,
	                          .body_len = body != NULL ? strlen(body) : 0};
	struct hga_http h;

	if (run(&h, &a) < 0)
		ok(false, "%s: %s", name, h.base.err.msg);
	is_str(seen, want, name);
	hga_http_release(&h);
}

static void test_sent(void)
{
	sent("GET", "/a/../b//c?x=%2F&&y", NULL,
	     "GET /a/../b//c?x=%2F&&y\nHost=h\nX-Empty=\nX-A=b c\n[0]",
	     "GET: path untouched, no header of libcurl's own");
	sent("POST", "/", "12345",
	     "POST /\nHost=h\nX-Empty=\nX-A=b c\nContent-Length=5\n[5]",
	     "POST: length, no type, no Expect");
	sent("POST", "/", NULL,
	     "POST /\nHost=h\nX-Empty=\nX-A=b c\nContent-Length=0\n[0]",
	     "POST without body: length 0");
	sent("PUT", "/", "1",
	     "PUT /\nHost=h\nX-Empty=\nX-A=b c\n"
	     "Content-Length=1\n[1]",
	     "PUT");
	sent("DELETE", "/x", NULL, "DELETE /x\nHost=h\nX-Empty=\nX-A=b c\n[0]",
	     "DELETE");
	sent("HEAD", "/x", NULL, "HEAD /x\nHost=h\nX-Empty=\nX-A=b c\n[0]",
	     "HEAD");
}

static void test_bad_args(void)
{
	struct hga_http_hdr hdr = {HGA_STR("X"), HGA_STR("a\r\nY: b")};
	struct hga_http_args a = get("ftp://127.0.0.1/");
	struct hga_http h;

	is_int(run(&h, &a), -HGA_USAGE, "ftp is refused");
	a.url = "http://127.0.0.1/a b";
	is_int(run(&h, &a), -HGA_USAGE, "a blank in the URL, too");
	a.url = "http:///";
	is_int(run(&h, &a), -HGA_USAGE, "and a URL without a host");
	a.url = url_of("/");
	a.method = "GE T";
	is_int(run(&h, &a), -HGA_USAGE, "bad method");
	a.method = "GET";
	a.headers = &hdr;
	a.n_headers = 1;
	is_int(run(&h, &a), -HGA_USAGE, "line break in a header");
	ok(!hga_loop_busy(loop) || n_done == 0, "nothing was started");
}

/* ---- sinks and limits ---- */

struct sink {
	struct hga_http *h;
	size_t n, stop_at;
	int heads, pauses;
	bool pause;
};

static int on_head(void *data, struct hga_err *e)
{
	struct sink *k = data;

	(void)e;
	k->heads++;
	ok(k->h->status == 200 && k->n == 0, "headers come before the body");
	return 0;
}

static int on_bytes(void *data, const void *p, size_t n, struct hga_err *e)
{
	struct sink *k = data;

	(void)p;
	if (k->stop_at > 0 && k->n + n > k->stop_at)
		return hga_fail(e, HGA_IO, 0, "Full", "disk full");
	if (k->pause) {
		k->pause = false;
		k->pauses++;
		return 1;
	}
	k->n += n;
	return 0;
}

static void on_unpause(struct hga_timer *t)
{
	hga_http_resume(t->data);
}

static void test_sink(void)
{
	struct hga_http h;
	struct sink k = {.h = &h, .pause = true};
	struct hga_http_args a = get(url_of("/big"));
	struct hga_timer t = {.fn = on_unpause, .data = &h};

	a.sink = on_bytes;
	a.on_head = on_head;
	a.data = &k;
	a.idle_ms = 100;
	a.max_body = 10;
	if (hga_timer_start(loop, &t, 300, &err) < 0)
		ok(false, "timer");
	is_int(run(&h, &a), 0, "a sink, no limit");
	ok(k.n == 1000000 && h.received == 1000000 && k.heads == 1,
	   "gets all bytes");
	is_int(k.pauses, 1, "also after a pause longer than the idle limit");
	hga_http_release(&h);
	k.n = 0;
	k.stop_at = 200000;
	is_int(run(&h, &a), -HGA_IO, "its error ends the transfer");
	is_str(h.base.err.code, "Full", "unchanged");
	hga_http_release(&h);
	a = get(url_of("/big"));
	a.max_body = 999999;
	is_int(run(&h, &a), -HGA_PROTOCOL, "a body over the limit");
	is_str(h.base.err.code, "TooLarge", "is TooLarge");
	hga_http_release(&h);
	a.max_body = 1000000;
	is_int(run(&h, &a), 0, "one of just the limit passes");
	hga_http_release(&h);
}

/* ---- connecting ---- */

static void test_connect(void)
{
	int p = 0, fd = hga_listen_tcp("127.0.0.1", 0, &p, &err);
	struct hga_http h;
	struct hga_http_args a = get(raw_url());
	char url[64];

	close(fd);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", p);
	a.url = url;
	is_int(run(&h, &a), -HGA_NET, "nobody listens");
	is_str(h.base.err.code, "Refused", "is Refused");
	ok(!h.sent, "nothing was sent");
	hga_http_release(&h);
	setenv("http_proxy", url, 1);
	a.url = url_of("/");
	is_int(run(&h, &a), 0, "no proxy for loopback");
	hga_http_release(&h);
	unsetenv("http_proxy");
	hga_loop_local_only(loop, true);
	a.url = "http://203.0.113.9/";
	is_int(run(&h, &a), -HGA_NET, "local only: another address");
	is_str(err.code, "LocalOnly", "is refused");
	is_str(err.msg,
	       "refusing to connect to 203.0.113.9:80: not a local cloud "
	       "address",
	       "with this text");
	a.url = "http://example.org/";
	is_int(run(&h, &a), -HGA_NET, "a name is not even resolved");
	a.url = "http://[::1]:1/";
	is_int(run(&h, &a), -HGA_NET, "IPv6 neither");
	a.url = url_of("/");
	is_int(run(&h, &a), 0, "127.0.0.1 is reached");
	hga_http_release(&h);
	snprintf(url, sizeof(url), "http://localhost:%d/", port);
	a.url = url;
	is_int(run(&h, &a), 0, "so is localhost");
	hga_http_release(&h);
	hga_loop_local_only(loop, false);
}

static void test_deadlines(void)
{
	struct hga_http_args a = get(raw_url());
	int64_t t0 = ms_now();
	struct hga_http h;

	raw_reset("<>" OK200 "Content-Length: 50\r\n\r\n1|.>2|.>3|.>4|.>5|.>6|"
	          ".>7|.>8|H",
	          NULL);
	a.total_ms = 400;
	is_int(run(&h, &a), -HGA_TIMEOUT, "a trickle ends");
	is_str(h.base.err.code, "Total", "at the total deadline");
	ok(ms_now() - t0 >= 400 && ms_now() - t0 < 900, "in time");
	hga_http_release(&h);
	raw_reset("<H", NULL);
	memset(&h, 0, sizeof(h));
	h.base.done = on_done;
	n_done = 0;
	if (hga_http_start(loop, &h, &a, &err) < 0)
		ok(false, "start");
	while (raw_heads == 0)
		step(10);
	hga_op_cancel(&h.base);
	memset(&h, 0xee, sizeof(h));
	t0 = ms_now();
	while (ms_now() - t0 < 600)
		step(50);
	is_int(n_done, 0, "no callback after a cancel");
	raw_reset("H", NULL);
}

static void test_unix(void)
{
	char dir[] = "/tmp/hga-http-XXXXXX", path[64];
	struct hga_http_args a = get("http://local/x");
	struct hga_httpd_opts o = {.on_request = on_request};
	struct hga_httpd *s = hga_httpd_open(loop, &o, &err);
	struct hga_http h;

	if (mkdtemp(dir) == NULL)
		return;
	snprintf(path, sizeof(path), "%s/s", dir);
	if (hga_httpd_listen_unix(s, path, 0600, NULL, &err) < 0)
		ok(false, "listen: %s", err.msg);
	a.unix_socket = path;
	hga_loop_local_only(loop, true);
	is_int(run(&h, &a), 0, "a unix socket, also when local only");
	is_str(seen, "GET /x\nHost=local\n[0]",
	       "the URL's host is only a name");
	hga_http_release(&h);
	hga_loop_local_only(loop, false);
	hga_httpd_close(s);
	rmdir(dir);
}

/* Each allocation of client and server fails once. */
static void test_torture(void)
{
	struct hga_http_hdr hdr = {HGA_STR("X-A"), HGA_STR("b")};
	struct hga_http_args a = {.method = "POST",
	                          .url = url_of("/"),
	                          .headers = &hdr,
	                          .n_headers = 1,
	                          .has_body = true,
	                          .body = "data",
	                          .body_len = 4,
	                          .fresh = true,
	                          .total_ms = 300};
	int good = 0, bad = 0, r;
	struct hga_http h;
	unsigned long n;

	for (n = 1; n < 200 && good < 3; n++) {
		memset(&h, 0, sizeof(h));
		h.base.done = on_done;
		n_done = 0;
		hga_mem_torture(n, false);
		r = hga_http_start(loop, &h, &a, NULL);
		while (r == 0 && n_done == 0)
			if (hga_loop_step(loop, 100, NULL) < 0)
				continue; /* no memory: the next one goes on */
		hga_mem_torture(0, false);
		if (r == 0 && h.base.err.kind == HGA_OK && h.status == 200)
			good++;
		else
			bad++;
		hga_http_release(&h);
	}
	ok(good >= 3 && bad > 5, "any allocation may fail (%d did)", bad);
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
	struct hga_httpd_opts o = {.on_request = on_request};
	struct hga_httpd *srv;
	int fds = open_fds();

	unsetenv("http_proxy");
	unsetenv("HTTP_PROXY");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	loop = hga_loop_new(&err);
	srv = hga_httpd_open(loop, &o, &err);
	if (!ok(srv != NULL, "server opens") ||
	    hga_httpd_listen_tcp(srv, "127.0.0.1", 0, NULL, &port, &err) < 0)
		return done();
	raw_fd = hga_listen_tcp("127.0.0.1", 0, &raw_port, &err);
	raw_w.fd = raw_fd;
	raw_w.fn = on_raw;
	if (hga_watch_start(loop, &raw_w, HGA_READ, &err) < 0)
		return done();
	test_sent();
	test_bad_args();
	test_sink();
	test_broken();
	test_interim();
	test_reuse();
	test_resend();
	test_connect();
	test_deadlines();
	test_unix();
	test_torture();
	raw_reset(NULL, NULL);
	hga_watch_stop(loop, &raw_w);
	close(raw_fd);
	hga_httpd_close(srv);
	hga_loop_free(loop);
	is_int(open_fds(), fds, "no descriptor leaks");
	return done();
}
