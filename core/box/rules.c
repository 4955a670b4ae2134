/* Inbound rules as the supervisor writes them. */
#include "box/box.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <string.h>

static int parse_cidr(const char *cidr, struct hga_box_rule *out,
                      struct hga_err *err)
{
	char ip[INET_ADDRSTRLEN];
	const char *slash = strchr(cidr, '/');
	size_t n = slash ? (size_t)(slash - cidr) : strlen(cidr);
	struct in_addr a;
	uint64_t bits = 32;

	if (n < sizeof(ip)) {
		memcpy(ip, cidr, n);
		ip[n] = '\0';
	}
	if (n >= sizeof(ip) || inet_pton(AF_INET, ip, &a) != 1 ||
	    (slash && (!hga_str_uint(hga_str(slash + 1), &bits) || bits > 32)))
		return hga_fail(err, HGA_USAGE, 0, "Cidr",
		                "%.60s is no IPv4 network", cidr);
	out->net = ntohl(a.s_addr);
	out->prefix = (uint8_t)bits;
	return 0;
}

int hga_box_rule_make(const char *protocol, int from, int to, const char *cidr,
                      struct hga_box_rule *out, bool *used, struct hga_err *err)
{
	*used = true;
	if (strcmp(protocol, "-1") == 0) {
		out->proto = 0;
		from = 0;
		to = 65535;
	} else if (strcmp(protocol, "tcp") == 0 || strcmp(protocol, "6") == 0) {
		out->proto = 6;
	} else if (strcmp(protocol, "udp") == 0 ||
	           strcmp(protocol, "17") == 0) {
		out->proto = 17;
	} else {
		*used = false; /* icmp and others reach no port */
		return 0;
	}
	if (from < 0 || to > 65535 || from > to)
		return hga_fail(err, HGA_USAGE, 0, "Ports",
		                "%d to %d is no range of ports", from, to);
	out->from = (uint16_t)from;
	out->to = (uint16_t)to;
	return parse_cidr(cidr, out, err);
}
