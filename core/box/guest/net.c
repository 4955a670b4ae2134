/*
 * Applies the network of an instance from inside, without child processes.
 * Local cloud specification, section 2.5.
 */
#include "box/guest/net.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/time.h>

/* Answers of the kernel to all messages: 0, or -1 with the first errno. */
static int read_acks(int sock, unsigned left)
{
	static uint8_t buf[16384]; /* too large for the stack */
	int sys = 0;

	while (left > 0) {
		ssize_t n = recv(sock, buf, sizeof(buf), 0);
		size_t len = n > 0 ? (size_t)n : 0, at = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		while (left > 0 && at + sizeof(struct nlmsghdr) <= len) {
			struct nlmsghdr h;
			int code = -EBADMSG;

			memcpy(&h, buf + at, sizeof(h));
			if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > len - at)
				break;
			if (h.nlmsg_type == NLMSG_ERROR &&
			    h.nlmsg_len >= sizeof(h) + sizeof(code))
				memcpy(&code, buf + at + sizeof(h),
				       sizeof(code));
			if (code != 0) { /* the rest may stay unanswered */
				sys = -code;
				left = 1;
			}
			left--;
			at += (h.nlmsg_len + 3) & ~3u;
		}
	}
	errno = sys;
	return sys == 0 ? 0 : -1;
}

static int talk(int protocol, const struct netlink *b)
{
	struct sockaddr_nl to = {.nl_family = AF_NETLINK};
	struct timeval limit = {.tv_sec = 5};
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), r;
	int sys;

	if (sock < 0)
		return -1;
	r = setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (r == 0 &&
	    sendto(sock, b->p, b->n, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		r = -1;
	if (r == 0)
		r = read_acks(sock, b->acks);
	sys = errno;
	(void)close(sock); /* everything was answered */
	errno = sys;
	return r;
}

/* A kernel without the subsystem, or without one of its expressions. */
static bool not_there(int sys)
{
	return sys == EOPNOTSUPP || sys == EPROTONOSUPPORT ||
	       sys == EAFNOSUPPORT || sys == ENOENT;
}

static int inner_socket(int type, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
	                         .sin_port = htons(port)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 ||
	                (type == SOCK_STREAM && listen(fd, 1024) < 0))) {
		int sys = errno;

		(void)close(fd); /* never used */
		errno = sys;
		fd = -1;
	}
	return fd;
}

int guest_net_lonely(uint32_t private_ip, int *imds, struct fault *f)
{
	static uint8_t room[NETLINK_ROOM];
	struct netlink b = {.p = room, .cap = sizeof(room)};

	*imds = -1;
	if (private_ip == 0)
		return guest_net_none(private_ip, f);
	netlink_lonely(&b);
	if (b.full)
		return fault_set(f, "nft", ENOBUFS, "table");
	if (talk(NETLINK_NETFILTER, &b) < 0) {
		if (!not_there(errno))
			return fault_set(f, "nft", errno, "metadata rule");
		say("hgauto-box: nf_tables: %s", strerror(errno));
		return guest_net_none(private_ip, f);
	}
	b = (struct netlink){.p = room, .cap = sizeof(room)};
	netlink_lonely_routes(&b, private_ip);
	if (b.full || talk(NETLINK_ROUTE, &b) < 0)
		return fault_set(f, "net", errno, "addresses and routes");
	*imds = inner_socket(SOCK_STREAM, NET_PORT_IMDS);
	return *imds < 0 ? fault_set(f, "net", errno, "sockets") : 0;
}

int guest_net_redirect(uint32_t private_ip, struct net_socks *out,
                       struct fault *f)
{
	static uint8_t room[NETLINK_ROOM];
	struct netlink b = {.p = room, .cap = sizeof(room)};

	*out = (struct net_socks){-1, -1, -1, -1};
	netlink_redirect(&b);
	if (b.full)
		return fault_set(f, "nft", ENOBUFS, "table");
	if (talk(NETLINK_NETFILTER, &b) < 0) {
		if (!not_there(errno))
			return fault_set(f, "nft", errno, "redirect rules");
		say("hgauto-box: nf_tables: %s", strerror(errno));
		return guest_net_none(private_ip, f);
	}
	b = (struct netlink){.p = room, .cap = sizeof(room)};
	netlink_routes(&b, private_ip);
	if (b.full || talk(NETLINK_ROUTE, &b) < 0)
		return fault_set(f, "net", errno, "addresses and routes");
	out->tcp = inner_socket(SOCK_STREAM, NET_PORT_TCP);
	out->imds = inner_socket(SOCK_STREAM, NET_PORT_IMDS);
	out->dns_udp = inner_socket(SOCK_DGRAM, NET_PORT_DNS);
	out->dns_tcp = inner_socket(SOCK_STREAM, NET_PORT_DNS);
	if (out->tcp < 0 || out->imds < 0 || out->dns_udp < 0 ||
	    out->dns_tcp < 0)
		return fault_set(f, "net", errno, "sockets");
	return 0;
}
