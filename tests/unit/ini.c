/* INI files in the AWS dialect. */
#include "base/ini.h"
#include "tap.h"

static struct hga_ini ini;
static struct hga_err err;

static int parse(const char *text)
{
	hga_ini_release(&ini);
	return hga_ini_parse(&ini, hga_str(text), "cfg", &err);
}

static const char *get(const char *type, const char *name, const char *key)
{
	return hga_ini_get(hga_ini_find(&ini, type, name), key);
}

static void test_values(void)
{
	is_int(parse("; c\n# c\n[default]\nRegion = us-east-1 # here\n"
	             "a=b#c\n  \t \nx =\ny = ; nothing\n"
	             "[profile foo] ; comment\r\nkey = v=w ;c\r\n"
	             "[ profile \t foo ]# touching\nother=1\nkey = later\n"
	             "[sso-session s]\nk=1\n[bare]\nk=2\n"),
	       0, "parse");
	is_str(get("", "default", "region"), "us-east-1",
	       "names fold, comments go");
	is_str(get("", "default", "a"), "b#c", "# inside a word stays");
	is_str(get("", "default", "x"), "", "empty value");
	is_str(get("", "default", "y"), "", "only a comment");
	is_str(get("profile", "foo", "key"), "later",
	       "sections merge, the later property wins");
	is_str(get("profile", "foo", "other"), "1", "merged");
	is_str(get("sso-session", "s", "k"), "1", "other types");
	is_str(get("", "bare", "k"), "2", "without type");
	is_str(get("", "foo", "key"), NULL, "types are told apart");
	is_int(hga_ini_prop(hga_ini_find(&ini, "profile", "foo"), "key")->line,
	       13, "line number");
}

static void test_skipped(void)
{
	is_int(parse("[pro file x]\na=1\n b\n[ok]\nbad name=1\n cont\nb=2\n"
	             "[\xc3\xa4]\nc=3\n"),
	       0, "invalid names are skipped");
	is_int((long long)ini.n, 1, "one section");
	is_str(get("", "ok", "b"), "2", "with the valid property");
}

static void test_nested(void)
{
	struct hga_str v = {"", 0};

	is_int(parse("[services s]\nec2 =\n  endpoint_url = http://x # y\n"
	             "  Other=2\ns3 =\n  a = b\n[default]\nlong = one\n"
	             "\ttwo ; kept\n"),
	       0, "nested");
	is_str(get("services", "s", "ec2"),
	       "\nendpoint_url = http://x # y\nOther=2", "stored as text");
	ok(hga_ini_nested(get("services", "s", "ec2"), "other", &v) &&
	       hga_str_eqc(v, "2"),
	   "looked up, case ignored");
	ok(!hga_ini_nested(get("services", "s", "ec2"), "a", &v),
	   "in this one only");
	is_str(get("", "default", "long"), "one\ntwo ; kept", "continuation");
}

static void wrong(const char *text, const char *want)
{
	is_int(parse(text), -HGA_USAGE, "refused");
	is_str(err.msg, want, want);
}

static void test_errors(void)
{
	wrong("a=1\n", "cfg:1: property before any section");
	wrong("[a]\nb=1\n[c\n", "cfg:3: missing ] after section name");
	wrong("[a] b\n", "cfg:1: missing ] at the end of section name");
	wrong("[a]\nfoo\n", "cfg:2: no = in property");
	wrong("[a]\n=1\n", "cfg:2: no name before =");
	wrong("[a]\n b\n", "cfg:2: continuation without a property");
	wrong(" b\n", "cfg:1: continuation without a property");
	is_int(hga_ini_parse(&ini, HGA_STR("[a]\nb=\0"), "cfg", NULL),
	       -HGA_USAGE, "NUL");
	hga_ini_release(&ini);
	is_int(hga_ini_load(&ini, "/nonexistent/file", &err), -HGA_NOTFOUND,
	       "missing file");
}

int main(void)
{
	test_values();
	test_skipped();
	test_nested();
	test_errors();
	hga_ini_release(&ini);
	hga_ini_release(&ini);
	return done();
}
