/*
 * Port forwarding: RFC 4254 section 7, OpenSSH's PROTOCOL section 2.4 for unix
 * sockets, RFC 1928 for SOCKS.  libssh2 is called from the session's pump
 * only: descriptors that become ready just wake it.
 */
#include "ssh/forward.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "net/dial.h"
#include "net/listen.h"
#include "ssh/impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RELAY_BUF (64 * 1024)
#define RELAYS_MAX 256
#define SOCKS_MS 10000
#define SOCKS_MAX 600 /* longest greeting and request together */
#define DIAL_MS 15000

/* ---- relay ---- */

struct way {
	unsigned char *data;
	size_t at, len;
};

struct hga_relay {
	struct hga_ssh *ssh;   /* a reference */
	struct hga_chan *chan; /* NULL: ended, or not yet asked for */
	int fd;
	struct hga_watch watch;
	struct way up, down; /* to the server, from it */
	bool readable, writable;
	bool fd_eof, eof_sent; /* fd ended; the server knows */
	bool ch_eof, shut;     /* the server ended; fd knows */
	bool ended;
	hga_relay_end *end;
	void *user;
	/* of a forward */
	struct hga_forward *f;
	struct hga_relay *next;
	struct hga_dial dial; /* remote: to our side's target */
	bool dialling, socks;
	unsigned char hello[SOCKS_MAX];
	size_t hello_len;
	bool greeted;
	struct hga_timer timer;
};

static void relay_free(struct hga_relay *r)
{
	if (r->dialling)
		hga_op_cancel(&r->dial.base);
	hga_timer_stop(r->ssh->loop, &r->timer);
	if (r->fd >= 0) {
		hga_watch_stop(r->ssh->loop, &r->watch);
		close(r->fd);
	}
	if (r->chan != NULL)
		hga_chan_drop(r->chan);
	hga_free(r->up.data);
	hga_free(r->down.data);
	hga_ssh_unref(r->ssh);
	hga_free(r);
}

void hga_relay_close(struct hga_relay *r)
{
	if (r != NULL)
		relay_free(r);
}

static void relay_over(struct hga_relay *r, const struct hga_err *err)
{
	hga_relay_end *end = r->end;
	void *user = r->user;

	if (r->ended)
		return;
	r->ended = true;
	if (end != NULL)
		end(r, user, err);
	relay_free(r);
}

/* Watches for what can make progress. */
static int relay_arm(struct hga_relay *r, struct hga_err *err)
{
	int events = 0;

	if (r->fd < 0)
		return 0;
	if (!r->fd_eof && !r->readable && r->up.len == 0)
		events |= HGA_READ;
	if (r->down.len > 0 && !r->writable)
		events |= HGA_WRITE;
	if (events == 0) {
		hga_watch_stop(r->ssh->loop, &r->watch);
		return 0;
	}
	if (r->watch.running && r->watch.events == events)
		return 0;
	return hga_watch_start(r->ssh->loop, &r->watch, events, err);
}

static void on_relay_fd(struct hga_watch *w, int events)
{
	struct hga_relay *r = w->data;

	if (events & (HGA_READ | HGA_HUP))
		r->readable = true;
	if (events & (HGA_WRITE | HGA_HUP))
		r->writable = true;
	/* The pump looks at it and arms again. */
	hga_watch_stop(r->ssh->loop, w);
	hga_ssh_kick(r->ssh);
}

static int relay_lost(struct hga_relay *r, struct hga_err *err, int rc)
{
	return hga_ssh_fail(r->ssh, err, "forward", rc);
}

/* Server to fd; false: fd is broken. */
static bool move_down(struct hga_relay *r, bool *progress, struct hga_err *err)
{
	while (!r->ch_eof && r->down.len == 0) {
		ssize_t n = libssh2_channel_read_ex(
		    r->chan->ch, 0, (char *)r->down.data, RELAY_BUF);

		if (n < 0 && n != LIBSSH2_ERROR_EAGAIN) {
			(void)relay_lost(r, err, (int)n); /* in err */
			return true;
		}
		if (n <= 0) {
			r->ch_eof = libssh2_channel_eof(r->chan->ch) == 1;
			break;
		}
		r->down.at = 0;
		r->down.len = (size_t)n;
		*progress = true;
		r->writable = true;
		break;
	}
	while (r->down.len > 0 && r->writable) {
		ssize_t n = send(r->fd, r->down.data + r->down.at, r->down.len,
		                 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0) {
			r->writable = false;
			break;
		}
		r->down.at += (size_t)n;
		r->down.len -= (size_t)n;
		*progress = true;
	}
	if (r->ch_eof && r->down.len == 0 && !r->shut) {
		r->shut = true;
		/* Gone already: then reading says so. */
		(void)shutdown(r->fd, SHUT_WR);
		*progress = true;
	}
	return true;
}

/* fd to server; false: fd is broken or the server has closed. */
static bool move_up(struct hga_relay *r, bool *progress, struct hga_err *err)
{
	if (r->up.len == 0 && r->readable && !r->fd_eof) {
		ssize_t n = recv(r->fd, r->up.data, RELAY_BUF, 0);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		if (n < 0)
			r->readable = errno == EINTR;
		if (n == 0)
			r->fd_eof = true;
		if (n > 0) {
			r->up.at = 0;
			r->up.len = (size_t)n;
		}
		*progress |= n >= 0;
	}
	while (r->up.len > 0 && !hga_bio_full(&r->ssh->bio)) {
		ssize_t n = libssh2_channel_write_ex(
		    r->chan->ch, 0, (char *)r->up.data + r->up.at, r->up.len);

		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			break;
		if (n == LIBSSH2_ERROR_CHANNEL_CLOSED ||
		    n == LIBSSH2_ERROR_CHANNEL_EOF_SENT)
			return false;
		if (n < 0) {
			(void)relay_lost(r, err, (int)n); /* in err */
			return true;
		}
		r->up.at += (size_t)n;
		r->up.len -= (size_t)n;
		*progress = true;
	}
	if (r->fd_eof && r->up.len == 0 && !r->eof_sent) {
		int rc = libssh2_channel_send_eof(r->chan->ch);

		if (rc == 0)
			r->eof_sent = *progress = true;
		else if (rc != LIBSSH2_ERROR_EAGAIN)
			(void)relay_lost(r, err, rc); /* in err */
	}
	return true;
}

static bool relay_turn(struct hga_chan *c, struct hga_err *err)
{
	struct hga_relay *r = c->user;
	struct hga_err why;
	bool progress = false, good;

	if (r->fd < 0)
		return false; /* its other side is still being dialled */
	good = move_down(r, &progress, err);
	if (good && err->kind == HGA_OK)
		good = move_up(r, &progress, err);
	if (err->kind != HGA_OK)
		return false;
	if (good && r->shut && !r->eof_sent &&
	    libssh2_channel_wait_closed(r->chan->ch) == 0)
		good = false; /* closed there: nobody takes what comes */
	if (!good || (r->shut && r->eof_sent)) {
		relay_over(r, NULL);
		return true;
	}
	if (relay_arm(r, &why) < 0) {
		relay_over(r, &why);
		return true;
	}
	return progress;
}

static void relay_start(struct hga_chan *c)
{
	struct hga_relay *r = c->user;
	static const unsigned char granted[10] = {5, 0, 0, 1};

	r->readable = r->writable = true;
	if (r->socks)
		(void)send(r->fd, granted, sizeof(granted),
		           MSG_NOSIGNAL); /* a loss shows in the next read */
}

static void relay_fail(struct hga_chan *c, const struct hga_err *err)
{
	struct hga_relay *r = c->user;
	unsigned char refused[10] = {5, 5, 0, 1};

	r->chan = NULL; /* the session's */
	if (r->socks && r->fd >= 0)
		(void)send(r->fd, refused, sizeof(refused),
		           MSG_NOSIGNAL); /* it is ended anyway */
	relay_over(r, err);
}

static void relay_hook(struct hga_relay *r)
{
	r->chan->user = r;
	r->chan->passive = r->f != NULL; /* a jump's is waited for */
	r->chan->on_start = relay_start;
	r->chan->on_turn = relay_turn;
	r->chan->on_fail = relay_fail;
}

static struct hga_relay *relay_new(struct hga_ssh *ssh, int fd,
                                   struct hga_err *err)
{
	struct hga_relay *r = hga_calloc(1, sizeof(*r));

	if (r != NULL) {
		r->up.data = hga_alloc(RELAY_BUF);
		r->down.data = hga_alloc(RELAY_BUF);
	}
	if (r == NULL || r->up.data == NULL || r->down.data == NULL) {
		if (r != NULL) {
			hga_free(r->up.data);
			hga_free(r->down.data);
		}
		hga_free(r);
		if (fd >= 0)
			close(fd);
		(void)hga_fail_mem(err); /* NULL tells */
		return NULL;
	}
	r->ssh = hga_ssh_ref(ssh);
	r->fd = fd;
	r->watch.fd = fd;
	r->watch.fn = on_relay_fd;
	r->watch.data = r;
	return r;
}

static int add_str(struct hga_buf *b, struct hga_str s, struct hga_err *err)
{
	unsigned char n[4] = {(unsigned char)(s.n >> 24),
	                      (unsigned char)(s.n >> 16),
	                      (unsigned char)(s.n >> 8), (unsigned char)s.n};
	int rc = hga_buf_add(b, n, 4, err);

	return rc < 0 ? rc : hga_buf_addstr(b, s, err);
}

static int add_u32(struct hga_buf *b, unsigned v, struct hga_err *err)
{
	unsigned char n[4] = {(unsigned char)(v >> 24),
	                      (unsigned char)(v >> 16), (unsigned char)(v >> 8),
	                      (unsigned char)v};

	return hga_buf_add(b, n, 4, err);
}

const char *hga_direct_message(struct hga_buf *out, const char *host, int port,
                               struct hga_err *err)
{
	int rc = add_str(out, hga_str(host), err);

	if (port == 0) {
		if (rc == 0)
			rc = add_str(out, HGA_STR(""), err);
		if (rc == 0)
			rc = add_u32(out, 0, err);
		return rc < 0 ? NULL : "direct-streamlocal@openssh.com";
	}
	if (rc == 0)
		rc = add_u32(out, (unsigned)port, err);
	if (rc == 0)
		rc = add_str(out, HGA_STR("127.0.0.1"), err);
	if (rc == 0)
		rc = add_u32(out, 0, err);
	return rc < 0 ? NULL : "direct-tcpip";
}

/* Asks the server for the connection. */
static int relay_ask(struct hga_relay *r, const char *host, int port,
                     struct hga_err *err)
{
	struct hga_buf msg;
	const char *type;

	hga_buf_init(&msg, 4096);
	type = hga_direct_message(&msg, host, port, err);
	if (type != NULL) {
		r->chan = hga_chan_new_open(r->ssh, type, hga_buf_str(&msg));
		if (r->chan == NULL)
			(void)hga_fail_mem(err); /* returned below */
		else
			relay_hook(r);
	}
	hga_buf_release(&msg);
	return r->chan != NULL ? 0 : -(int)err->kind;
}

int hga_relay_open(struct hga_ssh *ssh, int fd, const char *host, int port,
                   hga_relay_end *end, void *user, struct hga_relay **out,
                   struct hga_err *err)
{
	struct hga_relay *r;
	int rc = hga_ssh_check(ssh, err);

	*out = NULL;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	r = relay_new(ssh, fd, err);
	if (r == NULL)
		return -HGA_MEMORY;
	r->end = end;
	r->user = user;
	rc = relay_ask(r, host, port, err);
	if (rc < 0) {
		relay_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

/* ---- SOCKS ---- */

int hga_socks_greeting(const uint8_t *p, size_t n, bool *ok)
{
	*ok = false;
	if (n >= 1 && p[0] != 5)
		return -1;
	if (n < 2 || n < (size_t)2 + p[1])
		return 0;
	*ok = memchr(p + 2, 0, p[1]) != NULL;
	return 2 + p[1];
}

static int socks_refuse(struct hga_socks *out, unsigned char code)
{
	out->code = code;
	return -1;
}

int hga_socks_request(const uint8_t *p, size_t n, struct hga_socks *out)
{
	size_t len;

	memset(out, 0, sizeof(*out));
	if (n < 5)
		return n >= 1 && p[0] != 5 ? socks_refuse(out, 1) : 0;
	if (p[0] != 5)
		return socks_refuse(out, 1);
	if (p[1] != 1)
		return socks_refuse(out, 7); /* command not supported */
	switch (p[3]) {
	case 1:
		len = 4;
		break;
	case 3:
		len = (size_t)1 + p[4];
		break;
	case 4:
		len = 16;
		break;
	default:
		return socks_refuse(out, 8); /* address type */
	}
	if (n < 4 + len + 2)
		return 0;
	if (p[3] == 3) {
		/* A name with a NUL would be another one for us. */
		if (p[4] == 0 || memchr(p + 5, 0, p[4]) != NULL)
			return socks_refuse(out, 1);
		memcpy(out->host, p + 5, p[4]);
	} else if (inet_ntop(p[3] == 1 ? AF_INET : AF_INET6, p + 4, out->host,
	                     sizeof(out->host)) == NULL) {
		return socks_refuse(out, 1);
	}
	out->port = p[4 + len] << 8 | p[4 + len + 1];
	out->used = 4 + len + 2;
	return out->port != 0 ? 1 : socks_refuse(out, 1);
}

/* ---- forwards ---- */

enum forward_state {
	FORWARD_ASKING, /* remote: the server is asked to listen */
	FORWARD_OPEN,
	FORWARD_CLOSING, /* remote: it is told to stop */
	FORWARD_OVER
};

struct hga_forward {
	struct hga_ssh *ssh; /* a reference */
	enum hga_forward_kind kind;
	enum forward_state state;
	struct hga_forward_op *op; /* while starting */
	int fd, port;
	char *listen_host, *path, *to_host;
	int to_port;
	struct hga_watch watch;
	struct hga_timer timer; /* tells the operation; later: accepts again */
	struct hga_relay *relays;
	unsigned open;
	uint64_t total;
	LIBSSH2_LISTENER *listener;
	bool owned; /* its owner has not closed it */
	struct hga_forward *next;
};

static void forward_free(struct hga_forward *f)
{
	hga_ssh_unref(f->ssh);
	hga_free(f->listen_host);
	hga_free(f->path);
	hga_free(f->to_host);
	hga_free(f);
}

static void unlink_forward(struct hga_forward *f)
{
	for (struct hga_forward **at = &f->ssh->forwards; *at != NULL;
	     at = &(*at)->next)
		if (*at == f) {
			*at = f->next;
			return;
		}
}

/* Ends everything but what libssh2 holds. */
static void forward_stop(struct hga_forward *f)
{
	struct hga_loop *loop = f->ssh->loop;

	hga_timer_stop(loop, &f->timer);
	if (f->fd >= 0) {
		hga_watch_stop(loop, &f->watch);
		close(f->fd);
		f->fd = -1;
		if (f->path != NULL)
			(void)unlink(f->path); /* gone: the better */
	}
	while (f->relays != NULL) {
		struct hga_relay *r = f->relays;

		f->relays = r->next;
		relay_free(r);
	}
	f->open = 0;
}

static void forward_over(struct hga_forward *f)
{
	f->state = FORWARD_OVER;
	unlink_forward(f);
	if (f->ssh->slot == f)
		f->ssh->slot = NULL;
	if (!f->owned)
		forward_free(f);
}

static void relay_gone(struct hga_relay *r, void *user,
                       const struct hga_err *err)
{
	struct hga_forward *f = user;

	for (struct hga_relay **at = &f->relays; *at != NULL; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			break;
		}
	f->open--;
	if (err != NULL)
		hga_log(HGA_LOG_DEBUG, "ssh", "%s: forward: %s", f->ssh->name,
		        err->msg);
	if (f->fd >= 0 && !f->watch.running &&
	    hga_watch_start(f->ssh->loop, &f->watch, HGA_READ, NULL) < 0)
		hga_log(HGA_LOG_WARN, "ssh", "%s: forward: out of memory",
		        f->ssh->name);
}

static struct hga_relay *forward_relay(struct hga_forward *f, int fd)
{
	struct hga_err err;
	struct hga_relay *r = relay_new(f->ssh, fd, &err);

	if (r == NULL)
		return NULL;
	r->f = f;
	r->end = relay_gone;
	r->user = f;
	r->next = f->relays;
	f->relays = r;
	f->open++;
	f->total++;
	return r;
}

static void socks_answer(struct hga_relay *r, const unsigned char *p, size_t n)
{
	/* Ten bytes into an empty buffer; a loss shows in the next read. */
	(void)send(r->fd, p, n, MSG_NOSIGNAL);
}

/* 1: goes on by itself, 0: waits for bytes, -1: over. */
static int socks_step(struct hga_relay *r)
{
	struct hga_socks req;
	struct hga_err err;
	bool ok;
	int rc;

	if (!r->greeted) {
		unsigned char answer[2] = {5, 0};

		rc = hga_socks_greeting(r->hello, r->hello_len, &ok);
		if (rc <= 0)
			return rc;
		answer[1] = ok ? 0 : 0xff;
		socks_answer(r, answer, 2);
		if (!ok)
			return -1;
		memmove(r->hello, r->hello + rc, r->hello_len - (size_t)rc);
		r->hello_len -= (size_t)rc;
		r->greeted = true;
	}
	rc = hga_socks_request(r->hello, r->hello_len, &req);
	if (rc < 0) {
		unsigned char answer[10] = {5, req.code, 0, 1};

		socks_answer(r, answer, sizeof(answer));
		return -1;
	}
	if (rc == 0)
		return r->hello_len < sizeof(r->hello) ? 0 : -1;
	/* What a hasty client has sent behind it. */
	r->up.len = r->hello_len - req.used;
	memcpy(r->up.data, r->hello + req.used, r->up.len);
	r->socks = true;
	hga_timer_stop(r->ssh->loop, &r->timer);
	return relay_ask(r, req.host, req.port, &err) < 0 ? -1 : 1;
}

static void on_socks(struct hga_watch *w, int events)
{
	struct hga_relay *r = w->data;
	ssize_t n = recv(r->fd, r->hello + r->hello_len,
	                 sizeof(r->hello) - r->hello_len, 0);
	int rc = 0;

	(void)events; /* reading tells */
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		r->hello_len += (size_t)n;
		rc = socks_step(r);
	}
	if (n <= 0 || rc < 0) {
		relay_over(r, NULL);
		return;
	}
	if (rc > 0) {
		hga_watch_stop(r->ssh->loop, w);
		w->fn = on_relay_fd;
	}
}

static void on_socks_late(struct hga_timer *t)
{
	relay_over(t->data, NULL);
}

static int accepted(struct hga_forward *f, int fd, struct hga_err *err)
{
	int one = 1;
	struct hga_relay *r = forward_relay(f, fd);

	if (r == NULL)
		return hga_fail_mem(err);
	/* Not TCP: then without. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (f->kind == HGA_FORWARD_LOCAL)
		return relay_ask(r, f->to_host, f->to_port, err);
	r->watch.fn = on_socks;
	r->timer.fn = on_socks_late;
	r->timer.data = r;
	if (hga_timer_start(f->ssh->loop, &r->timer, SOCKS_MS, err) < 0)
		return -HGA_MEMORY;
	return hga_watch_start(f->ssh->loop, &r->watch, HGA_READ, err);
}

static void on_listen(struct hga_watch *w, int events)
{
	struct hga_forward *f = w->data;
	struct hga_err err;
	int fd;

	(void)events; /* only reading is asked for */
	if (f->open >= RELAYS_MAX) {
		hga_watch_stop(f->ssh->loop, w); /* until one ends */
		return;
	}
	fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (hga_ssh_check(f->ssh, &err) < 0) {
		close(fd);
		return;
	}
	if (accepted(f, fd, &err) < 0) {
		hga_log(HGA_LOG_WARN, "ssh", "%s: forward: %s", f->ssh->name,
		        err.msg);
		if (f->relays != NULL && f->relays->fd == fd)
			relay_over(f->relays, NULL);
	}
}

/* ---- remote forwards ---- */

static void on_dialled(struct hga_op *op)
{
	struct hga_relay *r =
	    (struct hga_relay *)((char *)op - offsetof(struct hga_relay, dial));
	int one = 1;

	r->dialling = false;
	if (op->err.kind != HGA_OK) {
		relay_over(r, &op->err);
		return;
	}
	r->fd = r->watch.fd = r->dial.fd;
	(void)setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one,
	                 sizeof(one)); /* then without */
	r->readable = r->writable = true;
	hga_ssh_kick(r->ssh);
}

static int unix_connect(const char *path, struct hga_err *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(sa.sun_path))
		return hga_fail(err, HGA_USAGE, 0, "Address",
		                "forward: the path is too long");
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int sys = errno;

		close(fd);
		return hga_fail(err, HGA_NET, sys, "Refused", "forward to %s",
		                path);
	}
	if (fd < 0)
		return hga_fail(err, HGA_IO, errno, "Socket", "forward");
	return fd;
}

/* A connection of the server's: joined with one of ours. */
static void adopt(struct hga_forward *f, LIBSSH2_CHANNEL *ch)
{
	struct hga_dial_args da = {
	    .host = f->to_host, .port = f->to_port, .timeout_ms = DIAL_MS};
	struct hga_relay *r =
	    f->open < RELAYS_MAX ? forward_relay(f, -1) : NULL;
	struct hga_chan *c = hga_chan_adopt(f->ssh, ch);
	struct hga_err err;
	int rc;

	if (c == NULL || r == NULL) {
		if (c != NULL)
			hga_chan_drop(c);
		if (r != NULL)
			relay_over(r, NULL);
		return;
	}
	r->chan = c;
	relay_hook(r);
	if (f->to_port == 0) {
		rc = unix_connect(f->to_host, &err);
		if (rc >= 0) {
			r->fd = r->watch.fd = rc;
			r->readable = r->writable = true;
		}
	} else {
		r->dial.base.done = on_dialled;
		rc = hga_dial_start(f->ssh->loop, &r->dial, &da, &err);
		r->dialling = rc == 0;
	}
	if (rc < 0)
		relay_over(r, &err);
}

static void tell(struct hga_forward *f, const struct hga_err *err)
{
	struct hga_forward_op *op = f->op;

	f->op = NULL;
	if (op == NULL)
		return;
	if (err != NULL) {
		op->base.err = *err;
		op->f = NULL;
		f->owned = false;
	}
	hga_op_finish(&op->base);
}

static bool turn_ask(struct hga_forward *f, struct hga_err *err)
{
	struct hga_ssh *ssh = f->ssh;
	struct hga_err why;
	int rc;

	/* The answer must not be taken for a probe's, nor the reverse. */
	if (ssh->slot != f && (ssh->slot != NULL || hga_ssh_probing(ssh)))
		return false;
	ssh->slot = f;
	ssh->no_probe = true;
	f->listener = libssh2_channel_forward_listen_ex(ssh->s, f->listen_host,
	                                                f->port, &f->port, 64);
	if (f->listener != NULL) {
		ssh->no_probe = false;
		ssh->slot = NULL;
		f->state = f->owned ? FORWARD_OPEN : FORWARD_CLOSING;
		tell(f, NULL);
		return true;
	}
	rc = libssh2_session_last_errno(ssh->s);
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	ssh->no_probe = false;
	ssh->slot = NULL;
	if (rc != LIBSSH2_ERROR_REQUEST_DENIED) {
		(void)hga_ssh_fail(ssh, err, "forward", rc); /* in err */
		return true;
	}
	(void)hga_fail(&why, HGA_REMOTE, 0, "RequestDenied",
	               "ssh %s: the server does not listen on %s port %d",
	               ssh->name, f->listen_host, f->port); /* told */
	tell(f, &why);
	forward_over(f);
	return true;
}

static bool turn_forward(struct hga_forward *f, struct hga_err *err)
{
	LIBSSH2_CHANNEL *ch;
	int rc;

	switch (f->state) {
	case FORWARD_ASKING:
		return turn_ask(f, err);
	case FORWARD_OPEN:
		ch = libssh2_channel_forward_accept(f->listener);
		if (ch == NULL)
			return false;
		adopt(f, ch);
		return true;
	case FORWARD_CLOSING:
		rc = libssh2_channel_forward_cancel(f->listener);
		if (rc == LIBSSH2_ERROR_EAGAIN)
			return false;
		f->listener = NULL;
		forward_over(f);
		return true;
	case FORWARD_OVER:
		break;
	}
	return false;
}

bool hga_forward_turn_all(struct hga_ssh *ssh, struct hga_err *err)
{
	bool progress = false;

	for (struct hga_forward *f = ssh->forwards, *next;
	     f != NULL && err->kind == HGA_OK; f = next) {
		next = f->next;
		if (f->kind == HGA_FORWARD_REMOTE)
			progress |= turn_forward(f, err);
	}
	return progress;
}

bool hga_forward_waited(const struct hga_ssh *ssh)
{
	for (const struct hga_forward *f = ssh->forwards; f != NULL;
	     f = f->next)
		if (f->op != NULL)
			return true;
	return false;
}

/* The session has ended (its channels first). */
void hga_forward_end_all(struct hga_ssh *ssh)
{
	while (ssh->forwards != NULL) {
		struct hga_forward *f = ssh->forwards;

		f->listener = NULL; /* freed with the session */
		forward_stop(f);
		tell(f, &ssh->dead);
		forward_over(f);
	}
}

/* ---- interface ---- */

static void on_started(struct hga_timer *t)
{
	tell(t->data, NULL);
}

static void start_cancel(struct hga_op *base)
{
	struct hga_forward_op *op = (struct hga_forward_op *)base;
	struct hga_forward *f = op->f;

	op->f = NULL;
	hga_op_drop(base);
	if (f != NULL) {
		f->op = NULL;
		hga_forward_close(f);
	}
}

static int listen_here(struct hga_forward *f, struct hga_err *err)
{
	const char *host = f->listen_host;

	f->fd = f->port < 0 ? hga_listen_unix(host, 0600, err)
	                    : hga_listen_tcp(host, f->port, &f->port, err);
	if (f->fd < 0)
		return f->fd;
	if (f->port < 0) {
		f->path = hga_strdup(host);
		if (f->path == NULL)
			return hga_fail_mem(err);
	}
	f->watch.fd = f->fd;
	f->watch.fn = on_listen;
	f->watch.data = f;
	f->timer.fn = on_started;
	f->timer.data = f;
	f->state = FORWARD_OPEN;
	if (hga_timer_start(f->ssh->loop, &f->timer, 0, err) < 0)
		return -HGA_MEMORY;
	return hga_watch_start(f->ssh->loop, &f->watch, HGA_READ, err);
}

static int check(const struct hga_forward_args *a, struct hga_err *err)
{
	bool remote = a->kind == HGA_FORWARD_REMOTE;

	if (a->kind != HGA_FORWARD_SOCKS &&
	    (a->to_host == NULL || a->to_host[0] == '\0' || a->to_port < 0 ||
	     a->to_port > 65535))
		return hga_fail(err, HGA_USAGE, 0, "Address",
		                "forward: a host and port, or a path, is "
		                "needed to connect to");
	if (a->listen_port < (remote ? 0 : -1) || a->listen_port > 65535)
		return hga_fail(err, HGA_USAGE, 0, "Address",
		                "forward: %d is no port to listen on",
		                a->listen_port);
#ifndef HGA_SSH2_EDIT_PROBE
	if (remote)
		return hga_fail(err, HGA_USAGE, 0, "Unsupported",
		                "forward: this build cannot forward ports of "
		                "the server");
#endif
	return 0;
}

int hga_forward_start(struct hga_ssh *ssh, struct hga_forward_op *op,
                      const struct hga_forward_args *a, struct hga_err *err)
{
	struct hga_forward *f;
	int rc = check(a, err);

	if (rc == 0)
		rc = hga_ssh_check(ssh, err);
	if (rc < 0)
		return rc;
	f = hga_calloc(1, sizeof(*f));
	if (f == NULL)
		return hga_fail_mem(err);
	f->ssh = hga_ssh_ref(ssh);
	f->fd = -1;
	f->kind = a->kind;
	f->port = a->listen_port;
	f->to_port = a->to_port;
	f->listen_host =
	    hga_strdup(a->listen_host ? a->listen_host : "127.0.0.1");
	f->to_host = hga_strdup(a->to_host ? a->to_host : "");
	if (f->listen_host == NULL || f->to_host == NULL)
		rc = hga_fail_mem(err);
	else if (a->kind != HGA_FORWARD_REMOTE)
		rc = listen_here(f, err);
	if (rc < 0) {
		forward_stop(f);
		forward_free(f);
		return rc;
	}
	f->owned = true;
	f->next = ssh->forwards;
	ssh->forwards = f;
	f->op = op;
	op->f = f;
	hga_op_begin(&op->base, start_cancel);
	hga_ssh_kick(ssh);
	return 0;
}

int hga_forward_port(const struct hga_forward *f)
{
	return f->port;
}

unsigned hga_forward_open(const struct hga_forward *f, uint64_t *total)
{
	*total = f->total;
	return f->open;
}

void hga_forward_close(struct hga_forward *f)
{
	if (f == NULL)
		return;
	f->owned = false;
	forward_stop(f);
	if (f->state == FORWARD_OVER) {
		forward_free(f);
		return;
	}
	if (f->kind != HGA_FORWARD_REMOTE) {
		forward_over(f);
		return;
	}
	/* The pump finishes what libssh2 has begun. */
	if (f->state == FORWARD_OPEN)
		f->state = FORWARD_CLOSING;
	hga_ssh_kick(f->ssh);
}
