/*
 * Parsers and editors of the box program, as pure functions: specification,
 * rules, commands, shutdown requests, account files.
 */
#include "box/guest/passwd.c"
#include "box/guest/spec.c"
#include "box/guest/util.c"

#include "tap.h"

static uint8_t bytes[1 << 16];
static struct hga_box_wr w;
static struct spec spec;
static struct fault fault;

static void record_bytes(unsigned tag, const void *p, size_t n)
{
	hga_box_wr_u16(&w, tag);
	hga_box_wr_text(&w, p, n);
}

static void put(unsigned tag, const char *text)
{
	record_bytes(tag, text, strlen(text));
}

/* A specification that is complete but for what a test adds. */
static void begin(void)
{
	w = (struct hga_box_wr){bytes, 0, sizeof(bytes), false};
	put(HGA_BOX_TAG_HOSTNAME, "ip-172-31-0-5");
	put(HGA_BOX_TAG_IMAGES_DIR, "/state/images");
	put(HGA_BOX_TAG_LAYER, "debian13-0123456789ab");
	put(HGA_BOX_TAG_UPPER, "../instances/i-1/u");
	put(HGA_BOX_TAG_WORK, "../instances/i-1/w");
}

static bool parses(void)
{
	memset(&fault, 0, sizeof(fault));
	return spec_parse(bytes, w.n, &spec, &fault) == 0;
}

static bool refuses(unsigned tag, const char *text)
{
	begin();
	put(tag, text);
	return !parses() && strcmp(fault.step, "spec") == 0;
}

static void test_spec(void)
{
	static const char file[] = "\x80\x01\0\0" /* 0600 */ "\5\0\0\0admin"
	                           "\2\0\0\0/x"
	                           "a\0b";
	static const char user[] = "\5\0\0\0admin"
	                           "\7\0\0\0/bin/sh"
	                           "\4\0\0\0sudo";

	begin();
	ok(parses(), "the required records are enough");
	is_str(spec.layer[0], "debian13-0123456789ab", "layer");
	put(HGA_BOX_TAG_ADDRESS, "127.77.1.2");
	put(HGA_BOX_TAG_PRIVATE_IP, "172.31.0.5");
	put(HGA_BOX_TAG_NET, "redirect");
	put(HGA_BOX_TAG_DNS, "127.0.0.53:5353");
	put(HGA_BOX_TAG_HOST_PORT, "3142");
	put(HGA_BOX_TAG_HOST_PORT, "65535");
	record_bytes(HGA_BOX_TAG_FILE, file, sizeof(file) - 1);
	record_bytes(HGA_BOX_TAG_USER, user, sizeof(user) - 1);
	ok(parses(), "all kinds of records");
	is_int(spec.address, 0x7f4d0102, "address");
	is_int(spec.files[0].mode, 0600, "mode of a file");
	is_int((long long)spec.files[0].data.n, 3, "data may hold zeros");
	is_int((long long)spec.users[0].groups.n, 4, "groups");
	for (size_t n = 1; n < w.n; n++)
		if (spec_parse(bytes, n, &spec, &fault) == 0 &&
		    spec.n_users == 1)
			ok(false, "cut at %zu", n);
	begin();
	w.n -= 24; /* without work */
	ok(!parses(), "a missing record is refused");
}

static bool takes_disk(const char *path, const char *names)
{
	uint8_t room[256];
	struct hga_box_wr d = {room, 0, sizeof(room), false};

	hga_box_wr_text(&d, path, strlen(path));
	hga_box_wr_text(&d, names, strlen(names));
	begin();
	record_bytes(HGA_BOX_TAG_DISK, d.p, d.n);
	return parses();
}

static void test_spec_refused(void)
{
	ok(refuses(99, ""), "an unknown tag");
	ok(refuses(HGA_BOX_TAG_LAYER, "../etc"), "a layer elsewhere");
	ok(refuses(HGA_BOX_TAG_LAYER, "a:b"), "a layer with a separator");
	ok(refuses(HGA_BOX_TAG_UPPER, "u,lowerdir=/"), "a mount option");
	ok(refuses(HGA_BOX_TAG_IMAGES_DIR, "images"), "a relative directory");
	ok(refuses(HGA_BOX_TAG_ADDRESS, "10.0.0.1"), "an address of the net");
	ok(refuses(HGA_BOX_TAG_ADDRESS, "127.1"), "a short address");
	ok(refuses(HGA_BOX_TAG_HOSTNAME, "-x"), "a bad host name");
	ok(refuses(HGA_BOX_TAG_HOSTNAME, "a\nb"), "a line break in it");
	ok(refuses(HGA_BOX_TAG_NET, "bridge"), "another network");
	is_int(fault.sys, ENOTSUP, "as not supported");
	ok(refuses(HGA_BOX_TAG_NET, "redirect"), "a network, no address");
	ok(refuses(HGA_BOX_TAG_DNS, "127.0.0.53:"), "a resolver's empty port");
	ok(refuses(HGA_BOX_TAG_DNS, "localhost"), "a resolver's name");
	ok(refuses(HGA_BOX_TAG_DNS, ""), "an empty resolver");
	ok(refuses(HGA_BOX_TAG_HOST_PORT, "0"), "port 0");
	ok(refuses(HGA_BOX_TAG_HOST_PORT, "65536"), "port 65536");
	ok(refuses(HGA_BOX_TAG_HOST_PORT, "22x"), "a port with a letter");
	ok(refuses(HGA_BOX_TAG_HOST_PORT, ""), "no port");
	ok(refuses(HGA_BOX_TAG_DISK, "/x"), "a volume without names");
	ok(refuses(HGA_BOX_TAG_CGROUP, "x"), "cgroups");
	is_int(fault.sys, ENOTSUP, "as not supported");
	ok(!takes_disk("vol.img", "sdf"), "a volume at a relative path");
	ok(!takes_disk("/vol.img", "../sdf"), "a name outside /dev");
	ok(!takes_disk("/vol.img", ""), "no name");
	ok(takes_disk("/vol.img", "sdf,xvdf,nvme1n1"), "a volume is taken");
	is_str(spec.disks[0].names, "sdf,xvdf,nvme1n1", "with its names");
	begin();
	for (int i = 0; i < HGA_BOX_LAYERS; i++)
		put(HGA_BOX_TAG_LAYER, "more");
	ok(!parses(), "more than 16 layers");
	begin();
	hga_box_wr_u16(&w, HGA_BOX_TAG_LAYER);
	hga_box_wr_u32(&w, 0xffffffff);
	ok(!parses(), "a length beyond the end");
}

static void put_rule(uint8_t proto, uint8_t prefix, uint16_t from, uint16_t to,
                     uint32_t net)
{
	struct hga_box_rule r = {proto, prefix, from, to, net};

	hga_box_wr_rule(&w, &r);
}

static void test_rules(void)
{
	static struct rules rules, before;
	struct hga_box_rd r;

	w = (struct hga_box_wr){bytes, 0, sizeof(bytes), false};
	put_rule(6, 8, 20, 22, 0x7f000001);
	put_rule(17, 0, 0, 65535, 0);
	put_rule(0, 32, 0, 0, 0x0a000001);
	r = (struct hga_box_rd){bytes, w.n, false};
	ok(rules_parse(&r, &rules), "three rules");
	ok(rules_admit(&rules, 22, 0x7f4d0101), "network and range");
	ok(!rules_admit(&rules, 23, 0x7f4d0101), "beyond the range");
	ok(!rules_admit(&rules, 22, 0x0a000002), "another network; udp");
	ok(rules_admit(&rules, 443, 0x0a000001), "all protocols");
	ok(rules_cover(&rules, 5000), "some rule names the port");
	before = rules;
	r = (struct hga_box_rd){bytes, w.n - 1, false};
	ok(!rules_parse(&r, &rules), "cut off");
	ok(memcmp(&before, &rules, sizeof(rules)) == 0, "changes nothing");
	w.n = 0;
	put_rule(6, 33, 22, 22, 0);
	r = (struct hga_box_rd){bytes, w.n, false};
	ok(!rules_parse(&r, &rules), "a prefix of 33");
	r = (struct hga_box_rd){bytes, 0, false};
	ok(rules_parse(&r, &rules) && rules.n == 0, "none");
	ok(!rules_admit(&rules, 22, 0x7f000001), "admits nobody");
}

static void word_(const char *s)
{
	hga_box_wr_text(&w, s, strlen(s));
}

static void test_exec(void)
{
	static struct exec_args x;
	struct hga_box_rd r;

	w = (struct hga_box_wr){bytes, 0, HGA_BOX_PAYLOAD, false};
	word_("admin");
	word_("/tmp");
	hga_box_wr_u32(&w, 2);
	word_("echo");
	word_("");
	hga_box_wr_u32(&w, 1);
	word_("A=b");
	r = (struct hga_box_rd){bytes, w.n, false};
	ok(exec_parse(&r, &x), "a command");
	is_str(x.user, "admin", "user");
	is_str(x.argv[1], "", "an empty argument");
	ok(x.argv[2] == NULL && x.env[1] == NULL, "ended lists");
	is_str(x.env[0], "A=b", "environment");
	for (size_t n = 0; n < w.n; n++) {
		r = (struct hga_box_rd){bytes, n, false};
		if (exec_parse(&r, &x))
			ok(false, "cut at %zu", n);
	}
	r = (struct hga_box_rd){bytes, w.n + 1, false};
	ok(!exec_parse(&r, &x), "something behind it");
	bytes[4] = '\0';
	r = (struct hga_box_rd){bytes, w.n, false};
	ok(!exec_parse(&r, &x), "a zero byte");
	w.n = 0;
	word_("");
	word_("");
	hga_box_wr_u32(&w, 0);
	hga_box_wr_u32(&w, 0);
	r = (struct hga_box_rd){bytes, w.n, false};
	ok(!exec_parse(&r, &x), "no program");
}

static void test_initctl(void)
{
	struct initctl c;

	ok(initctl_parse("P 60", 4, &c) && c.what == HGA_BOX_POWER_OFF &&
	       c.seconds == 60,
	   "off");
	ok(initctl_parse("R 0", 3, &c) && c.what == HGA_BOX_POWER_REBOOT &&
	       c.seconds == 0,
	   "reboot");
	ok(initctl_parse("C", 1, &c) && (int)c.what == 0, "cancel");
	ok(!initctl_parse("P", 1, &c), "no time");
	ok(!initctl_parse("P -1", 4, &c), "a negative time");
	ok(!initctl_parse("P 1x", 4, &c), "no number");
	ok(!initctl_parse("X 1", 3, &c), "another letter");
	ok(!initctl_parse("P 1234567890", 12, &c), "too far");
	ok(!initctl_parse("", 0, &c), "nothing");
}

#define TEXT(s) ((struct hga_box_text){s, sizeof(s) - 1})

static void test_lookup(void)
{
	struct hga_box_text pw = TEXT("root:x:0:0:root:/root:/bin/bash\n"
	                              "broken\n:::\n"
	                              "web:x:33:34::/var/www:/bin/sh");
	struct hga_box_text gr = TEXT("root:x:0:\nadm:x:4:web,admin\n"
	                              "web:x:34:\nxweb:x:35:webx\n"
	                              "x:x:1000:web");
	struct account a;
	gid_t list[8], gid;

	ok(passwd_find(pw, "web", &a), "last line without its newline");
	is_int(a.uid, 33, "number");
	is_int(a.gid, 34, "group");
	is_str(a.home, "/var/www", "home");
	is_str(a.shell, "/bin/sh", "shell");
	ok(!passwd_find(pw, "we", &a), "no prefix match");
	ok(!passwd_find(pw, "broken", &a), "a broken line");
	ok(group_find(gr, "adm", &gid) && gid == 4, "group by name");
	ok(!group_find(gr, "nil", &gid), "no such group");
	is_int((long long)group_list(gr, "web", 34, list, 8), 3, "groups");
	ok(list[0] == 34 && list[1] == 4 && list[2] == 1000, "in order");
	is_int((long long)group_list(gr, "web", 34, list, 1), 1, "the limit");
	is_int((long long)account_free_id(pw, gr), 1001, "free number");
}

static void test_names(void)
{
	ok(account_name_ok("admin") && account_name_ok("_a-1"), "names");
	ok(!account_name_ok("") && !account_name_ok("1a") &&
	       !account_name_ok("Root") && !account_name_ok("a:b") &&
	       !account_name_ok("a\n") && !account_name_ok("-a"),
	   "and no names");
	ok(!account_name_ok("abcdefghijklmnopqrstuvwxyz0123456"), "33 bytes");
}

static void test_join(void)
{
	struct grow out = {0};

	group_join(TEXT("adm:x:4:\nsudo:x:27:web\nshort:x\nadm2:x:5:"), "adm",
	           "web", &out);
	is_str(out.p, "adm:x:4:web\nsudo:x:27:web\nshort:x\nadm2:x:5:\n",
	       "first member");
	grow_free(&out);
	group_join(TEXT("sudo:x:27:web\n"), "sudo", "admin", &out);
	is_str(out.p, "sudo:x:27:web,admin\n", "second member");
	grow_free(&out);
	group_join(TEXT("sudo:x:27:a,web\n"), "sudo", "web", &out);
	is_str(out.p, "sudo:x:27:a,web\n", "a member already");
	grow_free(&out);
	group_join(TEXT("sudo:!::webx\n"), "sudo", "web", &out);
	is_str(out.p, "sudo:!::webx,web\n", "a name that begins alike");
	grow_free(&out);
}

int main(void)
{
	test_spec();
	test_spec_refused();
	test_rules();
	test_exec();
	test_initctl();
	test_lookup();
	test_names();
	test_join();
	return done();
}
