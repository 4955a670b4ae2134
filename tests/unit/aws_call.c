/*
 * One AWS call against a scripted server on raw sockets: retries, what is
 * ambiguous, dying connections, clocks, limits, the gate, cancel in each
 * state.  The model is a small one, compiled here.
 */
#include "tap.h"

#include "aws_env.h"

#include "aws/call.h"
#include "aws/client.h"
#include "aws/modelc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECRET "canary-wJalrXUtnFEMI-secret"

static const char model[] =
    "{\"metadata\":{\"apiVersion\":\"2016-11-15\",\"protocol\":\"ec2\","
    "\"endpointPrefix\":\"ec2\",\"serviceId\":\"EC2\",\"xmlNamespace\":"
    "\"http://ec2.amazonaws.com/doc/2016-11-15\"},\"operations\":{"
    "\"DescribeThings\":{\"name\":\"DescribeThings\",\"http\":{\"method\":"
    "\"POST\",\"requestUri\":\"/\"},\"input\":{\"shape\":\"In\"},"
    "\"output\":{\"shape\":\"Out\"}},"
    "\"RunInstances\":{\"name\":\"RunInstances\",\"http\":{\"method\":"
    "\"POST\",\"requestUri\":\"/\"},\"input\":{\"shape\":\"In\"},"
    "\"output\":{\"shape\":\"Out\"}},"
    "\"RebootInstances\":{\"name\":\"RebootInstances\",\"http\":{"
    "\"method\":\"POST\",\"requestUri\":\"/\"},\"input\":{\"shape\":"
    "\"Plain\"},\"output\":{\"shape\":\"Out\"}},"
    "\"DeleteThing\":{\"name\":\"DeleteThing\",\"http\":{\"method\":"
    "\"POST\",\"requestUri\":\"/\"},\"input\":{\"shape\":\"Plain\"},"
    "\"output\":{\"shape\":\"Out\"}}},"
    "\"shapes\":{\"S\":{\"type\":\"string\"},"
    "\"In\":{\"type\":\"structure\",\"members\":{\"ThingId\":{\"shape\":"
    "\"S\"},\"UserData\":{\"shape\":\"S\"},\"ClientToken\":{\"shape\":"
    "\"S\",\"idempotencyToken\":true}}},"
    "\"Plain\":{\"type\":\"structure\",\"members\":{\"ThingId\":"
    "{\"shape\":\"S\"}}},"
    "\"Out\":{\"type\":\"structure\",\"members\":{\"ThingId\":{\"shape\":"
    "\"S\",\"locationName\":\"thingId\"}}}}}";

static struct fake_env world;
static struct hga_loop *loop;
static struct hga_aws *aws;
static const struct hga_aws_svc *svc;
static struct hga_creds *creds;

/* ---- the scripted server ---- */

#define OK_THING(op)                                                           \
	"<" op "Response><requestId>r-1</requestId><thingId>i-0123456789</"    \
	"thingId></" op "Response>"
#define ERROR(code, msg)                                                       \
	"<Response><Errors><Error><Code>" code "</Code><Message>" msg          \
	"</Message></Error></Errors><RequestID>r-e</RequestID></Response>"

enum act {
	ANSWER,
	CUT,
	HOLD,
	BIG
};

struct step {
	enum act act;
	int status;
	const char *head; /* further header lines or NULL */
	const char *body;
	bool close; /* after the answer */
};

static struct {
	struct hga_watch listen;
	int port;
	const struct step *steps;
	size_t n_steps, served;
	char last[8192]; /* last request */
	char bodies[16][2048];
	struct conn {
		struct hga_watch w;
		char in[8192];
		size_t n;
		size_t big; /* bytes of a BIG body still to send */
	} conns[32];
} srv;

static void conn_close(struct conn *c)
{
	hga_watch_stop(loop, &c->w);
	close(c->w.fd);
	c->w.fd = -1;
}

static void send_all(struct conn *c, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = send(c->w.fd, p, n, MSG_NOSIGNAL);

		if (k < 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

static void answer(struct conn *c, const struct step *s)
{
	char head[1024];
	int n =
	    snprintf(head, sizeof(head),
	             "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s%s\r\n",
	             s->status, strlen(s->body), s->head != NULL ? s->head : "",
	             s->close ? "Connection: close\r\n" : "");

	send_all(c, head, (size_t)n);
	send_all(c, s->body, strlen(s->body));
	if (s->close)
		conn_close(c);
}

/* Foreign elements of 64 bytes: skipped by the reader, but counted. */
static void push_big(struct conn *c)
{
	static char block[65536];

	memset(block, 'x', sizeof(block));
	for (size_t i = 0; i < sizeof(block); i += 64) {
		memcpy(block + i, "<zz>", 4);
		memcpy(block + i + 59, "</zz>", 5);
	}
	while (c->big > 0) {
		size_t at =
		    (sizeof(block) - c->big % sizeof(block)) % sizeof(block);
		size_t n = sizeof(block) - at;
		ssize_t k = send(c->w.fd, block + at, n, MSG_NOSIGNAL);

		if (k < 0)
			return;
		c->big -= (size_t)k;
	}
}

static void begin_big(struct conn *c, const struct step *s)
{
	static const char start[] =
	    "HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n"
	    "<DescribeThingsResponse>";

	(void)s;
	send_all(c, start, sizeof(start) - 1);
	c->big = 520 * 65536;
	hga_watch_stop(loop, &c->w);
	(void)!hga_watch_start(loop, &c->w, HGA_READ | HGA_WRITE, NULL);
	push_big(c);
}

static void serve(struct conn *c, const char *body)
{
	size_t i = srv.served++;
	const struct step *s =
	    &srv.steps[i < srv.n_steps ? i : srv.n_steps - 1];

	snprintf(srv.last, sizeof(srv.last), "%s", c->in);
	snprintf(srv.bodies[i % 16], sizeof(srv.bodies[0]), "%s", body);
	c->n = 0;
	switch (s->act) {
	case ANSWER:
		answer(c, s);
		break;
	case CUT:
		conn_close(c);
		break;
	case BIG:
		begin_big(c, s);
		break;
	case HOLD:
		break;
	}
}

static void on_conn(struct hga_watch *w, int events)
{
	struct conn *c = w->data;
	const char *end, *len;
	ssize_t k;

	if (c->big > 0 && (events & HGA_WRITE) != 0) {
		push_big(c);
		return;
	}
	k = recv(w->fd, c->in + c->n, sizeof(c->in) - 1 - c->n, MSG_DONTWAIT);
	if (k <= 0) {
		if (k == 0 || (events & HGA_HUP) != 0)
			conn_close(c);
		return;
	}
	c->n += (size_t)k;
	c->in[c->n] = '\0';
	end = strstr(c->in, "\r\n\r\n");
	len = strcasestr(c->in, "content-length: ");
	if (end == NULL)
		return;
	end += 4;
	if (len != NULL &&
	    (size_t)(c->in + c->n - end) < strtoul(len + 16, NULL, 10))
		return;
	serve(c, end);
}

static void on_listen(struct hga_watch *w, int events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	for (size_t i = 0; i < 32 && fd >= 0; i++) {
		struct conn *c = &srv.conns[i];

		if (c->w.fd >= 0)
			continue;
		memset(c, 0, sizeof(*c));
		c->w.fn = on_conn;
		c->w.data = c;
		c->w.fd = fd;
		if (hga_watch_start(loop, &c->w, HGA_READ, NULL) < 0)
			exit(1);
		return;
	}
	if (fd >= 0)
		close(fd);
}

static void listen_here(void)
{
	struct sockaddr_in a = {0};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	a.sin_family = AF_INET;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		exit(1);
	srv.port = ntohs(a.sin_port);
	srv.listen.fn = on_listen;
	for (size_t i = 0; i < 32; i++)
		srv.conns[i].w.fd = -1;
	srv.listen.fd = fd;
	if (hga_watch_start(loop, &srv.listen, HGA_READ, NULL) < 0)
		exit(1);
}

/* No pooled connection survives. */
static void drop_conns(void)
{
	for (size_t i = 0; i < 32; i++) {
		if (srv.conns[i].w.fd >= 0)
			conn_close(&srv.conns[i]);
	}
	(void)!hga_loop_step(loop, 20, NULL);
}

static void script(const struct step *steps, size_t n)
{
	srv.steps = steps;
	srv.n_steps = n;
	srv.served = 0;
}
#define SCRIPT(s) script(s, sizeof(s) / sizeof(*(s)))

/* ---- calls ---- */

struct run {
	struct hga_aws_call call;
	struct hga_aws_client *client;
	struct hga_aws_client_args ca;
	struct hga_aws_call_args a;
	struct hga_vtape *params;
	struct hga_err err;
	bool finished;
	int gates, settled;
	enum hga_aws_outcome outcome;
	int gate_rc;
	bool slow; /* held back from the beginning */
};

static void on_done(struct hga_op *op)
{
	((struct run *)op)->finished = true;
}

static int gate(void *data, struct hga_aws_call *call, struct hga_err *err)
{
	struct run *r = data;

	(void)call;
	r->gates++;
	if (r->gate_rc < 0)
		return hga_fail(err, HGA_IO, 0, NULL, "disk full");
	return 0;
}

static void settled(void *data, struct hga_aws_call *call)
{
	struct run *r = data;

	r->settled++;
	r->outcome = hga_aws_call_outcome(call);
}

static struct run *new_run(const char *op)
{
	static char url[64];
	struct run *r = calloc(1, sizeof(*r));

	snprintf(url, sizeof(url), "http://127.0.0.1:%d", srv.port);
	r->ca.svc = svc;
	r->ca.region = hga_str("us-west-2");
	r->ca.endpoint_url = hga_str(url);
	r->ca.creds = creds;
	r->a.op = hga_aws_op_find(svc, hga_str(op));
	r->params = hga_vtape_new(NULL, 1 << 20);
	hga_vt_open(r->params, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_key(r->params, HGA_STR("ThingId"));
	hga_vt_str(r->params, HGA_NO_NAME, HGA_STR("i-0123456789"));
	hga_vt_close(r->params);
	return r;
}

static void slow_down(struct run *r);

static int start_run(struct run *r)
{
	int rc = hga_aws_client_new(aws, &r->ca, &r->client, &r->err);

	if (rc == 0 && r->slow)
		slow_down(r);
	r->call.base.done = on_done;
	r->a.client = r->client;
	r->a.params = hga_vtape_root(r->params);
	r->a.settled = settled;
	r->a.data = r;
	if (rc == 0)
		rc = hga_aws_call_start(&r->call, &r->a, &r->err);
	return rc;
}

static void end_run(struct run *r)
{
	hga_aws_call_release(&r->call);
	hga_aws_client_free(r->client);
	hga_vtape_free(r->params);
	free(r);
}

static void spin(bool (*until)(const struct run *), const struct run *r,
                 int64_t max_ms)
{
	int64_t end = hga_mono_ms() + max_ms;

	while (!until(r) && hga_mono_ms() < end) {
		if (hga_loop_step(loop, 50, NULL) < 0)
			exit(1);
	}
}

static bool is_finished(const struct run *r)
{
	return r->finished;
}

static bool was_served(const struct run *r)
{
	(void)r;
	return srv.served > 0;
}

static bool never(const struct run *r)
{
	(void)r;
	return false;
}

static void go(struct run *r)
{
	int rc = start_run(r);

	if (rc < 0)
		ok(false, "start: %s", r->err.msg);
	else
		spin(is_finished, r, 20000);
	if (!r->finished)
		ok(false, "the call ends");
}

#define STEP(st, b)                                                            \
	{                                                                      \
		ANSWER, st, NULL, b, false                                     \
	}
#define LAST(st, b)                                                            \
	{                                                                      \
		ANSWER, st, NULL, b, true                                      \
	}

static void test_success(void)
{
	static const struct step s[] = {STEP(200, OK_THING("DescribeThings"))};
	struct run *r = new_run("DescribeThings");
	struct hga_val root;

	SCRIPT(s);
	r->a.gate = gate;
	go(r);
	is_int(r->call.base.err.kind, HGA_OK, "a call succeeds");
	root = hga_aws_call_answer(&r->call);
	ok(hga_str_eqc(hga_val_str(hga_val_get(root, "ThingId")),
	               "i-0123456789"),
	   "the answer is a value");
	is_str(r->call.request_id, "r-1", "request id");
	is_int(r->call.attempts, 1, "one attempt");
	is_int(r->gates, 1, "the gate was asked once");
	is_int(r->settled, 1, "and answered once");
	is_int(r->outcome, HGA_CALL_DONE, "with success");
	ok(strstr(srv.last, "Authorization: AWS4-HMAC-SHA256 Credential="
	                    "AKIDEXAMPLE00001/20260101/us-west-2/ec2/") != NULL,
	   "the request is signed");
	ok(strstr(srv.last, "amz-sdk-request: attempt=1; max=3\r\n") != NULL,
	   "and says which attempt it is");
	ok(strstr(srv.last, "User-Agent: hgauto/test cfg/retry-mode#standard"
	                    "\r\n") != NULL,
	   "and who asks");
	ok(strstr(srv.last,
	          "Content-Type: application/x-www-form-urlencoded") != NULL,
	   "and what it is");
	end_run(r);
}

static void test_retry(void)
{
	static const struct step s[] = {
	    LAST(503, ERROR("ServiceUnavailable", "later")),
	    {CUT, 0, NULL, NULL, false},
	    STEP(200, OK_THING("RunInstances"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	go(r);
	is_int(r->call.base.err.kind, HGA_OK, "5xx and a cut are repeated");
	is_int(r->call.attempts, 3, "three attempts");
	is_int((long long)srv.served, 3, "three requests");
	is_str(srv.bodies[1], srv.bodies[0], "the second has the same bytes");
	is_str(srv.bodies[2], srv.bodies[0], "and the third");
	ok(strstr(srv.bodies[0], "ClientToken=00000000-0000-4000-8000-") !=
	       NULL,
	   "with the token that was filled in");
	is_int((long long)r->call.req.tokens.n, 1, "which is told");
	end_run(r);
}

/* No AWS service answers so; a proxy on the way may. */
static void test_bare_429(void)
{
	static const struct step s[] = {LAST(429, ""),
	                                STEP(200, OK_THING("RunInstances"))};
	static const struct step told[] = {LAST(429, ERROR("Odd", "no"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	go(r);
	is_int(r->call.base.err.kind, HGA_OK,
	       "429 without a document is repeated");
	is_int((long long)srv.served, 2, "once");
	end_run(r);
	r = new_run("RebootInstances");
	SCRIPT(s);
	r->a.gate = gate;
	go(r);
	is_int((long long)srv.served, 1, "but no unsafe call");
	ok(r->call.ambiguous, "whose effect is unknown");
	end_run(r);
	r = new_run("RunInstances");
	SCRIPT(told);
	go(r);
	is_int((long long)srv.served, 1, "a refusal by the service stands");
	end_run(r);
}

static void test_exhausted(void)
{
	static const struct step s[] = {
	    STEP(400, ERROR("RequestLimitExceeded", "slow down"))};
	struct run *r = new_run("RebootInstances");

	SCRIPT(s);
	r->a.gate = gate;
	go(r);
	is_int((long long)srv.served, 3,
	       "throttling is repeated even for unsafe operations");
	is_int(r->call.base.err.kind, HGA_AWS, "then it is an error");
	is_str(hga_buf_text(&r->call.message),
	       "An error occurred (RequestLimitExceeded) when calling the "
	       "RebootInstances operation (reached max retries: 2): slow down",
	       "in boto3's words");
	is_str(r->call.code, "RequestLimitExceeded", "code");
	ok(r->call.throttling && r->call.retryable, "called throttling");
	ok(!r->call.ambiguous, "without effect for sure");
	is_int(r->outcome, HGA_CALL_NOTHING, "the ledger may forget it");
	end_run(r);
}

static void test_unsafe(void)
{
	static const struct step cut[] = {{CUT, 0, NULL, NULL, false}};
	static const struct step five[] = {
	    LAST(500, ERROR("InternalError", "hm"))};
	struct run *r = new_run("RebootInstances");

	SCRIPT(cut);
	r->a.gate = gate;
	go(r);
	is_int((long long)srv.served, 1, "a cut unsafe call is not repeated");
	is_int(r->call.base.err.kind, HGA_NET, "it is a net error");
	ok(r->call.sent && r->call.ambiguous, "sent, effect unknown");
	is_int(r->outcome, HGA_CALL_UNKNOWN, "the ledger must look");
	end_run(r);
	r = new_run("RebootInstances");
	SCRIPT(five);
	go(r);
	is_int((long long)srv.served, 1, "nor after a 500");
	ok(r->call.ambiguous, "effect unknown");
	end_run(r);
	drop_conns();
	r = new_run("RunInstances");
	SCRIPT(cut);
	go(r);
	is_int((long long)srv.served, 3, "an idempotent one is");
	ok(r->call.ambiguous, "and unknown in the end");
	end_run(r);
}

static void garbled(const char *what, const char *body, bool repeated)
{
	const struct step s[] = {STEP(200, body),
	                         STEP(200, OK_THING("RunInstances"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	go(r);
	is_int(r->call.base.err.kind, HGA_OK, what);
	is_int((long long)srv.served, repeated ? 2 : 1, "requests");
	end_run(r);
}

static void test_garbled(void)
{
	static const struct step s[] = {
	    STEP(200, "<html><body>log in</body></html>")};
	struct run *r = new_run("RebootInstances");

	garbled("a portal page is no success", s[0].body, true);
	garbled("an empty answer is none", "", true);
	garbled("a cut answer is none", "<RunInstancesResponse><thingId>",
	        true);
	garbled("a foreign root is none", OK_THING("DescribeThings"), true);
	garbled("an answer is", OK_THING("RunInstances"), false);
	SCRIPT(s);
	go(r);
	is_int(r->call.base.err.kind, HGA_PROTOCOL, "unsafe: protocol error");
	is_str(r->call.code, "Garbled", "code");
	ok(r->call.ambiguous, "effect unknown");
	is_int((long long)srv.served, 1, "not repeated");
	end_run(r);
}

static void test_redirect(void)
{
	static const struct step s[] = {
	    {ANSWER, 302, "Location: http://127.0.0.1:1/x\r\n", "", false}};
	struct run *r = new_run("DescribeThings");

	SCRIPT(s);
	go(r);
	is_int((long long)srv.served, 1, "a redirect is not followed");
	is_int(r->call.base.err.kind, HGA_AWS, "it is an error");
	ok(strstr(hga_buf_text(&r->call.message),
	          "redirect to http://127.0.0.1:1/x was not followed") != NULL,
	   "that names the target");
	end_run(r);
}

/* The first answer keeps the connection; the second request dies on it. */
static void dying(const char *op, int served, bool good)
{
	const struct step s[] = {STEP(200, OK_THING("DescribeThings")),
	                         {CUT, 0, NULL, NULL, false},
	                         STEP(200, OK_THING("RunInstances"))};
	struct run *r = new_run("DescribeThings");

	SCRIPT(s);
	go(r);
	end_run(r);
	r = new_run(op);
	go(r);
	is_int((long long)srv.served, served, op);
	ok((r->call.base.err.kind == HGA_OK) == good,
	   "a dead kept connection: %s", good ? "success" : "error");
	if (good) {
		is_int(r->call.attempts, 1, "not counted as an attempt");
		is_str(srv.bodies[2], srv.bodies[1], "same bytes");
	} else {
		ok(r->call.ambiguous, "effect unknown");
		ok(!r->call.http.reused, "on a connection of its own");
	}
	end_run(r);
}

static void test_dying(void)
{
	dying("RunInstances", 3, true);
	dying("RebootInstances", 2, false);
}

static void test_skew(void)
{
	char date[96], text[HGA_TIME_TEXT];
	struct step s[] = {STEP(400, ERROR("RequestExpired", "too old")),
	                   STEP(200, OK_THING("DescribeThings"))};
	struct run *r = new_run("DescribeThings");

	snprintf(date, sizeof(date), "Date: nonsense\r\nDate: %s\r\n",
	         hga_time_text(text, world.wall_us + 3600 * INT64_C(1000000),
	                       HGA_TIME_HTTP));
	s[0].head = date;
	SCRIPT(s);
	go(r);
	is_int(r->call.base.err.kind, HGA_OK, "a wrong clock is corrected");
	is_int(r->call.attempts, 1, "not counted");
	ok(strstr(srv.last, "X-Amz-Date: 20260101T010000Z") != NULL,
	   "signed with the service's time");
	end_run(r);
	r = new_run("DescribeThings");
	s[0].head = NULL;
	SCRIPT(s);
	go(r);
	is_str(r->call.code, "RequestExpired",
	       "without a difference it stays an error");
	end_run(r);
}

static void test_limit(void)
{
	static const struct step s[] = {{BIG, 0, NULL, NULL, false}};
	struct run *r = new_run("DescribeThings");

	SCRIPT(s);
	go(r);
	is_int(r->call.base.err.kind, HGA_PROTOCOL, "33 MiB are too much");
	is_str(r->call.code, "TooLarge", "code");
	is_int((long long)srv.served, 1, "and not asked for again");
	end_run(r);
}

static void test_gate(void)
{
	static const struct step s[] = {STEP(200, OK_THING("RunInstances"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	r->a.gate = gate;
	r->gate_rc = -HGA_IO;
	is_int(start_run(r), -HGA_IO, "a gate that fails stops the call");
	spin(never, r, 100);
	is_int((long long)srv.served, 0, "nothing was sent");
	is_int(r->settled, 0, "nothing is settled");
	end_run(r);
}

static void test_refused(void)
{
	struct run *r = new_run("RebootInstances");

	r->ca.endpoint_url = hga_str("http://127.0.0.1:1");
	r->a.gate = gate;
	go(r);
	is_int(r->call.base.err.kind, HGA_NET, "nobody listens: net");
	ok(!r->call.sent && !r->call.ambiguous, "nothing was sent");
	is_int(r->call.attempts, 3, "tried three times, though unsafe");
	is_int(r->outcome, HGA_CALL_NOTHING, "the ledger may forget it");
	ok(strncmp(hga_buf_text(&r->call.message),
	           "ec2 RebootInstances: ", 21) == 0 &&
	       strstr(hga_buf_text(&r->call.message), "(3 attempts, ") != NULL,
	   "the message says what and how often: %s",
	   hga_buf_text(&r->call.message));
	end_run(r);
}

static void test_start_errors(void)
{
	struct run *r = new_run("DescribeThings");

	r->ca.region = hga_str("");
	is_int(start_run(r), -HGA_USAGE, "no region");
	is_str(r->err.msg, "You must specify a region.", "in boto3's words");
	end_run(r);
	r = new_run("DescribeThings");
	r->ca.creds = NULL;
	is_int(start_run(r), -HGA_AUTH, "no credentials");
	ok(r->call.tried.len > 0, "with reasons");
	end_run(r);
	r = new_run("DescribeThings");
	r->ca.endpoint_url = hga_str("http://192.0.2.1:80");
	is_int(start_run(r), -HGA_USAGE, "plain http to another machine");
	is_str(r->err.code, "Endpoint", "code");
	end_run(r);
	r = new_run("DescribeThings");
	hga_vtape_free(r->params);
	r->params = hga_vtape_new(NULL, 1 << 20);
	hga_vt_open(r->params, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_key(r->params, HGA_STR("ThingID"));
	hga_vt_str(r->params, HGA_NO_NAME, HGA_STR("x"));
	hga_vt_close(r->params);
	is_int(start_run(r), -HGA_USAGE, "a wrong parameter");
	ok(strstr(hga_buf_text(&r->call.report), "ThingId") != NULL,
	   "with a suggestion");
	end_run(r);
	ok(hga_aws_only(aws, hga_str("http://127.0.0.1:9"), NULL) == 0, "only");
	r = new_run("DescribeThings");
	is_int(start_run(r), -HGA_USAGE, "another endpoint is refused");
	end_run(r);
	ok(hga_aws_only(aws, hga_str(""), NULL) == 0, "only: off");
}

static void test_deadline(void)
{
	static const struct step s[] = {{HOLD, 0, NULL, NULL, false}};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	r->a.timeout_ms = 200;
	r->a.gate = gate;
	go(r);
	is_int(r->call.base.err.kind, HGA_TIMEOUT, "the deadline of a call");
	is_str(r->call.code, "CallTimeout", "code");
	ok(r->call.ambiguous, "it was sent");
	is_int(r->outcome, HGA_CALL_UNKNOWN, "the ledger must look");
	end_run(r);
}

static void cancel_now(struct run *r, const char *state,
                       enum hga_aws_outcome outcome)
{
	int64_t t = hga_mono_ms();

	hga_op_cancel(&r->call.base);
	ok(hga_mono_ms() - t < 100, "cancel %s is quick", state);
	is_int(r->settled, 1, "the gate is answered");
	is_int(r->outcome, outcome, "outcome");
	spin(never, r, 30);
	ok(!r->finished, "done does not come any more");
	end_run(r);
}

static void test_cancel(void)
{
	static const struct step hold[] = {{HOLD, 0, NULL, NULL, false}};
	static const struct step later[] = {
	    {ANSWER, 503, "x-amz-retry-after: 4000\r\n",
	     ERROR("ServiceUnavailable", "x"), false}};
	struct run *r = new_run("RunInstances"), *first;

	SCRIPT(hold);
	r->a.gate = gate;
	ok(start_run(r) == 0, "started");
	cancel_now(r, "before sending", HGA_CALL_NOTHING);

	r = new_run("RunInstances");
	r->a.gate = gate;
	ok(start_run(r) == 0, "started");
	spin(was_served, r, 5000);
	cancel_now(r, "after sending", HGA_CALL_UNKNOWN);

	SCRIPT(later);
	r = new_run("DescribeThings");
	r->a.gate = gate;
	ok(start_run(r) == 0, "started");
	spin(was_served, r, 5000);
	spin(never, r, 50);
	cancel_now(r, "in the pause", HGA_CALL_UNKNOWN);

	SCRIPT(hold);
	first = new_run("DescribeThings");
	first->ca.max_concurrency = 1;
	ok(start_run(first) == 0, "started");
	spin(was_served, first, 5000);
	r = new_run("RunInstances");
	r->ca.max_concurrency = 1;
	r->a.gate = gate;
	ok(start_run(r) == 0, "started");
	spin(never, r, 50);
	is_int((long long)srv.served, 1, "one in flight, one waits");
	cancel_now(r, "in the queue", HGA_CALL_NOTHING);
	end_run(first);
}

static void test_queue(void)
{
	static const struct step s[] = {STEP(200, OK_THING("DescribeThings"))};
	struct run *r[5];

	SCRIPT(s);
	for (size_t i = 0; i < 5; i++) {
		r[i] = new_run("DescribeThings");
		r[i]->ca.max_concurrency = 2;
		ok(start_run(r[i]) == 0, "started");
	}
	for (size_t i = 0; i < 5; i++) {
		spin(is_finished, r[i], 5000);
		ok(r[i]->finished && r[i]->call.base.err.kind == HGA_OK,
		   "call %zu gets its turn", i);
	}
	for (size_t i = 0; i < 5; i++)
		end_run(r[i]);
}

static void test_eventual(void)
{
	static const struct step s[] = {
	    {ANSWER, 200, NULL,
	     "<RunInstancesResponse><thingId>i-00ff00ff"
	     "</thingId></RunInstancesResponse>",
	     false},
	    STEP(400, ERROR("InvalidThingID.NotFound",
	                    "The thing 'i-00ff00ff' does not exist")),
	    STEP(200, OK_THING("DescribeThings")),
	    STEP(400, ERROR("InvalidThingID.NotFound",
	                    "The thing 'i-99999999' does not exist")),
	    STEP(400, ERROR("InvalidThingID.Malformed",
	                    "The thing 'i-00ff00ff' is malformed"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	go(r);
	end_run(r);
	r = new_run("DescribeThings");
	go(r);
	is_int(r->call.base.err.kind, HGA_OK,
	       "what was just made is waited for");
	is_int(r->call.attempts, 1, "outside of the attempts");
	ok(r->call.took_ms >= 900, "after a pause");
	end_run(r);
	r = new_run("DescribeThings");
	go(r);
	is_str(r->call.code, "InvalidThingID.NotFound",
	       "other things are not waited for");
	end_run(r);
	r = new_run("DescribeThings");
	go(r);
	is_str(r->call.code, "InvalidThingID.Malformed",
	       "a malformed id never is");
	end_run(r);
}

static void test_maybe_done(void)
{
	static const struct step s[] = {
	    {CUT, 0, NULL, NULL, false},
	    STEP(400, ERROR("InvalidThing.Duplicate", "exists"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	r->a.gate = gate;
	go(r);
	is_str(r->call.code, "InvalidThing.Duplicate", "refused at last");
	ok(r->call.maybe_done, "but the first attempt may have worked");
	is_int(r->outcome, HGA_CALL_UNKNOWN, "the ledger must look");
	end_run(r);
}

static void test_quota(void)
{
	static const struct step s[] = {
	    STEP(503, ERROR("ServiceUnavailable", "later"))};
	struct run *r = new_run("DescribeThings");

	SCRIPT(s);
	r->ca.max_attempts = 60;
	go(r);
	is_int((long long)srv.served, 36,
	       "the quota of 500 ends repeats: 1 + 35");
	end_run(r);
}

static void test_user_data(void)
{
	static const struct step s[] = {STEP(200, OK_THING("RunInstances"))};
	struct run *r = new_run("RunInstances");

	SCRIPT(s);
	hga_vtape_free(r->params);
	r->params = hga_vtape_new(NULL, 1 << 20);
	hga_vt_open(r->params, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_key(r->params, HGA_STR("UserData"));
	hga_vt_str(r->params, HGA_NO_NAME, HGA_STR("#!/bin/sh\n"));
	hga_vt_close(r->params);
	go(r);
	ok(strstr(srv.bodies[0], "UserData=IyEvYmluL3NoCg%3D%3D") != NULL,
	   "user data goes out in base64");
	end_run(r);
}

static void test_presign(void)
{
	struct run *r = new_run("DescribeThings");
	struct hga_aws_request req = {0};
	struct hga_buf url;

	hga_buf_init(&url, 1 << 16);
	ok(hga_aws_client_new(aws, &r->ca, &r->client, &r->err) == 0 &&
	       hga_aws_presign_url(r->client, creds, r->a.op,
	                           hga_vtape_root(r->params), 600, &req, &url,
	                           &r->err) == 0,
	   "a URL is presigned");
	ok(strstr(hga_buf_text(&url), "Action=DescribeThings") != NULL &&
	       strstr(hga_buf_text(&url), "X-Amz-Expires=600") != NULL &&
	       strstr(hga_buf_text(&url), "&X-Amz-Signature=") != NULL,
	   "with everything in it");
	ok(strstr(hga_buf_text(&url), SECRET) == NULL, "but the secret");
	ok(strcmp(req.method, "GET") == 0 && !req.has_body,
	   "for a request without a body");
	hga_aws_request_release(&req);
	hga_buf_release(&url);
	end_run(r);
}

/* ---- the mode adaptive ---- */

/* As after a throttle: half a request per second. */
static void slow_down(struct run *r)
{
	struct hga_rate *rate = &r->client->rate;

	hga_rate_bucket_init(&rate->bucket, 0.5, (double)hga_mono_ms() / 1000);
	rate->enabled = true;
}

static void test_adaptive(void)
{
	static const struct step s[] = {
	    STEP(400, ERROR("RequestLimitExceeded", "slow down")),
	    STEP(200, OK_THING("DescribeThings"))};
	struct run *r = new_run("DescribeThings");

	SCRIPT(s);
	r->ca.retry_mode = hga_str("adaptive");
	r->slow = true;
	r->a.timeout_ms = 500;
	go(r);
	is_int((long long)srv.served, 0, "a slow client holds requests back");
	is_str(r->call.code, "CallTimeout", "a short call ends before that");
	ok(strstr(hga_buf_text(&r->call.message), "slowed down after "
	                                          "throttling") != NULL,
	   "and says why: %s", hga_buf_text(&r->call.message));
	end_run(r);
	r = new_run("DescribeThings");
	SCRIPT(s);
	r->ca.retry_mode = hga_str("adaptive");
	go(r);
	is_int(r->call.base.err.kind, HGA_OK, "a throttle is survived");
	ok(r->client->rate.enabled, "and has slowed the client down");
	ok(strstr(srv.last, "cfg/retry-mode#adaptive") != NULL,
	   "the mode is told");
	end_run(r);
	r = new_run("DescribeThings");
	SCRIPT(s);
	go(r);
	ok(!r->client->rate.enabled, "no other mode does that");
	end_run(r);
}

/* ---- what is shown ---- */

static struct {
	struct hga_log_sink sink;
	struct hga_buf text;
} seen;

static void see(struct hga_log_sink *sink, const struct hga_log_rec *rec)
{
	(void)sink; /* there is one */
	if (hga_buf_addstr(&seen.text, rec->text, NULL) < 0 ||
	    hga_buf_addc(&seen.text, '\n', NULL) < 0)
		exit(1);
}

static bool was_seen(const char *text)
{
	return strstr(hga_buf_text(&seen.text), text) != NULL;
}

static void test_trace(void)
{
	/* c2VjcmV0... is the base64 form of the user data */
	static const struct step s[] = {
	    STEP(400, ERROR("InvalidUserData", "secret-of-the-user-data! is "
	                                       "c2VjcmV0LW9mLXRoZS11c2VyLWRhd"
	                                       "GEh&#9;odd")),
	    STEP(200, OK_THING("RunInstances"))};
	struct run *r = new_run("RunInstances");

	hga_buf_init(&seen.text, 1 << 20);
	seen.sink.write = see;
	seen.sink.level = HGA_LOG_TRACE;
	hga_log_add(&seen.sink);
	SCRIPT(s);
	hga_vtape_free(r->params);
	r->params = hga_vtape_new(NULL, 1 << 20);
	hga_vt_open(r->params, HGA_V_MAP, HGA_NO_NAME, HGA_NO_SHAPE);
	hga_vt_key(r->params, HGA_STR("UserData"));
	hga_vt_str(r->params, HGA_NO_NAME, HGA_STR("secret-of-the-user-data!"));
	hga_vt_close(r->params);
	go(r);
	hga_log_remove(&seen.sink);
	is_str(hga_buf_text(&r->call.message),
	       "An error occurred (InvalidUserData) when calling the "
	       "RunInstances operation: *** is ***\todd",
	       "what the service quotes is hidden");
	ok(was_seen("> POST /\n") && was_seen("Action=RunInstances"),
	   "the request is traced");
	ok(was_seen("< 400, ") && was_seen("<Code>InvalidUserData</Code>"),
	   "and the answer");
	ok(was_seen("canonical request\nPOST\n"), "and what was signed");
	ok(was_seen("Authorization: ***\n"), "but not the signature");
	ok(was_seen("UserData=***"), "nor user data");
	ok(was_seen("not repeated: it would fail again"),
	   "and why there is no other attempt");
	ok(!was_seen("secret-of-the-user") && !was_seen("c2VjcmV0LW9m") &&
	       !was_seen(SECRET),
	   "in no spelling");
	end_run(r);
	hga_buf_release(&seen.text);
}

static void test_lambda_chain(void)
{
	static const struct step s[] = {STEP(200, OK_THING("DescribeThings"))};
	struct run *r;
	size_t n = 0;

	while (world.vars[n].name != NULL)
		n++;
	world.vars[n].name = "_X_AMZN_TRACE_ID";
	world.vars[n].value = "Root=1-2;\xc3\xa9\n";
	r = new_run("DescribeThings");
	SCRIPT(s);
	go(r);
	ok(strstr(srv.last, "X-Amzn-Trace-Id") == NULL, "no trace outside");
	end_run(r);
	world.vars[n + 1].name = "AWS_LAMBDA_FUNCTION_NAME";
	world.vars[n + 1].value = "f";
	r = new_run("DescribeThings");
	SCRIPT(s);
	go(r);
	ok(strstr(srv.last, "\r\nX-Amzn-Trace-Id: Root=1-2;%C3%A9%0A\r\n") !=
	       NULL,
	   "in Lambda the chain goes on");
	end_run(r);
	world.vars[n].name = NULL;
	world.vars[n + 1].name = NULL;
}

/* ---- failing allocations ---- */

/* One whole call, from the client to the answer; true: it succeeded and
 * there is no n-th allocation. */
static bool tortured(unsigned long n, bool *ended)
{
	unsigned long count;
	struct run *r = new_run("RunInstances");
	bool good;

	r->a.gate = gate;
	srv.served = 0;
	hga_mem_torture(n, true);
	if (start_run(r) == 0)
		spin(is_finished, r, 20000);
	else
		r->finished = true;
	count = hga_mem_count();
	hga_mem_torture(0, false);
	*ended = r->finished && r->settled == r->gates;
	good = r->call.tape != NULL && r->call.base.err.kind == HGA_OK &&
	       r->call.status == 200;
	end_run(r);
	return good && count < n;
}

static void test_torture(void)
{
	static const struct step s[] = {
	    STEP(503, ERROR("ServiceUnavailable", "later")),
	    STEP(200, OK_THING("RunInstances"))};
	bool ended = true, good = false;
	unsigned long n;

	SCRIPT(s);
	for (n = 1; n < 5000 && ended && !good; n++)
		good = tortured(n, &ended);
	ok(ended, "a call ends once, whichever allocation fails");
	ok(good && n > 100, "and succeeds when none does (%lu)", n);
}

/* ---- set-up ---- */

static struct hga_buf image;
static struct hga_aws_image *img;

static void make_model(void)
{
	struct hga_modelc *c = hga_modelc_new(false);
	struct hga_modelc_src src;
	struct hga_err err = {0};

	memset(&src, 0, sizeof(src));
	src.name = hga_str("ec2");
	src.service = hga_str(model);
	hga_buf_init(&image, 1 << 20);
	if (hga_modelc_add(c, &src, &err) < 0 ||
	    hga_modelc_finish(c, &image, &err) < 0 ||
	    hga_aws_image_open(&img, image.data, image.len, false, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		exit(1);
	}
	hga_modelc_free(c);
	svc = hga_aws_svc_find(img, hga_str("ec2"));
}

int main(void)
{
	struct hga_aws_args a = {0};
	struct hga_err err = {0};

	fake_init(&world);
	world.wall_us = INT64_C(1767225600) * 1000000;
	make_model();
	loop = hga_loop_new(&err);
	a.loop = loop;
	a.img = img;
	a.env = &world.env;
	a.agent = "hgauto/test";
	if (loop == NULL || hga_aws_new(&aws, &a, &err) < 0 ||
	    hga_creds_new(&creds, "argument", hga_str("AKIDEXAMPLE00001"),
	                  hga_str(SECRET), hga_str(""), &err) < 0)
		return 1;
	listen_here();
	test_success();
	test_retry();
	test_bare_429();
	test_exhausted();
	test_unsafe();
	test_garbled();
	test_redirect();
	test_dying();
	test_limit();
	test_gate();
	test_refused();
	test_start_errors();
	test_deadline();
	test_cancel();
	test_queue();
	test_eventual();
	test_maybe_done();
	test_quota();
	test_user_data();
	test_presign();
	test_adaptive();
	test_trace();
	test_lambda_chain();
	test_torture();
	test_skew(); /* last: it changes the clock of the host */
	drop_conns();
	hga_watch_stop(loop, &srv.listen);
	close(srv.listen.fd);
	hga_aws_free(aws);
	hga_creds_free(creds);
	hga_loop_free(loop);
	hga_aws_image_free(img);
	hga_buf_release(&image);
	hga_log_release();
	return done();
}
