/* Views, numbers and coders of base/str. */
#include "base/mem.h"
#include "base/str.h"
#include "tap.h"

#include <locale.h>

static struct hga_buf buf;

static const char *decoded(int r)
{
	return r == 0 ? hga_buf_text(&buf) : "error";
}

static const char *unb64(const char *s)
{
	hga_buf_clear(&buf);
	return decoded(hga_b64_decode(&buf, hga_str(s), NULL));
}

static const char *b64(const char *s)
{
	hga_buf_clear(&buf);
	return decoded(hga_b64_encode(&buf, s, strlen(s), NULL));
}

static void test_views(void)
{
	ok(hga_str_ieqc(HGA_STR("Host"), "hOST"), "case is ignored");
	ok(!hga_str_ieqc(HGA_STR("a@"), "a`"), "only letters fold");
	ok(hga_str_cmp(HGA_STR("a"), HGA_STR("ab")) < 0, "prefix sorts first");
	ok(hga_str_cmp(HGA_STR("\xff"), HGA_STR("a")) > 0,
	   "bytes compare unsigned");
	ok(hga_str_starts(HGA_STR("abc"), "ab") &&
	       !hga_str_starts(HGA_STR("a"), "ab"),
	   "starts");
	ok(hga_str_ends(HGA_STR("abc"), "bc") &&
	       !hga_str_ends(HGA_STR("c"), "bc"),
	   "ends");
	ok(hga_str_eqc(hga_str_trim(HGA_STR(" \t a b \r\n")), "a b"), "trim");
	is_int((long long)hga_str_trim(HGA_STR("  ")).n, 0, "trim to nothing");
	is_int(hga_str_chr(HGA_STR("a,b,c"), ',', 2), 3, "chr from a position");
	is_int(hga_str_chr(HGA_STR("a"), 'a', 1), -1, "chr behind the end");
	is_int(hga_str_find(HGA_STR("hello"), HGA_STR("ll")), 2, "find");
	is_int(hga_str_find(HGA_STR("hello"), HGA_STR("xx")), -1, "not found");
}

static void test_glob(void)
{
	ok(hga_str_glob(HGA_STR("a*c"), HGA_STR("abbc")), "star");
	ok(hga_str_glob(HGA_STR("*"), HGA_STR("")), "star fits nothing");
	ok(hga_str_glob(HGA_STR("a?c*"), HGA_STR("abc")), "question mark");
	ok(!hga_str_glob(HGA_STR("a?c"), HGA_STR("ac")),
	   "question mark needs a byte");
	ok(hga_str_glob(HGA_STR("*a*b"), HGA_STR("aabab")), "backtracking");
	ok(!hga_str_glob(HGA_STR("*.NotFound"), HGA_STR("NotFound")),
	   "the dot counts");
}

static void test_numbers(void)
{
	int64_t i = 0;
	uint64_t u = 0;
	double d = 0;
	char t[32];

	ok(hga_str_int(HGA_STR("-9223372036854775808"), &i) && i == INT64_MIN,
	   "smallest int64");
	ok(!hga_str_int(HGA_STR("9223372036854775808"), &i), "int overflow");
	ok(!hga_str_int(HGA_STR("-9223372036854775809"), &i), "int underflow");
	ok(hga_str_uint(HGA_STR("18446744073709551615"), &u) && u == UINT64_MAX,
	   "largest uint64");
	ok(!hga_str_uint(HGA_STR("18446744073709551616"), &u), "uint overflow");
	ok(!hga_str_int(HGA_STR(""), &i) && !hga_str_int(HGA_STR("-"), &i) &&
	       !hga_str_int(HGA_STR("1 "), &i),
	   "whole view or nothing");
	ok(hga_str_num(HGA_STR("1.5e3"), &d) && d == 1500, "number");
	ok(!hga_str_num(HGA_STR("0x10"), &d) &&
	       !hga_str_num(HGA_STR("nan"), &d),
	   "neither hex nor nan");
	ok(!hga_str_num(HGA_STR("1e999"), &d), "no infinity by overflow");
	(void)hga_num_text(t, 0.1);
	is_str(t, "0.1", "shortest text");
	(void)hga_num_text(t, 3);
	is_str(t, "3.0", "a float stays a float");
	(void)hga_num_text(t, 1e20);
	is_str(t, "1e+20", "exponent");
	(void)hga_num_text(t, 0.1 + 0.2);
	is_str(t, "0.30000000000000004", "17 digits when needed");
	if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL) {
		skip("no locale with a decimal comma");
		return;
	}
	(void)hga_num_text(t, 0.5);
	is_str(t, "0.5", "locale does not matter");
	(void)setlocale(LC_NUMERIC, "C");
}

/* The same in pieces. */
static const char *unb64_by(const char *s, size_t piece)
{
	struct hga_b64 d = {0};
	size_t n = strlen(s);
	int r = 0;

	hga_buf_clear(&buf);
	for (size_t i = 0; i < n && r == 0; i += piece)
		r = hga_b64_feed(&d, &buf,
		                 hga_strn(s + i, n - i < piece ? n - i : piece),
		                 NULL);
	return decoded(r < 0 ? r : hga_b64_end(&d, &buf, NULL));
}

static void test_pieces(void)
{
	for (size_t piece = 1; piece < 10; piece++) {
		is_str(unb64_by("Zm9v YmFy\r\nZm8=", piece), "foobarfo",
		       "pieces with blanks and padding");
		is_str(unb64_by("Zm9vYg", piece), "foob", "without padding");
		is_str(unb64_by("Zm9vYg=", piece), "error", "half a padding");
		is_str(unb64_by("Zm9v*g==", piece), "error", "foreign byte");
		is_str(unb64_by("Zg==Zg==", piece), "error", "data after it");
	}
}

static void test_coders(void)
{
	/* RFC 4648 section 10 */
	is_str(b64(""), "", "base64 of nothing");
	is_str(b64("f"), "Zg==", "base64 f");
	is_str(b64("fo"), "Zm8=", "base64 fo");
	is_str(b64("foobar"), "Zm9vYmFy", "base64 foobar");
	is_str(unb64("Zm9vYmE="), "fooba", "decode with padding");
	is_str(unb64("Zm9v\r\nYmE"), "fooba", "decode without, with blanks");
	hga_buf_clear(&buf);
	ok(hga_b64_decode(&buf, HGA_STR("-_8="), NULL) == 0 && buf.len == 2 &&
	       memcmp(buf.data, "\xfb\xff", 2) == 0,
	   "decode URL alphabet");
	is_str(unb64("Zm9vY"), "error", "one character too much");
	is_str(unb64("Zg==Zg=="), "error", "data after padding");
	is_str(unb64("Z=g="), "error", "padding inside");
	is_str(unb64("Z*=="), "error", "foreign byte");
	hga_buf_clear(&buf);
	is_str(decoded(hga_hex_encode(&buf, "\x00\xff\x10", 3, NULL)), "00ff10",
	       "hex");
	hga_buf_clear(&buf);
	ok(hga_hex_decode(&buf, HGA_STR("00Ff"), NULL) == 0 && buf.len == 2,
	   "unhex");
	is_int(hga_hex_decode(&buf, HGA_STR("0g"), NULL), -HGA_PROTOCOL,
	       "wrong digit");
	is_int((long long)buf.len, 2, "a failed decode appends nothing");
	hga_buf_clear(&buf);
	is_str(
	    decoded(hga_pct_encode(&buf, HGA_STR("a b/\xc3\xa4~"), "/", NULL)),
	    "a%20b/%C3%A4~", "percent");
	hga_buf_clear(&buf);
	is_str(decoded(hga_pct_decode(&buf, HGA_STR("a%20b+c%4"), true, NULL)),
	       "a b c%4", "unpercent");
}

static void test_utf8(void)
{
	char out[4];
	uint32_t cp = 0;

	ok(hga_utf8_valid(HGA_STR("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80")),
	   "valid");
	ok(!hga_utf8_valid(HGA_STR("\xc0\x80")), "overlong two");
	ok(!hga_utf8_valid(HGA_STR("\xe0\x80\x80")), "overlong three");
	ok(!hga_utf8_valid(HGA_STR("\xed\xa0\x80")), "surrogate");
	ok(!hga_utf8_valid(HGA_STR("\xf4\x90\x80\x80")), "too large");
	ok(!hga_utf8_valid(HGA_STR("\xe2\x82")), "cut off");
	is_int((long long)hga_utf8_next(HGA_STR("\xe2\x82\xac"), &cp), 3,
	       "length");
	is_int(cp, 0x20ac, "code point");
	is_int((long long)hga_utf8_put(out, 0x1f600), 4, "put length");
	ok(memcmp(out, "\xf0\x9f\x98\x80", 4) == 0, "put bytes");
	is_int((long long)hga_utf8_put(out, 0xd800), 3, "surrogate replaced");
	ok(memcmp(out, "\xef\xbf\xbd", 3) == 0, "by U+FFFD");
}

static void test_distance(void)
{
	is_int(
	    (long long)hga_str_distance(HGA_STR("ImageID"), HGA_STR("ImageId")),
	    0, "case is free");
	is_int((long long)hga_str_distance(HGA_STR("buld"), HGA_STR("build")),
	       1, "insert");
	is_int((long long)hga_str_distance(HGA_STR("arhc"), HGA_STR("arch")), 1,
	       "swap");
	is_int(
	    (long long)hga_str_distance(HGA_STR("kitten"), HGA_STR("sitting")),
	    3, "kitten and sitting");
	is_int((long long)hga_str_distance(HGA_STR(""), HGA_STR("abc")), 3,
	       "from nothing");
}

/* What the allocator gives next is most likely the block that was left. */
static void test_growth(void)
{
	struct hga_buf b;
	size_t cap;
	char *next;

	hga_buf_init(&b, 1 << 20);
	is_int(hga_buf_adds(&b, "a canary in a cage, sixteen and more", NULL),
	       0, "a buffer is filled");
	cap = b.cap;
	is_int(hga_buf_reserve(&b, 4000, NULL), 0, "and grows");
	is_str(hga_buf_text(&b), "a canary in a cage, sixteen and more",
	       "keeping its text");
	next = hga_alloc(cap);
	ok(next != NULL && memmem(next, cap, "cage", 4) == NULL &&
	       memmem(next, cap, "sixteen", 7) == NULL,
	   "leaving no copy of it");
	hga_free(next);
	hga_buf_release(&b);
}

int main(void)
{
	hga_buf_init(&buf, 10000);
	test_views();
	test_glob();
	test_numbers();
	test_coders();
	test_pieces();
	test_utf8();
	test_distance();
	test_growth();
	hga_buf_release(&buf);
	return done();
}
