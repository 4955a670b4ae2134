/* Messages and descriptors over a socket pair; rules as the daemon says them.
 */
#include "box/box.h"

#include "tap.h"

#include <fcntl.h>
#include <poll.h>

static int pair[2];
static uint8_t buf[HGA_BOX_MSG];

static int open_fds(void)
{
	int n = 0;

	for (int i = 0; i < 256; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static void test_message(void)
{
	struct hga_box_in in;
	int pipe_[2];

	is_int(
	    hga_box_send(pair[0], HGA_BOX_POWER, 0x01020304, "abc", 3, NULL, 0),
	    0, "send");
	is_int(hga_box_recv(pair[1], buf, &in), 1, "receive");
	is_int(in.type, HGA_BOX_POWER, "type");
	is_int(in.id, 0x01020304, "number");
	ok(in.body.n == 3 && memcmp(in.body.p, "abc", 3) == 0, "body");
	is_int(hga_box_recv(pair[1], buf, &in), -1, "nothing there");
	is_int(errno, EAGAIN, "is no end");

	ok(pipe(pipe_) == 0, "pipe");
	is_int(hga_box_send(pair[0], HGA_BOX_EXEC, 1, NULL, 0, pipe_, 2), 0,
	       "with descriptors");
	is_int(hga_box_recv(pair[1], buf, &in), 1, "received");
	is_int((long long)in.n_fds, 2, "both");
	ok(fcntl(in.fds[0], F_GETFD) == FD_CLOEXEC, "closed by exec");
	is_int(write(in.fds[1], "x", 1), 1, "usable");
	hga_box_close_fds(&in);
	is_int(fcntl(in.fds[0], F_GETFD), -1, "closed");
	close(pipe_[0]);
	close(pipe_[1]);
}

static void test_malformed(void)
{
	struct hga_box_in in;
	int before = open_fds();
	int fds[4] = {0, 0, 0, 0};
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(fds))];
	} anc = {.align = {0}};
	struct iovec v = {buf, 10};
	struct msghdr m = {.msg_iov = &v,
	                   .msg_iovlen = 1,
	                   .msg_control = anc.room,
	                   .msg_controllen = sizeof(anc.room)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	is_int(send(pair[0], "1234", 4, 0), 4, "a head that is too short");
	is_int(hga_box_recv(pair[1], buf, &in), -1, "is refused");
	is_int(errno, EBADMSG, "as malformed");
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	ok(sendmsg(pair[0], &m, 0) == 10, "four descriptors");
	is_int(hga_box_recv(pair[1], buf, &in), -1, "are refused");
	is_int(open_fds(), before, "and none stays open");
	is_int(hga_box_send(pair[0], HGA_BOX_EXEC, 1, buf, HGA_BOX_PAYLOAD + 1,
	                    NULL, 0),
	       -1, "a body that is too long is not sent");
	is_int(hga_box_send(pair[0], HGA_BOX_EXEC, 1, buf, HGA_BOX_PAYLOAD,
	                    NULL, 0),
	       0, "the longest is");
	is_int(hga_box_recv(pair[1], buf, &in), 1, "and arrives");
	is_int((long long)in.body.n, HGA_BOX_PAYLOAD, "whole");
}

static void test_reader(void)
{
	static const uint8_t raw[] = {1, 2, 0, 3, 0,   0,  0,
	                              2, 0, 0, 0, 'h', 'i'};
	struct hga_box_rd r = {raw, sizeof(raw), false};
	struct hga_box_text t;

	is_int(hga_box_rd_u8(&r), 1, "u8");
	is_int(hga_box_rd_u16(&r), 2, "u16");
	is_int(hga_box_rd_u32(&r), 3, "u32");
	t = hga_box_rd_text(&r);
	ok(t.n == 2 && memcmp(t.s, "hi", 2) == 0 && !r.bad, "text");
	is_int(hga_box_rd_u8(&r), 0, "beyond the end");
	ok(r.bad, "is noted");
	is_int(hga_box_rd_u32(&r), 0, "and stays so");
}

static void test_writer(void)
{
	uint8_t room[6];
	struct hga_box_wr w = {room, 0, sizeof(room), false};

	hga_box_wr_u32(&w, 0xfffefdfc);
	hga_box_wr_u16(&w, 1);
	ok(!w.full && room[0] == 0xfc && room[3] == 0xff && room[4] == 1,
	   "little-endian");
	hga_box_wr_u8(&w, 1);
	ok(w.full && w.n == 6, "full instead of an overrun");
}

static void rule(const char *protocol, int from, int to, const char *cidr,
                 int kind, const char *name)
{
	struct hga_box_rule r = {0};
	struct hga_err err = {0};
	bool used = false;

	is_int(-hga_box_rule_make(protocol, from, to, cidr, &r, &used, &err),
	       kind, name);
}

static void test_rules(void)
{
	struct hga_box_rule r = {0};
	bool used;

	is_int(
	    hga_box_rule_make("tcp", 22, 23, "127.77.0.0/16", &r, &used, NULL),
	    0, "a rule");
	ok(used && r.proto == 6 && r.prefix == 16 && r.net == 0x7f4d0000 &&
	       r.from == 22 && r.to == 23,
	   "has its parts");
	is_int(hga_box_rule_make("-1", -1, -1, "10.0.0.1", &r, &used, NULL), 0,
	       "all protocols");
	ok(r.proto == 0 && r.to == 65535 && r.prefix == 32, "all ports");
	is_int(hga_box_rule_make("icmp", 8, -1, "0.0.0.0/0", &r, &used, NULL),
	       0, "icmp");
	ok(!used, "reaches no port");
	rule("tcp", 22, 22, "::/0", HGA_USAGE, "no IPv6");
	rule("tcp", 22, 22, "1.2.3.4/33", HGA_USAGE, "prefix of 33");
	rule("tcp", 22, 22, "1.2.3.4/", HGA_USAGE, "empty prefix");
	rule("tcp", 23, 22, "0.0.0.0/0", HGA_USAGE, "range backwards");
	rule("tcp", 0, 65536, "0.0.0.0/0", HGA_USAGE, "port 65536");
	rule("udp", 0, 65535, "0.0.0.0/0", 0, "all ports");
}

int main(void)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC,
	               0, pair) < 0)
		return 1;
	test_message();
	test_malformed();
	test_reader();
	test_writer();
	test_rules();
	return done();
}
