/* Redaction: every encoding, any cut, overlaps, shapes. */
#include "base/redact.h"
#include "base/mem.h"
#include "tap.h"

#include <time.h>

static struct hga_redact *r;
static char result[70000];

/* Redacted text, fed in pieces of that size. */
static const char *fed(const char *text, size_t n, size_t piece)
{
	struct hga_redact_stream s;
	struct hga_buf out;
	int res = 0;

	hga_buf_init(&out, 1 << 20);
	hga_redact_open(&s, r);
	for (size_t i = 0; i < n && res == 0; i += piece)
		res = hga_redact_feed(
		    &s, hga_strn(text + i, n - i < piece ? n - i : piece), &out,
		    NULL);
	if (res == 0)
		res = hga_redact_flush(&s, &out, NULL);
	hga_redact_close(&s);
	memcpy(result, hga_buf_text(&out), out.len + 1);
	hga_buf_release(&out);
	return res == 0 ? result : "error";
}

static void gives(const char *text, const char *want, const char *name)
{
	for (size_t piece = 1; piece < 5; piece++)
		is_str(fed(text, strlen(text), piece), want, name);
	is_str(fed(text, strlen(text), 10000), want, name);
}

static void start(const char *secret)
{
	struct hga_err err;

	hga_redact_free(r);
	r = hga_redact_new();
	is_int(hga_redact_add(r, hga_str(secret), &err), 0, secret);
}

/* Every form was made by python3's base64, urllib, json, html and codecs. */
static void test_encodings(void)
{
	start("p\xc3\xa4ss w\"rd/<&>+1");
	gives("x p\xc3\xa4ss w\"rd/<&>+1 y", "x *** y", "as it is");
	gives("cMOkc3MgdyJyZC88Jj4rMQ==", "***Q==", "base64");
	gives("eHDDpHNzIHcicmQvPCY+KzF5", "eH***F5", "base64 at 1");
	gives("eHhww6RzcyB3InJkLzwmPisxeQ==", "eHh***eQ==", "base64 at 2");
	gives("eHDDpHNzIHcicmQvPCY-KzF5", "eH***F5", "base64url at 1");
	gives("p%C3%A4ss%20w%22rd%2F%3C%26%3E%2B1", "***", "percent");
	gives("p%c3%a4ss%20w%22rd%2f%3c%26%3e%2b1", "***", "percent, lower");
	gives("p%C3%A4ss%20w%22rd/%3C%26%3E%2B1", "***", "percent of a path");
	gives("p%C3%A4ss+w%22rd%2F%3C%26%3E%2B1", "***", "percent of a form");
	gives("p\xc3\xa4ss w\\\"rd/<&>+1", "***", "JSON");
	gives("p\xc3\xa4ss w&quot;rd/&lt;&amp;&gt;+1", "***", "XML attribute");
	gives("p\xc3\xa4ss w\"rd/&lt;&amp;&gt;+1", "***", "XML text");
	gives("70c3a4737320772272642f3c263e2b31", "***", "hex");
	gives("70C3A4737320772272642F3C263E2B31", "***", "HEX");
	gives("cADkAHMAcwAgAHcAIgByAGQALwA8ACYAPgArADEA", "***",
	      "base64 of UTF-16LE");
	is_str(fed("p\0\xe4\0s\0s\0 \0w\0\"\0r\0d\0/\0<\0&\0>\0+\0"
	           "1\0",
	           30, 3),
	       "***", "UTF-16LE");
}

static void test_streams(void)
{
	start("secret-one");
	gives("secret-onsecret-one secret-on", "secret-on*** secret-on",
	      "beginnings are given back");
	gives("secret-onesecret-one", "***", "neighbours become one mark");
	gives("", "", "nothing");
	is_int(hga_redact_add(r, HGA_STR("secret-one-and-two"), NULL), 0,
	       "a longer one");
	gives("a secret-one-and-two b", "a *** b", "the longer one wins");
	gives("a secret-one-and-tw b", "a ***-and-tw b",
	      "the shorter inside an unfinished longer one");
	is_int(hga_redact_add(r, HGA_STR("xxsecret-oneyy"), NULL), 0,
	       "one around");
	gives("xxsecret-oneyz", "xx***yz", "inner one of a failed outer one");
	gives("xxsecret-oneyy", "***", "outer one");
	is_int(hga_redact_add(r, HGA_STR("one-and"), NULL), 0, "overlapping");
	gives("secret-one-and-", "***-", "overlap is covered as a whole");
	is_int((long long)hga_redact_count(r), 4, "count");
	is_int(hga_redact_add(r, HGA_STR("one-and"), NULL), 0, "again");
	is_int((long long)hga_redact_count(r), 4, "counted once");
}

static void test_limits(void)
{
	static char big[65537];
	struct hga_err err;

	start("short?");
	is_int(hga_redact_add(r, HGA_STR("12345"), &err), -HGA_USAGE,
	       "under 6 bytes");
	memset(big, 'k', sizeof(big));
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)('a' + i * i % 23);
	is_int(hga_redact_add(r, hga_strn(big, 65537), &err), -HGA_USAGE,
	       "over 64 KiB");
	is_int(hga_redact_add(r, hga_strn(big, 65536), &err), 0, "64 KiB");
	is_str(fed(big, 65536, 1000), "***", "and found");
	is_int(hga_redact_add(r,
	                      HGA_STR("first line of sixteen\nshort\nthird "
	                              "line of sixteen"),
	                      &err),
	       0, "several lines");
	gives("> third line of sixteen", "> ***", "each long line counts");
	gives("> short", "> short", "a short one does not");
}

static void test_random(void)
{
	unsigned seed = (unsigned)time(NULL);
	int bad = 0;

	printf("# seed %u\n", seed);
	srand(seed);
	start("abaabaab");
	is_int(hga_redact_add(r, HGA_STR("baabbaab"), NULL), 0, "second");
	/* against a plain search for both */
	for (int round = 0; round < 2000; round++) {
		char text[64];
		char want[64];
		bool hide[64] = {false};
		size_t n = (size_t)(rand() % 63);
		size_t m = 0;

		for (size_t i = 0; i < n; i++)
			text[i] = rand() % 2 ? 'a' : 'b';
		for (size_t i = 0; i + 8 <= n; i++)
			if (memcmp(text + i, "abaabaab", 8) == 0 ||
			    memcmp(text + i, "baabbaab", 8) == 0)
				memset(hide + i, true, 8);
		for (size_t i = 0; i < n; i++) {
			if (!hide[i])
				want[m++] = text[i];
			else if (i == 0 || !hide[i - 1])
				m += (size_t)snprintf(want + m, 4, "***");
		}
		want[m] = '\0';
		if (strcmp(fed(text, n, 1 + (size_t)(rand() % 9)), want) != 0)
			bad++;
	}
	is_int(bad, 0, "as a plain search finds them");
}

static const char *shaped(const char *text)
{
	struct hga_buf out;

	hga_buf_init(&out, 10000);
	result[0] = '\0';
	if (hga_redact_shapes(hga_str(text), &out, NULL) == 0)
		snprintf(result, sizeof(result), "%s", hga_buf_text(&out));
	hga_buf_release(&out);
	return result;
}

static void test_shapes(void)
{
	is_str(shaped("id AKIAIOSFODNN7EXAMPLE."), "id ***.", "access key id");
	is_str(shaped("AKIA too short"), "AKIA too short", "not an id");
	is_str(shaped("Authorization: AWS4-HMAC x, y\r\nHost: h"),
	       "Authorization: ***\r\nHost: h", "Authorization");
	is_str(shaped("X-Amz-Security-Token=abc%2F&X-Amz-Date=1"),
	       "X-Amz-Security-Token=***&X-Amz-Date=1", "token in a query");
	is_str(shaped("{\"x-amz-security-token\": \"abc\", \"b\": 1}"),
	       "{\"x-amz-security-token\": \"***\", \"b\": 1}",
	       "token in JSON");
	is_str(shaped("a -----BEGIN OPENSSH PRIVATE KEY-----\nb3\n-----END "
	              "OPENSSH PRIVATE KEY----- z"),
	       "a *** z", "private key");
	is_str(shaped("-----BEGIN RSA PRIVATE KEY-----\nMII"), "***",
	       "cut off key");
	is_str(shaped("-----BEGIN CERTIFICATE-----\nMII"),
	       "-----BEGIN CERTIFICATE-----\nMII", "a certificate is public");
}

static void test_memory(void)
{
	unsigned long n = 0;
	int res;

	do {
		struct hga_redact *x;

		hga_mem_torture(++n, false);
		x = hga_redact_new();
		res = x ? hga_redact_add(x, HGA_STR("some secret"), NULL)
		        : -HGA_MEMORY;
		hga_mem_torture(0, false);
		hga_redact_free(x);
	} while (res == -HGA_MEMORY && n < 500);
	ok(res == 0 && n > 5, "each failing allocation is told");
}

/* Another secret of 1,000 letters for each n. */
static struct hga_str nth(unsigned n)
{
	static char text[1000];
	uint32_t x = n * 2654435761u + 1;

	for (size_t i = 0; i < sizeof(text); i++) {
		x = x * 1664525 + 1013904223;
		text[i] = (char)('a' + (x >> 24) % 26);
	}
	return hga_strn(text, sizeof(text));
}

static void test_drop(void)
{
	struct hga_redact_stream s;
	struct hga_buf out;
	struct hga_str t;
	int failed = 0;

	start("shared-beginning-one");
	is_int(hga_redact_add(r, HGA_STR("shared-beginning-two"), NULL), 0,
	       "another");
	is_int(hga_redact_add(r, HGA_STR("shared-beginning-two"), NULL), 0,
	       "twice");
	hga_redact_drop(r, HGA_STR("shared-beginning-two"));
	gives("shared-beginning-two", "***", "dropped once it is still known");
	hga_redact_drop(r, HGA_STR("shared-beginning-two"));
	gives("shared-beginning-two", "shared-beginning-two", "twice: no more");
	gives("c2hhcmVkLWJlZ2lubmluZy10d28=", "c2hhcmVkLWJlZ2lubmluZy10d28=",
	      "in no spelling");
	gives("a shared-beginning-one c2hhcmVkLWJlZ2lubmluZy1vbmU=",
	      "a *** ***U=", "the other one is");
	is_int((long long)hga_redact_count(r), 1, "one is left");
	hga_redact_drop(r, HGA_STR("never-added"));
	is_int((long long)hga_redact_count(r), 1, "an unknown one is no harm");

	/* With a stream in the middle of both. */
	is_int(hga_redact_add(r, HGA_STR("shared-beginning-two"), NULL), 0,
	       "again");
	hga_buf_init(&out, 1000);
	hga_redact_open(&s, r);
	ok(hga_redact_feed(&s, HGA_STR("x shared-beginning-t"), &out, NULL) ==
	       0,
	   "a stream");
	is_str(hga_buf_text(&out), "x ", "holds the beginning back");
	hga_redact_drop(r, HGA_STR("shared-beginning-two"));
	ok(hga_redact_feed(&s, HGA_STR("wo shared-beginning-o"), &out, NULL) ==
	       0,
	   "goes on without it");
	is_str(hga_buf_text(&out), "x shared-beginning-two ", "gives it out");
	is_int(hga_redact_add(r, HGA_STR("another secret"), NULL), 0, "more");
	hga_redact_drop(r, HGA_STR("another secret"));
	ok(hga_redact_feed(&s, HGA_STR("ne."), &out, NULL) == 0 &&
	       hga_redact_flush(&s, &out, NULL) == 0,
	   "to the end");
	is_str(hga_buf_text(&out), "x shared-beginning-two ***.",
	       "and knows the one that is left");
	hga_redact_close(&s);
	hga_buf_release(&out);

	/* Far more than there would be room for. */
	for (unsigned i = 0; i < 400; i++) {
		if (hga_redact_add(r, nth(i), NULL) < 0)
			failed++;
		if (i > 0)
			hga_redact_drop(r, nth(i - 1));
	}
	is_int(failed, 0, "room for ever new ones");
	t = nth(399);
	is_str(fed(t.s, t.n, 100), "***", "the last is known");
	t = nth(398);
	ok(strncmp(fed(t.s, t.n, 100), t.s, t.n) == 0, "the one before is not");
	is_int((long long)hga_redact_count(r), 2, "two in all");
}

int main(void)
{
	test_encodings();
	test_drop();
	test_streams();
	test_limits();
	test_random();
	test_shapes();
	test_memory();
	hga_redact_free(r);
	return done();
}
