/*
 * JMESPath: limits and what the compliance cases do not ask.
 */
#include "tap.h"

#include "aws_toy.h"

#include "aws/jmespath.h"

static const char *query(const char *expr, const char *json)
{
	static char text[4096];
	struct hga_vtape *in = NULL, *out = NULL;
	struct hga_err err;
	struct hga_buf b;

	hga_buf_init(&b, 1 << 20);
	if (hga_jp_query(hga_str(expr), toy_json(json, &in), &out, &err) < 0)
		snprintf(text, sizeof(text), "%s: %s", err.code, err.msg);
	else if (hga_json_write(&b, hga_vtape_root(out), 0, false, NULL) == 0)
		snprintf(text, sizeof(text), "%s", hga_buf_text(&b));
	hga_buf_release(&b);
	hga_vtape_free(in);
	hga_vtape_free(out);
	return text;
}

static void test_errors(void)
{
	is_str(query("a[?b", "{}"), "Syntax: JMESPath, column 5: expected ]",
	       "a syntax error names its column");
	is_str(query("", "{}"),
	       "Syntax: JMESPath, column 1: the expression is empty",
	       "an empty expression");
	is_str(query("lenght(@)", "{}"),
	       "UnknownFunction: JMESPath, column 1: there is no function "
	       "lenght",
	       "an unknown function");
	is_str(query("a.abs(b)", "{\"a\":{\"b\":\"secret\"}}"),
	       "InvalidType: JMESPath, column 3: abs: argument 1 has the wrong "
	       "type (string)",
	       "a wrong type is named, the data is not");
	is_str(query("[::0]", "[1]"),
	       "InvalidValue: JMESPath, column 5: the step of a slice cannot "
	       "be 0",
	       "a slice that would not move");
	is_str(query("length(@, @)", "[]"),
	       "InvalidArity: JMESPath, column 1: length: 2 arguments instead "
	       "of 1",
	       "too many arguments");
	is_str(query("abs(`1`,)", "[]"),
	       "Syntax: JMESPath, column 9: an argument is missing",
	       "a comma needs an argument");
}

static void test_limits(void)
{
	static char text[70000];
	struct hga_jp *jp = NULL;
	size_t i;

	memset(text, '[', 1000);
	ok(hga_jp_compile(&jp, hga_strn(text, 1000), NULL) == -HGA_USAGE,
	   "a thousand open brackets are refused");
	memset(text, '!', 60000);
	ok(hga_jp_compile(&jp, hga_strn(text, 60000), NULL) == -HGA_USAGE,
	   "sixty thousand negations are refused");
	for (i = 0; i + 2 <= 60000; i += 2)
		memcpy(text + i, "a.", 2);
	text[60000] = 'a';
	ok(hga_jp_compile(&jp, hga_strn(text, 60001), NULL) == -HGA_USAGE,
	   "a chain of thirty thousand names is refused");
	memset(text, 'a', sizeof(text));
	ok(hga_jp_compile(&jp, hga_strn(text, sizeof(text)), NULL) ==
	       -HGA_USAGE,
	   "so is an expression over 64 KiB");
}

static void test_memory_limit(void)
{
	struct hga_vtape *in = NULL, *out = hga_vtape_new(NULL, 1 << 26);
	struct hga_jp *jp = NULL;
	struct hga_err err;

	if (hga_jp_compile(&jp,
	                   HGA_STR("[@,@,@,@][].[@,@,@,@][].[@,@,@,@][]"
	                           ".[@,@,@,@][].[@,@,@,@][]"),
	                   &err) < 0)
		abort();
	ok(hga_jp_eval(jp, toy_json("[1,2,3,4,5,6,7,8]", &in), out, 20000,
	               &err) == -HGA_USAGE &&
	       strcmp(err.code, "TooLarge") == 0,
	   "intermediate values are limited");
	hga_jp_free(jp);
	hga_vtape_free(in);
	hga_vtape_free(out);
}

static void test_values(void)
{
	is_str(query("sum(@)", "[9007199254740993,1]"), "9007199254740994",
	       "integers stay exact");
	is_str(query("sort_by(@,&k)[].v",
	             "[{\"k\":2,\"v\":\"c\"},{\"k\":1,\"v\":\"a\"},"
	             "{\"k\":1,\"v\":\"b\"}]"),
	       "[\"a\",\"b\",\"c\"]", "sorting is stable");
	is_str(query("`foo`", "{}"), "\"foo\"",
	       "an old literal without quotes is a string");
	is_str(query("NextMarker || Contents[-1].Key",
	             "{\"Contents\":[{\"Key\":\"a\"},{\"Key\":\"b\"}]}"),
	       "\"b\"", "a paginator's token");
	is_str(query("length(a) > `1` && !b", "{\"a\":\"\xc3\xa4\xc3\xb6\"}"),
	       "true", "lengths count characters");
	is_str(query("reverse(@)", "\"a\xc3\xa4\xe2\x82\xac\""),
	       "\"\xe2\x82\xac\xc3\xa4"
	       "a\"",
	       "so does reversing");
}

int main(void)
{
	test_errors();
	test_limits();
	test_memory_limit();
	test_values();
	return done();
}
