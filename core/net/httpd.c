/*
 * HTTP server: libmicrohttpd without threads (local cloud specification
 * section 3).  Its epoll descriptor is one watch of the loop, its timeout one
 * timer; listeners are ours, connections go in by MHD_add_connection.
 *
 * A request is suspended when it is whole.  A resumed connection only moves
 * in MHD_run, so every resume starts a timer that is due at once.  While
 * suspended libmicrohttpd does not look at the socket; a watch of ours sees
 * the client leave.
 */
#include "net/httpd_int.h"

#include "base/mem.h"
#include "base/time.h"
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_BODY ((size_t)8 * 1024 * 1024)
#define MAX_TARGET ((size_t)128 * 1024)
#define IDLE_MS 60000
#define MAX_CONNS 256
#define STREAM_MAX ((size_t)64 * 1024 * 1024)
#define ACCEPT_BATCH 16
#define ACCEPT_PAUSE_MS 100
/* What is read and dropped of a body over the limit before the answer 413;
 * then the connection is cut. */
#define MAX_DROPPED ((size_t)16 * 1024 * 1024)

struct listener {
	struct listener *next;
	struct hga_httpd *s;
	struct hga_watch watch;
	struct hga_timer pause;
	char *tag, *path;
};

/* ---- requests: memory ---- */

static void req_link(struct req *r)
{
	r->next = r->s->reqs;
	if (r->next != NULL)
		r->next->prev = r;
	r->s->reqs = r;
}

static void req_unlink(struct req *r)
{
	if (r->s == NULL)
		return;
	hga_watch_stop(r->s->loop, &r->leave);
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		r->s->reqs = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	r->next = r->prev = NULL;
	r->s = NULL;
}

void hga_httpd_req_free(struct req *r)
{
	req_unlink(r);
	if (r->answer != NULL)
		MHD_destroy_response(r->answer);
	hga_buf_release(&r->target);
	hga_buf_release_secret(&r->body);
	hga_buf_release_secret(&r->text);
	hga_buf_release_secret(&r->stream);
	hga_free(r->headers);
	hga_free(r);
}

static void req_maybe_free(struct req *r)
{
	if (r->owner_done && r->mhd_done)
		hga_httpd_req_free(r);
}

static struct req *req_new(struct conn *c, struct MHD_Connection *mc)
{
	struct hga_httpd *s = c->s;
	struct req *r = hga_calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->s = s;
	r->conn = c;
	r->mc = mc;
	r->owner_done = true; /* it has not seen it yet */
	hga_buf_init(&r->target, MAX_TARGET);
	hga_buf_init(&r->body, s->opts.max_body);
	hga_buf_init(&r->text, 4 * HGA_HTTPD_CONN_MEMORY);
	hga_buf_init(&r->stream, STREAM_MAX);
	r->pub.id = ++s->last_id;
	r->pub.wall_us = hga_wall_us();
	r->pub.peer = c->peer;
	r->pub.tag = c->tag != NULL ? c->tag : "";
	req_link(r);
	return r;
}

/* ---- driving libmicrohttpd ---- */

static void kick(struct hga_httpd *s)
{
	/* Without memory the next event of any connection does it. */
	if (hga_timer_start(s->loop, &s->timer, 0, NULL) < 0)
		return;
}

static void run(struct hga_httpd *s)
{
	MHD_UNSIGNED_LONG_LONG ms;

	(void)MHD_run(s->daemon); /* errors are those of single connections */
	if (MHD_get_timeout(s->daemon, &ms) != MHD_YES)
		return;
	if (ms > 3600000)
		ms = 3600000;
	if (hga_timer_running(&s->timer)) /* kicked from a callback */
		return;
	if (hga_timer_start(s->loop, &s->timer, (int64_t)ms, NULL) < 0)
		return; /* no memory: the next event comes first */
}

static void on_epoll(struct hga_watch *w, int events)
{
	struct hga_httpd *s = w->data;

	(void)events; /* MHD_run looks itself */
	hga_timer_stop(s->loop, &s->timer);
	run(s);
}

static void on_timer(struct hga_timer *t)
{
	run(t->data);
}

static void on_leave(struct hga_watch *w, int events)
{
	struct req *r = w->data;

	if (!(events & HGA_HUP))
		return;
	hga_watch_stop(r->s->loop, w);
	r->pub.gone = true;
	if (r->s->opts.on_gone != NULL)
		r->s->opts.on_gone(r->s->opts.data, &r->pub);
}

void hga_httpd_suspend(struct req *r)
{
	if (r->suspended)
		return;
	MHD_suspend_connection(r->mc);
	r->suspended = true;
	if (r->pub.gone)
		return;
	r->leave.fn = on_leave;
	r->leave.data = r;
	r->leave.fd = r->conn->fd;
	if (hga_watch_start(r->s->loop, &r->leave, HGA_HUP, NULL) < 0)
		return; /* its leaving is then seen by the answer */
}

void hga_httpd_resume(struct req *r)
{
	if (!r->suspended)
		return;
	r->suspended = false;
	hga_watch_stop(r->s->loop, &r->leave);
	MHD_resume_connection(r->mc);
	kick(r->s);
}

/* ---- a request arrives ---- */

/* The only place where the target is seen as it was sent. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mc)
{
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *c = info != NULL ? info->socket_context : NULL;
	struct req *r;

	(void)cls; /* the connection knows the server */
	r = c != NULL ? req_new(c, mc) : NULL;
	if (r != NULL && hga_buf_adds(&r->target, uri, NULL) < 0) {
		hga_httpd_req_free(r);
		return NULL;
	}
	return r;
}

static size_t keep_unescaped(void *cls, struct MHD_Connection *mc, char *s)
{
	(void)cls; /* nothing is decoded here */
	(void)mc;
	return strlen(s);
}

struct gather {
	struct req *r;
	bool failed;
};

/* Name and value one after the other into text; the views are made later,
 * when the buffer no longer moves. */
static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind,
                                  const char *key, size_t key_n,
                                  const char *value, size_t value_n)
{
	struct gather *g = cls;
	struct req *r = g->r;
	struct hga_http_hdr *h;

	struct hga_str v = hga_str_trim(hga_strn(value, value_n));

	(void)kind; /* only headers were asked for */
	g->failed = true;
	if (r->pub.n_headers >= r->max_headers ||
	    hga_buf_add(&r->text, key, key_n, NULL) < 0 ||
	    hga_buf_addstr(&r->text, v, NULL) < 0)
		return MHD_NO;
	h = &r->headers[r->pub.n_headers++];
	h->name.n = key_n;
	h->value.n = v.n;
	g->failed = false;
	return MHD_YES;
}

static void set_views(struct req *r, size_t method_n, size_t version_n)
{
	const char *p = hga_buf_text(&r->text);
	struct hga_str target = hga_buf_str(&r->target);
	ptrdiff_t q = hga_str_chr(target, '?', 0);
	size_t i, cut = q < 0 ? target.n : (size_t)q;

	r->pub.target = target;
	r->pub.path = hga_strn(target.s, cut);
	r->pub.query = q < 0 ? hga_str("")
	                     : hga_strn(target.s + cut + 1, target.n - cut - 1);
	r->pub.method = hga_strn(p, method_n);
	p += method_n;
	r->pub.version = hga_strn(p, version_n);
	p += version_n;
	for (i = 0; i < r->pub.n_headers; i++) {
		r->headers[i].name.s = p;
		p += r->headers[i].name.n;
		r->headers[i].value.s = p;
		p += r->headers[i].value.n;
	}
	r->pub.headers = r->headers;
}

static int gather(struct req *r, const char *method, const char *version)
{
	struct gather g = {.r = r};
	int n = MHD_get_connection_values_n(r->mc, MHD_HEADER_KIND, NULL, NULL);

	r->max_headers = n > 0 ? (size_t)n : 0;
	r->headers = hga_calloc(r->max_headers + 1, sizeof(*r->headers));
	if (r->headers == NULL || hga_buf_adds(&r->text, method, NULL) < 0 ||
	    hga_buf_adds(&r->text, version, NULL) < 0)
		return -1;
	MHD_get_connection_values_n(r->mc, MHD_HEADER_KIND, add_header, &g);
	if (g.failed)
		return -1;
	set_views(r, strlen(method), strlen(version));
	return 0;
}

struct hga_str hga_httpd_header(const struct hga_httpd_req *req,
                                const char *name, unsigned i)
{
	const struct hga_str none = {NULL, 0};
	size_t k;

	for (k = 0; k < req->n_headers; k++)
		if (hga_str_ieqc(req->headers[k].name, name) && i-- == 0)
			return req->headers[k].value;
	return none;
}

static bool announces_too_much(const struct req *r)
{
	struct hga_str v = hga_httpd_header(&r->pub, "content-length", 0);
	uint64_t n;

	return v.s != NULL && hga_str_uint(v, &n) && n > r->s->opts.max_body;
}

static enum MHD_Result answer_413(struct req *r)
{
	static char text[] = "request body too large\n";
	struct MHD_Response *resp = MHD_create_response_from_buffer(
	    sizeof(text) - 1, text, MHD_RESPMEM_PERSISTENT);
	enum MHD_Result res = MHD_NO;

	if (resp == NULL)
		return MHD_NO;
	if (MHD_add_response_header(resp, "Connection", "close") == MHD_YES)
		res = MHD_queue_response(r->mc, 413, resp);
	MHD_destroy_response(resp);
	return res;
}

static enum MHD_Result take_body(struct req *r, const char *p, size_t *n)
{
	size_t len = *n;

	*n = 0;
	if (!r->too_large && len <= r->s->opts.max_body - r->body.len) {
		if (hga_buf_add(&r->body, p, len, NULL) < 0)
			return MHD_NO;
		return MHD_YES;
	}
	/* The 413 can only be queued at the end of the body. */
	r->too_large = true;
	hga_buf_clear(&r->body);
	r->dropped += len;
	return r->dropped > MAX_DROPPED ? MHD_NO : MHD_YES;
}

/* Whole: from now on it is the owner's. */
static enum MHD_Result hand_over(struct req *r)
{
	r->pub.body = hga_buf_str(&r->body);
	r->state = OWNED;
	r->owner_done = false;
	hga_httpd_suspend(r);
	r->s->opts.on_request(r->s->opts.data, &r->pub);
	return MHD_YES;
}

/* AF_UNSPEC disconnects a TCP socket with a reset; SO_LINGER would not do,
 * since libmicrohttpd shuts the socket down before it closes it. */
static void reset_peer(const struct req *r)
{
	struct sockaddr sa = {.sa_family = AF_UNSPEC};

	(void)connect(r->conn->fd, &sa, sizeof(sa)); /* unix: stays a FIN */
}

static enum MHD_Result answer(struct req *r)
{
	if (r->cut) {
		if (r->how == HGA_CUT_RST)
			reset_peer(r);
		return MHD_NO;
	}
	if (r->queued || r->answer == NULL)
		return MHD_YES;
	r->queued = true;
	return MHD_queue_response(r->mc, (unsigned)r->status, r->answer);
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mc,
                                 const char *url, const char *method,
                                 const char *version, const char *upload,
                                 size_t *upload_n, void **ctx)
{
	struct req *r = *ctx;

	(void)cls; /* all is in the request */
	(void)mc;
	(void)url;
	if (r == NULL || r->s == NULL)
		return MHD_NO;
	if (r->state != ARRIVING)
		return answer(r);
	if (r->headers == NULL) {
		if (gather(r, method, version) < 0)
			return MHD_NO;
		return announces_too_much(r) ? answer_413(r) : MHD_YES;
	}
	if (*upload_n > 0)
		return take_body(r, upload, upload_n);
	if (r->too_large)
		return answer_413(r);
	return hand_over(r);
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **ctx,
                         enum MHD_RequestTerminationCode code)
{
	struct req *r = *ctx;
	struct hga_httpd *s = cls;

	(void)mc; /* all is in the request */
	if (r == NULL)
		return;
	*ctx = NULL;
	r->mhd_done = true;
	r->suspended = false;
	req_unlink(r);
	r->conn = NULL;
	r->pub.peer = r->pub.tag = ""; /* were the connection's */
	if (!r->owner_done && !r->pub.gone &&
	    code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
		r->pub.gone = true;
		if (s->opts.on_gone != NULL)
			s->opts.on_gone(s->opts.data, &r->pub);
	}
	req_maybe_free(r);
}

/* ---- connections ---- */

static struct conn *conn_find(struct hga_httpd *s, int fd)
{
	struct conn *c = s->conns;

	while (c != NULL && c->fd != fd)
		c = c->next;
	return c;
}

static void conn_free(struct conn *c)
{
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		c->s->conns = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	c->s->n_conns--;
	hga_free(c->tag);
	hga_free(c);
}

static struct conn *conn_new(struct hga_httpd *s, int fd, const char *tag)
{
	struct conn *c = hga_calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->tag = hga_strdup(tag);
	if (c->tag == NULL) {
		hga_free(c);
		return NULL;
	}
	c->s = s;
	c->fd = fd;
	c->next = s->conns;
	if (c->next != NULL)
		c->next->prev = c;
	s->conns = c;
	s->n_conns++;
	return c;
}

/* May come long after MHD_add_connection: the descriptor is the key. */
static void on_connection(void *cls, struct MHD_Connection *mc, void **ctx,
                          enum MHD_ConnectionNotificationCode code)
{
	struct hga_httpd *s = cls;
	const union MHD_ConnectionInfo *info;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*ctx != NULL)
			conn_free(*ctx);
		*ctx = NULL;
		return;
	}
	info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
	*ctx = info != NULL ? conn_find(s, info->connect_fd) : NULL;
}

static int add_conn(struct hga_httpd *s, int fd, const struct sockaddr *sa,
                    socklen_t len, const char *tag, struct hga_err *err)
{
	struct conn *c = conn_new(s, fd, tag);

	if (c == NULL) {
		close(fd);
		return hga_fail_mem(err);
	}
	hga_sockaddr_text(sa, c->peer, sizeof(c->peer));
	if (MHD_add_connection(s->daemon, fd, sa, len) != MHD_YES) {
		c = conn_find(s, fd); /* gone when it was announced first */
		if (c != NULL)
			conn_free(c);
		return hga_fail(err, HGA_IO, 0, "Listen",
		                "connection refused: too many are open");
	}
	kick(s);
	return 0;
}

int hga_httpd_adopt_conn(struct hga_httpd *s, int fd, const char *tag,
                         struct hga_err *err)
{
	struct sockaddr_storage sa = {.ss_family = AF_UNIX};
	socklen_t n = sizeof(sa);
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    getpeername(fd, (struct sockaddr *)&sa, &n) < 0) {
		int sys = errno;

		close(fd);
		return hga_fail(err, HGA_IO, sys, "Listen", "not a connection");
	}
	return add_conn(s, fd, (struct sockaddr *)&sa, n,
	                tag != NULL ? tag : "", err);
}

unsigned hga_httpd_conns(const struct hga_httpd *s)
{
	return s->n_conns;
}

/* ---- listeners ---- */

static void on_pause_over(struct hga_timer *t)
{
	struct listener *l = t->data;

	if (hga_watch_start(l->s->loop, &l->watch, HGA_READ, NULL) < 0 &&
	    hga_timer_start(l->s->loop, t, ACCEPT_PAUSE_MS, NULL) < 0)
		return; /* no memory twice: this listener stays deaf */
}

/* Out of descriptors: a level-triggered listener would spin. */
static void pause_listener(struct listener *l)
{
	if (hga_timer_start(l->s->loop, &l->pause, ACCEPT_PAUSE_MS, NULL) == 0)
		hga_watch_stop(l->s->loop, &l->watch);
}

static void on_accept(struct hga_watch *w, int events)
{
	struct listener *l = w->data;
	struct sockaddr_storage sa;
	socklen_t n;
	int i, fd;

	(void)events; /* accept tells */
	for (i = 0; i < ACCEPT_BATCH; i++) {
		n = sizeof(sa);
		memset(&sa, 0, sizeof(sa));
		fd = accept4(w->fd, (struct sockaddr *)&sa, &n,
		             SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE ||
		               errno == ENOMEM || errno == ENOBUFS))
			pause_listener(l);
		if (fd < 0)
			return;
		if (l->s->n_conns >= l->s->opts.max_conns) {
			close(fd);
			continue;
		}
		if (add_conn(l->s, fd, (struct sockaddr *)&sa, n, l->tag,
		             NULL) < 0)
			continue; /* closed; the client sees it */
	}
}

static void listener_free(struct listener *l)
{
	hga_watch_stop(l->s->loop, &l->watch);
	hga_timer_stop(l->s->loop, &l->pause);
	close(l->watch.fd);
	if (l->path != NULL)
		(void)unlink(l->path); /* someone else may have removed it */
	hga_free(l->path);
	hga_free(l->tag);
	hga_free(l);
}

static int add_listener(struct hga_httpd *s, int fd, const char *tag,
                        const char *path, struct hga_err *err)
{
	struct listener *l = hga_calloc(1, sizeof(*l));
	int r;

	if (l == NULL) {
		close(fd);
		return hga_fail_mem(err);
	}
	l->s = s;
	l->watch.fd = fd;
	l->watch.fn = on_accept;
	l->pause.fn = on_pause_over;
	l->watch.data = l->pause.data = l;
	l->tag = hga_strdup(tag != NULL ? tag : "");
	l->path = path != NULL ? hga_strdup(path) : NULL;
	r = l->tag == NULL || (path != NULL && l->path == NULL)
	        ? hga_fail_mem(err)
	        : hga_watch_start(s->loop, &l->watch, HGA_READ, err);
	if (r < 0) {
		listener_free(l);
		return r;
	}
	l->next = s->listeners;
	s->listeners = l;
	return 0;
}

int hga_httpd_listen_tcp(struct hga_httpd *s, const char *host, int port,
                         const char *tag, int *port_out, struct hga_err *err)
{
	int fd = hga_listen_tcp(host, port, port_out, err);

	return fd < 0 ? fd : add_listener(s, fd, tag, NULL, err);
}

int hga_httpd_listen_unix(struct hga_httpd *s, const char *path, mode_t mode,
                          const char *tag, struct hga_err *err)
{
	int fd = hga_listen_unix(path, mode, err);

	return fd < 0 ? fd : add_listener(s, fd, tag, path, err);
}

int hga_httpd_adopt(struct hga_httpd *s, int fd, const char *tag,
                    struct hga_err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return hga_fail(err, HGA_IO, errno, "Listen",
		                "not a listener: descriptor %d", fd);
	return add_listener(s, fd, tag, NULL, err);
}

/* ---- server ---- */

static struct MHD_Daemon *start_daemon(struct hga_httpd *s)
{
	/* Its options are not const, but only read, and only now. */
	struct MHD_OptionItem tls[] = {
	    {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)s->opts.tls_cert},
	    {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)s->opts.tls_key},
	    {MHD_OPTION_END, 0, NULL}};

	if (s->opts.tls_cert == NULL)
		tls[0].option = MHD_OPTION_END;
	return MHD_start_daemon(
	    MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET |
	        MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK |
	        (s->opts.tls_cert != NULL ? MHD_USE_TLS : 0),
	    0, NULL, NULL, on_access, s, MHD_OPTION_URI_LOG_CALLBACK, on_uri, s,
	    MHD_OPTION_UNESCAPE_CALLBACK, keep_unescaped, NULL,
	    MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
	    MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, HGA_HTTPD_CONN_MEMORY,
	    MHD_OPTION_CONNECTION_LIMIT, s->opts.max_conns,
	    MHD_OPTION_CONNECTION_TIMEOUT,
	    (unsigned)((s->opts.idle_ms + 999) / 1000), MHD_OPTION_ARRAY, tls,
	    MHD_OPTION_END);
}

static int open_daemon(struct hga_httpd *s, struct hga_err *err)
{
	const union MHD_DaemonInfo *info;

	s->daemon = start_daemon(s);
	if (s->daemon == NULL)
		return hga_fail(
		    err, HGA_IO, errno, "Httpd", "cannot start libmicrohttpd%s",
		    s->opts.tls_cert != NULL ? " (certificate and key?)" : "");
	info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (info == NULL)
		return hga_fail(err, HGA_BUG, 0, NULL,
		                "libmicrohttpd without epoll");
	s->watch.fd = info->epoll_fd;
	s->watch.fn = on_epoll;
	s->timer.fn = on_timer;
	s->watch.data = s->timer.data = s;
	return hga_watch_start(s->loop, &s->watch, HGA_READ, err);
}

struct hga_httpd *hga_httpd_open(struct hga_loop *loop,
                                 const struct hga_httpd_opts *opts,
                                 struct hga_err *err)
{
	struct hga_httpd *s = hga_calloc(1, sizeof(*s));

	if (s == NULL) {
		(void)hga_fail_mem(err); /* the result is NULL */
		return NULL;
	}
	s->loop = loop;
	s->opts = *opts;
	if (s->opts.max_body == 0)
		s->opts.max_body = MAX_BODY;
	if (s->opts.idle_ms <= 0)
		s->opts.idle_ms = IDLE_MS;
	if (s->opts.max_conns == 0)
		s->opts.max_conns = MAX_CONNS;
	if (open_daemon(s, err) < 0) {
		hga_httpd_close(s);
		return NULL;
	}
	return s;
}

/* libmicrohttpd refuses to stop while a connection is suspended. */
static void cut_open_requests(struct hga_httpd *s)
{
	struct req *r, *next;

	for (r = s->reqs; r != NULL; r = next) {
		next = r->next;
		r->stream_failed = true;
		if (r->state == OWNED)
			r->cut = true;
		if (!r->owner_done && !r->pub.gone) {
			r->pub.gone = true;
			if (s->opts.on_gone != NULL)
				s->opts.on_gone(s->opts.data, &r->pub);
		}
		hga_httpd_resume(r);
	}
}

void hga_httpd_close(struct hga_httpd *s)
{
	struct listener *l;

	if (s == NULL)
		return;
	while ((l = s->listeners) != NULL) {
		s->listeners = l->next;
		listener_free(l);
	}
	if (s->daemon != NULL) {
		cut_open_requests(s);
		(void)MHD_run(s->daemon); /* it is stopped in any case */
		hga_timer_stop(s->loop, &s->timer);
		hga_watch_stop(s->loop, &s->watch);
		MHD_stop_daemon(s->daemon);
	}
	while (s->conns != NULL) /* never announced */
		conn_free(s->conns);
	while (s->reqs != NULL) {
		struct req *r = s->reqs;

		r->mhd_done = true;
		req_unlink(r);
		req_maybe_free(r);
	}
	hga_free(s);
}
