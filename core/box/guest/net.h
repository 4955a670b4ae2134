/*
 * Network of an instance: everything it sends to elsewhere is delivered to
 * itself (AnyIP), a nat rule leads TCP to a port of lo, and the keeper, which
 * owns the sockets that listen there, connects from the host's namespace.
 *
 * netlink.c makes the kernel's messages, net.c applies them and makes the
 * sockets in the instance, proxy.c carries the bytes in the keeper.
 */
#ifndef HGA_BOX_GUEST_NET_H
#define HGA_BOX_GUEST_NET_H

#include "box/guest/guest.h"

/* Addresses, host order. */
#define NET_VPC 0xac1f0000u  /* 172.31.0.0/16 */
#define NET_HOST 0xac1f0001u /* 172.31.0.1: ports of the host's loopback */
#define NET_IMDS 0xa9fea9feu /* 169.254.169.254 */
#define NET_DNS 0xa9fea9fdu  /* 169.254.169.253 */

/* Ports of 127.0.0.1 inside that the rules lead to.  Low ones that no program
 * uses: a listener on 80 or 53 would keep the guest's servers from theirs. */
enum {
	NET_PORT_TCP = 1,
	NET_PORT_IMDS = 2,
	NET_PORT_DNS = 3
};

/* ---- netlink.c ---- */

struct netlink { /* messages under construction in the caller's room */
	uint8_t *p;
	size_t n, cap;
	uint32_t seq;  /* of the last message */
	unsigned acks; /* answers to wait for */
	bool full;     /* it did not fit */
};

enum {
	NETLINK_ROOM = 4096
};

/* lo up, the address, and the routes. */
void netlink_routes(struct netlink *b, uint32_t private_ip);
/* Table hgauto with the redirect rules, as one transaction. */
void netlink_redirect(struct netlink *b);
/* The same for a machine without a network: lo, its address, and nothing but
 * the metadata service beyond. */
void netlink_lonely_routes(struct netlink *b, uint32_t private_ip);
void netlink_lonely(struct netlink *b);

/* ---- net.c ---- */

/* Sockets made inside; -1: there is no network. */
struct net_socks {
	int tcp, imds, dns_udp, dns_tcp;
};

/* In the instance.  A kernel without nf_tables gives lo and the private
 * address only, and *out all -1. */
int guest_net_redirect(uint32_t private_ip, struct net_socks *out,
                       struct fault *f);

/* In the instance, without a network: lo, the private address, and *imds, the
 * socket of the metadata service (-1 without an address or nf_tables). */
int guest_net_lonely(uint32_t private_ip, int *imds, struct fault *f);

/* ---- proxy.c ---- */

/* May the guest's connections go there (host order)? */
bool proxy_may(uint32_t ip);
/* Is this datagram an answer to the query? */
bool dns_answers(const uint8_t *query, size_t n_query, const uint8_t *answer,
                 size_t n_answer);

/* Takes the sockets (imds stays the caller's); returns the descriptor to poll
 * for reading, -1 with errno. */
int proxy_open(const struct spec *s, const struct net_socks *socks);
/* Milliseconds until proxy_turn must be called, -1: no need. */
int proxy_wait(void);
/* What is ready or overdue; never blocks. */
void proxy_turn(void);

#endif
