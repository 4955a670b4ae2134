/* JSON parser, reading into values, writer. */
#include "base/json.h"
#include "base/mem.h"
#include "tap.h"

/* Events as text: { } [ ] k:KEY s:STR i:INT d:NUM t f n, blank-separated. */
static int on_event(void *data, const struct hga_json_event *ev,
                    struct hga_err *err)
{
	struct hga_buf *b = data;
	char num[32];

	switch (ev->type) {
	case HGA_JSON_OBJECT:
		return hga_buf_adds(b, "{ ", err);
	case HGA_JSON_OBJECT_END:
		return hga_buf_adds(b, "} ", err);
	case HGA_JSON_ARRAY:
		return hga_buf_adds(b, "[ ", err);
	case HGA_JSON_ARRAY_END:
		return hga_buf_adds(b, "] ", err);
	case HGA_JSON_KEY:
		return hga_buf_addf(b, err, "k:%.*s ", HGA_STRF(ev->text));
	case HGA_JSON_STR:
		return hga_buf_addf(b, err, "s:%.*s ", HGA_STRF(ev->text));
	case HGA_JSON_INT:
		return hga_buf_addf(b, err, "i:%lld ", (long long)ev->i);
	case HGA_JSON_NUM:
		(void)hga_num_text(num, ev->d);
		return hga_buf_addf(b, err, "d:%s ", num);
	case HGA_JSON_BOOL:
		return hga_buf_adds(b, ev->b ? "t " : "f ", err);
	case HGA_JSON_NULL:
		return hga_buf_adds(b, "n ", err);
	}
	return 0;
}

static char result[20000];

/* Events of text fed in pieces of that size, or "ERROR CODE". */
static const char *events(const char *text, size_t n, size_t piece)
{
	struct hga_err err;
	struct hga_buf b;
	struct hga_json *p;
	int r = 0;

	hga_buf_init(&b, 1 << 20);
	p = hga_json_new(on_event, &b);
	for (size_t i = 0; i < n && r == 0; i += piece)
		r = hga_json_feed(p, text + i, n - i < piece ? n - i : piece,
		                  &err);
	if (r == 0)
		r = hga_json_end(p, &err);
	if (r < 0)
		snprintf(result, sizeof(result), "ERROR %s", err.code);
	else
		snprintf(result, sizeof(result), "%s", hga_buf_text(&b));
	hga_json_free(p);
	hga_buf_release(&b);
	return result;
}

static void parses(const char *text, const char *want, const char *name)
{
	char first[20000];
	char label[200];

	snprintf(first, sizeof(first), "%s", events(text, strlen(text), 1000));
	is_str(first, want, name);
	snprintf(label, sizeof(label), "%s, byte by byte", name);
	is_str(events(text, strlen(text), 1), want, label);
}

static void test_parse(void)
{
	parses("{\"a\":[1,-2.5,\"x\",true,false,null],\"b\":{}}",
	       "{ k:a [ i:1 d:-2.5 s:x t f n ] k:b { } } ", "all types");
	parses(" [ ] ", "[ ] ", "white space");
	parses("42", "i:42 ", "number at the top");
	parses("\"top\"", "s:top ", "string at the top");
	parses("null", "n ", "word at the top");
	parses("9223372036854775807", "i:9223372036854775807 ", "int64");
	parses("9223372036854775808", "d:9.223372036854776e+18 ",
	       "larger integers are numbers");
	parses("[1e2,0,-0,0.5E-1]", "[ d:100.0 i:0 i:0 d:0.05 ] ", "numbers");
	parses("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20ac\"",
	       "s:\"\\/\b\f\n\r\tA\xc3\xa4\xe2\x82\xac ", "escapes");
	parses("\"\\ud83d\\ude00\"", "s:\xf0\x9f\x98\x80 ", "surrogate pair");
	parses("\"\\ud83dx\\ude00\\ud83d\\n\\ud83d\"",
	       "s:\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd\n\xef\xbf\xbd ",
	       "lone surrogates");
	parses("\"\xf0\x9f\x98\x80\"", "s:\xf0\x9f\x98\x80 ", "raw UTF-8");
}

static void test_refused(void)
{
	static const char *const wrong[] = {
	    "",          "{",        "[1,]",  "{\"a\":1,}", "[1 2]",
	    "{\"a\" 1}", "{a:1}",    "[1}",   "01",         "1.",
	    ".5",        "-",        "1e",    "+1",         "tru",
	    "truex",     "nul",      "\"abc", "\"\\x\"",    "\"\\u12g4\"",
	    "\"a\nb\"",  "[1]]",     "1 2",   "{\"a\"}",    "[,1]",
	    "\"\xff\"",  "\"\xc3\"", "NaN",   "Infinity",   "'a'",
	    "]",         "//x\n1",   "1e999", "{1:2}",      "\xef\xbb\xbf[]"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char label[64];

		snprintf(label, sizeof(label), "refused: case %zu", i);
		is_str(events(wrong[i], strlen(wrong[i]), 1000), "ERROR Syntax",
		       label);
		is_str(events(wrong[i], strlen(wrong[i]), 1), "ERROR Syntax",
		       label);
	}
}

static void test_limits(void)
{
	char deep[300];
	struct hga_err err;
	struct hga_json *p;
	struct hga_buf b;
	char *big = malloc(33u << 20);

	memset(deep, '[', 101);
	is_str(events(deep, 101, 7), "ERROR TooDeep", "depth 101");
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	ok(strncmp(events(deep, 200, 7), "[", 1) == 0, "depth 100");
	memset(big, 'x', 33u << 20);
	hga_buf_init(&b, 1 << 20);
	p = hga_json_new(on_event, &b);
	is_int(hga_json_feed(p, "\"\\n", 3, NULL), 0, "string begins");
	is_int(hga_json_feed(p, big, 33u << 20, &err), -HGA_PROTOCOL,
	       "string of 33 MiB");
	is_str(err.code, "TooLarge", "its code");
	is_int(hga_json_feed(p, "\"", 1, NULL), -HGA_PROTOCOL,
	       "a failed parser stays failed");
	hga_json_free(p);
	hga_buf_release(&b);
	free(big);
}

static const char *rewrite(const char *text, int indent, bool sort)
{
	struct hga_vtape *t = NULL;
	struct hga_buf b;
	struct hga_err err;

	hga_buf_init(&b, 1 << 20);
	snprintf(result, sizeof(result), "ERROR");
	if (hga_json_parse(hga_str(text), 1 << 20, &t, &err) == 0 &&
	    hga_json_write(&b, hga_vtape_root(t), indent, sort, &err) == 0)
		snprintf(result, sizeof(result), "%s", hga_buf_text(&b));
	hga_vtape_free(t);
	hga_buf_release(&b);
	return result;
}

static void test_tape(void)
{
	struct hga_vtape *t = NULL;

	is_int(hga_json_parse(HGA_STR("{\"a\":1,\"b\":[2],\"a\":3}"), 10000, &t,
	                      NULL),
	       0, "parse");
	is_int(hga_val_int(hga_val_get(hga_vtape_root(t), "a"), 0), 3,
	       "the last of equal keys counts");
	hga_vtape_free(t);
	is_int(hga_json_parse(HGA_STR("[1,2,3,4,5,6,7,8]"), 64, &t, NULL),
	       -HGA_PROTOCOL, "limit of the tape");
	is_str(rewrite("{\"b\":1,\"a\":{\"d\":[],\"c\":{}},\"b\":2}", 0, true),
	       "{\"a\":{\"c\":{},\"d\":[]},\"b\":2}", "sorted");
	is_str(
	    rewrite("[1,{\"a\":[2,\"x\"]}]", 2, false),
	    "[\n  1,\n  {\n    \"a\": [\n      2,\n      \"x\"\n    ]\n  }\n]",
	    "indented");
	is_str(rewrite("\"\\u0001\\u001f\\n\\\"\\\\/\"", 0, false),
	       "\"\\u0001\\u001f\\n\\\"\\\\/\"", "escapes");
	is_str(rewrite("[9223372036854775807,-1,0.1,1e300,3.0]", 0, false),
	       "[9223372036854775807,-1,0.1,1e+300,3.0]", "numbers");
}

static void test_writer(void)
{
	struct hga_err err;
	struct hga_buf b;
	struct hga_jw w;

	hga_buf_init(&b, 10000);
	hga_jw_init(&w, &b, 0);
	hga_jw_object(&w);
	hga_jw_kstr(&w, "s", HGA_STR("a\xff\x00z"));
	hga_jw_kint(&w, "i", INT64_MIN);
	hga_jw_key(&w, HGA_STR("l"));
	hga_jw_array(&w);
	hga_jw_bool(&w, true);
	hga_jw_null(&w);
	hga_jw_raw(&w, HGA_STR("{\"x\":1}"));
	hga_jw_close(&w);
	hga_jw_close(&w);
	is_int(hga_jw_end(&w, &err), 0, "writer");
	is_str(hga_buf_text(&b),
	       "{\"s\":\"a\xef\xbf\xbd\\u0000z\",\"i\":-9223372036854775808,"
	       "\"l\":[true,null,{\"x\":1}]}",
	       "its text, malformed UTF-8 replaced");
	hga_buf_clear(&b);
	hga_jw_init(&w, &b, 0);
	hga_jw_object(&w);
	hga_jw_int(&w, 1);
	is_int(hga_jw_end(&w, &err), -HGA_BUG, "value without key");
	hga_buf_clear(&b);
	hga_jw_init(&w, &b, 0);
	hga_jw_num(&w, 1.0 / 0.0);
	is_int(hga_jw_end(&w, &err), -HGA_USAGE, "infinity");
	hga_buf_clear(&b);
	hga_jw_init(&w, &b, 0);
	hga_jw_array(&w);
	is_int(hga_jw_end(&w, &err), -HGA_BUG, "unfinished");
	hga_buf_release(&b);
}

static void test_memory(void)
{
	static const char text[] = "{\"a\":[\"a long string \\n here\",1,2]}";
	unsigned long n = 0;
	int r;

	do {
		struct hga_vtape *t = NULL;

		hga_mem_torture(++n, false);
		r = hga_json_parse(hga_str(text), 10000, &t, NULL);
		hga_mem_torture(0, false);
		hga_vtape_free(t);
	} while (r == -HGA_MEMORY && n < 100);
	ok(r == 0 && n > 4, "each failing allocation is told");
}

int main(void)
{
	test_parse();
	test_refused();
	test_limits();
	test_tape();
	test_writer();
	test_memory();
	return done();
}
