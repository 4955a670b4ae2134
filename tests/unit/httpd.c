/*
 * net/httpd against raw sockets: bytes received, limits, keep-alive, answers
 * now and later, aborts, leaving clients, streams, unix sockets, closing.
 */
#include "tap.h"

#include "net/httpd.h"
#include "net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct hga_loop *loop;
static struct hga_err err;
static struct hga_httpd *srv;
static int port;

static struct hga_httpd_req *last; /* open request, not answered yet */
static int requests, gones, drains;
static char unix_path[64];
static char seen[65536]; /* the last request, printed */
static void (*handler)(struct hga_httpd_req *);

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

static void print_req(const struct hga_httpd_req *q)
{
	size_t i, n;

	n = (size_t)snprintf(seen, sizeof(seen), "%.*s %.*s|%.*s|%.*s\n",
	                     HGA_STRF(q->method), HGA_STRF(q->path),
	                     HGA_STRF(q->query), HGA_STRF(q->version));
	for (i = 0; i < q->n_headers && n < sizeof(seen); i++)
		n += (size_t)snprintf(seen + n, sizeof(seen) - n, "%.*s=%.*s\n",
		                      HGA_STRF(q->headers[i].name),
		                      HGA_STRF(q->headers[i].value));
	if (n < sizeof(seen))
		snprintf(seen + n, sizeof(seen) - n, "[%.*s]",
		         HGA_STRF(q->body));
}

static void on_request(void *data, struct hga_httpd_req *q)
{
	if (data != &srv)
		ok(false, "data is passed on");
	requests++;
	print_req(q);
	if (handler != NULL)
		handler(q);
	else
		last = q;
}

static void on_gone(void *data, struct hga_httpd_req *q)
{
	(void)data;
	gones++;
	if (!q->gone)
		ok(false, "gone is set");
}

static void on_drain(void *data, struct hga_httpd_req *q)
{
	(void)data;
	(void)q;
	drains++;
}

static void reply(struct hga_httpd_req *q, int status, const char *body)
{
	struct hga_http_hdr h = {HGA_STR("X-Test"), HGA_STR("yes")};
	struct hga_httpd_answer a = {.status = status,
	                             .headers = &h,
	                             .n_headers = 1,
	                             .body = body,
	                             .body_len = strlen(body)};

	if (hga_httpd_respond(q, &a, &err) < 0)
		ok(false, "respond: %s", err.msg);
}

static void reply_hello(struct hga_httpd_req *q)
{
	reply(q, 200, "hello");
}

/* ---- clients ---- */

static int client(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	                        .sin_port = htons((uint16_t)port),
	                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		ok(false, "connect");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void say(int fd, const char *text)
{
	size_t n = strlen(text);

	while (n > 0) {
		ssize_t k = send(fd, text, n, MSG_NOSIGNAL);

		if (k > 0) {
			text += k;
			n -= (size_t)k;
		} else if (errno == EAGAIN) {
			step(1);
		} else {
			return;
		}
	}
}

static char got[1 << 20];
static size_t got_n;

/* Reads until the text `until` was seen, the peer closed ("") or 5 s are
 * over; -1 when the connection was reset. */
static int hear(int fd, const char *until)
{
	int64_t end = ms_now() + 5000;

	got_n = 0;
	got[0] = '\0';
	while (ms_now() < end && got_n < sizeof(got) - 1) {
		ssize_t k = recv(fd, got + got_n, sizeof(got) - 1 - got_n, 0);

		if (k == 0)
			return 0;
		if (k < 0 && errno != EAGAIN)
			return -1;
		if (k > 0) {
			got_n += (size_t)k;
			got[got_n] = '\0';
		}
		if (until[0] != '\0' && strstr(got, until) != NULL)
			return 1;
		step(k > 0 ? 0 : 10);
	}
	return 2;
}

static void until(const int *counter, int value)
{
	int64_t end = ms_now() + 5000;

	while (*counter < value && ms_now() < end)
		step(10);
}

static void idle(int ms)
{
	int64_t end = ms_now() + ms;

	while (ms_now() < end)
		step(5);
}

/* ---- tests ---- */

static void test_bytes(void)
{
	int fd = client();

	handler = reply_hello;
	say(fd, "PUT /a%2Fb/../c//d%zz?x=%41&y=a+b&&=?q HTTP/1.1\r\n"
	        "Host: 127.0.0.1\r\nX-B: one\r\nX-A:  two words \r\n"
	        "x-b: three\r\nX-Empty:\r\nContent-Length: 5\r\n\r\nb%64y");
	is_int(hear(fd, "hello"), 1, "an answer from inside the callback");
	is_str(seen,
	       "PUT /a%2Fb/../c//d%zz|x=%41&y=a+b&&=?q|HTTP/1.1\n"
	       "Host=127.0.0.1\nX-B=one\nX-A=two words\nx-b=three\n"
	       "X-Empty=\nContent-Length=5\n[b%64y]",
	       "path, query and headers are the bytes received");
	ok(strncmp(got, "HTTP/1.1 200 OK\r\n", 17) == 0, "status line");
	ok(strstr(got, "\r\nX-Test: yes\r\n") != NULL, "own header");
	ok(strstr(got, "\r\nDate: ") != NULL, "a date");
	ok(strstr(got, "\r\nContent-Length: 5\r\n") != NULL, "the length");
	say(fd, "GET /second HTTP/1.1\r\nHost: x\r\n\r\n");
	is_int(hear(fd, "hello"), 1, "the connection is kept");
	ok(strncmp(seen, "GET /second||HTTP/1.1\n", 22) == 0,
	   "for the second request");
	say(fd, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /p HTTP/1.1\r\n"
	        "Host: x\r\nConnection: close\r\n\r\n");
	is_int(hear(fd, ""), 0, "two requests at once, then a clean close");
	ok(strncmp(seen, "GET /p|", 7) == 0 &&
	       strstr(strstr(got, "HTTP/1.1 200") + 1, "HTTP/1.1 200"),
	   "have two answers");
	close(fd);
	fd = client();
	say(fd, "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
	        "Expect: 100-continue\r\n\r\n");
	is_int(hear(fd, "100 Continue\r\n\r\n"), 1, "Expect is answered");
	say(fd, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
	is_int(hear(fd, "hello"), 1, "a chunked body");
	ok(strstr(seen, "[abcde]") != NULL, "is put together");
	close(fd);
	idle(20);
}

static void test_later(void)
{
	int fd = client(), other = client();

	handler = NULL;
	requests = 0;
	say(fd, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	ok(last != NULL && strncmp(last->peer, "127.0.0.1:", 10) == 0,
	   "the peer's address");
	is_str(last->tag, "main", "the listener's tag");
	handler = reply_hello;
	say(other, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
	is_int(hear(other, "hello"), 1,
	       "another request is served while one waits");
	is_int(hga_httpd_conns(srv), 2, "two connections");
	reply(last, 404, "later");
	is_int(hear(fd, "later"), 1, "an answer given later arrives at once");
	ok(strncmp(got, "HTTP/1.1 404 ", 13) == 0, "with its status");
	close(fd);
	close(other);
	idle(20);
	is_int(hga_httpd_conns(srv), 0, "connections are forgotten");
}

static void test_limits(void)
{
	char head[256], *big = malloc(3 << 20);
	int fd = client();

	memset(big, 'x', 3 << 20);
	big[(3 << 20) - 1] = '\0';
	handler = reply_hello;
	requests = 0;
	say(fd,
	    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n");
	is_int(hear(fd, "too large"), 1, "announced body over the limit: 413");
	ok(strncmp(got, "HTTP/1.1 413 ", 13) == 0, "status 413");
	is_int(hear(fd, ""), 0, "and a close");
	close(fd);
	fd = client();
	say(fd, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked"
	        "\r\n\r\n");
	snprintf(head, sizeof(head), "%x\r\n", (3 << 20) - 1);
	say(fd, head);
	say(fd, big);
	say(fd, "\r\n0\r\n\r\n");
	hear(fd, "");
	ok(strncmp(got, "HTTP/1.1 413 ", 13) == 0,
	   "chunked body over the limit: 413");
	close(fd);
	fd = client();
	say(fd, "GET /");
	big[200000] = '\0';
	say(fd, big);
	say(fd, " HTTP/1.1\r\nHost: x\r\n\r\n");
	hear(fd, "");
	ok(strncmp(got, "HTTP/1.1 4", 10) == 0 || got_n == 0,
	   "a target over the limit is refused");
	close(fd);
	is_int(requests, 0, "the owner saw none of them");
	fd = client();
	say(fd,
	    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
	big[200000] = 'x';
	big[1000000] = '\0';
	say(fd, big);
	is_int(hear(fd, "hello"), 1, "a body of just the limit passes");
	close(fd);
	free(big);
	idle(20);
}

static void test_aborts(void)
{
	int fd = client();

	handler = NULL;
	requests = 0;
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	hga_httpd_abort(last, HGA_CUT_FIN);
	is_int(hear(fd, ""), 0, "abort fin: the client sees a clean close");
	is_int((long long)got_n, 0, "without a byte");
	close(fd);
	fd = client();
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 2);
	hga_httpd_abort(last, HGA_CUT_RST);
	is_int(hear(fd, ""), -1, "abort rst: the client sees a reset");
	close(fd);
	idle(20);
}

static void test_raw(void)
{
	static const char text[] = "HTTP/1.1 abc what\r\n\0x";
	int fd = client();

	handler = NULL;
	requests = 0;
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	hga_httpd_raw(last, hga_strn(text, sizeof(text) - 1));
	is_int(hear(fd, ""), 0, "raw: bytes, then a clean close");
	ok(got_n == sizeof(text) - 1 && memcmp(got, text, got_n) == 0,
	   "the bytes are these");
	close(fd);
	idle(20);
}

static void test_gone(void)
{
	int fd = client();

	handler = NULL;
	requests = gones = 0;
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	idle(20);
	is_int(gones, 0, "a waiting client is not gone");
	close(fd);
	until(&gones, 1);
	is_int(gones, 1, "a client that leaves is told");
	ok(last->gone, "in the request, too");
	reply(last, 200, "nobody hears this");
	idle(20);
	is_int(hga_httpd_conns(srv), 0, "the late answer ends the connection");
	fd = client();
	say(fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf");
	idle(20);
	close(fd);
	idle(20);
	is_int(requests, 1, "half a request never reaches the owner");
	is_int(hga_httpd_conns(srv), 0, "and leaves nothing");
}

static void test_bad_answers(void)
{
	struct hga_http_hdr h = {HGA_STR("X-A"), HGA_STR("a\r\nX-B: b")};
	struct hga_httpd_answer a = {
	    .status = 200, .headers = &h, .n_headers = 1};
	int fd = client();

	handler = NULL;
	requests = 0;
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	is_int(hga_httpd_respond(last, &a, &err), -HGA_USAGE,
	       "a line break in a header is refused");
	h.value = hga_str("fine");
	a.status = 99;
	is_int(hga_httpd_respond(last, &a, &err), -HGA_USAGE,
	       "a status below 200, too");
	a.status = 204;
	is_int(hga_httpd_respond(last, &a, &err), 0,
	       "the request was still open");
	is_int(hear(fd, "\r\n\r\n"), 1, "and is answered");
	ok(strncmp(got, "HTTP/1.1 204 ", 13) == 0, "with 204");
	close(fd);
	idle(20);
}

static void test_stream(void)
{
	struct hga_httpd_answer a = {.status = 200};
	char *block = calloc(1, 100000);
	int fd = client(), i;

	memset(block, 'x', 100000);
	handler = NULL;
	requests = drains = gones = 0;
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	is_int(hga_httpd_stream_begin(last, &a, -1, &err), 0, "a stream");
	is_int(hear(fd, "chunked"), 1, "is chunked");
	idle(20);
	is_int(hga_httpd_stream_write(last, "one", 3, &err), 0, "a piece");
	is_int(hear(fd, "3\r\none\r\n"), 1, "arrives at once");
	for (i = 0; i < 6; i++)
		if (hga_httpd_stream_write(last, block, 100000, &err) < 0)
			ok(false, "write");
	ok(hga_httpd_stream_queued(last) == 600000, "queued bytes");
	hear(fd, "\r\nnever");
	is_int(drains, 1, "the owner is told when there is room");
	is_int((long long)hga_httpd_stream_queued(last), 0, "all was sent");
	hga_httpd_stream_end(last, true);
	is_int(hear(fd, "0\r\n\r\n"), 1, "the end");
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 2);
	a.body = "12345";
	a.body_len = 5;
	is_int(hga_httpd_stream_begin(last, &a, 10, &err), 0,
	       "a stream of known length");
	is_int(hear(fd, "12345"), 1, "begins");
	ok(strstr(got, "Content-Length: 10") != NULL, "with its length");
	hga_httpd_stream_end(last, false);
	ok(hear(fd, "") <= 0, "an incomplete end cuts the connection");
	close(fd);
	fd = client();
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 3);
	a.body_len = 0;
	is_int(hga_httpd_stream_begin(last, &a, -1, &err), 0, "a third");
	is_int(hear(fd, "chunked"), 1, "has begun");
	close(fd);
	until(&gones, 1);
	is_int(gones, 1, "a client that leaves a stream is told");
	is_int(hga_httpd_stream_write(last, "x", 1, &err), 0,
	       "writing on is harmless");
	hga_httpd_stream_end(last, true);
	idle(20);
	is_int(hga_httpd_conns(srv), 0, "nothing is left");
	free(block);
}

static void test_unix(void)
{
	char path[] = "/tmp/hga-httpd-XXXXXX", sock[64];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int sv[2];

	if (mkdtemp(path) == NULL)
		return;
	snprintf(sock, sizeof(sock), "%s/s", path);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", sock);
	/* A file that a dead server left. */
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		ok(false, "bind");
	close(fd);
	is_int(hga_httpd_listen_unix(srv, sock, 0600, "ctl", &err), 0,
	       "a stale socket file is replaced");
	ok(stat(sock, &st) == 0 && (st.st_mode & 0777) == 0600, "mode 0600");
	is_int(hga_listen_unix(sock, 0600, &err), -HGA_EXISTS,
	       "a live one is not");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		ok(false, "connect");
	handler = NULL;
	requests = 0;
	say(fd, "GET /u HTTP/1.0\r\n\r\n");
	until(&requests, 1);
	is_str(last->peer, "unix", "peer");
	is_str(last->tag, "ctl", "tag");
	reply(last, 200, "via unix");
	is_int(hear(fd, ""), 0, "HTTP/1.0 closes");
	ok(strstr(got, "via unix") != NULL, "after the answer");
	close(fd);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return;
	is_int(hga_httpd_adopt_conn(srv, sv[0], "pair", &err), 0,
	       "a connection from elsewhere");
	fcntl(sv[1], F_SETFL, O_NONBLOCK);
	handler = reply_hello;
	say(sv[1], "GET /pair HTTP/1.1\r\nHost: x\r\n\r\n");
	is_int(hear(sv[1], "hello"), 1, "is served");
	close(sv[1]);
	idle(20);
	snprintf(unix_path, sizeof(unix_path), "%s", sock);
	rmdir(path); /* fails: the socket is there until close */
}

static void test_close(void)
{
	int fd = client(), fd2 = client();

	handler = NULL;
	requests = gones = 0;
	say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	until(&requests, 1);
	hga_httpd_close(srv);
	is_int(gones, 1, "closing the server tells the owner of a request");
	ok(hear(fd, "") <= 0 && got_n == 0, "its client is cut off");
	ok(hear(fd2, "") <= 0, "so is an idle one");
	reply(last, 200, "late");
	ok(true, "answering after the close is harmless");
	ok(!hga_loop_busy(loop), "nothing runs any more");
	ok(access(unix_path, F_OK) != 0, "the unix socket is removed");
	*strrchr(unix_path, '/') = '\0';
	rmdir(unix_path);
	close(fd);
	close(fd2);
}

static void test_listen(void)
{
	int p = 0, q, fd = hga_listen_tcp("127.0.0.1", 0, &p, &err);

	ok(fd >= 0 && p > 0, "port 0 gives a free port");
	q = hga_listen_tcp("127.0.0.1", p, NULL, &err);
	is_int(q, -HGA_EXISTS, "a taken port is kind exists");
	is_str(err.code, "InUse", "code InUse");
	is_int(hga_listen_tcp("example.org", 0, NULL, &err), -HGA_USAGE,
	       "names are not resolved");
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
	struct hga_httpd_opts o = {.on_request = on_request,
	                           .on_gone = on_gone,
	                           .on_drain = on_drain,
	                           .max_body = 1000000,
	                           .data = &srv};
	int fds = open_fds();

	loop = hga_loop_new(&err);
	srv = hga_httpd_open(loop, &o, &err);
	if (!ok(srv != NULL, "server opens"))
		return done();
	is_int(hga_httpd_listen_tcp(srv, "127.0.0.1", 0, "main", &port, &err),
	       0, "listens");
	test_bytes();
	test_later();
	test_limits();
	test_aborts();
	test_raw();
	test_gone();
	test_bad_answers();
	test_stream();
	test_unix();
	test_close();
	test_listen();
	hga_httpd_close(NULL);
	hga_loop_free(loop);
	is_int(open_fds(), fds, "no descriptor leaks");
	return done();
}
