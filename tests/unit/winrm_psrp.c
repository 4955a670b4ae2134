/* PSRP: GUID order, fragments cut and put together, limits. */
#include "base/mem.h"
#include "winrm/psrp.h"

#include "tap.h"

#define POOL "01020304-0506-0708-090A-0B0C0D0E0F10"
static struct hga_err err;

static void guids(void)
{
	static const uint8_t want[16] = {4, 3,  2,  1,  6,  5,  8,  7,
	                                 9, 10, 11, 12, 13, 14, 15, 16};
	uint8_t raw[16];
	char text[37];

	ok(hga_psrp_guid(HGA_STR(POOL), raw) && memcmp(raw, want, 16) == 0,
	   "first fields are little-endian");
	hga_psrp_guid_text(raw, text);
	is_str(text, POOL, "and back");
	ok(!hga_psrp_guid(HGA_STR("01020304-0506-0708-090A-0B0C0D0E0F1"), raw),
	   "too short");
	ok(!hga_psrp_guid(HGA_STR("01020304x0506-0708-090A-0B0C0D0E0F10"), raw),
	   "no dash");
}

/* Messages of these sizes at that payload: buffers and their content. */
static void cut(size_t payload, const size_t *sizes, size_t n, size_t buffers)
{
	struct hga_psrp_in *in = hga_psrp_in_new();
	struct hga_psrp_out o;
	struct hga_psrp_msg m;
	size_t from = 0, got = 0;
	bool good = true;
	char data[4096];

	memset(data, 'x', sizeof(data));
	hga_psrp_out_init(&o);
	o.payload = payload;
	for (size_t i = 0; i < n; i++)
		good = good &&
		       hga_psrp_out_add(&o, HGA_PSRP_PIPELINE_INPUT, false,
		                        HGA_STR(POOL), HGA_STR(""),
		                        hga_strn(data, sizes[i]), &err) == 0;
	good = good && hga_psrp_out_flush(&o, &err) == 0;
	is_int((long long)o.n_cuts, (long long)buffers, "requests");
	for (size_t i = 0; i < o.n_cuts; i++) {
		good = good && o.cuts[i] - from <= payload &&
		       hga_psrp_in_feed(in, o.data.data + from,
		                        o.cuts[i] - from, &err) == 0;
		from = o.cuts[i];
	}
	while (hga_psrp_in_next(in, &m)) {
		good = good && m.object == got + 1 && m.destination == 2 &&
		       m.type == HGA_PSRP_PIPELINE_INPUT &&
		       m.data.n == sizes[got];
		got++;
	}
	ok(good && got == n && hga_psrp_in_whole(in),
	   "%zu messages at %zu bytes a request arrive whole", n, payload);
	hga_psrp_out_release(&o);
	hga_psrp_in_free(in);
}

static void cutting(void)
{
	const size_t three[] = {10, 20, 30}, big[] = {3000, 0, 1};

	cut(1000, three, 3, 1);
	/* 40 + 10 + 21 bytes: a payload one short of that needs two. */
	cut(71, three, 1, 1);
	cut(70, three, 1, 2);
	/* 22 bytes left: the next message begins in the same request. */
	cut(71 + 22, three, 2, 2);
	cut(71 + 21, three, 2, 2);
	cut(22, three, 1, 50);
	cut(500, big, 3, 7);
}

static size_t put(char *to, unsigned object, unsigned fragment, unsigned flags,
                  const char *data, size_t n)
{
	memset(to, 0, 21);
	to[7] = (char)object;
	to[15] = (char)fragment;
	to[16] = (char)flags;
	to[20] = (char)n;
	memcpy(to + 21, data, n);
	return 21 + n;
}

static int feed(const char *s, size_t n)
{
	struct hga_psrp_in *in = hga_psrp_in_new();
	int r = hga_psrp_in_feed(in, s, n, &err);

	hga_psrp_in_free(in);
	return r;
}

static void order(void)
{
	struct hga_psrp_in *in = hga_psrp_in_new();
	struct hga_psrp_msg m;
	char head[60] = {1, 0, 0, 0, 4, 16, 4, 0}, b[400];
	size_t n;

	/* 5, 4, 5, 6 as a host was seen to send */
	n = put(b, 5, 0, 1, head, 40);
	n += put(b + n, 4, 0, 3, head, 41);
	n += put(b + n, 5, 1, 2, "ab", 2);
	n += put(b + n, 6, 0, 3, head, 42);
	is_int(hga_psrp_in_feed(in, b, n, &err), 0, "mixed objects");
	ok(hga_psrp_in_next(in, &m) && m.object == 4 && m.data.n == 1,
	   "the first that was whole");
	ok(hga_psrp_in_next(in, &m) && m.object == 5 && m.data.n == 2,
	   "the second");
	ok(hga_psrp_in_next(in, &m) && m.object == 6 &&
	       m.type == HGA_PSRP_PIPELINE_OUTPUT,
	   "the third");
	ok(!hga_psrp_in_next(in, &m), "no more");
	ok(!hga_psrp_in_whole(in), "objects below are missing");
	hga_psrp_in_free(in);

	n = put(b, 1, 0, 1, head, 40);
	ok(feed(b, n) == 0, "a message that began");
	ok(feed(b, n - 1) == -HGA_PROTOCOL, "a fragment that is cut");
	ok(feed(b, 20) == -HGA_PROTOCOL, "a head that is cut");
	n += put(b + n, 1, 2, 2, "a", 1);
	ok(feed(b, n) == -HGA_PROTOCOL, "a fragment is missing");
	n = put(b, 1, 0, 3, head, 39);
	ok(feed(b, n) == -HGA_PROTOCOL, "a message without a head");
	n = put(b, 1, 1, 2, head, 40);
	ok(feed(b, n) == -HGA_PROTOCOL, "an end without a beginning");
	n = put(b, 1, 0, 1, head, 40);
	n += put(b + n, 1, 0, 1, head, 40);
	ok(feed(b, n) == -HGA_PROTOCOL, "a second beginning");
	n = 0;
	in = hga_psrp_in_new();
	for (unsigned i = 1; i <= 16; i++) {
		n = put(b, i, 0, 1, head, 40);
		if (hga_psrp_in_feed(in, b, n, &err) < 0)
			break;
	}
	is_int(hga_psrp_in_unfinished(in), 16, "16 unfinished messages");
	n = put(b, 17, 0, 1, head, 40);
	ok(hga_psrp_in_feed(in, b, n, &err) == -HGA_PROTOCOL, "not 17");
	hga_psrp_in_free(in);
}

static void names(void)
{
	is_str(hga_psrp_name(HGA_PSRP_PROGRESS_RECORD), "PROGRESS_RECORD",
	       "hex digits as written");
	ok(hga_psrp_name(1) == NULL, "an unknown type has no name");
	ok(hga_psrp_find(HGA_STR("PIPELINE_STATE")) == 0x00041006,
	   "found by name");
}

int main(void)
{
	guids();
	cutting();
	order();
	names();
	return done();
}
