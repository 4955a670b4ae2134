/*
 * The keeper's data plane: connections of the guest go on from the host's
 * namespace, half-close and reset are kept; name queries go to the host's
 * resolver.  One epoll descriptor, which the keeper polls among its own.
 * Local cloud specification, section 2.5.
 */
#include "box/guest/net.h"

#include <arpa/inet.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

enum {
	CONNS = 512,
	QUERIES = 64,
	BUF = 64 << 10,
	CONNECT_MS = 30000,
	DNS_MS = 5000,
	ROUNDS = 8, /* buffers per direction and event: others wait too */
	EVENTS = 64,
	DNS_MAX = 65535,
	DNS_HEAD = 12
};

enum {
	GUEST = 0,
	REMOTE = 1
};

enum kind { /* what an epoll entry belongs to */
	K_TCP = 1,
	K_DNS_TCP,
	K_DNS_UDP,
	K_CONN, /* with side */
	K_QUERY
};

struct flow {
	uint8_t *buf;
	size_t at, n;   /* what is left to write */
	bool eof, shut; /* the reader's end came; it was passed on */
};

struct conn {
	int fd[2]; /* -1: a free slot */
	uint32_t gen;
	uint32_t armed[2]; /* epoll events; 0: not registered */
	bool connecting, dns;
	int64_t until;       /* 0: no limit */
	struct flow flow[2]; /* flow[i] is read from fd[i] */
};

struct query {
	int fd; /* -1: free */
	uint32_t gen;
	int64_t until;
	struct sockaddr_in from;
	uint8_t head[DNS_HEAD];
};

static struct proxy {
	int ep;
	struct net_socks in;
	struct conn conn[CONNS];
	size_t n_conn;
	struct query query[QUERIES];
	uint32_t gen;
	bool full; /* the listeners rest */
	struct sockaddr_in dns;
	uint16_t host_port[SPEC_PORTS];
	size_t n_host_ports;
	uint8_t packet[DNS_MAX];
} proxy;

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- pure decisions ---- */

bool proxy_may(uint32_t ip)
{
	return ip >> 24 != 0 && ip >> 24 != 127 && ip >> 16 != 0xa9fe &&
	       ip >> 29 != 7;
}

bool dns_answers(const uint8_t *query, size_t n_query, const uint8_t *answer,
                 size_t n_answer)
{
	return n_query >= DNS_HEAD && n_answer >= DNS_HEAD &&
	       query[0] == answer[0] && query[1] == answer[1] &&
	       (answer[2] & 0x80) != 0;
}

/* ---- epoll ---- */

static uint64_t tag_of(enum kind kind, unsigned side, size_t slot, uint32_t gen)
{
	return (uint64_t)gen << 32 | (uint64_t)kind << 24 |
	       (uint64_t)side << 16 | (uint64_t)slot;
}

static int watch(int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event e = {.events = events, .data = {.u64 = tag}};

	return epoll_ctl(proxy.ep, EPOLL_CTL_ADD, fd, &e);
}

/* Events of one side of a connection.  Nothing wanted: not registered, for a
 * hang-up would be reported again and again. */
static int arm(struct conn *c, unsigned side, uint32_t events)
{
	struct epoll_event e = {.events = events};
	int op = c->armed[side] == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (events == c->armed[side])
		return 0;
	if (events == 0)
		op = EPOLL_CTL_DEL;
	e.data.u64 = tag_of(K_CONN, side, (size_t)(c - proxy.conn), c->gen);
	c->armed[side] = events;
	return epoll_ctl(proxy.ep, op, c->fd[side], &e);
}

/* At the limit of connections new ones wait in the kernel's queue. */
static void rest_listeners(bool rest)
{
	struct epoll_event tcp = {.events = rest ? 0 : EPOLLIN,
	                          .data = {.u64 = tag_of(K_TCP, 0, 0, 0)}};
	struct epoll_event dns = {.events = rest ? 0 : EPOLLIN,
	                          .data = {.u64 = tag_of(K_DNS_TCP, 0, 0, 0)}};

	proxy.full = rest;
	(void)epoll_ctl(proxy.ep, EPOLL_CTL_MOD, proxy.in.tcp, &tcp);
	if (proxy.in.dns_tcp >= 0)
		(void)epoll_ctl(proxy.ep, EPOLL_CTL_MOD, proxy.in.dns_tcp,
		                &dns);
}

/* ---- connections ---- */

static void reset(int fd)
{
	struct linger now = {.l_onoff = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(fd); /* the peer learns it */
}

static void drop(struct conn *c, bool orderly)
{
	for (unsigned i = 0; i < 2; i++) {
		if (c->fd[i] >= 0 && orderly)
			(void)close(c->fd[i]); /* all was passed on */
		else if (c->fd[i] >= 0)
			reset(c->fd[i]);
		c->fd[i] = -1;
		c->armed[i] = 0;
	}
	(void)munmap(c->flow[0].buf, 2 * (size_t)BUF); /* cannot fail */
	memset(c->flow, 0, sizeof(c->flow));
	proxy.n_conn--;
	if (proxy.full)
		rest_listeners(false);
}

enum pump {
	IDLE, /* nothing can be done now */
	BROKEN
};

/* Moves bytes of one direction. */
static enum pump pump(struct conn *c, unsigned from)
{
	struct flow *f = &c->flow[from];
	int in = c->fd[from], out = c->fd[1 - from];

	for (int i = 0; i < 2 * ROUNDS; i++) {
		ssize_t n;

		if (f->n > 0) {
			n = send(out, f->buf + f->at, f->n, MSG_NOSIGNAL);
			if (n < 0 && errno != EAGAIN && errno != EINTR)
				return BROKEN;
			if (n <= 0)
				break;
			f->at += (size_t)n;
			f->n -= (size_t)n;
			continue;
		}
		if (f->eof)
			break;
		n = recv(in, f->buf, BUF, 0);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return BROKEN;
		if (n < 0)
			break;
		f->at = 0;
		f->n = (size_t)n;
		f->eof = n == 0;
	}
	if (f->eof && f->n == 0 && !f->shut) {
		f->shut = true;
		(void)shutdown(out, SHUT_WR); /* a gone peer: seen by recv */
	}
	return IDLE;
}

static uint32_t wanted(const struct conn *c, unsigned side)
{
	uint32_t events = 0;

	if (!c->flow[side].eof && c->flow[side].n == 0)
		events |= EPOLLIN;
	if (c->flow[1 - side].n > 0)
		events |= EPOLLOUT;
	return events;
}

static void carry(struct conn *c)
{
	if (c->dns)
		c->until = now_ms() + DNS_MS;
	if (pump(c, GUEST) == BROKEN || pump(c, REMOTE) == BROKEN) {
		drop(c, false);
		return;
	}
	if (c->flow[GUEST].shut && c->flow[REMOTE].shut) {
		drop(c, true);
		return;
	}
	if (arm(c, GUEST, wanted(c, GUEST)) < 0 ||
	    arm(c, REMOTE, wanted(c, REMOTE)) < 0)
		drop(c, false);
}

/* An address of this host reaches the host itself: not the guest's business. */
static bool is_self(int fd)
{
	struct sockaddr_in a = {0}, b = {0};
	socklen_t na = sizeof(a), nb = sizeof(b);

	return getsockname(fd, (struct sockaddr *)&a, &na) < 0 ||
	       getpeername(fd, (struct sockaddr *)&b, &nb) < 0 ||
	       a.sin_addr.s_addr == b.sin_addr.s_addr;
}

static void on_connected(struct conn *c)
{
	int sys = 0;
	socklen_t n = sizeof(sys);
	struct sockaddr_in to = {0};
	socklen_t nt = sizeof(to);

	if (getsockopt(c->fd[REMOTE], SOL_SOCKET, SO_ERROR, &sys, &n) < 0 ||
	    sys != 0 ||
	    getpeername(c->fd[REMOTE], (struct sockaddr *)&to, &nt) < 0 ||
	    (!c->dns && ntohl(to.sin_addr.s_addr) != INADDR_LOOPBACK &&
	     is_self(c->fd[REMOTE]))) {
		drop(c, false);
		return;
	}
	c->connecting = false;
	c->until = 0;
	carry(c);
}

static struct conn *free_conn(void)
{
	for (size_t i = 0; i < CONNS; i++)
		if (proxy.conn[i].fd[GUEST] < 0)
			return &proxy.conn[i];
	return NULL;
}

static int dial(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 &&
	    errno != EINPROGRESS) {
		(void)close(fd); /* never connected */
		return -1;
	}
	return fd;
}

/* Takes the guest's socket. */
static void relay(int guest, const struct sockaddr_in *to, bool dns)
{
	struct conn *c = free_conn();
	uint8_t *room;
	int one = 1;
	int remote = c != NULL ? dial(to) : -1;

	if (remote < 0) {
		reset(guest);
		return;
	}
	room = mmap(NULL, 2 * (size_t)BUF, PROT_READ | PROT_WRITE,
	            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED) {
		reset(guest);
		reset(remote);
		return;
	}
	(void)setsockopt(guest, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	*c = (struct conn){.fd = {guest, remote},
	                   .gen = ++proxy.gen,
	                   .connecting = true,
	                   .dns = dns,
	                   .until = now_ms() + (dns ? DNS_MS : CONNECT_MS)};
	c->flow[GUEST].buf = room;
	c->flow[REMOTE].buf = room + BUF;
	proxy.n_conn++;
	if (arm(c, REMOTE, EPOLLOUT) < 0) {
		drop(c, false);
		return;
	}
	if (proxy.n_conn == CONNS)
		rest_listeners(true);
}

static bool is_host_port(uint16_t port)
{
	for (size_t i = 0; i < proxy.n_host_ports; i++)
		if (proxy.host_port[i] == port)
			return true;
	return false;
}

/* Where a connection wanted to go, or false: nowhere it may. */
static bool target(int fd, struct sockaddr_in *to)
{
	socklen_t n = sizeof(*to);
	uint32_t ip;

	if (getsockopt(fd, SOL_IP, SO_ORIGINAL_DST, to, &n) < 0 ||
	    to->sin_family != AF_INET)
		return false;
	ip = ntohl(to->sin_addr.s_addr);
	if (ip != NET_HOST)
		return proxy_may(ip);
	to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return is_host_port(ntohs(to->sin_port));
}

static void on_listener(int listener, bool dns)
{
	while (proxy.n_conn < CONNS) {
		struct sockaddr_in to = proxy.dns;
		int fd =
		    accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		if (dns || target(fd, &to))
			relay(fd, &to, dns);
		else
			reset(fd);
	}
}

/* ---- name queries ---- */

static void end_query(struct query *q)
{
	(void)close(q->fd); /* a datagram socket */
	q->fd = -1;
}

/* A free slot, or that of the oldest query. */
static struct query *query_slot(void)
{
	struct query *old = &proxy.query[0];

	for (size_t i = 0; i < QUERIES; i++) {
		if (proxy.query[i].fd < 0)
			return &proxy.query[i];
		if (proxy.query[i].until < old->until)
			old = &proxy.query[i];
	}
	end_query(old);
	return old;
}

/* A socket of its own per query: its port is hard to guess. */
static void ask(const struct sockaddr_in *from, size_t n)
{
	struct query *q;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return; /* the guest asks again */
	if (connect(fd, (struct sockaddr *)&proxy.dns, sizeof(proxy.dns)) < 0 ||
	    send(fd, proxy.packet, n, 0) < 0) {
		(void)close(fd); /* the guest asks again */
		return;
	}
	q = query_slot();
	*q = (struct query){.fd = fd,
	                    .gen = ++proxy.gen,
	                    .until = now_ms() + DNS_MS,
	                    .from = *from};
	memcpy(q->head, proxy.packet, DNS_HEAD);
	if (watch(fd, EPOLLIN,
	          tag_of(K_QUERY, 0, (size_t)(q - proxy.query), q->gen)) < 0)
		end_query(q);
}

static void on_dns(void)
{
	for (int i = 0; i < QUERIES; i++) {
		struct sockaddr_in from = {0};
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(proxy.in.dns_udp, proxy.packet, DNS_MAX, 0,
		                     (struct sockaddr *)&from, &len);

		if (n < 0)
			return;
		if (n >= DNS_HEAD)
			ask(&from, (size_t)n);
	}
}

static void on_answer(struct query *q)
{
	ssize_t n = recv(q->fd, proxy.packet, DNS_MAX, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n >= 0 && !dns_answers(q->head, DNS_HEAD, proxy.packet, (size_t)n))
		return; /* somebody else's; wait on */
	if (n >= 0)     /* a guest that left asks no more */
		(void)sendto(proxy.in.dns_udp, proxy.packet, (size_t)n, 0,
		             (struct sockaddr *)&q->from, sizeof(q->from));
	end_query(q);
}

/* ---- turns ---- */

static void on_event(const struct epoll_event *e)
{
	enum kind kind = (enum kind)(e->data.u64 >> 24 & 255);
	size_t slot = e->data.u64 & 0xffff;
	uint32_t gen = (uint32_t)(e->data.u64 >> 32);

	switch (kind) {
	case K_TCP:
		on_listener(proxy.in.tcp, false);
		break;
	case K_DNS_TCP:
		on_listener(proxy.in.dns_tcp, true);
		break;
	case K_DNS_UDP:
		on_dns();
		break;
	case K_CONN: /* it may have ended since the event */
		if (proxy.conn[slot].fd[GUEST] < 0 ||
		    proxy.conn[slot].gen != gen)
			break;
		if (proxy.conn[slot].connecting)
			on_connected(&proxy.conn[slot]);
		else
			carry(&proxy.conn[slot]);
		break;
	case K_QUERY:
		if (proxy.query[slot].fd >= 0 && proxy.query[slot].gen == gen)
			on_answer(&proxy.query[slot]);
		break;
	}
}

/* Ends what is overdue; the next deadline or 0. */
static int64_t sweep(int64_t now)
{
	int64_t next = INT64_MAX;

	for (size_t i = 0; proxy.n_conn > 0 && i < CONNS; i++) {
		struct conn *c = &proxy.conn[i];

		if (c->fd[GUEST] < 0 || c->until == 0)
			continue;
		if (c->until <= now)
			drop(c, false);
		else if (c->until < next)
			next = c->until;
	}
	for (size_t i = 0; i < QUERIES; i++) {
		struct query *q = &proxy.query[i];

		if (q->fd < 0)
			continue;
		if (q->until <= now)
			end_query(q);
		else if (q->until < next)
			next = q->until;
	}
	return next == INT64_MAX ? 0 : next;
}

int proxy_wait(void)
{
	int64_t now = now_ms(), next = sweep(now);

	return next == 0 ? -1 : (int)(next - now); /* at most 30 s */
}

void proxy_turn(void)
{
	struct epoll_event e[EVENTS];
	int n = epoll_wait(proxy.ep, e, EVENTS, 0);

	for (int i = 0; i < n; i++)
		on_event(&e[i]);
}

/* Two descriptors per connection are more than the usual limit. */
static void raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r); /* then fewer at once */
	}
}

static void close_dns(void)
{
	/* nobody listens: the guest's resolver learns it at once */
	(void)close(proxy.in.dns_udp);
	(void)close(proxy.in.dns_tcp);
	proxy.in.dns_udp = proxy.in.dns_tcp = -1;
}

int proxy_open(const struct spec *s, const struct net_socks *socks)
{
	proxy.in = *socks;
	for (size_t i = 0; i < CONNS; i++)
		proxy.conn[i].fd[0] = proxy.conn[i].fd[1] = -1;
	for (size_t i = 0; i < QUERIES; i++)
		proxy.query[i].fd = -1;
	proxy.n_host_ports = s->n_host_ports;
	memcpy(proxy.host_port, s->host_port, sizeof(proxy.host_port));
	proxy.dns = (struct sockaddr_in){.sin_family = AF_INET,
	                                 .sin_port = htons(s->dns_port)};
	proxy.dns.sin_addr.s_addr = htonl(s->dns);
	raise_limit();
	if (s->dns == 0)
		close_dns();
	proxy.ep = epoll_create1(EPOLL_CLOEXEC);
	if (proxy.ep < 0 ||
	    watch(proxy.in.tcp, EPOLLIN, tag_of(K_TCP, 0, 0, 0)) < 0 ||
	    (s->dns != 0 && (watch(proxy.in.dns_udp, EPOLLIN,
	                           tag_of(K_DNS_UDP, 0, 0, 0)) < 0 ||
	                     watch(proxy.in.dns_tcp, EPOLLIN,
	                           tag_of(K_DNS_TCP, 0, 0, 0)) < 0)))
		return -1;
	return proxy.ep;
}
