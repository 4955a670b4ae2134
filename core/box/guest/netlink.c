/*
 * Bytes for the kernel: the route messages (rtnetlink(7)) and the nf_tables
 * transaction (linux/netfilter/nf_tables.h) of an instance's network.  Pure
 * functions; net.c sends what they make.  Local cloud specification, 2.5.
 */
#include "box/guest/net.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

enum {
	LO = 1, /* index of lo in every new namespace */
	PRIORITY = -100,
	DADDR = 16, /* of the IPv4 header */
	DPORT = 2   /* of the TCP or UDP header */
};

/* ---- messages and attributes ---- */

static void put(struct netlink *b, const void *p, size_t n)
{
	size_t room = (n + 3) & ~(size_t)3;

	if (b->full || room > b->cap - b->n) {
		b->full = true;
		return;
	}
	memset(b->p + b->n, 0, room);
	memcpy(b->p + b->n, p, n);
	b->n += room;
}

/* Returns where the message begins, for finish. */
static size_t begin(struct netlink *b, unsigned type, unsigned flags)
{
	struct nlmsghdr h = {.nlmsg_type = (uint16_t)type,
	                     .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)};
	size_t at = b->n;

	h.nlmsg_seq = ++b->seq;
	b->acks += (flags & NLM_F_ACK) != 0;
	put(b, &h, sizeof(h));
	return at;
}

static void finish(struct netlink *b, size_t at)
{
	uint32_t len = (uint32_t)(b->n - at);

	if (!b->full)
		memcpy(b->p + at, &len, sizeof(len));
}

static void attr(struct netlink *b, unsigned type, const void *p, size_t n)
{
	struct nlattr a = {.nla_len = (uint16_t)(sizeof(a) + n),
	                   .nla_type = (uint16_t)type};

	put(b, &a, sizeof(a));
	put(b, p, n);
}

static void attr_text(struct netlink *b, unsigned type, const char *s)
{
	attr(b, type, s, strlen(s) + 1);
}

static void attr_be32(struct netlink *b, unsigned type, uint32_t v)
{
	uint32_t be = htonl(v);

	attr(b, type, &be, sizeof(be));
}

static size_t nest(struct netlink *b, unsigned type)
{
	size_t at = b->n;

	attr(b, type | NLA_F_NESTED, "", 0);
	return at;
}

static void unnest(struct netlink *b, size_t at)
{
	uint16_t len = (uint16_t)(b->n - at);

	if (!b->full)
		memcpy(b->p + at, &len, sizeof(len));
}

/* ---- interface, address, routes ---- */

static void link_up(struct netlink *b)
{
	struct ifinfomsg i = {
	    .ifi_index = LO, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	size_t m = begin(b, RTM_NEWLINK, NLM_F_ACK);

	put(b, &i, sizeof(i));
	finish(b, m);
}

static void add_address(struct netlink *b, uint32_t ip)
{
	struct ifaddrmsg a = {.ifa_family = AF_INET,
	                      .ifa_prefixlen = 32,
	                      .ifa_scope = RT_SCOPE_HOST,
	                      .ifa_index = LO};
	size_t m = begin(b, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);

	put(b, &a, sizeof(a));
	attr_be32(b, IFA_LOCAL, ip);
	attr_be32(b, IFA_ADDRESS, ip);
	finish(b, m);
}

/* Local delivery of a network, or with source 0: nothing is there. */
static void add_route(struct netlink *b, uint32_t net, unsigned prefix,
                      uint32_t source)
{
	struct rtmsg r = {.rtm_family = AF_INET,
	                  .rtm_dst_len = (unsigned char)prefix,
	                  .rtm_table = RT_TABLE_LOCAL,
	                  .rtm_protocol = RTPROT_STATIC,
	                  .rtm_scope = RT_SCOPE_UNIVERSE,
	                  .rtm_type = RTN_UNREACHABLE};
	uint32_t lo = LO;
	size_t m =
	    begin(b, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);

	if (source != 0) {
		r.rtm_scope = RT_SCOPE_HOST;
		r.rtm_type = RTN_LOCAL;
	}
	put(b, &r, sizeof(r));
	if (prefix > 0)
		attr_be32(b, RTA_DST, net);
	if (source != 0) {
		attr(b, RTA_OIF, &lo, sizeof(lo));
		attr_be32(b, RTA_PREFSRC, source);
	}
	finish(b, m);
}

void netlink_routes(struct netlink *b, uint32_t private_ip)
{
	link_up(b);
	add_address(b, private_ip);
	add_route(b, 0, 0, private_ip);
	/* without these a neighbour's address would be this machine itself */
	add_route(b, NET_VPC, 16, 0);
	add_route(b, NET_HOST, 32, private_ip);
}

void netlink_lonely_routes(struct netlink *b, uint32_t private_ip)
{
	link_up(b);
	add_address(b, private_ip);
	add_route(b, NET_IMDS, 32, private_ip);
}

/* ---- the table ---- */

static size_t begin_nft(struct netlink *b, unsigned type, unsigned flags)
{
	struct nfgenmsg g = {.nfgen_family = NFPROTO_IPV4};
	size_t m = begin(b, NFNL_SUBSYS_NFTABLES << 8 | type,
	                 NLM_F_ACK | NLM_F_CREATE | flags);

	put(b, &g, sizeof(g));
	return m;
}

static void batch(struct netlink *b, unsigned type)
{
	struct nfgenmsg g = {.nfgen_family = AF_UNSPEC,
	                     .res_id = htons(NFNL_SUBSYS_NFTABLES)};
	size_t m = begin(b, type, 0);

	put(b, &g, sizeof(g));
	finish(b, m);
}

static void add_table(struct netlink *b)
{
	size_t m = begin_nft(b, NFT_MSG_NEWTABLE, 0);

	attr_text(b, NFTA_TABLE_NAME, "hgauto");
	finish(b, m);
}

static void add_chain(struct netlink *b)
{
	size_t m = begin_nft(b, NFT_MSG_NEWCHAIN, 0), hook;

	attr_text(b, NFTA_CHAIN_TABLE, "hgauto");
	attr_text(b, NFTA_CHAIN_NAME, "out");
	hook = nest(b, NFTA_CHAIN_HOOK);
	attr_be32(b, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT);
	attr_be32(b, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
	unnest(b, hook);
	attr_text(b, NFTA_CHAIN_TYPE, "nat");
	finish(b, m);
}

struct expr { /* where its two nests begin */
	size_t elem, data;
};

static struct expr begin_expr(struct netlink *b, const char *name)
{
	struct expr e = {.elem = nest(b, NFTA_LIST_ELEM)};

	attr_text(b, NFTA_EXPR_NAME, name);
	e.data = nest(b, NFTA_EXPR_DATA);
	return e;
}

static void end_expr(struct netlink *b, struct expr e)
{
	unnest(b, e.data);
	unnest(b, e.elem);
}

static void load(struct netlink *b, unsigned base, unsigned offset, unsigned n)
{
	struct expr e = begin_expr(b, "payload");

	attr_be32(b, NFTA_PAYLOAD_DREG, NFT_REG_1);
	attr_be32(b, NFTA_PAYLOAD_BASE, base);
	attr_be32(b, NFTA_PAYLOAD_OFFSET, offset);
	attr_be32(b, NFTA_PAYLOAD_LEN, n);
	end_expr(b, e);
}

static void equals(struct netlink *b, const void *p, size_t n)
{
	struct expr e = begin_expr(b, "cmp");
	size_t data;

	attr_be32(b, NFTA_CMP_SREG, NFT_REG_1);
	attr_be32(b, NFTA_CMP_OP, NFT_CMP_EQ);
	data = nest(b, NFTA_CMP_DATA);
	attr(b, NFTA_DATA_VALUE, p, n);
	unnest(b, data);
	end_expr(b, e);
}

static void go_back(struct netlink *b)
{
	struct expr e = begin_expr(b, "immediate");
	size_t data, verdict;

	attr_be32(b, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	data = nest(b, NFTA_IMMEDIATE_DATA);
	verdict = nest(b, NFTA_DATA_VERDICT);
	attr_be32(b, NFTA_VERDICT_CODE, (uint32_t)NFT_RETURN);
	unnest(b, verdict);
	unnest(b, data);
	end_expr(b, e);
}

static void redirect(struct netlink *b, uint16_t port)
{
	uint16_t be = htons(port);
	struct expr e = begin_expr(b, "immediate");
	size_t data;

	attr_be32(b, NFTA_IMMEDIATE_DREG, NFT_REG_1);
	data = nest(b, NFTA_IMMEDIATE_DATA);
	attr(b, NFTA_DATA_VALUE, &be, sizeof(be));
	unnest(b, data);
	end_expr(b, e);
	e = begin_expr(b, "redir");
	attr_be32(b, NFTA_REDIR_REG_PROTO_MIN, NFT_REG_1);
	end_expr(b, e);
}

static void protocol_is(struct netlink *b, uint8_t proto)
{
	struct expr e = begin_expr(b, "meta");

	attr_be32(b, NFTA_META_DREG, NFT_REG_1);
	attr_be32(b, NFTA_META_KEY, NFT_META_L4PROTO);
	end_expr(b, e);
	equals(b, &proto, 1);
}

struct match {
	uint32_t net; /* the first bytes of the destination; */
	unsigned bytes;
	uint8_t proto; /* 0: any */
	uint16_t port; /* 0: any */
	uint16_t to;   /* port of the redirect; 0: not redirected */
};

static void add_rule(struct netlink *b, const struct match *r)
{
	size_t m = begin_nft(b, NFT_MSG_NEWRULE, NLM_F_APPEND), list;
	uint32_t net = htonl(r->net);
	uint16_t port = htons(r->port);

	attr_text(b, NFTA_RULE_TABLE, "hgauto");
	attr_text(b, NFTA_RULE_CHAIN, "out");
	list = nest(b, NFTA_RULE_EXPRESSIONS);
	if (r->bytes > 0) {
		load(b, NFT_PAYLOAD_NETWORK_HEADER, DADDR, r->bytes);
		equals(b, &net, r->bytes);
	}
	if (r->proto != 0)
		protocol_is(b, r->proto);
	if (r->port != 0) {
		load(b, NFT_PAYLOAD_TRANSPORT_HEADER, DPORT, sizeof(port));
		equals(b, &port, sizeof(port));
	}
	if (r->to != 0)
		redirect(b, r->to);
	else
		go_back(b);
	unnest(b, list);
	finish(b, m);
}

static void add_rules(struct netlink *b, const struct match *rules, size_t n)
{
	batch(b, NFNL_MSG_BATCH_BEGIN);
	add_table(b);
	add_chain(b);
	for (size_t i = 0; i < n; i++)
		add_rule(b, &rules[i]);
	batch(b, NFNL_MSG_BATCH_END);
}

void netlink_lonely(struct netlink *b)
{
	static const struct match imds = {NET_IMDS, 4, IPPROTO_TCP, 80,
	                                  NET_PORT_IMDS};

	add_rules(b, &imds, 1);
}

void netlink_redirect(struct netlink *b)
{
	static const struct match rules[] = {
	    {NET_HOST, 4, IPPROTO_TCP, 0, NET_PORT_TCP},
	    {NET_IMDS, 4, IPPROTO_TCP, 80, NET_PORT_IMDS},
	    {NET_DNS, 4, IPPROTO_UDP, 53, NET_PORT_DNS},
	    {NET_DNS, 4, IPPROTO_TCP, 53, NET_PORT_DNS},
	    {0x7f000000, 1, 0, 0, 0},
	    {0xa9fe0000, 2, 0, 0, 0},
	    {NET_VPC, 2, 0, 0, 0},
	    {0, 0, IPPROTO_TCP, 0, NET_PORT_TCP},
	};

	add_rules(b, rules, sizeof(rules) / sizeof(rules[0]));
}
